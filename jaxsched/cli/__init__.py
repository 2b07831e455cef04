"""The command `jaxsched`."""

from __future__ import annotations

import contextlib
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
    "resume": "again:resume",
    "report": "again:report",
    "bench": "bench:bench",
    "completion": "completion:completion",
}
"""Each command with the module and the function that it is."""

_ABOUT = f"""Learning-rate schedules for JAX (jaxsched {__version__}).

A schedule is written as the expression that makes it, such as "WarmupCosine(0.1, warmup_steps=10, total_steps=100)". Data go to stdout and messages to stderr. NO_COLOR=1 turns colours off. --version tells the version, and --debug anywhere shows the traceback of an error.

Exit codes: 0 all is well, 1 the answer is no (findings of lint, differences of compare --exit-code, no suggestion of find, a process of a sweep that died), 2 what was written cannot be done, 70 an error of jaxsched itself, 130 stopped by Ctrl-C, 141 whoever read the output went away.

Examples:
  jaxsched list warmup
  jaxsched show "WarmupCosine(0.1, warmup_steps=10, total_steps=100)"
  jaxsched COMMAND --help
"""  # noqa: E501  # a line is a paragraph

_NEGATIVE = re.compile(r"-\s*(\(|[A-Z]\w*\(|\w+\.[\w.]+\(|[\d.]\S*\s*\*)")
"""How -Constant(0.1), -compat.torch.StepLR(...), -(...) and -0.5 * Constant(0.1) begin."""

_EXPRESSIONS = ("show", "lint", "convert", "plot", "compare")
"""The commands that take an expression."""

_TAILS = ("A space in TOML", "Examples")
"""The parts of a docstring that are shown after the options, line by line as they stand there."""

_SHELL_FLAGS = ("--tyro-print-completion", "--tyro-write-completion")


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command with `args`, or with those of the process."""
    typed = list(sys.argv[1:] if args is None else args)
    end = typed.index("--") if "--" in typed else len(typed)
    debug = "--debug" in typed[:end]
    typed = [word for i, word in enumerate(typed) if i >= end or word != "--debug"]
    with errors.told(typed, debug):
        run(typed)


def run(typed: Sequence[str]) -> None:
    """Runs the command, and lets its errors be."""
    try:
        import rich  # noqa: F401  # used by the commands, and told to be missing here, before anything is trained
        import tyro  # noqa: F401
    except ImportError:
        fail('the command jaxsched needs tyro and rich: pip install "jaxsched[cli]"')
    typed = _kept(list(typed) or ["--help"])
    if typed[0] in ("--version", "-V"):
        print(f"jaxsched {__version__}")
        return
    if not typed[0].startswith("-") and typed[0] not in COMMANDS:
        fail(f"there is no command {typed[0]!r}: {nearest_name(typed[0], COMMANDS)}")
    call = _parsed(typed)
    files.argv.set(typed)
    call()


def _kept(typed: list[str]) -> list[str]:
    """The words, with expressions that begin with a minus in parentheses: else they would be taken for options."""
    end = typed.index("--") if "--" in typed else len(typed)
    return [f"({word})" if i < end and _NEGATIVE.match(word) else word for i, word in enumerate(typed)]


def _parsed(typed: Sequence[str]) -> Callable[[], Any]:
    """The call that the words stand for; help is printed and errors are told here."""
    import tyro
    from tyro import conf

    from . import console

    app = tyro.extras.SubcommandApp()
    functions = {name: _function(name) for name in COMMANDS}
    for name, function in functions.items():
        app.command(name=name, help=_about(function, short=typed[0] != name))(_later(function))
    markers = (conf.PositionalRequiredArgs, conf.HelptextFromCommentsOff, conf.FlagCreatePairsOff)
    about, _, examples = _ABOUT.partition("\n\nExamples:\n")
    help_, said = io.StringIO(), io.StringIO()
    seen: Any = help_ if console.plain() or typed[0] in _SHELL_FLAGS else contextlib.nullcontext()
    try:
        with contextlib.redirect_stderr(said), _held(seen):
            return app.cli(prog="jaxsched", description=about, args=list(typed), config=markers)
    except SystemExit as stop:
        if stop.code:
            raise errors.Refused(_in_words(said.getvalue(), typed)) from None
        print(help_.getvalue(), end="")
        if typed[0] not in _SHELL_FLAGS:
            for title in _TAILS if typed[0] in functions else ():
                if text := _tail(functions[typed[0]], title):
                    print(f"\n{title}:\n{text}")
            if typed[0] not in functions:
                print(f"\nExamples:\n{examples.rstrip()}")
        raise


def _held(stream: Any) -> Any:
    """Held back from the terminal, for which tyro would colour it."""
    return contextlib.redirect_stdout(stream) if isinstance(stream, io.StringIO) else stream


def _function(name: str) -> Callable[..., Any]:
    module, _, function = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), function)


def _later(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for tyro, which calls it with what it parsed: so an error of the one is not one of the other."""

    def parsed(*args: Any, **named: Any) -> Callable[[], Any]:
        return lambda: function(*args, **named)

    parsed.__name__, parsed.__doc__, parsed.__module__ = function.__name__, function.__doc__, function.__module__
    parsed.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    parsed.__annotations__ = {name: parameter.annotation for name, parameter in parsed.__signature__.parameters.items()}  # type: ignore[attr-defined]
    return parsed


