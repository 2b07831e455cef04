"""Schedules as a matplotlib figure."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from .._errors import FieldError, FieldTypeError, nearest_name
from ..units import Timeline
from .curves import Drawing, Group, curves, drawing, groups, varied
from .format import count, cut, number, optional, texts
from .phases import Curve, Outline, outline

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette for every colour vision, without its yellow, which is too pale on white."""

_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""4 line styles beside 7 colours: no two of 28 curves share both, and neighbours share neither."""

PHASES = {"warmup": "#E69F00", "rise": "#CC79A7", "stable": "#8C8C8C", "decay": "#56B4E9"}

_MANY = 48  # from this many curves on, a family is drawn with thin lines
_MOST_RESTARTS = 60

_FEW_POINTS = 24  # up to this many points of a curve, each is marked


def plot(
    schedules: Any,
    steps: Any = None,
    *,
    unit: Literal["step", "epoch", "token"] = "step",
    timeline: Timeline | None = None,
    scale: Literal["linear", "log"] = "linear",
    phases: bool | None = None,
    momentum: Any = None,
    labels: str | Sequence[str] | None = None,
    title: str | None = None,
    ax: Any = None,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw schedules with matplotlib; needs `pip install "jaxsched[plot]"`.

    Jumps are drawn upright. Several schedules differ in colour and in line style.

    Args:
        schedules: A schedule, a callable (an Optax schedule), a number, a list of these, or a dict with their names.
            A stacked schedule (`grid`, `stack`, `sample`) is drawn as a family: a colour bar shows the hyperparameter
            with the most values, and line styles or the title show the others that differ.
        steps: The horizon: steps `0 ... steps - 1` are drawn; or an array of steps; or a text such as '3ep', converted
            by `timeline`. None: the horizon of the timeline, or the longest of the schedules.
        unit: The unit of the x axis: 'step', 'epoch' or 'token'.
        timeline: A `Timeline` with the `steps_per_epoch` or `tokens_per_step` that the unit needs.
        scale: 'linear' or 'log' for the values. A logarithmic axis begins six powers of ten below the peak, or lower
            if a twentieth of the steps is; zeros are drawn there.
        phases: Whether to shade and name the phases and to mark the restarts. None: for a single schedule.
        momentum: A schedule, or a list with one for each of the schedules, drawn on a panel below.
        labels: A name, or a list with one name for each schedule. For a stacked schedule, the hyperparameter that sets
            the colours.
        title: The title. None: the schedule's expression. An empty text: no title.
        ax: The Axes to draw on; the momentum takes their lower part. None: the Axes of a new Figure, which pyplot
            does not manage, so there is nothing to close.
        path: A file to save the figure in; its ending sets the kind: `.png`, `.svg`, `.pdf`.

    Returns:
        The Axes of the schedules. In a notebook, `plot(s).figure` displays itself.

    Raises:
        ValueError: If no schedule has an end and `steps` is None, and for values below 0 on a logarithmic axis.

    Example:
        >>> import jaxsched as js
        >>> from jaxsched.inspect import plot
        >>> family = plot(js.grid(js.WarmupCosine, peak_value=[1e-4, 1e-3, 1e-2], warmup_steps=50, total_steps=1_000))
        >>> [axes.get_ylabel() for axes in family.figure.axes]
        ['learning rate', 'peak_value']
    """
    optional("matplotlib.figure", "plots need", "plot")
    drawn = drawing("plot", schedules, steps, labels, scale, timeline)
    first, single = drawn.groups[0], len(drawn.groups) == 1 and not drawn.groups[0].size
    if phases and not single:
        raise FieldError("plot", "phases", True, "draw one schedule alone, or write phases=False")
    per, unit_name = _unit(unit, timeline)
    beside = _momenta(momentum, drawn.groups)
    kind = _file_kind(path)
    main, below = _panels(ax, beside is not None)
    family = _Family(first, labels) if len(drawn.groups) == 1 and first.size else None
    styles = [family.styles()] if family else _styles(drawn.groups)
    _draw_curves(main, drawn.groups, drawn.lines, styles, per)
    panels = [main]
    if beside is not None:
        _draw_curves(below, beside, [curves("plot", member.schedules, drawn.steps) for member in beside], styles, per)
        below.set_ylabel("momentum")
        panels.append(below)
    main.set_ylabel("learning rate")
    _set_axes(panels, drawn, per, unit_name)
    named = False
    if single and phases is not False:
        last = drawn.steps if isinstance(drawn.steps, int) else int(drawn.steps[-1]) + 1
        named = _draw_phases(main, outline(first.schedule, last), drawn.lines[0][0], per)
    elif family:
        family.draw_keys(main, panels)
    elif len(drawn.groups) > 1:
        _draw_legend(main, own=ax is None)
    if title is None:
        text = family.title() if family else first.label if single else ""
        title = "\n".join(textwrap.wrap(text, 88, max_lines=2, placeholder=" ..."))
    main.set_title(title, fontsize="medium", pad=20 if named else 6)
    if path is not None:
        _save(main.figure, path, kind)
    return main


