"""The schedule, the ways to put schedules together, and the operators and methods that do it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._errors import FieldError, FieldTypeError, UnknownFieldError, format_value, is_traced, nearest_name
from ..fields import (
    Converter,
    Count,
    Field,
    Growth,
    Integer,
    Length,
    NonNegative,
    Offset,
    Positive,
    Scalar,
    Steps,
    read_annotation,
    reject_if,
)
from . import shapes
from .shapes import Step, floating

ShapeName: TypeAlias = Literal[
    "linear", "cosine", "sqrt", "1-sqrt", "square", "1-square", "exponential", "mirror-cosine"
]


@functools.partial(jax.jit, inline=True)
def _evaluate(schedule: Schedule, step: Any) -> Array:
    """The one place where types are settled: formulas see JAX's default integers and floats, and nothing else, and
    the value is rounded once, to the type of the hyperparameters."""
    floats = [x for x in jax.tree.leaves(schedule) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    # Strict promotion guards against types that meet by accident; here an integer may meet a float, and nothing else.
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*floats) if floats else jnp.result_type(float)
        value = jax.tree.map(_default_type, schedule).value(_default_type(step))
    return jnp.asarray(value).astype(dtype)


def _default_type(x: Any) -> Any:
    dtype = jnp.result_type(x)
    if jnp.issubdtype(dtype, jnp.floating):
        return floating(x)
    if jnp.issubdtype(dtype, jnp.unsignedinteger):  # a count that is too large for the default integer stays large
        x = jnp.minimum(x, jnp.asarray(min(jnp.iinfo(dtype).max, jnp.iinfo(jnp.result_type(int)).max), dtype))
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.asarray(x).astype(jnp.result_type(int))
    return x


def as_schedule(owner: str, name: str, value: Any) -> Schedule:
    """A number is a Constant, a plain callable a Lambda."""
    if isinstance(value, Schedule):
        return value
    if hasattr(value, "init") and hasattr(value, "update"):
        raise TypeError(f"{owner}: {name} is an optimizer; {name} must be a schedule, a callable or a number.")
    if isinstance(value, type) and issubclass(value, Schedule):
        call = f"{value.__name__}{value.__signature__}"
        raise FieldTypeError(owner, name, value, f"write a schedule of it: {call}", note=" is a class")
    if callable(value):
        return Lambda(value)
    if isinstance(value, str):
        hint = "a schedule, a callable or a number (parse(text) makes a schedule of an expression)"
        raise FieldTypeError(owner, name, value, f"{name} must be {hint}", note=" is text")
    try:
        return Constant(value)
    except TypeError:
        note = f" is a {type(value).__name__}"
        raise FieldTypeError(
            owner, name, value, f"{name} must be a schedule, a callable or a number", note=note
        ) from None


def _lift_all(owner: str, name: str, values: Any) -> tuple[Schedule, ...]:
    if isinstance(values, Schedule) or not isinstance(values, (list, tuple)):
        raise FieldTypeError(owner, name, values, f"{name} must be a list of schedules")
    if not values:
        raise FieldError(owner, name, [], "write at least one schedule")
    return tuple(as_schedule(owner, f"{name}[{i}]", value) for i, value in enumerate(values))


def _child(hint: Any) -> Converter | None:
    """How a field is converted whose annotation is a schedule, or several of them."""
    if isinstance(hint, type) and issubclass(hint, Schedule):
        return as_schedule
    first = (typing.get_args(hint) or (None,))[0]
    several = typing.get_origin(hint) is tuple and isinstance(first, type) and issubclass(first, Schedule)
    return _lift_all if several else None


def _register(cls: type[Schedule]) -> None:
    """Flatten and unflatten of our own: what JAX rebuilds from tracers and gradients must never be checked."""
    leaves = tuple(f.name for f in cls._fields if not f.static)
    static = tuple(f.name for f in cls._fields if f.static)

    def getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
        if len(names) > 1:
            return operator.attrgetter(*names)  # type: ignore[return-value]  # a tuple, at the speed of C
        return lambda self: tuple(getattr(self, name) for name in names)

    get_leaves, get_static = getter(leaves), getter(static)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)

    def flatten(self: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return get_leaves(self), get_static(self)

    def flatten_with_keys(self: Any) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        return tuple(zip(keys, get_leaves(self), strict=True)), get_static(self)

    def unflatten(aux: Any, children: Iterable[Any]) -> Any:
        self = object.__new__(cls)
        self.__dict__.update(zip(leaves, children, strict=True))
        self.__dict__.update(zip(static, aux, strict=True))
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _as_array(step: Step) -> Array:
    return floating(step) if isinstance(step, shapes.Fraction) else step


def _on_arrays(value: Callable[[Any, Step], Array]) -> Callable[[Any, Step], Array]:
    """A user's formula is any arithmetic, and no kernel that reads a Fraction exactly: it gets the float."""

    @functools.wraps(value)
    def on_arrays(self: Any, step: Step) -> Array:
        return value(self, _as_array(step))

    return on_arrays


