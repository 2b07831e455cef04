"""Schedules refined from gradient norms, on real trainings: against linear decay and cosine, each at its own best peak.

`python -m bench.refine` measures and publishes; `--picture` draws docs/pictures/refine.png too."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.predict.refinement import GradNorms, record_grad_norms, recorded_grad_norms, refine
from jaxsched.sweep import SweepResult, Task, sweep

from .sweeps.work import example
from .timing import Row, Table

PICTURE = pathlib.Path(__file__).parent.parent / "docs" / "pictures" / "refine.png"
FRESH = tuple(range(200, 216))  # the seeds of the comparison
TUNING = tuple(range(100, 116))  # those of the choices
LARGE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
SMALL = (5e-3, 1e-2, 2e-2, 3e-2, 5e-2, 8e-2)
BASES = {"linear": js.WarmupLinear, "cosine": js.WarmupCosine}


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained, by what kind of optimizer, for how long, and what peaks and seeds every schedule is tuned by."""

    name: str
    task: Task
    kind: str
    steps: int
    peaks: tuple[float, ...]
    seeds: tuple[int, ...] = TUNING

    @property
    def warmup(self) -> int:
        return self.steps // 20


def trainings() -> list[Training]:
    digits, text = example("digits"), example("character_model")

    def momentum(rate: Any) -> Any:
        return optax.sgd(rate, momentum=0.9)

    short = text.train[:, :33], text.valid[:, :33]  # half the windows, at half the cost
    letters = dataclasses.replace(text.task, train=short[0], valid=short[1], batch_size=16, optimizer=optax.adam)
    numbers = digits.task
    return [
        Training("digits, SGD with momentum", dataclasses.replace(numbers, optimizer=momentum), "sgd", 1_000, LARGE),
        Training("digits, Adam", dataclasses.replace(numbers, optimizer=optax.adam), "adam", 1_000, SMALL),
        Training("characters, Adam", letters, "adam", 300, SMALL, TUNING[:4]),
    ]


def record(training: Training, schedule: Any) -> GradNorms:
    """The norms of trainings with this schedule, one for each of the tuning seeds."""
    task = training.task
    norm = "l2" if training.kind == "sgd" else "l1"
    optimizer = optax.chain(record_grad_norms(norm=norm), task.optimizer(schedule))
    data = jax.tree.map(jnp.asarray, task.train)

    @jax.jit
    @jax.vmap
    def train(key: jax.Array) -> Any:
        init_key, batch_key = jax.random.split(key)
        params = task.init(init_key)

        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            rows = jax.random.randint(key, (task.batch_size or 1,), 0, task.examples)
            gradients = jax.grad(lambda p: task.loss(p, jax.tree.map(lambda x: x[rows], data), key)[0])(params)
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(batch_key, training.steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][1]

    return recorded_grad_norms(train(jax.vmap(jax.random.key)(jnp.asarray(training.seeds))))


class Tables:
    """Schedules as tables of all their steps: so those of any class are of one structure, and train in one program."""

    def __init__(self, training: Training) -> None:
        self.training, self.steps = training, np.arange(training.steps + 1)
        self.said: list[str] = []  # the losses of the tuning

    def __call__(self, schedules: list[Any], seeds: tuple[int, ...]) -> SweepResult:
        tables = [js.PiecewiseInterpolate(self.steps, np.asarray(s(self.steps))) for s in schedules]
        steps = self.training.steps
        return sweep(self.training.task, js.stack(*tables), steps=steps, seeds=seeds, log_every=steps)

    def tuned(self, families: dict[str, Callable[[float], Any]]) -> dict[str, Any]:
        """Of each family the schedule with the best peak, for the tuning seeds."""
        peaks = self.training.peaks
        losses = self([family(peak) for family in families.values() for peak in peaks], self.training.seeds).values()
        means = np.nan_to_num(losses.mean(axis=1).reshape(-1, len(peaks)), nan=np.inf)
        best = [peaks[i] for i in means.argmin(axis=1)]
        self.said += [f"{name} {', '.join(f'{x:.4f}' for x in row)}" for name, row in zip(families, means, strict=True)]
        return {name: (peak, family(peak)) for (name, family), peak in zip(families.items(), best, strict=True)}


