"""The rates of a search, checked: its two ends, or a list."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError

LOWEST, HIGHEST = 1e-7, 10.0
"""The ends where none are written."""


def check_number(name: str, value: Any) -> float:
    """`value` as a float, or an error that says what to write."""
    number = isinstance(value, (int, float, np.number, np.ndarray, jax.Array)) and not isinstance(value, bool)
    if not number or np.ndim(value) or np.asarray(value).dtype.kind == "c":
        raise FieldTypeError("find_lr", name, value, f"{name} must be a number")
    return float(value)


def _rate(name: str, value: Any) -> float:
    rate, limits = check_number(name, value), jnp.finfo(jnp.result_type(float))
    if not limits.tiny <= rate <= limits.max:
        span = f"from {float(limits.tiny):.2g} to {float(limits.max):.2g} for {limits.dtype}"
        raise FieldError("find_lr", name, rate, f"{name} must be a finite number above 0 ({span})")
    return rate


def ends(min_lr: Any, max_lr: Any) -> tuple[float, float]:
    """The smallest and the largest rate."""
    low, high = _rate("min_lr", min_lr), _rate("max_lr", max_lr)
    if low >= high:
        raise FieldError("find_lr", ("min_lr", "max_lr"), (low, high), "max_lr must be above min_lr")
    return low, high


def listed(rates: Any, min_lr: Any, max_lr: Any) -> np.ndarray:
    """The rates of a grid: so many between the ends, or those of a list."""
    if rates is None or isinstance(rates, (int, np.integer)):
        count = 32 if rates is None else rates
        if isinstance(rates, bool) or count < 2:
            raise FieldError("find_lr", "rates", rates, "rates must be 2 or more, or a list of rates")
        return np.geomspace(*ends(min_lr, max_lr), int(count))
    if not isinstance(rates, (list, tuple, np.ndarray, jax.Array)) or not np.ndim(rates) or not len(rates):
        raise FieldTypeError("find_lr", "rates", rates, "write how many, such as rates=32, or a list of rates")
    for name, value, default in (("min_lr", min_lr, LOWEST), ("max_lr", max_lr, HIGHEST)):
        if value != default:
            raise FieldError("find_lr", name, value, "write one", note=", and rates is a list, which has its ends")
    lrs = np.array([_rate(f"rates[{i}]", rate) for i, rate in enumerate(np.asarray(rates).tolist())])
    if (np.diff(lrs) <= 0).any():
        raise FieldError("find_lr", "rates", rates, "write different rates, the smallest first")
    return lrs
