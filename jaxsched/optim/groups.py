"""Groups of parameters, named by patterns over their paths, each with a schedule of its own."""

from __future__ import annotations

import collections
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from .._errors import format_value
from ..fields import Domain, validate
from ..schedules.base import Schedule, as_schedule
from .hyperparams import inject_hyperparams

LAYER_DECAY = Domain("a number above 0 and at most 1, such as 0.75", lambda x: (x > 0) & (x <= 1))


def _last_stage(schedule: Any) -> optax.GradientTransformationExtraArgs:
    return inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=schedule)


def by_path(
    groups: Mapping[str, Any], optimizer: Callable[[Any], optax.GradientTransformation] | None = None
) -> optax.GradientTransformationExtraArgs:
    """Groups of parameters by the patterns that their paths fit, each with its own schedule, optimizer, or none.

    By default it is the last stage of a chain, as `optax.scale_by_learning_rate` is:
    `optax.chain(optax.scale_by_adam(), by_path({...}))`. With `optimizer` it is the whole, and frozen parameters then
    have no moments.

    A path is the keys, attributes and indices that lead to a parameter, joined by "/": "head/layers/0/kernel". In a
    pattern `*` is any text within one of its parts and `**` any number of parts; the first pattern that fits has the
    parameter. A "params" around all (Linen) and a "value" at the end (NNX) need not be written.

    Fields:
      groups: pattern -> a schedule, a callable or a number, from which `optimizer` makes a transformation; a
        transformation; or None, which freezes.
      optimizer: schedule -> transformation; a number comes as a `Constant`. None:
        `inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=schedule)`.

    The group of "head/**" is called "head" (another pattern is its own name): `current_hyperparams` shows
    "head/learning_rate", and `observe(..., name="head")` tells its listener.

    Errors: TypeError and ValueError for what is no group. `init` raises ValueError for a pattern that fits no
    parameter, or none that the patterns before it left, and for a parameter that no pattern fits.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> s = js.WarmupCosine(peak_value=1e-3, warmup_steps=10, total_steps=100)
      >>> groups = {"backbone/**": s * 0.1, "head/**": s, "embed/**": None}
      >>> optimizer = js.by_path(groups, lambda s: js.inject_hyperparams(optax.sgd)(learning_rate=s))
      >>> params = {name: {"kernel": jnp.ones(2)} for name in ("embed", "backbone", "head")}
      >>> state = optimizer.init(params)
      >>> for step in range(6):
      ...     updates, state = optimizer.update(params, state, params)
      >>> {name: round(float(x), 6) for name, x in js.current_hyperparams(state).items()}
      {'backbone/learning_rate': 5e-05, 'head/learning_rate': 0.0005}
      >>> updates["embed"]["kernel"].tolist()
      [0.0, 0.0]

    Source: torch's parameter groups, on `optax.partition`.
    """
    if optimizer is not None and not callable(optimizer):
        hint = "write a function of the schedule, such as lambda s: inject_hyperparams(optax.adam)(learning_rate=s)"
        raise TypeError(f"by_path: optimizer is a {type(optimizer).__name__}; {hint}.")
    names = _names(groups)
    stages: dict[Any, optax.GradientTransformation] = {
        names[pattern]: _stage(pattern, x, optimizer or _last_stage) for pattern, x in groups.items()
    }
    forms = {pattern: _compiled(pattern) for pattern in groups}

    def first_fit(path: Any) -> str | None:
        return next((pattern for pattern, form in forms.items() if _fits(form, path)), None)

    def label(path: Any, leaf: Any) -> str:
        del leaf  # the place decides, whatever stands there
        pattern = first_fit(path)
        if pattern is None:
            text = _text(path)
            raise ValueError(f"by_path: no pattern fits the parameter {text!r}; add one, or '**' for all that is left.")
        return names[pattern]

    def labels(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(label, tree)

    parts = optax.transforms.partition(stages, labels)  # of its two names the one that every version has

    def init(params: Any) -> Any:
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        used = set(map(first_fit, paths))
        for pattern, form in forms.items():
            if pattern not in used:
                raise ValueError(_useless(pattern, form, paths))
        return parts.init(params)

    return optax.GradientTransformationExtraArgs(init, parts.update)


def _names(groups: Mapping[str, Any]) -> dict[str, str]:
    """What each group is called: its pattern, without the "/**" at the end where that is enough to tell it."""
    if not (isinstance(groups, Mapping) and groups):
        kind = ValueError if isinstance(groups, Mapping) else TypeError
        raise kind(f"by_path: groups={format_value(groups)}; write a dict such as {{'head/**': schedule, '**': None}}.")
    for pattern in groups:
        if not isinstance(pattern, str):
            raise TypeError(f"by_path: {format_value(pattern)} is no pattern; write a path such as 'head/**'.")
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
    """The pattern, for a text in which every part of the path ends with "/"."""
    parts = (
        "(?:[^/]*/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") + "/" for part in pattern.split("/")
    )
    return re.compile("".join(parts), re.DOTALL)


