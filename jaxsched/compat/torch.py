"""torch.optim.lr_scheduler: the classes by their own names and arguments, with `lr` in the place of the optimizer."""

from __future__ import annotations

from ..schedules.base import Schedule
from ..schedules.decays import ExponentialDecay, StepDecay
from ..schedules.fields import Integer, Length, Positive, Scalar
from ..schedules.ramps import Ramp
from .peer import Peer


def _resumed(schedule: Schedule, last_epoch: Integer) -> Schedule:
    """torch makes one step at construction: a scheduler with `last_epoch=9` starts at its step 10."""
    return schedule.shift(-(last_epoch + 1))


class StepLR(Peer):
    """A factor at every `step_size`-th step.

    Formula: `s(t) = lr gamma^floor(t / step_size)`.

    Fields:
      lr: the optimizer's rate.
      step_size: steps between two factors, above 0.
      gamma: the factor, above 0.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.StepLR(1.0, step_size=2, gamma=0.5).table(5).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25]

    Source: torch.optim.lr_scheduler.StepLR (2.13).
    """

    lr: Scalar
    step_size: Length
    gamma: Positive = 0.1
    last_epoch: Integer = -1

    def build(self) -> Schedule:
        return _resumed(StepDecay(self.lr, self.gamma, self.step_size), self.last_epoch)


class ExponentialLR(Peer):
    """A constant factor at every step.

    Formula: `s(t) = lr gamma^t`.

    Fields:
      lr: the optimizer's rate.
      gamma: the factor, above 0.
      last_epoch: the last step that was made, to go on from; -1 for none.

    Example:
      >>> from jaxsched.compat import torch
      >>> torch.ExponentialLR(1.0, gamma=0.5).table(4).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: torch.optim.lr_scheduler.ExponentialLR (2.13).
    """

    lr: Scalar
    gamma: Positive
    last_epoch: Integer = -1

    def build(self) -> Schedule:
        return _resumed(ExponentialDecay(self.lr, self.gamma, 1), self.last_epoch)


class CosineAnnealingLR(Peer):
    """Half a cosine wave from the rate to `eta_min`, which then holds.

    Formula: `s(t) = eta_min + (lr - eta_min) (1 + cos(pi u)) / 2` with `u = min(t / T_max, 1)`; torch does not stop at
    `T_max`, and rises again.

    Fields:
      lr: the optimizer's rate.
      T_max: the steps from top to bottom, above 0.
      eta_min: the value at step `T_max`.
      last_epoch: the last step that was made, to go on from; -1 for none.
      peer_exact: whether it rises again, as torch's does.

    Example:
      >>> from jaxsched.compat import torch
      >>> [round(float(v), 4) for v in torch.CosineAnnealingLR(1.0, T_max=2).table(5)]
      [1.0, 0.5, 0.0, 0.0, 0.0]

    Source: torch.optim.lr_scheduler.CosineAnnealingLR (2.13).
    """

    lr: Scalar
    T_max: Length
    eta_min: Scalar = 0.0
    last_epoch: Integer = -1
    peer_exact: bool = False

    def build(self) -> Schedule:
        down = Ramp(self.lr, self.eta_min, self.T_max, shape="cosine")
        if self.peer_exact:
            up = Ramp(self.eta_min, self.lr, self.T_max, shape="cosine")
            down = down.then(up, at=self.T_max).repeat(2 * self.T_max)
        return _resumed(down, self.last_epoch)
