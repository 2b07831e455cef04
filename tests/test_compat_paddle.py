"""`compat.others.paddle`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import paddle


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("NoamDecay", {"d_model": 0, "warmup_steps": 10}, ValueError, "NoamDecay: d_model=0"),
        ("PiecewiseDecay", {"boundaries": [], "values": [1.0]}, ValueError, "boundaries=[]; write at least one"),
        ("PiecewiseDecay", {"boundaries": [3, 2], "values": [1.0, 0.5, 0.1]}, ValueError, "boundaries=[3, 2]"),
        (
            "PiecewiseDecay",
            {"boundaries": [3], "values": [1.0, 0.5, 0.1]},
            ValueError,
            "n boundaries need n + 1 values",
        ),
        ("NaturalExpDecay", {"learning_rate": 0.1, "gamma": 0.0}, ValueError, "gamma=0.0; gamma must be"),
        ("PolynomialDecay", {"learning_rate": 0.1, "decay_steps": 2.5}, TypeError, "decay_steps=2.5 is not an integer"),
        ("PolynomialDecay", {"learning_rate": 0.1, "decay_steps": 5, "power": 0.0}, ValueError, "power=0.0"),
        (
            "LinearWarmup",
            {"learning_rate": 0.1, "warmup_steps": 5, "start_lr": 0.1, "end_lr": 0.1},
            ValueError,
            "start_lr=0.1 and end_lr=0.1; write end_lr above start_lr",
        ),
        (
            "LinearWarmup",
            {
                "learning_rate": paddle.StepDecay(0.1, 5, last_epoch=3),
                "warmup_steps": 5,
                "start_lr": 0.0,
                "end_lr": 0.1,
            },
            ValueError,
            "StepDecay: last_epoch=3; LinearWarmup tells the inner schedule its epoch",
        ),
        ("ExponentialDecay", {"learning_rate": 0.1, "gamma": 1.0}, ValueError, "gamma=1.0; Paddle's decays take a"),
        ("StepDecay", {"learning_rate": 0.1, "step_size": 3, "gamma": 1.5}, ValueError, "gamma=1.5; Paddle's"),
        ("StepDecay", {"learning_rate": 0.1, "step": 3}, TypeError, "did you mean 'step_size'?"),
        ("StepDecay", {"learning_rate": -0.1, "step_size": 3}, ValueError, "learning_rate=-0.1"),
        ("StepDecay", {"learning_rate": 0.1, "step_size": 3, "verbose": True}, ValueError, "print schedule(step)"),
        ("MultiStepDecay", {"learning_rate": 0.1, "milestones": [3, 3]}, ValueError, "milestones=[3, 3]"),
        ("CosineAnnealingDecay", {"learning_rate": 0.1, "T_max": 0}, ValueError, "T_max=0; T_max must be"),
        ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 10, "phase_pct": 1.5}, ValueError, "phase_pct=1.5"),
        (
            "OneCycleLR",
            {"max_learning_rate": 0.1, "total_steps": 10, "phase_pct": 0.5, "three_phase": True},
            ValueError,
            "phase_pct=0.5; three phases need phase_pct below 0.5",
        ),
        (
            "OneCycleLR",
            {"max_learning_rate": 0.1, "total_steps": 10, "anneal_strategy": "cosine"},
            ValueError,
            "did you mean 'cos'?",
        ),
        (
            "CyclicLR",
            {"base_learning_rate": 0.1, "max_learning_rate": 1.0, "step_size_up": 5, "scale_mode": "iterations"},
            ValueError,
            "scale_mode='iterations' is ignored by Paddle: it is about scale_fn",
        ),
        ("LinearLR", {"learning_rate": 0.1, "total_steps": 5, "start_factor": 0.0}, ValueError, "write a share above"),
        ("CosineAnnealingWarmRestarts", {"learning_rate": 0.1, "T_0": 5, "T_mult": 1.5}, TypeError, "T_mult=1.5"),
        ("LambdaDecay", {"learning_rate": 0.1, "lr_lambda": 3}, TypeError, "lr_lambda=3; lr_lambda must be a function"),
        ("LambdaDecay", {"learning_rate": -1.0, "lr_lambda": abs}, ValueError, "LambdaDecay: learning_rate=-1.0"),
        ("LambdaDecay", {"learning_rate": 0.1, "lr_lambda": abs, "horizon": 0}, ValueError, "horizon=0; horizon must"),
        ("ReduceOnPlateau", {"learning_rate": 0.1, "factor": 1.0}, ValueError, "factor=1.0"),
        ("ReduceOnPlateau", {"learning_rate": 0.1, "mode": "least"}, ValueError, "mode='least'"),
        ("ReduceOnPlateau", {"learning_rate": 0.1, "verbose": True}, ValueError, "verbose=True"),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(paddle, make)(**arguments)


def test_it_is_written_as_it_is_made() -> None:
    s = paddle.LinearWarmup(paddle.StepDecay(0.5, step_size=30), warmup_steps=5, start_lr=0.0, end_lr=0.5)
    from jaxsched import compat

    again = eval(repr(s), {"compat": compat})
    assert repr(again) == repr(s)
    assert "paddle.StepDecay(learning_rate=0.5, step_size=30)" in repr(s)
    assert again.table(50).tolist() == s.table(50).tolist()


def test_a_resumed_schedule_goes_on() -> None:
    for make in (
        lambda last: paddle.CosineAnnealingDecay(0.1, T_max=20, last_epoch=last),
        lambda last: paddle.LinearLR(0.1, total_steps=20, last_epoch=last),
        lambda last: paddle.CosineAnnealingWarmRestarts(0.1, T_0=3, T_mult=2, last_epoch=last),
        lambda last: paddle.LambdaDecay(0.1, lambda epoch: 1 / (1 + epoch), last_epoch=last),
    ):
        np.testing.assert_allclose(make(6).table(30), make(-1).table(37)[7:], rtol=1e-6)


def test_a_warmup_misses_no_restart() -> None:
    """Paddle's logarithm says that 121 steps are not yet 4 cycles of 1, 3, 9, 27, 81."""
    restarts = paddle.CosineAnnealingWarmRestarts(0.5, T_0=1, T_mult=3)
    s = paddle.LinearWarmup(restarts, warmup_steps=10, start_lr=0.0, end_lr=0.5)
    assert float(s(131)) == 0.5


