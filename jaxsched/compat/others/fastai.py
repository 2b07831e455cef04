"""fastai.callback.schedule: the functions by their own names and arguments.

fastai's schedules are functions of the share of the training that is done. Here they count steps, over `total_steps`
(`n_epoch` times the batches of an epoch): update t is made at the share `t / total_steps`, as by fastai's
`ParamScheduler`. With `total_steps=1`, the default, they are the functions of the share from 0 to 1 themselves."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._errors import format_value, is_traced
from ...fields import Length, NonNegative, Positive, Scalar, Table, reject_zero_crossing
from ...schedules import shapes
from ...schedules.base import Schedule, as_schedule
from ...schedules.ramps import Ramp
from ...schedules.shapes import Position, Step
from .counting import snapped


class _Annealer(Schedule):
    """What is told by the place between its two ends."""

    def at(self, position: Position) -> Array:
        raise NotImplementedError


def _at(schedule: Schedule, position: Position) -> Array:
    """The value of a function of the share; what can say it loses no digits near its end."""
    return schedule.at(position) if isinstance(schedule, _Annealer) else schedule.value(position.done)


class SchedLin(_Annealer):
    """A straight line.

    Formula: `s(t) = start (1 - u) + end u` with `u = min(t / total_steps, 1)`.

    Fields:
      start, end: the first and the last value.
      total_steps: the length, above 0; 1 for a function of the share that is done.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> fastai.SchedLin(0.0, 2.0)(0.25), fastai.SchedLin(0.0, 2.0, total_steps=100)(25)
      (Array(0.5, dtype=float32), Array(0.5, dtype=float32))

    Source: fastai.callback.schedule.SchedLin (2.8).
    """

    start: Scalar
    end: Scalar
    total_steps: Length = 1

    def at(self, position: Position) -> Array:
        return shapes.mix(self.start, self.end, position)

    def value(self, step: Step) -> Array:
        return self.at(shapes.progress(step, self.total_steps))


class SchedCos(_Annealer):
    """Half a cosine wave.

    Formula: `s(t) = end + (start - end) (1 + cos(pi u)) / 2` with `u = min(t / total_steps, 1)`.

    Fields:
      start, end, total_steps: as in `SchedLin`.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> round(float(fastai.SchedCos(1.0, 0.0)(0.5)), 6)
      0.5

    Source: fastai.callback.schedule.SchedCos (2.8).
    """

    start: Scalar
    end: Scalar
    total_steps: Length = 1

    def at(self, position: Position) -> Array:
        return shapes.mix(self.start, self.end, shapes.half_cosine(position))

    def value(self, step: Step) -> Array:
        return self.at(shapes.progress(step, self.total_steps))


class SchedNo(_Annealer):
    """One value.

    Formula: `s(t) = start`.

    Fields:
      start: the value.
      end: any number, for the sake of the other schedules' form.
      total_steps: as in `SchedLin`.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> float(fastai.SchedNo(1.0, 0.0)(0.5))
      1.0

    Source: fastai.callback.schedule.SchedNo (2.8).
    """

    start: Scalar
    end: Scalar
    total_steps: Length = 1

    def at(self, position: Position) -> Array:
        return jnp.broadcast_to(self.start, position.gap.shape)

    def value(self, step: Step) -> Array:
        return self.at(shapes.progress(step, self.total_steps))


class SchedExp(_Annealer):
    """A constant factor at every step.

    Formula: `s(t) = start (end / start)^u` with `u = min(t / total_steps, 1)`.

    Fields:
      start, end: the first and the last value, of one sign and not 0.
      total_steps: as in `SchedLin`.

    Errors: ValueError for a value of 0 or two signs.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> round(float(fastai.SchedExp(1.0, 0.01)(0.5)), 6)
      0.1

    Source: fastai.callback.schedule.SchedExp (2.8).
    """

    start: Scalar
    end: Scalar
    total_steps: Length = 1

    def check(self) -> None:
        reject_zero_crossing(self, "start", "end")

    def at(self, position: Position) -> Array:
        late, gap = position
        near, far = jnp.where(late, self.end, self.start), jnp.where(late, self.start, self.end)
        return near * shapes.power(far / near, shapes.ratio(gap))

    def value(self, step: Step) -> Array:
        return shapes.geometric(self.start, self.end, step, self.total_steps)


class SchedPoly(_Annealer):
    """A power of the way that is done.

    Formula: `s(t) = start + (end - start) u^power` with `u = min(t / total_steps, 1)`.

    Fields:
      start, end: the first and the last value.
      power: above 0.
      total_steps: as in `SchedLin`.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> float(fastai.SchedPoly(0.0, 1.0, power=2)(0.5))
      0.25

    Source: fastai.callback.schedule.SchedPoly (2.8).
    """

    start: Scalar
    end: Scalar
    power: Positive
    total_steps: Length = 1

    def at(self, position: Position) -> Array:
        return shapes.mix(self.start, self.end, shapes.raised(position, self.power))

    def value(self, step: Step) -> Array:
        return self.at(shapes.exact_progress(step, self.total_steps))


class combine_scheds(_Annealer):
    """Schedules one after the other, each over its share of the whole.

    Formula: `s(t) = scheds[i]((u - p_i) / pcts[i])` with `u = t / total_steps`, `p_i = pcts[0] + ... + pcts[i - 1]`
    and i the last one with `p_i <= u`.

    Fields:
      pcts: the shares, 0 or more, which add up to 1.
      scheds: functions of the share that is done: the schedules of this module with `total_steps=1`, or any callable.
      total_steps: as in `SchedLin`.

    Errors: ValueError for wrong counts, and for shares that do not add up to 1 (fastai refuses ten times 0.1 too, whose
      floats add up to less).

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> s = fastai.combine_scheds([0.25, 0.75], [fastai.SchedLin(0.0, 1.0), fastai.SchedLin(1.0, 0.0)], total_steps=8)
      >>> [round(float(v), 6) for v in s.table(9)]
      [0.0, 0.5, 1.0, 0.833333, 0.666667, 0.5, 0.333333, 0.166667, 0.0]

    Source: fastai.callback.schedule.combine_scheds (2.8), which keeps the shares in float32.
    """

    pcts: tuple[NonNegative, ...]
    scheds: tuple[Schedule, ...]
    total_steps: Length = 1

    def check(self) -> None:
        if len(self.pcts) != len(self.scheds):
            counts = f"{len(self.pcts)} pcts and {len(self.scheds)} scheds"
            raise ValueError(f"combine_scheds: {counts}; write one share for each schedule.")
        if any(map(is_traced, self.pcts)):
            return
        if np.any(np.abs(sum(map(np.asarray, self.pcts)) - 1) > 1e-6):
            raise ValueError(f"combine_scheds: pcts={format_value(self.pcts)}; write shares that add up to 1.")

    def at(self, position: Position) -> Array:
        """Inside of another one: the place is a float there."""
        return self._joined(position.done, 1)

    def value(self, step: Step) -> Array:
        return self._joined(step, self.total_steps)

    def _joined(self, step: Step, total: Any) -> Array:
        share, begin = 0.0, shapes.instant(0.0, total)
        out: Any = 0.0
        for i, (pct, schedule) in enumerate(zip(self.pcts, self.scheds, strict=True)):
            share = share + pct
            # The last one ends at the end, whatever the shares add up to.
            end = snapped(shapes.instant(1.0 if i == len(self.pcts) - 1 else share, total), sums=i + 1)
            value = _at(schedule, shapes.between(step, begin, end))
            out = value if i == 0 else jnp.where(shapes.until(step, begin) <= 0, value, out)
            begin = end
        return out


def combined_cos(pct: Any, start: Any, middle: Any, end: Any, total_steps: Any = 1) -> combine_scheds:
    """Half a cosine wave from `start` to `middle`, and another one to `end`.

    Formula: `combine_scheds([pct, 1 - pct], [SchedCos(start, middle), SchedCos(middle, end)])`.

    Args:
      pct: the share of the first wave, from 0 to 1.
      start, middle, end: the values.
      total_steps: as in `SchedLin`.

    Errors: ValueError for a share outside of 0 to 1.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> s = fastai.combined_cos(0.5, 0.0, 1.0, 0.0, total_steps=4)
      >>> [round(float(v), 6) for v in s.table(5)]
      [0.0, 0.5, 1.0, 0.5, 0.0]

    Source: fastai.callback.schedule.combined_cos (2.8).
    """
    return combine_scheds((pct, 1 - pct), (SchedCos(start, middle), SchedCos(middle, end)), total_steps)


def fit_one_cycle(
    n_epoch: Any,
    lr_max: Any = 1e-3,
    div: Any = 25.0,
    div_final: Any = 1e5,
    pct_start: Any = 0.25,
    moms: Any = (0.95, 0.85, 0.95),
    *,
    steps_per_epoch: Any,
) -> dict[str, Schedule]:
    """The rate and the momentum of one cycle, `{"lr": ..., "mom": ...}`.

    Formula: `lr = combined_cos(pct_start, lr_max / div, lr_max, lr_max / div_final)` and
    `mom = combined_cos(pct_start, *moms)`, over `n_epoch steps_per_epoch` steps.

    Args:
      n_epoch: the epochs, above 0.
      lr_max: the highest rate.
      div: the highest rate over the first one.
      div_final: the highest rate over the last one.
      pct_start: the share of the rise, from 0 to 1.
      moms: the first, the lowest and the last momentum.
      steps_per_epoch: the batches of an epoch.

    Errors: ValueError for a share outside of 0 to 1.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> s = fastai.fit_one_cycle(4, lr_max=0.1, steps_per_epoch=25)
      >>> [round(float(s["lr"](t)), 7) for t in (0, 25, 100)], [round(float(s["mom"](t)), 6) for t in (0, 25, 100)]
      ([0.004, 0.1, 1e-06], [0.95, 0.85, 0.95])

    Source: fastai's Learner.fit_one_cycle (2.8).
    """
    total = n_epoch * steps_per_epoch
    first, middle, last = moms
    return {
        "lr": combined_cos(pct_start, lr_max / div, lr_max, lr_max / div_final, total),
        "mom": combined_cos(pct_start, first, middle, last, total),
    }


def fit_flat_cos(
    n_epoch: Any, lr: Any = 1e-3, div_final: Any = 1e5, pct_start: Any = 0.75, *, steps_per_epoch: Any
) -> dict[str, Schedule]:
    """A flat rate, then half a cosine wave down, `{"lr": ...}`.

    Formula: `combined_cos(pct_start, lr, lr, lr / div_final)` over `n_epoch steps_per_epoch` steps.

    Args:
      n_epoch: the epochs, above 0.
      lr: the flat rate.
      div_final: the flat rate over the last one.
      pct_start: the share of the flat part, from 0 to 1.
      steps_per_epoch: the batches of an epoch.

    Errors: ValueError for a share outside of 0 to 1.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> s = fastai.fit_flat_cos(4, lr=0.1, steps_per_epoch=25)["lr"]
      >>> [round(float(s(t)), 7) for t in (0, 75, 100)]
      [0.1, 0.1, 1e-06]

    Source: fastai's Learner.fit_flat_cos (2.8).
    """
    return {"lr": combined_cos(pct_start, lr, lr, lr / div_final, n_epoch * steps_per_epoch)}


class _InSingle(Schedule):
    """Cosines to 0 whose places are computed in float32, as fastai computes them."""

    lr_max: Scalar
    starts: Table
    total_steps: Length

    def value(self, step: Step) -> Array:
        share = jnp.minimum(_single(step, self.total_steps), 1)
        starts = shapes.floating(self.starts)
        i = jnp.clip(shapes.passed(share, starts) - 1, 0, starts.shape[0] - 2)
        done = _single(_single(share - starts[i]), _single(starts[i + 1] - starts[i]))
        return shapes.mix(self.lr_max, 0.0, shapes.half_cosine(shapes.nearer(1 - done, done)))


def _single(x: Any, divisor: Any = 1) -> Array:
    """The quotient rounded to float32; a compiler's own division may be off by one rounding."""
    quotient = shapes.ratio(x, divisor)
    return shapes.floating((quotient.high + quotient.low).astype(jnp.float32))


