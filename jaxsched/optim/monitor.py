"""Gradients that explode or vanish, seen as they pass and said in words."""

from __future__ import annotations

import functools
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value
from ..fields import Domain
from .listen import fresh, increment, settings, standard_promotion

Decay = Annotated[Array, Domain("a number from 0 to below 1, such as 0.99", lambda x: (x >= 0) & (x < 1))]


class MonitorSettings(NamedTuple):
    """The arguments of `monitor_gradients`, as they stand in its state."""

    decay: Decay


class MonitorState(NamedTuple):
    """What `monitor_gradients` knows: a number for each of the n parameters stands in one array of the shape (n,).

    Fields:
      inner_state: the state of the optimizer that is watched.
      paths: the parameters, in the order of their tree: `({"conv_1/kernel": ()}, ...)`, which is structure alone.
      count: the updates so far.
      gradient_norm, update_norm, param_norm: the means of the norms, (n,). They are exponential moving averages, free
        of the bias of their start: after one update they are its norms.
      non_finite: how many updates were not finite (gradient, update or parameter) and are in no mean, (n,).
      start_norm: the parameters' norms when the state was made, (n,).
      axes: how many axes the parameters have, (n,).
      first_norm: the norm of the first gradient of all parameters together that was neither 0 nor non-finite.
      settings: the arguments.
    """

    inner_state: Any
    paths: Any
    count: Array
    gradient_norm: Array
    update_norm: Array
    param_norm: Array
    non_finite: Array
    start_norm: Array
    axes: Array
    first_norm: Array
    settings: MonitorSettings


def monitor_gradients(
    inner: optax.GradientTransformation | None = None, *, decay: Any = 0.99
) -> optax.GradientTransformationExtraArgs:
    """Watch the norms of gradients, updates and parameters, parameter by parameter, for `diagnose` to judge.

    Put it around the whole optimizer, `monitor_gradients(optax.adam(1e-3))`, where it sees the gradient that comes in
    and the update that goes out, or first in a chain, where it sees the gradient alone. It changes nothing. Put
    `optax.MultiSteps` around it, and not within, where most of its updates are zero.

    Formula, for the norm `x` of the n-th finite update of one parameter:
      `mean += (x - mean) (1 - decay) / (1 - decay^n)`, which is the moving average divided by the sum of its weights.

    Fields:
      inner: the optimizer to watch. None: there is none, and the gradients pass.
      decay: how much of the mean stays on each update, from 0 (the last update alone) to below 1.

    `decay` may be a traced array, so that `jax.vmap` runs over it. The state is a `MonitorState`, of float32 and int32
    whatever the parameters are. Updates and parameters are watched if there is an `inner` and if `update` is given
    `params`.

    Errors: TypeError for an `inner` that is no optimizer; ValueError and TypeError for a bad `decay`.

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
      >>> print(js.diagnose(state)[0])                            # doctest: +ELLIPSIS
      vanishing: layer_0, gradient norm ..., ... x below the last layer (layer_11); try ReLU or a normalisation, ...

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks",
    which compares the gradients of the layers; Pascanu et al. (2013), "On the difficulty of training recurrent neural
    networks"; the bias correction is that of Adam.
    """
    if inner is not None and not (callable(getattr(inner, "init", None)) and callable(getattr(inner, "update", None))):
        hint = "write an optimizer, such as monitor_gradients(optax.adam(1e-3))"
        raise TypeError(f"monitor_gradients: inner={format_value(inner)} is not an optimizer; {hint}.")
    arguments = settings("monitor_gradients", MonitorSettings, decay=decay)
    watched = optax.with_extra_args_support(optax.identity() if inner is None else inner)

    def init(params: Any) -> MonitorState:
        keyed, _ = jax.tree_util.tree_flatten_with_path(params)
        zeros = jnp.zeros(len(keyed), jnp.float32)
        start = MonitorState(
            inner_state=None,
            paths=tuple({_path(keys): ()} for keys, _ in keyed),
            count=jnp.zeros((), jnp.int32),
            gradient_norm=zeros,
            update_norm=zeros,
            param_norm=zeros,
            non_finite=zeros.astype(jnp.int32),
            start_norm=_norms(params),
            axes=jnp.asarray([jnp.ndim(x) for _, x in keyed], jnp.int32),
            first_norm=jnp.zeros((), jnp.float32),
            settings=arguments,
        )
        return fresh(start)._replace(inner_state=watched.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, MonitorState]:
        out, inner_state = watched.update(updates, state.inner_state, params, **extra)
        trees = {"gradient_norm": updates}
        if inner is not None and params is not None:
            trees |= {"update_norm": out, "param_norm": params}
        state = state._replace(inner_state=inner_state, settings=fresh(arguments))
        return out, _after(state, trees)

    return optax.GradientTransformationExtraArgs(init, update)


def _path(keys: tuple[Any, ...]) -> str:
    if len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys = keys[:-1]  # a box of Flax NNX
    return jax.tree_util.keystr(keys, simple=True, separator="/") or "params"


@standard_promotion
def _norm(x: Any) -> Array:
    """The norm as a float32 that is finite if all elements are, and NaN if not; no square of it over- or underflows."""
    x = jnp.abs(x)
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    top = jnp.max(x, initial=0.0)
    unit = jnp.clip(top, np.finfo(np.float32).tiny, 2.0**120)  # neither it nor 1 / unit is rounded to 0
    norm = jnp.minimum(unit * jnp.sqrt(jnp.sum(jnp.square(x / unit))), np.finfo(np.float32).max)
    return jnp.where(jnp.isfinite(top), norm, jnp.nan).astype(jnp.float32)


@jax.jit  # a state is made outside of any compiled function, as a rule
def _norms(tree: Any) -> Array:
    """Those of all leaves in one array: to pass and to average many scalars costs more than to measure them."""
    return jnp.stack([_norm(x) for x in jax.tree.leaves(tree)] or [jnp.zeros(0, jnp.float32)]).reshape(-1)


@standard_promotion
def _after(state: MonitorState, trees: dict[str, Any]) -> MonitorState:
    """The state after one more update; `trees` are what was seen, by the mean that each goes into."""
    norms = {name: _norms(tree) for name, tree in trees.items()}
    count = increment(state.count)
    finite = ~jnp.isnan(functools.reduce(jnp.maximum, norms.values()))
    non_finite = state.non_finite + ~finite
    # Of the newest in the mean: (1 - decay) / (1 - decay^n) without its cancellation, and no more than all.
    rest = state.settings.decay - 1
    share = jnp.minimum(rest / jnp.expm1(jnp.maximum(count - non_finite, 1) * jnp.log1p(rest)), 1.0)
    means = {}
    for name, norm in norms.items():
        old = getattr(state, name)
        means[name] = jnp.where(finite, old + share * (norm - old), old)
    total = _norm(norms["gradient_norm"])
    first = jnp.where((state.first_norm == 0) & ~jnp.isnan(total), total, state.first_norm)
    return state._replace(count=count, non_finite=non_finite, first_norm=first, **means)
