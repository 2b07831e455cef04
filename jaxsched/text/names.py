"""Names in expressions: what each stands for, and calls of it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from .._errors import FieldError, UnknownArgumentError, format_value, nearest_name
from ..fields import Field
from ..schedules.base import Schedule
from ..schedules.combine import Join, Method, join, method_name
from ..schedules.structure import PROVIDERS, REGISTRY
from ..units import Timeline

MOST_DEPTH = 100
"""The deepest nesting of brackets: more than anyone writes, and far from the limit of the interpreter's stack.
Operators, methods and dicts may nest twice as deep."""

WRITE = "write a schedule, such as Linear(init_value=0.1, end_value=0.0, steps=100)"
METHODS = {method_name(cls): cls for cls in Method.__subclasses__()}
"""The methods that make a class of their own; `then` and `replace` do not."""

_INNER = ("compat.others._shared", "compat.others.counting")
"""Modules whose classes occur in the `repr` of what functions of `compat` build; users do not write them."""
_BY_NAME = ("get_scheduler", "build_lr_scheduler")
"""Functions that return a transformation for some names and a schedule for others: they are annotated with Any."""


class ParseError(ValueError):
    """A text or a dict that is not a schedule.

    Attributes:
      reason: why, in one sentence.
      text: the text.
      column: where in the text, from 0; None if there is no single place.
      path: the argument that is refused, as `FieldError.path`; empty if it is none.
    """

    def __init__(
        self, reason: str, text: str = "", column: int | None = None, path: tuple[str | int, ...] = ()
    ) -> None:
        self.reason, self.text, self.column, self.path = reason, text, column, path
        super().__init__(reason if column is None else f"{reason}\n{_pointed(text, column)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.text, self.column, self.path)


ParseError.__module__ = str(__package__)  # where it is imported from, as a traceback names it


def _pointed(text: str, column: int) -> str:
    """The part of the text around the column, with a caret below it."""
    start, stop = max(column - 50, 0), column + 50
    lead, tail = "..." * (start > 0), "..." * (stop < len(text))
    piece = "".join(c if c.isprintable() else " " for c in text[start:stop])
    return f"  {lead}{piece}{tail}\n  {' ' * (len(lead) + column - start)}^"


def by_name(known: Iterable[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """`known` as a dict by name."""
    if isinstance(known, Mapping):
        return dict(known)
    named = {getattr(x, "__qualname__", None): x for x in known}
    for name, x in named.items():
        if name is None:
            raise TypeError(f"parse: known holds {format_value(x)}, which has no name: write known={{'name': ...}}.")
    return {str(name): x for name, x in named.items()}


def _public() -> dict[str, Any]:
    """The schedules of the core, by name."""
    core = {name: x for name, x in REGISTRY.items() if "." not in name and name[0] != "_"}
    return core | {"join": join}


@functools.cache
def places() -> tuple[str, ...]:
    """The modules of `compat`."""
    compat = PROVIDERS["compat"]()
    return (
        *(f"compat.{m}" for m in compat.MODULES if m != "others"),
        *(f"compat.others.{m}" for m in compat.others.MODULES),
    )


@functools.cache
def peers(place: str) -> dict[str, Any]:
    """What an expression may name of a module of `compat`: its schedule classes, and its functions that are annotated
    to return a schedule."""
    module = PROVIDERS["compat"]()
    for part in place.split(".")[1:]:
        module = getattr(module, part)
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
    """Resolves names and calls what they stand for; lengths with units become steps."""

    def __init__(self, timeline: Timeline | None, known: dict[str, Any]) -> None:
        if timeline is not None and not isinstance(timeline, Timeline):
            raise TypeError(f"parse: timeline={format_value(timeline)}; write Timeline(total_steps, ...).")
        self.timeline, self.known = timeline, known

    def find(self, path: str) -> Any:
        """What the name stands for; a LookupError suggests another name."""
        if path in self.known:
            return self.known[path]
        first, _, rest = path.partition(".")
        if first in ("js", "jaxsched") and rest:
            return self.find(rest.removeprefix("schedules."))
        if first == "compat" and rest:
            return _of_peer(path)
        if path in (public := _public()):
            return public[path]
        if full := _elsewhere(path):
            raise LookupError(f"there is no schedule {path!r}: write {full}")
        nearest = nearest_name(path, [*self.known, *public])
        raise LookupError(f"there is no schedule {path!r}: {nearest if nearest.startswith('did') else WRITE}")

    def make(self, function: Any, args: list[Any], named: dict[str, Any], fields: tuple[Field, ...] | None) -> Any:
        """Returns `function(*args, **named)`, with lengths in steps; `fields` are its arguments, if it has fields.

        Raises:
          ParseError: if the call raises; the cause is that error.
        """
        try:
            if fields is not None:
                if len(args) <= len(fields):
                    named, args = dict(zip((f.name for f in fields), args, strict=False)) | named, []
                owner, known = getattr(function, "__name__", ""), [f.name for f in fields]
                for name in named if not isinstance(function, type) else ():
                    if name not in known:
                        raise UnknownArgumentError(owner, name, named[name], nearest_name(name, known))
                named = self.in_steps(owner, fields, named)
            return function(*args, **named)
        except ParseError:
            raise
        except Exception as error:  # any error of a constructor is a fault of the text
            path = getattr(error, "path", ())
            text = str(error).partition("\n")[0]
            raise ParseError(text if text else f"parse: {type(error).__name__}", path=path) from error

    def in_steps(self, owner: str, fields: tuple[Field, ...], named: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with lengths that have a unit in steps."""
        total = named.get("total_steps")
        if isinstance(total, str) and any(f.counts and f.name == "total_steps" for f in fields):
            named = named | {"total_steps": (total := self.steps(owner, "total_steps", total, None))}
        own = total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None
        counts = {f.name for f in fields if f.counts}

        def read(name: str, value: Any) -> Any:
            if isinstance(value, list):
                return [read(f"{name}[{i}]", x) for i, x in enumerate(value)]
            return self.steps(owner, name, value, own) if isinstance(value, str) else value

        return {name: read(name, value) if name in counts else value for name, value in named.items()}

    def steps(self, owner: str, name: str, length: str, own: int | None) -> int:
        if own is None and self.timeline is None:
            needs = "a timeline, or a total_steps in the same call" if "%" in length else "a timeline"
            instead = "write timeline=Timeline(total_steps, ...)"
            raise FieldError(owner, name, length, instead, note=f" needs {needs}", needs="timeline")
        timeline = self.timeline
        try:
            if own is not None:
                timeline = dataclasses.replace(timeline, total_steps=own) if timeline else Timeline(own)
            assert timeline is not None  # seen above
            return timeline(length)
        except FieldError as error:
            raise error.renamed(owner, name) from None


def fields_of(function: Any, on: Any = None) -> tuple[Field, ...] | None:
    """The fields that the arguments of a class or of a method are."""
    if isinstance(function, type) and issubclass(function, Schedule):
        return function._fields
    if function is join:
        return Join._fields
    name = getattr(function, "__name__", "")
    if on is None:
        return None
    if name == "then":
        return (dataclasses.replace(Join._fields[0], name="other"), dataclasses.replace(Join._fields[1], name="at"))
    return type(on)._fields if name == "replace" else METHODS[name]._fields[1:]
