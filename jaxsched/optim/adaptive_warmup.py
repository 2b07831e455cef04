"""A warmup whose clock the loss can stop and turn back."""

from __future__ import annotations

import functools
import typing
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from .._errors import format_value, is_traced
from ..fields import Domain, NonNegative, Positive, Unit
from ..schedules import shapes
from ..schedules.base import ShapeName
from ..schedules.shapes import floating
from .listen import Choice, base_rate, increment, listening, settings, shown_rate, standard_promotion

SHAPES = typing.get_args(ShapeName)
Steps = Annotated[Array, Domain("a whole number of steps, 0 or more", lambda x: (x >= 0) & (x % 1 == 0), counts=True)]
Share = Annotated[Array, Domain("a number from 0 to below 1", lambda x: (x >= 0) & (x < 1))]
_RAMPS = tuple(functools.partial(shapes.ramp, name) for name in SHAPES)


class AdaptiveWarmupSettings(NamedTuple):
    """The arguments of `adaptive_warmup`, as they stand in its state; a text stands as its place in its list."""

    warmup_steps: Steps
    shape: Annotated[Array, Choice(SHAPES)]
    init_factor: Unit
    min_steps: Steps
    max_steps: Steps
    smoothing: Share
    tolerance: NonNegative
    spike: Positive
    backoff: Share


class AdaptiveWarmupState(NamedTuple):
    """What `adaptive_warmup` knows: float32 and int32 scalars.

    Fields:
      learning_rate: the rate in force. Without a schedule it is the factor in force.
      clock: the steps of the warmup that were done when a loss was last heard, from 0 to `warmup_steps`.
      pace: how many it does with each update since then.
      clock_count: the update at which that was.
      mean: the smoothed loss.
      deviation: the smoothed distance of a loss from it; the size of the first loss at first.
      lowest: the lowest smoothed loss.
      spike_count: how often the clock was turned back.
      heard_count: the finite losses so far.
      count: the updates so far, which is the schedule's clock.
      base_learning_rate: the schedule's own value at this step, or None.
      settings: the arguments.
    """

    learning_rate: Array
    clock: Array
    pace: Array
    clock_count: Array
    mean: Array
    deviation: Array
    lowest: Array
    spike_count: Array
    heard_count: Array
    count: Array
    base_learning_rate: Array | None
    settings: AdaptiveWarmupSettings

    hyperparams = property(shown_rate)

    @property
    @standard_promotion
    def progress(self) -> Array:
        """How much of the warmup the next update finds done, from 0 to 1."""
        steps = self.settings.warmup_steps
        return jnp.where(steps > 0, self._now() / jnp.maximum(steps, 1), 1.0)

    @standard_promotion
    def _now(self) -> Array:
        """The clock at this update."""
        return jnp.minimum(self.clock + self.pace * (self.count - self.clock_count), self.settings.warmup_steps)

    @standard_promotion
    def in_force(self) -> Array:
        """The schedule's rate times the factor of its warmup."""
        s = self.settings
        factor = _factor(s.shape, s.init_factor, self._now(), s.warmup_steps)
        return base_rate(self) * factor

    def observe(self, value: Array) -> AdaptiveWarmupState:
        """After one more loss: the clock is turned back, or its pace is set anew."""
        s, now, steps = self.settings, self._now(), self.settings.warmup_steps
        finite, noise = jnp.isfinite(value), self._noise()
        bar = jnp.where(self.heard_count > 0, self.mean + s.spike * noise, jnp.inf)
        over = (now >= steps) & (self.count >= s.max_steps)
        spikes = ~((value <= bar) | over)
        # A spike is no more than the bar to the statistics, so that it does not hide the next one.
        after = self._heard(jnp.minimum(value, bar), finite)
        late = steps - now >= s.max_steps - self.count
        rises = after.mean > after.lowest + s.tolerance * after._noise()
        fastest = jnp.maximum(steps / jnp.maximum(s.min_steps, 1), 1.0)
        after = after._replace(
            clock=jnp.where(spikes, s.backoff * now, now),
            pace=jnp.where(after.mean <= after.lowest, fastest, jnp.where(rises & ~late, 0.0, 1.0)),
            clock_count=self.count,
            spike_count=jnp.where(spikes, increment(self.spike_count), self.spike_count),
        )
        return after._replace(learning_rate=after.in_force())

    def _noise(self) -> Array:
        """The deviation, and never the rounding of the loss."""
        return jnp.maximum(self.deviation, 1e-3 * jnp.abs(self.mean))

    def _heard(self, loss: Array, finite: Array) -> AdaptiveWarmupState:
        """With one more loss in the statistics, if it is finite."""
        first, share = self.heard_count == 0, 1 - self.settings.smoothing
        mean = jnp.where(first, loss, self.mean + share * (loss - self.mean))
        spread = jnp.where(first, jnp.abs(loss), self.deviation + share * (jnp.abs(loss - self.mean) - self.deviation))
        return self._replace(
            mean=jnp.where(finite, mean, self.mean),
            deviation=jnp.where(finite, spread, self.deviation),
            lowest=jnp.where(finite, jnp.minimum(self.lowest, mean), self.lowest),
            heard_count=jnp.where(finite, increment(self.heard_count), self.heard_count),
        )


