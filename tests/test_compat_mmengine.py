"""`compat.others.mmengine`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import compat
from jaxsched.compat.others import mmengine

WARMUP = {"type": "LinearLR", "start_factor": 0.25, "by_epoch": False, "begin": 0, "end": 10}
COSINE = {"type": "CosineAnnealingLR", "eta_min": 0.01, "by_epoch": False, "begin": 0, "end": 50, "T_max": 50}


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("ConstantLR", {"factor": 1.5}, ValueError, "factor=1.5"),
        ("ConstantLR", {"begin": 5, "end": 5}, ValueError, "begin=5 and end=5; write an end above begin"),
        ("ConstantLR", {"verbose": True}, ValueError, "print schedule(step)"),
        ("ConstantLR", {"factr": 0.5}, TypeError, "did you mean 'factor'?"),
        ("ConstantMomentum", {"factor": -0.5}, ValueError, "factor=-0.5"),
        ("LinearLR", {"end_factor": 2.0}, ValueError, "end_factor=2.0"),
        ("MultiStepLR", {"milestones": [3, 2]}, ValueError, "milestones=[3, 2]"),
        ("CosineAnnealingLR", {"eta_min": 0.1, "eta_min_ratio": 0.1}, ValueError, "write just one of them"),
        ("CosineAnnealingLR", {"T_max": 0}, ValueError, "T_max=0"),
        ("CosineRestartLR", {"periods": [5]}, ValueError, "eta_min=None and eta_min_ratio=None; write just one"),
        ("CosineRestartLR", {"periods": [5, 5], "eta_min": 0.0}, ValueError, "2 periods and 1 restart_weights"),
        ("OneCycleLR", {"eta_max": 1.0, "pct_start": 2.0}, ValueError, "pct_start=2.0"),
        ("OneCycleLR", {"eta_max": 1.0, "anneal_strategy": "cosine"}, ValueError, "did you mean 'cos'?"),
        ("ReduceOnPlateauLR", {"begin": 3}, ValueError, "begin=3; observe no metric before it"),
        ("ReduceOnPlateauLR", {"by_epoch": False}, ValueError, "by_epoch=False; observe once an epoch"),
        ("ReduceOnPlateauLR", {"rule": "min"}, ValueError, "rule='min'; there are: less, greater"),
        ("param_scheduler", {"configs": []}, ValueError, "write at least one scheduler"),
        ("param_scheduler", {"configs": {"type": "CosineLR"}}, ValueError, "did you mean 'Cosine"),
        ("param_scheduler", {"configs": {"type": "ReduceOnPlateauLR"}}, ValueError, "follows a metric"),
        (
            "param_scheduler",
            {"configs": [{"type": "LinearLR"}, {"type": "LinearMomentum"}]},
            ValueError,
            "make a schedule of each kind",
        ),
        ("param_scheduler", {"configs": [WARMUP, {"type": "StepLR", "step_size": 3}]}, ValueError, "an epoch_length"),
        ("param_scheduler", {"configs": {**WARMUP, "last_step": 5}}, ValueError, "last_step=5; go on with"),
        ("param_scheduler", {"configs": [WARMUP, COSINE]}, ValueError, "LinearLR and CosineAnnealingLR overlap"),
        ("param_scheduler", {"configs": [WARMUP, COSINE], "horizon": 0}, ValueError, "horizon=0; horizon must be"),
        (
            "param_scheduler",
            {
                "configs": [WARMUP, {"type": "CosineRestartLR", "periods": [9], "eta_min": 0.0, "by_epoch": False}],
                "horizon": 9,
            },
            ValueError,
            "begin CosineRestartLR where the others have ended",
        ),
        (
            "param_scheduler",
            {"configs": {"type": "StepLR", "step_size": 3, "convert_to_iter_based": True}},
            ValueError,
            "epoch_length=None; write the number of iterations in an epoch",
        ),
        (
            "param_scheduler",
            {"configs": {**WARMUP, "convert_to_iter_based": True}, "epoch_length": 5},
            ValueError,
            "only what counts epochs can be made to count iterations",
        ),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(mmengine, make)(1.0, **arguments)


def test_a_list_takes_schedulers_of_mmengine_alone() -> None:
    with pytest.raises(TypeError, match="is not a scheduler of mmengine"):
        mmengine.Windows(1.0, [js.Constant(1.0)])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", mmengine.MOMENTA)
def test_the_twins_are_the_same_functions(name: str) -> None:
    twin, cls = getattr(mmengine, name), mmengine.MOMENTA[name]
    more = {"StepMomentum": {"step_size": 3}, "MultiStepMomentum": {"milestones": [2]}, "PolyMomentum": {"end": 9}}
    more |= {"ExponentialMomentum": {"gamma": 0.5}, "CosineRestartMomentum": {"periods": [4], "eta_min": 0.0}}
    s = twin(momentum=0.9, **more.get(name, {}))
    assert isinstance(s, cls)
    assert s.table(9).tolist() == cls(0.9, **more.get(name, {})).table(9).tolist()
    assert mmengine.param_scheduler(0.9, {"type": name, **more.get(name, {})}).table(9).tolist() == s.table(9).tolist()


def test_it_is_written_as_it_is_made() -> None:
    configs = [{**WARMUP, "end": 3}, {"type": "PolyLR", "by_epoch": False, "begin": 3, "end": 9, "eta_min": 0.1}]
    s = mmengine.param_scheduler(0.5, configs)
    names = {"compat": compat, "js": js}
    assert "compat.others.mmengine.PolyLR(lr=0.5, eta_min=0.1, begin=3, end=9, by_epoch=False)" in repr(s)
    inner = [eval(repr(part), names) for part in s.schedulers]  # type: ignore[attr-defined]
    assert mmengine.Windows(0.5, inner).table(12).tolist() == s.table(12).tolist()  # type: ignore[arg-type]


def test_epochs_become_iterations() -> None:
    s = mmengine.CosineAnnealingLR.build_iter_from_epoch(1.0, T_max=5, begin=1, end=7, epoch_length=10)
    assert repr(s) == "compat.others.mmengine.CosineAnnealingLR(lr=1.0, T_max=50, begin=10, end=70, by_epoch=False)"
    assert mmengine.StepLR.build_iter_from_epoch(1.0, 3, epoch_length=4).end == mmengine.INF
    restart = mmengine.CosineRestartLR.build_iter_from_epoch(1.0, [2, 3], [1, 1], 0.0, epoch_length=4)
    assert restart.periods == (8, 12)
    milestones = mmengine.MultiStepLR.build_iter_from_epoch(1.0, [2, 3], epoch_length=4).milestones
    assert np.asarray(milestones).tolist() == [8, 12]
    assert mmengine.LinearLR.build_iter_from_epoch(1.0, begin=0.5, end=1.5, epoch_length=5).begin == 2


def test_the_training_is_the_default_end() -> None:
    s = mmengine.param_scheduler(1.0, {"type": "CosineAnnealingLR"}, max_epochs=10)
    assert s.table(12).tolist() == mmengine.CosineAnnealingLR(1.0, end=10).table(12).tolist()
    t = mmengine.param_scheduler(1.0, {"type": "LinearLR", "by_epoch": False}, epoch_length=3, max_epochs=4)
    assert t.table(14).tolist() == mmengine.LinearLR(1.0, end=12).table(14).tolist()


def test_the_order_of_a_list_is_that_of_time() -> None:
    later = {"type": "CosineAnnealingLR", "eta_min": 0.01, "begin": 10, "end": 50, "by_epoch": False}
    one, other = (mmengine.param_scheduler(0.5, configs) for configs in ([WARMUP, later], [later, WARMUP]))
    assert one.table(60).tolist() == other.table(60).tolist()


# mmengine 0.10.7, lr=0.1, [WARMUP, COSINE]: the rate at these steps.
TOGETHER = {0: 0.025, 5: 0.0653329298, 9: 0.0932587284, 20: 0.0690931194, 40: 0.0186215699, 49: 0.0100890796}


def test_schedulers_that_overlap_are_run_through() -> None:
    s = mmengine.param_scheduler(0.1, [WARMUP, COSINE], horizon=60)
    for step, rate in TOGETHER.items():
        np.testing.assert_allclose(s(step), rate, rtol=1e-6)

    @jax.jit
    def inside(lr: Any) -> Any:
        traced = mmengine.param_scheduler(lr, [WARMUP, COSINE], horizon=60).table(60)
        known = mmengine.param_scheduler(0.1, [WARMUP, COSINE], horizon=60).table(60)
        return traced, known

    for values in inside(jnp.asarray(0.1)):
        np.testing.assert_allclose(values, s.table(60), rtol=1e-6)


def test_a_scheduler_that_starts_at_0_rises() -> None:
    """mmengine divides by 0."""
    assert mmengine.LinearLR(1.0, start_factor=0.0, end=5).table(6).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert mmengine.ConstantLR(1.0, factor=0.0, end=3).table(4).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_a_resumed_schedule_goes_on() -> None:
    for make in (
        lambda last: mmengine.LinearLR(0.1, end=20, last_step=last),
        lambda last: mmengine.CosineAnnealingLR(0.1, T_max=20, last_step=last),
    ):
        np.testing.assert_allclose(make(6).table(30), make(-1).table(37)[7:], rtol=1e-6)


def test_cuts_on_a_plateau() -> None:
    """As mmengine 0.10.7 makes them."""
    transformation = mmengine.ReduceOnPlateauLR(
        1.0, rule="greater", factor=0.5, patience=1, cooldown=1, threshold=0.1, threshold_rule="abs", min_value=0.2
    )
    state: Any = transformation.init(jnp.ones(3))
    found = []
    for metric in [1.0, 1.05, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]:
        state = js.observe(state, value=metric)
        found.append(state.learning_rate.item())
    np.testing.assert_allclose(found, PLATEAU, rtol=1e-6)


PLATEAU = [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2]
