"""Laws from curves: many starts in one program, and the spread of what they might have been."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np

from .._errors import format_value
from .curves import Curve, admit_curves, in_float64
from .fitted import FittedLaw, Settings, log_losses
from .rates import checked_steps

Data = dict[str, Any]

_AGREE = 1e-3
"""Two starts came to the same value if the costs differ by this part."""
_ANGLE = 1e-3
"""Converged: the cosine between the residuals and what each number changes of them is below."""
_CORRECTIONS = 3
_REFITS = 60
_POINTS = 40
"""Of each curve for the starts."""


class Solved(NamedTuple):
    """Where each start came to: the logarithms of the numbers, the cost, and how far from a minimum it is.

    The cost of a point is 0 for a residual of 0; `angle` is the largest cosine between the residuals and what one of
    the numbers changes of them.
    """

    theta: Any
    cost: Any
    angle: Any
    steps: Any


@dataclasses.dataclass(frozen=True)
class Facts:
    """Sizes of the curves, from which starts are drawn."""

    loss: float
    total: float
    peak: float
    steps: int
    fixed: dict[str, float]

    def draw_settled(self, rng: np.random.Generator, starts: int) -> dict[str, np.ndarray]:
        """L0, A and alpha of which the loss after all rates is about the least one."""
        share = rng.uniform(0.02, 0.5, starts)
        alpha = np.exp(rng.uniform(np.log(0.1), np.log(1.2), starts))
        return {"L0": self.loss * (1 - share), "A": self.loss * share * self.total**alpha, "alpha": alpha}


class Problem(NamedTuple):
    """What a law is fitted to: its fixed numbers, the data of each point, and the logarithms of the losses."""

    cls: Any
    fixed: dict[str, float]
    data: Data
    target: np.ndarray
    curve: np.ndarray  # which curve each point is on
    settings: Settings

    def thinned(self, points: int) -> Problem:
        """With so many points of each curve at most."""
        sizes = np.bincount(self.curve)
        ends = np.cumsum(sizes)
        each = [np.linspace(end - n, end - 1, min(points, n)) for n, end in zip(sizes, ends, strict=True)]
        index = np.concatenate(each).round().astype(int)
        data = {name: x[index] for name, x in self.data.items()}
        return self._replace(data=data, target=self.target[index], curve=self.curve[index])

    def solve(self, theta: np.ndarray, target: Any, weight: Any, max_steps: int) -> Solved:
        """For each row of `theta` the numbers that fit that row of `target`, its points weighed by `weight`."""
        few = len(theta) + -len(theta) % 8  # few sizes, so that few programs are compiled
        fill = lambda x: np.concatenate([x, np.broadcast_to(x[-1], (few - len(theta), x.shape[1]))])  # noqa: E731
        target, weight = (fill(np.broadcast_to(x, (len(theta), self.target.size))) for x in (target, weight))
        prior = 2 * self.settings.prior * self.settings.huber * weight.sum(axis=1)
        huber = self.settings.huber
        found = _solve(self.cls, self.fixed, self.data, target, weight, fill(theta), prior, huber, max_steps)
        return Solved(*(np.asarray(x)[: len(theta)] for x in found))

    def law(self, theta: np.ndarray) -> Any:
        """The law of the logarithms of its numbers; several laws, stacked, of rows of them."""
        numbers = dict(zip(self.cls.fitted, np.moveaxis(np.exp(theta), -1, 0), strict=True))
        if theta.ndim == 1:
            return self.cls(**{name: float(x) for name, x in numbers.items()}, **self.fixed)
        return self.cls(**numbers, **{name: np.full(len(theta), x) for name, x in self.fixed.items()})

    def log_losses(self, theta: np.ndarray) -> np.ndarray:
        """What the law says of each point, as the data have it."""
        return np.asarray(log_losses(self.law(theta[None]), self.data))[0]


def fit(cls: Any, fixed: dict[str, float], curves: Any, settings: Settings) -> FittedLaw:
    """The law `cls` of the curves, its numbers but the `fixed` ones.

    The Huber loss of the differences of the logarithms is made least by Levenberg and Marquardt's method on the
    logarithms of the numbers, so that they stay above 0: all starts in one program, on some points of each curve and
    on data that stand for all steps (`_data`, whose size does not grow with them). From the best start on, all points
    are taken, and what those data leave out of the law is added as the difference to the exact law: what comes out is
    the fit of the exact law. Then the residuals are drawn again, in blocks, from all curves, and each curve is left
    out in turn, and the law is fitted again to each.
    """
    owner = f"{cls.__name__}.fit"
    curves = admit_curves(owner, curves)
    _check(owner, settings)
    at = [curve.steps[curve.steps >= max(curve.warmup_steps, 1)] for curve in curves]
    _check_curves(owner, cls, curves, at)
    losses = [curve.losses[curve.losses.size - a.size :] for curve, a in zip(curves, at, strict=True)]
    target = np.log(np.concatenate(losses))
    rng = np.random.default_rng(settings.seed)
    with in_float64():
        data = cls._data([curve.lrs for curve in curves], at, fixed)
        curve = np.repeat(np.arange(len(at)), [a.size for a in at])
        problem = Problem(cls, fixed, data, target, curve, settings)
        theta, agreeing = _from_starts(problem, _facts(curves, target, fixed), rng)
        theta, off, angle = _corrected(problem, curves, at, theta)
        exact = problem.log_losses(theta) + off
        laws, misfits = _again(problem, curves, at, theta, off, rng)
    residuals = [(target - exact)[curve == i] for i in range(len(at))]
    rms = float(np.sqrt(np.mean((target - exact) ** 2)))
    converged = bool(np.isfinite(angle) and angle <= _ANGLE)
    law = problem.law(theta)
    _warn(owner, converged, law, rms, angle, agreeing, settings.starts)
    return FittedLaw(
        law=law, laws=laws, converged=converged, residual=rms, agreeing=agreeing, misfits=misfits,
        curves=curves, at=tuple(at), residuals=tuple(residuals), settings=settings,
    )  # fmt: skip


def _facts(curves: tuple[Curve, ...], target: np.ndarray, fixed: dict[str, float]) -> Facts:
    return Facts(
        loss=float(np.exp(target.min())),
        total=max(float(curve.lrs.sum()) for curve in curves),
        peak=max(float(curve.lrs.max()) for curve in curves),
        steps=max(curve.lrs.size for curve in curves),
        fixed=fixed,
    )


def _from_starts(problem: Problem, facts: Facts, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """The best of all starts, and how many came to it."""
    thin = problem.thinned(_POINTS)
    settings = problem.settings
    drawn = problem.cls._draw(rng, settings.starts, facts)
    first = np.log(np.stack([drawn[name] for name in problem.cls.fitted], axis=1))
    found = thin.solve(first, thin.target, 1.0, settings.max_steps)
    cost = np.where(np.isfinite(found.cost), found.cost, np.inf)
    best = int(np.argmin(cost))
    return np.asarray(found.theta)[best], int(np.sum(cost <= cost[best] * (1 + _AGREE)))


def _corrected(
    problem: Problem, curves: tuple[Curve, ...], at: list[np.ndarray], theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """The numbers that fit the exact law, how far its logarithms are from those of the data, and how well they fit."""
    off, angle = np.zeros_like(problem.target), np.inf
    for i in range(_CORRECTIONS + 1):
        if i:
            law = problem.law(theta)
            exact = [np.asarray(law.predict(c.lrs, a)) for c, a in zip(curves, at, strict=True)]
            off = np.log(np.concatenate(exact)) - problem.log_losses(theta)
        solved = problem.solve(theta[None], problem.target - off, 1.0, problem.settings.max_steps)
        theta, angle = np.asarray(solved.theta[0]), float(solved.angle[0])
    return theta, off, angle


def _again(
    problem: Problem,
    curves: tuple[Curve, ...],
    at: list[np.ndarray],
    theta: np.ndarray,
    off: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Any, tuple[float, ...]]:
    """The laws of residuals drawn again, and by how much the law of the other curves misses the end of each."""
    settings, curve = problem.settings, problem.curve
    exact = problem.log_losses(theta) + off
    residuals = problem.target - exact
    drawn = exact - off + _drawn_again(rng, residuals, curve, settings.bootstrap, settings.block)
    # Without any fall the law of the others says nothing of one.
    out = [i for i in range(len(curves)) if len(curves) > 1 and _falls(curves, at, leave_out=i)]
    weight = np.stack([np.ones(curve.size)] * settings.bootstrap + [(curve != i) * 1.0 for i in out])
    target = np.concatenate([drawn, np.broadcast_to(problem.target - off, (len(out), curve.size))])
    found = np.asarray(problem.solve(np.broadcast_to(theta, (len(target), theta.size)), target, weight, _REFITS).theta)
    laws, others = found[: settings.bootstrap], found[settings.bootstrap :]
    misfits = []
    for i, other in zip(out, others, strict=True):
        missed = (problem.target - off - problem.log_losses(other))[curve == i]
        misfits.append(float(np.mean(missed[-max(1, missed.size // 10) :])))
    return problem.law(laws), tuple(misfits)


@functools.partial(jax.jit, static_argnums=0)
def _solve(
    cls: Any,
    fixed: dict[str, float],
    data: Data,
    targets: Any,
    weights: Any,
    thetas: Any,
    priors: Any,
    huber: Any,
    max_steps: Any,
) -> Solved:
    """For each row of `thetas` the numbers that fit that row of `targets`, from there on."""
    data = jax.tree.map(jnp.asarray, data)
    usual = jnp.log(jnp.array([cls.usual.get(name, 1.0) for name in cls.fitted]))
    held = jnp.array([1.0 if name in cls.usual else 0.0 for name in cls.fitted])

    def residuals(theta: jax.Array, target: jax.Array) -> Any:
        law = cls(**dict(zip(cls.fitted, jnp.exp(theta), strict=True)), **fixed)
        r = jnp.log(law._of_data(data)) - target
        return r, r

    def judged(theta: jax.Array, target: jax.Array, weight: jax.Array, prior: jax.Array) -> Any:
        jacobian, r = jax.jacfwd(residuals, has_aux=True)(theta, target)
        size, away = jnp.abs(r), held * (theta - usual)
        cost = jnp.sum(weight * jnp.where(size <= huber, r * r / 2, huber * (size - huber / 2)))
        weighted = jacobian * (weight * huber / jnp.maximum(size, huber))[:, None]
        cost = cost + prior * jnp.sum(away**2) / 2
        return cost, weighted.T @ r + prior * away, weighted.T @ jacobian + prior * jnp.diag(held)

    def one(theta: jax.Array, target: jax.Array, weight: jax.Array, prior: jax.Array) -> Solved:
        def goes_on(state: Any) -> jax.Array:
            _, _, _, done, step = state
            return ~done & (step < max_steps)

        def step(state: Any) -> Any:
            theta, (cost, slope, curvature), damping, done, step = state
            diagonal = jnp.diagonal(curvature)
            lift = damping * diagonal + 1e-14 * jnp.max(diagonal)
            move = -jax.scipy.linalg.solve(curvature + jnp.diag(lift), slope, assume_a="pos")
            move = move * jnp.minimum(1, 2 / jnp.maximum(jnp.max(jnp.abs(move)), 1e-300))  # by a factor of e^2 at most
            new = judged(theta + move, target, weight, prior)
            better = new[0] < cost
            small = jnp.isfinite(cost) & (cost - new[0] <= 1e-10 * cost) & (jnp.max(jnp.abs(move)) <= 1e-5)
            keep = lambda a, b: jax.tree.map(lambda x, y: jnp.where(better, x, y), a, b)  # noqa: E731
            damping = jnp.where(better, damping / 5, damping * 3)
            done = (better & small) | (damping > 1e12)
            return keep(theta + move, theta), keep(new, (cost, slope, curvature)), damping, done, step + 1

        # The first step goes nowhere and is taken, whatever it costs: so `judged` is compiled once.
        nothing = jnp.asarray(jnp.inf, theta.dtype), jnp.zeros_like(theta), jnp.eye(theta.size, dtype=theta.dtype)
        state = theta, nothing, jnp.asarray(1e-2, theta.dtype), jnp.asarray(False), -1
        theta, (cost, slope, curvature), _, _, steps = jax.lax.while_loop(goes_on, step, state)
        angle = jnp.max(jnp.abs(slope) / jnp.sqrt(jnp.maximum(jnp.diagonal(curvature) * 2 * cost, 1e-300)))
        return Solved(theta, cost, angle, jnp.asarray(steps))

    return jax.vmap(one)(*map(jnp.asarray, (thetas, targets, weights, priors)))


# --- the bootstrap ---------------------------------------------------------------------------------------------------


def _drawn_again(
    rng: np.random.Generator, residuals: np.ndarray, curve: np.ndarray, count: int, block: int | None
) -> np.ndarray:
    """Residuals put together of blocks of neighbours, from anywhere on any curve, (count, points)."""
    size = residuals.size
    length = min(block or _block(residuals, curve), size)
    first = np.searchsorted(curve, curve)  # of the curve of each point
    sizes = np.bincount(curve)[curve]
    starts = rng.integers(size, size=(count, -(-size // length), 1))
    # A block that comes to the end of a curve goes on at the start of it.
    index = first[starts] + (starts - first[starts] + np.arange(length)) % sizes[starts]
    return residuals[index].reshape(count, -1)[:, :size]


def _block(residuals: np.ndarray, curve: np.ndarray) -> int:
    """Twice the lag over which neighbours are alike: up to which their correlation is above 1 / e."""
    lags = [1]
    for i in range(curve[-1] + 1):
        away = residuals[curve == i] - residuals[curve == i].mean()
        power, lag = float(np.sum(away**2)), 1
        while lag < away.size // 4 and float(np.sum(away[lag:] * away[:-lag])) > power / np.e:
            lag += 1
        lags.append(lag)
    return 2 * max(lags)


# --- the door --------------------------------------------------------------------------------------------------------


def _check(owner: str, settings: Settings) -> None:
    checked_steps(owner, "starts", settings.starts)
    checked_steps(owner, "max_steps", settings.max_steps)
    if settings.block is not None:
        checked_steps(owner, "block", settings.block)
    checked_steps(owner, "bootstrap", settings.bootstrap, least=2)
    if isinstance(settings.seed, bool) or not isinstance(settings.seed, (int, np.integer)) or settings.seed < 0:
        raise ValueError(f"{owner}: seed={format_value(settings.seed)}; seed must be an integer, 0 or more.")
    for name, holds, says in (
        ("huber", lambda x: 0 < x < np.inf, "above 0 and finite"),
        ("prior", lambda x: 0 <= x < np.inf, "of 0 or more, such as 1e-4"),
        ("confidence", lambda x: 0 < x < 1, "between 0 and 1, such as 0.95"),
    ):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not holds(value):
            raise ValueError(f"{owner}: {name}={format_value(value)}; {name} must be a number {says}.")


def _check_curves(owner: str, cls: Any, curves: tuple[Curve, ...], at: list[np.ndarray]) -> None:
    for i, curve in enumerate(curves):
        cls.check_rates(f"{owner}: curves[{i}] {curve.name!r}", curve.lrs)
    for curve, a in zip(curves, at, strict=True):
        if not a.size:
            raise ValueError(f"{owner}: {curve!r} has no losses after its warmup, and the law is none of a warmup.")
    needed, points = len(cls.fitted) + 1, sum(a.size for a in at)
    if points < needed:
        inside = sum(curve.steps.size for curve in curves) - points
        raise ValueError(
            f"{owner}: {points} losses after the warmups ({inside} inside of them are left out); for "
            f"{len(cls.fitted)} numbers write {needed} or more."
        )
    if _falls(curves, at):
        return
    raise ValueError(
        f"{owner}: after its warmup no rate of {', '.join(map(repr, curves))} falls before a loss is measured, so "
        "nothing tells what a decay gains; add a curve that decays."
    )


def _falls(curves: tuple[Curve, ...], at: list[np.ndarray], leave_out: int = -1) -> bool:
    """Whether the rate of some curve falls between its warmup and its last loss."""
    others = [(c, a) for i, (c, a) in enumerate(zip(curves, at, strict=True)) if i != leave_out]
    return any(np.any(np.diff(c.lrs[c.warmup_steps : a[-1] + 1]) < 0) for c, a in others)


def _warn(owner: str, converged: bool, law: Any, rms: float, angle: float, agreeing: int, starts: int) -> None:
    said = f"the residual is {rms:.3g} (root mean square of logarithms), and {agreeing} of {starts} starts reached it"
    if not converged:
        away = [f"{name} to {x:.1g}" for name, x in law.numbers().items() if not 1e-9 < x < 1e9 and name in law.fitted]
        instead = (
            f"{' and '.join(away)} ran away, as these curves do not tell so many numbers: add curves whose schedules "
            "differ more, above all in how far and when they fall"
            if away
            else "write more max_steps or starts"
        )
        text = f"{owner}: did not converge (gradient {angle:.2g}): {said}; {instead}."
    elif agreeing == 1 < starts:
        text = f"{owner}: {said}: there may be better ones; write more starts."
    else:
        return
    warnings.warn(text, RuntimeWarning, stacklevel=4)
