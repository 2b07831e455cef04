"""Checks of a schedule before a training: likely mistakes in its values and its horizon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..fields import Domain, validate
from ..schedules.base import Schedule
from ..schedules.combine import Cooldown
from ..schedules.structure import Placed, marks, parts, span
from ..schedules.untuned import UntunedWarmup
from .finding import Finding, Severity
from .format import number
from .phases import Curve, Jump, Reading, check, evaluate, read, sample

_NOTABLE = 0.01  # smaller shares of a height, or of the horizon, are ignored
_COUNTED = ("jump", "spike")
_MOST_FINDINGS = 3  # at most this many findings per check; the last one reports how many more
_PEAKS = ("peak_value", "peak_lr", "max_lr")  # the names of the field with the largest value, here and in the peers
_TABLES = ("boundaries", "milestones", "knots")  # the names of the fields that list steps where pieces begin
_FATAL = ("not-finite", "all-zero")  # the findings that make all others meaningless

_B2 = Domain("a number from 0 to below 1, such as 0.999", lambda x: np.ndim(x) == 0 and 0 <= x < 1)


class _Context(NamedTuple):
    """The arguments of `lint` and what was read."""

    schedule: Schedule
    total: int
    b2: float | None
    reading: Reading
    parts: list[Placed]
    curve: Curve
    updates: np.ndarray
    height: float
    warmup_end: int


_Findings = Iterator[tuple[Severity, int | None, str, str]]
"""The severity, the step, the message and the suggestion of each finding of a check."""

_Find = Callable[[_Context], _Findings]

_CHECKS: list[tuple[str, tuple[str, ...], _Find]] = []
"""The name of each check, and the earlier findings that explain what it would find."""


def _check(name: str, *causes: str) -> Callable[[_Find], _Find]:
    def add(find: _Find) -> _Find:
        _CHECKS.append((name, (*_FATAL, *causes), find))
        return find

    return add


def lint(schedule: Any, total_steps: int, *, b2: float | None = None) -> list[Finding]:
    """Returns the likely mistakes of a schedule for a training of `total_steps`, sorted by step; [] if there are none.

    The checks read the values that `outline` evaluates, and a few read fields by their names. Where `outline` does not
    evaluate every step, a value that is wrong for a few steps may be missed.
      not-finite: a value that is NaN or infinite.
      negative: a value below 0.
      all-zero: a rate of 0 at every step.
      zero-start: a rate of 0 at step 0, without a rise from it, or for more than a tenth of the rise (a warmup from 0
        of less than 10 steps) or a twentieth of the horizon. The single lost update of a longer warmup is accepted.
      zero-stretch: a rate of 0 between others.
      jump: a discontinuity that is neither a stair (down, or one of several up) nor a warm restart.
      spike: a single update with a far larger or far smaller value than both of its neighbors.
      peak: a `peak_value` that is not reached within the horizon.
      warmup: a rise that is longer than all that follows it.
      short-horizon: an end before the horizon: a warning if the rate is 0 from there on, a note if it is held above 0
        for more than a tenth of the horizon.
      cut-off: a decay that the horizon cuts off above its end.
      overrun: pieces, a first cycle, a first stair or a `total_steps` beyond the horizon.
      constant: a decay that never changes the value.
      cut-cycle: a last cycle that the horizon cuts off high: a warning if only its peak is left, at the last update.
      momentum: a momentum of 1 or more.
      part-step: a length such as `warmup_steps=0.1`, below one step, where a share was meant.
      b2: a warmup shorter than the `2 / (1 - b2)` steps that Adam's second moment needs.

    Args:
      schedule: a schedule, a callable or a number; a single setting (unstack first).
      total_steps: the number of training steps, 1 or more.
      b2: Adam's `b2`, from 0 to below 1; None skips its check.

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
    schedule, total = check("lint", schedule, total_steps)
    b2 = None if b2 is None else float(validate("lint", "b2", b2, _B2))
    reading = read("lint", schedule, total)
    updates = reading.raw.values[reading.raw.steps < total]
    height, inside = float(np.max(np.abs(updates))), parts(schedule, total)
    context = _Context(schedule, total, b2, reading, inside, reading.smooth, updates, height, _warmup_end(reading))
    found: list[Finding] = []
    for name, causes, find in _CHECKS:
        if any(finding.check in causes for finding in found):
            continue
        new = [Finding(step, severity, name, *words) for severity, step, *words in find(context)]
        if name in _COUNTED and len(new) > _MOST_FINDINGS:
            last, more = new[_MOST_FINDINGS - 1], len(new) - _MOST_FINDINGS
            new = [*new[: _MOST_FINDINGS - 1], last._replace(message=f"{last.message}, and {more} more such {name}s")]
        found += new
    return sorted(found, key=lambda finding: -1 if finding.step is None else finding.step)


