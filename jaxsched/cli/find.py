"""`jaxsched find`: the learning-rate range test, and its honest sister."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

from tyro import conf

from . import files
from .console import console, print_json
from .errors import say
from .plot import check_picture
from .progress import Progress

N = Annotated[int, conf.arg(metavar="N")]


def find(
    file: Annotated[Path, conf.arg(metavar="TASK")],
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: N = 200,
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

    Examples:
      jaxsched find task.py
      jaxsched find task.py --min-lr 1e-5 --max-lr 1 --steps 100 -o found.png
      jaxsched find task.py --mode grid --rates 12 --steps 50 --seeds 2 --json

    Args:
        file: The task file.
        min_lr: The smallest rate, above 0.
        max_lr: The largest rate.
        steps: Of the range test, which are its rates too; of each training of the grid.
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
    with contextlib.nullcontext() if mode == "range" else Progress(console(stderr=True)) as progress:
        result = find_lr(task, min_lr, max_lr, steps, seeds, mode=mode, key=key, rates=rates, progress=progress)
    if json:
        print_json(result.to_dict())
    else:
        print(result)
    say(f"jaxsched: compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s")
    if output is not None:
        result.plot(output)
        say(f"wrote {output}")
