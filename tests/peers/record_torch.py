"""Records what torch's schedulers do, step by step, for `tests/test_peers.py`: `python tests/peers/record_torch.py`.

Needs torch (the extra `parity`); the version is written beside the numbers. Rates are float64 in torch."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.optim import lr_scheduler as lrs


def trace(name: str, steps: int, lr: float = 0.1, momentum: bool = False, **arguments: Any) -> dict[str, Any]:
    """The rate (and the momentum) that is in force at each of the first `steps` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler = getattr(lrs, name)(optimizer, **arguments)
    rates, momenta = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            momenta.append(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            try:
                scheduler.step()
            except ValueError:  # OneCycleLR refuses to go on after its end
                break
    row = {"name": name, "lr": lr, "arguments": arguments, "rates": rates}
    return row | ({"momenta": momenta} if momentum else {})


def record() -> dict[str, Any]:
    traces = [
        trace("StepLR", 40, step_size=7, gamma=0.3),
        trace("MultiStepLR", 40, milestones=[3, 10, 25], gamma=0.5),
        trace("ExponentialLR", 40, gamma=0.9),
        trace("LinearLR", 20, start_factor=0.25, end_factor=1.0, total_iters=8),
        trace("PolynomialLR", 20, total_iters=12, power=2.0),
        trace("PolynomialLR", 20, total_iters=12, power=0.5),
        trace("CosineAnnealingLR", 51, T_max=50, eta_min=0.001),
        trace("CosineAnnealingWarmRestarts", 400, T_0=3, T_mult=3, eta_min=0.0),
        trace("CosineAnnealingWarmRestarts", 100, T_0=10, T_mult=2, eta_min=0.01),
        *(
            trace("CyclicLR", 60, base_lr=0.01, max_lr=0.1, step_size_up=6, step_size_down=10, mode=mode, gamma=0.97,
                  cycle_momentum=False)
            for mode in ("triangular", "triangular2", "exp_range")
        ),
        *(
            trace("OneCycleLR", 100, momentum=True, max_lr=0.1, total_steps=total, pct_start=pct, three_phase=three,
                  anneal_strategy=strategy)
            for total, pct in ((100, 0.3), (97, 0.41))
            for three in (False, True)
            for strategy in ("cos", "linear")
        ),
    ]  # fmt: skip
    return {"torch": torch.__version__, "made_by": "tests/peers/record_torch.py", "traces": traces}


def main() -> None:
    Path(__file__).with_name("torch.json").write_text(json.dumps(record()) + "\n")


if __name__ == "__main__":
    main()
