"""fairseq.optim.lr_scheduler: the classes by their own names, with the fields of their configurations.

A rate is that of fairseq's `step_update(t)`, which the trainer calls before update t. fairseq writes `lr` as a list of
one number; here it is the number."""

from __future__ import annotations

import ast
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ..._errors import format_value, is_traced
from ...fields import Count, Growth, Length, NonNegative, Offset, Positive, Scalar, Steps, reject_if
from ...optim.plateau import reduce_on_plateau
from ...schedules import shapes
from ...schedules.base import Constant, Schedule, as_schedule
from ...schedules.decays import ExponentialDecay, InverseSqrtDecay, StepDecay
from ...schedules.pieces import PiecewiseConstant
from ...schedules.ramps import Linear, Polynomial, Ramp
from ...schedules.recipes import TriStage
from ...schedules.shapes import Step
from ..peer import Peer, known, refuse_ignored
from .counting import triangle, whole


def _given(value: Any, otherwise: Any) -> Array:
    """fairseq's way to say "none": a number below 0."""
    return jnp.where(jnp.asarray(value) < 0, otherwise, value)


_MOST_NUMBERS = 1_000_000
"""That a range of a manual schedule stands for."""


class TriStageLRSchedule(Peer):
    """A linear warmup, a plateau, and exponential decay to the end, which then holds.

    Formula: `Linear(lr init_lr_scale, lr, warmup_steps)`, lr for `hold_steps`,
    `Exponential(lr, lr final_lr_scale, decay_steps)`.

    Fields:
      lr: the rate of the plateau, not 0.
      warmup_steps, hold_steps, decay_steps: the three lengths, 0 or more updates, not all 0.
      phase_ratio: instead of them their shares of `max_update`, three numbers that add up to 1, or None. A share is cut
        off to whole updates; one that is whole but for the rounding of its float is whole (fairseq makes 28 updates of
        0.29 of 100).
      init_lr_scale: the first rate, as a share of `lr`, 0 or more.
      final_lr_scale: the last rate, as a share of `lr`, above 0.
      max_update: the horizon, for `phase_ratio`.

    Errors: ValueError for no length at all, for shares that do not add up to 1 or have no `max_update`, and for lengths
      beside shares, which fairseq ignores. With `decay_steps=0` (its default) fairseq divides by zero; here the last
      rate comes at once.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> s = fairseq.TriStageLRSchedule(1.0, warmup_steps=2, hold_steps=2, decay_steps=2)
      >>> [round(float(v), 6) for v in s.table(8)]
      [0.01, 0.505, 1.0, 1.0, 1.0, 0.1, 0.01, 0.01]

    Source: fairseq's tri_stage (0.12.2).
    """

    lr: Scalar
    warmup_steps: Steps = 0
    hold_steps: Steps = 0
    decay_steps: Steps = 0
    phase_ratio: tuple[NonNegative, ...] | None = None
    init_lr_scale: NonNegative = 0.01
    final_lr_scale: Positive = 0.01
    max_update: Length | None = None

    def check(self) -> None:
        if self.phase_ratio is None:
            names = ("warmup_steps", "hold_steps", "decay_steps")
            instead = "write the length of a phase, or phase_ratio and max_update"
            reject_if(self, lambda *steps: sum(steps) == 0, *names, instead=instead)
            return
        for name in ("warmup_steps", "hold_steps", "decay_steps"):
            refuse_ignored(self, name, "fairseq", "phase_ratio says how long the phases are", default=0)
        seen = not any(map(is_traced, self.phase_ratio))
        if len(self.phase_ratio) != 3 or (seen and np.any(np.abs(sum(map(np.asarray, self.phase_ratio)) - 1) > 1e-6)):
            ratio = f"TriStageLRSchedule: phase_ratio={format_value(self.phase_ratio)}"
            raise ValueError(f"{ratio}; write three shares that add up to 1.")
        if self.max_update is None:
            raise ValueError("TriStageLRSchedule: max_update=None; phase_ratio needs it: write the number of updates.")

    def build(self) -> Schedule:
        steps = (self.warmup_steps, self.hold_steps, self.decay_steps)
        if self.phase_ratio is not None:
            steps = tuple(whole(share, self.max_update) for share in self.phase_ratio)
        first, last = self.init_lr_scale * self.lr, self.final_lr_scale * self.lr
        return TriStage(self.lr, *steps, init_value=first, end_value=last)


