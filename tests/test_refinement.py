"""refine against its paper's formula in float64 loops, and the record of gradient norms against means by numpy."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.predict import refinement
from jaxsched.predict.refinement import GradNorms, GradNormState, record_grad_norms, recorded_grad_norms

refine: Any = refinement.refine
RNG = np.random.default_rng(0)
NOISE = np.exp(0.5 * RNG.normal(size=200)) * np.linspace(3, 1, 200)


def paper(norms: Any, power: int, half: int) -> np.ndarray:
    """The schedule of arXiv 2310.07831 for every step, with a median of `2 half + 1` norms."""
    norms = [float(x) for x in norms]
    n = len(norms)

    def at(i: int) -> float:  # nearest before the first, as in a mirror after the last
        return norms[max(i, 0)] if i < n else norms[2 * n - 1 - i]

    smooth = [sorted(at(j) for j in range(i - half, i + half + 1))[half] for i in range(n)]
    w = [g**-power for g in smooth]
    eta = [w[i] * sum(w[i + 1 :]) for i in range(n)]
    return np.array(eta) / max(eta)


def values(s: Any, total: int) -> np.ndarray:
    """The values of all steps, float64: the knots and the straight lines between them."""
    return np.interp(np.arange(total), s.knots, np.asarray(s.values, np.float64))


# --- the formula -----------------------------------------------------------------------------------------------------


def test_values_that_were_computed_apart() -> None:
    s = refine([4, 2, 1, 1, 1, 1, 2, 2, 4, 4], "sgd")
    want = [0.08405, 0.31897, 1, 0.72414, 0.44828, 0.17241, 0.02586, 0.00862, 0.00108, 0]
    np.testing.assert_allclose(s(jnp.arange(10)), want, atol=5e-6)
    assert s(10) == s(10_000) == 0  # it holds after its end


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("count", "total"), [(2, 2), (10, 10), (37, 37), (10, 1_000), (7, 100), (999, 1_000)])
def test_constant_norms_give_linear_decay(optimizer: Any, count: int, total: int) -> None:
    s = refine(np.full(count, 7.3), optimizer, total_steps=total, peak_value=0.3)
    steps = np.arange(total)
    np.testing.assert_allclose(values(s, total), 0.3 * (1 - steps / (total - 1)), rtol=1e-12, atol=1e-15)
    assert s.knots[-1] == total - 1


@pytest.mark.parametrize(("optimizer", "power"), [("sgd", 2), ("adam", 1)])
@pytest.mark.parametrize(("window", "half"), [(0.0, 0), (0.004, 0), (0.1, 10), (0.105, 10), (0.29, 29), (1.0, 100)])
def test_every_step_is_that_of_the_paper(optimizer: Any, power: int, window: float, half: int) -> None:
    s = refine(NOISE, optimizer, window=window)
    assert s.knots.tolist() == list(range(200))
    np.testing.assert_allclose(s.values, paper(NOISE, power, half), rtol=1e-10)


def test_the_default_window_is_a_tenth() -> None:
    np.testing.assert_allclose(refine(NOISE, "adam").values, paper(NOISE, 1, 10), rtol=1e-10)


def test_the_unit_of_the_norms_does_not_count() -> None:
    want = refine(NOISE).values
    for unit in (1e-160, 1e-30, 1e30, 1e160):
        np.testing.assert_allclose(refine(NOISE * unit).values, want, rtol=1e-10)


def test_norms_as_far_apart_as_floats() -> None:
    """Those of several trainings are not measured by the largest of all, below which others would vanish."""
    far = np.array([1e300, 1e-10, 3e-10, 2e-10])
    small = np.full(4, 1e-30)
    np.testing.assert_allclose(refine(np.array([small, far]), "adam").values, paper(far, 1, 0), rtol=1e-10)
    np.testing.assert_allclose(refine([5e-324] * 4).values, paper(np.ones(4), 1, 0), rtol=1e-10)
    np.testing.assert_allclose(refine([[1.7e308] * 4] * 3).values, paper(np.ones(4), 1, 0), rtol=1e-10)
    with pytest.raises(ValueError, match=r"refine: norms from 1e-300 to 1e\+300 are too far apart for float64"):
        refine([1e300, 1e-300, 1, 1])


def test_spikes_do_no_harm() -> None:
    calm, spiked = np.linspace(3.0, 1.0, 200), np.linspace(3.0, 1.0, 200)
    spiked[[20, 21, 22, 90, 150, 199]] = 1e6
    spiked[[50, 120]] = 1e-6
    want = refine(calm, "sgd").values
    np.testing.assert_allclose(refine(spiked, "sgd").values, want, atol=0.03)
    assert np.max(np.abs(refine(spiked, "sgd", window=0).values - want)) > 0.9


def test_several_trainings_are_averaged() -> None:
    rows = RNG.exponential(size=(3, 40)) + 0.1
    np.testing.assert_allclose(refine(rows).values, refine(rows.mean(axis=0)).values, rtol=1e-10)
    np.testing.assert_allclose(refine((np.arange(40), rows)).values, refine(rows).values, rtol=1e-10)


# --- fewer norms than steps ------------------------------------------------------------------------------------------


def test_means_of_stretches_give_the_schedule_of_all_steps() -> None:
    total = 1_000
    all_steps = 1.0 + np.sin(np.arange(total) / 200) ** 2
    full = refine(all_steps)
    for stride in (2, 4, 10):
        means = all_steps.reshape(-1, stride).mean(axis=1)
        s = refine(means, total_steps=total)
        assert s.knots.size <= len(means) + 2
        assert s.knots[0] == 0
        assert s.knots[-1] == total - 1
        np.testing.assert_allclose(values(s, total), values(full, total), atol=0.015)


def test_weights_are_straight_lines_between_the_steps_of_a_pair() -> None:
    steps, norms, total = np.array([3, 10, 11, 50]), np.array([2.0, 1.0, 0.5, 4.0]), 60
    s = refine((steps, norms), "sgd", total_steps=total, window=0)
    w = np.interp(np.arange(total), steps, norms**-2)
    eta = np.array([w[t] * w[t + 1 :].sum() for t in range(total)])
    assert s.knots.tolist() == [0, 3, 10, 11, 50, 59]
    at_knots = eta[s.knots]
    np.testing.assert_allclose(s.values, at_knots / at_knots.max(), rtol=1e-12)


def test_the_median_of_uneven_steps_goes_by_steps_and_not_by_places() -> None:
    steps = np.cumsum(RNG.integers(1, 9, size=80))
    norms = RNG.exponential(size=80) + 0.1
    total = int(steps[-1]) + 1
    left, right = steps[0] - (steps[1] - steps[0]) / 2, steps[-1] + (steps[-1] - steps[-2]) / 2
    around = np.concatenate([2 * left - steps, steps, 2 * right - steps])
    there = np.concatenate([np.full(80, norms[0]), norms, norms])
    smooth = np.array([np.median(there[np.abs(around - t) <= 0.05 * total]) for t in steps])
    want = refine((steps, smooth), "adam", total_steps=total, window=0)
    np.testing.assert_allclose(refine((steps, norms), "adam", total_steps=total).values, want.values, rtol=1e-10)


def test_a_pair_of_all_steps_is_the_array() -> None:
    s = refine((np.arange(200), NOISE))
    assert s.knots.tolist() == list(range(200))
    np.testing.assert_allclose(s.values, refine(NOISE).values, rtol=1e-12)
    late = refine((np.arange(5, 200), NOISE[5:]))  # the first ones were left out
    assert late.knots.tolist() == [0, *range(5, 200)]


def test_long_horizons_are_exact() -> None:
    s = refine(np.ones(100), total_steps=2_000_000_001)
    assert s.knots[-1] == 2_000_000_000
    assert s(1_000_000_000) == 0.5


# --- knots, peak and warmup ------------------------------------------------------------------------------------------


def test_few_knots_follow_the_curve() -> None:
    n = 20_000
    norms = (1 + np.cos(np.arange(n) / 3_000) ** 2) * np.exp(0.3 * RNG.normal(size=n))
    full, most = refine(norms, knots=n), refine(norms)
    assert full.knots.size == n
    assert most.knots.size == 1024
    for s, miss in ((most, 0.002), (refine(norms, knots=64), 0.02)):
        assert s.knots[0] == 0
        assert s.knots[-1] == n - 1
        assert s.values.max() == 1
        assert set(s.knots) <= set(full.knots)
        np.testing.assert_array_equal(s.values, full.values[s.knots])  # no knot is off the curve
        np.testing.assert_allclose(values(s, n), full.values, atol=miss)
    assert refine(norms, knots=64).knots.size == 64
    assert refine(np.ones(5_000)).knots.tolist() == [0, 4_999]  # more would change nothing


@pytest.mark.trial
def test_very_many_norms() -> None:
    """At this size a median window by window would take minutes, or gigabytes."""
    s = refine(np.linspace(2.0, 1.0, 300_000), "adam")
    t = np.arange(300_000) / 300_000
    w = 1 / (2 - t)
    want = w * (np.log(2 - t) - 0)  # the integral of w from t to 1
    np.testing.assert_allclose(values(s, 300_000), want / want.max(), atol=0.005)  # the ends of the median are flat


def test_warmup_and_peak() -> None:
    eta = values(refine(NOISE, "adam"), 200) * np.minimum(1, np.arange(200) / 30)
    s = refine(NOISE, "adam", peak_value=3e-3, warmup_steps=30)
    np.testing.assert_allclose(s.values, 3e-3 * eta / eta.max(), rtol=1e-10)
    assert s(0) == 0


def test_the_peak_may_be_traced() -> None:
    @jax.jit
    @jax.vmap
    def at_50(peak: Any) -> Any:
        return refine(NOISE[:20], peak_value=peak)(5)

    want = float(refine(NOISE[:20])(5))
    np.testing.assert_allclose(at_50(jnp.array([0.1, 0.2])), [0.1 * want, 0.2 * want], rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"optimizer": "adamw"}, "did you mean 'adam'"),
        ({"optimizer": 2}, "optimizer=2"),
        ({"grad_norms": [1.0, 2.0, 0.0, 1.0]}, "the norm at step 2 is 0"),
        ({"grad_norms": [1.0, -2.0, 1.0]}, "the norm at step 1 is -2"),
        ({"grad_norms": [1.0, np.nan]}, "the norm at step 1 is nan"),
        ({"grad_norms": [[1.0, 1.0], [1.0, np.inf], [1.0, 1.0]]}, "the norm of training 1 at step 1 is inf"),
        ({"grad_norms": (np.array([3, 70]), np.array([1.0, -1.0])), "total_steps": 100}, "at step 70 is -1"),
        ({"grad_norms": [1.0]}, "2 or more"),
        ({"grad_norms": np.ones((0, 5))}, "2 or more"),
        ({"grad_norms": 3.0}, "grad_norms=3.0"),
        ({"grad_norms": (np.array([0]), np.array([1.0]))}, "2 or more"),
        ({"grad_norms": (np.array([0, 5, 5]), np.ones(3)), "total_steps": 9}, r"steps\[2\] is 5 after 5"),
        ({"grad_norms": (np.array([-1, 5]), np.ones(2)), "total_steps": 9}, r"steps\[0\] is -1"),
        ({"grad_norms": (np.array([0, np.nan]), np.ones(2)), "total_steps": 9}, r"steps\[1\] is nan"),
        ({"grad_norms": (np.array([0, 5]), np.ones(3)), "total_steps": 9}, r"\(2,\) and norms of shape \(3,\)"),
        ({"grad_norms": (np.array([0, 5]), np.ones(2))}, "write total_steps=6 or more"),
        ({"grad_norms": (np.array([0, 5]), np.ones(2)), "total_steps": 5}, "write 6 or more"),
        ({"total_steps": 9}, "10 norms beside total_steps=9"),
        ({"total_steps": 20.0}, "total_steps=20.0"),
        ({"window": 1.5}, "window=1.5"),
        ({"window": "5%"}, "window='5%'"),
        ({"warmup_steps": 9}, "of a training of 10 steps it must leave 2 or more"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"knots": 2}, "knots=2"),
        ({"peak_value": 0.0}, "peak_value=0.0"),
        ({"peak_value": np.ones(2)}, "one number"),
    ],
)
def test_what_refine_refuses(kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        refine(**({"grad_norms": np.ones(10)} | kwargs))


@pytest.mark.parametrize(
    ("norms", "says"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], "write a tuple"),
        ([[1.0, 2.0], [3.0], [1.0]], "different lengths"),
        ("norms", "grad_norms='norms'"),
        ([True, False], "grad_norms="),
    ],
)
def test_what_refine_does_not_know(norms: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        refine(norms)


def test_traced_norms_are_refused() -> None:
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(refine)(jnp.ones(5))


# --- the record ------------------------------------------------------------------------------------------------------

DIRECTION = {"a": np.array([0.6, 0.0], np.float32), "b": np.float32(-0.8)}  # of norm 1


@functools.partial(jax.jit, static_argnums=0)
def run(optimizer: Any, norms: Any) -> Any:
    """The state after gradients of these norms."""

    def one(state: Any, norm: Any) -> Any:
        gradient = jax.tree.map(lambda x: norm * x, DIRECTION)
        _, state = optimizer.update(gradient, state, DIRECTION)
        return state, None

    return jax.lax.scan(one, optimizer.init(DIRECTION), jnp.asarray(norms, jnp.float32))[0]


def means(norms: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The record from its definition: stretches of the least power of two that fits."""
    stride = 1
    while len(norms) > size * stride:
        stride *= 2
    parts = [np.float64(norms[i : i + stride]) for i in range(0, len(norms), stride)]
    middles = [np.arange(len(norms))[i : i + stride].mean() for i in range(0, len(norms), stride)]
    return np.array(middles), np.array([part.mean() for part in parts])


