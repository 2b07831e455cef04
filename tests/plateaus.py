"""Our plateau over many recorded sequences at once, for the recorded peers and for the live ones."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsched as js

TINY = float(np.finfo(np.float32).tiny)  # below it the rates of XLA are 0
ROUNDING = 60 * 2.0**-23  # an ulp for each of at most 60 cuts
NUMBERS = ("lr", "factor", "patience", "threshold", "cooldown", "min_lr", "eps")


@functools.partial(jax.jit, static_argnames=("mode", "threshold_mode"))
def rates(numbers: dict[str, Any], sequence: Any, mode: str, threshold_mode: str, **more: Any) -> Any:
    """The rate after each observation."""
    numbers = dict(numbers)
    state = js.reduce_on_plateau(numbers.pop("lr"), mode=mode, threshold_mode=threshold_mode, **numbers, **more).init(
        None
    )

    def one(state: Any, metric: Any) -> Any:
        state = js.observe(state, value=metric)
        return state, state.learning_rate

    return jax.lax.scan(one, state, sequence)[1]


def many(arguments: list[dict[str, Any]], sequences: np.ndarray) -> np.ndarray:
    """Four programs for all: a mode is structure, and every number is vmapped."""
    result = np.full(sequences.shape, np.nan)
    for mode in ("min", "max"):
        for threshold_mode in ("rel", "abs"):
            rows = [i for i, a in enumerate(arguments) if (a["mode"], a["threshold_mode"]) == (mode, threshold_mode)]
            if rows:
                numbers = {name: jnp.array([arguments[i][name] for i in rows]) for name in NUMBERS}
                run = functools.partial(rates, mode=mode, threshold_mode=threshold_mode)
                result[rows] = jax.vmap(run)(numbers, sequences[rows])
    return result


def from_keras(a: dict[str, Any]) -> dict[str, Any]:
    """Keras's arguments in ours: its patience and cooldown count the observation that ends them."""
    up = a["mode"] == "max" or (a["mode"] == "auto" and a["monitor"] == "val_accuracy")
    return {
        "lr": a["lr"],
        "mode": "max" if up else "min",
        "factor": a["factor"],
        "patience": max(a["patience"], 1) - 1,
        "threshold": a["min_delta"],
        "threshold_mode": "abs",
        "cooldown": max(a["cooldown"], 1) - 1,
        "min_lr": a["min_lr"],
        "eps": 0.0,
    }


def cuts(rates: np.ndarray, start: Any) -> np.ndarray:
    """Which observation cut: where the rate is not that of the one before."""
    whole = np.concatenate([np.asarray(start, np.float64)[:, None], rates], axis=1)
    return np.abs(np.diff(whole, axis=1)) > 1e-6 * whole[:, :-1]
