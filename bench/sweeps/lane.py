"""The engine against the best loop over chunks that is written by hand with vmap and scan."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from jaxsched.sweep.checkpoint import Checkpoint

from ..timing import Row, Times, at_most, interleaved
from . import child, work


def times(settings: int, rounds: int, seconds: float, chunk: int | None = None) -> dict[str, Any]:
    """Seconds of each round on the cores of this process, the programs compiled before."""
    schedules, engine = work.settings(settings), work.Ours()
    if chunk is None:
        chunk = engine(schedules, chunk="auto").run["chunk"]
    hand = work.Hand(schedules, chunk)

    def ours() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return engine(schedules, chunk=chunk, checkpoint=Checkpoint(folder, seconds=seconds))

    sides = {"ours": ours, "bare": lambda: engine(schedules, chunk=chunk), "hand": hand}
    work.assert_same(ours(), hand())
    taken = interleaved(sides, rounds)
    return {"chunk": chunk, **{name: each.seconds.tolist() for name, each in taken.items()}}


def measure(settings: int = 1024, rounds: int = 5, seconds: float = 10.0) -> tuple[list[Row], list[str]]:
    one, all_ = child.cores()[:1], child.cores()
    lane = child.call("sweeps.lane", "times", one, settings=settings, rounds=rounds, seconds=seconds)
    whole = child.call(
        "sweeps.lane", "times", all_, settings=settings, rounds=rounds, seconds=seconds, chunk=lane["chunk"]
    )
    row = lambda what, taken, side, bar=None: at_most(  # noqa: E731
        what, Times(np.array(taken[side])), Times(np.array(taken["hand"])), bar
    )
    rows = [
        row(
            f"{settings} settings on one core, chunks of {lane['chunk']}, against vmap and scan by hand",
            lane,
            "ours",
            1.05,
        ),
        row("the same without checkpoints", lane, "bare"),
        row(f"the same on {len(all_)} cores: a chunk for each core, against chunk after chunk", whole, "ours"),
    ]
    notes = [
        "By hand: one program of vmap over scan for a chunk, compiled before, with the same curves and the same "
        "examples in the same order; the first window and the median of the last losses are compared. Ours: compiled "
        f"before too, with divergence marks, and a checkpoint every {seconds:g} s. The chunk is the one that "
        f'chunk="auto" chose on one core.'
    ]
    return rows, notes