# --- arguments -------------------------------------------------------------------------------------------------------


def _unit(unit: str, timeline: Timeline | None) -> tuple[float, str]:
    """Return the length of a step in the unit, and the label of the axis."""
    if unit == "step":
        return 1.0, "step"
    needs = {"epoch": "steps_per_epoch", "token": "tokens_per_step"}
    if unit not in needs:
        raise FieldError("plot", "unit", unit, nearest_name(str(unit), ["step", *needs]))
    size = getattr(timeline, needs[unit], None)
    if size is None:
        note = f" needs the {needs[unit].replace('_', ' ')}"
        instead = f"write timeline=Timeline(total_steps, {needs[unit]}=...)"
        raise FieldError("plot", "unit", unit, instead, note=note, needs="timeline")
    return (1 / float(size), "epoch") if unit == "epoch" else (float(size), "tokens")


def _momenta(momentum: Any, members: list[Group]) -> list[Group] | None:
    if momentum is None:
        return None
    beside = groups("plot", momentum, name="momentum")
    pairs = zip([max(m.size, 1) for m in members], [max(m.size, 1) for m in beside], strict=False)
    if len(beside) not in (1, len(members)) or any(many not in (1, rates) for rates, many in pairs):
        have = f" has {sum(max(m.size, 1) for m in beside)} schedules, and there are "
        have += f"{sum(max(m.size, 1) for m in members)} of the rate"
        raise FieldError("plot", "momentum", momentum, "write one for all, or one for each", note=have)
    return beside


def _file_kind(path: Any) -> str | None:
    if path is None:
        return None
    from matplotlib.backend_bases import FigureCanvasBase

    kind = os.path.splitext(os.fspath(path))[1].removeprefix(".").lower()
    if kind not in FigureCanvasBase.get_supported_filetypes():
        raise FieldError("plot", "path", os.fspath(path), "end it with .png, .svg or .pdf")
    return kind


