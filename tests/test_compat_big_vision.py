"""jaxsched.compat.others.big_vision: lengths in four units, and groups of parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.compat.others import big_vision

make = big_vision.create_learning_rate_schedule


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ({"decay_type": "cosin"}, ValueError, "decay_type='cosin'; did you mean 'cosine'?"),
        ({"warmup_step": 5}, TypeError, "no argument 'warmup_step': did you mean 'warmup_steps'?"),
        (
            {"warmup_steps": 100},
            ValueError,
            "a warmup of 100 steps and total_steps=100; write a warmup that is shorter",
        ),
        (
            {"warmup_steps": 5, "warmup_percent": 0.1},
            ValueError,
            "warmup_steps=5 and warmup_percent=0.1; write one of them",
        ),
        ({"warmup_epochs": 5}, ValueError, "warmup_epochs=5 cannot be counted in steps; write batch_size too"),
        ({"warmup_examples": 5}, ValueError, "warmup_examples=5 cannot be counted in steps; write batch_size too"),
        ({"decay_type": "rsqrt", "timescale_examples": 10}, ValueError, "timescale_examples=10.0 cannot be counted"),
        (
            {"decay_type": "cosine", "end": 0.1},
            ValueError,
            "end=0.1 is ignored by big_vision: decay_type='cosine' does not",
        ),
        ({"decay_type": "linear", "shift": 10}, ValueError, "shift=10 is ignored by big_vision"),
        ({"scale_with_batchsize": True}, ValueError, "scale_with_batchsize=True needs the batch_size"),
        ({"warmup_percent": 1.5}, ValueError, "percent=1.5; percent must be a number from 0 to 1"),
        ({"steps": [20, 10], "mults": [0.5, 0.1]}, ValueError, "must be a list of steps, 0 or more, each larger"),
        ({"steps": [20], "mults": [0.5, 0.1]}, ValueError, "n boundaries need n + 1 values"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        make(100, **arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"x_steps": 7}, 7),
        ({"x_examples": 1_000}, 10),
        ({"x_examples": 1}, 1),  # at least one step
        ({"x_examples": 0}, 0),
        ({"x_epochs": 2.5}, 125),
        ({"x_percent": 0.125}, 50),
        ({"x_percent": 0.00624}, 2),  # 2.496, rounded
        ({"x_steps": None, "x_percent": 1.0}, 400),
        ({}, "none"),
    ],
)
def test_units(config: dict[str, Any], expected: Any) -> None:
    sizes = {"data_size": 5_000, "batch_size": 100, "total_steps": 400}
    assert big_vision.steps("x", config, **sizes, default="none") == expected
    if config:
        (name, value), *_ = [(name, value) for name, value in config.items() if value is not None]
        traced = jax.jit(lambda v: big_vision.steps("x", {name: v}, **sizes))(value)
        assert int(traced) == expected


def test_a_length_without_a_default_must_be_there() -> None:
    with pytest.raises(
        ValueError, match="config has no length 'x'; write one of x_steps, x_examples, x_epochs, x_perc"
    ):
        big_vision.steps("x", {"y_steps": 3})


def test_the_default_is_a_constant() -> None:
    assert set(make(10, base=0.5).table(20).tolist()) == {0.5}
    assert make(10, base=0.5, cooldown_steps=0).table(12).tolist() == [0.5] * 12


def test_it_is_swept_over_units() -> None:
    def value(percent: Any, epochs: Any) -> Any:
        sizes = {"batch_size": 10, "data_size": 100}
        s = make(100, **sizes, decay_type="cosine", warmup_percent=percent, cooldown_epochs=epochs)
        return s(jnp.arange(120))

    both = jax.vmap(value)(jnp.array([0.1, 0.25]), jnp.array([0.0, 1.0]))
    alone = make(100, decay_type="cosine", warmup_steps=25, cooldown_steps=10)(jnp.arange(120))
    np.testing.assert_allclose(both[1], alone, rtol=1e-6, atol=1e-12)


PARAMS = {"img": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "txt": {"kernel": jnp.ones(2)}, "t": jnp.ones(2)}


def test_groups_by_regular_expressions() -> None:
    schedule = [("img/.*bias", None), ("img/.*", {"mult": 0.1}), ("t|txt/.*", {"decay_type": "linear"})]
    stage = big_vision.scale_by_schedules(schedule, PARAMS, sched_kw={"total_steps": 4})
    state = stage.init(PARAMS)
    seen = []
    for _ in range(3):
        updates, state = stage.update(PARAMS, state, PARAMS)
        seen.append([float(x[0]) for x in jax.tree.leaves(updates)])
    np.testing.assert_allclose(seen, [[0, -0.1, -1, -1], [0, -0.1, -0.75, -0.75], [0, -0.1, -0.5, -0.5]], rtol=1e-6)
    rates = js.current_hyperparams(state)
    assert {round(float(x), 6) for x in rates.values()} == {0.1, 0.5}


def test_one_setting_is_for_all() -> None:
    stage = big_vision.scale_by_schedules({"mult": 0.5}, PARAMS, sched_kw={"total_steps": 4})
    updates, _ = stage.update(PARAMS, stage.init(PARAMS), PARAMS)
    assert {float(x[0]) for x in jax.tree.leaves(updates)} == {-0.5}


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ([("img/.*", {})], "no pattern fits 't'; add one, with None to freeze it"),
        ([("/img/.*", {}), (".*", None)], "names do not begin with a slash: write 'img/.*'"),
        ([(".*", {"base": 0.5})], "base=0.5; write mult"),
    ],
)
def test_which_groups_are_refused(schedule: Any, says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its text is looked at below
        big_vision.scale_by_schedules(schedule, PARAMS, sched_kw={"total_steps": 4})
    assert says in str(caught.value)
