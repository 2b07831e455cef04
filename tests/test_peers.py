"""Against the peers: recorded tables of torch, and live optax and SciPy. Where a peer is wrong, ours is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.schedules.ramps import Interpolation

TORCH = json.loads((Path(__file__).parent / "peers" / "torch.json").read_text())


def one_cycle(lr: float, a: dict[str, Any]) -> js.Schedule:
    del lr
    shape = {"cos": "cosine", "linear": "linear"}[a["anneal_strategy"]]
    return js.OneCycle(a["max_lr"], a["total_steps"], a["pct_start"], shape=shape, three_phase=a["three_phase"])


OURS: dict[str, Callable[[float, dict[str, Any]], js.Schedule]] = {
    "StepLR": lambda lr, a: js.StepDecay(lr, a["gamma"], a["step_size"]),
    "MultiStepLR": lambda lr, a: js.MultiStepDecay(lr, a["gamma"], a["milestones"]),
    "ExponentialLR": lambda lr, a: js.ExponentialDecay(lr, a["gamma"], 1),
    "LinearLR": lambda lr, a: js.Linear(lr * a["start_factor"], lr * a["end_factor"], a["total_iters"]),
    "PolynomialLR": lambda lr, a: js.Polynomial(lr, 0.0, a["total_iters"], power=a["power"]),
    "CosineAnnealingLR": lambda lr, a: js.Cosine(lr, a["eta_min"], a["T_max"]),
    "CosineAnnealingWarmRestarts": lambda lr, a: js.CosineWarmRestarts(lr, a["T_0"], a["T_mult"], a["eta_min"]),
    "CyclicLR": lambda lr, a: js.CyclicTriangular(
        a["base_lr"], a["max_lr"], a["step_size_up"], a["step_size_down"], a["mode"], a["gamma"]
    ),
    "OneCycleLR": one_cycle,
}


def name_of(row: dict[str, Any]) -> str:
    return f"{row['name']} {row['arguments']}"


@pytest.mark.parametrize("row", TORCH["traces"], ids=name_of)
def test_torch(row: dict[str, Any]) -> None:
    schedule = OURS[row["name"]](row["lr"], row["arguments"])
    got = np.asarray(schedule.table(len(row["rates"])))
    if "total_steps" in row["arguments"]:
        total = row["arguments"]["total_steps"]
        # torch's one cycle bounces after its end, to a negative rate if it is linear; ours holds its last value.
        for late, theirs in zip(got[total:], row["rates"][total:], strict=True):
            assert late == got[total - 1]
            assert abs(theirs - late) > 10 * late
        got, row = got[:total], row | {"rates": row["rates"][:total], "momenta": row["momenta"][:total]}
    # Absolute beside relative: torch's recurrences leave dust of 1e-17 where a rate is 0.
    np.testing.assert_allclose(got, row["rates"], rtol=2e-6, atol=1e-9)
    if "momenta" in row:
        a = row["arguments"]
        shape = {"cos": "cosine", "linear": "linear"}[a["anneal_strategy"]]
        momentum = js.OneCycleMomentum(0.85, 0.95, a["total_steps"], a["pct_start"], shape, a["three_phase"])
        np.testing.assert_allclose(momentum.table(len(row["momenta"])), row["momenta"], rtol=2e-6)


def test_the_record_covers_what_it_says() -> None:
    assert TORCH["torch"].startswith("2.13")
    assert {row["name"] for row in TORCH["traces"]} == set(OURS)
    assert sum(len(row["rates"]) for row in TORCH["traces"]) > 1500


@pytest.mark.parametrize("seed", range(20))
def test_live_optax(seed: int) -> None:
    """At moderate horizons, where optax's float arithmetic is still good."""
    rng = np.random.default_rng(seed)
    init, end = float(rng.uniform(0.5, 1)), float(rng.uniform(0, 0.4))
    n, w = int(rng.integers(20, 200)), int(rng.integers(1, 15))
    gamma, power = float(rng.uniform(0.5, 0.99)), float(rng.uniform(1, 3))
    t = np.minimum(np.arange(400), 2 * n - 1)  # of one length: a program for each pair serves all seeds
    pairs = [
        (js.Linear(init, end, n), optax.linear_schedule(init, end, n)),
        (js.Polynomial(init, end, n, power=power), optax.polynomial_schedule(init, end, power, n)),
        (js.Cosine(init, 0.0, n), optax.cosine_decay_schedule(init, n)),
        (js.ExponentialDecay(init, gamma, w), optax.exponential_decay(init, w, gamma)),
        (js.ExponentialDecay(init, gamma, w, staircase=True), optax.exponential_decay(init, w, gamma, staircase=True)),
        (js.ExponentialDecay(init, gamma, w, end_value=end), optax.exponential_decay(init, w, gamma, end_value=end)),
        (js.WarmupCosine(init, w, n, 0.0, end), optax.warmup_cosine_decay_schedule(0.0, init, w, n, end)),
        (js.WarmupConstant(init, w), optax.warmup_constant_schedule(0.0, init, w)),
        (
            js.PiecewiseInterpolate([0, w, n], [init, init * gamma, init * gamma * 0.5]),
            optax.piecewise_interpolate_schedule("linear", init, {w: gamma, n: 0.5}),
        ),
        (js.join([js.Linear(0.0, init, w), js.Cosine(init, 0.0, n)], [w]),
         optax.join_schedules([optax.linear_schedule(0.0, init, w), optax.cosine_decay_schedule(init, n)], [w])),
    ]  # fmt: skip
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours(t), jax.vmap(theirs)(t), rtol=1e-4, atol=2e-6, err_msg=repr(ours))


