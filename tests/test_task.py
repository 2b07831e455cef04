"""A task: what it is made of, what it finds out about itself, and what it refuses."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.sweep import Task
from jaxsched.sweep.data import Feed

X = np.linspace(-1, 1, 24, dtype=np.float32)
DATA = (X, 2 * X)


def init(key):
    return {"slope": jax.random.normal(key, ())}


def loss(params, batch, key):
    x, y = batch
    return jnp.mean((params["slope"] * x - y) ** 2), {}


def noisy_loss(params, batch, key):
    value, metrics = loss(params, batch, key)
    return value + (0.0 if key is None else jax.random.normal(key, ())), metrics


def batches(size=8):
    return (tuple(x[i : i + size] for x in DATA) for i in range(0, len(X), size))


ARRAYS = Task(init, loss, DATA, DATA, 8, optax.sgd)
HOST = Task(init, loss, batches, DATA, None, optax.sgd)


def test_where_the_batches_come_from():
    assert not ARRAYS.host
    assert ARRAYS.examples == 24
    assert HOST.host
    with pytest.raises(AttributeError, match="have no number of examples"):
        _ = HOST.examples
    for task in (ARRAYS, HOST):
        for found, right in zip(task.batch, next(batches()), strict=True):
            np.testing.assert_array_equal(found, right)
        assert task.metrics == ("train_loss", "valid_loss")


@pytest.mark.parametrize("train", [lambda: list(batches()), lambda: batches, lambda: batches()])
def test_every_kind_of_source(train):
    task = Task(init, loss, train(), DATA, None, optax.sgd)
    with Feed.open(task.train) as feed:
        x, y = feed.take(3)
    np.testing.assert_array_equal(x.ravel(), X)
    np.testing.assert_array_equal(y.ravel(), 2 * X)


def test_a_list_in_the_form_of_valid_is_arrays():
    assert not Task(init, loss, list(DATA), list(DATA), 8, optax.sgd).host
    assert Task(lambda key: jnp.ones(()), lambda p, b, k: (p * b.mean(), {}), [X, X], X, None, optax.sgd).host


def test_a_replaced_task_keeps_its_iterator():
    """An iterator gives its first batch once: the task that looked at it hands it on."""
    task = dataclasses.replace(Task(init, loss, batches(), DATA, None, optax.sgd), optimizer=optax.adam)
    with Feed.open(task.train) as feed:
        np.testing.assert_array_equal(feed.take(3)[0].ravel(), X)


def constant(key):
    return {"slope": jnp.zeros(())}


def unread(key):
    jax.random.split(key)
    return constant(key)


def split(key):
    return init(jax.random.split(key)[1])


@pytest.mark.parametrize(
    ("seeded", "fields"),
    [
        (True, {"init": constant, "loss": noisy_loss}),
        (True, {"init": constant, "train": DATA, "batch_size": 8}),
        (True, {"init": jax.jit(init)}),
    ],
)
def test_whether_seeds_make_a_difference(seeded, fields):
    assert dataclasses.replace(HOST, **fields).seeded is seeded


def test_the_answer_is_that_of_two_keys():
    for function in (init, constant, unread, split):
        values = [function(jax.random.key(seed))["slope"] for seed in (0, 1)]
        assert dataclasses.replace(HOST, init=function).seeded is bool(values[0] != values[1])


@pytest.mark.parametrize(
    ("error", "says", "fields"),
    [
        (TypeError, "batch_size=None; batch_size must be an integer", {"train": DATA}),
        (ValueError, r"batch_size=5, and the first batch of train has \[8\] examples", {"batch_size": 5}),
        (
            ValueError,
            r"valid is .* and a batch of train is .*map\(tuple, loader\)",
            {"train": lambda: map(list, batches())},
        ),
        (ValueError, "gave no batch", {"train": lambda: iter(())}),
        (TypeError, r"train\(\)=None; train\(\) must return", {"train": lambda: None}),
        (TypeError, "train holds 'digits'; train must be a pytree of arrays", {"train": "digits"}),
        (TypeError, "valid holds <function", {"valid": batches}),
        (TypeError, "valid holds <generator", {"valid": batches()}),
        (ValueError, r"init returned \{\}, without an array", {"init": lambda key: {}}),
        (ValueError, "init returned None, without an array", {"init": lambda key: None}),
        (
            TypeError,
            r"init returned params\['count'\] of int32; parameters must be floats.*nnx.Param",
            {"init": lambda key: {**init(key), "count": jnp.zeros((), int)}},
        ),
    ],
)
def test_a_bad_task_is_refused(error, says, fields):
    with pytest.raises(error, match=says):
        dataclasses.replace(HOST, **fields)


def test_nothing_but_the_first_batch_is_taken():
    taken = []

    def watched():
        for batch in itertools.cycle(batches()):
            taken.append(batch)
            yield batch

    dataclasses.replace(HOST, train=watched)
    assert len(taken) == 1


# --- in a sweep ------------------------------------------------------------------------------------------------------

SETTINGS = js.grid(js.Linear, init_value=[0.05, 0.3, 0.6], end_value=0.0, steps=11)


@jax.jit
def plain_step(setting, params, state, batch, key):
    (value, _), grads = jax.value_and_grad(noisy_loss, has_aux=True)(params, batch, key)
    updates, state = optax.sgd(setting).update(grads, state)
    return optax.apply_updates(params, updates), state, value


def plain_loop(setting, seed, steps):
    """The training that `sweep` documents, with the batches in the order in which they come."""
    init_key, _, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)
    params = init(init_key)
    state, losses = optax.sgd(setting).init(params), []
    for t, batch in zip(range(steps), itertools.chain.from_iterable(iter(batches, None)), strict=False):
        params, state, value = plain_step(setting, params, state, batch, jax.random.fold_in(loss_key, t))
        losses.append(float(value))
    return np.array(losses), float(loss(params, DATA, None)[0])


@pytest.mark.parametrize("train", [lambda: list(batches()), lambda: batches])
def test_a_sweep_over_batches_is_plain_training(train):
    """Three chunks, each with a pass of its own over batches that begin again after three."""
    task = dataclasses.replace(HOST, train=train(), loss=noisy_loss)
    result = js.sweep(task, SETTINGS, steps=11, seeds=2, log_every=4, chunk=2)
    for setting, seed in [(0, 0), (1, 1), (2, 0)]:
        losses, valid = plain_loop(js.unstack(SETTINGS)[setting], seed, 11)
        windows = losses[:8].reshape(2, 4).mean(axis=1)
        np.testing.assert_allclose(result.metrics["train_loss"][setting, seed], windows, rtol=1e-5)
        np.testing.assert_allclose(result.final["train_loss"][setting, seed], losses[8:].mean(), rtol=1e-5)
        np.testing.assert_allclose(result.final["valid_loss"][setting, seed], valid, rtol=1e-4, atol=1e-7)


def test_an_iterator_serves_one_chunk_as_long_as_it_lasts():
    endless = itertools.chain.from_iterable(iter(batches, None))
    task = dataclasses.replace(HOST, train=endless, loss=noisy_loss)
    losses, _ = plain_loop(js.unstack(SETTINGS)[1], 0, 8)
    result = js.sweep(task, SETTINGS, steps=8, seeds=1, log_every=8, chunk=3)
    np.testing.assert_allclose(result.final["train_loss"][1, 0], losses.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match=r"needs them again.*train=lambda"):
        js.sweep(task, SETTINGS, steps=8, seeds=1, log_every=8, chunk=3)
    with pytest.raises(ValueError, match="ran dry at step 3"):
        js.sweep(dataclasses.replace(HOST, train=batches()), SETTINGS, steps=8, seeds=1, log_every=8, chunk=3)