@dataclass_transform(frozen_default=True, eq_default=False)
class Schedule:
    """A pure function `step -> value` that is a frozen pytree of its hyperparameters.

    Subclass it with annotated fields and a `value`; the annotations say what is checked (`jaxsched.Scalar`, `Steps`,
    ...) and what is structure (`str`, `bool`). Combine schedules with `+ - * /`, `.then`, `.warmup`, `.repeat` and the
    other methods. A number stands for a `Constant` and a plain callable for a `Lambda`.

    The hyperparameters are leaves: nothing is compiled again when one changes, `jax.vmap` runs over stacked ones, and
    `jax.grad` gives a schedule of gradients (with `allow_int=True` where a field is an integer). Schedules are compared
    and hashed by identity; `repr` is the expression that makes one.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> class Halving(js.Schedule):
      ...     init_value: js.Scalar
      ...     every: js.Length
      ...     def value(self, step):
      ...         return self.init_value * 0.5 ** js.shapes.floor_div(step, self.every)
      >>> s = Halving(init_value=0.1, every=10)
      >>> [round(float(v), 6) for v in s(jnp.array([0, 9, 10, 25]))]
      [0.1, 0.1, 0.05, 0.025]
      >>> s
      Halving(init_value=0.1, every=10)
    """

    # `np.float32(2) * schedule` reaches `__rmul__`, instead of an array of objects.
    __array_ufunc__ = None
    _fields: ClassVar[tuple[Field, ...]] = ()
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # One `__init__` and one `__setattr__` for all: to write and compile them for each class makes a slow import.
        dataclasses.dataclass(init=False, eq=False, repr=False)(cls)
        # Annotations may be text, in the names of wherever the class is written, a function too.
        frame = sys._getframe(1)
        hints = inspect.get_annotations(cls, globals=frame.f_globals, locals=dict(frame.f_locals), eval_str=True)
        known = {f.name: f for base in cls.__mro__[1:] for f in getattr(base, "_fields", ())}
        declared: Any = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        for f in declared:
            if f.name in hints:
                if hasattr(Schedule, f.name):
                    raise TypeError(f"{cls.__name__}: a field cannot be called {f.name!r}, as a method of Schedule is.")
                known[f.name] = read_annotation(f.name, hints[f.name], f.default, _child)
        cls._fields = tuple(known[f.name] for f in declared)
        cls.__signature__ = inspect.Signature(
            [
                inspect.Parameter(
                    f.name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=inspect.Parameter.empty if f.default is dataclasses.MISSING else f.default,
                )
                for f in cls._fields
            ]
        )
        _register(cls)
        if "value" in cls.__dict__ and not cls.__module__.startswith(f"{__package__}."):
            cls.value = _on_arrays(cls.value)  # pyright: ignore[reportAttributeAccessIssue]

    def __init__(self, *args: Any, **fields: Any) -> None:
        owner = type(self).__name__
        self._reject_unknown(fields)
        try:
            bound = self.__signature__.bind(*args, **fields)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}; write {owner}{self.__signature__}.") from None
        bound.apply_defaults()
        for field in self._fields:
            self.__dict__[field.name] = field.convert(owner, field.name, bound.arguments[field.name])
        self.check()

    def __setattr__(self, name: str, value: Any) -> None:
        owner = type(self).__name__
        raise dataclasses.FrozenInstanceError(f"{owner} is frozen; write s.replace({name}={format_value(value)}).")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__} is frozen; it cannot lose its {name}.")

    @classmethod
    def _reject_unknown(cls, fields: Any) -> None:
        names = [f.name for f in cls._fields]
        for name in fields:
            if name not in names:
                raise UnknownFieldError(cls.__name__, name, fields[name], nearest_name(name, names))

    def check(self) -> None:
        """Refuse fields that do not go together (with `fields.refuse`); called once, at construction."""

    def value(self, step: Step) -> Array:
        """The formula. `step` is an array of integers (or floats) of any shape; use the kernels of `shapes` on it."""
        raise NotImplementedError(f"{type(self).__name__} has no `value`; a Recipe has a `build` instead.")

    def __call__(self, step: Any) -> Array:
        """The value at `step`, a number or an array of any shape, which counts from 0."""
        if isinstance(step, (list, tuple, np.ndarray, np.generic)):
            step = np.asarray(step)
            most = np.iinfo(jnp.result_type(int)).max
            if step.dtype == np.int64 and step.size and step.max() > most:  # JAX would cut off the upper half of it
                raise OverflowError(
                    f"step={format_value(step)} is beyond {most:_}; set jax_enable_x64 to count further."
                )
        return _evaluate(self._on_device(), step)

    def _on_device(self) -> Schedule:
        """This schedule with its Python numbers as arrays, made once: to hand over a Python number costs a microsecond
        a call, which is most of what an eager call costs."""
        cached = self.__dict__.get("_cached")
        wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
        if cached is not None and cached[0] is wide:
            return cached[1]
        ready = self
        leaves, structure = jax.tree.flatten(self)
        if {type(x) for x in leaves} <= {int, float}:  # beside a bfloat16 array a Python number has no type of its own
            arrays = [jnp.asarray(x) for x in leaves]
            if any(map(is_traced, arrays)):  # made inside of a compiled function, and good for this call only
                return self
            ready = structure.unflatten(arrays)
            self.__dict__["_cached"] = (wide, ready)
        return ready

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cached"}

    def table(self, steps: Any) -> Array:
        """The values at steps `0 ... steps - 1`, or at an array of `steps`.

        Example:
          >>> import jaxsched as js
          >>> js.Linear(1.0, 0.0, steps=4).table(5).tolist()
          [1.0, 0.75, 0.5, 0.25, 0.0]
        """
        return self(jnp.arange(steps) if np.ndim(steps) == 0 else jnp.asarray(steps))

    def replace(self, **fields: Any) -> typing.Self:
        """The same schedule with other fields, checked again.

        Example:
          >>> import jaxsched as js
          >>> js.StepDecay(0.1, gamma=0.5, step_size=30).replace(gamma=0.1)
          StepDecay(init_value=0.1, gamma=0.1, step_size=30)
        """
        self._reject_unknown(fields)
        return type(self)(**{f.name: getattr(self, f.name) for f in self._fields} | fields)

    # --- operators ---------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Sum:
        return Sum((*_parts(Sum, self), as_schedule("+", "the right side", other)))

    def __radd__(self, other: Any) -> Sum:
        return Sum((as_schedule("+", "the left side", other), self))

    def __mul__(self, other: Any) -> Product:
        return Product((*_parts(Product, self), as_schedule("*", "the right side", other)))

    def __rmul__(self, other: Any) -> Product:
        return Product((as_schedule("*", "the left side", other), self))

    def __neg__(self) -> Product:
        return -1.0 * self

    def __sub__(self, other: Any) -> Sum:
        return self + -as_schedule("-", "the right side", other)

    def __rsub__(self, other: Any) -> Sum:
        return other + -self

    def __truediv__(self, number: Any) -> Product:
        if isinstance(number, Schedule) or callable(number):
            raise TypeError("/ takes a number on its right side, not a schedule: a schedule may be 0.")
        divisor = Constant(number)
        reject_if(divisor, lambda x: x == 0, "constant_value", instead="/ takes a number other than 0")
        return self * (1.0 / divisor.constant_value)

    # --- methods -----------------------------------------------------------------------------------------------------

    def then(self, other: Any, *, at: Any) -> Join:
        """This schedule before step `at`, and `other` from there on, whose own clock starts at 0 there.

        Example:
          >>> import jaxsched as js
          >>> s = js.Linear(0.0, 1.0, steps=2).then(js.Constant(0.5), at=3)
          >>> s.table(5).tolist()
          [0.0, 0.5, 1.0, 0.5, 0.5]
        """
        return Join((self, other), (at,))

    def clip(self, lo: Any = None, hi: Any = None) -> Clip:
        """The value, not below `lo` and not above `hi`; see `Clip`."""
        return Clip(self, lo, hi)

    def shift(self, steps: Any) -> Shift:
        """The schedule `steps` later: `s(t - steps)`; see `Shift`."""
        return Shift(self, steps)

    def hold(self, every: Any) -> Hold:
        """The value of every `every`-th step, held in between; see `Hold`."""
        return Hold(self, every)

    def per_epoch(self, steps_per_epoch: Any) -> PerEpoch:
        """A schedule that counts epochs, made to count steps: `s(floor(t / steps_per_epoch))`; see `PerEpoch`."""
        return PerEpoch(self, steps_per_epoch)

    def repeat(self, period: Any, period_mult: Any = None, value_mult: Any = 1, cycles: Any = None) -> Repeat:
        """The schedule again and again, each cycle `period_mult` times as long as the one before; see `Repeat`."""
        return Repeat(self, period, period_mult, value_mult, cycles)

    def warmup(self, steps: Any, shape: str = "linear", init_factor: Any = 0.0) -> Warmup:
        """The schedule times a factor that rises from `init_factor` to 1 in `steps`; see `Warmup`."""
        return Warmup(self, steps, shape, init_factor)  # type: ignore[arg-type]

    def cooldown(self, at: Any, steps: Any, end_value: Any = 0.0, shape: str = "linear") -> Cooldown:
        """The schedule until step `at`, and from its value there down to `end_value` in `steps`; see `Cooldown`."""
        return Cooldown(self, at, steps, end_value, shape)  # type: ignore[arg-type]

    def noise(self, std: Any, seed: Any = 0, limit: Any = 1.0, decay: Any = 0.0, relative: bool = True) -> Noise:
        """The schedule with reproducible random noise on it; see `Noise`."""
        return Noise(self, std, seed, limit, decay, relative)

    # --- text --------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The expression that makes this schedule."""
        return self._expression()

    def _expression(self) -> str:
        cls = type(self)
        package, _, module = cls.__module__.partition(".")
        # The classes of `schedules` are names of the package itself, and those of users names of their own.
        away = package == __name__.partition(".")[0] and not module.startswith("schedules.")
        return f"{module + '.' if away else ''}{cls.__name__}({', '.join(_arguments(self, self._fields))})"


