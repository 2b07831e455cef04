"""What a prediction is made from: the rate of every step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced
from ..schedules.base import Schedule, as_schedule
from ..schedules.shapes import floating
from ..schedules.structure import axes


def rates_of(owner: str, lrs: Any, total_steps: int | None = None) -> jax.Array:
    """The rates of steps 0 to `total_steps - 1`, floats (total_steps,): `lrs` itself, or the values of a schedule or of
    another function of the step.

    Numbers that are there to be looked at are checked: finite, none below 0, and one above 0 at least that their type
    holds in full.

    Errors: TypeError and ValueError that begin with `owner`, name the argument and say the step.
    """
    if callable(lrs) or isinstance(lrs, str):
        lrs = as_schedule(owner, "lrs", lrs)
    if isinstance(lrs, Schedule):
        if total_steps is None:
            raise ValueError(
                f"{owner}: total_steps=None beside lrs={format_value(lrs)}; write how many steps it runs: "
                f"total_steps=1_000."
            )
        if axes(lrs) - {0}:
            raise ValueError(
                f"{owner}: lrs={format_value(lrs)} is several schedules, stacked; write jax.vmap(lambda s: "
                f"...)(schedules)."
            )
        steps = checked_steps(owner, "total_steps", total_steps)
        rates = lrs(jnp.arange(steps))
        name = f"the values of {format_value(lrs)}"
    else:
        if total_steps is not None and np.ndim(lrs) and np.shape(lrs) != (total_steps,):
            raise ValueError(
                f"{owner}: total_steps={format_value(total_steps)} beside rates of shape {np.shape(lrs)}; leave "
                f"it out: it "
                "says how long a schedule is."
            )
        try:
            rates = jnp.asarray(lrs)
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: lrs={format_value(lrs)}; write an array of rates or a schedule.") from None
        name = "lrs"
    if rates.ndim != 1 or rates.size == 0:
        raise ValueError(
            f"{owner}: lrs has the shape {rates.shape}; write one rate a step, (steps,), and jax.vmap for several "
            "schedules."
        )
    if not (jnp.issubdtype(rates.dtype, jnp.floating) or jnp.issubdtype(rates.dtype, jnp.integer)):
        raise TypeError(f"{owner}: lrs holds {rates.dtype}; write an array of rates or a schedule.")
    rates = floating(rates)
    if not is_traced(rates):
        _check(owner, name, np.asarray(rates))
    return rates


def checked_steps(owner: str, name: str, value: Any, least: int = 1) -> int:
    """A number of steps, or of other things, as a Python integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{owner}: {name}={format_value(value)}; {name} must be an integer, {least} or more.")
    return int(value)


def _check(owner: str, name: str, rates: np.ndarray) -> None:
    for bad, instead in (
        (~np.isfinite(rates), "write finite rates"),
        (rates < 0, "write rates of 0 or more, such as schedule.clip(0.0, 1.0)"),
    ):
        if bad.any():
            step = int(np.argmax(bad))
            raise ValueError(f"{owner}: {name}: the rate at step {step} is {rates[step]:g}; {instead}.")
    if not rates.any():
        raise ValueError(f"{owner}: {name}: all {rates.size} rates are 0; write one above 0.")
    if rates.max() < (least := jnp.finfo(rates.dtype).tiny):
        raise ValueError(
            f"{owner}: {name}: the largest of {rates.size} rates is {rates.max():g}, and {rates.dtype} rounds what is "
            f"below {least:.2g} to 0; write rates in a larger unit."
        )
