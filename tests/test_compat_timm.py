"""What is special about `compat.timm`: noise, clocks, the factories, the plateau, and what is refused."""

from __future__ import annotations

import pickle
import re
import types
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxsched as js
from jaxsched.compat import timm

from .cases import x64

CLASSES = [
    timm.CosineLRScheduler(0.1, t_initial=20, lr_min=1e-4, warmup_t=3, cycle_mul=2, cycle_decay=0.5, cycle_limit=2),
    timm.TanhLRScheduler(0.1, t_initial=20, warmup_t=3, warmup_prefix=True),
    timm.PolyLRScheduler(0.1, t_initial=20, power=2.0, k_decay=1.5),
    timm.StepLRScheduler(0.1, decay_t=5, decay_rate=0.5, warmup_t=2),
    timm.MultiStepLRScheduler(0.1, decay_t=[5, 9], decay_rate=0.5),
    timm.WSDLRScheduler(0.1, t_initial=20, decay_t=8, stable_fn="rsqrt", warmup_t=4, decay_fn="exp"),
]
each = pytest.mark.parametrize("s", CLASSES, ids=lambda s: type(s).__name__)


# --- the clock -------------------------------------------------------------------------------------------------------


@each
def test_the_clock_counts_what_the_lengths_count(s: Any) -> None:
    steps = jnp.arange(60)
    assert jnp.array_equal(s.replace(t_in_epochs=False)(steps), s(steps))
    assert jnp.array_equal(s.per_epoch(7)(7 * steps + 6), s(steps))


def test_before_the_first_step_the_optimizers_own_rate_is_in_force() -> None:
    """Whatever the formula says of t = 0."""
    assert float(timm.TanhLRScheduler(1.0, 10, lb=-1.0)(0)) == 1.0
    assert float(timm.MultiStepLRScheduler(1.0, [1], 0.5)(0)) == 1.0
    assert float(timm.MultiStepLRScheduler(1.0, [1], 0.5)(1)) == 0.5
    assert float(timm.CosineLRScheduler(1.0, 10, warmup_t=2, warmup_lr_init=0.25)(0)) == 0.25


def test_without_prefix_the_warmup_covers_the_beginning() -> None:
    plain, covered = timm.CosineLRScheduler(1.0, 100), timm.CosineLRScheduler(1.0, 100, warmup_t=20)
    assert jnp.array_equal(covered(jnp.arange(20, 120)), plain(jnp.arange(20, 120)))
    shifted = covered.replace(warmup_prefix=True)
    np.testing.assert_allclose(shifted(jnp.arange(20, 120)), plain(jnp.arange(100)), rtol=1e-6)


@pytest.mark.parametrize("mult", [3, 3.0, 2, 1.5, 1.25])
@pytest.mark.parametrize("bits", [32, 64])
def test_no_restart_is_missed(mult: float, bits: int) -> None:
    with x64() if bits == 64 else jax.disable_jit(False):
        s = timm.CosineLRScheduler(0.5, 256, cycle_mul=mult, cycle_limit=9)
        start, length = 0.0, 256.0
        for _ in range(7):
            if start % 1 == 0:
                assert float(s(int(start))) == 0.5, start
                assert start == 0 or float(s(int(start) - 1)) < 0.01
            start, length = start + length, length * mult


def test_integers_stay_exact_at_two_billion_updates() -> None:
    s = timm.CosineLRScheduler(1.0, 2_000_000_000, lr_min=0.5, t_in_epochs=False)
    assert [float(s(t)) for t in (0, 1_000_000_000, 1_999_999_999, 2_000_000_000)] == [1.0, 0.75, 0.5, 0.5]
    cycles = timm.PolyLRScheduler(1.0, 1_000, cycle_mul=2, cycle_limit=30, power=1.0)
    assert float(cycles(1_000 * (2**20 - 1))) == 1.0


# --- noise -----------------------------------------------------------------------------------------------------------


