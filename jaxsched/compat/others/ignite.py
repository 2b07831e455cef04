"""ignite.handlers.param_scheduler: the classes by their own names and arguments, without the optimizer, the name of its
parameter and what is kept of the history.

A schedule counts events; attached to `Events.ITERATION_STARTED`, as Ignite's manual has it, event t is update t."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ..._errors import format_value, is_traced
from ...fields import Count, Domain, Growth, Numbers, Positive, Scalar, Steps, Table, reject_if
from ...optim.plateau import reduce_on_plateau
from ...schedules import shapes
from ...schedules.base import Schedule, as_schedule
from ...schedules.combine import join
from ...schedules.cycles import CosineWarmRestarts
from ...schedules.decays import ExponentialDecay
from ...schedules.ramps import Linear
from ...schedules.shapes import Step
from .. import torch
from ..peer import Peer
from .counting import GrowingCycles

_HARNESS = ("optimizer", "param_name", "save_history", "param_group_index")


def simulate_values(num_events: int, scheduler: Any) -> list[list[Any]]:
    """The values at the first events, as Ignite lists them.

    Formula: `[[0, s(0)], [1, s(1)], ...]`, with one value more for each further schedule.

    Args:
      num_events: how many.
      scheduler: a schedule, or several of them in a list or a dictionary.

    Errors: TypeError for what is no schedule.

    Example:
      >>> from jaxsched.compat.others import ignite
      >>> ignite.simulate_values(3, ignite.PiecewiseLinear([(0, 1.0), (2, 0.0)]))
      [[0, 1.0], [1, 0.5], [2, 0.0]]

    Source: the method `simulate_values` of Ignite's schedulers (0.5.5).
    """
    several = scheduler.values() if isinstance(scheduler, dict) else scheduler
    several = several if isinstance(scheduler, (dict, list, tuple)) else [scheduler]
    columns = [as_schedule("simulate_values", "scheduler", s).table(num_events).tolist() for s in several]
    return [[i, *row] for i, row in enumerate(zip(*columns, strict=True))]


class _Simulated(Peer):
    """A peer with Ignite's way to ask for its first values."""

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """The values of a schedule with these arguments at the first events; see the function of this name."""
        arguments = {name: value for name, value in scheduler_kwargs.items() if name not in _HARNESS}
        return simulate_values(num_events, cls(**arguments))


def _refuse_short_cycle(schedule: Schedule) -> None:
    reject_if(schedule, lambda n: n < 2, "cycle_size", instead="a cycle has 2 events or more")


class LinearCyclicalScheduler(_Simulated):
    """In straight lines from a value to another and back, or back at once, again and again.

    Formula: in cycle i, of `n = cycle_size cycle_mult^i` events (cut off to whole ones), from
    `start = start_value start_value_mult^i` to `end = end_value end_value_mult^i` in n / 2 events and back; if
    `monotonic` to `end` in n events, then in `warmup_duration cycle_mult^i` events to the next start.

    Fields:
      start_value: the first value.
      end_value: the value in the middle (at the end, if `monotonic`) of the first cycle.
      cycle_size: the events of the first cycle, an integer, 2 or more.
      cycle_mult: the factor from length to length, 1 or more (below 1 a cycle of Ignite comes down to no event).
      start_value_mult, end_value_mult: the factors from start to start and from end to end, above 0.
      warmup_duration: the events of the rise after the first fall, 0 or more; 0 unless `monotonic`.
      monotonic: whether a cycle goes one way only.

    Errors: ValueError for a cycle below 2 events, and for a warmup that is not `monotonic`.

    Example:
      >>> from jaxsched.compat.others import ignite
      >>> ignite.LinearCyclicalScheduler(1.0, 0.0, cycle_size=4).table(8).tolist()
      [1.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 0.5]

    Source: ignite.handlers.LinearCyclicalScheduler (0.5.5).
    """

    start_value: Scalar
    end_value: Scalar
    cycle_size: Count
    cycle_mult: Growth = 1
    start_value_mult: Positive = 1.0
    end_value_mult: Positive = 1.0
    warmup_duration: Steps = 0
    monotonic: bool = False

    def check(self) -> None:
        _refuse_short_cycle(self)
        if not self.monotonic:
            reject_if(self, lambda n: n > 0, "warmup_duration", instead="a warmup needs monotonic=True")

    def build(self) -> Schedule:
        ends, mults = (self.start_value, self.end_value), (self.start_value_mult, self.end_value_mult)
        shape = "linear" if self.monotonic else "triangle"
        return GrowingCycles(*ends, self.cycle_size, self.cycle_mult, *mults, self.warmup_duration, shape)


