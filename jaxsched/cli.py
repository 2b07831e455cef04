"""The command `jaxsched`."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NoReturn

import numpy as np

from .schedules.fields import nearest_name, shown
from .sweep.engine import Plan
from .sweep.result import SweepResult
from .sweep.task import Task


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command with `args`, or with those of the process."""
    try:
        import rich  # noqa: F401  # used by the commands, and told to be missing here, before anything is trained
        import tyro
    except ImportError:
        _fail('the command jaxsched needs tyro and rich: pip install "jaxsched[cli]"')
    app = tyro.extras.SubcommandApp()
    app.command(sweep)
    app.cli(prog="jaxsched", description="Learning-rate schedules for JAX.", args=args, config=_markers())


def sweep(
    file: Path,
    steps: int | None = None,
    seeds: int | None = None,
    key: int = 0,
    log_every: int = 50,
    chunk: int = 16,
    metric: str | None = None,
    mode: Literal["min", "max"] | None = None,
    out: Path | None = None,
    top: int = 10,
) -> None:
    """Train every setting of a task file with every seed in one program, and rank them.

    The file is Python with a `task` (a jaxsched.sweep.Task) and `schedules` (from jaxsched.grid, for example). It may
    also hold `steps`, `seeds`, `metric` and `mode`, which stand for the options that are not given.

    Args:
        file: The task file.
        steps: Updates of each training (2000 unless the file says otherwise).
        seeds: Trainings of each setting (4 unless the file says otherwise).
        key: The random key of the whole sweep.
        log_every: Steps between two points of the curves.
        chunk: How many trainings run side by side.
        metric: What the settings are ranked by (valid_loss unless the file says otherwise).
        mode: Whether the smallest or the largest is best (min for a loss; to be said for any other metric).
        out: The folder of result.json and result.png (runs/NAME of the file, by default).
        top: How many rows of the ranking are shown.
    """
    module = _load(file)
    task, schedules = _task_and_schedules(file, module)
    defaults = {"steps": 2_000, "seeds": 4, "metric": "valid_loss", "mode": None}
    written = {"steps": steps, "seeds": seeds, "metric": metric, "mode": mode}
    options = {name: getattr(module, name, default) for name, default in defaults.items()}
    options |= {name: value for name, value in written.items() if value is not None}
    metric, mode = options["metric"], options["mode"]
    if metric not in task.metrics:
        _fail(f"metric={metric!r}: {nearest_name(str(metric), task.metrics)}")
    if mode not in ("min", "max") and not (mode is None and metric.endswith("loss")):
        _fail(f"metric={metric!r} and mode={mode!r}: write --mode max or --mode min")
    if top < 1:
        _fail(f"top={top}: write 1 or more")
    try:
        plan = Plan.make(task, schedules, options["steps"], options["seeds"], key, log_every, chunk)
    except (TypeError, ValueError) as error:
        _fail(str(error))
    out = out if out is not None else Path("runs") / file.stem
    result = _run(plan)
    _report(result, metric, mode, top, out)


def _markers() -> Any:
    from tyro import conf

    return (conf.PositionalRequiredArgs, conf.HelptextFromCommentsOff)


def _fail(text: str) -> NoReturn:
    print(f"jaxsched: {text}", file=sys.stderr)
    raise SystemExit(2)


def _load(file: Path) -> ModuleType:
    """The task file as a module, with its folder to import from, as `python FILE` has it."""
    if not file.is_file():
        _fail(f"there is no file {file}")
    name = f"jaxsched_task_{file.stem}"  # a task file may be called random.py, and must not stand in for that module
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        _fail(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _task_and_schedules(file: Path, module: ModuleType) -> tuple[Task, Any]:
    for name, example in (("task", "task = Task(init=..., loss=..., ...)"), ("schedules", "schedules = grid(...)")):
        if not hasattr(module, name):
            _fail(f"{file} has no `{name}`: write {example} in it")
    if not isinstance(module.task, Task):
        _fail(f"{file}: task={shown(module.task)} is not a jaxsched.sweep.Task")
    return module.task, module.schedules


def _run(plan: Plan) -> SweepResult:
    """Runs the plan, with a bar on a terminal and with lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    chunks = -(-plan.pairs // plan.chunk)
    console.print(
        f"{plan.settings} settings x {len(plan.seeds)} seeds = {plan.pairs} trainings of {plan.steps:,} steps, "
        f"{plan.chunk} at a time in {chunks} chunks of one program",
        highlight=False,
        soft_wrap=True,
    )
    if not console.is_terminal:
        begin = time.perf_counter()

        def line(done: int, total: int, speed: float) -> None:
            left = (total - done) * plan.steps / speed
            print(f"{time.perf_counter() - begin:6.1f} s  {done}/{total} trainings, {left:.0f} s left", flush=True)

        result = plan.run(line)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            row = bar.add_task("compiling", total=plan.pairs)
            result = plan.run(lambda done, total, speed: bar.update(row, completed=done, description="training "))
    speed = plan.pairs * plan.steps / result.seconds
    console.print(
        f"compiled once in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s: {speed:,.0f} steps/s",
        highlight=False,
        soft_wrap=True,
    )
    return result


def _report(result: SweepResult, metric: str, mode: Literal["min", "max"] | None, top: int, out: Path) -> None:
    """The ranking, the winner and the files."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    rows = result.ranking(metric, mode)
    numbers = ("mean", "std", "seeds", "diverged", "setting")
    names = [name for name in rows[0] if name not in numbers]
    varied = [name for name in names if len({repr(row[name]) for row in rows}) > 1]
    others = [name for name in result.final if name.startswith("valid_") and name != metric]
    # A pipe or a file has no width of its own.
    console = Console(width=None if Console().is_terminal else 120)
    table = Table(
        title=f"best {min(top, len(rows))} of {len(rows)} settings by {metric}, mean ± std over the seeds",
        title_style="",
        box=SIMPLE_HEAD,
    )
    for name in ("rank", *varied, metric, *others, "diverged"):
        # With spaces a heading can be broken, which leaves the room to the numbers.
        table.add_column(name.replace("_", " "), justify="right", no_wrap=name in result.final)
    for rank, row in enumerate(rows[:top], start=1):
        cells = [_spread(result, name, row["setting"]) for name in (metric, *others)]
        lost = f"{row['diverged']} of {row['seeds']}"
        table.add_row(str(rank), *(_short(row[name]) for name in varied), *cells, lost, style="bold" * (rank == 1))
    console.print()
    console.print(table)
    try:
        print(f"\nbest: {result.best(metric, mode)!r}\n")
    except ValueError as error:
        print(f"\n{error}\n")
    print(f"wrote {result.to_json(out / 'result.json')}")
    try:
        result.plot(out / "result.png", metric, mode)
        print(f"wrote {out / 'result.png'}")
    except ImportError as error:
        print(f"no figure: {error}")


def _spread(result: SweepResult, name: str, setting: int) -> str:
    values = result.final[name][setting].astype(float)
    if (result.diverged_at[setting] >= 0).any():
        return "-"
    return f"{values.mean():.4f} ± {values.std(ddof=1) if len(values) > 1 else 0.0:.4f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
