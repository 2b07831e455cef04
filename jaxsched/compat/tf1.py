"""The decays of tf.compat.v1.train, by their own names and arguments, in their own order.

>>> from jaxsched.compat import tf1
>>> s = tf1.exponential_decay(0.1, decay_steps=1_000, decay_rate=0.96, staircase=True)      # a schedule
>>> f"{s(1_000):.3f}", f"{tf1.exponential_decay(0.1, 1_000, 1_000, 0.96):.3f}"              # and a value
('0.096', '0.096')

Without a `global_step` (an `x` in `piecewise_constant`) a function returns the schedule; with one, which may be an
array or traced, the value there. TF1 reads the step before it adds 1, so `s(t)` is the rate of update t. `name` is a
label without a meaning. TF1 documents rates in float64, and refuses them in the four decays with a cosine.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from .._errors import format_value, nearest_name
from ..fields import Growth, Integer, Length, NonNegative, Positive, Scalar, StepTable, Table, read_annotation
from ..schedules import shapes
from ..schedules.base import Constant, Schedule
from ..schedules.cycles import PolynomialDecay
from ..schedules.decays import ExponentialDecay, InverseTimeDecay, NaturalExpDecay, PowerDecay
from ..schedules.ramps import Linear
from ..schedules.shapes import Position, Step
from . import keras


def _decay(clock: str, place: int) -> Callable[[Callable[..., Schedule]], Callable[..., Any]]:
    """TF1's function from one that makes the schedule: it has the argument `clock` too, at that place, and a `name`.
    The annotations say what is checked, as those of a schedule do."""

    def of(schedule: Callable[..., Schedule]) -> Callable[..., Any]:
        def argument(name: str, default: Any) -> inspect.Parameter:
            return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)

        own = list(inspect.signature(schedule).parameters.values())
        last = len([p for p in own if p.kind is not p.KEYWORD_ONLY])
        step, label = argument(clock, inspect.Parameter.empty), argument("name", None)
        signature = inspect.Signature([*own[:place], step, *own[place:last], label, *own[last:]])
        owner, hints = schedule.__name__, inspect.get_annotations(schedule, eval_str=True)
        checks = {p.name: read_annotation(p.name, hints[p.name], p.default, lambda hint: None).convert for p in own}

        @functools.wraps(schedule)
        def decay(*args: Any, **kwargs: Any) -> Any:
            if len(args) <= place:
                kwargs.setdefault(clock, None)
            for name in kwargs.keys() - signature.parameters.keys():
                raise TypeError(f"{owner} has no argument {name!r}: {nearest_name(name, signature.parameters)}")
            try:
                arguments = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                clear = f"write {owner}{signature}, or the arguments by name and no {clock} for a schedule"
                raise TypeError(f"{owner}: {error}; {clear}.") from None
            step, label = arguments.pop(clock), arguments.pop("name", None)
            if not (label is None or isinstance(label, str)):
                raise TypeError(f"{owner}: name={format_value(label)}; name must be a text, a label of the decay.")
            made = schedule(**{name: checks[name](owner, name, value) for name, value in arguments.items()})
            return made if step is None else made(step)

        decay.__signature__ = signature  # type: ignore[attr-defined]
        return decay

    return of


@_decay("global_step", place=1)
def exponential_decay(
    learning_rate: Scalar, decay_steps: Length, decay_rate: Positive, staircase: bool = False
) -> Schedule:
    """A factor over every `decay_steps`, by the step or in stairs.

    Formula: `s(t) = learning_rate decay_rate^(t / decay_steps)`, the exponent floored if `staircase`.

    Args:
      learning_rate: the value at step 0.
      global_step: the step to give the value of; without it the schedule is returned.
      decay_steps: steps, above 0.
      decay_rate: the factor over `decay_steps`, above 0.
      staircase: whether the factor comes at once, at every `decay_steps`-th step.
      name: a label without a meaning.

    Example:
      >>> from jaxsched.compat import tf1
      >>> tf1.exponential_decay(1.0, decay_steps=2, decay_rate=0.25)
      ExponentialDecay(init_value=1.0, decay_rate=0.25, decay_steps=2)

    Source: tf.compat.v1.train.exponential_decay (2.21).
    """
    return ExponentialDecay(learning_rate, decay_rate, decay_steps, staircase)


@_decay("global_step", place=1)
def natural_exp_decay(
    learning_rate: Scalar, decay_steps: Length, decay_rate: NonNegative, staircase: bool = False
) -> Schedule:
    """Exponential decay with its rate in the exponent.

    Formula: `s(t) = learning_rate exp(-decay_rate t / decay_steps)`, `t / decay_steps` floored if `staircase`.

    Args:
      learning_rate, global_step, decay_steps, staircase, name: as in `exponential_decay`.
      decay_rate: 0 or more.

    Example:
      >>> from jaxsched.compat import tf1
      >>> round(float(tf1.natural_exp_decay(1.0, 20, 10, 0.5)), 6)
      0.367879

    Source: tf.compat.v1.train.natural_exp_decay (2.21), which rounds `exp(-decay_rate)` and then raises it.
    """
    return NaturalExpDecay(learning_rate, decay_rate, decay_steps, staircase)


@_decay("global_step", place=1)
def inverse_time_decay(
    learning_rate: Scalar, decay_steps: Length, decay_rate: NonNegative, staircase: bool = False
) -> Schedule:
    """Decay with the inverse of time.

    Formula: `s(t) = learning_rate / (1 + decay_rate t / decay_steps)`, `t / decay_steps` floored if `staircase`.

    Args:
      learning_rate, global_step, decay_steps, staircase, name: as in `exponential_decay`.
      decay_rate: 0 or more.

    Example:
      >>> from jaxsched.compat import tf1
      >>> tf1.inverse_time_decay(1.0, decay_steps=2, decay_rate=1.0)([0, 2, 6]).tolist()
      [1.0, 0.5, 0.25]

    Source: tf.compat.v1.train.inverse_time_decay (2.21).
    """
    return InverseTimeDecay(learning_rate, decay_rate, decay_steps, staircase)


@_decay("x", place=0)
def piecewise_constant(boundaries: StepTable, values: Table) -> Schedule:
    """A table of constants; a boundary still belongs to the piece before it.

    Formula: `s(t) = values[i]`, where i is the number of boundaries `< t`.

    Args:
      x: the step to give the value of; without it the schedule is returned.
      boundaries: (n,) steps, each larger than the one before; TF1 takes others, and then pieces overlap.
      values: (n + 1,) values.
      name: a label without a meaning.

    Example:
      >>> from jaxsched.compat import tf1
      >>> tf1.piecewise_constant(boundaries=[2, 4], values=[1.0, 0.5, 0.25]).table(6).tolist()
      [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]

    Source: tf.compat.v1.train.piecewise_constant (2.21), also as piecewise_constant_decay.
    """
    return keras.PiecewiseConstantDecay(boundaries, values)


piecewise_constant_decay = piecewise_constant


@_decay("global_step", place=1)
def polynomial_decay(
    learning_rate: Scalar,
    decay_steps: Length,
    end_learning_rate: Scalar = 0.0001,
    power: Positive = 1.0,
    cycle: bool = False,
) -> Schedule:
    """Polynomial decay whose horizon grows when it is reached, if it cycles.

    Formula: `s(t) = end + (learning_rate - end) (1 - t / N)^power` with `N = decay_steps`, after which `end` holds; if
    `cycle`, `N = decay_steps max(1, ceil(t / decay_steps))`.

    Args:
      learning_rate, global_step, decay_steps, name: as in `exponential_decay`.
      end_learning_rate: end, the value at step `decay_steps` (and at its multiples).
      power: above 0.
      cycle: whether the value rises again, ever less, after each `decay_steps`.

    Example:
      >>> from jaxsched.compat import tf1
      >>> tf1.polynomial_decay(1.0, decay_steps=4, end_learning_rate=0.5).table(6).tolist()
      [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]

    Source: tf.compat.v1.train.polynomial_decay (2.21).
    """
    return PolynomialDecay(learning_rate, decay_steps, end_learning_rate, power, cycle)


@_decay("global_step", place=1)
def cosine_decay(learning_rate: Scalar, decay_steps: Length, alpha: Scalar = 0.0) -> Schedule:
    """Half a cosine wave.

    Formula: `s(t) = learning_rate (alpha + (1 - alpha) (1 + cos(pi u)) / 2)` with `u = min(t / decay_steps, 1)`.

    Args:
      learning_rate, global_step, decay_steps, name: as in `exponential_decay`.
      alpha: what is left at the end, as a share of `learning_rate`: a factor and not a rate.

    Example:
      >>> from jaxsched.compat import tf1
      >>> [round(float(v), 4) for v in tf1.cosine_decay(1.0, decay_steps=2, alpha=0.5).table(4)]
      [1.0, 0.75, 0.5, 0.5]

    Source: tf.compat.v1.train.cosine_decay (2.21).
    """
    return keras.CosineDecay(learning_rate, decay_steps, alpha)


@_decay("global_step", place=1)
def cosine_decay_restarts(
    learning_rate: Scalar,
    first_decay_steps: Length,
    t_mul: Growth = 2.0,
    m_mul: Positive = 1.0,
    alpha: Scalar = 0.0,
    *,
    peer_exact: bool = False,
) -> Schedule:
    """Cosines with restarts, each cycle `t_mul` times as long and `m_mul` times as high as the one before.

    Formula: in cycle i, which is `first_decay_steps t_mul^i` steps long, with u the share of it that is over,
    `s(t) = learning_rate (alpha + (1 - alpha) m_mul^i (1 + cos(pi u)) / 2)`. TF1 takes i from a logarithm, whose
    rounding misses restarts; see `compat.keras.CosineDecayRestarts`.

    Args:
      learning_rate, global_step, name: as in `exponential_decay`.
      first_decay_steps: the length of the first cycle, above 0.
      t_mul: 1 or more.
      m_mul: above 0.
      alpha: the bottom, as a share of `learning_rate`: a factor and not a rate.
      peer_exact: whether i is taken from the logarithm.

    Example:
      >>> from jaxsched.compat import tf1
      >>> s = tf1.cosine_decay_restarts(1.0, first_decay_steps=2, m_mul=0.5)
      >>> [round(float(v), 4) for v in s.table(7)]
      [1.0, 0.5, 0.5, 0.4268, 0.25, 0.0732, 0.25]

    Source: tf.compat.v1.train.cosine_decay_restarts (2.21).
    """
    return keras.CosineDecayRestarts(learning_rate, first_decay_steps, t_mul, m_mul, alpha, peer_exact=peer_exact)


@_decay("global_step", place=1)
def linear_cosine_decay(
    learning_rate: Scalar,
    decay_steps: Length,
    num_periods: NonNegative = 0.5,
    alpha: Scalar = 0.0,
    beta: Scalar = 0.001,
) -> Schedule:
    """A line times a cosine wave, on a floor.

    Formula: `s(t) = learning_rate ((alpha + 1 - u) w(u) + beta)` with `w(u) = (1 + cos(2 pi num_periods u)) / 2` and
    `u = min(t / decay_steps, 1)`.

    Args:
      learning_rate: what all is a share of; the value at step 0 is `1 + alpha + beta` of it.
      global_step, decay_steps, name: as in `exponential_decay`.
      num_periods: how many waves there are on the way, 0 or more; with 1/2 it only falls.
      alpha: how far the line is raised.
      beta: the floor.

    Example:
      >>> from jaxsched.compat import tf1
      >>> [round(float(v), 4) for v in tf1.linear_cosine_decay(1.0, decay_steps=4).table(6)]
      [1.001, 0.6412, 0.251, 0.0376, 0.001, 0.001]

    Source: tf.compat.v1.train.linear_cosine_decay (2.21); Bello et al. (1709.07417).
    """
    line = Linear(1.0, 0.0, decay_steps) + alpha
    return (line * CosineWave(decay_steps, num_periods) + beta) * learning_rate


@_decay("global_step", place=1)
def noisy_linear_cosine_decay(
    learning_rate: Scalar,
    decay_steps: Length,
    initial_variance: NonNegative = 1.0,
    variance_decay: NonNegative = 0.55,
    num_periods: NonNegative = 0.5,
    alpha: Scalar = 0.0,
    beta: Scalar = 0.001,
    *,
    seed: Integer = 0,
) -> Schedule:
    """A line with noise on it, times a cosine wave, on a floor.

    Formula: `s(t) = learning_rate ((alpha + 1 - u + n) w(u) + beta)`, as in `linear_cosine_decay`, with n normal and of
    the variance `initial_variance / (1 + min(t, decay_steps))^variance_decay`, drawn again for every step.

    TF1's noise has no seed, so no two runs are equal; this one is a function of the seed and the step. It is cut off at
    five standard deviations, which a sample of a million does not show. With the variance of 1 that is the default, one
    rate in six is below 0 at first, as in TF1: `.clip(lo=0.0)` forbids it.

    Args:
      learning_rate, global_step, decay_steps, num_periods, alpha, beta, name: as in `linear_cosine_decay`.
      initial_variance: the variance of the noise at step 0, 0 or more.
      variance_decay: how fast it falls, 0 or more.
      seed: an integer: the same seed gives the same noise.

    Example:
      >>> from jaxsched.compat import tf1
      >>> s = tf1.noisy_linear_cosine_decay(0.1, decay_steps=100, initial_variance=0.01, seed=7)
      >>> bool(s(3) == s.table(10)[3]), bool(s(3) == s.replace()(3))
      (True, True)

    Source: tf.compat.v1.train.noisy_linear_cosine_decay (2.21); Bello et al. (1709.07417).
    """
    # The slope of a square root at 0 is infinite; without noise there is none to follow.
    silent = jnp.equal(initial_variance, 0)
    std = jnp.where(silent, 0.0, jnp.sqrt(jnp.where(silent, 1.0, initial_variance)))
    fading = PowerDecay(std, variance_decay / 2, timescale=1).repeat(decay_steps, cycles=1)
    line = Linear(1.0, 0.0, decay_steps) + alpha + fading * Constant(0.0).noise(1.0, seed, limit=5.0, relative=False)
    return (line * CosineWave(decay_steps, num_periods) + beta) * learning_rate


class CosineWave(Schedule):
    """Cosine waves from 1 down to 0 and back.

    Formula: `s(t) = (1 + cos(2 pi num_periods u)) / 2` with `u = min(t / steps, 1)`.

    Fields:
      steps: the length of all waves, above 0; the value there holds.
      num_periods: how many there are, 0 or more; a half ends at 0.

    Example:
      >>> from jaxsched.compat import tf1
      >>> [round(float(v), 4) for v in tf1.CosineWave(steps=4, num_periods=1.0).table(6)]
      [1.0, 0.5, 0.0, 0.5, 1.0, 1.0]

    Source: the cosine part of tf.compat.v1.train.linear_cosine_decay (2.21).
    """

    steps: Length
    num_periods: NonNegative = 0.5

    def value(self, step: Step) -> Array:
        share = shapes.ratio(shapes.stopped(step, shapes.reached(step, self.steps), self.steps), self.steps)
        halves = shapes.ratio(2 * self.num_periods)
        # Half waves, as an exact product and the rest: near a zero of the wave only the distance from it counts.
        first = halves.high * share.high
        rest = halves.high * share.low + halves.low * (share.high + share.low)
        nearest = jnp.round(first + rest)
        distance = jnp.abs((first - nearest) + rest)
        return shapes.half_cosine(Position(jnp.mod(nearest, 2) == 1, distance)).left
