"""The structure of a schedule: its parts, the steps where its formula changes, and where it ends.

Each class states it in one method, `structure`. Linting, phases, plots and stacking read it here and nowhere else.
A class that does not state it (a formula of a user, a `Lambda`, `Noise`) is opaque: `marks` and `span` are None then,
and its values have to be sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced
from ..fields import Field

MOST_MARKS = 2**20
"""More of them in a horizon are not listed."""


class Part(NamedTuple):
    """A schedule inside of another.

    Attributes:
      schedule: the inner schedule.
      start: the first step of the outer schedule at which it is evaluated.
      stop: the step from which on it is not; None if there is none.
      unit: how many outer steps one of its steps takes.
      ahead: its own step at `start`.
    """

    schedule: Any
    start: Any = 0
    stop: Any = None
    unit: Any = 1
    ahead: Any = 0


class Structure(NamedTuple):
    """What a class states about its formula, on its own clock.

    Attributes:
      parts: the schedules inside.
      marks: the steps where the formula itself changes.
      stairs: the value is constant between multiples of this many steps.
      cycle: `(period, period_mult, cycles)`: `parts` and `marks` are those of the first cycle, and repeat.
      bounds: `(lo, hi)`: the value of the part is cut off there; each crossing is a mark.
      endless: the formula itself changes the value for ever; otherwise it is constant after the last of its marks.
      opaque: the formula is not known; only the parts are.
    """

    parts: tuple[Part, ...] = ()
    marks: Any = ()
    stairs: Any = None
    cycle: tuple[Any, Any, Any] | None = None
    bounds: tuple[Any, Any] | None = None
    endless: bool = False
    opaque: bool = False


class Structured:
    """The root of `Schedule`: something with annotated fields and a structure."""

    _fields: ClassVar[tuple[Field, ...]] = ()

    def structure(self) -> Structure:
        """What is known of the formula, on its own clock. A class that does not state it is opaque."""
        return Structure(parts=tuple(map(Part, children(self))), opaque=True)


REGISTRY: dict[str, Any] = {}
"""Every schedule class of the package, by the name that an expression gives it: `Linear`, `compat.torch.StepLR`."""

PROVIDERS: dict[str, Callable[[], Any]] = {}
"""Packages whose classes are registered when they are imported on first use, by name; the face of the package adds
them."""


# --- hyperparameters -------------------------------------------------------------------------------------------------


def _numbers(schedule: Structured) -> Iterator[tuple[Field, Any]]:
    """Every number of the schedule and of those inside, with its field."""
    for field in schedule._fields:
        held = [] if field.static else getattr(schedule, field.name)
        for x in jax.tree.leaves(held, is_leaf=lambda x: isinstance(x, Structured)):
            yield from _numbers(x) if isinstance(x, Structured) else [(field, x)]


def axes(schedule: Structured) -> set[int]:
    """The numbers of leading axes of the hyperparameters: {0} for one setting, {1} for stacked settings."""
    return {np.ndim(x) - int(field.table) for field, x in _numbers(schedule)}


def _stacked(schedule: Structured) -> dict[int, tuple[str, Any]]:
    """The lengths of the lists that stack settings, each with a field that has it and its value."""
    return {np.shape(x)[0]: (field.name, x) for field, x in _numbers(schedule) if np.ndim(x) > int(field.table)}


def filled(schedule: Any) -> Any:
    """A schedule whose single numbers are repeated to the number of settings that its lists stack.

    Raises:
      FieldError: if the lists have different lengths.
    """
    sizes = _stacked(schedule)
    if len(sizes) > 1:
        names, values = zip(*sizes.values(), strict=True)
        raise FieldError(type(schedule).__name__, names, values, "write lists of one length")
    if not sizes:
        return schedule
    size, fields = next(iter(sizes)), [field for field, _ in _numbers(schedule)]
    leaves, tree = jax.tree.flatten(schedule)
    return tree.unflatten(
        np.broadcast_to(x, (size, *np.shape(x))) if np.ndim(x) == int(field.table) else x
        for field, x in zip(fields, leaves, strict=True)
    )


def rows(stacked: Any) -> list[Any]:
    """The single settings of a schedule whose numbers all have a first axis."""
    leaves, structure = jax.tree.flatten(jax.device_get(stacked))

    def row(leaf: Any, i: int) -> Any:
        one = leaf[i]
        return one.item() if np.ndim(one) == 0 and one.dtype in (np.float64, np.int64) else one

    return [structure.unflatten([row(leaf, i) for leaf in leaves]) for i in range(len(leaves[0]))]


def checkable(schedule: Any) -> bool:
    """Whether the settings can be checked: no number is traced, and all lists that stack settings have one length."""
    return not any(map(is_traced, jax.tree.leaves(schedule))) and len(_stacked(schedule)) <= 1


def check_settings(schedule: Any, check: Callable[[Any], Any]) -> None:
    """Calls `check`, which raises for a bad setting, for all settings that the lists of `schedule` stack at once.

    Where it raises for all together, the error is that of one setting, found by bisection. A `check` that cannot
    compute with arrays gets the first setting, the last and six between. What is not `checkable` is not checked."""
    if not checkable(schedule):
        return
    if axes(schedule) <= {0}:
        check(schedule)
        return

    def passes(stacked: Any) -> bool:
        with np.errstate(all="ignore"):
            try:
                check(stacked)
            except Exception:  # of a class of the user: any
                return False
        return True

    # On the host: JAX would run each operation of the check on the device.
    stacked = jax.device_get(schedule)
    if passes(stacked):
        return
    stacked = filled(stacked)
    first, (last,) = 0, _stacked(stacked)
    sample = np.linspace(0, last - 1, 8).astype(int)
    while last - first > 1:
        middle = (first + last) // 2
        if passes(jax.tree.map(lambda x: x[first:middle], stacked)):  # noqa: B023  # called at once
            first = middle
        else:
            last = middle
    for row in rows(jax.tree.map(lambda x: x[[first, *sample]], stacked)):
        check_settings(row, check)


def each_setting(function: Callable[[Any], Any], schedule: Any) -> Any:
    """`function` of each setting that the lists of `schedule` stack, as one array."""
    leaves, tree = jax.tree.flatten(schedule)
    over = [0 if np.ndim(x) > int(field.table) else None for field, x in _numbers(schedule)]
    if 0 not in over:
        return function(schedule)
    return jax.vmap(lambda leaves: each_setting(function, tree.unflatten(leaves)), in_axes=(over,))(leaves)


# --- parts -----------------------------------------------------------------------------------------------------------


class Placed(NamedTuple):
    """A schedule inside of another, on the outermost clock.

    Attributes:
      schedule: the inner schedule.
      start: the outermost step of its own step 0; below 0 if it is ahead.
      length: its own step at which the horizon or another schedule ends it.
      unit: how many outermost steps one of its steps takes.
      to_end: whether the horizon ends it.
    """

    schedule: Any
    start: int
    length: int
    unit: float
    to_end: bool


def parts(schedule: Any, total_steps: int) -> list[Placed]:
    """The schedule and all schedules that it is composed of, within a horizon; a recipe is not taken apart.

    Of a repeated schedule the first cycle is listed.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.schedules.structure import parts
      >>> s = js.Linear(0.0, 1.0, 10).then(js.Cosine(1.0, 0.0, 90), at=10)
      >>> [(type(p.schedule).__name__, p.start, p.length) for p in parts(s, 100)]
      [('Join', 0, 100), ('Linear', 0, 10), ('Cosine', 10, 90)]
    """
    check_single("parts", schedule)
    return list(_placed(schedule, 0.0, 1.0, 0.0, float(total_steps), True))


def _placed(schedule: Any, origin: float, unit: float, first: float, last: float, to_end: bool) -> Iterator[Placed]:
    """`schedule` and its parts: its own step c is the outermost `origin + c unit`; it runs from `first` to `last`."""
    yield Placed(schedule, round(origin), math.ceil(last), int(unit) if unit == int(unit) else unit, to_end)
    if not children(schedule):
        return
    known = schedule.structure()
    for part in known.parts:
        start, size, ahead = _float(part.start), _float(part.unit), _float(part.ahead)
        end = math.inf if part.stop is None else _float(part.stop)
        stop = min(last, end, math.inf if known.cycle is None else _float(known.cycle[0]))
        if stop > max(start, first):
            inner = ahead + max(first - start, 0.0) / size, ahead + (stop - start) / size
            where = origin + (start - ahead * size) * unit
            yield from _placed(part.schedule, where, unit * size, *inner, to_end and stop >= last)


def children(schedule: Structured) -> list[Any]:
    """The schedules that are fields of this one."""
    held = [getattr(schedule, field.name) for field in schedule._fields if not field.static]
    return [x for value in held for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, Structured)]


def values_at(schedule: Any, steps: Any) -> np.ndarray:
    """The values of a schedule of concrete numbers, inside of a trace too."""
    with jax.ensure_compile_time_eval():
        return np.asarray(schedule(steps))


def check_single(owner: str, schedule: Any) -> None:
    """Raises an error that names `owner` for a schedule that is traced or stacked."""
    if any(is_traced(x) for x in jax.tree.leaves(schedule)):
        instead = f"call {owner} outside of jit, vmap and grad"
        raise FieldTypeError(owner, "schedule", schedule, instead, note=" is traced")
    if not axes(schedule) <= {0}:
        instead = f"call {owner} for each of unstack(schedule)"
        raise FieldError(owner, "schedule", schedule, instead, note=" is stacked")


def _floats(x: Any) -> np.ndarray:
    """Numbers as formulas compute with them: 1000 / 3 is 333.33334 where JAX's floats have 32 bits."""
    if isinstance(x, tuple):  # of numbers and tables: one float among integers does not round them
        return np.concatenate([np.zeros(0), *(_floats(one).ravel() for one in x)])
    array = np.asarray(x)
    return (array if array.dtype.kind in "iu" else array.astype(jnp.result_type(float))).astype(np.float64)


