"""Records whole trainings under torch's OneCycleLR, every parameter at every step, for `tests/test_hyperparams.py`:
`python tests/peers/record_torch_training.py`.

A network of one hidden layer learns Fisher's irises (150 flowers, 4 lengths in cm, 3 species) in float64; rate and
momentum (SGD's, or Adam's first beta) go through one cycle. Needs torch (the extra `parity`) and scikit-learn, which
brings the data; the version of torch is written beside the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_iris

STEPS = 40
FOLDS = 5  # the batch of step t is every fifth flower from t mod 5 on: 10 of each species
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}, {"max_lr": 0.3}),
    ("SGD", {"momentum": 0.9, "nesterov": True}, {"max_lr": 0.2, "anneal_strategy": "linear", "three_phase": True}),
    ("Adam", {}, {"max_lr": 0.05}),
    ("AdamW", {"weight_decay": 0.1}, {"max_lr": 0.05, "pct_start": 0.5, "base_momentum": 0.7, "max_momentum": 0.9}),
]
SHAPES = {"hidden_kernel": (4, 3), "hidden_bias": (3,), "out_kernel": (3, 3), "out_bias": (3,)}


def short(x: torch.Tensor) -> Any:
    """Ten digits of each number are more than the test asks for."""
    return [float(f"{v:.10g}") for v in x.detach().flatten()]


def train(name: str, arguments: dict[str, Any], cycle: dict[str, Any], x: torch.Tensor, y: torch.Tensor) -> Any:
    generator = torch.Generator().manual_seed(0)
    params = {
        k: torch.randn(shape, generator=generator, dtype=torch.float64).mul(0.5).requires_grad_()
        for k, shape in SHAPES.items()
    }
    optimizer = getattr(torch.optim, name)(params.values(), lr=1.0, **arguments)  # the cycle sets its rate
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, total_steps=STEPS, cycle_momentum=True, **cycle)
    row: dict[str, Any] = {"optimizer": name, "arguments": arguments, "cycle": cycle, "rates": [], "momenta": []}
    row["params"] = {k: [short(p)] for k, p in params.items()}
    for t in range(STEPS):
        group = optimizer.param_groups[0]
        row["rates"].append(group["lr"])
        row["momenta"].append(group["momentum"] if "momentum" in group else group["betas"][0])
        optimizer.zero_grad()
        hidden = torch.tanh(x[t % FOLDS :: FOLDS] @ params["hidden_kernel"] + params["hidden_bias"])
        logits = hidden @ params["out_kernel"] + params["out_bias"]
        torch.nn.functional.cross_entropy(logits, y[t % FOLDS :: FOLDS]).backward()
        optimizer.step()
        if t < STEPS - 1:  # OneCycleLR refuses to go on after its end
            scheduler.step()
        for k, p in params.items():
            row["params"][k].append(short(p))
    return row


def record() -> dict[str, Any]:
    data = load_iris()
    x = torch.tensor(data.data)
    y = torch.tensor(data.target)
    centred = (x - x.mean(0)) / x.std(0, unbiased=False)
    return {
        "torch": torch.__version__.split("+")[0],
        "made_by": "tests/peers/record_torch_training.py",
        "shapes": SHAPES,
        "x": [short(row) for row in x],
        "y": y.tolist(),
        "trainings": [train(*case, centred, y) for case in CASES],
    }


def main() -> None:
    Path(__file__).with_name("torch_training.json").write_text(json.dumps(record()) + "\n")


if __name__ == "__main__":
    main()
