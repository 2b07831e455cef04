"""Composites of schedules, which the operators and methods of a schedule return."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._errors import FieldError, format_value, is_traced
from ..fields import Count, Growth, Integer, Length, NonNegative, Offset, Positive, Scalar, Steps, reject_if
from . import shapes
from .base import Constant, Schedule, ShapeName, arguments, literal
from .shapes import Step, floating
from .structure import Part, Structure, checkable, each_setting, span, values_at


class Method(Schedule, abstract=True):
    """A composite that a method of its first field makes, and that is written as that method."""

    def _expression(self) -> str:
        schedule, *fields = self._fields
        written = ", ".join(arguments(self, fields))
        return f"{operand(getattr(self, schedule.name))}.{method_name(type(self))}({written})"


def method_name(cls: type[Schedule]) -> str:
    """`per_epoch` for `PerEpoch`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def operand(schedule: Schedule) -> str:
    return f"({schedule!r})" if isinstance(schedule, (Sum, Product)) else repr(schedule)


def infix(symbol: str, schedules: tuple[Schedule, ...]) -> str:
    """A Constant is written as its number, unless both of the first two are: a schedule has to be among them."""
    leads = [isinstance(s, Constant) for s in schedules[:2]]
    texts = [
        literal(s.constant_value) if isinstance(s, Constant) and (i > 0 or leads == [True, False]) else operand(s)
        for i, s in enumerate(schedules)
    ]
    return f" {symbol} ".join(texts)


class Join(Schedule):
    """Schedules in sequence, each on a clock that starts at 0 where it begins.

    Formula: `s(t) = schedules[i](t - boundaries[i - 1])`, where i is the number of boundaries `<= t`.

    Args:
      schedules: one or more schedules, callables or numbers.
      boundaries: steps, one fewer than schedules, each larger than the one before.

    Example:
      >>> import jaxsched as js
      >>> s = js.schedules.Join([js.Linear(0.0, 1.0, 2), js.Constant(1.0), js.Linear(1.0, 0.0, 2)], [2, 4])
      >>> s.table(7).tolist()
      [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0]

    References:
      optax.join_schedules, torch's SequentialLR.
    """

    schedules: tuple[Schedule, ...]
    boundaries: tuple[Steps, ...]

    def check(self) -> None:
        pieces, bounds = len(self.schedules), len(self.boundaries)
        if pieces != bounds + 1:
            raise ValueError(
                f"Join: {pieces} schedules and {bounds} boundaries; {pieces} schedules meet at {pieces - 1} boundaries."
            )
        # A piece that is itself a Join made by `.then` must have ended its own pieces before the next one begins.
        inner = self.schedules[0].boundaries[-1:] if isinstance(self.schedules[0], Join) else ()
        for before, after, strict in [
            *((b, self.boundaries[0], False) for b in inner if self.boundaries),
            *((a, b, True) for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)),
        ]:
            if is_traced(before) or is_traced(after):
                continue
            if np.any(np.greater_equal(before, after) if strict else np.greater(before, after)):
                instead = "each boundary must come after the one before: sort them, and drop schedules of zero length"
                raise FieldError("Join", "boundaries", [*inner, *self.boundaries], instead)

    def structure(self) -> Structure:
        starts = (0, *self.boundaries)
        return Structure(tuple(map(Part, self.schedules, starts, (*self.boundaries, None))), self.boundaries)

    def value(self, step: Step) -> Array:
        out = self.schedules[0].value(step)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            out = shapes.select(shapes.reached(step, boundary), schedule.value(shapes.elapsed(step, boundary)), out)
        return out

    def _expression(self) -> str:
        if len(self.schedules) == 2:
            first, second = self.schedules
            return f"{operand(first)}.then({second!r}, at={literal(self.boundaries[0])})"
        return f"join({literal(self.schedules)}, {literal(self.boundaries)})"


class Sum(Schedule):
    """The sum of schedules; `a + b` makes it.

    Formula: `s(t) = schedules[0](t) + schedules[1](t) + ...`.

    Args:
      schedules: one or more schedules, callables or numbers.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(0.0, 1.0, 4) + 1.0
      Linear(init_value=0.0, end_value=1.0, steps=4) + 1.0

    References:
      the pointwise sum of functions; a floor under a decay is one.
    """

    schedules: tuple[Schedule, ...]

    def structure(self) -> Structure:
        return Structure(tuple(map(Part, self.schedules)))

    def value(self, step: Step) -> Array:
        return functools.reduce(operator.add, (s.value(step) for s in self.schedules))

    def _expression(self) -> str:
        return infix("+", self.schedules)


