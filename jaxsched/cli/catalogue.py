"""`jaxsched list`: the schedules with their formulas and fields, read from the docstrings."""

from __future__ import annotations

import fnmatch
import inspect
import re
from typing import Annotated, Any

from tyro import conf

from .._errors import nearest_name
from ..schedules.structure import REGISTRY
from ..text import peers, places
from .console import print_json, print_text
from .errors import fail

_SECTION = re.compile(r"^(Formula|Fields|Args|Returns|Raises|Errors|Example|References|Source):", re.MULTILINE)


def list_schedules(
    pattern: Annotated[conf.Positional[str | None], conf.arg(metavar="[PATTERN]")] = None,
    compat: bool = False,
    json: bool = False,
) -> None:
    """List the schedules with their formulas and fields.

    A PATTERN selects those that contain it in their name or summary (* and ? match any characters of a name), and
    shows what each field means.

    Examples:
      jaxsched list
      jaxsched list warmup
      jaxsched list "Warmup*Decay" --json
      jaxsched list StepLR --compat

    Args:
        pattern: A part of a name or of a summary, in any case.
        compat: Include the schedules of other frameworks (torch, Keras, Optax, ...) under their own names.
        json: Print JSON.
    """
    public = {name: x for name, x in REGISTRY.items() if "." not in name and name[0] != "_"}
    for place in places() if compat else ():
        public |= {f"{place}.{name}": x for name, x in peers(place).items() if name[0] != "_"}
    entries = [entry(name, x) for name, x in public.items()]
    found = [one for one in entries if pattern is None or _matches(one, pattern)]
    if not found:
        near = nearest_name(str(pattern), [one["name"].rpartition(".")[2] for one in entries])
        fail(f"no schedule matches {pattern!r}: {near if near.startswith('did') else 'jaxsched list shows all'}")
    if json:
        print_json(found)
        return
    for one in found:
        fields = [f["name"] if f["required"] else f"{f['name']}={f['default']!r}" for f in one["fields"]]
        print_text(f"{one['name']}({', '.join(fields)})", style="bold")
        print_text(f"    {one['summary']}")
        if one["formula"]:
            print_text(f"    {one['formula']}", style="cyan")
        if pattern is not None:
            for names, text in one["about"].items():
                print_text(f"      {names}: {text}", style="dim")
            print_text()


def _matches(one: dict[str, Any], pattern: str) -> bool:
    wanted, name = pattern.lower(), one["name"].lower()
    if set(wanted) & set("*?"):
        return fnmatch.fnmatch(name, wanted) or fnmatch.fnmatch(name.rpartition(".")[2], wanted)
    return wanted in name or wanted in one["summary"].lower()


def entry(name: str, x: Any) -> dict[str, Any]:
    """Returns the documentation of a schedule class, or of a function that returns a schedule."""
    sections = _sections(x)
    return {
        "name": name,
        "summary": _one_line(sections[""].partition("\n\n")[0]),
        "formula": _one_line(sections.get("Formula", "")).replace("`", ""),
        "fields": [_field(p) for p in inspect.signature(x).parameters.values() if p.kind is not p.VAR_KEYWORD],
        "about": _field_texts(x),
        "source": _one_line(sections.get("Source", sections.get("References", ""))),
    }


def _field(parameter: inspect.Parameter) -> dict[str, Any]:
    default, required = parameter.default, parameter.default is inspect.Parameter.empty
    simple = default is None or isinstance(default, (bool, int, float, str))
    shown = None if required else default if simple else repr(default)
    return {"name": parameter.name, "required": required, "default": shown}


def _sections(x: Any) -> dict[str, str]:
    """The sections of a docstring by title; what comes before the first has the title ''."""
    begin, *parts = _SECTION.split(inspect.cleandoc(x.__doc__ or ""))
    # A section is indented or stands behind its title; the next paragraph is not part of it.
    texts = [re.split(r"\n\n(?=\S)", text)[0].strip("\n") for text in parts[1::2]]
    return {"": begin, **dict(zip(parts[::2], texts, strict=True))}


def _field_texts(x: Any) -> dict[str, str]:
    """The descriptions of the fields by name, or by several names that share one.

    `as in Linear` is replaced by what the docstring of Linear says.
    """
    sections, found = _sections(x), {}
    listed = re.split(r"^  ([\w*, ]+): ", sections.get("Fields", sections.get("Args", "")), flags=re.MULTILINE)
    for names, text in zip(listed[1::2], map(_one_line, listed[2::2]), strict=True):
        match = re.match(r"as in `(\w+)`[.;]?\s*", text)
        other = getattr(inspect.getmodule(x), match[1], None) if match else None
        rest = f"; {text[match.end() :]}" if match and text[match.end() :] else ""
        said = {} if other is None else {n: t for ns, t in _field_texts(other).items() for n in ns.split(", ")}
        alike: dict[str, list[str]] = {}
        for name in names.split(", "):
            own = f"{said[name].rstrip('.')}{rest}" if rest and name in said else said.get(name, text)
            alike.setdefault(own, []).append(name)
        found |= {", ".join(several): own for own, several in alike.items()}
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
