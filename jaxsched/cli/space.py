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

from .._errors import format_value, nearest_name
from ..fields import Field
from ..schedules.base import Schedule
from ..schedules.stacking import grid, unstack
from ..sweep.space import Distribution, Expression, choice, field, int_uniform, log_uniform, sample, space, uniform
from ..text import evaluate
from ..units import Timeline
from .errors import Refused, fail, refusals
from .reading import options_named

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

    def schedule(self, text: str) -> Any:
        """A class by its name, or a schedule by its expression."""
        with options_named():
            found = evaluate(text, timeline=self.timeline, known=self.names)
        if isinstance(found, Schedule) or (isinstance(found, type) and issubclass(found, Schedule)):
            return found
        fail(f"--schedule {text}: this is no schedule; write a class such as WarmupCosine, or an expression")

    def value(self, text: str, known: Field) -> Any:
        """A value of a field: a number, a length, a list, a distribution or an expression with `field`."""
        with options_named():
            found = evaluate(_LENGTH.sub(r"'\1'", text), timeline=self.timeline, known=self.names)
            return found if known.static else self._in_steps(found)

    def _in_steps(self, x: Any) -> Any:
        if isinstance(x, list):
            return [self._in_steps(one) for one in x]
        return self.timeline(x) if isinstance(x, str) else x


@dataclasses.dataclass(frozen=True)
class Family:
    """A class or a schedule, with values for some of its fields.

    Args:
      base: the class, or a schedule whose other fields stay as they are.
      given: values by field; a list for several values.
      settings: how many settings to draw; None for `default` if any field is drawn.
      default: how many to draw of each family that draws.
    """

    base: Any
    given: dict[str, Any]
    settings: Any = None
    default: Any = None

    @property
    def draws(self) -> bool:
        return any(isinstance(value, (Distribution, Expression)) for value in self.given.values())

    def made(self) -> list[Any]:
        """The settings: a grid of the listed values; if any field is drawn, listed values are drawn too."""
        count = self.default if self.settings is None and self.draws else self.settings
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            fail(f"settings={format_value(count)}; write how many are drawn, 1 or more")
        if count is not None and not self.draws:
            fail(_NOTHING_DRAWN.format(count))
        known, listed = _fields(self.base), {}
        for name, value in self.given.items():
            # The value of a table is a list, and several values of it are a list of lists.
            if isinstance(value, list) and (not known[name].table or any(isinstance(one, list) for one in value)):
                listed[name] = value
        with refusals():
            if self.draws:
                fields = self.given | {name: choice(*values) for name, values in listed.items()}
                made = sample(space(self.base, **fields), count if count is not None else SETTINGS)
                return made if isinstance(made, list) else unstack(made)
            structure = {name: values for name, values in listed.items() if known[name].static}
            combinations = [dict(zip(structure, c, strict=True)) for c in itertools.product(*structure.values())]
            return [s for chosen in combinations for s in unstack(grid(self.base, **self.given | chosen))]


_NOTHING_DRAWN = "settings={}, and only values are listed, of which a grid takes all; leave it out"


def _fields(base: Any) -> dict[str, Field]:
    return {f.name: f for f in (base if isinstance(base, type) else type(base))._fields}


def _field(base: Any, name: str) -> Field:
    fields = _fields(base)
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
        raise Refused(f"{place}: {error}" if place else str(error)) from error


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
        known = _field(base, name)
        with _at(f"--set {name}"):
            if known.static and not re.search(r"[\"'(]", value):
                read = [_WORDS.get(word.strip(), word.strip()) for word in value.split(",")]
            else:
                read = reader.value(f"[{value}]", known)
        given[name] = read[0] if len(read) == 1 else read
    return Family(base, given, settings).made()


_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None}


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
        common = next(iter(families.values())).default
        if common is not None and not any(one.draws for one in families.values()):
            fail(_NOTHING_DRAWN.format(common))
        made = []
        for place, family in families.items():
            with _at(place):
                made += family.made()
        return made


def _families(reader: Reader, data: dict[str, Any], settings: int | None) -> dict[str, Family]:
    """The families by their place, which is empty for a single one."""
    tables, defaults = data.pop("families", []), data
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        fail("families must be tables, [[families]]")
    if "schedule" in data or not tables:
        tables, defaults = [data, *tables], {}
    single = len(tables) == 1
    common = defaults.get("settings") if single or settings is None else settings
    defaults = _checked(defaults)
    found, used = {}, set()
    for i, table in enumerate(tables):
        place = "" if single else f"family {i + 1}"
        with _at(place):
            fields = _checked(table)
            if not isinstance(table.get("schedule"), str):
                hint = "and a table [fields], or [[families]] of these"
                fail(f'there is no schedule: write schedule = "WarmupCosine" {hint}')
            base = reader.schedule(table["schedule"])
            shared = {name: value for name, value in defaults.items() if name in _fields(base)}
            used |= set(shared)
            given = {}
            for name, value in {**shared, **fields}.items():
                with _at(name):
                    given[name] = _value(reader, _field(base, name), value)
            own = table.get("settings") if settings is None else settings if single else None
            found[place] = Family(base, given, own, common)
    for name in set(defaults) - used:
        known = {name for family in found.values() for name in _fields(family.base)}
        fail(f"fields.{name} is a field of no family: {nearest_name(name, known)}")
    return found


def _checked(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a table, whose names are checked."""
    allowed = ("schedule", "settings", "fields")
    for name in table:
        if name not in allowed:
            fail(f"{name!r} has no meaning here: {nearest_name(name, allowed)}")
    fields = table.get("fields", {})
    return fields if isinstance(fields, Mapping) else fail(f"fields={format_value(fields)}; write a table, [fields]")


def _value(reader: Reader, known: Field, value: Any) -> Any:
    """A value of a file: a table is a distribution, and a text in a field of numbers is an expression."""
    if isinstance(value, list):
        return [_value(reader, known, one) for one in value]
    if not isinstance(value, Mapping):
        return reader.value(value, known) if isinstance(value, str) and not known.static else value
    kind = next(iter(value), "")
    if len(value) != 1 or kind not in _DISTRIBUTIONS:
        kinds = ", ".join(_DISTRIBUTIONS)
        fail(f"{format_value(dict(value))}; write one of {kinds}, as {{ uniform = [0, 1] }}")
    if not isinstance(value[kind], list):
        fail(f"{format_value(dict(value))}; write its arguments in a list: {{ {kind} = [1, 2] }}")
    with refusals():
        return _DISTRIBUTIONS[kind](*_value(reader, known, value[kind]))
