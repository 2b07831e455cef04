"""Many settings of one structure as one schedule, whose leaves have a first axis for `jax.vmap`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, format_value
from .base import Schedule
from .structure import children, rows


def stack(*schedules: Schedule) -> Any:
    """Schedules of one structure as one schedule whose leaves have a new first axis, for `jax.vmap`.

    Raises:
      ValueError: if the structures differ.

    Example:
      >>> import jax
      >>> import jaxsched as js
      >>> both = js.stack(js.Linear(1.0, 0.0, 4), js.Linear(2.0, 0.0, 8))
      >>> both
      Linear(init_value=[1.0, 2.0], end_value=[0.0, 0.0], steps=[4, 8])
      >>> jax.vmap(lambda s: s(2))(both).tolist()
      [0.5, 1.5]
    """
    if not schedules:
        raise ValueError("stack: no schedules; write at least one.")
    first = jax.tree.structure(schedules[0])
    for i, schedule in enumerate(schedules):
        if jax.tree.structure(schedule) != first:
            raise ValueError(
                f"stack: schedule 0 is {schedules[0]!r} and schedule {i} is {schedule!r}; only schedules of one "
                "structure (the same classes, shapes and flags) can be stacked."
            )

    def column(*xs: Any) -> Any:
        if any(isinstance(x, jax.Array) for x in xs):
            with jax.numpy_dtype_promotion("standard"):
                return jnp.stack([jnp.asarray(x) for x in xs])
        rows = [np.asarray(x) for x in xs]
        if len({row.dtype.kind for row in rows}) > 1 and any(np.any(np.abs(row) > 2**24) for row in rows):
            raise ValueError(
                f"stack: {format_value(list(xs))} are integers and floats, and too large to be all floats."
            )
        return np.stack(rows)

    return jax.tree.map(column, *schedules)


def unstack(stacked: Any) -> list[Any]:
    """The schedules that `stack` or `grid` put together, as a list.

    Example:
      >>> import jaxsched as js
      >>> js.unstack(js.grid(js.Linear, init_value=[1.0, 2.0], end_value=0.0, steps=4))[1]
      Linear(init_value=2.0, end_value=0.0, steps=4)
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(stacked)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            f"unstack: {stacked!r} is not stacked: all its numbers need one first axis. Put schedules together first, "
            "and stack the whole: stack(*(s * 0.5 for s in unstack(S)))."
        )
    return rows(stacked)


def grid(schedule: Any, /, **values: Any) -> Any:
    """Every combination of the listed values, stacked into one schedule of n settings, the last field fastest.

    Args:
      schedule: a schedule class, or a schedule whose other fields stay as they are.
      **values: for each field a list (of lists, where the field is a table) or a single value.

    Raises:
      TypeError: for a name that is not a field.
      ValueError: for a combination that the class refuses, and for a list of structure (a `shape`, a flag), which is
        another program: make a grid of each.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxsched as js
      >>> S = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=[0, 5, 10], total_steps=100)
      >>> jax.vmap(lambda s: s(jnp.arange(100)))(S).shape
      (6, 100)
    """
    cls = schedule if isinstance(schedule, type) else type(schedule)
    if not (isinstance(cls, type) and issubclass(cls, Schedule)):
        hint = "; of a function stack what it makes: stack(*(f(v) for v in values))" if callable(schedule) else ""
        raise TypeError(f"grid: {format_value(schedule)} is not a schedule or a class of schedules{hint}.")
    _point_inside(schedule, values)
    cls._reject_unknown(values)
    fields = {f.name: f for f in cls._fields}
    axes: dict[str, list[Any]] = {}
    for name, value in values.items():
        listed = isinstance(value, (list, tuple, np.ndarray, jax.Array, range)) and (
            np.ndim(value[0]) > 0 if fields[name].table and len(value) else np.ndim(value) > 0
        )
        axes[name] = list(value) if listed else [value]
        if listed and not axes[name]:
            raise FieldError(cls.__name__, name, [], "write at least one value")
        if fields[name].static and listed:
            instead = f"{name} is structure, and every structure is its own program: make one grid of each"
            raise FieldError(cls.__name__, name, value, instead)
    settings: list[dict[str, Any]] = [{}]
    for name, choices in axes.items():
        settings = [{**setting, name: choice} for setting in settings for choice in choices]
    make = cls if isinstance(schedule, type) else schedule.replace
    return stack(*(make(**setting) for setting in settings))


def _point_inside(schedule: Any, values: dict[str, Any]) -> None:
    """Raises if a name is a field of a schedule inside of this one."""
    if isinstance(schedule, type):
        return
    rest = {name: value for name, value in values.items() if name not in {f.name for f in schedule._fields}}
    for part in children(schedule):
        for name in rest:
            if name in {f.name for f in part._fields}:
                raise TypeError(
                    f"grid: {name!r} is a field of the {type(part).__name__} inside of this {type(schedule).__name__}; "
                    "stack the compositions, stack(*(compose(v) for v in values)), or write a Recipe with that field."
                )
        _point_inside(part, rest)
