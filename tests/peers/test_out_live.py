"""One schedule, trained with for ten steps in torch, in Keras on each of its backends, and in Optax: the parameters are
those of a plain loop of numpy with the same rates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import optax
import pytest

import jaxsched as js

STEPS = 10
SCHEDULE = js.WarmupCosine(peak_value=0.3, warmup_steps=3, total_steps=STEPS, init_value=0.05)
EXPRESSION = "js.WarmupCosine(peak_value=0.3, warmup_steps=3, total_steps=10, init_value=0.05)"


def data() -> tuple[np.ndarray, np.ndarray]:
    """Ten batches of a linear problem."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, 8, 3)).astype(np.float32)
    return x, (x @ np.float32([[1.0], [-2.0], [0.5]]))


def by_hand(momentum: float = 0.0) -> tuple[np.ndarray, list[float]]:
    """Mean squared error, plain gradient descent: the parameters after ten steps, and the losses before each."""
    w, trace, losses = np.zeros((3, 1)), np.zeros((3, 1)), []
    for t, (x, y) in enumerate(zip(*data(), strict=True)):
        error = x @ w - y
        losses.append(float((error**2).mean()))
        trace = momentum * trace + 2 * x.T @ error / len(x)
        w = w - float(SCHEDULE(t)) * trace
    return w, losses


def test_torch() -> None:
    import torch

    w = torch.zeros(3, 1, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [w]}, {"params": [bias], "lr": 7.0}], lr=123.0)
    scheduler = js.compat.to_torch([SCHEDULE, 0.0], optimizer)
    losses, rates = [], []
    for x, y in zip(*map(torch.from_numpy, data()), strict=True):
        loss = ((x @ w + bias - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    want, want_losses = by_hand()
    np.testing.assert_array_equal(rates, np.asarray(SCHEDULE.table(STEPS), np.float64))
    np.testing.assert_allclose(w.detach().numpy(), want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4, atol=1e-6)
    assert bias.item() == 0.0


def test_torch_goes_on_from_its_state() -> None:
    import torch

    def fresh() -> Any:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        return optimizer, js.compat.to_torch(SCHEDULE, optimizer)

    optimizer, scheduler = fresh()
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    states = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))
    again, other = fresh()
    again.load_state_dict(states[0])
    other.load_state_dict(states[1])
    for t in range(4, STEPS):
        assert again.param_groups[0]["lr"] == pytest.approx(float(SCHEDULE(t)), rel=1e-6)
        again.step()
        other.step()


def test_torch_refuses_another_number_of_groups() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(ValueError, match="2 schedules and 1 parameter groups"):
        js.compat.to_torch([SCHEDULE, 0.1], optimizer)


def test_a_step_of_torch_asks_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for thousands of steps."""
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = js.compat.to_torch(SCHEDULE, optimizer)
    calls = []
    monkeypatch.setattr(js.Schedule, "__call__", lambda self, step: calls.append(step))
    for _ in range(1000):
        optimizer.step()
        scheduler.step()
    assert not calls


KERAS = f"""
import json, keras, numpy as np, subprocess, sys
import jaxsched as js
from tests.peers.test_out_live import data
steps = json.loads(sys.argv[1])
rate = js.compat.to_keras({EXPRESSION}, steps=steps)
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
model.compile(keras.optimizers.SGD(learning_rate=rate), loss="mse")
rates, losses = [], []
for x, y in zip(*data()):
    rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
    losses.append(float(model.train_on_batch(x, y)))
if steps is not None:
    model.save(sys.argv[2])
    loaded = keras.models.load_model(sys.argv[2])
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    fresh = "import keras, sys, jaxsched.compat.keras_rate as _; m = keras.models.load_model(sys.argv[1]); "
    fresh += "print(m.optimizer.get_config()['learning_rate'])"
    done = subprocess.run([sys.executable, "-c", fresh, sys.argv[2]], capture_output=True, text=True)
    assert "FromJaxsched" in done.stdout, done.stderr
else:
    try:
        model.save(sys.argv[2])
    except ValueError as error:
        assert "to_keras(schedule, steps=...)" in str(error)
    else:
        raise AssertionError("saved without a table")
print(json.dumps([np.asarray(model.get_weights()[0]).tolist(), losses, rates]))
"""


@pytest.mark.parametrize(("backend", "steps"), [("jax", None), ("jax", 10), ("tensorflow", 10), ("torch", 10)])
def test_keras(backend: str, steps: int | None, tmp_path: Any) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", KERAS, json.dumps(steps), str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    weights, losses, rates = json.loads(done.stdout.splitlines()[-1])
    want, want_losses = by_hand()
    np.testing.assert_allclose(rates, SCHEDULE.table(STEPS), rtol=1e-6)
    np.testing.assert_allclose(weights, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_keras_on_another_backend_needs_a_horizon(backend: str) -> None:
    code = f"import jaxsched as js; js.compat.to_keras({EXPRESSION})"
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "backend cannot trace a schedule of JAX: write steps=" in done.stderr


def test_optax() -> None:
    optimizer = optax.sgd(js.compat.to_optax(SCHEDULE), momentum=0.9)
    w = np.zeros((3, 1), np.float32)
    state = optimizer.init(w)
    for x, y in zip(*data(), strict=True):
        gradient = jax.grad(lambda w, x=x, y=y: ((x @ w - y) ** 2).mean())(w)
        updates, state = optimizer.update(gradient, state)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(w, by_hand(momentum=0.9)[0], rtol=1e-4, atol=1e-5)
