"""Shared by the commands: the types of options, expressions, lengths, steps to show, and the task file."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jax
import numpy as np
from tyro import conf

from .._errors import format_value
from ..inspect import Outline
from ..inspect.curves import last_step
from ..inspect.format import cut
from ..schedules import Schedule, unstack
from ..schedules.structure import axes, filled
from ..sweep import Task
from ..text import parse
from ..units import Timeline
from .errors import fail, refusals, say, user_folders

N = Annotated[int, conf.arg(metavar="N")]
MaybeN = Annotated[int | None, conf.arg(metavar="N")]
X = Annotated[float, conf.arg(metavar="X")]
MaybeX = Annotated[float | None, conf.arg(metavar="X")]
Name = Annotated[str | None, conf.arg(metavar="NAME")]
Text = Annotated[str | None, conf.arg(metavar="TEXT")]
Output = Annotated[Path | None, conf.arg(aliases=["-o"], metavar="FILE")]
TaskFile = Annotated[Path, conf.arg(metavar="TASK")]
Expression = Annotated[str, conf.arg(metavar="EXPR")]
Steps = Annotated[tuple[str, ...], conf.arg(metavar="[STEP ...]")]

TASK_MODULE = "jaxsched_task_"  # a task file may be called random.py, and must not replace that module
MOST_STEPS = 2**31 - 1  # JAX counts to here


@dataclasses.dataclass(frozen=True)
class Horizon:
    """The length of the training, and the sizes of an epoch and a token.

    Args:
        steps: Number of steps, or 3ep or 2e9tok (by default, the length of the schedule; with a TASK, see above).
        steps_per_epoch: Steps in an epoch, for lengths such as 3ep (of a task file, the batches in the task's arrays).
        tokens_per_step: Tokens in a step, for lengths such as 2e9tok.
    """

    steps: Annotated[str | None, conf.arg(metavar="N")] = None
    steps_per_epoch: MaybeX = None
    tokens_per_step: MaybeX = None

    @property
    def known(self) -> Timeline | None:
        """The units of lengths; None without `--steps`."""
        return None if self.steps is None else self.timeline(None)

    def timeline(self, total: Any, task: Task | None = None) -> Timeline:
        """The units of lengths; `total` is the default of `--steps`."""
        epoch = self.steps_per_epoch
        if epoch is None and task is not None and not task.host and task.batch_size is not None:
            epoch = max(1, task.examples // task.batch_size)
        steps: Any = total if self.steps is None else self.steps
        return Timeline(steps, epoch, self.tokens_per_step)

    def read(self, text: str) -> Schedule:
        """The schedule of an expression that holds one setting."""
        schedule = self.read_family(text)
        if is_stacked(schedule):
            hint = "write one, or draw them: jaxsched plot EXPR -o family.png"
            fail(f"{format_value(text)} holds several settings; {hint}")
        return schedule

    def read_family(self, text: str) -> Schedule:
        """The schedule of an expression that may hold several settings in lists."""
        return filled(parse(text, timeline=self.known))

    def total(self, *schedules: Schedule) -> int:
        """The number of steps: `--steps`, or the length of the longest schedule."""
        total = self.known.total_steps if self.known else max(map(natural_steps, schedules))
        if total > MOST_STEPS:
            fail(f"--steps {total}: JAX counts to {MOST_STEPS}; write fewer steps, or count in larger units")
        return total

    def lengths(self, texts: tuple[str, ...], total: int) -> list[int]:
        """The steps of lengths such as 100, 5% or 3ep, sorted."""
        with refusals(option="--at"):
            steps = sorted(set(map(self.timeline(total), texts)))
        if steps and steps[-1] > MOST_STEPS:
            fail(f"--at {steps[-1]}: JAX counts to {MOST_STEPS}; write fewer steps")
        return steps


UNKNOWN = Horizon()


def is_stacked(schedule: Schedule) -> bool:
    """Whether the schedule holds several settings."""
    return not axes(schedule) <= {0}


def natural_steps(schedule: Schedule) -> int:
    """The last step at which a setting changes; of settings without an end, ten times the longest period."""
    ends = map(last_step, unstack(schedule) if is_stacked(schedule) else [schedule])
    if known := [end for end in ends if end is not None]:
        return max(known)
    leaves = [np.ravel(np.asarray(x)) for x in jax.tree.leaves(schedule)]
    longest = max((int(x.max()) for x in leaves if x.dtype.kind in "iu" and x.size), default=10)
    total = min(10 * max(longest, 10), MOST_STEPS)
    say(f"jaxsched: {cut(repr(schedule), 80)} has no last step: {total:,} steps are shown (--steps N)")
    return total


def notable_steps(outline: Outline, total: int, most: int = 24) -> list[int]:
    """The ends, the boundaries of the phases, the peak, both sides of jumps and restarts, the middles of the phases."""
    steps = {0, total, outline.peak_step}
    for phase in outline.phases:
        steps |= {phase.start, phase.stop}
    changes = [*(jump.step for jump in outline.jumps), *outline.restarts]
    sides = [step for change in changes for step in (change - 1, change)]
    middles = [(phase.start + phase.stop) // 2 for phase in outline.phases]
    for more in (sides, middles):
        room = most - len(steps)
        more = [step for step in dict.fromkeys(more) if step not in steps]
        steps |= set(more if len(more) <= room else more[:: -(-len(more) // room)] if room > 0 else [])
    return sorted(step for step in steps if 0 <= step <= total)


def read_text(path: Path) -> str:
    """The content of a file of the user."""
    return path.read_text(encoding="utf-8") if path.is_file() else fail(f"there is no file {path}")


def load(file: Path) -> tuple[ModuleType, Task]:
    """Imports the task file, and returns its task too; its folder is on the import path, as with `python FILE`."""
    if not file.is_file():
        fail(f"there is no file {file}")
    name = TASK_MODULE + file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        fail(f"{file} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    user_folders.append(file.resolve().parent)
    spec.loader.exec_module(module)
    if not hasattr(module, "task"):
        fail(f"{file} has no `task`: write task = Task(init=..., loss=..., ...) in it")
    task = module.task
    if not isinstance(task, Task):
        fail(f"{file}: task={format_value(task)} is not a jaxsched.sweep.Task")
    with contextlib.suppress(ValueError):  # a function that is not written in Python has no signature
        signature = inspect.signature(task.optimizer)
        try:
            signature.bind(None)  # the first call is where a program is compiled, far from the file
        except TypeError:
            hint = "optimizer=lambda schedule: optax.adam(schedule)"
            fail(f"{file}: optimizer{signature} of the task must take the schedule, and nothing else: {hint}")
    return module, task
