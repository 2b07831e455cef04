"""REX, twice: Axolotl and pytorch_optimizer call two curves by one name. The core's `Rex(beta)` is both."""

from __future__ import annotations

from ...fields import Integer, Positive, Scalar, Steps, reject_if
from ...schedules.base import Constant, Schedule
from ...schedules.ramps import Linear, Rex
from ..peer import Peer
from ._shared import most


class AxolotlRexLR(Peer):
    """Axolotl's REX, high for long and steep at its end, after a linear warmup.

    Formula: `Rex(lr, lr min_lr / max_lr, total_steps - num_warmup_steps, beta=0.1)`, that is `z / (0.1 + 0.9 z)` with z
    the share of the way that is left, after a line from 0 in `num_warmup_steps`. The clock is one step ahead: the first
    update has the value of step 1, and update `total_steps - 1` the last one.

    Fields:
      lr: the optimizer's rate, most often `max_lr`.
      max_lr: above 0.
      min_lr: with `max_lr` it says to which share of `lr` the curve falls; not above `max_lr`.
      total_steps: the horizon, 0 or more.
      num_warmup_steps: the length of the warmup, 0 or more.
      last_step: the step to go on from.
      peer_exact: whether a group whose `lr` is not `max_lr` jumps to `min_lr` at the end, as Axolotl's does.

    Errors: ValueError for `min_lr > max_lr`, and for a warmup longer than the whole.

    Example:
      >>> from jaxsched.compat.others import rex
      >>> s = rex.AxolotlRexLR(lr=1.0, max_lr=1.0, min_lr=0.0, total_steps=6, num_warmup_steps=2)
      >>> [round(float(v), 4) for v in s.table(7)]
      [0.5, 1.0, 0.9677, 0.9091, 0.7692, 0.0, 0.0]

    Source: Axolotl's RexLR (axolotl.utils.schedulers).
    """

    lr: Scalar
    max_lr: Positive
    min_lr: Scalar
    total_steps: Steps = 0
    num_warmup_steps: Steps = 0
    last_step: Integer = 0
    peer_exact: bool = False

    def check(self) -> None:
        reject_if(self, lambda low, high: low > high, "min_lr", "max_lr", instead="write min_lr <= max_lr")
        reject_if(
            self,
            lambda warmup, total: warmup > total,
            "num_warmup_steps",
            "total_steps",
            instead="the warmup must not be longer than the whole: write num_warmup_steps <= total_steps",
        )
        reject_if(self, lambda step: step < 0, "last_step", instead="write 0 or more")

    def build(self) -> Schedule:
        up = Linear(0.0, self.lr, self.num_warmup_steps)
        end = self.lr * (self.min_lr / self.max_lr)
        down = Rex(self.lr, end, self.total_steps - self.num_warmup_steps, beta=0.1)
        after = self.num_warmup_steps + 1  # a warmup that is all there is ends at its top
        whole = up.then(down.shift(-1), at=after)
        if self.peer_exact:
            whole = whole.then(Constant(self.min_lr), at=most(self.total_steps, after))
        return whole.shift(-most(self.last_step, 1))


class PytorchOptimizerREXScheduler(Peer):
    """pytorch_optimizer's REX, the curve of the paper.

    Formula: `Rex(max_lr, min_lr, total_steps, beta=0.5)`, that is `z / (0.5 + 0.5 z)` with z the share of the way that
    is left. The optimizer's own rate is overwritten, and is no field here.

    Fields:
      total_steps: the length, 0 or more.
      max_lr: the value at step 0.
      min_lr: the value from step `total_steps` on.
      peer_exact: whether the first update has `min_lr`, as pytorch_optimizer's has, which resets the rate when it has
        already set it.

    Example:
      >>> from jaxsched.compat.others import rex
      >>> s = rex.PytorchOptimizerREXScheduler(total_steps=4)
      >>> [round(float(v), 6) for v in s.table(5)]
      [1.0, 0.857143, 0.666667, 0.4, 0.0]

    Source: pytorch_optimizer 4.1.0, REXScheduler.
    """

    total_steps: Steps
    max_lr: Scalar = 1.0
    min_lr: Scalar = 0.0
    peer_exact: bool = False

    def build(self) -> Schedule:
        down = Rex(self.max_lr, self.min_lr, self.total_steps, beta=0.5)
        return Constant(self.min_lr).then(down.shift(-1), at=1) if self.peer_exact else down