class Product(Schedule):
    """The product of schedules; `a * b` makes it.

    Formula: `s(t) = schedules[0](t) * schedules[1](t) * ...`.

    Args:
      schedules: one or more schedules, callables or numbers.

    Example:
      >>> import jaxsched as js
      >>> 0.5 * js.Linear(0.0, 1.0, 4)
      0.5 * Linear(init_value=0.0, end_value=1.0, steps=4)

    References:
      torch's ChainedScheduler.
    """

    schedules: tuple[Schedule, ...]

    def structure(self) -> Structure:
        # From where one factor is 0 for good, the others change nothing.
        ends = [(s, span(s)) for s in self.schedules]
        stop = min((end for s, end in ends if end is not None and values_at(s, math.ceil(end)) == 0), default=None)
        return Structure(tuple(Part(s, 0, stop) for s in self.schedules))

    def value(self, step: Step) -> Array:
        return functools.reduce(operator.mul, (s.value(step) for s in self.schedules))

    def _expression(self) -> str:
        return infix("*", self.schedules)


class Clip(Method):
    """A schedule that is kept between two values.

    Formula: `s(t) = min(max(schedule(t), lo), hi)`.

    Args:
      schedule: any schedule.
      lo, hi: the bounds, `lo <= hi`; one of them may be None.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, 4).clip(lo=0.3).table(5).tolist()
      [1.0, 0.75, 0.5, 0.30000001192092896, 0.30000001192092896]

    References:
      the `min_lr` and `max_lr` of most systems, as numpy.clip.
    """

    schedule: Schedule
    lo: Scalar | None = None
    hi: Scalar | None = None

    def check(self) -> None:
        if self.lo is None and self.hi is None:
            raise FieldError("Clip", ("lo", "hi"), (None, None), "write at least one bound")
        reject_if(self, lambda lo, hi: lo > hi, "lo", "hi", instead="lo must not be above hi")

    def structure(self) -> Structure:
        return Structure((Part(self.schedule),), bounds=(self.lo, self.hi))

    def value(self, step: Step) -> Array:
        out = self.schedule.value(step)
        out = out if self.lo is None else jnp.maximum(out, self.lo)
        return out if self.hi is None else jnp.minimum(out, self.hi)


class Shift(Method):
    """A schedule that begins later, or earlier.

    Formula: `s(t) = schedule(max(t - steps, 0))`.

    Args:
      schedule: any schedule.
      steps: by how many steps it is delayed; below 0 it is ahead.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, 2).shift(2).table(5).tolist()
      [1.0, 1.0, 1.0, 0.5, 0.0]

    References:
      the `last_epoch` of torch's schedulers, ahead; the `delay` of Megatron and Paddle, later.
    """

    schedule: Schedule
    steps: Offset

    def structure(self) -> Structure:
        return Structure((Part(self.schedule, max(self.steps, 0), ahead=max(-self.steps, 0)),))

    def value(self, step: Step) -> Array:
        later = shapes.elapsed(step, jnp.maximum(self.steps, 0))
        return self.schedule.value(shapes.ahead(later, jnp.maximum(-self.steps, 0)))


class Hold(Method):
    """A schedule that changes only at every `every`-th step.

    Formula: `s(t) = schedule(every floor(t / every))`.

    Args:
      schedule: any schedule.
      every: how many steps a value is held.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, 4).hold(2).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.0]

    References:
      the per-epoch schedulers of Keras and timm (`t_in_epochs`), with every = steps per epoch.
    """

    schedule: Schedule
    every: Length

    def structure(self) -> Structure:
        return Structure((Part(self.schedule),), stairs=self.every)

    def value(self, step: Step) -> Array:
        return self.schedule.value(shapes.floor_div(step, self.every) * self.every)


class PerEpoch(Method):
    """A schedule that counts epochs, made to count steps.

    Formula: `s(t) = schedule(floor(t / steps_per_epoch))`.

    Args:
      schedule: any schedule, whose steps are epochs.
      steps_per_epoch: the steps in an epoch.

    Example:
      >>> import jaxsched as js
      >>> js.StepDecay(1.0, decay_rate=0.5, decay_steps=2).per_epoch(3).table(8).tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]

    References:
      torch's schedulers, stepped once an epoch.
    """

    schedule: Schedule
    steps_per_epoch: Length

    def structure(self) -> Structure:
        return Structure((Part(self.schedule, unit=self.steps_per_epoch),), stairs=self.steps_per_epoch)

    def value(self, step: Step) -> Array:
        return self.schedule.value(shapes.floor_div(step, self.steps_per_epoch))


