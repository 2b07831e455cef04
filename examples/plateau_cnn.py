"""A convolutional network (Flax NNX) whose learning rate is cut when the validation loss has stopped getting better.

Adam starts at a rate that is too high to end with. Once an epoch `observe` tells the optimizer the validation loss;
the third epoch in a row without a better one cuts the rate to 0.3 of it. Beside it the same training with no cuts.

    python examples/plateau_cnn.py            # both trainings, a table and examples/plateau_cnn.png
    jaxsched sweep examples/plateau_cnn.py    # first rates and their warmups, ranked
"""

from pathlib import Path

import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from sklearn.datasets import load_digits

import jaxsched as js
from jaxsched.sweep import Task

PICTURE = Path(__file__).with_suffix(".png")
BATCH, BATCHES = 32, 44  # BATCHES of BATCH images are an epoch
RATE = 2e-2
steps, seeds = 10 * BATCHES, 2  # of `jaxsched sweep`


class CNN(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.head = nnx.Linear(2 * 2 * 32, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        return self.head(x.reshape(len(x), -1))


def load():
    """1,437 images to train on and 360 to validate on, always the same."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(0).permutation(len(images))
    return tuple((images[rows], labels[rows]) for rows in (order[360:], order[:360]))


def loss_of(model, batch):
    images, labels = batch
    logits = model(images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, (logits.argmax(axis=-1) == labels).mean()


@nnx.jit
def step(model, optimizer, batch):
    grads, _ = nnx.grad(loss_of, has_aux=True)(model, batch)
    optimizer.update(model, grads)


def fit(transformation, epochs, seed=0):
    """The validation loss, the validation accuracy and the rate in force, for each epoch."""
    model = CNN(nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    evaluate = nnx.jit(loss_of)
    history = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        for rows in rng.permutation(len(train[1]))[: BATCHES * BATCH].reshape(BATCHES, BATCH):
            moved = np.roll(train[0][rows], rng.integers(-1, 2, size=2), axis=(1, 2))  # by a pixel at most
            step(model, optimizer, (moved, train[1][rows]))
        loss, accuracy = evaluate(model, valid)
        rate = js.current_hyperparams(optimizer.opt_state)["learning_rate"]
        history.append((float(loss), float(accuracy), float(rate)))
        optimizer.opt_state = js.observe(optimizer.opt_state, value=loss)
    return np.array(history).T


def draw(plateau, constant):
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    at = 1 + np.arange(len(plateau[0]))
    for (loss, _, rate), label, style in (
        (constant, "constant rate", {"color": "0.55", "linewidth": 1.5}),
        (plateau, "reduce_on_plateau", {"color": "#d81b60", "linewidth": 2.2}),
    ):
        above.plot(at, loss, label=label, **style)
        below.step(at, rate, where="mid", **style)
    for i, cut in enumerate(at[1:][np.diff(plateau[2]) < 0] - 0.5):
        for ax in (above, below):
            ax.axvline(cut, color="0.3", linewidth=0.8, linestyle=":", label=None if i else "cut")
    above.set(title="Adam on digits: the rate is cut when the validation loss stalls", ylabel="validation loss")
    below.set(xlabel="epoch", ylabel="learning rate")
    above.legend(edgecolor="none", framealpha=0.9)
    for ax in (above, below):
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def main(out=PICTURE, epochs=40, runs=3):
    """Each way with several seeds; the picture shows the first."""
    ways = {"reduce_on_plateau": {"factor": 0.3, "patience": 2}, "constant rate": {"patience": epochs}}
    histories = {}
    print(f"{'':18} {'seed':>4} {'loss':>8} {'accuracy':>9}  (mean of the last 5 epochs) {'last rate':>10}")
    for name, arguments in ways.items():
        transformation = optax.chain(optax.scale_by_adam(), js.reduce_on_plateau(RATE, **arguments))
        histories[name] = [fit(transformation, epochs, seed) for seed in range(runs)]
        for seed, (loss, accuracy, rate) in enumerate(histories[name]):
            print(f"{name:18} {seed:4} {loss[-5:].mean():8.4f} {accuracy[-5:].mean():9.2%} {rate[-1]:39.2e}")
    plateau, constant = (runs[0] for runs in histories.values())
    draw(plateau, constant).savefig(out, dpi=150)
    return histories


train, valid = load()
graph, _ = nnx.split(CNN(nnx.Rngs(0)))


def loss(params, batch, key):
    del key  # nothing is random: no dropout
    value, accuracy = loss_of(nnx.merge(graph, params), batch)
    return value, {"accuracy": accuracy}


def optimizer(schedule):
    """A sweep tells the training loss on each update: its mean over an epoch is what is judged."""
    plateau = js.reduce_on_plateau(schedule, factor=0.3, patience=2, window=BATCHES)
    return optax.chain(optax.scale_by_adam(), plateau)


task = Task(lambda key: nnx.state(CNN(nnx.Rngs(key))), loss, train, valid, BATCH, optimizer)
schedules = js.grid(js.WarmupConstant, peak_value=[3e-3, 1e-2, 2e-2], warmup_steps=[0, BATCHES])

if __name__ == "__main__":
    main()
