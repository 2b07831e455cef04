"""The figure of a sweep: the schedules, and the losses that they led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .settings import is_schedule, path_text

if TYPE_CHECKING:
    from .result import SweepResult

_MOST_POINTS = 512
"""Of a curve: a panel has no more pixels to show them."""

_WINNER = "#d81b60"
"""A red that is told from every colour of viridis with any colour vision."""


def draw(result: SweepResult, metric: str, mode: Literal["min", "max"] | None) -> Any:
    """See `SweepResult.plot`."""
    try:
        import matplotlib as mpl
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, Normalize
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "jaxsched[plot]"') from None
    order = result.order(metric, mode)
    schedules, _ = jax.tree_util.tree_flatten_with_path(result.schedules, is_leaf=is_schedule)
    panels = len(schedules) + 1
    # A Figure of its own, and not pyplot's: no window, no global state, nothing to close.
    figure = Figure(figsize=(5.0 * panels + 0.8, 4.4), layout="constrained")
    axes = figure.subplots(1, panels)
    # The best are dark; the end of viridis is left out, a yellow that is lost on white.
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, len(order)))
    for ax, (path, schedule) in zip(axes, schedules, strict=False):
        _draw_schedules(ax, schedule, result, order, colours)
        name = path_text(path).replace("_", " ") or "learning rate"
        ax.set(title=f"{len(order)} settings: {name}", xlabel="step", ylabel=name)
    _draw_losses(axes[-1], result, order, colours)
    ranks = ScalarMappable(Normalize(0.5, len(order) + 0.5), ListedColormap(colours))
    bar = figure.colorbar(ranks, ax=axes[-1], label=f"rank by {metric.replace('_', ' ')}")
    bar.set_ticks(np.unique(np.linspace(1, len(order), 5).round()).tolist())
    bar.ax.invert_yaxis()
    for ax in axes:
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_schedules(ax: Any, schedule: Any, result: SweepResult, order: np.ndarray, colours: np.ndarray) -> None:
    at = np.unique(np.linspace(0, result.steps - 1, _MOST_POINTS).round().astype(int))
    values = np.asarray(jax.vmap(lambda s: s(jnp.asarray(at)))(jax.tree.map(jnp.asarray, schedule)))
    for rank in range(len(order) - 1, -1, -1):  # the best last, on top
        ax.plot(at, values[order[rank]], **_style(rank, colours))
    # A setting that diverged may lie anywhere: it does not choose the limits.
    kept = ~(result.diverged_at >= 0).any(axis=1)
    values = values[kept] if kept.any() else values
    peaks = values.max(axis=1)
    if (height := np.ptp(values)) > 0:
        ax.set_ylim(values.min() - 0.05 * height, peaks.max() + 0.05 * height)
    # Peaks of several powers of ten: on a linear axis the small ones would lie on the ground.
    if values.min() >= 0 and peaks.min() > 0 and peaks.max() > 20 * peaks.min():
        ax.set_yscale("log")
        ax.set_ylim(bottom=peaks.min() / 10, top=peaks.max() * 3)


def _draw_losses(ax: Any, result: SweepResult, order: np.ndarray, colours: np.ndarray) -> None:
    at = result.log_every * (1 + np.arange(result.steps // result.log_every))
    valid = result.metrics["valid_loss"].mean(axis=1)  # NaN, which is not drawn, from where any seed diverged
    train = result.metrics["train_loss"].mean(axis=1)
    for rank in range(len(order) - 1, -1, -1):
        ax.plot(at, valid[order[rank]], **_style(rank, colours), label="best: validation" if rank == 0 else None)
    ax.plot(at, train[order[0]], color=_WINNER, linewidth=1.4, linestyle="--", zorder=3, label="best: training")
    shown = np.concatenate([valid.ravel(), train[order[0]]])
    shown = shown[np.isfinite(shown)]
    if len(shown) and shown.min() > 0:
        ax.set_yscale("log")
    ax.set(title="loss, mean over the seeds", xlabel="step", ylabel="loss")
    ax.legend(frameon=False, loc="best")


def _style(rank: int, colours: np.ndarray) -> dict[str, Any]:
    if rank == 0:
        return {"color": _WINNER, "linewidth": 2.4, "zorder": 3}
    return {"color": colours[rank], "linewidth": 1.0, "alpha": 0.8}
