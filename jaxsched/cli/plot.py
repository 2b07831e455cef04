"""`jaxsched plot`: schedules in a picture or an interactive page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from .. import inspect
from ..inspect.curves import curves, groups
from ..inspect.format import optional
from ..inspect.plot import PHASES
from ..schedules import Schedule
from ..sweep import report_page
from .errors import fail, say
from .reading import MOST_STEPS, UNKNOWN, Horizon, Output, Text, is_stacked

_MOST_LINES = 200  # more lines of a page cannot be told apart
_MOST_PHASES = 12
_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
_PAGES = (".html", ".htm")


def plot(
    expressions: Annotated[tuple[str, ...], conf.arg(metavar="EXPR [EXPR ...]")],
    output: Output = None,
    horizon: Horizon = UNKNOWN,
    unit: Literal["step", "epoch", "token"] = "step",
    log: bool = False,
    momentum: Annotated[str | None, conf.arg(metavar="EXPR")] = None,
    title: Text = None,
) -> None:
    """Draw schedules into a picture (png, svg, pdf) or an interactive page (html).

    A schedule with lists for numbers is a family: one line for each of its settings. The lists have one length, and
    their first numbers make the first setting: Linear([0.1, 0.2], [0.0, 0.01], 100) is two settings (--set of jaxsched
    sweep would make all four combinations). A page needs plotly, contains its script, and works offline.

    Examples:
      jaxsched plot "WarmupCosine(3e-4, warmup_steps=500, total_steps=10_000)" -o schedule.png
      jaxsched plot "Linear(0.1, 0.0, 100)" "Cosine(0.1, 0.0, 100)" -o both.svg --title "Two ways down"
      jaxsched plot "OneCycle(0.1, 1_000)" --momentum "OneCycleMomentum(0.85, 0.95, 1_000)" -o cycle.png
      jaxsched plot "StepDecay(0.1, 0.5, '30ep')" --steps 90ep --steps-per-epoch 10 --unit epoch -o steps.html

    Args:
        expressions: The schedules.
        output: The file; its extension sets the format.
        unit: Unit of the axis; epochs need --steps-per-epoch, and tokens --tokens-per-step.
        log: Use a logarithmic axis of values.
        momentum: A schedule of the momentum, drawn beside the rate.
        title: Title of the picture.
    """
    if not expressions:
        fail('there is nothing to draw; write an expression, such as "Linear(0.1, 0.0, steps=100)"')
    if output is None:
        fail("there is no output file; write -o schedule.png, .svg, .pdf or .html")
    check_picture(output, _PAGES)
    schedules = [horizon.read_family(text) for text in expressions]
    other = None if momentum is None else horizon.read_family(momentum)
    timeline = horizon.timeline(horizon.total(*schedules))
    epoch, tokens = timeline.steps_per_epoch, timeline.tokens_per_step
    size = {"step": 1.0, "epoch": epoch and 1 / epoch, "token": tokens}[unit]
    if size is None:
        fail(f"--unit {unit} needs {'--steps-per-epoch' if unit == 'epoch' else '--tokens-per-step'} N")
    steps, scale = min(timeline.total_steps + 1, MOST_STEPS), "log" if log else "linear"
    if output.suffix.lower() in _PAGES:
        figure = _page(schedules, other, steps, size)
        figure.update_layout(title=title, xaxis_title="tokens" if unit == "token" else unit, yaxis_type=scale)
        shown = {"responsive": True, "displaylogo": False}
        report_page.write(output, figure.to_html(include_plotlyjs=True, full_html=True, config=shown))
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        one = schedules if len(schedules) > 1 else schedules[0]
        inspect.plot(one, steps, path=output, unit=unit, timeline=timeline, scale=scale, momentum=other, title=title)
    say(f"wrote {output}")


def check_picture(output: Path, others: tuple[str, ...] = ()) -> None:
    """Refuses a file that matplotlib cannot draw into, unless its extension is one of `others`."""
    ending = output.suffix.lower()
    if ending not in (*_PICTURES, *others):
        fail(f"-o {output}: unknown picture format; write {', '.join((*_PICTURES, *others[:1]))}")
    if ending not in others:
        optional("matplotlib", "a picture needs", "plot")


def _page(schedules: list[Schedule], momentum: Schedule | None, steps: int, size: float) -> Any:
    """A figure of plotly; `size` is the length of a step in the unit of the axis."""
    figure = optional("plotly.graph_objects", "a page needs", "report").Figure()
    for label, at, values in _lines(schedules, steps):
        figure.add_scatter(x=at * size, y=values, name=label, mode="lines", line={"width": 2})
    for label, at, values in _lines([momentum], steps) if momentum is not None else []:
        line = {"width": 2, "dash": "dot"}
        figure.add_scatter(x=at * size, y=values, name=f"momentum: {label}", yaxis="y2", mode="lines", line=line)
    single = len(schedules) == 1 and not is_stacked(schedules[0])
    phases = inspect.outline(schedules[0], steps - 1).phases if single else ()
    for phase in phases if len(phases) <= _MOST_PHASES else ():
        place = {"x0": phase.start * size, "x1": phase.stop * size, "annotation_text": phase.name}
        figure.add_vrect(**place, fillcolor=PHASES[phase.name], opacity=0.15, line_width=0)
    return figure.update_layout(
        hovermode="x unified",
        template="plotly_white",
        legend={"orientation": "h", "yanchor": "bottom", "y": -0.35},
        yaxis={"title": "learning rate", "exponentformat": "power"},
        yaxis2={"title": "momentum", "overlaying": "y", "side": "right", "showgrid": False},
    )


def _lines(schedules: list[Schedule], steps: int) -> list[tuple[str, Any, Any]]:
    """The label, the steps and the values of each line."""
    lines = [
        (f"{member.label} [{k}]" if member.size else member.label, curve.steps, curve.values)
        for member in groups("plot", schedules)
        for k, curve in enumerate(curves("plot", member.schedules, steps))
    ]
    if len(lines) > _MOST_LINES:
        fail(f"{len(lines)} settings in one page; write -o family.png, or at most {_MOST_LINES}")
    return lines
