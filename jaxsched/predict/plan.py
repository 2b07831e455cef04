"""What to change when a run is prolonged, takes another horizon, or trains with another batch size."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ..schedules import shapes
from ..schedules.base import Constant, Schedule, ShapeName, axes
from ..schedules.fields import Domain, Number, admit, is_traced, nearest_name, shown
from ..schedules.pieces import PiecewiseConstant
from . import convex
from .rates import checked_steps, rates_of

BatchRule: TypeAlias = Literal["linear", "sqrt"]
ExtensionRule: TypeAlias = Literal["tuned", "least"]
Value = TypeVar("Value")

_FINITE = Domain("a finite number")
_POSITIVE = Domain("a finite number above 0", lambda x: x > 0)
_SHARE = Domain("a number from 0 to 1", lambda x: (x >= 0) & (x <= 1))
_POINTS = 16  # that are looked at before a search narrows
_FACTORS = math.log(64.0)  # a rate is lowered by 64 at most
_PLATEAU = 0.05  # of the horizon: a peak that is held for longer is a plateau, what follows it a cooldown
_SMALLEST = 4096  # steps of a program: fewer take no less time to judge
_SAME = 1e-6  # rates of one plateau differ by less


# --- batch size ------------------------------------------------------------------------------------------------------


def scale_batch(
    value: Value,
    batch_size: Number,
    new_batch_size: Number,
    rule: BatchRule = "linear",
    critical_batch: Number | None = None,
) -> Value:
    """A learning rate, or a schedule of it, for another batch size.

    Formula: with `B` the batch size, `B'` the new one and `a` 1 for `linear` and 1/2 for `sqrt`,
    `value (B' / B)^a`; beside a critical batch `C` it is `value ((1 + C / B) / (1 + C / B'))^a`: the rule as before
    far below `C`, and hardly a change above it, where a larger batch has no more noise to average away.

    Args:
      value: a number, an array, or a schedule.
      batch_size, new_batch_size: in examples (or tokens, both alike), above 0.
      rule: `linear`, as SGD takes it, or `sqrt`, as Adam and its kin do.
      critical_batch: the noise scale of the gradients, in the same unit, above 0; None: far above both batches.

    Returns: the value times a factor; of a schedule a schedule.

    Errors: ValueError for sizes that are not above 0, and for an unknown rule.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> plan.scale_batch(0.1, 256, 1024), plan.scale_batch(3e-4, 256, 1024, "sqrt")
      (0.4, 0.0006)
      >>> plan.scale_batch(js.Linear(0.1, 0.0, 400), 256, 1024)
      Linear(init_value=0.1, end_value=0.0, steps=400) * 4.0
      >>> round(plan.scale_batch(0.1, 256, 1024, critical_batch=1024), 6)
      0.25

    Source: Goyal et al. (1706.02677) for `linear`; Malladi et al. (2205.10287) for `sqrt`; McCandlish et al.
    (1812.06162) for the critical batch.
    """
    _one_of("plan.scale_batch", "rule", rule, BatchRule)
    old, new = (
        _number("plan.scale_batch", name, x, _POSITIVE)
        for name, x in (("batch_size", batch_size), ("new_batch_size", new_batch_size))
    )
    if critical_batch is None:
        factor = new / old
    else:
        critical = _number("plan.scale_batch", "critical_batch", critical_batch, _POSITIVE)
        factor = (1 + critical / old) / (1 + critical / new)
    if rule == "sqrt":
        factor = math.sqrt(factor) if isinstance(factor, float) else jnp.sqrt(factor)
    number: Any = value if isinstance(value, Schedule) else _number("plan.scale_batch", "value", value, _FINITE)
    return number * factor


class Stage(NamedTuple):
    """Steps of one rate and one batch size.

    Fields:
      start: the first step, on the new clock.
      steps: how many.
      batch_size: examples a step.
      learning_rate: the rate; in the first stage the peak, to which the warmup of the schedule leads.
    """

    start: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True)
class Seesaw:
    """A schedule whose decay has become growth of the batch.

    Fields:
      learning_rate: the rate at each new step.
      batch_size: the batch size at each new step: `int(seesaw.batch_size(step))`.
      steps: how many new steps there are.
      old_steps: how many the schedule took.
      stages: the pieces, as `Stage(start, steps, batch_size, learning_rate)`.
    """

    learning_rate: Schedule
    batch_size: Schedule
    steps: int
    old_steps: int
    stages: tuple[Stage, ...]

    @property
    def examples(self) -> int:
        """How many examples are seen."""
        return sum(stage.steps * stage.batch_size for stage in self.stages)

    @property
    def speed_up(self) -> float:
        """How many times as many steps the schedule took, one after the other."""
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
    """A schedule that decays, turned into one whose batch grows: the same examples in fewer steps.

    Formula: where the schedule has fallen to its peak by `cut^k` for the first time, after `n_k` steps of B examples,
    stage k begins: the batch is `B cut^k` and the rate `peak cut^(-k/2)` (with `rule="linear"`: the peak). So the rate
    is `scale_batch(peak cut^-k, B, B_k, rule)`, which also holds where the batch is rounded or has met its limit.
    Stages begin at the first step before which `B n_k` examples were seen. As `cut` nears 1 the steps near the sum of
    `rate / peak`: 2 / pi of the old ones for a quarter of a cosine, `cos(pi u / 2)` (the 36 % of the paper), and 1 / 2
    for a half, `(1 + cos(pi u)) / 2`, which is `Cosine`.

    Until its last peak the schedule stays as it is: its warmup has its own steps and batch. Inside of a stage the rate
    is constant; a smaller `cut`, such as 1.1, follows the schedule more closely.

    Args:
      schedule: it must not rise again after its peak.
      batch_size: B, in examples (or tokens), 1 or more.
      total_steps: the steps of the schedule; None: its field of that name.
      cut: by what the rate falls from stage to stage, above 1; halving, as in the paper, is 2.
      rule, critical_batch: as in `scale_batch`: `sqrt` for Adam, `linear` for SGD.
      max_batch_size: the largest batch, in examples: what fits, or the critical batch, above which nothing is gained;
        from there on the rate falls as that of the schedule. None: a batch grows until it holds all examples left.
      multiple_of: every grown batch is a multiple of this number of examples, the next one below; 1 or more.

    Returns: a `Seesaw`, whose examples are those of the schedule and less than one batch more.

    Errors: ValueError for a schedule that rises after its peak (with the step), and for numbers out of range.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> s = plan.seesaw(js.Linear(0.8, 0.0, 1_000), batch_size=64, total_steps=1_000, max_batch_size=256)
      >>> for stage in s.stages:
      ...     print(stage.start, stage.steps, stage.batch_size, f"{stage.learning_rate:.3f}")
      0 500 64 0.800
      500 125 128 0.566
      625 32 256 0.400
      657 15 256 0.200
      672 8 256 0.100
      680 4 256 0.050
      684 2 256 0.025
      686 1 256 0.013
      687 1 256 0.006
      >>> s.steps, s.batch_size
      (688, PiecewiseConstant(boundaries=[500, 625], values=[64.0, 128.0, 256.0]))

    Source: Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size scheduling", 2025,
    arXiv 2510.14717; Smith et al. (1711.00489) for `linear`.
    """
    owner = "plan.seesaw"
    _one_of(owner, "rule", rule, BatchRule)
    batch_size = checked_steps(owner, "batch_size", batch_size)
    multiple_of = checked_steps(owner, "multiple_of", multiple_of)
    if not _number(owner, "cut", cut, _POSITIVE) > 1:
        raise ValueError(f"{owner}: cut={shown(cut)}; cut must be above 1, such as 2.0.")
    most = math.inf if max_batch_size is None else checked_steps(owner, "max_batch_size", max_batch_size)
    if most < batch_size:
        raise ValueError(f"{owner}: max_batch_size={most} is below batch_size={batch_size}; write a larger one.")
    rates = _seen(owner, schedule, _horizon(owner, schedule, total_steps))
    top = _last_peak(owner, rates)
    rows = _stages(rates, top, batch_size, float(cut), most, multiple_of)
    stages = [
        Stage(start, steps, batch, float(scale_batch(rate, batch_size, batch, rule, critical_batch)))
        for start, steps, batch, rate in rows
    ]
    if len(stages) == 1:  # nothing is to be had for the batch
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
    """The last step of the largest rate, after which none may rise."""
    top = int(np.flatnonzero(rates >= rates.max() * (1 - _SAME))[-1])
    rises = np.flatnonzero(np.diff(rates[top:]) > _SAME * rates[top])
    if rises.size:
        step = top + int(rises[0]) + 1
        raise ValueError(
            f"{owner}: the rate rises at step {step}, from {rates[step - 1]:g} to {rates[step]:g}, after its peak at "
            f"step {top}; write a schedule that only falls from its peak on."
        )
    return top


def _stages(
    rates: np.ndarray, top: int, batch_size: int, cut: float, most: float, multiple_of: int
) -> list[tuple[int, int, int, float]]:
    """Start, steps, batch size, and the rate that the schedule would have there, of every stage."""
    peak, examples = _short(rates.max()), rates.size * batch_size
    with np.errstate(divide="ignore"):
        cuts = np.floor(np.log(peak / rates[top:]) / math.log(cut) + _SAME)
    cuts = np.maximum.accumulate(np.where(rates[top:] > 0, cuts, np.inf))
    begins = np.flatnonzero(np.append(True, cuts[1:] > cuts[:-1]))
    rows: list[tuple[int, int, int, float]] = []
    seen, step, batch = 0, 0, batch_size
    for i, begin in enumerate(begins):
        until = (top + int(begins[i + 1])) * batch_size if i + 1 < len(begins) else examples
        grown = batch_size * cut ** float(min(cuts[begin], math.log(examples) / math.log(cut) + 1))
        grown = int(min(grown + 0.5 if multiple_of == 1 else grown, most)) // multiple_of * multiple_of
        # The last batches are not to hold more than there is left.
        batch = max(batch, grown) if grown <= examples - seen and cuts[begin] < np.inf else batch
        steps = max(-(-(until - seen) // batch), 0)
        if steps:
            rows.append((step, steps, batch, peak * cut ** -float(cuts[begin])))
            seen, step = seen + steps * batch, step + steps
    return rows


def _pieces(rows: list[tuple[int, float]]) -> Schedule:
    """A value from each step on, told once where it does not change."""
    kept = [row for i, row in enumerate(rows) if i == 0 or row[1] != rows[i - 1][1]]
    if len(kept) == 1:
        return Constant(float(kept[0][1]))
    return PiecewiseConstant([start for start, _ in kept[1:]], [float(value) for _, value in kept])


# --- the base rate ---------------------------------------------------------------------------------------------------


def transfer_peak(
    shape: Schedule | Callable[[int], Schedule],
    from_steps: int,
    to_steps: int,
    peak_value: Any = 1.0,
    *,
    to_shape: Schedule | Callable[[int], Schedule] | None = None,
) -> Any:
    """The peak for another horizon, or another shape, of a schedule whose peak was tuned for this one.

    Formula: `peak_value P(to) / P(from)`, where `P = gamma* max(rates)` is the peak that has the least bound. A linear
    decay goes with `1 / sqrt(steps)`. The height of the shapes does not count, nor do the units of the bound.

    Args:
      shape: a function that makes the schedule of a horizon, `lambda steps: js.WarmupCosine(1.0, 100, steps)`; or a
        schedule, whose field `total_steps` (else `steps`) becomes the horizon: the other lengths, such as the warmup,
        stay as many steps as they are.
      from_steps, to_steps: the two horizons, in steps.
      peak_value: the peak that is tuned for `from_steps`, above 0, or an array of them; 1: the factor is returned.
      to_shape: the shape of the new horizon, if it is another one.

    Returns: the new peak, like `peak_value`.

    Errors: ValueError for a schedule without such a field, for a horizon that is shorter than the warmup, and for one
    without a rate above 0.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> f"{plan.transfer_peak(js.Linear(1.0, 0.0, 400), 400, 4_000, peak_value=0.05):.4f}"
      '0.0159'
      >>> wsd = lambda steps: js.WarmupStableDecay(1.0, 40, steps, decay_steps=steps // 5)
      >>> f"{plan.transfer_peak(wsd, 400, 4_000, peak_value=3e-4):.2e}"
      '9.23e-05'

    Source: Schaipp et al., 2025, arXiv 2501.18965, section 5.
    """
    owner = "plan.transfer_peak"
    peak_value, peaks = _number(owner, "peak_value", peak_value, _POSITIVE), []
    for name, make, argument, steps in (
        ("shape", shape, "from_steps", from_steps),
        ("shape" if to_shape is None else "to_shape", shape if to_shape is None else to_shape, "to_steps", to_steps),
    ):
        schedule = _of_horizon(owner, name, make, checked_steps(owner, argument, steps))
        rates = _seen(owner, schedule, steps)
        _refuse_all_warmup(owner, argument, rates)
        peaks.append(_tuned(rates, rates.size) * float(rates.max()))
    return peak_value * (peaks[1] / peaks[0])


def _of_horizon(owner: str, name: str, make: Any, steps: int) -> Schedule:
    function = f"{name}=lambda steps: ..., which makes the schedule of a horizon"
    if isinstance(make, Schedule):
        fields = [field.name for field in make._fields]
        for field in ("total_steps", "steps"):
            if field in fields:
                return make.replace(**{field: steps})
        raise ValueError(f"{owner}: {name}={shown(make)} has no field total_steps; write {function}.")
    if not callable(make):
        raise TypeError(f"{owner}: {name}={shown(make)}; write a schedule, or {function}.")
    schedule = make(steps)
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{owner}: {name}({steps}) is {shown(schedule)}; write {function}.")
    return schedule


# --- the horizon -----------------------------------------------------------------------------------------------------


class Ways(NamedTuple):
    """A number for each way to prolong a run.

    Fields:
      unchanged: at the same rate, with a cooldown of the same share of the run.
      longer_cooldown: at the same rate, with a cooldown of another length.
      lowered: at another rate from step `at` on, with a cooldown of the same share of the run.
    """

    unchanged: float
    longer_cooldown: float
    lowered: float


@dataclasses.dataclass(frozen=True, repr=False)
class Extension:
    """Two ways to prolong a run, each a schedule of the whole run that is the old one before step `at`.

    Fields:
      longer_cooldown: the rate stays as it is at step `at`, and then cools down for longer.
      cooldown_steps, cooldown_fraction: how long, in steps, and as a share of all `new_total` steps.
      lowered: the rate changes at step `at`, and then cools down for the old share of the run.
      factor: by what; below 1 the rate is lowered. Above 1 it is raised, as it may be after most of a cosine, at most
        to the peak of the old schedule.
      same_cooldown_steps: the steps of that cooldown.
      bounds: the bound of each way, `Ways(unchanged, longer_cooldown, lowered)`, in units of `distance * grad_norm`.
      scales: what the rates of each way would best be multiplied with: 1 where they are tuned.
      at, new_total: as they were given.
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
        """The share of the whole run that the longer cooldown takes."""
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
    """How to prolong a run: how much longer to cool down, or how far to lower the rate.

    A rate that is tuned for one horizon is too high for a longer one. Two ways keep the steps before `at`, which are
    done (or fixed), and make up for it; no run has to be tuned again:

    - `longer_cooldown`: the rate stays `schedule(at)`, and the cooldown takes a larger share of the run.
    - `lowered`: the rate becomes `factor schedule(at)` at step `at`; the cooldown takes its old share of the run.

    Formula: with `gamma*` as in `convex.best_scale`, c the share of the run that the cooldown takes, f the factor,
    and `s'` the prolonged schedule: `tuned` takes the smallest c, or the f next to 1, with `gamma*(s') = gamma*(s)`,
    so that the base rate which is the best one for s is the best one for s' too. `least` takes the c, or the f, with
    the least `convex.bound(s')` at the distance at which s is tuned. From a WSD of 20 % linear cooldown `tuned` gives
    c = .45, .63, .77, .88 at 1.5, 2, 2.5, 3 times the horizon (where `at` is before the cooldown begins: at .36 of
    the old horizon for the last), and f = .64, .53, .47, .43, .40, .38 at 1.5 ... 4 times with `at` at .8 of it.
    Where `tuned` is out of reach, as a cooldown cannot begin before `at`, or the rate is not too high to begin with,
    the way has the least bound instead, and its `scales` tell how far off its rate is.

    Args:
      schedule: the old schedule, at its old horizon and its tuned rate. If it holds its peak for at least 5 % of the
        steps (a plateau), what comes after is its cooldown, and `at` must not be in it. Any other, such as a cosine,
        may be left at any step of its decay; its rate there is then held.
      at: the first step whose rate may change, after the warmup.
      new_total: the new horizon, in steps.
      total_steps: the old horizon; None: the field of the schedule of that name.
      shape: of the cooldown, as in `Ramp`; None: the field `decay_shape` of the schedule, else `linear`.
      end_value: the rate at step `new_total`, 0 or more.
      cooldown_fraction: the share of the run that the cooldown of `lowered` takes, from 0 to 1; None: that of the old
        schedule, or 0.2 where it has none.
      rule: `tuned` or `least`.
      distance: from the start to the minimum by what gradient norms are at most (D / G of the bound), if it is known;
        None: such that the old schedule is tuned.

    Returns: an `Extension`.

    Errors: ValueError for an `at` in the warmup, in the cooldown or past the old horizon, for a rate of 0 there, for a
    new horizon that is not longer than the old one, for a horizon shorter than the warmup, and where the rate is too
    high for either way to make up for, or too low for any cooldown to help (it says which).

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

    Source: Schaipp et al., 2025, arXiv 2501.18965, section 5.1.
    """
    owner = "plan.extend"
    _one_of(owner, "rule", rule, ExtensionRule)
    total = _horizon(owner, schedule, total_steps)
    rates = _seen(owner, schedule, total)
    at, new_total = checked_steps(owner, "at", at, 0), checked_steps(owner, "new_total", new_total)
    cooldown = _check_run(owner, rates, at, new_total)
    cooling: ShapeName = shape or getattr(schedule, "decay_shape", "linear")
    fraction = cooldown / total if cooldown > 1 else 0.2
    if cooldown_fraction is not None:
        fraction = float(_number(owner, "cooldown_fraction", cooldown_fraction, _SHARE))
    end_value = float(_number(owner, "end_value", end_value, _FINITE))
    if not 0 <= end_value <= rates[at]:
        raise ValueError(f"{owner}: end_value={end_value:g}; write one from 0 to the rate at step {at}, {rates[at]:g}.")
    if distance is None:
        distance = 1 / _tuned(rates, new_total, cooling)
    _tail(rates[at], 0, 1, end_value, cooling)  # refuses what does not go together, while it can be seen
    run = _Run(
        schedule, rates, at, new_total, cooling, end_value, float(_number(owner, "distance", distance, _POSITIVE))
    )
    return _planned(owner, run, fraction, rule)


class _Run(NamedTuple):
    """A run that is to be prolonged. A way to do it has a cooldown, in steps, and a factor of the rate."""

    schedule: Schedule
    rates: np.ndarray
    at: int
    new_total: int
    shape: ShapeName
    end_value: float
    distance: float

    @property
    def left(self) -> int:
        return self.new_total - self.at

    def prolonged(self, cooldown: int, factor: float) -> Schedule:
        tail = _tail(_short(self.rates[self.at]) * factor, self.left - cooldown, cooldown, self.end_value, self.shape)
        return self.schedule.then(tail, at=self.at) if self.at else tail

    def judged(self, kept: jax.Array, cooldown: int, factor: float) -> _Judged:
        level = _short(self.rates[self.at]) * factor
        best = _best_scale(kept, self.at, self.new_total, cooldown, level, self.end_value, shape=self.shape)
        scale = float(best.scale) * self.distance
        return _Judged(scale, float(best.bound) * (scale + 1 / scale) / 2)  # the bound, by the least one


class _Judged(NamedTuple):
    """What the rates are best multiplied with, and the bound of them as they are, in units of the distance."""

    scale: float
    bound: float


def _planned(owner: str, run: _Run, fraction: float, rule: ExtensionRule) -> Extension:
    same = min(max(round(fraction * run.new_total), 1), run.left)
    kept = _padded(run.rates[: run.at], run.new_total)
    judged = functools.cache(functools.partial(run.judged, kept))
    unchanged, room = judged(same, 1.0), float(run.rates.max() / run.rates[run.at])
    # A rate that is not too high has nothing to be made up for: the least bound is all that can be asked for then.
    tuned = rule == "tuned" and unchanged.scale < 1
    by_cooldown, by_factor = lambda x: judged(round(x), 1.0), lambda x: judged(same, math.exp(x))
    cooldown = _crossing(by_cooldown, 1, run.left, within=1) if tuned else None
    change = _crossing(by_factor, 0.0, -_FACTORS, within=1e-6) if tuned else None
    if tuned and cooldown is None and change is None:
        raise ValueError(
            f"{owner}: the rates until step {run.at} are too high, {1 / unchanged.scale:.3g} times the best ones: no "
            'cooldown and no lower rate makes up for that; take up the run at an earlier step, or write rule="least" '
            "for the least bound there is."
        )
    if cooldown is None:
        cooldown = _lowest(by_cooldown, 1, run.left, within=max(1, 1e-4 * run.left))
    if change is None:
        change = _lowest(by_factor, -_FACTORS, math.log(room), within=1e-3)
    cooldown, factor = round(cooldown), math.exp(change)
    if unchanged.scale > 1 and cooldown <= 1 and room < 1 + _SAME:
        raise ValueError(
            f"{owner}: the rates until step {run.at} are too low, {1 / unchanged.scale:.3g} times the best ones: no "
            "cooldown helps; the run takes a higher peak."
        )
    ways = (unchanged, judged(cooldown, 1.0), judged(same, factor))
    return Extension(
        longer_cooldown=run.prolonged(cooldown, 1.0),
        cooldown_steps=cooldown,
        lowered=run.prolonged(same, factor),
        factor=factor,
        same_cooldown_steps=same,
        bounds=Ways(*(way.bound for way in ways)),
        scales=Ways(*(way.scale for way in ways)),
        at=run.at,
        new_total=run.new_total,
    )


def _crossing(judged: Callable[[float], _Judged], start: float, stop: float, within: float) -> float | None:
    """The first x from `start` on with a scale of 1, to `within`; None where there is none."""
    if judged(start).scale >= 1:
        return start
    before = start
    for x in np.linspace(start, stop, _POINTS).tolist()[1:]:
        if judged(x).scale >= 1:
            while abs(x - before) > within:
                middle = (before + x) / 2
                before, x = (before, middle) if judged(middle).scale >= 1 else (middle, x)
            return min(before, x, key=lambda x: abs(judged(x).scale - 1))
        before = x
    return None


def _lowest(judged: Callable[[float], _Judged], start: float, stop: float, within: float) -> float:
    """The x with the least bound, to `within`: the best of a few points, then golden sections beside it."""
    points = np.linspace(start, stop, _POINTS).tolist()
    bounds = [judged(x).bound for x in points]
    i = int(np.argmin(bounds))
    lo, hi = points[max(i - 1, 0)], points[min(i + 1, _POINTS - 1)]
    golden = (math.sqrt(5) - 1) / 2
    while hi - lo > within:
        a, b = hi - golden * (hi - lo), lo + golden * (hi - lo)
        lo, hi = (lo, b) if judged(a).bound <= judged(b).bound else (a, hi)
    return min(points[i], lo, hi, (lo + hi) / 2, key=lambda x: judged(x).bound)


@functools.partial(jax.jit, static_argnames="shape")
def _best_scale(
    kept: jax.Array, at: Any, total: Any, cooldown: Any, level: Any, end_value: Any, *, shape: ShapeName
) -> convex.BestScale:
    """Of a run that has the rates `kept` before step `at`, and after it a level and a cooldown."""
    steps = jnp.arange(kept.size)
    tail = _tail(level, total - at - cooldown, cooldown, end_value, shape)
    rates = jnp.where(steps < at, kept, tail.value(shapes.since(steps, at)))
    return convex.best_scale(jnp.where(steps < total, rates, 0))


def _tuned(rates: np.ndarray, size: int, shape: ShapeName = "linear") -> float:
    """gamma* of rates that are all kept, by the program that judges runs of `size` steps too."""
    best = _best_scale(_padded(rates, size), rates.size, rates.size, 1, 1.0, 0.0, shape=shape)
    return float(best.scale)


def _tail(level: Any, at: Any, cooldown: Any, end_value: Any, shape: ShapeName) -> Schedule:
    return Constant(level).cooldown(at=at, steps=cooldown, end_value=end_value, shape=shape)


def _check_run(owner: str, rates: np.ndarray, at: int, new_total: int) -> int:
    """The steps of the cooldown that the old run has, 0 for none, if it can be taken up at step `at`."""
    total, peak = rates.size, rates.max()
    _refuse_all_warmup(owner, "total_steps", rates)
    if at >= total:
        raise ValueError(f"{owner}: at={at} is past the old horizon of {total} steps; write a step before {total}.")
    if new_total <= total:
        raise ValueError(
            f"{owner}: new_total={new_total} is not longer than the old horizon of {total} steps; to end a run earlier "
            "write schedule.cooldown(at, steps)."
        )
    held = np.flatnonzero(rates >= peak * (1 - _SAME))
    if at < held[0]:
        raise ValueError(
            f"{owner}: at={at} is in the warmup: the rate rises until step {held[0]}; write at={held[0]}, or a later "
            "step."
        )
    last = int(held[-1])
    plateau = held.size > max(_PLATEAU * total, 2)
    if plateau and at > last:
        raise ValueError(
            f"{owner}: at={at} is in the cooldown, which began at step {last}: the run has already cooled, to "
            f"{rates[at] / peak:.3g} of its plateau; take up the run at step {last} or before it."
        )
    if not rates[at] > 0:
        raise ValueError(
            f"{owner}: the rate at step at={at} is 0, so that nothing is left to go on with; take up the "
            f"run at step {int(np.flatnonzero(rates)[-1])} or before it."
        )
    return total - last if plateau else 0


# --- what was written ------------------------------------------------------------------------------------------------


def _one_of(owner: str, name: str, value: Any, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{owner}: {name}={shown(value)}; {nearest_name(str(value), get_args(choices))}")


def _number(owner: str, name: str, value: Any, domain: Domain) -> Any:
    """A number, or an array of them: a Python float, where it is one that can be seen."""
    value = admit(owner, name, value, domain)
    return float(value) if not is_traced(value) and np.ndim(value) == 0 else value


def _horizon(owner: str, schedule: Any, total_steps: Any) -> int:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{owner}: schedule={shown(schedule)}; write a schedule.")
    if axes(schedule) - {0}:
        raise ValueError(
            f"{owner}: {shown(schedule)} is several schedules, stacked; plan each of js.unstack(schedules)."
        )
    if total_steps is None:
        total_steps = getattr(schedule, "total_steps", None)
        if total_steps is None:
            raise ValueError(f"{owner}: {shown(schedule)} has no field total_steps; write total_steps=.")
        if not is_traced(total_steps) and np.ndim(total_steps) == 0 and total_steps == int(total_steps):
            total_steps = int(total_steps)  # a field may hold 1e5
    return checked_steps(owner, "total_steps", total_steps)


def _seen(owner: str, schedule: Schedule, total: int) -> np.ndarray:
    """The rates of all steps, in float64."""
    rates = rates_of(owner, schedule, total)
    if is_traced(rates):
        raise TypeError(f"{owner}: {shown(schedule)} is traced; a plan is made outside of compiled functions.")
    return np.asarray(rates, np.float64)


def _short(rate: Any) -> float:
    """A rate as the shortest number that the type of rates reads back as the same."""
    return float(str(jnp.result_type(float).type(rate)))


def _refuse_all_warmup(owner: str, name: str, rates: np.ndarray) -> None:
    if rates.size > 1 and rates[-1] > rates[:-1].max() * (1 + _SAME):
        raise ValueError(
            f"{owner}: {name}={rates.size} is shorter than the warmup: the rate still rises at step {rates.size - 1}; "
            "write a longer horizon."
        )


def _padded(rates: np.ndarray, least: int = 0) -> jax.Array:
    """With rates of 0 after the end, which change no bound, up to a power of two: few programs for all horizons."""
    size = max(1 << (max(rates.size, least) - 1).bit_length(), _SMALLEST)
    return jnp.asarray(np.pad(rates, (0, size - rates.size)))
