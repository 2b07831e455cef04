"""What `test_compat.py` does not ask of `compat.tf1`: the arguments as TF1 takes them, and the noise."""

from __future__ import annotations

import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat import tf1

DECAYS: dict[str, tuple[Any, ...]] = {
    "exponential_decay": (10, 0.5, True),
    "natural_exp_decay": (10, 0.5, True),
    "inverse_time_decay": (10, 0.5, True),
    "polynomial_decay": (10, 0.001, 2.0, True),
    "cosine_decay": (10, 0.1),
    "cosine_decay_restarts": (10, 1.5, 0.5, 0.1),
    "linear_cosine_decay": (10, 1.5, 0.1, 0.01),
    "noisy_linear_cosine_decay": (10, 0.1, 0.5, 1.5, 0.1, 0.01),
}
by_name = pytest.mark.parametrize("name", sorted(DECAYS))

# Recorded from tensorflow 2.21.0: inspect.signature of each function.
SIGNATURES = {
    "exponential_decay": "(learning_rate, global_step, decay_steps, decay_rate, staircase=False, name=None)",
    "natural_exp_decay": "(learning_rate, global_step, decay_steps, decay_rate, staircase=False, name=None)",
    "inverse_time_decay": "(learning_rate, global_step, decay_steps, decay_rate, staircase=False, name=None)",
    "piecewise_constant": "(x, boundaries, values, name=None)",
    "piecewise_constant_decay": "(x, boundaries, values, name=None)",
    "polynomial_decay": (
        "(learning_rate, global_step, decay_steps, end_learning_rate=0.0001, power=1.0, cycle=False, name=None)"
    ),
    "cosine_decay": "(learning_rate, global_step, decay_steps, alpha=0.0, name=None)",
    "cosine_decay_restarts": (
        "(learning_rate, global_step, first_decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0, name=None)"
    ),
    "linear_cosine_decay": (
        "(learning_rate, global_step, decay_steps, num_periods=0.5, alpha=0.0, beta=0.001, name=None)"
    ),
    "noisy_linear_cosine_decay": (
        "(learning_rate, global_step, decay_steps, initial_variance=1.0, variance_decay=0.55, num_periods=0.5, "
        "alpha=0.0, beta=0.001, name=None)"
    ),
}


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_arguments_are_those_of_tf1(name: str) -> None:
    signature = inspect.signature(getattr(tf1, name))
    own = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert str(inspect.Signature(own)) == SIGNATURES[name]


@by_name
def test_a_step_makes_a_value_of_it(name: str) -> None:
    """In the order of TF1, by name, for many steps and for a traced one."""
    decay, arguments = getattr(tf1, name), DECAYS[name]
    places = list(inspect.signature(decay).parameters)[2:]
    s = decay(0.1, **dict(zip(places, arguments, strict=False)))
    assert isinstance(s, js.Schedule)
    assert float(decay(0.1, 7, *arguments)) == float(s(7))
    assert float(decay(learning_rate=0.1, global_step=7, **dict(zip(places, arguments, strict=False)))) == float(s(7))
    assert decay(0.1, np.arange(30), *arguments).tolist() == s.table(30).tolist()
    traced = jax.jit(lambda rate, step: decay(rate, step, *arguments))(0.1, 7)
    assert float(traced) == pytest.approx(float(s(7)), rel=1e-6)
    assert repr(decay(0.1, None, *arguments, name="rate")) == repr(s)


def test_the_step_of_a_table_comes_first() -> None:
    assert float(tf1.piecewise_constant(5, [5, 10], [1.0, 0.5, 0.25])) == 1.0
    assert tf1.piecewise_constant_decay([6, 11], [5, 10], [1.0, 0.5, 0.25]).tolist() == [0.5, 0.25]
    assert tf1.piecewise_constant(boundaries=[5], values=[1.0, 0.5]).table(7).tolist() == [1.0] * 6 + [0.5]


