"""pytorch_warmup, live."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

import jaxsched as js
from jaxsched.compat.others import pytorch_warmup as ours

from .harness import Case, Difference, f32, rates

PEER = "pytorch_warmup"


def version() -> str:
    import pytorch_warmup

    return pytorch_warmup.__version__


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate in force at each step, under an ExponentialLR where there is a `gamma`."""
    import pytorch_warmup
    import torch

    arguments = dict(arguments)
    betas = (0.9, arguments.pop("beta2", 0.999))
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=arguments.pop("lr"), betas=betas)
    gamma = arguments.pop("gamma", None)
    scheduler = None if gamma is None else torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    warmup = getattr(pytorch_warmup, name)(optimizer, **arguments)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warmup.dampening():
            if scheduler is not None:
                scheduler.step()
    return found


def case(name: str, draw: dict[str, Any], numeric: str, label: str = "", keep: Any = None, **more: Any) -> Case:
    def with_schedule(lr: Any, gamma: Any, **arguments: Any) -> Any:
        return getattr(ours, name)(js.ExponentialDecay(lr, gamma, 1), **arguments)

    drawn = st.fixed_dictionaries({"lr": rates(), **draw})
    return Case(
        f"{name} {label}".strip(),
        with_schedule if "gamma" in draw else getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        drawn.filter(keep) if keep else drawn,
        ("lr", *numeric.split()),
        **more,
    )


def cuts(length: int) -> Any:
    """Where `length / (1 - beta2)` is no whole number of steps, until the factor is 1."""

    def mask(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
        steps = length / (1 - a["beta2"])
        return (steps != int(steps)) & (t >= 0)

    return mask


def rises(a: dict[str, Any]) -> bool:
    """Whether the first factor is far enough above 0 that float32 holds seven digits of it."""
    b, t = a["beta2"], 1
    limit = 2 / (1 - b) - 1
    while (r := limit - 2 * t * b**t / (1 - b**t)) <= 4:
        t += 1
    return r > 4.4 and t < 20


period = st.integers(1, 90)
# float32 holds 1 - beta2 with all of its digits there.
beta2 = f32(0.5, 0.98)
last = st.just(-1) | st.integers(0, 20)

CASES = [
    case("LinearWarmup", {"warmup_period": period, "last_step": last}, "warmup_period last_step"),
    case("LinearWarmup", {"warmup_period": period, "gamma": f32(0.9, 1)}, "warmup_period gamma", "of a schedule"),
    case("ExponentialWarmup", {"warmup_period": period, "last_step": last}, "warmup_period last_step"),
    case("UntunedLinearWarmup", {"beta2": beta2, "last_step": last}, "beta2 last_step", fault=cuts(2)),
    case("UntunedExponentialWarmup", {"beta2": beta2, "last_step": last}, "beta2 last_step", fault=cuts(1)),
    # Above 0.97 pytorch_warmup's own sum loses four digits and more.
    case("RAdamWarmup", {"beta2": f32(0.65, 0.97), "last_step": last}, "beta2 last_step", keep=rises),
]

DIFFERENCES = [
    Difference("UntunedLinearWarmup", {"lr": 1.0, "beta2": 0.703125}, 1, "it cuts 6.7 steps of warmup off to 6"),
    Difference("UntunedExponentialWarmup", {"lr": 1.0, "beta2": 0.703125}, 1, "it cuts 3.4 steps of warmup off to 3"),
]
