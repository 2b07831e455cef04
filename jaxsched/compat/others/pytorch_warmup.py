"""pytorch_warmup: the classes by their own names and arguments; `lr` is what is dampened, a number or any schedule.

A rate is that of pytorch_warmup's `dampening()` around the scheduler's step: `s(t) = lr(t) w(t)`."""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
from jax import Array, lax

from ...fields import Count, Domain, Integer, Length, Number
from ...schedules import shapes
from ...schedules.base import Schedule
from ...schedules.ramps import Linear
from ...schedules.shapes import Step
from ...schedules.untuned import Decay, UntunedWarmup
from ..peer import Peer

Beta2 = Annotated[Number, Domain("a number above 0.6 and below 1", lambda x: (x > 0.6) & (x < 1))]


def _dampened(lr: Schedule, factor: Schedule, last_step: Integer) -> Schedule:
    """`last_step` moves the warmup alone: the schedule has its own clock."""
    return lr * factor.shift(-(last_step + 1))


class ExponentialRise(Schedule):
    """A factor that comes near to 1 exponentially.

    Formula: `s(t) = 1 - exp(-(t + 1) / period)`.

    Fields:
      period: steps, above 0.

    Example:
      >>> from jaxsched.compat.others import pytorch_warmup
      >>> round(float(pytorch_warmup.ExponentialRise(period=10)(9)), 6)
      0.632121

    Source: pytorch_warmup's ExponentialWarmup (0.2.0).
    """

    period: Length

    def value(self, step: Step) -> Array:
        elapsed = shapes.ratio(shapes.ahead(step, 1), self.period)
        return shapes.one_minus_exp(-(elapsed.high + elapsed.low))


class LinearWarmup(Peer):
    """A schedule under a factor that rises to 1 in a straight line.

    Formula: `s(t) = lr(t) min(1, (t + 1) / warmup_period)`.

    Fields:
      lr: a schedule, a callable or a number.
      warmup_period: an integer, 1 or more.
      last_step: the last step of the warmup that was made, to go on from; -1 for none. The schedule is not moved.

    Example:
      >>> from jaxsched.compat.others import pytorch_warmup
      >>> pytorch_warmup.LinearWarmup(1.0, warmup_period=4).table(5).tolist()
      [0.25, 0.5, 0.75, 1.0, 1.0]

    Source: pytorch_warmup.LinearWarmup (0.2.0).
    """

    lr: Schedule
    warmup_period: Count
    last_step: Integer = -1

    def build(self) -> Schedule:
        return _dampened(self.lr, Linear(0.0, 1.0, self.warmup_period).shift(-1), self.last_step)


class ExponentialWarmup(Peer):
    """A schedule under a factor that comes near to 1 exponentially.

    Formula: `s(t) = lr(t) (1 - exp(-(t + 1) / warmup_period))`.

    Fields:
      lr, warmup_period, last_step: as in `LinearWarmup`.

    Example:
      >>> from jaxsched.compat.others import pytorch_warmup
      >>> round(float(pytorch_warmup.ExponentialWarmup(1.0, warmup_period=10)(9)), 6)
      0.632121

    Source: pytorch_warmup.ExponentialWarmup (0.2.0).
    """

    lr: Schedule
    warmup_period: Count
    last_step: Integer = -1

    def build(self) -> Schedule:
        return _dampened(self.lr, ExponentialRise(self.warmup_period), self.last_step)


def _cut_off(numerator: int, beta2: Array) -> Array:
    """`floor(numerator / (1 - beta2))`, exactly: a quotient that is rounded up to an integer is not one."""
    quotient = shapes.ratio(jnp.asarray(numerator), 1 - shapes.floating(beta2))
    low = jnp.floor(quotient.high)
    rest = (quotient.high - low) + quotient.low
    return lax.stop_gradient(low + jnp.floor(rest)).astype(jnp.result_type(int))