def _arguments(schedule: Schedule, fields: Sequence[Field]) -> list[str]:
    """The fields that are not written as their defaults."""
    texts = [(f, _literal(getattr(schedule, f.name))) for f in fields]
    return [f"{f.name}={text}" for f, text in texts if f.default is dataclasses.MISSING or text != _literal(f.default)]


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if is_traced(value):
        return f"<{value.dtype}{list(value.shape)}>"
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        if array.dtype == jax.dtypes.float0:
            return "None"  # the gradient of an integer
        if array.ndim:
            return f"[{', '.join(map(_literal, array))}]"
        if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 8:
            return repr(float(str(array)))  # the shortest text that this type reads back as the same number
        return repr(array.item())
    if callable(value) and not isinstance(value, Schedule):
        return getattr(value, "__qualname__", repr(value))
    return repr(value)


def _parts(cls: type[Any], schedule: Any) -> tuple[Schedule, ...]:
    return schedule.schedules if type(schedule) is cls else (schedule,)


def _operand(schedule: Schedule) -> str:
    return f"({schedule!r})" if isinstance(schedule, (Sum, Product)) else repr(schedule)


def _infix(symbol: str, schedules: tuple[Schedule, ...]) -> str:
    """A Constant is written as its number, unless it would then meet a number and not a schedule."""
    leads = [isinstance(s, Constant) for s in schedules[:2]]
    texts = [
        _literal(s.constant_value) if isinstance(s, Constant) and (i > 0 or leads == [True, False]) else _operand(s)
        for i, s in enumerate(schedules)
    ]
    return f" {symbol} ".join(texts)