FOUR: Any = record_grad_norms(size=4)


def test_the_record_covers_the_whole_training() -> None:
    def one(state: Any, norm: Any) -> Any:
        _, state = FOUR.update(jnp.array([norm]), state)
        return state, state

    states = jax.jit(lambda xs: jax.lax.scan(one, FOUR.init(jnp.zeros(1)), xs)[1])(jnp.asarray(NOISE, jnp.float32))
    for n in (*range(1, 36), 63, 64, 65, 127, 128, 129, 200):
        steps, norms = recorded_grad_norms(jax.tree.map(lambda x, n=n: x[n - 1], states))
        want_steps, want = means(NOISE[:n], 4)
        np.testing.assert_array_equal(steps, want_steps)
        np.testing.assert_allclose(norms, want, rtol=1e-6)
        assert n <= 2 or 2 <= norms.size <= 4


@pytest.mark.parametrize(("norm", "order"), [pytest.param("l2", 2, marks=pytest.mark.trial), ("l1", 1)])
def test_l2_and_l1(norm: Any, order: int) -> None:
    gradients = [{"a": RNG.normal(size=(3, 2)), "b": RNG.normal(size=4)} for _ in range(3)]
    optimizer = record_grad_norms(size=4, norm=norm)
    state = optimizer.init(gradients[0])
    update = jax.jit(functools.partial(optimizer.update, value=1.0))
    for g in gradients:
        same, state = update(g, state)
        jax.tree.map(np.testing.assert_array_equal, same, jax.tree.map(np.float32, g))
    flat = [np.concatenate([g["a"].ravel(), g["b"]]) for g in gradients]
    want = [np.linalg.norm(x, order) for x in flat]
    np.testing.assert_allclose(recorded_grad_norms(state).norms, want, rtol=1e-6)


