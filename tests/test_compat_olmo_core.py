"""jaxsched.compat.others.olmo_core: its two clocks, its sequences, and what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.compat.others import olmo_core as olmo

PART = {"type": "constant_with_warmup", "warmup": 2}


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("ConstantWithWarmup", {}, "ConstantWithWarmup: no warmup; write either warmup or warmup_fraction."),
        ("ConstantWithWarmup", {"warmup": 5, "warmup_fraction": 0.1}, "warmup=5 and warmup_fraction=0.1; write either"),
        ("ConstantWithWarmup", {"warmup": 5, "warmup_steps": 5}, "warmup=5 and warmup_steps=5; write either"),
        (
            "ConstantWithWarmup",
            {"warmup_fraction": 0.1},
            "warmup_fraction=0.1 is a share of the horizon; write max_steps",
        ),
        ("ConstantWithWarmup", {"warmup_fraction": 1.1}, "warmup_fraction must be a number from 0 to 1"),
        (
            "ConstantWithWarmup",
            {"warmup": 5, "warmup_min_lr": 2.0},
            "warmup_min_lr=2.0; write 0 or more, and less than lr",
        ),
        ("WSD", {"warmup": 5}, "WSD: max_steps=None; write the trainer's max_steps"),
        ("WSD", {"warmup": 5, "decay": 5, "max_steps": 20}, "decay_fraction=None where it has a default"),
        ("WSD", {"warmup": 15, "decay_fraction": 0.5, "max_steps": 20}, "a warmup and a decay of 25 in a whole of 20"),
        (
            "WSD",
            {"warmup": 5, "max_steps": 20, "decay_min_lr": 1.0},
            "decay_min_lr=1.0; write 0 or more, and less than lr",
        ),
        ("WSD", {"warmup": 5, "max_steps": 20, "units": "token"}, "units='token'; did you mean 'tokens'?"),
        ("PowerLR", {"warmup": 5, "b": 0.5, "max_steps": 20}, "b=0.5; a power that falls has an exponent below 0"),
        (
            "PowerLR",
            {"warmup_fraction": 0.0, "max_steps": 20},
            "a warmup of 0; the power counts in units of the warmup",
        ),
        ("PowerLR", {"warmup": 5, "max_steps": 20, "decay_min_lr": 0.9}, "less than the rate where the decay begins="),
        ("InvSqrtWithWarmup", {"warmup_fraction": 0.0, "max_steps": 9}, "a warmup of 0; the decay counts in units"),
        ("CosWithWarmup", {"warmup": 30, "t_max": 20}, "a warmup of 30 in a whole of 20; shorten it"),
        ("WSDS", {"period_lengths": [], "warmup": 1, "decay": 1}, "period_lengths=[]; write at least one length"),
        ("WSDS", {"period_lengths": [5], "warmup": 3, "decay": 3}, "a warmup and a decay of 6 in a whole of 5"),
        ("WSDS", {"period_lengths": [9, 2], "warmup": 3, "decay": 3}, "a decay of 3 in a whole of 2"),
        (
            "WSDS",
            {"period_lengths": [9], "period_lr_multipliers": [1, 2], "warmup": 3, "decay": 3},
            "1 period_lengths and 2",
        ),
        ("WSDS", {"period_lengths": [9, 0], "warmup": 3, "decay": 3}, "period_lengths[1]=0"),
        ("ComposableScheduler", {"stages": []}, "stages=[]; write a list of at least one stage"),
        (
            "ComposableScheduler",
            {"stages": [{"duration": 5}]},
            "end_lr=None and end_lr_fraction=None; write one of the two",
        ),
        ("ComposableScheduler", {"stages": [{"duration": 5, "shape": "line", "end_lr": 0}]}, "did you mean 'linear'?"),
        ("OverrideDecay", {"duration": 5, "end_lr": 0.0, "end_lr_fraction": 0.1}, "end_lr=0.0 and end_lr_fraction=0.1"),
        (
            "SequentialScheduler",
            {"schedulers": [PART, PART], "max_steps": 9},
            "write schedulers_max, the lengths of all",
        ),
        (
            "SequentialScheduler",
            {"schedulers": [PART, PART], "schedulers_max": [1, 2, 3], "max_steps": 9},
            "2 schedulers and 3 lengths; write one for each but the last",
        ),
        (
            "SequentialScheduler",
            {"schedulers": [PART, PART], "schedulers_max": [9], "max_steps": 9},
            "max_steps=9 leaves nothing for the last scheduler",
        ),
        (
            "SequentialScheduler",
            {"schedulers": [{"type": "wsdd"}], "schedulers_max": [], "max_steps": 9},
            "type='wsdd'; did you mean 'wsd'?",
        ),
        (
            "SequentialScheduler",
            {"schedulers": [{**PART, "lr": 0.1}], "schedulers_max": [], "max_steps": 9},
            "lr=0.1; the sequence itself says its lr",
        ),
    ],
)
def test_what_is_refused(name: str, arguments: dict[str, Any], says: str) -> None:
    first = {"start": 0} if name == "OverrideDecay" else {"lr": 1.0}
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is looked at below
        getattr(olmo, name)(**first, **arguments)
    assert says in str(caught.value)


def test_the_first_update_has_the_rate_of_step_1_and_the_last_one_that_of_the_end() -> None:
    s = olmo.LinearWithWarmup(1.0, alpha_f=0.0, warmup=4, max_steps=8)
    assert (float(s(0)), float(s(3)), float(s(7))) == (0.25, 1.0, 0.0)


def test_tokens_are_the_same_curve_on_another_clock() -> None:
    per_step = 4_096
    in_steps = olmo.WSD(1.0, warmup=10, decay=20, decay_fraction=None, max_steps=100)
    numbers = {"warmup": 10 * per_step, "decay": 20 * per_step, "max_steps": 100 * per_step}
    in_tokens = olmo.WSD(1.0, **numbers, decay_fraction=None, units="tokens")
    steps = jnp.arange(120)
    np.testing.assert_allclose(in_tokens((steps + 1) * per_step), in_steps(steps), rtol=1e-6)


def test_older_names() -> None:
    old = olmo.WSD(1.0, warmup_steps=5, decay_steps=5, decay_fraction=None, max_steps=20)
    new = olmo.WSD(1.0, warmup=5, decay=5, decay_fraction=None, max_steps=20)
    assert repr(old) == repr(new)


def test_a_fraction_is_rounded_to_even() -> None:
    """As Python's round does: 2.5 steps are 2."""
    s = olmo.ConstantWithWarmup(1.0, warmup_fraction=0.25, max_steps=10)
    assert s.table(3).tolist() == [0.5, 1.0, 1.0]
    traced = jax.jit(lambda share: olmo.ConstantWithWarmup(1.0, warmup_fraction=share, max_steps=10).table(3))(0.25)
    assert traced.tolist() == [0.5, 1.0, 1.0]


