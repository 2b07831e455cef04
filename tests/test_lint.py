"""Each check of `lint` on schedules with a known fault, and no findings about healthy schedules."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.inspect.finding import Finding
from jaxsched.inspect.lint import lint
from jaxsched.schedules.structure import REGISTRY

from .cases import LAST, x64
from .test_outline import Spike

N = 1000
RECIPE = {"peak_value": 0.1, "warmup_steps": 50, "total_steps": N}
HEALTHY: dict[str, list[js.Schedule]] = {
    "Constant": [js.Constant(0.1)],
    "Lambda": [js.Lambda(optax.cosine_decay_schedule(0.1, N)), js.Lambda(lambda t: 0.1)],
    "Join": [js.Linear(0.0, 0.1, 50).then(js.Cosine(0.1, 0.0, N - 50), at=50), js.join([0.1], [])],
    "Sum": [js.Cosine(0.1, 0.0, N) + 0.01, js.ExponentialDecay(0.1, 0.5, 100) + 0.01],
    "Product": [js.WarmupCosine(**RECIPE) * 0.5, js.Constant(0.1) * js.schedules.UntunedWarmup(0.99)],
    "Clip": [js.Linear(0.1, 0.0, N).clip(lo=1e-3)],
    "Shift": [js.WarmupCosine(0.1, 50, N - 20, init_value=0.01).shift(20), js.StepDecay(0.1, 0.5, 300).shift(-100)],
    "Hold": [js.WarmupCosine(**RECIPE).hold(4), js.Cosine(0.1, 0.0, N).hold(100)],
    "PerEpoch": [js.WarmupCosine(0.1, 5, 100, init_value=0.01).per_epoch(10), js.StepDecay(0.1, 0.1, 3).per_epoch(100)],
    "Repeat": [js.Cosine(0.1, 0.0, 250).repeat(250), js.Linear(0.1, 0.0, 100).repeat(100, 2, 0.5)],
    "Warmup": [js.StepDecay(0.1, 0.1, 300).warmup(50), js.Cosine(0.1, 0.0, N).warmup(50, init_factor=0.1)],
    "Cooldown": [js.WarmupCosine(0.1, 50, 2 * N).cooldown(at=800, steps=200), js.Constant(0.1).cooldown(900, 100)],
    "Noise": [js.WarmupCosine(**RECIPE).noise(0.1), js.CosineWarmRestarts(0.1, 250).noise(0.1)],
    "Linear": [js.Linear(0.1, 0.0, N), js.Linear(0.1, 0.01, N)],
    "Cosine": [js.Cosine(0.1, 0.0, N)],
    "KDecay": [js.schedules.KDecay(0.1, 0.01, N, k=2.0)],
    "Polynomial": [js.Polynomial(0.1, 0.0, N, power=p) for p in (0.5, 2.0)],
    "Exponential": [js.Exponential(0.1, 1e-6, N)],
    "Rex": [js.Rex(0.1, 0.0, N)],
    "Tanh": [js.Tanh(0.1, 0.0, N)],
    "Ramp": [js.Ramp(0.1, 0.0, N, shape="1-sqrt"), js.Ramp(0.1, 1e-5, N, shape="exponential")],
    "StepDecay": [js.StepDecay(0.1, 0.1, 300), js.StepDecay(0.1, 0.9, 10)],
    "MultiStepDecay": [js.MultiStepDecay(0.1, 0.1, [300, 600, 900])],
    "ExponentialDecay": [js.ExponentialDecay(0.1, 0.5, 100, staircase=s) for s in (False, True)],
    "NaturalExpDecay": [js.NaturalExpDecay(0.1, 0.5, 100, staircase=s) for s in (False, True)],
    "InverseTimeDecay": [js.InverseTimeDecay(0.1, 0.5, 100, staircase=s) for s in (False, True)],
    "InverseSqrtDecay": [js.InverseSqrtDecay(0.1, 100)],
    "PowerDecay": [js.PowerDecay(0.1, 0.7, 100)],
    "PiecewiseConstant": [js.PiecewiseConstant([300, 600], [0.1, 0.03, 0.01])],
    "PiecewiseInterpolate": [js.PiecewiseInterpolate([0, 100, N], [0.0, 0.1, 0.0], k) for k in ("linear", "pchip")],
    "CyclicTriangular": [js.CyclicTriangular(0.0, 0.1, 100, 100, mode=m) for m in ("triangular", "triangular2")],
    "CosineWarmRestarts": [js.CosineWarmRestarts(0.1, 250), js.CosineWarmRestarts(0.1, 200, peak_mult=0.5)],
    "PolynomialDecay": [js.PolynomialDecay(0.1, N), js.PolynomialDecay(0.1, 250, end_value=0.0, cycle=True)],
    "WarmupConstant": [js.WarmupConstant(0.1, 50), js.WarmupConstant(0.1, 0)],
    "WarmupLinear": [js.WarmupLinear(**RECIPE), js.WarmupLinear(0.1, 0, N)],
    "WarmupCosine": [js.WarmupCosine(**RECIPE), js.WarmupCosine(**RECIPE, end_value=0.01), js.WarmupCosine(0.1, 10, N)],
    "WarmupPolynomial": [js.WarmupPolynomial(**RECIPE, power=2.0)],
    "WarmupExponential": [js.WarmupExponential(**RECIPE, end_value=1e-4)],
    "WarmupInverseSqrt": [js.WarmupInverseSqrt(0.1, 50)],
    "WarmupStableDecay": [
        js.WarmupStableDecay(**RECIPE, decay_steps=200),
        js.WarmupStableDecay(**RECIPE, decay_steps=200, decay_shape="cosine", warmup_shape="cosine"),
        js.WarmupStableDecay(**RECIPE, decay_steps=0),
    ],
    "TriStage": [js.TriStage(0.1, 50, 450, 500)],
    "InfiniteSchedule": [js.schedules.InfiniteSchedule(0.1, 0.05, 50, 300, N, 100, 1e-4)],
    "Noam": [js.Noam(512, 100)],
    "PowerSchedule": [js.schedules.PowerSchedule(1024, 2**22, N, warmup_steps=50, decay_steps=200)],
    "OneCycle": [js.OneCycle(0.1, N), js.OneCycle(0.1, N, three_phase=True), js.OneCycle(0.1, N, shape="linear")],
    "OneCycleMomentum": [js.OneCycleMomentum(0.85, 0.95, N), js.OneCycleMomentum(0.85, 0.95, N, three_phase=True)],
    "ChebyshevSteps": [js.schedules.ChebyshevSteps(1.0, 0.05, 64)],
    "SilverSteps": [js.schedules.SilverSteps(0.1)],
    "UntunedWarmup": [js.schedules.UntunedWarmup(0.99, kind) for kind in ("linear", "exponential", "radam")],
}


def checks(schedule: Any, total: int, **more: Any) -> list[tuple[int | None, str]]:
    return [(finding.step, finding.check) for finding in lint(schedule, total, **more)]


def test_every_public_schedule_has_healthy_settings() -> None:
    public = {name for name in REGISTRY if "." not in name and name[0] != "_"}
    assert public == set(HEALTHY), "a new class needs healthy settings here"


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_schedules_have_no_findings(name: str) -> None:
    for schedule in HEALTHY[name]:
        assert lint(schedule, N) == [], schedule


def healthy_on(total: int) -> list[js.Schedule]:
    warmup = total // 50
    return [
        js.WarmupCosine(3e-4, warmup, total),
        js.WarmupStableDecay(3e-4, warmup, total, total // 5),
        js.OneCycle(0.1, total),
        js.StepDecay(0.1, 0.1, total // 3),
        js.CosineWarmRestarts(0.1, total // 7, period_mult=2) if total % 7 == 0 else js.Rex(0.1, 0.0, total),
        js.WarmupInverseSqrt(1e-3, warmup),
        js.WarmupCosine(3e-4, warmup, total).noise(0.05),
        js.TriStage(1e-3, warmup, total // 2, total - warmup - total // 2),
    ]


@pytest.mark.parametrize("total", [700, 2**20 + 3, LAST])
def test_healthy_schedules_have_no_findings_at_any_horizon(total: int) -> None:
    for schedule in healthy_on(total):
        assert lint(schedule, total) == [], schedule


def nan_at(t: Any) -> Any:
    return jnp.where(t >= 51, jnp.nan, 0.1)


cosine = js.WarmupCosine(0.1, 100, 1000)
level = js.Constant(0.1)
step = js.StepDecay(0.1, 0.1, 30)
FOUND: dict[str, tuple[Any, int, list[tuple[int | None, str, str]]]] = {
    "nan": (js.Lambda(nan_at), 100, [(51, "error", "not-finite")]),
    "infinite": (js.Lambda(lambda t: 1.0 / jnp.abs(20.0 - t)), 100, [(20, "error", "not-finite")]),
    "below zero": (js.Lambda(lambda t: 50.5 - t), 100, [(51, "error", "negative")]),
    "minus": (-js.Constant(0.1), 100, [(0, "error", "negative")]),
    "zero": (js.Constant(0.0), 100, [(0, "error", "all-zero")]),
    "zero at the only step": (cosine, 1, [(0, "error", "all-zero")]),
    "a share for steps": (
        js.WarmupCosine(0.1, 0.1, 100),
        100,
        [(0, "warning", "part-step"), (0, "warning", "zero-start")],
    ),
    "a warmup of five": (js.WarmupCosine(0.1, 5, 100), 100, [(0, "warning", "zero-start")]),
    "a warmup of five from above 0": (js.WarmupCosine(0.1, 5, 100, init_value=0.01), 100, []),
    "a warmup of ten": (js.WarmupCosine(0.1, 10, 100), 100, []),
    "a horizon of ten": (js.WarmupCosine(0.1, 5, 10), 10, [(0, "warning", "zero-start")]),
    "zero without a rise": (js.PiecewiseConstant([1, 50], [0.0, 0.1, 0.01]), 100, [(0, "warning", "zero-start")]),
    "an epoch of zero": (js.WarmupCosine(0.1, 5, 50).per_epoch(20), 1000, [(0, "warning", "zero-start")]),
    "a pause": (
        js.PiecewiseConstant([30, 60], [0.1, 0.0, 0.05]),
        100,
        [(30, "warning", "zero-stretch"), (60, "warning", "jump")],
    ),
    "a jump up": (js.PiecewiseConstant([50], [0.1, 0.5]), 100, [(50, "warning", "jump")]),
    "a join that does not meet": (
        js.Linear(0.0, 0.1, 100).then(js.Cosine(0.5, 0.0, 900), at=100),
        1000,
        [(100, "warning", "jump")],
    ),
    "a cliff in a curve": (
        js.Linear(0.1, 0.05, 500).then(js.Linear(0.01, 0.0, 500), at=500),
        1000,
        [(500, "warning", "jump")],
    ),
    "stairs in noise": (step.noise(0.1), 90, []),
    "a jump up in noise": (js.PiecewiseConstant([500], [0.1, 0.5]).noise(0.1), 1000, [(500, "warning", "jump")]),
    "up to stay": (js.Linear(0.1, 0.0, 500).then(0.05, at=500), 1000, [(500, "warning", "jump")]),
    "a cooldown of no steps": (js.WarmupConstant(0.1, 50).cooldown(600, 0, 0.01), 1000, []),
    "warmup in the stairs": (step.warmup(50), 90, [(30, "warning", "jump")]),
    "two warmups": (
        js.Linear(0.0, 0.1, 100).then(js.Lambda(optax.warmup_cosine_decay_schedule(0.0, 0.1, 100, 900)), at=100),
        1000,
        [(100, "warning", "jump")],
    ),
    "a peak beyond": (js.WarmupCosine(0.1, 2000, 10_000), 1000, [(999, "warning", "peak")]),
    "a peak in a piece": (js.WarmupCosine(0.1, 200, 1000).then(0.05, at=100), 1000, [(99, "warning", "peak")]),
    "a long warmup": (js.WarmupLinear(0.1, 600, 1000), 1000, [(600, "warning", "warmup")]),
    "half of it": (js.WarmupLinear(0.1, 500, 1000), 1000, []),
    "all of it": (js.WarmupConstant(0.1, 1000), 1000, [(1000, "warning", "warmup")]),
    "too short": (cosine, 1200, [(1000, "warning", "short-horizon")]),
    "too short by one": (cosine, 1001, []),
    "held at its end": (js.WarmupCosine(0.1, 100, 1000, 0.0, 0.01), 1200, [(1000, "note", "short-horizon")]),
    "held at its end for a little": (js.WarmupCosine(0.1, 100, 1000, 0.0, 0.01), 1050, []),
    "one cycle prolonged": (js.OneCycle(0.1, 1000), 1500, [(999, "warning", "short-horizon")]),
    "cut at 80%": (cosine, 800, [(800, "warning", "cut-off")]),
    "cut at 99%": (cosine, 991, []),
    "an exponential cut": (js.WarmupExponential(0.1, 100, 1000, end_value=1e-4), 800, [(800, "warning", "cut-off")]),
    "an exponential without an end": (js.ExponentialDecay(0.1, 0.5, 100) + 0.01, 200, []),
    "epochs cut": (js.Cosine(0.1, 0.0, 50).per_epoch(20), 600, [(600, "warning", "cut-off")]),
    "a first stair beyond": (step, 25, [(25, "warning", "overrun")]),
    "a first stair at the end": (step, 30, [(30, "warning", "overrun")]),
    "a first stair": (step, 31, []),
    "a decay that never begins": (js.WarmupStableDecay(0.1, 100, 2000, 400), 1000, [(1000, "warning", "overrun")]),
    "a piece beyond": (js.PiecewiseConstant([50, 200], [0.5, 0.1, 0.01]), 100, [(100, "warning", "overrun")]),
    "a piece at the end": (js.PiecewiseConstant([50, 100], [0.5, 0.1, 0.01]), 100, [(100, "warning", "overrun")]),
    "a milestone at the end": (js.MultiStepDecay(0.1, 0.1, [500, 1000]), 1000, [(1000, "warning", "overrun")]),
    "a milestone before it": (js.MultiStepDecay(0.1, 0.1, [500, 999]), 1000, []),
    "a knot at the end": (js.PiecewiseInterpolate([0, 50, 100], [0.1, 0.1, 0.0]), 100, []),
    "a jump at the end": (js.PiecewiseConstant([999], [0.1, 0.5]), 1000, [(999, "warning", "jump")]),
    "a restart at the end": (js.CosineWarmRestarts(0.1, 333), 1000, [(999, "warning", "cut-cycle")]),
    "one restart, at the end": (js.CosineWarmRestarts(0.1, 999), 1000, [(999, "warning", "cut-cycle")]),
    "a spike": (
        js.Linear(0.0, 0.1, 100).then(js.Constant(1.0), at=100).then(js.Cosine(0.1, 0.0, 899), at=101),
        1000,
        [(100, "warning", "spike")],
    ),
    "a dip": (
        js.Linear(0.0, 0.1, 100).then(js.Constant(1e-5), at=100).then(js.Cosine(0.1, 0.0, 899), at=101),
        1000,
        [(100, "warning", "spike")],
    ),
    "a dip to zero": (Spike(level, 500, 0.0), 1000, [(500, "warning", "spike")]),
    "a spike in a constant": (Spike(level, 500, 5.0), 1000, [(500, "warning", "spike")]),
    "a spike in noise": (Spike(level, 500, 5.0).noise(0.1), 1000, [(500, "warning", "spike")]),
    "only noise": (Spike(level, 500, 0.1).noise(0.1), 1000, []),
    "a join beyond": (js.Constant(0.1).then(js.Cosine(0.1, 0.0, 50), at=200), 100, [(100, "warning", "overrun")]),
    "less than a cycle": (js.CosineWarmRestarts(0.1, 100), 70, [(70, "warning", "overrun")]),
    "one cycle of many": (js.CosineWarmRestarts(0.1, 100), 100, []),
    "less than a triangle": (js.CyclicTriangular(0.01, 0.1, 20, 80), 70, [(70, "warning", "overrun")]),
    "a cooldown beyond": (js.Constant(0.1).cooldown(200, 50), 100, [(100, "warning", "overrun")]),
    "less than an epoch": (js.ExponentialDecay(0.1, 0.9, 1).per_epoch(100), 60, [(60, "warning", "overrun")]),
    "no change by epochs": (js.Constant(0.1).per_epoch(100), 60, []),
    "a factor of one": (js.StepDecay(0.1, 1.0, 30), 90, [(None, "warning", "constant")]),
    "a cycle cut": (js.CosineWarmRestarts(0.1, 100, 2), 400, [(300, "note", "cut-cycle")]),
    "all cycles": (js.CosineWarmRestarts(0.1, 100, 2), 700, []),
    "a momentum of one": (js.OneCycleMomentum(0.85, 1.0, 100), 100, [(0, "error", "momentum")]),
}


@pytest.mark.parametrize("name", FOUND)
def test_findings(name: str) -> None:
    schedule, total, want = FOUND[name]
    assert [(f.step, f.severity, f.check) for f in lint(schedule, total)] == want


def test_messages_hold_the_numbers() -> None:
    def only(schedule: Any, total: int, **more: Any) -> str:
        (finding,) = lint(schedule, total, **more)
        return str(finding)

    assert only(js.Constant(0.1).cooldown(at=10_000, steps=0, end_value=0.01).then(0.5, at=20_000), 30_000) == (
        "warning at step 20000: jump from 0.01 to 0.5; write a next piece that begins at 0.01, or a ramp to it"
    )
    text = only(cosine, 800)
    assert "from 0.1 is cut off at 0.0117" in text
    assert "end at 0, at step 1000" in text
    assert "total_steps=800" in text
    text = only(js.WarmupCosine(0.1, 2000, 10_000), 1000)
    assert "comes to 0.04995 and never to peak_value=0.1" in text
    assert "warmup_steps=2000" in text
    assert "last 200 of 1200 steps" in only(cosine, 1200)
    assert "the first 20 updates have a rate of 0, 20% of the 100 steps of warmup" in only(
        *FOUND["an epoch of zero"][:2]
    )
    assert only(js.StepDecay(0.1, 1.0, 30), 90).startswith("warning: the value is 0.1 at all 90 steps")
    assert "(StepDecay: step 30)" in only(step, 25)


def test_many_jumps_are_counted() -> None:
    saw = js.Lambda(lambda t: 0.1 + 0.001 * (t % 50) + 0.5 * (t // 50))
    found = lint(saw, 1000)
    jumps = [f for f in found if f.check == "jump"]
    assert [f.step for f in jumps] == [50, 100, 150]
    assert "16 more" in jumps[-1].message


def test_b2() -> None:
    # 2 / (1 - 0.999) = 2000 steps, 2 / (1 - 0.95) = 40
    total = 4_000
    assert checks(js.WarmupCosine(1e-3, 2000, total), total, b2=0.999) == []
    assert checks(js.WarmupCosine(1e-3, 1900, total), total, b2=0.999) == [(0, "b2")]
    assert checks(js.WarmupCosine(1e-3, 40, total), total, b2=0.95) == []
    assert checks(js.Cosine(1e-3, 0.0, total), total, b2=0.95) == [(0, "b2")]
    for kind in ("linear", "exponential", "radam"):
        untuned = js.Cosine(1e-3, 0.0, total) * js.schedules.UntunedWarmup(0.999, kind)
        assert checks(untuned, total, b2=0.999) == [], kind
    (short,) = lint(js.WarmupCosine(1e-3, 100, 1000), 1000, b2=0.999)
    assert "warmup takes 100 steps" in short.message
    assert "asks for 2000" in short.message
    assert short.suggestion.startswith("write the schedule * UntunedWarmup(0.999)"), "and not another Adam"
    assert "b2=0.98, for which a tenth of the training is enough" in short.suggestion  # 2 / (1 - 0.98) = 100 of 1000
    assert lint(js.WarmupCosine(1e-3, 100, 1000), 1000) == [], "without b2"
    for wrong, kind in ((1.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("0.9", TypeError)):
        with pytest.raises(kind, match=r"b2=.*; b2 must be a number from 0 to below 1, such as 0\.999"):
            lint(cosine, 1000, b2=wrong)  # type: ignore[arg-type]


def test_far_horizons() -> None:
    half = LAST // 2
    late = 1_234_567_891
    assert checks(js.WarmupStableDecay(0.1, 1000, LAST, LAST - 2000), half) == [(half, "cut-off")]
    assert checks(js.Lambda(lambda t: jnp.where(t < late, 1.0, -0.1)), LAST)[0] == (late, "negative")
    assert checks(js.Lambda(lambda t: jnp.where(t < late, 1.0, jnp.nan)), LAST) == [(late, "not-finite")]
    joined = js.Linear(1.0, 0.5, late).then(js.Linear(0.1, 0.0, LAST - late), at=late)
    assert checks(joined, LAST) == [(late, "jump")]
    with x64():
        assert lint(js.WarmupCosine(1e-3, 2**40, 2**50), 2**50) == []


def test_one_wrong_step_of_many() -> None:
    at, total = 1_060_567, 1_100_000
    assert checks(js.Lambda(lambda t: jnp.where(t == at, jnp.nan, 0.1)), total) == [(at, "not-finite")]
    assert checks(Spike(level, at, -0.01), total)[0] == (at, "negative")
    for height in (1.0, 0.0):
        assert checks(Spike(level, at, height), total) == [(at, "spike")]


def test_many_spikes_are_counted() -> None:
    found = lint(js.Lambda(lambda t: jnp.where(t % 100 == 50, 1.0, 0.1)), 1000)
    assert [(f.step, f.check) for f in found] == [(50, "spike"), (150, "spike"), (250, "spike")]
    assert found[2].message == "the value is 1 for one update, between 0.1 and 0.1, and 7 more such spikes"


def test_peers() -> None:
    torch = js.compat.torch
    assert lint(torch.StepLR(lr=0.1, step_size=30, gamma=0.1), 90) == []
    assert [f.check for f in lint(torch.StepLR(lr=0.1, step_size=30, gamma=0.1), 20)] == ["overrun"]
    assert lint(js.compat.transformers.get_scheduler("cosine", 5e-5, 100, 1000), 1000) == []
    assert [f.check for f in lint(js.compat.transformers.get_scheduler("linear", 5e-5, 100, 1000), 600)] == ["cut-off"]


def test_a_finding_is_one_line_and_sorted() -> None:
    finding = Finding(7, "note", "jump", "it jumps", "write less")
    assert str(finding) == "note at step 7: it jumps; write less"
    assert str(finding._replace(step=None)) == "note: it jumps; write less"
    messy = js.PiecewiseConstant([1, 30, 60], [0.0, 0.1, 0.0, 0.5]).then(js.Constant(-1.0), at=90)
    found = lint(messy, 100)
    assert [f.step for f in found] == sorted(f.step or 0 for f in found)
    assert len(found) >= 3
    assert all("\n" not in str(f) for f in found)


def test_errors() -> None:
    with pytest.raises(ValueError, match="is stacked; call lint for each of unstack"):
        lint(js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=1, total_steps=10), 10)
    with pytest.raises(TypeError, match=r"lint: total_steps=10\.5 is not an integer"):
        lint(cosine, 10.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lint: total_steps=-1; total_steps must be an integer, 1 or more"):
        lint(cosine, -1)
    with pytest.raises(TypeError, match="is an optimizer"):
        lint(optax.sgd(0.1), 10)
    with pytest.raises(ValueError, match=r"lint: schedule=.* gives values of the shape \(3,\)"):
        lint(js.Lambda(lambda t: jnp.zeros(3)), 10)
    with pytest.raises(TypeError, match=r"lint: schedule=.* write it with jax.numpy, and jnp.where for an if"):
        lint(js.Lambda(lambda t: 1.0 if t < 5 else 0.0), 10)
    assert lint(np.float32(0.1), 10) == []


def test_suggestions_fit_the_schedule_and_their_numbers_can_be_pasted() -> None:
    suggestions = {f.check: f.suggestion for f in lint(js.Linear(1.0, -0.5, 10), 10)}
    assert suggestions["negative"] == "write .clip(lo=0.0) behind the schedule"
    suggestions = {f.check: f.suggestion for f in lint(-js.Constant(0.1), 10)}
    assert suggestions["negative"].startswith("write no minus sign")
    suggestions = {f.check: f.suggestion for f in lint(js.Constant(0.0).then(js.Constant(0.01916), at=20), 100)}
    assert suggestions["zero-start"] == "write an init_value above 0, such as 0.0001916"
