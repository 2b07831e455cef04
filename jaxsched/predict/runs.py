"""What plans have in common: the arguments that tell of a run, and the bound that it is judged by."""

from __future__ import annotations

import functools
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced, nearest_name
from ..fields import Domain, shortest, validate
from ..schedules import shapes
from ..schedules.base import Constant, Schedule, ShapeName
from ..schedules.structure import axes
from . import convex
from .rates import checked_steps, rates_of

FINITE = Domain("a finite number")
POSITIVE = Domain("a finite number above 0", lambda x: x > 0)
SAME = 1e-6  # rates of one plateau differ by less
_SMALLEST = 4096  # steps of a program: fewer take no less time to judge


def checked_choice(owner: str, name: str, value: Any, choices: Any) -> None:
    """Refuse what is none of the values of a `Literal`."""
    if value not in get_args(choices):
        raise ValueError(f"{owner}: {name}={format_value(value)}; {nearest_name(str(value), get_args(choices))}")


def checked_number(owner: str, name: str, value: Any, domain: Domain) -> Any:
    """A number, or an array of them: a Python float, where it is one that can be seen."""
    value = validate(owner, name, value, domain)
    return float(value) if not is_traced(value) and np.ndim(value) == 0 else value


def horizon_of(owner: str, schedule: Any, total_steps: Any) -> int:
    """`total_steps`, or the field of one schedule of that name."""
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{owner}: schedule={format_value(schedule)}; write a schedule.")
    if axes(schedule) - {0}:
        raise ValueError(
            f"{owner}: {format_value(schedule)} is several schedules, stacked; plan each of js.unstack(schedules)."
        )
    if total_steps is None:
        total_steps = getattr(schedule, "total_steps", None)
        if total_steps is None:
            raise ValueError(f"{owner}: {format_value(schedule)} has no field total_steps; write total_steps=.")
        if not is_traced(total_steps) and np.ndim(total_steps) == 0 and total_steps == int(total_steps):
            total_steps = int(total_steps)  # a field may hold 1e5
    return checked_steps(owner, "total_steps", total_steps)


def rates_seen(owner: str, schedule: Schedule, total: int) -> np.ndarray:
    """The rates of all steps, in float64."""
    rates = rates_of(owner, schedule, total)
    if is_traced(rates):
        raise TypeError(f"{owner}: {format_value(schedule)} is traced; a plan is made outside of compiled functions.")
    return np.asarray(rates, np.float64)


def short(rate: Any) -> float:
    """A rate as the shortest number that the type of rates reads back as the same."""
    return float(shortest(jnp.result_type(float).type(rate)))


def refuse_all_warmup(owner: str, name: str, rates: np.ndarray) -> None:
    if rates.size > 1 and rates[-1] > rates[:-1].max() * (1 + SAME):
        raise ValueError(
            f"{owner}: {name}={rates.size} is shorter than the warmup: the rate still rises at step {rates.size - 1}; "
            "write a longer horizon."
        )


@functools.partial(jax.jit, static_argnames="shape")
def best_of_run(
    kept: jax.Array, at: Any, total: Any, cooldown: Any, level: Any, end_value: Any, *, shape: ShapeName
) -> convex.BestScale:
    """Of a run that has the rates `kept` before step `at`, and after it a level and a cooldown."""
    steps = jnp.arange(kept.size)
    tail = level_and_cooldown(level, total - at - cooldown, cooldown, end_value, shape)
    rates = jnp.where(steps < at, kept, tail.value(shapes.elapsed(steps, at)))
    return convex.best_scale(jnp.where(steps < total, rates, 0))


def tuned_scale(rates: np.ndarray, size: int, shape: ShapeName = "linear") -> float:
    """gamma* of rates that are all kept, by the program that judges runs of `size` steps too."""
    best = best_of_run(padded(rates, size), rates.size, rates.size, 1, 1.0, 0.0, shape=shape)
    return float(best.scale)


def level_and_cooldown(level: Any, at: Any, cooldown: Any, end_value: Any, shape: ShapeName) -> Schedule:
    return Constant(level).cooldown(at=at, steps=cooldown, end_value=end_value, shape=shape)


def padded(rates: np.ndarray, least: int = 0) -> jax.Array:
    """With rates of 0 after the end, which change no bound, up to a power of two: few programs for all horizons."""
    size = max(1 << (max(rates.size, least) - 1).bit_length(), _SMALLEST)
    return jnp.asarray(np.pad(rates, (0, size - rates.size)))
