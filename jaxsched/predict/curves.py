"""Recorded loss curves, to which laws are fitted."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from .._errors import FieldError, FieldTypeError
from .arguments import rates_of, refuse_unfinished_warmup, refuse_where, warmup_of


def in_float64() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which JAX computes in float64."""
    # Older versions of JAX have it among the experiments.
    found: Any = jax if hasattr(jax, "enable_x64") else jax.experimental  # pyright: ignore[reportAttributeAccessIssue]
    return found.enable_x64(True)


def float64_rates(owner: str, lrs: Any, total_steps: int | None) -> np.ndarray:
    """`rates_of` in float64: a law depends on small differences between the rates of a schedule."""
    with in_float64():
        return np.asarray(rates_of(owner, lrs, total_steps), np.float64)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """The loss curve of one training: the rates of all its steps, and the losses at the steps that were measured.

    The loss at step t is the one after the updates with the rates of steps 0 to t. A law sums the rates, so they are
    needed at every step, including steps without a loss.

    Args:
      lrs: the rates of steps 0 to T - 1, (T,), 0 or more; or a schedule, with `total_steps`. Stored as float64.
      steps: the steps of the losses, integers (n,) from 0 to T - 1, each larger than the one before.
      losses: the losses, (n,), above 0 and finite. Stored as float64.
      name: a label for tables.
      total_steps: T, if `lrs` is a schedule.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import Curve
      >>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=100, total_steps=1_000, end_value=3e-5)
      >>> Curve(s, steps=[100, 500, 999], losses=[4.1, 3.6, 3.3], name="cosine", total_steps=1_000)
      <Curve 'cosine': 3 losses at steps 100 to 999, 1000 rates up to 0.0003, warmup of 100 steps>
    """

    lrs: Any  # NumPy arrays once constructed
    steps: Any
    losses: Any
    name: str = ""
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise FieldTypeError("Curve", "name", self.name, "name must be text")
        owner = f"Curve {self.name!r}" if self.name else "Curve"
        rates = float64_rates(owner, self.lrs, self.total_steps)
        refuse_unfinished_warmup(owner, rates)
        steps = _steps(owner, self.steps, rates.size)
        losses = _losses(owner, self.losses, steps)
        for name, value in (("lrs", rates), ("steps", steps), ("losses", losses)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "total_steps", rates.size)

    def __repr__(self) -> str:
        first, last = self.steps[[0, -1]]
        return (
            f"<Curve {self.name!r}: {self.steps.size} losses at steps {first} to {last}, {self.lrs.size} rates up to "
            f"{self.lrs.max():g}, warmup of {self.warmup_steps} steps>"
        )

    @property
    def warmup_steps(self) -> int:
        """The step at which the rates first stop rising; 0 without a warmup."""
        return warmup_of(self.lrs)

    @property
    def fitted_steps(self) -> np.ndarray:
        """The steps of the losses after the warmup, which laws are fitted to."""
        return self.steps[self.steps >= max(self.warmup_steps, 1)]

    @property
    def fitted_losses(self) -> np.ndarray:
        """The losses at the fitted steps."""
        return self.losses[self.steps >= max(self.warmup_steps, 1)]


def check_curves(owner: str, curves: Any) -> tuple[Curve, ...]:
    """Returns `curves`, a list of them or a single one, as a tuple."""
    curves = (curves,) if isinstance(curves, Curve) else curves
    if not isinstance(curves, Iterable) or isinstance(curves, (str, dict)):
        raise FieldTypeError(owner, "curves", curves, "curves must be a list of Curve")
    curves = tuple(curves)
    for i, curve in enumerate(curves):
        if not isinstance(curve, Curve):
            raise FieldTypeError(owner, f"curves[{i}]", curve, "write Curve(lrs, steps, losses)")
    if not curves:
        raise FieldError(owner, "curves", [], "write at least one Curve")
    return curves


def _steps(owner: str, steps: Any, total: int) -> np.ndarray:
    raw = np.asarray(steps)
    if raw.ndim != 1 or raw.size == 0 or raw.dtype.kind not in "iuf":
        raise FieldError(owner, "steps", steps, "steps must be a list of steps, (n,)")
    refuse_where(owner, "steps", raw, ~np.isfinite(raw) | (raw != np.floor(raw)), "steps must be integers")
    ints = raw.astype(np.int64)
    instead = "steps count from 0, each larger than the one before: sort them with np.argsort"
    refuse_where(owner, "steps", ints, np.diff(ints, prepend=-1) <= 0, instead)
    note = f" is beyond the {total} rates"
    refuse_where(owner, "steps", ints, ints >= total, "write lrs with the rates of all steps, measured or not", note)
    return ints


def _losses(owner: str, losses: Any, steps: np.ndarray) -> np.ndarray:
    try:
        values = np.array(losses, np.float64)
    except (TypeError, ValueError):
        raise FieldTypeError(owner, "losses", losses, "losses must be a list of numbers, (n,)") from None
    if values.shape != steps.shape:
        note = f" has the shape {values.shape} beside {steps.size} steps"
        raise FieldError(owner, "losses", losses, "write one loss for each step", note=note)
    instead = "leave out steps without a finite loss: np.isfinite(losses)"
    refuse_where(owner, "losses", values, ~np.isfinite(values), instead)
    refuse_where(owner, "losses", values, values <= 0, "losses must be above 0")
    return values
