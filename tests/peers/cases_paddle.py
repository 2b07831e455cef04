"""paddle.optimizer.lr, live."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import paddle as ours

from .harness import Case, Difference, f32, rates

PEER = "paddle"


def version() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a compiler cache that is not there
        import paddle
    return paddle.__version__  # pyright: ignore[reportPrivateImportUsage]


def made(arguments: Any, system: Any) -> Any:
    """A schedule of `system` inside of another's arguments is written as a dict with its name."""
    if not (isinstance(arguments, dict) and "name" in arguments):
        return arguments
    return getattr(system, arguments["name"])(**{k: v for k, v in arguments.items() if k != "name"})


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate in force at each step."""
    version()
    from paddle.optimizer import lr

    scheduler = getattr(lr, name)(**{k: made(v, lr) for k, v in arguments.items()})
    found = []
    for _ in range(steps):
        found.append(float(scheduler()))
        try:
            scheduler.step()
        except ValueError:  # OneCycleLR refuses to go on after its end
            break
    return found


def case(name: str, draw: dict[str, Any], numeric: str, rate: str = "learning_rate", **more: Any) -> Case:
    def build(**arguments: Any) -> Any:
        return getattr(ours, name)(**{k: made(v, ours) for k, v in arguments.items()})

    draw = {rate: rates(), **draw} if rate else draw
    return Case(
        name,
        build,
        lambda arguments, steps: run(name, arguments, steps),
        st.fixed_dictionaries(draw),
        (*([rate] if rate else []), *numeric.split()),
        **more,
    )


resumed = {"last_epoch": st.just(-1) | st.integers(0, 40)}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.sampled_from([1, 3]))
    boundaries = sorted(draw(st.sets(st.integers(1, 100), min_size=count, max_size=count)))
    values = draw(st.lists(rates(), min_size=count + 1, max_size=count + 1))
    return {"boundaries": boundaries, "values": values, "last_epoch": draw(resumed["last_epoch"])}


inner = st.fixed_dictionaries(
    {
        "name": st.just("PolynomialDecay"),
        "learning_rate": rates(),
        "decay_steps": st.integers(1, 60),
        "end_lr": rates(),
        "power": f32(0.5, 2),
    }
) | st.fixed_dictionaries(
    {
        "name": st.just("CosineAnnealingWarmRestarts"),
        "learning_rate": rates(),
        "T_0": st.integers(5, 40),
        "eta_min": rates(),
    }
)
warmups = {
    "warmup_steps": st.integers(1, 40),
    "start_lr": st.just(0.0) | f32(1e-6, 1e-4),
    "end_lr": f32(1e-3, 1),
    **resumed,
}


def warmup_around(name: str, learning_rate: st.SearchStrategy[Any], numeric: str) -> Case:
    made_case = case(
        "LinearWarmup",
        {"learning_rate": learning_rate, **warmups},
        "warmup_steps start_lr end_lr last_epoch " + numeric,
        rate="",
    )
    return dataclasses.replace(made_case, name=name)


one_cycles = {
    "total_steps": st.integers(10, 100),
    "divide_factor": f32(2, 50),
    "end_learning_rate": st.just(0.0) | rates().map(lambda x: float(np.float32(x / 1000))),
}

CASES = [
    case(
        "NoamDecay",
        {"d_model": st.integers(8, 1024), "warmup_steps": st.integers(1, 100), **resumed},
        "d_model warmup_steps last_epoch",
    ),
    Case(
        "PiecewiseDecay",
        ours.PiecewiseDecay,
        lambda arguments, steps: run("PiecewiseDecay", arguments, steps),
        tables(),
        ("boundaries", "values", "last_epoch"),
    ),
    case("NaturalExpDecay", {"gamma": f32(0.01, 0.25), **resumed}, "gamma last_epoch"),
    case("InverseTimeDecay", {"gamma": st.just(0.0) | f32(0.001, 2), **resumed}, "gamma last_epoch"),
    case(
        "PolynomialDecay",
        {
            "decay_steps": st.integers(1, 100),
            "end_lr": st.just(0.0) | rates(),
            "power": st.just(1.0) | f32(0.3, 3),
            "cycle": st.booleans(),
            **resumed,
        },
        "decay_steps end_lr power last_epoch",
    ),
    warmup_around("LinearWarmup", rates(), "learning_rate"),
    warmup_around("LinearWarmup schedule", inner, "learning_rate/learning_rate"),
    case("ExponentialDecay", {"gamma": f32(0.8, 0.999), **resumed}, "gamma last_epoch"),
    case(
        "MultiStepDecay",
        {
            "milestones": st.sets(st.integers(1, 100), min_size=3, max_size=3).map(sorted),
            "gamma": f32(0.05, 0.95),
            **resumed,
        },
        "milestones gamma last_epoch",
    ),
    case(
        "StepDecay",
        {"step_size": st.integers(10, 60), "gamma": f32(0.1, 0.95), **resumed},
        "step_size gamma last_epoch",
    ),
    # Paddle's recursion divides by 1 + cos near its bottom, which loses the digits of 1 / T_max^2.
    case(
        "CosineAnnealingDecay",
        {"T_max": st.integers(1, 40), "eta_min": st.just(0.0) | rates()},
        "T_max eta_min",
        fault=lambda a, t: t > a["T_max"],
    ),
    case(
        "OneCycleLR",
        {
            **one_cycles,
            "phase_pct": f32(0.15, 0.45),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
            "three_phase": st.booleans(),
        },
        "total_steps divide_factor end_learning_rate phase_pct",
        rate="max_learning_rate",
        fault=lambda a, t: t >= a["total_steps"],
    ),
    case(
        "CyclicLR",
        {
            "base_learning_rate": rates(),
            "step_size_up": st.integers(1, 40),
            "step_size_down": st.none() | st.integers(1, 40),
            "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
            "exp_gamma": f32(0.9, 1),
            **resumed,
        },
        "base_learning_rate step_size_up exp_gamma last_epoch",
        rate="max_learning_rate",
    ),
    case(
        "LinearLR",
        {
            "total_steps": st.integers(1, 100),
            "start_factor": f32(0.001, 1),
            "end_factor": st.sampled_from([0.0, 1.0]) | f32(0.001, 1),
        },
        "total_steps start_factor end_factor",
    ),
    case(
        "CosineAnnealingWarmRestarts",
        {"T_0": st.integers(1, 40), "T_mult": st.integers(1, 3), "eta_min": st.just(0.0) | rates()},
        "T_0 T_mult eta_min",
    ),
]

FUNCTIONS = {
    "constant": lambda epoch: 0.96875 + 0 * epoch,
    "hyperbola": lambda epoch: 1 - 0.5 / (1 + epoch),
    "ever slower": lambda epoch: 1 / (1 + 0.25 / (1 + epoch)),
}


def function_case(name: str, argument: str, **more: Any) -> Case:
    """A class that takes a function, which JSON holds by its name."""

    def put(arguments: dict[str, Any]) -> dict[str, Any]:
        return {**arguments, argument: FUNCTIONS[arguments[argument]]}

    named = {"learning_rate": rates(), argument: st.sampled_from(list(FUNCTIONS)), **resumed}
    return Case(
        name,
        lambda **arguments: getattr(ours, name)(**put(arguments), **more),
        lambda arguments, steps: run(name, put(arguments), steps),
        st.fixed_dictionaries(named),
        ("learning_rate", "last_epoch"),
        steps=24,
    )


CASES += [function_case("LambdaDecay", "lr_lambda"), function_case("MultiplicativeDecay", "lr_lambda", horizon=80)]

DIFFERENCES = [
    Difference("CosineAnnealingDecay", {"learning_rate": 0.1, "T_max": 20}, 40, "it rises again after T_max"),
    Difference(
        "OneCycleLR",
        {"max_learning_rate": 0.1, "total_steps": 10, "anneal_strategy": "cos"},
        10,
        "it rises again after its last step",
    ),
    Difference(
        "OneCycleLR",
        {"max_learning_rate": 0.1, "total_steps": 10, "anneal_strategy": "linear"},
        10,
        "it falls below end_learning_rate, here below 0, after its last step",
    ),
]
