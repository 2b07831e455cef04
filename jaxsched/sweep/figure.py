"""The figure of a sweep: the schedules, and the losses that they led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..inspect.curves import last_step
from ..inspect.format import cut, optional
from .frames import ends, family
from .settings import is_schedule, path_text

if TYPE_CHECKING:
    from .result import SweepResult

_MOST_POINTS = 512
"""Of a curve: a panel has no more pixels to show them."""

_MANY = 48
"""Curves that a panel shows one by one; more are drawn thin and pale, but for the first so many."""

_MOST_CURVES = 2_000
"""Settings that are drawn; of more, so many at even ranks."""

_WINNER = "#d81b60"
"""A red that is told from every colour of viridis with any colour vision."""

_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""Of the families side by side; a fifth begins again."""


def draw(result: SweepResult, metric: str, mode: Literal["min", "max"] | None) -> Any:
    """See `SweepResult.plot`."""
    optional("matplotlib.figure", "plots need", "plot")
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    settings = len(result.diverged_at)
    order = result.order(metric, mode)
    if settings > _MOST_CURVES:
        result = result.select(order[np.linspace(0, settings - 1, _MOST_CURVES).round().astype(int)])
        order = result.order(metric, mode)
    schedules = schedules_by_place(result)
    panels = len(schedules) + 1
    # A Figure of its own, and not pyplot's: no window, no global state, nothing to close.
    figure = Figure(figsize=(5.0 * panels + 0.8, 4.4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    # The best are dark; the end of viridis is left out, a yellow that is lost on white.
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, len(order)))
    styles = _styles(result, order, colours)
    for ax, (path, column) in zip(axes, schedules.items(), strict=False):
        _draw_schedules(ax, column, result, order, styles)
        name = path.replace("_", " ") or "learning rate"
        count = sum(schedule is not None for schedule in column)
        ax.set(title=f"{count} setting{'s' * (count > 1)}: {name}", xlabel="step", ylabel=name)
    if {"valid_loss", "train_loss"} <= set(result.metrics):
        _draw_losses(axes[-1], result, order, styles)
    else:  # nothing was trained
        _draw_ranks(axes[-1], result, order, styles, metric)
    if settings > len(order):
        figure.suptitle(f"{len(order):,} of {settings:,} settings, at even ranks")
    ranks = ScalarMappable(Normalize(0.5, len(order) + 0.5), ListedColormap(colours))
    bar = figure.colorbar(ranks, ax=axes[-1], label=f"rank by {metric.replace('_', ' ')}")
    bar.set_ticks(np.unique(np.linspace(1, len(order), 5).round()).tolist())
    bar.ax.invert_yaxis()
    for ax in axes:
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def schedules_by_place(result: SweepResult) -> dict[str, list[Any]]:
    """The schedules of all settings by their place in a setting, None where one has none there."""
    found: dict[str, list[Any]] = {}
    for i, setting in enumerate(result.settings):
        for path, leaf in jax.tree_util.tree_flatten_with_path(setting, is_leaf=is_schedule)[0]:
            if is_schedule(leaf):  # a plain number has no curve
                found.setdefault(path_text(path), [None] * len(result.settings))[i] = leaf
    return found


def _styles(result: SweepResult, order: np.ndarray, colours: np.ndarray) -> list[dict[str, Any]]:
    """How the curve of each setting is drawn, in the order of the settings."""
    families = [family(setting) if result.mixed else "" for setting in result.settings]
    names = list(dict.fromkeys(families))
    many = len(order) > _MANY
    styles: list[dict[str, Any]] = [{} for _ in order]
    for rank, i in enumerate(order.tolist()):
        pale = many and rank >= _MANY
        styles[i] = {
            "color": _WINNER if rank == 0 else colours[rank],
            "linewidth": 2.4 if rank == 0 else 0.5 if pale else 1.0,
            "alpha": 1.0 if rank == 0 else max(0.15, 0.8 * (_MANY / len(order)) ** 0.5) if pale else 0.8,
            "linestyle": _LINES[names.index(families[i]) % len(_LINES)],
            "zorder": 3 if rank == 0 else 2,
        }
    return styles


