"""Metric-driven transformations: their arguments as arrays, the metric, and the scaling of updates.

A *listener* is an Optax transformation whose state has a method `observe(value)`, which returns the state after one
more metric. The state contains the arguments too, as arrays: a metric can reach it wherever it is nested, without the
transformation, and a checkpoint is complete. Each update overwrites them with the arguments of its transformation, so
that a training can be resumed with other arguments.
"""

from __future__ import annotations

import functools
import keyword
import operator
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import FieldError, FieldTypeError, is_traced, nearest_name
from ..fields import Domain, reject_if, validate
from ..schedules.base import Constant, Schedule, as_schedule
from ..schedules.structure import axes
from .states import LABELS, Path, children, walk

Settings = TypeVar("Settings")
State = TypeVar("State")
Function = TypeVar("Function", bound=Callable[..., Any])

# Defaults of the fields of states, which are copied to arrays before they are used.
ZERO: Any = np.float32(0)
ONE: Any = np.float32(1)
COUNT: Any = np.int32(0)
INFINITY: Any = np.float32(np.inf)
UNSET: Any = None
LARGEST = float(np.finfo(np.float32).max)  # a bound without effect: finite, so that no arithmetic with it is NaN


# --- arguments -------------------------------------------------------------------------------------------------------


def settings_class(name: str, function: Callable[..., Any]) -> Any:
    """The NamedTuple of those arguments of `function` that its state stores: numbers, choices and flags."""
    fields = []
    for field, hint in typing.get_type_hints(function, include_extras=True).items():
        hint = next((arm for arm in typing.get_args(hint) if hasattr(arm, "__metadata__")), hint)  # of an optional one
        is_number = any(isinstance(item, Domain) for item in getattr(hint, "__metadata__", ()))
        if is_number or hint is bool or typing.get_origin(hint) is Literal:
            fields.append((field, hint))
    cls = NamedTuple(name, fields)  # type: ignore[misc]
    cls.__module__, cls.__doc__ = function.__module__, f"The arguments of `{function.__name__}`, in its state."
    return cls


