"""The phases, restarts, jumps and peak of a schedule, read off its values."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, format_value, is_traced
from ..fields import Domain, validate
from ..schedules.base import Schedule, as_schedule
from ..schedules.combine import Noise
from ..schedules.structure import axes, marks

_TOTAL = Domain("an integer, 1 or more", lambda x: np.ndim(x) == 0 and x >= 1, counts=True, whole=True)
_DENSE = 2**20  # below this horizon every step is evaluated
_DENSE_OPAQUE = 2**24 + 1  # below this horizon every step of a schedule with unknown marks is evaluated
_CALLS = (2**12, 2**16, 2**20)  # the numbers of steps in one call. Each is one compiled program
_GRID = 2**16  # the number of sampled steps of a longer horizon
_MOST_MARKS = 2**16  # with more marks than this, their surroundings are not evaluated one by one
_MOST_INTERVALS = 2**14  # with more intervals than this to refine, refinement stops
_FLIPS = 0.25  # a curve is noise if at least this share of its moves reverses the previous move
# A jump is this many times as steep as the curve beside it. The steepest smooth start, 1 - sqrt(u), reaches 2.4.
_STEEP = 4.0
_LARGE = 0.01  # a jump covers at least this share of the range of the values, or a fifth of the value itself
_TURN = 1e-3  # a turn reverses at least this share of the range of the values
_SHORTEST = 0.01  # a plateau lasts at least this share of the horizon


class Phase(NamedTuple):
    """The steps `start` to `stop - 1`, in which a curve does one thing."""

    name: str
    start: int
    stop: int


class Jump(NamedTuple):
    """A discontinuity: the value changes from `before`, at step `step - 1`, to `after`, at step `step`."""

    step: int
    before: float
    after: float


class Outline(NamedTuple):
    """The course of a schedule over the steps `0 ... total_steps - 1` of a training; `outline` returns it.

    Attributes:
      phases: all steps, in order. "warmup" is the first rise, "rise" a later one, "decay" a fall (also in stairs),
        "stable" a plateau. A spike, which lasts one step, belongs to the phase around it.
      restarts: the steps at which the value jumps up after a decay, or turns up if it does so more than once. A single
        smooth fall and rise, as of a momentum, is not a restart.
      jumps: the other discontinuities. A spike is two of them.
      peak_step, peak: the first step with the largest value, and that value.
      first, last: the values at steps 0 and `total_steps - 1`.
    """

    phases: tuple[Phase, ...]
    restarts: tuple[int, ...]
    jumps: tuple[Jump, ...]
    peak_step: int
    peak: float
    first: float
    last: float


class Curve(NamedTuple):
    """The values at sorted steps from 0 to `total_steps`.

    Attributes:
      steps, values: the evaluated steps, and float64 values.
      eps: the machine epsilon of the type in which the values were computed.
      complete: whether the steps include every jump, turn and edge of a plateau.
    """

    steps: np.ndarray
    values: np.ndarray
    eps: float
    complete: bool = True

    @property
    def total_steps(self) -> int:
        return int(self.steps[-1])

    @property
    def rounding(self) -> float:
        """Differences up to this are rounding."""
        return 16 * self.eps * float(np.max(np.abs(self.values)))


class Reading(NamedTuple):
    """What was read of a schedule.

    Attributes:
      clean: the schedule without the noise of `Noise`.
      raw: the values of the schedule itself.
      course: the finite values of `clean`.
      smooth: the course without its spikes, and without a jump after the last update.
      spikes: the indices of the spikes in `course`.
      noisy: whether single steps of `smooth` mean nothing, because it is noise or was not sampled finely enough.
    """

    clean: Schedule
    raw: Curve
    course: Curve
    smooth: Curve
    spikes: tuple[int, ...]
    noisy: bool


def outline(schedule: Any, total_steps: int) -> Outline:
    """Returns the phases, restarts, jumps and peak of a schedule over a training of `total_steps`.

    Everything is read off the values, so any schedule or callable is accepted. Up to 2**20 steps every step is
    evaluated, and up to 2**24 steps if the steps where the formula changes are unknown (a callable). A longer horizon
    is sampled, near the steps where the formula changes if they are known, and refined until each jump, turn and edge
    of a plateau is located exactly; events between two sampled steps may be missed.

    Noise that `Schedule.noise` adds is left out of phases, restarts and jumps. For other noise, and for curves with
    more events than can be located, the phases are those of the medians of 64 blocks of steps, without restarts and
    jumps.

    Args:
      schedule: a schedule, a callable or a number; a single setting (unstack first).
      total_steps: the number of training steps, 1 or more.

    Raises:
      ValueError: for stacked settings and for less than one step.
      TypeError: for what is not a schedule, and for a `total_steps` that is not an integer.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.inspect import outline
      >>> found = outline(js.WarmupStableDecay(1.0, warmup_steps=10, total_steps=100, decay_steps=20), 100)
      >>> [(phase.name, phase.start, phase.stop) for phase in found.phases]
      [('warmup', 0, 10), ('stable', 10, 80), ('decay', 80, 100)]
      >>> outline(js.CosineWarmRestarts(1.0, period=50), 150).restarts
      (50, 100)
    """
    return describe(read(*check("outline", schedule, total_steps)))


# --- reading ---------------------------------------------------------------------------------------------------------


def check(owner: str, schedule: Any, total_steps: Any) -> tuple[Schedule, int]:
    """Returns the arguments of `owner` as a single concrete setting and an integer, or raises an error."""
    schedule = as_schedule(owner, "schedule", schedule)
    if any(map(is_traced, jax.tree.leaves(schedule))):
        raise FieldTypeError(
            owner, "schedule", schedule, f"call {owner} outside of jit, vmap and grad", note=" is traced"
        )
    if not axes(schedule) <= {0}:
        instead = f"write [{owner}(s, total_steps) for s in unstack(schedule)]"
        raise FieldError(owner, "schedule", schedule, instead, note=" is several settings, stacked")
    return schedule, int(validate(owner, "total_steps", total_steps, _TOTAL))


def evaluate(schedule: Schedule, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the values at integer `steps` as float64, and the machine epsilon of their own type."""
    size = next((size for size in _CALLS if size >= len(steps)), _CALLS[-1])
    padded = np.pad(steps.astype(np.dtype(jnp.result_type(int))), (0, -len(steps) % size), mode="edge")
    found, eps = [], 0.0
    for start in range(0, len(padded), size):
        values = schedule(padded[start : start + size])
        if values.shape not in ((), (size,)):
            given = f"{values.shape} for steps of the shape {(size,)}"
            raise ValueError(
                f"{format_value(schedule)} gives values of the shape {given}; it must give one value a step."
            )
        eps = float(jnp.finfo(values.dtype).eps)
        found.append(np.broadcast_to(np.asarray(values).astype(np.float64), size))
    return np.concatenate(found)[: len(steps)], eps


