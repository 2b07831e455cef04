"""Interpolations from one value to another over a number of steps; the last value then holds."""

from __future__ import annotations

from typing import Literal

from jax import Array

from ..fields import Positive, Scalar, Steps, reject_if, reject_zero_crossing
from . import shapes
from .base import Schedule, ShapeName
from .shapes import Step
from .structure import Structure


class Interpolation(Schedule, abstract=True):
    """From `init_value` at step 0 to `end_value` at step `steps`, which then holds."""

    init_value: Scalar
    end_value: Scalar
    steps: Steps

    def structure(self) -> Structure:
        return Structure(marks=(self.steps,))


class Linear(Interpolation):
    """A straight line from one value to another.

    Formula: `s(t) = init (1 - u) + end u` with `u = min(t / steps, 1)`.

    Args:
      init_value: the value at step 0.
      end_value: the value at step `steps` and after it.
      steps: the length, 0 or more steps; with 0 the value is `end_value` at once.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, steps=4).table(6).tolist()
      [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    References:
      torch's LinearLR, optax.linear_schedule.
    """

    def value(self, step: Step) -> Array:
        return shapes.mix(self.init_value, self.end_value, shapes.progress(step, self.steps))


class Cosine(Interpolation):
    """Half a cosine wave from one value to another.

    Formula: `s(t) = end + (init - end) (1 + cos(pi u)) / 2` with `u = min(t / steps, 1)`.

    Args:
      init_value, end_value, steps: as in `Linear`.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 4) for v in js.Cosine(1.0, 0.0, steps=4).table(6)]
      [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]

    References:
      SGDR (1608.03983); torch's CosineAnnealingLR, which rises again after its end.
    """

    def value(self, step: Step) -> Array:
        position = shapes.half_cosine(shapes.progress(step, self.steps))
        return shapes.mix(self.init_value, self.end_value, position)


class Polynomial(Interpolation):
    """A power of the remaining share of the steps.

    Formula: `s(t) = end + (init - end) (1 - u)^power` with `u = min(t / steps, 1)`.

    Args:
      init_value, end_value, steps: as in `Linear`.
      power: above 0; 1 is a line, 2 falls fast at first.

    Example:
      >>> import jaxsched as js
      >>> js.Polynomial(1.0, 0.0, steps=4, power=2).table(6).tolist()
      [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]

    References:
      torch's PolynomialLR, optax.polynomial_schedule.
    """

    power: Positive = 1.0

    def value(self, step: Step) -> Array:
        left = shapes.flip(shapes.exact_progress(step, self.steps))
        return shapes.mix(self.end_value, self.init_value, shapes.raised(left, self.power))


class KDecay(Interpolation):
    """A cosine or a polynomial on warped time: the exponent k keeps the value high for longer.

    Formula: `s(t) = end + (init - end) w(u^k)` with `u = min(t / steps, 1)`; w is `(1 + cos(pi x)) / 2` (`cosine`) or
    `(1 - x)^power` (`polynomial`).

    Args:
      init_value, end_value, steps: as in `Linear`.
      k: the exponent of time, above 0; 1 changes nothing.
      shape: `cosine` or `polynomial`.
      power: of the polynomial, above 0.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 4) for v in js.schedules.KDecay(1.0, 0.0, steps=4, k=2.0).table(5)]
      [1.0, 0.9904, 0.8536, 0.4025, 0.0]

    References:
      k-decay (2004.05909), timm's `k_decay`.
    """

    k: Positive = 1.0
    shape: Literal["cosine", "polynomial"] = "cosine"
    power: Positive = 1.0

    def value(self, step: Step) -> Array:
        warped = shapes.raised(shapes.exact_progress(step, self.steps), self.k)
        if self.shape == "cosine":
            return shapes.mix(self.init_value, self.end_value, shapes.half_cosine(warped))
        return shapes.mix(self.end_value, self.init_value, shapes.raised(shapes.flip(warped), self.power))


