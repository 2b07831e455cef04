"""What successive halving finds, and what it saves."""

from __future__ import annotations

import numpy as np

from jaxsched.sweep.prune import successive_halving

from ..timing import Row, span
from . import work

LOG_EVERY = 25  # so that a rung can stand near a ninth of the steps


def measure(settings: int = 512, seeds: int = 4, keys: int = 3) -> tuple[list[Row], list[str]]:
    engine, schedules = work.Ours(), work.settings(settings)
    options = {"seeds": seeds, "log_every": LOG_EVERY}
    engine(schedules, **options, prune=successive_halving())  # compiles
    gaps, costs, seconds, notes = [], [], [], []
    for key in range(keys):
        full = engine(schedules, **options, key=key)
        halved = engine(schedules, **options, key=key, prune=successive_halving())
        means = np.where((full.diverged_at >= 0).any(axis=1), np.inf, full.final["valid_loss"].mean(axis=1))
        best, found = int(np.argmin(means)), halved.order("valid_loss", None)[0]
        noise = float(full.final["valid_loss"][best].std(ddof=1))
        # Both judged by the full sweep, which took them to the end with the same seeds.
        gaps.append((means[found] - means[best]) / noise)
        costs.append(halved.run["steps_done"] / full.run["steps_done"])
        seconds.append((halved.seconds, full.seconds))
        rank = int((means < means[found]).sum()) + 1
        notes.append(
            f"key {key}: best of the full sweep {means[best]:.4f} (seeds {noise:.4f} apart), found {means[found]:.4f}, "
            f"which is number {rank} of {settings}"
        )
    half, full = np.array(seconds).T
    what = f"successive halving on {settings} settings x {seeds} seeds"
    rows = [
        Row(
            f"{what}: found against the best, in units of the seeds' standard deviation",
            f"{max(gaps):.2f} at most, {np.median(gaps):.2f} in the median",
            f"full sweep, {keys} keys",
            "",
            "<= 1",
            max(gaps) <= 1,
        ),
        Row(
            f"{what}: its cost",
            f"{max(costs):.1%} of the steps; {span(np.median(half))}",
            f"{span(np.median(full))}",
            f"{np.median(half / full):.3f}x of the time",
            "<= 1/3 of the steps",
            max(costs) <= 1 / 3,
        ),
    ]
    return rows, [f"Successive halving: {'; '.join(notes)}."]