# --- the smallest schedules ------------------------------------------------------------------------------------------


class Constant(Schedule):
    """One value at every step.

    Formula: `s(t) = constant_value`.

    Fields:
      constant_value: the value.

    Example:
      >>> import jaxsched as js
      >>> float(js.Constant(0.5)(1_000))
      0.5

    Source: torch's ConstantLR with factor 1, optax.constant_schedule.
    """

    constant_value: Scalar

    def value(self, step: Step) -> Array:
        return jnp.broadcast_to(self.constant_value, step.shape)


class Lambda(Schedule):
    """Any callable `step -> value` as a schedule: an optax schedule, or a function of your own.

    Formula: `s(t) = fn(t)`.

    Fields:
      fn: traceable by JAX. It is part of the structure, so its hyperparameters can be neither swept nor
        differentiated, and another function is another compilation; write a `Schedule` class for that.

    Example:
      >>> import optax
      >>> import jaxsched as js
      >>> s = js.Lambda(optax.linear_schedule(1.0, 0.0, 10)) * 0.5
      >>> float(s(5))
      0.25

    Source: torch's LambdaLR.
    """

    fn: Callable[..., Any]

    def check(self) -> None:
        if not callable(self.fn):
            raise FieldTypeError("Lambda", "fn", self.fn, "fn must be a function of the step")

    def value(self, step: Step) -> Array:
        return floating(self.fn(_as_array(step)))


