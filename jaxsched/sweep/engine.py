"""The sweep: every setting with every seed, in one compiled program for each structure of the settings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, format_value, nearest_name
from .program import Programs
from .prune import Pruner
from .result import SweepResult
from .run import Run, Status
from .settings import Group, grouped_settings, is_schedule, settings_list
from .space import drawn_from
from .task import Task

if TYPE_CHECKING:
    import os

    from .checkpoint import Checkpoint

Progress = Callable[[Status], Any]


def sweep(
    task: Task,
    schedules: Any,
    steps: int = 2_000,
    seeds: int | Sequence[int] = 4,
    key: int | jax.Array = 0,
    log_every: int | None = None,
    chunk: int | Literal["auto"] = "auto",
    prune: Pruner | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    devices: Any = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Trains every setting with every seed in one compiled program, and returns what came out.

    The key of a training is `fold_in(key, seed)`, whatever its setting and its place: the same key and setting give
    the same training, alone, in any chunk and on any number of devices and processes, to the rounding of one program
    that is compiled for another number of rows. Between numbers of devices and processes nothing but that number can
    differ, and with a `chunk` that is written it does not: they agree to the last bit. The key is split in three: for
    `task.init`, for the order of the examples, and for `task.loss`, where step t gets `fold_in(loss_key, t)`. Epoch e
    takes the examples in the order `permutation(fold_in(order_key, e), examples)`, and leaves out the last ones if
    they do not fill a batch. Batches from a host iterator are shared by all trainings of a chunk.

    A training whose loss or parameters are not finite at the end of a window of `log_every` steps has diverged: it is
    marked in `diverged_at`, stands still from there on, has NaN for metrics, and touches no other. One bad loss that
    the optimizer survives (see `guard_spikes`) is not the end of a training.

    Listeners hear the training loss of each batch as `value`; those of `named("valid_loss", ...)`, or of another
    `valid_*` metric, hear that one at the end of each window, so that a patience counts windows.

    Ctrl-C ends the sweep after the segments in flight (a second or so), saves if there is a checkpoint, and raises
    KeyboardInterrupt. The same call then goes on from there, to the same bits as without the interruption.

    Args:
      task: a `Task`.
      schedules: the settings: a stacked schedule (`grid`, `sample`, `stack`), a pytree of stacked schedules and
        numbers of one length such as `{"learning_rate": S, "patience": np.array([3, 5])}`, or a list of any of these
        and of single settings. Different structures stand side by side, each in a program of its own.
      steps: the updates of each training, 1 or more.
      seeds: how many (0, 1, ... n - 1), or a list of different integers, 0 or more.
      key: an integer or a JAX random key.
      log_every: the steps in a window of the metrics, at most `steps`; None: 50, or `steps` if that is less.
        `train_*` is the mean over a window, `valid_*` the value on all of `task.valid` at its end. Steps that do not
        fill a window show only in `final`.
      chunk: the most trainings that run side by side in one program on one device. `"auto"` begins with 16 on a CPU
        and 256 on an accelerator, and tries other sizes where the sweep is long enough to be worth it.
      prune: `successive_halving(...)` or another `Pruner`, which stops settings on the way; None: all go to the end.
      checkpoint: a directory, or a `Checkpoint(directory, seconds=..., steps=...)`; the run is saved there on its way,
        and a run of the same arguments goes on from it (needs orbax: `pip install "jaxsched[checkpoint]"`).
      devices: a list of this process's devices or a `Mesh` of them, over which the trainings of a chunk are spread;
        None: all. With several processes (`jax.distributed.initialize`) each takes its share of the chunks, and all
        return the same result.
      progress: called with a `Status` after each segment, or None.

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
    arguments = (task, schedules, steps, seeds, key, log_every, chunk, prune, checkpoint, devices)
    return Plan.make(*arguments).run(progress)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A sweep whose arguments have been checked."""

    task: Task
    groups: list[Group]
    steps: int
    seeds: tuple[int, ...]
    key: jax.Array
    log_every: int
    chunk: int | Literal["auto"]
    prune: Pruner | None
    checkpoint: Any
    devices: list[Any]

    @classmethod
    def make(
        cls,
        task: Task,
        schedules: Any,
        steps: int = 2_000,
        seeds: int | Sequence[int] = 4,
        key: int | jax.Array = 0,
        log_every: int | None = None,
        chunk: int | Literal["auto"] = "auto",
        prune: Pruner | None = None,
        checkpoint: Any = None,
        devices: Any = None,
    ) -> Plan:
        if not isinstance(task, Task):
            raise TypeError(f"sweep: task={format_value(task)}; task must be a Task(init=..., loss=..., ...).")
        if drawn_from(schedules):
            raise TypeError(f"sweep: schedules={format_value(schedules)} is a space; draw from it: sample(space, 64).")
        groups = grouped_settings(schedules)
        check_whole("sweep", "steps", steps, 1)
        log_every = min(50, steps) if log_every is None else log_every
        check_whole("sweep", "log_every", log_every, 1)
        if log_every > steps:
            raise ValueError(f"sweep: log_every={log_every} and steps={steps}; write log_every={steps} or less.")
        seeds, key = check_seeds("sweep", seeds, task), check_key("sweep", key)
        if chunk != "auto":
            check_whole("sweep", "chunk", chunk, 1)
        if prune is not None:
            _check_pruner(prune, task, steps, log_every)
        return cls(task, groups, steps, seeds, key, log_every, chunk, prune, checkpoint, _devices(devices))

    @property
    def settings(self) -> int:
        """How many settings there are."""
        return sum(len(group.index) for group in self.groups)

    @property
    def pairs(self) -> int:
        """The trainings: settings x seeds."""
        return self.settings * len(self.seeds)

    def run(self, progress: Progress | None = None, programs: Programs | None = None) -> SweepResult:
        """Runs the sweep; `programs` of an earlier plan of the same task on the same devices are not compiled again."""
        if progress is not None and not callable(progress):
            raise TypeError(
                f"sweep: progress={format_value(progress)}; progress must be a function of a Status, or None."
            )
        self.try_optimizers()
        from .distributed import current

        processes = current()
        programs = programs if programs is not None else Programs(self.task, self.devices)
        if self.checkpoint is None:
            return Run(self, programs, processes, None, progress)()
        from .checkpoint import Store  # needs orbax
        from .identity import identity

        arguments = (self.task, self.groups, self.steps, self.seeds, self.key, self.log_every, self.chunk, self.prune)
        # A chunk that was saved has the rows of so many devices.
        who = identity(*arguments, devices=len(self.devices))
        with Store.open(self.checkpoint, who, processes.index, processes.count) as store:
            return Run(self, programs, processes, store, progress)()

    def try_optimizers(self) -> None:
        """Makes the optimizer of each setting with numbers beside its schedules once, for the checks at its door: in
        the program numbers are traced, and nothing can be said of them any more."""
        for group in self.groups:
            if all(is_schedule(x) for x in jax.tree.leaves(group.settings, is_leaf=is_schedule)):
                continue
            tried = set()
            for i, setting in enumerate(settings_list(group.settings)):
                numbers = [x for x in jax.tree.leaves(setting, is_leaf=is_schedule) if not is_schedule(x)]
                if (key := tuple(np.asarray(x).tobytes() for x in numbers)) in tried:
                    continue
                tried.add(key)
                try:
                    self.task.optimizer(setting)
                except (TypeError, ValueError) as error:
                    error.add_note(
                        f"Task: this came from optimizer(setting {group.index[i]}), {format_value(setting)}."
                    )
                    raise


