"""Constraints of an `optimize`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from .._errors import FieldError, FieldTypeError, nearest_name
from .arguments import check_count

# Constraints are classes in lower case, as the distributions are: they are written and printed like functions.


@dataclasses.dataclass(frozen=True, init=False)
class bounds:
    """Bounds of numbers: `bounds(peak_value=(1e-4, 1.0))`.

    Between two bounds above 0 a number moves by factors, else by differences.

    Args:
      fields: pairs (lo, hi) by name, for names with dots, such as `{"schedules.0.init_value": (0.0, 1.0)}`; None is no
        bound. In a table the pair holds for each number.
      **named: the same as keywords.

    Example:
      >>> from jaxsched.predict import bounds
      >>> bounds({"schedules.1.peak_value": (1e-4, 1.0)}, end_value=(0.0, None))
      bounds({'schedules.1.peak_value': (0.0001, 1.0), 'end_value': (0.0, None)})
    """

    fields: tuple[tuple[str, tuple[float, float]], ...]

    def __init__(self, fields: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        pairs = {**(fields or {}), **named}
        if not pairs:
            raise FieldError("bounds", "fields", fields, "write at least one: bounds(peak_value=(1e-4, 1.0))")
        object.__setattr__(self, "fields", tuple((name, _pair(name, pair)) for name, pair in pairs.items()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.fields)

    def __repr__(self) -> str:
        side = lambda x: None if math.isinf(x) else x  # noqa: E731
        return f"bounds({ {name: (side(lo), side(hi)) for name, (lo, hi) in self.fields} })"


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class _Names:
    """A constraint that only names its fields."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", _texts(type(self).__name__, names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.names))})"


class fixed(_Names):
    """Fields that do not change: `fixed("end_value")`, or all fields of a part: `fixed("schedules.0")`.

    Example:
      >>> from jaxsched.predict import fixed
      >>> fixed("end_value", "schedules.0")
      fixed('end_value', 'schedules.0')
    """


class falling(_Names):
    """Tables whose values never rise from one to the next: `falling("values")`.

    In the coordinate of a table (the logarithm of a rate) each value is the one before less `softplus(x)`.

    Example:
      >>> from jaxsched.predict import falling
      >>> falling("values")
      falling('values')
    """


@dataclasses.dataclass(frozen=True)
class fixed_peak:
    """The largest value does not change, only the shape.

    Args:
      name: the name of a table.
      total_steps: or the number of steps of a whole schedule, which is scaled to its old peak and returned as
        `0.9 * schedule`. `bounds` of a rate in it are refused, because the factor would break them.

    Example:
      >>> from jaxsched.predict import fixed_peak
      >>> fixed_peak("values"), fixed_peak(total_steps=400)
      (fixed_peak(name='values', total_steps=None), fixed_peak(name=None, total_steps=400))
    """

    name: str | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.total_steps is None):
            instead = 'write one: fixed_peak("values") for a table, fixed_peak(total_steps=400) for a whole schedule'
            raise FieldError("fixed_peak", ("name", "total_steps"), (self.name, self.total_steps), instead)
        if self.name is not None:
            _texts("fixed_peak", (self.name,))
        else:
            check_count("fixed_peak", "total_steps", self.total_steps)

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.name is None else (self.name,)


_KINDS = (bounds, fixed, falling, fixed_peak)


def _pair(name: str, pair: Any) -> tuple[float, float]:
    try:
        lo, hi = pair
        low, high = -math.inf if lo is None else float(lo), math.inf if hi is None else float(hi)
    except (TypeError, ValueError):
        raise FieldTypeError("bounds", name, pair, "write a pair of numbers, such as (1e-4, 1.0)") from None
    if not low < high or low == math.inf or high == -math.inf or (low, high) == (-math.inf, math.inf):
        raise FieldError("bounds", name, pair, f"write lo < hi, or fixed({name!r}) for a constant")
    return low, high


def _texts(owner: str, names: tuple[Any, ...]) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) for name in names):
        raise FieldTypeError(owner, "names", list(names), f'write the names of fields, such as {owner}("values")')
    return names


def constraint_list(constraints: Any) -> list[Any]:
    """Returns the constraints of an `optimize`, which are one, several, or a dict by field, as a list."""
    if isinstance(constraints, Mapping):
        return [_of_field(name, what) for name, what in constraints.items()]
    constraints = [constraints] if isinstance(constraints, _KINDS) else list(constraints)
    for i, one in enumerate(constraints):
        if not isinstance(one, _KINDS):
            instead = (
                'write bounds(peak_value=(1e-4, 1.0)), fixed("end_value"), falling("values") or fixed_peak("values")'
            )
            raise FieldTypeError("optimize", f"constraints[{i}]", one, instead)
    return constraints


def _of_field(name: str, what: Any) -> Any:
    """The constraint of a field that a dict holds: the name of a constraint, or a pair."""
    kinds = {"fixed": fixed, "falling": falling, "fixed_peak": fixed_peak}
    field = f"constraints[{name!r}]"
    if isinstance(what, str):
        if what not in kinds:
            raise FieldError("optimize", field, what, nearest_name(what, kinds))
        return kinds[what](name)
    if not isinstance(what, (tuple, list)) or len(what) != 2 or any(isinstance(side, str) for side in what):
        instead = f"write a pair (lo, hi), or one of {', '.join(map(repr, kinds))}; a list of constraints for several"
        raise FieldTypeError("optimize", field, what, instead)
    return bounds({name: what})
