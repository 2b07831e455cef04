"""`jaxsched show` and `jaxsched lint`: what a schedule does, and what may be wrong with it."""

from __future__ import annotations

from typing import Annotated, Any

from tyro import conf

from ..schedules.base import Schedule
from ..units import Timeline
from .console import console, number, print_json, print_text, table
from .errors import FINDINGS, refusals
from .reading import UNKNOWN, Horizon, values, worth_a_look

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
    """Show what a schedule does: its values, its plot, and what may be wrong with it.

    Without --at the steps are those that matter: the ends, the borders of the phases, the peak, jumps and restarts. The
    updates of a training of N steps are steps 0 ... N - 1, and step N is what it comes to. Findings are shown and do
    not change the exit code; those of jaxsched lint do.

    Examples:
      jaxsched show "WarmupCosine(3e-4, warmup_steps='2%', total_steps=10_000)"
      jaxsched show "Linear(0.1, 0.0, steps='3ep')" --steps 5ep --steps-per-epoch 390
      jaxsched show "OneCycle(0.1, total_steps=1_000)" --at 0 30% 999 --log
      jaxsched show "Linear(0.1, 0.0, 100).warmup(10)" --json

    Args:
        expression: The schedule, as repr prints it and parse reads it.
        at: The steps to show, such as 0 100 5% 3ep.
        log: A logarithmic plot.
        b2: Adam's b2, which a warmup can be too short for.
        json: As JSON: the expression, the steps, the values, the outline and the findings.
    """
    from ..inspect.lint import lint as findings_of
    from ..inspect.phases import outline as outline_of

    schedule = horizon.read(expression)
    total = horizon.total(schedule)
    with refusals():
        outline = outline_of(schedule, total)
        findings = findings_of(schedule, total, b2=b2)
    steps = horizon.lengths(at, total) if at else worth_a_look(outline, total)
    shown = values(schedule, steps)
    if json:
        ends = {"first_step": 0, "last_step": total - 1}  # of the outline's `first` and `last`: those of the updates
        course = {**outline._asdict(), **ends}
        rows = {"steps": steps, "values": shown, "outline": course, "findings": findings}
        print_json({"expression": repr(schedule), "total_steps": total, **rows})
        return
    print_text(repr(schedule), style="bold")
    print_values(steps, [shown], ["value"], horizon.timeline(total))
    draw([schedule], total, log, [""])
    print_findings(findings)


def lint(
    expression: Expression,
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
    b2: B2 = None,
    json: bool = False,
) -> None:
    """Tell what may be wrong with a schedule: jumps, a peak that is never reached, a horizon that is not covered.

    Exit codes: 1 if there is an error or a warning, 0 if there is none (notes do not count), 2 if EXPR is no schedule.

    Examples:
      jaxsched lint "WarmupCosine(3e-4, warmup_steps=200, total_steps=10_000)" --steps 10000
      jaxsched lint "WarmupCosine(3e-4, warmup_steps=200, total_steps=10_000)" --b2 0.95 --json

    Args:
        expression: The schedule.
        b2: Adam's b2, which a warmup can be too short for.
        json: As JSON, a list of findings.
    """
    from ..inspect.lint import lint as findings_of

    schedule = horizon.read(expression)
    total = horizon.total(schedule)
    with refusals():
        findings = findings_of(schedule, total, b2=b2)
    if json:
        print_json(findings)
    else:
        print_findings(findings, total)
    if any(finding.severity in ("error", "warning") for finding in findings):
        raise SystemExit(FINDINGS)


def print_findings(findings: list[Any], total: int | None = None) -> None:
    """A line for each, the bad ones in colour; with `total` also that there are none."""
    for finding in findings:
        print_text(str(finding), style=_STYLES.get(finding.severity, ""))
    if not findings and total is not None:
        print_text(f"nothing was found in steps 0 ... {total:,}")


def print_values(steps: list[int], columns: list[Any], names: list[str], timeline: Timeline | None) -> None:
    """A table of values at steps, which are epochs and tokens too where those have a size."""
    units: dict[str, float] = {}
    if timeline is not None and timeline.steps_per_epoch is not None:
        units["epoch"] = 1 / timeline.steps_per_epoch
    if timeline is not None and timeline.tokens_per_step is not None:
        units["tokens"] = timeline.tokens_per_step
    beyond = [timeline is not None and step > timeline.total_steps for step in steps]
    made = table("step", *units, *names, *[""] * any(beyond))
    for i, step in enumerate(steps):
        sizes = [f"{step * size:,.6g}" for size in units.values()]
        marks = ["beyond the end" * beyond[i]] * any(beyond)
        made.add_row(f"{step:,}", *sizes, *(number(column[i]) for column in columns), *marks)
    console().print(made)


def draw(schedules: list[Schedule], total: int, log: bool, labels: list[str] | None = None) -> None:
    """The plot of the terminal, as wide as it is."""
    from ..inspect import terminal_plot

    out = console()
    colour = out.is_terminal and out.color_system is not None
    scale = "log" if log else "linear"
    with refusals():
        text = terminal_plot(
            schedules, min(total + 1, 2**31 - 1), width=out.width, scale=scale, color=colour, labels=labels
        )
    print(text.strip("\n"))