def test_no_decay_is_no_division_by_zero() -> None:
    s = olmo.WSD(1.0, warmup=0, decay=0, decay_fraction=None, max_steps=3)
    assert s.table(5).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    s = olmo.WSDS(1.0, period_lengths=[2, 2], warmup=0, decay=0)
    assert s.table(5).tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]


def test_a_checkpoint_is_cooled_down() -> None:
    """The same training until the checkpoint, and from there down to nothing."""
    stages = [olmo.ComposableSchedulerStage(10, start_lr=0.0, end_lr_fraction=1.0), {"duration": 90, "end_lr": 0.5}]
    whole = olmo.ComposableScheduler(1.0, stages)
    cut = olmo.ComposableScheduler(1.0, stages, override_decay=olmo.OverrideDecay(start=40, duration=10, end_lr=0.0))
    np.testing.assert_allclose(cut.table(40), whole.table(40), rtol=1e-6)
    assert float(cut(44)) == pytest.approx(float(whole(39)) / 2)
    assert float(cut(49)) == 0.0 == float(cut(1_000))


def test_a_sequence_goes_on_from_the_last_rate() -> None:
    parts = [
        {"type": "cos_with_warmup", "warmup": 2, "alpha_f": 0.5},
        {"type": "wsds", "period_lengths": [4], "warmup": 0, "decay": 2},
    ]
    s = olmo.SequentialScheduler(1.0, parts, schedulers_max=[6, 99], max_steps=10)
    np.testing.assert_allclose([s(t) for t in (1, 5, 6, 7, 8, 9)], [1.0, 0.5, 0.5, 0.5, 0.25, 0.0], rtol=1e-6)
    slope = jax.grad(lambda lr: olmo.SequentialScheduler(lr, parts, schedulers_max=[6], max_steps=10)(6))(1.0)
    assert float(slope) == pytest.approx(0.5)
