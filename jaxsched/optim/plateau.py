"""Reduce the rate when a metric has stopped getting better."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from .._errors import format_value, is_traced
from ..fields import Domain, NonNegative
from .listen import Choice, base_rate, increment, listening, settings, shown_rate

Factor = Annotated[Array, Domain("a number between 0 and 1, such as 0.1", lambda x: (x > 0) & (x < 1))]
Observations = Annotated[
    Array, Domain("a number of observations, 0 or more", lambda x: (x >= 0) & (x % 1 == 0), counts=True)
]
Window = Annotated[Array, Domain("a number of observations, 1 or more", lambda x: (x >= 1) & (x % 1 == 0), counts=True)]
Mode = Annotated[Array, Choice(("min", "max"))]
ThresholdMode = Annotated[Array, Choice(("rel", "abs"))]
NanPolicy = Annotated[Array, Choice(("bad", "ignore", "cut"))]
BAD, IGNORE, CUT = range(3)


class PlateauSettings(NamedTuple):
    """The arguments of `reduce_on_plateau`, as they stand in its state; a text stands as its place in its list."""

    mode: Mode
    factor: Factor
    patience: Observations
    threshold: NonNegative
    threshold_mode: ThresholdMode
    cooldown: Observations
    min_lr: NonNegative
    eps: NonNegative
    window: Window
    warmup: Observations
    nan: NanPolicy
    sign_safe: bool


class PlateauState(NamedTuple):
    """What `reduce_on_plateau` knows: float32 and int32 scalars.

    Fields:
      learning_rate: the rate in force: what the last update was scaled by, or the next one if a cut was heard since.
        Without a schedule it is the scale in force.
      scale: the product of all cuts so far, in (0, 1].
      best: the best metric that was judged; infinite before the first.
      bad_count: judgements in a row that were not better.
      cooldown_count: judgements left that cannot be bad.
      count: the updates so far, which is the schedule's clock.
      base_learning_rate: the schedule's own value at this step, or None.
      heard_count: the observations so far.
      window_total, window_count: the sum and the number of the observations that are not judged yet.
      settings: the arguments of the last update, by name; a text stands as its place in its list.
    """

    learning_rate: Array
    scale: Array
    best: Array
    bad_count: Array
    cooldown_count: Array
    count: Array
    base_learning_rate: Array | None
    heard_count: Array
    window_total: Array
    window_count: Array
    settings: PlateauSettings

    hyperparams = property(shown_rate)

    def in_force(self) -> Array:
        """The schedule's rate times the cuts: no lower than `min_lr`, unless the schedule itself is."""
        base = base_rate(self)
        return jnp.minimum(base, jnp.maximum(base * self.scale, self.settings.min_lr))

    def observe(self, value: Array) -> PlateauState:
        """After one more observation. NaN never enters a window: its policy judges it at once."""
        s, is_nan = self.settings, jnp.isnan(value)
        active = self.heard_count >= s.warmup
        fills = active & ~is_nan
        total = jnp.where(fills, self.window_total + value, self.window_total)
        number = self.window_count + fills
        full = fills & (number >= s.window)
        metric = jnp.where(is_nan, value, total / jnp.maximum(number, 1))
        state = self._replace(
            heard_count=increment(self.heard_count),
            window_total=jnp.where(full, 0.0, total),
            window_count=jnp.where(full, 0, number),
        )
        return state._judge(metric, is_judged=full | (active & is_nan & (s.nan != IGNORE)))

    def _judge(self, metric: Array, is_judged: Array) -> PlateauState:
        s = self.settings
        better = is_better(metric, self.best, s)
        cools = self.cooldown_count > 0
        bad = jnp.where(better | cools, 0, self.bad_count + 1)
        fires = (bad > s.patience) | (jnp.isnan(metric) & (s.nan == CUT) & ~cools)
        # As in torch, a cut too small to matter is not made, and yet it starts patience and cooldown anew.
        lower = jnp.maximum(self.learning_rate * s.factor, s.min_lr)
        cut = is_judged & fires & (self.learning_rate - lower > s.eps)
        after = self._replace(
            scale=jnp.where(cut, self.scale * s.factor, self.scale),
            best=jnp.where(is_judged & better, metric, self.best),
            bad_count=jnp.where(is_judged, jnp.where(fires, 0, bad), self.bad_count),
            cooldown_count=jnp.where(
                is_judged, jnp.where(fires, s.cooldown, self.cooldown_count - cools), self.cooldown_count
            ),
        )
        return after._replace(learning_rate=after.in_force())


def is_better(metric: Array, best: Array, s: Any) -> Array:
    """Whether `metric` beats `best` by the threshold; NaN never does."""
    sign = jnp.where(s.mode == 0, 1.0, -1.0)  # of what has to fall
    relative = best * (1 - sign * s.threshold)
    by_size = best - sign * s.threshold * jnp.abs(best)
    bar = jnp.where(s.threshold_mode == 0, jnp.where(s.sign_safe == 1, by_size, relative), best - sign * s.threshold)
    bar = jnp.where(jnp.isinf(best), best, bar)  # not inf - inf or 0 * inf
    return jnp.where(s.mode == 0, metric < bar, metric > bar)


