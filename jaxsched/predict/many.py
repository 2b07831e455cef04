"""A sweep over predictions: an objective of a hundred thousand settings, in chunks that fit."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..schedules.base import Schedule
from ..schedules.fields import shown
from ..sweep.result import SweepResult
from ..sweep.settings import Group, grouped_settings, merged
from ..sweep.space import drawn_from, sample
from .descent import Objective, hashable, scalar, traced
from .rates import checked_steps

_ROWS = {"cpu": 6_000}
"""Settings side by side: on a CPU as many as have their sums in the caches."""

_MOST_ROWS = 32_768
"""The same on an accelerator, which is busy with so many."""

_BYTES = 2**28
"""What a chunk may take beside its settings; an objective that takes more gets smaller chunks."""


def sweep(
    space: Any,
    objective: Objective,
    n: int | None = None,
    *,
    total_steps: int | None = None,
    method: Literal["sobol", "halton", "random"] = "sobol",
    seed: int = 0,
    where: Callable[[Any], Any] | None = None,
    chunk: int | Literal["auto"] = "auto",
    name: str = "predicted_loss",
) -> SweepResult:
    """Predicts what every setting will come to, without a training, and returns it as the result of a sweep.

    Settings of one structure are one program, which runs over chunks of them, on a CPU as many at a time as there are
    cores. The memory follows the chunk and not the number of settings; the values do not follow the chunk.

    Args:
      space: what is drawn from, as `sample` takes it (a `space(...)`, a pytree or a list of them), with `n`; or the
        settings themselves, as `jaxsched.sweep` takes them: stacked, or a list.
      objective: `objective(setting) -> scalar`, or a dict of scalars by name, each a metric. Anything that JAX can
        trace, such as `lambda s: convex.bound(s, total_steps=4_000)`.
      n: how many settings are drawn; None for settings.
      total_steps: the horizon that is predicted, if there is one: the step of the values in tables and figures.
        None: 1.
      method, seed, where: how settings are drawn, as in `sample`.
      chunk: the most settings that run side by side in one program. `"auto"`: 6,000 on a CPU and 32,768 on an
        accelerator, and fewer where they would take more than 256 MiB.
      name: of the metric, where the objective is a scalar. The smallest of a name that ends in `loss` is best.

    Returns: a `SweepResult` of one seed and one window: `final[name]` (settings, 1), `metrics[name]` (settings, 1, 1).
    A setting whose prediction is not finite has diverged at step 0, and ranks last. Its `steps` are `total_steps`, none
    of which was trained: `run["predicted"]` is True.

    Errors: TypeError and ValueError that name the argument; for an objective that is neither a scalar nor a dict of
    them, or cannot be traced.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import convex
      >>> from jaxsched.predict.many import sweep
      >>> from jaxsched.sweep import log_uniform, space
      >>> family = space(js.Linear, init_value=log_uniform(1e-3, 1.0), end_value=0.0, steps=400)
      >>> result = sweep(family, lambda s: convex.bound(s, total_steps=400), 256, total_steps=400)
      >>> result.final["predicted_loss"].shape
      (256, 1)
      >>> best = result.ranking("predicted_loss")[0]
      >>> f"{best['init_value']:.2f} {best['mean']:.3f}"
      '0.05 0.101'
    """
    began = time.perf_counter()
    total_steps = 1 if total_steps is None else checked_steps("predict.sweep", "total_steps", total_steps)
    _check(objective, chunk, name)
    groups = _settings(space, n, method, seed, where)
    sampled = time.perf_counter() - began
    objective = hashable(objective)
    found: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"chunk": 0, "lanes": _lanes(), "groups": len(groups)}
    compiling = 0.0
    count = sum(len(group.index) for group in groups)
    for group in groups:
        rows, program, seconds = _fitting(objective, name, group, chunk)
        values = _run(program, group, rows)
        _place(found, values, group.index, count)
        facts["chunk"], compiling = max(facts["chunk"], rows), compiling + seconds
    lost = ~np.all([np.isfinite(x) for x in found.values()], axis=0)
    for values in found.values():
        values[lost] = np.nan
    return SweepResult(
        metrics={key: x[:, None, None] for key, x in found.items()},
        final={key: x[:, None] for key, x in found.items()},
        diverged_at=np.where(lost, 0, -1).astype(np.int32)[:, None],
        schedules=merged(groups),
        seeds=(0,),
        steps=total_steps,
        log_every=total_steps,
        seconds=time.perf_counter() - began - compiling,
        compile_seconds=compiling,
        run={"predicted": True, **facts, "device": jax.devices()[0].device_kind, "sample_seconds": sampled},
    )


def _check(objective: Any, chunk: Any, name: Any) -> None:
    if not callable(objective) or isinstance(objective, (Schedule, type)):
        raise TypeError(
            f"predict.sweep: objective={shown(objective)}; write a function of a setting, such as "
            "lambda s: convex.bound(s, total_steps=400)."
        )
    whole = isinstance(chunk, (int, np.integer)) and not isinstance(chunk, bool)
    if chunk != "auto" and not (whole and chunk >= 1):
        raise ValueError(f'predict.sweep: chunk={shown(chunk)}; write how many settings, 1 or more, or "auto".')
    if not (isinstance(name, str) and name):
        raise TypeError(f"predict.sweep: name={shown(name)}; write the name of the metric.")


def _settings(space: Any, n: int | None, method: Any, seed: int, where: Any) -> list[Group]:
    """The settings that are there, or that are drawn."""
    drawn = drawn_from(space) or isinstance(space, type)
    if drawn and n is None:
        raise ValueError(f"predict.sweep: {shown(space)} is a space; write n=100_000 for how many are drawn from it.")
    if not drawn and (n is not None or where is not None):
        raise ValueError(
            f"predict.sweep: n={shown(n)} and where={shown(where)} beside settings, which are not drawn; leave them "
            "out, or write a space: space(schedule, peak_value=log_uniform(1e-4, 1.0))."
        )
    return grouped_settings(sample(space, n, method, seed, where) if n is not None else space)


def _lanes() -> int:
    """How many chunks run at a time: a scan of XLA runs on one core, and an accelerator is one."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fitting(objective: Objective, name: str, group: Group, chunk: int | str) -> tuple[int, Any, float]:
    """The rows of a chunk, the program for them, and the seconds that it took to compile."""
    began = time.perf_counter()
    count = len(group.index)
    most = _ROWS.get(jax.default_backend(), _MOST_ROWS) if chunk == "auto" else int(chunk)
    rows = _even(count, most)
    leaves, structure = jax.tree.flatten(group.settings)
    wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    forms = tuple((x.shape[1:], jnp.dtype(x.dtype).name) for x in leaves)
    program, size = _program(objective, name, structure, forms, rows, wide)
    if chunk == "auto" and size > _BYTES and rows > 1:
        rows = _even(count, max(1, rows * _BYTES // size))
        program, _ = _program(objective, name, structure, forms, rows, wide)
    return rows, program, time.perf_counter() - began


def _even(count: int, most: int) -> int:
    """The rows of chunks that are as long as each other and keep all lanes busy to the end."""
    lanes = _lanes()
    chunks = -(-count // (most * lanes)) * lanes
    return -(-count // chunks)


@functools.lru_cache(maxsize=32)
def _program(objective: Objective, name: str, structure: Any, forms: Any, rows: int, wide: bool) -> tuple[Any, int]:
    """The objective for a chunk of settings, compiled, and the bytes that it takes beside them."""
    del wide  # a key of the cache only: it says which types the program has

    def one(leaves: list[Any]) -> dict[str, jax.Array]:
        found = traced("predict.sweep", objective, structure.unflatten(leaves))
        if not isinstance(found, dict):
            return {name: scalar("predict.sweep", "objective(setting)", found)}
        if not found or not all(isinstance(key, str) for key in found):
            raise TypeError(f"predict.sweep: objective(setting) has the keys {shown(list(found))}; write names.")
        return {key: scalar("predict.sweep", f"objective(setting)[{key!r}]", x) for key, x in found.items()}

    leaves = [jax.ShapeDtypeStruct((rows, *shape), dtype) for shape, dtype in forms]
    compiled = jax.jit(jax.vmap(one)).lower(leaves).compile()
    about = compiled.memory_analysis()
    return compiled, 0 if about is None else int(about.temp_size_in_bytes)


def _run(program: Any, group: Group, rows: int) -> dict[str, np.ndarray]:
    """The values of a group, chunk by chunk; the last one is filled up with the last setting."""
    leaves, count = jax.tree.leaves(group.settings), len(group.index)

    def run(start: int) -> dict[str, np.ndarray]:
        at = np.minimum(np.arange(start, start + rows), count - 1)
        return jax.device_get(program([jnp.asarray(leaf[at]) for leaf in leaves]))

    with ThreadPoolExecutor(_lanes()) as pool:
        jobs = [pool.submit(run, start) for start in range(0, count, rows)]
        try:
            parts = [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {key: np.concatenate([part[key] for part in parts])[:count] for key in parts[0]}


def _place(found: dict[str, np.ndarray], values: dict[str, np.ndarray], index: np.ndarray, count: int) -> None:
    """Puts the values of a group where its settings stand in the sweep."""
    if found and set(found) != set(values):
        raise ValueError(
            f"predict.sweep: objective(setting) has the metrics {', '.join(found)} for one structure of settings and "
            f"{', '.join(values)} for another; write the same names for all."
        )
    for key, x in values.items():
        found.setdefault(key, np.full(count, np.nan, x.dtype))[index] = x
