"""What a curve does, read off its values: its phases, its restarts, its jumps and its peak."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced
from ..schedules.base import Schedule, as_schedule
from ..schedules.structure import axes, marks

_DENSE = 2**20
"""A horizon below it is read, and kept, at every step."""

_READ = 2**24 + 1
"""A horizon below it is read at every step too, about a second; those steps are kept that tell the others."""

_BLOCK = 2**18
"""Steps that are read in one call then; always as many, for there to be one program and little memory."""

_GRID = 2**16
"""Steps of the grid of a longer horizon."""

_BATCH = 2**12
"""Steps that are read in one call when a grid is made finer; always as many, for there to be one program."""

_MARKS = 2**16
"""More steps where the formula changes are not read one by one."""

_FLIPS = 0.25
"""The share of the moves that go against the move before, from which on they are noise."""

_STEEP = 4.0
"""A jump is this many times as steep as the curve beside it. The steepest of smooth starts, 1 - sqrt(u), is 2.4."""

_LARGE = 0.01
"""The share of the range of the values from which on a leap is told; small values leap by a fifth of their own."""

_TURN = 1e-3
"""The share of the range of the values that a turn goes back at least."""

_SHORTEST = 0.01
"""The share of the horizon that a plateau lasts at least."""


class Phase(NamedTuple):
    """A stretch of steps `start` to `stop - 1` in which a curve does one thing."""

    name: str
    start: int
    stop: int


class Jump(NamedTuple):
    """A step whose value, `after`, is not near the value `before` it, at step `step - 1`."""

    step: int
    before: float
    after: float


class Outline(NamedTuple):
    """What a schedule does in the steps `0 ... total_steps - 1` of a training; `outline` makes it.

    Args:
      phases: all steps, in order. "warmup" is the first rise, "rise" a later one, "decay" a fall (stairs down are
        one), "stable" a plateau. A value that stands alone for one step is in the phase around it.
      restarts: the steps at which the value jumps up again after a decay, or turns up again if it does so more than
        once: one smooth fall and rise, as that of a momentum, is no restart.
      jumps: the other steps that do not follow from the step before; both steps of a value that stands alone.
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
    """The values of a schedule at sorted `steps`, from 0 to `total_steps`; `eps` is the rounding of their type, and
    `sure` whether the steps at which something happens are among them."""

    steps: np.ndarray
    values: np.ndarray
    eps: float
    sure: bool = True

    @property
    def total_steps(self) -> int:
        return int(self.steps[-1])


