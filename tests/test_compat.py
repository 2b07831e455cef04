"""The compat modules against the recorded values of their peers, and the laws of the core on all of them."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import compat

from .cases import leaves_equal, op_by_op, x64
from .peers import harness, report
from .peers.harness import Case

PEERS = [peer for peer in harness.PEERS if (harness.HERE / f"compat_{peer}.json").exists()]
ALL = [(peer, case) for peer in PEERS for case in harness.cases_of(peer).CASES]
by_case = pytest.mark.parametrize(("peer", "case"), ALL, ids=[f"{peer}-{case.name}" for peer, case in ALL])


@functools.cache
def record_of(peer: str) -> dict[str, Any]:
    return harness.record_of(peer)


def rows_of(peer: str, case: Case) -> list[dict[str, Any]]:
    rows = [row for row in record_of(peer)["rows"] if row["name"] == case.name]
    assert len(rows) >= 2
    return rows


LONGEST = max(case.steps for _, case in ALL)


def get(arguments: Any, path: str) -> Any:
    for key in path.split("/"):
        arguments = arguments[int(key) if isinstance(arguments, list) else key]
    return arguments


def put(arguments: Any, path: str, value: Any) -> Any:
    """A copy with another value at `path`."""
    key, _, rest = path.partition("/")
    copy = dict(arguments) if isinstance(arguments, dict) else dict(enumerate(arguments))
    key = key if isinstance(arguments, dict) else int(key)
    copy[key] = put(copy[key], rest, value) if rest else value
    return copy if isinstance(arguments, dict) else list(copy.values())


@by_case
def test_every_step_is_the_peers(peer: str, case: Case) -> None:
    """Ours where the peer is right, and `peer_exact` everywhere, in 64 bits; in 32 below. One length of steps, so that
    the operations are those of all peers; compiled programs are compared live."""
    steps = np.arange(LONGEST)
    with x64():
        for row in rows_of(peer, case):
            arguments, theirs = row["arguments"], row["values"]
            right = harness.healthy(case, arguments, len(theirs))
            values = op_by_op(case.ours(**arguments), steps)
            assert harness.worst(values, theirs, 64, right) <= harness.TOLERANCE[64], arguments
            if case.fault is not None:
                exact = op_by_op(case.ours(**arguments, peer_exact=True), steps)
                assert harness.worst(exact, theirs, 64) <= harness.TOLERANCE[64], arguments


def shape_of(case: Case, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without their numbers: settings of one shape are one program."""
    for path in case.numeric:
        number = np.asarray(get(arguments, path))
        arguments = put(arguments, path, [number.dtype.kind, *number.shape])
    return arguments


