"""The schedule that `to_keras` makes. Keras loads a model only if the classes in it were registered before: import this
module, which needs Keras, where a model with such a schedule is loaded."""

from __future__ import annotations

import importlib
from typing import Any

from ..schedules.base import Schedule

keras: Any = importlib.import_module("keras")  # which need not be there for a type checker


@keras.saving.register_keras_serializable("jaxsched")
class FromJaxsched(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule, or a table of its values at steps 0 ... len(values) - 1, whose last one holds.

    Args:
      schedule: for the JAX backend, which traces it; None with a table.
      values: the table.
    """

    def __init__(self, schedule: Schedule | None = None, values: list[float] | None = None) -> None:
        self.schedule, self.values = schedule, values
        backend = keras.backend.backend()
        if values is None and backend != "jax":
            raise ValueError(
                f"to_keras: steps=None; the {backend} backend cannot trace a schedule of JAX: write steps=, the "
                "horizon of the training, for a table of it."
            )

    def __call__(self, step: Any) -> Any:
        if self.values is None:
            assert self.schedule is not None
            return self.schedule(keras.ops.convert_to_tensor(step))
        table = keras.ops.convert_to_tensor(self.values, keras.config.floatx())
        return keras.ops.take(table, keras.ops.clip(keras.ops.cast(step, "int32"), 0, len(self.values) - 1))

    def get_config(self) -> dict[str, Any]:
        if self.values is None:
            raise ValueError(
                f"to_keras: {self.schedule!r} has no table to save with the model; write to_keras(schedule, "
                "steps=...), with the horizon of the training."
            )
        return {"values": self.values}
