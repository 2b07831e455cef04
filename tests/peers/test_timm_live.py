"""What `compat.timm` takes from timm beyond its curves, beside the live peer: `make parity`."""

from __future__ import annotations

import inspect
import types
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsched as js
from jaxsched.compat import timm as ours
from tests.test_compat_timm import CLASSES, EPOCHS

from .cases_timm import optimizer, rates_of, scheduler_module

theirs: Any = pytest.importorskip("torch") and scheduler_module()
OURS_ALONE = {"peer_exact", "steps_per_epoch"}
THEIRS_ALONE = {"initialize"}


@pytest.mark.parametrize("name", [type(s).__name__ for s in CLASSES] + ["PlateauLRScheduler", "create_scheduler_v2"])
def test_the_arguments_are_timms(name: str) -> None:
    """By name, in their order, with their defaults."""
    mine = inspect.signature(getattr(ours, name)).parameters
    peer = inspect.signature(getattr(theirs, name)).parameters
    assert [n for n in mine if n not in OURS_ALONE] == ["lr", *[n for n in peer if n not in THEIRS_ALONE][1:]]
    for argument in [n for n in mine if n not in OURS_ALONE][1:]:
        assert mine[argument].default == peer[argument].default, argument


@pytest.mark.parametrize(("arguments", "epochs"), EPOCHS)
def test_the_number_of_epochs(arguments: dict[str, Any], epochs: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert theirs.create_scheduler_v2(optimizer(0.1), **arguments)[1] == epochs


@pytest.mark.parametrize("cfg", [{}, {"epochs": 7, "lr_noise": [0.5], "eval_metric": "loss", "sched_on_updates": True}])
def test_a_configuration_is_read_alike(cfg: dict[str, Any]) -> None:
    namespace = types.SimpleNamespace(sched="cosine", **cfg)
    for falls in (None, True, False):
        assert ours.scheduler_kwargs(namespace, falls) == theirs.scheduler_kwargs(namespace, falls)


def test_a_decay_of_ones_own() -> None:
    arguments = {"t_initial": 20, "decay_t": 8, "lr_min": 0.01, "warmup_t": 4, "decay_fn": lambda u: 0.9 - 0.9 * u}
    expected = rates_of(theirs.WSDLRScheduler(optimizer(0.5), **arguments), 40)
    np.testing.assert_allclose(ours.WSDLRScheduler(0.5, **arguments).table(40), expected, rtol=1e-6)


@pytest.mark.parametrize(("std", "limit"), [(1.0, 0.67), (0.2, 0.5), (3.0, 0.1)])
def test_the_noise_has_timms_distribution(std: float, limit: float) -> None:
    """Two samples of one distribution, and on the same steps."""
    arguments = {"decay_t": 10_000, "noise_range_t": [10, 4_010], "noise_std": std, "noise_pct": limit}
    peer = np.array(rates_of(theirs.StepLRScheduler(optimizer(1.0), **arguments), 4_100)) - 1
    mine = np.asarray(ours.StepLRScheduler(1.0, **arguments).table(4_100), np.float64) - 1
    assert np.array_equal(peer != 0, mine != 0)
    assert max(np.abs(peer).max(), np.abs(mine).max()) <= limit * (1 + 1e-6)
    assert stats.ks_2samp(peer[10:4_010], mine[10:4_010]).pvalue > 0.01


def test_the_uniform_noise_of_the_plateau() -> None:
    with pytest.warns(FutureWarning):
        peer = theirs.PlateauLRScheduler(optimizer(1.0), noise_range_t=0, noise_type="uniform", noise_pct=0.3)
    drawn = [peer._calculate_noise(t) for t in range(4_000)]
    assert stats.kstest(drawn, stats.uniform(-0.3, 0.6).cdf).pvalue > 0.01


@pytest.mark.parametrize("seed", range(20))
def test_the_plateau_hears_what_timms_hears(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arguments = {
        "decay_rate": float(rng.choice([0.5, 0.1])),
        "patience_t": int(rng.integers(0, 4)),
        "threshold": float(rng.choice([1e-4, 0.05])),
        "cooldown_t": int(rng.integers(0, 3)),
        "warmup_t": int(rng.integers(0, 6)),
        "warmup_lr_init": float(rng.choice([0.0, 0.01])),
        "lr_min": float(rng.choice([0.0, 0.02])),
        "mode": str(rng.choice(["min", "max"])),
    }
    metrics = rng.normal(size=60).cumsum() * 0.1
    if seed % 2 == 0:
        metrics = 1 + np.abs(metrics)
    with pytest.warns(FutureWarning):
        peer = theirs.PlateauLRScheduler(optimizer(0.5), **arguments)
    mine = ours.PlateauLRScheduler(0.5, **arguments, steps_per_epoch=2, peer_exact=True)
    state = mine.init(jnp.zeros(()))
    for epoch, metric in enumerate(metrics.astype(np.float32).tolist()):
        for _ in range(2):
            updates, state = mine.update(jnp.ones(()), state)
            assert -float(updates) == pytest.approx(peer.optimizer.param_groups[0]["lr"], rel=2e-6), (epoch, arguments)
        state = js.observe(state, value=metric)
        peer.step(epoch + 1, metric)
