"""What a schedule is: a pytree, a callable, an expression; and many of them as one."""

from __future__ import annotations

import inspect
import pickle
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from tests.cases import leaves_equal, x64

S = js.WarmupCosine(peak_value=0.1, warmup_steps=10, total_steps=100)


SEVENS = [7, np.int32(7), np.int64(7), np.uint8(7), np.uint32(7), jnp.int8(7), 7.0, np.float64(7), jnp.bfloat16(7)]


@pytest.mark.parametrize("step", SEVENS, ids=lambda step: type(step).__name__)
def test_a_step_of_any_type(step: Any) -> None:
    assert S(step) == S(7)
    assert S(step).dtype == jnp.float32


def test_steps_of_any_shape() -> None:
    steps = np.arange(12).reshape(3, 1, 4)
    assert S(steps).shape == (3, 1, 4)
    assert np.array_equal(S(steps).ravel(), S.table(12))
    assert np.array_equal(S([1, 2, 3]), S.table([1, 2, 3]))
    assert S(np.array([], np.int32)).shape == (0,)


def test_large_steps_hold_the_last_value() -> None:
    for step in (100, 2**24 + 1, 2**31 - 1, np.uint32(2**32 - 1), 1e9):
        assert S(step) == 0.0
    with pytest.raises(OverflowError):
        S(2**31)


def test_between_two_integers() -> None:
    assert S(5.5) == pytest.approx(0.055, rel=1e-6)
    assert jax.grad(S)(5.0) == pytest.approx(0.01, rel=1e-5)


def test_types_follow_the_hyperparameters() -> None:
    low = js.Linear(jnp.bfloat16(1.0), 0.0, 10)
    assert low(3).dtype == jnp.bfloat16
    assert low(3) == jnp.bfloat16(0.7)  # computed in float32 and rounded once
    assert js.Linear(jnp.bfloat16(1.0), jnp.float32(0.0), 10)(3).dtype == jnp.float32
    assert js.Linear(jnp.float16(1.0), 0.0, 10)(3).dtype == jnp.float16
    with x64():
        assert js.Linear(1.0, 0.0, 10)(3).dtype == jnp.float64
        assert js.Linear(jnp.float32(1.0), 0.0, 10)(3).dtype == jnp.float32


def test_the_eager_cache_follows_x64() -> None:
    s = js.Linear(1.0, 0.1, 3)
    assert s(1).dtype == jnp.float32
    with x64():
        assert s(1).dtype == jnp.float64
        assert float(s(1)) == pytest.approx(0.7, rel=1e-15)
    assert s(1).dtype == jnp.float32


def test_noise_is_one_function_of_seed_and_step() -> None:
    noisy = js.Constant(1.0).noise(0.1, seed=3)
    values = noisy.table(2000)
    assert np.array_equal(values[::-1], noisy(np.arange(2000)[::-1]))  # in any order
    assert np.array_equal(values, js.Constant(1.0).noise(0.1, seed=3).table(2000))
    assert not np.any(np.asarray(values) == np.asarray(js.Constant(1.0).noise(0.1, seed=4).table(2000)))
    assert abs(float(values.mean()) - 1) < 0.01
    assert 0.095 < float(values.std()) < 0.105
    assert np.abs(js.Constant(1.0).noise(1.0, limit=0.3).table(2000) - 1).max() <= 0.3
    assert np.array_equal(js.Constant(1.0).noise(0.0).table(5), np.ones(5))
    decaying = js.Constant(0.0).noise(1.0, limit=10.0, decay=1.0, relative=False)(np.arange(10_000, 12_000))
    assert 0.009 < float(decaying.std()) < 0.0105
    with x64():
        assert noisy(5) != noisy(2**32 + 5)


def test_called_first_inside_of_a_compiled_function() -> None:
    s = js.Linear(1.0, 0.0, 4)
    assert jax.jit(lambda: s(1))() == 0.75
    assert s(1) == 0.75
    assert jax.jit(s)(1) == 0.75
    pickle.loads(pickle.dumps(s))


