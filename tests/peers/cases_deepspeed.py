"""deepspeed.runtime.lr_schedules, run alone: its one file, without the package."""

from __future__ import annotations

import functools
import types
import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import deepspeed as ours

from . import sources
from .harness import Case, Difference, f32, rates

PEER = "deepspeed"
REQUIREMENT = "deepspeed==0.19.8"


def version() -> str:
    import torch

    del torch  # whose optimizers DeepSpeed's schedules hold
    sources.archive(REQUIREMENT)
    return REQUIREMENT.split("==")[1]


@functools.cache
def module() -> types.ModuleType:
    (path,) = sources.archive(REQUIREMENT).rglob("deepspeed/runtime/lr_schedules.py")
    return sources.load(path, "deepspeed", "deepspeed.utils")


def run(name: str, arguments: dict[str, Any], steps: int, key: str = "lr") -> list[float]:
    """The rate, or the momentum, in force at each step."""
    import torch

    arguments = dict(arguments)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=arguments.pop("lr", 0.5))
    scheduler = getattr(module(), name)(optimizer, **arguments)
    if (last := arguments.get("last_batch_iteration", -1)) >= 0:  # the rate that a checkpoint brings with it
        scheduler.step(last)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            group = optimizer.param_groups[0]
            found.append(float(group["lr"] if key == "lr" else group["betas"][0]))
            scheduler.step()
    return found


def case(name: str, draw: dict[str, Any], numeric: str, words: str = "", **more: Any) -> Case:
    return Case(
        f"{name} {words}".strip(),
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries({**draw, "last_batch_iteration": st.just(-1) | st.integers(0, 40)}),
        (*numeric.split(), "last_batch_iteration"),
        **more,
    )


cycle = {
    "cycle_min_lr": rates().map(lambda x: float(np.float32(x / 8))),
    "cycle_max_lr": rates(),
    "cycle_first_step_size": st.integers(1, 60),
    "decay_step_size": st.just(0) | st.integers(1, 30),
    "decay_lr_rate": st.just(0.0) | f32(0.001, 1),
}
CYCLE = "cycle_min_lr cycle_max_lr cycle_first_step_size decay_step_size decay_lr_rate"
moment = {
    "cycle_min_mom": f32(0.5, 0.85),
    "cycle_max_mom": f32(0.85, 0.99),
    "decay_mom_rate": st.just(0.0) | f32(0.001, 0.1),
}
warmup = {
    "warmup_num_steps": st.integers(1, 60),
    "warmup_type": st.sampled_from(["log", "linear"]),
}


def begins_otherwise(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    return (t == 0) & (a["last_batch_iteration"] == -1)


def misses_the_peak(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    i = t + a["last_batch_iteration"]
    linear = a["warmup_type"] == "linear"
    return (i < 0) | (linear & (i > 0) & (i < max(a["warmup_num_steps"], 2)))


momentum = case(
    "OneCycle",
    {**cycle, **moment, "cycle_second_step_size": st.integers(1, 60)},
    f"{CYCLE} cycle_min_mom cycle_max_mom decay_mom_rate cycle_second_step_size",
)
momentum = Case(
    "OneCycle.momentum",
    lambda **arguments: ours.OneCycle(**arguments).momentum,
    lambda arguments, steps: run("OneCycle", arguments, steps, "betas"),
    momentum.draw,
    momentum.numeric,
    fault=begins_otherwise,
)

CASES = [
    case(
        "LRRangeTest",
        {
            "lr_range_test_min_lr": rates(),
            "lr_range_test_step_size": st.integers(1, 50),
            "lr_range_test_step_rate": st.just(0.0) | f32(0.01, 4),
            "lr_range_test_staircase": st.booleans(),
        },
        "lr_range_test_min_lr lr_range_test_step_size lr_range_test_step_rate",
    ),
    case("OneCycle", {**cycle, "cycle_second_step_size": st.none() | st.integers(0, 60)}, CYCLE),
    case(
        "OneCycle",
        {
            **cycle,
            "cycle_second_step_size": st.integers(0, 60),
            "cycle_first_stair_count": st.integers(0, 20),
            "cycle_second_stair_count": st.none() | st.integers(0, 20),
        },
        f"{CYCLE} cycle_second_step_size cycle_first_stair_count",
        words="stairs",
    ),
    momentum,
    case(
        "WarmupLR",
        {"warmup_min_lr": st.just(0.0) | rates(), "warmup_max_lr": rates(), **warmup},
        "warmup_min_lr warmup_max_lr warmup_num_steps",
    ),
    case(
        "WarmupLR",
        {"lr": rates(), "warmup_max_lr": st.none(), **warmup},
        "lr warmup_num_steps",
        words="to the optimizer's rate",
    ),
    case(
        "WarmupDecayLR",
        {
            "warmup_min_lr": st.just(0.0) | rates(),
            "warmup_max_lr": rates(),
            "total_num_steps": st.integers(1, 120),
            **warmup,
        },
        "warmup_min_lr warmup_max_lr warmup_num_steps total_num_steps",
    ),
    case(
        "WarmupCosineLR",
        {
            "lr": rates(),
            "total_num_steps": st.integers(1, 120),
            "warmup_min_ratio": st.just(0.0) | f32(0.001, 0.5),
            "cos_min_ratio": st.just(0.0) | f32(0.0001, 0.5),
            **warmup,
        },
        "lr total_num_steps warmup_num_steps warmup_min_ratio cos_min_ratio",
        fault=misses_the_peak,
    ),
]

linear = {
    "lr": 0.1,
    "total_num_steps": 40,
    "warmup_num_steps": 4,
    "warmup_min_ratio": 0.5,
    "warmup_type": "linear",
    "last_batch_iteration": -1,
}
DIFFERENCES = [
    Difference(
        "OneCycle.momentum",
        {"cycle_min_lr": 0.01, "cycle_max_lr": 0.1, "cycle_first_step_size": 10, "last_batch_iteration": -1},
        0,
        "its first update has the lowest momentum, which goes with the highest rate",
    ),
    Difference("WarmupCosineLR", linear, 0, "its first update has a rate of 0 whatever warmup_min_ratio"),
    Difference("WarmupCosineLR", linear, 4, "its linear warmup never comes to the peak"),
]
