"""The annealing law of loss curves."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..fields import Number
from .fitted import FittedLaw
from .fitting import Facts, fit
from .laws import Law, law
from .sums import Sum


@law
class AnnealingLaw(Law):
    """The annealing law: the loss from the sum of the rates and the area of their decays.

    With the rates `e_k` and `S1(t) = e_0 + ... + e_t`, the momentum `m_k = decay m_{k-1} + (e_{k-1} - e_k)`,
    `m_0 = 0`, and `S2(t) = m_1 + ... + m_t`: `L(t) = L0 + A S1(t)^-alpha - C S2(t)`.

    The rises of the warmup count as negative decays. Rates may be 0. The law is simpler than the `MultiPowerLaw`: the
    gain of a decay grows without regard to the rate that it ends at.

    Args:
      L0: the loss after endless training without a decay; all numbers are 0 or more.
      A: the scale of the loss that a constant rate removes.
      alpha: the exponent of that loss.
      C: the gain of the decay.
      decay: the share of the momentum that remains after one step, from 0 to below 1.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict.annealing import AnnealingLaw
      >>> law = AnnealingLaw(L0=3.1583, A=0.5136, alpha=0.5134, C=0.4019)
      >>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=2_160, total_steps=24_000, end_value=3e-5)
      >>> print(f"{law.final(s, total_steps=24_000):.2f}")
      3.43

    References:
      Tissue, Wang and Wang, "Scaling Law with Learning Rate Annealing", 2024, arXiv 2408.11029.
    """

    C: Number
    decay: Number = 0.999

    fitted: ClassVar[tuple[str, ...]] = ("L0", "A", "alpha", "C")

    @classmethod
    def fit(cls, curves: Any, *, decay: float = 0.999, **options: Any) -> FittedLaw:
        """Fits the law to curves, for a given `decay`; as `MultiPowerLaw.fit`, with 5 losses or more.

        `decay`, from 0 to below 1, is not fitted: compare the `residual` of some, such as 0.99, 0.999 and 0.9995. The
        option `prior` has no effect.
        """
        fixed = {"decay": cls(L0=0.0, A=0.0, alpha=0.0, C=0.0, decay=decay).numbers()["decay"]}
        return fit(cls, fixed, curves, options)

    def _losses(self, rates: jax.Array, at: jax.Array) -> jax.Array:
        total, area = self._sums(rates)
        return self._settled(total[at]) - self.C * area[at]

    def _last(self, rates: jax.Array) -> jax.Array:
        total, area = self._sums(rates)
        return self._settled(total[-1]) - self.C * area[-1]

    def _sums(self, rates: jax.Array) -> tuple[jax.Array, jax.Array]:
        """S1 and S2 at every step."""
        falls = jnp.concatenate([jnp.zeros(1, rates.dtype), rates[:-1] - rates[1:]])
        none = Sum.zero(jnp.result_type(rates.dtype, jnp.result_type(self.decay)))

        def up(sums: Any, step: Any) -> Any:
            momentum, total, area = sums
            rate, fall = step
            momentum = self.decay * momentum + fall
            total, area = total.plus(rate), area.plus(momentum)
            return (momentum, total, area), (total.value, area.value)

        return jax.lax.scan(up, (none.value, none, none), (rates, falls))[1]

    @classmethod
    def _data(cls, rates: list[np.ndarray], at: list[np.ndarray], fixed: dict[str, float]) -> dict[str, np.ndarray]:
        """S1 and S2 of each point."""
        law = cls(L0=0.0, A=0.0, alpha=0.0, C=0.0, **fixed)
        sums = [np.stack(_sums_of(law, r))[:, a] for r, a in zip(rates, at, strict=True)]
        return dict(zip(("total", "area"), np.concatenate(sums, axis=1), strict=True))

    def _of_data(self, data: dict[str, jax.Array]) -> jax.Array:
        return self._settled(data["total"]) - self.C * data["area"]

    @classmethod
    def _draw(cls, rng: np.random.Generator, starts: int, facts: Facts) -> dict[str, np.ndarray]:
        lifetime = min(1 / (1 - facts.fixed["decay"]), facts.steps)
        gain = np.exp(rng.uniform(np.log(0.003), np.log(0.3), starts))
        return facts.draw_settled(rng, starts) | {"C": gain * facts.loss / (facts.peak * lifetime)}


@jax.jit
def _sums_of(law: AnnealingLaw, rates: Any) -> tuple[jax.Array, jax.Array]:
    return law._sums(jnp.asarray(rates))
