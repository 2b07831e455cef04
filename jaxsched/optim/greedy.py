"""Raise the rate while a metric gets better, and reduce it when it has stopped."""

from __future__ import annotations

import operator
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value, is_traced
from ..fields import NonNegative, Positive
from .listen import base_rate, increment, listening, settings, shown_rate
from .plateau import Factor, Mode, Observations, ThresholdMode, Window, is_better, refuse_threshold


class GreedySettings(NamedTuple):
    """The arguments of `greedy`, as they stand in its state; a text stands as its place in its list."""

    mode: Mode
    factor: Factor
    patience: Observations
    threshold: NonNegative
    threshold_mode: ThresholdMode
    cooldown: Observations
    warmup: Observations
    min_lr: NonNegative
    max_lr: Positive
    eps: NonNegative
    reset_start: Window
    sign_safe: bool


class GreedyState(NamedTuple):
    """What `greedy` knows: float32 and int32, all scalars but `window`.

    Fields:
      learning_rate: the rate in force: what the last update was scaled by, or the next one if a move was heard since.
        Without a schedule it is the scale in force.
      scale: the rate in force as a multiple of the schedule's, when it was last moved.
      best: the best (smoothed) metric that was judged; infinite before the first and after a reset.
      good_count, bad_count: judgements in a row that were better, and that were not.
      cooldown_count, warmup_count: observations left that are not judged after a cut, and after a raise.
      floor_count: how often a cut was due that could not be made any more.
      count: the updates so far, which is the schedule's clock.
      base_learning_rate: the schedule's own value at this step, or None.
      window: the last finite observations; one if not `smooth`.
      window_count: how many there were, since the last reset.
      settings: the arguments.
    """

    learning_rate: Array
    scale: Array
    best: Array
    good_count: Array
    bad_count: Array
    cooldown_count: Array
    warmup_count: Array
    floor_count: Array
    count: Array
    base_learning_rate: Array | None
    window: Array
    window_count: Array
    settings: GreedySettings

    hyperparams = property(shown_rate)

    def in_force(self) -> Array:
        """The schedule's rate times `scale`, within the bounds, which a schedule beyond them widens to itself."""
        s, base = self.settings, base_rate(self)
        return jnp.clip(base * self.scale, jnp.minimum(base, s.min_lr), jnp.maximum(base, s.max_lr))

    def observe(self, value: Array) -> GreedyState:
        """After one more observation. What is not finite is judged as it is, and enters no mean."""
        size, fills = self.window.shape[0], jnp.isfinite(value)
        window = jnp.where(fills & (jnp.arange(size) == self.window_count % size), value, self.window)
        number = jnp.where(fills, increment(self.window_count), self.window_count)
        mean = jnp.sum(jnp.where(jnp.arange(size) < number, window, 0.0)) / jnp.clip(number, 1, size)
        return self._replace(window=window, window_count=number)._judge(jnp.where(fills, mean, value))

    def _judge(self, metric: Array) -> GreedyState:
        s, rate, base = self.settings, self.learning_rate, base_rate(self)
        cools, warms = self.cooldown_count > 0, self.warmup_count > 0  # never both: either bars what starts the other
        judged = ~(cools | warms)
        better = judged & is_better(metric, self.best, s)
        good, bad = jnp.where(better, self.good_count + 1, 0), jnp.where(judged & ~better, self.bad_count + 1, 0)
        raises, cuts = good > s.patience, bad > s.patience
        # A move too small to matter is not made, and yet it starts patience and the waiting anew.
        raised = raises & (self._higher(rate) - rate > self._least(rate))
        cut = cuts & (rate - self._lower(rate) > self._least(rate))
        new = jnp.where(raised, self._higher(rate), jnp.where(cut, self._lower(rate), rate))
        at_floor = cuts & (new - self._lower(new) <= self._least(new))
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
        """As at the start, where `resets`."""
        after = self._replace(
            scale=jnp.where(resets, 1.0, self.scale),
            best=jnp.where(resets, _worst(self.settings), self.best),
            floor_count=jnp.where(resets, 0, self.floor_count),
            window_count=jnp.where(resets, 0, self.window_count),
        )
        return after._replace(learning_rate=after.in_force())

    def _higher(self, rate: Array) -> Array:
        return jnp.minimum(rate / self.settings.factor, self.settings.max_lr)

    def _lower(self, rate: Array) -> Array:
        return jnp.maximum(rate * self.settings.factor, self.settings.min_lr)

    def _least(self, rate: Array) -> Array:
        """The smallest move: `eps`, and never the rounding of the rate."""
        return jnp.maximum(self.settings.eps, 1e-6 * rate)


def _worst(s: GreedySettings) -> Array:
    return jnp.where(s.mode == 0, jnp.inf, -jnp.inf).astype(jnp.float32)


