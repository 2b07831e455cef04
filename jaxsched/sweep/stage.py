"""Chunks of trainings, and how they come to the devices and back."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .data import Feed
from .program import Program, Programs
from .training import Data

if TYPE_CHECKING:
    from .engine import Plan

_FED_BYTES = 64 * 2**20
"""The batches from the host for one segment, or the orders of the examples, take no more than this on a device."""


@dataclasses.dataclass(eq=False)
class Chunk:
    """Trainings that run together.

    Fields:
      group: of the settings; they have one structure.
      pairs: the trainings; pair = setting * seeds + place of the seed.
      rows: how many the program has room for: rows that are left over repeat the last training.
      t: the steps done.
      finished: whether the chunk has come to the end of the round.
      kept: the carry on the host, at a checkpoint and between two rounds.
      arguments, carry, feed: the settings, keys and seeds, the carry, and the batches of the host, while it runs.
    """

    group: int
    pairs: np.ndarray
    rows: int
    t: int = 0
    finished: bool = False
    kept: list[np.ndarray] | None = None
    arguments: Any = None
    carry: Any = None
    feed: Any = None

    def to_host(self) -> list[np.ndarray]:
        """The leaves of the carry without the rows that are left over: copies, for the devices go on to write."""

        def data(x: jax.Array) -> np.ndarray:
            key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            return np.array(jax.random.key_data(x) if key else x)[: len(self.pairs)]

        return (self.kept or []) if self.carry is None else [data(x) for x in jax.tree.leaves(self.carry)]

    def close(self) -> None:
        """Takes the chunk off the devices."""
        if self.feed is not None:
            self.feed.close()
        self.carry = self.arguments = self.feed = None


class Stage:
    """What all chunks of a run share on the devices: the data, the first parameters, the keys and the programs.

    Fields:
      pool: the carries between two rounds, by group: the trainings, and the leaves with a row for each.
      compile_seconds: what the compilations took.
    """

    def __init__(self, plan: Plan, programs: Programs) -> None:
        self.plan, self.programs = plan, programs
        self.pool: dict[int, tuple[np.ndarray, list[np.ndarray]]] = {}
        self.group_of, self.place_of = (np.empty(plan.settings, np.int64) for _ in range(2))
        for g, group in enumerate(plan.groups):
            self.group_of[group.index], self.place_of[group.index] = g, np.arange(len(group.index))
        self.keys = jax.vmap(lambda seed: jax.random.fold_in(plan.key, seed))(jnp.asarray(plan.seeds, jnp.uint32))
        self.valid = self._put(plan.task.valid)
        # The most batches from the host in a segment, or the most epochs that it may touch.
        self.fed = self.epochs = 0
        self._orders: dict[int, jax.Array] = {}
        self._lock = threading.Lock()
        if plan.task.host:
            first = plan.task.train.first
            size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(first))
            self.fed = max(1, min(plan.log_every, _FED_BYTES // max(1, size)))
            self.train = self._put(jax.tree.map(lambda x: np.stack([x] * self.fed), first))
        else:
            self.batches = programs.training.batches
            touched = -(-(plan.log_every - 1) // self.batches) + 1
            self.epochs = max(1, min(touched, _FED_BYTES // (4 * len(plan.seeds) * plan.task.examples)))
            self.train = self._put(plan.task.train)
        self._known: dict[tuple[int, int], Program] = {}
        self.compile_seconds = 0.0
        self._first: concurrent.futures.Future[Any] | None = None

    def program(self, g: int, rows: int) -> Program:
        """The program of a group for chunks of so many rows, compiled if it is not yet."""
        if (g, rows) not in self._known:
            begin = time.perf_counter()
            # Random initialisers take long to compile: in a thread, while the program of the trainings is compiled too.
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                self._first = self._first or thread.submit(self._first_params)
                self._known[g, rows] = self.programs.get(self._forms(g, rows), self._data(0), self.valid)
            self.compile_seconds += time.perf_counter() - begin
        return self._known[g, rows]

    def open(self, chunk: Chunk) -> Program:
        """Brings a chunk to the devices, where it is not there already: as new, or as it was kept or pooled."""
        program = self.program(chunk.group, chunk.rows)
        if chunk.carry is None:
            places = chunk.pairs[np.minimum(np.arange(chunk.rows), len(chunk.pairs) - 1)]
            chunk.arguments, params = self._arguments(chunk.group, places)
            chunk.carry = program.start(chunk.arguments[0], params)
            kept = chunk.kept
            if kept is None and chunk.group in self.pool:
                pairs, leaves = self.pool[chunk.group]
                order = np.argsort(pairs)
                at = order[np.searchsorted(pairs, chunk.pairs, sorter=order)]
                kept = [leaf[at] for leaf in leaves]
            if kept is not None:
                chunk.carry = self._filled(chunk.carry, kept, chunk.rows)
            chunk.kept = None
            if self.fed:
                chunk.feed = Feed.open(self.plan.task.train, chunk.t)
        return program

    def advance(self, chunk: Chunk, t1: int) -> tuple[dict[str, np.ndarray] | None, np.ndarray]:
        """Takes a chunk to step `t1`: what was measured there, if a window ends, and who has diverged. It may run in
        a thread of its own, for it touches nothing but the chunk."""
        program, plan, n = self.open(chunk), self.plan, len(chunk.pairs)
        ends = t1 % plan.log_every == 0 or t1 == plan.steps
        window = t1 - (t1 - 1) // plan.log_every * plan.log_every
        data = self._data(chunk.t, chunk.feed.take(t1 - chunk.t) if chunk.feed is not None else None)
        chunk.carry, metrics = program.segment(
            chunk.carry, *chunk.arguments, data, self.valid, np.int32(t1), np.bool_(ends)
        )
        # Copies: the next segment uses up the carry, and writes where these would look.
        lost = np.array(chunk.carry.diverged_at)[:n]
        if not ends:
            return None, lost
        measured = {name: np.array(x)[:n] for name, x in metrics.items()}
        return {
            name: x / x.dtype.type(window if name.startswith("train_") else 1) for name, x in measured.items()
        }, lost

    def limit(self, t: int) -> int:
        """The step to which a segment from step `t` may go at most, by its data."""
        return t + self.fed if self.fed else (t // self.batches + self.epochs) * self.batches

    def cost(self, g: int, rows: int, least: float) -> float:
        """The seconds of one step of a chunk, measurements included, tried for `least` seconds or more on trainings
        that are thrown away."""
        program = self.program(g, rows)
        arguments, params = self._arguments(g, self._anywhere(g, rows))
        carry, t, steps, seconds = program.start(arguments[0], params), 0, 1, 0.0
        while True:
            begin, t1 = time.perf_counter(), min(t + steps, self.limit(t))
            ends = np.bool_(t1 - t == self.plan.log_every)
            carry, _ = program.segment(carry, *arguments, self._data(t), self.valid, np.int32(t1), ends)
            jax.block_until_ready(carry)
            if t:  # the first step warms up
                seconds += time.perf_counter() - begin
            if seconds > least:
                return seconds / (t1 - 1)
            t, steps = t1, min(4 * steps, self.plan.log_every)

    def _data(self, t: int, batches: Any = None) -> Data:
        """What the batches of a segment from step `t` on are made of; those of the host are filled up with zeros to
        the number that the program takes."""
        begin = np.int32(t)
        if not self.fed:
            return Data(self.train, self._order(t // self.batches), begin)
        if batches is None:  # only to be tried
            return Data(self.train, None, begin)

        def filled(x: np.ndarray) -> np.ndarray:
            short = self.fed - len(x)
            return np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)]) if short else x

        return Data(jax.device_put(jax.tree.map(filled, batches), self.programs.everywhere), None, begin)

    def _order(self, epoch: int) -> jax.Array:
        """The orders of the examples from `epoch` on. They are the same for all chunks, so they are kept for the next
        one: shuffling for each training by itself takes a quarter of the time of a small one."""
        with self._lock:
            if epoch not in self._orders:
                each = [self.programs.orders(self.keys, jnp.int32(epoch + i)) for i in range(self.epochs)]
                room = max(4, _FED_BYTES // (4 * self.epochs * len(self.plan.seeds) * self.plan.task.examples))
                while len(self._orders) >= room:
                    del self._orders[next(iter(self._orders))]
                self._orders[epoch] = jax.device_put(jnp.stack(each, axis=1), self.programs.everywhere)
            return self._orders[epoch]

    def _first_params(self) -> Any:
        return jax.block_until_ready(self.programs.first_params(self.keys))

    def _forms(self, g: int, rows: int) -> tuple[Any, ...]:
        """What the settings, the parameters, the keys and the seeds of a chunk are like on the devices."""
        settings = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[:1]), self.plan.groups[g].settings)
        params = jax.eval_shape(self.programs.training.first_params, self.keys)
        stacked = (settings, params, self.keys, jnp.zeros(1, jnp.int32))

        def form(x: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=self.programs.rows)

        return tuple(jax.tree.map(form, tree) for tree in stacked)

    def _put(self, tree: Any) -> Any:
        return jax.device_put(jax.tree.map(jnp.asarray, tree), self.programs.everywhere)

    def _arguments(self, g: int, places: np.ndarray) -> tuple[Any, Any]:
        """The settings, keys and places of the seeds of trainings, and the parameters that they start from."""
        setting, seed = np.divmod(places, len(self.plan.seeds))
        at = self.place_of[setting]
        settings = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[at]), self.plan.groups[g].settings)
        assert self._first is not None  # a program was compiled before
        params, keys = self.programs.take((self._first.result(), self.keys), seed)
        settings, params, keys, seeds = jax.device_put(
            (settings, params, keys, seed.astype(np.int32)), self.programs.rows
        )
        return (settings, keys, seeds), params

    def _anywhere(self, g: int, rows: int) -> np.ndarray:
        """Trainings of a group for which a program can be compiled and tried."""
        seeds = len(self.plan.seeds)
        return np.resize((np.asarray(self.plan.groups[g].index)[:, None] * seeds + np.arange(seeds)).ravel(), rows)

    def _filled(self, like: Any, kept: list[np.ndarray], rows: int) -> Any:
        """A carry from the host, in the form of `like`."""
        leaves, structure = jax.tree.flatten(like)
        places = np.minimum(np.arange(rows), len(kept[0]) - 1)

        def back(form: jax.Array, data: np.ndarray) -> jax.Array:
            if jnp.issubdtype(form.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(jnp.asarray(data[places]), impl=jax.random.key_impl(form))
            return jnp.asarray(data[places], form.dtype)

        carry = jax.tree.unflatten(structure, [back(*pair) for pair in zip(leaves, kept, strict=True)])
        return jax.device_put(carry, self.programs.rows)
