"""What a field may hold, said in its annotation and checked once: at the door.

    peak_value: Scalar          # a finite number
    warmup_steps: Steps         # 0 or more steps; an integer stays an integer
    shape: str                  # not a number: part of the structure

Only what the user wrote is checked. What is traced passes, and what JAX rebuilds from its leaves never comes here.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._errors import FieldError as FieldError
from ._errors import FieldTypeError as FieldTypeError
from ._errors import JaxschedWarning as JaxschedWarning
from ._errors import UnknownArgumentError as UnknownArgumentError
from ._errors import UnknownFieldError as UnknownFieldError
from ._errors import is_traced, nearest_name
from ._errors import shortest as shortest

Number: TypeAlias = jax.Array | float
Numbers: TypeAlias = jax.Array | np.ndarray | list[Any] | tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Domain:
    """The numbers that a field accepts.

    Args:
      description: completes "must be ...".
      contains: elementwise, of a float64 array.
      counts: whether it counts steps or cycles: integers stay integers. Other integers become floats.
      whole: whether only integers are accepted.
      ndim: 0 for one number, 1 for a table. One more axis stacks several settings.
    """

    description: str
    contains: Callable[[np.ndarray], Any] = lambda x: x == x
    counts: bool = False
    whole: bool = False
    ndim: int = 0

    def error(
        self, owner: str, name: str, value: Any, kind: type[Exception] = FieldError, note: str = "", hint: str = ""
    ) -> Exception:
        """The refusal of a value."""
        return kind(owner, name, value, f"{name} must be {self.description}{hint}", note=note)  # type: ignore[call-arg]


Scalar: TypeAlias = Annotated[Number, Domain("a finite number")]
Positive: TypeAlias = Annotated[Number, Domain("a finite number above 0", lambda x: x > 0)]
NonNegative: TypeAlias = Annotated[Number, Domain("a finite number, 0 or more", lambda x: x >= 0)]
Unit: TypeAlias = Annotated[Number, Domain("a number from 0 to 1", lambda x: (x >= 0) & (x <= 1))]
Steps: TypeAlias = Annotated[Number, Domain("a number of steps, 0 or more", lambda x: x >= 0, counts=True)]
Length: TypeAlias = Annotated[Number, Domain("a number of steps above 0", lambda x: x > 0, counts=True)]
Offset: TypeAlias = Annotated[Number, Domain("a number of steps", counts=True)]
Growth: TypeAlias = Annotated[Number, Domain("a number, 1 or more", lambda x: x >= 1, counts=True)]
Count: TypeAlias = Annotated[Number, Domain("an integer, 1 or more", lambda x: x >= 1, counts=True, whole=True)]
Integer: TypeAlias = Annotated[Number, Domain("an integer", counts=True, whole=True)]
Table: TypeAlias = Annotated[Numbers, Domain("a list of finite numbers", ndim=1)]
StepTable: TypeAlias = Annotated[
    Numbers,
    Domain(
        "a list of steps, 0 or more, each larger than the one before",
        lambda x: (x >= 0) & (np.diff(x, prepend=-np.inf) > 0),
        counts=True,
        ndim=1,
    ),
]


def validate(owner: str, name: str, value: Any, domain: Domain) -> Any:
    """Returns `value` as the field `name` of `owner` stores it.

    Raises:
      FieldError, FieldTypeError: if the domain does not contain it.
    """
    if isinstance(value, str):
        hint = ", and Timeline(total_steps, ...) turns '5%', '3ep' or '2e9tok' into steps" if domain.counts else ""
        raise domain.error(owner, name, value, FieldTypeError, " is text", hint)
    original = value
    if isinstance(value, (list, tuple)):
        try:
            value = jnp.stack([jnp.asarray(x) for x in value]) if any(map(is_traced, value)) else np.array(value)
        except (ValueError, TypeError):
            raise domain.error(owner, name, original, FieldTypeError, " has rows of different lengths") from None
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)  # a frozen schedule does not change with the array that it was made of
    if not (isinstance(value, (numbers.Real, np.ndarray, np.generic, jax.Array)) and not isinstance(value, bool)):
        raise domain.error(owner, name, original, FieldTypeError, " is not a number")
    if isinstance(value, int):  # of any size
        value = value if domain.counts else float(value)
    dtype = value.dtype if isinstance(value, jax.Array) else np.asarray(value).dtype
    _check_numbers(owner, name, original, value, dtype, domain)
    if jnp.issubdtype(dtype, jnp.integer) and not domain.counts:
        numbers_of: Any = value
        return numbers_of.astype(np.float64 if isinstance(value, (np.ndarray, np.generic)) else jnp.result_type(float))
    return value


def _check_numbers(owner: str, name: str, original: Any, value: Any, dtype: Any, domain: Domain) -> None:
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        raise domain.error(owner, name, original, FieldTypeError, f" holds {dtype}")
    if dtype.kind == "O":
        raise domain.error(owner, name, original, FieldError, " cannot be counted")
    if not (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)):
        raise domain.error(owner, name, original, FieldTypeError, f" holds {dtype}")
    if np.ndim(value) < domain.ndim:
        raise domain.error(owner, name, original, FieldTypeError, " is a single number")
    if is_traced(value):
        return
    is_int, seen = jnp.issubdtype(dtype, jnp.integer), np.asarray(value).astype(np.float64)
    if not np.all(np.isfinite(seen)):
        raise domain.error(owner, name, original, FieldError, " is not finite")
    if domain.whole and not is_int:
        raise domain.error(
            owner, name, original, FieldError if np.ndim(value) else FieldTypeError, " is not an integer"
        )
    if not np.all(domain.contains(seen)):
        raise domain.error(owner, name, original, FieldError)
    most = jnp.iinfo(jnp.result_type(int)).max
    if is_int and domain.counts and np.any(np.abs(seen) > most):
        hint = f", of at most {most:_}; set jax_enable_x64 to count further, or count in larger units"
        raise domain.error(owner, name, original, FieldError, " cannot be counted", hint)


def reject_if(schedule: Any, bad: Callable[..., Any], *names: str, instead: str | Callable[..., str]) -> None:
    """Raises FieldError if `bad` is true of the fields, which it gets as float64 arrays; traced fields pass.

    `instead` is a text, or a function that returns one for the values of the setting that is refused."""
    values = [getattr(schedule, name) for name in names]
    if any(value is None or is_traced(value) or isinstance(value, str) for value in values):
        return
    arrays = [np.asarray(value).astype(np.float64) for value in values]
    hit = np.asarray(bad(*arrays))
    if hit.any():
        where = np.argwhere(np.broadcast_to(hit, np.broadcast_shapes(hit.shape)))[0] if hit.ndim else ()
        at = [v if np.ndim(v) == 0 or np.shape(v) != hit.shape else np.asarray(v)[tuple(where)] for v in values]
        raise FieldError(type(schedule).__name__, names, at, instead if isinstance(instead, str) else instead(*at))


def reject_zero_crossing(schedule: Any, init: str, end: str) -> None:
    """Raises FieldError for an exponential that cannot get from one end to the other."""
    cannot = "an exponential cannot reach 0 or change its sign: write two values of one sign, such as end_value=1e-6"
    reject_if(schedule, lambda a, b: a * b <= 0, init, end, instead=cannot)


def reject_uncountable(schedule: Any, *names: str) -> None:
    """Raises FieldError for phases whose sum exceeds JAX's integers."""
    most = jnp.iinfo(jnp.result_type(int)).max
    too_long = f"together they must be at most {most:_} steps; set jax_enable_x64, or count in larger units"
    reject_if(schedule, lambda *steps: sum(steps) > most, *names, instead=too_long)


