"""The definitions of the schedules in float64, written from the definitions and not from jaxsched's code.

A weight is told from both sides, w and 1 - w, each by a form of its own without cancellation; `done` is u and `left`
is 1 - u, both taken from integers. Hyperparameters are the float32 numbers that the schedule saw, steps are int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Weights = tuple[Array, Array]  # of the first value and of the last one
Formula = Callable[[Array], Array]


def way(t: Array, start: float, stop: float) -> tuple[Array, Array]:
    """u and 1 - u between two times; all is over where there is no way at all."""
    if stop <= start:
        return np.ones(t.shape), np.zeros(t.shape)
    t = np.clip(t, start, stop)
    return (t - start) / (stop - start), (stop - t) / (stop - start)


def mixed(init: Any, end: Any, weights: Weights) -> Array:
    return init * weights[0] + end * weights[1]


# --- weights on [0, 1] -----------------------------------------------------------------------------------------------


def _log_from_both(x: Array, rest: Array) -> Array:
    """log x, where rest is 1 - x."""
    with np.errstate(divide="ignore"):
        return np.where(rest < 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log(x))


def raised(x: Array, rest: Array, exponent: float) -> Weights:
    """x ** exponent, and one minus it."""
    log = exponent * _log_from_both(x, rest)
    return np.exp(log), -np.expm1(log)


def linear(done: Array, left: Array) -> Weights:
    return left, done


def cosine(done: Array, left: Array) -> Weights:
    return np.sin(np.pi / 2 * left) ** 2, np.sin(np.pi / 2 * done) ** 2


def mirror_cosine(done: Array, left: Array) -> Weights:
    falling, rising = cosine(done, left)
    return 2 * left - falling, 2 * done - rising


def root(done: Array, left: Array) -> Weights:
    return np.sqrt(left), done / (1 + np.sqrt(left))


def one_minus_root(done: Array, left: Array) -> Weights:
    return left / (1 + np.sqrt(done)), np.sqrt(done)


def square(done: Array, left: Array) -> Weights:
    return left**2, done * (1 + left)


def one_minus_square(done: Array, left: Array) -> Weights:
    return left * (1 + done), done**2


SHAPES: dict[str, Callable[[Array, Array], Weights]] = {
    "linear": linear,
    "cosine": cosine,
    "sqrt": root,
    "1-sqrt": one_minus_root,
    "square": square,
    "1-square": one_minus_square,
    "mirror-cosine": mirror_cosine,
}


def k_cosine(done: Array, left: Array, k: float) -> Weights:
    power, rest = raised(done, left, k)
    return cosine(power, rest)


def polynomial(done: Array, left: Array, power: float, k: float = 1.0) -> Weights:
    risen, rest = raised(done, left, k)
    return raised(rest, risen, power)


def rex(done: Array, left: Array, beta: float) -> Weights:
    below = left + beta * done  # 1 - (1 - beta) u
    return left / below, beta * done / below


def tanh(done: Array, left: Array, lower: float, upper: float) -> Weights:
    # tanh a - tanh b = sinh(a - b) / (cosh a cosh b)
    width, x = upper - lower, lower * left + upper * done
    falling = np.sinh(width * left) * np.cosh(lower) / (np.sinh(width) * np.cosh(x))
    rising = np.sinh(width * done) * np.cosh(upper) / (np.sinh(width) * np.cosh(x))
    return falling, rising


# --- schedules of the step -------------------------------------------------------------------------------------------


def ramp(shape: str, init: float, end: float, start: float, stop: float) -> Formula:
    """From init to end between two times, in a shape by its name."""

    def value(t: Array) -> Array:
        done, left = way(t, start, stop)
        if shape == "exponential":
            return np.where(done < 0.5, init * (end / init) ** done, end * (init / end) ** left)
        return mixed(init, end, SHAPES[shape](done, left))

    return value


def weighted(kind: Callable[..., Weights], init: float, end: float, steps: int, *more: float) -> Formula:
    """From init to end in a number of steps."""
    return lambda t: mixed(init, end, kind(*way(t, 0, steps), *more))


def phases(*pieces: Formula, at: list[float]) -> Formula:
    """Each piece from its time on; all of them are written on the common clock."""

    def value(t: Array) -> Array:
        out = pieces[0](t)
        for start, piece in zip(at, pieces[1:], strict=True):
            out = np.where(t >= start, piece(t), out)
        return out

    return value


def constant(value: float) -> Formula:
    return lambda t: np.full(t.shape, value)


def triangular(base: float, peak: float, up: int, down: int, mode: str, gamma: float) -> Formula:
    def value(t: Array) -> Array:
        index, local = np.divmod(t, up + down)
        height = np.where(local < up, local / up, (up + down - local) / down)
        rest = np.where(local < up, (up - local) / up, (local - up) / down)
        factor = {"triangular": 1.0, "triangular2": 0.5 ** np.minimum(index, 1000), "exp_range": gamma**t}[mode]
        return base * (rest + height * (1 - factor)) + peak * height * factor

    return value


def restarts(t: Array, period: int, mult: int) -> tuple[Array, Array, Array]:
    """The cycle that t is in, its local step and its length, in integers."""
    if mult == 1:
        index, local = np.divmod(t, period)
        return index, local, np.full(t.shape, period)
    starts, lengths = [0], [period]
    while starts[-1] < 2**31:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * mult)
    index = np.searchsorted(starts, t, side="right") - 1
    return index, t - np.array(starts)[index], np.array(lengths)[index]


def warm_restarts(peak: float, period: int, mult: int, end: float, peak_mult: float) -> Formula:
    def value(t: Array) -> Array:
        index, local, length = restarts(t, period, mult)
        return mixed(peak * peak_mult**index, end, cosine(local / length, (length - local) / length))

    return value


def polynomial_decay(init: float, steps: int, end: float, power: float, cycle: bool) -> Formula:
    def value(t: Array) -> Array:
        horizon = steps * np.maximum(1, -(-t // steps)) if cycle else np.full(t.shape, steps)
        t = np.minimum(t, horizon)
        return mixed(init, end, raised((horizon - t) / horizon, t / horizon, power))

    return value


def chebyshev(largest: float, smallest: float, period: int) -> Formula:
    order = np.array([1])
    while len(order) < period:
        order = np.stack([order, 2 * len(order) + 1 - order], axis=1).reshape(-1)

    def value(t: Array) -> Array:
        half = (2 * order[t % period] - 1) * np.pi / (4 * period)  # half of the angle
        return 1 / (largest * np.sin(half) ** 2 + smallest * np.cos(half) ** 2)

    return value


def silver(factor: float) -> Formula:
    def value(t: Array) -> Array:
        n = t + 1
        k = np.log2(n & -n)  # exact: a power of two
        return factor * (1 + (1 + np.sqrt(2.0)) ** (k - 1))

    return value
