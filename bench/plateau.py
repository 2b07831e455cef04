"""A rate that listens: what it adds to a step of Adam, and 512 of them against the same written by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

from . import step
from .timing import MEDIANS, Table, Times, at_most, interleaved

WIDTHS, ROUNDS = (784, 768, 512, 10), 400
SETTINGS, OBSERVATIONS, FEATURES, RATE = 512, 2_000, 64, 0.01


def training(rate: optax.GradientTransformation, *, tells: bool = True) -> Callable[[], None]:
    return step.training(optax.chain(optax.scale_by_adam(), rate), WIDTHS, tells=tells)


def judge(s: dict[str, Any], state: Any, metric: Any) -> Any:
    """What a user would write for one mode and one threshold mode: no windows, no NaN policy, no schedule."""
    lr, best, bad, cools = state
    better = metric < best * (1 - s["threshold"])
    bad = jnp.where(better | (cools > 0), 0, bad + 1)
    fires = bad > s["patience"]
    new = jnp.maximum(lr * s["factor"], s["min_lr"])
    lr = jnp.where(fires & (lr - new > 1e-8), new, lr)
    cools = jnp.where(fires, s["cooldown"], jnp.maximum(cools - 1, 0))
    return lr, jnp.where(better, metric, best), jnp.where(fires, 0, bad), cools


BLANK = (jnp.float32(RATE), jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0))


def judged_by_hand(s: dict[str, Any], metrics: Any) -> Any:
    def one(state: Any, metric: Any) -> Any:
        state = judge(s, state, metric)
        return state, state[0]

    return jax.lax.scan(one, BLANK, metrics)[1]


def judged_in_windows_by_hand(s: dict[str, Any], metrics: Any) -> Any:
    """The same, of means of `window` metrics; a NaN is bad by itself and in no mean."""

    def one(carry: Any, metric: Any) -> Any:
        state, total, number = carry
        is_nan = jnp.isnan(metric)
        total = jnp.where(is_nan, total, total + metric)
        number = jnp.where(is_nan, number, number + 1)
        full = number >= s["window"]
        now = judge(s, state, jnp.where(is_nan, metric, total / jnp.maximum(number, 1)))
        state = jax.tree.map(lambda a, b: jnp.where(full | is_nan, a, b), now, state)
        return (state, jnp.where(full, 0.0, total), jnp.where(full, 0, number)), state[0]

    return jax.lax.scan(one, (BLANK, jnp.float32(0), jnp.int32(0)), metrics)[1]


def judged(s: dict[str, Any], metrics: Any) -> Any:
    def one(state: Any, metric: Any) -> Any:
        state = js.observe(state, value=metric)
        return state, state.learning_rate

    return jax.lax.scan(one, js.reduce_on_plateau(RATE, **s).init(None), metrics)[1]


def loss(w: Any, batch: Any) -> Any:
    x, y = batch
    return jnp.mean((x @ w - y) ** 2)


def trained_by_hand(s: dict[str, Any], batches: Any) -> Any:
    def one(carry: Any, batch: Any) -> Any:
        w, state = carry
        value, gradient = jax.value_and_grad(loss)(w, batch)
        state = judge(s, state, value)
        return (w - state[0] * gradient, state), state[0]

    return jax.lax.scan(one, (jnp.zeros(FEATURES), BLANK), batches)[1]


def trained(s: dict[str, Any], batches: Any) -> Any:
    optimizer = js.reduce_on_plateau(RATE, **s)

    def one(carry: Any, batch: Any) -> Any:
        w, state = carry
        value, gradient = jax.value_and_grad(loss)(w, batch)
        updates, state = optimizer.update(gradient, state, w, value=value)
        return (optax.apply_updates(w, updates), state), state.learning_rate

    return jax.lax.scan(one, (jnp.zeros(FEATURES), optimizer.init(None)), batches)[1]


def settings(*, windows: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    more = {"window": jnp.asarray(rng.integers(1, 5, SETTINGS), jnp.int32)} if windows else {}
    return more | {
        "factor": jnp.asarray(rng.uniform(0.1, 0.9, SETTINGS), jnp.float32),
        "patience": jnp.asarray(rng.integers(0, 20, SETTINGS), jnp.int32),
        "threshold": jnp.asarray(rng.uniform(0, 0.1, SETTINGS), jnp.float32),
        "cooldown": jnp.asarray(rng.integers(0, 10, SETTINGS), jnp.int32),
        "min_lr": jnp.asarray(rng.uniform(0, 1e-3, SETTINGS), jnp.float32),
    }


def in_one_program(run: Any, data: Any, *, windows: bool) -> Callable[[], Any]:
    many = settings(windows=windows)
    compiled = jax.jit(jax.vmap(run, in_axes=(0, None))).lower(many, data).compile()
    return lambda: jax.block_until_ready(compiled(many, data))


def side_by_side(ours: Any, hand: Any, data: Any, *, windows: bool = False) -> tuple[Times, Times]:
    a, b = (in_one_program(run, data, windows=windows) for run in (ours, hand))
    # The same cuts, or the comparison is none; a few trainings may part after a tie that was rounded differently.
    same = np.isclose(np.asarray(a()), np.asarray(b()), rtol=1e-5).mean()
    assert same > 0.99, same
    times = interleaved({"ours": a, "hand": b}, rounds=40, warm=2)
    return times["ours"], times["hand"]


def measure() -> Table:
    listens = js.reduce_on_plateau(1e-3)
    times = interleaved(
        {
            "ours": training(listens),
            "silent": training(listens, tells=False),
            "constant": training(optax.scale_by_learning_rate(1e-3)),
            "optax": training(optax.chain(optax.scale_by_learning_rate(1e-3), optax.contrib.reduce_on_plateau())),
            "again": training(optax.scale_by_learning_rate(1e-3)),
        },
        rounds=ROUNDS,
        warm=20,
    )
    rng = np.random.default_rng(1)
    t = np.arange(OBSERVATIONS)
    metrics = jnp.asarray(np.exp(-t / 500) * (1 + 0.1 * rng.normal(size=OBSERVATIONS)), jnp.float32)
    x = rng.normal(size=(OBSERVATIONS // 4, 32, FEATURES)).astype(np.float32)
    batches = (jnp.asarray(x), jnp.asarray(x @ rng.normal(size=FEATURES) + rng.normal(size=x.shape[:2]), jnp.float32))
    rows = [
        at_most("a step of Adam that tells its loss, against a constant rate", times["ours"], times["constant"], 1.03),
        at_most("the same without telling", times["silent"], times["constant"]),
        at_most("optax's reduce_on_plateau, against a constant rate", times["optax"], times["constant"]),
        at_most("a constant rate against itself: the noise", times["again"], times["constant"]),
        at_most(
            f"{SETTINGS} trainings, each with a plateau, by hand", *side_by_side(trained, trained_by_hand, batches), 1.2
        ),
        at_most(
            f"{SETTINGS} plateaus with windows and no training at all, by hand",
            *side_by_side(judged, judged_in_windows_by_hand, metrics, windows=True),
            1.2,
        ),
        at_most(
            f"{SETTINGS} plateaus, by hand without windows and NaN",
            *side_by_side(judged, judged_by_hand, metrics),
            1.2,
        ),
    ]
    notes = [
        MEDIANS,
        f"One step of Adam on an MLP of {'-'.join(map(str, WIDTHS))} (1.0 million parameters), batch {step.BATCH}, "
        f"gradient counted; {ROUNDS} rounds.",
        "By hand: the same rule for one mode, without schedules and names (and without windows and NaN, where it says "
        "so), under the same vmap. "
        f"The trainings are a regression of {FEATURES} weights, {OBSERVATIONS // 4} steps with a batch of 32; the bare "
        f"plateaus judge {OBSERVATIONS} metrics.",
    ]
    return Table("plateau", "Rates that listen", notes, rows)