def noise_of(s: Any, steps: Any) -> np.ndarray:
    """The noise itself, as a share of the rate."""
    plain = s.replace(noise_range_t=None, noise_pct=0.67, noise_std=1.0, noise_seed=42)
    return np.asarray(s(steps), np.float64) / np.asarray(plain(steps), np.float64) - 1


@pytest.mark.parametrize(("std", "limit"), [(1.0, 0.67), (0.2, 0.5), (3.0, 0.1)])
def test_the_noise_has_timms_distribution(std: float, limit: float) -> None:
    """Normal, drawn again until it is within the limit: a truncated normal distribution."""
    s = timm.StepLRScheduler(1.0, 10_000, noise_range_t=1, noise_std=std, noise_pct=limit)
    drawn = noise_of(s, jnp.arange(1, 8_001))
    assert np.abs(drawn).max() <= limit * (1 + 1e-6)
    expected = stats.truncnorm(-limit / std, limit / std, scale=std)
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.05


@each
def test_the_noise_is_where_it_should_be(s: Any) -> None:
    steps = np.arange(19)  # before a rate of 0
    ranges = [
        ((2.5, 6.5), (steps > 2.5) & (steps < 6.5)),
        (0, steps > 0),  # nothing is added before the first step
        ([3, 9], (steps >= 3) & (steps < 9)),
        (4, steps >= 4),
    ]
    for where, on in ranges if s is CLASSES[0] else ranges[:2]:  # the range is read alike in all classes
        noisy = s.replace(noise_range_t=where)
        plain = np.asarray(s(steps))
        different = np.asarray(noisy(steps)) != plain
        assert np.array_equal(different, on & (plain > 0)), where
        assert jnp.array_equal(noisy(steps), noisy(steps))
        assert not jnp.array_equal(noisy.replace(noise_seed=43)(steps), noisy(steps))


def test_noise_is_traceable() -> None:
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def rates(start: Any, stop: Any, pct: Any, std: Any, seed: Any) -> Any:
        s = timm.CosineLRScheduler(0.1, 50, noise_range_t=[start, stop], noise_pct=pct, noise_std=std, noise_seed=seed)
        return s(jnp.arange(40))

    found = jax.vmap(rates)(*(jnp.array(x) for x in ([1, 5], [9, 30], [0.1, 0.5], [1.0, 0.2], [0, 1])))
    plain = timm.CosineLRScheduler(0.1, 50)(jnp.arange(40))
    assert np.array_equal(np.asarray(found[0] != plain).nonzero()[0], np.arange(1, 9))
    gradient = jax.grad(lambda lr, pct: timm.PolyLRScheduler(lr, 9, noise_range_t=0, noise_pct=pct)(3), (0, 1))
    assert all(map(np.isfinite, gradient(0.1, 0.5)))


# --- the classes as data ---------------------------------------------------------------------------------------------


