"""Outlines of schedules whose phases, restarts and jumps are known from their definitions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.inspect.phases import Jump, Outline, Phase, outline

from .cases import LAST, x64


def phases(schedule: Any, total_steps: int) -> list[Any]:
    return [tuple(phase) for phase in outline(schedule, total_steps).phases]


PHASES = {
    "cosine": (js.WarmupCosine(1.0, 100, 1000), [("warmup", 0, 100), ("decay", 100, 1000)]),
    "no warmup": (js.WarmupCosine(1.0, 0, 1000), [("decay", 0, 1000)]),
    "wsd": (
        js.WarmupStableDecay(1.0, 100, 1000, 200),
        [("warmup", 0, 100), ("stable", 100, 800), ("decay", 800, 1000)],
    ),
    "tri stage": (js.TriStage(1.0, 50, 350, 600), [("warmup", 0, 50), ("stable", 50, 400), ("decay", 400, 1000)]),
    "infinite": (
        js.schedules.InfiniteSchedule(1.0, 0.5, 100, 200, 1000, 100, 0.01),
        [("warmup", 0, 100), ("decay", 100, 300), ("stable", 300, 900), ("decay", 900, 1000)],
    ),
    "one cycle": (js.OneCycle(0.1, 1000), [("warmup", 0, 299), ("decay", 299, 1000)]),
    "noam": (js.Noam(512, 400), [("warmup", 0, 399), ("decay", 399, 1000)]),
    "constant": (js.Constant(0.1), [("stable", 0, 1000)]),
    "decay and rest": (js.Cosine(1.0, 0.0, 600), [("decay", 0, 600), ("stable", 600, 1000)]),
    "stairs": (js.StepDecay(1.0, 0.5, 100), [("decay", 0, 1000)]),
    "late stairs": (js.MultiStepDecay(1.0, 0.1, [600, 800]), [("stable", 0, 600), ("decay", 600, 1000)]),
    "one stair": (js.PiecewiseConstant([300], [1.0, 0.5]), [("stable", 0, 300), ("stable", 300, 1000)]),
    "epochs": (
        js.WarmupStableDecay(1.0, 4, 20, 5).per_epoch(50),
        [("warmup", 0, 200), ("stable", 200, 800), ("decay", 800, 1000)],
    ),
    "momentum": (js.OneCycleMomentum(0.85, 0.95, 1000), [("decay", 0, 299), ("rise", 299, 1000)]),
    "triangles": (
        js.CyclicTriangular(0.0, 1.0, 200, 300),
        [("warmup", 0, 200), ("decay", 200, 500), ("rise", 500, 700), ("decay", 700, 1000)],
    ),
    "restarts": (
        js.CosineWarmRestarts(1.0, period=100, period_mult=2),
        [("decay", 0, 100), ("decay", 100, 300), ("decay", 300, 700), ("decay", 700, 1000)],
    ),
    "optax": (
        js.Lambda(optax.warmup_cosine_decay_schedule(0.0, 1.0, 100, 1000)),
        [("warmup", 0, 100), ("decay", 100, 1000)],
    ),
    "a cliff": (js.Constant(1.0).cooldown(at=400, steps=0), [("stable", 0, 400), ("stable", 400, 1000)]),
    "far down": (js.ExponentialDecay(1.0, 0.5, 10), [("decay", 0, 1000)]),
    "below zero": (-js.WarmupLinear(1.0, 300, 1000), [("decay", 0, 300), ("rise", 300, 1000)]),
}


@pytest.mark.parametrize("name", PHASES)
def test_phases(name: str) -> None:
    schedule, want = PHASES[name]
    assert phases(schedule, 1000) == want


def test_restarts() -> None:
    assert outline(js.CosineWarmRestarts(1.0, period=100, period_mult=2), 1000).restarts == (100, 300, 700)
    assert outline(js.CyclicTriangular(0.1, 1.0, 20, 30, mode="triangular2"), 200).restarts == (50, 100, 150)
    # Zero belongs to the cycle that it ends: the next step is the restart.
    assert outline(js.PolynomialDecay(1.0, 100, end_value=0.0, cycle=True), 350).restarts == (101, 201, 301)
    assert outline(js.WarmupCosine(1.0, 10, 100), 100).restarts == ()
    assert outline(js.CosineWarmRestarts(1.0, period=50), 100).restarts == (50,), "100 is after the training"


def test_one_smooth_turn_is_no_restart() -> None:
    assert outline(js.OneCycleMomentum(0.85, 0.95, 1000), 1000).restarts == ()
    assert outline(js.CyclicTriangular(0.0, 1.0, 200, 300), 1000).restarts == (), "up, down, up and down: one turn"
    assert outline(js.CosineWarmRestarts(1.0, period=600), 1000).restarts == (600,), "a jump is one"


class Spike(js.Schedule):
    """A schedule with another value, `height`, at the step `at`."""

    schedule: js.Schedule
    at: js.fields.Steps
    height: js.fields.Scalar

    def value(self, step: Any) -> Any:
        return jnp.where(step == self.at, self.height, self.schedule.value(step))


@pytest.mark.parametrize("course", [js.Constant(0.1), js.Cosine(0.1, 0.0, 1000)], ids=["stable", "decay"])
def test_spikes(course: js.Schedule) -> None:
    (phase,) = outline(course, 1000).phases
    for height in (1.0, 5.0, 1e-5, 0.0):
        found = outline(Spike(course, 500, height), 1000)
        assert found.phases == (phase,)
        assert found.restarts == ()
        before, after = found.jumps
        assert (before.step, after.step) == (500, 501)
        assert before.after == after.before == pytest.approx(height)
        assert found.peak_step == (500 if height > 0.1 else 0)


def test_jumps() -> None:
    found = outline(js.PiecewiseConstant([30, 60], [1.0, 0.5, 0.125]), 90)
    assert found.jumps == (Jump(30, 1.0, 0.5), Jump(60, 0.5, 0.125))
    joined = js.Linear(0.0, 0.25, 100).then(js.Cosine(0.5, 0.0, 900), at=100)
    (jump,) = outline(joined, 1000).jumps
    assert jump.step == 100
    assert jump.after == 0.5
    assert jump.before == pytest.approx(0.25 * 99 / 100)
    # Up, to stay there, is a jump; up, to come down again, is a restart.
    assert [j.step for j in outline(js.PiecewiseConstant([50, 70], [1.0, 0.1, 0.5]), 100).jumps] == [50, 70]
    up = outline(js.Linear(1.0, 0.0, 50).then(js.Linear(1.0, 0.0, 50), at=50), 100)
    assert up.jumps == ()
    assert up.restarts == (50,)
    assert outline(js.WarmupStableDecay(1.0, 10, 100, 0), 100).jumps == (), "it jumps after the last step"


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt", "1-sqrt", "square", "1-square", "mirror-cosine"])
def test_smooth_shapes_do_not_jump(shape: Any) -> None:
    for total in (20, 1000):  # one program
        found = outline(js.WarmupStableDecay(1.0, total // 5, total, total // 4, decay_shape=shape), total)
        assert not found.jumps
        assert not found.restarts
        assert [p.name for p in found.phases] == ["warmup", "stable", "decay"]
    assert outline(js.Exponential(1.0, 1e-6, 8), 16).jumps == (), "a fast exponential is one"


def test_peak_first_and_last() -> None:
    found = outline(js.WarmupLinear(0.5, warmup_steps=20, total_steps=100, init_value=0.125), 100)
    assert (found.peak_step, found.peak, found.first) == (20, 0.5, 0.125)
    assert found.last == pytest.approx(0.5 / 80)
    rising = outline(js.Linear(0.0, 1.0, 10), 10)
    assert (rising.peak_step, rising.peak, rising.last) == (9, pytest.approx(0.9), pytest.approx(0.9))


def test_short_horizons() -> None:
    assert outline(js.Constant(0.5), 1) == Outline((Phase("stable", 0, 1),), (), (), 0, 0.5, 0.5, 0.5)
    assert phases(js.Linear(1.0, 0.0, 1), 1) == [("decay", 0, 1)]
    assert phases(js.WarmupLinear(1.0, 1, 3), 3) == [("warmup", 0, 1), ("decay", 1, 3)]
    assert outline(0.1, 3).peak == pytest.approx(0.1), "a number is a schedule"
    assert phases(lambda t: 1.0 - t / 10, 10) == [("decay", 0, 10)], "a callable is one"


def test_phases_cover_all_steps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        total = int(rng.integers(2, 60))
        found = outline(js.PiecewiseConstant(list(range(1, 60)), rng.random(60).round(1)), total)
        stops = [0, *(p.stop for p in found.phases)]
        assert [p.start for p in found.phases] == stops[:-1]
        assert stops[-1] == total
        assert all(p.start < p.stop for p in found.phases)
        assert all(0 < s < total for s in (*found.restarts, *(j.step for j in found.jumps)))
        assert not set(found.restarts) & {j.step for j in found.jumps}


def test_rounding_makes_no_phases() -> None:
    tiny = js.Lambda(lambda t: 1.0 - t / 5000 + 2e-7 * jnp.sin(t * 12.9))
    assert phases(tiny, 5000) == [("decay", 0, 5000)]
    flat = js.Lambda(lambda t: 1.0 + 2e-7 * jnp.sin(t * 12.9))
    assert phases(flat, 5000) == [("stable", 0, 5000)]
    half = js.WarmupLinear(jnp.bfloat16(1.0), 1000, 5000, jnp.bfloat16(0.0), jnp.bfloat16(0.0))
    assert next(name for name, _, _ in phases(half, 5000)) == "warmup"
    assert outline(half, 5000).jumps == ()


def test_noise_makes_few_phases() -> None:
    noisy = outline(js.WarmupStableDecay(1.0, 400, 4000, 1000).noise(std=0.1, seed=3), 4000)
    assert [p.name for p in noisy.phases] == ["warmup", "stable", "decay"]
    assert abs(noisy.phases[0].stop - 400) < 130
    assert abs(noisy.phases[1].stop - 3000) < 400
    assert noisy.jumps == ()
    assert noisy.restarts == ()
    jumps = outline(js.PiecewiseConstant([2345], [1.0, 0.1]).noise(std=0.1, seed=3), 4000).jumps
    assert [jump.step for jump in jumps] == [2345]
    waves = outline(js.CosineWarmRestarts(1.0, 1250).noise(std=0.1, seed=3), 4000)
    assert waves.restarts == (1250, 2500, 3750)
    assert waves.jumps == ()
    for wild in (
        js.schedules.SilverSteps(),
        js.schedules.ChebyshevSteps(1.0, 0.05, period=64),
        js.Constant(1.0).noise(std=0.3),
    ):
        assert phases(wild, 4000) == [("stable", 0, 4000)]
    slight = outline(js.WarmupCosine(1.0, 100, 1000).noise(std=1e-3), 1000)
    assert len(slight.phases) <= 4
    assert slight.jumps == ()


def test_values_that_are_not_finite_are_skipped() -> None:
    hole = js.Lambda(lambda t: jnp.where(t == 40, jnp.nan, 1.0 - t / 100))
    assert phases(hole, 100) == [("decay", 0, 100)]
    nothing = outline(js.Lambda(lambda t: t * jnp.nan), 10)
    assert nothing.phases == ()
    assert np.isnan(nothing.peak)
    assert np.isnan(nothing.first)


FAR = {
    "cosine": (js.WarmupCosine(1.0, 2_000_000, LAST), [("warmup", 0, 2_000_000), ("decay", 2_000_000, LAST)]),
    "wsd": (
        js.WarmupStableDecay(1.0, 123_457, LAST, 100_000_007),
        [("warmup", 0, 123_457), ("stable", 123_457, LAST - 100_000_007), ("decay", LAST - 100_000_007, LAST)],
    ),
    "three": (
        js.TriStage(1.0, 1_000_003, 700_000_001, 1_000_000, end_value=0.25),
        [
            ("warmup", 0, 1_000_003),
            ("stable", 1_000_003, 701_000_004),
            ("decay", 701_000_004, 702_000_004),
            ("stable", 702_000_004, LAST),
        ],
    ),
    "a late cosine": (js.Cosine(1.0, 0.0, 70_007), [("decay", 0, 70_007), ("stable", 70_007, LAST)]),
    "noise": (js.Constant(1.0).noise(std=0.1), [("stable", 0, LAST)]),
    "silver": (js.schedules.SilverSteps(), [("stable", 0, LAST)]),
}


@pytest.mark.parametrize("name", FAR)
def test_far_horizons(name: str) -> None:
    schedule, want = FAR[name]
    assert phases(schedule, LAST) == want


def test_far_jumps_are_exact() -> None:
    table = js.PiecewiseConstant([5, 1_000_000_007, 1_900_000_001], [1.0, 0.5, 0.25, 0.125])
    assert [jump.step for jump in outline(table, LAST).jumps] == [5, 1_000_000_007, 1_900_000_001]
    hidden = js.Lambda(lambda t: jnp.where(t < 1_234_567_891, 1.0, 0.1))  # its marks are unknown
    assert [jump.step for jump in outline(hidden, LAST).jumps] == [1_234_567_891]
    waves = outline(js.CosineWarmRestarts(1.0, 1_000_003, period_mult=2), LAST)
    assert waves.restarts == tuple(1_000_003 * (2**k - 1) for k in range(1, 12))
    # Just beyond the horizons of which every step is evaluated
    stairs = outline(js.StepDecay(1.0, 0.5, 130_011), 2**20 + 1)
    assert [jump.step for jump in stairs.jumps] == [130_011 * k for k in range(1, 9)]


@pytest.mark.trial
def test_long_horizons_are_evaluated_at_every_step() -> None:
    restarts = js.CosineWarmRestarts(0.1, 1000)
    found = outline(restarts, 2_000_000)
    assert found.restarts == tuple(range(1000, 2_000_000, 1000))
    assert found.phases == tuple(Phase("decay", k, k + 1000) for k in range(0, 2_000_000, 1000))
    assert outline(js.CosineWarmRestarts(0.1, 30), 1_100_000).restarts == tuple(range(30, 1_100_000, 30))
    # More marks than are listed: every step is evaluated.
    fast = outline(js.CosineWarmRestarts(0.1, 20), 5_000_000)
    assert fast.restarts == tuple(range(20, 5_000_000, 20))
    assert fast.last == pytest.approx(0.05 * (1 + np.cos(0.95 * np.pi)))
    for at in (1_234_567, 2**20 - 1, 2**20):  # on both sides of the border of two calls too
        found = outline(Spike(js.Constant(0.1), at, 5.0), 2_000_000)
        assert [jump.step for jump in found.jumps] == [at, at + 1]
        assert (found.peak_step, found.peak) == (at, 5.0)


def test_far_restarts_are_exact_or_missing() -> None:
    assert outline(js.CosineWarmRestarts(0.1, 1_000_003), LAST).restarts == tuple(range(1_000_003, LAST, 1_000_003))
    found = outline(js.CosineWarmRestarts(0.1, 1000), LAST)
    assert found.phases == (Phase("stable", 0, LAST),), "too many to locate"
    assert found.restarts == ()
    assert found.jumps == ()


def test_far_horizons_read_a_bounded_number_of_steps() -> None:
    shapes = []

    def spy(t: jax.Array) -> jax.Array:
        shapes.append(t.size)
        return jnp.sin(t * 1e-4) * jnp.where(t % 7 == 0, 1.0, 0.9)

    outline(js.Lambda(spy), LAST)
    assert len(shapes) <= 3, "programs"
    assert max(shapes) <= 2**20


def test_x64() -> None:
    with x64():
        far = 2**62
        found = outline(js.WarmupStableDecay(1.0, 2**40, far, 2**60 + 1), far)
        assert [tuple(p) for p in found.phases] == [
            ("warmup", 0, 2**40), ("stable", 2**40, far - 2**60 - 1), ("decay", far - 2**60 - 1, far)
        ]  # fmt: skip


def test_errors() -> None:
    s = js.Linear(1.0, 0.0, 10)
    with pytest.raises(ValueError, match=r"outline: .* is stacked; call outline for each of unstack"):
        outline(js.stack(s, s), 10)
    with pytest.raises(
        TypeError, match=r"total_steps=10.0 is not an integer; total_steps must be an integer, 1 or more"
    ):
        outline(s, 10.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"total_steps='3ep' is text; .* Timeline"):
        outline(s, "3ep")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="total_steps=True"):
        outline(s, True)
    with pytest.raises(ValueError, match="total_steps=0; total_steps must be an integer, 1 or more"):
        outline(s, 0)
    with pytest.raises(ValueError, match="at most 2_147_483_647; set jax_enable_x64"):
        outline(s, 2**31)
    with pytest.raises(TypeError, match="outline: schedule='cosine' is text"):
        outline("cosine", 10)
    with pytest.raises(TypeError, match="is traced; call outline outside of jit"):
        jax.jit(lambda x: outline(js.Constant(x), 10).peak)(1.0)
    with pytest.raises(ValueError, match=r"values of the shape \(3,\)"):
        outline(js.Lambda(lambda t: jnp.zeros(3)), 10)
    assert outline(s, np.int64(10)).peak == 1.0  # type: ignore[arg-type]
