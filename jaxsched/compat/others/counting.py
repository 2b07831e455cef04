"""How peers count that cut lengths off to whole steps, and what two of them draw alike."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jax import Array, lax

from ...fields import Count, Growth, Positive, Scalar, Steps
from ...schedules import shapes
from ...schedules.base import Schedule
from ...schedules.shapes import Instant, Position, Step, floating


def snapped(at: Instant, sums: int = 1) -> Instant:
    """The time, where it is a whole step but for the rounding of a share (or of the sum of as many) at that step."""
    step = lax.stop_gradient(jnp.round(at.part))
    rounding = jnp.finfo(step.dtype).eps * sums * (floating(at.whole) + 1)
    off = lax.stop_gradient(jnp.where(jnp.abs(at.part - step) <= rounding, at.part - step, 0))
    part, count = at.part - off, step.astype(jnp.result_type(int))
    snaps = part == step
    return Instant(at.whole + jnp.where(snaps, count, 0), jnp.where(snaps, part - step, part))


def whole(share: Any, count: Any) -> Array:
    """`floor(share * count)`, where a product that is an integer up to the rounding of `share` is that integer."""
    at = snapped(shapes.instant(share, count))
    return at.whole + jnp.floor(at.part).astype(jnp.result_type(int))


def growing_cycle(step: Step, phases: tuple[Any, ...], mult: Any) -> tuple[Array, Array, tuple[Array, ...]]:
    """The index of the cycle that `step` is in, its clock, and the lengths of its phases, each of which is cut off to
    whole steps when `mult`, 1 or more, is applied to it."""
    step, mult = shapes.floor_div(step, 1), lax.stop_gradient(floating(mult))
    most = jnp.iinfo(step.dtype).max // (2 * len(phases))
    first = tuple(jnp.broadcast_to(jnp.asarray(n).astype(step.dtype), step.shape) for n in phases)

    def longer(n: Array) -> Array:
        return jnp.where(floating(n) > most / mult, most, whole(mult, n))

    def over(state: tuple[Array, Array, tuple[Array, ...]]) -> Array:
        _, elapsed, lengths = state
        return elapsed >= jnp.maximum(sum(lengths), 1)

    def move_on(state: tuple[Array, Array, tuple[Array, ...]]) -> tuple[Array, Array, tuple[Array, ...]]:
        index, elapsed, lengths = state
        total, grown, is_over = jnp.maximum(sum(lengths), 1), tuple(map(longer, lengths)), over(state)
        same = jnp.array([a == b for a, b in zip(grown, lengths, strict=True)]).all(0)
        cycles = jnp.where(is_over, jnp.where(same, elapsed // total, 1), 0)  # at once, where none grows any more
        lengths = tuple(jnp.where(is_over, a, b) for a, b in zip(grown, lengths, strict=True))
        return index + cycles, elapsed - cycles * total, lengths

    state = (jnp.zeros_like(step), step, first)
    return lax.while_loop(lambda state: over(state).any(), move_on, state)


def triangle(step: Step, steps: Any) -> Position:
    """From 0 up to 1 in the middle of `steps`, and down to 0 again."""
    clock = jnp.minimum(shapes.elapsed(step, 0), jnp.asarray(steps).astype(jnp.result_type(step, steps)))
    left = steps - clock
    size = jnp.where(floating(steps) > 0, floating(steps), 1)
    from_middle = floating(jnp.abs(left - clock)) / size
    return shapes.nearer(from_middle, 2 * floating(jnp.minimum(clock, left)) / size)


class GrowingCycles(Schedule):
    """Cycles of a fall and a rise, whose lengths and ends change from one to the next.

    Formula: in cycle i from `start = start_value start_value_mult^i` to `end = end_value end_value_mult^i` in
    `n_i` steps, then in a line to the next start in `w_i` steps, with `n_0 = cycle_size`, `w_0 = warmup_duration`,
    `n_(i+1) = floor(cycle_mult n_i)` and `w_(i+1) = floor(cycle_mult w_i)`.

    Fields:
      start_value, end_value: the two ends of the first cycle.
      cycle_size: the steps of the first fall, an integer, 1 or more.
      cycle_mult: the factor from length to length, 1 or more.
      start_value_mult, end_value_mult: the factors from start to start and from end to end, above 0.
      warmup_duration: the steps of the first rise, 0 or more.
      shape: `linear`, `cosine`, or `triangle`, which comes back to its start.

    Example:
      >>> from jaxsched.compat.others.counting import GrowingCycles
      >>> s = GrowingCycles(1.0, 0.0, cycle_size=2, cycle_mult=1.5, shape="linear")
      >>> [round(float(v), 4) for v in s.table(6)]
      [1.0, 0.5, 1.0, 0.6667, 0.3333, 1.0]

    Source: ignite's CyclicalScheduler (0.5.5), Composer's CosineAnnealingWarmRestartsScheduler (0.32.1).
    """

    start_value: Scalar
    end_value: Scalar
    cycle_size: Count
    cycle_mult: Growth = 1
    start_value_mult: Positive = 1.0
    end_value_mult: Positive = 1.0
    warmup_duration: Steps = 0
    shape: Literal["linear", "cosine", "triangle"] = "cosine"

    def value(self, step: Step) -> Array:
        index, clock, (size, rise) = growing_cycle(step, (self.cycle_size, self.warmup_duration), self.cycle_mult)
        start, end = (
            value * shapes.power(mult, shapes.ratio(index))
            for value, mult in [(self.start_value, self.start_value_mult), (self.end_value, self.end_value_mult)]
        )
        if self.shape == "triangle":
            down = triangle(clock, size)
        else:
            down = shapes.SHAPES[self.shape](shapes.progress(clock, size))
        up = shapes.progress(shapes.elapsed(clock, size), rise)
        rising = shapes.mix(end, start * self.start_value_mult, up)
        return jnp.where(shapes.reached(clock, size), rising, shapes.mix(start, end, down))
