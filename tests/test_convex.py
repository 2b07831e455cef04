"""The bound of convex optimisation against its formula as a float64 double loop, and against the values of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.predict import convex
from jaxsched.predict.curves import in_float64

# gamma* and Omega* at 400 and 4,000 steps, D = G = 1; computed apart from this package.
TABLE: dict[str, tuple[Callable[[int], js.Schedule], dict[int, tuple[float, float]]]] = {
    "constant": (lambda _: js.Constant(1.0), {400: (0.018176, 0.137545), 4000: (0.0050325, 0.0496768)}),
    "WSD, linear": (
        lambda steps: js.WarmupStableDecay(1.0, 0, steps, steps // 5, decay_shape="linear"),
        {400: (0.025374, 0.109323), 4000: (0.0081183, 0.0342115)},
    ),
    "WSD, 1-sqrt": (
        lambda steps: js.WarmupStableDecay(1.0, 0, steps, steps // 5, decay_shape="1-sqrt"),
        {400: (0.026846, 0.107288), 4000: (0.0085692, 0.0336577)},
    ),
    "linear": (lambda steps: js.Linear(1.0, 0.0, steps), {400: (0.049563, 0.100630), 4000: (0.0157929, 0.0316519)}),
    "cosine": (lambda steps: js.Cosine(1.0, 0.0, steps), {400: (0.048242, 0.103386), 4000: (0.0153402, 0.0325859)}),
}


def terms(rates: Any, distance: float = 1.0, grad_norm: Any = 1.0) -> tuple[float, float, float]:
    """The three terms of theorem 10, each sum as it is written: two nested loops, float64."""
    eta = np.asarray(rates, np.float64)
    noise = np.square(eta * np.broadcast_to(np.asarray(grad_norm, np.float64), eta.shape))
    last = 0.0
    for k in range(eta.size - 1):
        after = sum(eta[t] for t in range(k + 1, eta.size))
        if after > 0:
            last += eta[k] / after * sum(noise[t] for t in range(k, eta.size)) / (eta[k] + after) / 2
    return distance**2 / (2 * eta.sum()), noise.sum() / (2 * eta.sum()), last


def expected(rates: Any, distance: float = 1.0, grad_norm: Any = 1.0) -> tuple[float, float, float]:
    """The bound, gamma* and Omega*."""
    one, two, three = terms(rates, distance, grad_norm)
    return one + two + three, np.sqrt(one / (two + three)), 2 * np.sqrt(one * (two + three))


def seen(rates: Any, distance: Any = 1.0, grad_norm: Any = 1.0) -> tuple[float, float, float]:
    scale, least = convex.best_scale(rates, distance=distance, grad_norm=grad_norm)
    return float(convex.bound(rates, distance, grad_norm)), float(scale), float(least)


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [400, pytest.param(4000, marks=pytest.mark.trial)])
@pytest.mark.parametrize("name", TABLE)
def test_the_values_of_the_table_to_four_digits(name: str, steps: int) -> None:
    make, values = TABLE[name]
    rates = make(steps).table(steps)
    scale, least = convex.best_scale(rates)
    np.testing.assert_allclose([scale, least], values[steps], rtol=5e-5)
    np.testing.assert_allclose(convex.bound(rates * scale), values[steps][1], rtol=5e-5)


def holes(rng: np.random.Generator) -> np.ndarray:
    rates = rng.exponential(size=60)
    rates[20:35] = 0
    return rates


RATES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "any order": lambda rng: rng.exponential(size=60),
    "zeros in the middle": holes,
    "zeros at both ends": lambda rng: np.pad(rng.exponential(size=30), 15),
    "each of its own size": lambda rng: 10 ** rng.uniform(-6, 2, size=60),
    "falling to 1e-12 of the first": lambda rng: np.sort(10 ** rng.uniform(-12, 0, size=60))[::-1],
    "1e-12": lambda rng: 1e-12 * rng.exponential(size=60),
    "1e12": lambda rng: 1e12 * rng.exponential(size=60),
    "one above zero": lambda rng: np.eye(60)[rng.integers(60)],
    "one step": lambda rng: rng.exponential(size=1),
    "integers": lambda rng: rng.integers(1, 9, size=60),
}


@pytest.mark.parametrize("name", RATES)
def test_the_double_loop(name: str) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    for grad_norm in (1.0, 1.7, rng.uniform(0.1, 3.0, size=60).astype(np.float32)):
        rates = RATES[name](rng)
        rates = rates if rates.dtype.kind == "i" else rates.astype(np.float32)
        grad_norm = np.resize(grad_norm, rates.shape) if np.ndim(grad_norm) else grad_norm
        distance = float(np.float32(rng.uniform(0.1, 5.0)))
        np.testing.assert_allclose(seen(rates, distance, grad_norm), expected(rates, distance, grad_norm), rtol=1e-5)


def test_the_closed_form_of_a_constant_over_many_steps() -> None:
    """D^2 / (2 gamma T) + gamma G^2 / 2 + gamma G^2 H(T - 1) / 2; plain float32 sums would lose digits here."""
    steps, rate, distance, norm = 200_000, 0.003, 7.0, 0.4
    harmonic = np.sum(1 / np.arange(1, steps))
    want = distance**2 / (2 * rate * steps) + rate * norm**2 / 2 * (1 + harmonic)
    got = convex.bound(js.Constant(rate), distance, norm, total_steps=steps)
    np.testing.assert_allclose(got, want, rtol=5e-7)


def test_what_direct_optimisation_found() -> None:
    """At 100 steps .200114 was reached over all rates, and .203608 by the tuned linear decay."""
    slope = np.linspace(1.0, 0.0, 100, endpoint=False)
    padded = lambda rates: np.pad(rates, (0, 300))  # noqa: E731  # as long as the table: one program
    np.testing.assert_allclose(convex.best_scale(padded(slope)).bound, 0.203608, rtol=5e-6)
    others = [slope**0.9, slope**1.1, np.minimum(1, 1.2 * slope), np.minimum(slope, 0.8), slope + 0.01]
    bounds = [float(convex.best_scale(padded(other)).bound) for other in others]
    assert min(bounds) >= 0.200114
    np.testing.assert_allclose(bounds, [expected(other)[2] for other in others], rtol=1e-5)


# --- laws ------------------------------------------------------------------------------------------------------------

SHAPE = np.random.default_rng(1).exponential(size=60)


@pytest.mark.parametrize("distance", [1e-25, 1.0, 1e20])
@pytest.mark.parametrize("grad_norm", [1e-25, 1.0, 1e18, 1e20])
def test_units_whose_squares_leave_float32(distance: float, grad_norm: float) -> None:
    scale, least = expected(SHAPE)[1:]
    with np.errstate(over="ignore", under="ignore"):
        want = np.array([distance / grad_norm * scale, distance * grad_norm * least]).astype(np.float32)
        bound = np.float32(expected(SHAPE, distance, grad_norm)[0])  # infinite where float32 does not hold it
    for norm in (grad_norm, np.full(SHAPE.size, grad_norm)):
        got = convex.best_scale(SHAPE, distance=distance, grad_norm=norm)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(convex.bound(SHAPE, distance, norm), bound, rtol=1e-5, atol=1e-37)


def test_whole_numbers_are_distances_and_norms() -> None:
    """The square of 100,000 is beyond int32."""
    want = expected(SHAPE, 100_000, 70_000)
    np.testing.assert_allclose(convex.bound(SHAPE, 100_000, 70_000), want[0], rtol=1e-6)
    np.testing.assert_allclose(convex.best_scale(SHAPE, distance=100_000, grad_norm=70_000), want[1:], rtol=1e-6)
    traced = jax.jit(convex.bound)(SHAPE, jnp.int32(100_000), jnp.int32(70_000))
    np.testing.assert_allclose(traced, want[0], rtol=1e-6)


def test_zeros_at_the_end_change_nothing() -> None:
    rates, norms = SHAPE[:40], np.linspace(1.0, 2.0, 40)
    longer = convex.bound(np.pad(rates, (0, 20)), 1.0, np.pad(norms, (0, 20), constant_values=9.0))
    np.testing.assert_allclose(longer, expected(rates, 1.0, norms)[0], rtol=1e-6)


# --- transformations -------------------------------------------------------------------------------------------------


def test_values_and_gradients_in_float64() -> None:
    rng = np.random.default_rng(2)
    rates, norms = rng.exponential(size=12), rng.uniform(0.5, 2.0, size=12)
    rates[5] = rates[10:] = 0
    with in_float64():
        bound = jax.jit(jax.value_and_grad(convex.bound, argnums=(0, 1, 2)))
        value, got = bound(jnp.asarray(rates), 1.3, jnp.asarray(norms))
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected(rates, 1.3, norms)[0], rtol=1e-14)

    def slope(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
        step = 1e-6  # the loop does not mind rates that are a little below 0
        return np.array([(function(at + e) - function(at - e)) / (2 * step) for e in step * np.eye(at.size)])

    wanted = (
        slope(lambda x: expected(x, 1.3, norms)[0], rates),
        slope(lambda x: expected(rates, x[0], norms)[0], np.array([1.3]))[0],
        slope(lambda x: expected(rates, 1.3, x)[0], norms),
    )
    np.testing.assert_allclose(got[0][:10], wanted[0][:10], rtol=1e-6, atol=1e-8)
    assert np.all(np.isfinite(got[0]))  # a rate after the last one jumps in the bound
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-8)
    np.testing.assert_allclose(got[2], wanted[2], rtol=1e-6, atol=1e-8)


@pytest.mark.trial
def test_gradients_of_hyperparameters_with_zeros_at_the_end() -> None:
    least = lambda s: convex.best_scale(s, 40).bound  # noqa: E731
    gradient = jax.jit(jax.grad(least, allow_int=True))(js.Cosine(0.2, 0.01, 30).clip(hi=0.3) - 0.01)
    cosine = gradient.schedules[0].schedule
    wave, step = (1 + np.cos(np.pi * np.minimum(np.arange(40) / 30, 1))) / 2, 1e-5
    up, down = (expected((0.2 + e) * wave + 0.01 * (1 - wave) - 0.01)[2] for e in (step, -step))
    np.testing.assert_allclose(cosine.init_value, (up - down) / (2 * step), atol=1e-6)
    assert np.isfinite(cosine.end_value)


def test_jit_and_vmap_agree_with_the_eager_bound() -> None:
    rates = np.random.default_rng(3).exponential(size=(3, 60)).astype(np.float32)
    rates[1, 50:] = 0
    norms = np.linspace(1.0, 2.0, 3).astype(np.float32)
    got = jax.jit(jax.vmap(convex.bound, in_axes=(0, None, 0)))(rates, 2.0, norms)
    np.testing.assert_allclose(got, [convex.bound(r, 2.0, n) for r, n in zip(rates, norms, strict=True)], rtol=3e-7)
    np.testing.assert_allclose(got, [expected(r, 2.0, n)[0] for r, n in zip(rates, norms, strict=True)], rtol=1e-5)


def test_one_trace_for_many_settings() -> None:
    traces = []

    @jax.jit
    def score(schedules: js.Schedule, distance: Any) -> Any:
        traces.append(1)
        return jax.vmap(lambda s: convex.best_scale(s, 60, distance=distance))(schedules)

    for peaks, warmups, distance in (([0.05, 0.2], [0, 10], 1.0), ([1.0, 3.0], [7, 9], 2.0)):
        stacked = js.grid(js.WarmupLinear, peak_value=peaks, warmup_steps=warmups, total_steps=60)
        scale, least = score(stacked, distance)
        want = np.array([expected(s.table(60), distance) for s in js.unstack(stacked)])
        np.testing.assert_allclose(np.stack([scale, least]), want[:, 1:].T, rtol=1e-5)
    assert len(traces) == 1


def test_many_vmapped_schedules_are_never_there_at_once() -> None:
    """What runs outside of the program holds no rate of every schedule and every step, without jit too."""
    steps, S = 500, js.grid(js.Linear, init_value=np.linspace(0.1, 1.0, 7), end_value=0.0, steps=500)
    for score in (convex.bound, convex.best_scale):
        jaxpr = jax.make_jaxpr(jax.vmap(lambda s, score=score: score(s, total_steps=steps)))(S)
        assert max(np.prod(var.aval.shape) for line in jaxpr.eqns for var in line.outvars) < 7 * steps
    with pytest.raises(ValueError, match=r"total_steps=None"):
        jax.vmap(convex.bound)(S)


# --- errors ----------------------------------------------------------------------------------------------------------


ONE, TWO = js.Constant(1.0), js.stack(js.Constant(1.0), js.Constant(2.0))
BAD_RATES: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([1.0, -1.0], {}, ValueError, r"convex.bound: lrs\[1\]=-1.0; write rates of 0"),
    ([1.0, np.nan, np.inf], {}, ValueError, r"lrs\[1\]=nan; write finite rates"),
    ([0.0, 0.0], {}, ValueError, "all 2 rates are 0; write one above 0"),
    ([], {}, ValueError, r"shape \(0,\); write one rate a step"),
    ([[1.0]], {}, ValueError, r"shape \(1, 1\); write one rate a step, \(steps,\), and jax.vmap"),
    ("fast", {}, TypeError, "lrs='fast' is text; lrs must be a schedule"),
    ([True], {}, TypeError, r"lrs=\[True\] holds bool; write an array of rates or a schedule"),
    ([1.0], {"total_steps": 2}, ValueError, r"total_steps=2 beside rates of shape \(1,\); leave it"),
    (ONE, {}, ValueError, "total_steps=None; write how many steps"),
    (ONE, {"total_steps": 0}, ValueError, "total_steps=0; total_steps must be an integer, 1"),
    (ONE, {"total_steps": True}, ValueError, "total_steps=True; total_steps must be an integer, 1"),
    (ONE, {"total_steps": 3.0}, ValueError, "total_steps=3.0; total_steps must be an integer, 1"),
    (js.Linear(1.0, -1.0, 4), {"total_steps": 9}, ValueError, r"lrs\[3\]=-0.5 of Linear\(.*\); .*schedule.clip"),
    (TWO, {"total_steps": 3}, ValueError, r"is several schedules, stacked; write jax.vmap"),
    ([1.0], {"distance": 0.0}, ValueError, "distance=0.0; distance must be above 0 and finite"),
    ([1.0], {"distance": 1e-40}, ValueError, "distance=1e-40; .* above 0 and finite, in float32"),
    ([1.0, 2.0], {"distance": jnp.ones(2)}, ValueError, r"distance=.* has the shape \(2,\)"),
    ([1.0], {"grad_norm": [-1.0]}, ValueError, r"grad_norm=\[-1.0\]; grad_norm must be above 0"),
    ([1.0], {"grad_norm": (1.0,)}, TypeError, "is a tuple; write a number or an array"),
    ([1.0, 2.0], {"grad_norm": [1.0, 1.0, 1.0]}, ValueError, r"grad_norm=.* has the shape \(3,\) beside 2 rates"),
    ([1e-42, 1e-41], {}, ValueError, "largest rate is .*e-42, and float32 rounds it to 0; write rates in a larger"),
]


@pytest.mark.parametrize(("rates", "arguments", "error", "says"), BAD_RATES)
def test_bad_input_is_refused(rates: Any, arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    for function in (convex.bound, convex.best_scale):
        with pytest.raises(error, match=says.replace("convex.bound", f"convex.{function.__name__}")):
            function(rates, **arguments)


def test_traced_rates_are_not_looked_at() -> None:
    assert np.isnan(jax.jit(convex.bound)(jnp.array([jnp.nan, 1.0])))


def test_other_functions_of_the_step_are_schedules_too() -> None:
    plain = optax.cosine_decay_schedule(0.05, 400)
    np.testing.assert_allclose(
        convex.bound(plain, total_steps=400), convex.bound(js.Cosine(0.05, 0.0, 400), total_steps=400), rtol=1e-5
    )
    with pytest.raises(TypeError, match=r"lrs=.*Cosine.* is a class; write a schedule of it"):
        convex.bound(js.Cosine, total_steps=400)
