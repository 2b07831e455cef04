"""Out again: one definition of a schedule for a training in torch, in Keras, in Optax or on the host alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .._errors import format_value
from ..fields import Domain, validate
from ..schedules.base import Schedule, as_schedule

_BLOCK = 4096  # steps that are evaluated at once: a call to a device takes as long for one step as for thousands
_COUNT = Domain("a number of steps above 0", lambda x: x > 0, counts=True, whole=True)


def _one_setting(owner: str, schedule: Any) -> Schedule:
    if isinstance(schedule, tuple) and not hasattr(schedule, "init"):
        raise TypeError(
            f"{owner}: schedule={format_value(schedule)} is a tuple; give one schedule (of several, take [0])."
        )
    if hasattr(schedule, "last_epoch") and hasattr(schedule, "optimizer"):
        raise TypeError(f"{owner}: schedule is a live scheduler of torch; compat.torch.from_scheduler reads it.")
    schedule = as_schedule(owner, "schedule", schedule)
    if np.ndim(schedule(0)):
        raise ValueError(
            f"{owner}: schedule={format_value(schedule)} holds several settings; unstack it, and give one."
        )
    return schedule


def to_optax(schedule: Any) -> Schedule:
    """The schedule itself: Optax takes any function of the step.

    Args:
      schedule: a schedule, a callable or a number.

    Example:
      >>> import jaxsched as js
      >>> s = js.Linear(1.0, 0.0, steps=4)
      >>> js.compat.to_optax(s) is s
      True
    """
    return _one_setting("to_optax", schedule)


def to_numpy(schedule: Any, steps: Any) -> np.ndarray:
    """The values at steps `0 ... steps - 1`, or at an array of `steps`, as an array of the host.

    Args:
      schedule: a schedule, a callable or a number.
      steps: how many steps, or (any shape) which.

    Returns: an array of float32 (float64 under x64).

    Example:
      >>> import jaxsched as js
      >>> js.compat.to_numpy(js.Linear(1.0, 0.0, steps=4), steps=3)
      array([1.  , 0.75, 0.5 ], dtype=float32)
    """
    return np.asarray(_one_setting("to_numpy", schedule).table(steps))


def host_table(schedule: Schedule) -> Callable[[int], float]:
    """`step -> value` in Python floats, of which all but one in thousands are read from a table."""

    @functools.lru_cache(maxsize=8)
    def block(number: int) -> list[float]:
        return np.asarray(schedule(np.arange(number * _BLOCK, (number + 1) * _BLOCK))).tolist()

    def value(step: int) -> float:
        number, place = divmod(step, _BLOCK)
        return block(number)[place]

    value.schedule = schedule  # for whoever reads a live scheduler  # pyright: ignore[reportFunctionMemberAccess]
    return value


def to_torch(schedule: Any, optimizer: Any, last_epoch: int = -1) -> Any:
    """A torch `LambdaLR` that sets the optimizer's rate to the schedule's: call its `step()` once an update.

    Formula: `group["lr"] = schedule(t)` before update t. The rate that the optimizer was made with is replaced.

    Args:
      schedule: a schedule, a callable or a number for all parameter groups; or a list of them, one for each group.
      optimizer: a `torch.optim.Optimizer`.
      last_epoch: the last step that was made, to go on from; -1 for none. `load_state_dict` does it as well.

    Errors: ValueError for a list of another length than the groups, and for a schedule of several settings; ImportError
    without torch.

    Example:
      >>> import jaxsched as js
      >>> scheduler = js.compat.to_torch(js.Linear(0.1, 0.0, steps=4), optimizer)  # doctest: +SKIP
      >>> for batch in batches:                                                    # doctest: +SKIP
      ...     update(batch)
      ...     scheduler.step()

    Source: torch.optim.lr_scheduler.LambdaLR (2.13).
    """
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        raise TypeError(
            f"to_torch: optimizer={format_value(optimizer)} has no param_groups; write a torch.optim.Optimizer."
        )
    given = schedule if isinstance(schedule, list) else [schedule] * len(groups)
    if len(given) != len(groups):
        raise ValueError(f"to_torch: {len(given)} schedules and {len(groups)} parameter groups; write one for each.")
    from torch.optim.lr_scheduler import LambdaLR  # pyright: ignore[reportMissingImports]

    for group in groups:  # LambdaLR multiplies with this
        group["initial_lr"] = 1.0
    return LambdaLR(optimizer, [_rate(s) for s in given], last_epoch)


def _rate(schedule: Any) -> Callable[[int], float]:
    """A function of the host stays one, whether JAX could trace it or not."""
    if callable(schedule) and not isinstance(schedule, Schedule):
        function: Callable[[int], Any] = schedule
        return lambda step: float(function(step))
    return host_table(_one_setting("to_torch", schedule))


def to_keras(schedule: Any, steps: Any = None) -> Any:
    """A Keras `LearningRateSchedule`, for `optimizer=keras.optimizers.Adam(learning_rate=...)`.

    Formula: `schedule(step)`. On the JAX backend the schedule is part of the compiled training; on the others, which
    cannot trace it, it is a table of `steps + 1` values, whose last one holds. Where a model that was saved with one is
    loaded, `import jaxsched.compat.keras_rate` first: Keras wants to know its class.

    Args:
      schedule: a schedule, a callable or a number.
      steps: the horizon of the table; None on the JAX backend. A saved model holds the table, so that to save one
        `steps` is needed there too.

    Errors: ValueError for no `steps` on another backend than JAX; ImportError without Keras.

    Example:
      >>> import jaxsched as js
      >>> rate = js.compat.to_keras(js.Linear(0.1, 0.0, steps=4), steps=4)   # doctest: +SKIP
      >>> model.compile(keras.optimizers.SGD(learning_rate=rate), loss="mse")  # doctest: +SKIP

    Source: keras.optimizers.schedules.LearningRateSchedule (3.15).
    """
    from .keras_rate import FromJaxsched

    schedule = _one_setting("to_keras", schedule)
    if steps is None:
        return FromJaxsched(schedule)
    steps = int(validate("to_keras", "steps", steps, _COUNT))
    return FromJaxsched(values=to_numpy(schedule, steps + 1).tolist())
