"""`compat.others.megatron`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched import compat
from jaxsched.compat.others import megatron

RATES = {"init_lr": 0.0, "max_lr": 1.0, "min_lr": 0.1, "lr_warmup_steps": 10, "lr_decay_steps": 100}
DECAYS = {"start_wd": 0.01, "end_wd": 0.1, "wd_incr_steps": 50, "wd_incr_style": "cosine"}


def scheduler(**fields: Any) -> megatron.OptimizerParamScheduler:
    return megatron.OptimizerParamScheduler(**{**RATES, "lr_decay_style": "cosine", **DECAYS, **fields})


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"min_lr": 2.0}, ValueError, "min_lr=2.0 and max_lr=1.0; write min_lr <= max_lr"),
        ({"min_lr": -0.1}, ValueError, "min_lr=-0.1"),
        ({"init_lr": 2.0}, ValueError, "init_lr=2.0 and max_lr=1.0; write init_lr <= max_lr"),
        ({"start_wd": 0.5}, ValueError, "start_wd=0.5 and end_wd=0.1; write start_wd <= end_wd"),
        ({"lr_warmup_steps": 100}, ValueError, "write lr_warmup_steps < lr_decay_steps"),
        ({"lr_decay_steps": 0}, ValueError, "lr_decay_steps=0"),
        ({"lr_decay_style": "wsd"}, ValueError, "lr_decay_style='wsd'; there are: constant, linear"),
        ({"lr_decay_style": "cosin"}, ValueError, "did you mean 'cosine'?"),
        ({"lr_decay_style": "WSD", "wsd_decay_steps": 5}, ValueError, "needs wsd_decay_steps and lr_wsd_decay_style"),
        (
            {"lr_decay_style": "WSD", "wsd_decay_steps": 101, "lr_wsd_decay_style": "linear"},
            ValueError,
            "wsd_decay_steps=101 and lr_decay_steps=100; the last decay must fit into the whole",
        ),
        ({"wsd_decay_steps": 5}, ValueError, "wsd_decay_steps=5 is ignored by Megatron: it belongs to WSD, not to"),
        ({"lr_wsd_decay_style": "linear"}, ValueError, "lr_wsd_decay_style='linear' is ignored by Megatron"),
        ({"wd_incr_style": "constant"}, ValueError, "a constant weight decay has two equal ends"),
        ({"wd_incr_styl": "linear"}, TypeError, "did you mean 'wd_incr_style'?"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        scheduler(**fields)


def test_it_is_written_as_it_is_made() -> None:
    s = scheduler(lr_decay_style="WSD", wsd_decay_steps=20, lr_wsd_decay_style="minus_sqrt")
    again = eval(repr(s), {"compat": compat})
    assert repr(again) == repr(s)
    assert again.table(120).tolist() == s.table(120).tolist()


def test_a_group_has_values_of_its_own() -> None:
    s = scheduler()
    group = s.for_group(max_lr=2.0, min_lr=0.2, wd_mult=0.5)
    np.testing.assert_allclose(group.table(120), 2 * s.table(120), rtol=1e-6)
    np.testing.assert_allclose(group.weight_decay.table(60), 0.5 * s.weight_decay.table(60), rtol=1e-6)
    assert s.for_group().table(120).tolist() == s.table(120).tolist()
    with pytest.raises(ValueError, match="write min_lr <= max_lr"):
        s.for_group(max_lr=0.01)


def test_a_weight_decay_may_grow_in_no_steps() -> None:
    """Megatron divides by 0."""
    assert scheduler(wd_incr_steps=0, wd_incr_style="linear").weight_decay.table(2).tolist() == [
        pytest.approx(0.1),
        pytest.approx(0.1),
    ]


def test_the_plateau_ends_in_each_style_at_the_least_rate() -> None:
    for style in ("linear", "cosine", "exponential", "minus_sqrt"):
        s = scheduler(lr_decay_style="WSD", wsd_decay_steps=20, lr_wsd_decay_style=style)
        assert float(s(80)) == 1.0
        assert np.all(np.diff(s.table(130)[80:]) <= 0)
        assert np.all(s.table(130)[100:] == np.float32(0.1))


def test_gradients_reach_the_ends_of_the_weight_decay() -> None:
    slopes = jax.grad(lambda s: jnp.sum(s.weight_decay(jnp.arange(60))), allow_int=True)(scheduler())
    assert float(slopes.start_wd) > 0
    assert float(slopes.end_wd) > 0