@pytest.mark.trial
def test_l1_is_summed_in_float32_and_does_not_overflow() -> None:
    """The other norm is that of `autoclip`, and is tested there."""
    optimizer = record_grad_norms(size=4, norm="l1")
    update = jax.jit(optimizer.update)
    tree = [jnp.full(1_000, 0.1, jnp.bfloat16), jnp.full(3, 0.7, jnp.bfloat16)]
    _, state = update(tree, optimizer.init(tree))
    _, state = update([jnp.full(2, 3e38), jnp.full(3, 1e38)], state)
    small = np.sum([np.sum(np.float64(x)) for x in tree])
    np.testing.assert_allclose(recorded_grad_norms(state).norms, [small, np.finfo(np.float32).max], rtol=1e-6)
    assert int(state.non_finite) == 0
    with jax.numpy_dtype_promotion("strict"):
        _, state = update([jnp.array([3 + 4j]), jnp.array([jnp.inf])], state)
    assert int(state.non_finite) == 1
    assert update({}, optimizer.init({}))[1].count == 1


def test_what_is_not_finite_is_counted_and_in_no_mean() -> None:
    norms = np.array([1, 2, np.nan, np.nan, 3, np.inf, 5, 6, 7, 8], np.float32)
    state = run(FOUR, norms[:4])
    assert int(state.non_finite) == 2
    np.testing.assert_array_equal(recorded_grad_norms(state).steps, [0, 1])
    state = run(FOUR, norms)  # stretches of 4: (1, 2), (3, 5, 6), (7, 8)
    assert int(state.non_finite) == 3
    steps, got = recorded_grad_norms(state)
    np.testing.assert_array_equal(steps, [1.5, 5.5, 8.5])
    np.testing.assert_allclose(got, [1.5, 14 / 3, 7.5], rtol=1e-6)
    with pytest.raises(ValueError, match="no finite norm after 10 updates"):
        recorded_grad_norms(run(FOUR, [np.nan] * 10))


