"""mmengine.optim.scheduler, live."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import mmengine as ours

from .harness import Case, Difference, f32, rates

PEER = "mmengine"
INF = ours.INF


def version() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmengine.optim
    return mmengine.__version__


def optimizer_of(rate: float, key: str = "lr") -> Any:
    version()
    import torch

    values: dict[str, Any] = {"lr": 0.1, "momentum": 0.5, key: rate}
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], **values)


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate, or the momentum, in force at each step of the scheduler."""
    key = "lr" if "lr" in arguments else "momentum"
    return run_list(
        arguments[key], [{"type": name, **{k: v for k, v in arguments.items() if k != key}}], steps, key=key
    )


def run_list(rate: float, configs: Any, steps: int, epoch_length: int | None = None, key: str = "lr") -> list[float]:
    """As mmengine's hook does it: what counts iterations after each, and what counts epochs after each of these."""
    optimizer = optimizer_of(rate, key)
    from mmengine.registry import PARAM_SCHEDULERS

    given = {"optimizer": optimizer, "epoch_length": epoch_length}
    found: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedulers = [PARAM_SCHEDULERS.build(dict(config), default_args=given) for config in configs]
        for t in range(1, steps + 1):
            found.append(float(optimizer.param_groups[0][key]))
            ends = epoch_length is None or t % epoch_length == 0
            try:
                for scheduler in schedulers:
                    if not scheduler.by_epoch:
                        scheduler.step()
                for scheduler in schedulers:
                    if scheduler.by_epoch and ends:
                        scheduler.step()
            except (ValueError, ZeroDivisionError):  # OneCycleLR after its end; a factor of 0
                break
    return found


@st.composite
def windowed(
    draw: st.DrawFn, fields: dict[str, Any], rate: str, longest: int = 60, endless: bool = True
) -> dict[str, Any]:
    begin = draw(st.just(0) | st.integers(1, 30))
    end = begin + draw(st.just(1) | st.integers(2, longest))
    end = draw(st.just(end) | st.just(INF)) if endless else end
    return {rate: draw(rates()), **draw(st.fixed_dictionaries(fields)), "begin": begin, "end": end}


def case(name: str, draw: dict[str, Any], numeric: str, rate: str = "lr", **more: Any) -> Case:
    fault, words = more.pop("fault", None), more.pop("words", "")
    return Case(
        f"{name} {words}".strip(),
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        windowed(draw, rate, **more),
        (rate, "begin", "end", *numeric.split()),
        fault=fault,
    )