def read(schedule: Schedule, total: int) -> Reading:
    """Evaluates a schedule at all steps, or at enough of them to locate its jumps, turns and plateaus."""
    clean = _without_noise(schedule)
    sampled = sample(clean, total)
    raw = sampled if clean is schedule else sampled._replace(values=evaluate(schedule, sampled.steps)[0])
    finite = np.isfinite(sampled.values)
    keep = finite if finite.any() else slice(None)
    course = sampled._replace(steps=sampled.steps[keep], values=sampled.values[keep])
    at = _spikes(course)
    values = course.values.copy()
    values[at] = values[at - 1]
    smooth = course._replace(values=values)
    if len(values) > 2 and smooth.steps[-2] == total - 1 and _breaks(smooth)[-1]:
        values[-1] = values[-2]
    return Reading(clean, raw, course, smooth, tuple(at.tolist()), _is_noisy(smooth))


def _without_noise(schedule: Schedule) -> Schedule:
    """Replaces each `Noise` inside by the schedule that it is added to."""

    def is_noise(x: Any) -> bool:
        return isinstance(x, Noise)

    if not any(map(is_noise, jax.tree.leaves(schedule, is_leaf=is_noise))):
        return schedule
    return jax.tree.map(lambda x: _without_noise(x.schedule) if is_noise(x) else x, schedule, is_leaf=is_noise)


