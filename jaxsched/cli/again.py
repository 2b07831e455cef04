"""`jaxsched resume` and `jaxsched report`: what can be done with the folder of a sweep."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from ..sweep import archive
from ..sweep.result import SweepResult
from . import files
from .console import print_text
from .errors import fail, refusals, say

Folder = Annotated[Path, conf.arg(metavar="DIR")]


def resume(directory: Folder) -> None:
    """Go on with a sweep that was stopped, as the command that is noted in its folder says.

    DIR is the folder of its results (runs/NAME of the task file, unless --out said otherwise) or that of its
    checkpoints. The command runs where it was first typed; if nothing was saved yet, it begins again.

    Exit codes: as those of jaxsched sweep.

    Examples:
      jaxsched resume runs/task

    Args:
        directory: The folder of the sweep.
    """
    from . import run

    folder = directory if (directory / files.COMMAND).is_file() else directory.parent
    note = files.read_command(folder) if directory.is_dir() else None
    if note is None:
        fail(_without(directory))
    origin: Path = note["origin"]
    if not origin.is_dir():
        fail(f"{folder / files.COMMAND} was written in {origin}, which is not there; type the command again")
    checkpoint = origin / note["checkpoint"] if "checkpoint" in note else None
    going = checkpoint is not None and any(checkpoint.glob("process-*"))
    if not going and (folder / archive.FILE).is_file():
        shows = f"jaxsched report {shlex.quote(str(folder))}"
        fail(f"{folder} holds the results of a sweep that is done; {shows} shows them")
    say(f"in {origin}: {shlex.join(['jaxsched', *note['argv']])}")
    if not going:
        say("nothing was saved yet: it begins again")
    with contextlib.chdir(origin):
        run(note["argv"])


def _without(directory: Path) -> str:
    """Why there is nothing to go on with."""
    if not directory.is_dir():
        return f"there is no folder {directory}"
    hint = "write the folder of a sweep's results, such as runs/NAME, or type the command of the sweep again"
    return f"{directory} holds no {files.COMMAND}; {hint}"


def report(
    directory: Folder,
    output: Annotated[Path | None, conf.arg(aliases=["-o"], metavar="FILE")] = None,
    metric: Annotated[str | None, conf.arg(metavar="NAME")] = None,
    mode: Literal["min", "max"] | None = None,
    title: Annotated[str | None, conf.arg(metavar="TEXT")] = None,
) -> None:
    """Write the page of a sweep that is done: one file that works offline, with the ranking and all curves.

    Examples:
      jaxsched report runs/task
      jaxsched report runs/task -o page.html --metric train_loss

    Args:
        directory: The folder of its results, with result.npz.
        output: The page (report.html in DIR).
        metric: What the settings are ranked by (that of the sweep).
        mode: Whether the smallest or the largest is best (that of the sweep).
        title: Of the page.
    """
    note = files.read_command(directory) or {}
    result = _loaded(directory, note)
    of_sweep = str(note.get("metric", "valid_loss"))
    by = of_sweep if metric is None else metric
    mode = note.get("mode") if mode is None and by == of_sweep else mode
    command = shlex.join(["jaxsched", *note["argv"]]) if "argv" in note else None
    with refusals(TypeError, ValueError, KeyError):
        path = result.report(output or directory / "report.html", by, mode, command=command, title=title)
    best = result.ranking(by, mode)[0]
    print_text(f"best of {len(result.settings)} by {by}: {result.settings[best['setting']]!r}")
    say(f"wrote {path}")


def _loaded(directory: Path, note: dict[str, Any]) -> SweepResult:
    """The result; classes of the task file are found after it is loaded."""
    with refusals(FileNotFoundError, ValueError, TypeError):
        try:
            return SweepResult.load(directory)
        except ImportError:
            argv = note.get("argv", [])
            file = next((note["origin"] / word for word in argv[1:] if word.endswith(".py")), None)
            if file is None or not file.is_file():
                raise
            files.load(file)
            return SweepResult.load(directory)
