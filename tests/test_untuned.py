"""The untuned warmups against values of their papers; the laws are in `test_laws.py`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js

from .cases import x64


@pytest.mark.parametrize(
    ("kind", "step", "value"),
    [
        ("radam", 5, 0.017312),
        ("radam", 10, 0.048998),
        ("radam", 1000, 0.645326),
        ("exponential", 1000, 0.632121),
        ("linear", 1000, 0.5),
    ],
)
def test_known_values(kind: Any, step: int, value: float) -> None:
    """At b2 = 0.999, which float32 holds to five digits of 1 - b2."""
    with x64():
        assert float(js.schedules.UntunedWarmup(0.999, kind)(step - 1)) == pytest.approx(value, abs=6e-7)
    assert float(js.schedules.UntunedWarmup(0.999, kind)(step - 1)) == pytest.approx(value, rel=1e-4)


def test_radam_is_the_factor_in_optax() -> None:
    """optax takes a momentum step where the factor is 0, and Adam's step times the factor elsewhere."""
    b2 = 0.95
    optimizers = optax.scale_by_radam(b2=b2, threshold=4.0), optax.scale_by_adam(b2=b2)
    states = [o.init(jnp.ones(1)) for o in optimizers]
    factor = np.asarray(js.schedules.UntunedWarmup(b2, "radam").table(200))
    for t in range(200):
        gradient = jnp.array([1.0 + np.sin(t)])
        (rectified, first), (adam, second) = (
            jax.jit(o.update)(gradient, s) for o, s in zip(optimizers, states, strict=True)
        )
        states = [first, second]
        if t > 6:
            assert rectified[0] / adam[0] == pytest.approx(factor[t], rel=2e-3)
    assert (factor[:4] == 0).all()
    assert factor[6] > 0


@pytest.mark.parametrize("kind", ["linear", "exponential", "radam"])
def test_from_0_to_1_and_no_further(kind: Any) -> None:
    for b2 in (0.61, 0.9, 0.999, 0.9999999):
        factor = np.asarray(js.schedules.UntunedWarmup(b2, kind)(np.geomspace(1, 2**31 - 1, 500).astype(np.int64)))
        assert factor.min() >= 0
        assert factor.max() == 1
    assert js.schedules.UntunedWarmup(0.0)(0) == 0.5
    assert js.schedules.UntunedWarmup(0.0, "exponential")(0) == pytest.approx(1 - np.exp(-1), rel=1e-6)


def test_it_is_a_factor_that_is_printed_and_swept() -> None:
    s = js.WarmupConstant(0.1, warmup_steps=0) * js.schedules.UntunedWarmup(0.99)
    assert repr(s) == "WarmupConstant(peak_value=0.1, warmup_steps=0) * UntunedWarmup(b2=0.99)"
    assert float(s(99)) == pytest.approx(0.05, rel=1e-5)
    swept = jax.vmap(lambda b2: js.schedules.UntunedWarmup(b2, "radam")(99))(jnp.array([0.9, 0.99, 0.999]))
    assert swept.tolist() == sorted(swept.tolist(), reverse=True)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1.0,), ValueError, "b2=1.0; b2 must be a number from 0 to 0.9999999"),
        ((0.99999999,), ValueError, "b2=0.99999999"),
        ((-0.1,), ValueError, "b2=-0.1"),
        (("0.9",), TypeError, "b2='0.9' is text"),
        ((0.5, "radam"), ValueError, "b2=0.5; radam's factor is never above 0 there: write b2 > 0.6"),
        ((0.9, "exponentials"), ValueError, "kind='exponentials'; did you mean 'exponential'?"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match="UntunedWarmup") as caught:
        js.schedules.UntunedWarmup(*arguments)
    assert says in str(caught.value)
