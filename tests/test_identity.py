"""Identities: the same in every process, and another for everything that changes a number."""

import dataclasses
import functools
import json
import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched.sweep import Task
from jaxsched.sweep.identity import difference, identity

from .cases import x64

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
TABLE = np.arange(5, dtype=np.float32)
SETTINGS = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=[0, 5], total_steps=20)


def make_task(width=3, factor=0.5, table=TABLE, data=X, b1=0.9, batch_size=8, key_place=0, valid_factor=1.0):
    def init(key):
        return {"w": jax.random.normal(jax.random.split(key)[key_place], (5, width)), "b": jnp.zeros(width)}

    def loss(params, batch, key):
        x, y = batch
        guess = jax.nn.relu((x - table) @ params["w"] + params["b"]).sum(axis=1)
        scale = factor if key is not None else valid_factor
        return scale * jnp.mean((guess - y) ** 2), {"near": jnp.mean(jnp.abs(guess - y) < 1)}

    data = (data, data.sum(axis=1))
    return Task(init, loss, data, (X, X[:, 0]), batch_size, lambda schedule: optax.adam(schedule, b1=b1))


def identity_of(task=None, settings=(SETTINGS,), **changes):
    groups, at = [], 0
    for stacked in settings:
        stacked = jax.device_get(stacked)
        count = len(jax.tree.leaves(stacked)[0])
        groups.append(SimpleNamespace(settings=stacked, index=list(range(at, at + count))))
        at += count
    arguments = {"steps": 20, "seeds": (0, 1), "key": jax.random.key(0), "log_every": 5, "chunk": "auto"} | changes
    return identity(task or make_task(), groups, **arguments)


@pytest.fixture(scope="module")
def base():
    return identity_of()


def test_it_is_flat_and_survives_json(base):
    assert json.loads(json.dumps(base)) == base
    for value in base.values():
        assert isinstance(value, (str, int)) or all(isinstance(x, (str, int)) for x in value)
    assert base["init"].startswith("18 parameters, ")
    assert base["train"].startswith("float32[40, 5], float32[40], sha256 ")
    assert base["settings"].startswith("4 of WarmupCosine, sha256 ")
    assert (base["batch_size"], base["steps"], base["log_every"], base["seeds"]) == (8, 20, 5, [0, 1])
    assert (base["jax"], base["numpy"]) == (jax.__version__, np.__version__)
    assert base["device"].startswith("cpu")


def test_the_same_task_made_again_is_the_same(base):
    assert identity_of() == base
    assert difference(base, identity_of()) == ""


def pixel(at=(3, 2), step=1):
    data = X.copy()
    data.view(np.int32)[at] += step  # to the next float
    return data


def without_gradient(factor):
    """A loss whose value does not tell of `factor`, and whose gradient does."""

    @functools.partial(jax.custom_vjp)
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (factor * x * g,))
    return lambda params, batch, key: (square(jnp.mean(batch[0] @ params["w"])), {})


MORE = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=[0, 6], total_steps=20)
CONSTANT = js.grid(js.Constant, constant_value=[0.1])


@pytest.mark.parametrize(
    ("names", "changed"),
    [
        ("loss", lambda: identity_of(make_task(factor=0.5000001))),
        ("loss", lambda: identity_of(make_task(valid_factor=2.0))),
        ("loss", lambda: identity_of(make_task(table=TABLE + np.float32([0, 0, 0, 0, 1e-6])))),
        ("init loss optimizer", lambda: identity_of(make_task(width=4))),
        ("init", lambda: identity_of(make_task(key_place=1))),
        ("optimizer", lambda: identity_of(make_task(b1=0.8))),
        ("train", lambda: identity_of(make_task(data=pixel()))),
        ("valid", lambda: identity_of(dataclasses.replace(make_task(), valid=(pixel(), X[:, 0])))),
        ("loss batch_size", lambda: identity_of(make_task(batch_size=9))),
        ("settings", lambda: identity_of(settings=[MORE])),
        ("settings", lambda: identity_of(settings=[jax.tree.map(lambda x: x[::-1], SETTINGS)])),
        ("optimizer settings", lambda: identity_of(settings=[SETTINGS, CONSTANT])),
        ("optimizer settings", lambda: identity_of(settings=[jax.tree.map(lambda x: x[:1], SETTINGS), CONSTANT])),
        ("seeds", lambda: identity_of(seeds=(1, 0))),
        ("key", lambda: identity_of(key=jax.random.key(1))),
        ("init loss key", lambda: identity_of(key=jax.random.key(0, impl="unsafe_rbg"))),
        ("steps", lambda: identity_of(steps=21)),
        ("log_every", lambda: identity_of(log_every=4)),
        ("chunk", lambda: identity_of(chunk=16)),
        ("prune", lambda: identity_of(prune="halving(keep=1/3)")),
        ("rounds", lambda: identity_of(rounds=3)),
    ],
)
def test_what_changes_a_number_changes_it(base, names, changed):
    now = changed()
    differing = [name for name in now if now[name] != base.get(name)]
    assert differing == names.split()
    for name in names.split():
        assert f"{name}: " in difference(base, now)


