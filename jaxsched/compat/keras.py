"""keras.optimizers.schedules and the two callbacks that set a rate, by their own names and arguments.

>>> from jaxsched.compat import keras
>>> s = keras.CosineDecay(0.0, decay_steps=1_000, warmup_target=0.1, warmup_steps=100)
>>> config = keras.to_config(s)                          # what keras.optimizers.schedules.serialize makes
>>> config["class_name"], config["config"]["warmup_target"]
('CosineDecay', 0.1)
>>> keras.from_config(config)
compat.keras.CosineDecay(initial_learning_rate=0.0, decay_steps=1000, warmup_target=0.1, warmup_steps=100)

An optimizer of Keras asks its schedule for step 0 at its first update, so `s(t)` is the rate of update t. A rate that
is written as an integer makes integers of all its numbers there: `ExponentialDecay(1, 10, 0.5)` is 0 from step 1 on,
and the warmup above with `0` for `0.0` is 0 at every step. Here it is the number.
"""

from __future__ import annotations

import inspect
import math
import operator
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from .._errors import format_value, is_traced, nearest_name
from ..fields import Growth, Length, NonNegative, Positive, Scalar, Steps, StepTable, Table, reject_if, validate
from ..optim.plateau import Observations, reduce_on_plateau
from ..schedules import shapes
from ..schedules.base import Lambda, Schedule
from ..schedules.cycles import PolynomialDecay as Polynomial
from ..schedules.decays import ExponentialDecay as Exponential
from ..schedules.decays import InverseTimeDecay as InverseTime
from ..schedules.pieces import PiecewiseConstant
from ..schedules.ramps import Linear, Ramp
from ..schedules.shapes import Position, Step, floating
from .peer import Peer, known, on_host

MODULE = "keras.optimizers.schedules"


