"""Gradient descent on the hyperparameters of schedules, or on the knots of a free table."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._errors import FieldError, FieldTypeError
from ..fields import NonNegative, shortest
from ..schedules.base import as_schedule
from ..schedules.pieces import PiecewiseInterpolate
from ..schedules.recipes import WarmupCosine
from ..sweep.settings import is_schedule
from .arguments import Objective, as_scalar, check_count, check_number, check_objective, check_setting, evaluate
from .constraints import Rule, constraint_list, rules_of, whole_peak

_SEGMENT = 128
"""Steps per compiled segment, which bounds the memory for per-step leaves."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Optimized:
    """The result of `optimize`.

    Args:
      schedule: the best one, of any start at any step; the given one if nothing was better.
      value: its objective; `before` is that of the given schedule.
      values: (starts,), the best of each start; NaN for one that failed.
      history: (steps + 1,), the objective of the best start before the first update, and after each.
      start: the best start; 0 is the given schedule.
      failed: the number of starts without a finite objective, or whose class refused all numbers on their way.
      stopped: the number of others that stopped at an objective or a gradient that was not finite.
      refused: the number of starts whose best numbers were refused by their class, such as a decay longer than the
        horizon; the best accepted ones on their way count.
    """

    schedule: Any
    value: float
    before: float
    values: np.ndarray
    history: np.ndarray
    start: int
    failed: int
    stopped: int
    refused: int

    @property
    def improved(self) -> bool:
        """Whether the schedule is better than the given one."""
        return bool(self.value < self.before) or not math.isfinite(self.before)

    def __repr__(self) -> str:
        counts = {"failed": self.failed, "stopped": self.stopped, "refused": self.refused}
        lost = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        starts = f"{len(self.values)} start{'s' * (len(self.values) > 1)}{f' ({lost})' if lost else ''}"
        came = f"{self.before:.6g} -> {self.value:.6g}" if self.improved else f"{self.before:.6g}, not improved"
        return f"<Optimized: {came} in {len(self.history) - 1} steps, {starts}; {self.schedule!r}>"


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
    """Gradient descent on the hyperparameters of a schedule, or on the values of a free table (`knots`).

    All floats move unless a constraint fixes them. Without bounds a number moves by factors and keeps its sign, and 0
    stays 0; fields of a class from 0 to 1, or from 1 on, keep these bounds. Integers and tables of steps do not move:
    write `total_steps=400.5` for one that does. No update leaves the constraints. All starts run in one program, which
    is compiled once for an objective (the same function), a structure of the schedule and the kinds of constraints.

    The objective has kinks where a length is a whole number of steps, and the gradient there is that of one side: start
    between two steps, or with several `starts`.

    Args:
      objective: `objective(schedule) -> scalar`, smaller is better; differentiable by JAX.
      schedule: the start: a schedule, or a pytree of schedules and numbers.
      steps: the number of updates.
      constraints: one or several of `bounds`, `fixed`, `falling` and `fixed_peak`; or a dict by field, such as
        `{"peak_value": (1e-4, 1.0), "end_value": "fixed"}`. A field in a composition is `schedules.0.peak_value`.
      optimizer: of Optax, on the coordinates (logarithms of what moves by factors); `optax.lbfgs()` works too. None:
        Adam, with the rate 0.1, a warmup and a cosine decay to 0.
      starts: the number of starts. The first is the schedule itself.
      spread: the standard deviation of the others around it, 0 or more; 1.0 is a factor of e.
      seed: of the spread.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import bounds, convex, optimize
      >>> def objective(s):
      ...     return convex.bound(s, total_steps=400)
      >>> s = js.Linear(0.01, 0.005, steps=400)
      >>> best = optimize(objective, s, steps=200, constraints=bounds(init_value=(1e-4, 1.0), end_value=(0.0, 0.1)))
      >>> f"{best.before:.3f} -> {best.value:.3f}"
      '0.189 -> 0.101'

    References:
      Schaipp et al., 2025, arXiv 2501.18965, where schedules are found by descent on the bound; Kingma and Ba, 2015.
    """
    check_objective("optimize", objective, "a schedule")
    check_setting("optimize", "schedule", schedule, "write one, and starts=8")
    steps, starts = check_count("optimize", "steps", steps), check_count("optimize", "starts", starts)
    seed, spread = check_count("optimize", "seed", seed, 0), check_number("optimize", "spread", spread, NonNegative)
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise FieldTypeError("optimize", "optimizer", optimizer, "write one of optax, such as optax.adam(0.03)")
    held = constraint_list(constraints)
    rules = rules_of(schedule, held)
    links = [rule.link() for rule in rules]
    if not any(links):
        instead = "write a float for what is to move, and fix less"
        raise FieldError("optimize", "schedule", schedule, instead, note=": nothing moves")
    peak_steps, peak = whole_peak(schedule, held, rules)
    rng, floats = np.random.default_rng(seed), jnp.result_type(float)
    points = [None if link is None else _around(link.start(), starts, spread, rng).astype(floats) for link in links]
    links = jax.tree.map(lambda x: np.asarray(x, floats), links)
    optimizer = _adam(steps) if optimizer is None else optimizer
    descent = _Descent(objective, jax.tree.structure(schedule), peak_steps, optimizer)
    fixed = [jnp.asarray(rule.leaf) for rule in rules], peak, links

    def make(numbers: list[Any]) -> Any:
        """The schedule of these leaves, checked by its class."""
        made = _checked(descent.structure.unflatten(map(_leaf, rules, numbers)))
        return made if peak_steps is None else float(shortest(_factor(made, peak_steps, peak))) * made

    before, state = _begin(descent, fixed, points)
    best: list[tuple[float, Any]] = [(math.nan, None)] * starts
    parts, refusal = [], None
    rounds = -(-(steps + 1) // _SEGMENT)
    length = -(-(steps + 1) // rounds)  # the last round may go on for longer than it counts
    for done in range(0, rounds * length, length):
        state, seen = _advance(descent, length, fixed, state)
        seen = jax.device_get(seen)
        parts.append([seen[name][:, : steps + 1 - done] for name in ("values", "going")])
        for i, values in enumerate(parts[-1][0]):
            leaves = [None if leaf is None else leaf[i] for leaf in seen["leaves"]]
            best[i], error = _improved(best[i], values, leaves, make)
            refusal = error or refusal
    history, going = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return _result(schedule, float(before), history.astype(np.float64), going[:, -1], best, refusal)


def knots(like: Any, total_steps: int, n: int = 16, kind: str = "linear") -> PiecewiseInterpolate:
    """Returns a free table for `optimize`: `n` knots from the first step to the last, with the values of `like`.

    Args:
      like: a schedule, a callable or a number.
      total_steps: the horizon, 2 steps or more.
      n: the number of knots, from 2 to `total_steps`.
      kind: between the knots, `linear`, `cosine` or `pchip`, as in `PiecewiseInterpolate`.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import knots
      >>> knots(js.Linear(1.0, 0.0, 100), total_steps=101, n=3)
      PiecewiseInterpolate(knots=[0, 50, 100], values=[1.0, 0.5, 0.0])
    """
    total_steps = check_count("knots", "total_steps", total_steps, least=2)
    if check_count("knots", "n", n, least=2) > total_steps:
        raise FieldError("knots", ("n", "total_steps"), (n, total_steps), f"write n={total_steps} or less")
    steps = np.linspace(0, total_steps - 1, n).round().astype(int)
    values = np.asarray(as_schedule("knots", "like", like)(steps))
    return PiecewiseInterpolate(steps, shortest(values), kind)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=32)
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(WarmupCosine(0.1, steps // 20, steps), b2=0.99)


def _around(z: np.ndarray, starts: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    away = spread * rng.standard_normal((starts, *z.shape))
    away[0] = 0  # the first start is the given schedule
    return z + away


def _factor(schedule: Any, peak_steps: int, peak: Any) -> jax.Array:
    """The factor by which a `fixed_peak` of the whole schedule multiplies it."""
    return peak / jnp.max(schedule.table(peak_steps))


class _Descent(NamedTuple):
    """What a descent is compiled for, beside the kinds of links. `fixed` are its arrays: leaves, peak and links."""

    objective: Objective
    structure: Any
    peak_steps: int | None
    optimizer: Any

    def leaves(self, fixed: Any, z: Any) -> list[Any]:
        return [
            leaf if link is None else link.value(x).astype(leaf.dtype)
            for leaf, link, x in zip(fixed[0], fixed[2], z, strict=True)
        ]

    def value(self, fixed: Any, leaves: list[Any]) -> jax.Array:
        schedule = self.structure.unflatten(leaves)
        if self.peak_steps is not None:
            schedule = _factor(schedule, self.peak_steps, fixed[1]) * schedule
        return as_scalar("optimize", "objective(schedule)", evaluate("optimize", self.objective, schedule))


@functools.partial(jax.jit, static_argnums=0)
def _begin(descent: _Descent, fixed: Any, points: Any) -> tuple[Any, Any]:
    """The objective at the given leaves, and the state of all starts: coordinates, memory of the optimizer, going."""
    going = jnp.ones(len(jax.tree.leaves(points)[0]), bool)
    return descent.value(fixed, fixed[0]), (points, jax.vmap(descent.optimizer.init)(points), going)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _advance(descent: _Descent, steps: int, fixed: Any, state: Any) -> tuple[Any, dict[str, Any]]:
    """All starts side by side: their state after some steps, and the objective and the moving leaves before each."""
    wide = optax.with_extra_args_support(descent.optimizer)

    def value_at(z: Any) -> jax.Array:
        return descent.value(fixed, descent.leaves(fixed, z))

    def update(state: Any, _: Any) -> tuple[Any, Any]:
        z, memory, going = state
        value, slope = jax.value_and_grad(value_at)(z)
        moving = [None if x is None else leaf for x, leaf in zip(z, descent.leaves(fixed, z), strict=True)]
        seen = {"values": jnp.where(going, value, jnp.nan), "leaves": moving}
        going &= jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((value, slope))]))
        moves, memory = wide.update(slope, memory, z, value=value, grad=slope, value_fn=value_at)
        moved = optax.apply_updates(z, moves)
        z = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, z)
        return (z, memory, going), {**seen, "going": going}

    return jax.vmap(lambda state: jax.lax.scan(update, state, length=steps))(state)


