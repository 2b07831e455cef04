"""The rates of a search, checked: its two ends, or a list."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value

LOWEST, HIGHEST = 1e-7, 10.0
"""The ends where none are written."""


def check_number(name: str, value: Any) -> float:
    """`value` as a float, or an error that says what to write."""
    number = isinstance(value, (int, float, np.number, np.ndarray, jax.Array)) and not isinstance(value, bool)
    if not number or np.ndim(value) or np.asarray(value).dtype.kind == "c":
        raise TypeError(f"find_lr: {name}={format_value(value)}; {name} must be a number.")
    return float(value)


def _rate(name: str, value: Any) -> float:
    rate, limits = check_number(name, value), jnp.finfo(jnp.result_type(float))
    if not limits.tiny <= rate <= limits.max:
        raise ValueError(
            f"find_lr: {name}={format_value(rate)}; {name} must be a finite number above 0 (from "
            f"{float(limits.tiny):.2g} to "
            f"{float(limits.max):.2g} for {limits.dtype})."
        )
    return rate


def ends(min_lr: Any, max_lr: Any) -> tuple[float, float]:
    """The smallest and the largest rate."""
    low, high = _rate("min_lr", min_lr), _rate("max_lr", max_lr)
    if low >= high:
        raise ValueError(f"find_lr: min_lr={low} and max_lr={high}; max_lr must be above min_lr.")
    return low, high


def listed(rates: Any, min_lr: Any, max_lr: Any) -> np.ndarray:
    """The rates of a grid: so many between the ends, or those of a list."""
    if rates is None or isinstance(rates, (int, np.integer)):
        count = 32 if rates is None else rates
        if isinstance(rates, bool) or count < 2:
            raise ValueError(f"find_lr: rates={format_value(rates)}; rates must be 2 or more, or a list of rates.")
        return np.geomspace(*ends(min_lr, max_lr), int(count))
    if not isinstance(rates, (list, tuple, np.ndarray, jax.Array)) or not np.ndim(rates) or not len(rates):
        raise TypeError(f"find_lr: rates={format_value(rates)}; write how many, such as rates=32, or a list of rates.")
    for name, value, default in (("min_lr", min_lr, LOWEST), ("max_lr", max_lr, HIGHEST)):
        if value != default:
            raise ValueError(
                f"find_lr: {name}={format_value(value)}, and rates is a list, which has its ends; write one."
            )
    lrs = np.array([_rate(f"rates[{i}]", rate) for i, rate in enumerate(np.asarray(rates).tolist())])
    if (np.diff(lrs) <= 0).any():
        raise ValueError(f"find_lr: rates={format_value(rates)}; write different rates, the smallest first.")
    return lrs