def one_step(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    """In the window that is one step long, and after it."""
    return (a["end"] - a["begin"] == 1) & (t >= a["begin"])


def after_the_wave(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    steps = a["T_max"] or a["end"] - a["begin"]
    return (t - a["begin"] > steps) & (a["end"] - a["begin"] - 1 > steps)


def after_the_waves(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    steps = sum(a["periods"])
    return (t - a["begin"] >= steps) & (a["end"] - a["begin"] > steps)


def after_the_cycle(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    steps = a["total_steps"] or a["end"] - a["begin"]
    return (t - a["begin"] >= steps) & (a["end"] - a["begin"] > steps)


floors = st.sampled_from(["eta_min", "eta_min_ratio"])
CONSTANT = {"factor": f32(0.001, 1)}
EXPONENTIAL = {"gamma": f32(0.8, 1)}
STEP = {"step_size": st.integers(8, 40), "gamma": f32(0.1, 1)}
MULTI = {"milestones": st.sets(st.integers(0, 60), min_size=3, max_size=3).map(sorted), "gamma": f32(0.1, 1)}
LINEAR = {"start_factor": f32(0.001, 1), "end_factor": st.sampled_from([0.0, 1.0]) | f32(0.001, 1)}
POLY = {"eta_min": st.just(0.0) | rates(), "power": st.just(1.0) | f32(0.3, 3)}
# mmengine's recursion divides by 1 + cos near its bottom, which loses the digits of 1 / T_max^2.
COSINE = {"T_max": st.integers(1, 40), "eta_min": st.just(0.0) | rates()}
RESTART = {
    "periods": st.lists(st.integers(2, 40), min_size=2, max_size=2),
    "restart_weights": st.lists(f32(0.1, 2), min_size=2, max_size=2),
}
LONG = st.lists(st.integers(8, 40), min_size=2, max_size=2)
CYCLE = {
    "eta_max": rates(),
    "total_steps": st.integers(10, 60),
    "pct_start": f32(0.2, 0.45),
    "anneal_strategy": st.sampled_from(["cos", "linear"]),
    "div_factor": f32(2, 50),
    "final_div_factor": f32(1, 1000),
    "three_phase": st.booleans(),
}

CASES = [
    case("ConstantLR", CONSTANT, "factor", fault=one_step),
    case("ExponentialLR", EXPONENTIAL, "gamma"),
    case("StepLR", STEP, "step_size gamma"),
    case("MultiStepLR", MULTI, "milestones gamma"),
    case("LinearLR", LINEAR, "start_factor end_factor", fault=one_step, endless=False),
    case("PolyLR", POLY, "eta_min power", fault=one_step, endless=False),
    case("CosineAnnealingLR", COSINE, "T_max eta_min", fault=after_the_wave),
    case(
        "CosineAnnealingLR",
        {"T_max": st.none(), "eta_min_ratio": f32(0.001, 0.5)},
        "eta_min_ratio",
        words="ratio",
        longest=40,
        endless=False,
        fault=after_the_wave,
    ),
    case(
        "CosineRestartLR",
        {**RESTART, "eta_min": st.just(0.0) | rates()},
        "periods restart_weights eta_min",
        fault=after_the_waves,
    ),
    case(
        "CosineRestartLR",
        {**RESTART, "eta_min_ratio": st.just(0.0) | f32(0.01, 1)},
        "periods restart_weights eta_min_ratio",
        words="ratio",
        fault=after_the_waves,
    ),
    case(
        "OneCycleLR",
        CYCLE,
        "eta_max total_steps pct_start div_factor final_div_factor",
        fault=after_the_cycle,
    ),
    case("ConstantMomentum", CONSTANT, "factor", rate="momentum", fault=one_step),
    case("CosineAnnealingMomentum", COSINE, "T_max eta_min", rate="momentum", fault=after_the_wave),
    case(
        "CosineRestartMomentum",
        {**RESTART, "eta_min": st.just(0.0) | rates()},
        "periods restart_weights eta_min",
        rate="momentum",
        fault=after_the_waves,
    ),
    case("ExponentialMomentum", EXPONENTIAL, "gamma", rate="momentum"),
    case("LinearMomentum", LINEAR, "start_factor end_factor", rate="momentum", fault=one_step, endless=False),
    case("MultiStepMomentum", MULTI, "milestones gamma", rate="momentum"),
    case("PolyMomentum", POLY, "eta_min power", rate="momentum", fault=one_step, endless=False),
    case("StepMomentum", STEP, "step_size gamma", rate="momentum"),
]


def config(name: str, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    drawn = {k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in fields.items()}
    return st.fixed_dictionaries({"type": st.just(name), **drawn})


def mixed(words: str, numeric: str, *configs: Any, horizon: int | None = None, **fields: Any) -> Case:
    """A list of schedulers; what is drawn in "then" begins where the one before it ends."""

    @st.composite
    def drawn(draw: st.DrawFn) -> dict[str, Any]:
        found = {"lr": draw(rates()), "configs": [draw(config) for config in configs]}
        for before, after in zip(found["configs"], found["configs"][1:], strict=False):
            if "then" in after:
                after["begin"] = before["end"]
                after["end"] = before["end"] + after.pop("then")
        return {**found, **{k: draw(v) for k, v in fields.items()}}

    def build(**arguments: Any) -> Any:
        return ours.param_scheduler(**arguments, horizon=horizon)

    def theirs(arguments: dict[str, Any], steps: int) -> list[float]:
        return run_list(arguments["lr"], arguments["configs"], steps, arguments.get("epoch_length"))

    paths = tuple(f"configs/{path}" if "/" in path else path for path in ("lr", *numeric.split()))
    return Case(f"param_scheduler {words}", build, theirs, drawn(), paths)


up = {"start_factor": f32(0.001, 1), "begin": 0}
CASES += [
    mixed(
        "one after the other",
        "0/start_factor 0/end 1/begin 1/end 1/T_max 1/eta_min 2/begin 2/end 2/factor",
        config("LinearLR", **up, end=st.integers(2, 40)),
        config("CosineAnnealingLR", T_max=st.just(40), eta_min=rates(), then=st.integers(1, 40)),
        config("ConstantLR", factor=f32(0.1, 1), then=st.integers(2, 40)),
    ),
    mixed(
        "by iteration and by epoch",
        "0/start_factor 0/end 1/begin 1/end 1/eta_min 1/power epoch_length",
        config("LinearLR", **up, by_epoch=False, end=st.integers(2, 20)),
        config("PolyLR", begin=st.integers(5, 8), end=st.integers(12, 30), eta_min=rates(), power=f32(0.5, 2)),
        epoch_length=st.integers(4, 8),
    ),
    mixed(
        "made to count iterations",
        "0/start_factor 0/end 1/T_max 1/begin 1/end epoch_length",
        config("LinearLR", **up, convert_to_iter_based=True, end=st.integers(1, 4)),
        config(
            "CosineAnnealingLR",
            begin=0,
            end=st.integers(5, 8),
            T_max=st.integers(8, 10),
            convert_to_iter_based=True,
        ),
        epoch_length=st.integers(2, 4),
    ),
    mixed(
        "all at once",
        "0/start_factor 0/end 1/gamma 1/milestones 2/gamma 2/begin 2/end",
        config("LinearLR", **up, end=st.integers(2, 60)),
        config(
            "MultiStepLR", milestones=st.sets(st.integers(0, 99), min_size=3, max_size=3).map(sorted), gamma=f32(0.3, 1)
        ),
        config("ExponentialLR", gamma=f32(0.95, 1), begin=st.integers(0, 20), end=st.integers(21, 60)),
    ),
    mixed(
        "after a cycle",
        "0/eta_max 0/end 1/begin 1/end 1/periods 1/restart_weights 1/eta_min_ratio",
        config("OneCycleLR", eta_max=rates(), begin=0, end=st.integers(10, 40)),
        config("CosineRestartLR", **{**RESTART, "periods": LONG}, eta_min_ratio=f32(0.01, 1), then=st.just(10)),
    ),
    mixed(
        "on each other",
        "0/start_factor 0/end 1/T_max 1/eta_min 1/begin 2/power 2/eta_min",
        config("LinearLR", **up, end=st.integers(2, 16)),
        config(
            "CosineAnnealingLR", begin=st.integers(0, 5), end=st.just(18), T_max=st.integers(18, 20), eta_min=rates()
        ),
        config("PolyLR", begin=st.just(16), end=st.integers(24, 30), power=f32(0.5, 2), eta_min=rates()),
        horizon=30,
    ),
]
DIFFERENCES = [
    Difference("ConstantLR", {"lr": 0.1, "begin": 0, "end": 1}, 5, "a window of one step never gives the rate back"),
    Difference("LinearLR", {"lr": 0.1, "begin": 0, "end": 1}, 5, "a window of one step never comes to end_factor"),
    Difference("PolyLR", {"lr": 0.1, "begin": 0, "end": 1}, 5, "a window of one step never comes to eta_min"),
    Difference("CosineAnnealingLR", {"lr": 0.1, "T_max": 20}, 40, "it rises again after T_max"),
    Difference(
        "CosineAnnealingLR ratio",
        {"lr": 0.1, "T_max": 20, "eta_min_ratio": 0.1},
        40,
        "it rises again after T_max",
    ),
    Difference(
        "CosineRestartLR",
        {"lr": 0.1, "periods": [5, 5], "restart_weights": [1.0, 0.5], "eta_min": 0.0},
        20,
        "it stops one step short of eta_min for ever",
    ),
    Difference(
        "CosineRestartLR ratio",
        {"lr": 0.1, "periods": [5, 5], "restart_weights": [1.0, 0.5], "eta_min_ratio": 0.01},
        20,
        "it stops one step short of eta_min for ever",
    ),
    Difference(
        "OneCycleLR",
        {"lr": 0.1, "eta_max": 0.1, "total_steps": 10},
        10,
        "it rises again after its last step",
    ),
    Difference(
        "OneCycleLR",
        {"lr": 0.1, "eta_max": 0.1, "total_steps": 10, "anneal_strategy": "linear"},
        10,
        "it falls below its end, here below 0, after its last step",
    ),
    *(
        Difference(row, {"momentum": 0.9, "begin": 0, "end": 1}, 5, why)
        for row, why in [
            ("ConstantMomentum", "a window of one step never gives the momentum back"),
            ("LinearMomentum", "a window of one step never comes to end_factor"),
            ("PolyMomentum", "a window of one step never comes to eta_min"),
        ]
    ),
    Difference("CosineAnnealingMomentum", {"momentum": 0.9, "T_max": 20}, 40, "it rises again after T_max"),
    Difference(
        "CosineRestartMomentum",
        {"momentum": 0.9, "periods": [5, 5], "restart_weights": [1.0, 0.5], "eta_min": 0.0},
        20,
        "it stops one step short of eta_min for ever",
    ),
]
