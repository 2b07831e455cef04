"""Gradient descent on schedules: the hyperparameters, or the knots of a free table, that an objective likes best."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..schedules.base import Schedule, axes, lift
from ..schedules.fields import Field, nearest_name, shown
from ..schedules.pieces import PiecewiseInterpolate
from ..schedules.recipes import WarmupCosine
from ..sweep.settings import is_schedule, path_text
from .rates import checked_steps

Objective: TypeAlias = Callable[[Any], Any]

_EDGE = 1e-3
"""How far inside of its bounds a number starts that lies on one, as a share of them; and how far apart, in its
coordinate, neighbours of a falling table start that are equal. On the edge itself there is no slope to follow."""


# --- constraints -----------------------------------------------------------------------------------------------------

# Constraints are classes in lower case, as the distributions are: written like functions, printed as they are written.


@dataclasses.dataclass(frozen=True, init=False)
class bounds:
    """Numbers stay from `lo` to `hi`: `bounds(peak_value=(1e-4, 1.0))`.

    Between two bounds above 0 a number moves by factors, else by differences. A side that is None is open.

    Args:
      fields: a dict of pairs (lo, hi) by name, for names with dots, such as `{"schedules.0.init_value": (0.0, 1.0)}`.
      **named: the same as keywords. In a table the pair holds for each number.

    Example:
      >>> from jaxsched.predict.descent import bounds
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


