"""Groups of parameters, named by patterns over their paths, each with a schedule of its own."""

from __future__ import annotations

import collections
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from .._errors import FieldError, FieldTypeError
from ..fields import Domain, validate
from ..schedules.base import Schedule, as_schedule
from .hyperparams import inject_hyperparams

LAYER_DECAY = Domain("a number above 0 and at most 1, such as 0.75", lambda x: (x > 0) & (x <= 1))


def by_path(
    groups: Mapping[str, Any], optimizer: Callable[[Any], optax.GradientTransformation] | None = None
) -> optax.GradientTransformationExtraArgs:
    """Give groups of parameters, selected by patterns, their own schedules or optimizers.

    A group can be frozen too. By default it is the last stage of a chain, like `optax.scale_by_learning_rate`:
    `optax.chain(optax.scale_by_adam(), by_path({...}))`. With `optimizer` it is the whole optimizer, and frozen
    parameters have no moments.

    The path of a parameter is its keys, attributes and indices, joined by "/": "head/layers/0/kernel". In a pattern `*`
    matches any text within one part, `**` any number of parts; the first pattern that matches a parameter applies. A
    "params" around all parameters (Linen) and a "value" at the end (NNX) can be omitted.

    Args:
      groups: pattern -> a schedule, a callable or a number, from which `optimizer` makes a transformation; a
        transformation; or None, which freezes the parameters.
      optimizer: a function schedule -> transformation; it receives a number as a `Constant`. None:
        `inject_hyperparams(optax.scale_by_learning_rate)`.

    Returns:
      The transformation. The group of "head/**" is called "head" (other patterns are names themselves):
      `current_hyperparams` shows "head/learning_rate", and `observe(..., name="head")` notifies its listener.

    Raises:
      ValueError, TypeError: if `groups` is not a dict of groups. `init` raises ValueError if a pattern matches no
        parameter, or only those of earlier patterns, and if no pattern matches a parameter.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> s = js.WarmupCosine(peak_value=1e-3, warmup_steps=10, total_steps=100)
      >>> groups = {"backbone/**": s * 0.1, "head/**": s, "embed/**": None}
      >>> optimizer = js.by_path(groups, js.inject_hyperparams(optax.sgd))
      >>> params = {name: {"kernel": jnp.ones(2)} for name in ("embed", "backbone", "head")}
      >>> state = optimizer.init(params)
      >>> for step in range(6):
      ...     updates, state = optimizer.update(params, state, params)
      >>> {name: round(float(x), 6) for name, x in js.current_hyperparams(state).items()}
      {'backbone/learning_rate': 5e-05, 'head/learning_rate': 0.0005}
      >>> updates["embed"]["kernel"].tolist()
      [0.0, 0.0]

    References:
      The parameter groups of torch; `optax.partition`.
    """
    optimizer = inject_hyperparams(optax.scale_by_learning_rate) if optimizer is None else optimizer
    if not callable(optimizer):
        instead = "write a function of the schedule, such as inject_hyperparams(optax.adam)"
        raise FieldTypeError("by_path", "optimizer", optimizer, instead)
    names = _names(groups)
    stages: dict[Any, optax.GradientTransformation] = {
        names[pattern]: _stage(pattern, x, optimizer) for pattern, x in groups.items()
    }
    compiled = {pattern: _compiled(pattern) for pattern in groups}

    def first_match(path: Any) -> str | None:
        return next((pattern for pattern, regex in compiled.items() if _matches(regex, path)), None)

    def label(path: Any, leaf: Any) -> str:
        del leaf  # only the path matters
        pattern = first_match(path)
        if pattern is None:
            instead, note = "add one, or '**' for all others", f" matches no parameter {_text(path)!r}"
            raise FieldError("by_path", "groups", list(groups), instead, note=note)
        return names[pattern]

    def labels(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(label, tree)

    parts = optax.transforms.partition(stages, labels)  # the name in every version of Optax

    def init(params: Any) -> Any:
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        used = set(map(first_match, paths))
        for pattern, regex in compiled.items():
            if pattern not in used:
                raise FieldError("by_path", f"groups[{pattern!r}]", groups[pattern], _unused(pattern, regex, paths))
        return parts.init(params)

    return optax.GradientTransformationExtraArgs(init, parts.update)


def _names(groups: Mapping[str, Any]) -> dict[str, str]:
    """The names of the groups: their patterns, without a final "/**" if that is unique."""
    if not (isinstance(groups, Mapping) and groups):
        kind = FieldError if isinstance(groups, Mapping) else FieldTypeError
        raise kind("by_path", "groups", groups, "write a dict such as {'head/**': schedule, '**': None}")
    for pattern in groups:
        if not isinstance(pattern, str):
            note = f", and {pattern!r} is not a pattern"
            raise FieldTypeError("by_path", "groups", groups, "write a path such as 'head/**'", note=note)
    short = {pattern: pattern.removesuffix("/**") for pattern in groups}
    times = collections.Counter(short.values())
    return {pattern: name if times[name] == 1 else pattern for pattern, name in short.items()}


def _stage(pattern: str, value: Any, optimizer: Callable[[Any], Any]) -> optax.GradientTransformation:
    if value is None:
        return optax.set_to_zero()
    if isinstance(value, optax.GradientTransformation):
        return value
    return optimizer(as_schedule("by_path", f"groups[{pattern!r}]", value))


def _text(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern, for a text in which each part of a path ends with "/"."""
    parts = (
        "(?:[^/]*/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") + "/" for part in pattern.split("/")
    )
    return re.compile("".join(parts), re.DOTALL)


def _matches(regex: re.Pattern[str], path: Any) -> bool:
    """Whether a path matches, with or without the names that Flax adds at its start and its end."""
    variants = [[_text((key,)) for key in path]]
    variants += [keys[1:] for keys in variants if keys[:1] == ["params"]]
    variants += [keys[:-1] for keys in variants if path and path[-1] == jax.tree_util.GetAttrKey("value")]
    return any(regex.fullmatch("".join(f"{key}/" for key in keys)) for keys in variants)


def _unused(pattern: str, regex: re.Pattern[str], paths: list[Any]) -> str:
    """What to write instead of a pattern that applies to no parameter."""
    if any(_matches(regex, path) for path in paths):
        return "earlier patterns match all of its parameters: write it before them"
    if any(_matches(_compiled(f"{pattern}/**"), path) for path in paths):
        return f"it is not a parameter: write '{pattern}/**' for all below it"
    near = difflib.get_close_matches(pattern, map(_text, paths), n=3, cutoff=0.0)
    return f"no parameter matches; the nearest are {', '.join(map(repr, near)) or 'none'}"


def layerwise(learning_rate: Any, layers: Sequence[str], decay: Any) -> dict[str, Schedule]:
    """Return groups for `by_path` in which each layer has a smaller rate than the next one.

    Layer i of n, from 0 (the input), has the rate `s(t) decay^(n - 1 - i)`; the last one has `s(t)`.

    Args:
      learning_rate: the rate of the last layer: a schedule, a callable or a number.
      layers: the layers from input to output: patterns, or paths, which include everything below them.
      decay: the factor from one layer to the one before it, above 0 and at most 1.

    Returns:
      A dict pattern -> schedule.

    Raises:
      ValueError: if there are no layers, a layer is there twice, or the decay is out of its range.
      TypeError: if the layers are not a list of strings.

    Example:
      >>> import jaxsched as js
      >>> js.layerwise(js.Linear(1e-3, 0.0, 100), ["embed", "block", "head"], decay=0.5)["embed/**"]
      Linear(init_value=0.001, end_value=0.0, steps=100) * 0.25
      >>> optimizer = js.by_path({"**/scale": None} | js.layerwise(1e-3, ["embed", "block_*/**", "head"], decay=0.5))

    References:
      Discriminative fine-tuning of ULMFiT (1801.06146); layer decay of ELECTRA and BEiT.
    """
    if not isinstance(layers, (list, tuple)) or not all(isinstance(layer, str) for layer in layers):
        raise FieldTypeError("layerwise", "layers", layers, "layers must be a list of paths")
    if not layers or len(set(layers)) < len(layers):
        raise FieldError("layerwise", "layers", layers, "write each layer once, from the input to the output")
    decay = validate("layerwise", "decay", decay, LAYER_DECAY)
    last = as_schedule("layerwise", "learning_rate", learning_rate)
    below = range(len(layers) - 1, -1, -1)
    patterns = [layer if "*" in layer else f"{layer}/**" for layer in layers]
    return {pattern: last * decay**n if n else last for pattern, n in zip(patterns, below, strict=True)}
