"""The last-iterate bound of convex optimisation, which the loss curves of real trainings follow closely."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import FieldError, FieldTypeError, is_traced
from ..fields import Number
from ..schedules.base import Schedule
from ..schedules.shapes import floating
from .arguments import rates_of
from .sums import Sum

_BLOCK = 128
"""Steps evaluated at once: the rates of a thousand vmapped schedules then fit into the caches."""


class BestScale(NamedTuple):
    """The best factor `scale` for a schedule, above 0, and the `bound` with it, in units of `distance * grad_norm`."""

    scale: jax.Array
    bound: jax.Array


def bound(lrs: Any, distance: Number = 1.0, grad_norm: Any = 1.0, *, total_steps: int | None = None) -> jax.Array:
    """Returns a bound of the expected loss above the minimum, after a convex training with these rates.

    With rates `e_t`, gradient norms `G_t` and `S = sum e_t`, over the steps t = 1 ... T,
    `Omega = D^2 / (2 S) + 1 / (2 S) sum e_t^2 G_t^2
    + 1/2 sum_{k<T} [e_k / sum_{t>k} e_t] [sum_{t>=k} e_t^2 G_t^2 / sum_{t>=k} e_t]`.

    It can be traced, vmapped and differentiated; a schedule is evaluated in blocks of steps, so that many vmapped ones
    take little memory. Rates, distance and norms may have any unit: intermediate results do not overflow.

    Args:
      lrs: the rates of all steps, (T,), 0 or more; or a schedule, with `total_steps`.
      distance: D, from the start to the minimum, above 0.
      grad_norm: G, the largest norm of the gradients: a number above 0, or one for each step, (T,).
      total_steps: T, if `lrs` is a schedule.

    Example:
      >>> import jax
      >>> import jaxsched as js
      >>> from jaxsched.predict import convex
      >>> S = js.grid(js.Linear, init_value=[0.025, 0.05, 0.1], end_value=0.0, steps=400)
      >>> print([f"{x:.4f}" for x in jax.vmap(lambda s: convex.bound(s, total_steps=400))(S)])
      ['0.1251', '0.1006', '0.1265']

    References:
      Schaipp et al., "The surprising agreement between convex optimization theory and learning-rate scheduling",
      2025, arXiv 2501.18965, theorem 10.
    """
    distance, norm, unit, far, near = _terms("convex.bound", lrs, total_steps, distance, grad_norm)
    # In this order no product overflows unless the bound does.
    return distance * (distance / unit * far) + norm * (unit * norm * near)


def best_scale(lrs: Any, total_steps: int | None = None, *, distance: Number = 1.0, grad_norm: Any = 1.0) -> BestScale:
    """Returns the factor of a schedule that minimizes its bound, and that bound.

    `Omega(gamma) = t1 / gamma + gamma (t2 + t3)` with the three terms of `bound`, so `gamma* = sqrt(t1 / (t2 + t3))`
    and `Omega* = 2 sqrt(t1 (t2 + t3))`. Omega* compares shapes: it does not change if all rates are doubled.

    Arguments and errors are those of `bound`.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict import convex
      >>> for s in (js.Constant(1.0), js.Cosine(1.0, 0.0, 4_000), js.Linear(1.0, 0.0, 4_000)):
      ...     gamma, omega = convex.best_scale(s, 4_000)
      ...     print(f"{gamma:.6f} {omega:.6f}")
      0.005033 0.049677
      0.015340 0.032586
      0.015793 0.031652

    References:
      Schaipp et al., 2025, arXiv 2501.18965, corollary 12.
    """
    distance, norm, unit, far, near = _terms("convex.best_scale", lrs, total_steps, distance, grad_norm)
    return BestScale(distance / norm / unit * jnp.sqrt(far / near), distance * norm * 2 * jnp.sqrt(far * near))


def _terms(owner: str, lrs: Any, total_steps: Any, distance: Any, grad_norm: Any) -> tuple[jax.Array, ...]:
    """`distance, norm, unit, far, near`: the bound is `distance^2 / unit * far + unit * norm^2 * near`."""
    look = functools.partial(rates_of, owner, total_steps=total_steps)
    traced = isinstance(lrs, Schedule) and any(map(is_traced, jax.tree.leaves(lrs)))
    rates = jax.eval_shape(look, lrs) if traced else look(lrs)  # traced rates are not checked, and not computed here
    if isinstance(grad_norm, tuple):
        raise FieldTypeError(owner, "grad_norm", grad_norm, "write a number or an array", note=" is a tuple")
    kind = jnp.finfo(rates.dtype)
    for name, value, shapes in (("distance", distance, [()]), ("grad_norm", grad_norm, [(), rates.shape])):
        if np.shape(value) not in shapes:
            note = f" has the shape {np.shape(value)} beside {rates.size} rates"
            raise FieldError(owner, name, value, "write a number, or for grad_norm one for each step", note=note)
        seen = 1.0 if is_traced(value) else np.asarray(value, np.float64)
        if not np.all((seen >= float(kind.tiny)) & (seen <= float(kind.max))):
            raise FieldError(owner, name, value, f"{name} must be above 0 and finite, in {rates.dtype}")
    source = lrs if isinstance(lrs, Schedule) else rates
    measured = _measured(source, jnp.asarray(grad_norm, rates.dtype), rates.size)
    return jnp.asarray(distance, rates.dtype), *measured


@functools.partial(jax.jit, static_argnames="steps")
def _measured(lrs: Any, norms: jax.Array, steps: int) -> tuple[jax.Array, ...]:
    """The units of the norms and of the rates, and `far` and `near` in these units.

    Fourth powers of small rates underflow float32; divided by about the largest rate so far they do not. The units are
    powers of 2, so that dividing by them rounds nothing.
    """
    level = _power_of_two(jnp.max(norms))
    norms = norms / level

    def back(sums: tuple[Sum, Sum, Sum], step: Any) -> tuple[tuple[Sum, Sum, Sum], None]:
        rate, norm = step
        total, noise, last = sums
        after = total.value
        total, noise = total.plus(rate), noise.plus(jnp.square(rate * norm))
        # After the last rate above 0 the iterate does not move: such a step has no share.
        share = rate * noise.value / jnp.where(after > 0, total.value * after, jnp.inf)
        return (total, noise, last.plus(share)), None

    def block(carry: Any, start: jax.Array) -> tuple[Any, None]:
        unit, (total, noise, last) = carry
        at = start + jnp.arange(_BLOCK)
        inside = jnp.minimum(at, steps - 1)
        rates = floating(lrs(inside)) if isinstance(lrs, Schedule) else lrs[inside]
        rates = jnp.where(at < steps, rates, 0)  # steps after the end change nothing
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
    """The largest power of 2 that is not above x. It is not differentiable."""
    digits = jnp.finfo(x.dtype).nmant
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), jnp.int32 if digits < 32 else jnp.int64)
    power = jax.lax.bitcast_convert_type(bits >> digits << digits, x.dtype)
    return jnp.maximum(power, jnp.finfo(x.dtype).tiny)
