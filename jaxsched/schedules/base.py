"""The schedule: a frozen pytree of its hyperparameters, with the operators and methods that compose schedules.

The composites that these make stand in `combine`; they are found by name in the registry of classes, so that this
module knows none of them.
"""

from __future__ import annotations

import contextlib
import contextvars
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

from .._errors import FieldError, FieldTypeError, UnknownFieldError, format_value, is_traced, nearest_name, shortest
from ..fields import Converter, Field, Scalar, read_annotation, reject_if
from .shapes import Step, floating
from .structure import REGISTRY, Structure, Structured, check_settings

ShapeName: TypeAlias = Literal[
    "linear", "cosine", "sqrt", "1-sqrt", "square", "1-square", "exponential", "mirror-cosine"
]


_PACKAGE = __name__.partition(".")[0]


def _check_countable(step: Any) -> None:
    most = np.iinfo(jnp.result_type(int)).max
    if step > most:
        raise OverflowError(f"step={format_value(step)} is beyond {most:_}; set jax_enable_x64 to count further.")


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
    instead, note = f"{name} must be a schedule, a callable or a number", f" is a {type(value).__name__}"
    if isinstance(value, type) and issubclass(value, Schedule):
        instead, note = f"write a schedule of it: {value.__name__}{value.__signature__}", " is a class"
    elif callable(value):
        return Lambda(value)
    elif isinstance(value, str):
        instead, note = f"{instead} (parse(text) makes a schedule of an expression)", " is text"
    else:
        with contextlib.suppress(TypeError):
            return Constant(value)
    raise FieldTypeError(owner, name, value, instead, note=note)


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


def _on_arrays(value: Callable[[Any, Step], Array]) -> Callable[[Any, Step], Array]:
    """The formula of an opaque class gets its step as an array: it may do any arithmetic with it. A class that states
    its `structure` gets the exact clock of a repeated schedule, which the kernels of `shapes` read."""

    @functools.wraps(value)
    def on_arrays(self: Any, step: Step) -> Array:
        return value(self, jnp.asarray(step))

    return on_arrays


def _states_structure(cls: type[Schedule]) -> bool:
    """Whether the structure is that of the formula: stated by the class, or by an abstract one without a formula."""
    mro = cls.__mro__
    owner = next(i for i, base in enumerate(mro) if "structure" in base.__dict__)
    return mro[owner] is not Structured and not any("value" in base.__dict__ for base in mro[1 : owner + 1])


_UNCHECKED = contextvars.ContextVar("unchecked", default=False)
"""Set while a recipe that was checked at its construction builds its parts again, on traced values."""


