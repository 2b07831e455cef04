"""What the schedules of all other systems share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..schedules.base import Recipe
from ..schedules.fields import nearest_name, shown


class Peer(Recipe):
    """A schedule of another system: its fields are that system's arguments, and `build` says it in the core's words.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.ExponentialLR(lr=0.1, gamma=0.5).build()
      ExponentialDecay(init_value=0.1, decay_rate=0.5, decay_steps=1)
    """

    def _expression(self) -> str:
        return f"{type(self).__module__.removeprefix('jaxsched.')}.{super()._expression()}"


def refuse_ignored(schedule: Any, name: str, peer: str, because: str, default: Any = None) -> None:
    """Refuse the argument `name` that `peer` would ignore without a word; its default stands for not written."""
    value = getattr(schedule, name)
    if value != default:
        raise ValueError(f"{type(schedule).__name__}: {name}={shown(value)} is ignored by {peer}: {because}.")


def known(owner: str, field: str, name: Any, names: Any) -> Any:
    """`name`, if it is one of `names`; else an error that suggests the nearest one."""
    if name in names:
        return name
    raise ValueError(f"{owner}: {field}={name!r}; {nearest_name(str(name), map(str, names))}")


def on_host(function: Callable[..., int], *args: Any) -> Array:
    """A whole number that `function` makes of numbers in Python's own arithmetic, elementwise, inside of a program."""
    arrays = [lax.stop_gradient(jnp.asarray(x)) for x in args]
    # int32 whatever x64 says: the callback runs on a thread of its own, which may not have been told.
    out = jax.ShapeDtypeStruct(np.broadcast_shapes(*(x.shape for x in arrays)), jnp.int32)

    def run(*xs: Any) -> np.ndarray:
        return np.vectorize(function, otypes=[np.int32])(*(np.asarray(x, np.float64) for x in xs))

    return jax.pure_callback(run, out, *arrays, vmap_method="broadcast_all").astype(jnp.result_type(int))
