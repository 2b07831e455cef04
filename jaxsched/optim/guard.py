"""Skip the updates that spikes would make, and take it slowly after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from .._errors import format_value
from ..fields import Domain, Positive, Unit
from .clip import Moments, global_norm
from .listen import as_metric, fresh, increment, scaled, settings, standard_promotion
from .plateau import Window
from .states import children

BurnIn = Annotated[Array, Domain("a number of observations, 2 or more", lambda x: (x >= 2) & (x % 1 == 0), counts=True)]
Updates = Annotated[Array, Domain("a number of updates, 0 or more", lambda x: (x >= 0) & (x % 1 == 0), counts=True)]
LEAST_STD = 0.01  # of the mean: what hardly varies is not a spike for varying a little more


class GuardSettings(NamedTuple):
    """The arguments of `guard_spikes`, as they stand in its state."""

    window: Window
    threshold: Positive
    burn_in: BurnIn
    backoff: Unit
    rewarm: Updates
    min_scale: Unit
    max_skips: Updates
    hold: bool


class GuardState(NamedTuple):
    """What `guard_spikes` knows: float32 and int32 scalars, and the state of the optimizer that it guards.

    Fields:
      scale: what the next update that is not skipped is multiplied by, in [0, 1].
      rewarm_count: the updates that are left until it is 1 again.
      loss, norm: the mean, the standard deviation and the number of the losses and of the gradient norms since their
        statistics began, without those that were skipped.
      skipped_count: the updates that were skipped; of these `non_finite_count` held NaN or infinity.
      skipped_in_a_row: those since the last one that was not.
      spikes_in_a_row: of these, the finite ones, which `max_skips` bounds.
      count: the updates so far, skipped or not.
      settings: the arguments.
      inner_state: the state of the guarded optimizer.
    """

    scale: Array
    rewarm_count: Array
    loss: Moments
    norm: Moments
    skipped_count: Array
    non_finite_count: Array
    skipped_in_a_row: Array
    spikes_in_a_row: Array
    count: Array
    settings: GuardSettings
    inner_state: Any

    @property
    def hyperparams(self) -> dict[str, Array]:
        """What `current_hyperparams` shows."""
        return {"guard_scale": self.scale}

    def is_spike(self, name: str, x: Array) -> Array:
        """Whether a loss or a norm is far above those before it; too few before it judge nothing."""
        s, (mean, std, count) = self.settings, getattr(self, name)
        spread = jnp.maximum(std, LEAST_STD * jnp.abs(mean))  # 0 where there was nothing but zeros, which tell nothing
        return (count >= s.burn_in) & (spread > 0) & (x - mean > s.threshold * spread)

    @standard_promotion
    def judged(self, seen: dict[str, Array]) -> tuple[GuardState, Array]:
        """The state after one more update, but for `inner_state`, and whether that update is skipped."""
        finite = jnp.all(jnp.isfinite(jnp.stack(list(seen.values()))))
        spikes = {name: self.is_spike(name, x) for name, x in seen.items()}
        spike = finite & jnp.any(jnp.stack(list(spikes.values())))
        skip = ~finite | (spike & (self.spikes_in_a_row < self.settings.max_skips))
        anew = {name: _where(spikes[name], Moments.none(), getattr(self, name)) for name in seen}
        kept = {name: anew[name].after(x, self.settings.window) for name, x in seen.items()}
        zero = jnp.zeros((), jnp.int32)
        after = _where(skip, self._backed_off(), self._rewarmed()._replace(**kept))._replace(
            skipped_count=self.skipped_count + skip,
            non_finite_count=self.non_finite_count + ~finite,
            skipped_in_a_row=jnp.where(skip, self.skipped_in_a_row + 1, zero),
            spikes_in_a_row=jnp.where(skip, self.spikes_in_a_row + spike, zero),
            count=increment(self.count),
        )
        return after, skip

    def _backed_off(self) -> GuardState:
        s = self.settings
        scale = jnp.maximum(self.scale * s.backoff, s.min_scale)
        return self._replace(scale=jnp.where(s.rewarm > 0, scale, 1.0), rewarm_count=s.rewarm)

    def _rewarmed(self) -> GuardState:
        """An equal share of what is left to 1 on each update is a straight line."""
        left = self.rewarm_count
        scale = jnp.where(left > 1, self.scale + (1 - self.scale) / jnp.maximum(left, 1), 1.0)
        return self._replace(scale=scale, rewarm_count=jnp.maximum(left - 1, 0))


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _is_schedule_state(node: Any) -> bool:
    """Whether its `count` is the clock of a schedule: it shows hyperparameters, or there is nothing else in it that
    the count could be about (Adam's is about its moments)."""
    fields = getattr(node, "_fields", ())
    return "count" in fields and (hasattr(node, "hyperparams") or fields == ("count",))


def _ticked(node: Any, holds: Array) -> Any:
    """A state whose schedules' clocks went on by one, unless it holds."""
    if jax.tree_util.all_leaves([node]) or isinstance(node, optax.MultiStepsState):
        return node  # what MultiSteps has within goes by its own steps
    parts, build = children(node)
    clock = (jax.tree_util.GetAttrKey("count"),) if _is_schedule_state(node) else None
    return build(
        [jnp.where(holds, x, increment(x)) if keys == clock else _ticked(x, holds) for keys, x in parts],
    )


def _unless(skip: Array, carried_out: Callable[[], tuple[Any, Any]], before: Any, state: GuardState) -> tuple[Any, Any]:
    """What is carried out, or no update, and the inner state as it was before, but for clocks that do not hold."""

    def skipped() -> tuple[Any, Any]:
        zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(carried_out)[0])  # sharded as the updates are
        return zeros, _ticked(before, jnp.equal(state.settings.hold, 1))

    updates, inner_state = jax.lax.cond(skip, skipped, carried_out)
    return updates, state._replace(inner_state=inner_state)


