"""What the curves of a range test suggest: the four methods, and how far the seeds agree."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._errors import format_value, nearest_name
from ..sweep.result import plain

DROPPED = 5
"""Points at the end of a range test that no suggestion looks at: there the loss explodes."""

_DUST = 1e-5
"""A fall of less than this share of the loss is the rounding of a smoothed loss that does not move."""


@dataclasses.dataclass(frozen=True, eq=False)
class Suggestion:
    """A learning rate, and how far the seeds agree on it.

    Fields:
      lr: the median over the seeds that have one (on a scale of powers of ten); NaN if none has.
      low, high: the smallest and the largest over the seeds; NaN if none has one.
      seeds: float64 (seeds,), the rate that each seed suggests, NaN where it suggests none.
      why: why seeds suggest none, in words; "" if all do.

    Example: see `suggest`.
    """

    lr: float
    low: float
    high: float
    seeds: np.ndarray
    why: str = ""

    @property
    def found(self) -> bool:
        """Whether any seed suggests a rate."""
        return math.isfinite(self.lr)

    def __float__(self) -> float:
        return self.lr

    def __str__(self) -> str:
        if not self.found:
            return f"none: {self.why}"
        several = f" ({self.low:.3g} to {self.high:.3g} over {len(self.seeds)} seeds)" if len(self.seeds) > 1 else ""
        return f"{self.lr:.3g}{several}{f'; {self.why}' if self.why else ''}"

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain numbers and text; None for a rate that there is not."""
        return {name: plain(getattr(self, name)) for name in ("lr", "low", "high", "seeds", "why")}


class _NoRateError(Exception):
    """A curve suggests no rate; its text says why."""


def _valley(lrs: np.ndarray, losses: np.ndarray) -> float:
    # The last losses of the longest falling subsequences of each length, negated: they rise.
    ends: list[float] = []
    lengths = []
    for x in (-losses).tolist():
        place = bisect.bisect_left(ends, x)
        ends[place : place + 1] = [x]
        lengths.append(place + 1)
    end, length = int(np.argmax(lengths)), max(lengths)
    third = length / 3
    at = end - length + int(third) + int(third / 2)
    if at < 0:
        raise _NoRateError("too few points")
    return float(lrs[at])


def _steep(lrs: np.ndarray, losses: np.ndarray) -> float:
    if len(losses) < 2:
        raise _NoRateError("too few points")
    return float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))])


def _minimum(lrs: np.ndarray, losses: np.ndarray) -> float:
    at = int(np.argmin(losses))
    if at == 0:
        raise _NoRateError("the loss is lowest at the first rate")
    return float(lrs[at]) / 10


def _slide(lrs: np.ndarray, losses: np.ndarray, gap: int = 15, threshold: float = 0.005) -> float:
    if len(losses) <= gap:
        raise _NoRateError("too few points")
    slopes = np.gradient(losses)
    bent = np.abs(slopes[gap:] - slopes[:-gap]) > threshold
    # How many windows in a row, from the end of the curve on, have slopes that differ at their two sides.
    slides = len(bent) if bent.all() else int(np.argmin(bent[::-1]))
    return float(lrs[len(bent) - max(slides, 1)])


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "valley": _valley,
    "steep": _steep,
    "minimum": _minimum,
    "slide": _slide,
}


