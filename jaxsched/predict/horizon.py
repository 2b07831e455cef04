"""Plans for other horizons: extending a run, and transferring its peak."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError
from ..fields import Positive, Scalar, Unit, shortest
from ..schedules import shapes
from ..schedules.base import Constant, Schedule, ShapeName
from . import convex
from .arguments import check_choice, check_count, check_number
from .rates import concrete_rates, refuse_unfinished_warmup

ExtensionRule: TypeAlias = Literal["tuned", "least"]

SAME = 1e-6
"""Rates of one plateau differ by less than this share."""
_SMALLEST = 4096
"""Steps of a program: a shorter one takes as long."""
_POINTS = 10
"""Points of one round of a search."""
_FACTORS = math.log(64.0)
"""The logarithm of the largest factor by which a rate is lowered."""
_PLATEAU = 0.05
"""A peak that is held for more than this share of the horizon is a plateau, followed by a cooldown."""


class Ways(NamedTuple):
    """A number for a run with the rate and the share of the cooldown `unchanged`, and for the ways of `Extension`."""

    unchanged: float
    longer_cooldown: float
    lowered: float


@dataclasses.dataclass(frozen=True, repr=False)
class Extension:
    """Two ways to extend a run, each a schedule of the whole run that equals the old one before step `at`.

    Args:
      longer_cooldown: the rate is held from step `at`, and then cools down for longer.
      cooldown_steps: the length of that cooldown.
      lowered: the rate changes at step `at`, and then cools down for the old share of the run.
      factor: of that change; above 1 the rate is raised, as it may be after most of a cosine, at most to the old peak.
      same_cooldown_steps: the length of that cooldown.
      bounds: the bound of each way, `Ways(unchanged, longer_cooldown, lowered)`, in units of `distance * grad_norm`.
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
        bounds, changed = self.bounds, ("", "", f"rate times {self.factor:.3f}, ")
        cooldowns = (self.same_cooldown_steps, self.cooldown_steps, self.same_cooldown_steps)
        first, second = sorted(bounds[1:])
        name = "longer_cooldown" if self.best is self.longer_cooldown else "lowered"
        if name == "lowered" and self.factor > 1:
            name = "lowered (here it is raised, in one step: warm it up)"
        lines = [
            f"Extension from step {self.at} to {self.new_total} steps: {name} has the smaller bound, by "
            f"{1 - first / second:.1%}"
        ]
        for way, change, steps, bound, scale in zip(Ways._fields, changed, cooldowns, bounds, self.scales, strict=True):
            all_of_it = ", all that is left" if steps == self.new_total - self.at else ""
            gain = "" if way == "unchanged" else f" ({bound / bounds.unchanged - 1:+.1%})"
            away = "" if abs(scale - 1) < 0.01 else f", {1 / scale:.3g} times the best rate"
            lines.append(
                f"  {way}: {change}cooldown of {steps} steps ({steps / self.new_total:.1%}{all_of_it}), "
                f"bound {bound:.5g}{gain}{away}"
            )
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

    A rate that is tuned for one horizon is too high for a longer one. Two ways compensate for it without another tuning
    run, and keep the steps before `at`:

    - `longer_cooldown`: the rate stays `schedule(at)`, and the cooldown takes a larger share of the run.
    - `lowered`: the rate becomes `factor schedule(at)` at step `at`; the cooldown takes its old share of the run.

    With `gamma*` as in `convex.best_scale`, the share c of the cooldown, the factor f and the extended schedule `s'`:
    `tuned` takes the smallest c, or the f nearest to 1, with `gamma*(s') = gamma*(s)`, so that the best base rate of s
    is that of s' too. `least` minimizes `convex.bound(s')` at the distance at which s is tuned. Where `tuned` is out of
    reach, or the rate is not too high to begin with, the way has the least bound, and its `scales` show how far its
    rate is off.

    Args:
      schedule: the old schedule, at its old horizon and its tuned rate. If it holds its peak for more than 5 % of the
        steps (a plateau), its cooldown follows, and `at` must not be in it. Any other, such as a cosine, may be left at
        any step of its decay; its rate there is then held.
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
      FieldError: for an `at` in the warmup, in the cooldown or past the old horizon, for a rate of 0 there, for a new
        horizon that is not longer than the old one, and where no way compensates for a rate that is too high or low.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> s = js.WarmupStableDecay(1e-3, 0, 400, decay_steps=80, decay_shape="linear")
      >>> longer = plan.extend(s, at=320, new_total=600)
      >>> longer.cooldown_steps, round(longer.factor, 2)
      (263, 0.64)
      >>> longer
      Extension from step 320 to 600 steps: longer_cooldown has the smaller bound, by 1.4%
        unchanged: cooldown of 120 steps (20.0%), bound 0.090735, 1.22 times the best rate
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
        raise FieldError(
            owner, "end_value", end_value, f"write a number from 0 to the rate at step {at}, {rates[at]:g}"
        )
    level_and_cooldown(rates[at], 0, 1, end_value, cooling)  # checks the shape while nothing is traced
    tuned = 1 / _tuned_scale(rates, new_total) if distance is None else distance
    distance = float(check_number(owner, "distance", tuned, Positive))
    left, level, room = new_total - at, short(rates[at]), float(rates.max() / rates[at])
    kept, same = padded(rates[:at], new_total), min(max(round(fraction * new_total), 1), new_total - at)

    def judged(cooldowns: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
        """The best scale of the rates of each way, and its bound, in units of the distance."""
        cooldowns, factors = np.broadcast_arrays(np.round(cooldowns).astype(int), factors)
        levels = (level * factors).astype(jnp.result_type(float))
        best = jax.device_get(_best_of_runs(kept, at, new_total, cooldowns, levels, end_value, shape=cooling))
        scales = best.scale.astype(np.float64) * distance
        return scales, best.bound * (scales + 1 / scales) / 2  # the bound from the least one

    def extended(cooldown: int, factor: float) -> Schedule:
        tail = level_and_cooldown(level * factor, left - cooldown, cooldown, end_value, cooling)
        return schedule.then(tail, at=at) if at else tail

    unchanged = float(judged([same] * 3, 1.0)[0][0])  # three, as at the end: one program
    by_cooldown, by_factor = lambda x: judged(x, 1.0), lambda x: judged(same, np.exp(x))
    cooldown = change = math.nan
    if rule == "tuned" and unchanged < 1:  # a rate that is not too high needs no compensation
        cooldown = _search(by_cooldown, 1, left, 1, tuned=True)
        change = _search(by_factor, 0.0, -_FACTORS, 1e-5, tuned=True)
        if math.isnan(cooldown) and math.isnan(change):
            note = f": the rates until this step are too high, {1 / unchanged:.3g} times the best ones"
            raise FieldError(owner, "at", at, 'write an earlier step, or rule="least" for the least bound', note=note)
    if math.isnan(cooldown):
        cooldown = _search(by_cooldown, 1, left, max(1, 1e-4 * left))
    if math.isnan(change):
        change = _search(by_factor, -_FACTORS, math.log(room), 1e-3)
    cooldown, factor = round(cooldown), math.exp(change)
    if unchanged > 1 and cooldown <= 1 and room < 1 + SAME:
        note = f": the rates until this step are too low, {1 / unchanged:.3g} times the best ones"
        raise FieldError(owner, "at", at, "no cooldown helps: train with a higher peak", note=note)
    scales, bounds = judged([same, cooldown, same], [1.0, 1.0, factor])
    return Extension(
        longer_cooldown=extended(cooldown, 1.0),
        cooldown_steps=cooldown,
        lowered=extended(same, factor),
        factor=factor,
        same_cooldown_steps=same,
        bounds=Ways(*bounds.tolist()),
        scales=Ways(*scales.tolist()),
        at=at,
        new_total=new_total,
    )


def _search(judged: Callable[[Any], Any], start: float, stop: float, within: float, tuned: bool = False) -> float:
    """The x with the least bound, to `within`; if `tuned`, the first x with a scale of 1, NaN if there is none.

    Each round looks at some points, and the next one between the neighbours of the best.
    """
    while True:
        points = np.linspace(start, stop, _POINTS)
        scales, bounds = judged(points)
        best = int(np.argmax(scales >= 1) if tuned else np.argmin(bounds))
        if tuned and scales[best] < 1:
            return math.nan
        if abs(points[1] - points[0]) <= within or (tuned and best == 0):
            return float(points[np.argmin(abs(scales - 1)) if tuned and best else best])
        start, stop = points[max(best - 1, 0)], points[best if tuned else min(best + 1, _POINTS - 1)]


def _check_run(owner: str, rates: np.ndarray, at: int, new_total: int) -> int:
    """Returns the length of the cooldown of the old run, 0 without one, if the run can be extended from step `at`."""
    total, peak = rates.size, rates.max()
    refuse_unfinished_warmup(owner, rates)
    if at >= total:
        note = f" is not before the end of the old horizon of {total} steps"
        raise FieldError(owner, "at", at, f"write a step before {total}", note=note)
    if new_total <= total:
        note = f" is not longer than the old horizon of {total} steps"
        raise FieldError(owner, "new_total", new_total, "to end earlier write schedule.cooldown(at, steps)", note=note)
    held = np.flatnonzero(rates >= peak * (1 - SAME))
    first, last = int(held[0]), int(held[-1])
    if at < first:
        note = f" is in the warmup: the rate rises until step {first}"
        raise FieldError(owner, "at", at, f"write at={first}, or a later step", note=note)
    plateau = held.size > max(_PLATEAU * total, 2)
    if plateau and at > last:
        note = f" is in the cooldown, which began at step {last}: the rate is {rates[at] / peak:.3g} of its plateau"
        raise FieldError(owner, "at", at, f"write at={last}, or an earlier step", note=note)
    if not rates[at] > 0:
        instead = f"write at={int(np.flatnonzero(rates)[-1])}, or an earlier step"
        raise FieldError(owner, "at", at, instead, note=": the rate at this step is 0")
    return total - last if plateau else 0


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

    Raises:
      FieldError: for a schedule without such a field or with another horizon in it, for a horizon that is shorter than
        the warmup, and for one without a rate above 0.

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
    peak_value, bests = check_number(owner, "peak_value", peak_value, Positive), []
    field = _horizon_field(shape)
    if field is not None and not np.array_equal(getattr(shape, field), check_count(owner, "from_steps", from_steps)):
        instead = "write the schedule at its old horizon, or a function: shape=lambda steps: ..."
        note = f" beside a shape whose {field} is {getattr(shape, field)}"
        raise FieldError(owner, "from_steps", from_steps, instead, note=note)
    other = "shape" if to_shape is None else "to_shape"
    to_shape = shape if to_shape is None else to_shape
    for name, make, argument, steps in (
        ("shape", shape, "from_steps", from_steps),
        (other, to_shape, "to_steps", to_steps),
    ):
        schedule = _of_horizon(owner, name, make, check_count(owner, argument, steps))
        rates = concrete_rates(owner, schedule, steps)
        refuse_unfinished_warmup(owner, rates, argument)
        bests.append(_tuned_scale(rates) * float(rates.max()))
    return peak_value * (bests[1] / bests[0])


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


def short(rate: Any) -> float:
    """The shortest number that the dtype of rates reads back as `rate`."""
    return float(shortest(jnp.result_type(float).type(rate)))


@functools.partial(jax.jit, static_argnames="shape")
def _best_of_runs(
    kept: jax.Array, at: Any, total: Any, cooldowns: Any, levels: Any, end_value: Any, *, shape: ShapeName
) -> convex.BestScale:
    """The best scales of runs with the rates `kept` before step `at`, and then a level and a cooldown."""
    steps = jnp.arange(kept.size)

    def one(way: tuple[jax.Array, jax.Array]) -> convex.BestScale:
        cooldown, level = way
        tail = level_and_cooldown(level, total - at - cooldown, cooldown, end_value, shape)
        rates = jnp.where(steps < at, kept, tail.value(shapes.elapsed(steps, at)))
        return convex.best_scale(jnp.where(steps < total, rates, 0))

    return jax.lax.map(one, (cooldowns, levels))  # one after the other, to save memory


def level_and_cooldown(level: Any, at: Any, cooldown: Any, end_value: Any, shape: ShapeName) -> Schedule:
    return Constant(level).cooldown(at=at, steps=cooldown, end_value=end_value, shape=shape)


def _tuned_scale(rates: np.ndarray, least: int = 0) -> float:
    """gamma* of given rates."""
    return float(convex.best_scale(padded(rates, least)).scale)


def padded(rates: np.ndarray, least: int = 0) -> jax.Array:
    """Rates padded with 0, which changes no bound, to a power of two: few programs serve all horizons."""
    size = max(1 << (max(rates.size, least) - 1).bit_length(), _SMALLEST)
    return jnp.asarray(np.pad(rates, (0, size - rates.size)))
