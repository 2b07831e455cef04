"""`jaxsched compare`: where schedules differ, and by how much."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from tyro import conf

from ..schedules.base import Schedule
from .console import number, print_json, print_text
from .errors import FINDINGS, fail, refusals
from .reading import UNKNOWN, Horizon, blocks, values, worth_a_look
from .show import draw, print_values

_NAMES = "abcdefghijklmnopqrstuvwxyz"


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

    Two values are the same if they differ by no more than the tolerance times the largest value of the first schedule.
    Every step of the horizon is compared; of more than 4 million steps so many, evenly spread.

    Exit codes: 0; with --exit-code 1 if the schedules differ, as diff has it; 2 if an EXPR is no schedule.

    Examples:
      jaxsched compare "Linear(0.1, 0.0, 100)" "Cosine(0.1, 0.0, 100)"
      jaxsched compare "Cosine(0.1, 0.0, 90)" "compat.torch.CosineAnnealingLR(0.1, T_max=90)" --steps 90 --exit-code
      jaxsched compare "Linear(0.1, 0.0, 100)" "Cosine(0.1, 0.0, 100)" "Rex(0.1, 0.0, 100)" --at 25% 50% 75% --json

    Args:
        expressions: Two schedules or more; each is compared with the first.
        at: The steps to show, such as 0 100 5% 3ep.
        tolerance: By how much values may differ and be the same, as a part of the largest.
        exit_code: Exit with 1 if they differ.
        log: A logarithmic plot.
        json: As JSON.
    """
    if not 2 <= len(expressions) <= len(_NAMES):
        fail(f"compare takes from 2 to {len(_NAMES)} expressions, and got {len(expressions)}")
    if not tolerance >= 0:
        fail(f"--tolerance {tolerance}: write 0 or more")
    schedules = [horizon.read(text) for text in expressions]
    total = horizon.total(*schedules)
    differences = _differences(schedules, total, tolerance)
    worst = {one["step"] for one in differences if not one["identical"]}
    steps = horizon.lengths(at, total) if at else sorted(_steps(schedules, total) | worst)
    same = all(one["same"] for one in differences)
    columns = [values(schedule, steps) for schedule in schedules]
    if json:
        heads = {"expressions": [repr(s) for s in schedules], "total_steps": total, "same": same}
        print_json({**heads, "differences": differences, "steps": steps, "values": columns})
    else:
        for name, schedule in zip(_NAMES, schedules, strict=False):
            print_text(f"{name} = {schedule!r}", style="bold")
        names = list(_NAMES[: len(schedules)])
        print_values(steps, columns, names, horizon.timeline(total))
        for one in differences:
            print_text(_in_words(one, total))
        draw(schedules, total, log)
    if exit_code and not same:
        raise SystemExit(FINDINGS)


def _steps(schedules: list[Schedule], total: int) -> set[int]:
    """The quarters of the horizon, and what is worth a look in each schedule."""
    from ..inspect.phases import outline

    with refusals():
        found = [worth_a_look(outline(schedule, total), total, most=12) for schedule in schedules]
    return {total * part // 4 for part in range(5)}.union(*found)


def _differences(schedules: list[Schedule], total: int, tolerance: float) -> list[dict[str, Any]]:
    """Of each schedule to the first one: the largest difference, where it is, and the first step with one."""
    steps, whole = blocks(total)
    told = values(schedules[0], steps)
    first = told.astype(np.float64)
    finite = np.abs(first[np.isfinite(first)])
    bound = tolerance * float(finite.max(initial=0.0))
    found = []
    for name, schedule in zip(_NAMES[1:], schedules[1:], strict=False):
        others = values(schedule, steps)
        other = others.astype(np.float64)
        alike = (first == other) | (np.isnan(first) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            apart = np.where(alike, 0.0, np.abs(first - other))
        apart = np.where(np.isnan(apart), np.inf, apart)
        at, over = int(np.argmax(apart)), np.flatnonzero(apart > bound)
        found.append(
            {
                "schedules": ["a", name],
                "same": not over.size,
                "identical": bool(alike.all()),
                "largest": apart[at].astype(told.dtype),
                "step": int(steps[at]),
                "values": [told[at], others[at]],
                "first_step": int(steps[over[0]]) if over.size else None,
                "steps_apart": int(over.size),
                "steps_compared": len(steps),
                "every_step": whole,
            }
        )
    return found


def _in_words(one: dict[str, Any], total: int) -> str:
    a, b = one["schedules"]
    count = f"{one['steps_compared']:,}"
    which = f"at every step 0 ... {total:,}" if one["every_step"] else f"at {count} steps that were tried"
    if one["identical"]:
        return f"{a} and {b} are identical {which}"
    both = " and ".join(map(number, one["values"]))
    largest = f"{number(one['largest'])} at step {one['step']:,} ({both})"
    if one["same"]:
        return f"{a} and {b} are the same {which}, but for rounding: the largest difference is {largest}"
    apart = f"{one['steps_apart']:,} of {count} steps, from step {one['first_step']:,} on"
    return f"{a} and {b} differ at {apart}; the largest difference is {largest}"
