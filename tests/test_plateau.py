"""The plateau against torch and Keras (recorded), beside optax's, and wherever a state may be nested."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from optax.transforms import partition  # at the top only since optax 0.2.5

import jaxsched as js

from .plateaus import ROUNDING, TINY, cuts, from_keras, many, rates

RECORDED = np.load(Path(__file__).parent / "peers" / "plateau.npz")
ZEROS = jnp.zeros(3)
ONES = jnp.ones(3)


def observed(transformation: Any, metrics: Any, params: Any = ZEROS) -> Any:
    state = transformation.init(params)
    for metric in metrics:
        state = js.observe(state, value=metric)
    return state


def plateau(metrics: Any, learning_rate: Any = 1.0, **arguments: Any) -> js.optim.PlateauState:
    return observed(js.reduce_on_plateau(learning_rate, **arguments), metrics)


# --- peers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["torch", "keras"])
def test_every_recorded_observation(peer: str) -> None:
    """2,000 sequences of torch's class and 300 of Keras's callback: the same cuts, and the same rates."""
    assert {"torch": "2.13.0", "keras": "3.15.1"}[peer] == str(RECORDED[f"{peer}_version"])
    arguments = json.loads(str(RECORDED[f"{peer}_arguments"]))
    arguments = list(map(from_keras, arguments)) if peer == "keras" else arguments
    theirs = RECORDED[f"{peer}_rates"]
    assert theirs.shape == ({"torch": 2_000, "keras": 300}[peer], 60)
    ours = many(arguments, RECORDED[f"{peer}_metrics"])
    np.testing.assert_allclose(ours, theirs, rtol=ROUNDING, atol=TINY)
    start = [a["lr"] for a in arguments]
    their_cuts = cuts(theirs, start) & (theirs > TINY)
    np.testing.assert_array_equal(cuts(ours, start) & (theirs > TINY), their_cuts)
    assert their_cuts.sum() > 3_000


def optax_plateau(metrics: Any, **arguments: Any) -> Any:
    transformation = optax.contrib.reduce_on_plateau(**arguments)
    state, update = transformation.init(ZEROS), jax.jit(transformation.update)
    for metric in metrics:
        _, state = update(ZEROS, state, value=jnp.asarray(metric))
    return state


def test_optax_has_no_max() -> None:
    rising = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert optax_plateau(rising, patience=2, factor=0.5).scale < 1
    assert plateau(rising, patience=2, factor=0.5, mode="max").scale == 1


def test_optax_mixes_rel_and_abs() -> None:
    """From 10 to 9.4: better by 5 % or by 0.5, but not by both together."""
    metrics = [10.0, 9.4]
    assert optax_plateau(metrics, patience=1, factor=0.5, rtol=0.05, atol=0.5, cooldown=9).scale == 0.5
    for threshold, mode in ((0.05, "rel"), (0.5, "abs")):
        assert plateau(metrics, patience=0, factor=0.5, threshold=threshold, threshold_mode=mode).scale == 1


def test_optax_cuts_one_observation_early() -> None:
    metrics = [1.0, 1.0, 1.0]
    assert optax_plateau(metrics, patience=2, factor=0.5).scale == 0.5
    assert plateau(metrics, patience=2, factor=0.5).scale == 1
    assert plateau([*metrics, 1.0], patience=2, factor=0.5).scale == 0.5


def test_optax_cuts_what_improves_without_patience() -> None:
    falling = [1.0, 0.5, 0.25]
    with pytest.raises(AssertionError):
        np.testing.assert_equal(float(optax_plateau(falling, patience=0, factor=0.5).scale), 1.0)
    assert plateau(falling, patience=0, factor=0.5).scale == 1
    assert plateau([*falling, 0.25], patience=0, factor=0.5).scale == 0.5


def test_optax_has_a_relative_floor_and_no_eps() -> None:
    flat = [1.0] * 12
    state = plateau(flat, learning_rate=1e-3, patience=0, min_lr=3e-5)
    assert state.learning_rate == np.float32(3e-5)
    assert optax_plateau(flat, patience=1, min_scale=3e-5).scale * 1e-3 < 4e-8  # a share of the rate, not a rate
    assert plateau(flat, learning_rate=1e-3, patience=0).learning_rate > 1e-9  # eps: 1e-8 -> 1e-9 is not worth a cut
    assert plateau(flat, learning_rate=1e-3, patience=0, eps=0.0).learning_rate < 1e-12


def test_optax_cuts_a_bfloat16_model_that_improves() -> None:
    params = ONES.astype(jnp.bfloat16)
    metrics = 0.999 ** np.arange(100)  # a tenth of a percent better each time
    theirs = optax.contrib.reduce_on_plateau(patience=3)
    state = theirs.init(params)
    update = jax.jit(theirs.update)
    for metric in metrics:
        _, state = update(params, state, value=metric)
    # An older optax keeps the best metric in float32, and has this fault for the scale alone.
    assert state.scale < 1e-3 or state.best_value.dtype == jnp.float32
    assert state.scale.dtype == jnp.bfloat16
    transformation = js.reduce_on_plateau(0.1, patience=3)
    ours = transformation.init(params)
    update = jax.jit(transformation.update)
    for metric in metrics:
        updates, ours = update(params, ours, value=metric)
    assert ours.scale == 1
    assert ours.best == np.float32(metrics[-1])
    assert updates.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(ours)} == {jnp.dtype("float32"), jnp.dtype("int32")}


def test_a_negative_metric() -> None:
    """A metric that rises from -1 is no better: torch calls it so (its rule stands by default), and optax never cuts
    at all where the threshold is a share of it."""
    worse = [-1.0, -0.99, -0.98, -0.97]
    arguments: dict[str, Any] = {"patience": 1, "factor": 0.5, "threshold": 0.1}
    assert optax_plateau(worse, patience=2, factor=0.5, rtol=0.1).scale == 1
    assert plateau(worse, **arguments).scale == 1
    assert plateau(worse, **arguments, sign_safe=True).scale == 0.5
    better = [-1.0, -1.2, -1.5, -1.8]
    assert plateau(better, **arguments, sign_safe=True).scale == 1
    assert plateau(-np.array(better), **arguments, sign_safe=True, mode="max").scale == 1
    # A metric that is positive is judged by both rules alike.
    rng = np.random.default_rng(1)
    positive = rng.uniform(1, 2, 40).astype(np.float32)
    numbers = {"lr": 1.0, "factor": 0.5, "patience": 1, "threshold": 0.05, "cooldown": 0, "min_lr": 0.0, "eps": 0.0}
    both = [rates(numbers, positive, "min", "rel", sign_safe=flag) for flag in (False, True)]
    np.testing.assert_array_equal(*both)
    assert both[0][-1] < 0.01


# --- what torch does not have ----------------------------------------------------------------------------------------


def test_nan_is_bad_or_ignored_or_a_cut() -> None:
    nan = float("nan")
    metrics = [1.0, nan, nan, nan, 0.5]
    states = {policy: plateau(metrics, nan=policy, patience=2, factor=0.5) for policy in ("bad", "ignore", "cut")}
    assert {policy: state.scale.item() for policy, state in states.items()} == {"bad": 0.5, "ignore": 1.0, "cut": 0.125}
    assert all(state.best == 0.5 for state in states.values())
    assert plateau(metrics, nan="cut", patience=2, factor=0.5, cooldown=9).scale == 0.5  # only one cut
    assert plateau([nan, 3.0], nan="bad").best == 3.0  # a first NaN is not the best


def test_a_window_is_a_mean_without_its_nans() -> None:
    nan = float("nan")
    metrics = [3.0, 1.0, nan, 2.0, 8.0, 2.0, nan, 2.0]  # means: 2, then 5, then 2
    state = plateau(metrics, window=2, nan="ignore", patience=0, factor=0.5)
    assert (state.best, state.scale, state.bad_count) == (2.0, 0.25, 0)
    assert state.window_count == 0
    half = plateau([*metrics, 7.0], window=2, nan="ignore", patience=0, factor=0.5)
    assert (half.window_count, half.window_total, half.scale) == (1, 7.0, 0.25)
    # Where NaN is bad it is a judgement of its own, and the window goes on beside it.
    bad = plateau(metrics, window=2, nan="bad", patience=10)
    assert bad.bad_count == 1 + 1 + 1 + 1
    assert bad.best == 2.0
    # The mean of a window is what would be judged without one.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)).astype(np.float32)
    numbers = {"lr": 1.0, "factor": 0.5, "patience": 1, "threshold": 0.05, "cooldown": 1, "min_lr": 0.0, "eps": 0.0}
    windowed = rates(numbers, x.ravel(), "min", "abs", window=4)
    np.testing.assert_array_equal(windowed[3::4], rates(numbers, x.mean(1, dtype=np.float64), "min", "abs"))
    assert len(set(np.asarray(windowed).tolist())) > 5


def test_warmup_observations_are_not_judged() -> None:
    nan = float("nan")
    state = plateau([0.01, nan, 5.0, 5.0], warmup=2, patience=0, factor=0.5)
    assert (state.best, state.scale, state.observed_count) == (5.0, 0.5, 4)


def test_it_multiplies_a_schedule() -> None:
    """Warmup and cosine go on under the cuts; no cut goes below `min_lr`, and no lower schedule is raised."""
    schedule = js.WarmupCosine(peak_value=1.0, warmup_steps=10, total_steps=100)
    transformation = js.reduce_on_plateau(schedule, patience=0, factor=0.1, min_lr=0.02)
    state = transformation.init(ZEROS)

    @jax.jit
    def run(state: Any) -> Any:
        def one(state: Any, step: Any) -> Any:
            updates, state = transformation.update(ONES, state)
            state = jax.lax.cond(
                (step == 29) | (step == 30) | (step == 60), lambda s: js.observe(s, value=1.0), lambda s: s, state
            )
            return state, updates[0]

        return jax.lax.scan(one, state, jnp.arange(100))

    state, updates = run(state)
    t = np.arange(100)
    base = np.where(t < 10, t / 10, 0.5 * (1 + np.cos(np.pi * (t - 10) / 90)))
    scale = np.where(t <= 30, 1.0, np.where(t <= 60, 0.1, 0.01))
    want = np.minimum(base, np.maximum(base * scale, 0.02))
    np.testing.assert_allclose(-updates, want, rtol=2e-6, atol=1e-7)
    assert state.scale == np.float32(0.1) * np.float32(0.1)
    assert want[-1] == base[-1] < 0.02  # the end of the cosine, lower than any floor


@pytest.mark.parametrize(
    "rate", [0.1, js.Constant(0.1), lambda step: 0.1, optax.constant_schedule(0.1), np.float32(0.1)]
)
def test_the_rate_is_a_number_or_anything_that_can_be_called(rate: Any) -> None:
    transformation = js.reduce_on_plateau(rate)
    updates, state = transformation.update(ONES, transformation.init(ONES))
    np.testing.assert_allclose(updates, -0.1, rtol=1e-6)
    np.testing.assert_allclose(state.learning_rate, 0.1, rtol=1e-6)


def test_without_a_rate_it_scales_what_comes() -> None:
    transformation = js.reduce_on_plateau(patience=0, factor=0.5, min_lr=0.3)
    state = observed(transformation, [1.0, 1.0])
    assert transformation.update(ONES, state)[0].tolist() == [0.5] * 3
    state = js.observe(js.observe(state, value=1.0), value=1.0)
    np.testing.assert_allclose(transformation.update(ONES, state)[0], 0.3)
    assert js.current_hyperparams(state).keys() == {"scale"}


def test_a_metric_on_an_update_applies_to_that_update() -> None:
    transformation = js.reduce_on_plateau(1.0, patience=0, factor=0.5)
    state = transformation.init(ZEROS)
    got = []
    for metric in [1.0, None, 1.0, None, jnp.float32(1.0), 0.5]:
        updates, state = jax.jit(transformation.update)(ONES, state, None, value=metric)
        got.append(-updates[0].item())
        assert state.learning_rate == got[-1]
    assert got == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


# --- wherever it is nested -------------------------------------------------------------------------------------------


NESTED: dict[str, Callable[[Any], Any]] = {
    "alone": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.scale_by_adam(), tx),
    "chain of chains": lambda tx: optax.chain(optax.clip(1.0), optax.chain(optax.identity(), tx)),
    "MultiSteps": lambda tx: optax.MultiSteps(optax.chain(optax.identity(), tx), 2).gradient_transformation(),
    "masked": lambda tx: optax.masked(tx, {"a": True, "b": False}),
    "partition": lambda tx: partition({"x": tx, "y": optax.sgd(0.1)}, {"a": "x", "b": "y"}),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "named": lambda tx: optax.chain(js.optim.named("valid", tx)),
}


@pytest.mark.parametrize("name", NESTED)
def test_observe_reaches_it_and_leaves_the_rest_alone(name: str) -> None:
    params = {"a": ONES, "b": ONES}
    transformation = NESTED[name](js.reduce_on_plateau(0.1, patience=0))
    state = transformation.init(params)

    def notified(state: Any) -> Any:
        return js.observe(state, value=1.0, name="valid" if name == "named" else None)

    @jax.jit
    def epoch(state: Any) -> Any:
        _, state = transformation.update(params, state, params)
        return notified(state)

    after = epoch(epoch(state))
    np.testing.assert_allclose(js.current_hyperparams(after).popitem()[1], 0.01, rtol=1e-6)
    changed = {
        jax.tree_util.keystr(path).rpartition(".")[2]
        for (path, x), y in zip(*map(jax.tree_util.tree_leaves_with_path, (after, notified(after))), strict=True)
        if not np.array_equal(x, y[1])
    }
    assert changed == {"learning_rate", "scale", "observed_count"}


def test_under_inject_hyperparams() -> None:
    """optax's own wrapper turns every number into an array of its state."""
    schedule = js.Linear(1.0, 0.0, 10)
    transformation = optax.inject_hyperparams(js.reduce_on_plateau)(learning_rate=schedule, patience=0, factor=0.5)
    state = transformation.init(ONES)
    for metric in [1.0, 1.0]:
        updates, state = jax.jit(transformation.update)(ONES, state, ONES)
        state = js.observe(state, value=metric)
    np.testing.assert_allclose(updates, -0.9, rtol=1e-6)
    updates, state = transformation.update(ONES, state, ONES)
    np.testing.assert_allclose(updates, -0.8 * 0.5, rtol=1e-6)
    state.hyperparams["factor"] = jnp.float32(0.1)
    updates, state = transformation.update(ONES, state, ONES, value=jnp.float32(1.0))
    np.testing.assert_allclose(updates, -0.7 * 0.5 * 0.1, rtol=1e-6)


