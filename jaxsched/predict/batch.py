"""A learning rate for another batch size, and a decay of the rate that becomes growth of the batch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np

from .._errors import FieldError
from ..fields import Number, Positive, Scalar
from ..schedules.base import Constant, Schedule
from ..schedules.pieces import PiecewiseConstant
from .arguments import check_choice, check_count, check_number
from .horizon import SAME, short
from .rates import concrete_rates

BatchRule: TypeAlias = Literal["linear", "sqrt"]
Value = TypeVar("Value")


def scale_batch(
    value: Value,
    batch_size: Number,
    new_batch_size: Number,
    rule: BatchRule = "linear",
    critical_batch: Number | None = None,
) -> Value:
    """A learning rate, or a schedule of it, for another batch size.

    Formula: with `B` the batch size, `B'` the new one and `a` 1 for `linear` and 1/2 for `sqrt`,
    `value (B' / B)^a`; beside a critical batch `C` it is `value ((1 + C / B) / (1 + C / B'))^a`: the rule as before
    far below `C`, and hardly a change above it, where a larger batch has no more noise to average away.

    Args:
      value: a number, an array, or a schedule.
      batch_size, new_batch_size: in examples (or tokens, both alike), above 0.
      rule: `linear`, as SGD takes it, or `sqrt`, as Adam and its kin do.
      critical_batch: the noise scale of the gradients, in the same unit, above 0; None: far above both batches.

    Returns: the value times a factor; of a schedule a schedule.

    Errors: ValueError for sizes that are not above 0, and for an unknown rule.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> plan.scale_batch(0.1, 256, 1024), plan.scale_batch(3e-4, 256, 1024, "sqrt")
      (0.4, 0.0006)
      >>> plan.scale_batch(js.Linear(0.1, 0.0, 400), 256, 1024)
      Linear(init_value=0.1, end_value=0.0, steps=400) * 4.0
      >>> round(plan.scale_batch(0.1, 256, 1024, critical_batch=1024), 6)
      0.25

    Source: Goyal et al. (1706.02677) for `linear`; Malladi et al. (2205.10287) for `sqrt`; McCandlish et al.
    (1812.06162) for the critical batch.
    """
    check_choice("plan.scale_batch", "rule", rule, BatchRule)
    old, new = (
        check_number("plan.scale_batch", name, x, Positive)
        for name, x in (("batch_size", batch_size), ("new_batch_size", new_batch_size))
    )
    if critical_batch is None:
        factor = new / old
    else:
        critical = check_number("plan.scale_batch", "critical_batch", critical_batch, Positive)
        factor = (1 + critical / old) / (1 + critical / new)
    if rule == "sqrt":
        factor = math.sqrt(factor) if isinstance(factor, float) else jnp.sqrt(factor)
    number: Any = value if isinstance(value, Schedule) else check_number("plan.scale_batch", "value", value, Scalar)
    return number * factor


class Stage(NamedTuple):
    """Steps of one rate and one batch size.

    Fields:
      start: the first step, on the new clock.
      steps: how many.
      batch_size: examples a step.
      learning_rate: the rate; in the first stage the peak, to which the warmup of the schedule leads.
    """

    start: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True, repr=False)
class Seesaw:
    """A schedule whose decay has become growth of the batch.

    Fields:
      learning_rate: the rate at each new step.
      batch_size: the batch size at each new step: `int(seesaw.batch_size(step))`.
      steps: how many new steps there are.
      old_steps: how many the schedule took.
      stages: the pieces, as `Stage(start, steps, batch_size, learning_rate)`.
    """

    learning_rate: Schedule
    batch_size: Schedule
    steps: int
    old_steps: int
    stages: tuple[Stage, ...]

    def __repr__(self) -> str:
        rows = self.stages if len(self.stages) <= 12 else (*self.stages[:8], None, *self.stages[-3:])
        lines = [
            f"  step {row.start}: {row.steps} steps of {row.batch_size} examples, rate {row.learning_rate:.4g}"
            if row
            else f"  ... {len(self.stages) - 11} more"
            for row in rows
        ]
        return "\n".join([f"Seesaw of {self.steps} steps for {self.old_steps} ({self.speed_up:.2f} x faster)", *lines])

    @property
    def examples(self) -> int:
        """How many examples are seen."""
        return sum(stage.steps * stage.batch_size for stage in self.stages)

    @property
    def speed_up(self) -> float:
        """How many times as many steps the schedule took, one after the other."""
        return self.old_steps / self.steps


def seesaw(
    schedule: Schedule,
    batch_size: int,
    total_steps: int | None = None,
    *,
    cut: float = 2.0,
    rule: BatchRule = "sqrt",
    critical_batch: float | None = None,
    max_batch_size: int | None = None,
    multiple_of: int = 1,
) -> Seesaw:
    """A schedule that decays, turned into one whose batch grows: the same examples in fewer steps.

    Formula: where the schedule has fallen to its peak by `cut^k` for the first time, after `n_k` steps of B examples,
    stage k begins: the batch is `B cut^k` and the rate `peak cut^(-k/2)` (with `rule="linear"`: the peak). So the rate
    is `scale_batch(peak cut^-k, B, B_k, rule)`, which also holds where the batch is rounded or has met its limit.
    Stages begin at the first step before which `B n_k` examples were seen. As `cut` nears 1 the steps near the sum of
    `rate / peak`: 2 / pi of the old ones for a quarter of a cosine, `cos(pi u / 2)` (the 36 % of the paper), and 1 / 2
    for a half, `(1 + cos(pi u)) / 2`, which is `Cosine`.

    Until its last peak the schedule stays as it is: its warmup has its own steps and batch. Inside of a stage the rate
    is constant; a smaller `cut`, such as 1.1, follows the schedule more closely.

    Args:
      schedule: it must not rise again after its last peak; what is before that peak stays as it is.
      batch_size: B, in examples (or tokens), 1 or more.
      total_steps: the steps of the schedule; None: its field of that name.
      cut: by what the rate falls from stage to stage, above 1; halving, as in the paper, is 2.
      rule, critical_batch: as in `scale_batch`: `sqrt` for Adam, `linear` for SGD.
      max_batch_size: the largest batch, in examples: what fits, or the critical batch, above which nothing is gained;
        from there on the rate falls as that of the schedule. None: a batch grows until it holds all examples left.
      multiple_of: every grown batch is a multiple of this number of examples, the next one below; 1 or more. Above
        2^24 it is the next one below that float32 holds, so that `batch_size` of the `Seesaw` tells it exactly.

    Returns: a `Seesaw`, whose examples are those of the schedule and less than one batch more.

    Errors: ValueError for a schedule that rises after its peak (with the step), for numbers out of range, and for a
    `batch_size` or `multiple_of` that float32 does not hold.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> s = plan.seesaw(js.Linear(0.8, 0.0, 1_000), batch_size=64, total_steps=1_000, max_batch_size=256)
      >>> for stage in s.stages:
      ...     print(stage.start, stage.steps, stage.batch_size, f"{stage.learning_rate:.3f}")
      0 500 64 0.800
      500 125 128 0.566
      625 32 256 0.400
      657 15 256 0.200
      672 8 256 0.100
      680 4 256 0.050
      684 2 256 0.025
      686 1 256 0.013
      687 1 256 0.006
      >>> s.steps, s.batch_size
      (688, PiecewiseConstant(boundaries=[500, 625], values=[64.0, 128.0, 256.0]))

    Source: Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size scheduling", 2025,
    arXiv 2510.14717; Smith et al. (1711.00489) for `linear`.
    """
    owner = "plan.seesaw"
    check_choice(owner, "rule", rule, BatchRule)
    batch_size = check_count(owner, "batch_size", batch_size)
    multiple_of = check_count(owner, "multiple_of", multiple_of)
    for name, value in (("batch_size", batch_size), ("multiple_of", multiple_of)):
        if not _is_exact(value):
            instead = f"write {_exact(value, 1) or 'less'}, or set jax_enable_x64"
            note = f" cannot be represented in {jnp.result_type(float)}"
            raise FieldError(owner, name, value, instead, note=note)
    if not check_number(owner, "cut", cut, Positive) > 1:
        raise FieldError(owner, "cut", cut, "cut must be above 1, such as 2.0")
    most = math.inf if max_batch_size is None else check_count(owner, "max_batch_size", max_batch_size)
    if most < batch_size:
        note = f" is below batch_size={batch_size}"
        raise FieldError(owner, "max_batch_size", most, "write a larger one", note=note)
    rates = concrete_rates(owner, schedule, total_steps)
    top = _last_peak(owner, rates)
    rows = _stages(rates, top, batch_size, float(cut), most, multiple_of)
    stages = [
        Stage(start, steps, batch, float(scale_batch(rate, batch_size, batch, rule, critical_batch)))
        for start, steps, batch, rate in rows
    ]
    if len(stages) == 1:  # nothing is to be had for the batch
        rate, top = schedule, 0
    else:
        rate = _pieces([(stage.start - top if i else 0, stage.learning_rate) for i, stage in enumerate(stages)])
    return Seesaw(
        learning_rate=schedule.then(rate, at=top) if top else rate,
        batch_size=_pieces([(stage.start, stage.batch_size) for stage in stages]),
        steps=stages[-1].start + stages[-1].steps,
        old_steps=rates.size,
        stages=tuple(stages),
    )


def _last_peak(owner: str, rates: np.ndarray) -> int:
    """The last step of the largest rate, after which none may rise."""
    top = int(np.flatnonzero(rates >= rates.max() * (1 - SAME))[-1])
    rises = np.flatnonzero(np.diff(rates[top:]) > SAME * rates[top])
    if rises.size:
        step = top + int(rises[0]) + 1
        note = f" is above that of the step before, {rates[step - 1]:g}, and after the peak at step {top}"
        value = float(f"{rates[step]:g}")
        raise FieldError(
            owner, f"schedule({step})", value, "write a schedule that only falls from its peak on", note=note
        )
    return top


def _stages(
    rates: np.ndarray, top: int, batch_size: int, cut: float, most: float, multiple_of: int
) -> list[tuple[int, int, int, float]]:
    """Start, steps, batch size, and the rate that the schedule would have there, of every stage."""
    peak, examples = short(rates.max()), rates.size * batch_size
    with np.errstate(divide="ignore"):
        cuts = np.floor(np.log(peak / rates[top:]) / math.log(cut) + SAME)
    cuts = np.maximum.accumulate(np.where(rates[top:] > 0, cuts, np.inf))
    begins = np.flatnonzero(np.append(True, cuts[1:] > cuts[:-1]))
    rows: list[tuple[int, int, int, float]] = []
    seen, step, batch = 0, 0, batch_size
    for i, begin in enumerate(begins):
        until = (top + int(begins[i + 1])) * batch_size if i + 1 < len(begins) else examples
        grown = batch_size * cut ** float(min(cuts[begin], math.log(examples) / math.log(cut) + 1))
        grown = _exact(int(min(grown + 0.5 if multiple_of == 1 else grown, most)), multiple_of)
        # The last batches are not to hold more than there is left.
        batch = max(batch, grown) if grown <= examples - seen and cuts[begin] < np.inf else batch
        steps = max(-(-(until - seen) // batch), 0)
        if steps:
            rows.append((step, steps, batch, peak * cut ** -float(cuts[begin])))
            seen, step = seen + steps * batch, step + steps
    return rows


def _exact(batch: int, multiple_of: int) -> int:
    """The next multiple, `batch` or below it, that the type of rates holds exactly; 0 where there is none."""
    batch = batch // multiple_of * multiple_of
    while not _is_exact(batch):
        multiple_of *= 2
        batch = batch // multiple_of * multiple_of
    return batch


def _is_exact(batch: int) -> bool:
    with np.errstate(over="ignore"):
        return float(jnp.result_type(float).type(batch)) == batch


def _pieces(rows: list[tuple[int, float]]) -> Schedule:
    """A value from each step on, told once where it does not change."""
    kept = [row for i, row in enumerate(rows) if i == 0 or row[1] != rows[i - 1][1]]
    if len(kept) == 1:
        return Constant(float(kept[0][1]))
    return PiecewiseConstant([start for start, _ in kept[1:]], [float(value) for _, value in kept])
