"""Output: data to stdout, messages to stderr, colours on terminals only."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..fields import shortest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE_WIDTH = 120  # where stdout is not a terminal and COLUMNS is not set


def plain() -> bool:
    """Whether the user turned colours off (no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def console(stderr: bool = False) -> Console:
    """A console for data, or for messages."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, color_system=None if plain() else "auto")
    if not made.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        made.width = int(columns) if columns.isdecimal() and int(columns) else _PIPE_WIDTH
    setattr(made, "on_broken_pipe", _on_broken_pipe)  # noqa: B010  # rich would exit with another code
    return made


def _on_broken_pipe() -> None:
    raise BrokenPipeError


def table(*headings: str, title: str | None = None, no_wrap: tuple[str, ...] = ()) -> Table:
    """An empty table with right-aligned columns; those in `no_wrap` are never broken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=title, title_style="", box=SIMPLE_HEAD)
    for heading in headings:
        # A heading with spaces can be broken, which leaves the room to the numbers.
        text = heading.replace("_", " ")
        made.add_column(text, justify="right", overflow="fold", no_wrap=heading in no_wrap)
    return made


def print_text(text: str = "", style: str = "") -> None:
    """Prints a line that only a terminal may break."""
    from rich.text import Text

    console().print(Text(text, style=style), soft_wrap=True)


def print_json(data: Any) -> None:
    """Prints JSON; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_jsonable(data), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _jsonable(x: Any) -> Any:
    """Lists, dicts, texts and Python numbers, with as many digits as the numbers' type has."""
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(x)
        x = (shortest(array) if array.dtype.kind in "fV" else array).tolist()
    x = x._asdict() if hasattr(x, "_asdict") else x
    if isinstance(x, dict):
        return {str(key): _jsonable(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_jsonable(value) for value in x]
    if isinstance(x, float):
        with np.errstate(over="ignore"):
            single = np.float32(x)  # a float32 of 0.1 as a Python float is 0.10000000149011612, and here 0.1
        return (float(str(single)) if float(single) == x else x) if math.isfinite(x) else None
    return x
