"""Optimizer states as nested pytrees: a walk through all nodes, and the hyperparameters in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
from jax import Array
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from .._errors import FieldError

Path = tuple[Any, ...]
Class = TypeVar("Class", bound=type)


def children(node: Any) -> tuple[list[tuple[Path, Any]], Callable[[list[Any]], Any]]:
    """The children of a pytree node, each with its key, and the function that rebuilds the node."""
    parts, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    return parts, structure.unflatten


def walk(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every node of an optimizer state with its path, outermost first."""
    yield path, node
    if not jax.tree_util.all_leaves([node]):
        for keys, child in children(node)[0]:
            yield from walk(child, (*path, *keys))


def _label(path: Path, kinds: tuple[type, ...]) -> str:
    """The keys of these kinds as text."""
    attributes = {DictKey: "key", SequenceKey: "idx", GetAttrKey: "name"}
    return "/".join(str(getattr(key, attributes[type(key)])) for key in path if type(key) in kinds)


# From short to complete: the names that users gave, then the places in chains, then all keys.
LABELS: tuple[Callable[[Path], str], ...] = tuple(
    functools.partial(_label, kinds=kinds)
    for kinds in ((DictKey,), (DictKey, SequenceKey), (DictKey, SequenceKey, GetAttrKey))
)

_STATES: list[Any] = []


def shows_hyperparams(cls: Class) -> Class:
    """Registers a NamedTuple state with a property `hyperparams`, which is then recognized by its fields alone too."""
    _STATES.append(cls)
    return cls


def _hyperparams(node: Any) -> dict[str, Any]:
    """The hyperparameters that a node itself contains."""
    if isinstance(node, Mapping):  # nnx.State keeps the fields of a NamedTuple and not its class
        for cls in _STATES:  # what is None or empty has no entry
            if set(node) <= set(cls._fields) and set(cls._fields) - set(node) <= {"base_learning_rate", "inner_state"}:
                return cls(**{name: node.get(name) for name in cls._fields}).hyperparams
        found = node.get("hyperparams")
    else:
        found = getattr(node, "hyperparams", None)
    return dict(found) if isinstance(found, Mapping) else {}


def _restored(path: Path) -> Path:
    """A path through dicts with the keys that it has through NamedTuples and tuples."""

    def restore(key: Any) -> Any:
        name = getattr(key, "key", None)
        if isinstance(name, int):
            return SequenceKey(name)
        return GetAttrKey(name) if isinstance(name, str) and name.endswith(("state", "states")) else key

    return tuple(map(restore, path))


def current_hyperparams(opt_state: Any) -> dict[str, Array]:
    """Return the current rates, momenta and decays by name, from any optimizer state.

    It reads the states of `inject_hyperparams` (Optax's or ours) and of the listeners: the values used by the last
    update, or by the next one if a metric was observed since. Those of a group are called "head/learning_rate". If a
    name would stand for two values, the place in the chain is added: "0/learning_rate". Stages that scale one after the
    other (a plateau's "scale", the "guard_scale", a rate) are shown each; the update is scaled by their product.

    Args:
      opt_state: any optimizer state, an `nnx.Optimizer`'s state too; under `vmap` its values have an axis.

    Returns:
      A dict of scalars.

    Raises:
      ValueError: if the state contains none: the rate of a plain `optax.adam(schedule)` is not in its state.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> sgd = js.inject_hyperparams(optax.sgd)
      >>> state = sgd(learning_rate=js.Linear(0.1, 0.0, 100), momentum=0.9).init(jnp.zeros(3))
      >>> {name: round(float(value), 3) for name, value in js.current_hyperparams(state).items()}
      {'learning_rate': 0.1, 'momentum': 0.9}

    References:
      `optimizer.param_groups` of torch.
    """
    is_dict = isinstance(opt_state, Mapping)
    nodes = [(_restored(path) if is_dict else path, node) for path, node in walk(opt_state)]
    nodes = [(path, node) for path, node in nodes if is_dict or isinstance(node, tuple)]
    found = [(path, *item) for path, node in nodes for item in _hyperparams(node).items()]
    if not found:
        instead = "write jaxsched.inject_hyperparams(optax.adam)(learning_rate=schedule): its state has the rate"
        note = " contains no hyperparameters"
        raise FieldError("current_hyperparams", "opt_state", type(opt_state), instead, note=note)
    found = [one for one in found if not any(_overrides(other, one) for other in found)]
    names = [[f"{label(path)}/{name}".removeprefix("/") for label in LABELS] for path, name, _ in found]
    result = {}
    for i, (levels, (_, _, value)) in enumerate(zip(names, found, strict=True)):
        others = [other for j, other in enumerate(names) if j != i]
        unique = (full for level, full in enumerate(levels) if all(full != other[level] for other in others))
        (result[next(unique, levels[-1])],) = jax.tree.leaves(value)  # Flax NNX boxes its arrays
    return result


def _overrides(inner: tuple[Path, str, Any], outer: tuple[Path, str, Any]) -> bool:
    """Whether the inner value replaces the outer one, as a plateau's rate replaces the injected schedule's."""
    (path, name, _), (around, other, _) = inner, outer
    return name == other and path != around and path[: len(around)] == around and LABELS[0](path) == LABELS[0](around)
