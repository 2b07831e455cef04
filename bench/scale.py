"""The constants of the cost model of bench/SCALE.md, measured on this machine."""

from __future__ import annotations

import dataclasses
import socket
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep.engine import Plan
from jaxsched.sweep.program import Programs
from jaxsched.sweep.stage import Chunk, Stage

from .sweeps import child, work
from .timing import Row, Table, interleaved, span

CHUNKS = (1, 4, 16, 64)
TRIAL_SECONDS = 0.3


class Facts(Row):
    """A row of figures, with no bar to meet."""

    def cells(self) -> list[str]:
        return [self.what, self.ours, self.peer, self.ratio]


def kind(name: str) -> dict[str, Any]:
    """What one training of an example costs, on the cores of this process, one chunk at a time."""
    task = dataclasses.replace(work.example(name).task, optimizer=lambda schedule: optax.adam(schedule))
    schedules = js.grid(js.Linear, init_value=np.geomspace(1e-4, 1e-3, max(CHUNKS)), end_value=0.0, steps=100)
    stage = Stage(
        Plan.make(task, schedules, 100, 1, 0, 10, 1, devices=jax.local_devices()[:1]),
        Programs(task, jax.local_devices()[:1]),
    )
    params = jax.eval_shape(task.init, jax.random.key(0))
    gradient = jax.make_jaxpr(jax.value_and_grad(task.loss, has_aux=True))
    flops = _operations(gradient(params, task.batch, jax.random.key(0)).jaxpr)
    programs = {n: stage.program(0, n) for n in CHUNKS}
    few, many = programs[CHUNKS[-2]], programs[CHUNKS[-1]]
    return {
        "params": sum(x.size for x in jax.tree.leaves(params)),
        "flops": float(flops),
        "carry": sum(
            x.size * x.dtype.itemsize for x in jax.tree.leaves(many.carry) if jnp.issubdtype(x.dtype, jnp.number)
        )
        / many.rows,
        "bytes": (many.bytes - few.bytes) / (many.rows - few.rows),
        "fixed": max(0.0, few.bytes - few.rows * (many.bytes - few.bytes) / (many.rows - few.rows)),
        "data": many.data_bytes,
        "compile": many.seconds,
        "step": {n: stage.cost(0, n, TRIAL_SECONDS) / n for n in CHUNKS},
        **_segment(stage, CHUNKS[2]),
    }


def _operations(jaxpr: Any) -> float:
    """Of the matrix products and convolutions: a multiplication and an addition are two. (The compiler's own count
    takes the body of a loop once.)"""
    count = 0.0
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        count += times * sum(_operations(getattr(p, "jaxpr", p)) for p in inner)
        shapes = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            count += 2 * np.prod(shapes[2]) * np.prod([shapes[0][axis] for axis in contracted])
        if equation.primitive.name == "conv_general_dilated":
            outputs = equation.params["dimension_numbers"].rhs_spec[0]
            count += 2 * np.prod(shapes[2]) * np.prod(shapes[1]) / shapes[1][outputs]
    return float(count)


def _segment(stage: Stage, rows: int) -> dict[str, float]:
    """Seconds of a segment without a step, and of its validation for each training."""
    chunk = Chunk(0, np.arange(rows), rows)
    program, nothing = stage.open(chunk), np.int32(0)

    def segment(measured: bool) -> None:
        train_and_valid = stage.train, stage.valid
        chunk.carry, metrics = program.segment(
            chunk.carry, *chunk.arguments, *train_and_valid, nothing, nothing, np.bool_(measured)
        )
        jax.device_get((chunk.carry.diverged_at, metrics))

    times = interleaved({"bare": lambda: segment(False), "measured": lambda: segment(True)}, 10)
    bare, measured = (float(np.median(times[name].seconds)) for name in ("bare", "measured"))
    return {"segment": bare, "validation": (measured - bare) / rows}


def exchange(process: int, coordinator: str, sizes: list[int]) -> list[float]:
    """Seconds in which two processes tell each other so many bytes."""
    from jaxsched.sweep import distributed

    with distributed.initialize(coordinator, 2, process) as processes:
        taken = []
        for size in sizes:
            data = {"x": np.zeros(size, np.uint8)}
            processes.gather(data)
            begin = time.perf_counter()
            for _ in range(5):
                processes.gather(data)
            taken.append((time.perf_counter() - begin) / 5)
        return taken


def _exchanges(sizes: list[int]) -> list[float]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    running = [child.start("scale", "exchange", coordinator=coordinator, process=i, sizes=sizes) for i in range(2)]
    return np.max([child.outcome(process) for process in running], axis=0).tolist()


def _size(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g} "


def measure() -> Table:
    names = ("digits", "digits_cnn", "character_model")
    core = child.cores()[:1]
    found = [child.call("scale", "kind", core, name=name) for name in names]
    rate = lambda x: x["flops"] / min(x["step"].values())  # noqa: E731
    lines = {
        "P: parameters": lambda x: _size(x["params"]),
        "F: floating-point operations of a step (products and convolutions)": lambda x: _size(x["flops"]),
        "m: bytes of a training on the device while it runs": lambda x: f"{_size(x['bytes'])}B",
        "m_c: bytes of a training in a checkpoint": lambda x: f"{_size(x['carry'])}B",
        "m_0: bytes of the program whatever the chunk": lambda x: f"{_size(x['fixed'])}B",
        "D: bytes of the data": lambda x: f"{_size(x['data'])}B",
        **{f"c: a step of a training in a chunk of {n}": lambda x, n=n: span(x["step"][str(n)]) for n in CHUNKS},
        "R: operations a second on one core, at the best of these": lambda x: f"{_size(rate(x))}FLOP/s",
        "v: the validation of a training": lambda x: span(x["validation"]),
        "o: a segment without a step or validation": lambda x: span(x["segment"]),
        "k: compilation of a chunk of the largest size": lambda x: span(x["compile"]),
    }
    rows = [Facts(what, *(line(x) for x in found)) for what, line in lines.items()]
    latency, bulk = _exchanges([8, 64 * 2**20])
    rows.append(Facts("l: two processes meet (loopback)", span(latency), "", ""))
    rows.append(Facts("w: what they tell each other", f"{_size(64 * 2**20 / bulk)}B/s", "", ""))
    notes = ["The symbols are those of bench/SCALE.md. One chunk at a time on one core, or on the first accelerator."]
    return Table("scale", "The constants of the cost model", notes, rows, ("what", *names))
