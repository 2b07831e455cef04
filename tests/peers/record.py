"""Writes what the live peers say, for `tests/test_compat.py`: `python -m tests.peers.record torch timm`, or all.

The extra `parity` installs the peers; those that cannot be installed are run from their source (`sources.py`)."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from . import harness

SETTINGS = 4


def record(peer: str) -> dict[str, Any]:
    module = harness.cases_of(peer)
    rows = [
        {"name": case.name, "arguments": arguments, "values": [float(v) for v in case.theirs(arguments, case.steps)]}
        for case in module.CASES
        for arguments in harness.draws(case, SETTINGS)
    ]
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
