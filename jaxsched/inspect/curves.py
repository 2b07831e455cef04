"""Schedules as labelled curves of few points that keep every extreme and every jump of a picture."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced, nearest_name
from ..schedules.base import Lambda, Schedule, as_schedule
from ..schedules.stacking import stack, unstack
from ..schedules.structure import axes, marks, span
from ..units import Timeline
from .format import cut, number
from .phases import Curve, breaks, evaluate, sample

_DENSE = 2**20  # below this many steps a schedule is evaluated at every step
_BLOCK = 2**20  # the most values of one call
_EVALUATIONS = 2**26  # the limit of schedules times steps for evaluating a stack at every step
_LEAST_DENSE = 2**16  # below this many steps a schedule with unknown marks is evaluated at every step in any case
_COLUMNS = 1024  # columns of pixels in a picture of few schedules
_COLUMNS_OF_MANY = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """A schedule, or a stack of schedules, drawn under one label.

    Attributes:
        label: The short name.
        schedule: The schedule, or the stacked schedules.
        size: The number of stacked schedules; 0 for a single schedule.
    """

    label: str
    schedule: Schedule
    size: int

    @property
    def schedules(self) -> list[Schedule]:
        """The single schedules."""
        return unstack(self.schedule) if self.size else [self.schedule]


class Drawing(NamedTuple):
    """The arguments of a plot, checked and evaluated.

    Attributes:
        groups: What is drawn, in order.
        steps: The number of steps drawn, or an array of the steps.
        lines: The curves of each group.
        ground: The lowest value of a logarithmic axis; None for a linear one.
        low, high: The smallest and the largest finite value; NaN if there is none.
    """

    groups: list[Group]
    steps: int | np.ndarray
    lines: list[list[Curve]]
    ground: float | None
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last step of the axis."""
        low, high = (0, self.steps) if isinstance(self.steps, int) else self.steps[[0, -1]]
        return (float(low), float(high)) if low < high else (low - 0.5, high + 0.5)

    @property
    def from_zero(self) -> bool:
        """Whether a linear axis begins at 0: a rate is compared with 0, unless 0 is far away."""
        return 0 <= self.low <= 0.3 * self.high or self.low == self.high > 0


def drawing(
    owner: str,
    schedules: Any,
    steps: Any,
    labels: Any,
    scale: str,
    timeline: Timeline | None = None,
    columns: int | None = None,
) -> Drawing:
    """Check the arguments that all plots share, and evaluate the schedules."""
    members = groups(owner, schedules, labels)
    length = horizon(owner, members, steps, timeline)
    lines = [curves(owner, member.schedules, length, columns) for member in members]
    found = [curve.values for group in lines for curve in group]
    every = np.concatenate(found)
    seen = every[np.isfinite(every)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (np.nan, np.nan)
    return Drawing(members, length, lines, _ground(owner, found, low, high, scale), low, high)


# --- labels ----------------------------------------------------------------------------------------------------------


def groups(owner: str, schedules: Any, labels: Any = None, name: str = "schedules") -> list[Group]:
    """Return a schedule, a stack, a callable, a number, or a list or dict of these, as a list of groups."""
    named = isinstance(schedules, Mapping)
    several = named or isinstance(schedules, (list, tuple))
    items = list(schedules.values() if named else schedules if several else [schedules])
    if not items:
        raise FieldError(owner, name, schedules, "write at least one schedule", note=" is empty")
    if named:
        if labels is not None:
            raise FieldError(owner, "labels", labels, "schedules is a dict, which has names: write one of the two")
        labels = [str(key) for key in schedules]
    lifted = [as_schedule(owner, f"{name}[{i}]" if several else name, item) for i, item in enumerate(items)]
    sizes = [_size(owner, name, schedule) for schedule in lifted]
    if isinstance(labels, str) and not several:
        labels = None if sizes[0] else [labels]  # the label of a stack is the field that sets the colours
    if labels is None:
        labels = _labels(lifted)
    if isinstance(labels, str) or len(labels) != len(lifted):
        raise FieldError(owner, "labels", labels, f"write one for each of the {len(lifted)} schedules")
    return [Group(str(label), s, size) for label, s, size in zip(labels, lifted, sizes, strict=True)]


def _size(owner: str, name: str, schedule: Schedule) -> int:
    leaves = jax.tree.leaves(schedule)
    if any(map(is_traced, leaves)):
        raise FieldError(owner, name, schedule, f"call {owner} outside of jit, grad and vmap", note=" is traced")
    found = axes(schedule)
    if found <= {0}:
        return 0
    sizes = {np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)}
    if found != {1} or len(sizes) != 1:
        instead = "put schedules together first, and stack the whole: stack(*(s * 0.5 for s in unstack(S)))"
        raise FieldError(owner, name, schedule, instead, note=" is stacked in part only")
    return sizes.pop()


