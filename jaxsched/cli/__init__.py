"""The command `jaxsched`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .._errors import nearest_name
from ..version import __version__
from . import errors, files
from .errors import fail

COMMANDS = {
    "list": "catalogue:list_schedules",
    "show": "show:show",
    "plot": "plot:plot",
    "compare": "compare:compare",
    "lint": "show:lint",
    "convert": "convert:convert",
    "find": "find:find",
    "sweep": "sweep:sweep",
    "resume": "resume:resume",
    "report": "resume:report",
}
"""The module and the function of each command."""

_ABOUT = f"""Learning-rate schedules for JAX (jaxsched {__version__}).

A schedule is written as a Python expression in quotes, such as "WarmupCosine(0.1, warmup_steps=10, total_steps=100)". Results go to stdout and messages to stderr.

--version prints the version, and --debug shows the traceback of an error. NO_COLOR=1 turns colours off. `jaxsched --tyro-print-completion bash` (zsh, tcsh) prints the completion script of a shell. `jaxsched COMMAND --help` ends with examples.

Exit codes: 0 success; 1 a negative result (lint findings, differences with compare --exit-code, no suggestion of find, another process of a sweep died); 2 invalid input; 70 an internal error; 130 stopped by Ctrl-C; 141 output pipe closed.
"""  # noqa: E501  # tyro wraps each paragraph

_NEGATED = re.compile(r"-[^-o].*\(")
"""Matches an expression such as -Constant(0.1), which would be parsed as an option, and not -o FILE."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command with `args`, or with those of the process."""
    words = list(sys.argv[1:] if args is None else args)
    typed = [word for word in words if word != "--debug"]
    try:
        run(typed)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        raise SystemExit(errors.report(error, typed, debug=typed != words)) from None


def run(typed: Sequence[str]) -> None:
    """Runs the command; raises what the command raises."""
    try:
        import rich  # noqa: F401  # the commands import it, some of them only after training
        import tyro  # noqa: F401
    except ImportError:
        fail('the command jaxsched needs tyro and rich: pip install "jaxsched[cli]"')
    typed = [f"({word})" if _NEGATED.match(word) else word for word in typed] or ["--help"]
    if typed[0] in ("--version", "-V"):
        print(f"jaxsched {__version__}")
        return
    if not typed[0].startswith("-") and typed[0] not in COMMANDS:
        fail(f"there is no command {typed[0]!r}: {nearest_name(typed[0], COMMANDS)}")
    call = _parse(typed)
    files.argv.set(typed)
    call()


def _parse(typed: list[str]) -> Callable[[], None]:
    """The call that the words request; tyro prints help and parse errors and exits."""
    import tyro
    from tyro import conf

    from .console import plain

    app = tyro.extras.SubcommandApp()
    for name in COMMANDS:
        function = _function(name)
        summary = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
        app.command(name=name, help=None if name == typed[0] else summary)(_deferred(function))
    markers = (conf.PositionalRequiredArgs, conf.HelptextFromCommentsOff, conf.FlagCreatePairsOff)
    captured = io.StringIO()  # tyro uses no colours where stdout is not a terminal
    try:
        with contextlib.redirect_stdout(captured) if plain() else contextlib.nullcontext():
            return app.cli(prog="jaxsched", description=_ABOUT, args=typed, config=markers)
    finally:
        print(captured.getvalue(), end="")
        if typed[0] in COMMANDS and not {"--help", "-h"}.isdisjoint(typed):
            print(f"\nExamples:\n{_examples(typed[0])}")


def _deferred(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """A function with the same signature that returns the call instead of making it."""

    @functools.wraps(function)
    def call_later(*args: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(function, *args, **named)

    return call_later


def _function(name: str) -> Callable[..., None]:
    module, _, function = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), function)


def _examples(name: str) -> str:
    """The Examples section of a command's docstring, which tyro leaves out of the help text."""
    text = inspect.cleandoc(_function(name).__doc__ or "")
    return text.partition("\nExamples:\n")[2].partition("\nArgs:\n")[0].rstrip()


def examples() -> list[str]:
    """The command lines in all help texts."""
    lines = [line.strip() for name in COMMANDS for line in _examples(name).splitlines()]
    return [line for line in lines if line.startswith("jaxsched ")]
