"""Plans: extending a run, and the learning rate for another horizon or batch size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from .._errors import FieldError, FieldTypeError
from ..fields import Number, Positive, Scalar, Unit, shortest
from ..schedules.base import Constant, Schedule, ShapeName
from ..schedules.pieces import PiecewiseConstant
from .arguments import check_choice, check_count, check_number, concrete_rates, refuse_unfinished_warmup

ExtensionRule: TypeAlias = Literal["tuned", "least"]
BatchRule: TypeAlias = Literal["linear", "sqrt"]
Value = TypeVar("Value")

_SAME = 1e-6
"""Rates of one plateau differ by less than this share."""
_POINTS = 10
"""Points of a search before it is bracketed: the bound may have several minima."""
_FACTORS = math.log(64.0)
"""The logarithm of the largest factor by which a rate is lowered."""
_PLATEAU = 0.05
"""A peak that is held for more than this share of the horizon is a plateau, followed by a cooldown."""

# --- another horizon -------------------------------------------------------------------------------------------------


class Ways(NamedTuple):
    """A number for a run with the rate and the share of the cooldown `unchanged`, and for the ways of `Extension`."""

    unchanged: float
    longer_cooldown: float
    lowered: float


@dataclasses.dataclass(frozen=True, repr=False)
class Extension:
    """Two ways to extend a run, each a schedule of the whole run that equals the old one before step `at`.

    Args:
      longer_cooldown: the rate is held from step `at`, and cools down in the last `cooldown_steps`.
      cooldown_steps: the length of that cooldown.
      lowered: the rate is multiplied by `factor` at step `at`, and cools down in the last `same_cooldown_steps`.
      factor: above 1 the rate is raised, as it may be after most of a cosine, at most to the old peak.
      same_cooldown_steps: the old share of the new horizon.
      bounds: the bound of each way, in units of `distance * grad_norm`.
      scales: the best factor for the rates of each way; 1 where they are tuned.
      at: the first step that may change.
      new_total: the new horizon.
    """

    longer_cooldown: Schedule
    cooldown_steps: int
    lowered: Schedule
    factor: float
    same_cooldown_steps: int
    bounds: Ways
    scales: Ways
    at: int
    new_total: int

    @property
    def cooldown_fraction(self) -> float:
        """The share of the longer cooldown in the whole run."""
        return self.cooldown_steps / self.new_total

    @property
    def best(self) -> Schedule:
        """The way with the smaller bound."""
        return self.longer_cooldown if self.bounds.longer_cooldown <= self.bounds.lowered else self.lowered

    def __repr__(self) -> str:
        first, second = sorted(self.bounds[1:])
        name = "longer_cooldown" if self.best is self.longer_cooldown else "lowered"
        if name == "lowered" and self.factor > 1:
            name = "lowered (here it is raised, in one step: warm it up)"
        title = f"Extension from step {self.at} to {self.new_total} steps"
        lines = [f"{title}: {name} has the smaller bound, by {1 - first / second:.1%}"]
        changed = ("", "", f"rate times {self.factor:.3f}, ")
        cooldowns = (self.same_cooldown_steps, self.cooldown_steps, self.same_cooldown_steps)
        rows = zip(Ways._fields, changed, cooldowns, self.bounds, self.scales, strict=True)
        for way, change, steps, bound, scale in rows:
            share = f"{steps / self.new_total:.1%}{', all that is left' * (steps == self.new_total - self.at)}"
            gain = "" if way == "unchanged" else f" ({bound / self.bounds.unchanged - 1:+.1%})"
            away = "" if abs(scale - 1) < 0.01 else f", rates {1 / scale:.3g} times the bound's best"
            lines.append(f"  {way}: {change}cooldown of {steps} steps ({share}), bound {bound:.5g}{gain}{away}")
        return "\n".join(lines)


def extend(
    schedule: Schedule,
    at: int,
    new_total: int,
    *,
    total_steps: int | None = None,
    shape: ShapeName | None = None,
    end_value: float = 0.0,
    cooldown_fraction: float | None = None,
    rule: ExtensionRule = "tuned",
    distance: float | None = None,
) -> Extension:
    """Plans to extend a run: with a longer cooldown, or with a lower rate.

    A rate that is tuned for one horizon is too high for a longer one. Two ways keep the steps before `at`:

    - `longer_cooldown`: the rate stays `schedule(at)`, and the cooldown takes a larger share of the run.
    - `lowered`: the rate becomes `factor schedule(at)` at step `at`; the cooldown takes its old share of the run.

    With `gamma*` as in `convex.best_scale`, the share c of the cooldown, the factor f and the extended schedule `s'`:
    `tuned` takes the smallest c, or the f nearest to 1, with `gamma*(s') = gamma*(s)`. `least` minimizes
    `convex.bound(s')` at the distance at which s is tuned. Where `tuned` is out of reach, or the rate is not too high
    to begin with, the way has the least bound, and its `scales` show how far its rate is off.

    Args:
      schedule: the old schedule, at its old horizon and its tuned rate. If it holds its peak for more than 5 % of the
        steps (a plateau), `at` must not be in the cooldown after it. Any other, such as a cosine, may be left at any
        step of its decay.
      at: the first step whose rate may change, after the warmup.
      new_total: the new horizon, in steps.
      total_steps: the old horizon; None: the field of the schedule of that name.
      shape: of the cooldown, as in `Ramp`; None: the field `decay_shape` of the schedule, else `linear`.
      end_value: the rate at step `new_total`, 0 or more.
      cooldown_fraction: the share of the cooldown of `lowered`, from 0 to 1; None: that of the old schedule, or 0.2.
      rule: `tuned` or `least`.
      distance: from the start to the minimum, divided by the largest gradient norm; None: such that the old schedule is
        tuned.

    Raises:
      FieldError: for an `at` in the warmup or in the cooldown, and where no way compensates for the rate.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> s = js.WarmupStableDecay(1e-3, 0, 400, decay_steps=80, decay_shape="linear")
      >>> longer = plan.extend(s, at=320, new_total=600)
      >>> longer
      Extension from step 320 to 600 steps: longer_cooldown has the smaller bound, by 1.4%
        unchanged: cooldown of 120 steps (20.0%), bound 0.090735, rates 1.22 times the bound's best
        longer_cooldown: cooldown of 263 steps (43.8%), bound 0.084053 (-7.4%)
        lowered: rate times 0.645, cooldown of 120 steps (20.0%), bound 0.085275 (-6.0%)
      >>> longer.best.schedules[1]
      Constant(constant_value=0.001).cooldown(at=17, steps=263)

    References:
      Schaipp et al., 2025, arXiv 2501.18965, section 5.1.
    """
    owner = "plan.extend"
    check_choice(owner, "rule", rule, ExtensionRule)
    rates = concrete_rates(owner, schedule, total_steps)
    at, new_total = check_count(owner, "at", at, 0), check_count(owner, "new_total", new_total)
    cooldown = _check_run(owner, rates, at, new_total)
    cooling: ShapeName = shape or getattr(schedule, "decay_shape", "linear")
    fraction = cooldown / rates.size if cooldown > 1 else 0.2
    if cooldown_fraction is not None:
        fraction = check_number(owner, "cooldown_fraction", cooldown_fraction, Unit)
    end_value = check_number(owner, "end_value", end_value, Scalar)
    if not 0 <= end_value <= rates[at]:
        instead = f"write a number from 0 to the rate at step {at}, {rates[at]:g}"
        raise FieldError(owner, "end_value", end_value, instead)
    tuned = 1 / _best_scale(rates)[0] if distance is None else distance
    away = float(check_number(owner, "distance", tuned, Positive))
    left, level, room = new_total - at, _short(rates[at]), float(rates.max() / rates[at])
    same = min(max(round(fraction * new_total), 1), left)
    steps = jnp.arange(1 << (left - 1).bit_length())  # a power of two: few programs serve all horizons

    def tail(cooldown: float, factor: float) -> Schedule:
        length = round(cooldown)
        return Constant(level * factor).cooldown(left - length, length, end_value=end_value, shape=cooling)

    def judged(tail: Schedule) -> tuple[float, float]:
        """The best scale of the rates with this tail, and their bound, in units of the distance."""
        scale, least = _best_scale(np.concatenate([rates[:at], np.asarray(tail(steps), np.float64)[:left]]))
        scale *= away
        return scale, least * (scale + 1 / scale) / 2

    unchanged = judged(tail(same, 1.0))
    by_cooldown, by_factor = lambda x: judged(tail(x, 1.0)), lambda x: judged(tail(same, math.exp(x)))
    longer = change = math.nan
    if rule == "tuned" and unchanged[0] < 1:  # a rate that is not too high needs no compensation
        longer = _first_tuned(by_cooldown, 1, left, 0.5)
        change = _first_tuned(by_factor, 0.0, -_FACTORS, 1e-6)
        if math.isnan(longer) and math.isnan(change):
            note = f": the rates until this step are too high, {1 / unchanged[0]:.3g} times the best ones"
            raise FieldError(owner, "at", at, 'write an earlier step, or rule="least" for the least bound', note=note)
    if math.isnan(longer):
        longer = _least_bound(by_cooldown, 1, left, max(0.5, 1e-4 * left))
    if math.isnan(change):
        change = _least_bound(by_factor, -_FACTORS, math.log(room), 1e-3)
    longer, factor = round(longer), math.exp(change)
    if unchanged[0] > 1 and longer <= 1 and room < 1 + _SAME:
        note = f": the rates until this step are too low, {1 / unchanged[0]:.3g} times the best ones"
        raise FieldError(owner, "at", at, "no cooldown helps: train with a higher peak", note=note)
    tails = (tail(longer, 1.0), tail(same, factor))
    scales, bounds = zip(unchanged, *map(judged, tails), strict=True)
    by_tail = [schedule.then(one, at=at) if at else one for one in tails]
    return Extension(by_tail[0], longer, by_tail[1], factor, same, Ways(*bounds), Ways(*scales), at, new_total)


def _best_scale(rates: np.ndarray) -> tuple[float, float]:
    """`convex.best_scale` in float64, whose plain sums are exact enough: of long runs ten times as fast."""
    peak = float(rates.max())
    rates = np.trim_zeros(rates, "b") / peak  # after the last rate above 0 nothing changes
    total, noise = np.cumsum(rates[::-1])[::-1], np.cumsum(np.square(rates[::-1]))[::-1]
    last = np.dot(rates[:-1] / total[1:], noise[:-1] / total[:-1])
    far, near = 1 / (2 * total[0]), (noise[0] / total[0] + last) / 2
    return math.sqrt(far / near) / peak, 2 * math.sqrt(far * near)


def _first_tuned(judged: Callable[[float], tuple[float, float]], start: float, stop: float, within: float) -> float:
    """The first x from `start` on with a scale of 1, NaN if there is none."""
    before = start
    for x in np.linspace(start, stop, _POINTS).tolist():
        if judged(x)[0] >= 1:
            found: Any = x if x == start else optimize.brentq(lambda x: judged(x)[0] - 1, before, x, xtol=within)
            return float(found)
        before = x
    return math.nan


def _least_bound(judged: Callable[[float], tuple[float, float]], start: float, stop: float, within: float) -> float:
    """The x with the least bound."""
    points = np.linspace(start, stop, _POINTS).tolist()
    bounds = [judged(x)[1] for x in points]
    i = int(np.argmin(bounds))
    ends = points[max(i - 1, 0)], points[min(i + 1, _POINTS - 1)]
    found = optimize.minimize_scalar(lambda x: judged(x)[1], bounds=ends, method="bounded", options={"xatol": within})
    return float(found.x if found.fun < bounds[i] else points[i])


def _check_run(owner: str, rates: np.ndarray, at: int, new_total: int) -> int:
    """Returns the length of the cooldown of the old run, 0 without one, if the run can be extended from step `at`."""
    total, peak = rates.size, rates.max()
    refuse_unfinished_warmup(owner, rates)
    held = np.flatnonzero(rates >= peak * (1 - _SAME))
    first, last = int(held[0]), int(held[-1])
    plateau = held.size > max(_PLATEAU * total, 2)
    if at >= total:
        note, instead = f" is not before the end of the old horizon of {total} steps", f"write a step before {total}"
    elif new_total <= total:
        note = f" is not longer than the old horizon of {total} steps"
        raise FieldError(owner, "new_total", new_total, "to end earlier write schedule.cooldown(at, steps)", note=note)
    elif at < first:
        note, instead = f" is in the warmup: the rate rises until step {first}", f"write at={first}, or a later step"
    elif plateau and at > last:
        note = f" is in the cooldown, which began at step {last}: the rate is {rates[at] / peak:.3g} of its plateau"
        instead = f"write at={last}, or an earlier step"
    elif not rates[at] > 0:
        note = ": the rate at this step is 0"
        instead = f"write at={int(np.flatnonzero(rates)[-1])}, or an earlier step"
    else:
        return total - last if plateau else 0
    raise FieldError(owner, "at", at, instead, note=note)


def transfer_peak(
    shape: Schedule | Callable[[int], Schedule],
    from_steps: int,
    to_steps: int,
    peak_value: Any = 1.0,
    *,
    to_shape: Schedule | Callable[[int], Schedule] | None = None,
) -> Any:
    """Returns the peak for another horizon, or another shape, from a peak that was tuned for this one.

    It is `peak_value P(to) / P(from)`, where `P = gamma* max(rates)` is the peak with the least bound. For linear decay
    the factor is about `1 / sqrt(steps)`. The scale of the shapes and the units of the bound do not matter.

    Args:
      shape: a function from the horizon to a schedule, `lambda steps: js.WarmupCosine(1.0, 100, steps)`; or a schedule
        whose field `total_steps` (else `steps`) is `from_steps` and is replaced: its warmup keeps its steps.
      from_steps: the old horizon, in steps.
      to_steps: the new horizon, in steps.
      peak_value: the peak that is tuned for `from_steps`, above 0, or an array of them; 1: the factor is returned.
      to_shape: the shape of the new horizon, if it is another one.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> f"{plan.transfer_peak(js.Linear(1.0, 0.0, 400), 400, 4_000, peak_value=0.05):.4f}"
      '0.0159'
      >>> wsd = lambda steps: js.WarmupStableDecay(1.0, 40, steps, decay_steps=steps // 5)
      >>> f"{plan.transfer_peak(wsd, 400, 4_000, peak_value=3e-4):.2e}"
      '9.23e-05'

    References:
      Schaipp et al., 2025, arXiv 2501.18965, section 5.
    """
    owner = "plan.transfer_peak"
    peak_value = check_number(owner, "peak_value", peak_value, Positive)
    field = _horizon_field(shape)
    if field is not None and not np.array_equal(getattr(shape, field), check_count(owner, "from_steps", from_steps)):
        instead = "write the schedule at its old horizon, or a function: shape=lambda steps: ..."
        note = f" beside a shape whose {field} is {getattr(shape, field)}"
        raise FieldError(owner, "from_steps", from_steps, instead, note=note)

    def best_peak(name: str, make: Any, argument: str, steps: int) -> float:
        rates = concrete_rates(owner, _of_horizon(owner, name, make, check_count(owner, argument, steps)), steps)
        refuse_unfinished_warmup(owner, rates, argument)
        return _best_scale(rates)[0] * float(rates.max())

    other = ("shape", shape) if to_shape is None else ("to_shape", to_shape)
    old = best_peak("shape", shape, "from_steps", from_steps)
    return peak_value * (best_peak(*other, "to_steps", to_steps) / old)


def _horizon_field(schedule: Any) -> str | None:
    names = [field.name for field in schedule._fields] if isinstance(schedule, Schedule) else []
    return next((name for name in ("total_steps", "steps") if name in names), None)


def _of_horizon(owner: str, name: str, make: Any, steps: int) -> Schedule:
    instead = f"write {name}=lambda steps: ..., a function that returns the schedule of a horizon"
    if isinstance(make, Schedule):
        if (field := _horizon_field(make)) is not None:
            return make.replace(**{field: steps})
        raise FieldError(owner, name, make, instead, note=" has no field total_steps")
    field, schedule = (f"{name}({steps})", make(steps)) if callable(make) else (name, make)
    if not isinstance(schedule, Schedule):
        raise FieldTypeError(owner, field, schedule, instead, note=" is not a schedule")
    return schedule


def _short(rate: Any) -> float:
    """The shortest number that the dtype of rates reads back as `rate`."""
    return float(shortest(jnp.result_type(float).type(rate)))


# --- another batch size ----------------------------------------------------------------------------------------------


def scale_batch(
    value: Value,
    batch_size: Number,
    new_batch_size: Number,
    rule: BatchRule = "linear",
    critical_batch: Number | None = None,
) -> Value:
    """Returns a learning rate, or a schedule of it, for another batch size.

    With `B` the batch size, `B'` the new one and `a` 1 for `linear` and 1/2 for `sqrt`: `value (B' / B)^a`. With a
    critical batch `C` it is `value ((1 + C / B) / (1 + C / B'))^a`: nearly constant above `C`.

    Args:
      value: a number, an array, or a schedule.
      batch_size: in examples or tokens, above 0.
      new_batch_size: in the same unit, above 0.
      rule: `linear`, for SGD, or `sqrt`, for Adam.
      critical_batch: the noise scale of the gradients, in the same unit, above 0; None: far above both batches.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> plan.scale_batch(0.1, 256, 1024), plan.scale_batch(3e-4, 256, 1024, "sqrt")
      (0.4, 0.0006)
      >>> plan.scale_batch(js.Linear(0.1, 0.0, 400), 256, 1024)
      Linear(init_value=0.1, end_value=0.0, steps=400) * 4.0
      >>> round(plan.scale_batch(0.1, 256, 1024, critical_batch=1024), 6)
      0.25

    References:
      Goyal et al. (1706.02677) for `linear`; Malladi et al. (2205.10287) for `sqrt`; McCandlish et al. (1812.06162) for
      the critical batch.
    """
    owner = "plan.scale_batch"
    check_choice(owner, "rule", rule, BatchRule)
    old = check_number(owner, "batch_size", batch_size, Positive)
    new = check_number(owner, "new_batch_size", new_batch_size, Positive)
    factor = new / old
    if critical_batch is not None:
        critical = check_number(owner, "critical_batch", critical_batch, Positive)
        factor = (1 + critical / old) / (1 + critical / new)
    if rule == "sqrt":
        factor = math.sqrt(factor) if isinstance(factor, float) else jnp.sqrt(factor)
    number: Any = value if isinstance(value, Schedule) else check_number(owner, "value", value, Scalar)
    return number * factor


class Stage(NamedTuple):
    """Steps with one rate and one batch size; the rate of the first stage is the peak after the warmup."""

    start: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True, repr=False)
class Seesaw:
    """A schedule that grows the batch instead of decaying the rate.

    Args:
      learning_rate: the rate at each new step.
      batch_size: the batch size at each new step: `int(seesaw.batch_size(step))`.
      steps: the number of new steps; `old_steps` that of the old schedule.
      stages: the pieces.
    """

    learning_rate: Schedule
    batch_size: Schedule
    steps: int
    old_steps: int
    stages: tuple[Stage, ...]

    def __repr__(self) -> str:
        lines = [
            f"  step {start}: {steps} steps of {batch_size} examples, rate {rate:.4g}"
            for start, steps, batch_size, rate in self.stages
        ]
        if len(lines) > 12:
            lines[8:-3] = [f"  ... {len(lines) - 11} more"]
        return "\n".join([f"Seesaw of {self.steps} steps for {self.old_steps} ({self.speed_up:.2f} x faster)", *lines])

    @property
    def examples(self) -> int:
        """The number of examples."""
        return sum(stage.steps * stage.batch_size for stage in self.stages)

    @property
    def speed_up(self) -> float:
        """The steps of the old schedule divided by the new ones."""
        return self.old_steps / self.steps


def seesaw(
    schedule: Schedule,
    batch_size: int,
    total_steps: int | None = None,
    *,
    cut: float = 2.0,
    rule: BatchRule = "sqrt",
    critical_batch: float | None = None,
    max_batch_size: int | None = None,
    multiple_of: int = 1,
) -> Seesaw:
    """Returns a schedule that grows the batch instead of decaying the rate: the same examples in fewer steps.

    Stage k begins where the schedule has first fallen to its peak divided by `cut^k`, after `n_k` steps of B examples:
    at the first new step before which `B n_k` examples were seen. Its batch is `B cut^k` and its rate
    `peak cut^(-k/2)` (for `rule="linear"`: the peak), or `scale_batch(peak cut^-k, B, B_k, rule)` for a batch B_k that
    is rounded or at its limit. The schedule does not change before its last peak.

    Args:
      schedule: it must not rise after its last peak.
      batch_size: B, in examples or tokens, 1 or more.
      total_steps: the steps of the schedule; None: its field of that name.
      cut: the factor between the rates of two stages, above 1; 2 in the paper.
      rule: `sqrt` for Adam, `linear` for SGD.
      critical_batch: as in `scale_batch`.
      max_batch_size: the largest batch, in examples, from where on the rate falls as in the schedule; None: a batch
        grows until it holds all examples left.
      multiple_of: every grown batch is rounded down to a multiple of this number of examples, 1 or more, that the dtype
        of `Seesaw.batch_size` represents exactly.

    Returns:
      A `Seesaw`, with the examples of the schedule and less than one batch more.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> s = plan.seesaw(js.Linear(0.8, 0.0, 1_000), batch_size=64, total_steps=1_000, max_batch_size=256)
      >>> for stage in s.stages[:4]:
      ...     print(stage.start, stage.steps, stage.batch_size, f"{stage.learning_rate:.3f}")
      0 500 64 0.800
      500 125 128 0.566
      625 32 256 0.400
      657 15 256 0.200
      >>> s.steps, s.batch_size
      (688, PiecewiseConstant(boundaries=[500, 625], values=[64.0, 128.0, 256.0]))

    References:
      Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size scheduling", 2025, arXiv
      2510.14717; Smith et al. (1711.00489) for `linear`.
    """
    owner = "plan.seesaw"
    check_choice(owner, "rule", rule, BatchRule)
    batch_size = check_count(owner, "batch_size", batch_size)
    multiple_of = check_count(owner, "multiple_of", multiple_of)
    for name, value in (("batch_size", batch_size), ("multiple_of", multiple_of)):
        if not _is_exact(value):
            instead = f"write {_exact(value, 1) or 'less'}, or set jax_enable_x64"
            note = f" cannot be represented in {jnp.result_type(float)}"
            raise FieldError(owner, name, value, instead, note=note)
    if not check_number(owner, "cut", cut, Positive) > 1:
        raise FieldError(owner, "cut", cut, "cut must be above 1, such as 2.0")
    most = math.inf if max_batch_size is None else check_count(owner, "max_batch_size", max_batch_size)
    if most < batch_size:
        note = f" is below batch_size={batch_size}"
        raise FieldError(owner, "max_batch_size", most, "write a larger one", note=note)
    rates = concrete_rates(owner, schedule, total_steps)
    top = _last_peak(owner, rates)
    stages = [
        Stage(start, steps, batch, float(scale_batch(rate, batch_size, batch, rule, critical_batch)))
        for start, steps, batch, rate in _stages(rates, top, batch_size, float(cut), most, multiple_of)
    ]
    if len(stages) == 1:  # the rate never falls by a cut
        rate, top = schedule, 0
    else:
        rate = _pieces([(stage.start - top if i else 0, stage.learning_rate) for i, stage in enumerate(stages)])
    return Seesaw(
        learning_rate=schedule.then(rate, at=top) if top else rate,
        batch_size=_pieces([(stage.start, stage.batch_size) for stage in stages]),
        steps=stages[-1].start + stages[-1].steps,
        old_steps=rates.size,
        stages=tuple(stages),
    )


def _last_peak(owner: str, rates: np.ndarray) -> int:
    """The last step of the largest rate; raises FieldError if the rate rises after it."""
    top = int(np.flatnonzero(rates >= rates.max() * (1 - _SAME))[-1])
    rises = np.flatnonzero(np.diff(rates[top:]) > _SAME * rates[top])
    if rises.size:
        step = top + int(rises[0]) + 1
        note = f" is above that of the step before, {rates[step - 1]:g}, and after the peak at step {top}"
        instead = "write a schedule that only falls from its peak on"
        raise FieldError(owner, f"schedule({step})", float(f"{rates[step]:g}"), instead, note=note)
    return top


def _stages(
    rates: np.ndarray, top: int, batch_size: int, cut: float, most: float, multiple_of: int
) -> list[tuple[int, int, int, float]]:
    """Start, steps, batch size, and the rate of the old schedule, of every stage."""
    peak, examples = _short(rates.max()), rates.size * batch_size
    with np.errstate(divide="ignore"):
        cuts = np.floor(np.log(peak / rates[top:]) / math.log(cut) + _SAME)
    cuts = np.maximum.accumulate(np.where(rates[top:] > 0, cuts, np.inf))
    begins = np.flatnonzero(np.append(True, cuts[1:] > cuts[:-1]))
    rows: list[tuple[int, int, int, float]] = []
    seen, step, batch = 0, 0, batch_size
    for begin, end in zip(begins, np.append(begins[1:], rates.size - top), strict=True):
        until = (top + int(end)) * batch_size
        grown = batch_size * cut ** float(min(cuts[begin], math.log(examples) / math.log(cut) + 1))
        grown = _exact(int(min(grown + 0.5 if multiple_of == 1 else grown, most)), multiple_of)
        # A batch must not hold more examples than are left.
        batch = max(batch, grown) if grown <= examples - seen and cuts[begin] < np.inf else batch
        steps = max(-(-(until - seen) // batch), 0)
        if steps:
            rows.append((step, steps, batch, peak * cut ** -float(cuts[begin])))
            seen, step = seen + steps * batch, step + steps
    return rows


def _exact(batch: int, multiple_of: int) -> int:
    """The largest multiple up to `batch` that the dtype of rates represents exactly; 0 without one."""
    batch = batch // multiple_of * multiple_of
    while not _is_exact(batch):
        multiple_of *= 2
        batch = batch // multiple_of * multiple_of
    return batch


def _is_exact(batch: int) -> bool:
    with np.errstate(over="ignore"):
        return float(jnp.result_type(float).type(batch)) == batch


def _pieces(rows: list[tuple[int, float]]) -> Schedule:
    """A piecewise constant schedule of (first step, value); equal neighbours become one piece."""
    kept = [row for i, row in enumerate(rows) if i == 0 or row[1] != rows[i - 1][1]]
    if len(kept) == 1:
        return Constant(float(kept[0][1]))
    return PiecewiseConstant([start for start, _ in kept[1:]], [float(value) for _, value in kept])
