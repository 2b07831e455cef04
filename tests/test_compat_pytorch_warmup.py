"""`compat.others.pytorch_warmup`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import pytorch_warmup as pw


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("LinearWarmup", {"warmup_period": 0}, ValueError, "warmup_period=0; warmup_period must be an integer, 1 or"),
        ("LinearWarmup", {"warmup_period": 2.5}, TypeError, "warmup_period=2.5 is not an integer"),
        ("ExponentialWarmup", {"warmup_period": -1}, ValueError, "warmup_period=-1"),
        ("RAdamWarmup", {"beta2": 0.6}, ValueError, "beta2=0.6; beta2 must be a number above 0.6"),
        ("UntunedLinearWarmup", {"beta2": 1.0}, ValueError, "beta2=1.0"),
        ("UntunedLinearWarmup", {"b2": 0.9}, TypeError, "did you mean 'beta2'"),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        getattr(pw, make)(1.0, **arguments)


def test_it_dampens_a_schedule_and_a_function() -> None:
    cosine = js.Cosine(1.0, 0.0, steps=10)
    steps = jnp.arange(12)
    factor = np.minimum((np.arange(12) + 1) / 4, 1)
    for lr in (cosine, lambda t: cosine(t)):
        np.testing.assert_allclose(pw.LinearWarmup(lr, 4)(steps), cosine(steps) * factor, rtol=1e-6)


def test_the_schedule_has_its_own_clock() -> None:
    s = pw.LinearWarmup(js.StepDecay(1.0, 0.5, 2), warmup_period=8, last_step=3)
    assert s.table(5).tolist() == [5 / 8, 6 / 8, 7 / 16, 8 / 16, 1 / 4]


def test_the_length_is_not_cut_off() -> None:
    """int(2 / (1 - 0.999)) is 1999."""
    assert float(pw.UntunedLinearWarmup(1.0, beta2=0.75).table(8)[6]) == 7 / 8
    assert float(pw.UntunedLinearWarmup(1.0, beta2=0.703125, peer_exact=True)(1)) == pytest.approx(2 / 6)
    assert float(pw.UntunedLinearWarmup(1.0, beta2=0.703125)(1)) == pytest.approx(0.296875)


@pytest.mark.parametrize("beta2", [0.62, 0.7, 0.85, 0.999])
def test_radam_begins_above_zero(beta2: float) -> None:
    values = np.asarray(pw.RAdamWarmup(1.0, beta2=beta2).table(200))
    assert values[0] > 0
    assert np.all(np.diff(values) > -1e-6)
