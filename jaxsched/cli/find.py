"""`jaxsched find`: a learning rate, by the range test or by a grid of constant rates."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

from .. import finder
from ..inspect.format import number
from .console import console, print_json
from .errors import FINDINGS, say
from .plot import check_picture
from .progress import Progress
from .reading import UNKNOWN, Horizon, MaybeN, N, Output, TaskFile, load

# The suggestions, the recommended ones first.
_MEANINGS = {
    "valley": "about halfway down the longest fall of the loss: a good first choice, robust to noise",
    "steep": "where the loss falls fastest",
    "minimum": "a tenth of the rate at which the loss is lowest",
    "slide": "the edge before the loss explodes: an upper limit",
    "best": "the lowest mean validation loss among the rates at which no seed diverged: the recommended rate",
    "largest": "no seed diverged at it or at any smaller rate: an upper limit",
}

_STOP_FACTOR = 4.0


def find(
    file: TaskFile,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    horizon: Horizon = UNKNOWN,
    seeds: N = 8,
    mode: Literal["range", "grid"] = "range",
    rates: MaybeN = None,
    key: N = 0,
    output: Output = None,
    json: bool = False,
) -> None:
    """Find a learning rate for a task file: by the range test, or by a grid of constant rates.

    The range test raises the rate at every step and records the loss: cheap, and at times misleading. The grid trains
    many constant rates from the start, in one program. --steps (200 by default) is the number of steps, and of rates,
    of the range test, or the length of each training of the grid. Suggestions have a spread over the seeds. Only the
    `task` of the file of jaxsched sweep is used.

    Exit codes: 0, 1 if there is no suggestion, 2 for invalid input.

    Examples:
      jaxsched find task.py
      jaxsched find task.py --min-lr 1e-5 --max-lr 1 --steps 100 -o found.png
      jaxsched find task.py --mode grid --rates 12 --steps 50 --seeds 2 --json

    Args:
        file: The task file.
        min_lr: The smallest rate, above 0.
        max_lr: The largest rate.
        seeds: Trainings of each rate.
        mode: The range test, or the grid of constant rates.
        rates: Number of rates in the grid (32).
        key: Number of the random key.
        output: A picture (png, svg, pdf) of the losses.
        json: Print JSON, with all curves.
    """
    if output is not None:
        check_picture(output)  # before anything is trained
    _, task = load(file)
    steps = horizon.timeline(200, task).total_steps
    options: Any = {"mode": mode, "key": key, "rates": rates, "stop_factor": _STOP_FACTOR}
    with contextlib.nullcontext() if mode == "range" else Progress(console(stderr=True)) as progress:
        result = finder.find_lr(task, min_lr, max_lr, steps, seeds, progress=progress, **options)
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


def _explained(result: finder.FinderResult) -> list[str]:
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