@dataclasses.dataclass(frozen=True, init=False)
class fixed:
    """Fields that stay what they are: `fixed("end_value")`; `fixed("schedules.0")` is all of a part.

    Example:
      >>> from jaxsched.predict.descent import fixed
      >>> fixed("end_value", "schedules.0")
      fixed('end_value', 'schedules.0')
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", _texts("fixed", names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.names))})"


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class falling(fixed):
    """Tables whose values never rise from one to the next: `falling("values")`.

    Formula: in the coordinate of a table (the logarithm of a rate) each value is the one before less `softplus(x)`.

    Example:
      >>> from jaxsched.predict.descent import falling
      >>> falling("values")
      falling('values')
    """

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", _texts("falling", names))


@dataclasses.dataclass(frozen=True)
class fixed_peak:
    """The largest value stays what it is, and only the shape changes.

    Args:
      name: a table: `fixed_peak("values")`.
      total_steps: or, without a name, how many steps of the schedule are looked at: it is multiplied by what brings
        its largest value back, and comes out as `0.9 * schedule`.

    Example:
      >>> from jaxsched.predict.descent import fixed_peak
      >>> fixed_peak("values"), fixed_peak(total_steps=400)
      (fixed_peak(name='values', total_steps=None), fixed_peak(name=None, total_steps=400))
    """

    name: str | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.total_steps is None):
            raise ValueError(
                f"fixed_peak: name={shown(self.name)} and total_steps={shown(self.total_steps)}; write one of them: "
                'fixed_peak("values") for a table, fixed_peak(total_steps=400) for a whole schedule.'
            )
        if self.name is not None:
            _texts("fixed_peak", (self.name,))
        else:
            checked_steps("fixed_peak", "total_steps", self.total_steps)


def _pair(name: str, pair: Any) -> tuple[float, float]:
    try:
        lo, hi = pair
        low, high = -math.inf if lo is None else float(lo), math.inf if hi is None else float(hi)
    except (TypeError, ValueError):
        raise TypeError(f"bounds: {name}={shown(pair)}; write a pair of numbers, such as (1e-4, 1.0).") from None
    if not low < high or low == math.inf or high == -math.inf or (low, high) == (-math.inf, math.inf):
        raise ValueError(f"bounds: {name}={shown(pair)}; write lo < hi, and fixed({name!r}) for what stays.")
    return low, high


def _texts(owner: str, names: tuple[Any, ...]) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f'{owner}: {shown(list(names))}; write the names of fields, such as {owner}("values").')
    return names


def _listed(constraints: Any) -> list[Any]:
    """The constraints one by one; a dict says them by field."""
    if isinstance(constraints, Mapping):
        kinds = {"fixed": fixed, "falling": falling, "fixed_peak": fixed_peak}
        made: list[Any] = []
        for name, what in constraints.items():
            if isinstance(what, str) and what not in kinds:
                raise ValueError(f"optimize: constraints[{name!r}]={what!r}; {nearest_name(what, kinds)}")
            made.append(kinds[what](name) if isinstance(what, str) else bounds({name: what}))
        return made
    listed = [constraints] if isinstance(constraints, (bounds, fixed, fixed_peak)) else list(constraints)
    for one in listed:
        if not isinstance(one, (bounds, fixed, fixed_peak)):
            raise TypeError(
                f"optimize: constraints hold {shown(one)}; write bounds(peak_value=(1e-4, 1.0)), "
                'fixed("end_value"), falling("values") or fixed_peak("values").'
            )
    return listed


# --- coordinates -----------------------------------------------------------------------------------------------------
#
# The descent runs without constraints, on coordinates from -inf to inf. A number is a rising function of its
# coordinate, its link, whose range is what the bounds allow; what holds between the values of a table holds between
# their coordinates. So no step can leave the constraints, and they go together in any number.


@dataclasses.dataclass(frozen=True)
class _Link:
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
class _Form:
    """What of a schedule is the program: its structure, the links of its leaves, and how many steps have one peak."""

    structure: Any
    links: tuple[_Link, ...]
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
        return schedule if self.peak_steps is None else float(_short(self._factor(schedule, peak))) * schedule

    def _factor(self, schedule: Any, peak: Any) -> jax.Array:
        return peak / jnp.max(schedule.table(self.peak_steps))


@dataclasses.dataclass
class _Rule:
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

    @property
    def given(self) -> np.ndarray:
        return np.asarray(self.leaf).astype(np.float64)

    def link(self) -> _Link:
        """How the leaf moves; what cannot move as it is asked to is refused."""
        if self.fixed:
            return _Link()
        whole = not jnp.issubdtype(jnp.result_type(self.leaf), jnp.floating)
        steps = self.field is not None and self.field.table and self.field.counts
        if whole or steps:
            if not self.named:
                return _Link()
            why = "a table of steps" if steps else "an integer"
            instead = (
                f"write a float, such as {self.path}=400.0, or leave it out" if whole and not steps else "leave it out"
            )
            raise ValueError(f"optimize: {self.path}={shown(self.leaf)} is {why} and takes no gradient; {instead}.")
        self._narrow()
        self._check()
        open_low, open_high = math.isinf(self.lo), math.isinf(self.hi)
        kinds = {(True, True): "sign", (False, True): "low", (True, False): "high"}
        kind = kinds.get((open_low, open_high)) or ("log" if self.lo > 0 else "box")
        return _Link(kind, self.falling and self.given.ndim > 0, self.peak)

    def _narrow(self) -> None:
        """What the class takes, where that is an end on the way of a number above 0: a share, or 1 and more."""
        if self.field is None or self.given.ndim:
            return
        small, large = _takes(self.field, 0.25), _takes(self.field, 2.0)
        if small and not large:
            self.lo, self.hi = max(self.lo, 0.0), min(self.hi, 1.0)
        elif large and not small:
            self.lo = max(self.lo, 1.0)

    def _check(self) -> None:
        given, what = self.given, f"optimize: {self.path}={shown(self.leaf)}"
        if not np.all(np.isfinite(given)):
            raise ValueError(f"{what} is not finite; start from finite numbers.")
        if np.any((given < self.lo) | (given > self.hi)):
            raise ValueError(
                f"{what} is outside of its bounds, {self.lo:g} to {self.hi:g}; start from a schedule inside of them."
            )
        if not (self.falling or self.peak):
            return
        if math.isinf(self.lo) and np.any(given < 0):
            raise ValueError(f"{what} has values below 0; write bounds({self.path}=(lo, hi)) beside this constraint.")
        if self.falling and np.any(np.diff(np.atleast_1d(given)) > 0):
            raise ValueError(f"{what} rises; start from values that never do, such as sorted(values, reverse=True).")
        if self.peak and not given.any():
            raise ValueError(f"{what} has no peak; write a value above 0.")


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


def _rules(schedule: Any, constraints: list[Any]) -> list[_Rule]:
    """What is said of each leaf, in their order."""
    leaves = jax.tree_util.tree_leaves_with_path(schedule)
    rules = [_Rule(path_text(path), leaf, _field(schedule, path)) for path, leaf in leaves]

    def named(constraint: Any, name: str) -> list[_Rule]:
        found = [rule for rule in rules if rule.path == name or rule.path.startswith(f"{name}.")]
        if not found:
            raise ValueError(
                f"optimize: {constraint!r} names {name!r}; {nearest_name(name, [rule.path for rule in rules])}"
            )
        return found

    for one in constraints:
        if isinstance(one, bounds):
            for name, (lo, hi) in one.fields:
                for rule in named(one, name):
                    rule.lo, rule.hi, rule.named = max(rule.lo, lo), min(rule.hi, hi), True
        elif isinstance(one, fixed_peak):
            for rule in named(one, one.name) if one.name is not None else []:
                rule.peak = rule.named = True
        else:
            for name in one.names:
                for rule in named(one, name):
                    rule.falling, rule.fixed = (
                        rule.falling or isinstance(one, falling),
                        type(one) is fixed or rule.fixed,
                    )
                    rule.named = True
    return rules


# --- the descent -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Optimized:
    """What a descent found.

    Fields:
      schedule: the best that was seen, on any start at any step; the given one if nothing was better.
      value: its objective.
      before: the objective of the schedule that was given; NaN or inf if it was not finite.
      values: (starts,), the best of each start; NaN for one that failed.
      history: (steps + 1,), the objective on the way of the best start: before the first update, and after each.
      start: which start that is; 0 is the schedule that was given, and the others are spread around it.
      failed: how many starts were dropped: their objective was not finite from the first step on, or their class
        refuses the numbers that they came to.
      stopped: how many others met an objective or a gradient that was not finite later, and stopped there; the best
        that they had seen counts.

    Example: see `optimize`.
    """

    schedule: Any
    value: float
    before: float
    values: np.ndarray
    history: np.ndarray
    start: int
    failed: int
    stopped: int

    @property
    def improved(self) -> bool:
        """Whether the schedule is better than the one that was given."""
        return bool(self.value < self.before) or not math.isfinite(self.before)

    def __repr__(self) -> str:
        starts = f"{len(self.values)} start{'s' * (len(self.values) > 1)}"
        lost = [f"{n} {what}" for n, what in ((self.failed, "failed"), (self.stopped, "stopped")) if n]
        came = f"{self.before:.6g} -> {self.value:.6g}" if self.improved else f"{self.before:.6g}, not improved"
        told = f" ({', '.join(lost)})" if lost else ""
        return f"<Optimized: {came} in {len(self.history) - 1} steps, {starts}{told}; {self.schedule!r}>"


def optimize(
    objective: Objective,
    schedule: Any,
    *,
    steps: int = 1_000,
    constraints: Any = (),
    optimizer: optax.GradientTransformation | None = None,
    starts: int = 1,
    spread: float = 1.0,
    seed: int = 0,
) -> Optimized:
    """Gradient descent on the numbers of a schedule: its hyperparameters, or the values of a free table (`knots`).

    All floats move that no constraint keeps. Without bounds a number keeps its sign and moves by factors: a rate
    stays above 0, and a 0 stays 0. What a class takes only from 0 to 1, or from 1 on, stays so. Integers and tables of
    steps stay: write `total_steps=400.0` for a number of steps that is to move. No step leaves the constraints.

    All starts run side by side in one program, which is compiled once for an objective (the same function, not a new
    lambda), a structure, the constraints' kinds, an optimizer and a number of steps and of starts.

    Args:
      objective: `objective(schedule) -> scalar`, smaller is better; anything that JAX can trace and differentiate,
        such as `lambda s: convex.bound(s, total_steps=400)`.
      schedule: where the descent begins: a schedule of any kind, or a pytree of schedules and numbers.
      steps: the updates, 1 or more.
      constraints: one or several of `bounds`, `fixed`, `falling` and `fixed_peak`; or a dict by field, such as
        `{"peak_value": (1e-4, 1.0), "end_value": "fixed"}`. Fields are named as in the tables of a sweep:
        `peak_value`, or `schedules.0.peak_value` inside of a composition.
      optimizer: of optax; it sees coordinates (logarithms of what moves by factors), and gets the value and the
        function too, so that `optax.lbfgs()` works. None: Adam, its rate 0.1 with a warmup and a cosine to 0.
      starts: how many, 1 or more. The first is the schedule itself.
      spread: the standard deviation of the others around it, 0 or more; for a number that moves by factors 1.0 is a
        factor of e.
      seed: of the spread.

    Returns: an `Optimized`, with the best schedule that was seen, not the last.

    Errors: TypeError and ValueError that name the argument; for an objective that is no scalar or cannot be traced;
    for a field that there is not or that takes no gradient; and if all starts fail, with the value.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import convex
      >>> from jaxsched.predict.descent import bounds, optimize
      >>> def objective(s):
      ...     return convex.bound(s, total_steps=400)
      >>> s = js.Linear(0.01, 0.005, steps=400)
      >>> best = optimize(objective, s, steps=200, constraints=bounds(init_value=(1e-4, 1.0), end_value=(0.0, 0.1)))
      >>> f"{best.before:.3f} -> {best.value:.3f}"
      '0.189 -> 0.101'

    Source: Schaipp et al., 2025, arXiv 2501.18965, where schedules are found by descent on the bound; Adam: Kingma and
    Ba, 2015.
    """
    _check_arguments(objective, schedule, steps, optimizer, starts, spread, seed)
    listed = _listed(constraints)
    rules = _rules(schedule, listed)
    links = tuple(rule.link() for rule in rules)
    if not any(link.kind for link in links):
        raise ValueError(
            f"optimize: nothing moves in {shown(schedule)}; write a float for what is to move, and fix less."
        )
    peak_steps, peak = _whole_peak(schedule, listed)
    form = _Form(jax.tree.structure(schedule), links, peak_steps)
    moving = [(link, rule, *_numbers(link, rule)) for link, rule in zip(links, rules, strict=True) if link.kind]
    points = _points([link.free(z) for link, _, _, z in moving], starts, spread, seed)
    found = _descend(
        hashable(objective),
        form,
        _adam(steps) if optimizer is None else optimizer,
        steps,
        [rule.leaf for rule in rules],
        peak,
        [numbers for _, _, numbers, _ in moving],
        points,
    )
    return _best(schedule, form, rules, peak, jax.device_get(found))


def knots(like: Any, total_steps: int, n: int = 16, kind: str = "linear") -> PiecewiseInterpolate:
    """A free table to begin an `optimize` with: `n` knots from the first step to the last, with the values of `like`.

    Args:
      like: a schedule, a callable or a number.
      total_steps: the horizon, 2 steps or more.
      n: how many knots, from 2 to `total_steps`; with `total_steps` of them every rate is free.
      kind: between the knots, `linear`, `cosine` or `pchip`, as of `PiecewiseInterpolate`.

    Returns: a `PiecewiseInterpolate`.

    Errors: ValueError for another `n` and for fewer steps.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict.descent import knots
      >>> knots(js.Linear(1.0, 0.0, 100), total_steps=101, n=3)
      PiecewiseInterpolate(knots=[0, 50, 100], values=[1.0, 0.5, 0.0])
    """
    total_steps = checked_steps("knots", "total_steps", total_steps, least=2)
    if checked_steps("knots", "n", n, least=2) > total_steps:
        raise ValueError(f"knots: n={n} and total_steps={total_steps}; write n={total_steps} or less.")
    steps = np.linspace(0, total_steps - 1, n).round().astype(int)
    values = np.asarray(lift("knots", "like", like)(steps))
    return PiecewiseInterpolate(steps, _short(values), kind)  # type: ignore[arg-type]


def _check_arguments(
    objective: Any, schedule: Any, steps: Any, optimizer: Any, starts: Any, spread: Any, seed: Any
) -> None:
    if not callable(objective) or isinstance(objective, (Schedule, type)):
        raise TypeError(
            f"optimize: objective={shown(objective)}; write a function of a schedule, such as "
            "lambda s: convex.bound(s, total_steps=400)."
        )
    parts = jax.tree.leaves(schedule, is_leaf=is_schedule)
    for part in parts:
        if is_schedule(part) and axes(part) - {0}:
            raise ValueError(f"optimize: {shown(part)} is several schedules, stacked; write one, and starts=8.")
        if not is_schedule(part) and (
            isinstance(part, bool) or not isinstance(part, (int, float, np.ndarray, np.generic, jax.Array))
        ):
            raise TypeError(f"optimize: schedule={shown(schedule)}; write a schedule, or a pytree of schedules.")
    for name, value, least in (("steps", steps, 1), ("starts", starts, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"optimize: {name}={shown(value)}; {name} must be an integer, {least} or more.")
    if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0 <= spread < math.inf:
        raise ValueError(f"optimize: spread={shown(spread)}; spread must be a finite number, 0 or more.")
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimize: optimizer={shown(optimizer)}; write one of optax, such as optax.adam(0.03).")


def hashable(objective: Objective) -> Objective:
    """The objective as a part of the program: one that has no hash, such as a method of a law, counts as a new one."""
    try:
        hash(objective)
    except TypeError:
        return functools.partial(objective)
    return objective


@functools.lru_cache(maxsize=32)
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(WarmupCosine(0.1, steps // 20, steps), b2=0.99)


def _whole_peak(schedule: Any, constraints: Iterable[Any]) -> tuple[int | None, Any]:
    """Over how many steps the schedule keeps its peak, and that peak."""
    steps = [one.total_steps for one in constraints if isinstance(one, fixed_peak) and one.total_steps is not None]
    if not steps:
        return None, 1.0
    if not isinstance(schedule, Schedule):
        raise TypeError(f"optimize: fixed_peak(total_steps={steps[0]}) of {shown(schedule)}; it is for one schedule.")
    peak = float(jnp.max(schedule.table(steps[-1])))
    if not 0 < peak < math.inf:
        raise ValueError(f"optimize: the largest value of {shown(schedule)} is {peak:g}; fixed_peak needs one above 0.")
    return steps[-1], peak


def _numbers(link: _Link, rule: _Rule) -> tuple[dict[str, Any], np.ndarray]:
    """What the link of a leaf is told, and the coordinates of the leaf."""
    given = rule.given
    z = link.coordinates(given, rule.lo, rule.hi)
    peak = np.max(given)
    top = link.coordinates(peak, rule.lo, rule.hi)
    numbers = {"given": given, "lo": rule.lo, "hi": rule.hi, "peak": peak, "top": top}
    if link.falling and link.kind == "sign":
        z = np.where(given == 0, np.min(z[given != 0], initial=0.0), z)  # the zeros at the end have none of their own
    return {name: np.asarray(x, jnp.result_type(float)) for name, x in numbers.items()}, z


def _points(centre: list[np.ndarray], starts: int, spread: float, seed: int) -> list[np.ndarray]:
    """The coordinates of all starts, of which the first is the centre."""
    rng = np.random.default_rng(seed)
    points = []
    for z in centre:
        away = spread * rng.standard_normal((starts, *z.shape))
        away[0] = 0
        points.append((z + away).astype(jnp.result_type(float)))
    return points


def traced(owner: str, objective: Objective, schedule: Any) -> Any:
    """What an objective gives, inside of a program."""
    try:
        return objective(schedule)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise TypeError(
            f"{owner}: objective cannot be traced: it wants numbers of its schedule that are not there yet. Write it "
            "with jax.numpy, without float(...), numpy or `if` on what depends on the schedule."
        ) from error


def scalar(owner: str, what: str, value: Any) -> jax.Array:
    """The value of an objective as a float, refused if it is anything else."""
    try:
        value = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}: {what} is {shown(value)}; it must be one number.") from None
    if value.shape != () or not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(
            f"{owner}: {what} has the shape {value.shape} and the type {value.dtype}; it must be one number, such as "
            "the last or the mean of a curve."
        )
    return value.astype(jnp.result_type(float))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _descend(
    objective: Objective, form: _Form, optimizer: Any, steps: int, leaves: Any, peak: Any, numbers: Any, points: Any
) -> dict[str, Any]:
    """All starts side by side; of each the best values seen, where they were, and the way."""
    wide = optax.with_extra_args_support(optimizer)

    def value_of(leaves: Any) -> jax.Array:
        schedule = form.peaked(form.schedule(leaves), peak)
        return scalar("optimize", "objective(schedule)", traced("optimize", objective, schedule))

    def value_at(moving: Any) -> jax.Array:
        return value_of(form.at(moving, leaves, numbers))

    def update(state: Any, _: None) -> tuple[Any, jax.Array]:
        z, memory, best, best_z, going = state
        value, slope = jax.value_and_grad(value_at)(z)
        better = going & (value < best)  # a NaN is not
        best_z = jax.tree.map(lambda new, old: jnp.where(better, new, old), z, best_z)
        shown_value = jnp.where(going, value, jnp.nan)
        going &= jnp.isfinite(value) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in slope]))
        best = jnp.where(better & jnp.isfinite(value), value, best)
        moves, memory = wide.update(slope, memory, z, value=value, grad=slope, value_fn=value_at)
        moved = optax.apply_updates(z, moves)
        z = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, z)
        return (z, memory, best, best_z, going), shown_value

    def one(z: Any) -> Any:
        begin = (z, wide.init(z), jnp.asarray(jnp.inf, jnp.result_type(float)), z, jnp.asarray(True))
        (_, _, best, best_z, going), history = jax.lax.scan(update, begin, None, length=steps + 1)
        return {"best": best, "leaves": form.at(best_z, leaves, numbers), "history": history, "going": going}

    leaves = [jnp.asarray(leaf) for leaf in leaves]
    return {**jax.vmap(one)(points), "before": value_of(leaves)}


# --- what came out ---------------------------------------------------------------------------------------------------


def _best(schedule: Any, form: _Form, rules: list[_Rule], peak: Any, found: dict[str, Any]) -> Optimized:
    """The best start whose numbers the classes take."""
    before, values = float(found["before"]), found["best"].astype(np.float64)
    ended = np.isinf(values)
    values[ended] = np.nan
    refusal: ValueError | None = None
    kept, start = None, int(np.argmin(np.where(ended, np.inf, values)))
    for i in np.argsort(values, kind="stable")[: int((~ended).sum())].tolist():
        leaves = [
            _leaf(link, rule, leaf[i]) for link, rule, leaf in zip(form.links, rules, found["leaves"], strict=True)
        ]
        try:
            kept, start = form.printed(_checked(form.schedule(leaves)), peak), i
            break
        except ValueError as error:
            refusal, values[i] = error, np.nan
    if kept is None:
        _say_failed(before, values, refusal)
    value = float(values[start])
    if math.isfinite(before) and not value < before:
        kept, value = schedule, before
    return Optimized(
        schedule=kept,
        value=value,
        before=before,
        values=values,
        history=found["history"][start].astype(np.float64),
        start=start,
        failed=int(np.isnan(values).sum()),
        stopped=int((~found["going"] & ~np.isnan(values)).sum()),
    )


def _say_failed(before: float, values: np.ndarray, refusal: ValueError | None) -> None:
    if refusal is not None:
        raise ValueError(
            f"optimize: all {len(values)} starts came to numbers that their class refuses: {refusal} Write bounds for "
            "these fields, or fixed(...)."
        )
    raise ValueError(
        f"optimize: the objective is not finite at any of {len(values)} starts; it is {before:g} at the schedule that "
        "was given. Start from one at which it is finite: objective(schedule)."
    )


def _leaf(link: _Link, rule: _Rule, value: np.ndarray) -> Any:
    """A leaf of the schedule that comes out: of the type that was given, and short where that type is longer."""
    if link.kind is None or isinstance(rule.leaf, jax.Array):
        return rule.leaf if link.kind is None else jnp.asarray(value)
    number = np.clip(_short(value), rule.lo, rule.hi)
    return float(number) if np.ndim(rule.leaf) == 0 else number.astype(np.asarray(rule.leaf).dtype)


def _short(values: Any) -> np.ndarray:
    """Float64 numbers that print as those of a shorter type do, and are rounded to the same."""
    return np.array([float(str(x)) for x in np.ravel(values)], np.float64).reshape(np.shape(values))


def _checked(x: Any) -> Any:
    """The schedules of a pytree made anew, so that their classes look at the numbers."""

    def made(part: Any) -> Any:
        if not is_schedule(part):
            return part
        return part.replace(**{f.name: _checked(getattr(part, f.name)) for f in part._fields if not f.static})

    return jax.tree.map(made, x, is_leaf=is_schedule)