@pytest.mark.parametrize("seed", range(10))
def test_live_scipy_pchip(seed: int) -> None:
    from scipy.interpolate import PchipInterpolator

    rng = np.random.default_rng(seed)
    count = [2, 3, 4, 8, 30][seed % 5]
    knots = np.sort(rng.choice(200, size=count, replace=False))
    values = np.round(rng.random(count), 1)  # with equal neighbours, where the slope is 0
    schedule = js.PiecewiseInterpolate(knots, values, kind="pchip")
    t = np.arange(knots[0], knots[-1] + 1)
    np.testing.assert_allclose(schedule(t), PchipInterpolator(knots, values)(t), rtol=2e-5, atol=1e-6)
    assert schedule(0) == np.float32(values[0])
    assert schedule(10_000) == np.float32(values[-1])
    np.testing.assert_array_equal(schedule(knots), values.astype(np.float32))


# --- published values ------------------------------------------------------------------------------------------------


def test_published_values() -> None:
    np.testing.assert_allclose(js.Rex(1.0, 0.0, 4).table(4)[1:], [0.857143, 0.666667, 0.4], rtol=1e-6)
    chebyshev = js.schedules.ChebyshevSteps(max_curvature=1.0, min_curvature=0.05, period=8).table(8)
    np.testing.assert_allclose(chebyshev, [16.9127, 1.0092, 2.3130, 1.6190, 7.6892, 1.0870, 3.8299, 1.2676], rtol=2e-5)
    root = np.sqrt(2)
    np.testing.assert_allclose(js.schedules.SilverSteps().table(7), [root, 2, root, 3.414214, root, 2, root], rtol=1e-6)
    tokens = 2**20
    power = js.schedules.PowerSchedule(batch_size=1024, tokens_per_step=tokens, total_steps=2_000_000)
    assert float(power(round(1e11 / tokens))) == pytest.approx(0.010054, rel=1e-4)
    assert float(power(round(1e12 / tokens))) == pytest.approx(0.003107, rel=2e-4)
    noam = js.Noam(d_model=512, warmup_steps=4000)
    assert float(noam(3999)) == pytest.approx(512**-0.5 * 4000**-0.5, rel=1e-6)
    assert int(np.argmax(noam.table(8000))) == 3999