def test_called_from_many_threads() -> None:
    s, out = js.Linear(1.0, 0.0, 128), []
    threads = [threading.Thread(target=lambda t=t: out.append(float(s(t)))) for t in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(out, reverse=True) == s.table(16).tolist()


def test_integers_take_no_gradient_and_floats_do() -> None:
    gradient = jax.grad(lambda s: s(55), allow_int=True)(S)
    assert isinstance(gradient, js.WarmupCosine)
    assert gradient.total_steps.dtype == jax.dtypes.float0
    by_length = jax.grad(lambda s: s(55))(js.WarmupCosine(0.1, 10.0, 100.0))
    step = 1e-2
    longer, shorter = (float(js.WarmupCosine(0.1, 10.0, 100.0 + d)(55)) for d in (step, -step))
    assert by_length.total_steps == pytest.approx((longer - shorter) / (2 * step), rel=1e-2)


def test_signature_and_help() -> None:
    assert str(inspect.signature(js.Linear)) == "(init_value, end_value, steps)"
    assert "total_steps" in str(inspect.signature(js.OneCycle))


def test_numbers_on_the_left() -> None:
    for two in (2, 2.0, np.float32(2), np.float64(2), np.array(2.0), jnp.float32(2)):
        assert isinstance(two * S, js.schedules.Product)
        assert (two * S)(10) == np.float32(0.2)
        assert isinstance(two + S, js.schedules.Sum)


# --- text ------------------------------------------------------------------------------------------------------------


def test_expressions() -> None:
    a, b = js.Linear(0.0, 1.0, 4), js.Constant(0.5)
    for schedule, text in [
        (2 * a, "2.0 * Linear(init_value=0.0, end_value=1.0, steps=4)"),
        (b * 2, "Constant(constant_value=0.5) * 2.0"),
        ((a + 1) * b, "(Linear(init_value=0.0, end_value=1.0, steps=4) + 1.0) * 0.5"),
        (a.then(b, at=3), "Linear(init_value=0.0, end_value=1.0, steps=4).then(Constant(constant_value=0.5), at=3)"),
        (js.join([a, b, b], [1, 2]).schedules[1], "Constant(constant_value=0.5)"),
        ((a * b).repeat(3), "(Linear(init_value=0.0, end_value=1.0, steps=4) * 0.5).repeat(period=3)"),
        (js.Linear(jnp.float32(0.1), jnp.bfloat16(0.5), np.int32(4)), "Linear(init_value=0.1, end_value=0.5, steps=4)"),
        (js.Ramp(1.0, 0.0, 3, "cosine"), "Ramp(init_value=1.0, end_value=0.0, steps=3, shape='cosine')"),
    ]:
        assert repr(schedule) == text
        assert repr(eval(text, vars(js.schedules))) == text


def test_repr_inside_of_a_compiled_function() -> None:
    seen = []
    jax.jit(lambda s: (seen.append(repr(s)), s(1))[1])(S)
    assert "peak_value=<float32[]>" in seen[0]
    assert "Lambda(fn=" in repr(js.Lambda(lambda t: 0.1 * t))


# --- user classes ----------------------------------------------------------------------------------------------------


class Halves(js.Schedule):
    """Fields of every kind: a schedule, several schedules, a flag, an option, a plain number, an optional one."""

    inner: js.Schedule
    others: tuple[js.Schedule, ...]
    scale: float
    flag: bool = False
    floor: js.fields.Scalar | None = None

    def value(self, step: Any) -> Any:
        total = self.inner.value(step) + sum(o.value(step) for o in self.others)
        total = total * self.scale * (2 if self.flag else 1)
        return total if self.floor is None else jnp.maximum(total, self.floor)


def test_a_users_class() -> None:
    s = Halves(js.Linear(1.0, 0.0, 4), (0.5, lambda t: 0.1 * t), 2)
    assert s(2) == pytest.approx((0.5 + 0.5 + 0.2) * 2)
    assert s.replace(flag=True)(2) == pytest.approx(2 * float(s(2)))
    assert s.replace(floor=5.0)(2) == 5.0
    assert jax.tree.structure(s) != jax.tree.structure(s.replace(flag=True))
    assert jax.grad(lambda s: s(2), allow_int=True)(s).scale == pytest.approx(1.2)
    with pytest.raises(TypeError, match="flag=1; flag must be True or False"):
        s.replace(flag=1)
    with pytest.raises(TypeError, match="scale='2' is text"):
        s.replace(scale="2")


def test_a_users_formula_in_a_stretched_cycle_sees_the_step_it_stands_for() -> None:
    class Wave(js.Schedule):
        height: js.fields.Scalar

        def value(self, step: Any) -> Any:
            return self.height * (1 - step / 4) + 0 * jnp.sin(step) + 0.0 * (step % 2)

    s = Wave(1.0).repeat(4, period_mult=2)
    np.testing.assert_allclose(s.table(12), [1, 0.75, 0.5, 0.25, *(1 - np.arange(8) / 8)], rtol=1e-6)
    by_lambda = js.Lambda(lambda t: 1 - t / 4).repeat(4, period_mult=2)
    np.testing.assert_allclose(by_lambda.table(12), s.table(12), rtol=1e-6)


def test_arithmetic_with_the_exact_step_of_a_stretched_cycle() -> None:
    class Stated(js.Schedule):
        height: js.fields.Scalar

        def structure(self) -> js.schedules.structure.Structure:
            return js.schedules.structure.Structure(marks=(2,))

        def value(self, step: Any) -> Any:
            double = (step * 2 + np.float32(2) * step - 2 * step) / 2 + (-step + step)
            return self.height * jnp.where(step == 0, 10.0, double) + jnp.where(step >= 2, 1 - step % 1, 0.0)

    s = Stated(1.0).repeat(4, period_mult=2)
    assert s.table(12).tolist() == [10, 1, 3, 4, 10, 0.5, 1, 1.5, 3, 3, 4, 4]


# --- many as one -----------------------------------------------------------------------------------------------------


def test_grid_is_the_product_in_order() -> None:
    grid = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=[0, 5, 10], total_steps=100)
    rows = [(s.peak_value, s.warmup_steps) for s in js.unstack(grid)]
    assert rows == [(p, w) for p in (0.1, 0.2) for w in (0, 5, 10)]
    assert all(np.shape(leaf) == (6,) for leaf in jax.tree.leaves(grid))
    assert leaves_equal(js.stack(*js.unstack(grid)), grid)
    values = jax.vmap(lambda s: s(jnp.arange(100)))(grid)
    for row, s in zip(values, js.unstack(grid), strict=True):
        np.testing.assert_allclose(row, s.table(100), rtol=1e-6, atol=1e-9)


