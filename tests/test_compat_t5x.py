"""jaxsched.compat.others.t5x: the text of factors as a language."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.compat.others.t5x import create_learning_rate_scheduler as make


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"factors": "constant * linear_warmpu"}, "factors='linear_warmpu'; did you mean 'linear_warmup'?"),
        ({"factors": ""}, "factors=''; there are: constant, linear_warmup"),
        ({"factors": "constant * linear_decay"}, "linear_decay contains constant and linear_warmup"),
        ({"factors": "rsqrt_normalized_decay", "warmup_steps": 0}, "warmup_steps=0; rsqrt_normalized_decay counts in"),
        ({"warmup_steps": -1}, "create_learning_rate_scheduler: warmup_steps=-1; warmup_steps must be a number of"),
        ({"steps_per_cycle": 0}, "steps_per_cycle=0; steps_per_cycle must be a number of steps above 0"),
        ({"decay_factor": -0.5}, "decay_factor=-0.5; decay_factor must be a finite number, 0 or more"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="create_learning_rate_scheduler") as caught:
        make(**arguments)
    assert says in str(caught.value)


def test_an_unknown_argument_suggests_the_nearest() -> None:
    with pytest.raises(TypeError, match="no argument 'warmup_step': did you mean 'warmup_steps'"):
        make(warmup_step=10)  # pyright: ignore[reportCallIssue]


def test_spaces_and_order_mean_nothing() -> None:
    steps = jnp.arange(3_000)
    for text in ("linear_warmup*constant  *rsqrt_decay", "rsqrt_decay * constant * linear_warmup"):
        np.testing.assert_allclose(make(text)(steps), make()(steps), rtol=3e-7)


def test_no_warmup_is_no_division_by_zero() -> None:
    """T5X has NaN at the first of these steps, and infinity without linear_warmup."""
    s = make(warmup_steps=0, base_learning_rate=0.5)
    assert [round(float(s(t)), 6) for t in (0, 1, 4)] == [0.5, 0.5, 0.25]
    s = make("linear_decay", warmup_steps=0, base_learning_rate=1.0, decay_factor=0.25)
    assert s.table(5).tolist() == [1.0, 0.75, 0.5, 0.25, np.float32(1e-8)]


def test_a_million_steps_are_counted_exactly() -> None:
    s = make("cosine_decay", warmup_steps=0, steps_per_cycle=1_000_003, min_learning_rate=0.0)
    last = np.sin(np.pi / 2 / 1_000_003) ** 2
    assert float(s(1_000_003 * 2_000)) == 1.0
    assert float(s(1_000_003 * 2_000 - 1)) == pytest.approx(last, rel=1e-6)


def test_settings_are_swept_in_one_program() -> None:
    values = jax.vmap(lambda base, warmup: make(base_learning_rate=base, warmup_steps=warmup)(jnp.arange(200)))(
        jnp.array([0.1, 0.2]), jnp.array([10, 100])
    )
    np.testing.assert_allclose(values[1], make(base_learning_rate=0.2, warmup_steps=100)(jnp.arange(200)), rtol=1e-6)
