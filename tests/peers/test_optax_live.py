"""All of Optax's own tests of its schedules and joins, run on `compat.optax`, and its plateau on many metrics."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import pytest

from jaxsched.compat import optax as ours
from tests import test_compat_optax as quick


def test_every_test_of_optax_passes() -> None:
    """None is left out; what it skips itself are the optimizers that take no schedule."""
    schedules = quick.run_tests_of("optax.schedules._schedule_test", _schedule=ours)
    joins = quick.run_tests_of("optax.schedules._join_test", _schedule=ours, _join=ours)
    print(f"Optax's own tests: {schedules.testsRun + joins.testsRun} run, {len(schedules.skipped)} skipped by Optax")
    assert schedules.testsRun + joins.testsRun - len(schedules.skipped) > 70
    assert {why for _, why in schedules.skipped} <= {"Optimizer doesn't accept a learning schedule."}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_plateau_on_many_metrics(dtype: Any) -> None:
    quick.compare_the_plateau(dtype, draws=150)
