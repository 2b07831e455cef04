"""How many trainings make a chunk: by the clock, by the memory, and by what is compiled already."""

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from typing import Any

import jax
import numpy as np

from .._errors import JaxschedWarning
from .program import Programs
from .stage import Chunk, Stage

_GLANCE_SECONDS, _TRIAL_SECONDS = 0.005, 0.1
"""A first look at what a step takes, and a trial of a size, run so long at least."""

_WORTH = 12
"""Sizes are tried if the whole takes so many times what it takes to compile one."""

_HEAVY_SECONDS = 2e-4
"""On a CPU, a training whose step takes longer fills the caches by itself: smaller chunks are tried first."""


class Sizes:
    """Chooses the rows of a chunk.

    Fields:
      most: the most trainings of a chunk on one device, by group, as they were written or found.
      cap: the most rows that the memory held, by group.
      facts: what there is to tell of it.
    """

    def __init__(self, stage: Stage, processes: Any) -> None:
        self.stage, self.plan, self.processes = stage, stage.plan, processes
        self.devices = stage.programs.devices
        self.lanes = lanes(stage.programs)
        # Of all processes: they lay out all chunks alike, even if one machine has more cores than another.
        self.together = sum(int(they["lanes"]) for they in processes.gather({"lanes": np.array(self.lanes)}))
        # Of an earlier run: what this run compiles itself has no say, for a run that goes on would not have it.
        self.compiled = {structure: set(rows) for structure, rows in stage.programs.sizes.items()}
        self.most: dict[int, int] = {}
        self.cap: dict[int, int] = {}
        self.facts: dict[str, Any] = {"lanes": self.lanes}

    def rows(self, g: int, n: int, left: int, pace: dict[int, float]) -> int:
        """The rows of the chunks for the `n` trainings of a group that go on for `left` steps; `pace` has the seconds
        of a step by the rows of a chunk. All processes ask at the same time, and the answer is the same for all."""
        total = len(self.plan.groups[g].index) * len(self.plan.seeds)
        if self.plan.chunk == "auto":
            most = self.most[g] = self.most.get(g) or self._tuned(g, total)
            together = self.together  # as many chunks as keep every lane busy to the end
        else:
            most, together = self.plan.chunk, 1  # whatever the lanes: so that their number does not change a bit

        def chunks(count: int, each: int) -> int:
            return -(-count // (each * self._across * together)) * together

        each = -(-total // (chunks(total, most) * self._across))
        empty = chunks(n, each) * each * self._across - n
        if empty > n and not self._spares(g, each, empty, left, pace):
            each = -(-n // (chunks(n, each) * self._across))
        rows = each * self.devices
        for before in sorted(self.compiled.get(jax.tree.structure(self.plan.groups[g].settings), ())):
            if before <= most * self.devices and -(-n // before) * before <= 2 * n:
                rows = before
        rows = self._fitting(g, rows)
        return min(int(they["rows"]) for they in self.processes.gather({"rows": np.array(rows)}))

    def _spares(self, g: int, each: int, empty: int, left: int, pace: dict[int, float]) -> bool:
        """Whether rows that stay empty cost less than to compile a smaller program."""
        rows = each * self.devices
        if self.plan.chunk != "auto" or rows not in pace:
            return False
        return empty / rows * left * pace[rows] / self.lanes < self.stage.program(g, rows).seconds

    @property
    def _across(self) -> int:
        """The devices over which trainings are spread as evenly as can be; with a written `chunk`, each has its own."""
        return self.devices if self.plan.chunk == "auto" else 1

    def halves(self, chunk: Chunk, begin: int, error: Exception) -> list[Chunk]:
        """A chunk that ran out of memory, as two that start again at `begin`; any other error is raised."""
        if not _no_memory(error):
            raise error
        if chunk.rows <= self.devices:
            error.add_note("sweep: a chunk of one training for each device is out of memory.")
            raise error
        self._say_halved("out of memory")
        self.cap[chunk.group] = rows = self._half(chunk.rows)
        chunk.close()
        return [Chunk(chunk.group, chunk.pairs[i : i + rows], rows, begin) for i in range(0, len(chunk.pairs), rows)]

    def _fitting(self, g: int, rows: int) -> int:
        """`rows`, or as many as the memory of a device holds by the compiler's account."""
        room = memory(self.stage.programs)
        while True:
            rows = min(rows, self.cap.get(g, rows))
            try:
                program = self.stage.program(g, rows)
            except jax.errors.JaxRuntimeError as error:
                if not _no_memory(error) or rows <= self.devices:
                    raise
                self._say_halved("out of memory for the compilation")
            else:
                needed = program.bytes * self.lanes  # the data are there already
                if needed <= room or rows <= self.devices:
                    whole = needed + program.data_bytes
                    self.facts["memory_estimate"] = max(whole, self.facts.get("memory_estimate", 0))
                    return rows
                self._say_halved(f"chunks need {needed / 1e9:.3g} GB by the compiler's account, of {room / 1e9:.3g} GB")
            self.cap[g] = self._half(rows)

    def _half(self, rows: int) -> int:
        return -(-rows // (2 * self.devices)) * self.devices

    def _say_halved(self, why: str) -> None:
        if not self.facts.get("halved"):
            warnings.warn(f"sweep: {why}: chunks are halved until they fit.", JaxschedWarning, stacklevel=2)
        self.facts["halved"] = self.facts.get("halved", 0) + 1

    def _tuned(self, g: int, n: int) -> int:
        """The trainings of a chunk on one device that take the least time each, of a few sizes that are tried, where
        the whole takes much longer than to compile them."""
        known, structure = self.stage.programs.tuned, jax.tree.structure(self.plan.groups[g].settings)
        if structure not in known:
            share = -(-n // (self.devices * self.together))
            guess = min(16 if _on_cpu(self.stage.programs) else 256, share)
            guess = self._fitting(g, guess * self.devices) // self.devices
            while (glance := self._cost(g, guess, _GLANCE_SECONDS)) == np.inf and guess > 1:
                self._say_halved("out of memory")
                self.cap[g] = self._half(guess * self.devices)
                guess = self.cap[g] // self.devices
            compiling = self.stage.program(g, guess * self.devices).seconds
            if glance * share * self.plan.steps <= _WORTH * compiling:
                best = guess
            else:
                best = known[structure] = self._fastest(g, guess, share, glance > _HEAVY_SECONDS)
        else:
            best = known[structure]
        # What process 0 found holds for all, so that they lay out the same chunks.
        return int(self.processes.gather({"best": np.array(best)})[0]["best"])

    def _fastest(self, g: int, guess: int, most: int, heavy: bool) -> int:
        """The best of `guess` and the sizes around it, by factors of 4, up to `most`."""
        best, tried = guess, {guess: self._cost(g, guess, _TRIAL_SECONDS)}
        for factor in (0.25, 4.0) if heavy and _on_cpu(self.stage.programs) else (4.0, 0.25):
            while 1 <= (size := int(best * factor)) <= min(most, self.cap.get(g, np.inf) // self.devices):
                tried[size] = self._cost(g, size, _TRIAL_SECONDS)
                if tried[size] > 0.9 * tried[best]:
                    break
                best = size
            if best != guess:
                break
        self.facts.setdefault("tried", {}).update({str(size): cost for size, cost in tried.items()})
        return best

    def _cost(self, g: int, size: int, least: float) -> float:
        """The seconds of one step of one training on one device, in chunks of `size`; infinite without the memory."""
        program, seen = self.stage.program(g, size * self.devices), self.stage.programs.seen
        if least == _GLANCE_SECONDS and program in seen:  # one glance is enough for all sweeps of a search
            return seen[program]
        try:
            seen[program] = cost = self.stage.cost(g, size * self.devices, least) / size
            return cost
        except jax.errors.JaxRuntimeError as error:
            if not _no_memory(error):
                raise
            return np.inf


def lanes(programs: Programs) -> int:
    """How many chunks run at once. The program of a small training keeps one processor core busy, so a chunk for every
    core of this process; an accelerator is kept busy by one."""
    if not _on_cpu(programs):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // programs.devices)


def memory(programs: Programs) -> float:
    """The bytes that a device has for us."""
    stats = programs.mesh.devices.flat[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    # The host's own memory, of which a part is kept for the rest.
    limits = [float("inf")]
    with contextlib.suppress(OSError, ValueError, StopIteration):  # other systems than Linux do not say
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        limits.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):  # a container may have less
        group = pathlib.Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return 0.8 * min(limits)


def _no_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def _on_cpu(programs: Programs) -> bool:
    return programs.mesh.devices.flat[0].platform == "cpu"
