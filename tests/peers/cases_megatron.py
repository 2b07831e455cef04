"""megatron.core.optimizer_param_scheduler, run alone: its one file, without the package."""

from __future__ import annotations

import functools
import types
from typing import Any

from hypothesis import strategies as st

from jaxsched.compat.others import megatron as ours

from . import sources
from .harness import Case, Difference, f32, rates

PEER = "megatron-core"
REQUIREMENT = "megatron_core==0.16.1"


def version() -> str:
    sources.archive(REQUIREMENT)
    return REQUIREMENT.split("==")[1]


@functools.cache
def module() -> types.ModuleType:
    path = sources.archive(REQUIREMENT) / "megatron/core/optimizer_param_scheduler.py"
    return sources.load(path, "megatron", "megatron.core", "megatron.core.utils")


def run(key: str, arguments: dict[str, Any], steps: int, group: dict[str, Any] | None = None) -> list[float]:
    """What is in force at each step: the `lr` or the `weight_decay`."""
    optimizer = types.SimpleNamespace(param_groups=[dict(group or {})])
    scheduler, found = None, []
    for _ in range(steps):
        try:
            scheduler = scheduler or module().OptimizerParamScheduler(optimizer=optimizer, **arguments)
        except ZeroDivisionError:  # an increment over no steps
            break
        found.append(float(optimizer.param_groups[0][key]))
        scheduler.step(1)
    return found


RATES = {"init_lr": 0.0, "max_lr": 0.1, "min_lr": 0.01, "lr_warmup_steps": 0, "lr_decay_steps": 100}
DECAYS = {"start_wd": 0.1, "end_wd": 0.1, "wd_incr_steps": 0, "wd_incr_style": "constant"}


@st.composite
def rated(draw: st.DrawFn, style: str, **more: str) -> dict[str, Any]:
    total = draw(st.integers(2, 100))
    low, middle, high = sorted(draw(st.tuples(rates(), rates(), rates())))
    return {
        "init_lr": draw(st.just(0.0) | st.sampled_from([low, middle])),
        "max_lr": high,
        "min_lr": draw(st.just(0.0) | st.sampled_from([low, high])),
        "lr_warmup_steps": draw(st.just(0) | st.integers(0, total - 1)),
        "lr_decay_steps": total,
        "lr_decay_style": style,
        **({"wsd_decay_steps": draw(st.just(0) | st.integers(0, total))} if style == "WSD" else {}),
        **more,
        **DECAYS,
    }


@st.composite
def decaying(draw: st.DrawFn, style: str) -> dict[str, Any]:
    start, end = sorted(draw(st.tuples(st.just(0.0) | f32(0.001, 1), f32(0.001, 1))))
    wd = {"start_wd": start, "end_wd": end, "wd_incr_steps": draw(st.integers(0, 100)), "wd_incr_style": style}
    return {**RATES, "lr_decay_style": "constant", **wd}


NUMERIC = ("init_lr", "max_lr", "min_lr", "lr_warmup_steps", "lr_decay_steps")


def rate(style: str, **more: str) -> Case:
    words = [style, *more.values()]
    return Case(
        f"OptimizerParamScheduler {' '.join(words)}",
        ours.OptimizerParamScheduler,
        lambda arguments, steps: run("lr", arguments, steps),
        rated(style, **more),
        (*NUMERIC, *(["wsd_decay_steps"] if style == "WSD" else [])),
    )


def weight_decay(style: str) -> Case:
    return Case(
        f"OptimizerParamScheduler.weight_decay {style}",
        lambda **arguments: ours.OptimizerParamScheduler(**arguments).weight_decay,
        lambda arguments, steps: run("weight_decay", arguments, steps),
        decaying(style),
        ("start_wd", "end_wd", "wd_incr_steps"),
    )


CASES = [
    *(rate(style) for style in ("constant", "linear", "cosine", "inverse-square-root")),
    *(rate("WSD", lr_wsd_decay_style=style) for style in ("linear", "cosine", "exponential", "minus_sqrt")),
    *map(weight_decay, ("linear", "cosine")),
]
DIFFERENCES: list[Difference] = []
