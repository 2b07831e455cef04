"""One run of a sweep: chunks of trainings, advanced segment after segment until all have come to their end."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._errors import FieldError, JaxschedWarning
from . import resume
from .program import Programs
from .result import SweepResult
from .settings import merged
from .sizes import Sizes
from .stage import Chunk, Stage
from .table import Table

if TYPE_CHECKING:
    from .engine import Plan

_SEGMENT_SECONDS = 1.0
"""A segment takes about so long at most, so that a checkpoint, a Ctrl-C and the progress wait no longer."""

_FIRST_STEPS = 4
"""Of the first segment, when nobody knows yet how long a step takes."""


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a sweep has come, as its `progress` is told after every segment: all of it, or the share of this process
    in the round if there are several.

    Fields:
      trainings, done: how many trainings there are, and how many have come to their end.
      diverged, pruned: how many of them diverged or were stopped by the pruning.
      steps, steps_total: the updates done by all trainings together, and those to do if none is stopped.
      steps_per_second, seconds_left: of this run; the time left if it goes on like this.
      best: the smallest validation loss of a training at its last measurement; None before the first.
      resumed_from: the updates that a checkpoint held when this run began, 0 for a fresh one.
    """

    trainings: int
    done: int
    diverged: int
    pruned: int
    steps: int
    steps_total: int
    steps_per_second: float
    seconds_left: float
    best: float | None
    resumed_from: int


class Interrupted(KeyboardInterrupt):
    """The sweep was stopped by the user, between two segments; its text says how to go on."""


