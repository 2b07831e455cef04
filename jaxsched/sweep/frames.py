"""The settings of a sweep by name, and its numbers as the tables of xarray and pandas."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..inspect.format import optional
from ..schedules.base import Schedule
from .settings import hyperparameters, is_schedule, path_text

if TYPE_CHECKING:
    from .result import SweepResult


def family(setting: Any) -> str:
    """What a setting is apart from its numbers: the classes, the flags and the names.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.sweep.frames import family
      >>> family(js.Linear(1.0, 0.0, 10).warmup(3, shape="cosine"))
      "Warmup(Linear, shape='cosine')"
      >>> family({"learning_rate": js.Noam(512, 4_000), "patience": 5})
      'learning_rate: Noam, patience'
    """
    if isinstance(setting, Schedule):
        parts = []
        for field in setting._fields:
            value = getattr(setting, field.name)
            if not field.static:
                parts += [family(x) for x in jax.tree.leaves(value, is_leaf=is_schedule) if is_schedule(x)]
            elif value is not field.default and value != field.default:
                parts.append(f"{field.name}={getattr(value, '__qualname__', None) or repr(value)}")
        name = type(setting).__name__
        return f"{name}({', '.join(parts)})" if parts else name
    leaves, _ = jax.tree_util.tree_flatten_with_path(setting, is_leaf=is_schedule)
    names = [(path_text(path), leaf) for path, leaf in leaves]
    return ", ".join(f"{name}: {family(leaf)}" if is_schedule(leaf) else name or "number" for name, leaf in names)


def columns(settings: Sequence[Any], taken: Collection[str]) -> dict[str, list[Any]]:
    """Each hyperparameter of all settings in order, None where a setting has none of that name.

    A name that is `taken`, such as `std`, becomes `setting.std`.
    """
    found: dict[str, list[Any]] = {}
    for i, setting in enumerate(settings):
        for name, value in hyperparameters(setting).items():
            name = f"setting.{name}" if name in taken else name or "value"
            if name not in found:
                found[name] = [None] * len(settings)
            found[name][i] = value
    return found


def ends(result: SweepResult) -> np.ndarray:
    """The steps that are done at the end of each window of the metrics."""
    return result.log_every * (1 + np.arange(result.steps // result.log_every))


def dataset(result: SweepResult) -> Any:
    """See `SweepResult.to_xarray`."""
    xarray = optional("xarray", "SweepResult: to_xarray needs", "tables")
    finals = {f"final_{name}": values for name, values in result.final.items()}
    marks = {"diverged_at": result.diverged_at, "pruned_at": result.pruned_at}
    data: dict[str, Any] = {name: (("setting", "seed", "step"), values) for name, values in result.metrics.items()}
    data |= {name: (("setting", "seed"), values) for name, values in (finals | marks).items()}
    named = _described(result, {*data, "seed", "step"})
    coordinates = {name: ("setting", values) for name, values in named.items()}
    facts = {
        "steps": result.steps,
        "log_every": result.log_every,
        "seconds": result.seconds,
        "compile_seconds": result.compile_seconds,
        **{f"run_{name}": _attribute(fact) for name, fact in result.run.items()},
    }
    return xarray.Dataset(data, coordinates | {"seed": list(result.seeds), "step": ends(result)}, facts)


def frame(result: SweepResult, curves: bool) -> Any:
    """See `SweepResult.to_pandas`."""
    pandas = optional("pandas", "SweepResult: to_pandas needs", "tables")
    settings, seeds = result.diverged_at.shape
    points = result.steps // result.log_every if curves else 1
    numbers = result.metrics if curves else result.final
    named = _described(result, {*numbers, "seed", "step", "diverged_at", "pruned_at"})
    data: dict[str, Any] = {name: np.repeat(values, seeds * points) for name, values in named.items()}
    data["seed"] = np.tile(np.repeat(np.asarray(result.seeds), points), settings)
    if curves:
        data["step"] = np.tile(ends(result), settings * seeds)
    data |= {name: values.reshape(-1) for name, values in numbers.items()}
    for name, values in (("diverged_at", result.diverged_at), ("pruned_at", result.pruned_at)):
        data[name] = np.repeat(values.reshape(-1), points)
    first = [name for name in ("setting", "seed", "step") if name in data]
    return pandas.DataFrame({name: data[name] for name in [*first, *(name for name in data if name not in first)]})


def _described(result: SweepResult, taken: Collection[str]) -> dict[str, np.ndarray]:
    """The columns that say what each setting is."""
    settings = result.settings
    own: dict[str, np.ndarray] = {"setting": np.arange(len(settings))}
    own["schedule"] = np.array([repr(setting) for setting in settings], object)
    if result.mixed:
        own["family"] = np.array([family(setting) for setting in settings], object)
    numbers = columns(settings, {*taken, "setting", "schedule", "family"})
    return own | {name: _column(values) for name, values in numbers.items()}


def _column(values: list[Any]) -> np.ndarray:
    """Numbers, NaN where there is none; text where a value is a table of numbers."""
    arrays = [None if value is None else np.asarray(value) for value in values]
    there = [x for x in arrays if x is not None]
    if any(x.ndim for x in there):
        return np.array(["" if x is None else str(x.tolist()) for x in arrays], object)
    # What numpy does not know by itself, such as bfloat16, no table knows either.
    there = [x.astype(np.float32) if x.dtype.isbuiltin != 1 else x for x in there]
    if len(there) == len(arrays):
        return np.stack(there)
    numbers = iter(there)
    return np.array([np.nan if x is None else float(next(numbers)) for x in arrays])


def _attribute(fact: Any) -> Any:
    """A fact that a netCDF file can hold."""
    return fact if isinstance(fact, (str, int, float)) and not isinstance(fact, bool) else json.dumps(fact, default=str)
