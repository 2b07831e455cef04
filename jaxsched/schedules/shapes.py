"""Pure kernels: the exact clock, positions on [0, 1], and the shapes that move them.

Two ideas carry every ramp of this package.

*The exact clock.* A step count is an integer and stays one: the distance to a boundary is taken in integers, and
only that distance becomes a float. So nothing is lost at step 2,000,000,000 that was right at step 2.

*A position knows its nearer end.* A point u of [0, 1] is kept as its distance `gap <= 1/2` from the nearer end, and
which end that is. A float near 1 cannot represent its distance from 1; a gap can. So both ends are exact, whatever a
compiler does to the division; the value cannot leave its ends; and no relative accuracy is lost in the tail of a
decay to zero. A shape is a map from positions to positions, and shapes compose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Traces a function once for each combination of types; every later use inserts the traced operations."""
    return cast(Function, jax.jit(function, inline=True))


def floating(x: Any) -> Array:
    """`x` as the float type that formulas are computed in: float32, or float64 under x64."""
    return jnp.asarray(x).astype(jnp.result_type(float))


def is_integer(x: Any) -> bool:
    """Whether `x` counts in whole numbers."""
    return jnp.issubdtype(jnp.result_type(x), jnp.integer)


def select(condition: Any, x: Any, y: Any) -> Array:
    """`jnp.where` as a single operation; `jnp.where` is a function that is traced and differentiated on its own."""
    dtype = jnp.result_type(x, y)
    return lax.select(*jnp.broadcast_arrays(condition, jnp.asarray(x).astype(dtype), jnp.asarray(y).astype(dtype)))


def _quotient(x: Array, y: Array) -> Array:
    """`x // y` for `x >= 0` and `y > 0`: among integers no sign has to be corrected."""
    return lax.div(*jnp.broadcast_arrays(x, y)) if is_integer(x) else x // y


# --- the clock -------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Fraction:
    """The step `ticks / per` of a stretched clock, kept as two integers.

    A cycle that is stretched `per` times runs its schedule on this clock. The kernels below read it exactly, by
    stretching their lengths instead of dividing the step. `jnp.asarray` and arithmetic make it the float it stands for;
    the formulas of users receive this float. Where the stretch is too large to be counted, `per` is the largest integer
    and `stretch` still has its size.
    """

    __array_ufunc__ = None  # `np.float32(2) * fraction` reaches `__rmul__`

    ticks: Array
    per: Array
    stretch: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ticks.shape

    def __jax_array__(self) -> Array:
        return floating(self.ticks) / self.stretch

    def countable(self, length: Any) -> Array:
        """Whether `length` can be counted in ticks."""
        most = jnp.iinfo(self.per.dtype).max
        return (length <= 0) | (length <= _quotient(jnp.asarray(most), self.per)) & (self.per < most)

    def in_ticks(self, length: Any) -> Array:
        """`length` in ticks, or more than are ever reached."""
        return select(self.countable(length), length * self.per, jnp.iinfo(self.per.dtype).max)


def _of_float(operation: str) -> Callable[..., Array]:
    return lambda self, *others: getattr(jnp.asarray(self), operation)(*others)


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow")
for _name in ("neg", "pos", "abs", "bool", "eq", "ne", "lt", "le", "gt", "ge", *_BINARY, *(f"r{b}" for b in _BINARY)):
    setattr(Fraction, f"__{_name}__", _of_float(f"__{_name}__"))


Step = Any  # an integer or float Array, or a Fraction


def _alike(step: Step, *lengths: Any) -> tuple[Array, ...]:
    """Integers stay integers (of a Fraction: in ticks); beside a float all become floats. Explicit because strict
    promotion forbids guessing."""
    if all(map(is_integer, lengths)):
        if isinstance(step, Fraction):
            return step.ticks, *map(step.in_ticks, lengths)
        if is_integer(step):
            return tuple(jnp.asarray(x).astype(jnp.result_type(int)) for x in (step, *lengths))
    return tuple(map(floating, (step, *lengths)))


