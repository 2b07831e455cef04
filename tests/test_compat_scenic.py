"""jaxsched.compat.others.scenic: configurations, and restarts."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import scenic

BASE = {"base_learning_rate": 0.1}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**BASE, "factors": "constant*cosin_decay"}, "factors='cosin_decay'; did you mean 'cosine_decay'?"),
        (
            {**BASE, "factors": "constant*linear_warmup", "warmup_step": 10},
            "config['warmup_step']; did you mean 'warmup_",
        ),
        ({"base_learning_rate": 0.1}, "factors=None; write a text such as 'constant'"),
        (
            {**BASE, "factors": "constant*linear_decay", "total_steps": 10, "warmup_steps": 10},
            "warmup_steps=10 and total_steps=10; the decay comes after the warmup",
        ),
        ({**BASE, "factors": "decay_every", "steps_per_decay": 0, "decay_factor": 0.5}, "steps_per_decay=0"),
        (
            {**BASE, "factors": "cosine_decay", "steps_per_cycle": 9, "t_mul": 0.5},
            "t_mul=0.5; t_mul must be a number, 1",
        ),
    ],
)
def test_what_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is looked at below
        scenic.compound_lr_scheduler(config)
    assert says in str(caught.value)


def test_an_entry_that_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match=r"the factor 'linear_warmup': .*missing a required argument: 'warmup_steps'"):
        scenic.compound_lr_scheduler({**BASE, "factors": "constant * linear_warmup"})


def test_a_whole_configuration() -> None:
    config = {"lr_configs": {**BASE, "learning_rate_schedule": "compound", "factors": "constant*decay_every"}}
    config["lr_configs"] |= {"steps_per_decay": 2, "decay_factor": 0.5}
    np.testing.assert_allclose(scenic.get_learning_rate_fn(config).table(5), [0.1, 0.1, 0.05, 0.05, 0.025], rtol=1e-6)
    with pytest.raises(ValueError, match=r"learning_rate_schedule='compond'; did you mean 'compound'"):
        scenic.get_learning_rate_fn({"lr_configs": {**BASE, "learning_rate_schedule": "compond"}})
    with pytest.raises(ValueError, match="lr_configs has no base_learning_rate"):
        scenic.get_learning_rate_fn({"lr_configs": {}})


def test_no_restart_is_missed() -> None:
    """Scenic has 0.25 at step 111, the peak of the cycle before: log(1000) / log(10) is 2.9999999999999996."""
    s = scenic.cosine_decay_scheduler(1, t_mul=10, m_mul=0.5)
    assert [float(s(t)) for t in (0, 1, 11, 111, 1_111)] == [1.0, 0.5, 0.25, 0.125, 0.0625]
    assert s(111) == scenic.cosine_decay_scheduler(1, t_mul=10.0, m_mul=0.5)(111)


def test_cycles_that_the_warmup_uses_up_are_left_out() -> None:
    config = {**BASE, "factors": "constant * cosine_decay", "steps_per_cycle": 10, "warmup_steps": 10}
    assert set(scenic.compound_lr_scheduler(config).table(30).tolist()) == {np.float32(0.1)}


def test_a_step_of_an_event_has_the_factor_before_it() -> None:
    assert scenic.piecewise_constant_scheduler([2.5], [0.5]).table(5).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert scenic.piecewise_constant_scheduler([2], [0.5]).table(5).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_a_decay_falls_to_its_own_end_from_what_is_left_of_it() -> None:
    numbers = {"warmup_steps": 2, "total_steps": 6, "end_learning_rate": 0.02}
    s = scenic.compound_lr_scheduler({**BASE, **numbers, "factors": "constant * linear_warmup * linear_decay"})
    np.testing.assert_allclose(s.table(8), [0, 0.05, 0.1, 0.08, 0.06, 0.04, 0.02, 0.02], rtol=1e-6)


def test_factors_are_schedules_of_the_core() -> None:
    s = 0.1 * scenic.linear_warmup_scheduler(10) * scenic.polynomial_lr_scheduler(100, 0.1, 2.0)
    assert isinstance(s, js.Schedule)
    assert float(s(jnp.int32(100))) == pytest.approx(0.01)
