"""Records what fastai suggests for many curves, and what its `Learner.lr_find` does on a real training, for
`tests/test_finder.py`: `python tests/peers/record_finder.py`, in an environment with fastai (and so torch and
scikit-learn). `curve`, `digits` and `first_weights` are used by the test too, which needs none of fastai."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CURVES = 320
KINDS = ("smooth", "noisy", "diverging", "nan", "stopped", "plateau", "stairs", "falling", "rising", "flat", "short")
METHODS = ("valley", "steep", "minimum", "slide")
RANGE = {"start_lr": 1e-4, "end_lr": 1e4, "num_it": 100}
BATCH, HIDDEN = 32, 16


def curve(number: int) -> tuple[np.ndarray, np.ndarray, str]:
    """The rates of a whole test, the losses that were recorded (float32 of few digits, so that they are the same on
    every machine), and the kind of the curve."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    steps = int(rng.integers(6, 40)) if kind == "short" else int(rng.integers(40, 200))
    u = np.arange(steps) / steps
    lrs = 10 ** (rng.uniform(-8, -4) + rng.uniform(3, 8) * u)
    fall = 1 / (1 + np.exp((u - rng.uniform(0.3, 0.7)) * rng.uniform(8, 40)))
    losses = rng.uniform(0.2, 1) + rng.uniform(0.5, 3) * fall
    explosion = np.exp(np.minimum((u - rng.uniform(0.6, 0.9)) * rng.uniform(20, 120), 12))
    noise = rng.normal(size=steps)
    if kind in ("noisy", "plateau", "short"):
        losses = losses + rng.uniform(0.01, 0.3) * noise
    if kind in ("diverging", "nan", "stopped", "short"):
        losses = losses + rng.choice([0.0, 0.01, 0.05]) * noise + explosion
    if kind == "nan":
        losses[int(rng.integers(1, steps)) :] = np.nan
    if kind == "stopped":
        losses = losses[: int(rng.integers(steps // 2, steps))]
    if kind == "stairs":  # with exact ties
        losses = np.round(losses * 4 + 0.5 * noise) / 4
    if kind == "falling":
        losses = np.sort(losses)[::-1]
    if kind == "rising":
        losses = np.sort(losses)
    if kind == "flat":
        losses = np.full(steps, 1.25)
    return lrs, np.round(losses, 4).astype(np.float32), kind


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Batches of the digits in a fixed order, one for each step: (steps, BATCH, 64) and (steps, BATCH)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[: BATCH * 50].reshape(50, BATCH)
    rows = order[np.arange(RANGE["num_it"]) % 50]
    return (images / 16).astype(np.float32)[rows], labels[rows]


def first_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "w1": rng.normal(size=(64, HIDDEN)).astype(np.float32) / 8,
        "b1": np.zeros(HIDDEN, np.float32),
        "w2": rng.normal(size=(HIDDEN, 10)).astype(np.float32) / 4,
        "b2": np.zeros(10, np.float32),
    }


def suggestions() -> list[list[Any]]:
    """For each curve, what each method of fastai returns behind the trimming of its `lr_find`; text where it fails."""
    import torch
    from fastai.callback import schedule

    rows = []
    for number in range(CURVES):
        lrs, losses, _ = curve(number)
        steps = len(lrs)
        kept_lrs, kept = (torch.tensor(x[: len(losses)].astype(np.float32))[steps // 10 : -5] for x in (lrs, losses))
        lost = torch.nonzero(torch.isnan(kept))
        if len(lost):
            kept_lrs, kept = kept_lrs[: lost.min()], kept[: lost.min()]
        row: list[Any] = []
        for name in METHODS:
            try:
                row.append(float(f"{getattr(schedule, name)(kept_lrs, kept, steps)[0]:.7g}"))
            except Exception as error:
                row.append(type(error).__name__)
        rows.append(row)
    return rows


def training() -> dict[str, Any]:
    """All of `lr_find`, on the digits."""
    import torch
    from fastai.basics import DataLoaders, Learner
    from fastai.callback import schedule
    from fastai.optimizer import SGD

    images, labels = (torch.tensor(x) for x in digits())
    weights = first_weights()
    model = torch.nn.Sequential(torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10))
    with torch.no_grad():
        for layer, number in ((model[0], 1), (model[2], 2)):
            layer.weight.copy_(torch.tensor(weights[f"w{number}"].T))
            layer.bias.copy_(torch.tensor(weights[f"b{number}"]))
    batches = [(x, y) for x, y in zip(images, labels, strict=True)]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(
            DataLoaders(loader, loader, device=torch.device("cpu")),
            model,
            loss_func=torch.nn.CrossEntropyLoss(),
            opt_func=SGD,
            path=folder,
        )
        functions = [getattr(schedule, name) for name in METHODS]
        found = learner.lr_find(**RANGE, show_plot=False, suggest_funcs=functions)
    return {
        "lrs": [float(f"{lr:.7g}") for lr in learner.recorder.lrs],
        "smoothed": [float(f"{loss.item():.6g}") for loss in learner.recorder.losses],
        "suggestions": {name: float(f"{getattr(found, name):.7g}") for name in METHODS},
    }


def main() -> None:
    import fastai
    import torch

    out = {
        "fastai": fastai.__version__,
        "torch": torch.__version__.partition("+")[0],
        "made_by": "tests/peers/record_finder.py",
        "training": training(),
        "methods": METHODS,
        "suggestions": suggestions(),
    }
    print(f"fastai {fastai.__version__}: {CURVES} curves, a training of {len(out['training']['lrs'])} steps")
    Path(__file__).with_name("finder.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
