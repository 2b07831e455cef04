"""Sums of many terms, which rounding leaves alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Sum(NamedTuple):
    """Kahan's sum: its error does not grow with the number of terms.

    Fields:
      value: the sum so far.
      extra: what rounding has added to it.
    """

    value: jax.Array
    extra: jax.Array

    @classmethod
    def zero(cls, dtype: Any) -> Sum:
        """The sum of nothing."""
        return cls(jnp.zeros((), dtype), jnp.zeros((), dtype))

    def plus(self, x: jax.Array) -> Sum:
        """The sum with one more term."""
        x = x - self.extra
        new = self.value + x
        return Sum(new, (new - self.value) - x)

    def times(self, factor: jax.Array) -> Sum:
        """The sum in another unit; nothing is rounded if the factor is a power of 2."""
        return Sum(self.value * factor, self.extra * factor)
