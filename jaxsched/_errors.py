"""Errors as data: who refuses which field, the value that was written, and what to write instead.

An error keeps its parts, and its text is made of them once, here. What reads an expression, a dict, a TOML file or a
command line finds the place in the user's text by `path`, and writes its own name for the field with `renamed`; nothing
reads a text.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

import jax
import jax.core
import numpy as np


def is_traced(x: Any) -> bool:
    """Whether `x` has no concrete values: a tracer, or an array of other processes."""
    return isinstance(x, jax.core.Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable)


def shortest(values: Any) -> np.ndarray:
    """Float64 numbers of the same shape that print as those of a shorter type do, and read back as the same there.

    A float32 of 0.1 is 0.10000000149011612 as a float64, and here 0.1.
    """
    values = np.asarray(values)
    return np.array([float(str(x)) for x in values.ravel()], np.float64).reshape(values.shape)


def format_value(value: Any) -> str:
    """`value` in an error text: short, and as a user would write it."""
    if isinstance(value, _Text):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not is_traced(value):
        with contextlib.suppress(Exception):  # a deleted array, a key: their own repr says what they are
            array = np.asarray(value)
            value = (shortest(array) if array.dtype.kind == "f" else array).tolist()
    try:
        text = repr(value)
    except Exception:  # of an object of the user
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


class _Text(str):
    """A value that is already formatted, as a pickled error holds it."""


def nearest_name(name: str, names: Iterable[str]) -> str:
    """The end of an error text about an unknown name."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"


class _FieldErrorParts(Exception):
    """The parts of a `FieldError`.

    Args:
      owner: the class or function that refuses; empty where the field is a command line's option.
      field: the name of the field, `schedules[0]` for one of several; a sequence of names that do not fit together.
      value: its value; a sequence of values for a sequence of names.
      instead: what to write instead.
      note: what is wrong with the value, put right after it: " is text".
      needs: the name of an argument that is missing beside this one.
    """

    def __init__(
        self, owner: str, field: str | Sequence[str], value: Any, instead: str, *, note: str = "", needs: str = ""
    ) -> None:
        self.owner, self.field, self.value, self.instead = owner, field, value, instead
        self.note, self.needs = note, needs
        # Formatted now: the value may change, or be gone, when the text is read.
        self._values = [format_value(v) for v in ([value] if isinstance(field, str) else value)]
        super().__init__(owner, field, value, instead)

    @property
    def path(self) -> tuple[str | int, ...]:
        """Where the (first) field stands: `("schedules", 0)` for `schedules[0]`."""
        first = self.field if isinstance(self.field, str) else self.field[0]
        return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", first))

    def renamed(self, owner: str, field: str | None = None) -> Self:
        """The same refusal under other names for its owner and its field."""
        return type(self)(owner, field or self.field, self.value, self.instead, note=self.note, needs=self.needs)

    def __str__(self) -> str:
        names = [self.field] if isinstance(self.field, str) else self.field
        written = " and ".join(f"{n}={text}" for n, text in zip(names, self._values, strict=True))
        end = "" if self.instead.endswith((".", "?")) else "."
        owner = f"{self.owner}: " if self.owner else ""
        return f"{owner}{written}{self.note}; {self.instead}{end}"

    def __reduce__(self) -> tuple[Any, ...]:
        texts = [_Text(text) for text in self._values]
        value, state = texts[0] if isinstance(self.field, str) else texts, {"note": self.note, "needs": self.needs}
        return type(self), (self.owner, self.field, value, self.instead), state


class FieldError(_FieldErrorParts, ValueError):
    """A field, or several together, with a value that is refused; see `FieldTypeError` for one of the wrong type."""


class FieldTypeError(_FieldErrorParts, TypeError):
    """A field whose value has a type that is refused."""


class UnknownFieldError(FieldTypeError):
    """A field that its owner does not have; `instead` suggests the nearest name."""

    kind = "field"

    def __str__(self) -> str:
        return f"{self.owner} has no {self.kind} {self.field!r}: {self.instead}"


class UnknownArgumentError(UnknownFieldError):
    """An argument that a function does not have."""

    kind = "argument"


class JaxschedWarning(UserWarning):
    """A warning of jaxsched: what was written runs, and part of it has no effect or an unlikely one."""


for _error in (FieldError, FieldTypeError, UnknownFieldError, UnknownArgumentError, JaxschedWarning):
    _error.__module__ = "jaxsched.fields"  # where users import it from, as a traceback names it
