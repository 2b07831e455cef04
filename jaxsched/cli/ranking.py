"""The ranking of a sweep as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..inspect.format import number
from ..sweep.result import SweepResult
from .console import table

if TYPE_CHECKING:
    from rich.table import Table

_MEASURED = ("mean", "std", "seeds", "diverged", "pruned_at", "setting")
"""The columns of a ranking that are not hyperparameters."""


def table_of(result: SweepResult, metric: str, mode: Any, top: int) -> Table:
    """The best settings with the hyperparameters that differ; of several families, these are in one column."""
    rows = result.ranking(metric, mode)
    if "family" in rows[0]:
        rows = [{"settings": _description(row, rows), **{name: row[name] for name in _MEASURED}} for row in rows]
    varied = _varied(rows)
    metrics = [metric, *(name for name in result.final if name.startswith("valid_") and name != metric)]
    pruned = any(row["pruned_at"] >= 0 for row in rows)
    made = table(
        *("rank", *varied, *metrics, "diverged", *["pruned at"] * pruned),
        title=f"best {min(top, len(rows))} of {len(rows)} settings by {metric}, mean ± std over the seeds",
        no_wrap=tuple(result.final),
    )
    for rank, row in enumerate(rows[:top], start=1):
        cells = [str(rank), *(_shown(row[name]) for name in varied)]
        cells += [_mean_and_std(result, name, row["setting"]) for name in metrics]
        cells.append(f"{row['diverged']} of {row['seeds']}")
        if pruned:
            cells.append(str(row["pruned_at"]) if row["pruned_at"] >= 0 else "")
        made.add_row(*cells, style="bold" * (rank == 1))
    return made


def _varied(rows: list[dict[str, Any]]) -> list[str]:
    """The hyperparameters that differ between the rows."""
    names = [name for name in rows[0] if name not in ("family", *_MEASURED)]
    return [name for name in names if len({repr(row[name]) for row in rows}) > 1]


def _description(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The family of a setting and what differs within it, such as `WarmupCosine peak_value=0.3`."""
    varied = _varied([row, *(other for other in rows if other["family"] == row["family"])])
    return " ".join([row["family"], *(f"{name}={_shown(row[name])}" for name in varied)])


def _mean_and_std(result: SweepResult, name: str, setting: int) -> str:
    """The mean and the standard deviation of a metric over the seeds; a dash if any seed diverged."""
    values = result.final[name][setting].astype(float)
    if (result.diverged_at[setting] >= 0).any():
        return "-"
    return f"{number(values.mean())} ± {number(values.std(ddof=1) if len(values) > 1 else 0.0)}"


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, (float, np.floating)) else str(value)
