"""Increase the learning rate while a metric improves, and reduce it when it has stopped."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from ..fields import NonNegative, Positive
from .metrics import (
    COUNT,
    LARGEST,
    ONE,
    UNSET,
    base_rate,
    buffer_length,
    increment,
    metric_driven,
    rate_by_name,
    require_order,
    settings,
    settings_class,
)
from .plateau import Factor, Mode, Observations, ThresholdMode, Window, check_threshold, is_better, worst_metric
from .states import shows_hyperparams


@shows_hyperparams
class GreedyState(NamedTuple):
    """The state of `greedy`: float32 and int32. Without a schedule `learning_rate` is the scale."""

    learning_rate: Array = ONE  # of the last update, or the next one if a metric was observed since
    scale: Array = ONE  # the rate as a multiple of the schedule's, at the last change
    best: Array = ONE  # the best (smoothed) metric that was evaluated; infinite before the first and after a reset
    good_count: Array = COUNT  # evaluations in a row with improvement
    bad_count: Array = COUNT  # and without
    cooldown_count: Array = COUNT  # observations left to ignore after a cut
    warmup_count: Array = COUNT  # and after an increase
    floor_count: Array = COUNT  # cuts that were due at the lowest rate
    count: Array = COUNT  # updates so far, the step of the schedule
    base_learning_rate: Array | None = None  # the schedule's value at this step
    window: Array = UNSET  # the last finite observations; one if not `smooth`
    window_count: Array = COUNT  # finite observations since the last reset
    settings: Any = UNSET  # the arguments of the last update

    hyperparams = property(rate_by_name)

    def current_rate(self) -> Array:
        """The schedule's rate times `scale`, from `min_lr` to `max_lr`, unless the schedule itself is beyond them."""
        s, base = self.settings, base_rate(self)
        return jnp.clip(base * self.scale, jnp.minimum(base, s.min_lr), jnp.maximum(base, s.max_lr))

    def observe(self, value: Array) -> GreedyState:
        """The state after one more metric. A non-finite one is evaluated by itself and is not part of a mean."""
        size, fills = self.window.shape[0], jnp.isfinite(value)
        window = jnp.where(fills & (jnp.arange(size) == self.window_count % size), value, self.window)
        number = jnp.where(fills, increment(self.window_count), self.window_count)
        mean = jnp.sum(jnp.where(jnp.arange(size) < number, window, 0.0)) / jnp.clip(number, 1, size)
        return self._replace(window=window, window_count=number)._evaluate(jnp.where(fills, mean, value))

    def _evaluate(self, metric: Array) -> GreedyState:
        s, rate, base = self.settings, self.learning_rate, base_rate(self)
        cools, warms = self.cooldown_count > 0, self.warmup_count > 0  # never both
        evaluated = ~(cools | warms)
        better = evaluated & is_better(metric, self.best, s)
        good, bad = jnp.where(better, self.good_count + 1, 0), jnp.where(evaluated & ~better, self.bad_count + 1, 0)
        raises, cuts = good > s.patience, bad > s.patience
        # A change that is too small is skipped, and still resets patience and starts the waiting time.
        raised = raises & (self._higher(rate) - rate > self._least_change(rate))
        cut = cuts & (rate - self._lower(rate) > self._least_change(rate))
        new = jnp.where(raised, self._higher(rate), jnp.where(cut, self._lower(rate), rate))
        at_floor = cuts & (new - self._lower(new) <= self._least_change(new))
        after = self._replace(
            scale=jnp.where(raised | cut, new / jnp.where(base == 0, 1.0, base), self.scale),
            best=jnp.where(better, metric, self.best),
            good_count=jnp.where(raises, 0, good),
            bad_count=jnp.where(cuts, 0, bad),
            cooldown_count=jnp.where(cuts, s.cooldown, self.cooldown_count - cools),
            warmup_count=jnp.where(raises, s.warmup, self.warmup_count - warms),
            floor_count=jnp.where(raises, 0, self.floor_count + at_floor),
        )
        return after._reset(at_floor & (after.floor_count >= s.reset_start))

    def _reset(self, resets: Array) -> GreedyState:
        """The initial rate and best metric, where `resets`."""
        after = self._replace(
            scale=jnp.where(resets, 1.0, self.scale),
            best=jnp.where(resets, worst_metric(self.settings), self.best),
            floor_count=jnp.where(resets, 0, self.floor_count),
            window_count=jnp.where(resets, 0, self.window_count),
        )
        return after._replace(learning_rate=after.current_rate())

    def _higher(self, rate: Array) -> Array:
        return jnp.minimum(rate / self.settings.factor, self.settings.max_lr)

    def _lower(self, rate: Array) -> Array:
        return jnp.maximum(rate * self.settings.factor, self.settings.min_lr)

    def _least_change(self, rate: Array) -> Array:
        """The smallest change: `eps`, and more than the rounding of the rate."""
        return jnp.maximum(self.settings.eps, 1e-6 * rate)


