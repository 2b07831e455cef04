"""Gradients in the hyperparameters, against the papers' formulas in float64 and against central differences."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.predict.gradients import unroll_grad, unrolled_loss
from jaxsched.predict.hypergradients import hypergradient

from .cases import x64

STEPS = 10
NESTEROV = functools.partial(optax.sgd, momentum=0.9, nesterov=True)
TRIANGLE = js.CyclicTriangular(base_value=0.0, peak_value=0.2, up_steps=3, down_steps=2)


# --- hypergradient: the formulas of the paper, in float64 ------------------------------------------------------------

WAY = np.diag([1.0, 0.3, 2.0, 0.7, 1.5]) + 0.2


def gradient_at(theta: Any, t: Any) -> Any:
    """Of a quadratic whose minimum moves: the same for NumPy and for JAX."""
    xp = jnp if isinstance(theta, jax.Array) else np
    return WAY.astype(theta.dtype) @ theta - xp.sin(1.7 * t + xp.arange(5))


def direction_of(kind: str) -> Any:
    """The update at the rate 1 by the algorithms of the paper; a function of the gradient and of t = 1, 2, ..."""
    memory = {"v": np.zeros(5), "m": np.zeros(5), "u": np.zeros(5)}

    def direction(g: np.ndarray, t: int) -> np.ndarray:
        if kind == "sgd":
            return -g
        if kind == "nesterov":
            memory["v"] = 0.9 * memory["v"] + g
            return -(g + 0.9 * memory["v"])
        memory["m"] = 0.9 * memory["m"] + 0.1 * g
        memory["u"] = 0.999 * memory["u"] + 0.001 * g**2
        return -(memory["m"] / (1 - 0.9**t)) / (np.sqrt(memory["u"] / (1 - 0.999**t)) + 1e-8)

    return direction


def by_formula(kind: str, rate: Any, beta: float, multiplicative: bool) -> np.ndarray:
    """The rates and the parameters of each step, float64 (STEPS, 6). A schedule, a list, has a factor on it."""
    theta, before, learned = np.ones(5), np.zeros(5), 1.0 if isinstance(rate, list) else rate
    direction, rows = direction_of(kind), []
    for t in range(STEPS):
        g = gradient_at(theta, float(t))
        h = g @ before
        if multiplicative:
            norms = np.linalg.norm(g) * np.linalg.norm(before)
            learned *= 1 - beta * (h / norms if norms else 0.0)
        else:
            learned -= beta * h
        d = direction(g, t + 1)
        base = rate[t] if isinstance(rate, list) else 1.0
        before = base * d  # the derivative of the update in what is learned
        theta = theta + learned * base * d
        rows.append([learned * base, *theta])
    return np.array(rows)


CASES = {
    "sgd": ("sgd", 0.02, 1e-3, False),
    "nesterov": ("nesterov", 0.01, 1e-4, False),
    "adam": ("adam", 0.05, 2e-3, False),
    "from 0": ("sgd", 0.0, 1e-3, False),
    "sgd, multiplicative": ("sgd", 0.02, 0.1, True),
    "adam, a schedule": ("adam", TRIANGLE, 0.1, False),
    "sgd, a schedule, multiplicative": ("sgd", TRIANGLE, 0.1, True),
}
FACTORIES: dict[str, Any] = {"sgd": optax.sgd, "nesterov": NESTEROV, "adam": optax.adam}


def split(theta: Any) -> dict[str, Any]:
    return {"a": theta[:3], "b": theta[3:].reshape(2, 1)}


def joined(tree: Any) -> Any:
    return jnp.concatenate([tree["a"], tree["b"].ravel()])


QUICK = ("adam", "from 0", "sgd, a schedule, multiplicative")  # the others are slow to compile


@functools.cache
def by_optimizer(quick: bool) -> dict[str, np.ndarray]:
    @jax.jit
    def run() -> dict[str, jax.Array]:
        made = {
            name: hypergradient(rate, beta, optimizer=FACTORIES[kind], multiplicative=multiplicative)
            for name, (kind, rate, beta, multiplicative) in CASES.items()
            if (name in QUICK) is quick
        }
        params = {name: split(jnp.ones(5)) for name in made}
        states = {name: optimizer.init(params[name]) for name, optimizer in made.items()}

        def step(carry: Any, t: Any) -> Any:
            params, states, rows = *carry, {}
            for name, optimizer in made.items():
                gradient = split(gradient_at(joined(params[name]), t.astype(jnp.float32)))
                updates, states[name] = optimizer.update(gradient, states[name], params[name])
                params[name] = optax.apply_updates(params[name], updates)
                rate = js.current_hyperparams(states[name])["learning_rate"]
                rows[name] = jnp.concatenate([rate[None], joined(params[name])])
            return (params, states), rows

        return jax.lax.scan(step, (params, states), jnp.arange(STEPS))[1]

    return jax.tree.map(np.asarray, run())


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.trial] * (x not in QUICK)) for x in CASES])
def test_it_is_the_formula_of_the_paper(name: str) -> None:
    kind, rate, beta, multiplicative = CASES[name]
    if isinstance(rate, js.Schedule):
        rate = [float(rate(t)) for t in range(STEPS)]
    expected = by_formula(kind, rate, beta, multiplicative)
    assert np.ptp(expected[:, 0]) > 0.01  # it learns something
    np.testing.assert_allclose(
        by_optimizer(name in QUICK)[name], expected, rtol=1e-4, atol=2e-5
    )  # float32 Adam loses digits in 1 - b2^t


@pytest.fixture(scope="module")
def swept() -> tuple[Any, np.ndarray, int]:
    """Three numbers at once through vmap; the gradients are all 1, and one of them is NaN, or against the others."""
    traces = []
    gradients = jnp.array([1.0, 1.0, jnp.nan, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])

    @jax.jit
    @jax.vmap
    def run(beta: jax.Array, least: jax.Array, most: jax.Array) -> Any:
        traces.append(1)
        optimizer = hypergradient(
            0.1, beta, optimizer=lambda r: optax.chain(optax.zero_nans(), optax.sgd(r)), min_lr=least, max_lr=most
        )
        params = jnp.ones(2)

        def step(state: Any, g: jax.Array) -> Any:
            updates, state = optimizer.update(jnp.full(2, g), state, params)
            return state, (state.learning_rate, updates)

        return jax.lax.scan(step, optimizer.init(params), gradients)

    for scale in (0.5, 1.0):
        state, (rates, _) = run(scale * jnp.array([0.0, 0.01, 0.1]), jnp.array([0.0, 0.0, 0.05]), jnp.full(3, 0.25))
    return state, np.asarray(rates), len(traces)


def test_numbers_can_be_traced_and_bounds_hold(swept: Any) -> None:
    state, rates, traces = swept
    assert traces == 1
    np.testing.assert_allclose(rates[0], 0.1, rtol=1e-6)
    # h is -2, NaN twice over (a gradient, then a product with the zeros that became of it), then -2 and +2.
    np.testing.assert_allclose(rates[1], [0.1, 0.12, 0.12, 0.12, 0.14, 0.12, 0.10, 0.08, 0.06, 0.04], rtol=1e-5)
    np.testing.assert_allclose(rates[2], [0.1, 0.25, 0.25, 0.25, 0.25, 0.05, 0.05, 0.05, 0.05, 0.05], rtol=1e-6)
    assert state.learned[2] == np.float32(0.05)  # nothing is wound up behind the bound


def rates_after(optimizer: Any, params: Any, gradients: Any) -> tuple[list[float], Any]:
    """The rate after each update, and the last state; each gradient fills the parameters."""
    state, update, rates = optimizer.init(params), jax.jit(optimizer.update), []
    for g in gradients:
        _, state = update(jnp.full_like(params, g), state)
        rates.append(float(state.learning_rate))
    return rates, state


@pytest.mark.trial
def test_small_types_and_small_numbers() -> None:
    """Products of bfloat16 are summed in float32: in bfloat16 their sum would end at 256. A cosine has no scale."""
    optimizer = hypergradient(0.125, 2.0**-14, optimizer=optax.sgd)
    params = jnp.ones(4096, jnp.bfloat16)
    state: Any = optimizer.init(params)
    update: Any = jax.jit(optimizer.update)
    _, state = update(params, state, params)
    updates, state = update(params, state, params)
    assert updates.dtype == jnp.bfloat16
    assert {x.dtype for x in (state.learning_rate, state.learned, state.hypergradient)} == {jnp.dtype("float32")}
    assert state.hypergradient == -4096
    assert state.learning_rate == 0.375
    assert jnp.all(updates == -0.375)
    cosine = hypergradient(0.1, 0.5, multiplicative=True)
    rates, _ = rates_after(cosine, jnp.ones(3), (1e-30, 1e-30, 0.0, 1e30, -1e30))
    assert rates == pytest.approx([0.1, 0.15, 0.15, 0.15, 0.075])


@pytest.mark.trial
def test_a_schedule_and_its_bounds() -> None:
    """No lower than `min_lr` unless the schedule is, no higher than `max_lr`; zeros of the schedule teach nothing."""
    schedule = js.PiecewiseConstant([1, 2, 3, 5], [0.1, 0.0, 0.1, 0.4, 0.01])
    optimizer = hypergradient(schedule, 2.0, min_lr=0.05, max_lr=0.3)
    state: Any = optimizer.init(jnp.ones(1))
    update: Any = jax.jit(optimizer.update)
    rates, factors = [], []
    for g in (1.0, 1.0, 1.0, 1.0, -1.0, 1.0):
        _, state = update(np.full(1, g, np.float32), state)
        rates.append(float(state.learning_rate))
        factors.append(float(state.learned))
    # f = 1, then + 2 x 0.1 at once, + 0 (the schedule was 0), + 2 x 0.1 (capped: 1.4 x 0.4 > 0.3, so f stays 1.2).
    np.testing.assert_allclose(factors[:4], [1.0, 1.2, 1.2, 1.2], rtol=1e-6)
    np.testing.assert_allclose(rates[:4], [0.1, 0.0, 0.12, 0.3], rtol=1e-6)
    np.testing.assert_allclose(rates[4:], [0.4 * 0.4, 0.01], rtol=1e-6)  # -2 x 0.4; then the schedule itself is lower
    assert js.current_hyperparams((optax.EmptyState(), state)) == {"learning_rate": state.learning_rate}


@pytest.mark.trial
def test_it_goes_where_other_optimizers_go() -> None:
    """In a chain, in groups, in MultiSteps, and from a checkpoint of plain arrays."""
    params = {"body": jnp.ones(2), "head": jnp.ones(2)}
    gradient = {"body": jnp.full(2, 1.0), "head": jnp.full(2, 3.0)}

    def states(optimizer: Any, steps: int, state: Any = None) -> Any:
        state, updates = optimizer.init(params) if state is None else state, None
        for _ in range(steps):
            updates, state = optimizer.update(gradient, state, params)
        return updates, state

    grouped = js.by_path({"body/**": 0.1, "head/**": 0.1}, lambda s: hypergradient(s(0), 0.01))
    _, state = states(grouped, 2)
    rates = js.current_hyperparams(state)
    assert rates["body/learning_rate"] == pytest.approx(0.12)
    assert rates["head/learning_rate"] == pytest.approx(0.28)

    chained = optax.chain(optax.clip(1.0), hypergradient(0.1, 0.01, optimizer=optax.adam))
    straight, _ = states(chained, 4)
    _, state = states(chained, 2)
    leaves, structure = jax.tree.flatten(state)
    saved = structure.unflatten([jnp.asarray(np.asarray(x)) for x in leaves])
    jax.tree.map(np.testing.assert_array_equal, states(chained, 2, saved)[0], straight)

    every_second = optax.MultiSteps(hypergradient(0.1, 0.01), 2)
    _, state = states(every_second, 4)
    assert js.current_hyperparams(state)["learning_rate"] == pytest.approx(0.1 + 0.01 * (2 * 1 + 2 * 9))


def digits() -> Any:
    path = Path(__file__).parent.parent / "examples" / "digits.py"
    spec = importlib.util.spec_from_file_location("example_digits_of_gradients", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.trial
@pytest.mark.parametrize(("kind", "rate", "beta"), [("sgd", 1e-3, 1e-2), ("adam", 1e-5, 1e-5)])
def test_a_rate_that_is_too_small_by_100_is_repaired(kind: str, rate: float, beta: float) -> None:
    """On the digits, where about 0.1 and 0.001 train; with hyper_lr=0 it is the fixed rate."""
    task = dataclasses.replace(
        digits().task, optimizer=lambda s: hypergradient(rate, s["hyper_lr"], optimizer=FACTORIES[kind])
    )
    result = js.sweep(task, {"hyper_lr": np.array([0.0, beta])}, steps=400, seeds=2)
    fixed, learned = result.final["valid_loss"].mean(axis=1)
    assert fixed > 1.5
    assert learned < 0.4


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"learning_rate": -0.1}, ValueError, "learning_rate=-0.1; learning_rate must be a finite number, 0 or more"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate='0.1' is text"),
        ({"learning_rate": np.array([0.1, 0.2])}, ValueError, "and one: jax.vmap runs over several"),
        ({"learning_rate": js.stack(js.Constant(0.1), js.Constant(0.2))}, ValueError, "several settings in one"),
        ({"hyper_lr": -1e-3}, ValueError, "hyper_lr=-0.001"),
        ({"max_lr": 0.0}, ValueError, "max_lr=0.0; max_lr must be a finite number above 0"),
        ({"min_lr": 0.5, "max_lr": 0.2}, ValueError, "min_lr=0.5 and max_lr=0.2; write min_lr <= max_lr"),
        ({"max_lr": 0.01}, ValueError, "learning_rate=0.1 and max_lr=0.01; write learning_rate <= max_lr"),
        ({"multiplicative": 1}, TypeError, "multiplicative=1; multiplicative must be True or False"),
        ({"optimizer": optax.adam(1e-3)}, TypeError, "which has its rate already"),
        ({"optimizer": lambda rate: rate}, TypeError, "optimizer\\(1.0\\)=1.0 is not an optimizer"),
    ],
)
def test_hypergradient_refuses(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=f"hypergradient: .*{says}"):
        hypergradient(**{"learning_rate": 0.1, "hyper_lr": 1e-3, **arguments})


# --- unroll_grad -----------------------------------------------------------------------------------------------------

TRACES: list[Any] = []
EXAMPLES, BATCH, UNROLLED = 12, 4, 7  # 3 batches an epoch, of which 7 steps take 3; segments of 3 steps, the last of 1


def linear_data(examples: int = EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(examples, 3)).astype(np.float32)
    return x, (x @ [1.0, -2.0, 0.5] + 0.3 * random.normal(size=examples)).astype(np.float32)


def linear_loss(params: Any, batch: Any, key: Any) -> Any:
    TRACES.append(key)
    x, y = batch
    return jnp.mean((x @ params - y) ** 2), {}


LINEAR = js.Task(
    init=lambda key: jnp.array([0.1, 0.2, 0.3]) * (1 + jax.random.uniform(key)),
    loss=linear_loss,
    train=linear_data(),
    valid=linear_data(5),
    batch_size=BATCH,
    optimizer=lambda s: optax.sgd(s["rate"], momentum=s["momentum"]),
)
WARM = js.WarmupCosine(peak_value=0.1, warmup_steps=2.5, total_steps=7, init_value=0.01, end_value=0.02)
SETTING = {"rate": WARM, "momentum": 0.6, "unused": 3}


@functools.cache
def drawn(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first parameters and the orders of three epochs, by the rules that `sweep` states for its keys."""
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)
    orders = [np.asarray(jax.random.permutation(jax.random.fold_in(key[1], e), EXAMPLES)) for e in range(3)]
    return np.asarray(LINEAR.init(key[0]), np.float64), orders


