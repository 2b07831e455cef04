"""Gradients in the hyperparameters: of a rate while it trains, and of a final loss through a whole training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from ..optim.clip import LARGEST, global_norm
from ..optim.listen import fresh, increment, names_told, one_schedule, scaled, settings, standard_promotion, widened
from ..schedules.base import Schedule, axes
from ..schedules.fields import NonNegative, Positive, is_traced, shown
from ..sweep.engine import check_key, check_seeds, check_whole
from ..sweep.settings import hyperparameters, is_schedule
from ..sweep.task import Task
from ..sweep.training import Data, Training, training_keys
from .rates import checked_steps

Objective = Callable[[Any], Array]
"""A function of a schedule that can be traced, smaller being better."""

# --- a rate that learns while it trains ------------------------------------------------------------------------------


class HypergradientSettings(NamedTuple):
    """The arguments of `hypergradient`, as they stand in its state; without a `max_lr` it is the largest float32."""

    hyper_lr: NonNegative
    min_lr: NonNegative
    max_lr: Positive


class _Start(NamedTuple):
    learning_rate: NonNegative


class HypergradientState(NamedTuple):
    """What `hypergradient` knows.

    Fields:
      learning_rate: the rate that the last update was made with; before the first, the one to begin with; float32.
      learned: what is learned: the rate, or the factor on the schedule; float32.
      hypergradient: `h` of the last update, or the cosine `c` of a multiplicative one; float32.
      count: the updates so far, which is the clock of the schedule; int32.
      base_learning_rate: the schedule's own value at the last update; None where there is no schedule; float32.
      direction: the last update at the rate 1, in the form and the dtypes of the parameters.
      settings: the arguments.
      inner_state: the state of the optimizer.
    """

    learning_rate: Array
    learned: Array
    hypergradient: Array
    count: Array
    base_learning_rate: Array | None
    direction: Any
    settings: HypergradientSettings
    inner_state: Any

    @property
    def hyperparams(self) -> dict[str, Array]:
        """What `current_hyperparams` shows."""
        return {"learning_rate": self.learning_rate}

    def after(self, slope: Array, base: Array | None, multiplicative: bool) -> HypergradientState:
        """After one more hypergradient, at a step at which the schedule has the value `base`."""
        s, before = self.settings, self.learned
        move = s.hyper_lr * slope
        new = before * (1 - move) if multiplicative else before - move
        # What would carry the rate over a bound is cut off, so that nothing is wound up there; a schedule that crosses
        # the bound by itself changes nothing of what was learned.
        unit = jnp.float32(1.0) if base is None else base
        low = jnp.where(s.min_lr > 0, s.min_lr / unit, 0.0)
        new = jnp.clip(new, jnp.minimum(before, low), jnp.maximum(before, s.max_lr / unit))
        learned = jnp.where(jnp.isfinite(move), new, before)
        return self._replace(learned=learned, hypergradient=slope).at(base)

    def at(self, base: Array | None) -> HypergradientState:
        """With the rate of a step at which the schedule has the value `base`: no lower than `min_lr`, unless the
        schedule itself is."""
        low, rate = self.settings.min_lr, self.learned
        if base is not None:
            low, rate = jnp.minimum(low, base), rate * base
        return self._replace(learning_rate=jnp.clip(rate, low, self.settings.max_lr), base_learning_rate=base)


def hypergradient(
    learning_rate: Any,
    hyper_lr: Any,
    *,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    multiplicative: bool = False,
    min_lr: Any = 0.0,
    max_lr: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose rate goes downhill too: by the gradient of the loss in the rate of the update before.

    It costs one product of two gradients, and the memory of one update.

    Formula, for the gradient `g_t` and the update `d_t` of the optimizer at the rate 1 (`d_t = -g_t` for SGD):
      `h_t = g_t . d_(t-1)`, with `d_0 = 0`;
      `a_t = a_(t-1) - hyper_lr h_t`, or, if multiplicative,
      `a_t = a_(t-1) (1 - hyper_lr c_t)` with the cosine `c_t = h_t / (|g_t| |d_(t-1)|)`, 0 where one of them is 0;
      the update is `a_t d_t`.
    With a schedule a factor on it is learned, from 1, by the same formulas: the rate is `f_t s(t)`, the update
    `f_t s(t) d_t`, and `h_t = s(t-1) g_t . d_(t-1)`.

    Fields:
      learning_rate: the rate to begin with, 0 or more, which is learned; or a schedule or a callable, on which a factor
        is learned (a `Constant` too).
      hyper_lr: how fast it learns, 0 or more. Without `multiplicative` it has the unit of `rate^2 / loss`, or of
        `1 / loss` with a schedule, and must be found by powers of ten; with it, it is the largest relative change of
        one update, such as 0.02.
      optimizer: a function of the rate that makes the optimizer: `optax.sgd`, `optax.adam`,
        `functools.partial(optax.sgd, momentum=0.9, nesterov=True)`, or one of your own such as
        `lambda rate: optax.adamw(rate, weight_decay=0.1)`. Its update must be proportional to the rate, and is made at
        the rate 1. A rate that it shows itself (`inject`) hides this one from `current_hyperparams`.
      multiplicative: learn by shares of the rate, whatever the scale of the loss. A rate of 0 stays 0.
      min_lr: below which the rate does not go, unless the schedule itself does, 0 or more.
      max_lr: above which the rate does not go; None: there is no bound.

    All numbers may be traced arrays, so that `jax.vmap` runs over them: make the optimizer inside of the mapped
    function. The state is a `HypergradientState`: float32 and int32, products are summed in float32 or better, and each
    update is rounded once to its type. A product that is not finite, of a gradient with NaN, leaves the rate as it is:
    for that update, and for the next if the update itself was not finite; put `guard_spikes` around for those. Within
    `by_path` each group learns a rate of its own; `optax.MultiSteps` goes around it.

    Errors: ValueError and TypeError that name the field and show the value.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.predict.gradients import hypergradient
      >>> def train(optimizer, steps=100):
      ...     params = jnp.array([1.0, 1.0])
      ...     state = optimizer.init(params)
      ...     for _ in range(steps):
      ...         gradient = jnp.array([1.0, 0.1]) * params          # of (x^2 + y^2 / 10) / 2
      ...         updates, state = optimizer.update(gradient, state)
      ...         params = optax.apply_updates(params, updates)
      ...     return params, state
      >>> slow, _ = train(optax.sgd(0.01))
      >>> fast, state = train(hypergradient(0.01, 0.02))
      >>> [f"{jnp.linalg.norm(x):.3f}" for x in (slow, fast)]
      ['0.976', '0.239']
      >>> print(f"{js.current_hyperparams(state)['learning_rate']:.3f}")
      0.151

    Source: Baydin et al., "Online learning rate adaptation with hypergradient descent", 2018, arXiv 1703.04782: SGD-HD,
    SGDN-HD and Adam-HD. The bounds and the schedules are our own.
    """
    unit = _at_unit_rate(optimizer)
    if not isinstance(multiplicative, bool):
        raise TypeError(f"hypergradient: multiplicative={shown(multiplicative)}; multiplicative must be True or False.")
    arguments = settings(
        "hypergradient",
        HypergradientSettings,
        hyper_lr=hyper_lr,
        min_lr=min_lr,
        max_lr=LARGEST if max_lr is None else max_lr,
    )
    schedule, first = _start(learning_rate, arguments)

    def base(count: Any) -> Array | None:
        return None if schedule is None else schedule(count).astype(jnp.float32)

    def init(params: Any) -> Any:
        zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
        state = fresh(HypergradientState(zero, first, zero, none, None, None, arguments, None).at(base(none)))
        return state._replace(direction=jax.tree.map(jnp.zeros_like, params), inner_state=unit.init(params))

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        slope, unit_before = _slope(updates, state.direction, multiplicative), state.base_learning_rate
        if unit_before is not None:  # a cosine has no unit, but the derivative of no update at all is 0
            slope = slope * (unit_before > 0 if multiplicative else unit_before)
        state = state._replace(settings=fresh(arguments)).after(slope, base(state.count), multiplicative)
        direction, inner_state = unit.update(updates, state.inner_state, params, **extra)
        kept = jax.tree.map(lambda new, old: new.astype(old.dtype), direction, state.direction)
        after = state._replace(count=increment(state.count), direction=kept, inner_state=inner_state)
        return scaled(direction, state.learning_rate), after

    return optax.GradientTransformationExtraArgs(init, update)


