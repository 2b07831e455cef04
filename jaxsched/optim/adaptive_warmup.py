"""A warmup that waits, or goes back, depending on the loss."""

from __future__ import annotations

import functools
import typing
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from .._errors import FieldError, is_traced
from ..fields import Domain, NonNegative, Positive, Unit
from ..schedules import shapes
from ..schedules.base import ShapeName
from ..schedules.shapes import floating
from .metrics import (
    COUNT,
    INFINITY,
    ONE,
    UNSET,
    ZERO,
    base_rate,
    increment,
    metric_driven,
    rate_by_name,
    require_order,
    settings,
    settings_class,
    standard_promotion,
)
from .states import shows_hyperparams

Steps = Annotated[Any, Domain("a whole number of steps, 0 or more", lambda x: (x >= 0) & (x % 1 == 0), counts=True)]
Share = Annotated[Any, Domain("a number from 0 to below 1", lambda x: (x >= 0) & (x < 1))]
_RAMPS = tuple(functools.partial(shapes.ramp, name) for name in typing.get_args(ShapeName))


@shows_hyperparams
class AdaptiveWarmupState(NamedTuple):
    """The state of `adaptive_warmup`: float32 and int32 scalars. Without a schedule `learning_rate` is the factor."""

    learning_rate: Array = ZERO  # of the last update, or the next one if a loss was observed since
    clock: Array = ZERO  # the warmup steps done when the last loss was observed, from 0 to `warmup_steps`
    pace: Array = ONE  # the warmup steps per update since then
    clock_count: Array = COUNT  # the update at which the last loss was observed
    mean: Array = ZERO  # the smoothed loss
    deviation: Array = ZERO  # the smoothed distance of a loss from it; the size of the first loss at first
    lowest: Array = INFINITY  # the lowest smoothed loss
    spike_count: Array = COUNT  # how often the clock went back
    observed_count: Array = COUNT  # finite losses observed so far
    count: Array = COUNT  # updates so far, the step of the schedule
    base_learning_rate: Array | None = None  # the schedule's value at this step
    settings: Any = UNSET  # the arguments of the last update

    hyperparams = property(rate_by_name)

    @property
    @standard_promotion
    def progress(self) -> Array:
        """The share of the warmup that is done before the next update, from 0 to 1."""
        steps = self.settings.warmup_steps
        return jnp.where(steps > 0, self._current_clock() / jnp.maximum(steps, 1), 1.0)

    @standard_promotion
    def _current_clock(self) -> Array:
        return jnp.minimum(self.clock + self.pace * (self.count - self.clock_count), self.settings.warmup_steps)

    @standard_promotion
    def current_rate(self) -> Array:
        """The schedule's rate times the factor of the warmup."""
        s = self.settings
        return base_rate(self) * _factor(s.shape, s.init_factor, self._current_clock(), s.warmup_steps)

    def observe(self, value: Array) -> AdaptiveWarmupState:
        """The state after one more loss, which turns the clock back or sets its pace."""
        s, now, steps = self.settings, self._current_clock(), self.settings.warmup_steps
        finite, noise = jnp.isfinite(value), self._noise()
        bound = jnp.where(self.observed_count > 0, self.mean + s.spike * noise, jnp.inf)
        over = (now >= steps) & (self.count >= s.max_steps)
        spikes = ~((value <= bound) | over)
        # A spike enters the statistics as the bound, so that it does not hide the next one.
        after = self._with_loss(jnp.minimum(value, bound), finite)
        late = steps - now >= s.max_steps - self.count
        rises = after.mean > after.lowest + s.tolerance * after._noise()
        fastest = jnp.maximum(steps / jnp.maximum(s.min_steps, 1), 1.0)
        after = after._replace(
            clock=jnp.where(spikes, s.backoff * now, now),
            pace=jnp.where(after.mean <= after.lowest, fastest, jnp.where(rises & ~late, 0.0, 1.0)),
            clock_count=self.count,
            spike_count=jnp.where(spikes, increment(self.spike_count), self.spike_count),
        )
        return after._replace(learning_rate=after.current_rate())

    def _noise(self) -> Array:
        """The deviation, and at least the rounding of the loss."""
        return jnp.maximum(self.deviation, 1e-3 * jnp.abs(self.mean))

    def _with_loss(self, loss: Array, finite: Array) -> AdaptiveWarmupState:
        """The statistics after one more loss, if it is finite."""
        first, share = self.observed_count == 0, 1 - self.settings.smoothing
        mean = jnp.where(first, loss, self.mean + share * (loss - self.mean))
        spread = jnp.where(first, jnp.abs(loss), self.deviation + share * (jnp.abs(loss - self.mean) - self.deviation))
        return self._replace(
            mean=jnp.where(finite, mean, self.mean),
            deviation=jnp.where(finite, spread, self.deviation),
            lowest=jnp.where(finite, jnp.minimum(self.lowest, mean), self.lowest),
            observed_count=jnp.where(finite, increment(self.observed_count), self.observed_count),
        )


@jax.jit
def _factor(shape: Array, init_factor: Array, clock: Array, steps: Array) -> Array:
    with jax.numpy_dtype_promotion("standard"):
        ends = floating(init_factor), floating(1.0)
        return lax.switch(shape, _RAMPS, *ends, floating(clock), floating(steps)).astype(jnp.float32)


