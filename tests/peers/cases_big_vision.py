"""big_vision, read from a copy of its repository; numpy in float64 stands in for jax.numpy in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import big_vision as ours

from . import sources
from .excerpt import Float64, excerpt
from .harness import Case, Difference, f32, rates

PEER = "big_vision"
NAME = "create_learning_rate_schedule"


def version() -> str:
    sources.checkout("big_vision")
    return "read at commit 11eea574"


def theirs(arguments: dict[str, Any], steps: int) -> list[float]:
    path = sources.checkout("big_vision") / "big_vision/utils.py"
    made = excerpt(path, "steps", NAME, jnp=Float64())[NAME](**arguments)
    with np.errstate(all="ignore"):
        values = made(np.arange(steps))
    return np.broadcast_to(values, steps).tolist()


def after_the_end(arguments: dict[str, Any], t: np.ndarray) -> np.ndarray:
    return t > arguments["total_steps"]


NUMBERS = {"total_steps": st.integers(61, 100), "base": rates()}
LENGTHS = {"warmup_steps": st.integers(0, 60), "cooldown_steps": st.integers(0, 60)}
PERCENT = st.integers(0, 32).map(lambda k: k / 64)


def case(title: str, decay_type: str, draw: dict[str, Any], fixed: dict[str, Any] | None = None, **more: Any) -> Case:
    numbers = {**NUMBERS, **draw}
    fixed = {"decay_type": decay_type, **(fixed or {})}
    return Case(
        f"{NAME} {title}",
        ours.create_learning_rate_schedule,
        theirs,
        st.fixed_dictionaries({**numbers, **{key: st.just(value) for key, value in fixed.items()}}),
        tuple(numbers),
        **more,
    )


EVENTS = st.lists(st.integers(1, 100), min_size=3, max_size=3, unique=True).map(sorted)
CASES = [
    case(
        "polynomial",
        "polynomial",
        {**LENGTHS, "power": f32(0.25, 4), "end": st.just(0.0) | rates()},
        fault=after_the_end,
    ),
    case("linear", "linear", {"warmup_steps": LENGTHS["warmup_steps"], "linear_end": st.just(0.0) | rates()}),
    case("cosine", "cosine", {"warmup_steps": LENGTHS["warmup_steps"]}),
    case(
        "rsqrt",
        "rsqrt",
        {**LENGTHS, "timescale": st.integers(1, 1000), "shift": st.integers(0, 50)},
        fault=after_the_end,
    ),
    case(
        "stair",
        "stair",
        {**LENGTHS, "steps": EVENTS, "mults": st.lists(f32(0.01, 2), min_size=3, max_size=3)},
        fault=after_the_end,
    ),
    case(
        "examples",
        "rsqrt",
        {
            "batch_size": st.integers(16, 512),
            "warmup_examples": st.integers(0, 1000),
            "cooldown_examples": st.integers(1, 1000),
            "timescale_examples": st.integers(1, 100_000),
        },
        {"scale_with_batchsize": True},
        fault=after_the_end,
    ),
    case(
        "epochs and percent",
        "cosine",
        {
            "batch_size": st.sampled_from([16, 32, 64, 128]),
            "data_size": st.integers(64, 400),
            "warmup_epochs": st.integers(0, 8).map(lambda k: k / 4),
            "cooldown_percent": PERCENT,
        },
    ),
]
WHY = "a cooldown falls below 0 after total_steps"
DIFFERENCES = [
    Difference(
        f"{NAME} polynomial",
        {
            "total_steps": 100,
            "base": 0.1,
            "decay_type": "polynomial",
            "power": 1.0,
            "end": 0.01,
            "warmup_steps": 10,
            "cooldown_steps": 20,
        },
        110,
        WHY,
    ),
    Difference(
        f"{NAME} rsqrt",
        {
            "total_steps": 100,
            "base": 0.1,
            "decay_type": "rsqrt",
            "timescale": 100,
            "shift": 0,
            "warmup_steps": 10,
            "cooldown_steps": 20,
        },
        110,
        WHY,
    ),
    Difference(
        f"{NAME} stair",
        {
            "total_steps": 100,
            "base": 0.1,
            "decay_type": "stair",
            "steps": [30],
            "mults": [0.5],
            "warmup_steps": 10,
            "cooldown_steps": 20,
        },
        110,
        WHY,
    ),
    Difference(
        f"{NAME} examples",
        {
            "total_steps": 100,
            "base": 0.1,
            "decay_type": "rsqrt",
            "batch_size": 100,
            "warmup_examples": 1000,
            "cooldown_examples": 2000,
            "timescale_examples": 10_000,
            "scale_with_batchsize": True,
        },
        110,
        WHY,
    ),
]
