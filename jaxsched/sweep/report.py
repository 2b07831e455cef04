"""The report of a sweep: its numbers, sentences and curves, in the order of the ranks."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .._errors import FieldError, FieldTypeError, format_value
from ..inspect.curves import curves
from ..inspect.format import cut, number, texts, ticks
from ..inspect.phases import Curve, outline
from ..version import __version__
from . import report_page as page
from .figure import ceiling, schedules_by_place
from .frames import columns, ends, family
from .report_page import Column

if TYPE_CHECKING:
    from .result import Mode, SweepResult

_SEEN = 24  # settings whose seeds are shown one by one
_DOTS = 2_000  # seeds that are shown one by one, of all settings together
_ROWS = 200  # rows of the table of what diverged; the ranking has the others
_AXES = 12  # hyperparameters side by side
_FEW = 8  # up to this many values, an axis names each
_BELOW = -0.1  # y position of values that cannot be placed on an axis from 0 to 1
_DECADES = 20  # from this ratio of the largest to the smallest number on, an axis is logarithmic
_COLUMNS = 1_024  # columns of pixels in a figure of schedules


class _Axis(NamedTuple):
    """An axis of the parallel coordinates: a height from 0 to 1 for each rank, and labels at some heights."""

    label: str
    heights: np.ndarray
    ticks: list[tuple[float, str]]


def report(
    result: SweepResult,
    path: str | os.PathLike[str],
    metric: str,
    mode: Mode | None,
    command: str | None,
    title: str | None,
) -> pathlib.Path:
    """See `SweepResult.report`."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise FieldTypeError("SweepResult", "path", path, 'write the name of a file, such as "report.html"')
    if os.path.isdir(path):
        name = os.path.join(os.fspath(path), "report.html")
        raise FieldError("SweepResult", "path", path, f"write a file in it, such as {name!r}", note=" is a folder")
    for name, text in (("command", command), ("title", title)):
        if not (text is None or isinstance(text, str)):
            raise FieldTypeError("SweepResult", name, text, "write it as one text, or leave it out")
    page.plotly_script()  # a missing plotly is reported before the work
    return page.write(path, _Report(result, metric, mode).render(command, title))


