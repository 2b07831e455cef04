"""The guard: faults in a real training, the statistics against float64, the clocks, and wherever it is nested."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.transforms import partition  # at the top only since optax 0.2.5
from sklearn.datasets import load_digits

import jaxsched as js

ONE = jnp.ones(1)


def run(transformation: Any, gradients: Any, losses: Any = None) -> tuple[Any, Any]:
    """The updates and the state after gradients of one number (and losses), in a scan."""
    gradients = jnp.asarray(gradients, jnp.float32)[:, None]

    def one(state: Any, given: Any) -> Any:
        gradient, *value = given
        updates, state = transformation.update(gradient, state, ONE, **({"value": value[0]} if value else {}))
        return state, updates[0]

    given = (gradients,) if losses is None else (gradients, jnp.asarray(losses, jnp.float32))
    state, updates = jax.lax.scan(one, transformation.init(ONE), given)
    return updates, state


# --- a real training with faults -------------------------------------------------------------------------------------

STEPS = 300
TEN = list(range(140, 150))
FAULTS = {  # the steps, and what their batches are multiplied by: at 1e6 what is classified well has no gradient
    "nan": ([120], np.nan),
    "batch": ([150], 1e6),
    "ten": (TEN, -1e6),
    "ten nan": (TEN, np.nan),
}
OPTIMIZERS = {
    "momentum": lambda s: optax.sgd(s, momentum=0.9),
    "adam": lambda s: optax.adam(0.1 * s),
}


@functools.cache
def trained(optimizer: str, guarded: bool) -> Any:
    """The loss at the end, over all the data, and the state of the optimizer, without a fault and with each."""
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)
    transformation = OPTIMIZERS[optimizer](js.WarmupCosine(0.1, 20, STEPS))
    transformation = js.guard_spikes(transformation, rewarm=20) if guarded else transformation
    transformation = optax.with_extra_args_support(transformation)
    rng = np.random.default_rng(0)
    params = [jnp.asarray(rng.normal(size=(n, m)) * n**-0.5, jnp.float32) for n, m in [(64, 32), (32, 10)]]
    batches = jnp.asarray(rng.integers(0, len(x), (STEPS, 64)))

    def loss(params: Any, x: Any, y: Any) -> Any:
        logits = jnp.maximum(x @ params[0], 0) @ params[1]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    def step(carry: Any, given: Any) -> Any:
        params, state = carry
        batch, factor = given
        value, gradients = jax.value_and_grad(loss)(params, factor * x[batch], y[batch])
        updates, state = transformation.update(gradients, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    def train(factors: Any) -> Any:
        (after, state), _ = jax.lax.scan(step, (params, transformation.init(params)), (batches, factors))
        return loss(after, x, y), state

    factors = np.ones((1 + len(FAULTS), STEPS), np.float32)
    for row, (at, factor) in zip(factors[1:], FAULTS.values(), strict=True):
        row[at] = factor
    losses, states = jax.device_get(jax.jit(jax.vmap(train))(factors))
    names = ["none", *FAULTS]
    return {name: (losses[i], jax.tree.map(lambda x, i=i: x[i], states)) for i, name in enumerate(names)}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_recovers_from_faults(optimizer: str, kind: str) -> None:
    at, factor = FAULTS[kind]
    clean, alone = (trained(optimizer, False)[name][0] for name in ("none", kind))
    loss, state = trained(optimizer, True)[kind]
    assert clean < 0.1
    assert np.isnan(alone) or alone > 1.5 * clean
    assert loss < 1.1 * clean
    assert state.skipped_count == len(at)
    assert state.non_finite_count == np.isnan(factor) * len(at)
    assert (state.skipped_in_a_row, state.spikes_in_a_row) == (0, 0)
    assert state.count == STEPS
    assert state.scale == 1
    assert state.norm.count == state.loss.count == STEPS - len(at)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_without_faults_is_left_alone(optimizer: str) -> None:
    loss, state = trained(optimizer, True)["none"]
    np.testing.assert_allclose(loss, trained(optimizer, False)["none"][0], rtol=1e-5)
    assert state.skipped_count == 0


# --- statistics ------------------------------------------------------------------------------------------------------


def moments(numbers: Any, window: int) -> tuple[Any, Any]:
    """Mean and standard deviation in float64, from the weight that each number is left with: the n-th entered with
    1 / min(n, window), and each later one took its share of it."""
    shares = 1 / np.minimum(np.arange(1, len(numbers) + 1), window)
    weights = shares * np.append(np.cumprod(1 - shares[:0:-1])[::-1], 1.0)
    assert weights.sum() == pytest.approx(1)
    mean = np.average(numbers, weights=weights)
    return mean, np.sqrt(np.average((numbers - mean) ** 2, weights=weights))


def test_statistics_are_those_of_float64() -> None:
    numbers = np.float64(np.float32(5 + np.random.default_rng(1).normal(size=300)))
    np.testing.assert_allclose(moments(numbers[:50], 50), (numbers[:50].mean(), numbers[:50].std()))
    _, state = run(js.guard_spikes(optax.sgd(1.0), window=50, threshold=100.0), numbers, numbers - 9)
    np.testing.assert_allclose([state.norm.mean, state.norm.std], moments(numbers, 50), rtol=1e-5)
    np.testing.assert_allclose([state.loss.mean, state.loss.std], moments(numbers - 9, 50), rtol=1e-5)
    _, state = run(js.guard_spikes(optax.sgd(1.0), window=300, threshold=100.0), numbers)
    np.testing.assert_allclose([state.norm.mean, state.norm.std], (numbers.mean(), numbers.std()), rtol=1e-5)
    assert state.loss.count == 0


def guard_in_float64(
    norms: Any,
    losses: Any,
    window: int,
    threshold: float,
    burn_in: int,
    backoff: float,
    rewarm: int,
    min_scale: float,
    max_skips: int,
    hold: bool = True,
) -> np.ndarray:
    """What each gradient is multiplied by, with all that was kept in lists."""
    del hold
    kept: dict[str, list[float]] = {"norm": [], "loss": []}
    scales, reached, start, elapsed, in_a_row = [], 1.0, 1.0, rewarm, 0
    for seen in zip(norms, losses, strict=True):
        named = dict(zip(kept, seen, strict=True))

        def is_spike(name: str, x: float) -> bool:
            if len(kept[name]) < burn_in:
                return False
            mean, std = moments(np.array(kept[name]), window)
            return x - mean > threshold * max(std, 0.01 * abs(mean))

        finite = bool(np.isfinite(seen).all())
        spikes = {name: finite and is_spike(name, x) for name, x in named.items()}
        if not finite or (any(spikes.values()) and in_a_row < max_skips):
            in_a_row += finite
            start, elapsed = max(reached * backoff, min_scale), 0
            scales.append(0.0)
        else:
            in_a_row = 0
            scales.append(start + (1 - start) * (elapsed / rewarm) if elapsed < rewarm else 1.0)
            elapsed += 1
            for name, x in named.items():
                kept[name] = [*([] if spikes[name] else kept[name]), x]
        reached = start + (1 - start) * (elapsed / rewarm) if elapsed < rewarm else 1.0
    return np.array(scales)


SETTINGS = [
    {"window": 20, "threshold": 4.0, "burn_in": 5, "backoff": 0.5, "rewarm": 10, "min_scale": 0.01, "max_skips": 20},
    {"window": 10, "threshold": 2.0, "burn_in": 2, "backoff": 0.1, "rewarm": 30, "min_scale": 0.2, "max_skips": 2},
    {"window": 300, "threshold": 3.0, "burn_in": 40, "backoff": 0.9, "rewarm": 1, "min_scale": 0.0, "max_skips": 0},
    {"window": 1, "threshold": 30.0, "burn_in": 9, "backoff": 0.0, "rewarm": 0, "min_scale": 0.5, "max_skips": 1},
    {"window": 50, "threshold": 6.0, "burn_in": 30, "backoff": 1.0, "rewarm": 5, "min_scale": 0.0, "max_skips": 5},
]


def wild(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Norms and losses with spikes, two levels, and what is not finite."""
    rng = np.random.default_rng(seed)
    norms = np.exp(0.2 * rng.normal(size=200)) * np.where(rng.random(200) < 0.05, 30, 1)
    losses = -2 + 0.1 * rng.normal(size=200) + np.where(rng.random(200) < 0.05, 5, 0)
    norms[120:] *= 40
    norms[rng.integers(0, 200, 4)] = np.nan
    losses[rng.integers(0, 200, 3)] = np.inf
    return norms.astype(np.float32), losses.astype(np.float32)


