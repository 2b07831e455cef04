"""128 trainings of the digits network in one sweep, against a Python loop with optax and one with torch."""

from __future__ import annotations

import importlib.util
import pathlib
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep import sweep

from .timing import MEDIANS, Table, at_least, interleaved

MEASURED, ROUNDS = 4, 3
EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "digits.py"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batches(digits: ModuleType, seed: int) -> Any:
    """Epoch after epoch in a new order, as the sweep takes them."""
    rng, (images, labels), size = np.random.default_rng(seed), digits.train, digits.task.batch_size
    order, left = None, 0
    for _ in range(digits.steps):
        if left < size:
            order = rng.permutation(len(images))
            left = len(order)
        rows, order = order[:size], order[size:]
        left -= size
        yield images[rows], labels[rows]


def ours(digits: ModuleType) -> np.ndarray:
    jax.clear_caches()
    return sweep(digits.task, digits.schedules, steps=digits.steps, seeds=digits.seeds).final["valid_accuracy"]


def optax_training(digits: ModuleType, s: Any, seed: int, step: Any = None) -> tuple[float, Any]:
    """One training, with a closure and a compilation for its setting; `step` is the program if there is one already."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, s.peak_value, int(s.warmup_steps), digits.steps, s.end_value)
    optimizer = optax.adam(schedule)

    @jax.jit
    def update(params: Any, state: Any, batch: Any) -> tuple[Any, Any, Any]:
        (value, _), grads = jax.value_and_grad(digits.loss, has_aux=True)(params, batch, None)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    step = update if step is None else step
    params = digits.init(jax.random.key(seed))
    state = optimizer.init(params)
    for batch in batches(digits, seed):
        params, state, _ = step(params, state, batch)
    accuracy = digits.loss(params, jax.tree.map(jnp.asarray, digits.valid), None)[1]["accuracy"]
    return float(accuracy), step


def optax_setting(digits: ModuleType, s: Any) -> float:
    """All seeds of a setting share its program."""
    step, accuracies = None, []
    for seed in range(digits.seeds):
        accuracy, step = optax_training(digits, s, seed, step)
        accuracies.append(accuracy)
    return float(np.mean(accuracies))


def torch_setting(digits: ModuleType, s: Any) -> float:
    return float(np.mean([torch_training(digits, s, seed) for seed in range(digits.seeds)]))


def torch_training(digits: ModuleType, s: Any, seed: int) -> float:
    import torch
    from torch import nn

    torch.set_num_threads(1)  # a second one only waits, in a network of this size
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, digits.HIDDEN), nn.ReLU(), nn.Linear(digits.HIDDEN, 10))
    peak, end, warmup = float(s.peak_value), float(s.end_value), int(s.warmup_steps)

    def factor(t: int) -> float:
        if t < warmup:
            return t / warmup
        u = min((t - warmup) / (digits.steps - warmup), 1.0)
        return (end + (peak - end) * (1 + np.cos(np.pi * u)) / 2) / peak

    optimizer = torch.optim.Adam(model.parameters(), lr=peak)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for images, labels in batches(digits, seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        right = model(torch.from_numpy(digits.valid[0])).argmax(1).numpy() == digits.valid[1]
    return float(right.mean())


def measure() -> Table:
    digits = example()
    everything = js.unstack(digits.schedules)
    some = [everything[i] for i in np.linspace(0, len(everything) - 1, MEASURED).astype(int)]
    trainings = len(everything) * digits.seeds
    torch_setting(digits, some[0])  # its import is no part of a training
    sides = {"ours": lambda: ours(digits)}
    sides |= {
        name: lambda f=setting: [f(digits, s) for s in some]
        for name, setting in (("optax", optax_setting), ("torch", torch_setting))
    }
    times = interleaved(sides, ROUNDS, warm=0, before=jax.clear_caches)
    whole = len(everything) / MEASURED
    rows = [
        at_least(f"{trainings} trainings, against a loop over optax", times["ours"], times["optax"] * whole, 60),
        at_least(f"{trainings} trainings, against a loop over torch", times["ours"], times["torch"] * whole),
    ]
    reached = {"ours": ours(digits)[[everything.index(s) for s in some]].mean()}
    reached |= {name: np.mean(sides[name]()) for name in ("optax", "torch")}
    notes = [
        MEDIANS,
        f"{len(everything)} settings of WarmupCosine x {digits.seeds} seeds, {digits.steps:,} steps of Adam each, on "
        "the network and the data of examples/digits.py. Compilation is counted on both sides, from empty caches.",
        "A loop takes each training alone, step after step: with optax a closure and a compilation a setting, which "
        "its seeds share; with torch a LambdaLR of the same values, on one "
        "thread: a second one only waits. Ours also measures the validation set on its way, every 50 steps.",
        f"{MEASURED} settings of the loops were measured, with all seeds, and multiplied by {whole:g}.",
        "Mean validation accuracy of these settings: "
        + ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in reached.items())
        + ".",
    ]
    return Table("sweep", "A sweep of 128 trainings", notes, rows)
