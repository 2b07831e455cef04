"""The phases, restarts, jumps and peak of a schedule, read off its values."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError
from ..fields import Domain, validate
from ..schedules.base import Schedule, as_schedule
from ..schedules.combine import Noise
from ..schedules.structure import axes, check_single, marks

_TOTAL = Domain("an integer, 1 or more", lambda x: np.ndim(x) == 0 and x >= 1, counts=True, whole=True)
_DENSE = (2**20, 2**24 + 1)  # below these horizons every step is evaluated, of known and of unknown marks
_CALLS = (2**12, 2**14, 2**16, 2**18, 2**20)  # the numbers of steps in one call. Each is one compiled program
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
    """Values at rising steps.

    Attributes:
      steps, values: the evaluated steps, and float64 values.
      eps: the machine epsilon of the type in which the values were computed.
      complete: whether the steps include every jump, turn and edge of a plateau.
    """

    steps: np.ndarray
    values: np.ndarray
    eps: float = 0.0
    complete: bool = True

    @property
    def rounding(self) -> float:
        """Differences up to this are rounding."""
        return 16 * self.eps * float(np.fmax.reduce(np.abs(self.values)))


class Reading(NamedTuple):
    """The values of a schedule at steps 0 to `total_steps`, and its outline.

    Attributes:
      clean: the schedule without the noise of `Noise`.
      raw: the values of the schedule itself.
      course: the finite values of `clean`.
      smooth: the course without its spikes, and without a jump after the last update.
      spikes: the indices of the spikes in `course`.
      noisy: whether single steps of `smooth` mean nothing, because it is noise or was not sampled finely enough.
      outline: the outline, of values that are finite.
    """

    clean: Schedule
    raw: Curve
    course: Curve
    smooth: Curve
    spikes: list[int]
    noisy: bool
    outline: Outline


def outline(schedule: Any, total_steps: int) -> Outline:
    """Returns the phases, restarts, jumps and peak of a schedule over a training of `total_steps`.

    Up to 2**20 steps every step is evaluated, and up to 2**24 steps of a callable. A longer horizon is sampled, and
    refined until each jump, turn and edge of a plateau is located exactly; events between two sampled steps may be
    missed. Noise that `Schedule.noise` adds is left out of phases, restarts and jumps. For other noise, and for curves
    with more events than can be located, the phases are those of the medians of 64 blocks of steps, without restarts
    and jumps.

    Args:
      schedule: a schedule, a callable or a number; a single setting (unstack first).
      total_steps: the number of training steps, 1 or more.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.inspect import outline
      >>> [tuple(phase) for phase in outline(js.WarmupStableDecay(1.0, 10, 100, decay_steps=20), 100).phases]
      [('warmup', 0, 10), ('stable', 10, 80), ('decay', 80, 100)]
      >>> outline(js.CosineWarmRestarts(1.0, period=50), 150).restarts
      (50, 100)
    """
    return read("outline", *check("outline", schedule, total_steps)).outline


def check(owner: str, schedule: Any, total_steps: Any) -> tuple[Schedule, int]:
    """Returns the arguments of `owner` as a single concrete setting and an integer, or raises an error."""
    schedule = as_schedule(owner, "schedule", schedule)
    check_single(owner, schedule)
    return schedule, int(validate(owner, "total_steps", total_steps, _TOTAL))


def read(owner: str, schedule: Schedule, total: int) -> Reading:
    """Evaluates a schedule at steps 0 to `total`, and finds its outline."""
    clean = _without_noise(schedule)
    sampled = sample(owner, clean, total)
    has_noise = jax.tree.structure(clean) != jax.tree.structure(schedule)
    raw = sampled._replace(values=evaluate(owner, schedule, sampled.steps)[0]) if has_noise else sampled
    finite = np.isfinite(sampled.values)
    course = sampled._replace(steps=sampled.steps[finite], values=sampled.values[finite]) if finite.any() else sampled
    spikes = _spikes(course)
    values = course.values.copy()
    values[spikes] = values[spikes - 1]
    smooth = course._replace(values=values)
    if len(values) > 2 and smooth.steps[-2] == total - 1 and breaks(smooth)[-1]:
        values[-1] = values[-2]
    noisy = _is_noisy(smooth)
    return Reading(clean, raw, course, smooth, spikes.tolist(), noisy, _outline(raw, course, smooth, spikes, noisy))


# --- sampling --------------------------------------------------------------------------------------------------------


def evaluate(owner: str, schedule: Schedule, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the values at integer `steps` as float64, and the machine epsilon of their own type.

    Those of stacked settings have the shape (settings, steps).
    Raises errors that name `owner` for a callable that fails on an array, and for values of a wrong shape.
    """
    size = max((size for size in _CALLS if size <= len(steps)), default=_CALLS[0])  # less padding than steps
    padded = np.pad(steps.astype(np.dtype(jnp.result_type(int))), (0, -len(steps) % size), mode="edge")
    stacked = not axes(schedule) <= {0}
    found, eps = [], 0.0
    for start in range(0, len(padded), size):
        try:
            block = padded[start : start + size]
            values = _evaluate_stack(schedule, block) if stacked else schedule(block)
        except FieldError:
            raise
        except (jax.errors.JAXTypeError, ValueError) as error:  # an `if` on an array raises the latter
            instead = "write it with jax.numpy, and jnp.where for an if"
            note = " fails on an array of steps in a compiled function"
            raise FieldTypeError(owner, "schedule", schedule, instead, note=note) from error
        shape = values.shape[stacked:]
        if shape not in ((), (size,)):
            note = f" gives values of the shape {shape} for steps of the shape {(size,)}"
            raise FieldError(owner, "schedule", schedule, "write one that gives one value a step", note=note)
        eps = float(jnp.finfo(values.dtype).eps)
        values = np.asarray(values).astype(np.float64)
        found.append(values if shape else np.broadcast_to(values[..., None], (*values.shape, size)))
    return np.concatenate(found, axis=-1)[..., : len(steps)], eps


