"""Settings: what the optimizer gets, stacked for the programs and named for the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced
from ..schedules.base import Schedule
from ..schedules.stacking import unstack
from ..schedules.structure import axes

_HINT = (
    "write grid(...), sample(...), a list of settings, or a dict of stacked schedules and arrays for several "
    "hyperparameters; put schedules together before they are stacked"
)

_EXACT = 2**24
"""Up to here every integer is a float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """The settings of a sweep that have one structure, which is one program.

    Fields:
      settings: them, stacked: every leaf a numpy array (settings of the group, ...).
      index: int64 (settings of the group,), their places in the sweep, rising.
    """

    settings: Any
    index: np.ndarray


def is_schedule(x: Any) -> bool:
    return isinstance(x, Schedule)


def hyperparameters(setting: Any) -> dict[str, Any]:
    """The numbers of a setting by name: `peak_value`, or `learning_rate.peak_value` in a pytree; "" for a lone number.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.sweep.settings import hyperparameters
      >>> hyperparameters({"learning_rate": js.Linear(0.1, 0.0, 10), "patience": 5})
      {'learning_rate.init_value': 0.1, 'learning_rate.end_value': 0.0, 'learning_rate.steps': 10, 'patience': 5}
    """
    return {path_text(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(setting)}


def path_text(path: Any) -> str:
    """A path of a pytree as one would say it: names, keys and indices with dots between them."""
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)


def grouped_settings(schedules: Any) -> list[Group]:
    """The settings of a sweep, those of one structure together, on the host.

    Settings have one structure if their classes, flags and names are the same, the shapes of their tables too, and the
    dtypes of numbers that are neither of JAX's usual ones. An integer beside a float of another setting becomes a
    float if it stays what it is; else the two are apart.

    Args:
      schedules: either of
        - a stacked schedule, or a pytree of stacked schedules and of arrays of numbers, of one length on axis 0. What
          is not stacked in it, a number or a schedule, is the same for all settings;
        - a list of these and of single settings, in any order: pytrees of schedules and numbers.

    Errors: TypeError for what is neither a schedule nor a number; ValueError for lengths that differ, for what is not
    stacked, for no settings, and for an entry of a list that may be one setting or several.

    Example:
      >>> import numpy as np
      >>> import jaxsched as js
      >>> from jaxsched.sweep.settings import grouped_settings
      >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=10)
      >>> for group in grouped_settings([S, js.Constant(0.1), S]):
      ...     print(type(group.settings).__name__, group.index)
      Linear [0 1 3 4]
      Constant [2]
      >>> grouped_settings({"learning_rate": S, "patience": np.array([3, 5]), "b1": 0.9})[0].settings["b1"]
      array([0.9, 0.9])
    """
    if isinstance(schedules, list):
        if not schedules:
            raise ValueError("sweep: schedules=[]; write at least one schedule.")
        blocks = [_block(f"schedules[{i}]", entry, listed=True) for i, entry in enumerate(schedules)]
    else:
        blocks = [_block("schedules", schedules, listed=False)]
    ends = np.cumsum([block.count for block in blocks])
    for block, end in zip(blocks, ends.tolist(), strict=True):
        block.index = np.arange(end - block.count, end)
    return [_joined(part) for same in _apart(blocks, _form) for part in _apart(same, _split_by(same))]


def merged(groups: Sequence[Group]) -> Any:
    """All settings as one: stacked if they have one structure, else a list of them in the order of the sweep."""
    if len(groups) == 1 and jax.tree.leaves(groups[0].settings):
        return groups[0].settings
    settings: dict[int, Any] = {}
    for group in groups:
        rows = settings_list(group.settings) if jax.tree.leaves(group.settings) else None
        for row, place in enumerate(group.index.tolist()):
            settings[place] = rows[row] if rows is not None else group.settings
    return [settings[place] for place in sorted(settings)]


def settings_list(schedules: Any) -> list[Any]:
    """The single settings of what `merged` returns, in order."""
    return list(schedules) if isinstance(schedules, list) else unstack(schedules)


# --- blocks ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Block:
    """An entry of the sweep: `count` settings whose leaves are stacked."""

    structure: Any
    leaves: list[np.ndarray]
    count: int
    index: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))


def _block(name: str, entry: Any, listed: bool) -> _Block:
    """`entry` with every leaf stacked; its parts are schedules and numbers."""
    paths, _ = jax.tree_util.tree_flatten_with_path(entry, is_leaf=is_schedule)
    parts = [(path_text(path), part) for path, part in paths]
    if not parts:
        raise ValueError(f"sweep: {name}={format_value(entry)} holds no schedule and no number; {_HINT}.")
    kinds = [_stacked(name, path, part) for path, part in parts]
    if not any(kinds):
        if not listed:
            if is_schedule(entry) and not jax.tree.leaves(entry):
                raise ValueError(f"sweep: {name}={entry!r} has no number that could differ; write [schedule].")
            raise ValueError(
                f"sweep: {name}={format_value(entry)} is not stacked; for one setting write [schedule]; {_HINT}."
            )
        count = 1
    else:
        if listed:
            _refuse_doubtful(name, parts, kinds)
        count = _length(name, parts, kinds)
        _refuse_lists(name, entry, count)
    leaves = []
    for (_, part), kind in zip(parts, kinds, strict=True):
        for leaf in jax.tree.leaves(part):
            array = np.asarray(jax.device_get(leaf))
            leaves.append(array if kind else np.broadcast_to(array, (count, *array.shape)))
    return _Block(jax.tree.structure(entry), leaves, count)


