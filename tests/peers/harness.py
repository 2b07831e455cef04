"""How a schedule of `jaxsched.compat` is held against the system it comes from.

Each peer has a module `cases_NAME.py` beside this one, with `PEER` (its name and version), `CASES` and `DIFFERENCES`.
The same cases serve three times: `record.py` writes what the peer says into `compat_NAME.json`; `tests/test_compat.py`
holds ours against that record without the peer; `test_compat_live.py` (`make parity`) lets hypothesis draw and asks the
live peer.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
FIGURES = HERE / ".figures"  # what the live comparison saw, a file for each function
# What should be 0 is dust in a peer that adds up floats: a difference of this share of the largest value passes.
DUST = 5e-14
TOLERANCE = {32: 1e-6, 64: 1e-12}


def f32(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers that float32 holds exactly, so that both sides are given the same ones."""
    return st.floats(float(np.float32(low)), float(np.float32(high)), width=32, allow_subnormal=False)


def rates() -> st.SearchStrategy[float]:
    """Learning rates, small and large: 1e-5 to 1."""
    return st.floats(-5, 0).map(lambda x: float(np.float32(10**x)))


@dataclasses.dataclass(frozen=True)
class Case:
    """One function of a peer.

    name: the peer's name for it.
    ours: makes our schedule of the drawn arguments (JSON: numbers, texts, lists, dicts); where the peer is at fault
      anywhere it also takes `peer_exact=True`.
    theirs: `(arguments, steps) -> values`: runs the live peer, in float64, for its steps 0 ... steps - 1. Imports the
      peer inside. A shorter list where the peer refuses to go on.
    draw: what hypothesis draws the arguments from; horizons shorter than `steps`, so that what is beyond them is seen.
    numeric: the arguments (or paths to them, `"schedulers/0/gamma"`) that are vmapped, traced and differentiated.
    steps: how many steps are compared.
    fault: `(arguments, step array) -> mask` of the steps where the peer is wrong and ours, on purpose, is not equal;
      None where it never is. There only `peer_exact=True` is equal.
    """

    name: str
    ours: Callable[..., Any]
    theirs: Callable[[dict[str, Any], int], Sequence[float]]
    draw: st.SearchStrategy[dict[str, Any]]
    numeric: tuple[str, ...]
    steps: int = 128
    fault: Callable[[dict[str, Any], np.ndarray], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Difference:
    """A place where a peer is wrong: at `step`, with these arguments of this case. `why` goes on from "is wrong: ".

    has_exact: whether there is a `peer_exact=True` that gives the peer's number."""

    case: str
    arguments: dict[str, Any]
    step: int
    why: str
    has_exact: bool = True


PEERS = (
    "big_vision composer deepspeed fairseq fastai ignite keras levanter megatron mmengine olmo_core optax paddle "
    "pytorch_warmup rex scenic t5x tf1 timm torch transformers"
).split()


def cases_of(peer: str) -> Any:
    return importlib.import_module(f"tests.peers.cases_{peer}")


def record_of(peer: str) -> dict[str, Any]:
    return json.loads((HERE / f"compat_{peer}.json").read_text())


def draws(case: Case, count: int) -> list[dict[str, Any]]:
    """`count` settings, the same ones every time."""
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=4 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case.draw)
    def collect(arguments: dict[str, Any]) -> None:
        if arguments not in found:
            found.append(arguments)

    collect()
    return found[1 : count + 1] if len(found) > count else found  # the first one is the simplest there is


def worst(ours: Any, theirs: Any, bits: int, where: Any = True) -> float:
    """The largest relative difference, where `where` holds. It passes if it is `TOLERANCE[bits]` at most.

    A value that is next to nothing beside the largest one is taken to be a little larger, so that a difference of
    `DUST` of the largest one passes."""
    ours, theirs = np.asarray(ours, np.float64)[: len(theirs)], np.asarray(theirs, np.float64)
    finite = np.isfinite(theirs) & where
    assert np.all(np.isfinite(ours[finite])), ours
    if not finite.any():
        return 0.0
    size = np.abs(theirs)
    floor = np.max(size[np.isfinite(theirs)]) * DUST / TOLERANCE[bits]
    gap, size = np.abs(ours - theirs)[finite], np.maximum(size, floor)[finite]
    return float(np.max(np.where(gap == 0, 0, gap / np.where(size > 0, size, 1e-300))))


def healthy(case: Case, arguments: dict[str, Any], steps: int) -> np.ndarray:
    """Where the peer is right."""
    if case.fault is None:
        return np.ones(steps, bool)
    return ~np.broadcast_to(case.fault(arguments, np.arange(steps)), (steps,))
