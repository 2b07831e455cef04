"""The command `jaxsched`."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence

from .._errors import nearest_name
from ..version import __version__
from . import errors
from .errors import fail

# The module and the function of each command.
COMMANDS = {
    "list": "catalogue:list_schedules",
    "show": "show:show",
    "plot": "plot:plot",
    "compare": "show:compare",
    "lint": "show:lint",
    "convert": "convert:convert",
    "find": "find:find",
    "sweep": "sweep:sweep",
    "resume": "resume:resume",
    "report": "resume:report",
}

_ABOUT = f"""Learning-rate schedules for JAX (jaxsched {__version__}).

A schedule is written as a Python expression in quotes, such as "WarmupCosine(0.1, warmup_steps=10, total_steps=100)". Results go to stdout and messages to stderr.

--version prints the version, and --debug shows the traceback of an error. NO_COLOR=1 turns colours off. `jaxsched --tyro-print-completion bash` (zsh, tcsh) prints the completion script of a shell. `jaxsched COMMAND --help` ends with examples.

Exit codes: 0 success; 1 a negative result (lint findings, differences with compare --exit-code, no suggestion of find, another process of a sweep died); 2 invalid input; 70 an internal error; 130 stopped by Ctrl-C; 141 output pipe closed.
"""  # noqa: E501  # tyro wraps each paragraph

# Matches an expression such as -Constant(0.1), which would be parsed as an option, and not -o FILE.
_NEGATED = re.compile(r"-[^-o].*\(")


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
    errors.argv.set(typed)
    _call(*typed)


def _call(name: str, *words: str) -> None:
    """Calls a command with its options; tyro prints help and most parse errors, and exits."""
    import tyro
    from tyro import conf

    from .console import plain

    config = (conf.PositionalRequiredArgs, conf.OmitArgPrefixes, conf.HelptextFromCommentsOff, conf.FlagCreatePairsOff)
    help_wanted = name not in COMMANDS or not {"--help", "-h"}.isdisjoint(words)
    captured = io.StringIO()  # tyro uses no colours where stdout is not a terminal
    try:
        with contextlib.redirect_stdout(captured) if plain() and help_wanted else contextlib.nullcontext():
            if name in COMMANDS:
                if not help_wanted:
                    _check_options(name, words)
                tyro.cli(_function(name), prog=f"jaxsched {name}", args=words, config=config)
                return
            app = tyro.extras.SubcommandApp()
            for command in COMMANDS:
                summary = inspect.cleandoc(_function(command).__doc__ or "").partition("\n\n")[0]
                app.command(name=command, help=summary)(_function(command))
            app.cli(prog="jaxsched", description=_ABOUT, args=[name, *words], config=config)
    finally:
        print(captured.getvalue(), end="")
        if name in COMMANDS and help_wanted:
            print(f"\nExamples:\n{_examples(name)}")


def _check_options(name: str, words: Sequence[str]) -> None:
    """Raises for an option that the command does not have, and for one that is written twice."""
    parameters = inspect.signature(_function(name)).parameters.values()
    # The default of a group of options is a dataclass.
    fields = [field for p in parameters for field in getattr(p.default, "__dataclass_fields__", [p.name])]
    known = [f"--{field.replace('_', '-')}" for field in fields]
    seen = set()
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if re.match("--(?!tyro)[a-z]", option) and option not in known:
            fail(f"{name} has no option {option}: {nearest_name(option, known)}")
        if option in known and option in seen:  # the first one would be ignored
            families = ": several families are tables [[families]] of a --space file" * (option == "--schedule")
            fail(f"{option} is written twice{families}")
        if option != "--set":
            seen.add(option)


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