class UntunedLinearWarmup(Peer):
    """A schedule under a linear warmup whose length follows from Adam's second decay.

    Formula: `s(t) = lr(t) min(1, (t + 1) (1 - beta2) / 2)`.

    Fields:
      lr: a schedule, a callable or a number.
      beta2: the decay of the second moment of the optimizer, from 0 to below 1.
      last_step: as in `LinearWarmup`.
      peer_exact: whether the length `2 / (1 - beta2)` is cut off to whole steps, as in pytorch_warmup (0.999 makes 1999
        of 2000).

    Example:
      >>> from jaxsched.compat.others import pytorch_warmup
      >>> pytorch_warmup.UntunedLinearWarmup(1.0, beta2=0.5).table(5).tolist()
      [0.25, 0.5, 0.75, 1.0, 1.0]

    Source: pytorch_warmup.UntunedLinearWarmup (0.2.0); Ma and Yarats (1910.04209).
    """

    lr: Schedule
    beta2: Decay = 0.999
    last_step: Integer = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        factor: Schedule = UntunedWarmup(self.beta2, "linear")
        if self.peer_exact:
            factor = Linear(0.0, 1.0, _cut_off(2, jnp.asarray(self.beta2))).shift(-1)
        return _dampened(self.lr, factor, self.last_step)


class UntunedExponentialWarmup(Peer):
    """A schedule under an exponential warmup whose length follows from Adam's second decay.

    Formula: `s(t) = lr(t) (1 - exp(-(t + 1) (1 - beta2)))`.

    Fields:
      lr, beta2, last_step: as in `UntunedLinearWarmup`.
      peer_exact: whether the length `1 / (1 - beta2)` is cut off to whole steps, as in pytorch_warmup.

    Example:
      >>> from jaxsched.compat.others import pytorch_warmup
      >>> round(float(pytorch_warmup.UntunedExponentialWarmup(1.0, beta2=0.5)(1)), 6)
      0.632121

    Source: pytorch_warmup.UntunedExponentialWarmup (0.2.0); Ma and Yarats (1910.04209).
    """

    lr: Schedule
    beta2: Decay = 0.999
    last_step: Integer = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        factor: Schedule = UntunedWarmup(self.beta2, "exponential")
        if self.peer_exact:
            factor = ExponentialRise(_cut_off(1, jnp.asarray(self.beta2)))
        return _dampened(self.lr, factor, self.last_step)


class RAdamWarmup(Peer):
    """A schedule under the factor of RAdam, from its first step that is above 0.

    Formula: `s(t) = lr(t) UntunedWarmup(beta2, "radam")(t + o)`, where o is the number of steps at which that factor is
    0: 4, or more for a `beta2` below 0.774.

    Fields:
      lr, last_step: as in `LinearWarmup`.
      beta2: the decay of the second moment of the optimizer, above 0.6 and below 1.

    Errors: ValueError for a `beta2` outside of its range.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.compat.others import pytorch_warmup
      >>> s = pytorch_warmup.RAdamWarmup(1.0, beta2=0.999)
      >>> float(s(0)) == float(js.schedules.UntunedWarmup(0.999, "radam")(4)) > 0
      True

    Source: pytorch_warmup.RAdamWarmup (0.2.0); Liu et al. (1908.03265).
    """

    lr: Schedule
    beta2: Beta2 = 0.999
    last_step: Integer = -1

    def build(self) -> Schedule:
        factor = UntunedWarmup(self.beta2, "radam")
        # Of a beta2 next to 0.6 the factor is 0 for 90 steps in double precision.
        first = UntunedWarmup(shapes.floating(lax.stop_gradient(jnp.asarray(self.beta2))), "radam").value(
            jnp.arange(128)
        )
        zeros = jnp.sum(first <= 0).astype(jnp.result_type(int))
        return _dampened(self.lr, factor.shift(-zeros), self.last_step)
