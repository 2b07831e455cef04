"""Where words go: data to stdout, messages to stderr, colour on a terminal only."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE_WIDTH = 120
"""A pipe or a file has no width of its own; COLUMNS gives it one."""


def plain() -> bool:
    """Whether the user wants no colour, whatever the terminal can show (no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def console(stderr: bool = False) -> Console:
    """A console for data, or for messages."""
    from rich.console import Console

    options: dict[str, Any] = {"stderr": stderr, "highlight": False} | ({"color_system": None} if plain() else {})
    made = Console(**options)
    made = made if made.is_terminal else Console(width=_pipe_width(), **options)
    setattr(made, "on_broken_pipe", _on_broken_pipe)  # noqa: B010  # rich would exit; `errors.told` knows better
    return made


def _pipe_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else _PIPE_WIDTH


def _on_broken_pipe() -> None:
    raise BrokenPipeError


def table(*headings: str, title: str | None = None) -> Table:
    """An empty table with its numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_style="", box=SIMPLE_HEAD)
    for heading in headings:
        made.add_column(heading, justify="right", overflow="fold")
    return made


def print_text(text: str = "", style: str = "") -> None:
    """A line of data, which the terminal breaks and nobody else."""
    from rich.text import Text

    console().print(Text(text, style=style), soft_wrap=True)


def print_json(data: Any) -> None:
    """Data for other programs; a number that is not finite is null."""
    sys.stdout.write(json.dumps(jsonable(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def jsonable(x: Any) -> Any:
    """Lists, dicts, texts and Python numbers, with None for what JSON cannot say."""
    if isinstance(x, dict):
        return {str(key): jsonable(value) for key, value in x.items()}
    if hasattr(x, "_asdict"):
        return jsonable(x._asdict())
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(x)
        if array.dtype.itemsize < 8 and array.dtype.kind in "fV":  # 0.1, and not what a wider type makes of it
            return jsonable(np.array([float(str(one)) for one in array.ravel()]).reshape(array.shape))
        return jsonable(array.tolist())
    if isinstance(x, (list, tuple)):
        return [jsonable(value) for value in x]
    if isinstance(x, float):
        return _short(x) if math.isfinite(x) else None
    return x


def _short(x: float) -> float:
    """A float32 that Python made longer, as short as its type tells it: 0.1, and not 0.10000000149011612."""
    with np.errstate(over="ignore"):
        single = np.float32(x)
    short = float(str(single))
    return short if float(single) == x and len(repr(short)) + 4 < len(repr(x)) else x


def number(value: Any) -> str:
    """A value for a table: as many digits as float32 tells."""
    return f"{float(value):.6g}"
