"""What the tests of the command line share beside the fixtures `run` and `refusal`: a task file and made-up results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsched import finder
from jaxsched.sweep import SweepResult
from jaxsched.sweep.settings import merged

TASK_FILE = """
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep import Task

x = np.linspace(-1.0, 1.0, 24, dtype=np.float32)


class Half(js.Recipe):
    peak_value: js.fields.Scalar
    total_steps: js.fields.Length

    def build(self):
        return js.Linear(self.peak_value, self.peak_value / 2, self.total_steps)


def loss(slope, batch, key):
    error = slope * batch[0] - batch[1]
    return jnp.mean(error**2), {"accuracy": jnp.mean(jnp.abs(error) < 0.1)}


task = Task(lambda key: jnp.zeros(()), loss, (x, 2 * x), (x, 2 * x), 8, lambda schedule: optax.sgd(schedule))
schedules = js.grid(js.Linear, init_value=[0.01, 0.3, 1e30], end_value=0.0, steps=20)
steps, seeds, log_every, chunk = 20, 1, 5, 4
"""


def rows(out: str, first: str, cells: Callable[[str], list[str]] = str.split) -> list[list[str]]:
    """The cells of the table that begins with this heading, the heading first."""
    lines = out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.split()[:1] == [first])
    end = next(i for i in range(begin, len(lines)) if not lines[i].strip())
    return [cells(line) for line in (lines[begin], *lines[begin + 2 : end])]


def made_up(losses: Any = None, diverged_at: int = -1) -> Callable[..., SweepResult]:
    """Returns a `Plan.run` that trains nothing, and ends with these losses, one for each setting."""

    def run(plan: Any, progress: Any) -> SweepResult:
        final = np.array(range(plan.settings) if losses is None else losses, float)[:, None]
        curves = {"train_loss": final[:, :, None], "valid_loss": final[:, :, None]}
        finals = {"valid_loss": final, "train_loss": final}
        ends = np.full(final.shape, diverged_at)
        return SweepResult(curves, finals, ends, merged(plan.groups), (0,), 20, 20, 0.0, 0.0)

    return run


RATES = np.geomspace(1e-3, 10.0, 40)
FOUND = finder.FinderResult(
    mode="range",
    lrs=RATES,
    losses=np.log10(RATES)[None] ** 2,
    suggestions={"valley": finder.Suggestion(0.1, 0.1, 0.1, np.array([0.1]), "")},
    seeds=(0,),
    steps=40,
    steps_done=40,
    seconds=0.0,
    compile_seconds=0.0,
    smoothed=np.log10(RATES)[None] ** 2,
    stopped_at=np.array([30]),
)
"""A range test that was never run."""
