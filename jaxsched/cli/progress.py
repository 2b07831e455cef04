"""The progress of a sweep: a live line on a terminal, and elsewhere a line every few seconds."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .._errors import JaxschedWarning
from ..inspect.format import count, number
from ..sweep.run import Status
from .errors import say

if TYPE_CHECKING:
    from rich.console import Console

_EVERY_SECONDS = 5.0  # between two lines where there is no live one
_LEAST_SECONDS = 0.5  # of training before an estimate is shown


class Progress:
    """A callback of `sweep` that prints the progress to a console; calls `on_start` when the first steps are done."""

    def __init__(self, console: Console, on_start: Callable[[], None] = lambda: None) -> None:
        from rich import progress
        from rich.table import Column

        self.on_start = on_start
        self.speed = 0.0
        self._begin = self._last = time.monotonic()
        self._first: tuple[float, int] | None = None  # the time and the steps at the end of the first segment
        self._waiting = ""
        # One line, cut where the terminal ends: a resize would leave pieces of several lines behind.
        column = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        words = progress.TextColumn("{task.description}", markup=False, table_column=column)
        columns = (progress.BarColumn(bar_width=20), progress.TaskProgressColumn(), words)
        self._bar = progress.Progress(*columns, console=console, expand=True, disable=not console.is_terminal)
        self._row = self._bar.add_task("compiling", total=None)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self._bar.disable:
            self._bar.stop()
        elif self._waiting:
            say(self._waiting)

    def __call__(self, status: Status) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now, status.steps
            self.on_start()
            if status.resumed_from:
                total = f"{status.steps_total:,}"
                say(f"going on from the last checkpoint: {status.resumed_from:,} of {total} steps were done")
        if math.isfinite(status.steps_per_second):
            self.speed = status.steps_per_second
        # The first segment includes the compilation.
        began, steps = self._first
        pace = (status.steps - steps) / (now - began) if now - began >= _LEAST_SECONDS else 0.0
        text = _status_text(status, pace)
        self._bar.update(self._row, completed=status.steps, total=status.steps_total, description=text)
        self._waiting = f"{now - self._begin:6.1f} s  {text}"
        if self._bar.disable and now - self._last >= _EVERY_SECONDS:
            say(self._waiting)
            self._last, self._waiting = now, ""


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Prints warnings of jaxsched (a full disk, a chunk that does not fit) as one line each."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, JaxschedWarning):
            say(f"jaxsched: {message}")  # a live line moves out of the way
        else:
            before(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _status_text(status: Status, pace: float) -> str:
    """Such as `12/64 trainings done, 60 alive, 4 diverged, best valid loss 0.0312, 1.2M steps/s, 34 s left`."""
    alive = status.trainings - status.diverged - status.pruned
    parts = [f"{status.done}/{status.trainings} trainings done", f"{alive} alive", f"{status.diverged} diverged"]
    if status.pruned:
        parts.append(f"{status.pruned} pruned")
    if status.best is not None:
        parts.append(f"best valid loss {number(status.best)}")
    if pace > 0:
        left = status.seconds_left * status.steps_per_second / pace  # the remaining steps at this pace
        parts.append(f"{count(pace, 3)} steps/s")
        if math.isfinite(left):
            parts.append(f"{_duration(left)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