def test_the_current_rate_replaces_the_injected_one() -> None:
    """The injected schedule's value has the name of the rate that is cut from it."""
    transformation = optax.chain(
        js.inject_hyperparams(js.reduce_on_plateau)(learning_rate=js.Linear(1.0, 0.0, 10), factor=0.5)
    )
    state = transformation.init(ONES)
    for _ in range(12):
        state = js.observe(state, value=1.0)
    now = js.current_hyperparams(state)
    assert now["learning_rate"] == 0.5
    assert now["factor"] == 0.5
    assert not [name for name in now if "/" in name]


def test_what_optax_injected_is_read_group_by_group() -> None:
    """Two groups with optax's own wrapper, one without: each value under its group, and no error for the other."""
    injected = optax.inject_hyperparams
    slow, fast = injected(optax.sgd)(learning_rate=0.1, momentum=0.9), injected(optax.adamw)(learning_rate=1.0)
    groups = partition({"slow": slow, "fast": fast, "off": optax.set_to_zero()}, {"a": "slow", "b": "fast", "c": "off"})
    now = js.current_hyperparams(optax.chain(optax.clip(1.0), groups).init(dict.fromkeys("abc", ONES)))
    assert {name.split("/")[0] for name in now} == {"slow", "fast"}
    read = {name: round(float(now[name]), 6) for name in ("slow/learning_rate", "slow/momentum", "fast/learning_rate")}
    assert read == {"slow/learning_rate": 0.1, "slow/momentum": 0.9, "fast/learning_rate": 1.0}
    assert round(float(now["fast/weight_decay"]), 6) == 1e-4