def _about(function: Callable[..., Any], short: bool) -> str:
    """What stands above the options: all of the docstring before its arguments and examples, or its first sentence."""
    text = re.split(rf"\n(?:{'|'.join(_TAILS)}|Args):\n", inspect.cleandoc(function.__doc__ or ""))[0].strip()
    return text.partition("\n\n")[0] if short else text


def _tail(function: Callable[..., Any], title: str) -> str:
    """The lines of a part of the docstring, which can be copied."""
    found = re.search(rf"\n{title}:\n(.*?)(?=\n\S|\Z)", inspect.cleandoc(function.__doc__ or ""), re.DOTALL)
    return found.group(1).rstrip() if found else ""


def examples() -> list[str]:
    """Every line that the help texts show to be copied."""
    texts = [_tail(_function(name), "Examples") for name in COMMANDS]
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def _in_words(box: str, typed: Sequence[str]) -> str:
    """One sentence of the box in which tyro tells of an error."""
    lines = [line.strip("│| ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    text = "\n".join(line for line in lines if not line.startswith(("╭", "╰")))
    sections = re.split(r"\n(?:─+|-+)\n", text)
    if "╭" not in box:  # drawn in ASCII, where the title is a line of its own
        sections = sections[1:] or sections
    first = " ".join(sections[0].partition("\n\n")[0].split()).rstrip(".")
    bad = re.match(r"Error parsing (\S+): no type matching (.*) could be instantiated from \[(.*)\]$", first)
    if bad:
        kind = bad.group(2).replace("{None}|", "").replace("FLOAT", "number").replace("INT", "whole number")
        first = f"{bad.group(1)} {bad.group(3)} is no {kind}"
    if missing := re.match(r"Missing from jaxsched [\w -]+: (\S+)", first):
        first = f"{missing.group(1)} is missing"
    if choice := re.match(r"[Ii]nvalid choice '(.*)' for argument '([\w-]+)'\. Expected one of \((.*)\)", first):
        word, flag, choices = choice.groups()
        return f"{flag} {word}: {nearest_name(word, re.findall(r'[a-z]+', choices))}"
    extra = re.match(r"Unrecognized options: (.*)", first)
    if extra and typed[0] in _EXPRESSIONS and not any(word.startswith("-") for word in extra.group(1).split(", ")):
        return f'{extra.group(1)}: put the expression in quotes, jaxsched {typed[0]} "Linear(0.1, 0.0, 100)"'
    similar = [m.group(1) for s in sections[1:] if (m := re.search(r"similar to [^\n]*\n\s*(--[\w-]+)", s))]
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    command = f"jaxsched {typed[0]} --help" if typed[0] in COMMANDS else "jaxsched --help"
    first = first if first.split()[0].isupper() else f"{first[:1].lower()}{first[1:]}"
    return f"{first}; {hint}{command} tells the options"
