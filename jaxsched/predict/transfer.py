"""The peak for another horizon, or another shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._errors import format_value
from ..schedules.base import Schedule
from .rates import checked_steps
from .runs import POSITIVE, checked_number, rates_seen, refuse_all_warmup, tuned_scale


def transfer_peak(
    shape: Schedule | Callable[[int], Schedule],
    from_steps: int,
    to_steps: int,
    peak_value: Any = 1.0,
    *,
    to_shape: Schedule | Callable[[int], Schedule] | None = None,
) -> Any:
    """The peak for another horizon, or another shape, of a schedule whose peak was tuned for this one.

    Formula: `peak_value P(to) / P(from)`, where `P = gamma* max(rates)` is the peak that has the least bound. A linear
    decay goes with `1 / sqrt(steps)`. The height of the shapes does not count, nor do the units of the bound.

    Args:
      shape: a function that makes the schedule of a horizon, `lambda steps: js.WarmupCosine(1.0, 100, steps)`; or a
        schedule, whose field `total_steps` (else `steps`) is `from_steps` and becomes the horizon: the other lengths,
        such as the warmup, stay as many steps as they are.
      from_steps, to_steps: the two horizons, in steps.
      peak_value: the peak that is tuned for `from_steps`, above 0, or an array of them; 1: the factor is returned.
      to_shape: the shape of the new horizon, if it is another one.

    Returns: the new peak, like `peak_value`.

    Errors: ValueError for a schedule without such a field or with another horizon in it, for a horizon that is shorter
    than the warmup, and for one without a rate above 0.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> f"{plan.transfer_peak(js.Linear(1.0, 0.0, 400), 400, 4_000, peak_value=0.05):.4f}"
      '0.0159'
      >>> wsd = lambda steps: js.WarmupStableDecay(1.0, 40, steps, decay_steps=steps // 5)
      >>> f"{plan.transfer_peak(wsd, 400, 4_000, peak_value=3e-4):.2e}"
      '9.23e-05'

    Source: Schaipp et al., 2025, arXiv 2501.18965, section 5.
    """
    owner = "plan.transfer_peak"
    peak_value, peaks = checked_number(owner, "peak_value", peak_value, POSITIVE), []
    if isinstance(shape, Schedule):
        _refuse_other_horizon(owner, shape, checked_steps(owner, "from_steps", from_steps))
    for name, make, argument, steps in (
        ("shape", shape, "from_steps", from_steps),
        ("shape" if to_shape is None else "to_shape", shape if to_shape is None else to_shape, "to_steps", to_steps),
    ):
        schedule = _of_horizon(owner, name, make, checked_steps(owner, argument, steps))
        rates = rates_seen(owner, schedule, steps)
        refuse_all_warmup(owner, argument, rates)
        peaks.append(tuned_scale(rates, rates.size) * float(rates.max()))
    return peak_value * (peaks[1] / peaks[0])


def _refuse_other_horizon(owner: str, shape: Schedule, from_steps: int) -> None:
    """Refuse a schedule whose field is not the horizon: the `steps` of a warmup are those of the warmup."""
    field = _horizon_field(shape)
    if field is not None and not np.array_equal(getattr(shape, field), from_steps):
        raise ValueError(
            f"{owner}: from_steps={from_steps} and shape={format_value(shape)}, whose {field} is "
            f"{format_value(getattr(shape, field))}; write the schedule at its old horizon, or shape=lambda "
            f"steps: ..., which "
            "makes the schedule of a horizon."
        )


def _horizon_field(schedule: Schedule) -> str | None:
    names = [field.name for field in schedule._fields]
    return next((name for name in ("total_steps", "steps") if name in names), None)


def _of_horizon(owner: str, name: str, make: Any, steps: int) -> Schedule:
    function = f"{name}=lambda steps: ..., which makes the schedule of a horizon"
    if isinstance(make, Schedule):
        if (field := _horizon_field(make)) is not None:
            return make.replace(**{field: steps})
        raise ValueError(f"{owner}: {name}={format_value(make)} has no field total_steps; write {function}.")
    if not callable(make):
        raise TypeError(f"{owner}: {name}={format_value(make)}; write a schedule, or {function}.")
    schedule = make(steps)
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{owner}: {name}({steps}) is {format_value(schedule)}; write {function}.")
    return schedule
