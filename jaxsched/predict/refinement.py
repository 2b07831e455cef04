"""A schedule made from the gradient norms of a training that was run: the next training's schedule, refined."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import numbers
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .._errors import format_value, is_traced, nearest_name
from ..fields import Domain, validate
from ..optim.clip import LARGEST, global_norm
from ..optim.metrics import at_least_float32, copy_arrays, increment, standard_promotion
from ..optim.states import LABELS, walk
from ..schedules.pieces import PiecewiseInterpolate
from .rates import checked_steps

_POWERS = {"sgd": 2, "adam": 1}
_LEAST = 1e-290  # below it the largest value of the curve has lost digits
_PEAK = Domain("a finite number above 0", lambda x: x > 0)


class GradNorms(NamedTuple):
    """The gradient norms of a training, as `recorded_grad_norms` finds them; numpy arrays of float64.

    Fields:
      steps: (n,) the middle of the steps that each norm is the mean of, counted from 0: 0, 1, 2, ... while every norm
        has a place of its own, and 0.5, 2.5, 4.5, ... where two share one.
      norms: (n,), or (trainings, n) from the state of a `vmap`.
    """

    steps: np.ndarray
    norms: np.ndarray


def refine(
    grad_norms: Any,
    optimizer: Literal["sgd", "adam"] = "sgd",
    *,
    total_steps: int | None = None,
    peak_value: Any = 1.0,
    window: float = 0.1,
    warmup_steps: int = 0,
    knots: int = 1024,
) -> PiecewiseInterpolate:
    """The schedule that the theory finds best for the gradient norms that a training has shown.

    Train once with a schedule that works, such as linear decay, record the norms (`record_grad_norms`), and train again
    with the refined schedule. Where gradients were small it steps further, and it goes to 0 at the end; large norms at
    the start become a warmup. Norms that fall towards 0, as where a network learns its examples by heart, push all of
    the schedule to the end: look at it before it is used, and tune its peak. It is no sure gain: on three small
    trainings with 16 seeds each it was not told apart from linear decay, or worse (`python -m bench refine`).

    Formula, over the steps t = 1 ... T, with the norms `g_t`:
      `G` is the running median of `g`, over `window * T` steps about each; beyond the first step stands `g_1`, beyond
      the last one the norms come back as in a mirror;
      `w_t = G_t^-2` for SGD and `w_t = G_t^-1` for Adam;
      `eta_t = w_t sum_{p>t} w_p`, divided by its maximum and times `peak_value`.

    Constant norms give the linear decay `1 - (t - 1) / (T - 1)`. Step t of the paper is step t - 1 here; from step
    T - 1 on the schedule is 0. Only ratios of norms count, so that they may be of a mean or a sum over the batch.

    Args:
      grad_norms: the norms, above 0 and finite: those of l2 for SGD, of l1 for Adam. Any of
        - an array (n,), the norms of all steps, or n means over equal stretches of `total_steps`;
        - a pair (a tuple) of steps from 0 on, each larger than the one before, and the norms there; between them the
          weights w are straight lines, and outside of them constant;
        - what `recorded_grad_norms` returns.
        Norms (trainings, n) are averaged over the trainings.
      optimizer: `"sgd"` (with or without momentum) or `"adam"` (and all that divide by a root of squares).
      total_steps: T, 2 or more. None: as many as there are norms in an array, or up to the last step of a pair
        without holes.
      peak_value: the largest value, above 0; may be traced.
      window: the width of the median as a share of T, 0 (none) to 1. It holds an odd number of evenly spaced norms,
        and spikes that fill less than half of it do no harm.
      warmup_steps: W, 0 or more: the curve is multiplied with `min(1, step / W)` before its maximum is taken, for
        norms that are small at the start.
      knots: the most that the schedule has, 3 or more. As long as they suffice they are the steps of the norms with 0
        and T - 1, and the values there are those of the formula; else those steps at which straight lines would miss
        the curve the most, one after the other, its ends and its maximum among them
        (1,024 knots follow the curve of 20,000 noisy norms within 0.2 % of the peak).

    Returns: a `PiecewiseInterpolate`, linear between its knots.

    Errors: ValueError and TypeError that name the argument; a norm that is 0, negative or not finite is shown with its
    step.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsched.predict import refine
      >>> s = refine([4, 2, 1, 1, 1, 1, 2, 2, 4, 4], "sgd")
      >>> [round(float(x), 4) for x in s(jnp.arange(10))]
      [0.0841, 0.319, 1.0, 0.7241, 0.4483, 0.1724, 0.0259, 0.0086, 0.0011, 0.0]
      >>> s = refine([4, 2, 1, 1, 1, 1, 2, 2, 4, 4], "adam", total_steps=1_000, peak_value=3e-3, warmup_steps=50)
      >>> s.knots.tolist()[:4], float(s.values.max())
      ([0, 49, 50, 149], 0.003)

    Source: Defazio, Cutkosky, Mehta and Mishchenko, "When, why and how much? Adaptive learning rate scheduling by
    refinement", 2023, arXiv 2310.07831.
    """
    if not isinstance(optimizer, str) or optimizer not in _POWERS:
        raise ValueError(f"refine: optimizer={format_value(optimizer)}; {nearest_name(str(optimizer), _POWERS)}")
    if isinstance(window, bool) or not isinstance(window, numbers.Real) or not 0 <= window <= 1:
        raise ValueError(f"refine: window={format_value(window)}; window must be a share of all steps, from 0 to 1.")
    most = checked_steps("refine", "knots", knots, 3)
    peak = validate("refine", "peak_value", peak_value, _PEAK)
    if np.ndim(peak):
        raise ValueError(
            f"refine: peak_value={format_value(peak_value)}; write one number, and stack(...) for several peaks."
        )
    steps, norms, total = _record(grad_norms, total_steps)
    if (warmup := checked_steps("refine", "warmup_steps", warmup_steps, 0)) > total - 2:
        raise ValueError(f"refine: warmup_steps={warmup}; of a training of {total} steps it must leave 2 or more.")
    smooth = _running_median(steps, norms, float(window) * total)
    places = np.unique(np.concatenate([[0, warmup, total - 1], np.floor(steps)])).astype(np.int64)
    weights = np.interp(places, steps, (smooth.min() / smooth) ** _POWERS[optimizer])
    curve = weights * _after(places, weights)
    if warmup:
        curve *= np.minimum(1.0, places / warmup)
    if not curve.max() > _LEAST:
        raise ValueError(
            f"refine: norms from {smooth.min():.3g} to {smooth.max():.3g} are too far apart for float64; leave out "
            "those that are not real with a pair, refine((steps[good], norms[good]), total_steps=...)."
        )
    curve /= curve.max()
    if places.size > most:
        kept = _corners(places, curve, most)
        places, curve = places[kept], curve[kept]
    return PiecewiseInterpolate(places, curve * peak)


def _record(grad_norms: Any, total_steps: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The steps and the norms there, checked, and the number of all steps."""
    if isinstance(grad_norms, list) and len(grad_norms) == 2 and all(np.ndim(x) for x in grad_norms):
        raise TypeError(
            "refine: grad_norms is a list of two; write a tuple, (steps, norms), or an array (trainings, n)."
        )
    if isinstance(grad_norms, (dict, GradNormState)) or (
        isinstance(grad_norms, tuple) and any(isinstance(x, tuple) for x in grad_norms)
    ):
        raise TypeError(
            "refine: grad_norms is the state of an optimizer; write refine(recorded_grad_norms(opt_state))."
        )
    own = isinstance(grad_norms, tuple) and len(grad_norms) == 2 and all(np.ndim(x) for x in grad_norms)
    norms = _numbers("norms", grad_norms[1]) if own else _numbers("grad_norms", grad_norms)
    if norms.ndim == 0:
        raise ValueError(
            f"refine: grad_norms={format_value(grad_norms)}; write an array of norms or a pair (steps, norms)."
        )
    count = norms.shape[-1]
    if count < 2 or norms.size == 0:
        raise ValueError(f"refine: norms of the shape {norms.shape}; write 2 or more of a training.")
    total = None if total_steps is None else checked_steps("refine", "total_steps", total_steps, 2)
    if own:
        steps = _numbers("steps", grad_norms[0])
        if steps.shape != (count,):
            raise ValueError(f"refine: steps of shape {steps.shape} and norms of shape {norms.shape}; write one each.")
        total = _end(steps, total)
    else:
        total = count if total is None else total
        if count > total:
            raise ValueError(f"refine: {count} norms beside total_steps={total}; write at most one norm for each step.")
        steps = (np.arange(count) + 0.5) * (total / count) - 0.5  # the middle of each stretch
    rows = norms.reshape(-1, steps.size)
    bad = ~(np.isfinite(rows) & (rows > 0))
    if bad.any():
        row, i = np.argwhere(bad)[0]
        of = f" of training {row}" if len(rows) > 1 else ""
        raise ValueError(
            f"refine: the norm{of} at step {steps[i]:g} is {rows[row, i]:g}; norms must be above 0 and finite: leave "
            "such a step out with a pair, refine((steps[good], norms[good]), total_steps=...)."
        )
    return steps, (rows / len(rows)).sum(axis=0), total  # in this order, so that no sum overflows