@each
def test_its_text_and_its_pickle_make_it_again(s: Any) -> None:
    assert repr(s).startswith(f"compat.timm.{type(s).__name__}(lr=0.1, ")
    again = eval(repr(s), {"compat": types.SimpleNamespace(timm=timm)})
    for other in (again, pickle.loads(pickle.dumps(s)), s.replace(lr=s.lr)):
        assert jnp.array_equal(other(jnp.arange(60)), s(jnp.arange(60)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: timm.CosineLRScheduler(0.1, t_initial=0), "t_initial=0; t_initial must be a number of steps above 0"),
        (lambda: timm.CosineLRScheduler(0.1, 10, lr_min=-1.0), "lr_min=-1.0; lr_min must be"),
        (
            lambda: timm.CosineLRScheduler(0.1, 10, cycle_mul=0.5),
            "cycle_mul=0.5; cycle_mul must be a number, 1 or more",
        ),
        (lambda: timm.CosineLRScheduler(0.1, 10, cycle_limit=0), "cycle_limit=0; cycle_limit must be an integer, 1"),
        (lambda: timm.CosineLRScheduler(0.1, 10, warmup=3), "did you mean 'warmup_t'?"),
        (lambda: timm.CosineLRScheduler(0.1, 10, noise_pct=0.5), "noise_pct=0.5 is ignored by timm without a range"),
        (lambda: timm.StepLRScheduler(0.1, 10, noise_seed=1), "noise_seed=1 is ignored by timm without a range"),
        (
            lambda: timm.PolyLRScheduler(0.1, 10, noise_range_t=[5, 5]),
            "noise_range_t=[5, 5]; timm would never apply it",
        ),
        (lambda: timm.PolyLRScheduler(0.1, 10, noise_range_t=[5]), "noise_range_t=[5]; write a start, or a list"),
        (lambda: timm.PolyLRScheduler(0.1, 10, noise_range_t="5"), "noise_range_t='5' is text"),
        (lambda: timm.TanhLRScheduler(0.1, 10, lb=3.0), "lb=3.0 and ub=3.0; write -20 <= lb < ub <= 20"),
        (lambda: timm.MultiStepLRScheduler(0.1, [9, 5]), "decay_t=[9, 5]; decay_t must be a list of steps"),
        (lambda: timm.WSDLRScheduler(0.1, 10, 11), "decay_t=11 and t_initial=10; the decay is a part of t_initial"),
        (lambda: timm.WSDLRScheduler(0.1, 10, 5, stable_fn="rsqrt"), "stable_fn='rsqrt' without a warmup needs a"),
        (lambda: timm.WSDLRScheduler(0.1, 10, 5, stable_fn="sqrt"), "stable_fn='sqrt'; did you mean 'rsqrt'?"),
        (lambda: timm.WSDLRScheduler(0.1, 10, 5, decay_fn="sqrt"), "decay_fn='sqrt'; did you mean '1-sqrt'?"),
        (lambda: timm.WSDLRScheduler(0.1, 10, 5, decay_ratio=1.0), "decay_ratio=1.0; decay_ratio must be below 1"),
        (lambda: timm.create_scheduler_v2(0.1, "cosin"), "sched='cosin'; did you mean 'cosine'?"),
        (lambda: timm.create_scheduler_v2(0.1, step_on_epochs=False), "updates_per_epoch=0; write the number of"),
        (lambda: timm.create_scheduler_v2(0.1, "plateau", step_on_epochs=False), "a plateau is judged once an epoch"),
        (lambda: timm.create_scheduler_v2(0.1, "wsd", 10, decay_epochs=11), "decay_t=11 and t_initial=10"),
        (lambda: timm.PlateauLRScheduler(0.1, noise_type="gauss"), "noise_type='gauss'"),
        (lambda: timm.PlateauLRScheduler(0.1, noise_std=0.1), "noise_std=0.1 is ignored by timm without a range"),
        (lambda: timm.PlateauLRScheduler(0.1, mode="maximum"), "mode='maximum'; did you mean 'max'?"),
    ],
)
def test_refuses(make: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        make()


# --- warmup, stable, decay by a function of one's own ----------------------------------------------------------------


def test_a_decay_of_ones_own() -> None:
    named = timm.WSDLRScheduler(0.1, 20, 8, 1e-3, warmup_t=4, decay_fn="power", decay_power=2.0)
    s = named.replace(decay_fn=lambda u: 1 - u**2)
    np.testing.assert_allclose(s.table(40), named.table(40), rtol=1e-6)
    assert np.all(np.isfinite(jax.vmap(jax.grad(lambda lr, t: s.replace(lr=lr)(t)), (None, 0))(0.1, jnp.arange(40))))
    late = timm.WSDLRScheduler(1.0, 20, 8, decay_fn=lambda u: 0.5)  # what it says of u = 0 is not asked
    assert late.table(15).tolist() == [1.0] * 13 + [0.5] * 2


# --- the factories ---------------------------------------------------------------------------------------------------

EPOCHS = [  # the arguments, and the number of epochs that timm 1.0.31 returns with them (tests/peers/test_timm_live.py)
    ({"sched": "cosine", "num_epochs": 20, "cooldown_epochs": 4}, 24),
    ({"sched": "cosine", "num_epochs": 20, "warmup_epochs": 5, "warmup_prefix": True}, 25),
    ({"sched": "tanh", "num_epochs": 10, "cycle_mul": 2, "cycle_limit": 3}, 70),
    ({"sched": "poly", "num_epochs": 10, "cycle_mul": 1.5, "cycle_limit": 3}, 47),
    ({"sched": "step", "num_epochs": 20, "warmup_epochs": 5, "warmup_prefix": True, "cooldown_epochs": 4}, 25),
    ({"sched": "multistep", "num_epochs": 20}, 20),
    ({"sched": "wsd", "num_epochs": 20, "warmup_epochs": 5}, 20),
    ({"sched": "rsqrt", "num_epochs": 20, "warmup_epochs": 5, "warmup_prefix": True, "cooldown_epochs": 1}, 26),
    ({"sched": "constant", "num_epochs": 20}, 20),
    ({"sched": "plateau", "num_epochs": 20}, 20),
    ({"sched": "none", "num_epochs": 20}, 20),
    ({"sched": "cosine", "num_epochs": 9, "cooldown_epochs": 2, "step_on_epochs": False, "updates_per_epoch": 7}, 11),
]


@pytest.mark.parametrize(("arguments", "epochs"), EPOCHS)
def test_the_number_of_epochs(arguments: dict[str, Any], epochs: int) -> None:
    assert timm.create_scheduler_v2(0.1, **arguments)[1] == epochs


def test_the_factory_makes_the_classes() -> None:
    s, _ = timm.create_scheduler_v2(0.1, "poly", 20, decay_rate=2.0, k_decay=1.5, noise=[0.5, 1.0], noise_seed=7)
    assert isinstance(s, timm.PolyLRScheduler)
    assert (s.power, s.k_decay, s.noise_range_t, s.noise_seed) == (2.0, 1.5, [10.0, 20.0], 7)
    assert timm.create_scheduler_v2(0.1, "cosine", 20, noise=0.5)[0].noise_range_t == 10.0
    assert timm.create_scheduler_v2(0.1, "step", noise_seed=7)[0].noise_seed == 42  # not looked at, as in timm
    constant, _ = timm.create_scheduler_v2(0.1, "constant", warmup_epochs=2, warmup_lr=0.05)
    np.testing.assert_allclose(constant.table(4), [0.05, 0.075, 0.1, 0.1], rtol=1e-6)
    none, _ = timm.create_scheduler_v2(0.1, "none", warmup_epochs=2)
    assert repr(none) == "Constant(constant_value=0.1)"
    wsd, _ = timm.create_scheduler_v2(0.1, "wsd", 20, warmup_epochs=4)
    assert (int(wsd.t_initial), int(wsd.decay_t), wsd.decay_fn) == (16, 3, "1-sqrt")


def test_the_factory_is_one_program() -> None:
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def rate(epochs: Any, decay: Any, mult: Any) -> Any:
        one, length = timm.create_scheduler_v2(0.1, "cosine", epochs, cycle_mul=mult, cycle_limit=3)
        two, _ = timm.create_scheduler_v2(0.1, "wsd", epochs, decay_epochs=decay)
        return one(30), two(8), length

    found = jax.vmap(rate)(jnp.array([10, 12]), jnp.array([0.5, 6.0]), jnp.array([1, 2]))
    assert found[2].tolist() == [30, 84]
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isfinite(found[1]))


