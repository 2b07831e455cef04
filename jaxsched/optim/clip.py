"""Clip the global norm of the gradient by its own history."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ..fields import Domain, NonNegative, Positive
from .metrics import (
    COUNT,
    LARGEST,
    UNSET,
    at_least_float32,
    buffer_length,
    copy_arrays,
    increment,
    scale_updates,
    settings,
    settings_class,
    standard_promotion,
)
from .plateau import Window

Percentile = Annotated[Any, Domain("a percentile, from 0 to 100", lambda x: (x >= 0) & (x <= 100))]
Decay = Annotated[Any, Domain("a number from 0 to below 1, such as 0.97", lambda x: (x >= 0) & (x < 1))]
FLOAT32 = np.finfo(np.float32)


@jax.jit  # an eager call would compile the branches each time
@standard_promotion
def global_norm(tree: Any) -> Array:
    """The norm of all leaves together as a float32: finite if all elements are, else NaN.

    Squares are summed in float32 or better; if they over- or underflow, again relative to the largest element.
    """
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    wide = jnp.result_type(jnp.float32, *(at_least_float32(jax.eval_shape(jnp.abs, x).dtype) for x in leaves))

    def magnitude(x: Array) -> Array:
        return jnp.abs(x).astype(wide)

    def squares(unit: Any) -> Array:
        return sum((jnp.sum(jnp.square(magnitude(x) / unit)) for x in leaves), jnp.zeros((), wide))

    def relative() -> Array:
        largest = jnp.zeros((), wide)
        for x in leaves:
            largest = jnp.maximum(largest, jnp.max(magnitude(x), initial=0))
        return largest * jnp.sqrt(squares(jnp.where(largest > 0, largest, 1)))  # inf / inf is NaN

    plain = squares(1)
    fits = (plain > FLOAT32.tiny / FLOAT32.eps) & (plain < jnp.inf)
    norm = jax.lax.cond(fits, lambda: jnp.sqrt(plain), relative)
    return jnp.minimum(norm, LARGEST).astype(jnp.float32)


class Moments(NamedTuple):
    """Running mean and standard deviation of `count` numbers. The variance would overflow."""

    mean: Array
    std: Array
    count: Array

    @staticmethod
    def none() -> Moments:
        zero = jnp.zeros((), jnp.float32)
        return Moments(zero, zero, jnp.zeros((), jnp.int32))

    def after(self, x: Array, window: Array) -> Moments:
        """One more number with the weight `1 / min(count, window)`: exact up to `window`, then exponential."""
        count = increment(self.count)
        share = 1 / jnp.minimum(count, window).astype(jnp.float32)
        away = x - self.mean
        std = jnp.sqrt(1 - share) * jnp.hypot(self.std, jnp.sqrt(share) * away)
        return Moments(self.mean + share * away, std, count)


def _clip_by(start: Any) -> optax.GradientTransformationExtraArgs:
    """Clip to the `clip_norm` of the state `state.after(norm)`."""

    def init(params: Any) -> Any:
        del params  # the norm is that of the updates
        return copy_arrays(start)

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params, extra
        norm = global_norm(updates)
        state = state._replace(settings=copy_arrays(start.settings))
        state = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(norm), new, old), state.after(norm), state)
        ratio = jnp.where(norm > state.clip_norm, state.clip_norm / norm, 1.0)  # 1 for a NaN
        return scale_updates(updates, ratio), state

    return optax.GradientTransformationExtraArgs(init, update)


class AutoclipState(NamedTuple):
    """The state of `autoclip`."""

    clip_norm: Array = UNSET  # the norm that the last update was clipped to; float32
    norms: Array = UNSET  # the last norms before clipping, a ring buffer; float32, (history,)
    position: Array = COUNT  # the index of the next one
    norm_count: Array = COUNT  # the number of norms in the buffer
    settings: Any = UNSET  # the arguments of the last update

    def after(self, norm: Array) -> AutoclipState:
        """The state after one more norm, with the percentile of those in the buffer."""
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


def autoclip(percentile: Percentile = 10.0, *, history: int = 1000) -> optax.GradientTransformationExtraArgs:
    """Clip the global norm to a percentile of the norms of the last `history` updates.

    Put it first in the chain: `optax.chain(autoclip(), optax.adam(schedule))`.

    For the norm `g_t` of the t-th gradient:
      `c_t` is the percentile of `g_(t-history+1), ..., g_t`, interpolated linearly;
      the update is the gradient times `min(1, c_t / g_t)`.

    Args:
      percentile: from 0 (the smallest norm so far) to 100 (no clipping); 10 in the paper. It can be a traced array.
      history: the number of norms to keep, 1 or more: a Python integer, which cannot be traced.

    Returns:
      The transformation; its state is an `AutoclipState`. Norms are float32 for gradients of any dtype. A gradient that
      is not finite passes unchanged and is not kept: use `optax.zero_nans` or `guard_spikes` for that.

    Raises:
      ValueError, TypeError: if an argument is out of its range or of a wrong type.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(js.optim.autoclip(50), optax.sgd(0.1))
      >>> state = optimizer.init(jnp.zeros(1))
      >>> for gradient in [1.0, 3.0, 1000.0]:
      ...     updates, state = optimizer.update(jnp.array([gradient]), state)
      >>> state[0].clip_norm.item()                               # the median of 1, 3 and 1000
      3.0

    References:
      Seetharaman, Wichern, Pardo and Le Roux (2020), "AutoClip: Adaptive gradient clipping for source separation
      networks", arXiv 2007.14469, which keeps all norms; the limit of 1,000 is that of the authors' package.
    """
    arguments = settings("autoclip", AutoclipSettings, percentile=percentile)
    norms = jnp.zeros(buffer_length("autoclip", "history", history), jnp.float32)
    return _clip_by(AutoclipState(clip_norm=jnp.float32(LARGEST), norms=norms, settings=arguments))


AutoclipSettings = settings_class("AutoclipSettings", autoclip)


class ZclipState(NamedTuple):
    """The state of `zclip`: float32 and int32 scalars."""

    clip_norm: Array  # the norm that the last update was clipped to; the largest float32 without a bound
    norm: Moments  # statistics of the norms so far
    settings: Any  # the arguments; a `max_norm` of None is the largest float32

    def after(self, norm: Array) -> ZclipState:
        """The state after one more norm, with the bound of that norm."""
        s, (mean, std, count) = self.settings, self.norm
        z = (norm - mean) / (std + s.eps)
        bound = jnp.where(z > s.z_threshold, mean + s.z_threshold / z * s.z_threshold * std, LARGEST)
        clipped = jnp.minimum(norm, bound)
        new_mean = mean + (1 - s.alpha) * (clipped - mean)
        new_std = jnp.hypot(jnp.sqrt(s.alpha) * std, jnp.sqrt(1 - s.alpha) * (clipped - new_mean))
        is_burn_in = count < s.burn_in
        moving = Moments(new_mean, new_std, increment(count))
        equal = self.norm.after(norm, jnp.asarray(s.burn_in))
        return self._replace(
            clip_norm=jnp.minimum(jnp.where(is_burn_in, LARGEST, bound), s.max_norm),
            norm=jax.tree.map(lambda a, b: jnp.where(is_burn_in, a, b), equal, moving),
        )


def zclip(
    *,
    alpha: Decay = 0.97,
    z_threshold: Positive = 2.5,
    burn_in: Window = 25,
    max_norm: Positive | None = 1.0,
    eps: NonNegative = 1e-6,
) -> optax.GradientTransformationExtraArgs:
    """Clip the global norm if it is an outlier among the norms so far.

    Put it first in the chain: `optax.chain(zclip(), optax.adam(schedule))`.

    For the norm `g` of a gradient, with the mean `m` and the standard deviation `s` of the earlier norms:
      `z = (g - m) / (s + eps)`; `c = m + z_threshold^2 / z s` if `z > z_threshold`, else `c = g`;
      the update is the gradient, clipped to the norm `min(c, max_norm)`;
      then `m' = alpha m + (1 - alpha) c` and `s'^2 = alpha s^2 + (1 - alpha) (c - m')^2`.
      The first `burn_in` norms are clipped to `max_norm` alone; `m` and `s` start as their mean and standard deviation
      (divided by `burn_in`), before clipping.

    Args:
      alpha: the weight of the past in mean and variance, from 0 to below 1.
      z_threshold: the number of standard deviations above the mean from which it is an outlier, above 0.
      burn_in: the number of norms that the statistics start from, 1 or more.
      max_norm: the bound of every norm, above 0; None for no bound.
      eps: keeps `z` finite if the norms do not vary, 0 or more.

    Returns:
      The transformation; its state is a `ZclipState`. Norms are float32 for gradients of any dtype. All numbers can be
      traced arrays. A gradient that is not finite passes unchanged and is not part of the statistics: use
      `optax.zero_nans` or `guard_spikes` for that.

    Raises:
      ValueError, TypeError: if an argument is out of its range or of a wrong type.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(js.optim.zclip(burn_in=4, max_norm=None), optax.sgd(0.1))
      >>> state = optimizer.init(jnp.zeros(1))
      >>> for gradient in [1.0, 2.0, 1.0, 2.0, 1000.0]:
      ...     updates, state = optimizer.update(jnp.array([gradient]), state)
      >>> print(f"{state[0].clip_norm:.4f}")                      # 998.5 / 0.5 deviations out: close to the mean, 1.5
      1.5016

    References:
      Kumar, Owen, Chowdhury and Güra (2025), "ZClip: Adaptive spike mitigation for LLM pre-training", arXiv
      2504.02507, with the defaults of the authors' code (`mode="zscore"`, `clip_option="adaptive_scaling"`), whose
      variance is about the updated mean.
    """
    max_norm = LARGEST if max_norm is None else max_norm
    arguments = settings("zclip", ZclipSettings, **locals())
    return _clip_by(ZclipState(jnp.asarray(LARGEST, jnp.float32), Moments.none(), arguments))


ZclipSettings = settings_class("ZclipSettings", zclip)