def adaptive_warmup(
    learning_rate: Any,
    warmup_steps: Steps,
    *,
    shape: ShapeName = "linear",
    init_factor: Unit = 0.0,
    min_steps: Steps | None = None,
    max_steps: Steps | None = None,
    smoothing: Share = 0.9,
    tolerance: NonNegative = 1.0,
    spike: Positive = 3.0,
    backoff: Share = 0.5,
) -> optax.GradientTransformationExtraArgs:
    """Scale by a learning rate whose warmup pauses or goes back, depending on the loss.

    It replaces `optax.scale_by_learning_rate` at the end of a chain: the rate is the schedule's times the factor of
    `schedule.warmup(warmup_steps, shape, init_factor)`, on a clock of its own. Pass the loss on the update,
    `update(..., value=loss)`, or with `observe`. Without losses, and while they are normal, the clock is the step, and
    this is the plain warmup.

    For each loss `x` (`m` and `d` are moving averages of `x` and of `|x - m|`, initially the first loss and its size):
      a spike: `x > m + spike d`, or not finite. The clock goes back to `backoff clock`, and the averages use
      `m + spike d` instead.
      else the pace, in steps per update until the next loss: `warmup_steps / min_steps` if `m` is at its lowest, 0 if
      it is above its lowest by `tolerance d`, 1 otherwise.
      the current rate: `s(t) w(clock)`; the shape `w` rises from `init_factor` to 1 at `clock = warmup_steps`.
      The pace is 1 instead of 0 as soon as the rest of the warmup would not end before `max_steps`. The clock never
      jumps forward. Once the warmup is over and `max_steps` have passed, losses have no effect.

    Args:
      learning_rate: a schedule, a callable or a number. None: the updates are scaled by the factor alone and keep
        their sign (`optax.chain(optax.adam(s), adaptive_warmup(None, 100))`).
      warmup_steps: the nominal length in updates, 0 or more; with 0 the factor is 1.
      shape: `linear cosine sqrt 1-sqrt square 1-square exponential mirror-cosine`, as in `Ramp`.
      init_factor: the factor at step 0, from 0 to 1; above 0 for an exponential warmup.
      min_steps: the shortest warmup, at most `warmup_steps`; None for `warmup_steps`.
      max_steps: the longest warmup without spikes, at least `warmup_steps`; None for four times that. Until then a
        spike turns back even a completed warmup. Losses of batches have heavy tails, so this happens in healthy
        trainings too; with `max_steps=warmup_steps` the warmup is over when it first reaches its end.
      smoothing: the weight of the past in the averages, from 0 to below 1.
      tolerance: how far the smoothed loss can be above its lowest, in deviations, before the clock stops; 0 or more.
      spike: how far a spike is above the smoothed loss, in deviations; above 0.
      backoff: what a spike multiplies the clock by, from 0 to below 1.

    Returns:
      The transformation; its state is an `AdaptiveWarmupState`. All numbers can be traced arrays. It cannot repair
      parameters that are NaN: wrap the optimizer in `guard_spikes` for that.

    Raises:
      ValueError, TypeError: if an argument is out of its range or of a wrong type, or if the lengths are not in order.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(optax.trace(0.9), js.adaptive_warmup(0.1, warmup_steps=8))
      >>> params = jnp.zeros(3)
      >>> state = optimizer.init(params)
      >>> rates = []
      >>> for loss in [4.0, 3.5, 3.0, 2.5, 90.0, 2.5, 2.0]:
      ...     updates, state = optimizer.update(params, state, params, value=loss)
      ...     rates.append(round(float(js.current_hyperparams(state)["learning_rate"]), 4))
      >>> rates
      [0.0, 0.0125, 0.025, 0.0375, 0.025, 0.0375, 0.05]

    References:
      The rule is our own. A warmup limits early instabilities, and is too short if the loss jumps: Gilmer et al.
      (2110.04369), Kalra and Barkeshli (2406.09405).
    """
    is_longest_given = max_steps is not None
    min_steps = warmup_steps if min_steps is None else min_steps
    max_steps = warmup_steps if max_steps is None else max_steps
    arguments = s = settings("adaptive_warmup", AdaptiveWarmupSettings, **locals())
    if not is_longest_given:
        arguments = s._replace(max_steps=4 * jnp.minimum(s.warmup_steps, jnp.iinfo(jnp.int32).max // 4))
    if shape == "exponential" and not is_traced(s.init_factor) and s.init_factor <= 0:
        instead = "an exponential warmup starts above 0: write init_factor=0.01"
        raise FieldError("adaptive_warmup", ("shape", "init_factor"), (shape, s.init_factor), instead)
    require_order("adaptive_warmup", "min_steps", s.min_steps, "warmup_steps", s.warmup_steps)
    require_order("adaptive_warmup", "warmup_steps", s.warmup_steps, "max_steps", s.max_steps)
    return metric_driven("adaptive_warmup", learning_rate, AdaptiveWarmupState(settings=arguments))


AdaptiveWarmupSettings = settings_class("AdaptiveWarmupSettings", adaptive_warmup)
