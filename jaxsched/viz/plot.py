"""Schedules as a matplotlib figure."""

from __future__ import annotations

import itertools
import os
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .._errors import format_value, nearest_name
from ..inspect.phases import Outline, outline
from ..units import Timeline
from .curves import Curve, Group, count, curves, cut, floor_of_log, groups, horizon, number, texts, varied

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, told apart with any colour vision, without their yellow, which is lost on white."""

_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""Four, where the colours are seven: no two of 28 curves share both, and no two neighbours either."""

PHASES = {"warmup": "#E69F00", "rise": "#CC79A7", "stable": "#8C8C8C", "decay": "#56B4E9"}

_NAMES = {"warmup": "#8A5A00", "rise": "#8E3A6B", "stable": "#555555", "decay": "#0B5A8A"}
"""The phases' colours as ink: dark enough to read."""

_MANY = 48
"""Curves of a family from which on they are drawn thin."""

_MOST_RESTARTS = 60

_MOST_NAMES = 6
"""Names over the frame; of more none would stand over its own phase."""

_FEW_POINTS = 24
"""Points of a curve up to which each is shown, as the steps that they are."""


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

    Jumps are drawn upright. Where there are more steps than pixels, the lowest and the highest value of each column of
    pixels are drawn. Several schedules differ in colour and in the kind of line, so that no one has to see the colours.

    Args:
      schedules: a schedule, a callable (an optax schedule), a number, a list of these, or a dict with their names. A
        stacked schedule (`grid`, `stack`, `sample`) is drawn as a family, with a colour bar for the hyperparameter
        that differs most; that of a second is told by the kind of line, or by the title that it differs.
      steps: the horizon: steps `0 ... steps - 1` are drawn; or an array of the steps to draw; or a text such as
        '3ep', read by `timeline`. None: the horizon of the timeline, or of the schedules, the longest, as far as
        their `total_steps`, `steps` and the like tell it.
      unit: what the x axis counts: 'step', 'epoch' or 'token'.
      timeline: a `Timeline` with the `steps_per_epoch` or `tokens_per_step` that the unit needs.
      scale: 'linear' or 'log' for the values. On a logarithmic axis a 0 lies on the ground, which is six powers of
        ten below the peak, or deeper where a twentieth of the steps is.
      phases: whether warmup, stable phase and decay are shaded and named, and restarts are marked. None: if there is
        one schedule alone.
      momentum: a schedule, or a list with one for each of the schedules, drawn on a panel below with the same x axis.
      labels: a name, or a list with a name for each. For a stacked schedule the hyperparameter to colour by.
      title: the title; None: the schedule's expression. An empty text is none.
      ax: the Axes to draw on; None: those of a new Figure, which is not pyplot's: there is nothing to close. The panel
        of the momentum takes the lower part of it.
      path: a file to save the figure in, whose ending says the kind: `.png`, `.svg`, `.pdf`.

    Returns: the Axes of the rates. In a notebook `plot(s).figure` shows itself.

    Errors: ValueError for a horizon that nothing tells, for a unit without its size, for values below 0 on a
    logarithmic axis, and for lists of different lengths; TypeError for what is no schedule.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.viz import plot
      >>> ax = plot(js.WarmupStableDecay(3e-4, warmup_steps=200, total_steps=10_000, decay_steps=2_000))
      >>> print(*ax.get_xlim(), len(ax.lines))
      0.0 10000.0 1
      >>> family = plot(js.grid(js.WarmupCosine, peak_value=[1e-4, 1e-3, 1e-2], warmup_steps=50, total_steps=1_000))
      >>> [axes.get_ylabel() for axes in family.figure.axes]
      ['learning rate', 'peak_value']
    """
    _need_matplotlib()
    members = groups("plot", schedules, labels)
    length = horizon("plot", members, steps, timeline)
    per, unit_name = _unit(unit, timeline)
    if phases and (len(members) > 1 or members[0].size):
        raise ValueError("plot: phases=True shades the phases of one schedule; draw it alone, or write phases=False.")
    beside = _momenta(momentum, members)
    lines = [curves("plot", member, length) for member in members]
    ground = floor_of_log("plot", [curve for group in lines for curve in group], scale)
    kind = _ending(path)
    main, below = _panels(ax, beside is not None)
    family = len(members) == 1 and members[0].size > 0
    styles, bar = _family_styles(members[0], labels) if family else (_styles(members), None)
    _draw(main, members, lines, styles, per)
    _frame_values(main, lines, ground)
    if beside is not None:
        _draw(below, beside, [curves("plot", member, length) for member in beside], styles, per)
        below.set_ylabel("momentum")
        below.margins(y=0.12)
    main.set_ylabel("learning rate")
    _frame_steps([main, below], length, per, unit_name)
    named = False
    if phases or (phases is None and len(members) == 1 and not family):
        last = length if isinstance(length, int) else int(np.ceil(length[-1])) + 1
        named = _draw_outline(main, outline(members[0].schedule, last), lines[0][0], per)
    if bar:
        _colour_bar(main, below, bar)
    text = title if title is not None else _title(members, bar)
    main.set_title(text, fontsize="medium", pad=18 if named else 6)
    _legend(main, members, bar, own=ax is None)
    if path is not None:
        _save(main.figure, path, kind)
    return main


# --- what is asked for -----------------------------------------------------------------------------------------------


def _need_matplotlib() -> None:
    try:
        import matplotlib.figure
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "jaxsched[plot]"') from None
    del matplotlib


def _unit(unit: str, timeline: Timeline | None) -> tuple[float, str]:
    """How many of the unit a step is, and its name at the axis."""
    if unit == "step":
        return 1.0, "step"
    needs = {"epoch": "steps_per_epoch", "token": "tokens_per_step"}
    if unit not in needs:
        raise ValueError(f"plot: unit={unit!r}; {nearest_name(str(unit), ['step', *needs])}")
    size = getattr(timeline, needs[unit], None)
    if size is None:
        write = f"timeline=Timeline(total_steps, {needs[unit]}=...)"
        raise ValueError(f"plot: unit={unit!r} needs the {needs[unit].replace('_', ' ')}; write {write}.")
    return (1 / float(size), "epoch") if unit == "epoch" else (float(size), "tokens")


def _momenta(momentum: Any, members: list[Group]) -> list[Group] | None:
    if momentum is None:
        return None
    beside = groups("plot", momentum, name="momentum")
    if len(beside) not in (1, len(members)):
        have = f"{len(beside)} schedules, and there are {len(members)} of the rate"
        raise ValueError(f"plot: momentum has {have}; write one for all, or one for each.")
    for rate, other in zip(members, beside, strict=False):
        if other.size and other.size != rate.size:
            have = f"{other.size} stacked schedules beside {rate.size or 1} of the rate"
            raise ValueError(f"plot: momentum has {have}; write one for all, or one for each.")
    return beside


def _ending(path: Any) -> str | None:
    if path is None:
        return None
    from matplotlib.backend_bases import FigureCanvasBase

    kind = os.path.splitext(os.fspath(path))[1].removeprefix(".").lower()
    if kind not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"plot: path={format_value(os.fspath(path))}; end it with .png, .svg or .pdf.")
    return kind


def _panels(ax: Any, two: bool) -> tuple[Any, Any]:
    """The Axes of the rates, and those of the momentum below them (None without one)."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    heights = [3.0, 1.2]
    if ax is None:
        # A Figure of its own, and not pyplot's: no window, no global state, nothing to close.
        figure = Figure(figsize=(8.0, 5.4 if two else 4.2), layout="constrained")
        if not two:
            return figure.subplots(), None
        main, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        return main, below
    if not isinstance(ax, Axes):
        raise TypeError(f"plot: ax={format_value(ax)}; write the Axes of matplotlib to draw on, or leave it out.")
    if not two:
        return ax, None
    cell = ax.get_subplotspec()
    if cell is not None:
        upper, lower = cell.subgridspec(2, 1, height_ratios=heights)
        ax.set_subplotspec(upper)
        below = ax.figure.add_subplot(lower, sharex=ax)
    else:
        box = ax.get_position()
        share = heights[1] / sum(heights)
        ax.set_position((box.x0, box.y0 + box.height * (share + 0.04), box.width, box.height * (0.96 - share)))
        below = ax.figure.add_axes((box.x0, box.y0, box.width, box.height * share), sharex=ax)
    ax.tick_params(labelbottom=False)
    return ax, below


