"""The monitor against norms and averages written in float64 numpy, and its diagnoses of nets that were built ill."""

from __future__ import annotations

import functools
from collections.abc import Callable
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

from .cases import x64

Loss = Callable[[Any, Any, Any], Any]


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16.0).astype(np.float32)[:256], y[:256]


X, Y = digits()
KEY = jax.random.key(0)


def train(optimizer: Any, params: Any, loss: Loss, steps: int = 30, batch: int = 64) -> tuple[Any, Any]:
    """Parameters and optimizer state after `steps` batches of the digits, in one program."""

    def step(held: Any, i: Any) -> Any:
        params, state = held
        rows = (i * batch + jnp.arange(batch)) % len(X)
        gradients = jax.grad(loss)(params, jnp.asarray(X)[rows], jnp.asarray(Y)[rows])
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[0])(params)


@functools.cache
def monitor(inner: Any, decay: float) -> tuple[Any, Any]:
    """A monitor and its compiled update: once for all tests that want the same."""
    optimizer = js.monitor_gradients(inner, decay=decay)
    return jax.jit(optimizer.init), jax.jit(optimizer.update)


def watched(gradients: list[Any], params: Any, inner: Any = None, decay: float = 0.99) -> js.optim.MonitorState:
    """The state after updates by these gradients, with parameters that stay where they are."""
    init, update = monitor(inner, decay)
    state = init(params)
    for gradient in gradients:
        _, state = update(gradient, state, params)
    return state


SGD, SLOW = optax.sgd(1.0), optax.sgd(0.01)


def mlp(depth: int, width: int, gain: float, seed: int = 0) -> dict[str, Any]:
    sizes = [64, *[width] * (depth - 1), 10]
    keys = jax.random.split(jax.random.key(seed), depth)
    return {
        f"dense_{i}": {
            "kernel": gain * jax.random.normal(key, (n, m)) / np.sqrt(n),
            "bias": jnp.zeros(m),
        }
        for i, (key, n, m) in enumerate(zip(keys, sizes, sizes[1:], strict=False))
    }


def mlp_loss(activation: Any) -> Loss:
    def loss(params: Any, x: Any, y: Any) -> Any:
        for i in range(len(params)):
            x = x @ params[f"dense_{i}"]["kernel"] + params[f"dense_{i}"]["bias"]
            x = activation(x) if i < len(params) - 1 else x
        return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()

    return loss


def paths_of(findings: list[js.inspect.Finding]) -> dict[str, set[str]]:
    """The paths by check."""
    paths: dict[str, set[str]] = {}
    for finding in findings:
        paths.setdefault(finding.check, set()).add(finding.message.split(":")[0])
    return paths


def same_bits(got: Any, want: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, want)


# --- what is measured ------------------------------------------------------------------------------------------------

TWO = {"a": jnp.ones((2, 3)), "b": {"c": jnp.full((4,), 0.5)}}
NOISE = [
    {"a": rng.normal(size=(2, 3)).astype(np.float32), "b": {"c": 1e-3 * rng.normal(size=4).astype(np.float32)}}
    for rng in map(np.random.default_rng, range(8))
]


SIZES = (1e-37, 1e-30, 1e-12, 1.0, 1e12, 1e30, 3e38)


def ema(values: Any, decay: float) -> float:
    """An exponential moving average, and the sum of its weights, in float64."""
    total = weights = 0.0
    for value in values:
        total = decay * total + (1 - decay) * float(value)
        weights = decay * weights + (1 - decay)
    return total / weights


def scanned(optimizer: Any) -> Any:
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *NOISE)

    def step(state: Any, gradient: Any) -> Any:
        return optimizer.update(gradient, state, TWO)[1], None

    return jax.jit(lambda: jax.lax.scan(step, optimizer.init(TWO), stacked)[0])()


