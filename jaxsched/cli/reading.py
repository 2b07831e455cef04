"""Expressions and lengths of the command line, and the steps to show."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import numpy as np
from tyro import conf

from .._errors import FieldError, format_value
from ..inspect.curves import last_step
from ..inspect.format import cut
from ..schedules.base import Schedule
from ..schedules.structure import axes, filled
from ..sweep.task import Task
from ..text import ParseError, parse
from ..units import Timeline
from .errors import Refused, fail, refusals, say

MOST_STEPS = 2**31 - 1
"""JAX counts to here."""

_OPTIONS = {
    "timeline": "--steps",
    "total_steps": "--steps",
    "steps_per_epoch": "--steps-per-epoch",
    "tokens_per_step": "--tokens-per-step",
}
"""The option for each argument that a length needs."""


@dataclasses.dataclass(frozen=True)
class Horizon:
    """The length of the training, and the sizes of an epoch and a token.

    Args:
        steps: Number of steps: a number, 3ep or 2e9tok (by default, the length of the schedule).
        steps_per_epoch: Steps in an epoch (for lengths such as 3ep).
        tokens_per_step: Tokens in a step (for lengths such as 2e9tok).
    """

    steps: Annotated[str | None, conf.arg(metavar="N")] = None
    steps_per_epoch: Annotated[float | None, conf.arg(metavar="N")] = None
    tokens_per_step: Annotated[float | None, conf.arg(metavar="N")] = None

    def timeline(self, total: int | None = None) -> Timeline | None:
        """The units; None if neither `--steps` nor `total` says how long the training is."""
        steps = self.steps if self.steps is not None else total
        return None if steps is None else timeline(steps, self.steps_per_epoch, self.tokens_per_step)

    def read(self, text: str) -> Schedule:
        """The schedule of an expression that holds one setting."""
        schedule = self.read_family(text)
        if is_stacked(schedule):
            hint = "write one, or draw them: jaxsched plot EXPR -o family.png"
            fail(f"{format_value(text)} holds several settings; {hint}")
        return schedule

    def read_family(self, text: str) -> Schedule:
        """The schedule of an expression that may hold several settings in lists."""
        with options_named():
            return filled(parse(text, timeline=self.timeline()))

    def total(self, *schedules: Schedule) -> int:
        """The number of steps: `--steps`, or the length of the longest schedule."""
        known = self.timeline()
        total = known.total_steps if known else max(map(natural_steps, schedules))
        if total > MOST_STEPS:
            fail(f"--steps {total}: JAX counts to {MOST_STEPS}; write fewer steps, or count in larger units")
        return total

    def lengths(self, texts: tuple[str, ...], total: int) -> list[int]:
        """The steps of lengths such as 100, 5% or 3ep, sorted."""
        known = self.timeline(total)
        assert known is not None
        with options_named("--at"):
            return sorted({known(text) for text in texts})


UNKNOWN = Horizon()
"""No length and no units."""


def timeline(steps: Any, steps_per_epoch: float | None, tokens_per_step: float | None) -> Timeline:
    """The timeline of the options `--steps`, `--steps-per-epoch` and `--tokens-per-step`."""
    with options_named():
        return Timeline(steps, steps_per_epoch, tokens_per_step)


def training(steps: Any, steps_per_epoch: float | None, tokens_per_step: float | None, task: Task) -> Timeline:
    """The timeline of a training; by default an epoch is the number of batches in the task's arrays."""
    if steps_per_epoch is None and not task.host and task.batch_size is not None:
        steps_per_epoch = max(1, task.examples // task.batch_size)
    return timeline(steps, steps_per_epoch, tokens_per_step)


@contextlib.contextmanager
def options_named(name: str = "length") -> Iterator[None]:
    """Turns the error of a length or an expression into `Refused`, with options in place of arguments.

    Args:
      name: the option or field that holds the length.
    """
    try:
        yield
    except ParseError as error:
        cause, shown = error.__cause__, error
        if isinstance(cause, FieldError) and cause.needs in _OPTIONS:
            shown = ParseError(f"{cause.owner}: {_needs(cause)}", error.text, error.column)
        raise Refused(str(shown)) from error
    except FieldError as error:
        shown = error.renamed("", _OPTIONS.get(str(error.field), name))
        raise Refused(_needs(shown) if error.needs in _OPTIONS else str(shown)) from error


def _needs(error: FieldError) -> str:
    return f"{error.field}={format_value(error.value)} needs {_OPTIONS[error.needs]} N"


# --- structure -------------------------------------------------------------------------------------------------------


def is_stacked(schedule: Schedule) -> bool:
    """Whether the schedule holds several settings."""
    return not axes(schedule) <= {0}


def natural_steps(schedule: Schedule) -> int:
    """The last step at which the schedule changes; of one without an end, ten times its longest period."""
    end = last_step(schedule)
    if end is not None:
        return end
    leaves = [np.ravel(np.asarray(x)) for x in jax.tree.leaves(schedule)]
    longest = max((int(x.max()) for x in leaves if x.dtype.kind in "iu" and x.size), default=10)
    total = min(10 * max(longest, 10), MOST_STEPS)
    say(f"jaxsched: {cut(repr(schedule), 80)} has no last step: {total:,} steps are shown (--steps N)")
    return total


# --- steps -----------------------------------------------------------------------------------------------------------


def outlined(schedule: Schedule, total: int) -> Any:
    """The outline of a schedule."""
    from ..inspect.phases import outline

    with refusals():
        return outline(schedule, total)


def notable_steps(outline: Any, total: int, most: int = 24) -> list[int]:
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


def values(schedule: Callable[[Any], Any], steps: Any) -> np.ndarray:
    """The values at the steps."""
    return np.broadcast_to(np.asarray(schedule(np.asarray(steps))), np.shape(steps))