def fit_sgdr(
    n_cycles: int,
    cycle_len: Any,
    lr_max: Any = 1e-3,
    cycle_mult: Any = 2,
    *,
    steps_per_epoch: Any,
    peer_exact: bool = False,
) -> dict[str, Schedule]:
    """Half cosine waves down to 0, each after a restart, `{"lr": ...}`.

    Formula: in cycle i, of `cycle_len cycle_mult^i` epochs, `SchedCos(lr_max, 0)`; after `n_cycles` of them 0.

    Args:
      n_cycles: how many, 1 or more.
      cycle_len: the epochs of the first one, above 0.
      lr_max: the rate at each restart.
      cycle_mult: the factor from cycle to cycle, 1 or more (with 1 fastai divides by zero).
      steps_per_epoch: the batches of an epoch.
      peer_exact: whether the restarts are found in float32, as fastai finds them: it misses some, and the rate of a
        first batch is 0 there. For plain numbers, and a `cycle_mult` above 1.

    Errors: ValueError for `peer_exact` with a `cycle_mult` of 1.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> s = fastai.fit_sgdr(2, 1, lr_max=0.1, steps_per_epoch=2)["lr"]
      >>> [round(float(v), 6) for v in s.table(7)]
      [0.1, 0.05, 0.1, 0.085355, 0.05, 0.014645, 0.0]

    Source: fastai's Learner.fit_sgdr (2.8).
    """
    period = cycle_len * steps_per_epoch
    if peer_exact:
        if cycle_mult == 1:
            raise ValueError("fit_sgdr: cycle_mult=1; fastai divides by zero: leave peer_exact out.")
        epochs = cycle_len * (cycle_mult**n_cycles - 1) // (cycle_mult - 1)
        pcts = np.array([0, *(cycle_len * cycle_mult**i / epochs for i in range(n_cycles))], np.float32)
        starts = np.cumsum(pcts, dtype=np.float64).astype(np.float32).astype(np.float64)
        return {"lr": _InSingle(lr_max, starts, epochs * steps_per_epoch)}
    wave = Ramp(lr_max, 0.0, period, shape="cosine")
    return {"lr": wave.repeat(period, period_mult=cycle_mult, cycles=n_cycles)}