def guard_spikes(
    inner: optax.GradientTransformation,
    *,
    window: Any = 128,
    threshold: Any = 6.0,
    burn_in: Any = 64,
    backoff: Any = 0.5,
    rewarm: Any = 100,
    min_scale: Any = 0.01,
    max_skips: Any = 20,
    hold: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Skip an update whose loss or gradient is a spike or not finite; then back the rate off and warm it up again.

    It wraps an optimizer as `optax.apply_if_finite` does. The gradient is judged by its global norm, the loss if it is
    told: `update(gradients, state, params, value=loss)`. A skipped update is zero, the state of `inner` stays as it
    was, and what `inner` listens to is not told the loss. In a group of `optax.partition` the norm is the group's.

    Formula, for a loss or a norm `x`:
      a spike: `x - mean > threshold max(std, 0.01 |mean|)`, once there were `burn_in` of them. The floor is for what
      hardly varies: 6 floors are 6 % above its mean.
      mean, std: those of the losses or norms that were not skipped, in which the n-th weighs `1 / min(n, window)`:
      exact for the first `window`, which then are forgotten exponentially.
      the scale: `max(backoff scale, min_scale)` after a skipped update. The k-th update after it (k = 0, 1, ...) is
      multiplied by `scale + (1 - scale) min(k / rewarm, 1)`; another spike starts from what is reached by then.

    Fields:
      inner: the optimizer.
      window: the observations that the statistics are about, 1 or more.
      threshold: how many standard deviations above the mean is a spike, above 0.
      burn_in: the observations before the first judgement, 2 or more. What is not finite is skipped from the start.
      backoff: what a skipped update multiplies the scale by, from 0 to 1; 1 only skips.
      rewarm: the updates in which the scale is 1 again, 0 or more.
      min_scale: below which the scale is not backed off, from 0 to 1.
      max_skips: the spikes in a row that are skipped, 0 or more: a level that stays is none. The next one is carried
        out and begins the statistics anew. What is not finite is never carried out, nor is it counted here.
      hold: a skipped update does not advance the schedules in `inner`. False: their clocks go on, and all else stays.
        A clock is the `count` of a state that shows `hyperparams` (those of `inject_hyperparams`, Optax's or ours, and
        of the listeners), or that is all its state (`optax.scale_by_schedule`); Adam's belongs to its moments.

    Every number and flag may be a traced array, so that `jax.vmap` runs over them. An update that is not skipped costs
    the norm. The state is a `GuardState`. `optax.MultiSteps` goes inside, where each of its gradients is judged; around
    the guard it needs `should_skip_update_fn=optax.skip_not_finite`, or NaN stays in its mean.

    Errors: TypeError for an `inner` that is no optimizer, and for a `value` that is no number; ValueError and TypeError
    that name the field and show the value.

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

    Source: Levanter's skip step (128 observations, 6 standard deviations, judged from half a window on), whose window
    takes in the spikes too; `optax.apply_if_finite`. To back off and warm up again, and to begin anew on another level,
    is a design of our own.
    """
    if not isinstance(inner, optax.GradientTransformation):
        hint = "write an optimizer, such as guard_spikes(optax.adam(1e-3))"
        raise TypeError(f"guard_spikes: inner={format_value(inner)} is not a GradientTransformation; {hint}.")
    guarded = optax.with_extra_args_support(inner)
    arguments = settings(
        "guard_spikes",
        GuardSettings,
        window=window,
        threshold=threshold,
        burn_in=burn_in,
        backoff=backoff,
        rewarm=rewarm,
        min_scale=min_scale,
        max_skips=max_skips,
        hold=hold,
    )

    def init(params: Any) -> GuardState:
        zero, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32)
        none = Moments.none()
        start = GuardState(one, zero, none, none, zero, zero, zero, zero, zero, arguments, None)
        return fresh(start)._replace(inner_state=guarded.init(params))

    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any) -> tuple[Any, Any]:
        seen = {"norm": global_norm(updates)}
        if value is not None:
            seen["loss"] = as_metric("guard_spikes", value)
            extra["value"] = value
        scale, before = state.scale, state.inner_state
        state, skip = state._replace(settings=fresh(arguments), inner_state=None).judged(seen)

        def carried_out() -> tuple[Any, Any]:
            new, after = guarded.update(updates, before, params, **extra)
            return scaled(new, scale), after

        return _unless(skip, carried_out, before, state)

    return optax.GradientTransformationExtraArgs(init, update)