@dataclass_transform(frozen_default=True, eq_default=False)
class Schedule(Structured):
    """A pure function `step -> value` that is a frozen pytree of its hyperparameters.

    Subclass it with annotated fields and a `value`; the annotations say what is checked (those of `jaxsched.fields`:
    `Scalar`, `Steps`, ...) and what is structure (`str`, `bool`). Combine schedules with `+ - * /`, `.then`, `.warmup`,
    `.repeat` and the other methods. A number stands for a `Constant` and a plain callable for a `Lambda`.

    The hyperparameters are leaves: nothing is compiled again when one changes, `jax.vmap` runs over stacked ones, and
    `jax.grad` gives a schedule of gradients (with `allow_int=True` where a field is an integer). Schedules are compared
    and hashed by identity; `repr` is the expression that makes one.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> class Halving(js.Schedule):
      ...     init_value: js.fields.Scalar
      ...     every: js.fields.Length
      ...     def value(self, step):
      ...         return self.init_value * 0.5 ** js.schedules.shapes.floor_div(step, self.every)
      >>> s = Halving(init_value=0.1, every=10)
      >>> [round(float(v), 6) for v in s(jnp.array([0, 9, 10, 25]))]
      [0.1, 0.1, 0.05, 0.025]
      >>> s
      Halving(init_value=0.1, every=10)
    """

    # `np.float32(2) * schedule` reaches `__rmul__`, instead of an array of objects.
    __array_ufunc__ = None
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # One `__init__` and one `__setattr__` for all: to write and compile them for each class makes a slow import.
        dataclasses.dataclass(init=False, eq=False, repr=False)(cls)
        # Annotations may be strings; their names are those of the scope of the class, which may be a function.
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
        kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        defaults = {f.name: empty if f.default is dataclasses.MISSING else f.default for f in cls._fields}
        cls.__signature__ = inspect.Signature([inspect.Parameter(n, kind, default=d) for n, d in defaults.items()])
        _register(cls)
        if "value" in cls.__dict__ and not _states_structure(cls):
            cls.structure = Structured.structure
            cls.value = _on_arrays(cls.value)  # pyright: ignore[reportAttributeAccessIssue]
        # A class that a user writes, in a doctest of the package too, is none of the package.
        is_ours = cls.__module__.partition(".")[0] == _PACKAGE
        if is_ours and not abstract and frame.f_globals is vars(sys.modules[cls.__module__]):
            REGISTRY[cls._name()] = cls

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
        if not _UNCHECKED.get():
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
        """Rejects fields that do not go together (with `fields.reject_if`); called once, at construction."""

    def value(self, step: Step) -> Array:
        """The formula. `step` is an array of integers (or floats) of any shape; use the kernels of `shapes` on it."""
        raise NotImplementedError(f"{type(self).__name__} has no `value`; a Recipe has a `build` instead.")

    def __call__(self, step: Any) -> Array:
        """The value at `step`, a number or an array of any shape, which counts from 0."""
        if isinstance(step, (list, tuple, np.ndarray, np.generic)):
            step = np.asarray(step)
            if step.dtype.kind in "iu" and step.dtype.itemsize == 8 and step.size:  # JAX would cut off the upper half
                _check_countable(step.max())
        elif isinstance(step, int) and step > 2**31 - 1:
            _check_countable(step)
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
          >>> js.StepDecay(0.1, decay_rate=0.5, decay_steps=30).replace(decay_rate=0.1)
          StepDecay(init_value=0.1, decay_rate=0.1, decay_steps=30)
        """
        self._reject_unknown(fields)
        return type(self)(**{f.name: getattr(self, f.name) for f in self._fields} | fields)

    # --- operators ---------------------------------------------------------------------------------------------------

    def _chain(self, name: str) -> tuple[Schedule, ...]:
        """`a + b + c` is one sum of three."""
        return getattr(self, "schedules") if type(self) is REGISTRY[name] else (self,)  # noqa: B009  # a field of some

    def __add__(self, other: Any) -> Schedule:
        return REGISTRY["Sum"]((*self._chain("Sum"), as_schedule("+", "the right side", other)))

    def __radd__(self, other: Any) -> Schedule:
        return REGISTRY["Sum"]((as_schedule("+", "the left side", other), self))

    def __mul__(self, other: Any) -> Schedule:
        return REGISTRY["Product"]((*self._chain("Product"), as_schedule("*", "the right side", other)))

    def __rmul__(self, other: Any) -> Schedule:
        return REGISTRY["Product"]((as_schedule("*", "the left side", other), self))

    def __neg__(self) -> Schedule:
        return -1.0 * self

    def __sub__(self, other: Any) -> Schedule:
        return self + -as_schedule("-", "the right side", other)

    def __rsub__(self, other: Any) -> Schedule:
        return other + -self

    def __truediv__(self, number: Any) -> Schedule:
        if isinstance(number, Schedule) or callable(number):
            raise TypeError("/ takes a number on its right side, not a schedule: a schedule may be 0.")
        divisor = Constant(number)
        reject_if(divisor, lambda x: x == 0, "constant_value", instead="/ takes a number other than 0")
        return self * (1.0 / divisor.constant_value)

    # --- methods -----------------------------------------------------------------------------------------------------

    def then(self, other: Any, *, at: Any) -> Schedule:
        """This schedule before step `at`, and `other` from there on, on a clock that starts at 0 there; see `Join`.

        Example:
          >>> import jaxsched as js
          >>> s = js.Linear(0.0, 1.0, steps=2).then(js.Constant(0.5), at=3)
          >>> s.table(5).tolist()
          [0.0, 0.5, 1.0, 0.5, 0.5]
        """
        try:
            return REGISTRY["Join"]((self, other), (at,))
        except (FieldError, FieldTypeError) as error:
            names = {"boundaries[0]": "at", "schedules[1]": "other"}
            if name := names.get(str(error.field)):
                raise error.renamed("then", name) from None
            raise

    def clip(self, lo: Any = None, hi: Any = None) -> Schedule:
        """The value, at least `lo` and at most `hi`; see `Clip`."""
        return REGISTRY["Clip"](self, lo, hi)

    def shift(self, steps: Any) -> Schedule:
        """The schedule `steps` later, `s(t - steps)`; see `Shift`."""
        return REGISTRY["Shift"](self, steps)

    def hold(self, every: Any) -> Schedule:
        """The value of every `every`-th step, held in between; see `Hold`."""
        return REGISTRY["Hold"](self, every)

    def per_epoch(self, steps_per_epoch: Any) -> Schedule:
        """A schedule that counts epochs, on a clock of steps: `s(floor(t / steps_per_epoch))`; see `PerEpoch`."""
        return REGISTRY["PerEpoch"](self, steps_per_epoch)

    def repeat(self, period: Any, period_mult: Any = None, value_mult: Any = 1, cycles: Any = None) -> Schedule:
        """The schedule repeated, each cycle `period_mult` times as long as the one before; see `Repeat`."""
        return REGISTRY["Repeat"](self, period, period_mult, value_mult, cycles)

    def warmup(self, steps: Any, shape: str = "linear", init_factor: Any = 0.0) -> Schedule:
        """The schedule times a factor that rises from `init_factor` to 1 in `steps`; see `Warmup`."""
        return REGISTRY["Warmup"](self, steps, shape, init_factor)

    def cooldown(self, at: Any, steps: Any, end_value: Any = 0.0, shape: str = "linear") -> Schedule:
        """The schedule until step `at`, then from its value there to `end_value` in `steps`; see `Cooldown`."""
        return REGISTRY["Cooldown"](self, at, steps, end_value, shape)

    def noise(self, std: Any, seed: Any = 0, limit: Any = 1.0, decay: Any = 0.0, relative: bool = True) -> Schedule:
        """The schedule with reproducible random noise; see `Noise`."""
        return REGISTRY["Noise"](self, std, seed, limit, decay, relative)

    # --- text --------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The expression that makes this schedule."""
        return self._expression()

    @classmethod
    def _name(cls) -> str:
        """The name in an expression: that of a core class alone, that of a peer's class with its module."""
        package, _, module = cls.__module__.partition(".")
        is_peer = package == _PACKAGE and not module.startswith("schedules.")
        return f"{module}.{cls.__name__}" if is_peer else cls.__name__

    def _expression(self) -> str:
        return f"{self._name()}({', '.join(arguments(self, self._fields))})"


