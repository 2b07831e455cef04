"""What the seeds tell: how far they spread, whether one setting is better than another, and which number mattered."""

from __future__ import annotations

import dataclasses
import inspect
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import format_value
from ..inspect.format import optional
from .frames import columns, family

if TYPE_CHECKING:
    from .result import Mode, SweepResult

_FEWEST = 8
"""Settings for an importance: a forest that is grown on fewer tells of the forest."""


def spread(result: SweepResult, metric: str) -> dict[str, np.ndarray]:
    """See `SweepResult.spread`."""
    values = np.where(result.diverged_at < 0, result.values(metric), np.nan)
    seeds = values.shape[1]
    # By hand and not by numpy's nan-functions: one diverged seed makes the row NaN, which is what the ranking says.
    mean = values.mean(axis=1)
    std = np.full(len(values), np.nan)
    if seeds > 1:
        std = np.sqrt(((values - mean[:, None]) ** 2).sum(axis=1) / (seeds - 1))
    return {
        "mean": mean,
        "std": std,
        "error": std / math.sqrt(seeds),
        "min": values.min(axis=1),
        "max": values.max(axis=1),
    }


# --- is one better than the other ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Whether one setting is better than another, judged seed by seed.

    Fields:
      settings: the indices of the two, the one that is asked about first.
      metric, mode: what they are compared by.
      step: how many updates both had done: all, or those before the first of them was pruned.
      seeds: how many.
      gain: by how much the first is better, the mean over the seeds; below 0 if it is worse.
      low, high: the bootstrap interval of the gain.
      confidence: of the interval.
      share: of the resampled gains, the part above 0.
      p_value: how often chance alone makes a gain at least so far from 0: over all ways to swap the two settings in
        some of the seeds. With n seeds it is never below `2**(1 - n)`.
      better: whether the interval lies above 0 and the p_value is at most `1 - confidence`.

    Example: see `SweepResult.compare`.
    """

    settings: tuple[int, int]
    metric: str
    mode: str
    step: int
    seeds: int
    gain: float
    low: float
    high: float
    confidence: float
    share: float
    p_value: float
    better: bool

    def __str__(self) -> str:
        """The answer in words."""
        first, second = self.settings
        least = seeds_needed(self.confidence)
        numbers = (
            f"{self.metric} at step {self.step}: setting {first} is better than setting {second} by {self.gain:.4g} "
            f"({self.confidence:.0%} interval {self.low:.4g} to {self.high:.4g}, {self.seeds} seeds, "
            f"p = {self.p_value:.2g})"
        )
        if self.better:
            return f"{numbers}: it is."
        if self.seeds < least:
            return (
                f"{numbers}: {self.seeds} seeds cannot tell, because chance alone makes all of them agree 1 time in "
                f"{2 ** (self.seeds - 1)}; sweep with seeds={least} or more."
            )
        return f"{numbers}: the seeds do not tell them apart."


def seeds_needed(confidence: float) -> int:
    """The fewest seeds that can tell two settings apart: all agree by chance 1 time in `2**(seeds - 1)`.

    Example:
      >>> from jaxsched.sweep.statistics import seeds_needed
      >>> seeds_needed(0.95), seeds_needed(0.8)
      (6, 4)
    """
    # The rounding of 1 - 0.9 must not cost a seed.
    return math.ceil(1 - math.log2(1 - confidence) - 1e-9)


def compare(
    result: SweepResult, a: int, b: int, metric: str, mode: Mode | None, confidence: float, resamples: int, seed: int
) -> Comparison:
    """See `SweepResult.compare`."""
    stats = optional("scipy.stats", "SweepResult: compare needs", "sweep")
    if not (isinstance(confidence, float) and 0.5 <= confidence < 1):
        raise ValueError(
            f"SweepResult: confidence={format_value(confidence)}; write a number from 0.5 to 1, such as 0.95."
        )
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 100:
        raise ValueError(f"SweepResult: resamples={format_value(resamples)}; write an integer, 100 or more.")
    first, second, step, gains = _gains(result, a, b, metric, mode)
    # SciPy has called it rng since 1.15.
    rng = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"
    drawn = stats.bootstrap(
        (gains,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        # The better-known BCa is not defined where all resamples are one number, and few seeds come close to that.
        method="percentile",
        **{rng: np.random.default_rng(seed)},
    )
    swapped = stats.permutation_test(
        (gains,), np.mean, permutation_type="samples", n_resamples=resamples, **{rng: np.random.default_rng(seed)}
    )
    low, high = (float(x) for x in drawn.confidence_interval)
    p_value = float(swapped.pvalue)
    return Comparison(
        settings=(first, second),
        metric=metric,
        mode=result.direction(metric, mode),
        step=step,
        seeds=len(gains),
        gain=float(gains.mean()),
        low=low,
        high=high,
        confidence=confidence,
        share=float((drawn.bootstrap_distribution > 0).mean()),
        p_value=p_value,
        better=low > 0 and p_value <= 1 - confidence + 1e-9,
    )


def _gains(result: SweepResult, a: int, b: int, metric: str, mode: Mode | None) -> tuple[int, int, int, np.ndarray]:
    """The two settings at these ranks, and at which step by how much the first is better with each seed."""
    order = result.order(metric, mode)
    for name, rank in (("a", a), ("b", b)):
        if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)) or not 0 <= rank < len(order):
            raise ValueError(
                f"SweepResult: {name}={format_value(rank)}; write a rank, 0 (the best) to {len(order) - 1}."
            )
    if a == b:
        raise ValueError(f"SweepResult: a={a} and b={b} are one setting; write two ranks.")
    first, second = int(order[a]), int(order[b])
    seeds = len(result.seeds)
    if seeds < 2:
        raise ValueError(
            f"SweepResult: there is 1 seed, which has no spread; sweep with seeds={seeds_needed(0.95)} or more."
        )
    values, step = result.values(metric), result.steps
    pruned = result.pruned_at[[first, second]]
    if (pruned >= 0).any():  # the last step at which both were trained
        step = int(pruned[pruned >= 0].min())
        values = result.metrics[metric][:, :, step // result.log_every - 1].astype(np.float64)
    for name, rank, setting in (("a", a, first), ("b", b, second)):
        if (result.diverged_at[setting] >= 0).any() or not np.isfinite(values[setting]).all():
            raise ValueError(f"SweepResult: {name}={rank} is setting {setting}, which diverged; compare others.")
    gains = values[second] - values[first]
    return first, second, step, gains if result.direction(metric, mode) == "min" else -gains


# --- which hyperparameter mattered -----------------------------------------------------------------------------------


def importance(result: SweepResult, metric: str, mode: Mode | None, seed: int) -> dict[str, float]:
    """See `SweepResult.importance`."""
    optuna = optional("optuna", "SweepResult: importance needs", "search")
    optional("sklearn", "SweepResult: importance needs", "search")  # what Optuna grows the forest with
    values = _judged(result, metric, mode)
    numbers, classes = _varied(result)
    unit = optuna.distributions.FloatDistribution(0.0, 1.0)
    space: dict[str, Any] = dict.fromkeys(numbers, unit)
    space |= {name: optuna.distributions.CategoricalDistribution(sorted(set(x))) for name, x in classes.items()}
    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # or it tells that a study was made
    try:
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={name: x[i] for name, x in (numbers | classes).items()}, distributions=space, value=value
                )
                for i, value in enumerate(values.tolist())
            ]
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # for normalize=False
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    finally:
        optuna.logging.set_verbosity(told)
    return {name: float(share) for name, share in sorted(shares.items(), key=lambda item: -item[1])}


def _judged(result: SweepResult, metric: str, mode: Mode | None) -> np.ndarray:
    """One number for each setting, all of the same step, and the worst of them for those that diverged."""
    mode = result.direction(metric, mode)
    values = result.values(metric)
    pruned = result.pruned_at[result.pruned_at >= 0]
    if len(pruned):
        values = result.metrics[metric][:, :, pruned.min() // result.log_every - 1].astype(np.float64)
    means = values.mean(axis=1)
    bad = ~np.isfinite(means) | ((result.diverged_at >= 0).any(axis=1) if not len(pruned) else False)
    if len(means) < _FEWEST:
        raise ValueError(f"SweepResult: an importance of {len(means)} settings; sweep {_FEWEST} or more.")
    if bad.all():
        raise ValueError("SweepResult: every setting diverged with some seed; sweep lower learning rates.")
    means[bad] = means[~bad].max() if mode == "min" else means[~bad].min()
    if np.ptp(means) == 0:
        raise ValueError(f"SweepResult: {metric} is {means[0]} for every setting; there is nothing to explain.")
    return means


def _varied(result: SweepResult) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """The hyperparameters that differ: the numbers as places from 0 to 1 in the order of all, and the classes."""
    settings = result.settings
    numbers = {}
    for name, values in columns(settings, {"family"}).items():
        width = max(np.size(value) for value in values if value is not None)
        for k in range(width):
            cells = [None if v is None or np.size(v) <= k else float(np.ravel(np.asarray(v))[k]) for v in values]
            there = np.array([cell for cell in cells if cell is not None])
            if len(np.unique(there)) > 1:
                places = iter(_places(there))
                # Where a family does not have it, it is in the middle: no side of any cut is told by that.
                column = [0.5 if cell is None else float(next(places)) for cell in cells]
                numbers[name if width == 1 else f"{name}.{k}"] = column
    families = [family(setting) for setting in settings]
    classes = {"family": families} if len(set(families)) > 1 else {}
    if not numbers and not classes:
        raise ValueError("SweepResult: no hyperparameter differs between the settings; sweep some.")
    return numbers, classes


def _places(values: np.ndarray) -> np.ndarray:
    """The share of the values below each, half of its equals counted.

    In the forest of fANOVA every stretch of a hyperparameter weighs by its length. In places, its length is how many
    settings the sweep put there: so a learning rate weighs as it was swept, on a scale of powers of ten or another.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(counts) - counts / 2) / len(values))[inverse]
