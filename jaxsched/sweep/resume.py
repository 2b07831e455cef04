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


def exchange(run: Run) -> None:
    """After a round: the carries are pooled, and every process learns what the others have."""
    groups = {chunk.group for chunk in run.chunks if chunk.kept}
    pool = {g: _pooled([chunk for chunk in run.chunks if chunk.group == g and chunk.kept]) for g in groups}
    if run.processes.count > 1:
        pairs = np.concatenate([np.empty(0, np.int64), *(chunk.pairs for chunk in run.chunks)])
        mine = {"table": run.table.rows(pairs), "pool": {str(g): _pool_tree(*part) for g, part in pool.items()}}
        everyone = run.processes.gather(mine)
        for they in everyone:
            run.table.write(they["table"])
        parts = [{int(g): _pool_of(part) for g, part in they.get("pool", {}).items()} for they in everyone]
        pool = {g: _joined([part[g] for part in parts if g in part]) for g in {g for part in parts for g in part}}
    run.stage.pool = pool


def _agreed(run: Run, saved: dict[str, Any] | None) -> dict[str, Any] | None:
    """What this one of several processes goes on from. At the beginning of a round all have the same to go on from:
    one that was ended before it could save that takes it from another, and so does one that has saved nothing yet."""
    mine = -1 if saved is None else int(saved["round"])
    rounds = [int(they["round"]) for they in run.processes.gather({"round": np.array(mine)})]
    latest = max(rounds)
    if latest < 0 or min(rounds) == latest:
        return saved
    first = rounds.index(latest)
    shared = {**saved, "chunks": {}} if saved is not None and run.processes.index == first else {}
    adopted = {"most": {}, "cap": {}, "facts": {}, "pool": {}, "chunks": {}, **run.processes.gather(shared)[first]}
    return saved if mine == latest else adopted


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


def _pooled(chunks: list[Chunk]) -> tuple[np.ndarray, list[np.ndarray]]:
    return _joined([(chunk.pairs, chunk.kept or []) for chunk in chunks])


def _joined(parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> tuple[np.ndarray, list[np.ndarray]]:
    pairs, columns = zip(*parts, strict=True)
    return np.concatenate(pairs), [np.concatenate(leaves) for leaves in zip(*columns, strict=True)]


def _pool_tree(pairs: np.ndarray, leaves: list[np.ndarray]) -> dict[str, Any]:
    return {"pairs": pairs, "leaves": {str(i): leaf for i, leaf in enumerate(leaves)}}


def _pool_of(saved: dict[str, Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    return saved["pairs"], _listed(saved["leaves"])


def _listed(leaves: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [leaves[str(i)] for i in range(len(leaves))]
