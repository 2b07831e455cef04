"""torch.optim.lr_scheduler, live."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import torch as ours

from .harness import Case, Difference, f32, rates

PEER = "torch"


def version() -> str:
    import torch

    return torch.__version__.split("+")[0]


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate in force at each step."""
    import torch

    arguments = dict(arguments)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments.pop("lr"), momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            try:
                scheduler.step()
            except ValueError:  # OneCycleLR refuses to go on after its end
                break
    return found


def case(name: str, draw: dict[str, Any], numeric: str, **more: Any) -> Case:
    return Case(
        name,
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries({"lr": rates(), **draw}),
        ("lr", *numeric.split()),
        **more,
    )


CASES = [
    case("StepLR", {"step_size": st.integers(1, 50), "gamma": f32(0.05, 1)}, "step_size gamma"),
    case("ExponentialLR", {"gamma": f32(0.5, 1)}, "gamma"),
    case(
        "CosineAnnealingLR",
        {"T_max": st.integers(1, 100), "eta_min": st.just(0.0) | rates()},
        "T_max eta_min",
        fault=lambda a, t: t > a["T_max"],
    ),
]

DIFFERENCES = [
    Difference("CosineAnnealingLR", {"lr": 0.1, "T_max": 50}, 100, "it rises again after T_max"),
]