def test_every_hyperparameter_under_vmap() -> None:
    """Several settings at once, each the loop in float64: every skip, and every scale."""
    norms, losses = wild(3)
    arguments = [s | {"hold": bool(i % 2)} for i, s in enumerate(SETTINGS)]
    stacked = {name: jnp.array([a[name] for a in arguments]) for name in arguments[0]}
    got, state = jax.jit(
        jax.vmap(lambda a: run(js.guard_spikes(optax.sgd(js.Linear(-1.0, -2.0, 200)), **a), norms, losses))
    )(stacked)
    total = 0
    for i, setting in enumerate(arguments):
        want = guard_in_float64(np.float64(norms), np.float64(losses), **setting)
        skipped = want == 0
        clock = np.arange(200) if not setting["hold"] else np.cumsum(~skipped) - ~skipped
        rates = 1 + np.minimum(clock / 200, 1)
        np.testing.assert_allclose(
            np.nan_to_num(got[i]), np.nan_to_num(norms * rates * want), rtol=1e-4, err_msg=str(i)
        )
        assert state.skipped_count[i] == skipped.sum()
        assert state.non_finite_count[i] == 7
        total += skipped.sum()
    assert total > 60


def test_observations_are_not_judged_before_the_burn_in() -> None:
    updates, _ = run(js.guard_spikes(optax.sgd(-1.0), burn_in=4), [1, 1, 99, 1, 2000, 1])
    np.testing.assert_allclose(updates, [1, 1, 99, 1, 0, 0.5])


