"""The sweep engine: its throughput, its scaling, its pruning, its checkpoints and its memory, each against its peer.

`python -m bench.sweeps.child sweeps.PART:measure` measures one part alone."""

from __future__ import annotations

from .sweeps import child
from .timing import Row, Table

PARTS = ("throughput", "lane", "scaling", "pruning", "checkpoint", "memory")


def measure() -> Table:
    rows, notes = [], []
    for part in PARTS:
        # A process each: the memory and the compilation caches of one part are not a load on the next.
        try:
            told, said = child.call(f"sweeps.{part}", "measure")
        except RuntimeError as error:
            rows.append(Row(part, "did not run to the end", "", "", "", False))
            notes.append(str(error).splitlines()[0])
            continue
        rows += [Row(**row) for row in told]
        notes += said
    return Table("sweep", "Sweeps", notes, rows)
