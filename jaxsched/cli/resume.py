"""`jaxsched resume` and `jaxsched report`: continue the sweep of a folder, or write its page."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from .._errors import nearest_name
from ..sweep import SweepResult, archive, checkpoint, report_page
from .console import print_text
from .errors import argv, fail, refusals, say
from .reading import Name, Output, Text, load

Folder = Annotated[Path, conf.arg(metavar="DIR")]

COMMAND = "command.json"
CHECKPOINT = "checkpoint"  # the default folder of the checkpoints, inside of that of the results
_VERSION = 2  # of the command files


@dataclasses.dataclass(frozen=True)
class Command:
    """The command of a sweep: saved beside its results in `out`, and beside its checkpoints for `jaxsched resume`."""

    file: Path
    checkpoints: Path | None
    out: Path

    @property
    def _places(self) -> set[Path]:
        """Where `resume` looks for it: in the folder of the results, and in that of the checkpoints."""
        if self.checkpoints is None:
            return set()
        return {(self.out / CHECKPOINT).resolve(), self.checkpoints.resolve()} - {self.out.resolve()}

    def has_checkpoints(self) -> bool:
        return self.checkpoints is not None and any(self.checkpoints.glob("process-*"))

    def save(self) -> None:
        for place in self._places:
            self.write(place, checkpoint=os.path.relpath(str(self.checkpoints)))

    def write(self, folder: Path, **facts: Any) -> None:
        """Writes it with its working directory, and the digest of the task file.

        The directory is saved relative to `folder`, because both may be moved together, and as an absolute path.
        """
        here = Path.cwd()
        try:
            origin = os.path.relpath(here, folder.resolve())
        except ValueError:  # on another drive
            origin = str(here)
        where = {"origin": Path(origin).as_posix(), "at": str(here), "file": str(self.file)}
        saved = {"version": _VERSION, "argv": argv.get(), **where, "sha256": _digest(self.file), **facts}
        report_page.write(folder / COMMAND, json.dumps(saved, indent=2) + "\n")

    def remove_checkpoints(self) -> None:
        """Removes the checkpoints and the command beside them, and the folders if they are empty then."""
        if self.checkpoints is not None:
            checkpoint.remove(self.checkpoints)
        for place in self._places:
            (place / COMMAND).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                place.rmdir()


def read_command(folder: Path) -> dict[str, Any] | None:
    """The saved command of a folder, None if there is none; its `origin` is an absolute path."""
    path = folder / COMMAND
    if not path.is_file():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["version"] != _VERSION or not all(isinstance(word, str) for word in saved["argv"]):
            raise ValueError("another version")
        return {**saved, "origin": (folder.resolve() / saved["origin"]).resolve()}
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path} is broken, or of another jaxsched ({error}); type the command of the sweep again")


def working_directory(folder: Path, saved: dict[str, Any]) -> Path:
    """Where a saved command runs: where it was typed, or where that was moved to together with `folder`.

    If only `folder` was moved, the relative path leads to another place. A file of the same name there is not run,
    unless it has the same content.
    """
    origin, at = saved["origin"], Path(saved["at"])
    file = origin / saved["file"]
    if file.is_file() and (origin == at.resolve() or _digest(file) == saved["sha256"]):
        return origin
    fail(
        f"{folder / COMMAND} was written in {at}, and its task file is not at {file}, or is another one there; "
        f"type the command where the task file is: {shlex.join(['jaxsched', *saved['argv']])}"
    )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
    origin = working_directory(directory, saved)
    say(f"in {origin}: {shlex.join(['jaxsched', *saved['argv']])}")
    if not any((origin / saved["checkpoint"]).glob("process-*")):
        say("nothing was saved: it starts again")
    with contextlib.chdir(origin):
        run(saved["argv"])


def _stopped(directory: Path) -> dict[str, Any] | None:
    """The command of an unfinished sweep, from the folder of its results or of its checkpoints."""
    found = map(read_command, (directory / CHECKPOINT, directory))
    return next((saved for saved in found if saved is not None and "checkpoint" in saved), None)


def report(
    directory: Folder,
    output: Output = None,
    metric: Name = None,
    mode: Literal["min", "max"] | None = None,
    title: Text = None,
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
            saved = read_command(directory)
            if saved is None:
                raise
            load(working_directory(directory, saved) / saved["file"])
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
