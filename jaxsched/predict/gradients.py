"""The gradient of a final loss in the hyperparameters of a schedule, through a whole training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._errors import format_value, is_traced
from ..optim.metrics import listener_names
from ..schedules.structure import axes
from ..sweep.engine import check_key, check_seeds, check_whole
from ..sweep.settings import hyperparameters, is_schedule
from ..sweep.task import Task
from ..sweep.training import Data, Training, training_keys
from .objectives import Objective
from .rates import checked_steps


class UnrolledGradient(NamedTuple):
    """A final validation loss, and its gradient in the hyperparameters of the schedule.

    Fields:
      loss: the mean over the seeds, a scalar.
      gradient: its gradient, in the form of the schedule. An integer has none: JAX's `float0` stands there.
      losses: of each seed, (seeds,).
      gradients: of each seed, in the form of a stacked schedule: (seeds, ...).
      schedule: the setting that it was taken at.
      seeds: the seeds, in the order of `losses`.
    """

    loss: Array
    gradient: Any
    losses: Array
    gradients: Any
    schedule: Any
    seeds: tuple[int, ...]

    def table(self) -> list[dict[str, Any]]:
        """One row for each float hyperparameter; one for each entry of a table of them, `values.0`, `values.1` ...

        A row is a dict: the `hyperparameter`, its `value`, the `gradient`, its standard `error` over the seeds (NaN for
        one seed), and `per_log = value gradient`, the gradient in the logarithm: 1 % more of the hyperparameter adds
        `0.01 per_log` to the loss.
        """
        slopes, rows = hyperparameters(self.gradients), []
        for name, leaf in hyperparameters(self.schedule).items():
            if not _is_float(leaf):
                continue
            each = np.asarray(slopes[name], np.float64)
            seeds = len(each)
            spread = each.std(axis=0, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.full(each.shape[1:], np.nan)
            for place in np.ndindex(each.shape[1:]):
                value, mean = float(np.asarray(leaf, np.float64)[place]), float(each.mean(axis=0)[place])
                rows.append(
                    {
                        "hyperparameter": ".".join(map(str, (*filter(None, (name,)), *place))),
                        "value": value,
                        "gradient": mean,
                        "error": float(spread[place]),
                        "per_log": value * mean,
                    }
                )
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
    """The final validation loss of a short training as a function of its schedule: an objective to go downhill on.

    The training is that of `sweep(task, [schedule], steps, seeds, key)`, step by step, and so is the loss: its mean
    over the seeds. It can be traced, vmapped over stacked schedules and differentiated, in either mode;
    `jax.grad(objective, allow_int=True)` is the gradient of a schedule with integers, which have none. NaN says that a
    training diverged, or that its optimizer has no derivative: `unroll_grad` tells which.

    The gradient goes back through every step, so that none of them is approximated. The parameters and the state of
    the optimizer are kept at the begin of each segment of `checkpoint_every` steps, and of each step of the segment
    that it goes through: for n segments of k steps, memory is that of n + k of them, instead of n k. A step is computed
    three times for it, and its derivative once.

    Args:
      task: a `Task` whose data are arrays.
      steps: of the training, 1 or more. Gradients through many steps at large rates grow without a bound, as those of
        recurrent networks do: 100 to 1,000 are usual.
      seeds: how many (0, 1, ... n - 1), or a list of different integers, 0 or more.
      key: an integer or a JAX random key.
      checkpoint_every: the steps of a segment, 1 or more; None: about `sqrt(steps)`, for the least memory.
      chunk: the seeds that are trained side by side; None: all. Fewer take less memory and more time.

    Returns: `objective(schedule) -> scalar`, where a schedule is a setting of the task: a schedule, or a pytree of
    schedules and numbers. The data become constants of the programs that it is traced into. A second call with the same
    arguments returns an equal function (of the last eight), so that a program into which it went is not compiled again.

    Errors: TypeError and ValueError that name the argument, show its value and say what to write; also for a task with
    batches from Python code, and for an optimizer that listens to the validation.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.predict import unrolled_loss
      >>> x = jnp.linspace(-1.0, 1.0, 40)
      >>> task = js.Task(
      ...     init=lambda key: jnp.zeros(()),
      ...     loss=lambda slope, batch, key: (jnp.mean((slope * batch[0] - batch[1]) ** 2), {}),
      ...     train=(x, 2 * x), valid=(x, 2 * x), batch_size=40, optimizer=optax.sgd,
      ... )
      >>> objective = unrolled_loss(task, steps=4)
      >>> [f"{objective(js.Linear(rate, 0.0, 4)):.4f}" for rate in (0.2, 0.4)]
      ['0.6682', '0.2895']

    Source: Maclaurin et al., "Gradient-based hyperparameter optimization through reversible learning", 2015, arXiv
    1502.03492; Franceschi et al., 2017, arXiv 1703.01785; the checkpoints: Chen et al., 2016, arXiv 1604.06174.
    """
    return _checked("unrolled_loss", task, steps, seeds, key, checkpoint_every, chunk).loss


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
    """The gradient of the final validation loss in the hyperparameters of the schedule, through a short real training.

    It is the value and the gradient of `unrolled_loss`, which tells about the trainings and their memory, for each seed
    by itself. It is a gradient in what is a float there: write `warmup_steps=100.5` for one in the warmup. At a whole
    number of steps the loss has a kink in a length, as a step of the training stands just where the phase ends: the
    gradient of `100.0` is that of one side, and may have another sign than that of the other. Begin in between, and
    where a descent comes to a whole number, look at both sides. Within a compiled function, take the gradient of
    `unrolled_loss` instead.

    Args:
      task, steps, seeds, key, checkpoint_every, chunk: as those of `unrolled_loss`.
      schedule: a setting of the task: a schedule, or a pytree of schedules and numbers.

    Returns: an `UnrolledGradient`: `loss`, `gradient`, those of each seed, and `table()`, its rows by hyperparameter.

    Errors: those of `unrolled_loss`; ValueError for a schedule without a float; FloatingPointError, which is no error
    of an argument, for a training that diverged, and for a gradient that is not finite where the loss is. Adam has
    none at a gradient of 0, at which it takes the square root of 0: `optax.adam(schedule, eps_root=1e-8)` has.

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

    Source: that of `unrolled_loss`.
    """
    trainings = _checked("unroll_grad", task, steps, seeds, key, checkpoint_every, chunk)
    setting = _setting("unroll_grad", task, schedule)
    if not any(map(_is_float, jax.tree.leaves(setting))):
        raise ValueError(
            f"unroll_grad: schedule={format_value(schedule)} has no float, and an integer takes no gradient: write 1.0 "
            "for 1, and 100.5 for a length of 100 steps."
        )
    losses, gradients = trainings.gradients(setting)
    if not is_traced(losses):
        _refuse_non_finite(trainings.seeds, losses, gradients)
    mean = jax.tree.map(lambda g: g[0] if g.dtype == jax.dtypes.float0 else jnp.mean(g, axis=0), gradients)
    return UnrolledGradient(jnp.mean(losses), mean, losses, gradients, schedule, trainings.seeds)


def _is_number(x: Any) -> bool:
    numeric = isinstance(x, (int, float, np.ndarray, np.generic, Array)) and not isinstance(x, bool)
    return numeric and (_is_float(x) or jnp.issubdtype(jnp.result_type(x), jnp.integer))


def _is_float(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


def _refuse_non_finite(seeds: tuple[int, ...], losses: Array, gradients: Any) -> None:
    lost = [seed for seed, loss in zip(seeds, np.asarray(losses).tolist(), strict=True) if not math.isfinite(loss)]
    if lost:
        raise FloatingPointError(
            f"unroll_grad: the trainings with the seeds {lost} diverged, and have no gradient; lower the rate, or take "
            "fewer steps (sweep(...).diverged_at tells at which step)."
        )
    named = {name: g for name, g in hyperparameters(gradients).items() if g.dtype != jax.dtypes.float0}
    bad = [name or "the number" for name, g in named.items() if not np.all(np.isfinite(np.asarray(g, np.float64)))]
    if bad:
        raise FloatingPointError(
            f"unroll_grad: the loss is {np.mean(np.asarray(losses)):.4g}, but its gradient in {', '.join(bad)} is not "
            "finite. A square root has no derivative at 0: write optax.adam(schedule, eps_root=1e-8) for an Adam, and "
            "an eps within the root of a norm; a gradient that grew over many steps is finite over fewer."
        )


class _Compiled:
    """The training of a task as a function of its setting, key and data: compiled once, and kept."""

    def __init__(self, task: Task, steps: int, every: int, chunk: int) -> None:
        self.training = Training(task)
        self.steps, self.every, self.chunk = steps, every, chunk
        self.starts = jax.jit(self._starts)
        self.losses = jax.jit(self._losses)
        self.gradients = jax.jit(self._gradients)

    def _starts(self, keys: Array) -> tuple[Any, Array]:
        """The first parameters, and the orders of the examples, int32 (seeds, epochs, examples): as many numbers as
        examples are taken. They depend on no setting, so that they are made outside of what is differentiated."""
        epochs, seeds = -(-self.steps // self.training.batches), jnp.arange(len(keys))
        orders = lax.map(lambda epoch: self.training.orders(keys, seeds, epoch), jnp.arange(epochs, dtype=jnp.int32))
        return self.training.first_params(keys), jnp.moveaxis(orders, 0, 1)

    def _losses(self, setting: Any, starts: Any, train: Any, valid: Any) -> Array:
        return self._map(lambda start: self._loss(setting, start, train, valid), starts)

    def _gradients(self, setting: Any, starts: Any, train: Any, valid: Any) -> tuple[Array, list[Array]]:
        """The losses, and the gradients in the floats of the setting, one after the other."""
        leaves, structure = jax.tree.flatten(setting)
        places = [i for i, x in enumerate(leaves) if _is_float(x)]

        def loss(floats: list[Array], start: Any) -> Array:
            filled = list(leaves)
            for i, x in zip(places, floats, strict=True):
                filled[i] = x
            return self._loss(structure.unflatten(filled), start, train, valid)

        floats = [leaves[i] for i in places]
        return self._map(lambda start: jax.value_and_grad(loss)(floats, start), starts)

    def _map(self, function: Callable[[Any], Any], starts: Any) -> Any:
        return lax.map(function, starts, batch_size=self.chunk)

    def _loss(self, setting: Any, start: Any, train: Any, valid: Any) -> Array:
        key, params, orders = start
        training, seed, first = self.training, jnp.int32(0), jnp.int32(0)
        carry = training.start(setting, params)
        for name in listener_names(carry.state):
            raise ValueError(
                f"Task: named({name!r}, ...) of the optimizer listens to the validation, which is not measured within "
                "an unrolled training; leave it out."
            )
        # Closed over, the orders and the data are shared by all steps: as results of a step they would be kept.
        data = Data(train, orders[None], first)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def step(carry: Any, t: Array) -> tuple[Any, None]:
            # The last segment may be longer than what is left: behind the end nothing moves.
            advance = functools.partial(training.step, setting=setting, key=key, seed=seed, data=data, t=t)
            return lax.cond(t < self.steps, advance, lambda carry: carry, carry), None

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def segment(carry: Any, steps: Array) -> tuple[Any, None]:
            return lax.scan(step, carry, steps)

        segments = -(-self.steps // self.every)
        steps = jnp.arange(segments * self.every, dtype=jnp.int32).reshape(segments, self.every)
        carry, _ = lax.scan(segment, carry, steps)
        return training.measure(carry, valid, jnp.int32(self.steps - 1))[1]["valid_loss"]


# A task is known by its identity, so that a second call with it compiles nothing; the few last ones are kept alive.
_compiled = functools.lru_cache(maxsize=8)(_Compiled)


class _Trainings:
    """The trainings of a task with all seeds, as functions of the setting."""

    def __init__(self, compiled: _Compiled, seeds: tuple[int, ...], key: Array) -> None:
        self.compiled, self.seeds = compiled, seeds
        keys = training_keys(key, seeds)
        task = compiled.training.task
        self.data = ((keys, *compiled.starts(keys)), task.train, task.valid)

    def loss(self, schedule: Any) -> Array:
        """The objective that `unrolled_loss` returns: a method of what is kept, so that it equals itself."""
        setting = _setting("unrolled_loss", self.compiled.training.task, schedule)
        return jnp.mean(self.compiled.losses(setting, *self.data))

    def gradients(self, setting: Any) -> tuple[Array, Any]:
        """The losses and their gradients, stacked over the seeds; `float0` for integers."""
        leaves, structure = jax.tree.flatten(setting)
        losses, floats = self.compiled.gradients(setting, *self.data)
        rest = iter(floats)

        def slope(x: Any) -> Any:
            return next(rest) if _is_float(x) else np.zeros((len(self.seeds), *np.shape(x)), jax.dtypes.float0)

        return losses, structure.unflatten([slope(x) for x in leaves])


@functools.lru_cache(maxsize=8)
def _kept(compiled: _Compiled, seeds: tuple[int, ...], impl: Any, key: bytes, dtype: Any) -> _Trainings:
    """The trainings with a key, whose numbers tell it: an array cannot be looked up. The parameters to begin with are
    of the type of floats of the time when they are made."""
    del dtype
    return _Trainings(compiled, seeds, jax.random.wrap_key_data(jnp.asarray(np.frombuffer(key, np.uint32)), impl=impl))


def _checked(owner: str, task: Any, steps: Any, seeds: Any, key: Any, every: Any, chunk: Any) -> _Trainings:
    if not isinstance(task, Task):
        raise TypeError(f"{owner}: task={format_value(task)}; task must be a Task(init=..., loss=..., ...).")
    if task.host:
        raise ValueError(
            f"{owner}: the batches of this task come from Python code, and the way back through a training needs them "
            "again: write train=(x, y), arrays from which the batches are drawn, and a batch_size."
        )
    steps = checked_steps(owner, "steps", steps)
    every = math.isqrt(steps - 1) + 1 if every is None else min(checked_steps(owner, "checkpoint_every", every), steps)
    seeds, key = check_seeds(owner, seeds, task), check_key(owner, key)
    if chunk is None:
        chunk = len(seeds)
    check_whole(owner, "chunk", chunk, 1)
    compiled, data = _compiled(task, steps, every, min(int(chunk), len(seeds))), jax.random.key_data(key)
    if is_traced(data):  # within a compiled function
        return _Trainings(compiled, seeds, key)
    return _kept(compiled, seeds, jax.random.key_impl(key), np.asarray(data).tobytes(), jnp.result_type(float))


def _setting(owner: str, task: Task, schedule: Any) -> Any:
    """One setting as arrays: a Python number and an array are the same program."""
    parts = jax.tree.leaves(schedule, is_leaf=is_schedule)
    for part in parts:
        if is_schedule(part) and axes(part) - {0}:
            raise ValueError(
                f"{owner}: schedule={format_value(part)} is several settings, stacked; write "
                f"jax.vmap(unrolled_loss(task, "
                "steps))(schedules), or unstack them."
            )
        if not is_schedule(part) and not _is_number(part):
            raise TypeError(
                f"{owner}: schedule holds {format_value(part)}; write a schedule, or a pytree of them and numbers."
            )
    if not jax.tree.leaves(schedule):
        raise ValueError(
            f"{owner}: schedule={format_value(schedule)} holds no number; write a schedule, such as Linear(...)."
        )
    if not all(map(is_schedule, parts)) and not any(map(is_traced, jax.tree.leaves(schedule))):
        task.optimizer(schedule)  # for the checks at its door: in the program numbers are traced
    return jax.tree.map(lambda x: x if isinstance(x, Array) else jnp.asarray(np.asarray(x)), schedule)
