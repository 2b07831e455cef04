"""The settings of a sweep from options or from a TOML file; `jaxsched sweep --help` shows the format.

A file is one family, `schedule`, `settings` and `fields`, or holds several as [[families]]. Beside families, `settings`
and `fields` at the top are the defaults of each family; with a `schedule` at the top they are one more family.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from .._errors import format_value, nearest_name
from ..fields import Field
from ..schedules import Schedule, grid, unstack
from ..sweep.space import Distribution, Expression, choice, field, int_uniform, log_uniform, sample, space, uniform
from ..text import evaluate
from ..units import Timeline
from .errors import fail, refusals
from .reading import read_text

# A length with a unit that is not in quotes.
_LENGTH = re.compile(r"(?<![\w.'\"])([\d.][\d._]*(?:[eE][+-]?\d+)?(?:%|ep|tok|st))(?![\w'\"])")
_DISTRIBUTIONS = {"log_uniform": log_uniform, "uniform": uniform, "int_uniform": int_uniform, "choice": choice}
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None}


class Reader:
    """Evaluates texts with the names of a task file, and lengths with the timeline of a training."""

    def __init__(self, timeline: Timeline, known: Mapping[str, Any]) -> None:
        self.timeline = timeline
        classes = {name: x for name, x in known.items() if isinstance(x, type) and issubclass(x, Schedule)}
        self.names = {**_DISTRIBUTIONS, "field": field, **classes}

    def base(self, text: str) -> Any:
        """A class by its name, or a schedule by its expression."""
        found = evaluate(text, timeline=self.timeline, known=self.names)
        if isinstance(found, Schedule) or (isinstance(found, type) and issubclass(found, Schedule)):
            return found
        fail(f"--schedule {text}: this is no schedule; write a class such as WarmupCosine, or an expression")

    def value(self, x: Any, known: Field) -> Any:
        """A value of a field: a table is a distribution, and a text in a field of numbers is an expression."""
        if isinstance(x, list):
            return [self.value(one, known) for one in x]
        if isinstance(x, Mapping):
            kind = next(iter(x), "")
            if len(x) != 1 or kind not in _DISTRIBUTIONS:
                kinds = ", ".join(_DISTRIBUTIONS)
                fail(f"{format_value(dict(x))}; write one of {kinds}, as {{ uniform = [0, 1] }}")
            if not isinstance(x[kind], list):
                fail(f"{format_value(dict(x))}; write its arguments in a list: {{ {kind} = [1, 2] }}")
            return _DISTRIBUTIONS[kind](*self.value(x[kind], known))
        return self.evaluated(x, known) if isinstance(x, str) and not known.static else x

    def evaluated(self, text: str, known: Field) -> Any:
        """A number, a length, a list, a distribution or an expression with `field`."""
        found = evaluate(_LENGTH.sub(r"'\1'", text), timeline=self.timeline, known=self.names)
        # In a field of numbers, a text is a length.
        return jax.tree.map(lambda x: self.timeline(x) if isinstance(x, str) and not known.static else x, found)


@dataclasses.dataclass(frozen=True)
class Family:
    """A class or a schedule, with one value or a list of values for some of its fields, and how many to draw."""

    place: str
    base: Any
    given: dict[str, Any]
    settings: Any = None

    @property
    def draws(self) -> bool:
        return any(isinstance(value, (Distribution, Expression)) for value in self.given.values())

    def made(self, default: int | None) -> list[Any]:
        """The settings: a grid of the listed values; if any field is drawn, listed values are drawn too."""
        count = default if self.settings is None and self.draws else self.settings
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            fail(f"settings={format_value(count)}; write how many are drawn, 1 or more")
        if count is not None and not self.draws:
            fail(_NOTHING_DRAWN.format(count))
        known, listed = {f.name: f for f in self.base._fields}, {}
        for name, value in self.given.items():
            # The value of a table is a list, and several values of it are a list of lists.
            if isinstance(value, list) and (not known[name].table or any(isinstance(one, list) for one in value)):
                listed[name] = value
        if self.draws:
            fields = self.given | {name: choice(*values) for name, values in listed.items()}
            made = sample(space(self.base, **fields), 64 if count is None else count)
            return made if isinstance(made, list) else unstack(made)
        structure = {name: values for name, values in listed.items() if known[name].static}
        combinations = [dict(zip(structure, c, strict=True)) for c in itertools.product(*structure.values())]
        return [s for chosen in combinations for s in unstack(grid(self.base, **self.given | chosen))]


_NOTHING_DRAWN = "settings={}, and only values are listed, of which a grid takes all; leave it out"


def _settings(families: list[Family], default: int | None) -> list[Any]:
    """The settings of all families; `default` is how many are drawn of each that draws."""
    if default is not None and not any(family.draws for family in families):
        fail(_NOTHING_DRAWN.format(default))
    made = []
    for family in families:
        with refusals(family.place):
            made += family.made(default)
    return made


def _field(base: Any, name: str) -> Field:
    base._reject_unknown({name: None})
    return next(field for field in base._fields if field.name == name)


def from_options(reader: Reader, schedule: str, fields: tuple[str, ...], settings: int | None) -> list[Any]:
    """The settings of `--schedule` and `--set`."""
    base = reader.base(schedule)
    given: dict[str, Any] = {}
    for text in fields:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not value.strip():
            fail(f"--set {text}: write NAME=VALUE, such as peak_value=1e-4,1e-3 or peak_value='log_uniform(1e-4, 0.1)'")
        if name in given:
            fail(f"--set {name} is written twice; write its values in one: --set {name}=1,2,3")
        known = _field(base, name)
        with refusals(f"--set {name}"):
            if known.static and not re.search(r"[\"'(]", value):
                read = [_WORDS.get(word.strip(), word.strip()) for word in value.split(",")]
            else:
                read = reader.evaluated(f"[{value}]", known)
        given[name] = read[0] if len(read) == 1 else read
    return _settings([Family("", base, given)], settings)


def from_toml(reader: Reader, path: Path, settings: int | None) -> list[Any]:
    """The settings of a TOML file; `settings` of the command line replaces that of the file."""
    try:
        data = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{path} is no TOML: {error}")
    with refusals(str(path)):
        tables, defaults = data.pop("families", []), data
        if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
            fail("families must be tables, [[families]]")
        if "schedule" in data or not tables:
            tables, defaults = [data, *tables], {}
        shared, families = _checked(defaults), []
        for i, table in enumerate(tables, start=1):
            place = f"family {i}" if len(tables) > 1 else ""
            with refusals(place):
                families.append(_family(reader, place, table, shared, own=settings is None))
        known = {field.name for family in families for field in family.base._fields}
        for name in set(shared) - known:
            fail(f"fields.{name} is a field of no family: {nearest_name(name, known)}")
        return _settings(families, defaults.get("settings") if settings is None else settings)


def _family(reader: Reader, place: str, table: Any, shared: Mapping[str, Any], own: bool) -> Family:
    """The family of a table; `shared` are the fields of all families, and `own` is whether its settings count."""
    fields = _checked(table)
    if not isinstance(table.get("schedule"), str):
        hint = "and a table [fields], or [[families]] of these"
        fail(f'there is no schedule: write schedule = "WarmupCosine" {hint}')
    base = reader.base(table["schedule"])
    names, given = [field.name for field in base._fields], {}
    for name, value in {**{name: x for name, x in shared.items() if name in names}, **fields}.items():
        with refusals(name):
            given[name] = reader.value(value, _field(base, name))
    return Family(place, base, given, table.get("settings") if own else None)


def _checked(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a table, whose names are checked."""
    allowed = ("schedule", "settings", "fields")
    for name in table:
        if name not in allowed:
            fail(f"{name!r} has no meaning here: {nearest_name(name, allowed)}")
    fields = table.get("fields", {})
    return fields if isinstance(fields, Mapping) else fail(f"fields={format_value(fields)}; write a table, [fields]")
