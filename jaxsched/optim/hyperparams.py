"""The hyperparameters of an optimizer as data: in its state, each a number or a schedule."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import FieldError, FieldTypeError, UnknownArgumentError, is_traced, nearest_name
from ..fields import Domain, validate
from ..schedules.base import Constant, Schedule, as_schedule
from .metrics import copy_arrays, increment, single_schedule, standard_promotion

HYPERPARAM = Domain("a schedule, a callable or a finite number")
DECAY = Domain("a finite number, 0 or more", lambda x: x >= 0)
PEAK = Domain("a finite number above 0", lambda x: x > 0)
DecayKind = Literal["coupled", "independent", "adamc"]


class InjectState(NamedTuple):
    """The state of `inject_hyperparams`: all of the optimizer except its code."""

    count: Array  # updates so far, the step of the schedules; int32
    hyperparams: dict[str, Any]  # the numbers of the last update; those without a schedule can be edited
    schedules: dict[str, Schedule]  # of the next update; edit one with `replace`, or assign another
    hyperparams_states: dict[str, Any]  # of Optax's stateful schedules
    inner_state: Any  # of the transformation that the factory returns


class _Arguments(NamedTuple):
    """The arguments of a factory by how they are used."""

    constants: dict[str, Any]  # passed to the factory as they are
    numbers: dict[str, Any]
    schedules: dict[str, Schedule]
    stateful: dict[str, Any]


def inject_hyperparams(
    inner_factory: Callable[..., Any], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Return the factory with its hyperparameters and schedules in the optimizer state.

    It is called like `optax.inject_hyperparams`. A new setting is a new state and not a new program: one compiled
    update accepts the states of all settings, `jax.vmap` runs over a stack of them, and a setting can be read and
    edited during training.

    The update at each count is that of `inner_factory(learning_rate=s(count), b1=0.9, ...)`, for the schedules and
    numbers in the state. Updates and the inner state keep the dtypes that they would have without schedules.

    The state has precedence: after a restart, all numbers and schedules come from the checkpoint, and only the names of
    the arguments and the constants come from the code. `current_hyperparams` shows an edit after the next update.
    Assigning a Python number to the state costs one more compilation, because JAX gives it a weak type;
    `jnp.float32(0.1)` does not.

    Args:
      inner_factory: a function that returns a `GradientTransformation`: `optax.adamw`, a partial, one of your own.
      static_args: the name or names of arguments that are passed to the factory as they are, callables included.
      hyperparam_dtype: the dtype of the floating-point hyperparameters; None is float32, whatever the parameters' is.

    Returns:
      A function with the arguments of `inner_factory` that returns the transformation; its state is an `InjectState`.
      Hyperparameters are schedules, floats, and floats that are defaults of omitted arguments (`b1`, `eps`, ...). A
      callable is a schedule if the argument accepts a float and is passed on otherwise (a mask). An integer becomes a
      float if the argument is a float, and stays an integer otherwise. Random keys stay keys. Booleans, strings, None
      and integers whose default is an integer are passed on as they are.

    Raises:
      TypeError: if an argument is unknown, missing, or not a number where the factory requires one.
      ValueError: if a number is not finite or not a scalar, or if a static argument does not exist.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> adamw = js.inject_hyperparams(optax.adamw)
      >>> optimizer = adamw(learning_rate=js.Linear(0.1, 0.0, 10), b1=js.Linear(0.95, 0.85, 10))
      >>> params = jnp.ones(3)
      >>> state = optimizer.init(params)
      >>> for step in range(2):
      ...     updates, state = optimizer.update(params, state, params)
      >>> print({name: round(float(x), 4) for name, x in js.current_hyperparams(state).items() if name != "eps_root"})
      {'b1': 0.94, 'b2': 0.999, 'eps': 0.0, 'learning_rate': 0.09, 'weight_decay': 0.0001}
      >>> state.hyperparams["weight_decay"] = jnp.float32(0.0)                           # edit a number
      >>> state.schedules["learning_rate"] = js.WarmupCosine(0.1, 100, 1_000)            # replace a schedule

    References:
      `optax.inject_hyperparams`, which keeps the schedules in the program instead of the state.
    """
    if not callable(inner_factory):
        instead = "write inject_hyperparams(optax.adam)(learning_rate=schedule)"
        note = " is already a transformation" if isinstance(inner_factory, optax.GradientTransformation) else ""
        raise FieldTypeError("inject_hyperparams", "inner_factory", inner_factory, instead, note=note)
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    parameters = _parameters(inner_factory)
    has_kwargs = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in () if has_kwargs else sorted(static - set(parameters)):
        raise FieldError("inject_hyperparams", "static_args", name, nearest_name(name, parameters))
    dtype = jnp.float32 if hyperparam_dtype is None else jnp.dtype(hyperparam_dtype)

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        owner = f"inject_hyperparams: {getattr(inner_factory, '__qualname__', 'the factory')}"
        arguments = _bind(owner, parameters, args, kwargs)
        return _injected(inner_factory, _sorted(arguments, parameters, static), dtype)

    return factory


