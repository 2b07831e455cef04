"""Skip updates that are spikes, and reduce the rate after them."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ..fields import Domain, Positive, Unit
from .clip import Moments, global_norm
from .metrics import (
    COUNT,
    ONE,
    UNSET,
    as_metric,
    copy_arrays,
    increment,
    require_transformation,
    scale_updates,
    settings,
    settings_class,
    standard_promotion,
)
from .plateau import Window
from .states import children, shows_hyperparams

BurnIn = Annotated[Any, Domain("a number of observations, 2 or more", lambda x: (x >= 2) & (x % 1 == 0), counts=True)]
Updates = Annotated[Any, Domain("a number of updates, 0 or more", lambda x: (x >= 0) & (x % 1 == 0), counts=True)]
LEAST_STD = 0.01  # of the mean: small variations of what hardly varies are not spikes


@shows_hyperparams
class GuardState(NamedTuple):
    """The state of `guard_spikes`: float32 and int32 scalars, and the state of the guarded optimizer."""

    scale: Array = ONE  # of the next update if it is not skipped, in [0, 1]
    rewarm_count: Array = COUNT  # updates until `scale` is 1 again
    loss: Moments = UNSET  # statistics of the losses, without skipped ones
    norm: Moments = UNSET  # statistics of the gradient norms, without skipped ones
    skipped_count: Array = COUNT  # updates skipped so far
    non_finite_count: Array = COUNT  # of these, the non-finite ones
    skipped_in_a_row: Array = COUNT  # updates skipped since the last one that was not
    spikes_in_a_row: Array = COUNT  # of these, the finite ones, which `max_skips` limits
    count: Array = COUNT  # updates so far, skipped or not
    settings: Any = UNSET  # the arguments of the last update
    inner_state: Any = None  # the state of the guarded optimizer

    @property
    def hyperparams(self) -> dict[str, Array]:
        """The hyperparameters, for `current_hyperparams`."""
        return {"guard_scale": self.scale}

    def is_spike(self, name: str, x: Array) -> Array:
        """Whether a loss or a norm is far above the earlier ones; never before `burn_in` of them."""
        s, (mean, std, count) = self.settings, getattr(self, name)
        spread = jnp.maximum(std, LEAST_STD * jnp.abs(mean))  # 0 if all were zero
        return (count >= s.burn_in) & (spread > 0) & (x - mean > s.threshold * spread)

    @standard_promotion
    def after(self, seen: dict[str, Array]) -> tuple[GuardState, Array]:
        """The state after one more update, without `inner_state`, and whether that update is skipped."""
        finite = jnp.all(jnp.isfinite(jnp.stack(list(seen.values()))))
        spikes = {name: self.is_spike(name, x) for name, x in seen.items()}
        spike = finite & jnp.any(jnp.stack(list(spikes.values())))
        skip = ~finite | (spike & (self.spikes_in_a_row < self.settings.max_skips))
        reset = {name: _where(spikes[name], Moments.none(), getattr(self, name)) for name in seen}
        moments = {name: reset[name].after(x, self.settings.window) for name, x in seen.items()}
        after = _where(skip, self._backed_off(), self._rewarmed()._replace(**moments))._replace(
            skipped_count=self.skipped_count + skip,
            non_finite_count=self.non_finite_count + ~finite,
            skipped_in_a_row=jnp.where(skip, self.skipped_in_a_row + 1, 0),
            spikes_in_a_row=jnp.where(skip, self.spikes_in_a_row + spike, 0),
            count=increment(self.count),
        )
        return after, skip

    def _backed_off(self) -> GuardState:
        s = self.settings
        scale = jnp.maximum(self.scale * s.backoff, s.min_scale)
        return self._replace(scale=jnp.where(s.rewarm > 0, scale, 1.0), rewarm_count=s.rewarm)

    def _rewarmed(self) -> GuardState:
        """Linear: each update closes an equal share of the rest to 1."""
        left = self.rewarm_count
        scale = jnp.where(left > 1, self.scale + (1 - self.scale) / jnp.maximum(left, 1), 1.0)
        return self._replace(scale=scale, rewarm_count=jnp.maximum(left - 1, 0))


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _is_schedule_state(node: Any) -> bool:
    """Whether its `count` is the step of a schedule: it has hyperparameters, or nothing except the count. (Adam's is
    the number of its moments.)"""
    fields = getattr(node, "_fields", ())
    return "count" in fields and (hasattr(node, "hyperparams") or fields == ("count",))


def _advanced(node: Any, holds: Array) -> Any:
    """The state with the counts of its schedules increased by 1, unless `holds`."""
    if jax.tree_util.all_leaves([node]) or isinstance(node, optax.MultiStepsState):
        return node  # its inner counts follow its own steps
    parts, build = children(node)
    clock = (jax.tree_util.GetAttrKey("count"),) if _is_schedule_state(node) else None
    return build([jnp.where(holds, x, increment(x)) if keys == clock else _advanced(x, holds) for keys, x in parts])


def guard_spikes(
    inner: optax.GradientTransformation,
    *,
    window: Window = 128,
    threshold: Positive = 6.0,
    burn_in: BurnIn = 64,
    backoff: Unit = 0.5,
    rewarm: Updates = 100,
    min_scale: Unit = 0.01,
    max_skips: Updates = 20,
    hold: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Skip updates whose loss or gradient is a spike or not finite, then warm up again.

    It wraps an optimizer, as `optax.apply_if_finite` does. It checks the global norm of the gradient, and the loss if
    it is passed: `update(gradients, state, params, value=loss)`. A skipped update is zero, the state of `inner` is
    unchanged, and listeners in `inner` do not observe the loss. In a group of `optax.partition` the norm is the
    group's.

    For a loss or a norm `x`:
      a spike: `x - mean > threshold max(std, 0.01 |mean|)`, after `burn_in` of them.
      mean, std: those of the losses or norms that were not skipped, where the n-th has the weight `1 / min(n, window)`:
      exact for the first `window`, then exponential.
      the scale: `max(backoff scale, min_scale)` after a skipped update. The k-th update after it (k = 0, 1, ...) is
      multiplied by `scale + (1 - scale) min(k / rewarm, 1)`; another spike starts from the current value.

    Args:
      inner: the optimizer.
      window: the number of observations in the statistics, 1 or more.
      threshold: the number of standard deviations above the mean from which it is a spike, above 0.
      burn_in: observations before the first spike, 2 or more. Non-finite updates are skipped from the start.
      backoff: what a skipped update multiplies the scale by, from 0 to 1; with 1 updates are only skipped.
      rewarm: the number of updates until the scale is 1 again, 0 or more.
      min_scale: the lowest scale, from 0 to 1.
      max_skips: spikes in a row that are skipped, 0 or more. The next one is carried out and resets the statistics,
        because a new level is not a spike. Non-finite updates are always skipped and do not count.
      hold: whether the schedules in `inner` stop during a skipped update. If False, only their counts increase: the
        `count` of each state with `hyperparams` (`inject_hyperparams`, Optax's or ours, and listeners) or without any
        other field (`optax.scale_by_schedule`), but not Adam's, which is the number of its moments.

    Returns:
      The transformation; its state is a `GuardState`. All numbers and flags can be traced arrays. An update that is not
      skipped costs the norm. Put `optax.MultiSteps` inside, where each of its gradients is checked; around the guard
      it needs `should_skip_update_fn=optax.skip_not_finite`, or a NaN stays in its mean.

    Raises:
      ValueError, TypeError: if an argument is out of its range or of a wrong type.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = js.guard_spikes(optax.sgd(0.1), burn_in=3, rewarm=2)
      >>> params = jnp.ones(1)
      >>> state = optimizer.init(params)
      >>> steps = []
      >>> for gradient in [1.0, 1.1, 0.9, 50.0, 1.0, 1.0, 1.0]:
      ...     updates, state = optimizer.update(jnp.array([gradient]), state, params)
      ...     steps.append(round(updates.item(), 3))
      >>> steps
      [-0.1, -0.11, -0.09, 0.0, -0.05, -0.075, -0.1]
      >>> state.skipped_count.item(), js.current_hyperparams(state)["guard_scale"].item()
      (1, 1.0)

    References:
      Levanter's skip step (128 observations, 6 standard deviations, after half a window), whose window includes the
      spikes; `optax.apply_if_finite`. Backoff, rewarm and the reset are our own.
    """
    guarded = require_transformation("guard_spikes", inner)
    arguments = settings("guard_spikes", GuardSettings, **locals())

    def init(params: Any) -> GuardState:
        start = copy_arrays(GuardState(loss=Moments.none(), norm=Moments.none(), settings=arguments))
        return start._replace(inner_state=guarded.init(params))

    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any) -> tuple[Any, Any]:
        seen = {"norm": global_norm(updates)}
        if value is not None:
            seen["loss"] = as_metric("guard_spikes", value)
            extra["value"] = value
        scale, inner_state = state.scale, state.inner_state
        state, skip = state._replace(settings=copy_arrays(arguments), inner_state=None).after(seen)

        def carried_out() -> tuple[Any, Any]:
            new, new_state = guarded.update(updates, inner_state, params, **extra)
            return scale_updates(new, scale), new_state

        def skipped() -> tuple[Any, Any]:
            zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(carried_out)[0])  # sharded as the updates are
            return zeros, _advanced(inner_state, jnp.equal(state.settings.hold, 1))

        out, after = jax.lax.cond(skip, skipped, carried_out)
        return out, state._replace(inner_state=after)

    return optax.GradientTransformationExtraArgs(init, update)


GuardSettings = settings_class("GuardSettings", guard_spikes)