class CosineAnnealingScheduler(_Simulated):
    """Half a cosine wave from a value to another, again and again.

    Formula: in cycle i, of `n = cycle_size cycle_mult^i` events (cut off to whole ones), half a cosine wave from
    `start_value start_value_mult^i` to `end_value end_value_mult^i`, then a line to the next start in
    `warmup_duration cycle_mult^i` events.

    Fields:
      start_value, end_value: the values at the start and at the end of the first cycle.
      cycle_size, cycle_mult, start_value_mult, end_value_mult: as in `LinearCyclicalScheduler`.
      warmup_duration: the events of the rise after the first fall, 0 or more.

    Errors: ValueError for a cycle below 2 events.

    Example:
      >>> from jaxsched.compat.others import ignite
      >>> s = ignite.CosineAnnealingScheduler(1.0, 0.0, cycle_size=2, cycle_mult=2)
      >>> [round(float(v), 4) for v in s.table(7)]
      [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 1.0]

    Source: ignite.handlers.CosineAnnealingScheduler (0.5.5).
    """

    start_value: Scalar
    end_value: Scalar
    cycle_size: Count
    cycle_mult: Growth = 1
    start_value_mult: Positive = 1.0
    end_value_mult: Positive = 1.0
    warmup_duration: Steps = 0

    def check(self) -> None:
        _refuse_short_cycle(self)

    def build(self) -> Schedule:
        ends, mults = (self.start_value, self.end_value), (self.start_value_mult, self.end_value_mult)
        return GrowingCycles(*ends, self.cycle_size, self.cycle_mult, *mults, self.warmup_duration, "cosine")


_Milestones = Annotated[Numbers, Domain("a list of integers", counts=True, whole=True, ndim=1)]


class _Lines(Schedule):
    """Through the points of a table, which may jump: of two points at one step the second one counts."""

    milestones: _Milestones
    points: Table

    def value(self, step: Step) -> Array:
        knots, points = jnp.asarray(self.milestones), jnp.asarray(self.points)
        i = jnp.maximum(shapes.passed(step, knots) - 1, 0)
        j = jnp.minimum(i + 1, knots.size - 1)
        return shapes.mix(points[i], points[j], shapes.progress(shapes.elapsed(step, knots[i]), knots[j] - knots[i]))


def _column(values: list[Any]) -> Any:
    return jnp.stack([jnp.asarray(v) for v in values]) if any(map(is_traced, values)) else np.array(values)


class PiecewiseLinear(_Simulated):
    """Straight lines through given points, constant before the first one and after the last.

    Formula: between `(m_i, v_i)` and `(m_j, v_j)`, `s(t) = v_i + (v_j - v_i) (t - m_i) / (m_j - m_i)`; of two points at
    one event the second one counts.

    Fields:
      milestones_values: a list of pairs of an event, an integer not below the one before, and the value there.

    Errors: TypeError for an event that is no integer, ValueError for what is no list of pairs and for events that are
      not sorted.

    Example:
      >>> from jaxsched.compat.others import ignite
      >>> ignite.PiecewiseLinear([(1, 1.0), (3, 0.0)]).table(5).tolist()
      [1.0, 1.0, 0.5, 0.0, 0.0]

    Source: ignite.handlers.PiecewiseLinear (0.5.5).
    """

    milestones_values: Any

    def check(self) -> None:
        pairs, owner = self.milestones_values, type(self).__name__
        wanted = "write a list of pairs such as [(0, 0.1), (100, 0.01)]"
        if not isinstance(pairs, Sequence) or isinstance(pairs, str):
            raise TypeError(f"{owner}: milestones_values={format_value(pairs)}; {wanted}.")
        if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise ValueError(f"{owner}: milestones_values={format_value(pairs)}; {wanted}.")
        events = [event for event, _ in pairs]
        for event in events:
            if not is_traced(event) and not shapes.is_integer(event):
                raise TypeError(
                    f"{owner}: milestones_values has the event {format_value(event)}; an event is an integer."
                )
        for before, event in itertools.pairwise(events):
            if not is_traced(before) and not is_traced(event) and np.any(np.less(event, before)):
                order = f"the event {format_value(event)} after {format_value(before)}"
                raise ValueError(f"{owner}: milestones_values has {order}; sort the events.")

    def build(self) -> Schedule:
        events, values = zip(*self.milestones_values, strict=True)
        return _Lines(
            _column(list(events)), _column([shapes.floating(v) if is_traced(v) else float(v) for v in values])
        )


