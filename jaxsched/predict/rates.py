"""The learning rate of every step: what predictions are made from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced
from ..schedules.base import Schedule, as_schedule
from ..schedules.shapes import floating
from .arguments import check_count, check_single, is_number, refuse_where


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
        check_single(owner, "lrs", lrs, "write jax.vmap(lambda s: ...)(schedules)")
        if total_steps is None:
            raise FieldError(owner, "total_steps", None, "write how many steps the schedule runs: total_steps=1_000")
        rates = lrs(jnp.arange(check_count(owner, "total_steps", total_steps)))
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
    if not is_traced(rates):
        _check(owner, given, np.asarray(rates))
    return rates


def _check(owner: str, given: Any, rates: np.ndarray) -> None:
    of = f" of {given!r}" if isinstance(given, Schedule) else ""
    refuse_where(owner, "lrs", rates, ~np.isfinite(rates), "write finite rates", of)
    refuse_where(owner, "lrs", rates, rates < 0, "write rates of 0 or more, such as schedule.clip(0.0, 1.0)", of)
    if not rates.any():
        raise FieldError(owner, "lrs", given, "write one above 0", note=f": all {rates.size} rates are 0")
    if rates.max() < jnp.finfo(rates.dtype).tiny:
        note = f": the largest rate is {rates.max():g}, and {rates.dtype} rounds it to 0"
        raise FieldError(owner, "lrs", given, "write rates in a larger unit", note=note)


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
    check_single(owner, "schedule", schedule, "plan each of js.unstack(schedules)")
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