def test_norms_are_those_of_numpy_for_many_decays_at_once() -> None:
    decays = [0.0, 0.5, 0.99, 0.999999]
    states = jax.vmap(lambda decay: scanned(js.monitor_gradients(SGD, decay=decay)))(jnp.asarray(decays))
    with pytest.raises(ValueError, match=r"several trainings; take one: jax.tree.map\(lambda x: x\[0\], state\)"):
        js.optim.diagnose(states)
    sizes = [np.linalg.norm(np.asarray(x, np.float64)) for x in jax.tree.leaves(TWO)]
    norms = [[np.linalg.norm(np.asarray(x, np.float64)) for x in jax.tree.leaves(g)] for g in NOISE]
    for i, decay in enumerate(decays):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        assert paths_of(js.optim.diagnose(state, min_updates=1)) == {"large update": {"a"}}
        want = [ema(column, decay) for column in zip(*norms, strict=True)]
        np.testing.assert_allclose(state.gradient_norm, want, rtol=2e-6)
        np.testing.assert_allclose(state.update_norm, want, rtol=2e-6)
        np.testing.assert_allclose(state.param_norm, sizes, rtol=1e-6)
        np.testing.assert_allclose(state.start_norm, sizes, rtol=1e-6)
        np.testing.assert_allclose(state.first_norm, np.linalg.norm(norms[0]), rtol=1e-6)
        assert state.count == 8
        assert state.paths == ({"a": ()}, {"b/c": ()})


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float16", 6e4), ("float16", 2e-4), *((dtype, size) for dtype in ("bfloat16", "float32") for size in SIZES)],
)
def test_no_norm_over_or_underflows(dtype: str, size: float) -> None:
    x = jnp.asarray([[size, -size / 2, 0.0, size / 3]], jnp.float32).astype(dtype)
    want = min(np.linalg.norm(np.asarray(x).astype(np.float64)), np.finfo(np.float32).max)
    state = watched([x], x)
    np.testing.assert_allclose(state.gradient_norm, want, rtol=1e-6)
    assert state.non_finite == 0


def test_what_is_not_finite_is_counted_and_not_averaged() -> None:
    bad = [{"a": NOISE[0]["a"] * np.float32(factor), "b": NOISE[0]["b"]} for factor in (np.nan, np.inf, -np.inf)]
    state = watched([bad[0], *NOISE[:4], bad[1], *NOISE[4:], bad[2]], TWO, SGD, decay=0.9)
    clean = watched(NOISE, TWO, SGD, decay=0.9)
    assert (state.count, *state.non_finite) == (11, 3, 0)
    for name in ("gradient_norm", "update_norm", "param_norm"):
        np.testing.assert_array_equal(getattr(state, name)[0], getattr(clean, name)[0])
    np.testing.assert_array_equal(state.first_norm, clean.first_norm)
    findings = js.optim.diagnose(state)
    assert paths_of(findings) == {"non-finite": {"a"}}
    assert "NaN or infinity in 3 of 11 updates" in str(findings[0])
    assert js.optim.diagnose(state, non_finite=0.3) == []


def test_an_update_that_is_not_finite_is_counted() -> None:
    state = watched(NOISE, TWO, optax.sgd(jnp.nan))
    assert [*state.non_finite] == [8, 8]
    assert state.update_norm[0] == 0
    assert paths_of(js.optim.diagnose(state, min_updates=1)) == {"non-finite": {"a", "b/c"}}


def test_without_parameters_or_optimizer_only_the_gradient_is_seen() -> None:
    for inner, params in ((SGD, None), (None, TWO)):
        init, update = monitor(inner, 0.99)
        _, state = update(NOISE[0], init(TWO), params)
        assert state.gradient_norm[0] > 0
        assert [*state.update_norm, *state.param_norm] == [0, 0, 0, 0]
        assert np.isnan(js.optim.gradient_norms(state)["a"].update_ratio)
        assert js.optim.diagnose(state, min_updates=1) == []


# --- it changes nothing ----------------------------------------------------------------------------------------------

SMALL = mlp(2, 16, np.sqrt(2))
RELU = mlp_loss(jax.nn.relu)


def test_a_training_is_the_same_to_the_bit() -> None:
    inner = optax.adamw(1e-2)
    plain, inner_state = train(inner, SMALL, RELU)
    assert not np.array_equal(plain["dense_0"]["kernel"], SMALL["dense_0"]["kernel"])
    around, state = train(js.monitor_gradients(inner), SMALL, RELU)
    chained, (_, chain_state) = train(optax.chain(js.monitor_gradients(), inner), SMALL, RELU)
    same_bits(around, plain)
    same_bits(chained, plain)
    same_bits(state.inner_state, inner_state)
    same_bits(chain_state, inner_state)
    assert state.count == 30
    assert not hasattr(state, "hyperparams")


# --- where it may stand ----------------------------------------------------------------------------------------------


