"""Warmups whose length follows from Adam's `b2`: there is nothing to tune."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

import jax.numpy as jnp
from jax import Array

from ..fields import Domain, Number, reject_if
from . import shapes
from .base import Schedule
from .shapes import Step, floating
from .structure import Structure

Decay: TypeAlias = Annotated[Number, Domain("a number from 0 to 0.9999999", lambda x: (x >= 0) & (x < 1 - 2**-25))]
Kind: TypeAlias = Literal["linear", "exponential", "radam"]


class UntunedWarmup(Schedule):
    """A factor from 0 to 1 that rises as fast as Adam's second-moment estimate converges: `schedule * UntunedWarmup()`.

    Formula: with `t = step + 1` and `d = 1 - b2`,
      linear: `min(1, t d / 2)`.
      exponential: `1 - exp(-t d)`.
      radam: `sqrt((r - 4) (r - 2) R / ((R - 4) (R - 2) r))` where `r > 4`, else 0, with `R = 2 / d - 1` and
      `r = R - 2 t b2^t / (1 - b2^t)`; it is 0 in the first four steps.

    Args:
      b2: the decay of the second moment, from 0 to below 1; above 0.6 for radam.
      kind: which of the three.

    Example:
      >>> import jaxsched as js
      >>> js.schedules.UntunedWarmup(0.5).table(5).tolist()
      [0.25, 0.5, 0.75, 1.0, 1.0]

    References:
      Ma and Yarats (1910.04209) for linear and exponential, Liu et al. (1908.03265) for RAdam's rectification;
      pytorch_warmup's UntunedLinearWarmup, UntunedExponentialWarmup and RAdamWarmup.
    """

    b2: Decay = 0.999
    kind: Kind = "linear"

    def check(self) -> None:
        if self.kind == "radam":
            reject_if(self, lambda b2: b2 <= 0.6, "b2", instead="radam's factor is never above 0 there: write b2 > 0.6")

    def structure(self) -> Structure:
        if self.kind == "linear":
            return Structure(marks=(2 / (1 - self.b2) - 1,))
        # The step at which radam's factor leaves 0 has no closed form.
        return Structure(endless=True, opaque=self.kind == "radam")

    def value(self, step: Step) -> Array:
        t, d = floating(shapes.ahead(step, 1)), 1 - floating(self.b2)
        if self.kind == "linear":
            return jnp.minimum(t * d / 2, 1)
        if self.kind == "exponential":
            return shapes.one_minus_exp(-d * t)
        return _rectification(t, d)


@shapes.kernel
def _rectification(t: Array, d: Array) -> Array:
    """RAdam's factor, without the difference of two numbers of size 2 / d that r - 4 is in its plain form.

    With `lam = -log(b2)` and `x = lam t` the sum in r is `2 t / (e^x - 1)`. Where x is below 1,
    `r = t - (2 / lam) g(x) + c` with `g(x) = x / (e^x - 1) - 1 + x / 2` and `c = 2 / d - 2 / lam - 1`, both of which
    are small and have series; elsewhere the sum is smaller than R."""
    lam = -jnp.log1p(-d)
    x = lam * t
    early = x < 1
    low = t - 4 - 2 / lam * _bernoulli(shapes.select(early, x, 0)) + _offset(d, lam)  # r - 4
    high = 2 / d - 5  # R - 4
    x = shapes.select(early, 1, jnp.minimum(x, 80))  # beyond which the sum is nothing beside R
    gap = 2 / lam * x / jnp.expm1(x)  # R - r

    def share(k: int) -> Array:
        """(r - 4 + k) / (R - 4 + k), which is exactly 1 at the end however the division is compiled."""
        return shapes.select(early, (low + k) / (high + k), 1 - gap / (high + k))

    square = share(0) * share(2) / shapes.select(share(4) > 0, share(4), 1)
    rectified = shapes.select(early, low, high - gap) > 0
    return shapes.select(rectified, jnp.sqrt(shapes.select(rectified, square, 1)), 0)


# B_2k / (2k)!, each 40 times smaller than the one before.
_NUMBERS = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
_BERNOULLI = tuple(b / math.factorial(2 * k) for k, b in enumerate(_NUMBERS, start=1))


def _bernoulli(x: Array) -> Array:
    """`x / (e^x - 1) - 1 + x / 2` for x from 0 to 1."""
    return shapes.polynomial(_BERNOULLI, x * x) * x * x


def _offset(d: Array, lam: Array) -> Array:
    """`2 / d - 2 / lam - 1` with `lam = -log(1 - d) = d + d^2 / 2 + d^3 / 3 + ...`, for d up to 0.4."""
    return shapes.polynomial([(k + 1) / ((k + 2) * (k + 3)) for k in range(36)], d) * d * (d / lam)