def test_two_listeners_by_name() -> None:
    labels = {"backbone": "slow", "head": "fast"}
    params = {"backbone": ONES, "head": ONES}
    transformation = partition(
        {"slow": js.reduce_on_plateau(0.1, patience=0), "fast": js.reduce_on_plateau(1.0, patience=0)}, labels
    )
    state = transformation.init(params)
    for _ in range(2):
        state = js.observe(state, value=1.0, name="fast")
    assert {name: round(float(x), 6) for name, x in js.current_hyperparams(state).items()} == {
        "slow/learning_rate": 0.1,
        "fast/learning_rate": 0.1,
    }
    both = js.observe(js.observe(state, value=1.0), value=1.0)
    assert {name: round(float(x), 6) for name, x in js.current_hyperparams(both).items()} == {
        "slow/learning_rate": 0.01,
        "fast/learning_rate": 0.001,
    }


def test_named_listeners_observe_different_metrics() -> None:
    transformation = optax.chain(
        js.optim.named("train", js.reduce_on_plateau(patience=0, factor=0.5)),
        js.optim.named("valid", js.reduce_on_plateau(1.0, patience=0, factor=0.1)),
    )
    state = transformation.init(ONES)
    for train in [1.0, 1.0]:
        _, state = transformation.update(ONES, state, ONES, train=train, value=7.0)
    now = {name: float(x) for name, x in js.current_hyperparams(state).items()}
    assert now == {"train/scale": 0.5, "valid/learning_rate": 1.0}
    state = js.observe(js.observe(state, value=1.0, name="valid"), value=1.0, name="valid")
    assert js.current_hyperparams(state)["train/scale"] == 0.5
    np.testing.assert_allclose(js.current_hyperparams(state)["valid/learning_rate"], 0.1)
    updates, _ = transformation.update(ONES, state, ONES)
    np.testing.assert_allclose(updates, -0.05)
    with pytest.raises(ValueError, match="name=None, and every listener has a name; write one of: 'train', 'valid'"):
        js.observe(state, value=1.0)
    mixed = optax.chain(js.optim.named("train", js.reduce_on_plateau()), js.reduce_on_plateau(1.0)).init(ONES)
    after = js.observe(mixed, value=1.0)
    assert [after[0].inner_state["train"].observed_count, after[1].observed_count] == [0, 1]


