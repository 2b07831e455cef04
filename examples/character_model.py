"""A recurrent character model of Python's own library, and what one bad batch does to it: with a guard and without.

A GRU learns to go on with the sources of the standard library, under Adam with warmup, a stable phase and a decay.
On one step the loss comes multiplied by 10,000, as by a loss scale that nobody took back. Adam runs after that gradient
for some steps and is slow for the next thousand; `guard_spikes` skips it, halves the rate and warms it up again.

    python examples/character_model.py            # three trainings, a sample of text, examples/character_model.png
    jaxsched sweep examples/character_model.py    # peaks of the rate and lengths of the decay, ranked
"""

import functools
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxsched as js
from jaxsched.sweep import Task

PICTURE = Path(__file__).with_suffix(".png")
BATCH, LENGTH, HIDDEN = 32, 64, 128
BAD_FACTOR = 1e4  # what the loss is multiplied by on the step in the middle
ALPHABET = ["\n", *map(chr, range(32, 127))]
steps, seeds = 200, 1


def load(names):
    """The sources of these modules, in windows of one character more than a step reads."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in names)
    place = {character: i for i, character in enumerate(ALPHABET)}
    codes = np.array([place[c] for c in text if c in place], np.int32)
    return codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)


train = load(["argparse", "ast", "difflib", "doctest", "inspect", "subprocess", "tarfile", "typing"])
valid = load(["dataclasses"])[:256]


def init(key):
    shapes = {"embed": (len(ALPHABET), HIDDEN), "input": (HIDDEN, 3 * HIDDEN), "state": (HIDDEN, 3 * HIDDEN)}
    shapes["output"] = (HIDDEN, len(ALPHABET))
    keys = jax.random.split(key, len(shapes))
    return {n: jax.random.normal(k, s) / np.sqrt(HIDDEN) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def cell(params, state, x):
    """A gated recurrent unit; `x` is its input after the input's weights."""
    update, reset, new = jnp.split(x, 3, axis=-1)
    from_update, from_reset, from_new = jnp.split(state @ params["state"], 3, axis=-1)
    keep = jax.nn.sigmoid(update + from_update)
    candidate = jnp.tanh(new + jax.nn.sigmoid(reset + from_reset) * from_new)
    state = keep * state + (1 - keep) * candidate
    return state, state


def loss(params, batch, key=None):
    del key  # nothing is random: no dropout
    inputs = (params["embed"] @ params["input"])[batch[:, :-1].T]  # time first
    start = jnp.zeros((len(batch), HIDDEN))
    _, states = jax.lax.scan(lambda state, x: cell(params, state, x), start, inputs)
    logits = states @ params["output"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:].T).mean(), {}


def adam(schedule):
    return js.inject_hyperparams(optax.adam)(learning_rate=schedule)


def guarded(schedule):
    return js.guard_spikes(adam(schedule), burn_in=32, rewarm=50)


@functools.partial(jax.jit, static_argnums=0)
def fit(optimizer, params, batches, factors):
    """The parameters, the state, and for each step the training loss and the rate in force."""

    def step(carry, now):
        params, state = carry
        batch, factor = now
        value, grads = jax.value_and_grad(lambda p: factor * loss(p, batch)[0])(params)
        scale = js.current_hyperparams(state).get("guard_scale", 1.0)
        updates, state = optimizer.update(grads, state, params, value=value)
        rate = scale * js.current_hyperparams(state)["learning_rate"]
        return (optax.apply_updates(params, updates), state), (value / factor, rate)

    (params, state), curves = jax.lax.scan(step, (params, optimizer.init(params)), (batches, factors))
    return params, state, jnp.stack(curves)


def write(params, key, length=200):
    """What the model writes, at a temperature of 0.7."""

    def step(carry, key):
        state, code = carry
        state, _ = cell(params, state, params["embed"][code] @ params["input"])
        code = jax.random.categorical(key, state @ params["output"] / 0.7)
        return (state, code), code

    start = jnp.zeros(HIDDEN), jnp.asarray(ALPHABET.index("\n"))
    _, codes = jax.lax.scan(step, start, jax.random.split(key, length))
    return "".join(ALPHABET[code] for code in np.asarray(codes))


def draw(curves):
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for (name, (losses, rates)), color, width in zip(
        curves.items(), ("0.6", "#1e88e5", "#d81b60"), (3, 1.5, 1.5), strict=True
    ):
        style = {"color": color, "linewidth": width}
        mean = np.convolve(losses, np.ones(5) / 5, mode="valid")  # of five batches
        above.plot(np.arange(len(mean)) + 2, mean, label=name, **style)
        below.plot(rates, **style)
    for ax in (above, below):
        ax.axvline(len(losses) // 2, color="0.3", linewidth=0.8, linestyle=":")
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    above.set(title="A character model under Adam: one loss x 10,000, at the dotted line", ylabel="training loss")
    below.set(xlabel="step", ylabel="learning rate")
    above.legend(frameon=False)
    return figure


def main(out=PICTURE, steps=600):
    schedule = js.WarmupStableDecay(5e-3, warmup_steps=steps // 10, total_steps=steps, decay_steps=steps // 4)
    batches = train[np.random.default_rng(0).integers(len(train), size=(steps, BATCH))]
    healthy = np.ones(steps, np.float32)
    bad = np.where(np.arange(steps) == steps // 2, np.float32(BAD_FACTOR), healthy)
    plain, guard = adam(schedule), guarded(schedule)
    ways = {"no bad batch": (plain, healthy), "bad batch": (plain, bad), "bad batch, guarded": (guard, bad)}
    evaluate, curves = jax.jit(loss), {}
    print(f"{'':20} {'training loss':>14} {'validation loss':>16}")
    for name, (optimizer, factors) in ways.items():
        params, state, curves[name] = fit(optimizer, init(jax.random.key(0)), batches, factors)
        print(f"{name:20} {curves[name][0, -20:].mean():14.3f} {evaluate(params, valid)[0]:16.3f}")
    print(f"updates skipped: {state.skipped_count}\n\n{write(params, jax.random.key(1))}")
    draw(curves).savefig(out, dpi=150)
    return curves, state


task = Task(init, loss, train, valid, BATCH, guarded)
schedules = js.grid(
    js.WarmupStableDecay, peak_value=[2e-3, 5e-3, 1e-2], warmup_steps=20, total_steps=steps, decay_steps=[50, 150]
)

if __name__ == "__main__":
    main()
