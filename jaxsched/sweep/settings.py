"""Settings: what the optimizer gets, stacked for the program and named for the tables."""

from __future__ import annotations

from typing import Any

import jax

from ..schedules.base import Schedule, axes
from ..schedules.fields import shown
from ..schedules.stacking import stack

_HINT = (
    "write grid(...), sample(...), a list of schedules, or a dict of stacked schedules for several hyperparameters; "
    "put schedules together before they are stacked"
)


def is_schedule(x: Any) -> bool:
    return isinstance(x, Schedule)


def stacked_settings(schedules: Any) -> tuple[Any, int]:
    """`schedules` as one stacked pytree on the host, and how many settings it holds.

    Args:
      schedules: a stacked schedule, a pytree of stacked schedules of one length, or a list of settings that are not
        stacked, all of one structure.

    Errors: TypeError for anything else; ValueError for lengths that differ and for what is not stacked.
    """
    if isinstance(schedules, list):
        if not schedules:
            raise ValueError("sweep: schedules=[]; write at least one schedule.")
        for i, setting in enumerate(schedules):
            if _axes(setting) != {0}:
                raise ValueError(f"sweep: schedules[{i}]={shown(setting)} is not one setting; {_HINT}.")
        schedules = stack(*schedules)
    elif _axes(schedules) != {1}:
        more = "; for one setting write [schedule]" if _axes(schedules) == {0} else ""
        raise ValueError(f"sweep: schedules={shown(schedules)} is not stacked{more}; {_HINT}.")
    schedules = jax.device_get(schedules)
    lengths = {name: len(leaf) for name, leaf in hyperparameters(schedules).items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"sweep: schedules have first axes of lengths {lengths}; they must be one length, 1 or more.")
    return schedules, next(iter(lengths.values()))


def hyperparameters(setting: Any) -> dict[str, Any]:
    """The numbers of a setting by name: `peak_value`, or `learning_rate.peak_value` in a pytree."""
    return {path_text(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(setting)}


def path_text(path: Any) -> str:
    """A path of a pytree as one would say it: names, keys and indices with dots between them."""
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)


def _axes(tree: Any) -> set[int]:
    """How many axes the numbers of the schedules have beyond those of one setting: {0} for one, {1} for stacked."""
    found: set[int] = set()
    for schedule in jax.tree.leaves(tree, is_leaf=is_schedule):
        if not is_schedule(schedule):
            raise TypeError(f"sweep: schedules hold {shown(schedule)}, which is not a schedule; {_HINT}.")
        if not jax.tree.leaves(schedule):
            raise ValueError(f"sweep: {schedule!r} has no number that could differ between settings; {_HINT}.")
        found |= axes(schedule)
    return found