# --- the curves ------------------------------------------------------------------------------------------------------


def _styles(members: list[Group]) -> list[list[dict[str, Any]]]:
    """For each group the style of each of its curves; of several stacks each has one colour."""
    found = []
    for i, member in enumerate(members):
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": _LINES[i % len(_LINES)], "linewidth": 1.8}
        if member.size:
            style |= {"linewidth": 0.8, "alpha": max(0.25, min(1.0, (_MANY / 2 / member.size) ** 0.5))}
        found.append([style] * max(member.size, 1))
    return found


class _Bar:
    """What the colours of a family tell: the hyperparameter, its values, and what else differs."""

    def __init__(self, name: str, values: np.ndarray, differ: dict[str, np.ndarray]):
        import matplotlib as mpl
        from matplotlib.colors import ListedColormap, LogNorm, Normalize

        self.name, self.values = name, np.unique(values)
        self.others = [other for other in differ if other != name]
        low, high = self.values[[0, -1]]
        # Over powers of ten the small ones would share one colour.
        self.norm = (LogNorm if low > 0 and high >= 20 * low else Normalize)(float(low), float(high))
        # The end of viridis is left out, a yellow that is lost on white.
        self.colours = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.0, 0.88, 256)))
        self.write = count if name.endswith(("steps", "size", "period", "at", "every")) else number
        self.lines: dict[float, Any] = {}
        """The kinds of line of the second hyperparameter, where it has few enough values."""
        if len(self.others) == 1 and len(np.unique(differ[self.others[0]])) <= len(_LINES):
            self.lines = dict(zip(np.unique(differ[self.others[0]]).tolist(), _LINES, strict=False))


