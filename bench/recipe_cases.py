"""Random hyperparameters for the recipes and the composites; see `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax

import jaxsched as js

from . import formulas as f
from .cases import COSINE, LINEAR, POWER, Draw, Drawn, case

ANY_SHAPE = (*f.SHAPES, "exponential")


# --- warmups ---------------------------------------------------------------------------------------------------------


def _warmup(name: str, bar: int, needs_end: bool = False) -> Any:
    """Registers a recipe of a line up and `down(draw, peak, end, start, stop)`: the rest of ours, formula and peer."""

    def register(down: Any) -> Any:
        @case(name, bar)
        def _(d: Draw) -> Drawn:
            init, peak, end = d.value_or_zero(), d.value(), d.value() if needs_end else d.value_or_zero()
            total = d.horizon()
            warmup = d.part(total)
            extra, formula, peer = down(d, peak, end, warmup, total)
            ours = getattr(js, name.split(",")[0])(peak, warmup, total, init, end, *extra)
            up = f.ramp("linear", init, peak, 0, warmup)
            joined = optax.join_schedules([optax.linear_schedule(init, peak, warmup), peer], [warmup])
            return Drawn(ours, f.phases(up, formula, at=[warmup]), [warmup, total], joined)

        return down

    return register


@_warmup("WarmupLinear", LINEAR)
def _(d: Draw, peak: float, end: float, start: int, stop: int) -> Any:
    return (), f.ramp("linear", peak, end, start, stop), optax.linear_schedule(peak, end, stop - start)


@_warmup("WarmupCosine", COSINE)
def _(d: Draw, peak: float, end: float, start: int, stop: int) -> Any:
    peer = optax.cosine_decay_schedule(peak, stop - start, end / peak)
    return (), f.ramp("cosine", peak, end, start, stop), peer


@_warmup("WarmupPolynomial", POWER)
def _(d: Draw, peak: float, end: float, start: int, stop: int) -> Any:
    power = d.number(0.3, 4)
    formula = lambda t: f.mixed(peak, end, f.polynomial(*f.way(t, start, stop), power))  # noqa: E731
    return (power,), formula, optax.polynomial_schedule(peak, end, power, stop - start)


@_warmup("WarmupExponential", POWER, needs_end=True)
def _(d: Draw, peak: float, end: float, start: int, stop: int) -> Any:
    peer = optax.exponential_decay(peak, stop - start, end / peak, end_value=end)
    return (), f.ramp("exponential", peak, end, start, stop), peer


@case("WarmupConstant", LINEAR)
def _(d: Draw) -> Drawn:
    peak, warmup, init = d.value(), d.part(d.horizon()), d.value_or_zero()
    peer = optax.warmup_constant_schedule(init, peak, warmup) if warmup else None
    return Drawn(js.WarmupConstant(peak, warmup, init), f.ramp("linear", init, peak, 0, warmup), [warmup], peer)


@case("WarmupInverseSqrt", POWER)
def _(d: Draw) -> Drawn:
    peak, warmup, timescale = d.value(), d.part(d.horizon()), d.horizon(1)
    down = lambda t: peak / np.sqrt(1 + np.maximum(t - warmup, 0) / timescale)  # noqa: E731
    formula = f.phases(f.ramp("linear", 0.0, peak, 0, warmup), down, at=[warmup])
    return Drawn(js.WarmupInverseSqrt(peak, warmup, timescale), formula, [warmup])


# --- several phases --------------------------------------------------------------------------------------------------


def _lengths(d: Draw, phases: int) -> tuple[list[int], int]:
    """Lengths of phases, and a horizon that they fit in."""
    total = d.horizon(100)
    return [d.part(total // phases) for _ in range(phases)], total


@case("WarmupStableDecay", POWER)
def _(d: Draw) -> Drawn:
    peak, (warmup, decay), total = d.value(), *_lengths(d, 2)
    shape_up, shape_down = d.choice(ANY_SHAPE), d.choice(ANY_SHAPE)
    init = d.value() if shape_up == "exponential" else d.value_or_zero()
    end = d.value() if shape_down == "exponential" else d.value_or_zero()
    start = total - decay
    formula = f.phases(f.ramp(shape_up, init, peak, 0, warmup), f.ramp(shape_down, peak, end, start, total), at=[start])
    ours = js.WarmupStableDecay(peak, warmup, total, decay, init, end, shape_up, shape_down)
    return Drawn(ours, formula, [warmup, start, total])


@case("WarmupStableDecay, linear", LINEAR)
def _(d: Draw) -> Drawn:
    peak, (warmup, decay), total, init, end = d.value(), *_lengths(d, 2), d.value_or_zero(), d.value_or_zero()
    start = total - decay
    formula = f.phases(f.ramp("linear", init, peak, 0, warmup), f.ramp("linear", peak, end, start, total), at=[start])
    parts = [optax.linear_schedule(init, peak, warmup), optax.linear_schedule(peak, end, decay)]
    ours = js.WarmupStableDecay(peak, warmup, total, decay, init, end, "linear", "linear")
    peer = optax.join_schedules(parts, [start]) if warmup and decay else None
    return Drawn(ours, formula, [warmup, start, total], peer)


@case("TriStage", POWER)
def _(d: Draw) -> Drawn:
    peak, (warmup, hold, decay), init, end = d.value(), _lengths(d, 3)[0], d.value_or_zero(), d.value()
    start = warmup + hold
    stop = start + decay
    formula = f.phases(
        f.ramp("linear", init, peak, 0, warmup), f.ramp("exponential", peak, end, start, stop), at=[start]
    )
    return Drawn(js.TriStage(peak, warmup, hold, decay, init, end), formula, [warmup, start, stop])


@case("InfiniteSchedule", POWER)
def _(d: Draw) -> Drawn:
    peak, plateau, end, init = d.value(), d.value(), d.value(), d.value_or_zero()
    (warmup, cooldown, decay), total = _lengths(d, 3)
    formula = f.phases(
        f.ramp("linear", init, peak, 0, warmup),
        f.ramp("cosine", peak, plateau, warmup, warmup + cooldown),
        f.ramp("exponential", plateau, end, total - decay, total),
        at=[warmup, total - decay],
    )
    ours = js.schedules.InfiniteSchedule(peak, plateau, warmup, cooldown, total, decay, end, init)
    return Drawn(ours, formula, [warmup, warmup + cooldown, total - decay, total])


@case("PowerSchedule", POWER)
def _(d: Draw) -> Drawn:
    batch, tokens, (warmup, decay), total = d.number(16, 4096), d.number(1e3, 1e7), *_lengths(d, 2)
    exponent, amplitude, most, end = -d.uniform(0.1, 1), d.number(0.1, 10), d.number(1e-4, 1), d.value_or_zero()
    start = total - decay

    def body(t: np.ndarray) -> np.ndarray:
        law = np.minimum(most, batch * amplitude * (np.maximum(t, 1) * tokens) ** exponent)
        return law * f.ramp("linear", 0.0, 1.0, 0, warmup)(t)

    down = f.ramp("linear", float(body(np.array(start))), end, start, total)
    ours = js.schedules.PowerSchedule(batch, tokens, total, warmup, decay, most, amplitude, exponent, end)
    return Drawn(ours, f.phases(body, down, at=[start]), [warmup, start, total])


def _one_cycle(momentum: bool, shape: str) -> None:
    name = "OneCycleMomentum" if momentum else "OneCycle"

    @case(f"{name}, {shape}", COSINE if shape == "cosine" else LINEAR)
    def _(d: Draw) -> Drawn:
        total, three = d.horizon(20), bool(d.rng.integers(2))
        pct = d.uniform(0.1, 0.45)
        if momentum:
            middle, first = d.uniform(0.5, 1), d.uniform(0.5, 1)
            last, ours = first, js.OneCycleMomentum(middle, first, total, pct, shape, three)
        else:
            middle, div, final = d.value(), d.number(1, 100), d.number(1, 1e5)
            first, last = middle / div, middle / div / final
            ours = js.OneCycle(middle, total, pct, div, final, shape, three)
        ends = [0.0, pct * total - 1, *([2 * pct * total - 2] if three else []), total - 1.0]
        values = [first, middle, *([first] if three else []), last]
        parts = [f.ramp(shape, values[i], values[i + 1], ends[i], ends[i + 1]) for i in range(len(ends) - 1)]
        return Drawn(ours, f.phases(*parts, at=ends[1:-1]), ends[1:])


for _momentum in (False, True):
    for _shape in ("linear", "cosine"):
        _one_cycle(_momentum, _shape)


# --- without phases --------------------------------------------------------------------------------------------------


@case("Noam", POWER)
def _(d: Draw) -> Drawn:
    width, warmup, factor = d.number(16, 16384), d.horizon(), d.value()
    formula = lambda t: factor * width**-0.5 * np.minimum((t + 1.0) ** -0.5, (t + 1.0) * warmup**-1.5)  # noqa: E731
    return Drawn(js.Noam(width, warmup, factor), formula, [warmup - 1])


@case("ChebyshevSteps", COSINE)
def _(d: Draw) -> Drawn:
    largest, smallest, period = d.number(1, 100), d.number(1e-4, 0.9), 2 ** int(d.rng.integers(1, 13))
    return Drawn(
        js.schedules.ChebyshevSteps(largest, smallest, period), f.chebyshev(largest, smallest, period), [period]
    )


@case("SilverSteps", POWER)
def _(d: Draw) -> Drawn:
    factor = d.value()
    return Drawn(
        js.schedules.SilverSteps(factor), f.silver(factor), [2 ** int(n) - 1 for n in d.rng.integers(1, 31, size=4)]
    )


# --- composites, over a line, a cosine, and stairs -------------------------------------------------------------------


def _pair(d: Draw) -> tuple[js.Schedule, f.Formula, js.Schedule, f.Formula, list[float]]:
    a, b, c, e = d.value(), d.value(), d.value(), d.value()
    n, m = d.horizon(), d.horizon()
    return js.Linear(a, b, n), f.ramp("linear", a, b, 0, n), js.Cosine(c, e, m), f.ramp("cosine", c, e, 0, m), [n, m]


@case("Join", COSINE)
def _(d: Draw) -> Drawn:
    line, g, wave, h, marks = _pair(d)
    at = d.horizon()
    formula = f.phases(g, lambda t: h(np.maximum(t - at, 0)), at=[at])
    return Drawn(line.then(wave, at=at), formula, [*marks, at, at + marks[1]])


@case("Sum", COSINE)
def _(d: Draw) -> Drawn:
    line, g, wave, h, marks = _pair(d)
    return Drawn(line + wave, lambda t: g(t) + h(t), marks)


@case("Product", COSINE)
def _(d: Draw) -> Drawn:
    line, g, wave, h, marks = _pair(d)
    return Drawn(line * wave, lambda t: g(t) * h(t), marks)


@case("Clip", COSINE)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    low, high = sorted((d.value(), d.value()))
    return Drawn(wave.clip(low, high), lambda t: np.clip(h(t), low, high), marks)


@case("Shift", COSINE)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    by = d.horizon(1, 2e9) * d.choice((1, -1))
    return Drawn(wave.shift(by), lambda t: h(np.maximum(t - by, 0)), [max(by, 0), max(marks[1] + by, 0)])


@case("Hold", COSINE)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    every = d.horizon(1, 1e6)
    return Drawn(wave.hold(every), lambda t: h(t // every * every), [every, marks[1]])


@case("PerEpoch", COSINE)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    every = d.horizon(1, 1e5)
    return Drawn(wave.per_epoch(every), lambda t: h(t // every), [every, min(marks[1] * every, 2**31 - 1)])


@case("Repeat", COSINE)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    period, mult = marks[1], int(d.rng.integers(2, 5))

    def formula(t: np.ndarray) -> np.ndarray:
        _, local, length = f.restarts(t, period, mult)
        return h(local * (period / length))

    return Drawn(wave.repeat(period, mult), formula, [period, period * (1 + mult)])


@case("Warmup", POWER)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    shape, steps = d.choice(ANY_SHAPE), d.part(d.horizon())
    factor = d.uniform(0.01, 1)
    up = f.ramp(shape, factor, 1.0, 0, steps)
    return Drawn(wave.warmup(steps, shape, factor), lambda t: h(t) * up(t), [*marks, steps])


@case("Cooldown", POWER)
def _(d: Draw) -> Drawn:
    _, _, wave, h, marks = _pair(d)
    at, steps, end, shape = d.horizon(1, 1e9), d.part(d.horizon(10, 1e9)), d.value(), d.choice(ANY_SHAPE)
    down = f.ramp(shape, float(h(np.array(at))), end, at, at + steps)
    return Drawn(wave.cooldown(at, steps, end, shape), f.phases(h, down, at=[at]), [*marks, at, at + steps])
