"""What listens, and how it is told: the parts that every rate driven by a metric shares.

A *listener* is an Optax transformation whose state has a method `observe(value)`: what it has heard so far, and one
metric more, to what it knows now. Its settings stand in the state too, as arrays. So a metric can reach it wherever it
is nested, with no transformation at hand, and a checkpoint holds all that there is. They are there for `observe` to
judge by: each update writes its own transformation's over them, so that code with another patience may take over.
"""

from __future__ import annotations

import functools
import keyword
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value, is_traced, nearest_name
from ..fields import Domain, reject_if, validate
from ..schedules.base import Constant, Schedule, as_schedule, axes
from .states import LABELS, Path, children, walk

Settings = TypeVar("Settings")
State = TypeVar("State")
Function = TypeVar("Function", bound=Callable[..., Any])


class Choice(tuple[str, ...]):
    """The texts that a setting takes; the state holds the place of the one that was chosen, which is a number."""


def settings(owner: str, kind: type[Settings], **values: Any) -> Settings:
    """`values` as the NamedTuple `kind` of scalar arrays, each checked by its annotation: a `Domain`, a `Choice` or
    bool. Counts are int32 and all else is float32, whatever the parameters are."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return kind(**{name: _setting(owner, name, value, hints[name]) for name, value in values.items()})


def _setting(owner: str, name: str, value: Any, hint: Any) -> Array:
    if hint is bool:
        kind = getattr(value, "dtype", type(value))
        if not (kind is bool or kind == np.bool_) or np.ndim(value):
            raise TypeError(f"{owner}: {name}={format_value(value)}; {name} must be True or False.")
        return jnp.asarray(value, jnp.int32)
    (domain,) = hint.__metadata__
    if isinstance(domain, Choice):
        if not isinstance(value, str) or value not in domain:
            raise ValueError(f"{owner}: {name}={format_value(value)}; {nearest_name(str(value), domain)}")
        return jnp.asarray(domain.index(value), jnp.int32)
    assert isinstance(domain, Domain)
    if np.ndim(validate(owner, name, value, domain)):
        raise ValueError(
            f"{owner}: {name}={format_value(value)}; {name} must be {domain.description}, and one: jax.vmap runs "
            f"over several."
        )
    if is_traced(value):
        return value.astype(jnp.int32 if domain.counts else jnp.float32)
    wide = np.asarray(value, np.float64)
    if domain.counts:
        if abs(wide) > np.iinfo(np.int32).max:
            raise ValueError(
                f"{owner}: {name}={format_value(value)}; {name} must be {domain.description}, of at most 2**31 - 1."
            )
        return jnp.asarray(int(wide), jnp.int32)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    if not (np.isfinite(narrow) and domain.contains(narrow)):
        raise ValueError(
            f"{owner}: {name}={format_value(value)} is {narrow} as a float32; {name} must be {domain.description}."
        )
    return jnp.asarray(narrow)


def standard_promotion(function: Function) -> Function:
    """Strict promotion guards a user's code; in a state only float32, int32 and flags meet."""

    @functools.wraps(function)
    def under_standard(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return typing.cast(Function, under_standard)


def fresh(state: State) -> State:
    """The same numbers, each in a buffer of its own: a state is donated to the step that makes the next one."""
    return jax.tree.map(jnp.array, state)


def increment(count: Array) -> Array:
    """One more, and no more beyond the last that can be counted."""
    return jnp.where(count < jnp.iinfo(count.dtype).max, count + 1, count)


def as_metric(owner: str, value: Any) -> Array:
    """One observation as a float32, or an error that says what a metric is."""
    if value is None or isinstance(value, (str, bytes)):
        raise TypeError(f"{owner}: value={value!r}; a metric is a number: write value=val_loss.")
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = float(value)  # of any size
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise TypeError(f"{owner}: value is a {kind}; a metric is a number: write value=val_loss.") from None
    if array.shape:
        hint = "write value=jnp.mean(losses), or run over several states with jax.vmap"
        raise ValueError(f"{owner}: value has the shape {array.shape}; a metric is one number: {hint}.")
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{owner}: value holds {array.dtype}; a metric is a real number: write value=val_loss.")
    return array.astype(jnp.float32)


def widened(dtype: Any) -> Any:
    """float32 for what is narrower; the rest, complex numbers too, as it is. (Floats of 8 bits promote to nothing.)"""
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype


def scaled(updates: Any, rate: Array) -> Any:
    """`rate * updates`, in float32 and then rounded once to the type that each leaf has."""

    def one(u: Array) -> Array:
        wide = widened(u.dtype)
        return (u.astype(wide) * rate.astype(wide)).astype(u.dtype)

    return jax.tree.map(standard_promotion(one), updates)


class ListenerState(Protocol):
    """What `listening` asks of a state, beside being a NamedTuple of arrays."""

    learning_rate: Array  # the rate in force
    base_learning_rate: Array | None  # the schedule's, before anything was heard; None where there is no schedule
    count: Array  # the updates so far
    settings: Any

    def in_force(self) -> Array:
        """The rate that follows from `base_learning_rate` and from what was heard."""
        ...

    def observe(self, value: Array) -> ListenerState:
        """The state after one more observation, `learning_rate` included."""
        ...


def base_rate(state: Any) -> Array:
    """The schedule's own rate, and 1 where there is none."""
    return jnp.float32(1.0) if state.base_learning_rate is None else state.base_learning_rate


def shown_rate(state: Any) -> dict[str, Array]:
    """What `current_hyperparams` shows of a listener."""
    return {"scale" if state.base_learning_rate is None else "learning_rate": state.learning_rate}


def one_schedule(owner: str, name: str, value: Any) -> Schedule:
    """A schedule, a callable or a number as one schedule; several in one need a `vmap` around all."""
    schedule = as_schedule(owner, name, value)
    if axes(schedule) - {0}:
        several = f"{owner}: {name}={format_value(value)} is several settings in one"
        raise ValueError(f"{several}; make the optimizer inside of the function that jax.vmap maps over them.")
    return schedule


def listening(owner: str, learning_rate: Any, start: Any) -> optax.GradientTransformationExtraArgs:
    """The transformation around a listener's state: hear `value` if there is one, then scale by the rate in force.

    With a `learning_rate` (a schedule, a callable or a number) the updates are scaled by `-rate`, as
    `optax.scale_by_learning_rate` does; with None they are scaled by what was heard alone, and keep their sign.
    """
    schedule = None if learning_rate is None else one_schedule(owner, "learning_rate", learning_rate)
    if isinstance(schedule, Constant):
        reject_if(
            schedule,
            lambda x: x < 0,
            "constant_value",
            instead=f"{owner} goes downhill by itself: write a rate of 0 or more",
        )

    def at(state: Any) -> Any:
        """The state at the step that it counts, under the settings of today: those of a checkpoint may be older."""
        base = None if schedule is None else schedule(state.count).astype(jnp.float32)
        state = state._replace(settings=fresh(start.settings), base_learning_rate=base)
        return state._replace(learning_rate=state.in_force())

    def init(params: Any) -> Any:
        del params  # what is heard is about the whole of them
        return fresh(at(start))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params, extra
        state = at(state)
        if value is not None:
            state = state.observe(as_metric(owner, value))
        rate = state.learning_rate if schedule is None else -state.learning_rate
        return scaled(updates, rate), state._replace(count=increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


class NamedState(NamedTuple):
    """The state of what `named` made, under its name."""

    inner_state: dict[str, Any]


def named(name: str, inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, which listens to a metric of its own: `update(..., name=metric)` instead of `value=`.

    For two listeners in one optimizer that are told different things, a training loss and a validation loss. Neither
    `value=` on an update nor `observe` without a name reaches it: `observe(..., name=name)` does.

    Fields:
      name: what it listens to, as a keyword of `update`; any identifier but `value`. Optax takes every keyword, so that
        a misspelt one on an update tells nobody; a misspelt name in `observe` is an error.
      inner: the transformation.

    Errors: ValueError for a name that no keyword can have.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(
      ...     js.named("train", js.adaptive_warmup(0.1, warmup_steps=100)),
      ...     js.named("valid", js.reduce_on_plateau(patience=3)),
      ... )
      >>> params = jnp.zeros(2)
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(params, state, params, train=0.7)
      >>> state = js.observe(state, value=0.9, name="valid")

    Source: torch's closures and Keras's `monitor=` name the metric in the same way.
    """
    if (
        not (isinstance(name, str) and name.isidentifier())
        or keyword.iskeyword(name)
        or name in ("value", "params", "state", "updates")
    ):
        raise ValueError(
            f"named: name={format_value(name)}; write a keyword for a metric, one word such as 'valid_loss'."
        )
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            f"named: inner={format_value(inner)} is not a transformation; write named({name!r}, reduce_on_plateau())."
        )
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> Any:
        return NamedState({name: inner.init(params)})

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        extra = {key: value for key, value in extra.items() if key != "value"}
        if name in extra:
            extra["value"] = extra.pop(name)
        updates, inner_state = inner.update(updates, state.inner_state[name], params, **extra)
        return updates, NamedState({name: inner_state})

    return optax.GradientTransformationExtraArgs(init, update)


def is_listener(node: Any) -> bool:
    return isinstance(node, tuple) and callable(getattr(node, "observe", None))


def listener_names(opt_state: Any) -> set[str]:
    """The names under which listeners of a state are told: those that `named` gave."""
    return {name for _, node in walk(opt_state) if isinstance(node, NamedState) for name in node.inner_state}


def observe(opt_state: State, *, value: Any, name: str | None = None) -> State:
    """The optimizer state after its listeners were told a metric, outside of any gradient step.

    Every listener without a name of its own (`named`) is told, wherever it is nested (chain, partition,
    MultiSteps, masked, a Flax TrainState), and the rest of the state is as it was. It runs eagerly, inside of `jit` and
    under `vmap`. What is heard is judged under the arguments in the state, those of the last update.

    Fields:
      opt_state: any optimizer state with a listener (`reduce_on_plateau`, `greedy`, `adaptive_warmup`) in it.
      value: the metric, one real number.
      name: tell only the listener of this name: a group of `by_path` or of `optax.partition`, or what `named` calls
        it, or its place in a chain ("0"). None tells all that `named` did not name.

    Errors: ValueError for a state without a listener, for a name that none or several have, and for a value with a
    shape; TypeError for a value that is no number.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(optax.scale_by_adam(), js.reduce_on_plateau(0.1, patience=1))
      >>> state = optimizer.init(jnp.zeros(3))
      >>> for val_loss in [1.0, 1.0, 1.0]:                        # the end of each epoch
      ...     state = js.observe(state, value=val_loss)
      >>> print(f"{js.current_hyperparams(state)['learning_rate']:.3f}")
      0.010

    Source: torch's `scheduler.step(val_loss)`.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"observe: name={format_value(name)}; write the name of a listener, or leave it out to tell all."
        )
    metric = as_metric("observe", value)
    found = [path for path, node in walk(opt_state) if is_listener(node)]
    if not found:
        raise ValueError(
            f"observe: there is no listener in this {type(opt_state).__name__}; put one into the optimizer: "
            "optax.chain(optax.adam(1e-3), jaxsched.reduce_on_plateau())."
        )
    told = _unnamed(opt_state, found) if name is None else [_the_one(name, found)]

    def tell(node: Any, path: Path) -> Any:
        if path in told:
            return _told(node, metric)
        if not any(one[: len(path)] == path for one in told):
            return node
        parts, build = children(node)
        return build([tell(child, (*path, *keys)) for keys, child in parts])

    return tell(opt_state, ())


@standard_promotion
def _told(state: Any, metric: Array) -> Any:
    """The listener's state after the metric, in whatever boxes its arrays were kept in (Flax NNX has such)."""
    leaves, structure = jax.tree.flatten(state)
    plain = jax.tree.unflatten(jax.tree.structure(_bare(state)), leaves)
    return structure.unflatten(jax.tree.leaves(plain.observe(metric)))


def _bare(node: Any) -> Any:
    """The NamedTuples of a state, with a mark where there was an array or a box with one."""
    if node is None:
        return None
    return type(node)(*map(_bare, node)) if isinstance(node, tuple) else 0


def _unnamed(opt_state: Any, found: list[Path]) -> list[Path]:
    """Those of the listeners that listen to `value`."""
    named = [path for path, node in walk(opt_state) if isinstance(node, NamedState)]
    told = [path for path in found if not any(path[: len(around)] == around for around in named)]
    if not told:
        names = ", ".join(repr(LABELS[0](path)) for path in found)
        raise ValueError(f"observe: every listener has a name of its own; write name=, one of: {names}.")
    return told


def _the_one(name: str, found: list[Path]) -> Path:
    for label in LABELS:
        fits = [path for path in found if label(path) == name]
        if len(fits) > 1:
            names = ", ".join(repr(LABELS[1](path) or LABELS[2](path)) for path in fits)
            raise ValueError(f"observe: name={name!r} is that of {len(fits)} listeners; write one of: {names}.")
        if fits:
            return fits[0]
    names = [LABELS[0](path) or LABELS[1](path) or LABELS[2](path) for path in found]
    if not any(names):
        raise ValueError(f"observe: name={name!r}; the only listener here has no name: leave name out.")
    raise ValueError(f"observe: name={name!r}; {nearest_name(name, sorted(set(names)))}")