def test_a_configuration_is_read() -> None:
    cfg = types.SimpleNamespace(sched="plateau", eval_metric="eval_loss", lr_cycle_mul=2, sched_on_updates=True, seed=3)
    found = timm.scheduler_kwargs(cfg)
    assert (found["plateau_mode"], found["cycle_mul"], found["noise_seed"], found["step_on_epochs"]) == (
        "min",
        2,
        3,
        False,
    )
    assert timm.scheduler_kwargs(cfg, decreasing_metric=False)["plateau_mode"] == "max"
    s, epochs = timm.create_scheduler(types.SimpleNamespace(sched="multistep", seed=3), lr=1.0)
    assert (s.decay_t.tolist(), epochs) == ([30, 60], 100)


# --- the plateau -----------------------------------------------------------------------------------------------------


def plateau_rates(optimizer: Any, metrics: list[float], steps_per_epoch: int) -> list[list[float]]:
    """What the updates of each epoch are scaled by, and the metric after it."""
    state, found = optimizer.init(jnp.zeros(())), []
    update = jax.jit(optimizer.update)
    for metric in metrics:
        epoch = []
        for _ in range(steps_per_epoch):
            updates, state = update(jnp.ones(()), state)
            epoch.append(-float(updates))
        found.append(epoch)
        state = js.observe(state, value=metric)
    return found


