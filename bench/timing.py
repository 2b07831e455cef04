"""The one place where time is taken and where tables are written."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable

import numpy as np

RECORDS = pathlib.Path(__file__).parent / "records"


# --- time ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds a call, one entry a round; rounds of one run were taken side by side."""

    seconds: np.ndarray

    def __str__(self) -> str:
        return f"{span(np.median(self.seconds))} (min {span(self.seconds.min())})"

    def __mul__(self, count: float) -> Times:
        return Times(self.seconds * count)

    def __add__(self, other: Times) -> Times:
        return Times(self.seconds + np.median(other.seconds))


def span(seconds: float) -> str:
    """A length of time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def once(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(
    functions: dict[str, Callable[[], object]],
    rounds: int,
    calls: int = 1,
    warm: int = 1,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """The time of a call to each function: in every round each has its turn, so that a busy moment hits them alike.

    The order turns around from round to round, so that nobody always follows the same neighbour; `before` runs ahead
    of each turn and is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions)
    gc.collect()
    gc.disable()
    try:
        for i in range(-warm, rounds):
            for name in order if i % 2 else reversed(order):
                function = functions[name]
                before()
                start = time.perf_counter()
                for _ in range(calls):
                    function()
                taken = (time.perf_counter() - start) / calls
                if i >= 0:
                    seconds[name].append(taken)
    finally:
        gc.enable()
    return {name: Times(np.array(taken)) for name, taken in seconds.items()}


def ratio(a: Times, b: Times) -> tuple[float, float]:
    """How many times as long a takes as b: the median over the rounds, and the ratio of the minima."""
    paired = a.seconds / b.seconds if len(a.seconds) == len(b.seconds) else np.median(a.seconds) / np.median(b.seconds)
    return float(np.median(paired)), float(a.seconds.min() / b.seconds.min())


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    what: str
    ours: str
    peer: str
    ratio: str
    bar: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        met = {True: "yes", False: "**MISSED**", None: ""}[self.met]
        return [self.what, self.ours, self.peer, self.ratio, self.bar, met]


def _two(first: float, second: float) -> str:
    digits = lambda x: f"{x:.3f}x" if x < 10 else f"{x:,.0f}x"  # noqa: E731
    return f"{digits(first)} (min {digits(second)})"


def at_most(what: str, ours: Times, peer: Times, bar: float | None = None) -> Row:
    """A row that tells how many times as long ours takes as the peer."""
    median, least = ratio(ours, peer)
    if bar is None:
        return Row(what, str(ours), str(peer), _two(median, least))
    return Row(what, str(ours), str(peer), _two(median, least), f"<= {bar:g}x", median <= bar)


def at_least(what: str, ours: Times, peer: Times, bar: float | None = None) -> Row:
    """A row that tells how many times as long the peer takes as ours."""
    median, least = ratio(peer, ours)
    text = f"{_two(median, least)} slower"
    if bar is None:
        return Row(what, str(ours), str(peer), text)
    return Row(what, str(ours), str(peer), text, f">= {bar:g}x", median >= bar)


@dataclasses.dataclass(frozen=True)
class Table:
    name: str
    title: str
    notes: list[str]
    rows: list[Row]
    command: str = ""  # that prints it, where it is not `python -m bench NAME`
    columns: tuple[str, ...] = ("what", "ours", "peer", "ratio", "bar", "met?")

    def __str__(self) -> str:
        line = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
        body = [line(self.columns), line("---" for _ in self.columns), *(line(row.cells()) for row in self.rows)]
        judged = [row for row in self.rows if row.met is not None]
        missed = [row.what for row in judged if not row.met]
        verdict = f"{len(judged) - len(missed)} of {len(judged)} bars met."
        verdict += f" Missed: {'; '.join(missed)}." if missed else ""
        notes = [f"- {note}" for note in self.notes]
        return "\n".join(
            [
                f"# {self.title}",
                "",
                f"`{self.command or f'python -m bench {self.name}'}`: {machine()}",
                "",
                *body,
                "",
                verdict,
                "",
                *notes,
            ]
        )

    def publish(self) -> None:
        """Print the table, and keep it in records/."""
        text = str(self)
        RECORDS.mkdir(exist_ok=True)
        (RECORDS / f"{self.name}.md").write_text(text + "\n")
        print(text, end="\n\n", flush=True)


def machine() -> str:
    """What the numbers were taken on."""
    versions = []
    for package in ("jax", "optax", "torch"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    python = f"Python {platform.python_version()}"
    return ", ".join([_processor(), cores, *versions, python, datetime.date.today().isoformat()]) + "."


def _processor() -> str:
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model name")]
    return models[0] if models else platform.machine()


MEDIANS = (
    "Every time is the median of its rounds, with the least one in brackets. In a round each side has its turn; a "
    "ratio is the median of the rounds' ratios, with the ratio of the least times in brackets."
)