# --- composites ------------------------------------------------------------------------------------------------------


class Join(Schedule):
    """Schedules one after the other, each on a clock that starts at 0 where its turn begins.

    Formula: `s(t) = schedules[i](t - boundaries[i - 1])`, where i is the number of boundaries `<= t`.

    Fields:
      schedules: one or more schedules, callables or numbers.
      boundaries: steps, one fewer than schedules, each larger than the one before.

    Errors: ValueError for wrong counts and for boundaries that collide or are not sorted.

    Example:
      >>> import jaxsched as js
      >>> s = js.Join([js.Linear(0.0, 1.0, 2), js.Constant(1.0), js.Linear(1.0, 0.0, 2)], [2, 4])
      >>> s.table(7).tolist()
      [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0]

    Source: optax.join_schedules, torch's SequentialLR.
    """

    schedules: tuple[Schedule, ...]
    boundaries: tuple[Steps, ...]

    def check(self) -> None:
        pieces, bounds = len(self.schedules), len(self.boundaries)
        if pieces != bounds + 1:
            raise ValueError(
                f"Join: {pieces} schedules and {bounds} boundaries; {pieces} schedules meet at {pieces - 1} boundaries."
            )
        # A piece that is itself a Join made by `.then` must have ended its own pieces before the next one begins.
        inner = self.schedules[0].boundaries[-1:] if isinstance(self.schedules[0], Join) else ()
        for before, after, strict in [
            *((b, self.boundaries[0], False) for b in inner if self.boundaries),
            *((a, b, True) for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)),
        ]:
            if is_traced(before) or is_traced(after):
                continue
            if np.any(np.greater_equal(before, after) if strict else np.greater(before, after)):
                instead = "each boundary must come after the one before: sort them, and drop schedules of zero length"
                raise FieldError("Join", "boundaries", [*inner, *self.boundaries], instead)

    def value(self, step: Step) -> Array:
        out = self.schedules[0].value(step)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            out = jnp.where(shapes.reached(step, boundary), schedule.value(shapes.elapsed(step, boundary)), out)
        return out

    def _expression(self) -> str:
        if len(self.schedules) == 2:
            first, second = self.schedules
            return f"{_operand(first)}.then({second!r}, at={_literal(self.boundaries[0])})"
        return f"join({_literal(self.schedules)}, {_literal(self.boundaries)})"


class Sum(Schedule):
    """The sum of schedules; `a + b` makes it.

    Formula: `s(t) = schedules[0](t) + schedules[1](t) + ...`.

    Fields:
      schedules: one or more schedules, callables or numbers.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(0.0, 1.0, 4) + 1.0
      Linear(init_value=0.0, end_value=1.0, steps=4) + 1.0

    Source: the pointwise sum of functions; a floor under a decay is one.
    """

    schedules: tuple[Schedule, ...]

    def value(self, step: Step) -> Array:
        return functools.reduce(operator.add, (s.value(step) for s in self.schedules))

    def _expression(self) -> str:
        return _infix("+", self.schedules)


class Product(Schedule):
    """The product of schedules; `a * b` makes it.

    Formula: `s(t) = schedules[0](t) * schedules[1](t) * ...`.

    Fields:
      schedules: one or more schedules, callables or numbers.

    Example:
      >>> import jaxsched as js
      >>> 0.5 * js.Linear(0.0, 1.0, 4)
      0.5 * Linear(init_value=0.0, end_value=1.0, steps=4)

    Source: torch's ChainedScheduler.
    """

    schedules: tuple[Schedule, ...]

    def value(self, step: Step) -> Array:
        return functools.reduce(operator.mul, (s.value(step) for s in self.schedules))

    def _expression(self) -> str:
        return _infix("*", self.schedules)


