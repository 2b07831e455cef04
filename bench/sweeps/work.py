"""What all parts train: the network of examples/digits.py, under schedules that are drawn; and the same by hand."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep.engine import Plan
from jaxsched.sweep.program import Programs

STEPS, LOG_EVERY = 500, 50
EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples"


@functools.cache
def example(name: str = "digits") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(count: int) -> Any:
    """So many schedules, drawn from the space in which hyperoptax draws too."""
    peaks, warmups = js.log_uniform(1e-4, 1e-1), js.int_uniform(0, 200)
    return js.sample(
        js.WarmupCosine, count, method="random", seed=0, peak_value=peaks, warmup_steps=warmups, total_steps=STEPS
    )


class Ours:
    """A sweep whose programs are kept from one call to the next, so that a call is the trainings and nothing else."""

    def __init__(self, task: Any = None) -> None:
        self.task = example().task if task is None else task
        self.programs = Programs(self.task, jax.local_devices())

    def __call__(self, schedules: Any, **options: Any) -> Any:
        options = {"steps": STEPS, "seeds": 1, "log_every": LOG_EVERY} | options
        return Plan.make(self.task, schedules, **options).run(programs=self.programs)


def by_hand(curves: bool = True) -> Callable[..., Any]:
    """`train(peak, warmup, key)`, as one writes it with optax for a vmap: the same examples in the same order as in
    the sweep, and its curves, a point for every `LOG_EVERY` steps; without curves the validation loss at the end."""
    digits = example()
    (images, labels), valid = jax.tree.map(jnp.asarray, (digits.train, digits.valid))
    size = digits.task.batch_size
    batches = len(images) // size
    epochs = jnp.arange(-(-STEPS // batches))

    def train(peak: jax.Array, warmup: jax.Array, key: jax.Array) -> Any:
        init_key, order_key, _ = jax.random.split(key, 3)

        def schedule(t: jax.Array) -> jax.Array:
            cosine = (1 + jnp.cos(jnp.pi * (t - warmup) / (STEPS - warmup))) / 2
            return peak * jnp.where(t < warmup, t / jnp.maximum(warmup, 1), cosine)

        optimizer = optax.adam(schedule)
        orders = jax.vmap(lambda e: jax.random.permutation(jax.random.fold_in(order_key, e), len(images)))(epochs)
        rows = orders[:, : batches * size].reshape(-1, size)[:STEPS]

        def step(carry: Any, rows: jax.Array) -> Any:
            params, state = carry
            batch = images[rows], labels[rows]
            (value, _), grads = jax.value_and_grad(digits.loss, has_aux=True)(params, batch, None)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        def window(carry: Any, rows: jax.Array) -> Any:
            carry, values = jax.lax.scan(step, carry, rows)
            value, metrics = digits.loss(carry[0], valid, None)
            return carry, (values.mean(), value, metrics["accuracy"])

        params = digits.init(init_key)
        carry = params, optimizer.init(params)
        if curves:
            return jax.lax.scan(window, carry, rows.reshape(-1, LOG_EVERY, size))[1]
        (params, _), _ = jax.lax.scan(step, carry, rows)
        return digits.loss(params, valid, None)[0]

    return train


class Hand:
    """The chunks of `vmap(by_hand())`, one after the other; the program is compiled before."""

    def __init__(self, schedules: Any, chunk: int) -> None:
        count = len(schedules.peak_value)
        # The last chunk is filled up with its last setting, as in the sweep.
        self.rows = np.minimum(np.arange(-(-count // chunk) * chunk), count - 1).reshape(-1, chunk)
        self.count = count
        self.peaks, self.warmups = np.float32(schedules.peak_value), np.int32(schedules.warmup_steps)
        # A key for each, as if every training had a seed of its own.
        self.keys = jnp.repeat(jax.random.fold_in(jax.random.key(0), 0)[None], chunk, axis=0)
        self.program = jax.jit(jax.vmap(by_hand())).lower(*self._arguments(self.rows[0])).compile()

    def __call__(self) -> Any:
        outs = [jax.device_get(self.program(*self._arguments(rows))) for rows in self.rows]
        return jax.tree.map(lambda *xs: np.concatenate(xs)[: self.count], *outs)

    def _arguments(self, rows: np.ndarray) -> tuple[Any, ...]:
        return jnp.asarray(self.peaks[rows]), jnp.asarray(self.warmups[rows]), self.keys


def assert_same(ours: Any, hand: Any) -> None:
    """Both are the same trainings: the start of every curve; later a last bit may have grown."""
    for name, values in zip(("train_loss", "valid_loss"), hand, strict=False):
        np.testing.assert_allclose(ours.metrics[name][:, 0, 0], values[:, 0], rtol=1e-3)
    finals = np.median(ours.final["valid_loss"][:, 0]), np.median(hand[1][:, -1])
    np.testing.assert_allclose(*finals, rtol=0.02)
