"""Hyperparameters in the state: beside optax's, against torch's whole trainings, and against AdamW by hand."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization
from flax.training.train_state import TrainState

import jaxsched as js

from .cases import x64

RECORDED = json.loads((Path(__file__).parent / "peers" / "torch_training.json").read_text())
LR = js.WarmupCosine(peak_value=0.1, warmup_steps=3, total_steps=12)
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "v": jnp.ones(3)}


def gradients(step: int, params: Any = PARAMS) -> Any:
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def run(*transformations: Any, steps: int = 8, params: Any = PARAMS, state: Any = None) -> Any:
    """The parameters and the state after a whole training, of each transformation in one program."""
    several = jax.tree.map(lambda *xs: jnp.stack(xs), *(gradients(t, params) for t in range(steps)))

    def train(transformation: Any, state: Any) -> Any:
        def one(carry: Any, gradient: Any) -> Any:
            params, state = carry
            updates, state = transformation.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(one, (params, transformation.init(params) if state is None else state), several)[0]

    results = jax.jit(lambda state: [train(transformation, state) for transformation in transformations])(state)
    return results if len(results) > 1 else results[0]


def shown(state: Any) -> dict[str, float]:
    return {name: float(x) for name, x in js.current_hyperparams(state).items()}


def close(got: Any, want: Any, rtol: float = 1e-6) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=rtol, atol=rtol), got, want)


# --- beside optax ----------------------------------------------------------------------------------------------------


def kernels(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)


def raw_key(learning_rate: Any, key: Any) -> optax.GradientTransformation:
    return optax.noisy_sgd(learning_rate, 0.01, 0.55, key=jax.random.wrap_key_data(key))


class Halving:
    """A stateful schedule of Optax, which a metric drives."""

    def init(self) -> Any:
        return jnp.float32(0.1)

    def update(self, state: Any, **extra: Any) -> Any:
        return state / 2

    def __call__(self, state: Any, **extra: Any) -> Any:
        return state


# The factory, its positional arguments, its keywords, static_args and hyperparam_dtype.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any, Any]] = {
    "sgd": (optax.sgd, (LR,), {"momentum": js.Linear(0.95, 0.5, 8), "nesterov": True}, (), None),
    "adam": (optax.adam, (), {"learning_rate": LR, "b1": js.OneCycleMomentum(0.8, 0.95, total_steps=8)}, (), None),
    "adamw": (optax.adamw, (LR,), {"weight_decay": 0.1, "mask": kernels}, "mask", None),
    "lion": (optax.lion, (optax.linear_schedule(0.1, 0.0, 5),), {"b2": 0.98}, ["b1"], jnp.float32),
    "adafactor": (
        optax.adafactor,
        (LR, 2),
        {"decay_rate": js.Linear(0.7, 0.9, 8), "clipping_threshold": None},
        ["min_dim_size_to_factor", "decay_offset", "dtype_momentum"],
        jnp.float32,
    ),
    "in bfloat16": (optax.sgd, (0.1, 0.9), {}, (), jnp.bfloat16),
    "integers": (optax.sgd, (1,), {"momentum": 0}, (), jnp.float32),
    "a static schedule": (optax.sgd, (optax.linear_schedule(0.1, 0.0, 5), 0.5), {}, "learning_rate", None),
    "a stateful schedule": (optax.sgd, (Halving(),), {}, (), None),
    "a partial": (functools.partial(optax.adamw, b1=0.8, mask=kernels), (LR,), {"b2": 0.9}, ["mask"], None),
}
if "key" in inspect.signature(optax.noisy_sgd).parameters:  # since optax 0.2.5
    CALLS |= {
        "a seed": (optax.noisy_sgd, (LR,), {"eta": 0.01, "gamma": 0.55, "key": 0}, (), None),
        "a typed key": (optax.noisy_sgd, (LR,), {"eta": 0.01, "gamma": 0.55, "key": jax.random.key(0)}, (), None),
        "a raw key": (raw_key, (LR, jax.random.PRNGKey(0)), {}, (), None),
    }


@pytest.mark.parametrize("name", CALLS)
def test_it_is_called_as_optax_is_and_makes_the_same_updates(name: str) -> None:
    factory, args, kwargs, static, dtype = CALLS[name]
    theirs = optax.inject_hyperparams(factory, static, dtype)(*args, **kwargs)
    ours = js.inject_hyperparams(factory, static_args=static, hyperparam_dtype=dtype)(*args, **kwargs)
    (want, other), (got, state) = run(theirs, ours)
    close(got, want)
    assert state.count == 8
    integers = {key for key, x in other.hyperparams.items() if not jnp.issubdtype(x.dtype, jnp.floating)}
    assert set(state.hyperparams) == set(other.hyperparams) - ({"decay_offset"} if name == "adafactor" else set())
    for key in set(state.hyperparams) - integers:
        np.testing.assert_allclose(np.float64(state.hyperparams[key]), np.float64(other.hyperparams[key]), rtol=1e-6)
        assert state.hyperparams[key].dtype == (dtype or jnp.float32)
    for key in integers & set(state.hyperparams) - {"learning_rate"}:
        assert state.hyperparams[key].dtype == other.hyperparams[key].dtype
    assert inspect.signature(js.inject_hyperparams(factory)) == inspect.signature(factory)


def test_bfloat16_parameters_leave_b2_below_1() -> None:
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    theirs = optax.inject_hyperparams(optax.adam)(learning_rate=LR).init(params)
    assert theirs.hyperparams["b2"] == 1.0
    optimizer = js.inject_hyperparams(optax.adam)(learning_rate=LR)
    before = optimizer.init(params)
    after, state = run(optimizer, params=params)
    assert state.hyperparams["b2"] == np.float32(0.999)
    assert {x.dtype for x in state.hyperparams.values()} == {jnp.dtype("float32")}
    assert [x.dtype for x in jax.tree.leaves(state)] == [x.dtype for x in jax.tree.leaves(before)]
    assert {x.dtype for x in jax.tree.leaves((after, state.inner_state[0].nu))} == {jnp.dtype("bfloat16")}
    close(after, run(optimizer)[0], rtol=0.03)


# --- the state is the setting ----------------------------------------------------------------------------------------


def test_a_new_setting_is_no_new_program() -> None:
    traces = 0

    def make(peak: Any, warmup: Any, b1: Any) -> Any:
        schedule = js.WarmupCosine(peak_value=peak, warmup_steps=warmup, total_steps=12)
        return js.inject_hyperparams(optax.adam)(learning_rate=schedule * 2.0, b1=b1)

    optimizer = make(0.1, 3, 0.9)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        nonlocal traces
        traces += 1
        updates, state = optimizer.update(params, state, params)
        return optax.apply_updates(params, updates), state

    def train(state: Any) -> Any:
        params = PARAMS
        for _ in range(4):
            params, state = step(params, state)
        return params, state

    for setting in ((0.1, 3, 0.9), (0.01, 0, 0.8), (np.float32(0.3), jnp.int32(5), jnp.float32(0.7))):
        params, state = train(make(*setting).init(PARAMS))
        by_optax = optax.inject_hyperparams(optax.adam, hyperparam_dtype=jnp.float32)(
            learning_rate=js.WarmupCosine(setting[0], setting[1], 12) * 2.0, b1=setting[2]
        )
        want, other = PARAMS, by_optax.init(PARAMS)
        for _ in range(4):
            updates, other = by_optax.update(want, other, want)
            want = optax.apply_updates(want, updates)
        close(params, want)
        state.hyperparams["b1"] = jnp.float32(0.5)
        product = state.schedules["learning_rate"]
        peak = product.schedules[0].replace(peak_value=jnp.float32(0.5))
        state.schedules["learning_rate"] = product.replace(schedules=[peak, product.schedules[1]])
        train(state)
    assert traces == 1
    state.hyperparams["b1"] = 0.6  # a Python number has a type of its own, once
    train(state)
    state.hyperparams["b1"] = 0.7
    train(state)
    assert traces == 2


def test_settings_side_by_side_are_the_loop() -> None:
    settings = js.grid(js.WarmupCosine, peak_value=[0.1, 0.01], warmup_steps=[0, 3], total_steps=12)

    def make(schedule: Any, b1: Any) -> Any:
        return js.inject_hyperparams(optax.adam)(learning_rate=schedule, b1=b1)

    b1 = jnp.asarray([0.9, 0.8, 0.7, 0.6])
    states = jax.vmap(lambda s, b: make(s, b).init(PARAMS))(settings, b1)
    together, after = jax.vmap(lambda state: run(make(LR, 0.9), state=state))(states)
    assert after.hyperparams["learning_rate"].shape == (4,)
    alone = run(*[make(schedule, b1[i]) for i, schedule in enumerate(js.unstack(settings))])
    for i, (params, state) in enumerate(alone):
        close(jax.tree.map(lambda x, i=i: x[i], together), params, rtol=1e-5)
        assert shown(jax.tree.map(lambda x, i=i: x[i], after)) == pytest.approx(shown(state), rel=1e-6)


def test_the_state_is_edited_in_the_middle() -> None:
    optimizer = js.inject_hyperparams(optax.sgd)(learning_rate=js.Linear(1.0, 0.0, 10), momentum=0.0)
    _, state = run(optimizer, steps=3)
    earlier, ones = state, jnp.ones(3)
    assert shown(state) == pytest.approx({"learning_rate": 0.8, "momentum": 0.0})  # of the last update, at step 2

    state = jax.tree.map(jnp.copy, state)
    state.schedules["learning_rate"] = state.schedules["learning_rate"].replace(init_value=2.0)
    updates, after = optimizer.update({"w": PARAMS["w"], "v": ones}, state)
    np.testing.assert_allclose(updates["v"], -1.4, rtol=1e-6)  # 2 (1 - 3 / 10)
    assert shown(after)["learning_rate"] == pytest.approx(1.4)

    after.hyperparams["momentum"] = 0.5  # what is remembered is 1 now
    updates, _ = optimizer.update({"w": PARAMS["w"], "v": ones}, after)
    np.testing.assert_allclose(updates["v"], -1.2 * 1.5, rtol=1e-6)

    after.schedules["momentum"] = js.Constant(0.25)  # a number becomes a schedule, and a schedule a number
    del after.schedules["learning_rate"]
    after.hyperparams["learning_rate"] = 3.0
    updates, _ = optimizer.update({"w": PARAMS["w"], "v": ones}, after)
    np.testing.assert_allclose(updates["v"], -3.0 * 1.25, rtol=1e-6)
    assert float(earlier.schedules["learning_rate"].init_value) == 1.0
    assert "learning_rate" in earlier.schedules


def test_an_eager_update_shares_no_dict_with_the_state_before() -> None:
    optimizer = js.inject_hyperparams(optax.sgd)(learning_rate=LR)
    first = optimizer.init(PARAMS)
    _, second = optimizer.update(PARAMS, first)
    second.schedules["learning_rate"] = js.Constant(7.0)
    second.hyperparams["learning_rate"] = 7.0
    for state in (first, optimizer.init(PARAMS)):
        assert isinstance(state.schedules["learning_rate"], js.WarmupCosine)
        assert state.hyperparams["learning_rate"] == 0


def test_the_clock_inside_of_multi_steps_counts_what_is_carried_out() -> None:
    optimizer = optax.MultiSteps(js.inject_hyperparams(optax.sgd)(learning_rate=js.Linear(1.0, 0.0, 10)), 2)
    params, state = run(optimizer, steps=6, params=jnp.zeros(2))
    assert state.inner_opt_state.count == 3
    grads = [np.asarray(gradients(t, jnp.zeros(2))) for t in range(6)]
    want = -sum((1 - i / 10) * (grads[2 * i] + grads[2 * i + 1]) / 2 for i in range(3))
    np.testing.assert_allclose(params, want, rtol=1e-5)


def test_in_flax_as_in_optax() -> None:
    optimizer = js.inject_hyperparams(optax.adam)(learning_rate=LR)
    linen = TrainState.create(apply_fn=lambda: None, params=PARAMS, tx=optimizer)
    boxed = nnx.Optimizer(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), optimizer, wrt=nnx.Param)
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    for _ in range(3):
        linen = linen.apply_gradients(grads=PARAMS)
        boxed.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    want = {"learning_rate": float(LR(2)), "b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0}
    assert shown(linen.opt_state) == pytest.approx(want)
    for state in (boxed.opt_state, nnx.state(boxed), nnx.state(boxed)["opt_state"], nnx.to_pure_dict(nnx.state(boxed))):
        assert shown(state) == pytest.approx(want)
        assert all(isinstance(x, jax.Array) for x in js.current_hyperparams(state).values())


def test_an_nnx_state_has_the_names_of_the_optimizer_state() -> None:
    """Of the listeners it keeps the fields, but not the classes."""
    groups = {"kernel": js.reduce_on_plateau(0.1), "bias": js.inject_hyperparams(optax.sgd)(0.2, momentum=0.9)}
    inner = optax.chain(js.adaptive_warmup(None, 4), js.greedy(), js.by_path(groups), js.guard_spikes(optax.identity()))
    optimizer = nnx.Optimizer(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), inner, wrt=nnx.Param)
    assert shown(nnx.state(optimizer)) == shown(optimizer.opt_state)
    assert shown(optimizer.opt_state).keys() == {
        "0/scale", "1/scale", "kernel/learning_rate", "bias/learning_rate", "bias/momentum", "guard_scale"
    }  # fmt: skip


def test_a_horizon_beyond_int32_keeps_its_type() -> None:
    with x64():
        optimizer = js.inject_hyperparams(optax.sgd)(
            learning_rate=js.Linear(1.0, 0.0, 4_000_000_000), momentum=js.Linear(0, 1, 9)
        )
        state = optimizer.init(jnp.zeros(2))
        assert [x.dtype for x in jax.tree.leaves(state.schedules)] == [
            jnp.dtype(name) for name in "float32 float32 int64 float32 float32 int32".split()
        ]
        late = state._replace(count=jnp.asarray(2_000_000_000, jnp.int32))
        _, after = optimizer.update(jnp.zeros(2), late)
        assert after.hyperparams["learning_rate"] == 0.5


# --- which arguments are hyperparameters -----------------------------------------------------------------------------


def test_what_the_factory_gets() -> None:
    got: dict[str, Any] = {}

    def factory(
        learning_rate: Any,
        *,
        mask: Any = None,
        size: Any = 128,
        b1: Any = 0.9,
        order: Any = 2,
        flag: Any = 1.0,
        kind: Any = "a",
        limit: Any = np.inf,
        power: float | None = None,
    ) -> optax.GradientTransformation:
        got.update(locals())
        return optax.sgd(learning_rate)

    def half(step: Any) -> Any:
        return 0.5 * step

    optimizer = js.inject_hyperparams(factory)(
        learning_rate=half, mask=kernels, size=np.int64(64), order=2.5, flag=True, power=half
    )
    state = optimizer.init(PARAMS)
    assert set(state.hyperparams) == {"learning_rate", "b1", "order", "limit", "power"}
    assert {name: type(s) for name, s in state.schedules.items()} == {"learning_rate": js.Lambda, "power": js.Lambda}
    assert (got["mask"], got["size"], got["flag"], got["kind"]) == (kernels, 64, True, "a")
    assert {got[name].dtype for name in state.hyperparams} == {jnp.dtype("float32")}
    assert (got["b1"], got["order"], got["limit"]) == (np.float32(0.9), 2.5, np.inf)


def test_a_listener_is_injected() -> None:
    """Each number of a plateau may then have a schedule; the metric passes through."""
    arguments: dict[str, Any] = {"learning_rate": js.Linear(1.0, 0.0, 10), "patience": 0}
    factor = js.PiecewiseConstant([2], [0.5, 0.1])
    optimizer = js.inject_hyperparams(js.reduce_on_plateau)(factor=factor, **arguments)
    plain = js.reduce_on_plateau(factor=0.5, **arguments)
    state, other = optimizer.init(PARAMS), plain.init(PARAMS)
    for _ in range(2):
        updates, state = optimizer.update(PARAMS, state, value=1.0)
        want, other = plain.update(PARAMS, other, value=1.0)
        close(updates, want)
    assert state.inner_state.scale == 0.5
    _, state = optimizer.update(PARAMS, state, value=1.0)
    np.testing.assert_allclose(state.inner_state.scale, 0.05, rtol=1e-6)
    assert js.observe(state, value=1.0).inner_state.scale < 0.01


# --- momentum in one cycle, against torch ----------------------------------------------------------------------------


def iris() -> tuple[np.ndarray, np.ndarray]:
    x = np.asarray(RECORDED["x"])
    return (x - x.mean(0)) / x.std(0), np.asarray(RECORDED["y"])


def recorded_params(row: Any) -> dict[str, np.ndarray]:
    return {k: np.asarray(v).reshape(-1, *RECORDED["shapes"][k]) for k, v in row["params"].items()}


def one_cycle(row: Any) -> tuple[js.Schedule, js.Schedule]:
    cycle = dict(row["cycle"])
    base, most, peak = cycle.pop("base_momentum", 0.85), cycle.pop("max_momentum", 0.95), cycle.pop("max_lr")
    shape = {"cos": "cosine", "linear": "linear"}[cycle.pop("anneal_strategy", "cos")]
    both: Any = {"total_steps": len(row["rates"]), "shape": shape, **cycle}
    return js.OneCycle(peak, **both), js.OneCycleMomentum(base, most, **both)


def trajectory(optimizer: Any, start: Any, steps: int) -> Any:
    """Every parameter and every hyperparameter at every step, of the network that was recorded."""
    x, y = map(jnp.asarray, iris())

    def loss(p: Any, t: Any) -> Any:
        x_t, y_t = x.reshape(-1, 5, 4)[:, t % 5], y.reshape(-1, 5)[:, t % 5]
        logits = jnp.tanh(x_t @ p["hidden_kernel"] + p["hidden_bias"]) @ p["out_kernel"] + p["out_bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y_t).mean()

    def one(carry: Any, t: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, t), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, js.current_hyperparams(state))

    params = jax.tree.map(jnp.asarray, start)
    return jax.jit(lambda: jax.lax.scan(one, (params, optimizer.init(params)), jnp.arange(steps))[1])()


@pytest.mark.parametrize("row", RECORDED["trainings"], ids=["sgd", "nesterov", "adam", "adamw"])
def test_a_whole_training_in_one_cycle_is_that_of_torch(row: Any) -> None:
    assert RECORDED["torch"] == "2.13.0"
    rate, momentum = one_cycle(row)
    arguments = {k: v for k, v in row["arguments"].items() if k != "momentum"}
    name = row["optimizer"].lower()
    if name == "adamw":
        arguments["weight_decay"] = js.weight_decay(arguments["weight_decay"], rate, kind="coupled")
    momentum_name = "momentum" if name == "sgd" else "b1"
    optimizer = js.inject_hyperparams(getattr(optax, name))(
        learning_rate=rate, **{momentum_name: momentum}, **arguments
    )
    theirs = recorded_params(row)
    with x64():
        ours, hyperparams = trajectory(optimizer, {k: v[0] for k, v in theirs.items()}, len(row["rates"]))
    largest = max(row["rates"])
    np.testing.assert_allclose(hyperparams["learning_rate"], row["rates"], rtol=1e-6, atol=1e-6 * largest)
    np.testing.assert_allclose(hyperparams[momentum_name], row["momenta"], rtol=1e-6)
    assert np.ptp(row["momenta"]) > 0.09
    for k, v in theirs.items():
        np.testing.assert_allclose(ours[k], v[1:], rtol=1e-5, atol=1e-6)
    assert max(np.abs(v[-1] - v[0]).max() for v in theirs.values()) > 0.5  # and the training went somewhere


# --- weight decay ----------------------------------------------------------------------------------------------------


def by_numpy(kind: str, rates: np.ndarray, peak: float, decay: float, w: np.ndarray, grad: Any) -> np.ndarray:
    """AdamW in float64, from the papers: the step of Adam, and beside it what each kind takes off."""
    m, v, b1, b2, eps = np.zeros_like(w), np.zeros_like(w), 0.9, 0.999, 1e-8
    for t, rate in enumerate(rates):
        g = grad(w)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        adam = (m / (1 - b1 ** (t + 1))) / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps)
        lost = {"coupled": rate * decay, "independent": rate / peak * decay, "adamc": rate**2 / peak * decay}[kind]
        w = w - rate * adam - lost * w
    return w


@pytest.mark.parametrize("kind", ["coupled", "independent", "adamc"])
@pytest.mark.parametrize("given", ["schedule", "callable"])
def test_weight_decay_of_each_kind(kind: Any, given: str) -> None:
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(20, 4)), rng.normal(size=20), rng.normal(size=4)
    schedule: Any = js.WarmupCosine(peak_value=0.05, warmup_steps=5, total_steps=40)
    rate = np.concatenate([0.05 * np.arange(5) / 5, 0.025 * (1 + np.cos(np.pi * np.arange(35) / 35))])
    decay = 0.02 if kind == "independent" else 0.5
    want = by_numpy(kind, rate, 0.05, decay, w, lambda w: x.T @ (x @ w - y) / 20)
    learning_rate, peak = (schedule, None) if given == "schedule" else (lambda t: schedule(t), 0.05)
    optimizer = js.inject_hyperparams(optax.adamw)(
        learning_rate=learning_rate,
        weight_decay=js.weight_decay(decay, learning_rate, kind=kind, peak_value=peak),
    )
    with x64():

        def one(carry: Any, _: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(x.T @ (x @ params - y) / 20, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = jnp.asarray(w)
        (params, _), _ = jax.jit(lambda: jax.lax.scan(one, (start, optimizer.init(start)), length=40))()
    np.testing.assert_allclose(params, want, rtol=1e-5, atol=1e-6)
    others = [
        by_numpy(other, rate, 0.05, decay, w, lambda w: x.T @ (x @ w - y) / 20)
        for other in ("coupled", "independent", "adamc")
        if other != kind
    ]
    assert min(np.abs(other - want).max() for other in others) > 1e-3


def test_weight_decay_runs_under_vmap_and_knows_a_constant() -> None:
    decays, peaks = jnp.asarray([0.1, 0.2]), jnp.asarray([0.5, 0.25])
    got = jax.vmap(lambda d, p: js.weight_decay(d, js.Linear(0.0, p, 10), kind="adamc", peak_value=p)(5))(decays, peaks)
    np.testing.assert_allclose(got, [0.05, 0.1], rtol=1e-6)
    np.testing.assert_allclose(js.weight_decay(0.1, 0.5, kind="independent")(3), 0.2, rtol=1e-6)
    np.testing.assert_allclose(js.weight_decay(0.1, 0.5, kind="adamc")(3), 0.1, rtol=1e-6)


def test_a_state_that_was_edited_wrongly_says_so() -> None:
    optimizer = js.inject_hyperparams(optax.adamw)(learning_rate=js.Constant(0.1))
    state = optimizer.init(jnp.ones(3))
    state.schedules["learning_rte"] = js.Constant(0.1)
    with pytest.raises(TypeError, match="the optimizer has no argument 'learning_rte': did you mean 'learning_rate'"):
        optimizer.update(jnp.ones(3), state, jnp.ones(3))
    del state.schedules["learning_rte"]
    state.schedules["learning_rate"] = 0.5  # a number is a schedule too
    _, state = jax.jit(optimizer.update)(jnp.ones(3), state, jnp.ones(3))
    assert js.current_hyperparams(state)["learning_rate"] == 0.5


def test_it_is_saved_as_flax_saves() -> None:
    """Flax's msgpack knows dicts and arrays; a schedule is the list of its numbers there."""
    optimizer = optax.chain(
        js.inject_hyperparams(optax.adam)(learning_rate=js.WarmupCosine(0.1, 10, 100) * 0.5), js.optim.autoclip()
    )
    params = jnp.ones(3)
    state = optimizer.init(params)
    _, state = optimizer.update(params, state, params)
    restored = serialization.from_bytes(optimizer.init(params), serialization.to_bytes(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    again, _ = optimizer.update(params, restored, params)
    want, _ = optimizer.update(params, state, params)
    np.testing.assert_array_equal(again, want)