def sample(schedule: Schedule, total: int, dense: int = _DENSE_OPAQUE) -> Curve:
    """Evaluates all steps of a short horizon, or sampled steps, refined where something happens between two."""
    edges = marks(schedule, total)
    if edges is not None and len(edges) > _MOST_MARKS:
        edges = None
    if total < (dense if edges is None else _DENSE):
        steps = np.arange(total + 1)
        return Curve(steps, *evaluate(schedule, steps))
    if edges is None:
        jitter = np.random.default_rng(0).integers(0, total // _GRID, _GRID)  # against aliasing with a period
        grid = np.arange(_GRID) * (total // _GRID) + jitter
    else:
        each = np.linspace(0, 1, max(8, min(65, _GRID // len(edges))))
        inner = edges[:-1, None] + np.diff(edges)[:, None] * each
        near = edges.astype(np.int64)[:, None] + np.arange(-4, 5)
        grid = np.append(inner.astype(np.int64), near)
    steps = np.unique(np.concatenate([np.clip(grid, 0, total), [0, 1, total - 1, total]]))
    return _refined(schedule, Curve(steps, *evaluate(schedule, steps)))


def _refined(schedule: Schedule, curve: Curve) -> Curve:
    """Adds steps until no interval between two hides a jump, a turn or the edge of a plateau."""
    for _ in range(64):
        wide = _unresolved(curve)
        if not len(wide):
            return curve
        if len(wide) > _MOST_INTERVALS or len(curve.steps) > 2 * _DENSE:
            break
        start, gap = curve.steps[wide], np.diff(curve.steps)[wide]
        inner = [start + gap // 8 * k + gap % 8 * k // 8 for k in range(1, 8)]
        more = np.setdiff1d(np.concatenate(inner), curve.steps)
        steps = np.concatenate([curve.steps, more])
        values = np.concatenate([curve.values, evaluate(schedule, more)[0]])
        order = np.argsort(steps)
        curve = curve._replace(steps=steps[order], values=values[order])
    return curve._replace(complete=False)


def _unresolved(curve: Curve) -> np.ndarray:
    """The indices of the intervals that hide a jump, a turn, the edge of a plateau or the first value not finite."""
    curve = curve._replace(values=np.nan_to_num(curve.values, posinf=0.0, neginf=0.0))
    if _is_noisy(curve):
        return np.array([], np.int64)
    ends = np.array([*_pivots(curve)[1:-1], *itertools.chain(*_flats(curve))], int)
    wanted = _breaks(curve)
    wanted[np.clip(np.concatenate([ends - 1, ends]), 0, len(wanted) - 1)] = True
    return np.flatnonzero(wanted & (np.diff(curve.steps) > 1))


# --- features of a curve ---------------------------------------------------------------------------------------------


def _is_noisy(curve: Curve) -> bool:
    """Whether the curve goes up and down at nearly every step, or is incomplete."""
    values = curve.values
    if not curve.complete or len(values) < 18 or np.ptp(values) <= curve.rounding:
        return not curve.complete
    change, size = np.diff(values), np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    moves = np.sign(change[np.abs(change) > 16 * curve.eps * size])
    flips = np.count_nonzero(np.diff(moves))
    return bool(len(moves) > 16 and flips > _FLIPS * len(moves)) and len(_pivots(curve, most=19)) > 18


def _slopes(curve: Curve, first: np.ndarray, count: int) -> list[np.ndarray]:
    """The slopes of `count` intervals from each index `first` on: of the values, and of their logarithms.

    A fast exponential is steep only in the first.
    """
    at = np.clip(first[:, None] + np.arange(count + 1), 0, len(curve.steps) - 1)
    steps, values = curve.steps[at], curve.values[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(np.where(values > 0, values, np.nan))
        return [np.abs(np.diff(y)) / np.diff(steps) for y in (values, logarithms)]


def _steeper(here: np.ndarray, before: np.ndarray, after: np.ndarray, factor: Any = _STEEP) -> np.ndarray:
    beside = np.maximum(*(np.nan_to_num(slope, posinf=0.0) for slope in (before, after)))
    return ~(here <= factor * beside)  # a slope that is not a number counts as steep


def _breaks(curve: Curve) -> np.ndarray:
    """Whether each interval is far steeper than those beside it."""
    change = np.diff(curve.values)
    found = np.flatnonzero(np.abs(change) > curve.rounding)
    # A rise in the first step is a warmup of one step.
    found = found[(found > 0) | (change[found] < 0) | (curve.steps[1] > 1)] if len(change) > 1 else found[:0]
    signs = np.sign(change[np.clip(found[:, None] + [-1, 0, 1], 0, len(change) - 1)])
    reverses = (signs[:, 1] == -signs[:, 0]) & (signs[:, 1] == -signs[:, 2])  # one step up within a decay
    steep = np.ones(len(found), bool)
    for before, here, after in (slopes.T for slopes in _slopes(curve, found - 1, 3)):
        steep &= _steeper(here, before, after, np.where(reverses, 1.5, _STEEP))
    breaks = np.zeros(len(change), bool)
    breaks[found[steep]] = True
    return breaks


def _large(curve: Curve, at: np.ndarray) -> np.ndarray:
    """Whether the jumps from the indices `at` to the next ones are large."""
    before, after = curve.values[at], curve.values[at + 1]
    size = np.maximum(np.abs(before), np.abs(after))
    return np.abs(after - before) > np.minimum(_LARGE * float(np.ptp(curve.values)), 0.2 * size)


def _spikes(curve: Curve) -> np.ndarray:
    """The indices of spikes: a jump, and the jump back at the next step."""
    change, width = np.diff(curve.values), np.diff(curve.steps)
    found = np.flatnonzero((change[:-1] * change[1:] < 0) & (width[:-1] == 1) & (width[1:] == 1))
    found = found[np.minimum(np.abs(change[found]), np.abs(change[found + 1])) > curve.rounding]
    found = found[_large(curve, found) & _large(curve, found + 1)]
    if len(found) and np.count_nonzero(change) > 0.25 * len(change) and _is_noisy(curve):
        return np.array([], int)
    steep = np.ones(len(found), bool)
    for before, up, down, after in (slopes.T for slopes in _slopes(curve, found - 1, 4)):
        steep &= _steeper(np.fmin(up, down), before, after)
    return found[steep] + 1


def _pivots(curve: Curve, most: float = np.inf) -> list[int]:
    """The first index, those of the turns and the last one; a turn of a small value may be half of that value."""
    least, floor = _TURN * float(np.ptp(curve.values)), 4 * curve.rounding
    return _turns(curve.values, lambda a, b: abs(a - b) > min(least, max(0.5 * max(abs(a), abs(b)), floor)), most)


def _turns(values: np.ndarray, far: Callable[[Any, Any], bool], most: float = np.inf) -> list[int]:
    """The first index, the alternating lows and highs that are `far` from each other, up to `most`, and the last."""
    moving = np.flatnonzero(np.diff(values))
    extremes = moving[:-1][np.diff(np.sign(np.diff(values)[moving])) != 0] + 1
    pivots, low, high, way = [0], 0, 0, 0
    for i in [*extremes.tolist(), len(values) - 1]:
        low = i if values[i] < values[low] else low
        high = i if values[i] > values[high] else high
        if way <= 0 and values[i] > values[low] and far(values[i], values[low]):
            pivots += [low] * (way < 0)
            way, high = 1, i
        elif way >= 0 and values[i] < values[high] and far(values[i], values[high]):
            pivots += [high] * (way > 0)
            way, low = -1, i
        if len(pivots) > most:
            break
    return [*pivots, len(values) - 1]


def _flats(curve: Curve) -> list[tuple[int, int]]:
    """The plateaus, as the indices of their first and their last step."""
    steps, values = curve[:2]
    still = np.pad((np.diff(values) == 0).astype(np.int8), 1)
    starts, stops = np.flatnonzero(np.diff(still) == 1), np.flatnonzero(np.diff(still) == -1)
    length = steps[stops] - steps[starts]
    long = (length >= 2) & (length >= _SHORTEST * steps[-1])
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))


# --- outlines --------------------------------------------------------------------------------------------------------

_Course = tuple[tuple[Phase, ...], tuple[int, ...], tuple[Jump, ...]]


def describe(reading: Reading) -> Outline:
    """Returns the outline of what was read. Values that are not finite are skipped."""
    raw, course, curve = reading[1:4]
    total = raw.total_steps
    first, last = float(raw.values[0]), float(raw.values[np.searchsorted(raw.steps, total - 1, "right") - 1])
    updates = np.where(np.isfinite(raw.values) & (raw.steps < total), raw.values, -np.inf)
    peak = int(np.argmax(updates))
    if not np.isfinite(updates[peak]):
        return Outline((), (), (), 0, float("nan"), first, last)
    phases, restarts, jumps = (_block_course if reading.noisy else _exact_course)(curve, total)
    found = {jump.step: jump for jump in (*jumps, *(_jump(course, i) for k in reading.spikes for i in (k, k + 1)))}
    jumps = tuple(found[step] for step in sorted(found) if step < total and step not in restarts)
    return Outline(phases, restarts, jumps, int(raw.steps[peak]), float(updates[peak]), first, last)


def _jump(curve: Curve, i: int) -> Jump:
    return Jump(int(curve.steps[i]), float(curve.values[i - 1]), float(curve.values[i]))


def _phases(ways: np.ndarray, steps: np.ndarray, cuts: np.ndarray, total: int) -> tuple[Phase, ...]:
    """Phases that begin at 0 and at each `cuts`, indices of `steps`, named by their ways: 1 up, -1 down, 0 level."""
    names: list[str] = []
    for way in ways[[0, *cuts]]:
        begun = any(name != "stable" for name in names)
        names.append("stable" if way == 0 else "decay" if way < 0 else "rise" if begun else "warmup")
    ends = [0, *steps[cuts].tolist(), total]
    return tuple(Phase(name, a, b) for name, (a, b) in zip(names, itertools.pairwise(ends), strict=True))


def _exact_course(curve: Curve, total: int) -> _Course:
    steps, values = curve[:2]
    if len(steps) < 2 or np.ptp(values) <= curve.rounding:
        return (Phase("stable", 0, total),), (), ()
    breaks = _breaks(curve) & (np.diff(steps) == 1)
    pivots = _pivots(curve)
    ways = np.zeros(len(steps) - 1, int)
    for a, b in itertools.pairwise(pivots):
        ways[a:b] = np.sign(values[b] - values[a])
    _mark_plateaus(curve, ways, breaks)
    for i in np.flatnonzero(breaks):  # the step before a jump belongs to the phase before it
        ways[i] = ways[i - 1] if i else ways[1]
    seams = breaks[:-1] & ~((ways[:-1] == ways[1:]) & (ways[:-1] == np.sign(np.diff(values))[:-1]))
    cuts = np.flatnonzero((np.diff(ways) != 0) | seams) + 1
    jumps_up, turns = _restarts(curve, pivots, breaks)
    here = np.flatnonzero(breaks)
    jumps = tuple(_jump(curve, i + 1) for i in here[_large(curve, here)].tolist() if i not in jumps_up)
    turns = [step for step in turns if step < total and step not in {jump.step for jump in jumps}]
    restarts = [*(step for step in jumps_up.values() if step < total), *(turns if len(turns) > 1 else [])]
    return _phases(ways, steps, cuts, total), tuple(sorted(restarts)), jumps


def _restarts(curve: Curve, pivots: list[int], breaks: np.ndarray) -> tuple[dict[int, int], list[int]]:
    """The restarts that are jumps, as step by interval, and the steps of smooth turns."""
    steps, values = curve[:2]
    turns: list[int] = []
    found: dict[int, int] = {}
    for before, valley, top in zip(pivots, pivots[1:], pivots[2:], strict=False):
        if not values[before] > values[valley] < values[top]:
            continue
        left = valley + int(np.argmax(values[valley : top + 1] != values[valley])) - 1  # the last step of the bottom
        rest = values[left + 1 :]
        if not breaks[left]:
            turns.append(int(steps[left]))
        # A jump up to a level that stays is no restart: another decay, or at least its first step, must follow.
        elif turns or found or top < len(values) - 1 or len(rest) <= 2 or np.any(rest < rest[0]):
            found[left] = int(steps[left + 1])
    return found, turns


def _mark_plateaus(curve: Curve, ways: np.ndarray, breaks: np.ndarray) -> None:
    """Sets `ways` to 0 on plateaus, and to the way of the stairs on those that are stairs of a decay or of a rise."""
    flats = _flats(curve)
    moves = np.pad(np.sign(np.diff(curve.values)).astype(int) * breaks, 1)
    sides = [(int(moves[a]), int(moves[b + 1])) for a, b in flats]
    lengths = [int(curve.steps[b] - curve.steps[a]) for a, b in flats]
    inner = [before if before == after else 0 for before, after in sides]
    for k, (a, b) in enumerate(flats):
        kind = inner[k]
        # The first and the last stair have a neighbor on one side only.
        for other, way in ((k + 1, sides[k][1]), (k - 1, sides[k][0])):
            if not kind and 0 <= other < len(flats) and way == inner[other]:
                touches = flats[max(k, other)][0] == flats[min(k, other)][1] + 1
                kind = way if touches and lengths[k] <= 2 * lengths[other] else 0
        ways[a:b] = kind
    # Rounding interrupts a plateau by small steps now and then.
    edges = [0, *itertools.chain(*flats), len(curve.steps) - 1]
    for a, b in zip(edges[::2], edges[1::2], strict=True) if flats else ():
        if not breaks[a:b].any() and np.ptp(curve.values[a : b + 1]) <= curve.rounding:
            ways[a:b] = 0


def _block_course(curve: Curve, total: int) -> _Course:
    """The phases of the medians of up to 64 blocks of steps."""
    steps, values = curve[:2]
    count = min(64, len(steps) // 8)
    bounds = np.linspace(0, len(steps), count + 1).astype(int)
    blocks = [values[a:b] for a, b in itertools.pairwise(bounds)]
    medians = np.array([np.median(block) for block in blocks])
    # A block of 64 steps of noise has a median with an eighth of its standard deviation.
    least = max(float(np.median([np.std(block) for block in blocks])) / 2, 0.02 * float(np.ptp(medians)))
    if np.ptp(medians) <= least:
        return (Phase("stable", 0, total),), (), ()
    pivots = _turns(medians, lambda a, b: abs(a - b) > least)
    ways = np.zeros(count, int)
    for a, b in itertools.pairwise(pivots):
        ways[a : b + 1] = np.sign(medians[b] - medians[a])
    for pivot in pivots:  # a plateau: the blocks around a turn that are as high as it
        away = np.flatnonzero(np.abs(medians - medians[pivot]) > least)
        a, b = max([-1, *away[away < pivot]]) + 1, min([count, *away[away > pivot]])
        if b - a >= 0.15 * count:
            ways[a:b] = 0
    cuts = np.flatnonzero(np.diff(ways)) + 1
    return _phases(ways, steps[bounds[:-1]], cuts, total), (), ()
