"""Sweeps over predictions: an objective of a hundred thousand settings, in chunks that fit into memory."""

from __future__ import annotations

import collections
import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError
from ..sweep.result import SweepResult
from ..sweep.settings import Group, grouped_settings, merged
from ..sweep.space import drawn_from, sample
from .arguments import Objective, as_scalar, check_count, check_objective, evaluate

_ROWS, _MOST_ROWS = 6_000, 32_768
"""Settings side by side on a CPU, where their sums fit into the caches, and on an accelerator (not measured)."""

_BYTES = 2**28
"""The memory of the chunks that run at once, without their settings; above it chunks get smaller."""


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
    """Evaluates an objective for every setting, without training, and returns it as the result of a sweep.

    The memory depends on the chunk and not on the number of settings; the values do not depend on the chunk.

    Args:
      space: a space, as `sample` takes it, with `n`; or settings, stacked or a list, as `jaxsched.sweep` takes them.
      objective: `objective(setting) -> scalar`, or a dict of scalars by name, each a metric; traceable by JAX.
      n: the number of settings to draw; None for settings.
      total_steps: the horizon that is predicted, a label in tables and figures. None: 1.
      method, seed, where: how settings are drawn, as in `sample`.
      chunk: the most settings of one program. `"auto"`: 6,000 on a CPU and 32,768 on an accelerator, and fewer where
        the programs that run at once would take more than 256 MiB.
      name: of the metric, for a scalar. A metric whose name ends in `loss` is minimized.

    Returns:
      A `SweepResult` of one seed and one window: `final[name]` (settings, 1). A setting with a prediction that is not
      finite has diverged at step 0 and ranks last. `run["predicted"]` is True.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched import predict
      >>> from jaxsched.sweep import log_uniform, space
      >>> family = space(js.Linear, init_value=log_uniform(1e-3, 1.0), end_value=0.0, steps=400)
      >>> result = predict.sweep(family, lambda s: predict.convex.bound(s, total_steps=400), 256, total_steps=400)
      >>> best = result.ranking("predicted_loss")[0]
      >>> f"{best['init_value']:.2f} {best['mean']:.3f}"
      '0.05 0.101'
    """
    owner, began = "predict.sweep", time.perf_counter()
    total_steps = 1 if total_steps is None else check_count(owner, "total_steps", total_steps)
    check_objective(owner, objective, "a setting")
    if isinstance(chunk, str) and chunk != "auto":
        raise FieldError(owner, "chunk", chunk, 'write how many settings, 1 or more, or "auto"')
    on_cpu = jax.default_backend() == "cpu"
    most = (_ROWS if on_cpu else _MOST_ROWS) if chunk == "auto" else check_count(owner, "chunk", chunk)
    if not (isinstance(name, str) and name):
        raise FieldTypeError(owner, "name", name, "write the name of the metric")
    groups = _settings(owner, space, n, method, seed, where)
    sampled, lanes = time.perf_counter() - began, _lanes()
    found: dict[str, np.ndarray] = {}
    compiling, largest, count = 0.0, 0, sum(len(group.index) for group in groups)
    for group in groups:
        compiled = time.perf_counter()
        rows = _even(len(group.index), most)
        program, size = _program(objective, name, group.settings, rows)
        if chunk == "auto" and size * lanes > _BYTES and rows > 1:
            rows = _even(len(group.index), max(1, rows * _BYTES // (size * lanes)))
            program, _ = _program(objective, name, group.settings, rows)
        compiling += time.perf_counter() - compiled
        values = _run(program, group, rows)
        if found and set(found) != set(values):
            note = f" are the metrics of one structure of settings, and {list(values)} those of another"
            raise FieldError(owner, "objective(setting)", list(found), "return the same names for all", note=note)
        for key, x in values.items():
            found.setdefault(key, np.full(count, np.nan, x.dtype))[group.index] = x
        largest = max(largest, rows)
    lost = ~np.all([np.isfinite(x) for x in found.values()], axis=0)
    facts = {"chunk": largest, "lanes": lanes, "groups": len(groups), "sample_seconds": sampled}
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
        run={"predicted": True, **facts, "device": jax.devices()[0].device_kind},
    )


def _settings(owner: str, space: Any, n: int | None, method: Any, seed: int, where: Any) -> list[Group]:
    """The given settings, or those drawn from a space."""
    drawn = drawn_from(space) or isinstance(space, type)
    if drawn and n is None:
        raise FieldError(owner, "n", n, "write n=100_000, how many settings are drawn from the space")
    if not drawn and (n is not None or where is not None):
        instead = "leave them out, or write a space: space(schedule, peak_value=log_uniform(1e-4, 1.0))"
        raise FieldError(owner, ("n", "where"), (n, where), instead, note=" beside settings, which are not drawn")
    return grouped_settings(sample(space, n, method, seed, where) if n is not None else space)


def _lanes() -> int:
    """The number of chunks that run at once: XLA runs a scan on one core."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _even(count: int, most: int) -> int:
    """The rows of chunks of equal length that keep all lanes busy."""
    lanes = _lanes()
    chunks = -(-count // (most * lanes)) * lanes
    return -(-count // chunks)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _values(objective: Objective, name: str, settings: Any) -> dict[str, jax.Array]:
    """The objective of each of the stacked settings, by metric."""

    def one(setting: Any) -> dict[str, jax.Array]:
        found = evaluate("predict.sweep", objective, setting)
        if not isinstance(found, dict):
            return {name: as_scalar("predict.sweep", "objective(setting)", found)}
        if not found or not all(isinstance(key, str) for key in found):
            raise FieldTypeError("predict.sweep", "objective(setting)", list(found), "write names as its keys")
        return {key: as_scalar("predict.sweep", f"objective(setting)[{key!r}]", x) for key, x in found.items()}

    return jax.vmap(one)(settings)


def _program(objective: Objective, name: str, settings: Any, rows: int) -> tuple[Any, int]:
    """The compiled program for `rows` settings, and its temporary bytes."""
    # Worker threads call the program and not the function, because JAX's configuration is per thread.
    form = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), jnp.result_type(x)), settings)
    compiled = _values.lower(objective, name, form).compile()
    about = compiled.memory_analysis()
    return compiled, 0 if about is None else int(about.temp_size_in_bytes)


def _run(program: Any, group: Group, rows: int) -> dict[str, np.ndarray]:
    """The values of a group, chunk by chunk."""
    count, parts, jobs = len(group.index), [], collections.deque()

    def settings(start: int) -> Any:  # made in this thread, for its x64 setting
        at = np.minimum(np.arange(start, start + rows), count - 1)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[at]), group.settings)

    with ThreadPoolExecutor(_lanes()) as pool:
        try:
            for start in range(0, count, rows):
                if len(jobs) > _lanes():  # one waiting chunk per lane
                    parts.append(jobs.popleft().result())
                jobs.append(pool.submit(lambda chunk: jax.device_get(program(chunk)), settings(start)))
            parts += [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {key: np.concatenate([part[key] for part in parts])[:count] for key in parts[0]}
