"""timm.scheduler: the classes and factories by their own names and arguments, with `lr` in the place of the optimizer.

The clock of a schedule counts what its lengths count: epochs with `t_in_epochs=True`, where `.per_epoch(steps)` makes
it count updates, and updates with `t_in_epochs=False`. `s(t)` is the rate in force in epoch (update) t, as timm's
training script makes it: before the first `step` that is the optimizer's own rate, or `warmup_lr_init` if there is a
warmup, whatever the formula says of t = 0; from then on it is what `step(t)` sets. `initialize`, which is about the
optimizer's groups, is left out.

The noise is drawn by JAX and not by torch, so its numbers are other ones: the rate times `1 + n`, where n is normal
with the standard deviation `noise_std`, drawn again until `|n| < noise_pct`, and again for each t of `noise_range_t`.
The distribution is timm's; seeds that are neighbours do not share their draws, as they do in timm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value, is_traced
from ..fields import (
    Count,
    Domain,
    Growth,
    Integer,
    Length,
    NonNegative,
    Offset,
    Positive,
    Scalar,
    Steps,
    StepTable,
    reject_if,
    validate,
)
from ..optim.plateau import reduce_on_plateau
from ..schedules import shapes
from ..schedules.base import Constant, Schedule
from ..schedules.decays import InverseSqrtDecay, PowerDecay, StepDecay
from ..schedules.pieces import MultiStepDecay
from ..schedules.ramps import KDecay, Linear, Ramp, Tanh
from ..schedules.shapes import Step
from .peer import Peer, admitted, known, on_host

NoiseRange: TypeAlias = Offset | list[Offset] | tuple[Offset, Offset] | None
_NOISE = {"noise_pct": 0.67, "noise_std": 1.0, "noise_seed": 42}


# --- what the schedulers share ---------------------------------------------------------------------------------------


class _Within(Schedule):
    """`inside` from step `start` to the step before `stop`, `outside` elsewhere, both on the same clock."""

    inside: Schedule
    outside: Schedule
    start: Offset
    stop: Offset | None

    def value(self, step: Step) -> Array:
        on = shapes.reached(step, self.start)
        on = on if self.stop is None else on & ~shapes.reached(step, self.stop)
        return jnp.where(on, self.inside.value(step), self.outside.value(step))


class _Cycles(Schedule):
    """The cycles of a cosine, tanh or polynomial scheduler, without its warmup: cycle i falls from `lr cycle_decay^i`
    to `lr_min`, which holds after the last one."""

    scheduler: Schedule

    def value(self, step: Step) -> Array:
        s: Any = self.scheduler
        index, clock, length = _cycle(step, s.t_initial, s.cycle_mul, s.peer_exact)
        last = s.cycle_limit - 1
        top = s.lr * shapes.power(s.cycle_decay, shapes.ratio(jnp.minimum(index, last)))
        top = top if s.peer_exact else jnp.maximum(top, s.lr_min)
        return jnp.where(index <= last, s.cycle(top, length).value(clock), s.lr_min)


def _cycle(step: Step, period: Any, mult: Any, peer_exact: bool) -> tuple[Array, Step, Any]:
    """The index of the cycle that `step` is in, its own clock, and its length on that clock."""
    if not peer_exact and all(map(shapes.is_integer, (step, period, mult))):
        return *shapes.cycle(step, period, mult), period
    # In steps and not in shares of the first cycle, whose rounding would show where a decay comes near 0.
    t, period, ratio = shapes.floating(step), shapes.floating(period), shapes.floating(mult)
    index = _peer_index(step, period, mult) if peer_exact else shapes.growing_index(t, period, ratio)
    growth, before = shapes.powers(ratio, index)
    return index, jnp.maximum(t - period * before, 0), period * growth


def _peer_index(step: Step, period: Any, mult: Any) -> Array:
    """The index by timm's logarithm. Which restarts it misses is decided by the last bit of a double, on the host."""

    def index(t: float, period: float, mult: float) -> int:
        return math.floor(math.log(1 - t / period * (1 - mult), mult) if mult != 1 else t // period)

    return on_host(index, step, period, mult)


def _warmed(s: Any, body: Schedule, target: Any, prefix: bool) -> Schedule:
    """The warmup to `target` and then `body`, whose clock starts after the warmup if `prefix` and runs from the very
    start if not; under the noise. Before the first `step`, at t = 0, timm has not asked the body yet."""
    start = jnp.maximum(s.warmup_t, 1)
    up = Linear(s.warmup_lr_init, target, s.warmup_t)
    schedule = up.then(body.shift(s.warmup_t - start if prefix else -start), at=start)
    return _noisy(schedule, s.noise_range_t, 1, s.noise_std, s.noise_seed, s.noise_pct)


def _noisy(schedule: Schedule, noise_range: NoiseRange, first: Any, std: Any, seed: Any, limit: Any) -> Schedule:
    """The schedule with noise in the range, and not before step `first`."""
    if noise_range is None:
        return schedule
    start, stop = noise_range if isinstance(noise_range, (list, tuple)) else (noise_range, None)
    return _Within(schedule.noise(std, seed, limit), schedule, jnp.maximum(jnp.asarray(start), first), stop)


def _check_noise(owner: str, noise_range: Any, written: dict[str, Any]) -> None:
    if noise_range is None:
        for name, value in written.items():
            if not is_traced(value) and np.any(np.asarray(value) != _NOISE[name]):
                raise ValueError(
                    f"{owner}: {name}={format_value(value)} is ignored by timm without a range: write "
                    f"noise_range_t=0 for "
                    "noise from the start, or noise_range_t=[start, stop]."
                )
        return
    ends = noise_range if isinstance(noise_range, (list, tuple)) else [noise_range]
    if isinstance(noise_range, (list, tuple)) and len(ends) != 2:
        raise ValueError(f"{owner}: noise_range_t={format_value(noise_range)}; write a start, or a list [start, stop].")
    for end in ends:
        validate(owner, "noise_range_t", end, Domain("a number of steps", counts=True))
    if len(ends) == 2 and not any(map(is_traced, ends)) and np.any(np.asarray(ends[0]) >= np.asarray(ends[1])):
        raise ValueError(
            f"{owner}: noise_range_t={format_value(noise_range)}; timm would never apply it: write start < stop."
        )


def _check(s: Any) -> None:
    _check_noise(type(s).__name__, s.noise_range_t, {name: getattr(s, name) for name in _NOISE})


# --- the schedulers --------------------------------------------------------------------------------------------------


class CosineLRScheduler(Peer):
    """Cosines with restarts, after a linear warmup.

    Formula: `s(t) = warmup_lr_init + (lr - warmup_lr_init) t / warmup_t` for `t < warmup_t`; then, in cycle i,
    `lr_min + (top - lr_min) (1 + cos(pi u^k)) / 2` with `top = max(lr cycle_decay^i, lr_min)`, `k = k_decay` and u the
    share of the cycle, which is `t_initial cycle_mul^i` long; after `cycle_limit` cycles `lr_min`.

    Fields:
      lr: the optimizer's rate.
      t_initial: the length of the first cycle, above 0.
      lr_min: the value that each cycle comes down to, 0 or more.
      cycle_mul: the factor from one length to the next, 1 or more; an integer is exact at every step.
      cycle_decay: the factor from one peak to the next, above 0.
      cycle_limit: how many cycles, 1 or more.
      warmup_t: the length of the warmup, 0 for none.
      warmup_lr_init: where the warmup begins, 0 or more.
      warmup_prefix: whether the cycles begin after the warmup. If not, it covers their beginning: they go on as if
        there had been none, and begin below the peak that it rises to.
      t_in_epochs: whether t counts epochs; the clock counts what the lengths count either way.
      noise_range_t: where there is noise: from a step on, or a list of the first step and the one after the last.
      noise_pct: the largest noise, a share of the rate, above 0.
      noise_std: the standard deviation of the noise, before it is cut off.
      noise_seed: an integer.
      k_decay: the exponent of k-decay, above 0.
      peer_exact: whether restarts are missed where timm's logarithm is rounded down (it is asked on the host), and a
        peak that has decayed below `lr_min` rises to it.

    Errors: ValueError for noise without a range, and for an empty range.

    Example:
      >>> from jaxsched.compat import timm
      >>> s = timm.CosineLRScheduler(lr=1.0, t_initial=4, warmup_t=2, warmup_prefix=True)
      >>> [round(float(v), 4) for v in s.table(7)]
      [0.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 0.0]

    Source: timm.scheduler.CosineLRScheduler (1.0.31).
    """

    lr: Scalar
    t_initial: Length
    lr_min: NonNegative = 0.0
    cycle_mul: Growth = 1
    cycle_decay: Positive = 1.0
    cycle_limit: Count = 1
    warmup_t: Steps = 0
    warmup_lr_init: NonNegative = 0.0
    warmup_prefix: bool = False
    t_in_epochs: bool = True
    noise_range_t: NoiseRange = None
    noise_pct: Positive = 0.67
    noise_std: NonNegative = 1.0
    noise_seed: Integer = 42
    k_decay: Positive = 1.0
    peer_exact: bool = False

    def check(self) -> None:
        _check(self)

    def cycle(self, top: Any, length: Any) -> Schedule:
        """One cycle, from `top` to `lr_min` in `length`."""
        return KDecay(top, self.lr_min, length, self.k_decay)

    def build(self) -> Schedule:
        return _warmed(self, _Cycles(self), self.lr, self.warmup_prefix)


class TanhLRScheduler(Peer):
    """Falls of a hyperbolic tangent with restarts, after a linear warmup.

    Formula: as `CosineLRScheduler`, with `lr_min + (top - lr_min) (1 - tanh(lb (1 - u) + ub u)) / 2` in a cycle. It
    begins a little below its peak and jumps to `lr_min` at its end. Without `warmup_prefix` the warmup rises to where
    the cycles have come to at step `warmup_t`.

    Fields:
      lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit, warmup_t, warmup_lr_init, warmup_prefix, t_in_epochs,
        noise_range_t, noise_pct, noise_std, noise_seed, peer_exact: as in `CosineLRScheduler`.
      lb, ub: where the tangent is entered and left, `-20 <= lb < ub <= 20`.

    Errors: ValueError unless `-20 <= lb < ub <= 20`, for noise without a range, and for an empty range.

    Example:
      >>> from jaxsched.compat import timm
      >>> [round(float(v), 4) for v in timm.TanhLRScheduler(lr=1.0, t_initial=4).table(5)]
      [1.0, 0.9999, 0.982, 0.2689, 0.0]

    Source: timm.scheduler.TanhLRScheduler (1.0.31).
    """

    lr: Scalar
    t_initial: Length
    lb: Scalar = -7.0
    ub: Scalar = 3.0
    lr_min: NonNegative = 0.0
    cycle_mul: Growth = 1
    cycle_decay: Positive = 1.0
    cycle_limit: Count = 1
    warmup_t: Steps = 0
    warmup_lr_init: NonNegative = 0.0
    warmup_prefix: bool = False
    t_in_epochs: bool = True
    noise_range_t: NoiseRange = None
    noise_pct: Positive = 0.67
    noise_std: NonNegative = 1.0
    noise_seed: Integer = 42
    peer_exact: bool = False

    def check(self) -> None:
        beyond = "write -20 <= lb < ub <= 20"
        reject_if(self, lambda lb, ub: (lb >= ub) | (lb < -20) | (ub > 20), "lb", "ub", instead=beyond)
        _check(self)

    def cycle(self, top: Any, length: Any) -> Schedule:
        """One cycle: the part of the tangent between `lb` and `ub`, of the whole way from `top` to `lr_min`."""
        first, last = (top * jax.nn.sigmoid(-2 * x) + self.lr_min * jax.nn.sigmoid(2 * x) for x in (self.lb, self.ub))
        return Tanh(first, last, length, self.lb, self.ub)

    def build(self) -> Schedule:
        cycles, target = _Cycles(self), self.lr
        if not self.warmup_prefix:
            target = jnp.where(jnp.asarray(self.warmup_t) > 0, cycles(self.warmup_t), self.lr)
        return _warmed(self, cycles, target, self.warmup_prefix)


class PolyLRScheduler(Peer):
    """Polynomial falls with restarts, after a linear warmup.

    Formula: as `CosineLRScheduler`, with `lr_min + (top - lr_min) (1 - u^k)^power` in a cycle.

    Fields:
      lr, t_initial, lr_min, cycle_mul, cycle_decay, cycle_limit, warmup_t, warmup_lr_init, warmup_prefix, t_in_epochs,
        noise_range_t, noise_pct, noise_std, noise_seed, k_decay, peer_exact: as in `CosineLRScheduler`.
      power: above 0; 1 is a line, 2 falls fast at first.

    Errors: ValueError for noise without a range, and for an empty range.

    Example:
      >>> from jaxsched.compat import timm
      >>> s = timm.PolyLRScheduler(lr=1.0, t_initial=2, power=1.0, cycle_mul=2, cycle_decay=0.5, cycle_limit=2)
      >>> s.table(7).tolist()
      [1.0, 0.5, 0.5, 0.375, 0.25, 0.125, 0.0]

    Source: timm.scheduler.PolyLRScheduler (1.0.31).
    """

    lr: Scalar
    t_initial: Length
    power: Positive = 0.5
    lr_min: NonNegative = 0.0
    cycle_mul: Growth = 1
    cycle_decay: Positive = 1.0
    cycle_limit: Count = 1
    warmup_t: Steps = 0
    warmup_lr_init: NonNegative = 0.0
    warmup_prefix: bool = False
    t_in_epochs: bool = True
    noise_range_t: NoiseRange = None
    noise_pct: Positive = 0.67
    noise_std: NonNegative = 1.0
    noise_seed: Integer = 42
    k_decay: Positive = 1.0
    peer_exact: bool = False

    def check(self) -> None:
        _check(self)

    def cycle(self, top: Any, length: Any) -> Schedule:
        """One cycle, from `top` to `lr_min` in `length`."""
        return KDecay(top, self.lr_min, length, self.k_decay, "polynomial", self.power)

    def build(self) -> Schedule:
        return _warmed(self, _Cycles(self), self.lr, self.warmup_prefix)


class StepLRScheduler(Peer):
    """A factor at every `decay_t`-th step, after a linear warmup.

    Formula: the warmup of `CosineLRScheduler`; then `lr decay_rate^floor(n / decay_t)` with `n = t - warmup_t`, or
    `n = t` without `warmup_prefix`.

    Fields:
      lr, warmup_t, warmup_lr_init, warmup_prefix, t_in_epochs, noise_range_t, noise_pct, noise_std, noise_seed: as in
        `CosineLRScheduler`.
      decay_t: steps between two factors, above 0.
      decay_rate: the factor, above 0.

    Errors: ValueError for noise without a range, and for an empty range.

    Example:
      >>> from jaxsched.compat import timm
      >>> timm.StepLRScheduler(lr=1.0, decay_t=2, decay_rate=0.5, warmup_t=2).table(6).tolist()
      [0.0, 0.5, 1.0, 1.0, 0.5, 0.5]

    Source: timm.scheduler.StepLRScheduler (1.0.31).
    """

    lr: Scalar
    decay_t: Length
    decay_rate: Positive = 1.0
    warmup_t: Steps = 0
    warmup_lr_init: NonNegative = 0.0
    warmup_prefix: bool = True
    t_in_epochs: bool = True
    noise_range_t: NoiseRange = None
    noise_pct: Positive = 0.67
    noise_std: NonNegative = 1.0
    noise_seed: Integer = 42

    def check(self) -> None:
        _check(self)

    def build(self) -> Schedule:
        return _warmed(self, StepDecay(self.lr, self.decay_rate, self.decay_t), self.lr, self.warmup_prefix)


class MultiStepLRScheduler(Peer):
    """A factor one step before every milestone, after a linear warmup.

    Formula: the warmup of `CosineLRScheduler`; then `lr decay_rate^m`, where m is the number of milestones `<= n + 1`
    with `n = t - warmup_t`, or `n = t` without `warmup_prefix`. timm keeps the one step on purpose.

    Fields:
      lr, warmup_t, warmup_lr_init, warmup_prefix, t_in_epochs, noise_range_t, noise_pct, noise_std, noise_seed: as in
        `CosineLRScheduler`.
      decay_t: the milestones, each larger than the one before.
      decay_rate: the factor, above 0.

    Errors: ValueError for milestones that collide or are not sorted, for noise without a range, and for an empty range.

    Example:
      >>> from jaxsched.compat import timm
      >>> timm.MultiStepLRScheduler(lr=1.0, decay_t=[2, 4], decay_rate=0.5).table(5).tolist()
      [1.0, 0.5, 0.5, 0.25, 0.25]

    Source: timm.scheduler.MultiStepLRScheduler (1.0.31).
    """

    lr: Scalar
    decay_t: StepTable
    decay_rate: Positive = 1.0
    warmup_t: Steps = 0
    warmup_lr_init: NonNegative = 0.0
    warmup_prefix: bool = True
    t_in_epochs: bool = True
    noise_range_t: NoiseRange = None
    noise_pct: Positive = 0.67
    noise_std: NonNegative = 1.0
    noise_seed: Integer = 42

    def check(self) -> None:
        _check(self)

    def build(self) -> Schedule:
        body = MultiStepDecay(self.lr, self.decay_rate, self.decay_t).shift(-1)
        return _warmed(self, body, self.lr, self.warmup_prefix)


# --- warmup, stable, decay -------------------------------------------------------------------------------------------


class _GeometricFall(Schedule):
    """From one value to another as `ratio^u` falls from 1 to `ratio`."""

    init_value: Scalar
    end_value: Scalar
    steps: Steps
    ratio: Positive

    def value(self, step: Step) -> Array:
        late, gap = shapes.exact_progress(step, self.steps)
        rate = jnp.log(self.ratio)
        done = shapes.one_minus_exp(jnp.where(late, -gap, gap) * rate) / (1 - self.ratio)  # of the way from the end
        early = shapes.nearer(1 - done, done)
        left = -self.ratio * done
        at_end = shapes.nearer(left, 1 - left)
        position = shapes.Position(*(jnp.where(late, a, b) for a, b in zip(at_end, early, strict=True)))
        return shapes.mix(self.init_value, self.end_value, position)


class _Curve(Schedule):
    """From one value to another by a function of the share u: `end + (init - end) fn(u)`, and `init` at step 0."""

    init_value: Scalar
    end_value: Scalar
    steps: Steps
    fn: Callable[..., Any]

    def value(self, step: Step) -> Array:
        share = shapes.progress(step, self.steps).done
        factor = jnp.where(shapes.reached(0, step), 1.0, self.fn(share))
        return self.init_value * factor + self.end_value * (1 - factor)


class WSDLRScheduler(Peer):
    """A linear warmup, a stable phase, and a decay over the last `decay_t` steps (WSD).

    Formula: the warmup of `CosineLRScheduler`; then with `n = t - warmup_t` the stable rate `max(lr f(n), lr_min)`,
    where f is 1 (`constant`), `(1 + n / stable_timescale)^(-1/2)` (`rsqrt`) or
    `(1 + n / stable_timescale)^(-stable_power)` (`power`); in the last `decay_t` of `t_initial` steps
    `lr_min + (stable - lr_min) d(u)`, where d is 1 - u (`linear`), 1 - u^(1/2) (`1-sqrt`), (1 + cos(pi u)) / 2
    (`cosine`), `1 - u^decay_power` (`power`) or `(r^u - r) / (1 - r)` with `r = decay_ratio` (`exp`); `lr_min` after
    step `warmup_t + t_initial`.

    Fields:
      lr, lr_min, warmup_t, warmup_lr_init, t_in_epochs, noise_range_t, noise_pct, noise_std, noise_seed: as in
        `CosineLRScheduler`.
      t_initial: the length of the stable phase and the decay together, above 0.
      decay_t: the length of the decay, above 0.
      stable_fn: constant, rsqrt or power.
      stable_timescale: steps, above 0; None: `warmup_t`.
      stable_power: above 0.
      decay_fn: linear, 1-sqrt, cosine, power, exp, or a function of u, which is part of the structure.
      decay_power: above 0.
      decay_ratio: above 0 and below 1.

    Errors: ValueError for a decay that is longer than `t_initial`, for a timescale of 0, for an unknown name, for noise
    without a range, and for an empty range.

    Example:
      >>> from jaxsched.compat import timm
      >>> timm.WSDLRScheduler(lr=1.0, t_initial=6, decay_t=4, decay_fn="linear", warmup_t=2).table(9).tolist()
      [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]

    Source: timm.scheduler.WSDLRScheduler (1.0.31).
    """

    lr: Scalar
    t_initial: Length
    decay_t: Length
    lr_min: NonNegative = 0.0
    stable_fn: Literal["constant", "rsqrt", "power"] = "constant"
    stable_timescale: Length | None = None
    stable_power: Positive = 0.5
    decay_fn: Callable[..., Any] = "1-sqrt"  # type: ignore[assignment]  # or one of _DECAYS
    decay_power: Positive = 0.5
    decay_ratio: Positive = 0.1
    warmup_t: Steps = 0
    warmup_lr_init: NonNegative = 0.0
    t_in_epochs: bool = True
    noise_range_t: NoiseRange = None
    noise_pct: Positive = 0.67
    noise_std: NonNegative = 1.0
    noise_seed: Integer = 42

    def check(self) -> None:
        if not callable(self.decay_fn):
            known("WSDLRScheduler", "decay_fn", self.decay_fn, _DECAYS)
        reject_if(self, lambda r: r >= 1, "decay_ratio", instead="decay_ratio must be below 1")
        short = "the decay is a part of t_initial: write decay_t <= t_initial"
        reject_if(self, lambda decay, total: decay > total, "decay_t", "t_initial", instead=short)
        if self.stable_fn != "constant" and self.stable_timescale is None:
            instead = f"stable_fn={self.stable_fn!r} without a warmup needs a stable_timescale"
            reject_if(self, lambda w: w == 0, "warmup_t", instead=instead)
        _check(self)

    def _stable(self) -> Schedule:
        timescale = self.warmup_t if self.stable_timescale is None else self.stable_timescale
        if self.stable_fn == "constant":
            return Constant(self.lr)
        if self.stable_fn == "rsqrt":
            return InverseSqrtDecay(self.lr, timescale)
        return PowerDecay(self.lr, self.stable_power, timescale)

    def _decay(self, init: Any, end: Any) -> Schedule:
        if callable(self.decay_fn):
            return _Curve(init, end, self.decay_t, self.decay_fn)
        if self.decay_fn == "power":
            return KDecay(init, end, self.decay_t, self.decay_power, "polynomial")
        if self.decay_fn == "exp":
            return _GeometricFall(init, end, self.decay_t, self.decay_ratio)
        return Ramp(init, end, self.decay_t, self.decay_fn)

    def build(self) -> Schedule:
        start = self.t_initial - self.decay_t
        floor = self._decay(0.0, self.lr_min).shift(start)
        body = self._stable().clip(lo=self.lr_min) * self._decay(1.0, 0.0).shift(start) + floor
        return _warmed(self, body, self.lr, prefix=True)


_DECAYS = ("linear", "1-sqrt", "cosine", "power", "exp")


# --- the metric-driven one, and the factories ------------------------------------------------------------------------


@admitted
def PlateauLRScheduler(
    lr: Any,
    decay_rate: Any = 0.1,
    patience_t: Any = 10,
    threshold: Any = 1e-4,
    cooldown_t: Any = 0,
    warmup_t: Any = 0,
    warmup_lr_init: Any = 0.0,
    lr_min: Any = 0.0,
    mode: Literal["min", "max"] = "max",
    noise_range_t: NoiseRange = None,
    noise_type: Literal["normal", "uniform"] = "normal",
    noise_pct: Any = 0.67,
    noise_std: Any = 1.0,
    noise_seed: Any = None,
    steps_per_epoch: Any = 1,
    peer_exact: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """The rate is cut when a metric has stopped getting better, after a linear warmup.

    It is `jaxsched.reduce_on_plateau` of the warmup, and stands at the end of a chain in the place of
    `optax.scale_by_learning_rate`; tell it the metric after each epoch by `jaxsched.observe(opt_state, value=metric)`.
    What comes out of the warmup is what timm makes of the same metrics, epoch by epoch.

    Args:
      lr: the optimizer's rate.
      decay_rate: what a cut multiplies the rate by, between 0 and 1.
      patience_t, threshold, cooldown_t, mode: `patience`, `threshold`, `cooldown` and `mode` of `reduce_on_plateau`;
        mode is "max" by default, for an accuracy.
      warmup_t: epochs of warmup, 0 for none; their metrics are not looked at.
      warmup_lr_init: where the warmup begins.
      lr_min: the rate below which no cut goes.
      noise_range_t: where there is noise, in epochs; there is none in the warmup. It is applied on top of the rate,
        behind the cuts: `current_hyperparams` shows the rate without it.
      noise_type: "normal", or "uniform" within `noise_pct`.
      noise_pct, noise_std, noise_seed: as in `CosineLRScheduler`; the seed None is 42.
      steps_per_epoch: updates in an epoch, as the optimizer counts updates.
      peer_exact: whether the threshold is timm's (and torch's) `best (1 + threshold)`, by which a negative metric that
        gets worse counts as better; if not, it is a share of `|best|`.

    Errors: ValueError and TypeError of `reduce_on_plateau`; ValueError for noise without a range, and an empty range.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> from jaxsched.compat import timm
      >>> optimizer = timm.PlateauLRScheduler(lr=0.1, decay_rate=0.5, patience_t=1)
      >>> state = optimizer.init(jnp.zeros(3))
      >>> for accuracy in (0.5, 0.5, 0.5):
      ...     state = js.observe(state, value=accuracy)
      >>> round(float(js.current_hyperparams(state)["learning_rate"]), 6)
      0.05

    Source: timm.scheduler.PlateauLRScheduler (1.0.31).
    """
    owner = "PlateauLRScheduler"
    known(owner, "noise_type", noise_type, ("normal", "uniform"))
    written = {"noise_pct": noise_pct, "noise_std": noise_std, "noise_seed": 42 if noise_seed is None else noise_seed}
    _check_noise(owner, noise_range_t, written)
    plateau = reduce_on_plateau(
        Linear(warmup_lr_init, lr, warmup_t).per_epoch(steps_per_epoch),
        mode=mode,
        factor=decay_rate,
        patience=patience_t,
        threshold=threshold,
        cooldown=cooldown_t,
        min_lr=lr_min,
        warmup=warmup_t,
        sign_safe=not peer_exact,
    )
    if noise_range_t is None:
        return plateau
    # Of a normal distribution a thousand times as wide as its limits, what is between them is uniform.
    std = noise_std if noise_type == "normal" else 1e3 * noise_pct
    noise = _noisy(Constant(1.0), noise_range_t, warmup_t + 1, std, written["noise_seed"], noise_pct)
    return optax.chain(plateau, optax.scale_by_schedule(noise.per_epoch(steps_per_epoch)))


@admitted
def create_scheduler_v2(
    lr: Any,
    sched: str = "cosine",
    num_epochs: Any = 300,
    decay_epochs: Any = None,
    decay_milestones: Any = (90, 180, 270),
    cooldown_epochs: Any = 0,
    patience_epochs: Any = 10,
    decay_rate: Any = 0.1,
    min_lr: Any = 0.0,
    warmup_lr: Any = 1e-5,
    warmup_epochs: Any = 0,
    warmup_prefix: bool = False,
    noise: Any = None,
    noise_pct: Any = 0.67,
    noise_std: Any = 1.0,
    noise_seed: Any = 42,
    cycle_mul: Any = 1,
    cycle_decay: Any = 0.1,
    cycle_limit: Any = 1,
    k_decay: Any = 1.0,
    decay_fn: Any = None,
    stable_timescale: Any = None,
    plateau_mode: Literal["min", "max"] = "max",
    step_on_epochs: bool = True,
    updates_per_epoch: Any = 0,
    peer_exact: bool = False,
) -> tuple[Any, Any]:
    """A scheduler by its name, and the epochs to train with it.

    As in timm, an argument that is not the chosen scheduler's is not looked at: one set of arguments serves all names.

    Args:
      lr: the optimizer's rate.
      sched: cosine, tanh, step, multistep, poly, wsd, rsqrt (`WSDLRScheduler` with a stable phase that falls),
        constant (after the warmup), plateau, or none (no warmup either).
      num_epochs: the epochs of the schedule.
      decay_epochs: of step the epochs between two factors, 90 if None; of wsd and rsqrt the length of the decay, a
        share of the schedule if below 1, and 0.2 if None.
      decay_milestones, cooldown_epochs, patience_epochs, warmup_epochs: in epochs.
      decay_rate: of step, multistep and plateau the factor, of poly the power.
      min_lr, warmup_lr, cycle_mul, cycle_decay, cycle_limit, k_decay, warmup_prefix: as in `CosineLRScheduler`; the
        warmup of wsd and rsqrt always comes before the rest, and is a part of `num_epochs` without `warmup_prefix`.
      noise: where there is noise, as a share of `num_epochs`: a start, or a list of start and stop.
      noise_pct, noise_std, noise_seed: as in `CosineLRScheduler`.
      decay_fn: of wsd and rsqrt; None: `1-sqrt` and `linear`.
      stable_timescale: of rsqrt, in epochs; None: `warmup_epochs`.
      plateau_mode: "max" or "min".
      step_on_epochs: whether the schedule counts epochs; else it counts updates, of which an epoch has
        `updates_per_epoch`.
      peer_exact: as in `CosineLRScheduler` and `PlateauLRScheduler`.

    Returns: the schedule (for plateau the optimizer of `PlateauLRScheduler`), and the number of epochs with all cycles,
    the warmup and the cooldown.

    Errors: ValueError for an unknown name, for updates that are not counted, and those of the schedulers.

    Example:
      >>> from jaxsched.compat import timm
      >>> schedule, num_epochs = timm.create_scheduler_v2(lr=0.1, sched="step", decay_epochs=30, num_epochs=90)
      >>> round(float(schedule(60)), 6), num_epochs
      (0.001, 90)

    Source: timm.scheduler.create_scheduler_v2 (1.0.31).
    """
    known("create_scheduler_v2", "sched", sched, (*_FACTORIES, "plateau", "none"))
    if not step_on_epochs:
        _check_updates(sched, updates_per_epoch)
    a = dict(locals())
    scale = 1 if step_on_epochs else updates_per_epoch
    if noise is not None:
        shares = [n * (num_epochs * scale) for n in (noise if isinstance(noise, (list, tuple)) else [noise])]
        noise = {"noise_range_t": shares[0] if len(shares) == 1 else shares}
        noise |= {"noise_pct": noise_pct, "noise_std": noise_std, "noise_seed": noise_seed}
    warmup = {"warmup_t": warmup_epochs * scale, "warmup_lr_init": warmup_lr, **(noise or {})}
    total = num_epochs + (warmup_epochs if warmup_prefix else 0)
    if sched == "none":
        return Constant(lr), total
    if sched == "plateau":
        plateau = {"decay_rate": decay_rate, "patience_t": patience_epochs, "lr_min": min_lr, "mode": plateau_mode}
        steps = updates_per_epoch if is_traced(updates_per_epoch) else max(updates_per_epoch, 1)
        return PlateauLRScheduler(lr, **plateau, **warmup, steps_per_epoch=steps, peer_exact=peer_exact), total
    schedule = _FACTORIES[sched](a, scale, {**warmup, "t_in_epochs": step_on_epochs})
    length = _cycle_length(schedule)
    if length is None:
        return schedule, total
    length = length + cooldown_epochs * scale
    return schedule, length if step_on_epochs else length // scale


def _check_updates(sched: str, updates_per_epoch: Any) -> None:
    if sched == "plateau":
        raise ValueError("create_scheduler_v2: step_on_epochs=False; a plateau is judged once an epoch.")
    if not is_traced(updates_per_epoch) and np.any(np.asarray(updates_per_epoch) <= 0):
        raise ValueError(
            f"create_scheduler_v2: step_on_epochs=False and updates_per_epoch={format_value(updates_per_epoch)}; "
            f"write the "
            "number of updates in an epoch."
        )


def _cycled(a: dict[str, Any], scale: Any, common: dict[str, Any]) -> dict[str, Any]:
    names = ("cycle_mul", "cycle_decay", "cycle_limit", "warmup_prefix", "peer_exact")
    return {"t_initial": a["num_epochs"] * scale, "lr_min": a["min_lr"], **{n: a[n] for n in names}, **common}


def _stepped(a: dict[str, Any], scale: Any, common: dict[str, Any]) -> Schedule:
    every = 90 if a["decay_epochs"] is None else a["decay_epochs"]
    return StepLRScheduler(a["lr"], every * scale, a["decay_rate"], warmup_prefix=a["warmup_prefix"], **common)


def _multi_stepped(a: dict[str, Any], scale: Any, common: dict[str, Any]) -> Schedule:
    milestones = [m * scale for m in a["decay_milestones"]]
    return MultiStepLRScheduler(a["lr"], milestones, a["decay_rate"], warmup_prefix=a["warmup_prefix"], **common)


def _wsd(a: dict[str, Any], scale: Any, common: dict[str, Any]) -> Schedule:
    rsqrt = a["sched"] == "rsqrt"
    length = a["num_epochs"] * scale - (0 if a["warmup_prefix"] else common["warmup_t"])
    decay = 0.2 if a["decay_epochs"] is None else a["decay_epochs"]
    xp: Any = jnp if any(map(is_traced, (length, decay, scale))) else np
    decay = xp.where((decay > 0) & (decay < 1), decay * length, decay * scale)
    timescale, decay_fn = a["stable_timescale"], a["decay_fn"]
    fallback: Any = "linear" if rsqrt else "1-sqrt"
    return WSDLRScheduler(
        a["lr"],
        length,
        xp.round(decay).astype(jnp.result_type(int)),
        a["min_lr"],
        "rsqrt" if rsqrt else "constant",
        None if timescale is None else timescale * scale,
        decay_fn=decay_fn or fallback,
        **common,
    )


_FACTORIES: dict[str, Callable[[dict[str, Any], Any, dict[str, Any]], Schedule]] = {
    "cosine": lambda a, scale, common: CosineLRScheduler(a["lr"], k_decay=a["k_decay"], **_cycled(a, scale, common)),
    "tanh": lambda a, scale, common: TanhLRScheduler(a["lr"], **_cycled(a, scale, common)),
    "poly": lambda a, scale, common: PolyLRScheduler(
        a["lr"], power=a["decay_rate"], k_decay=a["k_decay"], **_cycled(a, scale, common)
    ),
    "step": _stepped,
    "multistep": _multi_stepped,
    "constant": lambda a, scale, common: StepLRScheduler(a["lr"], 1, warmup_prefix=a["warmup_prefix"], **common),
    "wsd": _wsd,
    "rsqrt": _wsd,
}


def _cycle_length(s: Any) -> Any:
    """The steps of all cycles, and of the warmup that comes before them; None for what has no end."""
    if isinstance(s, WSDLRScheduler):
        return s.t_initial + s.warmup_t
    if not isinstance(s, (CosineLRScheduler, TanhLRScheduler, PolyLRScheduler)):
        return None
    traced = any(map(is_traced, (s.t_initial, s.cycle_mul, s.cycle_limit)))
    xp: Any = jnp if traced else np
    mult = xp.asarray(s.cycle_mul)
    count = xp.where(mult == 1, s.cycle_limit, (mult**s.cycle_limit - 1) / xp.where(mult == 1, 1, mult - 1))
    length = xp.floor(s.t_initial * count)
    return (length if traced else int(length)) + (s.warmup_t if s.warmup_prefix else 0)


def scheduler_kwargs(cfg: Any, decreasing_metric: bool | None = None) -> dict[str, Any]:
    """The arguments of `create_scheduler_v2` out of the attributes of a configuration, with their own defaults.

    Args:
      cfg: has `sched`, and whatever it has of `epochs decay_epochs decay_milestones warmup_epochs cooldown_epochs
        patience_epochs decay_rate min_lr warmup_lr warmup_prefix lr_noise lr_noise_pct lr_noise_std seed lr_cycle_mul
        lr_cycle_decay lr_cycle_limit lr_k_decay lr_decay_fn lr_stable_timescale eval_metric sched_on_updates`.
      decreasing_metric: whether the metric of a plateau has to fall; None: whether its name has "loss" in it.

    Example:
      >>> import types
      >>> from jaxsched.compat import timm
      >>> timm.scheduler_kwargs(types.SimpleNamespace(sched="step", decay_rate=0.2))["decay_rate"]
      0.2

    Source: timm.scheduler.scheduler_kwargs (1.0.31).
    """
    falls = "loss" in getattr(cfg, "eval_metric", "top1") if decreasing_metric is None else decreasing_metric
    found = {name: getattr(cfg, attribute, default) for name, (attribute, default) in _CONFIGURATION.items()}
    plateau = {"plateau_mode": "min" if falls else "max"}
    return {"sched": cfg.sched, **found, **plateau, "step_on_epochs": not getattr(cfg, "sched_on_updates", False)}


_CONFIGURATION: dict[str, tuple[str, Any]] = {
    "num_epochs": ("epochs", 100),
    "decay_epochs": ("decay_epochs", 30),
    "decay_milestones": ("decay_milestones", [30, 60]),
    "warmup_epochs": ("warmup_epochs", 5),
    "cooldown_epochs": ("cooldown_epochs", 0),
    "patience_epochs": ("patience_epochs", 10),
    "decay_rate": ("decay_rate", 0.1),
    "min_lr": ("min_lr", 0.0),
    "warmup_lr": ("warmup_lr", 1e-5),
    "warmup_prefix": ("warmup_prefix", False),
    "noise": ("lr_noise", None),
    "noise_pct": ("lr_noise_pct", 0.67),
    "noise_std": ("lr_noise_std", 1.0),
    "noise_seed": ("seed", 42),
    "cycle_mul": ("lr_cycle_mul", 1),
    "cycle_decay": ("lr_cycle_decay", 0.1),
    "cycle_limit": ("lr_cycle_limit", 1),
    "k_decay": ("lr_k_decay", 1.0),
    "decay_fn": ("lr_decay_fn", None),
    "stable_timescale": ("lr_stable_timescale", None),
}


@admitted
def create_scheduler(args: Any, lr: Any, updates_per_epoch: Any = 0) -> tuple[Any, Any]:
    """`create_scheduler_v2` of a configuration: an object with timm's command line arguments as attributes.

    Args:
      args: as `cfg` of `scheduler_kwargs`.
      lr: the optimizer's rate.
      updates_per_epoch: as in `create_scheduler_v2`.

    Example:
      >>> import types
      >>> from jaxsched.compat import timm
      >>> args = types.SimpleNamespace(sched="cosine", epochs=10, warmup_epochs=0)
      >>> schedule, num_epochs = timm.create_scheduler(args, lr=1.0)
      >>> round(float(schedule(5)), 6), num_epochs
      (0.5, 10)

    Source: timm.scheduler.create_scheduler (1.0.31).
    """
    return create_scheduler_v2(lr, **scheduler_kwargs(args), updates_per_epoch=updates_per_epoch)
