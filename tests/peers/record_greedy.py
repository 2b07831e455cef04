"""Records what transformers' GreedyLR does, observation by observation, for `tests/test_greedy.py`:
`python tests/peers/record_greedy.py PATH`, with the path of the `transformers` folder of an installed transformers.

Needs torch (the extra `parity`). The class is taken from `optimization.py` there and run beside torch alone, so that
what else transformers needs is not needed; its version is written beside the numbers."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

OBSERVATIONS = 100
COUNTERS = ("num_good_epochs", "num_bad_epochs", "cooldown_counter", "warmup_counter", "reset_start")


def peer(folder: Path) -> tuple[Any, str]:
    """The class, and the version of transformers."""
    tree = ast.parse((folder / "optimization.py").read_text())
    wanted = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name in ("GreedyLR", "StreamingAverage")]
    future = ast.parse("from __future__ import annotations").body
    names: dict[str, Any] = {"Optimizer": torch.optim.Optimizer, "Any": Any}
    exec(compile(ast.Module([*future, *wanted], []), "optimization.py", "exec"), names)
    version = re.search(r'__version__ = "(.+)"', (folder / "__init__.py").read_text())
    assert version
    return names["GreedyLR"], version[1]


def metrics(rng: np.random.Generator) -> np.ndarray:
    """A sequence of one kind: falling with noise, wandering through 0, in stairs with exact ties, or in waves."""
    t, noise = np.arange(OBSERVATIONS), rng.normal(size=OBSERVATIONS)
    kind = rng.integers(4)
    if kind == 0:
        x = np.exp(-t / rng.uniform(5, 50)) * (1 + rng.choice([0.0, 0.02, 0.2]) * noise) + rng.uniform(0, 1)
    elif kind == 1:
        x = np.cumsum(noise) * rng.uniform(0.01, 1)
    elif kind == 2:
        x = np.round(np.exp(-t / 20) * 10 + noise)
    else:
        x = np.cumsum(np.sin(t / rng.uniform(3, 12))) + 0.1 * noise
    if rng.random() < 0.2:
        x[rng.integers(0, OBSERVATIONS, 2)] = np.nan
    return np.round(x * rng.choice([-1, 1]), 3).astype(np.float32)


def arguments(rng: np.random.Generator) -> dict[str, Any]:
    low = float(10 ** rng.uniform(-4, -1.5))
    smooth = bool(rng.random() < 0.4)
    return {
        "lr": float(10 ** rng.uniform(-4.5, -0.5)),
        "mode": str(rng.choice(["min", "max"])),
        "factor": float(rng.uniform(0.3, 0.95)),
        "patience": int(rng.choice([0, 0, 1, 2, 5])),
        "threshold": float(10 ** rng.uniform(-6, -1)) if smooth or rng.random() < 0.7 else 0.0,
        "threshold_mode": str(rng.choice(["rel", "abs"])),
        "cooldown": int(rng.choice([0, 0, 1, 3])),
        "warmup": int(rng.choice([0, 0, 1, 3])),
        "min_lr": low,
        "max_lr": float(low * 10 ** rng.uniform(0.3, 3)),
        "eps": float(rng.choice([0.0, 1e-8])),
        "smooth": smooth,
        "window_size": 6,
        "reset_start": int(rng.choice([1, 3, 10, 500])),
    }


def run(cls: Any, given: dict[str, Any], sequence: np.ndarray) -> tuple[list[float], list[list[int]], float]:
    """The rate and the counters after each observation, and how near a judgement came to its bar."""
    given = dict(given)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=given.pop("lr"))
    scheduler = cls(optimizer, **given)
    judge, margins = scheduler.is_better, [np.inf]

    def is_better(current: float, best: float) -> bool:
        sign = 1 if given["mode"] == "min" else -1
        bar = best - sign * given["threshold"] * (best if given["threshold_mode"] == "rel" else 1)
        if np.isfinite(bar) and np.isfinite(current) and given["threshold"] > 0:
            margins.append(abs(current - bar) / (abs(current) + abs(best) + 1e-3))
        return judge(current, best)

    scheduler.is_better = is_better
    rates, counters = [], []
    for metric in sequence:
        scheduler.step(float(metric))
        rates.append(optimizer.param_groups[0]["lr"])
        counters.append([getattr(scheduler, name) for name in COUNTERS])
    return rates, counters, min(margins)


def main() -> None:
    cls, version = peer(Path(sys.argv[1]))
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    while len(rows) < 200:
        given, sequence = arguments(rng), metrics(rng)
        if given["smooth"]:  # one NaN is in the peer's sum for ever
            sequence = np.where(np.isnan(sequence), np.float32(0.5), sequence)
        rates, counters, margin = run(cls, given, sequence)
        if margin < 1e-5:  # judged by the rounding of a float64, which no float32 can follow
            continue
        whole = [given["lr"], *rates]
        moves = [[i, b] for i, (a, b) in enumerate(zip(whole, rates, strict=False)) if a != b]
        plain = [float(str(x)) for x in sequence]
        rows.append({"arguments": given, "metrics": plain, "moves": moves, "counters": counters})
    moved = sum(len(row["moves"]) for row in rows)
    print(f"transformers {version}: {len(rows)} sequences, {moved} moves")
    out = {"transformers": version, "made_by": "tests/peers/record_greedy.py", "counters": COUNTERS, "traces": rows}
    Path(__file__).with_name("greedy.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