def _float(x: Any) -> float:
    return float(_floats(x))


# --- marks and span --------------------------------------------------------------------------------------------------


def last_countable() -> int:
    """The largest step that JAX's integers count, and a float64 too."""
    return min(int(jnp.iinfo(jnp.result_type(int)).max), 2**53)


def marks(schedule: Any, total_steps: int) -> np.ndarray | None:
    """The steps from 0 to `total_steps` where the formula changes: float64, sorted; between two there is one formula.

    None if a part is opaque, or if there are more than `MOST_MARKS`. A mark may lie between two steps.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.schedules.structure import marks
      >>> marks(js.WarmupStableDecay(1.0, warmup_steps=10, total_steps=100, decay_steps=20), 100).tolist()
      [0.0, 10.0, 80.0, 100.0]
      >>> marks(js.Lambda(lambda t: 1.0 / (t + 1)), 100) is None
      True
    """
    check_single("marks", schedule)
    found = _marks(schedule, float(total_steps))
    if found is None:
        return None
    found = np.unique(np.concatenate([[0.0, float(total_steps)], found]))
    return found[(found >= 0) & (found <= total_steps)]


def _marks(schedule: Any, total: float) -> np.ndarray | None:
    known = schedule.structure()
    if known.opaque:
        return None
    if known.stairs is not None:
        return _stairs(schedule, _float(known.stairs), total)
    limit = total if known.cycle is None else min(total, _float(known.cycle[0]))
    found = [_floats(known.marks).ravel(), np.zeros(1)]
    for part in known.parts:
        start, unit, ahead = _float(part.start), _float(part.unit), _float(part.ahead)
        stop = limit if part.stop is None else min(limit, _float(part.stop))
        if stop < start:
            continue
        inner = _marks(part.schedule, (stop - start) / unit + ahead)
        if inner is None:
            return None
        found.append(np.clip(np.append(start + (inner - ahead) * unit, stop), start, stop))
    joined = np.unique(np.concatenate(found))
    if known.cycle is not None:
        return _repeated(joined, known.cycle, total)
    if known.bounds is not None:
        joined = np.append(joined, _crossings(known.parts[0].schedule, known.bounds, joined, total)[0])
    return joined[joined <= total]


