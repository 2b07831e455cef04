"""Gradient descent on schedules: the hyperparameters, or the knots of a free table, that an objective likes best."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._errors import format_value
from ..fields import shortest
from ..schedules.base import as_schedule
from ..schedules.pieces import PiecewiseInterpolate
from ..schedules.recipes import WarmupCosine
from ..sweep.engine import check_whole
from ..sweep.settings import is_schedule
from .constraints import listed
from .coordinates import Form, Link, Rule, numbers_of, rules_of, whole_peak
from .objectives import Objective, check_objective, check_parts, scalar, traced
from .rates import checked_steps

_PLACES = 2**22
"""The most numbers that are kept of the ways of all starts, for the case that a class refuses their ends."""


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
        refuses all numbers on their way.
      stopped: how many others met an objective or a gradient that was not finite later, and stopped there; the best
        that they had seen counts.
      refused: how many starts came to numbers that their class refuses, such as a decay longer than the horizon; the
        best on their way that it takes counts. Those whose best is worse than that of the winner are not looked at.

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
    refused: int

    @property
    def improved(self) -> bool:
        """Whether the schedule is better than the one that was given."""
        return bool(self.value < self.before) or not math.isfinite(self.before)

    def __repr__(self) -> str:
        starts = f"{len(self.values)} start{'s' * (len(self.values) > 1)}"
        lost = [
            f"{n} {what}"
            for n, what in ((self.failed, "failed"), (self.stopped, "stopped"), (self.refused, "refused"))
            if n
        ]
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
    steps stay: write `total_steps=400.5` for a number of steps that is to move. No step leaves the constraints.

    - A schedule is looked at on whole steps, so that an objective has kinks where a length is whole: its slope there
      is that of one side, and may have the other sign beyond. Begin between two steps, 100.5, or with several `starts`.
    - What no field refuses alone its class may refuse: a decay that grew longer than the horizon. The best on the way
      that it takes is what comes out, and `refused` counts it; `bounds(decay_steps=(1, 300))` keep the others going.

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
      >>> from jaxsched.predict import bounds, convex, optimize
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
    held = listed(constraints)
    rules = rules_of(schedule, held)
    links = tuple(rule.link() for rule in rules)
    if not any(link.kind for link in links):
        raise ValueError(
            f"optimize: nothing moves in {format_value(schedule)}; write a float for what is to move, and fix less."
        )
    peak_steps, peak = whole_peak(schedule, held, rules)
    form = Form(jax.tree.structure(schedule), links, peak_steps)
    moving = [(link, rule, *numbers_of(link, rule)) for link, rule in zip(links, rules, strict=True) if link.kind]
    points = _points([link.free(z) for link, _, _, z in moving], starts, spread, seed)
    leaves, numbers = [rule.leaf for rule in rules], [numbers for _, _, numbers, _ in moving]
    optimizer = _adam(steps) if optimizer is None else optimizer
    found = _descend(objective, form, optimizer, steps, leaves, peak, numbers, points)
    way = functools.partial(_on_the_way, form, leaves, numbers, found.pop("way"), _stride(points, steps))
    return _best(schedule, form, rules, peak, jax.device_get(found), way)


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
      >>> from jaxsched.predict import knots
      >>> knots(js.Linear(1.0, 0.0, 100), total_steps=101, n=3)
      PiecewiseInterpolate(knots=[0, 50, 100], values=[1.0, 0.5, 0.0])
    """
    total_steps = checked_steps("knots", "total_steps", total_steps, least=2)
    if checked_steps("knots", "n", n, least=2) > total_steps:
        raise ValueError(f"knots: n={n} and total_steps={total_steps}; write n={total_steps} or less.")
    steps = np.linspace(0, total_steps - 1, n).round().astype(int)
    values = np.asarray(as_schedule("knots", "like", like)(steps))
    return PiecewiseInterpolate(steps, shortest(values), kind)  # type: ignore[arg-type]


def _check_arguments(
    objective: Any, schedule: Any, steps: Any, optimizer: Any, starts: Any, spread: Any, seed: Any
) -> None:
    check_objective("optimize", objective, "a schedule")
    check_parts("optimize", "schedule", schedule, "write one, and starts=8")
    for name, value, least in (("steps", steps, 1), ("starts", starts, 1), ("seed", seed, 0)):
        check_whole("optimize", name, value, least)
    if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0 <= spread < math.inf:
        raise ValueError(f"optimize: spread={format_value(spread)}; spread must be a finite number, 0 or more.")
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimize: optimizer={format_value(optimizer)}; write one of optax, such as optax.adam(0.03).")


