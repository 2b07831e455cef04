"""What a name stands for, and what a call of it makes."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from .._errors import format_value, nearest_name
from ..fields import Field
from ..schedules.base import METHODS, Recipe, Schedule, join
from ..units import Timeline

MOST_DEPTH = 100
"""Brackets in brackets: more than anyone writes, and far from the end of the interpreter's stack. Operators and methods
may stand twice as deep, and dicts too."""

WRITE = "write a schedule, such as Linear(init_value=0.1, end_value=0.0, steps=100)"
METHODS_BY_NAME = {name: cls for cls, name in METHODS.items()}
"""The methods that are a class of their own; `then` and `replace` are not."""

_FACE = __name__.partition(".")[0]
_INNER = ("compat.others._shared", "compat.others.counting")
"""Whose classes are in the `repr` of what functions of `compat` build; nobody writes them by hand."""
_BY_NAME = ("get_scheduler", "build_lr_scheduler")
"""Functions that make schedules, and for some names a transformation, and so are annotated with Any."""


class ParseError(ValueError):
    """A text or a dict that is no schedule: `reason` says why in one sentence, and `column` where (from 0; None where
    there is no one place)."""

    def __init__(self, reason: str, text: str = "", column: int | None = None) -> None:
        self.reason, self.text, self.column = reason, text, column
        super().__init__(reason if column is None else f"{reason}\n{_pointed(text, column)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.text, self.column)


ParseError.__module__ = str(__package__)  # where it is imported from, as a traceback names it


def _pointed(text: str, column: int) -> str:
    """The part of the text around the column, with a caret below it."""
    start, stop = max(column - 50, 0), column + 50
    lead, tail = "..." * (start > 0), "..." * (stop < len(text))
    piece = "".join(c if c.isprintable() else " " for c in text[start:stop])
    return f"  {lead}{piece}{tail}\n  {' ' * (len(lead) + column - start)}^"


def by_name(known: Iterable[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """What is known besides, by its names."""
    if isinstance(known, Mapping):
        return dict(known)
    named = {getattr(x, "__qualname__", None): x for x in known}
    for name, x in named.items():
        if name is None:
            raise TypeError(f"parse: known holds {format_value(x)}, which has no name: write known={{'name': ...}}.")
    return {str(name): x for name, x in named.items()}


@functools.cache
def _public() -> dict[str, Any]:
    """The schedules of this package, by the names that its face gives them."""
    face = vars(importlib.import_module(_FACE))
    classes = {name: x for name, x in face.items() if isinstance(x, type) and issubclass(x, Schedule)}
    return {name: x for name, x in classes.items() if x not in (Schedule, Recipe)} | {"join": join}


@functools.cache
def places() -> tuple[str, ...]:
    """The modules of `compat`, which stand above this one and are asked for by name when an expression names them."""
    others = importlib.import_module(f"{_FACE}.compat.others").MODULES
    modules = importlib.import_module(f"{_FACE}.compat").MODULES
    return (*(f"compat.{m}" for m in modules if m != "others"), *(f"compat.others.{m}" for m in others))


@functools.cache
def peers(place: str) -> dict[str, Any]:
    """What an expression may name of a module of `compat`: its classes of schedules, and its functions that are
    annotated to return one."""
    module = importlib.import_module(f"{_FACE}.{place}")
    own = {n: x for n, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__}
    return {n: x for n, x in own.items() if _gives_schedule(n, x)}


def _gives_schedule(name: str, x: Any) -> bool:
    if isinstance(x, type):
        return issubclass(x, Schedule)  # those that only `repr` names too
    if name.startswith("_") or not callable(x):
        return False
    function = inspect.unwrap(x)
    hint = typing.get_type_hints(function, vars(inspect.getmodule(function))).get("return")
    return name in _BY_NAME or (isinstance(hint, type) and issubclass(hint, Schedule))


def _of_peer(path: str) -> Any:
    """A class of schedules or a function of a module of `compat`."""
    *_, name = parts = path.split(".")
    place, names = ".".join(parts[:-1]), places()
    if path in names:
        raise LookupError(f"{path} is a module: write {path}.{next(n for n in peers(path) if n[0] != '_')}(...)")
    if place not in (*names, *_INNER):
        full = [p for p in names if len(parts) == 3 and p.rpartition(".")[2] == parts[1] and name in peers(p)]
        raise LookupError(f"there is no {path}: {f'write {full[0]}.{name}' if full else nearest_name(place, names)}")
    found = peers(place).get(name)
    if found is None:
        raise LookupError(f"{place} has no {name!r}: {nearest_name(name, [n for n in peers(place) if n[0] != '_'])}")
    return found


def _elsewhere(path: str) -> str | None:
    """The name in `compat` of what is written as another system has it: `StepLR`, `optax.linear_schedule`."""
    *module, name = path.split(".")
    fits = [p for p in places() if not module or p.rpartition(".")[2] in module]
    return next((f"{p}.{name}" for p in fits if name[0] != "_" and name in peers(p)), None)


class Maker:
    """Finds what a name stands for and calls it, with lengths turned into steps."""

    def __init__(self, timeline: Timeline | None, known: dict[str, Any]) -> None:
        if timeline is not None and not isinstance(timeline, Timeline):
            raise TypeError(f"parse: timeline={format_value(timeline)}; write Timeline(total_steps, ...).")
        self.timeline, self.known = timeline, known

    def find(self, path: str) -> Any:
        """What the name stands for; LookupError says what was meant."""
        if path in self.known:
            return self.known[path]
        first, _, rest = path.partition(".")
        if first in ("js", _FACE) and rest:
            return self.find(rest)
        if first == "compat" and rest:
            return _of_peer(path)
        if path in _public():
            return _public()[path]
        if full := _elsewhere(path):
            raise LookupError(f"there is no schedule {path!r}: write {full}")
        nearest = nearest_name(path, [*self.known, *_public()])
        raise LookupError(f"there is no schedule {path!r}: {nearest if nearest.startswith('did') else WRITE}")

    def make(self, function: Any, args: list[Any], named: dict[str, Any], cls: Any) -> Any:
        """What the call returns; `cls` is the class whose fields the arguments are, if it is one of schedules."""
        try:
            if isinstance(cls, type) and issubclass(cls, Schedule):
                fields = {f.name: f for f in (cls._fields if function is cls else cls._fields[1:])}
                named = dict(zip(fields, args, strict=False)) | named if len(args) <= len(fields) else named
                args = args if len(args) > len(fields) else []
                named = self.in_steps(cls.__name__, fields, named)
            elif getattr(function, "__name__", "") == "replace":
                named = self.in_steps("replace", {f.name: f for f in function.__self__._fields}, named)
            elif getattr(function, "__name__", "") == "then" and isinstance(named.get("at"), str):
                named["at"] = self.steps("then", "at", named["at"], None)
            elif function is join and (len(args) > 1 or "boundaries" in named):
                fields = {f.name: f for f in _public()["Join"]._fields}
                args, named = [], self.in_steps("join", fields, dict(zip(fields, args, strict=False)) | named)
            return function(*args, **named)
        except ParseError:
            raise
        except Exception as error:  # whatever a class refuses, and however: the text is at fault
            text = str(error).partition("\n")[0]
            raise ParseError(text if text else f"parse: {type(error).__name__}") from error

    def in_steps(self, owner: str, fields: dict[str, Field], named: dict[str, Any]) -> dict[str, Any]:
        """The arguments with all lengths that have a unit in steps."""
        named, total = dict(named), named.get("total_steps")
        if isinstance(total, str) and "total_steps" in fields and fields["total_steps"].counts:
            total = named["total_steps"] = self.steps(owner, "total_steps", total, None)
        own = total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None
        for name, value in named.items():
            if name in fields and fields[name].counts:
                if isinstance(value, str):
                    named[name] = self.steps(owner, name, value, own)
                elif isinstance(value, list):
                    named[name] = [self.steps(owner, name, x, own) if isinstance(x, str) else x for x in value]
        return named

    def steps(self, owner: str, name: str, length: str, own: int | None) -> int:
        if own is None and self.timeline is None:
            needs = "a timeline, or a total_steps in the same call" if "%" in length else "a timeline"
            raise ParseError(f"{owner}: {name}={length!r} needs {needs}: timeline=Timeline(total_steps, ...)")
        timeline = self.timeline
        try:
            if own is not None:
                timeline = dataclasses.replace(timeline, total_steps=own) if timeline else Timeline(own)
            assert timeline is not None  # seen above
            return timeline(length)
        except ValueError as error:
            said = str(error).replace("Timeline: length=", f"{owner}: {name}=", 1)
            raise ParseError(said) from None