def _injected(
    inner_factory: Callable[..., Any], arguments: _Arguments, dtype: Any
) -> optax.GradientTransformationExtraArgs:
    constants, numbers, schedules, stateful = arguments
    names = numbers | schedules | stateful
    integers = {name for name, value in numbers.items() if not _is(np.floating, value)}

    def inner(values: dict[str, Any]) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(inner_factory(**constants, **values))

    def evaluate(state: InjectState, **extra: Any) -> dict[str, Any]:
        """The hyperparameters at the current count."""
        values = dict(state.hyperparams)
        for name, schedule in state.schedules.items():
            values[name] = as_schedule("inject_hyperparams", name, schedule)(state.count)
        for name, f in stateful.items():
            values[name] = f(state.hyperparams_states[name], **extra)
        return {name: jnp.asarray(x, None if name in integers else dtype) for name, x in values.items()}

    @standard_promotion
    def init(params: Any) -> Any:
        _register_with_flax(schedules)
        leaf = functools.partial(_as_leaf, dtype=jnp.promote_types(dtype, jnp.float32))
        hyperparams = {name: _as_leaf(x, dtype) for name, x in numbers.items()}
        states = {name: f.init() for name, f in stateful.items()}
        state = InjectState(jnp.zeros((), jnp.int32), hyperparams, jax.tree.map(leaf, schedules), states, None)
        state = copy_arrays(state._replace(hyperparams=evaluate(state)))
        return state._replace(inner_state=inner(state.hyperparams).init(params))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        for name in state.schedules | state.hyperparams:
            if name not in names:
                raise UnknownArgumentError("inject_hyperparams: the optimizer", name, None, nearest_name(name, names))
        values = evaluate(state, **extra)
        new, inner_state = inner(values).update(updates, state.inner_state, params, **extra)
        # A float32 hyperparameter promotes a bfloat16 moment to float32: it is rounded back once, here.
        states = {name: f.update(state.hyperparams_states[name], **extra) for name, f in stateful.items()}
        inner_state = _cast_like(inner_state, state.inner_state)
        after = InjectState(increment(state.count), values, dict(state.schedules), states, inner_state)
        return _cast_like(new, updates), after

    return optax.GradientTransformationExtraArgs(init, update)


def _register_with_flax(schedules: dict[str, Schedule]) -> None:
    """Flax's msgpack format saves dicts and arrays: once Flax is imported, a schedule is a dict of its leaves to it."""
    if (flax := sys.modules.get("flax.serialization")) is not None:
        for kind in {type(schedule) for schedule in schedules.values()}:
            flax.register_serialization_state(kind, _to_dict, _from_dict, override=True)


def _to_dict(schedule: Schedule) -> dict[str, Any]:
    return {str(i): x for i, x in enumerate(jax.tree.leaves(schedule))}


def _from_dict(schedule: Schedule, leaves: dict[str, Any]) -> Schedule:
    return jax.tree.unflatten(jax.tree.structure(schedule), [leaves[str(i)] for i in range(len(leaves))])


def _as_leaf(x: Any, dtype: Any) -> Array:
    """A number as the state stores it: floats as `dtype`, integers as int32 if they are known to fit."""
    if _is(np.floating, x):
        return jnp.asarray(x, dtype)
    if not _is(np.signedinteger, x):
        return jnp.asarray(x)  # a random key
    fits = not is_traced(x) and np.all(np.abs(np.asarray(x, object)) < 2**31)
    return jnp.asarray(x, jnp.int32 if fits else jnp.result_type(x))


def _cast_like(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype), new, old)


def _is(kind: Any, x: Any) -> bool:
    """Whether `x` is a number or an array of this kind; True and False are not."""
    is_numeric = isinstance(x, (int, float, np.ndarray, np.generic, jax.Array))
    return is_numeric and jnp.issubdtype(jnp.result_type(x), kind)


def _is_key(x: Any) -> bool:
    """Whether `x` is a random key, typed or raw."""
    return isinstance(x, jax.Array) and (jnp.issubdtype(x.dtype, jax.dtypes.prng_key) or x.dtype == jnp.uint32)


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except NameError:  # an annotation that only a type checker can resolve
        return inspect.signature(factory).parameters


