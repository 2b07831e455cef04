"""The settings of a sweep from options or from a TOML file; `jaxsched sweep --help` shows the format.

A file is one family, `schedule`, `settings` and `fields`, or holds several as [[families]]. Beside families, `settings`
and `fields` at the top are the defaults of each family; with a `schedule` at the top they are one more family.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._errors import FieldError, format_value, nearest_name
from ..fields import Field
from ..schedules.base import Schedule
from ..schedules.stacking import grid, unstack
from ..sweep.space import Distribution, Expression, choice, field, int_uniform, log_uniform, sample, space, uniform
from ..text import ParseError, evaluate
from ..units import Timeline
from .errors import Refused, fail, refusals
from .reading import in_options, parse_error_in_options

SETTINGS = 64
"""The default number of settings to draw."""

_DISTRIBUTIONS = {"log_uniform": log_uniform, "uniform": uniform, "int_uniform": int_uniform, "choice": choice}
_LENGTH = re.compile(r"(?<![\w.'\"])([\d.][\d._]*(?:[eE][+-]?\d+)?(?:%|ep|tok|st))(?![\w'\"])")
"""A length with a unit that is not in quotes."""


class Reader:
    """Evaluates texts with the names of a task file, and lengths with the timeline of a training."""

    def __init__(self, timeline: Timeline, known: Mapping[str, Any]) -> None:
        self.timeline = timeline
        classes = {name: x for name, x in known.items() if isinstance(x, type) and issubclass(x, Schedule)}
        self.names = {**_DISTRIBUTIONS, "field": field, **classes}

    def value(self, text: str, known: Field) -> Any:
        """A value of a field: a number, a length, a list, a distribution or an expression with `field`."""
        found = self.evaluated(_LENGTH.sub(r"'\1'", text))
        return found if known.static else self._in_steps(found)

    def _in_steps(self, x: Any) -> Any:
        if isinstance(x, list):
            return [self._in_steps(one) for one in x]
        try:
            return self.timeline(x) if isinstance(x, str) else x
        except FieldError as error:
            raise in_options(error) from error

    def evaluated(self, text: str) -> Any:
        try:
            return evaluate(text, timeline=self.timeline, known=self.names)
        except ParseError as error:
            raise parse_error_in_options(error) from error

    def schedule(self, text: str) -> Any:
        """A class by its name, or a schedule by its expression."""
        found = self.evaluated(text)
        if isinstance(found, Schedule) or (isinstance(found, type) and issubclass(found, Schedule)):
            return found
        fail(f"--schedule {text}: this is no schedule; write a class such as WarmupCosine, or an expression")


@dataclasses.dataclass(frozen=True)
class Family:
    """A class or a schedule, with values for some of its fields.

    Args:
      base: the class, or a schedule whose other fields stay as they are.
      given: values by field; a list for several values.
      settings: how many settings to draw; None for `default` if any field is drawn.
      default: how many to draw of each family of the file that draws.
    """

    base: Any
    given: dict[str, Any]
    settings: Any = None
    default: Any = None

    @property
    def fields(self) -> dict[str, Field]:
        return _fields_of(self.base)

    @property
    def draws(self) -> bool:
        return any(isinstance(value, (Distribution, Expression)) for value in self.given.values())

    def made(self) -> list[Any]:
        """The settings: a grid of the listed values; if any field is drawn, listed values are drawn too."""
        count = self.default if self.settings is None and self.draws else self.settings
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            fail(f"settings={format_value(count)}; write how many are drawn, 1 or more")
        if count is not None and not self.draws:
            fail(_nothing_is_drawn(count))
        # The value of a table is a list, and several values of it are a list of lists.
        tables = {name for name, f in self.fields.items() if f.table}
        listed = {
            name: value
            for name, value in self.given.items()
            if isinstance(value, list) and (name not in tables or any(isinstance(one, list) for one in value))
        }
        with refusals():
            if self.draws:
                fields = self.given | {name: choice(*values) for name, values in listed.items()}
                made = sample(space(self.base, **fields), count if count is not None else SETTINGS)
                return made if isinstance(made, list) else unstack(made)
            structure = {name: values for name, values in listed.items() if self.fields[name].static}
            combinations = itertools.product(*structure.values())
            grids = [grid(self.base, **self.given | dict(zip(structure, c, strict=True))) for c in combinations]
        return [setting for one in grids for setting in unstack(one)]


def _nothing_is_drawn(count: Any) -> str:
    return f"settings={count}, and only values are listed, of which a grid takes all; leave it out"


def _fields_of(base: Any) -> dict[str, Field]:
    return {f.name: f for f in (base if isinstance(base, type) else type(base))._fields}


def _field_of(base: Any, name: str) -> Field:
    fields = _fields_of(base)
    if name not in fields:
        cls = base if isinstance(base, type) else type(base)
        fail(f"{cls.__name__} has no field {name!r}: {nearest_name(name, fields)}")
    return fields[name]


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    """Puts the place before the text of what is refused."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{place}: {error}") from error