class _Report:
    """The parts of a page about a result."""

    def __init__(self, result: SweepResult, metric: str, mode: Mode | None) -> None:
        self.result, self.metric, self.words = result, metric, _words(metric)
        values = result.values(metric)
        self.mode = result.direction(metric, mode)
        self.rows = result.ranking(metric, mode)
        self.order = np.array([row["setting"] for row in self.rows])
        self.settings = [result.settings[i] for i in self.order]
        self.values = values[self.order]
        self.diverged_at, self.pruned_at = result.diverged_at[self.order], result.pruned_at[self.order]
        self.means = np.array([row["mean"] for row in self.rows])
        self.lost = ~np.isfinite(self.means) | (self.diverged_at >= 0).any(axis=1)
        self.pruned = self.pruned_at.max(axis=1) >= 0
        self.best = None if self.lost[0] or self.pruned[0] else 0
        named = columns(self.settings, ())
        self.varied = {name: values for name, values in named.items() if _differ(values)}
        families = [family(setting) for setting in self.settings] if result.mixed else []
        self.families = families if len(set(families)) > 1 else []
        # The learning rate comes first.
        places = dict(sorted(schedules_by_place(result).items(), key=lambda item: "learning_rate" not in item[0]))
        self.places = {name: [column[i] for i in self.order] for name, column in places.items()}
        metrics = [name for name, x in result.metrics.items() if x.shape[2]]
        self.logged = sorted(metrics, key=lambda name: (name != metric, _base(name) != _base(metric), name))
        self.panels = 2 * len(places) + len(metrics)  # a schedule has its own steps beside its values

    def render(self, command: str | None, title: str | None) -> str:
        expressions = [repr(setting) for setting in self.settings]
        schedules, curves, axes, spread = self.schedules(), self.curves(), self.axes(), self.spread()
        lost = np.flatnonzero(self.lost).tolist()
        data = {
            "count": len(expressions),
            "best": self.best,
            "lost": lost,
            "expressions": expressions,
            "schedules": schedules,
            "curves": curves,
            "parallel": _parallel(axes),
            "spread": spread,
        }
        title = f"{_many(len(self.rows), 'setting')}, by {self.words}" if title is None else title
        grey = page.tag("span", page.tag("span", class_="swatch grey"), "diverged", class_="key")
        return page.render(
            data,
            title=page.escape(title),
            lead=page.escape(self.lead()),
            facts=page.pairs(self.facts()),
            best=self.best_section(expressions[0]),
            count=f"{len(expressions):,}",
            grey=grey if (self.diverged_at >= 0).any() else "",
            schedules=_panels("schedules", schedules, "The settings hold numbers only: there is no schedule to draw."),
            curves=_panels("curves", curves, self.no_curves()),
            ranking_note=page.escape(self.ranking_note()),
            ranking_caption=page.escape(f"The settings by {self.words}, the best first."),
            ranking=page.ranking(self.columns(), self.best, lost),
            parallel=_figure("parallel", axes, self.parallel_says(axes)),
            spread=_figure("spread", spread, spread["says"] if spread else f"There is no finite {self.words}."),
            diverged=self.diverged_section(),
            pruned=self.pruned_section(),
            origin=self.origin(command),
        )

    # --- words -------------------------------------------------------------------------------------------------------

    def lead(self) -> str:
        """Return the size and the outcome of the sweep."""
        result = self.result
        settings, seeds = result.diverged_at.shape
        size = (
            f"{_many(settings, 'setting')} with {_many(seeds, 'seed')} each, {_many(result.steps, 'step')} a training"
        )
        return f"{size}. {_capital(self.outcome())}."

    def outcome(self) -> str:
        """Return such as `best valid loss 0.031 at peak_value=0.3; 5 of 64 settings diverged`."""
        count, lost = len(self.rows), int(self.lost.sum())
        if lost == count:
            return "every setting diverged with some seed" if count > 1 else "the one setting diverged with some seed"
        gone = f"{lost:,} of {_many(count, 'setting')} diverged" if lost else "none diverged"
        if self.best is None:
            return f"every setting that was not pruned diverged; {gone}"
        at = self.where(0)
        return f"best {self.words} {_short(self.means[0])}{f' at {at}' if at else ''}; {gone}"

    def where(self, rank: int) -> str:
        """Return the hyperparameters of one rank that differ."""
        named = {"family": [repr(name) for name in self.families]} if self.families else {}
        there = {name: values[rank] for name, values in (named | self.varied).items() if values[rank] is not None}
        parts = [f"{name}={cut(_short(value), 60)}" for name, value in there.items()]
        return ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")

    def best_section(self, expression: str) -> str:
        row = self.rows[0]
        if self.lost.all():
            says = "There is none: every setting diverged with some seed. Sweep lower learning rates."
            return page.tag("p", says, class_="warn")
        if self.best is None:
            says = "There is none: every setting that was not pruned diverged with some seed. The best of the pruned "
            says += f"ones is rank 1, with {self.words} {_short(self.means[0])} at step {row['pruned_at']:,}."
            return page.tag("p", says, class_="warn")
        seeds = f"± {row['std']:.2g} over {row['seeds']} seeds" if row["seeds"] > 1 else "with one seed"
        says = f"{_capital(self.words)} {_short(row['mean'])} {seeds}."
        return page.tag("p", says) + page.code("best-expression", expression, "Copy the best setting")

    def ranking_note(self) -> str:
        way = "lowest" if self.mode == "min" else "highest"
        seeds = self.values.shape[1]
        spread = " ± their standard deviation" if seeds > 1 else ""
        after = "what was pruned comes after what finished, and what diverged comes last"
        return f"The {way} mean of the final {self.words} over {_many(seeds, 'seed')}{spread}; {after}."

    def facts(self) -> list[tuple[str, str]]:
        result = self.result
        settings, seeds = result.diverged_at.shape
        numbers = {
            "settings": settings,
            "seeds": seeds,
            "steps a training": result.steps,
            "trainings": settings * seeds,
            "of them diverged": (result.diverged_at >= 0).sum(),
            "of them pruned": (result.pruned_at >= 0).sum(),
        }
        times = [("training", _seconds(result.seconds)), ("compilation", _seconds(result.compile_seconds))]
        return [*((name, f"{n:,}") for name, n in numbers.items()), *times]

    def origin(self, command: str | None) -> str:
        """Return the command, the facts of the run, and the versions of what makes the page."""
        command = self.result.run.get("command") if command is None else command
        text = page.tag("p", "No command was given for this sweep.")
        if isinstance(command, str) and command.strip():
            text = page.tag("p", "The command:") + page.code("command", command, "Copy the command")
        run = [(_words(str(name)), _short(value)) for name, value in self.result.run.items() if name != "command"]
        if run:
            text += page.tag("p", "The run:") + page.pairs(run)
        names = ("jax", "jaxlib", "optax", "numpy", "plotly")
        versions = [("jaxsched", __version__), *((name, importlib.metadata.version(name)) for name in names)]
        versions.append(("Python", platform.python_version()))
        return text + page.tag("p", "This page was made with:") + page.pairs(versions)

    # --- the ranking -------------------------------------------------------------------------------------------------

    def columns(self) -> list[Column]:
        rows = self.rows
        found = [Column("rank", [f"{rank + 1:,}" for rank in range(len(rows))])]
        if self.families:
            found.append(Column("family", self.families, number=False, word="family"))
        for name, values in self.varied.items():
            scalar = all(value is None or not np.ndim(value) for value in values)
            found.append(Column(name, [_cell(value) for value in values], number=scalar, word=name))
        spread = [f" ± {row['std']:.2g}" if row["seeds"] > 1 else "" for row in rows]
        means = [None if gone else _short(x) + s for gone, x, s in zip(self.lost, self.means, spread, strict=True)]
        label = f"{self.words}, mean ± std" if rows[0]["seeds"] > 1 else self.words
        found.append(Column(label, means, word=self.words))
        for name in self.result.final:
            if name != self.metric:
                means = self.result.values(name)[self.order].mean(axis=1)
                cells = [_short(x) if np.isfinite(x) else None for x in means]
                found.append(Column(_words(name), cells, title="mean over the seeds"))
        found.append(Column("seeds", [f"{row['seeds']}" for row in rows]))
        found.append(Column("diverged", [f"{row['diverged']}" for row in rows], title="with how many seeds"))
        pruned = [f"{row['pruned_at']:,}" if row["pruned_at"] >= 0 else None for row in rows]
        found.append(Column("pruned at", pruned, word="pruned at", title="the step"))
        return [*found, Column("setting", [f"{row['setting']:,}" for row in rows], title="its index")]

    # --- curves ------------------------------------------------------------------------------------------------------

    def schedules(self) -> list[dict[str, Any]]:
        found = []
        wide = min(_COLUMNS, page.most_points(len(self.rows), self.panels, 4 * _COLUMNS) // 2)
        for name, column in self.places.items():
            label = _words(name) or "learning rate"
            known = iter(curves("SweepResult", [s for s in column if s is not None], self.result.steps, wide))
            drawn = [Curve(np.zeros(0, int), np.zeros(0)) if s is None else next(known) for s in column]
            both = [
                [reduce(curve.values, initial=np.nan) for curve in drawn] for reduce in (np.fmin.reduce, np.fmax.reduce)
            ]
            extremes = np.array(both).T
            limits = _limits(extremes, ~self.lost & np.isfinite(extremes[:, 0]), "schedule")
            steps, values = [curve.steps for curve in drawn], [curve.values for curve in drawn]
            found.append(page.panel(label, steps, values, limits, self.schedule_says(label, column)))
        return found

    def schedule_says(self, label: str, column: Sequence[Any]) -> str:
        count = sum(schedule is not None for schedule in column)
        text = f"{_capital(label)}, {_many(count, 'schedule')} over {_many(self.result.steps, 'step')}."
        if self.best is None or column[0] is None:
            return text
        best = outline(column[0], self.result.steps)
        if not np.isfinite([best.first, best.peak, best.last]).all():
            return text
        return (
            f"{text} The best starts at {_short(best.first)}, is highest at step {best.peak_step:,} with "
            f"{_short(best.peak)} and ends at {_short(best.last)}."
        )

    def curves(self) -> list[dict[str, Any]]:
        edges = _edges(self.result, page.most_points(len(self.rows), self.panels))
        if not len(edges):
            return []
        found = []
        for name in self.logged:
            x = self.result.metrics[name][self.order].astype(np.float64)
            # NaN, which is not drawn, from where any seed diverged.
            with np.errstate(invalid="ignore"):
                values = _stretches(x.mean(axis=1), edges, mean=name.startswith("train_"))
            loss = name.endswith("loss")
            # What explodes and stays finite does not choose the view either.
            seen = np.where(values <= ceiling(values[~self.lost]), values, np.nan) if loss else values
            limits = _limits(seen, ~self.lost, "loss" if loss else "other")
            other = _beside(name, self.logged)
            says = self.curve_says(name, other is not None)
            found.append(page.panel(_words(name), ends(self.result)[edges], values, limits, says, other))
        return found

    def curve_says(self, name: str, beside: bool) -> str:
        count, what = len(self.rows), _words(name)
        mean = ", mean over the seeds" if self.values.shape[1] > 1 else ""
        ends_early = " A curve ends where a seed diverged or the setting was pruned."
        stop = ends_early if (self.lost | self.pruned).any() else ""
        dashes = ""
        if beside:
            side = "training" if name.startswith("valid_") else "validation"
            dashes = f" Dashed: the {side} of the highlighted setting."
        return f"{_capital(what)}, {_many(count, 'curve')}{mean}: {self.outcome()}.{stop}{dashes}"

    def no_curves(self) -> str:
        result = self.result
        if result.steps < result.log_every:
            return (
                f"No curve was logged: the {_many(result.steps, 'step')} of a training are fewer than "
                f"log_every={result.log_every:,}."
            )
        return "This result holds no curves, only the final metrics."

    # --- hyperparameters ---------------------------------------------------------------------------------------------

    def axes(self) -> list[_Axis]:
        """Return an axis for each hyperparameter that differs, and one for the metric; none if nothing differs."""
        found = [_names_axis("family", self.families)] if self.families else []
        for name, values in self.varied.items():
            width = max(np.size(value) for value in values if value is not None)
            for k in range(width):  # a table place by place
                numbers = np.array([_place(value, k) for value in values])
                if len(np.unique(numbers)) > 1:
                    found.append(_number_axis(name if width == 1 else f"{name}.{k}", numbers))
        if not found:
            return []
        means = np.where(self.lost, np.nan, self.means)
        return [*found[:_AXES], _number_axis(self.words, means, "diverged")]

    def parallel_says(self, axes: Sequence[_Axis]) -> str:
        if not axes:
            return "No hyperparameter differs between the settings, so there is nothing to compare."
        text = f"A line for each setting, through its hyperparameters to its {self.words}."
        if len(axes) > _AXES:
            text += f" At most {_AXES} hyperparameters are shown, the first."
        kept = np.flatnonzero(~self.lost & ~self.pruned)
        few = kept[: max(1, len(kept) // 10)]
        parts = []
        for name, values in list(self.varied.items())[:4]:
            numbers = [_place(values[i], 0) for i in few]
            if _width(values) == 1 and len(few) > 1 and np.isfinite(numbers).all():
                parts.append(f"{name} from {_short(min(numbers))} to {_short(max(numbers))}")
        if parts:
            text += f" The best {len(few)} of {len(kept)} have {', '.join(parts)}."
        return f"{text} Drag along an axis to select settings; with Shift, on several axes. A double click selects all."

    # --- seeds -------------------------------------------------------------------------------------------------------

    def spread(self) -> dict[str, Any] | None:
        kept = ~self.lost & ~self.pruned
        kept = kept if kept.any() else ~self.lost
        count = int(kept.argmin()) if not kept.all() else len(kept)  # they stand first in the order
        count = min(count, _SEEN, max(1, _DOTS // self.values.shape[1]))
        if not count:
            return None
        values, means = self.values[:count, :_DOTS], self.means[:count]
        seeds = self.values.shape[1]
        if seeds == 1:
            says = f"One seed each: how far {self.words} spreads by chance cannot be told. Sweep with seeds=6 or more."
        else:
            first = self.values[0]
            ranks = f"the first {count} ranks" if count > 1 else "rank 1"
            says = f"{_capital(self.words)} of {ranks}, a dot for each seed and a dash for the mean."
            says += f" The {seeds} seeds of rank 1 lie from {_short(first.min())} to {_short(first.max())}."
            if count > 1:
                ahead = self.values[1:count].min(axis=1) if self.mode == "min" else self.values[1:count].max(axis=1)
                near = int((ahead < means[0]).sum() if self.mode == "min" else (ahead > means[0]).sum())
                says += f" {near or 'None'} of the {count - 1} ranks below it have a seed that beats its mean."
        log = self.metric.endswith("loss") and bool((values > 0).all()) and values.max() > _DECADES * values.min()
        ranks = np.repeat(np.arange(1, count + 1), values.shape[1])
        seeds = {"x": ranks.tolist(), "y": values.ravel().tolist(), "means": means.tolist()}
        return seeds | {"label": self.words, "log": bool(log), "says": says}

    # --- what was lost and what was spared ---------------------------------------------------------------------------

    def diverged_section(self) -> str:
        hit = self.diverged_at >= 0
        settings, trainings = int(hit.any(axis=1).sum()), int(hit.sum())
        if not settings:
            odd = f"No loss left the finite numbers, but {self.words} did in {int(self.lost.sum()):,}."
            return page.tag("p", odd if self.lost.any() else "No training diverged.")
        first = np.where(hit, self.diverged_at.astype(np.int64), self.result.steps).min(axis=1)
        rows = []
        for rank in sorted(np.flatnonzero(hit.any(axis=1)).tolist(), key=lambda r: (first[r], r))[:_ROWS]:
            at, lost = self.diverged_at[rank], np.flatnonzero(hit[rank])
            seeds = ", ".join(f"{self.result.seeds[j]} at {at[j]:,}" for j in lost[:8].tolist())
            seeds += f" and {len(lost) - 8} more" if len(lost) > 8 else ""
            share = f"{len(lost)} of {len(at)}"
            rows.append([f"{rank + 1:,}", f"{first[rank]:,}", share, seeds, cut(repr(self.settings[rank]), 400)])
        more = f" The table has the first {_ROWS}." if settings > _ROWS else ""
        says = f"{settings:,} of {_many(len(hit), 'setting')} diverged with some seed, {trainings:,} of "
        says += f"{_many(hit.size, 'training')} in all; a step is the first whose loss was not finite.{more}"
        heads = ["rank", "first step", "seeds", "seed at step", "setting"]
        return page.tag("p", says) + page.table("Diverged settings, the earliest first", heads, rows)

    def pruned_section(self) -> str:
        gone = self.pruned_at >= 0
        steps, every = self.result.steps, self.pruned_at.size * self.result.steps
        if not gone.any():
            says = f"Nothing was pruned: {_many(steps, 'step')} for every training that did not diverge."
            return page.tag("p", says)
        rows = []
        for step, count in sorted(Counter(self.pruned_at[gone].tolist()).items()):
            diverged = (self.diverged_at >= 0) & (self.diverged_at < step)
            left = int((~(gone & (self.pruned_at <= step)) & ~diverged).sum())
            rows.append([f"{step:,}", f"{count:,}", f"{count * (steps - step):,}", f"{left:,}"])
        spared = int((steps - self.pruned_at[gone].astype(np.int64)).sum())
        says = f"Pruning spared {spared:,} of {every:,} steps, {spared / every:.0%} of what all would have taken."
        done = self.result.run.get("steps_done")
        if isinstance(done, int):
            says += f" {_many(done, 'step')} {'was' if done == 1 else 'were'} done."
        says += f" {int(gone.any(axis=1).sum()):,} of {_many(len(gone), 'setting')} were pruned."
        heads = ["rung, a step", "trainings pruned", "steps spared", "trainings left"]
        return page.tag("p", says) + page.table("Pruned trainings at each rung", heads, rows)


# --- numbers as text -------------------------------------------------------------------------------------------------


def _words(name: str) -> str:
    return name.replace("_", " ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _short(value: Any) -> str:
    if isinstance(value, (str, bool)) or value is None:
        return str(value)
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf":
        return format_value(value)
    return f"{array.item():,}" if array.dtype.kind in "iu" else number(array)


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def _cell(value: Any) -> str | None:
    """Return a hyperparameter as text, a table as a list of numbers."""
    return cut(str(np.asarray(value).tolist()), 200) if np.ndim(value) else None if value is None else _short(value)


def _base(metric: str) -> str:
    return metric.removeprefix("train_").removeprefix("valid_")


def _beside(name: str, names: Sequence[str]) -> int | None:
    """Return the index of the validation metric for a training one, and the reverse."""
    sides = [f"{side}_{_base(name)}" for side in ("train", "valid")]
    other = next((x for x in sides if x != name and x in names), None)
    return None if other is None or name not in sides else names.index(other)


def _differ(values: Sequence[Any]) -> bool:
    there = [np.asarray(value) for value in values if value is not None]
    return len(there) < len(values) or any(x.shape != there[0].shape or (x != there[0]).any() for x in there)


def _width(values: Sequence[Any]) -> int:
    return max(np.size(value) for value in values if value is not None)


def _place(value: Any, k: int) -> float:
    """Return the number at index k of a hyperparameter, NaN if there is none."""
    return np.nan if value is None or np.size(value) <= k else float(np.ravel(np.asarray(value))[k])


# --- curves ----------------------------------------------------------------------------------------------------------


def _figure(name: str, drawn: Any, says: str, labels: Sequence[str] = ()) -> str:
    return page.figure(name, says, labels) if drawn else page.tag("p", says, class_="note")


def _panels(name: str, panels: list[dict[str, Any]], nothing: str) -> str:
    return _figure(name, panels, panels[0]["says"] if panels else nothing, [panel["label"] for panel in panels])


def _edges(result: SweepResult, points: int) -> np.ndarray:
    """Return the last window of each stretch that is drawn as one point; a rung ends a stretch."""
    windows = result.steps // result.log_every
    even = np.linspace(0, windows - 1, min(points, windows)).round() if windows else []
    rungs = np.unique(result.pruned_at[result.pruned_at > 0]) // result.log_every - 1
    both = np.unique(np.concatenate([even, rungs])).astype(np.int64)
    return both[(both >= 0) & (both < windows)]


def _stretches(curves: np.ndarray, edges: np.ndarray, mean: bool) -> np.ndarray:
    """Return the mean of the finite values in each stretch, as windows of steps make a longer one; or the last one."""
    starts, finite = np.append(0, edges[:-1] + 1), np.isfinite(curves)
    if mean:
        with np.errstate(invalid="ignore"):
            total = np.add.reduceat(np.where(finite, curves, 0.0), starts, axis=1)
            return total / np.add.reduceat(finite.astype(int), starts, axis=1)
    at = np.maximum.reduceat(np.where(finite, np.arange(curves.shape[1]), -1), starts, axis=1)
    return np.where(at >= 0, np.take_along_axis(curves, at, axis=1), np.nan)


def _limits(
    values: np.ndarray, kept: np.ndarray, kind: Literal["schedule", "loss", "other"]
) -> tuple[float, float, bool]:
    """Return the limits of the view, and whether its axis is logarithmic.

    What diverged explodes first, and may lie anywhere: it does not choose the view where something else can.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    seen = values[kept] if np.isfinite(values[kept]).any() else values
    seen = seen[np.isfinite(seen).any(axis=1)]
    if not seen.size:
        return 0.0, 1.0, False
    tops, low = np.fmax.reduce(seen, axis=1), float(np.fmin.reduce(seen, axis=None))
    high, least = float(tops.max()), float(tops.min())
    if kind == "schedule" and low >= 0 and least > 0 and high > _DECADES * least:
        return least / 10, high * 1.6, True  # a linear axis would hide the peaks that are small
    if kind == "loss" and 0 < low < high / 4:
        return low / 1.15, high * 1.15, True  # shows what the last steps gain
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room, False


# --- axes ------------------------------------------------------------------------------------------------------------


def _parallel(axes: Sequence[_Axis]) -> dict[str, Any] | None:
    if not axes:
        return None
    heights = np.stack([axis.heights for axis in axes], axis=1)
    named = [{"label": _folded(a.label), "ticks": [(y, _folded(text)) for y, text in a.ticks]} for a in axes]
    return page.panel("", np.arange(len(axes)), heights, (-0.16, 1.06, False)) | {"axes": named}


def _folded(text: str) -> str:
    """Return a name in at most 3 short lines, for plotly."""
    lines = textwrap.wrap(re.sub(r"(?<=[a-z])([.,:(])(?=[a-z])", r"\1 ", text), 16, max_lines=3, placeholder="...")
    return "<br>".join(map(page.escape, lines))


def _number_axis(label: str, numbers: np.ndarray, missing: str = "none") -> _Axis:
    """Return numbers as heights from 0 to 1, on a logarithmic scale if they span several powers of ten."""
    finite = np.isfinite(numbers)
    there = numbers[finite]
    heights = np.full(len(numbers), _BELOW)
    if not len(there):
        return _Axis(label, heights, [(_BELOW, missing)])
    log = there.min() > 0 and there.max() > _DECADES * there.min()
    scaled = np.log10(there) if log else there
    low, high = float(scaled.min()), float(scaled.max())
    named = np.unique(scaled)
    if len(named) > _FEW:
        named = np.array(ticks(low, high, 6 if log else 5, whole=bool(log)))
    names = texts(10**named if log else named, number)
    heights[finite], at = ((x - low) / (high - low) if high > low else np.full(len(x), 0.5) for x in (scaled, named))
    return _Axis(label, heights, [(_BELOW, missing)] * (not finite.all()) + list(zip(at.tolist(), names, strict=True)))


def _names_axis(label: str, names: Sequence[str]) -> _Axis:
    """Return names as heights from 0 to 1, in their order."""
    known = sorted(set(names))
    at = {name: i / (len(known) - 1) for i, name in enumerate(known)}
    return _Axis(label, np.array([at[name] for name in names]), [(y, name) for name, y in at.items()])
