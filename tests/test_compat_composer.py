"""`compat.others.composer`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import composer


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("LinearScheduler", {}, ValueError, "t_max='1dur' needs max_duration=; give it as well"),
        ("LinearScheduler", {"t_max": "3ep"}, ValueError, "t_max='3ep' needs batches_per_epoch="),
        ("LinearScheduler", {"t_max": "3sp"}, ValueError, "t_max='3sp' needs samples_per_batch="),
        ("LinearScheduler", {"t_max": "3tok"}, ValueError, "t_max='3tok' needs tokens_per_batch="),
        ("LinearScheduler", {"max_duration": "3ep"}, ValueError, "t_max='1dur' needs batches_per_epoch="),
        ("LinearScheduler", {"max_duration": "1dur"}, ValueError, "max_duration='1dur'; write no 'dur'"),
        ("LinearScheduler", {"t_max": "3.5ba"}, ValueError, "t_max='3.5ba' is not a whole number"),
        ("LinearScheduler", {"t_max": "3 weeks"}, ValueError, "t_max='3 weeks'; write '10ep', '500ba'"),
        ("LinearScheduler", {"t_max": "30sec"}, ValueError, "t_max='30sec'; write '10ep'"),
        ("LinearScheduler", {"t_max": "2iter"}, ValueError, "t_max='2iter'; write '10ep'"),
        ("LinearScheduler", {"t_max": "-2ba"}, ValueError, "t_max='-2ba'; write '10ep'"),
        ("LinearScheduler", {"t_max": 5, "max_durations": 5}, TypeError, "did you mean 'max_duration'"),
        ("LinearScheduler", {"t_max": 5, "scale_schedule_ratio": 0}, ValueError, "scale_schedule_ratio=0; write a"),
        ("StepScheduler", {"step_size": "0ba"}, ValueError, "step_size='0ba'"),
        ("CosineAnnealingWarmRestartsScheduler", {"t_0": 5, "t_mult": 0.5}, ValueError, "cycle_mult=0.5"),
        (
            "LinearWithWarmupScheduler",
            {"t_warmup": "100sp", "t_max": "50ba", "samples_per_batch": 8},
            ValueError,
            "t_warmup in 'sp' and t_max in 'ba'; write both in one unit",
        ),
        (
            "CosineAnnealingWithWarmupScheduler",
            {"t_warmup": 5, "t_max": "50ba", "max_duration": "6ep", "batches_per_epoch": 10},
            ValueError,
            "t_max='50ba' and max_duration='6ep'; the schedule must last as long as the training",
        ),
        (
            "PolynomialWithWarmupScheduler",
            {"t_warmup": 60, "max_duration": 50},
            ValueError,
            "t_max='1dur' comes before the end of the warmup",
        ),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(composer, make)(1.0, **arguments)


@pytest.mark.parametrize(
    ("time", "batches"),
    [
        (7, 7),
        ("7ba", 7),
        (" 7 BA ", 7),
        ("2ep", 20),
        ("64sp", 8),
        ("1e3sp", 125),
        ("20sp", 2.5),
        ("4096tok", 4),
        ("0.29dur", 29),
        ("1dur", 100),
    ],
)
def test_every_unit_comes_to_batches(time: Any, batches: float) -> None:
    sizes = {"batches_per_epoch": 10, "samples_per_batch": 8, "tokens_per_batch": 1024, "max_duration": "10ep"}
    s = composer.ConstantScheduler(1.0, alpha=0.5, t_max=time, **sizes)
    assert float(s(np.ceil(batches) - 1)) == 0.5
    assert float(s(np.ceil(batches))) == 1.0  # Composer cuts 0.29 * 10 * 10 = 28.999999999999996 off


def test_the_training_is_stretched_and_cut_off() -> None:
    """`dur` is a share of the stretched training; every other time is stretched itself, to whole batches."""
    sizes = {"max_duration": "5ep", "batches_per_epoch": 3, "scale_schedule_ratio": 0.5}
    assert float(composer.LinearScheduler(1.0, **sizes)(6)) == 0 < float(composer.LinearScheduler(1.0, **sizes)(5))
    linear = composer.LinearScheduler(1.0, t_max="11ba", **sizes)
    assert float(linear(5)) == 0 < float(linear(4))


def test_a_milestone_that_comes_twice_counts_twice() -> None:
    s = composer.MultiStepScheduler(1.0, ["4ba", 2, "1ep"], gamma=0.5, batches_per_epoch=4)
    assert s.table(6).tolist() == [1, 1, 0.5, 0.5, 0.125, 0.125]


def test_the_factor_is_on_any_schedule() -> None:
    s = composer.LinearScheduler(js.StepDecay(1.0, 0.5, 2), t_max=4)
    assert s.table(5).tolist() == [1, 0.75, 0.25, 0.125, 0]


def test_the_warmup_is_stretched_as_a_whole() -> None:
    arguments = {"t_warmup": 4, "max_duration": 8, "scale_warmup": True, "scale_schedule_ratio": 2.0}
    ours = composer.ConstantWithWarmupScheduler(1.0, **arguments)
    peers = composer.ConstantWithWarmupScheduler(1.0, **arguments, peer_exact=True)
    assert ours.table(9).tolist() == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
    assert peers.table(6).tolist() == [0, 0.125, 0.25, 0.375, 1, 1]


def test_what_a_time_is_measured_by_is_traced() -> None:
    """One program for every size of a batch and every length."""
    sizes = jnp.array([8, 16, 32])

    def values(samples: Any, epochs: Any, ratio: Any) -> Any:
        given = {"samples_per_batch": samples, "batches_per_epoch": epochs, "scale_schedule_ratio": ratio}
        by_samples = composer.CosineAnnealingScheduler(1.0, "640sp", **given)
        by_epochs = composer.MultiStepWithWarmupScheduler(1.0, "1ep", ["2ep", "0.75dur"], max_duration="5ep", **given)
        return by_samples.table(100) + by_epochs.table(100)

    traced = jax.jit(jax.vmap(values))(sizes, jnp.array([4, 5, 6]), jnp.array([1.0, 1.5, 2.0]))
    for i, row in enumerate(traced):
        np.testing.assert_allclose(row, values([8, 16, 32][i], [4, 5, 6][i], [1.0, 1.5, 2.0][i]), atol=1e-6)


def test_a_warmup_that_ends_between_two_batches() -> None:
    s = composer.MultiStepWithWarmupScheduler(1.0, "20sp", ["32sp"], gamma=0.5, samples_per_batch=8)
    assert s.table(6).tolist() == pytest.approx([0, 0.4, 0.8, 1, 0.5, 0.5])


def test_a_warmup_that_leaves_nothing_is_the_same_traced() -> None:
    def values(steps: Any, exact: bool) -> Any:
        return composer.LinearWithWarmupScheduler(1.0, steps, t_max=4, peer_exact=exact).table(7)

    for exact, last in ((False, 0.0), (True, 1.0)):
        want = [0, 0.25, 0.5, 0.75, last, last, last]
        assert values(4, exact).tolist() == jax.jit(values, static_argnums=1)(4, exact).tolist() == want
    assert composer.StepScheduler(1.0, np.array([5, 10]))(3).shape == (2,)
