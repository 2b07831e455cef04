"""T5X: the schedule of a text of factors, `constant * linear_warmup * rsqrt_decay`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from ...fields import Length, NonNegative, Offset, Scalar, Steps
from ...schedules import shapes
from ...schedules.base import Constant, Schedule
from ...schedules.decays import InverseSqrtDecay, StepDecay
from ...schedules.ramps import Linear, Ramp
from ...schedules.shapes import Step, floating
from ..peer import admitted, known
from ._shared import known_to_be


class _Fall(Schedule):
    """`1 - slope t`, without an end: the distance to its zero, times the slope."""

    slope: NonNegative

    def value(self, step: Step) -> Array:
        zero, n = shapes.ratio(jnp.asarray(1), self.slope), floating(step)
        return jnp.where(self.slope > 0, self.slope * ((zero.high - n) + zero.low), jnp.ones(n.shape, n.dtype))


class _InverseRoot(Schedule):
    """`1 / sqrt(max(t, steps))`, and 1 at step 0 where `steps` is 0."""

    steps: Steps

    def value(self, step: Step) -> Array:
        n = jnp.maximum(floating(step), floating(self.steps))
        return 1 / jnp.sqrt(jnp.where(n > 0, n, 1))


def _names(factors: str) -> list[str]:
    return [name.strip() for name in factors.split("*")]


@admitted
def create_learning_rate_scheduler(
    factors: str = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: Scalar = 0.5,
    warmup_steps: Steps = 1000,
    decay_factor: NonNegative = 0.5,
    steps_per_decay: Length = 20000,
    steps_per_cycle: Length = 100000,
    step_offset: Offset = 0,
    min_learning_rate: Scalar = 1e-8,
) -> Schedule:
    """The product of the factors that a text names, not below a floor.

    Formula: `max(min_learning_rate, f1(n) f2(n) ...)` with `n = max(t - step_offset, 0)` and W = warmup_steps:
      constant: base_learning_rate.
      linear_warmup: `min(n / W, 1)`.
      linear_decay: `base_learning_rate min(n / W, 1 - decay_factor (n - W))`.
      rsqrt_decay: `1 / sqrt(max(n, W))`.
      rsqrt_normalized_decay: `sqrt(W / max(n, W))`.
      decay_every: `decay_factor^floor(n / steps_per_decay)`.
      cosine_decay: half a cosine from 1 to 0 over `steps_per_cycle`, again and again, from step W on.

    With `warmup_steps=0` T5X divides 0 by 0 at step 0; here the warmup is over, and rsqrt_decay begins at 1.

    Args:
      factors: names, with `*` between them.
      base_learning_rate: the constant.
      warmup_steps: 0 or more; above 0 for rsqrt_normalized_decay.
      decay_factor: 0 or more: the factor of decay_every, above 0 there, and the slope of linear_decay.
      steps_per_decay: steps between two factors of decay_every.
      steps_per_cycle: the length of a cosine.
      step_offset: where the clock starts.
      min_learning_rate: the floor.

    Errors: ValueError for an unknown factor, and for linear_decay beside the factors that it contains.

    Example:
      >>> from jaxsched.compat.others import t5x
      >>> s = t5x.create_learning_rate_scheduler("constant * linear_warmup * rsqrt_normalized_decay", 1.0, 100)
      >>> [round(float(s(t)), 6) for t in (0, 50, 100, 400)]
      [0.0, 0.5, 1.0, 0.5]

    Source: T5X, t5x.utils.create_learning_rate_scheduler.
    """
    owner = "create_learning_rate_scheduler"
    made: dict[str, Callable[[], Schedule]] = {
        "constant": lambda: Constant(base_learning_rate),
        "linear_warmup": lambda: Linear(0.0, 1.0, warmup_steps),
        "linear_decay": lambda: (
            base_learning_rate * Linear(0.0, 1.0, warmup_steps).then(_Fall(decay_factor), at=warmup_steps)
        ),
        "rsqrt_decay": lambda: _InverseRoot(warmup_steps),
        "rsqrt_normalized_decay": lambda: InverseSqrtDecay(1.0, warmup_steps).shift(warmup_steps),
        "decay_every": lambda: StepDecay(1.0, decay_factor, steps_per_decay),
        "cosine_decay": lambda: (
            Ramp(1.0, 0.0, steps_per_cycle, shape="cosine").repeat(steps_per_cycle).shift(warmup_steps)
        ),
    }
    names = [known(owner, "factors", name, made) for name in _names(factors)]
    if "linear_decay" in names and {"constant", "linear_warmup"} & set(names):
        raise ValueError(
            f"{owner}: factors={factors!r}; linear_decay contains constant and linear_warmup: write it without them."
        )
    if "rsqrt_normalized_decay" in names and known_to_be(lambda steps: steps == 0, warmup_steps):
        raise ValueError(
            f"{owner}: warmup_steps=0; rsqrt_normalized_decay counts in units of the warmup: write 1 or more."
        )
    product = functools.reduce(operator.mul, (made[name]() for name in names))
    return product.shift(step_offset).clip(lo=min_learning_rate)
