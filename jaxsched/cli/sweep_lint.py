"""Lint of a sweep: of its settings before they are trained, and of losses that do not differ afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..inspect import Finding, lint
from ..schedules.base import Schedule
from ..sweep.result import SweepResult

if TYPE_CHECKING:
    from ..sweep.engine import Plan

_MOST = 32
"""Settings that are checked."""


def lint_settings(plan: Plan) -> list[str]:
    """A line for each check of `lint` that gives an error or a warning, with the number of settings it applies to."""
    rates = [rate for rate in map(_rate, _sampled(plan)) if rate is not None]
    found: dict[str, list[Finding]] = {}
    for rate in rates:
        try:
            findings = {one.check: one for one in reversed(lint(rate, plan.steps)) if one.severity != "note"}
        except Exception:  # of a schedule class of the user; the training raises it again
            continue
        for check, one in findings.items():
            found.setdefault(check, []).append(one)
    of = f"{len(rates)} settings" + (f" (sampled from {plan.settings:,})" if plan.settings > _MOST else "")
    lines = []
    for several in found.values():
        one = several[0]
        where = "" if one.step is None else f"at step {one.step:,} "
        lines.append(f"note: {len(several)} of {of}: {where}{one.message}; {one.suggestion}")
    return lines


def _sampled(plan: Plan) -> list[Any]:
    """All settings, or some, chosen at random so that they are not aligned with the columns of a grid."""
    count = min(plan.settings, _MOST)
    chosen = set(np.random.default_rng(0).choice(plan.settings, count, replace=False).tolist())
    return [
        jax.tree.map(lambda x, k=k: x[k], group.settings)
        for group in plan.groups
        for k, place in enumerate(group.index.tolist())
        if place in chosen
    ]


def _rate(setting: Any) -> Schedule | None:
    """The learning rate of a setting; None if it is not known which number that is."""
    rate = setting.get("learning_rate") if isinstance(setting, Mapping) else setting
    return rate if isinstance(rate, Schedule) else None


def lint_result(result: SweepResult) -> list[str]:
    """A line if different settings have equal losses in every seed, as if the schedule were not used."""
    if len({repr(setting) for setting in result.settings}) < 2 or (result.diverged_at >= 0).any():
        return []
    curves, ends = result.metrics["train_loss"], result.final["valid_loss"]
    pruned = (result.pruned_at >= 0).any()  # then curves have different lengths, and their common part is compared
    alike = (curves == curves[:1]) | (pruned & ~(np.isfinite(curves) & np.isfinite(curves[:1])))
    if not alike.all() or not (pruned or (ends == ends[:1]).all()):
        return []
    return ["note: all settings have identical losses: does the task's optimizer use the schedule it is given?"]
