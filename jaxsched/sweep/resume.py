"""What a run is between two segments, as a tree of arrays: for its checkpoints, and for the other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .stage import Chunk

if TYPE_CHECKING:
    from .run import Run


def tree(run: Run) -> dict[str, Any]:
    """All that a run has come to, as nested dicts of arrays and numbers."""
    return {
        "round": run.round,
        "seconds": run._seconds(),
        "compile_seconds": run.stage.compile_seconds,
        "layout": {str(g): rows for g, rows in run.layout.items()},
        "most": {str(g): size for g, size in run.sizes.most.items()},
        "cap": {str(g): rows for g, rows in run.sizes.cap.items()},
        "facts": {name: run.sizes.facts[name] for name in ("chunk", "padding") if name in run.sizes.facts},
        "table": run.table.tree(),
        "chunks": {str(i): _chunk_tree(chunk) for i, chunk in enumerate(run.chunks)},
        "pool": {str(g): _pool_tree(*pool) for g, pool in run.stage.pool.items()},
    }


def restore(run: Run) -> None:
    """Takes a run to where its checkpoint stands, if there is one."""
    saved = run.store.restore() if run.store is not None else None
    if run.processes.count > 1:
        saved = _agreed(run, saved)
    if saved is None:
        return
    run.layout = {int(g): int(rows) for g, rows in saved["layout"].items()}
    run.round = int(saved["round"])
    run.earlier, run.compiled_before = float(saved["seconds"]), float(saved["compile_seconds"])
    run.stage.compile_seconds += run.compiled_before
    run.sizes.most = {int(g): int(size) for g, size in saved["most"].items()}
    run.sizes.cap = {int(g): int(rows) for g, rows in saved["cap"].items()}
    run.sizes.facts |= {name: int(x) for name, x in saved["facts"].items()}
    run.table.write(saved["table"])
    run.stage.pool = {int(g): _pool_of(part) for g, part in saved["pool"].items()}
    run.chunks = [_chunk_of(saved["chunks"][str(i)]) for i in range(len(saved["chunks"]))]
    run.resumed_from = int(run.table.reached.sum())


def share(run: Run) -> None:
    """After a round: every process learns what the others have measured."""
    if run.processes.count == 1:
        return
    pairs = np.concatenate([np.empty(0, np.int64), *(chunk.pairs for chunk in run.chunks)])
    for they in run.processes.gather(run.table.rows(pairs)):
        run.table.write(they)


def pool(run: Run) -> None:
    """Between two rounds: the carries of the trainings that go on, of all processes."""
    parts: dict[int, list[Any]] = {}
    for chunk in run.chunks:
        going = ~run.table.out[chunk.pairs]
        if going.any():
            kept = [leaf[going] for leaf in chunk.kept or []]
            parts.setdefault(chunk.group, []).append((chunk.pairs[going], kept))
    mine = {g: _joined(part) for g, part in parts.items()}
    if run.processes.count > 1:
        everyone = run.processes.gather({str(g): _pool_tree(*part) for g, part in mine.items()})
        groups = sorted({int(g) for they in everyone for g in they})
        mine = {g: _joined([_pool_of(they[str(g)]) for they in everyone if str(g) in they]) for g in groups}
    run.stage.pool = mine


def _agreed(run: Run, saved: dict[str, Any] | None) -> dict[str, Any] | None:
    """What this one of several processes goes on from.

    Nobody begins a round before all have saved what it begins from, so all are in one round, or some are at the very
    beginning of it and the others had no time to save that: then these take it, the same for all, from the first of
    those. And chunks are laid out as somebody has already, if anybody has."""
    mine = {"round": np.array(-1 if saved is None else saved["round"])}
    mine |= {"layout": {} if saved is None else {g: np.array(rows) for g, rows in saved["layout"].items()}}
    everyone = run.processes.gather(mine)
    rounds = [int(they["round"]) for they in everyone]
    if max(rounds) < 0:
        return None
    latest = [i for i, number in enumerate(rounds) if number == max(rounds)]
    layouts = [everyone[i].get("layout", {}) for i in latest]
    if min(rounds) < max(rounds):
        shared = {**(saved or {}), "chunks": {}} if run.processes.index == latest[0] else {}
        adopted = run.processes.gather(shared)[latest[0]]
        if run.processes.index not in latest:
            saved = {"most": {}, "cap": {}, "facts": {}, "pool": {}, **adopted, "chunks": {}}
    assert saved is not None
    return {**saved, "layout": next(filter(None, layouts), {})}


def _chunk_tree(chunk: Chunk) -> dict[str, Any]:
    return {
        "group": chunk.group,
        "pairs": chunk.pairs,
        "rows": chunk.rows,
        "t": chunk.t,
        "finished": int(chunk.finished),
        "kept": {str(i): leaf for i, leaf in enumerate(chunk.to_host())},
    }


def _chunk_of(saved: dict[str, Any]) -> Chunk:
    kept = _listed(saved["kept"]) or None
    group, rows, t, finished = (int(saved[name]) for name in ("group", "rows", "t", "finished"))
    return Chunk(group, saved["pairs"], rows, t, bool(finished), kept)


def _joined(parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> tuple[np.ndarray, list[np.ndarray]]:
    pairs, columns = zip(*parts, strict=True)
    return np.concatenate(pairs), [np.concatenate(leaves) for leaves in zip(*columns, strict=True)]


def _pool_tree(pairs: np.ndarray, leaves: list[np.ndarray]) -> dict[str, Any]:
    return {"pairs": pairs, "leaves": {str(i): leaf for i, leaf in enumerate(leaves)}}


def _pool_of(saved: dict[str, Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    return saved["pairs"], _listed(saved["leaves"])


def _listed(leaves: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [leaves[str(i)] for i in range(len(leaves))]
