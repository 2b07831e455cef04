"""`jaxsched show`, `jaxsched lint` and `jaxsched compare`: values of schedules, findings, and differences."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from tyro import conf

from .. import inspect
from ..inspect.format import number
from ..schedules import Schedule
from ..units import Timeline
from .console import console, print_json, print_text, table
from .errors import FINDINGS, fail
from .reading import MOST_STEPS, UNKNOWN, Expression, Horizon, MaybeX, Steps, notable_steps

_DIGITS = 6  # as many as a float32 has
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_NAMES = "abcdefghijklmnopqrstuvwxyz"
_MOST_COMPARED = 2**22  # a longer horizon is sampled at this many steps


def show(
    expression: Expression,
    at: Steps = (),
    horizon: Horizon = UNKNOWN,
    log: bool = False,
    b2: MaybeX = None,
    json: bool = False,
) -> None:
    """Show a schedule: its values, its plot, and findings of lint.

    The default steps are both ends, the boundaries of the phases, the peak, jumps and restarts. A training of N steps
    makes updates at steps 0 ... N - 1; step N shows the final value. Findings do not change the exit code; jaxsched
    lint returns 1 for them.

    Examples:
      jaxsched show "WarmupCosine(3e-4, warmup_steps='2%', total_steps=10_000)"
      jaxsched show "Linear(0.1, 0.0, steps='3ep')" --steps 5ep --steps-per-epoch 390
      jaxsched show "OneCycle(0.1, total_steps=1_000)" --at 0 30% 999 --log
      jaxsched show "Linear(0.1, 0.0, 100).warmup(10)" --json

    Args:
        expression: The schedule, as repr prints it and parse reads it.
        at: Steps to show, such as 0 100 5% 3ep.
        log: Use a logarithmic axis.
        b2: Adam's b2, to check that the warmup is long enough for it.
        json: Print JSON: the expression, the steps, the values, the outline and the findings.
    """
    schedule = horizon.read(expression)
    total = horizon.total(schedule)
    outline, findings = inspect.outline(schedule, total), inspect.lint(schedule, total, b2=b2)
    steps = horizon.lengths(at, total) if at else notable_steps(outline, total)
    column = _values(schedule, steps)
    if json:
        course = {**outline._asdict(), "first_step": 0, "last_step": total - 1}
        rows = {"steps": steps, "values": column, "outline": course, "findings": findings}
        print_json({"expression": repr(schedule), "total_steps": total, **rows})
        return
    print_text(repr(schedule), style="bold")
    _print_values(steps, [column], ["value"], horizon.timeline(total))
    _draw([schedule], total, log, [""])
    _print_findings(findings)


def lint(
    expression: Expression,
    horizon: Horizon = UNKNOWN,
    b2: MaybeX = None,
    json: bool = False,
) -> None:
    """Find likely mistakes in a schedule: jumps, a peak that is never reached, a horizon that is not covered.

    Exit codes: 1 if there is an error or a warning, 0 if there is none (notes do not count), 2 if EXPR is invalid.

    Examples:
      jaxsched lint "WarmupCosine(3e-4, warmup_steps=200, total_steps=10_000)" --steps 10000
      jaxsched lint "WarmupCosine(3e-4, warmup_steps=200, total_steps=10_000)" --b2 0.95 --json

    Args:
        expression: The schedule.
        b2: Adam's b2, to check that the warmup is long enough for it.
        json: Print JSON: a list of findings.
    """
    schedule = horizon.read(expression)
    total = horizon.total(schedule)
    findings = inspect.lint(schedule, total, b2=b2)
    if json:
        print_json(findings)
    else:
        _print_findings(findings)
        if not findings:
            print_text(f"no findings in steps 0 ... {total:,}")
    if any(finding.severity in ("error", "warning") for finding in findings):
        raise SystemExit(FINDINGS)


def compare(
    expressions: Annotated[tuple[str, ...], conf.arg(metavar="EXPR EXPR [EXPR ...]")],
    at: Steps = (),
    horizon: Horizon = UNKNOWN,
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
    named = dict(zip(_NAMES, schedules, strict=False))
    differences = _differences(named, total, tolerance)
    same = all(one["same"] for one in differences)
    steps = horizon.lengths(at, total)
    if not at:
        found = {total * part // 4 for part in range(5)} | {one["step"] for one in differences if not one["identical"]}
        steps = sorted(found.union(*(notable_steps(inspect.outline(s, total), total, most=12) for s in schedules)))
    columns = [_values(schedule, steps) for schedule in schedules]
    if json:
        head = {"expressions": [repr(s) for s in schedules], "total_steps": total, "same": same}
        print_json({**head, "differences": differences, "steps": steps, "values": columns})
    else:
        for name, schedule in named.items():
            print_text(f"{name} = {schedule!r}", style="bold")
        _print_values(steps, columns, list(named), horizon.timeline(total))
        for one in differences:
            print_text(_sentence(one, total))
        _draw(schedules, total, log)
    if exit_code and not same:
        raise SystemExit(FINDINGS)


def _differences(named: dict[str, Schedule], total: int, tolerance: float) -> list[dict[str, Any]]:
    """How each schedule differs from the first: by how much, where, and from which step on."""
    whole = total < _MOST_COMPARED
    steps = np.arange(total + 1) if whole else np.unique(np.linspace(0, total, _MOST_COMPARED).astype(np.int64))
    (_, first), *others = [(name, _values(schedule, steps)) for name, schedule in named.items()]
    a, found = first.astype(np.float64), []
    bound = tolerance * float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    for name, other in others:
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
    both = " and ".join(number(value, _DIGITS) for value in one["values"])
    largest = f"the largest difference is {number(one['largest'], _DIGITS)} at step {one['step']:,} ({both})"
    if one["same"]:
        return f"{a} and {b} are equal {which} up to rounding: {largest}"
    apart = f"{one['steps_apart']:,} of {count} steps, from step {one['first_step']:,} on"
    return f"{a} and {b} differ at {apart}; {largest}"


def _values(schedule: Schedule, steps: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(schedule(np.asarray(steps))), np.shape(steps))


def _print_findings(findings: list[inspect.Finding]) -> None:
    for finding in findings:
        print_text(str(finding), style=_STYLES.get(finding.severity, ""))


def _print_values(steps: list[int], columns: list[Any], names: list[str], timeline: Timeline) -> None:
    """Prints a table of values at steps, with the epochs and tokens if their sizes are known."""
    epoch, tokens = timeline.steps_per_epoch, timeline.tokens_per_step
    sizes = {"epoch": 1 / epoch} if epoch else {}
    sizes |= {"tokens": tokens} if tokens else {}
    beyond = any(step > timeline.total_steps for step in steps)
    made = table("step", *sizes, *names, *[""] * beyond)
    for i, step in enumerate(steps):
        units = [f"{step * size:,.{_DIGITS}g}" for size in sizes.values()]
        mark = ["beyond the end"] * (step > timeline.total_steps)
        made.add_row(f"{step:,}", *units, *(number(column[i], _DIGITS) for column in columns), *mark)
    console().print(made)


def _draw(schedules: list[Schedule], total: int, log: bool, labels: list[str] | None = None) -> None:
    """Plots schedules over the width of the terminal."""
    out = console()
    colour = out.is_terminal and out.color_system is not None
    steps, scale = min(total + 1, MOST_STEPS), "log" if log else "linear"
    text = inspect.terminal_plot(schedules, steps, width=out.width, scale=scale, color=colour, labels=labels)
    print(text.strip("\n"))
