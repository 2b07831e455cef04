"""`jaxsched show` and `jaxsched lint`: the values of a schedule, and findings about it."""

from __future__ import annotations

from typing import Annotated, Any

from tyro import conf

from ..inspect.format import number
from ..schedules.base import Schedule
from ..units import Timeline
from .console import console, print_json, print_text, table
from .errors import FINDINGS, refusals
from .reading import MOST_STEPS, UNKNOWN, Horizon, notable_steps, outlined, values

DIGITS = 6
"""As many as a float32 has."""

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}

Expression = Annotated[str, conf.arg(metavar="EXPR")]
B2 = Annotated[float | None, conf.arg(metavar="X")]


def show(
    expression: Expression,
    at: Annotated[tuple[str, ...], conf.arg(metavar="[STEP ...]")] = (),
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
    log: bool = False,
    b2: B2 = None,
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
    outline = outlined(schedule, total)
    findings = _findings(schedule, total, b2)
    steps = horizon.lengths(at, total) if at else notable_steps(outline, total)
    column = values(schedule, steps)
    if json:
        course = {**outline._asdict(), "first_step": 0, "last_step": total - 1}
        rows = {"steps": steps, "values": column, "outline": course, "findings": findings}
        print_json({"expression": repr(schedule), "total_steps": total, **rows})
        return
    print_text(repr(schedule), style="bold")
    print_values(steps, [column], ["value"], horizon.timeline(total))
    draw([schedule], total, log, [""])
    _print_findings(findings)


def lint(
    expression: Expression,
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
    b2: B2 = None,
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
    findings = _findings(schedule, total, b2)
    if json:
        print_json(findings)
    else:
        _print_findings(findings)
        if not findings:
            print_text(f"no findings in steps 0 ... {total:,}")
    if any(finding.severity in ("error", "warning") for finding in findings):
        raise SystemExit(FINDINGS)


def _findings(schedule: Schedule, total: int, b2: float | None) -> list[Any]:
    from ..inspect.lint import lint as findings_of

    with refusals():
        return findings_of(schedule, total, b2=b2)


def _print_findings(findings: list[Any]) -> None:
    for finding in findings:
        print_text(str(finding), style=_STYLES.get(finding.severity, ""))


def print_values(steps: list[int], columns: list[Any], names: list[str], timeline: Timeline | None) -> None:
    """Prints a table of values at steps, with the epochs and tokens if their sizes are known."""
    units: dict[str, float] = {}
    if timeline is not None and timeline.steps_per_epoch is not None:
        units["epoch"] = 1 / timeline.steps_per_epoch
    if timeline is not None and timeline.tokens_per_step is not None:
        units["tokens"] = timeline.tokens_per_step
    beyond = [timeline is not None and step > timeline.total_steps for step in steps]
    made = table("step", *units, *names, *[""] * any(beyond))
    for i, step in enumerate(steps):
        sizes = [f"{step * size:,.{DIGITS}g}" for size in units.values()]
        marks = ["beyond the end" * beyond[i]] * any(beyond)
        made.add_row(f"{step:,}", *sizes, *(number(column[i], DIGITS) for column in columns), *marks)
    console().print(made)


def draw(schedules: list[Schedule], total: int, log: bool, labels: list[str] | None = None) -> None:
    """Plots schedules over the width of the terminal."""
    from ..inspect import terminal_plot

    out = console()
    colour = out.is_terminal and out.color_system is not None
    steps, scale = min(total + 1, MOST_STEPS), "log" if log else "linear"
    with refusals():
        text = terminal_plot(schedules, steps, width=out.width, scale=scale, color=colour, labels=labels)
    print(text.strip("\n"))
