"""What `test_compat_live.py` does not ask of Keras and of TF1: configs there and back, the directions of metrics, the
restarts that are missed, and the statistics of the noise."""

from __future__ import annotations

import inspect
import json
from typing import Any

import jax
import numpy as np
import pytest

from jaxsched.compat import keras as ours
from jaxsched.compat import tf1
from tests.test_compat_keras import MISSED, SETTINGS
from tests.test_compat_tf1 import SIGNATURES

from . import cases_keras, cases_tf1

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_configs_there_and_back(name: str) -> None:
    theirs = keras.optimizers.schedules.deserialize(json.loads(json.dumps(ours.to_config(SETTINGS[name]))))
    assert type(theirs).__name__ == name
    assert np.allclose([float(theirs(t)) for t in range(30)], SETTINGS[name].table(30), rtol=1e-5)
    written = json.loads(json.dumps(keras.optimizers.schedules.serialize(theirs)))
    assert written == ours.to_config(SETTINGS[name])
    for again in (written, theirs):
        assert repr(ours.from_config(again)) == repr(SETTINGS[name])


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_arguments_are_those_of_keras(name: str) -> None:
    theirs = inspect.signature(getattr(keras.optimizers.schedules, name))
    mine = inspect.signature(ours.SCHEDULES[name])
    own = [(p.name, p.default) for p in mine.parameters.values() if p.name != "peer_exact"]
    assert own == [(p.name, p.default) for p in theirs.parameters.values()]


def test_the_arguments_of_the_callbacks_are_those_of_keras() -> None:
    for name in ("ReduceLROnPlateau", "LearningRateScheduler"):
        theirs = inspect.signature(getattr(keras.callbacks, name)).parameters.values()
        mine = list(inspect.signature(getattr(ours, name)).parameters.values())[1:]
        known = [(p.name, p.default) for p in theirs if p.kind is not p.VAR_KEYWORD]
        assert [(p.name, p.default) for p in mine][: len(known)] == known


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_arguments_are_those_of_tf1(name: str) -> None:
    theirs = inspect.signature(getattr(cases_tf1.tensorflow().compat.v1.train, name))
    assert str(theirs) == SIGNATURES[name]


def test_the_direction_of_every_metric() -> None:
    seen = 0
    for cls in vars(keras.metrics).values():
        if not inspect.isclass(cls):
            continue
        for arguments in ((), (0.5,), (3,), (3, [0])):
            try:
                metric = cls(*arguments)
            except Exception:  # it wants others
                continue
            break
        else:
            continue
        direction = getattr(metric, "_direction", None)
        for monitor in (metric.name, f"val_{metric.name}", f"{metric.name}_3"):
            if direction is None:
                with pytest.raises(ValueError, match="whose direction is known"):
                    ours.ReduceLROnPlateau(0.1, monitor=monitor)
            else:
                mode = ours.ReduceLROnPlateau(0.1, monitor=monitor).init(None).settings.mode
                assert int(mode) == (direction == "up"), monitor
                seen += 1
    assert seen > 90


@pytest.mark.parametrize(("first", "mult", "step", "bits"), MISSED)
def test_keras_still_misses_these_restarts(first: int, mult: float, step: int, bits: int) -> None:
    arguments = {"initial_learning_rate": 1.0, "first_decay_steps": first, "t_mul": mult}
    if bits == 64:
        with cases_keras.in_float64():
            value = float(keras.optimizers.schedules.CosineDecayRestarts(**arguments)(step))
    else:
        value = float(keras.optimizers.schedules.CosineDecayRestarts(**arguments)(step))
    assert value < 1e-6


def test_what_else_keras_gets_wrong() -> None:
    schedules = keras.optimizers.schedules
    assert float(schedules.ExponentialDecay(1, 10, 0.5)(5)) == 0
    assert float(schedules.PiecewiseConstantDecay([10, 5], [1.0, 0.5, 0.1])(7)) == pytest.approx(1.1)
    assert float(schedules.CosineDecay(0.1, 10, warmup_steps=5)(0)) == pytest.approx(0.1)
    with pytest.raises(IndexError):
        schedules.PiecewiseConstantDecay([], [1.0])(3)
    warm = schedules.CosineDecay(0, 1_000, warmup_target=0.1, warmup_steps=1_000)
    assert [float(warm(t)) for t in (500, 1_000)] == [0, 0]


def test_tf1_refuses_its_float64() -> None:
    tf = cases_tf1.tensorflow()
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.compat.v1.train.cosine_decay(tf.constant(0.1, tf.float64), 3, 10)()


@pytest.mark.parametrize(("variance", "decay"), [(1.0, 0.55), (0.25, 0.0), (4.0, 2.0)])
def test_the_noise_has_the_statistics_of_tf1(variance: float, decay: float) -> None:
    """Mean, variance and fourth moment at each step, of 20,000 draws on either side."""
    draws, steps = 20_000, [0, 1, 25, 75, 100, 150]
    arguments = {"initial_variance": variance, "variance_decay": decay, "num_periods": 1.0}
    tf = cases_tf1.tensorflow()
    tf.random.set_seed(0)
    rows = np.repeat(np.array(steps)[:, None], draws, axis=1)
    theirs = cases_tf1.run("noisy_linear_cosine_decay", {"learning_rate": 0.5, "decay_steps": 100, **arguments}, rows)

    def draw(seed: Any) -> Any:
        return tf1.noisy_linear_cosine_decay(0.5, np.array(steps), 100, **arguments, seed=seed)

    mine = np.asarray(jax.jit(jax.vmap(draw))(np.arange(draws)), np.float64).T
    std = theirs.std(1)
    assert np.all(np.abs(mine.mean(1) - theirs.mean(1)) < 5 * std * np.sqrt(2 / draws))
    assert np.all(np.abs(mine.var(1) / theirs.var(1) - 1) < 5 * np.sqrt(4 / draws))
    fourth = [((x - x.mean(1, keepdims=True)) ** 4).mean(1) / x.var(1) ** 2 for x in (mine, theirs)]
    assert np.all(np.abs(fourth[0] - fourth[1]) < 5 * np.sqrt(2 * 96 / draws))
