"""The multi-power law of loss curves."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..fields import Number
from .fitting import Facts, between
from .laws import Law, law
from .sums import Sum

_AT_ONCE = 2**21
"""Pairs of steps in memory at once: 8 MB an array."""
_RATIO = 1.5
"""Of the bins of the fit, see `nodes`."""


@law
class MultiPowerLaw(Law):
    """The multi-power law: the loss from all rates so far.

    With the rates `e_k`, the sums `S_k(t) = e_k + ... + e_t` and `S1(t) = e_0 + ... + e_t`,
    `L(t) = L0 + A S1(t)^-alpha - B sum_{k=1}^t (e_{k-1} - e_k) [1 - (1 + C e_k^-gamma S_k(t))^-beta]`.

    The rises of the warmup count as negative decays. The first rates may be 0, a rate of 0 after them is refused; where
    it is traced, its bracket is 1 if a later rate is above 0, and else 0 (the limit of small rates for gamma below 1).
    The law holds after the warmup, for one model and one data set. The difference that it predicts between two close
    schedules is often wrong by several times; see `FittedLaw.rank`. A fit needs 8 losses or more.

    Args:
      L0: the loss after endless training; all numbers are 0 or more.
      A: the scale of the loss that a constant rate removes.
      alpha: the exponent of that loss.
      B: the gain of the decay, in loss for each unit of the rate.
      C: how soon it comes: `1 - 2^-beta` of a decay to the rate e is gained after rates of the sum `e^gamma / C`.
      beta: the exponent of the rest of the gain.
      gamma: see `C`.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict.power_law import MultiPowerLaw
      >>> law = MultiPowerLaw(L0=3.04045, A=0.52469, alpha=0.50787, B=363.788, C=2.06561, beta=0.58279, gamma=0.64142)
      >>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=2_160, total_steps=24_000, end_value=3e-5)
      >>> print([f"{x:.3f}" for x in law.predict(s, at=[6_000, 12_000, 23_999], total_steps=24_000)])
      ['3.575', '3.416', '3.315']

    References:
      Luo et al., "A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules", 2025, arXiv 2503.12811.
    """

    B: Number
    C: Number
    beta: Number
    gamma: Number

    takes_zeros: ClassVar[bool] = False
    fitted: ClassVar[tuple[str, ...]] = ("L0", "A", "alpha", "B", "C", "beta", "gamma")
    usual: ClassVar[dict[str, float]] = {"beta": 0.5, "gamma": 0.5}

    def _losses(self, rates: jax.Array, at: jax.Array) -> jax.Array:
        def up(total: Sum, rate: jax.Array) -> Any:
            new = total.plus(rate)
            return new, (total, new)

        _, (before, after) = jax.lax.scan(up, Sum.zero(rates.dtype), rates)
        falls, steps = rates[:-1] - rates[1:], jnp.arange(1, rates.size)

        @jax.checkpoint
        def one(t: jax.Array) -> jax.Array:
            # The sums are large and almost equal: the rounding error of each is taken off their difference.
            reach = (after.value[t] - before.value[1:]) - (after.extra[t] - before.extra[1:])
            gains = self._gain(rates[1:], jnp.maximum(reach, 0))
            return self._settled(after.value[t]) - self.B * jnp.sum(jnp.where(steps <= t, falls * gains, 0))

        return jax.lax.map(one, at, batch_size=max(1, min(at.size, _AT_ONCE // rates.size)))

    def _last(self, rates: jax.Array) -> jax.Array:
        def back(total: Sum, rate: jax.Array) -> Any:
            total = total.plus(rate)
            return total, total.value

        total, reach = jax.lax.scan(back, Sum.zero(rates.dtype), rates, reverse=True)
        falls = rates[:-1] - rates[1:]
        return self._settled(total.value) - self.B * jnp.sum(falls * self._gain(rates[1:], reach[1:]))

    def _gain(self, rate: jax.Array, reach: jax.Array) -> jax.Array:
        """`1 - (1 + C rate^-gamma reach)^-beta`: the share of a fall to `rate` that the loss has gained since."""
        moves = rate > 0
        gain = self._gain_of_log(jnp.log(jnp.where(moves, rate, 1)), reach)
        return jnp.where(moves, gain, jnp.where(reach > 0, 1, 0).astype(gain.dtype))

    def _gain_of_log(self, log_rate: jax.Array, reach: jax.Array) -> jax.Array:
        return -jnp.expm1(-self.beta * jnp.log1p(self.C * jnp.exp(-self.gamma * log_rate) * reach))

    def _data(self, rates: list[np.ndarray], at: list[np.ndarray]) -> dict[str, np.ndarray]:
        least = min(float(r[a].min(initial=r.max(), where=r[a] > 0)) for r, a in zip(rates, at, strict=True))
        most = max(float(r.sum()) for r in rates)
        bins = int(np.ceil(np.log(most / least) / np.log(_RATIO))) + 1
        bins += -bins % 16  # few sizes, so that few programs are compiled
        parts = [nodes(r, a, least * _RATIO ** np.arange(bins)) for r, a in zip(rates, at, strict=True)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _of_data(self, data: dict[str, jax.Array]) -> jax.Array:
        gains = self._gain_of_log(data["log_rate"], data["reach"])
        return self._settled(data["total"]) - self.B * jnp.sum(data["fall"] * gains, axis=-1)

    def _draw(self, rng: np.random.Generator, starts: int, facts: Facts) -> dict[str, np.ndarray]:
        gamma = between(rng, 0.1, 1.2, starts)
        half = between(rng, 3, 3_000, starts)  # steps at the peak rate until a drop has realised half of its gain
        return facts.draw_settled(rng, starts) | {
            "B": between(rng, 0.003, 0.3, starts) * facts.loss / facts.peak,
            "C": facts.peak**gamma / (facts.peak * half),
            "beta": between(rng, 0.2, 2, starts),
            "gamma": gamma,
        }


def nodes(rates: np.ndarray, at: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Bins the falls of the rate before each of the steps `at`.

    The gain of a fall is a smooth function of the logarithm of the sum of the rates since then. So the falls whose
    `S_k(t)` lies between two neighbours of `edges` become one, of their sum, at their mean `S_k` and mean log rate.
    Rises have bins of their own, so that all weights of a mean have one sign.
    """
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    falls = rates[:-1] - rates[1:]
    out: dict[str, list[np.ndarray]] = {"fall": [], "reach": [], "log_rate": []}
    for sign in (1, -1):
        k = np.flatnonzero(sign * falls > 0) + 1
        columns = np.stack([np.ones(k.size), sums[k], np.log(np.where(rates[k] > 0, rates[k], 1))])
        cumulated = np.cumsum(columns * np.abs(falls[k - 1]), axis=1)
        cumulated = np.concatenate([np.zeros((3, 1)), cumulated], axis=1)
        known = np.searchsorted(k, at, side="right")
        first = np.searchsorted(sums[k], sums[at + 1][:, None] - edges)
        first[:, -1] = 0
        ends = np.minimum(np.concatenate([known[:, None], first], axis=1), known[:, None])
        fall, before, log_rate = cumulated[:, ends[:, :-1]] - cumulated[:, ends[:, 1:]]
        fall = np.where(ends[:, :-1] > ends[:, 1:], fall, 0)
        safe = np.where(fall > 0, fall, 1)
        out["fall"].append(sign * fall)
        out["reach"].append(np.where(fall > 0, np.maximum(sums[at + 1][:, None] - before / safe, 0), 1))
        out["log_rate"].append(np.where(fall > 0, log_rate / safe, 0))
    return {name: np.concatenate(both, axis=1) for name, both in out.items()} | {"total": sums[at + 1]}
