"""One training of one setting: how it starts, takes a step, and is measured. The program maps these over a chunk."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from .._errors import FieldError, FieldTypeError, format_value
from ..optim.metrics import listener_names, observe
from .task import Task


class Carry(NamedTuple):
    """What a training takes from one step to the next.

    Fields:
      params, state: of the model and of the optimizer.
      sums: of the loss and the metrics of the training batches since the window began.
      lost_since: the first of the steps in a row, up to now, whose loss was not finite; -1 if the last was finite.
      diverged_at: see `SweepResult`; -1 as long as the training is sound.
    """

    params: Any
    state: Any
    sums: dict[str, jax.Array]
    lost_since: jax.Array
    diverged_at: jax.Array


class Data(NamedTuple):
    """What the batches of a segment are made of, the same for all trainings of a chunk.

    Fields:
      train: the examples; or the batches of the segment, one after the other, where they come from the host.
      orders: int32 (seeds, epochs, examples), the orders of the examples from the epoch on in which the segment
        begins; None where the batches come from the host. All settings of a seed share them.
      begin: the step at which the segment begins.
    """

    train: Any
    orders: Any
    begin: Any


def training_keys(key: jax.Array, seeds: tuple[int, ...]) -> jax.Array:
    """The key of the trainings with each seed."""
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.asarray(seeds, jnp.uint32))


@functools.partial(jax.jit, static_argnums=3)
def _orders(keys: jax.Array, seeds: jax.Array, epoch: jax.Array, examples: int) -> jax.Array:
    """`Training.orders` as one program for all tasks with the same number of examples."""

    def order(key: jax.Array) -> jax.Array:
        order_key = jax.random.split(key, 3)[1]
        return jax.random.permutation(jax.random.fold_in(order_key, epoch), examples)

    return jax.vmap(order)(keys[seeds]).astype(jnp.int32)


class Training:
    """The functions of one training of `task`, to be mapped over settings, parameters and keys."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.size = task.batch_size or 0
        self.batches = 0 if task.host else task.examples // self.size

    def first_params(self, keys: jax.Array) -> Any:
        """The parameters that the trainings with these keys start from, stacked. All settings of a seed share them,
        so they are made once: random initialisers are slow to compile when they are mapped."""
        return jax.tree.map(jnp.asarray, lax.map(lambda key: self.task.init(jax.random.split(key, 3)[0]), keys))

    def orders(self, keys: jax.Array, seeds: Any, epoch: Any) -> jax.Array:
        """int32 (seeds, examples): how the trainings with these of the keys take the examples in an epoch."""
        return _orders(keys, seeds, epoch, self.task.examples)

    def start(self, setting: Any, params: Any) -> Carry:
        sums = {name: jnp.zeros((), jnp.result_type(float)) for name in self.task.metrics if name.startswith("train_")}
        state = self._optimizer(setting).init(params)
        told = {name for name in self.task.metrics if name.startswith("valid_")}
        for name in listener_names(state) - told:
            instead = f"name it after a metric that is measured at the end of every window: {', '.join(sorted(told))}"
            raise FieldError("Task", "named", name, instead, note=" of the optimizer gets no values in a sweep")
        return Carry(params, state, sums, jnp.int32(-1), jnp.int32(-1))

    def step(self, carry: Carry, setting: Any, key: jax.Array, seed: jax.Array, data: Data, t: jax.Array) -> Carry:
        """The carry after step `t`; `seed` is the place of the seed in the orders."""
        loss_key = jax.random.split(key, 3)[2]
        batch = self._batch(data, seed, t)
        gradient = jax.value_and_grad(self.task.loss, has_aux=True)
        (loss, metrics), grads = gradient(carry.params, batch, jax.random.fold_in(loss_key, t))
        updates, state = self._optimizer(setting).update(grads, carry.state, carry.params, value=loss)
        # A training that has diverged stands still where `measure` has put it: at finite numbers.
        updates = jax.tree.map(lambda u: jnp.where(carry.diverged_at < 0, u, jnp.zeros_like(u)), updates)
        lost_since = jnp.where(jnp.isfinite(loss), -1, jnp.where(carry.lost_since < 0, t, carry.lost_since))
        sums = jax.tree.map(jnp.add, carry.sums, _named("train", loss, metrics))
        params = optax.apply_updates(carry.params, updates)
        return Carry(params, state, sums, lost_since.astype(jnp.int32), carry.diverged_at)

    def measure(self, carry: Carry, valid: Any, t: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
        """Ends a window whose last step was `t`: the sums of the training metrics over its steps, the validation
        metrics, and who has diverged in it. The host divides: a compiler may multiply by the reciprocal or not."""
        checked = _named("valid", *self.task.loss(carry.params, valid, None))
        sound = jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(carry.params)]).all()
        # One bad batch is no divergence, whose loss an optimizer with a guard survives: the validation loss tells.
        sound &= (carry.lost_since < 0) | jnp.isfinite(checked["valid_loss"])
        since = jnp.where(sound, -1, jnp.where(carry.lost_since >= 0, carry.lost_since, t))
        diverged_at = jnp.where(carry.diverged_at < 0, since, carry.diverged_at)
        lost = diverged_at >= 0
        metrics = {name: jnp.where(lost, jnp.nan, x) for name, x in {**carry.sums, **checked}.items()}
        state = carry.state
        for name in listener_names(state):
            state = observe(state, value=checked[name], name=name)
        # Zeros instead of numbers that are not finite: nothing computes with those to the end.
        params, state = jax.tree.map(lambda x: _zero_where(lost, x), (carry.params, state))
        sums = jax.tree.map(jnp.zeros_like, carry.sums)
        return Carry(params, state, sums, carry.lost_since, diverged_at.astype(jnp.int32)), metrics

    def _batch(self, data: Data, seed: jax.Array, t: jax.Array) -> Any:
        if not self.batches:
            return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, t - data.begin, keepdims=False), data.train)
        epoch = t // self.batches - data.begin // self.batches
        at = (seed, epoch, t % self.batches * self.size)
        rows = lax.dynamic_slice(data.orders, at, (1, 1, self.size)).reshape(self.size)
        return jax.tree.map(lambda x: x.at[rows].get(mode="promise_in_bounds"), data.train)

    def _optimizer(self, setting: Any) -> optax.GradientTransformationExtraArgs:
        try:
            optimizer = self.task.optimizer(setting)
        except Exception as error:
            error.add_note(f"Task: this came from optimizer(setting), and a setting is {format_value(setting)}.")
            raise
        if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            instead = "it must return an optax optimizer, such as optimizer=lambda schedule: optax.adam(schedule)"
            raise FieldTypeError("Task", "optimizer(setting)", optimizer, instead)
        return optax.with_extra_args_support(optimizer)


def _named(prefix: str, loss: Any, metrics: Any) -> dict[str, jax.Array]:
    """The loss and the metrics by name, as floats, of which a mean can be taken."""
    values = {"loss": loss, **metrics}
    return {f"{prefix}_{name}": jnp.asarray(x).astype(jnp.result_type(float)) for name, x in values.items()}


def _zero_where(lost: jax.Array, x: jax.Array) -> jax.Array:
    if not jnp.issubdtype(x.dtype, jnp.inexact):  # counts and random keys are always sound
        return x
    return jnp.where(lost, jnp.zeros_like(x), x)
