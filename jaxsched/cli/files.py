"""The user's task file, and the note from which a sweep is resumed."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from ..schedules.fields import shown
from ..sweep.task import Task
from . import errors
from .errors import fail

argv: ContextVar[list[str]] = ContextVar("argv", default=[])  # noqa: B039  # which nobody changes
"""The command that runs, without the word jaxsched."""

COMMAND = "command.json"
"""In the folder of the results: the command that made them, and what they are ranked by."""


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
        fail(f"{file}: task={shown(module.task)} is not a jaxsched.sweep.Task")
    return module.task


def schedules_of(file: Path, module: ModuleType) -> Any:
    """The schedules of the file."""
    if not hasattr(module, "schedules"):
        fail(f"{file} has no `schedules`: write schedules = grid(...) in it, or give --schedule and --set, or --space")
    return module.schedules


# --- the command of a sweep ------------------------------------------------------------------------------------------


def write_command(folder: Path, argv: list[str], facts: dict[str, Any]) -> None:
    """Notes how the results in `folder` are made. Where it was called is told from `folder` on: both may be moved."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        origin = os.path.relpath(Path.cwd(), folder.resolve())
    except ValueError:  # on another drive
        origin = str(Path.cwd())
    note = {"version": 1, "argv": argv, "origin": Path(origin).as_posix(), **facts}
    half = folder / f".{COMMAND}.tmp"
    half.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    half.replace(folder / COMMAND)


def read_command(folder: Path) -> dict[str, Any] | None:
    """The note in a folder of results, None if there is none; `origin` is a path from here."""
    path = folder / COMMAND
    if not path.is_file():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["version"] != 1 or not all(isinstance(word, str) for word in note["argv"]):
            raise ValueError("another version")
        return {**note, "origin": (folder.resolve() / note["origin"]).resolve()}
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path} is broken, or of another jaxsched ({error}); type the command of the sweep again")
