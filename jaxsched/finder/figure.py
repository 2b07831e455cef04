"""The picture of a search: the loss over the rates, and what is suggested."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inspect.format import optional

if TYPE_CHECKING:
    from .result import FinderResult

_STYLES: dict[str, tuple[str, Any]] = {
    "valley": ("#0072b2", "-"),
    "steep": ("#d55e00", (0, (5, 1.5))),
    "minimum": ("#009e73", (0, (1, 1.2))),
    "slide": ("#aa4499", (0, (5, 1.5, 1, 1.5))),
    "best": ("#d55e00", "-"),
    "largest": ("#0072b2", (0, (5, 1.5))),
}
"""Colours that are told apart with any colour vision, and a line of its own for each."""


def draw(result: FinderResult) -> Any:
    """See `FinderResult.plot`."""
    figure = optional("matplotlib.figure", "plots need", "plot").Figure(figsize=(8.0, 4.6), layout="constrained")
    ax = figure.subplots()
    rows = result.smoothed if result.mode == "range" else result.valid_losses
    assert rows is not None
    known = np.where(np.isfinite(rows), rows, np.inf).astype(np.float64)
    if result.diverged is not None:
        known = np.where(result.diverged, np.inf, known)
    marker = "" if result.mode == "range" else "."
    for i, row in enumerate(known):
        label = f"each of {len(rows)} seeds" if i == 0 else None
        ax.plot(result.lrs, _shown(row), color="0.6", linewidth=0.8, marker=marker, markersize=4, label=label)
    # A seed that has stopped counts as infinite, or the median would tell of the lucky ones alone.
    ranked = np.sort(known, axis=0)
    middle = (ranked[(len(known) - 1) // 2] + ranked[len(known) // 2]) / 2
    if len(rows) > 1:
        ax.plot(result.lrs, _shown(middle), color="0.1", linewidth=2.2, marker=marker, label="median")
    ax.set(xscale="log", xlim=(result.lrs[0], result.lrs[-1]), xlabel="learning rate", title=_title(result))
    ax.set_ylabel("smoothed training loss" if result.mode == "range" else "validation loss at the end")
    _limits(ax, result, known)
    _draw_suggestions(ax, result)
    ax.grid(alpha=0.25, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    several = any(s.low < s.high for s in result.suggestions.values())
    title = "shaded: the spread over the seeds" if several else None
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, handlelength=2.6, title=title)
    return figure


def _title(result: FinderResult) -> str:
    return "learning-rate range test" if result.mode == "range" else f"constant rates, {result.steps} steps each"


def _shown(row: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(row), row, np.nan)


def _limits(ax: Any, result: FinderResult, known: np.ndarray) -> None:
    """Limits of the loss that show the fall and where it ends, and not how far the explosion goes."""
    seen = known[np.isfinite(known)]
    if not len(seen):
        ax.text(0.5, 0.5, "the loss is not finite", transform=ax.transAxes, ha="center")
        return
    starts = known[:, 0][np.isfinite(known[:, 0])] if result.untrained is None else result.untrained
    low, high = float(seen.min()), float(np.max(starts, initial=seen.min()))
    if not math.isfinite(high) or high <= low:
        high = float(seen.max())
    if low > 0 and high > 50 * low:
        ax.set(yscale="log", ylim=(low / 1.5, high * 2))
        return
    height = (high - low) or abs(high) or 1.0
    ax.set_ylim(low - 0.06 * height, high + 0.35 * height)


def _draw_suggestions(ax: Any, result: FinderResult) -> None:
    for name, suggestion in result.suggestions.items():
        colour, line = _STYLES[name]
        label = f"{name}: {suggestion.lr:.2g}" if suggestion.found else f"no {name}"
        if suggestion.found:
            if suggestion.low < suggestion.high:
                ax.axvspan(suggestion.low, suggestion.high, color=colour, alpha=0.13, linewidth=0)
                label += f" ({suggestion.low:.2g} to {suggestion.high:.2g})"
            ax.axvline(suggestion.lr, color=colour, linestyle=line, linewidth=1.8, label=label)
        else:
            ax.plot([], [], color=colour, linestyle=line, label=label)
    across = {"transform": ax.get_xaxis_transform(), "color": "0.1"}  # at a height of the axes, not of the loss
    if result.within is not None and result.within[0] < result.within[1]:
        low, high = result.within
        label = f"within a std of the best: {low:.2g} to {high:.2g}"
        ax.plot([low, high], [0.02, 0.02], **across, linewidth=4, solid_capstyle="butt", label=label)
    if result.diverged is not None and result.diverged.any():
        rates = result.lrs[result.diverged.any(axis=0)]
        ax.plot(rates, np.full(len(rates), 0.98), "x", **across, clip_on=False, label="some seed diverged")
