"""Writes what the live peers say, for `tests/test_compat.py`: `python -m tests.peers.record torch timm`, or all.

The extra `parity` installs the peers; those that cannot be installed are run from their source (`sources.py`)."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import numpy as np

from . import harness
from .harness import Case

SETTINGS, CANDIDATES = 4, 24


def telling(case: Case) -> list[dict[str, Any]]:
    """Of many drawn settings those that show something: a rate that moves, mostly where the peer is right; and one
    where it is wrong."""
    rows, faulty = [], []
    for arguments in harness.draws(case, CANDIDATES):
        values = [float(v) for v in case.theirs(arguments, case.steps)]
        row = {"name": case.name, "arguments": arguments, "values": values}
        right = harness.healthy(case, arguments, len(values))
        moves = len(set(np.asarray(values)[right])) > 2
        rows.append((not (moves and right.mean() >= 0.5), len(rows), row))
        if not right.all() and moves:
            faulty.append(row)
    chosen = [row for *_, row in sorted(rows, key=lambda x: x[:2])][:SETTINGS]
    if faulty and not any(row in chosen for row in faulty):
        chosen[-1] = faulty[0]
    return chosen


def record(peer: str) -> dict[str, Any]:
    module = harness.cases_of(peer)
    rows = [row for case in module.CASES for row in telling(case)]
    by_name = {case.name: case for case in module.CASES}
    differences = []
    for d in module.DIFFERENCES:
        value = float(by_name[d.case].theirs(d.arguments, d.step + 1)[d.step])
        differences.append({"name": d.case, **dataclasses.asdict(d), "value": value})
        del differences[-1]["case"]
    head = {"peer": module.PEER, "version": module.version(), "made_by": f"python -m tests.peers.record {peer}"}
    return {**head, "differences": differences, "rows": rows}


def main() -> None:
    for peer in sys.argv[1:] or harness.PEERS:
        recorded = record(peer)
        rows = recorded.pop("rows")
        head = json.dumps(recorded)[1:-1]
        lines = ",\n".join(map(json.dumps, rows))
        (harness.HERE / f"compat_{peer}.json").write_text(f'{{{head}, "rows": [\n{lines}\n]}}\n')
        print(peer, recorded["version"], len(rows), "settings,", len(recorded["differences"]), "differences")


if __name__ == "__main__":
    main()