# --- from options ----------------------------------------------------------------------------------------------------


def from_options(reader: Reader, schedule: str, fields: tuple[str, ...], settings: int | None) -> list[Any]:
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
        known = _field_of(base, name)
        with _at(f"--set {name}"):
            if known.static and not re.search(r"[\"'(]", value):
                read = [_word(word.strip()) for word in value.split(",")]
            else:
                read = reader.value(f"[{value}]", known)
        given[name] = read[0] if len(read) == 1 else read
    return Family(base, given, settings).made()


def _word(text: str) -> Any:
    return {"True": True, "true": True, "False": False, "false": False, "None": None}.get(text, text)


# --- from a file -----------------------------------------------------------------------------------------------------


def from_toml(reader: Reader, path: Path, settings: int | None) -> list[Any]:
    """The settings of a TOML file; `settings` of the command line replaces that of the file."""
    if not path.is_file():
        fail(f"there is no file {path}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{path} is no TOML: {error}")
    with _at(str(path)):
        families = _families(reader, data, settings)
        common = families[0].default
        if common is not None and not any(one.draws for one in families):
            fail(_nothing_is_drawn(common))
        made = []
        for i, one in enumerate(families):
            with _place_of_family(i, len(families)):
                made += one.made()
        return made


def _place_of_family(i: int, count: int) -> contextlib.AbstractContextManager[None]:
    return _at(f"family {i + 1}") if count > 1 else contextlib.nullcontext()


def _families(reader: Reader, data: dict[str, Any], settings: int | None) -> list[Family]:
    _check_names(data, ("schedule", "settings", "fields", "families"))
    tables = data.pop("families", [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        fail("families must be tables, [[families]]")
    if not tables and "schedule" not in data:
        fail('there is no schedule: write schedule = "WarmupCosine" and a table [fields], or [[families]] of these')
    defaults = {} if "schedule" in data else data
    several = [data, *tables] if "schedule" in data else tables
    single = len(several) == 1
    common = defaults.get("settings") if single or settings is None else settings
    found, used = [], set()
    for i, table in enumerate(several):
        with _place_of_family(i, len(several)):
            _check_names(table, ("schedule", "settings", "fields"))
            if not isinstance(table.get("schedule"), str):
                fail('there is no schedule: write schedule = "WarmupCosine"')
            base = reader.schedule(table["schedule"])
            shared = {name: x for name, x in _fields(defaults).items() if name in _fields_of(base)}
            used |= set(shared)
            given = {name: _read(reader, base, name, x) for name, x in {**shared, **_fields(table)}.items()}
            own = table.get("settings") if settings is None else settings if single else None
            found.append(Family(base, given, own, common))
    if unused := [name for name in _fields(defaults) if name not in used]:
        fail(f"fields.{unused[0]} is a field of no family: {nearest_name(unused[0], set().union(*map(_names, found)))}")
    return found


def _names(family: Family) -> set[str]:
    return set(family.fields)


def _check_names(table: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for name in table:
        if name not in allowed:
            fail(f"{name!r} has no meaning here: {nearest_name(name, allowed)}")


def _fields(table: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = table.get("fields", {})
    return fields if isinstance(fields, Mapping) else fail(f"fields={format_value(fields)}; write a table, [fields]")


def _read(reader: Reader, base: Any, name: str, value: Any) -> Any:
    with _at(name):
        return _value(reader, _field_of(base, name), value)


def _value(reader: Reader, known: Field, value: Any) -> Any:
    """A value of a file: a table is a distribution, and a text in a field of numbers is an expression."""
    if isinstance(value, list):
        return [_value(reader, known, one) for one in value]
    if not isinstance(value, Mapping):
        return reader.value(value, known) if isinstance(value, str) and not known.static else value
    shown = format_value(dict(value))
    if len(value) != 1 or next(iter(value)) not in _DISTRIBUTIONS:
        fail(f"{shown}; write one of {', '.join(_DISTRIBUTIONS)}, as {{ uniform = [0, 1] }}")
    kind, ends = next(iter(value.items()))
    if not isinstance(ends, list):
        fail(f"{shown}; write its arguments in a list: {{ {kind} = [1, 2] }}")
    with refusals():
        return _DISTRIBUTIONS[kind](*_value(reader, known, ends))
