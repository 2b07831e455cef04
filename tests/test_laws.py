"""The laws that hold for every public schedule and for every composite."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from tests.cases import (
    CASES,
    LAST,
    RAMPS,
    Case,
    Fields,
    composites,
    draws,
    leaves_equal,
    log_int,
    op_by_op,
    steps_to_try,
    ulps,
    x64,
)

# To trace and to lower a program takes most of the time here, so that the laws of a case share a few: leaves are arrays
# of one dtype each, and steps have one of two lengths. What is not about compiled programs runs `op_by_op`.
slopes = jax.jit(jax.vmap(jax.grad(lambda schedule, step: schedule(step), allow_int=True), (None, 0)))
mapped_twice = jax.jit(jax.vmap(jax.vmap(lambda schedule, step: schedule(step), (None, 0)), (0, None)))
side_by_side = jax.jit(jax.vmap(lambda schedule, steps: schedule(steps), (0, None)))
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
by_composite = pytest.mark.parametrize("name", list(composites(0.1, 8)))

WIDTH, SLOPES = 512, 128


@pytest.fixture(autouse=True)
def strict_modes() -> Iterator[None]:
    """Every law holds in JAX's strict modes, which only ever add errors."""
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def padded(steps: Any, width: int = WIDTH, dtype: Any = np.int32) -> np.ndarray:
    """One length for all, so that a structure is compiled once."""
    steps = np.asarray(steps, dtype)
    assert len(steps) <= width
    return np.concatenate([steps, np.full(width - len(steps), steps[-1])])


def as_arrays(schedule: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float32 if np.asarray(x).dtype.kind == "f" else np.int32), schedule)


def as_numbers(schedule: Any) -> Any:
    """With Python's numbers, as most users write them."""
    return jax.tree.map(lambda x: x.item() if np.ndim(x) == 0 else x, as_arrays(schedule))


def as_floats(schedule: Any) -> Any:
    """With every number a float, so that every field takes a gradient."""
    return jax.tree.map(lambda x: np.asarray(x, np.float32), schedule)


class Setting(NamedTuple):
    schedule: Any
    fields: dict[str, Any]
    steps: np.ndarray
    values: np.ndarray


@functools.cache
def settings(case: Case) -> list[Setting]:
    """Twenty settings with their values, computed once for all laws."""
    table = []
    for seed, fields in enumerate(draws(case, 20)):
        schedule, steps = as_arrays(case.cls(**fields)), padded(steps_to_try(case, fields, seed))
        table.append(Setting(schedule, fields, steps, np.asarray(schedule(steps))))
    return table


@by_case
def test_distance_from_the_exact_value(case: Case) -> None:
    for schedule, fields, steps, got in settings(case):
        error = ulps(got, case.ref(Fields(fields), steps))
        worst = int(np.argmax(error))
        assert error[worst] <= case.ulp, f"{schedule!r} at step {steps[worst]}: {got[worst]}, {error[worst]} ulp off"


@by_case
def test_both_ends_are_exact(case: Case) -> None:
    for index, (schedule, fields, *_) in enumerate(settings(case)):
        ends = case.ends(Fields(fields))
        if not ends:
            continue
        steps, count = padded([int(step) for step in ends]), len(ends)
        want = np.array([np.float32(value) for value in ends.values()])
        found = [schedule(steps)]
        if index < 3:
            found += [op_by_op(schedule, steps), mapped_twice(js.stack(schedule, schedule), steps)[1]]
            found += [np.array([as_numbers(schedule)(int(step)) for step in ends])]
        for values in found:
            np.testing.assert_array_equal(values[:count], want, err_msg=repr(schedule))


@by_case
def test_sign_and_monotonicity(case: Case) -> None:
    for schedule, fields, steps, values in settings(case):
        assert np.all(values >= 0), schedule
        direction = case.monotone(Fields(fields))
        if direction:
            # Neighbours at the start, in the middle, around every mark, and coarsely over everything.
            marks = [0, *case.marks(Fields(fields))]
            near = [np.clip(int(m) + np.arange(-15, 16), 0, LAST) for m in marks]
            for run in (*near, steps):
                run = padded(np.unique(np.asarray(run, np.int64)))
                values = np.asarray(schedule(run))
                slack = case.slack * np.spacing(values[1:])
                assert np.all(direction * np.diff(values) >= -slack), (schedule, run, values)


