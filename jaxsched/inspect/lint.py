"""What a careful reader would say about a schedule before a training is spent on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._errors import format_value
from ..schedules.base import Schedule
from ..schedules.combine import Cooldown, Hold, PerEpoch
from ..schedules.structure import Placed, marks, parts, span
from ..schedules.untuned import UntunedWarmup
from .finding import Finding
from .phases import (
    Curve,
    Jump,
    Outline,
    calm,
    check_schedule,
    check_total,
    describe,
    evaluate,
    is_blurred,
    read,
    spikes,
)

_LEAST = 0.01
"""The share of a height, or of the horizon, from which on something is said."""

_MOST_JUMPS = 3
"""Jumps, and values that stand alone, that are told one by one; of more the number is told."""

_PEAKS = ("peak_value", "peak_lr", "max_lr")
"""The fields that name the value at the top, here and at the peers."""


class _Look(NamedTuple):
    """All that the checks look at. `raw` is what was read, `curve` the same without the values that stand `alone` at
    their steps; `end` is the step and the value at which the curve comes to rest after its horizon, or None where it
    does not."""

    schedule: Schedule
    total: int
    raw: Curve
    curve: Curve
    alone: tuple[int, ...]
    outline: Outline
    parts: tuple[Placed, ...]
    end: tuple[int, float] | None
    b2: float | None

    @property
    def updates(self) -> np.ndarray:
        return self.raw.values[self.raw.steps < self.total]

    @property
    def height(self) -> float:
        return float(np.max(np.abs(self.updates)))

    def at(self, *steps: int) -> list[float]:
        return evaluate(self.schedule, np.array(steps, np.int64))[0].tolist()


_Findings = Iterator[Finding]


def lint(schedule: Any, total_steps: int, *, b2: float | None = None) -> list[Finding]:
    """What is wrong with a schedule for a training of `total_steps`, sorted by step; [] for a healthy one.

    The checks read the values, so they work for every schedule; a few read fields by their names as well. Up to 2**24
    steps they read every one; of a longer horizon those that `outline` reads, and a value that is wrong for a few steps
    may be missed there.
      not-finite: a value that is NaN or infinite.
      negative: a value below 0.
      all-zero: a rate that is 0 at every step.
      zero-start: a rate of 0 at step 0 that wastes updates: without a rise from it, or for more than a tenth of the
        rise (a warmup from 0 of less than 10 steps) or of a twentieth of the horizon. The one update that a longer
        warmup from 0 costs is usual, and not told.
      zero-stretch: a rate of 0 between others.
      jump: a step up or down that belongs to neither stairs down (or several up) nor a warm restart.
      spike: a value that stands alone: far above or far below for one update, and back at the next.
      peak: a `peak_value` that is never reached, for the horizon ends before.
      warmup: a rise that is longer than all that comes after it.
      short-horizon: the schedule ends before the horizon: a warning if the rest of the rate is 0, a note if it is held
        above 0 for more than a tenth of the horizon.
      cut-off: a decay that the horizon ends above its end.
      overrun: pieces, cycles, a first stair or a `total_steps` that the horizon does not reach.
      constant: a decay that never changes the value.
      cut-cycle: a last cycle that the horizon ends before its value has come down: a warning if it is the last update
        that runs at its peak.
      momentum: a momentum of 1 or more.
      part-step: a length such as `warmup_steps=0.1`, below one step: a share was meant.
      b2: a warmup shorter than the `2 / (1 - b2)` steps in which Adam learns its second moment.

    Args:
      schedule: a schedule, a callable or a number; of stacked settings one.
      total_steps: the steps of the training, 1 or more.
      b2: Adam's, from 0 to below 1, or None for no check of it.

    Raises:
      TypeError, ValueError: as `outline`, and for a `b2` outside of its range.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.inspect import lint
      >>> lint(js.WarmupCosine(3e-4, warmup_steps=2_000, total_steps=100_000), total_steps=100_000)
      []
      >>> [(f.step, f.check) for f in lint(js.WarmupCosine(3e-4, 2_000, total_steps=100_000), total_steps=80_000)]
      [(80000, 'cut-off')]
      >>> print(*lint(js.PiecewiseConstant([50], [0.1, 0.5]), total_steps=100))
      warning at step 50: jump from 0.1 to 0.5; write a next piece that begins at 0.1, or a ramp to it

    References:
      Ma and Yarats (1910.04209) for `b2`.
    """
    schedule, total = check_schedule("lint", schedule), check_total("lint", total_steps)
    raw = read("lint", schedule, total)
    finite = bool(np.isfinite(raw.values).all())
    curve, alone = (calm(raw), raw.steps[spikes(raw)]) if finite else (raw, ())
    end = None if is_blurred(curve) else _rest(schedule, curve)
    look = _Look(
        schedule,
        total,
        raw,
        curve,
        tuple(map(int, alone)),
        describe(raw),
        tuple(parts(schedule, total)),
        end,
        _check_b2(b2),
    )
    for first in (_not_finite, _all_zero):  # after which nothing else is worth saying
        if found := list(first(look)):
            return found
    found = [finding for check in _CHECKS for finding in check(look)]
    return sorted(found, key=lambda finding: -1 if finding.step is None else finding.step)


def _check_b2(b2: Any) -> float | None:
    if b2 is None:
        return None
    if isinstance(b2, (str, bool)) or np.ndim(b2):
        raise TypeError(f"lint: b2={format_value(b2)}; b2 must be a number from 0 to below 1, such as 0.999.")
    if not 0 <= float(b2) < 1:
        raise ValueError(f"lint: b2={format_value(b2)}; b2 must be a number from 0 to below 1, such as 0.999.")
    return float(b2)


# --- what is looked at -----------------------------------------------------------------------------------------------


def _number(part: Schedule, name: str) -> float | None:
    """A field that is one number."""
    value = getattr(part, name, None)
    if value is None or isinstance(value, (str, bool)) or callable(value) or np.ndim(value):
        return None
    return float(np.asarray(value))


def _float(x: Any) -> float:
    return float(np.asarray(x))


def _rest(schedule: Schedule, curve: Curve) -> tuple[int, float] | None:
    """The step and the value at which the curve comes to rest after its horizon; None if it does not."""
    if marks(schedule, curve.total_steps) is None:
        return _sampled_rest(schedule, curve)
    end = span(schedule)
    if end is None:
        return None
    step = max(math.ceil(end), curve.total_steps)
    return step, float(evaluate(schedule, np.array([step]))[0][0])


def _sampled_rest(schedule: Schedule, curve: Curve) -> tuple[int, float] | None:
    """As `_rest`, of an opaque schedule. A value that fades until rounding ends it, as an exponential does, does not
    come to rest."""
    total, most = curve.total_steps, int(jnp.iinfo(jnp.result_type(int)).max)
    steps = np.unique([min(int(total * 2 ** (k / 2)), most) for k in range(1, 13)])
    steps = np.concatenate([[total], steps[steps > total]]).astype(np.int64)
    values, eps = evaluate(schedule, steps)
    end, still = float(values[-1]), values == values[-1]
    moving = np.flatnonzero(~still)
    if not len(moving):
        return total, end
    if len(steps) - moving[-1] < 4 or not np.isfinite(values).all():
        return None
    low, high = int(steps[moving[-1]]), int(steps[moving[-1] + 1])
    while high - low > 1:  # many steps at once: evaluate fills them up to as many anyway
        inner = np.unique([low + (high - low) * k // 1023 for k in range(1, 1024)])
        known = evaluate(schedule, inner)[0] == end
        high = int(inner[np.argmax(known)])
        low = int(inner[~known][-1]) if (~known).any() and inner[~known][-1] < high else low
    middle = evaluate(schedule, np.array([(total + high) // 2], np.int64))[0][0]
    fades = high > total + 1 and abs(middle - end) <= max(0.02 * abs(values[0] - end), 4 * eps * abs(end))
    return None if fades else (high, end)


def _first(look: _Look, holds: Callable[[np.ndarray], np.ndarray]) -> int | None:
    """The first step at which the values are so; between the steps that were read it is searched for."""
    steps, values = look.raw[:2]
    hit = np.flatnonzero(holds(values) & (steps < look.total))
    if not len(hit):
        return None
    low, high = int(steps[hit[0] - 1]) if hit[0] else -1, int(steps[hit[0]])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(np.array(look.at(middle)))[0] else (middle, high)
    return high


def _g(x: float) -> str:
    return f"{x:.4g}"


# --- values ----------------------------------------------------------------------------------------------------------


def _not_finite(look: _Look) -> _Findings:
    step = _first(look, lambda v: ~np.isfinite(v))
    if step is not None:
        says = f"the value is {look.at(step)[0]}: every parameter is lost from there on"
        yield Finding(step, "error", "not-finite", says, "write a formula that is finite at this step")


def _all_zero(look: _Look) -> _Findings:
    if not look.updates.any():
        says = f"the value is 0 at all {look.total} steps: nothing is learned"
        warms = any(_number(part.schedule, "warmup_steps") for part in look.parts)
        fix = "write fewer warmup_steps, or an init_value above 0" if warms else "write a value above 0"
        yield Finding(0, "error", "all-zero", says, fix)


def _negative(look: _Look) -> _Findings:
    floor = -4 * look.curve.eps * look.height
    step = _first(look, lambda v: v < floor)
    if step is not None:
        says = f"the value is {_g(look.at(step)[0])}: below 0 an optimizer climbs"
        fix = "write .clip(lo=0.0) behind the schedule"
        if not (look.updates > 0).any():
            fix = "write it without the minus sign: optax's learning rates are positive"
        yield Finding(step, "error", "negative", says, fix)


def _zero_start(look: _Look) -> _Findings:
    if look.updates[0] != 0 or look.outline.peak <= 0:
        return
    wasted, stop = _first(look, lambda v: v != 0) or look.total, _warmup_end(look)
    share, of = wasted / look.total, f"{look.total} steps"
    if stop > wasted:
        if 10 * wasted <= stop and 20 * wasted <= look.total:
            return
        if 10 * wasted > stop:
            share, of = wasted / stop, f"{stop} steps of warmup"
    updates = "first update has" if wasted == 1 else f"first {wasted} updates have"
    says = f"the {updates} a rate of 0, {100 * share:.2g}% of the {of}"
    fix = f"write an init_value above 0, such as {_g(look.outline.peak / 100)}"
    yield Finding(0, "warning", "zero-start", says, fix)


def _zero_stretch(look: _Look) -> _Findings:
    for phase in look.outline.phases[1:-1]:
        i = int(np.searchsorted(look.curve.steps, phase.start))
        if phase.name == "stable" and look.curve.values[i] == 0:
            says = f"the value is 0 for {phase.stop - phase.start} steps, up to step {phase.stop}: nothing is learned"
            yield Finding(phase.start, "warning", "zero-stretch", says, "write an end_value above 0, or no pause")


def _momentum(look: _Look) -> _Findings:
    if not any("momentum" in field.name for field in look.schedule._fields):
        return
    step = _first(look, lambda v: v >= 1)
    if step is not None:
        says = f"the momentum is {_g(look.at(step)[0])}: at 1 or more nothing is ever forgotten"
        yield Finding(step, "error", "momentum", says, "write a momentum below 1, such as 0.95")


# --- the course ------------------------------------------------------------------------------------------------------


def _is_stair(look: _Look, jump: Jump) -> bool:
    """Whether a jump leads from one plateau to the next, downwards or as one of several upwards."""
    if is_blurred(look.curve):
        return jump.after < jump.before
    i = int(np.searchsorted(look.curve.steps, jump.step))
    if not (_is_level(look, i - 1, -1) and (jump.step == look.total - 1 or _is_level(look, i, 1))):
        return False
    inside = any(p.name in ("warmup", "rise") and p.start < jump.step <= p.stop for p in look.outline.phases)
    return jump.after < jump.before or inside


def _is_level(look: _Look, i: int, way: int) -> bool:
    """Whether a plateau begins at index `i`, or ends there: one that lasts, or whose other side is a true change too. A
    slope so small that rounding makes stairs of it is none."""
    steps, values, eps = look.curve[:3]
    if not 0 <= i + way < len(steps) or values[i + way] != values[i]:
        return not 0 <= i + way < len(steps)
    others = np.flatnonzero((values[i:] if way > 0 else values[i::-1]) != values[i])
    if not len(others):
        return True
    away = i + way * int(others[0])
    if abs(int(steps[away] - steps[i])) > _LEAST * look.total:
        return True
    return abs(steps[away] - steps[away - way]) == 1 and abs(values[away] - values[i]) > 16 * eps * look.height


def _wrong_jumps(look: _Look) -> list[Jump]:
    """The jumps that belong neither to stairs nor to a value that stands alone."""
    sides = {step + way for step in look.alone for way in (0, 1)}
    return [jump for jump in look.outline.jumps if jump.step not in sides and not _is_stair(look, jump)]


def _jump(look: _Look) -> _Findings:
    found = _wrong_jumps(look)
    for jump in found[:_MOST_JUMPS]:
        says = f"jump from {_g(jump.before)} to {_g(jump.after)}"
        if len(found) > _MOST_JUMPS and jump is found[_MOST_JUMPS - 1]:
            says += f", and {len(found) - _MOST_JUMPS} more such jumps"
        fix = f"write a next piece that begins at {_g(jump.before)}, or a ramp to it"
        yield Finding(jump.step, "warning", "jump", says, fix)


def _spike(look: _Look) -> _Findings:
    for step in look.alone[:_MOST_JUMPS]:
        i = int(np.searchsorted(look.raw.steps, step))
        before, here, after = look.raw.values[i - 1 : i + 2]
        says = f"the value is {_g(here)} for one update, between {_g(before)} and {_g(after)}"
        if len(look.alone) > _MOST_JUMPS and step == look.alone[_MOST_JUMPS - 1]:
            says += f", and so {len(look.alone) - _MOST_JUMPS} times more"
        fix = "write pieces that meet: the one before it ends where the one after it begins"
        yield Finding(step, "warning", "spike", says, fix)


def _peak(look: _Look) -> _Findings:
    for part in look.parts:
        name = next((name for name in _PEAKS if (_number(part.schedule, name) or 0) > 0), None)
        if name is None:
            continue
        peak, last = _number(part.schedule, name) or 0.0, part.length - 1
        a, b, c = evaluate(part.schedule, np.array([max(last - 1, 0), last, last + 1], np.int64))[0]
        # Where it ends at the next step, the next piece begins at the peak.
        if max(b, c) >= (1 - _LEAST) * peak or not (b > a or last == 0):
            continue
        top = describe(read("lint", part.schedule, part.length)).peak
        if top >= (1 - _LEAST) * peak:
            continue
        warmup = _number(part.schedule, "warmup_steps")
        why = f"its warmup_steps={int(warmup)} do not end" if warmup else "its rise does not end"
        says = f"the value comes to {_g(top)} and never to {name}={_g(peak)}: {why} in {part.length} steps"
        fix = f"write a shorter warmup, such as {max(1, part.length // 10)} steps"
        yield Finding(part.start + part.length * part.unit - 1, "warning", "peak", says, fix)


def _warmup_end(look: _Look) -> int:
    """The step at which the first rise is over, 0 without one. One that never is, as that of RAdam's factor, is over
    where all but a twentieth is done."""
    rise = next((p for p in look.outline.phases if p.name != "stable"), None)
    if rise is None or rise.name != "warmup":
        return 0
    inside = look.curve.steps <= rise.stop
    steps, values = look.curve.steps[inside], look.curve.values[inside]
    done = int(steps[np.argmax(values >= 0.95 * np.max(values))])
    return done if done < 0.9 * rise.stop else rise.stop


def _warmup(look: _Look) -> _Findings:
    stop = _warmup_end(look)
    height = look.outline.peak - look.outline.first
    if any(jump.step <= stop and jump.after - jump.before > 0.5 * height for jump in _wrong_jumps(look)):
        return  # it is no rise
    if stop > look.total - stop and not list(_peak(look)):
        rest = look.total - stop
        says = f"the warmup takes {stop} of {look.total} steps, more than all that comes after it ({rest})"
        fix = f"write a shorter warmup, such as {max(1, look.total // 20)} steps"
        yield Finding(stop, "warning", "warmup", says, fix)


def _b2(look: _Look) -> _Findings:
    if look.b2 is None:
        return
    needed, stop = round(2 / (1 - look.b2)), _warmup_end(look)
    made = [_float(part.schedule.b2) for part in look.parts if isinstance(part.schedule, UntunedWarmup)]
    if stop + 1 >= 0.99 * needed or max(made, default=0.0) > look.b2 - 1e-6:  # step 0 counts too
        return
    has = f"the warmup takes {stop} steps" if stop else "there is no warmup"
    says = f"{has}, and Adam's b2={look.b2:g} asks for {needed}, 2 / (1 - b2)"
    fix = f"write a warmup of {needed} steps, or the schedule * untuned_warmup({look.b2:g})"
    if needed > look.total / 2:
        fix = f"write the schedule * untuned_warmup({look.b2:g}), or a longer training; of the values of b2, "
        fix += f"{_g(1 - 20 / max(look.total, 40))} asks for a tenth of the horizon"
    yield Finding(0, "warning", "b2", says, fix)


# --- the horizon -----------------------------------------------------------------------------------------------------


def _fix_end(look: _Look) -> str:
    own = _number(look.schedule, "total_steps")
    return f"a decay that ends at step {look.total}" + (f": total_steps={look.total}" if own else "")


def _short_horizon(look: _Look) -> _Findings:
    values = look.curve.values
    moves = np.flatnonzero(np.diff(values))
    if not len(moves) or is_blurred(look.curve):
        return
    i = int(moves[-1])
    start, rest = int(look.curve.steps[i + 1]), float(values[-1])
    if values[i + 1] > values[i] or look.total - start < max(2, _LEAST * look.total):
        return
    by_jump = i > 0 and values[i] == values[i - 1]
    held = look.total - start
    if rest == 0 or (0 < rest < 1e-3 * look.outline.peak and not by_jump):
        says = f"the value is {_g(rest)} from here on: the last {held} of {look.total} steps learn nothing"
        yield Finding(start, "warning", "short-horizon", says, f"write {_fix_end(look)}, or fewer steps")
    elif not by_jump and held > 0.1 * look.total:
        says = f"the decay ends, and the last {held} of {look.total} steps stay at {_g(rest)}"
        yield Finding(start, "note", "short-horizon", says, f"write {_fix_end(look)}, if that is not meant")


def _unreached(part: Placed) -> tuple[str, float, str] | None:
    """The first of the fields that the horizon does not come to: its name, its step and what is missed."""
    schedule, length = part.schedule, part.length
    for name in ("boundaries", "milestones", "knots"):
        table = [] if (given := getattr(schedule, name, None)) is None else [_float(x) for x in given]
        # What begins at the horizon is never used; a knot at it is the end of what is.
        beyond = [x for x in table if x >= length and (name != "knots" or x > length)]
        if beyond:
            return name, beyond[0], f"{len(beyond)} of {len(table)} {name} lie"
    for name in ("step_size", "decay_steps"):
        stair = _number(schedule, name) if name == "step_size" or schedule.structure().stairs is not None else None
        if stair is not None and stair >= length:
            return name, stair, "the first stair lies"
    name = "period" if hasattr(schedule, "period") else "up_steps + down_steps"
    cycle = [_number(schedule, field) or 0.0 for field in name.split(" + ")]
    if sum(cycle) > length:
        return name, sum(cycle), "the end of the first cycle lies"
    at = _number(schedule, "at") if isinstance(schedule, Cooldown) else None
    if at is not None and at >= length:
        return "at", at, "the cooldown lies"
    if isinstance(schedule, (Hold, PerEpoch)):
        name = "every" if isinstance(schedule, Hold) else "steps_per_epoch"
        held = math.ceil(_number(schedule, name) or 1)
        first, second = evaluate(schedule, np.array([0, held], np.int64))[0]
        if held >= length > 1 and first != second:
            return name, held, "the first change lies"
    return None


def _horizon(look: _Look) -> _Findings:
    """Pieces that are never reached; else a decay that is cut off; else a horizon of its own that is longer."""
    found = False
    for part in look.parts:
        missed = _unreached(part) if part.to_end else None
        if missed is not None:
            found = True
            name, step, what = missed
            where = part.start + int(step) * part.unit
            at = "at" if where == look.total else "beyond"
            says = f"{what} {at} the horizon of {look.total} steps ({type(part.schedule).__name__}: step {where})"
            fix = f"write {name} below {part.length}, or train for more than {where} steps"
            yield Finding(look.total, "warning", "overrun", says, fix)
    if found or list(_peak(look)):
        return
    phases, top = look.outline.phases, look.outline.peak
    value = float(look.curve.values[-1])
    step, rest = look.end or (look.total, value)
    above = value - rest > _LEAST * (top - rest) or value > 1.5 * rest > 0
    if phases[-1].name == "decay" and step > look.total and above:
        says = f"the decay from {_g(top)} is cut off at {_g(value)}, and would end at {_g(rest)}, at step {step}"
        yield Finding(look.total, "warning", "cut-off", says, f"write {_fix_end(look)}")
        return
    for part in look.parts:
        own = _number(part.schedule, "total_steps")
        if own is None or not part.to_end or own <= part.length:
            continue
        here, there = evaluate(part.schedule, np.array([part.length, int(own)], np.int64))[0]
        if abs(here - there) > _LEAST * look.height:
            name, gap = type(part.schedule).__name__, f"at {_g(here)} and not at {_g(there)}"
            says = f"the {name} has total_steps={int(own)}, and stops after {part.length}, {gap}"
            yield Finding(look.total, "warning", "overrun", says, f"write total_steps={part.length} in it")


def _constant(look: _Look) -> _Findings:
    decays = [type(p.schedule).__name__ for p in look.parts if "Decay" in type(p.schedule).__name__]
    if decays and np.ptp(look.curve.values) == 0 and not list(_horizon(look)):
        says = f"the value is {_g(look.outline.first)} at all {look.total} steps, although there is a {decays[0]}"
        fix = "write a decay_rate below 1, or an end_value below the first"
        yield Finding(None, "warning", "constant", says, fix)


def _cut_cycle(look: _Look) -> _Findings:
    restarts = look.outline.restarts
    if not restarts or is_blurred(look.curve):
        return
    steps, values = look.curve[:2]
    start = int(np.searchsorted(steps, restarts[-1]))
    before = values[start - 1]
    if not values[start] > before or values[start] - before < 0.5 * (look.outline.peak - before):
        return  # it has turned, and not jumped
    left = (look.outline.last - before) / (values[start] - before)
    fix = f"write a horizon at the end of a cycle, such as {restarts[-1]} steps"
    if restarts[-1] == look.total - 1:
        says = (
            f"a cycle begins at the last update: it runs at {_g(look.outline.last)}, and the one before at {_g(before)}"
        )
        yield Finding(restarts[-1], "warning", "cut-cycle", says, fix)
    elif left > 0.1:
        says = f"the cycle that begins here is cut off at {_g(look.outline.last)}, {100 * left:.0f}% of its height"
        yield Finding(restarts[-1], "note", "cut-cycle", says, fix)


def _part_step(look: _Look) -> _Findings:
    for part in look.parts:
        for field in part.schedule._fields:
            length = _number(part.schedule, field.name) if field.name.endswith("steps") and field.counts else None
            if length is not None and 0 < length < 1:
                says = f"{field.name}={length:g} of {type(part.schedule).__name__} is less than one step"
                share = round(length * look.total)
                fix = f"write {field.name}={share}, if {100 * length:g}% of {look.total} steps is meant"
                yield Finding(part.start, "warning", "part-step", says, fix)


_CHECKS: tuple[Callable[[_Look], _Findings], ...] = (
    _part_step,
    _negative,
    _zero_start,
    _zero_stretch,
    _momentum,
    _jump,
    _spike,
    _peak,
    _warmup,
    _b2,
    _short_horizon,
    _horizon,
    _constant,
    _cut_cycle,
)
