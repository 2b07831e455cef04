"""The last-iterate bound of convex optimisation, which real training losses follow surprisingly well."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import format_value, is_traced
from ..fields import Number
from ..schedules.base import Schedule
from ..schedules.shapes import floating
from .rates import rates_of
from .sums import Sum

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
    vmapped and differentiated. Steps of rate 0 at the end change nothing. Rates, distance and norms may be in any
    units: each is measured by its own size, and only a bound that its type does not hold is 0 or infinite.

    Args:
      lrs: the rates of all steps, (T,), 0 or more; or a schedule, with `total_steps`.
      distance: D, from the start to the minimum, above 0.
      grad_norm: G, what the norm of the gradients is at most: a number above 0, or one for each step, (T,).
      total_steps: T, if `lrs` is a schedule.

    Returns: a scalar.

    Errors: ValueError for a rate that is negative or not finite (with its step), for no rate above 0, for norms and
    a distance that are not above 0 in their type (1e-40 is not in float32), and for several schedules at once.

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
    distance, norm, unit, far, near = _terms("convex.bound", lrs, total_steps, distance, grad_norm)
    # In this order no product leaves the type unless the whole does.
    return distance * (distance / unit * far) + norm * (unit * norm * near)


def best_scale(lrs: Any, total_steps: int | None = None, *, distance: Number = 1.0, grad_norm: Any = 1.0) -> BestScale:
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
    distance, norm, unit, far, near = _terms("convex.best_scale", lrs, total_steps, distance, grad_norm)
    return BestScale(distance / norm / unit * jnp.sqrt(far / near), distance * norm * 2 * jnp.sqrt(far * near))


def _terms(owner: str, lrs: Any, total_steps: Any, distance: Any, grad_norm: Any) -> tuple[jax.Array, ...]:
    """`distance, norm, unit, far, near`, of which the bound is `distance^2 / unit * far + unit * norm^2 * near`."""
    look = functools.partial(rates_of, owner, total_steps=total_steps)
    traced = isinstance(lrs, Schedule) and any(map(is_traced, jax.tree.leaves(lrs)))
    rates = jax.eval_shape(look, lrs) if traced else look(lrs)  # no rate is there to be looked at: none is made
    if isinstance(grad_norm, tuple):
        raise TypeError(
            f"{owner}: grad_norm is a {type(grad_norm).__name__}; write a number, or an array with one norm a step."
        )
    kind = jnp.finfo(rates.dtype)
    for name, value in (("distance", distance), ("grad_norm", grad_norm)):
        if is_traced(value):
            continue
        seen = np.asarray(value, np.float64)
        if not np.all((seen >= float(kind.tiny)) & (seen <= float(kind.max))):
            raise ValueError(
                f"{owner}: {name}={format_value(value)}; {name} must be above 0 and finite, in {rates.dtype}."
            )
    if np.ndim(distance) or np.shape(grad_norm) not in ((), rates.shape):
        raise ValueError(
            f"{owner}: distance has the shape {np.shape(distance)} and grad_norm {np.shape(grad_norm)} beside "
            f"{rates.size} rates; write numbers, or one grad_norm for each step."
        )
    source = lrs if isinstance(lrs, Schedule) else rates
    measured = _measured(source, jnp.asarray(grad_norm, rates.dtype), rates.size)
    return jnp.asarray(distance, rates.dtype), *measured


@functools.partial(jax.jit, static_argnames="steps")
def _measured(lrs: Any, norms: jax.Array, steps: int) -> tuple[jax.Array, ...]:
    """The units of the norms and of the rates, and `far` and `near` measured by them.

    Squares of squares of small rates leave float32; measured by about the largest rate so far they do not. The units
    are powers of 2, by which nothing is rounded, and the bound does not depend on them.
    """
    level = _power_of_two(jnp.max(norms))
    norms = norms / level

    def back(sums: tuple[Sum, Sum, Sum], step: Any) -> tuple[tuple[Sum, Sum, Sum], None]:
        rate, norm = step
        total, noise, last = sums
        after = total.value
        total, noise = total.plus(rate), noise.plus(jnp.square(rate * norm))
        # Where nothing moves any more, the iterate before is the last one, and has no share.
        share = rate * noise.value / jnp.where(after > 0, total.value * after, jnp.inf)
        return (total, noise, last.plus(share)), None

    def block(carry: Any, start: jax.Array) -> tuple[Any, None]:
        unit, (total, noise, last) = carry
        at = start + jnp.arange(_BLOCK)
        inside = jnp.minimum(at, steps - 1)
        rates = floating(lrs(inside)) if isinstance(lrs, Schedule) else lrs[inside]
        rates = jnp.where(at < steps, rates, 0)  # what is after the end has no rate, and changes nothing
        norm = norms[inside] if norms.ndim else jnp.broadcast_to(norms, at.shape)
        new = jnp.maximum(unit, _power_of_two(jnp.max(rates)))
        less = unit / new
        sums = total.times(less), noise.times(less * less), last.times(less)
        return (new, jax.lax.scan(back, sums, (rates / new, norm), reverse=True, unroll=4)[0]), None

    none = Sum.zero(norms.dtype)
    begin = jnp.asarray(jnp.finfo(norms.dtype).tiny), (none, none, none)
    (unit, sums), _ = jax.lax.scan(block, begin, jnp.arange(0, steps, _BLOCK), reverse=True)
    total, noise, last = (x.value for x in sums)
    return level, unit, 1 / (2 * total), noise / (2 * total) + last / 2


def _power_of_two(x: jax.Array) -> jax.Array:
    """The largest power of 2 that is not above x. It takes no gradient."""
    digits = jnp.finfo(x.dtype).nmant
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), jnp.int32 if digits < 32 else jnp.int64)
    power = jax.lax.bitcast_convert_type(bits >> digits << digits, x.dtype)
    return jnp.maximum(power, jnp.finfo(x.dtype).tiny)