def _numbers(name: str, value: Any) -> np.ndarray:
    if is_traced(value):
        raise TypeError(f"refine: {name} is traced, and its numbers are not there yet; call refine outside of jit.")
    try:
        array = np.asarray(value)
    except ValueError:
        raise TypeError(f"refine: {name}={format_value(value)} has rows of different lengths.") from None
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"refine: {name}={format_value(value)}; write an array of norms or a pair (steps, norms).")
    return array.astype(np.float64)


def _end(steps: np.ndarray, total: int | None) -> int:
    """The number of all steps, for norms that have steps of their own."""
    bad = ~(np.isfinite(steps) & (np.diff(steps, prepend=-1.0) > 0) & (steps >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"refine: steps[{i}] is {steps[i]:g}{f' after {steps[i - 1]:g}' if i else ''}; steps must be 0 or more, "
            "each larger than the one before."
        )
    last = float(steps[-1])
    if total is None:
        if not (np.all(np.diff(steps) == 1) and last.is_integer()):
            raise ValueError(
                "refine: total_steps=None beside steps that are not one after the other, which do not tell where the "
                f"training ended; the last is {last:g}: write total_steps={math.ceil(last) + 1} or more."
            )
        return int(last) + 1
    if last > total - 1:
        raise ValueError(
            f"refine: total_steps={total}, and the last of the steps is {last:g}; write {math.ceil(last) + 1} or more."
        )
    return total


# --- the median ------------------------------------------------------------------------------------------------------


def _running_median(steps: np.ndarray, norms: np.ndarray, width: float) -> np.ndarray:
    """The median of the norms that are at most half a width away; about the ends as `refine` says.

    It takes 1 ms for the 1,024 norms of a record, and half a second for 100,000 with a window of a tenth of them.
    """
    half = width / 2 * (1 + 1e-9)  # so that rounding leaves out nobody at the edge
    left, right = 1.5 * steps[0] - 0.5 * steps[1], 1.5 * steps[-1] - 0.5 * steps[-2]  # where the mirrors stand
    around = np.concatenate([2 * left - steps[::-1], steps, 2 * right - steps[::-1]])
    values = np.concatenate([np.full_like(norms, norms[0]), norms, norms[::-1]])
    begin, end = np.searchsorted(around, steps - half, "left"), np.searchsorted(around, steps + half, "right")
    values, begin, end = values.tolist(), begin.tolist(), end.tolist()
    first, last = begin[0], begin[0]
    inside: list[float] = []  # the norms of the window, sorted: it only moves forward
    medians = []
    for start, stop in zip(begin, end, strict=True):
        for value in values[last:stop]:
            bisect.insort(inside, value)
        for value in values[first:start]:
            del inside[bisect.bisect_left(inside, value)]
        first, last = start, stop
        low, high = inside[(len(inside) - 1) // 2], inside[len(inside) // 2]
        medians.append(low + (high - low) / 2)
    return np.array(medians)


# --- the curve -------------------------------------------------------------------------------------------------------


def _after(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of the weights of all steps after each place, for weights that are straight lines in between."""
    a, b, gap = weights[:-1], weights[1:], np.diff(places)
    between = (gap * (a + b) + (b - a)) / 2  # of the steps after the first one, up to the second
    return np.append(np.cumsum(between[::-1])[::-1], 0.0)


def _corners(x: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """The indices of at most so many points whose straight lines follow the curve: the worst miss comes next.

    Source: Ramer (1972), Douglas and Peucker (1973); distances are vertical here.
    """

    def worst(a: int, b: int) -> tuple[float, int, int, int]:
        line = y[a] + (y[b] - y[a]) * ((x[a : b + 1] - x[a]) / (x[b] - x[a]))
        away = np.abs(y[a : b + 1] - line)
        i = int(np.argmax(away))
        return -float(away[i]), a, a + i, b

    chosen = sorted({0, int(np.argmax(y)), x.size - 1})
    open_pieces = [worst(a, b) for a, b in itertools.pairwise(chosen)]
    heapq.heapify(open_pieces)
    while len(chosen) < most and open_pieces[0][0] < -1e-9:
        _, a, i, b = heapq.heappop(open_pieces)
        chosen.append(i)
        for piece in ((a, i), (i, b)):
            heapq.heappush(open_pieces, worst(*piece))
    return np.sort(chosen)


# --- the record ------------------------------------------------------------------------------------------------------


class GradNormState(NamedTuple):
    """What `record_grad_norms` knows: means over stretches of `stride` updates, the last of which may be unfinished.

    Fields:
      norms: float32 (size,), the mean of the finite norms of each stretch; 0 where there is none.
      counts: int32 (size,), how many norms are in each mean.
      count: int32, the updates so far.
      stride: int32, how many updates a stretch has: 1, 2, 4, ...
      non_finite: int32, how many updates had NaN or infinity in them; they are in no mean.
    """

    norms: Array
    counts: Array
    count: Array
    stride: Array
    non_finite: Array


def record_grad_norms(size: int = 1024, norm: Literal["l2", "l1"] = "l2") -> optax.GradientTransformationExtraArgs:
    """Write down the norm of every gradient, in bounded memory, for `refine` to make a schedule of.

    Put it first in the chain, where it sees the gradients as they come in: `optax.chain(record_grad_norms(),
    optax.sgd(schedule))`; behind Adam or a clip it would write down their updates. It changes nothing. Put
    `optax.MultiSteps` around it, where it sees the accumulated gradients.

    The state has room for `size` norms. When it is full, neighbours are merged into their mean, and from then on twice
    as many updates share a place: so the record covers the whole training evenly, however long it is, with
    `size / 2` norms at least.

    Fields:
      size: how many norms are kept, an even Python int, 4 or more: it is the length of an array in the state.
      norm: `"l2"`, the root of the sum of squares of all elements, which `refine` wants for SGD; or `"l1"`, the sum of
        their magnitudes, for Adam.

    Norms are summed in float32 or better for gradients of any type, and do not overflow while the elements are
    finite. A gradient with NaN or infinity in it is counted in `non_finite` of the state, and is in no mean. The state
    is a `GradNormState`: arrays alone, for `jit`, `vmap`, `scan`, donation and checkpoints.

    Errors: ValueError and TypeError for a bad `size` or `norm`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jaxsched.predict import record_grad_norms, recorded_grad_norms, refine
      >>> optimizer = optax.chain(record_grad_norms(size=4), optax.sgd(0.1))
      >>> params = jnp.array([3.0, 4.0])
      >>> state = optimizer.init(params)
      >>> update = jax.jit(optimizer.update)
      >>> for step in range(6):                                   # the gradient of |x|^2 / 2 is x
      ...     updates, state = update(params, state)
      ...     params = optax.apply_updates(params, updates)
      >>> steps, norms = recorded_grad_norms(state)
      >>> print(steps, norms.round(4))
      [0.5 2.5 4.5] [4.75   3.8475 3.1165]
      >>> refine((steps, norms), "sgd", total_steps=6).knots.tolist()
      [0, 2, 4, 5]

    Source: Defazio et al., 2023, arXiv 2310.07831, which keeps the norms of all steps; the merging is our own.
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(
            f"record_grad_norms: size={format_value(size)}; size is the length of an array: write a Python int."
        )
    if size < 4 or size % 2:
        raise ValueError(f"record_grad_norms: size={size}; size must be an even number of norms, 4 or more.")
    if norm not in _NORMS:
        raise ValueError(f"record_grad_norms: norm={format_value(norm)}; {nearest_name(str(norm), _NORMS)}")
    measure = _NORMS[norm]

    def init(params: Any) -> GradNormState:
        del params  # the norm is that of the updates
        zero = jnp.zeros((), jnp.int32)
        norms, counts = jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.int32)
        return copy_arrays(GradNormState(norms, counts, count=zero, stride=zero + 1, non_finite=zero))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, GradNormState]:
        del params, extra
        return updates, _noted(state, measure(updates))

    return optax.GradientTransformationExtraArgs(init, update)


@standard_promotion
def _l1_norm(tree: Any) -> Array:
    """The sum of all magnitudes as a float32: finite where all elements are, else NaN."""
    leaves = [jnp.abs(jnp.asarray(x)) for x in jax.tree.leaves(tree)]
    wide = jnp.result_type(jnp.float32, *(at_least_float32(x.dtype) for x in leaves))
    leaves = [x.astype(wide) for x in leaves]
    total = sum((jnp.sum(x) for x in leaves), jnp.zeros((), wide))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves] or [jnp.array(True)]).all()
    return jnp.where(finite, jnp.minimum(total, LARGEST), jnp.nan).astype(jnp.float32)


