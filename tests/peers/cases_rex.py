"""The two REXes: pytorch_optimizer's file out of its archive, Axolotl's read from a copy of its repository."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import rex as ours

from . import sources
from .excerpt import excerpt
from .harness import Case, Difference, rates

PEER = "Axolotl and pytorch_optimizer"


def version() -> str:
    import torch

    sources.archive("pytorch_optimizer==4.1.0")
    sources.checkout("axolotl")
    return f"REXScheduler 4.1.0, RexLR as of 2026 (torch {torch.__version__.split('+')[0]})"


def run(make: Any, lr: float, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate in force at each step."""
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer, **arguments)
        for _ in range(steps):
            found.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return found


def axolotl(arguments: dict[str, Any], steps: int) -> list[float]:
    import torch

    path = sources.checkout("axolotl") / "src/axolotl/utils/schedulers.py"
    make = excerpt(path, "RexLR", LRScheduler=torch.optim.lr_scheduler.LRScheduler)["RexLR"]
    lr, *_ = (rest := dict(arguments)).pop("lr"), None
    return run(make, lr, rest, steps)


def pytorch_optimizer(arguments: dict[str, Any], steps: int) -> list[float]:
    path = sources.archive("pytorch_optimizer==4.1.0") / "pytorch_optimizer/lr_scheduler/rex.py"
    return run(sources.load(path).REXScheduler, 0.1, arguments, steps)


def jumps(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    return (t + max(a["last_step"], 1) >= a["total_steps"]) & (a["lr"] != a["max_lr"])


@st.composite
def for_axolotl(draw: Any) -> dict[str, Any]:
    low, high = sorted([draw(st.just(0.0) | rates()), draw(rates())])
    return {
        "lr": draw(st.just(high) | rates()),
        "max_lr": high,
        "min_lr": low,
        "total_steps": draw(st.integers(30, 100)),
        "num_warmup_steps": draw(st.integers(0, 30)),
        "last_step": draw(st.integers(0, 20)),
    }


CASES = [
    Case(
        "AxolotlRexLR",
        ours.AxolotlRexLR,
        axolotl,
        for_axolotl(),
        ("lr", "max_lr", "min_lr", "total_steps", "num_warmup_steps", "last_step"),
        fault=jumps,
    ),
    Case(
        "PytorchOptimizerREXScheduler",
        ours.PytorchOptimizerREXScheduler,
        pytorch_optimizer,
        st.fixed_dictionaries(
            {"total_steps": st.integers(1, 100), "max_lr": rates(), "min_lr": st.just(0.0) | rates()}
        ),
        ("total_steps", "max_lr", "min_lr"),
        fault=lambda a, t: t == 0,
    ),
]

DIFFERENCES = [
    Difference(
        "AxolotlRexLR",
        {"lr": 0.01, "max_lr": 0.1, "min_lr": 0.05, "total_steps": 50, "num_warmup_steps": 5, "last_step": 0},
        60,
        "the rate of a group whose lr is not max_lr jumps to min_lr at the end, here up from 0.005 to 0.05",
    ),
    Difference(
        "PytorchOptimizerREXScheduler",
        {"total_steps": 50, "max_lr": 0.1, "min_lr": 0.001},
        0,
        "the first update has min_lr, not max_lr: the rate is reset after it has been set",
    ),
]
