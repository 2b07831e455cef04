"""What a sweep trains, from flags or from a TOML file; `jaxsched sweep --help` shows one.

A file is one family, `schedule`, `settings` and `fields`, or holds several as [[families]]. Beside families, the
`settings` and `fields` at the top are the defaults of each; but with a `schedule` at the top they are a family too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from .._errors import format_value, nearest_name
from ..fields import Field
from ..schedules.base import Schedule
from ..schedules.stacking import grid, unstack
from ..sweep.space import Distribution, Expression, choice, field, int_uniform, log_uniform, sample, space, uniform
from ..text import ParseError, evaluate
from ..units import Timeline
from .errors import Refused, fail, refusals
from .reading import in_flags

SETTINGS = 64
"""How many are drawn, unless it is said."""


def _checked(made: Callable[..., Any], usage: str) -> Callable[..., Any]:
    """A distribution that says how it is written where there are too few arguments, or too many."""

    def make(*args: Any, **named: Any) -> Any:
        try:
            inspect.signature(made).bind(*args, **named)
        except TypeError:
            raise ValueError(f"write {usage}") from None
        return made(*args, **named)

    return make


_DISTRIBUTIONS = {
    "log_uniform": _checked(log_uniform, "log_uniform(lo, hi)"),
    "uniform": _checked(uniform, "uniform(lo, hi)"),
    "int_uniform": _checked(int_uniform, "int_uniform(lo, hi)"),
    "choice": _checked(choice, "choice(a, b, ...)"),
}
_LENGTH = re.compile(r"\s*[\d._]+(?:[eE][+-]?\d+)?\s*(?:%|ep|tok|st)\s*")


class Reader:
    """Reads values, with lengths in the units of a training and with the names of a task file."""

    def __init__(self, timeline: Timeline, known: Mapping[str, Any]) -> None:
        self.timeline = timeline
        self.classes = {name: x for name, x in known.items() if isinstance(x, type) and issubclass(x, Schedule)}
        self.names = {**_DISTRIBUTIONS, "field": field, **self.classes}

    def value(self, text: str) -> Any:
        """A number, a distribution or any other value of the language; a length in steps."""
        try:
            return self.timeline(text) if _LENGTH.fullmatch(text) else self.evaluated(text)
        except ValueError as error:
            raise Refused(in_flags(str(error)).replace("Timeline: length=", "")) from error

    def evaluated(self, text: str) -> Any:
        try:
            return evaluate(text, timeline=self.timeline, known=self.names)
        except ParseError as error:
            raise Refused(in_flags(str(error))) from error

    def schedule(self, text: str) -> Any:
        """A class by its name, or a schedule by its expression."""
        found = self.evaluated(text)
        if isinstance(found, Schedule) or (isinstance(found, type) and issubclass(found, Schedule)):
            return found
        fail(f"--schedule {text}: this is no schedule; write a class such as WarmupCosine, or an expression")


def from_flags(reader: Reader, schedule: str, fields: tuple[str, ...], settings: int | None) -> Any:
    """The settings of `--schedule` and `--set`."""
    base = reader.schedule(schedule)
    given: dict[str, Any] = {}
    for text in fields:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not value.strip():
            fail(f"--set {text}: write NAME=VALUE, such as peak_value=1e-4,1e-3 or peak_value='log_uniform(1e-4, 0.1)'")
        if name in given:
            fail(f"--set {name} is written twice; write its values in one: --set {name}=1,2,3")
        pieces = _pieces(value)
        is_text = _field_of(base, name).static and not re.search(r"[\"'(]", value)
        with _at(f"--set {name}"):
            read = [_word(piece) for piece in pieces] if is_text else [reader.value(piece) for piece in pieces]
        given[name] = read[0] if len(read) == 1 else read
    return _drawn([_Family(base, given, settings, None)])


def from_toml(reader: Reader, path: Path, settings: int | None) -> Any:
    """The settings of a TOML file."""
    if not path.is_file():
        fail(f"there is no file {path}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{path} is no TOML: {error}")
    with _at(str(path)):
        return _drawn(_families(reader, data, settings))


@dataclasses.dataclass(frozen=True)
class _Family:
    """A schedule, its values, how many of it are drawn, and how many where none of its own is written."""

    base: Any
    given: dict[str, Any]
    settings: Any
    default: Any


def _families(reader: Reader, data: dict[str, Any], settings: int | None) -> list[_Family]:
    """What the file says; `settings` of the command line go before its own."""
    _check_names(data, ("schedule", "settings", "fields", "families"))
    tables = data.get("families", [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        fail("families must be tables, [[families]]")
    alone = "schedule" in data or not tables
    if alone and "schedule" not in data:
        fail('there is no schedule: write schedule = "WarmupCosine" and a table [fields], or [[families]] of these')
    top = {name: value for name, value in data.items() if name != "families"}
    defaults = {} if alone else top
    several = [*([top] if alone else []), *tables]
    # Of several families, a number that is not a family's own is for those that draw.
    common = settings if len(several) > 1 and settings is not None else defaults.get("settings")
    found, used = [], set()
    for i, table in enumerate(several):
        with _at(f"family {i + 1}") if len(several) > 1 else contextlib.nullcontext():
            _check_names(table, ("schedule", "settings", "fields"))
            if not isinstance(table.get("schedule"), str):
                fail('there is no schedule: write schedule = "WarmupCosine"')
            base = reader.schedule(table["schedule"])
            known = {f.name for f in (base if isinstance(base, type) else type(base))._fields}
            shared = {name: x for name, x in _fields(defaults).items() if name in known}
            used |= set(shared)
            given = {name: _of_toml(reader, base, name, x) for name, x in {**shared, **_fields(table)}.items()}
            own = table.get("settings") if settings is None else settings if len(several) == 1 else None
            found.append(_Family(base, given, own, common))
    if unused := [name for name in _fields(defaults) if name not in used]:
        fields = {f.name for one in found for f in (one.base if isinstance(one.base, type) else type(one.base))._fields}
        fail(f"fields.{unused[0]} is a field of no family: {nearest_name(unused[0], fields)}")
    return found


def _check_names(table: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for name in table:
        if name not in allowed:
            fail(f"{name!r} has no meaning here: {nearest_name(name, allowed)}")


def _fields(table: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = table.get("fields", {})
    return fields if isinstance(fields, Mapping) else fail(f"fields={format_value(fields)}; write a table, [fields]")


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    """Refusals begin with the place of what is refused."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{place}: {error}") from error