def test_tf1_polynomial_decay_that_cycles() -> None:
    """The definition of TF1: the horizon is decay_steps ceil(t / decay_steps), and decay_steps at step 0."""
    s = js.PolynomialDecay(0.1, 10, end_value=0.01, power=0.5, cycle=True)
    t = np.arange(0, 95)
    horizon = 10 * np.maximum(np.ceil(t / 10), 1)
    np.testing.assert_allclose(s(t), (0.1 - 0.01) * (1 - t / horizon) ** 0.5 + 0.01, rtol=1e-6)


# --- the peers' faults, which are not ours ---------------------------------------------------------------------------


def test_no_fault_of_a_long_horizon() -> None:
    """optax: 0 from T - 7771 on at T = 1e8, a negative rate or 80 % off at the end of a line, NaN for a square root."""
    n = 100_000_000
    late = n - np.array([7000, 100, 1], np.int32)
    want = np.sin(np.pi / 2 * (n - late.astype(float)) / n) ** 2
    np.testing.assert_allclose(js.Cosine(1.0, 0.0, n)(late), want, rtol=1e-6)
    np.testing.assert_allclose(js.Linear(1.0, 0.0, n)(late), (n - late.astype(float)) / n, rtol=1e-6)
    assert js.Linear(1.0, 0.0, n)(n) == 0
    assert js.Polynomial(1.0, 0.0, 10_000_000, power=0.5)(10_000_000) == 0
    theirs = float(optax.cosine_decay_schedule(1.0, n)(int(late[0])))
    assert theirs == 0  # the fault is still there: the comparison is a live one


