"""What came out of a sweep: the numbers, the ranking, a file and a figure."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from ..schedules.fields import nearest_name
from ..schedules.stacking import unstack
from .settings import hyperparameters

VERSION = 1
"""Of the form of `to_dict`; it changes when a reader of the older form would misread the newer one."""

Mode: TypeAlias = Literal["min", "max"]
_COLUMNS = ("mean", "std", "seeds", "diverged", "setting")


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """The numbers of a sweep, as numpy arrays on the host.

    Fields:
      metrics: by name (`train_loss`, `valid_loss`, ...), arrays (settings, seeds, steps // log_every): `train_*` is
        the mean over a window of `log_every` steps, `valid_*` the value at its end.
      final: the same at the end of the training, arrays (settings, seeds); NaN where it diverged.
      diverged_at: int32 (settings, seeds), the first step whose loss was not finite (the last step if only the
        parameters after it are not), and -1 where the training did not diverge.
      schedules: the stacked settings; `unstack(result.schedules)[i]` is setting i.
      seeds: the seeds.
      steps, log_every: as given to `sweep`.
      seconds, compile_seconds: the wall time of the trainings and of the compilation.

    Example: see `jaxsched.sweep`.
    """

    metrics: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    diverged_at: np.ndarray
    schedules: Any
    seeds: tuple[int, ...]
    steps: int
    log_every: int
    seconds: float
    compile_seconds: float

    def __repr__(self) -> str:
        settings, seeds = self.diverged_at.shape
        lost = int((self.diverged_at >= 0).sum())
        return (
            f"<SweepResult: {settings} settings x {seeds} seeds, {self.steps} steps each, {lost} diverged, "
            f"{self.seconds:.1f} s; metrics {', '.join(self.final)}>"
        )

    def direction(self, metric: str, mode: Mode | None = None) -> Mode:
        """Whether the smallest or the largest `metric` is best: the smallest loss, and else as `mode` says."""
        if mode is None and metric.endswith("loss"):
            return "min"
        if mode not in ("min", "max"):
            raise ValueError(f"SweepResult: metric={metric!r} and mode={mode!r}; write mode='max' or mode='min'.")
        return mode

    def order(self, metric: str = "valid_loss", mode: Mode | None = None) -> np.ndarray:
        """The indices of the settings, best first: by the mean of the final `metric` over the seeds.

        A setting that diverged with any seed, or whose mean is not finite, comes last. `mode` may be left out for a
        loss, of which the smallest is best; for any other metric write `"max"` or `"min"`.

        Errors: KeyError for a metric that there is not; ValueError for another mode.
        """
        if metric not in self.final:
            raise KeyError(f"SweepResult: metric={metric!r}; {nearest_name(str(metric), self.final)}")
        mode = self.direction(metric, mode)
        means = self.final[metric].mean(axis=1)
        bad = ~np.isfinite(means) | (self.diverged_at >= 0).any(axis=1)
        return np.argsort(np.where(bad, np.inf, means if mode == "min" else -means), kind="stable")

    def best(self, metric: str = "valid_loss", mode: Mode | None = None) -> Any:
        """The winning setting: a plain schedule, or a pytree of them.

        Errors: KeyError for a metric that there is not; ValueError if every setting diverged.
        """
        first = self.ranking(metric, mode)[0]
        if first["diverged"] or not np.isfinite(first["mean"]):
            raise ValueError("SweepResult: every setting diverged with some seed; sweep lower learning rates.")
        return unstack(self.schedules)[first["setting"]]

    def ranking(self, metric: str = "valid_loss", mode: Mode | None = None) -> list[dict[str, Any]]:
        """One row for each setting, best first.

        A row is a dict: the hyperparameters by name (`peak_value`; `learning_rate.peak_value` in a pytree;
        `setting.std` for a field that has the name of another entry), then the
        `mean` and the `std` (of a sample; 0 for one seed) of the final `metric` over the `seeds`, how many of them
        `diverged`, and the index of the `setting`. The mean and the std are NaN if any diverged.
        """
        rows = []
        settings = unstack(self.schedules)
        for i in self.order(metric, mode).tolist():
            values = self.final[metric][i].astype(np.float64)
            rows.append(
                {
                    # A field may have the name of a column: Noise has a std of its own.
                    **{f"setting.{k}" if k in _COLUMNS else k: v for k, v in hyperparameters(settings[i]).items()},
                    "mean": float(values.mean()),
                    "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0 * float(values[0]),
                    "seeds": len(values),
                    "diverged": int((self.diverged_at[i] >= 0).sum()),
                    "setting": i,
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and text, with the `version` of the form; what is not finite is None."""
        return {
            "version": VERSION,
            "steps": self.steps,
            "log_every": self.log_every,
            "seeds": list(self.seeds),
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "settings": [
                {"schedule": repr(setting), "hyperparameters": _plain(hyperparameters(setting))}
                for setting in unstack(self.schedules)
            ],
            "diverged_at": self.diverged_at.tolist(),
            "final": _plain(self.final),
            "metrics": _plain(self.metrics),
        }

    def to_json(self, path: str | pathlib.Path) -> pathlib.Path:
        """Writes `to_dict` to the file `path`, in a folder that is made if need be, and returns the path."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), allow_nan=False) + "\n", encoding="utf-8")
        return path

    def plot(
        self,
        path: str | pathlib.Path | None = None,
        metric: str = "valid_loss",
        mode: Mode | None = None,
    ) -> Any:
        """The schedules beside their loss curves, coloured by rank, with the winner on top.

        Args:
          path: an image file to write too (its ending says the kind), in a folder that is made if need be.
          metric, mode: what the settings are ranked by.

        Returns: a matplotlib figure. A pytree of schedules has a panel for each.
        """
        from .figure import draw  # matplotlib is needed here only

        figure = draw(self, metric, mode)
        if path is not None:
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
        return figure


def _plain(x: Any) -> Any:
    """Lists and Python numbers, with None for what JSON cannot say."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return _plain(np.asarray(x).tolist())
    if isinstance(x, list):
        return [_plain(value) for value in x]
    return None if isinstance(x, float) and not np.isfinite(x) else x
