"""How far each schedule is from its formula in float64, in units in the last place of float32."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import recipe_cases  # noqa: F401  # registers its cases
from .cases import CASES, Draw, Drawn
from .timing import Row, Table

DRAWS, PEER_DRAWS, STEPS = 300, 60, 4_096
LAST = 2**31 - 1
SMALLEST = 1e-36  # near float32's denormals, of which compilers make zeros, a distance in ulps says nothing
LEFT_OUT = {"Noise": "is random", "Lambda": "is the user's own function"}


@dataclasses.dataclass
class Worst:
    ulps: float = 0.0
    step: int = -1
    schedule: str = ""

    def see(self, ulps: np.ndarray, steps: np.ndarray, schedule: Any) -> None:
        at = int(np.argmax(ulps))
        if ulps[at] > self.ulps:
            self.ulps, self.step, self.schedule = float(ulps[at]), int(steps[at]), repr(schedule)


def steps_of(draw: Draw, marks: list[float]) -> np.ndarray:
    """Steps anywhere, and many near each end and boundary."""
    rng, near = draw.rng, STEPS // 2
    marks = [0.0, float(LAST), *map(float, marks)]
    anywhere = rng.integers(0, LAST, size=STEPS // 4, endpoint=True)
    reach = max((m for m in marks if m < LAST), default=1.0) + 1
    inside = rng.uniform(0, reach, size=STEPS - STEPS // 4 - near)
    distances = np.exp(rng.uniform(0, np.log(reach + 1), size=near)) - 1
    distances[: near // 4] = rng.integers(0, 9, size=near // 4)
    beside = rng.choice(marks, size=near) + distances * rng.choice([-1, 1], size=near)
    return np.clip(np.rint(np.concatenate([anywhere, inside, beside])), 0, LAST).astype(np.int64)


def distance(values: Any, exact: np.ndarray) -> np.ndarray:
    """In ulps; 0 below the smallest, infinite where an exact zero is missed and where the value is not a number."""
    values, size = np.asarray(values).astype(np.float64), np.abs(exact)
    with np.errstate(over="ignore"):
        ulp = np.spacing(np.maximum(size, SMALLEST).astype(np.float32)).astype(np.float64)
    ulps = np.where(size >= SMALLEST, np.abs(values - exact) / ulp, 0.0)
    ulps = np.where((exact == 0) & (np.abs(values) >= SMALLEST), np.inf, ulps)
    return np.where(np.isfinite(values), ulps, np.inf)


def worst_of(make: Callable[[Draw], Drawn], seed: int) -> tuple[Worst, Worst, bool]:
    """Ours and the peer's worst over all draws, and whether there is a peer."""
    draw, ours, theirs, has_peer = Draw(seed), Worst(), Worst(), False
    for i in range(DRAWS):
        with np.errstate(under="ignore", over="ignore", divide="ignore", invalid="ignore"):
            drawn = make(draw)
            steps = steps_of(draw, drawn.marks)
            exact = np.broadcast_to(np.asarray(drawn.formula(steps), np.float64), steps.shape)
        counts = steps.astype(np.int32)
        ours.see(distance(drawn.schedule(counts), exact), steps, drawn.schedule)
        if drawn.peer is not None and i < PEER_DRAWS:
            has_peer = True
            values = np.broadcast_to(np.asarray(drawn.peer(counts)), steps.shape)
            theirs.see(np.where(steps < drawn.until, distance(values, exact), 0.0), steps, drawn.schedule)
    return ours, theirs, has_peer


def _shown(ulps: float) -> str:
    return f"{ulps:.1f}" if ulps < 1000 else f"{ulps:.1e}" if np.isfinite(ulps) else "misses a zero"


def rows_and_misses() -> Iterator[tuple[Row, str]]:
    for seed, (name, bar, make) in enumerate(CASES):
        ours, theirs, has_peer = worst_of(make, seed)
        met = ours.ulps <= bar
        peer = _shown(theirs.ulps) if has_peer else ""
        ratio = f"{theirs.ulps / ours.ulps:,.0f}x" if has_peer and ours.ulps and np.isfinite(theirs.ulps) else ""
        note = "" if met else f"{name} is {_shown(ours.ulps)} ulp away at step {ours.step} of `{ours.schedule}`."
        yield Row(name, _shown(ours.ulps), peer, ratio, f"<= {bar} ulp", met), note


def measure() -> Table:
    logging.disable(logging.INFO)  # optax tells of every phase without length
    rows, misses = zip(*rows_and_misses(), strict=True)
    notes = [
        f"The largest distance from the formula in float64, in ulps of float32 at the exact value: {DRAWS} draws of "
        f"hyperparameters (optax: the first {PEER_DRAWS} of them), {STEPS} steps each.",
        "Hyperparameters are float32 numbers in both; horizons are from 10 to 2,000,000,000, values from 1e-6 to 10 or "
        "0. A quarter of the steps is anywhere from 0 to 2**31 - 1, half of them near an end or a boundary.",
        f"Exact values below {SMALLEST:g} are skipped: they are next to the denormals, of which compilers make zeros. "
        "An exact zero that is missed is printed as such.",
        "Bars: 4 for lines and staircases, 8 for cosines, 16 for tanh, real powers, exponentials and whatever has no "
        "class of its own. A schedule of several parts has the bar of its hardest part.",
        "The peer is evaluated eagerly; the column is empty where optax has no schedule of this definition. The ratio "
        "is theirs by ours.",
        "Cycles grow by integer factors here: with another factor they begin between two steps. Left out: "
        + "; ".join(f"{name}, which {why}" for name, why in LEFT_OUT.items())
        + ".",
        *(note for note in misses if note),
    ]
    columns = ("what", "ours (ulp)", "optax (ulp)", "ratio", "bar", "met?")
    return Table("accuracy", "Distance from float64", notes, list(rows), columns)
