"""Megatron-Core's OptimizerParamScheduler: its rate, and its weight decay.

`s(t)` is the rate after t increments: Megatron counts samples (or steps, as its caller likes), and sets the rate of
step 0 at construction. What it does with the scheduler of a checkpoint (`use_checkpoint_opt_param_scheduler`,
`override_opt_param_scheduler`) is not about the rate, and left out.
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from ...fields import Count, NonNegative, Scalar, Steps, reject_if
from ...schedules import shapes
from ...schedules.base import Constant, Schedule
from ...schedules.decays import InverseSqrtDecay
from ...schedules.ramps import Linear, Ramp
from ...schedules.shapes import Step
from ..peer import Peer, refuse_ignored

DecayStyle = Literal["constant", "linear", "cosine", "inverse-square-root", "WSD"]
StableDecayStyle = Literal["exponential", "linear", "cosine", "minus_sqrt"]
IncrementStyle = Literal["constant", "linear", "cosine"]


class HalvingRamp(Schedule):
    """A power of one half from one value to another, moved so that it gets there.

    Formula: `s(t) = end + (init - end) (2 (1/2)^u - 1)` with `u = min(t / steps, 1)`.

    Fields:
      init_value: the value at step 0.
      end_value: the value at step `steps` and after it.
      steps: the length, 0 or more steps; with 0 the value is `end_value` at once.

    Example:
      >>> from jaxsched.compat.others import megatron
      >>> [round(float(v), 4) for v in megatron.HalvingRamp(1.0, 0.0, steps=4).table(6)]
      [1.0, 0.6818, 0.4142, 0.1892, 0.0, 0.0]

    Source: megatron-core (0.16.1), `lr_wsd_decay_style="exponential"`.
    """

    init_value: Scalar
    end_value: Scalar
    steps: Steps

    def value(self, step: Step) -> Array:
        position = shapes.exact_progress(step, self.steps)
        halving = jnp.log(shapes.floating(2.0))
        done = 2 * shapes.one_minus_exp(-halving * position.done)
        left = -shapes.one_minus_exp(halving * position.left)
        return shapes.mix(self.init_value, self.end_value, shapes.nearer(left, done))


class OptimizerParamScheduler(Peer):
    """A linear warmup, then a decay by its style; and a weight decay that may grow.

    Formula: `init_lr + (max_lr - init_lr) t / lr_warmup_steps` in the warmup, then `min_lr + (max_lr - min_lr) c`, c by
    `lr_decay_style`: `linear` 1 - u, `cosine` (1 + cos(pi u)) / 2, with u the share of the way from the end of the
    warmup to `lr_decay_steps`; `WSD` 1, and over the last `wsd_decay_steps` by `lr_wsd_decay_style`: `linear` 1 - v,
    `cosine`, `exponential` 2 (1/2)^v - 1, `minus_sqrt` 1 - v^(1/2). After `lr_decay_steps` it is `min_lr`. Or
    `constant`: `max_lr` for ever; `inverse-square-root`: `max_lr (lr_warmup_steps / t)^(1/2)`, not below `min_lr`,
    which comes at once after `lr_decay_steps`.

    Fields:
      init_lr: the rate at step 0, at most `max_lr`; without a warmup it is not used.
      max_lr: the rate at the end of the warmup.
      min_lr: the rate after `lr_decay_steps`, 0 or more and at most `max_lr`.
      lr_warmup_steps: 0 or more, fewer than `lr_decay_steps`.
      lr_decay_steps: the horizon, an integer, 1 or more.
      lr_decay_style: one of these names.
      start_wd, end_wd: the weight decay at step 0 and from step `wd_incr_steps` on, `0 <= start_wd <= end_wd`.
      wd_incr_steps: 0 or more.
      wd_incr_style: `constant` (both ends are equal), `linear` or `cosine`.
      wsd_decay_steps: the length of the last decay of `WSD`, which it needs, at most `lr_decay_steps`.
      lr_wsd_decay_style: the shape of it, which `WSD` needs.

    Errors: ValueError for ends in the wrong order, for a warmup that is not shorter than the whole, and for arguments
    of `WSD` with another style, which Megatron ignores.

    The weight decay is the schedule `s.weight_decay`, and `s.for_group(...)` is that of a group of parameters.

    Example:
      >>> from jaxsched.compat.others import megatron
      >>> s = megatron.OptimizerParamScheduler(
      ...     init_lr=0.0, max_lr=1.0, min_lr=0.0, lr_warmup_steps=2, lr_decay_steps=6, lr_decay_style="linear",
      ...     start_wd=0.0, end_wd=0.1, wd_incr_steps=4, wd_incr_style="linear")
      >>> s.table(8).tolist()
      [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
      >>> [round(float(v), 6) for v in s.weight_decay.table(6)]
      [0.0, 0.025, 0.05, 0.075, 0.1, 0.1]

    Source: megatron.core.optimizer_param_scheduler.OptimizerParamScheduler (0.16.1).
    """

    init_lr: Scalar
    max_lr: Scalar
    min_lr: NonNegative
    lr_warmup_steps: Steps
    lr_decay_steps: Count
    lr_decay_style: DecayStyle
    start_wd: NonNegative
    end_wd: NonNegative
    wd_incr_steps: Steps
    wd_incr_style: IncrementStyle
    wsd_decay_steps: Steps | None = None
    lr_wsd_decay_style: StableDecayStyle | None = None

    def check(self) -> None:
        reject_if(self, lambda a, b: a > b, "min_lr", "max_lr", instead="write min_lr <= max_lr")
        reject_if(self, lambda a, b: a > b, "init_lr", "max_lr", instead="write init_lr <= max_lr")
        reject_if(self, lambda a, b: a > b, "start_wd", "end_wd", instead="write start_wd <= end_wd")
        warmup = "the warmup must be shorter than the whole: write lr_warmup_steps < lr_decay_steps"
        reject_if(self, lambda a, b: a >= b, "lr_warmup_steps", "lr_decay_steps", instead=warmup)
        if self.wd_incr_style == "constant":
            instead = "a constant weight decay has two equal ends"
            reject_if(self, lambda a, b: a != b, "start_wd", "end_wd", instead=instead)
        names = "wsd_decay_steps", "lr_wsd_decay_style"
        if self.lr_decay_style != "WSD":
            for name in names:
                refuse_ignored(self, name, "Megatron", f"it belongs to WSD, not to {self.lr_decay_style!r}")
        elif None in (self.wsd_decay_steps, self.lr_wsd_decay_style):
            raise ValueError(f"OptimizerParamScheduler: lr_decay_style='WSD' needs {names[0]} and {names[1]}.")
        whole = "the last decay must fit into the whole: write wsd_decay_steps <= lr_decay_steps"
        reject_if(self, lambda a, b: a > b, "wsd_decay_steps", "lr_decay_steps", instead=whole)

    def build(self) -> Schedule:
        warmup, total = self.lr_warmup_steps, self.lr_decay_steps
        up = Linear(self.init_lr, self.max_lr, warmup)
        if self.lr_decay_style == "constant":
            return up
        if self.lr_decay_style == "inverse-square-root":
            start = jnp.maximum(warmup, 1)
            down = InverseSqrtDecay(self.max_lr, start).clip(lo=self.min_lr)
            return up.then(down, at=start).then(self.min_lr, at=total + 1)
        if self.lr_decay_style == "WSD":
            # The step that ends the warmup is still its own: where the last decay has begun by then, it is behind.
            start = jnp.where(jnp.asarray(warmup) > 0, warmup + 1, 0)
            return up.then(self._stable().shift(-start), at=start)
        return up.then(Ramp(self.max_lr, self.min_lr, total - warmup, self.lr_decay_style), at=warmup)

    def _stable(self) -> Schedule:
        """The plateau and the last decay of WSD; with a decay of no steps, step `lr_decay_steps` is on the plateau."""
        steps: Any = self.wsd_decay_steps
        if self.lr_wsd_decay_style == "exponential":
            down: Schedule = HalvingRamp(self.max_lr, self.min_lr, steps)
        else:
            shape = "1-sqrt" if self.lr_wsd_decay_style == "minus_sqrt" else self.lr_wsd_decay_style
            down = Ramp(self.max_lr, self.min_lr, steps, shape)  # type: ignore[arg-type]
        return Constant(self.max_lr).then(down.shift(-1), at=self.lr_decay_steps - steps + 1)

    @property
    def weight_decay(self) -> Schedule:
        """The weight decay at each step, a schedule of its own."""
        if self.wd_incr_style == "constant":
            return Constant(self.end_wd)
        return Ramp(self.start_wd, self.end_wd, self.wd_incr_steps, self.wd_incr_style)

    def for_group(
        self,
        *,
        max_lr: Any = None,
        min_lr: Any = None,
        start_wd: Any = None,
        end_wd: Any = None,
        wd_mult: Any = 1.0,
    ) -> OptimizerParamScheduler:
        """The scheduler of a group of parameters that has values of its own, and `wd_mult` times the weight decay.

        Example:
          >>> from jaxsched.compat.others import megatron
          >>> s = megatron.OptimizerParamScheduler(0.0, 1.0, 0.0, 0, 4, "linear", 0.1, 0.1, 0, "constant")
          >>> bias = s.for_group(max_lr=2.0, wd_mult=0.0)
          >>> float(bias(0)), float(bias.weight_decay(0))
          (2.0, 0.0)
        """
        given = {"max_lr": max_lr, "min_lr": min_lr, "start_wd": start_wd, "end_wd": end_wd}
        fields = {name: getattr(self, name) if value is None else value for name, value in given.items()}
        wds = {name: fields[name] * wd_mult for name in ("start_wd", "end_wd")}
        return self.replace(**{**fields, **wds})
