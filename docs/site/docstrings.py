"""The sections of a docstring (Args, Returns, Raises, Example, References, ...) as Markdown, for the reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

_TITLES = "Formula|Fields|Args|Attributes|Returns|Errors|Raises|Examples?|Source|References"


def markdown(doc: str) -> str:
    """The docstring with its sections under bold titles, its fields as a list and its example as code."""
    parts = re.split(rf"^({_TITLES}):", doc, flags=re.MULTILINE)
    out = [_fenced(parts[0].strip())]
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        body = "\n".join(line.removeprefix("  ") for line in text.strip("\n").split("\n")).strip()
        if title in ("Fields", "Args", "Attributes", "Raises"):
            body = re.sub(r"^([\w*][\w*, ]*): ", r"- `\1`: ", body, flags=re.MULTILINE)
            out.append(f"**{title}**\n\n{body}")
        elif title.startswith("Example"):
            out.append(f"**{title}**\n\n```python\n{body}\n```")
        else:
            out.append(f"**{title}:** {body}")
    return "\n\n".join(out)


def _fenced(text: str) -> str:
    """The text with what a reader would type, and the answers, as code."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"```python\n{p}\n```" if p.lstrip().startswith(">>>") else p for p in paragraphs)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is rendered."""

    def on_instance(self, *, obj: Any, **more: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
