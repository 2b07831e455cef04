"""What a search for a learning rate saw, what it suggests, and what to be careful of."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, Literal

import numpy as np

from ..sweep.result import SweepResult, plain
from .figure import draw
from .suggest import DROPPED, Suggestion

VERSION = 1
"""Of the form of `FinderResult.to_dict`."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FinderResult:
    """What `find_lr` saw and what it suggests, as numpy arrays on the host.

    Fields:
      mode: "range" or "grid".
      lrs: float64 (n,), rising: in a range test the rate of each step, in a grid the constant rates.
      losses: (seeds, n). In a range test the loss of the batch of each step, before the update at that rate, NaN after
        the seed has stopped; in a grid the training loss at the end (the mean over its last window), NaN where it is
        not finite.
      suggestions: by name, a `Suggestion` each: "valley", "steep", "minimum" and "slide" of a range test (see
        `suggest`), "best" and "largest" of a grid (see `find_lr`).
      seeds: the seeds, in the order of the rows.
      steps: as asked for.
      steps_done: the steps that were computed: of a range test by the program, which ends as soon as all seeds have
        stopped; of a grid by all trainings together.
      seconds, compile_seconds: the wall time of the trainings and of the compilation.
      smoothed: (seeds, n), of a range test: the moving average of `losses` that is judged. Of a grid: None.
      stopped_at: int32 (seeds,), of a range test: the step at which the smoothed loss was above the limit or not
        finite, -1 for a seed that went to the end. Of a grid: None.
      valid_losses: (seeds, n), of a grid: the validation loss at the end, NaN where it is not finite. Else None.
      untrained: (seeds,), of a grid: the validation loss before any step. Else None.
      diverged: bool (seeds, n), of a grid: whether the loss was not finite, or ended above the limit. Else None.
      within: of a grid, the smallest and the largest rate of those around the best whose mean validation loss is
        within a standard deviation (over the seeds, at the best rate) of the best. Else None.
      sweep: of a grid, the `SweepResult`, with the curves and everything else. Else None.

    Example: see `find_lr`.
    """

    mode: Literal["range", "grid"]
    lrs: np.ndarray
    losses: np.ndarray
    suggestions: dict[str, Suggestion]
    seeds: tuple[int, ...]
    steps: int
    steps_done: int
    seconds: float
    compile_seconds: float
    smoothed: np.ndarray | None = None
    stopped_at: np.ndarray | None = None
    valid_losses: np.ndarray | None = None
    untrained: np.ndarray | None = None
    diverged: np.ndarray | None = None
    within: tuple[float, float] | None = None
    sweep: SweepResult | None = None

    def __repr__(self) -> str:
        rates = ", ".join(f"{name} {s.lr:.3g}" if s.found else f"no {name}" for name, s in self.suggestions.items())
        return f"<FinderResult: {self._title()}, {self.steps_done} steps done; {rates}>"

    def __str__(self) -> str:
        """What was tried, what it suggests with the spread over the seeds, and what to be careful of, in words."""
        width, title = max(map(len, self.suggestions)), self._title()
        lines = [f"  {name:<{width}}  {suggestion}" for name, suggestion in self.suggestions.items()]
        return "\n".join([f"{title[0].upper()}{title[1:]}", *lines, *self.remarks()])

    def _title(self) -> str:
        kind = "range test" if self.mode == "range" else f"grid of {self.steps} steps"
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        return f"{kind} of {len(self.lrs)} rates from {self.lrs[0]:g} to {self.lrs[-1]:g} with {seeds}"

    def remarks(self) -> list[str]:
        """What to be careful of, a sentence each: where the test ended, and whether it looked far enough."""
        return _on_range(self) if self.mode == "range" else _on_grid(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but `sweep` as plain lists, numbers and text, with the `version` of the form; what is not finite
        is None."""
        skipped = ("suggestions", "sweep")
        fields = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in skipped}
        suggestions = {name: suggestion.to_dict() for name, suggestion in self.suggestions.items()}
        return {"version": VERSION, **fields, "suggestions": suggestions, "remarks": self.remarks()}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The loss over the rates: thin for each seed, thick for their median, and the suggestions with their spread.

        A range test shows the smoothed losses. A grid shows the validation loss at the end of each constant rate, with
        a cross at the top where a seed diverged. What explodes does not choose the limits of the axis.

        Args:
          path: an image file to write too (its ending says the kind), in a folder that is made if need be.

        Returns: a matplotlib figure.

        Errors: ImportError without matplotlib.
        """
        figure = draw(self)
        if path is not None:
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
        return figure


def _on_range(result: FinderResult) -> list[str]:
    assert result.smoothed is not None
    assert result.stopped_at is not None
    stopped, lrs, n = result.stopped_at, result.lrs, len(result.seeds)
    ended = np.flatnonzero(stopped >= 0)
    broken = ended[~np.isfinite(result.smoothed[ended, stopped[ended]])]
    said = ["No seed stopped before the end."]
    if len(ended):
        first, last = stopped[ended].min(), stopped[ended].max()
        where = f"step {first} (rate {lrs[first]:.3g})"
        if first < last:
            where = f"steps {first} to {last} (rates {lrs[first]:.3g} to {lrs[last]:.3g})"
        said = [f"{'All seeds' if len(ended) == n else f'{len(ended)} of {n} seeds'} stopped at {where}."]
    if len(broken) == n and not stopped.any():
        said.append("The loss is not finite at the very first step: no rate has touched it; look at the task itself.")
    elif len(broken):
        said.append(f"The loss of {len(broken)} of {n} seeds was not finite when they stopped.")
    falling = int((np.argmin(result.smoothed[stopped < 0], axis=1) >= len(lrs) - DROPPED).sum())
    if falling:
        said.append(f"The loss of {falling} of {n} seeds still falls at the end: write a max_lr above {lrs[-1]:g}.")
    return said


def _on_grid(result: FinderResult) -> list[str]:
    assert result.diverged is not None
    best, (n, rates) = result.suggestions["best"], result.diverged.shape
    lost = int(result.diverged.any(axis=0).sum())
    said = [f"{lost} of {rates} rates diverged with some seed."] if lost else []
    if result.within is None:
        return said
    low, high = result.within
    if n > 1:
        near = f"Rates from {low:.3g} to {high:.3g} are" if low < high else "No other rate is"
        said.append(f"{near} within a standard deviation of the best.")
    if best.lr == result.lrs[0]:
        said.append(f"The best is the smallest rate: write a min_lr below {best.lr:g}.")
    if best.lr == result.lrs[-1]:
        said.append(f"The best is the largest rate: write a max_lr above {best.lr:g}.")
    return said
