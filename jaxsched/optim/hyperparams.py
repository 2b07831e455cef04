"""The hyperparameters of an optimizer as data: in its state, each a number or a schedule."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value, is_traced, nearest_name
from ..fields import Domain, validate
from ..schedules.base import Constant, Schedule, as_schedule
from .listen import fresh, increment, one_schedule, standard_promotion

HYPERPARAM = Domain("a schedule, a callable or a finite number")
DECAY = Domain("a finite number, 0 or more", lambda x: x >= 0)
PEAK = Domain("a finite number above 0", lambda x: x > 0)
DecayKind = Literal["coupled", "independent", "adamc"]


class InjectState(NamedTuple):
    """What `inject` keeps: all that the optimizer is, but its code.

    Fields:
      count: the updates so far, which is the clock of the schedules; int32.
      hyperparams: by name, the numbers that the last update was made with (before the first: those that it will be
        made with); float32. One without a schedule is edited here: `state.hyperparams["b1"] = 0.8`.
      schedules: by name, the schedules that the next update asks; edit one with `replace`, or put in another.
      inner_state: the state of the transformation that the factory makes.
    """

    count: Array
    hyperparams: dict[str, Array]
    schedules: dict[str, Schedule]
    inner_state: Any

    def in_force(self) -> dict[str, Array]:
        """The hyperparameters at the step that is counted."""
        asked = {name: as_schedule("inject", name, schedule)(self.count) for name, schedule in self.schedules.items()}
        return {name: jnp.asarray(x).astype(jnp.float32) for name, x in (self.hyperparams | asked).items()}


def inject(factory: Callable[..., Any], /, **hyperparams: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a factory, with its hyperparameters and their schedules in its state.

    A new setting is a new state, not a new program: one compiled update takes the states of all settings, `jax.vmap`
    runs over a stack of them, and a setting can be read and edited in the middle of a training.

    Formula: the update of `factory(learning_rate=s(count), b1=0.9, ...)` at each count, for the schedules and numbers
    that stand in the state. They are float32, whatever the parameters are; the updates, and what the optimizer itself
    keeps, have the types that they would have without schedules.

    Fields:
      factory: a function that makes a `GradientTransformation`: `optax.adamw`, `functools.partial(optax.sgd,
        nesterov=True)`, one of your own.
      hyperparams: its arguments, by name. A schedule or a number is a hyperparameter, and so is every argument that is
        left out and has a float for its default (b1, eps, ...). A function is a schedule where the factory wants a
        number (an optax schedule as learning_rate; `jaxsched.Lambda(f)` says so anywhere else), and handed on where
        it does not (a mask). An integer is handed on where the default is one (2.0 is a hyperparameter there), as are
        flags, texts and None.

    It is the state that rules: after a restart, `factory` and the names of its arguments are taken from here, and all
    numbers and schedules from the checkpoint; edit the state to change them. An edit shows in `current_hyperparams`
    after the next update. A Python number that is put into the state costs one more compilation, since JAX gives it a
    type of its own; `jnp.float32(0.1)` does not.

    Errors: TypeError for a name that the factory does not have, for one that it needs, and for a text in place of a
    number; ValueError for numbers that are not finite, and for several in place of one.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = js.inject(optax.adamw, learning_rate=js.Linear(0.1, 0.0, 10), b1=js.Linear(0.95, 0.85, 10))
      >>> params = jnp.ones(3)
      >>> state = optimizer.init(params)
      >>> for step in range(2):
      ...     updates, state = optimizer.update(params, state, params)
      >>> print({name: round(float(x), 4) for name, x in js.current_hyperparams(state).items() if name != "eps_root"})
      {'b1': 0.94, 'b2': 0.999, 'eps': 0.0, 'learning_rate': 0.09, 'weight_decay': 0.0001}
      >>> state.hyperparams["weight_decay"] = jnp.float32(0.0)                           # a number, edited
      >>> state.schedules["learning_rate"] = js.WarmupCosine(0.1, 100, 1_000)            # a schedule, exchanged

    Source: `optax.inject_hyperparams`, which holds the schedules in the program and not in the state.
    """
    structure, numbers, schedules = _arguments(factory, hyperparams)
    names = numbers | schedules

    def made(values: dict[str, Array]) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(factory(**structure, **values))

    @standard_promotion
    def init(params: Any) -> Any:
        _known_to_flax(schedules)
        start = InjectState(jnp.zeros((), jnp.int32), dict(numbers), jax.tree.map(_leaf, schedules), None)
        start = fresh(start._replace(hyperparams=start.in_force()))
        return start._replace(inner_state=made(start.hyperparams).init(params))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        for name in state.schedules | state.hyperparams:
            if name not in names:
                raise TypeError(f"inject: the state has {name!r}, the optimizer has not: {nearest_name(name, names)}")
        values = state.in_force()
        new, inner = made(values).update(updates, state.inner_state, params, **extra)
        # float32 hyperparameters make float32 of a bfloat16 moment; rounded here, once, it is what it was.
        after = InjectState(increment(state.count), values, dict(state.schedules), _as_before(inner, state.inner_state))
        return _as_before(new, updates), after

    return optax.GradientTransformationExtraArgs(init, update)


