"""One eager call, against the least that a jitted call can cost, and against optax."""

import jax
import optax

import jaxsched as js

from .timing import MEDIANS, Table, at_least, at_most, interleaved


def measure() -> Table:
    ours = js.WarmupCosine(peak_value=3e-4, warmup_steps=2_000, total_steps=100_000)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 3e-4, 2_000, 100_000)
    empty = jax.jit(lambda x: x)
    functions = {"ours": lambda: ours(1_000), "empty": lambda: empty(1_000)}
    handed = interleaved(functions, rounds=101, calls=1_000, warm=5)
    ready = interleaved(
        {name: lambda f=f: f().block_until_ready() for name, f in functions.items()}, rounds=101, calls=1_000, warm=5
    )
    peer = interleaved({"ours": functions["ours"], "optax": lambda: theirs(1_000)}, rounds=51, calls=50, warm=5)
    rows = [
        at_most("`s(1000)`, against an empty jitted call", handed["ours"], handed["empty"], 1.8),
        at_most("the same, waited for", ready["ours"], ready["empty"], 1.8),
        at_least("`s(1000)`, against optax's, both eager", peer["ours"], peer["optax"]),
    ]
    notes = [
        MEDIANS,
        "s is a WarmupCosine; the empty call is `jax.jit(lambda x: x)(1000)`; optax's schedule is "
        "`warmup_cosine_decay_schedule`.",
        "The first row takes the time until the call returns, the second until its value is there.",
    ]
    return Table("call", "An eager call", notes, rows)
