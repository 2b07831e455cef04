"""What a sweep takes as settings: stacked, listed, of several structures and mixed."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.sweep.settings import Group, grouped_settings, hyperparameters, merged, settings_list

PAIR = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=4)
THREE = js.grid(js.Linear, init_value=[0.1, 0.2, 0.3], end_value=0.0, steps=4)
ONE = js.Linear(0.7, 0.0, 4)


class Pair(NamedTuple):
    rate: js.Schedule
    patience: object


@functools.partial(jax.tree_util.register_dataclass, data_fields=["rate", "b1"], meta_fields=["nesterov"])
@dataclasses.dataclass
class Recipe:
    rate: object
    b1: object
    nesterov: bool = False


def listed(schedules):
    return settings_list(merged(grouped_settings(schedules)))


def same(a, b):
    """Whether two settings have one structure and the same numbers."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def check(schedules, expected):
    """The settings are the expected ones in order, and the groups hold each of them once."""
    groups = grouped_settings(schedules)
    found = listed(schedules)
    assert len(found) == len(expected)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert sorted(itertools.chain.from_iterable(g.index.tolist() for g in groups)) == list(range(len(expected)))
    for group in groups:
        assert isinstance(group, Group)
        assert group.index.tolist() == sorted(group.index.tolist())
        for leaf in jax.tree.leaves(group.settings):
            assert type(leaf) is np.ndarray
            assert len(leaf) == len(group.index)
        for row, place in enumerate(group.index.tolist()):
            one = jax.tree.map(lambda x, row=row: x[row], group.settings)
            assert same(one, jax.tree.map(np.asarray, expected[place]))
    return groups


def test_a_stacked_schedule_is_one_group():
    (group,) = check(PAIR, js.unstack(PAIR))
    assert group.settings.init_value.tolist() == [0.1, 0.2]
    assert merged([group]) is group.settings


def test_schedules_and_numbers_of_one_length():
    both = {"learning_rate": PAIR, "patience": np.array([3, 5])}
    (group,) = check(both, [{"learning_rate": s, "patience": p} for s, p in zip(js.unstack(PAIR), [3, 5], strict=True)])
    assert group.settings["patience"].dtype == np.int64
    assert jax.vmap(lambda s: s["learning_rate"](0) * s["patience"])(group.settings).tolist() == pytest.approx([0.3, 1])


def test_what_is_not_stacked_is_the_same_for_all():
    shared = {"learning_rate": PAIR, "b1": 0.9, "momentum": js.Constant(0.5)}
    check(shared, [{"learning_rate": s, "b1": 0.9, "momentum": js.Constant(0.5)} for s in js.unstack(PAIR)])
    numbers = {"learning_rate": js.Constant(0.5), "patience": np.array([3, 5, 7])}
    check(numbers, [{"learning_rate": js.Constant(0.5), "patience": p} for p in (3, 5, 7)])


def test_a_list_of_single_settings_of_several_structures():
    settings = [
        js.WarmupCosine(0.1, 2, 10),
        ONE,
        js.WarmupCosine(0.2, 3, 10),
        js.WarmupInverseSqrt(0.1, 2),
        js.WarmupInverseSqrt(0.1, 2, timescale=7),
        js.Ramp(1.0, 0.0, 4, shape="cosine"),
        js.Ramp(1.0, 0.0, 4, shape="linear"),
        js.MultiStepDecay(0.1, 0.5, [2, 4]),
        js.MultiStepDecay(0.1, 0.5, [2, 4, 6]),
    ]
    groups = check(settings, settings)
    assert [g.index.tolist() for g in groups] == [[0, 2], [1], [3], [4], [5], [6], [7], [8]]


def test_a_list_mixes_stacked_and_single_ones():
    stable = js.grid(js.WarmupStableDecay, peak_value=[0.1, 0.2], warmup_steps=1, total_steps=10, decay_steps=2)
    plateau = {"learning_rate": PAIR, "patience": np.array([3, 5]), "factor": 0.5}
    one = {"learning_rate": ONE, "patience": 1, "factor": 0.1}
    expected = [*js.unstack(THREE), *js.unstack(stable), ONE, one]
    expected += [
        {"learning_rate": s, "patience": p, "factor": 0.5} for s, p in zip(js.unstack(PAIR), [3, 5], strict=True)
    ]
    groups = check([THREE, stable, ONE, one, plateau], expected)
    assert [g.index.tolist() for g in groups] == [[0, 1, 2, 5], [3, 4], [6, 7, 8]]


def test_the_settings_of_a_result_are_settings_again():
    mixed = [THREE, {"learning_rate": PAIR, "b1": 0.9}, js.MultiStepDecay(0.1, 0.5, [2, 4])]
    once = listed(mixed)
    check(once, once)


def test_plain_numbers_are_settings():
    check([0.1, 0.2], [0.1, 0.2])
    check(np.array([0.1, 0.2]), [0.1, 0.2])
    check([{"lr": np.array([0.1, 0.2]), "b1": np.array([0.8, 0.9])}], [{"lr": 0.1, "b1": 0.8}, {"lr": 0.2, "b1": 0.9}])
    assert hyperparameters(0.1) == {"": 0.1}