# --- values ----------------------------------------------------------------------------------------------------------


def _field_of(base: Any, name: str) -> Field:
    cls = base if isinstance(base, type) else type(base)
    fields = {f.name: f for f in cls._fields}
    if name not in fields:
        fail(f"{cls.__name__} has no field {name!r}: {nearest_name(name, fields)}")
    return fields[name]


def _pieces(text: str) -> list[str]:
    """The parts between the commas that stand in no bracket and no quotes."""
    parts, depth, quote, begin = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[begin:i])
            begin = i + 1
    return [part.strip() for part in (*parts, text[begin:]) if part.strip()]


def _word(text: str) -> Any:
    return {"True": True, "true": True, "False": False, "false": False, "None": None}.get(text, text)


def _of_toml(reader: Reader, base: Any, name: str, value: Any) -> Any:
    """A value of a TOML file: a table is a distribution, and a text in a field of numbers is an expression."""
    with _at(name):
        return _value_of(reader, _field_of(base, name), value)


def _value_of(reader: Reader, known: Field, value: Any) -> Any:
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in _DISTRIBUTIONS:
            kinds = ", ".join(_DISTRIBUTIONS)
            fail(f"{format_value(dict(value))}; write one of {kinds}, as {{ uniform = [0, 1] }}")
        kind, ends = next(iter(value.items()))
        if not isinstance(ends, list):
            fail(f"{format_value(dict(value))}; write its arguments in a list: {{ {kind} = [1, 2] }}")
        with refusals():
            return _DISTRIBUTIONS[kind](*(_value_of(reader, known, end) for end in ends))
    if isinstance(value, list):
        return [_value_of(reader, known, one) for one in value]
    return reader.value(value) if isinstance(value, str) and not known.static else value


# --- settings --------------------------------------------------------------------------------------------------------


def _drawn(families: list[_Family]) -> Any:
    """The settings of all families; a list of them if they are of several structures."""
    common = next((one.default for one in families if one.default is not None), None)
    if common is not None and not any(_draws(one) for one in families):
        _no_draw(common)
    made = []
    for i, one in enumerate(families):
        with _at(f"family {i + 1}") if len(families) > 1 else contextlib.nullcontext():
            made.append(_settings(one))
    if len(made) == 1:
        return made[0]
    return [s for one in made for s in (one if isinstance(one, list) else unstack(one))]


def _draws(family: _Family) -> bool:
    return any(isinstance(value, (Distribution, Expression)) for value in family.given.values())


def _no_draw(count: Any) -> NoReturn:
    fail(f"settings={count}, and only values are listed, of which a grid takes all; leave it out")


def _settings(family: _Family) -> Any:
    """A grid of what is listed; and if anything is drawn, lists are drawn from too."""
    base, given, draws = family.base, family.given, _draws(family)
    count = family.default if family.settings is None and draws else family.settings
    known = {f.name: f for f in (base if isinstance(base, type) else type(base))._fields}
    listed = {name for name, value in given.items() if isinstance(value, list) and _is_list(value, known[name])}
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        fail(f"settings={format_value(count)}; write how many are drawn, 1 or more")
    if count is not None and not draws:
        _no_draw(count)
    with refusals():
        if draws:
            fields = {name: choice(*value) if name in listed else value for name, value in given.items()}
            return sample(space(base, **fields), count if count is not None else SETTINGS)
        return _grid(base, given, [name for name in listed if known[name].static])


def _is_list(value: list[Any], known: Field) -> bool:
    """Whether these are values of the field, and not one value that is a table."""
    return not known.table or any(isinstance(one, list) for one in value)


def _grid(base: Any, given: dict[str, Any], structure: list[str]) -> Any:
    """Every combination; each structure is a grid of its own."""
    if not structure:
        made = grid(base, **given)
        single = not any(isinstance(value, list) for value in given.values())
        return unstack(made) if single else made
    name, *rest = structure
    parts = [_grid(base, {**given, name: value}, rest) for value in given[name]]
    return [s for part in parts for s in (part if isinstance(part, list) else unstack(part))]
