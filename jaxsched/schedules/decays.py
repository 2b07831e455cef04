"""Decays without an end."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..fields import Length, NonNegative, Positive, Scalar
from . import shapes
from .base import Schedule
from .shapes import Ratio, Step
from .structure import Structure


class Staircase(Schedule, abstract=True):
    """A decay over `decay_steps`, by the step or in stairs."""

    init_value: Scalar
    decay_rate: NonNegative
    decay_steps: Length
    staircase: bool = False

    def _stairs(self) -> Any:
        return self.decay_steps if self.staircase else None

    def _exponent(self, step: Step) -> Ratio:
        if self.staircase:
            return shapes.ratio(shapes.floor_div(step, self.decay_steps))
        return shapes.ratio(step, self.decay_steps)


class StepDecay(Schedule):
    """A factor at every `decay_steps`-th step.

    Formula: `s(t) = init decay_rate^floor(t / decay_steps)`.

    Args:
      init_value: the value of the first `decay_steps` steps.
      decay_rate: the factor, above 0.
      decay_steps: steps between two factors, above 0.

    Example:
      >>> import jaxsched as js
      >>> js.StepDecay(1.0, decay_rate=0.5, decay_steps=2).table(6).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]

    References:
      torch's StepLR.
    """

    init_value: Scalar
    decay_rate: Positive
    decay_steps: Length

    def structure(self) -> Structure:
        return Structure(stairs=self.decay_steps, endless=True)

    def value(self, step: Step) -> Array:
        return self.init_value * shapes.power(self.decay_rate, shapes.ratio(shapes.floor_div(step, self.decay_steps)))


class ExponentialDecay(Staircase):
    """A constant rate of decay, by the step or in stairs.

    Formula: `s(t) = init decay_rate^(t / decay_steps)`, with the exponent floored if `staircase`; then not beyond
    `end_value`: not below it where the value falls, not above it where it rises.

    Args:
      init_value: the value at step 0.
      decay_rate: the factor over `decay_steps`, above 0.
      decay_steps: steps, above 0.
      staircase: whether the factor comes at once, at every `decay_steps`-th step.
      end_value: the bound, or None.

    Example:
      >>> import jaxsched as js
      >>> js.ExponentialDecay(1.0, decay_rate=0.25, decay_steps=2).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    References:
      tf.compat.v1.train.exponential_decay, optax.exponential_decay, torch's ExponentialLR.
    """

    decay_rate: Positive
    end_value: Scalar | None = None

    def structure(self) -> Structure:
        if self.end_value is None:
            return Structure(stairs=self._stairs(), endless=True)
        crossing = np.log(self.end_value / self.init_value) / np.log(self.decay_rate) * self.decay_steps
        if not np.isfinite(crossing):
            return Structure(endless=True)
        return Structure(marks=(crossing,), stairs=self._stairs())

    def value(self, step: Step) -> Array:
        out = self.init_value * shapes.power(self.decay_rate, self._exponent(step))
        if self.end_value is None:
            return out
        direction = jnp.sign(self.init_value) * jnp.sign(self.decay_rate - 1)
        bounded = shapes.select(direction < 0, jnp.maximum(out, self.end_value), jnp.minimum(out, self.end_value))
        return shapes.select(direction == 0, out, bounded)


class NaturalExpDecay(Staircase):
    """Exponential decay with its rate in the exponent.

    Formula: `s(t) = init exp(-decay_rate t / decay_steps)`, with `t / decay_steps` floored if `staircase`.

    Args:
      init_value: the value at step 0.
      decay_rate: 0 or more.
      decay_steps: steps, above 0.
      staircase: whether it falls at every `decay_steps`-th step only.

    Example:
      >>> import jaxsched as js
      >>> round(float(js.NaturalExpDecay(1.0, decay_rate=0.5, decay_steps=10)(20)), 6)
      0.367879

    References:
      tf.compat.v1.train.natural_exp_decay.
    """

    def structure(self) -> Structure:
        return Structure(stairs=self._stairs(), endless=True)

    def value(self, step: Step) -> Array:
        return self.init_value * shapes.exponential(-self.decay_rate, self._exponent(step))


class InverseTimeDecay(Staircase):
    """Decay with the inverse of time.

    Formula: `s(t) = init / (1 + decay_rate t / decay_steps)`, with `t / decay_steps` floored if `staircase`.

    Args:
      init_value: the value at step 0.
      decay_rate: 0 or more.
      decay_steps: steps, above 0.
      staircase: whether it falls at every `decay_steps`-th step only.

    Example:
      >>> import jaxsched as js
      >>> js.InverseTimeDecay(1.0, decay_rate=1.0, decay_steps=2)([0, 2, 6]).tolist()
      [1.0, 0.5, 0.25]

    References:
      tf.compat.v1.train.inverse_time_decay.
    """

    def structure(self) -> Structure:
        return Structure(stairs=self._stairs(), endless=True)

    def value(self, step: Step) -> Array:
        exponent = self._exponent(step)
        return self.init_value / (1 + self.decay_rate * (exponent.high + exponent.low))


class InverseSqrtDecay(Schedule):
    """Decay with the inverse square root of time.

    Formula: `s(t) = init / sqrt(1 + t / timescale)`.

    Args:
      init_value: the value at step 0.
      timescale: steps, above 0; after three of them the value has halved.

    Example:
      >>> import jaxsched as js
      >>> float(js.InverseSqrtDecay(1.0, timescale=100)(300))
      0.5

    References:
      Vaswani et al. (1706.03762), without the warmup; transformers' inverse_sqrt.
    """

    init_value: Scalar
    timescale: Length

    def structure(self) -> Structure:
        return Structure(endless=True)

    def value(self, step: Step) -> Array:
        elapsed = shapes.ratio(step, self.timescale)
        return self.init_value / jnp.sqrt(1 + (elapsed.high + elapsed.low))


class PowerDecay(Schedule):
    """Decay with a power of time.

    Formula: `s(t) = init (1 + t / timescale)^(-exponent)`.

    Args:
      init_value: the value at step 0.
      exponent: 0 or more; 1/2 is `InverseSqrtDecay`.
      timescale: steps, above 0.

    Example:
      >>> import jaxsched as js
      >>> float(js.PowerDecay(1.0, exponent=2.0, timescale=10)(10))
      0.25

    References:
      Robbins and Monro's conditions; big_vision's rsqrt with exponent 1/2.
    """

    init_value: Scalar
    exponent: NonNegative
    timescale: Length

    def structure(self) -> Structure:
        return Structure(endless=True)

    def value(self, step: Step) -> Array:
        elapsed = shapes.ratio(step, self.timescale)
        return self.init_value * jnp.power(1 + (elapsed.high + elapsed.low), -self.exponent)
