"""Clip the global norm of the gradient to what its own history says is usual."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value
from ..fields import Domain, NonNegative, Positive
from .listen import fresh, increment, scaled, settings, standard_promotion, widened
from .plateau import Window

Percentile = Annotated[Array, Domain("a percentile, from 0 to 100", lambda x: (x >= 0) & (x <= 100))]
Decay = Annotated[Array, Domain("a number from 0 to below 1, such as 0.97", lambda x: (x >= 0) & (x < 1))]
FLOAT32 = np.finfo(np.float32)
LARGEST = float(FLOAT32.max)  # the bound that bounds nothing: it is finite, so that nothing made of it is NaN


@jax.jit  # without one around it, the branches would be compiled at every call
@standard_promotion
def global_norm(tree: Any) -> Array:
    """The norm of all leaves together as a float32: finite where all elements are, else NaN.

    It is summed in float32 or better whatever the leaves are; where the squares overflow or underflow, once more in
    shares of the largest element.
    """
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    wide = jnp.result_type(jnp.float32, *(widened(jax.eval_shape(jnp.abs, x).dtype) for x in leaves))

    def magnitude(x: Array) -> Array:
        return jnp.abs(x).astype(wide)

    def squares(unit: Any) -> Array:
        return sum((jnp.sum(jnp.square(magnitude(x) / unit)) for x in leaves), jnp.zeros((), wide))

    def in_shares() -> Array:
        largest = jnp.zeros((), wide)
        for x in leaves:
            largest = jnp.maximum(largest, jnp.max(magnitude(x), initial=0))
        return largest * jnp.sqrt(squares(jnp.where(largest > 0, largest, 1)))  # inf / inf is NaN

    plain = squares(1)
    fits = (plain > FLOAT32.tiny / FLOAT32.eps) & (plain < jnp.inf)
    norm = jax.lax.cond(fits, lambda: jnp.sqrt(plain), in_shares)
    return jnp.minimum(norm, LARGEST).astype(jnp.float32)


class Moments(NamedTuple):
    """Running mean and standard deviation of `count` numbers. The deviation and not its square: that would overflow."""

    mean: Array
    std: Array
    count: Array

    @staticmethod
    def none() -> Moments:
        zero = jnp.zeros((), jnp.float32)
        return Moments(zero, zero, jnp.zeros((), jnp.int32))

    def after(self, x: Array, window: Array) -> Moments:
        """After one number more, which weighs `1 / min(count, window)`: exact up to `window`, then it forgets."""
        count = increment(self.count)
        share = 1 / jnp.minimum(count, window).astype(jnp.float32)
        away = x - self.mean
        std = jnp.sqrt(1 - share) * jnp.hypot(self.std, jnp.sqrt(share) * away)
        return Moments(self.mean + share * away, std, count)


def _clip_by(start: Any) -> optax.GradientTransformationExtraArgs:
    """Clip to the `clip_norm` of a state that takes in each norm first, `state.after(norm)`."""

    def init(params: Any) -> Any:
        del params  # the norm is that of the updates
        return fresh(start)

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params, extra
        norm = global_norm(updates)
        state = state._replace(settings=fresh(start.settings))
        state = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(norm), new, old), state.after(norm), state)
        ratio = jnp.where(norm > state.clip_norm, state.clip_norm / norm, 1.0)  # NaN is above nothing, and passes
        return scaled(updates, ratio), state

    return optax.GradientTransformationExtraArgs(init, update)


class AutoclipSettings(NamedTuple):
    """The arguments of `autoclip`, as they stand in its state."""

    percentile: Percentile


class AutoclipState(NamedTuple):
    """What `autoclip` knows.

    Fields:
      clip_norm: what the last update was clipped to; float32.
      norms: the last norms, before they were clipped, as a ring; float32 of the shape `(history,)`.
      position: where the next one goes; int32.
      norm_count: how many there are; int32.
      settings: the arguments.
    """

    clip_norm: Array
    norms: Array
    position: Array
    norm_count: Array
    settings: AutoclipSettings

    def after(self, norm: Array) -> AutoclipState:
        """After one more norm, and with the percentile of those that there are."""
        history = self.norms.size
        norms = jnp.asarray(self.norms).at[self.position].set(norm)
        count = jnp.minimum(self.norm_count + 1, history)
        ordered = jnp.sort(jnp.where(jnp.arange(history) < count, norms, LARGEST))
        rank = self.settings.percentile / 100 * (count - 1)
        below = jnp.floor(rank).astype(jnp.int32)
        low, high = ordered[below], ordered[jnp.minimum(below + 1, count - 1)]
        return self._replace(
            clip_norm=low + (rank - below) * (high - low),
            norms=norms,
            position=(self.position + 1) % history,
            norm_count=count,
        )


def autoclip(percentile: Any = 10.0, *, history: int = 1000) -> optax.GradientTransformationExtraArgs:
    """Clip the global norm to a percentile of the norms so far, those of the last `history` updates.

    Put it first in the chain: `optax.chain(autoclip(), optax.adam(schedule))`.

    Formula, for the norm `g_t` of the t-th gradient:
      `c_t` is the percentile of `g_(t-history+1), ..., g_t`, interpolated linearly between neighbours in order;
      the update is the gradient, scaled by `min(1, c_t / g_t)`. The first one is its own percentile, and passes.

    Fields:
      percentile: from 0 (the smallest norm so far) to 100 (which clips nothing); 10 in the paper. May be a traced
        array, so that `jax.vmap` runs over it.
      history: the norms that are kept, 1 or more; a Python int, since it is the length of an array in the state, and
        so the one argument that cannot be traced.

    A gradient with NaN or infinity in it passes as it is and is not kept: `optax.zero_nans` and `guard_spikes` are for
    that. Norms are summed in float32 for gradients of any type. The state is an `AutoclipState`.

    Errors: ValueError and TypeError that name the field and show the value.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(js.autoclip(50), optax.sgd(0.1))
      >>> state = optimizer.init(jnp.zeros(1))
      >>> for gradient in [1.0, 3.0, 1000.0]:
      ...     updates, state = optimizer.update(jnp.array([gradient]), state)
      >>> state[0].clip_norm.item()                               # the median of 1, 3 and 1000
      3.0

    Source: Seetharaman, Wichern, Pardo and Le Roux (2020), "AutoClip: Adaptive gradient clipping for source separation
    networks", arXiv 2007.14469, which keeps all norms; the bound of 1,000 is that of the authors' package.
    """
    if isinstance(history, bool) or not isinstance(history, (int, np.integer)):
        raise TypeError(
            f"autoclip: history={format_value(history)}; history is the length of an array: write a Python int."
        )
    if history < 1:
        raise ValueError(f"autoclip: history={history}; history must be a number of norms, 1 or more.")
    start = AutoclipState(
        clip_norm=jnp.asarray(LARGEST, jnp.float32),
        norms=jnp.zeros(history, jnp.float32),
        position=jnp.zeros((), jnp.int32),
        norm_count=jnp.zeros((), jnp.int32),
        settings=settings("autoclip", AutoclipSettings, percentile=percentile),
    )
    return _clip_by(start)


class ZclipSettings(NamedTuple):
    """The arguments of `zclip`, as they stand in its state; a `max_norm` of None is the largest float32."""

    alpha: Decay
    z_threshold: Positive
    burn_in: Window
    max_norm: Positive
    eps: NonNegative


class ZclipState(NamedTuple):
    """What `zclip` knows: float32 and int32 scalars.

    Fields:
      clip_norm: what the last update was clipped to; the largest float32 where there was no bound.
      norm: the mean, the standard deviation and the number of the norms so far.
      settings: the arguments.
    """

    clip_norm: Array
    norm: Moments
    settings: ZclipSettings

    def after(self, norm: Array) -> ZclipState:
        """After one more norm, and with the bound that it is clipped to."""
        s, (mean, std, count) = self.settings, self.norm
        z = (norm - mean) / (std + s.eps)
        bound = jnp.where(z > s.z_threshold, mean + s.z_threshold / z * s.z_threshold * std, LARGEST)
        calm = jnp.minimum(norm, bound)
        new_mean = mean + (1 - s.alpha) * (calm - mean)
        new_std = jnp.hypot(jnp.sqrt(s.alpha) * std, jnp.sqrt(1 - s.alpha) * (calm - new_mean))
        begins = count < s.burn_in
        moving = Moments(new_mean, new_std, increment(count))
        equal = self.norm.after(norm, jnp.asarray(s.burn_in))
        return self._replace(
            clip_norm=jnp.minimum(jnp.where(begins, LARGEST, bound), s.max_norm),
            norm=jax.tree.map(lambda a, b: jnp.where(begins, a, b), equal, moving),
        )


def zclip(
    *, alpha: Any = 0.97, z_threshold: Any = 2.5, burn_in: Any = 25, max_norm: Any = 1.0, eps: Any = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """Clip the global norm where it is an outlier among the norms so far, and the more the further out it is.

    Put it first in the chain: `optax.chain(zclip(), optax.adam(schedule))`.

    Formula, for the norm `g` of a gradient, with the mean `m` and the standard deviation `s` of those before:
      `z = (g - m) / (s + eps)`; the calm norm is `c = m + z_threshold^2 / z s` where `z > z_threshold`, else `c = g`;
      the update is the gradient, clipped to the norm `min(c, max_norm)`;
      then `m' = alpha m + (1 - alpha) c` and `s'^2 = alpha s^2 + (1 - alpha) (c - m')^2`, about the new mean.
      The first `burn_in` norms are clipped to `max_norm` alone; `m` and `s` start as their mean and their standard
      deviation (divided by `burn_in`), of the norms before they were clipped.

    Fields:
      alpha: how much of the mean and of the variance stays on each update, from 0 to below 1.
      z_threshold: how many standard deviations above the mean an outlier begins, above 0.
      burn_in: the norms that the statistics start from, 1 or more.
      max_norm: the bound for every norm, above 0; None is no such bound.
      eps: keeps `z` finite where the norms do not vary, 0 or more.

    A gradient with NaN or infinity in it passes as it is and enters no statistics: `optax.zero_nans` and `guard_spikes`
    are for that. Norms are summed in float32 for gradients of any type. Every number may be a traced array, so that
    `jax.vmap` runs over them. The state is a `ZclipState`.

    Errors: ValueError and TypeError that name the field and show the value.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(js.zclip(burn_in=4, max_norm=None), optax.sgd(0.1))
      >>> state = optimizer.init(jnp.zeros(1))
      >>> for gradient in [1.0, 2.0, 1.0, 2.0, 1000.0]:
      ...     updates, state = optimizer.update(jnp.array([gradient]), state)
      >>> print(f"{state[0].clip_norm:.4f}")                      # 998.5 / 0.5 deviations out: close to the mean, 1.5
      1.5016

    Source: Kumar, Owen, Chowdhury and Güra (2025), "ZClip: Adaptive spike mitigation for LLM pre-training",
    arXiv 2504.02507, with the defaults of the authors' code (`mode="zscore"`, `clip_option="adaptive_scaling"`), whose
    variance is about the mean that is already updated.
    """
    arguments = settings(
        "zclip",
        ZclipSettings,
        alpha=alpha,
        z_threshold=z_threshold,
        burn_in=burn_in,
        max_norm=LARGEST if max_norm is None else max_norm,
        eps=eps,
    )
    return _clip_by(ZclipState(jnp.asarray(LARGEST, jnp.float32), Moments.none(), arguments))
