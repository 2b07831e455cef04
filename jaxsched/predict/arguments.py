"""Argument checks that the functions of `predict` share."""

from __future__ import annotations

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced, nearest_name
from ..fields import shortest, validate
from ..schedules.base import Schedule
from ..schedules.structure import axes
from ..sweep.settings import is_schedule


def check_count(owner: str, name: str, value: Any, least: int = 1) -> int:
    """Returns a number of steps, or of other things, as a Python integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise FieldError(owner, name, value, f"{name} must be an integer, {least} or more")
    return int(value)


def check_number(owner: str, name: str, value: Any, kind: Any) -> Any:
    """Returns a number of a kind of field, such as `Positive`, or of a `Domain`; a concrete scalar as a float."""
    value = validate(owner, name, value, getattr(kind, "__metadata__", (kind,))[0])
    return float(value) if not is_traced(value) and np.ndim(value) == 0 else value


def check_choice(owner: str, name: str, value: Any, choices: Any) -> None:
    """Refuses a value that is not among those of a `Literal`."""
    if value not in get_args(choices):
        raise FieldError(owner, name, value, nearest_name(str(value), get_args(choices)))


def refuse_where(owner: str, name: str, values: np.ndarray, bad: np.ndarray, instead: str, note: str = "") -> None:
    """Raises FieldError for the first of the values where `bad` is true."""
    if bad.any():
        i = int(np.argmax(bad))
        value = float(shortest(values[i])) if is_float(values) else values[i]
        raise FieldError(owner, f"{name}[{i}]", value, instead, note=note)


def check_single(owner: str, name: str, schedule: Schedule, instead: str) -> None:
    """Refuses stacked schedules."""
    if axes(schedule) - {0}:
        raise FieldError(owner, name, schedule, instead, note=" is several schedules, stacked")


def check_setting(owner: str, name: str, setting: Any, instead: str) -> None:
    """Refuses a setting that is stacked (`instead` says what to write), or that holds anything but numbers."""
    for part in jax.tree.leaves(setting, is_leaf=is_schedule):
        if is_schedule(part):
            check_single(owner, name, part, instead)
        elif not is_number(part):
            instead = "write a schedule, or a pytree of schedules and numbers"
            raise FieldTypeError(owner, name, part, instead, note=" is not a number")


def is_number(x: Any) -> bool:
    """Whether `x` is a real number or an array of them."""
    numeric = isinstance(x, (int, float, np.ndarray, np.generic, jax.Array)) and not isinstance(x, bool)
    dtype = getattr(x, "dtype", np.dtype(type(x) if isinstance(x, (int, float)) else object))
    return numeric and (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def is_float(x: Any) -> bool:
    """Whether `x` is a float or an array of floats: what takes a gradient."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))
