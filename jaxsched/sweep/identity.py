"""What a sweep is, in a few lines that can be compared: two runs of one identity compute the same numbers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax

from ..schedules.base import Schedule
from ..version import __version__
from .task import Task

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_IDLE_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count")  # they change no number


def identity(
    task: Task, groups: Sequence[Any], steps: int, seeds: Sequence[int], key: jax.Array, log_every: int, chunk: Any,
    prune: Any = None, **others: str | int,
) -> dict[str, str | int | list[Any]]:  # fmt: skip
    """The identity of a sweep: flat, JSON-able, in words with checksums, and the same in every process that runs it.

    The functions of the task stand in it as the programs that JAX traces from them, so a comment or a name may change
    and a constant may not. Of batches from Python code the first is known, and of a callback that it is one.

    Args:
      task: a `Task`.
      groups: the settings by structure, each with `settings`, stacked on axis 0, and `index`, their places.
      steps, seeds, log_every: as the sweep has them.
      key: the random key of the sweep.
      chunk, prune: as the user wrote them.
      others: more entries, as they are.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, optax
      >>> from types import SimpleNamespace as Group
      >>> import jaxsched as js
      >>> from jaxsched.sweep.identity import difference, identity
      >>> x = np.linspace(-1.0, 1.0, 40, dtype=np.float32)
      >>> def loss(slope, batch, key):
      ...     return jnp.mean((slope * batch[0] - batch[1]) ** 2), {}
      >>> task = js.Task(lambda key: jnp.zeros(()), loss, (x, 2 * x), (x, 2 * x), batch_size=8, optimizer=optax.sgd)
      >>> groups = [Group(settings=js.stack(js.Constant(0.1), js.Constant(0.2)), index=[0, 1])]
      >>> one = identity(task, groups, 20, [0, 1], jax.random.key(0), 5, "auto")
      >>> one["steps"], one["settings"].split(",")[0]
      (20, '2 of Constant')
      >>> difference(one, identity(task, groups, 20, [1, 0], jax.random.key(0), 5, "auto"))
      'seeds: [0, 1] then, [1, 0] now'
    """
    params = jax.eval_shape(task.init, key)

    def losses(params: Any, train: Any, valid: Any, key: jax.Array) -> Any:
        # With the gradient, because a custom one may change alone.
        return jax.value_and_grad(task.loss, has_aux=True)(params, train, key), task.loss(params, valid, None)

    return {
        "init": f"{_numbers(params)} parameters, {_program(task.init, key)}",
        "loss": _program(losses, params, _abstract(task.batch), _abstract(task.valid), key),
        "optimizer": [_program(_update(task), _abstract_row(group.settings), params) for group in groups],
        "train": f"batches from Python code, the first {_data_text(task.batch)}"
        if task.host
        else _data_text(task.train),
        "valid": _data_text(task.valid),
        "batch_size": "that of the batches" if task.batch_size is None else int(task.batch_size),
        "settings": "; ".join(map(_group_text, groups)),
        "seeds": [int(seed) for seed in seeds],
        "key": [str(jax.random.key_impl(key)), *np.asarray(jax.random.key_data(key)).ravel().tolist()],
        "steps": int(steps),
        "log_every": int(log_every),
        "chunk": chunk if isinstance(chunk, (int, str)) else repr(chunk),
        "prune": _ADDRESS.sub("", repr(prune)),
        **others,
        **_versions(),
    }


def difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two identities, item by item; empty if nothing does."""
    names = [*now, *(name for name in then if name not in now)]
    return "; ".join(
        f"{name}: {_said(then.get(name))} then, {_said(now.get(name))} now"
        for name in names
        if then.get(name) != now.get(name)
    )


def _said(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(x, str) for x in value):
        return " + ".join(value)
    return "none" if value is None else str(value)


def _versions() -> dict[str, str]:
    device = jax.devices()[0]
    config: Any = jax.config
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_IDLE_FLAGS)]
    return {
        "jaxsched": __version__,
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax", "numpy")},
        "python": ".".join(platform.python_version_tuple()[:2]),
        "device": f"{device.platform} ({device.device_kind})",
        "x64": str(config.jax_enable_x64),
        "matmul_precision": str(config.jax_default_matmul_precision),
        "threefry_partitionable": str(config.jax_threefry_partitionable),
        "XLA_FLAGS": " ".join(sorted(flags)) or "none",
    }


# --- data and settings -----------------------------------------------------------------------------------------------