def test_in_multi_steps_it_counts_updates() -> None:
    optimizer = optax.MultiSteps(js.monitor_gradients(optax.sgd(0.1), decay=0.5), every_k_schedule=4)
    norms = js.optim.gradient_norms(scanned(optimizer))
    means = [np.mean([g["a"] for g in NOISE[i : i + 4]], axis=0, dtype=np.float64) for i in (0, 4)]
    np.testing.assert_allclose(norms["a"].gradient, ema(map(np.linalg.norm, means), 0.5), rtol=1e-6)
    assert norms["a"].count == 2


def test_in_a_group_of_a_partition() -> None:
    groups = {"body": js.monitor_gradients(optax.sgd(0.1)), "head": optax.set_to_zero()}
    state = scanned(partition(groups, {"a": "body", "b": "head"}))
    assert list(js.optim.gradient_norms(state)) == ["a"]
    groups["head"] = js.monitor_gradients(optax.adam(0.1))
    state = scanned(partition(groups, {"a": "body", "b": "head"}))
    norms = js.optim.gradient_norms(state)
    assert list(norms) == ["body: a", "head: b/c"]
    assert list(js.optim.gradient_norms(state, layers=["b", "a"])) == ["body: a", "head: b/c"]
    assert norms["body: a"].count == 8


def test_several_monitors_of_the_same_parameters_have_names() -> None:
    optimizer = optax.chain(
        js.monitor_gradients(), optax.clip_by_global_norm(1e-3), js.monitor_gradients(js.monitor_gradients())
    )
    norms = js.optim.gradient_norms(scanned(optimizer))
    assert list(norms) == ["0: a", "0: b/c", "2: a", "2: b/c", "2/inner_state: a", "2/inner_state: b/c"]
    assert norms["0: a"].gradient > 1 > 2e-3 > norms["2: a"].gradient == norms["2/inner_state: a"].gradient


def test_settings_of_today_and_buffers_of_its_own() -> None:
    state = watched(NOISE[:4], TWO, decay=0.5)
    optimizer = js.monitor_gradients(decay=0.0)
    donating = jax.jit(optimizer.update, donate_argnums=1)
    for gradient in NOISE[4:]:
        _, state = donating(gradient, state, TWO)
    assert state.settings.decay == 0
    np.testing.assert_allclose(state.gradient_norm[0], np.linalg.norm(NOISE[-1]["a"]), rtol=1e-6)


def test_no_parameters_and_empty_ones() -> None:
    with x64():
        nothing = watched([{}], {}, decay=0.5)
        assert {str(x.dtype) for x in jax.tree.leaves(nothing)} == {"float32", "int32"}
        assert js.optim.diagnose(nothing, min_updates=1) == []
    empty = {"a": jnp.zeros((0, 3)), "b": None}
    assert js.optim.gradient_norms(watched([empty], empty))["a"].gradient == 0


# --- what is found ---------------------------------------------------------------------------------------------------


def test_a_deep_sigmoid_net_vanishes() -> None:
    _, state = train(js.monitor_gradients(optax.sgd(0.1)), mlp(11, 32, 1.0), mlp_loss(jax.nn.sigmoid), steps=12)
    findings = js.optim.diagnose(state)
    vanishing = [finding.message.split(":")[0] for finding in findings if finding.check == "vanishing"]
    assert vanishing == [f"dense_{i}/kernel" for i in range(len(vanishing))]  # the first ones, in order
    assert 4 <= len(vanishing) <= 10
    norms = js.optim.gradient_norms(state)
    assert list(norms)[::2] == [f"dense_{i}/bias" for i in range(11)]  # 2 before 10
    first = norms["dense_0/kernel"]
    assert first.gradient_ratio == pytest.approx(first.gradient / norms["dense_10/kernel"].gradient)
    assert first.gradient_ratio < 1e-5
    text = str(findings[0])
    assert text.startswith(f"warning: dense_0/kernel: vanishing gradient, norm {first.gradient:.1e}, ")
    assert "x below the last layer (dense_10/kernel); try ReLU" in text


