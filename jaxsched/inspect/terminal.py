"""Schedules as text: braille dots in a frame, drawn by plotext."""

from __future__ import annotations

import math
import os
import re
import shutil
import string
import sys
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np

from .._errors import FieldError
from .curves import Drawing, drawing, varied
from .format import count, cut, number, optional, texts, ticks
from .phases import Curve

_COLOURS = (33, 208, 35, 170, 44, 178)  # of the 256 terminal colours: visible on black and on white
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

_TRAILING = re.compile(r"(?:\s|\x1b\[[0-9;]*m)+$")

_ASCII = str.maketrans({**dict.fromkeys("┌┐└┘├┤┬┴┼", "+"), "─": "-", "│": "|"})

_WIDEST = 120  # the most columns that are used of a terminal
_NARROWEST = 10

_LOWEST = 5  # the fewest lines of a frame: two of its own, one of numbers, two of dots
_MOST_OF_A_STACK = 64

_LOCK = threading.Lock()  # plotext has one terminal for the whole process


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

    Several schedules carry letters, which the lines below the frame name. Where the encoding of the output has no
    braille, the plot is plain ASCII.

    Args:
        schedules: A schedule, a callable (an Optax schedule), a number, a list of these, or a dict with their names.
            At most 64 settings of a stacked schedule are drawn, including the first and the last.
        steps: The horizon: steps `0 ... steps - 1` are drawn; or an array of steps. None: the longest horizon of the
            schedules.
        width: The columns of the text, 10 or more. None: those of the terminal, at most 120.
        height: The lines of the text, including title and names, 5 or more. None: from the height of the terminal, at
            most 20 and the names.
        scale: 'linear' or 'log' for the values. A logarithmic axis begins six powers of ten below the peak, or lower
            if a twentieth of the steps is; zeros are drawn there.
        color: Whether the text has colours, as ANSI escapes. None: if `file` is a terminal other than a dumb one and
            NO_COLOR is not set.
        labels: A name, or a list with one name for each schedule.
        file: The stream that the text is meant for; only its encoding and kind are read. None: `sys.stdout`.

    Returns:
        The lines, without trailing spaces and without a final end of line.

    Raises:
        ValueError: If no schedule has an end and `steps` is None, and for values below 0 on a logarithmic axis.

    Example:
        >>> import jaxsched as js
        >>> from jaxsched.inspect import terminal_plot
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
    plotext = optional("plotext", "plots in a terminal need", "cli")
    stream = sys.stdout if file is None else file
    color = _has_colour(stream) if color is None else color
    braille = _encodes("⣿┼", stream)
    size = shutil.get_terminal_size()
    columns = _size("width", width, min(max(size.columns, _NARROWEST), _WIDEST), _NARROWEST)
    labels = [labels] if isinstance(labels, str) else labels
    drawn = drawing("terminal_plot", schedules, steps, labels, scale, columns=2 * columns)
    curves = [_shown(group, drawn.ground) for group in drawn.lines]
    names = _names(drawn, columns, color)
    lines = _size("height", height, min(max(size.lines - 3, _LOWEST + len(names)), 19 + len(names)), _LOWEST)
    names = names[: lines - _LOWEST]
    x, y = _steps_axis(drawn, columns), _values_axis(drawn, lines - len(names), columns)
    with _LOCK:
        text = _draw(plotext, curves, x, y, columns, lines - len(names), braille)
    frame = (text if braille else text.translate(_ASCII)).split("\n")[: lines - len(names)]
    rows = names + frame if len(drawn.groups) == 1 else frame + names
    if color:
        rows = [_TRAILING.sub("", row) + "\x1b[0m" * ("\x1b" in row) for row in rows]
    else:
        rows = [_ESCAPE.sub("", row).rstrip() for row in rows]
    return "\n".join(row if _encodes(row, stream) else row.encode("ascii", "replace").decode() for row in rows)


# --- the output stream -----------------------------------------------------------------------------------------------