def _bind(
    owner: str, parameters: Mapping[str, inspect.Parameter], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """All arguments by name, defaults included, with the errors of a call."""
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in kwargs:
            if name not in parameters:
                raise UnknownArgumentError(owner, name, kwargs[name], nearest_name(name, parameters))
    bound = inspect.Signature(list(parameters.values())).bind_partial(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, p in parameters.items():
        if p.kind is p.VAR_KEYWORD:
            arguments |= arguments.pop(name)
        elif p.kind is p.VAR_POSITIONAL and not arguments[name]:
            del arguments[name]
        elif name not in arguments:
            raise TypeError(f"{owner} needs {name}; write {name}=...")
    return arguments


def _sorted(arguments: dict[str, Any], parameters: Mapping[str, inspect.Parameter], static: set[str]) -> _Arguments:
    """The arguments by their use. The signature shows whether a callable or an integer stands for a float."""
    result = _Arguments({}, {}, {}, {})
    for name, value in arguments.items():
        parameter = parameters.get(name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY))
        default, types = parameter.default, (parameter.annotation, *typing.get_args(parameter.annotation))
        has_number, is_open = _is(np.number, default), default is parameter.empty or default is None
        is_number = isinstance(value, (bool, np.bool_)) or _is(np.number, value)
        is_required = float in types or (has_number and value is not None)
        accepts_float = _is(np.floating, default) or (is_open and float in types and int not in types)
        accepts_integer = _is(np.integer, default) or (int in types and float not in types)
        if name in static:
            result.constants[name] = value
        elif callable(value) and hasattr(value, "init") and hasattr(value, "update"):  # Optax's StatefulSchedule
            result.stateful[name] = value
        elif isinstance(value, Schedule) or (callable(value) and (is_required or default is parameter.empty)):
            result.schedules[name] = single_schedule("inject_hyperparams", name, value)
        elif _is(np.floating, value) or (_is(np.integer, value) and accepts_float):
            if value is not default and np.ndim(validate("inject_hyperparams", name, value, HYPERPARAM)):
                instead = f"{name} must be one number: jax.vmap runs over several"
                raise FieldError("inject_hyperparams", name, value, instead)
            result.numbers[name] = value
        elif _is_key(value) or (_is(np.integer, value) and not accepts_integer):
            result.numbers[name] = value
        elif is_required and not (
            value is default or is_number or any(t in types for t in inspect.getmro(type(value)))
        ):
            instead = f"{name} must be {HYPERPARAM.description}; static_args={name!r} passes anything else"
            raise FieldTypeError("inject_hyperparams", name, value, instead)
        else:
            result.constants[name] = value
    return result


def weight_decay(decay: Any, learning_rate: Any, *, kind: DecayKind = "coupled", peak_value: Any = None) -> Schedule:
    """Return a schedule for the `weight_decay` of `optax.adamw`, tied to the learning rate.

    `optax.adamw` subtracts `lr(t) w(t) p` from a parameter p, and w is the returned schedule:
      coupled: `w = decay`, which subtracts `lr(t) decay p`;
      independent: `w = decay / peak_value`, which subtracts `decay shape(t) p` for the shape `lr(t) / peak_value`;
      adamc: `w(t) = decay lr(t) / peak_value`, which subtracts `decay lr(t)^2 / peak_value p`: normalized layers need
        it so that their gradients do not grow at the end of a training.

    Args:
      decay: the coefficient, 0 or more. If independent, the share of a parameter that a step at the peak subtracts.
      learning_rate: the schedule of the rate, a callable or a number.
      kind: "coupled", "independent" or "adamc".
      peak_value: the largest rate, above 0. None: the schedule's field `peak_value`, or the number.

    Returns:
      A schedule. It contains copies of the numbers: if the rate is edited during training, edit the decay too.

    Raises:
      ValueError: if the kind is unknown, the decay is negative, or the peak is unknown or not above 0.

    Example:
      >>> import optax
      >>> import jaxsched as js
      >>> s = js.WarmupCosine(peak_value=1e-3, warmup_steps=100, total_steps=1_000)
      >>> decay = js.weight_decay(0.1, s, kind="adamc")
      >>> optimizer = js.inject_hyperparams(optax.adamw)(learning_rate=s, weight_decay=decay)
      >>> [round(float(js.weight_decay(0.1, s, kind=kind)(50)), 3) for kind in ("coupled", "independent", "adamc")]
      [0.1, 100.0, 0.05]

    References:
      Loshchilov and Hutter (1711.05101): coupled as AdamW of torch and optax, independent as in their algorithm 2;
      Defazio (2506.02285): AdamC, for layers followed by a normalization.
    """
    kinds = typing.get_args(DecayKind)
    if kind not in kinds:
        raise FieldError("weight_decay", "kind", kind, nearest_name(str(kind), kinds))
    decay = validate("weight_decay", "decay", decay, DECAY)
    schedule = as_schedule("weight_decay", "learning_rate", learning_rate)
    if kind == "coupled":
        return Constant(decay)
    if peak_value is None:
        peak_value = getattr(schedule, "constant_value" if isinstance(schedule, Constant) else "peak_value", None)
    if peak_value is None:
        note = f"{type(schedule).__name__} has no peak_value: write the largest learning rate"
        raise FieldError("weight_decay", "peak_value", None, note)
    share = decay / validate("weight_decay", "peak_value", peak_value, PEAK)
    return Constant(share) if kind == "independent" else schedule * share
