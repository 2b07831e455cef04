"""One page of HTML from plain data: a ranking, curves that light up together, tables. It loads nothing from anywhere.

The page is put together of `page.html`, `page.css` and `page.js`, which stand beside this file, and of plotly's script.
Whatever a user named is escaped, and a policy in the page forbids the browser all that is not in the file.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import importlib.resources
import json
import math
import os
import pathlib
import secrets
import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_CURVES = 7_000_000
"""Characters of a page that its curves may take: with plotly's 5 MB it stays below 15 MB."""

_MOST_POINTS = 256
_FEWEST_POINTS = 32
"""Of a curve: a figure has hardly more pixels to show them."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the ranking.

    Fields:
      label: its heading.
      values: a number, a text or None for each rank.
      plus: what stands after `±` for each rank, or None.
      said: whether it belongs to the words about one setting.
      title: a longer word for it.
      word: what it is called among the words; "": its label.
    """

    label: str
    values: Sequence[Any]
    plus: Sequence[float | None] | None = None
    said: bool = True
    title: str = ""
    word: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves that one figure shows at a time.

    Fields:
      label: what the curves are.
      x: (points,), rising, of all curves; or a list with the steps of each curve, integers of 0 or more.
      curves: (ranks, points), or a list with as many points for each as it has steps; NaN where there is nothing.
      low, high: the limits of the view.
      log: whether the axis is one of powers of ten.
      says: a sentence about it, for those who do not see it too.
      other: the index of the panel whose curves stand beside these for the setting that is lit, or None.
      x_label: of the axis.
    """

    label: str
    x: np.ndarray | Sequence[np.ndarray]
    curves: np.ndarray | Sequence[np.ndarray]
    low: float
    high: float
    log: bool
    says: str
    other: int | None = None
    x_label: str = "step"


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of the parallel coordinates: a height from 0 to 1 for each rank, and what some heights mean."""

    label: str
    heights: np.ndarray
    ticks: Sequence[tuple[float, str]]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The seeds of the first ranks: a list of numbers for each, and their means."""

    label: str
    values: Sequence[Sequence[float]]
    means: Sequence[float]
    log: bool
    says: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text: a heading for each column, rows of cells; `numbers` are the columns that are aligned right."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    bars: Sequence[float] | None = None


@dataclasses.dataclass(frozen=True)
class Page:
    """All that a page says, as plain data in the order of the ranks. Where there is nothing, a sentence says so."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    best: int | None
    best_says: str
    expressions: Sequence[str]
    cut: Sequence[int]
    lost: Sequence[int]
    ranking_note: str
    ranking_caption: str
    columns: Sequence[Column]
    schedules: Sequence[Panel]
    schedules_says: str
    curves: Sequence[Panel]
    curves_says: str
    parallel: Sequence[Axis]
    parallel_says: str
    spread: Spread | None
    spread_says: str
    diverged: Table | None
    diverged_says: str
    pruned: Table | None
    pruned_says: str
    command: str | None
    run: Sequence[tuple[str, str]]
    versions: Sequence[tuple[str, str]]


def write(path: str | os.PathLike[str], page: Page) -> pathlib.Path:
    """Writes the page to the file `path`, in a folder that is made if need be, and returns the path.

    Errors: ImportError without plotly.
    """
    text = render(page)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside it and renamed when it is complete: whoever opens it finds the old page or the new one.
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # As it is: the policy has the hashes of the scripts, to which the ends of lines belong.
        half.write_text(text, encoding="utf-8", newline="\n")
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    return path