def arguments(schedule: Schedule, fields: Sequence[Field]) -> list[str]:
    """The fields that are not written as their defaults."""
    texts = [(f, literal(getattr(schedule, f.name))) for f in fields]
    return [f"{f.name}={text}" for f, text in texts if f.default is dataclasses.MISSING or text != literal(f.default)]


def literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    if is_traced(value):
        return f"<{value.dtype}{list(value.shape)}>"
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        if array.dtype == jax.dtypes.float0:
            return "None"  # the gradient of an integer
        if array.ndim:
            return f"[{', '.join(map(literal, array))}]"
        return repr((shortest(array) if jnp.issubdtype(array.dtype, jnp.floating) else array).item())
    if callable(value) and not isinstance(value, Schedule):
        return getattr(value, "__qualname__", repr(value))
    return repr(value)


# --- the smallest schedules ------------------------------------------------------------------------------------------


class Constant(Schedule):
    """One value at every step.

    Formula: `s(t) = constant_value`.

    Args:
      constant_value: the value.

    Example:
      >>> import jaxsched as js
      >>> float(js.Constant(0.5)(1_000))
      0.5

    References:
      torch's ConstantLR with factor 1, optax.constant_schedule.
    """

    constant_value: Scalar

    def structure(self) -> Structure:
        return Structure()

    def value(self, step: Step) -> Array:
        return jnp.broadcast_to(self.constant_value, step.shape)


class Lambda(Schedule):
    """Any callable `step -> value` as a schedule: an optax schedule, or a function of your own.

    Formula: `s(t) = fn(t)`.

    Args:
      fn: traceable by JAX. It is part of the structure, so its hyperparameters can be neither swept nor
        differentiated, and another function is another compilation; write a `Schedule` class for that.

    Example:
      >>> import optax
      >>> import jaxsched as js
      >>> s = js.Lambda(optax.linear_schedule(1.0, 0.0, 10)) * 0.5
      >>> float(s(5))
      0.25

    References:
      torch's LambdaLR.
    """

    fn: Callable[..., Any]

    def check(self) -> None:
        if not callable(self.fn):
            raise FieldTypeError("Lambda", "fn", self.fn, "fn must be a function of the step")

    def value(self, step: Step) -> Array:
        return floating(self.fn(step))


# --- recipes ---------------------------------------------------------------------------------------------------------


class Recipe(Schedule, abstract=True):
    """A schedule composed of others: write the fields and `build`.

    The fields stay named leaves: they can be swept, differentiated and printed.

    Example:
      >>> import jaxsched as js
      >>> class UpAndDown(js.Recipe):
      ...     peak_value: js.fields.Positive
      ...     total_steps: js.fields.Length
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
        if not _UNCHECKED.get():
            check_settings(self, lambda setting: as_schedule(type(self).__name__, "build", setting.build()))

    def structure(self) -> Structure:
        return self._built().structure()

    def _built(self) -> Schedule:
        token = _UNCHECKED.set(True)
        try:
            return as_schedule(type(self).__name__, "build", self.build())
        finally:
            _UNCHECKED.reset(token)

    def build(self) -> Schedule:
        """The schedule that these fields make."""
        raise NotImplementedError(f"{type(self).__name__} has no `build`.")

    def value(self, step: Step) -> Array:
        return self._built().value(step)