class _Method(Schedule):
    """A composite that a method makes, and that is written as that method."""

    def _expression(self) -> str:
        schedule, *fields = self._fields
        arguments = _arguments(self, fields)
        return f"{_operand(getattr(self, schedule.name))}.{METHODS[type(self)]}({', '.join(arguments)})"


class Clip(_Method):
    """A schedule that is kept between two values.

    Formula: `s(t) = min(max(schedule(t), lo), hi)`.

    Fields:
      schedule: any schedule.
      lo, hi: the bounds; None where there is none.

    Errors: ValueError for `lo > hi`, and for no bound at all.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, 4).clip(lo=0.3).table(5).tolist()
      [1.0, 0.75, 0.5, 0.30000001192092896, 0.30000001192092896]

    Source: the `min_lr` and `max_lr` of most systems, as numpy.clip.
    """

    schedule: Schedule
    lo: Scalar | None = None
    hi: Scalar | None = None

    def check(self) -> None:
        if self.lo is None and self.hi is None:
            raise FieldError("Clip", ("lo", "hi"), (None, None), "write at least one bound")
        reject_if(self, lambda lo, hi: lo > hi, "lo", "hi", instead="lo must not be above hi")

    def value(self, step: Step) -> Array:
        out = self.schedule.value(step)
        out = out if self.lo is None else jnp.maximum(out, self.lo)
        return out if self.hi is None else jnp.minimum(out, self.hi)


class Shift(_Method):
    """A schedule that begins later, or earlier.

    Formula: `s(t) = schedule(max(t - steps, 0))`.

    Fields:
      schedule: any schedule.
      steps: by how many steps it is delayed; below 0 it is ahead.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, 2).shift(2).table(5).tolist()
      [1.0, 1.0, 1.0, 0.5, 0.0]

    Source: the `last_epoch` of torch's schedulers, ahead; the `delay` of Megatron and Paddle, later.
    """

    schedule: Schedule
    steps: Offset

    def value(self, step: Step) -> Array:
        later = shapes.elapsed(step, jnp.maximum(self.steps, 0))
        return self.schedule.value(shapes.ahead(later, jnp.maximum(-self.steps, 0)))


class Hold(_Method):
    """A schedule that changes only at every `every`-th step.

    Formula: `s(t) = schedule(every floor(t / every))`.

    Fields:
      schedule: any schedule.
      every: how many steps a value is held.

    Example:
      >>> import jaxsched as js
      >>> js.Linear(1.0, 0.0, 4).hold(2).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.0]

    Source: the per-epoch schedulers of Keras and timm (`t_in_epochs`), with every = steps per epoch.
    """

    schedule: Schedule
    every: Length

    def value(self, step: Step) -> Array:
        return self.schedule.value(shapes.floor_div(step, self.every) * self.every)


class PerEpoch(_Method):
    """A schedule that counts epochs, made to count steps.

    Formula: `s(t) = schedule(floor(t / steps_per_epoch))`.

    Fields:
      schedule: any schedule, whose steps are epochs.
      steps_per_epoch: the steps in an epoch.

    Example:
      >>> import jaxsched as js
      >>> js.StepDecay(1.0, gamma=0.5, step_size=2).per_epoch(3).table(8).tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]

    Source: torch's schedulers, stepped once an epoch.
    """

    schedule: Schedule
    steps_per_epoch: Length

    def value(self, step: Step) -> Array:
        return self.schedule.value(shapes.floor_div(step, self.steps_per_epoch))


class Repeat(_Method):
    """A schedule again and again; each cycle may be longer and smaller than the one before.

    Formula: in cycle i, which is `period period_mult^i` steps long and begins at `start_i`,
    `s(t) = value_mult^i schedule((t - start_i) / period_mult^i)`. After `cycles` cycles it holds
    `value_mult^(cycles - 1) schedule(period)`.

    Fields:
      schedule: any schedule; it is asked for its steps 0 to `period`.
      period: the length of the first cycle, in steps.
      period_mult: 1 or more. An integer is exact at every step; None is 1, with the local clock a plain integer for
        the formulas of users too.
      value_mult: above 0.
      cycles: how many, 1 or more; None: without an end.

    Example:
      >>> import jaxsched as js
      >>> s = js.Linear(1.0, 0.0, 3).repeat(3, period_mult=3, value_mult=0.5)
      >>> [float(s(t)) for t in (0, 3, 12, 39, 363)]
      [1.0, 0.5, 0.25, 0.125, 0.03125]

    Source: SGDR (1608.03983) for any schedule; ParameterSchedulers.jl's Loop.
    """

    schedule: Schedule
    period: Length
    period_mult: Growth | None = None
    value_mult: Positive = 1.0
    cycles: Count | None = None

    def value(self, step: Step) -> Array:
        index, clock = shapes.cycle(step, self.period, self.period_mult)
        if self.cycles is not None:
            over = index >= self.cycles
            index, clock = jnp.minimum(index, self.cycles - 1), shapes.stopped(clock, over, self.period)
        return shapes.power(self.value_mult, shapes.ratio(index)) * self.schedule.value(clock)


