"""refine against its paper's formula in float64 loops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.predict import refinement

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
@pytest.mark.parametrize(("window", "half"), [(0.0, 0), (0.004, 0), (None, 10), (0.105, 10), (0.29, 29), (1.0, 100)])
def test_every_step_is_that_of_the_paper(optimizer: Any, power: int, window: float | None, half: int) -> None:
    s = refine(NOISE, optimizer, **({} if window is None else {"window": window}))
    assert s.knots.tolist() == list(range(200))
    np.testing.assert_allclose(s.values, paper(NOISE, power, half), rtol=1e-10)


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
    with pytest.raises(ValueError, match=r"from 1e-300 to 1e\+300 are too far apart for float64"):
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


# --- peak and warmup ------------------------------------------------------------------------------------------------


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
        ({"grad_norms": [1.0, 2.0, 0.0, 1.0]}, r"grad_norms\[2\]=0.0 at step 2"),
        ({"grad_norms": [1.0, np.nan]}, r"grad_norms\[1\]=nan at step 1"),
        ({"grad_norms": [[1.0, 1.0], [1.0, np.inf], [1.0, 1.0]]}, r"grad_norms\[1\]\[1\]=inf at step 1"),
        ({"grad_norms": ([3, 70], [1.0, -1.0]), "total_steps": 100}, r"grad_norms\[1\]=-1.0 at step 70"),
        ({"grad_norms": [1.0]}, "2 or more"),
        ({"grad_norms": 3.0}, "grad_norms=3.0"),
        ({"grad_norms": (np.array([0, 5, 5]), np.ones(3)), "total_steps": 9}, "each larger than the one before"),
        ({"grad_norms": (np.array([-1, 5]), np.ones(2)), "total_steps": 9}, "steps must be 0 or more"),
        ({"grad_norms": (np.array([0, 5]), np.ones(3)), "total_steps": 9}, r"\(2,\) beside norms of shape \(3,\)"),
        ({"grad_norms": (np.array([0, 5]), np.ones(2))}, "write total_steps=6 or more"),
        ({"grad_norms": (np.array([0, 5]), np.ones(2)), "total_steps": 5}, "write 6 or more"),
        ({"total_steps": 9}, "total_steps=9; write 10 or more for 10 norms"),
        ({"window": 1.5}, "window=1.5"),
        ({"warmup_steps": 9}, "it must leave 2 or more of 10 steps"),
        ({"peak_value": 0.0}, "peak_value=0.0"),
        ({"peak_value": np.ones(2)}, "one number"),
    ],
)
def test_what_refine_refuses(kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        refine(**({"grad_norms": np.ones(10)} | kwargs))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: refine([[1.0, 2.0], [3.0, 4.0]]), "write a tuple"),
        (lambda: refine([[1.0, 2.0], [3.0], [1.0]]), "rows of the same length"),
        (lambda: refine([True, False]), "grad_norms="),
        (lambda: jax.jit(refine)(jnp.ones(5)), "outside of jit"),
    ],
)
def test_what_refine_does_not_know(call: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        call()
