"""Downhill on the schedule: the peak and the end of a cosine, by the gradient through whole trainings on digits.

A rate 20 times too small is followed for 20 outer steps. Each takes the gradient of the validation loss at the end of
four trainings in the logarithms of two hyperparameters, and steps by Adam. It is judged on 16 seeds that it never saw,
beside a grid over the peak on the same seeds, which costs less and comes as far: with two hyperparameters a grid is
still cheap.

    python examples/unrolled.py            # a table and examples/unrolled.png
    jaxsched sweep examples/unrolled.py    # the grid around where it ends, ranked
"""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

from jaxsched import WarmupCosine, grid, predict

PICTURE = Path(__file__).with_suffix(".png")
PEAKS = [0.05, 0.1, 0.2, 0.4]
steps, seeds = 300, 4

spec = importlib.util.spec_from_file_location("digits", Path(__file__).with_name("digits.py"))
digits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(digits)
task = dataclasses.replace(digits.task, optimizer=lambda schedule: optax.sgd(schedule, momentum=0.9))
schedules = grid(
    WarmupCosine,
    peak_value=PEAKS,
    warmup_steps=steps // 10,
    total_steps=steps,
    end_value=[0.001, 0.003, 0.01, 0.03],
)


def draw(found, start):
    """The loss of each outer step, and the schedules before and after."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = int(np.nanargmin(found.history))
    left.plot(found.history, "o-", color="#1e88e5")
    left.plot(best, found.history[best], "o", color="#d81b60", markersize=10, label="the lowest")
    left.set(xlabel="outer step", ylabel="validation loss, seeds that it sees", yscale="log")
    left.xaxis.get_major_locator().set_params(integer=True)
    for name, schedule, color in (("before", start, "0.6"), ("after", found.schedule, "#d81b60")):
        right.plot(schedule(np.arange(steps)), color=color, linewidth=2.5, label=name)
    right.set(xlabel="step", ylabel="learning rate", yscale="log", ylim=(5e-4, 0.5))
    for ax in (left, right):
        ax.grid(alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    figure.suptitle(f"Descent through {steps} steps of training: the peak and the end of a cosine")
    return figure


def main(out=PICTURE, steps=steps, outer=20, runs=16):
    start = WarmupCosine(peak_value=0.01, warmup_steps=steps // 10, total_steps=steps, end_value=0.001)
    objective = predict.unrolled_loss(task, steps, seeds=4)
    # What is above 0 moves by factors; 0.3 is a third of a factor of e in each outer step.
    found = predict.optimize(objective, start, steps=outer, optimizer=optax.adam(0.3))
    unseen = jax.jit(predict.unrolled_loss(task, steps, seeds=range(100, 100 + runs)))
    print(f"validation loss on {runs} other seeds")
    rows = {"before": start, "after": found.schedule}
    rows |= {f"grid: peak {peak}": start.replace(peak_value=peak) for peak in PEAKS}
    table = {}
    for name, schedule in rows.items():
        table[name] = float(unseen(schedule))
        print(f"{name:16} peak {schedule.peak_value:.3f} end {schedule.end_value:.4f} {table[name]:8.4f}")
    draw(found, start).savefig(out, dpi=150)
    return found, table


if __name__ == "__main__":
    main()