def _on(step: Step, operation: Callable[..., Array], length: Any) -> Step:
    """`operation(step, length)`, two numbers of one kind, on the clock of `step`."""
    moved = operation(*_alike(step, length))
    return dataclasses.replace(step, ticks=moved) if isinstance(step, Fraction) and is_integer(moved) else moved


@kernel
def elapsed(step: Step, start: Any) -> Step:
    """The clock that starts at `start`: `max(step - start, 0)`. It never runs below 0, where formulas need not be
    finite (a square root of a negative step makes NaN gradients even where it is not chosen)."""
    return _on(step, lambda t, begin: jnp.maximum(t - begin, 0), start)


@kernel
def ahead(step: Step, steps: Any) -> Step:
    """The clock that is `steps` ahead; it stops at the largest integer instead of overflowing."""

    def add(t: Array, n: Array) -> Array:
        return jnp.minimum(t, jnp.iinfo(t.dtype).max - n) + n if is_integer(t) else t + n

    return _on(step, add, steps)


@kernel
def stopped(step: Step, over: Array, at: Any) -> Step:
    """The clock that stands at `at` where it is `over`."""
    if isinstance(step, Fraction) and is_integer(at):
        return Fraction(select(over, at, step.ticks), select(over, 1, step.per), select(over, 1, step.stretch))
    return _on(step, lambda t, end: select(over, end, t), at)


@kernel
def reached(step: Step, boundary: Any) -> Array:
    """Whether `step >= boundary`."""
    step, boundary = _alike(step, boundary)
    return step >= boundary


@kernel
def floor_div(step: Step, size: Any) -> Array:
    """`floor(step / size)` as an integer, 0 before step 0."""
    step, size = _alike(step, size)
    return _quotient(jnp.maximum(step, 0), select(size > 0, size, 1)).astype(jnp.result_type(int))


@kernel
def passed(step: Step, boundaries: Array) -> Array:
    """How many of the sorted `boundaries` are `<= step`: one binary search, whose program does not grow with them.

    `jnp.searchsorted` takes twice as long as a loop, and twice as long to compile when it is unrolled."""
    count = boundaries.shape[0]
    if count == 0:
        return jnp.zeros(step.shape, jnp.result_type(int))
    if isinstance(step, Fraction) and is_integer(boundaries):
        step = _quotient(step.ticks, step.per)  # past an integer exactly when the fraction is
    step, boundaries = _alike(step, boundaries)
    levels = count.bit_length()
    beyond = jnp.iinfo(boundaries.dtype).max if is_integer(boundaries) else jnp.inf
    table = jnp.concatenate([boundaries, jnp.full((2**levels - 1 - count,), beyond, boundaries.dtype)])

    def halve(level: Any, found: Array) -> Array:
        size = jnp.left_shift(1, levels - 1 - level).astype(found.dtype)
        ahead = table.at[found + (size - 1)].get(mode="promise_in_bounds")
        return select(ahead <= step, found + size, found)

    found = lax.fori_loop(0, levels, halve, jnp.zeros(step.shape, jnp.result_type(int)))
    return jnp.minimum(found, count)


@kernel
def cycle(step: Step, period: Any, period_mult: Any = None) -> tuple[Array, Step]:
    """The index of the cycle that `step` is in, and the clock of that cycle, which runs from 0 to `period`.

    Cycle i is `period * period_mult**i` steps long; without a multiplier all are `period` steps long. Integers are
    exact at every step: the lengths grow in integers, without a logarithm, whose rounding makes torch, timm and Keras
    miss restarts. A float multiplier is guessed by a logarithm, then put right against the starts themselves."""
    if period_mult is None:
        index = floor_div(step, period)
        return index, _on(step, lambda t, length: jnp.maximum(t, 0) - index * select(length > 0, length, 1), period)
    step, period = _alike(jnp.asarray(step), period)
    step, period = jnp.maximum(step, 0), select(period > 0, period, 1)
    if is_integer(step) and is_integer(period_mult):
        return _whole_cycle(step, period, jnp.asarray(period_mult).astype(step.dtype))
    return _real_cycle(floating(step), floating(period), floating(period_mult))


