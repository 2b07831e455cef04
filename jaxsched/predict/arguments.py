"""Checks of arguments that the functions of `predict` share: numbers, settings, objectives and rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced, nearest_name
from ..fields import shortest, validate
from ..schedules.base import Schedule, as_schedule
from ..schedules.shapes import floating
from ..schedules.structure import axes
from ..sweep.settings import is_schedule

Objective: TypeAlias = Callable[[Any], Any]
"""`objective(setting) -> scalar`, smaller is better; JAX can trace it."""

# --- numbers and names -----------------------------------------------------------------------------------------------


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


def is_number(x: Any) -> bool:
    """Whether `x` is a real number or an array of them."""
    numeric = isinstance(x, (int, float, np.ndarray, np.generic, jax.Array)) and not isinstance(x, bool)
    dtype = getattr(x, "dtype", np.dtype(type(x) if isinstance(x, (int, float)) else object))
    return numeric and (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def is_float(x: Any) -> bool:
    """Whether `x` is a float or an array of floats: what takes a gradient."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


# --- settings and objectives -----------------------------------------------------------------------------------------


def check_setting(owner: str, name: str, setting: Any, instead: str) -> None:
    """Refuses a setting that is stacked (`instead` says what to write), or that holds anything but numbers."""
    for part in jax.tree.leaves(setting, is_leaf=is_schedule):
        if is_schedule(part) and axes(part) - {0}:
            raise FieldError(owner, name, part, instead, note=" is several schedules, stacked")
        if not is_schedule(part) and not is_number(part):
            instead = "write a schedule, or a pytree of schedules and numbers"
            raise FieldTypeError(owner, name, part, instead, note=" is not a number")


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


def evaluate(owner: str, objective: Objective, setting: Any) -> Any:
    """Returns what an objective returns for a traced setting."""
    try:
        return objective(setting)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        instead = "write it with jax.numpy, without float(...), NumPy or `if` on values of the setting"
        raise FieldTypeError(owner, "objective", objective, instead, note=" cannot be traced") from error


def as_scalar(owner: str, name: str, value: Any) -> jax.Array:
    """Returns a value of an objective as a float."""
    try:
        value = jnp.asarray(value)
    except (TypeError, ValueError):
        raise FieldTypeError(owner, name, value, "the objective must return one number") from None
    if value.shape != () or not is_number(value):
        form = jax.ShapeDtypeStruct(value.shape, value.dtype)
        raise FieldTypeError(owner, name, form, "return one number, such as the mean of a curve")
    return value.astype(jnp.result_type(float))


# --- rates -----------------------------------------------------------------------------------------------------------


def rates_of(owner: str, lrs: Any, total_steps: int | None = None) -> jax.Array:
    """Returns the rates of steps 0 to `total_steps - 1` as floats, (total_steps,).

    Args:
      owner: the name of the calling function, for error texts.
      lrs: an array of rates, a schedule, or another function of the step.
      total_steps: the number of steps; only for a schedule or a function.

    Raises:
      FieldError, FieldTypeError: unless there is one rate a step, each finite and 0 or more, and the largest above 0.
        Traced rates are not checked.
    """
    given = lrs
    if callable(lrs) or isinstance(lrs, str):
        lrs = as_schedule(owner, "lrs", lrs)
    if isinstance(lrs, Schedule):
        check_setting(owner, "lrs", lrs, "write jax.vmap(lambda s: ...)(schedules)")
        if total_steps is None:
            raise FieldError(owner, "total_steps", None, "write how many steps the schedule runs: total_steps=1_000")
        rates = lrs.table(check_count(owner, "total_steps", total_steps))
    else:
        try:
            rates = jnp.asarray(lrs)
        except (TypeError, ValueError):
            raise FieldTypeError(owner, "lrs", given, "write an array of rates or a schedule") from None
        if total_steps is not None and rates.ndim and rates.shape != (total_steps,):
            instead, note = "leave it out: it is the length of a schedule", f" beside rates of shape {rates.shape}"
            raise FieldError(owner, "total_steps", total_steps, instead, note=note)
    if rates.ndim != 1 or rates.size == 0:
        instead = "write one rate a step, (steps,), and jax.vmap for several schedules"
        raise FieldError(owner, "lrs", given, instead, note=f" has the shape {rates.shape}")
    if not is_number(rates):
        raise FieldTypeError(owner, "lrs", given, "write an array of rates or a schedule", note=f" holds {rates.dtype}")
    rates = floating(rates)
    if is_traced(rates):
        return rates
    seen, of = np.asarray(rates), f" of {given!r}" if isinstance(given, Schedule) else ""
    refuse_where(owner, "lrs", seen, ~np.isfinite(seen), "write finite rates", of)
    refuse_where(owner, "lrs", seen, seen < 0, "write rates of 0 or more, such as schedule.clip(0.0, 1.0)", of)
    if not seen.any():
        raise FieldError(owner, "lrs", given, "write one above 0", note=f": all {seen.size} rates are 0")
    if seen.max() < jnp.finfo(seen.dtype).tiny:
        note = f": the largest rate is {seen.max():g}, and {seen.dtype} rounds it to 0"
        raise FieldError(owner, "lrs", given, "write rates in a larger unit", note=note)
    return rates


def warmup_of(rates: np.ndarray) -> int:
    """Returns the step at which the rates first stop rising; 0 if they do not begin with a rise."""
    stops = np.diff(rates) <= 0
    stops &= rates[1:] > 0  # a table that holds 0 for some steps has not begun to rise yet
    return int(np.argmax(stops)) if stops.any() else rates.size - 1


def refuse_unfinished_warmup(owner: str, rates: np.ndarray, name: str = "total_steps") -> None:
    """Raises FieldError if the rates rise until their last step; `name` is the argument that is too small."""
    if rates.size > 1 and np.all(np.diff(rates) >= 0) and rates[-1] > rates[-2]:
        note = f" is shorter than the warmup: the rate still rises at step {rates.size - 1}"
        raise FieldError(owner, name, rates.size, "write more steps, or a shorter warmup", note=note)


def concrete_rates(owner: str, schedule: Any, total_steps: int | None) -> np.ndarray:
    """Returns the rates of a single schedule in float64; without `total_steps`, its field of that name is used."""
    if not isinstance(schedule, Schedule):
        raise FieldTypeError(owner, "schedule", schedule, "write a schedule")
    check_setting(owner, "schedule", schedule, "plan each of js.unstack(schedules)")
    if total_steps is None:
        total_steps = getattr(schedule, "total_steps", None)
        if total_steps is None:
            raise FieldError(owner, "schedule", schedule, "write total_steps=", note=" has no field total_steps")
        if not is_traced(total_steps) and np.ndim(total_steps) == 0 and total_steps == int(total_steps):
            total_steps = int(total_steps)  # a field may hold 1e5
    rates = rates_of(owner, schedule, check_count(owner, "total_steps", total_steps))
    if is_traced(rates):
        raise FieldTypeError(owner, "schedule", schedule, "call it outside of compiled functions", note=" is traced")
    return np.asarray(rates, np.float64)
