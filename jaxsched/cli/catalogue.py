"""`jaxsched list`: every schedule with its formula and its fields, read from the docstrings."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
import re
from typing import Annotated, Any

from tyro import conf

from .._errors import nearest_name
from ..schedules.base import Recipe, Schedule
from ..text import peers, places
from .console import print_json, print_text
from .errors import fail

_SECTIONS = ("Formula", "Fields", "Args", "Returns", "Errors", "Example", "Source")


def list_schedules(
    pattern: Annotated[conf.Positional[str | None], conf.arg(metavar="[PATTERN]")] = None,
    compat: bool = False,
    json: bool = False,
) -> None:
    """List the schedules, each with its formula and its fields.

    With a PATTERN only those whose name or summary has it in it (* and ? stand for any characters of a name), with
    what each field means.

    Examples:
      jaxsched list
      jaxsched list warmup
      jaxsched list "Warmup*Decay" --json
      jaxsched list StepLR --compat

    Args:
        pattern: A part of a name or of a summary, in any case.
        compat: The schedules of other systems too (torch, Keras, Optax, ...), under their own names.
        json: As JSON, with everything that is known of each.
    """
    entries = [entry(name, x) for name, x in _named(compat).items()]
    found = [one for one in entries if pattern is None or _fits(one, pattern)]
    if not found:
        near = nearest_name(str(pattern), [one["name"].rpartition(".")[2] for one in entries])
        fail(f"no schedule has {pattern!r} in it: {near if near.startswith('did') else 'jaxsched list shows all'}")
    if json:
        print_json(found)
        return
    for one in found:
        _print(one, whole=pattern is not None)


def _fits(one: dict[str, Any], pattern: str) -> bool:
    wanted, name = pattern.lower(), one["name"].lower()
    if set(wanted) & set("*?"):
        return fnmatch.fnmatch(name, wanted) or fnmatch.fnmatch(name.rpartition(".")[2], wanted)
    return wanted in name or wanted in one["summary"].lower()


def _print(one: dict[str, Any], whole: bool) -> None:
    print_text(f"{one['name']}({', '.join(_shown(field) for field in one['fields'])})", style="bold")
    print_text(f"    {one['summary']}")
    if one["formula"]:
        print_text(f"    {one['formula']}", style="cyan")
    if whole:
        for names, text in one["about"].items():
            print_text(f"      {names}: {text}", style="dim")
        print_text()


def _shown(field: dict[str, Any]) -> str:
    return field["name"] if field["required"] else f"{field['name']}={field['default']!r}"


# --- what there is ---------------------------------------------------------------------------------------------------


def _named(compat: bool) -> dict[str, Any]:
    """The public schedules by name, and those of the peers."""
    import jaxsched

    found = {name: x for name, x in vars(jaxsched).items() if isinstance(x, type) and issubclass(x, Schedule)}
    found = {name: x for name, x in found.items() if x not in (Schedule, Recipe)}
    if compat:
        for place in places():
            found |= {f"{place}.{name}": x for name, x in peers(place).items() if not name.startswith("_")}
    return found


def entry(name: str, x: Any) -> dict[str, Any]:
    """All that a class of schedules, or a function that makes one, says of itself."""
    doc = inspect.cleandoc(x.__doc__ or "")
    sections = _sections(doc)
    if isinstance(x, type) and issubclass(x, Schedule):
        fields = [_field(f.name, f.default, dataclasses.MISSING) for f in x._fields]
    else:
        parameters = inspect.signature(x).parameters.values()
        fields = [_field(p.name, p.default, p.empty) for p in parameters if p.kind is not p.VAR_KEYWORD]
    return {
        "name": name,
        "summary": " ".join(doc.partition("\n\n")[0].split()),
        "formula": _joined(sections.get("Formula", "")).replace("`", ""),
        "fields": fields,
        "about": _told(x, sections),
        "source": _joined(sections.get("Source", "")),
    }


def _field(name: str, default: Any, missing: Any) -> dict[str, Any]:
    required = default is missing
    simple = default is None or isinstance(default, (bool, int, float, str))
    return {"name": name, "required": required, "default": None if required else default if simple else repr(default)}


def _sections(doc: str) -> dict[str, str]:
    """The text of each section of a docstring by its title."""
    parts = re.split(rf"^({'|'.join(_SECTIONS)}):", doc, flags=re.MULTILINE)
    # What a section holds is indented, or stands behind its title; the next paragraph is not its.
    ends = [re.split(r"\n\n(?=\S)", text)[0].strip("\n") for text in parts[2::2]]
    return dict(zip(parts[1::2], ends, strict=True))


def _told(x: Any, sections: dict[str, str]) -> dict[str, str]:
    """What is said of the fields. Where that is `as in Linear`, it is what Linear says of them."""
    found: dict[str, str] = {}
    for names, text in _about(sections.get("Fields", sections.get("Args", ""))).items():
        match = re.match(r"as in `(\w+)`[.;]?\s*", text)
        other = getattr(inspect.getmodule(x), match.group(1), None) if match else None
        if match is None or not isinstance(other, type):
            found[names] = text
            continue
        rest = text[match.end() :]
        theirs = _told(other, _sections(inspect.cleandoc(other.__doc__ or "")))
        wanted = names.split(", ")
        for others, says in theirs.items():
            if same := [name for name in others.split(", ") if name in wanted]:
                found[", ".join(same)] = f"{says.rstrip('.')}; {rest}" if rest else says
                wanted = [name for name in wanted if name not in same]
        if wanted:
            found[", ".join(wanted)] = text
    return found


def _joined(text: str) -> str:
    return " ".join(text.split())


def _about(text: str) -> dict[str, str]:
    """What is said of the fields, by their names as they stand there (several may share a text)."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"  ([\w*, ]+): (.*)", line):
            name = match.group(1)
            found[name] = match.group(2)
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found
