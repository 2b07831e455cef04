"""compat.optax beyond its values: Optax's own tests run on it, every number traced, what is refused, the plateau."""

from __future__ import annotations

import importlib
import inspect
import unittest
from typing import Any
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.compat import optax as ours

from .cases import x64
from .peers import cases_optax

FUNCTIONS = sorted(
    name
    for name in vars(optax.schedules)
    if inspect.isfunction(getattr(optax.schedules, name)) and "inject" not in name
)
STRUCTURE = {"staircase", "interpolate_type", "peer_exact"}


# --- a drop-in -------------------------------------------------------------------------------------------------------


def run_tests_of(module_name: str, leave_out: str = "", **names: Any) -> unittest.TestResult:
    """The tests of a module that Optax installs with itself, on ours in the place of what it names so."""
    module, result = importlib.import_module(module_name), unittest.TestResult()
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, unittest.TestCase)]
    with mock.patch.multiple(module, **names):
        for cls in classes:
            if cls.__name__ != leave_out:
                unittest.defaultTestLoader.loadTestsFromTestCase(cls).run(result)
    assert result.wasSuccessful(), [text for _, text in result.failures + result.errors]
    return result


@pytest.mark.filterwarnings("default")  # those of Optax's own tests are its own
def test_the_tests_of_optax_pass() -> None:
    """But those that train with each of its optimizers at one constant rate, which take long: they are run live."""
    left_out = "ScheduleAsLearningRateTest"
    schedules = run_tests_of("optax.schedules._schedule_test", left_out, _schedule=ours)
    joins = run_tests_of("optax.schedules._join_test", _schedule=ours, _join=ours)
    assert schedules.testsRun + joins.testsRun > 40
    assert not schedules.skipped + joins.skipped


@pytest.mark.filterwarnings("default")
def test_the_plateaus_tests_of_optax_pass() -> None:
    exact = mock.Mock(
        reduce_on_plateau=lambda **arguments: ours.reduce_on_plateau(**arguments, peer_exact=True),
        ReduceLROnPlateauState=ours.ReduceLROnPlateauState,
    )
    assert run_tests_of("optax.contrib._reduce_on_plateau_test", _reduce_on_plateau=exact).testsRun >= 4


def test_every_public_name_is_there() -> None:
    assert len(FUNCTIONS) == 14
    public = {name for name in vars(optax.schedules) if not name.startswith("_")}
    assert not {name for name in public if not hasattr(ours, name)}
    for name in public - set(FUNCTIONS):
        assert getattr(ours, name) is getattr(optax.schedules, name)


@pytest.mark.parametrize("name", [*FUNCTIONS, "contrib.reduce_on_plateau"])
def test_arguments_are_those_of_optax(name: str) -> None:
    """Names, order and defaults; only `peer_exact` is added, at the end."""
    their_own = optax.contrib.reduce_on_plateau if "contrib" in name else getattr(optax.schedules, name)
    our_own = ours.contrib.reduce_on_plateau if "contrib" in name else getattr(ours, name)
    theirs = [(p.name, p.default) for p in inspect.signature(their_own).parameters.values()]
    assert [(p.name, p.default) for p in inspect.signature(our_own).parameters.values()][: len(theirs)] == theirs
    assert set(inspect.signature(our_own).parameters) - {name for name, _ in theirs} <= {"peer_exact"}


@pytest.mark.parametrize("name", [*FUNCTIONS, "contrib.reduce_on_plateau"])
def test_every_number_is_traced_somewhere(name: str) -> None:
    """The cases, which are vmapped and differentiated, leave out no argument."""
    function = ours.contrib.reduce_on_plateau if "contrib" in name else getattr(ours, name)
    traced = {path.split("/")[0] for c in cases_optax.CASES if c.name.split()[0] == name for path in c.numeric}
    wanted = set(inspect.signature(function).parameters) - STRUCTURE
    if "boundaries_and_scales" in wanted:
        wanted = wanted - {"boundaries_and_scales"} | {"boundaries", "scales"}
    assert wanted <= traced


def test_it_trains_as_optax_does() -> None:
    arguments = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 5, "decay_steps": 30, "end_value": 0.01}
    found = []
    for module in (ours, optax.schedules):
        schedule = module.warmup_cosine_decay_schedule(**arguments)
        for optimizer in (optax.adam(schedule), ours.inject_hyperparams(optax.adam)(learning_rate=schedule)):
            params = jnp.ones(3)
            state = optimizer.init(params)
            for _ in range(30):
                updates, state = optimizer.update(2 * params, state, params)
                params = optax.apply_updates(params, updates)
            found.append(params)
    for params in found[1:]:
        np.testing.assert_allclose(params, found[0], rtol=1e-4)


