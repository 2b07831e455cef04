"""torch.optim.lr_scheduler: the classes by their own names and arguments, with `lr` in the place of the optimizer.

`from_scheduler` reads a live one. What torch does at a step is written beside each class for `ChainedScheduler`, in
which several of them work on one rate: a scheduler either scales the rate, or sets it, or draws it to a floor.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from .._errors import format_value, is_traced
from ..fields import Count, Domain, Integer, Length, Number, Numbers, Positive, Scalar, Steps, Unit, reject_if
from ..optim.plateau import reduce_on_plateau
from ..schedules import shapes
from ..schedules.base import Constant, Schedule
from ..schedules.combine import Join, Product
from ..schedules.cycles import CosineWarmRestarts, CyclicTriangular
from ..schedules.decays import ExponentialDecay, StepDecay
from ..schedules.pieces import PiecewiseConstant
from ..schedules.ramps import Linear, Polynomial, Ramp
from ..schedules.recipes import OneCycle, OneCycleMomentum
from ..schedules.shapes import Step, floating
from .peer import Peer, admitted
from .torch_live import from_scheduler as from_scheduler

Epoch = Annotated[Number, Domain("an integer, -1 or more", lambda x: x >= -1, counts=True, whole=True)]
StartFactor = Annotated[Number, Domain("a number above 0, up to 1", lambda x: (x > 0) & (x <= 1))]
Milestones = Annotated[Numbers, Domain("a list of steps, 0 or more", lambda x: x >= 0, counts=True, ndim=1)]


def _resumed(schedule: Schedule, last_epoch: Integer) -> Schedule:
    """torch makes one step at construction: a scheduler with `last_epoch=9` starts at its step 10."""
    return schedule.shift(-(last_epoch + 1))


# --- what a step does to the rate: rate -> keeps(t - 1, t) rate + adds(t), in steps t from here on --------------------


def _quotient(after: Array, before: Array, over: Any) -> Array:
    """`after / before`, and `over` where that is 0 / 0."""
    return jnp.where(before == 0, over, after / jnp.where(before == 0, 1, before))


def _scale_keeps(self: Any, s: Array, t: Array) -> Array:
    """What is left, after step t, of a rate after step s. A scheduler that has come down to 0 does nothing more."""
    factor = self.replace(lr=1.0)
    return _quotient(factor.value(t), factor.value(s), over=1.0)


def _power_keeps(self: Any, s: Array, t: Array) -> Array:
    """As `_scale_keeps`, for a power whose own value may be too small for a float."""
    return shapes.power(self.gamma, shapes.ratio(self._exponent(t) - self._exponent(s)))


def _keeps(part: Any, s: Array, t: Array) -> Array:
    return jnp.where(t > s, 0.0, 1.0) if _sets(part) else part._keeps(s, t)


def _adds(part: Any, t: Array) -> Array:
    if _sets(part):
        return part.value(t)
    return jnp.zeros(t.shape) if _scales(part) else part._adds(t)


def _scales(part: Any) -> bool:
    return hasattr(part, "_keeps") and not hasattr(part, "_adds")


def _sets(part: Any) -> bool:
    return not hasattr(part, "_keeps")


# --- the classes -----------------------------------------------------------------------------------------------------


def _check_traceable(owner: str, fn: Any) -> None:
    try:
        jax.eval_shape(fn, jax.ShapeDtypeStruct((), jnp.result_type(int)))
    except Exception as error:
        raise ValueError(
            f"{owner}: JAX cannot trace lr_lambda ({type(error).__name__}: {str(error).splitlines()[0][:80]}); write "
            "it with jax.numpy and without `if`, or give horizon=N to have its first N values tabulated."
        ) from error
    traced_fn = jax.jit(fn)
    for step in _PROBES:  # an integer of JAX is not one of Python: 2 ** -t is 0 there, and t ** 4 runs over
        try:
            python, traced = float(fn(step)), float(traced_fn(step))
        except Exception:
            continue  # what it does at all is known already; Python may refuse what JAX takes
        if not math.isclose(python, traced, rel_tol=1e-3, abs_tol=1e-30):
            raise ValueError(
                f"{owner}: lr_lambda({step}) is {python:.6g} in Python and {traced:.6g} in JAX, whose integers have no "
                "2 ** -t and end at 2**31 - 1; write it with floats, such as 2.0 ** -t, or give horizon=N to have its "
                "first N values tabulated."
            )


_PROBES = (0, 1, 2, 3, 10, 100, 1_000, 10_000)


def _refuse_no_function(owner: str, fn: Any) -> None:
    if isinstance(fn, (list, tuple)):
        raise TypeError(
            f"{owner}: lr_lambda={format_value(fn)}; write one function: each parameter group has its schedule."
        )
    if not callable(fn):
        raise TypeError(f"{owner}: lr_lambda={format_value(fn)}; lr_lambda must be a function of the step.")


def _table(owner: str, values: Callable[[int], list[float]], horizon: Any) -> Schedule:
    """A table of the values at steps 0 ... horizon - 1, the last of which holds."""
    if isinstance(horizon, bool) or not isinstance(horizon, (int, np.integer)) or horizon < 1:
        raise ValueError(f"{owner}: horizon={format_value(horizon)}; horizon must be an integer, 1 or more.")
    return PiecewiseConstant(np.arange(1, horizon), np.array(values(int(horizon)), np.float64))


class LambdaLR(Peer):
    """The rate times a function of the step.

    Formula: `s(t) = lr lr_lambda(t)`.

    Fields:
      lr: the optimizer's rate.
      lr_lambda: a function of the step that JAX can trace, or a schedule. With `horizon=N`, which is no field, any
        function: it is asked for its values at steps 0 ... N - 1 once, and the last one holds.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Errors: ValueError for a function that cannot be traced, without a horizon; TypeError for several functions.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.LambdaLR(1.0, lambda t: 0.5**t).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]
      >>> torch.LambdaLR(1.0, lambda t: 1.0 if t < 2 else 0.5, horizon=4).table(4).tolist()
      [1.0, 1.0, 0.5, 0.5]

    Source: torch.optim.lr_scheduler.LambdaLR (2.13).
    """

    lr: Scalar
    lr_lambda: Schedule
    last_epoch: Epoch = -1

    def __init__(self, lr: Any, lr_lambda: Any, last_epoch: Any = -1, horizon: Any = None) -> None:
        _refuse_no_function("LambdaLR", lr_lambda)
        if horizon is not None:
            lr_lambda = _table("LambdaLR", lambda n: [float(lr_lambda(t)) for t in range(n)], horizon)
        elif not isinstance(lr_lambda, Schedule):
            _check_traceable("LambdaLR", lr_lambda)
        super().__init__(lr, lr_lambda, last_epoch)  # pyright: ignore[reportCallIssue]

    def build(self) -> Schedule:
        return _resumed(self.lr * self.lr_lambda, self.last_epoch)


class MultiplicativeLR(Peer):
    """A factor at every step, told by a function.

    Formula: `s(t) = lr lr_lambda(1) lr_lambda(2) ... lr_lambda(t)`.

    Fields:
      lr: the optimizer's rate.
      lr_lambda: a function of the step, which is asked for its values at steps 1 ... `horizon` - 1 once, and kept as
        the table of their running products. `horizon`, which is no field, must be given with a function; after it the
        value holds. A schedule stands for the running products themselves.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Errors: ValueError for a function without a horizon; TypeError for several functions.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.MultiplicativeLR(1.0, lambda t: 1.0 if t % 2 else 0.5, horizon=5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: torch.optim.lr_scheduler.MultiplicativeLR (2.13).
    """

    lr: Scalar
    lr_lambda: Schedule
    last_epoch: Epoch = -1

    def __init__(self, lr: Any, lr_lambda: Any, last_epoch: Any = -1, horizon: Any = None) -> None:
        _refuse_no_function("MultiplicativeLR", lr_lambda)
        if horizon is None and not isinstance(lr_lambda, Schedule):
            raise ValueError(
                "MultiplicativeLR: a product of factors has no formula; give horizon=N to have its first N values "
                "tabulated."
            )
        if horizon is not None:
            lr_lambda = _table("MultiplicativeLR", functools.partial(_running_products, lr_lambda), horizon)
        super().__init__(lr, lr_lambda, last_epoch)  # pyright: ignore[reportCallIssue]

    def build(self) -> Schedule:
        return _resumed(self.lr * self.lr_lambda, self.last_epoch)

    _keeps = _scale_keeps


def _running_products(fn: Any, horizon: int) -> list[float]:
    return np.cumprod([1.0, *(float(fn(t)) for t in range(1, horizon))]).tolist()


class StepLR(Peer):
    """A factor at every `step_size`-th step.

    Formula: `s(t) = lr gamma^floor(t / step_size)`.

    Fields:
      lr: the optimizer's rate.
      step_size: steps between two factors, above 0.
      gamma: the factor, above 0.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.StepLR(1.0, step_size=2, gamma=0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: torch.optim.lr_scheduler.StepLR (2.13).
    """

    lr: Scalar
    step_size: Length
    gamma: Positive = 0.1
    last_epoch: Epoch = -1

    def build(self) -> Schedule:
        return _resumed(StepDecay(self.lr, self.gamma, self.step_size), self.last_epoch)

    def _exponent(self, t: Array) -> Array:
        return shapes.floor_div(t + self.last_epoch + 1, self.step_size)

    _keeps = _power_keeps


class _Milestones(Schedule):
    """`MultiStepDecay` for milestones in any order, of which some may be the same."""

    init_value: Scalar
    gamma: Positive
    milestones: Milestones

    def value(self, step: Step) -> Array:
        return self.init_value * shapes.power(self.gamma, shapes.ratio(self.passed(step)))

    def passed(self, step: Step) -> Array:
        return shapes.passed(step, jnp.sort(jnp.asarray(self.milestones)))


class MultiStepLR(Peer):
    """A factor at every milestone.

    Formula: `s(t) = lr gamma^n`, where n is the number of milestones `<= t`; in torch one between two steps, such as
    2.5, is never reached.

    Fields:
      lr: the optimizer's rate.
      milestones: steps, in any order; one that stands twice counts twice.
      gamma: the factor, above 0.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether a milestone between two steps is never reached, as in torch.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.MultiStepLR(1.0, milestones=[2, 3], gamma=0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25]

    Source: torch.optim.lr_scheduler.MultiStepLR (2.13).
    """

    lr: Scalar
    milestones: Milestones
    gamma: Positive = 0.1
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def _decay(self) -> _Milestones:
        milestones: Any = jnp.asarray(self.milestones)
        if self.peer_exact and not shapes.is_integer(milestones):
            milestones = jnp.where(milestones % 1 == 0, milestones, 1e30)  # beyond all steps
        return _Milestones(self.lr, self.gamma, milestones)

    def build(self) -> Schedule:
        return _resumed(self._decay(), self.last_epoch)

    def _exponent(self, t: Array) -> Array:
        return self._decay().passed(t + self.last_epoch + 1)

    _keeps = _power_keeps


class ConstantLR(Peer):
    """A factor for the first steps.

    Formula: `s(t) = lr factor` before step `total_iters`, and `lr` from there on.

    Fields:
      lr: the optimizer's rate.
      factor: from 0 to 1; with 0 torch stops at step `total_iters` with a ZeroDivisionError.
      total_iters: steps, 0 or more; with 0 torch keeps the factor for ever.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether `total_iters=0` keeps the factor for ever, as in torch.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.ConstantLR(1.0, factor=0.5, total_iters=2).table(4).tolist()
      [0.5, 0.5, 1.0, 1.0]

    Source: torch.optim.lr_scheduler.ConstantLR (2.13).
    """

    lr: Scalar
    factor: Unit = 1.0 / 3
    total_iters: Steps = 5
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        first = self.lr * self.factor
        after = _unless_empty(self, self.lr, first) if self.peer_exact else self.lr
        return _resumed(Constant(first).then(Constant(after), at=self.total_iters), self.last_epoch)

    _keeps = _scale_keeps


def _unless_empty(schedule: Any, value: Any, instead: Any) -> Array:
    """`value`, or what stands instead of it in torch if `total_iters` is 0."""
    return jnp.where(jnp.asarray(schedule.total_iters) > 0, value, instead)


class LinearLR(Peer):
    """A factor that changes in a straight line.

    Formula: `s(t) = lr (start_factor (1 - u) + end_factor u)` with `u = min(t / total_iters, 1)`.

    Fields:
      lr: the optimizer's rate.
      start_factor: the factor at step 0, above 0 and up to 1.
      end_factor: the factor at step `total_iters`, from 0 to 1.
      total_iters: steps, 0 or more; with 0 the factor is `end_factor` at once, and in torch `start_factor` for ever.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether `total_iters=0` keeps `start_factor` for ever, as in torch.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.LinearLR(1.0, start_factor=0.5, total_iters=2).table(4).tolist()
      [0.5, 0.75, 1.0, 1.0]

    Source: torch.optim.lr_scheduler.LinearLR (2.13).
    """

    lr: Scalar
    start_factor: StartFactor = 1.0 / 3
    end_factor: Unit = 1.0
    total_iters: Steps = 5
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        start, end = self.lr * self.start_factor, self.lr * self.end_factor
        end = _unless_empty(self, end, start) if self.peer_exact else end
        return _resumed(Linear(start, end, self.total_iters), self.last_epoch)

    _keeps = _scale_keeps


class ExponentialLR(Peer):
    """A constant factor at every step.

    Formula: `s(t) = lr gamma^t`.

    Fields:
      lr: the optimizer's rate.
      gamma: the factor, above 0.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.ExponentialLR(1.0, gamma=0.5).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: torch.optim.lr_scheduler.ExponentialLR (2.13).
    """

    lr: Scalar
    gamma: Positive
    last_epoch: Epoch = -1

    def build(self) -> Schedule:
        return _resumed(ExponentialDecay(self.lr, self.gamma, 1), self.last_epoch)

    def _exponent(self, t: Array) -> Array:
        return t

    _keeps = _power_keeps


class PolynomialLR(Peer):
    """A power of the way that is left, down to 0.

    Formula: `s(t) = lr (1 - u)^power` with `u = min(t / total_iters, 1)`.

    Fields:
      lr: the optimizer's rate.
      total_iters: steps, 0 or more; with 0 the rate is 0 at once, and in torch `lr` for ever.
      power: above 0.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether `total_iters=0` keeps `lr` for ever, as in torch.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.PolynomialLR(1.0, total_iters=4, power=2.0).table(6).tolist()
      [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]

    Source: torch.optim.lr_scheduler.PolynomialLR (2.13).
    """

    lr: Scalar
    total_iters: Steps = 5
    power: Positive = 1.0
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        end = _unless_empty(self, 0.0, self.lr) if self.peer_exact else 0.0
        return _resumed(Polynomial(self.lr, end, self.total_iters, self.power), self.last_epoch)

    def _keeps(self, s: Array, t: Array) -> Array:
        end = _unless_empty(self, 0.0, 1.0) if self.peer_exact else 0.0
        left = _resumed(Linear(1.0, end, self.total_iters), self.last_epoch)
        share = _quotient(left.value(t), left.value(s), over=1.0)
        return jnp.where(share > 0, jnp.power(jnp.where(share > 0, share, 1), self.power), 0)


class CosineAnnealingLR(Peer):
    """Half a cosine wave from the rate to `eta_min`, which then holds.

    Formula: `s(t) = eta_min + (lr - eta_min) (1 + cos(pi u)) / 2` with `u = min(t / T_max, 1)`; torch does not stop at
    `T_max`, and rises again.

    Fields:
      lr: the optimizer's rate.
      T_max: the steps from top to bottom, above 0.
      eta_min: the value at step `T_max`.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether it rises again, as torch's does.

    Example:
      >>> from jaxsched.compat import torch
      >>> [round(float(v), 4) for v in torch.CosineAnnealingLR(1.0, T_max=2).table(5)]
      [1.0, 0.5, 0.0, 0.0, 0.0]

    Source: torch.optim.lr_scheduler.CosineAnnealingLR (2.13).
    """

    lr: Scalar
    T_max: Length
    eta_min: Scalar = 0.0
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        down = Ramp(self.lr, self.eta_min, self.T_max, shape="cosine")
        if self.peer_exact:
            up = Ramp(self.eta_min, self.lr, self.T_max, shape="cosine")
            down = down.then(up, at=self.T_max).repeat(2 * self.T_max)
        return _resumed(down, self.last_epoch)

    def _keeps(self, s: Array, t: Array) -> Array:
        """torch multiplies the distance from `eta_min`, whoever else has changed it."""
        far = self.replace(lr=1.0, eta_min=0.0)
        before, after = far.value(s), far.value(t)
        if not self.peer_exact:
            return _quotient(after, before, over=1.0)
        bottoms = [shapes.floor_div(x + self.last_epoch + 1 + self.T_max, 2 * self.T_max) for x in (s, t)]
        share = after / jnp.where(before == 0, jnp.where(t > s, self._first_rise(), 1), before)
        return jnp.where(bottoms[1] > bottoms[0], 0, jnp.where(t > s, share, 1))

    def _first_rise(self) -> Array:
        """What torch adds at the step after a bottom, as a share of the whole height."""
        return Ramp(0.0, 1.0, self.T_max, shape="cosine").value(jnp.asarray(1))

    def _adds(self, t: Array) -> Array:
        before = self.replace(lr=1.0, eta_min=0.0).value(t - 1)
        index, clock = shapes.cycle(t + self.last_epoch, self.T_max)
        falls, at_bottom = index % 2 == 0, before == 0
        lost = jnp.where(falls, 1, -1) * _fall(clock + 1, self.T_max)
        if not self.peer_exact:
            return self.eta_min * jnp.where(index > 0, 0, _quotient(lost, before, over=0.0))
        drawn = self.eta_min * jnp.where(at_bottom, 0, _quotient(lost, before, over=0.0))
        return drawn + jnp.where(at_bottom, (self.lr - self.eta_min) * self._first_rise(), 0)


def _fall(t: Array, steps: Any) -> Array:
    """How far half a cosine wave from 1 to 0 falls from step t - 1 to t, to all digits."""
    half = jnp.pi * shapes.progress(2 * t - 1, 2 * steps).gap
    return jnp.sin(half) * jnp.sin(jnp.pi / (2 * floating(steps)))


# --- classes that set the rate ---------------------------------------------------------------------------------------


@functools.cache
def _missed() -> np.ndarray:
    """At [T_mult, cycle], whether the logarithm in torch's `step(epoch)` comes out below a whole number."""
    rows = [[mult > 1 and int(math.log(float(mult**n), mult)) < n for n in range(64)] for mult in range(65)]
    return np.array([[bool(x) for x in row] for row in rows])


class _MissedRestarts(Schedule):
    """Cosines with restarts, of which those are missed that torch's logarithm misses."""

    schedule: Schedule
    period: Count
    period_mult: Count
    end_value: Scalar

    def value(self, step: Step) -> Array:
        index, clock = shapes.cycle(step, self.period, self.period_mult)
        missed = jnp.asarray(_missed())[jnp.minimum(self.period_mult, 64), jnp.minimum(index, 63)]
        return jnp.where(missed & (floating(clock) == 0), self.end_value, self.schedule.value(step))


class CosineAnnealingWarmRestarts(Peer):
    """Cosines from the rate to `eta_min`, each after a restart and `T_mult` times as long as the one before.

    Formula: in cycle i, which is `T_0 T_mult^i` steps long, half a cosine wave from `lr` to `eta_min`.

    Fields:
      lr: the optimizer's rate.
      T_0: the length of the first cycle, an integer above 0.
      T_mult: an integer, 1 or more.
      eta_min: the value that each cycle comes down to.
      last_epoch: the last step that was made, to go on from; -1 for none. (torch does so rightly for `T_mult=1` only.)
      peer_exact: whether some restarts are missed, for one step, as by torch's `step(epoch)`: that of step 363 for
        `T_0=3, T_mult=3`. Its plain `step()` misses none.

    Example:
      >>> from jaxsched.compat import torch
      >>> s = torch.CosineAnnealingWarmRestarts(1.0, T_0=3, T_mult=3)
      >>> [float(s(t)) for t in (0, 3, 12, 363)]
      [1.0, 1.0, 1.0, 1.0]

    Source: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts (2.13).
    """

    lr: Scalar
    T_0: Count
    T_mult: Count = 1
    eta_min: Scalar = 0.0
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        schedule: Schedule = CosineWarmRestarts(self.lr, self.T_0, self.T_mult, self.eta_min)
        if self.peer_exact:
            schedule = _MissedRestarts(schedule, self.T_0, self.T_mult, self.eta_min)
        return _resumed(schedule, self.last_epoch)


def _refuse_rate(owner: str, fields: Any, begins: str) -> None:
    if "lr" in fields:
        raise TypeError(
            f"{owner} takes no lr: torch ignores the optimizer's rate, and begins at {begins}; leave it out."
        )


def _refuse_constant_momentum(schedule: Any) -> None:
    if not schedule.cycle_momentum:
        owner = type(schedule).__name__
        raise ValueError(f"{owner}: cycle_momentum=False, so that the momentum stays that of the optimizer.")


class _CycleScale(Schedule):
    """A user's `scale_fn`, of the number of the cycle (from 1 on) or of the step."""

    scale_fn: Callable[..., Any]
    cycle_steps: Length
    by_cycle: bool

    def value(self, step: Step) -> Array:
        return floating(self.scale_fn(shapes.floor_div(step, self.cycle_steps) + 1 if self.by_cycle else step))


class CyclicLR(Peer):
    """Up and down in straight lines, again and again.

    Formula: `s(t) = base_lr + (max_lr - base_lr) tri(t) f`; `tri` rises from 0 to 1 in `step_size_up` and falls in
    `step_size_down`; f is 1 (`triangular`), `2^-i` in cycle i = 0, 1, ... (`triangular2`), `gamma^t` (`exp_range`), or
    `scale_fn` of `i + 1` or of t.

    Fields:
      base_lr, max_lr: the values at the bottom and at the first top. The optimizer's rate does not count: there is no
        `lr`.
      step_size_up, step_size_down: steps, above 0; None: as many down as up.
      mode: one of these names; a `scale_fn` takes its place.
      gamma: the factor of a step in `exp_range`, above 0.
      scale_fn: a function that JAX can trace, or None.
      scale_mode: what `scale_fn` is told: `cycle`, the number of the cycle from 1 on, or `iterations`, the step.
      cycle_momentum: whether `momentum` is a schedule.
      base_momentum, max_momentum: the momentum at the tops and at the bottoms, from 0 to 1.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Errors: TypeError for `lr`; ValueError for a scale_mode without a scale_fn, which torch ignores.

    Example:
      >>> from jaxsched.compat import torch
      >>> s = torch.CyclicLR(base_lr=0.0, max_lr=1.0, step_size_up=2)
      >>> s.table(6).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
      >>> [round(float(v), 4) for v in s.momentum.table(3)]
      [0.9, 0.85, 0.8]

    Source: torch.optim.lr_scheduler.CyclicLR (2.13).
    """

    base_lr: Scalar
    max_lr: Scalar
    step_size_up: Length = 2000
    step_size_down: Length | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: Positive = 1.0
    scale_fn: Callable[..., Any] | None = None
    scale_mode: Literal["cycle", "iterations"] = "cycle"
    cycle_momentum: bool = True
    base_momentum: Unit = 0.8
    max_momentum: Unit = 0.9
    last_epoch: Epoch = -1

    @classmethod
    def _reject_unknown(cls, fields: Any) -> None:
        _refuse_rate("CyclicLR", fields, "base_lr")
        super()._reject_unknown(fields)

    def check(self) -> None:
        if self.scale_fn is None and self.scale_mode == "iterations" and self.mode != "exp_range":
            raise ValueError(
                f"CyclicLR: scale_mode='iterations' is ignored by torch without a scale_fn: mode={self.mode!r} counts "
                "cycles."
            )

    def _between(self, low: Any, high: Any) -> Schedule:
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        if self.scale_fn is None:
            return _resumed(CyclicTriangular(low, high, up, down, self.mode, self.gamma), self.last_epoch)
        scale = _CycleScale(self.scale_fn, up + down, self.scale_mode == "cycle")
        return _resumed(low + (high - low) * CyclicTriangular(0.0, 1.0, up, down) * scale, self.last_epoch)

    def build(self) -> Schedule:
        return self._between(self.base_lr, self.max_lr)

    @property
    def momentum(self) -> Schedule:
        """The momentum that goes with the rate: low where the rate is high."""
        _refuse_constant_momentum(self)
        return self._between(self.max_momentum, self.base_momentum)


class OneCycleLR(Peer):
    """Up to a peak and far down again, in one cycle over the whole training.

    Formula: from `max_lr / div_factor` up to `max_lr` at step `pct_start total_steps - 1`, then down to
    `max_lr / div_factor / final_div_factor` at step `total_steps - 1`, which then holds. In three phases first down to
    where it began, in as many steps as it took to rise.

    Fields:
      max_lr: the value at the top. The optimizer's rate does not count: there is no `lr`.
      total_steps: the horizon, above 1; None: `epochs * steps_per_epoch`.
      epochs, steps_per_epoch: integers, 1 or more, in the place of `total_steps`.
      pct_start: the share of the rise, from 0 to 1.
      anneal_strategy: `cos` or `linear`.
      cycle_momentum: whether `momentum` is a schedule.
      base_momentum, max_momentum: the momentum at the top and at both ends, from 0 to 1.
      div_factor: `max_lr` over the first value, above 0.
      final_div_factor: the first value over the last one, above 0.
      three_phase: whether the fall has two parts.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether the rate bounces at step `total_steps`, as in torch (below 0 if `linear`); torch refuses to go
        on after that step.

    Errors: TypeError for `lr`; ValueError without a horizon, and for a phase that is over before it begins.

    Example:
      >>> from jaxsched.compat import torch
      >>> s = torch.OneCycleLR(max_lr=0.1, epochs=10, steps_per_epoch=10)
      >>> [f"{s(t):.1e}" for t in (0, 29, 99, 1000)]
      ['4.0e-03', '1.0e-01', '4.0e-07', '4.0e-07']
      >>> [round(float(s.momentum(t)), 4) for t in (0, 29, 99)]
      [0.95, 0.85, 0.95]

    Source: torch.optim.lr_scheduler.OneCycleLR (2.13).
    """

    max_lr: Scalar
    total_steps: Count | None = None
    epochs: Count | None = None
    steps_per_epoch: Count | None = None
    pct_start: Unit = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Unit = 0.85
    max_momentum: Unit = 0.95
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    three_phase: bool = False
    last_epoch: Epoch = -1
    peer_exact: bool = False

    @classmethod
    def _reject_unknown(cls, fields: Any) -> None:
        _refuse_rate("OneCycleLR", fields, "max_lr / div_factor")
        super()._reject_unknown(fields)

    def check(self) -> None:
        if self.total_steps is None and (self.epochs is None or self.steps_per_epoch is None):
            raise ValueError("OneCycleLR: total_steps=None; write total_steps, or epochs and steps_per_epoch.")
        if self.total_steps is not None and not (self.epochs is None and self.steps_per_epoch is None):
            raise ValueError(
                f"OneCycleLR: total_steps={format_value(self.total_steps)}, beside which torch ignores epochs and "
                "steps_per_epoch: write the one or the others."
            )

    def _total(self) -> Any:
        return self.epochs * self.steps_per_epoch if self.total_steps is None else self.total_steps  # type: ignore

    def _shape(self) -> Literal["cosine", "linear"]:
        return "cosine" if self.anneal_strategy == "cos" else "linear"

    def build(self) -> Schedule:
        total = self._total()
        schedule: Schedule = OneCycle(
            self.max_lr,
            total,
            self.pct_start,
            self.div_factor,
            self.final_div_factor,
            self._shape(),
            self.three_phase,
        )
        if self.peer_exact:
            schedule = schedule.then(Constant(self._bounce(total)), at=total)
        return _resumed(schedule, self.last_epoch)

    def _bounce(self, total: Any) -> Array:
        """The value one step after the last one, on the curve of the last phase."""
        first = self.max_lr / self.div_factor
        start, end = first if self.three_phase else self.max_lr, first / self.final_div_factor
        turns = 2 if self.three_phase else 1
        beyond = 1 / (total - 1 - turns * (self.pct_start * total - 1))
        share = jnp.sin(jnp.pi / 2 * beyond) ** 2 if self.anneal_strategy == "cos" else -jnp.asarray(beyond)
        return end + (start - end) * share

    @property
    def momentum(self) -> Schedule:
        """The momentum that goes with the rate: low where the rate is high."""
        _refuse_constant_momentum(self)
        low, high = self.base_momentum, self.max_momentum
        momentum = OneCycleMomentum(low, high, self._total(), self.pct_start, self._shape(), self.three_phase)
        return _resumed(momentum, self.last_epoch)


class SWALR(Peer):
    """From the rate to the constant rate of stochastic weight averaging.

    Formula: `s(t) = lr (1 - w) + swa_lr w` with `w = (1 - cos(pi u)) / 2` (`cos`) or `w = u` (`linear`) and
    `u = min(t / anneal_epochs, 1)`. In `SequentialLR` and `ChainedScheduler` it begins at the rate that it finds.

    Fields:
      lr: the optimizer's rate.
      swa_lr: the value at step `anneal_epochs` and after it.
      anneal_epochs: an integer, 0 or more.
      anneal_strategy: `cos` or `linear`.
      last_epoch: the last step that was made, to go on from; -1 for none. (torch takes it and begins anew.)

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.SWALR(1.0, swa_lr=0.5, anneal_epochs=4, anneal_strategy="linear").table(6).tolist()
      [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]

    Source: torch.optim.swa_utils.SWALR (2.13).
    """

    lr: Scalar
    swa_lr: Scalar
    anneal_epochs: Annotated[Number, Domain("an integer, 0 or more", lambda x: x >= 0, counts=True, whole=True)] = 10
    anneal_strategy: Literal["cos", "linear"] = "cos"
    last_epoch: Epoch = -1

    def build(self) -> Schedule:
        shape: Any = "cosine" if self.anneal_strategy == "cos" else "linear"
        return _resumed(Ramp(self.lr, self.swa_lr, self.anneal_epochs, shape), self.last_epoch)

    def _keeps(self, s: Array, t: Array) -> Array:
        """The distance from `swa_lr` is multiplied; at the end it is 0 for ever, whoever else changes the rate."""
        far = self.replace(lr=1.0, swa_lr=0.0)
        return jnp.where(t > s, _quotient(far.value(t), far.value(s), over=0.0), 1)

    def _adds(self, t: Array) -> Array:
        epoch, steps = t + self.last_epoch + 1, jnp.maximum(self.anneal_epochs, 1)
        before = self.replace(lr=1.0, swa_lr=0.0).value(t - 1)
        lost = _fall(epoch, steps) if self.anneal_strategy == "cos" else 1 / floating(steps)
        return self.swa_lr * jnp.where(epoch >= self.anneal_epochs, 1, _quotient(lost, before, over=1.0))


# --- schedulers of schedulers ----------------------------------------------------------------------------------------


def _refuse_parts(owner: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
    """Before the fields are read: say what a rate or a plateau has to do with schedulers of schedulers."""
    schedulers = args[0] if args else fields.get("schedulers")
    if "lr" in fields or isinstance(schedulers, (int, float)):
        raise TypeError(f"{owner} takes no lr: each of its schedulers has its own; leave it out.")
    if isinstance(schedulers, Schedule) or not isinstance(schedulers, Sequence):
        return  # which the field refuses
    for i, part in enumerate(schedulers):
        if hasattr(part, "last_epoch") and hasattr(part, "optimizer"):
            raise TypeError(f"{owner}: schedulers[{i}] is a live scheduler of torch; from_scheduler(it) reads it.")
        if isinstance(part, optax.GradientTransformation):
            raise ValueError(
                f"{owner}: schedulers[{i}] listens to a metric, which torch refuses too; put the whole into it: "
                f"ReduceLROnPlateau({owner}([...]), ...) cuts any schedule."
            )


def _exactly(part: Any) -> Any:
    """The part with torch's own numbers."""
    return part.replace(peer_exact=True) if hasattr(part, "peer_exact") else part


class SequentialLR(Peer):
    """Schedulers one after the other, each from its own beginning.

    Formula: `s(t) = schedulers[i](t - milestones[i - 1])`, where i is the number of milestones `<= t`; a `SWALR` begins
    at the rate of the step before.

    Fields:
      schedulers: the parts, each with its `lr`; any other schedule too.
      milestones: steps, one fewer than schedulers, each larger than the one before.
      last_epoch: the last step that was made, to go on from; -1 for none. (In torch the clock goes on and the first
        scheduler begins anew.)
      peer_exact: torch's own numbers, those of the parts included: a `SequentialLR` or `ChainedScheduler` in the first
        place is one step ahead. (Anywhere else torch stops at it with a NotImplementedError.)

    Errors: ValueError for wrong counts, milestones that collide, and a plateau.

    Example:
      >>> from jaxsched.compat import torch
      >>> up, down = torch.LinearLR(1.0, start_factor=0.5, total_iters=2), torch.ExponentialLR(1.0, gamma=0.5)
      >>> torch.SequentialLR([up, down], milestones=[2]).table(5).tolist()
      [0.5, 0.75, 1.0, 0.5, 0.25]

    Source: torch.optim.lr_scheduler.SequentialLR (2.13).
    """

    schedulers: tuple[Schedule, ...]
    milestones: tuple[Steps, ...]
    last_epoch: Epoch = -1
    peer_exact: bool = False

    def __init__(self, *args: Any, **fields: Any) -> None:
        _refuse_parts("SequentialLR", args, fields)
        super().__init__(*args, **fields)

    def check(self) -> None:
        parts, ends = len(self.schedulers), len(self.milestones)
        if parts != ends + 1:
            raise ValueError(
                f"SequentialLR: {parts} schedulers and {ends} milestones; {parts} schedulers take turns at {parts - 1}."
            )
        if self.peer_exact:
            instead = "torch's own numbers begin at last_epoch=-1: its clock and its first scheduler fall apart"
            reject_if(self, lambda x: x != -1, "last_epoch", instead=instead)
            for i, part in enumerate(self.schedulers[1:]):
                if isinstance(part, MultiplicativeLR):
                    raise ValueError(
                        f"SequentialLR: schedulers[{i + 1}] is a MultiplicativeLR, in which torch multiplies on from "
                        "the rate before by lr_lambda(0) too, a value that is not kept; leave peer_exact out."
                    )

    def build(self) -> Schedule:
        first, *others = map(_exactly, self.schedulers) if self.peer_exact else self.schedulers
        out = _one_ahead(first) if self.peer_exact else first
        schedules, boundaries = [out], []
        for part, at in zip(others, self.milestones, strict=True):
            if isinstance(part, SWALR):
                found = Join(schedules, boundaries) if boundaries else out  # type: ignore[arg-type]
                part = part.replace(lr=found(jnp.maximum(jnp.asarray(at) - 1, 0)))
            schedules, boundaries = [*schedules, part], [*boundaries, at]
        return _resumed(Join(schedules, boundaries), self.last_epoch)  # type: ignore[arg-type]

    def _turns(self) -> list[tuple[Any, Any, Any]]:
        """Each part with its first and its last step, on the clock from here on."""
        begins = [at - (self.last_epoch + 1) for at in (0, *self.milestones)]
        most = jnp.iinfo(jnp.result_type(int)).max // 2
        return list(zip(self.schedulers, begins, [*(at - 1 for at in begins[1:]), most], strict=True))

    def _keeps(self, s: Array, t: Array) -> Array:
        out: Any = jnp.ones(jnp.broadcast_shapes(s.shape, t.shape))
        for i, (part, first, last) in enumerate(self._turns()):
            local = [jnp.clip(x - first, 0, jnp.maximum(last - first, 0)) for x in (s, t)]
            out = out * _keeps(part, *local)
            if i:
                kept = part.replace(lr=1.0, swa_lr=0.0).value(jnp.asarray(0)) if isinstance(part, SWALR) else 0.0
                out = jnp.where((s < first) & (t >= first), kept * out, out)
        return out

    def _adds(self, t: Array) -> Array:
        out: Any = jnp.zeros(t.shape)
        for i, (part, first, _) in enumerate(self._turns()):
            added = _adds(part, jnp.maximum(t - first, 1))
            if i:
                found = (part.replace(lr=0.0) if isinstance(part, SWALR) else part).value(jnp.zeros_like(t))
                added = jnp.where(t > first, added, found)
            out = jnp.where(t >= first, added, out)
        return out


def _one_ahead(part: Any) -> Schedule:
    """A part in the first place, as torch starts it: one that has parts makes a plain step where a first one is due."""
    if isinstance(part, ChainedScheduler):
        parts = [_exactly(p) for p in part._flat()]
        rate: Any = _rate_of(parts)
        for i, p in enumerate(parts):
            rate = _stepped(p, _begun(p, rate))
            parts[i] = p.replace(last_epoch=p.last_epoch + 1) if isinstance(p, SWALR) else p
        return Chain(rate, parts)  # type: ignore[arg-type]
    if not isinstance(part, SequentialLR):
        return part
    first, *others = map(_exactly, part.schedulers)
    if hasattr(first, "schedulers"):
        raise ValueError("SequentialLR: peer_exact=True reaches two levels deep, and this one is nested in three.")
    if isinstance(first, SWALR):
        first = first.shift(-1)
    elif isinstance(first, CosineAnnealingLR):
        ahead = first.replace(lr=_stepped(first, first.lr), peer_exact=False)
        first = ahead.then(first.shift(-first.T_max), at=first.T_max)
    elif _scales(first):
        first = first.replace(lr=_stepped(first, first.lr))
    return Join((first, *others), tuple(at - 1 for at in part.milestones))


def _stepped(part: Any, rate: Any) -> Any:
    """The rate after a plain step to step 0, at which the step before it counts as step -1."""
    if isinstance(part, ExponentialLR):
        return rate * part.gamma
    if isinstance(part, PolynomialLR):
        ratio = 1 + 1 / floating(jnp.maximum(part.total_iters, 1))
        return rate * jnp.where(jnp.asarray(part.total_iters) > 0, ratio**-part.power, 1)
    if isinstance(part, CosineAnnealingLR):
        cosine = Ramp(1.0, 0.0, part.T_max, shape="cosine").value(jnp.asarray(1))
        return part.eta_min + (rate - part.eta_min) / jnp.where(cosine > 0, cosine, 1)
    if isinstance(part, SWALR):
        one = jnp.asarray(1)
        return part._keeps(0 * one, one) * rate + part._adds(one)
    return rate


_CHAINABLE = "ChainedScheduler: schedulers[{}] is a {}; it takes those of compat.torch: multiply any other schedule."


class ChainedScheduler(Peer):
    """Schedulers that work on one rate, all at every step.

    Formula: `s(0)` is what they make of `lr` at construction, one after the other. At each step those that scale
    (`StepLR`, `MultiStepLR`, `ConstantLR`, `LinearLR`, `ExponentialLR`, `PolynomialLR`, `MultiplicativeLR`) multiply
    the rate by their factor of this step; `CosineAnnealingLR` and `SWALR` multiply its distance from `eta_min` or
    `swa_lr`; all others, and `SequentialLR` at its milestones, set it. So schedulers that scale make
    `s(t) = lr (schedulers[0](t) / lr) (schedulers[1](t) / lr) ...`.

    Fields:
      schedulers: the parts, all with the same `lr`.
      peer_exact: torch's own numbers, which are those of its parts.

    With a `CosineAnnealingLR` or `SWALR` beside a scheduler that scales there is no formula but the sum over all steps
    so far: a call costs a time that grows with the step, and `PiecewiseConstant(range(1, n), s.table(n))` makes a table
    of it. In reverse mode it is differentiated through forward mode, so that `jax.jvp` does not go through it.

    Errors: ValueError for parts with different rates, and a plateau; TypeError for any other schedule.

    Example:
      >>> from jaxsched.compat import torch
      >>> parts = [torch.ConstantLR(1.0, factor=0.5, total_iters=2), torch.ExponentialLR(1.0, gamma=0.5)]
      >>> torch.ChainedScheduler(parts).table(4).tolist()
      [0.5, 0.25, 0.25, 0.125]

    Source: torch.optim.lr_scheduler.ChainedScheduler (2.13).
    """

    schedulers: tuple[Schedule, ...]
    peer_exact: bool = False

    def __init__(self, *args: Any, **fields: Any) -> None:
        _refuse_parts("ChainedScheduler", args, fields)
        super().__init__(*args, **fields)

    def check(self) -> None:
        rates = []
        for i, part in enumerate(self._flat()):
            if not isinstance(part, Peer) or type(part).__module__ != __name__:
                raise TypeError(_CHAINABLE.format(i, type(part).__name__))
            rates += [part.lr] if hasattr(part, "lr") else []  # type: ignore[attr-defined]
        seen = [np.asarray(rate, np.float64) for rate in rates if not is_traced(rate)]
        if any(np.any(rate != seen[0]) for rate in seen):
            texts = ", ".join(format_value(rate) for rate in rates)
            raise ValueError(f"ChainedScheduler: the schedulers have lr = {texts}; all work on one rate: write one lr.")

    def _flat(self) -> list[Any]:
        """The parts, and the parts of those that are chains themselves."""
        return [p for part in self.schedulers for p in (part._flat() if isinstance(part, ChainedScheduler) else [part])]

    def build(self) -> Schedule:
        parts = [_exactly(part) if self.peer_exact else part for part in self._flat()]
        rate = _rate_of(parts)
        if all(map(_scales, parts)):
            return Product((Constant(rate), *(part.replace(lr=1.0) for part in parts)))
        for part in parts:
            rate = _begun(part, rate)
        return Chain(rate, parts)  # type: ignore[arg-type]


def _rate_of(parts: Sequence[Any]) -> Any:
    """The optimizer's rate: any number, if all of them set the rate."""
    return next((part.lr for part in parts if hasattr(part, "lr")), 0.0)


def _begun(part: Any, rate: Any) -> Any:
    """The rate after the construction of a part that finds `rate`."""
    if _scales(part):
        return rate * part.replace(lr=1.0)(0)
    if isinstance(part, CosineAnnealingLR):
        return rate
    return (part.replace(lr=rate) if isinstance(part, SWALR) else part)(0)


class Chain(Schedule):
    """Schedulers that all work on one rate, from a rate in force on.

    Formula: `s(0) = rate`; at each step each scheduler in turn scales the rate, draws it to its floor or sets it, as
    `ChainedScheduler` says.

    Fields:
      rate: the rate in force.
      schedulers: the schedulers, each where it stands (`last_epoch`), whatever its `lr`.

    Example:
      >>> from jaxsched.compat import torch
      >>> s = torch.Chain(1.0, [torch.CosineAnnealingLR(1.0, T_max=2, eta_min=0.5), torch.ExponentialLR(1.0, 0.5)])
      >>> [round(float(v), 6) for v in s.table(4)]
      [1.0, 0.375, 0.25, 0.125]

    Source: torch.optim.lr_scheduler.ChainedScheduler (2.13).
    """

    rate: Scalar
    schedulers: tuple[Schedule, ...]

    def value(self, step: Step) -> Array:
        step = shapes.floor_div(step, 1)
        if all(map(_scales, self.schedulers)):
            return self.rate * self._left(jnp.zeros_like(step), step)
        if any(map(_sets, self.schedulers)):
            return jnp.where(step > 0, self._added(jnp.maximum(step, 1)), self.rate)
        return _summed(self, step)

    def _left(self, s: Array, t: Array) -> Array:
        """What is left, after step t, of the rate after step s."""
        out: Any = 1.0
        for part in self.schedulers:
            out = out * _keeps(part, s, t)
        return out

    def _added(self, t: Array) -> Array:
        """What step t makes of a rate of 0."""
        out: Any = jnp.zeros(t.shape)
        for part in self.schedulers:
            out = _keeps(part, t - 1, t) * out + _adds(part, t)
        return out


_BLOCK = 256


def _sum_of_all_steps(chain: Chain, step: Array) -> Array:
    """`rate left(0, t) + sum over s of added(s) left(s, t)`, some steps s at once."""
    t = step.reshape(-1, 1)

    def block(i: Any, total: Array) -> Array:
        s = i * _BLOCK + 1 + jnp.arange(_BLOCK)[None]
        past = s <= t
        s = jnp.where(past, s, 1)  # what is not chosen stays finite
        terms = chain._added(s) * chain._left(s, jnp.maximum(t, s))
        return total + jnp.sum(jnp.where(past, terms, 0), axis=1)

    start = chain.rate * chain._left(jnp.zeros_like(t), t)[:, 0]
    blocks = (jnp.max(t, initial=0) + _BLOCK - 1) // _BLOCK
    return lax.fori_loop(0, blocks, block, start).reshape(step.shape)


def _summed(chain: Chain, step: Array) -> Array:
    """That sum, with a gradient: a loop whose length is not known can be differentiated forwards only, so the pull-back
    is taken out of the Jacobian of the few numbers there are."""
    leaves, structure = jax.tree.flatten(chain)
    is_float = [not shapes.is_integer(x) for x in leaves]
    floats = [x for x, flag in zip(leaves, is_float, strict=True) if flag]
    counts = [x for x, flag in zip(leaves, is_float, strict=True) if not flag]

    def run(floats: Any, counts: Any, step: Array) -> Array:
        numbers, wholes = iter(floats), iter(counts)
        both = [next(numbers) if flag else next(wholes) for flag in is_float]
        return _sum_of_all_steps(structure.unflatten(both), step)

    def forward(floats: Any, counts: Any, step: Array) -> tuple[Array, Any]:
        return run(floats, counts, step), (floats, counts, step)

    def backward(kept: Any, weight: Array) -> tuple[Any, None, None]:
        floats, counts, step = kept
        jacobian = jax.jacfwd(run)(floats, counts, step)
        axes = list(range(weight.ndim))
        return [jnp.tensordot(weight, column, axes=(axes, axes)) for column in jacobian], None, None

    out = jax.custom_vjp(run)
    out.defvjp(forward, backward)
    return out([floating(x) for x in floats], counts, step)


@admitted
def ReduceLROnPlateau(
    lr: Any,
    mode: Literal["min", "max"] = "min",
    factor: Any = 0.1,
    patience: Any = 10,
    threshold: Any = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: Any = 0,
    min_lr: Any = 0.0,
    eps: Any = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """A rate that is cut when a metric has stopped getting better: `jaxsched.reduce_on_plateau`, which see.

    Formula: see `reduce_on_plateau`; observation by observation it is torch's.

    Args:
      lr: the optimizer's rate, or any schedule: what torch refuses in SequentialLR and ChainedScheduler goes here.
      mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps: as in torch.

    Example:
      >>> import jax.numpy as jnp, jaxsched as js, optax
      >>> from jaxsched.compat import torch
      >>> optimizer = optax.chain(optax.scale_by_adam(), torch.ReduceLROnPlateau(0.1, patience=0))
      >>> state = optimizer.init(jnp.zeros(3))
      >>> for loss in (1.0, 1.0):
      ...     state = js.observe(state, value=loss)
      >>> print(f"{js.current_hyperparams(state)['learning_rate']:.3f}")
      0.010

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau (2.13).
    """
    if isinstance(min_lr, (list, tuple)):
        raise TypeError(
            f"ReduceLROnPlateau: min_lr={format_value(min_lr)}; write one: each parameter group has its own rate."
        )
    return reduce_on_plateau(
        lr,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_lr=min_lr,
        eps=eps,
    )
