"""Tables of steps and values, read by binary search: the compiled program does not grow with the table."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from .._errors import FieldError
from ..fields import Positive, Scalar, StepTable, Table
from . import shapes
from .base import Schedule
from .shapes import Step
from .structure import Structure


def _reject_counts(schedule: Any, steps: str, values: Any, more: int, instead: str) -> None:
    table = getattr(schedule, steps)
    if np.shape(values)[-1] != np.shape(table)[-1] + more:
        raise FieldError(type(schedule).__name__, (steps, "values"), (table, values), instead)


class MultiStepDecay(Schedule):
    """A factor at every milestone.

    Formula: `s(t) = init decay_rate^n`, where n is the number of milestones `<= t`.

    Args:
      init_value: the value before the first milestone.
      decay_rate: the factor, above 0.
      milestones: steps, each larger than the one before; a float such as 30.0 counts like 30.

    Example:
      >>> import jaxsched as js
      >>> js.MultiStepDecay(1.0, decay_rate=0.5, milestones=[2, 3]).table(5).tolist()
      [1.0, 1.0, 0.5, 0.25, 0.25]

    References:
      torch's MultiStepLR, in which a milestone between two steps never fires.
    """

    init_value: Scalar
    decay_rate: Positive
    milestones: StepTable

    def structure(self) -> Structure:
        return Structure(marks=self.milestones)

    def value(self, step: Step) -> Array:
        count = shapes.passed(step, jnp.asarray(self.milestones))
        return self.init_value * shapes.power(self.decay_rate, shapes.ratio(count))


class PiecewiseConstant(Schedule):
    """A table of constants.

    Formula: `s(t) = values[i]`, where i is the number of boundaries `<= t`.

    Args:
      boundaries: (n,) steps, each larger than the one before.
      values: (n + 1,) values.

    Example:
      >>> import jaxsched as js
      >>> js.PiecewiseConstant([2, 4], [1.0, 0.5, 0.25]).table(6).tolist()
      [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]

    References:
      optax.piecewise_constant_schedule; TF1's piecewise_constant, whose boundaries belong to the piece before.
    """

    boundaries: StepTable
    values: Table

    def check(self) -> None:
        _reject_counts(self, "boundaries", self.values, 1, "n boundaries need n + 1 values")

    def structure(self) -> Structure:
        return Structure(marks=self.boundaries)

    def value(self, step: Step) -> Array:
        return jnp.asarray(self.values)[shapes.passed(step, jnp.asarray(self.boundaries))]


class PiecewiseInterpolate(Schedule):
    """A curve through the points of a table, constant before the first one and after the last.

    Formula: between `knots[i]` and `knots[i + 1]`, with u the share of the way: `linear` and `cosine` go from
    `values[i]` to `values[i + 1]` as `Linear` and `Cosine` do; `pchip` is the cubic with slopes d,
    `v_i + (v_j - v_i) u^2 (3 - 2u) + h d_i u (1 - u)^2 - h d_j u^2 (1 - u)`, which is smooth and never overshoots.

    Args:
      knots: (n,) steps, each larger than the one before, n at least 2.
      values: (n,) values.
      kind: `linear`, `cosine` or `pchip`.

    Example:
      >>> import jaxsched as js
      >>> js.PiecewiseInterpolate([0, 2, 6], [0.0, 1.0, 0.0]).table(7).tolist()
      [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]

    References:
      optax.piecewise_interpolate_schedule, Ignite's PiecewiseLinear; Fritsch and Butland (1984), SciPy's
      PchipInterpolator.
    """

    knots: StepTable
    values: Table
    kind: Literal["linear", "cosine", "pchip"] = "linear"

    def check(self) -> None:
        _reject_counts(self, "knots", self.values, 0, "write one value for each knot")
        if np.shape(self.knots)[-1] < 2:
            raise FieldError("PiecewiseInterpolate", "knots", self.knots, "write at least two knots")

    def structure(self) -> Structure:
        return Structure(marks=self.knots)

    def value(self, step: Step) -> Array:
        knots, values = jnp.asarray(self.knots), jnp.asarray(self.values)
        i = jnp.clip(shapes.passed(step, knots) - 1, 0, knots.size - 2)
        position = shapes.progress(shapes.elapsed(step, knots[i]), knots[i + 1] - knots[i])
        if self.kind != "pchip":
            return shapes.mix(values[i], values[i + 1], shapes.SHAPES[self.kind](position))
        late, gap = position
        width, slopes = shapes.floating(knots[i + 1] - knots[i]), _pchip_slopes(knots, values)
        near, far = shapes.select(late, i + 1, i), shapes.select(late, i, i + 1)
        width = shapes.select(late, -width, width)  # a slope is steep in the direction of time
        rise = (values[far] - values[near]) * gap * gap * (3 - 2 * gap)
        bend = slopes[near] * gap * (1 - gap) ** 2 - slopes[far] * gap * gap * (1 - gap)
        return values[near] + rise + width * bend


@shapes.kernel
def _pchip_slopes(knots: Array, values: Array) -> Array:
    """The slope at each knot: a weighted harmonic mean of the slopes beside it, and 0 at a turn."""
    h = shapes.floating(jnp.diff(knots))
    d = jnp.diff(values) / h
    if d.size == 1:
        return jnp.concatenate([d, d])
    before, after = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    turns = d[:-1] * d[1:] <= 0
    left, right = shapes.select(turns, 1, d[:-1]), shapes.select(turns, 1, d[1:])
    inner = shapes.select(turns, 0, (before + after) / (before / left + after / right))

    def end(h0: Array, h1: Array, d0: Array, d1: Array) -> Array:
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        slope = shapes.select(jnp.sign(slope) != jnp.sign(d0), 0, slope)
        return shapes.select((jnp.sign(d0) != jnp.sign(d1)) & (jnp.abs(slope) > 3 * jnp.abs(d0)), 3 * d0, slope)

    first, last = end(h[0], h[1], d[0], d[1]), end(h[-1], h[-2], d[-1], d[-2])
    return jnp.concatenate([first[None], inner, last[None]])
