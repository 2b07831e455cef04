"""One HTML page that works offline: a ranking, curves that light up together, and tables.

The page consists of `report_page.html`, `report_page.css`, `report_page.js` and plotly's script. All user text is
escaped, and a content security policy forbids the browser to load anything else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import os
import pathlib
import secrets
import string
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..inspect.format import optional

_CURVES = 7_000_000  # characters of a page for its curves: with plotly's 5 MB the page stays below 15 MB
_MOST_POINTS = 256
_FEWEST_POINTS = 32
_MISSING = "\N{EN DASH}"


class Column(NamedTuple):
    """A column of the ranking.

    Attributes:
        label: The heading.
        cells: The text of each rank; None where there is no value.
        number: Whether the texts are numbers, to align and sort them so.
        word: The name of the value in the words about one setting; "" to leave it out.
        title: A longer text for the heading.
    """

    label: str
    cells: Sequence[str | None]
    number: bool = True
    word: str = ""
    title: str = ""


def plotly_script() -> str:
    """Return the script that draws the curves of a page; needs plotly."""
    return optional("plotly.offline", "reports need", "report").get_plotlyjs()


def render(data: dict[str, Any], **parts: str) -> str:
    """Return the page: `data` for its script, and the HTML of its parts. The same input gives the same page."""
    style, script, plotly = _asset("css"), _asset("js"), plotly_script()
    allowed = " ".join(f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'" for text in (plotly, script))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for char in "<>&":  # `</script>` in a name must not end the element
        text = text.replace(char, f"\\u{ord(char):04x}")
    page = string.Template(_asset("html"))
    return page.substitute(parts, policy=policy, style=style, data=text, plotly=plotly, script=script)


def _asset(kind: str) -> str:
    return importlib.resources.files("jaxsched.sweep").joinpath(f"report_page.{kind}").read_text(encoding="utf-8")


def write(path: str | os.PathLike[str], page: str) -> pathlib.Path:
    """Write the page to the file `path`, create its folder if needed, and return the path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is complete, so that a reader finds the old page or the new one.
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Line ends stay, as the hashes of the scripts include them.
        half.write_text(page, encoding="utf-8", newline="\n")
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    return path


# --- curves ----------------------------------------------------------------------------------------------------------