def _family_styles(member: Group, field: Any) -> tuple[list[list[dict[str, Any]]], _Bar | None]:
    differ = varied(member.schedule)
    if isinstance(field, str) and field not in differ:
        raise ValueError(f"plot: labels={field!r} does not differ in this stack; {nearest_name(field, differ)}")
    many = member.size > _MANY
    style: dict[str, Any] = {"linewidth": 0.7 if many else 1.5, "alpha": 0.7 if many else 1.0, "color": COLOURS[0]}
    if not differ:
        return [[style] * member.size], None
    name = field if isinstance(field, str) else max(differ, key=lambda n: len(np.unique(differ[n])))
    bar = _Bar(name, differ[name], differ)
    colours = bar.colours(bar.norm(differ[name]))
    kinds = [bar.lines[x] for x in differ[bar.others[0]].tolist()] if bar.lines else ["-"] * member.size
    return [[style | {"color": c, "linestyle": k} for c, k in zip(colours, kinds, strict=True)]], bar


def _draw(ax: Any, members: list[Group], lines: list[list[Curve]], styles: list[list[Any]], per: float) -> None:
    for i, (member, group) in enumerate(zip(members, lines, strict=True)):
        for j, curve in enumerate(group):
            # One momentum for all rates is none of theirs: it is drawn in grey.
            shared = len(members) < len(styles) or (len(styles) == 1 and len(group) < len(styles[0]))
            style = {"color": "0.35", "linewidth": 1.5} if shared else styles[i][j]
            few = len(curve.steps) <= _FEW_POINTS
            mark = {"marker": "o", "markersize": 3.5, "clip_on": False} if few else {}
            label = member.label if j == 0 else "_nolegend_"
            ax.plot(curve.steps * per, curve.values, label=label, solid_joinstyle="round", **style, **mark)


