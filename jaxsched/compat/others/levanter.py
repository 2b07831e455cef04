"""Levanter: warmup, stable, decay, in cycles, with lengths in steps or in shares of what they are part of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._errors import format_value
from ...fields import Domain, Length, Number, Positive, Scalar, validate
from ...schedules import shapes
from ...schedules.base import Constant, Schedule
from ...schedules.decays import InverseSqrtDecay, InverseTimeDecay
from ...schedules.ramps import Linear, Polynomial, Ramp
from ...schedules.shapes import Step, floating
from ..optax import CosinePower
from ..peer import admitted, known
from ._shared import choose, counted, known_to_be, least, most

SHARE = Domain(
    "a share from 0 to 1, or a whole number of steps", lambda x: (x >= 0) & ((x <= 1) | (x % 1 == 0)), counts=True
)
Share: TypeAlias = Annotated[Number, SHARE]
Falling: TypeAlias = Annotated[Number, Domain("a finite number below 0", lambda x: x < 0)]


def _in_steps(share: Any, total: Any) -> Any:
    return counted(lambda xp, s, n: xp.where(s <= 1, s * n, s), share, total)


# --- the decays, each of `decay_steps` after a warmup ----------------------------------------------------------------


class _TokenPower(Schedule):
    """`min(max_value, batch_size a n^b)` after n = t batch_size seq_length tokens, counted in floats: they are many."""

    max_value: Scalar
    batch_size: Positive
    seq_length: Positive
    a: Positive
    b: Scalar

    def value(self, step: Step) -> Array:
        tokens = jnp.maximum(floating(step), 1) * (self.batch_size * self.seq_length)
        value = self.batch_size * self.a * shapes.power(tokens, shapes.ratio(self.b))
        return jnp.where(floating(step) > 0, jnp.minimum(self.max_value, value), self.max_value)


class _Phase(NamedTuple):
    """What a decay is told: its ends, the value that no decay goes below, its length, and that of its warmup."""

    peak: Any
    low: Any
    floor: Any
    decay_steps: Any
    warmup_steps: Any
    peer_exact: bool


@admitted
def _constant(phase: _Phase) -> Schedule:
    return Constant(phase.peak)


@admitted
def _cosine(phase: _Phase, exponent: Positive | None = None) -> Schedule:
    if exponent is None:
        return Ramp(phase.peak, phase.low, phase.decay_steps, shape="cosine")
    return CosinePower(phase.peak, phase.low, phase.decay_steps, exponent)


@admitted
def _linear(phase: _Phase) -> Schedule:
    return Linear(phase.peak, phase.low, phase.decay_steps)


@admitted
def _inv_sqrt(phase: _Phase, timescale: Length = 10_000) -> Schedule:
    return InverseSqrtDecay(phase.peak, timescale).shift(timescale - phase.warmup_steps).clip(lo=phase.low)


@admitted
def _inv(phase: _Phase) -> Schedule:
    if known_to_be(lambda low: low <= 0, phase.low):
        raise ValueError("lr_scheduler: lr_schedule='inv' never reaches 0: write min_lr_ratio above 0.")
    down = InverseTimeDecay(phase.peak, phase.peak / phase.low - 1, phase.decay_steps).clip(lo=phase.low)
    return down.shift(-1).shift(1) if phase.peer_exact else down  # step 0 as step 1


@admitted
def _polynomial(phase: _Phase, power: Positive = 2.0) -> Schedule:
    return Polynomial(phase.peak, phase.low, phase.decay_steps, power)


@admitted
def _inv_sqrt_decay(phase: _Phase, decay_constant: Positive = 28.6) -> Schedule:
    return InverseSqrtDecay(phase.peak, phase.decay_steps / decay_constant).clip(lo=phase.low)


@admitted
def _power(
    phase: _Phase, batch_size: Positive, seq_length: Positive, a: Positive = 4.6, b: Falling = -0.51
) -> Schedule:
    return _TokenPower(phase.peak, batch_size, seq_length, a, b).clip(lo=phase.floor)


_DECAYS: dict[str, Callable[..., Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "inv_sqrt": _inv_sqrt,
    "inv": _inv,
    "polynomial": _polynomial,
    "inv_sqrt_decay": _inv_sqrt_decay,
    "power": _power,
}
_BY_NAME = ("constant", "cosine", "linear", "inv_sqrt", "inv")


def _decay_of(lr_schedule: Any) -> tuple[Callable[..., Schedule], dict[str, Any]]:
    """The decay and its arguments."""
    owner, field = "lr_scheduler", "lr_schedule"
    if isinstance(lr_schedule, Mapping):
        settings = dict(lr_schedule)
        return _DECAYS[known(owner, f"{field}['type']", settings.pop("type", None), _DECAYS)], settings
    if not isinstance(lr_schedule, str):
        raise ValueError(f"{owner}: {field}={format_value(lr_schedule)}; write a name, or a dict with a 'type'.")
    if lr_schedule in _DECAYS and lr_schedule not in _BY_NAME:
        raise ValueError(
            f"{owner}: {field}={lr_schedule!r}; it is written as a dict, such as {{'type': {lr_schedule!r}}}."
        )
    return _DECAYS[known(owner, field, lr_schedule, _BY_NAME)], {}


# --- the cycles ------------------------------------------------------------------------------------------------------


class _Cycle(NamedTuple):
    """A cycle on its own clock, and the value that it ends at."""

    schedule: Schedule
    end_value: Any


class _Cycles(NamedTuple):
    """What all cycles share."""

    peak: Any
    low: Any
    warmup: Any
    rewarmup: Any
    decay: Any
    lr_schedule: Any
    peer_exact: bool

    def one(self, length: Any, before: Any = 0.0, is_first: Any = True) -> _Cycle:
        """A cycle of `length` steps; it warms up from the value `before`."""
        warmup = choose(is_first, _in_steps(self.warmup, length), _in_steps(self.rewarmup, length))
        warmup = least(warmup, length)
        rest = length - warmup
        steps = rest if self.decay is None else least(_in_steps(self.decay, length), rest)
        falls = steps > 0  # without a decay the peak holds
        low, floor = choose(falls, self.low, self.peak), choose(falls, 0.0, self.peak)
        decay, settings = _decay_of(self.lr_schedule)
        down = decay(_Phase(self.peak, low, floor, most(steps, 1), warmup, self.peer_exact), **settings)
        up = Linear(before, self.peak, warmup)
        return _Cycle(up.then(down, at=length - steps), down(steps))

    def between(self, points: list[Any]) -> tuple[Schedule, Any]:
        """Cycles from each point to the next; the value that the last one ends at."""
        schedule, end_value = self.one(points[1] - points[0])
        for start, stop in itertools.pairwise(points[1:]):
            cycle = self.one(stop - start, end_value, is_first=False)
            # One that is found, when it is traced, to have no step, is not begun.
            at = choose(stop > start, start, np.iinfo(jnp.result_type(int)).max)
            schedule, end_value = schedule.then(cycle.schedule, at=at), choose(stop > start, cycle.end_value, end_value)
        return schedule, end_value

    def regular(self, length: Any, total: Any) -> tuple[Schedule, Any]:
        """Cycles of `length` steps up to `total`; the last one may have another length. Their number is a number: so
        there are a first, a second, the second again and again, and a last one."""
        count = most(total // length if self.peer_exact else -(-total // length), 1)
        stop = (count - 1) * length
        first = self.one(choose(count == 1, total, length))
        if known_to_be(lambda n: n == 1, count):
            return first.schedule, first.end_value
        second = self.one(length, first.end_value, is_first=False)
        others = self.one(length, second.end_value, is_first=False)
        before = choose(count == 1, 0.0, choose(count == 2, first.end_value, second.end_value))
        last = self.one(total - stop, before, is_first=count == 1)
        schedule = first.schedule.then(second.schedule, at=least(length, stop))
        schedule = schedule.then(others.schedule.repeat(length), at=least(2 * length, stop))
        return schedule.then(last.schedule, at=stop), last.end_value


_MOST_CYCLES = 1_000
"""Of what is a piece of its own each."""

_END = Domain("an integer above 0", lambda x: x > 0, counts=True, whole=True)


def _points(listed: Any, name: str, total: Any) -> list[Any]:
    """0, the ends of the cycles, and the end of all."""
    ends = [validate("lr_scheduler", f"{name}[{i}]", x, _END) for i, x in enumerate(listed)]
    if name == "cycle_length":
        ends = [sum(ends[1 : i + 1], ends[0]) for i in range(len(ends))]
    points = [0, *ends]
    if known_to_be(lambda *ends: np.diff(ends) <= 0, *points) or known_to_be(lambda a, b: a > b, points[-1], total):
        raise ValueError(
            f"lr_scheduler: {name}={format_value(listed)} of {format_value(total)} steps; each cycle ends after "
            f"the one before, and "
            "the last one with the whole: sort them, or lengthen num_train_steps."
        )
    return points if known_to_be(lambda a, b: a == b, points[-1], total) else [*points, total]


def _one_of(**given: Any) -> tuple[str, Any]:
    """The name and the value of the one argument that is given."""
    named = [(name, value) for name, value in given.items() if value is not None]
    if len(named) > 1:
        texts = " and ".join(f"{name}={format_value(value)}" for name, value in named)
        raise ValueError(f"lr_scheduler: {texts}; write one of them.")
    return named[0] if named else ("cycles", [])


def _in_cycles(cycles: _Cycles, total: Any, name: str, value: Any) -> tuple[Schedule, Any]:
    if isinstance(value, (list, tuple)) or (name == "haps" and value is not None):
        return cycles.between(_points(value, name, total))
    if name == "cycle_length":
        length = _in_steps(validate("lr_scheduler", name, value, SHARE), total)
        if known_to_be(lambda n: n == 0, length):
            raise ValueError(
                f"lr_scheduler: cycle_length={format_value(value)} is no step of {format_value(total)}; write more."
            )
        return cycles.regular(length, total)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"lr_scheduler: cycles={format_value(value)}; write how many, 1 or more, or a list of the steps "
            f"where they end."
        )
    if known_to_be(lambda n: n < value, total):
        raise ValueError(f"lr_scheduler: cycles={value} are more than {format_value(total)} steps; write fewer.")
    if value > _MOST_CYCLES:
        raise ValueError(
            f"lr_scheduler: cycles={value}; write {_MOST_CYCLES:_} at most, or cycle_length for cycles alike."
        )
    ends = [counted(lambda xp, n, i=i: n / value * (i + 1), total) for i in range(value - 1)]
    return cycles.between(_points(ends, name, total))


@admitted
def lr_scheduler(
    num_train_steps: Length,
    learning_rate: Scalar = 6e-4,
    min_lr_ratio: Scalar = 0.1,
    warmup: Share = 0.01,
    decay: Share | None = None,
    rewarmup: Share = 0.0,
    cooldown: Share | None = None,
    cycle_length: Any = None,
    cycles: Any = None,
    lr_schedule: Any = "cosine",
    haps: Any = None,
    override_lr: Scalar | None = None,
    peer_exact: bool = False,
) -> Schedule:
    """A warmup, a plateau and a decay, in one cycle or in several.

    Formula: in each cycle of n steps a line up to the rate in `warmup` steps (in later cycles from the end of the one
    before, in `rewarmup` steps), the rate itself, and in the last `decay` steps by `lr_schedule`, with
    `min = rate min_lr_ratio`, D = decay steps, W = warmup steps and t counted from where the decay begins:
      constant: the rate.
      cosine, linear: from the rate to min; `{"type": "cosine", "exponent": 1}` is a power of the cosine.
      inv_sqrt: `rate min(1, sqrt(timescale / (t + W)))`, not below min; `{"type": ..., "timescale": 10000}`.
      inv: `rate / (1 + (1 / min_lr_ratio - 1) t / D)`, not below min.
      {"type": "polynomial", "power": 2}: from the rate to min by `(1 - t / D)^power`.
      {"type": "inv_sqrt_decay", "decay_constant": 28.6}: `rate / sqrt(1 + decay_constant t / D)`, not below min.
      {"type": "power", "batch_size": B, "seq_length": S, "a": 4.6, "b": -0.51}: `min(rate, B a (t B S)^b)`.

    Levanter is wrong in three places. Its `inv` has the value of its step 1 at its step 0 too, and so skips the peak.
    Where `cycle_length` does not divide the whole it says that the last cycle will be shorter, and makes it longer. And
    "power" counts tokens in 32 bits: beyond 2**31 of them its rate is NaN, which `peer_exact` does not copy.

    Args:
      num_train_steps: the horizon, above 0.
      learning_rate: the rate.
      min_lr_ratio: the least rate over the rate.
      warmup, decay, rewarmup: shares of a cycle, up to 1, or whole numbers of steps; a 1 is all of it. Without a decay
        all that is left after the warmup. A share that is whole but for its rounding is whole: 0.29 of 100 is 29 (in
        Levanter 28).
      cooldown: a share of the horizon or steps, of a last line to min (Levanter calls it deprecated).
      cycle_length: the length of a cycle, a share or steps, or a list of the lengths of all.
      cycles: how many (an integer, which is structure), or a list of the steps where they end.
      lr_schedule: one of the first five names, or a dict with a type and its numbers.
      haps: as a list of cycles (Levanter calls it deprecated).
      override_lr: a rate in the place of learning_rate.
      peer_exact: whether inv and cycle_length are as Levanter's are.

    Errors: ValueError for an unknown lr_schedule, a share above 1 that is no whole number, more than one of
    cycle_length, cycles and haps, and ends of cycles that are not sorted or lie beyond the horizon.

    Example:
      >>> from jaxsched.compat.others import levanter
      >>> s = levanter.lr_scheduler(8, learning_rate=1.0, min_lr_ratio=0.5, warmup=2, lr_schedule="linear", cycles=2)
      >>> [round(float(v), 6) for v in s.table(9)]
      [0.0, 0.5, 1.0, 0.75, 1.0, 0.875, 0.75, 0.625, 0.5]

    Source: Levanter, OptimizerConfig.lr_scheduler (in marin-community/marin, 2026).
    """
    rate = learning_rate if override_lr is None else override_lr
    low = rate * min_lr_ratio
    shared = _Cycles(rate, low, warmup, rewarmup, decay, lr_schedule, peer_exact)
    after = 0 if cooldown is None else _in_steps(cooldown, num_train_steps)
    total = num_train_steps - after
    name, value = _one_of(cycle_length=cycle_length, cycles=cycles, haps=haps)
    schedule, end_value = _in_cycles(shared, total, name, value)
    if cooldown is None:
        return schedule
    return schedule.then(Linear(end_value, choose(after > 0, low, end_value), after), at=total)
