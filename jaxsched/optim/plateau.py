"""Reduce the learning rate when a metric has stopped improving."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from .._errors import FieldError, is_traced
from ..fields import Domain, NonNegative
from .metrics import (
    COUNT,
    ONE,
    UNSET,
    ZERO,
    base_rate,
    increment,
    metric_driven,
    rate_by_name,
    settings,
    settings_class,
)
from .states import shows_hyperparams

Factor = Annotated[Any, Domain("a number between 0 and 1, such as 0.1", lambda x: (x > 0) & (x < 1))]
Observations = Annotated[
    Any, Domain("a number of observations, 0 or more", lambda x: (x >= 0) & (x % 1 == 0), counts=True)
]
Window = Annotated[Any, Domain("a number of observations, 1 or more", lambda x: (x >= 1) & (x % 1 == 0), counts=True)]
Mode = Literal["min", "max"]
ThresholdMode = Literal["rel", "abs"]
NanPolicy = Literal["bad", "ignore", "cut"]
BAD, IGNORE, CUT = range(3)


@shows_hyperparams
class PlateauState(NamedTuple):
    """The state of `reduce_on_plateau`: float32 and int32 scalars. Without a schedule `learning_rate` is the scale."""

    learning_rate: Array = ONE  # of the last update, or the next one if a metric was observed since
    scale: Array = ONE  # the product of all cuts so far, in (0, 1]
    best: Array = ONE  # the best metric that was evaluated; infinite before the first
    bad_count: Array = COUNT  # evaluations in a row without improvement
    cooldown_count: Array = COUNT  # evaluations left in the cooldown
    count: Array = COUNT  # updates so far, the step of the schedule
    base_learning_rate: Array | None = None  # the schedule's value at this step
    observed_count: Array = COUNT  # metrics observed so far
    window_total: Array = ZERO  # the sum of the metrics in the current window
    window_count: Array = COUNT  # and their number
    settings: Any = UNSET  # the arguments of the last update

    hyperparams = property(rate_by_name)

    def current_rate(self) -> Array:
        """The schedule's rate times the cuts: at least `min_lr`, unless the schedule itself is below it."""
        base = base_rate(self)
        return jnp.minimum(base, jnp.maximum(base * self.scale, self.settings.min_lr))

    def observe(self, value: Array) -> PlateauState:
        """The state after one more metric. NaN is never part of a window: its policy applies at once."""
        s, is_nan = self.settings, jnp.isnan(value)
        active = self.observed_count >= s.warmup
        fills = active & ~is_nan
        total = jnp.where(fills, self.window_total + value, self.window_total)
        number = self.window_count + fills
        full = fills & (number >= s.window)
        metric = jnp.where(is_nan, value, total / jnp.maximum(number, 1))
        state = self._replace(
            observed_count=increment(self.observed_count),
            window_total=jnp.where(full, 0.0, total),
            window_count=jnp.where(full, 0, number),
        )
        return state._evaluate(metric, is_evaluated=full | (active & is_nan & (s.nan != IGNORE)))

    def _evaluate(self, metric: Array, is_evaluated: Array) -> PlateauState:
        s = self.settings
        better = is_better(metric, self.best, s)
        cools = self.cooldown_count > 0
        bad = jnp.where(better | cools, 0, self.bad_count + 1)
        fires = (bad > s.patience) | (jnp.isnan(metric) & (s.nan == CUT) & ~cools)
        # As in torch, a cut that is too small is skipped, and still resets patience and starts the cooldown.
        lower = jnp.maximum(self.learning_rate * s.factor, s.min_lr)
        cut = is_evaluated & fires & (self.learning_rate - lower > s.eps)
        after = self._replace(
            scale=jnp.where(cut, self.scale * s.factor, self.scale),
            best=jnp.where(is_evaluated & better, metric, self.best),
            bad_count=jnp.where(is_evaluated, jnp.where(fires, 0, bad), self.bad_count),
            cooldown_count=jnp.where(
                is_evaluated, jnp.where(fires, s.cooldown, self.cooldown_count - cools), self.cooldown_count
            ),
        )
        return after._replace(learning_rate=after.current_rate())


def is_better(metric: Array, best: Array, s: Any) -> Array:
    """Whether `metric` is better than `best` by the threshold; NaN never is."""
    sign = jnp.where(s.mode == 0, 1.0, -1.0)
    relative = best * (1 - sign * s.threshold)
    by_size = best - sign * s.threshold * jnp.abs(best)
    absolute = best - sign * s.threshold
    bound = jnp.where(s.threshold_mode == 0, jnp.where(s.sign_safe == 1, by_size, relative), absolute)
    bound = jnp.where(jnp.isinf(best), best, bound)  # avoids inf - inf and 0 * inf
    return jnp.where(s.mode == 0, metric < bound, metric > bound)


def worst_metric(s: Any) -> Array:
    """The metric that every other one is better than."""
    return jnp.where(s.mode == 0, jnp.inf, -jnp.inf).astype(jnp.float32)


