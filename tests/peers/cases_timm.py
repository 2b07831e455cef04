"""timm.scheduler, live."""

from __future__ import annotations

import bisect
import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import math
import sys
import types
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import timm as ours

from .harness import Case, Difference, f32, rates

PEER = "timm"


def version() -> str:
    return importlib.metadata.version("timm")


@functools.cache
def scheduler_module() -> Any:
    """timm.scheduler without the models of timm, which ask for a torchvision that was built for this very torch."""
    shell: Any = types.ModuleType("timm")
    spec = importlib.util.find_spec("timm")
    if spec is None:
        raise ImportError("timm is not installed")
    shell.__path__ = spec.submodule_search_locations
    sys.modules["timm"] = shell
    try:
        module = importlib.import_module("timm.scheduler")
    finally:
        del sys.modules["timm"]
    logging.getLogger("timm").setLevel(logging.ERROR)  # it warns that a cosine of one epoch does nothing
    return module


def optimizer(lr: float) -> Any:
    import torch

    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates_of(scheduler: Any, steps: int) -> list[float]:
    """The rate in force at each step, as timm's training script makes it: `step` comes after the epoch."""
    found = []
    for t in range(steps):
        found.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        (scheduler.step if scheduler.t_in_epochs else scheduler.step_update)(t + 1)
    return found


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    arguments = dict(arguments)
    return rates_of(getattr(scheduler_module(), name)(optimizer(arguments.pop("lr")), **arguments), steps)


