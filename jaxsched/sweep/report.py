"""The report of a sweep: what a page tells, gathered as plain data in the order of the ranks."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._errors import format_value
from ..outline import outline
from ..version import __version__
from ..inspect.curves import Curve, Group, curves
from ..inspect.format import cut
from .report_page import Axis, Column, Page, Panel, Spread, Table, most_points, plotly_script, write
from .figure import ceiling, schedules_by_place
from .frames import columns, ends, family
from .settings import grouped_settings

if TYPE_CHECKING:
    from .result import Mode, SweepResult

_SEEN = 24
"""Settings whose seeds are shown one by one."""

_DOTS = 2_000
"""Seeds that are shown one by one, of all settings together."""

_ROWS = 200
"""Of the table of what diverged; the ranking has the others."""

_AXES = 12
"""Hyperparameters side by side; more cannot be read."""

_FEW = 8
"""Values that an axis names one by one."""

_BELOW = -0.1
"""The height, below an axis from 0 to 1, of what has no place on it."""

_DECADES = 20
"""Numbers whose largest is so many times their smallest lie on a scale of powers of ten."""

_LONGEST = 4_000
"""Characters of an expression that stand in the page however many there are."""

_EXPRESSIONS = 1_000_000
"""Characters of all expressions together that a page has room for."""

_COLUMNS = 1_024
"""Of the schedules in a figure: no screen shows more points side by side."""

_LOOKED_AT = 2**20
"""Steps of the schedules that are evaluated at once."""


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
        raise TypeError(f'SweepResult: path={format_value(path)}; write the name of a file, such as "report.html".')
    if os.path.isdir(path):
        name = os.path.join(os.fspath(path), "report.html")
        raise ValueError(f"SweepResult: path={format_value(path)} is a folder; write a file in it, such as {name!r}.")
    for name, text in (("command", command), ("title", title)):
        if not (text is None or isinstance(text, str)):
            raise TypeError(f"SweepResult: {name}={format_value(text)}; write it as one text, or leave it out.")
    plotly_script()  # what is missing is said before the work
    return write(path, _Gathered(result, metric, mode).page(command, title))


class _Gathered:
    """A result as a page tells it."""

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
        nobody = bool(self.lost[0] or self.pruned[0])
        self.best = None if nobody else 0
        named = columns(self.settings, ())
        self.varied = {name: values for name, values in named.items() if _differ(values)}
        families = [family(setting) for setting in self.settings] if result.mixed else []
        self.families = families if len(set(families)) > 1 else []
        # The rate first, whatever its name in the alphabet.
        places = dict(sorted(schedules_by_place(result).items(), key=lambda item: "learning_rate" not in item[0]))
        metrics = [name for name, x in result.metrics.items() if x.shape[2]]
        panels = 2 * len(places) + len(metrics)  # a schedule has steps of its own beside its values
        self.points = most_points(len(self.rows), panels)
        self.places_points = most_points(len(self.rows), panels, 4 * _COLUMNS)
        self.longest = max(_LONGEST, _EXPRESSIONS // len(self.rows))
        self.places = {name: [column[i] for i in self.order] for name, column in places.items()}
        self.logged = sorted(metrics, key=lambda name: (name != metric, _base(name) != _base(metric), name))

    def page(self, command: str | None, title: str | None) -> Page:
        result = self.result
        schedules, curves, axes = self.schedules(), self.curves(), self.axes()
        spread = self.spread()
        command = result.run.get("command") if command is None else command
        expressions = [repr(setting) for setting in self.settings]
        long = [i for i, text in enumerate(expressions) if i and len(text) > self.longest]
        return Page(
            title=f"{_many(len(self.rows), 'setting')}, by {self.words}" if title is None else title,
            lead=self.lead(),
            facts=self.facts(),
            best=self.best,
            best_says=self.best_says(),
            expressions=[cut(text, self.longest) if i else text for i, text in enumerate(expressions)],
            cut=long,
            lost=np.flatnonzero(self.lost).tolist(),
            ranking_note=self.ranking_note(),
            ranking_caption=f"The settings by {self.words}, the best first.",
            columns=self.columns(),
            schedules=schedules,
            schedules_says="The settings hold numbers only, so there is no schedule to draw.",
            curves=curves,
            curves_says=self.no_curves(),
            parallel=axes,
            parallel_says=self.parallel_says(axes),
            spread=spread,
            spread_says=f"There is no finite {self.words}, so there are no seeds to compare.",
            diverged=self.diverged(),
            diverged_says=self.diverged_says(),
            pruned=self.rungs(),
            pruned_says=self.pruned_says(),
            command=command if isinstance(command, str) and command.strip() else None,
            run=self.run(),
            versions=self.versions(),
        )

    # --- words -------------------------------------------------------------------------------------------------------

    def lead(self) -> str:
        """What the sweep was and what came out of it, in two sentences."""
        result = self.result
        settings, seeds = result.diverged_at.shape
        what = (
            f"{_many(settings, 'setting')} with {_many(seeds, 'seed')} each, {_many(result.steps, 'step')} a training."
        )
        return f"{what} {_capital(self.outcome())}."

    def outcome(self) -> str:
        """`best valid loss 0.031 at peak_value=0.3; 5 of 64 settings diverged`."""
        count, lost = len(self.rows), int(self.lost.sum())
        if lost == count:
            return "every setting diverged with some seed" if count > 1 else "the one setting diverged with some seed"
        gone = f"{lost:,} of {_many(count, 'setting')} diverged" if lost else "none diverged"
        if self.best is None:
            return f"every setting that was not pruned diverged; {gone}"
        at = self.where(0)
        return f"best {self.words} {_short(self.means[0])}{f' at {at}' if at else ''}; {gone}"

    def where(self, rank: int) -> str:
        """The hyperparameters that differ, of one rank."""
        named = {"family": [repr(name) for name in self.families]} if self.families else {}
        parts = [
            f"{name}={cut(_short(v[rank]), 60)}" for name, v in (named | self.varied).items() if v[rank] is not None
        ]
        return ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")

    def best_says(self) -> str:
        if self.best is None:
            if self.lost.all():
                return "There is none: every setting diverged with some seed. Sweep lower learning rates."
            return (
                "There is none: every setting that was not pruned diverged with some seed. The best of the pruned "
                f"ones is rank 1, with {self.words} {_short(self.means[0])} at step {self.rows[0]['pruned_at']:,}."
            )
        row = self.rows[0]
        seeds = f"± {row['std']:.2g} over {row['seeds']} seeds" if row["seeds"] > 1 else "with one seed"
        return f"{_capital(self.words)} {_short(row['mean'])} {seeds}."

    def ranking_note(self) -> str:
        way = "lowest" if self.mode == "min" else "highest"
        seeds = self.values.shape[1]
        spread = " ± their standard deviation" if seeds > 1 else ""
        after = "what was pruned comes after what finished, and what diverged comes last"
        return f"The {way} mean of the final {self.words} over {_many(seeds, 'seed')}{spread}; {after}."

    def facts(self) -> list[tuple[str, str]]:
        result = self.result
        settings, seeds = result.diverged_at.shape
        lost = int((result.diverged_at >= 0).sum())
        pruned = int((result.pruned_at >= 0).sum())
        return [
            ("settings", f"{settings:,}"),
            ("seeds", f"{seeds:,}"),
            ("steps a training", f"{result.steps:,}"),
            ("trainings", f"{settings * seeds:,}"),
            ("of them diverged", f"{lost:,}"),
            ("of them pruned", f"{pruned:,}"),
            ("training", _seconds(result.seconds)),
            ("compilation", _seconds(result.compile_seconds)),
        ]

    def run(self) -> list[tuple[str, str]]:
        return [(_words(str(name)), _short(value)) for name, value in self.result.run.items() if name != "command"]

    def versions(self) -> list[tuple[str, str]]:
        """Of the page, which may be made long after the sweep; what the sweep ran on is among its own facts."""
        names = ("jax", "jaxlib", "optax", "numpy", "plotly")
        others = [(name, importlib.metadata.version(name)) for name in names]
        return [("jaxsched", __version__), *others, ("Python", platform.python_version())]

    # --- the ranking -------------------------------------------------------------------------------------------------

    def columns(self) -> list[Column]:
        rows = self.rows
        found = [Column("rank", range(1, len(rows) + 1), said=False)]
        if self.families:
            found.append(Column("family", self.families))
        found += [Column(name, [_cell(value) for value in values]) for name, values in self.varied.items()]
        std = [row["std"] for row in rows] if rows[0]["seeds"] > 1 else None
        label = f"{self.words}, mean ± std" if std else self.words
        found.append(
            Column(
                label,
                [None if lost else mean for lost, mean in zip(self.lost, self.means, strict=True)],
                std,
                word=self.words,
            )
        )
        for name in self.result.final:
            if name != self.metric:
                means = self.result.values(name)[self.order].mean(axis=1)
                found.append(Column(_words(name), means.tolist(), said=False, title="mean over the seeds"))
        found.append(Column("seeds", [row["seeds"] for row in rows], said=False))
        found.append(Column("diverged", [row["diverged"] for row in rows], said=False, title="with how many seeds"))
        pruned = [row["pruned_at"] if row["pruned_at"] >= 0 else None for row in rows]
        found.append(Column("pruned at", pruned, said=any(self.pruned), title="the step"))
        return [*found, Column("setting", [row["setting"] for row in rows], said=False, title="its index")]

    # --- curves ------------------------------------------------------------------------------------------------------

    def schedules(self) -> list[Panel]:
        found = []
        for name, column in self.places.items():
            label = _words(name) or "learning rate"
            drawn = _drawn(label, column, self.result.steps, self.places_points)
            extremes = np.array([_extremes(curve.values) for curve in drawn])
            low, high, log = _limits(extremes, ~self.lost & np.isfinite(extremes[:, 0]), _top)
            says = self.schedule_says(label, column)
            x, y = [curve.steps for curve in drawn], [curve.values for curve in drawn]
            found.append(Panel(label, x, y, low, high, log, says))
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

    def curves(self) -> list[Panel]:
        edges = _edges(self.result, self.points)
        if not len(edges):
            return []
        found = []
        for name in self.logged:
            x = self.result.metrics[name][self.order].astype(np.float64)
            pick = _means if name.startswith("train_") else _last
            # NaN, which is not drawn, from where any seed diverged.
            with np.errstate(invalid="ignore"):
                values = pick(x.mean(axis=1), edges)
            loss = name.endswith("loss")
            # What explodes and stays finite does not choose the view either.
            seen = np.where(values <= ceiling(values[~self.lost]), values, np.nan) if loss else values
            low, high, log = _limits(seen, ~self.lost, _bottom if loss else None)
            other = _beside(name, self.logged)
            says = self.curve_says(name, other is not None)
            found.append(Panel(_words(name), ends(self.result)[edges], values, low, high, log, says, other))
        return found

    def curve_says(self, name: str, beside: bool) -> str:
        count, what = len(self.rows), _words(name)
        mean = ", mean over the seeds" if self.values.shape[1] > 1 else ""
        stop = (
            " A curve ends where a seed diverged or the setting was pruned." if (self.lost | self.pruned).any() else ""
        )
        dashes = ""
        if beside:
            dashes = " Dashes: " + ("training" if name.startswith("valid_") else "validation") + ", of what is lit."
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

    def axes(self) -> list[Axis]:
        """What differs, an axis each, and the metric as the last; none if nothing differs."""
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

    def parallel_says(self, axes: Sequence[Axis]) -> str:
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
        return f"{text} Draw along an axis to keep the settings in a stretch of it, and click on the axis to let go."

    # --- seeds -------------------------------------------------------------------------------------------------------

    def spread(self) -> Spread | None:
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
                says += (
                    f" {near} of the {count - 1} below it have a seed that beats its mean."
                    if near
                    else (f" No seed of the {count - 1} below it beats its mean.")
                )
        log = self.metric.endswith("loss") and bool((values > 0).all()) and values.max() > _DECADES * values.min()
        return Spread(self.words, values.tolist(), means.tolist(), bool(log), says)

    # --- what was lost and what was spared ---------------------------------------------------------------------------

    def diverged(self) -> Table | None:
        ranks = np.flatnonzero((self.diverged_at >= 0).any(axis=1))
        if not len(ranks):
            return None
        first = np.where(self.diverged_at >= 0, self.diverged_at.astype(np.int64), self.result.steps).min(axis=1)
        rows = []
        for rank in sorted(ranks.tolist(), key=lambda r: (first[r], r))[:_ROWS]:
            at = self.diverged_at[rank]
            hit = np.flatnonzero(at >= 0)
            seeds = ", ".join(f"{self.result.seeds[j]} at {at[j]:,}" for j in hit[:8].tolist())
            more = f" and {len(hit) - 8} more" if len(hit) > 8 else ""
            share = f"{len(hit)} of {len(at)}"
            rows.append([f"{rank + 1:,}", f"{first[rank]:,}", share, seeds + more, cut(repr(self.settings[rank]), 400)])
        heads = ["rank", "first step", "seeds", "seed at step", "setting"]
        return Table("What diverged, the earliest first", heads, rows, frozenset({0, 1}))

    def diverged_says(self) -> str:
        hit = self.diverged_at >= 0
        settings, trainings = int(hit.any(axis=1).sum()), int(hit.sum())
        if not settings:
            odd = int(self.lost.sum())
            return (
                f"No loss left the finite numbers, but {self.words} did in {odd:,}." if odd else "No training diverged."
            )
        more = f" The table has the first {_ROWS}." if settings > _ROWS else ""
        return (
            f"{settings:,} of {_many(len(hit), 'setting')} diverged with some seed, {trainings:,} of "
            f"{_many(hit.size, 'training')} in all; a step is the first whose loss was not finite.{more}"
        )

    def rungs(self) -> Table | None:
        steps = self.pruned_at[self.pruned_at >= 0]
        if not len(steps):
            return None
        rows, bars = [], []
        for step, count in sorted(Counter(steps.tolist()).items()):
            pruned = (self.pruned_at >= 0) & (self.pruned_at <= step)
            diverged = (self.diverged_at >= 0) & (self.diverged_at < step)
            left = int((~pruned & ~diverged).sum())
            rows.append([f"{step:,}", f"{count:,}", f"{count * (self.result.steps - step):,}", f"{left:,}"])
            bars.append(left / self.pruned_at.size)
        heads = ["rung, a step", "trainings pruned", "steps spared", "trainings left"]
        return Table("What was pruned at each rung", heads, rows, frozenset(range(4)), bars)

    def pruned_says(self) -> str:
        cut = self.pruned_at >= 0
        every = self.pruned_at.size * self.result.steps
        if not cut.any():
            return f"Nothing was pruned: {_many(self.result.steps, 'step')} for every training that did not diverge."
        spared = int((self.result.steps - self.pruned_at[cut].astype(np.int64)).sum())
        text = f"Pruning spared {spared:,} of {every:,} steps, {spared / every:.0%} of what all would have taken."
        done = self.result.run.get("steps_done")
        if isinstance(done, int):
            text += f" {_many(done, 'step')} {'was' if done == 1 else 'were'} done."
        return f"{text} {int(cut.any(axis=1).sum()):,} of {_many(len(cut), 'setting')} were pruned."


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
    return f"{array.item():,}" if array.dtype.kind in "iu" else f"{float(array):.4g}"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def _cell(value: Any) -> Any:
    """A hyperparameter in the ranking: a number, the text of a table, or None."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.ndim:
        return cut(str(array.tolist()), 200)
    return int(array) if array.dtype.kind in "iu" else float(array)


