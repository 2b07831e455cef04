"""keras.optimizers.schedules and Keras's LearningRateScheduler, live, on the JAX backend in float64."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import keras as ours
from tests.cases import x64

from .harness import Case, Difference, f32, rates

PEER = "keras"

# Before anything imports Keras, which reads it once; TensorFlow imports Keras too.
os.environ.setdefault("KERAS_BACKEND", "jax")


def version() -> str:
    import keras

    assert keras.backend.backend() == "jax", "run the peers with KERAS_BACKEND=jax"
    return keras.__version__


@contextlib.contextmanager
def in_float64() -> Iterator[Any]:
    """Keras with 64 bits; on JAX it puts 32 in their place wherever it finds a common type."""
    version()
    import keras
    from keras.src.backend.common import dtypes

    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        # Each branch of Keras's is compiled anew at every call, if it is compiled at all.
        with x64(), jax.disable_jit(), mock.patch.dict(dtypes.BIT64_TO_BIT32_DTYPE, float64="float64"):
            yield keras
    finally:
        keras.config.set_floatx(before)


def run(name: str, arguments: dict[str, Any], steps: int) -> np.ndarray:
    """The rate at each step, all at once."""
    with in_float64() as keras:
        schedule = getattr(keras.optimizers.schedules, name)(**arguments)
        # A warmup is a branch of the program, which takes one step at a time.
        whole = jax.vmap(schedule) if arguments.get("warmup_target") is not None else schedule
        return np.array(whole(jnp.arange(steps)), np.float64)


# --- restarts --------------------------------------------------------------------------------------------------------


def restarts(first: int, mult: float, steps: int) -> list[Fraction]:
    """The exact starts of the cycles after the first one."""
    found, length = [Fraction(first)], Fraction(first)
    while found[-1] < steps:
        length *= Fraction(mult)
        found.append(found[-1] + length)
    return found


def has_numbers(first: int, mult: float, steps: int) -> bool:
    """Whether the peer's restarts are a matter of its formula. A logarithm of 243 over one of 3 is rounded to 4.99...:
    there the peak of that step is missed, and which ones are so depends on the machine. And a restart that is an
    ulp of the multiplier away from a step is on one side of it or on the other."""
    if mult == 1:
        return True
    for i, at in enumerate(restarts(first, mult, steps), start=1):
        if at.denominator > 1:
            if abs(at - round(at)) < 0.01:
                return False
        elif math.floor(math.log(1.0 - float(at) / first * (1.0 - mult)) / math.log(mult)) != i:
            return False
    return True


def run_restarts(arguments: dict[str, Any], steps: int) -> np.ndarray:
    """A training asks for one value at a time; logarithms and quotients of many numbers at once round otherwise."""
    values = run("CosineDecayRestarts", arguments, steps)
    with in_float64() as keras:
        schedule = keras.optimizers.schedules.CosineDecayRestarts(**arguments)
        for at in restarts(arguments["first_decay_steps"], arguments["t_mul"], steps):
            if at.denominator == 1 and at < steps:
                values[int(at)] = float(schedule(int(at)))
    return values


def draw_restarts(rate: str) -> st.SearchStrategy[dict[str, Any]]:
    whole = st.sampled_from([1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0])
    return st.fixed_dictionaries(
        {
            rate: rates(),
            "first_decay_steps": st.integers(1, 60),
            "t_mul": whole | f32(1, 4),
            "m_mul": st.just(1.0) | f32(0.5, 1.25),
            "alpha": st.just(0.0) | f32(0, 1),
        }
    ).filter(lambda a: has_numbers(a["first_decay_steps"], a["t_mul"], 130))


# --- tables ----------------------------------------------------------------------------------------------------------


@st.composite
def draw_pieces(draw: Any) -> dict[str, Any]:
    count = draw(st.integers(1, 4))
    steps = st.integers(0, 100) if draw(st.booleans()) else f32(0.125, 100)
    boundaries = draw(st.lists(steps, min_size=count, max_size=count, unique=True))
    return {"boundaries": sorted(boundaries), "values": draw(st.lists(rates(), min_size=count + 1, max_size=count + 1))}


# --- LearningRateScheduler -------------------------------------------------------------------------------------------

RULES = {
    "epoch": lambda xp: lambda epoch: 0.125 / (1 + epoch),
    "stairs": lambda xp: lambda epoch, lr: lr * xp.where(epoch % 7 == 6, 0.5, 1.0),
    "late": lambda xp: lambda epoch, lr: lr * xp.where((epoch >= 10) & (epoch < 20), 0.875, 1.0),
    "towards": lambda xp: lambda epoch, lr: 0.75 * lr + 0.25 / (1 + epoch),
}


def run_rule(arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate that an optimizer is given before each epoch."""
    version()
    import keras

    rule = RULES[arguments["rule"]](np)
    scheduler = keras.callbacks.LearningRateScheduler(rule)
    model: Any = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=arguments["lr"]))
    scheduler.set_model(model)
    found = []
    for epoch in range(steps):
        scheduler.on_epoch_begin(epoch)
        found.append(float(model.optimizer.learning_rate))
    return found


