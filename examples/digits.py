"""Handwritten digits: 64 learning-rate schedules of a two-layer network, with two seeds each.

The 1,797 images of 8 x 8 pixels come with scikit-learn, so nothing is downloaded.

    python examples/digits.py            # one training, with one schedule
    jaxsched sweep examples/digits.py    # 128 trainings in one program, ranked
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxsched import WarmupCosine, grid
from jaxsched.sweep import Task, sweep

HIDDEN = 32
steps = 1_000
seeds = 2


def load() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """1,437 images to train on and 360 to validate on, always the same."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    train, valid = order[360:], order[:360]
    return (images[train], labels[train]), (images[valid], labels[valid])


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


train, valid = load()
task = Task(init, loss, train, valid, batch_size=32, optimizer=lambda schedule: optax.adam(schedule))
schedules = grid(
    WarmupCosine,
    peak_value=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 5e-2, 1e-1],
    warmup_steps=[0, 50, 100, 200],
    total_steps=steps,
    end_value=[0.0, 1e-4],
)

if __name__ == "__main__":
    schedule = WarmupCosine(peak_value=1e-2, warmup_steps=100, total_steps=steps)
    result = sweep(task, [schedule], steps=steps, seeds=1)
    print(schedule)
    print(f"validation loss {result.final['valid_loss'].item():.4f}")
    print(f"validation accuracy {result.final['valid_accuracy'].item():.1%}")
