"""Plans against the fractions of a table, against the bound, and against the paper's stages written on numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.predict import plan


def best(rates: Any) -> tuple[Any, Any]:
    """gamma* and Omega* of theorem 10 of 2501.18965 for each row, D = G = 1, float64; each sum as a product."""
    eta = np.atleast_2d(np.asarray(rates, np.float64))
    onwards = np.tril(np.ones((eta.shape[1], eta.shape[1])))
    total, noise = eta @ onwards, eta**2 @ onwards
    last = np.sum(eta[:, :-1] / total[:, 1:] * noise[:, :-1] / total[:, :-1], axis=1) / 2
    far, near = 1 / (2 * total[:, 0]), noise[:, 0] / (2 * total[:, 0]) + last
    return np.sqrt(far / near), 2 * np.sqrt(far * near)


def trapezoid(steps: int, cooldown: int) -> np.ndarray:
    """1, and then 1 - i / cooldown in the last steps."""
    return np.minimum(1.0, (steps - np.arange(steps)) / cooldown)


def wsd(steps: int = 400, peak: float = 1e-3, warmup: int = 0, **fields: Any) -> js.Schedule:
    return js.WarmupStableDecay(peak, warmup, steps, steps // 5, **{"decay_shape": "linear", **fields})  # pyright: ignore


# --- the horizon: values ---------------------------------------------------------------------------------------------

FRACTIONS = {
    1.5: 0.45,
    2: 0.63,
    2.5: 0.77,
    3: 0.88,
}  # computed apart from this package, from a WSD of 20 % linear cooldown
FACTORS = {1.5: 0.64, 2: 0.53, 2.5: 0.47, 3: 0.43, 3.5: 0.40, 4: 0.38}  # at .8 of the old horizon
FEW = np.linspace(0.3, 1.0, 701)
HORIZONS = [400, pytest.param(4000, marks=pytest.mark.trial)]


@pytest.mark.parametrize("steps", HORIZONS)
def test_the_fractions_of_the_table(steps: int) -> None:
    for multiple, fraction in FRACTIONS.items():
        got = plan.extend(wsd(steps), at=round(0.3 * steps), new_total=round(multiple * steps))
        assert abs(got.cooldown_fraction - fraction) <= 0.02, (multiple, got)


@pytest.mark.parametrize("steps", HORIZONS)
def test_the_factors_of_the_table(steps: int) -> None:
    for multiple, factor in FACTORS.items():
        got = plan.extend(wsd(steps), at=round(0.8 * steps), new_total=round(multiple * steps))
        assert abs(got.factor - factor) <= 0.02, (multiple, got)
        assert got.same_cooldown_steps == round(0.2 * multiple * steps)


@pytest.fixture(scope="module")
def prolonged() -> plan.Extension:
    return plan.extend(wsd(), at=120, new_total=800)


def test_tuned_is_where_the_best_scale_is_that_of_the_old_run(prolonged: plan.Extension) -> None:
    """Every cooldown and many factors, one after the other."""
    old = best(trapezoid(400, 80))[0]
    gammas = best([trapezoid(800, cooldown) for cooldown in range(1, 681)])[0]
    assert abs(prolonged.cooldown_steps - (1 + np.argmin(abs(gammas - old)))) <= 1
    gammas = best([np.where(np.arange(800) < 120, 1.0, f) * trapezoid(800, 160) for f in FEW])[0]
    assert abs(prolonged.factor - FEW[np.argmin(abs(gammas - old))]) <= 0.002


def test_least_is_the_least_bound_of_all() -> None:
    got = plan.extend(wsd(), at=120, new_total=800, rule="least")
    old = best(trapezoid(400, 80))[0]

    def bounds(shapes: Any) -> np.ndarray:  # in units of the distance at which the old run is tuned
        scale, least = best(shapes)
        return least * (scale / old + old / scale) / 2

    cooled = bounds([trapezoid(800, cooldown) for cooldown in range(1, 681)])
    np.testing.assert_allclose(got.bounds.longer_cooldown, cooled.min(), rtol=2e-6)
    np.testing.assert_allclose(cooled[got.cooldown_steps - 1], cooled.min(), rtol=1e-6)
    low = bounds([np.where(np.arange(800) < 120, 1.0, f) * trapezoid(800, 160) for f in FEW])
    np.testing.assert_allclose(got.bounds.lowered, low.min(), rtol=1e-5)
    np.testing.assert_allclose(got.bounds.unchanged, bounds(trapezoid(800, 160))[0], rtol=2e-6)


def test_the_bounds_are_those_of_the_schedules(prolonged: plan.Extension) -> None:
    old = best(1e-3 * trapezoid(400, 80))[0]
    ways = ("longer_cooldown", "lowered")
    scale, least = best([getattr(prolonged, way).table(801)[:800] for way in ways])
    np.testing.assert_allclose(prolonged.bounds[1:], least * (scale / old + old / scale) / 2, rtol=2e-6)
    np.testing.assert_allclose(prolonged.scales[1:], scale / old, rtol=2e-6)
    assert np.all(abs(scale / old - 1) < 2e-3)  # a cooldown has whole steps
    assert prolonged.bounds.longer_cooldown < prolonged.bounds.lowered < prolonged.bounds.unchanged
    assert prolonged.best is prolonged.longer_cooldown
    assert prolonged.scales.unchanged < 0.8  # which is why the horizon takes a plan


def test_the_height_of_the_rates_does_not_count(prolonged: plan.Extension) -> None:
    for peak in (1e-9, 1e4):
        other = plan.extend(wsd(peak=peak), at=120, new_total=800)
        assert other.cooldown_steps == prolonged.cooldown_steps
        np.testing.assert_allclose(other.factor, prolonged.factor, rtol=1e-4)
        np.testing.assert_allclose(other.bounds, prolonged.bounds, rtol=1e-5)


@pytest.mark.trial
def test_a_million_steps_have_the_fraction_of_many() -> None:
    got = plan.extend(wsd(1_000_000), at=400_000, new_total=1_500_000)
    few = plan.extend(wsd(4_000), at=1_600, new_total=6_000)
    assert abs(got.cooldown_fraction - few.cooldown_fraction) < 0.01
    assert abs(got.factor - few.factor) < 0.01


# --- the horizon: schedules ------------------------------------------------------------------------------------------

OLD: dict[str, tuple[js.Schedule, int]] = {
    "WSD": (wsd(warmup=37), 320),
    "WSD at the end of its warmup": (wsd(warmup=37), 37),
    "WSD from step 0": (wsd(), 0),
    "WSD, 1-sqrt": (wsd(warmup=37, decay_shape="1-sqrt", warmup_shape="cosine"), 200),
    "late in a cosine": (js.WarmupCosine(3e-4, 41, 400), 370),
    "a product": (js.Cosine(1.0, 0.0, 400).warmup(20) * 0.123, 90),
    "constant": (js.Constant(0.1), 399),
    "in bfloat16": (js.Cosine(jnp.bfloat16(0.3), jnp.bfloat16(0.0), 400), 77),
}
SLOW = ("a product", "WSD, 1-sqrt", "in bfloat16")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.trial) if name in SLOW else name for name in OLD],
)
def test_the_steps_that_are_done_stay_bit_for_bit(name: str) -> None:
    schedule, at = OLD[name]
    got = plan.extend(schedule, at, 800, total_steps=400)
    before = np.asarray(schedule.table(400))
    for way, cooldown in ((got.longer_cooldown, got.cooldown_steps), (got.lowered, got.same_cooldown_steps)):
        rates = np.asarray(way.table(801), np.float64)
        np.testing.assert_array_equal(rates[:at], np.asarray(before, np.float64)[:at])
        np.testing.assert_array_equal(rates[at : 800 - cooldown], rates[at])
        assert rates[800] == 0 < rates[799]
        assert np.all(np.diff(rates[at:]) <= 0)
        assert rates.max() <= before.max() * 1.0001
        if before.dtype == np.float32:  # a text has no type
            np.testing.assert_array_equal(np.asarray(js.parse(repr(way)).table(801), np.float64), rates)
        level = float(before[at]) * (got.factor if way is got.lowered else 1)
        np.testing.assert_allclose(rates[at], level, rtol=1e-6 if before.dtype == np.float32 else 1e-2)
    assert got.bounds.longer_cooldown <= got.bounds.unchanged * (1 + 1e-6)
    assert got.bounds.lowered <= got.bounds.unchanged * (1 + 1e-6)


def test_a_decay_that_was_left_late_is_raised_again() -> None:
    schedule, at = OLD["late in a cosine"]
    got = plan.extend(schedule, at, 800)
    assert 1 < got.factor <= 3e-4 / float(schedule(at)) * 1.0001
    assert got.best is got.lowered
    assert got.scales.unchanged > 1


@pytest.mark.trial
def test_what_the_cooldown_looks_like_can_be_told() -> None:
    got = plan.extend(wsd(), 120, 800, shape="1-sqrt", end_value=1e-5, cooldown_fraction=0.1)
    assert got.same_cooldown_steps == 80
    start = 800 - got.cooldown_steps
    rates, quarter = got.longer_cooldown.table(801), start + got.cooldown_steps // 4
    left = 1 - math.sqrt((quarter - start) / got.cooldown_steps)
    np.testing.assert_allclose(rates[np.array([800, quarter])], [1e-5, 1e-5 + 0.00099 * left], rtol=1e-5)
    assert ".cooldown(at=600, steps=80, end_value=1e-05, shape='1-sqrt')" in repr(got.lowered)
    assert "shape='1-sqrt'" in repr(plan.extend(wsd(decay_shape="1-sqrt"), 120, 800).best)


def test_a_cooldown_has_at_most_the_steps_that_are_left() -> None:
    got = plan.extend(wsd(), at=320, new_total=1600)
    assert got.cooldown_steps == 1280
    assert got.scales.longer_cooldown < 0.9  # so that the rate is still too high
    lines = repr(got).splitlines()
    assert lines[0].startswith("Extension from step 320 to 1600 steps: longer_cooldown has the smaller bound, by ")
    assert "cooldown of 1280 steps (80.0%, all that is left)" in lines[2]
    assert lines[2].endswith(f"rates {1 / got.scales.longer_cooldown:.3g} times the bound's best")
    assert lines[3].startswith(f"  lowered: rate times {got.factor:.3f}, cooldown of 320 steps (20.0%)")
    assert f"({got.bounds.lowered / got.bounds.unchanged - 1:+.1%})" in lines[3]


def test_a_known_distance() -> None:
    tuned = 1 / float(best(trapezoid(400, 80))[0][0]) / 1000  # of a peak of 1e-3
    same = plan.extend(wsd(), 120, 800)
    got = plan.extend(wsd(), 120, 800, distance=tuned * 1000 * 1e-3)
    assert abs(got.cooldown_steps - same.cooldown_steps) <= 1


# --- the peak --------------------------------------------------------------------------------------------------------

GAMMAS: dict[str, tuple[Any, float, float]] = {  # at 400 and 4,000 steps, computed apart from this package
    "constant": (lambda _: js.Constant(1.0), 0.018176, 0.0050325),
    "WSD, linear": (lambda steps: wsd(steps, 1.0), 0.025374, 0.0081183),
    "WSD, 1-sqrt": (lambda steps: wsd(steps, 1.0, decay_shape="1-sqrt"), 0.026846, 0.0085692),
    "linear": (lambda steps: js.Linear(1.0, 0.0, steps), 0.049563, 0.0157929),
    "cosine": (lambda steps: js.WarmupCosine(1.0, 0, steps), 0.048242, 0.0153402),
}


@pytest.mark.parametrize(
    "name", [name if name.endswith("linear") else pytest.param(name, marks=pytest.mark.trial) for name in GAMMAS]
)
def test_the_peak_of_another_horizon(name: str) -> None:
    shape, few, many = GAMMAS[name]
    np.testing.assert_allclose(plan.transfer_peak(shape, 400, 4000), many / few, rtol=1e-4)
    np.testing.assert_allclose(
        plan.transfer_peak(shape, 4000, 400, [0.1, 2.0]), np.array([0.1, 2.0]) * few / many, rtol=1e-4
    )


def test_the_peak_of_another_shape() -> None:
    """Whatever the heights of both."""
    got = plan.transfer_peak(js.Linear(7.0, 0.0, 400), 400, 400, 0.5, to_shape=lambda steps: wsd(steps, 0.01))
    np.testing.assert_allclose(got, 0.5 * 0.025374 / 0.049563, rtol=1e-4)


def test_the_warmup_keeps_its_steps() -> None:
    def gamma(steps: int) -> float:
        t = np.arange(steps)
        return best(np.minimum(t / 100, 1) * np.minimum(1, (steps - t) / (steps - 100)))[0][0]

    got = plan.transfer_peak(js.WarmupLinear(5.0, 100, 400), 400, 1000, 1.0)
    np.testing.assert_allclose(got, gamma(1000) / gamma(400), rtol=1e-5)
    assert type(got) is float


# --- batch size ------------------------------------------------------------------------------------------------------


def test_the_rules_of_batch_size() -> None:
    assert plan.scale_batch(0.1, 256, 8192) == pytest.approx(3.2)  # Goyal et al.: 0.1 for 256, and 3.2 for 8k
    assert plan.scale_batch(3e-4, 256, 4096, "sqrt") == pytest.approx(1.2e-3)
    np.testing.assert_allclose(plan.scale_batch(np.array([1.0, 2.0]), 8, 2), [0.25, 0.5])
    assert plan.scale_batch(plan.scale_batch(0.3, 100, 700, "sqrt", 512), 700, 100, "sqrt", 512) == pytest.approx(0.3)


@pytest.mark.parametrize(("rule", "power"), [("linear", 1.0), ("sqrt", 0.5)])
def test_the_critical_batch(rule: Any, power: float) -> None:
    """eta(B) = eta_max / (1 + B_noise / B)^power, McCandlish et al. (1812.06162)."""
    eta = lambda batch: 3.0 / (1 + 1000 / batch) ** power  # noqa: E731
    for batch, new in ((10, 20), (1000, 2000), (10, 10**7)):
        got = plan.scale_batch(eta(batch), batch, new, rule, critical_batch=1000)
        assert got == pytest.approx(eta(new), rel=1e-12)
    assert plan.scale_batch(1.0, 1, 2, rule, critical_batch=1e9) == pytest.approx(2**power)  # as without it
    assert plan.scale_batch(1.0, 1, 2, rule, critical_batch=1e-9) == pytest.approx(1.0)  # nothing to be gained


def test_a_schedule_of_another_batch_size() -> None:
    schedule = js.WarmupCosine(0.1, 10, 100)
    assert repr(plan.scale_batch(schedule, 32, 128, "sqrt")) == f"{schedule!r} * 2.0"
    many = lambda batch: plan.scale_batch(0.1, 32, batch, "sqrt", critical_batch=64)  # noqa: E731
    np.testing.assert_allclose(many(jnp.array([16.0, 64.0])), [many(16.0), many(64.0)], rtol=1e-6)
    assert jax.eval_shape(many, jnp.float32(16.0)).shape == ()  # it can be traced


# --- seesaw ----------------------------------------------------------------------------------------------------------

QUARTER = js.Lambda(lambda step: jnp.cos(jnp.pi * step / 40_000))  # the cosine of the paper, over 20,000 steps


def walked(got: plan.Seesaw) -> tuple[np.ndarray, np.ndarray]:
    """The rate and the batch size of every new step, as a training loop asks for them."""
    return np.asarray(got.learning_rate.table(got.steps), np.float64), np.asarray(got.batch_size.table(got.steps))


def expanded(got: plan.Seesaw) -> tuple[np.ndarray, np.ndarray]:
    """The same of the stages."""
    _, steps, batches, rates = zip(*got.stages, strict=True)
    return np.repeat(rates, steps), np.repeat(batches, steps)


def test_each_halving_becomes_a_doubling_of_the_batch() -> None:
    """A rate that halves every 64 steps, of 16 examples: 64 steps of 16, 32 of 32, 16 of 64, ..."""
    got = plan.seesaw(js.Exponential(1.0, 2.0**-5, 320), batch_size=16, total_steps=320)
    rates, batches = expanded(got)
    assert [tuple(stage[:3]) for stage in got.stages] == [
        (0, 64, 16),
        (64, 32, 32),
        (96, 16, 64),
        (112, 8, 128),
        (120, 4, 256),
    ]
    np.testing.assert_allclose(rates, np.repeat(2 ** (-np.arange(5) / 2), [64, 32, 16, 8, 4]), rtol=1e-6)
    assert batches.tolist() == np.repeat([16, 32, 64, 128, 256], [64, 32, 16, 8, 4]).tolist()
    assert (got.steps, got.old_steps, got.examples, got.speed_up) == (124, 320, 320 * 16, 320 / 124)


@pytest.mark.parametrize(("cut", "rule"), [(2.0, "sqrt"), pytest.param(1.3, "linear", marks=pytest.mark.trial)])
def test_the_stages_begin_where_the_examples_of_the_schedule_do(cut: float, rule: Any) -> None:
    """Each new step sees as many examples as its batch has; the schedule had cut its rate k times when those before
    were seen, or does so within that step."""
    old, batch = js.WarmupCosine(1.0, 100, 2_000), 64
    got = plan.seesaw(old, batch, cut=cut, rule=rule)
    rates, batches = walked(got) if cut == 2 else expanded(got)
    seen = np.concatenate([[0], np.cumsum(batches)])
    assert 0 <= seen[-1] - 2_000 * batch < batches[-1]
    assert got.examples == seen[-1]
    before = np.asarray(old.table(2_000), np.float64)
    np.testing.assert_array_equal(rates[:100], before[:100] if cut == 2 else 1.0)  # the warmup
    np.testing.assert_allclose(rates[100:], expanded(got)[0][100:], rtol=1e-6)
    np.testing.assert_array_equal(batches, expanded(got)[1])
    assert set(batches[:100]) == {batch}
    power = {"sqrt": 0.5, "linear": 1.0}[rule]
    for step in range(100, got.steps):
        unscaled = rates[step] / (batches[step] / batch) ** power  # what the schedule would have
        cuts = -math.log(unscaled) / math.log(cut)
        assert abs(cuts - round(cuts)) < 1e-3
        at = min(int(seen[step]) // batch, 1_999)
        assert cut ** -(round(cuts) + 1) * 0.999 <= before[at], (step, cuts)  # not too late
        assert before[at] <= cut ** -(round(cuts) - 1) or seen[step] % batch == 0  # and not too early
    grown = batches[batches < batches[-1]]
    want = batch * cut ** np.round(np.log(grown / batch) / math.log(cut))
    np.testing.assert_array_equal(grown, np.floor(want + 0.5))


@pytest.mark.trial
def test_many_small_cuts_of_a_cosine_take_two_by_pi_of_the_steps() -> None:
    got = [plan.seesaw(QUARTER, 256, 20_000, cut=cut).steps / 20_000 for cut in (2.0, 1.1, 1.01)]
    assert got[0] > got[1] > got[2] > 2 / math.pi
    assert abs(got[2] - 2 / math.pi) < 0.004
    half = plan.seesaw(js.Cosine(1.0, 0.0, 20_000), 256, 20_000, cut=1.01).steps / 20_000
    assert abs(half - 1 / 2) < 0.004


def test_the_batch_has_a_limit_and_a_grain() -> None:
    got = plan.seesaw(js.Linear(1.0, 0.0, 1_000), 48, 1_000, max_batch_size=500, multiple_of=32)
    _, batches = expanded(got)
    assert sorted(set(batches.tolist())) == [48, 96, 192, 384, 480]
    for stage in got.stages:  # the noise, rate / sqrt(batch), is always that of a rate cut by a power of 2
        cuts = math.log2(1 / (stage.learning_rate * math.sqrt(48 / stage.batch_size)))
        assert abs(cuts - round(cuts)) < 1e-6
    assert got.stages[-1].learning_rate < got.stages[-3].learning_rate / 3.9  # at the limit the rate takes all
    assert 0 <= got.examples - 48_000 < 480


@pytest.mark.parametrize("multiple_of", [1, 3, 1_000])
def test_batches_of_tokens_are_told_exactly(multiple_of: int) -> None:
    """Above 2^24 float32 has not every integer."""
    got = plan.seesaw(js.Linear(0.8, 0.0, 1_000), 10_000_001, 1_000, cut=1.5, multiple_of=multiple_of)
    steps = np.array([stage.start for stage in got.stages])
    told = [int(batch) for batch in np.asarray(got.batch_size(steps))]
    assert told == [stage.batch_size for stage in got.stages]
    assert max(told) > 2**25
    assert all(batch % multiple_of == 0 for batch in told if batch > 10_000_001)
    want = 10_000_001 * 1.5 ** np.arange(4)
    np.testing.assert_allclose(told[:4], want, rtol=2 * multiple_of / want[0])
    assert 0 <= got.examples - 10_000_001_000 < told[-1]


def test_schedules_that_give_nothing_to_the_batch() -> None:
    for schedule in (js.Constant(0.1), js.WarmupLinear(1.0, 10, 100, end_value=0.6)):
        got = plan.seesaw(schedule, 64, 100)
        assert got.learning_rate is schedule
        assert (got.steps, repr(got.batch_size)) == (100, "Constant(constant_value=64.0)")
    zeros = plan.seesaw(js.Linear(1.0, 0.0, 50), 64, 100)
    rates, batches = expanded(zeros)
    assert rates[-1] == 0
    assert np.sum(batches * (rates > 0)) - 50 * 64 in range(-64, int(batches[-1]))
    assert plan.seesaw(js.Constant(0.1), 64, 1).steps == 1


def test_a_plateau_and_jumps() -> None:
    got = plan.seesaw(js.MultiStepDecay(1.0, 0.1, [50, 100]), 100, 150, cut=10.0)
    assert [tuple(stage[:3]) for stage in got.stages] == [(0, 50, 100), (50, 5, 1_000), (55, 5, 1_000)]
    np.testing.assert_allclose([stage.learning_rate for stage in got.stages], 10 ** np.array([0, -0.5, -1.5]))
    assert repr(js.parse(repr(got.learning_rate))) == repr(got.learning_rate)


def test_a_seesaw_is_a_table() -> None:
    few = repr(plan.seesaw(js.Linear(0.8, 0.0, 1_000), 64, 1_000, max_batch_size=256)).splitlines()
    assert few[0] == "Seesaw of 688 steps for 1000 (1.45 x faster)"
    assert few[2] == "  step 500: 125 steps of 128 examples, rate 0.5657"
    assert len(few) == 10
    many = repr(plan.seesaw(js.Linear(0.8, 0.0, 1_000), 64, 1_000, cut=1.1)).splitlines()
    assert len(many) == 13
    assert many[9].endswith(" more")


# --- errors ----------------------------------------------------------------------------------------------------------

STILL_RISING = "is shorter than the warmup: the rate still rises at step"
REFUSED: list[tuple[Any, str]] = [
    (lambda: plan.extend(wsd(warmup=50), 20, 800), "at=20 is in the warmup: .* until step 50; write at=50"),
    (lambda: plan.extend(wsd(), 360, 800), "began at step 320: the rate is 0.5 of its plateau"),
    (lambda: plan.extend(wsd(), 400, 800), "at=400 is not before the end of the old horizon of 400 steps"),
    (
        lambda: plan.extend(wsd(), 100, 400),
        r"new_total=400 is not longer .*; .* write schedule.cooldown\(at,",
    ),
    (lambda: plan.extend(wsd(), 1.5, 800), "at=1.5; at must be an integer, 0 or more"),  # pyright: ignore
    (lambda: plan.extend(wsd(warmup=50), 10, 800, total_steps=40), f"total_steps=40 {STILL_RISING} 39"),
    (lambda: plan.extend(js.Linear(1.0, 0.0, 200), 250, 800, total_steps=400), "at=250: the .* is 0; write at=199"),
    (lambda: plan.extend(js.Constant(1.0), 1, 800), "has no field total_steps; write total_steps="),
    (lambda: plan.extend(0.1, 1, 800), "schedule=0.1; write a schedule"),  # pyright: ignore
    (lambda: plan.extend(js.stack(wsd(), wsd()), 1, 800), r"stacked; plan each of js.unstack"),
    (lambda: plan.extend(wsd(), 1, 800, rule="best"), "rule='best'; did you mean 'least'"),  # pyright: ignore
    (lambda: plan.extend(wsd(), 1, 800, shape="cosin"), "Cooldown: shape='cosin'; did you mean 'cosine'"),  # pyright: ignore
    (lambda: plan.extend(wsd(), 1, 800, shape="exponential"), "an exponential cooldown ends above 0"),
    (lambda: plan.extend(wsd(), 1, 800, end_value=2.0), "end_value=2.0; .* the rate at step 1, 0.001"),
    (lambda: plan.extend(wsd(), 1, 800, cooldown_fraction=2), "must be a number from 0 to 1"),
    (lambda: plan.extend(wsd(), 1, 800, distance=0.0), "distance=0.0; distance must be a finite number"),
    (lambda: plan.extend(wsd(), 120, 800, distance=1e-3), r"too high, [\d.]+ times the best ones; .* rule=.least."),
    (lambda: plan.extend(wsd(), 120, 800, distance=1.0), r"too low, 0.0[\d]+ times the best ones; no cooldown"),
    (lambda: plan.transfer_peak(js.WarmupCosine(1.0, 100, 400), 400, 50), "warmup_steps=100 and total"),
    (lambda: plan.transfer_peak(lambda _: js.WarmupConstant(1.0, 100), 400, 50), f"to_steps=50 {STILL_RISING} 49"),
    (lambda: plan.transfer_peak(js.Constant(1.0), 4, 5), "no field total_steps; write shape=lambda steps"),
    (lambda: plan.transfer_peak(lambda _: 1.0, 4, 5), r"shape\(4\)=1.0 is not a schedule; write shape="),  # pyright: ignore
    (lambda: plan.transfer_peak(3, 4, 5), "shape=3 is not a schedule; write shape=lambda steps"),  # pyright: ignore
    (lambda: plan.transfer_peak(js.Linear(1.0, 0.0, 4), 4, 5, -1.0), "peak_value=-1.0; peak_value must"),
    (lambda: plan.transfer_peak(js.Linear(0.0, 0.0, 4), 4, 5), "all 4 rates are 0"),
    (lambda: plan.transfer_peak(js.Linear(1.0, 0.0, 400).warmup(20), 400, 800), "whose steps is 20; .* shape=lambda"),
    (lambda: plan.scale_batch("a", 1, 2), "value='a' is text"),
    (lambda: plan.scale_batch(0.1, 0, 2), "batch_size=0; batch_size must be a finite number above 0"),
    (lambda: plan.scale_batch(0.1, 1, 2, "cubic"), "rule='cubic'; .*linear, sqrt"),  # pyright: ignore
    (lambda: plan.scale_batch(0.1, 1, 2, critical_batch=0), "critical_batch=0; critical_batch must be"),
    (lambda: plan.seesaw(js.CyclicTriangular(0.1, 1.0, 10, 10), 8, 28), r"schedule\(21\)=0.19 is above .* at step 10;"),
    (lambda: plan.seesaw(wsd(), 8, cut=1.0), "cut=1.0; cut must be above 1, such as 2.0"),
    (lambda: plan.seesaw(wsd(), 8, max_batch_size=4), "max_batch_size=4 is below batch_size=8"),
    (lambda: plan.seesaw(wsd(), 8, multiple_of=0), "multiple_of=0; multiple_of must be an integer"),
    (lambda: plan.seesaw(wsd(), 2**25 + 1), "batch_size=33554433 cannot .* float32; write 33554432, or"),
    (lambda: plan.seesaw(wsd(), 8, multiple_of=2**24 + 1), "multiple_of=16777217 cannot be represented in"),
    (lambda: plan.seesaw(wsd(), 8, rule="cubic"), "rule='cubic'; .*linear, sqrt"),  # pyright: ignore
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_plans_that_cannot_be_made(call: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_a_plan_is_not_made_of_traced_schedules() -> None:
    with pytest.raises(TypeError, match="is traced; call it outside of compiled functions"):
        jax.jit(lambda s: plan.extend(s, 100, 800, total_steps=400).factor)(wsd())
