"""`jaxsched bench`: what schedules and sweeps cost on this machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..schedules.recipes import WarmupCosine
from ..schedules.stacking import grid
from ..sweep.engine import sweep
from ..sweep.task import Task
from .console import console, print_json, print_text, table
from .errors import say

_ROUNDS = 5


def bench(json: bool = False, quick: bool = False) -> None:
    """Measure on this machine: a call of a schedule, a table of 1,024 settings, and a sweep against a loop.

    Each pair is measured in turns, and the median of the rounds is told; the sweep and the loop run once, with all that
    they compile. It takes some ten seconds; other programs that compute at the same time are seen in the numbers.

    Examples:
      jaxsched bench
      jaxsched bench --quick --json

    Args:
        json: As JSON, in seconds.
        quick: One short round only, which tells that it works and little else.
    """
    rounds = 1 if quick else _ROUNDS
    device = jax.devices()[0]
    where = f"{platform.machine()}, {os.cpu_count()} cores, device {device.device_kind}, JAX {jax.__version__}"
    rows = []
    for measure in (_call, _table, _sweep):
        say(f"measuring {measure.__name__.lstrip('_')} ...")
        rows.append(measure(rounds, quick))
    if json:
        print_json({"machine": where, "rounds": rounds, "rows": rows})
        return
    print_text(where)
    made = table("", "jaxsched", "beside it", "ratio")
    made.columns[0].justify = made.columns[2].justify = "left"
    for row in rows:
        beside = f"{_time(row['other'])}  {row['beside']}"
        made.add_row(row["what"], _time(row["ours"]), beside, f"{row['ratio']:.2f}")
    console().print(made)


def _call(rounds: int, quick: bool) -> dict[str, Any]:
    del quick
    ours = WarmupCosine(0.1, warmup_steps=100, total_steps=1_000)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.1, 100, 1_000)
    return _pair("an eager call of WarmupCosine", "the same of optax", lambda: ours(500), lambda: theirs(500), rounds)


def _table(rounds: int, quick: bool) -> dict[str, Any]:
    peaks, warmups = np.geomspace(1e-4, 1e-1, 32).tolist(), list(range(0, 320, 10))
    stacked = grid(WarmupCosine, peak_value=peaks, warmup_steps=warmups, total_steps=10_000)
    stacked = jax.tree.map(jnp.asarray, stacked)
    steps = jnp.arange(100 if quick else 10_000)
    values = jax.jit(jax.vmap(lambda s, t: s(t), in_axes=(0, None)))
    fill = jax.jit(lambda x, t: jnp.full((1_024, len(t)), x))
    what = f"a table of 1,024 settings x {len(steps):,} steps"
    return _pair(what, "a fill of as much memory", lambda: values(stacked, steps), lambda: fill(0.1, steps), rounds)


def _sweep(rounds: int, quick: bool) -> dict[str, Any]:
    """Each in whole and once: that it is compiled is a part of what a user waits for."""
    del rounds
    count, steps = (2, 20) if quick else (64, 500)
    x = np.random.default_rng(0).normal(size=(256, 16)).astype(np.float32)
    y = np.tanh(x @ np.linspace(-1, 1, 16, dtype=np.float32))

    def init(key: jax.Array) -> Any:
        first, second = jax.random.split(key)
        return {"w": jax.random.normal(first, (16, 32)) / 4, "v": jax.random.normal(second, (32,)) / 6}

    def loss(params: Any, batch: Any, key: Any) -> Any:
        del key
        return jnp.mean((jnp.tanh(batch[0] @ params["w"]) @ params["v"] - batch[1]) ** 2), {}

    task = Task(init, loss, (x, y), (x, y), 32, lambda schedule: optax.adam(schedule))
    peaks = np.geomspace(1e-4, 1e-1, count).tolist()
    settings = grid(WarmupCosine, peak_value=peaks, warmup_steps=10, total_steps=steps)

    @jax.jit
    def update(setting: Any, params: Any, state: Any, batch: Any) -> Any:
        optimizer = optax.adam(setting)
        grads = jax.grad(lambda p: loss(p, batch, None)[0])(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def loop() -> Any:
        rng, params = np.random.default_rng(0), None
        for i in range(count):
            setting = jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[i]), settings)
            params = init(jax.random.key(0))
            state = optax.adam(setting).init(params)
            for _ in range(steps):
                rows = rng.integers(0, len(x), 32)
                params, state = update(setting, params, state, (x[rows], y[rows]))
        return params

    def swept() -> Any:
        return sweep(task, settings, steps=steps, seeds=1, log_every=steps).final["valid_loss"]

    what = f"a sweep of {count} trainings x {steps} steps"
    return _pair(what, "a loop over them in Python", swept, loop, rounds=1, warm=False)


def _pair(
    what: str, beside: str, ours: Callable[[], Any], other: Callable[[], Any], rounds: int, warm: bool = True
) -> dict[str, Any]:
    """Both in turns, so that what else the machine does falls on both."""
    if warm:
        jax.block_until_ready((ours(), other()))
    repeats = [max(1, int(0.2 / max(_seconds(call, 1), 1e-7))) if warm else 1 for call in (ours, other)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, count, found in zip((ours, other), repeats, seconds, strict=True):
            found.append(_seconds(call, count))
    a, b = (statistics.median(found) for found in seconds)
    spread = {name: [min(s), max(s)] for name, s in zip(("ours_range", "other_range"), seconds, strict=True)}
    return {"what": what, "beside": beside, "ours": a, "other": b, "ratio": a / b, **spread}


def _seconds(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)  # pyright: ignore[reportPossiblyUnboundVariable]
    return (time.perf_counter() - begin) / count


def _time(seconds: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