class LearningRateSchedule(Peer):
    """What the schedules of Keras share: a `name`, which is a label without a meaning, and a config.

    Formula: that of the schedule that `build` makes.

    Example:
      >>> from jaxsched.compat import keras
      >>> s = keras.InverseTimeDecay(0.1, decay_steps=10, decay_rate=0.5)
      >>> s.get_config()["decay_rate"], keras.InverseTimeDecay.from_config(s.get_config())
      (0.5, compat.keras.InverseTimeDecay(initial_learning_rate=0.1, decay_steps=10, decay_rate=0.5))

    Source: keras.optimizers.schedules.LearningRateSchedule (3.15).
    """

    def check(self) -> None:
        name = getattr(self, "name", None)
        if not (name is None or isinstance(name, str)):
            raise TypeError(
                f"{type(self).__name__}: name={format_value(name)}; name must be a text, a label of the schedule."
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments as JSON holds them; `to_config` says the class too."""
        own = (field.name for field in self._fields if field.name != "peer_exact")  # which Keras does not know
        return {name: _as_json(name, getattr(self, name)) for name in own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """The schedule with these arguments; `from_config` of this module finds the class too."""
        return cls(**{name: _from_json(value) for name, value in config.items()})


class ExponentialDecay(LearningRateSchedule):
    """A factor over every `decay_steps`, by the step or in stairs.

    Formula: `s(t) = initial_learning_rate decay_rate^(t / decay_steps)`, the exponent floored if `staircase`.

    Fields:
      initial_learning_rate: the value at step 0.
      decay_steps: steps, above 0.
      decay_rate: the factor over `decay_steps`, above 0.
      staircase: whether the factor comes at once, at every `decay_steps`-th step.
      name: a label without a meaning.

    Example:
      >>> from jaxsched.compat import keras
      >>> keras.ExponentialDecay(1.0, decay_steps=2, decay_rate=0.25).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: keras.optimizers.schedules.ExponentialDecay (3.15).
    """

    initial_learning_rate: Scalar
    decay_steps: Length
    decay_rate: Positive
    staircase: bool = False
    name: str | None = "ExponentialDecay"

    def build(self) -> Schedule:
        return Exponential(self.initial_learning_rate, self.decay_rate, self.decay_steps, self.staircase)


class PiecewiseConstantDecay(LearningRateSchedule):
    """A table of constants; a boundary still belongs to the piece before it.

    Formula: `s(t) = values[i]`, where i is the number of boundaries `< t`.

    Fields:
      boundaries: (n,) steps, each larger than the one before.
      values: (n + 1,) values.
      name: a label without a meaning.

    Errors: ValueError for wrong counts, and for boundaries that are not sorted: Keras adds up the pieces that overlap,
    and gives 1.1 where the values are 1, 0.5 and 0.1.

    Example:
      >>> from jaxsched.compat import keras
      >>> keras.PiecewiseConstantDecay([2, 4], [1.0, 0.5, 0.25]).table(6).tolist()
      [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]

    Source: keras.optimizers.schedules.PiecewiseConstantDecay (3.15).
    """

    boundaries: StepTable
    values: Table
    name: str | None = "PiecewiseConstant"

    def build(self) -> Schedule:
        return PiecewiseConstant(_after(self.boundaries), self.values)


def _after(steps: Any) -> Any:
    """The first steps that lie behind these."""
    if shapes.is_integer(steps):
        return steps + 1
    # Not below the smallest ordinary float, which XLA would take for 0.
    behind = jnp.nextafter(lax.stop_gradient(floating(steps)), jnp.inf)
    return jnp.maximum(behind, jnp.finfo(behind.dtype).tiny)


class PolynomialDecay(LearningRateSchedule):
    """Polynomial decay whose horizon grows when it is reached, if it cycles.

    Formula: `s(t) = end + (init - end) (1 - t / N)^power` with `N = decay_steps`, after which `end` holds; if `cycle`,
    `N = decay_steps max(1, ceil(t / decay_steps))`.

    Fields:
      initial_learning_rate: init, the value at step 0.
      decay_steps: steps, above 0.
      end_learning_rate: end, the value at step `decay_steps` (and at its multiples).
      power: above 0.
      cycle: whether the value rises again, ever less, after each `decay_steps`.
      name: a label without a meaning.

    Example:
      >>> from jaxsched.compat import keras
      >>> keras.PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.5).table(6).tolist()
      [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]

    Source: keras.optimizers.schedules.PolynomialDecay (3.15).
    """

    initial_learning_rate: Scalar
    decay_steps: Length
    end_learning_rate: Scalar = 0.0001
    power: Positive = 1.0
    cycle: bool = False
    name: str | None = "PolynomialDecay"

    def build(self) -> Schedule:
        ends = self.initial_learning_rate, self.decay_steps, self.end_learning_rate
        return Polynomial(*ends, self.power, self.cycle)


class InverseTimeDecay(LearningRateSchedule):
    """Decay with the inverse of time.

    Formula: `s(t) = initial_learning_rate / (1 + decay_rate t / decay_steps)`, `t / decay_steps` floored if
    `staircase`.

    Fields:
      initial_learning_rate: the value at step 0.
      decay_steps: steps, above 0.
      decay_rate: 0 or more.
      staircase: whether it falls at every `decay_steps`-th step only.
      name: a label without a meaning.

    Example:
      >>> from jaxsched.compat import keras
      >>> keras.InverseTimeDecay(1.0, decay_steps=2, decay_rate=1.0)([0, 2, 6]).tolist()
      [1.0, 0.5, 0.25]

    Source: keras.optimizers.schedules.InverseTimeDecay (3.15).
    """

    initial_learning_rate: Scalar
    decay_steps: Length
    decay_rate: NonNegative
    staircase: bool = False
    name: str | None = "InverseTimeDecay"

    def build(self) -> Schedule:
        return InverseTime(self.initial_learning_rate, self.decay_rate, self.decay_steps, self.staircase)


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave, after a line up to `warmup_target` where there is one.

    Formula: `s(t) = top (alpha + (1 - alpha) (1 + cos(pi u)) / 2)` with `u = min(t / decay_steps, 1)` and
    `top = initial_learning_rate`; with a `warmup_target` first a line from `initial_learning_rate` to it in
    `warmup_steps`, and then the same with `top = warmup_target`.

    Fields:
      initial_learning_rate: the value at step 0.
      decay_steps: the length of the cosine, which the warmup is not counted in; above 0.
      alpha: what is left at the end, as a share of `top`: a factor and not a rate.
      name: a label without a meaning.
      warmup_target: the value at the end of the warmup, or None for no warmup.
      warmup_steps: the length of the warmup, above 0 with a `warmup_target`.

    Errors: ValueError for `warmup_steps` without a `warmup_target`, and for a `warmup_target` without `warmup_steps`.

    Example:
      >>> from jaxsched.compat import keras
      >>> s = keras.CosineDecay(0.0, decay_steps=4, alpha=0.5, warmup_target=1.0, warmup_steps=2)
      >>> [round(float(v), 4) for v in s.table(8)]
      [0.0, 0.5, 1.0, 0.9268, 0.75, 0.5732, 0.5, 0.5]

    Source: keras.optimizers.schedules.CosineDecay (3.15).
    """

    initial_learning_rate: Scalar
    decay_steps: Length
    alpha: Scalar = 0.0
    name: str | None = "CosineDecay"
    warmup_target: Scalar | None = None
    warmup_steps: Steps = 0

    def check(self) -> None:
        super().check()
        if self.warmup_target is None:
            ignored = "Keras ignores it without a warmup_target: write the rate at its end as warmup_target"
            reject_if(self, lambda steps: steps != 0, "warmup_steps", instead=ignored)
        else:
            ignored = (
                "without a warmup Keras ignores the initial_learning_rate: write warmup_steps, or no warmup_target"
            )
            reject_if(self, lambda steps: steps == 0, "warmup_steps", instead=ignored)

    def build(self) -> Schedule:
        top = self.initial_learning_rate if self.warmup_target is None else self.warmup_target
        down = Ramp(top, self.alpha * top, self.decay_steps, shape="cosine")
        if self.warmup_target is None:
            return down
        return Linear(self.initial_learning_rate, top, self.warmup_steps).then(down, at=self.warmup_steps)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosines with restarts, each cycle `t_mul` times as long and `m_mul` times as high as the one before.

    Formula: in cycle i, which is `first_decay_steps t_mul^i` steps long, with u the share of it that is over,
    `s(t) = initial_learning_rate (alpha + (1 - alpha) m_mul^i (1 + cos(pi u)) / 2)`.

    Keras takes i from a logarithm, whose rounding misses restarts: it then gives the bottom at the step of the peak.
    Which ones depends on the type, the machine and the compiler: `t_mul=3` at step 121 (with `first_decay_steps=1`) in
    float64, 1.1 at 210 (with 100) in float32, and under `jax.jit` in float64 the default of 2 at its third restart.
    Here a restart is where the sum of the lengths says, up to the last digits of `t_mul`.

    Fields:
      initial_learning_rate: the value at step 0.
      first_decay_steps: the length of the first cycle, above 0.
      t_mul: 1 or more.
      m_mul: above 0.
      alpha: the bottom, as a share of `initial_learning_rate`: a factor and not a rate.
      name: a label without a meaning.
      peer_exact: whether i is taken from the logarithm, in float64 whatever the values are; no part of a config.

    Example:
      >>> from jaxsched.compat import keras
      >>> s = keras.CosineDecayRestarts(1.0, first_decay_steps=2, m_mul=0.5)
      >>> [round(float(v), 4) for v in s.table(7)]
      [1.0, 0.5, 0.5, 0.4268, 0.25, 0.0732, 0.25]

    Source: keras.optimizers.schedules.CosineDecayRestarts (3.15); SGDR (1608.03983).
    """

    initial_learning_rate: Scalar
    first_decay_steps: Length
    t_mul: Growth = 2.0
    m_mul: Positive = 1.0
    alpha: Scalar = 0.0
    name: str | None = "SGDRDecay"
    peer_exact: bool = False

    def build(self) -> Schedule:
        lengths = self.first_decay_steps, self.t_mul
        return _Restarts(self.initial_learning_rate, *lengths, self.m_mul, self.alpha, self.peer_exact)


class _Restarts(Schedule):
    """The core's CosineWarmRestarts with peaks that shrink towards the bottom, and not towards 0."""

    init_value: Scalar
    period: Length
    period_mult: Growth
    height_mult: Positive
    alpha: Scalar
    peer_exact: bool

    def value(self, step: Step) -> Array:
        cycle = _logarithmic_cycle if self.peer_exact else _geometric_cycle
        index, position = cycle(step, self.period, self.period_mult)
        height = shapes.power(self.height_mult, shapes.ratio(index))
        # Exact at a height of 1, and no difference of large numbers on either side of it.
        above = self.alpha + (1 - self.alpha) * height
        peak = self.init_value * jnp.where(height > 1, above, height + self.alpha * (1 - height))
        return shapes.mix(peak, self.init_value * self.alpha, shapes.half_cosine(position))


