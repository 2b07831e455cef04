"""The command `jaxsched`."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shlex
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from .schedules.fields import nearest_name, shown
from .sweep.checkpoint import Checkpoint
from .sweep.distributed import ProcessDied, Processes, alone, initialize
from .sweep.engine import Plan
from .sweep.prune import successive_halving
from .sweep.result import SweepResult
from .sweep.run import Interrupted, Status
from .sweep.task import Task

if TYPE_CHECKING:
    from rich.console import Console

_EVERY_SECONDS = 5.0
"""A line of progress comes no more often where there is no terminal to show a live one."""

_OURS = ("sweep: ", "Task: ", "Checkpoint: ", "successive_halving: ", "initialize: ", "checkpoints need ")
"""An error that begins so was written for the user, and its text says all; others keep their traceback."""


class _Stopped(Exception):
    """The user stopped the sweep; `saved`: the same command goes on; `at_once`: nothing is waited for."""

    def __init__(self, text: str, saved: bool, at_once: bool = False) -> None:
        super().__init__(text)
        self.saved, self.at_once = saved, at_once


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command with `args`, or with those of the process."""
    try:
        import rich  # noqa: F401  # used by the commands, and told to be missing here, before anything is trained
        import tyro
    except ImportError:
        _fail('the command jaxsched needs tyro and rich: pip install "jaxsched[cli]"')
    app = tyro.extras.SubcommandApp()
    app.command(sweep)
    typed = sys.argv[1:] if args is None else args
    try:
        app.cli(prog="jaxsched", description="Learning-rate schedules for JAX.", args=args, config=_markers())
    except _Stopped as stop:
        word = "to go on" if stop.saved else "to start again"
        print(f"\n{stop}\n{word}: {shlex.join(['jaxsched', *typed])}", flush=True)
        if stop.at_once:  # a thread that is deep in a computation would be waited for
            os._exit(130)
        raise SystemExit(130) from None


def sweep(
    file: Path,
    steps: int | None = None,
    seeds: int | None = None,
    key: int = 0,
    log_every: int | None = None,
    chunk: int | Literal["auto"] | None = None,
    metric: str | None = None,
    mode: Literal["min", "max"] | None = None,
    prune: bool = False,
    no_prune: bool = False,
    rungs: tuple[int, ...] | None = None,
    keep: float | None = None,
    no_checkpoint: bool = False,
    checkpoint: Path | None = None,
    every: float = 30.0,
    out: Path | None = None,
    top: int = 10,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: float = 60.0,
) -> None:
    """Train every setting of a task file with every seed in one program, and rank them.

    The file is Python with a `task` (a jaxsched.sweep.Task) and `schedules` (from jaxsched.grid, for example). It may
    also hold `steps`, `seeds`, `log_every`, `chunk`, `metric`, `mode` and `prune` (True, or a pruner such as
    successive_halving(keep=0.5)), which stand for the options that are not given.

    Ctrl-C stops and saves; the same command goes on from there, and after a crash too. A second Ctrl-C stops at once.

    Args:
        file: The task file.
        steps: Updates of each training (2000 unless the file says otherwise).
        seeds: Trainings of each setting (4 unless the file says otherwise).
        key: The random key of the whole sweep.
        log_every: Steps between two points of the curves (50, or all if they are fewer).
        chunk: How many trainings run side by side: a number, or auto to try some and keep the fastest.
        metric: What the settings are ranked by (valid_loss unless the file says otherwise).
        mode: Whether the smallest or the largest is best (min for a loss; to be said for any other metric).
        prune: Drop the worse settings on the way, by successive halving.
        no_prune: Drop none, even if the file says so.
        rungs: With --prune: the steps after which settings are dropped (keep^2 and keep of all the steps).
        keep: With --prune: the part that goes on at each rung (1/3).
        no_checkpoint: Save nothing on the way.
        checkpoint: The folder of the checkpoints (checkpoint in the folder of --out); removed when all is done.
        every: Seconds between two checkpoints.
        out: The folder of the results (runs/NAME of the file, by default).
        top: How many rows of the ranking are shown.
        distributed: This is one of several processes that share the sweep; start the same command in each.
        coordinator: With --distributed, HOST:PORT of process 0; not needed on SLURM, Open MPI, Kubernetes, TPU pods.
        processes: With --distributed, how many there are; not needed there either.
        process: With --distributed, which one this is, from 0; not needed there either.
        timeout: With --distributed, seconds for all to meet, and to end after one of them has died.
    """
    written = {"steps": steps, "seeds": seeds, "log_every": log_every, "chunk": chunk, "metric": metric, "mode": mode}
    _check(top, prune, no_prune, rungs, keep, checkpoint, no_checkpoint)
    together = _processes(distributed, coordinator, processes, process, timeout)
    words = ""
    try:
        module = _load(file)
        task, schedules = _task_and_schedules(file, module)
        options = _options(task, module, written)
        wanted = prune or rungs is not None or keep is not None
        pruner = None if no_prune else _pruner(module, wanted, rungs, keep, options)
        out = out if out is not None else Path("runs") / file.stem
        saves = None if no_checkpoint else _checkpoint(checkpoint or out / "checkpoint", every)
        names = ("steps", "seeds", "log_every", "chunk")
        rest = {"key": key, "prune": pruner, "checkpoint": saves} | {name: options[name] for name in names}
        result = _trained(task, schedules, rest, together)
        if together.index == 0:
            _report(result, options["metric"], options["mode"], top, out)
        # Only now, when all that they held is in the results.
        together.barrier("the results are written")
        if saves is not None:
            _clear(Path(saves.directory))
    except ProcessDied as error:
        if not together.stopping:
            _end_with(f"jaxsched: {error}")
        raise _Stopped("stopped, as another process was; the last checkpoint stands", saved=not no_checkpoint) from None
    except BaseException as error:
        words = f"{type(error).__name__}: {error}"
        raise
    finally:
        together.close(words)


