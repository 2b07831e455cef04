"""`jaxsched resume` and `jaxsched report`: continue the sweep of a folder, or write its page."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from .._errors import nearest_name
from ..sweep import archive
from ..sweep.result import SweepResult
from . import files
from .console import print_text
from .errors import fail, refusals, say

Folder = Annotated[Path, conf.arg(metavar="DIR")]


def resume(directory: Folder) -> None:
    """Continue a sweep that was stopped, with the command saved in its folder.

    DIR is the folder of its results (by default runs/NAME of the task file) or of its checkpoints. The command runs in
    the directory in which it was typed.

    Exit codes: those of jaxsched sweep.

    Examples:
      jaxsched resume runs/task

    Args:
        directory: The folder of the sweep.
    """
    from . import run

    saved = _stopped(directory)
    if saved is None:
        fail(_contents(directory))
    origin = files.working_directory(directory, saved)
    say(f"in {origin}: {shlex.join(['jaxsched', *saved['argv']])}")
    if not any((origin / saved["checkpoint"]).glob("process-*")):
        say("nothing was saved: it starts again")
    with contextlib.chdir(origin):
        run(saved["argv"])


def _stopped(directory: Path) -> dict[str, Any] | None:
    """The command of an unfinished sweep, from the folder of its results or of its checkpoints."""
    for folder in (directory / files.CHECKPOINT, directory):
        saved = files.read_command(folder)
        if saved is not None and "checkpoint" in saved:
            return saved
    return None


def report(
    directory: Folder,
    output: Annotated[Path | None, conf.arg(aliases=["-o"], metavar="FILE")] = None,
    metric: Annotated[str | None, conf.arg(metavar="NAME")] = None,
    mode: Literal["min", "max"] | None = None,
    title: Annotated[str | None, conf.arg(metavar="TEXT")] = None,
) -> None:
    """Write the report of a finished sweep: one page that works offline, with the ranking and all curves.

    Examples:
      jaxsched report runs/task
      jaxsched report runs/task -o page.html --metric train_loss

    Args:
        directory: The folder of its results, with result.npz.
        output: The page, a file that ends with .html (report.html in DIR).
        metric: Metric of the ranking (that of the sweep).
        mode: Whether the smallest or the largest value is best (that of the sweep).
        title: Title of the page.
    """
    output = directory / "report.html" if output is None else output
    if output.suffix.lower() not in (".html", ".htm"):
        fail(f"-o {output}: a page ends with .html; write -o {output.with_suffix('.html')}")
    result = _loaded(directory)
    of_sweep = str(result.run.get("metric", "valid_loss"))
    by = of_sweep if metric is None else metric
    if by not in result.final:
        fail(f"--metric {by}: {nearest_name(by, result.final)}")
    mode = result.run.get("mode") if mode is None and by == of_sweep else mode
    with refusals():
        path = result.report(output, by, mode, title=title)
        best = result.ranking(by, mode)[0]
    print_text(f"best of {len(result.settings)} by {by}: {result.settings[best['setting']]!r}")
    say(f"wrote {path}")


def _loaded(directory: Path) -> SweepResult:
    """The result; if its schedule classes are not importable, the task file is loaded first."""
    if not (directory / archive.FILE).is_file():
        fail(_contents(directory))
    with refusals():
        try:
            return SweepResult.load(directory)
        except ImportError:
            saved = files.read_command(directory)
            if saved is None:
                raise
            files.load(files.working_directory(directory, saved) / saved["file"])
            return SweepResult.load(directory)


def _contents(directory: Path) -> str:
    """What a folder holds, and what to write."""
    if not directory.is_dir():
        return f"there is no folder {directory}"
    name = shlex.quote(str(directory))
    if _stopped(directory) is not None:
        return f"{directory} holds a sweep that was stopped or is still running; jaxsched resume {name} continues it"
    if (directory / archive.FILE).is_file():
        return f"{directory} holds the results of a finished sweep; jaxsched report {name} shows them"
    if (directory / "result.json").is_file():
        return f"{directory} holds no {archive.FILE}, only result.json: its settings are not importable by name"
    return f"{directory} holds no sweep; write the folder of its results, such as runs/NAME"
