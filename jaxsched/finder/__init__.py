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

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from .._errors import FieldError, format_value, nearest_name
from ..schedules.base import Constant
from ..schedules.ramps import Exponential
from ..sweep.engine import Plan, Progress, check_key, check_seeds, check_whole
from ..sweep.task import Task
from . import grid, range_test
from .rates import HIGHEST, LOWEST, check_number, ends, listed
from .result import FinderResult as FinderResult
from .suggest import METHODS as METHODS
from .suggest import Suggestion as Suggestion
from .suggest import suggest as suggest

_FEWEST = 8
"""Steps of a range test: without the first tenth and the last 5 points 3 are left."""


def find_lr(
    task: Task,
    min_lr: float = LOWEST,
    max_lr: float = HIGHEST,
    steps: int = 200,
    seeds: int | Sequence[int] = 8,
    *,
    mode: Literal["range", "grid"] = "range",
    key: int | jax.Array = 0,
    beta: float | None = None,
    stop_factor: float | None = 4.0,
    rates: int | Sequence[float] | None = None,
    wrap: Callable[[Any], Any] | None = None,
    chunk: int | Literal["auto"] | None = None,
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

    It is cheap, and it can mislead: at every step it measures a network that all smaller rates have trained before, in
    steps too few to tell. A rate that is too large shows only some steps later; momentum, Adam's averages and the
    smoothing lag behind a rate that keeps rising; early instability, which a warmup would pass over, ends it; and what
    is best for a step need not be best for a training. The spread over the seeds tells of luck, and of none of these.

    `mode="grid"` is the honest version: each of `rates` constant rates trains its own networks from the start for
    `steps` steps, and is judged by the validation loss at the end. It costs `rates x seeds x steps` updates instead of
    `seeds x steps`, and ten validations. It suggests "best", the rate with the smallest mean over the seeds among those
    at which no seed diverged (its spread is over the best of each seed alone), and "largest", the largest rate at
    which, and at all smaller ones, no seed diverged. A seed has diverged where the loss is not finite, or ends above
    `stop_factor` times the loss of the untrained network. It is still a short training of a constant rate.

    In both modes the trainings are those of `sweep`, with the same keys: seed i alone gives the same curve.

    Args:
      task: a `Task`; its optimizer gets a schedule as the setting. Batches from Python code are shared by all seeds.
      min_lr, max_lr: the smallest and the largest rate, above 0; left out where `rates` is a list.
      steps: of the range test, which are also its rates, 8 or more; of each training of the grid, 1 or more.
      seeds: how many (0, 1, ... n - 1), or a list of different integers, 0 or more.
      mode: "range" or "grid".
      key: an integer or a JAX random key.
      beta: of the range test, the share of the past in the moving average, 0 (no smoothing) or more and below 1; None:
        0.98.
      stop_factor: above 1; None: a range test stops, and a rate diverges, only by a loss that is not finite. A loss
        `x` below 0 counts as above the limit beyond `x + (stop_factor - 1) |x|`.
      rates: of the grid, how many, spread evenly on a scale of powers of ten (None: 32), or a list of rising rates.
      wrap: makes the setting that the optimizer gets of the schedule, where it is not the schedule alone:
        `wrap=lambda schedule: {"learning_rate": schedule, "weight_decay": Constant(0.01)}`.
      chunk, devices: of the grid, as in `sweep`. A range test runs on one device, all seeds at once.
      progress: called with a `Status` after each segment, or None.

    Returns: a `FinderResult`; `print` it for the answer in words.

    Errors: TypeError and ValueError that name the argument, show its value and say what to write, for an argument that
    the mode does not use too.

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
      >>> result.losses.shape, result.suggestions["best"].lr
      ((2, 5), 1.0)

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (1506.01186); fastai's `Learner.lr_find`,
    whose rate is `start_lr (end_lr / start_lr)^(t / num_it)` and so ends one step short of `end_lr`.
    """
    if not isinstance(task, Task):
        raise TypeError(f"find_lr: task={format_value(task)}; task must be a Task(init=..., loss=..., ...).")
    if mode not in ("range", "grid"):
        raise ValueError(f"find_lr: mode={format_value(mode)}; {nearest_name(str(mode), ('range', 'grid'))}")
    why = " (the first tenth and the last 5 are not looked at, and a curve must be left)" if mode == "range" else ""
    check_whole("find_lr", "steps", steps, _FEWEST if mode == "range" else 1, why)
    for name, value, of in (("wrap", wrap, "schedule"), ("progress", progress, "Status")):
        if value is not None and not callable(value):
            raise TypeError(f"find_lr: {name}={format_value(value)}; {name} must be a function of a {of}, or None.")
    limit = math.inf if stop_factor is None else check_number("stop_factor", stop_factor)
    if not limit > 1:
        raise ValueError(
            f"find_lr: stop_factor={format_value(stop_factor)}; stop_factor must be above 1, such as 4, or None."
        )
    seeds, key = check_seeds("find_lr", seeds, task), check_key("find_lr", key)
    if mode == "grid":
        _refuse(mode, "smooths nothing", beta=beta)
        lrs = listed(rates, min_lr, max_lr)
        settings = [_wrapped(wrap, Constant(rate)) for rate in lrs.tolist()]
        chunk = "auto" if chunk is None else chunk
        return grid.search(task, settings, lrs, steps, seeds, key, limit, chunk, devices, progress)
    _refuse(
        mode, "has a rate a step, and all seeds side by side on one device", rates=rates, chunk=chunk, devices=devices
    )
    beta = 0.98 if beta is None else check_number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"find_lr: beta={format_value(beta)}; beta must be 0 or more and below 1, such as 0.98.")
    schedule = Exponential(*ends(min_lr, max_lr), steps - 1)
    return range_test.search(
        Plan.make(task, [_wrapped(wrap, schedule)], steps, seeds, key), schedule, beta, limit, progress
    )


def _refuse(mode: str, what: str, **unused: Any) -> None:
    """Refuses arguments that the mode does not use."""
    other = "grid" if mode == "range" else "range"
    for name, value in unused.items():
        if value is not None:
            note = f" in mode={mode!r}, which {what}"
            raise FieldError("find_lr", name, value, f"leave it out, or write mode={other!r}", note=note)


def _wrapped(wrap: Callable[[Any], Any] | None, schedule: Any) -> Any:
    if wrap is None:
        return schedule
    try:
        return wrap(schedule)
    except Exception as error:
        error.add_note(f"find_lr: this came from wrap({schedule!r}).")
        raise