def _improved(
    best: tuple[float, Any], values: np.ndarray, leaves: list[Any], make: Callable[[list[Any]], Any]
) -> tuple[tuple[float, Any], ValueError | None]:
    """The best finite value of one start and its schedule, `best` if none is below it; and the last refusal."""
    refusal = None
    below = np.flatnonzero(np.isfinite(values) & ~(values >= best[0]))
    for k in below[np.argsort(values[below], kind="stable")]:
        try:
            return (float(values[k]), make([None if leaf is None else leaf[k] for leaf in leaves])), refusal
        except ValueError as error:
            refusal = error
    return best, refusal


def _result(
    schedule: Any, before: float, history: np.ndarray, going: np.ndarray, best: list[Any], refusal: ValueError | None
) -> Optimized:
    """The best schedule of all starts, `best` being the value and the schedule of each."""
    values = np.array([value for value, _ in best])
    failed, starts = np.isnan(values), len(values)
    if failed.all():
        note = f": the objective is not finite at any of {starts} starts; it is {before:g} at the given schedule"
        instead = "start from a schedule at which objective(schedule) is finite"
        if refusal is not None:
            note = f": all {starts} starts came to numbers that their class refuses ({refusal})"
            instead = "write bounds for these fields, or fixed(...)"
        raise FieldError("optimize", "schedule", schedule, instead, note=note)
    start = int(np.nanargmin(values))
    value, found = best[start]
    if math.isfinite(before) and not value < before:
        value, found = before, schedule
    reached = np.fmin.reduce(np.where(np.isfinite(history), history, np.nan), axis=1)
    return Optimized(
        schedule=found,
        value=value,
        before=before,
        values=values,
        history=history[start],
        start=start,
        failed=int(failed.sum()),
        stopped=int((~going & ~failed).sum()),
        refused=int((np.isfinite(reached) & ~(values <= reached)).sum()),
    )


def _leaf(rule: Rule, value: Any) -> Any:
    """A leaf of the result, of the type of the given leaf; a Python float is as short as its dtype allows."""
    if value is None or isinstance(rule.leaf, jax.Array):
        return rule.leaf if value is None else jnp.asarray(value)
    number = np.clip(shortest(value), rule.lo, rule.hi)
    return float(number) if np.ndim(rule.leaf) == 0 else number.astype(np.asarray(rule.leaf).dtype)


def _checked(x: Any) -> Any:
    """The pytree with its schedules constructed again, so that their classes check the numbers."""

    def made(part: Any) -> Any:
        if not is_schedule(part):
            return part
        return part.replace(**{f.name: _checked(getattr(part, f.name)) for f in part._fields if not f.static})

    return jax.tree.map(made, x, is_leaf=is_schedule)
