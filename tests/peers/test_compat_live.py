"""Every function of `jaxsched.compat` beside the live peer, with arguments drawn by hypothesis: `make parity`.

What is seen is written to `parity.json`, of which `report.py` makes `docs/parity.md`."""

from __future__ import annotations

import contextlib
import importlib
import json
from typing import Any

import jax.numpy as jnp
import pytest

from tests.cases import x64

from . import harness
from .harness import Case

SETTINGS = 200


def installed(peer: str) -> bool:
    """Whether the peer can be run here; a peer that is not there is not silently passed, but left out of the table."""
    try:
        harness.cases_of(peer).version()
    except ImportError:
        return False
    return True


LIVE = [peer for peer in harness.PEERS if (harness.HERE / f"cases_{peer}.py").exists() and installed(peer)]
ALL = [(peer, case) for peer in LIVE for case in harness.cases_of(peer).CASES]


@pytest.fixture(scope="module")
def figures() -> Any:
    """What was seen, written down at the end."""
    found: dict[str, Any] = {}
    yield found
    for peer, rows in found.items():
        module = importlib.import_module(f"tests.peers.cases_{peer}")
        known = {case.name for case in module.CASES}
        path = harness.HERE / "parity.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        old = table.get(peer, {}).get("functions", {})
        rows = {name: row for name, row in {**old, **rows}.items() if name in known}
        table[peer] = {"peer": module.PEER, "version": module.version(), "functions": dict(sorted(rows.items()))}
        path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


@pytest.mark.parametrize(("peer", "case"), ALL, ids=[f"{peer}-{case.name}" for peer, case in ALL])
def test_parity(peer: str, case: Case, figures: Any) -> None:
    drawn = harness.draws(case, SETTINGS)
    assert len(drawn) >= SETTINGS, "hypothesis found no 200 different settings: draw from more"
    theirs = [list(case.theirs(arguments, case.steps)) for arguments in drawn]
    seen = {}
    for bits in (32, 64):
        seen[bits] = [0.0]
        with x64() if bits == 64 else contextlib.nullcontext():
            steps = jnp.arange(case.steps)
            for arguments, values in zip(drawn, theirs, strict=True):
                right = harness.healthy(case, arguments, len(values))
                seen[bits].append(gap := harness.worst(case.ours(**arguments)(steps), values, right))
                assert gap <= harness.TOLERANCE[bits], (bits, gap, arguments)
                if case.fault is not None:
                    exact = case.ours(**arguments, peer_exact=True)(steps)
                    seen[bits].append(gap := harness.worst(exact, values))
                    assert gap <= harness.TOLERANCE[bits], (bits, gap, arguments)
    figures.setdefault(peer, {})[case.name] = {
        "settings": len(drawn),
        "values": sum(map(len, theirs)),
        "worst_32": max(seen[32]),
        "worst_64": max(seen[64]),
    }
