"""Hypergradient descent: a learning rate that follows the gradient of the loss in the previous rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from .._errors import FieldTypeError
from ..fields import NonNegative, Positive
from ..optim.clip import LARGEST, global_norm
from ..optim.metrics import (
    at_least_float32,
    copy_arrays,
    increment,
    require_order,
    scale_updates,
    settings,
    single_schedule,
    standard_promotion,
)


class HypergradientSettings(NamedTuple):
    """The arguments of `hypergradient` in its state; `max_lr=None` is the largest float32."""

    hyper_lr: NonNegative
    min_lr: NonNegative
    max_lr: Positive


class _Start(NamedTuple):
    learning_rate: NonNegative


class HypergradientState(NamedTuple):
    """The state of `hypergradient`; all numbers but `count` are float32.

    Args:
      learning_rate: the rate of the last update, or the initial one.
      learned: the learned rate, or the learned factor of the schedule.
      hypergradient: `h` of the last update, or the cosine `c` of a multiplicative one.
      count: the number of updates, which is the step of the schedule; int32.
      base_learning_rate: the value of the schedule at the last update; None without a schedule.
      direction: the last update at the rate 1, with the structure and the dtypes of the parameters.
      settings: the arguments.
      inner_state: the state of the optimizer.
    """

    learning_rate: Array
    learned: Array
    hypergradient: Array
    count: Array
    base_learning_rate: Array | None
    direction: Any
    settings: HypergradientSettings
    inner_state: Any

    @property
    def hyperparams(self) -> dict[str, Array]:
        """The hyperparameters for `current_hyperparams`."""
        return {"learning_rate": self.learning_rate}

    def after(self, slope: Array, base: Array | None, multiplicative: bool) -> HypergradientState:
        """Returns the state after one more hypergradient, where the schedule has the value `base`."""
        s, before = self.settings, self.learned
        move = s.hyper_lr * slope
        new = before * (1 - move) if multiplicative else before - move
        # Clipping the learned factor avoids windup at a bound; a schedule that crosses the bound does not change it.
        unit = jnp.float32(1.0) if base is None else base
        low = jnp.where(s.min_lr > 0, s.min_lr / unit, 0.0)
        new = jnp.clip(new, jnp.minimum(before, low), jnp.maximum(before, s.max_lr / unit))
        learned = jnp.where(jnp.isfinite(move), new, before)
        return self._replace(learned=learned, hypergradient=slope).at(base)

    def at(self, base: Array | None) -> HypergradientState:
        """Returns the state with the rate where the schedule has the value `base`, which may be below `min_lr`."""
        low, rate = self.settings.min_lr, self.learned
        if base is not None:
            low, rate = jnp.minimum(low, base), rate * base
        return self._replace(learning_rate=jnp.clip(rate, low, self.settings.max_lr), base_learning_rate=base)


def hypergradient(
    learning_rate: Any,
    hyper_lr: Any,
    *,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    multiplicative: bool = False,
    min_lr: Any = 0.0,
    max_lr: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that adapts its rate by the gradient of the loss in the rate of the previous update.

    For the gradient `g_t` and the update `d_t` of the optimizer at the rate 1 (`d_t = -g_t` for SGD):
      `h_t = g_t . d_(t-1)`, with `d_0 = 0`;
      `a_t = a_(t-1) - hyper_lr h_t`, or, if multiplicative,
      `a_t = a_(t-1) (1 - hyper_lr c_t)` with the cosine `c_t = h_t / (|g_t| |d_(t-1)|)`, 0 where one of them is 0;
      the update is `a_t d_t`.
    With a schedule a factor f of it is learned, from 1: the rate is `f_t s(t)`, and `h_t = s(t-1) g_t . d_(t-1)`.

    A product that is not finite leaves the rate unchanged; use `guard_spikes` around it against updates with NaN. In
    `by_path` each group learns its own rate; `optax.MultiSteps` goes around it.

    Args:
      learning_rate: the initial rate, 0 or more; or a schedule or another function of the step, to learn a factor.
      hyper_lr: the rate of the learning, 0 or more, in `rate^2 / loss` (`1 / loss` with a schedule): search by powers
        of ten. If multiplicative, the largest relative change of one update, such as 0.02.
      optimizer: a function from the rate to an optimizer whose update is proportional to the rate, such as `optax.adam`
        or `lambda rate: optax.adamw(rate, weight_decay=0.1)`. It is called with the rate 1.
      multiplicative: whether to learn relative changes, independent of the scale of the loss. A rate of 0 stays 0.
      min_lr: the lower bound of the rate, unless the schedule is lower, 0 or more.
      max_lr: the upper bound of the rate; None: no bound.

    Returns:
      An Optax transformation with a `HypergradientState`. All numbers may be traced, for `jax.vmap` over them: make the
      optimizer in the mapped function.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.predict import hypergradient
      >>> optimizer, params = hypergradient(0.01, 0.02), jnp.array([1.0, 1.0])
      >>> state = optimizer.init(params)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jnp.array([1.0, 0.1]) * params, state)  # of (x^2 + y^2 / 10) / 2
      ...     params = optax.apply_updates(params, updates)
      >>> print(f"{js.current_hyperparams(state)['learning_rate']:.3f}, {jnp.linalg.norm(params):.3f}")
      0.151, 0.239

    References:
      Baydin et al., "Online learning rate adaptation with hypergradient descent", 2018, arXiv 1703.04782: SGD-HD,
      SGDN-HD and Adam-HD; without the bounds and the schedules.
    """
    unit = _at_unit_rate(optimizer)
    if not isinstance(multiplicative, bool):
        raise FieldTypeError("hypergradient", "multiplicative", multiplicative, "multiplicative must be True or False")
    arguments = settings(
        "hypergradient",
        HypergradientSettings,
        hyper_lr=hyper_lr,
        min_lr=min_lr,
        max_lr=LARGEST if max_lr is None else max_lr,
    )
    low, high = ("min_lr", arguments.min_lr), ("max_lr", arguments.max_lr)
    require_order("hypergradient", *low, *high)
    schedule, first = None, jnp.ones((), jnp.float32)
    if callable(learning_rate):
        schedule = single_schedule("hypergradient", "learning_rate", learning_rate)
    else:
        first = jnp.asarray(settings("hypergradient", _Start, learning_rate=learning_rate).learning_rate)
        require_order("hypergradient", *low, "learning_rate", first)
        require_order("hypergradient", "learning_rate", first, *high)

    def base(count: Any) -> Array | None:
        return None if schedule is None else schedule(count).astype(jnp.float32)

    def init(params: Any) -> Any:
        zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
        state = copy_arrays(HypergradientState(zero, first, zero, none, None, None, arguments, None).at(base(none)))
        return state._replace(direction=jax.tree.map(jnp.zeros_like, params), inner_state=unit.init(params))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        slope, unit_before = _slope(updates, state.direction, multiplicative), state.base_learning_rate
        if unit_before is not None:  # a cosine has no unit; the derivative at a rate of 0 is 0
            slope = slope * (unit_before > 0 if multiplicative else unit_before)
        state = state._replace(settings=copy_arrays(arguments)).after(slope, base(state.count), multiplicative)
        direction, inner_state = unit.update(updates, state.inner_state, params, **extra)
        kept = jax.tree.map(lambda new, old: new.astype(old.dtype), direction, state.direction)
        after = state._replace(count=increment(state.count), direction=kept, inner_state=inner_state)
        return scale_updates(direction, state.learning_rate), after

    return optax.GradientTransformationExtraArgs(init, update)


