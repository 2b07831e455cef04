"""`compat.others.ignite`, beside what `test_compat.py` holds it to."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import ignite
from jaxsched.compat.others.counting import GrowingCycles, whole

CYCLE = {"start_value": 1.0, "end_value": 0.0, "cycle_size": 4}


@pytest.mark.parametrize(
    ("make", "arguments", "error", "text"),
    [
        ("LinearCyclicalScheduler", {**CYCLE, "cycle_size": 1}, ValueError, "cycle_size=1; a cycle has 2 events"),
        ("LinearCyclicalScheduler", {**CYCLE, "cycle_size": 2.5}, TypeError, "cycle_size=2.5 is not an integer"),
        ("LinearCyclicalScheduler", {**CYCLE, "warmup_duration": 3}, ValueError, "a warmup needs monotonic=True"),
        ("LinearCyclicalScheduler", {**CYCLE, "cycle_mult": 0.5}, ValueError, "cycle_mult=0.5"),
        ("CosineAnnealingScheduler", {**CYCLE, "monotonic": True}, TypeError, "has no field 'monotonic'"),
        ("PiecewiseLinear", {"milestones_values": 3}, TypeError, "milestones_values=3; write a list of pairs"),
        ("PiecewiseLinear", {"milestones_values": []}, ValueError, "milestones_values=[]; write a list of pairs"),
        ("PiecewiseLinear", {"milestones_values": [(1, 2, 3)]}, ValueError, "write a list of pairs"),
        (
            "PiecewiseLinear",
            {"milestones_values": [(1.5, 1.0)]},
            TypeError,
            "has the event 1.5; an event is an integer",
        ),
        ("PiecewiseLinear", {"milestones_values": [(5, 1.0), (3, 1.0)]}, ValueError, "the event 3 after 5; sort"),
        ("ConcatScheduler", {"schedulers": [1.0], "durations": []}, ValueError, "1 schedulers and 0 durations"),
        ("ConcatScheduler", {"schedulers": [1.0, 2.0], "durations": [0]}, ValueError, "durations[0]=0"),
        ("ConcatScheduler", {"schedulers": [1.0, 2.0], "durations": [1.5]}, TypeError, "not an integer"),
        ("LRScheduler", {"lr_scheduler": "cosine"}, TypeError, "lr_scheduler='cosine' is text"),
        (
            "create_lr_scheduler_with_warmup",
            {"lr_scheduler": 1.0, "warmup_start_value": 0.0, "warmup_duration": 1},
            ValueError,
            "warmup_duration=1; a warmup has 2 events",
        ),
        ("ParamGroupScheduler", {"schedulers": 0.1}, TypeError, "schedulers=0.1; write a list"),
        ("ParamGroupScheduler", {"schedulers": [0.1], "names": "lr"}, TypeError, "names='lr'; write a list of texts"),
        ("ParamGroupScheduler", {"schedulers": [0.1], "names": ["a", "b"]}, ValueError, "one name for each"),
        ("ParamGroupScheduler", {"schedulers": [0.1, 0.2], "names": ["a", "a"]}, ValueError, "none twice"),
    ],
)
def test_what_is_refused(make: str, arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        getattr(ignite, make)(**arguments)


def test_values_are_listed_as_ignite_lists_them() -> None:
    arguments = {"start_value": 1.0, "end_value": 0.0, "cycle_size": 4}
    listed = ignite.LinearCyclicalScheduler.simulate_values(num_events=3, param_name="lr", **arguments)
    assert listed == [[0, 1.0], [1, 0.5], [2, 0.0]]
    groups = ignite.ParamGroupScheduler([js.Linear(0.0, 1.0, 4), 0.5], names=["lr", "momentum"])
    assert ignite.simulate_values(2, groups) == [[0, 0.0, 0.5], [1, 0.25, 0.5]]
    assert ignite.simulate_values(1, [0.25, 0.5]) == [[0, 0.25, 0.5]]
    with pytest.raises(TypeError, match="is text"):
        ignite.simulate_values(1, "lr")


def test_a_cycle_is_cut_off_to_whole_events() -> None:
    """10, 15, 22 and 33 events: Ignite's int(cycle_size * cycle_mult), time after time."""
    s = ignite.CosineAnnealingScheduler(1.0, 0.0, cycle_size=10, cycle_mult=1.5)
    values = s.table(80)
    assert np.flatnonzero(np.asarray(values) == 1).tolist() == [0, 10, 25, 47]


