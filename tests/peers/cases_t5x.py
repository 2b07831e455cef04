"""T5X, read from a copy of its repository; numpy in float64 stands in for jax.numpy in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import t5x as ours

from . import sources
from .excerpt import Float64, excerpt
from .harness import Case, Difference, f32, rates

PEER = "T5X"
NAME = "create_learning_rate_scheduler"


def version() -> str:
    sources.checkout("t5x")
    return "read at commit 247d329f"


def theirs(arguments: dict[str, Any], steps: int) -> list[float]:
    path = sources.checkout("t5x") / "t5x/utils.py"
    make = excerpt(path, NAME, jnp=Float64(), LearningRateCallable=Any)[NAME]
    with np.errstate(all="ignore"):  # without a warmup it divides 0 by 0
        return np.broadcast_to(make(**arguments)(np.arange(steps)), steps).tolist()


NUMBERS = {
    "base_learning_rate": rates(),
    "warmup_steps": st.integers(1, 60),
    "step_offset": st.integers(0, 20),
    "min_learning_rate": st.just(1e-8) | st.just(0.0) | rates(),
}


def case(name: str, factors: st.SearchStrategy[str], **draw: Any) -> Case:
    numbers = {**NUMBERS, **draw}
    return Case(
        f"{NAME} {name}",
        ours.create_learning_rate_scheduler,
        theirs,
        st.fixed_dictionaries({"factors": factors, **numbers}),
        tuple(numbers),
    )


SLOPE = st.just(0.0) | f32(0.0002, 0.125)
MANY = {
    "decay_factor": f32(0.3, 0.99),
    "steps_per_decay": st.integers(1, 50),
    "steps_per_cycle": st.integers(1, 60),
}
FACTORS = "constant linear_warmup rsqrt_decay rsqrt_normalized_decay decay_every cosine_decay".split()
CASES = [
    case(
        "rsqrt_decay", st.just("constant * linear_warmup * rsqrt_decay"), warmup_steps=st.just(0) | st.integers(0, 60)
    ),
    case("rsqrt_normalized_decay", st.just("constant * linear_warmup * rsqrt_normalized_decay")),
    case("linear_decay", st.just("linear_decay"), decay_factor=SLOPE, warmup_steps=st.integers(0, 60)),
    case(
        "decay_every",
        st.just("constant*decay_every"),
        decay_factor=MANY["decay_factor"],
        steps_per_decay=MANY["steps_per_decay"],
    ),
    case("cosine_decay", st.just("constant * linear_warmup * cosine_decay"), steps_per_cycle=MANY["steps_per_cycle"]),
    case("any factors", st.lists(st.sampled_from(FACTORS), min_size=1, max_size=4).map(" * ".join), **MANY),
]
DIFFERENCES: list[Difference] = []