def _fits(form: re.Pattern[str], path: Any) -> bool:
    """Whether the path fits, with or without the boxes that Flax puts around all parameters and around each."""
    keys = [_text((key,)) for key in path]
    ways = [keys]
    ways += [way[1:] for way in ways if way[:1] == ["params"]]
    ways += [way[:-1] for way in ways if path and path[-1] == jax.tree_util.GetAttrKey("value")]
    return any(form.fullmatch("".join(f"{key}/" for key in way)) for way in ways)


def _useless(pattern: str, form: re.Pattern[str], paths: list[Any]) -> str:
    if any(_fits(form, path) for path in paths):
        return f"by_path: the patterns before {pattern!r} fit all that it fits; write it before them."
    if any(_fits(_compiled(f"{pattern}/**"), path) for path in paths):
        return f"by_path: {pattern!r} is no parameter; write '{pattern}/**' for all below it."
    near = difflib.get_close_matches(pattern, map(_text, paths), n=3, cutoff=0.0)
    return f"by_path: {pattern!r} fits no parameter; the nearest are {', '.join(map(repr, near)) or 'none at all'}."


def layerwise(learning_rate: Any, layers: Sequence[str], decay: Any) -> dict[str, Schedule]:
    """The groups of layer-wise decay, for `by_path`: each layer learns slower than the one above it.

    Formula: of n layers, layer i (from 0, the input) has the rate `s(t) decay^(n - 1 - i)`; the last has `s(t)`.

    Fields:
      learning_rate: the rate of the last layer: a schedule, a callable or a number.
      layers: the layers from the input to the output, each a pattern, or a path, which means all below it too.
      decay: the factor from one layer to the one before it, above 0 and at most 1.

    Errors: TypeError for layers that are no list of patterns; ValueError for none, for one that is there twice, and
    for a decay that is not in its range.

    Example:
      >>> import jaxsched as js
      >>> js.layerwise(js.Linear(1e-3, 0.0, 100), ["embed", "block", "head"], decay=0.5)["embed/**"]
      Linear(init_value=0.001, end_value=0.0, steps=100) * 0.25
      >>> optimizer = js.by_path({"**/scale": None} | js.layerwise(1e-3, ["embed", "block_*/**", "head"], decay=0.5))

    Source: ULMFiT's discriminative fine-tuning (1801.06146); ELECTRA's and BEiT's layer decay.
    """
    if not isinstance(layers, (list, tuple)) or not all(isinstance(layer, str) for layer in layers):
        raise TypeError(f"layerwise: layers={format_value(layers)}; layers must be a list of paths.")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(
            f"layerwise: layers={format_value(layers)}; write each layer once, from the input to the output."
        )
    decay = validate("layerwise", "decay", decay, LAYER_DECAY)
    last = as_schedule("layerwise", "learning_rate", learning_rate)
    below = range(len(layers) - 1, -1, -1)
    patterns = [layer if "*" in layer else f"{layer}/**" for layer in layers]
    return {pattern: last * decay**n if n else last for pattern, n in zip(patterns, below, strict=True)}
