"""What a monitor measured, read by parameter and judged in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._errors import format_value, is_traced, nearest_name
from ..fields import Count, NonNegative, Positive
from .listen import settings
from .monitor import MonitorState
from .states import LABELS, walk


class Norms(NamedTuple):
    """What `monitor_gradients` measured of one parameter.

    Fields:
      gradient, update, param: the means of the norms; `update` and `param` are 0 where they are not watched.
      gradient_ratio: the gradient over that of the last layer; NaN for a parameter outside of `layers`.
      update_ratio: the update over the parameter; NaN where they are not watched.
      count: the updates in the means.
      non_finite: the updates that were not finite, which are not in the means.
      start: the parameter's norm when the state was made.
      axes: the number of the parameter's axes.
    """

    gradient: float
    update: float
    param: float
    gradient_ratio: float
    update_ratio: float
    count: int
    non_finite: int
    start: float
    axes: int

    @property
    def is_weight(self) -> bool:
        """Whether it is compared with others: a matrix or a kernel; not a bias, a scale, or what begins at zero."""
        return self.axes >= 2 and self.start > 0


class _Reading(NamedTuple):
    """One monitor: its parameters from input to output, the last layer's weight, the first gradient norm of all
    parameters together, and the update of all weights together over their norm at the start."""

    norms: dict[str, Norms]
    last: str
    first_norm: float
    pace: float


def gradient_norms(opt_state: Any, *, layers: Sequence[str] | None = None) -> dict[str, Norms]:
    """The norms that `monitor_gradients` measured, by parameter, from the first layer to the last.

    Fields:
      opt_state: any optimizer state with a monitor in it. If there are several, each path begins with the place of its
        monitor: "body: dense_0/kernel".
      layers: as in `diagnose`.

    Errors: as `diagnose`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> params = {"dense_0": jnp.eye(4), "dense_1": jnp.eye(4)}
      >>> optimizer = js.monitor_gradients(optax.sgd(0.01))
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update({"dense_0": jnp.eye(4), "dense_1": 5 * jnp.eye(4)}, state, params)
      >>> first = js.gradient_norms(state)["dense_0"]
      >>> print(f"{first.gradient:.1f} {first.gradient_ratio:.1f} {first.update_ratio:.2f}")
      2.0 0.2 0.01

    Source: the per-layer tables of gradient norms in Glorot and Bengio (2010).
    """
    readings = _readings("gradient_norms", opt_state, layers)
    return {path: norms for reading in readings for path, norms in reading.norms.items()}


def _readings(owner: str, opt_state: Any, layers: Sequence[str] | None) -> list[_Reading]:
    if layers is not None and (isinstance(layers, str) or not all(isinstance(name, str) for name in layers)):
        hint = "write a list of paths from input to output, such as ['conv_1', 'conv_2', 'head']"
        raise TypeError(f"{owner}: layers={format_value(layers)}; {hint}.")
    found = [(path, node) for path, node in walk(opt_state) if isinstance(node, MonitorState)]
    if not found:
        raise ValueError(
            f"{owner}: there is no monitor in this {type(opt_state).__name__}; put one around the optimizer: "
            "jaxsched.monitor_gradients(optax.adam(1e-3))."
        )
    tables = [_table(owner, state) for _, state in found]
    paths = sorted({path for table in tables for path in table}, key=_natural)
    for name in layers or ():
        if not any(_is_in(path, name) for path in paths):
            raise ValueError(f"{owner}: no parameter is in layers={name!r}; {nearest_name(name, paths)}")
    levels = [[label(path) for path, _ in found] for label in LABELS]
    labels = next((names for names in levels if len(set(names)) == len(names)), levels[-1])
    prefixes = [f"{label}: " if label and len(found) > 1 else "" for label in labels]
    return [
        _reading(prefix, table, _column(state.first_norm), layers)
        for prefix, table, (_, state) in zip(prefixes, tables, found, strict=True)
    ]


def _column(field: Any) -> Any:
    """The numbers of an array, in whatever box it was kept in (Flax NNX has such)."""
    (array,) = jax.tree.leaves(field)
    return np.asarray(array).tolist()


def _table(owner: str, state: MonitorState) -> dict[str, Norms]:
    """What was measured, by path; nothing is compared yet."""
    if any(map(is_traced, jax.tree.leaves(state.count))):
        raise TypeError(f"{owner}: the state is traced and its numbers are not there yet; call it outside of jit.")
    count = _column(state.count)
    if isinstance(count, list):
        hint = "take one: jax.tree.map(lambda x: x[0], state)"
        raise ValueError(f"{owner}: these are the states of several trainings in one; {hint}.")
    paths = [path for names in state.paths for path in names]
    fields = (state.gradient_norm, state.update_norm, state.param_norm, state.non_finite, state.start_norm, state.axes)
    table = {
        path: Norms(
            gradient=gradient,
            update=update,
            param=param,
            gradient_ratio=math.nan,
            update_ratio=update / param if param else math.nan,
            count=count - non_finite,
            non_finite=non_finite,
            start=start,
            axes=axes,
        )
        for path, gradient, update, param, non_finite, start, axes in zip(paths, *map(_column, fields), strict=True)
    }
    is_linen = all(path.startswith("params/") for path in table)  # the name of a collection, not of a layer
    return {path.removeprefix("params/") if is_linen else path: norms for path, norms in table.items()}


def _natural(path: str) -> list[list[Any]]:
    """A key by which "conv_2" is before "conv_10"."""
    return [[int(s) if s.isdecimal() else s for s in re.split(r"([0-9]+)", part)] for part in path.split("/")]


def _is_in(path: str, layer: str) -> bool:
    return f"{path}/".startswith(f"{layer.removeprefix('params/').rstrip('/')}/")


def _reading(prefix: str, table: dict[str, Norms], first_norm: float, layers: Sequence[str] | None) -> _Reading:
    """`table` from input to output, each gradient beside the largest of the last layer that has one."""
    ordered = sorted(table, key=_natural)
    places = {path: i for i, path in enumerate(ordered)}  # each is a layer by itself
    if layers is not None:
        longest_first = sorted(enumerate(layers), key=lambda place: -len(place[1]))
        places = {path: next((i for i, name in longest_first if _is_in(path, name)), -1) for path in ordered}
        ordered.sort(key=lambda path: (places[path] < 0, places[path]))
    compared = [path for path in ordered if places[path] >= 0 and table[path].is_weight and table[path].gradient > 0]
    last = max(compared, key=lambda path: (places[path], table[path].gradient), default=None)
    scale = math.nan if last is None else table[last].gradient
    norms = {
        prefix + path: table[path]._replace(
            gradient_ratio=table[path].gradient / scale if places[path] >= 0 else math.nan
        )
        for path in ordered
    }
    weights = [one for one in norms.values() if one.is_weight]
    start = math.hypot(*(one.start for one in weights))
    pace = math.hypot(*(one.update for one in weights)) / start if start else math.nan
    return _Reading(norms, last or "", first_norm, pace)


# --- judging ---------------------------------------------------------------------------------------------------------

SMALLER = "lower the rate, warm up longer, or clip the gradients (optax.clip_by_global_norm, jaxsched.zclip)"
# What a finding can be, the worst first, and what to do about it.
ADVICE = {
    "non-finite": "look for log(0), 0/0 or sqrt(0) in the loss, skip such updates (jaxsched.guard_spikes), and "
    + SMALLER,
    "exploding": f"{SMALLER}, scale the initialisation down (an orthogonal one for a recurrent matrix), or normalise "
    "the inputs and the activations",
    "vanishing": "try ReLU or a normalisation, residual connections, or a variance-preserving initialisation",
    "dead": "if it is not frozen on purpose, see whether the loss depends on it, initialise it other than at zero, and "
    "try a lower rate or leaky ReLU, as units that never fire have no gradient",
    "update too large": SMALLER,
    "update too small": "raise the rate, unless the schedule has ended or the gradient vanishes",
}


class Finding(NamedTuple):
    """One thing that `diagnose` found; `str(finding)` says it in a sentence.

    Fields:
      kind: "non-finite", "exploding", "vanishing", "dead", "update too large" or "update too small".
      path: the parameter, such as "conv_1/kernel".
      reason: what was measured, in words.
      advice: what to try.
      norms: all that was measured of the parameter.
    """

    kind: str
    path: str
    reason: str
    advice: str
    norms: Norms

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}, {self.reason}; {self.advice}"


class _Limits(NamedTuple):
    vanishing: Positive
    exploding: Positive
    exploding_norm: Positive
    growth: Positive
    large_update: Positive
    small_update: NonNegative
    non_finite: NonNegative
    min_updates: Count


def diagnose(
    opt_state: Any,
    *,
    layers: Sequence[str] | None = None,
    vanishing: float = 1e-3,
    exploding: float = 100.0,
    exploding_norm: float = 1e5,
    growth: float = 1e3,
    large_update: float = 0.1,
    small_update: float = 1e-7,
    non_finite: float = 0.0,
    min_updates: int = 10,
) -> list[Finding]:
    """What is wrong with the gradients, parameter by parameter, the worst first; an empty list if nothing is.

    It reads what `monitor_gradients` measured, outside of `jit`, as often as you like: at the end of each epoch.

    Formula, for the means `g`, `u`, `p` of the norms of a parameter's gradient, update and value; the last layer is the
    last weight with a gradient, or the largest of the last of `layers`:
      non-finite: a larger share of the updates than `non_finite` had a NaN or an infinity.
      exploding: `g > exploding_norm`, or `g > growth` times the first gradient of all parameters together, or
        `g > exploding` times that of the last layer.
      vanishing: `0 < g < vanishing` times that of the last layer.
      dead: `g = 0`.
      update too large: `u / p > large_update`; or, as a rate too high soon inflates `p`, so is the update over the
        norm at the start, of this weight and of all weights together. Healthy is 1e-3 or so.
      update too small: `0 < u / p < small_update`. At 0 it is frozen, which somebody wanted.

    What has fewer than two axes (a bias, a scale) is no weight: it is judged only as non-finite and by the size of its
    own gradient. What begins at zero is not compared with others either, since it has no size of its own, but may be
    dead. Means of fewer than `min_updates` updates are not judged, so that before the first the list is empty.

    Fields:
      opt_state: any optimizer state with a monitor in it; each of several monitors is judged by itself.
      layers: the paths of the layers from the input to the output, `["conv_1", "conv_2", "head"]`, each with all that
        is below it; what is in none of them is not compared. None: by name, "conv_2" before "conv_10". Give it where
        the names are not in the order of the layers (a head called "dense_0" beside "rnn_0"): the order alone tells
        what vanishes from what explodes.
      vanishing, exploding: the least and the largest share of the last layer's gradient.
      exploding_norm: the largest gradient norm; write more for a loss that is a sum over the batch or is scaled.
      growth: the largest gradient, in first gradients of all.
      large_update, small_update: the bounds of the update over the parameter.
      non_finite: the share of updates that may be non-finite, such as those by which a loss scale is found.
      min_updates: the least number of updates in a mean that is judged.

    Errors: ValueError for a state without a monitor, for one of several trainings at once (a `vmap`), for layers that
    hold no parameter and for a limit out of its range; TypeError for a state that is traced.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> params = {"kernel": jnp.eye(4)}
      >>> optimizer = js.monitor_gradients(optax.sgd(3.0))
      >>> state = optimizer.init(params)
      >>> for step in range(10):
      ...     updates, state = optimizer.update(params, state, params)
      >>> for finding in js.diagnose(state):
      ...     print(finding.kind, "of", finding.path, "-", finding.reason)
      update too large of kernel - each update is 3 x its norm

    Source: Glorot and Bengio (2010) and Pascanu et al. (2013), as for `monitor_gradients`; the ratio of update to
    parameter near 1e-3 is the rule of thumb of Hinton (2010), "A Practical Guide to Training Restricted Boltzmann
    Machines". The limits themselves are ours.
    """
    readings = _readings("diagnose", opt_state, layers)
    limits = settings(
        "diagnose",
        _Limits,
        vanishing=vanishing,
        exploding=exploding,
        exploding_norm=exploding_norm,
        growth=growth,
        large_update=large_update,
        small_update=small_update,
        non_finite=non_finite,
        min_updates=min_updates,
    )
    limits = _Limits(*map(float, limits))
    findings = [
        Finding(kind, path, reason, ADVICE[kind], norms)
        for reading in readings
        for path, norms in reading.norms.items()
        for kind, reason in _reasons(norms, reading, limits)
    ]
    return sorted(findings, key=lambda finding: list(ADVICE).index(finding.kind))


def _reasons(norms: Norms, reading: _Reading, limits: _Limits) -> Iterator[tuple[str, str]]:
    """Each kind that holds of one parameter, and why."""
    updates = norms.count + norms.non_finite
    if norms.non_finite > limits.non_finite * updates:
        yield "non-finite", f"NaN or infinity in {norms.non_finite} of {updates} updates"
    if norms.count < limits.min_updates:
        return
    g, ratio = norms.gradient, norms.gradient_ratio if norms.is_weight else math.nan
    measured = f"gradient norm {g:.1e}"
    if g > limits.exploding_norm:
        yield "exploding", f"{measured}, which no loss of a healthy net has"
    elif g > limits.growth * reading.first_norm > 0:
        yield "exploding", f"{measured}, {_times(g / reading.first_norm)} x the first gradient of all parameters"
    elif ratio > limits.exploding:
        yield "exploding", f"{measured}, {_times(ratio)} x above the last layer ({reading.last})"
    if 0 < ratio < limits.vanishing:
        yield "vanishing", f"{measured}, {_times(1 / ratio)} x below the last layer ({reading.last})"
    if g == 0 and norms.axes >= 2:
        yield "dead", f"gradient exactly 0 in all of {norms.count} updates"
    if norms.is_weight and norms.update_ratio > limits.large_update:
        yield "update too large", f"each update is {_times(norms.update_ratio)} x its norm"
    elif norms.is_weight and min(norms.update / norms.start, reading.pace) > limits.large_update:
        yield "update too large", f"each update is {_times(norms.update / norms.start)} x the norm that it began with"
    if norms.is_weight and 0 < norms.update_ratio < limits.small_update:
        yield "update too small", f"each update is {norms.update_ratio:.1e} x its norm"


def _times(ratio: float) -> str:
    """A ratio to two digits: 2,000 or 3.2e+09."""
    return f"{float(f'{ratio:.2g}'):,g}" if ratio < 1e6 else f"{ratio:.1e}"
