"""OLMo-core: its schedulers, in steps or in tokens.

Its trainer counts a step before it sets the rate of it, so that the first update has the rate of step 1 and the last
one that of `max_steps`: `s(t)` is its `get_lr(lr, t + 1, max_steps)`. With `units="tokens"` the clock counts tokens:
`s(n)` is the rate after n tokens, those of the update among them, and all lengths (and `max_steps`) are tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from ..._errors import format_value
from ...fields import Length, NonNegative, Positive, Scalar, Steps, Unit
from ...schedules.base import Constant, Schedule
from ...schedules.decays import InverseSqrtDecay, PowerDecay
from ...schedules.ramps import Exponential, Linear, Ramp
from ..peer import admitted, known
from ._shared import EndlessLine, counted, known_to_be

Units: TypeAlias = Literal["steps", "tokens"]
Shape: TypeAlias = Literal["linear", "cosine"]


def _on_clock(schedule: Schedule, units: str) -> Schedule:
    return schedule.shift(-1) if units == "steps" else schedule


def _length(owner: str, name: str, length: Any, old: Any, fraction: Any, max_steps: Any) -> Any:
    """A length that is given in steps, under its name or its older one, or as a fraction of the horizon."""
    given = {name: length, f"{name}_steps": old, f"{name}_fraction": fraction}
    named = [f"{key}={format_value(value)}" for key, value in given.items() if value is not None]
    if len(named) != 1:
        hint = f", and {name}_fraction=None where it has a default" if name == "decay" else ""
        raise ValueError(
            f"{owner}: {' and '.join(named) or f'no {name}'}; write either {name} or {name}_fraction{hint}."
        )
    if fraction is None:
        return length if old is None else old
    if max_steps is None:
        raise ValueError(f"{owner}: {named[0]} is a share of the horizon; write max_steps too.")
    return counted(lambda xp, share, total: share * total, fraction, max_steps, rounding="round")


def _horizon(owner: str, max_steps: Any, t_max: Any = None) -> Any:
    if t_max is None and max_steps is None:
        raise ValueError(f"{owner}: max_steps=None; write the trainer's max_steps (or its max_tokens).")
    return max_steps if t_max is None else t_max


def _refuse_order(owner: str, name: str, low: Any, peak_name: str, peak: Any) -> None:
    if known_to_be(lambda low, peak: (low < 0) | (low >= peak), low, peak):
        raise ValueError(
            f"{owner}: {name}={format_value(low)}; write 0 or more, and less than {peak_name}={format_value(peak)}."
        )


def _refuse_long(owner: str, what: str, length: Any, max_steps: Any) -> None:
    if known_to_be(lambda n, most: n > most, length, max_steps):
        raise ValueError(
            f"{owner}: {what} of {format_value(length)} in a whole of {format_value(max_steps)}; shorten it."
        )


def _tail(owner: str, body: Schedule, max_steps: Any, decay: Any, end: Any, peer_exact: bool) -> Schedule:
    """`body`, and in the last `decay` steps a line from where it is to `end`."""
    at = max_steps - decay
    start = body(at)
    _refuse_order(owner, "decay_min_lr", end, "the rate where the decay begins", start)
    if peer_exact:
        return body.then(EndlessLine(start, end, decay), at=at)
    return body.cooldown(at=at, steps=decay, end_value=end)


@admitted
def ConstantScheduler(lr: Scalar, units: Units = "steps") -> Schedule:
    """One rate.

    Formula: `lr`.

    Args:
      lr: the rate.
      units: makes no difference here.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> float(olmo_core.ConstantScheduler(0.5)(100))
      0.5

    Source: olmo_core.optim.scheduler.ConstantScheduler (3.0.0).
    """
    return _on_clock(Constant(lr), units)


@admitted
def ConstantWithWarmup(
    lr: Scalar,
    warmup: Steps | None = None,
    warmup_steps: Steps | None = None,
    warmup_fraction: Unit | None = None,
    warmup_min_lr: NonNegative = 0.0,
    max_steps: Steps | None = None,
    units: Units = "steps",
) -> Schedule:
    """A linear warmup, and the rate from there on.

    Formula: `Linear(warmup_min_lr, lr, warmup)` at step t + 1.

    Args:
      lr: the rate.
      warmup: the length of the warmup; `warmup_steps` is its older name.
      warmup_fraction: the warmup as a share of max_steps, in the place of `warmup`.
      warmup_min_lr: where the warmup begins, below lr.
      max_steps: the trainer's horizon, for a fraction.
      units: what the clock counts, "steps" or "tokens"; see the module.

    Errors: ValueError unless one of warmup and warmup_fraction is given, and for a warmup that does not rise.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> olmo_core.ConstantWithWarmup(1.0, warmup=4).table(5).tolist()
      [0.25, 0.5, 0.75, 1.0, 1.0]

    Source: olmo_core.optim.scheduler.ConstantWithWarmup (3.0.0).
    """
    owner = "ConstantWithWarmup"
    steps = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, max_steps)
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "lr", lr)
    return _on_clock(Linear(warmup_min_lr, lr, steps), units)


@admitted
def WSD(
    lr: Scalar,
    warmup: Steps | None = None,
    warmup_steps: Steps | None = None,
    warmup_fraction: Unit | None = None,
    decay: Steps | None = None,
    decay_steps: Steps | None = None,
    decay_fraction: Unit | None = 0.1,
    warmup_min_lr: NonNegative = 0.0,
    decay_min_lr: NonNegative = 0.0,
    max_steps: Length | None = None,
    units: Units = "steps",
    peer_exact: bool = False,
) -> Schedule:
    """Warmup, plateau and decay, in straight lines.

    Formula: `Linear(warmup_min_lr, lr, warmup)`, and in the last `decay` steps `Linear(lr, decay_min_lr, decay)`, at
    step t + 1. After max_steps decay_min_lr holds; in OLMo-core the line goes on, below 0.

    Args:
      lr, warmup, warmup_steps, warmup_fraction, warmup_min_lr, units: as in `ConstantWithWarmup`.
      decay: the length of the decay, with `decay_fraction=None`; `decay_steps` is its older name.
      decay_fraction: the decay as a share of max_steps.
      decay_min_lr: the value at step max_steps, below lr.
      max_steps: the trainer's horizon.
      peer_exact: whether the line goes on after its end, as OLMo-core's does.

    Errors: ValueError unless one of each length and its fraction is given, and for phases longer than the whole.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.WSD(1.0, warmup=2, decay=2, decay_fraction=None, max_steps=6)
      >>> s.table(7).tolist()
      [0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]

    Source: olmo_core.optim.scheduler.WSD (3.0.0).
    """
    owner = "WSD"
    total = _horizon(owner, max_steps)
    up = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, total)
    down = _length(owner, "decay", decay, decay_steps, decay_fraction, total)
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "lr", lr)
    _refuse_order(owner, "decay_min_lr", decay_min_lr, "lr", lr)
    _refuse_long(owner, "a warmup and a decay", up + down, total)
    line = EndlessLine if peer_exact else Linear
    return _on_clock(Linear(warmup_min_lr, lr, up).then(line(lr, decay_min_lr, down), at=total - down), units)


@admitted
def PowerLR(
    lr: Scalar,
    b: Scalar = -0.51,
    warmup: Length | None = None,
    warmup_steps: Length | None = None,
    warmup_fraction: Unit | None = None,
    warmup_min_lr: NonNegative = 0.0,
    decay: Steps | None = None,
    decay_steps: Steps | None = None,
    decay_fraction: Unit | None = 0.1,
    decay_min_lr: NonNegative = 0.0,
    max_steps: Length | None = None,
    units: Units = "steps",
    peer_exact: bool = False,
) -> Schedule:
    """A linear warmup, a power of time, and a line down at the end.

    Formula: `Linear(warmup_min_lr, lr, warmup)`, then `lr (n / warmup)^b` at step n = t + 1, and in the last `decay`
    steps a line from there to decay_min_lr, which holds; in OLMo-core the line goes on, below 0.

    Args:
      lr, warmup_min_lr, units: as in `ConstantWithWarmup`.
      b: the exponent, below 0.
      warmup, warmup_steps, warmup_fraction: as in `ConstantWithWarmup`, but above 0.
      decay, decay_steps, decay_fraction, decay_min_lr, max_steps, peer_exact: as in `WSD`.

    Errors: ValueError for `b >= 0`, a warmup of 0, and else as in `WSD`.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.PowerLR(1.0, b=-0.5, warmup=4, decay=2, decay_fraction=None, max_steps=18)
      >>> [round(float(s(t)), 6) for t in (1, 3, 15, 16, 17)]
      [0.5, 1.0, 0.5, 0.25, 0.0]

    Source: olmo_core.optim.scheduler.PowerLR (3.0.0).
    """
    owner = "PowerLR"
    if known_to_be(lambda b: b >= 0, b):
        raise ValueError(f"{owner}: b={format_value(b)}; a power that falls has an exponent below 0.")
    total = _horizon(owner, max_steps)
    up = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, total)
    down = _length(owner, "decay", decay, decay_steps, decay_fraction, total)
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "lr", lr)
    _refuse_long(owner, "a warmup and a decay", up + down, total)
    if known_to_be(lambda n: n == 0, up):
        raise ValueError(f"{owner}: a warmup of 0; the power counts in units of the warmup: write 1 or more.")
    body = Linear(warmup_min_lr, lr, up).then(PowerDecay(lr, -b, up), at=up)
    return _on_clock(_tail(owner, body, total, down, decay_min_lr, peer_exact), units)


@admitted
def LinearWithWarmup(
    lr: Scalar,
    alpha_f: Scalar = 0.1,
    t_max: Length | None = None,
    warmup: Steps | None = None,
    warmup_steps: Steps | None = None,
    warmup_fraction: Unit | None = None,
    warmup_min_lr: NonNegative = 0.0,
    max_steps: Length | None = None,
    units: Units = "steps",
) -> Schedule:
    """A linear warmup, and a line down.

    Formula: `Linear(warmup_min_lr, lr, warmup)`, then `Linear(lr, alpha_f lr, t_max - warmup)`, at step t + 1.

    Args:
      lr, warmup, warmup_steps, warmup_fraction, warmup_min_lr, units: as in `ConstantWithWarmup`.
      alpha_f: the last rate over lr.
      t_max: the horizon; None: max_steps.
      max_steps: the trainer's horizon.

    Errors: ValueError without a horizon, for a warmup longer than it, and else as in `ConstantWithWarmup`.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> olmo_core.LinearWithWarmup(1.0, alpha_f=0.0, warmup=2, max_steps=4).table(5).tolist()
      [0.5, 1.0, 0.5, 0.0, 0.0]

    Source: olmo_core.optim.scheduler.LinearWithWarmup (3.0.0).
    """
    owner = "LinearWithWarmup"
    total = _horizon(owner, max_steps, t_max)
    up = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, total)
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "lr", lr)
    _refuse_long(owner, "a warmup", up, total)
    return _on_clock(Linear(warmup_min_lr, lr, up).then(Linear(lr, alpha_f * lr, total - up), at=up), units)


@admitted
def InvSqrtWithWarmup(
    lr: Scalar,
    alpha_f: Scalar = 0.1,
    warmup: Length | None = None,
    warmup_steps: Length | None = None,
    warmup_fraction: Unit | None = None,
    warmup_min_lr: NonNegative = 0.0,
    max_steps: Steps | None = None,
    units: Units = "steps",
) -> Schedule:
    """A linear warmup, then decay with the inverse square root of time.

    Formula: `Linear(warmup_min_lr, lr, warmup)`, then `lr (alpha_f + (1 - alpha_f) sqrt(warmup / n))`, n = t + 1.

    Args:
      lr, warmup_min_lr, max_steps, units: as in `ConstantWithWarmup`.
      alpha_f: the rate that it never reaches, over lr.
      warmup, warmup_steps, warmup_fraction: as in `ConstantWithWarmup`, but above 0.

    Errors: ValueError for a warmup of 0, and else as in `ConstantWithWarmup`.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.InvSqrtWithWarmup(1.0, alpha_f=0.0, warmup=4)
      >>> [round(float(s(t)), 6) for t in (1, 3, 15)]
      [0.5, 1.0, 0.5]

    Source: olmo_core.optim.scheduler.InvSqrtWithWarmup (3.0.0).
    """
    owner = "InvSqrtWithWarmup"
    up = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, max_steps)
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "lr", lr)
    if known_to_be(lambda n: n == 0, up):
        raise ValueError(f"{owner}: a warmup of 0; the decay counts in units of the warmup: write 1 or more.")
    down = InverseSqrtDecay((1 - alpha_f) * lr, up) + alpha_f * lr
    return _on_clock(Linear(warmup_min_lr, lr, up).then(down, at=up), units)


@admitted
def CosWithWarmup(
    lr: Scalar,
    warmup: Steps | None = None,
    warmup_steps: Steps | None = None,
    warmup_fraction: Unit | None = None,
    alpha_f: Scalar = 0.1,
    t_max: Length | None = None,
    warmup_min_lr: NonNegative = 0.0,
    max_steps: Length | None = None,
    units: Units = "steps",
) -> Schedule:
    """A linear warmup, and half a cosine down.

    Formula: `Linear(warmup_min_lr, lr, warmup)`, then `Cosine(lr, alpha_f lr, t_max - warmup)`, at step t + 1.

    Args:
      lr, warmup, warmup_steps, warmup_fraction, warmup_min_lr, units: as in `ConstantWithWarmup`.
      alpha_f, t_max, max_steps: as in `LinearWithWarmup`.

    Errors: as in `LinearWithWarmup`.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.CosWithWarmup(1.0, alpha_f=0.0, warmup=2, max_steps=4)
      >>> [round(float(v), 6) for v in s.table(5)]
      [0.5, 1.0, 0.5, 0.0, 0.0]

    Source: olmo_core.optim.scheduler.CosWithWarmup (3.0.0).
    """
    owner = "CosWithWarmup"
    total = _horizon(owner, max_steps, t_max)
    up = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, total)
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "lr", lr)
    _refuse_long(owner, "a warmup", up, total)
    down = Ramp(lr, alpha_f * lr, total - up, shape="cosine")
    return _on_clock(Linear(warmup_min_lr, lr, up).then(down, at=up), units)


@admitted
def HalfCosWithWarmup(
    lr: Scalar,
    warmup: Steps | None = None,
    warmup_steps: Steps | None = None,
    warmup_fraction: Unit | None = None,
    alpha_f: Scalar = 0.1,
    t_max: Length | None = None,
    warmup_min_lr: NonNegative = 0.0,
    max_steps: Length | None = None,
    units: Units = "steps",
) -> Schedule:
    """A linear warmup to the middle of half a cosine, and its second half.

    Formula: `Linear(warmup_min_lr, middle, warmup)` with `middle = (1 + alpha_f) lr / 2`, then the second half of
    `Cosine(lr, alpha_f lr, 2 (t_max - warmup))`, at step t + 1.

    Args:
      lr: the rate at the top of the whole cosine.
      warmup, warmup_steps, warmup_fraction, warmup_min_lr, units: as in `ConstantWithWarmup`.
      alpha_f, t_max, max_steps: as in `LinearWithWarmup`.

    Errors: as in `LinearWithWarmup`.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.HalfCosWithWarmup(1.0, alpha_f=0.0, warmup=2, max_steps=4)
      >>> [round(float(v), 4) for v in s.table(5)]
      [0.25, 0.5, 0.1464, 0.0, 0.0]

    Source: olmo_core.optim.scheduler.HalfCosWithWarmup (3.0.0).
    """
    owner = "HalfCosWithWarmup"
    total = _horizon(owner, max_steps, t_max)
    up = _length(owner, "warmup", warmup, warmup_steps, warmup_fraction, total)
    middle, end = (1 + alpha_f) * lr / 2, alpha_f * lr
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "the middle", middle)
    _refuse_long(owner, "a warmup", up, total)
    half = total - up
    down = Ramp(lr, end, 2 * half, shape="cosine").shift(-half)
    return _on_clock(Linear(warmup_min_lr, middle, up).then(down, at=up), units)


@admitted
def CosWithWarmupAndLinearDecay(
    lr: Scalar,
    warmup: Steps | None = None,
    warmup_steps: Steps | None = None,
    warmup_fraction: Unit | None = None,
    alpha_f: Scalar = 0.1,
    t_max: Length | None = None,
    warmup_min_lr: NonNegative = 0.0,
    decay: Steps | None = None,
    decay_steps: Steps | None = None,
    decay_fraction: Unit | None = 0.1,
    decay_min_lr: NonNegative = 0.0,
    max_steps: Length | None = None,
    units: Units = "steps",
    peer_exact: bool = False,
) -> Schedule:
    """A linear warmup and half a cosine, cut short by a line down.

    Formula: `CosWithWarmup`, and in the last `decay` of max_steps a line from there to decay_min_lr, which holds; in
    OLMo-core the line goes on, below 0.

    Args:
      lr, warmup, warmup_steps, warmup_fraction, alpha_f, t_max, warmup_min_lr, units: as in `CosWithWarmup`.
      decay, decay_steps, decay_fraction, decay_min_lr, max_steps, peer_exact: as in `WSD`.

    Errors: as in `CosWithWarmup` and `WSD`, and for a line that does not fall.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.CosWithWarmupAndLinearDecay(1.0, warmup=0, alpha_f=0.0, decay_fraction=0.5, max_steps=4)
      >>> [round(float(v), 4) for v in s.table(5)]
      [0.8536, 0.5, 0.25, 0.0, 0.0]

    Source: olmo_core.optim.scheduler.CosWithWarmupAndLinearDecay (3.0.0).
    """
    owner = "CosWithWarmupAndLinearDecay"
    total = _horizon(owner, max_steps)
    down = _length(owner, "decay", decay, decay_steps, decay_fraction, total)
    _refuse_long(owner, "a decay", down, total)
    body = CosWithWarmup(
        lr, warmup, warmup_steps, warmup_fraction, alpha_f, t_max, warmup_min_lr, max_steps, units="tokens"
    )
    return _on_clock(_tail(owner, body, total, down, decay_min_lr, peer_exact), units)


@admitted
def ExponentialScheduler(
    lr: Positive, lr_min: Positive = 1e-9, max_steps: Length | None = None, units: Units = "steps"
) -> Schedule:
    """A constant factor up to the rate, as in a range test.

    Formula: `Exponential(lr_min, lr, max_steps)` at step t + 1.

    Args:
      lr: the value at step max_steps and after it, above 0.
      lr_min: the value at step 0, above 0.
      max_steps: the trainer's horizon.
      units: as in `ConstantWithWarmup`.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.ExponentialScheduler(1.0, lr_min=1e-4, max_steps=4)
      >>> [round(float(v), 6) for v in s.table(5)]
      [0.001, 0.01, 0.1, 1.0, 1.0]

    Source: olmo_core.optim.scheduler.ExponentialScheduler (3.0.0).
    """
    return _on_clock(Exponential(lr_min, lr, _horizon("ExponentialScheduler", max_steps)), units)


@admitted
def WSDS(
    lr: Scalar,
    period_lengths: tuple[Length, ...],
    period_lr_multipliers: tuple[Positive, ...] | None = None,
    warmup: Steps | None = None,
    warmup_fraction: Unit | None = None,
    decay: Steps | None = None,
    decay_fraction: Unit | None = None,
    warmup_min_lr: NonNegative = 0.0,
    decay_min_lr: NonNegative = 0.0,
    units: Units = "steps",
) -> Schedule:
    """A warmup, and periods that each end in a decay, back up at once: WSD-S, for training that goes on and on.

    Formula: at step t + 1, with the peak `lr period_lr_multipliers[i]` in period i:
    `Linear(warmup_min_lr, peak, warmup)` in the first one, the peak, and in the last `decay` steps of each one
    `Linear(peak, decay_min_lr, decay)`. The last step of a period, its end, has decay_min_lr, and so has all that comes
    after the last period.

    Args:
      lr: the rate.
      period_lengths: a list of lengths above 0, the warmup included in the first one.
      period_lr_multipliers: a factor above 0 for each, or None.
      warmup, warmup_fraction: a length, or a share of the first period.
      decay, decay_fraction: a length, or a share of each period; where it is 0 only the end of a period has
        decay_min_lr (OLMo-core divides by 0 there).
      warmup_min_lr, decay_min_lr: below the peaks.
      units: as in `ConstantWithWarmup`.

    Errors: ValueError unless one of each length and its fraction is given, and for phases longer than their period.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> s = olmo_core.WSDS(1.0, period_lengths=[4, 4], warmup=2, decay=2)
      >>> s.table(9).tolist()
      [0.5, 1.0, 0.5, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0]

    Source: olmo_core.optim.scheduler.WSDS (3.0.0); Wen et al. (2410.05192).
    """
    owner = "WSDS"
    if not period_lengths:
        raise ValueError(f"{owner}: period_lengths=[]; write at least one length.")
    factors = (1.0,) * len(period_lengths) if period_lr_multipliers is None else period_lr_multipliers
    if len(factors) != len(period_lengths):
        raise ValueError(f"{owner}: {len(period_lengths)} period_lengths and {len(factors)} period_lr_multipliers.")
    peaks = [lr * factor for factor in factors]
    up = _length(owner, "warmup", warmup, None, warmup_fraction, period_lengths[0])
    downs = [_length(owner, "decay", decay, None, decay_fraction, length) for length in period_lengths]
    _refuse_order(owner, "warmup_min_lr", warmup_min_lr, "the peak", peaks[0])
    _refuse_long(owner, "a warmup and a decay", up + downs[0], period_lengths[0])
    schedule: Schedule = Linear(warmup_min_lr, peaks[0], up)
    ends: list[Any] = []
    for peak, length, down in zip(peaks, period_lengths, downs, strict=True):
        _refuse_long(owner, "a decay", down, length)
        _refuse_order(owner, "decay_min_lr", decay_min_lr, "the peak", peak)
        period = (Constant(peak) if ends else schedule).then(Linear(peak, decay_min_lr, down), at=length - down)
        # The end of a period is its last step: the next one begins with its own step 1.
        schedule = schedule.then(period.shift(-1), at=ends[-1] + 1) if ends else period
        ends.append(length + (ends[-1] if ends else 0))
    return _on_clock(schedule, units)


# --- stages, and decays from where a schedule is ---------------------------------------------------------------------


def _resolved(owner: str, name: str, lr: Any, value: Any, fraction: Any, default: Any = None) -> Any:
    """A rate that is given as such or as a fraction of `lr`, or neither where there is a default."""
    if (value is not None and fraction is not None) or (value is None and fraction is None and default is None):
        raise ValueError(
            f"{owner}: {name}={format_value(value)} and {name}_fraction={format_value(fraction)}; write one of the two."
        )
    if fraction is not None:
        return lr * fraction
    return default if value is None else value


@admitted
def ComposableSchedulerStage(
    duration: Length,
    shape: Shape = "linear",
    start_lr: NonNegative | None = None,
    start_lr_fraction: NonNegative | None = None,
    end_lr: NonNegative | None = None,
    end_lr_fraction: NonNegative | None = None,
) -> dict[str, Any]:
    """A stage of a `ComposableScheduler`, as the dict of its arguments.

    Formula: a ramp of `shape` from the start to the end in `duration`; a `_fraction` is one of the scheduler's rate.

    Args:
      duration: its length, above 0.
      shape: "linear" or "cosine".
      start_lr, start_lr_fraction: where it starts; neither: where the stage before it ends.
      end_lr, end_lr_fraction: where it ends, one of the two.

    Errors: ValueError for two starts, and unless there is one end.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> olmo_core.ComposableSchedulerStage(10, end_lr=0.5)["shape"]
      'linear'

    Source: olmo_core.optim.scheduler.ComposableSchedulerStage (3.0.0).
    """
    owner = "ComposableSchedulerStage"
    _resolved(owner, "start_lr", 1.0, start_lr, start_lr_fraction, default=1.0)
    _resolved(owner, "end_lr", 1.0, end_lr, end_lr_fraction)
    return {
        "duration": duration,
        "shape": shape,
        "start_lr": start_lr,
        "start_lr_fraction": start_lr_fraction,
        "end_lr": end_lr,
        "end_lr_fraction": end_lr_fraction,
    }


@admitted
def OverrideDecay(
    start: Steps,
    duration: Length,
    shape: Shape = "linear",
    end_lr: NonNegative | None = None,
    end_lr_fraction: NonNegative | None = None,
) -> dict[str, Any]:
    """A decay from a checkpoint: from `start` on, whatever the schedule would have done; as the dict of its arguments.

    Formula: `s.cooldown(at=start, steps=duration, end_value=end, shape=shape)`.

    Args:
      start: the step where it begins, 0 or more.
      duration: its length, above 0.
      shape: "linear" or "cosine".
      end_lr, end_lr_fraction: where it ends: a rate, or a fraction of the scheduler's rate.

    Errors: ValueError unless there is one end.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> olmo_core.OverrideDecay(start=10, duration=5, end_lr=0.0)["start"]
      10

    Source: olmo_core.optim.scheduler.OverrideDecay (3.0.0).
    """
    _resolved("OverrideDecay", "end_lr", 1.0, end_lr, end_lr_fraction)
    ends = {"end_lr": end_lr, "end_lr_fraction": end_lr_fraction}
    return {"start": start, "duration": duration, "shape": shape, **ends}


def _overridden(schedule: Schedule, lr: Any, override_decay: Mapping[str, Any] | None) -> Schedule:
    if override_decay is None:
        return schedule
    o = OverrideDecay(**override_decay)
    end = _resolved("OverrideDecay", "end_lr", lr, o["end_lr"], o["end_lr_fraction"])
    return schedule.cooldown(at=o["start"], steps=o["duration"], end_value=end, shape=o["shape"])


@admitted
def ComposableScheduler(lr: Scalar, stages: Any, override_decay: Any = None, units: Units = "steps") -> Schedule:
    """Ramps one after the other, whatever the horizon of the trainer.

    Formula: the stages in turn, at step t + 1, and the last value from their end on.

    Args:
      lr: the rate.
      stages: a list of `ComposableSchedulerStage`s, or of dicts of their arguments.
      override_decay: an `OverrideDecay`, a dict of its arguments, or None.
      units: as in `ConstantWithWarmup`.

    Errors: ValueError for no stage.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> stages = [dict(duration=2, start_lr=0.0, end_lr_fraction=1.0), dict(duration=2, end_lr=0.5)]
      >>> olmo_core.ComposableScheduler(1.0, stages).table(5).tolist()
      [0.5, 1.0, 0.75, 0.5, 0.5]

    Source: olmo_core.optim.scheduler.ComposableScheduler (3.0.0).
    """
    if not isinstance(stages, (list, tuple)) or not stages:
        raise ValueError(f"ComposableScheduler: stages={format_value(stages)}; write a list of at least one stage.")
    schedule, start, last = None, 0, lr
    for settings in stages:
        stage = ComposableSchedulerStage(**settings)
        first = _resolved("stage", "start_lr", lr, stage["start_lr"], stage["start_lr_fraction"], default=last)
        last = _resolved("stage", "end_lr", lr, stage["end_lr"], stage["end_lr_fraction"])
        ramp = Ramp(first, last, stage["duration"], shape=stage["shape"])
        schedule = ramp if schedule is None else schedule.then(ramp, at=start)
        start = start + stage["duration"]
    assert schedule is not None  # there is at least one stage
    return _on_clock(_overridden(schedule, lr, override_decay), units)


_TYPES = {
    "constant": ConstantScheduler,
    "constant_with_warmup": ConstantWithWarmup,
    "wsd": WSD,
    "power_lr": PowerLR,
    "linear_with_warmup": LinearWithWarmup,
    "inv_sqrt_with_warmup": InvSqrtWithWarmup,
    "cos_with_warmup": CosWithWarmup,
    "half_cos_with_warmup": HalfCosWithWarmup,
    "cos_with_warmup_and_linear_decay": CosWithWarmupAndLinearDecay,
    "composable": ComposableScheduler,
    "wsds": WSDS,
    "exponential": ExponentialScheduler,
}


def _part(settings: Any, lr: Any, max_steps: Any) -> Schedule:
    """A scheduler of a sequence, whose rate and horizon the sequence says."""
    settings = dict(settings)
    make: Any = _TYPES[known("SequentialScheduler", "type", settings.pop("type", None), _TYPES)]
    for name in ("lr", "max_steps", "units"):
        if name in settings:
            raise ValueError(
                f"SequentialScheduler: {name}={format_value(settings[name])}; the sequence itself says its {name}."
            )
    horizon = {"max_steps": max_steps} if "max_steps" in inspect.signature(make).parameters else {}
    return make(lr, units="tokens", **horizon, **settings)


@admitted
def SequentialScheduler(
    lr: Scalar,
    schedulers: Any,
    schedulers_max: tuple[Length, ...] | None = None,
    schedulers_max_steps: tuple[Length, ...] | None = None,
    override_decay: Any = None,
    max_steps: Length | None = None,
    units: Units = "steps",
) -> Schedule:
    """Schedulers one after the other; the last rate of one is the rate of the next.

    Formula: at step t + 1, scheduler i for `schedulers_max[i]` steps, its last one included, then the next one, whose
    clock begins with its own step 1; the last one for what is left of max_steps.

    Args:
      lr: the rate of the first one.
      schedulers: a list of dicts: a "type" ("wsd", "cos_with_warmup", "constant_with_warmup", ...) and the arguments of
        the function of that name, but lr, max_steps and units.
      schedulers_max: the length of each but the last; `schedulers_max_steps` is its older name.
      override_decay: as in `ComposableScheduler`.
      max_steps: the trainer's horizon.
      units: as in `ConstantWithWarmup`.

    Errors: ValueError for an unknown type, wrong counts, and a horizon that leaves nothing for the last one.

    Example:
      >>> from jaxsched.compat.others import olmo_core
      >>> parts = [dict(type="linear_with_warmup", warmup=0, alpha_f=0.5), dict(type="constant")]
      >>> olmo_core.SequentialScheduler(1.0, parts, schedulers_max=[2], max_steps=4).table(4).tolist()
      [0.75, 0.5, 0.5, 0.5]

    Source: olmo_core.optim.scheduler.SequentialScheduler (3.0.0).
    """
    owner = "SequentialScheduler"
    if not isinstance(schedulers, (list, tuple)) or not schedulers:
        raise ValueError(f"{owner}: schedulers={format_value(schedulers)}; write a list of at least one.")
    if (schedulers_max is None) == (schedulers_max_steps is None):
        raise ValueError(f"{owner}: write schedulers_max, the lengths of all schedulers but the last.")
    lengths: Any = schedulers_max_steps if schedulers_max is None else schedulers_max
    lengths = lengths[: len(schedulers) - 1] if len(lengths) == len(schedulers) else lengths
    if len(lengths) != len(schedulers) - 1:
        raise ValueError(
            f"{owner}: {len(schedulers)} schedulers and {len(lengths)} lengths; write one for each but the last."
        )
    left, rate, start, schedule = _horizon(owner, max_steps), lr, 0, None
    for settings, length in zip(schedulers, (*lengths, None), strict=True):
        if known_to_be(lambda n: n <= 0, left):
            raise ValueError(f"{owner}: max_steps={format_value(max_steps)} leaves nothing for the last scheduler.")
        part = _part(settings, rate, left if length is None else length)
        schedule = part if schedule is None else schedule.then(part.shift(-1), at=start + 1)
        if length is not None:
            rate, left, start = part(length), left - length, start + length
    assert schedule is not None  # there is at least one
    return _on_clock(_overridden(schedule, lr, override_decay), units)
