"""`jaxsched sweep`: every setting of a task file, trained in one program and ranked."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
from tyro import conf

from .._errors import nearest_name
from ..inspect.format import count
from ..sweep import archive
from ..sweep.checkpoint import Checkpoint
from ..sweep.distributed import ProcessDied, Processes, alone, initialize
from ..sweep.engine import Plan
from ..sweep.prune import successive_halving
from ..sweep.result import SweepResult
from ..sweep.run import Interrupted
from ..sweep.task import Task
from ..units import Timeline
from . import advice, files, space
from .console import console, print_text
from .errors import FINDINGS, Refused, Stopped, fail, refusals, say
from .progress import OURS, Progress, plain_warnings
from .reading import training

N = Annotated[int, conf.arg(metavar="N")]
MaybeN = Annotated[int | None, conf.arg(metavar="N")]
X = Annotated[float, conf.arg(metavar="X")]
MaybeX = Annotated[float | None, conf.arg(metavar="X")]
Length = Annotated[str | None, conf.arg(metavar="N")]
Folder = Annotated[Path | None, conf.arg(metavar="DIR")]
Texts = Annotated[conf.UseAppendAction[tuple[str, ...]], conf.arg(name="set", metavar="NAME=VALUES")]


def sweep(
    file: Annotated[Path, conf.arg(metavar="TASK")],
    steps: Length = None,
    steps_per_epoch: MaybeX = None,
    tokens_per_step: MaybeX = None,
    seeds: MaybeN = None,
    key: N = 0,
    log_every: MaybeN = None,
    chunk: Annotated[int | Literal["auto"] | None, conf.arg(metavar="N|auto")] = None,
    metric: Annotated[str | None, conf.arg(metavar="NAME")] = None,
    mode: Annotated[Literal["min", "max"] | None, conf.arg(metavar="min|max")] = None,
    prune: bool = False,
    no_prune: bool = False,
    rungs: Annotated[tuple[int, ...] | None, conf.arg(metavar="[N ...]")] = None,
    keep: Annotated[float | None, conf.arg(metavar="X")] = None,
    no_checkpoint: bool = False,
    checkpoint: Folder = None,
    every: X = 30.0,
    out: Folder = None,
    top: N = 10,
    distributed: bool = False,
    coordinator: Annotated[str | None, conf.arg(metavar="HOST:PORT")] = None,
    processes: MaybeN = None,
    process: MaybeN = None,
    timeout: X = 60.0,
    schedule: Annotated[str | None, conf.arg(metavar="CLASS|EXPR")] = None,
    set_: Texts = (),
    space_file: Annotated[Path | None, conf.arg(name="space", metavar="FILE")] = None,
    settings: MaybeN = None,
    report: bool = False,
    no_report: bool = False,
) -> None:
    """Train every setting of a task file with every seed in one program, and rank them.

    The file is Python with a `task` (a jaxsched.sweep.Task) and `schedules` (from jaxsched.grid, for example). It may
    also hold `steps`, `seeds`, `log_every`, `chunk`, `metric`, `mode` and `prune` (True, or a pruner such as
    successive_halving(keep=0.5)), which stand for the options that are not given.

    The schedules can also be said here, with --schedule and --set NAME=VALUES for each field: values between commas
    make a grid, and log_uniform(1e-4, 0.1), uniform, int_uniform or choice are drawn from. Lengths may be shares of the
    training or epochs, as in --set warmup_steps=0,5% or --steps 20ep. Or a TOML file says them, with --space, as below.

    Ctrl-C stops and saves; the same command (or jaxsched resume) goes on from there, and after a crash too. A second
    Ctrl-C stops at once. The ranking and the winner go to stdout, all else to stderr.

    What lint would warn of in the settings (at most 32 of them are looked at) is told before they are trained. A sweep
    that is done takes the place of an older one in the folder of --out.

    Exit codes: 0 if it came to its end, 1 if another process died, 2 if it cannot begin, 130 if it was stopped.

    A space in TOML:
      schedule = "WarmupCosine"          # a class, or an expression whose other fields stay as they are
      settings = 64                      # how many are drawn; not where only values are listed, which make a grid
      [fields]
      peak_value = { log_uniform = [1e-4, 1e-1] }    # also uniform, int_uniform, choice
      warmup_steps = [0, 50, "5%"]                   # a list: each of these
      total_steps = "100%"                           # a single value stays

      # In another file, several families. What stands above them holds for each that has no value of its own.
      settings = 16
      fields.total_steps = "100%"
      [[families]]
      schedule = "WarmupCosine"
      fields.peak_value = { log_uniform = [1e-4, 1e-1] }
      fields.warmup_steps = [0, 50]
      [[families]]
      schedule = "OneCycle"
      settings = 8
      fields.peak_value = { log_uniform = [1e-3, 1.0] }

    Examples:
      jaxsched sweep task.py
      jaxsched sweep task.py --steps 200 --seeds 8 --prune --out runs/pruned
      jaxsched sweep task.py --schedule "WarmupCosine(0.1, 0, 2_000)" --set peak_value=0.01,0.1 --set warmup_steps=0,5%
      jaxsched sweep task.py --schedule "Linear(0.1, 0, 2_000)" --set "init_value=log_uniform(0.01, 1)" --settings 16
      jaxsched sweep task.py --steps 200 --space space.toml --out runs/space

    Args:
        file: The task file.
        steps: Updates of each training, or 20ep, or 2e9tok (2000 unless the file says otherwise).
        steps_per_epoch: What an epoch (20ep) is (the batches in the arrays of the task).
        tokens_per_step: What a token (2e9tok) is.
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
        schedule: The class, or a schedule whose other fields stay as they are, in the place of the file's schedules.
        set_: With --schedule: the values of a field, such as peak_value=1e-4,1e-3 (repeat it for more fields).
        space_file: A TOML file that says the schedules.
        settings: How many settings are drawn, if any field is (64); of several families, of each that draws.
        report: Write report.html, or refuse if plotly is missing (by default it is written if plotly is there).
        no_report: Write no report.html.
    """
    written = {"steps": steps, "seeds": seeds, "log_every": log_every, "chunk": chunk, "metric": metric, "mode": mode}
    _check(top, prune, no_prune, rungs, keep, checkpoint, no_checkpoint)
    _check_space(schedule, set_, space_file, settings)
    page = _page_wanted(report, no_report)
    together = _processes(distributed, coordinator, processes, process, timeout)
    words = ""
    try:
        module = files.load(file)
        task = files.task_of(file, module)
        options = _options(task, module, written)
        timeline = training(options["steps"], steps_per_epoch, tokens_per_step, task)
        options["steps"] = timeline.total_steps
        schedules = _schedules(file, module, timeline, schedule, set_, space_file, settings)
        wanted = prune or rungs is not None or keep is not None
        pruner = None if no_prune else _pruner(module, wanted, rungs, keep, options)
        out = out if out is not None else Path("runs") / file.stem
        saves = None if no_checkpoint else _checkpoint(checkpoint or out / "checkpoint", every)
        names = ("steps", "seeds", "log_every", "chunk")
        rest = {"key": key, "prune": pruner, "checkpoint": saves} | {name: options[name] for name in names}
        with _noted(out, file, saves, together):
            result = _trained(task, schedules, rest, together)
        if together.index == 0:
            _report(result, options["metric"], options["mode"], top, out, page)
            files.write_command(out, files.argv.get(), file)
        # Only now, when all that they held is in the results.
        together.barrier("the results are written")
        if saves is not None:
            _clear(Path(saves.directory), out)
    except ProcessDied as error:
        if not together.stopping:
            _end_with(f"jaxsched: {error}")
        raise Stopped("stopped, as another process was; the last checkpoint stands", saved=not no_checkpoint) from None
    except BaseException as error:
        words = f"{type(error).__name__}: {error}"
        raise
    finally:
        together.close(words)


@contextlib.contextmanager
def _noted(out: Path, file: Path, saves: Checkpoint | None, together: Processes) -> Iterator[None]:
    """Notes the command before anything is trained, so that `jaxsched resume` knows it after whatever happens; beside
    the checkpoints, for what lies beside older results is theirs. A command that is refused leaves the note of the one
    before."""
    if saves is None or together.index > 0:
        yield
        return
    at = Path(saves.directory)
    folders = _note_folders(at, out)
    before = {folder: path.read_bytes() for folder in folders if (path := folder / files.COMMAND).is_file()}
    new = [folder for folder in (*folders, out) if not folder.is_dir()]
    for folder in folders:
        files.write_command(folder, files.argv.get(), file, checkpoint=os.path.relpath(at))
    try:
        yield
    except Refused:
        for folder in folders:
            if folder in before:
                (folder / files.COMMAND).write_bytes(before[folder])
            else:
                (folder / files.COMMAND).unlink(missing_ok=True)
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _note_folders(at: Path, out: Path) -> list[Path]:
    """Where the command of a sweep that goes on is noted: in the folder of its results, and in that of its checkpoints
    if that is elsewhere."""
    usual = out / files.CHECKPOINT
    return [usual] if at.resolve() in (out.resolve(), usual.resolve()) else [usual, at]


def _page_wanted(report: bool, no_report: bool) -> bool:
    """Whether to write report.html: said here or not, as soon as possible."""
    if report and no_report:
        fail("--report and --no-report: write one or the other")
    there = importlib.util.find_spec("plotly") is not None
    if report and not there:
        fail('--report needs plotly: pip install "jaxsched[report]"')
    return there and not no_report


def _check_space(schedule: str | None, fields: tuple[str, ...], path: Path | None, settings: int | None) -> None:
    if schedule is not None and path is not None:
        fail("--schedule and --space: write one or the other")
    if fields and schedule is None:
        fail("--set without --schedule: write --schedule WarmupCosine too")
    if settings is not None and schedule is None and path is None:
        fail("--settings without --schedule or --space: the settings of the file are as many as they are")


def _schedules(
    file: Path,
    module: ModuleType,
    timeline: Timeline,
    schedule: str | None,
    fields: tuple[str, ...],
    path: Path | None,
    settings: int | None,
) -> Any:
    """What is trained: as said on the command line, in the TOML file, or in the task file."""
    if schedule is None and path is None:
        return files.schedules_of(file, module)
    reader = space.Reader(timeline, vars(module))
    with plain_warnings():
        if path is not None:
            return space.from_toml(reader, path, settings)
        return space.from_flags(reader, str(schedule), fields, settings)


def _check(top: int, prune: bool, no_prune: bool, rungs: Any, keep: Any, checkpoint: Any, no_checkpoint: bool) -> None:
    """Refuses options that do not go together."""
    if top < 1:
        fail(f"top={top}: write 1 or more")
    if no_prune and (prune or rungs is not None or keep is not None):
        fail("--no-prune and --prune, --rungs or --keep: write one or the other")
    if no_checkpoint and checkpoint is not None:
        fail("--no-checkpoint and --checkpoint: write one or the other")


def _processes(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None, timeout: float
) -> Processes:
    """All processes of this run: before the file is loaded, which may compute something."""
    if not distributed:
        flags = {"--coordinator": coordinator, "--processes": processes, "--process": process}
        if given := [flag for flag, value in flags.items() if value is not None]:
            fail(f"{' and '.join(given)} without --distributed: write --distributed too")
        return alone()
    try:
        return initialize(coordinator, processes, process, timeout)
    except (TypeError, ValueError, OSError) as error:
        fail(str(error))


def _options(task: Task, module: ModuleType, written: dict[str, Any]) -> dict[str, Any]:
    """The options: what was written, what the file says, and what holds otherwise, in this order."""
    defaults = {"steps": 2_000, "seeds": 4, "log_every": None, "chunk": "auto", "metric": "valid_loss", "mode": None}
    options = {name: getattr(module, name, default) for name, default in defaults.items()}
    options |= {name: value for name, value in written.items() if value is not None}
    metric, mode = options["metric"], options["mode"]
    if metric not in task.metrics:
        fail(f"metric={metric!r}: {nearest_name(str(metric), task.metrics)}")
    if mode not in ("min", "max") and not (mode is None and metric.endswith("loss")):
        fail(f"metric={metric!r} and mode={mode!r}: write --mode max or --mode min")
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
        fail(str(error))


def _checkpoint(directory: Path, every: float) -> Checkpoint:
    try:
        return Checkpoint(directory, seconds=every)
    except (TypeError, ValueError) as error:
        fail(str(error).replace("seconds=", "every=", 1))


_SAVED = re.compile(r"[0-9]{8}(\..*)?")
"""The name of a checkpoint of a process, whole or half."""


def _clear(directory: Path, out: Path) -> None:
    """Removes the checkpoints, and the folders if nothing else is in them. Several processes do so at once."""
    folders = [path for path in directory.glob("process-*-of-*") if path.is_dir()]
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if _SAVED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
    locks = [path for path in directory.glob("process-*.lock") if re.fullmatch(r"process-[0-9]+\.lock", path.name)]
    notes = _note_folders(directory, out)
    for path in (*locks, directory / "identity.json", *(folder / files.COMMAND for folder in notes)):
        path.unlink(missing_ok=True)
    for folder in (*folders, *notes, directory):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _end_with(text: str) -> NoReturn:
    """Ends with an error, and without waiting for what other threads compute."""
    sys.stdout.flush()
    say(text)
    os._exit(FINDINGS)


def _trained(task: Task, schedules: Any, options: dict[str, Any], processes: Processes) -> SweepResult:
    """Runs the sweep, and turns its refusals into one line and a Ctrl-C into how to go on."""
    checkpoint = options["checkpoint"]
    with refusals(TypeError, ValueError, OSError):
        plan = Plan.make(task, schedules, **options)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops like Ctrl-C
    try:
        with plain_warnings():
            return _run(plan, processes)
    except Interrupted as stop:
        raise Stopped(str(stop).removeprefix("sweep: "), saved=checkpoint is not None) from None
    except KeyboardInterrupt:
        last = "the last checkpoint stands" if checkpoint is not None else "nothing was saved"
        raise Stopped(f"stopped at once: {last}", saved=checkpoint is not None, at_once=True) from None
    except (TypeError, ValueError, OSError, ImportError) as error:
        if not str(error).startswith(OURS):
            raise
        fail(f"{error}{' (or write --no-checkpoint)' if isinstance(error, ImportError) else ''}")
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(plan: Plan, processes: Processes) -> SweepResult:
    """Runs the plan; process 0 tells how far it is."""
    if processes.index > 0:
        return plan.run(None)
    for line in advice.before(plan):
        say(line)
    settings = plan.pairs // len(plan.seeds)
    shared = f", shared by {processes.count} processes" if processes.count > 1 else ""
    say(f"{settings} settings x {len(plan.seeds)} seeds = {plan.pairs} trainings of {plan.steps:,} steps{shared}")
    with Progress(console(stderr=True)) as progress:
        result = plan.run(progress)
    done = result.run.get("steps_done", plan.pairs * plan.steps)
    saved = result.run.get("steps_saved", 0)
    say(
        f"compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s"
        + (f": {count(progress.speed, 3)} steps/s" if progress.speed else "")
        + (f"; {saved / (done + saved):.0%} of the steps were spared (diverged or pruned)" if saved else "")
    )
    return result


_RESULTS = (archive.FILE, "result.json", "result.png", "report.html")
"""What a sweep leaves in its folder, beside its command."""


def _report(
    result: SweepResult, metric: str, mode: Literal["min", "max"] | None, top: int, out: Path, page: bool
) -> None:
    """The ranking, the winner and the files."""
    result.run.update(
        command=shlex.join(["jaxsched", *files.argv.get()]), metric=metric, mode=result.direction(metric, mode)
    )
    for line in advice.after(result):
        say(line)
    screen = console()
    screen.print()
    screen.print(_table(result, metric, mode, top))
    try:
        best = f"best: {result.best(metric, mode)!r}"
    except ValueError as error:
        best = str(error)
    print_text(f"\n{best}\n")
    _replace(out)
    say(f"wrote {result.to_json(out / 'result.json')}")
    try:
        say(f"wrote {result.save(out)}: SweepResult.load({str(out)!r}) reads it")
    except TypeError as error:  # a setting that has a name in no module; the other file holds its numbers all the same
        say(f"no result.npz: {error}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a figure without a letter of the font is still a figure
            result.plot(out / "result.png", metric, mode)
        say(f"wrote {out / 'result.png'}")
    except ImportError as error:
        say(f"no figure: {error}")
    if page:
        say(f"wrote {result.report(out / 'report.html', metric, mode)}")


def _replace(out: Path) -> None:
    """Removes the results of an older sweep: not all of them would be written anew."""
    there = [path for name in _RESULTS if (path := out / name).is_file()]
    if not there:
        return
    note = None
    with contextlib.suppress(Refused):  # a note that cannot be read is no reason to lose what was trained
        note = files.read_command(out)
    held = f" ({files.command_line(note)})" if note is not None else ""
    for path in there:
        path.unlink()
    say(f"note: {out} held a finished sweep{held}: replaced")


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
    mean, std = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    # Four places, as far as they tell something: of a loss of 1e7 or 1e-7 they do not.
    few = ".4f" if mean == 0 or 1e-3 <= abs(mean) < 1e4 else ".3g"
    return f"{mean:{few}} ± {std:{few if std < 1e4 else '.3g'}}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
