"""transformers.optimization: the functions by their own names and arguments, with `lr` in the place of the optimizer.

`s(t)` is the rate of update t. All of them begin at 0, which a warmup leaves only with the second update; that is
transformers' own definition. The two that a metric drives are optimizers: they stand at the end of a chain in the place
of `optax.scale_by_learning_rate`, and are told the metric by `jaxsched.observe(opt_state, value=metric)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value, is_traced
from ..fields import Integer, Length, NonNegative, Positive, Scalar, Steps
from ..optim.greedy import greedy
from ..optim.plateau import reduce_on_plateau
from ..schedules import shapes
from ..schedules.base import Constant, Schedule
from ..schedules.decays import InverseSqrtDecay
from ..schedules.ramps import Linear, Polynomial, Ramp
from ..schedules.shapes import Step
from .peer import admitted, known, on_host

# --- waves -----------------------------------------------------------------------------------------------------------


def _waves(step: Step, steps: Any, count: Any) -> tuple[Array, shapes.Position]:
    """The index of the half wave that `step` is in, of `count` in `steps`, and where in it. The quotient by `steps`
    comes last: what is before it is counted in integers, so that a wave begins exactly where it begins. Beyond what can
    be counted floats place it."""
    time, size = count * shapes.floating(step), shapes.floating(steps)
    index = jnp.floor(time / size)
    done, left = time - index * size, (index + 1) * size - time
    index = index.astype(jnp.result_type(int))
    if shapes.is_integer(step) and shapes.is_integer(steps):
        at = shapes.instant(count, step)
        carried = jnp.floor(at.part)  # the part has any sign and size, as the whole is rounded
        part, whole = at.part - carried, at.whole + carried.astype(at.whole.dtype)
        rest = whole % steps
        counted = time < jnp.iinfo(whole.dtype).max // 2
        index = jnp.where(counted, whole // steps, index)
        done = jnp.where(counted, shapes.floating(rest) + part, done)
        left = jnp.where(counted, shapes.floating(steps - rest) - part, left)
    return index, shapes.nearer(jnp.maximum(left, 0) / size, jnp.maximum(done, 0) / size)


class CosineWaves(Schedule):
    """Waves of a cosine between two values.

    Formula: `s(t) = end + (init - end) (1 + cos(2 pi waves u)) / 2` with `u = min(t / steps, 1)`, or `u = t / steps` if
    `endless`.

    Fields:
      init_value: the value at step 0, at the top of the first wave.
      end_value: the value at the bottom of each wave.
      steps: the length, 0 or more steps; what is reached there holds.
      waves: how many, 0 or more; 1/2 comes down from one value to the other.
      endless: whether the waves go on after `steps` instead.

    Example:
      >>> from jaxsched.compat import transformers
      >>> [round(float(v), 4) for v in transformers.CosineWaves(1.0, 0.0, steps=6, waves=1.5).table(8)]
      [1.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: transformers' get_cosine_schedule_with_warmup, without its warmup.
    """

    init_value: Scalar
    end_value: Scalar
    steps: Steps
    waves: NonNegative = 0.5
    endless: bool = False

    def value(self, step: Step) -> Array:
        steps = jnp.maximum(self.steps, 1)
        if not self.endless:  # the end of no steps at all is that of one
            step = shapes.stopped(step, shapes.reached(step, self.steps), steps)
        index, (late, gap) = _waves(step, steps, 2 * self.waves)
        position = shapes.Position(late ^ (index % 2 == 1), gap)
        return shapes.mix(self.init_value, self.end_value, shapes.half_cosine(position))


class CosineRestarts(Schedule):
    """A number of half cosine waves, each of which begins at the top again.

    Formula: `s(t) = end + (init - end) (1 + cos(pi (cycles u mod 1))) / 2` with `u = t / steps`, and `end` from step
    `steps` on.

    Fields:
      init_value: the value at the beginning of each cycle.
      end_value: the value at its end.
      steps: the length of all cycles together, 0 or more steps.
      cycles: how many, 0 or more; of a fraction of one the rest is left out.
      peer_exact: whether a restart is missed where `cycles (t / steps)` is rounded down in a double.

    Example:
      >>> from jaxsched.compat import transformers
      >>> [round(float(v), 4) for v in transformers.CosineRestarts(1.0, 0.0, steps=4, cycles=2).table(6)]
      [1.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: transformers' get_cosine_with_hard_restarts_schedule_with_warmup, without its warmup.
    """

    init_value: Scalar
    end_value: Scalar
    steps: Steps
    cycles: NonNegative = 1.0
    peer_exact: bool = False

    def value(self, step: Step) -> Array:
        steps, over = jnp.maximum(self.steps, 1), shapes.reached(step, self.steps)
        index, (late, gap) = _waves(step, steps, self.cycles)
        if self.peer_exact:
            seen = on_host(lambda t, steps, cycles: math.floor(cycles * (t / steps)), step, steps, self.cycles)
            over |= seen < index  # the last value of the cycle before
        position = shapes.Position(late | over, jnp.where(over, 0, gap))
        return shapes.mix(self.init_value, self.end_value, shapes.half_cosine(position))


# --- what the functions share ----------------------------------------------------------------------------------------


def _refuse(owner: str, bad: Callable[..., Any], instead: str, **values: Any) -> None:
    """Refuse arguments that do not go together."""
    if not any(value is None or is_traced(value) for value in values.values()) and np.any(bad(*values.values())):
        written = " and ".join(f"{name}={format_value(value)}" for name, value in values.items())
        raise ValueError(f"{owner}: {written}; {instead}.")


def _refuse_long_warmup(owner: str, num_warmup_steps: Any, num_training_steps: Any) -> None:
    _refuse(
        owner,
        np.greater,
        "the warmup must not be longer than the whole: write num_warmup_steps <= num_training_steps",
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
    )


def _warmed(lr: Any, num_warmup_steps: Any, body: Schedule, last_epoch: Any, init: Any = 0.0) -> Schedule:
    """A line up to `lr`, and then `body`. torch makes one step at construction: with `last_epoch=9` it starts at 10."""
    return Linear(init, lr, num_warmup_steps).then(body, at=num_warmup_steps).shift(-(last_epoch + 1))


def _floor(owner: str, lr: Any, min_lr: Any, min_lr_rate: Any) -> Any:
    if (min_lr is None) == (min_lr_rate is None):
        both = f"min_lr={format_value(min_lr)} and min_lr_rate={format_value(min_lr_rate)}"
        raise ValueError(f"{owner}: {both}; write one of them, a rate or a share of lr.")
    return lr * min_lr_rate if min_lr is None else min_lr


# --- the functions ---------------------------------------------------------------------------------------------------


@admitted
def get_constant_schedule(lr: Scalar, last_epoch: Integer = -1) -> Schedule:
    """One rate.

    Formula: `s(t) = lr`.

    Args:
      lr: the optimizer's rate.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat import transformers
      >>> transformers.get_constant_schedule(lr=0.5)
      Constant(constant_value=0.5)

    Source: transformers.get_constant_schedule (5.23).
    """
    del last_epoch  # it is the same from everywhere
    return Constant(lr)


@admitted
def get_constant_schedule_with_warmup(lr: Scalar, num_warmup_steps: Steps, last_epoch: Integer = -1) -> Schedule:
    """A linear warmup, and one rate from there on.

    Formula: `s(t) = lr min(t / num_warmup_steps, 1)`.

    Args:
      lr: the optimizer's rate.
      num_warmup_steps: the length of the warmup, 0 for none.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat import transformers
      >>> transformers.get_constant_schedule_with_warmup(lr=1.0, num_warmup_steps=2).table(4).tolist()
      [0.0, 0.5, 1.0, 1.0]

    Source: transformers.get_constant_schedule_with_warmup (5.23).
    """
    return Linear(0.0, lr, num_warmup_steps).shift(-(last_epoch + 1))


@admitted
def get_linear_schedule_with_warmup(
    lr: Scalar, num_warmup_steps: Steps, num_training_steps: Length, last_epoch: Integer = -1
) -> Schedule:
    """A linear warmup, then a line to 0.

    Formula: `s(t) = lr min(t / num_warmup_steps, 1)`, then `lr (1 - u)` with u the share of the steps after the warmup,
    up to step `num_training_steps`.

    Args:
      lr: the optimizer's rate.
      num_warmup_steps: the length of the warmup, 0 for none.
      num_training_steps: the horizon.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Errors: ValueError for a warmup longer than the whole, which transformers cuts off at its top.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_linear_schedule_with_warmup(lr=1.0, num_warmup_steps=2, num_training_steps=6)
      >>> s.table(8).tolist()
      [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Source: transformers.get_linear_schedule_with_warmup (5.23).
    """
    _refuse_long_warmup("get_linear_schedule_with_warmup", num_warmup_steps, num_training_steps)
    return _warmed(lr, num_warmup_steps, Linear(lr, 0.0, num_training_steps - num_warmup_steps), last_epoch)


@admitted
def get_cosine_schedule_with_warmup(
    lr: Scalar,
    num_warmup_steps: Steps,
    num_training_steps: Length,
    num_cycles: NonNegative = 0.5,
    last_epoch: Integer = -1,
    peer_exact: bool = False,
) -> Schedule:
    """A linear warmup, then waves of a cosine, of which half a one falls to 0.

    Formula: the warmup of `get_linear_schedule_with_warmup`, then `lr (1 + cos(2 pi num_cycles u)) / 2` with u the
    share of the steps after the warmup; what it reaches at step `num_training_steps` holds.

    Args:
      lr, num_warmup_steps, num_training_steps, last_epoch: as in `get_linear_schedule_with_warmup`.
      num_cycles: the number of waves, 0 or more.
      peer_exact: whether the waves go on after the end, as transformers' do, so that the rate rises again.

    Errors: ValueError for a warmup longer than the whole.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_cosine_schedule_with_warmup(lr=1.0, num_warmup_steps=2, num_training_steps=4)
      >>> [round(float(v), 4) for v in s.table(6)]
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: transformers.get_cosine_schedule_with_warmup (5.23).
    """
    _refuse_long_warmup("get_cosine_schedule_with_warmup", num_warmup_steps, num_training_steps)
    body = CosineWaves(lr, 0.0, num_training_steps - num_warmup_steps, num_cycles, endless=peer_exact)
    return _warmed(lr, num_warmup_steps, body, last_epoch)


@admitted
def get_cosine_with_hard_restarts_schedule_with_warmup(
    lr: Scalar,
    num_warmup_steps: Steps,
    num_training_steps: Length,
    num_cycles: NonNegative = 1.0,
    last_epoch: Integer = -1,
    peer_exact: bool = False,
) -> Schedule:
    """A linear warmup, then half cosine waves to 0, each of which begins at the top.

    Formula: the warmup of `get_linear_schedule_with_warmup`, then `lr (1 + cos(pi (num_cycles u mod 1))) / 2` with u
    the share of the steps after the warmup, and 0 from step `num_training_steps` on.

    Args:
      lr, num_warmup_steps, num_training_steps, last_epoch: as in `get_linear_schedule_with_warmup`.
      num_cycles: how many, 0 or more.
      peer_exact: whether restarts are missed where transformers rounds `num_cycles u` down (it is asked on the host),
        and a decay of no steps begins at its top.

    Errors: ValueError for a warmup longer than the whole.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_cosine_with_hard_restarts_schedule_with_warmup(1.0, 0, 4, num_cycles=2)
      >>> [round(float(v), 4) for v in s.table(6)]
      [1.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: transformers.get_cosine_with_hard_restarts_schedule_with_warmup (5.23).
    """
    _refuse_long_warmup("get_cosine_with_hard_restarts_schedule_with_warmup", num_warmup_steps, num_training_steps)
    steps = num_training_steps - num_warmup_steps
    body = CosineRestarts(lr, 0.0, jnp.maximum(steps, 1) if peer_exact else steps, num_cycles, peer_exact)
    return _warmed(lr, num_warmup_steps, body, last_epoch)


@admitted
def get_polynomial_decay_schedule_with_warmup(
    lr: Scalar,
    num_warmup_steps: Steps,
    num_training_steps: Length,
    lr_end: Scalar = 1e-7,
    power: Positive = 1.0,
    last_epoch: Integer = -1,
) -> Schedule:
    """A linear warmup, then a power of the way that is left, down to `lr_end`.

    Formula: the warmup of `get_linear_schedule_with_warmup`, then `lr_end + (lr - lr_end) (1 - u)^power` with u the
    share of the steps after the warmup.

    Args:
      lr, num_warmup_steps, num_training_steps, last_epoch: as in `get_linear_schedule_with_warmup`; a warmup as long as
        the whole, of which transformers crashes, falls to `lr_end` at its end.
      lr_end: the rate at step `num_training_steps`, below lr.
      power: above 0; 1 is a line, 2 falls fast at first.

    Errors: ValueError unless `lr_end < lr`, and for a warmup longer than the whole.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_polynomial_decay_schedule_with_warmup(1.0, 2, 4, lr_end=0.0, power=2.0)
      >>> s.table(6).tolist()
      [0.0, 0.5, 1.0, 0.25, 0.0, 0.0]

    Source: transformers.get_polynomial_decay_schedule_with_warmup (5.23).
    """
    owner = "get_polynomial_decay_schedule_with_warmup"
    _refuse(owner, np.greater_equal, "the end of a decay is lower: write lr_end < lr", lr_end=lr_end, lr=lr)
    _refuse_long_warmup(owner, num_warmup_steps, num_training_steps)
    body = Polynomial(lr, lr_end, num_training_steps - num_warmup_steps, power)
    return _warmed(lr, num_warmup_steps, body, last_epoch)


@admitted
def get_inverse_sqrt_schedule(
    lr: Scalar, num_warmup_steps: Steps, timescale: Length | None = None, last_epoch: Integer = -1
) -> Schedule:
    """A linear warmup, then decay with the inverse square root of time, without an end.

    Formula: the warmup of `get_linear_schedule_with_warmup`, then `lr / sqrt(1 + (t - num_warmup_steps) / timescale)`.

    Args:
      lr, num_warmup_steps, last_epoch: as in `get_linear_schedule_with_warmup`.
      timescale: steps, above 0; None: as long as the warmup, and 10,000 without one.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_inverse_sqrt_schedule(lr=1.0, num_warmup_steps=100)
      >>> [float(s(t)) for t in (0, 50, 100, 400)]
      [0.0, 0.5, 1.0, 0.5]

    Source: transformers.get_inverse_sqrt_schedule (5.23).
    """
    if timescale is None:
        timescale = jnp.where(jnp.asarray(num_warmup_steps) == 0, 10_000, num_warmup_steps)
    return _warmed(lr, num_warmup_steps, InverseSqrtDecay(lr, timescale), last_epoch)


@admitted
def get_cosine_with_min_lr_schedule_with_warmup(
    lr: Scalar,
    num_warmup_steps: Steps,
    num_training_steps: Length,
    num_cycles: NonNegative = 0.5,
    last_epoch: Integer = -1,
    min_lr: NonNegative | None = None,
    min_lr_rate: NonNegative | None = None,
    peer_exact: bool = False,
) -> Schedule:
    """A linear warmup from 0, then waves of a cosine, of which half a one falls to `min_lr`.

    Formula: as `get_cosine_schedule_with_warmup`, with `min + (lr - min) (1 + cos(2 pi num_cycles u)) / 2`.

    Args:
      lr, num_warmup_steps, num_training_steps, num_cycles, last_epoch, peer_exact: as in
        `get_cosine_schedule_with_warmup`.
      min_lr: the value at the bottom, 0 or more; or
      min_lr_rate: the same as a share of lr.

    Errors: ValueError for both or neither of the last two, and for a warmup longer than the whole.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_cosine_with_min_lr_schedule_with_warmup(1.0, 2, 4, min_lr=0.5)
      >>> [round(float(v), 4) for v in s.table(6)]
      [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]

    Source: transformers.get_cosine_with_min_lr_schedule_with_warmup (5.23).
    """
    owner = "get_cosine_with_min_lr_schedule_with_warmup"
    _refuse_long_warmup(owner, num_warmup_steps, num_training_steps)
    bottom = _floor(owner, lr, min_lr, min_lr_rate)
    body = CosineWaves(lr, bottom, num_training_steps - num_warmup_steps, num_cycles, endless=peer_exact)
    return _warmed(lr, num_warmup_steps, body, last_epoch)


@admitted
def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    lr: Scalar,
    num_warmup_steps: Steps,
    num_training_steps: Length,
    num_cycles: NonNegative = 0.5,
    last_epoch: Integer = -1,
    min_lr: NonNegative | None = None,
    min_lr_rate: NonNegative | None = None,
    warmup_lr_rate: NonNegative | None = None,
    peer_exact: bool = False,
) -> Schedule:
    """A linear warmup from above 0, then waves of a cosine down to `min_lr`, all one step earlier.

    Formula: a line from `lr warmup_lr_rate` at step 0 to `lr` at step `num_warmup_steps - 1`; then
    `min + (lr - min) (1 + cos(2 pi num_cycles u)) / 2` with `u = (t + 1 - W) / (T - W)`, where W is `num_warmup_steps`
    and T `num_training_steps`; what it reaches at step `T - 1` holds.

    Args:
      lr, num_warmup_steps, num_training_steps, num_cycles, last_epoch, min_lr, min_lr_rate, peer_exact: as in
        `get_cosine_with_min_lr_schedule_with_warmup`.
      warmup_lr_rate: the first rate as a share of lr, 0 or more; None: `1 / num_warmup_steps`.

    Errors: as `get_cosine_with_min_lr_schedule_with_warmup`.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(1.0, 2, 4, min_lr=0.5)
      >>> [round(float(v), 4) for v in s.table(6)]
      [0.5, 1.0, 0.75, 0.5, 0.5, 0.5]

    Source: transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate (5.23).
    """
    owner = "get_cosine_with_min_lr_schedule_with_warmup_lr_rate"
    _refuse_long_warmup(owner, num_warmup_steps, num_training_steps)
    first = lr / jnp.maximum(num_warmup_steps, 1) if warmup_lr_rate is None else lr * warmup_lr_rate
    bottom = _floor(owner, lr, min_lr, min_lr_rate)
    body = CosineWaves(lr, bottom, num_training_steps - num_warmup_steps, num_cycles, endless=peer_exact)
    up = Linear(first, lr, jnp.maximum(num_warmup_steps - 1, 1))
    return up.then(body.shift(-1), at=num_warmup_steps).shift(-(last_epoch + 1))


_WarmupType = Literal["linear", "cosine", "1-sqrt"]


@admitted
def get_wsd_schedule(
    lr: Scalar,
    num_warmup_steps: Steps,
    num_decay_steps: Steps,
    num_training_steps: Length | None = None,
    num_stable_steps: Steps | None = None,
    warmup_type: _WarmupType = "linear",
    decay_type: _WarmupType = "cosine",
    min_lr_ratio: NonNegative = 0.0,
    num_cycles: NonNegative = 0.5,
    last_epoch: Integer = -1,
) -> Schedule:
    """A warmup, a plateau, and a decay (WSD).

    Formula: with `min = lr min_lr_ratio`, from min to lr over `num_warmup_steps`, lr over `num_stable_steps`, down over
    `num_decay_steps`, and min from there on. Up: `min + (lr - min) f(u)`, down: `min + (lr - min) f(1 - u)`, where f is
    u (`linear`), (1 - cos(pi u)) / 2 (`cosine`) or 1 - (1 - u)^(1/2) (`1-sqrt`).

    Args:
      lr, num_warmup_steps, last_epoch: as in `get_linear_schedule_with_warmup`.
      num_decay_steps: the length of the decay, 0 or more.
      num_training_steps: the horizon, from which the plateau is reckoned if it is not given.
      num_stable_steps: the length of the plateau; where both are given this one counts, as in transformers.
      warmup_type, decay_type: linear, cosine or 1-sqrt.
      min_lr_ratio: the first and last rate as a share of lr, 0 or more.
      num_cycles: the number of waves of a cosine decay, 0 or more.

    Errors: ValueError for an unknown type, for neither a horizon nor a plateau, for phases longer than the horizon, and
    for waves of a decay that has none, which transformers ignores.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_wsd_schedule(1.0, 2, 2, num_training_steps=6, decay_type="linear")
      >>> s.table(8).tolist()
      [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]

    Source: transformers.get_wsd_schedule (5.23).
    """
    owner = "get_wsd_schedule"
    if decay_type != "cosine":
        no_waves = f"transformers ignores num_cycles with decay_type={decay_type!r}: leave it out"
        _refuse(owner, lambda waves: waves != 0.5, no_waves, num_cycles=num_cycles)
    stable: Any = num_stable_steps
    if stable is None:
        stable = _stable_steps(owner, num_training_steps, num_warmup_steps, num_decay_steps)
    bottom = lr * min_lr_ratio
    # 1 - (1 - u)^(1/2) is a rise by the shape that falls by (1 - u)^(1/2).
    up = Ramp(bottom, lr, num_warmup_steps, "sqrt" if warmup_type == "1-sqrt" else warmup_type)
    down: Schedule = Ramp(lr, bottom, num_decay_steps, decay_type)
    if decay_type == "cosine":
        down = CosineWaves(lr, bottom, num_decay_steps, num_cycles).then(bottom, at=num_decay_steps)
    return up.then(down, at=num_warmup_steps + stable).shift(-(last_epoch + 1))


def _stable_steps(owner: str, total: Any, warmup: Any, decay: Any) -> Any:
    if total is None:
        raise ValueError(
            f"{owner}: num_training_steps=None and num_stable_steps=None; write one of them, the whole or the plateau."
        )
    _refuse(
        owner,
        lambda total, warmup, decay: warmup + decay > total,
        "the phases must fit into the whole: lengthen num_training_steps",
        num_training_steps=total,
        num_warmup_steps=warmup,
        num_decay_steps=decay,
    )
    return total - warmup - decay


# --- driven by a metric ----------------------------------------------------------------------------------------------


def get_reduce_on_plateau_schedule(
    lr: Any,
    mode: Literal["min", "max"] = "min",
    factor: Any = 0.1,
    patience: Any = 10,
    threshold: Any = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: Any = 0,
    min_lr: Any = 0.0,
    eps: Any = 1e-8,
    peer_exact: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """The rate is cut when a metric has stopped getting better: `jaxsched.reduce_on_plateau`.

    Args:
      lr: the optimizer's rate; a schedule too, such as a warmup.
      mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps: as in `reduce_on_plateau`.
      peer_exact: whether a relative threshold is torch's `best (1 - threshold)`, by which a negative metric that gets
        worse counts as better; if not, it is a share of `|best|`.

    Errors: ValueError and TypeError of `reduce_on_plateau`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> from jaxsched.compat import transformers
      >>> state = (optimizer := transformers.get_reduce_on_plateau_schedule(0.1, patience=1)).init(jnp.zeros(3))
      >>> for loss in (1.0, 1.0, 1.0):
      ...     state = js.observe(state, value=loss)
      >>> round(float(js.current_hyperparams(state)["learning_rate"]), 6)
      0.01

    Source: transformers.get_reduce_on_plateau_schedule (5.23), which is torch's ReduceLROnPlateau.
    """
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
        sign_safe=not peer_exact,
    )


def get_greedy_schedule(
    lr: Any,
    mode: Literal["min", "max"] = "min",
    factor: Any = 0.95,
    patience: Any = 10,
    threshold: Any = 1e-6,
    threshold_mode: Literal["rel", "abs"] = "abs",
    cooldown: Any = 0,
    warmup: Any = 0,
    min_lr: Any = None,
    max_lr: Any = 1.0,
    eps: Any = 1e-8,
    verbose: bool = False,
    smooth: bool = False,
    window_size: int = 50,
    reset_start: Any = 500,
    peer_exact: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """The rate is raised while a metric gets better, and cut when it has stopped: `jaxsched.greedy`.

    Args:
      lr: the optimizer's rate.
      mode, factor, patience, threshold, threshold_mode, cooldown, warmup, max_lr, eps, smooth, window_size,
        reset_start: as in `greedy`.
      min_lr: the rate below which no cut goes. transformers' default of 1e-3 keeps a rate of 5e-5 from ever falling;
        None is 0, and 1e-3 if `peer_exact`.
      verbose: only False; nothing is printed out of a compiled program.
      peer_exact: whether `min_lr` is 1e-3 unless written, and a relative threshold a share of `best` and not `|best|`.

    Errors: ValueError and TypeError of `greedy`; ValueError for `verbose=True`.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxsched as js
      >>> from jaxsched.compat import transformers
      >>> state = (optimizer := transformers.get_greedy_schedule(5e-5, factor=0.5, patience=1)).init(jnp.zeros(3))
      >>> for loss in (1.0, 1.0, 1.0):
      ...     state = js.observe(state, value=loss)
      >>> round(float(js.current_hyperparams(state)["learning_rate"]), 8)
      2.5e-05

    Source: transformers.get_greedy_schedule (5.23), GreedyLR.
    """
    if verbose:
        raise ValueError(
            f"get_greedy_schedule: verbose={format_value(verbose)}; nothing is printed out of a compiled "
            f"program: read the "
            "rate with jaxsched.current_hyperparams(opt_state)."
        )
    return greedy(
        lr,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        warmup=warmup,
        min_lr=(1e-3 if peer_exact else 0.0) if min_lr is None else min_lr,
        max_lr=max_lr,
        eps=eps,
        smooth=smooth,
        window_size=window_size,
        reset_start=reset_start,
        sign_safe=not peer_exact,
    )


# --- by name ---------------------------------------------------------------------------------------------------------

_W, _T = "num_warmup_steps", "num_training_steps"
# The function, and which of the two lengths it is given; it must be given both, but for the horizon of the wsd.
_SCHEDULERS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "linear": (get_linear_schedule_with_warmup, (_W, _T)),
    "cosine": (get_cosine_schedule_with_warmup, (_W, _T)),
    "cosine_with_restarts": (get_cosine_with_hard_restarts_schedule_with_warmup, (_W, _T)),
    "polynomial": (get_polynomial_decay_schedule_with_warmup, (_W, _T)),
    "constant": (get_constant_schedule, ()),
    "constant_with_warmup": (get_constant_schedule_with_warmup, (_W,)),
    "inverse_sqrt": (get_inverse_sqrt_schedule, (_W,)),
    "reduce_lr_on_plateau": (get_reduce_on_plateau_schedule, ()),
    "cosine_with_min_lr": (get_cosine_with_min_lr_schedule_with_warmup, (_W, _T)),
    "cosine_warmup_with_min_lr": (get_cosine_with_min_lr_schedule_with_warmup_lr_rate, (_W, _T)),
    "warmup_stable_decay": (get_wsd_schedule, (_W, _T)),
    "greedy": (get_greedy_schedule, ()),
}


@admitted
def get_scheduler(
    name: str,
    lr: Any,
    num_warmup_steps: Any = None,
    num_training_steps: Any = None,
    scheduler_specific_kwargs: dict[str, Any] | None = None,
    peer_exact: bool = False,
) -> Any:
    """A schedule by its name.

    Args:
      name: linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt,
        reduce_lr_on_plateau, cosine_with_min_lr, cosine_warmup_with_min_lr, warmup_stable_decay or greedy.
      lr: the optimizer's rate.
      num_warmup_steps: the length of the warmup. Only constant, reduce_lr_on_plateau and greedy have none.
      num_training_steps: the horizon of linear, polynomial, warmup_stable_decay and the cosines. The others have none.
        It may be given with every name, as transformers documents it.
      scheduler_specific_kwargs: the other arguments of the function of this name.
      peer_exact: as in that function, if it has it.

    Returns: a schedule; of reduce_lr_on_plateau and greedy the optimizer that takes the place of
    `optax.scale_by_learning_rate`.

    Errors: ValueError for an unknown name, for a length that is needed and not written, for one below a step (a share),
    and for what transformers ignores: a warmup where there is none, and kwargs of the constant ones.
    TypeError for an unknown argument in `scheduler_specific_kwargs`.

    Example:
      >>> from jaxsched.compat import transformers
      >>> s = transformers.get_scheduler("cosine", lr=5e-5, num_warmup_steps=100, num_training_steps=1_000)
      >>> [round(float(s(t)), 8) for t in (0, 50, 100, 1_000, 1_100)]
      [0.0, 2.5e-05, 5e-05, 0.0, 0.0]

    Source: transformers.get_scheduler (5.23).
    """
    function, uses = _SCHEDULERS[known("get_scheduler", "name", name, _SCHEDULERS)]
    lengths = {_W: num_warmup_steps, _T: num_training_steps}
    others = dict(scheduler_specific_kwargs or {})
    for length, value in lengths.items():
        optional = length == _T and name == "warmup_stable_decay"
        if length in uses and value is None and not optional:
            raise ValueError(f"get_scheduler: {name} requires {length}; write {length}=...")
        if value is not None and not is_traced(value) and np.any((np.asarray(value) > 0) & (np.asarray(value) < 1)):
            share = f"a share of the horizon is round({format_value(value)} * num_training_steps)"
            raise ValueError(f"get_scheduler: {length}={format_value(value)} is less than a step; {share}.")
        nothing = value is None or (not is_traced(value) and np.ndim(value) == 0 and value == 0)
        if length == _W and length not in uses and not nothing:
            raise ValueError(
                f"get_scheduler: {length}={format_value(value)} is ignored by transformers' {name!r}, which has "
                f"none: leave "
                "it out" + (", or write constant_with_warmup." if name == "constant" else ".")
            )
    if others and name in ("constant", "constant_with_warmup"):
        raise ValueError(
            f"get_scheduler: scheduler_specific_kwargs={format_value(others)} is ignored by transformers' "
            f"{name!r}, which has "
            "no other arguments: leave it out."
        )
    if peer_exact and "peer_exact" in inspect.signature(function).parameters:
        others["peer_exact"] = True
    return function(lr, **{length: lengths[length] for length in uses}, **others)