def outline(schedule: Any, total_steps: int) -> Outline:
    """What a schedule does in a training of `total_steps`: where it warms up, stays, decays, restarts and jumps.

    It is read off the values, so it works for every schedule. Up to 2**24 steps each one is read; of a longer horizon
    a grid, all steps near those that the hyperparameters speak of, and ever more steps where something happens, until
    its step is known; what happens only between the steps of the grid is not seen. Where random noise hides the steps,
    the phases are those of the medians of 64 stretches, and restarts are known to their stretch. So the phases are
    where more happens than can be followed, as many thousands of restarts beyond 2**24 steps; no restarts and no jumps
    are told then, and no restarts of noise beyond 2**20 steps.

    Args:
      schedule: a schedule, a callable or a number; of stacked settings one.
      total_steps: the steps of the training, 1 or more.

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
    return describe(read("outline", schedule, total_steps))


# --- reading ---------------------------------------------------------------------------------------------------------


def check_total(owner: str, total_steps: Any) -> int:
    """`total_steps` as an integer, or an error that says what to write."""
    if isinstance(total_steps, bool) or not isinstance(total_steps, (int, np.integer)):
        hint = f": write {int(total_steps)}" if isinstance(total_steps, float) and total_steps.is_integer() else ""
        hint = ", and Timeline(total_steps, ...) turns texts into steps" if isinstance(total_steps, str) else hint
        raise TypeError(f"{owner}: total_steps={format_value(total_steps)}; it must be an integer, 1 or more{hint}.")
    most = jnp.iinfo(jnp.result_type(int)).max
    if total_steps < 1:
        raise ValueError(f"{owner}: total_steps={total_steps}; write the number of updates, 1 or more.")
    if total_steps > most:
        hint = "set jax_enable_x64 to count further, or count in larger units"
        raise ValueError(f"{owner}: total_steps={total_steps}; it must be at most {most:_}: {hint}.")
    return int(total_steps)


def check_schedule(owner: str, schedule: Any) -> Schedule:
    """`schedule` as one setting that can be looked at, or an error that says what to write."""
    schedule = as_schedule(owner, "schedule", schedule)
    if any(map(is_traced, jax.tree.leaves(schedule))):
        raise TypeError(
            f"{owner}: schedule={format_value(schedule)} is traced; call {owner} outside of jit, vmap and grad."
        )
    if not axes(schedule) <= {0}:
        which = f"write [{owner}(s, total_steps) for s in unstack(schedule)]"
        raise ValueError(f"{owner}: schedule={format_value(schedule)} is several settings, stacked; {which}.")
    return schedule


def evaluate(schedule: Schedule, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """The values at integer `steps`, as float64, and the rounding of the type that they had. The steps are filled up
    to a power of two, for there to be few programs."""
    size = max(1024, 1 << int(len(steps) - 1).bit_length())
    padded = np.full(size, steps[-1], np.dtype(jnp.result_type(int)))
    padded[: len(steps)] = steps
    values = schedule(padded)
    if values.shape not in ((), padded.shape):
        given = f"{values.shape} for steps of the shape {padded.shape}"
        raise ValueError(f"{format_value(schedule)} gives values of the shape {given}; it must give one value a step.")
    eps = float(jnp.finfo(values.dtype).eps)
    return np.broadcast_to(np.asarray(values).astype(np.float64), padded.shape)[: len(steps)], eps


def read(owner: str, schedule: Any, total_steps: Any) -> Curve:
    """The values of all steps, or of those that tell what the others are."""
    schedule, total = check_schedule(owner, schedule), check_total(owner, total_steps)
    if total < _DENSE:
        steps = np.arange(total + 1)
        return Curve(steps, *evaluate(schedule, steps))
    edges = marks(schedule, total)
    if edges is not None and len(edges) < _MARKS:
        return _read_pieces(schedule, total, edges)
    if total < _READ:
        return _read_all(schedule, total)
    # Jittered, so that no period stands still on it
    grid = np.arange(_GRID) * (total // _GRID) + np.random.default_rng(0).integers(0, total // _GRID, _GRID)
    steps = np.unique(np.concatenate([grid, [0, 1, total - 1, total]]))
    return _refined(schedule, Curve(steps, *evaluate(schedule, steps)))


def _read_pieces(schedule: Schedule, total: int, edges: np.ndarray) -> Curve:
    """The curve at the steps beside the marks and at some between them."""
    inner = edges[:-1, None] + np.diff(edges)[:, None] * np.linspace(0, 1, max(8, min(65, _GRID // len(edges))))
    near = np.floor(edges).astype(np.int64)[:, None] + np.arange(-4, 5)
    steps = np.unique(np.concatenate([np.floor(inner).astype(np.int64).ravel(), near.ravel(), [total - 1, total]]))
    steps = steps[(steps >= 0) & (steps <= total)]
    return _refined(schedule, Curve(steps, *evaluate(schedule, steps)))


def _refined(schedule: Schedule, curve: Curve) -> Curve:
    """The curve with more steps where a jump, a turn or the edge of a plateau lies between two of them."""
    for _ in range(64):
        wide = _wide(curve)
        if not len(wide):
            return curve
        if len(wide) > 4 * _BATCH or len(curve.steps) > 2 * _DENSE:
            break
        curve = _finer(schedule, curve, wide)
    return curve._replace(sure=False)


def _read_all(schedule: Schedule, total: int) -> Curve:
    """The curve of all steps, without most of those between which it goes evenly."""
    cell = 1 << int(total // _GRID).bit_length()
    offsets = np.arange(_BLOCK, step=cell)
    random = np.random.default_rng(0)
    parts, eps, told = [], 0.0, 0
    for start in range(0, total + 1, _BLOCK - 8):  # what happens at the end of one is in the midst of the next
        steps = np.minimum(np.arange(start, start + _BLOCK), total)
        values, eps = evaluate(schedule, steps)
        known = np.isfinite(values)
        grid, tells = np.zeros(_BLOCK, bool), np.zeros(_BLOCK, bool)
        grid[[0, 1, -1, *(offsets + random.integers(0, cell, len(offsets)))]] = True
        grid[steps == total - 1] = True
        grid[[np.argmax(np.where(known, values, -np.inf)), np.argmin(np.where(known, values, np.inf))]] = True
        _add(grid, np.flatnonzero(known[1:] != known[:-1]), 0, 1)
        if told <= _DENSE:
            tells = _telling(np.where(known, values, 0.0), eps, cell)
            told += np.count_nonzero(tells)
        keep = grid | tells
        parts.append((steps[keep], values[keep], grid[keep]))
    steps, values, grid = (np.concatenate(part) for part in zip(*parts, strict=True))
    if told > _DENSE:
        steps, values = steps[grid], values[grid]
    steps, order = np.unique(steps, return_index=True)
    return Curve(steps, values[order], eps, bool(told <= _DENSE))


def _telling(values: np.ndarray, eps: float, cell: int) -> np.ndarray:
    """Which steps of a block may be a jump, a turn, a value that stands alone, the edge of a plateau or the highest or
    lowest of its cell, and those beside them. Of noise none."""
    keep = np.zeros(len(values), bool)
    change = np.diff(values)
    size = np.abs(change)
    moves = np.flatnonzero(size > 16 * eps * np.maximum(np.abs(values[1:]), np.abs(values[:-1])))
    turns = np.flatnonzero(np.diff(np.sign(change[moves])))
    if len(turns) > max(_FLIPS * len(moves), 1024):
        return keep
    for side in (moves[turns] + 1, moves[turns + 1]):
        _add(keep, side, -4, 4)  # so many that a wave is not taken for noise
    beside = np.maximum(np.append(0.0, size[:-1]), np.append(size[1:], 0.0))
    _add(keep, np.flatnonzero((size > 1.5 * beside) & (size > 16 * eps * np.max(np.abs(values)))), -1, 2)
    ends = np.flatnonzero(change)
    ends = ends[(np.diff(ends, prepend=-cell) >= cell) | (np.diff(ends, append=len(values) + cell) >= cell)]
    _add(keep, ends, 0, 1)
    cells, first = values.reshape(-1, cell), np.arange(0, len(values), cell)
    for extremes in (cells.argmin(axis=1), cells.argmax(axis=1)):
        _add(keep, first + extremes, -1, 1)
    return keep


def _add(keep: np.ndarray, at: np.ndarray, low: int, high: int) -> None:
    for offset in range(low, high + 1):
        keep[np.clip(at + offset, 0, len(keep) - 1)] = True


def _finer(schedule: Schedule, curve: Curve, wide: np.ndarray) -> Curve:
    """The curve with seven steps more in each of the intervals."""
    start, gap = curve.steps[wide], np.diff(curve.steps)[wide]
    inner = np.unique(np.concatenate([start + gap // 8 * k + gap % 8 * k // 8 for k in range(1, 8)]))
    more = np.setdiff1d(inner, curve.steps, assume_unique=True)
    for low in range(0, len(more), _BATCH):
        batch = more[low : low + _BATCH]
        filled = np.pad(batch, (0, _BATCH - len(batch)), mode="edge")
        values = evaluate(schedule, filled)[0][: len(batch)]
        where = np.searchsorted(curve.steps, batch)
        curve = Curve(np.insert(curve.steps, where, batch), np.insert(curve.values, where, values), curve.eps)
    return curve


def _wide(curve: Curve) -> np.ndarray:
    """The intervals, by their first index, inside of which a jump, a turn or the edge of a plateau hides."""
    known = _finite(curve)
    if len(known.steps) < 3 or is_blurred(known):
        return np.array([], np.int64)
    pivots = np.array(_pivots(known)[1:-1], int)
    edges = np.array([i for pair in _flats(known) for i in pair], int)
    here = np.concatenate([pivots - 1, pivots, edges - 1, edges])
    wanted = _breaks(known)
    wanted[np.clip(here, 0, len(wanted) - 1)] = True
    wide = np.flatnonzero(wanted & (np.diff(known.steps) > 1))
    found = np.searchsorted(curve.steps, known.steps[wide])
    return found[np.diff(curve.steps)[found] > 1]


# --- describing ------------------------------------------------------------------------------------------------------


def describe(curve: Curve) -> Outline:
    """The outline of a curve that has been read. What is not finite is passed over."""
    total = curve.total_steps
    first, last = float(curve.values[0]), float(curve.values[np.searchsorted(curve.steps, total - 1, "right") - 1])
    raw = _finite(curve)
    updates = raw.values[raw.steps < total]
    if not len(updates):
        return Outline((), (), (), 0, float("nan"), first, last)
    peak, alone = int(np.argmax(updates)), spikes(raw)
    known = calm(raw)
    if len(known.steps) > 2 and known.steps[-2] == total - 1 and _breaks(known)[-1]:
        # A jump to what comes after the training is none of it.
        known = known._replace(values=np.append(known.values[:-1], known.values[-2]))
    phases, restarts, jumps = (_through_noise if is_blurred(known) else _exactly)(known, total)
    if not curve.sure:
        restarts = jumps = ()
    if len(alone):
        at = {jump.step: jump for jump in (*jumps, *(_jump_at(raw, i) for k in alone for i in (k, k + 1)))}
        jumps = tuple(at[step] for step in sorted(at) if step < total and step not in restarts)
    return Outline(phases, restarts, jumps, int(raw.steps[peak]), float(updates[peak]), first, last)


def _jump_at(curve: Curve, i: int) -> Jump:
    return Jump(int(curve.steps[i]), float(curve.values[i - 1]), float(curve.values[i]))


def _finite(curve: Curve) -> Curve:
    known = np.isfinite(curve.values)
    return curve if known.all() else curve._replace(steps=curve.steps[known], values=curve.values[known])


def _floor(curve: Curve) -> float:
    """What is smaller is rounding."""
    return 16 * curve.eps * float(np.max(np.abs(curve.values)))


def _is_flat(curve: Curve) -> bool:
    return float(np.ptp(curve.values)) <= _floor(curve)


def is_blurred(curve: Curve) -> bool:
    """Whether single steps tell nothing: some may be missing, or up and down follow one another nearly at every step,
    which no smooth curve does and no long cycle."""
    noisy = not _is_flat(curve) and _flips(curve) > _FLIPS and len(_pivots(curve, noise=0.0)) > 18
    return noisy or not curve.sure


def _flips(curve: Curve) -> float:
    """The share of the moves that go against the move before."""
    values = curve.values
    change, size = np.diff(values), np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    moves = np.sign(change[np.abs(change) > 16 * curve.eps * size])
    return int(np.count_nonzero(np.diff(moves))) / len(moves) if len(moves) > 16 else 0.0


def _noise(curve: Curve) -> float:
    """The standard deviation of what is neither smooth nor rare, as kinks and jumps are: from second differences."""
    if np.any(np.diff(curve.steps) > 1) or _flips(curve) < 0.05:
        return 0.0
    return float(np.quantile(np.abs(np.diff(curve.values, 2)), 0.7)) / 2.54


def _breaks(curve: Curve) -> np.ndarray:
    """Whether each interval is far steeper than those beside it, by its difference and by its ratio too (a fast
    exponential is steep beside what comes after it)."""
    steps, values = curve[:2]
    if len(steps) < 3:
        return np.zeros(len(steps) - 1, bool)
    width, change = np.diff(steps), np.diff(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.diff(np.log(np.where(values > 0, values, np.nan)))
    steep = _stands_out(change / width) & _stands_out(ratio / width)
    steep &= np.abs(change) > max(_floor(curve), 4 * _noise(curve))
    steep[0] &= bool(change[0] < 0 or width[0] > 1)  # up from the first step is a warmup of one step
    return steep


def _stands_out(slope: np.ndarray) -> np.ndarray:
    known = np.nan_to_num(slope, posinf=0.0, neginf=0.0)
    before, after = np.concatenate([[0.0], known[:-1]]), np.concatenate([known[1:], [0.0]])
    beside = np.maximum(np.abs(before), np.abs(after))
    against = (before * known < 0) & (after * known < 0)  # up in the midst of a decay
    return ~(np.abs(slope) <= np.where(against, 1.5, _STEEP) * beside)


def spikes(curve: Curve) -> np.ndarray:
    """The indices of the values that stand alone: the curve leaps there, and back at the very next step. In noise the
    leap is far larger than all others."""
    steps, values = curve[:2]
    if len(steps) < 3:
        return np.array([], int)
    change = np.diff(values)
    size, width = np.abs(change), np.diff(steps)
    least = np.minimum(size[:-1], size[1:])
    large = np.minimum(_LARGE * float(np.ptp(values)), 0.2 * np.max(np.abs([values[:-2], values[1:-1]]), axis=0))
    back = (change[:-1] * change[1:] < 0) & (width[:-1] == 1) & (width[1:] == 1)
    found = np.flatnonzero(back & (least > np.maximum(large, max(_floor(curve), 10 * _noise(curve)))))
    if not len(found):
        return found
    if np.count_nonzero(change) > 0.25 * len(change) and is_blurred(curve):
        top = found[[np.argmax(least[found])]]
        others = np.delete(size, [top[0], top[0] + 1])
        return top[least[top] > _STEEP * np.max(others, initial=0.0)] + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(np.diff(np.log(np.where(values > 0, values, np.nan))))
    for slope in (size / width, ratio / width):  # beside a fast exponential its first step is none
        padded = np.nan_to_num(np.concatenate([[0.0], slope, [0.0]]), posinf=0.0)
        beside = np.maximum(padded[found], padded[found + 3])
        found = found[~(np.fmin(slope[found], slope[found + 1]) <= _STEEP * beside)]
    return found + 1


def calm(curve: Curve) -> Curve:
    """The curve without the values that stand alone."""
    curve = _finite(curve)
    alone = spikes(curve)
    values = curve.values.copy()
    values[alone] = values[alone - 1]
    return curve._replace(values=values) if len(alone) else curve


def _pivots(curve: Curve, noise: float | None = None) -> list[int]:
    """The first index, those at which the curve turns back by more than a share of its range, and the last one."""
    noise = 10 * _noise(curve) if noise is None else noise
    least, floor = max(_TURN * float(np.ptp(curve.values)), noise), max(4 * _floor(curve), noise)

    def far(a: float, b: float) -> bool:
        """Small values may turn by less: by half of their own size."""
        return abs(a - b) > min(least, max(0.5 * max(abs(a), abs(b)), floor))

    return _turns(curve.values, far)


def _turns(values: np.ndarray, far: Callable[[Any, Any], bool]) -> list[int]:
    """The first index, the lows and highs between which the values go up and down by as much as `far` tells, and the
    last index."""
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
    return [*pivots, len(values) - 1]


def _flats(curve: Curve) -> list[tuple[int, int]]:
    """The plateaus, as the indices of their first and their last step."""
    steps, values = curve[:2]
    still = np.concatenate([[0], (np.diff(values) == 0).astype(np.int8), [0]])
    starts, stops = np.flatnonzero(np.diff(still) == 1), np.flatnonzero(np.diff(still) == -1)
    length = steps[stops] - steps[starts]
    long = (length >= 2) & (length >= _SHORTEST * steps[-1])
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))


def _exactly(curve: Curve, total: int) -> tuple[tuple[Phase, ...], tuple[int, ...], tuple[Jump, ...]]:
    steps, values = curve[:2]
    if len(steps) < 2 or _is_flat(curve):
        return (Phase("stable", 0, total),), (), ()
    breaks = _breaks(curve) & (np.diff(steps) == 1)
    pivots = _pivots(curve)
    valleys, leaps = _valleys(curve, pivots, breaks)
    ways = np.zeros(len(steps) - 1, int)
    for a, b in itertools.pairwise(pivots):
        ways[a:b] = np.sign(values[b] - values[a])
    _lay_flats(curve, ways, breaks)
    for i in np.flatnonzero(breaks):  # the step before a jump belongs to what was before
        ways[i] = ways[i - 1] if i else ways[1]
    moves = np.sign(np.diff(values))
    seams = breaks[:-1] & ~((ways[:-1] == ways[1:]) & (ways[:-1] == moves[:-1]))
    cuts = np.flatnonzero((np.diff(ways) != 0) | seams) + 1
    names = _names([int(ways[i]) for i in (0, *cuts)])
    ends = [0, *steps[cuts].tolist(), total]
    phases = tuple(Phase(name, a, b) for name, (a, b) in zip(names, itertools.pairwise(ends), strict=True))
    wide = _LARGE * float(np.ptp(values))
    jumps = tuple(
        Jump(int(steps[i + 1]), float(values[i]), float(values[i + 1]))
        for i in np.flatnonzero(breaks).tolist()
        if i not in leaps and abs(values[i + 1] - values[i]) > min(wide, 0.2 * max(abs(values[i]), abs(values[i + 1])))
    )
    cliffs = {jump.step for jump in jumps}
    return phases, _restarts([(s, leap) for s, leap in valleys if s < total and s not in cliffs]), jumps


def _restarts(found: list[tuple[int, bool]]) -> tuple[int, ...]:
    """Of the steps, and whether there is a jump, those that count: a single smooth turn does not."""
    turns = sum(not leap for _, leap in found)
    return tuple(step for step, leap in found if leap or turns > 1)


def _valleys(curve: Curve, pivots: list[int], breaks: np.ndarray) -> tuple[list[tuple[int, bool]], set[int]]:
    """The steps at which the value rises again and whether it jumps there, and the intervals of these jumps."""
    steps, values = curve[:2]
    found: list[tuple[int, bool]] = []
    leaps: set[int] = set()
    for before, valley, top, *_ in zip(pivots, pivots[1:], pivots[2:], strict=False):
        if not values[before] > values[valley] < values[top]:
            continue
        left = valley + int(np.argmax(values[valley : top + 1] != values[valley])) - 1  # the last step of the bottom
        if not breaks[left]:
            found.append((int(steps[left]), False))
            continue
        # To jump up and stay there is no restart: after it comes another decay, or its first steps at the least.
        rest = values[left + 1 :]
        stays = top == len(values) - 1 and len(rest) > 2 and bool(np.all(rest >= rest[0]))
        if not stays or found:
            found.append((int(steps[left + 1]), True))
            leaps.add(left)
    return found, leaps


def _lay_flats(curve: Curve, ways: np.ndarray, breaks: np.ndarray) -> None:
    """Mark the plateaus in `ways`; those between two jumps down, or two up, are the stairs of a decay or a rise."""
    steps, values = curve[:2]
    flats = _flats(curve)
    moves = np.sign(np.diff(values)).astype(int) * breaks
    sides = [(moves[a - 1] if a else 0, moves[b] if b < len(moves) else 0) for a, b in flats]
    stair = [before if before == after else 0 for before, after in sides]
    lengths = [int(steps[b] - steps[a]) for a, b in flats]
    for k, (a, b) in enumerate(flats):
        kind = stair[k]
        for other, way in ((k + 1, sides[k][1]), (k - 1, sides[k][0])):
            # The first and the last stair have a neighbour on one side only.
            if kind or not 0 <= other < len(flats) or way != stair[other]:
                continue
            touches = flats[other][0] == b + 1 if other > k else flats[other][1] == a - 1
            kind = way if touches and lengths[k] <= 2 * lengths[other] else kind
        ways[a:b] = kind
    # Between plateaus of one height there is only the drift that rounding makes a stair of now and then.
    starts, stops = [a for a, _ in flats], [b for _, b in flats]
    for a, b in zip([0, *stops], [*starts, len(steps) - 1], strict=True) if flats else ():
        if not breaks[a:b].any() and np.ptp(values[a : b + 1]) <= _floor(curve):
            ways[a:b] = 0


def _names(ways: list[int]) -> list[str]:
    names: list[str] = []
    for way in ways:
        begun = any(name != "stable" for name in names)
        names.append("stable" if way == 0 else "decay" if way < 0 else "rise" if begun else "warmup")
    return names


# --- through noise ---------------------------------------------------------------------------------------------------


def _through_noise(curve: Curve, total: int) -> tuple[tuple[Phase, ...], tuple[int, ...], tuple[Jump, ...]]:
    """As `_exactly`, of the medians of stretches of steps; a step is known to a stretch."""
    steps, values = curve[:2]
    count = min(64, len(steps) // 8)
    bounds = np.linspace(0, len(steps), count + 1).astype(int)
    middles = np.array([np.median(values[a:b]) for a, b in itertools.pairwise(bounds)])
    spread = float(np.quantile(np.abs(np.diff(values)), 0.8)) / np.sqrt(len(steps) / count)
    sampled = bool(np.any(np.diff(steps) > 1))
    spread *= 1 + sampled  # it may be waves and no noise
    if not curve.sure:  # of waves that are cut anywhere the medians differ without a course
        spread = max(spread, float(np.median([np.std(values[a:b]) for a, b in itertools.pairwise(bounds)])) / 8)
    least = max(4 * spread, 0.02 * float(np.ptp(middles)))
    if np.ptp(middles) <= least:
        return (Phase("stable", 0, total),), (), ()
    pivots = _turns(middles, lambda a, b: abs(a - b) > least)
    ways = np.zeros(count, int)
    for a, b in itertools.pairwise(pivots):
        ways[a : b + 1] = np.sign(middles[b] - middles[a])
    level = np.abs(middles[:, None] - middles[pivots]) <= least
    for pivot, near in zip(pivots, level.T, strict=True):
        # The stretches around a turn that are as high as it
        away = np.flatnonzero(~near)
        a, b = max([-1, *away[away < pivot]]) + 1, min([count, *away[away > pivot]])
        if b - a >= 0.15 * count:
            ways[a:b] = 0
    cuts = np.flatnonzero(np.diff(ways)) + 1
    names = _names([int(ways[i]) for i in (0, *cuts)])
    ends = [0, *steps[bounds[cuts]].tolist(), total]
    phases = tuple(Phase(name, a, b) for name, (a, b) in zip(names, itertools.pairwise(ends), strict=True))
    jumps, restarts = list(_jumps_through_noise(curve, total)), []
    for p in pivots[1:-1]:
        if middles[p] < middles[p - 1]:
            # The turn is in this stretch or beside it; where it is a jump, its step is known.
            a, b = bounds[max(p - 1, 0)], bounds[min(p + 3, count)] - 1
            leaps = [j for j in jumps if steps[a] < j.step <= steps[b] and j.after > j.before]
            restarts.append((leaps[0].step, True) if leaps else (int(steps[bounds[p]]), False))
            jumps = [j for j in jumps if j not in leaps]
    return phases, _restarts([(step, leap) for step, leap in restarts if leap or not sampled]), tuple(jumps)


def _jumps_through_noise(curve: Curve, total: int) -> tuple[Jump, ...]:
    """Where a step is far larger than those around it and the values stay there: noise comes back, a jump does not."""
    steps, values = curve[:2]
    change, side = np.abs(np.diff(values)), 16
    if len(change) <= 2 * side:
        return ()
    windows = np.lib.stride_tricks.sliding_window_view(change, 2 * side + 1)
    around = np.maximum(windows[:, :side].max(axis=1), windows[:, side + 1 :].max(axis=1))
    found = []
    for i in (np.flatnonzero(change[side:-side] > 2 * around) + side).tolist():
        before, after = np.median(values[i - side : i + 1]), np.median(values[i + 1 : i + 1 + side])
        stays = abs(after - before) > 0.5 * change[i] and steps[i + 1] == steps[i] + 1 < total
        found += [Jump(int(steps[i + 1]), float(values[i]), float(values[i + 1]))] * bool(stays)
    return tuple(found)