def _has_colour(stream: Any) -> bool:
    terminal = bool(getattr(stream, "isatty", lambda: False)())
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _encodes(text: str, stream: Any) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _size(name: str, given: Any, usual: int, least: int) -> int:
    if given is None:
        return usual
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
        raise FieldError("terminal_plot", name, given, f"write a whole number, {least} or more")
    return int(given)


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _names(drawn: Drawing, columns: int, color: bool) -> list[str]:
    """Return the title of a single schedule, or one line for each of several, after its letter."""
    found = []
    for member in drawn.groups:
        text = member.label
        if member.size:
            spans = [f", {name} {number(v.min())} to {number(v.max())}" for name, v in varied(member.schedule).items()]
            text = f"{member.size:,} x {text}{''.join(spans)}"
        found.append(text)
    if len(found) == 1:
        return [cut(text, columns) for text in found if text]
    marks = [f"\x1b[38;5;{_colour(i)}m{_letter(i)}\x1b[0m" if color else _letter(i) for i in range(len(found))]
    return [f"{mark} {cut(text, columns - 2)}" for mark, text in zip(marks, found, strict=True)]


def _letter(i: int) -> str:
    return string.ascii_letters[i % len(string.ascii_letters)]


def _colour(i: int) -> int:
    return _COLOURS[i % len(_COLOURS)]


def _steps_axis(drawn: Drawing, columns: int) -> _Axis:
    at = ticks(*drawn.ends, max(2, columns // 12), whole=True)
    return _Axis(*drawn.ends, at, texts(at, count))


def _values_axis(drawn: Drawing, height: int, columns: int) -> _Axis:
    low, high = (drawn.low, drawn.high) if drawn.low <= drawn.high else (0.0, 1.0)
    most = max(2, (height - 3) // 3 + 1)
    if drawn.ground is not None:
        low, high = (math.log10(max(x, drawn.ground)) for x in (low, high))
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        at = ticks(low, high, most, whole=True) or [low, high]
        labels = texts([10**x for x in at], number)
    else:
        low = 0.0 if drawn.from_zero else low
        if low == high:
            low, high = (low, 0.0) if low else (-1.0, 1.0)
        at = ticks(low, high, most)
        labels = texts(at, number)
    # A narrow plot has room for the curve alone.
    return _Axis(low, high, at, labels) if columns >= 18 else _Axis(low, high, [], [])


def _shown(group: list[Curve], ground: float | None) -> list[Curve]:
    """Return at most 64 curves of a group, as powers of ten on a logarithmic axis."""
    some = np.unique(np.linspace(0, len(group) - 1, min(len(group), _MOST_OF_A_STACK)).round().astype(int))
    return [
        c if ground is None else c._replace(values=np.log10(np.maximum(c.values, ground)))
        for c in map(group.__getitem__, some)
    ]


def _draw(plotext: Any, curves: list[list[Curve]], x: _Axis, y: _Axis, width: int, height: int, braille: bool) -> str:
    figure = type(plotext.figure)(plotext.terminal)  # the user's own figure stays as it is

    def add(i: int, at: np.ndarray, values: np.ndarray, marker: str, joined: bool) -> None:
        coloured = plotext.marker(marker, pixel=plotext.pixel(foreground=_colour(i)))
        figure.draw(figure.signal(at.tolist(), values.tolist(), marker=coloured).lines(joined))

    try:
        plotext.terminal.limit(False, False)
        figure.plot_size(width, height)
        figure.theme("colorless")
        several = len(curves) > 1
        for i, group in enumerate(curves):
            marker = "braille" if braille else _letter(i) if several else "*"
            for steps, values, *_ in group:
                known = np.isfinite(values)
                for run in np.split(np.arange(len(values)), np.flatnonzero(known[1:] != known[:-1]) + 1):
                    if known[run[0]]:  # a line stops where there is no value
                        add(i, steps[run], values[run], marker, len(run) > 1)
        for i, group in enumerate(curves if several and braille else []):
            steps, values, *_ = group[len(group) // 2]
            at = x.low + (np.arange(3) + (i + 0.5) / len(curves)) / 3 * (x.high - x.low)
            on = np.interp(at, steps, values, left=np.nan, right=np.nan)
            if (there := np.isfinite(on)).any():
                add(i, at[there], on[there], _letter(i), False)
        for axis, side in ((x, "x"), (y, "y")):
            ruler = figure.ruler(side, 0).lim(axis.low, axis.high).alignment(lim="edge")
            if axis.at:
                ruler.ticks(axis.at, labels=axis.labels)
            else:
                ruler.frequency(0)
        return figure.build().string()
    finally:
        plotext.terminal.limit()