_NORMS = {"l2": global_norm, "l1": _l1_norm}


@jax.jit  # which is nothing within a jit, and without one compiles the branches once
@standard_promotion
def _noted(state: GradNormState, norm: Array) -> GradNormState:
    """The state after one norm more."""
    count, size = jnp.asarray(state.count), np.shape(state.norms)[-1]
    is_full = count // state.stride >= size
    norms, counts, stride = jax.lax.cond(
        is_full, _merged, lambda *x: x, jnp.asarray(state.norms), jnp.asarray(state.counts), jnp.asarray(state.stride)
    )
    place = count // stride
    finite = jnp.isfinite(norm)
    there = counts[place] + finite
    away = jnp.where(finite, norm - norms[place], 0)
    return GradNormState(
        norms=norms.at[place].add(away / jnp.maximum(there, 1)),
        counts=counts.at[place].set(there),
        count=increment(count),
        stride=stride,
        non_finite=state.non_finite + ~finite,
    )


def _merged(norms: Array, counts: Array, stride: Array) -> tuple[Array, Array, Array]:
    """Neighbours as one, each by its weight, and the second half free again."""
    one, other = norms[0::2], norms[1::2]
    both = counts[0::2] + counts[1::2]
    mean = one + (other - one) * (counts[1::2] / jnp.maximum(both, 1)).astype(norms.dtype)
    return (
        jnp.concatenate([mean, jnp.zeros_like(mean)]),
        jnp.concatenate([both, jnp.zeros_like(both)]),
        2 * stride,
    )


