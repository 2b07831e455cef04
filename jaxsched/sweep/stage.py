"""Chunks of trainings, and how they come to the devices and back."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .data import Feed
from .program import Program, Programs, take
from .training import Data, training_keys

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
      seeds, orders: the seeds that it has, and the orders of the examples for them in the epochs of its last segment.
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
    seeds: np.ndarray | None = None
    orders: dict[int, jax.Array] = dataclasses.field(default_factory=dict)

    @property
    def places(self) -> np.ndarray:
        """The training in each row."""
        return self.pairs[np.minimum(np.arange(self.rows), len(self.pairs) - 1)]

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
        self.orders = {}


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
        self.keys = training_keys(plan.key, plan.seeds)
        self.valid = self._put(plan.task.valid)
        # The most batches from the host in a segment, or the most epochs that it may touch.
        self.fed = self.epochs = 0
        self._orders: dict[tuple[int, bytes], jax.Array] = {}
        self._lock = threading.Lock()
        if plan.task.host:
            plan.task.train.forget()
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
        self._first: Any = None  # the parameters that the trainings start from, by seed

    def program(self, g: int, rows: int) -> Program:
        """The program of a group for chunks of so many rows, compiled if it is not yet."""
        if (g, rows) not in self._known:
            begin = time.perf_counter()
            if self._first is None:
                self._first = jax.block_until_ready(self.programs.first_params(self.keys))
            trial = Chunk(g, self._anywhere(g, rows), rows)
            self._known[g, rows] = self.programs.get(self._forms(g, rows), self._data(trial, 0), self.valid)
            self.compile_seconds += time.perf_counter() - begin
        return self._known[g, rows]

    def open(self, chunk: Chunk, trial: bool = False) -> Program:
        """Brings a chunk to the devices, where it is not there already: as new, or as it was kept or pooled."""
        program = self.program(chunk.group, chunk.rows)
        if chunk.carry is None:
            chunk.arguments, params = self._arguments(chunk)
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
            if self.fed and not trial:
                chunk.feed = Feed.open(self.plan.task.train, chunk.t)
        return program

    def advance(self, chunk: Chunk, t1: int) -> tuple[dict[str, np.ndarray] | None, np.ndarray]:
        """Takes a chunk that is open to step `t1`: what was measured there, if a window ends, and who has diverged.
        It may run in a thread of its own, for it touches nothing but the chunk."""
        program, plan, n = self.program(chunk.group, chunk.rows), self.plan, len(chunk.pairs)
        ends = t1 % plan.log_every == 0 or t1 == plan.steps
        window = t1 - (t1 - 1) // plan.log_every * plan.log_every
        data = self._data(chunk, chunk.t, chunk.feed.take(t1 - chunk.t) if chunk.feed is not None else None)
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
        chunk, steps, seconds = Chunk(g, self._anywhere(g, rows), rows), 1, 0.0
        self.open(chunk, trial=True)
        while True:
            window = chunk.t - chunk.t % self.plan.log_every + self.plan.log_every
            begin, t1 = time.perf_counter(), min(chunk.t + steps, window, self.limit(chunk.t))
            self.advance(chunk, t1)
            if chunk.t:  # the first step warms up
                seconds += time.perf_counter() - begin
            if seconds > least:
                return seconds / (t1 - 1)
            chunk.t, steps = t1, 4 * steps

    def _data(self, chunk: Chunk, t: int, batches: Any = None) -> Data:
        """What the batches of a chunk from step `t` on are made of; those of the host are filled up with zeros to the
        number that the program takes."""
        begin = np.int32(t)
        if not self.fed:
            return Data(self.train, self._order(chunk, t // self.batches), begin)
        if batches is None:  # only to be tried
            return Data(self.train, None, begin)

        def filled(x: np.ndarray) -> np.ndarray:
            short = self.fed - len(x)
            return np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)]) if short else x

        return Data(jax.device_put(jax.tree.map(filled, batches), self.programs.everywhere), None, begin)

    def _order(self, chunk: Chunk, epoch: int) -> jax.Array:
        """The orders of the examples for the seeds of a chunk, from `epoch` on.

        All settings share them, so those of the first epochs, as many as there is room for, are kept for the other
        chunks: to shuffle for each training by itself takes a quarter of the time of a small one."""
        seeds = self._seeds(chunk)
        room = _FED_BYTES // (4 * len(seeds) * self.plan.task.examples)

        def one(at: int) -> jax.Array:
            if at in chunk.orders:
                return chunk.orders[at]
            with self._lock:
                if (at, seeds.tobytes()) in self._orders:
                    return self._orders[at, seeds.tobytes()]
                made = self.programs.training.orders(self.keys, seeds, np.int32(at))
                made = jax.device_put(made, self.programs.everywhere)
                if len(self._orders) < room:
                    self._orders[at, seeds.tobytes()] = made
                return made

        chunk.orders = {at: one(at) for at in range(epoch, epoch + self.epochs)}
        return jax.device_put(jnp.stack(list(chunk.orders.values()), axis=1), self.programs.everywhere)

    def _seeds(self, chunk: Chunk) -> np.ndarray:
        """The places of the seeds that a chunk has, filled up to as many as any chunk of so many rows may have."""
        if chunk.seeds is None:
            here = np.unique(chunk.places % len(self.plan.seeds)).astype(np.int32)
            chunk.seeds = np.resize(here, min(len(self.plan.seeds), chunk.rows))
            chunk.seeds[len(here) :] = here[-1]
        return chunk.seeds

    def _forms(self, g: int, rows: int) -> tuple[Any, ...]:
        """What the settings, the parameters, the keys and the seeds of a chunk are like on the devices."""
        settings = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[:1]), self.plan.groups[g].settings)
        params = jax.eval_shape(self.programs.training.first_params, self.keys)
        stacked = (settings, params, self.keys, jnp.zeros(1, jnp.int32))

        def form(x: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=self.programs.rows)

        return tuple(jax.tree.map(form, tree) for tree in stacked)

    def _put(self, tree: Any) -> Any:
        tree = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), tree)
        return jax.device_put(tree, self.programs.everywhere)

    def _arguments(self, chunk: Chunk) -> tuple[Any, Any]:
        """The settings, keys and places of the seeds of a chunk, and the parameters that it starts from."""
        setting, seed = np.divmod(chunk.places, len(self.plan.seeds))
        at = self.place_of[setting]
        settings = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[at]), self.plan.groups[chunk.group].settings)
        params, keys = take((self._first, self.keys), seed)
        seeds = np.searchsorted(self._seeds(chunk), seed).astype(np.int32)
        settings, params, keys, seeds = jax.device_put((settings, params, keys, seeds), self.programs.rows)
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
