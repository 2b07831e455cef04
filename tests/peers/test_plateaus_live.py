"""Paddle's and mmengine's plateaus, live, beside `jaxsched.reduce_on_plateau` under their names."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import mmengine, paddle

from .harness import cases_of


def heard(transformation: Any, metrics: Any) -> list[float]:
    state: Any = transformation.init(jnp.ones(3))
    found = []
    for metric in metrics:
        state = js.observe(state, value=metric)
        found.append(state.learning_rate.item())
    return found


def drawn(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    generator = np.random.default_rng(seed)
    arguments = {
        "factor": float(generator.choice([0.1, 0.5, 0.9])),
        "patience": int(generator.integers(0, 5)),
        "threshold": float(generator.choice([0.0, 1 / 64, 1 / 8])),
    }
    metrics = 2 + np.cumsum(generator.normal(-0.02, 0.1, 60)).clip(-1.5)
    return arguments, np.round(metrics * 1024) / 1024  # so that float32 judges as float64 does


@pytest.mark.parametrize("seed", range(40))
def test_paddle_makes_the_same_cuts(seed: int) -> None:
    """Without a cooldown, in which Paddle does not look at the metric."""
    cases_of("paddle").version()
    from paddle.optimizer import lr

    arguments, metrics = drawn(seed)
    arguments |= {"mode": ("min", "max")[seed % 2], "threshold_mode": ("rel", "abs")[seed // 2 % 2], "min_lr": 1e-3}
    theirs, found = lr.ReduceOnPlateau(0.5, **arguments), []
    for metric in metrics:
        theirs.step(float(metric))
        found.append(theirs())
    np.testing.assert_allclose(heard(paddle.ReduceOnPlateau(0.5, **arguments), metrics), found, rtol=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_mmengine_makes_the_same_cuts(seed: int) -> None:
    optimizer = cases_of("mmengine").optimizer_of(0.5)
    from mmengine.optim import ReduceOnPlateauLR

    arguments, metrics = drawn(seed)
    arguments |= {"rule": ("less", "greater")[seed % 2], "threshold_rule": ("rel", "abs")[seed // 2 % 2]}
    arguments |= {"cooldown": seed % 4, "min_value": 1e-3}
    theirs, found = ReduceOnPlateauLR(optimizer, **arguments), []
    for metric in metrics:
        theirs.step({"loss": float(metric)})
        found.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(heard(mmengine.ReduceOnPlateauLR(0.5, **arguments), metrics), found, rtol=1e-5)