def _whole_cycle(step: Array, period: Array, mult: Array) -> tuple[Array, Fraction]:
    most = jnp.iinfo(step.dtype).max
    largest = _quotient(jnp.asarray(most), mult)  # that can be multiplied

    def times(length: Array) -> Array:
        return select(length > largest, most, length * mult)

    def move_on(_: Any, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        index, elapsed, length, per = state
        over = elapsed >= length
        return (
            index + over.astype(index.dtype),
            select(over, elapsed - length, elapsed),
            select(over, times(length), length),
            select(over, times(per), per),
        )

    # A multiplier of 1 is done by the division, and one of 2 or more within as many cycles as an integer has bits.
    index = select(mult == 1, _quotient(step, period), 0)
    length = jnp.broadcast_to(period, index.shape)
    state = (index, step - index * period, length, jnp.ones_like(length))
    index, elapsed, _, per = lax.fori_loop(0, jnp.iinfo(step.dtype).bits, move_on, state)
    return index, Fraction(elapsed, per, power(floating(mult), ratio(index)))


def _real_cycle(step: Array, period: Array, mult: Array) -> tuple[Array, Array]:
    growth, before = powers(mult, index := growing_index(step, period, mult))
    return index, jnp.clip((step - period * before) / growth, 0, period)


@kernel
def growing_index(step: Array, period: Array, mult: Array) -> Array:
    """The index of the cycle by a logarithm, put right by the starts themselves."""
    step, period, mult = map(lax.stop_gradient, (step, period, mult))
    count, rate = step / period, select(mult > 1, mult - 1, 1)
    guess = jnp.floor(select(mult > 1, jnp.log1p(count * rate) / jnp.log1p(rate), count)).astype(jnp.result_type(int))
    guess = jnp.maximum(select(period * powers(mult, guess)[1] > step, guess - 1, guess), 0)
    return select(period * powers(mult, guess + 1)[1] <= step, guess + 1, guess)


@kernel
def powers(base: Array, count: Array) -> tuple[Array, Array]:
    """`base**count`, and the sum of all powers below it. By doubling, without a logarithm: where a sum is a number that
    a float holds, it is that number."""

    def double(level: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        power, total = state
        odd = (count >> (bits - 1 - level)) & 1 == 1
        power, total = power * power, total * (1 + power)
        return select(odd, power * base, power), select(odd, total * base + 1, total)

    bits = jnp.iinfo(count.dtype).bits - 1
    one = jnp.ones(jnp.broadcast_shapes(count.shape, base.shape), base.dtype)
    return lax.fori_loop(0, bits, double, (one, jnp.zeros_like(one)))


# --- quotients and powers that lose no digits ------------------------------------------------------------------------


class Ratio(NamedTuple):
    """A number in twice the digits of a float: `high` has half of a float's digits, `low` is the rest."""

    high: Array
    low: Array


def _split(x: Any) -> list[Array]:
    """`x` as a sum of floats, the largest first, that have at most half of a float's digits each: products of two of
    them are exact."""

    def halves(x: Array) -> list[Array]:
        info = jnp.finfo(x.dtype)
        high = lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant // 2)
        return [high, x - high]

    if not is_integer(x):
        return halves(floating(x))
    tail = jnp.asarray(x) & 4095  # an integer has more digits than a float: it takes two floats to hold it
    head, tail = floating(x - tail), floating(tail)
    high, _ = halves(head + tail)
    return [high, *halves((head - high) + tail)]


def _sum(terms: Sequence[Array]) -> Array:
    """From the left: the largest terms come first, where they cancel."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@kernel
def ratio(step: Step, steps: Any = None) -> Ratio:
    """`step / steps` for an exponent (`step` itself without a divisor), with the remainder of the division: half an ulp
    of error in an exponent of 80 is 40 ulp of error in the power. `steps` is taken to be above 0."""
    step = jnp.asarray(step)
    first, *others = _split(step)
    if steps is None:
        return Ratio(first, _sum(others))
    steps = jnp.asarray(steps)
    steps = select(steps > 0, steps, 1)
    high = _split(floating(step) / floating(steps))[0]
    divisor, *fine = _split(steps)
    remainder = _sum([first - high * divisor, *others, *(-high * part for part in fine)])
    return Ratio(high, remainder / floating(steps))


@kernel
def power(base: Any, exponent: Ratio) -> Array:
    """`base ** exponent` for a positive base."""
    coarse = jnp.power(base, exponent.high)
    return coarse * jnp.power(base, select(_ordinary(coarse), exponent.low, 0))


def _ordinary(x: Array) -> Array:
    """Neither 0 nor infinite: no factor changes the others, and one that overflows itself would make a NaN of them."""
    return (x > 0) & (x < jnp.inf)


@kernel
def exponential(rate: Any, exponent: Ratio) -> Array:
    """`exp(rate * exponent)`."""
    coarse, fine = _split(rate)
    return _exp_of_sum(coarse * exponent.high, fine * exponent.high, rate * exponent.low)


def _exp_of_sum(first: Array, *others: Array) -> Array:
    """`exp` of a sum that is not rounded; the first term is the largest. XLA turns exp(a) exp(b) back into exp(a + b),
    so the small factor is written with `expm1`."""
    high = _split(_sum([first, *others]))[0]
    coarse = jnp.exp(high)
    return coarse * (1 + jnp.expm1(select(_ordinary(coarse), _sum([first - high, *others]), 0)))


def polynomial(coefficients: Sequence[float], x: Array) -> Any:
    """`c0 + c1 x + c2 x^2 + ...`"""
    *others, total = coefficients
    for c in reversed(others):
        total = total * x + c
    return total


@kernel
def one_minus_exp(x: Array) -> Array:
    """`1 - exp(x)` to two ulp; XLA's expm1 has five."""
    near = jnp.abs(x) < 0.5
    z, terms = select(near, x, 0), 10 if x.dtype == jnp.float32 else 18
    series = -z * polynomial([1 / math.factorial(k + 1) for k in range(terms)], z)
    return select(near, series, 1 - jnp.exp(select(near, 0, x)))


# --- positions on [0, 1] ---------------------------------------------------------------------------------------------


class Position(NamedTuple):
    """A point u of [0, 1] by its nearer end: `u = gap`, or `u = 1 - gap` where `late`; `0 <= gap <= 1/2`."""

    late: Array
    gap: Array

    @property
    def done(self) -> Array:
        """u"""
        return select(self.late, 1 - self.gap, self.gap)

    @property
    def left(self) -> Array:
        """1 - u"""
        return select(self.late, self.gap, 1 - self.gap)


Shape = Callable[[Position], Position]


def _nearer_end(step: Step, steps: Any) -> tuple[Array, Array, Array]:
    """Whether the end is the nearer one, how many steps away the nearer one is, and `steps`, made safe to divide by."""
    step, steps = _alike(step, steps)
    step = jnp.minimum(jnp.maximum(step, 0), steps)
    left = steps - step
    safe = jnp.maximum(steps, 1) if is_integer(steps) else select(steps > 0, steps, 1)
    late = step >= left
    # Not a minimum, whose slope in the middle would be that of neither side.
    return late, select(late, left, step), safe


@kernel
def progress(step: Step, steps: Any) -> Position:
    """Where `step` is between 0 and `steps`; at the end if there is nothing between them (`steps == 0`)."""
    # A compiler may divide by multiplying with 1 / steps, and steps * (1 / steps) need not be 1. The gap of an end
    # is 0 / steps, which is 0 either way.
    late, away, safe = _nearer_end(step, steps)
    position = Position(late, floating(away) / floating(safe))
    if not (isinstance(step, Fraction) and is_integer(steps)):
        return position
    # What cannot be counted in ticks ends after every tick that there is: a float is accurate enough near its start.
    rough = progress(floating(step.ticks), floating(steps) * step.stretch)
    return Position(*(select(step.countable(steps), e, r) for e, r in zip(position, rough, strict=True)))


def _shared(step: Step, steps: Any) -> tuple[Array, Ratio]:
    """As `progress`, with the gap as a `Ratio`."""
    if isinstance(step, Fraction):
        late, gap = progress(step, steps)
        return late, ratio(gap)
    late, away, steps = _nearer_end(step, steps)
    return late, ratio(away, steps)


@kernel
def exact_progress(step: Step, steps: Any) -> Position:
    """As `progress`, rounded once: a power multiplies every ulp that its base is off. Costs four times as much."""
    late, share = _shared(step, steps)
    return Position(late, share.high + share.low)


@kernel
def mix(init: Any, end: Any, position: Position) -> Array:
    """`init (1 - u) + end u`: the nearer end, and its share of the way to the other.

    Exact at both ends, constant between equal ends, never outside of them, monotone in u, and as accurate near a
    small end as near a large one."""
    late, gap = position
    return select(late, end, init) + select(late, init - end, end - init) * gap


@kernel
def nearer(left: Array, done: Array) -> Position:
    """The position with these weights, `left + done == 1`; the smaller weight is kept exactly."""
    late = done >= left
    return Position(late, select(late, left, done))


def flip(position: Position) -> Position:
    """u -> 1 - u"""
    return Position(~position.late, position.gap)


def flipped(shape: Shape) -> Shape:
    """The shape run from the other end: u -> 1 - shape(1 - u)."""
    return lambda position: flip(shape(flip(position)))


def linear(position: Position) -> Position:
    """u -> u"""
    return position


# sin(pi x / 2)**2 / x**2 in powers of x**2 for 0 <= x <= 1/2. A polynomial costs less than half of XLA's sine. For
# float32 the best fit of degree 4 (relative error 4e-8), else the Taylor series: (-1)^(k+1) pi^2k / (2 (2k)!).
_HALF_COSINE = {
    32: (2.4674011, -2.0293557, 0.66761998, -0.11753718, 0.012313556),
    64: tuple((-1) ** (k + 1) * math.pi ** (2 * k) / (2 * math.factorial(2 * k)) for k in range(1, 13)),
}


@kernel
def half_cosine(position: Position) -> Position:
    """u -> (1 - cos(pi u)) / 2 = sin(pi u / 2)**2"""
    z = position.gap * position.gap
    return Position(position.late, z * polynomial(_HALF_COSINE[jnp.finfo(z.dtype).bits], z))


@kernel
def mirror_cosine(position: Position) -> Position:
    """u -> 2 u - (1 - cos(pi u)) / 2"""
    return Position(position.late, 2 * position.gap - half_cosine(position).gap)


@kernel
def raised(position: Position, exponent: Any) -> Position:
    """u -> u ** exponent, for a positive exponent; exactly u where the exponent is 1."""
    late, inside = position.late, position.gap > 0
    gap = select(inside, position.gap, 0.5)  # an end stays an end, and its slope, which may be infinite, is 0
    done = jnp.power(select(late, 1 - gap, gap), exponent)
    log = select(late, jnp.log1p(-gap), jnp.log(gap))
    new = nearer(one_minus_exp(exponent * log), done)
    # The value of the identity with the gradient of the power.
    same = lax.stop_gradient(gap) + (new.gap - lax.stop_gradient(new.gap))
    one = jnp.asarray(exponent) == 1
    late = select(one | ~inside, late, new.late)
    return Position(late, select(inside, select(one, same, new.gap), 0))


@kernel
def square(position: Position) -> Position:
    """u -> u ** 2"""
    done, left = position.done, position.left
    return nearer(left * (1 + done), done * done)


def root(position: Position) -> Position:
    """u -> u ** (1/2)"""
    return raised(position, 0.5)


@kernel
def hyperbola(position: Position, beta: Any) -> Position:
    """u -> beta u / ((1 - u) + beta u)"""
    left, done = position.left, beta * position.done
    return nearer(left / (left + done), done / (left + done))


@kernel
def tanh_between(lower: Any, upper: Any, step: Step, steps: Any) -> Position:
    """u -> (tanh(x) - tanh(lower)) / (tanh(upper) - tanh(lower)) with x = lower (1 - u) + upper u.

    Written by tanh(a) - tanh(b) = sinh(a - b) / (cosh(a) cosh(b)), in which a - b is exact at both ends."""
    late, share = _shared(step, steps)
    gap = share.high + share.low
    position, width = Position(late, gap), 2 * (upper - lower)
    near, far = 2 * select(late, upper, lower), 2 * select(late, lower, upper)
    # exp(2 x); an exponent of 20 that is rounded once would cost 20 ulp
    growth = exponential(far, share) * exponential(-near, share) * jnp.exp(near)
    to_end = one_minus_exp(-width * position.left) / one_minus_exp(-width)
    from_init = one_minus_exp(-width * position.done) / one_minus_exp(-width)
    return nearer(
        to_end * (1 + jnp.exp(2 * lower)) / (1 + growth),
        from_init * (1 + jnp.exp(-2 * upper)) * growth / (1 + growth),
    )


SHAPES: dict[str, Shape] = {
    "linear": linear,
    "cosine": half_cosine,
    "sqrt": flipped(root),
    "1-sqrt": root,
    "square": flipped(square),
    "1-square": square,
    "mirror-cosine": mirror_cosine,
}


@kernel
def geometric(init: Any, end: Any, step: Step, steps: Any) -> Array:
    """`init (end / init)**u`, counted from the nearer end; both ends have one sign and neither is 0."""
    late, share = _shared(step, steps)
    near, far = select(late, end, init), select(late, init, end)
    reachable = near * far > 0
    factor = select(reachable, far, 1) / select(reachable, near, 1)  # a branch that is not taken stays finite
    return near * power(factor, share)


def ramp(shape: str, init: Any, end: Any, step: Step, steps: Any) -> Array:
    """From `init` to `end` in `steps`, in one of the `SHAPES` or geometrically (`"exponential"`)."""
    if shape == "exponential":
        return geometric(init, end, step, steps)
    return mix(init, end, SHAPES[shape](progress(step, steps)))


# --- phases that end between two steps -------------------------------------------------------------------------------


class Instant(NamedTuple):
    """The time `whole + part` on the clock: an integer, and a float that may have any sign."""

    whole: Any
    part: Any


@kernel
def instant(fraction: Any, total: Any, offset: Any = 0) -> Instant:
    """`fraction * total + offset`, exactly enough that a phase of 2,000,000,000 steps can end between two of them."""
    products = [a * b for a in _split(fraction) for b in _split(total)]
    if not is_integer(total):
        return Instant(0, _sum(products) + offset)
    whole = jnp.floor(_sum(products)).astype(jnp.asarray(total).dtype)
    first, *others = _split(whole)
    return Instant(whole + offset, _sum([products[0] - first, *products[1:], *(-part for part in others)]))


@kernel
def until(step: Step, then: Instant) -> Array:
    """`then - step`, below 0 when it is over."""
    return floating(_on(step, lambda t, whole: whole - t, then.whole)) + then.part


@kernel
def between(step: Step, start: Instant, stop: Instant) -> Position:
    """Where `step` is on the way from `start` to `stop`."""
    steps = floating(stop.whole - start.whole) + (stop.part - start.part)
    safe = select(steps > 0, steps, 1)
    left = jnp.clip(until(step, stop), 0, safe) / safe
    done = jnp.clip(-until(step, start), 0, safe) / safe
    late = done >= left
    return Position(late, select(late, left, done))
