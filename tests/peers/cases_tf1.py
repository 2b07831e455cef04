"""The decays of tf.compat.v1.train, live, in float64."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import tf1 as ours

from .cases_keras import ALPHA, LENGTH, MISSED, POWER, STAIRS, draw_pieces, draw_restarts, restarts
from .harness import Case, Difference, f32, rates

PEER = "tf.compat.v1.train"


def version() -> str:
    return tensorflow().__version__


@functools.cache
def tensorflow() -> Any:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """TF1 takes rates in float64, and then multiplies them by a pi in float32, which it refuses to do; and it draws
    its noise in float32."""
    tf = tensorflow()
    from tensorflow.python.keras.optimizer_v2 import learning_rate_schedule as module

    constant = SimpleNamespace(constant=functools.partial(tf.constant, dtype=tf.float64))
    noise = SimpleNamespace(random_normal=functools.partial(tf.random.normal, dtype=tf.float64))
    with mock.patch.multiple(module, constant_op=constant, random_ops=noise):
        yield


def run(name: str, arguments: dict[str, Any], steps: Any) -> np.ndarray:
    """The rate at each step of an array, or at a step."""
    tf = tensorflow()
    numbers = {k: tf.constant(v, tf.float64) if isinstance(v, float) else v for k, v in arguments.items()}
    with in_float64():
        decay = getattr(tf.compat.v1.train, name)(global_step=tf.constant(steps, tf.int64), **numbers)
        return decay().numpy()


def run_restarts(arguments: dict[str, Any], steps: int) -> np.ndarray:
    """As for Keras: one number at a time where the logarithm decides."""
    values = np.array(run("cosine_decay_restarts", arguments, np.arange(steps)))
    for at in restarts(arguments["first_decay_steps"], arguments["t_mul"], steps):
        if at.denominator == 1 and at < steps and arguments["t_mul"] != 1:
            values[int(at)] = run("cosine_decay_restarts", arguments, int(at))
    return values


@functools.cache
def pieces(whole: bool, count: int) -> Any:
    """One graph for all tables of a length: `piecewise_constant` takes one step at a time."""
    tf = tensorflow()
    kind = tf.int64 if whole else tf.float64
    row = functools.partial(tf.TensorSpec, dtype=kind)

    @tf.function(input_signature=[row([None]), row([count]), tf.TensorSpec([count + 1], tf.float64)])
    def graph(steps: Any, boundaries: Any, values: Any) -> Any:
        table = tf.unstack(boundaries), tf.unstack(values)
        decay = tf.compat.v1.train.piecewise_constant
        return tf.map_fn(lambda x: decay(x, *table), steps, fn_output_signature=tf.float64)

    return graph


def run_pieces(arguments: dict[str, Any], steps: int) -> np.ndarray:
    boundaries = np.array(arguments["boundaries"])
    graph = pieces(boundaries.dtype.kind == "i", len(boundaries))
    return graph(np.arange(steps, dtype=boundaries.dtype), boundaries, np.array(arguments["values"])).numpy()


def case(name: str, draw: dict[str, Any], numeric: str) -> Case:
    return Case(
        name,
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, np.arange(steps)),
        st.fixed_dictionaries({"learning_rate": rates(), **LENGTH, **draw}),
        ("learning_rate", "decay_steps", *numeric.split()),
    )


WAVES = {"num_periods": st.sampled_from([0.0, 0.5, 1.0, 2.5]) | f32(0, 4), **ALPHA, "beta": f32(0, 0.5)}

CASES = [
    case("exponential_decay", {"decay_rate": f32(0.05, 1.5), **STAIRS}, "decay_rate"),
    case("natural_exp_decay", {"decay_rate": f32(0, 3), **STAIRS}, "decay_rate"),
    case("inverse_time_decay", {"decay_rate": f32(0, 4), **STAIRS}, "decay_rate"),
    case("polynomial_decay", POWER, "end_learning_rate power"),
    case("cosine_decay", ALPHA, "alpha"),
    Case(
        "cosine_decay_restarts",
        ours.cosine_decay_restarts,
        run_restarts,
        draw_restarts("learning_rate"),
        ("learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha"),
    ),
    case("linear_cosine_decay", WAVES, "num_periods alpha beta"),
    # Without its noise, which has no seed; the noise itself is judged by its statistics, in test_keras_live.py.
    case(
        "noisy_linear_cosine_decay",
        {"initial_variance": st.just(0.0), "variance_decay": f32(0, 2), **WAVES},
        "initial_variance variance_decay num_periods alpha beta",
    ),
    Case("piecewise_constant", ours.piecewise_constant, run_pieces, draw_pieces(), ("boundaries", "values")),
]

DIFFERENCES = [
    Difference("cosine_decay_restarts", {"learning_rate": 1.0, "first_decay_steps": n, "t_mul": m}, step, MISSED)
    for n, m, step in ((1, 3.0, 121), (3, 3.0, 363))
]