def _at_unit_rate(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    hint = "write a function of the rate, such as optimizer=optax.adam"
    if isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"hypergradient: optimizer is a {type(optimizer).__name__}, which has its rate already; {hint}."
        )
    made = optimizer(1.0) if callable(optimizer) else optimizer
    if not isinstance(made, optax.GradientTransformation):
        what = f"optimizer(1.0) returned {shown(made)}" if callable(optimizer) else f"optimizer={shown(optimizer)}"
        raise TypeError(f"hypergradient: {what}, which is no optimizer; {hint}.")
    return optax.with_extra_args_support(made)


def _start(learning_rate: Any, arguments: HypergradientSettings) -> tuple[Schedule | None, Array]:
    """The schedule, if there is one, and the rate or the factor to begin with."""
    low, high = arguments.min_lr, arguments.max_lr
    if not (is_traced(low) or is_traced(high)) and low > high:
        raise ValueError(f"hypergradient: min_lr={low:g} and max_lr={high:g}; min_lr must be at most max_lr.")
    if isinstance(learning_rate, Schedule) or callable(learning_rate):
        return one_schedule("hypergradient", "learning_rate", learning_rate), jnp.ones((), jnp.float32)
    (first,) = settings("hypergradient", _Start, learning_rate=learning_rate)
    if not any(map(is_traced, (low, first, high))) and not low <= first <= high:
        raise ValueError(
            f"hypergradient: learning_rate={first:g}, min_lr={low:g} and max_lr={high:g}; begin within the bounds."
        )
    return None, jnp.asarray(first)