def recorded_grad_norms(opt_state: Any) -> GradNorms:
    """What `record_grad_norms` has written down, from any nested optimizer state.

    Args:
      opt_state: any optimizer state with one record in it. From the state of a `vmap` the norms have its axes in
        front, (trainings, n), and the trainings have come equally far.

    Stretches in which no norm was finite are left out; in the state of a `vmap` those that are so in all trainings,
    and NaN stands for the others. How many norms there were in all says `non_finite` of the state.

    Returns: `GradNorms(steps, norms)`, of numpy, which `refine` takes as it is.

    Errors: ValueError for a state without a record, with several of them (pass the part that holds one), without a
    norm, and of trainings that have come differently far; TypeError for one that is traced.

    Example: see `record_grad_norms`.
    """
    found = [(path, node) for path, node in walk(opt_state) if isinstance(node, GradNormState)]
    if not found:
        raise ValueError(
            f"recorded_grad_norms: there is no record in this {type(opt_state).__name__}; put one first in the chain: "
            "optax.chain(record_grad_norms(), optimizer)."
        )
    if len(found) > 1:
        names = ", ".join(LABELS[-1](path) for path, _ in found)
        raise ValueError(f"recorded_grad_norms: there are {len(found)} records, in {names}; pass the part with one.")
    state = GradNormState(*(jax.tree.leaves(field)[0] for field in found[0][1]))  # out of the boxes of Flax NNX
    if any(map(is_traced, state)):
        raise TypeError("recorded_grad_norms: the state is traced, and its numbers are not there yet; call it outside.")
    norms, counts, count, stride, _ = map(np.asarray, state)
    if count.size == 0 or np.ptp(count) or np.ptp(stride):
        raise ValueError(
            f"recorded_grad_norms: these trainings have taken {format_value(count)} steps; take one: "
            "jax.tree.map(lambda x: x[0], state)."
        )
    done, width = int(count.flat[0]), int(stride.flat[0])
    begin = np.arange(0, done, width, dtype=np.float64)[: norms.shape[-1]]
    steps = (begin + np.minimum(begin + width, done) - 1) / 2
    norms, there = norms[..., : begin.size].astype(np.float64), counts[..., : begin.size] > 0
    known = there.any(axis=tuple(range(there.ndim - 1)))
    if not known.any():
        raise ValueError(f"recorded_grad_norms: there is no finite norm after {done} updates; train first.")
    return GradNorms(steps[known], np.where(there, norms, np.nan)[..., known])
