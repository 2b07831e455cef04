"""The compiled program of a chunk: so many trainings of one structure, side by side on every device."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .task import Task
from .training import Carry, Data, Training

AXIS = "settings"


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A compiled chunk.

    Fields:
      rows: the trainings of a chunk, on all devices together.
      start: `start(settings, params) -> carry`.
      segment: `segment(carry, settings, keys, seeds, data, valid, t1, measured) -> (carry, metrics)` takes the steps
        from where the data begin to t1, and measures then if `measured`. It uses up the carry.
      carry: the carry's form, with shapes and dtypes.
      bytes: what one device holds at most while it runs, without the data.
      data_bytes: the training batches and the validation set on one device.
      seconds: what the compilation took.
    """

    rows: int
    start: Callable[..., Carry]
    segment: Callable[..., tuple[Carry, dict[str, jax.Array]]]
    carry: Any
    bytes: int
    data_bytes: int
    seconds: float


@jax.jit
def take(tree: Any, rows: jax.Array) -> Any:
    """These rows of every array."""
    return jax.tree.map(lambda x: x[rows], tree)


class Programs:
    """The programs of a task on a mesh of devices, each compiled when it is first needed."""

    def __init__(self, task: Task, devices: list[Any]) -> None:
        self.task = task
        self.training = Training(task)
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.rows = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.first_params = jax.jit(self.training.first_params)
        self.tuned: dict[Any, int] = {}  # the best size of a chunk, by the structure of the settings
        self.sizes: dict[Any, set[int]] = {}  # the rows of the programs, by the structure of the settings
        self.seen: dict[Program, float] = {}  # the seconds of a step of one training, where they were measured
        self._compiled: dict[Any, Program] = {}

    @property
    def devices(self) -> int:
        return self.mesh.size

    def get(self, rows: tuple[Any, Any, Any, Any], data: Data, valid: Any) -> Program:
        """The program for chunks of this form: `rows` are the settings, first parameters, keys and seeds."""
        forms = jax.tree.map(lambda x: (x.shape, x.dtype), (rows, data))
        leaves, structure = jax.tree.flatten(forms, is_leaf=lambda x: isinstance(x, tuple) and len(x) == 2)
        key = (structure, *map(repr, leaves))
        if key not in self._compiled:
            self._compiled[key] = program = self._compile(*rows, data, valid)
            self.sizes.setdefault(jax.tree.structure(rows[0]), set()).add(program.rows)
        return self._compiled[key]

    def _compile(
        self, settings: Any, params: Any, keys: jax.Array, seeds: jax.Array, data: Data, valid: Any
    ) -> Program:
        begin = time.perf_counter()
        rows, whole = PartitionSpec(AXIS), PartitionSpec()
        start = self._on_every_device(jax.vmap(self.training.start), (rows, rows), rows)
        started = jax.jit(start).lower(settings, params).compile()
        carry = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.rows),
            jax.eval_shape(start, settings, params),
        )
        segment = self._on_every_device(
            self._segment, (rows, rows, rows, rows, whole, whole, whole, whole), (rows, rows)
        )
        number = jax.ShapeDtypeStruct((), jnp.int32, sharding=self.everywhere)
        truth = jax.ShapeDtypeStruct((), jnp.bool_, sharding=self.everywhere)
        lowered = jax.jit(segment, donate_argnums=0).lower(carry, settings, keys, seeds, data, valid, number, truth)
        compiled = lowered.compile()
        data_bytes = sum(x.nbytes for x in jax.tree.leaves((data, valid)))
        return Program(
            rows=keys.shape[0],
            start=started,
            segment=compiled,
            carry=carry,
            bytes=_peak_bytes(compiled) - data_bytes,
            data_bytes=data_bytes,
            seconds=time.perf_counter() - begin,
        )

    def _segment(
        self, carry: Carry, settings: Any, keys: jax.Array, seeds: Any, data: Data, valid: Any, t1: Any, measured: Any
    ) -> tuple[Carry, dict[str, jax.Array]]:
        step = jax.vmap(self.training.step, in_axes=(0, 0, 0, 0, None, None))
        measure = jax.vmap(self.training.measure, in_axes=(0, None, None))

        def body(t: jax.Array, carry: Carry) -> Carry:
            return step(carry, settings, keys, seeds, data, t)

        def nothing(carry: Carry) -> tuple[Carry, dict[str, jax.Array]]:
            return carry, {name: jnp.full(len(keys), jnp.nan) for name in self.task.metrics}

        # The bounds are data: one program serves windows, rungs and whatever is left at the end.
        carry = lax.fori_loop(data.begin, t1, body, carry)
        return lax.cond(measured, lambda carry: measure(carry, valid, t1 - 1), nothing, carry)

    def _on_every_device(self, function: Callable[..., Any], ins: Any, outs: Any) -> Callable[..., Any]:
        """Each device runs the function on its rows: nothing is sent between them."""
        if self.devices == 1:
            return function
        if hasattr(jax, "shard_map"):
            return jax.shard_map(function, mesh=self.mesh, in_specs=ins, out_specs=outs, check_vma=False)
        from jax.experimental.shard_map import shard_map

        return shard_map(function, mesh=self.mesh, in_specs=ins, out_specs=outs, check_rep=False)


def _peak_bytes(compiled: Any) -> int:
    """What the compiler says that one device holds: the arguments, the results and what lies between them."""
    analysis = compiled.memory_analysis()
    if analysis is None:  # a backend that does not say
        return 0
    return int(
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
    )
