"""Every public schedule, with hyperparameters to draw and its formula in extended precision.

The formulas are written anew from the definitions, on longdouble arrays (64 bits of mantissa on x86), where the
plain textbook form loses nothing that float32 could show. They share no code with the package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

import jaxsched as js
from jaxsched.schedules import base

L = np.longdouble
PI = L("3.14159265358979323846264338327950288")
LAST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Case:
    cls: Any
    draw: Callable[[np.random.Generator, int], dict[str, Any]]  # (rng, horizon) -> fields
    ref: Callable[[Any, np.ndarray], Any]  # (fields as longdouble or int, steps) -> values
    ulp: float
    marks: Callable[[Any], list[float]] = lambda f: []  # where the formula changes
    ends: Callable[[Any], dict[int, Any]] = lambda f: {}  # steps with an exact value
    monotone: Callable[[Any], int] = lambda f: 0  # +1 rises, -1 falls, 0 neither
    slack: int = 0  # ulps by which neighbouring steps may stand in the wrong order
    name: str = ""

    @property
    def id(self) -> str:
        return self.name or self.cls.__name__


class Fields:
    """The fields as the reference sees them: floats as they are in float32, in extended precision."""

    def __init__(self, fields: dict[str, Any]):
        for name, value in fields.items():
            if isinstance(value, (np.float32, np.ndarray)) and np.asarray(value).dtype == np.float32:
                value = np.asarray(value).astype(L) if np.ndim(value) else L(value)
            setattr(self, name, value)


def f32(x: Any) -> Any:
    return np.float32(x)


def log_int(rng: np.random.Generator, low: float, high: float) -> int:
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def rate(rng: np.random.Generator) -> np.float32:
    return f32(10 ** rng.uniform(-5, 0))


def ends_of(rng: np.random.Generator) -> dict[str, np.float32]:
    """Two non-negative ends, often with a zero, often far apart, sometimes equal."""
    high, low = rate(rng), f32(rate(rng) * 10 ** rng.uniform(-6, 0)) * f32(rng.random() < 0.6)
    pair = [(high, low), (low, high), (high, high)][rng.choice(3, p=[0.6, 0.3, 0.1])]
    return dict(zip(("init_value", "end_value"), pair, strict=True))


def ramp_fields(rng: np.random.Generator, horizon: int) -> dict[str, Any]:
    return {**ends_of(rng), "steps": horizon}


def way(t: Any, n: Any) -> tuple[Any, Any]:
    return Way(t, n).u, Way(t, n).v


class Way:
    """u = t / n in [0, 1] and v = 1 - u, each from the integers; u = 1 where there is no way at all."""

    def __init__(self, t: Any, n: Any):
        t, n = np.asarray(t).astype(L), L(n)
        self.u = np.clip(t / n, 0, 1) if n > 0 else np.ones_like(t)
        self.v = np.clip((n - t) / n, 0, 1) if n > 0 else np.zeros_like(t)


def blend(init: Any, end: Any, weight: Any, rest: Any = None) -> Any:
    """`weight` is the share of `init`, `rest` that of `end` (where 1 - weight would cancel)."""
    return init * weight + end * (1 - weight if rest is None else rest)


def rise(u: Any) -> Any:
    """(1 - cos(pi u)) / 2"""
    return np.sin(PI / 2 * u) ** 2


def power_of(u: Any, v: Any, k: Any) -> tuple[Any, Any]:
    """(u^k, 1 - u^k)"""
    with np.errstate(divide="ignore"):
        return u**k, -np.expm1(k * np.where(u > 0.5, np.log1p(-v), np.log(u)))


WEIGHTS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {  # (u, 1 - u) -> the shares of init and of end
    "linear": lambda u, v: (v, u),
    "cosine": lambda u, v: (rise(v), rise(u)),
    "sqrt": lambda u, v: (np.sqrt(v), u / (1 + np.sqrt(v))),
    "1-sqrt": lambda u, v: (v / (1 + np.sqrt(u)), np.sqrt(u)),
    "square": lambda u, v: (v**2, u * (1 + v)),
    "1-square": lambda u, v: (v * (1 + u), u**2),
    "mirror-cosine": lambda u, v: (2 * v - rise(v), 2 * u - rise(u)),
}


def ramp_ref(shape: str, init: Any, end: Any, t: np.ndarray, n: Any) -> Any:
    way = Way(t, n)
    if shape == "exponential":
        return np.where(way.u < 1, init * (end / init) ** way.u, end)
    return blend(init, end, *WEIGHTS[shape](way.u, way.v))


def ramp_case(
    cls: Any, weight: Callable[[Any, Any], Any], ulp: float, more: Any = lambda rng: {}, slack: int = 0
) -> Case:
    return Case(
        cls,
        lambda rng, n: {**ramp_fields(rng, n), **more(rng)},
        lambda f, t: blend(f.init_value, f.end_value, *weight(f, *way(t, f.steps))),
        ulp,
        lambda f: [f.steps, f.steps / 2],
        lambda f: {0: f.init_value, f.steps: f.end_value, LAST: f.end_value},
        lambda f: int(np.sign(f.end_value - f.init_value)),
        slack,
    )


def shaped_case(shape: str) -> Case:
    def draw(rng: np.random.Generator, n: int) -> dict[str, Any]:
        fields = {**ramp_fields(rng, n), "shape": shape}
        if shape == "exponential":
            fields |= {name: f32(fields[name] + f32(1e-9)) for name in ("init_value", "end_value")}
        return fields

    return Case(
        js.Ramp,
        draw,
        lambda f, t: ramp_ref(shape, f.init_value, f.end_value, t, f.steps),
        {"linear": 4, "cosine": 8, "mirror-cosine": 8}.get(shape, 16),
        lambda f: [f.steps, f.steps / 2],
        lambda f: {0: f.init_value, f.steps: f.end_value, LAST: f.end_value},
        lambda f: int(np.sign(f.end_value - f.init_value)),
        slack=4,
        name=f"Ramp[{shape}]",
    )


def near_one(rng: np.random.Generator) -> np.float32:
    """A factor below 1, sometimes so near that only thousands of stairs show it."""
    return f32(1 - 10 ** rng.uniform(-6, -0.1))


def stairs(t: np.ndarray, n: Any) -> np.ndarray:
    return np.asarray(t) // n if isinstance(n, int) else np.floor(np.asarray(t).astype(L) / n)


def exponent(f: Any, t: np.ndarray) -> Any:
    return stairs(t, f.decay_steps).astype(L) if f.staircase else np.asarray(t).astype(L) / L(f.decay_steps)


def table_steps(rng: np.random.Generator, horizon: int, count: int) -> np.ndarray:
    return np.sort(rng.choice(min(horizon, 10**6), size=count, replace=False)) * max(1, horizon // 10**6) + 1


def warm(f: Any, t: np.ndarray, rest: Callable[[np.ndarray], Any], init: Any = None) -> Any:
    """The linear warmup, and then `rest` on its own clock."""
    init = f.init_value if init is None else init
    after = np.maximum(np.asarray(t) - f.warmup_steps, 0)
    return np.where(
        np.asarray(t) < f.warmup_steps, ramp_ref("linear", init, f.peak_value, t, f.warmup_steps), rest(after)
    )


def warm_fields(rng: np.random.Generator, total: int) -> dict[str, Any]:
    peak = rate(rng)
    return {
        "peak_value": peak,
        "warmup_steps": int(total * rng.choice([0, 0.01, 0.3, 1])),
        "total_steps": total,
        "init_value": f32(peak * rng.choice([0, 0.1])),
        "end_value": f32(peak * rng.choice([0, 0.01])),
    }


def warm_case(cls: Any, rest: Callable[[Any, np.ndarray], Any], ulp: float, more: Any = lambda rng: {}) -> Case:
    return Case(
        cls,
        lambda rng, total: {**warm_fields(rng, total), **more(rng)},
        lambda f, t: warm(f, t, lambda after: rest(f, after)),
        ulp,
        lambda f: [f.warmup_steps, f.total_steps],
        lambda f: {f.warmup_steps: f.peak_value if f.warmup_steps < f.total_steps else f.end_value,
                   f.total_steps: f.end_value, LAST: f.end_value},
    )  # fmt: skip


def one_cycle_ref(f: Any, t: np.ndarray, first: Any, middle: Any, last: Any) -> Any:
    t = np.asarray(t).astype(L)
    pct, total = f.pct_start, L(f.total_steps)
    ends, values = [L(0), pct * total - 1, total - 1], [first, middle, last]
    if f.three_phase:
        ends, values = [L(0), pct * total - 1, 2 * pct * total - 2, total - 1], [first, middle, first, last]
    out = np.zeros_like(t) + values[-1]
    for a, b, x, y in reversed(list(zip(ends, ends[1:], values, values[1:], strict=False))):
        u, v = np.clip((t - a) / (b - a), 0, 1), np.clip((b - t) / (b - a), 0, 1)
        out = np.where(t < b, blend(x, y, *WEIGHTS[f.shape](u, v)), out)
    return out


def one_cycle_fields(rng: np.random.Generator, total: int) -> dict[str, Any]:
    three = bool(rng.random() < 0.5)
    return {
        "total_steps": total,
        "pct_start": f32(rng.uniform(0.15, 0.45)),
        "shape": str(rng.choice(["cosine", "linear"])),
        "three_phase": three,
    }


def cycles_of(t: np.ndarray, period: int, mult: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index, elapsed, length) of every step, in Python's unbounded integers."""
    index, elapsed, lengths = [], [], []
    for step in np.ravel(t).tolist():
        if mult == 1:
            i, start, length = step // period, step // period * period, period
        else:
            i, start, length = 0, 0, period
            while step >= start + length:
                i, start, length = i + 1, start + length, length * mult
        index.append(i), elapsed.append(step - start), lengths.append(length)
    return tuple(np.array(x, dtype=object).astype(L).reshape(np.shape(t)) for x in (index, elapsed, lengths))  # type: ignore[return-value]


