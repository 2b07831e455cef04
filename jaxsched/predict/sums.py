"""Compensated summation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Sum(NamedTuple):
    """A Kahan sum, whose error does not grow with the number of terms; `extra` is the error that `value` contains."""

    value: jax.Array
    extra: jax.Array

    @classmethod
    def zero(cls, dtype: Any) -> Sum:
        return cls(jnp.zeros((), dtype), jnp.zeros((), dtype))

    def plus(self, x: jax.Array) -> Sum:
        x = x - self.extra
        new = self.value + x
        return Sum(new, (new - self.value) - x)

    def times(self, factor: jax.Array) -> Sum:
        """Returns the sum times a power of 2, which rounds nothing."""
        return Sum(self.value * factor, self.extra * factor)
