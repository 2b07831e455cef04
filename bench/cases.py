"""Random hyperparameters for every public schedule: ours, the float64 formula of the same numbers, and optax's peer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from scipy.interpolate import PchipInterpolator

import jaxsched as js

from . import formulas as f

LINEAR, COSINE, POWER = 4, 8, 16  # ulps: lines and staircases; cosines; tanh, real powers, exponentials and the rest


@dataclasses.dataclass(frozen=True)
class Drawn:
    schedule: Any
    formula: f.Formula
    marks: list[float]  # where phases begin and end
    peer: Callable[[Any], Any] | None = None
    until: int = 2**31  # the peer is compared before this step only


class Draw:
    """Random numbers; each float is a float32, so that both precisions see the same one."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def number(self, low: float, high: float) -> float:
        """Log-uniform."""
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def uniform(self, low: float, high: float) -> float:
        return float(np.float32(self.rng.uniform(low, high)))

    def value(self) -> float:
        return self.number(1e-6, 10)

    def value_or_zero(self) -> float:
        return 0.0 if self.rng.random() < 0.5 else self.value()

    def horizon(self, low: float = 10, high: float = 2e9) -> int:
        return round(self.number(low, high))

    def part(self, total: int) -> int:
        """A part of a horizon: any share of it alike, or any size alike; none at times."""
        if self.rng.random() < 0.1:
            return 0
        return int(self.rng.integers(total)) if self.rng.random() < 0.5 else min(total - 1, self.horizon(1, total))

    def cuts(self, total: int, most: int) -> list[int]:
        """Up to `most` steps in order, all above 0."""
        return sorted({int(n) for n in self.rng.integers(1, total + 1, size=self.rng.integers(2, most + 1))})

    def choice(self, options: tuple[Any, ...]) -> Any:
        return options[self.rng.integers(len(options))]


CASES: list[tuple[str, int, Callable[[Draw], Drawn]]] = []


def case(name: str, bar: int) -> Callable[[Callable[[Draw], Drawn]], Callable[[Draw], Drawn]]:
    def register(draw: Callable[[Draw], Drawn]) -> Callable[[Draw], Drawn]:
        CASES.append((name, bar, draw))
        return draw

    return register


# --- ramps -----------------------------------------------------------------------------------------------------------


@case("Constant", LINEAR)
def _(d: Draw) -> Drawn:
    value = d.value()
    return Drawn(js.Constant(value), f.constant(value), [0], optax.constant_schedule(value))


@case("Linear", LINEAR)
def _(d: Draw) -> Drawn:
    init, end, steps = d.value_or_zero(), d.value_or_zero(), d.horizon()
    formula = f.weighted(f.linear, init, end, steps)
    return Drawn(js.Linear(init, end, steps), formula, [steps], optax.linear_schedule(init, end, steps))


@case("Cosine", COSINE)
def _(d: Draw) -> Drawn:
    init, end, steps = d.value(), d.value_or_zero(), d.horizon()
    peer = optax.cosine_decay_schedule(init, steps, end / init)
    return Drawn(js.Cosine(init, end, steps), f.weighted(f.cosine, init, end, steps), [steps], peer)