def test_under_multi_steps_the_last_metric_is_observed() -> None:
    transformation = optax.MultiSteps(js.reduce_on_plateau(1.0, patience=0, factor=0.5), 2)
    state, update = transformation.init(ONES), jax.jit(transformation.update)
    for metric in [1.0, 1.0, 9.0, 1.0]:
        _, state = update(ONES, state, ONES, value=metric)
    inner = state.inner_opt_state
    assert (inner.observed_count, inner.count, inner.scale) == (2, 2, 0.5)


def test_in_a_train_state_and_in_an_nnx_optimizer() -> None:
    model = linen.Dense(1)
    x = jnp.ones((4, 3))
    transformation = optax.chain(optax.scale_by_adam(), js.reduce_on_plateau(0.1, patience=0))
    params = model.init(jax.random.key(0), x)
    train_state = TrainState.create(apply_fn=model.apply, params=params, tx=transformation)
    train_state = js.observe(js.observe(train_state, value=1.0), value=1.0)
    np.testing.assert_allclose(js.current_hyperparams(train_state.opt_state)["learning_rate"], 0.01, rtol=1e-6)

    optimizer = nnx.Optimizer(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), transformation, wrt=nnx.Param)
    boxes = [type(x) for x in jax.tree.leaves(optimizer.opt_state, is_leaf=lambda x: isinstance(x, nnx.Variable))]
    for metric in (1.0, 1.0):
        optimizer.opt_state = js.observe(optimizer.opt_state, value=metric)
    np.testing.assert_allclose(js.current_hyperparams(optimizer.opt_state)["learning_rate"][...], 0.01, rtol=1e-6)
    after = [type(x) for x in jax.tree.leaves(optimizer.opt_state, is_leaf=lambda x: isinstance(x, nnx.Variable))]
    assert after == boxes
    assert issubclass(boxes[0], nnx.Variable)