def suggest(lrs: Any, losses: Any, method: str = "valley", *, trim: bool = True) -> Suggestion:
    """The learning rate that the curve of a range test suggests, by one of four methods.

    With `x_i` the losses and `r_i` the rates that are looked at, i = 0, 1, ... n - 1:

    - "valley": in the longest falling subsequence of the losses. It has `m` losses, and the last of them, the first
      that any so long one ends with, is `x_e`: the rate is `r_k`, `k = e - m + floor(m / 3) + floor(m / 6)`, about
      halfway down. Robust to noise, since it needs no slope; a good first choice.
    - "steep": `r_k` with the smallest slope, `k = argmin (x_{i+1} - x_i) / (log r_{i+1} - log r_i)`.
    - "minimum": `r_k / 10`, `k = argmin x_i`. The loss is lowest just before it explodes, so a tenth of that.
    - "slide": a window of 16 points slides down from the end of the curve for as long as the slopes at its two sides
      differ by more than 0.005 a step; the rate at its left side where it comes to rest, the edge before the
      explosion. It is the only one that depends on the scale of the loss. Of a long test it is the largest, a limit
      more than a choice; in a short or a noisy one it slides too far.

    Args:
      lrs: the rates of the whole test, rising, above 0.
      losses: the (smoothed) losses at these rates from the first on, fewer if the test stopped early; or a list of
        such curves (or an array with a row for each), one for each seed.
      method: "valley", "steep", "minimum" or "slide".
      trim: whether the first tenth of the test and the last 5 points of the curve are left out, as `find_lr` does:
        the first are not moved by so small rates yet, the last explode. Either way a curve ends where it is not
        finite.

    Returns: a `Suggestion`. A curve that never falls, or that has too few points, suggests none: NaN, and `why`.

    Errors: ValueError for an unknown method, for rates that do not rise, and for more losses than rates.

    Example:
      >>> import numpy as np
      >>> from jaxsched.finder import suggest
      >>> lrs = np.geomspace(1e-6, 1.0, 100)
      >>> losses = 2.0 / (1.0 + lrs / 1e-3) + 3.0 * lrs
      >>> suggest(lrs, losses, "valley")
      0.000266
      >>> suggest(lrs, [losses, losses + 6.0 * lrs, losses - lrs], "minimum")
      0.00266 (0.00132 to 0.00305 over 3 seeds)
      >>> suggest(lrs, np.ones(100), "steep")
      none: the loss never falls

    Source: fastai's `Learner.lr_find` with `SuggestionMethod` (valley, steep, minimum, slide): the same numbers where
    a curve suggests anything.
    """
    if method not in METHODS:
        raise ValueError(f"suggest: method={format_value(method)}; {nearest_name(str(method), METHODS)}")
    lrs = np.asarray(lrs)
    if lrs.ndim != 1 or not (lrs > 0).all() or not (np.diff(lrs) > 0).all():
        raise ValueError(f"suggest: lrs={format_value(lrs)}; lrs must be a list of rising rates above 0.")
    rates, whys = [], []
    for curve in _curves(losses):
        if len(curve) > len(lrs):
            raise ValueError(f"suggest: {len(curve)} losses and {len(lrs)} lrs; there must be a rate for each loss.")
        try:
            rates.append(METHODS[method](*_kept(lrs, curve, trim)))
        except _NoRateError as error:
            rates.append(math.nan)
            whys.append(str(error))
    return spread(rates, whys)


def _curves(losses: Any) -> list[np.ndarray]:
    """One curve, or several of any lengths, as float arrays."""
    rows = [losses] if np.ndim(losses[0] if len(losses) else 0.0) == 0 else list(losses)
    arrays = [np.asarray(row) for row in rows]
    for array in arrays:
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise ValueError(
                f"suggest: losses={format_value(losses)}; losses must be a list of numbers, or several of them."
            )
    return [x if x.dtype.kind == "f" else x.astype(np.float64) for x in arrays]


def _kept(lrs: np.ndarray, curve: np.ndarray, trim: bool) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve that is looked at."""
    if len(curve) and not np.isfinite(curve[0]):
        raise _NoRateError("the loss is not finite from the start")
    seen = slice(len(lrs) // 10, max(0, len(curve) - DROPPED)) if trim else slice(None)
    curve, lrs = curve[seen], lrs[: len(curve)][seen]
    finite = len(curve) if np.isfinite(curve).all() else int(np.argmin(np.isfinite(curve)))
    if not finite:
        raise _NoRateError("too few points")
    lrs, curve = lrs[:finite], curve[:finite]
    top = np.maximum.accumulate(curve)
    if finite > 1 and (top - curve <= _DUST * np.abs(top)).all():
        raise _NoRateError("the loss never falls")
    return lrs, curve


def spread(rates: Sequence[float], whys: Sequence[str], lr: float | None = None) -> Suggestion:
    """The suggestion of seeds that suggest these rates: their median, or `lr`, which is NaN if there is none."""
    seeds = np.array(rates, np.float64)
    found = np.sort(seeds[np.isfinite(seeds)])
    why = " and ".join(dict.fromkeys(whys))
    if not len(found) or (lr is not None and math.isnan(lr)):
        return Suggestion(math.nan, math.nan, math.nan, seeds, why)
    if whys:
        why = f"{len(whys)} of {len(seeds)} seeds have none: {why}"
    below, above = found[(len(found) - 1) // 2].item(), found[len(found) // 2].item()
    middle = below if below == above else math.sqrt(below) * math.sqrt(above)
    return Suggestion(middle if lr is None else lr, float(found[0]), float(found[-1]), seeds, why)
