"""jaxsched.compat.others.rex: two curves by one name."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import rex


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min_lr": 0.5}, "min_lr=0.5 and max_lr=0.1; write min_lr <= max_lr"),
        ({"num_warmup_steps": 20}, "num_warmup_steps=20 and total_steps=10; the warmup must not be longer"),
        ({"last_step": -1}, "last_step=-1; write 0 or more"),
        ({"max_lr": 0.0}, "max_lr must be a finite number above 0"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="AxolotlRexLR") as caught:
        rex.AxolotlRexLR(**{"lr": 0.1, "max_lr": 0.1, "min_lr": 0.0, "total_steps": 10, **arguments})
    assert says in str(caught.value)


def test_they_are_two_curves() -> None:
    steps = jnp.arange(101)
    axolotl = rex.AxolotlRexLR(lr=1.0, max_lr=1.0, min_lr=0.0, total_steps=101)  # one step ahead
    paper = rex.PytorchOptimizerREXScheduler(total_steps=100)
    z = 1 - steps / 100
    np.testing.assert_allclose(paper(steps), z / (0.5 + 0.5 * z), rtol=1e-5)
    np.testing.assert_allclose(paper(steps), js.Rex(1.0, 0.0, 100, beta=0.5)(steps))
    z = 1 - (steps + 1) / 101
    np.testing.assert_allclose(axolotl(steps), z / (0.1 + 0.9 * z), rtol=1e-5, atol=1e-7)


def test_training_goes_on_from_a_step() -> None:
    whole = rex.AxolotlRexLR(lr=0.1, max_lr=0.1, min_lr=0.01, total_steps=50, num_warmup_steps=5)
    rest = whole.replace(last_step=21)
    np.testing.assert_array_equal(rest.table(40), whole.table(60)[20:])


def test_they_are_data() -> None:
    s = rex.AxolotlRexLR(lr=0.1, max_lr=0.1, min_lr=0.01, total_steps=50)
    assert repr(s) == "compat.others.rex.AxolotlRexLR(lr=0.1, max_lr=0.1, min_lr=0.01, total_steps=50)"
    many = js.grid(rex.PytorchOptimizerREXScheduler, total_steps=[10, 20], max_lr=[0.1, 0.2])
    assert jax.vmap(lambda s: s(jnp.arange(30)))(many).shape == (4, 30)
