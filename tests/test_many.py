"""Sweeps over predictions: the values, the chunks, and what a result of them can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.predict import convex, many
from jaxsched.sweep import log_uniform, space, uniform

from .test_convex import terms

T = 50
FAMILY = space(js.Linear, init_value=log_uniform(1e-3, 1.0), end_value=0.0, steps=T)


def omega(s: js.Schedule) -> jax.Array:
    return convex.bound(s, total_steps=T)


@pytest.fixture(scope="module")
def result() -> js.SweepResult:
    return many.sweep(FAMILY, omega, 40, total_steps=T)


def test_the_values_are_those_of_the_formula(result: js.SweepResult) -> None:
    assert result.final["predicted_loss"].shape == (40, 1)
    assert result.metrics["predicted_loss"].shape == (40, 1, 1)
    wanted = [sum(terms(np.maximum(s.init_value * (1 - np.arange(T) / T), 0))) for s in result.settings]
    np.testing.assert_allclose(result.final["predicted_loss"][:, 0], wanted, rtol=1e-5)


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.trial), 7, 1_000])
def test_the_chunk_changes_nothing(result: js.SweepResult, chunk: int) -> None:
    other = many.sweep(result.schedules, omega, total_steps=T, chunk=chunk)
    np.testing.assert_allclose(other.final["predicted_loss"], result.final["predicted_loss"], rtol=1e-6)
    assert other.run["chunk"] <= min(chunk, 40)


def test_one_program_serves_all_chunks_and_all_calls() -> None:
    traces = []

    def objective(s: js.Schedule) -> jax.Array:
        traces.append(1)
        return s(3)

    S = js.grid(js.Linear, init_value=np.linspace(1, 2, 23).tolist(), end_value=0.0, steps=T)
    first = many.sweep(S, objective, chunk=5)
    assert len(traces) == 1
    assert first.compile_seconds > 0
    many.sweep(
        js.grid(js.Linear, init_value=np.linspace(3, 4, 23).tolist(), end_value=0.0, steps=T), objective, chunk=5
    )
    assert len(traces) == 1
    wanted = np.linspace(1, 2, 23) * (1 - 3 / T)
    np.testing.assert_allclose(first.final["predicted_loss"][:, 0], wanted, rtol=1e-6)


def test_the_budget_is_that_of_all_chunks_that_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 float32 a setting, or several times that, on 4 lanes: no chunk holds more than a setting or two."""
    monkeypatch.setattr(many, "_BYTES", 400_000)
    monkeypatch.setattr(many, "_lanes", lambda: 4)
    S = js.grid(js.Constant, constant_value=np.linspace(1, 2, 64).tolist())
    found = many.sweep(S, lambda s: jnp.sort(s(jnp.arange(10_000)) * jnp.sin(jnp.arange(10_000.0)))[-1])
    assert found.run["chunk"] * 40_000 * 4 <= 400_000
    np.testing.assert_allclose(found.final["predicted_loss"][:, 0], np.linspace(1, 2, 64), rtol=1e-5)


def test_what_is_set_in_this_thread_holds_in_all() -> None:
    """Doubles, in chunks: of 1e-12 beside 1 a float32 knows nothing. And the program of the floats is another."""
    traces = []

    def objective(s: js.Schedule) -> jax.Array:
        traces.append(1)
        return s(0) - 1

    S = js.grid(js.Linear, init_value=[1 + 1e-12, 1 + 2e-12, 1 + 3e-12], end_value=0.0, steps=T)
    for _ in range(2):
        assert many.sweep(S, objective, chunk=2).final["predicted_loss"][:, 0].tolist() == [0, 0, 0]
    assert len(traces) == 1
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        for _ in range(2):
            found = many.sweep(S, objective, chunk=2).final["predicted_loss"]
            assert found.dtype == np.float64
            np.testing.assert_allclose(found[:, 0], [1e-12, 2e-12, 3e-12], rtol=1e-3)
        assert len(traces) == 2
    with jax.default_matmul_precision("highest"):
        many.sweep(S, objective, chunk=2)
    assert len(traces) == 3


