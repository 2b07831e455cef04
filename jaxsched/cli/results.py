"""The output of `jaxsched sweep`: lint of the settings, the ranking, and the files of results."""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..inspect import Finding, lint
from ..inspect.format import number
from ..schedules import Schedule
from ..schedules.structure import children
from ..sweep import SweepResult, archive
from ..sweep.engine import Plan
from .console import console, print_text, table
from .errors import say
from .reading import TASK_MODULE

if TYPE_CHECKING:
    from rich.table import Table

_FILES = (archive.FILE, "result.json", "result.png", "report.html")
_MOST_CHECKED = 32  # settings that are checked by lint
_MEASURED = ("mean", "std", "seeds", "diverged", "pruned_at", "setting")  # columns that are not hyperparameters


def write_results(result: SweepResult, metric: str, mode: Any, top: int, out: Path, page: bool) -> None:
    """Prints the ranking and the best setting, and writes the files."""
    if _unused_schedule(result):
        say("note: all settings have identical losses: does the task's optimizer use the schedule it is given?")
    screen = console()
    screen.print()
    screen.print(_ranking(result, metric, mode, top))
    try:
        best = f"best: {result.best(metric, mode)!r}"
    except ValueError as error:  # every setting diverged
        best = str(error)
    print_text(f"\n{best}\n")
    old = [path for name in _FILES if (path := out / name).is_file()]
    for path in old:
        path.unlink()  # not all of them would be overwritten
    if old:
        say(f"note: {out} held the results of a finished sweep: replaced")
    say(f"wrote {result.to_json(out / 'result.json')}")
    try:
        say(f"wrote {result.save(out)}: SweepResult.load({_load_arguments(result, out)}) reads it")
    except TypeError as error:  # a setting that is not importable by name; result.json has its numbers
        say(f"no result.npz: {error}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of matplotlib, about a character that the font lacks
            result.plot(out / "result.png", metric, mode)
        say(f"wrote {out / 'result.png'}")
    except ImportError as error:
        say(f"no figure: {error}")
    if page:
        say(f"wrote {result.report(out / 'report.html', metric, mode)}")


def _load_arguments(result: SweepResult, out: Path) -> str:
    """The arguments of `SweepResult.load`; classes of the task file are passed to it."""
    held = jax.tree.leaves(result.settings, is_leaf=lambda x: isinstance(x, Schedule))
    nested = [held, *(children(x) for x in held if isinstance(x, Schedule))]
    own = {type(x).__name__ for one in nested for x in one if type(x).__module__.startswith(TASK_MODULE)}
    return repr(str(out)) + f", known=[{', '.join(sorted(own))}]" * bool(own)


def lint_settings(plan: Plan) -> list[str]:
    """A line for each check of `lint` that gives an error or a warning, with the number of settings it applies to."""
    # Chosen at random, so that they are not aligned with the columns of a grid.
    few = min(plan.settings, _MOST_CHECKED)
    chosen = np.random.default_rng(0).choice(plan.settings, few, replace=False)
    found: dict[str, list[Finding]] = collections.defaultdict(list)
    checked = 0
    for group in plan.groups:
        for k in np.flatnonzero(np.isin(group.index, chosen)).tolist():
            setting = jax.tree.map(lambda x, k=k: x[k], group.settings)
            rate = setting.get("learning_rate") if isinstance(setting, Mapping) else setting
            if not isinstance(rate, Schedule):
                continue
            checked += 1
            with contextlib.suppress(Exception):  # of a schedule class of the user; the training raises it again
                bad = [one for one in lint(rate, plan.steps) if one.severity != "note"]
                for check, first in {one.check: one for one in reversed(bad)}.items():
                    found[check].append(first)
    of = f"{checked} settings" + (f" (sampled from {plan.settings:,})" if plan.settings > _MOST_CHECKED else "")
    lines = []
    for first, *others in found.values():
        where = "" if first.step is None else f"at step {first.step:,} "
        lines.append(f"note: {1 + len(others)} of {of}: {where}{first.message}; {first.suggestion}")
    return lines


def _unused_schedule(result: SweepResult) -> bool:
    """Whether different settings have equal losses in every seed, as if the schedule were not used."""
    if len({repr(setting) for setting in result.settings}) < 2 or (result.diverged_at >= 0).any():
        return False
    curves, ends = result.metrics["train_loss"], result.final["valid_loss"]
    pruned = bool((result.pruned_at >= 0).any())  # curves of different lengths: their common part is compared
    alike = (curves == curves[:1]) | (pruned & ~(np.isfinite(curves) & np.isfinite(curves[:1])))
    return bool(alike.all()) and (pruned or bool((ends == ends[:1]).all()))


def _ranking(result: SweepResult, metric: str, mode: Any, top: int) -> Table:
    """The best settings with the hyperparameters that differ; of several families, these are in one column."""
    rows = result.ranking(metric, mode)
    if "family" in rows[0]:
        rows = [{"settings": _description(row, rows), **{name: row[name] for name in _MEASURED}} for row in rows]
    varied = _varied(rows)
    metrics = [metric, *(name for name in result.final if name.startswith("valid_") and name != metric)]
    spreads = [result.spread(name) for name in metrics]
    pruned = any(row["pruned_at"] >= 0 for row in rows)
    made = table(
        *("rank", *varied, *metrics, "diverged", *["pruned at"] * pruned),
        title=f"best {min(top, len(rows))} of {len(rows)} settings by {metric}, mean ± std over the seeds",
        no_wrap=tuple(result.final),
    )
    for rank, row in enumerate(rows[:top], start=1):
        cells = [str(rank), *(_shown(row[name]) for name in varied)]
        for spread in spreads:
            mean, std = spread["mean"][row["setting"]], np.nan_to_num(spread["std"][row["setting"]])
            cells.append("-" if np.isnan(mean) else f"{number(mean)} ± {number(std)}")
        end = [str(row["pruned_at"]) if row["pruned_at"] >= 0 else ""] * pruned
        made.add_row(*cells, f"{row['diverged']} of {row['seeds']}", *end, style="bold" * (rank == 1))
    return made


def _varied(rows: list[dict[str, Any]]) -> list[str]:
    """The hyperparameters that differ between the rows."""
    names = [name for name in rows[0] if name not in ("family", *_MEASURED)]
    return [name for name in names if len({repr(row[name]) for row in rows}) > 1]


def _description(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The family of a setting and what differs within it, such as `WarmupCosine peak_value=0.3`."""
    varied = _varied([other for other in rows if other["family"] == row["family"]])
    return " ".join([row["family"], *(f"{name}={_shown(row[name])}" for name in varied)])


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, (float, np.floating)) else str(value)
