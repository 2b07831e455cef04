"""mmengine.optim.scheduler: the schedulers by their own names and arguments, and the list of them that a config holds.

A scheduler is at work in its window, from `begin` to `end`; before and after it leaves the rate as it is. It counts
epochs, or iterations if `by_epoch=False`; `s(t)` is in the same unit. The schedulers of a list are at work on one rate,
each on what the others made of it: `param_scheduler` makes one schedule of them. The twins for the momentum are the
same functions under another name; ReduceOnPlateauMomentum is not among them, as a metric can only cut what scales the
updates.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ..._errors import format_value, is_traced
from ...fields import Count, Integer, Length, Positive, Scalar, Steps, StepTable, Unit, reject_if
from ...optim.plateau import reduce_on_plateau
from ...schedules import shapes
from ...schedules.base import Constant, Schedule
from ...schedules.combine import Join
from ...schedules.decays import ExponentialDecay, StepDecay
from ...schedules.pieces import MultiStepDecay, PiecewiseConstant
from ...schedules.ramps import Linear, Polynomial, Ramp
from ...schedules.shapes import Step
from ..peer import Peer, known
from .paddle import OneCyclePhases

INF = 1_000_000_000


class _Window(Schedule):
    """`inside` on a clock that runs from `begin` to `end - 1`, and stands still there; `outside` before it."""

    inside: Schedule
    outside: Scalar
    begin: Steps
    end: Steps

    def value(self, step: Step) -> Array:
        clock, last = shapes.elapsed(step, self.begin), self.end - 1 - self.begin
        clock = shapes.stopped(clock, shapes.reached(clock, last), last)
        return jnp.where(shapes.reached(step, self.begin), self.inside.value(clock), self.outside)


class _Scheduler(Peer):
    """What all of them have."""

    # The arguments that count epochs, besides the window.
    _counts = ()

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        """`a, b`: k steps into the window a value v at its begin has become `v a(k) + b(k)`; without b it is 0.

        `base` is what the values of all began with."""
        raise NotImplementedError

    def check(self) -> None:
        fields: Any = self
        reject_if(self, lambda begin, end: end <= begin, "begin", "end", instead="write an end above begin")
        if fields.verbose:
            raise ValueError(f"{type(self).__name__}: verbose=True; a schedule prints nothing: print schedule(step).")
        self._check()

    def _check(self) -> None:
        """Refuse fields of a class of its own that do not go together."""

    def build(self) -> Schedule:
        fields: Any = self
        a, b = self._map(fields.lr)
        inside = fields.lr * a if b is None else fields.lr * a + b
        return _Window(inside, fields.lr, fields.begin, fields.end).shift(-(fields.last_step + 1))

    @classmethod
    def build_iter_from_epoch(cls, *args: Any, epoch_length: Any = None, **fields: Any) -> Any:
        """The same in iterations, of arguments in epochs of `epoch_length` iterations."""
        owner = f"{cls.__name__}.build_iter_from_epoch"
        if epoch_length is None:
            raise ValueError(f"{owner}: epoch_length=None; write the number of iterations in an epoch.")
        length = _Epoch(epoch_length).steps
        scheduler = cls(*args, **fields)
        if not scheduler.by_epoch:  # type: ignore[attr-defined]
            raise ValueError(f"{owner}: by_epoch=False; only what counts epochs can be made to count iterations.")
        counts = {name: _times(getattr(scheduler, name), length) for name in ("begin", "end", *cls._counts)}
        return scheduler.replace(**counts, by_epoch=False)

    def _last(self) -> Any:
        """The last step of the window. In a window of one step mmengine has no way to go, and stays where it begins."""
        fields: Any = self
        last = fields.end - 1 - fields.begin
        return jnp.maximum(last, 1) if fields.peer_exact else last


class _Epoch(Schedule):
    """Only here to check the length of an epoch."""

    steps: Count


def _times(count: Any, length: Any) -> Any:
    """`count` epochs in iterations; INF stays itself."""
    if count is None:
        return None
    if isinstance(count, tuple):
        return tuple(_times(x, length) for x in count)
    if isinstance(count, (int, float)) and not is_traced(length):
        return INF if count == INF else int(count * length)
    count = jnp.asarray(count)
    return jnp.where(count == INF, INF, count * length)


class ConstantLR(_Scheduler):
    """A factor in the window but at its last step.

    Formula: `s(t) = lr factor` from step `begin` to step `end - 2`, and `lr` before and after.

    Fields:
      lr: the optimizer's rate.
      factor: from 0 to 1.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.
      peer_exact: whether a window of one step leaves `lr factor` for ever, as mmengine's does.

    Errors: ValueError for an empty window.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> mmengine.ConstantLR(1.0, factor=0.5, begin=1, end=4).table(6).tolist()
      [1.0, 0.5, 0.5, 1.0, 1.0, 1.0]

    Source: mmengine.optim.ConstantLR (0.10.7), which cannot divide by a factor of 0.
    """

    lr: Scalar
    factor: Unit = 1.0 / 3
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False
    peer_exact: bool = False

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        return Constant(self.factor).then(1.0, at=self._last()), None


class ExponentialLR(_Scheduler):
    """A constant factor at every step of the window.

    Formula: `s(t) = lr gamma^k`, k steps into the window.

    Fields:
      lr: the optimizer's rate.
      gamma: the factor, above 0.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.

    Errors: ValueError for an empty window.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> mmengine.ExponentialLR(1.0, gamma=0.5, begin=1, end=4).table(6).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25, 0.25]

    Source: mmengine.optim.ExponentialLR (0.10.7).
    """

    lr: Scalar
    gamma: Positive
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        return ExponentialDecay(1.0, self.gamma, 1), None


class StepLR(_Scheduler):
    """A factor at every `step_size`-th step of the window.

    Formula: `s(t) = lr gamma^floor(k / step_size)`, k steps into the window.

    Fields:
      lr: the optimizer's rate.
      step_size: steps, above 0.
      gamma: the factor, above 0.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.

    Errors: ValueError for an empty window.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> mmengine.StepLR(1.0, step_size=2, gamma=0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: mmengine.optim.StepLR (0.10.7).
    """

    lr: Scalar
    step_size: Length
    gamma: Positive = 0.1
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False

    _counts = ("step_size",)

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        return StepDecay(1.0, self.gamma, self.step_size), None


class MultiStepLR(_Scheduler):
    """A factor at every milestone of the window.

    Formula: `s(t) = lr gamma^n`, where n is the number of milestones `<= k`, k steps into the window.

    Fields:
      lr: the optimizer's rate.
      milestones: steps from the begin of the window on, each larger than the one before.
      gamma: the factor, above 0.
      last_step: the last step that was made, to go on from; -1 for none.
      begin, end: the window, `begin <= t < end`.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.

    Errors: ValueError for an empty window, and for milestones that are not sorted.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> mmengine.MultiStepLR(1.0, milestones=[2, 3], gamma=0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25]

    Source: mmengine.optim.MultiStepLR (0.10.7).
    """

    lr: Scalar
    milestones: StepTable
    gamma: Positive = 0.1
    last_step: Integer = -1
    begin: Steps = 0
    end: Steps = INF
    by_epoch: bool = True
    verbose: bool = False

    _counts = ("milestones",)

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        return MultiStepDecay(1.0, self.gamma, self.milestones), None


class LinearLR(_Scheduler):
    """A straight line from one factor to another, over the window.

    Formula: `s(t) = lr (start_factor (1 - u) + end_factor u)`, u the share of the way from `begin` to `end - 1`.

    Fields:
      lr: the optimizer's rate, in force before the window.
      start_factor: the factor at step `begin`, from 0 to 1.
      end_factor: the factor from step `end - 1` on, from 0 to 1.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.
      peer_exact: whether a window of one step leaves `lr start_factor` for ever, as mmengine's does.

    Errors: ValueError for an empty window.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> mmengine.LinearLR(1.0, start_factor=0.5, begin=1, end=4).table(6).tolist()
      [1.0, 0.5, 0.75, 1.0, 1.0, 1.0]

    Source: mmengine.optim.LinearLR (0.10.7), which divides by 0 where the factor starts at 0.
    """

    lr: Scalar
    start_factor: Unit = 1.0 / 3
    end_factor: Unit = 1.0
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False
    peer_exact: bool = False

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        return Linear(self.start_factor, self.end_factor, self._last()), None


class PolyLR(_Scheduler):
    """A power of the way that is left, over the window.

    Formula: `s(t) = eta_min + (lr - eta_min) (1 - u)^power`, u the share of the way from `begin` to `end - 1`.

    Fields:
      lr: the optimizer's rate.
      eta_min: the rate from step `end - 1` on.
      power: above 0.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.
      peer_exact: whether a window of one step leaves the rate as it is, as mmengine's does.

    Errors: ValueError for an empty window.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> mmengine.PolyLR(1.0, power=2.0, end=5).table(6).tolist()
      [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]

    Source: mmengine.optim.PolyLR (0.10.7).
    """

    lr: Scalar
    eta_min: Scalar = 0.0
    power: Positive = 1.0
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False
    peer_exact: bool = False

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        down, up = (Polynomial(a, b, self._last(), self.power) for a, b in ((1.0, 0.0), (0.0, 1.0)))
        return down, self.eta_min * up


class CosineAnnealingLR(_Scheduler):
    """Half a cosine wave from the rate to its least value, which then holds.

    Formula: `s(t) = eta_min + (lr - eta_min) (1 + cos(pi u)) / 2` with `u = min(k / T_max, 1)`, k steps into the
    window; mmengine does not stop at `T_max`, and rises again if the window is longer. The last step of the window is
    `end - 1`: where `T_max` is its length, what holds after it is the value one step before the end of the wave.

    Fields:
      lr: the optimizer's rate.
      T_max: the steps from top to bottom, above 0; None: the length of the window.
      eta_min: the rate at the bottom; None: 0, or by `eta_min_ratio`.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.
      eta_min_ratio: the rate at the bottom as a share of the optimizer's, or None.
      peer_exact: whether it rises again, as mmengine's does.

    Errors: ValueError for an empty window, and for both `eta_min` and `eta_min_ratio`.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> [round(float(v), 4) for v in mmengine.CosineAnnealingLR(1.0, T_max=2).table(5)]
      [1.0, 0.5, 0.0, 0.0, 0.0]

    Source: mmengine.optim.CosineAnnealingLR (0.10.7).
    """

    lr: Scalar
    T_max: Length | None = None
    eta_min: Scalar | None = None
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False
    eta_min_ratio: Scalar | None = None
    peer_exact: bool = False

    _counts = ("T_max",)

    def _check(self) -> None:
        if self.eta_min is not None:
            _refuse_two_floors(self)

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        floor = _floor(self, base)
        steps = self.end - self.begin if self.T_max is None else self.T_max
        down, up = Ramp(1.0, 0.0, steps, "cosine"), Ramp(0.0, 1.0, steps, "cosine")
        if not self.peer_exact:
            return down, floor * up
        # The way up goes to where all began, and not to where this window did.
        again = Constant(0.0).then(up.then(down, at=steps).repeat(2 * steps), at=steps)
        return down, base * again + floor * up.then(down, at=steps).repeat(2 * steps)


class CosineRestartLR(_Scheduler):
    """Half cosine waves, each from a share of the rate to its least value, which holds after the last one.

    Formula: in period i, `s(t) = eta_min + (lr restart_weights[i] - eta_min) (1 + cos(pi k / periods[i])) / 2`, k steps
    after its begin; after the last period `eta_min`, of which mmengine stops one step short.

    Fields:
      lr: the optimizer's rate.
      periods: the lengths of the waves, above 0.
      restart_weights: for each of them the share of the rate that it begins with.
      eta_min: the rate at the bottom, or None.
      eta_min_ratio: the rate at the bottom as a share of the optimizer's, or None.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.
      peer_exact: whether the last wave stops one step short, as mmengine's does.

    Errors: ValueError for an empty window, for lists of different lengths, and unless just one of `eta_min` and
    `eta_min_ratio` is written.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> s = mmengine.CosineRestartLR(1.0, periods=[2, 2], restart_weights=[1.0, 0.5], eta_min=0.0)
      >>> [round(float(v), 4) for v in s.table(6)]
      [1.0, 0.5, 0.5, 0.25, 0.0, 0.0]

    Source: mmengine.optim.CosineRestartLR (0.10.7).
    """

    lr: Scalar
    periods: tuple[Length, ...]
    restart_weights: tuple[Scalar, ...] = (1.0,)
    eta_min: Scalar | None = None
    eta_min_ratio: Scalar | None = None
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False
    peer_exact: bool = False

    _counts = ("periods",)

    def _check(self) -> None:
        _refuse_two_floors(self)
        periods, weights = len(self.periods), len(self.restart_weights)
        if periods != weights or not periods:
            instead = "write at least one period, and a weight for each"
            raise ValueError(f"CosineRestartLR: {periods} periods and {weights} restart_weights; {instead}.")

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        floor = _floor(self, base)
        starts: list[Any] = [0]
        waves = [
            Ramp(base * weight, floor, period, "cosine")
            for weight, period in zip(self.restart_weights, self.periods, strict=True)
        ]
        for period in self.periods:
            starts.append(starts[-1] + period)
        all_waves = Join(waves, starts[1:-1])  # type: ignore[arg-type]
        return Constant(0.0), _Window(all_waves, 0.0, 0, starts[-1]) if self.peer_exact else all_waves


class OneCycleLR(_Scheduler):
    """Up to a peak and far down again, in one cycle.

    Formula: from `eta_max / div_factor` up to `eta_max` at step `pct_start total_steps - 1` of the window, then down to
    `eta_max / div_factor / final_div_factor` at step `total_steps - 1`, which then holds. In three phases first down to
    where it began, in as many steps as it took to rise. Where its window goes on, mmengine takes one step more, up
    again or below its end, and then raises.

    Fields:
      lr: the optimizer's rate, in force before the window.
      eta_max: the rate at the top.
      total_steps: steps, above 0; None: the length of the window.
      pct_start: the share of the rise, from 0 to 1.
      anneal_strategy: `cos` or `linear`.
      div_factor: top over first rate, above 0.
      final_div_factor: first rate over last rate, above 0.
      three_phase: whether the fall has two parts.
      begin, end: the window, `begin <= t < end`.
      last_step: the last step that was made, to go on from; -1 for none.
      by_epoch: whether it counts epochs.
      verbose: False; there is nothing to print.
      peer_exact: whether step `total_steps` is mmengine's, beyond the end.

    Errors: ValueError for an empty window.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> s = mmengine.OneCycleLR(0.1, eta_max=1.0, total_steps=6, pct_start=0.5, anneal_strategy="linear")
      >>> [round(float(v), 4) for v in s.table(4)]
      [0.04, 0.52, 1.0, 0.6667]

    Source: mmengine.optim.OneCycleLR (0.10.7).
    """

    lr: Scalar
    eta_max: Scalar = 0.0
    total_steps: Count | None = None
    pct_start: Unit = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    three_phase: bool = False
    begin: Steps = 0
    end: Steps = INF
    last_step: Integer = -1
    by_epoch: bool = True
    verbose: bool = False
    peer_exact: bool = False

    _counts = ("total_steps",)

    def _map(self, base: Any) -> tuple[Schedule, Schedule | None]:
        first = self.eta_max / self.div_factor
        phases = OneCyclePhases(
            first,
            self.eta_max,
            first / self.final_div_factor,
            self.end - self.begin if self.total_steps is None else self.total_steps,
            self.pct_start,
            "cosine" if self.anneal_strategy == "cos" else "linear",
            self.three_phase,
            bounces=self.peer_exact,
        )
        return Constant(0.0), phases


def _refuse_two_floors(schedule: Any) -> None:
    if (schedule.eta_min is None) == (schedule.eta_min_ratio is None):
        given = f"eta_min={format_value(schedule.eta_min)} and eta_min_ratio={format_value(schedule.eta_min_ratio)}"
        raise ValueError(f"{type(schedule).__name__}: {given}; write just one of them.")


def _floor(schedule: Any, base: Any) -> Any:
    if schedule.eta_min_ratio is None:
        return 0.0 if schedule.eta_min is None else schedule.eta_min
    return base * schedule.eta_min_ratio


# --- the list of a config --------------------------------------------------------------------------------------------


class Windows(Schedule):
    """Several schedulers at work on one rate, each on what the others made of it.

    Formula: `s(t) = lr a_1(t) a_2(t) ... + b_1(t) ... `: scheduler i makes `v a_i + b_i` of a value v, and what it
    added is multiplied by those that begin later. So it is where their windows do not overlap, and where those that
    overlap only multiply.

    Fields:
      lr: the optimizer's rate. That of the schedulers is not read.
      schedulers: schedulers of this module.
      epoch_length: the iterations in an epoch, and `s(t)` counts iterations; None: all count in one unit, as `s(t)`
        does.

    Errors: ValueError for schedulers that overlap and do not only multiply, and for both units without an epoch_length.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> up = mmengine.LinearLR(1.0, start_factor=0.5, end=3)
      >>> s = mmengine.Windows(1.0, [up, mmengine.StepLR(1.0, step_size=2, gamma=0.5, begin=3)])
      >>> s.table(8).tolist()
      [0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]

    Source: the list `param_scheduler` of an mmengine config (0.10.7).
    """

    lr: Scalar
    schedulers: tuple[Schedule, ...]
    epoch_length: Count | None = None

    def check(self) -> None:
        _refuse_strangers(self.schedulers, self.epoch_length)
        _refuse_overlaps(self.lr, self.schedulers, self.epoch_length, _only_multiplies, "write a horizon=...")

    def value(self, step: Step) -> Array:
        maps = _maps(self.lr, self.schedulers, self.epoch_length, step)
        out = self.lr * functools.reduce(lambda x, y: x * y, (a for a, _ in maps))
        begins = [jnp.asarray(_window(s, self.epoch_length)[0]) for s in self.schedulers]
        for i, (_, added) in enumerate(maps):
            if added is not None:
                for j, (a, _) in enumerate(maps):
                    later = begins[j] > begins[i] if j <= i else begins[j] >= begins[i]
                    added = jnp.where(later, added * a, added)
                out = out + added
        return out


def _bases(lr: Any, schedulers: Sequence[Any]) -> list[Any]:
    """What the values began with, for each: a OneCycleLR gives those behind it in the list a beginning of its own."""
    bases = [lr]
    for scheduler in schedulers:
        cycle = isinstance(scheduler, OneCycleLR)
        bases.append(scheduler.eta_max / scheduler.div_factor if cycle else bases[-1])
    return bases[:-1]


def _window(scheduler: Any, epoch_length: Any) -> tuple[Any, Any]:
    """Its begin and end, in iterations where there is an `epoch_length`."""
    if epoch_length is None or not scheduler.by_epoch:
        return scheduler.begin, scheduler.end
    return _times(scheduler.begin, epoch_length), _times(scheduler.end, epoch_length)


def _clock(scheduler: Any, epoch_length: Any, step: Step) -> Step:
    """The step in the unit that it counts in."""
    return shapes.floor_div(step, epoch_length) if epoch_length is not None and scheduler.by_epoch else step


def _maps(lr: Any, schedulers: Sequence[Any], epoch_length: Any, step: Step) -> list[tuple[Array, Array | None]]:
    """What each makes of a value, from its begin to `step`."""
    found = []
    for scheduler, base in zip(schedulers, _bases(lr, schedulers), strict=True):
        clock, (a, b) = _clock(scheduler, epoch_length, step), scheduler._map(base)
        window = scheduler.begin, scheduler.end
        added = None if b is None else _Window(b, 0.0, *window).value(clock)
        found.append((_Window(a, 1.0, *window).value(clock), added))
    return found


def _refuse_strangers(schedulers: Sequence[Any], epoch_length: Any) -> None:
    """Refuse what cannot be in one list."""
    for scheduler in schedulers:
        if not isinstance(scheduler, _Scheduler):
            raise TypeError(f"param_scheduler: {scheduler!r} is not a scheduler of mmengine.")
        reject_if(scheduler, lambda last: last != -1, "last_step", instead="go on with schedule.shift(-steps)")
    if epoch_length is None and len({scheduler.by_epoch for scheduler in schedulers}) > 1:
        raise ValueError("param_scheduler: some schedulers count epochs and some iterations; write an epoch_length.")


def _refuse_overlaps(
    lr: Any, schedulers: Sequence[Any], epoch_length: Any, agrees: Callable[..., bool], instead: str
) -> None:
    """Refuse two windows that overlap, as far as can be seen, unless both schedulers agree with that."""
    for one, other in itertools.combinations(zip(schedulers, _bases(lr, schedulers), strict=True), 2):
        ends = [*_window(one[0], epoch_length), *_window(other[0], epoch_length)]
        overlap = not any(map(is_traced, ends)) and np.any((ends[0] < ends[3]) & (ends[2] < ends[1]))
        if overlap and not (agrees(*one) and agrees(*other)):
            raise ValueError(
                f"param_scheduler: {type(one[0]).__name__} and {type(other[0]).__name__} overlap, and one of them "
                f"does more than multiply: they have no formula together; end one where the other begins, or {instead}."
            )


def _recursion(lr: Any, schedulers: Sequence[Any], epoch_length: Any, horizon: int) -> Schedule:
    """What mmengine makes of overlapping schedulers, run now: in float64, if the numbers are there."""
    if not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1:
        raise ValueError(
            f"param_scheduler: horizon={format_value(horizon)}; horizon must be a number of steps, 1 or more."
        )
    _refuse_strangers(schedulers, epoch_length)
    instead = "begin CosineRestartLR where the others have ended"
    _refuse_overlaps(lr, schedulers, epoch_length, lambda s, _: not isinstance(s, CosineRestartLR), instead)
    arguments = lr, tuple(schedulers), epoch_length
    if any(map(is_traced, jax.tree.leaves(arguments))):
        values = _values(*arguments, horizon=horizon)
    else:
        with jax.ensure_compile_time_eval(), _x64():
            values = np.asarray(_values(*jax.tree.map(jnp.asarray, arguments), horizon=horizon))
    return PiecewiseConstant(np.arange(1, horizon), values)


def _x64() -> Any:
    """64 bits for the body of a `with`; the name moved between versions of JAX."""
    found: Any = jax if hasattr(jax, "enable_x64") else jax.experimental  # pyright: ignore[reportAttributeAccessIssue]
    return found.enable_x64(True)


@functools.partial(jax.jit, static_argnames="horizon")
def _values(lr: Any, schedulers: Sequence[Any], epoch_length: Any, horizon: int) -> Array:
    steps = jnp.arange(horizon)
    moves = []
    for scheduler, (a, b) in zip(schedulers, _maps(lr, schedulers, epoch_length, steps), strict=True):
        clock = _clock(scheduler, epoch_length, steps)
        before = jnp.concatenate([jnp.ones(1), a[:-1]])
        factor = jnp.where(before != 0, a / jnp.where(before != 0, before, 1), 1)
        added = jnp.zeros_like(a) if b is None else b - factor * jnp.concatenate([jnp.zeros(1), b[:-1]])
        if b is not None and isinstance(scheduler, OneCycleLR):  # which does not look at the value before
            acts = (clock >= scheduler.begin) & (clock < scheduler.end) & (jnp.diff(clock, prepend=-1) > 0)
            factor, added = jnp.where(acts, 0.0, 1.0), jnp.where(acts, b, 0.0)
        late = epoch_length is not None and scheduler.by_epoch
        moves.append((late, (factor, added)))
    # What counts iterations comes first in mmengine's hook, whatever the order of the list.
    ordered = [move for _, move in sorted(moves, key=lambda move: move[0])]

    def move_on(value: Array, now: Any) -> tuple[Array, Array]:
        for factor, added in now:
            value = value * factor + added
        return value, value

    return jax.lax.scan(move_on, shapes.floating(lr), ordered)[1]


def _only_multiplies(scheduler: Any, base: Any) -> bool:
    """Whether a scheduler adds nothing, as far as can be seen."""
    if isinstance(scheduler, (OneCycleLR, CosineRestartLR)):
        return False
    if not isinstance(scheduler, (CosineAnnealingLR, PolyLR)):
        return True
    floor = scheduler.eta_min if isinstance(scheduler, PolyLR) else _floor(scheduler, base)
    return not is_traced(floor) and not np.any(np.asarray(floor) != 0)


SCHEDULERS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        ConstantLR,
        CosineAnnealingLR,
        CosineRestartLR,
        ExponentialLR,
        LinearLR,
        MultiStepLR,
        OneCycleLR,
        PolyLR,
        StepLR,
    )
}
MOMENTA = {name.replace("LR", "Momentum"): cls for name, cls in SCHEDULERS.items() if cls is not OneCycleLR}


def param_scheduler(
    lr: Any,
    configs: dict[str, Any] | Sequence[dict[str, Any]],
    epoch_length: Any = None,
    max_epochs: Any = None,
    max_iters: Any = None,
    peer_exact: bool = False,
    horizon: int | None = None,
) -> Schedule:
    """The list `param_scheduler` of an mmengine config as one schedule.

    Formula: that of `Windows`, of the classes that the configs name in `type`.

    Args:
      lr: the optimizer's rate; or its momentum, if all types are those of the momentum.
      configs: dicts, or one, as mmengine's config has them, with `type`, and also with `convert_to_iter_based`.
      epoch_length: the iterations in an epoch; where it is given, the schedule counts iterations. Needed where some
        count epochs and some iterations.
      max_epochs, max_iters: the length of the training, which is the `end` of those that have none.
      peer_exact: whether the schedulers have mmengine's faults.
      horizon: None, or for how many steps mmengine's recursion is run now, to be looked up; the last value holds. It
        is for schedulers that overlap and do more than multiply.

    Example:
      >>> from jaxsched.compat.others import mmengine
      >>> s = mmengine.param_scheduler(1.0, [
      ...     dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=3),
      ...     dict(type="CosineAnnealingLR", T_max=2, by_epoch=True, begin=1, end=3)], epoch_length=4)
      >>> [round(float(v), 4) for v in s.table(13)]
      [0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]

    Source: mmengine's runner (0.10.7), `build_param_scheduler` and `ParamSchedulerHook`.
    """
    configs = [configs] if isinstance(configs, dict) else list(configs)
    if not configs:
        raise ValueError("param_scheduler: configs=[]; write at least one scheduler.")
    if max_iters is None and max_epochs is not None and epoch_length is not None:
        max_iters = max_epochs * epoch_length
    kinds = {config.get("type") in MOMENTA for config in configs}
    if len(kinds) > 1:
        raise ValueError("param_scheduler: some are of the rate, some of the momentum; make a schedule of each kind.")
    built = []
    for config in configs:
        ends = {"end": max_epochs if config.get("by_epoch", True) else max_iters}
        built.append(
            _scheduler(lr, {**{k: v for k, v in ends.items() if v is not None}, **config}, epoch_length, peer_exact)
        )
    windows = Windows if horizon is None else functools.partial(_recursion, horizon=horizon)
    return windows(lr, built, epoch_length)  # type: ignore[arg-type]


def _scheduler(lr: Any, config: dict[str, Any], epoch_length: Any, peer_exact: bool) -> Any:
    """One scheduler of its config."""
    config = dict(config)
    name, converts = config.pop("type", None), config.pop("convert_to_iter_based", False)
    if str(name).startswith("ReduceOnPlateau"):
        raise ValueError(f"param_scheduler: type={name!r} follows a metric: chain ReduceOnPlateauLR(...) instead.")
    cls = {**SCHEDULERS, **MOMENTA}[known("param_scheduler", "type", name, [*SCHEDULERS, *MOMENTA])]
    if peer_exact and "peer_exact" in cls.__signature__.parameters:
        config["peer_exact"] = True
    if converts:
        return cls.build_iter_from_epoch(lr, epoch_length=epoch_length, **config)
    return cls(lr, **config)


# --- the others ------------------------------------------------------------------------------------------------------


def _twin(cls: type[Any]) -> Callable[..., Any]:
    """The function that schedules the momentum as `cls` does the rate."""

    def twin(momentum: Any, *args: Any, **fields: Any) -> Schedule:
        return cls(momentum, *args, **fields)

    name = cls.__name__.replace("LR", "Momentum")
    first, *others = cls.__signature__.parameters.values()
    twin.__name__ = twin.__qualname__ = name
    twin.__signature__ = inspect.Signature([first.replace(name="momentum"), *others])  # type: ignore[attr-defined]
    twin.__doc__ = f"""`{cls.__name__}` of the momentum.

    Args:
      momentum: the optimizer's momentum, in the place of `lr`; the others are those of `{cls.__name__}`.

    Source: mmengine.optim.{name} (0.10.7).
    """
    return twin


ConstantMomentum = _twin(ConstantLR)
CosineAnnealingMomentum = _twin(CosineAnnealingLR)
CosineRestartMomentum = _twin(CosineRestartLR)
ExponentialMomentum = _twin(ExponentialLR)
LinearMomentum = _twin(LinearLR)
MultiStepMomentum = _twin(MultiStepLR)
PolyMomentum = _twin(PolyLR)
StepMomentum = _twin(StepLR)


def ReduceOnPlateauLR(
    lr: Any,
    monitor: str = "loss",
    rule: str = "less",
    factor: Any = 0.1,
    patience: Any = 10,
    threshold: Any = 1e-4,
    threshold_rule: str = "rel",
    cooldown: Any = 0,
    min_value: Any = 0.0,
    eps: Any = 1e-8,
    begin: Any = 0,
    end: Any = INF,
    last_step: Any = -1,
    by_epoch: bool = True,
    verbose: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Cuts of the rate when a metric has stopped getting better: `jaxsched.reduce_on_plateau`.

    Formula: that of `jaxsched.reduce_on_plateau`, with `mode` by `rule`: `less` is `min` and `greater` is `max`.

    Args:
      lr: a number, or any schedule.
      monitor: the metric's name in mmengine. Here the metric itself is told, by `jaxsched.observe`.
      rule: `less` or `greater`.
      factor: what a cut multiplies the rate by, between 0 and 1.
      patience: the metrics in a row that may be no better; the next one cuts.
      threshold: by how much a metric must be better.
      threshold_rule: `rel` or `abs`.
      cooldown: metrics after a cut that are not counted as bad.
      min_value: the rate below which no cut goes.
      eps: the smallest cut that is made.
      begin, end: 0 and INF: a metric outside of the window is one that is not told.
      last_step: -1: what it knows is in its state.
      by_epoch: True, as in mmengine.
      verbose: False; there is nothing to print.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> from jaxsched.compat.others import mmengine
      >>> state = mmengine.ReduceOnPlateauLR(1.0, factor=0.5, patience=0).init(jnp.ones(3))
      >>> for loss in (1.0, 1.0):
      ...     state = js.observe(state, value=loss)
      >>> state.learning_rate.item()
      0.5

    Source: mmengine.optim.ReduceOnPlateauLR (0.10.7).
    """
    del monitor
    owner = "ReduceOnPlateauLR"
    for name, value, default, instead in [
        ("begin", begin, 0, "observe no metric before it"),
        ("end", end, INF, "observe no metric after it"),
        ("last_step", last_step, -1, "go on with the state of the optimizer"),
        ("by_epoch", by_epoch, True, "observe once an epoch"),
        ("verbose", verbose, False, "read jaxsched.current_hyperparams(state)"),
    ]:
        if value is not default and value != default:
            raise ValueError(f"{owner}: {name}={format_value(value)}; {instead}.")
    return reduce_on_plateau(
        lr,
        mode={"less": "min", "greater": "max"}[known(owner, "rule", rule, ("less", "greater"))],  # type: ignore[arg-type]
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=known(owner, "threshold_rule", threshold_rule, ("rel", "abs")),
        cooldown=cooldown,
        min_lr=min_value,
        eps=eps,
    )