def test_what_does_not_vary_has_a_floor() -> None:
    """6 floors of 1 % are 6 %."""
    updates, _ = run(js.guard_spikes(optax.sgd(-1.0), burn_in=4), [2, 2, 2, 2, 2.11, 0.1])
    np.testing.assert_allclose(updates, [2, 2, 2, 2, 2.11, 0.1])
    updates, _ = run(js.guard_spikes(optax.sgd(-1.0), burn_in=4), [2, 2, 2, 2, 2.13, 0.1])
    np.testing.assert_allclose(updates, [2, 2, 2, 2, 0, 0.05])


def test_another_level_is_accepted_after_max_skips() -> None:
    norms = [1.0] * 10 + [50.0] * 20
    updates, state = run(js.guard_spikes(optax.sgd(-1.0), burn_in=5, max_skips=3, min_scale=0.2, rewarm=4), norms)
    np.testing.assert_allclose(updates[10:], [0, 0, 0, 10, 20, 30, 40] + [50] * 13, rtol=1e-6)
    np.testing.assert_allclose([state.norm.mean, state.norm.count], [50, 17])


def test_what_is_not_finite_is_never_accepted() -> None:
    norms = [1.0] * 10 + [50.0, np.nan] * 3 + [np.inf] * 50 + [50.0, 1.0]
    updates, state = run(js.guard_spikes(optax.sgd(-1.0), burn_in=5, max_skips=3), norms)
    np.testing.assert_array_equal(updates[10:66], 0)
    assert updates[66] == 0.5  # the fourth finite one
    assert (state.skipped_count, state.non_finite_count) == (56, 53)


