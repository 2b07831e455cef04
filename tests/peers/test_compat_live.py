"""Every function of `jaxsched.compat` beside the live peer, with arguments drawn by hypothesis: `make parity`.

What is seen is written down, a file for each function; `report.py` makes `parity.json` and `docs/parity.md` of it."""

from __future__ import annotations

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
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


@pytest.mark.parametrize(("peer", "case"), ALL, ids=[f"{peer}-{case.name}" for peer, case in ALL])
def test_parity(peer: str, case: Case) -> None:
    drawn = harness.draws(case, SETTINGS)
    assert len(drawn) >= SETTINGS, "hypothesis found no 200 different settings: draw from more"
    for arguments in drawn[:2]:  # as Optax has it: the schedule is a constant of the compiled program
        schedule, steps = case.ours(**arguments), jnp.arange(case.steps)
        inside = jax.jit(lambda t, schedule=schedule: schedule(t))(steps)
        np.testing.assert_allclose(inside, schedule(steps), rtol=2e-6, atol=2e-7 * float(jnp.abs(inside).max()))
    theirs = [list(case.theirs(arguments, case.steps)) for arguments in drawn]
    seen = {}
    for bits in (32, 64):
        seen[bits] = [0.0]
        with x64() if bits == 64 else contextlib.nullcontext():
            steps = jnp.arange(case.steps)
            for arguments, values in zip(drawn, theirs, strict=True):
                right = harness.healthy(case, arguments, len(values))
                seen[bits].append(gap := harness.worst(case.ours(**arguments)(steps), values, bits, right))
                assert gap <= harness.TOLERANCE[bits], (bits, gap, arguments)
                if case.fault is not None:
                    exact = case.ours(**arguments, peer_exact=True)(steps)
                    seen[bits].append(gap := harness.worst(exact, values, bits))
                    assert gap <= harness.TOLERANCE[bits], (bits, gap, arguments)
    module = harness.cases_of(peer)
    row = {
        "peer": module.PEER,
        "version": module.version(),
        "settings": len(drawn),
        "values": sum(map(len, theirs)),
        "worst_32": max(seen[32]),
        "worst_64": max(seen[64]),
    }
    harness.FIGURES.mkdir(exist_ok=True)
    (harness.FIGURES / f"{peer}.{case.name}.json").write_text(json.dumps(row))
