"""paddle.optimizer.lr: the classes by their own names and arguments.

Paddle steps once at construction, so that `s(t)` is the rate after t calls of `step()`: that of the t-th update. Two of
them, which take any function of the epoch, and the one that listens to a metric are functions here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ..._errors import format_value
from ...fields import Count, Integer, Length, NonNegative, Positive, Scalar, StepTable, Table, Unit, reject_if, validate
from ...optim.plateau import reduce_on_plateau
from ...schedules import cycles, decays, pieces, recipes, shapes
from ...schedules.base import Constant, Lambda, Schedule
from ...schedules.ramps import Linear, Ramp
from ...schedules.shapes import Step
from ..peer import Peer, refuse_ignored


def _resumed(owner: Any, schedule: Schedule) -> Schedule:
    """Paddle makes one step at construction: with `last_epoch=9` it starts at epoch 10."""
    _refuse_verbose(type(owner).__name__, owner.verbose)
    return schedule.shift(-(owner.last_epoch + 1))


def _refuse_verbose(owner: str, verbose: bool) -> None:
    if verbose:
        raise ValueError(f"{owner}: verbose=True; a schedule prints nothing: print schedule(step).")


def _rate(owner: str, learning_rate: Any) -> Constant:
    (domain,) = NonNegative.__metadata__  # type: ignore[attr-defined]
    return Constant(validate(owner, "learning_rate", learning_rate, domain))


def _refuse_no_function(owner: str, lr_lambda: Any) -> None:
    if not callable(lr_lambda):
        raise TypeError(f"{owner}: lr_lambda={format_value(lr_lambda)}; lr_lambda must be a function of the epoch.")


def _table(owner: str, lr_lambda: Callable[[int], Any], horizon: Any, product: bool = False) -> Schedule:
    """What a function of the epoch says, asked once for each; or the product of all that it said from epoch 1 on."""
    if not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1:
        raise ValueError(f"{owner}: horizon={format_value(horizon)}; horizon must be a number of epochs, 1 or more.")
    asked = [float(lr_lambda(epoch)) for epoch in range(int(product), horizon)]
    values = np.cumprod([1.0, *asked]) if product else np.array(asked)
    return pieces.PiecewiseConstant(np.arange(1, horizon), values)


def _refuse_growth(schedule: Any) -> None:
    reject_if(schedule, lambda gamma: gamma >= 1, "gamma", instead="Paddle's decays take a gamma below 1")


class NoamDecay(Peer):
    """The schedule of the first Transformer, counted from epoch 0, where the rate is 0.

    Formula: `s(t) = learning_rate d_model^(-1/2) min(t^(-1/2), t warmup_steps^(-3/2))`, and `s(0) = 0`.

    Fields:
      d_model: the width of the model, above 0.
      warmup_steps: epochs, above 0; the peak is at step `warmup_steps`.
      learning_rate: the scale, 0 or more.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> [round(float(v), 6) for v in paddle.NoamDecay(d_model=4, warmup_steps=4).table(5)]
      [0.0, 0.0625, 0.125, 0.1875, 0.25]

    Source: paddle.optimizer.lr.NoamDecay (3.3.1); Vaswani et al. (1706.03762).
    """

    d_model: Positive
    warmup_steps: Length
    learning_rate: NonNegative = 1.0
    last_epoch: Integer = -1
    verbose: bool = False

    def build(self) -> Schedule:
        noam = recipes.Noam(self.d_model, self.warmup_steps, self.learning_rate)
        return _resumed(self, Constant(0.0).then(noam, at=1))


class PiecewiseDecay(Peer):
    """A table of constants.

    Formula: `s(t) = values[i]`, where i is the number of boundaries `<= t`.

    Fields:
      boundaries: (n,) epochs, each larger than the one before, n at least 1.
      values: (n + 1,) rates.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Errors: ValueError for boundaries that are not sorted, which Paddle takes, and for more values than n + 1, of which
    Paddle leaves some out.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.PiecewiseDecay([2, 3], [1.0, 0.5, 0.25]).table(4).tolist()
      [1.0, 1.0, 0.5, 0.25]

    Source: paddle.optimizer.lr.PiecewiseDecay (3.3.1).
    """

    boundaries: StepTable
    values: Table
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        if np.shape(self.boundaries)[-1] == 0:
            raise ValueError("PiecewiseDecay: boundaries=[]; write at least one boundary.")

    def build(self) -> Schedule:
        return _resumed(self, pieces.PiecewiseConstant(self.boundaries, self.values))


class NaturalExpDecay(Peer):
    """Exponential decay with its rate in the exponent.

    Formula: `s(t) = learning_rate exp(-gamma t)`.

    Fields:
      learning_rate: the rate at epoch 0, 0 or more.
      gamma: above 0.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> round(float(paddle.NaturalExpDecay(1.0, gamma=0.5)(2)), 6)
      0.367879

    Source: paddle.optimizer.lr.NaturalExpDecay (3.3.1).
    """

    learning_rate: NonNegative
    gamma: Positive
    last_epoch: Integer = -1
    verbose: bool = False

    def build(self) -> Schedule:
        return _resumed(self, decays.NaturalExpDecay(self.learning_rate, self.gamma, 1))


class InverseTimeDecay(Peer):
    """Decay with the inverse of time.

    Formula: `s(t) = learning_rate / (1 + gamma t)`.

    Fields:
      learning_rate: the rate at epoch 0, 0 or more.
      gamma: 0 or more.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.InverseTimeDecay(1.0, gamma=1.0)([0, 1, 3]).tolist()
      [1.0, 0.5, 0.25]

    Source: paddle.optimizer.lr.InverseTimeDecay (3.3.1).
    """

    learning_rate: NonNegative
    gamma: NonNegative
    last_epoch: Integer = -1
    verbose: bool = False

    def build(self) -> Schedule:
        return _resumed(self, decays.InverseTimeDecay(self.learning_rate, self.gamma, 1))


class PolynomialDecay(Peer):
    """Polynomial decay whose horizon grows when it is reached, if it cycles.

    Formula: `s(t) = end_lr + (learning_rate - end_lr) (1 - t / N)^power` with `N = decay_steps`, after which `end_lr`
    holds; if `cycle`, `N = decay_steps max(1, ceil(t / decay_steps))`.

    Fields:
      learning_rate: the rate at epoch 0, 0 or more.
      decay_steps: an integer, 1 or more epochs.
      end_lr: the rate at epoch `decay_steps`.
      power: above 0.
      cycle: whether the rate rises again, ever less, after each `decay_steps`.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.PolynomialDecay(1.0, decay_steps=4, end_lr=0.0).table(6).tolist()
      [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Source: paddle.optimizer.lr.PolynomialDecay (3.3.1).
    """

    learning_rate: NonNegative
    decay_steps: Count
    end_lr: Scalar = 0.0001
    power: Positive = 1.0
    cycle: bool = False
    last_epoch: Integer = -1
    verbose: bool = False

    def build(self) -> Schedule:
        decay = cycles.PolynomialDecay(self.learning_rate, self.decay_steps, self.end_lr, self.power, self.cycle)
        return _resumed(self, decay)


class LinearWarmup(Peer):
    """A straight line up, then a number or another schedule, which begins at its own epoch 0.

    Formula: `s(t) = start_lr + (end_lr - start_lr) t / warmup_steps` before `warmup_steps`, then
    `learning_rate(t - warmup_steps)`.

    Fields:
      learning_rate: a number or any schedule.
      warmup_steps: an integer, 1 or more epochs.
      start_lr: the rate at epoch 0, 0 or more.
      end_lr: what the line goes to, above `start_lr`; the schedule need not begin there.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Errors: ValueError for `end_lr <= start_lr`, and for an inner schedule with a `last_epoch` of its own, which Paddle
    ignores.

    Paddle asks an inner `CosineAnnealingWarmRestarts` by a logarithm, and so misses restarts such as step 121 of
    `T_0=1, T_mult=3`; here none is missed.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.LinearWarmup(paddle.StepDecay(1.0, 1, 0.5), 2, start_lr=0.0, end_lr=1.0).table(5).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.25]

    Source: paddle.optimizer.lr.LinearWarmup (3.3.1).
    """

    learning_rate: Schedule
    warmup_steps: Count
    start_lr: NonNegative
    end_lr: Scalar
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        reject_if(self, lambda start, end: end <= start, "start_lr", "end_lr", instead="write end_lr above start_lr")
        if hasattr(self.learning_rate, "last_epoch"):
            instead = "LinearWarmup tells the inner schedule its epoch: write last_epoch on the outer one"
            reject_if(self.learning_rate, lambda k: k != -1, "last_epoch", instead=instead)

    def build(self) -> Schedule:
        up = Linear(self.start_lr, self.end_lr, self.warmup_steps)
        return _resumed(self, up.then(self.learning_rate, at=self.warmup_steps))


class ExponentialDecay(Peer):
    """A constant factor at every epoch.

    Formula: `s(t) = learning_rate gamma^t`.

    Fields:
      learning_rate: the rate at epoch 0, 0 or more.
      gamma: the factor, above 0 and below 1.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Errors: ValueError for a gamma of 1 or more.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.ExponentialDecay(1.0, gamma=0.5).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: paddle.optimizer.lr.ExponentialDecay (3.3.1).
    """

    learning_rate: NonNegative
    gamma: Positive
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        _refuse_growth(self)

    def build(self) -> Schedule:
        return _resumed(self, decays.ExponentialDecay(self.learning_rate, self.gamma, 1))


class MultiStepDecay(Peer):
    """A factor at every milestone.

    Formula: `s(t) = learning_rate gamma^n`, where n is the number of milestones `<= t`.

    Fields:
      learning_rate: the rate before the first milestone, 0 or more.
      milestones: epochs, each larger than the one before.
      gamma: the factor, above 0 and below 1.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Errors: ValueError for a gamma of 1 or more, and for milestones that are not sorted.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.MultiStepDecay(1.0, milestones=[2, 3], gamma=0.5).table(4).tolist()
      [1.0, 1.0, 0.5, 0.25]

    Source: paddle.optimizer.lr.MultiStepDecay (3.3.1).
    """

    learning_rate: NonNegative
    milestones: StepTable
    gamma: Positive = 0.1
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        _refuse_growth(self)

    def build(self) -> Schedule:
        return _resumed(self, pieces.MultiStepDecay(self.learning_rate, self.gamma, self.milestones))


class StepDecay(Peer):
    """A factor at every `step_size`-th epoch.

    Formula: `s(t) = learning_rate gamma^floor(t / step_size)`.

    Fields:
      learning_rate: the rate at epoch 0, 0 or more.
      step_size: an integer, 1 or more epochs.
      gamma: the factor, above 0 and below 1.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Errors: ValueError for a gamma of 1 or more.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.StepDecay(1.0, step_size=2, gamma=0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: paddle.optimizer.lr.StepDecay (3.3.1).
    """

    learning_rate: NonNegative
    step_size: Count
    gamma: Positive = 0.1
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        _refuse_growth(self)

    def build(self) -> Schedule:
        return _resumed(self, decays.StepDecay(self.learning_rate, self.gamma, self.step_size))


class CosineAnnealingDecay(Peer):
    """Half a cosine wave from the rate to `eta_min`, which then holds.

    Formula: `s(t) = eta_min + (learning_rate - eta_min) (1 + cos(pi u)) / 2` with `u = min(t / T_max, 1)`; Paddle does
    not stop at `T_max`, and rises again.

    Fields:
      learning_rate: the rate at epoch 0, 0 or more.
      T_max: an integer, 1 or more epochs from top to bottom.
      eta_min: the rate at epoch `T_max`.
      last_epoch: the last epoch that was made, to go on from; -1 for none. Paddle's own needs its state loaded too.
      verbose: False; there is nothing to print.
      peer_exact: whether it rises again, as Paddle's does.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> [round(float(v), 4) for v in paddle.CosineAnnealingDecay(1.0, T_max=2).table(5)]
      [1.0, 0.5, 0.0, 0.0, 0.0]

    Source: paddle.optimizer.lr.CosineAnnealingDecay (3.3.1).
    """

    learning_rate: NonNegative
    T_max: Count
    eta_min: Scalar = 0.0
    last_epoch: Integer = -1
    verbose: bool = False
    peer_exact: bool = False

    def build(self) -> Schedule:
        down = Ramp(self.learning_rate, self.eta_min, self.T_max, shape="cosine")
        if self.peer_exact:
            up = Ramp(self.eta_min, self.learning_rate, self.T_max, shape="cosine")
            down = down.then(up, at=self.T_max).repeat(2 * self.T_max)
        return _resumed(self, down)


class OneCyclePhases(Schedule):
    """Up to a peak and down to a last value in one cycle, told by its three values.

    Formula: from `init_value` to `peak_value` at step `pct_start total_steps - 1`, then to `end_value` at step
    `total_steps - 1`; in three phases first back to `init_value`, in as many steps as it took to rise.

    Fields:
      init_value, peak_value, end_value: the values at step 0, at the top, and from step `total_steps - 1` on.
      total_steps: steps, above 0.
      pct_start: the share of the rise, from 0 to 1.
      shape: `cosine` or `linear`.
      three_phase: whether the fall has two parts.
      bounces: whether step `total_steps` goes beyond the end of the last phase, as in torch and those who took it over.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> s = paddle.OneCyclePhases(0.0, 1.0, 0.0, total_steps=6, pct_start=0.5, shape="linear")
      >>> [round(float(v), 4) for v in s.table(7)]
      [0.0, 0.5, 1.0, 0.6667, 0.3333, 0.0, 0.0]

    Source: Smith and Topin (1708.07120); `jaxsched.OneCycle`, which tells the last value as a share of the first.
    """

    init_value: Scalar
    peak_value: Scalar
    end_value: Scalar
    total_steps: Length
    pct_start: Unit = 0.3
    shape: Literal["cosine", "linear"] = "cosine"
    three_phase: bool = False
    bounces: bool = False

    def value(self, step: Step) -> Array:
        last, shape = self.total_steps - 1, shapes.SHAPES[self.shape]
        over = shapes.reached(step, self.total_steps)
        if self.bounces and self.shape == "cosine":  # a cosine that goes on beyond its end comes back
            step = shapes.stopped(step, over, jnp.maximum(last - 1, 0))
        turns = [shapes.instant(n * self.pct_start, self.total_steps, -n) for n in range(1, 2 + self.three_phase)]
        starts, ends = [shapes.Instant(0, 0.0), *turns], [*turns, shapes.Instant(last, 0.0)]
        back = [self.init_value] if self.three_phase else []
        values = [self.init_value, self.peak_value, *back, self.end_value]
        out: Any = self.init_value
        for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
            value = shapes.mix(values[i], values[i + 1], shape(shapes.between(step, start, end)))
            # Each phase owns its last step; without an `i == 0` a first phase that lasts no step would own nothing.
            out = value if i == 0 else jnp.where(shapes.until(step, start) < 0, value, out)
        if self.bounces and self.shape == "linear":  # one step further down the last line
            steps = -shapes.until(last, starts[-1])
            further = self.end_value + (self.end_value - values[-2]) / jnp.where(steps > 0, steps, 1)
            out = jnp.where(over, further, out)
        return out


class OneCycleLR(Peer):
    """Up to a peak and far down again, in one cycle over the whole training.

    Formula: from `max_learning_rate / divide_factor` up to `max_learning_rate` at step `phase_pct total_steps - 1`,
    then down to `end_learning_rate` at step `total_steps - 1`, which then holds. In three phases first down to where it
    began, in as many steps as it took to rise. Paddle takes one step more, up again or below its end, and then raises.

    Fields:
      max_learning_rate: the rate at the top, 0 or more.
      total_steps: an integer, 1 or more steps.
      divide_factor: top over first rate, above 0.
      end_learning_rate: the last rate, 0 or more.
      phase_pct: the share of the rise, from 0 to 1.
      anneal_strategy: `cos` or `linear`.
      three_phase: whether the fall has two parts; then `phase_pct` is below 1/2.
      last_epoch: the last step that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.
      peer_exact: whether step `total_steps` is Paddle's, beyond the end.

    Errors: ValueError for three phases with `phase_pct >= 0.5`.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> s = paddle.OneCycleLR(1.0, total_steps=5, end_learning_rate=0.0, phase_pct=0.6, anneal_strategy="linear")
      >>> [round(float(v), 4) for v in s.table(6)]
      [0.04, 0.52, 1.0, 0.5, 0.0, 0.0]

    Source: paddle.optimizer.lr.OneCycleLR (3.3.1).
    """

    max_learning_rate: NonNegative
    total_steps: Count
    divide_factor: Positive = 25.0
    end_learning_rate: NonNegative = 0.0001
    phase_pct: Unit = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    three_phase: bool = False
    last_epoch: Integer = -1
    verbose: bool = False
    peer_exact: bool = False

    def check(self) -> None:
        if self.three_phase:
            reject_if(self, lambda pct: pct >= 0.5, "phase_pct", instead="three phases need phase_pct below 0.5")

    def build(self) -> Schedule:
        phases = OneCyclePhases(
            self.max_learning_rate / self.divide_factor,
            self.max_learning_rate,
            self.end_learning_rate,
            self.total_steps,
            self.phase_pct,
            "cosine" if self.anneal_strategy == "cos" else "linear",
            self.three_phase,
            bounces=self.peer_exact,
        )
        return _resumed(self, phases)


class CyclicLR(Peer):
    """Up and down in straight lines, again and again.

    Formula: `s(t) = base + (max - base) tri(t) f`; `tri` rises from 0 to 1 in `step_size_up` and falls in
    `step_size_down`; f is 1 (`triangular`), `2^(1 - c)` in cycle c = 1, 2, ... (`triangular2`), `exp_gamma^t`
    (`exp_range`), or `scale_fn(c)` or `scale_fn(t)`.

    Fields:
      base_learning_rate: the rate at the bottom, 0 or more.
      max_learning_rate: the rate at the top of the first cycle, 0 or more.
      step_size_up: an integer, 1 or more steps.
      step_size_down: as `step_size_up`, or None: the same.
      mode: one of these names; with a `scale_fn` it does not count.
      exp_gamma: the factor of a step in `exp_range`, above 0.
      scale_fn: a function that JAX can trace, or None.
      scale_mode: whether `scale_fn` is told the `cycle`, from 1 on, or the `iterations`, from 0 on.
      last_epoch: the last step that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.

    Errors: ValueError for a `scale_mode` without a `scale_fn`, which Paddle ignores.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.CyclicLR(0.0, 1.0, step_size_up=2, mode="triangular2").table(8).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]

    Source: paddle.optimizer.lr.CyclicLR (3.3.1).
    """

    base_learning_rate: NonNegative
    max_learning_rate: NonNegative
    step_size_up: Count
    step_size_down: Count | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    exp_gamma: Positive = 1.0
    scale_fn: Callable[..., Any] | None = None
    scale_mode: Literal["cycle", "iterations"] = "cycle"
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        if self.scale_fn is None and self.scale_mode != "cycle":
            refuse_ignored(self, "scale_mode", "Paddle", "it is about scale_fn, and each mode has its own")

    def build(self) -> Schedule:
        base, peak, up = self.base_learning_rate, self.max_learning_rate, self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        if self.scale_fn is None:
            return _resumed(self, cycles.CyclicTriangular(base, peak, up, down, self.mode, self.exp_gamma))
        scale = Lambda(self.scale_fn)
        if self.scale_mode == "cycle":
            scale = scale.shift(-1).per_epoch(up + down)
        return _resumed(self, cycles.CyclicTriangular(0.0, peak - base, up, down) * scale + base)


class LinearLR(Peer):
    """A straight line from one share of the rate to another.

    Formula: `s(t) = learning_rate (start_factor (1 - u) + end_factor u)` with `u = min(t / total_steps, 1)`.

    Fields:
      learning_rate: the rate, 0 or more.
      total_steps: steps, above 0.
      start_factor: the share at step 0, above 0 and at most 1.
      end_factor: the share from step `total_steps` on, from 0 to 1.
      last_epoch: the last step that was made, to go on from; -1 for none. Paddle's own needs its state loaded too.
      verbose: False; there is nothing to print.

    Errors: ValueError for a `start_factor` of 0.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.LinearLR(1.0, total_steps=4, start_factor=0.5).table(6).tolist()
      [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]

    Source: paddle.optimizer.lr.LinearLR (3.3.1).
    """

    learning_rate: NonNegative
    total_steps: Length
    start_factor: Unit = 1.0 / 3
    end_factor: Unit = 1.0
    last_epoch: Integer = -1
    verbose: bool = False

    def check(self) -> None:
        reject_if(self, lambda x: x == 0, "start_factor", instead="write a share above 0")

    def build(self) -> Schedule:
        start, end = self.learning_rate * self.start_factor, self.learning_rate * self.end_factor
        return _resumed(self, Linear(start, end, self.total_steps))


class CosineAnnealingWarmRestarts(Peer):
    """Cosines from the rate to `eta_min`, each after a restart, and each `T_mult` times as long as the one before.

    Formula: `s(t) = eta_min + (learning_rate - eta_min) (1 + cos(pi T_cur / T_i)) / 2`, `T_cur` steps after the last
    restart, in cycle i of `T_i = T_0 T_mult^i` steps.

    Fields:
      learning_rate: the rate at each restart, 0 or more.
      T_0: an integer, 1 or more steps.
      T_mult: an integer, 1 or more.
      eta_min: the rate that each cycle comes down to.
      last_epoch: the last step that was made, to go on from; -1 for none. Paddle's own needs its state loaded too.
      verbose: False; there is nothing to print.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> [round(float(v), 4) for v in paddle.CosineAnnealingWarmRestarts(1.0, T_0=2, T_mult=2).table(7)]
      [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 1.0]

    Source: paddle.optimizer.lr.CosineAnnealingWarmRestarts (3.3.1).
    """

    learning_rate: NonNegative
    T_0: Count
    T_mult: Count = 1
    eta_min: Scalar = 0.0
    last_epoch: Integer = -1
    verbose: bool = False

    def build(self) -> Schedule:
        return _resumed(self, cycles.CosineWarmRestarts(self.learning_rate, self.T_0, self.T_mult, self.eta_min))


def LambdaDecay(
    learning_rate: Any,
    lr_lambda: Callable[[Any], Any],
    last_epoch: Any = -1,
    verbose: bool = False,
    horizon: int | None = None,
) -> Schedule:
    """The rate times any function of the epoch.

    Formula: `s(t) = learning_rate lr_lambda(t)`.

    Args:
      learning_rate: the rate, 0 or more.
      lr_lambda: a function of the epoch: one that JAX can trace, or with a `horizon` any function at all.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.
      horizon: None, or for how many epochs `lr_lambda` is asked now, once each; the last value holds.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.LambdaDecay(1.0, lambda epoch: 0.5**epoch).table(3).tolist()
      [1.0, 0.5, 0.25]
      >>> paddle.LambdaDecay(1.0, lambda epoch: 1.0 if epoch < 2 else 0.5, horizon=10).table(3).tolist()
      [1.0, 1.0, 0.5]

    Source: paddle.optimizer.lr.LambdaDecay (3.3.1).
    """
    _refuse_no_function("LambdaDecay", lr_lambda)
    factor = Lambda(lr_lambda) if horizon is None else _table("LambdaDecay", lr_lambda, horizon)
    _refuse_verbose("LambdaDecay", verbose)
    return (_rate("LambdaDecay", learning_rate) * factor).shift(-(last_epoch + 1))


def MultiplicativeDecay(
    learning_rate: Any,
    lr_lambda: Callable[[int], Any],
    last_epoch: Any = -1,
    verbose: bool = False,
    *,
    horizon: int,
) -> Schedule:
    """A factor at every epoch, each from a function of it.

    Formula: `s(t) = learning_rate lr_lambda(1) lr_lambda(2) ... lr_lambda(t)`.

    Args:
      learning_rate: the rate at epoch 0, 0 or more.
      lr_lambda: any function of the epoch.
      last_epoch: the last epoch that was made, to go on from; -1 for none.
      verbose: False; there is nothing to print.
      horizon: for how many epochs there is a value: `lr_lambda` is asked now for 1 ... horizon - 1, since a product of
        all before cannot be had otherwise. The last value holds.

    Example:
      >>> from jaxsched.compat.others import paddle
      >>> paddle.MultiplicativeDecay(1.0, lambda epoch: 0.5, horizon=4).table(5).tolist()
      [1.0, 0.5, 0.25, 0.125, 0.125]

    Source: paddle.optimizer.lr.MultiplicativeDecay (3.3.1).
    """
    owner = "MultiplicativeDecay"
    _refuse_no_function(owner, lr_lambda)
    factor = _table(owner, lr_lambda, horizon, product=True)
    _refuse_verbose(owner, verbose)
    return (_rate(owner, learning_rate) * factor).shift(-(last_epoch + 1))


def ReduceOnPlateau(
    learning_rate: Any,
    mode: str = "min",
    factor: Any = 0.1,
    patience: Any = 10,
    threshold: Any = 1e-4,
    threshold_mode: str = "rel",
    cooldown: Any = 0,
    min_lr: Any = 0,
    epsilon: Any = 1e-8,
    verbose: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Cuts of the rate when a metric has stopped getting better: `jaxsched.reduce_on_plateau`.

    Formula: that of `jaxsched.reduce_on_plateau`, with `eps=epsilon`. In the cooldown a better metric is heard here, as
    torch hears it; Paddle does not look at the metric then. Without a cooldown both make the same cuts.

    Args:
      learning_rate: a number, or any schedule.
      mode: `min` or `max`.
      factor: what a cut multiplies the rate by, between 0 and 1.
      patience: the metrics in a row that may be no better; the next one cuts.
      threshold: by how much a metric must be better.
      threshold_mode: `rel` or `abs`.
      cooldown: metrics after a cut that are not counted.
      min_lr: the rate below which no cut goes.
      epsilon: the smallest cut that is made.
      verbose: False; there is nothing to print.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> from jaxsched.compat.others import paddle
      >>> state = paddle.ReduceOnPlateau(1.0, factor=0.5, patience=0).init(jnp.ones(3))
      >>> for loss in (1.0, 1.0):
      ...     state = js.observe(state, value=loss)
      >>> state.learning_rate.item()
      0.5

    Source: paddle.optimizer.lr.ReduceOnPlateau (3.3.1).
    """
    if verbose:
        raise ValueError("ReduceOnPlateau: verbose=True; it prints nothing: read jaxsched.current_hyperparams(state).")
    return reduce_on_plateau(
        learning_rate,
        mode=mode.lower(),  # type: ignore[arg-type]
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode.lower(),  # type: ignore[arg-type]
        cooldown=cooldown,
        min_lr=min_lr,
        eps=epsilon,
    )