def test_grid_of_an_instance_and_of_tables() -> None:
    grid = js.grid(S, end_value=[0.0, 0.01])
    assert [s.peak_value for s in js.unstack(grid)] == [0.1, 0.1]
    tables = js.grid(js.PiecewiseConstant, boundaries=[2, 4], values=[[1.0, 0.5, 0.1], [2.0, 1.0, 0.2]])
    assert tables.boundaries.shape == (2, 2)
    assert jax.vmap(lambda s: s(3))(tables).tolist() == [0.5, 1.0]
    one = js.grid(js.MultiStepDecay, init_value=[1.0, 2.0], decay_rate=0.5, milestones=[1, 2, 3])
    assert jax.vmap(lambda s: s(3))(one).tolist() == [0.125, 0.25]
    nested = js.grid(S.then(js.Constant(0.1), at=5).repeat(8), value_mult=[1.0, 0.5])
    assert jax.vmap(lambda s: s(14))(nested).tolist() == pytest.approx([0.1, 0.05])


def test_frozen_means_that_no_array_changes_it() -> None:
    values = np.array([1.0, 2.0])
    s = js.PiecewiseConstant([3], values)
    values[0] = 9.0
    assert s(0) == 1.0


def test_names_of_a_users_module_do_not_matter() -> None:
    """Annotations are read in the names of the class, and nothing else is."""
    inspect, Field, typing = 1, 2, 3  # noqa: F841

    class Mine(js.Schedule):
        height: js.fields.Scalar

        def value(self, step: Any) -> Any:
            return self.height + 0.0 * step

    assert Mine(2.0)(1) == 2.0
    with pytest.raises(TypeError, match="cannot be called 'clip'"):

        class Bad(js.Schedule):
            clip: js.fields.Scalar


def test_the_gradient_of_an_integer_is_printed_as_none() -> None:
    gradient = jax.grad(lambda s: s(5), allow_int=True)(js.Linear(1.0, 0.0, 10))
    assert repr(gradient) == "Linear(init_value=0.5, end_value=0.5, steps=None)"


def test_an_empty_table_is_a_constant() -> None:
    assert js.PiecewiseConstant([], [0.3])(7) == np.float32(0.3)
    assert js.MultiStepDecay(0.3, 0.5, [])(7) == np.float32(0.3)


def test_exponential_decay_is_bounded_on_the_side_it_goes_to() -> None:
    assert js.ExponentialDecay(0.1, 1.0, 10, end_value=0.01)(5) == np.float32(0.1)
    assert js.ExponentialDecay(-0.1, 0.5, 10, end_value=-0.01)(0) == np.float32(-0.1)
    assert js.ExponentialDecay(-0.1, 0.5, 10, end_value=-0.01)(900) == np.float32(-0.01)
    assert js.ExponentialDecay(0.1, 2.0, 10, end_value=0.5)(900) == np.float32(0.5)


@pytest.mark.parametrize("levels", range(30))
def test_chebyshev_steps_of_every_size(levels: int) -> None:
    size = 2**levels
    s = js.schedules.ChebyshevSteps(1.0, 0.1, period=size)
    assert np.array_equal(s(np.array([0, 3 % size])), s(np.array([size, size + 3 % size])))
    assert float(s(0)) == pytest.approx(1 / (0.1 + 0.9 * np.sin(np.pi / 4 / size) ** 2), rel=1e-5)


