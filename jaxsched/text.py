"""One language for schedules: the expression that `repr` prints, read back without running anything, and plain dicts.

The text is read into Python's syntax tree, and the tree is walked: it may name the schedules of this package, call them
and their methods, and hold numbers, texts, lists and the operators. Nothing else has a meaning, and nothing is ever
handed to the interpreter.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import math
import operator
import re
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .schedules.base import METHODS, Recipe, Schedule, join
from .schedules.fields import Field, is_traced, nearest_name, shown
from .units import Timeline

VERSION = 1
"""Of the form of `to_dict`; it changes when a reader of the older form would misread the newer one."""

MOST_CHARACTERS = 1_000_000
MOST_VALUES = 1_000_000
"""In a dict: a small YAML file whose aliases stand for one another may hold more than the memory does."""
MOST_DEPTH = 100
"""Brackets in brackets: more than anyone writes, and far from the end of the interpreter's stack. Operators and methods
may stand twice as deep."""

_WRITE = "write a schedule, such as Linear(init_value=0.1, end_value=0.0, steps=100)"
_FACE = __name__.partition(".")[0]
_MOST_BITS = 1_024
_INNER = ("compat.others._shared", "compat.others.counting")
"""Whose classes are in the `repr` of what functions of `compat` build; nobody writes them by hand."""
_BY_NAME = ("get_scheduler", "build_lr_scheduler")
"""Functions that make schedules, and for some names a transformation, and so are annotated with Any."""
_METHODS = {name: cls for cls, name in METHODS.items()}
"""The methods that are a class of their own; `then` and `replace` are not."""


_DTYPES = "bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()


class ParseError(ValueError):
    """A text or a dict that is no schedule: `reason` says why in one sentence, and `column` where (from 0; None where
    there is no one place)."""

    def __init__(self, reason: str, text: str = "", column: int | None = None) -> None:
        self.reason, self.text, self.column = reason, text, column
        super().__init__(reason if column is None else f"{reason}\n{_pointed(text, column)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.text, self.column)


def _pointed(text: str, column: int) -> str:
    """The part of the text around the column, with a caret below it."""
    start, stop = max(column - 50, 0), column + 50
    lead, tail = "..." * (start > 0), "..." * (stop < len(text))
    piece = "".join(c if c.isprintable() else " " for c in text[start:stop])
    return f"  {lead}{piece}{tail}\n  {' ' * (len(lead) + column - start)}^"


# --- from text -------------------------------------------------------------------------------------------------------


def parse(text: str, *, timeline: Timeline | None = None, known: Iterable[Any] | Mapping[str, Any] = ()) -> Schedule:
    """The schedule that an expression makes, such as the one that `repr` prints; no code is run.

    The language: the schedules of this package (with or without a leading `js.` or `jaxsched.`), the classes and
    functions of `compat`, the methods `then clip shift hold per_epoch repeat warmup cooldown noise replace`, the
    operators `+ - * /` (and `// **` between numbers), numbers, texts, `True False None`, lists and dicts. A field that
    counts steps also takes a length with a unit: `'5%'` of the `total_steps` in the same call (or else of the
    `timeline`), `'3ep'` and `'2e9tok'` of the `timeline`.

    Args:
      text: the expression, of at most 1,000,000 characters, nested at most 100 deep.
      timeline: what the units of lengths are.
      known: classes and functions of yours that the expression may name, or a dict of them by name.

    Returns: the schedule; `parse(repr(s))` is `s` again, for numbers of JAX's default type.

    Errors: ParseError, and nothing else, for what is not such an expression; `column` says where, and the message
    points at it. TypeError for a `text` that is no text.

    Example:
      >>> import jaxsched as js
      >>> s = js.parse("WarmupCosine(peak_value=3e-4, warmup_steps='2%', total_steps=100_000) * 0.5")
      >>> s
      WarmupCosine(peak_value=0.0003, warmup_steps=2000, total_steps=100000) * 0.5
      >>> js.parse("WarmupCosine(peak_valu=3e-4)")
      Traceback (most recent call last):
      jaxsched.text.ParseError: WarmupCosine has no field 'peak_valu': did you mean 'peak_value'?
        WarmupCosine(peak_valu=3e-4)
                     ^
    """
    schedule = evaluate(text, timeline=timeline, known=known)
    if not isinstance(schedule, Schedule):
        if isinstance(schedule, type) and issubclass(schedule, Schedule):
            name = text.strip()
            raise ParseError(f"parse: {name} is not called: write {name}{schedule.__signature__}", text, 0)
        hint = f"write Constant({schedule!r})" if _is_number(schedule) else _WRITE
        raise ParseError(f"parse: this makes a {type(schedule).__name__}, and not a schedule: {hint}", text, 0)
    return schedule


def evaluate(text: str, *, timeline: Timeline | None = None, known: Iterable[Any] | Mapping[str, Any] = ()) -> Any:
    """Any value of the language of `parse`: a number, a text, a list, a schedule, or what one of `known` returns.

    Example:
      >>> from jaxsched.sweep import log_uniform
      >>> from jaxsched.text import evaluate
      >>> evaluate("[1, 2 * 3, 0.5]"), evaluate("log_uniform(1e-4, 0.1)", known=[log_uniform]).hi
      ([1, 6, 0.5], 0.1)
    """
    if not isinstance(text, str):
        raise TypeError(f"parse: text={shown(text)}; write the expression as text, such as repr(schedule).")
    if len(text) > MOST_CHARACTERS:
        raise ParseError(f"parse: the text has {len(text):_} characters; write at most {MOST_CHARACTERS:_}", text, None)
    if not text.strip():
        raise ParseError(f"parse: the text is empty: {_WRITE}", text, None)
    if "\0" in text:
        raise ParseError("parse: there is a null character", text, text.index("\0"))
    _refuse_nesting(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about what will be refused here with a better text
            tree = ast.parse(f"({text}\n)", mode="eval")  # in brackets an expression may take several lines
        if isinstance(tree.body, ast.Tuple) and not tree.body.elts and not tree.body.col_offset:
            raise ParseError(f"parse: the text is empty: {_WRITE}", text, None)  # but for a comment
        return _Reader(text, timeline, _by_name(known)).read(tree.body)
    except SyntaxError as error:
        raise ParseError(*_syntax(error, text)) from None
    except (MemoryError, RecursionError):
        raise ParseError("parse: it is nested too deep", text, 0) from None


def _syntax(error: SyntaxError, text: str) -> tuple[str, str, int]:
    """What Python says of a broken expression, in words for one who wrote a schedule."""
    lines = text.splitlines(keepends=True)
    row, column = (error.lineno or 1) - 1, (error.offset or 1) - 1
    at = sum(map(len, lines[:row])) + column - (row == 0)
    said = str(error.msg).partition(" (<")[0]
    if said.startswith("Exceeds the limit"):
        said = "a number has too many digits"
    if hidden := re.search(r"<[\w.<>]*lambda>|<locals>|<\w+\d*\[", text):
        what = "a function" if hidden.group().endswith(("lambda>", "locals>")) else "a traced number"
        reason = f"{hidden.group()} stands for {what}, which no text can hold: write a Schedule class"
        return f"parse: {reason}", text, hidden.start()
    return f"parse: {said}", text, min(max(at, 0), max(len(text) - 1, 0))


def _refuse_nesting(text: str) -> None:
    """Python's parser may end the process with what is nested too deep, so this is seen before it is asked."""
    opened: list[int] = []
    quote, i = "", 0
    while i < len(text):
        char = text[i]
        if quote:
            i += char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            i = text.find("\n", i) % (len(text) + 1)
        elif char in "([{":
            opened.append(i)
        elif char in ")]}" and not opened:
            raise ParseError(f"parse: this {char!r} closes what was not opened", text, i)
        elif char in ")]}":
            opened.pop()
        if len(opened) > MOST_DEPTH:
            raise ParseError(f"parse: the brackets are more than {MOST_DEPTH} deep", text, i)
        i += 1
    if opened and not quote:
        raise ParseError(f"parse: this {text[opened[-1]]!r} is never closed", text, opened[-1])


