"""Out again, as far as it goes without the peers; `tests/peers/test_out_live.py` trains in each of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.compat import out

SCHEDULE = js.WarmupCosine(peak_value=0.1, warmup_steps=100, total_steps=10_000)


def test_to_optax_is_the_identity() -> None:
    assert js.compat.to_optax(SCHEDULE) is SCHEDULE
    assert float(js.compat.to_optax(0.3)(7)) == np.float32(0.3)


def test_to_numpy_is_the_table() -> None:
    values = js.compat.to_numpy(SCHEDULE, 50)
    assert type(values) is np.ndarray
    np.testing.assert_array_equal(values, SCHEDULE(jnp.arange(50)))
    at = np.array([[0, 9_999], [10_000, 3]])
    np.testing.assert_array_equal(js.compat.to_numpy(SCHEDULE, at), SCHEDULE(at))
    np.testing.assert_allclose(js.compat.to_numpy(optax.linear_schedule(1.0, 0.0, 4), 3), [1, 0.75, 0.5])


def test_host_table_reads_a_table_at_any_step() -> None:
    value = out.host_table(SCHEDULE)
    for step in (0, 1, 4095, 4096, 9_999, 10_000, 2**31 - 5000):
        assert value(step) == pytest.approx(float(SCHEDULE(step)), rel=1e-6, abs=1e-12)
        assert type(value(step)) is float


def test_one_call_to_a_device_serves_thousands_of_steps() -> None:
    calls = []

    def counted(step: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return 0.1 / (1 + step)

    value = out.host_table(js.Lambda(counted))
    assert [value(step) for step in range(4096)][3] == pytest.approx(0.025)
    jax.effects_barrier()
    assert len(calls) == 1


def test_what_is_no_single_schedule_is_refused() -> None:
    many = js.grid(js.Linear, init_value=[1.0, 2.0], end_value=0.0, steps=4)
    for convert in (js.compat.to_optax, lambda s: js.compat.to_numpy(s, 3)):
        with pytest.raises(ValueError, match="holds several settings; unstack it"):
            convert(many)
        with pytest.raises(TypeError, match="must be a schedule, a callable or a number"):
            convert(optax.sgd(0.1))
        with pytest.raises(TypeError, match="is text"):
            convert("cosine")
        with pytest.raises(TypeError, match=r"is a tuple; give one schedule \(of several, take \[0\]\)"):
            convert((SCHEDULE, 310))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'kerras': did you mean 'keras'"):
        js.compat.kerras  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'paddle'"):
        js.compat.others.padle  # noqa: B018
    with pytest.raises(AttributeError, match=r"write compat.others.paddle"):
        js.compat.paddle  # noqa: B018
    assert {"torch", "to_torch"} <= set(dir(js.compat))
    assert "paddle" in dir(js.compat.others)