def assert_finite(gradient: Any, schedule: Any) -> None:
    assert jax.tree.structure(gradient) == jax.tree.structure(schedule)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        if leaf.dtype != jax.dtypes.float0:
            assert np.all(np.isfinite(leaf)), (schedule, jax.tree_util.keystr(path))


# The gradients of all steps in one sum: infinite or NaN where one of them is.
summed_slopes = jax.grad(lambda schedule, steps: schedule(steps).sum())


@by_case
def test_gradients_are_finite(case: Case) -> None:
    """Of the schedule as it is, compiled; and of every field, its counts too, the first compiled."""
    for index, (schedule, _, steps, _) in enumerate(settings(case)[:6]):
        assert_finite(slopes(schedule, steps[:: WIDTH // SLOPES]), schedule)
        floats = as_floats(schedule)
        compiled = index == 0
        summed = jax.jit(summed_slopes)(floats, steps) if compiled else op_by_op(summed_slopes, floats, steps)
        assert_finite(summed, schedule)


@by_case
def test_gradients_are_right(case: Case) -> None:
    """In every float field, against central differences of the formula in extended precision."""
    rng = np.random.default_rng(0)
    for fields in draws(case, 3, seed=1, low=100, high=1000):
        schedule = as_arrays(case.cls(**fields))
        t = rng.integers(7, 90, size=1).astype(np.int32) | 1
        gradient = slopes(schedule, padded(t, SLOPES))
        for name, value in fields.items():
            if not isinstance(value, np.float32) or value == 0:
                continue
            h = np.longdouble(1e-7) * np.longdouble(value)
            up, down = Fields(fields), Fields(fields)
            setattr(up, name, np.longdouble(value) + h)
            setattr(down, name, np.longdouble(value) - h)
            with np.errstate(all="ignore"):
                left, middle, right = (np.ravel(case.ref(f, t))[0] for f in (down, Fields(fields), up))
            if abs((right - middle) - (middle - left)) > 1e-3 * abs(right - left) + 1e-16:
                continue  # a corner of the formula, where there are two slopes
            want = float((right - left) / (2 * h))
            got = float(getattr(gradient, name)[0])
            assert got == pytest.approx(want, rel=2e-3, abs=1e-6 * max(abs(float(middle) / float(value)), 1e-6)), (
                schedule,
                name,
                t,
            )


@by_case
def test_one_program_for_a_hundred_settings(case: Case) -> None:
    by_structure: dict[Any, list[Any]] = {}
    for fields in draws(case, 100, seed=2):
        schedule = as_arrays(case.cls(**fields))
        by_structure.setdefault(jax.tree.structure(schedule), []).append(schedule)
    for group in by_structure.values():
        chex.clear_trace_counter()
        counted = jax.jit(chex.assert_max_traces(lambda s, t: s(t), n=1))
        for schedule in group:
            jax.eval_shape(counted, schedule, np.int32(5))


@by_case
def test_eager_compiled_mapped_and_array_agree(case: Case) -> None:
    """To the last bit, or to the few ulps by which XLA's fused multiplications and divisions by a broadcast number
    (which it turns into multiplications) differ from separate operations."""
    loose = 8 if case.ulp > 4 else 4
    for index, (schedule, _, steps, array) in enumerate(settings(case)[:2]):
        want = array.astype(np.longdouble)
        for other in (op_by_op(schedule, steps), *mapped_twice(js.stack(schedule, schedule), steps)):
            assert np.all(ulps(other, want) <= loose), schedule
        numbers, few = as_numbers(schedule), slice(None, None, 21)
        one_by_one = np.asarray([numbers(step) for step in steps[few].tolist()])
        assert np.all(ulps(one_by_one, want[few]) <= loose), schedule
        if index == 0:
            with jax.disable_jit(), jax.debug_nans(False):  # the branch that is not taken may divide by zero
                assert np.all(ulps(schedule(steps), want) <= loose), schedule


@by_case
def test_strict_modes_change_nothing(case: Case) -> None:
    schedule, _, steps, _ = settings(case)[0]
    strict = jax.make_jaxpr(schedule)(steps)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert str(jax.make_jaxpr(schedule)(steps)) == str(strict)


@by_case
def test_float_and_mixed_step_counts(case: Case) -> None:
    """Lengths may be floats, all or some of them; under 64 bits too."""
    steps = np.arange(WIDTH, dtype=np.int32)
    for index, fields in enumerate(draws(case, 3, seed=7, low=20, high=200)):
        counts = [k for k, v in fields.items() if type(v) is int and k not in ("seed", "cycles")]
        if case.cls is js.CosineWarmRestarts:
            counts.remove("period_mult")  # a float growth starts its cycles between two steps

        def with_floats(names: list[str], fields: dict[str, Any] = fields) -> Any:
            return case.cls(**fields | {k: float(fields[k]) for k in names})

        found = [op_by_op(with_floats(some), steps) for some in (counts, counts[:1], counts[1:])]
        if index == 0:
            found.append(with_floats(counts)(steps))
        with x64():
            found.append(op_by_op(with_floats(counts[:1]), steps))
        plain = op_by_op(case.cls(**fields), steps)
        for values in found:
            np.testing.assert_allclose(values, plain, rtol=2e-4, atol=1e-7, err_msg=repr(fields))


@by_case
def test_with_64_bits(case: Case) -> None:
    """Python numbers are float64 and int64 then: the same formulas to 1e-12, and steps beyond 2**31. The first draw is
    compiled too."""
    with x64():
        for index, fields in enumerate(draws(case, 3, seed=3)):
            wide = {
                k: np.asarray(v, float).tolist() if getattr(v, "dtype", None) == np.float32 else v
                for k, v in fields.items()
            }
            schedule, steps = case.cls(**wide), padded(steps_to_try(case, fields), WIDTH - 1)
            want = np.broadcast_to(np.asarray(case.ref(Fields(fields), steps), np.longdouble), steps.shape)
            big, further = np.abs(want) > 1e-280, np.append(steps, 2**40)
            for got in [op_by_op(schedule, further), *([schedule(further)] if index == 0 else [])]:
                assert got.dtype == jnp.float64
                assert np.isfinite(got[-1])
                error = np.abs(np.asarray(got)[:-1].astype(np.longdouble) - want)[big] / np.abs(want[big])
                assert np.all(error <= 1e-12), (wide, float(np.max(error)))


@by_case
def test_it_is_a_plain_pytree(case: Case) -> None:
    schedule, _, steps, values = settings(case)[0]
    for other in (pickle.loads(pickle.dumps(schedule)), copy.copy(schedule), copy.deepcopy(schedule)):
        assert leaves_equal(schedule, other)
        assert np.array_equal(values, other(steps))
    assert leaves_equal(schedule, jax.tree.map(lambda x: x, schedule))
    assert jax.tree.structure(optax.adam(1e-3).init(schedule)[0].mu) == jax.tree.structure(schedule)
    assert jax.eval_shape(schedule, steps) == jax.ShapeDtypeStruct(steps.shape, jnp.float32)
    hash(schedule)
    jax.eval_shape(jax.jit(schedule), 3)
    assert len(jax.tree_util.tree_leaves_with_path(schedule)) == len(jax.tree.leaves(schedule))


@by_case
def test_repr_is_the_expression(case: Case) -> None:
    for _, fields, *_ in settings(case)[:4]:
        schedule = case.cls(**fields)
        again = js.parse(repr(schedule))
        assert repr(again) == repr(schedule)
        assert leaves_equal(as_arrays(schedule), as_arrays(again)), schedule


@by_case
def test_types(case: Case) -> None:
    schedule, _, steps, values = settings(case)[0]
    assert values.dtype == np.float32
    low = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16) if x.dtype == np.float32 else x, schedule)
    high = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if x.dtype == jnp.bfloat16 else x, low)
    got = low(steps)
    assert got.dtype == (jnp.bfloat16 if any(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(low)) else jnp.float32)
    # computed in float32 and rounded once (XLA may round to the neighbour where float32 is half-way)
    want = np.asarray(high(steps).astype(got.dtype)).astype(np.float32)
    assert np.allclose(np.asarray(got).astype(np.float32), want, rtol=2**-8, atol=0)