def _markers() -> Any:
    from tyro import conf

    return (conf.PositionalRequiredArgs, conf.HelptextFromCommentsOff, conf.FlagCreatePairsOff)


def _check(top: int, prune: bool, no_prune: bool, rungs: Any, keep: Any, checkpoint: Any, no_checkpoint: bool) -> None:
    """Refuses options that do not go together."""
    if top < 1:
        _fail(f"top={top}: write 1 or more")
    if no_prune and (prune or rungs is not None or keep is not None):
        _fail("--no-prune and --prune, --rungs or --keep: write one or the other")
    if no_checkpoint and checkpoint is not None:
        _fail("--no-checkpoint and --checkpoint: write one or the other")


def _processes(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None, timeout: float
) -> Processes:
    """All processes of this run: before the file is loaded, which may compute something."""
    if not distributed:
        flags = {"--coordinator": coordinator, "--processes": processes, "--process": process}
        if given := [flag for flag, value in flags.items() if value is not None]:
            _fail(f"{' and '.join(given)} without --distributed: write --distributed too")
        return alone()
    try:
        return initialize(coordinator, processes, process, timeout)
    except (TypeError, ValueError, OSError) as error:
        _fail(str(error))


def _options(task: Task, module: ModuleType, written: dict[str, Any]) -> dict[str, Any]:
    """The options: what was written, what the file says, and what holds otherwise, in this order."""
    defaults = {"steps": 2_000, "seeds": 4, "log_every": None, "chunk": "auto", "metric": "valid_loss", "mode": None}
    options = {name: getattr(module, name, default) for name, default in defaults.items()}
    options |= {name: value for name, value in written.items() if value is not None}
    metric, mode = options["metric"], options["mode"]
    if metric not in task.metrics:
        _fail(f"metric={metric!r}: {nearest_name(str(metric), task.metrics)}")
    if mode not in ("min", "max") and not (mode is None and metric.endswith("loss")):
        _fail(f"metric={metric!r} and mode={mode!r}: write --mode max or --mode min")
    return options


def _pruner(module: ModuleType, wanted: bool, rungs: Any, keep: float | None, options: dict[str, Any]) -> Any:
    """What prunes, judging by the metric that ranks; the file may hold a pruner of its own."""
    said = getattr(module, "prune", None)
    if not wanted and not isinstance(said, bool):
        return said
    if not (wanted or said):
        return None
    fields = {"rungs": rungs, "keep": keep, "metric": options["metric"], "mode": options["mode"]}
    try:
        return successive_halving(**{name: value for name, value in fields.items() if value is not None})
    except (TypeError, ValueError) as error:
        _fail(str(error))