def test_bad_arguments() -> None:
    table = {"boundaries": [10, 5], "values": [1.0, 0.5, 0.1]}
    for name, args, kwargs, error, text in [
        ("exponential_decay", (0.1,), {"decay_steps": 10}, TypeError, "missing a required argument: 'decay_rate'"),
        ("exponential_decay", (0.1, 10, 0.5), {}, TypeError, "and no global_step for a schedule"),
        ("exponential_decay", (0.1, 1, 10, 0.5, 1), {}, TypeError, "staircase=1; staircase must be True or False"),
        ("exponential_decay", (0.1, 1), {"decay_step": 1}, TypeError, "no argument 'decay_step': did you mean 'decay"),
        ("exponential_decay", (0.1, 1, 0, 0.5), {}, ValueError, "decay_steps=0; decay_steps must be a number of steps"),
        ("natural_exp_decay", ("a", 1, 10, 0.5), {}, TypeError, "learning_rate='a' is text; learning_rate must be"),
        ("cosine_decay", (0.1, 1, 10, 0.0, 0.5), {}, TypeError, "name=0.5; name must be a text"),
        ("cosine_decay", (0.1, 1, 10), {"global_step": 3}, TypeError, "multiple values for argument 'global_step'"),
        ("cosine_decay_restarts", (0.1, 1, 10, 0.5), {}, ValueError, "t_mul=0.5; t_mul must be a number, 1 or more"),
        ("noisy_linear_cosine_decay", (0.1, 1, 10, -1.0), {}, ValueError, "initial_variance=-1.0; initial_variance"),
        ("piecewise_constant", (), table, ValueError, "boundaries=[10, 5]; boundaries must be a list of steps"),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            getattr(tf1, name)(*args, **kwargs)


# --- the noise -------------------------------------------------------------------------------------------------------

SEEDS = 20_000


@pytest.mark.parametrize(("variance", "decay"), [(1.0, 0.55), (0.25, 0.0), (4.0, 2.0)])
def test_the_noise_is_normal_and_fades(variance: float, decay: float) -> None:
    """At steps where the wave is known: with one period it is 1 at both ends, and 1/2 at a quarter and behind it."""
    steps = np.array([0, 1, 25, 75, 100, 150])
    wave = np.array([1.0, (1 + np.cos(0.02 * np.pi)) / 2, 0.5, 0.5, 1.0, 1.0])
    arguments = {"decay_steps": 100, "initial_variance": variance, "variance_decay": decay, "num_periods": 1.0}

    def draw(seed: Any) -> Any:
        return tf1.noisy_linear_cosine_decay(0.5, steps, **arguments, seed=seed)

    still = tf1.linear_cosine_decay(0.5, steps, 100, num_periods=1.0)
    rates = np.asarray(jax.jit(jax.vmap(draw))(jnp.arange(SEEDS)), np.float64)
    noise = (rates - np.asarray(still)) / (0.5 * wave)
    want = variance / (1.0 + np.minimum(steps, 100)) ** decay
    assert np.all(np.abs(noise.mean(0)) < 5 * np.sqrt(want / SEEDS))
    assert np.all(np.abs(noise.var(0) / want - 1) < 5 * np.sqrt(2 / SEEDS))
    z = noise / np.sqrt(want)
    assert np.all(np.abs((z**4).mean(0) - 3) < 5 * np.sqrt(96 / SEEDS))  # as a normal one's
    assert np.all(np.abs(np.corrcoef(z.T) - np.eye(len(steps))) < 5 / np.sqrt(SEEDS))  # and no step's is another's


def test_the_noise_is_a_function_of_the_seed_and_the_step() -> None:
    def rates(seed: int) -> Any:
        return tf1.noisy_linear_cosine_decay(0.1, decay_steps=100, seed=seed)

    alone = [float(rates(1)(t)) for t in range(50)]  # which may be compiled to round otherwise
    np.testing.assert_allclose(rates(1).table(50), alone, rtol=1e-6)
    assert np.all(np.asarray(rates(1).table(50) != rates(2).table(50)))


def test_without_variance_there_is_no_noise() -> None:
    arguments = {"decay_steps": 50, "num_periods": 1.5, "alpha": 0.1, "beta": 0.01}
    still = tf1.linear_cosine_decay(0.1, **arguments).table(80)
    silent = tf1.noisy_linear_cosine_decay(0.1, initial_variance=0.0, **arguments)
    np.testing.assert_array_equal(silent.table(80), still)
    quiet = tf1.noisy_linear_cosine_decay(0.1, initial_variance=1e-16, **arguments).table(80)
    np.testing.assert_allclose(quiet, still, rtol=1e-6, atol=1e-8)
    slope = jax.grad(lambda v: tf1.noisy_linear_cosine_decay(0.1, 3, initial_variance=v, **arguments))
    assert float(slope(0.0)) == 0.0
    assert np.isfinite(slope(0.5))


def test_a_wave_is_exact_where_it_is_known() -> None:
    for periods in (1.0, 1.5, 7.0, 1000.5):
        steps = 2_000_002
        wave = tf1.CosineWave(steps, num_periods=periods)
        assert float(wave(0)) == 1.0
        assert float(wave(steps)) == float(wave(2**31 - 1)) == float(periods == int(periods))
    assert tf1.CosineWave(8, num_periods=2.0)([0, 1, 2, 3, 4, 6]).tolist() == pytest.approx([1, 0.5, 0, 0.5, 1, 0])
    assert tf1.CosineWave(8, num_periods=0.0)([0, 5]).tolist() == [1.0, 1.0]
