"""`jaxsched find`: a learning rate, by the range test or by a grid of constant rates."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro import conf

from ..inspect.format import number
from . import files
from .console import console, print_json
from .errors import FINDINGS, say
from .plot import check_picture
from .progress import Progress
from .reading import training

if TYPE_CHECKING:
    from ..finder import FinderResult

N = Annotated[int, conf.arg(metavar="N")]
X = Annotated[float | None, conf.arg(metavar="X")]

_MEANINGS = {
    "valley": "about halfway down the longest fall of the loss: a good first choice, robust to noise",
    "steep": "where the loss falls fastest",
    "minimum": "a tenth of the rate at which the loss is lowest",
    "slide": "the edge before the loss explodes: an upper limit",
    "best": "the lowest mean validation loss among the rates at which no seed diverged: the recommended rate",
    "largest": "no seed diverged at it or at any smaller rate: an upper limit",
}
"""The suggestions, the recommended ones first."""

_STOP_FACTOR = 4.0


def find(
    file: Annotated[Path, conf.arg(metavar="TASK")],
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: Annotated[str, conf.arg(metavar="N")] = "200",
    steps_per_epoch: X = None,
    tokens_per_step: X = None,
    seeds: N = 8,
    mode: Literal["range", "grid"] = "range",
    rates: Annotated[int | None, conf.arg(metavar="N")] = None,
    key: N = 0,
    output: Annotated[Path | None, conf.arg(aliases=["-o"], metavar="FILE")] = None,
    json: bool = False,
) -> None:
    """Find a learning rate for a task file: by the range test, or by a grid of constant rates.

    The range test raises the rate at every step and records the loss: cheap, and at times misleading. The grid trains
    many constant rates from the start, in one program. Suggestions have a spread over the seeds. The file is that of
    `jaxsched sweep`; only its `task` is used.

    Exit codes: 0, 1 if there is no suggestion, 2 for invalid input.

    Examples:
      jaxsched find task.py
      jaxsched find task.py --min-lr 1e-5 --max-lr 1 --steps 100 -o found.png
      jaxsched find task.py --mode grid --rates 12 --steps 50 --seeds 2 --json

    Args:
        file: The task file.
        min_lr: The smallest rate, above 0.
        max_lr: The largest rate.
        steps: Steps (and rates) of the range test; steps of each training of the grid. Also 3ep or 2e9tok.
        steps_per_epoch: Steps in an epoch (the number of batches in the task's arrays).
        tokens_per_step: Tokens in a step.
        seeds: Trainings of each rate.
        mode: The range test, or the grid of constant rates.
        rates: Number of rates in the grid (32).
        key: Number of the random key.
        output: A picture (png, svg, pdf) of the losses.
        json: Print JSON, with all curves.
    """
    from ..finder import find_lr

    if output is not None:
        check_picture(output)  # before anything is trained
    task = files.task_of(file, files.load(file))
    total = training(steps, steps_per_epoch, tokens_per_step, task).total_steps
    options: Any = {"mode": mode, "key": key, "rates": rates, "stop_factor": _STOP_FACTOR}
    with contextlib.nullcontext() if mode == "range" else Progress(console(stderr=True)) as progress:
        result = find_lr(task, min_lr, max_lr, total, seeds, progress=progress, **options)
    if json:
        print_json(result.to_dict())
    else:
        print("\n".join([str(result), *_explained(result)]))
    say(f"jaxsched: compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s")
    if output is not None:
        result.plot(output)
        say(f"wrote {output}")
    if not any(suggestion.found for suggestion in result.suggestions.values()):
        raise SystemExit(FINDINGS)


def _explained(result: FinderResult) -> list[str]:
    """Why seeds stopped, what the suggestions mean, and the recommended rate."""
    lines = []
    if result.stopped_at is not None and (result.stopped_at >= 0).any():
        why = f"its smoothed loss is above {_STOP_FACTOR:g} x the lowest so far"
        lines.append(f"A seed stops where {why}, or not finite.")
    found = [name for name in _MEANINGS if name in result.suggestions and result.suggestions[name].found]
    if not found:
        return [*lines, "", "No rate is suggested: try other --min-lr and --max-lr, or more --steps."]
    width = max(map(len, result.suggestions))
    meanings = [f"  {name:<{width}}  {_MEANINGS[name]}" for name in result.suggestions if name in _MEANINGS]
    caution = "" if found[0] in ("valley", "best") else ", with care"
    return [*lines, "", *meanings, f"Take {found[0]}{caution}: {number(result.suggestions[found[0]].lr, 3)}"]