def _check_pruner(prune: Any, task: Task, steps: int, log_every: int) -> None:
    if not all(hasattr(prune, name) for name in ("at", "choose", "metric")):
        raise TypeError(f"sweep: prune={format_value(prune)}; write prune=successive_halving(keep=1/3).")
    if prune.metric not in task.metrics:
        raise ValueError(f"sweep: prune.metric={prune.metric!r}; {nearest_name(str(prune.metric), task.metrics)}")
    rungs = prune.at(steps, log_every)
    bad = not all(isinstance(r, (int, np.integer)) and 0 < r < steps and r % log_every == 0 for r in rungs)
    if bad or not len(rungs) or any(a >= b for a, b in itertools.pairwise(rungs)):
        raise ValueError(
            f"sweep: prune.at returned {format_value(rungs)}; its rungs must be rising multiples of "
            f"log_every={log_every} "
            f"below steps={steps}."
        )


def _devices(devices: Any) -> list[Any]:
    if devices is None:
        return list(jax.local_devices())
    found = list(devices.devices.flat) if isinstance(devices, jax.sharding.Mesh) else devices
    if not isinstance(found, (list, tuple)) or not found or not all(isinstance(d, jax.Device) for d in found):
        raise TypeError(f"sweep: devices={format_value(devices)}; write a list such as jax.local_devices(), or a Mesh.")
    if any(d.process_index != jax.process_index() for d in found):
        raise ValueError(
            f"sweep: devices={format_value(devices)} are not all of this process; write jax.local_devices()."
        )
    if len(set(found)) < len(found):
        raise ValueError(f"sweep: devices={format_value(devices)} has a device twice; write jax.local_devices().")
    return list(found)


def check_whole(owner: str, name: str, value: Any, least: int, why: str = "") -> None:
    """Refuses what is no integer from `least` to 2**31 - 1; `why` says why it must be so large."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise FieldTypeError(owner, name, value, f"{name} must be an integer, {least} or more")
    if value < least or value >= 2**31:
        raise FieldError(owner, name, value, f"{name} must be {least} or more, and below 2**31{why}")


def check_seeds(owner: str, seeds: Any, task: Task) -> tuple[int, ...]:
    """The seeds that `seeds` counts or lists, or an error that says what to write."""
    if isinstance(seeds, (list, tuple, range, np.ndarray)):
        for seed in seeds:
            check_whole(owner, "seeds", seed, 0)
        if not len(seeds) or len({int(seed) for seed in seeds}) < len(seeds):
            raise FieldError(owner, "seeds", seeds, "write how many, or a list of different integers")
        made = tuple(int(seed) for seed in seeds)
    else:
        check_whole(owner, "seeds", seeds, 1)
        made = tuple(range(int(seeds)))
    if len(made) > 1 and not task.seeded:
        note = ", but this task does not depend on a seed: init and loss use no key, and all get the same batches"
        raise FieldError(owner, "seeds", seeds, "write seeds=1", note=note)
    return made


def check_key(owner: str, key: Any) -> jax.Array:
    """The random key that `key` is or numbers, or an error that says what to write."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
        return key
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
        raise FieldTypeError(owner, "key", key, "key must be an integer or jax.random.key(...)")
    return jax.random.key(int(key))
