"""Errors as data: their parts, their text, their place in what the user wrote."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.fields import FieldError, FieldTypeError, UnknownFieldError


def caught(make: Any) -> Any:
    with pytest.raises((FieldError, FieldTypeError)) as found:
        make()
    return found.value


def test_an_error_keeps_its_parts() -> None:
    error = caught(lambda: js.WarmupCosine(0.1, warmup_steps=20, total_steps=10))
    assert isinstance(error, ValueError)
    assert (error.owner, error.field, error.path) == (
        "WarmupCosine",
        ("warmup_steps", "total_steps"),
        ("warmup_steps",),
    )
    renamed = error.renamed("--schedule", "--set")
    assert (renamed.owner, renamed.value, renamed.instead) == ("--schedule", error.value, error.instead)
    assert isinstance(caught(lambda: js.Constant("0.1")), TypeError)
    assert isinstance(caught(lambda: js.Constant(valu=1.0)), UnknownFieldError)


def test_the_text_is_made_when_the_error_is() -> None:
    milestones = [10, 5]
    error = caught(lambda: js.MultiStepDecay(0.1, 0.5, milestones))
    milestones[:] = [1, 2]
    assert "milestones=[10, 5]" in str(error)
    assert "decay_rate=-0.1;" in str(caught(lambda: js.StepDecay(0.1, np.float32(-0.1), 3)))
    gone = jnp.ones(())
    gone.delete()
    for value in (jax.random.key(0), gone):
        with pytest.raises((TypeError, RuntimeError)):
            js.Constant(value)


@pytest.mark.parametrize("steps", [-1, lambda t: 1, [1, -2], "5%"])
def test_an_error_survives_pickling(steps: Any) -> None:
    error = caught(lambda: js.Linear(0.0, 1.0, steps))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.path == ("steps",)


@pytest.mark.parametrize(
    ("text", "path", "column"),
    [
        ("Linear(0.0, 1.0, steps=-1)", ("steps",), 17),
        ("Linear(0.0, 1.0, -1)", ("steps",), 17),
        ("join([Linear(0.0,1.0,10), 'x'], [10])", ("schedules", 1), 26),
        ("Linear(0.0,1.0,10).then(Constant(1.0), at=-1)", ("at",), 39),
        ("Constant(1.0).shift(stepz=3)", ("stepz",), 20),
        ("compat.optax.linear_schedule(init_value=1.0, end_valu=0.0)", ("end_valu",), 45),
        ("Constant(1.0).shift('1e10000000')", ("steps",), 20),
    ],
)
def test_parse_points_at_the_argument(text: str, path: Any, column: int) -> None:
    with pytest.raises(js.text.ParseError) as found:
        js.parse(text, timeline=js.Timeline(100))
    assert (found.value.path, found.value.column) == (path, column)


def test_a_build_that_returns_no_schedule_is_refused() -> None:
    class Forgotten(js.Recipe):
        value_of_all: js.fields.Scalar

        def build(self) -> Any:
            js.Constant(self.value_of_all)

    assert "Forgotten: build=None" in str(caught(lambda: Forgotten(1.0)))


def test_parts_built_inside_of_a_trace_are_converted() -> None:
    class Squared(js.Recipe):
        n: js.fields.Steps

        def build(self) -> js.Schedule:
            return js.Constant(self.n) * js.Constant(self.n)

    assert Squared(100_000)(5) == 1e10  # as an int32 it would overflow
    table = jax.jit(lambda p: js.PiecewiseConstant([10], [p, 0.1])(jnp.array([3, 30])))
    np.testing.assert_allclose(table(0.5), [0.5, 0.1])


def test_names_that_moved_are_named() -> None:
    with pytest.raises(AttributeError, match=r"write jaxsched\.schedules\.Join"):
        js.Join  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'WarmupCosine'"):
        js.WarmupCosin  # noqa: B018
    names: dict[str, Any] = {}
    exec("from jaxsched import *", names)
    assert {"plot", "parse", "Task", "Linear"} <= set(names)
    assert not {"importlib", "Any", "TYPE_CHECKING"} & set(names)


def test_a_class_of_a_user_may_have_the_name_of_ours() -> None:
    class Sum(js.Schedule):
        schedules: tuple[js.Schedule, ...]

        def value(self, step: Any) -> Any:
            return 100 * self.schedules[0].value(step)

    assert (Sum([1.0, 2.0]) + 1)(0) == 101  # type: ignore[arg-type]

    class Sine(js.Linear):
        def value(self, step: Any) -> Any:
            return jnp.sin(step / 10.0)

    assert js.schedules.span(Sine(0.0, 1.0, 10)) is None
    assert Sine(0.0, 1.0, 10).repeat(10, 2)(15) == pytest.approx(np.sin(0.25), rel=1e-6)