# --- annotations -----------------------------------------------------------------------------------------------------

Converter: TypeAlias = Callable[[str, str, Any], Any]  # (owner, name, value) -> what the field holds


@dataclasses.dataclass(frozen=True)
class Field:
    """A parsed annotation: `static` is part of the structure, a `table` holds one axis of numbers, and what
    `counts` is in steps, one number or several."""

    name: str
    static: bool
    convert: Converter
    default: Any
    table: bool = False
    counts: bool = False


def _keep(owner: str, name: str, value: Any) -> Any:
    del owner, name
    return value


def _flag(owner: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise FieldTypeError(owner, name, value, f"{name} must be True or False")
    return bool(value)


def _one_of(choices: tuple[Any, ...]) -> Converter:
    def convert(owner: str, name: str, value: Any) -> Any:
        if value in choices:
            return value
        raise FieldError(owner, name, value, nearest_name(str(value), map(str, choices)))

    return convert


def _each(domain: Domain) -> Converter:
    def convert(owner: str, name: str, values: Any) -> tuple[Any, ...]:
        if not isinstance(values, (list, tuple)) and not (isinstance(values, (np.ndarray, jax.Array)) and values.ndim):
            raise FieldTypeError(owner, name, values, f"{name} must be a list")
        return tuple(validate(owner, f"{name}[{i}]", value, domain) for i, value in enumerate(values))

    return convert


def _or_none(convert: Converter) -> Converter:
    return lambda owner, name, value: None if value is None else convert(owner, name, value)


_FLOAT = Domain("a finite number")
_INT = Domain("an integer", counts=True, whole=True)


def read_annotation(name: str, hint: Any, default: Any, child: Callable[[Any], Converter | None]) -> Field:
    """A number is a leaf and a schedule a subtree (`child` tells how it is converted); a flag, a text, a choice and a
    function are structure."""
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        arms = [h for h in typing.get_args(hint) if h is not type(None)]
        optional = len(arms) < len(typing.get_args(hint))
        hint = arms[0] if len(arms) == 1 else Any  # of several kinds: held as it is
    origin, args = typing.get_origin(hint), typing.get_args(hint)

    def domain_of(hint: Any) -> Domain | None:
        if hint in (float, int):
            return _INT if hint is int else _FLOAT
        return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Domain)), None)

    static, convert, domain = False, child(hint), domain_of(hint)
    inner = domain_of(args[0]) if origin is tuple and args else None
    if hint is bool:
        static, convert = True, _flag
    elif origin is Literal:
        static, convert = True, _one_of(args)
    elif hint is str or origin is Callable or hint is Callable:
        static, convert = True, _keep
    elif domain is not None:
        convert = functools.partial(validate, domain=domain)
    elif convert is None and inner is not None:
        convert = _each(inner)
    convert = convert or _keep
    table = domain is not None and domain.ndim > 0
    counts = any(d is not None and d.counts and not d.whole for d in (domain, inner))
    return Field(name, static, _or_none(convert) if optional else convert, default, table, counts)