def test_the_plateau_warms_up_and_is_cut() -> None:
    optimizer = timm.PlateauLRScheduler(
        0.8, decay_rate=0.5, patience_t=1, warmup_t=4, lr_min=0.3, steps_per_epoch=3, mode="min"
    )
    found = plateau_rates(optimizer, [1.0] * 12, 3)
    assert all(len(set(epoch)) == 1 for epoch in found)
    # metrics of the warmup are ignored; then the first is the best, and two without improvement do not cut
    np.testing.assert_allclose([e[0] for e in found], [0, 0.2, 0.4, 0.6, *[0.8] * 3, 0.4, 0.4, *[0.3] * 3], rtol=1e-6)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_the_noise_of_the_plateau(kind: Any) -> None:
    make = {"noise_pct": 0.3, "noise_std": 0.2, "noise_type": kind}
    optimizer = timm.PlateauLRScheduler(0.5, warmup_t=2, noise_range_t=[1, 6], steps_per_epoch=2, **make)
    found = np.array(plateau_rates(optimizer, [0.0] * 8, 2)) / 0.5 - 1
    assert np.array_equal(found[:, 0], found[:, 1])
    assert np.array_equal(found[2:, 0] != 0, [False, True, True, True, False, False])  # none in the warmup
    # (the first 4,000 of seed 42 are the one set in 500 that a test at 1 % calls too far out)
    noise = timm.PlateauLRScheduler(1.0, noise_range_t=0, noise_seed=7, **make)
    state = noise.init(jnp.zeros(()))
    _, updates = jax.lax.scan(lambda s, _: noise.update(jnp.ones(()), s)[::-1], state, None, 4_000)
    drawn = -np.asarray(updates)[1:] - 1
    assert np.abs(drawn).max() <= 0.3 * (1 + 1e-6)
    expected = stats.uniform(-0.3, 0.6) if kind == "uniform" else stats.truncnorm(-1.5, 1.5, scale=0.2)
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01


def test_a_negative_metric_that_gets_worse_is_not_better() -> None:
    for peer_exact, last in ((False, 0.05), (True, 0.1)):
        optimizer = timm.PlateauLRScheduler(
            0.1, decay_rate=0.5, patience_t=0, threshold=0.5, mode="min", peer_exact=peer_exact
        )
        state = js.observe(js.observe(optimizer.init(jnp.zeros(())), value=-1.0), value=-0.8)
        assert float(js.current_hyperparams(state)["learning_rate"]) == pytest.approx(last)


def test_the_plateau_of_the_factory() -> None:
    optimizer, _ = timm.create_scheduler_v2(0.1, "plateau", patience_epochs=0, decay_rate=0.5, updates_per_epoch=2)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    np.testing.assert_allclose(plateau_rates(optimizer, [1.0, 1.0, 1.0], 2), [[0.1] * 2, [0.1] * 2, [0.05] * 2])