@pytest.mark.trial
def test_the_states_of_a_vmap() -> None:
    rows = (RNG.exponential(size=(3, 11)) + 0.1).astype(np.float32)
    state = jax.vmap(functools.partial(run, FOUR))(rows)
    steps, norms = recorded_grad_norms(state)
    assert steps.shape == (3,)
    np.testing.assert_allclose(norms, [means(row, 4)[1] for row in rows], rtol=1e-6)
    s = refine((steps, norms), total_steps=11)
    np.testing.assert_allclose(s.values, refine((steps, norms.mean(axis=0)), total_steps=11).values, rtol=1e-10)
    apart = state._replace(count=state.count + np.array([0, 1, 0]))
    with pytest.raises(ValueError, match=r"\[11, 12, 11\] steps; take one"):
        recorded_grad_norms(apart)
    alone = recorded_grad_norms(jax.tree.map(lambda x: x[1], state))
    np.testing.assert_array_equal(alone.norms, norms[1])
    rows[1, :4] = np.nan  # one training, and in the last stretch all of them
    rows[:, 8:] = np.nan
    steps, norms = recorded_grad_norms(jax.vmap(functools.partial(run, FOUR))(rows))
    assert steps.tolist() == [1.5, 5.5]
    assert np.isnan(norms).tolist() == [[False, False], [True, False], [False, False]]


