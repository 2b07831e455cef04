"""A convolutional network with dropout (Flax NNX): two families of schedules, each with several weight decays.

A setting is a dict of a schedule and a number; settings of both families stand in one list.

    python examples/digits_cnn.py            # the best of each family, and examples/digits_cnn.png
    jaxsched sweep examples/digits_cnn.py    # all settings, ranked
"""

from pathlib import Path

import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxsched as js
from jaxsched.sweep import Task, sweep

PICTURE = Path(__file__).with_suffix(".png")
steps, seeds = 400, 2


class CNN(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.dropout = nnx.Dropout(0.2)
        self.head = nnx.Linear(2 * 2 * 32, 10, rngs=rngs)

    def __call__(self, x, key):
        """Without a key nothing is dropped."""
        x = nnx.relu(self.conv2(nnx.relu(self.conv1(x)))).reshape(len(x), -1)
        return self.head(self.dropout(x, deterministic=key is None, rngs=key))


def load():
    """1,437 images to train on and 360 to validate on, always the same."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(0).permutation(len(images))
    return tuple((images[rows], labels[rows]) for rows in (order[360:], order[:360]))


def init(key):
    return nnx.state(CNN(nnx.Rngs(key)), nnx.Param)


# What is left of the network without its parameters; a batch norm's running means would have no place to change in.
graph, _ = nnx.split(CNN(nnx.Rngs(0)))


def loss(params, batch, key):
    images, labels = batch
    logits = nnx.merge(graph, params)(images, key)
    value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return value, {"accuracy": (logits.argmax(axis=-1) == labels).mean()}


def optimizer(setting):
    return optax.adamw(setting["learning_rate"], weight_decay=setting["weight_decay"])


def family(learning_rate):
    return [
        {"learning_rate": learning_rate(peak), "weight_decay": decay}
        for peak in (1e-3, 3e-3, 1e-2, 3e-2)
        for decay in (0.0, 0.01, 0.1)
    ]


train, valid = load()
task = Task(init, loss, train, valid, batch_size=32, optimizer=optimizer)
schedules = [
    *family(lambda peak: js.WarmupCosine(peak, warmup_steps=40, total_steps=steps)),
    *family(lambda peak: js.WarmupStableDecay(peak, warmup_steps=40, total_steps=steps, decay_steps=120)),
]


def draw(settings, curves, at, steps):
    figure = Figure(figsize=(9, 4), layout="constrained")
    rates, losses = figure.subplots(1, 2)
    for setting, curve, colour in zip(settings, curves, ("#1e88e5", "#d81b60"), strict=True):
        schedule = setting["learning_rate"]
        rates.plot(schedule.table(steps), color=colour, label=type(schedule).__name__)
        losses.plot(at, curve, color=colour)
    rates.set(title="the best of each family", xlabel="step", ylabel="learning rate")
    losses.set(title="validation loss, mean over the seeds", xlabel="step", yscale="log")
    rates.legend(frameon=False)
    for ax in (rates, losses):
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def main(out=PICTURE, settings=schedules, steps=steps, seeds=seeds):
    """Sweeps both families in one call, and shows the best of each."""
    result = sweep(task, settings, steps=steps, seeds=seeds, log_every=min(25, steps))
    means = result.final["valid_loss"].mean(axis=1)
    kinds = np.array([type(setting["learning_rate"]).__name__ for setting in settings])
    best = [int(min(np.flatnonzero(kinds == kind), key=lambda i: means[i])) for kind in dict.fromkeys(kinds)]
    for i in best:
        accuracy = result.final["valid_accuracy"][i].mean()
        print(f"validation loss {means[i]:.4f}, accuracy {accuracy:.1%}: {settings[i]}")
    at = result.log_every * (1 + np.arange(result.metrics["valid_loss"].shape[2]))
    curves = result.metrics["valid_loss"][best].mean(axis=1)
    draw([settings[i] for i in best], curves, at, steps).savefig(out, dpi=150)
    return result


if __name__ == "__main__":
    main()
