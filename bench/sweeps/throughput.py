"""A thousand trainings in one sweep, against loops over optax and torch and against hyperoptax's random search."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js

from ..timing import MEDIANS, Row, Times, at_least, interleaved, once
from . import work


def batches(seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Epoch after epoch in a new order, as the sweep takes them."""
    digits = work.example()
    rng, (images, labels), size = np.random.default_rng(seed), digits.train, digits.task.batch_size
    for t in range(work.STEPS):
        place = t % (len(images) // size)
        if place == 0:
            order = rng.permutation(len(images))
        rows = order[place * size : (place + 1) * size]
        yield images[rows], labels[rows]


def optax_training(setting: Any) -> float:
    """One training, with a closure and a compilation for its setting; returns the validation accuracy."""
    digits = work.example()
    peak, warmup = float(setting.peak_value), int(setting.warmup_steps)
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, peak, warmup, work.STEPS))

    @jax.jit
    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, Any]:
        (value, _), grads = jax.value_and_grad(digits.loss, has_aux=True)(params, batch, None)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    params = digits.init(jax.random.key(0))
    state = optimizer.init(params)
    for batch in batches(0):
        params, state, _ = step(params, state, batch)
    return float(digits.loss(params, jax.tree.map(jnp.asarray, digits.valid), None)[1]["accuracy"])


def torch_training(setting: Any, threads: int) -> float:
    import torch
    from torch import nn

    digits = work.example()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, digits.HIDDEN), nn.ReLU(), nn.Linear(digits.HIDDEN, 10))
    warmup = int(setting.warmup_steps)

    def factor(t: int) -> float:
        if t < warmup:
            return t / warmup
        return (1 + np.cos(np.pi * min((t - warmup) / (work.STEPS - warmup), 1.0))) / 2

    optimizer = torch.optim.Adam(model.parameters(), lr=float(setting.peak_value))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for images, labels in batches(0):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        right = model(torch.from_numpy(digits.valid[0])).argmax(1).numpy() == digits.valid[1]
    return float(right.mean())


def hyperoptax_search(settings: int, parallel: int) -> float:
    """Its random search over the same space, so many trainings at once; returns the best validation loss."""
    from hyperoptax import LogSpace, QLinearSpace, RandomSearch

    train = jax.jit(work.by_hand(curves=False))  # what it asks for: a number for each training, and no curve
    space = {"peak": LogSpace(1e-4, 1e-1), "warmup": QLinearSpace(0, 200)}
    state, search = RandomSearch.init(space, n_parallel=parallel)
    _, (_, results) = search.optimize(
        state, jax.random.key(0), lambda key, p: train(p["peak"], p["warmup"], key), settings // parallel
    )
    return float(jnp.stack(results).min())


def ours(settings: int) -> Any:
    return js.sweep(work.example().task, work.settings(settings), steps=work.STEPS, seeds=1, log_every=work.LOG_EVERY)


def measure(settings: int = 1024, measured: int = 8, rounds: int = 3) -> tuple[list[Row], list[str]]:
    some = js.unstack(work.settings(settings))[:: settings // measured][:measured]
    import torch  # here, for it is no part of a training

    threads = torch.get_num_threads()
    torch_training(some[0], 1)
    # The batch that suits it best: it leaves the choice to its user.
    tried = {}
    for parallel in (16, 64, 256):
        jax.clear_caches()
        tried[parallel] = once(functools.partial(hyperoptax_search, settings, min(parallel, settings)))
    parallel = min(tried, key=lambda n: tried[n])
    sides = {
        "ours": lambda: ours(settings),
        "optax": lambda: [optax_training(s) for s in some],
        "torch": lambda: [torch_training(s, threads) for s in some],
        "torch 1": lambda: [torch_training(s, 1) for s in some],
        "hyperoptax": lambda: hyperoptax_search(settings, min(parallel, settings)),
    }
    times = interleaved(sides, rounds, warm=0, before=jax.clear_caches)
    whole = settings / measured
    text = f"{settings:,} settings x {work.STEPS} steps, compilation counted, against"
    rows = [
        at_least(f"{text} a loop over optax", times["ours"], times["optax"] * whole, 120),
        at_least(f"{text} a loop over torch as it comes", times["ours"], times["torch"] * whole, 80),
        at_least(f"{text} a loop over torch on one thread", times["ours"], times["torch 1"] * whole),
        at_least(f"{text} hyperoptax's RandomSearch", times["ours"], times["hyperoptax"], 1.15),
    ]
    result = ours(settings)
    return rows, [
        MEDIANS,
        *_notes(settings, measured, tried, parallel, times["ours"]),
        _reached(result, some, settings),
    ]


def _notes(settings: int, measured: int, tried: dict[int, float], parallel: int, times: Times) -> list[str]:
    batches = ", ".join(f"{n}: {seconds:.1f} s" for n, seconds in tried.items())
    each = np.median(times.seconds) / settings
    return [
        f"{settings:,} schedules drawn with `sample(WarmupCosine, ...)`, Adam, the network and the data of "
        f"examples/digits.py, {work.STEPS} steps, from empty caches. Ours takes {each * 1e3:.1f} ms a setting, with "
        f"curves (the whole validation set every {work.LOG_EVERY} steps), divergence marks and seeds.",
        "A loop takes each training alone, step after step: with optax a closure and a compilation a setting; with "
        "torch a LambdaLR of the same values, with the threads that torch takes by itself (one for each core, which "
        "wait for each other in a network of this size), and with one. "
        f"{measured} settings of the loops were measured and multiplied by {settings / measured:g}.",
        "hyperoptax 0.2.0 trains what the user writes: here vmap and scan by hand, jitted, with the loss at the end "
        f"and no curves, in batches of {parallel}, the best of those tried ({batches}).",
    ]


def _reached(result: Any, some: list[Any], settings: int) -> str:
    """The trainings are as good as one another."""
    final = result.final["valid_accuracy"][:: settings // len(some)][: len(some)].mean()
    reached = {"ours": final}
    peers = {"optax": optax_training, "torch": functools.partial(torch_training, threads=1)}
    reached |= {name: np.mean([f(s) for s in some]) for name, f in peers.items()}
    accuracies = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in reached.items())
    best = np.nanmin(result.final["valid_loss"]), hyperoptax_search(settings, min(64, settings))
    return (
        f"Mean validation accuracy of the settings that were measured: {accuracies}. The best validation loss of all: "
        f"ours {best[0]:.4f}, hyperoptax {best[1]:.4f} (other draws from the same space)."
    )