_SIGNS: dict[type[ast.AST], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Pow: ("**", operator.pow),
}


class _Reader:
    """Walks a syntax tree; every kind of node that is not named here is refused."""

    def __init__(self, text: str, timeline: Timeline | None, known: dict[str, Any]) -> None:
        self.text, self.maker = text, _Maker(timeline, known)
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines = text.splitlines(keepends=True)

    def column(self, node: Any) -> int:
        """Where a node begins: the tree counts bytes in lines, and has a bracket of ours before the first."""
        row, column = node.lineno - 1, node.col_offset - (node.lineno == 1)
        if row >= len(self.lines):
            return max(len(self.text) - 1, 0)
        return self.starts[row] + len(self.lines[row].encode()[:column].decode(errors="ignore"))

    def refuse(self, node: Any, reason: str) -> ParseError:
        return ParseError(reason, self.text, self.column(node))

    def read(self, node: Any, depth: int = 0) -> Any:
        if depth > 2 * MOST_DEPTH:
            raise self.refuse(node, f"parse: the expression is more than {2 * MOST_DEPTH} deep")
        reader = getattr(self, f"_{type(node).__name__}", None)
        if reader is None:
            kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()
            raise self.refuse(node, f"parse: a schedule's expression has no {kind}: write names, calls and numbers")
        return reader(node, depth + 1)

    def _Constant(self, node: ast.Constant, depth: int) -> Any:
        if isinstance(node.value, int) and node.value.bit_length() > _MOST_BITS:
            raise self.refuse(node, "parse: the number is too large")
        if node.value is None or isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise self.refuse(node, f"parse: {shown(node.value)} is not a number, a text, True, False or None")

    def _List(self, node: ast.List | ast.Tuple, depth: int) -> list[Any]:
        return [self.read(item, depth) for item in node.elts]

    _Tuple = _List

    def _Dict(self, node: ast.Dict, depth: int) -> dict[Any, Any]:
        if any(key is None for key in node.keys):
            raise self.refuse(node, "parse: ** is not in this language: write the entries out")
        keys = [self.read(key, depth) for key in node.keys]
        for key, at in zip(keys, node.keys, strict=True):
            if isinstance(key, bool) or not isinstance(key, (str, int, float)):
                raise self.refuse(at, f"parse: {shown(key)} cannot be a key: write a number or a text")
        return dict(zip(keys, (self.read(value, depth) for value in node.values), strict=True))

    def _UnaryOp(self, node: ast.UnaryOp, depth: int) -> Any:
        if not isinstance(node.op, (ast.USub, ast.UAdd)):
            raise self.refuse(node, "parse: the operators are + - * / and, between numbers, // and **")
        value = self.read(node.operand, depth)
        if not (_is_number(value) or (isinstance(value, Schedule) and isinstance(node.op, ast.USub))):
            raise self.refuse(node, f"parse: {shown(value)} has no sign: write a number or a schedule")
        return -value if isinstance(node.op, ast.USub) else value

    def _BinOp(self, node: ast.BinOp, depth: int) -> Any:
        chain = [node]  # a sum of many is deep on its left, and is no deeper for that
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        value = self.read(chain[-1].left, depth)
        for link in reversed(chain):
            value = self._operate(link, value, self.read(link.right, depth))
        return value

    def _operate(self, node: ast.BinOp, left: Any, right: Any) -> Any:
        sign, function = _SIGNS.get(type(node.op), ("", None))
        if function is None:
            raise self.refuse(node.right, "parse: the operators are + - * / and, between numbers, // and **")
        both = _is_number(left) and _is_number(right)
        for value, side in ((left, node.left), (right, node.right)):
            # What is neither came from one of `known`, and has operators of its own or will say that it has none.
            if value is None or isinstance(value, (bool, str, list, dict)):
                raise self.refuse(side, f"parse: {shown(value)} is no number and no schedule, for {sign}")
        if sign in ("//", "**") and (isinstance(left, Schedule) or isinstance(right, Schedule)):
            raise self.refuse(node.right, f"parse: {sign} is for numbers, not for schedules")
        try:
            whole = isinstance(left, int) and isinstance(right, int)
            if whole and sign == "**" and right * left.bit_length() > 2 * _MOST_BITS:
                raise OverflowError
            value = function(left, right)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise OverflowError
        except Exception as error:  # of numbers, of schedules, or of what one of `known` returned
            said = "the number is too large" if isinstance(error, OverflowError) else str(error)
            raise self.refuse(node.right, f"parse: {said}") from None
        if both and not (_is_number(value) and math.isfinite(value)):
            raise self.refuse(node.right, f"parse: {shown(value)} is not a finite number")
        return value

    def _Name(self, node: ast.Name | ast.Attribute, depth: int) -> Any:
        path = _dotted(node)
        if path is None:
            raise self.refuse(node, "parse: a method is not called: write it with its arguments")
        try:
            found = self.maker.find(path)
        except LookupError as error:
            raise self.refuse(node, f"parse: {error.args[0]}") from None
        return found

    _Attribute = _Name

    def _Call(self, node: ast.Call, depth: int) -> Any:
        for part in (*node.args, *node.keywords):
            if isinstance(part, ast.Starred) or (isinstance(part, ast.keyword) and part.arg is None):
                raise self.refuse(node, "parse: * and ** before an argument are not in this language: write it out")
        on, name = None, ""
        if isinstance(node.func, ast.Attribute) and _dotted(node.func) is None:
            on, name = self.read(node.func.value, depth), node.func.attr
            function = self._method(node.func, on)
        else:
            function = self.read(node.func, depth)
            if not callable(function) or isinstance(function, Schedule):
                raise self.refuse(node.func, f"parse: {shown(function)} cannot be called")
        args = [self.read(argument, depth) for argument in node.args]
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg in named:
                raise self.refuse(keyword, f"parse: {keyword.arg} is given twice")
            named[str(keyword.arg)] = self.read(keyword.value, depth)
        try:
            return self.maker.make(function, args, named, _METHODS.get(name) if on is not None else function)
        except ParseError as error:
            raise self.refuse(self._blamed(node, error.reason), error.reason) from None

    def _method(self, node: ast.Attribute, on: Any) -> Any:
        if not isinstance(on, Schedule):
            raise self.refuse(node.value, f"parse: {shown(on)} is no schedule, and has no method .{node.attr}")
        names = [*_METHODS, "then", "replace"]
        if node.attr not in names:
            end = node.end_col_offset or 0
            place = ast.Name(node.attr, lineno=node.end_lineno or 1, col_offset=end - len(node.attr.encode()))
            raise self.refuse(place, f"parse: a schedule has no method {node.attr!r}: {nearest_name(node.attr, names)}")
        return getattr(on, node.attr)

    def _blamed(self, node: ast.Call, reason: str) -> Any:
        """The argument that a refusal names, or the call."""
        named = re.match(r"[\w.]+: (\w+)(\[\d+\])?=|[\w.]+ has no (?:field|argument) '(\w+)'", reason)
        wanted = (named.group(1) or named.group(3)) if named else None
        return next((keyword for keyword in node.keywords if keyword.arg == wanted), node)