def _frame_values(ax: Any, lines: list[list[Curve]], ground: float | None) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    seen = np.concatenate([curve.values for group in lines for curve in group])
    seen = seen[np.isfinite(seen)]
    if ground is not None:
        top = float(seen.max())
        ax.set_yscale("log", nonpositive="clip")
        ax.set_ylim(ground / 1.6, top * 1.6)
        if top < 100 * ground:
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    elif len(seen):
        low, high = float(seen.min()), float(seen.max())
        pad = 0.05 * (high - low) or 0.2 * abs(high) or 1.0
        # A rate is read against 0, unless that is far away.
        bottom = -0.02 * high if 0 <= low <= 0.3 * high or (low == high > 0) else low - pad
        ax.set_ylim(bottom, high + pad)


def _frame_steps(panels: list[Any], length: int | np.ndarray, per: float, unit_name: str) -> None:
    from matplotlib.ticker import Formatter, MaxNLocator

    class Readable(Formatter):
        def __init__(self, write: Any):
            self.write = write

        def __call__(self, x: float, pos: int | None = None) -> str:
            del pos
            return self.write(x)

        def format_ticks(self, values: Any) -> list[str]:
            return texts(values, self.write)

    panels = [panel for panel in panels if panel is not None]
    low, high = (0.0, float(length)) if isinstance(length, int) else (float(length[0]), float(length[-1]))
    if low == high:
        low, high = low - 0.5, high + 0.5
    for panel in panels:
        panel.set_xlim(low * per, high * per)
        panel.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=per >= 1))
        panel.xaxis.set_major_formatter(Readable(count))
        panel.yaxis.set_major_formatter(Readable(number))
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(unit_name)


# --- what is said about them -----------------------------------------------------------------------------------------


def _draw_outline(ax: Any, found: Outline, curve: Curve, per: float) -> bool:
    """Shade and name the phases and mark the restarts; whether names stand above the frame."""
    end = ax.get_xlim()[1]
    spans = [(p.name, p.start * per, min(p.stop * per, end)) for p in found.phases if p.start * per < end]
    for name, start, stop in spans:
        ax.axvspan(start, stop, color=PHASES.get(name, "0.6"), alpha=0.16, linewidth=0, zorder=0)
    at = np.asarray([r for r in found.restarts if r * per <= end], np.int64)
    told = ""
    if 0 < len(at) <= _MOST_RESTARTS:
        told = f"\u25b3 {_plural(len(at), 'restart')}"
        style = {"marker": "^", "s": 34, "facecolor": "white", "edgecolor": COLOURS[1], "linewidth": 1.4}
        ax.scatter(at * per, curve.value_at(at), zorder=3, label="_restarts", **style)
        for x in at * per:
            ax.axvline(x, color="0.45", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1, label="_restart")
    elif len(at):
        told = f"over {_MOST_RESTARTS} restarts"
    return _name_phases(ax, spans, told)


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n > 1)}"


def _name_phases(ax: Any, spans: list[tuple[str, float, float]], restarts: str) -> bool:
    """The names over their spans, moved aside where a span is too narrow, and the restarts at the right end; all in
    the legend if there are too many. Whether they stand over the spans."""
    low, high = ax.get_xlim()
    named = [(text, _NAMES.get(name, "0.3"), (middle - low) / (high - low)) for text, name, middle in _runs(spans)]
    if restarts:
        named.append((restarts, COLOURS[1], 1.0))
    wide = ax.get_position().width * ax.figure.get_figwidth() * 72
    half = np.array([len(text) * 0.3 * 9 / wide + 0.006 for text, _, _ in named])
    if named and len(named) <= _MOST_NAMES and 2 * half.sum() <= 1.0:
        at = _apart(np.array([x for _, _, x in named]), half)
        for (text, ink, _), x in zip(named, at, strict=True):
            place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "bottom"}
            ax.annotate(text, (x, 1.0), (0, 4), fontsize=9, color=ink, **place)
        return True
    for name in dict.fromkeys(name for name, _, _ in spans):
        ax.fill_between([], [], color=PHASES.get(name, "0.6"), alpha=0.3, linewidth=0, label=name)
    if restarts:
        ax.plot([], [], " ", label=restarts)
    return False


