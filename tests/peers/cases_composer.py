"""composer.optim.scheduler (mosaicml), run alone, on the time of its own `composer.core.time`."""

from __future__ import annotations

import functools
import sys
import types
import warnings
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import composer as ours

from . import sources
from .harness import Case, Difference, f32, rates

PEER = "composer"
REQUIREMENT = "mosaicml==0.32.1"


def version() -> str:
    sources.archive(REQUIREMENT)
    return REQUIREMENT.partition("==")[2]


@functools.cache
def loaded() -> tuple[Any, Any]:
    """The modules of the time and of the schedulers."""
    import torch.optim.lr_scheduler  # before it is imported under a patch, which would throw it out again

    assert torch.optim.lr_scheduler
    folder = sources.archive(REQUIREMENT) / "composer"
    names = ("composer", "composer.core", "composer.core.serializable", "composer.utils")
    shells: dict[str, Any] = {name: types.ModuleType(name) for name in names}
    with mock.patch.dict(sys.modules, shells):
        shells["composer.utils"].StringEnum = sources.load(folder / "utils" / "string_enum.py").StringEnum
        shells["composer.core.serializable"].Serializable = object
        time = sources.load(folder / "core" / "time.py")
        shells["composer.core"].Time, shells["composer.core"].TimeUnit = time.Time, time.TimeUnit
        shells["composer.core"].State = object
        return time, sources.load(folder / "optim" / "scheduler.py")


