"""What a sweep trains, from flags or from a TOML file.

schedule = "WarmupCosine"                       # a class, or an expression whose other fields stay as they are
settings = 64                                   # how many are drawn; not where only values are listed: a grid

[fields]
peak_value = { log_uniform = [1e-4, 1e-1] }     # also uniform, int_uniform and choice
warmup_steps = [0, 50, "5%"]                    # a list: each of these
total_steps = 1_000                             # a single value stays

[[families]]                                    # several, each with its own schedule, settings and fields,
schedule = "OneCycle"                           # beside or in place of the ones above
fields.peak_value = { log_uniform = [1e-3, 1.0] }
fields.total_steps = 1_000
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..schedules.base import Schedule
from ..schedules.fields import Field, nearest_name, shown
from ..schedules.stacking import grid, unstack
from ..sweep.space import Distribution, Expression, choice, field, int_uniform, log_uniform, sample, space, uniform
from ..text import ParseError, evaluate
from ..units import Timeline
from .errors import Refused, fail, refusals

SETTINGS = 64
"""How many are drawn, unless it is said."""

_DISTRIBUTIONS = {"log_uniform": log_uniform, "uniform": uniform, "int_uniform": int_uniform, "choice": choice}
_LENGTH = re.compile(r"\s*[\d._]+(?:[eE][+-]?\d+)?\s*(?:%|ep|tok|st)\s*")


class Reader:
    """Reads values, with lengths in the units of a training and with the names of a task file."""

    def __init__(self, steps: int, known: Mapping[str, Any]) -> None:
        self.timeline = Timeline(steps)
        self.classes = {name: x for name, x in known.items() if isinstance(x, type) and issubclass(x, Schedule)}
        self.names = {**_DISTRIBUTIONS, "field": field, **self.classes}

    def value(self, text: str) -> Any:
        """A number, a distribution or any other value of the language; a length in steps."""
        if _LENGTH.fullmatch(text):
            with refusals(ValueError):
                return self.timeline(text)
        try:
            return evaluate(text, timeline=self.timeline, known=self.names)
        except ParseError as error:
            raise Refused(str(error)) from error

    def schedule(self, text: str) -> Any:
        """A class by its name, or a schedule by its expression."""
        try:
            found = evaluate(text, timeline=self.timeline, known=self.names)
        except ParseError as error:
            raise Refused(str(error)) from error
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
        read = [_word(piece) for piece in pieces] if is_text else [reader.value(piece) for piece in pieces]
        given[name] = read[0] if len(read) == 1 else read
    return _drawn([(base, given, settings)])


def from_toml(reader: Reader, path: Path, settings: int | None) -> Any:
    """The settings of a TOML file."""
    if not path.is_file():
        fail(f"there is no file {path}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{path} is no TOML: {error}")
    families = [*([data] if "schedule" in data else []), *data.get("families", [])]
    if not families:
        fail(f'{path} has no schedule: write schedule = "WarmupCosine" and a table [fields], or [[families]] of these')
    plans = []
    for i, family in enumerate(families):
        allowed = ("schedule", "settings", "fields", *(("families",) if family is data else ()))
        for name in family if isinstance(family, Mapping) else fail(f"{path}: families must be [[families]]"):
            if name not in allowed:
                fail(f"{path}: {name!r} has no meaning here: {nearest_name(name, allowed)}")
        if not isinstance(family.get("schedule"), str):
            fail(f'{path}: family {i + 1} has no schedule: write schedule = "WarmupCosine"')
        if not isinstance(family.get("fields", {}), Mapping):
            fail(f"{path}: fields={shown(family['fields'])}; write a table, [fields]")
        base = reader.schedule(family["schedule"])
        given = {name: _of_toml(reader, base, name, value) for name, value in family.get("fields", {}).items()}
        plans.append((base, given, settings if settings is not None else family.get("settings")))
    return _drawn(plans)


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
    known = _field_of(base, name)
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in _DISTRIBUTIONS:
            kinds = ", ".join(_DISTRIBUTIONS)
            fail(f"fields.{name}={shown(dict(value))}; write one of {kinds}, as {{ uniform = [0, 1] }}")
        kind, ends = next(iter(value.items()))
        if not isinstance(ends, list):
            fail(f"fields.{name}={shown(dict(value))}; write its arguments in a list: {{ {kind} = [1, 2] }}")
        with refusals():
            return _DISTRIBUTIONS[kind](*(_of_toml(reader, base, name, end) for end in ends))
    if isinstance(value, list):
        return [_of_toml(reader, base, name, one) for one in value]
    return reader.value(value) if isinstance(value, str) and not known.static else value


# --- settings --------------------------------------------------------------------------------------------------------


def _drawn(plans: list[tuple[Any, dict[str, Any], Any]]) -> Any:
    """The settings of all families; a list of them if they are of several structures."""
    made = [_settings(*plan) for plan in plans]
    if len(made) == 1:
        return made[0]
    return [s for one in made for s in (one if isinstance(one, list) else unstack(one))]


def _settings(base: Any, given: dict[str, Any], count: Any) -> Any:
    """A grid of what is listed; and if anything is drawn, lists are drawn from too."""
    cls = base if isinstance(base, type) else type(base)
    known = {f.name: f for f in cls._fields}
    listed = {name for name, value in given.items() if isinstance(value, list) and _is_list(value, known[name])}
    drawn = any(isinstance(value, (Distribution, Expression)) for value in given.values())
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        fail(f"settings={shown(count)}; write how many are drawn, 1 or more")
    with refusals():
        if drawn:
            fields = {name: choice(*value) if name in listed else value for name, value in given.items()}
            return sample(space(base, **fields), count if count is not None else SETTINGS)
        if count is not None:
            fail(f"settings={count}, and only values are listed, of which a grid takes all; leave it out")
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