def _dotted(node: Any) -> str | None:
    """`compat.torch.StepLR` of a chain of names; None if it begins with anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


# --- names and calls -------------------------------------------------------------------------------------------------


def _by_name(known: Iterable[Any] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(known, Mapping):
        return dict(known)
    named = {getattr(x, "__qualname__", None): x for x in known}
    for name, x in named.items():
        if name is None:
            raise TypeError(f"parse: known holds {shown(x)}, which has no name: write known={{'name': ...}}.")
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


class _Maker:
    """Finds what a name stands for and calls it, with lengths turned into steps."""

    def __init__(self, timeline: Timeline | None, known: dict[str, Any]) -> None:
        if timeline is not None and not isinstance(timeline, Timeline):
            raise TypeError(f"parse: timeline={shown(timeline)}; write Timeline(total_steps, ...).")
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
        raise LookupError(f"there is no schedule {path!r}: {nearest if nearest.startswith('did') else _WRITE}")

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


# --- to dicts and back -----------------------------------------------------------------------------------------------


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain dicts, lists, numbers and texts, for JSON, YAML and TOML.

    A schedule is a dict of its fields with its name as `type`; the outermost also has the version of this form, as
    `jaxsched`. Fields that are None are left out. Arrays are lists; those of another type than JAX's default say it:
    `{"dtype": "bfloat16", "values": 0.1}`.

    Errors: TypeError for what a file cannot hold, by its place: traced numbers, and functions without a name.

    Example:
      >>> import jaxsched as js
      >>> js.to_dict(js.Constant(0.1).shift(steps=3))
      {'jaxsched': 1, 'type': 'Shift', 'schedule': {'type': 'Constant', 'constant_value': 0.1}, 'steps': 3}
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"to_dict: {shown(schedule)} is not a schedule; write Constant(...) for a number.")
    return {"jaxsched": VERSION, **_plain(schedule, type(schedule).__name__, 0)}


def from_dict(
    data: Mapping[str, Any], *, timeline: Timeline | None = None, known: Iterable[Any] | Mapping[str, Any] = ()
) -> Schedule:
    """The schedule that `to_dict` wrote, or that was written by hand in that form.

    By hand, fields with a default may be left out, lengths may have units as in `parse`, and any schedule inside may be
    an expression, a text as `parse` reads it.

    Args:
      data: what `json.load`, `yaml.safe_load` or `tomllib.load` return.
      timeline, known: as in `parse`.

    Errors: ParseError that names the place in the dict.

    Example:
      >>> import tomllib
      >>> import jaxsched as js
      >>> js.from_dict(tomllib.loads('''
      ... type = "WarmupCosine"
      ... peak_value = 3e-4
      ... warmup_steps = "2%"
      ... total_steps = 100_000
      ... '''))
      WarmupCosine(peak_value=0.0003, warmup_steps=2000, total_steps=100000)
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"from_dict: {shown(data)} is not a dict; write parse(text) for an expression.")
    version = data.get("jaxsched", VERSION)
    if version != VERSION:
        raise ParseError(
            f"from_dict: jaxsched={shown(version)}, and this jaxsched reads form {VERSION}; read it with the jaxsched "
            "that wrote it"
        )
    rest = {name: value for name, value in data.items() if name != "jaxsched"}
    _refuse_size(data)
    made = _made(rest, _Maker(timeline, _by_name(known)), "")
    if not isinstance(made, Schedule):
        raise ParseError(f"from_dict: this makes a {type(made).__name__}, and not a schedule")
    return made


