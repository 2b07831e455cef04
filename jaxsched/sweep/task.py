"""What is trained: a model, its loss, its data and its optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from .._errors import format_value
from .data import Source, is_source


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A training that a schedule can be tried on, as five functions and arrays that know nothing of the sweep.

    Fields:
      init: `init(key) -> params`, a pytree of arrays of floats, all of which are trained. One that does not use its
        key starts all seeds from the same parameters, as fine-tuning does.
      loss: `loss(params, batch, key) -> (loss, metrics)`, a scalar to be minimised and a dict of scalars; `key` is
        None in validation, where dropout and the like are off.
      train: a pytree of arrays whose first axis counts the examples; the sweep draws the batches from the key. Or
        batches from Python code, in the form of `valid`: a list of them, a Grain, tf.data or torch loader, or, best,
        a function `train=lambda: iterator` that makes the iterator. The next section tells more.
      valid: a pytree of arrays whose first axis counts the examples; the whole of it is one batch.
      batch_size: the examples of one step, at most those of `train`; None where `train` gives batches.
      optimizer: `optimizer(setting) -> optax.GradientTransformation`, where a setting is a schedule or a pytree of
        schedules. It runs inside of the compiled program, so the hyperparameters are traced.
      metrics: not an argument, but the names of what a sweep reports: `train_loss`, `valid_loss` and so on.

    Batches from Python code are fetched ahead by a thread. All trainings of a chunk share them, whatever their seed,
    and every chunk begins a new pass, so passes must give the same batches for settings to be compared on the same
    data; so must a run that is resumed, which passes over the batches of the steps that are done. What has come to
    its end begins again: that is the next epoch. All batches must be alike, so a last one with fewer examples is
    refused. An iterator, such as a generator, gives one pass only.

    Errors: TypeError for what is not a function, an array or an integer, for parameters that are not floats, and for
    a loss that returns anything but a scalar and a dict of scalars; ValueError for numbers of examples that differ,
    for a batch that is too large, for `init` without parameters and for `train` without a batch. Each names the field.
    `init` and `loss` are traced once here, without computing anything; from Python code the first batch is taken.

    Example:
      >>> import dataclasses
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
      >>> batches = lambda: ((x[i : i + 8], 2 * x[i : i + 8]) for i in range(0, 40, 8))
      >>> dataclasses.replace(task, train=batches, batch_size=None).host
      True
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, jax.Array | None], tuple[Any, Any]]
    train: Any
    valid: Any
    batch_size: int | None
    optimizer: Callable[[Any], Any]
    metrics: tuple[str, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        for name, call in (("init", "key"), ("loss", "params, batch, key"), ("optimizer", "schedule")):
            value = getattr(self, name)
            if not callable(value):
                raise TypeError(
                    f"Task: {name}={format_value(value)}; {name} must be a function: {name}=lambda {call}: ..."
                )
        _count("valid", self.valid)
        if isinstance(self.train, Source) or is_source(self.train, self.valid):
            self._check_batches()
        else:
            self._check_arrays()
        object.__setattr__(self, "metrics", self._check_loss())

    def __repr__(self) -> str:
        def form(x: Any) -> Any:
            return f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") else x

        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        fields |= {name: jax.tree.map(form, fields[name]) for name in ("train", "valid")}
        return f"Task({', '.join(f'{name}={value!r}' for name, value in fields.items())})"

    @property
    def host(self) -> bool:
        """Whether the batches come from Python code; `train` is a `Source` then."""
        return isinstance(self.train, Source)

    @property
    def examples(self) -> int:
        """The examples in `train`, if it is arrays."""
        if self.host:
            raise AttributeError("Task: batches from Python code have no number of examples.")
        return len(jax.tree.leaves(self.train)[0])

    @property
    def batch(self) -> Any:
        """A batch to look at: its shapes and dtypes are those of all."""
        return self.train.first if self.host else jax.tree.map(lambda x: x[: self.batch_size], self.train)

    @property
    def seeded(self) -> bool:
        """Whether trainings with different seeds differ: `init` or `loss` uses its key, or batches are drawn."""
        if not self.host:
            return True
        params = jax.eval_shape(self.init, jax.random.key(0))
        return _uses(self.init) or _uses(lambda key, params: self.loss(params, self.batch, key), params)

    def _check_arrays(self) -> None:
        examples = _count("train", self.train)
        train, valid = (jax.tree.structure(data) for data in (self.train, self.valid))
        if train != valid:
            raise ValueError(f"Task: valid is {valid} and train is {train}; write both in the form of one batch.")
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"Task: batch_size={format_value(size)}; batch_size must be an integer, such as 64.")
        if not 1 <= size <= examples:
            raise ValueError(
                f"Task: batch_size={size}, and train has {examples} examples; batch_size must be from 1 to {examples}."
            )

    def _check_batches(self) -> None:
        source = self.train if self.host else Source(self.train)
        # Kept in place of what was written: the first batch of an iterator is in it, and nowhere else any more.
        object.__setattr__(self, "train", source)
        batch, valid = jax.tree.structure(source.first), jax.tree.structure(self.valid)
        if batch != valid:
            raise ValueError(
                f"Task: valid is {valid} and a batch of train is {batch}; write both alike (train=lambda: ... returns "
                "an iterator of batches, such as iter([(x, y)]); a loader that gives lists is made to give tuples by "
                "train=lambda: map(tuple, loader))."
            )
        sizes = sorted({x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(source.first)})
        if self.batch_size is not None and sizes != [self.batch_size]:
            raise ValueError(
                f"Task: batch_size={format_value(self.batch_size)}, and the first batch of train has {sizes} "
                f"examples; write "
                "batch_size=None where train gives batches."
            )

    def _check_loss(self) -> tuple[str, ...]:
        """The names that a sweep of this task reports."""

        def losses(params: Any, key: jax.Array, batch: Any, valid: Any) -> Any:
            return self.loss(params, batch, key), self.loss(params, valid, None)

        try:
            params = jax.eval_shape(self.init, jax.random.key(0))
            _check_params(params)
            outs = jax.eval_shape(losses, params, jax.random.key(0), self.batch, self.valid)
        except Exception as error:
            error.add_note(
                "Task: this came from a trial of init(key) and loss(params, batch, key), key None in validation."
            )
            raise
        for out in outs:
            if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Mapping)):
                raise TypeError(
                    f"Task: loss returned {format_value(out)}; loss must return a pair, the scalar to be "
                    f"minimised and a dict "
                    'of scalars: return loss, {"accuracy": accuracy}, or return loss, {}'
                )
            for name, value in {"loss": out[0], **{f"metrics[{k!r}]": v for k, v in out[1].items()}}.items():
                if getattr(value, "shape", None) != ():
                    raise TypeError(
                        f"Task: loss returned {name} = {format_value(value)}; it must be one number: write "
                        f"jnp.mean of it."
                    )
            if "loss" in out[1]:
                raise ValueError("Task: loss returned a metric named 'loss', which is the name of the loss itself.")
        if set(outs[0][1]) != set(outs[1][1]):
            raise ValueError(
                f"Task: loss returned the metrics {sorted(outs[0][1])} in training and {sorted(outs[1][1])} in "
                "validation; return the same in both."
            )
        return tuple(f"{part}_{name}" for part in ("train", "valid") for name in ("loss", *outs[0][1]))


def _check_params(params: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(
            f"Task: init returned {format_value(params)}, without an array; it must return what is trained."
        )
    for path, leaf in leaves:
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact):
            raise TypeError(
                f"Task: init returned params{jax.tree_util.keystr(path)} of {leaf.dtype}; parameters must be floats. "
                "Keep what is not trained out of init: with Flax NNX write nnx.state(model, nnx.Param)."
            )


def _uses(function: Callable[..., Any], *args: Any) -> bool:
    """Whether what `function(key, *args)` returns depends on the key, as far as its operations tell."""
    jaxpr = jax.make_jaxpr(function)(jax.random.key(0), *args).jaxpr
    needed = {id(v) for v in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(id(v) in needed for v in equation.outvars):
            needed |= {id(v) for v in equation.invars}
    return id(jaxpr.invars[0]) in needed


def _count(name: str, data: Any) -> int:
    """The examples in `data`."""
    leaves: list[Any] = [data] if isinstance(data, Iterator) else jax.tree.leaves(data)
    if not leaves:
        raise ValueError(f"Task: {name}={format_value(data)} holds no arrays; write {name}=(x, y).")
    for leaf in leaves:
        if not isinstance(leaf, (np.ndarray, jax.Array)) or leaf.ndim == 0:
            raise TypeError(
                f"Task: {name} holds {format_value(leaf)}; {name} must be a pytree of arrays whose first axis "
                f"counts the "
                "examples (numpy.asarray makes one of a list)."
            )
    counts = sorted({len(leaf) for leaf in leaves})
    if len(counts) > 1 or counts == [0]:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(
            f"Task: {name} holds arrays of shapes {shapes}; their first axes must be one number of examples, 1 or more."
        )
    return counts[0]
