"""What `test_compat.py` does not ask of `compat.keras`: configs, bad input, restarts, and the two callbacks."""

from __future__ import annotations

import contextlib
import json
import re
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.compat import keras

from .cases import x64
from .peers import harness
from .plateaus import ROUNDING, TINY

SETTINGS: dict[str, keras.LearningRateSchedule] = {
    "ExponentialDecay": keras.ExponentialDecay(0.1, 10, 0.5, staircase=True, name="mine"),
    "PiecewiseConstantDecay": keras.PiecewiseConstantDecay([5, 10], [1.0, 0.5, 0.1]),
    "PolynomialDecay": keras.PolynomialDecay(0.1, 10, power=2.0, cycle=True),
    "InverseTimeDecay": keras.InverseTimeDecay(0.1, 10, 0.5),
    "CosineDecay": keras.CosineDecay(0.0, 10, alpha=0.1, warmup_target=0.5, warmup_steps=3),
    "CosineDecayRestarts": keras.CosineDecayRestarts(0.1, 10, t_mul=1.5, m_mul=0.5),
}
by_name = pytest.mark.parametrize("name", sorted(keras.SCHEDULES))


# --- configs ---------------------------------------------------------------------------------------------------------


@by_name
def test_a_config_makes_the_same_schedule(name: str) -> None:
    """The form of `serialize`, the form of `get_config` and the class's own way, through text each time."""
    s = SETTINGS[name]
    config = json.loads(json.dumps(keras.to_config(s)))
    assert config["class_name"] == name
    assert set(config) == {"module", "class_name", "config", "registered_name"}
    bare = json.loads(json.dumps(s.get_config()))
    for again in (keras.from_config(config), type(s).from_config(bare), keras.from_config(s)):
        assert repr(again) == repr(s)
    assert keras.serialize is keras.to_config
    assert keras.deserialize is keras.from_config


@by_name
def test_a_bare_config_says_its_class_by_its_arguments(name: str) -> None:
    s = SETTINGS[name]
    if name == "ExponentialDecay":  # named "mine": InverseTimeDecay has the same arguments
        with pytest.raises(ValueError, match=re.escape("fits ExponentialDecay and InverseTimeDecay; write keras.Exp")):
            keras.from_config(s.get_config())
        s = s.replace(name="ExponentialDecay")
    assert repr(keras.from_config(s.get_config())) == repr(s)


