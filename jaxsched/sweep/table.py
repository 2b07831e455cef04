"""What a run writes down of its trainings on the way: a row for each."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np


class Table:
    """The curves and the marks of all trainings; a training is a pair of a setting and a seed.

    Fields:
      metrics: by name, (pairs, windows), NaN where nothing was measured.
      final: by name, (pairs,), the last measurement of each.
      diverged_at, pruned_at: (pairs,), as in `SweepResult`.
      reached: (pairs,), the updates that each has done.
    """

    def __init__(self, names: tuple[str, ...], pairs: int, steps: int, log_every: int) -> None:
        kind = np.dtype(jnp.result_type(float))
        self.log_every = log_every
        self.metrics = {name: np.full((pairs, steps // log_every), np.nan, kind) for name in names}
        self.final = {name: np.full(pairs, np.nan, kind) for name in names}
        self.diverged_at = np.full(pairs, -1, np.int32)
        self.pruned_at = np.full(pairs, -1, np.int32)
        self.reached = np.zeros(pairs, np.int64)

    @property
    def out(self) -> np.ndarray:
        """True for the trainings that go no further."""
        return (self.diverged_at >= 0) | (self.pruned_at >= 0)

    def measured(self, pairs: np.ndarray, t: int, metrics: dict[str, np.ndarray], diverged_at: np.ndarray) -> None:
        """Writes down a measurement after `t` steps."""
        self.diverged_at[pairs] = diverged_at
        for name, values in metrics.items():
            self.final[name][pairs] = values
            if t % self.log_every == 0:
                self.metrics[name][pairs, t // self.log_every - 1] = values

    def at(self, metric: str, step: int) -> np.ndarray:
        """A metric after `step` steps, NaN for trainings that are out."""
        return np.where(self.out, np.nan, self.metrics[metric][:, step // self.log_every - 1]).astype(np.float64)

    def tree(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        marks = {name: getattr(self, name) for name in ("diverged_at", "pruned_at", "reached")}
        return {"marks": marks, "metrics": self.metrics, "final": self.final}

    def rows(self, pairs: np.ndarray) -> dict[str, Any]:
        """The rows of some trainings, for the other processes."""
        return {
            "pairs": pairs,
            "marks": {name: x[pairs] for name, x in self.tree()["marks"].items()},
            "metrics": {name: x[pairs] for name, x in self.metrics.items()},
            "final": {name: x[pairs] for name, x in self.final.items()},
        }

    def write(self, rows: dict[str, Any]) -> None:
        """Takes over what `tree` or the `rows` of another process hold."""
        pairs = rows.get("pairs", slice(None))
        for name, x in rows["marks"].items():
            getattr(self, name)[pairs] = x
        for name in self.metrics:
            self.metrics[name][pairs], self.final[name][pairs] = rows["metrics"][name], rows["final"][name]