class Warmup(_Method):
    """A schedule under a factor that rises to 1; its own clock runs from step 0 on.

    Formula: `s(t) = schedule(t) w(t)`, where w goes from `init_factor` to 1 in `steps`.

    Fields:
      schedule: any schedule.
      steps: the length of the warmup; 0 for none.
      shape: `linear cosine sqrt 1-sqrt square 1-square exponential mirror-cosine`, as in `Ramp`.
      init_factor: the factor at step 0, from 0 to 1.

    Errors: ValueError for an unknown shape, and for an exponential one from 0.

    Example:
      >>> import jaxsched as js
      >>> js.Constant(0.5).warmup(2).table(4).tolist()
      [0.0, 0.25, 0.5, 0.5]

    Source: pytorch_warmup's dampening, Goyal et al. (1706.02677).
    """

    schedule: Schedule
    steps: Steps
    shape: ShapeName = "linear"
    init_factor: NonNegative = 0.0

    def check(self) -> None:
        reject_if(self, lambda x: x > 1, "init_factor", instead="a warmup begins at a factor from 0 to 1")
        if self.shape == "exponential":
            reject_if(self, lambda x: x == 0, "init_factor", instead="an exponential warmup begins above 0")

    def value(self, step: Step) -> Array:
        return self.schedule.value(step) * shapes.ramp(self.shape, self.init_factor, 1.0, step, self.steps)


class Cooldown(_Method):
    """A schedule that is left at step `at`, to come down from the value that it has there.

    Formula: `s(t) = schedule(t)` before `at`, then a ramp from `schedule(at)` to `end_value` in `steps`.

    Fields:
      schedule: any schedule; a long run is branched so, at any step, to any length.
      at: the step where the cooldown begins.
      steps: its length; 0 jumps to `end_value`.
      end_value: the value at step `at + steps` and after it.
      shape: `linear cosine sqrt 1-sqrt square 1-square exponential mirror-cosine`, as in `Ramp`.

    Errors: ValueError for an unknown shape, and for an exponential one to 0.

    Example:
      >>> import jaxsched as js
      >>> js.Constant(1.0).cooldown(at=2, steps=2).table(6).tolist()
      [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]

    Source: the cooldown of Haegele et al. (2405.18392); OLMo-core's OverrideDecay.
    """

    schedule: Schedule
    at: Steps
    steps: Steps
    end_value: Scalar = 0.0
    shape: ShapeName = "linear"

    def check(self) -> None:
        if self.shape == "exponential":
            reject_if(self, lambda x: x <= 0, "end_value", instead="an exponential cooldown ends above 0")
            start = None if axes(self) != {0} else self.schedule(self.at)
            if start is not None and not is_traced(start) and start <= 0:
                instead = "an exponential cooldown begins above 0: write another step or shape"
                note = f", where the schedule is {format_value(start)}"
                raise FieldError("Cooldown", "at", self.at, instead, note=note)

    def value(self, step: Step) -> Array:
        start = self.schedule.value(jnp.asarray(self.at))
        down = shapes.ramp(self.shape, start, self.end_value, shapes.elapsed(step, self.at), self.steps)
        return jnp.where(shapes.reached(step, self.at), down, self.schedule.value(step))


