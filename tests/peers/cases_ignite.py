"""ignite.handlers.param_scheduler, live."""

from __future__ import annotations

import warnings
from typing import Any

from hypothesis import strategies as st

import jaxsched as js
from jaxsched.compat import torch as our_torch
from jaxsched.compat.others import ignite as ours

from .harness import Case, Difference, f32, rates

PEER = "ignite"


def version() -> str:
    import ignite

    return ignite.__version__


def optimizer_of(lr: float = 1.0) -> Any:
    import torch

    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def values_of(scheduler: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        scheduler(None)
        found.append(scheduler.optimizer_param_groups[0]["lr"])
    return found


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    from ignite.handlers import param_scheduler

    return values_of(getattr(param_scheduler, name)(optimizer_of(), "lr", **arguments), steps)


def pairs(milestones: list[Any]) -> list[Any]:
    return [(event, value) for event, value in milestones]


def piecewise(arguments: dict[str, Any], steps: int) -> list[float]:
    return run("PiecewiseLinear", {"milestones_values": pairs(arguments["milestones_values"])}, steps)


def concat(arguments: dict[str, Any], steps: int) -> list[float]:
    from ignite.handlers import param_scheduler as s

    optimizer, a = optimizer_of(), arguments
    parts = [
        s.PiecewiseLinear(optimizer, "lr", pairs(a["milestones_values"])),
        s.CosineAnnealingScheduler(optimizer, "lr", **a["cosine"]),
        s.LinearCyclicalScheduler(optimizer, "lr", **a["linear"]),
    ]
    return values_of(s.ConcatScheduler(parts, a["durations"]), steps)


def our_concat(milestones_values: Any, cosine: Any, linear: Any, durations: Any) -> Any:
    parts = [
        ours.PiecewiseLinear(milestones_values),
        ours.CosineAnnealingScheduler(**cosine),
        ours.LinearCyclicalScheduler(**linear),
    ]
    return ours.ConcatScheduler(parts, durations)


def from_torch(name: str, wrap: str) -> Any:
    """A scheduler of torch in Ignite."""

    def theirs(arguments: dict[str, Any], steps: int) -> list[float]:
        import torch
        from ignite.handlers import param_scheduler

        a, more = dict(arguments), {}
        for key in ("warmup_start_value", "warmup_duration", "warmup_end_value"):
            if key in a:
                more[key] = a.pop(key)
        scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer_of(a.pop("lr")), **a)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return values_of(getattr(param_scheduler, wrap)(scheduler, **more), steps)

    return theirs


def warmed_cosine(arguments: dict[str, Any], steps: int) -> list[float]:
    from ignite.handlers import param_scheduler as s

    a = dict(arguments)
    cosine = s.CosineAnnealingScheduler(optimizer_of(), "lr", **a.pop("cosine"))
    return values_of(s.create_lr_scheduler_with_warmup(cosine, **a), steps)


def our_warmed_cosine(cosine: Any, **arguments: Any) -> Any:
    return ours.create_lr_scheduler_with_warmup(ours.CosineAnnealingScheduler(**cosine), **arguments)


def our_warmed_step(lr: Any, step_size: Any, gamma: Any, **arguments: Any) -> Any:
    return ours.create_lr_scheduler_with_warmup(our_torch.StepLR(lr, step_size, gamma), **arguments)


def our_restarts(lr: Any, T_0: Any, T_mult: Any, eta_min: Any, peer_exact: bool = False) -> Any:
    return ours.LRScheduler(js.CosineWarmRestarts(lr, T_0, T_mult, eta_min), peer_exact=peer_exact)


def case(
    name: str, draw: Any, numeric: str, make: Any = None, theirs: Any = None, label: str = "", **more: Any
) -> Case:
    return Case(
        f"{name} {label}".strip(),
        make or getattr(ours, name),
        theirs or (lambda arguments, steps: run(name, arguments, steps)),
        draw if isinstance(draw, st.SearchStrategy) else st.fixed_dictionaries(draw),
        tuple(numeric.split()),
        **more,
    )


size = st.integers(2, 60)
# Eighths: their products with whole numbers are exact, so that nothing depends on how lengths are cut off.
eighths = st.integers(8, 24).map(lambda n: n / 8)
ends = {"start_value": rates(), "end_value": st.just(0.0) | rates()}
cycles = {
    **ends,
    "cycle_size": size,
    "cycle_mult": st.just(1.0) | eighths,
    "start_value_mult": f32(0.5, 1.5),
    "end_value_mult": f32(0.5, 1.5),
}
cyclic = "start_value end_value cycle_size cycle_mult start_value_mult end_value_mult"


def points(count: int, equal: bool = False) -> Any:
    gaps = st.lists(st.integers(0 if equal else 1, 30), min_size=count, max_size=count)

    def place(drawn: Any) -> list[Any]:
        at, found = -1 + (not equal), []
        for gap, value in zip(*drawn, strict=True):
            at += gap
            found.append([max(at, 0), value])
        return found

    return st.tuples(gaps, st.lists(st.just(0.0) | rates(), min_size=count, max_size=count)).map(place)


