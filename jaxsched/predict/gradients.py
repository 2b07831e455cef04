"""Gradients of the final loss of a training in the hyperparameters of its schedule."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._errors import FieldError, FieldTypeError, is_traced
from ..optim.metrics import listener_names
from ..sweep.engine import check_key, check_seeds
from ..sweep.settings import hyperparameters, is_schedule
from ..sweep.task import Task
from ..sweep.training import Data, Training, training_keys
from .arguments import Objective, check_count, check_setting, is_float


class UnrolledGradient(NamedTuple):
    """A final validation loss, and its gradient in the hyperparameters of the schedule.

    Args:
      loss: the mean of `losses`, those of each seed (seeds,).
      gradient: the mean of `gradients`, stacked over the seeds, with the structure of the schedule; JAX's `float0` for
        integers.
      schedule: the setting.
      seeds: the seeds, in the order of `losses`.
    """

    loss: Array
    gradient: Any
    losses: Array
    gradients: Any
    schedule: Any
    seeds: tuple[int, ...]

    def table(self) -> list[dict[str, Any]]:
        """Returns a dict for each float hyperparameter, and each entry of a table: `values.0`, `values.1` ...

        A row has the `hyperparameter`, its `value`, the `gradient`, its standard `error` over the seeds (NaN for one
        seed), and `per_log = value gradient`: 1 % more of the hyperparameter adds `0.01 per_log` to the loss.
        """
        slopes, rows = hyperparameters(self.gradients), []
        for name, leaf in hyperparameters(self.schedule).items():
            if not is_float(leaf):
                continue
            each = np.asarray(slopes[name], np.float64)
            mean, seeds = each.mean(axis=0), len(each)
            error = each.std(axis=0, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.full(mean.shape, np.nan)
            for place, value in np.ndenumerate(np.asarray(leaf, np.float64)):
                named = ".".join(map(str, (*filter(None, (name,)), *place)))
                row = {"hyperparameter": named, "value": float(value), "gradient": float(mean[place])}
                rows.append(row | {"error": float(error[place]), "per_log": float(value * mean[place])})
        return rows


def unrolled_loss(
    task: Task,
    steps: int,
    *,
    seeds: int | Sequence[int] = 1,
    key: int | Array = 0,
    checkpoint_every: int | None = None,
    chunk: int | None = None,
) -> Objective:
    """Returns the final validation loss of a short training as a function of its schedule: an objective for `optimize`.

    The training is that of `sweep(task, [schedule], steps, seeds, key)`, with its mean loss over the seeds. It can be
    traced, vmapped over stacked schedules and differentiated in either mode; for schedules with integers use
    `jax.grad(objective, allow_int=True)`. It returns NaN if a training diverges.

    The gradient is exact. Parameters and optimizer states are kept at the start of each segment of `checkpoint_every`
    steps, and at each step of one segment. Each step is computed three times.

    Args:
      task: a `Task` whose data are arrays.
      steps: of the training, 1 or more. Gradients through many steps at large rates explode: 100 to 1,000 are usual.
      seeds: how many (0, 1, ... n - 1), or a list of different integers, 0 or more.
      key: an integer or a JAX random key.
      checkpoint_every: the steps of a segment, 1 or more; None: about `sqrt(steps)`, for the least memory.
      chunk: the seeds that are trained side by side; None: all.

    Returns:
      `objective(schedule) -> scalar`, for a schedule or a pytree of schedules and numbers. Objectives of the same
      arguments are equal, and share compiled programs.

    Raises:
      FieldError, FieldTypeError: for bad arguments, a task with batches from Python code, and an optimizer that listens
        to the validation.

    References:
      Maclaurin et al., "Gradient-based hyperparameter optimization through reversible learning", 2015, arXiv
      1502.03492; Franceschi et al., 2017, arXiv 1703.01785; the checkpoints: Chen et al., 2016, arXiv 1604.06174.
    """
    return _unrolled("unrolled_loss", task, steps, seeds, key, checkpoint_every, chunk)


def unroll_grad(
    task: Task,
    schedule: Any,
    steps: int,
    *,
    seeds: int | Sequence[int] = 1,
    key: int | Array = 0,
    checkpoint_every: int | None = None,
    chunk: int | None = None,
) -> UnrolledGradient:
    """Returns the gradient of the final validation loss of a short training in its hyperparameters.

    The arguments are those of `unrolled_loss`, and `schedule`, a schedule or a pytree of schedules and numbers. Only
    floats have a gradient: write `warmup_steps=100.5` for one in the warmup. At a whole number of steps the loss has a
    kink in a length, and the gradient is that of one side; start between two.

    Raises:
      FieldError, FieldTypeError: as `unrolled_loss` does, and for a schedule without a float.
      FloatingPointError: for a training that diverged, and for a gradient that is not finite. Adam has none where a
        gradient is 0, because of its square root; `optax.adam(schedule, eps_root=1e-8)` has one.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.predict import unroll_grad
      >>> x = jnp.linspace(-1.0, 1.0, 40)
      >>> task = js.Task(
      ...     init=lambda key: jnp.zeros(()),
      ...     loss=lambda slope, batch, key: (jnp.mean((slope * batch[0] - batch[1]) ** 2), {}),
      ...     train=(x, 2 * x), valid=(x, 2 * x), batch_size=40, optimizer=optax.sgd,
      ... )
      >>> for row in unroll_grad(task, js.Linear(0.2, 0.0, 4), steps=4).table():
      ...     print(f"{row['hyperparameter']}: {row['gradient']:.4f}, {row['per_log']:.4f} of the logarithm")
      init_value: -2.6206, -0.5241 of the logarithm
      end_value: -1.4932, -0.0000 of the logarithm
    """
    trainings = _unrolled("unroll_grad", task, steps, seeds, key, checkpoint_every, chunk)
    setting = trainings.checked("unroll_grad", schedule)
    if not any(map(is_float, jax.tree.leaves(setting))):
        instead = "integers are not differentiable: write 1.0 for 1, and 100.5 for a length of 100 steps"
        raise FieldError("unroll_grad", "schedule", schedule, instead, note=" has no float")
    losses, gradients = trainings.gradients(setting)
    if not is_traced(losses):
        _refuse_non_finite(trainings.seeds, losses, gradients)
    mean = jax.tree.map(lambda g: g[0] if g.dtype == jax.dtypes.float0 else jnp.mean(g, axis=0), gradients)
    return UnrolledGradient(jnp.mean(losses), mean, losses, gradients, schedule, trainings.seeds)


def _refuse_non_finite(seeds: tuple[int, ...], losses: Array, gradients: Any) -> None:
    lost = [seed for seed, loss in zip(seeds, np.asarray(losses).tolist(), strict=True) if not math.isfinite(loss)]
    if lost:
        raise FloatingPointError(
            f"unroll_grad: the trainings with the seeds {lost} diverged; lower the rate, or take fewer steps "
            "(sweep(...).diverged_at holds the step)."
        )
    named = {name: g for name, g in hyperparameters(gradients).items() if g.dtype != jax.dtypes.float0}
    bad = [name or "the number" for name, g in named.items() if not np.all(np.isfinite(np.asarray(g, np.float64)))]
    if bad:
        raise FloatingPointError(
            f"unroll_grad: the loss is {np.mean(np.asarray(losses)):.4g}, but its gradient in {', '.join(bad)} is not "
            "finite. A square root has no derivative at 0: write optax.adam(schedule, eps_root=1e-8), and an eps in "
            "the root of a norm; a gradient that exploded over many steps is finite over fewer."
        )


class _Program:
    """A training as a function of its setting, key and data, and its compiled forms."""

    def __init__(self, task: Task, steps: int, every: int, chunk: int) -> None:
        self.task, self.training = task, Training(task)
        self.steps, self.every, self.chunk = steps, every, chunk
        self.starts, self.losses, self.gradients = map(jax.jit, (self._starts, self._losses, self._gradients))

    def _starts(self, keys: Array) -> tuple[Any, Array, Array]:
        """The keys, the first parameters and the orders of the examples: what depends on no setting."""
        training = self.training
        epochs, seeds = -(-self.steps // training.batches), jnp.arange(len(keys))
        orders = lax.map(lambda epoch: training.orders(keys, seeds, epoch), jnp.arange(epochs, dtype=jnp.int32))
        return keys, training.first_params(keys), jnp.moveaxis(orders, 0, 1)

    def _losses(self, setting: Any, starts: Any, train: Any, valid: Any) -> Array:
        return lax.map(lambda start: self._loss(setting, start, train, valid), starts, batch_size=self.chunk)

    def _gradients(self, setting: Any, starts: Any, train: Any, valid: Any) -> tuple[Array, Any]:
        """The losses, and the gradients in the floats of the setting."""
        leaves, structure = jax.tree.flatten(setting)
        floats = [x if is_float(x) else None for x in leaves]

        def loss(floats: list[Any], start: Any) -> Array:
            filled = [x if new is None else new for x, new in zip(leaves, floats, strict=True)]
            return self._loss(structure.unflatten(filled), start, train, valid)

        return lax.map(lambda start: jax.value_and_grad(loss)(floats, start), starts, batch_size=self.chunk)

    def _loss(self, setting: Any, start: Any, train: Any, valid: Any) -> Array:
        key, params, orders = start
        training, seed, first = self.training, jnp.int32(0), jnp.int32(0)
        carry = training.start(setting, params)
        for name in listener_names(carry.state):
            instead = "leave it out: an unrolled training does not measure the validation loss on the way"
            raise FieldError("Task", "optimizer", name, instead, note=" listens to the validation")
        # The orders and the data are closed over: as results of a step, they would be kept for each step.
        data = Data(train, orders[None], first)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def step(carry: Any, t: Array) -> tuple[Any, None]:
            # The last segment may be longer than the rest of the training.
            advance = functools.partial(training.step, setting=setting, key=key, seed=seed, data=data, t=t)
            return lax.cond(t < self.steps, advance, lambda carry: carry, carry), None

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def segment(carry: Any, steps: Array) -> tuple[Any, None]:
            return lax.scan(step, carry, steps)

        segments = -(-self.steps // self.every)
        steps = jnp.arange(segments * self.every, dtype=jnp.int32).reshape(segments, self.every)
        carry, _ = lax.scan(segment, carry, steps)
        return training.measure(carry, valid, jnp.int32(self.steps - 1))[1]["valid_loss"]


_program = functools.lru_cache(maxsize=8)(_Program)  # keeps the data of the last tasks alive, and their programs


@dataclasses.dataclass(frozen=True)
class _Unrolled:
    """The objective that `unrolled_loss` returns."""

    program: _Program
    seeds: tuple[int, ...]
    key: Any  # its implementation, its bits (if they are known) and the dtype of the training
    data: Any = dataclasses.field(compare=False)

    def __call__(self, schedule: Any) -> Array:
        return jnp.mean(self.program.losses(self.checked("unrolled_loss", schedule), *self.data))

    def gradients(self, setting: Any) -> tuple[Array, Any]:
        """The losses and their gradients, stacked over the seeds; `float0` for integers."""
        leaves, structure = jax.tree.flatten(setting)
        losses, slopes = self.program.gradients(setting, *self.data)
        none = [np.zeros((len(self.seeds), *np.shape(x)), jax.dtypes.float0) for x in leaves]
        filled = [none if slope is None else slope for slope, none in zip(slopes, none, strict=True)]
        return losses, structure.unflatten(filled)

    def checked(self, owner: str, schedule: Any) -> Any:
        """One setting as arrays, so that Python numbers and arrays share a program."""
        instead = "write jax.vmap(unrolled_loss(task, steps))(schedules), or unstack them"
        check_setting(owner, "schedule", schedule, instead)
        leaves = jax.tree.leaves(schedule)
        if not leaves:
            raise FieldError(owner, "schedule", schedule, "write one, such as Linear(...)", note=" holds no number")
        numbers = not all(map(is_schedule, jax.tree.leaves(schedule, is_leaf=is_schedule)))
        if numbers and not any(map(is_traced, leaves)):
            self.program.task.optimizer(schedule)  # it checks its numbers, which are traced in the program
        return jax.tree.map(lambda x: x if isinstance(x, Array) else jnp.asarray(np.asarray(x)), schedule)


def _unrolled(owner: str, task: Any, steps: Any, seeds: Any, key: Any, every: Any, chunk: Any) -> _Unrolled:
    if not isinstance(task, Task):
        raise FieldTypeError(owner, "task", task, "task must be a Task(init=..., loss=..., ...)")
    if task.host:
        instead = "the backward pass needs the batches again: write train=(x, y), arrays, and a batch_size"
        raise FieldError(owner, "train", task.train, instead, note=" comes from Python code")
    steps = check_count(owner, "steps", steps)
    every = math.isqrt(steps - 1) + 1 if every is None else min(check_count(owner, "checkpoint_every", every), steps)
    seeds, key = check_seeds(owner, seeds, task), check_key(owner, key)
    chunk = len(seeds) if chunk is None else min(check_count(owner, "chunk", chunk), len(seeds))
    program, bits = _program(task, steps, every, chunk), jax.random.key_data(key)
    known = object() if is_traced(bits) else np.asarray(bits).tobytes()
    data = (program.starts(training_keys(key, seeds)), task.train, task.valid)
    return _Unrolled(program, seeds, (jax.random.key_impl(key), known, jnp.result_type(float)), data)