class Noise(_Method):
    """A schedule with random noise on it, a function of the seed and the step alone.

    Formula: `s(t) = schedule(t) (1 + n)`, or `schedule(t) + n` if not `relative`, with
    `n = std (1 + t)^(-decay / 2) z` and z standard normal, drawn again for every step, under `|std z| <= limit`.

    Fields:
      schedule: any schedule.
      std: the standard deviation of the noise (before the limit cuts it), 0 or more.
      seed: an integer; the same seed gives the same noise, in any order of the steps, and after a restart.
      limit: the largest `|std z|`, above 0; up to 1 relative noise never changes the sign.
      decay: how fast the variance falls: as `(1 + t)^-decay`, 0 or more.
      relative: whether the noise is a share of the value.

    Example:
      >>> import jaxsched as js
      >>> s = js.Constant(0.1).noise(std=0.1, seed=7)
      >>> bool(s(3) == s.table(10)[3]), bool(s(3) == s(4))
      (True, False)

    Source: timm's noise (`noise_pct` is the limit), TF1's noisy_linear_cosine_decay (`variance_decay`).
    """

    schedule: Schedule
    std: NonNegative
    seed: Integer = 0
    limit: Positive = 1.0
    decay: NonNegative = 0.0
    relative: bool = True

    def value(self, step: Step) -> Array:
        whole = shapes.floor_div(step, 1)
        key = jax.random.key(self.seed, impl="threefry2x32")

        def draw_at(t: Array) -> Array:
            if t.dtype == jnp.int64:  # of which fold_in takes the lower half
                t = (t ^ ((t >> 32) * 0x9E3779B9)) & 0xFFFFFFFF
            return self._draw(jax.random.fold_in(key, t))

        draw = jnp.vectorize(draw_at)
        noise = draw(whole) * shapes.power(1 + floating(whole), shapes.ratio(-self.decay / 2))
        return self.schedule.value(step) * (1 + noise) if self.relative else self.schedule.value(step) + noise

    def _draw(self, key: Array) -> Array:
        # In float32 always: wider numbers would draw other bits, and so another noise.
        bound = jnp.asarray(self.limit / jnp.maximum(self.std, 1e-6 * self.limit)).astype(jnp.float32)
        return self.std * floating(jax.random.truncated_normal(key, -bound, bound, dtype=jnp.float32))


METHODS: dict[type[Schedule], str] = {
    Clip: "clip",
    Shift: "shift",
    Hold: "hold",
    PerEpoch: "per_epoch",
    Repeat: "repeat",
    Warmup: "warmup",
    Cooldown: "cooldown",
    Noise: "noise",
}


# --- recipes ---------------------------------------------------------------------------------------------------------


class Recipe(Schedule):
    """A schedule that is put together from others: write the fields and `build`.

    The fields stay named leaves, however the parts use them: they can be swept, differentiated and printed.

    Example:
      >>> import jaxsched as js
      >>> class UpAndDown(js.Recipe):
      ...     peak_value: js.Positive
      ...     total_steps: js.Length
      ...     def build(self):
      ...         half = self.total_steps // 2
      ...         up, down = js.Linear(0.0, self.peak_value, half), js.Linear(self.peak_value, 0.0, half)
      ...         return up.then(down, at=half)
      >>> UpAndDown(peak_value=1.0, total_steps=4).table(5).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        # The parts are checked too, while their numbers can still be seen: inside of a compiled call they cannot.
        if axes(self) == {0} and not any(map(is_traced, jax.tree.leaves(self))):
            self.build()

    def build(self) -> Schedule:
        """The schedule that these fields make."""
        raise NotImplementedError(f"{type(self).__name__} has no `build`.")

    def value(self, step: Step) -> Array:
        return self.build().value(step)


# --- functions -------------------------------------------------------------------------------------------------------


def axes(schedule: Schedule) -> set[int]:
    """How many axes the numbers have beyond those of one setting: {0} for one setting, {1} for stacked ones."""
    found: set[int] = set()
    for field in schedule._fields:
        value = [] if field.static else getattr(schedule, field.name)
        for x in jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, Schedule)):
            found |= axes(x) if isinstance(x, Schedule) else {np.ndim(x) - int(field.table)}
    return found


def join(schedules: Sequence[Any], boundaries: Sequence[Any]) -> Join:
    """Schedules one after the other; plain callables (optax schedules) and numbers too. See `Join`.

    Example:
      >>> import optax
      >>> import jaxsched as js
      >>> s = js.join([js.Linear(0.0, 1.0, 2), optax.cosine_decay_schedule(1.0, 10)], [2])
      >>> float(s(2)), float(s(12))
      (1.0, 0.0)
    """
    return Join(schedules, boundaries)  # type: ignore[arg-type]
