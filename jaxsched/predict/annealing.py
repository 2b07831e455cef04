"""The annealing law: what a decay gains is the area under its falls, remembered with a momentum."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..fields import Number
from .fitted import FittedLaw, Settings
from .fitting import Facts, fit
from .laws import Law, law, settled
from .sums import Sum


@law
class AnnealingLaw(Law):
    """The loss as a function of the sum of the rates and of the area of their falls.

    Formula: with the rates `e_k` and `S1(t) = e_0 + ... + e_t`, the momentum `m_k = decay m_{k-1} + (e_{k-1} - e_k)`,
    `m_0 = 0`, and `S2(t) = m_1 + ... + m_t`: `L(t) = L0 + A S1(t)^-alpha - C S2(t)`.

    The warmup counts: its rises are falls below 0. Rates of 0 are taken. One number less deep than the
    `MultiPowerLaw`: what a fall gains grows without regard to the rate that it falls to.

    Fields: numbers of 0 or more.
      L0: what the loss comes to after endless training, without a decay.
      A, alpha: how a constant rate lowers the loss.
      C: what the decay gains.
      decay: how much of a fall is still felt a step later, from 0 to below 1.

    Example:
      >>> import jaxsched as js
      >>> from jaxsched.predict.annealing import AnnealingLaw
      >>> law = AnnealingLaw(L0=3.1583, A=0.5136, alpha=0.5134, C=0.4019)
      >>> s = js.WarmupCosine(peak_value=3e-4, warmup_steps=2_160, total_steps=24_000, end_value=3e-5)
      >>> print(f"{law.final(s, total_steps=24_000):.2f}")
      3.43

    Source: Tissue, Wang and Wang, "Scaling Law with Learning Rate Annealing", 2024, arXiv 2408.11029.
    """

    C: Number
    decay: Number = 0.999

    fitted: ClassVar[tuple[str, ...]] = ("L0", "A", "alpha", "C")
    usual: ClassVar[dict[str, float]] = {}

    @classmethod
    def fit(
        cls,
        curves: Any,
        *,
        decay: float = 0.999,
        starts: int = 64,
        seed: int = 0,
        huber: float = 1e-3,
        bootstrap: int = 200,
        max_steps: int = 300,
        block: int | None = None,
        confidence: float = 0.95,
    ) -> FittedLaw:
        """The law of the curves, for a given `decay`; the rest is as in `MultiPowerLaw.fit`.

        Args:
          curves: a list of `Curve`, with 5 losses or more after their warmups, of which one decays.
          decay: from 0 to below 1; it is not fitted. Compare the `residual` of some, such as 0.99, 0.999 and 0.9995.
          starts, seed, huber, bootstrap, max_steps, block, confidence: see `MultiPowerLaw.fit`.

        Errors: TypeError and ValueError for arguments and for curves of which the law cannot be told.
        Warns: RuntimeWarning if the fit did not converge, or if no other start came to its result.
        """
        fixed = {"decay": cls(L0=0.0, A=0.0, alpha=0.0, C=0.0, decay=decay).numbers()["decay"]}
        return fit(cls, fixed, curves, Settings(starts, seed, huber, 0.0, bootstrap, max_steps, block, confidence))

    def _losses(self, rates: jax.Array, at: jax.Array) -> jax.Array:
        total, area = self._sums(rates)
        return settled(self, total[at]) - self.C * area[at]

    def _last(self, rates: jax.Array) -> jax.Array:
        total, area = self._sums(rates)
        return settled(self, total[-1]) - self.C * area[-1]

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

    # --- what the fit asks for ---------------------------------------------------------------------------------------

    @classmethod
    def _data(cls, rates: list[np.ndarray], at: list[np.ndarray], fixed: dict[str, float]) -> dict[str, np.ndarray]:
        """S1 and S2 of each point."""
        law = cls(L0=0.0, A=0.0, alpha=0.0, C=0.0, **fixed)
        sums = [_sums_of(law, r) for r in rates]
        return {
            name: np.concatenate([np.asarray(s[i])[a] for s, a in zip(sums, at, strict=True)])
            for i, name in enumerate(("total", "area"))
        }

    def _of_data(self, data: dict[str, jax.Array]) -> jax.Array:
        return settled(self, data["total"]) - self.C * data["area"]

    @classmethod
    def _draw(cls, rng: np.random.Generator, starts: int, facts: Facts) -> dict[str, np.ndarray]:
        lifetime = min(1 / (1 - facts.fixed["decay"]), facts.steps)
        gain = np.exp(rng.uniform(np.log(0.003), np.log(0.3), starts))
        return facts.draw_settled(rng, starts) | {"C": gain * facts.loss / (facts.peak * lifetime)}


@jax.jit
def _sums_of(law: AnnealingLaw, rates: Any) -> tuple[jax.Array, jax.Array]:
    return law._sums(jnp.asarray(rates))