def nested() -> dict[str, Any]:
    chain = optax.chain(FOUR, optax.clip_by_global_norm(0.1), optax.adam(1e-3))
    return {
        "chain": chain,
        "inject": optax.inject_hyperparams(lambda lr: optax.chain(FOUR, optax.sgd(lr)))(lr=0.1),
        "masked": optax.masked(FOUR, {"a": True, "b": False}),
        "groups": optax.multi_transform({"x": FOUR, "y": optax.sgd(0.1)}, {"a": "x", "b": "y"}),
        "steps": optax.MultiSteps(chain, every_k_schedule=2).gradient_transformation(),
    }


NESTED = [pytest.param(x, marks=[pytest.mark.trial] * (x not in ("chain", "steps"))) for x in nested()]


@pytest.mark.parametrize("name", NESTED)
def test_wherever_it_is_nested(name: str) -> None:
    norms = NOISE[:6]
    if name == "steps":  # it sees the mean of two gradients
        want = norms.reshape(3, 2).mean(axis=1)
    else:
        part = 0.6 if name in ("masked", "groups") else 1.0
        want = part * norms.reshape(3, 2).mean(axis=1)  # 6 norms do not fit in 4 places
    got = recorded_grad_norms(run(nested()[name], norms))
    assert isinstance(got, GradNorms)
    np.testing.assert_allclose(got.norms, want, rtol=1e-6)
    assert got.steps.tolist() == ([0, 1, 2] if name == "steps" else [0.5, 2.5, 4.5])


