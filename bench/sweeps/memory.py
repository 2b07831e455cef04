"""What a chunk takes of the memory, against what the compiler said before it ran."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep import Task

from ..timing import Row
from . import child, work


def tasks() -> dict[str, tuple[Task, int]]:
    """Trainings of three kinds, and how many of them a chunk has: enough to be seen beside the process itself."""
    digits, cnn, text = (work.example(name) for name in ("digits", "digits_cnn", "character_model"))
    adam = lambda schedule: optax.adam(schedule)  # noqa: E731
    return {
        "digits, a network of 64 x 32 x 10": (digits.task, 2048),
        "digits, convolutions": (dataclasses.replace(cnn.task, optimizer=adam), 256),
        "characters, a recurrent network of 128": (dataclasses.replace(text.task, optimizer=adam), 32),
    }


def peak(name: str, share: float = 1.0) -> dict[str, int]:
    """The bytes that a running chunk adds to what the process held before, and the estimate."""
    task, rows = tasks()[name]
    rows = max(1, int(rows * share))
    schedules = js.grid(js.Linear, init_value=np.geomspace(1e-4, 1e-3, rows), end_value=0.0, steps=4)
    engine = work.Ours(task)
    options: dict[str, Any] = {"steps": 4, "log_every": 2, "chunk": rows}
    estimate = engine(schedules, **options).run["memory_estimate"]  # also compiles, which takes memory of its own
    if stats := jax.local_devices()[0].memory_stats():
        return {"rows": rows, "peak": stats["peak_bytes_in_use"], "estimate": estimate}
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the compiler gave back goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _kib("VmRSS")
    engine(schedules, **options)
    return {"rows": rows, "peak": (_kib("VmHWM") - before) * 1024, "estimate": estimate}


def _kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(share: float = 1.0) -> tuple[list[Row], list[str]]:
    rows = []
    for name in tasks():
        # On one core: one chunk runs at a time.
        told = child.call("sweeps.memory", "peak", child.cores()[:1], name=name, share=share)
        ratio = told["estimate"] / told["peak"]
        mebi = lambda x: f"{x / 2**20:,.1f} MiB"  # noqa: E731
        what = f"memory of a chunk of {told['rows']}, the estimate against the peak: {name}"
        rows.append(
            Row(what, mebi(told["estimate"]), mebi(told["peak"]), f"{ratio:.3f}x", "0.8x to 1.2x", 0.8 <= ratio <= 1.2)
        )
    return rows, [
        "The peak of the process's memory (VmHWM) while a compiled chunk runs, less what it held before; on an "
        "accelerator what the device reports."
    ]