def _known_to_flax(schedules: dict[str, Schedule]) -> None:
    """Flax's msgpack saves dicts and arrays; where Flax is in use, a schedule is the dict of its numbers to it."""
    if (flax := sys.modules.get("flax.serialization")) is not None:
        for kind in {type(schedule) for schedule in schedules.values()}:
            flax.register_serialization_state(kind, _numbers_of, _with_numbers, override=True)


def _numbers_of(schedule: Schedule) -> dict[str, Any]:
    return {str(i): x for i, x in enumerate(jax.tree.leaves(schedule))}


def _with_numbers(schedule: Schedule, numbers: dict[str, Any]) -> Schedule:
    return jax.tree.unflatten(jax.tree.structure(schedule), [numbers[str(i)] for i in range(len(numbers))])


def _leaf(x: Any) -> Array:
    """A number of a schedule as the state holds it: float32 or int32, also under x64; a count that is too large for
    int32, or may be, keeps its type."""
    if jnp.issubdtype(jnp.result_type(x), jnp.floating):
        return jnp.asarray(x, jnp.float32)
    fits = not is_traced(x) and np.all(np.abs(np.asarray(x, object)) < 2**31)
    return jnp.asarray(x, jnp.int32 if fits else jnp.result_type(x))


def _as_before(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype), new, old)


def _is(kind: Any, x: Any) -> bool:
    """Whether `x` is a number of this kind; True and False are none."""
    is_numeric = isinstance(x, (int, float, np.ndarray, np.generic, jax.Array))
    return is_numeric and jnp.issubdtype(jnp.result_type(x), kind)


def _arguments(
    factory: Callable[..., Any], given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Schedule]]:
    """All arguments of the factory, as structure, numbers and schedules."""
    if not callable(factory):
        kind = type(factory).__name__
        raise TypeError(f"inject: a {kind} is made already; write inject(optax.adam, learning_rate=schedule).")
    owner = getattr(factory, "__qualname__", "the factory")
    parameters = _parameters(factory)
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in given:
        if name not in named and not open_ended:
            raise TypeError(f"inject: {owner} has no argument {name!r}: {nearest_name(name, named)}")
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in given:
            raise TypeError(f"inject: {owner} needs {name}; write inject({owner}, {name}=...).")
    structure, numbers, schedules = {}, {}, {}
    for name, value in ({name: p.default for name, p in named.items()} | given).items():
        parameter = named.get(name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY))
        if isinstance(value, Schedule) or (callable(value) and _wants_number(parameter)):
            schedules[name] = one_schedule("inject", name, value)
        elif _is(np.number, value) and not (_is(np.integer, value) and _is(np.integer, parameter.default)):
            numbers[name] = _one_number(name, value) if name in given else value
        elif name in given and _wants_number(parameter) and _is_no_number(value) and value is not parameter.default:
            hint = f"hand on anything else with functools.partial({owner}, {name}=...)"
            raise TypeError(f"inject: {name}={format_value(value)}; {name} must be {HYPERPARAM.description}; {hint}.")
        else:
            structure[name] = value
    return structure, numbers, schedules


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except NameError:  # an annotation in words that only a type checker knows
        return inspect.signature(factory).parameters


