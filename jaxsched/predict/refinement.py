"""Schedule refinement: the schedule that is optimal in theory for the gradient norms of a training."""

from __future__ import annotations

import bisect
from typing import Any, Literal, TypeAlias

import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced
from ..fields import Positive, Unit
from ..schedules.pieces import PiecewiseInterpolate
from .arguments import check_choice, check_count, check_number, is_number

RefinedOptimizer: TypeAlias = Literal["sgd", "adam"]


def refine(
    grad_norms: Any,
    optimizer: RefinedOptimizer = "sgd",
    *,
    total_steps: int | None = None,
    peak_value: Any = 1.0,
    window: float = 0.1,
    warmup_steps: int = 0,
) -> PiecewiseInterpolate:
    """Returns the schedule that theory finds optimal for the gradient norms of an earlier training.

    Over the steps t = 1 ... T, with the norms `g_t`: `G` is the running median of `g` over `window * T` steps; `g_1`
    continues it before the first step, and it is mirrored after the last. `w_t = G_t^-2` for SGD and `G_t^-1` for Adam,
    and `eta_t = w_t sum_{p>t} w_p`, scaled to the maximum `peak_value`. Constant norms give linear decay. Step t of the
    paper is step t - 1 here; the schedule is 0 from step T - 1 on. Norms that fall towards 0 move the peak to the end.

    Args:
      grad_norms: norms above 0, l2 for SGD, l1 for Adam: (n,), those of all steps or n means over equal stretches of
        `total_steps`; or a tuple of steps and the norms there. Norms (trainings, n) are averaged over the trainings.
      optimizer: `"sgd"`, with or without momentum, or `"adam"`, for all that divide by a root of squares.
      total_steps: T, 2 or more. None: the number of norms, or the last step of a tuple plus 1.
      peak_value: the maximum, above 0; may be traced.
      window: the width of the median as a share of T, 0 to 1. It removes spikes that fill less than half of it.
      warmup_steps: W; the curve is multiplied by `min(1, step / W)` before it is scaled.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsched.predict import refine
      >>> s = refine([4, 2, 1, 1, 1, 1, 2, 2, 4, 4], "sgd")
      >>> [round(float(x), 4) for x in s(jnp.arange(10))]
      [0.0841, 0.319, 1.0, 0.7241, 0.4483, 0.1724, 0.0259, 0.0086, 0.0011, 0.0]

    References:
      Defazio, Cutkosky, Mehta and Mishchenko, "When, why and how much? Adaptive learning rate scheduling by
      refinement", 2023, arXiv 2310.07831.
    """
    check_choice("refine", "optimizer", optimizer, RefinedOptimizer)
    window = check_number("refine", "window", window, Unit)
    peak_value = check_number("refine", "peak_value", peak_value, Positive)
    if np.ndim(peak_value):
        raise FieldError("refine", "peak_value", peak_value, "write one number, and stack(...) for several peaks")
    steps, norms, total = _norms(grad_norms, total_steps)
    warmup = check_count("refine", "warmup_steps", warmup_steps, 0)
    if warmup > total - 2:
        raise FieldError("refine", "warmup_steps", warmup, f"it must leave 2 or more of {total} steps")
    smooth = _running_median(steps, norms, window * total)
    places = np.unique(np.concatenate([[0, warmup, total - 1], np.floor(steps)])).astype(np.int64)
    weights = np.interp(places, steps, (smooth.min() / smooth) ** (2 if optimizer == "sgd" else 1))
    a, b, gap = weights[:-1], weights[1:], np.diff(places)
    between = (gap * (a + b) + (b - a)) / 2  # the weights are linear between the places
    curve = weights * np.append(np.cumsum(between[::-1])[::-1], 0.0)
    if warmup:
        curve *= np.minimum(1.0, places / warmup)
    if not curve.max() > 1e-290:
        instead = "leave out norms that are not real with a tuple of steps and norms"
        note = f" from {smooth.min():.3g} to {smooth.max():.3g} are too far apart for float64"
        raise FieldError("refine", "grad_norms", grad_norms, instead, note=note)
    return PiecewiseInterpolate(places, curve / curve.max() * peak_value)