def _slope(gradient: Any, direction: Any, cosine: bool) -> Array:
    """The product of a gradient and a direction; or the cosine between them, 0 where one of them is 0."""
    units = (jnp.float32(1.0), jnp.float32(1.0))
    if cosine:  # each is divided by its norm before they meet: a product of small numbers would be 0
        norms = (global_norm(gradient), global_norm(direction))
        units = tuple(jnp.where(norm == 0, 0.0, 1 / jnp.where(norm == 0, 1.0, norm)) for norm in norms)

    def product(g: Array, d: Array) -> Array:
        wide = jnp.promote_types(widened(g.dtype), widened(d.dtype))
        g, d = (x.astype(wide) * unit.astype(wide) for x, unit in zip((g, d), units, strict=True))
        return jnp.sum(jnp.real(jnp.conj(g) * d))

    products = jax.tree.leaves(jax.tree.map(product, gradient, direction))
    return sum(products, jnp.zeros((), jnp.float32)).astype(jnp.float32)


# --- a final loss, through the whole training ------------------------------------------------------------------------


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
    schedules and numbers. The data become constants of the programs that it is traced into.

    Errors: TypeError and ValueError that name the argument, show its value and say what to write; also for a task with
    batches from Python code, and for an optimizer that listens to the validation.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.predict.gradients import unrolled_loss
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
    trainings = _checked("unrolled_loss", task, steps, seeds, key, checkpoint_every, chunk)

    def objective(schedule: Any) -> Array:
        return jnp.mean(trainings.losses(_setting("unrolled_loss", task, schedule)))

    return objective


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
    by itself. It is a gradient in what is a float there: write `warmup_steps=100.0` for one in the warmup.
    Within a compiled function, take the gradient of `unrolled_loss` instead.

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
      >>> from jaxsched.predict.gradients import unroll_grad
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
            f"unroll_grad: schedule={shown(schedule)} has no float, and an integer takes no gradient: write "
            "100.0 for 100."
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
        for name in names_told(carry.state):
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

    def losses(self, setting: Any) -> Array:
        return self.compiled.losses(setting, *self.data)

    def gradients(self, setting: Any) -> tuple[Array, Any]:
        """The losses and their gradients, stacked over the seeds; `float0` for integers."""
        leaves, structure = jax.tree.flatten(setting)
        losses, floats = self.compiled.gradients(setting, *self.data)
        rest = iter(floats)

        def slope(x: Any) -> Any:
            return next(rest) if _is_float(x) else np.zeros((len(self.seeds), *np.shape(x)), jax.dtypes.float0)

        return losses, structure.unflatten([slope(x) for x in leaves])


def _checked(owner: str, task: Any, steps: Any, seeds: Any, key: Any, every: Any, chunk: Any) -> _Trainings:
    if not isinstance(task, Task):
        raise TypeError(f"{owner}: task={shown(task)}; task must be a Task(init=..., loss=..., ...).")
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
    return _Trainings(_compiled(task, steps, every, min(int(chunk), len(seeds))), seeds, key)


def _setting(owner: str, task: Task, schedule: Any) -> Any:
    """One setting as arrays: a Python number and an array are the same program."""
    parts = jax.tree.leaves(schedule, is_leaf=is_schedule)
    for part in parts:
        if is_schedule(part) and axes(part) - {0}:
            raise ValueError(
                f"{owner}: schedule={shown(part)} is several settings, stacked; write jax.vmap(unrolled_loss(task, "
                "steps))(schedules), or unstack them."
            )
        if not is_schedule(part) and not _is_number(part):
            raise TypeError(
                f"{owner}: schedule holds {shown(part)}; write a schedule, or a pytree of them and numbers."
            )
    if not jax.tree.leaves(schedule):
        raise ValueError(f"{owner}: schedule={shown(schedule)} holds no number; write a schedule, such as Linear(...).")
    if not all(map(is_schedule, parts)) and not any(map(is_traced, jax.tree.leaves(schedule))):
        task.optimizer(schedule)  # for the checks at its door: in the program numbers are traced
    return jax.tree.map(lambda x: x if isinstance(x, Array) else jnp.asarray(np.asarray(x)), schedule)