def _stairs(schedule: Any, size: float, total: float) -> np.ndarray | None:
    end = span(schedule)
    last = total if end is None else min(total, end)
    if last / size > MOST_MARKS:
        return None
    return np.arange(math.floor(last / size) + 1) * size


def _repeated(inside: np.ndarray, cycle: tuple[Any, Any, Any], total: float) -> np.ndarray | None:
    period, mult = _float(cycle[0]), 1.0 if cycle[1] is None else _float(cycle[1])
    most = MOST_MARKS // len(inside) if cycle[2] is None else min(MOST_MARKS // len(inside), int(_float(cycle[2])))
    if mult == 1:
        stretch = np.ones(min(most, math.floor(total / period) + 1))
    else:
        stretch = mult ** np.arange(min(most, math.ceil(math.log1p(total / period * (mult - 1)) / math.log(mult)) + 1))
    starts = period * np.concatenate([[0.0], np.cumsum(stretch)])
    if starts[-1] <= total and (cycle[2] is None or len(stretch) < _float(cycle[2])):
        return None
    return np.append(starts, starts[:-1, None] + inside * stretch[:, None])


def _crossings(schedule: Any, bounds: tuple[Any, Any], pieces: np.ndarray, total: float) -> tuple[np.ndarray, bool]:
    """The steps where the values cross a bound, sampled in each smooth piece and bisected; whether they end cut off."""
    lo, hi = (fill if bound is None else _float(bound) for bound, fill in zip(bounds, (-np.inf, np.inf), strict=True))

    def zone(at: np.ndarray) -> np.ndarray:
        values = np.broadcast_to(values_at(schedule, at), at.shape)
        return (values >= hi).astype(int) - (values <= lo)

    edges = np.unique(np.clip(np.append(pieces, total), 0, last_countable() - 1))
    inner = edges[:-1, None] + np.diff(edges)[:, None] * np.linspace(0, 1, 257)[None] ** 2
    at = np.unique(np.append(np.floor(inner).ravel(), edges)).astype(np.int64)
    if at[-1] < MOST_MARKS:  # a product may cross in between
        at = np.arange(at[-1] + 1)
    zones = zone(at)
    change = np.flatnonzero(np.diff(zones))
    low, high, before = at[change], at[change + 1], zones[change]
    while np.any(high - low > 1):
        middle = (low + high) // 2
        same = zone(middle) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.concatenate([low, high]).astype(np.float64), bool(zones[-1])


