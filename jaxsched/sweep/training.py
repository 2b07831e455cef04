"""One training of one setting, as a function to be mapped over settings and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ..schedules.fields import shown
from .task import Task


def one_training(task: Task, steps: int, log_every: int) -> Callable[..., Any]:
    """`training(setting, params, key, train, valid) -> (metrics, final, diverged_at)`, to map over the first three."""
    batches = task.examples // task.batch_size

    def training(setting: Any, params: Any, key: jax.Array, train: Any, valid: Any) -> Any:
        _, order_key, loss_key = jax.random.split(key, 3)
        optimizer = _optimizer(task, setting)

        def new_order(epoch: jax.Array) -> jax.Array:
            return jax.random.permutation(jax.random.fold_in(order_key, epoch), task.examples)

        def step(carry: Any, t: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            params, state, order, diverged_at = carry
            # The step is the same for every training of a chunk, so this stays a branch: one shuffle an epoch.
            order = lax.cond(t % batches == 0, lambda: new_order(t // batches), lambda: order)
            rows = lax.dynamic_slice_in_dim(order, t % batches * task.batch_size, task.batch_size)
            batch = jax.tree.map(lambda x: x.at[rows].get(mode="promise_in_bounds"), train)
            gradient = jax.value_and_grad(task.loss, has_aux=True)
            (loss, metrics), grads = gradient(params, batch, jax.random.fold_in(loss_key, t))
            updates, new_state = optimizer.update(grads, state, params, value=loss)
            diverged_at = jnp.where((diverged_at < 0) & ~jnp.isfinite(loss), t, diverged_at)
            old, new = (params, state), (optax.apply_updates(params, updates), new_state)
            params, state = jax.tree.map(lambda a, b: jnp.where(diverged_at < 0, b, a), old, new)
            return (params, state, order, diverged_at), _named("train", loss, metrics)

        def window(carry: Any, ts: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            carry, trained = lax.scan(step, carry, ts)
            means = {name: jnp.mean(x) for name, x in trained.items()}
            params, _, _, diverged_at = carry
            checked = _named("valid", *task.loss(params, valid, None))
            return carry, _nan_where(diverged_at >= 0, {**means, **checked})

        carry = (params, optimizer.init(params), jnp.arange(task.examples), jnp.int32(-1))
        times = jnp.arange(steps, dtype=jnp.int32)
        whole = steps - steps % log_every
        carry, metrics = lax.scan(window, carry, times[:whole].reshape(-1, log_every))
        final = {name: x[-1] for name, x in metrics.items()}
        if whole < steps:
            carry, final = window(carry, times[whole:])
        params, _, _, diverged_at = carry
        # The last update can break what no later loss will tell.
        sound = jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(params)]).all()
        diverged_at = jnp.where((diverged_at < 0) & ~sound, steps - 1, diverged_at)
        return metrics, _nan_where(diverged_at >= 0, final), diverged_at

    return training


def first_params(task: Task, keys: jax.Array) -> Any:
    """The parameters that the trainings with these keys start from, stacked. All settings of a seed share them, so
    they are made once, outside of the training: random initialisers are slow to compile when they are mapped."""
    init = jax.jit(lambda keys: lax.map(lambda key: task.init(jax.random.split(key, 3)[0]), keys))
    return jax.tree.map(jnp.asarray, init(keys))


def _optimizer(task: Task, setting: Any) -> optax.GradientTransformationExtraArgs:
    optimizer = task.optimizer(setting)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"Task: optimizer returned {shown(optimizer)}; it must return an optax optimizer, such as "
            "optimizer=lambda schedule: optax.adam(schedule)."
        )
    return optax.with_extra_args_support(optimizer)


def _named(prefix: str, loss: Any, metrics: Any) -> dict[str, jax.Array]:
    """The loss and the metrics by name, as floats, of which a mean can be taken."""
    values = {"loss": loss, **metrics}
    return {f"{prefix}_{name}": jnp.asarray(x).astype(jnp.result_type(float)) for name, x in values.items()}


def _nan_where(lost: jax.Array, metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.where(lost, jnp.nan, x) for name, x in metrics.items()}