def refuse_threshold(owner: str, threshold: Any, threshold_mode: str) -> None:
    """A share of the best metric that no other can beat."""
    if threshold_mode == "rel" and not is_traced(threshold) and threshold >= 1:
        instead = 'a share of the best metric must be below 1: write threshold=1e-4, or threshold_mode="abs"'
        raise ValueError(f"{owner}: threshold={format_value(threshold)} and threshold_mode='rel'; {instead}.")


def reduce_on_plateau(
    learning_rate: Any = None,
    *,
    mode: Literal["min", "max"] = "min",
    factor: Any = 0.1,
    patience: Any = 10,
    threshold: Any = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: Any = 0,
    min_lr: Any = 0.0,
    eps: Any = 1e-8,
    window: Any = 1,
    warmup: Any = 0,
    nan: Literal["bad", "ignore", "cut"] = "bad",
    sign_safe: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Scale by a learning rate that is cut when a metric has stopped getting better.

    It takes the place of `optax.scale_by_learning_rate` at the end of a chain: the rate is the schedule's times all
    cuts so far, and the updates go downhill. So it is `chain(scale_by_adam(), reduce_on_plateau(1e-3))`, or without a
    rate `chain(adam(1e-3), reduce_on_plateau())`; with two rates, `chain(adam(1e-3), reduce_on_plateau(1e-3))`, it goes
    uphill. The metric is told once an epoch, `state = observe(state, value=v)`, or
    on any update, `update(..., value=v)`, where it is judged before it scales. An update without it applies the rate.

    Formula, for each judged metric `m` (of `mode="min"`; "max" is its mirror image):
      better: `m < best (1 - threshold)` if "rel", `m < best - threshold` if "abs"; `best` is `m` then.
      `bad` is 0 if better or in the cooldown, else one more; above `patience` the rate is cut, `bad` is 0 again, and
      the next `cooldown` judgements cannot be bad.
      a cut: `new = max(rate factor, min_lr)`, made where `rate - new > eps`.
      the rate in force: `min(s(t), max(s(t) factor^cuts, min_lr))`.

    Fields:
      learning_rate: a schedule, a callable or a number. None: the updates are scaled by the cuts alone and keep their
        sign (`optax.chain(optax.adam(s), reduce_on_plateau())`), and `min_lr` and `eps` are shares of the full rate.
      mode: "min" for a metric that has to fall, "max" for one that has to rise.
      factor: what a cut multiplies the rate by, between 0 and 1.
      patience: the judgements in a row without a better metric that are borne; the next one cuts. 0 or more.
      threshold: by how much a metric must be better, 0 or more; below 1 if "rel".
      threshold_mode: "rel" to `best`, or "abs".
      cooldown: judgements after a cut that are not counted as bad, 0 or more.
      min_lr: the rate below which no cut goes, 0 or more. A schedule that is lower itself is not raised.
      eps: the smallest cut that is made, 0 or more.
      window: observations whose mean is one judged metric, 1 or more.
      warmup: the first observations, which are not judged, 0 or more.
      nan: what an observation of NaN is: "bad" (as torch: one bad judgement), "ignore" (it was not there) or "cut" (at
        once, unless in the cooldown). It leaves the window as it is.
      sign_safe: relative thresholds are shares of `|best|`, as a metric that may be negative needs. False is torch's
        rule, by which a rise from -1 to -0.95 beats a threshold of 0.1.

    Every number may be a traced array, so that `jax.vmap` runs over them: make the transformation inside of the mapped
    function. The state is a `PlateauState`; the arguments in it are overwritten by those of the transformation on each
    update, so that a checkpoint goes on under a new patience. The losses of single batches need a `window`.

    Errors: ValueError and TypeError that name the field and show the value. Inside of `optax.MultiSteps` only the
    metric of the update that is carried out is heard, and none through its `gradient_transformation()`, which drops
    every `value`; `observe` is always heard.

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
      ...     state = js.observe(state, value=1.0)                # a validation loss that does not move
      >>> state[1].scale.item()
      0.5

    Source: torch's `ReduceLROnPlateau`, observation by observation; Keras's callback is
    `threshold_mode="abs"`, `threshold=min_delta`, `eps=0`, and `patience` and `cooldown` one lower (0 stays 0).
    """
    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32)
    arguments = settings(
        "reduce_on_plateau",
        PlateauSettings,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_lr=min_lr,
        eps=eps,
        window=window,
        warmup=warmup,
        nan=nan,
        sign_safe=sign_safe,
    )
    refuse_threshold("reduce_on_plateau", threshold, threshold_mode)
    start = PlateauState(
        learning_rate=one,
        scale=one,
        best=jnp.where(arguments.mode == 0, jnp.inf, -jnp.inf).astype(jnp.float32),
        bad_count=zero,
        cooldown_count=zero,
        count=zero,
        base_learning_rate=None,
        heard_count=zero,
        window_total=jnp.zeros((), jnp.float32),
        window_count=zero,
        settings=arguments,
    )
    return listening("reduce_on_plateau", learning_rate, start)
