"""fairseq.optim.lr_scheduler: the classes of its source archive, each run alone, as fairseq's trainer runs them."""

from __future__ import annotations

import functools
import logging
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from jaxsched.compat.others import fairseq as ours

from . import sources
from .harness import Case, Difference, f32, rates

PEER = "fairseq"
REQUIREMENT = "fairseq==0.12.2"
FILES = {
    "TriStageLRSchedule": "tri_stage_lr_scheduler",
    "InverseSquareRootSchedule": "inverse_square_root_schedule",
    "TriangularLRSchedule": "triangular_lr_scheduler",
    "PolynomialDecayLRSchedule": "polynomial_decay_schedule",
    "CosineLRSchedule": "cosine_lr_scheduler",
    "StepLRSchedule": "step_lr_scheduler",
    "FixedLRSchedule": "fixed_schedule",
    "ManualSchedule": "manual_lr_scheduler",
}


class Optimizer:
    """What the schedulers ask of an optimizer."""

    lr = 0.0

    def get_lr(self) -> float:
        return self.lr

    def set_lr(self, lr: float) -> None:
        self.lr = lr


def folder() -> Path:
    (found,) = sources.archive(REQUIREMENT).glob("*/fairseq/optim/lr_scheduler")
    return found


def version() -> str:
    folder()
    return REQUIREMENT.partition("==")[2]


def register(name: str, dataclass: Any = None) -> Any:
    del name, dataclass
    return lambda cls: cls


@functools.cache
def load(name: str) -> Any:
    """The class, with plain bases in the place of the parts of fairseq that cannot be imported."""
    shells: dict[str, Any] = {}
    for module in ("fairseq", "fairseq.dataclass", "fairseq.dataclass.utils", "fairseq.optim", "omegaconf"):
        shells[module] = types.ModuleType(module)
    shells["omegaconf"].II = lambda path: None
    shells["fairseq.dataclass"].FairseqDataclass = object
    shells["fairseq.dataclass.utils"].gen_parser_from_dataclass = None
    shells["fairseq.optim"].FairseqOptimizer = Optimizer
    shells["fairseq.optim.lr_scheduler"] = shells["fairseq.optim"].lr_scheduler = types.ModuleType("lr_scheduler")
    with mock.patch.dict(sys.modules, shells):
        package = shells["fairseq.optim.lr_scheduler"]
        package.__dict__.update(sources.load(folder() / "fairseq_lr_scheduler.py").__dict__)
        package.register_lr_scheduler = register
        module = types.ModuleType(name)
        with mock.patch.dict(sys.modules, {name: module}):  # where its dataclass looks for itself
            path = folder() / f"{FILES[name]}.py"
            module.__package__ = package.__name__ = "fairseq.optim.lr_scheduler"
            exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    logging.getLogger(name).setLevel(logging.ERROR)
    return module.__dict__[name]


DEFAULTS = {
    "warmup_steps": 0,
    "hold_steps": 0,
    "decay_steps": 0,
    "phase_ratio": None,
    "init_lr_scale": 0.01,
    "final_lr_scale": 0.01,
    "warmup_updates": 0,
    "warmup_init_lr": -1,
    "force_anneal": None,
    "lr_shrink": 0.1,
    "shrink_min": False,
    "end_learning_rate": 0.0,
    "power": 1.0,
    "min_lr": 0.0,
    "t_mult": 1.0,
    "lr_period_updates": -1,
    "max_update": 0,
    "lr_deacy_period": 25000,
    "lr_decay": 0.5,
    "epoch2lr": "{}",
    "update2lr": "{}",
}