class Exponential(Interpolation):
    """A constant factor at every step, from one value to another.

    Formula: `s(t) = init (end / init)^u` with `u = min(t / steps, 1)`.

    Args:
      init_value, end_value, steps: as in `Linear`; both values have one sign, and neither is 0.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 6) for v in js.Exponential(1.0, 1e-4, steps=4).table(6)]
      [1.0, 0.1, 0.01, 0.001, 0.0001, 0.0001]

    References:
      the learning-rate range test; optax.exponential_decay with an end.
    """

    def check(self) -> None:
        reject_zero_crossing(self, "init_value", "end_value")

    def value(self, step: Step) -> Array:
        return shapes.geometric(self.init_value, self.end_value, step, self.steps)


class Rex(Interpolation):
    """The reflected exponential: slow at first, then nearly straight to its end.

    Formula: `s(t) = end + (init - end) (1 - u) / (1 - (1 - beta) u)` with `u = min(t / steps, 1)`.

    Args:
      init_value, end_value, steps: as in `Linear`.
      beta: above 0; 1 is a line, smaller stays high for longer.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 6) for v in js.Rex(1.0, 0.0, steps=4).table(5)]
      [1.0, 0.857143, 0.666667, 0.4, 0.0]

    References:
      REX (2107.04197).
    """

    beta: Positive = 0.5

    def value(self, step: Step) -> Array:
        position = shapes.hyperbola(shapes.progress(step, self.steps), self.beta)
        return shapes.mix(self.init_value, self.end_value, position)


class Tanh(Interpolation):
    """A piece of the hyperbolic tangent, stretched so that it reaches both ends.

    Formula: `s(t) = end + (init - end) h(u)`, `h(u) = (tanh(upper) - tanh(x)) / (tanh(upper) - tanh(lower))`,
    `x = lower (1 - u) + upper u`, `u = min(t / steps, 1)`.

    Args:
      init_value, end_value, steps: as in `Linear`.
      lower, upper: where the tangent is entered and left, `-20 <= lower < upper <= 20`.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 4) for v in js.Tanh(1.0, 0.0, steps=4).table(5)]
      [1.0, 0.9995, 0.9525, 0.1804, 0.0]

    References:
      hyperbolic-tangent decay (1806.01593), which stops short of both ends.
    """

    lower: Scalar = -6.0
    upper: Scalar = 3.0

    def check(self) -> None:
        reject_if(
            self,
            lambda lower, upper: (lower >= upper) | (lower < -20) | (upper > 20),
            "lower",
            "upper",
            instead="write -20 <= lower < upper <= 20",
        )

    def value(self, step: Step) -> Array:
        position = shapes.tanh_between(self.lower, self.upper, step, self.steps)
        return shapes.mix(self.init_value, self.end_value, position)


class Ramp(Interpolation):
    """From one value to another in a shape that is chosen by its name.

    Formula: `s(t) = end + (init - end) w(u)` with `u = min(t / steps, 1)` and w by name: `linear` 1 - u, `cosine`
    (1 + cos(pi u)) / 2, `sqrt` (1 - u)^(1/2), `1-sqrt` 1 - u^(1/2), `square` (1 - u)^2, `1-square` 1 - u^2,
    `mirror-cosine` 2 (1 - u) - cosine; `exponential` is `Exponential`.

    Args:
      init_value, end_value, steps: as in `Linear`.
      shape: one of these names; for `exponential` both values have one sign, and neither is 0.

    Example:
      >>> import jaxsched as js
      >>> [round(float(v), 4) for v in js.Ramp(1.0, 0.0, steps=4, shape="1-sqrt").table(5)]
      [1.0, 0.5, 0.2929, 0.134, 0.0]

    References:
      the cooldowns of Haegele et al. (2405.18392).
    """

    shape: ShapeName = "linear"

    def check(self) -> None:
        if self.shape == "exponential":
            reject_zero_crossing(self, "init_value", "end_value")

    def value(self, step: Step) -> Array:
        return shapes.ramp(self.shape, self.init_value, self.end_value, step, self.steps)
