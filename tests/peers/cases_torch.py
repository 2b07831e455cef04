"""torch.optim.lr_scheduler, live."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat import torch as ours

from .harness import Case, Difference, f32, rates

PEER = "torch"


def version() -> str:
    import torch

    return torch.__version__.split("+")[0]


# --- schedulers of names and arguments, theirs and ours --------------------------------------------------------------
# {"name": "LinearLR", "total_iters": 5}, and with "schedulers" inside of one another; functions by their names.

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "inverse": lambda t: 1 / (1 + 0.25 * t),
    "halves": lambda t: 0.5**t,
    "jump": lambda t: 1.0 if t < 30 else 0.25 if t % 2 else 0.5,  # which JAX cannot trace
    "parity": lambda t: 0.75 if t % 3 else 1.25,
    "shrink": lambda t: 1 - 0.5 / (1 + t),
    "cubic": lambda x: 1 / (1 + 0.125 * x),
}


def functions(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: FUNCTIONS[v] if k in ("lr_lambda", "scale_fn") else v for k, v in arguments.items()}


def make(optimizer: Any, name: str, arguments: dict[str, Any]) -> Any:
    """A live scheduler."""
    import torch

    arguments = functions({k: v for k, v in arguments.items() if k not in ("lr", "name", "horizon")})
    if "schedulers" in arguments:
        parts = [make(optimizer, part["name"], part) for part in arguments.pop("schedulers")]
        if name == "ChainedScheduler":
            return torch.optim.lr_scheduler.ChainedScheduler(parts)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, parts, **arguments)
    home = torch.optim.swa_utils if name == "SWALR" else torch.optim.lr_scheduler
    return getattr(home, name)(optimizer, **arguments)


def new_optimizer(lr: float = 0.5) -> Any:
    import torch

    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)


def run(name: str, arguments: dict[str, Any], steps: int, key: str = "lr", by_epoch: bool = False) -> list[float]:
    """The rate (or the momentum) in force at each step."""
    optimizer, found = new_optimizer(arguments.get("lr", 0.5)), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer, name, arguments)
        for t in range(steps):
            found.append(optimizer.param_groups[0][key])
            optimizer.step()
            try:
                scheduler.step(*([t + 1] if by_epoch else []))
            except (ValueError, ZeroDivisionError):  # after the end of OneCycleLR, and at that of ConstantLR(factor=0)
                break
    return found


def build(name: str, arguments: dict[str, Any], lr: Any = None, **more: Any) -> Any:
    """Ours."""
    arguments = functions({k: v for k, v in arguments.items() if k != "name"})
    if "schedulers" in arguments:
        arguments["schedulers"] = [build(part["name"], part, lr) for part in arguments["schedulers"]]
    elif name not in ("OneCycleLR", "CyclicLR"):
        arguments["lr"] = lr
    return getattr(ours, name)(**arguments, **more)


def case(
    name: str,
    draw: dict[str, Any],
    numeric: str,
    label: str = "",
    key: str = "lr",
    by_epoch: bool = False,
    takes_lr: bool = True,
    **more: Any,
) -> Case:
    def our(lr: Any = None, **arguments: Any) -> Any:
        exact = {"peer_exact": arguments.pop("peer_exact")} if "peer_exact" in arguments else {}
        schedule = build(name, arguments, lr, **exact)
        return schedule.momentum if key == "momentum" else schedule

    return Case(
        f"{name} {label}".strip(),
        our,
        lambda arguments, steps: run(name, arguments, steps, key, by_epoch),
        st.fixed_dictionaries({**({"lr": rates()} if takes_lr else {}), **draw}),
        (*(["lr"] if takes_lr else []), *numeric.split()),
        **more,
    )


# --- what is drawn ---------------------------------------------------------------------------------------------------

unit, floor = f32(0, 1), st.just(0.0) | rates()


def part(name: str, **draw: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"name": st.just(name), **draw})


def parts(*each: Any) -> dict[str, Any]:
    return {"schedulers": st.tuples(*each).map(list)}


def milestones(*each: st.SearchStrategy[int]) -> dict[str, Any]:
    """Each so many steps after the one before."""
    return {"milestones": st.tuples(*each).map(lambda gaps: np.cumsum(gaps).tolist())}


def empty_mostly_not(least: int, most: int) -> st.SearchStrategy[int]:
    return st.just(0) | st.integers(least, most)


linear = part("LinearLR", start_factor=f32(0.05, 1), total_iters=st.integers(1, 30))
constant = part("ConstantLR", factor=f32(0.05, 1), total_iters=st.integers(1, 30))
exponential = part("ExponentialLR", gamma=f32(0.9, 1))
stepped = part("StepLR", step_size=st.integers(1, 40), gamma=f32(0.25, 1))
cosine = part("CosineAnnealingLR", T_max=st.integers(2, 100), eta_min=floor)
polynomial = part("PolynomialLR", total_iters=st.integers(1, 60), power=f32(0.5, 3))
swa = part(
    "SWALR", swa_lr=rates(), anneal_epochs=st.integers(0, 30), anneal_strategy=st.sampled_from(["cos", "linear"])
)
restarts = part("CosineAnnealingWarmRestarts", T_0=st.integers(1, 40), T_mult=st.integers(1, 3), eta_min=floor)

one_cycle = {
    "max_lr": rates(),
    "total_steps": st.integers(40, 120),
    "pct_start": f32(0.0625, 0.4375),
    "anneal_strategy": st.sampled_from(["cos", "linear"]),
    "three_phase": st.booleans(),
}
factors = {"div_factor": f32(2, 50), "final_div_factor": f32(1, 1e4)}
momenta = {"base_momentum": f32(0.5, 0.85), "max_momentum": f32(0.85, 0.99)}
cyclic = {
    "base_lr": rates(),
    "max_lr": rates(),
    "step_size_up": st.integers(1, 30),
    "step_size_down": st.integers(1, 30),
}

CASES = [
    case("LambdaLR", {"lr_lambda": st.sampled_from(["inverse", "halves"])}, ""),
    case("LambdaLR", {"lr_lambda": st.just("jump"), "horizon": st.sampled_from([128, 150])}, "", "horizon"),
    case(
        "MultiplicativeLR",
        {"lr_lambda": st.sampled_from(["parity", "shrink"]), "horizon": st.just(128)},
        "",
    ),
    case("StepLR", {"step_size": st.integers(1, 50), "gamma": f32(0.05, 1)}, "step_size gamma"),
    case(
        "MultiStepLR",
        {"milestones": st.lists(st.integers(0, 120), min_size=3, max_size=3), "gamma": f32(0.05, 1)},
        "milestones gamma",
    ),
    case(
        "MultiStepLR",
        {"milestones": st.tuples(f32(0, 40), f32(41, 80).map(np.floor)).map(list), "gamma": f32(0.05, 0.9)},
        "milestones gamma",
        "between steps",
        fault=lambda a, t: (a["milestones"][0] % 1 != 0) & (t >= a["milestones"][0]),
    ),
    case(
        "ConstantLR",
        {"factor": f32(0, 1), "total_iters": empty_mostly_not(1, 100)},
        "factor total_iters",
        fault=lambda a, t: (a["total_iters"] == 0) & (t >= 0),
    ),
    case(
        "LinearLR",
        {"start_factor": f32(0.01, 1), "end_factor": unit, "total_iters": empty_mostly_not(1, 100)},
        "start_factor end_factor total_iters",
        fault=lambda a, t: (a["total_iters"] == 0) & (t >= 0),
    ),
    case("ExponentialLR", {"gamma": f32(0.5, 1)}, "gamma"),
    case(
        "PolynomialLR",
        {"total_iters": empty_mostly_not(1, 100), "power": f32(0.25, 4)},
        "total_iters power",
        fault=lambda a, t: (a["total_iters"] == 0) & (t >= 0),
    ),
    # Where it rises again, torch comes back from a floor far above the rate by a difference, which loses its digits.
    case(
        "CosineAnnealingLR",
        {"lr": f32(0.125, 1), "T_max": st.integers(1, 100), "eta_min": floor},
        "T_max eta_min",
        fault=lambda a, t: t > a["T_max"],
    ),
    case(
        "CosineAnnealingWarmRestarts",
        {"T_0": st.integers(1, 50), "T_mult": st.integers(1, 4), "eta_min": floor},
        "T_0 T_mult eta_min",
    ),
    case(
        "CosineAnnealingWarmRestarts",
        {"T_0": st.integers(1, 5), "T_mult": st.integers(1, 5), "eta_min": floor},
        "T_0 T_mult eta_min",
        "step(epoch)",
        by_epoch=True,
        steps=400,
        fault=lambda a, t: ours._missed()[a["T_mult"], cycles(a, t)] & np.isin(t, starts(a)),
    ),
    case(
        "CyclicLR",
        {**cyclic, "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]), "gamma": f32(0.9, 1)},
        "base_lr max_lr step_size_up step_size_down gamma",
        takes_lr=False,
    ),
    case(
        "CyclicLR",
        {
            **{k: v for k, v in cyclic.items() if k != "step_size_down"},
            "scale_fn": st.just("cubic"),
            "scale_mode": st.sampled_from(["cycle", "iterations"]),
        },
        "base_lr max_lr step_size_up",
        "scale_fn",
        takes_lr=False,
    ),
    case(
        "CyclicLR",
        {**cyclic, **momenta, "mode": st.sampled_from(["triangular", "triangular2"])},
        "step_size_up step_size_down base_momentum max_momentum",
        "momentum",
        key="momentum",
        takes_lr=False,
    ),
    case(
        "OneCycleLR",
        {**one_cycle, **factors},
        "max_lr total_steps pct_start div_factor final_div_factor",
        takes_lr=False,
        fault=lambda a, t: t == a["total_steps"],
    ),
    case(
        "OneCycleLR",
        {"max_lr": rates(), "epochs": st.integers(2, 10), "steps_per_epoch": st.integers(4, 12)},
        "max_lr epochs steps_per_epoch",
        "epochs",
        takes_lr=False,
        fault=lambda a, t: t == a["epochs"] * a["steps_per_epoch"],
    ),
    case(
        "OneCycleLR",
        {**one_cycle, "total_steps": st.integers(129, 200), **momenta},
        "total_steps pct_start base_momentum max_momentum",
        "momentum",
        key="momentum",
        takes_lr=False,
    ),
    case(
        "SWALR",
        {
            "swa_lr": rates(),
            "anneal_epochs": empty_mostly_not(1, 100),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
        },
        "swa_lr anneal_epochs",
    ),
    case(
        "SequentialLR",
        {**parts(linear, stepped, polynomial), **milestones(st.integers(1, 40), st.integers(1, 40))},
        "milestones schedulers/0/start_factor schedulers/0/total_iters schedulers/1/step_size schedulers/1/gamma "
        "schedulers/2/total_iters schedulers/2/power",
    ),
    case(
        "SequentialLR",
        {"lr": f32(0.125, 1), **parts(constant, cosine, swa), **milestones(st.integers(1, 30), st.integers(1, 60))},
        "milestones schedulers/0/factor schedulers/0/total_iters schedulers/1/T_max schedulers/1/eta_min "
        "schedulers/2/swa_lr schedulers/2/anneal_epochs",
        "to SWALR",
        fault=lambda a, t: t > a["milestones"][0] + a["schedulers"][1]["T_max"],
    ),
    case(
        "SequentialLR",
        {
            **parts(exponential, restarts, part("LambdaLR", lr_lambda=st.just("inverse"))),
            **milestones(st.integers(1, 30), st.integers(1, 60)),
        },
        "milestones schedulers/0/gamma schedulers/1/T_0 schedulers/1/T_mult schedulers/1/eta_min",
        "of rates that are set",
    ),
    case(
        "SequentialLR",
        {
            **parts(
                st.fixed_dictionaries(
                    {
                        "name": st.just("SequentialLR"),
                        **parts(part("ExponentialLR", gamma=f32(0.5, 0.95)), stepped),
                        **milestones(st.integers(2, 20)),
                    }
                ),
                polynomial,
            ),
            **milestones(st.integers(30, 50)),
        },
        "milestones schedulers/0/milestones schedulers/0/schedulers/0/gamma schedulers/0/schedulers/1/step_size "
        "schedulers/0/schedulers/1/gamma schedulers/1/total_iters schedulers/1/power",
        "nested",
        fault=lambda a, t: t < a["milestones"][0],
    ),
    case(
        "SequentialLR",
        {
            **parts(
                st.fixed_dictionaries({"name": st.just("ChainedScheduler"), **parts(linear, polynomial)}),
                part("ExponentialLR", gamma=f32(0.9, 1)),
            ),
            **milestones(st.integers(30, 50)),
        },
        "milestones schedulers/0/schedulers/0/start_factor schedulers/0/schedulers/0/total_iters "
        "schedulers/0/schedulers/1/total_iters schedulers/0/schedulers/1/power schedulers/1/gamma",
        "of a chain",
        fault=lambda a, t: t < a["milestones"][0],
    ),
    case(
        "ChainedScheduler",
        parts(linear, stepped, part("PolynomialLR", total_iters=st.integers(1, 100), power=f32(0.5, 3))),
        "schedulers/0/start_factor schedulers/0/total_iters schedulers/1/step_size schedulers/1/gamma "
        "schedulers/2/total_iters schedulers/2/power",
    ),
    # After T_max torch's rates may cross 0, where nothing is left of their digits, unless the others have come to rest.
    # And they rise from the floor by a difference that grows T_max^2 times: a floor far below the rate leaves digits.
    case(
        "ChainedScheduler",
        {
            "lr": f32(0.0625, 1),
            **parts(linear, part("CosineAnnealingLR", T_max=st.integers(31, 100), eta_min=f32(0, 2**-14)), constant),
        },
        "schedulers/0/start_factor schedulers/0/total_iters schedulers/1/T_max schedulers/1/eta_min "
        "schedulers/2/factor schedulers/2/total_iters",
        "to a floor",
        fault=lambda a, t: t > a["schedulers"][1]["T_max"],
    ),
    case(
        "ChainedScheduler",
        parts(linear, part("CosineAnnealingLR", T_max=st.integers(127, 300), eta_min=floor), exponential),
        "schedulers/0/start_factor schedulers/0/total_iters schedulers/1/T_max schedulers/1/eta_min schedulers/2/gamma",
        "to a floor that falls",
    ),
    case(
        "ChainedScheduler",
        parts(constant, swa, stepped),
        "schedulers/0/factor schedulers/0/total_iters schedulers/1/swa_lr schedulers/1/anneal_epochs "
        "schedulers/2/step_size schedulers/2/gamma",
        "of SWALR",
    ),
    case(
        "ChainedScheduler",
        parts(linear, restarts, stepped),
        "schedulers/0/start_factor schedulers/0/total_iters schedulers/1/T_0 schedulers/1/T_mult "
        "schedulers/1/eta_min schedulers/2/step_size schedulers/2/gamma",
        "of rates that are set",
    ),
]


def starts(a: dict[str, Any]) -> np.ndarray:
    """The steps at which the cycles begin."""
    return np.cumsum([0, *(a["T_0"] * a["T_mult"] ** np.arange(8))]) if a["T_mult"] > 1 else np.arange(0, 400, a["T_0"])


def cycles(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(starts(a), t, side="right") - 1, 63)


inner = {"name": "SequentialLR", "schedulers": [{"name": "ExponentialLR", "gamma": 0.5},
         {"name": "StepLR", "step_size": 2, "gamma": 0.5}], "milestones": [5]}  # fmt: skip
ends = {"name": "PolynomialLR", "total_iters": 5, "power": 1.0}
chain = {"name": "ChainedScheduler", "schedulers": [{"name": "LinearLR", "start_factor": 0.5, "total_iters": 3}, ends]}
warm = {"name": "LinearLR", "start_factor": 0.5, "total_iters": 3}
cosine_to = {"name": "CosineAnnealingLR", "T_max": 4, "eta_min": 0.0625}
slow = {"name": "ExponentialLR", "gamma": 0.5}

DIFFERENCES = [
    Difference("MultiStepLR between steps", {"lr": 0.1, "milestones": [2.5, 60.0], "gamma": 0.5}, 10,
               "a milestone between two steps is never reached, in silence"),
    Difference("ConstantLR", {"lr": 0.1, "factor": 0.5, "total_iters": 0}, 10,
               "with total_iters=0 the factor stays for ever"),
    Difference("LinearLR", {"lr": 0.1, "start_factor": 0.5, "end_factor": 1.0, "total_iters": 0}, 10,
               "with total_iters=0 it stays at start_factor for ever, and never comes to end_factor"),
    Difference("PolynomialLR", {"lr": 0.1, "total_iters": 0, "power": 1.0}, 10,
               "with total_iters=0 it stays at lr for ever, and never comes to 0"),
    Difference("CosineAnnealingLR", {"lr": 0.1, "T_max": 50, "eta_min": 0.0}, 100, "it rises again after T_max"),
    Difference("CosineAnnealingWarmRestarts step(epoch)", {"lr": 0.1, "T_0": 3, "T_mult": 3, "eta_min": 0.001}, 363,
               "step(epoch) misses restarts by a logarithm that is rounded: at 363 the rate is eta_min"),
    Difference("OneCycleLR", {"max_lr": 0.1, "total_steps": 50, "pct_start": 0.25, "anneal_strategy": "linear",
               "three_phase": False, "div_factor": 25.0, "final_div_factor": 1e4}, 50,
               "at step total_steps, which it still makes, the rate is below 0 (linear)"),
    Difference("OneCycleLR epochs", {"max_lr": 0.1, "epochs": 5, "steps_per_epoch": 10}, 50,
               "at step total_steps, which it still makes, the rate bounces"),
    Difference("SequentialLR nested", {"lr": 0.5, "schedulers": [inner, ends], "milestones": [12]}, 0,
               "a SequentialLR inside of another is one step ahead"),
    Difference("SequentialLR of a chain", {"lr": 0.5, "schedulers": [chain, slow], "milestones": [12]}, 0,
               "a ChainedScheduler inside of a SequentialLR makes a step too many at its start"),
    Difference("SequentialLR to SWALR", {"lr": 0.5, "schedulers": [{"name": "ConstantLR", "factor": 0.5,
               "total_iters": 3}, cosine_to, {"name": "SWALR", "swa_lr": 0.01, "anneal_epochs": 5,
               "anneal_strategy": "cos"}], "milestones": [5, 12]}, 11, "its cosine rises again after T_max"),
    Difference("ChainedScheduler to a floor", {"lr": 1.0, "schedulers": [warm, cosine_to, slow]}, 8,
               "its cosine goes on after T_max, to rates below 0"),
]  # fmt: skip
