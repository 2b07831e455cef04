"""A training step with the schedule inside, against the same step with a constant rate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxsched as js

from .timing import MEDIANS, Table, at_most, interleaved

WIDTHS, BATCH, ROUNDS = (784, 512, 512, 10), 128, 1_000


def init(key: jax.Array, widths: tuple[int, ...] = WIDTHS) -> list[tuple[jax.Array, jax.Array]]:
    keys = jax.random.split(key, len(widths) - 1)
    return [
        (jax.random.normal(k, (n, m)) * (2 / n) ** 0.5, jnp.zeros(m))
        for k, n, m in zip(keys, widths, widths[1:], strict=False)
    ]


def loss(params: list[tuple[jax.Array, jax.Array]], x: jax.Array, y: jax.Array) -> jax.Array:
    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = jax.nn.relu(x @ weight + bias)
    return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()


def training(
    optimizer: optax.GradientTransformation, widths: tuple[int, ...] = WIDTHS, *, tells: bool = False
) -> Callable[[], None]:
    """A function that takes one more step each time it is called, and tells the optimizer the loss if it `tells`; its
    buffers are donated, as in a real training."""
    optimizer = optax.with_extra_args_support(optimizer)
    x = jax.random.normal(jax.random.key(1), (BATCH, widths[0]))
    y = jax.random.randint(jax.random.key(2), (BATCH,), 0, widths[-1])

    def step(params: Any, state: Any) -> tuple[Any, Any]:
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        told = {"value": value} if tells else {}
        updates, state = optimizer.update(gradient, state, params, **told)
        return optax.apply_updates(params, updates), state

    params = init(jax.random.key(0), widths)
    held = [params, optimizer.init(params)]
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*held).compile()

    def advance() -> None:
        held[:] = compiled(*held)
        jax.block_until_ready(held)

    return advance


def measure() -> Table:
    times = interleaved(
        {
            "ours": training(optax.adam(js.WarmupCosine(peak_value=1e-3, warmup_steps=100, total_steps=10_000))),
            "optax": training(optax.adam(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 10_000))),
            "constant": training(optax.adam(1e-3)),
            "again": training(optax.adam(1e-3)),
        },
        rounds=ROUNDS,
        warm=20,
    )
    rows = [
        at_most("WarmupCosine inside, against a constant rate", times["ours"], times["constant"], 1.02),
        at_most("optax's schedule inside, against a constant rate", times["optax"], times["constant"]),
        at_most("WarmupCosine against optax's schedule", times["ours"], times["optax"]),
        at_most("a constant rate against itself: the noise", times["again"], times["constant"]),
    ]
    notes = [
        MEDIANS,
        f"One step of `optax.adam` on an MLP of {'-'.join(map(str, WIDTHS))}, batch {BATCH}, gradient counted; "
        f"{ROUNDS} rounds.",
    ]
    return Table("step", "A training step", notes, rows)