def plotly_script() -> str:
    """The script that draws the curves of a page.

    Errors: ImportError without plotly.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ImportError('reports need plotly: pip install "jaxsched[report]"') from None
    return get_plotlyjs()


def render(page: Page) -> str:
    """The page as text; the same page gives the same text.

    Errors: ImportError without plotly.
    """
    script, plotly = _asset("report_page.js"), plotly_script()
    return string.Template(_asset("report_page.html")).substitute(
        policy=_policy(plotly, script),
        title=escape(page.title),
        lead=escape(page.lead),
        style=_asset("report_page.css"),
        facts=_list(page.facts),
        count=f"{len(page.expressions):,}",
        first=_first(page),
        best=_best(page),
        curves=_curves("schedules", page.schedules, page.schedules_says)
        + _curves("curves", page.curves, page.curves_says),
        ranking_note=escape(page.ranking_note),
        ranking_caption=escape(page.ranking_caption),
        parallel=_figure("parallel", page.parallel_says, wide=True)
        if page.parallel
        else _paragraph(page.parallel_says),
        spread=_figure("spread", page.spread.says) if page.spread else _paragraph(page.spread_says),
        grey='<span class="key"><span class="swatch grey"></span>diverged</span>' if page.diverged else "",
        diverged=_paragraph(page.diverged_says) + (_table(page.diverged) if page.diverged else ""),
        pruned=_paragraph(page.pruned_says) + (_table(page.pruned) if page.pruned else ""),
        origin=_origin(page),
        data=_json(_data(page)),
        plotly=plotly,
        script=script,
    )


def most_points(settings: int, panels: int, most: int = _MOST_POINTS) -> int:
    """How many points a curve may have, so that a page of so many is no larger than it may be."""
    return max(_FEWEST_POINTS, min(most, _CURVES // (4 * max(1, settings * panels))))


def escape(text: str) -> str:
    """Text as HTML shows it, in an attribute too."""
    return html.escape(text, quote=True)


def encode(values: np.ndarray) -> str:
    """Numbers as floats of 24 bits in base64: float32 without the last 8 bits of 23. What is not finite is NaN.

    Example:
      >>> import numpy as np
      >>> from jaxsched.sweep.report_page import encode
      >>> encode(np.array([1.0, -2.0, np.inf]))
      'P4AAwAAAf8AA'
    """
    with np.errstate(over="ignore"):  # beyond float32
        x = np.ravel(np.asarray(values)).astype(np.float32)
    bits = np.where(np.isfinite(x), x, np.float32(0)).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x80) >> 8
    # Beyond the largest that there is, and what was no number.
    rounded = np.where(np.isfinite(x) & (rounded & 0x7FFFFF < 0x7F8000), rounded, 0x7FC000)
    return _three_bytes(rounded)


def encode_steps(steps: np.ndarray) -> tuple[str, int]:
    """Steps as integers of 24 bits in base64, and the unit that they count: 1 up to 16,777,215.

    Example:
      >>> import numpy as np
      >>> from jaxsched.sweep.report_page import encode_steps
      >>> encode_steps(np.array([0, 1, 9_970]))
      ('AAAAAAABACby', 1)
    """
    unit = int(np.max(steps, initial=0)) // (2**24 - 1) + 1
    return _three_bytes(np.round(np.asarray(steps) / unit).astype(np.uint64)), unit


def _three_bytes(x: np.ndarray) -> str:
    places = np.stack([x >> 16, (x >> 8) & 255, x & 255], axis=1)
    return base64.b64encode(places.astype(np.uint8).tobytes()).decode("ascii")


# --- parts -----------------------------------------------------------------------------------------------------------


def _asset(name: str) -> str:
    return importlib.resources.files("jaxsched.sweep").joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Nothing is loaded, and no script runs but these. Plotly writes styles of its own."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in scripts]
    allowed = " ".join(f"'sha256-{x}'" for x in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(data: Any) -> str:
    """JSON that no name in it can end: `</script>` in a text is no tag."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(page: Page) -> dict[str, Any]:
    return {
        "count": len(page.expressions),
        "best": page.best,
        "lost": list(page.lost),
        "expressions": list(page.expressions),
        "cut": list(page.cut),
        "columns": [_column(column) for column in page.columns],
        "schedules": [_panel(panel) for panel in page.schedules],
        "curves": [_panel(panel) for panel in page.curves],
        "parallel": _parallel(page.parallel) if page.parallel else None,
        "spread": dataclasses.asdict(page.spread) if page.spread else None,
    }


def _column(column: Column) -> dict[str, Any]:
    values = [_plain(value) for value in column.values]
    return {
        "label": column.label,
        "title": column.title,
        "word": column.word,
        "number": not any(isinstance(value, str) for value in values),
        "said": column.said,
        "values": values,
        "plus": None if column.plus is None else [_plain(value) for value in column.plus],
    }


def _plain(value: Any) -> Any:
    """A number, a text or None; JavaScript counts to 2**53 and no further."""
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, np.integer)):
        return int(value) if abs(int(value)) <= 2**53 else float(value)
    value = float(value)
    return value if math.isfinite(value) else None