def _plain(x: Any, path: str, depth: int) -> Any:
    if depth > 2 * MOST_DEPTH:
        raise TypeError(f"to_dict: {path[:80]}... is more than {2 * MOST_DEPTH} deep, and could not be read back.")
    if isinstance(x, Schedule):
        fields = [(f, getattr(x, f.name)) for f in x._fields]
        kept = {
            f.name: _plain(v, f"{path}.{f.name}", depth + 1)
            for f, v in fields
            if v is not None or f.default is not None
        }
        if "type" in kept:
            raise TypeError(f"to_dict: {path} has a field called 'type', which is where its own name stands.")
        return {"type": repr(x).partition("(")[0] if _is_plain_call(x) else type(x).__name__, **kept}
    if is_traced(x):
        raise TypeError(f"to_dict: {path} is traced; write the schedule outside of the compiled function.")
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return _plain_array(x, path)
    if isinstance(x, Mapping):
        return {str(key): _plain(value, f"{path}.{key}", depth + 1) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value, f"{path}[{i}]", depth + 1) for i, value in enumerate(x)]
    if isinstance(x, float) and not math.isfinite(x):
        raise TypeError(f"to_dict: {path}={x} is not finite.")
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    name = getattr(x, "__qualname__", "<")
    if callable(x) and "<" not in name:
        return {"function": name}
    raise TypeError(f"to_dict: {path}={shown(x)} has no name that a file could hold; write a Schedule class for it.")