def _data_text(data: Any) -> str:
    leaves, structure = jax.tree.flatten(data)
    forms = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    return f"{forms}, {_checksum(structure, *leaves)}"


def _group_text(group: Any) -> str:
    kinds = [type(x).__name__ for x in jax.tree.leaves(group.settings, is_leaf=lambda x: isinstance(x, Schedule))]
    count = len(group.index)
    places = np.asarray(group.index, np.int64)
    return f"{count} of {' + '.join(kinds)}, {_checksum(jax.tree.structure(group.settings), places, group.settings)}"


def _numbers(params: Any) -> int:
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))


def _checksum(structure: Any, *data: Any) -> str:
    """Of the structure, and of the dtypes, shapes and bytes of all arrays."""
    digest = hashlib.sha256(_ADDRESS.sub("", str(structure)).encode())
    for leaf in jax.tree.leaves(data):
        _feed(digest, leaf)
    return f"sha256 {digest.hexdigest()[:16]}"


def _feed(digest: Any, x: Any) -> None:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    array = np.ascontiguousarray(x)
    digest.update(f"{array.dtype}{np.shape(x)}".encode())
    digest.update(array.reshape(-1).view(np.uint8) if array.size else b"")


# --- programs --------------------------------------------------------------------------------------------------------


def _abstract(tree: Any) -> Any:
    """The form of the arrays, with the dtypes that JAX computes with."""
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, tree))


def _abstract_row(stacked: Any) -> Any:
    """The form of one setting of a group."""
    return jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), jax.tree.map(jnp.asarray, stacked))


def _update(task: Task) -> Any:
    def update(setting: Any, params: Any, grads: Any, loss: jax.Array) -> Any:
        optimizer = optax.with_extra_args_support(task.optimizer(setting))
        updates, state = optimizer.update(grads, optimizer.init(params), params, value=loss)
        return optax.apply_updates(params, updates), state

    return lambda setting, params: update(setting, params, params, jnp.zeros(()))


def _program(function: Any, *args: Any) -> str:
    """The traced function as the number of its operations and a checksum of all of it."""
    closed, out = jax.make_jaxpr(function, return_shape=True)(*args)
    writer = _Writer()
    writer.digest.update(_ADDRESS.sub("", str(jax.tree.structure(out))).encode())
    writer.write(closed)
    return f"{writer.count} operations, sha256 {writer.digest.hexdigest()[:16]}"


class _Writer:
    """Feeds a program to a checksum, in a text that is the same in every process.

    JAX's own text will not do: it leaves out the values of arrays, shows addresses, and names a function that is
    called twice once or twice, as its caches had it.
    """

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.count = 0

    def say(self, *words: Any) -> None:
        self.digest.update((" ".join(map(str, words)) + "\n").encode())

    def write(self, program: Any) -> None:
        consts, jaxpr = getattr(program, "consts", ()), getattr(program, "jaxpr", program)
        names: dict[Any, int] = {}

        def atom(x: Any) -> str:
            if isinstance(x, jax.extend.core.Literal):
                _feed(self.digest, x.val)
                return "value"
            return f"{names.setdefault(x, len(names))}:{x.aval}"

        self.say("in", *map(atom, jaxpr.constvars), "/", *map(atom, jaxpr.invars))
        for const in consts:
            _feed(self.digest, const)
        for equation in jaxpr.eqns:
            self.count += 1
            self.say(equation.primitive, *map(atom, equation.invars))
            for name, value in sorted(equation.params.items()):
                if name != "name":  # of a function that is jitted: it may be called anything
                    self.say(name)
                    self.parameter(value)
            self.say("->", *map(atom, equation.outvars))
        self.say("out", *map(atom, jaxpr.outvars))

    def parameter(self, x: Any) -> None:
        if hasattr(x, "eqns"):  # a program inside of the program
            self.write(x)
        elif isinstance(x, (list, tuple)):
            self.say("of", type(x).__name__, len(x))
            for item in x:
                self.parameter(item)
        elif isinstance(x, dict):
            self.parameter(sorted(x.items(), key=repr))
        elif isinstance(x, (set, frozenset)):
            self.parameter(sorted(x, key=repr))
        elif isinstance(x, (np.ndarray, jax.Array)):
            _feed(self.digest, x)
        elif callable(x) or hasattr(x, "call_wrapped"):  # such as a derivative's rule: the gradient has it in full
            self.say(type(x).__name__)
        else:
            self.say(_ADDRESS.sub("", repr(x)))
