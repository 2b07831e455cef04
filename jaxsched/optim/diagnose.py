"""Findings about the norms that `monitor_gradients` measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced, nearest_name
from ..fields import Count, NonNegative, Positive
from ..inspect.finding import Finding, Severity
from .metrics import settings
from .monitor import MonitorState
from .states import LABELS, walk


class Norms(NamedTuple):
    """The norms of one parameter that `monitor_gradients` measured."""

    gradient: float  # the averages of the norms
    update: float  # 0 if updates are not measured
    param: float  # 0 if parameters are not measured
    gradient_ratio: float  # the gradient over that of the last layer; NaN outside of `layers`
    update_ratio: float  # the update over the parameter; NaN if they are not measured
    count: int  # updates in the averages
    non_finite: int  # updates that were not finite, and are not in the averages
    start: float  # the norm of the initial parameter
    axes: int  # the number of axes of the parameter

    @property
    def is_weight(self) -> bool:
        """Whether it is compared with others: a matrix or kernel, but not a bias or scale, or one that starts at 0."""
        return self.axes >= 2 and self.start > 0


class _Reading(NamedTuple):
    """One monitor: its parameters from input to output, the last layer's weight, the first gradient norm of all
    parameters together, and the update of all weights together over their initial norm."""

    norms: dict[str, Norms]
    last: str
    first_norm: float
    relative_update: float


def gradient_norms(opt_state: Any, *, layers: Sequence[str] | None = None) -> dict[str, Norms]:
    """Return the norms that `monitor_gradients` measured, from the first layer to the last.

    Args:
      opt_state: any optimizer state that contains a monitor. With several monitors, each path starts with the place of
        its monitor: "body: dense_0/kernel".
      layers: as in `diagnose`.

    Returns:
      A `Norms` for each parameter.

    Raises:
      ValueError, TypeError: as `diagnose`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> params = {"dense_0": jnp.eye(4), "dense_1": jnp.eye(4)}
      >>> optimizer = js.monitor_gradients(optax.sgd(0.01))
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update({"dense_0": jnp.eye(4), "dense_1": 5 * jnp.eye(4)}, state, params)
      >>> first = js.optim.gradient_norms(state)["dense_0"]
      >>> print(f"{first.gradient:.1f} {first.gradient_ratio:.1f} {first.update_ratio:.2f}")
      2.0 0.2 0.01

    References:
      The tables of gradient norms by layer in Glorot and Bengio (2010).
    """
    readings = _readings("gradient_norms", opt_state, layers)
    return {path: norms for reading in readings for path, norms in reading.norms.items()}


def _readings(owner: str, opt_state: Any, layers: Sequence[str] | None) -> list[_Reading]:
    if layers is not None and (isinstance(layers, str) or not all(isinstance(name, str) for name in layers)):
        instead = "write a list of paths from input to output, such as ['conv_1', 'conv_2', 'head']"
        raise FieldTypeError(owner, "layers", layers, instead)
    found = [(path, node) for path, node in walk(opt_state) if isinstance(node, MonitorState)]
    if not found:
        instead = "wrap the optimizer: jaxsched.monitor_gradients(optax.adam(1e-3))"
        raise FieldError(owner, "opt_state", type(opt_state), instead, note=" contains no monitor")
    tables = [_table(owner, state) for _, state in found]
    paths = sorted({path for table in tables for path in table}, key=_natural)
    for name in layers or ():
        if not any(_is_in(path, name) for path in paths):
            raise FieldError(owner, "layers", name, nearest_name(name, paths), note=" contains no parameter")
    levels = [[label(path) for path, _ in found] for label in LABELS]
    labels = next((names for names in levels if len(set(names)) == len(names)), levels[-1])
    prefixes = [f"{label}: " if label and len(found) > 1 else "" for label in labels]
    return [
        _reading(prefix, table, _column(state.first_norm), layers)
        for prefix, table, (_, state) in zip(prefixes, tables, found, strict=True)
    ]


def _column(field: Any) -> Any:
    """The numbers of an array, which Flax NNX boxes."""
    (array,) = jax.tree.leaves(field)
    return np.asarray(array).tolist()


def _table(owner: str, state: MonitorState) -> dict[str, Norms]:
    """The norms of one monitor by path, without the ratio to the last layer."""
    if any(map(is_traced, jax.tree.leaves(state.count))):
        raise FieldTypeError(owner, "opt_state", type(state), "call it outside of jit", note=" is traced")
    count = _column(state.count)
    if isinstance(count, list):
        instead = "take one: jax.tree.map(lambda x: x[0], state)"
        raise FieldError(owner, "opt_state", type(state), instead, note=" holds the states of several trainings")
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
    is_linen = all(path.startswith("params/") for path in table)  # a collection, not a layer
    return {path.removeprefix("params/") if is_linen else path: norms for path, norms in table.items()}


def _natural(path: str) -> list[list[Any]]:
    """A sort key that puts "conv_2" before "conv_10"."""
    return [[int(s) if s.isdecimal() else s for s in re.split(r"([0-9]+)", part)] for part in path.split("/")]


def _is_in(path: str, layer: str) -> bool:
    return f"{path}/".startswith(f"{layer.removeprefix('params/').rstrip('/')}/")


def _reading(prefix: str, table: dict[str, Norms], first_norm: float, layers: Sequence[str] | None) -> _Reading:
    """`table` from input to output, with each gradient relative to the largest of the last layer with a gradient."""
    ordered = sorted(table, key=_natural)
    places = {path: i for i, path in enumerate(ordered)}  # each parameter is a layer
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
    relative_update = math.hypot(*(one.update for one in weights)) / start if start else math.nan
    return _Reading(norms, last or "", first_norm, relative_update)


# --- checks ----------------------------------------------------------------------------------------------------------

_SMALLER = "lower the rate, warm up longer, or clip the gradients (optax.clip_by_global_norm, jaxsched.optim.zclip)"
# The checks, the worst first: severity and suggestion.
CHECKS: dict[str, tuple[Severity, str]] = {
    "non-finite": (
        "error",
        f"avoid log(0), 0/0 and sqrt(0) in the loss, skip such updates (jaxsched.guard_spikes), and {_SMALLER}",
    ),
    "exploding": (
        "error",
        f"{_SMALLER}, scale the initialization down (orthogonal for a recurrent matrix), or normalize the inputs and "
        "activations",
    ),
    "vanishing": (
        "warning",
        "try ReLU or normalization, residual connections, or a variance-preserving initialization",
    ),
    "dead": (
        "warning",
        "unless it is frozen on purpose, check that the loss depends on it, initialize it with values other than zero, "
        "and try a lower rate or leaky ReLU, because units that never fire have no gradient",
    ),
    "large update": ("warning", _SMALLER),
    "small update": ("note", "raise the rate, unless the schedule has ended or the gradient vanishes"),
}


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
    """Return the problems with the gradients, by parameter, the worst first.

    It evaluates the measurements of `monitor_gradients`, outside of `jit`, for example after each epoch. The list is
    empty if there are no problems.

    For the averages `g`, `u`, `p` of the norms of a parameter's gradient, update and value; the last layer is the last
    weight with a gradient, or the largest of the last of `layers`:
      non-finite (error): a share of the updates above `non_finite` contained a NaN or an infinity.
      exploding (error): `g > exploding_norm`, `g > growth` times the first gradient of all parameters together, or
        `g > exploding` times that of the last layer.
      vanishing (warning): `0 < g < vanishing` times that of the last layer.
      dead (warning): `g = 0`.
      large update (warning): `u / p > large_update`; or, because a rate that is too high soon inflates `p`, the update
        over the initial norm, of this weight and of all weights together. About 1e-3 is healthy.
      small update (note): `0 < u / p < small_update`. At 0 it is frozen.

    A parameter with fewer than two axes (a bias, a scale) is checked only for non-finite values and the size of its own
    gradient. One that starts at zero is not compared with others either, but can be dead. Averages of fewer than
    `min_updates` updates are not checked.

    Args:
      opt_state: any optimizer state that contains a monitor; several monitors are checked separately.
      layers: the paths of the layers from input to output, `["conv_1", "conv_2", "head"]`, each with everything below
        it; other parameters are not compared. None: sorted by name, "conv_2" before "conv_10". Write it if the names
        are not in the order of the layers (a head "dense_0" beside "rnn_0"): vanishing and exploding depend on it.
      vanishing, exploding: the smallest and the largest gradient, relative to that of the last layer.
      exploding_norm: the largest gradient norm; increase it for a loss that is summed over the batch or scaled.
      growth: the largest gradient, relative to the first gradient of all parameters.
      large_update, small_update: the limits of the update, relative to the parameter.
      non_finite: the share of updates that may be non-finite, for example with loss scaling.
      min_updates: the least number of updates in an average that is checked.

    Returns:
      A list of `Finding`s without a step; each message starts with the path of the parameter.

    Raises:
      ValueError: if there is no monitor, if the state is that of several trainings (under `vmap`), if a layer contains
        no parameter, or if a limit is out of its range.
      TypeError: if the state is traced.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> params = {"kernel": jnp.eye(4)}
      >>> optimizer = js.monitor_gradients(optax.sgd(3.0))
      >>> state = optimizer.init(params)
      >>> for step in range(10):
      ...     updates, state = optimizer.update(params, state, params)
      >>> for finding in js.optim.diagnose(state):
      ...     print(finding.check, "-", finding.message)
      large update - kernel: each update is 3 x its norm

    References:
      Glorot and Bengio (2010) and Pascanu et al. (2013), as for `monitor_gradients`; the ratio of about 1e-3 is from
      Hinton (2010), "A Practical Guide to Training Restricted Boltzmann Machines". The limits are our own.
    """
    readings = _readings("diagnose", opt_state, layers)
    limits = _Limits(*map(float, settings("diagnose", _Limits, **locals())))
    findings = [
        Finding(None, CHECKS[check][0], check, f"{path}: {reason}", CHECKS[check][1])
        for reading in readings
        for path, norms in reading.norms.items()
        for check, reason in _reasons(norms, reading, limits)
    ]
    return sorted(findings, key=lambda finding: list(CHECKS).index(finding.check))


def _reasons(norms: Norms, reading: _Reading, limits: _Limits) -> Iterator[tuple[str, str]]:
    """The checks that one parameter fails, and why."""
    updates = norms.count + norms.non_finite
    if norms.non_finite > limits.non_finite * updates:
        yield "non-finite", f"NaN or infinity in {norms.non_finite} of {updates} updates"
    if norms.count < limits.min_updates:
        return
    g, ratio = norms.gradient, norms.gradient_ratio if norms.is_weight else math.nan
    exploding = f"exploding gradient, norm {g:.1e}"
    if g > limits.exploding_norm:
        yield "exploding", f"{exploding}, above exploding_norm={limits.exploding_norm:.0e}"
    elif g > limits.growth * reading.first_norm > 0:
        yield "exploding", f"{exploding}, {_times(g / reading.first_norm)} x the first gradient of all parameters"
    elif ratio > limits.exploding:
        yield "exploding", f"{exploding}, {_times(ratio)} x above the last layer ({reading.last})"
    if 0 < ratio < limits.vanishing:
        below = f"{_times(1 / ratio)} x below the last layer ({reading.last})"
        yield "vanishing", f"vanishing gradient, norm {g:.1e}, {below}"
    if g == 0 and norms.axes >= 2:
        yield "dead", f"gradient exactly 0 in all of {norms.count} updates"
    if norms.is_weight and norms.update_ratio > limits.large_update:
        yield "large update", f"each update is {_times(norms.update_ratio)} x its norm"
    elif norms.is_weight and min(norms.update / norms.start, reading.relative_update) > limits.large_update:
        yield "large update", f"each update is {_times(norms.update / norms.start)} x its initial norm"
    if norms.is_weight and 0 < norms.update_ratio < limits.small_update:
        yield "small update", f"each update is {norms.update_ratio:.1e} x its norm"


def _times(ratio: float) -> str:
    """A ratio to two digits: 2,000 or 3.2e+09."""
    return f"{float(f'{ratio:.2g}'):,g}" if ratio < 1e6 else f"{ratio:.1e}"