def greedy(
    learning_rate: Any = None,
    *,
    mode: Literal["min", "max"] = "min",
    factor: Any = 0.95,
    patience: Any = 10,
    threshold: Any = 1e-6,
    threshold_mode: Literal["rel", "abs"] = "abs",
    cooldown: Any = 0,
    warmup: Any = 0,
    min_lr: Any = 0.0,
    max_lr: Any = None,
    eps: Any = 1e-8,
    smooth: bool = False,
    window_size: int = 50,
    reset_start: Any = 500,
    sign_safe: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Scale by a learning rate that is raised while a metric gets better, and cut when it has stopped.

    It takes the place of `optax.scale_by_learning_rate` at the end of a chain, and the updates go downhill. The metric
    is told on an update, `update(..., value=loss)`, where it is judged before it scales, or by `observe`. An update
    without it applies the rate.

    Formula, for each metric `m` (of `mode="min"`; "max" is its mirror image), or the mean of the last ones if `smooth`:
      better: `m < best - threshold` if "abs", `m < best (1 - threshold)` if "rel"; `best` is `m` then.
      more than `patience` better ones in a row: `rate = min(rate / factor, max_lr)`, and `warmup` observations are not
      judged. More than `patience` others in a row: `rate = max(rate factor, min_lr)`, and `cooldown` observations are
      not judged. A move of `eps` or less is not made.
      `reset_start` cuts that were due since the last raise and found the rate where it can fall no more: all is as at
      the start, the rate too.
      the rate in force: `s(t) scale`, from `min(s(t), min_lr)` to `max(s(t), max_lr)`; `scale` holds all moves.

    Fields:
      learning_rate: a schedule, a callable or a number. The rate may go above it, up to `max_lr`. None: the updates
        are scaled by the moves alone and keep their sign (`optax.chain(optax.adam(s), greedy())`), and `min_lr`,
        `max_lr` and `eps` are shares of the full rate.
      mode: "min" for a metric that has to fall, "max" for one that has to rise.
      factor: what a cut multiplies and a raise divides the rate by, between 0 and 1.
      patience: the judgements of one kind in a row that are borne; the next one moves the rate. 0 or more.
      threshold: by how much a metric must be better, 0 or more.
      threshold_mode: "abs", or "rel" to `best`, and then below 1.
      cooldown: observations after a cut that are not judged, 0 or more.
      warmup: observations after a raise that are not judged, 0 or more.
      min_lr: the rate below which no cut goes, 0 or more. A schedule that is lower itself is not raised to it.
      max_lr: the rate above which no raise goes, above 0; None for no bound. A schedule that is higher itself is not
        cut to it.
      eps: the smallest move, 0 or more.
      smooth: whether means are judged, as losses of minibatches need.
      window_size: the number of observations in such a mean: a Python integer, 1 or more, and the one argument that
        cannot be traced, because a buffer in the state has this length. An observation that is not finite is judged
        by itself and enters no mean.
      reset_start: cuts in vain before a reset, 1 or more.
      sign_safe: relative thresholds are shares of `|best|`, as a metric that may be negative needs; False is
        transformers' rule.

    Every other number may be a traced array, so that `jax.vmap` runs over them. The state is a `GreedyState`.

    Errors: ValueError and TypeError that name the field and show the value; ValueError for `min_lr` above `max_lr`.

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

    Source: GreedyLR (2512.14527) as transformers 5.23's `GreedyLR`, observation by observation. Its defaults
    `min_lr=1e-3` and `max_lr=1.0` are not ours: a rate of 5e-5 could never fall. Nor is a rate stuck for ever that is
    within `eps` of its floor and not at it: it can fall no more, and so it is reset in the end.
    """
    arguments = settings(
        "greedy",
        GreedySettings,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        warmup=warmup,
        min_lr=min_lr,
        max_lr=float(np.finfo(np.float32).max) if max_lr is None else max_lr,
        eps=eps,
        reset_start=reset_start,
        sign_safe=sign_safe,
    )
    refuse_threshold("greedy", threshold, threshold_mode)
    if not (max_lr is None or is_traced(min_lr) or is_traced(max_lr)) and min_lr > max_lr:
        raise ValueError(
            f"greedy: min_lr={format_value(min_lr)} and max_lr={format_value(max_lr)}; write min_lr <= max_lr."
        )
    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32)
    start = GreedyState(
        learning_rate=one,
        scale=one,
        best=_worst(arguments),
        good_count=zero,
        bad_count=zero,
        cooldown_count=zero,
        warmup_count=zero,
        floor_count=zero,
        count=zero,
        base_learning_rate=None,
        window=jnp.zeros(_window_size(smooth, window_size), jnp.float32),
        window_count=zero,
        settings=arguments,
    )
    return listening("greedy", learning_rate, start)


def _window_size(smooth: Any, window_size: Any) -> int:
    if not isinstance(smooth, (bool, np.bool_)):
        raise TypeError(f"greedy: smooth={format_value(smooth)}; smooth must be True or False.")
    if not smooth:  # the mean of one
        return 1
    says = "a Python integer, 1 or more, as it is the length of a buffer in the state"
    says = f"window_size={format_value(window_size)}; window_size must be {says} (inject_hyperparams: static_args=)"
    try:
        size = operator.index(window_size)
    except TypeError:
        raise TypeError(f"greedy: {says}.") from None
    if size < 1:
        raise ValueError(f"greedy: {says}.")
    return size
