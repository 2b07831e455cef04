"""The zig-zag of plain SGD, what momentum does about it, and what decay does: three paths on one real loss.

The progression of diabetes from body mass index and blood pressure, in the units of the clinic: their loss is a long,
narrow valley. A small step takes long to come down it, so all three take large ones, from batches of 64 patients.
Plain SGD jumps from wall to wall; momentum damps that, and the noise of the batches keeps both from the minimum;
with a rate that decays, the third settles.

    python examples/zigzag.py            # the three, over 200 seeds, and examples/zigzag.png
    jaxsched sweep examples/zigzag.py    # pairs of a rate and a momentum, ranked
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

import jaxsched as js
from jaxsched.sweep import Task

PICTURE = Path(__file__).with_suffix(".png")
BATCH = 64
START = np.array([-1.5, 0.9], np.float32)
RATE, MOMENTUM = 1.85, 0.4  # the rate as a multiple of 1 / sharpness: from 2 on, plain gradient descent diverges
steps, seeds = 50, 4
metric, mode = "valid_distance", "min"


def load():
    """BMI and mean blood pressure of 442 patients, and the disease a year later; each about its mean."""
    data = load_diabetes(scaled=False)
    x = data.data[:, [data.feature_names.index(name) for name in ("bmi", "bp")]]
    return tuple((a - a.mean(axis=0)).astype(np.float32) for a in (x, data.target / 10))


x, y = load()
HESSIAN = x.T @ x / len(x)
MINIMUM = np.linalg.solve(HESSIAN, x.T @ y / len(x))
SHARPNESS = float(np.linalg.eigvalsh(HESSIAN)[-1])


def loss(weights, batch, key=None):
    del key  # nothing is random but the batch
    features, target = batch
    return jnp.mean((features @ weights - target) ** 2) / 2, {"distance": jnp.linalg.norm(weights - MINIMUM)}


def optimizer(setting):
    return js.inject_hyperparams(optax.sgd)(**setting)


def path(transformation, key, steps):
    """The weights before every step and after the last."""

    def step(carry, key):
        weights, state = carry
        rows = jax.random.choice(key, len(x), (BATCH,), replace=False)
        grads, _ = jax.grad(loss, has_aux=True)(weights, (jnp.asarray(x)[rows], jnp.asarray(y)[rows]))
        updates, state = transformation.update(grads, state, weights)
        return (optax.apply_updates(weights, updates), state), weights

    start = jnp.asarray(START)
    (last, _), weights = jax.lax.scan(step, (start, transformation.init(start)), jax.random.split(key, steps))
    return jnp.concatenate([weights, last[None]])


def settings(steps):
    rate = RATE / SHARPNESS
    return {
        "plain SGD": {"learning_rate": js.Constant(rate), "momentum": js.Constant(0.0)},
        "momentum": {"learning_rate": js.Constant(rate), "momentum": js.Constant(MOMENTUM)},
        "momentum and decay": {"learning_rate": js.Cosine(rate, 0.0, steps), "momentum": js.Constant(MOMENTUM)},
    }


def draw(paths):
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    axes = figure.subplots(1, len(paths), sharex=True, sharey=True)
    every = np.concatenate(list(paths.values()))
    low, high = every.min(axis=0) - 0.15, every.max(axis=0) + 0.15
    a, b = np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200))
    away = np.stack([a, b], axis=-1) - MINIMUM
    height = np.einsum("...i,ij,...j->...", away, HESSIAN, away) / 2
    for ax, (name, weights) in zip(axes, paths.items(), strict=True):
        ax.contour(a, b, height, levels=np.geomspace(0.05, height.max(), 14), colors="0.8", linewidths=0.8)
        ax.plot(*weights.T, color="#d81b60", linewidth=1.0, marker="o", markersize=2.5, label="path")
        ax.plot(*MINIMUM, marker="*", color="black", markersize=11, linestyle="none", label="minimum")
        ax.set(title=name, xlabel="weight of the body mass index")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("weight of the blood pressure")
    axes[0].legend(loc="upper right", edgecolor="none", framealpha=0.9)
    return figure


def main(out=PICTURE, steps=steps, runs=200):
    keys = jax.random.split(jax.random.key(0), runs)
    run = jax.jit(jax.vmap(lambda setting, key: path(optimizer(setting), key, steps), (None, 0)))
    early, paths, distances = steps // 4, {}, {}
    print(f"distance to the minimum {f'after {early} steps':>16} {f'after {steps} steps':>18}")
    for name, setting in settings(steps).items():
        weights = np.asarray(run(setting, keys))
        paths[name], away = weights[0], np.linalg.norm(weights - MINIMUM, axis=-1)
        distances[name] = away[:, [early, -1]]
        cells = [f"{d.mean():10.3f} ± {d.std():.3f}" for d in distances[name].T]
        print(f"{name:22} {' '.join(cells)}")
    draw(paths).savefig(out, dpi=150)
    return distances


task = Task(lambda key: jnp.asarray(START), loss, (x, y), (x, y), BATCH, optimizer)
schedules = {
    "learning_rate": js.grid(
        js.Cosine, init_value=[r / SHARPNESS for r in (0.3, 0.6, 1.2)], end_value=0.0, steps=steps
    ),
    "momentum": js.grid(js.Constant, constant_value=[0.0, 0.6, 0.9]),
}

if __name__ == "__main__":
    main()