def _base(metric: str) -> str:
    return metric.removeprefix("train_").removeprefix("valid_")


def _beside(name: str, names: Sequence[str]) -> int | None:
    """The place of the same metric in training, or in validation."""
    sides = [f"{side}_{_base(name)}" for side in ("train", "valid")]
    other = next((x for x in sides if x != name and x in names), None)
    return None if other is None or name not in sides else names.index(other)


def _differ(values: Sequence[Any]) -> bool:
    there = [np.asarray(value) for value in values if value is not None]
    return len(there) < len(values) or any(x.shape != there[0].shape or (x != there[0]).any() for x in there)


def _width(values: Sequence[Any]) -> int:
    return max(np.size(value) for value in values if value is not None)


def _place(value: Any, k: int) -> float:
    """The number at place k of a hyperparameter, NaN if there is none."""
    return np.nan if value is None or np.size(value) <= k else float(np.ravel(np.asarray(value))[k])


# --- curves ----------------------------------------------------------------------------------------------------------


def _drawn(label: str, column: Sequence[Any], steps: int, points: int) -> list[Curve]:
    """The curve of each schedule, with its lows, its highs and its jumps, empty for None; `points` each on average."""
    there = [i for i, schedule in enumerate(column) if schedule is not None]
    groups = grouped_settings([column[i] for i in there])
    room, wide = points * len(there), min(_COLUMNS, points * 2 // 5)  # a smooth one has 2 points in each column
    while True:
        found = [Curve(np.zeros(0, np.int64), np.zeros(0))] * len(column)
        for group in groups:
            # Few at once, that every single step is looked at; and not too few, for steps without end.
            n = len(group.index)
            size = min(n, max(1, _LOOKED_AT // steps, -(-n // 16)))
            for start in range(0, n, size):
                index = group.index[start : start + size].tolist()
                part = jax.tree.map(lambda x, at=start, size=size: x[at : at + size], group.settings)
                made = curves("SweepResult", Group(label, part, len(index)), steps, wide)
                for i, curve in zip(index, made, strict=True):
                    found[there[i]] = curve
        total = sum(len(curve.steps) for curve in found)
        if total <= room or wide <= 8:
            return found
        wide = max(8, wide * room // total)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)


def _edges(result: SweepResult, points: int) -> np.ndarray:
    """The last windows of the stretches that a curve is drawn by; a rung ends a stretch."""
    windows = result.steps // result.log_every
    even = np.linspace(0, windows - 1, min(points, windows)).round() if windows else []
    rungs = np.unique(result.pruned_at[result.pruned_at > 0]) // result.log_every - 1
    both = np.unique(np.concatenate([even, rungs])).astype(np.int64)
    return both[(both >= 0) & (both < windows)]


def _stretches(edges: np.ndarray) -> list[slice]:
    return [slice(a + 1, b + 1) for a, b in zip([-1, *edges[:-1].tolist()], edges.tolist(), strict=True)]


def _means(curves: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The mean over each stretch, of what is finite in it: windows of steps make a longer one."""
    columns = []
    for part in _stretches(edges):
        finite = np.isfinite(curves[:, part])
        total = np.where(finite, curves[:, part], 0.0).sum(axis=1)
        columns.append(np.where(finite.any(axis=1), total / np.maximum(finite.sum(axis=1), 1), np.nan))
    return np.stack(columns, axis=1)


def _last(curves: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The last finite value in each stretch."""
    columns = []
    for part in _stretches(edges):
        backwards = curves[:, part][:, ::-1]
        at = np.isfinite(backwards).argmax(axis=1)
        columns.append(backwards[np.arange(len(curves)), at])
    return np.stack(columns, axis=1)


def _top(low: float, high: float, tops: np.ndarray) -> tuple[float, float] | None:
    """Peaks of several powers of ten: on a linear axis the small ones would lie on the ground."""
    if low >= 0 and tops.min() > 0 and tops.max() > _DECADES * tops.min():
        return float(tops.min() / 10), float(tops.max() * 1.6)
    return None


def _bottom(low: float, high: float, tops: np.ndarray) -> tuple[float, float] | None:
    """A loss that falls by much: what the last steps gain is seen too."""
    del tops
    return (low / 1.15, high * 1.15) if 0 < low < high / 4 else None


def _limits(values: np.ndarray, kept: np.ndarray, decades: Any) -> tuple[float, float, bool]:
    """The view of some curves, and whether its axis is one of powers of ten, for which `decades` has the limits.

    What diverged explodes first, and may lie anywhere: it does not choose the view where something else can.
    """
    seen = values[kept] if np.isfinite(values[kept]).any() else values
    seen = seen[np.isfinite(seen).any(axis=1)]
    if not seen.size:
        return 0.0, 1.0, False
    tops = np.where(np.isfinite(seen), seen, -np.inf).max(axis=1)
    low, high = float(np.where(np.isfinite(seen), seen, np.inf).min()), float(tops.max())
    limits = decades(low, high, tops) if decades is not None else None
    if limits is not None:
        return *limits, True
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room, False


# --- axes ------------------------------------------------------------------------------------------------------------


def _number_axis(label: str, numbers: np.ndarray, missing: str = "none") -> Axis:
    """Numbers as heights from 0 to 1, on a scale of powers of ten if they are spread so."""
    finite = np.isfinite(numbers)
    there = numbers[finite]
    if not len(there):
        return Axis(label, np.full(len(numbers), _BELOW), [(_BELOW, missing)])
    low, high = there.min(), there.max()
    log = low > 0 and high > _DECADES * low
    a, b = (np.log(low), np.log(high)) if log else (low, high)

    def height(x: np.ndarray) -> np.ndarray:
        place = np.log(x) if log else x
        return (place - a) / (b - a) if b > a else np.full(np.shape(x), 0.5)

    values = np.unique(there)
    if len(values) > _FEW:
        values = _round_numbers(float(low), float(high), bool(log))
    heights = np.full(len(numbers), _BELOW)
    heights[finite] = height(there)
    ticks = [(float(y), f"{x:.3g}") for x, y in zip(values.tolist(), height(values).tolist(), strict=True)]
    return Axis(label, heights, ticks if finite.all() else [(_BELOW, missing), *ticks])


def _round_numbers(low: float, high: float, log: bool) -> np.ndarray:
    """Some round numbers from `low` to `high`: powers of ten, or steps of 1, 2 or 5 times one."""
    if log:
        powers = np.arange(np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9) + 1)
        return 10.0 ** powers[:: len(powers) // 6 + 1]  # _DECADES has one at least
    rough = (high - low) / 4
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * min((1, 2, 5, 10), key=lambda factor: abs(factor * unit - rough))
    return step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) + 0.0  # and no -0


def _names_axis(label: str, names: Sequence[str]) -> Axis:
    """Names as heights from 0 to 1, in their order."""
    known = sorted(set(names))
    at = {name: i / (len(known) - 1) for i, name in enumerate(known)}
    ticks = [(y, cut(name, 100)) for name, y in at.items()]
    return Axis(label, np.array([at[name] for name in names]), ticks)