def _is_no_number(value: Any) -> bool:
    """What nobody can mean by a number; a flag may be one."""
    return not (isinstance(value, (bool, np.bool_)) or _is(np.number, value))


def _wants_number(parameter: inspect.Parameter) -> bool:
    """Its default says so, or it has none; where the default is None, its type says whether a float would do."""
    if parameter.default is None:
        return float in (parameter.annotation, *typing.get_args(parameter.annotation))
    return parameter.default is parameter.empty or _is(np.number, parameter.default)


def _one_number(name: str, value: Any) -> Any:
    if np.ndim(validate("inject", name, value, HYPERPARAM)):
        raise ValueError(
            f"inject: {name}={format_value(value)}; {name} must be one number: jax.vmap runs over several."
        )
    return value


def weight_decay(decay: Any, learning_rate: Any, *, kind: DecayKind = "coupled", peak_value: Any = None) -> Schedule:
    """The schedule to inject as the `weight_decay` of `optax.adamw`, for each way to tie it to the learning rate.

    Formula: `optax.adamw` subtracts `lr(t) w(t) p` from a parameter p, and w is what this returns:
      coupled: `w = decay`, so that `lr(t) decay p` is subtracted;
      independent: `w = decay / peak_value`, so that `decay shape(t) p` is, with the shape `lr(t) / peak_value`: it
        follows the shape of the rate, and not its size;
      adamc: `w(t) = decay lr(t) / peak_value`, so that `decay lr(t)^2 / peak_value p` is, as normalised layers need for
        gradients that do not grow at the end of a training.

    Fields:
      decay: the coefficient, 0 or more. Independent, it is the share of a parameter that a step at the peak takes.
      learning_rate: the schedule of the rate, a callable or a number.
      kind: "coupled", "independent" or "adamc".
      peak_value: the largest rate, above 0. None takes the schedule's field `peak_value`, or the number.

    What is returned holds the numbers that it was made of: if the rate is edited in mid-run, edit the decay too.

    Errors: ValueError for an unknown kind, a negative decay, and a peak that is not known or not above 0.

    Example:
      >>> import optax
      >>> import jaxsched as js
      >>> s = js.WarmupCosine(peak_value=1e-3, warmup_steps=100, total_steps=1_000)
      >>> optimizer = js.inject(optax.adamw, learning_rate=s, weight_decay=js.weight_decay(0.1, s, kind="adamc"))
      >>> [round(float(js.weight_decay(0.1, s, kind=kind)(50)), 3) for kind in ("coupled", "independent", "adamc")]
      [0.1, 100.0, 0.05]

    Source: Loshchilov and Hutter (1711.05101): coupled as torch's and optax's AdamW, independent as in their
    algorithm 2; Defazio (2506.02285): AdamC, for the layers before a normalisation.
    """
    kinds = ("coupled", "independent", "adamc")
    if kind not in kinds:
        raise ValueError(f"weight_decay: kind={format_value(kind)}; {nearest_name(str(kind), kinds)}")
    decay = validate("weight_decay", "decay", decay, DECAY)
    schedule = as_schedule("weight_decay", "learning_rate", learning_rate)
    if kind == "coupled":
        return Constant(decay)
    if peak_value is None:
        peak_value = getattr(schedule, "constant_value" if isinstance(schedule, Constant) else "peak_value", None)
    if peak_value is None:
        kind_of = type(schedule).__name__
        raise ValueError(f"weight_decay: {kind_of} has no peak_value; write peak_value=, the largest rate.")
    share = decay / validate("weight_decay", "peak_value", peak_value, PEAK)
    return Constant(share) if kind == "independent" else schedule * share