@jax.jit
def _evaluate_stack(stacked: Schedule, steps: Any) -> jax.Array:
    return jax.vmap(lambda schedule: schedule(steps))(stacked)


def _without_noise(schedule: Schedule) -> Schedule:
    """Replaces each `Noise` inside by the schedule that it is added to."""
    return jax.tree.map(
        lambda x: _without_noise(x.schedule) if isinstance(x, Noise) else x,
        schedule,
        is_leaf=lambda x: isinstance(x, Noise),
    )


def sample(owner: str, schedule: Schedule, last: int, dense: tuple[int, int] = _DENSE, points: int = 65) -> Curve:
    """Evaluates a schedule at enough of the steps 0 to `last` to locate its jumps, turns and plateaus.

    Every step below the first of `dense`, and below the second if the marks are unknown. A longer horizon is sampled,
    with up to `points` steps between two marks, and refined where something happens between two steps.
    """
    edges = None if last < dense[0] else marks(schedule, last)
    if edges is not None and len(edges) > _MOST_MARKS:
        edges = None
    if last < dense[edges is None]:
        steps = np.arange(last + 1)
        return Curve(steps, *evaluate(owner, schedule, steps))
    if edges is None:
        jitter = np.random.default_rng(0).integers(0, last // _GRID, _GRID)  # against aliasing with a period
        grid = np.arange(_GRID) * (last // _GRID) + jitter
    else:
        each = np.linspace(0, 1, max(8, min(points, _GRID // len(edges))))
        inner = edges[:-1, None] + np.diff(edges)[:, None] * each
        near = edges.astype(np.int64)[:, None] + np.arange(-4, 5)
        grid = np.append(inner.astype(np.int64), near)
    steps = np.unique(np.concatenate([np.clip(grid, 0, last), [0, 1, last - 1, last]]))
    return _refined(owner, schedule, Curve(steps, *evaluate(owner, schedule, steps)))


def _refined(owner: str, schedule: Schedule, curve: Curve) -> Curve:
    """Adds steps until no interval hides a jump, a turn, the edge of a plateau or the first value not finite."""
    for _ in range(64):
        finite = curve._replace(values=np.nan_to_num(curve.values, posinf=0.0, neginf=0.0))
        if _is_noisy(finite):
            return curve
        ends = np.array([*_pivots(finite)[1:-1], *itertools.chain(*_flats(finite))], int)
        gap, wanted = np.diff(curve.steps), breaks(finite)
        wanted[np.clip(np.concatenate([ends - 1, ends]), 0, len(wanted) - 1)] = True
        wide = np.flatnonzero(wanted & (gap > 1))
        if not len(wide):
            return curve
        if len(wide) > _MOST_INTERVALS or len(curve.steps) > 2 * _DENSE[0]:
            break
        start, gap = curve.steps[wide], gap[wide]
        inner = [start + gap // 8 * k + gap % 8 * k // 8 for k in range(1, 8)]
        more = np.setdiff1d(np.concatenate(inner), curve.steps)
        at = np.searchsorted(curve.steps, more)
        steps, values = (
            np.insert(curve.steps, at, more),
            np.insert(curve.values, at, evaluate(owner, schedule, more)[0]),
        )
        curve = curve._replace(steps=steps, values=values)
    return curve._replace(complete=False)


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


def _is_steep(curve: Curve, first: np.ndarray, width: int, factor: Any = _STEEP) -> np.ndarray:
    """Whether `width` intervals from each index `first` on are far steeper than those before and after them.

    The slopes of the logarithms count too: a fast exponential is steep only in its values. A slope that is not a number
    counts as steep.
    """
    at = np.clip(first[:, None] + np.arange(-1, width + 2), 0, len(curve.steps) - 1)
    steps, values, found = curve.steps[at], curve.values[at], np.ones(len(first), bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        for y in (values, np.log(np.where(values > 0, values, np.nan))):
            slopes = np.abs(np.diff(y)) / np.diff(steps)
            beside = np.nan_to_num(slopes[:, [0, -1]], posinf=0.0).max(axis=1)
            found &= ~(np.fmin.reduce(slopes[:, 1:-1], axis=1) <= factor * beside)
    return found


def breaks(curve: Curve) -> np.ndarray:
    """Returns whether each interval between two steps is far steeper than those beside it."""
    change = np.diff(curve.values)
    slope = np.pad(np.abs(change) / np.diff(curve.steps), 1)
    found = np.flatnonzero((np.abs(change) > curve.rounding) & ~(slope[1:-1] <= 1.5 * np.fmax(slope[:-2], slope[2:])))
    # A rise in the first step is a warmup of one step.
    found = found[(found > 0) | (change[found] < 0) | (curve.steps[1] > 1)] if len(change) > 1 else found[:0]
    before, here, after = np.sign(change[np.clip([found - 1, found, found + 1], 0, len(change) - 1)])
    reverses = (here == -before) & (here == -after)  # one step up within a decay
    steep = np.zeros(len(change), bool)
    steep[found] = _is_steep(curve, found, 1, np.where(reverses, 1.5, _STEEP))
    return steep


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
    return found[_is_steep(curve, found, 2)] + 1


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


def _outline(raw: Curve, course: Curve, smooth: Curve, spikes: np.ndarray, noisy: bool) -> Outline:
    total = int(raw.steps[-1])
    first, last = float(raw.values[0]), float(raw.values[np.searchsorted(raw.steps, total - 1, "right") - 1])
    updates = np.where(np.isfinite(raw.values) & (raw.steps < total), raw.values, -np.inf)
    peak = int(np.argmax(updates))
    if not np.isfinite(updates[peak]):
        return Outline((), (), (), 0, float("nan"), first, last)
    phases, restarts, at = (_block_phases(smooth, total), [], []) if noisy else _exact_course(smooth, total)
    # Every spike is a jump, and a jump back.
    jumps = [*(_jump(smooth, i) for i in at), *(_jump(course, i) for k in spikes for i in (k, k + 1))]
    taken = {*restarts, total}
    found = {jump.step: jump for jump in jumps if jump.step not in taken}
    ordered = tuple(found[step] for step in sorted(found))
    return Outline(phases, tuple(restarts), ordered, int(raw.steps[peak]), float(updates[peak]), first, last)


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


def _exact_course(curve: Curve, total: int) -> tuple[tuple[Phase, ...], list[int], list[int]]:
    """The phases, the steps of the restarts, and the indices of the jumps of a curve."""
    steps, values = curve[:2]
    if len(steps) < 2 or np.ptp(values) <= curve.rounding:
        return (Phase("stable", 0, total),), [], []
    jumps = breaks(curve) & (np.diff(steps) == 1)
    pivots = _pivots(curve)
    ways = np.zeros(len(steps) - 1, int)
    for a, b in itertools.pairwise(pivots):
        ways[a:b] = np.sign(values[b] - values[a])
    _mark_plateaus(curve, ways, jumps)
    for i in np.flatnonzero(jumps):  # the step before a jump belongs to the phase before it
        ways[i] = ways[i - 1] if i else ways[1]
    seams = jumps[:-1] & ~((ways[:-1] == ways[1:]) & (ways[:-1] == np.sign(np.diff(values))[:-1]))
    cuts = np.flatnonzero((np.diff(ways) != 0) | seams) + 1
    up, turns = _restarts(curve, pivots, jumps)
    at = np.flatnonzero(jumps)
    large = set((at[_large(curve, at)] + 1).tolist()) - up
    turns = {i for i in turns if steps[i] < total} - large
    restarts = steps[sorted(up | turns if len(turns) > 1 else up)]
    return _phases(ways, steps, cuts, total), restarts[restarts < total].tolist(), sorted(large)


def _restarts(curve: Curve, pivots: list[int], jumps: np.ndarray) -> tuple[set[int], set[int]]:
    """The indices of the restarts that are jumps, and of the smooth turns."""
    values, found, turns = curve.values, set(), set()
    for before, valley, top in zip(pivots, pivots[1:], pivots[2:], strict=False):
        if not values[before] > values[valley] < values[top]:
            continue
        left = valley + int(np.argmax(values[valley : top + 1] != values[valley])) - 1  # the last step of the bottom
        rest = values[left + 1 :]
        if not jumps[left]:
            turns.add(left)
        # A jump up to a level that stays is no restart: another decay, or at least its first step, must follow.
        elif turns or found or top < len(values) - 1 or len(rest) <= 2 or np.any(rest < rest[0]):
            found.add(left + 1)
    return found, turns


def _mark_plateaus(curve: Curve, ways: np.ndarray, jumps: np.ndarray) -> None:
    """Sets `ways` to 0 on plateaus, and to the way of the stairs on those that are stairs of a decay or of a rise."""
    flats = _flats(curve)
    moves = np.pad(np.sign(np.diff(curve.values)).astype(int) * jumps, 1)
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
        if not jumps[a:b].any() and np.ptp(curve.values[a : b + 1]) <= curve.rounding:
            ways[a:b] = 0


def _block_phases(curve: Curve, total: int) -> tuple[Phase, ...]:
    """The phases of the medians of up to 64 blocks of steps."""
    steps, values = curve[:2]
    count = min(64, len(steps) // 8)
    bounds = np.linspace(0, len(steps), count + 1).astype(int)
    blocks = [values[a:b] for a, b in itertools.pairwise(bounds)]
    medians = np.array([np.median(block) for block in blocks])
    # A block of 64 steps of noise has a median with an eighth of its standard deviation.
    least = max(float(np.median([np.std(block) for block in blocks])) / 2, 0.02 * float(np.ptp(medians)))
    if np.ptp(medians) <= least:
        return (Phase("stable", 0, total),)
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
    return _phases(ways, steps[bounds[:-1]], cuts, total)
