"""What is predicted of a schedule: an objective, a traceable function of a setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value
from ..schedules.base import Schedule
from ..schedules.structure import axes
from ..sweep.settings import is_schedule

Objective: TypeAlias = Callable[[Any], Any]
"""`objective(setting) -> scalar`, smaller is better."""


def check_objective(owner: str, objective: Any, of: str) -> None:
    """Refuses what is no function `of` ("a schedule"), or cannot tell which program is its own."""
    if not callable(objective) or isinstance(objective, (Schedule, type)):
        raise TypeError(
            f"{owner}: objective={format_value(objective)}; write a function of {of}, such as "
            "lambda s: convex.bound(s, total_steps=400)."
        )
    try:
        hash(objective)
    except TypeError:
        raise TypeError(
            f"{owner}: objective={format_value(objective)} has no hash, by which its program is found again; write a "
            "function, made once: def objective(s): ..."
        ) from None


def check_parts(owner: str, name: str, setting: Any, instead: str) -> None:
    """Refuses a setting that is several, stacked (`instead` says what to write), or that holds what is no number."""
    for part in jax.tree.leaves(setting, is_leaf=is_schedule):
        if is_schedule(part):
            if axes(part) - {0}:
                raise ValueError(f"{owner}: {name}={format_value(part)} is several, stacked; {instead}.")
        elif isinstance(part, bool) or not isinstance(part, (int, float, np.ndarray, np.generic, jax.Array)):
            raise TypeError(
                f"{owner}: {name} holds {format_value(part)}; write a schedule, or a pytree of schedules and numbers."
            )


def traced(owner: str, objective: Objective, setting: Any) -> Any:
    """What an objective gives, inside of a program."""
    try:
        return objective(setting)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise TypeError(
            f"{owner}: objective cannot be traced: it wants numbers of its setting that are not there yet. Write it "
            "with jax.numpy, without float(...), numpy or `if` on what depends on the setting."
        ) from error


def scalar(owner: str, what: str, value: Any) -> jax.Array:
    """The value of an objective as a float, refused if it is anything else."""
    try:
        value = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}: {what} is {format_value(value)}; it must be one number.") from None
    if value.shape != () or not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(
            f"{owner}: {what} has the shape {value.shape} and the type {value.dtype}; it must be one number, such as "
            "the last or the mean of a curve."
        )
    return value.astype(jnp.result_type(float))
