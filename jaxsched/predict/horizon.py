"""How to prolong a run: how much longer to cool down, or how far to lower the rate."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from ..fields import Domain
from ..schedules.base import Schedule, ShapeName
from .rates import checked_steps
from .runs import (
    FINITE,
    POSITIVE,
    SAME,
    best_of_run,
    checked_choice,
    checked_number,
    horizon_of,
    level_and_cooldown,
    padded,
    rates_seen,
    refuse_all_warmup,
    short,
    tuned_scale,
)

ExtensionRule: TypeAlias = Literal["tuned", "least"]

_SHARE = Domain("a number from 0 to 1", lambda x: (x >= 0) & (x <= 1))
_POINTS = 16  # that are looked at before a search narrows
_FACTORS = math.log(64.0)  # a rate is lowered by 64 at most
_PLATEAU = 0.05  # of the horizon: a peak that is held for longer is a plateau, what follows it a cooldown


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
    """How to prolong a run: how much longer to cool down, or how far to lower the rate.

    A rate that is tuned for one horizon is too high for a longer one. Two ways keep the steps before `at`, which are
    done (or fixed), and make up for it; no run has to be tuned again:

    - `longer_cooldown`: the rate stays `schedule(at)`, and the cooldown takes a larger share of the run.
    - `lowered`: the rate becomes `factor schedule(at)` at step `at`; the cooldown takes its old share of the run.

    Formula: with `gamma*` as in `convex.best_scale`, c the share of the run that the cooldown takes, f the factor,
    and `s'` the prolonged schedule: `tuned` takes the smallest c, or the f next to 1, with `gamma*(s') = gamma*(s)`,
    so that the base rate which is the best one for s is the best one for s' too. `least` takes the c, or the f, with
    the least `convex.bound(s')` at the distance at which s is tuned. From a WSD of 4,000 steps with 20 %
    linear cooldown `tuned` gives c = .45, .63, .77, .88 at 1.5, 2, 2.5, 3 times the horizon (where `at` is before the
    cooldown begins: at .36 of the old horizon for the last), and f = .64, .53, .47, .43, .40, .38 at 1.5 ... 4 times
    with `at` at .8 of it; from one of 400 steps c is .44, .62, .76, .87, and f up to .01 more.
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
    checked_choice(owner, "rule", rule, ExtensionRule)
    total = horizon_of(owner, schedule, total_steps)
    rates = rates_seen(owner, schedule, total)
    at, new_total = checked_steps(owner, "at", at, 0), checked_steps(owner, "new_total", new_total)
    cooldown = _check_run(owner, rates, at, new_total)
    cooling: ShapeName = shape or getattr(schedule, "decay_shape", "linear")
    fraction = cooldown / total if cooldown > 1 else 0.2
    if cooldown_fraction is not None:
        fraction = float(checked_number(owner, "cooldown_fraction", cooldown_fraction, _SHARE))
    end_value = float(checked_number(owner, "end_value", end_value, FINITE))
    if not 0 <= end_value <= rates[at]:
        raise ValueError(f"{owner}: end_value={end_value:g}; write one from 0 to the rate at step {at}, {rates[at]:g}.")
    level_and_cooldown(rates[at], 0, 1, end_value, cooling)  # refuses what does not go together, while it can be seen
    if distance is None:
        distance = 1 / tuned_scale(rates, new_total, cooling)
    run = _Run(
        schedule, rates, at, new_total, cooling, end_value, float(checked_number(owner, "distance", distance, POSITIVE))
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
        level = short(self.rates[self.at]) * factor
        tail = level_and_cooldown(level, self.left - cooldown, cooldown, self.end_value, self.shape)
        return self.schedule.then(tail, at=self.at) if self.at else tail

    def judged(self, kept: jax.Array, cooldown: int, factor: float) -> _Judged:
        level = short(self.rates[self.at]) * factor
        best = best_of_run(kept, self.at, self.new_total, cooldown, level, self.end_value, shape=self.shape)
        scale, bound = map(float, jax.device_get(best))  # at once: a search waits for every one of them
        scale *= self.distance
        return _Judged(scale, bound * (scale + 1 / scale) / 2)  # the bound, by the least one


class _Judged(NamedTuple):
    """What the rates are best multiplied with, and the bound of them as they are, in units of the distance."""

    scale: float
    bound: float


def _planned(owner: str, run: _Run, fraction: float, rule: ExtensionRule) -> Extension:
    same = min(max(round(fraction * run.new_total), 1), run.left)
    kept = padded(run.rates[: run.at], run.new_total)
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
    if unchanged.scale > 1 and cooldown <= 1 and room < 1 + SAME:
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


def _check_run(owner: str, rates: np.ndarray, at: int, new_total: int) -> int:
    """The steps of the cooldown that the old run has, 0 for none, if it can be taken up at step `at`."""
    total, peak = rates.size, rates.max()
    refuse_all_warmup(owner, "total_steps", rates)
    if at >= total:
        raise ValueError(
            f"{owner}: at={at} is not before the end of the old horizon of {total} steps, where all is "
            f"done; write a step before {total}, from which the run is to go on otherwise."
        )
    if new_total <= total:
        raise ValueError(
            f"{owner}: new_total={new_total} is not longer than the old horizon of {total} steps; to end a run earlier "
            "write schedule.cooldown(at, steps)."
        )
    held = np.flatnonzero(rates >= peak * (1 - SAME))
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