@functools.lru_cache(maxsize=32)
def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(WarmupCosine(0.1, steps // 20, steps), b2=0.99)


def _points(centre: list[np.ndarray], starts: int, spread: float, seed: int) -> list[np.ndarray]:
    """The coordinates of all starts, of which the first is the centre."""
    rng = np.random.default_rng(seed)
    points = []
    for z in centre:
        away = spread * rng.standard_normal((starts, *z.shape))
        away[0] = 0
        points.append((z + away).astype(jnp.result_type(float)))
    return points


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _descend(
    objective: Objective, form: Form, optimizer: Any, steps: int, leaves: Any, peak: Any, numbers: Any, points: Any
) -> dict[str, Any]:
    """All starts side by side; of each the best values seen, where they were, and the way."""
    wide = optax.with_extra_args_support(optimizer)

    def value_of(leaves: Any) -> jax.Array:
        schedule = form.peaked(form.schedule(leaves), peak)
        return scalar("optimize", "objective(schedule)", traced("optimize", objective, schedule))

    def value_at(moving: Any) -> jax.Array:
        return value_of(form.at(moving, leaves, numbers))

    every = _stride(points, steps)

    def update(state: Any, step: jax.Array) -> tuple[Any, jax.Array]:
        z, memory, best, best_z, going, way = state
        place = step // every
        way = jax.tree.map(lambda kept, x: kept.at[place].set(jnp.where(step % every, kept[place], x)), way, z)
        value, slope = jax.value_and_grad(value_at)(z)
        better = going & (value < best)  # a NaN is not
        best_z = jax.tree.map(lambda new, old: jnp.where(better, new, old), z, best_z)
        shown_value = jnp.where(going, value, jnp.nan)
        going &= jnp.isfinite(value) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in slope]))
        best = jnp.where(better & jnp.isfinite(value), value, best)
        moves, memory = wide.update(slope, memory, z, value=value, grad=slope, value_fn=value_at)
        moved = optax.apply_updates(z, moves)
        z = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, z)
        return (z, memory, best, best_z, going, way), shown_value

    def one(z: Any) -> Any:
        way = [jnp.zeros((-(-(steps + 1) // every), *x.shape), x.dtype) for x in z]
        begin = (z, wide.init(z), jnp.asarray(jnp.inf, jnp.result_type(float)), z, jnp.asarray(True), way)
        (_, _, best, best_z, going, way), history = jax.lax.scan(update, begin, jnp.arange(steps + 1))
        return {
            "best": best,
            "leaves": form.at(best_z, leaves, numbers),
            "history": history,
            "going": going,
            "way": way,
        }

    leaves = [jnp.asarray(leaf) for leaf in leaves]
    return {**jax.vmap(one)(points), "before": value_of(leaves)}


def _stride(points: Any, steps: int) -> int:
    """Every how many steps a point of the way is kept: all of them, or as many as there is room for."""
    return -(-sum(x.size for x in points) * (steps + 1) // _PLACES)


@functools.partial(jax.jit, static_argnums=0)
def _leaves_at(form: Form, leaves: Any, numbers: Any, way: Any) -> list[Any]:
    """The leaves of the schedule at every point of the way of a start; 0 for those that do not move."""
    moving = [leaf if link.kind else 0.0 for link, leaf in zip(form.links, leaves, strict=True)]
    return jax.vmap(lambda z: form.at(z, moving, numbers))(way)


# --- what came out ---------------------------------------------------------------------------------------------------


def _best(
    schedule: Any, form: Form, rules: list[Rule], peak: Any, found: dict[str, Any], way: Callable[..., Any]
) -> Optimized:
    """The best numbers that the classes take, of all starts."""
    before, values = float(found["before"]), found["best"].astype(np.float64)
    values[np.isinf(values)] = np.nan
    made = functools.partial(_made, form, rules, peak)
    refusal: ValueError | None = None
    kept, start, refused = None, 0, 0
    for i in np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())].tolist():
        if kept is not None and values[start] <= values[i]:
            break
        try:
            one = made([leaf[i] for leaf in found["leaves"]])
        except ValueError as error:
            refusal, refused = error, refused + 1
            values[i], one = way(i, found["history"][i], made)
        if one is not None and (kept is None or values[i] < values[start]):
            kept, start = one, i
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
        refused=refused,
    )


def _on_the_way(
    form: Form,
    leaves: Any,
    numbers: Any,
    way: Any,
    every: int,
    start: int,
    history: np.ndarray,
    made: Callable[[Any], Any],
) -> tuple[float, Any]:
    """The best point of a start that the classes take, and its value; NaN and None where they take none."""
    places = jax.tree.map(lambda x: x[start], way)
    points = jax.device_get(_leaves_at(form, leaves, numbers, places))
    values = history[::every].astype(np.float64)
    for k in np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())].tolist():
        try:
            return float(values[k]), made([leaf[k] for leaf in points])
        except ValueError:
            continue
    return math.nan, None


def _made(form: Form, rules: list[Rule], peak: Any, leaves: list[Any]) -> Any:
    """The schedule of these numbers, or the ValueError of the class that refuses them."""
    parts = zip(form.links, rules, leaves, strict=True)
    return form.printed(_checked(form.schedule([_leaf(link, rule, leaf) for link, rule, leaf in parts])), peak)


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


def _leaf(link: Link, rule: Rule, value: np.ndarray) -> Any:
    """A leaf of the schedule that comes out: of the type that was given, and short where that type is longer."""
    if link.kind is None or isinstance(rule.leaf, jax.Array):
        return rule.leaf if link.kind is None else jnp.asarray(value)
    number = np.clip(shortest(value), rule.lo, rule.hi)
    return float(number) if np.ndim(rule.leaf) == 0 else number.astype(np.asarray(rule.leaf).dtype)


def _checked(x: Any) -> Any:
    """The schedules of a pytree made anew, so that their classes look at the numbers."""

    def made(part: Any) -> Any:
        if not is_schedule(part):
            return part
        return part.replace(**{f.name: _checked(getattr(part, f.name)) for f in part._fields if not f.static})

    return jax.tree.map(made, x, is_leaf=is_schedule)