class Repeat(Method):
    """A schedule in cycles; each cycle may be longer and have smaller values than the one before.

    Formula: in cycle i, which is `period period_mult^i` steps long and begins at `start_i`,
    `s(t) = value_mult^i schedule((t - start_i) / period_mult^i)`. After `cycles` cycles it holds
    `value_mult^(cycles - 1) schedule(period)`.

    Args:
      schedule: any schedule; evaluated at its steps 0 to `period`.
      period: the length of the first cycle, in steps.
      period_mult: 1 or more. An integer is exact at every step; None is 1, with the local clock a plain integer for
        the formulas of users too.
      value_mult: above 0.
      cycles: how many, 1 or more; None: without an end.

    Example:
      >>> import jaxsched as js
      >>> s = js.Linear(1.0, 0.0, 3).repeat(3, period_mult=3, value_mult=0.5)
      >>> [float(s(t)) for t in (0, 3, 12, 39, 363)]
      [1.0, 0.5, 0.25, 0.125, 0.03125]

    References:
      SGDR (1608.03983) for any schedule; ParameterSchedulers.jl's Loop.
    """

    schedule: Schedule
    period: Length
    period_mult: Growth | None = None
    value_mult: Positive = 1.0
    cycles: Count | None = None

    def structure(self) -> Structure:
        return Structure((Part(self.schedule),), cycle=(self.period, self.period_mult, self.cycles))

    def value(self, step: Step) -> Array:
        index, clock = shapes.cycle(step, self.period, self.period_mult)
        if self.cycles is not None:
            over = index >= self.cycles
            index, clock = jnp.minimum(index, self.cycles - 1), shapes.stopped(clock, over, self.period)
        return shapes.power(self.value_mult, shapes.ratio(index)) * self.schedule.value(clock)


class Warmup(Method):
    """A schedule under a factor that rises to 1; its own clock runs from step 0 on.

    Formula: `s(t) = schedule(t) w(t)`, where w goes from `init_factor` to 1 in `steps`.

    Args:
      schedule: any schedule.
      steps: the length of the warmup; 0 for none.
      shape: `linear cosine sqrt 1-sqrt square 1-square exponential mirror-cosine`, as in `Ramp`.
      init_factor: the factor at step 0, from 0 to 1; above 0 for an exponential shape.

    Example:
      >>> import jaxsched as js
      >>> js.Constant(0.5).warmup(2).table(4).tolist()
      [0.0, 0.25, 0.5, 0.5]

    References:
      pytorch_warmup's dampening, Goyal et al. (1706.02677).
    """

    schedule: Schedule
    steps: Steps
    shape: ShapeName = "linear"
    init_factor: NonNegative = 0.0

    def check(self) -> None:
        reject_if(self, lambda x: x > 1, "init_factor", instead="a warmup begins at a factor from 0 to 1")
        if self.shape == "exponential":
            reject_if(self, lambda x: x == 0, "init_factor", instead="an exponential warmup begins above 0")

    def structure(self) -> Structure:
        # From where the schedule is 0 for good, the factor changes nothing.
        end = span(self.schedule)
        if end is not None and values_at(self.schedule, math.ceil(end)) == 0:
            return Structure((Part(self.schedule),), (min(self.steps, end),))
        return Structure((Part(self.schedule),), (self.steps,))

    def value(self, step: Step) -> Array:
        return self.schedule.value(step) * shapes.ramp(self.shape, self.init_factor, 1.0, step, self.steps)


