"""`jaxsched compare`: where schedules differ, and by how much."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from tyro import conf

from ..inspect.format import number
from ..schedules.base import Schedule
from .console import print_json, print_text
from .errors import FINDINGS, fail
from .reading import UNKNOWN, Horizon, notable_steps, outlined, values
from .show import DIGITS, draw, print_values

_NAMES = "abcdefghijklmnopqrstuvwxyz"

_MOST_STEPS = 2**22
"""A longer horizon is sampled at this many steps."""


def compare(
    expressions: Annotated[conf.Positional[tuple[str, ...]], conf.arg(metavar="EXPR EXPR [EXPR ...]")],
    at: Annotated[tuple[str, ...], conf.arg(metavar="[STEP ...]")] = (),
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
    tolerance: float = 1e-6,
    exit_code: bool = False,
    log: bool = False,
    json: bool = False,
) -> None:
    """Compare schedules: their values side by side, where they differ most, and their plots.

    Two values are equal if they differ by at most the tolerance times the largest value of the first schedule. Every
    step of the horizon is compared; of more than 4 million steps, 4 million evenly spaced ones.

    Exit codes: 0; with --exit-code 1 if the schedules differ, as diff has it; 2 if an EXPR is invalid.

    Examples:
      jaxsched compare "Linear(0.1, 0.0, 100)" "Cosine(0.1, 0.0, 100)"
      jaxsched compare "Cosine(0.1, 0.0, 90)" "compat.torch.CosineAnnealingLR(0.1, T_max=90)" --steps 90 --exit-code
      jaxsched compare "Linear(0.1, 0.0, 100)" "Cosine(0.1, 0.0, 100)" "Rex(0.1, 0.0, 100)" --at 25% 50% 75% --json

    Args:
        expressions: Two schedules or more; each is compared with the first.
        at: Steps to show, such as 0 100 5% 3ep.
        tolerance: Largest difference of equal values, relative to the largest value.
        exit_code: Exit with 1 if the schedules differ.
        log: Use a logarithmic axis.
        json: Print JSON.
    """
    if not 2 <= len(expressions) <= len(_NAMES):
        fail(f"compare takes from 2 to {len(_NAMES)} expressions, and got {len(expressions)}")
    if not tolerance >= 0:
        fail(f"--tolerance {tolerance}: write 0 or more")
    schedules = [horizon.read(text) for text in expressions]
    total = horizon.total(*schedules)
    differences = _differences(schedules, total, tolerance)
    steps = horizon.lengths(at, total) if at else _steps(schedules, differences, total)
    same = all(one["same"] for one in differences)
    columns = [values(schedule, steps) for schedule in schedules]
    if json:
        head = {"expressions": [repr(s) for s in schedules], "total_steps": total, "same": same}
        print_json({**head, "differences": differences, "steps": steps, "values": columns})
    else:
        for name, schedule in zip(_NAMES, schedules, strict=False):
            print_text(f"{name} = {schedule!r}", style="bold")
        print_values(steps, columns, list(_NAMES[: len(schedules)]), horizon.timeline(total))
        for one in differences:
            print_text(_sentence(one, total))
        draw(schedules, total, log)
    if exit_code and not same:
        raise SystemExit(FINDINGS)


def _steps(schedules: list[Schedule], differences: list[dict[str, Any]], total: int) -> list[int]:
    """The quarters of the horizon, the notable steps of each schedule, and where they differ most."""
    steps = {total * part // 4 for part in range(5)}
    steps |= {one["step"] for one in differences if not one["identical"]}
    return sorted(steps.union(*(notable_steps(outlined(s, total), total, most=12) for s in schedules)))


def _differences(schedules: list[Schedule], total: int, tolerance: float) -> list[dict[str, Any]]:
    """How each schedule differs from the first: by how much, where, and from which step on."""
    whole = total < _MOST_STEPS
    steps = np.arange(total + 1) if whole else np.unique(np.linspace(0, total, _MOST_STEPS).astype(np.int64))
    first = values(schedules[0], steps)
    a = first.astype(np.float64)
    bound = tolerance * float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    found = []
    for name, schedule in zip(_NAMES[1:], schedules[1:], strict=False):
        other = values(schedule, steps)
        b = other.astype(np.float64)
        alike = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            apart = np.where(alike, 0.0, np.abs(a - b))
        apart = np.where(np.isnan(apart), np.inf, apart)
        at, over = int(np.argmax(apart)), np.flatnonzero(apart > bound)
        found.append(
            {
                "schedules": ["a", name],
                "same": not over.size,
                "identical": bool(alike.all()),
                "largest": apart[at].astype(first.dtype),
                "step": int(steps[at]),
                "values": [first[at], other[at]],
                "first_step": int(steps[over[0]]) if over.size else None,
                "steps_apart": int(over.size),
                "steps_compared": len(steps),
                "every_step": whole,
            }
        )
    return found


def _sentence(one: dict[str, Any], total: int) -> str:
    a, b = one["schedules"]
    count = f"{one['steps_compared']:,}"
    which = f"at every step 0 ... {total:,}" if one["every_step"] else f"at {count} sampled steps"
    if one["identical"]:
        return f"{a} and {b} are identical {which}"
    both = " and ".join(number(value, DIGITS) for value in one["values"])
    largest = f"the largest difference is {number(one['largest'], DIGITS)} at step {one['step']:,} ({both})"
    if one["same"]:
        return f"{a} and {b} are equal {which} up to rounding: {largest}"
    apart = f"{one['steps_apart']:,} of {count} steps, from step {one['first_step']:,} on"
    return f"{a} and {b} differ at {apart}; {largest}"
