"""Error messages and exit codes; `jaxsched --help` lists the codes."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import NoReturn

from .._errors import FieldError, FieldTypeError, format_value
from ..inspect.format import cut
from ..text import ParseError

FINDINGS, USAGE, UNEXPECTED, INTERRUPTED, BROKEN_PIPE = 1, 2, 70, 130, 141

# The command that runs, without the word jaxsched.
argv: ContextVar[list[str]] = ContextVar("argv", default=[])  # noqa: B039  # never modified

# The folders of the loaded task files. An error raised there is the user's, and is reported with its file and line.
user_folders: list[Path] = []

# The option for each argument of a `Timeline`, and for a whole one.
_OPTIONS = {
    "timeline": "--steps",
    "total_steps": "--steps",
    "steps_per_epoch": "--steps-per-epoch",
    "tokens_per_step": "--tokens-per-step",
}


class Refused(Exception):
    """Input that the command does not accept; the text says what to write instead."""


class Stopped(Exception):
    """The user stopped the sweep; `saved` is whether it can continue, `at_once` whether threads are not waited for."""

    def __init__(self, text: str, saved: bool, at_once: bool = False) -> None:
        super().__init__(text)
        self.saved, self.at_once = saved, at_once


def fail(text: str) -> NoReturn:
    raise Refused(text)


def say(text: str) -> None:
    """Prints a message to stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def refusals(place: str = "", option: str = "length") -> Iterator[None]:
    """Turns an error of an argument check into `Refused`, unless it comes from user code.

    Args:
      place: where the input was written; it is put before the text.
      option: the option that holds a length.
    """
    try:
        yield
    except (Refused, TypeError, ValueError, OverflowError) as error:
        if not isinstance(error, Refused) and _place(error):
            raise
        text = _text(error, option)
        raise Refused(f"{place}: {text}" if place else text) from error


def _text(error: Exception, option: str = "length") -> str:
    """The text of an error, with options in place of the arguments of a `Timeline`."""
    cause = error.__cause__
    if isinstance(error, ParseError) and isinstance(cause, FieldError) and cause.needs in _OPTIONS:
        return str(ParseError(f"{cause.owner}: {_needs(cause)}", error.text, error.column))
    if isinstance(error, FieldError) and error.owner == "Timeline":
        error = error.renamed("", _OPTIONS.get(str(error.field), option))
        return _needs(error) if error.needs else str(error)
    return str(error)


def _needs(error: FieldError) -> str:
    return f"{error.field}={format_value(error.value)} needs {_OPTIONS[error.needs]} N"


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
    if isinstance(error, Refused):
        return str(error), USAGE
    first = cut(str(error).strip().partition("\n")[0].rstrip("."), 300)
    named = type(error).__name__ + f": {first}" * bool(first)
    if place := _place(error):
        return f"{place}: {named}; --debug shows the traceback", USAGE
    # An ImportError without a module name was raised by hand, with what to install as its text.
    if isinstance(error, (FieldError, FieldTypeError, ParseError)) or (
        isinstance(error, ImportError) and not error.name
    ):
        return _text(error), USAGE
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
        library = package in path.parents or "site-packages" in path.parts or not path.is_file()
        if not library and any(folder in path.parents for folder in user_folders):
            return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"
    return None
