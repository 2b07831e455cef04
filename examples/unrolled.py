"""Downhill on the schedule: the peak and the end of a cosine, by the gradient through whole trainings on digits.

A rate 20 times too small is followed for 20 outer steps. Each takes the gradient of the validation loss at the end of
four trainings in the logarithms of two hyperparameters, and steps by Adam. It is judged on 16 seeds that it never saw,
beside a grid over the peak on the same seeds, which costs less: with two hyperparameters a grid is still cheap.

    python examples/unrolled.py            # a table and examples/unrolled.png
    jaxsched sweep examples/unrolled.py    # the grid around where it ends, ranked
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from jaxsched import WarmupCosine, grid
from jaxsched.predict.gradients import unrolled_loss
from jaxsched.sweep import Task

PICTURE = Path(__file__).with_suffix(".png")
HIDDEN = 32
PEAKS = [0.05, 0.1, 0.2, 0.4]
steps, seeds = 300, 4


def load():
    """1,437 images to train on and 360 to validate on, always the same."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    return tuple((images[rows], labels[rows]) for rows in (order[360:], order[:360]))


def init(key):
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, HIDDEN)) * np.sqrt(2 / 64),
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(second, (HIDDEN, 10)) * np.sqrt(1 / HIDDEN),
        "b2": jnp.zeros(10),
    }


def loss(params, batch, key):
    del key  # nothing is random: no dropout
    images, labels = batch
    hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), {"accuracy": accuracy}


def descend(objective, start, outer):
    """The schedules and their losses: Adam on the logarithms of the peak and of the end."""

    def made(logs):
        return start.replace(peak_value=jnp.exp(logs["peak"]), end_value=jnp.exp(logs["end"]))

    value_and_grad = jax.jit(jax.value_and_grad(lambda logs: objective(made(logs))))
    optimizer = optax.adam(0.3)
    logs = {"peak": jnp.log(start.peak_value), "end": jnp.log(start.end_value)}
    state, path = optimizer.init(logs), []
    for _ in range(outer):
        value, gradient = value_and_grad(logs)
        path.append((made(logs), float(value)))
        updates, state = optimizer.update(gradient, state)
        logs = optax.apply_updates(logs, updates)
    return path


def draw(path, chosen):
    """The loss of each outer step, and the schedules on the way."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([value for _, value in path], "o-", color="#1e88e5")
    left.plot(chosen, path[chosen][1], "o", color="#d81b60", markersize=10, label="the lowest")
    left.set(xlabel="outer step", ylabel="validation loss, seeds that it sees", yscale="log")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False)
    for i, (schedule, _) in enumerate(path):
        last = i == chosen
        color, width = ("#d81b60", 2.5) if last else ("0.6", 1)
        right.plot(schedule(np.arange(steps)), color=color, linewidth=width, zorder=2 + last)
    right.set(xlabel="step", ylabel="learning rate", yscale="log", ylim=(5e-4, 0.5))
    for ax in (left, right):
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Descent through {steps} steps of training: the peak and the end of a cosine")
    return figure


def main(out=PICTURE, steps=steps, outer=20, runs=16):
    start = WarmupCosine(peak_value=0.01, warmup_steps=steps // 10, total_steps=steps, end_value=0.001)
    path = descend(unrolled_loss(task, steps, seeds=4), start, outer)
    chosen = int(np.nanargmin([value for _, value in path]))
    unseen = jax.jit(unrolled_loss(task, steps, seeds=range(100, 100 + runs)))
    print(f"validation loss on {runs} other seeds")
    rows = {"before": start, "after": path[chosen][0]}
    rows |= {f"grid: peak {peak}": start.replace(peak_value=peak) for peak in PEAKS}
    table = {}
    for name, schedule in rows.items():
        table[name] = float(unseen(schedule))
        print(f"{name:16} peak {schedule.peak_value:.3f} end {schedule.end_value:.4f} {table[name]:8.4f}")
    draw(path, chosen).savefig(out, dpi=150)
    return path, table


train, valid = load()
task = Task(init, loss, train, valid, batch_size=32, optimizer=lambda schedule: optax.sgd(schedule, momentum=0.9))
schedules = grid(
    WarmupCosine,
    peak_value=PEAKS,
    warmup_steps=steps // 10,
    total_steps=steps,
    end_value=[0.001, 0.003, 0.01, 0.03],
)

if __name__ == "__main__":
    main()
