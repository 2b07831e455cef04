"""`jaxsched plot`: schedules in a picture, or in a page that answers to the mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from tyro import conf

from ..inspect.plot import PHASES
from ..schedules.base import Schedule
from ..schedules.structure import axes
from ..units import Timeline
from .errors import fail, refusals, say
from .reading import UNKNOWN, Horizon

_MOST_LINES = 200
"""Of a page: more of them no mouse can tell apart."""

_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")

Unit = Literal["step", "epoch", "token"]


def plot(
    expressions: Annotated[conf.Positional[tuple[str, ...]], conf.arg(metavar="EXPR [EXPR ...]")],
    output: Annotated[Path | None, conf.arg(aliases=["-o"], metavar="FILE")] = None,
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
    unit: Unit = "step",
    log: bool = False,
    momentum: Annotated[str | None, conf.arg(metavar="EXPR")] = None,
    title: Annotated[str | None, conf.arg(metavar="TEXT")] = None,
) -> None:
    """Draw schedules into a file: a picture (png, svg, pdf) or a page that answers to the mouse (html).

    A schedule with lists for numbers is a family, with a colour for each of its settings. Its lists are equally long
    and go together, the first number with the first: Linear([0.1, 0.2], [0.0, 0.01], 100) is two settings, where the
    --set of jaxsched sweep would make all four. The page needs plotly and holds its script, so that it works offline.

    Examples:
      jaxsched plot "WarmupCosine(3e-4, warmup_steps=500, total_steps=10_000)" -o schedule.png
      jaxsched plot "Linear(0.1, 0.0, 100)" "Cosine(0.1, 0.0, 100)" -o both.svg --title "Two ways down"
      jaxsched plot "OneCycle(0.1, 1_000)" --momentum "OneCycleMomentum(0.85, 0.95, 1_000)" -o cycle.png
      jaxsched plot "StepDecay(0.1, 0.5, '30ep')" --steps 90ep --steps-per-epoch 10 --unit epoch -o steps.html

    Args:
        expressions: The schedules.
        output: The file; its ending says the kind.
        unit: Of the axis; epochs need --steps-per-epoch, and tokens --tokens-per-step.
        log: A logarithmic axis of values.
        momentum: A schedule of the momentum, which is drawn beside the rate.
        title: Over the picture.
    """
    if not expressions:
        fail('there is nothing to draw; write an expression, such as "Linear(0.1, 0.0, steps=100)"')
    if output is None:
        fail("there is no file to draw to; write -o schedule.png, .svg, .pdf or .html")
    check_picture(output, (".html", ".htm"))
    schedules = [horizon.read_family(text) for text in expressions]
    other = None if momentum is None else horizon.read_family(momentum)
    total = horizon.total(*(s for s in schedules if not _stacked(s))) if not all(map(_stacked, schedules)) else None
    total = total if total is not None else _of_families(horizon, schedules)
    timeline = horizon.timeline(total)
    assert timeline is not None
    if unit != "step" and (timeline.steps_per_epoch if unit == "epoch" else timeline.tokens_per_step) is None:
        flag = "--steps-per-epoch" if unit == "epoch" else "--tokens-per-step"
        fail(f"--unit {unit} has no size; write {flag} N too")
    steps = _drawn_steps([*schedules, *([other] if other is not None else [])], timeline.total_steps)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() in (".html", ".htm"):
        _page(schedules, other, timeline, steps, unit, log, title, output)
    else:
        _picture(schedules, other, timeline, steps, unit, log, title, output)
    say(f"wrote {output}")


def _stacked(schedule: Schedule) -> bool:
    return not axes(schedule) <= {0}


def _drawn_steps(schedules: list[Schedule], total: int) -> int:
    """How many steps are drawn: those of the training, and the value that it comes to, unless that is a jump away from
    it: a stair or a cycle that begins where the training is over."""
    from ..inspect.phases import outline

    most = min(total + 1, 2**31 - 1)
    for schedule in schedules:
        if most <= total or _stacked(schedule):
            continue
        with refusals():
            found = outline(schedule, most)
        if total in found.restarts or any(jump.step == total for jump in found.jumps):
            return total
    return most


def _of_families(horizon: Horizon, schedules: list[Schedule]) -> int:
    """How long families move: the longest of their settings."""
    timeline = horizon.timeline()
    if timeline is not None:
        return timeline.total_steps
    from ..inspect.curves import groups
    from ..inspect.curves import horizon as longest

    with refusals():
        found = longest("plot", groups("plot", schedules), None, None)
    assert isinstance(found, int)
    return found


def _picture(
    schedules: list[Schedule],
    momentum: Schedule | None,
    timeline: Timeline,
    steps: int,
    unit: Unit,
    log: bool,
    title: str | None,
    output: Path,
) -> None:
    from ..inspect import plot as draw

    scale = "log" if log else "linear"
    options: dict[str, Any] = {"unit": unit, "timeline": timeline, "scale": scale, "momentum": momentum, "title": title}
    with refusals():
        draw(schedules if len(schedules) > 1 else schedules[0], steps, path=output, **options)


def check_picture(output: Path, others: tuple[str, ...] = ()) -> None:
    """Refuses a file that matplotlib cannot draw into; but for those of other endings, which are not its own."""
    if output.suffix.lower() in others:
        return
    try:
        import matplotlib
    except ImportError:
        raise ImportError('a picture needs matplotlib: pip install "jaxsched[plot]"') from None
    matplotlib.use("Agg")  # a file needs no window
    if output.suffix.lower() not in _PICTURES:
        fail(f"-o {output}: no picture ends so; write {', '.join((*_PICTURES, *others[:1]))}")


def _page(
    schedules: list[Schedule],
    momentum: Schedule | None,
    timeline: Timeline,
    steps: int,
    unit: Unit,
    log: bool,
    title: str | None,
    output: Path,
) -> None:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise ImportError('a page needs plotly: pip install "jaxsched[report]"') from None
    size = {"step": 1.0, "epoch": 1 / (timeline.steps_per_epoch or 1), "token": timeline.tokens_per_step or 1.0}[unit]
    named = {"step": "step", "epoch": "epoch", "token": "tokens"}
    figure: Any = go.Figure()
    for i, (label, at, values) in enumerate(_lines(schedules, steps)):
        figure.add_scatter(x=at * size, y=values, name=label, mode="lines", line={"width": 2}, legendrank=i)
    for label, at, values in _lines([momentum], steps) if momentum is not None else []:
        line = {"width": 2, "dash": "dot"}
        figure.add_scatter(x=at * size, y=values, name=f"momentum: {label}", yaxis="y2", mode="lines", line=line)
    _shade(figure, schedules, timeline, size)
    figure.update_layout(
        title=title,
        hovermode="x unified",
        template="plotly_white",
        legend={"orientation": "h", "yanchor": "bottom", "y": -0.35},
        xaxis_title=named[unit],
        yaxis={"title": "learning rate", "type": "log" if log else "linear", "exponentformat": "power"},
        yaxis2={"title": "momentum", "overlaying": "y", "side": "right", "showgrid": False},
    )
    figure.write_html(output, include_plotlyjs=True, full_html=True, config={"responsive": True, "displaylogo": False})


def _lines(schedules: list[Schedule], steps: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """A label, the steps and the values of each line."""
    from ..inspect.curves import curves, groups

    with refusals():
        members = groups("plot", schedules)
        found = [(m, curves("plot", m, steps)) for m in members]
    lines = [
        (member.label if not member.size else f"{member.label} [{k}]", curve.steps, curve.values)
        for member, several in found
        for k, curve in enumerate(several)
    ]
    if len(lines) > _MOST_LINES:
        fail(f"{len(lines)} settings in one page; write -o family.png, or at most {_MOST_LINES}")
    return lines


def _shade(figure: Any, schedules: list[Schedule], timeline: Timeline, size: float) -> None:
    """The phases of a single schedule, shaded and named."""
    from ..inspect.phases import outline

    if len(schedules) != 1 or _stacked(schedules[0]):
        return
    with refusals():
        phases = outline(schedules[0], timeline.total_steps).phases
    for phase in phases if len(phases) <= 12 else ():
        place = {"x0": phase.start * size, "x1": phase.stop * size, "annotation_text": phase.name}
        figure.add_vrect(**place, fillcolor=PHASES[phase.name], opacity=0.15, line_width=0)
