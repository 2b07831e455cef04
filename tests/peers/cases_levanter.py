"""Levanter, read from a copy of its repository, with optax in float64."""

from __future__ import annotations

import functools
import types
import typing
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jaxsched.compat.others import levanter as ours
from tests.cases import x64

from . import sources
from .excerpt import excerpt
from .harness import Case, Difference, f32, rates

PEER = "Levanter"


class ChoiceRegistry:
    """draccus's, as far as it is leant on: classes by their names."""

    choices: typing.ClassVar[dict[str, Any]] = {}

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        return lambda choice: cls.choices.setdefault(name, choice)


def version() -> str:
    sources.checkout("levanter")
    return "read at commit 0f45aa1c of marin-community/marin"


@functools.cache
def source() -> dict[str, Any]:
    return excerpt(
        sources.checkout("levanter") / "lib/levanter/src/levanter/optim/config.py",
        *"LrScheduleContext LrSchedule ConstantLrSchedule CosineLrSchedule LinearLrSchedule InvSqrtLrSchedule".split(),
        *"InvLrSchedule PolynomialLrSchedule InvSqrtDecayLrSchedule PowerLrSchedule OptimizerConfig".split(),
        *"_inv_sqrt_decay_schedule _inv_decay_schedule _convert_frac_or_steps".split(),
        draccus=types.SimpleNamespace(ChoiceRegistry=ChoiceRegistry),
    )


def theirs(arguments: dict[str, Any], steps: int) -> list[float]:
    arguments = dict(arguments)
    found = source()
    base: Any = found["OptimizerConfig"]
    config: Any = type("Config", (base,), {"build": lambda self, num_train_steps: None})
    num_train_steps = arguments.pop("num_train_steps")
    override_lr = arguments.pop("override_lr", None)
    if isinstance(kind := arguments.get("lr_schedule"), dict):
        numbers = {name: value for name, value in kind.items() if name != "type"}
        arguments["lr_schedule"] = ChoiceRegistry.choices[kind["type"]](**numbers)
    with x64(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = config(**arguments).lr_scheduler(num_train_steps, override_lr)
        return np.broadcast_to(np.asarray(schedule(jnp.arange(steps))), steps).tolist()


# Shares with few binary digits: 0.01 in float32 is less than 0.01, of which 1,000 steps are 9, cut off.
SHARE = st.integers(0, 40).map(lambda k: k / 64) | st.integers(2, 60)
NUMBERS = {
    "num_train_steps": st.integers(40, 100),
    "learning_rate": rates(),
    "min_lr_ratio": st.just(0.0) | f32(0.001, 1),
    "warmup": SHARE,
}


def case(title: str, draw: dict[str, Any], *more_numbers: str, **more: Any) -> Case:
    draw = {**NUMBERS, **draw}
    structure = ("lr_schedule", "cycles", "haps", "cycle_length")
    numeric = (*(name for name in draw if name not in structure), *more_numbers)
    return Case(f"lr_scheduler {title}", ours.lr_scheduler, theirs, st.fixed_dictionaries(draw), numeric, **more)


def a_share(share: float, total: int) -> int:
    return int(share * total) if share <= 1 else int(share)


def first_of_decay(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    """The step at which a single decay begins."""
    return t == min(a_share(a["warmup"], a["num_train_steps"]), a["num_train_steps"])


def other_cycles(a: dict[str, Any], t: np.ndarray) -> np.ndarray:
    """Where the last cycle has another length than the one that is announced."""
    total = a["num_train_steps"]
    length = a_share(a["cycle_length"], total)
    return (t >= (total // length - 1) * length) & (total % length != 0) & (total > length)


def dictionary(kind: str, **draw: Any) -> dict[str, Any]:
    return {"lr_schedule": st.fixed_dictionaries({"type": st.just(kind), **draw})}


def ends(least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, most), min_size=2, max_size=2, unique=True).map(sorted)


PHASES = {"decay": SHARE, "rewarmup": SHARE}
KIND = st.sampled_from(["cosine", "linear", "inv_sqrt"])
CASES = [
    case("cosine", {"decay": SHARE}),
    case("linear", {"lr_schedule": st.just("linear"), "override_lr": rates()}),
    case("constant", {"lr_schedule": st.just("constant"), "cooldown": st.integers(1, 32).map(lambda k: k / 64)}),
    case("inv_sqrt", {"lr_schedule": st.just("inv_sqrt"), "decay": SHARE, "cooldown": st.integers(2, 30)}),
    case("inv", {"lr_schedule": st.just("inv"), "min_lr_ratio": f32(0.001, 1)}, fault=first_of_decay),
    case("cosine exponent", dictionary("cosine", exponent=f32(0.5, 3)), "lr_schedule/exponent"),
    case("inv_sqrt timescale", dictionary("inv_sqrt", timescale=st.integers(1, 100)), "lr_schedule/timescale"),
    case("polynomial", {**dictionary("polynomial", power=f32(0.25, 3)), "decay": SHARE}, "lr_schedule/power"),
    case("inv_sqrt_decay", dictionary("inv_sqrt_decay", decay_constant=f32(0.5, 50)), "lr_schedule/decay_constant"),
    case(
        "power",
        dictionary(
            "power", batch_size=st.integers(1, 64), seq_length=st.integers(1, 4096), a=f32(0.1, 10), b=f32(-2, -0.1)
        ),
        *("lr_schedule/batch_size", "lr_schedule/seq_length", "lr_schedule/a", "lr_schedule/b"),
    ),
    case("cycles", {"cycles": st.integers(1, 4), "lr_schedule": KIND, **PHASES}),
    case("cycles listed", {"cycles": ends(10, 100), "num_train_steps": st.integers(100, 110), **PHASES}),
    case("haps", {"haps": ends(10, 60), "num_train_steps": st.integers(61, 100), "rewarmup": SHARE}),
    case(
        "cycle_length",
        {"cycle_length": st.integers(2, 100) | st.integers(4, 64).map(lambda k: k / 64), "lr_schedule": KIND, **PHASES},
        "cycle_length",
        fault=other_cycles,
    ),
    case("cycle_length listed", {"cycle_length": ends(10, 20), "lr_schedule": KIND, **PHASES}),
]

DIFFERENCES = [
    Difference(
        "lr_scheduler inv",
        {"num_train_steps": 100, "learning_rate": 0.1, "min_lr_ratio": 0.1, "warmup": 20, "lr_schedule": "inv"},
        20,
        "the first step of the decay is counted as its second, and the peak is never reached",
    ),
    Difference(
        "lr_scheduler cycle_length",
        {
            "num_train_steps": 100,
            "learning_rate": 0.1,
            "min_lr_ratio": 0.1,
            "warmup": 0.0,
            "cycle_length": 30,
            "lr_schedule": "cosine",
            "decay": 1.0,
            "rewarmup": 0.0,
        },
        92,
        "the last cycle should be shorter, and is longer, where cycle_length does not divide the whole",
    ),
]