def test_a_state_is_arrays_that_are_donated_and_kept() -> None:
    traces = []

    @functools.partial(jax.jit, donate_argnums=1)
    def update(gradient: Any, state: Any) -> Any:
        traces.append(1)
        return FOUR.update(gradient, state)[1]

    state = FOUR.init(DIRECTION)
    assert {x.dtype.name for x in jax.tree.leaves(state)} == {"float32", "int32"}
    for i, norm in enumerate(NOISE[:9]):
        state = update({"a": jnp.array([norm])}, state)
        if i == 4:  # as from a checkpoint
            state = GradNormState(*pickle.loads(pickle.dumps([np.asarray(x) for x in state])))
    np.testing.assert_allclose(recorded_grad_norms(state).norms, means(NOISE[:9], 4)[1], rtol=1e-6)
    assert len(traces) == 1


@pytest.mark.trial
def test_it_goes_on_where_counts_end() -> None:
    most = np.iinfo(np.int32).max
    state = FOUR.init(DIRECTION)._replace(count=jnp.int32(most), stride=jnp.int32(2**29))
    _, after = jax.jit(FOUR.update)({"a": jnp.array([2.0])}, state)
    assert int(after.count) == most
    assert after.norms.tolist() == [0, 0, 0, 2]


def test_where_there_is_no_record_or_there_are_several() -> None:
    with pytest.raises(ValueError, match="no record in this tuple; put one first in the chain"):
        recorded_grad_norms(optax.adam(1e-3).init(DIRECTION))
    state = {"x": FOUR.init(DIRECTION), "y": run(FOUR, NOISE[:3])}
    with pytest.raises(ValueError, match=r"2 records, in .*x.*y.*; pass the part"):
        recorded_grad_norms(state)
    np.testing.assert_allclose(recorded_grad_norms(state["y"]).norms, NOISE[:3], rtol=1e-6)
    with pytest.raises(ValueError, match="after 0 updates"):
        recorded_grad_norms(FOUR.init(DIRECTION))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda state: recorded_grad_norms(state).norms)(FOUR.init(DIRECTION))


@pytest.mark.parametrize(
    ("kwargs", "error", "says"),
    [
        ({"size": 5}, ValueError, "size=5"),
        ({"size": 2}, ValueError, "size=2"),
        ({"size": 8.0}, TypeError, "size=8.0"),
        ({"size": True}, TypeError, "size=True"),
        ({"norm": "l3"}, ValueError, "did you mean"),
        ({"norm": 2}, ValueError, "norm=2"),
    ],
)
def test_what_the_record_refuses(kwargs: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        record_grad_norms(**kwargs)


@pytest.mark.trial
def test_from_a_training_to_its_schedule() -> None:
    """Gradient descent on a quadratic, whose norms are known, and the schedule of the paper for them."""
    optimizer = optax.chain(record_grad_norms(size=64), optax.sgd(js.Linear(0.1, 0.0, 50)))

    def step(carry: Any, _: Any) -> Any:
        x, state = carry
        updates, state = optimizer.update(2 * x, state)
        return (optax.apply_updates(x, updates), state), None

    start = jnp.array([3.0, -4.0])
    (_, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=50)
    norms = 10 * np.cumprod([1.0, *(1 - 0.2 * (1 - np.arange(49) / 50))])
    got = recorded_grad_norms(state)
    np.testing.assert_allclose(got.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(refine(got, "adam").values, paper(norms, 1, 2), rtol=1e-4)


def test_a_state_is_no_record() -> None:
    optimizer = optax.chain(record_grad_norms(size=4), optax.sgd(0.1))
    with pytest.raises(TypeError, match=r"write refine\(recorded_grad_norms\(opt_state\)\)"):
        refine(optimizer.init(jnp.ones(2)))
