"""Common schedules of training, composed of the others."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._errors import format_value
from ..fields import Length, Positive, Scalar, Steps, Unit, reject_if, reject_uncountable, reject_zero_crossing
from . import shapes
from .base import Recipe, Schedule, ShapeName
from .decays import InverseSqrtDecay
from .ramps import Cosine, Exponential, Linear, Polynomial, Ramp
from .shapes import Step, floating
from .structure import Structure


def _reject_long_phases(schedule: Schedule, *phases: str) -> None:
    instead = f"the phases must fit into the whole: write {' + '.join(phases)} <= total_steps"
    reject_if(schedule, lambda *steps: sum(steps[:-1]) > steps[-1], *phases, "total_steps", instead=instead)


class WarmupConstant(Recipe):
    """A linear warmup, and the peak from there on.

    Formula: `Linear(init_value, peak_value, warmup_steps)`.

    Args:
      peak_value: the value from step `warmup_steps` on.
      warmup_steps: 0 or more; with 0 the value is the peak from step 0 on.
      init_value: the value at step 0.

    Example:
      >>> import jaxsched as js
      >>> js.WarmupConstant(1.0, warmup_steps=2).table(4).tolist()
      [0.0, 0.5, 1.0, 1.0]

    References:
      transformers' constant_with_warmup.
    """

    peak_value: Scalar
    warmup_steps: Steps
    init_value: Scalar = 0.0

    def build(self) -> Schedule:
        return Linear(self.init_value, self.peak_value, self.warmup_steps)


class WarmupDecay(Recipe, abstract=True):
    """A linear warmup, then a decay over the remaining steps."""

    peak_value: Scalar
    warmup_steps: Steps
    total_steps: Length
    init_value: Scalar = 0.0
    end_value: Scalar = 0.0

    def check(self) -> None:
        instead = "the warmup must not be longer than the whole: write warmup_steps <= total_steps"
        reject_if(self, lambda warmup, total: warmup > total, "warmup_steps", "total_steps", instead=instead)

    def decay(self, steps: Any) -> Schedule:
        """The schedule from the peak to the end."""
        raise NotImplementedError

    def build(self) -> Schedule:
        up = Linear(self.init_value, self.peak_value, self.warmup_steps)
        return up.then(self.decay(self.total_steps - self.warmup_steps), at=self.warmup_steps)


class WarmupLinear(WarmupDecay):
    """A linear warmup, then a line down to the end.

    Formula: `Linear(init, peak, warmup_steps)`, then `Linear(peak, end, total_steps - warmup_steps)`.

    Args:
      peak_value: the value at step `warmup_steps`.
      warmup_steps: 0 or more, at most `total_steps`; with 0 the schedule starts at its peak.
      total_steps: the horizon, above 0; the value there and after it is `end_value`.
      init_value: the value at step 0.
      end_value: the value at step `total_steps`.

    Example:
      >>> import jaxsched as js
      >>> js.WarmupLinear(1.0, warmup_steps=2, total_steps=4).table(6).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    References:
      transformers' linear; to zero, Bergsma et al. (2502.15938), who find it better than a cosine to a tenth.
    """

    def decay(self, steps: Any) -> Schedule:
        return Linear(self.peak_value, self.end_value, steps)


class WarmupCosine(WarmupDecay):
    """A linear warmup, then half a cosine down to the end.

    Formula: `Linear(init, peak, warmup_steps)`, then `Cosine(peak, end, total_steps - warmup_steps)`.

    Args:
      peak_value, warmup_steps, total_steps, init_value, end_value: as in `WarmupLinear`.

    Example:
      >>> import jaxsched as js
      >>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=2_000, total_steps=100_000)
      >>> float(s(1_000)) == float(s(2_000)) / 2
      True

    References:
      SGDR (1608.03983) with the warmup of 1706.02677; optax.warmup_cosine_decay_schedule.
    """

    def decay(self, steps: Any) -> Schedule:
        return Cosine(self.peak_value, self.end_value, steps)


class WarmupPolynomial(WarmupDecay):
    """A linear warmup, then a polynomial down to the end.

    Formula: `Linear(init, peak, warmup_steps)`, then `Polynomial(peak, end, total_steps - warmup_steps, power)`.

    Args:
      peak_value, warmup_steps, total_steps, init_value, end_value: as in `WarmupLinear`.
      power: above 0.

    Example:
      >>> import jaxsched as js
      >>> js.WarmupPolynomial(1.0, warmup_steps=2, total_steps=4, power=2).table(5).tolist()
      [0.0, 0.5, 1.0, 0.25, 0.0]

    References:
      transformers' polynomial.
    """

    power: Positive = 1.0

    def decay(self, steps: Any) -> Schedule:
        return Polynomial(self.peak_value, self.end_value, steps, self.power)


class WarmupExponential(WarmupDecay):
    """A linear warmup, then a constant factor at every step down to the end.

    Formula: `Linear(init, peak, warmup_steps)`, then `Exponential(peak, end, total_steps - warmup_steps)`.

    Args:
      peak_value, warmup_steps, total_steps, init_value: as in `WarmupLinear`.
      end_value: the value at step `total_steps`, not 0 and of the sign of the peak; there is no default that works.

    Example:
      >>> import jaxsched as js
      >>> s = js.WarmupExponential(1.0, warmup_steps=2, total_steps=4, end_value=0.01)
      >>> [round(float(v), 6) for v in s.table(5)]
      [0.0, 0.5, 1.0, 0.1, 0.01]

    References:
      optax.warmup_exponential_decay_schedule with an end.
    """

    def check(self) -> None:
        super().check()
        reject_zero_crossing(self, "peak_value", "end_value")

    def decay(self, steps: Any) -> Schedule:
        return Exponential(self.peak_value, self.end_value, steps)


class WarmupInverseSqrt(Recipe):
    """A linear warmup, then decay with the inverse square root of time, without an end.

    Formula: `Linear(init 0, peak, warmup_steps)`, then `peak / sqrt(1 + (t - warmup_steps) / timescale)`.

    Args:
      peak_value: the value at step `warmup_steps`.
      warmup_steps: 0 or more.
      timescale: steps, above 0; None: `warmup_steps`. Required if `warmup_steps` is 0.

    Example:
      >>> import jaxsched as js
      >>> s = js.WarmupInverseSqrt(1.0, warmup_steps=100)
      >>> [float(s(t)) for t in (0, 50, 100, 400)]
      [0.0, 0.5, 1.0, 0.5]

    References:
      Vaswani et al. (1706.03762); transformers' inverse_sqrt.
    """

    peak_value: Scalar
    warmup_steps: Steps
    timescale: Length | None = None

    def check(self) -> None:
        if self.timescale is None:
            reject_if(self, lambda x: x == 0, "warmup_steps", instead="without a warmup write a timescale")

    def build(self) -> Schedule:
        timescale = self.warmup_steps if self.timescale is None else self.timescale
        up = Linear(0.0, self.peak_value, self.warmup_steps)
        return up.then(InverseSqrtDecay(self.peak_value, timescale), at=self.warmup_steps)


class WarmupStableDecay(Recipe):
    """A warmup, a plateau at the peak, and a cooldown (WSD, the trapezoid).

    Formula: up over `warmup_steps`, the peak until step `total_steps - decay_steps`, down over `decay_steps`.

    Args:
      peak_value, warmup_steps, total_steps, init_value, end_value: as in `WarmupLinear`.
      decay_steps: at most `total_steps - warmup_steps`; 0 jumps to `end_value` at step `total_steps`.
      warmup_shape, decay_shape: the shapes of `Ramp`. Both ends of an exponential shape must be other than 0 and have
        one sign: `init_value` and `peak_value` of the warmup, `peak_value` and `end_value` of the decay.

    Example:
      >>> import jaxsched as js
      >>> js.WarmupStableDecay(1.0, 2, 8, decay_steps=4, decay_shape="linear").table(9).tolist()
      [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]

    References:
      MiniCPM (2404.06395); Haegele et al. (2405.18392), whose best cooldown is 1-sqrt.
    """

    peak_value: Scalar
    warmup_steps: Steps
    total_steps: Length
    decay_steps: Steps
    init_value: Scalar = 0.0
    end_value: Scalar = 0.0
    warmup_shape: ShapeName = "linear"
    decay_shape: ShapeName = "1-sqrt"

    def check(self) -> None:
        _reject_long_phases(self, "warmup_steps", "decay_steps")

    def build(self) -> Schedule:
        up = Ramp(self.init_value, self.peak_value, self.warmup_steps, self.warmup_shape)
        down = Ramp(self.peak_value, self.end_value, self.decay_steps, self.decay_shape)
        return up.then(down, at=self.total_steps - self.decay_steps)


class TriStage(Recipe):
    """A linear warmup, a plateau, and exponential decay to the end, which then holds.

    Formula: `Linear(init, peak, warmup_steps)`, the peak for `hold_steps`, `Exponential(peak, end, decay_steps)`.

    Args:
      peak_value: the value of the plateau.
      warmup_steps, hold_steps, decay_steps: the three lengths, 0 or more steps.
      init_value: the value at step 0.
      end_value: the value after the three stages, of the sign of the peak and not 0; None: a hundredth of the peak.

    Example:
      >>> import jaxsched as js
      >>> s = js.TriStage(1.0, warmup_steps=2, hold_steps=2, decay_steps=2)
      >>> [round(float(v), 6) for v in s.table(7)]
      [0.0, 0.5, 1.0, 1.0, 1.0, 0.1, 0.01]

    References:
      SpecAugment (1904.08779), fairseq's tri_stage.
    """

    peak_value: Scalar
    warmup_steps: Steps
    hold_steps: Steps
    decay_steps: Steps
    init_value: Scalar = 0.0
    end_value: Scalar | None = None

    def check(self) -> None:
        reject_zero_crossing(self, "peak_value", "end_value")
        reject_uncountable(self, "warmup_steps", "hold_steps", "decay_steps")

    def build(self) -> Schedule:
        end_value = 0.01 * self.peak_value if self.end_value is None else self.end_value
        up = Linear(self.init_value, self.peak_value, self.warmup_steps)
        down = Exponential(self.peak_value, end_value, self.decay_steps)
        return up.then(down, at=self.warmup_steps + self.hold_steps)


class InfiniteSchedule(Recipe):
    """A schedule that can be prolonged at will: warmup, a cosine to a plateau, the plateau, and a last decay.

    Formula: `Linear(init, peak, warmup_steps)`, `Cosine(peak, constant_value, cooldown_steps)`, the plateau, and
    `Exponential(constant_value, end_value, decay_steps)` up to step `total_steps`.

    Args:
      peak_value: the value at step `warmup_steps`.
      constant_value: the value of the plateau.
      warmup_steps, cooldown_steps, decay_steps: lengths, 0 or more steps.
      total_steps: the horizon, at least the sum of these lengths; only the plateau grows with it.
      end_value: the value at step `total_steps`, of the sign of the plateau and not 0.
      init_value: the value at step 0.

    Example:
      >>> import jaxsched as js
      >>> s = js.schedules.InfiniteSchedule(1.0, 0.5, warmup_steps=2, cooldown_steps=2, total_steps=8, decay_steps=2,
      ...                         end_value=0.005)
      >>> [round(float(v), 6) for v in s.table(9)]
      [0.0, 0.5, 1.0, 0.75, 0.5, 0.5, 0.5, 0.05, 0.005]

    References:
      Ibrahim et al. (2403.08763), Singh et al. (2503.02844).
    """

    peak_value: Scalar
    constant_value: Scalar
    warmup_steps: Steps
    cooldown_steps: Steps
    total_steps: Length
    decay_steps: Steps
    end_value: Scalar
    init_value: Scalar = 0.0

    def check(self) -> None:
        _reject_long_phases(self, "warmup_steps", "cooldown_steps", "decay_steps")
        reject_zero_crossing(self, "constant_value", "end_value")

    def build(self) -> Schedule:
        up = Linear(self.init_value, self.peak_value, self.warmup_steps)
        cooldown = Cosine(self.peak_value, self.constant_value, self.cooldown_steps)
        decay = Exponential(self.constant_value, self.end_value, self.decay_steps)
        return up.then(cooldown, at=self.warmup_steps).then(decay, at=self.total_steps - self.decay_steps)


class Noam(Schedule):
    """The schedule of the first Transformer: a linear rise, then the inverse square root of the step.

    Formula: `s(t) = factor d_model^(-1/2) min(n^(-1/2), n warmup_steps^(-3/2))` with `n = t + 1`.

    Args:
      d_model: the width of the model, above 0.
      warmup_steps: steps, above 0; the peak is at step `warmup_steps - 1`.
      factor: the scale.

    Example:
      >>> import jaxsched as js
      >>> round(float(js.Noam(d_model=512, warmup_steps=4_000)(3_999)), 9)
      0.000698771

    References:
      Vaswani et al. (1706.03762), Paddle's NoamDecay.
    """

    d_model: Positive
    warmup_steps: Length
    factor: Scalar = 1.0

    def structure(self) -> Structure:
        return Structure(marks=(self.warmup_steps - 1,), endless=True)

    def value(self, step: Step) -> Array:
        n, warmup = floating(step) + 1, floating(self.warmup_steps)
        rise = n / (warmup * jnp.sqrt(warmup))
        return self.factor / jnp.sqrt(self.d_model) * jnp.minimum(1 / jnp.sqrt(n), rise)


class _TokenPower(Schedule):
    """`scale (t tokens_per_step)^exponent`, for the `PowerSchedule`."""

    scale: Positive
    tokens_per_step: Positive
    exponent: Scalar

    def structure(self) -> Structure:
        return Structure(marks=(1,), endless=True)

    def value(self, step: Step) -> Array:
        tokens = jnp.maximum(floating(step), 1) * self.tokens_per_step
        return self.scale * shapes.power(tokens, shapes.ratio(self.exponent))


class PowerSchedule(Recipe):
    """A power law in the tokens seen, whose constants carry over between batch sizes and horizons.

    Formula: `min(peak_value, batch_size amplitude n^exponent)` with `n = t tokens_per_step` tokens, times a linear
    warmup; in the last `decay_steps` down to `end_value`.

    Args:
      batch_size: sequences in a batch, above 0.
      tokens_per_step: tokens in a batch, above 0.
      total_steps: the horizon, at least `warmup_steps + decay_steps`.
      warmup_steps: the length of the warmup, 0 or more.
      decay_steps: the length of the last decay, 0 or more; 0 jumps to `end_value` at step `total_steps`.
      peak_value: the largest rate, above 0.
      amplitude: above 0.
      exponent: usually below 0.
      end_value: the value at step `total_steps`.
      decay_shape: a shape of `Ramp`.

    Example:
      >>> import jaxsched as js
      >>> s = js.schedules.PowerSchedule(batch_size=1024, tokens_per_step=2**22, total_steps=300_000)
      >>> round(float(s(round(1e11 / 2**22))), 5), round(float(s(round(1e12 / 2**22))), 5)
      (0.01005, 0.00311)

    References:
      Shen et al. (2408.13359).
    """

    batch_size: Positive
    tokens_per_step: Positive
    total_steps: Length
    warmup_steps: Steps = 0
    decay_steps: Steps = 0
    peak_value: Positive = 0.02
    amplitude: Positive = 4.0
    exponent: Scalar = -0.51
    end_value: Scalar = 0.0
    decay_shape: ShapeName = "linear"

    def check(self) -> None:
        _reject_long_phases(self, "warmup_steps", "decay_steps")

    def build(self) -> Schedule:
        body = _TokenPower(self.batch_size * self.amplitude, self.tokens_per_step, self.exponent)
        return (
            body.clip(hi=self.peak_value)
            .warmup(self.warmup_steps)
            .cooldown(self.total_steps - self.decay_steps, self.decay_steps, self.end_value, self.decay_shape)
        )


def _reject_short_phases(schedule: Any) -> None:
    last, formula = (2, "2 (pct_start total_steps - 1)") if schedule.three_phase else (1, "pct_start total_steps - 1")

    def instead(pct: Any, total: Any) -> str:
        end = format_value(last * (np.float64(pct) * total - 1))
        return (
            f"{formula} is {end} and must be from 0 to below total_steps - 1: change pct_start or lengthen total_steps"
        )

    reject_if(
        schedule,
        lambda pct, total: (pct * total < 1) | (last * (pct * total - 1) >= total - 1),
        "pct_start",
        "total_steps",
        instead=instead,
    )


def _one_cycle(schedule: Any, step: Step, first: Any, middle: Any, last: Any) -> Array:
    """From `first` to `middle` and to `last`; in three phases back to `first` in between. The phases end where torch
    ends them, at step `pct_start total_steps - 1` (and twice that) and at step `total_steps - 1`."""
    pct, total, shape = schedule.pct_start, schedule.total_steps, shapes.SHAPES[schedule.shape]
    start, peak, stop = shapes.Instant(0, 0.0), shapes.instant(pct, total, -1), shapes.Instant(total - 1, 0.0)
    phases = [(start, peak, first, middle), (peak, stop, middle, last)]
    if schedule.three_phase:
        back = shapes.instant(2 * pct, total, -2)
        phases[1:] = [(peak, back, middle, first), (back, stop, first, last)]
    out: Any = first
    for begin, end, a, b in phases:
        value = shapes.mix(a, b, shape(shapes.between(step, begin, end)))
        out = shapes.select(shapes.until(step, begin) <= 0, value, out)
    return out


class OneCycle(Schedule):
    """One cycle over the whole training: up to a peak, then far below the first value.

    Formula: from `peak_value / div_factor` up to `peak_value` at step `pct_start total_steps - 1`, then down to
    `peak_value / div_factor / final_div_factor` at step `total_steps - 1`. In three phases first down to where it
    began, in as many steps as it took to rise.

    Args:
      peak_value: the value at the top.
      total_steps: the horizon, above 1; the last value is reached at step `total_steps - 1`.
      pct_start: the share of the rise, `1 <= pct_start total_steps < total_steps`; in three phases
        `1 <= pct_start total_steps < (total_steps + 1) / 2`.
      div_factor: peak over first value, above 0.
      final_div_factor: first value over last value, above 0.
      shape: `cosine` or `linear`.
      three_phase: whether the fall has two parts.

    Example:
      >>> import jaxsched as js
      >>> s = js.OneCycle(peak_value=0.1, total_steps=100)
      >>> round(float(s(0)), 6), round(float(s(29)), 6), round(float(s(99)), 9)
      (0.004, 0.1, 4e-07)

    References:
      Smith and Topin (1708.07120); torch's OneCycleLR, which bounces up again after its end.
    """

    peak_value: Scalar
    total_steps: Length
    pct_start: Unit = 0.3
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    shape: Literal["cosine", "linear"] = "cosine"
    three_phase: bool = False

    def check(self) -> None:
        _reject_short_phases(self)

    def structure(self) -> Structure:
        peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        return Structure(marks=(peak, 2 * peak, last) if self.three_phase else (peak, last))

    def value(self, step: Step) -> Array:
        first = self.peak_value / self.div_factor
        return _one_cycle(self, step, first, self.peak_value, first / self.final_div_factor)


class OneCycleMomentum(Schedule):
    """The momentum that goes with `OneCycle`: low where the rate is high.

    Formula: from `max_momentum` down to `base_momentum` at step `pct_start total_steps - 1`, and up to `max_momentum`
    at step `total_steps - 1` (in three phases at twice the first step, and constant from there).

    Args:
      base_momentum: the value at the bottom, from 0 to 1.
      max_momentum: the value at both ends, from 0 to 1.
      total_steps, pct_start, shape, three_phase: as in `OneCycle`.

    Example:
      >>> import jaxsched as js
      >>> s = js.OneCycleMomentum(base_momentum=0.85, max_momentum=0.95, total_steps=100)
      >>> round(float(s(0)), 6), round(float(s(29)), 6), round(float(s(99)), 6)
      (0.95, 0.85, 0.95)

    References:
      Smith and Topin (1708.07120), torch's OneCycleLR with cycle_momentum.
    """

    base_momentum: Unit
    max_momentum: Unit
    total_steps: Length
    pct_start: Unit = 0.3
    shape: Literal["cosine", "linear"] = "cosine"
    three_phase: bool = False

    def check(self) -> None:
        _reject_short_phases(self)

    def structure(self) -> Structure:
        peak = self.pct_start * self.total_steps - 1
        return Structure(marks=(peak, 2 * peak if self.three_phase else self.total_steps - 1))

    def value(self, step: Step) -> Array:
        return _one_cycle(self, step, self.max_momentum, self.base_momentum, self.max_momentum)


class ChebyshevSteps(Schedule):
    """The step sizes of Chebyshev iteration, in the fractal order that keeps it stable, again and again.

    Formula: `s(t) = 1 / ((M + m) / 2 - (M - m) / 2 cos((j - 1/2) pi / T))`, where `T = period`, M and m are the
    curvatures, and j is entry `t mod T` of the order `o_1 = [1]`, `o_2T = interlace(o_T, 2T + 1 - o_T)`.

    Args:
      max_curvature, min_curvature: the largest and the smallest eigenvalue of the Hessian, `M > m > 0`.
      period: T, a power of two.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 3) for v in js.schedules.ChebyshevSteps(1.0, 0.05, period=8).table(4)]
      [16.913, 1.009, 2.313, 1.619]

    References:
      Agarwal et al. (2103.01338).
    """

    max_curvature: Positive
    min_curvature: Positive
    period: Length

    def check(self) -> None:
        powers = [2.0**n for n in range(30)]  # 2**30 half steps are the most that are counted
        reject_if(self, lambda T: ~np.isin(T, powers), "period", instead="write a power of two, at most 2**29")
        reject_if(self, lambda M, m: m >= M, "max_curvature", "min_curvature", instead="write max above min")

    def structure(self) -> Structure:
        return Structure(stairs=1, endless=True)

    def value(self, step: Step) -> Array:
        period = jnp.asarray(self.period).astype(jnp.result_type(int))
        _, index = shapes.cycle(shapes.floor_div(step, 1), period)

        def double(level: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
            del level
            order, size = state  # the entry of the order of `size`, whose index is the leading bits of `index`
            bit = (index // jnp.maximum(period // (2 * size), 1)) & 1
            grown = shapes.select(bit == 1, 2 * size + 1 - order, order)
            return shapes.select(size < period, grown, order), shapes.select(size < period, 2 * size, size)

        one = jnp.ones_like(index)
        order, _ = lax.fori_loop(0, jnp.iinfo(period.dtype).bits - 1, double, (one, jnp.ones_like(period)))
        # j - 1/2 of T, counted in halves so that it stays an integer
        position = shapes.half_cosine(shapes.progress(2 * order - 1, 2 * period))
        return 1 / shapes.mix(self.min_curvature, self.max_curvature, position)


_SILVER = [1 + (1 + math.sqrt(2)) ** (k - 1) for k in range(65)]


class SilverSteps(Schedule):
    """The silver step sizes, with which plain gradient descent is accelerated.

    Formula: `s(t) = factor (1 + (1 + sqrt 2)^(k - 1))`, where k is the number of times that 2 divides `t + 1`.

    Args:
      factor: the scale, 1 / L for a function whose gradient has the Lipschitz constant L; above 0.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 6) for v in js.schedules.SilverSteps().table(5)]
      [1.414214, 2.0, 1.414214, 3.414214, 1.414214]

    References:
      Altschuler and Parrilo (2309.16530).
    """

    factor: Positive = 1.0

    def structure(self) -> Structure:
        return Structure(stairs=1, endless=True)

    def value(self, step: Step) -> Array:
        # ~t has the trailing ones of t as zeros: their number is the number of trailing zeros of t + 1.
        whole = shapes.floor_div(step, 1)
        k = lax.population_count(whole & ~(whole + 1))
        # A list, converted at each trace: a global array would keep the dtype of its first use when x64 is toggled.
        return self.factor * jnp.array(_SILVER, jnp.result_type(float))[k]