def _at_unit_rate(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    instead = "write a function of the rate, such as optimizer=optax.adam"
    if isinstance(optimizer, optax.GradientTransformation):
        instead += '; in optax.inject_hyperparams add static_args=("optimizer", "multiplicative")'
        note = " is an optimizer, which has its rate already"
        raise FieldTypeError("hypergradient", "optimizer", optimizer, instead, note=note)
    field, made = ("optimizer(1.0)", optimizer(1.0)) if callable(optimizer) else ("optimizer", optimizer)
    if not isinstance(made, optax.GradientTransformation):
        raise FieldTypeError("hypergradient", field, made, instead, note=" is not an optimizer")
    return optax.with_extra_args_support(made)


def _slope(gradient: Any, direction: Any, cosine: bool) -> Array:
    """The product of a gradient and a direction; or the cosine between them, 0 where one of them is 0."""

    def wide(tree: Any) -> Any:
        tree = jax.tree.map(lambda x: x.astype(at_least_float32(x.dtype)), tree)
        if not cosine:
            return tree
        norm = global_norm(tree)  # each is divided by its norm first: a product of small numbers underflows
        share = jnp.where(norm == 0, 0.0, 1 / jnp.where(norm == 0, 1.0, norm))
        return jax.tree.map(lambda x: x * share.astype(x.dtype), tree)

    product = optax.tree_utils.tree_vdot(wide(gradient), wide(direction))
    return jnp.real(product).astype(jnp.float32)
