"""Epochs, tokens and shares of the horizon, in steps."""

from __future__ import annotations

import dataclasses
import numbers
import re
from fractions import Fraction

from ._errors import FieldError

_LENGTH = re.compile(r"\s*([0-9][0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z%]*)\s*")
_UNITS = "'1000' or '1000st' (steps), '3ep' (epochs), '2e9tok' (tokens) or '5%' (of the horizon)"


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Turns lengths with units into steps, for one training.

    Formula: `n st = n`, `n ep = n steps_per_epoch`, `n tok = n / tokens_per_step`, `n % = n total_steps / 100`, in
    exact fractions, and then the nearest integer (of two, the even one).

    Args:
      total_steps: the horizon, above 0: steps, or a text in any other unit that has a size.
      steps_per_epoch: the steps in an epoch, above 0, or None.
      tokens_per_step: the tokens in a step, above 0, or None.

    Raises:
      ValueError: for a unit without a size, an unknown unit, a length below 0, and one that comes to no step.

    Example:
      >>> from jaxsched import Timeline
      >>> timeline = Timeline(total_steps=10_000, steps_per_epoch=250, tokens_per_step=500_000)
      >>> timeline("3ep"), timeline("5%"), timeline("2e9tok"), timeline(1_000)
      (750, 500, 4000, 1000)
      >>> Timeline("40ep", steps_per_epoch=250).total_steps
      10000

    References:
      Composer's time strings, big_vision's units.
    """

    total_steps: int
    steps_per_epoch: float | None = None
    tokens_per_step: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps_per_epoch", "tokens_per_step"):
            size = getattr(self, name)
            if size is None:
                continue
            if isinstance(size, bool) or not isinstance(size, numbers.Real) or not 0 < float(size) < float("inf"):
                raise FieldError("Timeline", name, size, "write a number above 0, or leave it out")
        total = self._steps(self.total_steps, "total_steps")
        if total == 0:
            raise FieldError("Timeline", "total_steps", self.total_steps, "total_steps must be at least 1")
        object.__setattr__(self, "total_steps", total)

    def __call__(self, length: int | float | str) -> int:
        """The `length` in steps: a whole number of steps, or a text with a unit."""
        return self._steps(length, "length")

    def _steps(self, length: int | float | str, name: str) -> int:
        text = str(length)
        match = _LENGTH.fullmatch(text) if not isinstance(length, bool) else None
        if match is None:
            raise FieldError("Timeline", name, length, f"write {_UNITS}", note=" is not a length")
        number, unit = match.groups()
        if not float(number.replace("_", "")) < 1e30:
            raise FieldError("Timeline", name, length, "write fewer", note=" is more than can be counted")
        count = Fraction(number.replace("_", "")) * self._size(unit, length, name)
        if unit in ("", "st") and count.denominator != 1:
            note = " is not a whole number of steps"
            raise FieldError("Timeline", name, length, f"write {round(count)}", note=note)
        steps = round(count)
        if count > 0 and steps == 0:
            note = f" is {float(count):.3g} steps, less than one"
            raise FieldError("Timeline", name, length, "write more", note=note)
        return steps

    def _size(self, unit: str, length: object, name: str) -> Fraction:
        sizes = {
            "": Fraction(1),
            "st": Fraction(1),
            "ep": None if self.steps_per_epoch is None else Fraction(float(self.steps_per_epoch)),
            "tok": None if self.tokens_per_step is None else 1 / Fraction(float(self.tokens_per_step)),
            "%": None if name == "total_steps" else Fraction(self.total_steps, 100),
        }
        if unit not in sizes:
            raise FieldError("Timeline", name, length, f"write {_UNITS}", note=f" has the unknown unit {unit!r}")
        size = sizes[unit]
        if size is None:
            if unit == "%":
                instead = "write steps, epochs or tokens"
                raise FieldError("Timeline", name, length, instead, note=" is a share of the horizon, and this is it")
            needs = {"ep": "steps_per_epoch", "tok": "tokens_per_step"}[unit]
            instead = "write it beside total_steps"
            raise FieldError("Timeline", name, length, instead, note=f" needs {needs}", needs=needs)
        return size
