"""A table of many settings at many steps: one program, about as fast as memory can be written."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

from .timing import MEDIANS, Row, Table, Times, at_least, at_most, interleaved, once

SETTINGS, STEPS, OPTAX_SETTINGS = 1024, 65_536, 8


def hyperparameters() -> tuple[np.ndarray, np.ndarray]:
    peaks = np.geomspace(1e-5, 1e-1, SETTINGS)
    warmups = np.linspace(0, STEPS // 4, SETTINGS).astype(np.int32)
    return peaks, np.random.default_rng(0).permutation(warmups)


def stacked() -> js.WarmupCosine:
    peaks, warmups = hyperparameters()
    return js.stack(*(js.WarmupCosine(float(p), int(w), STEPS) for p, w in zip(peaks, warmups, strict=True)))


def program() -> jax.stages.Wrapped:
    return jax.jit(jax.vmap(lambda s: s(jnp.arange(STEPS))))


def optax_seconds() -> list[float]:
    """Seconds a setting: a fresh closure is a fresh program."""
    peaks, warmups = hyperparameters()
    taken = []
    for i in np.linspace(1, SETTINGS - 1, OPTAX_SETTINGS + 1).astype(int):

        def run(i: int = i) -> None:
            schedule = optax.warmup_cosine_decay_schedule(0.0, peaks[i], int(warmups[i]), STEPS)
            jax.jit(jax.vmap(schedule))(jnp.arange(STEPS)).block_until_ready()

        taken.append(once(run))
    return taken[1:]  # the first one also pays for what is loaded once in a process


def compile_seconds(settings: js.WarmupCosine) -> Times:
    taken = []
    for _ in range(5):
        jax.clear_caches()
        taken.append(once(lambda: program().lower(settings).compile()))
    return Times(np.array(taken))


def measure() -> Table:
    settings = jax.device_put(stacked())
    table, fill = program(), jax.jit(lambda x: jnp.full((SETTINGS, STEPS), x))
    times = interleaved(
        {
            "table": lambda: table(settings).block_until_ready(),
            "fill": lambda: fill(0.5).block_until_ready(),
        },
        rounds=50,
        warm=3,
    )
    compiled = compile_seconds(settings)
    peer = Times(np.array(optax_seconds())) * SETTINGS
    rows: list[Row] = [
        at_most(f"{SETTINGS} WarmupCosine x {STEPS:,} steps, against an XLA fill", times["table"], times["fill"], 1.10),
        at_least("the same through optax; ours compiled already", times["table"], peer, 300),
        at_least("the same through optax; ours with its one compilation", times["table"] + compiled, peer, 300),
    ]
    notes = [
        MEDIANS,
        "The fill is `jnp.full` of the same shape, 256 MiB of float32; both sides allocate their result anew.",
        f"optax compiles one program a setting: {OPTAX_SETTINGS} settings were measured, and their median is "
        f"multiplied by {SETTINGS}.",
        f"Our one compilation (tracing counted) takes {compiled}.",
    ]
    return Table("table", "A table of 1024 settings", notes, rows)
