"""What the pictures share: schedules in any form as labelled curves, with few points and none that matters missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced, nearest_name
from ..inspect.phases import evaluate
from ..schedules.base import Constant, Lambda, Recipe, Schedule, as_schedule
from ..schedules.combine import Cooldown, Join, PerEpoch, Product, Repeat, Shift, Sum, Warmup
from ..schedules.cycles import PolynomialDecay
from ..schedules.pieces import MultiStepDecay, PiecewiseConstant, PiecewiseInterpolate
from ..schedules.stacking import stack, unstack
from ..schedules.structure import axes
from ..schedules.untuned import UntunedWarmup
from ..units import Timeline

_POINTS = 2**20
"""Steps that are looked at, of all schedules together; up to so many every single one is."""

_COLUMNS = 1024
"""Of a picture of one schedule: no screen or paper shows more points side by side."""

_COLUMNS_OF_MANY = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """What is drawn under one name: a schedule, or a stack of them.

    Fields:
      label: its name, short.
      schedule: the schedule, or the stacked ones.
      size: how many are stacked; 0 for a schedule that is not.
    """

    label: str
    schedule: Schedule
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """One line: `steps`, rising, and the `values` there. At a jump its step stands twice: before and after it."""

    steps: np.ndarray
    values: np.ndarray

    def value_at(self, steps: np.ndarray) -> np.ndarray:
        """The values at steps of the curve, after the jumps there; between them those of the last step before."""
        return self.values[np.maximum(np.searchsorted(self.steps, steps, side="right") - 1, 0)]


# --- who is drawn ----------------------------------------------------------------------------------------------------


def groups(owner: str, schedules: Any, labels: Any = None, name: str = "schedules") -> list[Group]:
    """`schedules` as a list with names: a schedule, a stack, a callable, a number, a list or a dict of these.

    Errors: TypeError for what is none of these; ValueError for no schedules, for what is stacked in part only or more
    than once, for numbers that are traced, and for labels that are not one for each.
    """
    named = isinstance(schedules, Mapping)
    several = named or isinstance(schedules, (list, tuple))
    items = list(schedules.values() if named else schedules if several else [schedules])
    if not items:
        raise ValueError(f"{owner}: {name}={format_value(schedules)} is empty; write at least one schedule.")
    if named:
        if labels is not None:
            raise ValueError(
                f"{owner}: labels={format_value(labels)}, and schedules is a dict, which has names; write one."
            )
        labels = [str(key) for key in schedules]
    lifted = [as_schedule(owner, f"{name}[{i}]" if several else name, item) for i, item in enumerate(items)]
    sizes = [_size(owner, schedule) for schedule in lifted]
    if isinstance(labels, str) and not several:
        labels = None if sizes[0] else [labels]  # of a stack it is the field that the colours tell
    if labels is None:
        labels = _labels(lifted)
    if isinstance(labels, str) or len(labels) != len(lifted):
        raise ValueError(f"{owner}: labels={format_value(labels)}; write one for each of the {len(lifted)} schedules.")
    return [Group(str(label), s, size) for label, s, size in zip(labels, lifted, sizes, strict=True)]


def _size(owner: str, schedule: Schedule) -> int:
    leaves = jax.tree.leaves(schedule)
    if any(map(is_traced, leaves)):
        raise ValueError(f"{owner}: {schedule!r} has no numbers yet; call {owner} outside of jit, grad and vmap.")
    found = axes(schedule)
    if found <= {0}:
        return 0
    sizes = {np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)}
    if found != {1} or len(sizes) != 1:
        raise ValueError(
            f"{owner}: {format_value(schedule)} is stacked in part only; put schedules together first, and stack "
            f"the whole: "
            "stack(*(s * 0.5 for s in unstack(S)))."
        )
    return sizes.pop()


def _labels(schedules: list[Schedule]) -> list[str]:
    """Short names that tell them apart: the expression, or of schedules of one structure what differs."""
    kinds = {jax.tree.structure(schedule) for schedule in schedules}
    if len(schedules) > 1 and len(kinds) == 1 and axes(schedules[0]) == {0}:
        differ = varied(stack(*schedules))
        if 0 < len(differ) <= 3:
            rows = zip(*differ.values(), strict=True)
            return [", ".join(f"{n}={number(x)}" for n, x in zip(differ, row, strict=True)) for row in rows]
    return [_name(schedule) for schedule in schedules]


def _name(schedule: Schedule) -> str:
    if isinstance(schedule, Lambda):  # of optax's it is what made them that tells
        return getattr(schedule.fn, "__qualname__", repr(schedule.fn)).split(".<locals>")[0].strip("<>")
    return repr(schedule) if axes(schedule) <= {0} else type(schedule).__name__


def cut(text: str, most: int) -> str:
    """`text`, of at most so many characters."""
    return text if len(text) <= most else f"{text[: max(most - 3, 0)]}..."[:most]


def varied(stacked: Schedule) -> dict[str, np.ndarray]:
    """The hyperparameters that differ between stacked schedules, by the shortest name that tells them apart.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.viz.curves import varied
      >>> list(varied(js.grid(js.Linear, init_value=[1.0, 2.0], end_value=0.0, steps=[5, 9])))
      ['init_value', 'steps']
    """
    found: dict[tuple[str, ...], np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(stacked):
        name = tuple(str(getattr(key, "name", getattr(key, "idx", key))) for key in path)
        column = np.asarray(leaf)
        table = column.reshape(len(column), -1)  # of tables each number is one
        for i in range(table.shape[1]):
            if np.unique(table[:, i]).size > 1:
                found[(*name, str(i)) if column.ndim > 1 else name] = table[:, i].astype(np.float64)
    short = [name[-1] if not name[-1].isdigit() else ".".join(name[-2:]) for name in found]
    names = [text if short.count(text) == 1 else ".".join(name) for text, name in zip(short, found, strict=True)]
    return dict(zip(names, found.values(), strict=True))


# --- how far ---------------------------------------------------------------------------------------------------------


def horizon(owner: str, members: list[Group], steps: Any, timeline: Timeline | None) -> int | np.ndarray:
    """How many steps are drawn, or the very steps.

    Errors: ValueError for a horizon of no step, one that cannot be counted, and one that nothing tells; TypeError for
    what is no number of steps.
    """
    if timeline is not None and not isinstance(timeline, Timeline):
        raise TypeError(
            f"{owner}: timeline={format_value(timeline)}; write Timeline(total_steps, steps_per_epoch=...)."
        )
    if steps is None:
        told = [timeline.total_steps] if timeline else [end for m in members if (end := _end(m)) is not None]
        if not told:
            names = ", ".join(member.label for member in members)
            raise ValueError(f"{owner}: nothing in {cut(names, 80)} says how long it is; write steps=, such as 10_000.")
        steps = max(told)
    if isinstance(steps, str):
        if timeline is None:
            raise ValueError(f"{owner}: steps={steps!r} has a unit; write timeline=Timeline(total_steps, ...) too.")
        steps = timeline(steps)
    array = np.asarray(steps)
    if isinstance(steps, bool) or array.dtype.kind not in "iuf" or array.ndim > 1:
        raise TypeError(f"{owner}: steps={format_value(steps)}; write a number of steps, a list of steps, or '3ep'.")
    most = np.iinfo(jnp.result_type(int)).max
    if not array.size or not np.all(np.isfinite(array)) or array.min() < 0 or (array.ndim == 0 and array < 1):
        raise ValueError(f"{owner}: steps={format_value(steps)}; write 1 or more steps, none of them below 0.")
    if array.max() > most:
        raise ValueError(f"{owner}: steps={format_value(steps)}; set jax_enable_x64 to count beyond {most:_}.")
    if np.any(array != np.floor(array)):
        raise ValueError(f"{owner}: steps={format_value(steps)}; write a whole number of steps.")
    return np.unique(array.astype(np.int64)) if array.ndim else int(array)


def _end(member: Group) -> int | None:
    if not member.size:
        return last_step(member.schedule)
    told = getattr(member.schedule, "total_steps", None)
    if told is not None:  # without taking the stack apart
        return _whole(np.max(np.asarray(told)))
    ends = [end for s in unstack(member.schedule) if (end := last_step(s)) is not None]
    return max(ends, default=None)


def _whole(length: Any) -> int | None:
    return int(np.ceil(float(length))) if float(length) >= 1 else None


def last_step(schedule: Schedule) -> int | None:
    """How many steps a schedule tells of: up to the one from which on it holds its value; or None, for one without an
    end, and for more steps than can be counted. To stairs and to what ends as a constant as many steps are added as
    their pieces have on the mean, for the last piece to be seen.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.viz.curves import last_step
      >>> last_step(js.Linear(0.0, 1.0, steps=10).then(js.Cosine(1.0, 0.0, steps=90), at=10) * 0.5)
      100
      >>> last_step(js.PiecewiseConstant([30, 60], [0.1, 0.03, 0.01]))
      90
      >>> last_step(js.CosineWarmRestarts(0.1, period=10)) is None
      True
    """
    end = _span(schedule)
    counted = end is not None and end <= np.iinfo(jnp.result_type(int)).max
    return _whole(end) if end is not None and counted else None


def _span(s: Any) -> float | None:
    """As `last_step`; 0 for a constant."""
    names = {f.name for f in s._fields}
    if isinstance(s, Constant):
        return 0.0
    if isinstance(s, UntunedWarmup):
        return 2 / (1 - float(s.b2)) if float(s.b2) < 1 else None
    if "total_steps" in names:
        return float(s.total_steps)
    if isinstance(s, Join):
        last = _span(s.schedules[-1])
        return None if last is None else _stairs(s.boundaries) if last == 0 else last + float([0, *s.boundaries][-1])
    if isinstance(s, Sum):
        return _together(s.schedules)
    if isinstance(s, Product):
        over = [end for part in s.schedules if (end := _span(part)) and _is_zero(part, end)]
        return min(over) if over else _together(s.schedules)
    if isinstance(s, Repeat):
        return _cycles(s)
    if isinstance(s, Recipe):
        return _span(s.build())
    if isinstance(s, (PiecewiseConstant, MultiStepDecay)):
        return _stairs(s.boundaries if isinstance(s, PiecewiseConstant) else s.milestones)
    if isinstance(s, PolynomialDecay):
        return None if s.cycle else float(s.decay_steps)
    if isinstance(s, PiecewiseInterpolate):
        return float(np.asarray(s.knots)[-1])
    return _span_of_method(s) if "schedule" in names else float(s.steps) if "steps" in names else None


def _span_of_method(s: Any) -> float | None:
    if isinstance(s, Cooldown):
        return float(s.at) + float(s.steps)
    inner = _span(s.schedule)
    if not inner and not isinstance(s, Warmup):
        return inner
    if inner is None:
        return None
    if isinstance(s, Warmup):
        rise = float(s.steps)
        return 2 * rise if inner == 0 else rise if inner < rise and not _is_zero(s.schedule, inner) else inner
    if isinstance(s, Shift):
        return inner + float(s.steps)
    return inner * float(s.steps_per_epoch) if isinstance(s, PerEpoch) else inner


def _together(parts: Any) -> float | None:
    """Of a sum: when the last of its parts ends, if each does."""
    ends = [_span(part) for part in parts]
    return None if None in ends else max(end for end in ends if end is not None)


def _is_zero(schedule: Schedule, step: float) -> bool:
    """Whether it holds 0 from there on, so that a product with it does."""
    known = jax.tree.leaves(schedule)
    if step > np.iinfo(jnp.result_type(int)).max - 1 or any(np.ndim(x) > 1 for x in known):
        return False
    return evaluate(schedule, np.array([int(np.ceil(step))]))[0][0] == 0


def _stairs(boundaries: Any) -> float:
    """Up to the last of the steps, and one piece more."""
    steps = [float(x) for x in boundaries]
    return steps[-1] * (1 + 1 / len(steps)) if steps else 0.0


def _cycles(s: Repeat) -> float | None:
    """The steps of all cycles: `period * (1 + mult + ... + mult^(cycles - 1))`."""
    if s.cycles is None:
        return None
    growth, cycles = 1.0 if s.period_mult is None else float(s.period_mult), int(s.cycles)
    try:
        times = float(cycles) if growth == 1 else (growth**cycles - 1) / (growth - 1)
    except OverflowError:
        return None
    return float(s.period) * times


# --- its values ------------------------------------------------------------------------------------------------------


@jax.jit
def _of_all(stacked: Schedule, steps: jax.Array) -> jax.Array:
    return jax.vmap(lambda schedule, t: jnp.broadcast_to(schedule(t), t.shape))(stacked, steps)


def curves(owner: str, member: Group, steps: int | np.ndarray, columns: int | None = None) -> list[Curve]:
    """The curve of each schedule of a group over steps `0 ... steps - 1`, or at an array of them.

    Up to a million steps every one is looked at, and the first, lowest, highest and last of each column of pixels are
    kept. Beyond that a million are, never in step with a cycle, and the largest rise and fall of each column are
    followed down to the two neighbouring steps where they happen: the peak of a restart is there.
    """
    size = max(member.size, 1)
    columns = columns or (_COLUMNS if size <= 8 else _COLUMNS_OF_MANY)

    def values(at: np.ndarray) -> np.ndarray:
        """(1, points) steps of all, or (size, points), to (size, points) values."""
        try:
            if not member.size:  # by the program that finds the outline too
                return evaluate(member.schedule, at[0])[0][None]
            found = _of_all(member.schedule, np.broadcast_to(at.astype(jnp.result_type(int)), (size, at.shape[-1])))
            return np.asarray(found).astype(np.float64)
        except (jax.errors.JAXTypeError, ValueError) as error:  # an `if` on an array is the latter
            raise TypeError(
                f"{owner}: {member.label} cannot be called with an array of steps in a compiled function; write it "
                "with jax.numpy, and jnp.where for an if."
            ) from error

    if isinstance(steps, np.ndarray):
        return [_curve(steps, row, columns) for row in values(steps[None])]
    most = max(_POINTS // size, 4 * columns)
    if steps <= most:
        at = np.arange(steps)
        return [_curve(at, row, columns) for row in values(at[None])]
    at = _scattered(steps, min(most, 32 * columns), member.schedule)
    coarse = values(at[None])
    more = _followed(at, coarse, steps, columns, values)
    seen = values(more)
    joined = [np.unique(np.concatenate([at, row]), return_index=True) for row in more]
    return [
        _curve(x, np.concatenate([row, extra])[order], columns)
        for (x, order), row, extra in zip(joined, coarse, seen, strict=True)
    ]


def _scattered(steps: int, count: int, schedule: Schedule) -> np.ndarray:
    """So many of the steps, both ends and all that the schedule itself names among them."""
    # Even steps would beat with the cycles of a schedule; these keep out of every rhythm.
    golden = np.modf(np.arange(count) * 0.6180339887498949)[0]
    even = ((np.arange(count) + golden) * (steps / count)).astype(np.int64)
    leaves = [np.ravel(np.asarray(x)) for x in jax.tree.leaves(schedule)]
    named = [x[:64].astype(np.int64) for x in leaves if x.dtype.kind in "iu"]
    near = [mark + offset for mark in named for offset in (-1, 0, 1)]
    at = np.concatenate([even, *near, [0, 1, steps - 2, steps - 1]])
    return np.unique(at[(at >= 0) & (at < steps)])


def _followed(at: np.ndarray, seen: np.ndarray, steps: int, columns: int, values: Any) -> np.ndarray:
    """(curves, n) pairs of neighbouring steps: where the largest rise and the largest fall of each column happen."""
    rows = np.arange(len(seen))[:, None]
    starts = np.unique(np.searchsorted(at[:-1], np.arange(columns) * (steps / columns)))
    starts = starts[starts < len(at) - 1]
    change = np.nan_to_num(np.diff(seen, axis=1), nan=0.0, posinf=0.0, neginf=0.0)
    ends = np.append(starts[1:], len(at) - 1)
    picked, signs = [], []
    for sign in (1.0, -1.0):
        best = [start + np.argmax(sign * change[:, start:end], axis=1) for start, end in zip(starts, ends, strict=True)]
        picked.append(np.stack(best, axis=1))
        signs.append(np.full(len(starts), sign))
    pairs, sign = np.concatenate(picked, axis=1), np.concatenate(signs)
    low, high = at[pairs], at[pairs + 1]
    below, above = seen[rows, pairs], seen[rows, pairs + 1]
    while np.any(high - low > 1):
        middle = (low + high) // 2
        between = values(middle)
        left = sign * (between - below) >= sign * (above - between)
        low, below = np.where(left, low, middle), np.where(left, below, between)
        high, above = np.where(left, middle, high), np.where(left, between, above)
    return np.concatenate([low, high], axis=1)


def _curve(at: np.ndarray, values: np.ndarray, columns: int) -> Curve:
    """A curve of few points: those that change its picture, and a step twice where it jumps."""
    values = np.where(np.isfinite(values), values, np.nan)
    jump = _jumps(at, values)
    if len(at) > 4 * columns:
        keep = _extremes(values, np.floor((at - at[0]) * (columns / (float(at[-1]) - float(at[0]) + 1))).astype(int))
        if jump.sum() <= columns:  # more of them than pixels: the extremes tell as much
            keep[:-1] |= jump
            keep[1:] |= jump
        kept = np.flatnonzero(keep)
        jump = jump[kept[:-1]] & (np.diff(kept) == 1)
        at, values = at[kept], values[kept]
    before = np.flatnonzero(jump)
    return Curve(np.insert(at, before + 1, at[before + 1]), np.insert(values, before + 1, values[before]))


def _jumps(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(points - 1,) whether the value leaps from one step to the very next, and not on both sides of them."""
    if len(at) < 3:
        return np.zeros(max(len(at) - 1, 0), bool)
    gap, size = np.diff(at), np.abs(np.diff(values))
    slope = np.nan_to_num(size / gap)
    padded = np.concatenate([[slope[1]], slope, [slope[-2]]])
    beside = np.maximum(padded[:-2], padded[2:])
    large = size > 1e-3 * np.fmax(np.abs(values[:-1]), np.abs(values[1:]))
    return (gap == 1) & large & (slope > 4 * beside)