def test_settings_of_one_function_are_stacked() -> None:
    """What a number is never changes the structure."""
    made = [ours.linear_schedule(1.0, 0.0, steps, begin) for steps, begin in ((0, 0), (5, -1), (9, 3))]
    made_too = [ours.exponential_decay(1.0, 5, rate, end_value=0.2) for rate in (0.0, 0.5, 1.0, 2.0)]
    for schedules in (made, made_too):
        rows = jax.vmap(lambda s: s(jnp.arange(12)))(js.stack(*schedules))
        np.testing.assert_allclose(rows, [s.table(12) for s in schedules], rtol=1e-6)


def test_strict_promotion() -> None:
    with jax.numpy_dtype_promotion("strict"):
        value = jax.jit(lambda peak, n: ours.linear_onecycle_schedule(n, peak, 0.3)(n // 2))(
            jnp.float32(1), jnp.int32(9)
        )
        assert np.isfinite(ours.exponential_decay(jnp.float32(1), jnp.int32(3), jnp.float32(0.5), end_value=0.1)(5))
    assert np.isfinite(value)


def test_the_cosines_power_is_printed_as_it_is_written() -> None:
    text = repr(ours.cosine_decay_schedule(1.0, 10, alpha=0.5, exponent=2))
    assert text == "compat.optax.CosinePower(init_value=1.0, end_value=0.5, steps=10, power=2.0)"


# --- what Optax documents or tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_a_constant(steps: int) -> None:
    for make in (
        lambda n: ours.linear_schedule(1.0, 0.5, n),
        lambda n: ours.polynomial_schedule(1.0, 0.5, 2, n),
        lambda n: ours.exponential_decay(1.0, n, 0.5),
        lambda n: ours.exponential_decay(1.0, n, 0.5, end_value=3.0),
        lambda n: ours.exponential_decay(1.0, n + 5, 0.0, staircase=True),
    ):
        for value in (make(steps).table(9), jax.jit(lambda n, make=make: make(n).table(9))(steps)):
            assert np.all(value == 1.0)


def test_a_peak_of_zero_stays() -> None:
    made = jax.vmap(lambda peak: ours.warmup_cosine_decay_schedule(0.2, peak, 5, 10, end_value=3.0)(10))
    np.testing.assert_allclose(made(jnp.array([0.0, 1.0])), [0.0, 3.0])


@pytest.mark.parametrize("name", ["piecewise_constant_schedule", "piecewise_interpolate_schedule"])
def test_tables(name: str) -> None:
    """A dictionary in any order, with traced scales, and a pair, with all numbers traced: one schedule."""
    first = ("linear",) if "interpolate" in name else ()
    make = getattr(ours, name)
    falling = [6.0, 3.75, 1.5, 1.3125, 1.125, 0.9375] if first else [6.0, 6.0, *[1.5] * 4]
    wanted = [*falling, *[0.75] * 3]
    bounds, scales = jnp.array([6, 0, 2]), jnp.array([0.5, 3.0, 0.25])
    for values in (
        make(*first, 2.0, {6: 0.5, 0: 3.0, 2: 0.25}).table(9),
        make(*first, 2.0, ([6, 0, 2], [0.5, 3.0, 0.25])).table(9),
        make(*first, 2.0, (np.asarray(bounds), scales)).table(9),
        jax.jit(lambda s: make(*first, 2.0, {6: s[0], 0: s[1], 2: s[2]}).table(9))(scales),
        jax.jit(lambda v, b, s: make(*first, v, (b, s)).table(9))(2.0, bounds, scales),
    ):
        np.testing.assert_allclose(values, wanted, rtol=1e-6)
    for nothing in (None, {}, ([], [])):
        assert np.all(make(*first, 2.0, nothing).table(3) == 2.0)
    assert float(make(*first, 2.0, {4: 0.5})(4)) == 1.0


def test_an_array_of_steps_is_interpolated_as_each_step_is() -> None:
    table = {3: 2.0, 7: 0.5}
    s, theirs = (m.piecewise_interpolate_schedule("linear", 1.0, table) for m in (ours, optax.schedules))
    each = [float(theirs(t)) for t in range(2)]
    np.testing.assert_allclose(s(jnp.arange(2)), each, rtol=1e-6)
    assert not np.allclose(theirs(jnp.arange(2)), each)


# --- where Optax is wrong --------------------------------------------------------------------------------------------


def test_long_horizons_in_float32() -> None:
    for steps in (10**5, 10**8, 2 * 10**9):
        line, cosine = ours.linear_schedule(1.0, 0.0, steps), ours.cosine_decay_schedule(1.0, steps)
        assert float(line(steps)) == 0 == float(cosine(steps))
        np.testing.assert_allclose(line(steps - 7), 7 / steps, rtol=1e-6)
        np.testing.assert_allclose(cosine(steps - 7), np.sin(np.pi / 2 * 7 / steps) ** 2, rtol=1e-6)
        assert float(ours.polynomial_schedule(1.0, 0.0, 0.5, steps)(steps)) == 0
    np.testing.assert_allclose(
        ours.exponential_decay(1.0, 1, float(np.float32(1 - 1e-7)))(10**7),
        np.float64(np.float32(1 - 1e-7)) ** 10**7,
        rtol=1e-5,
    )
    stairs = ours.exponential_decay(1.0, 1_000_000, 0.999, staircase=True)
    assert float(stairs(1_999_999_999)) > float(stairs(2_000_000_000))
    np.testing.assert_allclose(ours.linear_schedule(1.0, 0.0, 3_000_000_000)(1_500_000_000), 0.5, rtol=1e-6)
    assert np.isfinite(float(ours.linear_onecycle_schedule(3_000_000_000, 1.0)(10**9)))


def test_a_joined_square_root_has_a_gradient() -> None:
    def total(module: Any, power: Any) -> Any:
        parts = [module.constant_schedule(1.0), lambda t: ((t + 1) * power) ** 0.5]
        return module.join_schedules(parts, [5])(jnp.float32(3))

    assert np.isnan(jax.grad(lambda p: total(optax.schedules, p))(2.0))
    assert jax.grad(lambda p: total(ours, p))(2.0) == 0


def test_a_joined_schedule_may_be_left_early() -> None:
    arguments = (0.0, 1.0, 6, 20)
    s, theirs = (
        m.join_schedules([m.warmup_cosine_decay_schedule(*arguments), m.constant_schedule(0.5)], [3])
        for m in (ours, optax.schedules)
    )
    np.testing.assert_allclose(s(jnp.arange(9)), theirs(jnp.arange(9)), rtol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_joins_exactly_as_optax_does(traced: bool) -> None:
    """Boundaries in any order, that collide, too few or too many of them; and plain functions."""
    rng = np.random.default_rng(0)
    for _ in range(16):
        count, bounds = int(rng.integers(1, 5)), [int(b) for b in rng.integers(0, 20, rng.integers(0, 5))]
        lines = [(float(a), float(b), 7) for a, b in rng.random((count, 2))]
        with x64():
            parts = [optax.schedules.linear_schedule(*line) for line in lines]
            wanted = np.broadcast_to(jax.vmap(optax.schedules.join_schedules(parts, bounds))(jnp.arange(30)), (30,))
            mine = [ours.linear_schedule(*line) for line in lines[:-1]] + parts[-1:]
            give = jax.jit if traced else lambda f: f
            values = give(lambda b, mine=mine: ours.join_schedules(mine, b, peer_exact=True).table(30))(bounds)
            np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["linear_onecycle_schedule", "cosine_onecycle_schedule"])
@pytest.mark.parametrize("traced", [False, True])
def test_one_cycle_exactly_as_optax_has_it(name: str, traced: bool) -> None:
    """Phases that collide, in any order, with eighths of the whole, which every float holds."""
    rng = np.random.default_rng(1)
    shares = ("pct_start", "pct_final")[: 1 + name.startswith("linear")]

    def table(arguments: Any) -> Any:
        return getattr(ours, name)(**arguments, peer_exact=True).table(40)

    table = jax.jit(table) if traced else table
    with x64():
        for _ in range(20):
            # No phase of no steps at the start, of which an older Optax makes NaN.
            arguments = {"transition_steps": int(rng.integers(8, 33)), "peak_value": float(rng.random())}
            arguments |= {share: int(rng.integers(1, 9)) / 8 for share in shares}
            arguments |= {"div_factor": float(rng.uniform(1, 30)), "final_div_factor": float(rng.uniform(1, 30))}
            wanted = jax.vmap(getattr(optax.schedules, name)(**arguments))(jnp.arange(40))
            np.testing.assert_allclose(table(arguments), wanted, rtol=1e-12)


def test_a_traced_share_of_the_whole_is_the_step_that_was_meant() -> None:
    """0.7 of 100 steps are 70 of them, in float32 too."""
    shares = np.array([0.29, 0.57, 0.58, 0.7])  # of which float64 makes 28.99..., 56.99..., 57.99... and 70
    ends = jax.vmap(lambda share: jnp.argmax(ours.linear_onecycle_schedule(100, 1.0, share, 0.9)(jnp.arange(100))))(
        shares
    )
    assert ends.tolist() == [29, 57, 58, 70]


# --- refusals --------------------------------------------------------------------------------------------------------

LINE = ours.linear_schedule(1.0, 0.0, 5)
REFUSED = [
    (
        lambda: ours.linear_schedule(1.0, 0.0, transition_step=5),
        TypeError,
        "linear_schedule has no argument 'transition_step': did you mean 'transition_steps'?",
    ),
    (
        lambda: ours.linear_schedule(1.0),
        TypeError,
        "linear_schedule: missing a required argument: 'end_value'; its arguments are init_value, end_value",
    ),
    (lambda: ours.linear_schedule("1", 0.0, 5), TypeError, "linear_schedule: init_value='1' is text"),
    (
        lambda: ours.polynomial_schedule(1.0, 0.0, 0, 5),
        ValueError,
        "polynomial_schedule: power=0; power must be a finite number above 0",
    ),
    (
        lambda: ours.exponential_decay(1.0, 5, -0.5),
        ValueError,
        "exponential_decay: decay_rate=-0.5; decay_rate must be a finite number, 0 or more",
    ),
    (
        lambda: ours.exponential_decay(1.0, 5, 0.5, staircase=1),
        TypeError,
        "staircase=1; staircase must be True or False",
    ),
    (
        lambda: ours.cosine_decay_schedule(1.0, 0),
        ValueError,
        "cosine_decay_schedule: decay_steps=0; decay_steps must be a number of steps above 0",
    ),
    (
        lambda: ours.warmup_constant_schedule(0.0, 1.0, -1),
        ValueError,
        "warmup_steps=-1; warmup_steps must be a number of steps, 0 or more",
    ),
    (
        lambda: ours.warmup_cosine_decay_schedule(0.0, 1.0, 9, 9),
        ValueError,
        "warmup_cosine_decay_schedule: decay_steps - warmup_steps=0; decay_steps - warmup_steps must be",
    ),
    (lambda: ours.sgdr_schedule([]), ValueError, "sgdr_schedule: cosine_kwargs=[]"),
    (lambda: ours.sgdr_schedule([{"lr": 1.0}]), TypeError, "warmup_cosine_decay_schedule has no argument 'lr'"),
    (
        lambda: ours.join_schedules([LINE] * 3, [5]),
        ValueError,
        "3 schedules and 1 boundaries; 3 schedules meet at 2 boundaries",
    ),
    (
        lambda: ours.join_schedules([LINE] * 3, [5, 3]),
        ValueError,
        "boundaries=[5, 3]; each boundary must come after the one before",
    ),
    (lambda: ours.join_schedules([], []), ValueError, "join_schedules: schedules=[]"),
    (
        lambda: ours.join_schedules([LINE, optax.sgd(0.1)], [5]),
        TypeError,
        "join_schedules: schedules[1] is an optimizer",
    ),
    (
        lambda: ours.piecewise_constant_schedule(1.0, {5: -1.0}),
        ValueError,
        "piecewise_constant_schedule: scales=[-1.0]; scales must be a list of finite numbers, 0 or more",
    ),
    (lambda: ours.piecewise_constant_schedule(1.0, {-5: 1.0}), ValueError, "boundaries=[-5]"),
    (lambda: ours.piecewise_constant_schedule(1.0, ([5, 5], [1.0, 1.0])), ValueError, "boundaries=[5, 5]"),
    (lambda: ours.piecewise_constant_schedule(1.0, ([5, 6], [1.0])), ValueError, "2 boundaries and 1 scales"),
    (
        lambda: ours.piecewise_constant_schedule(1.0, [5, 6]),
        TypeError,
        "write {boundary: scale}, or a pair (boundaries, scales) of lists",
    ),
    (
        lambda: ours.piecewise_constant_schedule(1.0, 5),
        TypeError,
        "write {boundary: scale}, or a pair (boundaries, scales) of lists",
    ),
    (
        lambda: ours.piecewise_interpolate_schedule("linar", 1.0),
        ValueError,
        "piecewise_interpolate_schedule: interpolate_type='linar'; did you mean 'linear'?",
    ),
    (lambda: ours.piecewise_interpolate_schedule("linear", 1.0, {-5: 1.0, 5: 1.0}), ValueError, "boundaries=[-5, 5]"),
    (lambda: ours.piecewise_interpolate_schedule("linear", 1.0, ([5, 5], [1.0, 1.0])), ValueError, "boundaries=[5, 5]"),
    (
        lambda: ours.linear_onecycle_schedule(0, 1.0),
        ValueError,
        "transition_steps=0; transition_steps must be a number of steps above 0",
    ),
    (
        lambda: ours.linear_onecycle_schedule(10, 1.0, pct_start=30),
        ValueError,
        "pct_start=30; pct_start must be a number from 0 to 1",
    ),
    (
        lambda: ours.linear_onecycle_schedule(10, 1.0, 0.5, 0.25),
        ValueError,
        "pct_final - pct_start=-0.25; pct_final - pct_start must be a finite number, 0 or more",
    ),
    (
        lambda: ours.cosine_onecycle_schedule(10, 1.0, div_factor=0),
        ValueError,
        "div_factor=0; div_factor must be a finite number above 0",
    ),
    (
        lambda: ours.reduce_on_plateau(factor=1.0),
        ValueError,
        "reduce_on_plateau: factor=1.0; factor must be a number between 0 and 1",
    ),
    (lambda: ours.reduce_on_plateau(rtol=2.0), ValueError, "rtol=2.0; rtol must be a number from 0 to 1"),
    (lambda: ours.reduce_on_plateau(rtol=1.0), ValueError, "rtol=1; a share of the best metric must be below 1"),
    (lambda: ours.reduce_on_plateau(rtol=0.0), ValueError, "rtol=0 and atol=0; one of them must be above 0"),
    (
        lambda: ours.reduce_on_plateau(atol=-1.0, peer_exact=True),
        ValueError,
        "atol=-1.0; atol must be a finite number, 0 or more",
    ),
    (
        lambda: ours.reduce_on_plateau(patience=-1),
        ValueError,
        "patience=-1; patience must be a number of observations, 0 or more",
    ),
    (lambda: ours.reduce_on_plateau(accumulation_size=0), ValueError, "accumulation_size=0"),
]


@pytest.mark.parametrize(("make", "kind", "words"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(make: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as error:
        make()
    assert words in str(error.value)


# --- the plateau -----------------------------------------------------------------------------------------------------

PLATEAU = {"factor": 0.5, "patience": 2, "rtol": 0.1, "atol": 0.0, "cooldown": 0, "accumulation_size": 1}


def scales_of(optimizer: Any, metrics: Any, dtype: Any = jnp.float32) -> list[float]:
    found, one = [], jnp.ones((), dtype)
    with jax.disable_jit():  # Optax's branches would be compiled anew on each update
        state = optimizer.init(one)
        for metric in metrics:
            updates, state = optimizer.update(one, state, value=jnp.asarray(metric))
            found.append(float(updates))
    return found


def drawn(rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    numbers = {
        "factor": float(np.float32(rng.uniform(0.05, 0.95))),
        "patience": int(rng.integers(0, 5)),
        "rtol": float(np.float32(rng.uniform(0, 0.3))),
        "atol": float(np.float32(rng.uniform(0, 0.3))),
        "cooldown": int(rng.integers(0, 4)),
        "accumulation_size": int(rng.integers(1, 4)),
        "min_scale": float(np.float32(rng.uniform(0, 0.3) * (rng.random() < 0.5))),
    }
    metrics = rng.choice([-1, 4]) + np.cumsum(rng.integers(-9, 7, 40)) / 64
    if rng.random() < 0.2:
        metrics[rng.integers(40)] = np.nan
    return numbers, metrics.astype(np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_plateau_is_exactly_optaxs(dtype: Any) -> None:
    compare_the_plateau(dtype, draws=12)


def compare_the_plateau(dtype: Any, draws: int) -> None:
    """Drawn metrics, negative ones, NaN and a patience of 0 too; in one program, with every number traced."""
    params = jnp.ones((), dtype)
    if optax.contrib.reduce_on_plateau().init(params).best_value.dtype != dtype:
        pytest.skip("an older Optax, whose best metric is in float32 always")
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def scales(numbers: Any, metrics: Any) -> Any:
        optimizer = ours.contrib.reduce_on_plateau(**numbers, peer_exact=True)

        def update(state: Any, metric: Any) -> Any:
            updates, state = optimizer.update(params, state, value=metric)
            return state, (updates, state)

        return jax.lax.scan(update, optimizer.init(params), metrics)[1]

    rng, cuts = np.random.default_rng(2), 0
    for _ in range(draws):
        numbers, metrics = drawn(rng)
        ours_scales, states = scales(numbers, metrics)
        wanted = scales_of(optax.contrib.reduce_on_plateau(**numbers), metrics, dtype)
        np.testing.assert_array_equal(ours_scales.astype(jnp.float32), np.float32(wanted))
        assert states.scale.dtype == dtype
        cuts += len(set(wanted)) - 1
    assert cuts > draws


def test_its_own_faults_are_mended() -> None:
    make, exact = ours.contrib.reduce_on_plateau, optax.contrib.reduce_on_plateau
    still, falling = [-1.0] * 4, [4.0, 3.0, 2.0, 1.0]
    assert scales_of(exact(**PLATEAU), still)[-1] == 1.0  # negative, and it does not move
    assert scales_of(make(**PLATEAU), still) == [1.0, 1.0, 0.5, 0.5]
    impatient = PLATEAU | {"patience": 0}
    assert scales_of(exact(**impatient), falling) == [0.5, 0.25, 0.125, 0.0625]  # each is better
    assert scales_of(make(**impatient), falling) == [1.0] * 4
    assert scales_of(make(**impatient), [1.0] * 3) == [1.0, 0.5, 0.25]
    both = PLATEAU | {"rtol": 0.05, "atol": 0.5, "patience": 1}  # from 10: below 9
    assert scales_of(make(**both), [10.0, 9.25])[-1] == 0.5 == scales_of(exact(**both), [10.0, 9.25])[-1]
    assert scales_of(make(**both), [10.0, 8.75])[-1] == 1.0 == scales_of(exact(**both), [10.0, 8.75])[-1]
    # In bfloat16 a gain of 0.1 % a step rounds away: Optax's of these parameters cuts though it is ever better.
    slow = 4 * 0.999 ** np.arange(30)
    narrow = jnp.bfloat16
    assert scales_of(make(0.5, 2), slow, narrow)[-1] == 1.0 > scales_of(make(0.5, 2, peer_exact=True), slow, narrow)[-1]


def test_it_is_the_plateau_of_the_core() -> None:
    """Told on an update or beside it, or not at all; read back; and vmapped over its numbers."""
    optimizer = optax.chain(optax.sgd(1.0), ours.contrib.reduce_on_plateau(**PLATEAU))
    params = jnp.ones(2)
    state = optimizer.init(params)
    for _ in range(3):
        state = js.observe(state, value=1.0)
    updates, state = optimizer.update(params, state, params)
    assert updates.tolist() == [-0.5, -0.5]
    assert js.current_hyperparams(state) == {"scale": 0.5}
    core = scales_of(js.reduce_on_plateau(factor=0.5, patience=1, threshold=0.1, eps=0.0), [1.0, 1.0, 1.0, 1.0, 1.0])
    assert core == scales_of(ours.contrib.reduce_on_plateau(**PLATEAU), [1.0] * 5)

    def last(factor: Any, rtol: Any, atol: Any) -> Any:
        transformation = ours.contrib.reduce_on_plateau(factor, 1, rtol, atol)
        state = transformation.init(None)
        for metric in (1.0, 0.875):
            state = js.observe(state, value=metric)
        return state.learning_rate

    found = jax.vmap(last)(jnp.array([0.5, 0.5, 0.25]), jnp.array([0.1, 0.2, 0.1]), jnp.array([0.0, 0.0, 0.1]))
    assert found.tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(("share", "peak"), [(0.29, 29), (0.57, 57), (0.58, 58), (0.3, 30)])
def test_a_share_that_is_whole_is_whole(share: float, peak: int) -> None:
    """0.29 of 100 is a little less than 29 in float64, and Optax cuts it off. Traced it is the same as written."""

    def top(share: Any, **more: Any) -> Any:
        return ours.cosine_onecycle_schedule(100, 1.0, share, **more).table(101).argmax()

    assert int(top(share)) == int(jax.jit(top)(share)) == int(jax.vmap(top)(jnp.array([share]))[0]) == peak
    theirs = [optax.cosine_onecycle_schedule(100, 1.0, share)(t) for t in range(peak - 1, peak + 1)]
    assert int(top(share, peer_exact=True)) == peak - 1 + int(np.argmax(theirs))
