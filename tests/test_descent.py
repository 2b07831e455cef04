"""Gradient descent on schedules: what is found, what never leaves its constraints, and what is said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.fields import shortest
from jaxsched.predict import bounds, convex, falling, fixed, fixed_peak, knots, optimize

T = 100


def omega(s: js.Schedule) -> jax.Array:
    return convex.bound(s, total_steps=T)


def far(s: js.Schedule) -> jax.Array:
    """How far the rates are from 0.3 at step 0 and 0.1 at step 10, in powers of e: cheap, with its minimum at 0."""
    return jnp.square(jnp.log(s(0) / 0.3)) + jnp.square(jnp.log(s(10) / 0.1))


def ends(s: Any) -> jax.Array:
    """The same of the fields of a Linear of 10 steps, which compiles sooner."""
    return jnp.square(jnp.log(s.init_value / 0.3)) + jnp.square(jnp.log(s.end_value / 0.1))


class Seen:
    """An objective that writes down every schedule that it is asked about."""

    def __init__(self, objective: Callable[[Any], Any], watch: Callable[[Any], Any]) -> None:
        self.objective, self.watch, self.values = objective, watch, []

    def __call__(self, s: Any) -> jax.Array:
        jax.debug.callback(lambda x: self.values.append(np.array(x)), self.watch(s))
        return self.objective(s)


def minus_warmup(s: Any) -> jax.Array:
    return -s.warmup_steps


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.trial
def test_free_rates_beat_the_tuned_linear_schedule_on_the_bound() -> None:
    """Computed apart: 0.200114 by direct optimisation of 100 rates, 0.203608 for the tuned linear schedule."""
    linear = js.Linear(1.0, 0.0, T)
    scale, tuned = convex.best_scale(linear, T)
    assert float(tuned) == pytest.approx(0.203608, abs=1e-6)
    found = optimize(omega, knots(float(scale) * linear, T, n=T), starts=2, steps=800)
    assert found.before == pytest.approx(0.203608, abs=1e-6)
    assert found.value == pytest.approx(0.200114, abs=2e-6)
    assert found.value <= 0.2005
    assert float(omega(found.schedule)) == pytest.approx(found.value, rel=1e-6)
    assert np.all(found.values <= 0.2005)  # from 100 rates that were each moved by a factor of e, too


@pytest.mark.trial
@pytest.mark.parametrize(
    ("begin", "optimizer"),
    [(0.05, None), (0.4, None), (1.0, None), (0.05, optax.lbfgs()), (1.0, optax.adam(0.03))],
    ids=["0.05", "0.4", "1.0", "lbfgs", "adam"],
)
def test_free_rates_from_afar(begin: float, optimizer: Any) -> None:
    found = optimize(omega, knots(begin, T, n=T), steps=2_000, optimizer=optimizer)
    assert found.value <= 0.2005


def test_the_history_and_the_best_that_was_seen() -> None:
    """An optimizer that jumps away after a good step: the best is kept, not the last."""
    found = optimize(ends, js.Linear(1.0, 1.0, 10), steps=40, optimizer=optax.adam(0.7))
    assert found.history.shape == (41,)
    assert found.improved
    assert "->" in repr(found)
    assert found.history[0] == pytest.approx(found.before, rel=1e-6)
    assert found.value == np.min(found.history) < found.history[-1]
    assert float(ends(found.schedule)) == pytest.approx(found.value, rel=1e-3)


@pytest.mark.trial
def test_nested_schedules_are_reached_and_named_by_their_path() -> None:
    s = (js.Linear(0.5, 0.4, 5) * 2.0).then(js.Cosine(0.2, 0.05, 10), at=5)
    keep = fixed("schedules.0.schedules.1", "schedules.1.end_value")
    found = optimize(far, s, steps=300, constraints=[keep, bounds({"schedules.1.init_value": (0.01, 0.5)})])
    assert found.value < 1e-6
    inner = found.schedule.schedules[0].schedules
    assert (inner[1].constant_value, found.schedule.schedules[1].end_value) == (2.0, 0.05)
    assert inner[0].init_value != 0.5
    assert found.schedule.schedules[1].init_value != 0.2
    assert js.parse(repr(found.schedule)).schedules[0].schedules[0].init_value == inner[0].init_value


@pytest.mark.trial
def test_a_pytree_of_schedules_and_numbers() -> None:
    setting = {"learning_rate": js.Linear(1.0, 1.0, 10), "decay": 0.1, "patience": 3}
    found = optimize(lambda x: far(x["learning_rate"]) + (x["decay"] - 0.5) ** 2, setting, steps=300)
    assert found.value < 1e-6
    assert found.schedule["patience"] == 3
    assert found.schedule["decay"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.trial
def test_a_number_of_steps_moves_if_it_is_a_float() -> None:
    found = optimize(lambda s: jnp.square(s(10) - 0.25), js.Linear(1.0, 0.0, 40.0), constraints=fixed("init_value"))
    assert found.value < 1e-10
    assert found.schedule.steps == pytest.approx(40 / 3, rel=1e-3)


# --- constraints -----------------------------------------------------------------------------------------------------


def test_values_never_leave_their_bounds() -> None:
    """The minimum is outside: the numbers go to the edge, and not over it on the way."""
    seen = Seen(ends, lambda s: jnp.stack([s.init_value, s.end_value]))
    limits = {"init_value": (0.5, 2.0), "end_value": (0.0, 0.05)}
    found = optimize(
        seen, js.Linear(1.0, 0.02, 10), steps=100, starts=4, spread=3.0, constraints=limits, optimizer=optax.sgd(5.0)
    )
    ways = np.array(seen.values)
    assert len(ways) >= 4 * 101
    assert ways[:, 0].min() >= np.float32(0.5)
    assert ways[:, 0].max() <= np.float32(2.0)
    assert ways[:, 1].min() >= 0
    assert ways[:, 1].max() <= np.float32(0.05)
    assert found.schedule.init_value == pytest.approx(0.5, rel=1e-2)
    assert found.schedule.end_value == pytest.approx(0.05, rel=1e-2)
    assert found.schedule.init_value >= 0.5
    assert found.schedule.end_value <= 0.05


@pytest.mark.trial
@pytest.mark.parametrize(("pair", "best"), [((0.0, None), 0.1), ((0.15, None), 0.15), ((None, 0.05), 0.05)])
def test_bounds_with_an_open_side(pair: Any, best: float) -> None:
    s = js.Linear(0.3, max(pair[0] or 0.0, 0.02), 10)  # on its bound, in the second
    found = optimize(far, s, steps=300, constraints=[bounds(end_value=pair), fixed("init_value")])
    assert found.schedule.end_value == pytest.approx(best, rel=5e-2)


def test_without_bounds_a_number_keeps_its_sign_and_zero_stays() -> None:
    s = js.Linear(1.0, 0.0, 10) + js.Constant(-0.5)
    found = optimize(
        lambda s: jnp.square(s.schedules[0].init_value + s.schedules[1].constant_value + 3.0), s, steps=200
    )
    first, second = found.schedule.schedules
    assert first.init_value > 0 > second.constant_value
    assert first.end_value == 0


@pytest.mark.trial
def test_what_a_class_takes_is_a_bound() -> None:
    """A share of the horizon stays one, though the objective wants it as large as can be."""
    seen = Seen(lambda s: -s.pct_start, lambda s: s.pct_start)
    found = optimize(seen, js.OneCycle(1.0, 100), steps=60, optimizer=optax.sgd(3.0))
    assert 0.9 < found.schedule.pct_start <= 1
    assert max(seen.values) <= 1


@pytest.mark.trial
def test_a_falling_table_never_rises() -> None:
    """The best rates rise at the last step (by 0.0057, as those that were found without the constraint do)."""
    seen = Seen(omega, lambda s: jnp.max(jnp.diff(s.values)))
    found = optimize(seen, knots(0.05, T, n=T), steps=500, constraints=falling("values"))
    assert max(seen.values) <= 0
    assert np.all(np.diff(found.schedule.values) <= 0)
    assert found.before == pytest.approx(0.2544344, rel=1e-5)
    assert 0.2005 < found.value < 0.2015  # between the free rates and the linear ones


def test_a_falling_table_with_a_peak_bounds_and_zeros() -> None:
    table = js.PiecewiseConstant([3, 6, 9], [0.5, 0.5, 0.2, 0.0])
    seen = Seen(lambda s: jnp.square(s(4) - 0.3) + jnp.square(s(7) - 0.35), lambda s: s.values)
    found = optimize(seen, table, steps=300, constraints=[falling("values"), fixed_peak("values")])
    ways = np.array(seen.values)
    assert np.all(ways.max(axis=1) == 0.5)
    assert np.all(np.diff(ways, axis=1) <= 0)
    assert np.all(ways[:, 3] == 0)
    np.testing.assert_allclose(found.schedule.values[1:3], 0.325, atol=1e-2)  # the one number nearest to both
    assert found.schedule.values[0] == 0.5


@pytest.mark.trial
def test_a_falling_table_inside_of_bounds() -> None:
    inside = [falling("values"), bounds(values=(0.1, 0.6))]
    table = js.PiecewiseConstant([3, 6, 9], [0.5, 0.5, 0.2, 0.1])
    seen = Seen(lambda s: jnp.square(s(4) - 0.3) + jnp.square(s(7) - 0.35), lambda s: s.values)
    found = optimize(seen, table, steps=300, constraints=inside)
    np.testing.assert_allclose(found.schedule.values[1:3], 0.325, atol=1e-2)
    ways = np.array(seen.values)
    assert np.all(np.diff(ways, axis=1) <= 0)
    assert np.float32(0.1) <= ways.min() <= ways.max() <= np.float32(0.6)


@pytest.mark.trial
@pytest.mark.parametrize("limits", [None, (0.01, 1.0), (0.0, 2.0)])
def test_the_peak_of_a_table_stays(limits: Any) -> None:
    seen = Seen(lambda s: jnp.sum(jnp.square(s(jnp.arange(4)) - jnp.arange(4.0))), lambda s: s.values)
    more = [] if limits is None else [bounds(values=limits)]
    found = optimize(
        seen, js.PiecewiseInterpolate([0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0]), constraints=[fixed_peak("values"), *more]
    )
    np.testing.assert_array_equal(np.array(seen.values).max(axis=1), 1.0)
    np.testing.assert_allclose(found.schedule.values[1:], 1.0, atol=3e-2)
    assert found.schedule.values[0] < 0.1


@pytest.mark.trial
def test_the_peak_of_a_schedule_stays() -> None:
    s = js.Linear(0.1, 0.6, 10).then(js.Linear(0.6, 0.2, 20), at=10)
    seen = Seen(lambda s: jnp.square(s(0) - 0.3) + jnp.square(s(25) - 0.3), lambda s: jnp.max(s(jnp.arange(30))))
    found = optimize(seen, s, steps=300, constraints=fixed_peak(total_steps=30))
    np.testing.assert_allclose(seen.values, 0.6, rtol=1e-6)
    assert found.value < 1e-6
    assert float(found.schedule.table(30).max()) == pytest.approx(0.6, rel=1e-6)
    assert js.parse(repr(found.schedule)).table(30).tolist() == found.schedule.table(30).tolist()


# --- many starts -----------------------------------------------------------------------------------------------------


def test_starts_are_one_program_and_the_same_call_compiles_nothing() -> None:
    calls = []

    def seen(s: js.Schedule) -> jax.Array:
        calls.append(1)
        return ends(s)

    found = optimize(seen, js.Linear(1.0, 1.0, 10), steps=300, starts=8)
    assert found.values.shape == (8,)
    assert found.history.shape == (301,)
    assert found.value == np.min(found.history)  # of all steps, which are not in memory at once
    traces = len(calls)
    assert 0 < traces <= 4  # the program, its gradient, and the value of the schedule that was given
    again = optimize(seen, js.Linear(2.0, 1.0, 10), steps=300, starts=8, seed=5)
    assert not np.array_equal(again.values, found.values)
    same = optimize(seen, js.Linear(2.0, 1.0, 10), steps=300, starts=8, seed=5)
    assert len(calls) == traces
    np.testing.assert_array_equal(same.values, again.values)
    np.testing.assert_array_equal(same.history, again.history)
    assert repr(same) == repr(again)


@pytest.mark.trial
def test_many_starts_find_the_deeper_of_two_valleys() -> None:
    """Valleys at rates of 1 and of 100; the descent from the start sees the first only."""

    def valleys(s: js.Schedule) -> jax.Array:
        x = jnp.log(s(0))
        return jnp.minimum(x**2, (x - math.log(100)) ** 2 - 1)

    alone = optimize(valleys, js.Constant(2.0))
    many = optimize(valleys, js.Constant(2.0), starts=16, spread=3.0)
    assert alone.value == pytest.approx(0, abs=1e-6)
    assert many.value == pytest.approx(-1, abs=1e-6)
    assert many.start != 0
    assert many.values[0] == pytest.approx(0, abs=1e-6)


def test_starts_that_fail_are_dropped_and_counted() -> None:
    """The logarithm of a rate above 2 has no square root: such starts fail, the others go on."""
    found = optimize(
        lambda s: ends(s) + 0 * jnp.sqrt(math.log(2) - jnp.log(s.init_value)),
        js.Linear(1.0, 1.0, 10),
        steps=300,
        starts=16,
        spread=2.0,
    )
    lost = np.isnan(found.values)
    assert 0 < found.failed == lost.sum() < 16
    assert found.value < 1e-6
    assert f"{found.failed} failed" in repr(found)


def test_a_start_that_runs_into_nothing_keeps_the_best_it_had() -> None:
    found = optimize(
        lambda s: jnp.where(s(0) < 0.5, jnp.nan, s(0)), js.Constant(1.0), steps=50, optimizer=optax.sgd(0.1)
    )
    assert found.stopped == 1
    assert 0.5 <= found.value < 0.6
    assert np.isnan(found.history[-1])
    assert found.schedule.constant_value == pytest.approx(found.value)


def test_minus_infinity_at_a_candidate_does_not_hide_its_finite_values() -> None:
    found = optimize(lambda s: jnp.where(s(0) < 0.02, -jnp.inf, s(0)), js.Linear(0.05, 0.0, 10.0), steps=300)
    assert found.value == pytest.approx(0.0213777, abs=1e-6)
    assert found.stopped == 1
    assert found.failed == 0
    assert np.isneginf(found.history).any()


def test_what_is_not_better_is_said_and_the_schedule_comes_back() -> None:
    s = js.Linear(1.0, 0.5, 10)
    found = optimize(lambda s: 1.0, s, steps=5)
    assert not found.improved
    assert found.schedule is s
    assert "1, not improved" in repr(found)


@pytest.mark.trial
def test_numbers_come_back_as_they_were_written() -> None:
    found = optimize(far, js.Linear(np.float32(1.0), jnp.asarray(1.0), 10), steps=5).schedule
    assert type(found.steps) is int
    assert type(found.init_value) is float
    assert isinstance(found.end_value, jax.Array)
    assert len(repr(found.init_value)) < 12  # as a float32 prints
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        found = optimize(far, js.Linear(1.0, 1.0, 10), steps=400)
        assert found.value < 1e-12


# --- what is refused -------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Same:
    """An objective that is equal to another of the same number, and has no hash."""

    at: int = 0

    def __call__(self, s: js.Schedule) -> jax.Array:
        return s(self.at)


LINE = js.Linear(1.0, 0.5, 10)
TABLE = js.PiecewiseInterpolate([0, 10], [0.5, 1.0])


PEAK = fixed_peak(total_steps=5)


@pytest.mark.parametrize(
    ("constraints", "says"),
    [
        (bounds(init_valu=(0.1, 2)), "did you mean 'init_value'"),
        (bounds(steps=(1, 20)), "write a float, such as steps=400.0"),
        (bounds(init_value=(2, 3)), "init_value=1.0 is outside"),
        ({"init_value": "fixd"}, "did you mean 'fixed'"),
        ({"init_value": ["fixed"]}, r"\['fixed'\]; write a pair \(lo, hi\), or"),
        (["fixed"], r"constraints\[0\]='fixed'"),
        ([bounds(init_value=(0.9, 1)), bounds(init_value=(0.1, 0.2))], "meet"),
        ([fixed("end_value"), bounds(end_value=(1, 2))], "end_value=0.5 is outside of its bounds, 1 to 2 and fixed"),
        (falling("init_value"), r"falling\('init_value'\) .* is one number"),
        ([PEAK, fixed_peak(total_steps=6)], r"total_steps=5\) beside fixed_peak"),
        ([PEAK, bounds(end_value=(0.1, 1))], "beside bounds of end_value: the whole schedule is multiplied"),
        (fixed("init_value", "end_value"), "nothing moves"),
    ],
)
def test_constraints_that_cannot_hold(constraints: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        optimize(far, LINE, constraints=constraints)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: optimize(far, js.OneCycle(1.0, 9), constraints=bounds(pct_start=(1.5, 2))), "do not meet.* its class"),
        (lambda: optimize(far, TABLE, constraints=falling("values")), "rises"),
        (lambda: optimize(far, TABLE, constraints=bounds(knots=(0, 20))), "table of steps"),
        (lambda: optimize(far, TABLE.replace(values=[-1.0, -2.0]), constraints=falling("values")), "below 0"),
        (lambda: optimize(far, js.stack(LINE, LINE)), "starts=8"),
        (lambda: optimize(far, LINE, steps=0), "steps=0"),
        (lambda: optimize(far, LINE, starts=True), "starts=True"),
        (lambda: optimize(far, LINE, spread=-1.0), "spread=-1.0"),
        (lambda: optimize(far, LINE, optimizer=0.1), "optax.adam"),
        (lambda: optimize(LINE, LINE), "write a function of a schedule"),
        (lambda: optimize(Same(), LINE), "has no hash.*made once"),
        (lambda: optimize(far, "Linear"), "write a schedule"),
        (lambda: optimize(lambda s: s(jnp.arange(3)), LINE), r"shape=\(3,\)"),
        (lambda: optimize(lambda s: "low", LINE), "'low'"),
        (lambda: optimize(lambda s: float(s(0)), LINE), "cannot be traced"),
        (lambda: optimize(lambda s: s.init_value * jnp.nan, LINE, steps=2, starts=3), "any of 3 starts; it is nan"),
        (lambda: bounds(init_value=(2, 1)), "lo < hi"),
        (lambda: bounds(init_value=1.0), "a pair of numbers"),
        (lambda: bounds(), "at least one"),
        (lambda: fixed(), "the names of fields"),
        (lambda: fixed_peak(), "write one"),
        (lambda: knots(1.0, total_steps=4, n=5), "n=5"),
    ],
)
def test_errors_say_what_to_write(call: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_what_a_class_refuses_costs_only_the_way_beyond_it() -> None:
    """Two fields that do not go together: the warmup grows beyond the horizon, after 20 of the 50 steps or so."""
    s = js.WarmupCosine(1.0, 90.0, 100.0)
    found = optimize(minus_warmup, s, steps=50, constraints=fixed("total_steps"), starts=3, spread=0.01)
    assert 92 < found.schedule.warmup_steps <= 100  # the last step on the way that is a schedule
    assert found.value == pytest.approx(-found.schedule.warmup_steps)
    assert (found.refused, found.failed) == (3, 0)
    assert "3 refused" in repr(found)
    assert found.history.min() < -100
    assert found.values.max() <= -90


@pytest.mark.trial
def test_the_bound_of_a_decay_that_wants_to_be_longer_than_its_run() -> None:
    s = js.WarmupStableDecay(0.05, 0, 50, decay_steps=5.0, decay_shape="linear")
    found = optimize(lambda s: convex.bound(s, total_steps=50), s, steps=500)
    assert found.refused == 1
    assert found.schedule.decay_steps <= 50
    assert found.value < 0.2911 < 0.347 < found.before
    bounded = optimize(minus_warmup, js.WarmupCosine(1.0, 90.0, 100.0), constraints=bounds(warmup_steps=(0, 100)))
    assert 95 < bounded.schedule.warmup_steps <= 100
    assert bounded.schedule.total_steps == 100.0  # what has no slope does not move


@pytest.mark.trial
def test_bounds_of_lengths_go_with_the_peak_of_a_schedule() -> None:
    held = [fixed_peak(total_steps=12), bounds(steps=(5, 8))]
    found = optimize(far, js.Linear(0.5, 0.2, 6.5), steps=60, constraints=held)
    assert 5 <= found.schedule.schedules[1].steps <= 8
    assert float(found.schedule.table(12).max()) == pytest.approx(0.5, rel=1e-6)


def test_a_number_lies_on_a_bound_that_is_written_as_it_is() -> None:
    s = js.Linear(jnp.asarray(0.1), 0.05, 10)  # a float32, which is above 0.1
    found = optimize(lambda s: -s.init_value, s, steps=2, constraints=bounds(init_value=(0.01, 0.1)))
    assert 0.0999 < found.schedule.init_value <= np.float32(0.1)


@pytest.mark.trial
def test_the_slope_in_a_whole_length_is_that_of_one_side() -> None:
    """What `optimize` tells about kinks, by differences of the bound: at 3 steps of warmup, and between 3 and 4."""
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():

        def bound(warmup: Any) -> jax.Array:
            return convex.bound(js.WarmupCosine(0.05, warmup, 20), total_steps=20)

        value_and_slope, h = jax.jit(jax.value_and_grad(bound)), 1e-5
        for at, kink in ((3.0, True), (3.4, False)):
            (below, _), (value, slope), (above, _) = map(value_and_slope, (at - h, at, at + h))
            left, right = float(value - below) / h, float(above - value) / h
            assert (left * right < 0) == (abs(right - left) > 1e-3) == kink
            assert float(slope) == pytest.approx(left, abs=1e-4)


def test_the_shortest_numbers_read_back_as_the_same() -> None:
    rates = np.random.default_rng(0).random(200).astype(np.float32)
    short = shortest(rates)
    assert short.dtype == np.float64
    np.testing.assert_array_equal(short.astype(np.float32), rates)
    assert max(len(repr(x)) for x in short.tolist()) < 15 < max(len(repr(x)) for x in rates.tolist())
    assert shortest(jnp.float32(0.1)).item() == 0.1
    assert shortest([[0.1, np.inf]]).tolist() == [[0.1, np.inf]]


def test_knots_have_the_values_of_a_schedule() -> None:
    table = knots(js.Cosine(1.0, 0.0, 50), total_steps=51, n=51)
    assert table.table(51).tolist() == js.Cosine(1.0, 0.0, 50).table(51).tolist()
    assert knots(0.5, total_steps=1_000, n=2).values.tolist() == [0.5, 0.5]
    few = knots(js.Linear(1.0, 0.0, 99), total_steps=100, n=7, kind="pchip")
    assert (few.knots[0], few.knots[-1], len(few.knots)) == (0, 99, 7)
