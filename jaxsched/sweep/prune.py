"""Pruning: which settings are worth the rest of their steps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from .._errors import format_value


class Pruner(Protocol):
    """What `sweep(prune=...)` takes: it looks at a metric at some steps, the rungs, and says who goes on."""

    @property
    def metric(self) -> str:
        """The metric of the task that it looks at."""
        ...

    def at(self, steps: int, log_every: int) -> tuple[int, ...]:
        """The steps after which it looks: rising multiples of `log_every` below `steps`."""
        ...

    def choose(self, step: int, values: np.ndarray) -> np.ndarray:
        """True for the settings that go on; `values` (settings,) are means over the seeds at this step, NaN for a
        setting that diverged with any seed or was dropped before."""
        ...


@dataclasses.dataclass(frozen=True)
class successive_halving:  # in lower case: it is written like a function and printed as it is written
    """At every rung the best part of the settings goes on and the others stop.

    n settings become `ceil(keep n)` at the first rung, `ceil(keep ceil(keep n))` at the second, and so on. With the
    default rungs and `keep=1/3` a sweep costs 7/27 (26 %) of one without pruning: all settings take 1/9 of the steps,
    a third of them 1/3, and a ninth all.

    Fields:
      rungs: the steps after which the settings are judged, rising multiples of `log_every` below `steps`; None:
        `keep**2 * steps` and `keep * steps`, each at the nearest end of a window.
      keep: the part that goes on, above 0 and below 1.
      metric: what they are judged by, as the mean over the seeds.
      mode: `"min"` or `"max"`; None is `"min"` for a loss.

    Errors: ValueError for rungs that do not rise or are not at the end of a window, for `keep` outside of 0 to 1, and
    for a metric that is not a loss without a mode.

    Example:
      >>> import numpy as np
      >>> from jaxsched.sweep import successive_halving
      >>> halving = successive_halving(keep=1 / 3)
      >>> halving.at(steps=900, log_every=50)
      (100, 300)
      >>> halving.choose(100, np.array([0.5, np.nan, 0.1, 0.2, 0.3])).tolist()
      [False, False, True, True, False]

    Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016.
    """

    rungs: Sequence[int] | None = None
    keep: float = 1 / 3
    metric: str = "valid_loss"
    mode: Literal["min", "max"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise TypeError(
                f"successive_halving: metric={format_value(self.metric)}; metric must be a name: 'valid_loss'."
            )
        if self.mode not in ("min", "max") and not (self.mode is None and self.metric.endswith("loss")):
            raise ValueError(
                f"successive_halving: metric={self.metric!r} and mode={self.mode!r}; write mode='max' or mode='min'."
            )
        if isinstance(self.keep, bool) or not isinstance(self.keep, (int, float, np.floating)) or not 0 < self.keep < 1:
            raise ValueError(
                f"successive_halving: keep={format_value(self.keep)}; keep must be above 0 and below 1: 1/3."
            )
        if self.rungs is not None:
            if isinstance(self.rungs, (str, int, float)):
                raise TypeError(
                    f"successive_halving: rungs={format_value(self.rungs)}; write steps such as rungs=(100, 300)."
                )
            rungs = list(self.rungs)
            if not rungs or any(isinstance(r, bool) or not isinstance(r, (int, np.integer)) or r < 1 for r in rungs):
                raise ValueError(
                    f"successive_halving: rungs={format_value(self.rungs)}; write steps such as rungs=(100, 300)."
                )
            if any(a >= b for a, b in itertools.pairwise(rungs)):
                raise ValueError(f"successive_halving: rungs={format_value(self.rungs)}; they must rise.")

    def at(self, steps: int, log_every: int) -> tuple[int, ...]:
        """The rungs of a sweep of so many steps."""
        if self.rungs is None:
            ends = {round(steps * self.keep**k / log_every) * log_every for k in (1, 2)}
            rungs = tuple(sorted(end for end in ends if 0 < end < steps))
            if not rungs:
                raise ValueError(
                    f"successive_halving: steps={steps} and log_every={log_every} leave no rung; write a log_every of "
                    f"{max(1, int(steps * self.keep**2))} or less."
                )
            return rungs
        for rung in self.rungs:
            if rung % log_every or rung >= steps:
                raise ValueError(
                    f"successive_halving: rungs={format_value(self.rungs)}; a rung must be a multiple of "
                    f"log_every={log_every} below steps={steps}."
                )
        return tuple(int(rung) for rung in self.rungs)

    def choose(self, step: int, values: np.ndarray) -> np.ndarray:
        """Which settings go on, by their values at a rung."""
        del step  # the rung does not matter
        alive = np.isfinite(values)
        order = np.argsort(np.where(alive, values if self.mode != "max" else -values, np.inf), kind="stable")
        going = np.zeros(len(values), bool)
        going[order[: math.ceil(self.keep * alive.sum())]] = True
        return going & alive
