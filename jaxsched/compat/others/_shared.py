"""What the modules of functions share: arguments checked by their annotations, shares of a horizon, a few pieces."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._errors import is_traced
from ...fields import Scalar, Steps
from ...schedules.base import Schedule
from ...schedules.shapes import Step, floating


def from_config(function: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """`function` called with those of its arguments that are in `config`; None is as if it were not there."""
    names = inspect.signature(function).parameters
    return function(**{name: config[name] for name in names if config.get(name) is not None})


def counted(compute: Callable[..., Any], *values: Any, rounding: Literal["floor", "round"] = "floor") -> Any:
    """A whole number of steps that is computed of others, `compute(np or jnp, *values)`.

    In double precision where the numbers are Python's, as the peers do it. It is floored with a tolerance of four ulp:
    0.29 of 100 is 29, which in float64 is a little less, as 0.01 of 1,000 is in float32."""
    if _plain(*values):
        exact = compute(np, *map(float, values))
        return int(np.floor(exact * (1 + 4 * np.finfo(float).eps)) if rounding == "floor" else np.rint(exact))
    rough = compute(jnp, *map(floating, values))
    if rounding == "floor":
        rough = rough * (1 + 4 * float(jnp.finfo(rough.dtype).eps))
    return (jnp.floor(rough) if rounding == "floor" else jnp.round(rough)).astype(jnp.result_type(int))


def known_to_be(condition: Callable[..., Any], *values: Any) -> bool:
    """Whether `condition` holds, of numbers that can be seen; what is traced is never refused."""
    return not any(map(is_traced, values)) and bool(np.any(condition(*map(np.asarray, values))))


def _plain(*values: Any) -> bool:
    return all(isinstance(value, numbers.Real) for value in values)


def least(a: Any, b: Any) -> Any:
    """The smaller one; of Python's numbers one of them, so that nothing is rounded."""
    return min(a, b) if _plain(a, b) else jnp.minimum(a, b)


def most(a: Any, b: Any) -> Any:
    """The larger one."""
    return max(a, b) if _plain(a, b) else jnp.maximum(a, b)


def choose(condition: Any, a: Any, b: Any) -> Any:
    """`a` where `condition` holds, else `b`."""
    return (a if condition else b) if _plain(condition) else jnp.where(condition, a, b)


def before(first: Any, table: Any) -> Any:
    """`table` with one number before it."""
    like: Any = jnp if isinstance(table, jax.Array) else np
    return like.concatenate([like.full((1,), first, table.dtype), table])


class EndlessLine(Schedule):
    """A straight line that does not stop at its end, as some peers have it.

    Formula: `s(t) = init (1 - t / steps) + end t / steps`.

    Fields:
      init_value, end_value: the values at step 0 and at step `steps`.
      steps: 0 or more; 0 counts as 1.

    Example:
      >>> from jaxsched.compat.others._shared import EndlessLine
      >>> EndlessLine(1.0, 0.0, steps=2).table(4).tolist()
      [1.0, 0.5, 0.0, -0.5]

    Source: the factors `(total_steps - t) / cooldown_steps` of big_vision, Scenic and OLMo-core.
    """

    init_value: Scalar
    end_value: Scalar
    steps: Steps

    def value(self, step: Step) -> Array:
        length = floating(self.steps)
        left = floating(self.steps - step) / jnp.where(length > 0, length, 1)
        return self.end_value + (self.init_value - self.end_value) * left


class If(Schedule):
    """A factor that is there or not, by a number.

    Formula: `s(t) = factor(t)` where `condition > 0`, else 1.

    Fields:
      factor: any schedule.
      condition: a number, often a length.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.compat.others._shared import If
      >>> If(js.Constant(0.5), condition=0).table(2).tolist()
      [1.0, 1.0]

    Source: the `if steps:` of big_vision and Scenic.
    """

    factor: Schedule
    condition: Scalar

    def value(self, step: Step) -> Array:
        value = self.factor.value(step)
        return jnp.where(self.condition > 0, value, jnp.ones_like(value))