def paths(count: int, prefix: str = "milestones_values") -> str:
    return " ".join(f"{prefix}/{i}/{k}" for i in range(count) for k in (0, 1))


def nested(prefix: str, names: str) -> str:
    return " ".join(f"{prefix}/{name}" for name in names.split())


simple = "start_value end_value cycle_size"
warmup = {"warmup_start_value": st.just(0.0) | rates(), "warmup_duration": st.integers(2, 40)}

CASES = [
    case("LinearCyclicalScheduler", cycles, cyclic),
    case(
        "LinearCyclicalScheduler",
        {**cycles, "warmup_duration": st.integers(0, 20), "monotonic": st.just(True)},
        f"{cyclic} warmup_duration",
        label="monotonic",
    ),
    case("CosineAnnealingScheduler", {**cycles, "warmup_duration": st.integers(0, 20)}, f"{cyclic} warmup_duration"),
    case("PiecewiseLinear", {"milestones_values": points(4)}, paths(4), theirs=piecewise),
    case(
        "PiecewiseLinear", {"milestones_values": points(5, equal=True)}, paths(5), theirs=piecewise, label="with jumps"
    ),
    case(
        "ConcatScheduler",
        {
            "milestones_values": points(3),
            "cosine": st.fixed_dictionaries({**ends, "cycle_size": size}),
            "linear": st.fixed_dictionaries({**ends, "cycle_size": size}),
            "durations": st.lists(st.integers(1, 50), min_size=2, max_size=2),
        },
        f"{paths(3)} {nested('cosine', simple)} {nested('linear', simple)} durations/0 durations/1",
        our_concat,
        concat,
    ),
    case(
        "LRScheduler",
        {"lr": rates(), "step_size": st.integers(1, 50), "gamma": f32(0.05, 1)},
        "lr step_size gamma",
        lambda **arguments: ours.LRScheduler(our_torch.StepLR(**arguments)),
        from_torch("StepLR", "LRScheduler"),
    ),
    case(
        "LRScheduler",
        {"lr": rates(), "gamma": f32(0.5, 1)},
        "lr gamma",
        lambda lr, gamma, peer_exact=False: ours.LRScheduler(our_torch.ExponentialLR(lr, gamma), peer_exact=peer_exact),
        from_torch("ExponentialLR", "LRScheduler"),
        label="ExponentialLR",
        fault=lambda a, t: t >= 0,
    ),
    case(
        "LRScheduler",
        {"lr": rates(), "T_0": st.integers(1, 60), "T_mult": st.integers(1, 3), "eta_min": st.just(0.0) | rates()},
        "lr T_0 T_mult eta_min",
        our_restarts,
        from_torch("CosineAnnealingWarmRestarts", "LRScheduler"),
        label="CosineAnnealingWarmRestarts",
        fault=lambda a, t: t >= 0,
    ),
    case(
        "create_lr_scheduler_with_warmup",
        {
            "lr": rates(),
            "step_size": st.integers(1, 50),
            "gamma": f32(0.05, 1),
            **warmup,
            "warmup_end_value": rates(),
        },
        "lr step_size gamma warmup_start_value warmup_duration warmup_end_value",
        our_warmed_step,
        from_torch("StepLR", "create_lr_scheduler_with_warmup"),
    ),
    case(
        "create_lr_scheduler_with_warmup",
        {"lr": rates(), "step_size": st.integers(1, 50), "gamma": f32(0.05, 1), **warmup},
        "lr step_size gamma warmup_start_value warmup_duration",
        our_warmed_step,
        from_torch("StepLR", "create_lr_scheduler_with_warmup"),
        label="to the first rate",
    ),
    case(
        "create_lr_scheduler_with_warmup",
        # Half of them end the warmup with the first value of what follows.
        st.fixed_dictionaries(
            {**warmup, "warmup_end_value": rates(), "cosine": st.fixed_dictionaries({**ends, "cycle_size": size})}
        )
        | st.fixed_dictionaries({**warmup, "cosine": st.fixed_dictionaries({**ends, "cycle_size": size})}).map(
            lambda a: {**a, "warmup_end_value": a["cosine"]["start_value"]}
        ),
        f"warmup_start_value warmup_duration warmup_end_value {nested('cosine', simple)}",
        our_warmed_cosine,
        warmed_cosine,
        label="of Ignite's own",
    ),
]

DIFFERENCES = [
    Difference(
        "LRScheduler CosineAnnealingWarmRestarts",
        {"lr": 0.5, "T_0": 4, "T_mult": 1, "eta_min": 0.0},
        0,
        "it runs one event ahead: the first rate, the peak, is left out",
    ),
    Difference(
        "LRScheduler ExponentialLR",
        {"lr": 0.5, "gamma": 0.5},
        0,
        "it runs one event ahead: the first rate is cut already",
    ),
]