def _runs(spans: list[tuple[str, float, float]]) -> list[tuple[str, str, float]]:
    """What is written, the name and the middle of each run of spans of one name."""
    found = []
    for name, run in itertools.groupby(spans, key=lambda span: span[0]):
        parts = list(run)
        times = f" x{len(parts)}" if 1 < len(parts) <= _MOST_RESTARTS else ""
        found.append((name + times, name, (parts[0][1] + parts[-1][2]) / 2))
    return found


def _apart(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """The centres nearest to these at which texts of these half widths stand side by side in [0, 1]."""
    at = np.maximum(centre, half)
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + half[i - 1] + half[i])
    at[-1] = min(at[-1], 1 - half[-1])
    for i in range(len(at) - 2, -1, -1):
        at[i] = min(at[i], at[i + 1] - half[i + 1] - half[i])
    return at


def _colour_bar(main: Any, below: Any, bar: _Bar) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import NullLocator

    panels = [main] if below is None else [main, below]
    drawn = main.figure.colorbar(ScalarMappable(bar.norm, bar.colours), ax=panels, label=bar.name)
    if len(bar.values) <= 8:
        drawn.set_ticks(bar.values.tolist(), labels=texts(bar.values.tolist(), bar.write))
    else:
        ticks, slack = drawn.get_ticks(), 1e-6 * abs(bar.values[-1])  # of float32
        ticks = ticks[(ticks >= bar.values[0] - slack) & (ticks <= bar.values[-1] + slack)]
        drawn.set_ticks(ticks.tolist(), labels=texts(ticks.tolist(), bar.write))
    drawn.ax.yaxis.set_minor_locator(NullLocator())


def _title(members: list[Group], bar: _Bar | None) -> str:
    if len(members) > 1:
        return ""
    if not members[0].size:
        return "\n".join(textwrap.wrap(members[0].label, 88, max_lines=2, placeholder=" ..."))
    text = f"{members[0].size:,} x {members[0].label}"
    if bar and bar.others and not bar.lines:
        more = ", ".join(bar.others[:4]) + (", ..." if len(bar.others) > 4 else "")
        verb = "differ" if len(bar.others) > 1 else "differs"
        text += f" ({more} {verb} too)"
    return text


def _legend(main: Any, members: list[Group], bar: _Bar | None, own: bool) -> None:
    from matplotlib.lines import Line2D

    handles, names = main.get_legend_handles_labels()
    title = None
    if bar and bar.lines:
        title = bar.others[0]
        write = count if title.endswith("steps") else number
        names = [write(x) for x in bar.lines]
        handles = [Line2D([], [], color="0.35", linestyle=line) for line in bar.lines.values()]
    elif len(members) == 1:
        # Its name is the title.
        handles, names = handles[members[0].label in names :], names[members[0].label in names :]
    if not handles:
        return
    names = [cut(name, 96) for name in names]
    look = {"fontsize": "small", "title": title, "title_fontsize": "small", "handlelength": 3.2, "framealpha": 0.85}
    if own and (len(names) > 6 or max(map(len, names)) > 36):
        figure = main.figure
        columns = 1 if max(map(len, names)) > 44 else 2 if max(map(len, names)) > 24 else 4
        wide, high = figure.get_size_inches()
        figure.set_size_inches(wide, high + 0.21 * np.ceil(len(names) / columns) + 0.1)
        figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, **look)
        return
    main.legend(handles, names, edgecolor="none", loc="best", **look)


def _save(figure: Any, path: Any, kind: str | None) -> None:
    import matplotlib as mpl

    # The same picture is the same file, whenever it is made.
    metadata: Any = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind or "")
    with mpl.rc_context({"svg.hashsalt": "jaxsched"}):
        figure.savefig(path, dpi=150, metadata=metadata)
