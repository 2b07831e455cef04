"""The compat modules against the recorded values of their peers, and the laws of the core on all of them."""

from __future__ import annotations

import contextlib
import functools
import json
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .cases import x64
from .peers import harness
from .peers.harness import Case

PEERS = [peer for peer in harness.PEERS if (harness.HERE / f"compat_{peer}.json").exists()]
ALL = [(peer, case) for peer in PEERS for case in harness.cases_of(peer).CASES]
by_case = pytest.mark.parametrize(("peer", "case"), ALL, ids=[f"{peer}-{case.name}" for peer, case in ALL])


@functools.cache
def record_of(peer: str) -> dict[str, Any]:
    return harness.record_of(peer)


def rows_of(peer: str, case: Case) -> list[dict[str, Any]]:
    rows = [row for row in record_of(peer)["rows"] if row["name"] == case.name]
    assert len(rows) >= 2
    return rows


def get(arguments: Any, path: str) -> Any:
    for key in path.split("/"):
        arguments = arguments[int(key) if isinstance(arguments, list) else key]
    return arguments


def put(arguments: Any, path: str, value: Any) -> Any:
    """A copy with another value at `path`."""
    key, _, rest = path.partition("/")
    copy = dict(arguments) if isinstance(arguments, dict) else dict(enumerate(arguments))
    key = key if isinstance(arguments, dict) else int(key)
    copy[key] = put(copy[key], rest, value) if rest else value
    return copy if isinstance(arguments, dict) else list(copy.values())


@by_case
@pytest.mark.parametrize("bits", [32, 64])
def test_every_step_is_the_peers(peer: str, case: Case, bits: int) -> None:
    """Ours where the peer is right, and `peer_exact` everywhere. Not compiled: that is done live, and takes long."""
    with x64() if bits == 64 else contextlib.nullcontext(), jax.disable_jit():
        steps = jnp.arange(case.steps)
        for row in rows_of(peer, case):
            arguments, theirs = row["arguments"], row["values"]
            right = harness.healthy(case, arguments, len(theirs))
            values = case.ours(**arguments)(steps)
            assert harness.worst(values, theirs, bits, right) <= harness.TOLERANCE[bits], arguments
            if case.fault is not None:
                exact = case.ours(**arguments, peer_exact=True)(steps)
                assert harness.worst(exact, theirs, bits) <= harness.TOLERANCE[bits], arguments


def stacked(case: Case, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], tuple[Any, ...], list[dict[str, Any]]]:
    """The largest group of settings that differ in numbers alone: one of them, and the numbers of all, stacked."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        arguments = row["arguments"]
        for path in case.numeric:
            arguments = put(arguments, path, list(np.shape(get(arguments, path))))
        groups.setdefault(json.dumps(arguments), []).append(row)
    group = max(groups.values(), key=len)
    columns = tuple(np.array([get(row["arguments"], path) for row in group]) for path in case.numeric)
    floats = (np.float32 if column.dtype.kind == "f" else np.int32 for column in columns)
    return group[0]["arguments"], tuple(c.astype(t) for c, t in zip(columns, floats, strict=True)), group


@by_case
def test_it_obeys_the_laws(peer: str, case: Case) -> None:
    """vmap over every number, one trace for all, and finite gradients; and the values are still the peer's."""
    first, columns, group = stacked(case, rows_of(peer, case))
    steps = jnp.arange(case.steps)
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def value(floats: tuple[Any, ...], counts: tuple[Any, ...]) -> tuple[Any, Any]:
        numbers = [x if x is not None else n for x, n in zip(floats, counts, strict=True)]
        arguments = functools.reduce(lambda a, pair: put(a, *pair), zip(case.numeric, numbers, strict=True), first)
        values = case.ours(**arguments)(steps)
        return values.sum(), values

    floats = tuple(c if c.dtype.kind == "f" else None for c in columns)
    counts = tuple(None if c.dtype.kind == "f" else c for c in columns)
    slopes = jax.jit(jax.vmap(jax.grad(value, has_aux=True)))
    for _ in range(2):
        gradients, values = slopes(floats, counts)
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
    for row, ours in zip(group, values, strict=True):
        right = harness.healthy(case, row["arguments"], len(row["values"]))
        assert harness.worst(ours, row["values"], 32, right) <= harness.TOLERANCE[32], row["arguments"]


DIFFERENCES = [(peer, row) for peer in PEERS for row in record_of(peer)["differences"]]
by_difference = pytest.mark.parametrize(
    ("peer", "row"), DIFFERENCES, ids=[f"{peer}-{row['name']}-{row['why']}" for peer, row in DIFFERENCES]
)


@by_difference
def test_a_fault_of_a_peer_is_not_ours(peer: str, row: dict[str, Any]) -> None:
    case = next(case for case in harness.cases_of(peer).CASES if case.name == row["name"])
    ours = float(case.ours(**row["arguments"])(row["step"]))
    assert ours != pytest.approx(row["value"], rel=1e-4, abs=1e-12)
    if row.get("has_exact", True):
        exact = float(case.ours(**row["arguments"], peer_exact=True)(row["step"]))
        assert exact == pytest.approx(row["value"], rel=1e-6, abs=1e-12, nan_ok=True)


def test_every_fault_has_its_row() -> None:
    """A case with a fault shows it at least once."""
    shown = {(peer, row["name"]) for peer, row in DIFFERENCES}
    assert {(peer, case.name) for peer, case in ALL if case.fault is not None} <= shown


def test_every_peer_is_recorded() -> None:
    assert PEERS == harness.PEERS