def test_families_stand_in_their_order() -> None:
    settings = [
        js.Linear(1.0, 0.0, T),
        js.Cosine(2.0, 0.0, T),
        js.Linear(3.0, 0.0, T),
        js.PiecewiseConstant([10], [4.0, 1.0]),
        js.PiecewiseConstant([10, 20], [5.0, 1.0, 1.0]),
        js.Cosine(6.0, 0.0, T),
    ]
    found = many.sweep(settings, lambda s: s(0))
    assert found.final["predicted_loss"][:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert [repr(s) for s in found.settings] == [repr(s) for s in settings]
    assert found.run["groups"] == 4
    assert found.order("predicted_loss").tolist() == [0, 1, 2, 3, 4, 5]


def test_families_of_spaces_and_pytrees() -> None:
    rates = [FAMILY, space(js.Cosine, init_value=log_uniform(1e-3, 1.0), end_value=0.0, steps=T)]
    found = many.sweep(rates, lambda s: s(3), 10, method="random", seed=3)
    assert [type(s).__name__ for s in found.settings] == ["Linear"] * 5 + ["Cosine"] * 5
    both = {"learning_rate": FAMILY, "decay": uniform(0.0, 1.0)}
    with pytest.warns(UserWarning, match="refused"):
        found = many.sweep(both, lambda x: x["learning_rate"](0) + x["decay"], 8, where=lambda x: x["decay"] > 0.25)
    wanted = [x["learning_rate"].init_value + x["decay"] for x in found.settings]
    np.testing.assert_allclose(found.final["predicted_loss"][:, 0], wanted, rtol=1e-6)
    assert min(x["decay"] for x in found.settings) > 0.25


def test_a_dict_of_scalars_is_metrics() -> None:
    S = js.grid(js.Linear, init_value=[0.2, 0.1, 0.4], end_value=0.0, steps=T)
    found = many.sweep(S, lambda s: {"far_loss": jnp.abs(s(0) - 0.1), "reach": s(0), "count": 3})
    assert set(found.final) == {"far_loss", "reach", "count"}
    assert found.best("far_loss").init_value == 0.1
    assert found.best("reach", "max").init_value == 0.4
    with pytest.raises(ValueError, match="mode="):
        found.best("reach")


def test_what_is_not_finite_ranks_last() -> None:
    S = js.grid(js.Linear, init_value=[0.2, 0.0, 0.1], end_value=0.0, steps=T)
    found = many.sweep(S, lambda s: {"a_loss": 1 / s(0), "b_loss": s(0)})
    assert found.diverged_at.tolist() == [[-1], [0], [-1]]
    assert found.order("a_loss").tolist() == [0, 2, 1]
    assert found.order("b_loss").tolist() == [2, 0, 1]
    assert found.final["a_loss"][:, 0].tolist() == [5.0, np.inf, 10.0]
    np.testing.assert_allclose(found.final["b_loss"][:, 0], [0.2, 0.0, 0.1], rtol=1e-6)  # as it is, beside what is lost
    assert found.ranking("a_loss")[2]["diverged"] == 1
    assert np.isnan(found.spread("a_loss")["mean"][1])
    nothing = many.sweep(S, lambda s: s(0) * jnp.nan)
    with pytest.raises(ValueError, match="is finite"):
        nothing.best("predicted_loss")


def test_a_result_does_all_that_a_sweep_does(result: js.SweepResult, tmp_path: Any) -> None:
    best = result.best("predicted_loss")
    row = result.ranking("predicted_loss")[0]
    assert best.init_value == row["init_value"]
    assert row["mean"] == pytest.approx(float(result.final["predicted_loss"].min()))
    assert (row["std"], row["seeds"], row["diverged"], row["pruned_at"]) == (0.0, 1, 0, -1)
    assert result.spread("predicted_loss")["mean"].shape == (40,)
    assert "40 settings x 1 seeds, predicted, 0 diverged" in repr(result)
    result.save(tmp_path)
    loaded = js.SweepResult.load(tmp_path)
    np.testing.assert_array_equal(loaded.final["predicted_loss"], result.final["predicted_loss"])
    assert repr(loaded.best("predicted_loss")) == repr(best)
    assert loaded.run == result.run
    assert result.run["predicted"] is True
    frame = result.to_pandas()
    assert frame.shape[0] == 40
    assert frame.predicted_loss.min() == pytest.approx(row["mean"])
    assert result.to_pandas(curves=True).step.unique().tolist() == [T]
    assert dict(result.to_xarray().sizes) == {"setting": 40, "seed": 1, "step": 1}
    assert len(result.to_dict()["settings"]) == 40
    assert result.to_json(tmp_path / "result.json").stat().st_size > 0
    assert repr(result.best()) == repr(best)


@pytest.mark.trial
def test_a_result_is_drawn(result: js.SweepResult, tmp_path: Any) -> None:
    assert next(iter(result.importance("predicted_loss"))) == "init_value"
    _curves, ranks, *_ = result.plot(tmp_path / "figure.png", "predicted_loss").axes
    assert ranks.get_xlabel() == "rank"
    assert len(ranks.collections[0].get_offsets()) == len(result.settings)
    page = result.report(tmp_path / "report.html", "predicted_loss").read_text(encoding="utf-8")
    assert "predicted_loss" in page or "predicted loss" in page
    assert (result.to_tensorboard(tmp_path / "board") / "setting-0000").is_dir()


LINES = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=T)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: many.sweep(FAMILY, omega), "write n=100_000"),
        (lambda: many.sweep(LINES, omega, 10), "beside settings"),
        (lambda: many.sweep(LINES, LINES), "write a function of a setting"),
        (lambda: many.sweep(LINES, omega, chunk=0), "chunk=0"),
        (lambda: many.sweep(LINES, omega, chunk="all"), 'or "auto"'),
        (lambda: many.sweep(LINES, omega, name=""), "name=''"),
        (lambda: many.sweep(LINES, omega, total_steps=0), "total_steps=0"),
        (lambda: many.sweep(LINES, lambda s: s(jnp.arange(3))), r"objective\(setting\)=.*shape=\(3,\)"),
        (lambda: many.sweep(LINES, lambda s: {"a": s(jnp.arange(3))}), r"\['a'\]=.*shape=\(3,\)"),
        (lambda: many.sweep(LINES, lambda s: {}), "write names"),
        (lambda: many.sweep(LINES, lambda s: {1: s(0)}), "write names"),
        (lambda: many.sweep(LINES, lambda s: float(s(0))), "cannot be traced"),
        (lambda: many.sweep([js.Constant(1.0), LINES], lambda s: {type(s).__name__: s(0)}), "the same names for all"),
        (lambda: many.sweep(js.Linear(1.0, 0.0, T), omega), "not stacked"),
    ],
)
def test_errors_say_what_to_write(call: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_a_horizon_that_was_not_told_is_that_of_the_schedules() -> None:
    curves = many.sweep(LINES, omega).plot().axes[0].lines
    assert {line.get_xdata()[-1] for line in curves} == {T - 1}
