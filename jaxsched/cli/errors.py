"""Error messages and exit codes.

0    success
1    a negative result: findings (`lint`), differences (`compare --exit-code`), a sweep whose other process died
2    invalid input, including an error inside of the user's task file
70   an internal error
130  stopped by Ctrl-C
141  output pipe closed
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from .._errors import FieldError, FieldTypeError

FINDINGS, USAGE, UNEXPECTED, INTERRUPTED, BROKEN_PIPE = 1, 2, 70, 130, 141

_user_folders: list[Path] = []
"""The folders of the loaded task files. An error raised there is the user's, and is reported with its file and line."""


class Refused(Exception):
    """Input that the command does not accept; the text says what to write instead."""


class Stopped(Exception):
    """The user stopped the sweep.

    Args:
      text: what happened.
      saved: whether the same command continues from a checkpoint.
      at_once: whether to exit without waiting for other threads.
    """

    def __init__(self, text: str, saved: bool, at_once: bool = False) -> None:
        super().__init__(text)
        self.saved, self.at_once = saved, at_once


def fail(text: str) -> NoReturn:
    """Raises `Refused`."""
    raise Refused(text)


def say(text: str) -> None:
    """Prints a message to stderr."""
    print(text, file=sys.stderr, flush=True)


def user_file(path: Path) -> None:
    """Registers the folder of `path` as user code."""
    _user_folders.append(path.resolve().parent)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns a TypeError or ValueError of an argument check into `Refused`, unless it comes from user code."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        if _place(error):
            raise
        raise Refused(str(error)) from error


def report(error: BaseException, typed: Sequence[str], debug: bool) -> int:
    """Prints how the command `typed` ended, and returns its exit code; `debug` prints the traceback too."""
    if isinstance(error, Stopped):
        say(f"\n{error}\nto {'go on' if error.saved else 'start again'}: {shlex.join(['jaxsched', *typed])}")
        if error.at_once:  # the interpreter would wait for a thread that is inside of a computation
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # of `jaxsched list | head`; Python would flush stdout again at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        say("jaxsched: stopped")
        return INTERRUPTED
    if debug:
        traceback.print_exception(error)
    text, code = _described(error)
    say(f"jaxsched: {text}")
    return code


def _described(error: BaseException) -> tuple[str, int]:
    """The message of an error, and its exit code."""
    from ..text import ParseError

    if isinstance(error, Refused):
        return str(error), USAGE
    first = str(error).strip().partition("\n")[0].rstrip(".")
    named = type(error).__name__ + (f": {first if len(first) <= 300 else f'{first[:297]}...'}" if first else "")
    if place := _place(error):
        return f"{place}: {named}; --debug shows the traceback", USAGE
    # An ImportError without a module name was raised by hand, with what to install as its text.
    by_hand = isinstance(error, ImportError) and error.name is None
    if by_hand or isinstance(error, (FieldError, FieldTypeError, ParseError)):
        return str(error), USAGE
    if isinstance(error, OSError):
        return str(error) if error.filename is None else f"{error.filename}: {error.strerror}", USAGE
    return f"unexpected {named}; run with --debug for the traceback", UNEXPECTED


def _place(error: BaseException) -> str | None:
    """The file and line of user code in which the error was raised; None if no user code was involved."""
    package = Path(__file__).resolve().parent.parent
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    for name, line in reversed(places):
        path = Path(name).absolute()
        # <string> is not a file: a library generates such code, for example the __init__ of a dataclass.
        if package in path.parents or "site-packages" in path.parts or not path.is_file():
            continue
        if any(folder in path.parents for folder in _user_folders):
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return f"{shown}:{line}"
    return None
