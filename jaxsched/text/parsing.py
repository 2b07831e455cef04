"""An expression, read."""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._errors import format_value, nearest_name
from ..schedules.base import Schedule
from ..units import Timeline
from .names import METHODS, MOST_DEPTH, WRITE, Maker, ParseError, by_name, fields_of

MOST_CHARACTERS = 1_000_000
_MOST_BITS = 1_024
"""Of an integer: what is larger is no step and no float."""


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

    Returns:
      The schedule; `parse(repr(s))` is `s` again, for numbers of JAX's default type.

    Raises:
      ParseError: if it is not such an expression; `column` is the place, and the message points at it.
      TypeError: if `text` is not a string.

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
        hint = f"write Constant({schedule!r})" if is_number(schedule) else WRITE
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
        raise TypeError(f"parse: text={format_value(text)}; write the expression as text, such as repr(schedule).")
    if len(text) > MOST_CHARACTERS:
        raise ParseError(f"parse: the text has {len(text):_} characters; write at most {MOST_CHARACTERS:_}", text, None)
    if not text.strip():
        raise ParseError(f"parse: the text is empty: {WRITE}", text, None)
    if "\0" in text:
        raise ParseError("parse: there is a null character", text, text.index("\0"))
    _refuse_nesting(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about what will be refused here with a better text
            tree = ast.parse(f"({text}\n)", mode="eval")  # in brackets an expression may take several lines
        if isinstance(tree.body, ast.Tuple) and not tree.body.elts and not tree.body.col_offset:
            raise ParseError(f"parse: the text is empty: {WRITE}", text, None)  # but for a comment
        return _Reader(text, timeline, by_name(known)).read(tree.body)
    except SyntaxError as error:
        raise ParseError(*_syntax(error, text)) from None
    except (MemoryError, RecursionError):
        raise ParseError("parse: it is nested too deep", text, 0) from None


def _syntax(error: SyntaxError, text: str) -> tuple[str, str, int]:
    """The reason of a syntax error, in terms of schedules."""
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
    """Raises for brackets nested too deep, which may crash Python's parser."""
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
        self.text, self.maker = text, Maker(timeline, known)
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
        raise self.refuse(node, f"parse: {format_value(node.value)} is not a number, a text, True, False or None")

    def _List(self, node: ast.List | ast.Tuple, depth: int) -> list[Any]:
        return [self.read(item, depth) for item in node.elts]

    _Tuple = _List

    def _Dict(self, node: ast.Dict, depth: int) -> dict[Any, Any]:
        if any(key is None for key in node.keys):
            raise self.refuse(node, "parse: ** is not in this language: write the entries out")
        keys = [self.read(key, depth) for key in node.keys]
        for key, at in zip(keys, node.keys, strict=True):
            if isinstance(key, bool) or not isinstance(key, (str, int, float)):
                raise self.refuse(at, f"parse: {format_value(key)} cannot be a key: write a number or a text")
        return dict(zip(keys, (self.read(value, depth) for value in node.values), strict=True))

    def _UnaryOp(self, node: ast.UnaryOp, depth: int) -> Any:
        if not isinstance(node.op, (ast.USub, ast.UAdd)):
            raise self.refuse(node, "parse: the operators are + - * / and, between numbers, // and **")
        value = self.read(node.operand, depth)
        if not (is_number(value) or (isinstance(value, Schedule) and isinstance(node.op, ast.USub))):
            raise self.refuse(node, f"parse: {format_value(value)} has no sign: write a number or a schedule")
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
        both = is_number(left) and is_number(right)
        for value, side in ((left, node.left), (right, node.right)):
            # Anything else came from `known`; its own operators apply or raise.
            if value is None or isinstance(value, (bool, str, list, dict)):
                raise self.refuse(side, f"parse: {format_value(value)} is no number and no schedule, for {sign}")
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
        if both and not (is_number(value) and math.isfinite(value)):
            raise self.refuse(node.right, f"parse: {format_value(value)} is not a finite number")
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
        on = None
        if isinstance(node.func, ast.Attribute) and _dotted(node.func) is None:
            on = self.read(node.func.value, depth)
            function = self._method(node.func, on)
        else:
            function = self.read(node.func, depth)
            if not callable(function) or isinstance(function, Schedule):
                raise self.refuse(node.func, f"parse: {format_value(function)} cannot be called")
        args = [self.read(argument, depth) for argument in node.args]
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg in named:
                raise self.refuse(keyword, f"parse: {keyword.arg} is given twice")
            named[str(keyword.arg)] = self.read(keyword.value, depth)
        fields = fields_of(function, on)
        try:
            return self.maker.make(function, args, named, fields)
        except ParseError as error:
            order = [f.name for f in fields or ()]
            place = self.column(_argument(node, order, error.path))
            raise ParseError(error.reason, self.text, place, error.path) from error.__cause__

    def _method(self, node: ast.Attribute, on: Any) -> Any:
        if not isinstance(on, Schedule):
            raise self.refuse(node.value, f"parse: {format_value(on)} is no schedule, and has no method .{node.attr}")
        names = [*METHODS, "then", "replace"]
        if node.attr not in names:
            end = node.end_col_offset or 0
            place = ast.Name(node.attr, lineno=node.end_lineno or 1, col_offset=end - len(node.attr.encode()))
            raise self.refuse(place, f"parse: a schedule has no method {node.attr!r}: {nearest_name(node.attr, names)}")
        return getattr(on, node.attr)


def _argument(node: ast.Call, order: list[str], path: tuple[str | int, ...]) -> Any:
    """The node of the argument that a path names, as far as it leads into lists; the call if it names none."""
    if not path:
        return node
    found: Any = next((keyword for keyword in node.keywords if keyword.arg == path[0]), None)
    if found is None:
        index = order.index(str(path[0])) if path[0] in order else len(node.args)
        found = node.args[index] if index < len(node.args) else node
    for part in path[1:]:
        inner = found.value if isinstance(found, ast.keyword) else found
        if not (isinstance(inner, (ast.List, ast.Tuple)) and isinstance(part, int) and part < len(inner.elts)):
            break
        found = inner.elts[part]
    return found


def _dotted(node: Any) -> str | None:
    """`compat.torch.StepLR` of a chain of names; None if it begins with anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)