def test_a_function_need_not_be_traceable() -> None:
    def halves(epoch: int) -> float:
        return 1.0 if epoch < 3 else 0.5

    s = paddle.LambdaDecay(1.0, halves, horizon=5)
    assert s.table(7).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    m = paddle.MultiplicativeDecay(1.0, halves, horizon=6)
    assert m.table(8).tolist() == [1.0, 1.0, 1.0, 0.5, 0.25, 0.125, 0.125, 0.125]
    assert paddle.LambdaDecay(1.0, halves, horizon=1).table(2).tolist() == [1.0, 1.0]


def test_a_cycle_is_scaled_by_a_function() -> None:
    by_cycle = paddle.CyclicLR(1.0, 2.0, 2, scale_fn=lambda cycle: 1 / cycle)
    assert by_cycle.table(9).tolist() == [1.0, 1.5, 2.0, 1.5, 1.0, 1.25, 1.5, 1.25, 1.0]
    by_step = paddle.CyclicLR(1.0, 2.0, 2, scale_fn=lambda t: 1 / (1 + t), scale_mode="iterations")
    np.testing.assert_allclose(by_step.table(4), [1.0, 1.25, 1 + 1 / 3, 1.125], rtol=1e-6)


def test_a_cycle_may_have_phases_of_no_length() -> None:
    """The peak is the first value, or the last one but the end."""
    falls = paddle.OneCycleLR(1.0, total_steps=4, phase_pct=0.25, anneal_strategy="linear", end_learning_rate=0.25)
    np.testing.assert_allclose(falls.table(5), [1.0, 0.75, 0.5, 0.25, 0.25], rtol=1e-6)
    rises = paddle.OneCycleLR(1.0, total_steps=4, phase_pct=1.0, end_learning_rate=0.25)
    np.testing.assert_allclose(rises.table(6)[-3:], [1.0, 0.25, 0.25], rtol=1e-6)
    slopes = jax.grad(lambda s: jnp.sum(s(jnp.arange(6))), allow_int=True)(rises)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes) if x.dtype == jnp.float32)


# Paddle 3.3.1, learning_rate=1, factor=0.5, patience=1, threshold=0.1, min_lr=0.2: the rate after each metric.
PLATEAU = {
    ("min", "rel"): [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2],
    ("max", "abs"): [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2],
}
METRICS = [2.0, 1.95, 1.9, 1.5, 1.3, 1.29, 1.28, 1.27, 1.26, 1.25]


@pytest.mark.parametrize(("mode", "threshold_mode"), PLATEAU)
def test_cuts_on_a_plateau(mode: str, threshold_mode: str) -> None:
    transformation = paddle.ReduceOnPlateau(
        1.0, mode.upper(), factor=0.5, patience=1, threshold=0.1, threshold_mode=threshold_mode, min_lr=0.2
    )
    state: Any = transformation.init(jnp.ones(3))
    found = []
    for metric in METRICS:
        state = js.observe(state, value=metric)
        found.append(state.learning_rate.item())
    np.testing.assert_allclose(found, PLATEAU[mode, threshold_mode], rtol=1e-6)