def span(schedule: Any) -> float | None:
    """The last step at which the value changes: it is constant from there on. 0 for a constant.

    None if the schedule changes for ever, is opaque, or ends beyond JAX's integers.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.schedules.structure import span
      >>> span(js.Linear(0.0, 1.0, steps=10).then(js.Cosine(1.0, 0.0, steps=90), at=10) * 0.5)
      100.0
      >>> span(js.CosineWarmRestarts(0.1, period=10)) is None
      True
    """
    check_single("span", schedule)
    end = _span(schedule)
    return None if end is None or end > last_countable() else end


def _span(schedule: Any) -> float | None:
    known = schedule.structure()
    if known.opaque:
        return None
    if known.cycle is not None:
        return _cycles(*known.cycle)
    ends = [0.0, *_floats(known.marks).ravel().tolist()]
    for part in known.parts:
        start, unit, ahead = _float(part.start), _float(part.unit), _float(part.ahead)
        inner = _span(part.schedule)
        end = math.inf if inner is None else start + max(inner - ahead, 0) * unit
        ends.append(end if part.stop is None else min(end, _float(part.stop)))
    end = math.inf if known.endless else max(ends)
    if known.bounds is not None:
        end = _cut_off(known, end)
    if not math.isfinite(end):
        return None
    return end if known.stairs is None else math.ceil(end / _float(known.stairs)) * _float(known.stairs)


def _cycles(period: Any, mult: Any, cycles: Any) -> float | None:
    """The steps of all cycles: `period (1 + mult + ... + mult^(cycles - 1))`."""
    if cycles is None:
        return None
    growth = 1.0 if mult is None else _float(mult)
    try:
        times = _float(cycles) if growth == 1 else (growth ** _float(cycles) - 1) / (growth - 1)
    except OverflowError:
        return None
    return _float(period) * times


def _cut_off(known: Structure, end: float) -> float:
    """Where a clipped schedule ends: at its last crossing, if it is cut off from there on."""
    schedule, total = known.parts[0].schedule, min(end, last_countable() - 1.0)
    pieces = _marks(schedule, total)
    if pieces is None:
        return math.inf
    steps, cut = _crossings(schedule, known.bounds or (None, None), pieces, total)
    return max(steps, default=0.0) if cut else end
