"""optax.schedules: its functions by their own names and arguments, which return schedules of the core.

>>> import jax
>>> from jaxsched.compat import optax as schedules
>>> s = schedules.warmup_cosine_decay_schedule(init_value=0.0, peak_value=1.0, warmup_steps=10, decay_steps=100)
>>> float(s(5)), float(s(100))
(0.5, 0.0)
>>> lengths = jax.numpy.array([50, 100, 200])
>>> jax.vmap(lambda n: schedules.linear_schedule(1.0, 0.0, transition_steps=n)(25))(lengths).tolist()
[0.5, 0.75, 0.875]

In Optax's own, `transition_steps`, `decay_steps`, `decay_rate`, `peak_value`, the percentages, the factors and every
`boundaries_and_scales` must be Python numbers; here each of them may be traced. The other public names of
`optax.schedules` are Optax's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from optax.contrib import ReduceLROnPlateauState as ReduceLROnPlateauState
from optax.schedules import InjectHyperparamsState as InjectHyperparamsState
from optax.schedules import InjectStatefulHyperparamsState as InjectStatefulHyperparamsState
from optax.schedules import Schedule as Schedule
from optax.schedules import StatefulSchedule as StatefulSchedule
from optax.schedules import WrappedSchedule as WrappedSchedule
from optax.schedules import inject_hyperparams as inject_hyperparams
from optax.schedules import inject_stateful_hyperparams as inject_stateful_hyperparams

from .._errors import format_value, is_traced
from ..fields import Domain, Length, NonNegative, Offset, Positive, Scalar, Steps, StepTable, Unit, validate
from ..optim import plateau
from ..optim.metrics import increment, metric_driven, settings, standard_promotion
from ..schedules import base, combine, shapes
from ..schedules.base import Constant
from ..schedules.combine import Join
from ..schedules.decays import ExponentialDecay
from ..schedules.pieces import PiecewiseConstant, PiecewiseInterpolate
from ..schedules.ramps import Linear, Polynomial, Ramp
from ..schedules.recipes import WarmupConstant
from .peer import admitted, known

Function = TypeVar("Function", bound=Callable[..., Any])

_LENGTH, _NON_NEGATIVE, _BOUNDARIES = (get_args(kind)[1] for kind in (Length, NonNegative, StepTable))
_STEPS = Domain("a list of steps", counts=True, ndim=1)
_SCALES = Domain("a list of finite numbers, 0 or more", lambda x: x >= 0, ndim=1)


def _checked(function: Function) -> Function:
    """A function's arguments are checked by their annotations, as the fields of a class are."""
    inner = admitted(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # only counts and rates meet here
            return inner(*map(_countable, args), **{name: _countable(x) for name, x in kwargs.items()})

    return cast(Function, checked)


def _countable(x: Any) -> Any:
    """An integer that is too large to be counted is a float, as it is in Optax's cosine."""
    too_large = type(x) is int and abs(x) > jnp.iinfo(jnp.result_type(int)).max
    return float(x) if too_large else x


# --- arithmetic on arguments, which stay Python numbers or NumPy arrays unless one of them is JAX's ------------------


def _module(*xs: Any) -> Any:
    return jnp if any(isinstance(x, jax.Array) for x in xs) else np


def _plain(x: Any) -> Any:
    """A Python number where NumPy made one of its own of Python numbers."""
    return x.item() if isinstance(x, (np.ndarray, np.generic)) and x.ndim == 0 else x


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return _plain(_module(condition, yes, no).where(condition, yes, no))


def _floor(x: Any) -> Any:
    """The integer below, which for Python numbers is Python's `int(x)`."""
    module = _module(x)
    return _plain(module.floor(x).astype(module.result_type(int)))


# --- the schedules ---------------------------------------------------------------------------------------------------


class CosinePower(base.Schedule):
    """A power of half a cosine wave, from one value to another.

    Formula: `s(t) = end + (init - end) ((1 + cos(pi u)) / 2)^power` with `u = min(t / steps, 1)`.

    Fields:
      init_value: the value at step 0.
      end_value: the value at step `steps` and after it.
      steps: the length, above 0.
      power: above 0; 1 is the cosine, above it the value falls earlier.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> [round(float(v), 4) for v in schedules.CosinePower(1.0, 0.0, steps=4, power=2.0).table(6)]
      [1.0, 0.7286, 0.25, 0.0214, 0.0, 0.0]

    Source: optax.cosine_decay_schedule (0.2.8), whose `exponent` is the power.
    """

    init_value: Scalar
    end_value: Scalar
    steps: Length
    power: Positive = 1.0

    def value(self, step: shapes.Step) -> Array:
        left = shapes.flip(shapes.half_cosine(shapes.exact_progress(step, self.steps)))
        return shapes.mix(self.end_value, self.init_value, shapes.raised(left, self.power))


@_checked
def constant_schedule(value: Scalar) -> base.Schedule:
    """One value at every step.

    Args:
      value: the value.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> float(schedules.constant_schedule(5)(100))
      5.0

    Source: optax.constant_schedule (0.2.8).
    """
    return Constant(value)


@_checked
def polynomial_schedule(
    init_value: Scalar, end_value: Scalar, power: Positive, transition_steps: Offset, transition_begin: Offset = 0
) -> base.Schedule:
    """A power of the way that is left, from one value to another.

    Formula: `end + (init - end) (1 - u)^power` with `u = min(max(t - transition_begin, 0) / transition_steps, 1)`.

    Args:
      init_value, end_value: the two values.
      power: above 0.
      transition_steps: the steps from one to the other; with 0 or less the value is `init_value` for ever, as Optax
        documents it.
      transition_begin: the step where it begins; below 0 it counts as 0.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4).table(6).tolist()
      [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]

    Source: optax.polynomial_schedule (0.2.8).
    """
    end_value, steps = _moving(init_value, end_value, transition_steps)
    return _begun(Polynomial(init_value, end_value, steps, power), transition_begin)


def _moving(init_value: Any, end_value: Any, steps: Any) -> tuple[Any, Any]:
    """The end and the length, so that nothing moves where the length is not above 0."""
    return _where(steps > 0, end_value, init_value), _where(steps > 0, steps, 0)


def _begun(schedule: base.Schedule, begin: Any) -> base.Schedule:
    """Also where it begins at once: what a number is never changes the structure, so that settings can be stacked."""
    return schedule.shift(_where(begin > 0, begin, 0))


@_checked
def linear_schedule(
    init_value: Scalar, end_value: Scalar, transition_steps: Offset, transition_begin: Offset = 0
) -> base.Schedule:
    """A straight line from one value to another.

    Formula: `init (1 - u) + end u` with `u = min(max(t - transition_begin, 0) / transition_steps, 1)`.

    Args:
      init_value, end_value, transition_steps, transition_begin: as in `polynomial_schedule`.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.linear_schedule(1.0, 0.0, transition_steps=2, transition_begin=1).table(5).tolist()
      [1.0, 1.0, 0.5, 0.0, 0.0]

    Source: optax.linear_schedule (0.2.8).
    """
    end_value, steps = _moving(init_value, end_value, transition_steps)
    return _begun(Linear(init_value, end_value, steps), transition_begin)


@_checked
def exponential_decay(
    init_value: Scalar,
    transition_steps: Offset,
    decay_rate: NonNegative,
    transition_begin: Offset = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> base.Schedule:
    """A constant rate of decay, by the step or in stairs.

    Formula: `init decay_rate^(max(t - transition_begin, 0) / transition_steps)`, with the exponent floored if
    `staircase`; then not below `end_value` if `decay_rate < 1`, else not above it.

    Args:
      init_value: the value at step 0.
      transition_steps: the steps of one factor.
      decay_rate: the factor, 0 or more; with 0, and with `transition_steps` of 0 or less, the value is `init_value`
        for ever, as Optax's tests have it.
      transition_begin: the step where it begins; below 0 it counts as 0.
      staircase: whether the factor comes at once, at every `transition_steps`-th step.
      end_value: the bound, or None.

    Errors: ValueError for a `decay_rate` below 0, of which Optax makes NaN between its stairs.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.exponential_decay(1.0, transition_steps=2, decay_rate=0.25, end_value=0.1).table(5).tolist()
      [1.0, 0.5, 0.25, 0.125, 0.10000000149011612]

    Source: optax.exponential_decay (0.2.8).
    """
    decays = (transition_steps > 0) & (decay_rate > 0)
    rate, steps = _where(decays, decay_rate, 1.0), _where(decays, transition_steps, 1)
    decay = ExponentialDecay(init_value, rate, steps, staircase)
    if end_value is None:
        return _begun(decay, transition_begin)
    # A bound from above is one from below on the mirror image: which of them it is depends on a number.
    sign = _where(decay_rate < 1, 1.0, -1.0)
    bound = _where(decays, end_value, init_value)
    return _begun((sign * decay).clip(lo=sign * bound) * sign, transition_begin)


@_checked
def cosine_decay_schedule(
    init_value: Scalar, decay_steps: Length, alpha: Scalar = 0.0, exponent: Positive = 1.0
) -> base.Schedule:
    """Half a cosine wave, or a power of it, from a value down to a share of it.

    Formula: `init ((1 - alpha) ((1 + cos(pi u)) / 2)^exponent + alpha)` with `u = min(t / decay_steps, 1)`.

    Args:
      init_value: the value at step 0.
      decay_steps: the length, above 0.
      alpha: the share that is left at the end.
      exponent: above 0.

    Errors: ValueError for `decay_steps` of 0 or less, as in Optax.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> [round(float(v), 4) for v in schedules.cosine_decay_schedule(1.0, decay_steps=4, alpha=0.1).table(5)]
      [1.0, 0.8682, 0.55, 0.2318, 0.1]

    Source: optax.cosine_decay_schedule (0.2.8).
    """
    return CosinePower(init_value, alpha * init_value, decay_steps, exponent)


@_checked
def warmup_constant_schedule(
    init_value: Scalar, peak_value: Scalar, warmup_steps: Offset, peer_exact: bool = False
) -> base.Schedule:
    """A linear warmup, and the peak from there on.

    Formula: `init (1 - u) + peak u` with `u = min(t / warmup_steps, 1)`.

    Args:
      init_value: the value at step 0.
      peak_value: the value from step `warmup_steps` on.
      warmup_steps: 0 or more; with 0 the value is the peak from step 0 on.
      peer_exact: whether it stays at `init_value` for ever without a warmup, as Optax's does.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.warmup_constant_schedule(0.0, 1.0, warmup_steps=2).table(4).tolist()
      [0.0, 0.5, 1.0, 1.0]

    Source: optax.warmup_constant_schedule (0.2.8).
    """
    if peer_exact:
        return linear_schedule(init_value, peak_value, warmup_steps)
    return WarmupConstant(peak_value, warmup_steps, init_value)


@_checked
def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    decay_steps: Length,
    end_value: Scalar = 0.0,
    exponent: Positive = 1.0,
) -> base.Schedule:
    """A linear warmup, then half a cosine wave, or a power of it, down to the end.

    Formula: a line from `init_value` to `peak_value` in `warmup_steps`, then
    `end + (peak - end) ((1 + cos(pi u)) / 2)^exponent` with
    `u = min((t - warmup_steps) / (decay_steps - warmup_steps), 1)`; from a peak of 0 nothing moves, as Optax's tests
    have it.

    Args:
      init_value, peak_value, end_value: the values at the steps 0, `warmup_steps` and `decay_steps`.
      warmup_steps: the length of the warmup, 0 or more.
      decay_steps: the whole horizon, with the warmup, and longer than it.
      exponent: above 0.

    Errors: ValueError for `decay_steps <= warmup_steps`, as in Optax.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> s = schedules.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=2, decay_steps=4)
      >>> [round(float(v), 4) for v in s.table(6)]
      [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    Source: optax.warmup_cosine_decay_schedule (0.2.8).
    """
    steps = _plain(decay_steps - warmup_steps)
    steps = validate("warmup_cosine_decay_schedule", "decay_steps - warmup_steps", steps, _LENGTH)
    steps = _where(steps > 0, steps, 1)  # what is traced may be anything, and is finite
    down = CosinePower(peak_value, _where(peak_value == 0, 0.0, end_value), steps, exponent)
    return Linear(init_value, peak_value, warmup_steps).then(down, at=warmup_steps)


@_checked
def warmup_exponential_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Steps,
    transition_steps: Offset,
    decay_rate: NonNegative,
    transition_begin: Offset = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> base.Schedule:
    """A linear warmup, then exponential decay.

    Formula: a line from `init_value` to `peak_value` in `warmup_steps`, then `exponential_decay` from the peak, whose
    clock begins at step `warmup_steps`.

    Args:
      init_value, peak_value: the values at the steps 0 and `warmup_steps`.
      warmup_steps: the length of the warmup, 0 or more.
      transition_steps, decay_rate, transition_begin, staircase, end_value: as in `exponential_decay`.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.warmup_exponential_decay_schedule(0.0, 1.0, 2, transition_steps=1, decay_rate=0.5).table(5).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.25]

    Source: optax.warmup_exponential_decay_schedule (0.2.8).
    """
    down = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return Linear(init_value, peak_value, warmup_steps).then(down, at=warmup_steps)


@_checked
def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> base.Schedule:
    """Warmups and cosines one after the other.

    Formula: cycle i is `warmup_cosine_decay_schedule(**cosine_kwargs[i])`, and lasts its `decay_steps`.

    Args:
      cosine_kwargs: the arguments of each cycle.

    Errors: ValueError for no cycles; TypeError for an argument that `warmup_cosine_decay_schedule` does not have.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> cycle = dict(init_value=0.0, warmup_steps=1, decay_steps=3)
      >>> s = schedules.sgdr_schedule([dict(cycle, peak_value=1.0), dict(cycle, peak_value=0.5)])
      >>> [round(float(v), 4) for v in s.table(7)]
      [0.0, 1.0, 0.5, 0.0, 0.5, 0.25, 0.0]

    Source: optax.sgdr_schedule (0.2.8); SGDR (1608.03983).
    """
    cycles = list(cosine_kwargs)
    if not cycles:
        raise ValueError("sgdr_schedule: cosine_kwargs=[]; write the arguments of at least one cycle.")
    made = [warmup_cosine_decay_schedule(**cycle) for cycle in cycles]
    ends, elapsed = [], 0
    for cycle in cycles[:-1]:
        elapsed = elapsed + cycle["decay_steps"]
        ends.append(_countable(elapsed))
    return combine.join(made, ends)


@_checked
def join_schedules(schedules: Sequence[Any], boundaries: Any, peer_exact: bool = False) -> base.Schedule:
    """Schedules one after the other, each on a clock that starts at 0 where its turn begins.

    Formula: `schedules[i](t - boundaries[i - 1])`, where i is the number of boundaries `<= t`.

    Args:
      schedules: schedules or plain functions of the step.
      boundaries: the steps where one follows another, one fewer than schedules, each larger than the one before.
      peer_exact: whether schedules and boundaries without a partner are dropped, and boundaries come in any order
        (the last one that is reached says which schedule is asked), as in Optax's.

    Errors: ValueError for wrong counts, and for boundaries that collide or are not sorted.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> parts = [schedules.linear_schedule(0.0, 1.0, 2), lambda step: 0.5]
      >>> schedules.join_schedules(parts, [3]).table(5).tolist()
      [0.0, 0.5, 1.0, 0.5, 0.5]

    Source: optax.join_schedules (0.2.8).
    """
    made = [base.as_schedule("join_schedules", f"schedules[{i}]", schedule) for i, schedule in enumerate(schedules)]
    if not made:
        raise ValueError("join_schedules: schedules=[]; write at least one schedule.")
    if isinstance(made[0], Join):
        made[0] = made[0].shift(0)  # which may be left before it has come to its own last piece
    if not peer_exact:
        return combine.join(made, boundaries)
    # A piece that begins at or after a later one is never asked: it lasts no step.
    pairs = list(zip(boundaries, made[1:], strict=False))
    starts = [functools.reduce(_smaller, [b for b, _ in pairs[i:]]) for i in range(len(pairs))]
    later = zip(starts, (schedule for _, schedule in pairs), strict=True)
    return functools.reduce(lambda out, piece: out.then(piece[1], at=piece[0]), later, made[0])


def _smaller(a: Any, b: Any) -> Any:
    return _plain(_module(a, b).minimum(a, b))


# --- tables of boundaries and scales ---------------------------------------------------------------------------------


@_checked
def piecewise_constant_schedule(init_value: Scalar, boundaries_and_scales: Any = None) -> base.Schedule:
    """A value that is multiplied by a scale at every boundary.

    Formula: `init` times the product of `scales[i]` over all i with `boundaries[i] <= t`.

    Args:
      init_value: the value before the first boundary.
      boundaries_and_scales: a dictionary `{boundary: scale}`, a pair `(boundaries, scales)` of lists or arrays, all
        of whose numbers may be traced, or None. The scales are 0 or more.

    Errors: ValueError for a scale below 0, as in Optax, and for boundaries that collide or are below 0.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5}).table(6).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
      >>> schedules.piecewise_constant_schedule(1.0, ([2, 4], [0.5, 0.5]))
      PiecewiseConstant(boundaries=[2, 4], values=[1.0, 0.5, 0.25])

    Source: optax.piecewise_constant_schedule (0.2.8).
    """
    boundaries, values = _table("piecewise_constant_schedule", init_value, boundaries_and_scales)
    return Constant(init_value) if boundaries is None else PiecewiseConstant(boundaries, values)


@_checked
def piecewise_interpolate_schedule(
    interpolate_type: Any, init_value: Scalar, boundaries_and_scales: Any = None
) -> base.Schedule:
    """A curve through a value that is multiplied by a scale from boundary to boundary.

    Formula: from `init` at step 0 to `init scales[0]` at `boundaries[0]`, to `init scales[0] scales[1]` at
    `boundaries[1]` and so on, where it holds; in lines or in half cosine waves.

    Args:
      interpolate_type: "linear" or "cosine".
      init_value: the value at step 0, unless a boundary is there.
      boundaries_and_scales: as in `piecewise_constant_schedule`.

    Errors: ValueError for another type and for a scale below 0, as in Optax, and for boundaries that collide or are
    below 0. An array of steps is right here; Optax's own gives other values for it than step by step.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.piecewise_interpolate_schedule("linear", 1.0, {2: 0.5, 4: 0.0}).table(6).tolist()
      [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Source: optax.piecewise_interpolate_schedule (0.2.8).
    """
    owner = "piecewise_interpolate_schedule"
    kind = known(owner, "interpolate_type", interpolate_type, ("linear", "cosine"))
    boundaries, values = _table(owner, init_value, boundaries_and_scales)
    if boundaries is None:
        return Constant(init_value)
    # The way to the first boundary has no length if that is step 0, and a table has no two knots at one step.
    first = _plain(boundaries[..., 0])
    ramp = Ramp(init_value, _plain(values[..., 1]), first, kind)
    if boundaries.shape[-1] == 1:
        return ramp
    rest = PiecewiseInterpolate(boundaries - boundaries[..., :1], values[..., 1:], kind)
    return ramp.then(rest, at=first)


def _table(owner: str, init_value: Any, given: Any) -> tuple[Any, Any]:
    """The boundaries, sorted, and the values, of which there is one more; None where there are no boundaries."""
    if given is None:
        return None, None
    if isinstance(given, Mapping):
        given = (list(given), list(given.values()))
    if not (isinstance(given, (tuple, list)) and len(given) == 2 and all(hasattr(x, "__len__") for x in given)):
        ways = "write {boundary: scale}, or a pair (boundaries, scales) of lists"
        raise TypeError(f"{owner}: boundaries_and_scales={format_value(given)}; {ways}.")
    boundaries = validate(owner, "boundaries", _array(given[0]), _STEPS)
    scales = validate(owner, "scales", _array(given[1]), _SCALES)
    if boundaries.shape[-1] != scales.shape[-1]:
        counts = f"{boundaries.shape[-1]} boundaries and {scales.shape[-1]} scales"
        raise ValueError(f"{owner}: {counts}; each boundary has its scale.")
    if boundaries.shape[-1] == 0:
        return None, None
    order = _module(boundaries).argsort(boundaries, axis=-1)  # as those of a dictionary, which has no order, are
    boundaries, scales = (_module(x, order).take_along_axis(x, order, axis=-1) for x in (boundaries, scales))
    module = _module(init_value, scales)
    products = module.cumprod(scales, axis=-1)
    factors = module.concatenate([module.ones_like(products[..., :1]), products], axis=-1)
    return validate(owner, "boundaries", boundaries, _BOUNDARIES), module.asarray(init_value)[..., None] * factors


def _array(xs: Any) -> Any:
    """A list of numbers, of which some may be traced, as one array."""
    if isinstance(xs, jax.Array) or not any(isinstance(x, jax.Array) for x in xs):
        return xs if isinstance(xs, jax.Array) else np.asarray(xs)
    return jnp.stack(list(map(jnp.asarray, xs)))


# --- one cycle -------------------------------------------------------------------------------------------------------


@_checked
def linear_onecycle_schedule(
    transition_steps: Length,
    peak_value: Scalar,
    pct_start: Unit = 0.3,
    pct_final: Unit = 0.85,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
    peer_exact: bool = False,
) -> base.Schedule:
    """Three lines: up to a peak, back down, and down to the end.

    Formula: from `first = peak_value / div_factor` to `peak_value` at step `floor(pct_start transition_steps)`, back to
    `first` at step `floor(pct_final transition_steps)`, and to `first / final_div_factor` at step `transition_steps`.

    Args:
      transition_steps: the whole length, above 0.
      peak_value: the value at the top.
      pct_start, pct_final: the shares of the length where the first and the second line end, from 0 to 1.
      div_factor: peak over first value, above 0.
      final_div_factor: first value over last value, above 0.
      peer_exact: whether of two lines that end at one step only the later scale is kept, as in Optax's, where the peak
        is lost; and whether `pct_final` may lie before `pct_start`.

    Errors: ValueError for `transition_steps` of 0 or less, as in Optax, and for `pct_final` before `pct_start`.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.linear_onecycle_schedule(10, 1.0, 0.2, 0.6, div_factor=2.0, final_div_factor=4.0).table(12).tolist()
      [0.5, 0.75, 1.0, 0.875, 0.75, 0.625, 0.5, 0.40625, 0.3125, 0.21875, 0.125, 0.125]

    Source: optax.linear_onecycle_schedule (0.2.8); Smith and Topin (1708.07120).
    """
    if not peer_exact:
        validate("linear_onecycle_schedule", "pct_final - pct_start", _plain(pct_final - pct_start), _NON_NEGATIVE)
    ends = [*(_part(share, transition_steps, peer_exact) for share in (pct_start, pct_final)), transition_steps]
    first = peak_value / div_factor
    if peer_exact:
        return _one_key_each("linear", first, ends, [div_factor, 1 / div_factor, 1 / final_div_factor])
    return _phases("linear", [first, peak_value, first, first / final_div_factor], ends)


@_checked
def cosine_onecycle_schedule(
    transition_steps: Length,
    peak_value: Scalar,
    pct_start: Unit = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
    peer_exact: bool = False,
) -> base.Schedule:
    """Two half cosine waves: up to a peak, and far down.

    Formula: from `first = peak_value / div_factor` to `peak_value` at step `floor(pct_start transition_steps)`, and to
    `first / final_div_factor` at step `transition_steps`.

    Args:
      transition_steps, peak_value, pct_start, div_factor, final_div_factor: as in `linear_onecycle_schedule`.
      peer_exact: whether the peak is lost if it is at the last step, as in Optax's.

    Errors: ValueError for `transition_steps` of 0 or less, as in Optax.

    Example:
      >>> from jaxsched.compat import optax as schedules
      >>> schedules.cosine_onecycle_schedule(4, 1.0, 0.5, div_factor=2.0, final_div_factor=4.0).table(6).tolist()
      [0.5, 0.75, 1.0, 0.5625, 0.125, 0.125]

    Source: optax.cosine_onecycle_schedule (0.2.8), whose peak is one step later than torch's.
    """
    ends = [_part(pct_start, transition_steps, peer_exact), transition_steps]
    first = peak_value / div_factor
    if peer_exact:
        return _one_key_each("cosine", first, ends, [div_factor, 1 / (div_factor * final_div_factor)])
    return _phases("cosine", [first, peak_value, first / final_div_factor], ends)


def _part(share: Any, total: Any, peer_exact: bool) -> Any:
    """The step that a share of the whole comes to, rounded down. What is whole but for the rounding of the share is
    whole: 0.29 of 100 is 29, which in float64 is a little less, and 28 in Optax."""
    product = share * total
    slack = 0 if peer_exact else 4 * _module(product).finfo(_module(product).result_type(float)).eps
    return _smaller(_countable(_floor(product * (1 + slack))), total)


def _phases(shape: Any, values: Sequence[Any], ends: Sequence[Any]) -> base.Schedule:
    """Ramps through `values` that end at the steps `ends`; one without a length is passed over."""
    out: base.Schedule = Ramp(values[0], values[1], ends[0], shape)
    for before, after, start, end in zip(values[1:], values[2:], ends, ends[1:], strict=False):
        out = out.then(Ramp(before, after, _plain(end - start), shape), at=start)
    return out


def _one_key_each(shape: Any, init: Any, ends: Sequence[Any], scales: Sequence[Any]) -> base.Schedule:
    """The phases as Optax has them, which writes ends and scales into one dictionary: of equal ends the last scale is
    kept, and it leads to the first of them."""
    module = _module(init, *ends, *scales)
    at, scale = module.stack(module.broadcast_arrays(*ends)), module.stack(module.broadcast_arrays(*scales))
    order = module.lexsort((at,), axis=0)  # which is stable
    at, scale = (module.take_along_axis(x, order, axis=0) for x in (at, scale))
    equal = at[:, None] == at[None]
    last = len(ends) - 1 - module.argmax(equal[:, ::-1], axis=1)
    leads = module.argmax(equal, axis=1) == module.arange(len(ends)).reshape(-1, *[1] * (at.ndim - 1))
    scale = module.where(leads, module.take_along_axis(scale, last, axis=0), 1.0)
    values = [init, *(init * module.cumprod(scale, axis=0))]
    return _phases(shape, [_plain(v) for v in values], [_plain(t) for t in at])


# --- the plateau -----------------------------------------------------------------------------------------------------


class ToleranceSettings(NamedTuple):
    """The settings of the core's plateau, with `threshold` as `rtol`, and `atol` beside them."""

    mode: plateau.Mode
    factor: plateau.Factor
    patience: plateau.Observations
    threshold: NonNegative
    threshold_mode: plateau.ThresholdMode
    cooldown: plateau.Observations
    min_lr: NonNegative
    eps: NonNegative
    window: plateau.Window
    warmup: plateau.Observations
    nan: plateau.NanPolicy
    sign_safe: bool
    atol: NonNegative


class TolerancePlateauState(plateau.PlateauState):
    """The core's `PlateauState`, whose metric must be better by a share of the best one and by an amount, together."""

    __slots__ = ()

    def _evaluate(self, metric: Array, is_evaluated: Array) -> TolerancePlateauState:
        """As the core does, by an amount that is reckoned anew for each metric."""
        own: Any = self.settings
        absolute = jnp.asarray(1, jnp.int32)  # the place of "abs" among the modes
        margin = own.threshold * jnp.abs(self.best) + own.atol
        state = self._replace(settings=own._replace(threshold=margin, threshold_mode=absolute))
        after: Any = plateau.PlateauState._evaluate(state, metric, is_evaluated)
        return after._replace(settings=own)


@_checked
def reduce_on_plateau(
    factor: plateau.Factor = 0.1,  # type: ignore[assignment]
    patience: plateau.Observations = 10,  # type: ignore[assignment]
    rtol: Unit = 1e-4,
    atol: NonNegative = 0.0,
    cooldown: plateau.Observations = 0,  # type: ignore[assignment]
    accumulation_size: plateau.Window = 1,  # type: ignore[assignment]
    min_scale: NonNegative = 0.0,
    peer_exact: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Scale updates by a factor that is cut when a metric that should fall has stopped falling.

    It is `jaxsched.reduce_on_plateau` under Optax's arguments: the metric is told with `update(..., value=loss)`, or
    once an epoch with `jaxsched.observe(state, value=loss)`, and `current_hyperparams` reads the scale. Every number
    may be traced.

    Formula: the mean m of `accumulation_size` metrics is better if `m < best - rtol |best| - atol`; `best` is m then.
    After `patience` means in a row that are not better the scale is cut, to `max(scale factor, min_scale)`, and the
    next `cooldown` means are not counted.

    Args:
      factor: what a cut multiplies the scale by, between 0 and 1.
      patience: the means in a row without a better one that make a cut; 0 is as 1.
      rtol: by which share of the best metric a better one must be below it, from 0 to 1.
      atol: by how much it must be below it beside that, 0 or more.
      cooldown: the means after a cut that are not counted, 0 or more.
      accumulation_size: how many metrics make one mean, 1 or more.
      min_scale: the scale below which no cut goes, 0 or more.
      peer_exact: Optax's own numbers, and its own `ReduceLROnPlateauState`: the scale in the narrowest type of the
        parameters, `best (1 - rtol) - atol`, by which a negative metric that does not move is ever better, the metric
        on every update, and a patience of 0 that cuts whenever a metric is better.

    Errors: ValueError for a number outside of its range and for tolerances that are both 0, as in Optax, and for an
    `rtol` of 1, by which no metric is ever better.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxsched.compat.optax import contrib
      >>> optimizer = optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau(factor=0.5, patience=2))
      >>> params = jnp.ones(2)
      >>> state = optimizer.init(params)
      >>> for loss in (1.0, 1.0, 1.0):
      ...     updates, state = optimizer.update(params, state, params, value=loss)
      >>> updates.tolist()
      [-0.05000000074505806, -0.05000000074505806]

    Source: optax.contrib.reduce_on_plateau (0.2.8).
    """
    tolerances: Any = (rtol, atol)
    if not any(map(is_traced, tolerances)) and not np.any(tolerances):
        raise ValueError("reduce_on_plateau: rtol=0 and atol=0; one of them must be above 0: write rtol=1e-4.")
    if peer_exact:
        return _exact_plateau(factor, patience, rtol, atol, cooldown, accumulation_size, min_scale)
    if not is_traced(rtol) and rtol == 1:
        raise ValueError("reduce_on_plateau: rtol=1; a share of the best metric must be below 1: write rtol=1e-4.")
    own = settings(
        "reduce_on_plateau",
        ToleranceSettings,
        mode="min",
        factor=factor,
        patience=_where(patience > 0, patience - 1, 0),  # evaluations without improvement before the one that cuts
        threshold=rtol,
        threshold_mode="rel",
        cooldown=cooldown,
        min_lr=min_scale,
        eps=0.0,
        window=accumulation_size,
        warmup=0,
        nan="bad",
        sign_safe=True,
        atol=atol,
    )
    fresh: Any = plateau.reduce_on_plateau().init(None)  # type: ignore[arg-type]
    return metric_driven("reduce_on_plateau", None, TolerancePlateauState(*fresh._replace(settings=own)))


def _exact_plateau(
    factor: Any, patience: Any, rtol: Any, atol: Any, cooldown: Any, accumulation_size: Any, min_scale: Any
) -> optax.GradientTransformationExtraArgs:
    """Optax's rule, with arrays for its Python numbers. `1 - rtol` is taken where the number has all of its digits."""
    keep = 1 - rtol

    def init(params: Any) -> ReduceLROnPlateauState:
        low, high = (optax.tree_utils.tree_dtype(params, which) for which in ("lowest", "highest"))
        zero = jnp.zeros((), jnp.int32)
        return ReduceLROnPlateauState(
            scale=jnp.ones((), low),
            best_value=jnp.full((), jnp.inf, high),
            plateau_count=zero,
            cooldown_count=zero,
            count=zero,
            avg_value=jnp.zeros((), high),
        )

    def judged(state: Any) -> Any:
        mean, best, scale = state.avg_value, state.best_value, state.scale
        better = mean < jnp.asarray(keep, best.dtype) * best - jnp.asarray(atol, best.dtype)
        bad = jnp.where(better, 0, increment(state.plateau_count))
        waits = state.cooldown_count > 0
        cuts = ~waits & (bad == patience)
        cut = jnp.where(cuts, scale * jnp.asarray(factor, scale.dtype), scale)
        return ReduceLROnPlateauState(
            scale=jnp.where(waits, scale, jnp.maximum(cut, jnp.asarray(min_scale, scale.dtype))),
            best_value=jnp.where(better, mean, best),
            plateau_count=jnp.where(waits | cuts, 0, bad),
            cooldown_count=jnp.where(waits, state.cooldown_count - 1, jnp.where(cuts, cooldown, 0)).astype(jnp.int32),
            count=jnp.zeros_like(state.count),
            avg_value=jnp.zeros_like(mean),
        )

    @standard_promotion
    def update(updates: Any, state: Any, params: Any = None, *, value: Any, **extra: Any) -> tuple[Any, Any]:
        del params, extra
        count, dtype = increment(state.count), state.avg_value.dtype
        mean = ((state.count * state.avg_value + jnp.asarray(value, dtype)) / count).astype(dtype)
        state = state._replace(avg_value=mean, count=count)
        full = count == accumulation_size
        state = jax.tree.map(lambda new, old: jnp.where(full, new, old), judged(state), state)
        return jax.tree.map(lambda u: state.scale * u, updates), state

    return optax.GradientTransformationExtraArgs(init, cast(Any, update))


contrib = SimpleNamespace(reduce_on_plateau=reduce_on_plateau, ReduceLROnPlateauState=ReduceLROnPlateauState)
