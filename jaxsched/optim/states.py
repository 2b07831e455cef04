"""Optimizer states as they are nested: a walk through all of them, and what is in force there."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import Array

Path = tuple[Any, ...]


def children(node: Any) -> tuple[list[tuple[Path, Any]], Callable[[list[Any]], Any]]:
    """The parts of a pytree one level down, each with its key, and what puts them together again."""
    parts, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    return parts, structure.unflatten


def walk(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every node of an optimizer state, outermost first, with the keys that lead there."""
    yield path, node
    if not jax.tree_util.all_leaves([node]):
        for keys, child in children(node)[0]:
            yield from walk(child, (*path, *keys))


def _label(path: Path, kinds: tuple[type, ...]) -> str:
    """The path in words: of the keys of these kinds only."""
    said = {
        jax.tree_util.DictKey: operator.attrgetter("key"),
        jax.tree_util.SequenceKey: operator.attrgetter("idx"),
        jax.tree_util.GetAttrKey: operator.attrgetter("name"),
    }
    return "/".join(str(said[type(key)](key)) for key in path if isinstance(key, kinds) and type(key) in said)


# From short to whole: the names that users gave, then the places in chains, then all.
LABELS: tuple[Callable[[Path], str], ...] = tuple(
    functools.partial(_label, kinds=kinds)
    for kinds in (
        (jax.tree_util.DictKey,),
        (jax.tree_util.DictKey, jax.tree_util.SequenceKey),
        (jax.tree_util.DictKey, jax.tree_util.SequenceKey, jax.tree_util.GetAttrKey),
    )
)


def current_hyperparams(opt_state: Any) -> dict[str, Array]:
    """Every rate, momentum and decay now in force, by name, from any nested optimizer state.

    It reads what stands in the state: all that `inject_hyperparams` (Optax's or ours) put there, and the rates of the
    listeners: what the last update was made with, or the next one if a metric was heard since. Those of a group are
    called "head/learning_rate"; where one name would stand for two values, the place in the chain is added:
    "0/learning_rate". Of several stages that scale one after the other (a plateau's "scale", the "guard_scale", a rate)
    each is shown, and the update is their product.

    Fields:
      opt_state: any optimizer state; also one of a `vmap`, whose values then have an axis.

    Errors: ValueError for a state that holds none: the rate of a plain `optax.adam(schedule)` is in no state.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = js.inject_hyperparams(optax.sgd)(learning_rate=js.Linear(0.1, 0.0, 100), momentum=0.9)
      >>> state = optimizer.init(jnp.zeros(3))
      >>> {name: round(float(value), 3) for name, value in js.current_hyperparams(state).items()}
      {'learning_rate': 0.1, 'momentum': 0.9}

    Source: torch's `optimizer.param_groups`.
    """
    found = []
    for path, node in walk(opt_state):
        hyperparams = getattr(node, "hyperparams", None)
        if isinstance(node, tuple) and isinstance(hyperparams, dict):
            found += [(path, name, value) for name, value in hyperparams.items()]
    if not found:
        raise ValueError(
            f"current_hyperparams: this {type(opt_state).__name__} holds none; make the optimizer with "
            "jaxsched.inject_hyperparams(optax.adam)(learning_rate=schedule), which keeps the rate in its state."
        )
    found = [one for one in found if not any(_cuts(other, one) for other in found)]
    named_as = [[f"{label(path)}/{name}".removeprefix("/") for label in LABELS] for path, name, _ in found]
    result = {}
    for i, (names, (_, _, value)) in enumerate(zip(named_as, found, strict=True)):
        others = [other for j, other in enumerate(named_as) if j != i]
        unique = (full for level, full in enumerate(names) if all(full != other[level] for other in others))
        result[next(unique, names[-1])] = value
    return result


def _cuts(inner: tuple[Path, str, Any], outer: tuple[Path, str, Any]) -> bool:
    """Whether one is made from the other, as a plateau's rate is from the injected schedule: the inner is in force."""
    (path, name, _), (around, other, _) = inner, outer
    return name == other and path != around and path[: len(around)] == around and LABELS[0](path) == LABELS[0](around)