def test_a_metric_may_be_any_integer_and_a_flag_an_array() -> None:
    assert plateau([2**40]).best == 2.0**40
    assert plateau([np.int64(2**40)]).best == 2.0**40
    assert plateau([1.0], sign_safe=jnp.array(True)).settings.sign_safe == 1


def test_floats_of_8_bits() -> None:
    params = ONES.astype(jnp.float8_e4m3fn)
    transformation = js.reduce_on_plateau(0.5)
    updates, _ = transformation.update(params, transformation.init(params))
    assert updates.dtype == params.dtype
    assert updates.astype(jnp.float32).tolist() == [-0.5] * 3


# --- a real training -------------------------------------------------------------------------------------------------


@functools.cache
def regression() -> Any:
    x = jax.random.normal(jax.random.key(0), (64, 3))
    return x, x @ jnp.array([1.0, -2.0, 0.5]) + 0.1 * jax.random.normal(jax.random.key(1), (64,))


def train(transformation: Any, params: Any, state: Any, epochs: int) -> Any:
    x, y = regression()

    @jax.jit
    def epoch(params: Any, state: Any) -> Any:
        for batch in np.arange(64).reshape(4, 16):
            gradient = jax.grad(lambda w, x, y: jnp.mean((x @ w - y) ** 2))(params, x[batch], y[batch])
            updates, state = transformation.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return params, js.observe(state, value=jnp.mean((x @ params - y) ** 2))

    seen = []
    for _ in range(epochs):
        params, state = epoch(params, state)
        seen.append(js.current_hyperparams(state)["learning_rate"].item())
    return params, state, seen


