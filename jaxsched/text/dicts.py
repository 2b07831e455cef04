"""Schedules as plain dicts, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced, nearest_name, shortest
from ..schedules.base import Schedule
from ..units import Timeline
from .names import MOST_DEPTH, Maker, ParseError, by_name, fields_of
from .parsing import evaluate

VERSION = 1
"""Of the form of `to_dict`; it changes when a reader of the older form would misread the newer one."""

MOST_VALUES = 1_000_000
"""A small YAML file whose aliases stand for one another may hold more than the memory does."""

_DTYPES = "bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain dicts, lists, numbers and texts, for JSON, YAML and TOML.

    A schedule is a dict of its fields with its name as `type`; the outermost also has the version of this form, as
    `jaxsched`. Fields that are None are left out. Arrays are lists; the dtype is stored unless it is JAX's default:
    `{"dtype": "bfloat16", "values": 0.1}`.

    Raises:
      TypeError: for what a file cannot hold, by its place: traced numbers, and functions without a name.

    Example:
      >>> import jaxsched as js
      >>> js.to_dict(js.Constant(0.1).shift(steps=3))
      {'jaxsched': 1, 'type': 'Shift', 'schedule': {'type': 'Constant', 'constant_value': 0.1}, 'steps': 3}
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"to_dict: {format_value(schedule)} is not a schedule; write Constant(...) for a number.")
    return {"jaxsched": VERSION, **_plain(schedule, type(schedule).__name__, 0)}


def from_dict(
    data: Mapping[str, Any], *, timeline: Timeline | None = None, known: Iterable[Any] | Mapping[str, Any] = ()
) -> Schedule:
    """The schedule that `to_dict` wrote, or that was written by hand in that form.

    By hand, fields with a default may be left out, lengths may have units as in `parse`, and any schedule inside may be
    an expression, a text as `parse` reads it.

    Args:
      data: what `json.load`, `yaml.safe_load` or `tomllib.load` return.
      timeline, known: as in `parse`.

    Raises:
      ParseError: with the place in the dict.

    Example:
      >>> import tomllib
      >>> import jaxsched as js
      >>> js.from_dict(tomllib.loads('''
      ... type = "WarmupCosine"
      ... peak_value = 3e-4
      ... warmup_steps = "2%"
      ... total_steps = 100_000
      ... '''))
      WarmupCosine(peak_value=0.0003, warmup_steps=2000, total_steps=100000)
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"from_dict: {format_value(data)} is not a dict; write parse(text) for an expression.")
    version = data.get("jaxsched", VERSION)
    if version != VERSION:
        raise ParseError(
            f"from_dict: jaxsched={format_value(version)}, and this jaxsched reads form {VERSION}; read it with "
            f"the jaxsched "
            "that wrote it"
        )
    rest = {name: value for name, value in data.items() if name != "jaxsched"}
    _refuse_size(data)
    made = _made(rest, Maker(timeline, by_name(known)), "")
    if not isinstance(made, Schedule):
        raise ParseError(f"from_dict: this makes a {type(made).__name__}, and not a schedule")
    return made


def _plain(x: Any, path: str, depth: int) -> Any:
    if depth > 2 * MOST_DEPTH:
        raise TypeError(f"to_dict: {path[:80]}... is more than {2 * MOST_DEPTH} deep, and could not be read back.")
    if isinstance(x, Schedule):
        fields = [(f, getattr(x, f.name)) for f in x._fields]
        kept = {
            f.name: _plain(v, f"{path}.{f.name}", depth + 1)
            for f, v in fields
            if v is not None or f.default is not None
        }
        if "type" in kept:
            raise TypeError(f"to_dict: {path} has a field called 'type', which is where its own name stands.")
        return {"type": repr(x).partition("(")[0] if _is_plain_call(x) else type(x).__name__, **kept}
    if is_traced(x):
        raise TypeError(f"to_dict: {path} is traced; write the schedule outside of the compiled function.")
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return _plain_array(x, path)
    if isinstance(x, Mapping):
        return {str(key): _plain(value, f"{path}.{key}", depth + 1) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value, f"{path}[{i}]", depth + 1) for i, value in enumerate(x)]
    if isinstance(x, float) and not math.isfinite(x):
        raise TypeError(f"to_dict: {path}={x} is not finite.")
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    name = getattr(x, "__qualname__", "<")
    if callable(x) and "<" not in name:
        return {"function": name}
    raise TypeError(
        f"to_dict: {path}={format_value(x)} has no name that a file could hold; write a Schedule class for it."
    )


