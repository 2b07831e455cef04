"""Objectives: functions of a setting that JAX can trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._errors import FieldTypeError
from ..schedules.base import Schedule
from .arguments import is_number

Objective: TypeAlias = Callable[[Any], Any]
"""`objective(setting) -> scalar`, smaller is better."""


def check_objective(owner: str, objective: Any, of: str) -> None:
    """Refuses anything but a hashable function `of` ("a schedule")."""
    if not callable(objective) or isinstance(objective, (Schedule, type)):
        instead = f"write a function of {of}, such as lambda s: convex.bound(s, total_steps=400)"
        raise FieldTypeError(owner, "objective", objective, instead)
    try:
        hash(objective)
    except TypeError:
        instead = "compiled programs are cached by it: write a function, made once: def objective(s): ..."
        raise FieldTypeError(owner, "objective", objective, instead, note=" has no hash") from None


def traced(owner: str, objective: Objective, setting: Any) -> Any:
    """Returns the value of an objective in a program."""
    try:
        return objective(setting)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        instead = "write it with jax.numpy, without float(...), NumPy or `if` on values of the setting"
        raise FieldTypeError(owner, "objective", objective, instead, note=" cannot be traced") from error


def scalar(owner: str, name: str, value: Any) -> jax.Array:
    """Returns the value of an objective as a float."""
    try:
        value = jnp.asarray(value)
    except (TypeError, ValueError):
        raise FieldTypeError(owner, name, value, "the objective must return one number") from None
    if value.shape != () or not is_number(value):
        form = jax.ShapeDtypeStruct(value.shape, value.dtype)
        raise FieldTypeError(owner, name, form, "return one number, such as the mean of a curve")
    return value.astype(jnp.result_type(float))