def created(arguments: dict[str, Any], steps: int) -> list[float]:
    arguments = dict(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scheduler, _ = scheduler_module().create_scheduler_v2(optimizer(arguments.pop("lr")), **arguments)
    return rates_of(scheduler, steps)


# --- where timm is wrong ---------------------------------------------------------------------------------------------


def restarts(last: int, period: int, mult: float) -> list[Fraction]:
    """Where the cycles begin, exactly."""
    starts, length = [Fraction(0)], Fraction(period)
    while starts[-1] <= last:
        starts.append(starts[-1] + length)
        length *= Fraction(mult)
    return starts


def logarithm(t: int, period: int, mult: float) -> int:
    """The index of the cycle by timm's arithmetic."""
    return t // period if mult == 1 else math.floor(math.log(1 - t / period * (1 - mult), mult))


def cycle_fault(a: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """A restart that is missed, and a peak below the floor."""
    period, mult, limit = a["t_initial"], a.get("cycle_mul", 1), a.get("cycle_limit", 1)
    warmup, prefix = a.get("warmup_t", 0), a.get("warmup_prefix", False)
    clock = np.maximum(steps - warmup if prefix else steps, 0)
    starts = restarts(int(clock[-1]), period, mult)
    exact = np.array([bisect.bisect_right(starts, t) - 1 for t in clock.tolist()])
    missed = exact != [logarithm(t, period, mult) for t in clock.tolist()]
    low = (a["lr"] * a.get("cycle_decay", 1.0) ** exact < a.get("lr_min", 0.0)) & (exact < limit)
    wrong = missed | low
    covers = not prefix and "lb" in a  # the warmup of a tanh rises to a value of the cycles
    early = covers and bool(wrong[min(warmup, len(steps) - 1)])
    return (wrong & (steps >= max(warmup, 1))) | (early & (steps < warmup))


def created_fault(a: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    if a["sched"] not in ("cosine", "tanh", "poly"):
        return steps < 0
    scale = 1 if a["step_on_epochs"] else a["updates_per_epoch"]
    names = ("lr", "warmup_prefix", "cycle_mul", "cycle_decay", "cycle_limit")
    translated = {"t_initial": a["num_epochs"] * scale, "lr_min": a["min_lr"], "warmup_t": a["warmup_epochs"] * scale}
    lb = {"lb": -7.0} if a["sched"] == "tanh" else {}
    return cycle_fault({**translated, **lb, **{name: a[name] for name in names}}, steps)


# --- what is drawn ---------------------------------------------------------------------------------------------------

WARMUP = {
    "warmup_t": st.integers(0, 20),
    "warmup_lr_init": st.just(0.0) | rates(),
    "warmup_prefix": st.booleans(),
    "t_in_epochs": st.booleans(),
}
CYCLES = {
    "t_initial": st.integers(1, 40),
    "lr_min": st.just(0.0) | f32(1e-7, 1e-3),
    # Halves and quarters: their powers are exact, and so are the ends of cycles that lie between two steps. Of other
    # numbers float32 does not know the last step of a cycle, next to its end, to seven digits.
    "cycle_mul": st.sampled_from([1.0, 1.25, 1.5, 2.0, 2.5, 3.0]),
    "cycle_decay": f32(0.1, 1),
    "cycle_limit": st.integers(1, 4),
}


WHOLE = {**CYCLES, "cycle_mul": st.integers(1, 4)}
CYCLED = "t_initial lr_min cycle_mul cycle_decay cycle_limit"


def case(name: str, draw: dict[str, Any], numeric: str, label: str = "", **more: Any) -> Case:
    return Case(
        label or name,
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries({"lr": rates(), **WARMUP, **draw}),
        ("lr", "warmup_t", "warmup_lr_init", *numeric.split()),
        **more,
    )


@st.composite
def stable_decays(draw: st.DrawFn, stable: list[str], decays: list[str], **more: Any) -> dict[str, Any]:
    """The arguments of a WSDLRScheduler, whose decay is a part of the whole."""
    total = draw(st.integers(1, 80))
    arguments = {
        "lr": draw(rates()),
        "t_initial": total,
        "decay_t": draw(st.integers(1, total)),
        "lr_min": draw(st.just(0.0) | f32(1e-7, 1e-3)),
        "warmup_t": draw(st.integers(1, 20)),
        "warmup_lr_init": draw(st.just(0.0) | rates()),
        "stable_fn": draw(st.sampled_from(stable)),
        "decay_fn": draw(st.sampled_from(decays)),
    }
    return arguments | {name: draw(value) for name, value in more.items()}


def wsd(label: str, draw: st.SearchStrategy[dict[str, Any]], numeric: str = "") -> Case:
    return Case(
        label,
        ours.WSDLRScheduler,
        lambda arguments, steps: run("WSDLRScheduler", arguments, steps),
        draw,
        ("lr", "t_initial", "decay_t", "lr_min", "warmup_t", "warmup_lr_init", *numeric.split()),
    )


@st.composite
def settings(draw: st.DrawFn, **fixed: Any) -> dict[str, Any]:
    """The arguments of create_scheduler_v2; all names take all of them."""
    epochs = {
        "num_epochs": st.integers(20, 30),
        "decay_epochs": st.integers(1, 10) | st.sampled_from([0.25, 0.5]),
        "decay_milestones": st.lists(st.integers(1, 30), min_size=2, max_size=2, unique=True).map(sorted),
        "warmup_epochs": st.integers(1, 5),
    }
    other = {
        "lr": rates(),
        "sched": st.sampled_from(["cosine", "tanh", "step", "multistep", "poly", "wsd", "rsqrt", "constant"]),
        "decay_rate": f32(0.25, 1),
        "min_lr": st.just(0.0) | f32(1e-7, 1e-3),
        "warmup_lr": rates(),
        "warmup_prefix": st.booleans(),
        "cycle_mul": st.integers(1, 3),
        "cycle_decay": f32(0.1, 1),
        "cycle_limit": st.integers(1, 3),
        "k_decay": f32(0.5, 3),
    }
    return draw(st.fixed_dictionaries({**epochs, **other, **{name: st.just(value) for name, value in fixed.items()}}))


def factory(label: str, draw: st.SearchStrategy[dict[str, Any]], numeric: str = "", **more: Any) -> Case:
    return Case(
        label,
        lambda **arguments: ours.create_scheduler_v2(**arguments)[0],
        created,
        draw,
        tuple(
            "lr num_epochs decay_epochs decay_rate min_lr warmup_lr warmup_epochs cycle_mul cycle_decay cycle_limit "
            f"k_decay {numeric}".split()
        ),
        fault=created_fault,
        **more,
    )


CASES = [
    case("CosineLRScheduler", {**CYCLES, "k_decay": f32(0.5, 3)}, f"{CYCLED} k_decay", fault=cycle_fault),
    case(
        "CosineLRScheduler",
        {**WHOLE, "warmup_prefix": st.just(True)},
        CYCLED,
        label="CosineLRScheduler, whole cycle_mul",
        fault=cycle_fault,
    ),
    case("TanhLRScheduler", {**WHOLE, "lb": f32(-8, -1), "ub": f32(0, 5)}, f"{CYCLED} lb ub", fault=cycle_fault),
    case(
        "PolyLRScheduler",
        {**CYCLES, "power": f32(0.25, 3), "k_decay": f32(0.5, 3)},
        f"{CYCLED} power k_decay",
        fault=cycle_fault,
    ),
    case("StepLRScheduler", {"decay_t": st.integers(1, 50), "decay_rate": f32(0.05, 1)}, "decay_t decay_rate"),
    case(
        "MultiStepLRScheduler",
        {
            "decay_t": st.lists(st.integers(1, 100), min_size=3, max_size=3, unique=True).map(sorted),
            "decay_rate": f32(0.05, 1),
        },
        "decay_t decay_rate",
    ),
    wsd("WSDLRScheduler", stable_decays(["constant"], ["linear", "1-sqrt", "cosine"])),
    wsd(
        "WSDLRScheduler, power and exp",
        stable_decays(["rsqrt"], ["power", "exp"], decay_power=f32(0.25, 3), decay_ratio=f32(0.01, 0.95)),
        "decay_power decay_ratio",
    ),
    wsd(
        "WSDLRScheduler, stable power",
        stable_decays(["power"], ["1-sqrt"], stable_power=f32(0.25, 2), stable_timescale=st.integers(1, 50)),
        "stable_power stable_timescale",
    ),
    factory("create_scheduler_v2", settings(step_on_epochs=True)),
    factory(
        "create_scheduler_v2, in updates",
        settings(step_on_epochs=False, updates_per_epoch=3, stable_timescale=7),
        "updates_per_epoch stable_timescale",
        steps=200,
    ),
]

DIFFERENCES = [
    Difference(
        "CosineLRScheduler",
        {"lr": 0.1, "t_initial": 3, "cycle_mul": 3, "cycle_limit": 9},
        363,
        "its logarithm misses the restart at 363: the rate is 0 and not the peak",
    ),
    Difference(
        "CosineLRScheduler, whole cycle_mul",
        {"lr": 0.1, "t_initial": 10, "cycle_decay": 0.1, "cycle_limit": 3, "lr_min": 0.005, "warmup_prefix": True},
        20,
        "the third peak has decayed below lr_min, and the rate rises to it",
    ),
    Difference(
        "TanhLRScheduler",
        {"lr": 0.1, "t_initial": 3, "cycle_mul": 3, "cycle_limit": 9},
        363,
        "its logarithm misses the restart at 363: the rate is low and not at the peak",
    ),
    Difference(
        "PolyLRScheduler",
        {"lr": 0.1, "t_initial": 3, "cycle_mul": 3, "cycle_limit": 9},
        363,
        "its logarithm misses the restart at 363: the rate is 0 and not the peak",
    ),
    Difference(
        "create_scheduler_v2",
        {"lr": 0.1, "num_epochs": 10, "cycle_limit": 3, "min_lr": 0.005},
        20,
        "the third peak has decayed below min_lr, and the rate rises to it",
    ),
    Difference(
        "create_scheduler_v2, in updates",
        {"lr": 0.1, "num_epochs": 3, "cycle_mul": 3, "cycle_limit": 9, "cycle_decay": 1.0}
        | {"step_on_epochs": False, "updates_per_epoch": 1},
        363,
        "its logarithm misses the restart at 363: the rate is 0 and not the peak",
    ),
]
