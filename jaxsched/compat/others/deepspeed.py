"""deepspeed.runtime.lr_schedules: the five classes by their own names and parameters, and those of a config.

DeepSpeed steps after each update, and begins at `last_batch_iteration=-1`: the first update is made before any step.
`LRRangeTest` and `OneCycle` count so that `s(t)` is their value at t; the three warmups are asked for iteration t - 1,
and make their first two updates with the same rate. `lr` is the optimizer's rate, where DeepSpeed reads it.
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from ..._errors import format_value
from ...fields import Count, Integer, Length, NonNegative, Scalar, Steps, reject_uncountable
from ...schedules import shapes
from ...schedules.base import Constant, Schedule
from ...schedules.decays import InverseTimeDecay
from ...schedules.ramps import Linear, Ramp
from ...schedules.shapes import Step, floating
from ..peer import Peer, known

WarmupType = Literal["log", "linear"]


class LRRangeTest(Peer):
    """The learning-rate range test: a rate that grows without an end.

    Formula: `s(t) = lr_range_test_min_lr (1 + lr_range_test_step_rate t / lr_range_test_step_size)`, with the quotient
    floored if `lr_range_test_staircase`.

    Fields:
      lr_range_test_min_lr: the rate at step 0.
      lr_range_test_step_size: an integer, 1 or more steps.
      lr_range_test_step_rate: how many times `lr_range_test_min_lr` is added in `lr_range_test_step_size` steps.
      lr_range_test_staircase: whether it is added at once, at every `lr_range_test_step_size`-th step.
      last_batch_iteration: the last iteration that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> deepspeed.LRRangeTest(0.5, lr_range_test_step_size=2).table(4).tolist()
      [0.5, 0.75, 1.0, 1.25]

    Source: deepspeed.runtime.lr_schedules.LRRangeTest (0.19.8); Smith (1803.09820).
    """

    lr_range_test_min_lr: Scalar = 1e-3
    lr_range_test_step_size: Count = 2000
    lr_range_test_step_rate: Scalar = 1.0
    lr_range_test_staircase: bool = False
    last_batch_iteration: Integer = -1

    def build(self) -> Schedule:
        test = _Growing(
            self.lr_range_test_min_lr,
            self.lr_range_test_step_rate,
            self.lr_range_test_step_size,
            self.lr_range_test_staircase,
        )
        return test.shift(-(self.last_batch_iteration + 1))


class _Growing(Schedule):
    """`init_value (1 + rate t / steps)`, for the range test and for the momentum after a cycle."""

    init_value: Scalar
    rate: Scalar
    steps: Length
    staircase: bool = False

    def value(self, step: Step) -> Array:
        share = shapes.ratio(shapes.floor_div(step, self.steps)) if self.staircase else shapes.ratio(step, self.steps)
        return self.init_value * (1 + self.rate * (share.high + share.low))


class _Stairs(Schedule):
    """A line from one value to another; with `count > 0` in as many stairs, floored as seen from the low end."""

    init_value: Scalar
    end_value: Scalar
    steps: Steps
    count: Steps
    downward: bool

    def value(self, step: Step) -> Array:
        position = shapes.progress(step, self.steps)
        line = shapes.mix(self.init_value, self.end_value, position)
        walked = shapes.stopped(step, shapes.reached(step, self.steps), self.steps)
        risen = self.steps - walked if self.downward else walked
        stair = _floor_of_product(risen, self.count, self.steps)
        count = jnp.maximum(self.count, 1)
        low, high = (self.end_value, self.init_value) if self.downward else (self.init_value, self.end_value)
        return jnp.where(jnp.asarray(self.count) > 0, shapes.mix(low, high, shapes.progress(stair, count)), line)


def _floor_of_product(a: Any, b: Any, n: Any) -> Array:
    """`floor(a b / n)`. Among integers the product may run over: the quotient is guessed in floats, and put right by
    the remainder, which is small, so that it is right however often its terms ran over."""
    safe = jnp.maximum(n, 1) if shapes.is_integer(n) else jnp.where(jnp.asarray(n) > 0, n, 1)
    guess = jnp.floor(floating(a) * floating(b) / floating(safe))
    if not all(map(shapes.is_integer, (a, b, n))):
        return guess
    a, b, safe = (jnp.asarray(x).astype(jnp.result_type(int)) for x in (a, b, safe))
    whole = guess.astype(safe.dtype)
    return whole + (a * b - whole * safe) // safe


class OneCycle(Peer):
    """Up to the top, down again, and then a slow decay without an end; the momentum goes the other way.

    Formula: `cycle_min_lr` to `cycle_max_lr` in `cycle_first_step_size` and back in `cycle_second_step_size`, in
    straight lines or in as many stairs as the stair counts say; then
    `cycle_min_lr / (1 + decay_lr_rate t / decay_step_size)`.

    Fields:
      cycle_min_lr, cycle_max_lr: the rate at both ends, and at the top.
      decay_lr_rate: 0 or more.
      cycle_first_step_size: the steps up, above 0.
      cycle_second_step_size: the steps down, 0 or more; None: as many as up.
      cycle_first_stair_count: the stairs up; 0 for a line.
      cycle_second_stair_count: the stairs down; 0 for a line, None: as many as up.
      decay_step_size: the unit of the decay, in steps; 0 for no decay.
      cycle_momentum: whether there is a momentum, `s.momentum`.
      cycle_min_mom, cycle_max_mom: the momentum at the top of the rate, and at both ends of the cycle.
      decay_mom_rate: 0 or more; after the cycle the momentum is
        `cycle_max_mom (1 + decay_mom_rate t / decay_step_size)`.
      last_batch_iteration: the last iteration that was made, to go on from; -1 for none.
      peer_exact: whether the momentum of the first update is `cycle_min_mom`, as DeepSpeed's is.

    DeepSpeed takes the momentum for the first of Adam's two betas, and sets the second one to 0.99.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> s = deepspeed.OneCycle(0.5, 1.0, cycle_first_step_size=2, decay_lr_rate=1.0, decay_step_size=1)
      >>> [round(float(v), 4) for v in s.table(7)]
      [0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.1667]
      >>> [round(float(v), 4) for v in s.momentum.table(5)]
      [0.9, 0.85, 0.8, 0.85, 0.9]

    Source: deepspeed.runtime.lr_schedules.OneCycle (0.19.8); Smith (1803.09820).
    """

    cycle_min_lr: Scalar
    cycle_max_lr: Scalar
    decay_lr_rate: NonNegative = 0.0
    cycle_first_step_size: Length = 2000
    cycle_second_step_size: Steps | None = None
    cycle_first_stair_count: Steps = 0
    cycle_second_stair_count: Steps | None = None
    decay_step_size: Steps = 0
    cycle_momentum: bool = True
    cycle_min_mom: Scalar = 0.8
    cycle_max_mom: Scalar = 0.9
    decay_mom_rate: NonNegative = 0.0
    last_batch_iteration: Integer = -1
    peer_exact: bool = False

    def check(self) -> None:
        reject_uncountable(self, "cycle_first_step_size", "cycle_second_step_size")

    def build(self) -> Schedule:
        after = InverseTimeDecay(self.cycle_min_lr, self._if_decaying(self.decay_lr_rate), self._unit())
        return self._cycle(self.cycle_min_lr, self.cycle_max_lr, after)

    @property
    def momentum(self) -> Schedule:
        """The momentum at each step, a schedule of its own."""
        if not self.cycle_momentum:
            raise ValueError("OneCycle: cycle_momentum=False; without it there is no momentum.")
        after = _Growing(self.cycle_max_mom, self._if_decaying(self.decay_mom_rate), self._unit())
        return self._cycle(self.cycle_max_mom, self.cycle_min_mom, after, self.peer_exact)

    def _cycle(self, outer: Any, top: Any, after: Schedule, begins_at_top: bool = False) -> Schedule:
        first, stairs = self.cycle_first_step_size, self.cycle_first_stair_count
        second = first if self.cycle_second_step_size is None else self.cycle_second_step_size
        more = stairs if self.cycle_second_stair_count is None else self.cycle_second_stair_count
        up = _Stairs(outer, top, first, stairs, downward=False)
        down = _Stairs(top, outer, second, more, downward=True)
        # A part of no steps must not hide the next one: the second joint is not inside of the first one's Join.
        cycle = up.then(down.then(after, at=second), at=first)
        cycle = Constant(top).then(cycle.shift(-1), at=1) if begins_at_top else cycle
        return cycle.shift(-(self.last_batch_iteration + 1))

    def _unit(self) -> Any:
        return jnp.where(jnp.asarray(self.decay_step_size) > 0, self.decay_step_size, 1)

    def _if_decaying(self, rate: Any) -> Any:
        return jnp.where(jnp.asarray(self.decay_step_size) > 0, rate, 0.0)


class LogRamp(Schedule):
    """With the logarithm of the step from one value to another; the step before `steps` is the last one of it.

    Formula: `s(t) = init + (end - init) log(1 + t) / log(steps)` before step `steps - 1`, then `end`.

    Fields:
      init_value: the value at step 0.
      end_value: the value at step `steps - 1` and after it.
      steps: the length, above 1.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> [round(float(v), 4) for v in deepspeed.LogRamp(0.0, 1.0, steps=4).table(5)]
      [0.0, 0.5, 0.7925, 1.0, 1.0]

    Source: deepspeed.runtime.lr_schedules (0.19.8), `warmup_type="log"`.
    """

    init_value: Scalar
    end_value: Scalar
    steps: Length

    def value(self, step: Step) -> Array:
        steps = jnp.maximum(floating(self.steps), 2.0)
        over = shapes.reached(step, self.steps - 1)
        n = 1 + floating(shapes.stopped(step, over, self.steps - 1))
        done = jnp.where(over, 1, jnp.log(n) / jnp.log(steps))
        left = jnp.where(over, 0, jnp.log1p((steps - n) / n) / jnp.log(steps))  # exact to the last steps
        return shapes.mix(self.init_value, self.end_value, shapes.nearer(left, done))


def _warmup(init: Any, end: Any, steps: Any, warmup_type: str) -> Schedule:
    return LogRamp(init, end, steps) if warmup_type == "log" else Linear(init, end, steps)


def _two_or_more(steps: Any) -> Any:
    """DeepSpeed makes a warmup of one step one of two, whose logarithm it divides by."""
    return jnp.maximum(steps, 2)


class WarmupLR(Peer):
    """A warmup, and the rate at its end from there on.

    Formula: with `i = max(t - 1, 0)`: `warmup_min_lr + (warmup_max_lr - warmup_min_lr) g`, g by `warmup_type`: `log`
    log(i + 1) / log(warmup_num_steps), `linear` i / warmup_num_steps, and 1 from iteration `warmup_num_steps` on.

    Fields:
      lr: the optimizer's rate, read only where `warmup_max_lr` is None; or None.
      warmup_min_lr: the rate of the first two updates.
      warmup_max_lr: the rate after the warmup; None: `lr`.
      warmup_num_steps: an integer, 1 or more; 1 counts as 2.
      warmup_type: `log` or `linear`.
      last_batch_iteration: the last iteration that was made, to go on from; -1 for none.

    Errors: ValueError for neither `lr` nor `warmup_max_lr`, and for another `warmup_type`, for which DeepSpeed takes
    `log`.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> deepspeed.WarmupLR(warmup_max_lr=1.0, warmup_num_steps=4, warmup_type="linear").table(7).tolist()
      [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]

    Source: deepspeed.runtime.lr_schedules.WarmupLR (0.19.8).
    """

    lr: Scalar | None = None
    warmup_min_lr: Scalar = 0.0
    warmup_max_lr: Scalar | None = None
    warmup_num_steps: Count = 1000
    warmup_type: WarmupType = "log"
    last_batch_iteration: Integer = -1

    def check(self) -> None:
        if self.lr is None and self.warmup_max_lr is None:
            raise ValueError("WarmupLR: lr=None and warmup_max_lr=None; write one of them.")

    def build(self) -> Schedule:
        peak = self.lr if self.warmup_max_lr is None else self.warmup_max_lr
        up = _warmup(self.warmup_min_lr, peak, _two_or_more(self.warmup_num_steps), self.warmup_type)
        return up.shift(-self.last_batch_iteration)


class WarmupDecayLR(Peer):
    """A warmup, then a line down to where the warmup began.

    Formula: with `i = max(t - 1, 0)`: as `WarmupLR` before iteration `warmup_num_steps`, then
    `warmup_min_lr + (warmup_max_lr - warmup_min_lr) (total_num_steps - i) / (total_num_steps - warmup_num_steps)`, and
    `warmup_min_lr` from iteration `total_num_steps` on.

    Fields:
      total_num_steps: the horizon, above 0; its end is reached one update later.
      warmup_min_lr: the rate of the first two updates, and the last one.
      warmup_max_lr: the rate after the warmup.
      warmup_num_steps: an integer, 1 or more; 1 counts as 2.
      warmup_type: `log` or `linear`.
      last_batch_iteration: the last iteration that was made, to go on from; -1 for none.

    Errors: ValueError for another `warmup_type`, for which DeepSpeed takes `log`.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> s = deepspeed.WarmupDecayLR(4, warmup_max_lr=1.0, warmup_num_steps=2, warmup_type="linear")
      >>> s.table(7).tolist()
      [0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: deepspeed.runtime.lr_schedules.WarmupDecayLR (0.19.8).
    """

    total_num_steps: Length
    warmup_min_lr: Scalar = 0.0
    warmup_max_lr: Scalar = 0.001
    warmup_num_steps: Count = 1000
    warmup_type: WarmupType = "log"
    last_batch_iteration: Integer = -1

    def build(self) -> Schedule:
        warmup = _two_or_more(self.warmup_num_steps)
        up = _warmup(self.warmup_min_lr, self.warmup_max_lr, warmup, self.warmup_type)
        down = Linear(self.warmup_max_lr, self.warmup_min_lr, jnp.maximum(self.total_num_steps - warmup, 0))
        return up.then(down, at=warmup).shift(-self.last_batch_iteration)


class WarmupCosineLR(Peer):
    """A warmup to the optimizer's rate, then half a cosine down to a share of it.

    Formula: with `i = max(t - 1, 0)` and `W = warmup_num_steps`: `lr` times
    `warmup_min_ratio + (1 - warmup_min_ratio) g`, g by `warmup_type`: `log` log(i + 1) / log(W), `linear` i / (W - 1);
    from iteration `W - 1` on `lr` times `cos_min_ratio + (1 - cos_min_ratio) (1 + cos(pi u)) / 2`,
    `u = (i - W + 1) / (total_num_steps - W)`, at most 1. DeepSpeed's linear warmup is i / W, which never comes to the
    peak; and its first update has a rate of 0.

    Fields:
      lr: the optimizer's rate.
      total_num_steps: the horizon, above 0; from update `total_num_steps` on the rate is `lr cos_min_ratio`.
      warmup_min_ratio: the share of the rate that the warmup begins with.
      warmup_num_steps: an integer, 1 or more; 1 counts as 2.
      cos_min_ratio: the share of the rate at the end, 0 or more.
      warmup_type: `log` or `linear`.
      last_batch_iteration: the last iteration that was made, to go on from; -1 for none.
      peer_exact: whether it has these two faults, as DeepSpeed's does.

    Errors: ValueError for another `warmup_type`, for which DeepSpeed takes `log`.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> s = deepspeed.WarmupCosineLR(1.0, 5, warmup_num_steps=3, cos_min_ratio=0.0, warmup_type="linear")
      >>> [round(float(v), 4) for v in s.table(7)]
      [0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: deepspeed.runtime.lr_schedules.WarmupCosineLR (0.19.8).
    """

    lr: Scalar
    total_num_steps: Length
    warmup_min_ratio: NonNegative = 0.0
    warmup_num_steps: Count = 1000
    cos_min_ratio: NonNegative = 0.0001
    warmup_type: WarmupType = "log"
    last_batch_iteration: Integer = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        warmup = _two_or_more(self.warmup_num_steps)
        low, end = self.lr * self.warmup_min_ratio, self.lr * self.cos_min_ratio
        down = Ramp(self.lr, end, jnp.maximum(self.total_num_steps - warmup, 1), shape="cosine")
        if self.peer_exact:
            up = _warmup(low, self.lr, warmup, self.warmup_type).then(down.shift(-1), at=warmup)
            return Constant(0.0).then(up, at=1).shift(-(self.last_batch_iteration + 1))
        up = LogRamp(low, self.lr, warmup) if self.warmup_type == "log" else Linear(low, self.lr, warmup - 1)
        return up.then(down, at=warmup - 1).shift(-self.last_batch_iteration)


SCHEDULES: dict[str, type[Peer]] = {
    cls.__name__: cls for cls in (LRRangeTest, OneCycle, WarmupLR, WarmupDecayLR, WarmupCosineLR)
}


def from_config(config: dict[str, Any], lr: Any = None) -> Peer:
    """The schedule of a DeepSpeed config, or of its part `scheduler`.

    Formula: the class that is called `config["type"]`, with the arguments `config["params"]`.

    Args:
      config: `{"type": ..., "params": {...}}`, or a whole config with that as `scheduler`.
      lr: the optimizer's rate; None: that of the whole config's `optimizer`. Only `WarmupLR` and `WarmupCosineLR`
        read it.

    Example:
      >>> from jaxsched.compat.others import deepspeed
      >>> deepspeed.from_config({"type": "WarmupLR", "params": {"warmup_max_lr": 0.1, "warmup_num_steps": 10}})
      compat.others.deepspeed.WarmupLR(warmup_max_lr=0.1, warmup_num_steps=10)

    Source: the part `scheduler` of a DeepSpeed config (0.19.8).
    """
    if "scheduler" in config:
        lr = config.get("optimizer", {}).get("params", {}).get("lr") if lr is None else lr
        config = config["scheduler"]
    for name in config:
        known("from_config", "config", name, ("type", "params"))
    if "type" not in config:
        raise ValueError(f"from_config: config={format_value(config)} has no type; there are: {', '.join(SCHEDULES)}.")
    cls = SCHEDULES[known("from_config", "type", config["type"], SCHEDULES)]
    given = {"lr": lr} if lr is not None and "lr" in cls.__signature__.parameters else {}
    return cls(**given, **config.get("params", {}))
