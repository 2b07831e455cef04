"""Writes what the live peers say, for `tests/test_compat.py`: `python -m tests.peers.record torch timm`, or without names
for all of them.

The peers are installed by the extra `parity`; those that cannot be are run from a copy of their source (`sources.py`)."""

from __future__ import annotations

import json
import sys
from typing import Any

from . import harness

SETTINGS = 6


def record(peer: str) -> dict[str, Any]:
    module = harness.cases_of(peer)
    rows = [
        {"name": case.name, "arguments": arguments, "values": [float(v) for v in case.theirs(arguments, case.steps)]}
        for case in module.CASES
        for arguments in harness.draws(case, SETTINGS)
    ]
    by_name = {case.name: case for case in module.CASES}
    differences = [
        {
            "name": d.case,
            "arguments": d.arguments,
            "step": d.step,
            "why": d.why,
            "value": float(by_name[d.case].theirs(d.arguments, d.step + 1)[d.step]),
        }
        for d in module.DIFFERENCES
    ]
    made_by = f"python -m tests.peers.record {peer}"
    return {
        "peer": module.PEER,
        "version": module.version(),
        "made_by": made_by,
        "rows": rows,
        "differences": differences,
    }


def main() -> None:
    for peer in sys.argv[1:] or harness.PEERS:
        recorded = record(peer)
        lines = ",\n".join(json.dumps(row) for row in recorded.pop("rows"))
        head = json.dumps(recorded)[1:-1]
        (harness.HERE / f"compat_{peer}.json").write_text(f'{{{head}, "rows": [\n{lines}\n]}}\n')
        print(
            peer, recorded["version"], lines.count("\n") + 1, "settings,", len(recorded["differences"]), "differences"
        )


if __name__ == "__main__":
    main()
