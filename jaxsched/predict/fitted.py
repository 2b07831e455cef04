"""Fitted laws: predictions with intervals, warnings about extrapolation, and rankings of schedules."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from .._errors import FieldError, FieldTypeError, format_value
from ..fields import Domain, NonNegative, Positive
from ..schedules.base import Schedule
from ..schedules.stacking import unstack
from ..schedules.structure import axes
from .arguments import check_count, check_number, warmup_of
from .curves import Curve, check_curves, float64_rates, in_float64

_SLACK = 0.01
"""The relative tolerance for a number to be inside of the fitted range."""
_CONFIDENCE = Domain("a number between 0 and 1, such as 0.95", lambda x: (x > 0) & (x < 1))


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """The options of `MultiPowerLaw.fit` and `AnnealingLaw.fit`.

    Args:
      starts: the number of random starts, 1 or more.
      seed: of the starts and of the bootstrap; the same seed gives the same law.
      huber: the residual of the log loss above which it counts linearly, above 0.
      prior: `huber * prior * log(2 x)^2` is added for each point, for x each of `beta` and `gamma`: few curves hardly
        determine them. 0 or more. The default was chosen in sight of recorded trainings of two models, see
        bench/records/power_law.md.
      bootstrap: the number of laws that are fitted to resampled residuals, 2 or more.
      max_steps: of each start, 1 or more.
      block: the number of neighbouring residuals that are resampled together; None: from their correlation.
      confidence: of all intervals, between 0 and 1.
    """

    starts: int = 64
    seed: int = 0
    huber: float = 1e-3
    prior: float = 1e-4
    bootstrap: int = 200
    max_steps: int = 300
    block: int | None = None
    confidence: float = 0.95

    def check(self, owner: str) -> None:
        """Refuses bad options; the errors begin with `owner`."""
        for name, least in {"starts": 1, "seed": 0, "bootstrap": 2, "max_steps": 1}.items():
            check_count(owner, name, getattr(self, name), least)
        if self.block is not None:
            check_count(owner, "block", self.block)
        for name, kind in {"huber": Positive, "prior": NonNegative, "confidence": _CONFIDENCE}.items():
            check_number(owner, name, getattr(self, name), kind)


class Prediction(NamedTuple):
    """Predicted losses with their intervals, arrays of the shape of the steps.

    Args:
      loss: the losses of the law.
      low: the lower ends of the intervals for a new training, at the `confidence` of the fit.
      high: the upper ends.
      extrapolates: descriptions of what lies outside of all fitted curves, for which the intervals are not wider.
    """

    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    extrapolates: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FittedLaw:
    """The result of `MultiPowerLaw.fit` or `AnnealingLaw.fit`: a law and its uncertainty.

    The interval of a log loss is `+- sqrt(t_n^2 M^2 + z^2 (P^2 + R^2))`, with M the root mean square of the n
    `misfits`, P that of the differences between `laws` and `law`, R the `residual`, t_n the quantile of Student's t
    with n degrees of freedom, and z that of a normal.

    Args:
      law: the law.
      laws: those of the bootstrap, one law with stacked numbers: `jax.vmap(lambda law: law.final(lrs))(fitted.laws)`.
      converged: whether the best start converged to a minimum; if not, the fit has warned.
      residual: root mean square of the differences between the log losses and those of the law.
      agreeing: the number of starts with the same result as the best one.
      misfits: for each curve, the mean error of the log loss over the last tenth of its losses, for the law of
        the other curves: the error of the law itself. Empty for a single curve, where the `residual` stands for it.
      curves: the curves.
      residuals: for each curve, its log losses less those of the law.
      options: the options of the fit.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict.annealing import AnnealingLaw
      >>> from jaxsched.predict import Curve
      >>> truth, steps = AnnealingLaw(L0=3.0, A=0.5, alpha=0.5, C=0.4), list(range(100, 2_000, 50))
      >>> schedules = [js.Linear(0.01, end, 2_000).table(2_000) for end in (0.01, 0.004, 0.001)]
      >>> curves = [Curve(s, steps, truth.predict(s, at=steps)) for s in schedules]
      >>> fitted = AnnealingLaw.fit(curves, starts=8, bootstrap=5)
      >>> fitted
      <FittedLaw: AnnealingLaw of 3 curves, 114 losses, residual 0.00%, converged, reached by 8 of 8 starts>
      >>> seen = fitted.predict(js.Linear(0.01, 0.002, 4_000), at=[1_999, 3_999], total_steps=4_000)
      >>> seen.extrapolates
      ('4000 steps, where the longest fitted curve has 1951', 'rates of the sum 24, where the fitted go up to 19.5')
    """

    law: Any
    laws: Any
    converged: bool
    residual: float
    agreeing: int
    misfits: tuple[float, ...]
    curves: tuple[Curve, ...]
    residuals: tuple[np.ndarray, ...]
    options: FitOptions

    def __repr__(self) -> str:
        points, state = sum(r.size for r in self.residuals), "converged" if self.converged else "NOT CONVERGED"
        return (
            f"<FittedLaw: {type(self.law).__name__} of {len(self.curves)} curves, {points} losses, residual "
            f"{self.residual:.2%}, {state}, reached by {self.agreeing} of {self.options.starts} starts>"
        )

    @property
    def at(self) -> tuple[np.ndarray, ...]:
        """For each curve, the steps that were fitted: those after its warmup."""
        return tuple(curve.fitted_steps for curve in self.curves)

    def predict(self, lrs: Any, at: Any = None, *, total_steps: int | None = None) -> Prediction:
        """Returns the losses at the steps `at` with their intervals; the arguments are those of `law.predict`."""
        owner = f"{type(self).__name__}.predict"
        rates = self._rates(owner, lrs, total_steps)
        with in_float64():
            loss = np.asarray(self.law.predict(rates, at))
        steps = np.arange(rates.size) if at is None else np.asarray(at)
        half = self._half_width(self._away([rates], [steps.reshape(-1)])).reshape(steps.shape)
        half = np.where(np.isfinite(loss), half, 0)
        return Prediction(loss, loss * np.exp(-half), loss * np.exp(half), self._outside(rates, steps.reshape(-1)))

    def rank(self, schedules: Any, *, total_steps: int | None = None) -> Ranking:
        """Ranks schedules by their predicted final loss, in groups that the law can distinguish.

        Two schedules are distinguished if the difference of their log losses exceeds `sqrt(2 t_n^2 M^2 + z^2 P^2)`,
        with P the root mean square of that difference over the laws of the bootstrap, and M and t_n as in `FittedLaw`.
        Schedules of different groups are all distinguished from each other; the order in a group is meaningless.
        `schedules` is a list of them (or of their rates), a stacked schedule, or a dict with a name for each.
        """
        owner = f"{type(self).__name__}.rank"
        names, every = _named(owner, schedules)
        owners = [f"{owner}: schedules[{name!r}]" for name in names]
        rates = [self._rates(*pair, total_steps) for pair in zip(owners, every, strict=True)]
        with in_float64():
            losses = np.array([float(self.law.final(r)) for r in rates])
        last = [np.array([r.size - 1]) for r in rates]
        away, order = self._away(rates, last), np.argsort(losses, kind="stable")
        half = self._half_width(away)
        return Ranking(
            schedules=tuple(every[i] for i in order),
            names=tuple(str(names[i]) for i in order),
            loss=losses[order],
            low=(losses * np.exp(-half))[order],
            high=(losses * np.exp(half))[order],
            extrapolates=tuple(self._outside(rates[i], last[i]) for i in order),
            index=order,
            away=self._z * away[:, order],
            apart=math.sqrt(2) * self._law_error,
        )

    @functools.cached_property
    def scores(self) -> list[dict[str, Any]]:
        """`score` of the fitted curves themselves."""
        return self.score(self.curves)

    def score(self, curves: Any) -> list[dict[str, Any]]:
        """Returns the errors of the law on curves, over their losses after the warmup, a dict for each.

        `mae` is the mean absolute error, `r2` the share of the variance that the law explains, `covered` the share of
        the losses inside of their intervals; `seen` and `predicted` are the last loss.
        """
        owner, rows = f"{type(self).__name__}.score", []
        for curve in check_curves(owner, curves):
            losses = curve.fitted_losses
            if not losses.size:
                note = " has no losses after its warmup"
                raise FieldError(owner, "curves", curve, "leave it out", note=note)
            told = self.predict(curve.lrs, curve.fitted_steps)
            spread = float(np.sum((losses - losses.mean()) ** 2))
            row = {
                "name": curve.name,
                "points": losses.size,
                "mae": float(np.mean(np.abs(told.loss - losses))),
                "r2": 1 - float(np.sum((told.loss - losses) ** 2)) / spread if spread else math.nan,
                "covered": float(np.mean((told.low <= losses) & (losses <= told.high))),
                "seen": float(losses[-1]),
                "predicted": float(told.loss[-1]),
                "extrapolates": told.extrapolates,
            }
            rows.append(row)
        return rows

    @property
    def _law_error(self) -> float:
        """`t_n M`."""
        misfits = np.array(self.misfits or (self.residual,))
        quantile = special.stdtrit(misfits.size, (1 + self.options.confidence) / 2)
        return float(quantile * np.sqrt(np.mean(misfits**2)))

    @property
    def _z(self) -> float:
        return float(special.ndtri((1 + self.options.confidence) / 2))

    def _half_width(self, away: np.ndarray) -> np.ndarray:
        return np.sqrt(self._law_error**2 + self._z**2 * (np.mean(away**2, axis=0) + self.residual**2))

    def _rates(self, owner: str, lrs: Any, total_steps: int | None) -> np.ndarray:
        rates = float64_rates(owner, lrs, total_steps)
        self.law.check_rates(owner, rates)
        return rates

    def _away(self, rates: list[np.ndarray], at: list[np.ndarray]) -> np.ndarray:
        """The log losses of `laws` less those of `law`, (laws, points)."""
        with in_float64(), np.errstate(invalid="ignore"):
            data = self.law._data(rates, at)
            one = jax.tree.map(lambda x: np.asarray(x)[None], self.law)
            return np.asarray(log_losses(self.laws, data)) - np.asarray(log_losses(one, data))

    def _outside(self, rates: np.ndarray, at: np.ndarray) -> tuple[str, ...]:
        """Descriptions of what lies outside of all fitted curves, for these rates up to the steps `at`."""
        warmup, outside = warmup_of(rates), []
        if at.size and at.min() < warmup:
            outside.append(f"step {at.min()} in a warmup of {warmup} steps, where the law does not hold")
        at = at[at >= warmup]
        if not at.size:
            return tuple(outside)
        known = [_traits(curve.lrs, a) for curve, a in zip(self.curves, self.at, strict=True) if a.size]
        for name, x in _traits(rates, at).items():
            least, most = min(t[name] for t in known), max(t[name] for t in known)
            below, above = x < least * (1 - _SLACK), x > most * (1 + _SLACK)
            if (above and "{most" in _OUTSIDE[name]) or (below and "{least" in _OUTSIDE[name]):
                outside.append(_OUTSIDE[name].format(x=x, least=least, most=most))
        return tuple(outside)


_OUTSIDE = {
    "first": "step {x:.0f}, where the first fitted is {least:.0f}",
    "begun": "rates of the sum {x:.3g} so far, where the fitted begin at {least:.3g}",
    "steps": "{x:.0f} steps, where the longest fitted curve has {most:.0f}",
    "peak": "a peak rate of {x:.3g}, where the fitted have {least:.3g} to {most:.3g}",
    "lowest": "a lowest rate of {x:.3g} after the warmup, where the fitted go down to {least:.3g}",
    "total": "rates of the sum {x:.3g}, where the fitted go up to {most:.3g}",
    "warmup": "a warmup of {x:.0f} steps, where the fitted have {least:.0f} to {most:.0f}",
    "fall": "a fall of the rate by {x:.2g} of itself in a step, where the fitted fall by {most:.2g} at most",
    "rise": "a rise of the rate after the warmup by {x:.2g} of itself, where the fitted rise by {most:.2g} at most",
}


def _traits(rates: np.ndarray, at: np.ndarray) -> dict[str, float]:
    """The properties of a training that are compared with the fitted curves; `at` are steps after its warmup."""
    warmup, first, last = warmup_of(rates), int(at.min()), int(at.max())
    after = rates[warmup : last + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.nan_to_num(np.diff(after) / after[:-1], nan=0, posinf=np.inf)
    known, least = rates[: last + 1], 1e-6  # the rounding of a constant rate is no fall
    fall, rise = max(-change.min(initial=0), least), max(change.max(initial=0), least)
    begun = rates[: first + 1].sum()
    traits = (first, begun, last + 1, known.max(), after.min(), known.sum(), warmup, fall, rise)
    return dict(zip(_OUTSIDE, map(float, traits), strict=True))


@jax.jit
def log_losses(laws: Any, data: Any) -> jax.Array:
    """The log losses of stacked laws at each point, (laws, points)."""
    # One law at a time, to save memory.
    return jax.lax.map(lambda law: jnp.log(law._of_data(data)), laws)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ranking:
    """Schedules by predicted loss, best first, in groups that the law distinguishes; see `FittedLaw.rank`.

    Args:
      schedules: the schedules.
      names: those of a dict, else their places in the list.
      loss: the predicted final losses, (n,), with the ends `low` and `high` of their intervals.
      extrapolates: for each, what lies outside of the fitted curves.
      index: the places in the given list, integers (n,).
      away: the log losses of the laws of the bootstrap less those of the law, times z, (laws, n).
      apart: the part of the threshold of `told_apart` that is the same for all.
    """

    schedules: tuple[Any, ...]
    names: tuple[str, ...]
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    extrapolates: tuple[tuple[str, ...], ...]
    index: np.ndarray
    away: np.ndarray
    apart: float

    def __len__(self) -> int:
        return len(self.schedules)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict for each schedule, best first."""
        columns = {
            "group": self.group.tolist(),
            "name": self.names,
            "loss": self.loss.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "extrapolates": self.extrapolates,
            "schedule": self.schedules,
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @property
    def candidates(self) -> tuple[Any, ...]:
        """The schedules that are not distinguished from the first: any of them may be the best."""
        return tuple(s for s, apart in zip(self.schedules, self._apart(0), strict=True) if not apart)

    @functools.cached_property
    def group(self) -> np.ndarray:
        """The group of each schedule, 0 for the best one, integers (n,)."""
        last = [int(np.flatnonzero(~self._apart(rank))[-1]) for rank in range(len(self))]  # not distinguished from it
        ends = np.maximum.accumulate(last) == np.arange(len(self))
        return np.concatenate([[0], np.cumsum(ends)[:-1]])

    def told_apart(self, a: int, b: int) -> bool:
        """Whether the schedules at the ranks `a` and `b` are distinguished."""
        for rank in (a, b):
            if not 0 <= rank < len(self):
                raise IndexError(f"Ranking: rank {rank}; there are {len(self)} schedules, from 0.")
        return bool(self._apart(a)[b])

    def _apart(self, rank: int) -> np.ndarray:
        """The schedules that the one at `rank` is distinguished from, booleans (n,)."""
        spread = np.mean((self.away - self.away[:, rank, None]) ** 2, axis=0)
        return np.log(self.loss / self.loss[rank]) ** 2 > spread + self.apart**2

    def __repr__(self) -> str:
        lines = ["group     loss       low to high        schedule"]
        for row in self.rows:
            text, one = row["name"], row["schedule"]
            if text.isdigit():
                text = format_value(one) if isinstance(one, Schedule) else f"{np.size(one)} rates"
            mark = "?" if row["extrapolates"] else " "
            lines.append(f"{row['group']:>5} {row['loss']:>8.4f}{mark}  {row['low']:.4f} to {row['high']:.4f}   {text}")
        said = sorted({text for texts in self.extrapolates for text in texts})
        groups = f"{self.group[-1] + 1} group{'s' * bool(self.group[-1])}"
        lines.append(f"{len(self)} schedules in {groups}: the order in a group is meaningless.")
        return "\n".join([*lines, *(f"? {text}" for text in said)])


def _named(owner: str, schedules: Any) -> tuple[list[Any], list[Any]]:
    """The names of the single schedules, and these."""
    instead = "write a list of schedules (or of their rates)"
    given: Any = [schedules] if isinstance(schedules, Schedule) else schedules
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise FieldTypeError(owner, "schedules", schedules, instead)
    named = dict(given) if isinstance(given, Mapping) else None
    every = list(given if named is None else named.values())
    if every and all(np.ndim(s) == 0 and not isinstance(s, Schedule) for s in every):
        raise FieldTypeError(owner, "schedules", schedules, instead)
    names, single = [], []
    for name, schedule in zip(named or range(len(every)), every, strict=True):
        parts = unstack(schedule) if isinstance(schedule, Schedule) and axes(schedule) == {1} else [schedule]
        names += [name] if parts[0] is schedule else [f"{name}[{i}]" for i in range(len(parts))]
        single += parts
    if not single:
        raise FieldError(owner, "schedules", schedules, "write at least one schedule")
    return (names if named is not None else list(range(len(single)))), single