@jax.jit
def _factor(shape: Array, init_factor: Array, clock: Array, steps: Array) -> Array:
    with jax.numpy_dtype_promotion("standard"):
        ends = floating(init_factor), floating(1.0)
        return lax.switch(shape, _RAMPS, *ends, floating(clock), floating(steps)).astype(jnp.float32)


def adaptive_warmup(
    learning_rate: Any,
    warmup_steps: Any,
    *,
    shape: str = "linear",
    init_factor: Any = 0.0,
    min_steps: Any = None,
    max_steps: Any = None,
    smoothing: Any = 0.9,
    tolerance: Any = 1.0,
    spike: Any = 3.0,
    backoff: Any = 0.5,
) -> optax.GradientTransformationExtraArgs:
    """Scale by a learning rate whose warmup waits while the loss does not fall, and goes back when it jumps.

    It takes the place of `optax.scale_by_learning_rate` at the end of a chain: the rate is the schedule's times the
    factor of `schedule.warmup(warmup_steps, shape, init_factor)`, on a clock of its own. The loss is told on the
    update, `update(..., value=loss)`, or by `observe`. While nothing is wrong the clock is the step, and so it is in a
    training that never tells a loss: this is then the plain warmup.

    Formula, for each loss `x` (`m` and `d` are moving averages of `x` and of `|x - m|`, from the first loss and its
    size):
      a spike: `x > m + spike d`, or not finite. The clock goes back to `backoff clock`, and `m` and `d` hear `m +
      spike d` instead of it.
      else the pace, in steps an update until the next loss: `warmup_steps / min_steps` where `m` is at its lowest; 1
      where it is not above its lowest by `tolerance d`; 0 where it is.
      the rate in force: `s(t) w(clock)`; the shape `w` rises from `init_factor` to 1 at `clock = warmup_steps`.
      The pace is 1 and never 0 when there is no more than the rest of the warmup left until `max_steps`. So without a
      spike it is over then at the latest, and no step raises the clock by more than the pace: it never jumps. A spike
      turns it back at any time until the warmup is over and `max_steps` have passed; after that no loss is heard.

    Fields:
      learning_rate: a schedule, a callable or a number. None: the updates are scaled by the factor alone and keep
        their sign (`optax.chain(optax.adam(s), adaptive_warmup(None, 100))`).
      warmup_steps: the nominal length in updates, 0 or more; with 0 the factor is 1.
      shape: `linear cosine sqrt 1-sqrt square 1-square exponential mirror-cosine`, as in `Ramp`.
      init_factor: the factor at step 0, from 0 to 1; above 0 for an exponential warmup.
      min_steps: the shortest warmup, at most `warmup_steps`; None for `warmup_steps`.
      max_steps: the longest, at least `warmup_steps`; None for four times that. Until then the losses of minibatches,
        whose tails are spikes too, may turn back a warmup that had reached its end: the price of being watched so
        long. With `warmup_steps` it is over when it first reaches its end.
      smoothing: the weight of the past in the averages, from 0 to below 1.
      tolerance: how far above its lowest, in deviations, the smoothed loss may be while the clock runs; 0 or more.
      spike: how far above the smoothed loss, in deviations, a loss is a spike; above 0.
      backoff: what a spike multiplies the clock by, from 0 to below 1.

    The heavy tail of the losses of batches holds spikes too: a training that is healthy arrives when the plain warmup
    does, and is turned back now and then until `max_steps`; `max_steps=warmup_steps` lets go as soon as it arrives.

    Every number may be a traced array, so that `jax.vmap` runs over them. The state is an `AdaptiveWarmupState`.

    Errors: ValueError and TypeError that name the field and show the value; ValueError for lengths in the wrong order.
    What has become NaN no rate can mend: put `guard_spikes` around the optimizer for that.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import jaxsched as js
      >>> optimizer = optax.chain(optax.trace(0.9), js.adaptive_warmup(0.1, warmup_steps=8))
      >>> params = jnp.zeros(3)
      >>> state = optimizer.init(params)
      >>> rates = []
      >>> for loss in [4.0, 3.5, 3.0, 2.5, 90.0, 2.5, 2.0]:
      ...     updates, state = optimizer.update(params, state, params, value=loss)
      ...     rates.append(round(float(js.current_hyperparams(state)["learning_rate"]), 4))
      >>> rates
      [0.0, 0.0125, 0.025, 0.0375, 0.025, 0.0375, 0.05]

    Source: ours. That a warmup is what keeps early instabilities small, and is too short where the loss jumps:
    Gilmer et al. (2110.04369), Kalra and Barkeshli (2406.09405).
    """
    arguments = settings(
        "adaptive_warmup",
        AdaptiveWarmupSettings,
        warmup_steps=warmup_steps,
        shape=shape,
        init_factor=init_factor,
        min_steps=warmup_steps if min_steps is None else min_steps,
        max_steps=warmup_steps if max_steps is None else max_steps,
        smoothing=smoothing,
        tolerance=tolerance,
        spike=spike,
        backoff=backoff,
    )
    if max_steps is None:
        longest = jnp.iinfo(jnp.int32).max // 4
        arguments = arguments._replace(max_steps=4 * jnp.minimum(arguments.warmup_steps, longest))
    _refuse(arguments, shape)
    zero, count = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    start = AdaptiveWarmupState(
        learning_rate=zero,
        clock=zero,
        pace=jnp.ones((), jnp.float32),
        clock_count=count,
        mean=zero,
        deviation=zero,
        lowest=jnp.full((), jnp.inf, jnp.float32),
        spike_count=count,
        heard_count=count,
        count=count,
        base_learning_rate=None,
        settings=arguments,
    )
    return listening("adaptive_warmup", learning_rate, start)


def _refuse(s: AdaptiveWarmupSettings, shape: str) -> None:
    """Arguments that do not go together, where they can be seen."""
    if shape == "exponential" and not is_traced(s.init_factor) and s.init_factor <= 0:
        where = f"adaptive_warmup: shape='exponential' and init_factor={format_value(s.init_factor)}"
        raise ValueError(f"{where}; an exponential warmup begins above 0: write init_factor=0.01.")
    for low, high in (("min_steps", "warmup_steps"), ("warmup_steps", "max_steps")):
        a, b = getattr(s, low), getattr(s, high)
        if not (is_traced(a) or is_traced(b)) and a > b:
            raise ValueError(
                f"adaptive_warmup: {low}={format_value(a)} and {high}={format_value(b)}; write {low} <= {high}."
            )
