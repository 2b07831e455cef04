"""Gradient descent on the hyperparameters of schedules, or on the knots of a free table."""

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

from .._errors import FieldError, FieldTypeError
from ..fields import NonNegative, shortest
from ..schedules.base import as_schedule
from ..schedules.pieces import PiecewiseInterpolate
from ..schedules.recipes import WarmupCosine
from ..sweep.settings import is_schedule
from .arguments import check_count, check_number, check_setting
from .constraints import constraint_list
from .coordinates import Form, Link, Rule, numbers_of, rules_of, whole_peak
from .objectives import Objective, check_objective, scalar, traced


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Optimized:
    """The result of `optimize`.

    Args:
      schedule: the best one, of any start at any step; the given one if nothing was better.
      value: its objective.
      before: the objective of the given schedule.
      values: (starts,), the best of each start; NaN for one that failed.
      history: (steps + 1,), the objective of the best start before the first update, and after each.
      start: the best start; 0 is the given schedule.
      failed: the number of starts without a finite objective, or whose class refused all numbers on their way.
      stopped: the number of others that stopped at an objective or a gradient that was not finite.
      refused: the number of starts whose best numbers were refused by their class, such as a decay longer than the
        horizon; the best accepted ones on their way count. Starts whose best is worse than the winner are not checked.
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

    Returns:
      An `Optimized`, with the best schedule of all steps.

    Raises:
      FieldError, FieldTypeError: for bad arguments, an objective that is not a scalar or cannot be traced, a constraint
        of a field that does not exist or takes no gradient, and if all starts fail.

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
    links = tuple(rule.link() for rule in rules)
    if not any(link.kind for link in links):
        instead = "write a float for what is to move, and fix less"
        raise FieldError("optimize", "schedule", schedule, instead, note=": nothing moves")
    peak_steps, peak = whole_peak(schedule, held, rules)
    form = Form(jax.tree.structure(schedule), links, peak_steps)
    moving = [(link, rule, *numbers_of(link, rule)) for link, rule in zip(links, rules, strict=True) if link.kind]
    points = _points([link.free(z) for link, _, _, z in moving], starts, spread, seed)
    leaves, numbers = [rule.leaf for rule in rules], [numbers for _, _, numbers, _ in moving]
    optimizer = _adam(steps) if optimizer is None else optimizer

    def run(points: list[np.ndarray], keep: bool) -> dict[str, Any]:
        return jax.device_get(_descend(objective, form, optimizer, steps, keep, leaves, peak, numbers, points))

    def replay(start: int) -> tuple[float, Any]:
        return _best_on_the_way(run([z[start : start + 1] for z in points], True), make)

    make = functools.partial(_make, form, rules, peak)
    return _best(schedule, run(points, False), make, replay)


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


def _points(centre: list[np.ndarray], starts: int, spread: float, seed: int) -> list[np.ndarray]:
    """The coordinates of all starts; the first is the centre."""
    rng = np.random.default_rng(seed)
    points = []
    for z in centre:
        away = spread * rng.standard_normal((starts, *z.shape))
        away[0] = 0
        points.append((z + away).astype(jnp.result_type(float)))
    return points


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _descend(
    objective: Objective,
    form: Form,
    optimizer: Any,
    steps: int,
    keep: bool,
    leaves: Any,
    peak: Any,
    numbers: Any,
    points: Any,
) -> dict[str, Any]:
    """All starts side by side: the best value and leaves of each, its history, and with `keep` all leaves."""
    wide = optax.with_extra_args_support(optimizer)

    def value_of(leaves: Any) -> jax.Array:
        schedule = form.peaked(form.schedule(leaves), peak)
        return scalar("optimize", "objective(schedule)", traced("optimize", objective, schedule))

    def value_at(moving: Any) -> jax.Array:
        return value_of(form.at(moving, leaves, numbers))

    def update(state: Any, _: Any) -> tuple[Any, Any]:
        z, memory, best, best_z, going = state
        value, slope = jax.value_and_grad(value_at)(z)
        better = going & (value < best)  # a NaN is not
        best_z = jax.tree.map(lambda new, old: jnp.where(better, new, old), z, best_z)
        seen: dict[str, Any] = {"history": jnp.where(going, value, jnp.nan)}
        if keep:
            seen["way"] = form.at(z, leaves, numbers)
        going &= jnp.isfinite(value) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in slope]))
        best = jnp.where(better & jnp.isfinite(value), value, best)
        moves, memory = wide.update(slope, memory, z, value=value, grad=slope, value_fn=value_at)
        moved = optax.apply_updates(z, moves)
        z = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, z)
        return (z, memory, best, best_z, going), seen

    def one(z: Any) -> Any:
        begin = (z, wide.init(z), jnp.asarray(jnp.inf, jnp.result_type(float)), z, jnp.asarray(True))
        (_, _, best, best_z, going), seen = jax.lax.scan(update, begin, length=steps + 1)
        return {"best": best, "leaves": form.at(best_z, leaves, numbers), "going": going, **seen}

    leaves = [jnp.asarray(leaf) for leaf in leaves]
    return {**jax.vmap(one)(points), "before": value_of(leaves)}


def _best(
    schedule: Any, found: dict[str, Any], make: Callable[[Any], Any], replay: Callable[[int], tuple[float, Any]]
) -> Optimized:
    """The best schedule of all starts that its class accepts; a start whose best is refused is run again."""
    before, values = float(found["before"]), found["best"].astype(np.float64)
    values[np.isinf(values)] = np.nan
    refusal: ValueError | None = None
    kept, start, refused = None, 0, 0
    for i in _finite_order(values):
        if kept is not None and values[start] <= values[i]:
            break
        try:
            one = make([leaf[i] for leaf in found["leaves"]])
        except ValueError as error:
            refusal, refused = error, refused + 1
            values[i], one = replay(i)
        if one is not None and (kept is None or values[i] < values[start]):
            kept, start = one, i
    if kept is None:
        note = f": the objective is not finite at any of {len(values)} starts; it is {before:g} at the given schedule"
        instead = "start from a schedule at which objective(schedule) is finite"
        if refusal is not None:
            note = f": all {len(values)} starts came to numbers that their class refuses ({refusal})"
            instead = "write bounds for these fields, or fixed(...)"
        raise FieldError("optimize", "schedule", schedule, instead, note=note)
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


def _best_on_the_way(found: dict[str, Any], make: Callable[[Any], Any]) -> tuple[float, Any]:
    """The best value of the only start at which the class accepts the numbers, and the schedule; else NaN and None."""
    values = found["history"][0].astype(np.float64)
    for k in _finite_order(values):
        try:
            return float(values[k]), make([leaf[0, k] for leaf in found["way"]])
        except ValueError:
            continue
    return math.nan, None


def _finite_order(values: np.ndarray) -> list[int]:
    return np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())].tolist()


def _make(form: Form, rules: list[Rule], peak: Any, leaves: list[Any]) -> Any:
    """The schedule of these leaves, checked by its class."""
    parts = zip(form.links, rules, leaves, strict=True)
    return form.printed(_checked(form.schedule([_leaf(link, rule, leaf) for link, rule, leaf in parts])), peak)


def _leaf(link: Link, rule: Rule, value: np.ndarray) -> Any:
    """A leaf of the result, of the type of the given leaf; a Python float is as short as its dtype allows."""
    if link.kind is None or isinstance(rule.leaf, jax.Array):
        return rule.leaf if link.kind is None else jnp.asarray(value)
    number = np.clip(shortest(value), rule.lo, rule.hi)
    return float(number) if np.ndim(rule.leaf) == 0 else number.astype(np.asarray(rule.leaf).dtype)


def _checked(x: Any) -> Any:
    """The pytree with its schedules constructed again, so that their classes check the numbers."""

    def made(part: Any) -> Any:
        if not is_schedule(part):
            return part
        return part.replace(**{f.name: _checked(getattr(part, f.name)) for f in part._fields if not f.static})

    return jax.tree.map(made, x, is_leaf=is_schedule)
