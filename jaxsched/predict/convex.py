"""The last-iterate bound of convex optimisation, which real training losses follow surprisingly well."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..schedules.base import Schedule
from ..schedules.fields import Number, is_traced, shown
from ..schedules.shapes import floating
from .rates import rates_of

Total: TypeAlias = tuple[jax.Array, jax.Array]
"""A sum and what rounding has added to it so far."""

_BLOCK = 128
"""Steps whose rates are there at one time: a thousand vmapped schedules stay in the caches, and their memory small."""


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
    subtracted. A schedule is evaluated on the way, so that many vmapped ones take little memory. It can be traced,
    vmapped and differentiated. Steps of rate 0 at the end change nothing.

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
    unit, (far, near, last) = _terms("convex.bound", lrs, total_steps, distance, grad_norm)
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
    unit, (far, near, last) = _terms("convex.best_scale", lrs, total_steps, distance, grad_norm)
    return BestScale(jnp.sqrt(far / (near + last)) / unit, 2 * jnp.sqrt(far * (near + last)))


def _terms(owner: str, lrs: Any, total_steps: Any, distance: Any, grad_norm: Any) -> tuple[jax.Array, list[jax.Array]]:
    """A unit, and the three terms of the bound for rates that are measured by it."""
    rates = rates_of(owner, lrs, total_steps)
    for name, value in (("distance", distance), ("grad_norm", grad_norm)):
        if not is_traced(value) and not np.all(np.isfinite(seen := np.asarray(value, np.float64)) & (seen > 0)):
            raise ValueError(f"{owner}: {name}={shown(value)}; {name} must be above 0 and finite.")
    if np.ndim(distance) or np.shape(grad_norm) not in ((), rates.shape):
        raise ValueError(
            f"{owner}: distance has the shape {np.shape(distance)} and grad_norm {np.shape(grad_norm)} beside "
            f"{rates.size} rates; write numbers, or one grad_norm for each step."
        )
    source = lrs if isinstance(lrs, Schedule) else rates
    unit, (total, noise, last) = _sums(source, jnp.asarray(grad_norm, rates.dtype), rates.size)
    return unit, [jnp.square(jnp.asarray(distance)) / (2 * total), noise / (2 * total), last / 2]


@functools.partial(jax.jit, static_argnames="steps")
def _sums(lrs: Any, norms: jax.Array, steps: int) -> tuple[jax.Array, list[jax.Array]]:
    """A unit, and measured by it the sum of the rates, that of the squares, and that of the shares of the last iterate.

    Squares of squares of small rates leave float32; measured by about the largest rate so far they do not.
    """
    zero = jnp.zeros((), norms.dtype)
    tiny = zero + jnp.finfo(norms.dtype).tiny

    def back(totals: tuple[Total, Total, Total], step: Any) -> tuple[tuple[Total, Total, Total], None]:
        rate, norm = step
        total, noise, last = totals
        after = total[0]
        total, noise = _add(total, rate), _add(noise, jnp.square(rate * norm))
        # Where nothing moves any more, the iterate before is the last one, and has no share.
        share = rate * noise[0] / jnp.where(after > 0, total[0] * after, jnp.inf)
        return (total, noise, _add(last, share)), None

    def block(carry: Any, start: jax.Array) -> tuple[Any, None]:
        unit, (total, noise, last) = carry
        at = start + jnp.arange(_BLOCK)
        inside = jnp.minimum(at, steps - 1)
        rates = floating(lrs(inside)) if isinstance(lrs, Schedule) else lrs[inside]
        rates = jnp.where(at < steps, rates, 0)  # what is after the end has no rate, and changes nothing
        norm = norms[inside] if norms.ndim else jnp.broadcast_to(norms, at.shape)
        new = jnp.maximum(unit, _power_of_two(jnp.max(rates)))
        less = unit / new
        totals = _scaled(total, less), _scaled(noise, less * less), _scaled(last, less)
        return (new, jax.lax.scan(back, totals, (rates / new, norm), reverse=True, unroll=4)[0]), None

    begin = (tiny, ((zero, zero),) * 3)
    (unit, totals), _ = jax.lax.scan(block, begin, jnp.arange(0, steps, _BLOCK), reverse=True)
    return unit, [total for total, _ in totals]


def _power_of_two(x: jax.Array) -> jax.Array:
    """The largest power of 2 that is not above x: what is divided by it stays exact. The bound does not depend on the
    unit, so that it takes no gradient."""
    digits = jnp.finfo(x.dtype).nmant
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), jnp.int32 if digits < 32 else jnp.int64)
    return jax.lax.bitcast_convert_type(bits >> digits << digits, x.dtype)


def _scaled(total: Total, factor: jax.Array) -> Total:
    return total[0] * factor, total[1] * factor


def _add(total: Total, x: jax.Array) -> Total:
    """Kahan's sum: its error does not grow with the number of terms."""
    x = x - total[1]
    new = total[0] + x
    return new, (new - total[0]) - x
