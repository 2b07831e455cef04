"""Chunks of trainings, and how they come to the devices and back."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .data import Feed
from .program import Program, Programs

if TYPE_CHECKING:
    from .engine import Plan

_FED_BYTES = 64 * 2**20
"""The batches from the host for one segment take no more than this on a device."""


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
      arguments, carry, feed: the settings and keys, the carry, and the batches of the host, while it runs.
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
        self.fed = 0  # the batches of a segment that come from the host
        if plan.task.host:
            first = plan.task.train.first
            size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(first))
            self.fed = max(1, min(plan.log_every, _FED_BYTES // max(1, size)))
            self.train = self._put(jax.tree.map(lambda x: np.stack([x] * self.fed), first))
        else:
            self.train = self._put(plan.task.train)
        self._known: dict[tuple[int, int], Program] = {}
        begin = time.perf_counter()
        self.params = jax.block_until_ready(programs.first_params(self.keys))
        self.compile_seconds = time.perf_counter() - begin

    def program(self, g: int, rows: int) -> Program:
        """The program of a group for chunks of so many rows, compiled if it is not yet."""
        if (g, rows) not in self._known:
            (settings, keys), params = self._arguments(g, self._anywhere(g, rows))
            begin = time.perf_counter()
            self._known[g, rows] = self.programs.get(settings, params, keys, self.train, self.valid)
            self.compile_seconds += time.perf_counter() - begin
        return self._known[g, rows]

    def known_rows(self, g: int) -> list[int]:
        """The sizes for which a group has a program already."""
        return sorted(rows for h, rows in self._known if h == g)

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
        train = self.train if chunk.feed is None else self._batches(chunk.feed.take(t1 - chunk.t))
        numbers = (np.int32(chunk.t), np.int32(t1), np.bool_(ends))
        chunk.carry, metrics = program.segment(chunk.carry, *chunk.arguments, train, self.valid, *numbers)
        # Copies: the next segment uses up the carry, and writes where these would look.
        lost = np.array(chunk.carry.diverged_at)[:n]
        if not ends:
            return None, lost
        measured = {name: np.array(x)[:n] for name, x in metrics.items()}
        return {
            name: x / x.dtype.type(window if name.startswith("train_") else 1) for name, x in measured.items()
        }, lost

    def cost(self, g: int, rows: int, least: float) -> float:
        """The seconds of one step of a chunk, tried for `least` seconds or more on trainings that are thrown away."""
        program = self.program(g, rows)
        arguments, params = self._arguments(g, self._anywhere(g, rows))
        carry, steps = program.start(arguments[0], params), 1
        while True:
            begin = time.perf_counter()
            numbers = (np.int32(0), np.int32(steps), np.bool_(False))
            carry, _ = program.segment(carry, *arguments, self.train, self.valid, *numbers)
            jax.block_until_ready(carry)
            seconds = time.perf_counter() - begin
            if seconds > least or steps == self.fed:
                return seconds / steps
            steps = min(4 * steps, self.fed or 4 * steps)

    def _put(self, tree: Any) -> Any:
        return jax.device_put(jax.tree.map(jnp.asarray, tree), self.programs.everywhere)

    def _arguments(self, g: int, places: np.ndarray) -> tuple[Any, Any]:
        """The settings and keys of trainings, and the parameters that they start from."""
        setting, seed = np.divmod(places, len(self.plan.seeds))
        at = self.place_of[setting]
        settings = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[at]), self.plan.groups[g].settings)
        params, keys = self.programs.take((self.params, self.keys), seed)
        settings, params, keys = jax.device_put((settings, params, keys), self.programs.rows)
        return (settings, keys), params

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

    def _batches(self, batches: Any) -> Any:
        """Batches from the host, filled up with zeros to the number that the program takes."""

        def filled(x: np.ndarray) -> np.ndarray:
            short = self.fed - len(x)
            return np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)]) if short else x

        return jax.device_put(jax.tree.map(filled, batches), self.programs.everywhere)
