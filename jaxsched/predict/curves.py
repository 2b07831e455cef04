"""Recorded trainings: what a law of loss curves is fitted to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from .._errors import format_value
from .rates import rates_of


def in_float64() -> contextlib.AbstractContextManager[Any]:
    """JAX in float64 for the code inside, whatever the settings are."""
    # Older versions of JAX have it among the experiments.
    found: Any = jax if hasattr(jax, "enable_x64") else jax.experimental  # pyright: ignore[reportAttributeAccessIssue]
    return found.enable_x64(True)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """One recorded training: the rates of all its steps, and the losses at those steps at which they were measured.

    The loss of step t is the one that the rates of steps 0 to t have led to. The rates are needed at every step, also
    at those where no loss was measured: a law adds them up. Losses may be measured at any distances; where one is
    missing, leave its step out.

    Fields:
      lrs: the rates of steps 0 to T - 1, (T,), 0 or more; or a schedule, with `total_steps`. Held as float64.
      steps: the steps of the losses, integers (n,), each larger than the one before, from 0 to T - 1.
      losses: the losses, (n,), above 0 and finite. Held as float64.
      name: what tables call it.
      total_steps: T, if `lrs` is a schedule.

    Errors: TypeError and ValueError for what is not so, with the place: steps that are not sorted, are there twice or
    lie beyond the rates; losses that are missing (NaN) or not above 0; rates that are negative or not finite, and
    rates that rise until their end, which stop inside of their warmup.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import Curve
      >>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=100, total_steps=1_000, end_value=3e-5)
      >>> Curve(s, steps=[100, 500, 999], losses=[4.1, 3.6, 3.3], name="cosine", total_steps=1_000)
      <Curve 'cosine': 3 losses at steps 100 to 999, 1000 rates up to 0.0003, warmup of 100 steps>
    """

    lrs: Any  # from here on arrays of numpy, whatever they were made of
    steps: Any
    losses: Any
    name: str = ""
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"Curve: name={format_value(self.name)}; name must be text.")
        owner = f"Curve {self.name!r}" if self.name else "Curve"
        with in_float64():  # so that the rates of a schedule are not rounded: a law lives on their differences
            rates = np.asarray(rates_of(owner, self.lrs, self.total_steps), np.float64)
        refuse_unfinished_warmup(owner, rates)
        steps = _steps(owner, self.steps)
        losses = _losses(owner, self.losses, steps)
        if steps[-1] >= rates.size:
            hint = "; lrs needs the rates of all steps, not only of those measured" if rates.size == steps.size else ""
            raise ValueError(
                f"{owner}: steps[{steps.size - 1}]={steps[-1]} is beyond the {rates.size} rates, which end at step "
                f"{rates.size - 1}{hint}."
            )
        for name, value in (("lrs", rates), ("steps", steps), ("losses", losses), ("total_steps", rates.size)):
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        first, last = self.steps[[0, -1]]
        return (
            f"<Curve {self.name!r}: {self.steps.size} losses at steps {first} to {last}, {self.lrs.size} rates up to "
            f"{self.lrs.max():g}, warmup of {self.warmup_steps} steps>"
        )

    @property
    def warmup_steps(self) -> int:
        """How many steps the rates rise at the start: the step at which they first rise no more."""
        return warmup_of(self.lrs)


def warmup_of(rates: np.ndarray) -> int:
    """The step at which the rates first rise no more; 0 if they do not begin with a rise."""
    stops = np.diff(rates) <= 0
    # A table that holds 0 for some steps has not begun to rise yet.
    stops &= rates[1:] > 0
    return int(np.argmax(stops)) if stops.any() else rates.size - 1


def refuse_unfinished_warmup(owner: str, rates: np.ndarray) -> None:
    """Refuse rates that rise to their very end: there a law of what follows a warmup says nothing."""
    if rates.size > 1 and np.all(np.diff(rates) >= 0) and rates[-1] > rates[-2]:
        raise ValueError(
            f"{owner}: the rates still rise at their last step, {rates.size - 1} (to {rates[-1]:g}): the horizon is "
            "shorter than the warmup; write more total_steps or fewer warmup_steps."
        )


def refuse_zeros(owner: str, rates: np.ndarray) -> None:
    """Refuse a rate of 0 after the first above 0."""
    zeros = rates == 0
    zeros[: int(np.argmax(~zeros))] = False
    if zeros.any():
        step = int(np.argmax(zeros))
        raise ValueError(
            f"{owner}: the rate at step {step} is 0, and the law holds a power of it that is infinite there; end the "
            "rates before, or write an end_value above 0, such as schedule.clip(1e-8) (only a warmup may begin at 0)."
        )


def admit_curves(owner: str, curves: Any) -> tuple[Curve, ...]:
    """`curves` as a tuple, a single one too."""
    curves = (curves,) if isinstance(curves, Curve) else curves
    if not isinstance(curves, Iterable) or isinstance(curves, (str, dict)):
        raise TypeError(f"{owner}: curves={format_value(curves)}; curves must be a list of Curve.")
    curves = tuple(curves)
    for i, curve in enumerate(curves):
        if not isinstance(curve, Curve):
            raise TypeError(f"{owner}: curves[{i}]={format_value(curve)}; write Curve(lrs, steps, losses).")
    if not curves:
        raise ValueError(f"{owner}: curves=[]; write at least one Curve.")
    return curves


def _steps(owner: str, steps: Any) -> np.ndarray:
    raw = np.asarray(steps)
    if raw.ndim != 1 or raw.size == 0 or raw.dtype.kind not in "iuf":
        raise ValueError(f"{owner}: steps={format_value(steps)}; steps must be a list of steps, (n,).")
    if not np.all(np.isfinite(raw)) or np.any(raw != np.floor(raw)):
        i = int(np.argmax(~np.isfinite(raw) | (raw != np.floor(raw))))
        raise ValueError(f"{owner}: steps[{i}]={raw[i]}; steps must be integers.")
    ints = raw.astype(np.int64)
    if ints[0] < 0:
        raise ValueError(f"{owner}: steps[0]={ints[0]}; steps count from 0.")
    if np.any(bad := np.diff(ints) <= 0):
        i = int(np.argmax(bad)) + 1
        if ints[i] == ints[i - 1]:
            raise ValueError(f"{owner}: step {ints[i]} is there twice, as steps[{i - 1}] and [{i}]; leave one out.")
        raise ValueError(
            f"{owner}: steps[{i}]={ints[i]} comes after {ints[i - 1]}; sort them: order = np.argsort(steps), then "
            "steps[order] and losses[order]."
        )
    return ints


def _losses(owner: str, losses: Any, steps: np.ndarray) -> np.ndarray:
    try:
        values = np.array(losses, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}: losses={format_value(losses)}; losses must be a list of numbers, (n,).") from None
    if values.shape != steps.shape:
        raise ValueError(f"{owner}: losses of shape {values.shape} beside {steps.size} steps; write one for each step.")
    if np.any(bad := ~np.isfinite(values)):
        i = int(np.argmax(bad))
        raise ValueError(
            f"{owner}: losses[{i}] at step {steps[i]} is {values[i]}; leave holes out: ok = np.isfinite(losses), then "
            "steps[ok] and losses[ok]."
        )
    if np.any(bad := values <= 0):
        i = int(np.argmax(bad))
        raise ValueError(f"{owner}: losses[{i}]={values[i]:g} at step {steps[i]}; losses must be above 0.")
    return values