def test_classes_of_the_user_are_settings():
    check(Pair(PAIR, np.array([3, 5])), [Pair(s, p) for s, p in zip(js.unstack(PAIR), [3, 5], strict=True)])
    groups = check(
        [Recipe(PAIR, 0.9), Recipe(ONE, 0.8, nesterov=True), Pair(ONE, 3)],
        [*(Recipe(s, 0.9) for s in js.unstack(PAIR)), Recipe(ONE, 0.8, nesterov=True), Pair(ONE, 3)],
    )
    assert len(groups) == 3
    assert list(hyperparameters(Recipe(ONE, 0.8)))[-1] == "b1"


def test_integers_and_floats_of_one_family_stand_together():
    groups = grouped_settings([js.WarmupCosine(0.1, 0, 10), js.WarmupCosine(0.1, 0.5, 10)])
    assert [g.settings.warmup_steps.tolist() for g in groups] == [[0.0, 0.5]]
    assert groups[0].settings.total_steps.dtype == np.int64
    # An integer that no float32 holds keeps its kind, and so stands apart.
    large = [js.WarmupCosine(0.1, 2**24 + 1, 2**30), js.WarmupCosine(0.1, 0.5, 2**30)]
    assert [g.settings.warmup_steps.dtype.kind for g in check(large, large)] == ["i", "f"]


def test_unusual_dtypes_are_not_widened():
    half = js.Linear(jnp.bfloat16(0.1), jnp.bfloat16(0.0), 4)
    groups = grouped_settings([half, ONE, js.Linear(np.float32(0.1), 0.0, 4), half])
    assert [(str(g.settings.init_value.dtype), g.index.tolist()) for g in groups] == [
        ("bfloat16", [0, 3]),
        ("float64", [1, 2]),
    ]


def test_schedules_without_a_number_stand_beside_others():
    first, second = js.Lambda(lambda step: 0.1 / (1 + step)), js.Lambda(lambda step: 0.2 / (1 + step))
    check([first, ONE, second, first], [first, ONE, second, first])
    assert [setting.fn for setting in merged(grouped_settings([first]))] == [first.fn]
    both = {"learning_rate": first, "b1": np.array([0.8, 0.9])}
    check(both, [{"learning_rate": first, "b1": b1} for b1 in (0.8, 0.9)])


def test_arrays_on_a_device_come_to_the_host():
    (group,) = grouped_settings([js.Constant(jnp.float32(0.1)), js.Constant(jnp.float32(0.2))])
    assert type(group.settings.constant_value) is np.ndarray


@pytest.mark.parametrize(
    ("error", "says", "schedules"),
    [
        (ValueError, r"schedules=\[\]; write at least one", []),
        (ValueError, r"schedules=\{\} holds no schedule and no number", {}),
        (ValueError, r"schedules\[1\]=\(\) holds no schedule", [ONE, ()]),
        (ValueError, r"is not stacked; for one setting write \[schedule\]", ONE),
        (ValueError, r"is not stacked; for one setting write \[schedule\]", {"learning_rate": ONE, "b1": 0.9}),
        (ValueError, "has no number that could differ", js.Lambda(abs)),
        (ValueError, "is not one setting, and not stacked on one axis", PAIR * js.Linear(1.0, 0.0, 4)),
        (ValueError, r"schedules\[0\]: a=.*not stacked on one axis", [{"a": js.stack(PAIR, PAIR)}]),
        (ValueError, r"'a.init_value': 2.*'b.steps': 3", {"a": PAIR, "b": THREE}),
        (ValueError, r"'a.init_value': 2.*'b': 3", [{"a": PAIR, "b": np.arange(3)}]),
        (ValueError, r"lengths \{'': 0\}; they must be one length, 1 or more", np.array([])),
        (ValueError, r"schedules\[0\]: b=\[1, 2\] is an array beside what is not", [{"a": ONE, "b": np.array([1, 2])}]),
        (ValueError, r"schedules\[0\]: b=\[1, 2\] is an array beside what is not", [{"a": 0.1, "b": np.array([1, 2])}]),
        (ValueError, r"schedules: b=nan is not a number", {"a": PAIR, "b": float("nan")}),
        (ValueError, r"b=4294967296 is beyond 2_147_483_647", {"a": PAIR, "b": 2**32}),
        (TypeError, "hold 'a', which is neither a schedule nor a number", "a"),
        (TypeError, "hold 'a', which is neither", {"learning_rate": PAIR, "kind": "a"}),
        (TypeError, "hold True, which is neither", [{"learning_rate": ONE, "nesterov": True}]),
        (TypeError, "hold .*choice.*, which is neither", [js.choice(1, 2)]),
    ],
)
def test_bad_settings_are_refused(error, says, schedules):
    with pytest.raises(error, match=says):
        grouped_settings(schedules)