def _checkpoint(directory: Path, every: float) -> Checkpoint:
    try:
        return Checkpoint(directory, seconds=every)
    except (TypeError, ValueError) as error:
        _fail(str(error).replace("seconds=", "every=", 1))


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


def _clear(directory: Path) -> None:
    """Removes the checkpoints, and the folder unless there is anything else in it. Several processes do so at once."""
    for path in (*directory.glob("process-*-of-*"), *directory.glob("process-*.lock"), directory / "identity.json"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


def _end_with(text: str) -> NoReturn:
    """Ends with an error, and without waiting for what other threads compute."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
    os._exit(1)


def _trained(task: Task, schedules: Any, options: dict[str, Any], processes: Processes) -> SweepResult:
    """Runs the sweep, and turns its refusals into one line and a Ctrl-C into how to go on."""
    checkpoint = options["checkpoint"]
    try:
        plan = Plan.make(task, schedules, **options)
    except (TypeError, ValueError, OSError) as error:
        _fail(str(error))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops like Ctrl-C
    try:
        with _plain_warnings():
            return _run(plan, processes)
    except Interrupted as stop:
        raise _Stopped(str(stop).removeprefix("sweep: "), saved=checkpoint is not None) from None
    except KeyboardInterrupt:
        last = "the last checkpoint stands" if checkpoint is not None else "nothing was saved"
        raise _Stopped(f"stopped at once: {last}", saved=checkpoint is not None, at_once=True) from None
    except (TypeError, ValueError, OSError, ImportError) as error:
        if not str(error).startswith(_OURS):
            raise
        _fail(f"{error}{' (or write --no-checkpoint)' if isinstance(error, ImportError) else ''}")
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(plan: Plan, processes: Processes) -> SweepResult:
    """Runs the plan; process 0 tells how far it is."""
    from rich.console import Console

    if processes.index > 0:
        return plan.run(None)
    console = Console()
    say = lambda text: console.print(text, highlight=False, soft_wrap=True, markup=False)  # noqa: E731
    settings = plan.pairs // len(plan.seeds)
    shared = f", shared by {processes.count} processes" if processes.count > 1 else ""
    say(f"{settings} settings x {len(plan.seeds)} seeds = {plan.pairs} trainings of {plan.steps:,} steps{shared}")
    with _Progress(console) as progress:
        result = plan.run(progress)
    done = result.run.get("steps_done", plan.pairs * plan.steps)
    saved = result.run.get("steps_saved", 0)
    say(
        f"compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s"
        + (f": {_short_count(progress.speed)} steps/s" if progress.speed else "")
        + (f"; {saved / (done + saved):.0%} of the steps were spared (diverged or pruned)" if saved else "")
    )
    return result


class _Progress:
    """Told of every segment, it tells the user: in a live line on a terminal, and elsewhere in a line now and then."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self.console = console
        self.speed = 0.0
        self._begin = self._last = time.monotonic()
        self._waiting: str | None = None
        self._resumed = False
        columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._row = self._bar.add_task("compiling", total=None) if self._bar is not None else None

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._waiting is not None:
            print(self._waiting, flush=True)

    def __call__(self, status: Status) -> None:
        if status.resumed_from and not self._resumed:
            self._resumed = True
            total = f"{status.steps_total:,}"
            print(f"going on from the last checkpoint: {status.resumed_from:,} of {total} steps were done", flush=True)
        if math.isfinite(status.steps_per_second):
            self.speed = status.steps_per_second
        if self._bar is not None and self._row is not None:
            text = _status_text(status)
            self._bar.update(self._row, completed=status.steps, total=status.steps_total, description=text)
            return
        now = time.monotonic()
        self._waiting = f"{now - self._begin:6.1f} s  {_status_text(status)}"
        if now - self._last >= _EVERY_SECONDS:
            self._last = now
            print(self._waiting, flush=True)
            self._waiting = None


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """What the sweep has to say on the way (a full disk, a chunk that did not fit) in one line each."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if str(message).startswith(_OURS):
            print(f"jaxsched: {message}", file=sys.stderr, flush=True)  # a live line moves out of the way
        else:
            before(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _status_text(status: Status) -> str:
    """Such as `12/64 trainings done, 60 alive, 4 diverged, best loss 0.0312, 1.2M steps/s, 34 s left`."""
    alive = status.trainings - status.diverged - status.pruned
    parts = [f"{status.done}/{status.trainings} trainings done", f"{alive} alive", f"{status.diverged} diverged"]
    if status.pruned:
        parts.append(f"{status.pruned} pruned")
    if status.best is not None:
        parts.append(f"best loss {status.best:.4g}")
    parts.append(f"{_short_count(status.steps_per_second)} steps/s")
    if math.isfinite(status.seconds_left):
        parts.append(f"{_duration(status.seconds_left)} left")
    return ", ".join(parts)


def _short_count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _report(result: SweepResult, metric: str, mode: Literal["min", "max"] | None, top: int, out: Path) -> None:
    """The ranking, the winner and the files."""
    from rich.console import Console

    # A pipe or a file has no width of its own.
    console = Console(width=None if Console().is_terminal else 120)
    console.print()
    console.print(_table(result, metric, mode, top))
    try:
        print(f"\nbest: {result.best(metric, mode)!r}\n")
    except ValueError as error:
        print(f"\n{error}\n")
    print(f"wrote {result.to_json(out / 'result.json')}")
    try:
        print(f"wrote {result.save(out)}: SweepResult.load({str(out)!r}) reads it")
    except TypeError as error:  # a setting that has a name in no module; the other file holds its numbers all the same
        print(f"no result.npz: {error}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a figure without a letter of the font is still a figure
            result.plot(out / "result.png", metric, mode)
        print(f"wrote {out / 'result.png'}")
    except ImportError as error:
        print(f"no figure: {error}")


def _table(result: SweepResult, metric: str, mode: Literal["min", "max"] | None, top: int) -> Any:
    """The best settings, with the hyperparameters that differ; in one column if they are of several families."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = result.ranking(metric, mode)
    numbers = ("mean", "std", "seeds", "diverged", "pruned_at", "setting")
    if "family" in rows[0]:
        rows = [{"settings": _in_words(row, rows, numbers), **{name: row[name] for name in numbers}} for row in rows]
    names = [name for name in rows[0] if name not in numbers]
    varied = [name for name in names if len({repr(row[name]) for row in rows}) > 1]
    others = [name for name in result.final if name.startswith("valid_") and name != metric]
    pruned = any(row["pruned_at"] >= 0 for row in rows)
    table = Table(
        title=f"best {min(top, len(rows))} of {len(rows)} settings by {metric}, mean ± std over the seeds",
        title_style="",
        box=SIMPLE_HEAD,
    )
    for name in ("rank", *varied, metric, *others, "diverged", *["pruned at"] * pruned):
        # With spaces a heading can be broken, which leaves the room to the numbers.
        table.add_column(name.replace("_", " "), justify="right", no_wrap=name in result.final)
    for rank, row in enumerate(rows[:top], start=1):
        cells = [_spread(result, name, row["setting"]) for name in (metric, *others)]
        ends = [f"{row['diverged']} of {row['seeds']}"]
        if pruned:
            ends.append(str(row["pruned_at"]) if row["pruned_at"] >= 0 else "")
        table.add_row(str(rank), *(_short(row[name]) for name in varied), *cells, *ends, style="bold" * (rank == 1))
    return table


def _in_words(row: dict[str, Any], rows: list[dict[str, Any]], numbers: Sequence[str]) -> str:
    """The family of a setting and what differs within it, such as `WarmupCosine peak_value=0.3`."""
    family = [other for other in rows if other["family"] == row["family"]]
    names = [name for name in row if name not in ("family", *numbers)]
    varied = [name for name in names if len({repr(other[name]) for other in family}) > 1]
    return " ".join([row["family"], *(f"{name}={_short(row[name])}" for name in varied)])


def _spread(result: SweepResult, name: str, setting: int) -> str:
    values = result.final[name][setting].astype(float)
    if (result.diverged_at[setting] >= 0).any():
        return "-"
    return f"{values.mean():.4f} ± {values.std(ddof=1) if len(values) > 1 else 0.0:.4f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
