"""Scenic, read from a copy of its repository; numpy in float64 stands in for jax.numpy in float32."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import scenic as ours

from . import sources
from .excerpt import Float64, excerpt
from .harness import Case, Difference, f32, rates

PEER = "scenic"


class Config(dict):
    """A ConfigDict: its entries are attributes too."""

    __getattr__ = dict.__getitem__


def version() -> str:
    sources.checkout("scenic")
    return "read at commit 4181ac18"


@functools.cache
def source() -> dict[str, Any]:
    path = sources.checkout("scenic") / "scenic/train_lib/lr_schedules.py"
    found = excerpt(path, jnp=Float64(), ml_collections=types.SimpleNamespace(ConfigDict=Config))
    found["lr_fn_dict"] = {"compound": found["compound_lr_scheduler"]}
    return found


def run(schedule: Callable[[Any], Any], steps: int) -> list[float]:
    with np.errstate(all="ignore"):  # a branch that is not taken may divide by 0
        return [float(schedule(step)) for step in np.arange(steps)]


EVENTS = st.lists(st.integers(1, 100), min_size=3, max_size=3, unique=True).map(sorted)
FACTORS = st.lists(f32(0.01, 2), min_size=3, max_size=3)
# Scenic counts restarts by a logarithm; where it misses one, with m_mul, is seen in tests/test_compat_scenic.py.
RESTARTS = st.sampled_from([1, 1, 2, 4])
NUMBERS: dict[str, Any] = {
    "base_learning_rate": rates(),
    "warmup_steps": st.integers(0, 40),
    "warmup_alpha": st.just(0.0) | f32(0, 1),
    "decay_steps": st.integers(1, 100),
    "end_factor": st.just(0.0) | f32(0, 1),
    "power": f32(0.25, 4),
    "decay_events": EVENTS,
    "decay_factors": FACTORS,
    "timescale": st.integers(1, 1000),
    "steps_per_decay": st.integers(1, 50),
    "decay_factor": f32(0.3, 1),
    "decay_rate": f32(0.05, 2),
    "steps_per_cycle": st.integers(1, 60),
    "t_mul": RESTARTS,
    "m_mul": f32(0.25, 1.5),
    "alpha": st.just(0.0) | f32(0, 1),
    "start_decay_step": st.integers(0, 20),
    "total_steps": st.integers(60, 100),
    # Scenic subtracts it and adds it again: of a rate that is 1e5 times smaller too few digits are left.
    "end_learning_rate": st.just(0.0) | f32(1e-6, 1e-4),
    "cooldown_steps": st.integers(1, 60),
}


def function(name: str, names: str, **fixed: Any) -> Case:
    """A factor alone."""
    draw = {key: NUMBERS["warmup_alpha" if key == "alpha" else key] for key in names.split()}

    def theirs(arguments: dict[str, Any], steps: int) -> list[float]:
        factor = source()[name]
        return run(lambda step: factor(step, **arguments), steps)

    title = " ".join([name, *(key for key, value in fixed.items() if value)])
    return Case(
        title,
        getattr(ours, name),
        theirs,
        st.fixed_dictionaries({**draw, **{key: st.just(value) for key, value in fixed.items()}}),
        tuple(draw),
    )


def compound(title: str, factors: str, names: str, **more: Any) -> Case:
    draw = {key: NUMBERS[key] for key in names.split()}
    return Case(
        f"compound_lr_scheduler {title}",
        ours.compound_lr_scheduler,
        lambda arguments, steps: run(source()["compound_lr_scheduler"](Config(arguments["config"])), steps),
        st.fixed_dictionaries({"config": st.fixed_dictionaries({"factors": st.just(factors), **draw})}),
        tuple(f"config/{key}" for key in draw),
        **more,
    )


def whole(arguments: dict[str, Any], steps: int) -> list[float]:
    return run(source()["get_learning_rate_fn"](Config(lr_configs=Config(arguments["config"]["lr_configs"]))), steps)


CASES = [
    function("polynomial_lr_scheduler", "decay_steps end_factor power"),
    function("piecewise_constant_scheduler", "decay_events decay_factors"),
    function("piecewise_linear_scheduler", "decay_events decay_factors"),
    function("linear_warmup_scheduler", "warmup_steps alpha"),
    function("decay_every_scheduler", "steps_per_decay decay_factor"),
    function("exponential_decay_scheduler", "decay_steps decay_rate", staircase=False),
    function("exponential_decay_scheduler", "decay_steps decay_rate", staircase=True),
    function("cosine_decay_scheduler", "steps_per_cycle t_mul m_mul alpha"),
    compound(
        "rsqrt_decay",
        "constant * linear_warmup * rsqrt_decay",
        "base_learning_rate warmup_steps warmup_alpha timescale",
    ),
    compound(
        "cosine_decay",
        "constant*cosine_decay*linear_warmup",
        "base_learning_rate warmup_steps steps_per_cycle t_mul m_mul alpha start_decay_step total_steps",
    ),
    compound(
        "pieces",
        "constant * polynomial * piecewise_linear * piecewise_constant * decay_every",
        "base_learning_rate decay_steps end_factor power decay_events decay_factors steps_per_decay decay_factor",
    ),
    compound(
        "linear_decay",
        "constant * linear_warmup * linear_decay * exponential_decay",
        "base_learning_rate warmup_steps total_steps end_learning_rate decay_steps decay_rate",
    ),
    compound(
        "linear_cooldown",
        "constant * rsqrt_decay * linear_cooldown",
        "base_learning_rate warmup_steps timescale total_steps cooldown_steps",
        fault=lambda a, t: t > a["config"]["total_steps"],
    ),
    Case(
        "get_learning_rate_fn",
        ours.get_learning_rate_fn,
        whole,
        st.fixed_dictionaries({"base_learning_rate": rates()}).map(lambda c: {"config": {"lr_configs": c}}),
        ("config/lr_configs/base_learning_rate",),
    ),
]

COOLDOWN = {
    "factors": "constant * rsqrt_decay * linear_cooldown",
    "base_learning_rate": 0.5,
    "warmup_steps": 10,
    "timescale": 100,
    "total_steps": 50,
    "cooldown_steps": 10,
}
DIFFERENCES = [
    Difference(
        "compound_lr_scheduler linear_cooldown",
        {"config": COOLDOWN},
        55,
        "the factor linear_cooldown, and the rate, fall below 0 after total_steps",
    )
]
