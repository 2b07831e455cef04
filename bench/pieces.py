"""A table of a thousand pieces against one of ten: the program does not grow with it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

from .timing import MEDIANS, Row, Table, Times, at_most, interleaved

STEPS = 65_536


def ours(pieces: int) -> js.PiecewiseConstant:
    boundaries = np.linspace(0, STEPS, pieces + 1).astype(int)[1:-1]
    return js.PiecewiseConstant(boundaries, np.geomspace(1.0, 1e-3, pieces))


def piecewise(pieces: int) -> Callable[[Any], Any]:
    boundaries = np.linspace(0, STEPS, pieces + 1).astype(int)[1:-1]
    return optax.piecewise_constant_schedule(1.0, {int(b): 1e-3 ** (1 / pieces) for b in boundaries})


def joined(pieces: int) -> Callable[[Any], Any]:
    boundaries = np.linspace(0, STEPS, pieces + 1).astype(int)[1:-1]
    values = np.geomspace(1.0, 1e-3, pieces)
    return optax.join_schedules([optax.constant_schedule(float(v)) for v in values], [int(b) for b in boundaries])


def compile_times(make: Callable[[int], Any], sizes: tuple[int, int], step: Any, rounds: int) -> dict[str, Times]:
    """Tracing, lowering and compiling, from empty caches; a training closes over its schedule, and so does this."""

    def compiling(pieces: int) -> Callable[[], Any]:
        schedule = make(pieces)
        return lambda: jax.jit(lambda t: schedule(t)).lower(step).compile()

    return interleaved({str(n): compiling(n) for n in sizes}, rounds, before=jax.clear_caches)


def run_times(make: Callable[[int], Any], sizes: tuple[int, int], rounds: int) -> dict[str, Times]:
    steps = jnp.arange(STEPS)

    def running(pieces: int) -> Callable[[], Any]:
        schedule = make(pieces)
        compiled = jax.jit(lambda t: schedule(t)).lower(steps).compile()
        return lambda: compiled(steps).block_until_ready()

    return interleaved({str(n): running(n) for n in sizes}, rounds, calls=10, warm=3)


def rows_of(name: str, make: Callable[[int], Any], sizes: tuple[int, int], bar: float | None, rounds: int) -> list[Row]:
    small, large = map(str, sizes)
    rows = []
    for what, step in [("a step", jnp.int32(5)), (f"{STEPS:,} steps", jnp.arange(STEPS))]:
        times = compile_times(make, sizes, step, rounds)
        rows.append(at_most(f"{name}, compile for {what}", times[large], times[small], bar))
    times = run_times(make, sizes, rounds=5 * rounds)
    return [*rows, at_most(f"{name}, run {STEPS:,} steps", times[large], times[small], bar)]


def measure() -> Table:
    rows = [
        *rows_of("ours, 1000 against 10", ours, (10, 1000), 2.0, rounds=15),
        *rows_of("optax.piecewise_constant_schedule, 100 against 10", piecewise, (10, 100), None, rounds=7),
        *rows_of("optax.join_schedules, 100 against 10", joined, (10, 100), None, rounds=7),
    ]
    notes = [
        MEDIANS,
        "Each row compares a large table with a small one of the same kind; `ours` against `peer` of the other tables "
        "is large against small here.",
        "Compiling is tracing, lowering and compiling, with all of JAX's caches cleared before each.",
        "optax is told with 100 pieces, not 1000: its program has some operations for every piece.",
    ]
    columns = ("what", "large", "small", "ratio", "bar", "met?")
    return Table("pieces", "A table of a thousand pieces", notes, rows, columns)
