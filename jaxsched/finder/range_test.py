"""The range test: one training for each seed, in which the rate rises at every step, in one compiled program."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..schedules.ramps import Exponential
from ..sweep.data import Feed
from ..sweep.engine import Plan, Progress
from ..sweep.run import Status
from ..sweep.training import Carry, Data, Training, training_keys
from .result import FinderResult
from .suggest import METHODS, suggest

_SEGMENT = 50
"""Steps between two looks of the host: Ctrl-C waits no longer."""

_SEGMENT_BYTES = 64 * 2**20
"""The batches from the host for one segment, or the orders of the examples, take no more than this, if they can."""


class _State(NamedTuple):
    """A range test between two steps; everything but `t` has a first axis of seeds."""

    carry: Carry  # one that has stopped stands still
    average: jax.Array  # before it is divided
    best: jax.Array  # the smallest smoothed loss
    losses: jax.Array  # (seeds, steps), NaN from where a seed has stopped
    smoothed: jax.Array
    stopped_at: jax.Array  # -1 as long as a seed goes on
    t: jax.Array  # the steps done


def search(plan: Plan, schedule: Exponential, beta: float, limit: float, progress: Progress | None) -> FinderResult:
    """See `find_lr`; `plan` has one setting, with this schedule in it."""
    plan.try_optimizers()
    began = time.perf_counter()
    training, length = Training(plan.task), _length(plan)
    # One row of settings: the same for all seeds.
    setting = jax.tree.map(lambda x: jnp.asarray(x[0]), plan.groups[0].settings)
    keys = training_keys(plan.key, plan.seeds)
    # In float64: 1 - beta is a small difference.
    shares = jnp.asarray(1 - np.float64(beta) ** np.arange(1, plan.steps + 1), jnp.result_type(float))
    start = jax.jit(functools.partial(_start, training, plan.steps)).lower(setting, keys).compile()
    state, segment = start(setting, keys), None
    with _batches(training, keys, length) as batches:
        compiled = time.perf_counter() - began
        while state.t < plan.steps and (np.asarray(state.stopped_at) < 0).any():
            t1 = min(int(state.t) + length, plan.steps)
            arguments = (setting, keys, batches(int(state.t), t1), np.int32(t1), shares, beta, limit)
            if segment is None:
                compiling = time.perf_counter()
                step = functools.partial(_segment, training)
                segment = jax.jit(step, donate_argnums=0).lower(state, *arguments).compile()
                compiled += time.perf_counter() - compiling
            state = segment(state, *arguments)
            if progress is not None:
                progress(_status(state, time.perf_counter() - began - compiled))
    losses, smoothed, stopped_at = (np.array(x) for x in (state.losses, state.smoothed, state.stopped_at))
    seconds = time.perf_counter() - began - compiled
    lrs = np.asarray(schedule.table(plan.steps)).astype(np.float64)
    curves = [_recorded(row, stop) for row, stop in zip(smoothed, stopped_at.tolist(), strict=True)]
    return FinderResult(
        mode="range",
        lrs=lrs,
        losses=losses,
        suggestions={method: suggest(lrs, curves, method) for method in METHODS},
        seeds=plan.seeds,
        steps=plan.steps,
        steps_done=int(state.t),
        seconds=seconds,
        compile_seconds=compiled,
        smoothed=smoothed,
        stopped_at=stopped_at,
    )


def _status(state: _State, seconds: float) -> Status:
    """How far a range test has come; nothing is validated, so there is no best."""
    stopped, (n, steps) = np.asarray(state.stopped_at), state.losses.shape
    t = int(state.t)
    done = int(np.where(stopped < 0, t, stopped + 1).sum())
    left = int((stopped < 0).sum()) * (steps - t)
    return Status(
        trainings=n,
        done=n if t == steps else int((stopped >= 0).sum()),
        diverged=int((stopped >= 0).sum()),
        pruned=0,
        steps=done,
        steps_total=n * steps,
        steps_per_second=done / max(seconds, 1e-9),
        seconds_left=left / done * seconds,
        best=None,
        resumed_from=0,
    )


def _recorded(row: np.ndarray, stop: int) -> np.ndarray:
    """The curve of a seed for `suggest`. fastai goes on after a NaN, so that the points which it drops at the end are
    NaN and none of the curve: the row as it is. Any other stop is the end of what is recorded."""
    return row if stop < 0 or np.isnan(row[stop]) else row[: stop + 1]


def _start(training: Training, steps: int, setting: Any, keys: jax.Array) -> _State:
    kind, n = jnp.result_type(float), len(keys)
    carry = jax.vmap(training.start, in_axes=(None, 0))(setting, training.first_params(keys))
    empty = jnp.full((n, steps), jnp.nan, kind)
    never = jnp.full(n, -1, jnp.int32)
    return _State(carry, jnp.zeros(n, kind), jnp.full(n, jnp.inf, kind), empty, empty, never, jnp.int32(0))


def _segment(
    training: Training,
    state: _State,
    setting: Any,
    keys: jax.Array,
    data: Data,
    t1: jax.Array,
    shares: jax.Array,
    beta: jax.Array,
    limit: jax.Array,
) -> _State:
    """The steps up to `t1`, or until all seeds have stopped."""
    step = jax.vmap(training.step, in_axes=(0, None, 0, 0, None, None))
    places = jnp.arange(len(keys), dtype=jnp.int32)

    def going(state: _State) -> jax.Array:
        return (state.t < t1) & jnp.any(state.stopped_at < 0)

    def body(state: _State) -> _State:
        t, alive = state.t, state.stopped_at < 0
        # With empty sums, the sum after a step is the loss of its batch.
        fresh = state.carry._replace(sums=jax.tree.map(jnp.zeros_like, state.carry.sums))
        carry = step(fresh, setting, keys, places, data, t)
        loss = carry.sums["train_loss"]
        past, kind = jnp.asarray(beta, loss.dtype), loss.dtype
        average = past * state.average + (1 - past) * loss
        smooth = average / shares[t]
        best = jnp.minimum(state.best, jnp.where(jnp.isnan(smooth), jnp.inf, smooth).astype(kind))
        bar = best + (jnp.asarray(limit, kind) - 1) * jnp.abs(best)
        stopped = (state.stopped_at >= 0) | ~jnp.isfinite(smooth) | (smooth > bar)
        stopped_at = jnp.where(alive & stopped, t, state.stopped_at)
        return _State(
            # As a training that has diverged it takes no more updates.
            carry=carry._replace(diverged_at=stopped_at),
            average=average,
            best=best,
            losses=state.losses.at[:, t].set(jnp.where(alive, loss, jnp.nan)),
            smoothed=state.smoothed.at[:, t].set(jnp.where(alive, smooth, jnp.nan)),
            stopped_at=stopped_at,
            t=t + 1,
        )

    return lax.while_loop(going, body, state)


def _length(plan: Plan) -> int:
    """The steps of a segment, so that its data are not too large."""
    if plan.task.host:
        room = _SEGMENT_BYTES // max(1, sum(np.asarray(x).nbytes for x in jax.tree.leaves(plan.task.batch)))
    else:
        epochs = _SEGMENT_BYTES // (4 * len(plan.seeds) * plan.task.examples)
        room = (epochs - 1) * Training(plan.task).batches
    return max(1, min(_SEGMENT, plan.steps, room))


@contextlib.contextmanager
def _batches(training: Training, keys: jax.Array, length: int) -> Iterator[Callable[[int, int], Data]]:
    """What makes the data of the segment from one step to another, and is asked for one segment after the other. All
    that it needs is compiled at the start."""
    task = training.task
    if task.host:
        task.train.forget()
        with Feed.open(task.train) as feed:
            # The last segment may be shorter: the program takes as many batches as ever, and looks at no more.
            yield lambda t, t1: Data(
                jax.tree.map(functools.partial(_filled, length), feed.take(t1 - t)), None, np.int32(t)
            )
        return
    train = jax.tree.map(jnp.asarray, task.train)
    places = jnp.arange(len(keys), dtype=jnp.int32)
    touched = -(-(length - 1) // training.batches) + 1

    def orders(epoch: jax.Array) -> jax.Array:
        made = lax.map(lambda e: training.orders(keys, places, epoch + e), jnp.arange(touched, dtype=jnp.int32))
        return jnp.moveaxis(made, 0, 1)

    ready = jax.jit(orders).lower(np.int32(0)).compile()
    yield lambda t, t1: Data(train, ready(np.int32(t // training.batches)), np.int32(t))


def _filled(length: int, x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])