def largest_group(case: Case, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for arguments in settings:
        groups.setdefault(json.dumps(shape_of(case, arguments)), []).append(arguments)
    return max(groups.values(), key=len)


def columns(case: Case, group: list[dict[str, Any]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The numbers of all settings, stacked: the floats, and the counts, which take no gradient."""
    stacked = [np.array([get(arguments, path) for arguments in group]) for path in case.numeric]
    floats = tuple(c.astype(np.float32) if c.dtype.kind == "f" else None for c in stacked)
    return floats, tuple(None if c.dtype.kind == "f" else c.astype(np.int32) for c in stacked)


@pytest.mark.trial
@by_case
def test_it_obeys_the_laws(peer: str, case: Case) -> None:
    """vmap over every number, one trace for all, and finite gradients; and the values are still the peer's."""
    recorded = {json.dumps(row["arguments"]): row["values"] for row in rows_of(peer, case)}
    known = largest_group(case, [json.loads(text) for text in recorded])
    like = json.dumps(shape_of(case, known[0]))
    more = [arguments for arguments in harness.draws(case, 12) if json.dumps(shape_of(case, arguments)) == like]
    group = [*known, *more]
    steps = jnp.arange(case.steps)
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def value(floats: tuple[Any, ...], counts: tuple[Any, ...]) -> tuple[Any, Any]:
        numbers = [x if x is not None else n for x, n in zip(floats, counts, strict=True)]
        arguments = functools.reduce(lambda a, pair: put(a, *pair), zip(case.numeric, numbers, strict=True), group[0])
        values = case.ours(**arguments)(steps)
        return values.sum(), values

    slopes = jax.jit(jax.vmap(jax.grad(value, has_aux=True)))
    gradients, values = slopes(*columns(case, group))
    backwards = slopes(*columns(case, group[::-1]))[1]
    np.testing.assert_array_equal(values, backwards[::-1])  # no setting knows of its place, or of the first trace
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
    for arguments, ours in zip(known, values, strict=False):
        theirs = recorded[json.dumps(arguments)]
        right = harness.healthy(case, arguments, len(theirs))
        assert harness.worst(ours, theirs, 32, right) <= harness.TOLERANCE[32], arguments


DIFFERENCES = [(peer, row) for peer in PEERS for row in record_of(peer)["differences"]]
by_difference = pytest.mark.parametrize(
    ("peer", "row"), DIFFERENCES, ids=[f"{peer}-{row['name']}-{row['why']}" for peer, row in DIFFERENCES]
)


@by_difference
def test_a_fault_of_a_peer_is_not_ours(peer: str, row: dict[str, Any]) -> None:
    ours, exact = report.ours(peer, row), row.get("has_exact", True) and report.ours(peer, row, peer_exact=True)
    assert ours != pytest.approx(row["value"], rel=1e-4, abs=1e-12)
    if row.get("has_exact", True):
        assert exact == pytest.approx(row["value"], rel=1e-6, abs=1e-12, nan_ok=True)


TEXTS = """
compat.others.composer.StepScheduler(0.1, 7)
compat.others.composer.MultiStepScheduler(0.1, [3, 3, 9])
compat.others.composer.CosineAnnealingWarmRestartsScheduler(0.1, 5, 1.5)
compat.others.composer.CosineAnnealingWarmRestartsScheduler(0.1, "40sp", 2, samples_per_batch=8)
compat.others.composer.PolynomialWithWarmupScheduler(0.1, 5, max_duration=20)
compat.others.fairseq.TriStageLRSchedule(0.1, phase_ratio=(0.25, 0.25, 0.5), max_update=40)
compat.others.fairseq.InverseSquareRootSchedule(0.1, warmup_updates=7)
compat.others.fairseq.TriangularLRSchedule(0.1, 1.0, 20, shrink_min=True, peer_exact=True)
compat.others.fairseq.PolynomialDecayLRSchedule(0.1, power=2.0, total_num_update=30)
compat.others.fairseq.CosineLRSchedule(0.1, lr_period_updates=20, t_mult=2)
compat.others.fairseq.StepLRSchedule(0.1, lr_deacy_period=7)
compat.others.fastai.SchedLin(0.1, 0.2, 10)
compat.others.fastai.SchedCos(0.1, 0.2, 10)
compat.others.fastai.SchedNo(0.1, 0.2)
compat.others.fastai.SchedExp(0.1, 0.2, 10)
compat.others.fastai.SchedPoly(0.1, 0.2, 3.0, 10)
compat.others.fastai.combined_cos(0.25, 0.1, 1.0, 0.0, 20)
compat.others.ignite.LinearCyclicalScheduler(1.0, 0.0, 5, monotonic=True, warmup_duration=2)
compat.others.ignite.CosineAnnealingScheduler(1.0, 0.0, 5, cycle_mult=2)
compat.others.ignite.PiecewiseLinear([(0, 1.0), (9, 0.0)])
compat.others.ignite.ConcatScheduler([Linear(0.0, 1.0, 4), 0.5], [6])
compat.others.ignite.create_lr_scheduler_with_warmup(Linear(1.0, 0.0, 9), 0.0, 4)
compat.others.counting.GrowingCycles(1.0, 0.0, 5, 1.5)
compat.others.pytorch_warmup.LinearWarmup(0.1, 7)
compat.others.pytorch_warmup.ExponentialWarmup(Linear(0.1, 0.0, 20), 7, last_step=3)
compat.others.pytorch_warmup.UntunedLinearWarmup(0.1, beta2=0.9, peer_exact=True)
compat.others.pytorch_warmup.UntunedExponentialWarmup(0.1, beta2=0.9)
compat.others.pytorch_warmup.RAdamWarmup(0.1, beta2=0.9)
compat.others.pytorch_warmup.ExponentialRise(5)
"""


@pytest.mark.parametrize("text", TEXTS.strip().splitlines())
def test_the_text_makes_the_schedule(text: str) -> None:
    names = {"compat": compat, **vars(js.schedules)}
    schedule = eval(text, names)
    again = eval(repr(schedule), names)
    assert leaves_equal(again, schedule)
    np.testing.assert_array_equal(op_by_op(again, np.arange(50)), op_by_op(schedule, np.arange(50)))


def test_every_fault_has_its_row() -> None:
    """A case with a fault shows it at least once."""
    shown = {(peer, row["name"]) for peer, row in DIFFERENCES}
    assert {(peer, case.name) for peer, case in ALL if case.fault is not None} <= shown


def test_every_peer_is_recorded() -> None:
    assert PEERS == harness.PEERS


# Public names that are no function of the step alone, or a part of others; tested in `test_compat_PEER.py` and in the
# cases that they are a part of.
ELSEWHERE = {
    "big_vision": "scale_by_schedules steps",
    "composer": "Training",
    "deepspeed": "LogRamp from_config",
    "fairseq": "PassThroughScheduleSchedule ReduceLROnPlateauLRSchedule build_lr_scheduler",
    "fastai": "LRFinder ParamScheduler",
    "ignite": "ParamGroupScheduler ReduceLROnPlateauScheduler simulate_values",
    "keras": "LearningRateSchedule ReduceLROnPlateau deserialize from_config serialize to_config",
    "megatron": "HalvingRamp",
    "mmengine": "ReduceOnPlateauLR Windows",
    "olmo_core": "ComposableSchedulerStage OverrideDecay",
    "optax": "CosinePower TolerancePlateauState ToleranceSettings reduce_on_plateau",
    "paddle": "OneCyclePhases ReduceOnPlateau",
    "pytorch_warmup": "ExponentialRise",
    "tf1": "CosineWave piecewise_constant_decay",
    "timm": "PlateauLRScheduler create_scheduler scheduler_kwargs",
    "torch": "Chain ReduceLROnPlateau",
    "transformers": "CosineRestarts CosineWaves get_greedy_schedule get_reduce_on_plateau_schedule",
}


@pytest.mark.parametrize("peer", PEERS)
def test_every_public_name_has_a_case(peer: str) -> None:
    where = f"jaxsched.compat.{'' if peer in compat.MODULES else 'others.'}{peer}"
    module = importlib.import_module(where)
    public = {
        name
        for name, x in vars(module).items()
        if not name.startswith("_") and (inspect.isclass(x) or inspect.isfunction(x)) and x.__module__ == where
    }
    cases = {case.name.split()[0].rstrip(",") for case in harness.cases_of(peer).CASES}
    elsewhere = set(ELSEWHERE.get(peer, "").split())
    assert public - cases == elsewhere


def test_the_page_says_what_was_seen() -> None:
    """`docs/parity.md` and the table of the README are what `tests/peers/report.py` makes of the records."""
    assert report.DOCS.read_text() == report.page()
    assert report.README.read_text() == report.readme(report.README.read_text())


def test_what_was_seen_is_enough() -> None:
    """Every function of every peer, with 200 settings or more, within the bars."""
    table = report.read()
    for peer in harness.PEERS:
        functions = table[peer]["functions"]
        assert set(functions) == {case.name for case in harness.cases_of(peer).CASES}
        for name, row in functions.items():
            assert row["settings"] >= 200, name
            assert row["worst_32"] <= harness.TOLERANCE[32], name
            assert row["worst_64"] <= harness.TOLERANCE[64], name