def LRFinder(start_lr: Any = 1e-7, end_lr: Any = 10.0, num_it: Any = 100) -> SchedExp:
    """The rates of the learning-rate range test.

    Formula: `SchedExp(start_lr, end_lr)` over `num_it` steps, at least 6.

    Args:
      start_lr, end_lr: the first and the last rate, above 0.
      num_it: the steps of the test.

    Errors: ValueError for a rate of 0.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> [round(float(v), 4) for v in fastai.LRFinder(1e-3, 10.0, num_it=8).table([0, 4, 8])]
      [0.001, 0.1, 10.0]

    Source: fastai.callback.schedule.LRFinder (2.8).
    """
    return SchedExp(start_lr, end_lr, jnp.maximum(num_it, 6) if is_traced(num_it) else max(num_it, 6))


def ParamScheduler(scheds: dict[str, Any]) -> dict[str, Schedule]:
    """One schedule for each hyperparameter, by its name.

    Formula: `{name: schedule}`.

    Args:
      scheds: a schedule, a callable or a number for each name.

    Errors: TypeError for anything else.

    Example:
      >>> from jaxsched.compat.others import fastai
      >>> fastai.ParamScheduler({"lr": fastai.SchedCos(0.1, 0.0, total_steps=100), "mom": 0.9})["mom"]
      Constant(constant_value=0.9)

    Source: fastai.callback.schedule.ParamScheduler (2.8).
    """
    return {name: as_schedule("ParamScheduler", name, schedule) for name, schedule in scheds.items()}
