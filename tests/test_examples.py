"""The examples, each at a very small size: that they run, write their picture and show what they say they show."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

from jaxsched.sweep import Task
from jaxsched.sweep.engine import Plan
from jaxsched.sweep.training import Data, Training

FOLDER = Path(__file__).parent.parent / "examples"
NAMES = "character_model digits digits_cnn one_cycle plateau_cnn prediction transfer unrolled zigzag".split()
mpl.use("Agg")  # an example that opened a window would hang here


@functools.cache
def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_every_example_is_here() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == NAMES
    assert all((FOLDER / f"{name}.png").is_file() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_task_can_be_swept(name: str) -> None:
    """With the options that the command takes from the file; the whole training is traced, and nothing is computed."""
    module = load(name)
    task: Task = module.task
    assert getattr(module, "metric", "valid_loss") in task.metrics
    plan = Plan.make(task, module.schedules, module.steps, module.seeds, key=0, log_every=50, chunk=16)
    assert 2 <= plan.settings * len(plan.seeds) <= 128
    training = Training(task)
    for group in plan.groups:
        first = jax.tree.map(lambda x: jnp.asarray(x[0]), group.settings)
        params = jax.eval_shape(task.init, jax.random.key(0))
        carry = jax.eval_shape(training.start, first, params)
        zero, orders = jnp.int32(0), jnp.zeros((1, 1, task.examples), jnp.int32)
        data = Data(task.train, orders, zero)
        after = jax.eval_shape(training.step, carry, first, jax.random.key(0), zero, data, zero)
        assert jax.tree.structure(after) == jax.tree.structure(carry)
        assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == [
            (x.shape, x.dtype) for x in jax.tree.leaves(carry)
        ]
        _, metrics = jax.eval_shape(training.measure, after, task.valid, jnp.int32(0))
        assert set(metrics) == set(task.metrics)
        assert {x.shape for x in metrics.values()} == {()}


@pytest.mark.trial
def test_plateau_cnn(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    """At a rate at which nothing gets better, the network that listens is cut in its fifth epoch."""
    module = load("plateau_cnn")
    monkeypatch.setattr(module, "BATCHES", 2)
    monkeypatch.setattr(module, "RATE", 1e-7)
    histories = module.main(tmp_path / "plateau.png", epochs=5, runs=1)
    for ((loss, accuracy, _),) in histories.values():
        assert np.all((loss > 0) & (loss < 10) & (accuracy >= 0) & (accuracy <= 1))
    # The first epoch is the best so far; after three that are no better the rate is cut.
    np.testing.assert_allclose(histories["reduce_on_plateau"][0][2], [1e-7, 1e-7, 1e-7, 1e-7, 3e-8], rtol=1e-6)
    np.testing.assert_allclose(histories["constant rate"][0][2], 1e-7, rtol=1e-6)
    assert "constant rate" in capsys.readouterr().out
    assert is_picture(tmp_path / "plateau.png")


@pytest.mark.trial
def test_character_model(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    """Also at this size a bad batch throws back the training that has no guard, and only that."""
    module = load("character_model")
    monkeypatch.setattr(module, "HIDDEN", 16)
    monkeypatch.setattr(module, "valid", module.valid[:4])
    curves, state = module.main(tmp_path / "model.png", steps=200)
    assert state.skipped_count == 1
    losses = {name: curve[0] for name, curve in curves.items()}
    last = {name: loss[-20:].mean() for name, loss in losses.items()}
    assert last["no bad batch"] < 0.8 * losses["no bad batch"][0]
    assert last["bad batch, guarded"] < 1.05 * last["no bad batch"]
    assert last["bad batch"] > 1.05 * last["bad batch, guarded"]
    rate = curves["bad batch, guarded"][1]
    assert rate[101] < rate[99]
    sample = capsys.readouterr().out.split("updates skipped: 1\n\n")[1].removesuffix("\n")
    assert len(sample) == 200
    assert set(sample) <= set(module.ALPHABET)
    assert is_picture(tmp_path / "model.png")


@pytest.mark.trial
def test_transfer(monkeypatch: Any, tmp_path: Path) -> None:
    """Frozen layers keep the old digits to the bit, whatever the rate; others do not, and all of them learn."""
    module = load("transfer")
    table = module.main(tmp_path / "transfer.png", steps=20, runs=2)
    assert all(np.all((x >= 0) & (x <= 1)) for x in table.values())
    frozen = table["layers frozen"][..., 2]
    assert np.all(frozen == frozen[0])
    assert np.all(frozen > 0.95)
    assert table["one rate"][-1, :, 2].mean() < frozen.mean()
    assert all(x[..., 1].mean(axis=1).max() > 0.5 for x in table.values())
    assert is_picture(tmp_path / "transfer.png")


@pytest.mark.trial
def test_one_cycle(tmp_path: Path) -> None:
    module = load("one_cycle")
    histories = module.main(tmp_path / "cycle.png", steps=20, runs=2)
    cycle = histories["one cycle"]
    assert all(np.isfinite(x).all() and x.shape == (4, 2, 20) for x in cycle.values())
    for rate, seen in zip(module.RATES, cycle["learning_rate"], strict=True):
        assert seen[0].max() == pytest.approx(rate, rel=1e-6)  # at step 0.3 * 20 - 1
        assert seen[0].argmax() == cycle["momentum"][0, 0].argmin() == 5
    np.testing.assert_allclose(cycle["momentum"][..., [0, 5, 19]], np.broadcast_to([0.95, 0.85, 0.95], (4, 2, 3)))
    assert np.all(histories["constant rate"]["momentum"] == np.float32(0.9))
    assert is_picture(tmp_path / "cycle.png")


@pytest.mark.trial
def test_zigzag(tmp_path: Path) -> None:
    """Momentum is nearer to the minimum early, and decay at the end."""
    module = load("zigzag")
    slope = jax.grad(lambda w: module.loss(w, (module.x, module.y))[0])(jnp.asarray(module.MINIMUM))
    np.testing.assert_allclose(slope, 0, atol=1e-3)
    far = {name: x.mean(axis=0) for name, x in module.main(tmp_path / "path.png", runs=20).items()}
    assert far["momentum"][0] < 0.5 * far["plain SGD"][0]
    assert far["momentum and decay"][1] < 0.5 * min(far["momentum"][1], far["plain SGD"][1])
    assert is_picture(tmp_path / "path.png")


@pytest.mark.trial
def test_prediction(tmp_path: Path) -> None:
    """Also at this size the ranking holds over the whole range, and the best are better than the others."""
    module = load("prediction")
    trained = module.main(tmp_path / "prediction.png", n=1_000, kept=12, seeds=2)
    (near, far) = trained.values()
    assert all(x.shape == (12,) and np.isfinite(x).all() for way in (near, far) for x in way[:2])
    assert np.all(np.diff(near[0]) >= 0)
    assert np.all(np.diff(far[0]) >= 0)
    rho, low, high = far[2]
    assert rho > 0.4
    assert -1 <= low <= rho <= high <= 1
    assert near[1].mean() < 0.5 * far[1].mean()
    assert is_picture(tmp_path / "prediction.png")


@pytest.mark.trial
def test_unrolled(tmp_path: Path) -> None:
    """A few steps downhill on the schedule, through trainings of 40 steps, are already better on other seeds."""
    module = load("unrolled")
    found, table = module.main(tmp_path / "unrolled.png", steps=40, outer=5, runs=2)
    assert found.improved
    assert found.history[-1] < found.history[0]
    assert table["after"] < table["before"]
    assert is_picture(tmp_path / "unrolled.png")
