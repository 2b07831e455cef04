"""One HTML page that works offline: a ranking, curves that light up together, and tables.

The page consists of `report_page.html`, `report_page.css`, `report_page.js` and plotly's script. All user text is
escaped, and a content security policy forbids the browser to load anything else.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import importlib.resources
import json
import os
import pathlib
import secrets
import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_CURVES = 7_000_000
"""Characters of a page for its curves: with plotly's 5 MB the page stays below 15 MB."""

_MOST_POINTS = 256
_FEWEST_POINTS = 32

_MISSING = "\N{EN DASH}"


@dataclasses.dataclass(frozen=True)
class Column:
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
    """Return the script that draws the curves of a page.

    Raises:
        ImportError: Without plotly.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ImportError('reports need plotly: pip install "jaxsched[report]"') from None
    return get_plotlyjs()


def render(data: dict[str, Any], **parts: str) -> str:
    """Return the page: `data` for its script, and the HTML of its parts. The same input gives the same page."""
    style, script, plotly = _asset("css"), _asset("js"), plotly_script()
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (plotly, script)]
    allowed = " ".join(f"'sha256-{x}'" for x in hashes)
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
    about = {"label": label, "low": float(low), "high": float(high), "log": bool(log), "says": says, "other": other}
    if isinstance(x, np.ndarray):
        steps = x
        points: dict[str, Any] = {"x": x.tolist(), "y": encode(curves)}
    else:
        steps = np.concatenate([np.zeros(0, np.int64), *x])
        unit = int(steps.max(initial=0)) // (2**31 - 1) + 1  # beyond int32, in larger units
        whole = base64.b64encode((steps // unit).astype("<i4").tobytes()).decode()
        points = {"steps": whole, "unit": unit, "sizes": [len(row) for row in x]}
        points["y"] = encode(np.concatenate([np.zeros(0), *curves]))
    return (
        points | about | {"ends": [float(steps.min(initial=0)), float(steps.max(initial=0))] if len(steps) else [0, 0]}
    )


def encode(values: Any) -> str:
    """Return numbers as float32 in base64; what float32 cannot hold is NaN.

    Example:
        >>> from jaxsched.sweep.report_page import encode
        >>> encode([1.0, -2.0])
        'AACAPwAAAMA='
    """
    with np.errstate(over="ignore"):
        x = np.ravel(np.asarray(values)).astype("<f4")
    return base64.b64encode(np.where(np.isfinite(x), x, np.float32("nan")).tobytes()).decode()


# --- HTML ------------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Return text as HTML, for attributes too."""
    return html.escape(text, quote=True)


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>'


def pairs(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl>{rows}</dl>"


def code(name: str, text: str, says: str) -> str:
    """Return a text with a button that copies it."""
    return (
        f'<div class="code"><pre id="{name}">{escape(text)}</pre>'
        f'<button type="button" class="needs-script" data-copy="{name}" aria-label="{escape(says)}">Copy</button></div>'
    )


def figure(name: str, says: str, labels: Sequence[str] = ()) -> str:
    """Return an empty figure for the script, with a choice if it has several panels."""
    head = ""
    if len(labels) == 1:
        head = f'<div class="figure-head"><strong>{escape(labels[0])}</strong></div>'
    elif labels:
        options = "".join(f'<option value="{i}">{escape(label)}</option>' for i, label in enumerate(labels))
        select = f'<select id="{name}-select" autocomplete="off">{options}</select>'
        head = f'<div class="figure-head"><label>Shown: {select}</label></div>'
    return (
        f'<figure>{head}<div class="wide"><div class="chart" id="{name}" role="img" aria-label="{escape(says)}">'
        f'<canvas aria-hidden="true"></canvas><div class="plot"></div></div></div>'
        f'<figcaption id="{name}-says">{escape(says)}</figcaption></figure>'
    )


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its columns are aligned to the right, but for those of long texts."""
    kinds = ["wrap" if max(map(len, column)) > 60 else "" for column in zip(*rows, strict=True)]

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f'<{tag} class="{kind}">{escape(x)}</{tag}>' for kind, x in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}'
        f"</caption><thead><tr>{cells(heads, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def ranking(columns: Sequence[Column], best: int | None, lost: Sequence[int]) -> str:
    """Return the head and the body of the ranking, which the script sorts."""
    head = "".join(
        f'<th scope="col" class="{_kind(column)}" data-word="{escape(column.word)}" title="{escape(column.title)}"'
        f'{"" if k else " aria-sort=ascending"}><button type="button">{escape(column.label)}</button></th>'
        for k, column in enumerate(columns)
    )
    gone, rows = set(lost), []
    for rank in range(len(columns[0].cells)):
        cells = [f'<td class="{_kind(column)}">{escape(column.cells[rank] or _MISSING)}</td>' for column in columns]
        kind = "lost" if rank in gone else "first" if rank == best else ""
        rows.append(f'<tr data-rank="{rank}" class="{kind}" tabindex="{-1 if rank else 0}">{"".join(cells)}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _kind(column: Column) -> str:
    return "number" if column.number else "long"
