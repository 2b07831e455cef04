"""What a setting costs from few settings to many, and what a second process on a second core brings."""

from __future__ import annotations

import functools
import socket
from typing import Any

import numpy as np

from ..timing import Row, Times, at_least, interleaved, span
from . import child, work


def sizes(counts: list[int], rounds: int) -> dict[str, list[float]]:
    """Seconds a setting of sweeps of so many, the programs compiled before."""
    engine = work.Ours()
    sides = {str(n): functools.partial(engine, work.settings(n)) for n in counts}
    taken = interleaved(sides, rounds)
    return {name: (times.seconds / int(name)).tolist() for name, times in taken.items()}


def one_vmap(counts: list[int], rounds: int) -> dict[str, list[float]]:
    """The same in one program over all settings at once."""
    sides = {str(n): work.Hand(work.settings(n), n) for n in counts}
    taken = interleaved(sides, rounds)
    return {name: (times.seconds / int(name)).tolist() for name, times in taken.items()}


def share(settings: int, rounds: int, coordinator: str = "", processes: int = 1, process: int = 0) -> dict[str, Any]:
    """Seconds of a sweep that several processes share, as this one sees it, the programs compiled before."""
    from jaxsched.sweep import distributed

    if processes > 1:
        distributed.initialize(coordinator, processes, process)
    engine, schedules = work.Ours(), work.settings(settings)
    results = []
    taken = interleaved({"sweep": lambda: results.append(engine(schedules))}, rounds)["sweep"]
    return {"seconds": taken.seconds, "final": results[-1].final["valid_loss"][:, 0]}


def _shares(settings: int, cores: list[int]) -> dict[str, Any]:
    """One process on each of the cores; each says how long the whole took it, and the longest counts."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    n = len(cores)
    running = [
        child.start(
            "sweeps.scaling",
            "share",
            [core],
            settings=settings,
            rounds=1,
            coordinator=coordinator,
            processes=n,
            process=i,
        )
        for i, core in enumerate(cores)
    ]
    told = [child.outcome(process) for process in running]
    return {"seconds": max(each["seconds"][0] for each in told), "final": np.array(told[0]["final"])}


def measure(
    counts: tuple[int, ...] = (64, 256, 1024, 4096), vmaps: tuple[int, ...] = (16, 64, 256), settings: int = 1024,
    rounds: int = 3,
) -> tuple[list[Row], list[str]]:  # fmt: skip
    costs = {
        int(n): np.array(x) for n, x in child.call("sweeps.scaling", "sizes", counts=counts, rounds=rounds).items()
    }
    whole = {
        int(n): np.array(x) for n, x in child.call("sweeps.scaling", "one_vmap", counts=vmaps, rounds=rounds).items()
    }
    medians = {n: float(np.median(x)) for n, x in costs.items()}
    spread = max(medians.values()) / min(medians.values())
    each = lambda table: ", ".join(f"{n:,}: {span(float(np.median(x)))}" for n, x in table.items())  # noqa: E731
    what = f"cost a setting of {counts[0]} to {counts[-1]:,}; the peer is one vmap over all, without chunks"
    rows = [Row(what, each(costs), each(whole), f"{spread:.3f}x from least to most", "<= 1.15x", spread <= 1.15)]
    cores = child.cores()[:2]
    if len(cores) < 2:
        return rows, ["This machine has one core: nothing to tell of two processes."]
    alone, both = [], []
    for _ in range(rounds):  # by turns, so that a busy moment hits both
        alone.append(child.call("sweeps.scaling", "share", cores[:1], settings=settings, rounds=1))
        both.append(_shares(settings, cores))
        np.testing.assert_allclose(both[-1]["final"], alone[-1]["final"], rtol=0.05, atol=0.05)
    rows.append(
        at_least(
            f"{settings:,} settings: 2 processes on 2 cores, against 1 process on 1 core",
            Times(np.array([x["seconds"] for x in both])),
            Times(np.array([x["seconds"][0] for x in alone])),
            1.8,
        )
    )
    notes = [
        "The cost a setting is that of the second and later calls, the programs compiled before, with the default "
        'chunk="auto" and what it tries counted.',
        "The processes are of one machine, each bound to its core, and meet on the loopback; the time is that of the "
        "process that took longest, compilation aside, from a first call that is thrown away to the end.",
    ]
    return rows, notes