def linear_training(
    peak_value: float, warmup_steps: float, init_value: float, end_value: float, momentum: float, seed: int
) -> float:
    """The training of LINEAR in float64; its validation loss."""
    theta, orders = drawn(seed)
    (x, y), (xv, yv) = (tuple(a.astype(np.float64) for a in data) for data in (linear_data(), linear_data(5)))
    speed = np.zeros(3)
    for t in range(UNROLLED):
        rows = orders[t // 3][t % 3 * BATCH :][:BATCH]
        g = 2 / BATCH * x[rows].T @ (x[rows] @ theta - y[rows])
        speed = momentum * speed + g
        if t < warmup_steps:
            rate = init_value + (peak_value - init_value) * t / warmup_steps
        else:
            u = (t - warmup_steps) / (UNROLLED - warmup_steps)
            rate = end_value + (peak_value - end_value) * (1 + np.cos(np.pi * u)) / 2
        theta = theta - rate * speed
    return float(np.mean((xv @ theta - yv) ** 2))


NUMBERS = {"peak_value": 0.1, "warmup_steps": 2.5, "init_value": 0.01, "end_value": 0.02, "momentum": 0.6}


def central(name: str, seed: int) -> float:
    width = 1e-5
    up, down = ({**NUMBERS, name: NUMBERS[name] + sign * width} for sign in (1, -1))
    return (linear_training(**up, seed=seed) - linear_training(**down, seed=seed)) / (2 * width)


@pytest.fixture(scope="module")
def unrolled() -> Any:
    return unroll_grad(LINEAR, SETTING, UNROLLED, seeds=[0, 3])


def test_loss_and_gradient_are_those_of_float64(unrolled: Any) -> None:
    for place, seed in enumerate((0, 3)):
        assert np.asarray(unrolled.losses)[place] == pytest.approx(linear_training(**NUMBERS, seed=seed), rel=1e-5)
        for name in NUMBERS:
            slopes = unrolled.gradients[name] if name == "momentum" else getattr(unrolled.gradients["rate"], name)
            assert np.asarray(slopes)[place] == pytest.approx(central(name, seed), rel=2e-4), name
    assert unrolled.loss == pytest.approx(float(unrolled.losses.mean()), rel=1e-6)


def test_integers_take_no_gradient_and_rows_say_the_rest(unrolled: Any) -> None:
    assert unrolled.gradient["rate"].total_steps.dtype == unrolled.gradient["unused"].dtype == jax.dtypes.float0
    rows = {row["hyperparameter"]: row for row in unrolled.table()}
    assert set(rows) == {f"rate.{name}" for name in NUMBERS if name != "momentum"} | {"momentum"}
    peak = rows["rate.peak_value"]
    slopes = np.asarray(unrolled.gradients["rate"].peak_value, np.float64)
    assert peak["value"] == 0.1
    assert (
        peak["gradient"] == pytest.approx(slopes.mean()) == pytest.approx(float(unrolled.gradient["rate"].peak_value))
    )
    assert peak["error"] == pytest.approx(abs(slopes[0] - slopes[1]) / 2)
    assert peak["per_log"] == pytest.approx(0.1 * slopes.mean())


def test_a_second_call_compiles_nothing(unrolled: Any) -> None:
    before = len(TRACES)
    again = unroll_grad(LINEAR, {**SETTING, "rate": WARM.replace(peak_value=0.2)}, UNROLLED, seeds=[1, 2])
    assert len(TRACES) == before > 0
    assert again.loss != unrolled.loss


def test_a_length_of_whole_steps_is_a_kink(unrolled: Any) -> None:
    """The loss falls on one side of it and rises on the other, and the gradient is that of one of them."""
    del unrolled  # what is compiled is there
    width, slopes = 1e-6, []
    for length in (2.0, 2.4):
        before, at, after = (
            linear_training(**{**NUMBERS, "warmup_steps": length + away, "seed": 11}) for away in (-width, 0, width)
        )
        setting = {**SETTING, "rate": WARM.replace(warmup_steps=length)}
        got = unroll_grad(LINEAR, setting, UNROLLED, seeds=[11, 12]).gradients["rate"].warmup_steps
        slopes.append(((at - before) / width, (after - at) / width, float(np.asarray(got)[0])))
    (left, right, got), beside = slopes
    assert left < -0.01 < 0.01 < right
    assert min(abs(got - left), abs(got - right)) < 1e-4
    np.testing.assert_allclose(beside, beside[0], rtol=1e-3)


def test_the_same_objective_is_the_same_program(unrolled: Any) -> None:
    del unrolled
    traces: list[Any] = []

    @functools.partial(jax.jit, static_argnums=0)
    def value(objective: Any, peak: Any) -> Any:
        traces.append(objective)
        return objective({**SETTING, "rate": WARM.replace(peak_value=peak)})

    for key in (0, jax.random.key(0)):
        objective = unrolled_loss(LINEAR, UNROLLED, seeds=[0, 3], key=key)
        jax.eval_shape(functools.partial(value, objective), jnp.float32(0.1))
    assert len(traces) == 1
    assert unrolled_loss(LINEAR, UNROLLED, seeds=[0, 3], key=1) != objective
    assert unrolled_loss(LINEAR, UNROLLED, seeds=[3, 0]) != objective


@pytest.mark.trial
def test_other_trainings_are_other_programs(unrolled: Any) -> None:
    del unrolled
    options: Any = ({}, {"steps": 6}, {"checkpoint_every": 2}, {"chunk": 1}, {"key": jax.random.key(0, impl="rbg")})
    made = [unrolled_loss(LINEAR, **{"steps": UNROLLED, "seeds": [0, 3], **each}) for each in options]
    with x64():
        made.append(unrolled_loss(LINEAR, UNROLLED, seeds=[0, 3]))
        assert made[-1](SETTING).dtype == jnp.float64
    assert made[0](SETTING).dtype == jnp.float32
    assert len(set(made)) == 6
    inside = []

    @jax.jit
    def traced(key: Any) -> Any:
        inside.append(unrolled_loss(LINEAR, UNROLLED, seeds=[0, 3], key=key))
        return inside[0](SETTING)

    np.testing.assert_allclose(traced(jax.random.key(0)), made[0](SETTING), rtol=1e-6)
    assert inside[0] != unrolled_loss(LINEAR, UNROLLED, seeds=[0, 3])  # nothing traced is kept


def test_a_training_that_diverges_has_no_gradient(unrolled: Any) -> None:
    del unrolled
    with pytest.raises(FloatingPointError, match=r"unroll_grad: the trainings with the seeds \[0, 3\] diverged"):
        unroll_grad(LINEAR, {**SETTING, "rate": WARM.replace(peak_value=1e30)}, UNROLLED, seeds=[0, 3])


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"task": WARM}, TypeError, "task must be a Task"),
        ({"steps": 0}, ValueError, "steps=0; steps must be an integer, 1 or more"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every=0; checkpoint_every must be an integer, 1 or more"),
        ({"chunk": 0}, ValueError, "chunk=0; chunk must be an integer, 1 or more"),
        ({"seeds": [0, 0]}, ValueError, "a list of different integers"),
        ({"key": 0.5}, TypeError, "key=0.5"),
        ({"schedule": {**SETTING, "rate": "cosine"}}, TypeError, "schedule='cosine' is not a number"),
        ({"schedule": js.stack(WARM, WARM)}, ValueError, r"stacked; write jax.vmap\(unrolled_loss\(task, steps\)\)"),
        ({"schedule": {}}, ValueError, "holds no number"),
        ({"schedule": {"rate": 1, "momentum": 1}}, ValueError, "has no float; .* write 1.0 for 1, and 100.5 for"),
    ],
)
def test_unroll_grad_refuses(unrolled: Any, arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    del unrolled  # what is compiled is there
    given = {"task": LINEAR, "schedule": SETTING, "steps": UNROLLED, "seeds": [0, 3], **arguments}
    with pytest.raises(error, match=f"unroll_grad: .*{says}"):
        unroll_grad(**given)


def test_batches_from_python_code_are_refused() -> None:
    x, y = linear_data()
    task = dataclasses.replace(LINEAR, train=lambda: iter([(x[:4], y[:4])]), batch_size=None)
    with pytest.raises(ValueError, match=r"unrolled_loss: train=.* comes from Python code"):
        unrolled_loss(task, 4)


# --- trials: real networks -------------------------------------------------------------------------------------------


def network(optimizer: Any, examples: int = 96, hidden: int = 8) -> js.Task:
    """Three classes of points, and a network without a kink, for which differences have a limit."""
    random = np.random.default_rng(1)
    x = random.normal(size=(examples + 40, 6))
    y = np.argmax(x @ random.normal(size=(6, 3)) + 0.3 * random.normal(size=(len(x), 3)), axis=1)

    def init(key: Any) -> Any:
        first, second = jax.random.split(key)
        return {
            "w1": jax.random.normal(first, (6, hidden)) / 2,
            "b1": jnp.zeros(hidden),
            "w2": jax.random.normal(second, (hidden, 3)) / 2,
            "b2": jnp.zeros(3),
        }

    def loss(params: Any, batch: Any, key: Any) -> Any:
        x, y = batch
        if key is not None:  # noise on the input, so that the key of each step counts too
            x = x + 0.05 * jax.random.normal(key, x.shape)
        logits = jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {}

    train, valid = (x[:examples], y[:examples]), (x[examples:], y[examples:])
    return js.Task(init, loss, train, valid, batch_size=16, optimizer=optimizer)


OPTIMIZERS: dict[str, Any] = {
    "momentum": (lambda s: optax.sgd(s, momentum=0.9), 0.1),
    "adam": (lambda s: optax.adam(s, eps_root=1e-8), 0.03),
}


@pytest.fixture
def wide() -> Iterator[None]:
    with x64():
        yield


@pytest.mark.trial
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_gradient_of_a_network_against_central_differences(wide: None, name: str) -> None:
    del wide
    optimizer, peak = OPTIMIZERS[name]
    task, steps = network(optimizer), 50
    names = ("peak_value", "warmup_steps", "init_value", "end_value", "total_steps")
    values = (peak, 7.3, peak / 20, peak / 10, 51.7)
    schedule = js.WarmupCosine(**dict(zip(names, values, strict=True)))
    got = unroll_grad(task, schedule, steps, seeds=2)
    objective = unrolled_loss(task, steps, seeds=2)
    assert objective(schedule) == pytest.approx(float(got.loss), rel=1e-12)
    for name, value in zip(names, values, strict=True):
        up, down = (objective(schedule.replace(**{name: value * (1 + sign * 1e-5)})) for sign in (1, -1))
        difference = float(up - down) / (2e-5 * value)
        assert abs(difference) > 1e-6
        assert float(getattr(got.gradient, name)) == pytest.approx(difference, rel=1e-5), name


@pytest.mark.trial
def test_the_training_is_that_of_the_sweep() -> None:
    """With a loss that draws from the key of each step, and in chunks and segments that do not come out even."""

    def loss(params: Any, batch: Any, key: Any) -> Any:
        x, y = batch
        x = x if key is None else x * jax.random.bernoulli(key, 0.8, x.shape)
        return jnp.mean(jnp.tanh(x @ params - y) ** 2), {"size": jnp.max(jnp.abs(params))}

    task = dataclasses.replace(LINEAR, loss=loss, optimizer=lambda s: optax.adam(s, eps_root=1e-8))
    schedule, seeds = js.WarmupCosine(0.03, 5, 53), [4, 1, 2]
    swept = js.sweep(task, [schedule], steps=53, seeds=seeds, key=9, chunk=3).final["valid_loss"][0]
    got = unroll_grad(task, schedule, 53, seeds=seeds, key=9, chunk=2, checkpoint_every=10)
    np.testing.assert_allclose(got.losses, swept, rtol=1e-5)
    assert float(got.loss) == pytest.approx(swept.mean(), rel=1e-5)


@pytest.mark.trial
def test_segments_chunks_and_transformations_change_nothing(unrolled: Any) -> None:
    options: dict[str, Any]
    for options in ({"chunk": 1, "checkpoint_every": 1_000}, {"key": jax.random.key(0)}):
        got = unroll_grad(LINEAR, SETTING, UNROLLED, seeds=[0, 3], **options)
        np.testing.assert_allclose(got.losses, unrolled.losses, rtol=1e-6)
        np.testing.assert_allclose(got.gradients["rate"].peak_value, unrolled.gradients["rate"].peak_value, rtol=1e-5)
    objective = unrolled_loss(LINEAR, UNROLLED, seeds=[0, 3])

    def at(peak: Any) -> Any:
        return objective({**SETTING, "rate": js.WarmupCosine(peak, 2.5, 7, init_value=0.01, end_value=0.02)})

    losses, slopes = jax.jit(jax.vmap(jax.value_and_grad(at)))(jnp.array([0.05, 0.1]))
    assert losses[1] == pytest.approx(float(unrolled.loss), rel=1e-6)
    assert slopes[1] == pytest.approx(float(unrolled.gradient["rate"].peak_value), rel=1e-5)
    assert jax.jvp(at, (0.1,), (1.0,))[1] == pytest.approx(float(slopes[1]), rel=1e-5)


@pytest.mark.trial
def test_adam_without_an_eps_in_its_root_is_told_of() -> None:
    x, y = linear_data()
    x[:, 1] = 0  # as a pixel that is black in all images: its weight never moves
    task = dataclasses.replace(LINEAR, train=(x, y), optimizer=optax.adam)
    with pytest.raises(
        FloatingPointError, match=r"its gradient in peak_value, .*optax.adam\(schedule, eps_root=1e-8\)"
    ):
        unroll_grad(task, WARM, UNROLLED)
    task = dataclasses.replace(task, optimizer=lambda s: optax.adam(s, eps_root=1e-8))
    assert np.isfinite(unroll_grad(task, WARM, UNROLLED).gradient.peak_value)


@pytest.mark.trial
def test_an_optimizer_that_listens_to_the_validation_is_refused() -> None:
    listener = js.optim.named("valid_loss", js.reduce_on_plateau())
    task = dataclasses.replace(LINEAR, optimizer=lambda s: optax.chain(optax.sgd(s), listener))
    with pytest.raises(ValueError, match="listens to the validation; leave it out"):
        unroll_grad(task, js.Constant(0.1), 4)


def temporary_bytes(steps: int, every: int | None) -> int:
    """What the compiled gradient takes beside its arguments and results, for 3,072 parameters and their momentum."""

    def loss(params: Any, batch: Any, key: Any) -> Any:
        del key
        x, y = batch
        return jnp.mean((jnp.tanh(x @ params) - y[:, None]) ** 2), {}

    task = dataclasses.replace(
        LINEAR, init=lambda key: jnp.zeros((3, 1024)), loss=loss, optimizer=lambda s: optax.sgd(s, momentum=0.9)
    )
    objective = unrolled_loss(task, steps, checkpoint_every=every)
    gradient = jax.jit(jax.grad(lambda rate: objective(js.Constant(rate))))
    analysis: Any = gradient.lower(0.1).compile().memory_analysis()
    return analysis.temp_size_in_bytes


@pytest.mark.trial
def test_memory_grows_as_the_root_of_the_steps() -> None:
    """16 x the steps: 4 x the memory, and not 16 x, as without segments."""
    few, many = temporary_bytes(64, None), temporary_bytes(1024, None)
    whole_few, whole_many = temporary_bytes(64, 64), temporary_bytes(1024, 1024)
    print(f"segments: {few} -> {many} bytes; one segment: {whole_few} -> {whole_many} bytes")
    assert many < 5 * few
    assert whole_many > 10 * whole_few
    assert many < whole_many / 8
