"""What holds on the way of a descent: bounds, what stays, what never rises, and a peak."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from .._errors import format_value, nearest_name
from .rates import checked_steps

# Constraints are classes in lower case, as the distributions are: written like functions, printed as they are written.


@dataclasses.dataclass(frozen=True, init=False)
class bounds:
    """Numbers stay from `lo` to `hi`: `bounds(peak_value=(1e-4, 1.0))`.

    Between two bounds above 0 a number moves by factors, else by differences. A side that is None is open.

    Args:
      fields: a dict of pairs (lo, hi) by name, for names with dots, such as `{"schedules.0.init_value": (0.0, 1.0)}`.
      **named: the same as keywords. In a table the pair holds for each number.

    Example:
      >>> from jaxsched.predict import bounds
      >>> bounds({"schedules.1.peak_value": (1e-4, 1.0)}, end_value=(0.0, None))
      bounds({'schedules.1.peak_value': (0.0001, 1.0), 'end_value': (0.0, None)})
    """

    fields: tuple[tuple[str, tuple[float, float]], ...]

    def __init__(self, fields: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        pairs = {**(fields or {}), **named}
        if not pairs:
            raise ValueError("bounds: no fields; write bounds(peak_value=(1e-4, 1.0)).")
        object.__setattr__(self, "fields", tuple((name, _pair(name, pair)) for name, pair in pairs.items()))

    def __repr__(self) -> str:
        side = lambda x: None if math.isinf(x) else x  # noqa: E731
        return f"bounds({ {name: (side(lo), side(hi)) for name, (lo, hi) in self.fields} })"


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class _Names:
    """A constraint of fields that needs no more than their names."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", _texts(type(self).__name__, names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.names))})"


class fixed(_Names):
    """Fields that stay what they are: `fixed("end_value")`; `fixed("schedules.0")` is all of a part.

    Example:
      >>> from jaxsched.predict import fixed
      >>> fixed("end_value", "schedules.0")
      fixed('end_value', 'schedules.0')
    """


class falling(_Names):
    """Tables whose values never rise from one to the next: `falling("values")`.

    Formula: in the coordinate of a table (the logarithm of a rate) each value is the one before less `softplus(x)`.

    Example:
      >>> from jaxsched.predict import falling
      >>> falling("values")
      falling('values')
    """


@dataclasses.dataclass(frozen=True)
class fixed_peak:
    """The largest value stays what it is, and only the shape changes.

    Args:
      name: a table: `fixed_peak("values")`.
      total_steps: or, without a name, how many steps of the schedule are looked at: it is multiplied by what brings
        its largest value back, and comes out as `0.9 * schedule`. What is `fixed` is fixed inside of the schedule,
        before it is multiplied; `bounds` of a rate would not hold, and are refused.

    Example:
      >>> from jaxsched.predict import fixed_peak
      >>> fixed_peak("values"), fixed_peak(total_steps=400)
      (fixed_peak(name='values', total_steps=None), fixed_peak(name=None, total_steps=400))
    """

    name: str | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.total_steps is None):
            raise ValueError(
                f"fixed_peak: name={format_value(self.name)} and total_steps={format_value(self.total_steps)}; "
                f"write one of them: "
                'fixed_peak("values") for a table, fixed_peak(total_steps=400) for a whole schedule.'
            )
        if self.name is not None:
            _texts("fixed_peak", (self.name,))
        else:
            checked_steps("fixed_peak", "total_steps", self.total_steps)


_KINDS = (bounds, fixed, falling, fixed_peak)


def _pair(name: str, pair: Any) -> tuple[float, float]:
    try:
        lo, hi = pair
        low, high = -math.inf if lo is None else float(lo), math.inf if hi is None else float(hi)
    except (TypeError, ValueError):
        raise TypeError(f"bounds: {name}={format_value(pair)}; write a pair of numbers, such as (1e-4, 1.0).") from None
    if not low < high or low == math.inf or high == -math.inf or (low, high) == (-math.inf, math.inf):
        raise ValueError(f"bounds: {name}={format_value(pair)}; write lo < hi, and fixed({name!r}) for what stays.")
    return low, high


def _texts(owner: str, names: tuple[Any, ...]) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f'{owner}: {format_value(list(names))}; write the names of fields, such as {owner}("values").')
    return names


def listed(constraints: Any) -> list[Any]:
    """The constraints one by one; a dict says them by field."""
    if isinstance(constraints, Mapping):
        return [_of_field(name, what) for name, what in constraints.items()]
    one_by_one = [constraints] if isinstance(constraints, _KINDS) else list(constraints)
    for one in one_by_one:
        if not isinstance(one, _KINDS):
            raise TypeError(
                f"optimize: constraints hold {format_value(one)}; write bounds(peak_value=(1e-4, 1.0)), "
                'fixed("end_value"), falling("values") or fixed_peak("values").'
            )
    return one_by_one


def _of_field(name: str, what: Any) -> Any:
    """What a dict of constraints says of a field: a name of one, or a pair."""
    kinds = {"fixed": fixed, "falling": falling, "fixed_peak": fixed_peak}
    if isinstance(what, str):
        if what not in kinds:
            raise ValueError(f"optimize: constraints[{name!r}]={what!r}; {nearest_name(what, kinds)}")
        return kinds[what](name)
    if not isinstance(what, (tuple, list)) or len(what) != 2 or any(isinstance(side, str) for side in what):
        raise TypeError(
            f"optimize: constraints[{name!r}]={format_value(what)}; write a pair (lo, hi), or one of "
            f"{', '.join(map(repr, kinds))}; for several of one field write a list: "
            f"[falling({name!r}), bounds({{{name!r}: (lo, hi)}})]."
        )
    return bounds({name: what})
