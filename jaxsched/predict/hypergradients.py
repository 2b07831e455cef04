"""A rate that goes downhill while it trains, by the gradient of the loss in the rate of the update before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from .._errors import format_value, is_traced
from ..fields import NonNegative, Positive
from ..optim.clip import LARGEST, global_norm
from ..optim.metrics import (
    at_least_float32,
    copy_arrays,
    increment,
    scale_updates,
    settings,
    single_schedule,
    standard_promotion,
)
from ..schedules.base import Schedule


class HypergradientSettings(NamedTuple):
    """The arguments of `hypergradient`, as they stand in its state; without a `max_lr` it is the largest float32."""

    hyper_lr: NonNegative
    min_lr: NonNegative
    max_lr: Positive


class _Start(NamedTuple):
    learning_rate: NonNegative


class HypergradientState(NamedTuple):
    """What `hypergradient` knows.

    Fields:
      learning_rate: the rate that the last update was made with; before the first, the one to begin with; float32.
      learned: what is learned: the rate, or the factor on the schedule; float32.
      hypergradient: `h` of the last update, or the cosine `c` of a multiplicative one; float32.
      count: the updates so far, which is the clock of the schedule; int32.
      base_learning_rate: the schedule's own value at the last update; None where there is no schedule; float32.
      direction: the last update at the rate 1, in the form and the dtypes of the parameters.
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
        """What `current_hyperparams` shows."""
        return {"learning_rate": self.learning_rate}

    def after(self, slope: Array, base: Array | None, multiplicative: bool) -> HypergradientState:
        """After one more hypergradient, at a step at which the schedule has the value `base`."""
        s, before = self.settings, self.learned
        move = s.hyper_lr * slope
        new = before * (1 - move) if multiplicative else before - move
        # What would carry the rate over a bound is cut off, so that nothing is wound up there; a schedule that crosses
        # the bound by itself changes nothing of what was learned.
        unit = jnp.float32(1.0) if base is None else base
        low = jnp.where(s.min_lr > 0, s.min_lr / unit, 0.0)
        new = jnp.clip(new, jnp.minimum(before, low), jnp.maximum(before, s.max_lr / unit))
        learned = jnp.where(jnp.isfinite(move), new, before)
        return self._replace(learned=learned, hypergradient=slope).at(base)

    def at(self, base: Array | None) -> HypergradientState:
        """With the rate of a step at which the schedule has the value `base`: no lower than `min_lr`, unless the
        schedule itself is."""
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
    """An optimizer whose rate goes downhill too: by the gradient of the loss in the rate of the update before.

    It costs one product of two gradients, and the memory of one update.

    Formula, for the gradient `g_t` and the update `d_t` of the optimizer at the rate 1 (`d_t = -g_t` for SGD):
      `h_t = g_t . d_(t-1)`, with `d_0 = 0`;
      `a_t = a_(t-1) - hyper_lr h_t`, or, if multiplicative,
      `a_t = a_(t-1) (1 - hyper_lr c_t)` with the cosine `c_t = h_t / (|g_t| |d_(t-1)|)`, 0 where one of them is 0;
      the update is `a_t d_t`.
    With a schedule a factor on it is learned, from 1, by the same formulas: the rate is `f_t s(t)`, the update
    `f_t s(t) d_t`, and `h_t = s(t-1) g_t . d_(t-1)`.

    Fields:
      learning_rate: the rate to begin with, 0 or more, which is learned; or a schedule or a callable, on which a factor
        is learned (a `Constant` too).
      hyper_lr: how fast it learns, 0 or more. Without `multiplicative` it has the unit of `rate^2 / loss`, or of
        `1 / loss` with a schedule, and must be found by powers of ten; with it, it is the largest relative change of
        one update, such as 0.02.
      optimizer: a function of the rate that makes the optimizer: `optax.sgd`, `optax.adam`,
        `functools.partial(optax.sgd, momentum=0.9, nesterov=True)`, or one of your own such as
        `lambda rate: optax.adamw(rate, weight_decay=0.1)`. Its update must be proportional to the rate, and is made at
        the rate 1. A rate that it shows itself (`inject_hyperparams`) hides this one from `current_hyperparams`.
      multiplicative: learn by shares of the rate, whatever the scale of the loss. A rate of 0 stays 0.
      min_lr: below which the rate does not go, unless the schedule itself does, 0 or more.
      max_lr: above which the rate does not go; None: there is no bound.

    All numbers may be traced arrays, so that `jax.vmap` runs over them: make the optimizer inside of the mapped
    function. The state is a `HypergradientState`: float32 and int32, products are summed in float32 or better, and each
    update is rounded once to its type. A product that is not finite, of a gradient with NaN, leaves the rate as it is:
    for that update, and for the next if the update itself was not finite; put `guard_spikes` around for those. Within
    `by_path` each group learns a rate of its own; `optax.MultiSteps` goes around it.

    Errors: ValueError and TypeError that name the field and show the value.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.predict import hypergradient
      >>> def train(optimizer, steps=100):
      ...     params = jnp.array([1.0, 1.0])
      ...     state, update = optimizer.init(params), jax.jit(optimizer.update)
      ...     for _ in range(steps):
      ...         gradient = jnp.array([1.0, 0.1]) * params          # of (x^2 + y^2 / 10) / 2
      ...         updates, state = update(gradient, state)
      ...         params = optax.apply_updates(params, updates)
      ...     return params, state
      >>> slow, _ = train(optax.sgd(0.01))
      >>> fast, state = train(hypergradient(0.01, 0.02))
      >>> [f"{jnp.linalg.norm(x):.3f}" for x in (slow, fast)]
      ['0.976', '0.239']
      >>> print(f"{js.current_hyperparams(state)['learning_rate']:.3f}")
      0.151

    Source: Baydin et al., "Online learning rate adaptation with hypergradient descent", 2018, arXiv 1703.04782: SGD-HD,
    SGDN-HD and Adam-HD. The bounds and the schedules are our own.
    """
    unit = _at_unit_rate(optimizer)
    if not isinstance(multiplicative, bool):
        raise TypeError(
            f"hypergradient: multiplicative={format_value(multiplicative)}; multiplicative must be True or False."
        )
    arguments = settings(
        "hypergradient",
        HypergradientSettings,
        hyper_lr=hyper_lr,
        min_lr=min_lr,
        max_lr=LARGEST if max_lr is None else max_lr,
    )
    schedule, first = _start(learning_rate, arguments)

    def base(count: Any) -> Array | None:
        return None if schedule is None else schedule(count).astype(jnp.float32)

    def init(params: Any) -> Any:
        zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
        state = copy_arrays(HypergradientState(zero, first, zero, none, None, None, arguments, None).at(base(none)))
        return state._replace(direction=jax.tree.map(jnp.zeros_like, params), inner_state=unit.init(params))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        slope, unit_before = _slope(updates, state.direction, multiplicative), state.base_learning_rate
        if unit_before is not None:  # a cosine has no unit, but the derivative of no update at all is 0
            slope = slope * (unit_before > 0 if multiplicative else unit_before)
        state = state._replace(settings=copy_arrays(arguments)).after(slope, base(state.count), multiplicative)
        direction, inner_state = unit.update(updates, state.inner_state, params, **extra)
        kept = jax.tree.map(lambda new, old: new.astype(old.dtype), direction, state.direction)
        after = state._replace(count=increment(state.count), direction=kept, inner_state=inner_state)
        return scale_updates(direction, state.learning_rate), after

    return optax.GradientTransformationExtraArgs(init, update)


