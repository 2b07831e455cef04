"""`compat.others.deepspeed`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched import compat
from jaxsched.compat.others import deepspeed


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("LRRangeTest", {"lr_range_test_step_size": 0}, ValueError, "lr_range_test_step_size=0"),
        ("LRRangeTest", {"lr_range_test_step_size": 2.5}, TypeError, "lr_range_test_step_size=2.5 is not an integer"),
        ("LRRangeTest", {"lr_range_min_lr": 0.1}, TypeError, "did you mean 'lr_range_test_min_lr'?"),
        ("OneCycle", {"cycle_min_lr": 0.1, "cycle_max_lr": 1.0, "cycle_first_step_size": 0}, ValueError, "_size=0"),
        ("OneCycle", {"cycle_min_lr": 0.1, "cycle_max_lr": 1.0, "cycle_second_step_size": -1}, ValueError, "_size=-1"),
        ("WarmupLR", {}, ValueError, "lr=None and warmup_max_lr=None; write one of them"),
        ("WarmupLR", {"lr": 0.1, "warmup_type": "logarithm"}, ValueError, "did you mean 'log'?"),
        ("WarmupLR", {"lr": 0.1, "warmup_num_steps": 0}, ValueError, "warmup_num_steps=0"),
        ("WarmupDecayLR", {"total_num_steps": 9, "warmup_type": "line"}, ValueError, "did you mean 'linear'?"),
        ("WarmupCosineLR", {"lr": 0.1, "total_num_steps": 9, "cos_min_ratio": -0.1}, ValueError, "cos_min_ratio=-0.1"),
        ("from_config", {"config": {"params": {}}}, ValueError, "has no type; there are: LRRangeTest"),
        ("from_config", {"config": {"type": "WarmUpLR"}}, ValueError, "type='WarmUpLR'; did you mean 'WarmupLR'?"),
        ("from_config", {"config": {"type": "OneCycle", "param": {}}}, ValueError, "did you mean 'params'?"),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(deepspeed, make)(**arguments)


def test_a_schedule_without_momentum() -> None:
    s = deepspeed.OneCycle(0.1, 1.0, cycle_momentum=False)
    with pytest.raises(ValueError, match="cycle_momentum=False; without it there is no momentum"):
        s.momentum  # noqa: B018


def test_the_schedule_of_a_config() -> None:
    config = {
        "train_batch_size": 32,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.5}},
        "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 20, "warmup_num_steps": 4}},
    }
    s = deepspeed.from_config(config)
    assert repr(s) == "compat.others.deepspeed.WarmupCosineLR(lr=0.5, total_num_steps=20, warmup_num_steps=4)"
    assert eval(repr(s), {"compat": compat}).table(30).tolist() == s.table(30).tolist()
    assert float(deepspeed.from_config(config, lr=1.0)(4)) == 1.0
    cycle = {"type": "OneCycle", "params": {"cycle_min_lr": 0.1, "cycle_max_lr": 1.0}}
    assert isinstance(deepspeed.from_config(cycle, lr=0.3), deepspeed.OneCycle)
    assert isinstance(deepspeed.from_config({"type": "LRRangeTest"}), deepspeed.LRRangeTest)


def test_a_warmup_comes_to_its_peak() -> None:
    for warmup_type in ("log", "linear"):
        s = deepspeed.WarmupCosineLR(0.5, 100, warmup_num_steps=10, warmup_type=warmup_type, cos_min_ratio=0.5)
        values = s.table(200)
        assert values.max() == values[10] == 0.5
        assert np.all(np.diff(values[:11]) >= 0)
        assert np.all(np.diff(values[10:]) <= 0)
        assert values[99] > 0.25
        assert np.all(values[100:] == 0.25)


def test_stairs_are_exact_where_their_product_runs_over() -> None:
    first, count = 2_000_003, 1_999
    s = deepspeed.OneCycle(0.0, 1.0, cycle_first_step_size=first, cycle_first_stair_count=count)
    for step in (1_000_501, 1_000_502, 1_999_002, 1_999_003, 2_000_002, 2_000_003):
        assert float(s(step)) == pytest.approx(step * count // first / count, rel=1e-6)
        assert float(s(2 * first - step)) == pytest.approx(step * count // first / count, rel=1e-6)


def test_a_resumed_schedule_goes_on() -> None:
    for make in (
        lambda last: deepspeed.WarmupCosineLR(0.1, 30, warmup_num_steps=9, last_batch_iteration=last),
        lambda last: deepspeed.LRRangeTest(0.1, 5, last_batch_iteration=last),
        lambda last: deepspeed.OneCycle(0.1, 1.0, cycle_first_step_size=9, last_batch_iteration=last).momentum,
    ):
        assert make(6).table(30).tolist() == make(-1).table(37)[7:].tolist()


def test_gradients_of_a_cycle_are_finite() -> None:
    s = deepspeed.OneCycle(0.1, 1.0, 0.5, 10, 0, decay_step_size=0)
    slopes = jax.grad(lambda s: jnp.sum(s(jnp.arange(40)) + s.momentum(jnp.arange(40))), allow_int=True)(s)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes) if x.dtype == jnp.float32)
