"""Every refusal names the field, shows the value and says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched import Timeline

WARM = {"peak_value": 0.1, "warmup_steps": 10, "total_steps": 100}
nan, inf = float("nan"), float("inf")

REFUSED: list[tuple[Callable[[], Any], type[Exception], list[str]]] = [
    # a zero or negative total
    (lambda: js.WarmupCosine(**{**WARM, "total_steps": 0}), ValueError, ["WarmupCosine", "total_steps=0", "above 0"]),
    (lambda: js.WarmupLinear(**{**WARM, "total_steps": -5}), ValueError, ["total_steps=-5", "above 0"]),
    (lambda: js.OneCycle(0.1, total_steps=0), ValueError, ["OneCycle", "total_steps=0", "above 0"]),
    (lambda: js.Linear(1.0, 0.0, steps=-1), ValueError, ["Linear", "steps=-1", "0 or more"]),
    (lambda: js.Constant(1.0).hold(0), ValueError, ["Hold", "every=0", "above 0"]),
    (lambda: js.Constant(1.0).repeat(0), ValueError, ["Repeat", "period=0", "above 0"]),
    (lambda: js.Constant(1.0).repeat(5, cycles=0), ValueError, ["Repeat", "cycles=0", "1 or more"]),
    (lambda: js.Constant(1.0).repeat(5, period_mult=0.5), ValueError, ["period_mult=0.5", "1 or more"]),
    # a phase longer than the horizon
    (
        lambda: js.WarmupCosine(0.1, warmup_steps=200, total_steps=100),
        ValueError,
        ["warmup_steps=200", "total_steps=100", "warmup_steps <= total_steps"],
    ),
    (
        lambda: js.WarmupStableDecay(0.1, 60, 100, decay_steps=50),
        ValueError,
        ["warmup_steps=60", "decay_steps=50", "total_steps=100", "<= total_steps"],
    ),
    (
        lambda: js.schedules.InfiniteSchedule(0.1, 0.01, 50, 50, 100, 1, end_value=1e-3),
        ValueError,
        ["cooldown_steps=50", "total_steps=100", "decay_steps <= total_steps"],
    ),
    (lambda: js.OneCycle(0.1, 10, pct_start=0.05), ValueError, ["total_steps=10", "total_steps - 1 is -0.5"]),
    (lambda: js.OneCycle(0.1, 100, pct_start=0.6, three_phase=True), ValueError, ["pct_start=0.6", "change pct_start"]),
    (lambda: js.schedules.PowerSchedule(8, 512, 10, warmup_steps=6, decay_steps=6), ValueError, ["warmup_steps=6"]),
    (lambda: js.WarmupInverseSqrt(0.1, warmup_steps=0), ValueError, ["warmup_steps=0", "write a timescale"]),
    (
        lambda: js.WarmupCosine(0.1, 5, 20).cooldown(at=0, steps=5, end_value=1e-3, shape="exponential"),
        ValueError,
        ["at=0", "begins above 0"],
    ),
    # unsorted or colliding boundaries
    (lambda: js.PiecewiseConstant([5, 2], [1, 2, 3]), ValueError, ["boundaries=[5, 2]", "larger than the one before"]),
    (lambda: js.MultiStepDecay(0.1, 0.5, [3, 3]), ValueError, ["milestones=[3, 3]", "larger than the one before"]),
    (lambda: js.PiecewiseInterpolate([0, 0], [1, 2]), ValueError, ["knots=[0, 0]", "larger than the one before"]),
    (lambda: js.join([1.0, 2.0, 3.0], [5, 5]), ValueError, ["boundaries=[5, 5]", "sort them"]),
    (lambda: js.join([1.0, 2.0, 3.0], [9, 5]), ValueError, ["boundaries=[9, 5]", "sort them"]),
    (
        lambda: js.Constant(1.0).then(js.Constant(2.0), at=9).then(js.Constant(3.0), at=5),
        ValueError,
        ["boundaries=[9, 5]", "sort them"],
    ),
    # wrong counts of pieces
    (lambda: js.join([1.0, 2.0, 3.0], [5]), ValueError, ["3 schedules and 1 boundaries", "2 boundaries"]),
    (lambda: js.join([], []), ValueError, ["schedules=[]", "at least one"]),
    (lambda: js.PiecewiseConstant([2], [1.0, 2.0, 3.0]), ValueError, ["boundaries=[2]", "n + 1 values"]),
    (lambda: js.PiecewiseInterpolate([0, 5, 9], [1.0, 2.0]), ValueError, ["values=[1.0, 2.0]", "for each knot"]),
    (lambda: js.PiecewiseInterpolate([4], [1.0]), ValueError, ["knots=[4]", "at least two"]),
    (lambda: js.PiecewiseConstant(3, [1.0, 2.0]), TypeError, ["boundaries=3", "single number", "list"]),
    # NaN and infinite hyperparameters
    (lambda: js.Linear(nan, 0.0, 5), ValueError, ["init_value=nan", "not finite"]),
    (lambda: js.WarmupCosine(**{**WARM, "peak_value": inf}), ValueError, ["peak_value=inf", "not finite"]),
    (lambda: js.Linear(1.0, 0.0, inf), ValueError, ["steps=inf", "not finite"]),
    (lambda: js.PiecewiseConstant([2], [1.0, nan]), ValueError, ["values=[1.0, nan]", "not finite"]),
    (lambda: js.Linear(jnp.array([1.0, nan]), 0.0, 5), ValueError, ["init_value=[1.0, nan]", "not finite"]),
    # an exponential through 0
    (lambda: js.Exponential(1.0, 0.0, 5), ValueError, ["init_value=1.0", "end_value=0.0", "end_value=1e-6"]),
    (lambda: js.Exponential(1.0, -1.0, 5), ValueError, ["end_value=-1.0", "one sign"]),
    (lambda: js.WarmupExponential(**WARM), ValueError, ["peak_value=0.1", "end_value=0.0", "one sign"]),
    (lambda: js.Ramp(1.0, 0.0, 5, shape="exponential"), ValueError, ["end_value=0.0", "one sign"]),
    (lambda: js.TriStage(0.1, 1, 1, 1, end_value=0.0), ValueError, ["TriStage", "end_value=0.0", "one sign"]),
    (lambda: js.Constant(1.0).warmup(5, shape="exponential"), ValueError, ["init_factor=0.0", "above 0"]),
    (lambda: js.Constant(1.0).cooldown(5, 5, shape="exponential"), ValueError, ["end_value=0.0", "above 0"]),
    (lambda: js.WarmupStableDecay(0.1, 1, 9, 2, decay_shape="exponential"), ValueError, ["end_value=0.0", "one sign"]),
    # a gamma of the wrong sign, and other values out of range
    (lambda: js.StepDecay(0.1, decay_rate=-0.5, decay_steps=10), ValueError, ["decay_rate=-0.5", "above 0"]),
    (lambda: js.StepDecay(0.1, decay_rate=0.0, decay_steps=10), ValueError, ["decay_rate=0.0", "above 0"]),
    (lambda: js.ExponentialDecay(0.1, -0.9, 10), ValueError, ["decay_rate=-0.9", "above 0"]),
    (lambda: js.Polynomial(1.0, 0.0, 5, power=-1.0), ValueError, ["power=-1.0", "above 0"]),
    (lambda: js.Tanh(1.0, 0.0, 5, lower=3.0, upper=-3.0), ValueError, ["lower=3.0", "upper=-3.0", "lower < upper"]),
    (lambda: js.OneCycle(0.1, 100, pct_start=1.5), ValueError, ["pct_start=1.5", "0 to 1"]),
    (lambda: js.OneCycleMomentum(0.85, 1.5, 100), ValueError, ["max_momentum=1.5", "0 to 1"]),
    (lambda: js.schedules.ChebyshevSteps(1.0, 0.1, period=6), ValueError, ["period=6", "power of two"]),
    (lambda: js.schedules.ChebyshevSteps(0.1, 1.0, period=8), ValueError, ["max_curvature=0.1", "min_curvature=1.0"]),
    (lambda: js.Constant(1.0).clip(2.0, 1.0), ValueError, ["lo=2.0", "hi=1.0", "must not be above"]),
    (lambda: js.Constant(1.0).clip(), ValueError, ["lo=None", "at least one bound"]),
    (lambda: js.Constant(1.0).warmup(5, init_factor=2.0), ValueError, ["init_factor=2.0", "0 to 1"]),
    (lambda: js.Constant(1.0).noise(std=-1.0), ValueError, ["std=-1.0", "0 or more"]),
    (lambda: js.Constant(1.0).noise(std=1.0, seed=0.5), TypeError, ["seed=0.5", "integer"]),
    (lambda: js.Constant(1.0) / 0, ValueError, ["constant_value=0.0", "other than 0"]),
    (lambda: js.CyclicTriangular(0.0, 1.0, 2**31 - 1, 2**31 - 1), ValueError, ["up_steps", "jax_enable_x64"]),
    (lambda: js.Linear(1.0, 0.0, 3_000_000_000), ValueError, ["steps=3000000000", "jax_enable_x64"]),
    # a misspelt field
    (lambda: js.WarmupCosine(peak=0.1, warmup_steps=1, total_steps=9), TypeError, ["'peak'", "'peak_value'"]),
    (lambda: js.StepDecay(0.1, decay_rat=0.5, decay_steps=3), TypeError, ["'decay_rat'", "'decay_rate'"]),
    (lambda: js.WarmupCosine(**WARM).replace(totl_steps=5), TypeError, ["'totl_steps'", "'total_steps'"]),
    (lambda: js.grid(js.Linear, init=[1.0], end_value=0.0, steps=3), TypeError, ["'init'", "'init_value'"]),
    # a text for a number, and other wrong types
    (lambda: js.WarmupCosine(**{**WARM, "warmup_steps": "5%"}), TypeError, ["warmup_steps='5%'", "Timeline"]),
    (lambda: js.Linear("0.1", 0.0, 5), TypeError, ["init_value='0.1'", "is text"]),
    (lambda: js.Linear(True, 0.0, 5), TypeError, ["init_value=True", "not a number"]),
    (lambda: js.Linear(None, 0.0, 5), TypeError, ["init_value=None", "not a number"]),
    (lambda: js.Linear(1 + 2j, 0.0, 5), TypeError, ["init_value=(1+2j)", "not a number"]),
    (lambda: js.Linear(np.array([1j]), 0.0, 5), TypeError, ["complex128", "finite number"]),
    (lambda: js.PiecewiseConstant([2], [[1.0], [1.0, 2.0]]), TypeError, ["values=", "different lengths"]),
    (lambda: js.ExponentialDecay(0.1, 0.9, 10, staircase=1), TypeError, ["staircase=1", "True or False"]),
    (lambda: js.Constant(1.0) + "1", TypeError, ["'1'", "schedule"]),
    (lambda: js.Constant(1.0) * None, TypeError, ["None", "schedule, a callable or a number"]),
    (lambda: js.Constant(1.0) / js.Constant(2.0), TypeError, ["number on its right side"]),
    (lambda: js.Lambda(3), TypeError, ["fn=3", "function of the step"]),
    (lambda: js.schedules.Sum(js.Constant(1.0)), TypeError, ["Sum", "list of schedules"]),
    (lambda: js.schedules.Join([1.0, 2.0], 5), TypeError, ["boundaries=5", "must be a list"]),
    # an unknown shape or unit
    (lambda: js.Ramp(1.0, 0.0, 5, shape="cosin"), ValueError, ["shape='cosin'", "'cosine'"]),
    (lambda: js.WarmupStableDecay(0.1, 1, 9, 2, decay_shape="1-sqr"), ValueError, ["decay_shape='1-sqr'", "'1-sqrt'"]),
    (lambda: js.PiecewiseInterpolate([0, 1], [0, 1], kind="cubic"), ValueError, ["kind='cubic'", "pchip"]),
    (lambda: js.CyclicTriangular(0, 1, 2, 2, mode="triangle"), ValueError, ["mode='triangle'", "'triangular'"]),
    (lambda: Timeline(100)("3ep"), ValueError, ["'3ep'", "steps_per_epoch"]),
    (lambda: Timeline(100)("2e9tok"), ValueError, ["'2e9tok'", "tokens_per_step"]),
    (lambda: Timeline(100)("3hours"), ValueError, ["unknown unit 'hours'", "'3ep'"]),
    (lambda: Timeline(100)("ten"), ValueError, ["'ten'", "is not a length"]),
    (lambda: Timeline(100)(-3), ValueError, ["length=-3", "is not a length"]),
    (lambda: Timeline(100)(2.5), ValueError, ["length=2.5", "whole number of steps"]),
    (lambda: Timeline(100)("0.1%"), ValueError, ["'0.1%'", "less than one"]),
    (lambda: Timeline(0), ValueError, ["total_steps=0", "at least 1"]),
    (lambda: Timeline("5%"), ValueError, ["total_steps='5%'", "share of the horizon"]),
    (lambda: Timeline(100, steps_per_epoch=0), ValueError, ["steps_per_epoch=0", "above 0"]),
    # stack, unstack and grid
    (
        lambda: js.grid(js.WarmupCosine(**WARM).warmup(5), peak_value=[0.1, 0.2]),
        TypeError,
        ["'peak_value' is a field of the WarmupCosine inside of this Warmup", "Recipe"],
    ),
    (
        lambda: js.stack(js.Linear(1.0, 0.0, 2_000_000_001), js.Linear(1.0, 0.0, 10.5)),
        ValueError,
        ["2000000001", "10.5", "integers and floats"],
    ),
    (lambda: js.join([1.0, 2.0], 3), TypeError, ["boundaries=3", "must be a list"]),
    (lambda: js.join(js.Constant(1.0), [3]), TypeError, ["list of schedules"]),
    (lambda: js.Linear(1.0, 0.0, 10**30), ValueError, ["steps=1000", "cannot be counted"]),
    (lambda: js.Linear(1.0, 0.0, 100)(np.array([3_000_000_000])), OverflowError, ["3000000000", "jax_enable_x64"]),
    (lambda: js.stack(), ValueError, ["at least one"]),
    (lambda: js.stack(js.Constant(1.0), js.Linear(1.0, 0.0, 5)), ValueError, ["schedule 1", "one structure"]),
    (lambda: js.unstack(js.Constant(1.0)), ValueError, ["Constant(constant_value=1.0)", "not stacked"]),
    (lambda: js.grid(js.Linear, init_value=[], end_value=0.0, steps=5), ValueError, ["init_value=[]", "at least one"]),
    (lambda: js.grid(js.Ramp, init_value=1.0, end_value=0.0, steps=5, shape=["linear", "cosine"]), ValueError,
     ["shape=['linear', 'cosine']", "structure"]),
    (lambda: js.grid(js.WarmupCosine, peak_value=0.1, warmup_steps=[1, 200], total_steps=100), ValueError,
     ["warmup_steps=200", "total_steps=100"]),
    (lambda: js.grid("WarmupCosine", peak_value=0.1), TypeError, ["'WarmupCosine'", "not a schedule"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "words"), REFUSED, ids=[" ".join(w).replace("\n", "") for _, _, w in REFUSED])
def test_refusal(make: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert isinstance(caught.value, kind)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TypeError, match="total_steps"):
        js.WarmupCosine(peak_value=0.1, warmup_steps=1)  # type: ignore[call-arg]


def test_parts_of_a_users_recipe_are_checked_too() -> None:
    class Bad(js.Recipe):
        peak_value: js.fields.Scalar
        total_steps: js.fields.Steps

        def build(self) -> js.Schedule:
            return js.Linear(0.0, self.peak_value, self.total_steps - 10)

    with pytest.raises(ValueError, match="steps=-5"):
        Bad(0.1, 5)


def test_what_is_traced_is_not_checked() -> None:
    def at(total: Any) -> Any:
        return js.WarmupCosine(0.1, 5, total)(3)

    assert jax.jit(at)(100) == js.WarmupCosine(0.1, 5, 100)(3)
    assert np.isfinite(jax.jit(at)(-1))
    gradient = jax.tree.map(lambda x: x * jnp.nan, js.Linear(1.0, 0.0, 5.0))
    assert np.isnan(gradient.init_value)


def test_schedules_are_frozen() -> None:
    with pytest.raises(AttributeError, match="init_value"):
        js.Linear(1.0, 0.0, 5).init_value = 2.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        js.PiecewiseConstant([1], [1.0, 2.0]).values[0] = 5.0  # type: ignore[index]