# --- reading values and fields ---------------------------------------------------------------------------------------


def _number(part: Schedule, name: str) -> float:
    """The value of a field that is a single number; 0 for others."""
    value = getattr(part, name, None)
    if value is None or isinstance(value, (str, bool)) or callable(value) or np.ndim(value):
        return 0.0
    return float(np.asarray(value))


def _at(schedule: Schedule, *steps: int) -> list[float]:
    return evaluate("lint", schedule, np.array(steps, np.int64))[0].tolist()


def _first(context: _Context, holds: Callable[[Any], Any]) -> int | None:
    """The first step whose value fulfills `holds`, bisected between the evaluated steps."""
    steps, hit = context.reading.raw.steps, np.flatnonzero(holds(context.updates))
    if not len(hit):
        return None
    low, high = int(steps[hit[0] - 1]) if hit[0] else -1, int(steps[hit[0]])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(np.array(_at(context.schedule, middle)))[0] else (middle, high)
    return high


def _warmup_end(reading: Reading) -> int:
    """The last step of the first rise, 0 without one; of a rise that only approaches its end, where 95% is done."""
    rise = next((phase for phase in reading.outline.phases if phase.name != "stable"), None)
    if rise is None or rise.name != "warmup":
        return 0
    values = reading.smooth.values[reading.smooth.steps <= rise.stop]
    done = int(reading.smooth.steps[np.argmax(values >= 0.95 * np.max(values))])
    return done if done < 0.9 * rise.stop else rise.stop


# --- values ----------------------------------------------------------------------------------------------------------


def _first_bad(context: _Context, bad: Callable[[Any], Any], why: str, fix: str) -> _Findings:
    """An error at the first step with a `bad` value."""
    step = _first(context, bad)
    if step is not None:
        yield "error", step, f"the value is {number(_at(context.schedule, step)[0])}: {why}", fix


@_check("not-finite")
def _not_finite(context: _Context) -> _Findings:
    why, fix = "every parameter becomes useless", "write a formula that is finite at this step"
    return _first_bad(context, lambda values: ~np.isfinite(values), why, fix)


@_check("negative")
def _negative(context: _Context) -> _Findings:
    fix = "write .clip(lo=0.0) behind the schedule"
    if not np.any(context.updates > 0):
        fix = "write no minus sign: optax's learning rates are positive"
    least = -4 * context.curve.eps * context.height
    return _first_bad(context, lambda values: values < least, "below 0 an optimizer ascends", fix)


@_check("momentum")
def _momentum(context: _Context) -> _Findings:
    if any("momentum" in field.name for field in context.schedule._fields):
        why = "a momentum of 1 or more never forgets a gradient"
        yield from _first_bad(context, lambda values: values >= 1, why, "write a momentum below 1, such as 0.95")


@_check("all-zero")
def _all_zero(context: _Context) -> _Findings:
    if not context.updates.any():
        warms = any(_number(part.schedule, "warmup_steps") for part in context.parts)
        fix = "write fewer warmup_steps, or an init_value above 0" if warms else "write a value above 0"
        yield "error", 0, f"the value is 0 at all {context.total} steps: nothing is learned", fix


@_check("part-step")
def _part_step(context: _Context) -> _Findings:
    for part in context.parts:
        for field in part.schedule._fields:
            length = _number(part.schedule, field.name) if field.name.endswith("steps") and field.counts else 0
            if 0 < length < 1:
                message = f"{field.name}={length:g} of {type(part.schedule).__name__} is less than one step"
                share = f"if {100 * length:g}% of {context.total} steps is meant"
                yield "warning", part.start, message, f"write {field.name}={round(length * context.total)}, {share}"