def test_it_settles_a_rate_that_is_too_high() -> None:
    x, y = regression()
    best = np.mean((x @ np.linalg.lstsq(x, y, rcond=None)[0] - y) ** 2)
    transformation = js.reduce_on_plateau(0.35, patience=2, factor=0.5)
    params, _, seen = train(transformation, ZEROS, transformation.init(ZEROS), 60)
    constant, _, _ = train(js.reduce_on_plateau(0.35, patience=10**6), ZEROS, transformation.init(ZEROS), 60)

    def excess(w: Any) -> float:
        return float(jnp.mean((x @ w - y) ** 2) - best)

    assert len(set(seen)) > 3
    assert excess(params) < 0.1 * excess(constant)


def test_a_training_is_resumed_with_another_patience() -> None:
    """The metrics so far stay; the new arguments apply from the next update on."""
    schedule = js.Linear(0.35, 0.1, 200)
    make = functools.partial(js.reduce_on_plateau, schedule, factor=0.5, window=2, threshold=0.02)
    transformation = optax.chain(optax.trace(0.5), make(patience=1))
    params, state, _ = train(transformation, ZEROS, transformation.init(ZEROS), 12)
    _, _, seen = train(transformation, params, state, 24)
    assert len(set(seen)) > 2
    patient = optax.chain(optax.trace(0.5), make(patience=50))
    _, after, slow = train(patient, params, state, 24)
    assert after[1].settings.patience == 50
    assert after[1].best <= state[1].best
    assert slow[-1] > seen[-1]