def test_no_fault_of_a_per_step_rate() -> None:
    """optax: rounding of the rate, 22 % off at 1e7 steps; a wrong stair near 2**24."""
    rate, t = np.float32(1 - 1e-7), 100_000_000
    want = float(rate.astype(float) ** t)
    assert float(js.ExponentialDecay(1.0, rate, 1)(t)) == pytest.approx(want, rel=1e-6)
    stairs = js.StepDecay(1.0, 0.5, decay_steps=2_000_000_000 // 3)
    edges = np.array([k * (2_000_000_000 // 3) for k in (1, 2, 3)], np.int32)
    np.testing.assert_array_equal(stairs(edges), [0.5, 0.25, 0.125])
    np.testing.assert_array_equal(stairs(edges - 1), [1.0, 0.5, 0.25])


def test_no_fault_at_zero_lengths_and_ends() -> None:
    assert js.WarmupConstant(1.0, warmup_steps=0)(0) == 1.0  # optax: 0 for ever
    assert js.WarmupCosine(1.0, 0, 10)(0) == 1.0
    end = js.OneCycle(0.1, 100)
    np.testing.assert_array_equal(end(np.array([99, 100, 101, 5000])), np.full(4, end(99)))  # torch bounces to 0.0495
    cosine = js.Cosine(1.0, 0.1, 50)
    np.testing.assert_array_equal(cosine(np.array([50, 75, 100])), np.full(3, np.float32(0.1)))  # torch rises again
    assert int(np.argmax(js.OneCycle(0.1, 100).table(100))) == 29  # optax: 30
    restarts = js.CosineWarmRestarts(1.0, 3, period_mult=3)
    assert restarts(363) == 1.0  # torch, timm: 0
    assert js.MultiStepDecay(1.0, 0.5, [30.0])(30) == 0.5
    assert js.MultiStepDecay(1.0, 0.5, [29.5])(30) == 0.5  # torch: a milestone between two steps never fires


def test_no_fault_of_a_gradient_through_a_square_root_tail() -> None:
    """optax: NaN, for the later piece runs at negative steps."""
    s = js.join([js.Linear(0.0, 1.0, 10), js.Polynomial(1.0, 0.0, 10, power=0.5)], [10])
    for t in (0, 5, 10, 15, 20, 30):
        gradient = jax.grad(lambda s, t=t: s(t), allow_int=True)(s)
        floats = [x for x in jax.tree.leaves(gradient) if x.dtype == jnp.float32]
        assert all(np.isfinite(x) for x in floats)


def test_every_hyperparameter_can_be_traced() -> None:
    """optax: a ConcretizationTypeError for steps, rates, shares and boundaries."""

    def value(n: Any, x: Any) -> Any:
        parts = [
            js.OneCycle(x, n, pct_start=0.3 * x, div_factor=25 * x),
            js.PiecewiseConstant(jnp.array([1, 2]) * n, jnp.array([1.0, 2.0, 3.0]) * x),
            js.CosineWarmRestarts(x, n, n, x, x),
            js.Constant(x).repeat(n, n, x, n).warmup(n, "cosine", x).cooldown(n, n, x).clip(x, x).hold(n).noise(x, n),
            js.ExponentialDecay(x, x, n, end_value=x),
            js.WarmupStableDecay(x, n, 4 * n, n),
        ]  # fmt: skip
        return sum(p(n + 1) for p in parts)

    assert np.isfinite(jax.jit(value)(10, 0.9))


def test_live_faults_of_optax() -> None:
    """What the README says of optax, seen in the optax that is installed; ours beside it."""
    a, b, c = (optax.constant_schedule(x) for x in (1.0, 2.0, 3.0))
    dropped = optax.join_schedules([a, b, c], [5])  # three schedules and one boundary
    assert float(dropped(10**6)) == 2.0
    with pytest.raises(ValueError, match="3 schedules"):
        js.join([a, b, c], [5])
    optax.join_schedules([a, b, c], [9, 5])  # accepted
    with pytest.raises(ValueError, match="sort them"):
        js.join([a, b, c], [9, 5])
    with pytest.raises((jax.errors.ConcretizationTypeError, jax.errors.TracerBoolConversionError)):
        jax.jit(lambda n: optax.linear_schedule(1.0, 0.0, n)(3))(10)
    assert jax.jit(lambda n: js.Linear(1.0, 0.0, n)(3))(10) == np.float32(0.7)
    assert float(optax.warmup_constant_schedule(0.0, 1.0, warmup_steps=0)(100)) == 0.0
    assert js.WarmupConstant(1.0, 0)(100) == 1.0
    late = 99_999_999
    assert abs(float(optax.linear_schedule(1.0, 0.0, 10**8)(late)) / 1e-8 - 1) > 0.5
    assert float(js.Linear(1.0, 0.0, 10**8)(late)) == pytest.approx(1e-8, rel=1e-6)
    steps = 2_000_000_000 - np.arange(400)
    theirs = optax.exponential_decay(1.0, 5_000_000, 0.99, staircase=True)
    wrong = sum(abs(float(theirs(int(t))) / 0.99 ** (int(t) // 5_000_000) - 1) > 1e-3 for t in steps[:100])
    ours = js.ExponentialDecay(1.0, 0.99, 5_000_000, staircase=True)(steps.astype(np.int32))
    np.testing.assert_allclose(ours, np.float32(0.99).astype(float) ** (steps // 5_000_000), rtol=1e-6)
    assert wrong > 0
    state = optax.adamw(js.Linear(1.0, 0.0, 10)).init(jnp.zeros(2))
    assert not any(np.array_equal(leaf, np.float32(1.0)) for leaf in jax.tree.leaves(state))  # the rate is not there
    injected = optax.inject_hyperparams(optax.adamw)(learning_rate=js.Linear(1.0, 0.0, 10)).init(jnp.zeros(2))
    assert injected.hyperparams["learning_rate"] == 1.0


def test_the_example_of_contributing() -> None:
    """The class that CONTRIBUTING.md shows, run as it stands there."""
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    names = {**vars(js.schedules), "Interpolation": Interpolation, "Array": jax.Array, "Step": Any}
    exec(code, names)
    smooth = names["Smoothstep"](1.0, 0.0, 4)
    assert smooth.table(5).tolist() == [1.0, 0.84375, 0.5, 0.15625, 0.0]
    u = np.linspace(0, 1, 101)
    np.testing.assert_allclose(names["Smoothstep"](0.0, 1.0, 100).table(101), u * u * (3 - 2 * u), rtol=1e-5, atol=1e-9)