class Cooldown(Method):
    """A schedule until step `at`, then a ramp down from its value there.

    Formula: `s(t) = schedule(t)` before `at`, then a ramp from `schedule(at)` to `end_value` in `steps`.

    Args:
      schedule: any schedule; a long training can branch off at any step.
      at: the step where the cooldown begins; for an exponential shape the schedule must be above 0 there.
      steps: its length; 0 jumps to `end_value`.
      end_value: the value at step `at + steps` and after it; above 0 for an exponential shape.
      shape: `linear cosine sqrt 1-sqrt square 1-square exponential mirror-cosine`, as in `Ramp`.

    Example:
      >>> import jaxsched as js
      >>> js.Constant(1.0).cooldown(at=2, steps=2).table(6).tolist()
      [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]

    References:
      the cooldown of Haegele et al. (2405.18392); OLMo-core's OverrideDecay.
    """

    schedule: Schedule
    at: Steps
    steps: Steps
    end_value: Scalar = 0.0
    shape: ShapeName = "linear"

    def check(self) -> None:
        if self.shape == "exponential":
            reject_if(self, lambda x: x <= 0, "end_value", instead="an exponential cooldown ends above 0")
            if checkable(self):
                self._check_start()

    def _check_start(self) -> None:
        starts = each_setting(lambda setting: setting.schedule(setting.at), self)
        for bad in [] if is_traced(starts) else map(tuple, np.argwhere(starts <= 0)[:1]):
            instead = "an exponential cooldown begins above 0: write another step or shape"
            at = np.asarray(self.at)[bad[: np.ndim(self.at)]].item()
            raise FieldError("Cooldown", "at", at, instead, note=f", where the schedule is {format_value(starts[bad])}")

    def structure(self) -> Structure:
        return Structure((Part(self.schedule, 0, self.at),), (self.at, self.at + self.steps))

    def value(self, step: Step) -> Array:
        start = self.schedule.value(jnp.asarray(self.at))
        down = shapes.ramp(self.shape, start, self.end_value, shapes.elapsed(step, self.at), self.steps)
        return shapes.select(shapes.reached(step, self.at), down, self.schedule.value(step))


class Noise(Method):
    """A schedule with random noise on it, a function of the seed and the step alone.

    Formula: `s(t) = schedule(t) (1 + n)`, or `schedule(t) + n` if not `relative`, with
    `n = std (1 + t)^(-decay / 2) z` and z standard normal, drawn again for every step, under `|std z| <= limit`.

    Args:
      schedule: any schedule.
      std: the standard deviation of the noise (before the limit cuts it), 0 or more.
      seed: an integer; the same seed gives the same noise, in any order of the steps, and after a restart.
      limit: the largest `|std z|`, above 0; up to 1 relative noise never changes the sign.
      decay: how fast the variance falls: as `(1 + t)^-decay`, 0 or more.
      relative: whether the noise is a share of the value.

    Example:
      >>> import jaxsched as js
      >>> s = js.Constant(0.1).noise(std=0.1, seed=7)
      >>> bool(s(3) == s.table(10)[3]), bool(s(3) == s(4))
      (True, False)

    References:
      timm's noise (`noise_pct` is the limit), TF1's noisy_linear_cosine_decay (`variance_decay`).
    """

    schedule: Schedule
    std: NonNegative
    seed: Integer = 0
    limit: Positive = 1.0
    decay: NonNegative = 0.0
    relative: bool = True

    def structure(self) -> Structure:
        return Structure((Part(self.schedule),), opaque=True)

    def value(self, step: Step) -> Array:
        whole = shapes.floor_div(step, 1)
        key = jax.random.key(self.seed, impl="threefry2x32")

        def draw_at(t: Array) -> Array:
            if t.dtype == jnp.int64:  # fold_in uses the lower 32 bits
                t = (t ^ ((t >> 32) * 0x9E3779B9)) & 0xFFFFFFFF
            return self._draw(jax.random.fold_in(key, t))

        draw = jnp.vectorize(draw_at)
        noise = draw(whole) * shapes.power(1 + floating(whole), shapes.ratio(-self.decay / 2))
        return self.schedule.value(step) * (1 + noise) if self.relative else self.schedule.value(step) + noise

    def _draw(self, key: Array) -> Array:
        # In float32 always: wider numbers would draw other bits, and so another noise.
        bound = jnp.asarray(self.limit / jnp.maximum(self.std, 1e-6 * self.limit)).astype(jnp.float32)
        return self.std * floating(jax.random.truncated_normal(key, -bound, bound, dtype=jnp.float32))


def join(schedules: Sequence[Any], boundaries: Sequence[Any]) -> Join:
    """Schedules one after the other; plain callables (optax schedules) and numbers too. See `Join`.

    Example:
      >>> import optax
      >>> import jaxsched as js
      >>> s = js.join([js.Linear(0.0, 1.0, 2), optax.cosine_decay_schedule(1.0, 10)], [2])
      >>> float(s(2)), float(s(12))
      (1.0, 0.0)
    """
    return Join(schedules, boundaries)  # type: ignore[arg-type]