def greedy(
    learning_rate: Any = None,
    *,
    mode: Mode = "min",
    factor: Factor = 0.95,
    patience: Observations = 10,
    threshold: NonNegative = 1e-6,
    threshold_mode: ThresholdMode = "abs",
    cooldown: Observations = 0,
    warmup: Observations = 0,
    min_lr: NonNegative = 0.0,
    max_lr: Positive | None = None,
    eps: NonNegative = 1e-8,
    smooth: bool = False,
    window_size: int = 50,
    reset_start: Window = 500,
    sign_safe: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Scale by a learning rate that increases while a metric improves, and decreases after.

    It replaces `optax.scale_by_learning_rate` at the end of a chain. Pass the metric on an update,
    `update(..., value=loss)`, which then uses the new rate, or with `observe`.

    For each metric `m` (with `mode="min"`; "max" is its mirror image), or the mean of the last ones if `smooth`:
      better: `m < best - threshold` if "abs", `m < best (1 - threshold)` if "rel"; then `best = m`.
      after more than `patience` better ones in a row: `rate = min(rate / factor, max_lr)`, and `warmup` observations
      are ignored. After more than `patience` others in a row: `rate = max(rate factor, min_lr)`, and `cooldown`
      observations are ignored. Changes of at most `eps` are not made.
      after `reset_start` cuts that were due at the lowest rate since the last increase, everything is reset, the rate
      too.
      the current rate: `s(t) scale`, from `min(s(t), min_lr)` to `max(s(t), max_lr)`.

    Args:
      learning_rate: a schedule, a callable or a number; the rate can exceed it, up to `max_lr`. None: the updates are
        scaled by the changes alone and keep their sign (`optax.chain(optax.adam(s), greedy())`), and `min_lr`,
        `max_lr` and `eps` are shares of the full rate.
      mode: "min" for a metric that should decrease, "max" for one that should increase.
      factor: what a cut multiplies and an increase divides the rate by, between 0 and 1.
      patience: evaluations of one kind in a row before the next one changes the rate, 0 or more.
      threshold: the least improvement, 0 or more.
      threshold_mode: "abs", or "rel" to `best`, with a threshold below 1.
      cooldown: observations to ignore after a cut, 0 or more.
      warmup: observations to ignore after an increase, 0 or more.
      min_lr: the lowest rate of a cut, 0 or more. A schedule below it is not raised.
      max_lr: the highest rate of an increase, above 0; None for no bound. A schedule above it is not reduced.
      eps: the smallest change that is made, 0 or more.
      smooth: whether means are evaluated, for losses of single batches.
      window_size: the number of observations in a mean: a Python integer, 1 or more, which cannot be traced. A
        non-finite observation is evaluated by itself and is not part of a mean.
      reset_start: cuts at the lowest rate before a reset, 1 or more.
      sign_safe: whether a relative threshold is a share of `|best|`, for metrics that can be negative; False is
        transformers' rule.

    Returns:
      The transformation; its state is a `GreedyState`. All other numbers can be traced arrays.

    Raises:
      ValueError, TypeError: if an argument is out of its range or of a wrong type, or if `min_lr` is above `max_lr`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(optax.scale_by_adam(), js.greedy(1e-3, factor=0.5, patience=1, max_lr=3e-3))
      >>> state = optimizer.init(jnp.zeros(3))
      >>> rates = []
      >>> for loss in [1.0, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6]:
      ...     state = js.observe(state, value=loss)
      ...     rates.append(round(float(js.current_hyperparams(state)["learning_rate"]), 4))
      >>> rates
      [0.001, 0.002, 0.002, 0.003, 0.003, 0.003, 0.0015, 0.0015]

    References:
      GreedyLR (2512.14527) as `GreedyLR` in transformers 5.23, with the same result for each observation. Two
      differences: its defaults `min_lr=1e-3` and `max_lr=1.0` are not ours, by which a rate of 5e-5 never falls; and a
      rate within `eps` of its floor is reset in the end, too.
    """
    max_lr = LARGEST if max_lr is None else max_lr
    arguments = settings("greedy", GreedySettings, **locals())
    check_threshold("greedy", threshold, threshold_mode)
    require_order("greedy", "min_lr", min_lr, "max_lr", max_lr)
    size = buffer_length("greedy", "window_size", window_size) if smooth else 1
    start = GreedyState(best=worst_metric(arguments), window=jnp.zeros(size, jnp.float32), settings=arguments)
    return metric_driven("greedy", learning_rate, start)


GreedySettings = settings_class("GreedySettings", greedy)