def _draw_schedules(ax: Any, column: list[Any], result: SweepResult, order: np.ndarray, styles: list[Any]) -> None:
    length = result.steps
    if length == 1 and result.run.get("predicted"):  # no horizon was told: that of the schedules themselves
        length = max((last_step(s) or 1 for s in column if s is not None), default=1)
    at = np.unique(np.linspace(0, length - 1, _MOST_POINTS).round().astype(int))
    steps, kind = jnp.asarray(at), jnp.result_type(float)
    values = np.full((len(column), len(at)), np.nan, kind)
    for i, schedule in enumerate(column):  # one compilation for each structure
        if schedule is not None:
            values[i] = schedule(steps).astype(kind)
    there = np.array([schedule is not None for schedule in column])
    for i in order[::-1]:  # the best last, on top
        if there[i]:
            ax.plot(at, values[i], **styles[i])
    # A setting that diverged may lie anywhere: it does not choose the limits.
    kept = there & ~(result.diverged_at >= 0).any(axis=1)
    values = values[kept if kept.any() else there]
    peaks = values.max(axis=1)
    if (height := np.ptp(values)) > 0:
        ax.set_ylim(values.min() - 0.05 * height, peaks.max() + 0.05 * height)
    # Peaks of several powers of ten: on a linear axis the small ones would lie on the ground.
    if values.min() >= 0 and peaks.min() > 0 and peaks.max() > 20 * peaks.min():
        ax.set_yscale("log")
        ax.set_ylim(bottom=peaks.min() / 10, top=peaks.max() * 3)
    if result.mixed:
        _name_families(ax, column, styles)


def _name_families(ax: Any, column: list[Any], styles: list[Any]) -> None:
    """A line in grey for each family, as the colours tell the rank."""
    from matplotlib.lines import Line2D

    lines = {family(s): style["linestyle"] for s, style in zip(column, styles, strict=True) if s is not None}
    if len(lines) > 1:
        handles = [Line2D([], [], color="0.35", linestyle=line, label=cut(name, 40)) for name, line in lines.items()]
        ax.legend(handles=handles[:6], edgecolor="none", framealpha=0.85, loc="best", fontsize="small", handlelength=3)


def _draw_losses(ax: Any, result: SweepResult, order: np.ndarray, styles: list[Any]) -> None:
    at = ends(result)
    valid = result.metrics["valid_loss"].mean(axis=1)  # NaN, which is not drawn, from where any seed diverged
    train = result.metrics["train_loss"].mean(axis=1)
    best = int(order[0])
    for i in order[::-1]:
        # Solid: in this panel dashes are training.
        ax.plot(at, valid[i], **styles[i] | {"linestyle": "-"}, label="best: validation" if i == best else None)
    ax.plot(at, train[best], color=_WINNER, linewidth=1.4, linestyle="--", zorder=3, label="best: training")
    _mark_pruned(ax, result, at, valid, styles)
    kept = np.flatnonzero(~(result.diverged_at >= 0).any(axis=1))
    seen = np.concatenate([(valid[kept] if len(kept) else valid).ravel(), train[best]])
    seen = seen[np.isfinite(seen)]
    if len(seen) and seen.min() > 0:
        ax.set_yscale("log")
        # What diverged explodes first, over as many powers of ten as there are: it does not choose the limits.
        ax.set_ylim(seen.min() / 1.2, ceiling(valid[kept] if len(kept) else valid) * 1.2)
    ax.set(title="loss, mean over the seeds", xlabel="step", ylabel="loss")
    ax.legend(frameon=False, loc="best")


def _draw_ranks(ax: Any, result: SweepResult, order: np.ndarray, styles: list[Any], metric: str) -> None:
    """The metric of each setting by its rank."""
    values = result.values(metric).mean(axis=1)[order]
    ax.scatter(np.arange(1, len(order) + 1), values, s=9, color=[styles[i]["color"] for i in order])
    if (seen := values[np.isfinite(values)]).size and seen.min() > 0 and seen.max() > 20 * seen.min():
        ax.set_yscale("log")
    ax.set(title=metric.replace("_", " "), xlabel="rank", ylabel=metric.replace("_", " "))


def ceiling(curves: np.ndarray) -> float:
    """The top of the axis of losses (settings, windows): the largest, but for those that have exploded. These are
    above a thousand times what most settings begin with; one that only learns more slowly than most is not."""
    seen = curves[np.isfinite(curves)]
    if not len(seen):
        return 1.0
    first = curves[:, 0][np.isfinite(curves[:, 0])]
    usual = 1_000 * float(np.median(first)) if len(first) else float("inf")
    return float(seen[seen <= usual].max(initial=seen.min()))


def _mark_pruned(ax: Any, result: SweepResult, at: np.ndarray, valid: np.ndarray, styles: list[Any]) -> None:
    pruned = result.pruned_at.max(axis=1)
    points = [(step, valid[i, step // result.log_every - 1], i) for i, step in enumerate(pruned.tolist()) if step > 0]
    points = [point for point in points if len(at) and np.isfinite(point[1])]
    if points:
        x, y, i = zip(*points, strict=True)
        size = 9 if len(points) <= _MANY else 3
        ax.scatter(x, y, s=size, color=[styles[k]["color"] for k in i], zorder=2.5, label="pruned")