class Run:
    """The state of a run, and the loop over it.

    A round takes the trainings that are left to the next rung of the pruning, or to the end. Within a round, every
    process has chunks of its own, and advances as many at once as it has lanes.
    """

    def __init__(
        self, plan: Plan, programs: Programs, processes: Any, store: Any, progress: Callable[[Status], Any] | None
    ) -> None:
        self.began, self.earlier, self.compiled_before = time.perf_counter(), 0.0, 0.0
        self.plan, self.processes, self.store, self.progress = plan, processes, store, progress
        self.stage = Stage(plan, programs)
        self.sizes = Sizes(self.stage, processes)
        self.table = Table(plan.task.metrics, plan.pairs, plan.steps, plan.log_every)
        self.rungs = (*(plan.prune.at(plan.steps, plan.log_every) if plan.prune else ()), plan.steps)
        self.round, self.resumed_from = 0, 0
        self.chunks: list[Chunk] = []  # of this process, in this round
        self.layout: dict[int, int] = {}  # the rows of a chunk in this round, by group: the same for all processes
        self.pace: dict[tuple[int, int], float] = {}  # seconds of a step, by group and rows
        self.stop = self.due = False  # the user wants to stop; a checkpoint is due

    @property
    def begin(self) -> int:
        """The step at which this round began."""
        return self.rungs[self.round - 1] if self.round else 0

    def __call__(self) -> SweepResult:
        """Runs to the end, from the beginning or from where the checkpoint stands."""
        with self._interrupts():
            resume.restore(self)
            while self.round < len(self.rungs):
                if not self.chunks:
                    self._lay_out()
                self._advance()
                resume.share(self)
                self._end_round()
        return self._result()

    # The rounds.

    def _lay_out(self) -> None:
        """The chunks of this process: all processes lay out all chunks alike, and take turns."""
        self._choose_rows()
        chunks = [
            Chunk(g, pairs[i : i + self.layout[g]], self.layout[g], self.begin)
            for g, pairs in self._alive().items()
            for i in range(0, len(pairs), self.layout[g])
        ]
        if self.round == 0:
            self.sizes.facts["chunk"] = max(chunk.rows for chunk in chunks) // self.sizes.devices
            padding = self.sizes.facts["padding"] = sum(chunk.rows - len(chunk.pairs) for chunk in chunks)
            if padding and self.sizes.devices > 1:
                warnings.warn(
                    f"sweep: {self.plan.pairs} trainings on {self.sizes.devices} devices, in chunks of "
                    f"{chunks[0].rows}: {padding} rows are filled up with repetitions, whose results are thrown away; "
                    f"write chunk={-(-self.plan.pairs // self.sizes.devices)} or less to spread them.",
                    JaxschedWarning,
                    stacklevel=2,
                )
        if self.plan.task.host and self.plan.task.train.once and (len(chunks) > 1 or self.round):
            instead = "write a function that makes a new iterator: train=lambda: make_iterator()"
            note = f" gives its batches once, and {len(chunks)} chunks of trainings need them"
            raise FieldError("sweep", "train", self.plan.task.train, instead, note=note)
        self.chunks = chunks[self.processes.index :: self.processes.count]

    def _alive(self) -> dict[int, np.ndarray]:
        """The trainings that go on, by group."""
        alive = np.flatnonzero(~self.table.out)
        groups = self.stage.group_of[alive // len(self.plan.seeds)]
        return {g: alive[groups == g] for g in np.unique(groups).tolist()}

    def _choose_rows(self) -> None:
        for g, pairs in self._alive().items():
            if g not in self.layout:
                pace = {rows: seconds for (h, rows), seconds in self.pace.items() if h == g}
                self.layout[g] = self.sizes.rows(g, len(pairs), self.plan.steps - self.begin, pace)

    def _end_round(self) -> None:
        """Who goes on, and a checkpoint from which the next round can begin."""
        plan, step = self.plan, self.rungs[self.round]
        self.round, self.layout = self.round + 1, {}
        if self.round < len(self.rungs) and plan.prune is not None:
            values = self.table.at(plan.prune.metric, step).reshape(plan.settings, -1).mean(axis=1)
            going = np.asarray(plan.prune.choose(step, values))
            if going.shape != (plan.settings,) or going.dtype != bool:
                note = f": choose returned {going.dtype}{list(going.shape)}"
                instead = f"it must return a bool for each of the {plan.settings} settings"
                raise FieldError("sweep", "prune", plan.prune, instead, note=note)
            self.table.pruned_at[~self.table.out & ~np.repeat(going, len(plan.seeds))] = step
            resume.pool(self)
            if self.table.out.all():
                self.round = len(self.rungs)
            else:
                self._choose_rows()  # before it is saved: it may depend on the clock, and what goes on must not
        self.chunks = []
        self._save()
        if self.processes.count > 1:
            if self.store is not None:
                self.store.wait()
            # Nobody runs ahead of what the others could go on from.
            self.processes.barrier(f"round {self.round}")

    # A round.

    def _advance(self) -> None:
        """Takes every chunk to the rung."""
        workers = concurrent.futures.ThreadPoolExecutor(self.sizes.lanes, thread_name_prefix="jaxsched")
        try:
            self._loop(workers, collections.deque(chunk for chunk in self.chunks if not chunk.finished))
        finally:
            # The feeds first: a worker that waits for a batch is woken so, and one that computes is not waited for.
            for chunk in self.chunks:
                chunk.close()
            workers.shutdown(wait=False, cancel_futures=True)

    def _loop(self, workers: concurrent.futures.Executor, ready: collections.deque[Chunk]) -> None:
        flight: dict[concurrent.futures.Future[Any], Chunk] = {}
        while ready or flight:
            # What is due stays due until all that is in flight has landed.
            self.due = self.due or (self.store is not None and self.store.due(time.monotonic(), self._steps()))
            pausing = self.due or self._stopping()
            while ready and len(flight) < self.sizes.lanes and not pausing:
                chunk = ready.popleft()
                try:
                    # In this thread: nothing is compiled twice, and the user's settings of JAX hold for this thread.
                    self.stage.open(chunk)
                except jax.errors.JaxRuntimeError as error:
                    ready.extendleft(self._halves(chunk, error))
                else:
                    flight[workers.submit(self._segment, chunk, self._until(chunk))] = chunk
            done, _ = concurrent.futures.wait(flight, 1.0, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                ready.extendleft(self._landed(flight.pop(future), future))
            self.processes.check()
            if pausing and not flight:
                self._pause()

    def _until(self, chunk: Chunk) -> int:
        """Where the next segment of a chunk ends: with its window, unless that would take too long."""
        window = chunk.t - chunk.t % self.plan.log_every + self.plan.log_every
        pace = self.pace.get((chunk.group, chunk.rows))
        most = _FIRST_STEPS if pace is None else max(1, int(_SEGMENT_SECONDS / pace))
        return min(window, self.plan.steps, chunk.t + most, self.stage.limit(chunk.t))

    def _segment(self, chunk: Chunk, t1: int) -> tuple[int, Any, np.ndarray, float]:
        """Advances a chunk, in a thread of its own."""
        steps, begin = t1 - chunk.t, time.perf_counter()
        metrics, lost = self.stage.advance(chunk, t1)
        return t1, metrics, lost, (time.perf_counter() - begin) / steps

    def _landed(self, chunk: Chunk, future: concurrent.futures.Future[Any]) -> list[Chunk]:
        """Writes down what a segment brought, and returns what is ready to go on."""
        try:
            t1, metrics, lost, pace = future.result()
        except jax.errors.JaxRuntimeError as error:
            return self._halves(chunk, error)
        chunk.t, self.pace[chunk.group, chunk.rows] = t1, pace
        self.table.reached[chunk.pairs] = t1
        if metrics is not None:
            self.table.measured(chunk.pairs, t1, metrics, lost)
        chunk.finished = t1 == self.rungs[self.round] or bool((lost >= 0).all())
        if chunk.finished:
            chunk.kept = chunk.to_host() if self.round + 1 < len(self.rungs) else None
            chunk.close()
        if self.progress is not None:
            self.progress(self._status())
        return [] if chunk.finished else [chunk]

    def _halves(self, chunk: Chunk, error: Exception) -> list[Chunk]:
        """A chunk that was out of memory as smaller ones, which begin the round again."""
        parts = self.sizes.halves(chunk, self.begin, error)
        self.table.reached[chunk.pairs] = self.begin
        at = self.chunks.index(chunk)
        self.chunks[at : at + 1] = parts
        return parts

    # Interruptions.

    def _stopping(self) -> bool:
        return self.stop or self.processes.stopping

    def _pause(self) -> None:
        """Between two segments, with nothing in flight: saves, and leaves if the user asked for it."""
        self._save()
        if not self._stopping():
            return
        if self.store is None:
            raise Interrupted("sweep: stopped. Nothing was saved: with checkpoint=... it could go on from here.")
        where = self.store.folder.parent
        if not self.store.wait():
            raise Interrupted(
                f"sweep: stopped, and could not save in {where}: the same call goes on from the last save."
            )
        raise Interrupted(f"sweep: stopped and saved in {where}. The same call goes on from here.")

    def _save(self) -> None:
        self.due = False
        if self.store is not None:
            self.store.save(resume.tree(self))

    @contextlib.contextmanager
    def _interrupts(self) -> Iterator[None]:
        """A first Ctrl-C (or a polite kill) waits for the segments in flight; a second one does not."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            del number, frame
            if self.stop:
                raise KeyboardInterrupt
            self.stop = True
            self.processes.stop()  # the others of several, which may be waiting for this one

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            self.processes.stopping = False  # it was this run that was to stop
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    # What is told.

    def _steps(self) -> int:
        return int(self.table.reached.sum())

    def _seconds(self) -> float:
        """Of training, without the compilations."""
        return self.earlier + time.perf_counter() - self.began - (self.stage.compile_seconds - self.compiled_before)

    def _status(self) -> Status:
        plan, table = self.plan, self.table
        # Of several processes, each knows its own share until the end of the round.
        mine = slice(None) if self.processes.count == 1 else np.concatenate([chunk.pairs for chunk in self.chunks])
        reached, out, losses = table.reached[mine], table.out[mine], table.final["valid_loss"][mine]
        speed = (self._steps() - self.resumed_from) / max(self._seconds() - self.earlier, 1e-9)
        return Status(
            trainings=len(reached),
            done=int((out | (reached >= plan.steps)).sum()),
            diverged=int((table.diverged_at[mine] >= 0).sum()),
            pruned=int((table.pruned_at[mine] >= 0).sum()),
            steps=int(reached.sum()),
            steps_total=len(reached) * plan.steps,
            steps_per_second=speed,
            seconds_left=int((plan.steps - reached)[~out].sum()) / speed if speed else float("inf"),
            best=float(np.nanmin(losses)) if np.isfinite(losses).any() else None,
            resumed_from=self.resumed_from,
        )

    def _result(self) -> SweepResult:
        plan, table, devices = self.plan, self.table, self.stage.programs.mesh.devices.flat
        for values in table.final.values():
            values[table.diverged_at >= 0] = np.nan

        def shaped(x: np.ndarray) -> np.ndarray:
            return x.reshape(plan.settings, len(plan.seeds), *x.shape[1:])

        return SweepResult(
            metrics={name: shaped(x) for name, x in table.metrics.items()},
            final={name: shaped(x) for name, x in table.final.items()},
            diverged_at=shaped(table.diverged_at),
            pruned_at=shaped(table.pruned_at),
            schedules=merged(plan.groups),
            seeds=plan.seeds,
            steps=plan.steps,
            log_every=plan.log_every,
            seconds=self._seconds(),
            compile_seconds=self.stage.compile_seconds,
            run={
                **self.sizes.facts,
                "devices": len(devices),
                "device": devices[0].device_kind,
                "processes": self.processes.count,
                "groups": len(plan.groups),
                "steps_done": self._steps(),
                "steps_saved": plan.pairs * plan.steps - self._steps(),
                "resumed_from": self.resumed_from,
            },
        )
