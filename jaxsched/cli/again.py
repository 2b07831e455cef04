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

    note = _stopped(directory)
    if note is None:
        fail(_without(directory))
    origin = files.place_of(directory, note)
    say(f"in {origin}: {files.command_line(note)}")
    if not any((origin / note["checkpoint"]).glob("process-*")):
        say("nothing was saved yet: it begins again")
    with contextlib.chdir(origin):
        run(note["argv"])


def _stopped(directory: Path) -> dict[str, Any] | None:
    """The note of a sweep that did not come to its end, by the folder of its results or of its checkpoints."""
    for folder in (directory / files.CHECKPOINT, directory):
        note = files.read_command(folder)
        if note is not None and "checkpoint" in note:
            return note
    return None


def _without(directory: Path) -> str:
    """Why there is nothing to go on with."""
    if not directory.is_dir():
        return f"there is no folder {directory}"
    if (directory / archive.FILE).is_file():
        shows = f"jaxsched report {shlex.quote(str(directory))}"
        return f"{directory} holds the results of a sweep that is done; {shows} shows them"
    hint = "write the folder of a sweep's results, such as runs/NAME, or type the command of the sweep again"
    return f"{directory} holds no sweep that was stopped; {hint}"


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
        output: The page, a file that ends with .html (report.html in DIR).
        metric: What the settings are ranked by (that of the sweep).
        mode: Whether the smallest or the largest is best (that of the sweep).
        title: Of the page.
    """
    output = directory / "report.html" if output is None else output
    if output.suffix.lower() not in (".html", ".htm"):
        fail(f"-o {output}: a page ends with .html; write -o {output.with_suffix('.html')}")
    result = _loaded(directory)
    of_sweep = str(result.run.get("metric", "valid_loss"))
    by = of_sweep if metric is None else metric
    mode = result.run.get("mode") if mode is None and by == of_sweep else mode
    with refusals(TypeError, ValueError, KeyError):
        path = result.report(output, by, mode, title=title)
    best = result.ranking(by, mode)[0]
    print_text(f"best of {len(result.settings)} by {by}: {result.settings[best['setting']]!r}")
    say(f"wrote {path}")


def _loaded(directory: Path) -> SweepResult:
    """The result; classes of the task file are found after it is loaded."""
    if not (directory / archive.FILE).is_file():
        fail(_unreported(directory))
    with refusals(ValueError, TypeError):
        try:
            return SweepResult.load(directory)
        except ImportError:
            note = files.read_command(directory)
            if note is None:
                raise
            files.load(files.place_of(directory, note) / note["file"])
            return SweepResult.load(directory)


def _unreported(directory: Path) -> str:
    """Why there is nothing to report."""
    if not directory.is_dir():
        return f"there is no folder {directory}"
    if _stopped(directory) is not None:
        resumes = f"jaxsched resume {shlex.quote(str(directory))}"
        return f"{directory} holds a sweep that was stopped, or still runs: {resumes} goes on with it"
    if (directory / "result.json").is_file():
        return f"{directory} holds no {archive.FILE}, only result.json: its settings have a name in no module"
    return f"{directory} holds no result of a sweep; write the folder of one, such as runs/NAME"
