"""One cycle of the learning rate and of the momentum, in a Flax Linen `TrainState`, against constant rates.

`optax.inject_hyperparams` takes schedules for the rate and for the momentum, and every step reads back from the state
what was in force. A short budget, 8 epochs of digits; four peaks and
the same four constant rates, each with 8 seeds, in one program for each kind.

    python examples/one_cycle.py            # a table and examples/one_cycle.png
    jaxsched sweep examples/one_cycle.py    # peaks of the rate with depths of the momentum, ranked
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxsched as js
from jaxsched.sweep import Task

PICTURE = Path(__file__).with_suffix(".png")
BATCH, EPOCHS = 64, 8
RATES = [0.03, 0.1, 0.2, 0.3]


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(64)(x))
        x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(10)(x)


def load():
    """1,437 images to train on and 360 to validate on, always the same."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    return tuple((images[rows], labels[rows]) for rows in (order[360:], order[:360]))


train, valid = load()
batches = len(train[1]) // BATCH
steps, seeds = EPOCHS * batches, 4


def init(key):
    return MLP().init(key, train[0][:1])


def loss(params, batch, key=None):
    del key  # nothing is random: no dropout
    images, labels = batch
    logits = MLP().apply(params, images)
    accuracy = (logits.argmax(axis=-1) == labels).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), {"accuracy": accuracy}


def optimizer(setting):
    return optax.inject_hyperparams(optax.sgd)(**setting)


def fit(setting, params, key, steps):
    """One training; the hyperparameters that were in force, the losses and the accuracy at each step."""
    state = TrainState.create(apply_fn=MLP().apply, params=params, tx=optimizer(setting))

    def step(state, rows):
        batch = jax.tree.map(lambda x: jnp.asarray(x)[rows], train)
        grads, _ = jax.grad(loss, has_aux=True)(state.params, batch)
        state = state.apply_gradients(grads=grads)
        valid_loss, metrics = loss(state.params, valid)
        return state, {"valid_loss": valid_loss, **metrics, **js.current_hyperparams(state.opt_state)}

    keys = jax.random.split(key, -(-steps // batches))
    order = jax.vmap(lambda key: jax.random.permutation(key, len(train[1]))[: batches * BATCH])(keys)
    return jax.lax.scan(step, state, order.reshape(-1, BATCH)[:steps])[1]


def settings(steps):
    """For each kind of schedule, those of all rates."""
    cycle = {
        "learning_rate": js.grid(js.OneCycle, peak_value=RATES, total_steps=steps),
        "momentum": js.grid(
            js.OneCycleMomentum, base_momentum=[0.85] * len(RATES), max_momentum=0.95, total_steps=steps
        ),
    }
    constant = {
        "learning_rate": js.grid(js.Constant, constant_value=RATES),
        "momentum": js.grid(js.Constant, constant_value=[0.9] * len(RATES)),
    }
    return {"one cycle": cycle, "constant rate": constant}


def draw(histories):
    """For the best rate of each kind: what was in force, and what came of it, as the mean over the seeds."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    shown = {
        "learning_rate": "learning rate",
        "valid_loss": "validation loss",
        "momentum": "momentum",
        "accuracy": "validation accuracy",
    }
    for (name, history), color in zip(histories.items(), ("#d81b60", "0.5"), strict=True):
        best = history["valid_loss"][:, :, -1].mean(axis=1).argmin()
        for ax, (metric, label) in zip(axes.flat, shown.items(), strict=True):
            ax.plot(history[metric][best].mean(axis=0), color=color, linewidth=2, label=f"{name}, {RATES[best]}")
            ax.set_ylabel(label)
    axes[0, 1].set_yscale("log")
    axes[1, 1].set_ylim(bottom=0.8)
    axes[0, 0].legend(frameon=False)
    figure.suptitle("SGD on digits, 8 epochs: the best peak of one cycle and the best constant rate")
    for ax in axes.flat:
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[1]:
        ax.set_xlabel("step")
    return figure


def main(out=PICTURE, steps=steps, runs=8):
    keys = jax.random.split(jax.random.key(0), runs)
    params = jax.lax.map(init, keys)
    over_runs = jax.vmap(lambda *args: fit(*args, steps), (None, 0, 0))
    every = jax.jit(jax.vmap(over_runs, (0, None, None)))
    histories = {}
    print(f"{'':14} {'rate':>5} {'validation loss':>18} {'accuracy':>17}")
    for name, setting in settings(steps).items():
        histories[name] = jax.tree.map(np.asarray, every(setting, params, keys))
        last = (histories[name][metric][..., -1] for metric in ("valid_loss", "accuracy"))
        for rate, loss, accuracy in zip(RATES, *last, strict=True):
            cells = f"{loss.mean():9.4f} ± {loss.std():.4f} {accuracy.mean():9.2%} ± {accuracy.std():.2%}"
            print(f"{name:14} {rate:5} {cells}")
    draw(histories).savefig(out, dpi=150)
    return histories


task = Task(init, loss, train, valid, BATCH, optimizer)
schedules = settings(steps)["one cycle"]

if __name__ == "__main__":
    main()