# --- cycles that grow by any factor, in twice the digits of a float --------------------------------------------------


class _Pair(NamedTuple):
    """The sum of two floats, of which the second is below the last digit of the first."""

    high: Any
    low: Any


def _pair(a: Any, b: Any) -> _Pair:
    """`a + b`, and what its rounding lost."""
    total = a + b
    other = total - a
    return _Pair(total, (a - (total - other)) + (b - other))


def _plus(x: _Pair, y: _Pair) -> _Pair:
    first = _pair(x.high, y.high)
    return _pair(first.high, first.low + (x.low + y.low))


def _times(x: _Pair, y: _Pair) -> _Pair:
    info = jnp.finfo(x.high.dtype)
    # Halves, whose products are exact.
    a, c = (lax.reduce_precision(z.high, exponent_bits=info.nexp, mantissa_bits=info.nmant // 2) for z in (x, y))
    b, d = x.high - a, y.high - c
    product = x.high * y.high
    lost = ((a * c - product) + a * d + b * c) + b * d
    return _pair(product, lost + (x.high * y.low + x.low * y.high))


def _powers(base: _Pair, count: Array) -> tuple[_Pair, _Pair]:
    """`base^count`, and the sum of the powers below it; by doubling, from the first bit of `count` on."""
    bits = 31  # as many cycles as an int32 can count
    zero, one = floating(jnp.zeros_like(count)), floating(jnp.ones_like(count))
    unit = _Pair(one, zero)

    def double(level: Any, state: tuple[_Pair, _Pair]) -> tuple[_Pair, _Pair]:
        power, total = state
        power, total = _times(power, power), _times(total, _plus(unit, power))
        odd = (count >> (bits - 1 - level)) & 1 == 1
        pairs = zip((_times(power, base), _plus(total, power)), (power, total), strict=True)
        return tuple(_Pair(*(jnp.where(odd, m, n) for m, n in zip(*pair, strict=True))) for pair in pairs)  # pyright: ignore

    return lax.fori_loop(0, bits, double, (unit, _Pair(zero, zero)))


def _geometric_cycle(step: Step, period: Any, mult: Any) -> tuple[Array, Position]:
    """The index of the cycle that `step` is in, and where in it; cycle i is `period * mult**i` steps long.

    A logarithm guesses the index; the starts, which are sums of powers, put it right."""
    # XLA sums up constants in an order of its own, by which the low digits are lost: they are hidden from it.
    period, mult = lax.optimization_barrier((jnp.asarray(period), floating(mult)))
    number = floating(step)
    now, first, growth = (_pair(*shapes.ratio(x)) for x in (step, period, mult))
    rate = jnp.where(mult > 1, mult - 1, 1)
    guess = jnp.log1p(number / floating(period) * rate) / jnp.log1p(rate)
    guess = jnp.maximum(lax.stop_gradient(guess).astype(jnp.result_type(int)) - 1, 0)
    index = jnp.where(mult > 1, guess, shapes.floor_div(step, period))
    power, total = _powers(growth, index)
    start, length = _times(first, total), _times(first, power)
    for _ in range(2):
        rest = _plus(_plus(start, length), _Pair(-now.high, -now.low))
        # A factor of 1.1 is a little more or less as a float, and yet a cycle of 100 and one of 110 steps are 210.
        slack = jnp.minimum(jnp.finfo(number.dtype).eps * floating(index) * number, 0.1)
        over = rest.high + rest.low <= slack
        later = _plus(start, length), _times(length, growth)
        start, length = (
            _Pair(*(jnp.where(over, m, n) for m, n in zip(new, old, strict=True)))
            for new, old in zip(later, (start, length), strict=True)
        )
        index = index + over.astype(index.dtype)
    done = _plus(now, _Pair(-start.high, -start.low))
    left = _plus(length, _Pair(-done.high, -done.low))
    shares = (jnp.clip((x.high + x.low) / length.high, 0, 1) for x in (left, done))
    return index, shapes.nearer(*shares)


def _logarithmic_cycle(step: Step, period: Any, mult: Any) -> tuple[Array, Position]:
    """The same, as Keras and TF1 reckon it."""

    def index(t: float, period: float, mult: float) -> int:
        count = t / period
        return math.floor(count if mult == 1 else math.log(1 - count * (1 - mult)) / math.log(mult))

    found, mult = on_host(index, step, period, mult), floating(mult)
    growth, before = shapes.powers(mult, found)
    done = jnp.clip((floating(step) / floating(period) - before) / growth, 0, 1)
    return found, shapes.nearer(1 - done, done)


# --- configs ---------------------------------------------------------------------------------------------------------

SCHEDULES: dict[str, type[LearningRateSchedule]] = {
    cls.__name__: cls
    for cls in (
        ExponentialDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        InverseTimeDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def _as_json(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if is_traced(value):
        raise TypeError(f"get_config: {name} is traced by JAX; a config holds numbers: make it outside of jax.jit.")
    array = np.asarray(value)
    if array.ndim > (name in ("boundaries", "values")):
        raise TypeError(
            f"get_config: {name}={format_value(value)} holds several settings; write unstack(s)[i].get_config()."
        )
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 8:
        # The shortest text that its own type reads back: 0.1 and not 0.10000000149.
        array = np.array([float(str(x)) for x in array.ravel()]).reshape(array.shape)
    return array.tolist()


def _from_json(value: Any) -> Any:
    """A number or a list; Keras writes an array as a dict of its own."""
    if isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
        return value["config"]["value"]
    return [_from_json(x) for x in value] if isinstance(value, list) else value


def to_config(schedule: LearningRateSchedule) -> dict[str, Any]:
    """The schedule as a dict that JSON holds and that `keras.optimizers.schedules.deserialize` reads.

    Args:
      schedule: one of the classes of this module.

    Example:
      >>> from jaxsched.compat import keras
      >>> keras.to_config(keras.PiecewiseConstantDecay([10], [1.0, 0.1]))["config"]
      {'boundaries': [10], 'values': [1.0, 0.1], 'name': 'PiecewiseConstant'}

    Source: keras.optimizers.schedules.serialize (3.15).
    """
    if not isinstance(schedule, LearningRateSchedule):
        raise TypeError(f"to_config: {format_value(schedule)} is none of Keras's schedules: {', '.join(SCHEDULES)}.")
    name = type(schedule).__name__
    return {"module": MODULE, "class_name": name, "config": schedule.get_config(), "registered_name": None}


def from_config(config: Any) -> LearningRateSchedule:
    """The schedule that a config of Keras describes.

    Args:
      config: what `keras.optimizers.schedules.serialize` returns (`{"class_name": ..., "config": ...}`), what a
        schedule's `get_config` returns, or a live schedule of Keras.

    Errors: ValueError for a class that is not Keras's own, and for arguments that fit none or several of its classes.

    Example:
      >>> from jaxsched.compat import keras
      >>> config = {"initial_learning_rate": 0.1, "decay_steps": 9}
      >>> keras.from_config({"class_name": "PolynomialDecay", "config": config})
      compat.keras.PolynomialDecay(initial_learning_rate=0.1, decay_steps=9)
      >>> keras.from_config({"initial_learning_rate": 0.1, "first_decay_steps": 9})
      compat.keras.CosineDecayRestarts(initial_learning_rate=0.1, first_decay_steps=9)

    Source: keras.optimizers.schedules.deserialize (3.15).
    """
    if hasattr(config, "get_config"):
        config = {"class_name": type(config).__name__, "config": config.get_config()}
    if not isinstance(config, dict):
        raise TypeError(f"from_config: config={format_value(config)}; config must be a dict, as serialize makes it.")
    if "class_name" in config:
        cls = SCHEDULES[known("from_config", "class_name", config["class_name"], SCHEDULES)]
        return cls.from_config(config.get("config", {}))
    return _class_of(config).from_config(config)


def _class_of(config: dict[str, Any]) -> type[LearningRateSchedule]:
    """The class that has these arguments; of two, the one whose name stands as the label."""
    fits = []
    for cls in SCHEDULES.values():
        parameters = cls.__signature__.parameters
        required = {name for name, p in parameters.items() if p.default is inspect.Parameter.empty}
        if required <= set(config) <= set(parameters):
            fits.append(cls)
    if len(fits) > 1:
        fits = [cls for cls in fits if cls.__name__ == config.get("name")] or fits
    if len(fits) != 1:
        found = " and ".join(cls.__name__ for cls in fits) or "none of Keras's schedules"
        example = fits[0].__name__ if fits else "ExponentialDecay"
        raise ValueError(
            f"from_config: {format_value(list(config))} fits {found}; write keras.{example}.from_config(config)."
        )
    return fits[0]


serialize, deserialize = to_config, from_config

# --- callbacks -------------------------------------------------------------------------------------------------------

_RISING = (
    "acc accuracy binary_accuracy categorical_accuracy sparse_categorical_accuracy sparse_top_k_categorical_accuracy "
    "top_k_categorical_accuracy auc precision precision_at_recall recall recall_at_precision cosine_similarity "
    "sensitivity_at_specificity specificity_at_sensitivity concordance_correlation pearson_correlation f1_score "
    "fbeta_score binary_io_u io_u mean_io_u one_hot_io_u one_hot_mean_io_u r2_score"
).split()
_FALLING = (
    "loss binary_crossentropy bce categorical_crossentropy sparse_categorical_crossentropy categorical_hinge hinge "
    "squared_hinge kl_divergence poisson logcosh log_cosh_error mean_absolute_error mae mean_absolute_percentage_error "
    "mape mean_squared_error mse mean_squared_logarithmic_error msle root_mean_squared_error"
).split()
_DIRECTIONS: dict[str, Literal["min", "max"]] = {
    **{name.replace("_", ""): "max" for name in _RISING},
    **{name.replace("_", ""): "min" for name in _FALLING},
}


def _direction(monitor: Any) -> Literal["min", "max"]:
    """What Keras finds in the metric of that name: `accuracy`, `val_accuracy`, `auc_1`, `RootMeanSquaredError`."""
    if not isinstance(monitor, str):
        raise TypeError(f"ReduceLROnPlateau: monitor={format_value(monitor)}; monitor must be the name of a metric.")
    name = re.sub(r"_\d+$", "", monitor.removeprefix("val_")).replace("_", "").lower()
    if name not in _DIRECTIONS:
        raise ValueError(
            f"ReduceLROnPlateau: monitor={monitor!r} is no metric of Keras whose direction is known; write mode='max' "
            "for one that has to rise, or mode='min'."
        )
    return _DIRECTIONS[name]


def ReduceLROnPlateau(
    lr: Any = None,
    monitor: str = "val_loss",
    factor: Any = 0.1,
    patience: Any = 10,
    verbose: Any = 0,
    mode: Literal["auto", "min", "max"] = "auto",
    min_delta: Any = 1e-4,
    cooldown: Any = 0,
    min_lr: Any = 0.0,
    **unknown: Any,
) -> optax.GradientTransformationExtraArgs:
    """Keras's plateau as `jaxsched.reduce_on_plateau`: it stands at the end of a chain, and is told the metric once an
    epoch, `opt_state = jaxsched.observe(opt_state, value=val_loss)`.

    Args:
      lr: the optimizer's rate: a number or a schedule; None scales the updates of a whole optimizer.
      monitor: the name of the metric. It says which way is up where `mode` is "auto"; which metric is told is yours.
      factor: what a cut multiplies the rate by, between 0 and 1.
      patience: the epochs without a better metric, of which the last one cuts; 0 is 1.
      verbose: has no effect: read the rate with `jaxsched.current_hyperparams`.
      mode: "min" for a metric that has to fall, "max" for one that has to rise, or "auto". Keras takes any other text
        for "auto".
      min_delta: by how much a metric must be better; its sign is dropped.
      cooldown: epochs after a cut, of which the last one counts again; 0 is 1.
      min_lr: the rate below which no cut goes, 0 or more.
      **unknown: refused. Keras ignores a name that is misspelt.

    Keras takes a first metric of NaN for the best there is, for ever; here it is a bad one.

    Errors: ValueError and TypeError that name the argument; for "auto" with a metric whose direction is not known.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> from jaxsched.compat import keras
      >>> plateau = keras.ReduceLROnPlateau(1e-3, monitor="val_accuracy", factor=0.5, patience=2)
      >>> optimizer = optax.chain(optax.scale_by_adam(), plateau)
      >>> state = optimizer.init(jnp.ones(3))
      >>> for accuracy in (0.9, 0.9, 0.9):
      ...     state = js.observe(state, value=accuracy)
      >>> state[1].scale.item()
      0.5

    Source: keras.callbacks.ReduceLROnPlateau (3.15).
    """
    del verbose
    owner = "ReduceLROnPlateau"
    names = [name for name in inspect.signature(ReduceLROnPlateau).parameters if name != "unknown"]
    for name in unknown:
        raise TypeError(f"{owner} has no argument {name!r}: {nearest_name(name, names)}")
    known(owner, "mode", mode, ("auto", "min", "max"))
    return reduce_on_plateau(
        lr,
        mode=_direction(monitor) if mode == "auto" else mode,
        factor=factor,
        patience=_one_fewer(owner, "patience", patience),
        threshold=jnp.abs(validate(owner, "min_delta", min_delta, _FINITE)),
        threshold_mode="abs",
        cooldown=_one_fewer(owner, "cooldown", cooldown),
        min_lr=min_lr,
        eps=0.0,
    )


(_FINITE,), (_OBSERVATIONS,) = map(operator.attrgetter("__metadata__"), (Scalar, Observations))


def _one_fewer(owner: str, name: str, count: Any) -> Any:
    """Keras counts the epoch that ends a wait as one of it; to wait for none is to wait for one."""
    return jnp.maximum(jnp.asarray(validate(owner, name, count, _OBSERVATIONS)), 1) - 1


Rule: TypeAlias = Callable[..., Any]


def LearningRateScheduler(lr: Any, schedule: Rule, verbose: Any = 0, *, epochs: int | None = None) -> Schedule:
    """A rate for each epoch, from a function of the epoch, or of the epoch and the rate before.

    Formula: `s(e) = schedule(e)`, or `s(e) = schedule(e, s(e - 1))` with `s(-1) = lr`. It counts epochs:
    `.per_epoch(steps_per_epoch)` makes it count steps.

    Args:
      lr: the optimizer's rate, which a function of the epoch alone takes no notice of.
      schedule: `schedule(epoch)` or `schedule(epoch, lr)`, traceable by JAX unless `epochs` is given. It is part of
        the structure: another function is another compilation.
      verbose: has no effect.
      epochs: how many epochs there are. The function is then called in Python, once for each of them, so that it may
        say `if epoch < 10`; after the last one its rate holds.

    Example:
      >>> from jaxsched.compat import keras
      >>> def rule(epoch, lr):
      ...     return lr if epoch < 2 else lr * 0.5
      >>> keras.LearningRateScheduler(1.0, rule, epochs=4).table(5).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25]
      >>> keras.LearningRateScheduler(1.0, lambda epoch, lr: lr * 0.5).per_epoch(2).table(4).tolist()
      [0.5, 0.5, 0.25, 0.25]

    Source: keras.callbacks.LearningRateScheduler (3.15).
    """
    del verbose
    owner = "LearningRateScheduler"
    if isinstance(schedule, Schedule):
        return schedule
    if not callable(schedule):
        raise TypeError(
            f"{owner}: schedule={format_value(schedule)}; schedule must be a function of (epoch) or (epoch, lr)."
        )
    takes_rate = _takes_two(schedule)
    if epochs is None:
        return _Carried(lr, schedule) if takes_rate else Lambda(schedule)
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 1:
        raise ValueError(f"{owner}: epochs={format_value(epochs)}; epochs must be an integer, 1 or more.")
    rates = []
    for epoch in range(int(epochs)):
        lr = schedule(epoch, lr) if takes_rate else schedule(epoch)
        rates.append(validate(owner, f"schedule({epoch})", lr, _FINITE))
    values = jnp.stack([floating(x) for x in rates]) if any(map(is_traced, rates)) else np.array(rates, np.float64)
    return PiecewiseConstant(np.arange(1, int(epochs)), values)


def _takes_two(function: Rule) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a function that does not tell its arguments
        return True
    return True


class _Carried(Schedule):
    """`s(e) = fn(e, s(e - 1))` from `init_value` on: one call of `fn` for each epoch up to e."""

    init_value: Scalar
    fn: Rule

    def value(self, step: Step) -> Array:
        def at(epoch: Array) -> Array:
            def run(rate: Array) -> Array:
                return lax.fori_loop(0, epoch + 1, lambda e, rate: floating(self.fn(e, rate)), rate)

            # A loop of a length that is not known has no gradient of its own; along one number it is cheap to carry.
            start = lax.stop_gradient(floating(self.init_value))
            rate, slope = jax.jvp(run, (start,), (jnp.ones_like(start),))
            return lax.stop_gradient(rate) + lax.stop_gradient(slope) * (self.init_value - start)

        return jnp.vectorize(at)(shapes.floor_div(step, 1))
