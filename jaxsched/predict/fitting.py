"""Fitting laws to loss curves: many starts, and the refits of a bootstrap, as one float64 program.

The least-squares engine is our own because those of SciPy solve one problem at a time and on the host: 64 starts and
200 refits take `_solve` seconds.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np

from .._errors import FieldError, UnknownArgumentError, nearest_name
from .curves import Curve, check_curves, in_float64
from .fitted import FitOptions, FittedLaw, log_losses

_AGREE = 1e-3
"""Two starts agree if their costs differ by at most this share."""
_ANGLE = 1e-3
"""A fit has converged if `Solved.angle` is at most this."""
_CORRECTIONS = 3
_REFITS = 60
_POINTS = 40
"""Points of each curve that the starts use."""


class Solved(NamedTuple):
    """The results of all starts: the logarithms of the numbers, and the cost.

    `angle`, which is 0 at a minimum, is the largest cosine between the residuals and their derivative in a number.
    """

    theta: Any
    cost: Any
    angle: Any


class Facts(NamedTuple):
    """Properties of the curves that the distribution of the starts depends on."""

    loss: float
    total: float
    peak: float
    steps: int

    def draw_settled(self, rng: np.random.Generator, starts: int) -> dict[str, np.ndarray]:
        """Draws L0, A and alpha such that the loss after all rates is about the smallest one."""
        share = rng.uniform(0.02, 0.5, starts)
        alpha = between(rng, 0.1, 1.2, starts)
        return {"L0": self.loss * (1 - share), "A": self.loss * share * self.total**alpha, "alpha": alpha}


def between(rng: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    """Draws numbers whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


class Problem(NamedTuple):
    """A law whose numbers are fitted, the curves, the data of each point, and the logarithms of the losses."""

    form: Any
    curves: tuple[Curve, ...]
    data: dict[str, Any]
    target: np.ndarray
    curve: np.ndarray  # which curve each point is on
    options: FitOptions

    def thinned(self, points: int) -> Problem:
        """Returns the problem with at most `points` points of each curve."""
        sizes = np.bincount(self.curve)
        ends = np.cumsum(sizes)
        each = [np.linspace(end - n, end - 1, min(points, n)) for n, end in zip(sizes, ends, strict=True)]
        index = np.concatenate(each).round().astype(int)
        data = {name: x[index] for name, x in self.data.items()}
        return self._replace(data=data, target=self.target[index], curve=self.curve[index])

    def solve(self, theta: np.ndarray, target: Any, weight: Any, max_steps: int) -> Solved:
        """Solves for each row of `target`, starting from that row of `theta`, with weighted points."""
        target, weight = (np.broadcast_to(x, (len(theta), self.target.size)) for x in (target, weight))
        numbers = self.options.huber, self.options.prior, max_steps
        return jax.device_get(_solve(self.form, self.data, target, weight, theta, *numbers))

    def laws(self, theta: np.ndarray) -> Any:
        """Returns the laws with the logarithms of their numbers in the rows of `theta`, stacked."""
        kept = {name: np.full(len(theta), x) for name, x in self.form.numbers().items()}
        return type(self.form)(**{**kept, **dict(zip(self.form.fitted, np.exp(theta).T, strict=True))})

    def law(self, theta: np.ndarray) -> Any:
        """Returns the law with the logarithms `theta` of its numbers."""
        return jax.tree.map(lambda x: float(x[0]), self.laws(theta[None]))

    def log_losses(self, theta: np.ndarray) -> np.ndarray:
        """The log losses of all points, computed from the data."""
        return np.asarray(log_losses(self.laws(theta[None]), self.data))[0]


def fit(cls: Any, curves: Any, options: dict[str, Any]) -> FittedLaw:
    """Fits the numbers of the law `cls` to curves, except those that the options fix.

    It minimizes the Huber loss of the differences of log losses over the logarithms of the numbers, which keeps them
    above 0. All starts run in one program, on some points of each curve and on data whose size does not depend on the
    steps. The best start goes on with all points, and with the difference between these data and the exact law as a
    correction. Then the law is fitted again to resampled residuals, and without each curve.
    """
    owner = f"{cls.__name__}.fit"
    fixed = {name: options[name] for name in cls.__dataclass_fields__.keys() - set(cls.fitted) if name in options}
    form = cls(**dict.fromkeys(cls.fitted, 1.0), **fixed)
    curves = check_curves(owner, curves)
    chosen = FitOptions()
    for name in options.keys() - fixed.keys() - chosen.__dict__.keys():
        raise UnknownArgumentError(owner, name, options[name], nearest_name(name, chosen.__dict__))
    chosen = dataclasses.replace(chosen, **{name: x for name, x in options.items() if name not in fixed})
    chosen.check(owner)
    _check_curves(owner, form, curves)
    at = [curve.fitted_steps for curve in curves]
    target = np.log(np.concatenate([curve.fitted_losses for curve in curves]))
    rng = np.random.default_rng(chosen.seed)
    with in_float64():
        data = form._data([curve.lrs for curve in curves], at)
        curve = np.repeat(np.arange(len(at)), [a.size for a in at])
        problem = Problem(form, curves, data, target, curve, chosen)
        theta, agreeing = _from_starts(problem, rng)
        theta, off, angle = _corrected(problem, theta)
        missed = target - off - problem.log_losses(theta)
        laws, misfits = _refitted(problem, theta, off, missed, rng)
    residuals = tuple(missed[curve == i] for i in range(len(at)))
    rms = float(np.sqrt(np.mean(missed**2)))
    converged = bool(np.isfinite(angle) and angle <= _ANGLE)
    fitted = FittedLaw(problem.law(theta), laws, converged, rms, agreeing, misfits, curves, residuals, chosen)
    _warn(owner, fitted, angle)
    return fitted