def test_configs_as_keras_writes_them() -> None:
    """Recorded from keras 3.15.1: numbers of NumPy and of JAX are dicts of their own."""
    tensor = {"class_name": "__tensor__", "config": {"value": 0.125, "dtype": "float32"}}
    config = {"initial_learning_rate": tensor, "decay_steps": 10, "alpha": 0.0, "name": "CosineDecay"}
    written = {"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "registered_name": None}
    s = keras.from_config({**written, "config": config | {"warmup_target": None, "warmup_steps": 0}})
    assert repr(s) == "compat.keras.CosineDecay(initial_learning_rate=0.125, decay_steps=10)"
    table = {"class_name": "__numpy__", "config": {"value": [5, 10], "dtype": "int64"}}
    s = keras.from_config({"boundaries": table, "values": [1.0, 0.5, 0.1], "name": "PiecewiseConstant"})
    assert s.table(12).tolist() == keras.PiecewiseConstantDecay([5, 10], [1.0, 0.5, 0.1]).table(12).tolist()
    live = SimpleNamespace(get_config=lambda: {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5})
    with pytest.raises(ValueError, match="class_name='SimpleNamespace'"):
        keras.from_config(live)


def test_numbers_of_any_kind_are_written_short() -> None:
    s = keras.PiecewiseConstantDecay(np.array([5, 10]), jnp.array([1.0, 0.5, 0.1]))
    assert s.get_config() == {"boundaries": [5, 10], "values": [1.0, 0.5, 0.1], "name": "PiecewiseConstant"}
    assert keras.CosineDecay(jnp.float32(0.1), np.int64(10)).get_config()["initial_learning_rate"] == 0.1


def test_what_is_no_config_is_refused() -> None:
    for bad, error, text in [
        ({"class_name": "CosineDecai", "config": {}}, ValueError, "did you mean 'CosineDecay'?"),
        ({"class_name": "CosineDecay", "config": {"decay_step": 3}}, TypeError, "did you mean 'decay_steps'?"),
        ({"learning_rate": 0.1}, ValueError, "['learning_rate'] fits none of Keras's schedules"),
        ({"initial_learning_rate": 0.1, "decay_steps": 3}, ValueError, "fits PolynomialDecay and CosineDecay"),
        ("CosineDecay", TypeError, "config='CosineDecay'; config must be a dict"),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            keras.from_config(bad)
    with pytest.raises(TypeError, match="none of Keras's schedules: ExponentialDecay"):
        keras.to_config(js.Constant(0.1))  # type: ignore[arg-type]
    stacked = js.stack(SETTINGS["CosineDecay"], SETTINGS["CosineDecay"])
    with pytest.raises(TypeError, match=re.escape("holds several settings; write unstack(s)[i].get_config()")):
        stacked.get_config()
    with pytest.raises(TypeError, match="initial_learning_rate is traced by JAX"):
        jax.jit(lambda x: keras.InverseTimeDecay(x, 10, 0.5).get_config())(0.1)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_what_keras_takes_in_silence_is_refused() -> None:
    for make, error, text in [
        (lambda: keras.CosineDecay(0.1, 10, warmup_steps=5), ValueError, "warmup_steps=5; Keras ignores it without"),
        (lambda: keras.PiecewiseConstantDecay([10, 5], [1.0, 0.5, 0.1]), ValueError, "each larger than the one before"),
        (lambda: keras.PiecewiseConstantDecay([5, 5], [1.0, 0.5, 0.1]), ValueError, "each larger than the one before"),
        (lambda: keras.PiecewiseConstantDecay([5], [1.0]), ValueError, "n boundaries need n + 1 values"),
        (lambda: keras.CosineDecay(0.1, 0), ValueError, "decay_steps=0; decay_steps must be a number of steps above 0"),
        (lambda: keras.CosineDecay(0.1, 10, 0.0, 0.5), TypeError, "name=0.5; name must be a text"),
        (lambda: keras.CosineDecayRestarts(0.1, 10, t_mul=0.5), ValueError, "t_mul=0.5; t_mul must be a number, 1 or"),
        (lambda: keras.ExponentialDecay(0.1, 10), TypeError, "'decay_rate'"),
        (lambda: keras.ExponentialDecay(0.1, 10, decay_rates=0.5), TypeError, "did you mean 'decay_rate'?"),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            make()


def test_a_warmup_of_no_steps_is_none() -> None:
    """Written out, stacked or traced, 0 warmup steps are what they are by default."""
    s = js.stack(*[keras.CosineDecay(0.1, n, warmup_steps=0) for n in (5, 10)])
    assert jax.vmap(lambda s: s(5))(s).tolist() == pytest.approx([0.0, 0.05])
    traced = jax.jit(lambda n: keras.CosineDecay(0.1, 4, warmup_target=0.5, warmup_steps=n)(0))
    assert float(traced(0)) == 0.5
    with pytest.raises(ValueError, match="without a warmup Keras ignores the initial_learning_rate"):
        keras.CosineDecay(0.1, 4, warmup_target=0.5)


def test_an_integer_rate_is_a_rate() -> None:
    """In Keras all numbers become integers beside it: rates of 0 at steps 1 and 5, and at every step of its own example
    of a warmup, which is written `initial_learning_rate = 0`."""
    assert keras.ExponentialDecay(1, 10, 0.5)([1, 5]).tolist() == pytest.approx([2**-0.1, 2**-0.5])
    warm = keras.CosineDecay(0, 1_000, warmup_target=0.1, warmup_steps=1_000)
    assert warm([500, 1_000]).tolist() == pytest.approx([0.05, 0.1])


def test_boundaries_of_any_kind() -> None:
    values = [1.0, 0.5, 0.1]
    whole, real = (keras.PiecewiseConstantDecay(b, values) for b in ([0, 10], [0.0, 10.0]))
    for s in (whole, real):
        assert s([0, 1, 10, 11]).tolist() == pytest.approx([1.0, 0.5, 0.5, 0.1])
    assert keras.PiecewiseConstantDecay([10.25, 10.75], values)([10, 11]).tolist() == pytest.approx([1.0, 0.1])
    assert float(keras.PiecewiseConstantDecay([], [0.5])(3)) == 0.5  # an IndexError in Keras


# --- restarts --------------------------------------------------------------------------------------------------------

# (first_decay_steps, t_mul, step): restarts at which keras 3.15.1 on JAX gives 0, in the float type that is said.
MISSED = [(1, 3.0, 121, 64), (3, 3.0, 363, 64), (1, 10.0, 111, 64), (100, 1.1, 210, 32), (1, 7.0, 57, 32)]


@pytest.mark.parametrize(("first", "mult", "step", "bits"), MISSED)
def test_the_restarts_that_keras_misses(first: int, mult: float, step: int, bits: int) -> None:
    del bits  # ours are right in both types
    for wide in (False, True):
        with x64() if wide else contextlib.nullcontext():
            s = keras.CosineDecayRestarts(1.0, first, t_mul=mult)
            assert float(s(step)) == 1.0
            assert float(s(step - 1)) < 0.01 if first > 1 else float(s(step - 1)) < 0.1


@pytest.mark.parametrize("mult", [2, 2.0, 3, 3.0, 7.0, 1, 1.0])
def test_every_whole_restart_is_a_peak(mult: float) -> None:
    """Up to the largest step, at 48 bits or at 32."""
    start, length, starts = 0, 1_000, []
    while start < 2**31 and len(starts) < 1_000:
        starts.append(start)
        start, length = start + length, length * int(mult)
    s = keras.CosineDecayRestarts(0.3, 1_000, t_mul=mult, alpha=0.25)
    steps = np.array(starts, np.int32)
    np.testing.assert_array_equal(s(steps), np.float32(0.3))
    np.testing.assert_allclose(s(steps[1:] - 1), 0.075, rtol=2e-5)


def exact(first: int, mult: float, step: int) -> float:
    start, length = Fraction(0), Fraction(first)
    while start + length <= step:
        start, length = start + length, length * Fraction(mult)
    return float((1 + np.cos(np.pi * float((step - start) / length))) / 2)


@pytest.mark.parametrize("mult", [1.0625, 1.1, 1.5, 2.7])
def test_long_cycles_of_any_factor_in_float32(mult: float) -> None:
    """Beside exact fractions. The position in a cycle is the difference of two large numbers."""
    mult = float(np.float32(mult))
    steps = np.random.default_rng(0).integers(0, 2**31 - 1, 100).astype(np.int32)
    ours = np.asarray(keras.CosineDecayRestarts(1.0, 100_000, t_mul=mult)(steps), np.float64)
    theirs = np.array([exact(100_000, mult, int(t)) for t in steps])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_every_cycle_starts_at_its_height() -> None:
    """From `alpha` of the rate to the same, whatever the height of the peak between them."""
    for m_mul in (0.5, 1.5):
        s = keras.CosineDecayRestarts(0.1, 10, t_mul=1.0, m_mul=m_mul, alpha=0.25)
        peaks = 0.1 * (0.25 + 0.75 * m_mul ** np.arange(5))
        np.testing.assert_allclose(s(np.arange(5) * 10), peaks, rtol=1e-6)


# --- ReduceLROnPlateau -----------------------------------------------------------------------------------------------


def test_plateau_is_what_keras_recorded() -> None:
    """Its own arguments as it was given them, with "auto" too."""
    table = np.load(harness.HERE / "plateau.npz")
    arguments = json.loads(str(table["keras_arguments"]))
    numbers = [name for name in arguments[0] if name not in ("monitor", "mode")]
    names = sorted({(a["monitor"], a["mode"]) for a in arguments})
    assert len(names) == 6
    for monitor, mode in names:
        rows = [i for i, a in enumerate(arguments) if (a["monitor"], a["mode"]) == (monitor, mode)]

        def rates(n: dict[str, Any], sequence: Any, monitor: str = monitor, mode: Any = mode) -> Any:
            state = keras.ReduceLROnPlateau(**n, monitor=monitor, mode=mode).init(None)

            def one(state: Any, metric: Any) -> Any:
                state = js.observe(state, value=metric)
                return state, state.learning_rate

            return jax.lax.scan(one, state, sequence)[1]

        stacked = {name: jnp.array([arguments[i][name] for i in rows]) for name in numbers}
        ours = jax.jit(jax.vmap(rates))(stacked, table["keras_metrics"][rows])
        np.testing.assert_allclose(ours, table["keras_rates"][rows], rtol=ROUNDING, atol=TINY)


def test_the_direction_of_a_metric() -> None:
    def mode(monitor: str) -> int:
        return int(keras.ReduceLROnPlateau(0.1, monitor=monitor).init(None).settings.mode)

    for monitor in ("loss", "val_loss", "mse", "val_mae", "RootMeanSquaredError", "val_mean_squared_error_2"):
        assert mode(monitor) == 0, monitor
    for monitor in ("acc", "val_accuracy", "auc", "AUC", "val_auc_1", "f1_score", "top_k_categorical_accuracy"):
        assert mode(monitor) == 1, monitor


def test_bad_plateaus() -> None:
    for arguments, error, text in [
        ({"monitor": "val_reward"}, ValueError, "monitor='val_reward' is no metric of Keras whose direction is known"),
        ({"monitor": 3}, TypeError, "monitor=3; monitor must be the name of a metric"),
        ({"mode": "mim"}, ValueError, "mode='mim'; did you mean 'min'?"),
        ({"factor": 1.0}, ValueError, "factor=1.0"),
        ({"patience": -1}, ValueError, "patience=-1"),
        ({"cooldown": 0.5}, ValueError, "cooldown=0.5"),
        ({"min_delta": "1"}, TypeError, "min_delta='1' is text"),
        ({"min_detla": 1e-3}, TypeError, "has no argument 'min_detla': did you mean 'min_delta'?"),
        ({"unknown": 1e-3}, TypeError, "has no argument 'unknown'"),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            keras.ReduceLROnPlateau(0.1, **arguments)
    assert keras.ReduceLROnPlateau(0.1, monitor="val_reward", mode="max", verbose=1).init(None).settings.mode == 1


def test_a_plateau_scales_a_whole_optimizer() -> None:
    optimizer = optax.chain(optax.sgd(0.1), keras.ReduceLROnPlateau(patience=1))
    state = optimizer.init(jnp.ones(2))
    for value in (1.0, jnp.nan, 1.0):  # NaN is bad, and not the best there is
        state = js.observe(state, value=value)
    updates, state = optimizer.update(jnp.ones(2), state)
    assert updates.tolist() == pytest.approx([-1e-3, -1e-3])
    assert float(state[1].best) == 1.0


# --- LearningRateScheduler -------------------------------------------------------------------------------------------


def test_a_rule_in_python() -> None:
    """What the documentation of Keras does: ten epochs at the rate, then exponentially down."""

    def rule(epoch: int, lr: float) -> float:
        return lr if epoch < 10 else lr * float(np.exp(-0.1))

    s = keras.LearningRateScheduler(0.01, rule, verbose=1, epochs=15)
    assert round(float(s(14)), 5) == 0.00607
    assert float(s(100)) == float(s(14))
    assert s.per_epoch(3)([0, 44]).tolist() == s([0, 14]).tolist()


def test_a_rule_is_carried_along() -> None:
    s = keras.LearningRateScheduler(0.5, lambda epoch, lr: lr * jnp.where(epoch % 2 == 1, 0.5, 1.0))
    assert s.table(5).tolist() == [0.5, 0.25, 0.25, 0.125, 0.125]
    slope = jax.grad(lambda lr: keras.LearningRateScheduler(lr, lambda e, x: x**2)(1))(0.5)
    assert float(slope) == pytest.approx(4 * 0.5**3)
    many = jax.vmap(lambda lr: keras.LearningRateScheduler(lr, lambda e, x: x * 0.5).table(3))(jnp.array([1.0, 2.0]))
    assert many.tolist() == [[0.5, 0.25, 0.125], [1.0, 0.5, 0.25]]
    traced = jax.jit(lambda lr: keras.LearningRateScheduler(lr, lambda e, x: x * 0.5, epochs=2)(5))(1.0)
    assert float(traced) == 0.25


def test_a_rule_of_the_epoch_alone() -> None:
    rules: list[tuple[Any, float]] = [
        (lambda epoch: 1.0 / (1 + epoch), 0.5),
        (js.Linear(1.0, 0.0, 4), 0.75),
        (optax.linear_schedule(1.0, 0.0, 4), 0.75),
    ]
    for rule, value in rules:
        assert float(keras.LearningRateScheduler(0.1, rule)(1)) == value


def test_bad_rules() -> None:
    for arguments, error, text in [
        ({"schedule": 0.1}, TypeError, "schedule=0.1; schedule must be a function of (epoch) or (epoch, lr)"),
        ({"schedule": lambda e: 0.1, "epochs": 0}, ValueError, "epochs=0; epochs must be an integer, 1 or more"),
        ({"schedule": lambda e: "0.1", "epochs": 2}, TypeError, "schedule(0)='0.1' is text"),
        ({"schedule": lambda e, lr: np.nan, "epochs": 2}, ValueError, "schedule(0)=nan is not finite"),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            keras.LearningRateScheduler(0.1, **arguments)


@pytest.mark.parametrize(("first", "mult"), [(2**26 + 15, 2.0), (125829135, 1.3117)])
def test_a_restart_is_met_where_the_schedule_is_a_constant_of_the_program(first: int, mult: float) -> None:
    s = keras.CosineDecayRestarts(1.0, first, t_mul=mult)
    assert float(jax.jit(lambda t: s(t))(first)) == float(s(first)) == 1.0


def test_the_peers_logarithm_is_no_part_of_a_config() -> None:
    s = keras.CosineDecayRestarts(1.0, 3, t_mul=3.0, peer_exact=True)
    assert float(s(363)) == 0.0
    assert "peer_exact" not in keras.to_config(s)["config"]
