"""Constraints of an `optimize`, and unconstrained coordinates: any point between -inf and inf satisfies them.

A number is a rising function of its coordinate, its link, whose range is between the bounds. Constraints between the
values of a table hold between their coordinates. So no update can violate a constraint, in any combination.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, nearest_name
from ..fields import Field, shortest
from ..schedules.base import Schedule
from ..sweep.settings import is_schedule, path_text
from .arguments import check_count, is_float

_EDGE = 1e-3
"""A number on its bound starts inside by this share, and equal neighbours of a falling table start apart by this
difference of coordinates: on the edge itself the gradient is 0."""

# --- constraints -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class Constraint:
    """What `bounds`, `fixed`, `falling` and `fixed_peak` return; `pairs` are the bounds of each name."""

    kind: str
    names: tuple[str, ...] = ()
    pairs: tuple[tuple[float, float], ...] = ()
    total_steps: int | None = None

    def __repr__(self) -> str:
        if self.kind == "bounds":
            pairs = [tuple(None if math.isinf(x) else x for x in pair) for pair in self.pairs]
            return f"bounds({dict(zip(self.names, pairs, strict=True))})"
        steps = [] if self.total_steps is None else [f"total_steps={self.total_steps}"]
        return f"{self.kind}({', '.join([*map(repr, self.names), *steps])})"


def bounds(fields: Mapping[str, Any] | None = None, /, **named: Any) -> Constraint:
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
    pairs = {**(fields or {}), **named}
    if not pairs:
        raise FieldError("bounds", "fields", fields, "write at least one: bounds(peak_value=(1e-4, 1.0))")
    for name, pair in pairs.items():
        try:
            lo, hi = pair
            lo, hi = -math.inf if lo is None else float(lo), math.inf if hi is None else float(hi)
        except (TypeError, ValueError):
            raise FieldTypeError("bounds", name, pair, "write a pair of numbers, such as (1e-4, 1.0)") from None
        if not lo < hi or lo == math.inf or hi == -math.inf or (lo, hi) == (-math.inf, math.inf):
            raise FieldError("bounds", name, pair, f"write lo < hi, or fixed({name!r}) for a constant")
        pairs[name] = lo, hi
    return Constraint("bounds", tuple(pairs), tuple(pairs.values()))


def _named(kind: str, names: tuple[Any, ...]) -> Constraint:
    if not names or not all(isinstance(name, str) for name in names):
        raise FieldTypeError(kind, "names", list(names), f'write the names of fields, such as {kind}("values")')
    return Constraint(kind, names)


def fixed(*names: str) -> Constraint:
    """Fields that do not change: `fixed("end_value")`, or all fields of a part: `fixed("schedules.0")`."""
    return _named("fixed", names)


def falling(*names: str) -> Constraint:
    """Tables whose values never rise from one to the next: `falling("values")`.

    In the coordinate of a table (the logarithm of a rate) each value is the one before less `softplus(x)`.
    """
    return _named("falling", names)


def fixed_peak(name: str | None = None, total_steps: int | None = None) -> Constraint:
    """The largest value does not change, only the shape.

    Args:
      name: the name of a table.
      total_steps: or the number of steps of a whole schedule, which is scaled to its old peak and returned as
        `0.9 * schedule`. `bounds` of a rate in it are refused, because the factor would break them.
    """
    if (name is None) == (total_steps is None):
        instead = 'write one: fixed_peak("values") for a table, fixed_peak(total_steps=400) for a whole schedule'
        raise FieldError("fixed_peak", ("name", "total_steps"), (name, total_steps), instead)
    if name is not None:
        return _named("fixed_peak", (name,))
    return Constraint("fixed_peak", total_steps=check_count("fixed_peak", "total_steps", total_steps))


_BY_NAME = {"fixed": fixed, "falling": falling, "fixed_peak": fixed_peak}


def constraint_list(constraints: Any) -> list[Constraint]:
    """Returns the constraints of an `optimize`, which are one, several, or a dict by field, as a list."""
    if isinstance(constraints, Mapping):
        return [_of_field(name, what) for name, what in constraints.items()]
    constraints = [constraints] if isinstance(constraints, Constraint) else list(constraints)
    instead = 'write bounds(peak_value=(1e-4, 1.0)), fixed("end_value"), falling("values") or fixed_peak("values")'
    for i, one in enumerate(constraints):
        if not isinstance(one, Constraint):
            raise FieldTypeError("optimize", f"constraints[{i}]", one, instead)
    return constraints


def _of_field(name: str, what: Any) -> Constraint:
    """The constraint of a field that a dict holds: the name of a constraint, or a pair."""
    field = f"constraints[{name!r}]"
    if isinstance(what, str):
        if what not in _BY_NAME:
            raise FieldError("optimize", field, what, nearest_name(what, _BY_NAME))
        return _BY_NAME[what](name)
    if not isinstance(what, (tuple, list)) or len(what) != 2 or any(isinstance(side, str) for side in what):
        several = f"one of {', '.join(map(repr, _BY_NAME))}; a list of constraints for several"
        raise FieldTypeError("optimize", field, what, f"write a pair (lo, hi), or {several}")
    return bounds({name: what})


# --- coordinates -----------------------------------------------------------------------------------------------------


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["given", "lo", "hi", "top"],
    meta_fields=["kind", "falling", "peak"],
)
@dataclasses.dataclass(frozen=True)
class Link:
    """The function from the coordinates of a field to its numbers.

    Args:
      kind: "sign" (it keeps its sign, and 0 stays 0), "low" and "high" (one bound), "box", "log" (a box by factors).
      falling: whether the values of a table never rise.
      peak: whether their maximum is constant; `top` is its coordinate.
      given: the numbers at the start, between `lo` and `hi`.
    """

    kind: str
    falling: bool
    peak: bool
    given: Any
    lo: Any
    hi: Any
    top: Any = 0.0

    def value(self, z: jax.Array) -> jax.Array:
        """The numbers at the coordinates `z`."""
        if self.falling:
            z = z[0] - jnp.concatenate([jnp.zeros(1, z.dtype), jnp.cumsum(jax.nn.softplus(z[1:]))])
        if self.kind == "sign":
            z = jnp.where(self.given == 0, -jnp.inf, z)
        top = z == jnp.max(z)
        if self.peak:
            z = z - jnp.max(z) + self.top
        value = self._linked(z)
        if self.kind != "sign":
            value = jnp.clip(value, self.lo, self.hi)  # rounding must not break a bound
        return jnp.where(top, jnp.max(self.given), value) if self.peak else value

    def _linked(self, z: jax.Array) -> jax.Array:
        lo, hi = self.lo, self.hi
        if self.kind == "sign":  # without a gradient the number stays the same to the last bit
            return (jnp.sign(self.given) if self.falling or self.peak else self.given) * jnp.exp(z)
        if self.kind == "low":
            return lo + jnp.exp(z)
        if self.kind == "high":
            return hi - jnp.exp(-z)
        up, down = jax.nn.sigmoid(z), jax.nn.sigmoid(-z)
        return lo * down + hi * up if self.kind == "box" else jnp.exp(jnp.log(lo) * down + jnp.log(hi) * up)

    def coordinates(self, given: np.ndarray) -> np.ndarray:
        """The coordinates of the numbers `given`, float64, without `falling` and `peak`."""
        lo, hi, size = self.lo, self.hi, np.max(np.abs(given), initial=0) or 1.0
        if self.kind == "sign":
            return np.log(np.where(given == 0, size, np.abs(given))) if self.falling or self.peak else 0 * given
        if self.kind == "low":
            return np.log(np.maximum(given - lo, _EDGE * size))
        if self.kind == "high":
            return -np.log(np.maximum(hi - given, _EDGE * size))
        share = (given - lo) / (hi - lo) if self.kind == "box" else np.log(given / lo) / np.log(hi / lo)
        share = np.clip(share, _EDGE, 1 - _EDGE)
        return np.log(share / (1 - share))

    def start(self) -> np.ndarray:
        """The coordinates of the descent at the given numbers, float64."""
        z = self.coordinates(self.given)
        if self.falling and self.kind == "sign":
            z = np.where(self.given == 0, np.min(z[self.given != 0], initial=0.0), z)  # zeros have no coordinate
        if self.falling:
            return np.concatenate([z[:1], np.log(np.expm1(np.maximum(-np.diff(z), _EDGE)))])
        if self.peak and z.ndim:  # ties have no gradient
            z = np.where(np.arange(z.size) == np.argmax(z), z, np.minimum(z, np.max(z) - _EDGE))
        return z


@dataclasses.dataclass
class Rule:
    """The constraints of one leaf; `held` are their kinds."""

    path: str
    leaf: Any
    field: Field | None
    lo: float = -math.inf
    hi: float = math.inf
    held: set[str] = dataclasses.field(default_factory=set)

    @functools.cached_property
    def given(self) -> np.ndarray:
        """The numbers as they are written: a float32 of 0.1 lies on a bound of 0.1."""
        return shortest(self.leaf)

    @functools.cached_property
    def taken(self) -> tuple[float, float]:
        """The bounds of the field of the class: from 0 to 1, or from 1 on."""
        if self.field is None or self.given.ndim:
            return -math.inf, math.inf
        small, large = _takes(self.field, 0.25), _takes(self.field, 2.0)
        return 0.0 if small > large else 1.0 if large > small else -math.inf, 1.0 if small > large else math.inf

    @property
    def rate(self) -> bool:
        """Whether a factor of the whole schedule multiplies it: neither a number of steps nor a share."""
        return self.field is None or not (self.field.counts or self.taken != (-math.inf, math.inf))

    def link(self) -> Link | None:
        """The link of the leaf, None for a constant; raises FieldError if it cannot satisfy its constraints."""
        steps = self.field is not None and self.field.table and self.field.counts
        if steps or not is_float(self.leaf):
            if self.held - {"fixed"} and "fixed" not in self.held:
                what = "a table of steps" if steps else "an integer"
                instead = f"leave it out{'' if steps else f', or write a float, such as {self.path}=400.0'}"
                raise self._error(f" is {what} and is not differentiable", instead)
            self.held.add("fixed")
        moves = "fixed" not in self.held
        if moves:
            self.lo, self.hi = max(self.lo, self.taken[0]), min(self.hi, self.taken[1])
        self._check(moves)
        if not moves:
            return None
        kinds = {(True, True): "sign", (False, True): "low", (True, False): "high"}
        kind = kinds.get((math.isinf(self.lo), math.isinf(self.hi))) or ("log" if self.lo > 0 else "box")
        falls, peak = "falling" in self.held and self.given.ndim > 0, "fixed_peak" in self.held
        link = Link(kind, falls, peak, self.given, self.lo, self.hi)
        return dataclasses.replace(link, top=link.coordinates(np.max(self.given)))

    def _error(self, note: str, instead: str) -> FieldError:
        return FieldError("optimize", self.path, self.leaf, instead, note=note)

    def _check(self, moves: bool) -> None:
        given, between = self.given, f"{self.lo:g} to {self.hi:g}"
        if moves and not np.all(np.isfinite(given)):
            raise self._error(" is not finite", "start from finite numbers")
        if not self.lo < self.hi:
            note = f": its bounds do not meet ({between}, with those of its class)"
            raise self._error(note, "write one pair (lo, hi), and fixed(...) for a constant")
        if np.any((given < self.lo) | (given > self.hi)):
            instead = "start from a schedule inside of them" if moves else "leave one of the two out"
            raise self._error(f" is outside of its bounds, {between}{'' if moves else ' and fixed'}", instead)
        if not moves:
            return
        if self.held & {"falling", "fixed_peak"} and math.isinf(self.lo) and np.any(given < 0):
            raise self._error(" has values below 0", f"write bounds({self.path}=(lo, hi)) beside this constraint")
        if "falling" in self.held and np.any(np.diff(np.atleast_1d(given)) > 0):
            raise self._error(" rises", "start from falling values, such as sorted(values, reverse=True)")
        if "fixed_peak" in self.held and not given.any():
            raise self._error(" has no peak", "write a value above 0")


def _takes(field: Field, number: float) -> bool:
    try:
        field.convert("", field.name, number)
    except ValueError:
        return False
    except TypeError:  # the field takes no number
        return True
    return True


def _field(schedule: Any, path: Any) -> Field | None:
    """The field of the leaf at a path; None for a number outside of schedules, or one of several in a field."""
    found: Field | None = None
    here: Any = schedule
    for key in path:
        fields = here._fields if is_schedule(here) else ()
        found = next((f for f in fields if f.name == key.name), None)
        here = getattr(here, key.name) if hasattr(key, "name") else here[getattr(key, "idx", getattr(key, "key", 0))]
    return found


def rules_of(schedule: Any, constraints: list[Constraint]) -> list[Rule]:
    """Returns the constraints of each leaf, in the order of the leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(schedule)
    rules = [Rule(path_text(path), leaf, _field(schedule, path)) for path, leaf in leaves]
    for one, name in [(constraint, name) for constraint in constraints for name in constraint.names]:
        found = [rule for rule in rules if rule.path == name or rule.path.startswith(f"{name}.")]
        if not found:
            instead = nearest_name(name, [rule.path for rule in rules])
            raise FieldError("optimize", "constraints", one, instead, note=f" names {name!r}")
        for rule in found:
            rule.held.add(one.kind)
            if one.kind == "bounds":
                lo, hi = one.pairs[one.names.index(name)]
                rule.lo, rule.hi = max(rule.lo, lo), min(rule.hi, hi)
            elif one.kind != "fixed" and not rule.given.ndim:
                instead = "it is for a table, such as the values of knots(schedule, total_steps)"
                note = f" names {rule.path}={rule.leaf}, which is one number"
                raise FieldError("optimize", "constraints", one, instead, note=note)
    return rules


def whole_peak(schedule: Any, constraints: list[Constraint], rules: list[Rule]) -> tuple[int | None, Any]:
    """Returns the steps of a `fixed_peak` of the whole schedule, and that peak; None for the steps without one."""
    found = [one for one in constraints if one.total_steps is not None]
    if not found:
        return None, 1.0
    refuse = functools.partial(FieldError, "optimize", "constraints")
    if len(found) > 1:
        raise refuse(found[0], "write one of them", note=f" beside {found[1]}")
    if not isinstance(schedule, Schedule):
        raise FieldTypeError("optimize", "schedule", schedule, f"{found[0]} is for one schedule")
    for rule in rules:
        if "bounds" in rule.held and rule.rate:
            instead = "leave one out, or write knots(...) with fixed_peak('values') and bounds(values=...)"
            note = f" beside bounds of {rule.path}: the whole schedule is multiplied, and would leave them"
            raise refuse(found[0], instead, note=note)
    peak = float(jnp.max(schedule.table(found[0].total_steps)))
    if not 0 < peak < math.inf:
        raise refuse(found[0], "it needs a schedule with a value above 0", note=f": the largest value is {peak:g}")
    return found[0].total_steps, peak
