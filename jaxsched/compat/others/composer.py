"""composer.optim (mosaicml): the schedulers by their own names and arguments, with `lr` in front.

A schedule counts batches. A time is a text, `"10ep"`, `"500ba"`, `"64000sp"`, `"1e9tok"` or `"0.1dur"`, or a number of
batches. What a text needs is given behind the arguments, by name, to every function:

  max_duration: the length of the training, a text or a number of batches.
  batches_per_epoch: for times in `ep`.
  samples_per_batch: for times in `sp`.
  tokens_per_batch: for times in `tok`.
  scale_schedule_ratio: the factor that Composer's Trainer stretches the training and every time by, above 0.

As in Composer a product is cut off to a whole count; one that is whole but for its rounding is whole, where Composer
makes 28 batches of `"0.29dur"` of 100."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, Literal, TypedDict, Unpack

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._errors import FieldError, format_value, is_traced, nearest_name
from ...fields import Steps
from ...schedules import shapes
from ...schedules.base import Constant, Schedule, as_schedule
from ...schedules.decays import ExponentialDecay, StepDecay
from ...schedules.pieces import MultiStepDecay
from ...schedules.ramps import Linear, Polynomial, Ramp
from ...schedules.shapes import Step
from ._shared import known_to_be
from .counting import GrowingCycles, whole

Unit = Literal["ba", "sp", "tok"]
_TIME = re.compile(r"\s*(.+?)\s*(iter|ep|ba|sp|tok|dur|sec)\s*", re.IGNORECASE)
_WRITE = "'10ep', '500ba', '64000sp', '1e9tok' or '0.1dur', or a number of batches"


class Training(TypedDict, total=False):
    """What the times of a schedule are measured by."""

    max_duration: Any
    batches_per_epoch: Any
    samples_per_batch: Any
    tokens_per_batch: Any
    scale_schedule_ratio: Any


@dataclasses.dataclass(frozen=True)
class _Time:
    """A number of batches, samples or tokens; `batches` is what it comes to."""

    count: Any
    unit: Unit
    batches: Any


class _Clock:
    """Turns times into batches, cut off to whole counts where Composer cuts them off."""

    def __init__(self, owner: str, training: Training):
        names = Training.__annotations__
        for name in training:
            if name not in names:
                raise TypeError(f"{owner} has no argument {name!r}: {nearest_name(name, names)}")
        self.owner, self.given = owner, training
        self.ratio = training.get("scale_schedule_ratio", 1.0)
        if not is_traced(self.ratio) and not np.all(np.asarray(self.ratio) > 0):
            raise ValueError(f"{owner}: scale_schedule_ratio={format_value(self.ratio)}; write a number above 0.")

    def steps(self, name: str, time: Any, scaled: bool = True) -> _Time:
        """The time, stretched by the ratio unless it is a share of the training, which is stretched already."""
        number, unit = self._parse(name, time)
        if unit == "dur":
            count, unit = self.whole_run(name, time)
            return self._time(_cut(number, count), unit, name, time)
        count, unit = self._in_batches(number, unit, name, time)
        return self._time(_cut(self.ratio, count) if scaled else count, unit, name, time)

    def whole_run(self, name: str, time: Any) -> tuple[Any, Any]:
        """The length of the stretched training, which is cut off in the unit that it is given in."""
        longest = self._size("max_duration", name, time)
        number, unit = self._parse("max_duration", longest)
        if unit == "dur":
            raise ValueError(f"{self.owner}: max_duration={format_value(longest)}; write no 'dur'.")
        return self._in_batches(_cut(self.ratio, number), unit, name, time)

    def _parse(self, name: str, time: Any) -> tuple[Any, str]:
        if not isinstance(time, str):
            return time, "ba"
        match = _TIME.fullmatch(time)
        try:
            number = float(match[1]) if match else float("nan")
        except ValueError:
            number = float("nan")
        unit = match[2].lower() if match else ""
        if not np.isfinite(number) or number < 0 or unit in ("iter", "sec"):
            raise ValueError(f"{self.owner}: {name}={time!r}; write {_WRITE}.")
        if unit == "dur":
            return number, unit
        if number != int(number):
            raise ValueError(f"{self.owner}: {name}={time!r} is not a whole number; only 'dur' takes a fraction.")
        return int(number), unit

    def _size(self, size: str, name: str, time: Any) -> Any:
        value = self.given.get(size)
        if value is None:
            raise ValueError(f"{self.owner}: {name}={format_value(time)} needs {size}=; give it as well.")
        return value

    def _in_batches(self, count: Any, unit: str, name: str, time: Any) -> tuple[Any, Any]:
        """Epochs become batches, as in Composer; samples and tokens stay what they are."""
        if unit == "ep":
            return count * self._size("batches_per_epoch", name, time), "ba"
        return count, unit

    def _time(self, count: Any, unit: Any, name: str, time: Any) -> _Time:
        if unit == "ba":
            return _Time(count, "ba", count)
        size = self._size({"sp": "samples_per_batch", "tok": "tokens_per_batch"}[unit], name, time)
        if is_traced(count) or is_traced(size):
            return _Time(count, unit, count / size)
        return _Time(count, unit, count // size if count % size == 0 else count / size)


def _cut(share: Any, count: Any) -> Any:
    """`int(share * count)`, where a product that is whole but for its rounding is that integer."""
    if is_traced(share) or is_traced(count):
        return whole(share, count)
    product = np.asarray(share * count)
    near = np.round(product)
    cut = np.where(np.isclose(product, near, rtol=1e-12, atol=0), near, np.floor(product)).astype(int)
    return cut if cut.ndim else int(cut)


def _factor(lr: Any, schedule: Schedule) -> Schedule:
    return as_schedule("composer", "lr", lr) * schedule


class _Stays(Schedule):
    """`schedule`, if it has any `steps`; else what was there `before` it."""

    before: Schedule
    schedule: Schedule
    steps: Steps

    def value(self, step: Step) -> Array:
        return jnp.where(jnp.asarray(self.steps) > 0, self.schedule.value(step), self.before.value(step))


# --- without a warmup ------------------------------------------------------------------------------------------------


def StepScheduler(lr: Any, step_size: Any, gamma: Any = 0.1, **training: Unpack[Training]) -> Schedule:
    """A factor after every `step_size`.

    Formula: `s(t) = lr gamma^floor(t / step_size)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      step_size: a time above 0.
      gamma: the factor, above 0.
      training: what the times are measured by; see this module.

    Errors: ValueError for what is no time, and for a time whose unit has no size.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.StepScheduler(1.0, "1ep", gamma=0.5, batches_per_epoch=2).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: composer.optim.StepScheduler (0.32.1).
    """
    clock = _Clock("StepScheduler", training)
    steps = clock.steps("step_size", step_size).batches
    if known_to_be(lambda n: n <= 0, steps):
        raise FieldError("StepScheduler", "step_size", step_size, "step_size must be a time above 0")
    return _factor(lr, StepDecay(1.0, gamma, steps))


def MultiStepScheduler(lr: Any, milestones: Any, gamma: Any = 0.1, **training: Unpack[Training]) -> Schedule:
    """A factor at every milestone.

    Formula: `s(t) = lr gamma^n`, where n is the number of milestones `<= t`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      milestones: a list of times, in any order.
      gamma: the factor, above 0.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.MultiStepScheduler(1.0, ["2ba", "0.75dur"], gamma=0.5, max_duration="4ba").table(5).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25]

    Source: composer.optim.MultiStepScheduler (0.32.1).
    """
    return _factor(lr, _milestones(_Clock("MultiStepScheduler", training), milestones, gamma))


def _milestones(clock: _Clock, milestones: Any, gamma: Any) -> Schedule:
    times = [clock.steps(f"milestones[{i}]", time).batches for i, time in enumerate(milestones)]
    if any(map(is_traced, times)):
        return MultiStepDecay(1.0, gamma, jnp.sort(jnp.stack([jnp.asarray(t) for t in times])))
    rows: list[list[Any]] = []  # each of them grows; a milestone that comes twice counts twice
    for time in sorted(times):
        free = next((row for row in rows if row[-1] < time), None)
        if free is None:
            rows.append([time])
        else:
            free.append(time)
    first, *others = [MultiStepDecay(1.0, gamma, row) for row in rows] or [Constant(1.0)]
    s: Schedule = first
    for other in others:
        s = s * other
    return s


def ConstantScheduler(lr: Any, alpha: Any = 1.0, t_max: Any = "1dur", **training: Unpack[Training]) -> Schedule:
    """A factor until `t_max`, and none after it.

    Formula: `s(t) = lr alpha` before `t_max`, then `lr`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      alpha: the factor.
      t_max: a time.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.ConstantScheduler(1.0, alpha=0.5, t_max="2ba").table(4).tolist()
      [0.5, 0.5, 1.0, 1.0]

    Source: composer.optim.ConstantScheduler (0.32.1).
    """
    clock = _Clock("ConstantScheduler", training)
    return _factor(lr, Constant(alpha).then(Constant(1.0), at=clock.steps("t_max", t_max).batches))


def LinearScheduler(
    lr: Any, alpha_i: Any = 1.0, alpha_f: Any = 0.0, t_max: Any = "1dur", **training: Unpack[Training]
) -> Schedule:
    """A straight line.

    Formula: `lr Linear(alpha_i, alpha_f, t_max)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      alpha_i, alpha_f: the first and the last factor.
      t_max: a time.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> s = composer.LinearScheduler(1.0, t_max="0.5dur", max_duration="2ep", batches_per_epoch=4)
      >>> s.table(6).tolist()
      [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Source: composer.optim.LinearScheduler (0.32.1).
    """
    clock = _Clock("LinearScheduler", training)
    return _factor(lr, Linear(alpha_i, alpha_f, clock.steps("t_max", t_max).batches))


def ExponentialScheduler(lr: Any, gamma: Any, decay_period: Any = "1ep", **training: Unpack[Training]) -> Schedule:
    """A constant factor at every batch.

    Formula: `s(t) = lr gamma^(t / decay_period)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      gamma: the factor of a period, above 0.
      decay_period: a time above 0.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.ExponentialScheduler(1.0, gamma=0.25, decay_period="2ba").table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: composer.optim.ExponentialScheduler (0.32.1).
    """
    clock = _Clock("ExponentialScheduler", training)
    return _factor(lr, ExponentialDecay(1.0, gamma, clock.steps("decay_period", decay_period).batches))


def CosineAnnealingScheduler(
    lr: Any, t_max: Any = "1dur", alpha_f: Any = 0.0, **training: Unpack[Training]
) -> Schedule:
    """Half a cosine wave down.

    Formula: `lr Cosine(1, alpha_f, t_max)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_max: a time.
      alpha_f: the last factor.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> [round(float(v), 4) for v in composer.CosineAnnealingScheduler(1.0, max_duration="4ba").table(6)]
      [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]

    Source: composer.optim.CosineAnnealingScheduler (0.32.1).
    """
    clock = _Clock("CosineAnnealingScheduler", training)
    return _factor(lr, Ramp(1.0, alpha_f, clock.steps("t_max", t_max).batches, shape="cosine"))


def CosineAnnealingWarmRestartsScheduler(
    lr: Any, t_0: Any, t_mult: Any = 1.0, alpha_f: Any = 0.0, **training: Unpack[Training]
) -> Schedule:
    """Half cosine waves down, each after a restart.

    Formula: in cycle i, of `t_0 t_mult^i` (each cycle cut off to whole batches; a cycle that is counted in samples or
    tokens is not cut off), `lr Cosine(1, alpha_f)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_0: a time above 0.
      t_mult: the factor from cycle to cycle, 1 or more (below 1 a cycle of Composer comes down to nothing).
      alpha_f: the last factor of each cycle.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> s = composer.CosineAnnealingWarmRestartsScheduler(1.0, "2ba", t_mult=1.5)
      >>> [round(float(v), 4) for v in s.table(6)]
      [1.0, 0.5, 1.0, 0.75, 0.25, 1.0]

    Source: composer.optim.CosineAnnealingWarmRestartsScheduler (0.32.1).
    """
    first = _Clock("CosineAnnealingWarmRestartsScheduler", training).steps("t_0", t_0)
    if first.unit == "ba":
        return _factor(lr, GrowingCycles(1.0, alpha_f, first.batches, t_mult))
    wave = Ramp(1.0, alpha_f, first.batches, shape="cosine")
    return _factor(lr, wave.repeat(first.batches, period_mult=t_mult))


def PolynomialScheduler(
    lr: Any, power: Any, t_max: Any = "1dur", alpha_f: Any = 0.0, **training: Unpack[Training]
) -> Schedule:
    """A power of the way that is left.

    Formula: `lr Polynomial(1, alpha_f, t_max, power)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      power: above 0.
      t_max: a time.
      alpha_f: the last factor.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.PolynomialScheduler(1.0, power=2.0, t_max="4ba").table(6).tolist()
      [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]

    Source: composer.optim.PolynomialScheduler (0.32.1).
    """
    clock = _Clock("PolynomialScheduler", training)
    return _factor(lr, Polynomial(1.0, alpha_f, clock.steps("t_max", t_max).batches, power))


# --- with a warmup ---------------------------------------------------------------------------------------------------


class _Warmup:
    """The rise from 0, over `ramp` batches, and the batch where it ends.

    Composer stretches the ramp if `scale_warmup`, and not its end: with a ratio of 2 the rate jumps up from
    half its height, with 1/2 it waits at the top. Here both are stretched."""

    def __init__(self, clock: _Clock, t_warmup: Any, scale_warmup: bool, peer_exact: bool):
        plain, scaled = clock.steps("t_warmup", t_warmup, scaled=False), clock.steps("t_warmup", t_warmup)
        self.clock = clock
        self.ramp = scaled if scale_warmup else plain
        self.end = plain if peer_exact else self.ramp
        self.peer_exact = peer_exact

    def then(self, peak: Any, end_value: Any, t_max: Any, down: Callable[[Any], Schedule]) -> Schedule:
        """A fall over what is left until `t_max`; of a warmup that leaves nothing Composer never comes down."""
        end = self._refused(t_max)
        start, stop = self.end.batches, end.batches
        up = Linear(0.0, peak, self.ramp.batches)
        if not self.peer_exact:
            return up.then(down(stop - start), at=start)
        left = jnp.maximum(jnp.asarray(stop - start), 0)
        return up.then(_Stays(Constant(peak), down(left), left), at=start)

    def _refused(self, t_max: Any) -> _Time:
        end, owner = self.clock.steps("t_max", t_max), self.clock.owner
        if end.unit != self.end.unit:
            units = f"t_warmup in {self.end.unit!r} and t_max in {end.unit!r}"
            raise ValueError(f"{owner}: {units}; write both in one unit (epochs count as batches).")
        longest = self.clock.given.get("max_duration")
        count, unit = (end.count, end.unit) if longest is None else self.clock.whole_run("t_max", t_max)
        seen = not any(map(is_traced, (end.count, count, self.end.batches, end.batches)))
        if seen and end.unit == unit and np.any(end.count < count):
            times = f"t_max={format_value(t_max)} and max_duration={format_value(longest)}"
            raise ValueError(f"{owner}: {times}; the schedule must last as long as the training.")
        if seen and not self.peer_exact and np.any(self.end.batches > end.batches):
            raise ValueError(
                f"{owner}: t_max={format_value(t_max)} comes before the end of the warmup; shorten t_warmup."
            )
        return end


def MultiStepWithWarmupScheduler(
    lr: Any,
    t_warmup: Any,
    milestones: Any,
    gamma: Any = 0.1,
    scale_warmup: bool = False,
    *,
    peer_exact: bool = False,
    **training: Unpack[Training],
) -> Schedule:
    """A linear warmup, then a factor at every milestone.

    Formula: `lr Linear(0, 1, t_warmup)`, then `lr gamma^n`, where n is the number of milestones `<= t`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_warmup: a time.
      milestones: a list of times, in any order, counted from the first batch.
      gamma: the factor, above 0.
      scale_warmup: whether `scale_schedule_ratio` stretches the warmup too.
      peer_exact: whether, as in Composer, it stretches the line of the warmup and not its end.
      training: what the times are measured by; see this module.

    Errors: as in `StepScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.MultiStepWithWarmupScheduler(1.0, "2ba", ["3ba"], gamma=0.5).table(5).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.5]

    Source: composer.optim.MultiStepWithWarmupScheduler (0.32.1).
    """
    clock = _Clock("MultiStepWithWarmupScheduler", training)
    warmup = _Warmup(clock, t_warmup, scale_warmup, peer_exact)
    at = warmup.end.batches
    if not is_traced(at):
        at = math.ceil(at)
    elif not shapes.is_integer(at):
        at = jnp.ceil(at).astype(jnp.result_type(int))
    steps = _milestones(clock, milestones, gamma)
    return _factor(lr, Linear(0.0, 1.0, warmup.ramp.batches).then(steps.shift(-at), at=at))


def ConstantWithWarmupScheduler(
    lr: Any,
    t_warmup: Any,
    alpha: Any = 1.0,
    t_max: Any = "1dur",
    scale_warmup: bool = False,
    *,
    peer_exact: bool = False,
    **training: Unpack[Training],
) -> Schedule:
    """A linear warmup, and a factor from there on.

    Formula: `lr Linear(0, alpha, t_warmup)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_warmup: a time.
      alpha: the factor.
      t_max: a time, not below `max_duration`; it changes nothing.
      scale_warmup, peer_exact: as in `MultiStepWithWarmupScheduler`.
      training: what the times are measured by; see this module.

    Errors: as in `LinearWithWarmupScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.ConstantWithWarmupScheduler(1.0, "2ba", alpha=0.5, max_duration="4ba").table(4).tolist()
      [0.0, 0.25, 0.5, 0.5]

    Source: composer.optim.ConstantWithWarmupScheduler (0.32.1).
    """
    clock = _Clock("ConstantWithWarmupScheduler", training)
    warmup = _Warmup(clock, t_warmup, scale_warmup, peer_exact)
    return _factor(lr, warmup.then(alpha, alpha, t_max, lambda steps: Constant(alpha)))


def LinearWithWarmupScheduler(
    lr: Any,
    t_warmup: Any,
    alpha_i: Any = 1.0,
    alpha_f: Any = 0.0,
    t_max: Any = "1dur",
    scale_warmup: bool = False,
    *,
    peer_exact: bool = False,
    **training: Unpack[Training],
) -> Schedule:
    """A linear warmup, then a straight line.

    Formula: `lr Linear(0, alpha_i, t_warmup)`, then `lr Linear(alpha_i, alpha_f, t_max - t_warmup)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_warmup: a time.
      alpha_i, alpha_f: the factors after the warmup and at `t_max`.
      t_max: a time, not below `max_duration`.
      scale_warmup: whether `scale_schedule_ratio` stretches the warmup too.
      peer_exact: whether, as in Composer, it stretches the line of the warmup and not its end, and a warmup that lasts
        until `t_max` is followed by no fall at all.
      training: what the times are measured by; see this module.

    Errors: ValueError for what is no time, for a time whose unit has no size, for two times in units that Composer does
      not compare, for `t_max` below `max_duration`, and for one below `t_warmup`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.LinearWithWarmupScheduler(1.0, "2ba", max_duration="4ba").table(6).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: composer.optim.LinearWithWarmupScheduler (0.32.1).
    """
    clock = _Clock("LinearWithWarmupScheduler", training)
    warmup = _Warmup(clock, t_warmup, scale_warmup, peer_exact)
    return _factor(lr, warmup.then(alpha_i, alpha_f, t_max, lambda steps: Linear(alpha_i, alpha_f, steps)))


def CosineAnnealingWithWarmupScheduler(
    lr: Any,
    t_warmup: Any,
    t_max: Any = "1dur",
    alpha_f: Any = 0.0,
    scale_warmup: bool = False,
    *,
    peer_exact: bool = False,
    **training: Unpack[Training],
) -> Schedule:
    """A linear warmup, then half a cosine wave down.

    Formula: `lr Linear(0, 1, t_warmup)`, then `lr Cosine(1, alpha_f, t_max - t_warmup)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_warmup: a time.
      t_max: a time, not below `max_duration`.
      alpha_f: the factor at `t_max`.
      scale_warmup, peer_exact: as in `LinearWithWarmupScheduler`.
      training: what the times are measured by; see this module.

    Errors: as in `LinearWithWarmupScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> s = composer.CosineAnnealingWithWarmupScheduler(1.0, "0.5dur", max_duration="2ep", batches_per_epoch=2)
      >>> [round(float(v), 6) for v in s.table(6)]
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: composer.optim.CosineAnnealingWithWarmupScheduler (0.32.1).
    """
    clock = _Clock("CosineAnnealingWithWarmupScheduler", training)
    warmup = _Warmup(clock, t_warmup, scale_warmup, peer_exact)
    return _factor(lr, warmup.then(1.0, alpha_f, t_max, lambda steps: Ramp(1.0, alpha_f, steps, shape="cosine")))


def PolynomialWithWarmupScheduler(
    lr: Any,
    t_warmup: Any,
    power: Any = 2.0,
    t_max: Any = "1dur",
    alpha_f: Any = 0.0,
    scale_warmup: bool = False,
    *,
    peer_exact: bool = False,
    **training: Unpack[Training],
) -> Schedule:
    """A linear warmup, then a power of the way that is left.

    Formula: `lr Linear(0, 1, t_warmup)`, then `lr Polynomial(1, alpha_f, t_max - t_warmup, power)`.

    Args:
      lr: the optimizer's rate, a number or a schedule.
      t_warmup: a time.
      power: above 0.
      t_max: a time, not below `max_duration`.
      alpha_f: the factor at `t_max`.
      scale_warmup, peer_exact: as in `LinearWithWarmupScheduler`.
      training: what the times are measured by; see this module.

    Errors: as in `LinearWithWarmupScheduler`.

    Example:
      >>> from jaxsched.compat.others import composer
      >>> composer.PolynomialWithWarmupScheduler(1.0, "2ba", max_duration="4ba").table(6).tolist()
      [0.0, 0.5, 1.0, 0.25, 0.0, 0.0]

    Source: composer.optim.PolynomialWithWarmupScheduler (0.32.1).
    """
    clock = _Clock("PolynomialWithWarmupScheduler", training)
    warmup = _Warmup(clock, t_warmup, scale_warmup, peer_exact)
    return _factor(lr, warmup.then(1.0, alpha_f, t_max, lambda steps: Polynomial(1.0, alpha_f, steps, power)))