@_check("zero-start")
def _zero_start(context: _Context) -> _Findings:
    total, stop, peak = context.total, context.warmup_end, context.reading.outline.peak
    if context.updates[0] != 0 or peak <= 0:
        return
    wasted = _first(context, lambda v: v != 0) or total
    if wasted <= 0.1 * stop and wasted <= 0.05 * total:
        return
    length, of = (stop, "steps of warmup") if 0.1 * stop < wasted < stop else (total, "steps")
    updates = "first update has" if wasted == 1 else f"first {wasted} updates have"
    message = f"the {updates} a rate of 0, {100 * wasted / length:.2g}% of the {length} {of}"
    yield "warning", 0, message, f"write an init_value above 0, such as {peak / 100:.4g}"


@_check("zero-stretch")
def _zero_stretch(context: _Context) -> _Findings:
    for name, start, stop in context.reading.outline.phases[1:-1]:
        if name == "stable" and context.curve.values[np.searchsorted(context.curve.steps, start)] == 0:
            message = f"the value is 0 for {stop - start} steps, up to step {stop}: nothing is learned"
            yield "warning", start, message, "write an end_value above 0, or no pause"


# --- jumps and phases ------------------------------------------------------------------------------------------------


def _wrong_jumps(context: _Context) -> list[Jump]:
    """The jumps that are neither stairs nor the sides of a spike.

    A stair is a jump between two levels, down, or up as one of several. A level is a run of equal values that lasts, or
    that a true change ends on its other side as well: rounding makes short runs of a small slope.
    """
    steps, values, eps = context.curve[:3]
    ends = np.flatnonzero(np.diff(values))
    first, last = np.append(0, ends + 1), np.append(ends, len(values) - 1)
    sharp = (np.diff(steps)[ends] == 1) & (np.abs(np.diff(values)[ends]) > 16 * eps * context.height)
    abrupt = np.pad(sharp, 1, constant_values=True)  # cut off by the ends of the training
    lasts = steps[last] - steps[first] > _NOTABLE * context.total
    level = lasts | ((last > first) & abrupt[:-1] & abrupt[1:])
    level[[0, -1]] |= (abrupt[:-1] & abrupt[1:])[[0, -1]]
    spikes = context.reading.course.steps[context.reading.spikes]
    sides, found = {*spikes.tolist(), *(spikes + 1).tolist()}, []
    rises = [phase for phase in context.reading.outline.phases if phase.name in ("warmup", "rise")]
    for jump in context.reading.outline.jumps:
        k = int(np.searchsorted(steps[ends], jump.step - 1))
        levels = k < len(ends) and level[k] and (level[k + 1] or jump.step == context.total - 1)
        up = any(phase.start < jump.step <= phase.stop for phase in rises)
        if not (levels and (jump.after < jump.before or up)) and jump.step not in sides:
            found.append(jump)
    return found


@_check("jump")
def _jump(context: _Context) -> _Findings:
    for step, before, after in _wrong_jumps(context):
        fix = f"write a next piece that begins at {before:.4g}, or a ramp to it"
        yield "warning", step, f"jump from {number(before)} to {number(after)}", fix


@_check("spike")
def _spike(context: _Context) -> _Findings:
    steps, values = context.reading.course[:2]
    for i in context.reading.spikes:
        before, here, after = map(number, values[i - 1 : i + 2])
        message = f"the value is {here} for one update, between {before} and {after}"
        fix = "write pieces that meet: each begins at the value at which the one before it ends"
        yield "warning", int(steps[i]), message, fix


@_check("peak")
def _peak(context: _Context) -> _Findings:
    for schedule, start, length, unit, _ in context.parts:
        name = next((name for name in _PEAKS if _number(schedule, name) > 0), None)
        if name is None:
            continue
        peak, last = _number(schedule, name), length - 1
        before, here, after = _at(schedule, max(last - 1, 0), last, length)
        # If it is reached one step later, the next piece begins at the peak.
        if max(here, after) >= (1 - _NOTABLE) * peak or not (here > before or last == 0):
            continue
        top = read("lint", schedule, length).outline.peak
        if top < (1 - _NOTABLE) * peak:
            warmup = _number(schedule, "warmup_steps")
            why = f"its warmup_steps={int(warmup)} do not end" if warmup else "its rise does not end"
            message = f"the value comes to {number(top)} and never to {name}={number(peak)}: {why} in {length} steps"
            fix = f"write a shorter warmup, such as {max(1, length // 10)} steps"
            yield "warning", round(start + length * unit) - 1, message, fix


