"""The whole way from a bound to a training: 100,000 schedules predicted, 64 of them trained, and how right it was.

The convex bound needs one number of the task, the distance to the minimum over the norm of the gradients. The best peak
of a linear decay tells it: 12 short trainings are the pilot. Then every schedule of the space has a predicted loss, and
64 of them are trained with 4 seeds in one program: the 64 best, and, to see what the prediction is worth, 64 at even
ranks from the first to the last. The rank correlation (Spearman's, with a bootstrap interval over the schedules) is
high over the whole range and next to nothing among the best, whose predictions are all alike. So a prediction finds the
region; which of those schedules is best, trainings must say.

    python examples/prediction.py            # the whole way, two tables and examples/prediction.png
    jaxsched sweep examples/prediction.py    # the pilot: the peaks of a linear decay
"""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from scipy import stats

import jaxsched as js
from jaxsched import predict
from jaxsched.predict import convex
from jaxsched.sweep import field, int_uniform, log_uniform, space, sweep

PICTURE = Path(__file__).with_suffix(".png")
KEPT = 64
steps, seeds = 500, 4

spec = importlib.util.spec_from_file_location("digits", Path(__file__).with_name("digits.py"))
digits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(digits)
# Plain SGD, which is what the bound is about; the peaks of Adam mean something else.
task = dataclasses.replace(digits.task, optimizer=lambda schedule: optax.sgd(schedule))

schedules = js.grid(js.Linear, init_value=np.geomspace(0.02, 2.0, 12), end_value=0.0, steps=steps)  # the pilot
candidates = space(
    js.WarmupStableDecay,
    peak_value=log_uniform(0.01, 3.0),
    warmup_steps=int_uniform(0, steps // 4),
    total_steps=steps,
    decay_steps=int_uniform(0, field("total_steps") - field("warmup_steps")),
    decay_shape="linear",
)


def measure_distance(tuned):
    """The distance over the norm of the gradients at which a schedule that was tuned is the best of its shape."""
    return float(1 / convex.best_scale(tuned, steps).scale)  # gamma* is proportional to it


def rank_correlation(predicted, seen):
    """Spearman's, and its interval of 95 % by a bootstrap over the schedules."""

    def statistic(x, y):
        return stats.spearmanr(x, y).statistic

    drawn = stats.bootstrap((predicted, seen), statistic, paired=True, vectorized=False, n_resamples=999, rng=0)
    return statistic(predicted, seen), *drawn.confidence_interval


def train(settings, steps, seeds):
    """The mean of the final validation loss of each schedule; what diverged counts as the worst of the others."""
    result = sweep(task, settings, steps=steps, seeds=seeds, key=7)
    seen = result.final["valid_loss"].mean(axis=1)
    return np.nan_to_num(seen, nan=np.nanmax(seen)), int((result.diverged_at >= 0).any(axis=1).sum())


def draw(trained):
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    ax = figure.subplots()
    for (name, (predicted, seen, (rho, low, high))), colour in zip(
        trained.items(), ("#d81b60", "#1e88e5"), strict=True
    ):
        label = f"{name}: rank correlation {rho:.2f} ({low:.2f} to {high:.2f})"
        ax.scatter(predicted, seen, s=18, color=colour, alpha=0.7, linewidths=0, label=label)
    ax.set(xscale="log", yscale="log", title="What was predicted of 100,000 schedules, and what 128 of them came to")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="predicted: the convex bound", ylabel="seen: validation loss, mean of 4 seeds")
    ax.grid(alpha=0.25, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def main(out=PICTURE, steps=steps, n=100_000, kept=KEPT, seeds=seeds):
    pilot = sweep(task, schedules, steps=steps, seeds=seeds, key=1)
    distance = measure_distance(pilot.best())
    print(f"pilot: {pilot.best()!r}, so distance / norm = {distance:.1f}")

    predicted = predict.sweep(
        candidates, lambda schedule: convex.bound(schedule, distance=distance, total_steps=steps), n=n
    )
    print(f"predicted: {n:,} schedules of {steps} steps in {predicted.seconds:.1f} s; the first is")
    print(f"  {predicted.best()!r}\n")
    order, values = predicted.order(), predicted.values()[:, 0]

    trained = {}
    print(f"{'':14} {'rank correlation':>24} {'valid loss: mean':>18} {'best':>7} {'worst':>7} {'diverged':>9}")
    for name, ranks in (
        (f"the {kept} best", np.arange(kept)),
        (f"{kept} at even ranks", np.linspace(0, n - 1, kept).astype(int)),
    ):
        chosen = order[ranks]
        seen, diverged = train(predicted.select(chosen).schedules, steps, seeds)
        rho, low, high = rank_correlation(values[chosen], seen)
        trained[name] = values[chosen], seen, (rho, low, high)
        print(
            f"{name:18} {rho:5.2f} ({low:5.2f} to {high:5.2f}) {seen.mean():15.4f} {seen.min():10.4f} "
            f"{seen.max():7.4f} {diverged:6}"
        )
    draw(trained).savefig(out, dpi=150)
    return trained


if __name__ == "__main__":
    main()
