"""Scenic: factors of a learning rate, one by one or named in a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from ..._errors import format_value, nearest_name
from ...fields import Growth, Length, Positive, Scalar, Steps, StepTable, Table, Unit
from ...schedules.base import Constant, Schedule
from ...schedules.cycles import CosineWarmRestarts
from ...schedules.decays import ExponentialDecay, InverseSqrtDecay, StepDecay
from ...schedules.pieces import PiecewiseConstant, PiecewiseInterpolate
from ...schedules.ramps import Linear, Polynomial
from ..peer import admitted, known
from ._shared import EndlessLine, If, before, counted, from_config, known_to_be, most


@admitted
def polynomial_lr_scheduler(decay_steps: Length, end_factor: Scalar, power: Positive) -> Schedule:
    """A power of the way that is left, from 1 to `end_factor`.

    Formula: `Polynomial(1, end_factor, decay_steps, power)`.

    Args:
      decay_steps: the length, above 0.
      end_factor: the factor from step `decay_steps` on.
      power: above 0.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.polynomial_lr_scheduler(decay_steps=4, end_factor=0.0, power=2).table(5).tolist()
      [1.0, 0.5625, 0.25, 0.0625, 0.0]

    Source: scenic.train_lib.lr_schedules.polynomial_lr_scheduler.
    """
    return Polynomial(1.0, end_factor, decay_steps, power)


@admitted
def piecewise_constant_scheduler(decay_events: StepTable, decay_factors: Table) -> Schedule:
    """A table of factors, each of which holds after its event.

    Formula: `decay_factors[i - 1]`, where i is the number of events `< t`; 1 where it is 0. The step of an event still
    has the factor before it.

    Args:
      decay_events: (n,) steps, each larger than the one before.
      decay_factors: (n,) factors of the first rate.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.piecewise_constant_scheduler([1, 3], [0.5, 0.25]).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: scenic.train_lib.lr_schedules.piecewise_constant_scheduler.
    """
    events: Any = decay_events
    last = events if jnp.issubdtype(events.dtype, jnp.integer) else events // 1  # the last whole steps up to the events
    return PiecewiseConstant(last + 1, before(1, decay_factors))


@admitted
def piecewise_linear_scheduler(decay_events: StepTable, decay_factors: Table) -> Schedule:
    """A broken line of factors from 1 at step 0, constant after its last event.

    Formula: `PiecewiseInterpolate([0, *decay_events], [1, *decay_factors])`.

    Args:
      decay_events: (n,) steps above 0, each larger than the one before.
      decay_factors: (n,) factors of the first rate, each reached at its event.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.piecewise_linear_scheduler([2, 4], [0.5, 0.25]).table(6).tolist()
      [1.0, 0.75, 0.5, 0.375, 0.25, 0.25]

    Source: scenic.train_lib.lr_schedules.piecewise_linear_scheduler.
    """
    return PiecewiseInterpolate(before(0, decay_events), before(1, decay_factors))


@admitted
def linear_warmup_scheduler(warmup_steps: Steps, alpha: Unit = 0.0) -> Schedule:
    """A line from `alpha` to 1.

    Formula: `Linear(alpha, 1, warmup_steps)`.

    Args:
      warmup_steps: 0 or more.
      alpha: the factor at step 0, from 0 to 1.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.linear_warmup_scheduler(4, alpha=0.5).table(5).tolist()
      [0.5, 0.625, 0.75, 0.875, 1.0]

    Source: scenic.train_lib.lr_schedules.linear_warmup_scheduler.
    """
    return Linear(alpha, 1.0, warmup_steps)


@admitted
def decay_every_scheduler(steps_per_decay: Length, decay_factor: Positive) -> Schedule:
    """A factor at every `steps_per_decay`-th step.

    Formula: `StepDecay(1, decay_factor, steps_per_decay)`.

    Args:
      steps_per_decay: steps between two factors, above 0.
      decay_factor: above 0.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.decay_every_scheduler(2, 0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: scenic.train_lib.lr_schedules.decay_every_scheduler.
    """
    return StepDecay(1.0, decay_factor, steps_per_decay)


@admitted
def exponential_decay_scheduler(decay_steps: Length, decay_rate: Positive, staircase: bool = False) -> Schedule:
    """A constant rate of decay, by the step or in stairs.

    Formula: `ExponentialDecay(1, decay_rate, decay_steps, staircase)`.

    Args:
      decay_steps: steps, above 0.
      decay_rate: the factor over `decay_steps`, above 0.
      staircase: whether the factor comes at once.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.exponential_decay_scheduler(2, 0.25).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: scenic.train_lib.lr_schedules.exponential_decay_scheduler.
    """
    return ExponentialDecay(1.0, decay_rate, decay_steps, staircase)


def _as_integer(x: Any) -> Any:
    """An integer that is written as a float counts exactly."""
    return int(x) if isinstance(x, float) and x.is_integer() else x


@admitted
def cosine_decay_scheduler(
    steps_per_cycle: Length, t_mul: Growth = 1, m_mul: Positive = 1.0, alpha: Unit = 0.0
) -> Schedule:
    """Half cosines from a peak to `alpha`, each after a restart.

    Formula: `alpha + (1 - alpha) CosineWarmRestarts(1, steps_per_cycle, t_mul, 0, m_mul)`. Scenic finds the restarts
    by a logarithm, which misses some of them by one step (step 111 of cycles of 1, 10, 100 steps); here it misses none.

    Args:
      steps_per_cycle: the length of the first cycle, above 0.
      t_mul: the factor from length to length, 1 or more.
      m_mul: the factor from peak to peak, above 0.
      alpha: the factor at the bottom, from 0 to 1.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> s = scenic.cosine_decay_scheduler(2, t_mul=2, m_mul=0.5)
      >>> [round(float(s(t)), 6) for t in (0, 1, 2, 4, 6)]
      [1.0, 0.5, 0.5, 0.25, 0.25]

    Source: scenic.train_lib.lr_schedules.cosine_decay_scheduler.
    """
    return CosineWarmRestarts(1.0 - alpha, steps_per_cycle, _as_integer(t_mul), 0.0, m_mul) + alpha


# --- the factors of a configuration, whose arguments are its entries -------------------------------------------------


@admitted
def _constant(base_learning_rate: Scalar) -> Schedule:
    return Constant(base_learning_rate)


@admitted
def _linear_warmup(warmup_steps: Steps, warmup_alpha: Unit = 0.0) -> Schedule:
    return linear_warmup_scheduler(warmup_steps, warmup_alpha)


@admitted
def _rsqrt_decay(warmup_steps: Steps = 0, timescale: Length = 10_000) -> Schedule:
    return InverseSqrtDecay(1.0, timescale).shift(warmup_steps)


@admitted
def _cosine_decay(
    steps_per_cycle: Length,
    t_mul: Growth = 1,
    m_mul: Positive = 1.0,
    alpha: Unit = 0.0,
    warmup_steps: Steps = 0,
    start_decay_step: Steps = 0,
    total_steps: Length | None = None,
) -> Schedule:
    total = steps_per_cycle if total_steps is None else total_steps
    # The warmup is taken from all cycles alike; where nothing of them is left, there is no cosine.
    period = steps_per_cycle - counted(
        lambda xp, warmup, whole, cycle: warmup / (whole / cycle), warmup_steps, total, steps_per_cycle
    )
    down = cosine_decay_scheduler(most(period, 1), t_mul, m_mul, alpha)
    return If(down.shift(warmup_steps + start_decay_step), period)


@admitted
def _linear_decay(
    total_steps: Length, warmup_steps: Steps = 0, end_learning_rate: Scalar = 0.0
) -> Callable[[Schedule], Schedule]:
    if known_to_be(lambda warmup, total: warmup >= total, warmup_steps, total_steps):
        raise ValueError(
            f"linear_decay: warmup_steps={format_value(warmup_steps)} and total_steps={format_value(total_steps)}; "
            "the decay comes after the warmup: write warmup_steps < total_steps."
        )
    length = total_steps - warmup_steps

    def mixed(ratio: Schedule) -> Schedule:
        down, up = Linear(1.0, 0.0, length).shift(warmup_steps), Linear(0.0, 1.0, length).shift(warmup_steps)
        return ratio * down + end_learning_rate * up

    return mixed


@admitted
def _linear_cooldown(
    total_steps: Length, cooldown_steps: Length, warmup_steps: Steps = 0, peer_exact: bool = False
) -> Schedule:
    line = EndlessLine if peer_exact else Linear
    down = line(1.0, 0.0, cooldown_steps).shift(total_steps - cooldown_steps)
    return down.shift(-warmup_steps).shift(warmup_steps)  # not before step `warmup_steps`


_FACTORS: dict[str, Callable[..., Any]] = {
    "constant": _constant,
    "polynomial": polynomial_lr_scheduler,
    "piecewise_constant": piecewise_constant_scheduler,
    "piecewise_linear": piecewise_linear_scheduler,
    "linear_warmup": _linear_warmup,
    "rsqrt_decay": _rsqrt_decay,
    "decay_every": decay_every_scheduler,
    "exponential_decay": exponential_decay_scheduler,
    "cosine_decay": _cosine_decay,
    "linear_decay": _linear_decay,
    "linear_cooldown": _linear_cooldown,
}
_ENTRIES = {"factors", "learning_rate_schedule", "base_learning_rate"}.union(
    *(inspect.signature(factor).parameters for factor in _FACTORS.values())
) - {"peer_exact"}


def compound_lr_scheduler(config: Mapping[str, Any], peer_exact: bool = False) -> Schedule:
    """The product of the factors that `config["factors"]` names, with `*` between them.

    Formula: a product, from the left; the factors and the entries of `config` that each reads:
      constant: base_learning_rate.
      polynomial: decay_steps, end_factor, power; see `polynomial_lr_scheduler`.
      piecewise_constant, piecewise_linear: decay_events, decay_factors; see the functions of these names.
      linear_warmup: warmup_steps, warmup_alpha=0.
      rsqrt_decay: warmup_steps=0, timescale=10000: `1 / sqrt(1 + (t - warmup_steps) / timescale)` after the warmup.
      decay_every: steps_per_decay, decay_factor.
      exponential_decay: decay_steps, decay_rate, staircase=False.
      cosine_decay: steps_per_cycle, t_mul=1, m_mul=1, alpha=0, warmup_steps=0, start_decay_step=0,
        total_steps=steps_per_cycle: `cosine_decay_scheduler` after `warmup_steps + start_decay_step`, with cycles that
        are shorter by `floor(warmup_steps steps_per_cycle / total_steps)`; 1 where nothing of them is left.
      linear_decay: total_steps, warmup_steps=0, end_learning_rate=0: what is on its left falls to end_learning_rate.
      linear_cooldown: total_steps, cooldown_steps, warmup_steps=0: from 1 to 0 in the last `cooldown_steps`, not before
        the warmup is over.

    After total_steps the factor of linear_cooldown stays 0; in Scenic it falls below 0, and so does the rate.

    Args:
      config: a dict (or ConfigDict) with these entries.
      peer_exact: whether linear_cooldown falls below 0, as Scenic's does.

    Errors: ValueError for an unknown factor, an entry that no factor reads, and one that is missing.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> config = dict(factors="constant * cosine_decay * linear_warmup", base_learning_rate=0.1, warmup_steps=10,
      ...               steps_per_cycle=100)
      >>> s = scenic.compound_lr_scheduler(config)
      >>> [round(float(s(t)), 6) for t in (0, 5, 10, 55)]
      [0.0, 0.05, 0.1, 0.05]

    Source: scenic.train_lib.lr_schedules.compound_lr_scheduler.
    """
    owner = "compound_lr_scheduler"
    if not isinstance(config.get("factors"), str):
        raise ValueError(f"{owner}: factors={format_value(config.get('factors'))}; write a text such as 'constant'.")
    for name in config:
        if name not in _ENTRIES:
            raise ValueError(f"{owner}: no factor reads config[{name!r}]; {nearest_name(name, _ENTRIES)}")
    given = {**config, "peer_exact": peer_exact}
    product: Schedule | None = None
    for name in config["factors"].split("*"):
        factor = _FACTORS[known(owner, "factors", name.strip(), _FACTORS)]
        try:
            made = from_config(factor, given)
        except TypeError as error:
            raise type(error)(f"{owner}: the factor {name.strip()!r}: {error}") from None
        if isinstance(made, Schedule):
            product = made if product is None else product * made
        else:
            product = made(Constant(1.0) if product is None else product)
    assert product is not None  # a text has at least one part
    return product


def get_learning_rate_fn(config: Any, peer_exact: bool = False) -> Schedule:
    """The schedule of a configuration.

    Formula: `compound_lr_scheduler(config["lr_configs"])` if it has a `learning_rate_schedule`, else its constant
    `base_learning_rate`.

    Args:
      config: a dict (or ConfigDict) whose `lr_configs` has a `base_learning_rate`.
      peer_exact: as in `compound_lr_scheduler`.

    Errors: ValueError without a base_learning_rate, and for another learning_rate_schedule than 'compound'.

    Example:
      >>> from jaxsched.compat.others import scenic
      >>> scenic.get_learning_rate_fn({"lr_configs": {"base_learning_rate": 0.1}})
      Constant(constant_value=0.1)

    Source: scenic.train_lib.lr_schedules.get_learning_rate_fn.
    """
    lr_configs = config["lr_configs"]
    if "base_learning_rate" not in lr_configs:
        raise ValueError("get_learning_rate_fn: lr_configs has no base_learning_rate; write one.")
    if "learning_rate_schedule" not in lr_configs:
        return _constant(lr_configs["base_learning_rate"])
    known("get_learning_rate_fn", "learning_rate_schedule", lr_configs["learning_rate_schedule"], ["compound"])
    return compound_lr_scheduler(lr_configs, peer_exact)