def _norms(grad_norms: Any, total_steps: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The steps and the norms there, and the number of all steps."""

    def refuse(field: str, value: Any, instead: str, note: str = "") -> FieldError:
        return FieldError("refine", field, value, instead, note=note)

    pair = isinstance(grad_norms, (tuple, list)) and len(grad_norms) == 2 and all(np.ndim(x) for x in grad_norms)
    if pair and isinstance(grad_norms, list):
        instead = "write a tuple, (steps, norms), or an array (trainings, n)"
        raise FieldTypeError("refine", "grad_norms", grad_norms, instead, note=" is a list of two")
    norms = _numbers("grad_norms", grad_norms[1] if pair else grad_norms)
    if norms.ndim == 0 or norms.size == 0 or norms.shape[-1] < 2:
        raise refuse("grad_norms", grad_norms, "write the norms of 2 or more steps")
    total = None if total_steps is None else check_count("refine", "total_steps", total_steps, 2)
    least = count = norms.shape[-1]
    steps = (np.arange(count) + 0.5) * ((total or count) / count) - 0.5  # the middle of each stretch
    if pair:
        steps = _numbers("steps", grad_norms[0])
        if steps.shape != (count,):
            note = f" has the shape {steps.shape} beside norms of shape {norms.shape}"
            raise refuse("steps", steps, "write one step for each norm", note)
        if not np.all(np.isfinite(steps) & (np.diff(steps, prepend=-1e-9) > 0)):
            raise refuse("steps", steps, "steps must be 0 or more, each larger than the one before")
        least = int(np.ceil(steps[-1])) + 1
        if total is None and not np.all(np.diff(steps) == 1):
            note = ": the steps do not tell where the training ended"
            raise refuse("total_steps", None, f"write total_steps={least} or more", note)
    total = least if total is None else total
    if total < least:
        raise refuse("total_steps", total, f"write {least} or more for {count} norms")
    rows = norms.reshape(-1, count)
    if np.any(bad := ~(np.isfinite(rows) & (rows > 0))):
        row, i = np.argwhere(bad)[0]
        field = f"grad_norms[{i}]" if norms.ndim == 1 else f"grad_norms[{row}][{i}]"
        raise refuse(field, rows[row, i], "norms must be above 0 and finite", f" at step {steps[i]:g}")
    return steps, (rows / len(rows)).sum(axis=0), total  # in this order, so that no sum overflows


def _numbers(name: str, value: Any) -> np.ndarray:
    if is_traced(value):
        raise FieldTypeError("refine", name, value, "call refine outside of jit", note=" is traced")
    try:
        array = np.asarray(value)
    except ValueError:
        raise FieldTypeError("refine", name, value, "write rows of the same length") from None
    if not is_number(array):
        raise FieldTypeError("refine", name, value, "write an array of norms, or a tuple of steps and norms")
    return array.astype(np.float64)


def _running_median(steps: np.ndarray, norms: np.ndarray, width: float) -> np.ndarray:
    """The median of the norms at most half a width away; with a sorted window, as it may hold many of many norms."""
    half = width / 2 * (1 + 1e-9)  # includes a norm on the edge, in spite of rounding
    left, right = 1.5 * steps[0] - 0.5 * steps[1], 1.5 * steps[-1] - 0.5 * steps[-2]  # the mirrors
    around = np.concatenate([2 * left - steps[::-1], steps, 2 * right - steps[::-1]])
    values = np.concatenate([np.full_like(norms, norms[0]), norms, norms[::-1]]).tolist()
    begins, ends = np.searchsorted(around, steps - half, "left"), np.searchsorted(around, steps + half, "right")
    first = last = int(begins[0])
    inside: list[float] = []
    medians = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        for value in values[last:end]:
            bisect.insort(inside, value)
        for value in values[first:begin]:
            del inside[bisect.bisect_left(inside, value)]
        first, last = begin, end
        low, high = inside[(len(inside) - 1) // 2], inside[len(inside) // 2]
        medians.append(low + (high - low) / 2)
    return np.array(medians)
