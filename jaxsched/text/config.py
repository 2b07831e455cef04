"""A schedule in a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ..schedules.base import Schedule
from ..units import Timeline
from .parsing import parse


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A schedule in a config: an expression, and the sizes that its lengths are counted in.

    It holds nothing but texts and numbers, so `tyro.cli(ScheduleConfig)`, `ml_collections.ConfigDict` (of its
    `dataclasses.asdict`), OmegaConf and JSON take it as a part of a config of your own.

    Args:
      expression: as `parse` reads it.
      total_steps: the horizon, a number of steps or a text with a unit; None if no length needs it.
      steps_per_epoch: the steps in an epoch, for lengths such as '3ep'.
      tokens_per_step: the tokens in a step, for lengths such as '2e9tok'.

    Raises:
      ParseError: from `build`, as `parse`.
      ValueError: from `build`, as `Timeline`.

    Example:
      >>> import dataclasses
      >>> from jaxsched import ScheduleConfig
      >>> @dataclasses.dataclass
      ... class Config:
      ...     batch_size: int = 128
      ...     learning_rate: ScheduleConfig = ScheduleConfig(
      ...         "WarmupConstant(0.1, warmup_steps='1ep').cooldown(at='80%', steps='20%')", "10ep", steps_per_epoch=390
      ...     )
      >>> Config().learning_rate.build()
      WarmupConstant(peak_value=0.1, warmup_steps=390).cooldown(at=3120, steps=780)
    """

    expression: str
    total_steps: int | str | None = None
    steps_per_epoch: float | None = None
    tokens_per_step: float | None = None

    @property
    def timeline(self) -> Timeline | None:
        """The sizes, as `parse` takes them; None without a horizon."""
        if self.total_steps is None:
            if self.steps_per_epoch is not None or self.tokens_per_step is not None:
                raise ValueError("ScheduleConfig: total_steps=None; write the horizon too, such as total_steps='10ep'.")
            return None
        return Timeline(self.total_steps, self.steps_per_epoch, self.tokens_per_step)  # type: ignore[arg-type]

    def build(self, known: Iterable[Any] | Mapping[str, Any] = ()) -> Schedule:
        """The schedule; `known` as in `parse`."""
        return parse(self.expression, timeline=self.timeline, known=known)
