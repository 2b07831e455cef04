"""Records what torch's and Keras's ReduceLROnPlateau do, observation by observation, for `tests/test_plateau.py`:
`python tests/peers/record_plateau.py`.

Needs torch and Keras (the extra `parity`); their versions are written beside the numbers."""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

Arguments = dict[str, Any]
OBSERVATIONS = 60


def metrics(rng: np.random.Generator) -> np.ndarray:
    """A sequence of one kind: falling with noise, wandering through 0, in stairs with exact ties, or flat."""
    t = np.arange(OBSERVATIONS)
    noise = rng.normal(size=OBSERVATIONS)
    kind = rng.integers(5)
    if kind == 0:
        x = np.exp(-t / rng.uniform(5, 50)) * (1 + 0.2 * noise) + rng.uniform(-0.2, 1)
    elif kind == 1:
        x = np.cumsum(noise) * rng.uniform(0.01, 1)
    elif kind == 2:
        x = np.round(np.exp(-t / 20) * 10 + noise)
    elif kind == 3:
        x = np.full(OBSERVATIONS, rng.normal()) + (rng.random(OBSERVATIONS) < 0.1) * noise
    else:
        x = -np.exp(t / rng.uniform(20, 100)) * (1 + 0.1 * noise)
    if rng.random() < 0.3:
        x[rng.integers(0, OBSERVATIONS, 3)] = rng.choice([np.nan, np.inf, -np.inf])
    return x.astype(np.float32)


def torch_arguments(rng: np.random.Generator) -> Arguments:
    return {
        "lr": float(10 ** rng.uniform(-4, 0)),
        "mode": str(rng.choice(["min", "max"])),
        "factor": float(rng.uniform(0.05, 0.95)),
        "patience": int(rng.choice([0, 1, 2, 3, 5, 10])),
        "threshold": float(rng.choice([0.0, 10 ** rng.uniform(-5, -0.5)])),
        "threshold_mode": str(rng.choice(["rel", "abs"])),
        "cooldown": int(rng.choice([0, 0, 1, 2, 5])),
        "min_lr": float(rng.choice([0.0, 10 ** rng.uniform(-6, 0)])),
        "eps": float(rng.choice([0.0, 1e-8, 1e-3])),
    }


def keras_arguments(rng: np.random.Generator) -> Arguments:
    return {
        "lr": float(10 ** rng.uniform(-4, 0)),
        "monitor": str(rng.choice(["val_loss", "val_accuracy"])),
        "mode": str(rng.choice(["auto", "min", "max"])),
        "factor": float(rng.uniform(0.05, 0.95)),
        "patience": int(rng.choice([0, 1, 2, 3, 5, 10])),
        "min_delta": float(rng.choice([0.0, 10 ** rng.uniform(-5, -0.5)])),
        "cooldown": int(rng.choice([0, 0, 1, 2, 5])),
        "min_lr": float(rng.choice([0.0, 10 ** rng.uniform(-6, 0)])),
    }


def draw(arguments: Any, number: int, seed: int) -> tuple[list[Arguments], np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = [(arguments(rng), metrics(rng)) for _ in range(number)]
    return [a for a, _ in drawn], np.stack([m for _, m in drawn])


def torch_rates(arguments: Arguments, sequence: np.ndarray) -> list[float]:
    """The rate after each observation."""
    import torch

    arguments = dict(arguments)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments.pop("lr"))
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    rates = []
    for metric in sequence:
        scheduler.step(float(metric))
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@functools.cache
def keras_model() -> Any:
    """A model that was trained for a moment: `mode="auto"` asks its metrics which way is up."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.zeros((2, 1)), np.array([0, 1]), verbose=0)
    return model


def keras_rates(arguments: Arguments, sequence: np.ndarray) -> list[float]:
    """The rate after each observation."""
    model = keras_model()
    import keras

    arguments = dict(arguments)
    model.optimizer.learning_rate = arguments.pop("lr")
    callback = keras.callbacks.ReduceLROnPlateau(**arguments)
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, metric in enumerate(sequence):
        callback.on_epoch_end(epoch, {arguments["monitor"]: float(metric)})
        rates.append(float(model.optimizer.learning_rate.numpy()))
    return rates


def main() -> None:
    import torch

    keras_model()
    import keras

    table: dict[str, Any] = {}
    for peer, drawer, run, number, version in (
        ("torch", torch_arguments, torch_rates, 2_000, torch.__version__.split("+")[0]),
        ("keras", keras_arguments, keras_rates, 300, keras.__version__),
    ):
        arguments, sequences = draw(drawer, number, seed=0)
        if peer == "keras":  # a first metric of NaN would be its best for ever
            sequences[:, 0] = np.where(np.isfinite(sequences[:, 0]), sequences[:, 0], 1.0)
        rates = np.array([run(a, m) for a, m in zip(arguments, sequences, strict=True)])
        table |= {
            f"{peer}_version": version,
            f"{peer}_arguments": json.dumps(arguments),
            f"{peer}_metrics": sequences,
            f"{peer}_rates": rates,
        }
        cuts = (np.diff(rates, axis=1) != 0).sum()
        print(f"{peer} {version}: {number} sequences, {cuts} cuts, {math.prod(rates.shape)} observations")
    np.savez_compressed(Path(__file__).parent / "plateau.npz", **table)


if __name__ == "__main__":
    main()