def check_threshold(owner: str, threshold: Any, threshold_mode: str) -> None:
    """Raises FieldError for a relative threshold that no metric can pass."""
    if threshold_mode == "rel" and not is_traced(threshold) and threshold >= 1:
        instead = 'a share of the best metric must be below 1: write threshold=1e-4, or threshold_mode="abs"'
        raise FieldError(owner, ("threshold", "threshold_mode"), (threshold, threshold_mode), instead)


def reduce_on_plateau(
    learning_rate: Any = None,
    *,
    mode: Mode = "min",
    factor: Factor = 0.1,
    patience: Observations = 10,
    threshold: NonNegative = 1e-4,
    threshold_mode: ThresholdMode = "rel",
    cooldown: Observations = 0,
    min_lr: NonNegative = 0.0,
    eps: NonNegative = 1e-8,
    window: Window = 1,
    warmup: Observations = 0,
    nan: NanPolicy = "bad",
    sign_safe: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Scale by a learning rate that is reduced when a metric has stopped improving.

    It replaces `optax.scale_by_learning_rate` at the end of a chain: `chain(scale_by_adam(), reduce_on_plateau(1e-3))`.
    Without a rate it follows an optimizer that has one: `chain(adam(1e-3), reduce_on_plateau())`. With two rates,
    `chain(adam(1e-3), reduce_on_plateau(1e-3))`, the sign is wrong. Pass the metric once an epoch,
    `state = observe(state, value=v)`, or on any update, `update(..., value=v)`, which then uses the new rate.

    For each evaluated metric `m` (with `mode="min"`; "max" is its mirror image):
      better: `m < best (1 - threshold)` if "rel", `m < best - threshold` if "abs"; then `best = m`.
      `bad` is 0 if better or in the cooldown, else it increases by 1. Above `patience` the rate is cut, `bad` is reset,
      and the next `cooldown` evaluations cannot be bad.
      a cut: `new = max(rate factor, min_lr)`, if `rate - new > eps`.
      the current rate: `min(s(t), max(s(t) factor^cuts, min_lr))`.

    Args:
      learning_rate: a schedule, a callable or a number. None: the updates are scaled by the cuts alone and keep their
        sign, and `min_lr` and `eps` are shares of the full rate.
      mode: "min" for a metric that should decrease, "max" for one that should increase.
      factor: what a cut multiplies the rate by, between 0 and 1.
      patience: evaluations without improvement before the rate is reduced by the next one, 0 or more.
      threshold: the least improvement, 0 or more; below 1 if "rel".
      threshold_mode: "rel" to `best`, or "abs".
      cooldown: evaluations after a cut that do not count as bad, 0 or more.
      min_lr: the lowest rate of a cut, 0 or more. A schedule below it is not raised.
      eps: the smallest cut that is made, 0 or more.
      window: observations per evaluation, which uses their mean; 1 or more. Losses of single batches need a window.
      warmup: the number of first observations to ignore, 0 or more.
      nan: "bad" (a NaN is an evaluation without improvement, as in torch), "ignore", or "cut" (at once, unless in the
        cooldown). A NaN is never part of a window.
      sign_safe: whether a relative threshold is a share of `|best|`, for metrics that can be negative. False is torch's
        rule, by which an increase from -1 to -0.95 is an improvement for a threshold of 0.1.

    Returns:
      The transformation; its state is a `PlateauState`. All numbers can be traced arrays: make the transformation
      inside of the function that `jax.vmap` maps. Each update overwrites the arguments in the state, so a checkpoint
      can be resumed with another patience. `optax.MultiSteps` passes on only the metric of the update that it carries
      out, and its `gradient_transformation()` none; `observe` always works.

    Raises:
      ValueError, TypeError: if an argument is out of its range or of a wrong type.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> schedule = js.WarmupCosine(peak_value=1e-3, warmup_steps=100, total_steps=10_000)
      >>> optimizer = optax.chain(optax.scale_by_adam(), js.reduce_on_plateau(schedule, factor=0.5, patience=2))
      >>> params = jnp.ones(3)
      >>> state = optimizer.init(params)
      >>> for epoch in range(4):
      ...     for step in range(50):
      ...         updates, state = optimizer.update(2 * params, state, params)
      ...         params = optax.apply_updates(params, updates)
      ...     state = js.observe(state, value=1.0)                # a validation loss that does not improve
      >>> state[1].scale.item()
      0.5

    References:
      torch's `ReduceLROnPlateau`, with the same result for each observation. Keras's callback is
      `threshold_mode="abs"`, `threshold=min_delta`, `eps=0`, with `patience` and `cooldown` one lower (0 stays 0).
    """
    arguments = settings("reduce_on_plateau", PlateauSettings, **locals())
    check_threshold("reduce_on_plateau", threshold, threshold_mode)
    start = PlateauState(best=worst_metric(arguments), settings=arguments)
    return metric_driven("reduce_on_plateau", learning_rate, start)


PlateauSettings = settings_class("PlateauSettings", reduce_on_plateau)
