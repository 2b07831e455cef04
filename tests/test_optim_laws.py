"""Laws that every transformation of this package keeps, wherever it is nested."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization
from optax.transforms import partition  # at the top only since optax 0.2.5

import jaxsched as js

from .cases import x64

S = js.Linear(0.1, 0.01, 20)
CASES: dict[str, Callable[[], Any]] = {
    "reduce_on_plateau": lambda: js.reduce_on_plateau(S, patience=1, window=2, cooldown=1),
    "reduce_on_plateau without a rate": lambda: js.reduce_on_plateau(patience=1),
    "greedy": lambda: js.greedy(S, patience=1, smooth=True, window_size=4),
    "adaptive_warmup": lambda: js.adaptive_warmup(S, warmup_steps=10),
    "named": lambda: js.optim.named("loss", js.reduce_on_plateau(S)),
    "guard_spikes": lambda: js.guard_spikes(optax.sgd(S, momentum=0.9), window=8, burn_in=2),
    "guard_spikes that goes on": lambda: js.guard_spikes(optax.sgd(S), window=8, burn_in=2, hold=False),
    "autoclip": lambda: js.optim.autoclip(history=5),
    "zclip": lambda: js.optim.zclip(burn_in=3),
    "monitor_gradients": lambda: js.monitor_gradients(optax.sgd(S, momentum=0.9)),
    "monitor_gradients alone": lambda: js.monitor_gradients(),
    "inject_hyperparams": lambda: js.inject_hyperparams(optax.adam)(
        learning_rate=S, b1=js.OneCycleMomentum(0.85, 0.95, total_steps=20), b2=js.Constant(jnp.float32(0.99))
    ),
    "by_path": lambda: js.by_path({"a/**": S, "b": None, "**": S * 0.1}),
}


def each_step(steps: optax.MultiSteps) -> optax.GradientTransformationExtraArgs:
    """Not its `gradient_transformation()`, which drops every `value`."""
    return optax.GradientTransformationExtraArgs(steps.init, steps.update)


NESTS: dict[str, Callable[[Any], Any]] = {
    "MultiSteps": lambda tx: each_step(optax.MultiSteps(tx, 1)),
    "a masked group of a chain": lambda tx: partition(
        {"x": optax.masked(optax.chain(optax.identity(), tx), lambda tree: jax.tree.map(lambda _: True, tree))},
        lambda tree: jax.tree.map(lambda _: "x", tree),
    ),
    "guarded and watched": lambda tx: js.monitor_gradients(js.guard_spikes(optax.apply_if_finite(tx, 5))),
}
NESTS["all of them"] = lambda tx: functools.reduce(lambda inner, nest: nest(inner), [*NESTS.values()][:3], tx)
# To trace a nest takes a second or two: all in one for all, and one by one for two.
NESTED = [pytest.param(name, "all of them", marks=pytest.mark.trial) for name in CASES]
NESTED += [(name, nest) for name in ("reduce_on_plateau", "inject_hyperparams") for nest in [*NESTS][:3]]
METRICS = [1.0, 0.5, 0.7, 0.8, 0.2, 0.9]


def parameters(dtype: Any = jnp.float32) -> Any:
    return {
        "a": {"w": jnp.ones((2, 3), dtype), "v": jnp.ones(3, dtype)},
        "b": jnp.ones(2, dtype),
        "c": jnp.ones(4, dtype),
    }


def gradients(params: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def steps(transformation: Any, params: Any, state: Any) -> tuple[Any, Any]:
    """A step for each metric, in one scan: the carry keeps its types."""
    several = jax.tree.map(lambda *xs: jnp.stack(xs), *(gradients(params, seed) for seed in range(len(METRICS))))

    def one(carry: Any, given: Any) -> Any:
        params, state = carry
        gradient, metric = given
        updates, state = transformation.update(gradient, state, params, value=metric, loss=metric)
        return (optax.apply_updates(params, updates), state), updates

    return jax.lax.scan(one, (params, state), (several, jnp.asarray(METRICS, jnp.float32)))


def same(got: Any, want: Any, rtol: float = 0.0) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=rtol, atol=rtol)


@functools.cache
def training(name: str) -> tuple[Any, Callable[[Any, Any], Any]]:
    """A transformation and its steps in one program, which several laws share; under strict promotion."""
    transformation = optax.with_extra_args_support(CASES[name]())
    compiled = jax.jit(lambda p, s: steps(transformation, p, s))

    def run(params: Any, state: Any) -> Any:
        with jax.numpy_dtype_promotion("strict"):
            return compiled(params, state)

    return transformation, run


@functools.cache
def alone(name: str) -> Any:
    """The parameters and state, and the updates, of a transformation that is nested nowhere: with the metrics."""
    transformation, run = training(name)
    params = parameters()
    with jax.numpy_dtype_promotion("strict"):
        state = transformation.init(params)
    return run(params, state)


@pytest.mark.parametrize("name", CASES)
def test_it_trains_under_strict_promotion(name: str) -> None:
    _, updates = alone(name)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(updates)) > 0


@pytest.mark.parametrize(("name", "nest"), NESTED)
def test_it_can_be_nested(name: str, nest: str) -> None:
    transformation = optax.with_extra_args_support(NESTS[nest](CASES[name]()))
    params = parameters()
    state = jax.jit(transformation.init)(params)
    (_, state_after), updates = jax.jit(lambda p, s: steps(transformation, p, s))(params, state)
    assert jax.tree.structure(state_after) == jax.tree.structure(state)
    same(updates, alone(name)[1], rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64], ids=["bf16", "f16", "f64"])
def test_its_own_state_is_float32_and_int32(name: str, dtype: Any) -> None:
    """By its types alone; in bfloat16 it is trained."""
    with x64():
        params, transformation = parameters(dtype), CASES[name]()
        train = jax.jit(lambda p: steps(transformation, p, transformation.init(p)))
        (_, after), updates = train(params) if dtype == jnp.bfloat16 else jax.eval_shape(train, params)
        if dtype == jnp.bfloat16:
            assert all(np.all(np.isfinite(np.float32(x))) for x in jax.tree.leaves(updates))
        assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
        # Moments of an inner optimizer have the parameters' shapes and dtypes; the rest is the package's.
        shapes = {p.shape for p in jax.tree.leaves(params)}
        ours = [x for x in jax.tree.leaves(after) if x.shape not in shapes]
        assert ours
        assert {x.dtype for x in ours} <= {jnp.dtype("float32"), jnp.dtype("int32")}


@pytest.mark.parametrize("name", CASES)
def test_states_are_vmapped(name: str) -> None:
    """Several trainings side by side, each with a state of its own, are the loop over them."""
    transformation, run = training(name)
    several = [jax.tree.map(lambda p, i=i: p * (1 + i), parameters()) for i in range(3)]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *several)
    together = jax.jit(jax.vmap(lambda p: run(p, transformation.init(p))))(stacked)
    for i, params in enumerate(several):
        same(jax.tree.map(lambda x, i=i: x[i], together), run(params, transformation.init(params)), rtol=1e-5)


RNG, N = np.random.default_rng(3), 24
REAL = functools.partial(RNG.uniform, size=N)
WHOLE = functools.partial(RNG.integers, size=N)
LOSSES = jnp.asarray(np.exp(-np.arange(60) / 12) * (1 + 0.3 * RNG.normal(size=60)) + 0.2, jnp.float32)
SETTINGS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "reduce_on_plateau": (
        js.reduce_on_plateau,
        {"factor": REAL(0.1, 0.9), "patience": WHOLE(0, 5), "threshold": REAL(0, 0.1), "cooldown": WHOLE(0, 4)}
        | {"min_lr": REAL(0, 1e-2), "eps": REAL(0, 1e-3), "window": WHOLE(1, 4), "warmup": WHOLE(0, 4)},
    ),
    "greedy": (
        functools.partial(js.greedy, smooth=True, window_size=3),
        {"factor": REAL(0.3, 0.9), "patience": WHOLE(0, 4), "threshold": REAL(0, 0.1), "cooldown": WHOLE(0, 3)}
        | {"warmup": WHOLE(0, 3), "min_lr": REAL(0, 0.1), "max_lr": REAL(0.5, 5), "eps": REAL(0, 1e-3)}
        | {"reset_start": WHOLE(1, 9)},
    ),
    "adaptive_warmup": (
        js.adaptive_warmup,
        {"warmup_steps": WHOLE(20, 50), "init_factor": REAL(0, 0.5), "min_steps": WHOLE(5, 20), "spike": REAL(1, 3)}
        | {"max_steps": WHOLE(60, 90), "smoothing": REAL(0.3, 0.9), "tolerance": REAL(0, 1), "backoff": REAL(0, 0.9)},
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_vmapped(name: str) -> None:
    """Every number can be an array: a vmap over the settings is the loop over them, in one program."""
    make, settings = SETTINGS[name]
    traces = []

    @jax.jit
    def last_rate(setting: Any) -> Any:
        traces.append(1)
        transformation = make(**setting)

        def one(state: Any, loss: Any) -> Any:
            return js.observe(transformation.update(jnp.ones(2), state)[1], value=loss), None

        return jax.lax.scan(one, transformation.init(None), LOSSES)[0].learning_rate

    settings = {name: jnp.asarray(x) for name, x in ({"learning_rate": REAL(0.1, 1)} | settings).items()}
    together = jax.vmap(last_rate)(settings)
    alone = [last_rate({name: x[i] for name, x in settings.items()}) for i in range(N)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len(np.unique(np.asarray(together))) > N // 2
    assert len(traces) == 1


@pytest.mark.parametrize("name", CASES)
def test_a_state_is_donated(name: str) -> None:
    transformation = CASES[name]()
    step = jax.jit(lambda p, s: transformation.update(gradients(p), s, p, value=1.0, loss=1.0)[1], donate_argnums=1)
    params = parameters()
    for _ in range(2):
        state = step(params, step(params, transformation.init(params)))
        _, state = transformation.update(gradients(params), state, params, value=1.0, loss=1.0)
        step(params, state)
    jax.block_until_ready(transformation.init(params))


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Orbax makes of the parameters and states of all transformations."""
    ocp = pytest.importorskip("orbax.checkpoint")
    path = tmp_path_factory.mktemp("laws") / "saved"
    carries = {name: alone(name)[0] for name in CASES}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, carries)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, jax.tree.map(jnp.zeros_like, carries))


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_goes_on_identically(name: str, restored: dict[str, Any]) -> None:
    (carry, _), (_, run) = alone(name), training(name)
    same(restored[name], carry)
    same(run(*restored[name]), run(*carry))
    same(pickle.loads(pickle.dumps(carry)), carry)
    flax = serialization.from_bytes(jax.tree.map(jnp.zeros_like, carry), serialization.to_bytes(carry))
    same(jax.tree.map(jnp.asarray, flax), carry)


PUBLIC = (
    "reduce_on_plateau observe current_hyperparams named inject_hyperparams weight_decay by_path layerwise greedy "
    "adaptive_warmup "
    "guard_spikes monitor_gradients gradient_norms diagnose autoclip zclip"
).split()


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_say_everything(name: str) -> None:
    function = getattr(js.optim, name)
    doc = inspect.getdoc(function) or ""
    for part in ("Args:", "Returns:", "Raises:", "Example:", "References:", ">>> "):
        assert part in doc, part
    assert len(doc.splitlines()[0]) <= 88
    for parameter in inspect.signature(function).parameters:
        assert parameter in doc.split("Args:")[1], parameter