def test_a_recipe_with_a_table_is_checked_too() -> None:
    class Wrong(js.Recipe):
        marks: js.fields.StepTable

        def build(self) -> js.Schedule:
            return js.Linear(0.0, 1.0, -5)

    with pytest.raises(ValueError, match="steps=-5"):
        Wrong([1, 2])


def test_stack_keeps_types() -> None:
    stacked = js.stack(js.Linear(1.0, 0.0, 4), js.Linear(jnp.float32(2.0), 0.0, 8))
    assert stacked.init_value.dtype == jnp.float32
    assert stacked.steps.dtype.kind == "i"
    assert jax.vmap(lambda s: s(2))(stacked).tolist() == [0.5, 1.5]
    with x64():
        assert jax.vmap(lambda s: s(2))(js.stack(js.Linear(1.0, 0.0, 3), js.Linear(1.0, 0.0, 7))).dtype == jnp.float64


def test_every_setting_of_a_stacked_recipe_is_checked() -> None:
    class Tail(js.Recipe):
        total_steps: js.fields.Length
        tail_steps: js.fields.Steps

        def build(self) -> js.Schedule:
            return js.Constant(1.0).cooldown(self.total_steps - self.tail_steps, self.tail_steps)

    assert Tail(total_steps=[10, 20], tail_steps=5).total_steps.tolist() == [10, 20]
    with pytest.raises(js.fields.FieldError, match=r"Cooldown: at=-10; at must be a number of steps, 0 or more"):
        Tail(total_steps=[30, 10], tail_steps=20)
    with pytest.raises(js.fields.FieldError, match=r"WarmupCosine: warmup_steps=30 and total_steps=20"):
        js.WarmupCosine(1.0, warmup_steps=[5, 30], total_steps=20)
    with pytest.raises(js.fields.FieldError, match=r"Cooldown: at=10, where the schedule is 0.0"):
        js.Linear(1.0, 0.0, [20, 10]).cooldown(at=10, steps=5, end_value=0.1, shape="exponential")
    with pytest.raises(js.fields.FieldError, match=r"Cooldown: at=9, where the schedule is 0.0"):
        js.Linear(1.0, 0.0, [[20, 10], [9, 8]]).cooldown(at=[7, 9], steps=5, end_value=0.1, shape="exponential")


def test_a_stacked_recipe_that_cannot_be_built_of_arrays() -> None:
    class Branch(js.Recipe):
        total_steps: js.fields.Length
        marks: js.fields.StepTable = (1, 2)  # type: ignore[assignment]

        def build(self) -> js.Schedule:
            last = self.total_steps - 10 if self.total_steps > 20 else 10 - self.total_steps
            return js.Linear(1.0, 0.0, last) * js.PiecewiseConstant(last + np.asarray(self.marks), [1.0, 0.5, 0.2])

    assert Branch(total_steps=[30, 9, 8]).total_steps.tolist() == [30, 9, 8]
    assert Branch([[30, 9, 7], [6, 5, 40]], marks=[[1, 2], [1, 2]]).marks.shape == (2, 2)
    with pytest.raises(js.fields.FieldError, match=r"Linear: steps=-1"):
        Branch(total_steps=[30, 9, 11])


@pytest.mark.parametrize("size", [1000 / 3, 8.6, 51.2, 100 / 7])
def test_the_marks_of_stairs_of_a_fractional_size_are_where_they_change(size: float) -> None:
    ramp, steps = js.Linear(1.0, 0.0, 100_000), np.arange(5_001)
    halves = js.PiecewiseConstant([3], [1.0, 0.5])
    for s in (ramp.hold(size), ramp.per_epoch(size), js.StepDecay(1.0, 0.999, size), halves.repeat(size)):
        changes = np.flatnonzero(np.diff(np.asarray(s(steps)))) + 1
        found = js.schedules.marks(s, 5_000)
        assert found is not None
        assert set(changes) <= set(np.ceil(found).astype(int)), s


def test_a_mark_is_where_the_formula_computes_its_boundary() -> None:
    joined = js.join([1.0, js.Linear(1.0, 0.0, 5.3), 0.5], [3.3, 7.7])
    edges = [0.0, float(np.float32(3.3)), float(np.float32(7.7)), 20.0]
    assert js.schedules.marks(joined, 20).tolist() == edges
    assert js.schedules.span(js.Linear(1.0, 0.0, 20_000_001.0)) == 20_000_000  # float32 has no other number there
    assert js.schedules.span(js.Linear(1.0, 0.0, 20_000_001)) == 20_000_001
    assert js.schedules.marks(js.join([1.0, 0.5, 0.1], [2.5, 20_000_001]), 30_000_000).tolist()[2] == 20_000_001
    with x64():
        assert js.schedules.marks(joined, 20).tolist() == [0.0, 3.3, 7.7, 20.0]
