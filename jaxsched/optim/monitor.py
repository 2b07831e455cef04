"""Norms of gradients, updates and parameters, for finding those that explode or vanish."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import FieldTypeError
from .clip import Decay
from .metrics import COUNT, LARGEST, UNSET, ZERO, copy_arrays, increment, settings, settings_class, standard_promotion


class MonitorState(NamedTuple):
    """The state of `monitor_gradients`; arrays of shape (n,) have one number for each of the n parameters."""

    inner_state: Any = None  # the state of the wrapped optimizer
    paths: Any = ()  # the parameters in tree order, without leaves: `({"conv_1/kernel": ()}, ...)`
    count: Array = COUNT  # updates so far
    gradient_norm: Array = UNSET  # bias-corrected moving averages of the norms, (n,)
    update_norm: Array = UNSET  # (n,)
    param_norm: Array = UNSET  # (n,)
    non_finite: Array = UNSET  # updates with a non-finite gradient, update or parameter, not in the averages, (n,)
    start_norm: Array = UNSET  # the norms of the initial parameters, (n,)
    axes: Array = UNSET  # the number of axes of the parameters, (n,)
    first_norm: Array = ZERO  # the first finite gradient norm of all parameters together that is not 0
    settings: Any = UNSET  # the arguments of the last update


def monitor_gradients(
    inner: optax.GradientTransformation | None = None, *, decay: Decay = 0.99
) -> optax.GradientTransformationExtraArgs:
    """Measure the norms of gradients, updates and parameters, for `diagnose`.

    Wrap the whole optimizer, `monitor_gradients(optax.adam(1e-3))`, to measure the incoming gradient and the outgoing
    update, or put it first in a chain to measure the gradient alone. It does not change the updates. Put
    `optax.MultiSteps` around it, not inside, where most updates are zero.

    For the norm `x` of the n-th finite update of one parameter:
      `mean += (x - mean) (1 - decay) / (1 - decay^n)`, the bias-corrected moving average.

    Args:
      inner: the optimizer. None: gradients pass unchanged.
      decay: the weight of the past in the averages, from 0 (only the last update) to below 1. It can be a traced array.

    Returns:
      The transformation; its state is a `MonitorState`, float32 and int32 for parameters of any dtype. Updates and
      parameters are measured if there is an `inner` and `update` receives `params`.

    Raises:
      ValueError, TypeError: if `inner` is not an optimizer, or `decay` is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> params = {f"layer_{i}": 0.1 * jnp.eye(4) for i in range(12)}
      >>> def loss(params, x):                                    # twelve layers, each of which shrinks its input
      ...     for i in range(12):
      ...         x = jax.nn.sigmoid(x @ params[f"layer_{i}"])
      ...     return jnp.sum(x)
      >>> optimizer = js.monitor_gradients(optax.sgd(0.1))
      >>> state = optimizer.init(params)
      >>> gradients = jax.grad(loss)(params, jnp.ones(4))
      >>> for step in range(10):
      ...     updates, state = optimizer.update(gradients, state, params)
      >>> print(js.optim.diagnose(state)[0])                            # doctest: +ELLIPSIS
      warning: layer_0: vanishing gradient, norm ..., ... x below the last layer (layer_11); try ReLU or ...

    References:
      Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks"; Pascanu et
      al. (2013), "On the difficulty of training recurrent neural networks"; the bias correction is Adam's.
    """
    if inner is not None and not (callable(getattr(inner, "init", None)) and callable(getattr(inner, "update", None))):
        instead = "write an optimizer, such as monitor_gradients(optax.adam(1e-3))"
        raise FieldTypeError("monitor_gradients", "inner", inner, instead, note=" is not an optimizer")
    arguments = settings("monitor_gradients", MonitorSettings, decay=decay)
    wrapped = optax.with_extra_args_support(optax.identity() if inner is None else inner)

    def init(params: Any) -> MonitorState:
        keyed, _ = jax.tree_util.tree_flatten_with_path(params)
        zeros = jnp.zeros(len(keyed), jnp.float32)
        start = MonitorState(
            paths=tuple({_path(keys): ()} for keys, _ in keyed),
            gradient_norm=zeros,
            update_norm=zeros,
            param_norm=zeros,
            non_finite=zeros.astype(jnp.int32),
            start_norm=_norms(params),
            axes=jnp.asarray([jnp.ndim(x) for _, x in keyed], jnp.int32),
            settings=arguments,
        )
        return copy_arrays(start)._replace(inner_state=wrapped.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, MonitorState]:
        out, inner_state = wrapped.update(updates, state.inner_state, params, **extra)
        trees = {"gradient_norm": updates}
        if inner is not None and params is not None:
            trees |= {"update_norm": out, "param_norm": params}
        state = state._replace(inner_state=inner_state, settings=copy_arrays(arguments))
        return out, _after(state, trees)

    return optax.GradientTransformationExtraArgs(init, update)


MonitorSettings = settings_class("MonitorSettings", monitor_gradients)


def _path(keys: tuple[Any, ...]) -> str:
    if len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys = keys[:-1]  # a box of Flax NNX
    return jax.tree_util.keystr(keys, simple=True, separator="/") or "params"


@standard_promotion
def _norm(x: Any) -> Array:
    """The norm as a float32: finite if all elements are, else NaN. No square over- or underflows."""
    x = jnp.abs(x)
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    top = jnp.max(x, initial=0.0)
    unit = jnp.clip(top, np.finfo(np.float32).tiny, 2.0**120)  # neither it nor 1 / unit rounds to 0
    norm = jnp.minimum(unit * jnp.sqrt(jnp.sum(jnp.square(x / unit))), LARGEST)
    return jnp.where(jnp.isfinite(top), norm, jnp.nan).astype(jnp.float32)


@jax.jit  # states are usually initialized eagerly
def _norms(tree: Any) -> Array:
    """The norms of all leaves in one array, because averaging many scalars costs more than computing them."""
    return jnp.stack([_norm(x) for x in jax.tree.leaves(tree)] or [jnp.zeros(0, jnp.float32)]).reshape(-1)


@standard_promotion
def _after(state: MonitorState, trees: dict[str, Any]) -> MonitorState:
    """The state after one more update; `trees` are the measured trees by the name of their mean."""
    norms = {name: _norms(tree) for name, tree in trees.items()}
    count = increment(state.count)
    finite = ~jnp.isnan(functools.reduce(jnp.maximum, norms.values()))
    non_finite = state.non_finite + ~finite
    # The weight of the newest norm: (1 - decay) / (1 - decay^n) without cancellation, at most 1.
    rest = state.settings.decay - 1
    share = jnp.minimum(rest / jnp.expm1(jnp.maximum(count - non_finite, 1) * jnp.log1p(rest)), 1.0)
    means = {}
    for name, norm in norms.items():
        old = getattr(state, name)
        means[name] = jnp.where(finite, old + share * (norm - old), old)
    total = _norm(norms["gradient_norm"])
    first = jnp.where((state.first_norm == 0) & ~jnp.isnan(total), total, state.first_norm)
    return state._replace(count=count, non_finite=non_finite, first_norm=first, **means)