def _from_starts(problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """The best of all starts, and the number of starts that agree with it."""
    thin, options, rates = problem.thinned(_POINTS), problem.options, [curve.lrs for curve in problem.curves]
    facts = Facts(
        loss=float(np.exp(problem.target.min())),
        total=max(float(r.sum()) for r in rates),
        peak=max(float(r.max()) for r in rates),
        steps=max(r.size for r in rates),
    )
    drawn = problem.form._draw(rng, options.starts, facts)
    first = np.log(np.stack([drawn[name] for name in problem.form.fitted], axis=1))
    found = thin.solve(first, thin.target, 1.0, options.max_steps)
    cost = np.where(np.isfinite(found.cost), found.cost, np.inf)
    best = int(np.argmin(cost))
    return found.theta[best], int(np.sum(cost <= cost[best] * (1 + _AGREE)))


def _corrected(problem: Problem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The fit of the exact law, the difference of its log losses from those of the data, and its `angle`."""
    off, angle = np.zeros_like(problem.target), np.inf
    for i in range(_CORRECTIONS + 1):
        if i:
            law = problem.law(theta)
            exact = [np.asarray(law.predict(curve.lrs, curve.fitted_steps)) for curve in problem.curves]
            off = np.log(np.concatenate(exact)) - problem.log_losses(theta)
        solved = problem.solve(theta[None], problem.target - off, 1.0, problem.options.max_steps)
        theta, angle = solved.theta[0], float(solved.angle[0])
    return theta, off, angle


def _refitted(
    problem: Problem, theta: np.ndarray, off: np.ndarray, residuals: np.ndarray, rng: np.random.Generator
) -> tuple[Any, tuple[float, ...]]:
    """The laws of the bootstrap, and the error of the law of all other curves at the end of each curve."""
    options, curve, curves = problem.options, problem.curve, problem.curves
    drawn = problem.log_losses(theta) + _resampled(rng, residuals, curve, options.bootstrap, options.block)
    # Curves without a decay do not determine a law.
    out = [i for i in range(len(curves)) if len(curves) > 1 and _falls([*curves[:i], *curves[i + 1 :]])]
    weight = np.stack([np.ones(curve.size)] * options.bootstrap + [(curve != i) * 1.0 for i in out])
    target = np.concatenate([drawn, np.broadcast_to(problem.target - off, (len(out), curve.size))])
    found = problem.solve(np.broadcast_to(theta, (len(target), theta.size)), target, weight, _REFITS).theta
    misfits = []
    for i, other in zip(out, found[options.bootstrap :], strict=True):
        missed = (problem.target - off - problem.log_losses(other))[curve == i]
        misfits.append(float(np.mean(missed[-max(1, missed.size // 10) :])))
    return problem.laws(found[: options.bootstrap]), tuple(misfits)


@jax.jit
def _solve(
    form: Any, data: Any, targets: Any, weights: Any, thetas: Any, huber: Any, share: Any, max_steps: Any
) -> Solved:
    """Levenberg-Marquardt from each row of `thetas`, for that row of `targets`."""
    usual = jnp.log(jnp.array([form.usual.get(name, 1.0) for name in form.fitted]))
    held = jnp.array([1.0 if name in form.usual else 0.0 for name in form.fitted])

    def residuals(theta: jax.Array, target: jax.Array) -> Any:
        law = form.replace(**dict(zip(form.fitted, jnp.exp(theta), strict=True)))
        r = jnp.log(law._of_data(data)) - target
        return r, r

    def judged(theta: jax.Array, target: jax.Array, weight: jax.Array) -> Any:
        prior = 2 * share * huber * jnp.sum(weight)
        jacobian, r = jax.jacfwd(residuals, has_aux=True)(theta, target)
        size, away = jnp.abs(r), held * (theta - usual)
        cost = jnp.sum(weight * jnp.where(size <= huber, r * r / 2, huber * (size - huber / 2)))
        weighted = jacobian * (weight * huber / jnp.maximum(size, huber))[:, None]
        cost = cost + prior * jnp.sum(away**2) / 2
        return cost, weighted.T @ r + prior * away, weighted.T @ jacobian + prior * jnp.diag(held)

    def one(theta: jax.Array, target: jax.Array, weight: jax.Array) -> Solved:
        def goes_on(state: Any) -> jax.Array:
            _, _, _, done, step = state
            return ~done & (step < max_steps)

        def step(state: Any) -> Any:
            theta, (cost, slope, curvature), damping, done, step = state
            diagonal = jnp.diagonal(curvature)
            lift = damping * diagonal + 1e-14 * jnp.max(diagonal)
            move = -jax.scipy.linalg.solve(curvature + jnp.diag(lift), slope, assume_a="pos")
            move = move * jnp.minimum(1, 2 / jnp.maximum(jnp.max(jnp.abs(move)), 1e-300))  # by a factor of e^2 at most
            new = judged(theta + move, target, weight)
            better = new[0] < cost
            small = jnp.isfinite(cost) & (cost - new[0] <= 1e-10 * cost) & (jnp.max(jnp.abs(move)) <= 1e-5)
            keep = lambda a, b: jax.tree.map(lambda x, y: jnp.where(better, x, y), a, b)  # noqa: E731
            damping = jnp.where(better, damping / 5, damping * 3)
            done = (better & small) | (damping > 1e12)
            return keep(theta + move, theta), keep(new, (cost, slope, curvature)), damping, done, step + 1

        # The first step has no length and is always taken, so that `judged` is compiled once.
        nothing = jnp.asarray(jnp.inf, theta.dtype), jnp.zeros_like(theta), jnp.eye(theta.size, dtype=theta.dtype)
        state = theta, nothing, jnp.asarray(1e-2, theta.dtype), jnp.asarray(False), -1
        theta, (cost, slope, curvature), *_ = jax.lax.while_loop(goes_on, step, state)
        angle = jnp.max(jnp.abs(slope) / jnp.sqrt(jnp.maximum(jnp.diagonal(curvature) * 2 * cost, 1e-300)))
        return Solved(theta, cost, angle)

    return jax.vmap(one)(thetas, targets, weights)


def _resampled(
    rng: np.random.Generator, residuals: np.ndarray, curve: np.ndarray, count: int, block: int | None
) -> np.ndarray:
    """Residuals resampled in blocks of neighbours from all curves, (count, points)."""
    size = residuals.size
    length = min(block or _block(residuals, curve), size)
    first = np.searchsorted(curve, curve)  # of the curve of each point
    sizes = np.bincount(curve)[curve]
    starts = rng.integers(size, size=(count, -(-size // length), 1))
    # A block that reaches the end of a curve continues at the start of it.
    index = first[starts] + (starts - first[starts] + np.arange(length)) % sizes[starts]
    return residuals[index].reshape(count, -1)[:, :size]


def _block(residuals: np.ndarray, curve: np.ndarray) -> int:
    """Twice the lag up to which the autocorrelation of the residuals is above 1 / e."""
    longest = 1
    for i in range(curve[-1] + 1):
        away = residuals[curve == i] - residuals[curve == i].mean()
        power, lag = float(np.sum(away**2)), 1
        while lag < away.size // 4 and float(np.sum(away[lag:] * away[:-lag])) > power / np.e:
            lag += 1
        longest = max(longest, lag)
    return 2 * longest


def _check_curves(owner: str, form: Any, curves: tuple[Curve, ...]) -> None:
    for i, curve in enumerate(curves):
        form.check_rates(f"{owner}: curves[{i}] {curve.name!r}", curve.lrs)
        if not curve.fitted_steps.size:
            note = " has no losses after its warmup"
            raise FieldError(owner, f"curves[{i}]", curve, "leave it out: the law does not hold in a warmup", note=note)
    needed, points = len(form.fitted) + 1, sum(curve.fitted_steps.size for curve in curves)
    if points < needed:
        instead = f"for the {len(form.fitted)} numbers of the law write {needed} or more"
        raise FieldError(owner, "curves", curves, instead, note=f" have {points} losses after the warmups")
    if not _falls(curves):
        note = ": no rate falls between its warmup and its last loss, so the gain of a decay is not identifiable"
        raise FieldError(owner, "curves", curves, "add a curve that decays", note=note)


def _falls(curves: Any) -> bool:
    """Whether the rate of some curve falls between its warmup and its last loss."""
    return any(np.any(np.diff(c.lrs[c.warmup_steps : c.fitted_steps[-1] + 1]) < 0) for c in curves)


def _warn(owner: str, fitted: FittedLaw, angle: float) -> None:
    law, agreeing, starts = fitted.law, fitted.agreeing, fitted.options.starts
    reached = f"{agreeing} of {starts} starts reached it"
    fit = f"the residual is {fitted.residual:.3g} (root mean square of logarithms), and {reached}"
    away = [f"{name} to {getattr(law, name):.1g}" for name in law.fitted if not 1e-9 < getattr(law, name) < 1e9]
    instead = "write more max_steps or starts"
    if away:
        instead = (
            f"the law is not identifiable from these curves ({' and '.join(away)}): add curves whose schedules differ "
            "more, above all in how far and when they decay"
        )
    if not fitted.converged:
        text = f"{owner}: did not converge (gradient {angle:.2g}): {fit}; {instead}."
        warnings.warn(text, RuntimeWarning, stacklevel=4)
    elif agreeing == 1 < starts:
        warnings.warn(f"{owner}: {fit}: there may be better ones; write more starts.", RuntimeWarning, stacklevel=4)