def _is_plain_call(schedule: Schedule) -> bool:
    """Whether `repr` begins with the schedule's name; that of a composite is an operator or a method."""
    return type(schedule)._expression is Schedule._expression


def _plain_array(x: Any, path: str) -> Any:
    """Numbers in the shortest form that their type reads back; the type too, unless any reader would choose it."""
    array = np.asarray(x)
    if array.dtype == jax.dtypes.float0:
        raise TypeError(f"to_dict: {path} is the gradient of an integer, which is no number.")
    if not np.all(np.isfinite(array.astype(np.float64))):
        raise TypeError(f"to_dict: {path}={shown(x)} is not finite.")
    short = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 8
    flat = [float(str(v)) for v in array.ravel()] if short else array.ravel().tolist()
    values = np.array(flat).reshape(array.shape).tolist()
    usual = (np.float64, np.int64, jnp.result_type(float), jnp.result_type(int))
    return values if array.dtype in usual else {"dtype": array.dtype.name, "values": values}


def _refuse_size(data: Any) -> None:
    """Before anything is made of it: one node may stand for another many times over."""
    todo, seen = [(data, 0)], 0
    while todo:
        x, depth = todo.pop()
        seen += 1
        if depth > 2 * MOST_DEPTH:
            raise ParseError(f"from_dict: the dicts are more than {2 * MOST_DEPTH} deep")
        if seen > MOST_VALUES:
            raise ParseError(f"from_dict: there are more than {MOST_VALUES:_} values")
        if isinstance(x, (Mapping, list, tuple)):
            todo += [(value, depth + 1) for value in (x.values() if isinstance(x, Mapping) else x)]


