"""The warmup that watches the loss: on handwritten digits beside the plain one, and rule by rule."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import jaxsched as js

ONES = jnp.ones(2)
SHAPES = ["linear", "cosine", "sqrt", "1-sqrt", "square", "1-square", "exponential", "mirror-cosine"]
HEALTHY, TOO_HIGH = 0.03, 0.2
CHANCE = float(np.log(10))  # the loss of a guess among ten digits


# --- a real training -------------------------------------------------------------------------------------------------


@functools.cache
def compare(warmup_steps: int = 100, steps: int = 450, seeds: int = 4) -> dict[float, dict[str, dict[str, Any]]]:
    """A network of six layers on the 1,797 digits, by SGD with momentum 0.9 and batches of 64, to a constant rate:
    with the plain linear warmup and with the adaptive one, each at a healthy rate and at one that is too high, with
    the same seeds."""
    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)
    rng = np.random.default_rng(0)
    hidden, last = rng.normal(size=(seeds, 5, 64, 64)) / np.sqrt(32), rng.normal(size=(seeds, 64, 10)) / np.sqrt(32)
    weights = ((hidden, np.zeros((seeds, 5, 64))), (last, np.zeros((seeds, 10))))
    starts = jax.tree.map(jnp.float32, weights)
    batches = jnp.asarray(rng.integers(0, len(x), (seeds, steps, 64)))

    def loss(params: Any, x: Any, y: Any) -> Any:
        hidden, (w, b) = params
        x, _ = jax.lax.scan(lambda x, layer: (jax.nn.leaky_relu(x @ layer[0] + layer[1], 0.1), None), x, hidden)
        return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()

    def run(make: Any, peak: Any, params: Any, batches: Any) -> Any:
        optimizer = optax.with_extra_args_support(make(peak))

        def one(carry: Any, batch: Any) -> Any:
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, x[batch], y[batch])
            updates, state = optimizer.update(gradient, state, params, value=value)
            return (optax.apply_updates(params, updates), state), js.current_hyperparams(state)["learning_rate"]

        (params, _), rates = jax.lax.scan(one, (params, optimizer.init(params)), batches)
        return loss(params, x, y), rates

    makers = {
        "plain": lambda peak: optax.inject_hyperparams(optax.sgd)(js.Constant(peak).warmup(warmup_steps), momentum=0.9),
        "adaptive": lambda peak: optax.chain(optax.trace(0.9), js.adaptive_warmup(peak, warmup_steps)),
    }
    numbers: dict[float, dict[str, dict[str, Any]]] = {peak: {} for peak in (HEALTHY, TOO_HIGH)}
    for name, make in makers.items():
        every_seed = jax.vmap(functools.partial(run, make), (None, 0, 0))
        losses, rates = jax.jit(jax.vmap(every_seed, (0, None, None)))(jnp.array(list(numbers)), starts, batches)
        for peak, final, rate in zip(numbers, np.asarray(losses), np.asarray(rates), strict=True):
            full = rate >= peak * 0.999
            numbers[peak][name] = {
                "diverged": int((~(final < CHANCE)).sum()),
                "loss": float(np.median(final)),
                "worst": float(final.max()),
                "reached": float(np.median(np.where(full.any(1), full.argmax(1), steps))),
                "mean_rate": float(rate[:, -100:].mean()),
            }
    return numbers


def test_a_rate_at_which_the_plain_warmup_diverges() -> None:
    """At least half of the seeds of the plain warmup end in NaN or above chance, and none of the adaptive one, 50 steps
    after the end of the longest warmup too."""
    numbers = compare()[TOO_HIGH]
    assert numbers["plain"]["diverged"] >= 2
    assert numbers["adaptive"]["diverged"] == 0
    assert numbers["adaptive"]["worst"] < 0.5
    assert numbers["adaptive"]["mean_rate"] > 0.01


def test_a_healthy_rate_is_not_held() -> None:
    """At a rate that is safe the peak comes when it would come without watching, and the loss is no worse."""
    numbers = compare()[HEALTHY]
    plain, adaptive = numbers["plain"], numbers["adaptive"]
    assert plain["diverged"] == adaptive["diverged"] == 0
    assert adaptive["reached"] <= 1.02 * plain["reached"]
    assert adaptive["loss"] <= 1.1 * plain["loss"]


# --- its rules -------------------------------------------------------------------------------------------------------


def traced_rates(losses: Any, learning_rate: Any = 1.0, warmup_steps: Any = 10, **arguments: Any) -> Any:
    """The rate of each update."""
    transformation = js.adaptive_warmup(learning_rate, warmup_steps, **arguments)

    def one(state: Any, loss: Any) -> Any:
        updates, state = transformation.update(ONES, state, value=loss)

        return state, -updates[0]

    return jax.lax.scan(one, transformation.init(ONES), jnp.asarray(losses, jnp.float32))[1]


def rates(losses: Any, *args: Any, **arguments: Any) -> np.ndarray:
    return np.asarray(traced_rates(losses, *args, **arguments))


FALLING = 3 * 0.97 ** np.arange(60)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_loss_that_falls_makes_the_plain_warmup(shape: Any) -> None:
    schedule = js.Linear(1.0, 0.5, 60)
    want = schedule.warmup(20, shape=shape, init_factor=0.1).table(60)
    got = rates(FALLING, schedule, 20, shape=shape, init_factor=0.1)
    np.testing.assert_allclose(got, want, rtol=2e-6)
    assert got[20] == want[20]


def test_noise_holds_nothing() -> None:
    """A loss of minibatches, 20 % off, that falls by a percent a step: half of 64 are not late at all, and
    nine of ten by less than 5 %."""
    rng = np.random.default_rng(0)
    losses = 2 * 0.99 ** np.arange(130) * (1 + 0.2 * rng.normal(size=(64, 130)))
    reached = np.asarray(jax.vmap(lambda x: jnp.argmax(traced_rates(x, 1.0, 100) >= 1))(losses.astype(np.float32)))
    assert np.median(reached) == 100
    assert np.mean(reached <= 105) > 0.9


def test_without_a_loss_it_is_the_plain_warmup() -> None:
    transformation = js.adaptive_warmup(js.Constant(0.1), 4)
    state = transformation.init(ONES)
    got = []
    for _ in range(6):
        updates, state = jax.jit(transformation.update)(ONES, state)
        got.append(-updates[0].item())
    np.testing.assert_allclose(got, [0, 0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-6)


def test_a_spike_turns_the_clock_back_at_once() -> None:
    losses = np.where(np.arange(60) == 40, 50.0, FALLING)
    got = rates(losses, warmup_steps=50)
    np.testing.assert_allclose(got[:40], np.arange(40) / 50, rtol=1e-5)
    np.testing.assert_allclose(got[40], 0.4, rtol=1e-6)  # 20 of 50, before the update with the loss
    for bad in (np.nan, np.inf):
        spiked = rates(np.where(np.arange(60) == 40, bad, FALLING), warmup_steps=50, backoff=0.25)
        np.testing.assert_allclose(spiked[40], 0.2, rtol=1e-6)
        np.testing.assert_allclose(spiked[41:], spiked[40] + np.arange(1, 20) / 50, rtol=1e-5)


def test_a_loss_that_rises_holds_it_until_it_must_go_on() -> None:
    """Held from soon after the rise on; then one step at a time, and not at once, to be done at `max_steps`."""
    losses = np.concatenate([FALLING[:10], FALLING[10] + 0.05 * np.arange(110)])
    got = rates(losses, warmup_steps=50, max_steps=100, spike=1e6)
    held = got[40]
    assert 10 / 50 < held < 35 / 50
    steps = round(float(held) * 50)
    np.testing.assert_allclose(got[40 : 50 + steps], held, rtol=1e-6)
    np.testing.assert_allclose(np.diff(got[51 + steps : 101]), 1 / 50, rtol=1e-4)
    assert got[99] < got[100] == 1.0


def test_a_spike_counts_until_the_longest_warmup_is_over() -> None:
    at = np.arange(60)
    losses = np.where((at == 25) | (at == 50), 50.0, FALLING)
    got = rates(losses, warmup_steps=10, max_steps=40)
    assert (got[10:25] == 1).all()
    np.testing.assert_allclose(got[25:31], [0.5, 0.6, 0.7, 0.8, 0.9, 1], rtol=1e-5)
    assert (got[31:] == 1).all()


def test_a_loss_at_its_lowest_makes_it_shorter() -> None:
    got = rates(FALLING, warmup_steps=40, min_steps=10)
    np.testing.assert_allclose(got, np.minimum(np.arange(60) / 10, 1), rtol=1e-5)


def test_with_a_loss_per_epoch_the_clock_is_the_update() -> None:
    transformation = js.adaptive_warmup(1.0, 50, spike=2.0)
    state = transformation.init(ONES)

    @jax.jit
    def epoch(state: Any, loss: Any) -> Any:
        state = jax.lax.fori_loop(0, 10, lambda _, s: transformation.update(ONES, s)[1], state)
        return js.observe(state, value=loss)

    seen = []
    for loss in [2.0, 1.5, 30.0, 1.2, 1.1]:
        state = epoch(state, loss)
        seen.append(round(state.progress.item(), 6))
    assert seen == [0.2, 0.4, 0.3, 0.5, 0.7]
    assert state.spike_count == 1


def test_no_warmup_and_no_schedule() -> None:
    assert (rates(FALLING, warmup_steps=0) == 1).all()
    transformation = js.adaptive_warmup(None, 4)
    updates, state = transformation.update(ONES, transformation.init(ONES)._replace(count=jnp.int32(2)))
    assert updates.tolist() == [0.5, 0.5]
    assert js.current_hyperparams(state).keys() == {"scale"}


if __name__ == "__main__":
    for peak, rows in compare(seeds=16).items():
        for name, row in rows.items():
            print(peak, name, row)