class InverseSquareRootSchedule(Peer):
    """A linear warmup, then decay with the inverse square root of the update.

    Formula: `Linear(warmup_init_lr, lr, warmup_updates)`, then `lr sqrt(warmup_updates / t)`.

    Fields:
      lr: the rate at update `warmup_updates`.
      warmup_updates: above 0 (with 0 fairseq divides by zero).
      warmup_init_lr: the first rate; below 0 for 0.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> s = fairseq.InverseSquareRootSchedule(1.0, warmup_updates=100)
      >>> [float(s(t)) for t in (0, 50, 100, 400)]
      [0.0, 0.5, 1.0, 0.5]

    Source: fairseq's inverse_sqrt (0.12.2).
    """

    lr: Scalar
    warmup_updates: Length = 4000
    warmup_init_lr: Scalar = -1.0

    def build(self) -> Schedule:
        up = Linear(_given(self.warmup_init_lr, 0.0), self.lr, self.warmup_updates)
        return up.then(InverseSqrtDecay(self.lr, self.warmup_updates), at=self.warmup_updates)


class _Triangle(Schedule):
    """From `base_value` up to `peak_value` in the middle of `steps`, and down again."""

    base_value: Scalar
    peak_value: Scalar
    steps: Length

    def value(self, step: Step) -> Array:
        return shapes.mix(self.base_value, self.peak_value, triangle(step, self.steps))


