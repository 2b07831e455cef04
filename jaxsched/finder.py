"""The learning-rate range test, and the honest version of it: many constant rates side by side.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxsched.finder import find_lr
>>> from jaxsched.sweep import Task
>>> x = jnp.linspace(-1.0, 1.0, 40)
>>> task = Task(
...     init=lambda key: jax.random.normal(key),
...     loss=lambda slope, batch, key: (jnp.mean((slope * batch[0] - batch[1]) ** 2), {}),
...     train=(x, 2 * x), valid=(x, 2 * x), batch_size=40, optimizer=optax.sgd,
... )
>>> result = find_lr(task, min_lr=1e-3, max_lr=1e3, steps=60, seeds=3)
>>> result
<FinderResult: range test of 60 rates from 0.001 to 1000 with 3 seeds, 45 steps done; valley 0.137, steep 0.349, \
minimum 0.925, slide 0.137>
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .schedules.base import Constant
from .schedules.fields import nearest_name, shown
from .schedules.ramps import Exponential
from .sweep.data import Feed
from .sweep.engine import Plan, Progress, sweep
from .sweep.result import SweepResult
from .sweep.run import Status
from .sweep.task import Task
from .sweep.training import Carry, Data, Training

_SEGMENT = 50
"""Steps between two looks of the host: Ctrl-C waits no longer."""

_SEGMENT_BYTES = 64 * 2**20
"""The batches from the host for one segment, or the orders of the examples, take no more than this, if they can."""

_DROPPED = 5
"""Points at the end of a range test that no suggestion looks at: there the loss explodes."""

_DUST = 1e-5
"""A fall of less than this share of the loss is the rounding of a smoothed loss that does not move."""

_FEWEST = 8
"""Steps of a range test: without the first tenth and the last 5 points 3 are left."""

VERSION = 1
"""Of the form of `FinderResult.to_dict`."""


# --- what comes out --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Suggestion:
    """A learning rate, and how far the seeds agree on it.

    Fields:
      lr: the median over the seeds that have one (on a scale of powers of ten); NaN if none has.
      low, high: the smallest and the largest over the seeds; NaN if none has one.
      seeds: float64 (seeds,), the rate that each seed suggests, NaN where it suggests none.
      why: why seeds suggest none, in words; "" if all do.

    Example: see `suggest`.
    """

    lr: float
    low: float
    high: float
    seeds: np.ndarray
    why: str = ""

    @property
    def found(self) -> bool:
        """Whether any seed suggests a rate."""
        return math.isfinite(self.lr)

    def __float__(self) -> float:
        return self.lr

    def __str__(self) -> str:
        if not self.found:
            return f"none: {self.why}"
        several = f" ({self.low:.3g} to {self.high:.3g} over {len(self.seeds)} seeds)" if len(self.seeds) > 1 else ""
        return f"{self.lr:.3g}{several}{f'; {self.why}' if self.why else ''}"

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain numbers and text; None for a rate that there is not."""
        return {name: _plain(getattr(self, name)) for name in ("lr", "low", "high", "seeds", "why")}


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
        width = max(map(len, self.suggestions))
        lines = [f"{self._title()[0].upper()}{self._title()[1:]}"]
        lines += [f"  {name:<{width}}  {suggestion}" for name, suggestion in self.suggestions.items()]
        return "\n".join([*lines, *self.remarks()])

    def _title(self) -> str:
        kind = "range test" if self.mode == "range" else f"grid of {self.steps} steps"
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        return f"{kind} of {len(self.lrs)} rates from {self.lrs[0]:g} to {self.lrs[-1]:g} with {seeds}"

    def suggestion(self, name: str) -> Suggestion:
        """The `Suggestion` of that name.

        Errors: KeyError for a name that there is not.
        """
        if name not in self.suggestions:
            raise KeyError(f"FinderResult: name={shown(name)}; {nearest_name(str(name), self.suggestions)}")
        return self.suggestions[name]

    def remarks(self) -> list[str]:
        """What to be careful of, a sentence each: where the test ended, and whether it looked far enough."""
        return _remarks_on_range(self) if self.mode == "range" else _remarks_on_grid(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but `sweep` as plain lists, numbers and text, with the `version` of the form; what is not finite
        is None."""
        skipped = ("suggestions", "sweep")
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in skipped}
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
        figure = _draw(self)
        if path is not None:
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
        return figure


def _remarks_on_range(result: FinderResult) -> list[str]:
    assert result.smoothed is not None
    assert result.stopped_at is not None
    stopped, n = result.stopped_at, len(result.seeds)
    ended = stopped[stopped >= 0]
    broken = [i for i, t in enumerate(stopped.tolist()) if t >= 0 and not np.isfinite(result.smoothed[i, t])]
    said = []
    if not len(ended):
        said.append("No seed stopped before the end.")
    else:
        who = "All seeds" if len(ended) == n else f"{len(ended)} of {n} seeds"
        first, last = result.lrs[ended.min()], result.lrs[ended.max()]
        where = f"step {ended.min()} (rate {first:.3g})"
        if ended.min() < ended.max():
            where = f"steps {ended.min()} to {ended.max()} (rates {first:.3g} to {last:.3g})"
        said.append(f"{who} stopped at {where}.")
    if broken and (stopped[broken] == 0).all() and len(broken) == n:
        said.append("The loss is not finite at the very first step: no rate has touched it; look at the task itself.")
    elif broken:
        said.append(f"The loss of {len(broken)} of {n} seeds was not finite when they stopped.")
    falling = [i for i in np.flatnonzero(stopped < 0) if np.argmin(result.smoothed[i]) >= len(result.lrs) - _DROPPED]
    if falling:
        who = f"{len(falling)} of {n} seeds"
        said.append(f"The loss of {who} still falls at the end: write a max_lr above {result.lrs[-1]:g}.")
    return said


def _remarks_on_grid(result: FinderResult) -> list[str]:
    assert result.diverged is not None
    best, (n, rates) = result.suggestions["best"], result.diverged.shape
    said = []
    lost = int(result.diverged.any(axis=0).sum())
    if lost:
        said.append(f"{lost} of {rates} rates diverged with some seed.")
    if best.found and result.within is not None:
        low, high = result.within
        if n > 1:
            near = f"Rates from {low:.3g} to {high:.3g} are" if low < high else "No other rate is"
            said.append(f"{near} within a standard deviation of the best.")
        if best.lr == result.lrs[0]:
            said.append(f"The best is the smallest rate: write a min_lr below {best.lr:g}.")
        if best.lr == result.lrs[-1]:
            said.append(f"The best is the largest rate: write a max_lr above {best.lr:g}.")
    return said


def _plain(x: Any) -> Any:
    """Lists and Python numbers, with None for what JSON cannot say."""
    if isinstance(x, (np.ndarray, np.generic)):
        return _plain(x.tolist())
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


# --- what a curve suggests -------------------------------------------------------------------------------------------


class _NoRateError(Exception):
    """A curve suggests no rate; its text says why."""


def _valley(lrs: np.ndarray, losses: np.ndarray) -> float:
    # The last losses of the longest falling subsequences of each length, negated: they rise.
    ends: list[float] = []
    lengths = []
    for x in (-losses).tolist():
        place = bisect.bisect_left(ends, x)
        ends[place : place + 1] = [x]
        lengths.append(place + 1)
    end, length = int(np.argmax(lengths)), max(lengths)
    third = length / 3
    at = end - length + int(third) + int(third / 2)
    if at < 0:
        raise _NoRateError("too few points")
    return float(lrs[at])


def _steep(lrs: np.ndarray, losses: np.ndarray) -> float:
    if len(losses) < 2:
        raise _NoRateError("too few points")
    return float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))])


def _minimum(lrs: np.ndarray, losses: np.ndarray) -> float:
    at = int(np.argmin(losses))
    if at == 0:
        raise _NoRateError("the loss is lowest at the first rate")
    return float(lrs[at]) / 10


def _slide(lrs: np.ndarray, losses: np.ndarray, gap: int = 15, threshold: float = 0.005) -> float:
    if len(losses) <= gap:
        raise _NoRateError("too few points")
    slopes = np.gradient(losses)
    bent = np.abs(slopes[gap:] - slopes[:-gap]) > threshold
    # How many windows in a row, from the end of the curve on, have slopes that differ at their two sides.
    slides = len(bent) if bent.all() else int(np.argmin(bent[::-1]))
    return float(lrs[len(bent) - max(slides, 1)])


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "valley": _valley,
    "steep": _steep,
    "minimum": _minimum,
    "slide": _slide,
}


def suggest(lrs: Any, losses: Any, method: str = "valley", *, trim: bool = True) -> Suggestion:
    """The learning rate that the curve of a range test suggests, by one of four methods.

    With `x_i` the losses and `r_i` the rates that are looked at, i = 0, 1, ... n - 1:

    - "valley": in the longest falling subsequence of the losses. It has `m` losses, and the last of them, the first
      that any so long one ends with, is `x_e`: the rate is `r_k`, `k = e - m + floor(m / 3) + floor(m / 6)`, about
      halfway down. Robust to noise, since it needs no slope; a good first choice.
    - "steep": `r_k` with the smallest slope, `k = argmin (x_{i+1} - x_i) / (log r_{i+1} - log r_i)`.
    - "minimum": `r_k / 10`, `k = argmin x_i`. The loss is lowest just before it explodes, so a tenth of that.
    - "slide": a window of 16 points slides down from the end of the curve for as long as the slopes at its two sides
      differ by more than 0.005 a step; the rate at its left side where it comes to rest, the edge before the
      explosion. It is the only one that depends on the scale of the loss. Of a long test it is the largest, a limit
      more than a choice; in a short or a noisy one it slides too far.

    Args:
      lrs: the rates of the whole test, rising, above 0.
      losses: the (smoothed) losses at these rates from the first on, fewer if the test stopped early; or a list of
        such curves (or an array with a row for each), one for each seed.
      method: "valley", "steep", "minimum" or "slide".
      trim: whether the first tenth of the test and the last 5 points of the curve are left out, as `find_lr` does:
        the first are not moved by so small rates yet, the last explode. Either way a curve ends where it is not
        finite.

    Returns: a `Suggestion`. A curve that never falls, or that has too few points, suggests none: NaN, and `why`.

    Errors: ValueError for an unknown method, for rates that do not rise, and for more losses than rates.

    Example:
      >>> import numpy as np
      >>> from jaxsched.finder import suggest
      >>> lrs = np.geomspace(1e-6, 1.0, 100)
      >>> losses = 2.0 / (1.0 + lrs / 1e-3) + 3.0 * lrs
      >>> suggest(lrs, losses, "valley")
      0.000266
      >>> suggest(lrs, [losses, losses + 6.0 * lrs, losses - lrs], "minimum")
      0.00266 (0.00132 to 0.00305 over 3 seeds)
      >>> suggest(lrs, np.ones(100), "steep")
      none: the loss never falls

    Source: fastai's `Learner.lr_find` with `SuggestionMethod` (valley, steep, minimum, slide): the same numbers where
    a curve suggests anything.
    """
    if method not in METHODS:
        raise ValueError(f"suggest: method={shown(method)}; {nearest_name(str(method), METHODS)}")
    lrs = np.asarray(lrs)
    if lrs.ndim != 1 or not (lrs > 0).all() or not (np.diff(lrs) > 0).all():
        raise ValueError(f"suggest: lrs={shown(lrs)}; lrs must be a list of rising rates above 0.")
    rates, whys = [], []
    for curve in _curves(losses):
        if len(curve) > len(lrs):
            raise ValueError(f"suggest: {len(curve)} losses and {len(lrs)} lrs; there must be a rate for each loss.")
        try:
            rates.append(METHODS[method](*_kept(lrs, curve, trim)))
        except _NoRateError as error:
            rates.append(math.nan)
            whys.append(str(error))
    return _spread(rates, whys)


def _curves(losses: Any) -> list[np.ndarray]:
    """One curve, or several of any lengths, as float arrays."""
    rows = [losses] if np.ndim(losses[0] if len(losses) else 0.0) == 0 else list(losses)
    arrays = [np.asarray(row) for row in rows]
    for array in arrays:
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise ValueError(f"suggest: losses={shown(losses)}; losses must be a list of numbers, or several of them.")
    return [x if x.dtype.kind == "f" else x.astype(np.float64) for x in arrays]


def _kept(lrs: np.ndarray, curve: np.ndarray, trim: bool) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve that is looked at."""
    if len(curve) and not np.isfinite(curve[0]):
        raise _NoRateError("the loss is not finite from the start")
    seen = slice(len(lrs) // 10, max(0, len(curve) - _DROPPED)) if trim else slice(None)
    curve, lrs = curve[seen], lrs[: len(curve)][seen]
    finite = len(curve) if np.isfinite(curve).all() else int(np.argmin(np.isfinite(curve)))
    if not finite:
        raise _NoRateError("too few points")
    lrs, curve = lrs[:finite], curve[:finite]
    top = np.maximum.accumulate(curve)
    if finite > 1 and (top - curve <= _DUST * np.abs(top)).all():
        raise _NoRateError("the loss never falls")
    return lrs, curve


def _spread(rates: Sequence[float], whys: Sequence[str], lr: float | None = None) -> Suggestion:
    """The suggestion of seeds that suggest these rates; `lr` if it is not their median."""
    seeds = np.array(rates, np.float64)
    found = np.sort(seeds[np.isfinite(seeds)])
    why = " and ".join(dict.fromkeys(whys))
    if not len(found):
        return Suggestion(math.nan, math.nan, math.nan, seeds, why)
    if whys:
        why = f"{len(whys)} of {len(seeds)} seeds have none: {why}"
    middle = float(found[len(found) // 2])
    if len(found) % 2 == 0:
        middle = math.sqrt(middle) * math.sqrt(found[len(found) // 2 - 1])
    return Suggestion(middle if lr is None else lr, float(found[0]), float(found[-1]), seeds, why)


# --- the search ------------------------------------------------------------------------------------------------------


def find_lr(
    task: Task,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: int = 200,
    seeds: int | Sequence[int] = 8,
    *,
    mode: Literal["range", "grid"] = "range",
    key: int | jax.Array = 0,
    beta: float = 0.98,
    stop_factor: float | None = 4.0,
    rates: int | Sequence[float] | None = None,
    wrap: Callable[[Any], Any] | None = None,
    chunk: int | Literal["auto"] = "auto",
    devices: Any = None,
    progress: Progress | None = None,
) -> FinderResult:
    """Finds a learning rate for `task`: by the range test, or by many constant rates side by side.

    `mode="range"` is the range test: one training, in which the rate rises from `min_lr` to `max_lr` by a constant
    factor at every step, for each seed, all in one compiled program. The rate of step t is
    `min_lr (max_lr / min_lr)^(t / (steps - 1))`, and its loss is that of the batch before the update. The losses are
    smoothed, `v_t = beta v_{t-1} + (1 - beta) loss_t` divided by `1 - beta^{t+1}`. A seed stops when its smoothed loss
    is above `stop_factor` times its smallest so far, or not finite, and the program ends when all have stopped. Then
    `suggest` reads the curves; nothing is validated, so listeners to `valid_*` metrics hear nothing.

    It is cheap, and it can mislead, for at every step it measures a network that all smaller rates have trained before,
    in steps too few to tell: a rate that is too large shows only some steps later, when the test has moved on; momentum
    and Adam's averages lag behind a rate that keeps rising; the smoothing lags too; early instability, which a warmup
    would pass over, ends it; and a rate that is best for so short a time need not be best for a whole training. The
    spread over the seeds tells what is luck, but not these, which all seeds share.

    `mode="grid"` is the honest version: each of `rates` constant rates trains its own networks from the start for
    `steps` steps, side by side in one program, and is judged by the validation loss at the end. It costs as many
    trainings as there are rates, `rates x seeds x steps` updates instead of `seeds x steps`, and a validation in every
    tenth of them. It suggests "best", the rate with the smallest mean over the seeds among those at which no seed
    diverged (its spread is over the best of each seed alone), and "largest", the largest rate at which, and at all
    smaller ones, no seed diverged. A seed has diverged where the loss is not finite, or ends above `stop_factor` times
    the loss of the untrained network. It is still a short training of a constant rate.

    In both modes the trainings are those of `sweep`, with the same keys: seed i alone gives the same curve.

    Args:
      task: a `Task`; its optimizer gets a schedule as the setting. Batches from Python code are shared by all seeds.
      min_lr, max_lr: the smallest and the largest rate, above 0; not used where `rates` is a list.
      steps: of the range test, which are also its rates, 8 or more; of each training of the grid, 1 or more.
      seeds: how many (0, 1, ... n - 1), or a list of different integers, 0 or more.
      mode: "range" or "grid".
      key: an integer or a JAX random key.
      beta: of the range test, the share of the past in the moving average, 0 (no smoothing) or more and below 1.
      stop_factor: above 1; None: a range test stops, and a rate diverges, only by a loss that is not finite. A loss
        `x` below 0 counts as above the limit beyond `x + (stop_factor - 1) |x|`.
      rates: of the grid, how many, spread evenly on a scale of powers of ten (None: 32), or a list of rising rates.
      wrap: makes the setting that the optimizer gets of the schedule, where it is not the schedule alone:
        `wrap=lambda schedule: {"learning_rate": schedule, "weight_decay": Constant(0.01)}`.
      chunk, devices: of the grid, as in `sweep`. A range test runs on one device, all seeds at once.
      progress: called with a `Status` after each segment, or None.

    Returns: a `FinderResult`; `print` it for the answer in words.

    Errors: TypeError and ValueError that name the argument, show its value and say what to write.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxsched.finder import find_lr
      >>> from jaxsched.sweep import Task
      >>> x = jnp.linspace(-1.0, 1.0, 40)
      >>> task = Task(
      ...     init=lambda key: jnp.zeros(()),
      ...     loss=lambda slope, batch, key: (jnp.mean((slope * batch[0] - batch[1]) ** 2), {}),
      ...     train=(x, 2 * x), valid=(x, 2 * x), batch_size=8, optimizer=optax.sgd,
      ... )
      >>> result = find_lr(task, min_lr=1e-2, max_lr=1e2, steps=20, seeds=2, mode="grid", rates=5)
      >>> print(result)
      Grid of 20 steps of 5 rates from 0.01 to 100 with 2 seeds
        best     1 (1 to 1 over 2 seeds)
        largest  1 (1 to 1 over 2 seeds)
      2 of 5 rates diverged with some seed.
      No other rate is within a standard deviation of the best.
      >>> result.losses.shape, result.suggestion("best").lr
      ((2, 5), 1.0)

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (1506.01186); fastai's `Learner.lr_find`,
    whose rate is `start_lr (end_lr / start_lr)^(t / num_it)` and so ends one step short of `end_lr`.
    """
    if not isinstance(task, Task):
        raise TypeError(f"find_lr: task={shown(task)}; task must be a Task(init=..., loss=..., ...).")
    if mode not in ("range", "grid"):
        raise ValueError(f"find_lr: mode={shown(mode)}; {nearest_name(str(mode), ('range', 'grid'))}")
    _check_steps(steps, mode)
    for name, value, of in (("wrap", wrap, "schedule"), ("progress", progress, "Status")):
        if value is not None and not callable(value):
            raise TypeError(f"find_lr: {name}={shown(value)}; {name} must be a function of a {of}, or None.")
    limit = _limit(stop_factor)
    seeds, key = _seeds(seeds, task), _key(key)
    if mode == "grid":
        lrs = _rates(rates, min_lr, max_lr)
        settings = [_wrapped(wrap, Constant(rate)) for rate in lrs.tolist()]
        options = {"log_every": max(1, steps // 10), "chunk": chunk, "devices": devices, "progress": progress}
        return _grid(sweep(task, settings, steps, seeds, key, **options), lrs, _untrained(task, seeds, key), limit)
    if rates is not None:
        raise ValueError(f"find_lr: rates={shown(rates)} in mode='range', which has a rate a step; write mode='grid'.")
    beta = _number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"find_lr: beta={shown(beta)}; beta must be 0 or more and below 1, such as 0.98.")
    schedule = Exponential(*_ends(min_lr, max_lr), steps - 1)
    plan = Plan.make(task, [_wrapped(wrap, schedule)], steps, seeds, key)
    plan._try_optimizers()
    lrs = np.asarray(schedule.table(steps)).astype(np.float64)
    return _range(plan, lrs, beta, limit, progress)


def _number(name: str, value: Any) -> float:
    number = isinstance(value, (int, float, np.number, np.ndarray, jax.Array)) and not isinstance(value, bool)
    if not number or np.ndim(value) or np.asarray(value).dtype.kind == "c":
        raise TypeError(f"find_lr: {name}={shown(value)}; {name} must be a number.")
    return float(value)


def _check_rate(name: str, rate: float) -> None:
    limits = jnp.finfo(jnp.result_type(float))
    if not limits.tiny <= rate <= limits.max:
        raise ValueError(
            f"find_lr: {name}={shown(rate)}; {name} must be a finite number above 0 (from {float(limits.tiny):.2g} to "
            f"{float(limits.max):.2g} for {limits.dtype})."
        )


def _ends(min_lr: Any, max_lr: Any) -> tuple[float, float]:
    low, high = _number("min_lr", min_lr), _number("max_lr", max_lr)
    _check_rate("min_lr", low)
    _check_rate("max_lr", high)
    if low >= high:
        raise ValueError(f"find_lr: min_lr={low} and max_lr={high}; max_lr must be above min_lr.")
    return low, high


def _rates(rates: Any, min_lr: Any, max_lr: Any) -> np.ndarray:
    """The rates of a grid."""
    if rates is None or isinstance(rates, (int, np.integer)):
        count = 32 if rates is None else rates
        if isinstance(rates, bool) or count < 2:
            raise ValueError(f"find_lr: rates={shown(rates)}; rates must be 2 or more, or a list of rates.")
        return np.geomspace(*_ends(min_lr, max_lr), int(count))
    if not isinstance(rates, (list, tuple, np.ndarray, jax.Array)) or not np.ndim(rates) or not len(rates):
        raise TypeError(f"find_lr: rates={shown(rates)}; write how many, such as rates=32, or a list of rates.")
    lrs = np.array([_number(f"rates[{i}]", rate) for i, rate in enumerate(np.asarray(rates).tolist())])
    for i, rate in enumerate(lrs.tolist()):
        _check_rate(f"rates[{i}]", rate)
    if (np.diff(lrs) <= 0).any():
        raise ValueError(f"find_lr: rates={shown(rates)}; write different rates, the smallest first.")
    return lrs


def _check_steps(steps: Any, mode: str) -> None:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"find_lr: steps={shown(steps)}; steps must be an integer, such as 200.")
    least = _FEWEST if mode == "range" else 1
    if not least <= steps < 2**31:
        why = " (the first tenth and the last 5 are not looked at, and a curve must be left)" if mode == "range" else ""
        raise ValueError(f"find_lr: steps={shown(steps)}; steps must be {least} or more, and below 2**31{why}.")


def _limit(stop_factor: Any) -> float:
    factor = math.inf if stop_factor is None else _number("stop_factor", stop_factor)
    if not factor > 1:
        raise ValueError(f"find_lr: stop_factor={shown(stop_factor)}; stop_factor must be above 1, such as 4, or None.")
    return factor


def _seeds(seeds: Any, task: Task) -> tuple[int, ...]:
    listed = isinstance(seeds, (list, tuple, range, np.ndarray))
    values = list(seeds) if listed else [seeds]
    if any(isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) for seed in values):
        raise TypeError(f"find_lr: seeds={shown(seeds)}; seeds must be an integer, or a list of them.")
    if not values or len(set(values)) < len(values) or not all(1 - listed <= seed < 2**31 for seed in values):
        raise ValueError(
            f"find_lr: seeds={shown(seeds)}; write how many, 1 or more, or a list of different integers, 0 or more."
        )
    made = tuple(map(int, seeds)) if listed else tuple(range(int(seeds)))
    if len(made) > 1 and not task.seeded:
        raise ValueError(
            f"find_lr: seeds={shown(seeds)}, but the trainings of this task do not depend on a seed: init and loss use "
            "no key, and the batches are the same for all; write seeds=1."
        )
    return made


def _key(key: Any) -> jax.Array:
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
        return key
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
        raise TypeError(f"find_lr: key={shown(key)}; key must be an integer or jax.random.key(...).")
    return jax.random.key(int(key))


def _keys(key: jax.Array, seeds: tuple[int, ...]) -> jax.Array:
    """The keys of the trainings, as in a sweep."""
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.asarray(seeds, jnp.uint32))


def _wrapped(wrap: Callable[[Any], Any] | None, schedule: Any) -> Any:
    if wrap is None:
        return schedule
    try:
        return wrap(schedule)
    except Exception as error:
        error.add_note(f"find_lr: this came from wrap({schedule!r}).")
        raise


# --- the range test --------------------------------------------------------------------------------------------------


class _State(NamedTuple):
    """A range test between two steps; everything but `t` has a first axis of seeds.

    Fields:
      carry: of the trainings; one that has stopped stands still.
      average, best: the moving average before it is divided, and the smallest smoothed loss.
      losses, smoothed: (seeds, steps), NaN from where a seed has stopped.
      stopped_at: -1 as long as a seed goes on.
      t: the steps done.
    """

    carry: Carry
    average: jax.Array
    best: jax.Array
    losses: jax.Array
    smoothed: jax.Array
    stopped_at: jax.Array
    t: jax.Array


def _range(plan: Plan, lrs: np.ndarray, beta: float, limit: float, progress: Progress | None) -> FinderResult:
    began = time.perf_counter()
    training, length = Training(plan.task), _length(plan)
    # One row of settings: the same for all seeds.
    setting = jax.tree.map(lambda x: jnp.asarray(x[0]), plan.groups[0].settings)
    keys = _keys(plan.key, plan.seeds)
    # In float64: 1 - beta is a small difference.
    shares = jnp.asarray(1 - np.float64(beta) ** np.arange(1, plan.steps + 1), jnp.result_type(float))
    start = jax.jit(functools.partial(_start, training, plan.steps)).lower(setting, keys).compile()
    state, segment = start(setting, keys), None
    compiled = time.perf_counter() - began
    with _batches(training, keys, length) as batches:
        while state.t < plan.steps and (np.asarray(state.stopped_at) < 0).any():
            t1 = min(int(state.t) + length, plan.steps)
            arguments = (setting, keys, batches(int(state.t), t1), np.int32(t1), shares, beta, limit)
            if segment is None:
                compiling = time.perf_counter()
                step = functools.partial(_segment, training)
                segment = jax.jit(step, donate_argnums=0).lower(state, *arguments).compile()
                compiled += time.perf_counter() - compiling
            state = segment(state, *arguments)
            if progress is not None:
                progress(_status(state, time.perf_counter() - began - compiled))
    losses, smoothed, stopped_at = (np.array(x) for x in (state.losses, state.smoothed, state.stopped_at))
    curves = [_recorded(row, stop) for row, stop in zip(smoothed, stopped_at.tolist(), strict=True)]
    return FinderResult(
        mode="range",
        lrs=lrs,
        losses=losses,
        suggestions={method: suggest(lrs, curves, method) for method in METHODS},
        seeds=plan.seeds,
        steps=plan.steps,
        steps_done=int(state.t),
        seconds=time.perf_counter() - began - compiled,
        compile_seconds=compiled,
        smoothed=smoothed,
        stopped_at=stopped_at,
    )


def _status(state: _State, seconds: float) -> Status:
    """How far a range test has come; nothing is validated, so there is no best."""
    stopped, (n, steps) = np.asarray(state.stopped_at), state.losses.shape
    t = int(state.t)
    done = int(np.where(stopped < 0, t, stopped + 1).sum())
    left = int((stopped < 0).sum()) * (steps - t)
    return Status(
        trainings=n,
        done=n if t == steps else int((stopped >= 0).sum()),
        diverged=int((stopped >= 0).sum()),
        pruned=0,
        steps=done,
        steps_total=n * steps,
        steps_per_second=done / max(seconds, 1e-9),
        seconds_left=left / done * seconds,
        best=None,
        resumed_from=0,
    )


def _recorded(row: np.ndarray, stop: int) -> np.ndarray:
    """The curve of a seed for `suggest`. fastai goes on after a NaN, so that the points which it drops at the end are
    NaN and none of the curve: the row as it is. Any other stop is the end of what is recorded."""
    return row if stop < 0 or np.isnan(row[stop]) else row[: stop + 1]


def _start(training: Training, steps: int, setting: Any, keys: jax.Array) -> _State:
    kind, n = jnp.result_type(float), len(keys)
    carry = jax.vmap(training.start, in_axes=(None, 0))(setting, training.first_params(keys))
    empty = jnp.full((n, steps), jnp.nan, kind)
    never = jnp.full(n, -1, jnp.int32)
    return _State(carry, jnp.zeros(n, kind), jnp.full(n, jnp.inf, kind), empty, empty, never, jnp.int32(0))


def _segment(
    training: Training,
    state: _State,
    setting: Any,
    keys: jax.Array,
    data: Data,
    t1: jax.Array,
    shares: jax.Array,
    beta: jax.Array,
    limit: jax.Array,
) -> _State:
    """The steps up to `t1`, or until all seeds have stopped."""
    step = jax.vmap(training.step, in_axes=(0, None, 0, 0, None, None))
    places = jnp.arange(len(keys), dtype=jnp.int32)

    def going(state: _State) -> jax.Array:
        return (state.t < t1) & jnp.any(state.stopped_at < 0)

    def body(state: _State) -> _State:
        t, alive = state.t, state.stopped_at < 0
        # With empty sums, the sum after a step is the loss of its batch.
        fresh = state.carry._replace(sums=jax.tree.map(jnp.zeros_like, state.carry.sums))
        carry = step(fresh, setting, keys, places, data, t)
        loss = carry.sums["train_loss"]
        past, kind = jnp.asarray(beta, loss.dtype), loss.dtype
        average = past * state.average + (1 - past) * loss
        smooth = average / shares[t]
        best = jnp.minimum(state.best, jnp.where(jnp.isnan(smooth), jnp.inf, smooth).astype(kind))
        bar = best + (jnp.asarray(limit, kind) - 1) * jnp.abs(best)
        stopped = (state.stopped_at >= 0) | ~jnp.isfinite(smooth) | (smooth > bar)
        stopped_at = jnp.where(alive & stopped, t, state.stopped_at)
        return _State(
            # As a training that has diverged it takes no more updates.
            carry=carry._replace(diverged_at=stopped_at),
            average=average,
            best=best,
            losses=state.losses.at[:, t].set(jnp.where(alive, loss, jnp.nan)),
            smoothed=state.smoothed.at[:, t].set(jnp.where(alive, smooth, jnp.nan)),
            stopped_at=stopped_at,
            t=t + 1,
        )

    return lax.while_loop(going, body, state)


def _length(plan: Plan) -> int:
    """The steps of a segment, so that its data are not too large."""
    if plan.task.host:
        room = _SEGMENT_BYTES // max(1, sum(np.asarray(x).nbytes for x in jax.tree.leaves(plan.task.batch)))
    else:
        epochs = _SEGMENT_BYTES // (4 * len(plan.seeds) * plan.task.examples)
        room = (epochs - 1) * Training(plan.task).batches
    return max(1, min(_SEGMENT, plan.steps, room))


@contextlib.contextmanager
def _batches(training: Training, keys: jax.Array, length: int) -> Iterator[Callable[[int, int], Data]]:
    """What makes the data of the segment from one step to another, and is asked for one segment after the other."""
    task = training.task
    if task.host:
        task.train.forget()
        with Feed.open(task.train) as feed:
            # The last segment may be shorter: the program takes as many batches as ever, and looks at no more.
            yield lambda t, t1: Data(
                jax.tree.map(functools.partial(_filled, length), feed.take(t1 - t)), None, np.int32(t)
            )
        return
    train = jax.tree.map(jnp.asarray, task.train)
    places = jnp.arange(len(keys), dtype=jnp.int32)
    touched = -(-(length - 1) // training.batches) + 1

    @jax.jit
    def orders(epoch: jax.Array) -> jax.Array:
        made = lax.map(lambda e: training.orders(keys, places, epoch + e), jnp.arange(touched, dtype=jnp.int32))
        return jnp.moveaxis(made, 0, 1)

    yield lambda t, t1: Data(train, orders(np.int32(t // training.batches)), np.int32(t))


def _filled(length: int, x: np.ndarray) -> jax.Array:
    return jnp.asarray(np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)]))


# --- the grid --------------------------------------------------------------------------------------------------------


def _grid(result: SweepResult, lrs: np.ndarray, untrained: np.ndarray, limit: float) -> FinderResult:
    train, valid = (result.final[name].T for name in ("train_loss", "valid_loss"))
    with np.errstate(invalid="ignore"):  # an infinite limit, and a loss of 0 or NaN
        bar = untrained + (limit - 1) * np.abs(untrained)
        lost = ~np.isfinite(valid) | (valid > np.where(np.isnan(bar), np.inf, bar)[:, None])
    return FinderResult(
        mode="grid",
        lrs=lrs,
        losses=train,
        suggestions={"best": _best(lrs, valid, lost), "largest": _largest(lrs, lost)},
        seeds=result.seeds,
        steps=result.steps,
        steps_done=int(result.run["steps_done"]),
        seconds=result.seconds,
        compile_seconds=result.compile_seconds,
        valid_losses=valid,
        untrained=untrained,
        diverged=lost,
        within=_within(lrs, valid, lost),
        sweep=result,
    )


def _untrained(task: Task, seeds: tuple[int, ...], key: jax.Array) -> np.ndarray:
    """The validation losses before any step."""

    @jax.jit
    def losses(keys: jax.Array, valid: Any) -> jax.Array:
        params = Training(task).first_params(keys)
        return lax.map(lambda p: task.loss(p, valid, None)[0].astype(jnp.result_type(float)), params)

    return np.asarray(losses(_keys(key, seeds), task.valid))


def _means(valid: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """The mean validation loss of each rate over the seeds; infinite where any seed diverged."""
    return np.where(lost, np.inf, valid).astype(np.float64).mean(axis=0)


def _best(lrs: np.ndarray, valid: np.ndarray, lost: np.ndarray) -> Suggestion:
    alone = np.where(lost, np.inf, valid)
    rates = [float(lrs[np.argmin(row)]) if np.isfinite(row).any() else math.nan for row in alone]
    whys = ["it diverged at every rate" for rate in rates if math.isnan(rate)]
    means = _means(valid, lost)
    if not np.isfinite(means).any():
        why = "at every rate some seed diverged: write a smaller min_lr"
        return Suggestion(math.nan, math.nan, math.nan, np.array(rates), why)
    return _spread(rates, whys, float(lrs[np.argmin(means)]))


def _largest(lrs: np.ndarray, lost: np.ndarray) -> Suggestion:
    # The rates below the first at which a seed diverged.
    counts = [int(np.argmax(row)) if row.any() else len(lrs) for row in lost]
    rates = [float(lrs[count - 1]) if count else math.nan for count in counts]
    whys = ["it diverged at the smallest rate" for count in counts if not count]
    if whys:
        return Suggestion(math.nan, math.nan, math.nan, np.array(rates), "some seed diverged at the smallest rate")
    return _spread(rates, whys, min(rates))


def _within(lrs: np.ndarray, valid: np.ndarray, lost: np.ndarray) -> tuple[float, float] | None:
    means = _means(valid, lost)
    if not np.isfinite(means).any():
        return None
    best = int(np.argmin(means))
    std = valid[:, best].std(ddof=1) if len(valid) > 1 else 0.0
    far = np.flatnonzero(~(means <= means[best] + std))
    low = far[far < best].max(initial=-1) + 1
    high = far[far > best].min(initial=len(lrs)) - 1
    return float(lrs[low]), float(lrs[high])


# --- the figure ------------------------------------------------------------------------------------------------------

_STYLES: dict[str, tuple[str, Any]] = {
    "valley": ("#0072b2", "-"),
    "steep": ("#d55e00", (0, (5, 1.5))),
    "minimum": ("#009e73", (0, (1, 1.2))),
    "slide": ("#aa4499", (0, (5, 1.5, 1, 1.5))),
    "best": ("#d55e00", "-"),
    "largest": ("#0072b2", (0, (5, 1.5))),
}
"""Colours that are told apart with any colour vision, and a line of its own for each."""


def _draw(result: FinderResult) -> Any:
    """See `FinderResult.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plots need matplotlib: pip install "jaxsched[plot]"') from None
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    ax = figure.subplots()
    rows = result.smoothed if result.mode == "range" else result.valid_losses
    assert rows is not None
    known = np.where(np.isfinite(rows), rows, np.inf).astype(np.float64)
    if result.diverged is not None:
        known = np.where(result.diverged, np.inf, known)
    marker = "" if result.mode == "range" else "."
    for i, row in enumerate(known):
        label = f"each of {len(rows)} seeds" if i == 0 else None
        ax.plot(result.lrs, _shown(row), color="0.6", linewidth=0.8, marker=marker, markersize=4, label=label)
    # A seed that has stopped counts as infinite, or the median would tell of the lucky ones alone.
    ranked = np.sort(known, axis=0)
    middle = (ranked[(len(known) - 1) // 2] + ranked[len(known) // 2]) / 2
    if len(rows) > 1:
        ax.plot(result.lrs, _shown(middle), color="0.1", linewidth=2.2, marker=marker, label="median")
    ax.set(xscale="log", xlim=(result.lrs[0], result.lrs[-1]), xlabel="learning rate", title=_title(result))
    ax.set_ylabel("smoothed training loss" if result.mode == "range" else "validation loss at the end")
    _limits(ax, result, known)
    _draw_suggestions(ax, result)
    ax.grid(alpha=0.25, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    several = any(s.low < s.high for s in result.suggestions.values())
    title = "shaded: the spread over the seeds" if several else None
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, handlelength=2.6, title=title)
    return figure


def _title(result: FinderResult) -> str:
    return "learning-rate range test" if result.mode == "range" else f"constant rates, {result.steps} steps each"


def _shown(row: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(row), row, np.nan)


def _limits(ax: Any, result: FinderResult, known: np.ndarray) -> None:
    """Limits of the loss that show the fall and where it ends, and not how far the explosion goes."""
    seen = known[np.isfinite(known)]
    if not len(seen):
        ax.text(0.5, 0.5, "the loss is not finite", transform=ax.transAxes, ha="center")
        return
    starts = known[:, 0][np.isfinite(known[:, 0])] if result.untrained is None else result.untrained
    low, high = float(seen.min()), float(np.max(starts, initial=seen.min()))
    if not math.isfinite(high) or high <= low:
        high = float(seen.max())
    if low > 0 and high > 50 * low:
        ax.set(yscale="log", ylim=(low / 1.5, high * 2))
        return
    height = (high - low) or abs(high) or 1.0
    ax.set_ylim(low - 0.06 * height, high + 0.35 * height)


def _draw_suggestions(ax: Any, result: FinderResult) -> None:
    for name, suggestion in result.suggestions.items():
        colour, line = _STYLES[name]
        label = f"{name}: {suggestion.lr:.2g}" if suggestion.found else f"no {name}"
        if suggestion.found:
            if suggestion.low < suggestion.high:
                ax.axvspan(suggestion.low, suggestion.high, color=colour, alpha=0.13, linewidth=0)
                label += f" ({suggestion.low:.2g} to {suggestion.high:.2g})"
            ax.axvline(suggestion.lr, color=colour, linestyle=line, linewidth=1.8, label=label)
        else:
            ax.plot([], [], color=colour, linestyle=line, label=label)
    across = {"transform": ax.get_xaxis_transform(), "color": "0.1"}  # at a height of the axes, not of the loss
    if result.within is not None and result.within[0] < result.within[1]:
        low, high = result.within
        label = f"within a std of the best: {low:.2g} to {high:.2g}"
        ax.plot([low, high], [0.02, 0.02], **across, linewidth=4, solid_capstyle="butt", label=label)
    if result.diverged is not None and result.diverged.any():
        rates = result.lrs[result.diverged.any(axis=0)]
        ax.plot(rates, np.full(len(rates), 0.98), "x", **across, clip_on=False, label="some seed diverged")
