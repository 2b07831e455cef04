"""transformers.optimization, live."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import transformers as ours

from .harness import Case, Difference, f32, rates

PEER = "transformers"


def version() -> str:
    import transformers

    return transformers.__version__


def optimizer(lr: float) -> Any:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    optimizer.param_groups[0]["initial_lr"] = lr  # which a scheduler that goes on from `last_epoch` asks for
    return optimizer


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate in force at each step."""
    import transformers.optimization

    arguments, found = dict(arguments), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(transformers.optimization, name)(optimizer=optimizer(arguments.pop("lr")), **arguments)
        for _ in range(steps):
            found.append(float(scheduler.optimizer.param_groups[0]["lr"]))
            scheduler.step()
    return found


# --- where transformers is wrong -------------------------------------------------------------------------------------


def own(arguments: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """The peer's own step."""
    return steps + arguments.get("last_epoch", -1) + 1


def rises(a: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """After the end, and at the end of no decay at all."""
    t = own(a, steps)
    return (t > a["num_training_steps"]) | ((t >= a["num_training_steps"]) & (not decays(a)))


def decays(a: dict[str, Any]) -> bool:
    return a["num_training_steps"] > a["num_warmup_steps"]


def rises_one_earlier(a: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    t = own(a, steps) + 1 - a["num_warmup_steps"]
    return t > max(1, a["num_training_steps"] - a["num_warmup_steps"])


def misses(a: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """A restart that is rounded away."""
    count, length = a.get("num_cycles", 1), a["num_training_steps"] - a["num_warmup_steps"]
    t = own(a, steps) - a["num_warmup_steps"]
    if not decays(a):
        return t == 0
    seen = np.array([math.floor(count * (int(x) / length)) for x in t])
    return (t >= 0) & (t < length) & (seen != count * t // length)


# --- what is drawn ---------------------------------------------------------------------------------------------------

LENGTHS = "num_warmup_steps num_training_steps"
WAVES = st.sampled_from([0.5, 1.0, 1.5]) | f32(0, 3)


@st.composite
def phases(draw: st.DrawFn, least: int = 0, **more: Any) -> dict[str, Any]:
    """A warmup that is a part of the whole, and at least `least` steps shorter."""
    warmup = draw(st.integers(0, 30))
    arguments = {
        "lr": draw(rates()),
        "num_warmup_steps": warmup,
        "num_training_steps": warmup + draw(st.integers(max(least, 1 if warmup == 0 else 0), 60)),
    }
    return arguments | {name: draw(value) for name, value in more.items()}


@st.composite
def stable(draw: st.DrawFn, by_whole: bool, decays: list[str], **more: Any) -> dict[str, Any]:
    warmup, plateau, decay = draw(st.integers(0, 30)), draw(st.integers(0, 30)), draw(st.integers(0, 40))
    whole = {"num_training_steps": max(warmup + plateau + decay, 1)} if by_whole else {"num_stable_steps": plateau}
    arguments = {
        "lr": draw(rates()),
        "num_warmup_steps": warmup,
        "num_decay_steps": decay,
        **whole,
        "warmup_type": draw(st.sampled_from(["linear", "cosine", "1-sqrt"])),
        "decay_type": draw(st.sampled_from(decays)),
        "min_lr_ratio": draw(st.just(0.0) | f32(1e-4, 0.5)),
    }
    return arguments | {name: draw(value) for name, value in more.items()}


LAST = st.just(-1) | st.integers(0, 20)
RESUMED = {"last_epoch": LAST}


def case(name: str, draw: st.SearchStrategy[dict[str, Any]], numeric: str, label: str = "", **more: Any) -> Case:
    return Case(
        label or name,
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        draw,
        ("lr", *numeric.split()),
        **more,
    )


@st.composite
def named(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of get_scheduler, with the lengths that each name needs and the others of its own."""
    others = {
        "linear": {},
        "cosine": {"num_cycles": WAVES},
        "cosine_with_restarts": {"num_cycles": st.integers(1, 5)},
        "polynomial": {"lr_end": f32(1e-8, 5e-6), "power": f32(0.25, 3)},
        "constant": {},
        "constant_with_warmup": {},
        "inverse_sqrt": {"timescale": st.integers(1, 60)},
        "cosine_with_min_lr": {"min_lr_rate": f32(0, 0.5)},
        "cosine_warmup_with_min_lr": {"min_lr_rate": f32(0, 0.5), "warmup_lr_rate": f32(0, 1)},
        "warmup_stable_decay": {"num_decay_steps": st.integers(0, 10), "min_lr_ratio": f32(0, 0.5)},
    }
    name = draw(st.sampled_from(list(others)))
    arguments = {"name": name, **draw(phases(least=10))}
    for length, without in (
        ("num_training_steps", ("constant", "constant_with_warmup", "inverse_sqrt")),
        ("num_warmup_steps", ("constant",)),
    ):
        if name in without:
            del arguments[length]
    if others[name]:
        arguments["scheduler_specific_kwargs"] = draw(st.fixed_dictionaries(others[name]))
    return arguments


NAMED_FAULTS: dict[str, Callable[[dict[str, Any], np.ndarray], np.ndarray]] = {
    "cosine": rises,
    "cosine_with_min_lr": rises,
    "cosine_warmup_with_min_lr": rises_one_earlier,
    "cosine_with_restarts": misses,
}


def named_fault(a: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    fault = NAMED_FAULTS.get(a["name"])
    return steps < 0 if fault is None else fault({**a, **a.get("scheduler_specific_kwargs", {})}, steps)


CASES = [
    case("get_constant_schedule", st.fixed_dictionaries({"lr": rates() | f32(1e-5, 1), **RESUMED}), "last_epoch"),
    case(
        "get_constant_schedule_with_warmup",
        st.fixed_dictionaries({"lr": rates(), "num_warmup_steps": st.integers(0, 60), **RESUMED}),
        "num_warmup_steps last_epoch",
    ),
    case("get_linear_schedule_with_warmup", phases(**RESUMED), f"{LENGTHS} last_epoch"),
    case(
        "get_cosine_schedule_with_warmup",
        phases(num_cycles=WAVES, **RESUMED),
        f"{LENGTHS} num_cycles last_epoch",
        fault=rises,
    ),
    case(
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        phases(num_cycles=st.integers(1, 10) | st.sampled_from([22, 23, 26, 39]), **RESUMED),  # the last are missed
        f"{LENGTHS} num_cycles last_epoch",
        fault=misses,
    ),
    case(
        "get_polynomial_decay_schedule_with_warmup",
        phases(least=1, lr_end=st.just(0.0) | f32(1e-8, 5e-6), power=f32(0.25, 3), **RESUMED),
        f"{LENGTHS} lr_end power last_epoch",
    ),
    case(
        "get_inverse_sqrt_schedule",
        st.fixed_dictionaries({"lr": rates(), "num_warmup_steps": st.integers(0, 60), **RESUMED}),
        "num_warmup_steps last_epoch",
    ),
    case(
        "get_inverse_sqrt_schedule",
        st.fixed_dictionaries(
            {"lr": rates(), "num_warmup_steps": st.integers(0, 60), "timescale": st.integers(1, 200), **RESUMED}
        ),
        "num_warmup_steps timescale last_epoch",
        label="get_inverse_sqrt_schedule, timescale",
    ),
    case(
        "get_cosine_with_min_lr_schedule_with_warmup",
        phases(num_cycles=WAVES, min_lr=st.just(0.0) | f32(1e-8, 1e-5), **RESUMED),
        f"{LENGTHS} num_cycles min_lr last_epoch",
        fault=rises,
    ),
    case(
        "get_cosine_with_min_lr_schedule_with_warmup",
        phases(num_cycles=WAVES, min_lr_rate=st.just(0.0) | f32(1e-4, 1), **RESUMED),
        f"{LENGTHS} num_cycles min_lr_rate last_epoch",
        label="get_cosine_with_min_lr_schedule_with_warmup, min_lr_rate",
        fault=rises,
    ),
    case(
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
        phases(num_cycles=WAVES, min_lr=st.just(0.0) | f32(1e-8, 1e-5), **RESUMED),
        f"{LENGTHS} num_cycles min_lr last_epoch",
        fault=rises_one_earlier,
    ),
    case(
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
        phases(num_cycles=WAVES, min_lr_rate=f32(0, 1), warmup_lr_rate=st.just(0.0) | f32(1e-4, 1), **RESUMED),
        f"{LENGTHS} num_cycles min_lr_rate warmup_lr_rate last_epoch",
        label="get_cosine_with_min_lr_schedule_with_warmup_lr_rate, warmup_lr_rate",
        fault=rises_one_earlier,
    ),
    case(
        "get_wsd_schedule",
        stable(False, ["cosine"], num_cycles=WAVES, **RESUMED),
        "num_warmup_steps num_decay_steps num_stable_steps min_lr_ratio num_cycles last_epoch",
    ),
    case(
        "get_wsd_schedule",
        stable(True, ["linear", "1-sqrt"]),
        "num_warmup_steps num_decay_steps num_training_steps min_lr_ratio",
        label="get_wsd_schedule, of the whole",
    ),
    Case(
        "get_scheduler",
        ours.get_scheduler,
        lambda a, n: run("get_scheduler", a, n),
        named(),
        ("lr",),
        fault=named_fault,
    ),
]

DIFFERENCES = [
    Difference(
        "get_cosine_schedule_with_warmup",
        {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 60},
        110,
        "it rises again after num_training_steps",
    ),
    Difference(
        "get_cosine_schedule_with_warmup",
        {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 10},
        10,
        "a decay of no steps is at its top where the training ends",
    ),
    Difference(
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        {"lr": 0.1, "num_warmup_steps": 0, "num_training_steps": 44, "num_cycles": 22},
        30,
        "the product of 22 and 30 / 44 is rounded down, and the restart at 30 is missed",
    ),
    Difference(
        "get_cosine_with_min_lr_schedule_with_warmup",
        {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 60, "min_lr": 0.01},
        110,
        "it rises again after num_training_steps",
    ),
    Difference(
        "get_cosine_with_min_lr_schedule_with_warmup, min_lr_rate",
        {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 60, "min_lr_rate": 0.1},
        110,
        "it rises again after num_training_steps",
    ),
    Difference(
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
        {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 60, "min_lr": 0.01},
        109,
        "it rises again after num_training_steps",
    ),
    Difference(
        "get_cosine_with_min_lr_schedule_with_warmup_lr_rate, warmup_lr_rate",
        {"lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 60, "min_lr_rate": 0.1, "warmup_lr_rate": 0.5},
        109,
        "it rises again after num_training_steps",
    ),
    Difference(
        "get_scheduler",
        {"name": "cosine", "lr": 0.1, "num_warmup_steps": 10, "num_training_steps": 60},
        110,
        "its cosines rise again after num_training_steps",
    ),
]
