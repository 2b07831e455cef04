"""Groups of parameters by pattern, on plain dicts, Flax Linen and Flax NNX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxsched as js

S = js.Linear(1.0, 0.0, 10)


def layer() -> dict[str, Any]:
    return {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}


def parameters() -> Any:
    return {
        "embed": {"table": jnp.ones((3, 2))},
        "backbone": {"block_0": {"conv": layer()}, "block_1": {"conv": layer(), "scale": jnp.ones(())}},
        "head": [layer(), layer()],
    }


def sgd(schedule: Any) -> Any:
    return js.inject_hyperparams(optax.sgd)(learning_rate=schedule)


def factors(groups: Any, params: Any) -> dict[str, float]:
    """By path, how fast each parameter goes downhill under a gradient of 1."""
    optimizer = js.by_path(groups)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    flat = jax.tree_util.tree_leaves_with_path(updates)
    for _, x in flat:
        assert len(np.unique(x)) == 1
    return {jax.tree_util.keystr(path, simple=True, separator="/"): -float(x.min()) for path, x in flat}


# --- which pattern fits ----------------------------------------------------------------------------------------------


def test_the_first_pattern_that_fits_has_the_parameter() -> None:
    groups = {
        "head/1/kernel": 1.0,
        "head/*/kernel": 2.0,
        "**/bias": 3.0,
        "backbone/block_*/conv/*": 4.0,
        "backbone/**/scale": 5.0,
        "**/embed/**/table/**": 6.0,
    }
    assert factors(groups, parameters()) == {
        "head/1/kernel": 1.0,
        "head/0/kernel": 2.0,
        "head/0/bias": 3.0,
        "head/1/bias": 3.0,
        "backbone/block_0/conv/bias": 3.0,
        "backbone/block_1/conv/bias": 3.0,
        "backbone/block_0/conv/kernel": 4.0,
        "backbone/block_1/conv/kernel": 4.0,
        "backbone/block_1/scale": 5.0,
        "embed/table": 6.0,
    }


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("a", "a", "b"),
        ("a/**", "a", "ab"),
        ("a/**", "a/b/c", "b/a"),
        ("**", "a/b", None),
        ("a/*", "a/b", "a/b/c"),
        ("a/*", "a/", "a"),
        ("a*/c", "ab/c", "a/b/c"),
        ("*/c", "a/c", "c"),
        ("**/c", "c", "cc"),
        ("**/c", "a/b/c", "c/d"),
        ("a/**/c", "a/c", "a/b"),
        ("a/**/c", "a/b/b/c", "a/b/bc"),
        ("a.c", "a.c", "abc"),
        ("l_(0)+", "l_(0)+", "l_0"),
    ],
)
def test_patterns(pattern: str, fits: str, does_not: str | None) -> None:
    def nested(path: str) -> Any:
        first, _, rest = path.partition("/")
        return {first: nested(rest) if _ else jnp.ones(1)}

    js.by_path({pattern: 0.1}).init(nested(fits))
    if does_not is not None:
        with pytest.raises(ValueError, match=r"^by_path: "):
            js.by_path({pattern: 0.1}).init(nested(does_not))


def test_a_linen_module_with_and_without_its_params() -> None:
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(1, name="head")(linen.Dense(3, name="backbone")(x))

    variables = Net().init(jax.random.key(0), jnp.ones(2))
    for groups in ({"backbone/**": 0.5, "head/*": 2.0}, {"**/kernel": 0.5, "*/bias": 2.0}):
        whole, inner = factors(groups, variables), factors(groups, variables["params"])
        assert whole == {f"params/{path}": x for path, x in inner.items()}
        assert set(whole.values()) == {0.5, 2.0}
    assert set(factors({"params/**": 3.0}, variables).values()) == {3.0}


def test_an_nnx_model_in_an_nnx_optimizer() -> None:
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.backbone = nnx.Linear(2, 3, rngs=rngs)
            self.norm = nnx.LayerNorm(3, rngs=rngs)
            self.head = nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.head(self.norm(self.backbone(x)))

    model = Net(nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    groups = {"backbone/kernel": 0.1 * S, "backbone/bias": None, "head/**": S, "norm/*": 0.05}
    optimizer = nnx.Optimizer(model, js.by_path(groups, sgd), wrt=nnx.Param)
    ones = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, ones)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    moved = jax.tree.map(lambda a, b: round(float(jnp.mean(a - b)), 5), before, after)
    assert moved["backbone"] == {"kernel": 0.1, "bias": 0.0}
    assert moved["norm"] == {"scale": 0.05, "bias": 0.05}
    assert moved["head"] == {"kernel": 1.0, "bias": 1.0}
    found = {name: round(float(x[...]), 5) for name, x in js.current_hyperparams(optimizer.opt_state).items()}
    assert found == {"backbone/kernel/learning_rate": 0.1, "head/learning_rate": 1.0, "norm/*/learning_rate": 0.05}


# --- what becomes of a group -----------------------------------------------------------------------------------------


def test_frozen_parameters_stay_and_have_no_moments() -> None:
    params = parameters()
    groups = {"backbone/**": S * 0.1, "head/**": S, "embed/**": None}
    optimizer = js.by_path(groups, lambda s: js.inject_hyperparams(optax.adam)(learning_rate=s))
    state = optimizer.init(params)
    moments = [x for x in jax.tree.leaves(state) if x.ndim]
    learns = [x for x in jax.tree.leaves({k: v for k, v in params.items() if k != "embed"}) if x.ndim]
    assert sum(x.size for x in moments) == 2 * sum(x.size for x in learns)
    assert jax.tree.leaves(state.inner_states["embed"]) == []

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(params, state, params)
        return optax.apply_updates(params, updates), state

    after = params
    for _ in range(3):
        after, state = step(after, state)
    np.testing.assert_array_equal(after["embed"]["table"], params["embed"]["table"])
    assert all(
        bool((a < b).all())
        for a, b in zip(jax.tree.leaves(after["head"]), jax.tree.leaves(params["head"]), strict=True)
    )
    assert {k: round(float(v), 6) for k, v in js.current_hyperparams(state).items() if "rate" in k} == {
        "backbone/learning_rate": 0.08,
        "head/learning_rate": 0.8,
    }
    # Each group alone is Adam alone: it knows nothing of the others.
    alone = optax.adam(S)
    head, own = params["head"], alone.init(params["head"])
    for _ in range(3):
        updates, own = alone.update(head, own, head)
        head = optax.apply_updates(head, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after["head"], head)


def test_groups_have_optimizers_of_their_own() -> None:
    params = parameters()
    groups = {"head/**": optax.sgd(0.5), "embed/**": lambda t: 0.25 + t, "**": 2.0}
    optimizer = optax.chain(optax.scale(2.0), js.by_path(groups))
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert {float(x.min()) for x in jax.tree.leaves(updates["head"])} == {-1.0}
    assert float(updates["embed"]["table"][0, 0]) == -0.5
    assert {float(x.min()) for x in jax.tree.leaves(updates["backbone"])} == {-4.0}
    assert set(js.current_hyperparams(state)) == {"embed/learning_rate", "**/learning_rate"}


def test_groups_of_a_mask() -> None:
    """What is masked away is no parameter of any group, in the updates neither."""
    params = parameters()
    mask = jax.tree.map(lambda _: True, params) | {"embed": False}
    optimizer = optax.masked(js.by_path({"head/**": 1.0, "backbone/**": 2.0}), mask)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert float(updates["embed"]["table"][0, 0]) == 1.0
    assert float(updates["head"][0]["bias"][0]) == -1.0


def test_settings_of_groups_side_by_side() -> None:
    params, peaks = parameters(), jnp.asarray([0.1, 0.2, 0.4])

    def train(peak: Any) -> Any:
        s = js.Linear(peak, 0.0, 10)
        optimizer = js.by_path(js.layerwise(s, ["embed", "backbone", "head"], 0.5), sgd)
        state, p = optimizer.init(params), params
        for _ in range(2):
            updates, state = optimizer.update(jax.tree.map(jnp.ones_like, p), state, p)
            p = optax.apply_updates(p, updates)
        return p

    together = jax.vmap(train)(peaks)
    for i, peak in enumerate([0.1, 0.2, 0.4]):
        for name, factor in (("embed", 0.25), ("backbone", 0.5), ("head", 1.0)):
            for x in jax.tree.leaves(together[name]):
                np.testing.assert_allclose(x[i], 1 - factor * peak * 1.9, rtol=1e-6)


def test_a_listener_is_found_by_its_group() -> None:
    groups = {"backbone/**": S, "head/**": S, "embed/**": None}
    optimizer = optax.chain(
        optax.scale_by_adam(), js.by_path(groups, lambda s: js.reduce_on_plateau(s, factor=0.5, patience=0))
    )
    state = optimizer.init(parameters())
    for _ in range(3):
        state = js.observe(state, value=1.0, name="head")
    found = js.current_hyperparams(state)
    assert {name: float(x) for name, x in found.items()} == {"backbone/learning_rate": 1.0, "head/learning_rate": 0.25}


def test_names_of_groups_are_short_where_that_tells_them_apart() -> None:
    groups = {"head/0/bias": S, "head": S, "head/**": S, "backbone/*/conv/**": S, "**": S}
    params = {**parameters(), "head": {"0": layer()}}
    with pytest.raises(ValueError, match="it is not a parameter: write 'head/\\*\\*' for all below it"):
        js.by_path(groups).init(params)
    del groups["head"]
    assert set(js.current_hyperparams(js.by_path(groups).init(params))) == {
        f"{name}/learning_rate" for name in ("head/0/bias", "head", "backbone/*/conv", "**")
    }
    bare = js.by_path({"a": 1.0, "a/**": 2.0}).init({"params": {"a": jnp.ones(1)}, "a": {"b": jnp.ones(1)}})
    assert js.current_hyperparams(bare) == {"a/learning_rate": 1.0, "a/**/learning_rate": 2.0}


# --- layer-wise decay ------------------------------------------------------------------------------------------------


def test_layerwise() -> None:
    groups = js.layerwise(S, ["embed", "backbone/block_0", "backbone/block_1/**", "head/*/*"], decay=0.5)
    assert list(groups) == ["embed/**", "backbone/block_0/**", "backbone/block_1/**", "head/*/*"]
    assert groups["head/*/*"] is S
    got = factors(groups, parameters())
    assert got["embed/table"] == 0.125
    assert got["backbone/block_0/conv/kernel"] == 0.25
    assert got["backbone/block_1/scale"] == 0.5
    assert got["head/0/bias"] == 1.0
    numbers = js.layerwise(0.1, ["a", "b"], decay=jnp.float32(0.5))
    np.testing.assert_allclose([s(7) for s in numbers.values()], [0.05, 0.1], rtol=1e-6)