@_check("warmup", "peak")
def _warmup(context: _Context) -> _Findings:
    total, stop, outline = context.total, context.warmup_end, context.reading.outline
    half = 0.5 * (outline.peak - outline.first)
    if any(isinstance(part.schedule, UntunedWarmup) for part in context.parts):
        return  # as long as Adam's b2 needs
    if any(jump.step <= stop and jump.after - jump.before > half for jump in _wrong_jumps(context)):
        return  # a jump, not a rise
    if stop > total - stop:
        message = f"the warmup takes {stop} of {total} steps, more than all that follows ({total - stop})"
        yield "warning", stop, message, f"write a shorter warmup, such as {max(1, total // 20)} steps"


@_check("b2")
def _b2(context: _Context) -> _Findings:
    b2, total, stop = context.b2, context.total, context.warmup_end
    if b2 is None:
        return
    needed = round(2 / (1 - b2))
    untuned = [_number(part.schedule, "b2") for part in context.parts if isinstance(part.schedule, UntunedWarmup)]
    if stop + 1 >= 0.99 * needed or max(untuned, default=0.0) > b2 - 1e-6:  # step 0 counts too
        return
    has = f"the warmup takes {stop} steps" if stop else "there is no warmup"
    fix = f"write a warmup of {needed} steps, or the schedule * UntunedWarmup({b2:g})"
    if needed > total / 2:
        smaller = f"{1 - 20 / max(total, 40):.4g}"
        fix = f"write the schedule * UntunedWarmup({b2:g}), or a longer training, or b2={smaller}, for which a tenth of"
        fix += " the training is enough"
    yield "warning", 0, f"{has}, and Adam's b2={b2:g} asks for {needed}, 2 / (1 - b2)", fix


# --- the horizon -----------------------------------------------------------------------------------------------------


def _fix_end(context: _Context) -> str:
    own = f": total_steps={context.total}" if _number(context.schedule, "total_steps") else ""
    return f"write a decay that ends at step {context.total}{own}"


@_check("short-horizon")
def _short_horizon(context: _Context) -> _Findings:
    total, values = context.total, context.curve.values
    moves = np.flatnonzero(np.diff(values))
    if not len(moves) or context.reading.noisy:
        return
    i = int(moves[-1])
    start, rest = int(context.curve.steps[i + 1]), float(values[-1])
    held = total - start
    if values[i + 1] > values[i] or held < max(2, _NOTABLE * total) or (i > 0 and values[i] == values[i - 1] and rest):
        return  # it rises, or ends with a stair
    if rest == 0 or 0 < rest < 1e-3 * context.reading.outline.peak:
        message = f"the value is {number(rest)} from here on: the last {held} of {total} steps learn nothing"
        yield "warning", start, message, f"{_fix_end(context)}, or fewer steps"
    elif held > 0.1 * total:
        message = f"the decay ends, and the last {held} of {total} steps stay at {number(rest)}"
        yield "note", start, message, f"{_fix_end(context)}, if that is not meant"


def _unreached(schedule: Schedule, length: int) -> tuple[str, float, str] | None:
    """The first step count of a schedule that its horizon does not reach: its field, its value and what it means."""
    known = schedule.structure()
    for name in _TABLES:
        table = np.atleast_1d(np.asarray(getattr(schedule, name, []), np.float64))
        # A piece that begins at the horizon is never used; an interpolation up to it is.
        beyond = table[(table > length) | ((table == length) & (name != "knots"))]
        if len(beyond):
            return name, beyond[0], f"{len(beyond)} of {len(table)} {name} lie"
    stairs = _number(schedule, "step_size") if known.stairs is None else float(np.asarray(known.stairs))
    period = _number(schedule, "period") if known.cycle is None else float(np.asarray(known.cycle[0]))
    at = _number(schedule, "at") if isinstance(schedule, Cooldown) else 0.0
    if stairs >= max(length, 2) and len(set(_at(schedule, 0, math.ceil(stairs)))) > 1:
        step, what = stairs, "the first change lies"
    elif period > length:
        step, what = period, "the end of the first cycle lies"
    elif at >= length:
        step, what = at, "the cooldown lies"
    else:
        return None
    lengths = [field.name for field in schedule._fields if field.counts]
    names = [name for name in (*lengths, "step_size") if _number(schedule, name) == step]
    return names[0] if names else " + ".join(lengths), step, what


