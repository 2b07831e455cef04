"""What is trained: a model, its loss, its data and its optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ..schedules.fields import shown


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A training that a schedule can be tried on, as five functions and arrays that know nothing of the sweep.

    Fields:
      init: `init(key) -> params`, any pytree of arrays.
      loss: `loss(params, batch, key) -> (loss, metrics)`, a scalar to be minimised and a dict of scalars; `key` is
        None in validation, where dropout and the like are off.
      train, valid: pytrees of arrays whose first axis counts the examples.
      batch_size: the examples of one step, at most those of `train`.
      optimizer: `optimizer(setting) -> optax.GradientTransformation`, where a setting is a schedule or a pytree of
        schedules. It runs inside of the compiled program, so the hyperparameters are traced.
      metrics: not an argument, but the names of what a sweep reports: `train_loss`, `valid_loss` and so on.

    Errors: TypeError for what is not a function, an array or an integer, and for a loss that returns anything but a
    scalar and a dict of scalars; ValueError for numbers of examples that differ and for a batch that is too large.
    Each names the field. `init` and `loss` are traced once here, without computing anything.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxsched.sweep import Task
      >>> x = jnp.linspace(-1.0, 1.0, 40)
      >>> def loss(params, batch, key):
      ...     x, y = batch
      ...     return jnp.mean((params["slope"] * x - y) ** 2), {}
      >>> task = Task(
      ...     init=lambda key: {"slope": jnp.zeros(())},
      ...     loss=loss,
      ...     train=(x, 2 * x),
      ...     valid=(x, 2 * x),
      ...     batch_size=8,
      ...     optimizer=lambda schedule: optax.sgd(schedule),
      ... )
      >>> task.examples, task.metrics
      (40, ('train_loss', 'valid_loss'))
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, jax.Array | None], tuple[Any, Any]]
    train: Any
    valid: Any
    batch_size: int
    optimizer: Callable[[Any], Any]
    metrics: tuple[str, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        for name, call in (("init", "key"), ("loss", "params, batch, key"), ("optimizer", "schedule")):
            value = getattr(self, name)
            if not callable(value):
                raise TypeError(f"Task: {name}={shown(value)}; {name} must be a function: {name}=lambda {call}: ...")
        examples = _count("train", self.train)
        _count("valid", self.valid)
        train, valid = (jax.tree.structure(data) for data in (self.train, self.valid))
        if train != valid:
            raise ValueError(f"Task: valid is {valid} and train is {train}; write both in the form of one batch.")
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"Task: batch_size={shown(size)}; batch_size must be an integer, such as 64.")
        if not 1 <= size <= examples:
            raise ValueError(
                f"Task: batch_size={size}, and train has {examples} examples; batch_size must be from 1 to {examples}."
            )
        object.__setattr__(self, "metrics", self._check_loss())

    @property
    def examples(self) -> int:
        """The examples in `train`."""
        return len(jax.tree.leaves(self.train)[0])

    def _check_loss(self) -> tuple[str, ...]:
        """The names that a sweep of this task reports."""

        def losses(key: jax.Array, train: Any, valid: Any) -> Any:
            params = self.init(key)
            batch = jax.tree.map(lambda x: x[: self.batch_size], train)
            return self.loss(params, batch, key), self.loss(params, valid, None)

        try:
            outs = jax.eval_shape(losses, jax.random.key(0), self.train, self.valid)
        except Exception as error:
            error.add_note(
                "Task: this came from a trial of init(key) and loss(params, batch, key), key None in validation."
            )
            raise
        for out in outs:
            if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Mapping)):
                raise TypeError(
                    f"Task: loss returned {shown(out)}; loss must return a pair, the scalar to be minimised and a dict "
                    'of scalars: return loss, {"accuracy": accuracy}, or return loss, {}'
                )
            for name, value in {"loss": out[0], **{f"metrics[{k!r}]": v for k, v in out[1].items()}}.items():
                if getattr(value, "shape", None) != ():
                    raise TypeError(
                        f"Task: loss returned {name} = {shown(value)}; it must be one number: write jnp.mean of it."
                    )
            if "loss" in out[1]:
                raise ValueError("Task: loss returned a metric named 'loss', which is the name of the loss itself.")
        if set(outs[0][1]) != set(outs[1][1]):
            raise ValueError(
                f"Task: loss returned the metrics {sorted(outs[0][1])} in training and {sorted(outs[1][1])} in "
                "validation; return the same in both."
            )
        return tuple(f"{part}_{name}" for part in ("train", "valid") for name in ("loss", *outs[0][1]))


def _count(name: str, data: Any) -> int:
    """The examples in `data`."""
    leaves = jax.tree.leaves(data)
    if not leaves:
        raise ValueError(f"Task: {name}={shown(data)} holds no arrays; write {name}=(x, y).")
    for leaf in leaves:
        if not isinstance(leaf, (np.ndarray, jax.Array)) or leaf.ndim == 0:
            raise TypeError(
                f"Task: {name} holds {shown(leaf)}; {name} must be a pytree of arrays whose first axis counts the "
                "examples (numpy.asarray makes one of a list)."
            )
    counts = sorted({len(leaf) for leaf in leaves})
    if len(counts) > 1 or counts == [0]:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(
            f"Task: {name} holds arrays of shapes {shapes}; their first axes must be one number of examples, 1 or more."
        )
    return counts[0]
