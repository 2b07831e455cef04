"""What the schedules of all other systems share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._errors import UnknownArgumentError, format_value, is_traced, nearest_name
from ..fields import read_annotation
from ..schedules.base import Recipe


class Peer(Recipe, abstract=True):
    """A schedule of another system: its fields are that system's arguments, and `build` says it in the core's words.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.ExponentialLR(lr=0.1, gamma=0.5).build()
      ExponentialDecay(init_value=0.1, decay_rate=0.5, decay_steps=1).shift(steps=0)
    """

    def __init__(self, *args: Any, **fields: Any) -> None:
        for value in (*args, *fields.values()):
            refuse_optimizer(type(self).__name__, value)
        super().__init__(*args, **fields)


def refuse_optimizer(owner: str, value: Any) -> None:
    """Say so if the line was pasted with its optimizer."""
    if hasattr(value, "param_groups"):
        kind = type(value).__name__
        raise TypeError(f"{owner}: the optimizer {kind}(...) is not needed; write its rate in its place: lr=0.1.")


def refuse_ignored(schedule: Any, name: str, peer: str, because: str, default: Any = None) -> None:
    """Refuse the argument `name` that `peer` would ignore without a word; its default stands for not written."""
    value = getattr(schedule, name)
    # Without a number as its default it is structure: there or not. What is traced is not checked.
    written = value is not None if default is None else not is_traced(value) and bool(np.any(value != default))
    if written:
        raise ValueError(f"{type(schedule).__name__}: {name}={format_value(value)} is ignored by {peer}: {because}.")


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


F = TypeVar("F", bound=Callable[..., Any])


def admitted(function: F) -> F:
    """`function`, with its arguments checked as the fields of a schedule are; its name is in the error texts."""
    owner, signature = function.__name__.lstrip("_"), inspect.signature(function, eval_str=True)
    named = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    fields = {name: read_annotation(name, p.annotation, p.default, lambda _: None) for name, p in named.items()}
    is_open = len(named) < len(signature.parameters)

    @functools.wraps(function)
    def checked(*args: Any, **more: Any) -> Any:
        for value in (*args, *more.values()):
            refuse_optimizer(owner, value)
        for name in more:
            if name not in fields and not is_open:
                raise UnknownArgumentError(owner, name, more[name], nearest_name(name, fields))
        try:
            bound = signature.bind(*args, **more)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}; its arguments are {', '.join(fields)}.") from None
        bound.apply_defaults()
        for name, field in fields.items():
            bound.arguments[name] = field.convert(owner, name, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return checked  # type: ignore[return-value]  # functools.wraps keeps the signature, and no type