# A function is structure: another one is another compilation.
TRACEABLE = {name: rule(jnp) for name, rule in RULES.items()}


def our_rule(lr: Any, rule: str) -> Any:
    return ours.LearningRateScheduler(lr, TRACEABLE[rule])


# --- the list --------------------------------------------------------------------------------------------------------


def case(name: str, draw: dict[str, Any], numeric: str, label: str = "") -> Case:
    return Case(
        f"{name}{label}",
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries({"initial_learning_rate": rates(), **draw}),
        ("initial_learning_rate", *numeric.split()),
    )


LENGTH = {"decay_steps": st.integers(1, 80)}
STAIRS = {"staircase": st.booleans()}
ALPHA = {"alpha": st.just(0.0) | f32(0, 1)}
WARMUP = {"warmup_target": rates(), "warmup_steps": st.integers(1, 40)}
POWER = {"end_learning_rate": rates(), "power": st.just(1.0) | f32(0.25, 4), "cycle": st.booleans()}

CASES = [
    case("ExponentialDecay", {**LENGTH, "decay_rate": f32(0.05, 1.5), **STAIRS}, "decay_steps decay_rate"),
    case("InverseTimeDecay", {**LENGTH, "decay_rate": f32(0, 4), **STAIRS}, "decay_steps decay_rate"),
    case("PolynomialDecay", {**LENGTH, **POWER}, "decay_steps end_learning_rate power"),
    case("CosineDecay", {**LENGTH, **ALPHA}, "decay_steps alpha"),
    case(
        "CosineDecay",
        {"initial_learning_rate": st.just(0.0) | rates(), **LENGTH, **ALPHA, **WARMUP},
        "decay_steps alpha warmup_target warmup_steps",
        label=" with warmup",
    ),
    Case(
        "CosineDecayRestarts",
        ours.CosineDecayRestarts,
        run_restarts,
        draw_restarts("initial_learning_rate"),
        ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha"),
    ),
    Case(
        "PiecewiseConstantDecay",
        ours.PiecewiseConstantDecay,
        lambda arguments, steps: run("PiecewiseConstantDecay", arguments, steps),
        draw_pieces(),
        ("boundaries", "values"),
    ),
    Case(
        "LearningRateScheduler",
        our_rule,
        run_rule,
        st.fixed_dictionaries({"lr": rates(), "rule": st.sampled_from(sorted(RULES))}),
        ("lr",),
        steps=48,
    ),
]

MISSED = "a logarithm misses the restart, and the rate is at the bottom"
DIFFERENCES = [
    Difference("CosineDecayRestarts", {"initial_learning_rate": 1.0, "first_decay_steps": n, "t_mul": m}, step, MISSED)
    for n, m, step in ((1, 3.0, 121), (3, 3.0, 363), (1, 10.0, 111))
]
