"""The user's task file, and the note from which a sweep is resumed."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import shlex
import sys
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from .._errors import format_value
from ..sweep.task import Task
from . import errors
from .errors import fail

argv: ContextVar[list[str]] = ContextVar("argv", default=[])  # noqa: B039  # which nobody changes
"""The command that runs, without the word jaxsched."""

COMMAND = "command.json"
"""Beside the results: the command that made them. In a folder of checkpoints: the one that goes on from them."""

CHECKPOINT = "checkpoint"
"""The folder in that of the results that holds the checkpoints, and while a sweep goes on its command."""


def load(file: Path) -> ModuleType:
    """The task file as a module, with its folder to import from, as `python FILE` has it."""
    if not file.is_file():
        fail(f"there is no file {file}")
    name = f"jaxsched_task_{file.stem}"  # a task file may be called random.py, and must not stand in for that module
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        fail(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.resolve().parent))
    errors.user_file(file)
    spec.loader.exec_module(module)
    return module


def task_of(file: Path, module: ModuleType) -> Task:
    """The task of the file."""
    if not hasattr(module, "task"):
        fail(f"{file} has no `task`: write task = Task(init=..., loss=..., ...) in it")
    if not isinstance(module.task, Task):
        fail(f"{file}: task={format_value(module.task)} is not a jaxsched.sweep.Task")
    _check_optimizer(file, module.task)
    return module.task


def _check_optimizer(file: Path, task: Task) -> None:
    """It is first called where a program is compiled, far from the file."""
    try:
        signature = inspect.signature(task.optimizer)
    except (TypeError, ValueError):  # of what is not written in Python
        return
    try:
        signature.bind(None)
    except TypeError:
        fail(
            f"{file}: optimizer{signature} of the task must take the schedule, and nothing else: "
            "optimizer=lambda schedule: optax.adam(schedule)"
        )


def schedules_of(file: Path, module: ModuleType) -> Any:
    """The schedules of the file."""
    if not hasattr(module, "schedules"):
        fail(f"{file} has no `schedules`: write schedules = grid(...) in it, or give --schedule and --set, or --space")
    return module.schedules


# --- the command of a sweep ------------------------------------------------------------------------------------------


def write_command(folder: Path, argv: list[str], file: Path, **facts: Any) -> None:
    """Notes in `folder` the command that works on it, and the task file. Where it was typed is told from `folder` on,
    for both may be moved together, and as it was then."""
    folder.mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    try:
        origin = os.path.relpath(here, folder.resolve())
    except ValueError:  # on another drive
        origin = str(here)
    places = {"origin": Path(origin).as_posix(), "at": str(here), "file": str(file), "sha256": _digest(file)}
    note = {"version": 2, "argv": argv, **places, **facts}
    half = folder / f".{COMMAND}.tmp"
    half.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    half.replace(folder / COMMAND)


def read_command(folder: Path) -> dict[str, Any] | None:
    """The note in a folder, None if there is none; `origin` is a path from here."""
    path = folder / COMMAND
    if not path.is_file():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["version"] != 2 or not all(isinstance(word, str) for word in note["argv"]):
            raise ValueError("another version")
        return {**note, "origin": (folder.resolve() / note["origin"]).resolve()}
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path} is broken, or of another jaxsched ({error}); type the command of the sweep again")


def command_line(note: dict[str, Any]) -> str:
    """The command of a note, as it was typed."""
    return shlex.join(["jaxsched", *note["argv"]])


def place_of(folder: Path, note: dict[str, Any]) -> Path:
    """Where the command of a note runs: where it was typed, or where that was moved to together with `folder`.

    Of a folder that was moved alone, the way back leads to another tree. What it holds under the name of the task file
    is not run, unless it is the same file."""
    origin, at = note["origin"], Path(note["at"])
    file = origin / note["file"]
    if file.is_file() and (origin == at.resolve() or _digest(file) == note["sha256"]):
        return origin
    fail(
        f"{folder / COMMAND} was written in {at}, and its task file is not at {file}, or is another one there; "
        f"type the command where the task file is: {command_line(note)}"
    )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
