"""The annealing law of loss curves."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..fields import Number
from .fitting import Facts, between
from .laws import Law, law
from .sums import Sum


@law
class AnnealingLaw(Law):
    """The annealing law: the loss from the sum of the rates and the area of their decays.

    With the rates `e_k` and `S1(t) = e_0 + ... + e_t`, the momentum `m_k = decay m_{k-1} + (e_{k-1} - e_k)`,
    `m_0 = 0`, and `S2(t) = m_1 + ... + m_t`: `L(t) = L0 + A S1(t)^-alpha - C S2(t)`.

    The rises of the warmup count as negative decays. Rates may be 0. The gain of a decay grows without regard to the
    rate that it ends at. A fit needs 5 losses or more; its option `prior` has no effect.

    Args:
      L0: the loss after endless training without a decay; all numbers are 0 or more.
      A: the scale of the loss that a constant rate removes.
      alpha: the exponent of that loss.
      C: the gain of the decay.
      decay: the share of the momentum that remains after one step, from 0 to below 1; not fitted.

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

    def _losses(self, rates: jax.Array, at: jax.Array) -> jax.Array:
        return self._of_data({name: x[at] for name, x in self._sums(rates).items()})

    def _sums(self, rates: jax.Array) -> dict[str, jax.Array]:
        """S1 and S2 at every step."""
        falls = jnp.concatenate([jnp.zeros(1, rates.dtype), rates[:-1] - rates[1:]])
        none = Sum.zero(jnp.result_type(rates.dtype, jnp.result_type(self.decay)))

        def up(sums: Any, step: Any) -> Any:
            momentum, total, area = sums
            rate, fall = step
            momentum = self.decay * momentum + fall
            total, area = total.plus(rate), area.plus(momentum)
            return (momentum, total, area), {"total": total.value, "area": area.value}

        return jax.lax.scan(up, (none.value, none, none), (rates, falls))[1]

    def _data(self, rates: list[np.ndarray], at: list[np.ndarray]) -> dict[str, np.ndarray]:
        sums = [jax.device_get(_sums(self, r)) for r in rates]
        return {name: np.concatenate([x[name][a] for x, a in zip(sums, at, strict=True)]) for name in ("total", "area")}

    def _of_data(self, data: dict[str, jax.Array]) -> jax.Array:
        return self._settled(data["total"]) - self.C * data["area"]

    def _draw(self, rng: np.random.Generator, starts: int, facts: Facts) -> dict[str, np.ndarray]:
        gain = between(rng, 0.003, 0.3, starts)
        lifetime = min(1 / (1 - float(self.decay)), facts.steps)
        return facts.draw_settled(rng, starts) | {"C": gain * facts.loss / (facts.peak * lifetime)}


@jax.jit
def _sums(law: AnnealingLaw, rates: Any) -> dict[str, jax.Array]:
    return law._sums(jnp.asarray(rates))
