"""What plots, reports and the command line share: short texts of numbers and names, and optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def optional(module: str, what: str, extra: str) -> Any:
    """Import a module of an optional package that `extra` installs; `what` begins the error text: "plots need"."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ImportError(f'{what} {package}: pip install "jaxsched[{extra}]"') from None


def cut(text: str, most: int) -> str:
    """Return `text`, shortened to at most `most` characters."""
    return text if len(text) <= most else f"{text[: max(most - 3, 0)]}..."[:most]


def number(x: Any, digits: int = 4) -> str:
    """Format a value with `digits` significant digits.

    Example:
        >>> from jaxsched.inspect.format import number
        >>> [number(x) for x in (0, 0.1, 3e-4, 0.00025, 1.0, 2000, 1e-12)]
        ['0', '0.1', '3e-04', '2.5e-04', '1', '2000', '1e-12']
    """
    x = float(x)
    if x == 0 or not np.isfinite(x):
        return f"{x:g}"
    if 1e-3 <= abs(x) < 1e5:
        return f"{x:.{digits}g}" if abs(x) < 10.0**digits else f"{x:.0f}"
    return _with_exponent(x, digits)


def count(x: Any, digits: int = 4) -> str:
    """Format a number of steps, epochs or tokens.

    Example:
        >>> from jaxsched.inspect.format import count
        >>> [count(x) for x in (0, 12, 0.5, 1000, 2500, 100_000, 2e6, 1.5e9, 2**31, 3e12)]
        ['0', '12', '0.5', '1k', '2.5k', '100k', '2M', '1.5B', '2.147B', '3T']
    """
    x = float(x)
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= unit * 0.99995:
            return f"{x / unit:.{digits}g}{letter}"
    return f"{x:.{digits}g}"


def texts(values: Iterable[Any], write: Callable[[Any, int], str]) -> list[str]:
    """Format the numbers at an axis in one style, with as many digits as it takes to tell them apart.

    Example:
        >>> from jaxsched.inspect.format import count, texts
        >>> texts([1_000_000, 1_000_020], count)
        ['1M', '1.00002M']
    """
    values, digits = [float(x) for x in values], 4
    while digits < 14 and len({write(x, digits) for x in values}) < len(set(values)):
        digits += 1
    found = [write(x, digits) for x in values]
    if not any("e" in text for text in found):
        return found
    # 1e-03 beside 5e-04, and not 0.001
    return [
        _with_exponent(x, digits) if x and text[-1].isdigit() else text for x, text in zip(values, found, strict=True)
    ]


def _with_exponent(x: float, digits: int) -> str:
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{float(mantissa):.{digits}g}e{exponent}"


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Return at most `most` round (or `whole`) numbers from `low` to `high`, at even distances.

    Example:
        >>> from jaxsched.inspect.format import ticks
        >>> ticks(0.0, 100.0, 3), ticks(0.0, 3e-4, 4)
        ([0.0, 50.0, 100.0], [0.0, 0.0001, 0.0002, 0.0003])
    """
    exponent = np.floor(np.log10((high - low) / most))
    sizes = [float(f"{m}e{int(exponent + e)}") for e in (0, 1, 2) for m in (1, 2, 2.5, 5)]
    slack, size, first, last = 1e-6 * (high - low), 0.0, 0, 0
    for size in [s for s in sizes if not whole or s == round(s)] or [1.0]:
        first, last = int(np.ceil((low - slack) / size)), int(np.floor((high + slack) / size))
        if last - first < most:
            break
    return [min(max(float(f"{i * size:.12g}"), low), high) for i in range(first, last + 1)]
