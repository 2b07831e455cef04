"""big_vision: one function for its schedules, lengths in four units, and a schedule for each group of parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from ..._errors import format_value, nearest_name
from ...fields import Length, NonNegative, Positive, Scalar, Steps, StepTable, Table, Unit
from ...optim.hyperparams import inject_hyperparams
from ...schedules.base import Schedule
from ...schedules.decays import InverseSqrtDecay
from ...schedules.pieces import PiecewiseConstant
from ...schedules.ramps import Linear, Polynomial, Ramp
from ..peer import admitted, known
from ._shared import EndlessLine, If, before, counted, from_config, known_to_be, most

_UNITS = ("steps", "examples", "epochs", "percent")


def _at_least_one(xp: Any, x: Any) -> Any:
    """Rounded, but at least one step unless it is exactly 0."""
    return xp.where(x > 0, xp.maximum(1, xp.round(x)), 0)


@admitted
def _steps_of(
    steps: Steps | None = None,
    examples: NonNegative | None = None,
    epochs: NonNegative | None = None,
    percent: Unit | None = None,
    batch_size: Positive | None = None,
    data_size: Positive | None = None,
    total_steps: Steps | None = None,
) -> Any:
    if steps is not None:
        return steps
    if examples is not None:
        return counted(lambda xp, n, batch: _at_least_one(xp, n / batch), examples, batch_size, rounding="round")
    if epochs is not None:
        return counted(
            lambda xp, n, data, batch: _at_least_one(xp, n * (data / batch)),
            *(epochs, data_size, batch_size),
            rounding="round",
        )
    return counted(lambda xp, share, n: _at_least_one(xp, share * n), percent, total_steps, rounding="round")


_NEEDS = {"steps": (), "examples": ("batch_size",), "epochs": ("batch_size", "data_size"), "percent": ("total_steps",)}


def steps(
    prefix: str,
    config: Mapping[str, Any],
    data_size: Any = None,
    batch_size: Any = None,
    total_steps: Any = None,
    default: Any = ValueError,
) -> Any:
    """The length called `prefix` in `config`, in steps.

    Formula: `PREFIX_steps`, `PREFIX_examples / batch_size`, `PREFIX_epochs data_size / batch_size` or
    `PREFIX_percent total_steps` (a share from 0 to 1), rounded to the nearest integer; above 0 at least 1.

    Args:
      prefix: the name of the length.
      config: a dict (or ConfigDict) with one of these entries; None is as if it were not there.
      data_size: the examples in an epoch.
      batch_size: the examples in a step.
      total_steps: the horizon.
      default: what is returned where there is no such entry.

    Errors: ValueError for two such entries, and for none without a default. big_vision returns the default too where
    the size is missing that an entry needs: a warmup is dropped so without a word, and is refused here.

    Example:
      >>> from jaxsched.compat.others import big_vision
      >>> big_vision.steps("warmup", {"warmup_epochs": 2}, data_size=1_000, batch_size=100)
      20

    Source: big_vision.utils.steps.
    """
    given = {unit: config[f"{prefix}_{unit}"] for unit in _UNITS if config.get(f"{prefix}_{unit}") is not None}
    if len(given) > 1:
        names = " and ".join(f"{prefix}_{unit}={format_value(value)}" for unit, value in given.items())
        raise ValueError(f"steps: {names}; write one of them.")
    if not given:
        if default is ValueError:
            units = ", ".join(f"{prefix}_{unit}" for unit in _UNITS)
            raise ValueError(f"steps: config has no length {prefix!r}; write one of {units}.")
        return default
    sizes = {"batch_size": batch_size, "data_size": data_size, "total_steps": total_steps}
    (unit, value), *_ = given.items()
    for name in _NEEDS[unit]:
        if sizes[name] is None:
            raise ValueError(
                f"steps: {prefix}_{unit}={format_value(value)} cannot be counted in steps; write {name} too."
            )
    return _steps_of(**{unit: value}, **{name: sizes[name] for name in _NEEDS[unit]})


# --- the decays, whose arguments are the entries of the configuration ------------------------------------------------


@admitted
def _linear(base: Any, length: Any, power: Positive = 1.0, end: Scalar | None = None, linear_end: Scalar = 0.0) -> Any:
    return Polynomial(base, linear_end if end is None else end, length, power)


@admitted
def _cosine(base: Any, length: Any) -> Any:
    return Ramp(base, 0.0, length, shape="cosine")


@admitted
def _rsqrt(
    base: Any,
    timescale: Length = 10_000,
    timescale_examples: Positive | None = None,
    shift: Steps = 0,
    batch_size: Any = None,
) -> Any:
    if timescale_examples is not None:
        if batch_size is None:
            raise ValueError(
                f"rsqrt: timescale_examples={format_value(timescale_examples)} cannot be counted in steps; write "
                f"batch_size."
            )
        timescale = timescale_examples / batch_size
    return InverseSqrtDecay(base, timescale).shift(-shift)


@admitted
def _stair(base: Any, steps: StepTable = (), mults: Table = ()) -> Any:
    return base * PiecewiseConstant(steps, before(1, mults))


_DECAYS = {"linear": _linear, "polynomial": _linear, "cosine": _cosine, "rsqrt": _rsqrt, "stair": _stair}
_LENGTHS = {f"{prefix}_{unit}" for prefix in ("warmup", "cooldown") for unit in _UNITS}


def _entries(decay: Callable[..., Any]) -> set[str]:
    """The entries that a decay reads."""
    return set(inspect.signature(decay).parameters) - {"base", "length", "batch_size"}


def _refuse_unread(decay_type: str, entries: Mapping[str, Any]) -> None:
    owner = "create_learning_rate_schedule"
    everywhere = _LENGTHS.union(*map(_entries, _DECAYS.values()))
    for name, value in entries.items():
        if name not in everywhere:
            raise TypeError(f"{owner} has no argument {name!r}: {nearest_name(name, everywhere)}")
        if name not in _LENGTHS | _entries(_DECAYS[decay_type]):
            readers = " and ".join(sorted(kind for kind, decay in _DECAYS.items() if name in _entries(decay)))
            raise ValueError(
                f"{owner}: {name}={format_value(value)} is ignored by big_vision: decay_type={decay_type!r} does "
                f"not read it, "
                f"{readers} does."
            )


@admitted
def create_learning_rate_schedule(
    total_steps: Steps,
    batch_size: Positive | None = None,
    data_size: Positive | None = None,
    base: Scalar = 1.0,
    decay_type: str = "stair",
    scale_with_batchsize: bool = False,
    peer_exact: bool = False,
    **kw: Any,
) -> Schedule:
    """A decay after a warmup, both times a last line to 0.

    Formula: `base decay(t) min(t / W, 1) min((T - t) / C, 1)` with T = total_steps, W and C the lengths of warmup and
    cooldown, `u = (t - W) / (T - W)` from 0 to 1, and by `decay_type`:
      linear, polynomial: `(1 - u)^power` from base to `end` (or `linear_end`), `power=1, end=0`.
      cosine: half a cosine to 0.
      rsqrt: `1 / sqrt(1 + (max(t - W, 0) + shift) / timescale)`, `timescale=10000, shift=0`.
      stair: `mults[i - 1]`, where i is the number of `steps` that are `<= t`; 1 where it is 0.

    After T the cooldown's factor stays 0; in big_vision it falls below 0, and so does the rate.

    Args:
      total_steps: the horizon T.
      batch_size, data_size: the examples in a step and in an epoch, for lengths in other units.
      base: the rate.
      decay_type: one of these names.
      scale_with_batchsize: whether base is multiplied by `batch_size / 256`.
      peer_exact: whether the cooldown goes on below 0, as big_vision's does.
      kw: the arguments of the decay, with `timescale_examples` for a timescale in examples, and the lengths `warmup_`
        and `cooldown_` in `steps`, `examples`, `epochs` or `percent` (a share); see `steps`.

    Errors: ValueError for an unknown decay, an argument that the decay does not read, a size that is missing, and a
    warmup that is not shorter than the whole.

    Example:
      >>> from jaxsched.compat.others import big_vision
      >>> s = big_vision.create_learning_rate_schedule(100, base=0.1, decay_type="cosine", warmup_percent=0.2)
      >>> [round(float(s(t)), 6) for t in (0, 10, 20, 60, 100)]
      [0.0, 0.05, 0.1, 0.05, 0.0]

    Source: big_vision.utils.create_learning_rate_schedule.
    """
    owner = "create_learning_rate_schedule"
    decay = _DECAYS[known(owner, "decay_type", decay_type, _DECAYS)]
    _refuse_unread(decay_type, kw)
    warmup, cooldown = (
        steps(prefix, kw, data_size, batch_size, total_steps, default=None) for prefix in ("warmup", "cooldown")
    )
    warmup = 0 if warmup is None else warmup
    if known_to_be(lambda total, w: (total > 1) & (w >= total), total_steps, warmup):
        raise ValueError(
            f"{owner}: a warmup of {format_value(warmup)} steps and total_steps={format_value(total_steps)}; "
            "write a warmup that is shorter than the whole."
        )
    if scale_with_batchsize:
        if batch_size is None:
            raise ValueError(f"{owner}: scale_with_batchsize=True needs the batch_size; write it too.")
        base = base * (batch_size / 256)
    length = most(total_steps - warmup, 0)
    schedule = from_config(decay, {**kw, "base": base, "length": length, "batch_size": batch_size})
    schedule = (schedule if decay is _stair else schedule.shift(warmup)).warmup(warmup)
    if cooldown is None:
        return schedule
    line = EndlessLine if peer_exact else Linear
    down = line(1.0, 0.0, cooldown).shift(total_steps - cooldown)
    return schedule * If(down, cooldown)


def scale_by_schedules(
    schedule: Any, params: Any, *, sched_kw: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """A schedule for each group of parameters, the last stage of a chain; the part of big_vision's `optax.make` that
    concerns schedules.

    A parameter's name is its keys with "/" between them; the first pattern that fits all of it has it. It is a regular
    expression; `jaxsched.by_path` does the same with patterns such as "head/**".

    Args:
      schedule: a list of pairs `(pattern, settings)`, or the settings of all. Settings are a dict of arguments of
        `create_learning_rate_schedule`, with `mult` for its base; None freezes.
      params: the parameters.
      sched_kw: arguments of all schedules: total_steps, batch_size, data_size.

    Errors: ValueError for a parameter that no pattern fits, a pattern with a "/" in front, and settings with `base`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxsched.compat.others import big_vision
      >>> params = {"img": {"kernel": jnp.ones(1)}, "head": {"kernel": jnp.ones(1)}}
      >>> schedule = [("img/.*", None), (".*", dict(mult=0.5, decay_type="cosine"))]
      >>> stage = big_vision.scale_by_schedules(schedule, params, sched_kw=dict(total_steps=10))
      >>> updates, _ = stage.update(params, stage.init(params), params)
      >>> updates["img"]["kernel"].tolist(), updates["head"]["kernel"].tolist()
      ([0.0], [-0.5])

    Source: big_vision.optax.make.
    """
    owner = "scale_by_schedules"
    groups = dict(schedule) if isinstance(schedule, (list, tuple)) else {".*": schedule}
    for pattern in groups:
        if pattern.startswith("/"):
            raise ValueError(f"{owner}: {pattern!r}; names do not begin with a slash: write {pattern[1:]!r}.")
    forms = {pattern: re.compile(pattern) for pattern in groups}

    def label(path: Any, leaf: Any) -> str:
        del leaf
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, form in forms.items():
            if form.fullmatch(name):
                return pattern
        raise ValueError(f"{owner}: no pattern fits {name!r}; add one, with None to freeze it.")

    return optax.transforms.partition(
        {pattern: _stage(owner, settings, sched_kw) for pattern, settings in groups.items()},
        jax.tree_util.tree_map_with_path(label, params),
    )


def _stage(owner: str, settings: Mapping[str, Any] | None, shared: Mapping[str, Any]) -> Any:
    if settings is None:
        return optax.set_to_zero()
    if "base" in settings:
        raise ValueError(
            f"{owner}: base={format_value(settings['base'])}; write mult, which the rate of all is multiplied by."
        )
    own = {name: value for name, value in settings.items() if name != "mult"}
    made = create_learning_rate_schedule(base=settings.get("mult", 1.0), **shared, **own)
    return inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=made)