class ConcatScheduler(_Simulated):
    """Schedules one after the other, each with a clock of its own.

    Formula: `schedulers[0](t)` for `durations[0]` events, then `schedulers[1](t - durations[0])` for `durations[1]`
    events, and so on; the last one stays.

    Fields:
      schedulers: two schedules or more.
      durations: how many events each of them but the last one lasts, integers, 1 or more. (After a duration of 0
        Ignite never goes on to the next one.)

    Errors: ValueError for wrong counts.

    Example:
      >>> from jaxsched.compat.others import ignite
      >>> up = ignite.PiecewiseLinear([(0, 0.0), (2, 1.0)])
      >>> down = ignite.CosineAnnealingScheduler(1.0, 0.0, cycle_size=4)
      >>> [round(float(v), 4) for v in ignite.ConcatScheduler([up, down], [2]).table(6)]
      [0.0, 0.5, 1.0, 0.8536, 0.5, 0.1464]

    Source: ignite.handlers.ConcatScheduler (0.5.5).
    """

    schedulers: tuple[Schedule, ...]
    durations: tuple[Count, ...]

    def check(self) -> None:
        if len(self.schedulers) < 2 or len(self.schedulers) != len(self.durations) + 1:
            counts = f"{len(self.schedulers)} schedulers and {len(self.durations)} durations"
            raise ValueError(f"ConcatScheduler: {counts}; write two schedulers or more, and one duration fewer.")

    def build(self) -> Schedule:
        ends, end = [], 0
        for duration in self.durations:
            end = end + duration
            ends.append(end)
        return join(self.schedulers, ends)


_AHEAD = (torch.CosineAnnealingWarmRestarts, torch.ExponentialLR, CosineWarmRestarts, ExponentialDecay)
_GONE = (torch.CosineAnnealingLR, torch.PolynomialLR, torch.LinearLR, torch.ConstantLR)


class LRScheduler(_Simulated):
    """A schedule of torch in Ignite: the same schedule.

    Formula: `s(t) = lr_scheduler(t)`.

    Fields:
      lr_scheduler: a schedule, a callable or a number.
      use_legacy: Ignite's switch between two events; the rate of update t is the same with both.
      peer_exact: whether a `CosineAnnealingWarmRestarts` or an `ExponentialLR` (an `ExponentialDecay`) runs one event
        ahead, as Ignite's does. Ignite's first value of torch's CosineAnnealingLR is wrong too, and every value of
        PolynomialLR, LinearLR and ConstantLR, which go on from the last rate; those numbers cannot be had here.

    Errors: TypeError for what is no schedule; ValueError for `peer_exact` with one of the last four.

    Example:
      >>> from jaxsched.compat import torch
      >>> from jaxsched.compat.others import ignite
      >>> ignite.LRScheduler(torch.StepLR(1.0, step_size=2, gamma=0.5)).table(4).tolist()
      [1.0, 1.0, 0.5, 0.5]

    Source: ignite.handlers.LRScheduler (0.5.5).
    """

    lr_scheduler: Schedule
    use_legacy: bool = False
    peer_exact: bool = False

    def check(self) -> None:
        super().check()
        if self.peer_exact and isinstance(self.lr_scheduler, _GONE):
            name = type(self.lr_scheduler).__name__
            raise ValueError(f"LRScheduler: Ignite's own numbers of a {name} cannot be had; leave peer_exact out.")

    def build(self) -> Schedule:
        ahead = self.peer_exact and isinstance(self.lr_scheduler, _AHEAD)
        return self.lr_scheduler.shift(-1) if ahead else self.lr_scheduler