@_check("overrun")
def _overrun(context: _Context) -> _Findings:
    """Pieces that the horizon does not reach."""
    for schedule, start, length, unit, to_end in context.parts:
        missed = _unreached(schedule, length) if to_end else None
        if missed is not None:
            name, step, what = missed
            where = round(start + int(step) * unit)
            place = f"{'at' if where == context.total else 'beyond'} the horizon of {context.total} steps"
            message = f"{what} {place} ({type(schedule).__name__}: step {where})"
            yield (
                "warning",
                context.total,
                message,
                f"write {name} below {length}, or train for more than {where} steps",
            )


def _rest(schedule: Schedule, total: int) -> tuple[int, float] | None:
    """The step after the horizon from which the value is constant, and that value; None if there is none."""
    if marks(schedule, total) is not None:
        end = span(schedule)
        step = None if end is None else max(math.ceil(end), total)
        return None if step is None else (step, _at(schedule, step)[0])
    last = min(64 * total, int(jnp.iinfo(jnp.result_type(int)).max))
    far = sample("lint", schedule, last, dense=(2**18, 2**18))
    moves = np.flatnonzero(np.diff(far.values))
    step = max(int(far.steps[moves[-1] + 1]), total) if len(moves) else total
    if not far.complete or 2 * step > last + 2 * total or not np.isfinite(far.values).all():
        return None
    here, middle, end = _at(schedule, total, (total + step) // 2, step)
    # A value that fades until rounding stops it, as an exponential does, has no end.
    fades = step > total + 1 and abs(middle - end) <= max(0.02 * abs(here - end), 4 * far.eps * abs(end))
    return None if fades else (step, end)


@_check("cut-off", "peak", "overrun")
def _cut_off(context: _Context) -> _Findings:
    outline, value = context.reading.outline, float(context.curve.values[-1])
    decays = outline.phases[-1].name == "decay" and not context.reading.noisy
    step, rest = (_rest(context.reading.clean, context.total) if decays else None) or (0, 0.0)
    above = value - rest > _NOTABLE * (outline.peak - rest) or value > 1.5 * rest > 0
    if step > context.total and above:
        message = (
            f"the decay from {number(outline.peak)} is cut off at {number(value)}, and would end at {number(rest)}"
        )
        yield "warning", context.total, f"{message}, at step {step}", _fix_end(context)


@_check("overrun", "peak", "overrun", "cut-off")
def _long_total(context: _Context) -> _Findings:
    """A horizon of a part that is longer than the training."""
    for schedule, _, length, _, to_end in context.parts:
        own = int(_number(schedule, "total_steps"))
        if not to_end or own <= length:
            continue
        here, there = _at(schedule, length, own)
        if abs(here - there) > _NOTABLE * context.height:
            name, gap = type(schedule).__name__, f"at {number(here)} and not at {number(there)}"
            message = f"the {name} has total_steps={own}, and stops after {length}, {gap}"
            yield "warning", context.total, message, f"write total_steps={length} in it"


@_check("constant", "overrun", "cut-off")
def _constant(context: _Context) -> _Findings:
    decays = [type(p.schedule).__name__ for p in context.parts if "Decay" in type(p.schedule).__name__]
    if decays and np.ptp(context.curve.values) == 0:
        value = number(context.reading.outline.first)
        message = f"the value is {value} at all {context.total} steps, although there is a {decays[0]}"
        yield "warning", None, message, "write a decay_rate below 1, or an end_value below the first"


@_check("cut-cycle")
def _cut_cycle(context: _Context) -> _Findings:
    outline = context.reading.outline
    if not outline.restarts or context.reading.noisy:
        return
    restart, last = outline.restarts[-1], outline.last
    i = int(np.searchsorted(context.curve.steps, restart))
    before, top = context.curve.values[i - 1 : i + 1]
    if top <= before or top - before < 0.5 * (outline.peak - before):
        return  # a turn, not a jump
    left = (last - before) / (top - before)
    fix = f"write a horizon at the end of a cycle, such as {restart} steps"
    if restart == context.total - 1:
        message = (
            f"a cycle begins at the last update: it runs at {number(last)}, and the one before at {number(before)}"
        )
        yield "warning", restart, message, fix
    elif left > 0.1:
        message = f"the cycle that begins here is cut off at {number(last)}, {100 * left:.0f}% of its height"
        yield "note", restart, message, fix