def restart_marks(period: int, mult: int) -> list[float]:
    marks, start, length = [], 0, period
    while start < LAST and len(marks) < 40:
        marks.append(start)
        start, length = start + length, length * mult
    return marks


def triangle_ref(f: Any, t: np.ndarray) -> Any:
    whole = f.up_steps + f.down_steps
    index, clock = np.asarray(t) // whole, (np.asarray(t) % whole).astype(L)
    tri = np.where(clock < f.up_steps, clock / L(f.up_steps), (whole - clock) / L(f.down_steps))
    height = {
        "triangular": lambda: L(1),
        "triangular2": lambda: L(2) ** -index.astype(L),
        "exp_range": lambda: f.decay_rate ** np.asarray(t).astype(L),
    }[f.mode]()
    return blend(f.peak_value, f.base_value, tri * height)


def polynomial_decay_ref(f: Any, t: np.ndarray) -> Any:
    t = np.asarray(t).astype(np.int64)
    n = f.decay_steps * np.maximum(1, -(-t // f.decay_steps)) if f.cycle else np.full_like(t, f.decay_steps)
    left = np.maximum(n - t, 0).astype(L) / n.astype(L)
    return blend(f.init_value, f.end_value, left**f.power)


def chebyshev_ref(f: Any, t: np.ndarray) -> Any:
    order = [1]
    while len(order) < f.period:
        size = len(order)
        order = [x for o in order for x in (o, 2 * size + 1 - o)]
    j = np.array(order)[np.asarray(t) % f.period].astype(L)
    low, high = f.min_curvature, f.max_curvature
    return 1 / ((high + low) / 2 - (high - low) / 2 * np.cos((j - L(0.5)) * PI / f.period))


def silver_ref(f: Any, t: np.ndarray) -> Any:
    n = np.asarray(t).astype(np.int64) + 1
    k = np.log2((n & -n).astype(np.float64)).astype(L)
    return f.factor * (1 + (1 + np.sqrt(L(2))) ** (k - 1))


def infinite_ref(f: Any, t: np.ndarray) -> Any:
    t = np.asarray(t)
    out = warm(f, t, lambda a: ramp_ref("cosine", f.peak_value, f.constant_value, a, f.cooldown_steps))
    at = f.total_steps - f.decay_steps
    last = ramp_ref("exponential", f.constant_value, f.end_value, np.maximum(t - at, 0), f.decay_steps)
    return np.where(t >= at, last, out)


def power_schedule_ref(f: Any, t: np.ndarray) -> Any:
    def body(t: np.ndarray) -> Any:
        tokens = np.maximum(np.asarray(t), 1).astype(L) * f.tokens_per_step
        rates = np.minimum(f.peak_value, f.batch_size * f.amplitude * tokens**f.exponent)
        return rates * Way(t, f.warmup_steps).u

    at = f.total_steps - f.decay_steps
    way = Way(np.maximum(np.asarray(t) - at, 0), f.decay_steps)
    return np.where(np.asarray(t) >= at, blend(body(np.array(at)), f.end_value, way.v, way.u), body(t))


def wsd_fields(rng: np.random.Generator, total: int) -> dict[str, Any]:
    fields = warm_fields(rng, total)
    fields["warmup_steps"] = int(total * rng.choice([0, 0.1, 0.5]))
    fields["decay_steps"] = int((total - fields["warmup_steps"]) * rng.choice([0, 0.2, 1]))
    shapes = ["linear", "1-sqrt", "cosine", "square"]
    return fields | {"warmup_shape": str(rng.choice(shapes)), "decay_shape": str(rng.choice(shapes))}


def wsd_ref(f: Any, t: np.ndarray) -> Any:
    at = f.total_steps - f.decay_steps
    up = ramp_ref(f.warmup_shape, f.init_value, f.peak_value, t, f.warmup_steps)
    down = ramp_ref(f.decay_shape, f.peak_value, f.end_value, np.maximum(np.asarray(t) - at, 0), f.decay_steps)
    return np.where(np.asarray(t) >= at, down, up)


def falling(f: Any) -> int:
    del f
    return -1


def up_to(low: float, high: float, name: str) -> Callable[[np.random.Generator], dict[str, Any]]:
    return lambda rng: {name: f32(rng.uniform(low, high))}


def polynomial_weights(f: Any, u: Any, v: Any) -> tuple[Any, Any]:
    done, left = power_of(u, v, getattr(f, "k", 1))
    with np.errstate(divide="ignore"):
        rest = -np.expm1(f.power * np.where(done < 0.5, np.log1p(-done), np.log(left)))
    return left**f.power, rest


def tanh_weights(f: Any, u: Any, v: Any) -> tuple[Any, Any]:
    x, width = f.lower * v + f.upper * u, np.tanh(f.upper) - np.tanh(f.lower)
    return (np.tanh(f.upper) - np.tanh(x)) / width, (np.tanh(x) - np.tanh(f.lower)) / width


RAMPS = [
    ramp_case(js.Linear, lambda f, u, v: (v, u), 4),
    ramp_case(
        js.schedules.KDecay,
        lambda f, u, v: tuple(map(rise, power_of(u, v, f.k)[::-1])),
        16,
        lambda rng: {"k": f32(rng.choice([1, 0.5, 2.2]))},
        16,
    ),
    ramp_case(js.Cosine, lambda f, u, v: (rise(v), rise(u)), 8),
    ramp_case(js.Polynomial, polynomial_weights, 16, lambda rng: {"power": f32(rng.choice([1, 0.5, 3.3]))}, 16),
    dataclasses.replace(
        ramp_case(
            js.schedules.KDecay,
            polynomial_weights,
            16,
            lambda rng: {
                "shape": "polynomial",
                "power": f32(rng.choice([1, 0.5, 3.3])),
                "k": f32(rng.choice([1, 0.5, 2.2])),
            },
            16,
        ),
        name="KDecay[polynomial]",
    ),
    Case(
        js.Exponential,
        lambda rng, n: {"init_value": rate(rng), "end_value": f32(rate(rng) * 10 ** rng.uniform(-12, 0)), "steps": n},
        lambda f, t: ramp_ref("exponential", f.init_value, f.end_value, t, f.steps),
        16,
        lambda f: [f.steps, f.steps / 2],
        lambda f: {0: f.init_value, f.steps: f.end_value, LAST: f.end_value},
        lambda f: int(np.sign(f.end_value - f.init_value)),
        slack=4,
    ),
    ramp_case(
        js.Rex, lambda f, u, v: tuple(x / (v + f.beta * u) for x in (v, f.beta * u)), 8, up_to(0.1, 1, "beta"), 4
    ),
    ramp_case(
        js.Tanh,
        tanh_weights,
        16,
        lambda rng: {"lower": f32(rng.uniform(-6, -1)), "upper": f32(rng.uniform(1, 4))},
        16,
    ),
    *(shaped_case(shape) for shape in [*WEIGHTS, "exponential"]),
]

DECAYS = [
    Case(
        js.StepDecay,
        lambda rng, n: {
            "init_value": rate(rng),
            "decay_rate": near_one(rng),
            "decay_steps": max(1, n // log_int(rng, 1, 1e6)),
        },
        lambda f, t: f.init_value * f.decay_rate ** stairs(t, f.decay_steps).astype(L),
        4,
        lambda f: [f.decay_steps, 7 * f.decay_steps],
        lambda f: {0: f.init_value, f.decay_steps - 1: f.init_value},
        falling,
        slack=2,
    ),
    Case(
        js.MultiStepDecay,
        lambda rng, n: {"init_value": rate(rng), "decay_rate": near_one(rng), "milestones": table_steps(rng, n, 5)},
        lambda f, t: f.init_value * f.decay_rate ** np.searchsorted(f.milestones, t, side="right").astype(L),
        4,
        lambda f: list(f.milestones),
        lambda f: {0: f.init_value, int(f.milestones[0]) - 1: f.init_value},
        falling,
        slack=2,
    ),
    Case(
        js.ExponentialDecay,
        lambda rng, n: {
            "init_value": rate(rng),
            "decay_rate": near_one(rng),
            "decay_steps": max(1, n // log_int(rng, 1, 1e6)),
            "staircase": bool(rng.random() < 0.5),
            "end_value": [None, f32(1e-7)][rng.integers(2)],
        },
        lambda f, t: np.maximum(
            f.init_value * f.decay_rate ** exponent(f, t), -np.inf if f.end_value is None else f.end_value
        ),
        16,
        lambda f: [f.decay_steps],
        lambda f: {0: f.init_value},
        falling,
        slack=4,
    ),
    Case(
        js.NaturalExpDecay,
        lambda rng, n: {
            "init_value": rate(rng),
            "decay_rate": f32(10 ** rng.uniform(-6, 0)),
            "decay_steps": max(1, n // log_int(rng, 1, 1e6)),
            "staircase": bool(rng.random() < 0.5),
        },
        lambda f, t: f.init_value * np.exp(-f.decay_rate * exponent(f, t)),
        16,
        lambda f: [f.decay_steps],
        lambda f: {0: f.init_value},
        falling,
        slack=4,
    ),
    Case(
        js.InverseTimeDecay,
        lambda rng, n: {
            "init_value": rate(rng),
            "decay_rate": f32(10 ** rng.uniform(-3, 1)),
            "decay_steps": max(1, n // 10),
            "staircase": bool(rng.random() < 0.5),
        },
        lambda f, t: f.init_value / (1 + f.decay_rate * exponent(f, t)),
        4,
        lambda f: [f.decay_steps],
        lambda f: {0: f.init_value},
        falling,
        slack=2,
    ),
    Case(
        js.InverseSqrtDecay,
        lambda rng, n: {"init_value": rate(rng), "timescale": n},
        lambda f, t: f.init_value / np.sqrt(1 + np.asarray(t).astype(L) / f.timescale),
        4,
        ends=lambda f: {0: f.init_value},
        monotone=falling,
        slack=2,
    ),
    Case(
        js.PowerDecay,
        lambda rng, n: {"init_value": rate(rng), "exponent": f32(rng.uniform(0, 3)), "timescale": n},
        lambda f, t: f.init_value * (1 + np.asarray(t).astype(L) / f.timescale) ** -f.exponent,
        16,
        ends=lambda f: {0: f.init_value},
        monotone=falling,
        slack=4,
    ),
]

PIECES = [
    Case(
        js.PiecewiseConstant,
        lambda rng, n: {"boundaries": table_steps(rng, n, 6), "values": rng.random(7).astype(np.float32)},
        lambda f, t: f.values[np.searchsorted(f.boundaries, t, side="right")],
        0,
        lambda f: list(f.boundaries),
        lambda f: {0: f.values[0], int(f.boundaries[-1]): f.values[-1], LAST: f.values[-1]},
    ),
    *(
        Case(
            js.PiecewiseInterpolate,
            lambda rng, n, kind=kind: {
                "knots": table_steps(rng, n, 6),
                "values": rng.random(6).astype(np.float32),
                "kind": kind,
            },
            lambda f, t: interpolate_ref(f, t),
            {"linear": 4, "cosine": 8}[kind],
            lambda f: list(f.knots),
            lambda f: {
                0: f.values[0],
                **{int(k): v for k, v in zip(f.knots, f.values, strict=True)},
                LAST: f.values[-1],
            },
            name=f"PiecewiseInterpolate[{kind}]",
        )
        for kind in ("linear", "cosine")
    ),
    Case(
        js.PiecewiseInterpolate,
        lambda rng, n: {
            "knots": table_steps(rng, n, 6),
            "values": (0.1 + rng.random(6)).astype(np.float32),
            "kind": "pchip",
        },
        lambda f, t: pchip_ref(f, t),
        16,
        lambda f: list(f.knots),
        lambda f: {0: f.values[0], **{int(k): v for k, v in zip(f.knots, f.values, strict=True)}, LAST: f.values[-1]},
        name="PiecewiseInterpolate[pchip]",
    ),
]


def pchip_ref(f: Any, t: np.ndarray) -> Any:
    """SciPy's, in float64."""
    knots, values = np.asarray(f.knots, np.float64), np.asarray(f.values, np.float64)
    return PchipInterpolator(knots, values)(np.clip(np.asarray(t, np.float64), knots[0], knots[-1]))


def interpolate_ref(f: Any, t: np.ndarray) -> Any:
    i = np.clip(np.searchsorted(f.knots, t, side="right") - 1, 0, len(f.knots) - 2)
    u = np.clip((np.asarray(t) - f.knots[i]).astype(L) / (f.knots[i + 1] - f.knots[i]).astype(L), 0, 1)
    return blend(f.values[i], f.values[i + 1], *WEIGHTS[f.kind](u, 1 - u))


CYCLES = [
    *(
        Case(
            js.CyclicTriangular,
            lambda rng, n, mode=mode: {
                "base_value": f32(1e-5 * rng.choice([0, 0.1])),
                "peak_value": rate(rng),
                "up_steps": max(1, n // 3),
                "down_steps": max(1, n // 5),
                "mode": mode,
                "decay_rate": f32(1 - 1e-5 / n**0.5) if mode == "exp_range" else f32(1),
            },
            triangle_ref,
            16 if mode == "exp_range" else 4,
            lambda f: [f.up_steps, f.up_steps + f.down_steps, 2 * (f.up_steps + f.down_steps)],
            lambda f: {0: f.base_value},
            name=f"CyclicTriangular[{mode}]",
        )
        for mode in ("triangular", "triangular2", "exp_range")
    ),
    Case(
        js.CosineWarmRestarts,
        lambda rng, n: {
            "peak_value": rate(rng),
            "period": max(1, n // log_int(rng, 1, 1000)),
            "period_mult": int(rng.integers(1, 5)),
            "end_value": f32(rng.choice([0, 1e-6])),
            "peak_mult": f32(rng.choice([1, 0.9])),
        },
        lambda f, t: restarts_ref(f, t),
        8,
        lambda f: restart_marks(f.period, f.period_mult),
        lambda f: {0: f.peak_value},
    ),
    Case(
        js.PolynomialDecay,
        lambda rng, n: {
            "init_value": rate(rng),
            "decay_steps": n,
            "end_value": f32(1e-6),
            "power": f32(rng.choice([1, 0.5, 2])),
            "cycle": bool(rng.random() < 0.5),
        },
        polynomial_decay_ref,
        16,
        lambda f: [f.decay_steps, 2 * f.decay_steps, 5 * f.decay_steps],
        lambda f: {0: f.init_value, f.decay_steps: f.end_value},
    ),
]


def restarts_ref(f: Any, t: np.ndarray) -> Any:
    index, elapsed, length = cycles_of(t, f.period, f.period_mult)
    return blend(f.peak_value * f.peak_mult**index, f.end_value, rise((length - elapsed) / length))


RECIPES = [
    Case(
        js.WarmupConstant,
        lambda rng, n: {"peak_value": rate(rng), "warmup_steps": n, "init_value": f32(0)},
        lambda f, t: ramp_ref("linear", f.init_value, f.peak_value, t, f.warmup_steps),
        4,
        lambda f: [f.warmup_steps],
        lambda f: {0: f.init_value, f.warmup_steps: f.peak_value, LAST: f.peak_value},
        lambda f: 1,
    ),
    warm_case(
        js.WarmupLinear,
        lambda f, t: ramp_ref("linear", f.peak_value, f.end_value, t, f.total_steps - f.warmup_steps),
        4,
    ),
    warm_case(
        js.WarmupCosine,
        lambda f, t: ramp_ref("cosine", f.peak_value, f.end_value, t, f.total_steps - f.warmup_steps),
        8,
    ),
    warm_case(
        js.WarmupPolynomial,
        lambda f, t: blend(f.peak_value, f.end_value, Way(t, f.total_steps - f.warmup_steps).v ** f.power),
        16,
        lambda rng: {"power": f32(rng.choice([0.5, 1, 2.5]))},
    ),
    warm_case(
        js.WarmupExponential,
        lambda f, t: ramp_ref("exponential", f.peak_value, f.end_value, t, f.total_steps - f.warmup_steps),
        16,
        lambda rng: {"end_value": f32(10 ** rng.uniform(-9, -5))},
    ),
    Case(
        js.WarmupInverseSqrt,
        lambda rng, n: {
            "peak_value": rate(rng),
            "warmup_steps": n,
            "timescale": [None, 2 * min(n, 10**9)][rng.integers(2)],
        },
        lambda f, t: warm(
            f, t, lambda a: f.peak_value / np.sqrt(1 + a.astype(L) / L(f.timescale or f.warmup_steps)), init=L(0)
        ),
        4,
        lambda f: [f.warmup_steps],
        lambda f: {0: L(0), f.warmup_steps: f.peak_value},
    ),
    Case(
        js.WarmupStableDecay,
        wsd_fields,
        wsd_ref,
        16,
        lambda f: [f.warmup_steps, f.total_steps - f.decay_steps, f.total_steps],
        lambda f: {f.total_steps: f.end_value, LAST: f.end_value},
    ),
    Case(
        js.TriStage,
        lambda rng, n: {
            "peak_value": rate(rng),
            "warmup_steps": n // 5,
            "hold_steps": n // 5,
            "decay_steps": n // 2,
            "init_value": f32(0),
            "end_value": f32(1e-7),
        },
        lambda f, t: np.where(
            np.asarray(t) < f.warmup_steps + f.hold_steps,
            ramp_ref("linear", f.init_value, f.peak_value, t, f.warmup_steps),
            ramp_ref(
                "exponential",
                f.peak_value,
                f.end_value,
                np.maximum(np.asarray(t) - f.warmup_steps - f.hold_steps, 0),
                f.decay_steps,
            ),
        ),
        16,
        lambda f: [f.warmup_steps, f.warmup_steps + f.hold_steps, f.warmup_steps + f.hold_steps + f.decay_steps],
        lambda f: {f.warmup_steps + f.hold_steps: f.peak_value, LAST: f.end_value},
    ),
    Case(
        js.schedules.InfiniteSchedule,
        lambda rng, n: {
            "peak_value": f32(0.1),
            "constant_value": f32(0.01),
            "warmup_steps": n // 10,
            "cooldown_steps": n // 3,
            "total_steps": n,
            "decay_steps": n // 10,
            "end_value": rate(rng),
            "init_value": f32(0),
        },
        infinite_ref,
        16,
        lambda f: [f.warmup_steps, f.warmup_steps + f.cooldown_steps, f.total_steps - f.decay_steps, f.total_steps],
        lambda f: {f.warmup_steps: f.peak_value, f.total_steps: f.end_value, LAST: f.end_value},
    ),
    Case(
        js.Noam,
        lambda rng, n: {"d_model": f32(512), "warmup_steps": n, "factor": f32(rng.uniform(0.1, 5))},
        lambda f, t: (
            f.factor
            / np.sqrt(f.d_model)
            * np.minimum(
                1 / np.sqrt(np.asarray(t).astype(L) + 1),
                (np.asarray(t).astype(L) + 1) / (f.warmup_steps * np.sqrt(L(f.warmup_steps))),
            )
        ),
        8,
        lambda f: [f.warmup_steps - 1],
    ),
    Case(
        js.schedules.PowerSchedule,
        lambda rng, n: {
            "batch_size": f32(256),
            "tokens_per_step": f32(2**20),
            "total_steps": n,
            "warmup_steps": n // 20,
            "decay_steps": n // 4,
            "peak_value": f32(0.02),
            "amplitude": f32(4),
            "exponent": f32(-0.51),
            "end_value": f32(0),
        },
        power_schedule_ref,
        16,
        lambda f: [f.warmup_steps, f.total_steps - f.decay_steps, f.total_steps],
        lambda f: {f.total_steps: f.end_value, LAST: f.end_value},
    ),
    *(
        Case(
            js.OneCycle,
            lambda rng, n, three=three: (
                one_cycle_fields(rng, n)
                | {"peak_value": rate(rng), "three_phase": three, "div_factor": f32(25), "final_div_factor": f32(1e4)}
            ),
            lambda f, t: one_cycle_ref(
                f, t, f.peak_value / f.div_factor, f.peak_value, f.peak_value / f.div_factor / f.final_div_factor
            ),
            8,
            lambda f: [f.pct_start * f.total_steps - 1, 2 * f.pct_start * f.total_steps - 2, f.total_steps - 1],
            name=f"OneCycle[{'three' if three else 'two'} phases]",
        )
        for three in (False, True)
    ),
    Case(
        js.OneCycleMomentum,
        lambda rng, n: one_cycle_fields(rng, n) | {"base_momentum": f32(0.85), "max_momentum": f32(0.95)},
        lambda f, t: one_cycle_ref(f, t, f.max_momentum, f.base_momentum, f.max_momentum),
        8,
        lambda f: [f.pct_start * f.total_steps - 1, 2 * f.pct_start * f.total_steps - 2, f.total_steps - 1],
        lambda f: {0: f.max_momentum, f.total_steps - 1: f.max_momentum, LAST: f.max_momentum},
    ),
    Case(
        js.schedules.ChebyshevSteps,
        lambda rng, n: {
            "max_curvature": f32(1),
            "min_curvature": f32(rng.uniform(0.01, 0.5)),
            "period": 2 ** int(rng.integers(0, 12)),
        },
        chebyshev_ref,
        8,
        lambda f: [f.period],
    ),
    Case(
        js.schedules.SilverSteps, lambda rng, n: {"factor": rate(rng)}, silver_ref, 16, lambda f: [2**10 - 1, 2**30 - 1]
    ),
    Case(
        js.Constant,
        lambda rng, n: {"constant_value": rate(rng)},
        lambda f, t: np.full(np.shape(t), f.constant_value),
        0,
        ends=lambda f: {0: f.constant_value, LAST: f.constant_value},
        monotone=falling,
    ),
]


def untuned_ref(f: Any, t: np.ndarray) -> Any:
    t, d = np.asarray(t).astype(L) + 1, 1 - f.b2
    if f.kind == "linear":
        return np.minimum(1, t * d / 2)
    if f.kind == "exponential":
        return -np.expm1(-t * d)
    whole = 2 / d - 1
    part = whole - 2 * t * np.exp(t * np.log1p(-d)) / -np.expm1(t * np.log1p(-d))
    square = (part - 4) * (part - 2) * whole / ((whole - 4) * (whole - 2) * part)
    return np.sqrt(np.where(part > 4, square, 0))


UNTUNED = [
    Case(
        js.schedules.UntunedWarmup,
        lambda rng, n, kind=kind: {"b2": f32(1 - 10 ** rng.uniform(-6, -1)), "kind": kind},
        untuned_ref,
        4,
        lambda f: [4, 1 / (1 - f.b2), 2 / (1 - f.b2)],
        lambda f: {LAST: L(1)} | ({0: L(0), 3: L(0)} if f.kind == "radam" else {}),
        lambda f: 1,
        slack=4,
        name=f"UntunedWarmup[{kind}]",
    )
    for kind in ("linear", "exponential", "radam")
]

CASES = [*RAMPS, *DECAYS, *PIECES, *CYCLES, *RECIPES, *UNTUNED]


def composites(x: Any, n: int) -> dict[str, js.Schedule]:
    """Every way to put schedules together, with rates scaled by `x` and horizons by `n`."""
    ramp = js.Linear(0.0, x, n)
    wave = js.CosineWarmRestarts(x, period=n, period_mult=2)
    return {
        "then": ramp.then(js.Cosine(x, 0.0, n), at=n),
        "join": js.join([ramp, wave, js.Constant(x)], [n, 5 * n]),
        "sum": ramp + wave + 0.5,
        "difference": ramp - 0.1,
        "product": ramp * wave * 2.0,
        "quotient": wave / 3.0,
        "negative": -ramp,
        "clip": wave.clip(x * 0.2, x * 0.7),
        "shift": wave.shift(n),
        "ahead": wave.shift(-n),
        "hold": wave.hold(max(1, n // 4)),
        "per_epoch": wave.per_epoch(max(1, n // 4)),
        "repeat": ramp.repeat(n, value_mult=0.5),
        "repeat by one": ramp.repeat(n, period_mult=1),
        "exponential cooldown": js.WarmupCosine(x, 0, n).cooldown(
            at=n // 2, steps=n, end_value=1e-3, shape="exponential"
        ),
        "cooldown after the end": js.StepDecay(x, 0.5, n).cooldown(
            at=3 * n, steps=n, end_value=1e-4, shape="exponential"
        ),
        "repeat growing": js.Polynomial(x, 0.0, n, power=2.0).repeat(n, period_mult=3, value_mult=0.9),
        "repeat by a float": ramp.repeat(n, period_mult=1.5, cycles=4),
        "repeat twice": js.Linear(x, 0.0, n).repeat(n, cycles=2).repeat(2 * n, period_mult=2),
        "repeat a join": ramp.then(js.Constant(x * 0.5), at=n).repeat(3 * n, period_mult=2),
        "warmup": wave.warmup(n, shape="cosine", init_factor=0.1),
        "cooldown": wave.cooldown(at=n + n // 2, steps=n, shape="1-sqrt"),
        "noise": wave.noise(std=0.1, seed=3, decay=0.5),
        "noise added": ramp.noise(std=0.01, seed=3, relative=False),
        "everything": (ramp.then(wave, at=n) * 0.5 + 0.01).warmup(n).clip(0.0, 1.0).cooldown(at=3 * n, steps=n),
    }


def draws(case: Case, count: int, seed: int = 0, low: float = 10, high: float = 2e9) -> list[dict[str, Any]]:
    rng = np.random.default_rng([seed, *map(ord, case.id)])
    return [case.draw(rng, log_int(rng, low, high)) for _ in range(count)]


def steps_to_try(case: Case, fields: dict[str, Any], seed: int = 0, count: int = 160) -> np.ndarray:
    """Steps around everything that happens, and anywhere in between and beyond."""
    rng = np.random.default_rng(seed)
    marks = [0, LAST, *case.marks(Fields(fields))]
    near = [int(m) + d for m in marks for d in (-2, -1, 0, 1, 2)]
    top = max([m for m in marks if m < LAST] + [10])
    anywhere = [*(rng.random(count // 2) * top), *(np.exp(rng.random(count // 4) * np.log(LAST)))]
    late = [max(marks[1:][-1] - d, 0) for d in np.exp(rng.random(count // 8) * 8)]
    return np.unique(np.clip([*near, *map(int, anywhere), *map(int, late)], 0, LAST)).astype(np.int32)


def ulps(got: Any, want: Any) -> Any:
    """The distance in float32 ulps; what float32 can only hold as a denormal number is passed over."""
    want = np.asarray(want, dtype=L)
    spacing = np.spacing(np.maximum(np.abs(want.astype(np.float32)), np.float32(1e-36))).astype(L)
    return np.where(np.abs(want) > 1e-36, np.abs(np.asarray(got).astype(L) - want) / spacing, 0)


def op_by_op(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs each primitive eagerly: primitives are cached across schedules, which is ten times as fast as one program
    for each structure."""
    with pytest.MonkeyPatch.context() as patch, jax.debug_nans(False):  # the branch not taken may divide by zero
        patch.setattr(base, "_evaluate", base._evaluate.__wrapped__)
        return function(*arguments)


def leaves_equal(a: Any, b: Any) -> bool:
    """Schedules have no `==` (they are hashed by identity): one structure, and equal leaves."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(np.asarray(x), np.asarray(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def x64() -> Any:
    """64 bits for the body of a `with`; the name moved between versions of JAX."""
    return (jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64)(True)