@functools.cache
def timestamp(batch: int, per_epoch: int, samples: int, tokens: int) -> Any:
    return loaded()[0].Timestamp(epoch=batch // per_epoch, batch=batch, sample=batch * samples, token=batch * tokens)


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """The rate of each batch, of a training whose length the Trainer has stretched."""
    time, schedulers = loaded()
    a = dict(arguments)
    lr, ratio = a.pop("lr"), a.pop("scale_schedule_ratio", 1.0)
    per_epoch = a.pop("batches_per_epoch", 10)
    samples, tokens = a.pop("samples_per_batch", 1), a.pop("tokens_per_batch", 1)
    longest = a.pop("max_duration", "1ba")
    longest = time.Time(longest, "ba") if isinstance(longest, int) else time.Time.from_timestring(longest)

    def counted(value: Any) -> Any:
        return f"{value}ba" if isinstance(value, int) and not isinstance(value, bool) else value

    for key in ("t_max", "t_warmup", "t_0", "step_size", "decay_period"):
        if key in a:
            a[key] = counted(a[key])
    if "milestones" in a:
        a["milestones"] = list(map(counted, a["milestones"]))
    scheduler = getattr(schedulers, name)(**a)
    state = types.SimpleNamespace(max_duration=longest * ratio, dataloader_len=per_epoch)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for t in range(steps):
            state.timestamp = timestamp(t, per_epoch, samples, tokens)
            found.append(lr * scheduler(state, ratio))
    return found


def case(name: str, draw: dict[str, Any], numeric: str, label: str = "", keep: Any = None, **more: Any) -> Case:
    drawn = st.fixed_dictionaries({"lr": rates(), **draw})
    return Case(
        f"{name} {label}".strip(),
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        drawn.filter(keep) if keep else drawn,
        ("lr", *numeric.split()),
        **more,
    )


batches = st.integers(1, 90)
alpha = st.just(0.0) | f32(0.001, 1.5)
power = st.sampled_from([0.5, 1.0, 2.0]) | f32(0.25, 4)
gamma = f32(0.05, 1)
# A ratio in eighths, and batches of a power of two: what they make of whole numbers float32 holds exactly.
ratio = st.just(1.0) | st.integers(4, 16).map(lambda n: n / 8)
sizes = st.sampled_from([8, 16, 32, 64])
epochs = {"batches_per_epoch": st.integers(2, 12), "scale_schedule_ratio": ratio}
in_epochs = "batches_per_epoch scale_schedule_ratio"


def texts(unit: str, low: int, high: int, per: int = 1) -> Any:
    return st.integers(low, high).map(lambda n: f"{n * per}{unit}")


share = st.sampled_from(["1dur", "0.5dur", "0.25dur", "0.75dur"])
run_length = {"max_duration": st.sampled_from(["8ep", "4ep", "80ba", "50ba"]), **epochs}
warm = {
    "t_warmup": st.integers(0, 20),
    "scale_warmup": st.booleans(),
    "max_duration": st.integers(42, 90),
    "scale_schedule_ratio": ratio,
}
warm_numbers = "t_warmup max_duration scale_schedule_ratio"


def fits(a: dict[str, Any]) -> bool:
    """Whether something is left of the training after the warmup."""
    r = a["scale_schedule_ratio"]
    return max(int(a["t_warmup"] * r), a["t_warmup"]) < int(a["max_duration"] * r)


def stretched(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    """Where only the line of the warmup is stretched."""
    return (t >= 0) & a["scale_warmup"] & (a["scale_schedule_ratio"] != 1) & (a["t_warmup"] > 0)


def warmed(name: str, draw: dict[str, Any], numeric: str) -> Case:
    return case(name, {**warm, **draw}, f"{warm_numbers} {numeric}", keep=fits, fault=stretched)


CASES = [
    case(
        "StepScheduler",
        {"step_size": st.integers(4, 60), "gamma": gamma, "scale_schedule_ratio": ratio},
        "step_size gamma scale_schedule_ratio",
    ),
    case(
        "MultiStepScheduler",
        {"milestones": st.lists(batches, min_size=3, max_size=3, unique=True), "gamma": gamma},
        "milestones/0 milestones/1 milestones/2 gamma",
    ),
    case(
        "MultiStepScheduler",
        {"milestones": st.tuples(texts("ep", 1, 8), share, texts("ba", 1, 90)).map(list), "gamma": gamma, **run_length},
        f"gamma {in_epochs}",
        "texts",
    ),
    case(
        "ConstantScheduler",
        {"alpha": alpha, "t_max": batches, "scale_schedule_ratio": ratio},
        "alpha t_max scale_schedule_ratio",
    ),
    case("ConstantScheduler", {"alpha": alpha, "t_max": share, **run_length}, f"alpha {in_epochs}", "texts"),
    case(
        "LinearScheduler",
        {"alpha_i": alpha, "alpha_f": alpha, "t_max": st.integers(2, 90), "scale_schedule_ratio": ratio},
        "alpha_i alpha_f t_max scale_schedule_ratio",
    ),
    case(
        "LinearScheduler",
        {"alpha_i": alpha, "alpha_f": alpha, "t_max": share, **run_length},
        f"alpha_i alpha_f {in_epochs}",
        "texts",
    ),
    case(
        "LinearScheduler",
        {"t_max": texts("sp", 100, 3000), "samples_per_batch": sizes, "scale_schedule_ratio": ratio},
        "samples_per_batch",
        "samples",
    ),
    case(
        "ExponentialScheduler",
        {"gamma": gamma, "decay_period": texts("ep", 1, 10), **epochs},
        f"gamma {in_epochs}",
    ),
    case(
        "CosineAnnealingScheduler",
        {"t_max": st.integers(2, 90), "alpha_f": alpha, "scale_schedule_ratio": ratio},
        "t_max alpha_f scale_schedule_ratio",
    ),
    case(
        "CosineAnnealingScheduler",
        {"t_max": texts("tok", 100, 3000, 4096), "alpha_f": alpha, "tokens_per_batch": sizes.map(lambda n: 4096 * n)},
        "alpha_f tokens_per_batch",
        "tokens",
    ),
    case(
        "CosineAnnealingWarmRestartsScheduler",
        {
            "t_0": st.integers(2, 60),
            "t_mult": st.just(1.0) | st.integers(8, 24).map(lambda n: n / 8),
            "alpha_f": alpha,
            "scale_schedule_ratio": ratio,
        },
        "t_0 t_mult alpha_f scale_schedule_ratio",
    ),
    case(
        "PolynomialScheduler",
        {"power": power, "t_max": st.integers(2, 90), "alpha_f": alpha, "scale_schedule_ratio": ratio},
        "power t_max alpha_f scale_schedule_ratio",
    ),
    warmed(
        "MultiStepWithWarmupScheduler",
        {"milestones": st.lists(batches, min_size=2, max_size=2, unique=True), "gamma": gamma},
        "milestones/0 milestones/1 gamma",
    ),
    warmed("ConstantWithWarmupScheduler", {"alpha": alpha}, "alpha"),
    warmed("LinearWithWarmupScheduler", {"alpha_i": alpha, "alpha_f": alpha}, "alpha_i alpha_f"),
    warmed("CosineAnnealingWithWarmupScheduler", {"alpha_f": alpha}, "alpha_f"),
    warmed("PolynomialWithWarmupScheduler", {"power": power, "alpha_f": alpha}, "power alpha_f"),
    case(
        "CosineAnnealingWithWarmupScheduler",
        {
            "t_warmup": st.sampled_from(["0.1dur", "1ep", "2ep", "5ba"]),
            "t_max": st.sampled_from(["1dur", "12ep"]),
            "max_duration": st.sampled_from(["8ep", "10ep"]),
            **epochs,
            "alpha_f": alpha,
        },
        f"{in_epochs} alpha_f",
        "texts",
        keep=lambda a: a["scale_schedule_ratio"] >= 1,
    ),
]

LONG = {"lr": 1.0, "scale_warmup": True, "scale_schedule_ratio": 2.0, "t_warmup": 10, "max_duration": 50}
JUMP = "the warmup is stretched and its end is not: the rate jumps from half its height"
DIFFERENCES = [
    Difference("MultiStepWithWarmupScheduler", {**LONG, "milestones": [40], "gamma": 0.5}, 15, JUMP),
    Difference("ConstantWithWarmupScheduler", LONG, 15, JUMP),
    Difference("LinearWithWarmupScheduler", LONG, 15, JUMP),
    Difference("CosineAnnealingWithWarmupScheduler", LONG, 15, JUMP),
    Difference("PolynomialWithWarmupScheduler", LONG, 15, JUMP),
    Difference(
        "LinearWithWarmupScheduler",
        {"lr": 1.0, "t_warmup": 20, "t_max": 20, "max_duration": 20},
        30,
        "after a warmup that lasts until t_max it stays at the top",
    ),
]
