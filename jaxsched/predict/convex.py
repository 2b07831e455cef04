"""The last-iterate bound of convex optimisation, which real training losses follow surprisingly well."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..schedules.fields import Number, is_traced, shown
from .rates import rates_of

Total: TypeAlias = tuple[jax.Array, jax.Array]
"""A sum and what rounding has added to it so far."""


class BestScale(NamedTuple):
    """What a schedule is multiplied with for the least bound, and that bound.

    Fields:
      scale: gamma*, a number above 0.
      bound: Omega*, in units of `distance * grad_norm`.
    """

    scale: jax.Array
    bound: jax.Array


def bound(lrs: Any, distance: Number = 1.0, grad_norm: Any = 1.0, *, total_steps: int | None = None) -> jax.Array:
    """How far above the minimum a convex loss is at most, in expectation, after a training with these rates.

    Formula: with rates `e_t`, gradient norms `G_t` and `S = sum e_t`, over the steps t = 1 ... T,
    `Omega = D^2 / (2 S) + 1 / (2 S) sum e_t^2 G_t^2
    + 1/2 sum_{k<T} [e_k / sum_{t>k} e_t] [sum_{t>=k} e_t^2 G_t^2 / sum_{t>=k} e_t]`.

    One pass from the end to the start with compensated sums, so a schedule of T steps costs O(T), and nothing is
    subtracted. It can be traced, vmapped and differentiated. Steps of rate 0 at the end change nothing.

    Args:
      lrs: the rates of all steps, (T,), 0 or more; or a schedule, with `total_steps`.
      distance: D, from the start to the minimum, above 0.
      grad_norm: G, what the norm of the gradients is at most: a number above 0, or one for each step, (T,).
      total_steps: T, if `lrs` is a schedule.

    Returns: a scalar.

    Errors: ValueError for a rate that is negative or not finite (with its step), for no rate above 0, for norms and
    a distance that are not above 0, and for several schedules at once.

    Example:
      >>> import jax
      >>> import jaxsched as js
      >>> from jaxsched.predict import convex
      >>> print(f"{convex.bound(js.Linear(0.05, 0.0, 400), total_steps=400):.4f}")
      0.1006
      >>> S = js.grid(js.Linear, init_value=[0.025, 0.05, 0.1], end_value=0.0, steps=400)
      >>> print([f"{x:.4f}" for x in jax.vmap(lambda s: convex.bound(s, total_steps=400))(S)])
      ['0.1251', '0.1006', '0.1265']

    Source: Schaipp et al., "The surprising agreement between convex optimization theory and learning-rate scheduling",
    2025, arXiv 2501.18965, theorem 10.
    """
    rates = rates_of("convex.bound", lrs, total_steps)
    unit, (far, near, last) = _terms("convex.bound", rates, distance, grad_norm)
    return far / unit + unit * (near + last)


def best_scale(lrs: Any, total_steps: int | None = None, distance: Number = 1.0, grad_norm: Any = 1.0) -> BestScale:
    """By what a schedule is best multiplied, and the bound that it then has.

    Formula: `Omega(gamma) = t1 / gamma + gamma (t2 + t3)` with the three terms of `bound`, so
    `gamma* = sqrt(t1 / (t2 + t3))` and `Omega* = 2 sqrt(t1 (t2 + t3))`.

    Omega* compares shapes, whatever their height: it does not change if all rates are doubled.

    Args: as those of `bound`.

    Returns: `BestScale(scale, bound)`, two scalars.

    Errors: as those of `bound`.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import convex
      >>> for s in (js.Constant(1.0), js.Cosine(1.0, 0.0, 4_000), js.Linear(1.0, 0.0, 4_000)):
      ...     gamma, omega = convex.best_scale(s, 4_000)
      ...     print(f"{gamma:.6f} {omega:.6f}")
      0.005033 0.049677
      0.015340 0.032586
      0.015793 0.031652

    Source: Schaipp et al., 2025, arXiv 2501.18965, corollary 12.
    """
    rates = rates_of("convex.best_scale", lrs, total_steps)
    unit, (far, near, last) = _terms("convex.best_scale", rates, distance, grad_norm)
    return BestScale(jnp.sqrt(far / (near + last)) / unit, 2 * jnp.sqrt(far * (near + last)))


def _terms(owner: str, rates: jax.Array, distance: Any, grad_norm: Any) -> tuple[jax.Array, list[jax.Array]]:
    """The largest rate, and the three terms of the bound for rates that are measured by it."""
    for name, value in (("distance", distance), ("grad_norm", grad_norm)):
        if not is_traced(value) and not np.all(np.isfinite(seen := np.asarray(value, np.float64)) & (seen > 0)):
            raise ValueError(f"{owner}: {name}={shown(value)}; {name} must be above 0 and finite.")
    if np.ndim(distance) or np.shape(grad_norm) not in ((), rates.shape):
        raise ValueError(
            f"{owner}: distance has the shape {np.shape(distance)} and grad_norm {np.shape(grad_norm)} beside "
            f"{rates.size} rates; write numbers, or one grad_norm for each step."
        )
    # Squares of squares of small rates leave float32; measured by the largest rate they do not. The bound does not
    # depend on the unit, so that it takes no gradient.
    unit = jax.lax.stop_gradient(jnp.max(rates))
    rates = rates / unit
    total, noise, last = _sums(rates, jnp.square(rates * jnp.asarray(grad_norm)))
    return unit, [jnp.square(jnp.asarray(distance)) / (2 * total), noise / (2 * total), last / 2]


@jax.jit
def _sums(rates: jax.Array, squares: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The sum of the rates, that of the squares, and that of the shares of the last iterate."""
    zero = jnp.zeros((), squares.dtype)

    def back(totals: tuple[Total, Total, Total], step: Any) -> tuple[tuple[Total, Total, Total], None]:
        rate, square = step
        total, noise, last = totals
        after = total[0]
        total, noise = _add(total, rate), _add(noise, square)
        moves = after > 0  # where nothing moves any more, the iterate before is the last one
        share = jnp.where(moves, rate * noise[0] / jnp.where(moves, total[0] * after, 1), 0)
        return (total, noise, _add(last, share)), None

    totals, _ = jax.lax.scan(back, ((zero, zero), (zero, zero), (zero, zero)), (rates, squares), reverse=True, unroll=4)
    return totals[0][0], totals[1][0], totals[2][0]


def _add(total: Total, x: jax.Array) -> Total:
    """Kahan's sum: its error does not grow with the number of terms."""
    x = x - total[1]
    new = total[0] + x
    return new, (new - total[0]) - x