def recurrent(radius: float, width: int = 32) -> dict[str, Any]:
    """A recurrent net whose matrix has this spectral radius."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(width, width))
    params = {
        "cell": {"input": rng.normal(size=(1, width)), "recurrent": matrix},
        "Dense_0": {"kernel": rng.normal(size=(width, 10)) / np.sqrt(width)},
    }
    params["cell"]["recurrent"] = matrix * radius / np.abs(np.linalg.eigvals(matrix)).max()
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def recurrent_loss(params: Any, x: Any, y: Any) -> Any:
    """It reads the 64 pixels one by one, and says the digit at the end."""

    def step(h: Any, pixel: Any) -> Any:
        return jnp.tanh(h @ params["cell"]["recurrent"] + pixel[:, None] * params["cell"]["input"]), None

    h, _ = jax.lax.scan(step, jnp.zeros((len(x), len(params["cell"]["recurrent"]))), x.T)
    return optax.softmax_cross_entropy_with_integer_labels(h @ params["Dense_0"]["kernel"], y).mean()


def test_a_recurrent_net_explodes() -> None:
    optimizer = js.monitor_gradients(optax.adam(1e-3))
    ill, well = (train(optimizer, recurrent(radius), recurrent_loss, steps=20)[1] for radius in (2.0, 1.0))
    layers = ["cell", "Dense_0"]
    findings = js.optim.diagnose(ill, layers=layers)
    assert {finding.check for finding in findings} == {"exploding"}
    assert "cell/recurrent" in paths_of(findings)["exploding"]
    assert "x above the last layer (Dense_0/kernel); lower the rate" in str(findings[0])
    assert "optax.clip_by_global_norm" in findings[0].suggestion
    assert js.optim.diagnose(well, layers=layers) == js.optim.diagnose(well) == []
    ratio = js.optim.gradient_norms(ill, layers=layers)["cell/recurrent"].gradient_ratio
    assert ratio > 10 * js.optim.gradient_norms(well, layers=layers)["cell/recurrent"].gradient_ratio
    # By their names the head is first and the cell last: the same numbers, the other way round.
    by_name = js.optim.gradient_norms(ill)
    assert next(iter(by_name)) == "Dense_0/kernel"
    assert by_name["Dense_0/kernel"].gradient_ratio == pytest.approx(1 / ratio)


class Classifier(linen.Module):
    """With what is watched wrongly most easily: attention with its biases, of which that of the keys has no gradient,
    a bias before a normalisation, scales, and a head that begins at zero."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.Dense(16, name="embed")(x.reshape(-1, 8, 8))
        x = x + linen.MultiHeadDotProductAttention(num_heads=2)(linen.LayerNorm()(x))
        x = x + linen.tanh(linen.LayerNorm()(linen.Dense(16)(x)))
        return linen.Dense(10, kernel_init=linen.initializers.zeros, name="head")(x.mean(1))


