"""`jaxsched find`: the learning-rate range test, and its honest sister."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro import conf

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
    "slide": "the edge before the loss explodes: a limit more than a choice",
    "best": "the lowest mean validation loss among the rates at which no seed diverged: the one to take",
    "largest": "at it, and at all smaller rates, no seed diverged: a limit, and no choice",
}
"""Of the suggestions; the first that there is, in this order, is the one to take."""

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

    The range test raises the rate at every step and reads the loss: cheap, and at times misleading. The grid trains
    many constant rates from the start, side by side in one program. Each suggestion comes with its spread over the
    seeds. The file is that of `jaxsched sweep`, of which only the `task` is used.

    Exit codes: 0, 1 if nothing is suggested, 2 if it cannot begin.

    Examples:
      jaxsched find task.py
      jaxsched find task.py --min-lr 1e-5 --max-lr 1 --steps 100 -o found.png
      jaxsched find task.py --mode grid --rates 12 --steps 50 --seeds 2 --json

    Args:
        file: The task file.
        min_lr: The smallest rate, above 0.
        max_lr: The largest rate.
        steps: Of the range test, which are its rates too; of each training of the grid. Also 3ep or 2e9tok.
        steps_per_epoch: What an epoch (3ep) is (the batches in the arrays of the task).
        tokens_per_step: What a token (2e9tok) is.
        seeds: How many trainings of each rate.
        mode: The range test, or the grid of constant rates.
        rates: How many rates the grid has (32).
        key: The random key.
        output: A picture (png, svg, pdf) to draw the losses into.
        json: As JSON, with all curves.
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
        print("\n".join([str(result), *_in_words(result)]))
    say(f"jaxsched: compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s")
    if output is not None:
        result.plot(output)
        say(f"wrote {output}")
    if not any(suggestion.found for suggestion in result.suggestions.values()):
        raise SystemExit(FINDINGS)


def _in_words(result: FinderResult) -> list[str]:
    """Why seeds stopped, what the suggestions mean, and which one to take."""
    lines = []
    if result.stopped_at is not None and (result.stopped_at >= 0).any():
        why = f"its smoothed loss is above {_STOP_FACTOR:g} x the lowest so far"
        lines.append(f"A seed stops where {why}, or not finite.")
    found = [name for name in _MEANINGS if name in result.suggestions and result.suggestions[name].found]
    if not found:
        return [*lines, "", "No rate is suggested: try other --min-lr and --max-lr, or more --steps."]
    width = max(map(len, result.suggestions))
    lines.append("")
    lines += [f"  {name:<{width}}  {_MEANINGS[name]}" for name in result.suggestions if name in _MEANINGS]
    first = found[0]
    caution = "" if first in ("valley", "best") else ", with care"
    return [*lines, f"Take {first}{caution}: {result.suggestions[first].lr:.3g}"]