def _at_unit_rate(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    hint = "write a function of the rate, such as optimizer=optax.adam"
    if isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"hypergradient: optimizer is a {type(optimizer).__name__}, which has its rate already; {hint}. "
            "(optax.inject_hyperparams calls every function that it is not told of: write "
            'jaxsched.inject_hyperparams, or static_args=("optimizer", "multiplicative").)'
        )
    made = optimizer(1.0) if callable(optimizer) else optimizer
    if not isinstance(made, optax.GradientTransformation):
        what = (
            f"optimizer(1.0) returned {format_value(made)}"
            if callable(optimizer)
            else f"optimizer={format_value(optimizer)}"
        )
        raise TypeError(f"hypergradient: {what}, which is no optimizer; {hint}.")
    return optax.with_extra_args_support(made)


def _start(learning_rate: Any, arguments: HypergradientSettings) -> tuple[Schedule | None, Array]:
    """The schedule, if there is one, and the rate or the factor to begin with."""
    low, high = arguments.min_lr, arguments.max_lr
    if not (is_traced(low) or is_traced(high)) and low > high:
        raise ValueError(f"hypergradient: min_lr={low:g} and max_lr={high:g}; min_lr must be at most max_lr.")
    if isinstance(learning_rate, Schedule) or callable(learning_rate):
        return single_schedule("hypergradient", "learning_rate", learning_rate), jnp.ones((), jnp.float32)
    (first,) = settings("hypergradient", _Start, learning_rate=learning_rate)
    if not any(map(is_traced, (low, first, high))) and not low <= first <= high:
        raise ValueError(
            f"hypergradient: learning_rate={first:g}, min_lr={low:g} and max_lr={high:g}; begin within the bounds."
        )
    return None, jnp.asarray(first)


def _slope(gradient: Any, direction: Any, cosine: bool) -> Array:
    """The product of a gradient and a direction; or the cosine between them, 0 where one of them is 0."""
    units = (jnp.float32(1.0), jnp.float32(1.0))
    if cosine:  # each is divided by its norm before they meet: a product of small numbers would be 0
        norms = (global_norm(gradient), global_norm(direction))
        units = tuple(jnp.where(norm == 0, 0.0, 1 / jnp.where(norm == 0, 1.0, norm)) for norm in norms)

    def product(g: Array, d: Array) -> Array:
        wide = jnp.promote_types(at_least_float32(g.dtype), at_least_float32(d.dtype))
        g, d = (x.astype(wide) * unit.astype(wide) for x, unit in zip((g, d), units, strict=True))
        return jnp.sum(jnp.real(jnp.conj(g) * d))

    products = jax.tree.leaves(jax.tree.map(product, gradient, direction))
    return sum(products, jnp.zeros((), jnp.float32)).astype(jnp.float32)