def _labels(schedules: list[Schedule]) -> list[str]:
    """Return the fields that differ, for at most 3 between schedules of one structure; else the expressions."""
    kinds = {jax.tree.structure(schedule) for schedule in schedules}
    if len(schedules) > 1 and len(kinds) == 1 and axes(schedules[0]) == {0}:
        differ = varied(stack(*schedules))
        if 0 < len(differ) <= 3:
            rows = zip(*differ.values(), strict=True)
            return [", ".join(f"{n}={number(x)}" for n, x in zip(differ, row, strict=True)) for row in rows]
    return [_name(schedule) for schedule in schedules]


def _name(schedule: Schedule) -> str:
    if isinstance(schedule, Lambda):  # an optax schedule is named by the function that made it
        return getattr(schedule.fn, "__qualname__", repr(schedule.fn)).split(".<locals>")[0].strip("<>")
    return repr(schedule) if axes(schedule) <= {0} else type(schedule).__name__


def varied(stacked: Schedule) -> dict[str, np.ndarray]:
    """Return the hyperparameters that differ between stacked schedules, by their shortest unique names."""
    found: dict[tuple[str, ...], np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(stacked):
        name = tuple(str(getattr(key, "name", getattr(key, "idx", key))) for key in path)
        column = np.asarray(leaf)
        table = column.reshape(len(column), -1)  # each number of a table counts
        for i in range(table.shape[1]):
            if np.unique(table[:, i]).size > 1:
                found[(*name, str(i)) if column.ndim > 1 else name] = table[:, i].astype(np.float64)
    short = [name[-1] if not name[-1].isdigit() else ".".join(name[-2:]) for name in found]
    names = [text if short.count(text) == 1 else ".".join(name) for text, name in zip(short, found, strict=True)]
    return dict(zip(names, found.values(), strict=True))


# --- horizon ---------------------------------------------------------------------------------------------------------


def horizon(owner: str, members: list[Group], steps: Any, timeline: Timeline | None) -> int | np.ndarray:
    """Return the number of steps to draw, or a sorted array of the steps."""
    if timeline is not None and not isinstance(timeline, Timeline):
        raise FieldTypeError(owner, "timeline", timeline, "write Timeline(total_steps, steps_per_epoch=...)")
    if steps is None:
        ends = [last_step(schedule) for member in members for schedule in member.schedules if timeline is None]
        steps = max((end for end in ends if end is not None), default=timeline and timeline.total_steps)
        if steps is None:
            note = f", and nothing in {cut(', '.join(member.label for member in members), 80)} says how long it is"
            raise FieldError(owner, "steps", None, "write steps=, such as 10_000", note=note)
    if isinstance(steps, str):
        if timeline is None:
            instead = "write timeline=Timeline(total_steps, ...) too"
            raise FieldError(owner, "steps", steps, instead, note=" has a unit", needs="timeline")
        steps = timeline(steps)
    array = np.asarray(steps)
    if isinstance(steps, bool) or array.dtype.kind not in "iuf" or array.ndim > 1:
        raise FieldTypeError(owner, "steps", steps, "write a number of steps, a list of steps, or '3ep'")
    most = np.iinfo(jnp.result_type(int)).max
    if not array.size or not np.all(np.isfinite(array)) or array.min() < 0 or (array.ndim == 0 and array < 1):
        raise FieldError(owner, "steps", steps, "write 1 or more steps, none of them below 0")
    if array.max() > most:
        raise FieldError(owner, "steps", steps, f"set jax_enable_x64 to count beyond {most:_}")
    if np.any(array != np.floor(array)):
        raise FieldError(owner, "steps", steps, "write a whole number of steps")
    return np.unique(array.astype(np.int64)) if array.ndim else int(array)


def last_step(schedule: Schedule) -> int | None:
    """The step from which on the schedule is constant; None if it has none, or if JAX's integers do not count it.

    After a last jump, as of stairs, the mean length of the pieces is added, so that the last one is seen.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.inspect.curves import last_step
      >>> last_step(js.Linear(0.0, 1.0, steps=10).then(js.Cosine(1.0, 0.0, steps=90), at=10) * 0.5)
      100
      >>> last_step(js.PiecewiseConstant([30, 60], [0.1, 0.03, 0.01]))
      90
      >>> last_step(js.CosineWarmRestarts(0.1, period=10)) is None
      True
    """
    found = span(schedule)
    if found is None or found < 1:
        return None
    end = math.ceil(found)
    edges = marks(schedule, end)
    if edges is not None and axes(schedule) <= {0}:
        piece = np.array([math.ceil(edges[-2]), end - 1])
        first, last = evaluate("last_step", schedule, piece)[0]
        end -= (-end // (len(edges) - 1)) * bool(piece[0] < piece[1] and first == last)
    return end


# --- points ----------------------------------------------------------------------------------------------------------


def curves(owner: str, schedules: list[Schedule], steps: int | np.ndarray, columns: int | None = None) -> list[Curve]:
    """Return the curve of each schedule over steps `0 ... steps - 1`, or at an array of steps.

    The lowest and the highest value of each of `columns` columns are kept, and the step of a jump occurs twice: with
    the value before it and the one after it.
    """
    columns = columns or (_COLUMNS if len(schedules) <= 8 else _COLUMNS_OF_MANY)
    dense = max(min(_DENSE, _EVALUATIONS // max(len(schedules), 1)), 4 * columns)
    if not isinstance(steps, np.ndarray) and steps > dense:
        limits = dense, max(dense, _LEAST_DENSE)
        return [_reduced(sample(owner, schedule, steps - 1, limits, 4 * columns), columns) for schedule in schedules]
    at = steps if isinstance(steps, np.ndarray) else np.arange(steps)
    found = []
    for part in _blocks(schedules, max(1, _BLOCK // len(at))):
        values, eps = evaluate(owner, part, at)
        found += [_reduced(Curve(at, row, eps), columns) for row in np.atleast_2d(values)]
    return found


def _blocks(schedules: list[Schedule], most: int) -> Iterator[Schedule]:
    """Yield the schedules in order: neighbours that can be evaluated in one call as stacks of at most `most`."""

    def kind(schedule: Schedule) -> Any:
        leaves, structure = jax.tree.flatten(schedule)
        return structure, [(type(leaf), np.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves]

    for (_, numbers), alike in itertools.groupby(schedules, kind):
        while part := list(itertools.islice(alike, most if numbers else 1)):
            yield stack(*part) if len(part) > 1 else part[0]


def _reduced(curve: Curve, columns: int) -> Curve:
    """Return the points of a curve that its picture needs, with the step of each jump twice."""
    at, values = curve.steps, np.where(np.isfinite(curve.values), curve.values, np.nan)
    jump = breaks(curve._replace(values=values)) & (np.diff(at) == 1)
    if len(at) > 4 * columns:
        sides = np.flatnonzero(jump | (np.isnan(values[1:]) != np.isnan(values[:-1])))
        # Of more jumps than columns the extremes show as much.
        sides = sides if len(sides) <= columns else sides[:0]
        kept = np.unique(np.concatenate([[0, len(at) - 1], _extremes(values, columns), sides, sides + 1]))
        jump = jump[kept[:-1]] & (np.diff(kept) == 1)
        at, values = at[kept], values[kept]
    before = np.flatnonzero(jump)
    steps, values = np.insert(at, before + 1, at[before + 1]), np.insert(values, before + 1, values[before])
    return curve._replace(steps=steps, values=values)


def _extremes(values: np.ndarray, columns: int) -> np.ndarray:
    """Return the indices of the lowest and the highest value of each column."""
    edges = np.ceil(np.linspace(0, len(values), columns + 1)).astype(int)
    inside = edges[:-1, None] + np.arange(np.diff(edges).max())
    inside = np.minimum(inside, edges[1:, None] - 1)
    seen, row = values[inside], np.arange(columns)
    lowest = np.where(np.isnan(seen), np.inf, seen).argmin(axis=1)
    highest = np.where(np.isnan(seen), -np.inf, seen).argmax(axis=1)
    return np.concatenate([inside[row, lowest], inside[row, highest]])


def _ground(owner: str, found: list[np.ndarray], low: float, high: float, scale: str) -> float | None:
    """Return the lowest value of a logarithmic axis, where a 0 is drawn; None for a linear axis.

    It is six powers of ten below the highest value, or lower if a twentieth of the steps of a curve is.
    """
    if scale not in ("linear", "log"):
        raise FieldError(owner, "scale", scale, nearest_name(str(scale), ["linear", "log"]))
    if scale == "linear":
        return None
    if low < 0:
        instead = "write scale='linear' for values below 0"
        raise FieldError(owner, "scale", scale, instead, note=f", and a value is {low:.3g}")
    if not high > 0:
        raise FieldError(owner, "scale", scale, "write scale='linear'", note=", and no value is above 0")
    above = [values[values > 0] for values in found if (values > 0).any()]
    least = min(float(values.min()) for values in above)
    return max(least, min(1e-6 * high, *(float(np.quantile(values, 0.05)) for values in above)))