@case("KDecay", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps, k = d.value_or_zero(), d.value_or_zero(), d.horizon(), d.number(0.3, 4)
    return Drawn(js.schedules.KDecay(init, end, steps, k), f.weighted(f.k_cosine, init, end, steps, k), [steps])


@case("Polynomial", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps, power = d.value_or_zero(), d.value_or_zero(), d.horizon(), d.number(0.3, 4)
    formula = f.weighted(f.polynomial, init, end, steps, power)
    peer = optax.polynomial_schedule(init, end, power, steps)
    return Drawn(js.Polynomial(init, end, steps, power), formula, [steps], peer)


@case("KDecay, polynomial", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps, power, k = d.value(), d.value_or_zero(), d.horizon(), d.number(0.3, 4), d.number(0.3, 4)
    formula = f.weighted(f.polynomial, init, end, steps, power, k)
    return Drawn(js.schedules.KDecay(init, end, steps, k, "polynomial", power), formula, [steps])


@case("Exponential", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps = d.value(), d.value(), d.horizon()
    peer = optax.exponential_decay(init, steps, end / init, end_value=end)
    return Drawn(js.Exponential(init, end, steps), f.ramp("exponential", init, end, 0, steps), [steps], peer)


@case("Rex", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps, beta = d.value_or_zero(), d.value_or_zero(), d.horizon(), d.number(0.01, 10)
    return Drawn(js.Rex(init, end, steps, beta), f.weighted(f.rex, init, end, steps, beta), [steps])


@case("Tanh", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps = d.value_or_zero(), d.value_or_zero(), d.horizon()
    lower = d.uniform(-20, 19)
    upper = d.uniform(lower + 0.5, 20)
    formula = f.weighted(f.tanh, init, end, steps, lower, upper)
    return Drawn(js.Tanh(init, end, steps, lower, upper), formula, [steps])


@case("Tanh, -6 to 3", POWER)
def _(d: Draw) -> Drawn:
    init, end, steps = d.value_or_zero(), d.value_or_zero(), d.horizon()
    return Drawn(js.Tanh(init, end, steps), f.weighted(f.tanh, init, end, steps, -6.0, 3.0), [steps])


_RAMP_BARS = {"linear": LINEAR, "cosine": COSINE, "mirror-cosine": COSINE}
_RAMP_PEERS: dict[str, Callable[[float, float, int], Any]] = {
    "linear": optax.linear_schedule,
    "sqrt": lambda init, end, steps: optax.polynomial_schedule(init, end, 0.5, steps),
    "square": lambda init, end, steps: optax.polynomial_schedule(init, end, 2, steps),
}


def _ramp(shape: str) -> None:
    @case(f"Ramp, {shape}", _RAMP_BARS.get(shape, POWER))
    def _(d: Draw) -> Drawn:
        init, end, steps = d.value_or_zero(), d.value_or_zero(), d.horizon()
        peer = _RAMP_PEERS[shape](init, end, steps) if shape in _RAMP_PEERS else None
        return Drawn(js.Ramp(init, end, steps, shape), f.ramp(shape, init, end, 0, steps), [steps], peer)


for _shape in f.SHAPES:
    _ramp(_shape)


# --- decays ----------------------------------------------------------------------------------------------------------


@case("StepDecay", LINEAR)
def _(d: Draw) -> Drawn:
    init, gamma, size = d.value(), d.uniform(0.05, 1), d.horizon(1, 1e9)
    peer = optax.exponential_decay(init, size, gamma, staircase=True)
    formula = lambda t: init * gamma ** (t // size)  # noqa: E731
    return Drawn(js.StepDecay(init, gamma, size), formula, [size, 2 * size, 7 * size], peer)


@case("MultiStepDecay", LINEAR)
def _(d: Draw) -> Drawn:
    init, gamma, cuts = d.value(), d.uniform(0.05, 1), d.cuts(d.horizon(), 20)
    # A table of one length, so that nothing is compiled again: the rest is out of most steps' reach.
    cuts += [2**31 - 20 + i for i in range(20 - len(cuts))]
    formula = lambda t: init * gamma ** np.searchsorted(cuts, t, side="right")  # noqa: E731
    peer = optax.piecewise_constant_schedule(init, dict.fromkeys(cuts, gamma))
    return Drawn(js.MultiStepDecay(init, gamma, cuts), formula, list(cuts), peer)


def _exponential(staircase: bool, bounded: bool) -> None:
    name = "ExponentialDecay" + ", staircase" * staircase + ", bounded" * bounded

    @case(name, LINEAR if staircase else POWER)
    def _(d: Draw) -> Drawn:
        init, rate, steps = d.value(), d.uniform(0.01, 1), d.horizon()
        end = d.number(1e-6, 1) if bounded else None

        def formula(t: np.ndarray) -> np.ndarray:
            out = init * rate ** (t // steps if staircase else t / steps)
            return out if end is None else np.maximum(out, end)

        peer = optax.exponential_decay(init, steps, rate, staircase=staircase, end_value=end)
        return Drawn(js.ExponentialDecay(init, rate, steps, staircase, end), formula, [steps, 2 * steps], peer)


for _staircase in (False, True):
    for _bounded in (False, True):
        _exponential(_staircase, _bounded)


def _time_decays(staircase: bool) -> None:
    ending = ", staircase" * staircase

    @case("NaturalExpDecay" + ending, LINEAR if staircase else POWER)
    def _(d: Draw) -> Drawn:
        init, rate, steps = d.value(), d.number(1e-3, 10), d.horizon()
        formula = lambda t: init * np.exp(-rate * (t // steps if staircase else t / steps))  # noqa: E731
        peer = optax.exponential_decay(init, steps, float(np.exp(-rate)), staircase=staircase)
        return Drawn(js.NaturalExpDecay(init, rate, steps, staircase), formula, [steps, 3 * steps], peer)

    @case("InverseTimeDecay" + ending, LINEAR if staircase else POWER)
    def _(d: Draw) -> Drawn:
        init, rate, steps = d.value(), d.number(1e-3, 10), d.horizon()
        formula = lambda t: init / (1 + rate * (t // steps if staircase else t / steps))  # noqa: E731
        return Drawn(js.InverseTimeDecay(init, rate, steps, staircase), formula, [steps, 3 * steps])


_time_decays(False)
_time_decays(True)


@case("InverseSqrtDecay", POWER)
def _(d: Draw) -> Drawn:
    init, timescale = d.value(), d.horizon(1)
    return Drawn(js.InverseSqrtDecay(init, timescale), lambda t: init / np.sqrt(1 + t / timescale), [timescale])


@case("PowerDecay", POWER)
def _(d: Draw) -> Drawn:
    init, exponent, timescale = d.value(), d.uniform(0.1, 3), d.horizon(1)
    formula = lambda t: init * np.exp(-exponent * np.log1p(t / timescale))  # noqa: E731
    return Drawn(js.PowerDecay(init, exponent, timescale), formula, [timescale])


# --- pieces ----------------------------------------------------------------------------------------------------------


@case("PiecewiseConstant", LINEAR)
def _(d: Draw) -> Drawn:
    total = d.horizon(100)
    cuts = sorted(int(total * (i + d.rng.random()) / 8) + 1 for i in range(8))
    values = [d.value() for _ in range(9)]
    peer = optax.piecewise_constant_schedule(
        values[0], {cut: b / a for cut, a, b in zip(cuts, values, values[1:], strict=False)}
    )
    formula = lambda t: np.array(values)[np.searchsorted(cuts, t, side="right")]  # noqa: E731
    return Drawn(js.PiecewiseConstant(cuts, values), formula, list(cuts), peer)


def _knots(d: Draw) -> tuple[list[int], list[float]]:
    total = d.horizon(100)
    inner = d.rng.choice(np.arange(1, 8), size=4, replace=False)
    return sorted({0, total, *(int(total * i / 8) for i in inner)}), [d.number(0.01, 1) for _ in range(6)]


def _interpolated(kind: str) -> None:
    @case(f"PiecewiseInterpolate, {kind}", LINEAR if kind == "linear" else COSINE)
    def _(d: Draw) -> Drawn:
        knots, values = _knots(d)
        parts = [f.ramp(kind, a, b, x, y) for a, b, x, y in zip(values, values[1:], knots, knots[1:], strict=False)]
        scales = {x: b / a for x, a, b in zip(knots[1:], values, values[1:], strict=False)}
        peer = jax.vmap(optax.piecewise_interpolate_schedule(kind, values[0], scales))  # takes single steps only
        return Drawn(js.PiecewiseInterpolate(knots, values, kind), f.phases(*parts, at=knots[1:-1]), knots, peer)


_interpolated("linear")
_interpolated("cosine")


@case("PiecewiseInterpolate, pchip", POWER)
def _(d: Draw) -> Drawn:
    knots, values = _knots(d)
    curve = PchipInterpolator(knots, values)
    return Drawn(js.PiecewiseInterpolate(knots, values, "pchip"), lambda t: curve(np.clip(t, 0, knots[-1])), knots)


# --- cycles ----------------------------------------------------------------------------------------------------------


def _triangular(mode: str, upside_down: bool) -> None:
    name = f"CyclicTriangular, {mode}" + ", peak below base" * upside_down

    @case(name, POWER if mode == "exp_range" else LINEAR)
    def _(d: Draw) -> Drawn:
        base, peak = sorted((d.value_or_zero(), d.value()), reverse=upside_down)
        up, down = d.horizon(1, 1e9), d.horizon(1, 1e9)
        gamma = float(np.float32(1 - d.number(1e-7, 0.1))) if mode == "exp_range" else 1.0
        formula = f.triangular(base, peak, up, down, mode, gamma)
        marks = [up, up + down, 2 * up + down, 2 * (up + down)]
        return Drawn(js.CyclicTriangular(base, peak, up, down, mode, gamma), formula, marks)


for _mode in ("triangular", "triangular2", "exp_range"):
    for _upside_down in (False, True):
        _triangular(_mode, _upside_down)


@case("CosineWarmRestarts", COSINE)
def _(d: Draw) -> Drawn:
    peak, period, mult, end = d.value(), d.horizon(), int(d.rng.integers(1, 5)), d.value_or_zero()
    lengths = [period]
    while len(lengths) < 4 and sum(lengths) + lengths[-1] * mult < 2**31:
        lengths.append(lengths[-1] * mult)
    cycle = {"init_value": peak, "peak_value": peak, "warmup_steps": 0, "end_value": end}
    peer = optax.sgdr_schedule([{**cycle, "decay_steps": n} for n in lengths])
    marks = list(np.cumsum(lengths))
    formula = f.warm_restarts(peak, period, mult, end, 1.0)
    return Drawn(js.CosineWarmRestarts(peak, period, mult, end), formula, marks, peer, until=sum(lengths))


@case("CosineWarmRestarts, peak_mult", POWER)
def _(d: Draw) -> Drawn:
    peak, period, mult, end = d.value(), d.horizon(), int(d.rng.integers(1, 5)), d.value_or_zero()
    peak_mult = d.uniform(0.3, 1)
    marks = list(np.cumsum([period * mult**i for i in range(4)]))
    formula = f.warm_restarts(peak, period, mult, end, peak_mult)
    return Drawn(js.CosineWarmRestarts(peak, period, mult, end, peak_mult), formula, marks)


def _polynomial_decay(cycle: bool) -> None:
    @case("PolynomialDecay" + ", cycle" * cycle, POWER)
    def _(d: Draw) -> Drawn:
        init, steps, end, power = d.value(), d.horizon(), d.value_or_zero(), d.number(0.3, 4)
        peer = None if cycle else optax.polynomial_schedule(init, end, power, steps)
        formula = f.polynomial_decay(init, steps, end, power, cycle)
        return Drawn(js.PolynomialDecay(init, steps, end, power, cycle), formula, [steps, 2 * steps, 3 * steps], peer)


_polynomial_decay(False)
_polynomial_decay(True)