def _stacked(name: str, path: str, part: Any) -> bool:
    """Whether a schedule or a number is stacked."""
    where = f"{name}: {path}" if path else name
    if is_schedule(part):
        found = axes(part)
        if found - {0, 1} or len(found) > 1:
            raise ValueError(
                f"sweep: {where}={format_value(part)} is not one setting, and not stacked on one axis; {_HINT}."
            )
        return found == {1}
    numeric = isinstance(part, (int, float, np.ndarray, np.generic, jax.Array)) and not isinstance(part, bool)
    if not numeric or is_traced(part) or not _is_real(part):
        # Text, functions and flags choose a program: they belong into the structure, as the fields of a class.
        raise TypeError(
            f"sweep: schedules hold {format_value(part)}, which is neither a schedule nor a number; {_HINT}."
        )
    values = np.asarray(part).astype(np.float64)
    if np.isnan(values).any():
        raise ValueError(f"sweep: {where}={format_value(part)} is not a number.")
    most = jnp.iinfo(jnp.result_type(int)).max
    if jnp.issubdtype(np.asarray(part).dtype, jnp.integer) and (np.abs(values) > most).any():
        raise ValueError(
            f"sweep: {where}={format_value(part)} is beyond {most:_}; set jax_enable_x64, or write a float."
        )
    return np.ndim(part) > 0


def _is_real(x: Any) -> bool:
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)


def _refuse_doubtful(name: str, parts: list[tuple[str, Any]], kinds: list[bool]) -> None:
    """Refuses an array in an entry of a list that has schedules, or else numbers, that are not stacked: it may be a
    table of one setting, or several settings."""
    schedules = [kind for (_, part), kind in zip(parts, kinds, strict=True) if is_schedule(part)]
    if all(kinds) or any(schedules):
        return
    path, part = next(part for part, kind in zip(parts, kinds, strict=True) if kind)
    raise ValueError(
        f"sweep: {name}: {path}={format_value(part)} is an array beside what is not stacked. For several "
        f"settings stack all "
        f"of it, such as grid(Constant, constant_value=[0.1, 0.1]); for one setting write the table as a list."
    )


def _refuse_lists(name: str, entry: Any, count: int) -> None:
    """Refuses a list of as many numbers as there are settings: it looks like a number for each, and is a table that
    all share."""

    def looks_so(x: Any) -> bool:
        return isinstance(x, list) and len(x) == count and all(isinstance(y, (int, float)) for y in x)

    for path, part in jax.tree_util.tree_leaves_with_path(entry, is_leaf=lambda x: is_schedule(x) or looks_so(x)):
        if looks_so(part):
            raise ValueError(
                f"sweep: {name}: {path_text(path)}={format_value(part)} is a list beside {count} settings; write "
                "np.array([...]) for a number for each, and a tuple for a table that all share."
            )


def _length(name: str, parts: list[tuple[str, Any]], kinds: list[bool]) -> int:
    lengths: dict[str, int] = {}
    for (path, part), kind in zip(parts, kinds, strict=True):
        if kind:
            for inner, leaf in hyperparameters(part).items():
                lengths[".".join(filter(None, (path, inner)))] = len(leaf)
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"sweep: {name} have first axes of lengths {lengths}; they must be one length, 1 or more.")
    return next(iter(lengths.values()))


# --- groups ----------------------------------------------------------------------------------------------------------


def _apart(blocks: Iterable[_Block], key: Callable[[_Block], Any]) -> list[list[_Block]]:
    """The blocks with one key together, in the order of the first of each."""
    found: dict[Any, list[_Block]] = {}
    for block in blocks:
        found.setdefault(key(block), []).append(block)
    return list(found.values())


def _form(block: _Block) -> Any:
    usual = (jnp.result_type(int), jnp.result_type(float))
    dtypes = [jnp.result_type(x) for x in block.leaves]  # without x64 a float64 is JAX's float32
    names = ["" if dtype in usual else dtype.name for dtype in dtypes]
    return block.structure, tuple((x.shape[1:], name) for x, name in zip(block.leaves, names, strict=True))


def _split_by(blocks: list[_Block]) -> Callable[[_Block], Any]:
    """What blocks of one form are told apart by: nothing, or the kinds of their numbers if large integers would lose
    digits beside floats."""
    for column in zip(*(block.leaves for block in blocks), strict=True):
        ints = [x for x in column if x.dtype.kind in "iu"]
        if 0 < len(ints) < len(column) and any((np.abs(x.astype(np.float64)) > _EXACT).any() for x in ints):
            return lambda block: tuple(x.dtype.kind for x in block.leaves)
    return lambda block: ()


def _joined(blocks: list[_Block]) -> Group:
    leaves = [np.concatenate(column) for column in zip(*(block.leaves for block in blocks), strict=True)]
    return Group(blocks[0].structure.unflatten(leaves), np.concatenate([block.index for block in blocks]))