class create_lr_scheduler_with_warmup(_Simulated):
    """A linear warmup before a schedule.

    Formula: `Linear(warmup_start_value, warmup_end_value, warmup_duration - 1)`, then `lr_scheduler` on its own clock:
    from event `warmup_duration - 1` on if it begins with `warmup_end_value`, else from the event after that.

    Fields:
      lr_scheduler: a schedule, a callable or a number.
      warmup_start_value: the value at event 0.
      warmup_duration: the events of the warmup, an integer, 2 or more.
      warmup_end_value: the value at event `warmup_duration - 1`; None: the first value of `lr_scheduler` (in Ignite the
        rate of the optimizer).

    Errors: ValueError for a warmup below 2 events.

    Example:
      >>> from jaxsched.compat import torch
      >>> from jaxsched.compat.others import ignite
      >>> s = ignite.create_lr_scheduler_with_warmup(torch.ExponentialLR(1.0, gamma=0.5), 0.0, 3)
      >>> s.table(6).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.25, 0.125]

    Source: ignite.handlers.create_lr_scheduler_with_warmup (0.5.5).
    """

    lr_scheduler: Schedule
    warmup_start_value: Scalar
    warmup_duration: Count
    warmup_end_value: Scalar | None = None

    def check(self) -> None:
        reject_if(self, lambda n: n < 2, "warmup_duration", instead="a warmup has 2 events or more")

    def build(self) -> Schedule:
        last = self.warmup_duration - 1
        first = self.lr_scheduler(0)
        end = first if self.warmup_end_value is None else self.warmup_end_value
        at = last if self.warmup_end_value is None else last + (first != end).astype(jnp.result_type(int))
        return Linear(self.warmup_start_value, end, last).then(self.lr_scheduler, at=at)


def ParamGroupScheduler(schedulers: Any, names: Any = None) -> Any:
    """Several schedules, each for a parameter or a group of its own.

    Formula: `{name: schedule}`, or the list of the schedules.

    Args:
      schedulers: a list of schedules, callables or numbers.
      names: a text for each of them, or None.

    Errors: TypeError for what is no list, ValueError for wrong counts and for a name that comes twice.

    Example:
      >>> from jaxsched.compat.others import ignite
      >>> ignite.ParamGroupScheduler([0.1, 0.01], names=["body", "head"])
      {'body': Constant(constant_value=0.1), 'head': Constant(constant_value=0.01)}

    Source: ignite.handlers.ParamGroupScheduler (0.5.5).
    """
    owner = "ParamGroupScheduler"
    if not isinstance(schedulers, (list, tuple)):
        raise TypeError(f"{owner}: schedulers={format_value(schedulers)}; write a list of schedules.")
    lifted = [as_schedule(owner, f"schedulers[{i}]", s) for i, s in enumerate(schedulers)]
    if names is None:
        return lifted
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{owner}: names={format_value(names)}; write a list of texts.")
    if len(names) != len(lifted) or len(set(names)) < len(names):
        counts = f"{len(lifted)} schedulers and names={format_value(names)}"
        raise ValueError(f"{owner}: {counts}; write one name for each, and none twice.")
    return dict(zip(names, lifted, strict=True))


def ReduceLROnPlateauScheduler(
    lr: Any, *, peer_exact: bool = False, min_lr: Any = 0.0, **scheduler_kwargs: Any
) -> optax.GradientTransformationExtraArgs:
    """Cuts of the rate when a metric has stopped getting better; the metric is told with `jaxsched.observe`.

    Formula: `reduce_on_plateau(lr, min_lr=min_lr, **scheduler_kwargs)`.

    Args:
      lr: a schedule, a callable or a number.
      peer_exact: whether `min_lr` is dropped, as Ignite does it in silence (without a `param_group_index`).
      min_lr: the rate below which no cut goes.
      scheduler_kwargs: torch's `mode factor patience threshold threshold_mode cooldown eps`.

    Errors: those of `reduce_on_plateau`.

    Example:
      >>> import optax
      >>> from jaxsched.compat.others import ignite
      >>> optimizer = optax.chain(optax.scale_by_adam(), ignite.ReduceLROnPlateauScheduler(1e-3, patience=2))

    Source: ignite.handlers.ReduceLROnPlateauScheduler (0.5.5).
    """
    return reduce_on_plateau(lr, min_lr=0.0 if peer_exact else min_lr, **scheduler_kwargs)