def run(name: str, arguments: dict[str, Any], steps: int) -> list[float]:
    """As fairseq's trainer: `step_begin_epoch` and `step_update` before an epoch, `step_update` after each update."""
    arguments = dict(arguments)
    epoch = arguments.pop("updates_per_epoch", steps)
    lr = arguments.pop("lr")
    for key in ("epoch2lr", "update2lr"):
        if key in arguments:
            arguments[key] = repr(arguments[key])
    optimizer = Optimizer()
    lrs = lr if isinstance(lr, list) else [lr]
    scheduler = load(name)(types.SimpleNamespace(**{**DEFAULTS, **arguments, "lr": lrs}), optimizer)
    scheduler.step_update(0)
    found = []
    for t in range(steps):
        if t % epoch == 0:
            scheduler.step_begin_epoch(t // epoch + 1)
            scheduler.step_update(t)
        found.append(optimizer.get_lr())
        scheduler.step_update(t + 1)
        if (t + 1) % epoch == 0:
            scheduler.step(t // epoch + 1)
            scheduler.step_update(t + 1)
    return found


def case(name: str, draw: dict[str, Any], numeric: str, label: str = "", keep: Any = None, **more: Any) -> Case:
    drawn = st.fixed_dictionaries({"lr": rates(), **draw})
    return Case(
        f"{name} {label}".strip(),
        getattr(ours, name),
        lambda arguments, steps: run(name, arguments, steps),
        drawn.filter(keep) if keep else drawn,
        tuple(numeric.split()),
        **more,
    )


def misses(a: dict[str, Any], t: Any) -> Any:
    """The restarts that the logarithm of a whole `t_mult` misses: 5**3 is none of them, 3**5 and 10**3 are."""
    starts, length, start = [], a["lr_period_updates"], a["warmup_updates"]
    for i in range(12):
        if ours._MISSES[a["t_mult"], i]:
            starts.append(start)
        start, length = start + length, length * a["t_mult"]
    return sum((t == s for s in starts), t < 0)


def falls_under(a: dict[str, Any], t: Any) -> Any:
    """Where the period is odd, and where the peak has shrunk below the lowest rate."""
    if a["lr_period_updates"] % 2:
        return t > 0
    under = a["max_lr"] * a["lr_shrink"] ** (t // a["lr_period_updates"]) < a["lr"]
    return under & (not a["shrink_min"])


warmup = st.integers(0, 30)
below = st.just(-1.0) | rates()


def triangular(shrink_min: bool) -> Case:
    draw = {
        "max_lr": f32(1.5, 8),
        "lr_period_updates": st.integers(2, 60),
        "lr_shrink": f32(0.25, 1),
        "shrink_min": st.just(shrink_min),
    }
    numeric = "lr max_lr lr_period_updates lr_shrink"
    label = "shrink_min" if shrink_min else ""
    return case("TriangularLRSchedule", draw, numeric, label, fault=falls_under)


CASES = [
    case(
        "TriStageLRSchedule",
        {
            "warmup_steps": warmup,
            "hold_steps": warmup,
            "decay_steps": st.integers(1, 50),
            "init_lr_scale": st.just(0.0) | f32(0.001, 1),
            "final_lr_scale": f32(0.001, 1),
        },
        "lr warmup_steps hold_steps decay_steps init_lr_scale final_lr_scale",
    ),
    case(
        "TriStageLRSchedule",
        {
            # Shares in 64ths: their products with max_update are exact, whatever way they are cut off.
            "phase_ratio": st.tuples(st.integers(0, 31), st.integers(0, 31)).map(
                lambda n: [n[0] / 64, n[1] / 64, 1 - sum(n) / 64]
            ),
            "max_update": st.integers(33, 100),
        },
        "lr phase_ratio/0 phase_ratio/1 phase_ratio/2 max_update",
        "phase_ratio",
    ),
    case(
        "InverseSquareRootSchedule",
        {"warmup_updates": st.integers(1, 60), "warmup_init_lr": below},
        "lr warmup_updates warmup_init_lr",
    ),
    triangular(False),
    triangular(True),
    case(
        "PolynomialDecayLRSchedule",
        {
            "warmup_updates": warmup,
            "end_learning_rate": st.just(0.0) | rates(),
            "power": st.sampled_from([0.5, 1.0, 2.0]) | f32(0.25, 4),
            "total_num_update": st.integers(30, 100),
        },
        "lr warmup_updates end_learning_rate power total_num_update",
    ),
    case(
        "CosineLRSchedule",
        {
            "warmup_updates": warmup,
            "warmup_init_lr": below,
            "min_lr": st.sampled_from([0.0, 2.0**-20, 2.0**-18]),
            "t_mult": st.integers(1, 10),
            "lr_period_updates": st.integers(1, 60),
            "lr_shrink": f32(0.25, 1),
        },
        "lr warmup_updates warmup_init_lr min_lr t_mult lr_period_updates lr_shrink",
        fault=misses,
        steps=384,
    ),
    case(
        "CosineLRSchedule",
        {"warmup_updates": warmup, "max_update": st.integers(31, 100), "lr_shrink": f32(0.25, 1)},
        "lr warmup_updates max_update lr_shrink",
        "max_update",
    ),
    case(
        "StepLRSchedule",
        {
            "warmup_updates": warmup,
            "warmup_init_lr": below,
            "min_lr": st.sampled_from([0.0, 2.0**-20, 2.0**-18]),
            "lr_deacy_period": st.integers(1, 50),
            "lr_decay": f32(0.05, 1),
        },
        "lr warmup_updates warmup_init_lr min_lr lr_deacy_period lr_decay",
    ),
    case(
        "FixedLRSchedule",
        {
            "lr": st.lists(rates(), min_size=3, max_size=3),
            "force_anneal": st.integers(1, 6),
            "lr_shrink": f32(0.25, 1),
            "warmup_updates": warmup,
            "updates_per_epoch": st.integers(5, 40),
        },
        "lr/0 lr/1 lr/2 force_anneal lr_shrink warmup_updates updates_per_epoch",
    ),
    case("FixedLRSchedule", {"warmup_updates": warmup}, "lr warmup_updates", "one rate"),
    case(
        "ManualSchedule",
        {
            "update2lr": st.fixed_dictionaries({"30-60": rates(), "45": rates(), "70,90": rates()}),
            "epoch2lr": st.fixed_dictionaries({"2": rates(), "3-4": rates()}),
            "updates_per_epoch": st.integers(5, 40),
        },
        "lr update2lr/30-60 update2lr/45 update2lr/70,90 epoch2lr/2 epoch2lr/3-4 updates_per_epoch",
    ),
]

DIFFERENCES = [
    Difference(
        "TriangularLRSchedule",
        {"lr": 0.25, "max_lr": 1.0, "lr_period_updates": 10, "lr_shrink": 0.125, "shrink_min": False},
        15,
        "a peak that has shrunk below the lowest rate turns the triangle over, and the rate falls below its minimum",
    ),
    Difference(
        "TriangularLRSchedule shrink_min",
        {"lr": 0.25, "max_lr": 1.0, "lr_period_updates": 5, "lr_shrink": 0.5, "shrink_min": True},
        4,
        "a cycle of 5 updates lasts 4",
    ),
    Difference(
        "CosineLRSchedule",
        {
            "lr": 0.25,
            "warmup_updates": 0,
            "warmup_init_lr": -1.0,
            "min_lr": 0.0,
            "t_mult": 3,
            "lr_period_updates": 2,
            "lr_shrink": 0.5,
        },
        242,
        "the logarithm misses the restart after 2 + 6 + 18 + 54 + 162 updates, and the rate is 0 there",
    ),
]
