"""OLMo-core: its file of schedulers, out of its archive."""

from __future__ import annotations

import enum
import functools
import logging
import typing
import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import olmo_core as ours

from . import sources
from .excerpt import excerpt
from .harness import Case, Difference, f32, rates

PEER = "OLMo-core"


class Registrable:
    """OLMo-core's, as far as it is leant on: classes by their names."""

    known: typing.ClassVar[dict[str, Any]] = {}

    @classmethod
    def register(cls, name: str) -> Any:
        return lambda choice: cls.known.setdefault(name, choice)


def version() -> str:
    import torch

    sources.archive("ai2-olmo-core==3.0.0")
    return f"3.0.0 (torch {torch.__version__.split('+')[0]})"


@functools.cache
def source() -> dict[str, Any]:
    return excerpt(
        sources.archive("ai2-olmo-core==3.0.0") / "olmo_core/optim/scheduler.py",
        Config=type("Config", (), {}),
        Registrable=Registrable,
        StrEnum=enum.StrEnum,
        OLMoConfigurationError=ValueError,
        LR_FIELD="lr",
        INITIAL_LR_FIELD="initial_lr",
        get_rank=lambda: 0,
        log=logging.getLogger(__name__),
    )


def built(found: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with the peer's objects in the place of dicts."""
    arguments = dict(arguments)
    for name, kind in (("stages", "ComposableSchedulerStage"), ("schedulers", None)):
        if name in arguments:
            arguments[name] = [
                found[kind](**x) if kind else Registrable.known[x["type"]](**built(found, {**x, "type": None}))
                for x in arguments[name]
            ]
    if arguments.get("override_decay"):
        arguments["override_decay"] = found["OverrideDecay"](**arguments["override_decay"])
    arguments.pop("type", None)
    return {name: list(value) if isinstance(value, list) else value for name, value in arguments.items()}


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate at each update; shorter where OLMo-core divides by 0 or asserts that training is over."""
    arguments = dict(arguments)
    found = source()
    lr, t_max = arguments.pop("lr"), arguments.pop("max_steps", 0)
    first = 0 if arguments.pop("units", "steps") == "tokens" else 1
    values: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = found[name](**built(found, arguments))
        for t in range(steps):
            try:
                values.append(float(scheduler.get_lr(lr, t + first, t_max)))
            except (ZeroDivisionError, AssertionError):
                break
    return values


def over(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    """After the end of training."""
    return t + 1 > a["max_steps"]


def case(name: str, draw: dict[str, Any], title: str = "", paths: str = "", **more: Any) -> Case:
    draw = {"lr": rates(), **draw}
    structure = {"units", "decay_fraction"} if "decay" in draw else {"units"}
    numeric = tuple(key for key in draw if key not in {*structure, "stages", "schedulers", "override_decay"})
    return Case(
        f"{name} {title}".strip(),
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries(draw),
        (*numeric, *paths.split()),
        **more,
    )


LOW = st.just(0.0) | f32(1e-7, 9e-6)  # below every rate
FRACTION = st.integers(0, 31).map(lambda k: k / 64)
UP = {"warmup": st.integers(0, 30), "warmup_min_lr": LOW}
SHARE_UP = {"warmup_fraction": FRACTION, "warmup_min_lr": LOW}
# After its end the line of OLMo-core crosses 0, where float32 knows few digits of it: with so low an end it has crossed
# 0 before the first step there. Higher ends are drawn for WSDS.
ABOVE_0 = st.just(0.0) | f32(1e-11, 1e-9)
DOWN = {"decay": st.integers(0, 30), "decay_fraction": st.none(), "decay_min_lr": ABOVE_0}
TOTAL = {"max_steps": st.integers(60, 100)}
ALPHA = {"alpha_f": st.just(0.0) | f32(0.01, 1)}
END = {"end_lr_fraction": f32(0, 1)}


def stages(shape: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"duration": st.integers(1, 40), "shape": st.just(shape), **END})


def part(kind: str, **draw: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **draw})


OVERRIDE = st.fixed_dictionaries(
    {"start": st.integers(0, 60), "duration": st.integers(1, 30), "shape": st.sampled_from(["linear", "cosine"]), **END}
)
LENGTHS = st.lists(st.integers(40, 60), min_size=2, max_size=2)
CASES = [
    case("ConstantScheduler", {}),
    case("ConstantWithWarmup", UP),
    case("ConstantWithWarmup", {**SHARE_UP, **TOTAL}, "fraction"),
    case("WSD", {**UP, **DOWN, **TOTAL}, fault=over),
    case("WSD", {**SHARE_UP, "decay_fraction": FRACTION, **TOTAL}, "fractions", fault=over),
    case("PowerLR", {**UP, "warmup": st.integers(1, 30), **DOWN, **TOTAL, "b": f32(-1, -0.1)}, fault=over),
    case("LinearWithWarmup", {**UP, **ALPHA, **TOTAL}),
    case("InvSqrtWithWarmup", {**UP, "warmup": st.integers(1, 60), **ALPHA}),
    case("CosWithWarmup", {**UP, **ALPHA, "t_max": st.integers(30, 100)}),
    case("CosWithWarmup", {**UP, **ALPHA, **TOTAL, "units": st.just("tokens"), "warmup": st.integers(1, 30)}, "tokens"),
    case("HalfCosWithWarmup", {**SHARE_UP, **ALPHA, **TOTAL}),
    case("CosWithWarmupAndLinearDecay", {**UP, **DOWN, **TOTAL, "alpha_f": f32(1 / 8, 1)}, fault=over),
    case("ExponentialScheduler", {"lr_min": f32(1e-9, 1e-6), **TOTAL}),
    case(
        "WSDS",
        {
            "period_lengths": LENGTHS,
            "period_lr_multipliers": st.lists(f32(0.5, 2), min_size=2, max_size=2),
            "warmup": st.integers(0, 20),
            "decay": st.integers(1, 20),
            "warmup_min_lr": st.just(0.0) | f32(1e-7, 4e-6),
            "decay_min_lr": st.just(0.0) | f32(1e-7, 4e-6),
        },
    ),
    case("WSDS", {"period_lengths": LENGTHS, "warmup_fraction": FRACTION, "decay_fraction": FRACTION}, "fractions"),
    case(
        "ComposableScheduler",
        {
            "stages": st.tuples(stages("linear"), stages("cosine"), stages("linear")).map(list),
            "override_decay": OVERRIDE,
        },
        paths="stages/0/duration stages/1/duration stages/2/end_lr_fraction override_decay/start "
        "override_decay/duration override_decay/end_lr_fraction",
    ),
    case(
        "ComposableScheduler",
        {
            "stages": st.lists(
                st.fixed_dictionaries(
                    {"duration": st.integers(1, 40), "shape": st.just("cosine"), "start_lr": rates(), "end_lr": rates()}
                ),
                min_size=2,
                max_size=2,
            )
        },
        "rates",
        paths="stages/0/start_lr stages/1/start_lr stages/0/end_lr",
    ),
    case(
        "SequentialScheduler",
        {
            "schedulers": st.tuples(
                part("cos_with_warmup", warmup=st.integers(0, 10), alpha_f=f32(0.2, 1)),
                part(
                    "linear_with_warmup", warmup_fraction=st.integers(1, 8).map(lambda k: k / 16), alpha_f=f32(0.2, 1)
                ),
                part("wsd", warmup=st.integers(1, 5), decay=st.integers(1, 10), decay_fraction=st.none()),
            ).map(list),
            "schedulers_max": st.lists(st.integers(10, 30), min_size=2, max_size=2),
            "max_steps": st.integers(80, 120),
        },
        paths="schedulers/0/warmup schedulers/0/alpha_f schedulers/1/alpha_f schedulers/2/decay",
    ),
    case(
        "SequentialScheduler",
        {
            "schedulers": st.tuples(
                part("constant_with_warmup", warmup=st.integers(1, 10)), part("inv_sqrt_with_warmup", warmup=st.just(5))
            ).map(list),
            "schedulers_max": st.lists(st.integers(10, 30), min_size=1, max_size=1),
            "max_steps": st.just(200),
            "override_decay": OVERRIDE,
        },
        "override",
        paths="override_decay/start override_decay/duration override_decay/end_lr_fraction",
    ),
]

WHY = "after max_steps the line goes on, and the rate falls below 0"
AFTER: dict[str, Any] = {"lr": 0.1, "warmup": 10, "warmup_min_lr": 0.0, "max_steps": 100}
AFTER_DECAY = {**AFTER, "decay": 20, "decay_fraction": None, "decay_min_lr": 0.0}
DIFFERENCES = [
    Difference("WSD", AFTER_DECAY, 110, WHY),
    Difference(
        "WSD fractions",
        {"lr": 0.1, "warmup_fraction": 0.25, "warmup_min_lr": 0.0, "decay_fraction": 0.25, "max_steps": 100},
        110,
        WHY,
    ),
    Difference("PowerLR", {**AFTER_DECAY, "b": -0.5}, 110, WHY),
    Difference("CosWithWarmupAndLinearDecay", {**AFTER_DECAY, "alpha_f": 0.5}, 110, WHY),
]