def _panels(ax: Any, two: bool) -> tuple[Any, Any]:
    """Return the Axes of the rates, and those of the momentum below them (None without one)."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        ax = Figure(figsize=(8.0, 5.4 if two else 4.2), layout="constrained").subplots()
    if not isinstance(ax, Axes):
        raise FieldTypeError("plot", "ax", ax, "write the Axes of matplotlib to draw on, or leave it out")
    if not two:
        return ax, None
    figure, cell = ax.figure, ax.get_subplotspec()
    if cell is not None:
        upper, lower = cell.subgridspec(2, 1, height_ratios=[5, 2])
        ax.set_subplotspec(upper)
        below = figure.add_subplot(lower, sharex=ax)
    else:
        box = ax.get_position()
        ax.set_position((box.x0, box.y0 + 0.32 * box.height, box.width, 0.68 * box.height))
        below = figure.add_axes((box.x0, box.y0, box.width, 0.28 * box.height), sharex=ax)
    ax.tick_params(labelbottom=False)
    return ax, below


# --- curves ----------------------------------------------------------------------------------------------------------


def _styles(members: list[Group]) -> list[list[dict[str, Any]]]:
    """Return the style of each curve of each group; the curves of a stack share one."""
    found = []
    for i, member in enumerate(members):
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": _LINES[i % len(_LINES)], "linewidth": 1.8}
        if member.size:
            style |= {"linewidth": 0.8, "alpha": max(0.25, min(1.0, (_MANY / 2 / member.size) ** 0.5))}
        found.append([style] * max(member.size, 1))
    return found


def _draw_curves(ax: Any, members: list[Group], lines: list[list[Curve]], styles: list[list[Any]], per: float) -> None:
    for i, (member, group) in enumerate(zip(members, lines, strict=True)):
        for j, curve in enumerate(group):
            # One momentum for all rates is grey, as it belongs to none of them.
            shared = len(members) < len(styles) or (len(styles) == 1 and len(group) < len(styles[0]))
            style = {"color": "0.35", "linewidth": 1.5} if shared else styles[i][j]
            few = len(curve.steps) <= _FEW_POINTS
            mark = {"marker": "o", "markersize": 3.5, "clip_on": False} if few else {}
            label = member.label if j == 0 else "_nolegend_"
            ax.plot(curve.steps * per, curve.values, label=label, solid_joinstyle="round", **style, **mark)


def _set_axes(panels: list[Any], drawn: Drawing, per: float, unit_name: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if drawn.ground is not None:
        panels[0].set_yscale("log", nonpositive="clip")
        panels[0].set_ylim(drawn.ground / 1.6, drawn.high * 1.6)
    elif drawn.from_zero:
        panels[0].set_ylim(-0.02 * drawn.high, 1.05 * drawn.high)
    low, high = drawn.ends
    for panel in panels:
        panel.set_xlim(low * per, high * per)
        panel.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=per >= 1))
        panel.xaxis.set_major_formatter(_formatter(count))
        bottom, top = panel.get_ylim()
        if panel.get_yscale() == "log" and top < 300 * bottom:
            panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(_formatter(number))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(unit_name)


def _formatter(write: Callable[[Any, int], str]) -> Any:
    """Return a matplotlib formatter that writes all labels of an axis in one style."""
    from matplotlib.ticker import FuncFormatter

    formatter: Any = FuncFormatter(lambda x, _: write(x, 4))
    formatter.format_ticks = lambda values: texts(values, write)
    return formatter


# --- phases, families and legends ------------------------------------------------------------------------------------


def _draw_phases(ax: Any, found: Outline, curve: Curve, per: float) -> bool:
    """Shade the phases and mark the restarts, with a legend above the frame; return whether there is one."""
    end = ax.get_xlim()[1]
    keys: dict[str, Any] = {}
    for phase in found.phases:
        if phase.start * per < end:
            span = (phase.start * per, min(phase.stop * per, end))
            keys[phase.name] = ax.axvspan(*span, color=PHASES[phase.name], alpha=0.2, linewidth=0, zorder=0)
    at = np.asarray([r for r in found.restarts if r * per <= end], np.int64)
    if len(at):
        many = len(at) > _MOST_RESTARTS
        style = {"marker": "^", "s": 34, "facecolor": "white", "edgecolor": COLOURS[1], "linewidth": 1.4}
        values = curve.values[np.searchsorted(curve.steps, at, side="right") - 1]
        marks = ax.scatter(*((at * per, values) if not many else ([], [])), zorder=3, **style)
        name = f"over {_MOST_RESTARTS} restarts" if many else f"{len(at)} restart{'s' * (len(at) > 1)}"
        keys[name] = marks
    look = {"ncols": len(keys), "frameon": False, "fontsize": "small", "columnspacing": 1.4, "handletextpad": 0.5}
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.1, "handlelength": 1.2}
    ax.legend(keys.values(), keys.keys(), **look, **place)
    return bool(keys)


class _Family:
    """The keys of a stack: colours for one hyperparameter, and line styles for a second with few values."""

    def __init__(self, member: Group, field: Any):
        import matplotlib as mpl
        from matplotlib.colors import ListedColormap, LogNorm, Normalize

        self.member, self.differ = member, varied(member.schedule)
        if isinstance(field, str) and field not in self.differ:
            instead = nearest_name(field, self.differ)
            raise FieldError("plot", "labels", field, instead, note=" does not differ in this stack")
        sizes = {name: len(np.unique(values)) for name, values in self.differ.items()}
        self.name = field if isinstance(field, str) else max(sizes, key=sizes.__getitem__, default="")
        self.others = [name for name in self.differ if name != self.name]
        self.kinds: dict[float, Any] = {}
        if len(self.others) == 1 and sizes[self.others[0]] <= len(_LINES):
            self.kinds = dict(zip(np.unique(self.differ[self.others[0]]).tolist(), _LINES, strict=False))
        if self.differ:
            low, high = (float(f(self.differ[self.name])) for f in (np.min, np.max))
            # On a linear scale of several powers of ten the small values would share one colour.
            self.norm = (LogNorm if low > 0 and high >= 20 * low else Normalize)(low, high)
            # The end of viridis is a yellow that is too pale on white.
            self.colours = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.0, 0.88, 256)))

    def styles(self) -> list[dict[str, Any]]:
        many, size = self.member.size > _MANY, self.member.size
        style: dict[str, Any] = {"linewidth": 0.7 if many else 1.5, "alpha": 0.7 if many else 1.0}
        colours = self.colours(self.norm(self.differ[self.name])) if self.differ else [COLOURS[0]] * size
        lines = [self.kinds[x] for x in self.differ[self.others[0]].tolist()] if self.kinds else ["-"] * size
        return [style | {"color": c, "linestyle": k} for c, k in zip(colours, lines, strict=True)]

    def title(self) -> str:
        text = f"{self.member.size:,} x {self.member.label}"
        if self.others and not self.kinds:
            more = ", ".join(self.others[:4]) + (", ..." if len(self.others) > 4 else "")
            text += f" ({more} {'differ' if len(self.others) > 1 else 'differs'} too)"
        return text

    def draw_keys(self, main: Any, panels: list[Any]) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.lines import Line2D

        if self.differ:
            values = np.unique(self.differ[self.name])
            key = ScalarMappable(self.norm, self.colours)
            bar = main.figure.colorbar(key, ax=panels, label=self.name, format=_formatter(_style(values)))
            bar.minorticks_off()
            if len(values) <= 8:
                bar.set_ticks(values.tolist())
        if self.kinds:
            values = self.differ[self.others[0]]
            names = texts(self.kinds, _style(values))
            handles = [Line2D([], [], color="0.35", linestyle=line) for line in self.kinds.values()]
            _draw_legend(main, False, (handles, names), self.others[0])


def _style(values: np.ndarray) -> Callable[[Any, int], str]:
    return count if np.all(values == np.floor(values)) else number


def _draw_legend(main: Any, own: bool, items: Any = None, title: str | None = None) -> None:
    """Draw the legend inside of the axes, or below them if it is large and the figure is ours."""
    handles, names = items or main.get_legend_handles_labels()
    names = [cut(name, 96) for name in names]
    look = {"fontsize": "small", "title": title, "title_fontsize": "small", "handlelength": 3.2, "framealpha": 0.85}
    longest = max(map(len, names))
    if not own or (len(names) <= 6 and longest <= 36):
        main.legend(handles, names, edgecolor="none", loc="best", **look)
        return
    columns = 1 if longest > 44 else 2 if longest > 24 else 4
    wide, high = main.figure.get_size_inches()
    main.figure.set_size_inches(wide, high + 0.21 * np.ceil(len(names) / columns) + 0.1)
    main.figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, **look)


def _save(figure: Any, path: Any, kind: str | None) -> None:
    import matplotlib as mpl

    # Without dates and random identifiers, the same picture is the same file.
    metadata: Any = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind or "")
    with mpl.rc_context({"svg.hashsalt": "jaxsched"}):
        figure.savefig(path, dpi=150, metadata=metadata)
