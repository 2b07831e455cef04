"""Schedules as text: braille dots in a frame, with plotext."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import string
import sys
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np

from .._errors import format_value
from .curves import Curve, Group, count, curves, cut, floor_of_log, groups, horizon, number, texts, ticks, varied

_COLOURS = (33, 208, 35, 170, 44, 178)
"""Of the 256 of terminals: seen on black and on white, and told apart with any colour vision, by the letters too."""

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

_TRAILING = re.compile(r"(?:\s|\x1b\[[0-9;]*m)+$")

_ASCII = str.maketrans({**dict.fromkeys("┌┐└┘├┤┬┴┼", "+"), "─": "-", "│": "|"})

_WIDEST = 120
"""Columns that are used of a terminal; wider, a curve is only flatter."""

_NARROWEST = 10

_LOWEST = 5
"""Lines of a frame that still shows something: two of its own, one of numbers, two of dots."""

_MOST_OF_A_STACK = 64

_LOCK = threading.Lock()
"""plotext draws on one figure, and knows one terminal, for the whole process."""


class _Layer(NamedTuple):
    """What plotext draws at once: a line, or letters on it."""

    x: list[float]
    y: list[float]
    marker: str
    colour: int
    joined: bool


class _Axis(NamedTuple):
    low: float
    high: float
    at: list[float]
    labels: list[str]


def terminal_plot(
    schedules: Any,
    steps: Any = None,
    *,
    width: int | None = None,
    height: int | None = None,
    scale: Literal["linear", "log"] = "linear",
    color: bool | None = None,
    labels: str | Sequence[str] | None = None,
    file: TextIO | None = None,
) -> str:
    """Draw schedules as text of braille dots; needs `pip install "jaxsched[cli]"`.

    Several schedules carry letters, which the lines below name: no one has to see the colours. Where the encoding of
    the output has no braille, the plot is plain ASCII.

    Args:
      schedules: a schedule, a callable (an optax schedule), a number, a list of these, or a dict with their names. Of
        a stacked schedule up to 64 settings are drawn, its first and its last among them.
      steps: the horizon: steps `0 ... steps - 1` are drawn; or an array of the steps to draw. None: that of the
        schedules, the longest, as far as their `total_steps`, `steps` and the like tell it.
      width: the columns of the text, 10 or more; None: those of the terminal, at most 120.
      height: the lines of the text, with title and names, 5 or more; None: from the height of the terminal, at most
        20 and the names.
      scale: 'linear' or 'log' for the values. On a logarithmic axis a 0 lies on the ground, which is six powers of ten
        below the peak, or deeper where a twentieth of the steps is.
      color: whether the text has colours, as ANSI escapes. None: if `file` is a terminal that is not called dumb, and
        NO_COLOR is not set.
      labels: a name, or a list with a name for each.
      file: where the text will be written to; None: `sys.stdout`. It is asked for its kind and its encoding, and
        nothing is written to it.

    Returns: the lines, without an end of line after the last, and without spaces at the end of any.

    Errors: ValueError for a horizon that nothing tells, for a width or height that is too small, and for values below
    0 on a logarithmic axis; TypeError for what is no schedule.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.viz import terminal_plot
      >>> print(terminal_plot(js.Linear(1.0, 0.0, steps=100), width=30, height=8, color=False))
      Linear(init_value=1.0, end_...
       ┌───────────────────────────┐
      1┤⠉⠙⠒⠢⠤⣀⡀                    │
       │      ⠈⠉⠑⠒⠤⢤⣀⡀             │
       │             ⠈⠉⠓⠒⠤⢄⣀⡀      │
      0┤                    ⠈⠉⠒⠢⠤⣄⣀│
       └┬─────────────────────────┬┘
        0                       100
    """
    plotext = _plotext()
    labels = [labels] if isinstance(labels, str) else labels
    members = groups("terminal_plot", schedules, labels)
    length = horizon("terminal_plot", members, steps, None)
    stream = sys.stdout if file is None else file
    color = _has_colour(stream) if color is None else color
    braille = _has_braille(stream)
    size = shutil.get_terminal_size()
    columns = _size("width", width, min(max(size.columns, _NARROWEST), _WIDEST), _NARROWEST)
    names = _names(members, columns, color)
    usual = min(max(size.lines - 3, _LOWEST + len(names)), 19 + len(names))
    lines = _size("height", height, usual, _LOWEST)
    names = names[: lines - _LOWEST]
    drawn = [_some(curves("terminal_plot", member, length, columns=2 * columns)) for member in members]
    ground = floor_of_log("terminal_plot", [curve for group in drawn for curve in group], scale)
    x = _steps_axis(length, columns)
    y = _values_axis(drawn, ground, lines - len(names), columns)
    layers = _layers(drawn, ground, x, braille)
    with _LOCK:
        text = _draw(plotext, layers, x, y, columns, lines - len(names))
    frame = (text if braille else text.translate(_ASCII)).split("\n")[: lines - len(names)]
    rows = [_trimmed(row, color) for row in (names + frame if len(members) == 1 else frame + names)]
    return "\n".join(rows if braille else [_sayable(row, stream) for row in rows])


# --- where it goes ---------------------------------------------------------------------------------------------------


def _plotext() -> Any:
    try:
        import plotext
    except ImportError:
        raise ImportError('plots in a terminal need plotext: pip install "jaxsched[cli]"') from None
    return plotext


def _has_colour(stream: Any) -> bool:
    a_terminal = bool(getattr(stream, "isatty", lambda: False)())
    return a_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _encoding(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _has_braille(stream: Any) -> bool:
    try:
        "⣿┼".encode(_encoding(stream))
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _sayable(row: str, stream: Any) -> str:
    """The labels of users may hold what the stream cannot say."""
    try:
        return row.encode(_encoding(stream), "replace").decode(_encoding(stream))
    except LookupError:
        return row.encode("ascii", "replace").decode("ascii")


def _size(name: str, given: Any, usual: int, least: int) -> int:
    if given is None:
        return usual
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
        raise ValueError(f"terminal_plot: {name}={format_value(given)}; write a whole number, {least} or more.")
    return int(given)


def _trimmed(row: str, color: bool) -> str:
    if not color:
        return _ESCAPE.sub("", row).rstrip()
    row = _TRAILING.sub("", row)
    return f"{row}\x1b[0m" if "\x1b" in row else row


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _names(members: list[Group], columns: int, color: bool) -> list[str]:
    """The title of one schedule, or a line for each of several, after its letter."""
    told = []
    for member in members:
        text = member.label
        if member.size:
            spans = [
                f"{name} {number(values.min())} to {number(values.max())}"
                for name, values in varied(member.schedule).items()
            ]
            text = f"{member.size:,} x {text}" + "".join(f", {span}" for span in spans)
        told.append(text)
    if len(members) == 1:
        return [cut(told[0], columns)] if told[0] else []
    rows = []
    for i, text in enumerate(told):
        letter = _letter(i)
        mark = f"\x1b[38;5;{_COLOURS[i % len(_COLOURS)]}m{letter}\x1b[0m" if color else letter
        rows.append(f"{mark} {cut(text, columns - 2)}")
    return rows


def _letter(i: int) -> str:
    return string.ascii_letters[i % len(string.ascii_letters)]


def _some(group: list[Curve]) -> list[Curve]:
    if len(group) <= _MOST_OF_A_STACK:
        return group
    return [group[i] for i in np.linspace(0, len(group) - 1, _MOST_OF_A_STACK).round().astype(int)]


def _steps_axis(length: int | np.ndarray, columns: int) -> _Axis:
    low, high = (0.0, float(length)) if isinstance(length, int) else (float(length[0]), float(length[-1]))
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    at = ticks(low, high, max(2, columns // 12), whole=True)
    return _Axis(low, high, at, texts(at, count))


def _values_axis(drawn: list[list[Curve]], ground: float | None, frame: int, columns: int) -> _Axis:
    seen = np.concatenate([curve.values for group in drawn for curve in group])
    seen = seen[np.isfinite(seen)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    most = max(2, (frame - 3) // 3 + 1)
    if ground is not None:
        low, high = float(np.log10(ground)), float(np.log10(high))
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        at = ticks(low, high, most, whole=True) or [low, high]
        labels = texts([10**x for x in at], number)
    else:
        if low == high:
            low, high = (min(low, 0.0), max(high, 0.0)) if low else (-1.0, 1.0)
        elif 0 <= low <= 0.3 * high:
            low = 0.0
        at = ticks(low, high, most)
        labels = texts(at, number)
    # Where there is hardly room for the curve there is none for numbers.
    return _Axis(low, high, at, labels) if columns >= 18 else _Axis(low, high, [], [])


def _layers(drawn: list[list[Curve]], ground: float | None, x: _Axis, braille: bool) -> list[_Layer]:
    lines, letters = [], []
    several = len(drawn) > 1
    for i, group in enumerate(drawn):
        colour = _COLOURS[i % len(_COLOURS)]
        marker = "braille" if braille else _letter(i) if several else "*"
        for j, curve in enumerate(group):
            values = curve.values if ground is None else np.log10(np.maximum(curve.values, ground))
            known = np.isfinite(values)
            for there, run in itertools.groupby(range(len(values)), key=known.__getitem__):
                if there:  # a line stops where there is no value
                    at = list(run)
                    lines.append(_Layer(curve.steps[at].tolist(), values[at].tolist(), marker, colour, len(at) > 1))
            if several and braille and j == len(group) // 2:
                at = x.low + (np.arange(3) + (i + 0.5) / len(drawn)) / 3 * (x.high - x.low)
                on = np.interp(at, curve.steps, values, left=np.nan, right=np.nan)
                at, on = at[np.isfinite(on)], on[np.isfinite(on)]
                letters.append(_Layer(at.tolist(), on.tolist(), _letter(i), colour, False))
    return [layer for layer in (*lines, *letters) if layer.x]


def _draw(plotext: Any, layers: list[_Layer], x: _Axis, y: _Axis, width: int, height: int) -> str:
    figure = type(plotext.figure)(plotext.terminal)  # of its own: the figure of the user stays as it is
    try:
        plotext.terminal.limit(False, False)
        figure.plot_size(width, height)
        figure.theme("colorless")
        for layer in layers:
            marker = plotext.marker(layer.marker, pixel=plotext.pixel(foreground=layer.colour))
            figure.draw(figure.signal(layer.x, layer.y, marker=marker).lines(layer.joined))
        for axis, side in ((x, "x"), (y, "y")):
            ruler = figure.ruler(side, 0).lim(axis.low, axis.high).alignment(lim="edge")
            if axis.at:
                ruler.ticks(axis.at, labels=axis.labels)
            else:
                ruler.frequency(0)
        return figure.build().string()
    finally:
        plotext.terminal.limit()
