"""Periodic schedules."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jax import Array

from ..fields import Growth, Length, Positive, Scalar, reject_uncountable
from . import shapes
from .base import Schedule
from .shapes import Step, floating
from .structure import Structure


class CyclicTriangular(Schedule):
    """Linear rises and falls, repeated.

    Formula: `s(t) = base + (peak - base) tri(t) f`; `tri` rises from 0 to 1 in `up_steps` and falls in `down_steps`;
    f is 1 (`triangular`), `2^-i` in cycle i = 0, 1, ... (`triangular2`) or `decay_rate^t` (`exp_range`).

    Args:
      base_value: the value at the bottom.
      peak_value: the value at the top of the first cycle.
      up_steps, down_steps: steps, above 0.
      mode: one of these names.
      decay_rate: the factor of a step in `exp_range`, above 0.

    Example:
      >>> import jaxsched as js
      >>> js.CyclicTriangular(0.0, 1.0, up_steps=2, down_steps=2, mode="triangular2").table(8).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]

    References:
      Smith (1506.01186), torch's CyclicLR.
    """

    base_value: Scalar
    peak_value: Scalar
    up_steps: Length
    down_steps: Length
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    decay_rate: Positive = 1.0

    def check(self) -> None:
        reject_uncountable(self, "up_steps", "down_steps")

    def structure(self) -> Structure:
        return Structure(marks=(self.up_steps,), cycle=(self.up_steps + self.down_steps, None, None))

    def value(self, step: Step) -> Array:
        index, clock = shapes.cycle(step, self.up_steps + self.down_steps)
        up = shapes.progress(clock, self.up_steps)
        down = shapes.flip(shapes.progress(shapes.elapsed(clock, self.up_steps), self.down_steps))
        falling = shapes.reached(clock, self.up_steps)
        late, gap = (shapes.select(falling, d, u) for d, u in zip(down, up, strict=True))
        height, lost = self._height(index, step)
        top = shapes.mix(self.peak_value, self.base_value, shapes.nearer(height, lost))
        return shapes.mix(self.base_value, top, shapes.Position(late, gap))

    def _height(self, index: Array, step: Step) -> tuple[Array, Array]:
        """f and 1 - f."""
        if self.mode == "exp_range":
            t = shapes.ratio(step)
            return shapes.power(self.decay_rate, t), shapes.one_minus_exp(jnp.log(self.decay_rate) * (t.high + t.low))
        height = shapes.power(0.5, shapes.ratio(index)) if self.mode == "triangular2" else jnp.ones(index.shape)
        return height, 1 - height


class CosineWarmRestarts(Schedule):
    """Cosines from a peak to an end, each after a restart; a cycle may be longer and lower than the one before.

    Formula: in cycle i, which is `period period_mult^i` steps long, `Cosine(peak_value peak_mult^i, end_value)`.

    Args:
      peak_value: the value at the first step of the first cycle.
      period: the length of the first cycle, above 0.
      period_mult: 1 or more; an integer is exact at every step.
      end_value: the value that each cycle comes down to.
      peak_mult: the factor from peak to peak, above 0.

    Example:
      >>> import jaxsched as js
      >>> s = js.CosineWarmRestarts(1.0, period=3, period_mult=3)
      >>> [float(s(t)) for t in (0, 3, 12, 39, 120, 363)]
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    References:
      SGDR (1608.03983); torch's CosineAnnealingWarmRestarts, whose logarithm misses step 363.
    """

    peak_value: Scalar
    period: Length
    period_mult: Growth = 1
    end_value: Scalar = 0.0
    peak_mult: Positive = 1.0

    def structure(self) -> Structure:
        return Structure(cycle=(self.period, self.period_mult, None))

    def value(self, step: Step) -> Array:
        index, clock = shapes.cycle(step, self.period, self.period_mult)
        peak = self.peak_value * shapes.power(self.peak_mult, shapes.ratio(index))
        return shapes.mix(peak, self.end_value, shapes.half_cosine(shapes.progress(clock, self.period)))


class PolynomialDecay(Schedule):
    """Polynomial decay whose horizon grows when it is reached, if it cycles.

    Formula: `s(t) = end + (init - end) (1 - t / N)^power` with `N = decay_steps`, after which `end_value` holds; if
    `cycle`, `N = decay_steps max(1, ceil(t / decay_steps))`.

    Args:
      init_value: the value at step 0.
      decay_steps: steps, above 0.
      end_value: the value at step `decay_steps` (and at its multiples).
      power: above 0.
      cycle: whether the value rises again, ever less, after each `decay_steps`.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 6) for v in js.PolynomialDecay(1.0, 4, end_value=0.0, cycle=True).table(9)]
      [1.0, 0.75, 0.5, 0.25, 0.0, 0.375, 0.25, 0.125, 0.0]

    References:
      tf.compat.v1.train.polynomial_decay.
    """

    init_value: Scalar
    decay_steps: Length
    end_value: Scalar = 1e-4
    power: Positive = 1.0
    cycle: bool = False

    def structure(self) -> Structure:
        if self.cycle:
            return Structure(cycle=(self.decay_steps, None, None))
        return Structure(marks=(self.decay_steps,))

    def value(self, step: Step) -> Array:
        if self.cycle:
            index, clock = shapes.cycle(step, self.decay_steps)
            within = shapes.progress(clock, self.decay_steps)
            # A multiple of decay_steps still belongs to the horizon that it ends.
            ends = ~within.late & (within.gap == 0) & (index > 0)
            horizons = floating(shapes.select(ends, index, index + 1))
            left = shapes.select(ends, 0, within.left)
            position = shapes.nearer(left / horizons, (floating(index) + within.done) / horizons)
        else:
            position = shapes.progress(step, self.decay_steps)
        return shapes.mix(self.end_value, self.init_value, shapes.raised(shapes.flip(position), self.power))