def compared(training: Training) -> tuple[list[Row], list[str], Any]:
    """The rows of one training, what there is to say of it, and what a picture of it shows."""
    tables = Tables(training)
    total, warmup = training.steps, training.warmup
    chosen = tables.tuned({name: lambda p, c=c: c(p, warmup, total) for name, c in BASES.items()})
    norms = record(training, chosen["linear"][1])
    options: dict[str, Any] = {"optimizer": training.kind, "total_steps": total}
    chosen |= tables.tuned(
        {
            "refined": lambda p: refine(norms, peak_value=p, **options),
            "refined, warmed up": lambda p: refine(norms, peak_value=p, warmup_steps=warmup, **options),
        }
    )
    result = tables([schedule for _, schedule in chosen.values()], FRESH)
    ranks = np.argsort(result.order())
    means = result.values().mean(axis=1)
    said = {name: f"{means[i]:.4f} (peak {chosen[name][0]:g})" for i, name in enumerate(chosen)}
    names, rows = list(chosen), []
    for ours, peer in [(ours, peer) for ours in names[2:] for peer in BASES] + [("cosine", "linear")]:
        a, b = names.index(ours), names.index(peer)
        if (result.diverged_at[[a, b]] >= 0).any():
            rows.append(
                Row(f"{training.name}: {ours} against {peer}", said[ours], said[peer], "diverged", "< 0", False)
            )
            continue
        told = result.compare(int(ranks[a]), int(ranks[b]))
        interval = f"{-told.gain:+.4f} ({-told.high:+.4f} to {-told.low:+.4f})"
        bar = {} if ours == "cosine" else {"bar": "< 0", "met": told.low > 0}
        rows.append(Row(f"{training.name}: {ours} against {peer}", said[ours], said[peer], interval, **bar))
    mean, curve = norms.norms.mean(axis=0), refine(norms, **options)
    at = curve.knots[np.argmax(curve.values)] / total
    tenth = total // 10
    note = (
        f"{training.name}: the norms are {mean[:tenth].mean():.3g} over the first tenth of the steps and "
        f"{mean[-tenth:].mean():.3g} over the last; the refined schedule has its peak at {at:.0%} of the steps. "
        f"While tuning, by peak: {'; '.join(tables.said)}."
    )
    return rows, [note], (training, norms, {name: schedule for name, (_, schedule) in chosen.items()})


def measure() -> Table:
    return _measured()[0]


def _measured() -> tuple[Table, list[Any]]:
    rows, notes, shown = [], [], []
    for training in trainings():
        more, said, one = compared(training)
        rows, notes, shown = rows + more, notes + said, [*shown, one]
    columns = ("validation loss", "ours", "peer", "ours - peer, with a 95 % interval", "bar", "met?")
    return Table("refine", "Schedules refined from gradient norms", [*NOTES, *notes], rows, columns), shown


NOTES = [
    f"The mean final validation loss of {len(FRESH)} seeds that no choice has seen, the trainings of all schedules in "
    "one program. The interval is that of a bootstrap over the differences, seed by seed (`SweepResult.compare`): "
    "below 0 ours is better, above 0 it is worse, and around 0 the seeds do not tell.",
    "Linear decay and cosine go to 0 after a warmup of 5 % of the steps. The refined schedule is made from the norms "
    "of the linear one at its best peak (l2 for SGD, l1 for Adam), with all defaults; `warmed up` it has "
    "those 5 % of warmup too.",
    f"Every schedule has the best of the same {len(SMALL)} peaks for its own, by the mean of other seeds "
    f"({len(TUNING)} for digits, 4 for characters), and the norms are the mean of trainings with as many: "
    f"{', '.join(f'{p:g}' for p in LARGE)} for SGD, {', '.join(f'{p:g}' for p in SMALL)} for Adam.",
    "The networks and the data of examples/digits.py (1,000 steps) and examples/character_model.py (300 steps of 16 "
    "windows of 32 characters). They are small and short: this does not show what refinement does for a long training.",
    "Earlier runs, of 2026-11-21, on the seeds 0 to 15, differ in sign and show how little 16 seeds tell. With 8 "
    "seeds for the choices and peaks of SGD up to 0.3, refined less linear: SGD +0.0093 (-0.0043 to +0.0219), at 0.3, "
    "the edge of the grid; Adam on digits -0.0048 (-0.0111 to +0.0014); characters +0.0079 (-0.0182 to +0.0340). With "
    "4 seeds and peaks of Adam up to 0.03, the edge for linear: SGD -0.0008 (-0.0042 to +0.0022); Adam on digits "
    "-0.0048 (-0.0103 to +0.0007), warmed up -0.0065 (-0.0124 to -0.0007). Then the grids were widened, the seeds of "
    "the choices became 16 and the comparison moved to other seeds; the table is the first run of that.",
]


def draw(shown: list[Any], out: pathlib.Path = PICTURE) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(2, len(shown), sharex="col", squeeze=False)
    colors = {"linear": "0.55", "cosine": "#1e88e5", "refined": "#d81b60", "refined, warmed up": "#ffa000"}
    for column, (training, (at, norms), schedules) in enumerate(shown):
        above, below = axes[:, column]
        above.semilogy(at, norms.T, color="0.8", linewidth=0.5)
        above.semilogy(at, norms.mean(axis=0), color="0.2", linewidth=0.8)
        above.set(title=training.name)
        steps = np.arange(training.steps + 1)
        for name, schedule in schedules.items():
            below.plot(steps, schedule(steps), color=colors[name], label=name, linewidth=1.5)
        below.set(xlabel="step")
        for ax in (above, below):
            ax.grid(alpha=0.25, linewidth=0.5)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set(ylabel="gradient norm (each seed, mean)")
    axes[1, 0].set(ylabel="learning rate")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.refine", description=__doc__)
    parser.add_argument("--picture", action="store_true", help=f"draw {PICTURE.name} too")
    wanted = parser.parse_args().picture
    table, shown = _measured()
    table.publish()
    if wanted:
        draw(shown)


if __name__ == "__main__":
    main()
