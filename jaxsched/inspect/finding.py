"""What is wrong, or likely to be: with a schedule (`lint`) or with a training (`diagnose`)."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """One problem; `str` of it is one line.

    Attributes:
      step: where it is, or None if it has no single step.
      severity: "error" (training fails or learns nothing), "warning" (not intended) or "note" (perhaps intended).
      check: the name of the check.
      message: what is wrong, with numbers.
      suggestion: what to write instead.
    """

    step: int | None
    severity: Severity
    check: str
    message: str
    suggestion: str

    def __str__(self) -> str:
        where = "" if self.step is None else f" at step {self.step}"
        return f"{self.severity}{where}: {self.message}; {self.suggestion}"