def _panel(panel: Panel) -> dict[str, Any]:
    if isinstance(panel.x, np.ndarray):
        points = {"x": [_plain(x) for x in panel.x], "y": encode(np.asarray(panel.curves))}
    else:
        nothing = np.zeros(0, np.int64)
        steps, unit = encode_steps(np.concatenate([nothing, *panel.x]))
        points = {"steps": steps, "unit": unit, "sizes": [len(x) for x in panel.x]}
        points["y"] = encode(np.concatenate([nothing, *panel.curves]))
    return points | {
        "label": panel.label,
        "x_label": panel.x_label,
        "low": float(panel.low),
        "high": float(panel.high),
        "log": panel.log,
        "says": panel.says,
        "other": panel.other,
    }


def _parallel(axes: Sequence[Axis]) -> dict[str, Any]:
    heights = np.stack([axis.heights for axis in axes], axis=1)
    shape = Panel("", np.arange(len(axes)), heights, -0.16, 1.06, False, "", None, "")
    return _panel(shape) | {"axes": [{"label": axis.label, "ticks": list(axis.ticks)} for axis in axes]}


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _list(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)


def _code(name: str, text: str, says: str) -> str:
    return (
        f'<div class="code"><pre id="{name}">{escape(text)}</pre>'
        f'<button type="button" class="needs-script" data-copy="{name}" aria-label="{escape(says)}">Copy</button></div>'
    )


def _best(page: Page) -> str:
    if page.best is None:
        return f'<p class="warn">{escape(page.best_says)}</p>'
    code = _code("best-expression", page.expressions[page.best], "Copy the best setting")
    return f"{_paragraph(page.best_says)}{code}"


def _curves(name: str, panels: Sequence[Panel], says: str) -> str:
    if not panels:
        return f'<figure><p class="note">{escape(says)}</p></figure>'
    if len(panels) == 1:
        head = f"<strong>{escape(panels[0].label)}</strong>"
    else:
        options = "".join(f'<option value="{i}">{escape(panel.label)}</option>' for i, panel in enumerate(panels))
        head = f'<label>Shown: <select id="{name}-select" autocomplete="off">{options}</select></label>'
    return _figure(name, panels[0].says, f'<div class="figure-head">{head}</div>')


def _figure(name: str, says: str, head: str = "", wide: bool = False) -> str:
    canvas = '<canvas aria-hidden="true"></canvas>' if name != "spread" else ""
    chart = (
        f'<div class="chart" id="{name}" role="img" aria-label="{escape(says)}">{canvas}<div class="plot"></div></div>'
    )
    chart = f'<div class="wide">{chart}</div>' if wide else chart
    return f'<figure>{head}{chart}<figcaption id="{name}-says">{escape(says)}</figcaption></figure>'


def _table(table: Table) -> str:
    def cell(k: int, text: str) -> str:
        kind = "number" if k in table.numbers else "wrap" if len(text) > 60 else ""
        return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"

    heads = "".join(
        f'<th scope="col"{" class=number" if k in table.numbers else ""}>{escape(head)}</th>'
        for k, head in enumerate(table.heads)
    )
    rows = []
    for i, row in enumerate(table.rows):
        cells = "".join(cell(k, text) for k, text in enumerate(row))
        if table.bars is not None:
            cells += f'<td><span class="bar" style="width:{10 * table.bars[i]:.2f}rem" aria-hidden="true"></span></td>'
        rows.append(f"<tr>{cells}</tr>")
    heads += '<td aria-hidden="true"></td>' if table.bars is not None else ""
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escape(table.caption)}"><table>'
        f"<caption>{escape(table.caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _first(page: Page) -> str:
    """The head of the ranking, for a browser that runs no scripts."""

    def text(column: Column, i: int) -> str:
        value = _plain(column.values[i])
        words = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        plus = None if column.plus is None else _plain(column.plus[i])
        return words if plus is None else f"{words} ± {plus:.2g}"

    rows = [[text(column, i) for column in page.columns] for i in range(min(10, len(page.expressions)))]
    return _table(Table(page.ranking_caption, [column.label for column in page.columns], rows))


def _origin(page: Page) -> str:
    command = (
        _paragraph("No command was given for this sweep.")
        if page.command is None
        else _paragraph("The command that made it:") + _code("command", page.command, "Copy the command")
    )
    run = f'{_paragraph("The run:")}<dl class="versions">{_list(page.run)}</dl>' if page.run else ""
    return f'{command}{run}{_paragraph("This page was made with:")}<dl class="versions">{_list(page.versions)}</dl>'