def _extremes(values: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(points,) whether a point is the first, lowest, highest or last of its column: the picture needs no other."""
    keep = np.zeros(len(values), bool)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    keep[first] = keep[np.append(first[1:], len(values)) - 1] = True
    for key in (np.where(np.isnan(values), np.inf, values), np.where(np.isnan(values), np.inf, -values)):
        order = np.lexsort((key, column))
        keep[order[first]] = True
    keep[np.isnan(values) & ~np.roll(np.isnan(values), 1)] = True  # where it stops
    return keep


# --- how it is read --------------------------------------------------------------------------------------------------


def floor_of_log(owner: str, lines: list[Curve], scale: str) -> float | None:
    """Where a logarithmic axis begins, None for a linear one: what is 0 lies on its ground.

    It reaches six powers of ten below the highest value, and further only if a twentieth of the steps of a curve does.

    Errors: ValueError for an unknown scale, and for values below 0 or none above 0, which have no logarithm.
    """
    if scale not in ("linear", "log"):
        raise ValueError(f"{owner}: scale={scale!r}; {nearest_name(str(scale), ['linear', 'log'])}")
    if scale == "linear":
        return None
    known = [curve for curve in lines if np.isfinite(curve.values).any()]
    low = min((float(np.nanmin(curve.values)) for curve in known), default=np.nan)
    if low < 0:
        raise ValueError(f"{owner}: scale='log', and a value is {low:.3g}; write scale='linear' for values below 0.")
    above = [(curve, curve.values > 0) for curve in known if (curve.values > 0).any()]
    if not above:
        raise ValueError(f"{owner}: scale='log', and no value is above 0; write scale='linear'.")
    peak = max(float(curve.values[kept].max()) for curve, kept in above)
    least = min(float(curve.values[kept].min()) for curve, kept in above)
    usual = []
    for curve, kept in above:
        at = np.linspace(curve.steps[0], curve.steps[-1], 1000)  # the points of a curve stand closer where it moves
        usual.append(float(np.quantile(np.interp(at, curve.steps[kept], curve.values[kept]), 0.05)))
    return max(least, min([1e-6 * peak, *usual]))


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """At most so many round (or `whole`) numbers from `low` to `high`, at even distances.

    Example:
      >>> from jaxsched.viz.curves import ticks
      >>> ticks(0.0, 100.0, 3), ticks(0.0, 3e-4, 4)
      ([0.0, 50.0, 100.0], [0.0, 0.0001, 0.0002, 0.0003])
    """
    exponent = np.floor(np.log10((high - low) / most))
    sizes = [float(f"{m}e{int(exponent + e)}") for e in (0, 1, 2) for m in (1, 2, 2.5, 5)]
    slack, size, first, last = 1e-6 * (high - low), 0.0, 0, 0
    for size in [s for s in sizes if not whole or s == round(s)] or [1.0]:
        first, last = int(np.ceil((low - slack) / size)), int(np.floor((high + slack) / size))
        if last - first < most:
            break
    return [min(max(float(f"{i * size:.12g}"), low), high) for i in range(first, last + 1)]


def number(x: Any, digits: int = 4) -> str:
    """A value as one reads it.

    Example:
      >>> from jaxsched.viz.curves import number
      >>> [number(x) for x in (0, 0.1, 3e-4, 0.00025, 1.0, 2000, 1e-12)]
      ['0', '0.1', '3e-04', '2.5e-04', '1', '2000', '1e-12']
    """
    x = float(x)
    if x == 0 or not np.isfinite(x):
        return f"{x:g}"
    if 1e-3 <= abs(x) < 1e5:
        return f"{x:.{digits}g}" if abs(x) < 10.0**digits else f"{x:.0f}"
    return _with_exponent(x, digits)


def count(x: Any, digits: int = 4) -> str:
    """A number of steps, epochs or tokens as one reads it.

    Example:
      >>> from jaxsched.viz.curves import count
      >>> [count(x) for x in (0, 12, 0.5, 1000, 2500, 100_000, 2e6, 1.5e9, 2**31, 3e12)]
      ['0', '12', '0.5', '1k', '2.5k', '100k', '2M', '1.5B', '2.147B', '3T']
    """
    x = float(x)
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= unit * 0.99995:
            return f"{x / unit:.{digits}g}{letter}"
    return f"{x:.{digits}g}"


def texts(values: Any, write: Callable[[Any, int], str]) -> list[str]:
    """The numbers at an axis, with as many digits as tell them apart.

    Example:
      >>> from jaxsched.viz.curves import count, texts
      >>> texts([1_000_000, 1_000_020], count)
      ['1M', '1.00002M']
    """
    values = [float(x) for x in values]
    found: list[str] = []
    for digits in range(4, 15):
        found = [write(x, digits) for x in values]
        if len(set(found)) == len(set(values)):
            break
    if any("e" in text for text in found):  # then all of them
        found = [
            text if x == 0 or "e" in text or not text[-1].isdigit() else _with_exponent(x)
            for x, text in zip(values, found, strict=True)
        ]
    return found


def _with_exponent(x: float, digits: int = 4) -> str:
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"
