"""What a careful reader would say of a sweep: of its settings before they are trained, and of losses that are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..inspect.lint import Finding, lint
from ..schedules.base import Schedule
from ..sweep.result import SweepResult

if TYPE_CHECKING:
    from ..sweep.engine import Plan

_MOST = 32
"""Settings that are looked at."""


def before(plan: Plan) -> list[str]:
    """A line for each kind of error or warning that `lint` finds in the settings, with how many of them have it."""
    rates = [rate for rate in map(_rate, _some(plan)) if rate is not None]
    found: dict[str, list[Finding]] = {}
    for rate in rates:
        try:
            findings = [one for one in lint(rate, plan.steps) if one.severity != "note"]
        except Exception:  # a schedule of the user's own that fails is told when it is trained
            continue
        for check, one in {one.check: one for one in reversed(findings)}.items():
            found.setdefault(check, []).append(one)
    of = f"{len(rates)} settings" + (f" (of {plan.settings:,}) that were looked at" if plan.settings > _MOST else "")
    lines = []
    for several in found.values():
        one = several[0]
        where = "" if one.step is None else f"at step {one.step:,} "
        lines.append(f"note: {len(several)} of {of}: {where}{one.message}; {one.suggestion}")
    return lines


def _some(plan: Plan) -> list[Any]:
    """All settings, or some that are spread evenly and in no step with the columns of a grid."""
    places = np.arange(plan.settings)
    if plan.settings > _MOST:
        golden = (np.arange(4 * _MOST) * 0.6180339887) % 1
        places = list(dict.fromkeys((golden * plan.settings).astype(int).tolist()))[:_MOST]
    chosen = set(np.asarray(places).tolist())
    return [
        jax.tree.map(lambda x, k=k: x[k], group.settings)
        for group in plan.groups
        for k, place in enumerate(group.index.tolist())
        if place in chosen
    ]


def _rate(setting: Any) -> Schedule | None:
    """The learning rate of a setting, where it is known which of its numbers that is."""
    rate = setting.get("learning_rate") if isinstance(setting, Mapping) else setting
    return rate if isinstance(rate, Schedule) else None


def after(result: SweepResult) -> list[str]:
    """Whether settings that differ came to the same losses in every seed, as if they were not looked at."""
    if len(result.settings) < 2 or (result.diverged_at >= 0).any():
        return []
    curves, ends = result.metrics["train_loss"], result.final["valid_loss"]
    pruned = (result.pruned_at >= 0).any()  # then curves end earlier, and are compared as far as they go
    alike = (curves == curves[:1]) | (pruned & ~(np.isfinite(curves) & np.isfinite(curves[:1])))
    if not alike.all() or not (pruned or (ends == ends[:1]).all()):
        return []
    if len({repr(setting) for setting in result.settings}) < 2:
        return []
    return ["note: all settings ended alike to the last bit: does the task's optimizer use the schedule it is given?"]