def test_a_rule_of_a_gradient_changes_it():
    tasks = [dataclasses.replace(make_task(), loss=without_gradient(factor)) for factor in (2.0, 2.0, 3.0)]
    one, same, other = (identity_of(task)["loss"] for task in tasks)
    assert one == same != other


def test_what_changes_no_number_does_not_change_it(base):
    task = make_task()
    init, loss, optimizer = task.init, task.loss, task.optimizer
    other = dataclasses.replace(
        task, init=lambda k: init(k), loss=lambda p, b, k: loss(p, b, k), optimizer=lambda s: optimizer(s)
    )
    assert identity_of(other) == base

    def inner_a(x):
        return x * 2.0

    def inner_b(x):
        return x * 2.0

    def with_jit(inner):
        return dataclasses.replace(task, loss=lambda p, b, k: (jax.jit(inner)(p["w"].sum()), {}))

    assert identity_of(with_jit(inner_a)) == identity_of(with_jit(inner_b))


def test_a_jitted_function_that_is_called_twice():
    """Its program is one object or two, as the caches of JAX have it: the identity is one."""

    def task(clear):
        inner = jax.jit(lambda x: jnp.where(x > 0, x, 0.1 * x))

        def loss(params, batch, key):
            first = inner(params["w"])
            if clear:
                inner.clear_cache()
            return (inner(first) * inner(first + 1)).mean(), {}

        return dataclasses.replace(make_task(), loss=loss)

    assert identity_of(task(False))["loss"] == identity_of(task(True))["loss"]


def test_pytrees_of_settings_and_structure_without_numbers():
    task = dataclasses.replace(make_task(), optimizer=lambda s: optax.inject_hyperparams(optax.adam)(**s))
    both = {"learning_rate": CONSTANT, "b1": CONSTANT}
    assert identity_of(task, [both])["settings"].startswith("1 of Constant + Constant, ")
    shapes = [js.stack(js.Ramp(1.0, 0.0, 10, shape=shape)) for shape in ("sqrt", "sqrt", "square")]
    one, same, other = (identity_of(settings=[ramp])["settings"] for ramp in shapes)
    assert one == same != other
    plain = {"learning_rate": CONSTANT, "patience": np.array([5])}
    task = dataclasses.replace(make_task(), optimizer=lambda s: optax.sgd(s["learning_rate"], s["patience"] / 9))
    assert identity_of(task, [plain])["settings"].startswith("1 of Constant + ndarray, ")


def test_difference_says_both_sides():
    then = {"settings": "64 of WarmupCosine", "seeds": [0, 1], "jax": "0.10.2", "optimizer": ["a", "b"], "gone": 1}
    now = {"settings": "32 of WarmupCosine", "seeds": [0, 1], "jax": "0.9", "optimizer": ["a"], "new": 0}
    assert difference(then, now) == (
        "settings: 64 of WarmupCosine then, 32 of WarmupCosine now; jax: 0.10.2 then, 0.9 now; optimizer: a + b then, "
        "a now; new: none then, 0 now; gone: 1 then, none now"
    )
    assert difference(then, dict(reversed(then.items()))) == ""


def test_precision_and_compiler_flags_are_in_it(base, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_enable_fast_math=true")
    with x64():
        wide = identity_of(make_task())
    assert "x64: False then, True now" in difference(base, wide)
    assert "--xla_cpu_enable_fast_math=true now" in difference(base, wide)


def test_the_values_of_a_program_are_in_it():
    """Of a scan, a branch and an array that only an inner function closes over."""

    def task(table):
        table = np.float32(table)

        def loss(params, batch, key):
            def body(carry, x):
                return jax.lax.cond(x > 0, lambda c: c + table[0], lambda c: c * jnp.asarray(table).sum(), carry), x

            carry, _ = jax.lax.scan(body, params["w"].sum(), jnp.arange(3))
            return carry**2, {}

        return dataclasses.replace(make_task(), loss=loss)

    first = identity_of(task([1, 2, 3]))["loss"]
    assert first == identity_of(task([1, 2, 3]))["loss"]
    assert len({first, identity_of(task([1, 2, 4]))["loss"], identity_of(task([1, 2, 3, 0]))["loss"]}) == 3


def test_batches_from_python_code_are_known_by_the_first():
    def task(start):
        batches = lambda: ((X[i : i + 8], X[i : i + 8, 0]) for i in range(start, 40, 8))  # noqa: E731
        return dataclasses.replace(make_task(), train=batches, batch_size=None)

    one, same, other = (identity_of(task(start)) for start in (0, 0, 8))
    assert one == same
    assert one["train"].startswith("batches from Python code, the first float32[8, 5], float32[8], sha256 ")
    assert [name for name in one if one[name] != other[name]] == ["train"]
