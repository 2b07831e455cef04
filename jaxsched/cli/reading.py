"""Expressions and lengths as the user wrote them, and the steps that are worth a look."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np
from tyro import conf

from .._errors import format_value
from ..fields import Field
from ..inspect.curves import last_step
from ..inspect.format import cut
from ..schedules.base import Schedule
from ..schedules.structure import axes
from ..sweep.task import Task
from ..text import ParseError, parse
from ..units import Timeline
from .errors import Refused, fail, say

_MOST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Horizon:
    """How long the training is, and what its units are.

    Args:
        steps: How many steps: a number, or 3ep, or 2e9tok (by default, as long as the schedule moves).
        steps_per_epoch: What an epoch (3ep) is.
        tokens_per_step: What a token (2e9tok) is.
    """

    steps: Annotated[str | None, conf.arg(metavar="N")] = None
    steps_per_epoch: Annotated[float | None, conf.arg(metavar="N")] = None
    tokens_per_step: Annotated[float | None, conf.arg(metavar="N")] = None

    def timeline(self, total: int | None = None) -> Timeline | None:
        """The units, if the horizon is known."""
        steps = self.steps if self.steps is not None else total
        if steps is None:
            return None
        try:
            return Timeline(steps, self.steps_per_epoch, self.tokens_per_step)  # type: ignore[arg-type]
        except ValueError as error:
            raise Refused(in_flags(str(error)).replace("--steps=", "--steps ")) from error

    def read(self, text: str, known: Any = ()) -> Schedule:
        """The schedule of an expression, of one setting."""
        schedule = self.read_family(text, known)
        if axes(schedule) != {0} and axes(schedule):
            fail(
                f"{format_value(text)} holds several settings; write one, or draw them: jaxsched plot EXPR -o "
                f"family.png"
            )
        return schedule

    def read_family(self, text: str, known: Any = ()) -> Schedule:
        """The schedule of an expression, which may hold several settings in lists."""
        try:
            return _filled(parse(text, timeline=self.timeline(), known=known))
        except ParseError as error:
            raise Refused(in_flags(str(error))) from error

    def total(self, *schedules: Schedule) -> int:
        """The steps of the horizon: as written, or until none of the schedules moves any more."""
        timeline = self.timeline()
        total = timeline.total_steps if timeline else max(map(natural_steps, schedules))
        if total > _MOST:
            fail(f"--steps {total}: JAX counts to {_MOST}; write fewer steps, or count in larger units")
        return total

    def lengths(self, texts: tuple[str, ...], total: int) -> list[int]:
        """Steps from lengths such as 100, 5% or 3ep."""
        timeline = self.timeline(total)
        assert timeline is not None
        try:
            return sorted({timeline(text) for text in texts})
        except ValueError as error:
            raise Refused(in_flags(str(error)).replace("Timeline: length=", "--at ")) from error


UNKNOWN = Horizon()
"""No length and no units."""


def training(steps: Any, steps_per_epoch: float | None, tokens_per_step: float | None, task: Task) -> Timeline:
    """The units of a training; an epoch of arrays is the batches in them."""
    if steps_per_epoch is None and not task.host and task.batch_size is not None:
        steps_per_epoch = max(1, task.examples // task.batch_size)
    try:
        return Timeline(steps, steps_per_epoch, tokens_per_step)
    except ValueError as error:
        raise Refused(in_flags(str(error)).replace("--steps=", "--steps ")) from error


def in_flags(text: str) -> str:
    """An error text in the words of the command line."""
    for name, flag in (
        (": timeline=Timeline(total_steps, ...)", ": write --steps N"),
        ("write it beside total_steps", "write --steps-per-epoch N or --tokens-per-step N"),
        ("needs steps_per_epoch; write --steps-per-epoch N or --tokens-per-step N", "needs --steps-per-epoch N"),
        ("needs tokens_per_step; write --steps-per-epoch N or --tokens-per-step N", "needs --tokens-per-step N"),
        ("Timeline: total_steps=", "--steps="),
        ("Timeline: steps_per_epoch=", "--steps-per-epoch="),
        ("Timeline: tokens_per_step=", "--tokens-per-step="),
    ):
        text = text.replace(name, flag)
    return text


def _filled(schedule: Schedule) -> Schedule:
    """A family in which single numbers stand for all settings, with as many of them as there are settings."""
    if axes(schedule) != {0, 1}:
        return schedule
    sizes = {np.shape(x)[0] for x in _stacked(schedule)}
    if len(sizes) != 1:
        fail(
            f"{format_value(schedule)} has lists of {' and '.join(map(str, sorted(sizes)))} numbers; write them "
            f"equally long"
        )
    size = sizes.pop()

    def fill(s: Schedule) -> Schedule:
        made = object.__new__(type(s))  # as JAX rebuilds it: it is checked already
        made.__dict__.update({f.name: getattr(s, f.name) for f in s._fields})
        for f in s._fields:
            if not f.static:
                held = jax.tree.map(lambda x, f=f: one(x, f), made.__dict__[f.name], is_leaf=_is_schedule)
                made.__dict__[f.name] = held
        return made

    def one(x: Any, f: Field) -> Any:
        if isinstance(x, Schedule):
            return fill(x)
        return np.broadcast_to(x, (size, *np.shape(x))) if np.ndim(x) == int(f.table) else x

    return fill(schedule)


def _is_schedule(x: Any) -> bool:
    return isinstance(x, Schedule)


def _stacked(schedule: Schedule) -> list[Any]:
    """The numbers that have an axis of settings."""
    found: list[Any] = []
    for f in schedule._fields:
        for x in [] if f.static else jax.tree.leaves(getattr(schedule, f.name), is_leaf=_is_schedule):
            found += _stacked(x) if isinstance(x, Schedule) else [x] * (np.ndim(x) > int(f.table))
    return found


# --- steps -----------------------------------------------------------------------------------------------------------


def natural_steps(schedule: Schedule) -> int:
    """How long a schedule moves by its own words; of one without an end, ten times its longest period."""
    end = last_step(schedule)
    if end is not None:
        return end
    leaves = [np.ravel(np.asarray(x)) for x in jax.tree.leaves(schedule)]
    longest = max((int(x.max()) for x in leaves if x.dtype.kind in "iu" and x.size), default=10)
    total = min(10 * max(longest, 10), _MOST)
    say(f"jaxsched: nothing in {cut(repr(schedule), 80)} says how long it is: {total:,} steps are shown (--steps N)")
    return total


def worth_a_look(outline: Any, total: int, most: int = 24) -> list[int]:
    """The ends, the borders of the phases and their middles, the peak, and both sides of every jump and restart."""
    steps = {0, total, outline.peak_step}
    for phase in outline.phases:
        steps |= {phase.start, phase.stop}
    borders = [step for jump in outline.jumps for step in (jump.step - 1, jump.step)]
    borders += [step for restart in outline.restarts for step in (restart - 1, restart)]
    between = [(phase.start + phase.stop) // 2 for phase in outline.phases]
    for more in (borders, between):
        room = most - len(steps)
        more = [step for step in dict.fromkeys(more) if step not in steps]
        steps |= set(more if len(more) <= room else more[:: -(-len(more) // room)] if room > 0 else [])
    return sorted(step for step in steps if 0 <= step <= total)


def blocks(total: int, most: int = 2**22) -> tuple[np.ndarray, bool]:
    """Steps 0 ... total, and whether these are all of them: of a longer horizon so many, evenly spread."""
    if total < most:
        return np.arange(total + 1), True
    return np.unique(np.linspace(0, total, most).astype(np.int64)), False


def values(schedule: Callable[[Any], Any], steps: Any) -> np.ndarray:
    """The values on the host."""
    return np.broadcast_to(np.asarray(schedule(np.asarray(steps))), np.shape(steps))
