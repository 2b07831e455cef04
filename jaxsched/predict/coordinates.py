"""The coordinates of a descent: from -inf to inf, whatever the constraints of a schedule are."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, nearest_name
from ..fields import Field, shortest
from ..schedules.base import Schedule
from ..sweep.settings import path_text
from .constraints import bounds, falling, fixed, fixed_peak

_EDGE = 1e-3
"""How far inside of its bounds a number starts that lies on one, as a share of them; and how far apart, in its
coordinate, neighbours of a falling table start that are equal. On the edge itself there is no slope to follow."""


# The descent runs without constraints, on coordinates from -inf to inf. A number is a rising function of its
# coordinate, its link, whose range is what the bounds allow; what holds between the values of a table holds between
# their coordinates. So no step can leave the constraints, and they go together in any number.


@dataclasses.dataclass(frozen=True)
class Link:
    """How a field follows from its coordinates: static, a part of the program.

    Fields:
      kind: "sign" (it keeps its sign, and 0 stays 0), "low" and "high" (one bound), "box", "log" (a box by factors);
        None for a field that does not move.
      falling, peak: what holds between the values of a table.
    """

    kind: str | None = None
    falling: bool = False
    peak: bool = False

    def value(self, z: jax.Array, at: dict[str, jax.Array]) -> jax.Array:
        """The numbers at the coordinates `z`."""
        if self.falling:
            z = z[0] - jnp.concatenate([jnp.zeros(1, z.dtype), jnp.cumsum(jax.nn.softplus(z[1:]))])
        top = jnp.zeros((), bool)
        if self.kind == "sign":
            z = jnp.where(at["given"] == 0, -jnp.inf, z)
        if self.peak:
            top = z == jnp.max(z)
            z = z - jnp.max(z) + at["top"]
        value = self._linked(z, at)
        if self.kind != "sign":
            value = jnp.clip(value, at["lo"], at["hi"])  # rounding must not lead out
        return jnp.where(top, at["peak"], value) if self.peak else value

    def _linked(self, z: jax.Array, at: dict[str, jax.Array]) -> jax.Array:
        lo, hi = at["lo"], at["hi"]
        if self.kind == "sign":  # what no slope moves stays what it is, to the last bit
            return (jnp.sign(at["given"]) if self.falling or self.peak else at["given"]) * jnp.exp(z)
        if self.kind == "low":
            return lo + jnp.exp(z)
        if self.kind == "high":
            return hi - jnp.exp(-z)
        up, down = jax.nn.sigmoid(z), jax.nn.sigmoid(-z)
        return lo * down + hi * up if self.kind == "box" else jnp.exp(jnp.log(lo) * down + jnp.log(hi) * up)

    def coordinates(self, given: np.ndarray, lo: float, hi: float) -> np.ndarray:
        """The coordinates of the numbers `given`, float64, without what holds between them."""
        size = np.max(np.abs(given), initial=0) or 1.0
        if self.kind == "sign":
            return np.log(np.where(given == 0, size, np.abs(given))) if self.falling or self.peak else 0 * given
        if self.kind == "low":
            return np.log(np.maximum(given - lo, _EDGE * size))
        if self.kind == "high":
            return -np.log(np.maximum(hi - given, _EDGE * size))
        share = (given - lo) / (hi - lo) if self.kind == "box" else np.log(given / lo) / np.log(hi / lo)
        share = np.clip(share, _EDGE, 1 - _EDGE)
        return np.log(share / (1 - share))

    def free(self, z: np.ndarray) -> np.ndarray:
        """The coordinates that the descent moves, for those of the numbers."""
        if self.peak and z.ndim and not self.falling:  # of several peaks one is the peak, or no slope would be left
            z = np.where(np.arange(z.size) == np.argmax(z), z, np.minimum(z, np.max(z) - _EDGE))
        if not self.falling:
            return z
        drops = np.maximum(-np.diff(z), _EDGE)
        return np.concatenate([z[:1], np.log(np.expm1(drops))])


@dataclasses.dataclass(frozen=True)
class Form:
    """What of a schedule is the program: its structure, the links of its leaves, and how many steps have one peak."""

    structure: Any
    links: tuple[Link, ...]
    peak_steps: int | None

    def schedule(self, leaves: Any) -> Any:
        return self.structure.unflatten(leaves)

    def at(self, moving: Any, leaves: Any, numbers: Any) -> list[Any]:
        """The leaves at the coordinates `moving`."""
        parts = iter(zip(moving, numbers, strict=True))
        out = []
        for link, leaf in zip(self.links, leaves, strict=True):
            if link.kind is not None:
                z, at = next(parts)
                leaf = link.value(z, at).astype(jnp.result_type(leaf))
            out.append(leaf)
        return out

    def peaked(self, schedule: Any, peak: Any) -> Any:
        """The schedule with the peak that it is to have, if that is a constraint."""
        return schedule if self.peak_steps is None else self._factor(schedule, peak) * schedule

    def printed(self, schedule: Any, peak: Any) -> Any:
        """The same outside of a program, with a plain number for a factor."""
        return schedule if self.peak_steps is None else float(shortest(self._factor(schedule, peak))) * schedule

    def _factor(self, schedule: Any, peak: Any) -> jax.Array:
        return peak / jnp.max(schedule.table(self.peak_steps))


@dataclasses.dataclass
class Rule:
    """What the constraints say of one leaf."""

    path: str
    leaf: Any
    field: Field | None
    lo: float = -math.inf
    hi: float = math.inf
    fixed: bool = False
    falling: bool = False
    peak: bool = False
    named: bool = False
    bounded: bool = False

    @functools.cached_property
    def given(self) -> np.ndarray:
        """The numbers as they are written: a float32 of 0.1 lies on a bound of 0.1."""
        return shortest(self.leaf)

    def link(self) -> Link:
        """How the leaf moves; what cannot move as it is asked to is refused."""
        if self.fixed:
            self._refuse_outside()
            return Link()
        whole = not jnp.issubdtype(jnp.result_type(self.leaf), jnp.floating)
        steps = self.field is not None and self.field.table and self.field.counts
        if whole or steps:
            if not self.named:
                return Link()
            why = "a table of steps" if steps else "an integer"
            instead = (
                f"write a float, such as {self.path}=400.0, or leave it out" if whole and not steps else "leave it out"
            )
            raise ValueError(
                f"optimize: {self.path}={format_value(self.leaf)} is {why} and takes no gradient; {instead}."
            )
        low, high = self._taken()
        self.lo, self.hi = max(self.lo, low), min(self.hi, high)
        self._check()
        open_low, open_high = math.isinf(self.lo), math.isinf(self.hi)
        kinds = {(True, True): "sign", (False, True): "low", (True, False): "high"}
        kind = kinds.get((open_low, open_high)) or ("log" if self.lo > 0 else "box")
        return Link(kind, self.falling and self.given.ndim > 0, self.peak)

    def rate(self) -> bool:
        """Whether a factor of the whole schedule multiplies it, as far as its field tells: no steps, and no share."""
        return self.field is None or not (self.field.counts or self._taken() != (-math.inf, math.inf))

    def _taken(self) -> tuple[float, float]:
        """What the class takes, where that is an end on the way of a number above 0: a share, or 1 and more."""
        if self.field is None or self.given.ndim:
            return -math.inf, math.inf
        small, large = _takes(self.field, 0.25), _takes(self.field, 2.0)
        low = 0.0 if small and not large else 1.0 if large and not small else -math.inf
        return low, 1.0 if small and not large else math.inf

    def _check(self) -> None:
        given, what = self.given, f"optimize: {self.path}={format_value(self.leaf)}"
        if not np.all(np.isfinite(given)):
            raise ValueError(f"{what} is not finite; start from finite numbers.")
        self._refuse_outside()
        if not (self.falling or self.peak):
            return
        if math.isinf(self.lo) and np.any(given < 0):
            raise ValueError(f"{what} has values below 0; write bounds({self.path}=(lo, hi)) beside this constraint.")
        if self.falling and np.any(np.diff(np.atleast_1d(given)) > 0):
            raise ValueError(f"{what} rises; start from values that never do, such as sorted(values, reverse=True).")
        if self.peak and not given.any():
            raise ValueError(f"{what} has no peak; write a value above 0.")

    def _refuse_outside(self) -> None:
        """Refuses bounds that leave no number, and bounds that the number is not in."""
        if not self.lo < self.hi:
            raise ValueError(
                f"optimize: the bounds of {self.path} do not meet: nothing is from {self.lo:g} to {self.hi:g}, with "
                "what its class takes; write one pair (lo, hi), and fixed(...) for what stays."
            )
        if np.any((self.given < self.lo) | (self.given > self.hi)):
            stays = " and fixed; leave one of the two out" if self.fixed else "; start from a schedule inside of them"
            raise ValueError(
                f"optimize: {self.path}={format_value(self.leaf)} is outside of its bounds, {self.lo:g} to "
                f"{self.hi:g}{stays}."
            )


def _takes(field: Field, number: float) -> bool:
    try:
        field.convert("", field.name, number)
    except ValueError:
        return False
    except TypeError:  # it takes no number, and says nothing of any
        return True
    return True


def _field(schedule: Any, path: Any) -> Field | None:
    """The field that a leaf is, by its path; None for a number that is in no schedule, or is one of several."""
    found, here = None, schedule
    for key in path:
        if isinstance(here, Schedule):
            found = next(f for f in here._fields if f.name == key.name)
            here = getattr(here, key.name)
        else:
            found = None
            here = (
                getattr(here, key.name) if hasattr(key, "name") else here[getattr(key, "idx", getattr(key, "key", 0))]
            )
    return found


def rules_of(schedule: Any, constraints: list[Any]) -> list[Rule]:
    """What is said of each leaf, in their order."""
    leaves = jax.tree_util.tree_leaves_with_path(schedule)
    rules = [Rule(path_text(path), leaf, _field(schedule, path)) for path, leaf in leaves]

    def named(constraint: Any, name: str) -> list[Rule]:
        found = [rule for rule in rules if rule.path == name or rule.path.startswith(f"{name}.")]
        if not found:
            raise ValueError(
                f"optimize: {constraint!r} names {name!r}; {nearest_name(name, [rule.path for rule in rules])}"
            )
        return found

    def tables(constraint: Any, name: str) -> list[Rule]:
        found = named(constraint, name)
        for rule in found:
            if not rule.given.ndim:
                raise ValueError(
                    f"optimize: {constraint!r} names {rule.path}={format_value(rule.leaf)}, which is one number; "
                    f"it is for a "
                    "table, such as the values of knots(schedule, total_steps)."
                )
        return found

    for one in constraints:
        if isinstance(one, bounds):
            for name, (lo, hi) in one.fields:
                for rule in named(one, name):
                    rule.lo, rule.hi, rule.named, rule.bounded = max(rule.lo, lo), min(rule.hi, hi), True, True
        elif isinstance(one, fixed):
            for rule in (rule for name in one.names for rule in named(one, name)):
                rule.fixed = rule.named = True
        elif isinstance(one, falling):
            for rule in (rule for name in one.names for rule in tables(one, name)):
                rule.falling = rule.named = True
        elif one.name is not None:
            for rule in tables(one, one.name):
                rule.peak = rule.named = True
    return rules


def whole_peak(schedule: Any, constraints: Iterable[Any], rules: list[Rule]) -> tuple[int | None, Any]:
    """Over how many steps the schedule keeps its peak, and that peak; None where it need not."""
    found = [one for one in constraints if isinstance(one, fixed_peak) and one.total_steps is not None]
    if not found:
        return None, 1.0
    what, steps = f"optimize: fixed_peak(total_steps={found[0].total_steps})", found[0].total_steps
    if len(found) > 1:
        raise ValueError(f"{what} beside fixed_peak(total_steps={found[1].total_steps}); write one of them.")
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{what} of {format_value(schedule)}; it is for one schedule.")
    for rule in rules:
        if rule.bounded and rule.rate():
            raise ValueError(
                f"{what} beside bounds of {rule.path}: the whole schedule is multiplied, and {rule.path} would leave "
                "them; leave one of the two out, or write knots(...) with fixed_peak('values') and bounds(values=...)."
            )
    peak = float(jnp.max(schedule.table(steps)))
    if not 0 < peak < math.inf:
        raise ValueError(
            f"optimize: the largest value of {format_value(schedule)} is {peak:g}; fixed_peak needs one above 0."
        )
    return steps, peak


def numbers_of(link: Link, rule: Rule) -> tuple[dict[str, Any], np.ndarray]:
    """What the link of a leaf is told, and the coordinates of the leaf."""
    given = rule.given
    z = link.coordinates(given, rule.lo, rule.hi)
    peak = np.max(given)
    top = link.coordinates(peak, rule.lo, rule.hi)
    numbers = {"given": given, "lo": rule.lo, "hi": rule.hi, "peak": peak, "top": top}
    if link.falling and link.kind == "sign":
        z = np.where(given == 0, np.min(z[given != 0], initial=0.0), z)  # the zeros at the end have none of their own
    return {name: np.asarray(x, jnp.result_type(float)) for name, x in numbers.items()}, z