class TriangularLRSchedule(Peer):
    """Up and down in straight lines, again and again, each time less high.

    Formula: in cycle i, `min_lr + (max(min_lr, max_lr lr_shrink^i) - min_lr) tri(t)`, where `tri` rises from 0 to 1 and
    falls to 0 again in `lr_period_updates`, and `min_lr` is lr, or `lr lr_shrink^i` if `shrink_min`.

    Fields:
      lr: the lowest rate.
      max_lr: the highest rate, above `lr`.
      lr_period_updates: the length of a cycle, above 0.
      lr_shrink: the factor from cycle to cycle, above 0.
      shrink_min: whether the lowest rate shrinks too.
      peer_exact: whether, as in fairseq, an odd length loses an update, and a peak that has shrunk below the lowest
        rate turns the triangle upside down.

    Errors: ValueError for `max_lr <= lr`.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> fairseq.TriangularLRSchedule(1.0, 3.0, lr_period_updates=4, lr_shrink=0.5).table(8).tolist()
      [1.0, 2.0, 3.0, 2.0, 1.0, 1.25, 1.5, 1.25]

    Source: fairseq's triangular (0.12.2).
    """

    lr: Scalar
    max_lr: Scalar
    lr_period_updates: Length = 5000
    lr_shrink: Positive = 0.1
    shrink_min: bool = False
    peer_exact: bool = False

    def check(self) -> None:
        reject_if(self, lambda lr, top: top <= lr, "lr", "max_lr", instead="max_lr must be above lr")
        if self.peer_exact:
            reject_if(self, lambda n: n < 2, "lr_period_updates", instead="fairseq divides by zero: write 2 or more")

    def build(self) -> Schedule:
        period = self.lr_period_updates
        period = 2 * (period // 2) if self.peer_exact else period

        def shrinking(base: Any, peak: Any) -> Schedule:
            return _Triangle(base, peak, period).repeat(period, value_mult=self.lr_shrink)

        if self.shrink_min:
            return shrinking(self.lr, self.max_lr)
        s = _Triangle(self.lr, 0.0, period).repeat(period) + shrinking(0.0, self.max_lr)
        return s if self.peer_exact else s.clip(lo=self.lr)


class PolynomialDecayLRSchedule(Peer):
    """A linear warmup from 0, then a polynomial down to the end.

    Formula: `Linear(0, lr, warmup_updates)`, to update `warmup_updates` and with it, then
    `Polynomial(lr, end_learning_rate, total_num_update - warmup_updates, power)`.

    Fields:
      lr: the rate at update `warmup_updates`.
      warmup_updates: 0 or more.
      force_anneal: None; fairseq begins its curve anew at every epoch from that one on, each time from the rate where
        it stands.
      end_learning_rate: the rate at update `total_num_update` and after it.
      power: above 0.
      total_num_update: the horizon; fairseq takes it from `max_update`.

    Errors: ValueError without a horizon, for a warmup that is longer, and for `force_anneal`.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> s = fairseq.PolynomialDecayLRSchedule(1.0, warmup_updates=2, power=2.0, total_num_update=4)
      >>> s.table(6).tolist()
      [0.0, 0.5, 1.0, 0.25, 0.0, 0.0]

    Source: fairseq's polynomial_decay (0.12.2).
    """

    lr: Scalar
    warmup_updates: Steps = 0
    force_anneal: Count | None = None
    end_learning_rate: Scalar = 0.0
    power: Positive = 1.0
    total_num_update: Length | None = None

    def check(self) -> None:
        because = "it begins the curve anew at every epoch, from the rate where it stands; write total_num_update"
        refuse_ignored(self, "force_anneal", "fairseq as an end", because)
        if self.total_num_update is None:
            owner = type(self).__name__
            raise ValueError(f"{owner}: total_num_update=None; write the number of updates until the last rate.")
        fits = "the warmup must not be longer than the whole: write warmup_updates <= total_num_update"
        reject_if(self, lambda warmup, total: warmup > total, "warmup_updates", "total_num_update", instead=fits)

    def build(self) -> Schedule:
        up = Linear(0.0, self.lr, self.warmup_updates)
        assert self.total_num_update is not None
        steps = self.total_num_update - self.warmup_updates
        down = Polynomial(self.lr, self.end_learning_rate, steps, self.power)
        return up.then(down.shift(-1), at=self.warmup_updates + 1)


class CosineLRSchedule(Peer):
    """A linear warmup, then cosines with restarts, each period longer and lower than the one before.

    Formula: `Linear(warmup_init_lr, lr, warmup_updates)`; then in period i, of length `lr_period_updates t_mult^i`,
    `lr_shrink^i Cosine(lr, min_lr)`.

    Fields:
      lr: the rate at update `warmup_updates`, above `min_lr`.
      warmup_updates: 0 or more.
      warmup_init_lr: the first rate; below 0 for `min_lr`.
      min_lr: the rate at the end of the first period; it shrinks with the peak.
      t_mult: the factor from period to period, 1 or more; an integer is exact at every step.
      lr_period_updates: the length of the first period; 0 or less for `max_update - warmup_updates`.
      lr_shrink: the factor from peak to peak, above 0.
      max_update: the horizon, for a period that is not given.
      peer_exact: whether restarts are missed as in fairseq, by the rounding of a logarithm (of a whole `t_mult` up to
        64 and a whole period).

    Errors: ValueError for `lr <= min_lr`, for `t_mult` below 1, and for no period and no horizon.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> s = fairseq.CosineLRSchedule(1.0, lr_period_updates=2, t_mult=2, lr_shrink=0.5)
      >>> [round(float(v), 6) for v in s.table(7)]
      [1.0, 0.5, 0.5, 0.426777, 0.25, 0.073223, 0.25]

    Source: fairseq's cosine (0.12.2).
    """

    lr: Scalar
    warmup_updates: Steps = 0
    warmup_init_lr: Scalar = -1.0
    min_lr: Scalar = 0.0
    t_mult: Growth = 1
    lr_period_updates: Offset = -1
    lr_shrink: Positive = 0.1
    max_update: Length | None = None
    peer_exact: bool = False

    def check(self) -> None:
        reject_if(self, lambda lr, low: lr <= low, "lr", "min_lr", instead="lr must be above min_lr")
        period = "lr_period_updates"
        if self.max_update is None:
            reject_if(self, lambda n: n <= 0, period, instead="write the length of the first period, or max_update")
        else:
            names = (period, "warmup_updates", "max_update")
            instead = "no update is left for the period: write max_update above warmup_updates"
            reject_if(self, lambda n, warmup, total: (n <= 0) & (total <= warmup), *names, instead=instead)

    def build(self) -> Schedule:
        period = self.lr_period_updates
        if self.max_update is not None:
            period = jnp.where(jnp.asarray(period) > 0, period, self.max_update - self.warmup_updates)
        up = Linear(_given(self.warmup_init_lr, self.min_lr), self.lr, self.warmup_updates)
        wave = Ramp(self.lr, self.min_lr, period, shape="cosine")
        if self.peer_exact:
            waves: Schedule = _MissedRestarts(self.lr, self.min_lr, period, self.t_mult, self.lr_shrink)
        else:
            waves = wave.repeat(period, period_mult=self.t_mult, value_mult=self.lr_shrink)
        return up.then(waves, at=self.warmup_updates)


# Whether log(mult^index) / log(mult) comes out below index in double precision, by [mult, index].
_MISSES = np.array(
    [[mult > 1 and math.floor(math.log(float(mult) ** i, mult)) < i for i in range(64)] for mult in range(65)]
)


class _MissedRestarts(Schedule):
    """Cosines with restarts, at some of which the end of the last period stands instead of the next peak."""

    peak_value: Scalar
    end_value: Scalar
    period: Length
    period_mult: Growth
    value_mult: Positive

    def value(self, step: Step) -> Array:
        index, clock = shapes.cycle(step, self.period, self.period_mult)
        mult = jnp.floor(shapes.floating(self.period_mult)).astype(jnp.result_type(int))
        whole_mult = shapes.floating(mult) == shapes.floating(self.period_mult)
        table = jnp.asarray(_MISSES)[jnp.clip(mult, 0, 64), jnp.clip(index, 0, 63)]
        missed = whole_mult & (mult <= 64) & table & (shapes.floating(clock) == 0)
        scale = shapes.power(self.value_mult, shapes.ratio(jnp.where(missed, index - 1, index)))
        position = shapes.half_cosine(shapes.progress(clock, self.period))
        return scale * jnp.where(missed, self.end_value, shapes.mix(self.peak_value, self.end_value, position))


class StepLRSchedule(Peer):
    """A linear warmup, then a factor at every `lr_deacy_period`-th update, down to a lowest rate.

    Formula: `Linear(warmup_init_lr, lr, warmup_updates)`, then
    `max(min_lr, lr lr_decay^floor((t - warmup_updates) / lr_deacy_period))`.

    Fields:
      lr: the rate at update `warmup_updates`, above `min_lr`.
      warmup_updates: 0 or more.
      warmup_init_lr: the first rate; below 0 for `min_lr`.
      min_lr: the lowest rate, 0 or more.
      lr_deacy_period: updates between two factors, above 0 (the name is fairseq's).
      lr_decay: the factor, above 0 and at most 1.

    Errors: ValueError for `lr <= min_lr`, and for a factor above 1.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> fairseq.StepLRSchedule(1.0, lr_deacy_period=2, min_lr=0.3).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.30000001192092896]

    Source: fairseq's step (0.12.2).
    """

    lr: Scalar
    warmup_updates: Steps = 0
    warmup_init_lr: Scalar = -1.0
    min_lr: NonNegative = 0.0
    lr_deacy_period: Length = 25000
    lr_decay: Positive = 0.5

    def check(self) -> None:
        reject_if(self, lambda lr, low: lr <= low, "lr", "min_lr", instead="lr must be above min_lr")
        reject_if(self, lambda x: x > 1, "lr_decay", instead="a factor above 1 is no decay")

    def build(self) -> Schedule:
        up = Linear(_given(self.warmup_init_lr, self.min_lr), self.lr, self.warmup_updates)
        down = StepDecay(self.lr, self.lr_decay, self.lr_deacy_period).clip(lo=self.min_lr)
        return up.then(down, at=self.warmup_updates)


# --- schedules of epochs ---------------------------------------------------------------------------------------------


def _table(values: list[Any]) -> Any:
    """Plain numbers stay plain; with a traced one among them they become one array."""
    return (
        values if all(isinstance(v, (int, float)) for v in values) else jnp.stack([shapes.floating(v) for v in values])
    )


def _needs_epochs(owner: str, what: str, updates_per_epoch: Any) -> None:
    if updates_per_epoch is None:
        raise ValueError(f"{owner}: {what} counts epochs; write updates_per_epoch, the number of updates in one.")


def FixedLRSchedule(
    lr: Any,
    force_anneal: Any = None,
    lr_shrink: Any = 0.1,
    warmup_updates: Any = 0,
    *,
    updates_per_epoch: Any = None,
) -> Schedule:
    """A rate for each epoch, from some epoch on an exponential decay, under a linear warmup.

    Formula: in epoch e = 1, 2, ..., `lr[min(e, len(lr)) - 1]`, and `lr[-1] lr_shrink^(e + 1 - force_anneal)` from
    epoch `force_anneal` on; times `min(1, (t + 1) / warmup_updates)`.

    Args:
      lr: a number, or a list with one for each epoch, of which the last one stays.
      force_anneal: the first epoch of the decay, 1 or more; None for no decay.
      lr_shrink: the factor of an epoch, above 0.
      warmup_updates: 0 or more.
      updates_per_epoch: the updates in an epoch; needed for a list and for `force_anneal`.

    Errors: ValueError where epochs are counted and `updates_per_epoch` is not given.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> s = fairseq.FixedLRSchedule([1.0, 0.5], force_anneal=3, lr_shrink=0.5, updates_per_epoch=2)
      >>> s.table(8).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]

    Source: fairseq's fixed (0.12.2).
    """
    lrs = list(lr) if isinstance(lr, (list, tuple)) or getattr(lr, "ndim", 0) else [lr]
    s: Schedule = PiecewiseConstant(list(range(1, len(lrs))), _table(lrs)) if len(lrs) > 1 else Constant(lrs[0])
    if len(lrs) > 1:
        _needs_epochs("FixedLRSchedule", "a list of rates", updates_per_epoch)
    if force_anneal is not None:
        _needs_epochs("FixedLRSchedule", "force_anneal", updates_per_epoch)
        s = s.then(ExponentialDecay(lrs[-1] * lr_shrink, lr_shrink, 1), at=force_anneal - 1)
    if len(lrs) > 1 or force_anneal is not None:
        s = s.per_epoch(updates_per_epoch)
    return s * Linear(0.0, 1.0, warmup_updates).shift(-1)


def ManualSchedule(lr: Any, epoch2lr: Any = "{}", update2lr: Any = "{}", *, updates_per_epoch: Any = None) -> Schedule:
    """Rates by hand, from epochs on and from updates on.

    Formula: the rate of the last key of `update2lr` that is `<= t`; before its first key that of the last key of
    `epoch2lr` that is `<= e`, in epoch e = 1, 2, ...; before that of key 1 of `update2lr`, or `lr`.

    Args:
      lr: the rate before the first key.
      epoch2lr: `{"1": 0.1, "3-5": 0.01, "8,9": 0.001}`, or that as text: the rate of these epochs and of those after
        them.
      update2lr: the same for updates.
      updates_per_epoch: the updates in an epoch; needed for `epoch2lr`.

    Errors: ValueError for what is no such dictionary, and for epochs without `updates_per_epoch`.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> fairseq.ManualSchedule(1.0, update2lr={"2": 0.5, "3-4": 0.25}).table(6).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25, 0.25]

    Source: fairseq's manual (0.12.2).
    """
    epochs, updates = _by_hand("epoch2lr", epoch2lr), _by_hand("update2lr", update2lr)
    first = epochs.get(1, updates.get(1, lr))
    s: Schedule = Constant(first)
    if epochs:
        _needs_epochs("ManualSchedule", "epoch2lr", updates_per_epoch)
        s = _in_pieces(first, {max(epoch - 1, 0): rate for epoch, rate in epochs.items()}).per_epoch(updates_per_epoch)
    if not updates:
        return s
    begin = min(updates)
    rates = _in_pieces(updates[begin], {update - begin: rate for update, rate in updates.items()})
    return s.then(rates, at=begin) if begin > 0 else rates


def _by_hand(name: str, given: Any) -> dict[int, Any]:
    """The rate from each key on; of the keys of a range only those that change something."""
    wanted = f'ManualSchedule: {name}={format_value(given)}; write a dictionary such as {{"1-3": 0.1, "4": 0.01}}'
    try:
        table = ast.literal_eval(given.replace(" ", "")) if isinstance(given, str) else given
    except (ValueError, SyntaxError):
        raise ValueError(f"{wanted}.") from None
    if not isinstance(table, dict):
        raise ValueError(f"{wanted}.")
    entries: dict[int, str] = {}
    for key in table:
        for number in _numbers(str(key), wanted):
            entries[number] = key
    kept: dict[int, Any] = {}
    last: Any = None
    for number in sorted(entries):
        if entries[number] != last:
            rate = table[entries[number]]
            kept[number] = float(rate) if isinstance(rate, str) else rate
        last = entries[number]
    return kept


def _numbers(key: str, wanted: str) -> range | list[int]:
    try:
        if "," in key:
            return [int(part) for part in key.split(",")]
        if "-" in key:
            start, stop = key.split("-")
            numbers = range(int(start), int(stop) + 1)
        else:
            numbers = [int(key)]
    except ValueError:
        raise ValueError(f'{wanted}: the key {key!r} is no number, no range "3-5" and no list "8,9".') from None
    if len(numbers) > _MOST_NUMBERS:  # each is an entry of a table, there and here
        raise ValueError(
            f"{wanted}: the key {key!r} stands for {len(numbers):_} numbers; write {_MOST_NUMBERS:_} at most."
        )
    return numbers


def _in_pieces(first: Any, by_start: dict[int, Any]) -> Schedule:
    starts = sorted(n for n in by_start if n > 0)
    values = [by_start.get(0, first), *(by_start[n] for n in starts)]
    return PiecewiseConstant(starts, _table(values)) if starts else Constant(values[0])


def PassThroughScheduleSchedule(lr: Any) -> Schedule:
    """The optimizer's own schedule, as it is.

    Formula: `s(t) = lr(t)`.

    Args:
      lr: a schedule, a callable or a number.

    Errors: TypeError for anything else.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> fairseq.PassThroughScheduleSchedule(0.5)
      Constant(constant_value=0.5)

    Source: fairseq's pass_through (0.12.2).
    """
    return as_schedule("PassThroughScheduleSchedule", "lr", lr)


def ReduceLROnPlateauLRSchedule(
    lr: Any,
    lr_shrink: Any = 0.1,
    lr_threshold: Any = 1e-4,
    lr_patience: Any = 0,
    warmup_updates: Any = 0,
    warmup_init_lr: Any = -1.0,
    maximize_best_checkpoint_metric: bool = False,
    *,
    updates_per_epoch: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """A linear warmup, then cuts when a metric, told once an epoch, has stopped getting better.

    Formula: `reduce_on_plateau(Linear(warmup_init_lr, lr, warmup_updates), factor=lr_shrink, ...)`, which hears nothing
    until an epoch ends after the warmup.

    Args:
      lr: the rate after the warmup.
      lr_shrink: the factor of a cut, between 0 and 1.
      lr_threshold: by what share a metric must be better.
      lr_patience: epochs without improvement before the rate is reduced.
      warmup_updates: 0 or more.
      warmup_init_lr: the first rate; below 0 for 0.
      maximize_best_checkpoint_metric: whether the metric has to rise.
      updates_per_epoch: the updates in an epoch; needed for a warmup.

    Errors: ValueError for a warmup without `updates_per_epoch`, and those of `reduce_on_plateau`.

    Example:
      >>> import optax
      >>> from jaxsched.compat.others import fairseq
      >>> optimizer = optax.chain(optax.scale_by_adam(), fairseq.ReduceLROnPlateauLRSchedule(1e-3))

    Source: fairseq's reduce_lr_on_plateau (0.12.2).
    """
    ignored: Any = 0
    if updates_per_epoch is not None:
        ignored = warmup_updates // updates_per_epoch
    elif is_traced(warmup_updates) or np.any(np.asarray(warmup_updates) != 0):
        _needs_epochs("ReduceLROnPlateauLRSchedule", "the metric", None)
    return reduce_on_plateau(
        Linear(_given(warmup_init_lr, 0.0), lr, warmup_updates),
        mode="max" if maximize_best_checkpoint_metric else "min",
        factor=lr_shrink,
        patience=lr_patience,
        threshold=lr_threshold,
        warmup=ignored,
    )


LR_SCHEDULER_REGISTRY: dict[str, Any] = {
    "cosine": CosineLRSchedule,
    "fixed": FixedLRSchedule,
    "inverse_sqrt": InverseSquareRootSchedule,
    "manual": ManualSchedule,
    "pass_through": PassThroughScheduleSchedule,
    "polynomial_decay": PolynomialDecayLRSchedule,
    "reduce_lr_on_plateau": ReduceLROnPlateauLRSchedule,
    "step": StepLRSchedule,
    "tri_stage": TriStageLRSchedule,
    "triangular": TriangularLRSchedule,
}


def build_lr_scheduler(name: str, lr: Any, **config: Any) -> Any:
    """The schedule that fairseq's `--lr-scheduler` names.

    Formula: `LR_SCHEDULER_REGISTRY[name](lr, **config)`.

    Args:
      name: `cosine fixed inverse_sqrt manual pass_through polynomial_decay reduce_lr_on_plateau step tri_stage
        triangular`.
      lr: the rate.
      config: the fields of its configuration.

    Errors: ValueError for an unknown name, and those of the schedule.

    Example:
      >>> from jaxsched.compat.others import fairseq
      >>> fairseq.build_lr_scheduler("inverse_sqrt", 5e-4, warmup_updates=8_000)
      compat.others.fairseq.InverseSquareRootSchedule(lr=0.0005, warmup_updates=8000)

    Source: fairseq.optim.lr_scheduler.build_lr_scheduler (0.12.2).
    """
    return LR_SCHEDULER_REGISTRY[known("build_lr_scheduler", "name", name, LR_SCHEDULER_REGISTRY)](lr, **config)
