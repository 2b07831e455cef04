"""Transfer from the digits 0 to 4 to the digits 5 to 9, of which 25 images are labelled: a rate for each layer.

The layers below the head are fine-tuned with one rate, with rates that fall towards the input (`layerwise`), or not at
all (None freezes). The head of the old digits is always frozen; how well it still reads them shows what was forgotten.
Every mean is over 16 pretrainings and draws of the 25; the table has for each way the peak that is best on validation
images, and its accuracy on test images. Here pretraining does not help with the new digits: from scratch is as good. It
is about keeping the old ones, and where little may be forgotten, layer-wise rates learn more than one rate does.

    python examples/transfer.py            # all ways, a table and examples/transfer.png
    jaxsched sweep examples/transfer.py    # rates of the new head with rates of the layers below it, ranked
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.datasets import load_digits

import jaxsched as js
from jaxsched.sweep import Task

PICTURE = Path(__file__).with_suffix(".png")
SHOTS = 5  # labelled images of each new digit
PEAKS = np.float32([3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
steps, seeds = 100, 4


def load():
    """The rows to pretrain on, those of the old digits to test on, and those to draw, validate and test new ones on."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    is_new = labels[order] >= 5
    old, new = np.split(order[~is_new], [600]), np.split(order[is_new], [150, 500])
    return (images / 16.0).astype(np.float32), labels % 5, *old, *new


images, labels, old_train, old_test, pool, valid, test = load()


def init(key):
    shapes = {"layer_0": (64, 128), "layer_1": (128, 128), "old_head": (128, 5), "new_head": (128, 5)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: {"kernel": jax.random.normal(k, shape) * np.sqrt(2 / shape[0]), "bias": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def loss(params, batch, key=None, head="new_head"):
    del key  # nothing is random: no dropout
    x, y = batch
    for name in ("layer_0", "layer_1"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    logits = x @ params[head]["kernel"] + params[head]["bias"]
    accuracy = (logits.argmax(axis=-1) == y).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": accuracy}


def batch_of(rows):
    return jnp.asarray(images)[rows], jnp.asarray(labels)[rows]


def fit(params, optimizer, batches, head):
    def step(carry, rows):
        params, state = carry
        grads, _ = jax.grad(loss, has_aux=True)(params, batch_of(rows), head=head)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), batches)[0][0]


@jax.jit
def pretrain(key):
    batches = jax.random.choice(key, old_train, (300, 64))
    return fit(init(key), optax.adam(js.WarmupCosine(3e-3, 30, 300)), batches, "old_head")


def optimizer(groups):
    """Adam, with a schedule for each group of parameters; None freezes."""
    return optax.chain(optax.scale_by_adam(), js.by_path({"old_head/**": None} | groups))


def draw_rows(key):
    """Those of `SHOTS` images of each new digit."""
    kinds = [pool[labels[pool] == digit] for digit in range(5)]
    return jnp.concatenate([jax.random.choice(key, kind, (SHOTS,), replace=False) for kind in kinds])


def accuracies(groups, params, key, steps):
    """After fine-tuning: on validation and test images of the new digits, and on test images of the old ones."""
    batches = jnp.tile(draw_rows(key), (steps, 1))  # all drawn images on each step
    params = fit(params, optimizer(groups), batches, "new_head")
    judged = ((valid, "new_head"), (test, "new_head"), (old_test, "old_head"))
    return jnp.stack([loss(params, batch_of(rows), head=head)[1]["accuracy"] for rows, head in judged])


def draw(ways):
    """What each way learnt and forgot, with a mark for each peak of the rate."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    ax = figure.subplots()
    for (name, x), colour in zip(ways.items(), ("#d81b60", "#8e24aa", "#1e88e5", "#00897b", "0.5"), strict=True):
        _, new, old = 1 - x.mean(axis=1).T
        if name == "from scratch":
            ax.axhline(new.min(), color=colour, linestyle=":", label=f"{name}, at its best")
        else:
            ax.plot(old, new, color=colour, linewidth=1.2, marker="o", markersize=5, label=name)
    ax.set(xscale="log", title="Fine-tuned on 25 images, with peaks of the rate from 0.0003 to 0.03")
    ax.set(xlabel="forgotten: error on the old digits", ylabel="not learnt: error on the new digits")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(alpha=0.25, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def layerwise(decay):
    return lambda schedule: js.layerwise(schedule, ["layer_0", "layer_1", "new_head"], decay)


def main(out=PICTURE, steps=steps, runs=16):
    keys = jax.random.split(jax.random.key(1), runs)
    pretrained, fresh = jax.lax.map(pretrain, keys), jax.lax.map(init, keys)
    ways = {
        "one rate": (layerwise(1.0), pretrained),
        "layer-wise rates, x 0.5": (layerwise(0.5), pretrained),
        "layer-wise rates, x 0.2": (layerwise(0.2), pretrained),
        "layers frozen": (lambda schedule: {"layer_*/**": None, "new_head/**": schedule}, pretrained),
        "from scratch": (layerwise(1.0), fresh),
    }
    # The schedules are arguments: what differs only in them is one program.
    over_runs = jax.vmap(lambda *args: accuracies(*args, steps), (None, 0, 0))
    every = jax.jit(jax.vmap(over_runs, (0, None, None)))
    table = {}
    print(f"{'':23} {'peak':>6} {'new digits':>15} {'old digits':>15}")
    for name, (groups, start) in ways.items():
        settings = jax.vmap(lambda peak, groups=groups: groups(js.Cosine(peak, 0.0, steps)))(PEAKS)
        x = table[name] = np.asarray(every(settings, start, keys))  # peaks, runs, accuracies
        best = x[..., 0].mean(axis=1).argmax()
        mean, std = x[best].mean(axis=0), x[best].std(axis=0)
        print(f"{name:23} {PEAKS[best]:6.4f} {mean[1]:8.1%} ± {std[1]:.1%} {mean[2]:8.1%} ± {std[2]:.1%}")
    draw(table).savefig(out, dpi=150)
    return table


drawn, seen = batch_of(draw_rows(jax.random.key(0))), (images[valid], labels[valid])
task = Task(pretrain, loss, drawn, seen, 5 * SHOTS, optimizer)
pairs = [(peak, share) for peak in (3e-3, 1e-2, 3e-2) for share in (1.0, 0.3, 0.1, 0.03)]
schedules = {
    "layer_*/**": js.stack(*(js.Cosine(peak * share, 0.0, steps) for peak, share in pairs)),
    "new_head/**": js.stack(*(js.Cosine(peak, 0.0, steps) for peak, share in pairs)),
}

if __name__ == "__main__":
    main()
