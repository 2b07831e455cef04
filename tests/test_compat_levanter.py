"""jaxsched.compat.others.levanter: shares, cycles, and what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.compat.others.levanter import lr_scheduler


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lr_schedule": "cosin"}, "lr_schedule='cosin'; did you mean 'cosine'?"),
        (
            {"lr_schedule": "polynomial"},
            "lr_schedule='polynomial'; it is written as a dict, such as {'type': 'polynomial'}",
        ),
        ({"lr_schedule": {"type": "polynomal"}}, "did you mean 'polynomial'?"),
        ({"lr_schedule": 3}, "lr_schedule=3; write a name, or a dict with a 'type'"),
        ({"lr_schedule": "inv", "min_lr_ratio": 0.0}, "lr_schedule='inv' never reaches 0: write min_lr_ratio above 0"),
        (
            {"lr_schedule": {"type": "power", "batch_size": 8, "seq_length": 8, "b": 0.5}},
            "b=0.5; b must be a finite number b",
        ),
        ({"warmup": 1.5}, "warmup=1.5; warmup must be a share from 0 to 1, or a whole number of steps"),
        ({"cycles": 0}, "cycles=0; write how many, 1 or more, or a list of the steps where they end"),
        ({"cycles": 2, "cycle_length": 10}, "cycle_length=10 and cycles=2; write one of them"),
        ({"haps": [10], "cycle_length": 10}, "cycle_length=10 and haps=[10]; write one of them"),
        ({"cycles": [50, 20]}, "cycles=[50, 20] of 100 steps; each cycle ends after the one before"),
        ({"cycles": [50, 150]}, "and the last one with the whole: sort them, or lengthen num_train_steps"),
        ({"cycle_length": [50, 60]}, "cycle_length=[50, 60] of 100 steps"),
        ({"cycle_length": 0.001}, "cycle_length=0.001 is no step of 100"),
        ({"cycles": 200}, "cycles=200 are more than 100 steps; write fewer"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is looked at below
        lr_scheduler(100, **arguments)
    assert says in str(caught.value)


def test_numbers_that_a_decay_needs_are_named() -> None:
    with pytest.raises(TypeError, match="power: missing a required argument: 'batch_size'"):
        lr_scheduler(100, lr_schedule={"type": "power", "seq_length": 8})


def test_a_share_is_exact_where_it_is_seen_and_near_where_it_is_traced() -> None:
    """0.01 in float32 is less than 0.01: 1,000 steps of it are 9.9999998, and 10 are meant."""
    alone = lr_scheduler(1_000, 1.0, warmup=0.01)
    assert float(alone(10)) == 1.0
    assert float(alone(9)) == pytest.approx(0.9)
    traced = jax.jit(lambda share: lr_scheduler(1_000, 1.0, warmup=share)(jnp.array([9, 10])))(0.01)
    np.testing.assert_allclose(traced, [0.9, 1.0], rtol=1e-6)


def test_one_is_all_of_it_and_two_are_steps() -> None:
    assert float(lr_scheduler(10, 1.0, warmup=1)(5)) == 0.5
    assert float(lr_scheduler(10, 1.0, warmup=2)(1)) == 0.5


def test_cycles_can_be_said_in_three_ways() -> None:
    steps, more = jnp.arange(130), {"learning_rate": 0.1, "rewarmup": 5, "decay": 0.5}
    one = lr_scheduler(120, cycles=3, **more)(steps)
    for way in ({"cycles": [40, 80]}, {"cycles": [40, 80, 120]}, {"cycle_length": 40}, {"cycle_length": [40, 40, 40]}):
        np.testing.assert_allclose(lr_scheduler(120, **way, **more)(steps), one, rtol=1e-6)


def test_listed_ends_can_be_traced() -> None:
    more = {"learning_rate": 0.1, "warmup": 10, "rewarmup": 5, "lr_schedule": "linear"}

    def value(first: Any, last: Any) -> Any:
        return lr_scheduler(100, cycles=[first, last], **more)(jnp.arange(120))

    for ends in ([30, 60], [30, 100]):  # the last one may be that of the whole
        np.testing.assert_allclose(jax.jit(value)(*ends), value(*ends), rtol=1e-6)


def test_the_number_of_cycles_can_be_traced() -> None:
    more = {"learning_rate": 0.1, "warmup": 10, "rewarmup": 5, "lr_schedule": "inv_sqrt"}
    value = jax.vmap(lambda length: lr_scheduler(100, cycle_length=length, **more)(jnp.arange(120)))
    lengths = [7, 20, 33, 50, 100, 200]
    for length, row in zip(lengths, value(jnp.array(lengths)), strict=True):
        np.testing.assert_allclose(row, lr_scheduler(100, cycle_length=length, **more)(jnp.arange(120)), rtol=1e-6)


def test_the_last_cycle_is_shorter() -> None:
    s = lr_scheduler(100, 1.0, min_lr_ratio=0.0, warmup=0, cycle_length=30, lr_schedule="linear")
    assert [round(float(s(t)), 4) for t in (30, 60, 90, 95, 100)] == [1.0, 1.0, 1.0, 0.5, 0.0]


def test_a_thousand_billion_tokens_are_counted() -> None:
    """Levanter counts them in 32 bits: at step 512 of these it has a negative number of them, and NaN."""
    kind = {"type": "power", "batch_size": 1_024, "seq_length": 4_096, "a": 4.6, "b": -0.51}
    s = lr_scheduler(1_000_000, 1.0, warmup=0, lr_schedule=kind)
    expected = 1_024 * 4.6 * (999_999 * 1_024.0 * 4_096) ** -0.51
    assert float(s(999_999)) == pytest.approx(expected, rel=1e-6)


def test_a_cooldown_begins_where_the_decay_ends() -> None:
    s = lr_scheduler(10, 1.0, min_lr_ratio=0.5, warmup=0, cooldown=0.5, lr_schedule="constant")
    assert [round(float(v), 6) for v in s.table(12)] == [1, 1, 1, 1, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5]
