"""How the command ends: one sentence that says what to write instead, and a number for scripts.

0    all is well
1    the answer is no: findings (`lint`), differences (`compare --exit-code`); a sweep whose other process died
2    what was written cannot be done, a task file that fails included
70   an error of jaxsched itself
130  stopped by Ctrl-C
141  whoever read the output went away
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

FINDINGS, USAGE, UNEXPECTED, INTERRUPTED, BROKEN_PIPE = 1, 2, 70, 130, 141

_OWNERS = frozenset(
    "sweep Task Checkpoint successive_halving initialize SweepResult SweepResult.load SweepResult.save report plot "
    "terminal_plot lint outline find_lr FinderResult Timeline parse to_dict from_dict to_keras to_torch to_optax grid "
    "sample space field choice uniform log_uniform int_uniform stack unstack".split()
)
"""An error that begins with one of these was written for the user, and its text says all."""

_user_folders: list[Path] = []
"""Where the task files lie that were loaded: an error in there is the user's, and is shown with its place."""


class Refused(Exception):
    """What the user asked for cannot be done; the text says what to write instead."""


class Stopped(Exception):
    """The user stopped the sweep; `saved`: the same command goes on; `at_once`: nothing is waited for."""

    def __init__(self, text: str, saved: bool, at_once: bool = False) -> None:
        super().__init__(text)
        self.saved, self.at_once = saved, at_once


def fail(text: str) -> NoReturn:
    """Refuses in one sentence."""
    raise Refused(text)


def is_ours(error: BaseException) -> bool:
    """Whether the error was written for the user: it begins with the name of what refuses."""
    from ..schedules.base import Schedule
    from ..text import ParseError

    if isinstance(error, ParseError):
        return True
    text = text_of(error)
    if isinstance(error, ImportError):
        return "pip install" in text
    owner = re.match(r"([\w.]+)(?:: | has no (?:field|argument) )", text)
    if owner is None or not isinstance(error, (TypeError, ValueError, KeyError, OSError, OverflowError)):
        return False
    import jaxsched

    found = getattr(jaxsched, owner.group(1), None)
    return owner.group(1) in _OWNERS or (isinstance(found, type) and issubclass(found, Schedule))


def text_of(error: BaseException) -> str:
    """The text of an error; of a KeyError without the quotes that Python puts around it."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def user_file(path: Path) -> None:
    """From here on, errors in the folder of `path` are those of the user."""
    _user_folders.append(path.resolve().parent)


@contextlib.contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """Turns errors about what the user typed into one sentence; what their own code does wrong has its place told."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, kinds or (TypeError, ValueError, OverflowError)) or _place(error):
            raise
        raise Refused(text_of(error)) from error


@contextlib.contextmanager
def told(typed: Sequence[str], debug: bool) -> Iterator[None]:
    """Turns every way to end into a text and a number; with `debug` the traceback comes too."""
    try:
        yield
        sys.stdout.flush()
    except Stopped as stop:
        word = "to go on" if stop.saved else "to start again"
        say(f"\n{stop}\n{word}: {shlex.join(['jaxsched', *typed])}")
        if stop.at_once:  # a thread that is deep in a computation would be waited for
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # of `jaxsched list | head`; Python would complain once more when it closes the pipe
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None
    except KeyboardInterrupt:
        say("jaxsched: stopped")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        text, code = _sentence(error)
        if debug:
            traceback.print_exc()
        say(f"jaxsched: {text}")
        raise SystemExit(code) from None


def say(text: str) -> None:
    """A message, which is no data: to stderr."""
    print(text, file=sys.stderr, flush=True)


def _sentence(error: Exception) -> tuple[str, int]:
    if isinstance(error, Refused):
        return str(error), USAGE
    first = text_of(error).strip().partition("\n")[0]
    first = f": {first if len(first) <= 300 else f'{first[:297]}...'}" if first else ""
    if place := _place(error):
        return f"{place}: {type(error).__name__}{first}; --debug shows the traceback", USAGE
    if is_ours(error):
        return text_of(error), USAGE
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", USAGE
    return f"unexpected {type(error).__name__}{first}; run with --debug for the traceback", UNEXPECTED


def _place(error: BaseException) -> str | None:
    """The file and the line of the user's own code in which the error arose, if it is the user's."""
    package = Path(__file__).resolve().parent.parent
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    for name, line in reversed(places):
        path = Path(name)
        if not path.is_absolute():
            path = path.resolve()
        # <string> is no file: what a library makes at run time, such as the __init__ of a dataclass.
        if package in path.parents or "site-packages" in path.parts or not path.is_file():
            continue
        if any(folder in path.parents for folder in _user_folders):
            return f"{_near(path)}:{line}"
    return None


def _near(path: Path) -> str:
    """The path as the user would write it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