def most_points(settings: int, panels: int, most: int = _MOST_POINTS) -> int:
    """Return how many points a curve may have in a page of so many curves."""
    return max(_FEWEST_POINTS, min(most, _CURVES // (6 * max(1, settings * panels))))


def panel(
    label: str,
    x: np.ndarray | Sequence[np.ndarray],
    curves: np.ndarray | Sequence[np.ndarray],
    limits: tuple[float, float, bool],
    says: str = "",
    other: int | None = None,
) -> dict[str, Any]:
    """Return the curves of one figure as data for the script.

    Args:
        label: The name of the values.
        x: Shape (points,), rising, for all curves; or a list with the integer steps of each curve.
        curves: Shape (ranks, points); or a list with as many values for each rank as it has steps. NaN is not drawn.
        limits: The lowest and the highest value in view, and whether the axis is logarithmic.
        says: A sentence about the curves, for screen readers too.
        other: The index of the panel whose curve is drawn beside the highlighted one.
    """
    low, high, log = limits
    if isinstance(x, np.ndarray):
        steps, points = x, {"x": x.tolist(), "y": encode(curves)}
    else:
        steps = np.concatenate([np.zeros(0, np.int64), *x])
        unit = int(steps.max(initial=0)) // (2**31 - 1) + 1  # beyond int32, in larger units
        points = {"steps": _base64((steps // unit).astype("<i4")), "unit": unit, "sizes": [len(row) for row in x]}
        points["y"] = encode(np.concatenate([np.zeros(0), *curves]))
    ends = [float(steps.min(initial=0)), float(steps.max(initial=0))] if len(steps) else [0, 0]
    about = {"label": label, "low": float(low), "high": float(high), "log": bool(log), "says": says, "other": other}
    return points | about | {"ends": ends}


def encode(values: Any) -> str:
    """Return numbers as float32 in base64; what float32 cannot hold is NaN.

    Example:
        >>> from jaxsched.sweep.report_page import encode
        >>> encode([1.0, -2.0])
        'AACAPwAAAMA='
    """
    with np.errstate(over="ignore"):
        x = np.ravel(np.asarray(values)).astype("<f4")
    return _base64(np.where(np.isfinite(x), x, np.float32("nan")))


def _base64(data: Any) -> str:
    return base64.b64encode(bytes(data)).decode()


# --- HTML ------------------------------------------------------------------------------------------------------------


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


def escape(text: str) -> str:
    """Return text as HTML, for attributes too."""
    return text if isinstance(text, Html) else html.escape(text, quote=True)


def tag(name: str, *content: str, **attributes: Any) -> Html:
    """Return an element; its content and attributes are escaped, and attributes that are None left out.

    Example:
        >>> from jaxsched.sweep.report_page import tag
        >>> print(tag("p", "a < b", tag("b", "!"), class_="note", aria_label=None))
        <p class="note">a &lt; b<b>!</b></p>
    """
    there = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = "".join(f' {key}="{escape(str(value))}"' for key, value in there.items())
    return Html(f"<{name}{words}>{''.join(map(escape, content))}</{name}>")


def pairs(facts: Iterable[tuple[str, str]]) -> str:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts))


def code(name: str, text: str, says: str) -> str:
    """Return a text with a button that copies it."""
    button = tag("button", "Copy", type="button", class_="needs-script", data_copy=name, aria_label=says)
    return tag("div", tag("pre", text, id=name), button, class_="code")


def figure(name: str, says: str, labels: Sequence[str] = ()) -> str:
    """Return an empty figure for the script, with a choice if it has several panels."""
    options = [tag("option", label, value=i) for i, label in enumerate(labels)]
    select = tag("label", "Shown: ", tag("select", *options, id=f"{name}-select", autocomplete="off"))
    head = tag("div", select if len(labels) > 1 else tag("strong", *labels), class_="figure-head")
    parts = tag("canvas", aria_hidden="true"), tag("div", class_="plot")
    chart = tag("div", *parts, class_="chart", id=name, role="img", aria_label=says)
    caption = tag("figcaption", says, id=f"{name}-says")
    return tag("figure", *[head] * bool(labels), tag("div", chart, class_="wide"), caption)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its columns are aligned to the right, but for those of long texts."""
    kinds = ["wrap" if max(map(len, column)) > 60 else "" for column in zip(*rows, strict=True)]

    def row(kind: str, texts: Sequence[str]) -> str:
        return tag("tr", *(tag(kind, text, class_=align) for align, text in zip(kinds, texts, strict=True)))

    body = tag("tbody", *(row("td", texts) for texts in rows))
    whole = tag("table", tag("caption", caption), tag("thead", row("th", heads)), body)
    return tag("div", whole, class_="box", tabindex=0, role="region", aria_label=caption)


def ranking(columns: Sequence[Column], best: int | None, lost: Sequence[int]) -> str:
    """Return the head and the body of the ranking, which the script sorts."""
    kinds, gone = ["number" if column.number else "long" for column in columns], set(lost)
    heads = []
    for k, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        order = {"aria_sort": None if k else "ascending", "data_word": column.word, "title": column.title}
        heads.append(tag("th", tag("button", column.label, type="button"), scope="col", class_=kind, **order))
    rows = []
    for rank, texts in enumerate(zip(*(column.cells for column in columns), strict=True)):
        cells = [tag("td", text or _MISSING, class_=kind) for text, kind in zip(texts, kinds, strict=True)]
        kind = "lost" if rank in gone else "first" if rank == best else ""
        rows.append(tag("tr", *cells, data_rank=rank, class_=kind, tabindex=-1 if rank else 0))
    return tag("thead", tag("tr", *heads)) + tag("tbody", *rows)