def test_a_length_that_is_whole_but_for_rounding_is_whole() -> None:
    """Ignite makes int(1.15 * 100) = 114 of it."""
    assert int(whole(1.15, jnp.asarray(100))) == 115
    assert int(whole(0.7, jnp.asarray(10))) == 7
    assert int(whole(0.29, jnp.asarray(100))) == 29
    assert int(whole(1.5, jnp.asarray(15))) == 22
    assert int(whole(2, jnp.asarray(7))) == 14


def test_cycles_that_do_not_grow_are_counted_at_once() -> None:
    s = ignite.LinearCyclicalScheduler(1.0, 0.0, cycle_size=3, cycle_mult=1.25, monotonic=True)
    last = 3 * (2**31 // 3) - 3
    assert float(s(last)) == 1
    assert float(s(last + 1)) == pytest.approx(2 / 3)
    assert float(GrowingCycles(1.0, 0.0, 1000, 1.0005)(2**31 - 1)) <= 1


def test_a_jump_takes_the_second_value() -> None:
    s = ignite.PiecewiseLinear([(0, 1.0), (2, 0.5), (2, 0.25), (4, 0.0)])
    assert s.table(6).tolist() == [1, 0.75, 0.25, 0.125, 0, 0]
    assert ignite.PiecewiseLinear([(3, 0.5)]).table(5).tolist() == [0.5] * 5


def test_the_points_are_leaves() -> None:
    def values(event: Any, value: Any) -> Any:
        return ignite.PiecewiseLinear([(0, 0.0), (event, value)]).table(5)

    assert jax.jit(values)(2, 1.0).tolist() == values(2, 1.0).tolist() == [0, 0.5, 1, 1, 1]
    assert jax.grad(lambda value: values(2, value).sum())(1.0) == 3.5


def test_the_warmup_meets_what_follows() -> None:
    """One event more where the warmup ends with another value than the first one that follows."""
    body = js.Linear(1.0, 0.0, 4)
    same = ignite.create_lr_scheduler_with_warmup(body, 0.0, 3, 1.0)
    other = ignite.create_lr_scheduler_with_warmup(body, 0.0, 3, 0.5)
    assert same.table(6).tolist() == [0, 0.5, 1, 0.75, 0.5, 0.25]
    assert other.table(6).tolist() == [0, 0.25, 0.5, 1, 0.75, 0.5]
    stacked = js.stack(same, other)
    np.testing.assert_array_equal(jax.vmap(lambda s: s(jnp.arange(6)))(stacked)[1], other.table(6))


def test_a_wrapped_schedule_is_the_schedule() -> None:
    s = js.CosineWarmRestarts(1.0, 4)
    assert ignite.LRScheduler(s, use_legacy=True).table(9).tolist() == s.table(9).tolist()
    ahead = ignite.LRScheduler(s, peer_exact=True)
    assert ahead.table(8).tolist() == s.table(9).tolist()[1:]


def plateau_rates(**arguments: Any) -> list[float]:
    optimizer = ignite.ReduceLROnPlateauScheduler(1.0, factor=0.5, patience=0, **arguments)
    state, found = optimizer.init(jnp.ones(())), []
    for _ in range(5):
        state = js.observe(state, value=1.0)
        found.append(float(js.current_hyperparams(state)["learning_rate"]))
    return found


def test_the_lowest_rate_is_not_dropped() -> None:
    """Recorded from ignite 0.5.5 with min_lr=0.3: 1, 0.5, 0.25, 0.125, 0.0625."""
    assert plateau_rates(min_lr=0.3, peer_exact=True) == [1, 0.5, 0.25, 0.125, 0.0625]
    assert plateau_rates(min_lr=0.3) == pytest.approx([1, 0.5, 0.3, 0.3, 0.3])
