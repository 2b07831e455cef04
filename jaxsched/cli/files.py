"""The task file, and the command of a sweep, saved for `jaxsched resume`."""

from __future__ import annotations

import contextlib
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

argv: ContextVar[list[str]] = ContextVar("argv", default=[])  # noqa: B039  # never modified
"""The command that runs, without the word jaxsched."""

COMMAND = "command.json"
"""Beside results: the command that made them. In a folder of checkpoints: the command that continues from them."""

CHECKPOINT = "checkpoint"
"""The default folder of the checkpoints, inside of that of the results."""

_VERSION = 2
"""Of the format of the command files."""


def load(file: Path) -> ModuleType:
    """Imports the task file; its folder is on the import path, as with `python FILE`."""
    if not file.is_file():
        fail(f"there is no file {file}")
    name = f"jaxsched_task_{file.stem}"  # a task file may be called random.py, and must not replace that module
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
    task = module.task
    if not isinstance(task, Task):
        fail(f"{file}: task={format_value(task)} is not a jaxsched.sweep.Task")
    with contextlib.suppress(ValueError):  # a function that is not written in Python has no signature
        signature = inspect.signature(task.optimizer)
        try:
            signature.bind(None)  # the first call is where a program is compiled, far from the file
        except TypeError:
            hint = "optimizer=lambda schedule: optax.adam(schedule)"
            fail(f"{file}: optimizer{signature} of the task must take the schedule, and nothing else: {hint}")
    return task


# --- the command of a sweep ------------------------------------------------------------------------------------------


def write_command(folder: Path, argv: list[str], file: Path, **facts: Any) -> None:
    """Saves the command in `folder`, with its working directory and the digest of its task file.

    The working directory is saved relative to `folder`, because both may be moved together, and as an absolute path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    try:
        origin = os.path.relpath(here, folder.resolve())
    except ValueError:  # on another drive
        origin = str(here)
    where = {"origin": Path(origin).as_posix(), "at": str(here), "file": str(file), "sha256": _digest(file)}
    saved = {"version": _VERSION, "argv": argv, **where, **facts}
    half = folder / f".{COMMAND}.tmp"
    half.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    half.replace(folder / COMMAND)


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
