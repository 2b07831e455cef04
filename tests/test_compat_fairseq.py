"""`compat.others.fairseq`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.compat.others import fairseq


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("TriStageLRSchedule", {}, ValueError, "warmup_steps=0 and hold_steps=0 and decay_steps=0; write the length"),
        ("TriStageLRSchedule", {"phase_ratio": [0.5, 0.5]}, ValueError, "write three shares that add up to 1"),
        ("TriStageLRSchedule", {"phase_ratio": [0.5, 0.5, 0.5]}, ValueError, "three shares that add up to 1"),
        ("TriStageLRSchedule", {"phase_ratio": [0.2, 0.3, 0.5]}, ValueError, "max_update=None; phase_ratio needs it"),
        (
            "TriStageLRSchedule",
            {"phase_ratio": [0.2, 0.3, 0.5], "max_update": 100, "hold_steps": 5},
            ValueError,
            "hold_steps=5 is ignored by fairseq: phase_ratio says",
        ),
        ("TriStageLRSchedule", {"decay_steps": 5, "final_lr_scale": 0.0}, ValueError, "final_lr_scale=0.0"),
        ("InverseSquareRootSchedule", {"warmup_updates": 0}, ValueError, "warmup_updates=0; warmup_updates must be"),
        ("TriangularLRSchedule", {"max_lr": 0.5}, ValueError, "lr=1.0 and max_lr=0.5; max_lr must be above lr"),
        ("TriangularLRSchedule", {"max_lr": 2.0, "peer_exact": True, "lr_period_updates": 1}, ValueError, "by zero"),
        ("PolynomialDecayLRSchedule", {}, ValueError, "total_num_update=None; write the number of updates"),
        (
            "PolynomialDecayLRSchedule",
            {"total_num_update": 10, "force_anneal": 3},
            ValueError,
            "force_anneal=3 is ignored by fairseq as an end",
        ),
        (
            "PolynomialDecayLRSchedule",
            {"total_num_update": 10, "warmup_updates": 11},
            ValueError,
            "warmup_updates <= total_num_update",
        ),
        ("CosineLRSchedule", {}, ValueError, "lr_period_updates=-1; write the length of the first period"),
        ("CosineLRSchedule", {"max_update": 5, "warmup_updates": 5}, ValueError, "no update is left for the period"),
        ("CosineLRSchedule", {"lr_period_updates": 5, "min_lr": 1.0}, ValueError, "lr must be above min_lr"),
        ("CosineLRSchedule", {"lr_period_updates": 5, "t_mult": 0.5}, ValueError, "t_mult=0.5; t_mult must be"),
        ("StepLRSchedule", {"lr_decay": 2.0}, ValueError, "lr_decay=2.0; a factor above 1 is no decay"),
        ("StepLRSchedule", {"lr_decay_period": 5}, TypeError, "did you mean 'lr_deacy_period'"),
        ("FixedLRSchedule", {"force_anneal": 2}, ValueError, "force_anneal counts epochs; write updates_per_epoch"),
        ("ManualSchedule", {"epoch2lr": {"1": 0.1}}, ValueError, "epoch2lr counts epochs; write updates_per_epoch"),
        ("ManualSchedule", {"update2lr": "[1]"}, ValueError, "update2lr='[1]'; write a dictionary"),
        ("ManualSchedule", {"update2lr": "{1:"}, ValueError, "write a dictionary"),
        ("ManualSchedule", {"update2lr": {"1-2,5": 0.1}}, ValueError, "the key '1-2,5' is no number"),
        ("ReduceLROnPlateauLRSchedule", {"warmup_updates": 5}, ValueError, "the metric counts epochs"),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(fairseq, make)(1.0, **arguments)


def test_a_registered_name_makes_its_schedule() -> None:
    assert type(fairseq.build_lr_scheduler("inverse_sqrt", 0.1)) is fairseq.InverseSquareRootSchedule
    assert type(fairseq.build_lr_scheduler("fixed", 0.1)(0)) is not None
    with pytest.raises(ValueError, match="did you mean 'tri_stage'"):
        fairseq.build_lr_scheduler("tristage", 0.1)


def test_a_share_that_is_whole_is_not_cut_off() -> None:
    """fairseq makes int(0.29 * 100) = 28 of it; the rate of the plateau is reached at update 29."""
    s = fairseq.TriStageLRSchedule(1.0, phase_ratio=(0.29, 0.21, 0.5), max_update=100)
    assert float(s(28)) < 1.0 == float(s(29)) == float(s(49))
    assert float(s(100)) == pytest.approx(0.01)


def test_what_fairseq_divides_by_zero_for() -> None:
    s = fairseq.TriStageLRSchedule(1.0, warmup_steps=2, decay_steps=0)
    assert s.table(4).tolist() == pytest.approx([0.01, 0.505, 0.01, 0.01])


def test_the_lowest_rate_holds() -> None:
    s = fairseq.TriangularLRSchedule(0.1, 0.2, 10, lr_shrink=0.1)
    assert np.min(s.table(100)) == np.float32(0.1)


def test_manual_rates_are_leaves() -> None:
    """A range gives its rate to every update in it, and a key inside of it only to its own."""

    def values(rate: Any) -> Any:
        return fairseq.ManualSchedule(1.0, update2lr={"2-6": rate, "4": 0.5, "8,10": 0.25}).table(12)

    expected = [1, 1, 0.75, 0.75, 0.5, 0.75, 0.75, 0.75, 0.25, 0.25, 0.25, 0.25]
    assert values(0.75).tolist() == expected
    assert jax.jit(values)(0.75).tolist() == expected
    assert jax.grad(lambda rate: values(rate).sum())(0.75) == 5
    text = fairseq.ManualSchedule(1.0, update2lr='{"2 - 6": 0.75, "4": 0.5, "8,10": "0.25"}')
    assert text.table(12).tolist() == expected


def test_epochs_by_hand_until_an_update_is_named() -> None:
    s = fairseq.ManualSchedule(1.0, {"2": 0.5}, {"6": 0.25}, updates_per_epoch=2)
    assert s.table(8).tolist() == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_the_metric_is_not_heard_in_the_warmup() -> None:
    optimizer = fairseq.ReduceLROnPlateauLRSchedule(1.0, 0.5, warmup_updates=4, updates_per_epoch=2)
    params = jnp.ones(())
    state, seen = optimizer.init(params), []
    for _ in range(6):
        for _ in range(2):
            updates, state = optimizer.update(params, state, params)
            seen.append(-float(updates))
        state = js.observe(state, value=1.0)
    # The epochs that end at updates 2 and 4 tell nothing; the third one is the best, and each after it cuts.
    assert seen == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)


def test_what_is_ignored_is_refused_where_it_can_be_seen() -> None:
    """Lengths beside `phase_ratio`: stacked they are seen, traced they are not, and neither is a Python branch."""

    def made(steps: Any) -> Any:
        return fairseq.TriStageLRSchedule(1.0, warmup_steps=steps, phase_ratio=(0.25, 0.5, 0.25), max_update=8)

    for steps in (3, np.array([0, 3])):
        with pytest.raises(ValueError, match="is ignored by fairseq: phase_ratio says how long the phases are"):
            made(steps)
    want = made(0).table(9)
    np.testing.assert_array_equal(made(np.array([0, 0])).warmup_steps, [0, 0])
    np.testing.assert_allclose(jax.jit(lambda n: made(n).table(9))(0), want, rtol=1e-6)
