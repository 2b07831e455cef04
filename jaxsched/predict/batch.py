"""Learning rates for other batch sizes, and schedules that grow the batch instead of decaying the rate."""

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
    """Returns a learning rate, or a schedule of it, for another batch size.

    With `B` the batch size, `B'` the new one and `a` 1 for `linear` and 1/2 for `sqrt`: `value (B' / B)^a`. With a
    critical batch `C` it is `value ((1 + C / B) / (1 + C / B'))^a`: nearly constant above `C`, where a larger batch
    has no more noise to average.

    Args:
      value: a number, an array, or a schedule.
      batch_size: in examples or tokens, above 0.
      new_batch_size: in the same unit, above 0.
      rule: `linear`, for SGD, or `sqrt`, for Adam.
      critical_batch: the noise scale of the gradients, in the same unit, above 0; None: far above both batches.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> plan.scale_batch(0.1, 256, 1024), plan.scale_batch(3e-4, 256, 1024, "sqrt")
      (0.4, 0.0006)
      >>> plan.scale_batch(js.Linear(0.1, 0.0, 400), 256, 1024)
      Linear(init_value=0.1, end_value=0.0, steps=400) * 4.0
      >>> round(plan.scale_batch(0.1, 256, 1024, critical_batch=1024), 6)
      0.25

    References:
      Goyal et al. (1706.02677) for `linear`; Malladi et al. (2205.10287) for `sqrt`; McCandlish et al. (1812.06162) for
      the critical batch.
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
    """Steps with one rate and one batch size; the rate of the first stage is the peak after the warmup."""

    start: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclasses.dataclass(frozen=True, repr=False)
class Seesaw:
    """A schedule that grows the batch instead of decaying the rate.

    Args:
      learning_rate: the rate at each new step.
      batch_size: the batch size at each new step: `int(seesaw.batch_size(step))`.
      steps: the number of new steps.
      old_steps: the number of steps of the old schedule.
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
        """The number of examples."""
        return sum(stage.steps * stage.batch_size for stage in self.stages)

    @property
    def speed_up(self) -> float:
        """The steps of the old schedule divided by the new ones."""
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
    """Returns a schedule that grows the batch instead of decaying the rate: the same examples in fewer steps.

    Stage k begins where the schedule has first fallen to its peak divided by `cut^k`, after `n_k` steps of B examples:
    at the first new step before which `B n_k` examples were seen. Its batch is `B cut^k` and its rate
    `peak cut^(-k/2)` (for `rule="linear"`: the peak), or `scale_batch(peak cut^-k, B, B_k, rule)` for a batch B_k that
    is rounded or at its limit. The schedule does not change before its last peak. As `cut` approaches 1, the number of
    steps approaches the sum of `rate / peak`: 2 / pi of the old ones for `cos(pi u / 2)`, as in the paper, and 1 / 2
    for `Cosine`.

    Args:
      schedule: it must not rise after its last peak.
      batch_size: B, in examples or tokens, 1 or more.
      total_steps: the steps of the schedule; None: its field of that name.
      cut: the factor between the rates of two stages, above 1; 2 in the paper.
      rule: `sqrt` for Adam, `linear` for SGD.
      critical_batch: as in `scale_batch`.
      max_batch_size: the largest batch, in examples, from where on the rate falls as in the schedule; None: a batch
        grows until it holds all examples left.
      multiple_of: every grown batch is rounded down to a multiple of this number of examples, 1 or more, that the dtype
        of `Seesaw.batch_size` represents exactly.

    Returns:
      A `Seesaw`, with the examples of the schedule and less than one batch more.

    Raises:
      FieldError: for a schedule that rises after its peak, and for examples that float32 does not represent.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import plan
      >>> s = plan.seesaw(js.Linear(0.8, 0.0, 1_000), batch_size=64, total_steps=1_000, max_batch_size=256)
      >>> for stage in s.stages[:4]:
      ...     print(stage.start, stage.steps, stage.batch_size, f"{stage.learning_rate:.3f}")
      0 500 64 0.800
      500 125 128 0.566
      625 32 256 0.400
      657 15 256 0.200
      >>> s.steps, s.batch_size
      (688, PiecewiseConstant(boundaries=[500, 625], values=[64.0, 128.0, 256.0]))

    References:
      Meterez et al., "Seesaw: accelerating training by balancing learning rate and batch size scheduling", 2025, arXiv
      2510.14717; Smith et al. (1711.00489) for `linear`.
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
    if len(stages) == 1:  # the rate never falls by a cut
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
    """The last step of the largest rate; raises FieldError if the rate rises after it."""
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
    """Start, steps, batch size, and the rate of the old schedule, of every stage."""
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
        # A batch must not hold more examples than are left.
        batch = max(batch, grown) if grown <= examples - seen and cuts[begin] < np.inf else batch
        steps = max(-(-(until - seen) // batch), 0)
        if steps:
            rows.append((step, steps, batch, peak * cut ** -float(cuts[begin])))
            seen, step = seen + steps * batch, step + steps
    return rows


def _exact(batch: int, multiple_of: int) -> int:
    """The largest multiple up to `batch` that the dtype of rates represents exactly; 0 without one."""
    batch = batch // multiple_of * multiple_of
    while not _is_exact(batch):
        multiple_of *= 2
        batch = batch // multiple_of * multiple_of
    return batch


def _is_exact(batch: int) -> bool:
    with np.errstate(over="ignore"):
        return float(jnp.result_type(float).type(batch)) == batch


def _pieces(rows: list[tuple[int, float]]) -> Schedule:
    """A piecewise constant schedule of (first step, value); equal neighbours become one piece."""
    kept = [row for i, row in enumerate(rows) if i == 0 or row[1] != rows[i - 1][1]]
    if len(kept) == 1:
        return Constant(float(kept[0][1]))
    return PiecewiseConstant([start for start, _ in kept[1:]], [float(value) for _, value in kept])