def test_a_healthy_linen_net_is_silent() -> None:
    net = Classifier()

    def loss(params: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(net.apply(params, x), y).mean()

    optimizer = js.monitor_gradients(optax.adamw(js.WarmupCosine(1e-2, warmup_steps=10, total_steps=150)))
    params = jax.jit(net.init)(KEY, jnp.asarray(X[:1]))
    training = TrainState.create(apply_fn=net.apply, params=params, tx=optimizer)
    assert js.optim.diagnose(training) == []  # before the first update too

    @jax.jit
    def epoch(training: Any, start: Any) -> Any:
        def step(training: Any, i: Any) -> Any:
            rows = (i * 64 + jnp.arange(64)) % len(X)
            value, gradients = jax.value_and_grad(loss)(training.params, jnp.asarray(X)[rows], jnp.asarray(Y)[rows])
            return training.apply_gradients(grads=gradients), value

        return jax.lax.scan(step, training, start + jnp.arange(10))

    losses = []
    for start in range(0, 150, 10):
        training, values = epoch(training, start)
        losses.append(float(values.mean()))
        assert js.optim.diagnose(training) == [], start
    assert losses[-1] < losses[0] / 2
    norms = js.optim.gradient_norms(training)
    assert norms["MultiHeadDotProductAttention_0/key/bias"].gradient_ratio < 1e-4  # and yet nothing vanishes
    assert norms["head/kernel"].start == 0
    assert js.optim.gradient_norms(training, layers=["params/embed", "head"])["embed/kernel"].count == 150


@pytest.mark.parametrize(("make", "healthy"), [(optax.sgd, 0.1), (optax.adam, 1e-2)], ids=["sgd", "adam"])
def test_a_rate_that_is_healthy_or_far_too_high_and_a_nan(make: Any, healthy: float) -> None:
    def one(rate: Any, factor: Any) -> Any:
        params = dict(SMALL, dense_1={**SMALL["dense_1"], "kernel": factor * SMALL["dense_1"]["kernel"]})
        return train(js.monitor_gradients(make(rate)), params, RELU)[1]

    states = jax.vmap(one)(jnp.asarray([healthy, 100 * healthy, healthy]), jnp.asarray([1.0, 1.0, jnp.nan]))
    fine, fast, poisoned = (js.optim.diagnose(jax.tree.map(lambda x, i=i: x[i], states)) for i in range(3))
    assert fine == []
    assert paths_of(fast)["large update"] == {f"dense_{i}/kernel" for i in range(2)}
    assert "lower the rate, warm up longer" in next(f for f in fast if f.check == "large update").suggestion
    assert "dense_1/kernel" in paths_of(poisoned)["non-finite"]


def test_in_nnx() -> None:
    class Net(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.first, self.second = nnx.Linear(64, 16, rngs=rngs), nnx.Linear(16, 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.second(nnx.relu(self.first(x)))

    def loss(net: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(net(X), Y).mean()

    net = Net()
    optimizer = nnx.Optimizer(net, js.monitor_gradients(optax.adam(1.0)), wrt=nnx.Param)
    kernel = np.asarray(net.first.kernel[...], np.float64)

    @nnx.jit
    def step(net: Any, optimizer: Any) -> None:
        optimizer.update(net, nnx.grad(loss)(net))

    for _ in range(3):
        step(net, optimizer)
    norms = js.optim.gradient_norms(optimizer.opt_state)
    assert list(norms) == ["first/bias", "first/kernel", "second/bias", "second/kernel"]
    assert norms["first/kernel"].start == pytest.approx(np.linalg.norm(kernel), rel=1e-6)
    assert paths_of(js.optim.diagnose(optimizer.opt_state, min_updates=3)) == {
        "large update": {"first/kernel", "second/kernel"}
    }


# --- the criteria, one by one ----------------------------------------------------------------------------------------

EYE = jnp.eye(4)  # of norm 2


def chain_of(*sizes: float) -> dict[str, Any]:
    """Gradients of layers "w_0", "w_1", ... by their norms."""
    return {f"w_{i}": EYE * (size / 2) for i, size in enumerate(sizes)}


def kinds(gradients: list[dict[str, Any]], inner: Any = None, params: Any = None, **limits: Any) -> dict[str, set[str]]:
    params = jax.tree.map(lambda _: EYE, gradients[0]) if params is None else params
    return paths_of(js.optim.diagnose(watched(gradients, params, inner), **limits))


def test_limits_of_the_ratio_to_the_last_layer() -> None:
    assert kinds([chain_of(0.0011, 99.0, 1.0)] * 10) == {}
    assert kinds([chain_of(0.0009, 1.0, 1.0)] * 10) == {"vanishing": {"w_0"}}
    assert kinds([chain_of(1.0, 101.0, 1.0)] * 10) == {"exploding": {"w_1"}}
    ten = chain_of(*[1.0] * 9, 1e-4, 1.0)  # the last is w_10, and not w_9
    assert kinds([ten] * 10) == {"vanishing": {"w_9"}}
    assert kinds([chain_of(0.3, 1.0, 1.0)] * 10, vanishing=0.5) == {"vanishing": {"w_0"}}
    assert kinds([chain_of(3.0, 1.0)] * 10, exploding=2.0) == {"exploding": {"w_0"}}


def test_layers_say_what_is_last_and_what_is_compared() -> None:
    gradients = [chain_of(1.0, 1e-5, 1e-5, 1.0)] * 10
    assert kinds(gradients) == {"vanishing": {"w_1", "w_2"}}
    assert kinds(gradients, layers=["w_2", "w_0"]) == {"vanishing": {"w_2"}}
    assert kinds(gradients, layers=["w_0", "w_2"]) == {"exploding": {"w_0"}}
    nested = [{"a": chain_of(1.0, 1e-6), "b": EYE}] * 10
    params = jax.tree.map(lambda _: EYE, nested[0])
    norms = js.optim.gradient_norms(watched(nested, params), layers=["b", "a", "a/w_1"])
    assert list(norms) == ["b", "a/w_0", "a/w_1"]  # the longest name wins
    assert norms["a/w_0"].gradient_ratio == pytest.approx(1e6)
    norms = js.optim.gradient_norms(watched(nested, params), layers=["b", "a"])
    assert norms["b"].gradient_ratio == pytest.approx(2.0)  # the largest of the last layer


def test_exploding_by_itself() -> None:
    assert kinds([{"w": EYE * 1e5}] * 10) == {"exploding": {"w"}}
    assert kinds([{"w": EYE * 1e4}] * 10) == {}
    assert kinds([{"w": EYE * 1e4}] * 10, exploding_norm=1e3) == {"exploding": {"w"}}
    growing = [{"w": EYE * 4.0**i, "bias": jnp.ones(4) * 1e-6} for i in range(9)]
    (finding,) = js.optim.diagnose(watched([*growing, *growing[-1:] * 3], {"w": EYE, "bias": jnp.ones(4)}))
    assert finding.message.startswith("w: ")
    assert "x the first gradient of all parameters" in finding.message


def test_dead_and_what_is_dead_for_a_while() -> None:
    params = {"w": EYE, "zero": jnp.zeros((4, 4)), "bias": jnp.zeros(4), "last": EYE}
    silent = {**params, "w": 0 * EYE}
    assert kinds([silent] * 10, params=params) == {"dead": {"w", "zero"}}  # a bias may well be without a gradient
    assert kinds([silent] * 9, params=params) == {}  # too early to say
    awake = {"w": EYE, "zero": EYE, "bias": jnp.zeros(4), "last": EYE}
    assert kinds([silent] * 10 + [awake], params=params) == {}


def test_what_is_small_or_begins_at_zero_or_is_frozen_is_silent() -> None:
    params = {"w": EYE, "bias": jnp.full(4, 1e-6), "scale": jnp.ones(4), "zero": jnp.zeros((4, 4)), "last": EYE}
    gradients = {
        "w": EYE,
        "bias": jnp.ones(4),
        "scale": jnp.full(4, 1e-12),
        "zero": 1e-6 * EYE,
        "last": EYE,
    }
    assert kinds([gradients] * 10, SLOW, params) == {}
    frozen = partition({"on": SLOW, "off": optax.set_to_zero()}, dict.fromkeys(params, "off"))
    assert kinds([gradients] * 10, frozen, params) == {}


def test_limits_of_the_update() -> None:
    for ratio, found in {0.2: "large update", 0.09: None, 1e-6: None, 9e-8: "small update"}.items():
        assert kinds([{"w": EYE * ratio}] * 10, SGD) == ({found: {"w"}} if found else {}), ratio
    assert kinds([{"w": EYE * 0.09}] * 10, SGD, large_update=0.01) == {"large update": {"w"}}
    assert kinds([{"w": EYE * 1e-6}] * 10, SGD, small_update=1e-5) == {"small update": {"w"}}
    # One small weight that begins close to zero and grows is not a rate that is too high.
    small = {"w": 100 * EYE, "head": 1e-3 * EYE}
    init, update = monitor(SLOW, 0.99)
    state, params = init(small), small
    for _ in range(40):
        updates, state = update({"w": EYE, "head": -EYE}, state, params)
        params = optax.apply_updates(params, updates)
    assert js.optim.diagnose(state) == []


def test_the_worst_first_and_in_words() -> None:
    gradients = chain_of(0.0, 1e-6, 1e3, 1.0)
    last = {**gradients, "w_3": gradients["w_3"] * jnp.nan}
    findings = js.optim.diagnose(watched([gradients] * 10 + [last], jax.tree.map(lambda _: EYE, gradients), SGD))
    assert [(finding.severity, finding.check, finding.message.split(":")[0]) for finding in findings] == [
        ("error", "non-finite", "w_3"),
        ("error", "exploding", "w_2"),
        ("warning", "vanishing", "w_1"),
        ("warning", "dead", "w_0"),
        ("warning", "large update", "w_2"),
        ("warning", "large update", "w_3"),
    ]
    for finding in findings:
        assert str(finding) == f"{finding.severity}: {finding.message}; {finding.suggestion}"
        assert "\n" not in str(finding)
        assert finding.step is None
    assert "1,000 x above" in findings[1].message
    assert "1.0e+06 x below" in findings[2].message
    assert "gradient exactly 0 in all of 11 updates" in findings[3].message