def settings(owner: str, kind: Callable[..., Settings], /, **values: Any) -> Settings:
    """The fields of the NamedTuple `kind`, out of `values`, as scalar arrays.

    Each is validated by its annotation: a `Domain`, a `Literal` of strings or bool. Counts, flags and the index of a
    string are int32, everything else is float32, whatever dtype the parameters have. Other names in `values` are
    ignored: callers pass `locals()`.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    return kind(**{name: _setting(owner, name, values[name], hint) for name, hint in hints.items()})


def _setting(owner: str, name: str, value: Any, hint: Any) -> Array:
    if hint is bool:
        if getattr(value, "dtype", type(value)) not in (bool, np.bool_) or np.ndim(value):
            raise FieldTypeError(owner, name, value, f"{name} must be True or False")
        return jnp.asarray(value, jnp.int32)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if not isinstance(value, str) or value not in choices:
            raise FieldError(owner, name, value, nearest_name(str(value), choices))
        return jnp.asarray(choices.index(value), jnp.int32)
    (domain,) = hint.__metadata__
    if np.ndim(validate(owner, name, value, domain)):
        raise domain.error(owner, name, value, hint=", and one: jax.vmap runs over several")
    if is_traced(value):
        return value.astype(jnp.int32 if domain.counts else jnp.float32)
    wide = np.asarray(value, np.float64)
    if domain.counts:
        if abs(wide) > np.iinfo(np.int32).max:
            raise domain.error(owner, name, value, hint=", of at most 2**31 - 1")
        return jnp.asarray(int(wide), jnp.int32)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    if not (np.isfinite(narrow) and domain.contains(narrow)):
        raise domain.error(owner, name, value, note=f" is {narrow} as a float32")
    return jnp.asarray(narrow)


def require_order(owner: str, low: str, a: Any, high: str, b: Any) -> None:
    """Raises FieldError if the argument `low` is above the argument `high`; traced arguments pass."""
    if not (is_traced(a) or is_traced(b)) and a > b:
        raise FieldError(owner, (low, high), (a, b), f"write {low} <= {high}")


def buffer_length(owner: str, name: str, value: Any) -> int:
    """An argument that is the length of an array in the state, and so a Python integer."""
    instead = f"{name} must be a Python integer, 1 or more: it is the length of an array in the state"
    try:
        length = operator.index(value)
    except TypeError:
        raise FieldTypeError(owner, name, value, instead) from None
    if isinstance(value, (bool, np.bool_)):
        raise FieldTypeError(owner, name, value, instead)
    if length < 1:
        raise FieldError(owner, name, value, instead)
    return length


def require_transformation(owner: str, inner: Any) -> optax.GradientTransformationExtraArgs:
    """The wrapped transformation; it accepts extra arguments."""
    if not isinstance(inner, optax.GradientTransformation):
        instead = "write an optimizer, such as optax.adam(1e-3)"
        raise FieldTypeError(owner, "inner", inner, instead, note=" is not a GradientTransformation")
    return optax.with_extra_args_support(inner)


def single_schedule(owner: str, name: str, value: Any) -> Schedule:
    """A schedule, a callable or a number as one schedule; stacked settings are refused."""
    schedule = as_schedule(owner, name, value)
    if axes(schedule) - {0}:
        instead = "make the optimizer inside of the function that jax.vmap maps over them"
        raise FieldError(owner, name, value, instead, note=" is several settings in one")
    return schedule


def as_metric(owner: str, value: Any) -> Array:
    """One metric as a float32 scalar."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = float(value)  # of any size
    try:
        array = None if value is None else jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or (not jnp.issubdtype(array.dtype, np.floating) and not jnp.issubdtype(array.dtype, np.integer)):
        raise FieldTypeError(owner, "value", value, "a metric is a real number: write value=val_loss")
    if array.shape:
        instead = "a metric is one number: write value=jnp.mean(losses), or run over several states with jax.vmap"
        raise FieldError(owner, "value", value, instead, note=f" has the shape {array.shape}")
    return array.astype(jnp.float32)


# --- states ----------------------------------------------------------------------------------------------------------


