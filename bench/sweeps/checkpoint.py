"""What a checkpoint every ten seconds costs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from jaxsched.sweep.checkpoint import Checkpoint

from ..timing import Row, at_most, interleaved
from . import work


def measure(settings: int = 4096, rounds: int = 3, seconds: float = 10.0) -> tuple[list[Row], list[str]]:
    engine, schedules = work.Ours(), work.settings(settings)
    chunk = engine(schedules).run["chunk"]
    sizes: list[int] = []

    def with_checkpoints() -> None:
        with tempfile.TemporaryDirectory() as folder:
            engine(schedules, chunk=chunk, checkpoint=Checkpoint(folder, seconds=seconds))
            sizes.append(sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()))

    sides = {"with": with_checkpoints, "without": lambda: engine(schedules, chunk=chunk)}
    times = interleaved(sides, rounds)
    every = np.median(times["without"].seconds) / seconds
    rows = [
        at_most(f"{settings:,} settings with a checkpoint every {seconds:g} s", times["with"], times["without"], 1.03)
    ]
    return rows, [
        f"Checkpoints: about {every:.1f} times {seconds:g} s a run, and one at its end; those that are kept take "
        f"{max(sizes) / 2**20:.1f} MiB. Written with Orbax, into a new folder each time."
    ]
