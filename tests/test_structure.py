"""The structure that schedules state about themselves, against their values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import jaxsched as js
from jaxsched._errors import FieldError
from jaxsched.schedules.structure import REGISTRY, filled, marks, parts, span
from tests import mutations
from tests.cases import op_by_op, x64
from tests.peers import harness

HORIZON = 1_500


def in_64_bits(schedule: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "f" else x, schedule)


LEVEL = (
    "KDecay",
    "Ramp[square]",
    "Ramp[mirror-cosine]",
    "levanter-lr_scheduler cycles",
    "levanter-lr_scheduler cycle_length",
    "mmengine-param_scheduler on each other",
    "optax-piecewise_constant_schedule",
)
"""Settings whose last two values happen to be equal."""
OPAQUE = ("UntunedWarmup[radam]", "noise", "noise added")
"""Those of this package whose marks are unknown; many of `compat` are opaque."""
SCHEDULES = [pytest.param(*x, id=x[0]) for x in mutations.makers() if x[0] not in mutations.NO_SCHEDULE]


@pytest.mark.parametrize(("name", "make"), SCHEDULES)
def test_marks_and_span(name: str, make: Callable[[], Any]) -> None:
    with x64():
        schedule = in_64_bits(make())
        found, end = marks(schedule, HORIZON), span(schedule)
        at = 0 if end is None or end > 2**40 else math.ceil(end)
        late = at + (at > 0) * np.array([0, 1, 2, 17, 1_000, 1_000_000])  # what has no end may be slow there
        before = np.linspace(max(0, at - max(2, at // 10)), max(at - 1, 0), 50).astype(np.int64)
        steps = np.concatenate([np.arange(HORIZON + 1), late, before])
        all_values = np.broadcast_to(np.asarray(op_by_op(schedule, steps)), steps.shape)
    curve, after, before = np.split(all_values, [HORIZON + 1, HORIZON + 1 + len(late)])
    if at:
        np.testing.assert_allclose(after, after[-1], rtol=1e-12, atol=1e-15)
        assert np.any(before != after[-1]) != (name in LEVEL), end
    if found is None:
        assert name in OPAQUE or name.partition("-")[0] in harness.PEERS
        return
    assert found[0] == 0
    assert found[-1] == HORIZON
    assert np.all(np.diff(found) > 0)
    # Between marks there is one smooth formula: no second difference stands out from those two steps away.
    bend, scale = np.abs(np.diff(curve, 2)), np.max(np.abs(curve))
    for a, b in zip(np.ceil(found[:-1]).astype(int), np.floor(found[1:]).astype(int), strict=True):
        inside = bend[a : max(b - 1, a)]
        if len(inside) >= 24:  # of fewer the second differences themselves are coarse
            beside = np.maximum(inside[4:], inside[:-4])
            assert np.all(inside[2:-2] <= 5 * beside + 1e-9 * scale), (a, b)


def test_parts_are_placed_on_the_outer_clock() -> None:
    inner = js.Linear(1.0, 0.0, 10)
    s = js.Constant(1.0).then(inner.per_epoch(7) * 0.5, at=30)
    placed = [(type(p.schedule).__name__, p.start, p.length, p.unit, p.to_end) for p in parts(s, 100)]
    assert placed == [
        ("Join", 0, 100, 1, True),
        ("Constant", 0, 30, 1, False),
        ("Product", 30, 70, 1, True),
        ("PerEpoch", 30, 70, 1, True),
        ("Linear", 30, 10, 7, True),
        ("Constant", 30, 70, 1, True),
    ]
    assert [p.length for p in parts(inner.repeat(20), 100)] == [100, 20]
    assert [(p.start, p.length) for p in parts(inner.shift(-4), 100)] == [(0, 100), (-4, 104)]


def test_parts_of_what_is_ahead_begin_before_the_training() -> None:
    joined = js.Linear(0.0, 1.0, 10).then(js.Cosine(1.0, 0.0, 90), at=10)
    placed = [(type(p.schedule).__name__, p.start, p.length) for p in parts(joined.shift(-5), 100)]
    assert placed == [("Shift", 0, 100), ("Join", -5, 105), ("Linear", -5, 10), ("Cosine", 5, 95)]
    over = js.WarmupCosine(1.0, 500, 2000).then(js.Constant(0.1), at=300).shift(-400)
    assert [type(p.schedule).__name__ for p in parts(over, 1000)] == ["Shift", "Join", "Constant"]
    (found,) = js.lint(js.Constant(0.5).then(js.MultiStepDecay(0.5, 0.1, [30, 200]), at=10).per_epoch(1.5), 150)
    assert "MultiStepDecay: step 315)" in found.message  # (10 + 200) * 1.5


def test_stacked_and_traced_schedules_have_no_structure() -> None:
    stacked = js.stack(js.Constant(1.0).cooldown(3, 4), js.Constant(1.0).cooldown(5, 6))
    with pytest.raises(FieldError, match=r"span: schedule=.* is stacked; call span for each of unstack"):
        span(stacked)
    with pytest.raises(TypeError, match=r"marks: schedule=.* is traced; call marks outside of jit"):
        jax.jit(lambda s: marks(s, 10))(js.Linear(0.0, 1.0, 4))


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (js.Constant(1.0), 0),
        (js.Cosine(1.0, 0.0, 100).clip(lo=0.3), 64),  # acos(2 * 0.3 - 1) / pi = 0.63
        (js.InverseSqrtDecay(1.0, 10.0).clip(lo=0.01), 99_990),  # 1 + t / 10 = 100**2
        (js.Cosine(1.0, 0.0, 100) * js.CosineWarmRestarts(1.0, 7), 100),
        (js.Linear(1.0, 0.0, 10).repeat(10, period_mult=2, cycles=3), 70),
        (js.Linear(1.0, 0.0, 10).repeat(10), None),
        (js.Linear(1.0, 0.0, 10).per_epoch(2.5), 25),
        (js.Linear(1.0, 0.0, 10).hold(4), 12),
        (js.Linear(1.0, 0.0, 10).shift(5), 15),
        (js.Linear(1.0, 0.0, 10).shift(-4), 6),
        (js.Lambda(lambda t: 1.0 / (t + 1)), None),
        (js.ExponentialDecay(1.0, 0.5, 10, end_value=0.125), 30),
        (js.StepDecay(1.0, 0.5, 10), None),
        (js.StepDecay(1.0, 0.5, 10).cooldown(at=25, steps=5), 30),
    ],
)
def test_span(schedule: Any, end: float | None) -> None:
    assert span(schedule) == (end if end is None else pytest.approx(end, rel=1e-5))


def test_a_formula_of_a_user_is_opaque_and_a_recipe_is_not() -> None:
    class Halving(js.Schedule):
        init_value: js.fields.Scalar

        def value(self, step: Any) -> Any:
            return self.init_value * 0.5**step

    class UpAndDown(js.Recipe):
        steps: js.fields.Length

        def build(self) -> js.Schedule:
            return js.Linear(0.0, 1.0, self.steps).then(js.Linear(1.0, 0.0, self.steps), at=self.steps)

    assert marks(Halving(1.0), 10) is None
    assert marks(Halving(1.0).warmup(3), 10) is None
    assert marks(Halving(1.0).then(0.5, at=3), 10) is None
    found = marks(UpAndDown(4), 10)
    assert found is not None
    assert found.tolist() == [0, 4, 8, 10]
    assert "Halving" not in REGISTRY, "a class of a user"
    assert REGISTRY["Linear"] is js.Linear


def test_filled_repeats_single_numbers() -> None:
    s = filled(js.WarmupCosine([0.1, 0.2], 10, 100) * 0.5)
    assert js.unstack(s)[1](10) == np.float32(0.1)
    with pytest.raises(FieldError, match=r"peak_value=.* and warmup_steps=.*; write lists of one length"):
        filled(js.WarmupCosine([0.1, 0.2], [1, 2, 3], 100))