def _is_plain_call(schedule: Schedule) -> bool:
    """Whether `repr` begins with the schedule's name; that of a composite is an operator or a method."""
    return type(schedule)._expression is Schedule._expression


def _plain_array(x: Any, path: str) -> Any:
    """Numbers in the shortest form that their type reads back; the type too, unless any reader would choose it."""
    array = np.asarray(x)
    if array.dtype == jax.dtypes.float0:
        raise TypeError(f"to_dict: {path} is the gradient of an integer, which is no number.")
    if not np.all(np.isfinite(array.astype(np.float64))):
        raise TypeError(f"to_dict: {path}={format_value(x)} is not finite.")
    values = (shortest(array) if jnp.issubdtype(array.dtype, jnp.floating) else array).tolist()
    usual = (np.float64, np.int64, jnp.result_type(float), jnp.result_type(int))
    return values if array.dtype in usual else {"dtype": array.dtype.name, "values": values}


def _refuse_size(data: Any) -> None:
    """Before anything is made of it: one node may stand for another many times over."""
    todo, seen = [(data, 0)], 0
    while todo:
        x, depth = todo.pop()
        seen += 1
        if depth > 2 * MOST_DEPTH:
            raise ParseError(f"from_dict: the dicts are more than {2 * MOST_DEPTH} deep")
        if seen > MOST_VALUES:
            raise ParseError(f"from_dict: there are more than {MOST_VALUES:_} values")
        if isinstance(x, (Mapping, list, tuple)):
            todo += [(value, depth + 1) for value in (x.values() if isinstance(x, Mapping) else x)]


def _made(x: Any, maker: Maker, path: str) -> Any:
    at = f"from_dict: at {path}: " if path else "from_dict: "
    if isinstance(x, (list, tuple)):
        return [_made(value, maker, f"{path}[{i}]") for i, value in enumerate(x)]
    if not isinstance(x, Mapping):
        return x
    if set(x) == {"dtype", "values"}:
        if x["dtype"] not in _DTYPES:
            raise ParseError(f"{at}dtype={format_value(x['dtype'])}; {nearest_name(str(x['dtype']), _DTYPES)}")
        try:
            return jnp.asarray(x["values"], dtype=jnp.dtype(x["dtype"]))
        except (TypeError, ValueError, OverflowError) as error:
            raise ParseError(f"{at}values={format_value(x['values'])}: {error}") from None
    inner = {str(key): _made(value, maker, f"{path}.{key}".lstrip(".")) for key, value in x.items()}
    kind = inner.pop("type", None)
    try:
        if set(x) == {"function"}:
            return maker.find(str(x["function"]))
        if kind is None:
            if not path:
                raise ParseError("there is no 'type': write the name of a schedule, such as type: WarmupCosine")
            return dict(x)  # of numbers, where a peer takes one
        cls = maker.find(str(kind))
        return maker.make(cls, [], _expressions(cls, inner, maker), fields_of(cls))
    except (ParseError, LookupError) as error:
        reason = error.reason if isinstance(error, ParseError) else error.args[0]
        value = getattr(error.__cause__, "value", None)
        if isinstance(value, str) and (number := re.fullmatch(r"(\d+)(e[-+]?\d+)", value)):
            reason += f" (YAML reads {value} as text, and {number[1]}.0{number[2]} as a number)"
        raise ParseError(f"{at}{reason}") from error.__cause__


def _expressions(cls: Any, named: dict[str, Any], maker: Maker) -> dict[str, Any]:
    """The fields, with texts that stand where a schedule belongs read as expressions."""

    def read(x: Any) -> Any:
        return evaluate(x, timeline=maker.timeline, known=maker.known) if isinstance(x, str) else x

    children = {"schedule", "schedules"} if isinstance(cls, type) and issubclass(cls, Schedule) else set()
    return {
        name: ([read(v) for v in value] if isinstance(value, list) else read(value)) if name in children else value
        for name, value in named.items()
    }
