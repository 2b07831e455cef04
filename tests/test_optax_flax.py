"""Real trainings: a schedule inside of optax and Flax, and the rate that was in force read back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from flax.training.train_state import TrainState

import jaxsched as js

STEPS = 40
S = js.WarmupCosine(peak_value=0.3, warmup_steps=5, total_steps=STEPS)
X = jax.random.normal(jax.random.key(0), (64, 3))
Y = X @ jnp.array([[1.0], [-2.0], [0.5]])


def loss_of(w: Any) -> Any:
    return jnp.mean((X @ w - Y) ** 2)


def train(
    optimizer: optax.GradientTransformation, steps: int = STEPS, dtype: Any = jnp.float32
) -> tuple[Any, Any, list[Any]]:
    params = jnp.zeros((3, 1), dtype)
    state = optimizer.init(params)
    states = []

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(jax.grad(loss_of)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        states.append(state)
    return params, state, states


def one_ulp(got: Any, want: Any) -> None:
    """Equal, but for the last bit: with its hyperparameters as constants XLA folds another program."""
    np.testing.assert_allclose(got, want, rtol=3e-7, atol=0)


def by_hand(schedule: Any, steps: int = STEPS) -> Any:
    """Gradient descent written out, with the rates from a table."""
    params = jnp.zeros((3, 1))
    for rate in schedule(np.arange(steps)):
        params = params - rate * jax.grad(loss_of)(params)
    return params


def test_sgd_takes_the_schedule_as_its_rate() -> None:
    params, _, _ = train(optax.sgd(S))
    np.testing.assert_allclose(params, by_hand(S), rtol=1e-4, atol=1e-6)
    assert loss_of(params) < 1e-3 * loss_of(jnp.zeros((3, 1)))


def test_inject_hyperparams_shows_every_rate_and_momentum() -> None:
    momentum = js.OneCycleMomentum(0.85, 0.95, total_steps=STEPS)
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=S, momentum=momentum)
    params, _, states = train(optimizer)
    rates = np.array([s.hyperparams["learning_rate"] for s in states])
    momenta = np.array([s.hyperparams["momentum"] for s in states])
    one_ulp(rates, S.table(STEPS))
    one_ulp(momenta, momentum.table(STEPS))
    assert loss_of(params) < 0.5 * loss_of(jnp.zeros((3, 1)))


def test_scale_by_schedule() -> None:
    params, state, _ = train(optax.chain(optax.scale_by_schedule(S), optax.scale(-1.0)))
    np.testing.assert_allclose(params, by_hand(S), rtol=1e-4, atol=1e-6)
    assert state[0].count == STEPS
    assert S(state[0].count) == 0.0


def test_join_schedules_of_optax_takes_it_and_ours_takes_theirs() -> None:
    theirs = optax.join_schedules([S, optax.linear_schedule(0.1, 0.0, 10)], [20])
    ours = js.join([S, optax.linear_schedule(0.1, 0.0, 10)], [20])
    for t in (0, 5, 19, 20, 25, 30, 99):
        assert theirs(t) == pytest.approx(float(ours(t)), rel=1e-5, abs=1e-8)
    params, _, _ = train(optax.sgd(theirs))
    np.testing.assert_allclose(params, by_hand(ours), rtol=1e-4, atol=1e-6)


def test_multi_steps_counts_updates_and_not_batches() -> None:
    optimizer = optax.MultiSteps(optax.inject_hyperparams(optax.sgd)(learning_rate=S), every_k_schedule=4)
    params, state, _ = train(optimizer, 4 * STEPS)
    np.testing.assert_allclose(params, by_hand(S), rtol=1e-3, atol=1e-5)
    assert state.gradient_step == STEPS
    one_ulp(state.inner_opt_state.hyperparams["learning_rate"], S(STEPS - 1))


def test_flax_linen_train_state() -> None:
    model = linen.Sequential([linen.Dense(16), linen.tanh, linen.Dense(1)])
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=S)
    state = TrainState.create(apply_fn=model.apply, params=model.init(jax.random.key(1), X), tx=optimizer)

    @jax.jit
    def step(state: TrainState) -> tuple[TrainState, Any]:
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((state.apply_fn(p, X) - Y) ** 2))(state.params)
        return state.apply_gradients(grads=grads), loss

    losses, rates = [], []
    for _ in range(STEPS):
        state, loss = step(state)
        losses.append(float(loss))
        rates.append(state.opt_state.hyperparams["learning_rate"])
    one_ulp(np.array(rates), S.table(STEPS))
    assert state.step == STEPS
    assert losses[-1] < 0.2 * losses[0]


def test_a_setting_of_a_sweep_can_be_an_argument_of_the_training() -> None:
    """The schedule is data: it enters the compiled training as an argument, and one program serves all settings."""
    traces = []

    @jax.jit
    def final_loss(schedule: js.Schedule) -> Any:
        traces.append(schedule)
        optimizer = optax.sgd(schedule)

        def body(carry: Any, _: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss_of)(params), state)
            return (optax.apply_updates(params, updates), state), None

        params = jnp.zeros((3, 1))
        (params, _), _ = jax.lax.scan(body, (params, optimizer.init(params)), None, length=STEPS)
        return loss_of(params)

    losses = [float(final_loss(js.WarmupCosine(peak, 5, STEPS))) for peak in (0.003, 0.03, 0.3)]
    assert len(traces) == 1
    assert losses[0] > losses[1] > losses[2]
    slope = jax.grad(final_loss, allow_int=True)(js.WarmupCosine(0.003, 5, STEPS))
    assert slope.peak_value < 0  # a larger rate would have been better