def test_a_gradient_that_overflows_is_a_spike_and_not_nan() -> None:
    transformation = js.guard_spikes(optax.sgd(-1.0), burn_in=2)
    updates, state = run(transformation, [1, 1, 1e30, 1])
    np.testing.assert_allclose(updates, [1, 1, 0, 0.5])
    assert (state.skipped_count, state.non_finite_count) == (1, 0)


# --- what a skipped update does to the state of the inner optimizer --------------------------------------------------

SCHEDULE = js.Linear(1.0, 0.0, 10)
BAD = [1.0, np.nan, 1.0, np.nan, 1.0]
HOLDS = jnp.array([True, False])


def counts_and_moments(state: Any) -> dict[str, Any]:
    """All of a state, by path, but the rates: those follow their clock."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    named = {jax.tree_util.keystr(path): x for path, x in leaves}
    return {path: x for path, x in named.items() if path.endswith("count") or "learning_rate" not in path}


CLOCKS = {
    "scale_by_schedule": (lambda: optax.sgd(SCHEDULE, momentum=0.9), ["[1].count"]),
    "adam": (lambda: optax.adam(SCHEDULE), ["[1].count"]),
    "inject_hyperparams": (
        lambda: optax.inject_hyperparams(optax.adam)(SCHEDULE),
        [".count", ".hyperparams_states['learning_rate'].count"],
    ),
    "inject": (lambda: js.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE), [".count"]),
    "plateau": (lambda: optax.chain(optax.scale_by_adam(), js.reduce_on_plateau(SCHEDULE)), ["[1].count"]),
    "partition": (
        lambda: partition({"x": optax.adam(SCHEDULE)}, lambda tree: jax.tree.map(lambda _: "x", tree)),
        [".inner_states['x'].inner_state[1].count"],
    ),
    "moving averages": (lambda: optax.chain(optax.ema(0.9), optax.scale(-1.0)), []),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_the_clocks_of_schedules_are_held_or_not(name: str) -> None:
    """With `hold` all is as if the bad gradients had not been; without it the clocks, and they alone, go on."""
    make, of_schedules = CLOCKS[name]
    _, good = jax.jit(lambda: run(make(), [1.0, 1.0, 1.0]))()
    _, both = jax.jit(jax.vmap(lambda hold: run(js.guard_spikes(make(), backoff=1.0, hold=hold), BAD)))(HOLDS)
    held, moved = (jax.tree.map(lambda x, i=i: x[i], both.inner_state) for i in range(2))
    jax.tree.map(np.testing.assert_array_equal, held, good)
    expected = {path: x + 2 * (path in of_schedules) for path, x in counts_and_moments(good).items()}
    assert set(of_schedules) <= set(expected)
    jax.tree.map(np.testing.assert_array_equal, counts_and_moments(moved), expected)


def test_a_schedule_at_its_held_and_at_its_moving_clock() -> None:
    def updates(hold: Any) -> Any:
        return run(js.guard_spikes(optax.sgd(SCHEDULE), backoff=1.0, hold=hold), [1.0, np.nan, 1.0, 1.0])[0]

    held, moving = jax.vmap(updates)(HOLDS)
    np.testing.assert_allclose(held, [-1, 0, -0.9, -0.8], rtol=1e-6)
    np.testing.assert_allclose(moving, [-1, 0, -0.8, -0.7], rtol=1e-6)


def test_listeners_inside_do_not_observe_a_spike() -> None:
    def state(hold: Any) -> Any:
        transformation = js.guard_spikes(js.reduce_on_plateau(1.0, mode="max"), burn_in=2, hold=hold)
        return run(transformation, [1.0] * 4, [1.0, 2.0, 1000.0, np.nan])[1]

    both = jax.jit(jax.vmap(state))(HOLDS)
    np.testing.assert_array_equal(both.skipped_count, 2)
    np.testing.assert_array_equal(both.inner_state.observed_count, 2)
    np.testing.assert_array_equal(both.inner_state.best, 2)
    np.testing.assert_array_equal(both.inner_state.count, [2, 4])
    after = js.observe(jax.tree.map(lambda x: x[0], both), value=3.0)
    assert after.inner_state.best == 3


# --- wherever it is nested -------------------------------------------------------------------------------------------


def test_multi_steps_around_and_inside() -> None:
    norms = [1.0, 1.0, 1.0, 1.0, np.nan, 1.0, 1.0, 1.0]
    skips = {"should_skip_update_fn": optax.skip_not_finite}  # else it keeps the NaN in its mean for good
    around = optax.MultiSteps(js.guard_spikes(optax.sgd(-1.0), burn_in=2), 2, **skips)
    updates, state = run(around.gradient_transformation(), [*norms, 99.0, 1.0, 1.0])
    np.testing.assert_allclose(updates, [0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0.5])
    assert (state.inner_opt_state.count, state.inner_opt_state.skipped_count) == (5, 1)
    inside = optax.MultiSteps(optax.sgd(-1.0), 2).gradient_transformation()
    updates, state = run(js.guard_spikes(inside, backoff=0.5, rewarm=4), norms)
    np.testing.assert_allclose(updates, [0, 1, 0, 1, 0, 0, 0.625, 0])  # the one with NaN does not count
    assert state.inner_state.mini_step == 1


def test_a_group_has_a_guard_and_a_norm_of_its_own() -> None:
    def guard() -> Any:
        return js.guard_spikes(optax.sgd(-1.0), burn_in=2)

    transformation = partition({"a": guard(), "b": guard()}, {"a": "a", "b": "b"})
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    for factor in [1.0, 1.0, 100.0]:
        updates, state = update({"a": jnp.ones(2), "b": factor * jnp.ones(2)}, state, params)
    np.testing.assert_array_equal(updates["a"], 1)
    np.testing.assert_array_equal(updates["b"], 0)
    shown = js.current_hyperparams(state)
    assert (shown["a/guard_scale"], shown["b/guard_scale"]) == (1, 0.5)
    np.testing.assert_allclose(state.inner_states["a"].inner_state.norm.mean, 2**0.5)


def test_yesterdays_state_under_new_settings() -> None:
    _, state = run(js.guard_spikes(optax.sgd(-1.0), rewarm=100), [1.0, np.nan])
    update = jax.jit(js.guard_spikes(optax.sgd(-1.0), rewarm=2, backoff=0.1, min_scale=0.0).update)
    _, state = update(jnp.array([np.nan]), state, ONE)
    assert state.settings.rewarm == 2
    np.testing.assert_allclose(state.scale, 0.05)
    scales = []
    for _ in range(3):
        updates, state = update(ONE, state, ONE)
        scales.append(updates.item())
    np.testing.assert_allclose(scales, [0.05, 0.525, 1.0], rtol=1e-6)


def test_zeros_are_no_statistics() -> None:
    """A group that starts late, a reward that is rare: the first gradient that is not 0 is no spike."""
    optimizer = js.guard_spikes(optax.sgd(1.0), burn_in=4)
    state = optimizer.init(jnp.ones(1))
    update = jax.jit(optimizer.update)
    for gradient in [0.0] * 8 + [1e-6]:
        updates, state = update(jnp.array([gradient]), state)
    assert state.skipped_count == 0
    assert updates[0] == np.float32(-1e-6)


def test_clocks_within_multi_steps_go_by_its_steps() -> None:
    """Of eight micro-batches five are skipped; the schedule has as many steps as there were updates."""
    inner = optax.MultiSteps(optax.sgd(lambda count: 0.1 * (count + 1)), 2)
    optimizer = js.guard_spikes(inner.gradient_transformation(), hold=False)
    state = optimizer.init(jnp.ones(1))
    update = jax.jit(optimizer.update)
    for gradient in [1.0, 1.0, np.nan, np.nan, np.nan, np.nan, np.nan, 1.0]:
        _, state = update(jnp.array([gradient]), state)
    assert state.skipped_count == 5
    assert state.inner_state.gradient_step == 1
    assert state.inner_state.inner_opt_state[1].count == 1
