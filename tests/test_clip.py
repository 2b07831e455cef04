"""autoclip and zclip against their papers' algorithms, written on float64 numpy from the papers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.optim.clip import global_norm

RNG = np.random.default_rng(0)
NORMS = np.exp(RNG.normal(size=120)) * np.where(RNG.random(120) < 0.1, 50.0, 1.0)  # with outliers


def clipped(transformation: Any, norms: Any) -> Any:
    """The norms of the updates, for gradients of these norms."""
    direction = {"a": jnp.array([0.6, 0.0]), "b": jnp.array(-0.8)}

    def one(state: Any, norm: Any) -> Any:
        updates, state = transformation.update(jax.tree.map(lambda x: norm * x, direction), state)
        return state, jnp.sqrt(jnp.sum(updates["a"] ** 2) + updates["b"] ** 2)

    return jax.lax.scan(one, transformation.init(direction), jnp.asarray(norms, jnp.float32))[1]


# --- the norm --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1.0, 1e30, 5e37])
def test_the_norm_of_any_size(size: float) -> None:
    """Squares of these leave float32; 1e-40 is flushed to zero by XLA."""
    tree = {"a": np.float32([[3, -1], [0, 2]]) * np.float32(size), "b": np.float32(1.5) * np.float32(size)}
    want = np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in tree.values()))
    np.testing.assert_allclose(jax.jit(global_norm)(tree), want, rtol=1e-6, atol=1e-37)


def test_the_norm_of_bfloat16_is_summed_in_float32() -> None:
    leaves = [jnp.full(1_000, 0.1, jnp.bfloat16), jnp.full(3, 0.7, jnp.bfloat16)]
    want = np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in leaves))
    assert global_norm(leaves).dtype == jnp.float32
    np.testing.assert_allclose(global_norm(leaves), want, rtol=1e-6)
    in_bfloat16 = jnp.sqrt(sum(jnp.sum(x * x) for x in leaves))
    assert abs(float(in_bfloat16) / want - 1) > 1e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_norm_is_nan_where_an_element_is_not_finite(bad: float) -> None:
    assert np.isnan(global_norm([jnp.array([1.0, bad]), jnp.ones(3)]))
    assert np.isfinite(global_norm([jnp.full(9, 3e38)]))  # beyond float32, and yet each of them is finite


def test_the_norm_of_nothing_and_of_zeros() -> None:
    assert global_norm({}) == 0
    assert global_norm([jnp.zeros(3), jnp.zeros((0, 2)), jnp.zeros((), jnp.int32)]) == 0
    assert global_norm([jnp.array([3 + 4j])]) == 5


# --- autoclip --------------------------------------------------------------------------------------------------------


def autoclip_paper(norms: Any, percentile: float, history: int) -> np.ndarray:
    seen: list[float] = []
    result = []
    for norm in np.float64(np.float32(norms)):
        seen = [*seen, norm][-history:]
        result.append(min(norm, np.percentile(seen, percentile)))
    return np.array(result)


@pytest.mark.parametrize("history", [1, 7, 1000])
def test_autoclip_is_the_percentile_of_its_history(history: int) -> None:
    percentiles = np.float32([0, 10, 33.3, 50, 97, 100])
    got = jax.jit(jax.vmap(lambda p: clipped(js.optim.autoclip(p, history=history), NORMS)))(percentiles)
    for row, percentile in zip(np.asarray(got), percentiles, strict=True):
        np.testing.assert_allclose(row, autoclip_paper(NORMS, float(percentile), history), rtol=1e-5)


def test_autoclip_does_not_keep_what_is_not_finite() -> None:
    transformation = js.optim.autoclip(50, history=3)
    state = transformation.init(None)
    updates, state = transformation.update(jnp.array([jnp.nan, 1.0]), state)
    np.testing.assert_array_equal(updates, [np.nan, 1.0])
    for gradient in [2.0, jnp.inf, 4.0]:
        updates, state = transformation.update(jnp.array([gradient]), state)
    assert state.norm_count == 2
    assert updates == 3
    np.testing.assert_array_equal(state.norms, [2, 4, 0])


# --- zclip -----------------------------------------------------------------------------------------------------------


def zclip_paper(
    norms: Any, alpha: float, z_threshold: float, burn_in: int, max_norm: float | None, eps: float
) -> np.ndarray:
    norms = np.float64(np.float32(norms))
    bound = np.inf if max_norm is None else max_norm
    mean, variance = norms[:burn_in].mean(), norms[:burn_in].var()
    result = list(np.minimum(norms[:burn_in], bound))
    for norm in norms[burn_in:]:
        z = (norm - mean) / (np.sqrt(variance) + eps)
        calm = mean + z_threshold * np.sqrt(variance) / (z / z_threshold) if z > z_threshold else norm
        result.append(min(calm, bound))
        mean = alpha * mean + (1 - alpha) * calm
        variance = alpha * variance + (1 - alpha) * (calm - mean) ** 2
    return np.array(result)


SETTINGS = [
    {"alpha": 0.97, "z_threshold": 2.5, "burn_in": 25, "max_norm": 1.0, "eps": 1e-6},
    {"alpha": 0.97, "z_threshold": 2.5, "burn_in": 25, "max_norm": 1e9, "eps": 1e-6},
    {"alpha": 0.8, "z_threshold": 1.0, "burn_in": 1, "max_norm": 20.0, "eps": 0.1},
    {"alpha": 0.5, "z_threshold": 0.5, "burn_in": 10, "max_norm": 5.0, "eps": 0.0},
]


def test_zclip_is_the_published_algorithm() -> None:
    stacked = {name: jnp.array([s[name] for s in SETTINGS]) for name in SETTINGS[0]}
    got = jax.jit(jax.vmap(lambda s: clipped(js.optim.zclip(**s), NORMS)))(stacked)
    for row, arguments in zip(np.asarray(got), SETTINGS, strict=True):
        want = zclip_paper(NORMS, **arguments)
        np.testing.assert_allclose(row, want, rtol=2e-5)
        outliers = np.minimum(np.float32(NORMS), arguments["max_norm"]) > want * (1 + 1e-4)
        assert outliers[arguments["burn_in"] :].sum() > 3 or arguments["max_norm"] == 1


def test_zclip_by_default_and_without_a_bound() -> None:
    np.testing.assert_allclose(clipped(js.optim.zclip(), NORMS), zclip_paper(NORMS, **SETTINGS[0]), rtol=2e-5)
    free = SETTINGS[0] | {"max_norm": None}
    got = clipped(js.optim.zclip(max_norm=None), NORMS)
    np.testing.assert_allclose(got, zclip_paper(NORMS, **free), rtol=2e-5)
    assert got.max() > 1


def test_zclip_survives_what_overflows() -> None:
    """A gradient of 1e30, whose square is no float32, is an outlier; NaN passes and enters nothing."""
    transformation = js.optim.zclip(burn_in=3, max_norm=None)
    state = transformation.init(None)
    for gradient in [1.0, 2.0, 1.5, 1e30]:
        updates, state = transformation.update(jnp.array([gradient]), state)
    np.testing.assert_allclose(updates, 1.5, rtol=1e-3)
    updates, after = transformation.update(jnp.array([jnp.nan]), state)
    assert np.isnan(updates).all()
    jax.tree.map(np.testing.assert_array_equal, after, state)
