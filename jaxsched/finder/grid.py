"""The honest version of the range test: many constant rates side by side, each with its own networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..sweep.engine import Progress, sweep
from ..sweep.task import Task
from ..sweep.training import Training, training_keys
from .result import FinderResult
from .suggest import Suggestion, spread


def search(
    task: Task,
    settings: Sequence[Any],
    lrs: np.ndarray,
    steps: int,
    seeds: tuple[int, ...],
    key: jax.Array,
    limit: float,
    chunk: Any,
    devices: Any,
    progress: Progress | None,
) -> FinderResult:
    """See `find_lr`."""
    log_every = max(1, steps // 10)
    result = sweep(task, settings, steps, seeds, key, log_every, chunk, devices=devices, progress=progress)
    untrained = _untrained(task, seeds, key)
    train, valid = (result.final[name].T for name in ("train_loss", "valid_loss"))
    with np.errstate(invalid="ignore"):  # an infinite limit, and a loss of 0 or NaN
        bar = untrained + (limit - 1) * np.abs(untrained)
        lost = ~np.isfinite(valid) | (valid > np.where(np.isnan(bar), np.inf, bar)[:, None])
    best, within = _best(lrs, valid, lost)
    return FinderResult(
        mode="grid",
        lrs=lrs,
        losses=train,
        suggestions={"best": best, "largest": _largest(lrs, lost)},
        seeds=result.seeds,
        steps=result.steps,
        steps_done=int(result.run["steps_done"]),
        seconds=result.seconds,
        compile_seconds=result.compile_seconds,
        valid_losses=valid,
        untrained=untrained,
        diverged=lost,
        within=within,
        sweep=result,
    )


def _untrained(task: Task, seeds: tuple[int, ...], key: jax.Array) -> np.ndarray:
    """The validation losses before any step."""

    @jax.jit
    def losses(keys: jax.Array, valid: Any) -> jax.Array:
        params = Training(task).first_params(keys)
        return lax.map(lambda p: task.loss(p, valid, None)[0].astype(jnp.result_type(float)), params)

    return np.asarray(losses(training_keys(key, seeds), task.valid))


def _best(lrs: np.ndarray, valid: np.ndarray, lost: np.ndarray) -> tuple[Suggestion, tuple[float, float] | None]:
    """The rate with the smallest mean over the seeds, and the ends of those around it that are as good."""
    kept = np.where(lost, np.inf, valid).astype(np.float64)
    rates = [float(lrs[np.argmin(row)]) if np.isfinite(row).any() else math.nan for row in kept]
    means = kept.mean(axis=0)  # infinite where any seed diverged
    if not np.isfinite(means).any():
        return spread(rates, ["at every rate some seed diverged: write a smaller min_lr"], math.nan), None
    best = int(np.argmin(means))
    std = valid[:, best].std(ddof=1) if len(valid) > 1 else 0.0
    far = np.flatnonzero(~(means <= means[best] + std))
    low, high = far[far < best].max(initial=-1) + 1, far[far > best].min(initial=len(lrs)) - 1
    return spread(rates, (), float(lrs[best])), (float(lrs[low]), float(lrs[high]))


def _largest(lrs: np.ndarray, lost: np.ndarray) -> Suggestion:
    """The largest of the rates below the first at which a seed diverged."""
    counts = np.where(lost.any(axis=1), lost.argmax(axis=1), len(lrs)).tolist()
    rates = [float(lrs[count - 1]) if count else math.nan for count in counts]
    if 0 in counts:
        return spread(rates, ["some seed diverged at the smallest rate"], math.nan)
    return spread(rates, (), min(rates))