def _made(x: Any, maker: _Maker, path: str) -> Any:
    at = f"from_dict: at {path}: " if path else "from_dict: "
    if isinstance(x, (list, tuple)):
        return [_made(value, maker, f"{path}[{i}]") for i, value in enumerate(x)]
    if not isinstance(x, Mapping):
        return x
    if set(x) == {"dtype", "values"}:
        if x["dtype"] not in _DTYPES:
            raise ParseError(f"{at}dtype={shown(x['dtype'])}; {nearest_name(str(x['dtype']), _DTYPES)}")
        try:
            return jnp.asarray(x["values"], dtype=jnp.dtype(x["dtype"]))
        except (TypeError, ValueError, OverflowError) as error:
            raise ParseError(f"{at}values={shown(x['values'])}: {error}") from None
    inner = {str(key): _made(value, maker, f"{path}.{key}".lstrip(".")) for key, value in x.items()}
    kind = inner.pop("type", None)
    try:
        if set(x) == {"function"}:
            return maker.find(str(x["function"]))
        if kind is None:
            if not path:
                raise ParseError("there is no 'type': write the name of a schedule, such as type: WarmupCosine")
            return dict(x)  # of numbers, where a peer takes one
        cls = maker.find(str(kind))
        return maker.make(cls, [], _expressions(cls, inner, maker), cls)
    except (ParseError, LookupError) as error:
        reason = error.reason if isinstance(error, ParseError) else error.args[0]
        if text := re.search(r"='(\d+)(e[-+]?\d+)' is text", reason):
            reason += f" (YAML reads {text[1]}{text[2]} as text, and {text[1]}.0{text[2]} as a number)"
        raise ParseError(f"{at}{reason}") from None


def _expressions(cls: Any, named: dict[str, Any], maker: _Maker) -> dict[str, Any]:
    """The fields, with texts that stand where a schedule belongs read as expressions."""

    def read(x: Any) -> Any:
        return evaluate(x, timeline=maker.timeline, known=maker.known) if isinstance(x, str) else x

    children = {"schedule", "schedules"} if isinstance(cls, type) and issubclass(cls, Schedule) else set()
    return {
        name: ([read(v) for v in value] if isinstance(value, list) else read(value)) if name in children else value
        for name, value in named.items()
    }


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A schedule in a config: an expression, and the sizes that its lengths are counted in.

    It holds nothing but texts and numbers, so `tyro.cli(ScheduleConfig)`, `ml_collections.ConfigDict` (of its
    `dataclasses.asdict`), OmegaConf and JSON take it as a part of a config of your own.

    Fields:
      expression: as `parse` reads it.
      total_steps: the horizon, a number of steps or a text with a unit; None if no length needs it.
      steps_per_epoch: the steps in an epoch, for lengths such as '3ep'.
      tokens_per_step: the tokens in a step, for lengths such as '2e9tok'.

    Errors: from `build`, ParseError as `parse`, and ValueError as `Timeline`.

    Example:
      >>> import dataclasses
      >>> from jaxsched import ScheduleConfig
      >>> @dataclasses.dataclass
      ... class Config:
      ...     batch_size: int = 128
      ...     learning_rate: ScheduleConfig = ScheduleConfig(
      ...         "WarmupConstant(0.1, warmup_steps='1ep').cooldown(at='80%', steps='20%')", "10ep", steps_per_epoch=390
      ...     )
      >>> Config().learning_rate.build()
      WarmupConstant(peak_value=0.1, warmup_steps=390).cooldown(at=3120, steps=780)
    """

    expression: str
    total_steps: int | str | None = None
    steps_per_epoch: float | None = None
    tokens_per_step: float | None = None

    @property
    def timeline(self) -> Timeline | None:
        """The sizes, as `parse` takes them; None without a horizon."""
        if self.total_steps is None:
            if self.steps_per_epoch is not None or self.tokens_per_step is not None:
                raise ValueError("ScheduleConfig: total_steps=None; write the horizon too, such as total_steps='10ep'.")
            return None
        return Timeline(self.total_steps, self.steps_per_epoch, self.tokens_per_step)  # type: ignore[arg-type]

    def build(self, known: Iterable[Any] | Mapping[str, Any] = ()) -> Schedule:
        """The schedule; `known` as in `parse`."""
        return parse(self.expression, timeline=self.timeline, known=known)