def standard_promotion(function: Function) -> Function:
    """Runs `function` under standard dtype promotion: in a state only float32, int32 and flags meet."""

    @functools.wraps(function)
    def under_standard(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return typing.cast(Function, under_standard)


def copy_arrays(state: State) -> State:
    """A copy with a buffer for each array, because a state is donated to the step that returns the next one."""
    return jax.tree.map(jnp.array, state)


def increment(count: Array) -> Array:
    """`count + 1`; the largest integer stays."""
    return jnp.where(count < jnp.iinfo(count.dtype).max, count + 1, count)


def at_least_float32(dtype: Any) -> Any:
    """float32 for narrower dtypes; others, complex ones too, unchanged. (8-bit floats do not promote.)"""
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype


def scale_updates(updates: Any, rate: Array) -> Any:
    """`rate * updates`, computed in float32 or better and rounded once to the dtype of each leaf."""

    def scale(u: Array) -> Array:
        dtype = at_least_float32(u.dtype)
        return (u.astype(dtype) * rate.astype(dtype)).astype(u.dtype)

    return jax.tree.map(standard_promotion(scale), updates)


# --- listeners -------------------------------------------------------------------------------------------------------


def base_rate(state: Any) -> Array:
    """The schedule's value, and 1 without a schedule."""
    return jnp.float32(1.0) if state.base_learning_rate is None else state.base_learning_rate


def rate_by_name(state: Any) -> dict[str, Array]:
    """The hyperparameters of a listener, for `current_hyperparams`."""
    return {"scale" if state.base_learning_rate is None else "learning_rate": state.learning_rate}


def metric_driven(owner: str, learning_rate: Any, start: Any) -> optax.GradientTransformationExtraArgs:
    """The transformation of a listener's state: observe `value` if there is one, then scale by the current rate.

    With a `learning_rate` (a schedule, a callable or a number) the updates are scaled by `-rate`, as
    `optax.scale_by_learning_rate` does; with None by the listener's own factor, and they keep their sign. The state is
    a NamedTuple of arrays with the fields `learning_rate` (the current rate), `base_learning_rate` (the schedule's
    value or None), `count` (of updates) and `settings`, and the methods `current_rate()`, which computes the rate from
    the others, and `observe(value)`.
    """
    schedule = None if learning_rate is None else single_schedule(owner, "learning_rate", learning_rate)
    if isinstance(schedule, Constant):
        instead = f"{owner} negates the updates itself: write a rate of 0 or more"
        reject_if(schedule, lambda x: x < 0, "constant_value", instead=instead)
    start = copy_arrays(start)

    def at_count(state: Any) -> Any:
        """The state with the current rate, under the arguments of this transformation."""
        base = None if schedule is None else schedule(state.count).astype(jnp.float32)
        state = state._replace(settings=copy_arrays(start.settings), base_learning_rate=base)
        return state._replace(learning_rate=state.current_rate())

    def init(params: Any) -> Any:
        del params  # a metric is about all of them
        return copy_arrays(at_count(start))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params, extra
        state = at_count(state)
        if value is not None:
            state = state.observe(as_metric(owner, value))
        rate = state.learning_rate if schedule is None else -state.learning_rate
        return scale_updates(updates, rate), state._replace(count=increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


class NamedState(NamedTuple):
    """The state of `named`: the inner state under its name."""

    inner_state: dict[str, Any]


def named(name: str, inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Give `inner` a metric of its own: `update(..., name=metric)` instead of `value=`.

    For two listeners in one optimizer that observe different metrics, such as a training loss and a validation loss.
    `inner` does not receive `value=` on an update, nor `observe` without a name; `observe(..., name=name)` reaches it.

    Args:
      name: the keyword of the metric on `update`: any identifier except `value`, `params`, `state` and `updates`. Optax
        accepts every keyword, so a misspelt one on an update has no effect; in `observe` it is an error.
      inner: the transformation.

    Returns:
      The transformation; its state is that of `inner` under its name.

    Raises:
      ValueError: if the name cannot be a keyword.
      TypeError: if `inner` is not a transformation.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(
      ...     js.optim.named("train", js.adaptive_warmup(0.1, warmup_steps=100)),
      ...     js.optim.named("valid", js.reduce_on_plateau(patience=3)),
      ... )
      >>> params = jnp.zeros(2)
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(params, state, params, train=0.7)
      >>> state = js.observe(state, value=0.9, name="valid")

    References:
      Keras's callbacks name their metric in the same way (`monitor=`).
    """
    is_identifier = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    if not is_identifier or name in ("value", "params", "state", "updates"):
        raise FieldError("named", "name", name, "write a keyword for a metric, one word such as 'valid_loss'")
    inner = require_transformation("named", inner)

    def init(params: Any) -> Any:
        return NamedState({name: inner.init(params)})

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        extra = {"value" if key == name else key: value for key, value in extra.items() if key != "value"}
        updates, inner_state = inner.update(updates, state.inner_state[name], params, **extra)
        return updates, NamedState({name: inner_state})

    return optax.GradientTransformationExtraArgs(init, update)


def is_listener(node: Any) -> bool:
    return isinstance(node, tuple) and callable(getattr(node, "observe", None))


def listener_names(opt_state: Any) -> set[str]:
    """The names that `named` gave to listeners in a state."""
    return {name for _, node in walk(opt_state) if isinstance(node, NamedState) for name in node.inner_state}


def observe(opt_state: State, *, value: Any, name: str | None = None) -> State:
    """Return the optimizer state after its listeners observed a metric, outside of any update.

    All listeners without a name of their own (`named`) observe it, wherever they are nested (chain, partition,
    MultiSteps, masked, a Flax TrainState); the rest of the state is unchanged. It runs eagerly, under `jit` and under
    `vmap`. The arguments stored by the last update apply.

    Args:
      opt_state: any optimizer state that contains a listener: `reduce_on_plateau`, `greedy`, `adaptive_warmup`.
      value: the metric, one real number.
      name: notify only the listener of this name: a group of `by_path` or `optax.partition`, a name given by `named`,
        or a place in a chain ("0"). None notifies all listeners without a name of their own.

    Returns:
      The new optimizer state.

    Raises:
      ValueError: if there is no listener, if no or several listeners have the name, or if the metric is not a scalar.
      TypeError: if the metric is not a number.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(optax.scale_by_adam(), js.reduce_on_plateau(0.1, patience=1))
      >>> state = optimizer.init(jnp.zeros(3))
      >>> for val_loss in [1.0, 1.0, 1.0]:                        # the end of each epoch
      ...     state = js.observe(state, value=val_loss)
      >>> print(f"{js.current_hyperparams(state)['learning_rate']:.3f}")
      0.010

    References:
      `scheduler.step(val_loss)` of torch.
    """
    if name is not None and not isinstance(name, str):
        instead = "write the name of a listener, or leave it out to notify all"
        raise FieldTypeError("observe", "name", name, instead)
    metric = as_metric("observe", value)
    paths = [path for path, node in walk(opt_state) if is_listener(node)]
    if not paths:
        instead = "put one into the optimizer: optax.chain(optax.adam(1e-3), jaxsched.reduce_on_plateau())"
        raise FieldError("observe", "opt_state", type(opt_state), instead, note=" contains no listener")
    notified = _unnamed(opt_state, paths) if name is None else [_find(name, paths)]

    def visit(node: Any, path: Path) -> Any:
        if path in notified:
            return _observed(node, metric)
        if not any(one[: len(path)] == path for one in notified):
            return node
        parts, build = children(node)
        return build([visit(child, (*path, *keys)) for keys, child in parts])

    return visit(opt_state, ())


@standard_promotion
def _observed(state: Any, metric: Array) -> Any:
    """The listener's state after the metric; its arrays may be boxed, as in Flax NNX, and stay so."""
    leaves, structure = jax.tree.flatten(state)
    plain = jax.tree.unflatten(jax.tree.structure(_without_boxes(state)), leaves)
    return structure.unflatten(jax.tree.leaves(plain.observe(metric)))


def _without_boxes(node: Any) -> Any:
    """The NamedTuples of a state, with 0 for each array or boxed array."""
    if node is None:
        return None
    return type(node)(*map(_without_boxes, node)) if isinstance(node, tuple) else 0


def _unnamed(opt_state: Any, paths: list[Path]) -> list[Path]:
    """The listeners that `named` did not name."""
    outer = [path for path, node in walk(opt_state) if isinstance(node, NamedState)]
    unnamed = [path for path in paths if not any(path[: len(around)] == around for around in outer)]
    if not unnamed:
        names = ", ".join(repr(LABELS[0](path)) for path in paths)
        raise FieldError("observe", "name", None, f"write one of: {names}", note=", and every listener has a name")
    return unnamed


def _find(name: str, paths: list[Path]) -> Path:
    for label in LABELS:
        found = [path for path in paths if label(path) == name]
        if len(found) > 1:
            names = ", ".join(repr(LABELS[1](path) or LABELS[2](path)) for path in found)
            note = f" is the name of {len(found)} listeners"
            raise FieldError("observe", "name", name, f"write one of: {names}", note=note)
        if found:
            return found[0]
    names = {LABELS[0](path) or LABELS[1](path) or LABELS[2](path) for path in paths} - {""}
    instead = nearest_name(name, sorted(names)) if names else "the only listener here has no name: leave name out"
    raise FieldError("observe", "name", name, instead)
