"""The sweep: every setting with every seed, in one compiled program."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..schedules.fields import shown
from .result import SweepResult
from .settings import stacked_settings
from .task import Task
from .training import first_params, one_training

Progress = Callable[[int, int, float], Any]


def sweep(
    task: Task,
    schedules: Any,
    steps: int = 2_000,
    seeds: int | Sequence[int] = 4,
    key: int | jax.Array = 0,
    log_every: int | None = None,
    chunk: int = 16,
    progress: Progress | None = None,
) -> SweepResult:
    """Trains every setting with every seed in one compiled program, and returns what came out.

    The key of a training is `fold_in(key, seed)`, whatever its setting and its place: the same key and setting give
    the same training, alone and in any chunk (to the rounding of one program compiled for another chunk size). It is
    split in three: for `task.init`, for the order of the examples, and for `task.loss`, where step t gets
    `fold_in(loss_key, t)`. Epoch e takes the examples in the order `permutation(fold_in(order_key, e), examples)`,
    and leaves out the last ones if they do not fill a batch.

    A training whose loss is not finite is stopped at that step: it is marked in `diverged_at`, keeps its parameters
    from there on, has NaN for metrics, and touches no other.

    Args:
      task: a `Task`.
      schedules: n settings: a stacked schedule (`grid`, `sample`, `stack`), a list of schedules of one structure, or
        a pytree of stacked schedules such as `{"learning_rate": S, "b1": T}`, of one length.
      steps: the updates of each training, 1 or more.
      seeds: how many (0, 1, ... n - 1), or a list of different integers, 0 or more.
      key: an integer or a JAX random key.
      log_every: the steps in a window of the metrics, at most `steps`; None: 50, or `steps` if that is less.
        `train_*` is the mean over a window, `valid_*` the value on all of `task.valid` at its end. Steps that do not
        fill a window show only in `final`.
      chunk: the most trainings that run side by side. 16 small ones keep a processor's cache; more suit a GPU.
      progress: called as `progress(pairs_done, pairs_total, steps_per_second)` after each chunk, or None.

    Errors: TypeError and ValueError that name the argument, show its value and say what to write.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.sweep import Task, sweep
      >>> x = jnp.linspace(-1.0, 1.0, 40)
      >>> task = Task(
      ...     init=lambda key: jnp.zeros(()),
      ...     loss=lambda slope, batch, key: (jnp.mean((slope * batch[0] - batch[1]) ** 2), {}),
      ...     train=(x, 2 * x), valid=(x, 2 * x), batch_size=8, optimizer=optax.sgd,
      ... )
      >>> S = js.grid(js.Linear, init_value=[0.01, 0.3, 1e30], end_value=0.0, steps=20)
      >>> result = sweep(task, S, steps=20, seeds=2, log_every=5)
      >>> result.metrics["train_loss"].shape, result.final["valid_loss"].shape
      ((3, 2, 4), (3, 2))
      >>> result.best()
      Linear(init_value=0.3, end_value=0.0, steps=20)
      >>> (result.diverged_at >= 0).tolist()
      [[False, False], [False, False], [True, True]]
    """
    return Plan.make(task, schedules, steps, seeds, key, log_every, chunk).run(progress)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A sweep whose arguments have been checked."""

    task: Task
    schedules: Any
    settings: int
    steps: int
    seeds: tuple[int, ...]
    key: jax.Array
    log_every: int
    chunk: int

    @classmethod
    def make(
        cls,
        task: Task,
        schedules: Any,
        steps: int,
        seeds: int | Sequence[int],
        key: int | jax.Array,
        log_every: int | None,
        chunk: int,
    ) -> Plan:
        if not isinstance(task, Task):
            raise TypeError(f"sweep: task={shown(task)}; task must be a Task(init=..., loss=..., ...).")
        schedules, settings = stacked_settings(schedules)
        _whole("steps", steps, 1)
        log_every = min(50, steps) if log_every is None else log_every
        for name, value in (("log_every", log_every), ("chunk", chunk)):
            _whole(name, value, 1)
        if log_every > steps:
            raise ValueError(f"sweep: log_every={log_every} and steps={steps}; write log_every={steps} or less.")
        seeds = _seeds(seeds)
        pairs = settings * len(seeds)
        chunk = -(-pairs // -(-pairs // chunk))  # as many chunks, but of nearly equal size: hardly any padding
        return cls(task, schedules, settings, steps, seeds, _random_key(key), log_every, chunk)

    @property
    def pairs(self) -> int:
        """The trainings: settings x seeds."""
        return self.settings * len(self.seeds)

    def run(self, progress: Progress | None = None) -> SweepResult:
        """Compiles the program once and runs it chunk after chunk."""
        # Every chunk has one shape, so that one program serves all: the last is filled up with its last row.
        order = np.minimum(np.arange(-(-self.pairs // self.chunk) * self.chunk), self.pairs - 1)
        chunks = order.reshape(-1, self.chunk)
        stacked = jax.tree.map(jnp.asarray, self.schedules)
        keys = jax.vmap(lambda seed: jax.random.fold_in(self.key, seed))(jnp.asarray(self.seeds, jnp.uint32))
        train, valid = jax.tree.map(jnp.asarray, (self.task.train, self.task.valid))
        begin = time.perf_counter()
        params = first_params(self.task, keys)

        def arguments(rows: np.ndarray) -> tuple[Any, ...]:
            setting, seed = np.divmod(rows, len(self.seeds))
            first = jax.tree.map(lambda x: x[seed], params)
            return jax.tree.map(lambda x: x[setting], stacked), first, keys[seed], train, valid

        one = one_training(self.task, self.steps, self.log_every)
        compiled = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, None))).lower(*arguments(chunks[0])).compile()
        compile_seconds = time.perf_counter() - begin

        begin, outs = time.perf_counter(), []
        for i, rows in enumerate(chunks):
            outs.append(jax.device_get(compiled(*arguments(rows))))
            if progress is not None:
                done = min((i + 1) * self.chunk, self.pairs)
                progress(done, self.pairs, done * self.steps / (time.perf_counter() - begin))
        seconds = time.perf_counter() - begin

        def table(*xs: np.ndarray) -> np.ndarray:
            rows = np.concatenate(xs)[: self.pairs]
            return rows.reshape(self.settings, len(self.seeds), *rows.shape[1:])

        metrics, final, diverged_at = jax.tree.map(table, *outs)
        return SweepResult(
            metrics=metrics,
            final=final,
            diverged_at=diverged_at,
            schedules=self.schedules,
            seeds=self.seeds,
            steps=self.steps,
            log_every=self.log_every,
            seconds=seconds,
            compile_seconds=compile_seconds,
        )


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"sweep: {name}={shown(value)}; {name} must be an integer, {least} or more.")
    if value < least:
        raise ValueError(f"sweep: {name}={shown(value)}; {name} must be {least} or more.")


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, (list, tuple, range, np.ndarray)):
        for seed in seeds:
            _whole("seeds", seed, 0)
        if not len(seeds) or len({int(seed) for seed in seeds}) < len(seeds):
            raise ValueError(f"sweep: seeds={shown(seeds)}; write how many, or a list of different integers.")
        return tuple(int(seed) for seed in seeds)
    _whole("seeds", seeds, 1)
    return tuple(range(seeds))


def _random_key(key: Any) -> jax.Array:
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
        return key
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
        raise TypeError(f"sweep: key={shown(key)}; key must be an integer or jax.random.key(...).")
    return jax.random.key(int(key))
