"""Unconstrained coordinates of schedules: any point between -inf and inf satisfies the constraints."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, nearest_name
from ..fields import Field, shortest
from ..schedules.base import Schedule
from ..sweep.settings import is_schedule, path_text
from .constraints import bounds, falling, fixed_peak

_EDGE = 1e-3
"""A number on its bound starts inside by this share, and equal neighbours of a falling table start apart by this
difference of coordinates: on the edge itself the gradient is 0."""


# A number is a rising function of its coordinate, its link, whose range is between the bounds. Constraints between the
# values of a table hold between their coordinates. So no update can violate a constraint, in any combination.


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
      peak: whether their maximum is constant.
      given: the numbers at the start.
      lo: the lower bound.
      hi: the upper bound.
      top: the coordinate of the maximum.
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
        top = jnp.zeros((), bool)
        if self.kind == "sign":
            z = jnp.where(self.given == 0, -jnp.inf, z)
        if self.peak:
            top = z == jnp.max(z)
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
    """The constraints of one leaf."""

    path: str
    leaf: Any
    field: Field | None
    lo: float = -math.inf
    hi: float = math.inf
    fixed: bool = False
    falling: bool = False
    fixed_peak: bool = False
    named: bool = False
    bounded: bool = False

    @functools.cached_property
    def given(self) -> np.ndarray:
        """The numbers as they are written: a float32 of 0.1 lies on a bound of 0.1."""
        return shortest(self.leaf)

    def link(self) -> Link | None:
        """The link of the leaf, None for a constant; raises FieldError if it cannot satisfy its constraints."""
        whole = not jnp.issubdtype(jnp.result_type(self.leaf), jnp.floating)
        steps = self.field is not None and self.field.table and self.field.counts
        if (whole or steps) and self.named and not self.fixed:
            what = "a table of steps" if steps else "an integer"
            instead = f"leave it out{'' if steps else f', or write a float, such as {self.path}=400.0'}"
            raise self._error(f" is {what} and is not differentiable", instead)
        if self.fixed or whole or steps:
            self._refuse_outside()
            return None
        low, high = self._taken()
        self.lo, self.hi = max(self.lo, low), min(self.hi, high)
        self._check()
        kinds = {(True, True): "sign", (False, True): "low", (True, False): "high"}
        kind = kinds.get((math.isinf(self.lo), math.isinf(self.hi))) or ("log" if self.lo > 0 else "box")
        link = Link(kind, self.falling and self.given.ndim > 0, self.fixed_peak, self.given, self.lo, self.hi)
        return dataclasses.replace(link, top=link.coordinates(np.max(self.given)))

    def rate(self) -> bool:
        """Whether a factor of the whole schedule multiplies it: neither a number of steps nor a share."""
        return self.field is None or not (self.field.counts or self._taken() != (-math.inf, math.inf))

    def _taken(self) -> tuple[float, float]:
        """The bounds of the field of the class: from 0 to 1, or from 1 on."""
        if self.field is None or self.given.ndim:
            return -math.inf, math.inf
        small, large = _takes(self.field, 0.25), _takes(self.field, 2.0)
        low = 0.0 if small and not large else 1.0 if large and not small else -math.inf
        return low, 1.0 if small and not large else math.inf

    def _error(self, note: str, instead: str) -> FieldError:
        return FieldError("optimize", self.path, self.leaf, instead, note=note)

    def _check(self) -> None:
        given = self.given
        if not np.all(np.isfinite(given)):
            raise self._error(" is not finite", "start from finite numbers")
        self._refuse_outside()
        constrained = self.falling or self.fixed_peak
        if constrained and math.isinf(self.lo) and np.any(given < 0):
            raise self._error(" has values below 0", f"write bounds({self.path}=(lo, hi)) beside this constraint")
        if self.falling and np.any(np.diff(np.atleast_1d(given)) > 0):
            raise self._error(" rises", "start from falling values, such as sorted(values, reverse=True)")
        if self.fixed_peak and not given.any():
            raise self._error(" has no peak", "write a value above 0")

    def _refuse_outside(self) -> None:
        """Raises FieldError for bounds that leave no number, and bounds that the number is not in."""
        between = f"{self.lo:g} to {self.hi:g}"
        if not self.lo < self.hi:
            note = f": its bounds do not meet ({between}, with those of its class)"
            raise self._error(note, "write one pair (lo, hi), and fixed(...) for a constant")
        if np.any((self.given < self.lo) | (self.given > self.hi)):
            instead = "leave one of the two out" if self.fixed else "start from a schedule inside of them"
            raise self._error(f" is outside of its bounds, {between}{' and fixed' if self.fixed else ''}", instead)


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


def rules_of(schedule: Any, constraints: list[Any]) -> list[Rule]:
    """Returns the constraints of each leaf, in the order of the leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(schedule)
    rules = [Rule(path_text(path), leaf, _field(schedule, path)) for path, leaf in leaves]
    for one, name in [(constraint, name) for constraint in constraints for name in constraint.names]:
        found = [rule for rule in rules if rule.path == name or rule.path.startswith(f"{name}.")]
        if not found:
            instead = nearest_name(name, [rule.path for rule in rules])
            raise FieldError("optimize", "constraints", one, instead, note=f" names {name!r}")
        for rule in found:
            rule.named = True
            if isinstance(one, bounds):
                lo, hi = dict(one.fields)[name]
                rule.lo, rule.hi, rule.bounded = max(rule.lo, lo), min(rule.hi, hi), True
                continue
            if isinstance(one, (falling, fixed_peak)) and not rule.given.ndim:
                instead = "it is for a table, such as the values of knots(schedule, total_steps)"
                note = f" names {rule.path}={rule.leaf}, which is one number"
                raise FieldError("optimize", "constraints", one, instead, note=note)
            setattr(rule, type(one).__name__, True)
    return rules


def whole_peak(schedule: Any, constraints: Iterable[Any], rules: list[Rule]) -> tuple[int | None, Any]:
    """Returns the steps of a `fixed_peak` of the whole schedule, and that peak; None for the steps without one."""
    found = [one for one in constraints if isinstance(one, fixed_peak) and one.total_steps is not None]
    if not found:
        return None, 1.0
    refuse = functools.partial(FieldError, "optimize", "constraints")
    if len(found) > 1:
        raise refuse(found[0], "write one of them", note=f" beside {found[1]}")
    if not isinstance(schedule, Schedule):
        raise FieldTypeError("optimize", "schedule", schedule, f"{found[0]} is for one schedule")
    for rule in rules:
        if rule.bounded and rule.rate():
            instead = "leave one out, or write knots(...) with fixed_peak('values') and bounds(values=...)"
            note = f" beside bounds of {rule.path}: the whole schedule is multiplied, and would leave them"
            raise refuse(found[0], instead, note=note)
    peak = float(jnp.max(schedule.table(found[0].total_steps)))
    if not 0 < peak < math.inf:
        raise refuse(found[0], "it needs a schedule with a value above 0", note=f": the largest value is {peak:g}")
    return found[0].total_steps, peak
