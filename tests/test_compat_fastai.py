"""`compat.others.fastai`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.compat.others import fastai


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("SchedExp", {"start": 1.0, "end": 0.0}, ValueError, "start=1.0 and end=0.0"),
        ("SchedPoly", {"start": 1.0, "end": 0.0, "power": 0}, ValueError, "power=0"),
        ("SchedLin", {"start": 1.0, "end": 0.0, "total_steps": 0}, ValueError, "total_steps=0"),
        ("combine_scheds", {"pcts": [0.5, 0.4], "scheds": [1.0, 2.0]}, ValueError, "shares that add up to 1"),
        ("combine_scheds", {"pcts": [1.5, -0.5], "scheds": [1.0, 2.0]}, ValueError, "pcts[1]=-0.5"),
        ("combine_scheds", {"pcts": [1.0], "scheds": [1.0, 2.0]}, ValueError, "1 pcts and 2 scheds"),
        ("combined_cos", {"pct": 1.5, "start": 0, "middle": 1, "end": 0}, ValueError, "pcts[1]=-0.5"),
        (
            "fit_sgdr",
            {"n_cycles": 2, "cycle_len": 1, "cycle_mult": 1, "steps_per_epoch": 4, "peer_exact": True},
            ValueError,
            "cycle_mult=1; fastai divides by zero",
        ),
        ("ParamScheduler", {"scheds": {"lr": "cos"}}, TypeError, "lr='cos' is text"),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(fastai, make)(**arguments)


def test_they_are_functions_of_the_share() -> None:
    parts = [fastai.SchedCos(0.0, 1.0), fastai.SchedLin(1.0, 0.0)]
    share, steps = fastai.combine_scheds([0.25, 0.75], parts), fastai.combine_scheds([0.25, 0.75], parts, 40)
    np.testing.assert_allclose(share(jnp.arange(41) / 40), steps(jnp.arange(41)), rtol=1e-5, atol=1e-7)


def test_any_function_of_the_share_is_combined() -> None:
    s = fastai.combine_scheds([0.5, 0.5], [lambda u: u**2, 3.0], total_steps=4)
    assert s.table(5).tolist() == [0, 0.25, 3, 3, 3]


def test_a_combination_is_combined() -> None:
    inner = fastai.combined_cos(0.5, 0.0, 1.0, 0.0)
    s = fastai.combine_scheds([0.5, 0.5], [inner, fastai.SchedNo(2.0, 2.0)], total_steps=8)
    np.testing.assert_allclose(s.table(8), [0, 0.5, 1, 0.5, 2, 2, 2, 2], atol=1e-6)


def test_ten_tenths_are_a_whole() -> None:
    """fastai refuses them: their floats add up to 0.9999999999999999."""
    s = fastai.combine_scheds([0.1] * 10, [float(i) for i in range(10)], total_steps=10)
    assert s.table(10).tolist() == list(range(10))


def test_a_share_of_nothing_is_left_out() -> None:
    parts = [fastai.SchedLin(0.0, 1.0), fastai.SchedNo(5.0, 5.0), fastai.SchedLin(1.0, 0.0)]
    s = fastai.combine_scheds([0.5, 0.0, 0.5], parts, total_steps=4)
    assert s.table(5).tolist() == [0, 0.5, 1, 0.5, 0]


def test_one_cycle_is_what_fastai_gives_a_learner() -> None:
    """Recorded from fastai 2.8.12: fit_one_cycle(1, 1e-2) with 8 batches, before batches 0 ... 7."""
    s = fastai.fit_one_cycle(1, 1e-2, steps_per_epoch=8)
    assert list(s) == ["lr", "mom"]
    assert s["lr"].table(3).tolist() == pytest.approx([4e-4, 5.2e-3, 1e-2])
    assert s["mom"].table(3).tolist() == pytest.approx([0.95, 0.9, 0.85])


def test_every_restart_of_sgdr_is_there() -> None:
    for n_cycles, mult in [(3, 2), (4, 2), (5, 3), (3, 1)]:
        s = fastai.fit_sgdr(n_cycles, 1, 0.5, mult, steps_per_epoch=4)["lr"]
        starts = np.cumsum([0, *(4 * mult**i for i in range(n_cycles - 1))])
        assert s(starts).tolist() == [0.5] * n_cycles
        assert float(s(starts[-1] + 4 * mult ** (n_cycles - 1))) == 0
    missed = fastai.fit_sgdr(3, 1, 0.5, 2, steps_per_epoch=4, peer_exact=True)["lr"]
    assert float(missed(12)) == pytest.approx(0, abs=1e-6)
    assert float(missed(4)) == 0.5


def test_the_finder() -> None:
    s = fastai.LRFinder(num_it=3)
    assert float(s(0)) == pytest.approx(1e-7)
    assert float(s(6)) == pytest.approx(10)
    assert jax.jit(lambda n: fastai.LRFinder(num_it=n)(6))(3) == pytest.approx(10)