def test_every_public_schedule_has_a_case() -> None:
    composite = {type(s) for s in composites(0.1, 8).values()} | {js.Schedule, js.Recipe, js.Lambda}
    public = {c for c in vars(js.schedules).values() if isinstance(c, type) and issubclass(c, js.Schedule)}
    assert public - composite <= {case.cls for case in CASES}


# --- composites ------------------------------------------------------------------------------------------------------


def every_step(n: int) -> np.ndarray:
    return padded(np.unique([*range(12 * n), *np.geomspace(1, LAST, 40).astype(int)]))


@by_composite
def test_composites_compile_once(name: str) -> None:
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(lambda s, t: s(t), n=1))
    structures = {jax.tree.structure(counted_for(name, x, n, counted)) for x, n in [(0.1, 8), (0.3, 20), (1.0, 1000)]}
    assert len(structures) == 1


def counted_for(name: str, x: float, n: int, counted: Any) -> js.Schedule:
    schedule = composites(x, n)[name]
    jax.eval_shape(counted, schedule, np.int32(3))
    return schedule


@by_composite
def test_composites_agree_in_every_form(name: str) -> None:
    schedule, steps = composites(0.1, 8)[name], every_step(8)
    array = np.asarray(schedule(steps))
    assert np.all(np.isfinite(array))
    other = composites(0.2, 9)[name]
    # Mapped over the schedules, and at steps in two dimensions.
    mapped = np.asarray(side_by_side(js.stack(schedule, other), steps.reshape(-1, 1)))[..., 0]
    for values in (op_by_op(schedule, steps), mapped[0]):
        np.testing.assert_allclose(values, array, rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(mapped[1], other(steps), rtol=2e-6, atol=1e-9)


@by_composite
def test_composites_have_finite_gradients(name: str) -> None:
    schedule, steps = composites(0.1, 8)[name], every_step(8)
    assert_finite(slopes(schedule, steps[:SLOPES]), schedule)
    assert_finite(slopes(schedule, steps[SLOPES : 2 * SLOPES]), schedule)
    if not name.startswith("noise"):  # a seed is an integer
        assert_finite(op_by_op(summed_slopes, as_floats(schedule), steps), schedule)


@by_composite
def test_composites_are_clean_printable_pytrees(name: str) -> None:
    schedule, steps = composites(0.1, 8)[name], every_step(8)
    values = np.asarray(schedule(steps))
    again = js.parse(repr(schedule))
    assert repr(again) == repr(schedule)
    np.testing.assert_array_equal(again(steps), values)
    assert leaves_equal(schedule, pickle.loads(pickle.dumps(schedule)))
    optax.adam(1e-3).init(schedule)
    with x64():
        wide = op_by_op(composites(0.1, 8)[name], steps.astype(np.int64))
        np.testing.assert_allclose(wide, values, rtol=3e-5, atol=1e-7)


def assert_stretched(schedule: js.Schedule, rtol: float, atol: float, compiled: bool = False) -> None:
    """In a cycle that is twice as long, step t is the step t / 2 of the schedule."""
    period = 64
    repeated, steps = schedule.repeat(period, period_mult=2), padded(np.arange(period, 3 * period))
    plain = op_by_op(schedule, padded(np.arange(2 * period) / 2, dtype=np.float32))
    for stretched in [op_by_op(repeated, steps), *([repeated(steps)] if compiled else [])]:
        np.testing.assert_allclose(stretched, plain, rtol=rtol, atol=atol, err_msg=repr(schedule))


@by_case
def test_a_stretched_clock_is_the_step_between_steps(case: Case) -> None:
    for index, fields in enumerate(draws(case, 4, seed=6, low=12, high=60)):
        assert_stretched(case.cls(**fields), rtol=2e-4, atol=1e-9, compiled=index == 0)


@by_composite
def test_a_composite_on_a_stretched_clock(name: str) -> None:
    assert_stretched(composites(0.1, 8)[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("mult", [1, 2, 3, 10, 2.0, 1.5])
@pytest.mark.parametrize(
    "case", [c for c in RAMPS if c.cls in (js.Linear, js.Exponential) or c.id == "Cosine"], ids=lambda c: c.id
)
def test_a_repeated_ramp_is_exact_in_every_cycle(case: Case, mult: Any) -> None:
    """A stretched cycle of integers is read as exactly as the schedule itself, to its very end."""
    rng = np.random.default_rng(0)
    for fields in draws(case, 4, seed=5, high=1e5):
        period = fields["steps"]
        schedule = as_arrays(case.cls(**fields).repeat(period, period_mult=mult))
        cycles, start, length = [], 0, period
        while start < (LAST if isinstance(mult, int) else 2**24) and len(cycles) < 60:
            inside = [0, min(1, int(length) - 1), int(length) - 1, *rng.integers(0, int(length), size=6)]
            cycles += [(start + t, start, length) for t in np.unique(inside)]
            start, length = start + length, length * mult
        cycles = [cycle for cycle in cycles if cycle[1] < cycles[-1][1]]
        steps, starts, lengths = (padded(x, 9 * 60, np.longdouble) for x in zip(*cycles, strict=True))
        steps = np.ceil(steps).astype(np.int32)
        got = np.asarray(schedule(steps))
        u = (steps - starts) / lengths
        want = case.ref(Fields({**fields, "steps": np.longdouble(1)}), np.clip(u, 0, 1))
        if isinstance(mult, int):
            error = ulps(got, want)
            assert np.all(error <= case.ulp), (schedule, starts[np.argmax(error)])
        else:
            # A float start is right to its rounding: not at the seam, but everywhere inside of the cycle.
            inside = (u > 1e-5) & (u < 1 - 1e-5)
            top = float(max(fields["init_value"], fields["end_value"]))
            np.testing.assert_allclose(got[inside], np.asarray(want, float)[inside], rtol=0, atol=2e-4 * top)


@pytest.mark.parametrize(
    ("period", "mult"), [(3, 3), (1, 2), (7, 2), (10, 10), (5, 3), (1000, 1), (1, 46340), (2, 2**30)]
)
def test_every_restart_below_2_to_the_31_is_a_peak(period: int, mult: int) -> None:
    starts, start, length = [], 0, period
    while start <= LAST and len(starts) < 3000:
        starts.append(start)
        start, length = start + length, length * mult
    steps = padded(starts, 3000)
    for schedule in (
        js.CosineWarmRestarts(0.7, period=period, period_mult=mult),
        js.Polynomial(0.7, 0.0, period, power=2.0).repeat(period, period_mult=mult),
    ):
        assert np.all(np.asarray(schedule(steps)) == np.float32(0.7))
        if period * mult < 2**20:
            by_float = schedule.replace(period_mult=float(mult))
            assert np.all(np.asarray(by_float(np.where(steps < 2**24, steps, 0))) == np.float32(0.7)), by_float
        before = np.asarray(schedule(padded(starts[1:], 3000) - 1))
        assert np.all(before < np.float32(0.7)) or period == 1


def test_random_compositions_stay_equal_to_plain_arithmetic() -> None:
    """A tower of operators and methods is the tower of the same operations on tables of its parts."""
    rng = np.random.default_rng(0)
    t = np.arange(60)
    for _ in range(25):
        n = log_int(rng, 4, 40)
        a = js.Linear(float(rng.random()), float(rng.random()), n)
        b = js.CosineWarmRestarts(float(rng.random()), n)
        x, y = np.asarray(a(t), np.float64), np.asarray(b(t), np.float64)
        k, lo = float(rng.random() + 0.5), float(rng.random() / 2)
        np.testing.assert_allclose((a + b * k)(t), x + y * k, rtol=1e-6)
        np.testing.assert_allclose((a - b / k)(t), x - y / k, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose((k - a)(t), k - x, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose((np.float32(k) * -a)(t), -k * x, rtol=1e-6)
        np.testing.assert_allclose((jnp.float32(k) * a)(t), k * x, rtol=1e-6)
        np.testing.assert_allclose((a * b).clip(lo, lo + 0.2)(t), np.clip(x * y, lo, lo + 0.2), rtol=1e-6)
        np.testing.assert_array_equal(a.shift(n)(t), a(np.maximum(t - n, 0)))
        np.testing.assert_array_equal(a.shift(-3)(t), a(t + 3))
        np.testing.assert_array_equal(b.hold(5)(t), b(t // 5 * 5))
        np.testing.assert_array_equal(b.per_epoch(5)(t), b(t // 5))
        np.testing.assert_array_equal(a.then(b, at=7)(t), np.where(t < 7, a(t), b(np.maximum(t - 7, 0))))
        np.testing.assert_array_equal(a.repeat(n, cycles=2)(t), np.where(t < 2 * n, a(t % n), a(n)))
        np.testing.assert_allclose(
            a.warmup(n, init_factor=lo)(t), x * (lo + (1 - lo) * np.clip(t / n, 0, 1)), rtol=1e-6, atol=1e-9
        )
        down = np.where(t < 9, y, y[9] * (1 - np.clip((t - 9) / n, 0, 1)))
        np.testing.assert_allclose(b.cooldown(at=9, steps=n)(t), down, rtol=2e-6, atol=1e-9)
