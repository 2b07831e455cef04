"""`jaxsched sweep`: train every setting of a task file in one program, and rank them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from tyro import conf

from .._errors import nearest_name
from ..inspect.format import count
from ..sweep import archive, checkpoint
from ..sweep.distributed import ProcessDied, Processes, alone, initialize
from ..sweep.engine import Plan
from ..sweep.prune import successive_halving
from ..sweep.result import SweepResult
from ..sweep.run import Interrupted
from ..sweep.task import Task
from ..units import Timeline
from . import files, ranking, space, sweep_lint
from .console import console, print_text
from .errors import FINDINGS, Stopped, fail, refusals, say
from .progress import Progress, plain_warnings
from .reading import training

N = Annotated[int, conf.arg(metavar="N")]
MaybeN = Annotated[int | None, conf.arg(metavar="N")]
X = Annotated[float, conf.arg(metavar="X")]
MaybeX = Annotated[float | None, conf.arg(metavar="X")]
Length = Annotated[str | None, conf.arg(metavar="N")]
Folder = Annotated[Path | None, conf.arg(metavar="DIR")]
Texts = Annotated[conf.UseAppendAction[tuple[str, ...]], conf.arg(name="set", metavar="NAME=VALUES")]
Mode = Annotated[Literal["min", "max"] | None, conf.arg(metavar="min|max")]


# --- options ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings, in place of the file's `schedules`.

    Args:
        schedule: A class, or an expression whose other fields stay as they are.
        set_: With --schedule: the values of a field, such as peak_value=1e-4,1e-3 (once for each field).
        space_file: A TOML file with the schedules and the values of their fields.
        settings: Number of settings to draw, if any field is drawn (64); of several families, of each that draws.
    """

    schedule: Annotated[str | None, conf.arg(metavar="CLASS|EXPR")] = None
    set_: Texts = ()
    space_file: Annotated[Path | None, conf.arg(name="space", metavar="FILE")] = None
    settings: MaybeN = None

    def check(self) -> None:
        if self.schedule is not None and self.space_file is not None:
            fail("--schedule and --space: write one or the other")
        if self.set_ and self.schedule is None:
            fail("--set without --schedule: write --schedule WarmupCosine too")
        if self.settings is not None and self.schedule is None and self.space_file is None:
            fail("--settings without --schedule or --space: the file's schedules have a fixed number of settings")

    def read(self, file: Path, module: ModuleType, timeline: Timeline) -> Any:
        """What is trained: the settings of these options, or the schedules of the task file."""
        reader = space.Reader(timeline, vars(module))
        with plain_warnings():
            if self.space_file is not None:
                return space.from_toml(reader, self.space_file, self.settings)
            if self.schedule is not None:
                return space.from_options(reader, self.schedule, self.set_, self.settings)
        if not hasattr(module, "schedules"):
            hint = "write schedules = grid(...) in it, or give --schedule and --set, or --space"
            fail(f"{file} has no `schedules`: {hint}")
        return module.schedules


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Successive halving: the worse settings are dropped during the training.

    Args:
        prune: Drop settings.
        no_prune: Drop none, even if the file says so.
        rungs: Steps after which settings are dropped (keep^2 and keep of all steps).
        keep: Fraction that is kept at each rung (1/3).
    """

    prune: bool = False
    no_prune: bool = False
    rungs: Annotated[tuple[int, ...] | None, conf.arg(metavar="[N ...]")] = None
    keep: MaybeX = None

    @property
    def wanted(self) -> bool:
        return self.prune or self.rungs is not None or self.keep is not None

    def check(self) -> None:
        if self.no_prune and self.wanted:
            fail("--no-prune and --prune, --rungs or --keep: write one or the other")

    def pruner(self, module: ModuleType, metric: str, mode: Any) -> Any:
        """The pruner of these options or of the file; it uses the metric of the ranking."""
        in_file = getattr(module, "prune", None)
        if self.no_prune or not (self.wanted or in_file):
            return None
        if not self.wanted and not isinstance(in_file, bool):
            return in_file
        fields = {"rungs": self.rungs, "keep": self.keep, "metric": metric, "mode": mode}
        with refusals():
            return successive_halving(**{name: value for name, value in fields.items() if value is not None})


@dataclasses.dataclass(frozen=True)
class Saving:
    """Checkpoints, from which a stopped sweep continues.

    Args:
        no_checkpoint: Save no checkpoints.
        checkpoint: Folder of the checkpoints (checkpoint in the folder of --out); removed at the end of the sweep.
        every: Seconds between two checkpoints.
    """

    no_checkpoint: bool = False
    checkpoint: Folder = None
    every: X = 30.0

    def check(self) -> None:
        if self.no_checkpoint and self.checkpoint is not None:
            fail("--no-checkpoint and --checkpoint: write one or the other")
        if not 0 <= self.every < float("inf"):
            fail(f"--every {self.every}: write a number of seconds, 0 or more")
        if not self.no_checkpoint and importlib.util.find_spec("orbax") is None:
            fail('checkpoints need orbax-checkpoint: pip install "jaxsched[checkpoint]", or write --no-checkpoint')

    def folder(self, out: Path) -> Path | None:
        """The folder of the checkpoints; None without checkpoints."""
        return None if self.no_checkpoint else self.checkpoint or out / files.CHECKPOINT


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Several processes that share the sweep.

    Args:
        distributed: This is one of several processes; start the same command in each.
        coordinator: HOST:PORT of process 0; not needed on SLURM, Open MPI, Kubernetes and TPU pods.
        processes: Number of processes; not needed there either.
        process: Number of this process, from 0; not needed there either.
        timeout: Seconds in which all must connect, and in which all end after one of them has died.
    """

    distributed: bool = False
    coordinator: Annotated[str | None, conf.arg(metavar="HOST:PORT")] = None
    processes: MaybeN = None
    process: MaybeN = None
    timeout: X = 60.0

    def check(self) -> None:
        flags = {"--coordinator": self.coordinator, "--processes": self.processes, "--process": self.process}
        given = [flag for flag, value in flags.items() if value is not None]
        if given and not self.distributed:
            fail(f"{' and '.join(given)} without --distributed: write --distributed too")

    def connect(self) -> Processes:
        """The processes of this sweep; must run before the file is loaded, which may compute something."""
        if not self.distributed:
            return alone()
        with refusals():
            return initialize(self.coordinator, self.processes, self.process, self.timeout)


# --- the command -----------------------------------------------------------------------------------------------------


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
    mode: Mode = None,
    out: Folder = None,
    top: N = 10,
    report: bool = False,
    no_report: bool = False,
    settings: conf.OmitArgPrefixes[Settings] = Settings(),
    pruning: conf.OmitArgPrefixes[Pruning] = Pruning(),
    saving: conf.OmitArgPrefixes[Saving] = Saving(),
    distribution: conf.OmitArgPrefixes[Distribution] = Distribution(),
) -> None:
    """Train every setting of a task file with every seed in one program, and rank them.

    The file is Python with a `task` (a jaxsched.sweep.Task) and `schedules` (from jaxsched.grid, for example). It may
    also define `steps`, `seeds`, `log_every`, `chunk`, `metric`, `mode` and `prune` (True, or a pruner such as
    successive_halving(keep=0.5)), the defaults of these options.

    The options --schedule and --set NAME=VALUES replace the file's schedules: values between commas make a grid, and
    log_uniform(1e-4, 0.1), uniform, int_uniform and choice are drawn from. Lengths may be percentages of the training
    or epochs, as in --set warmup_steps=0,5% or --steps 20ep. A TOML file (--space) can hold the same, see below.

    Lint warnings about the settings (at most 32 of them are checked) are printed before the training. Ctrl-C stops and
    saves; the same command, or jaxsched resume, continues, also after a crash. A second Ctrl-C stops at once. The
    ranking and the best setting go to stdout, messages to stderr. Results in the folder of --out are replaced.

    Exit codes: 0 if the sweep finished, 1 if another process died, 2 for invalid input, 130 if it was stopped.

    Examples:
      jaxsched sweep task.py
      jaxsched sweep task.py --steps 200 --seeds 8 --prune --out runs/pruned
      jaxsched sweep task.py --schedule "WarmupCosine(0.1, 0, 2_000)" --set peak_value=0.01,0.1 --set warmup_steps=0,5%
      jaxsched sweep task.py --schedule "Linear(0.1, 0, 2_000)" --set "init_value=log_uniform(0.01, 1)" --settings 16
      jaxsched sweep task.py --steps 200 --space space.toml --out runs/space

      # space.toml; several families are tables [[families]], with the values above them as defaults
      schedule = "WarmupCosine"                      # a class, or an expression whose other fields stay as they are
      settings = 64                                  # how many to draw; where no field is drawn, lists make a grid
      [fields]
      peak_value = { log_uniform = [1e-4, 1e-1] }    # also uniform, int_uniform, choice
      warmup_steps = [0, 50, "5%"]                   # a list: each of these
      total_steps = "100%"                           # one value

    Args:
        file: The task file.
        steps: Updates of each training, or 20ep, or 2e9tok (2000 unless the file says otherwise).
        steps_per_epoch: Steps in an epoch (the number of batches in the task's arrays).
        tokens_per_step: Tokens in a step.
        seeds: Trainings of each setting (4 unless the file says otherwise).
        key: Number of the random key.
        log_every: Steps between two points of the curves (50, or all if they are fewer).
        chunk: Trainings that run side by side: a number, or auto to measure some and choose the fastest.
        metric: Metric of the ranking (valid_loss unless the file says otherwise).
        mode: Whether the smallest or the largest value is best (min for a loss; required for any other metric).
        out: Folder of the results (runs/NAME of the file, by default).
        top: Rows of the ranking to print.
        report: Write report.html, or fail if plotly is missing (by default it is written if plotly is installed).
        no_report: Do not write report.html.
    """
    if top < 1:
        fail(f"--top {top}: write 1 or more")
    if report and no_report:
        fail("--report and --no-report: write one or the other")
    plotly = importlib.util.find_spec("plotly") is not None
    if report and not plotly:
        fail('--report needs plotly: pip install "jaxsched[report]"')
    for group in (settings, pruning, saving, distribution):
        group.check()
    written = {"steps": steps, "seeds": seeds, "log_every": log_every, "chunk": chunk, "metric": metric, "mode": mode}
    processes = distribution.connect()
    with _ended(processes, saved=not saving.no_checkpoint):
        module = files.load(file)
        task = files.task_of(file, module)
        options = _options(task, module, written)
        metric, mode = options.pop("metric"), options.pop("mode")
        timeline = training(options["steps"], steps_per_epoch, tokens_per_step, task)
        schedules = settings.read(file, module, timeline)
        out = out if out is not None else Path("runs") / file.stem
        folder = saving.folder(out)
        options |= {
            "steps": timeline.total_steps,
            "key": key,
            "prune": pruning.pruner(module, str(metric), mode),
            "checkpoint": None if folder is None else checkpoint.Checkpoint(folder, seconds=saving.every),
        }
        with refusals():
            plan = Plan.make(task, schedules, **options)
        result = _trained(plan, processes, lambda: _save_command(file, folder, out))
        if processes.index == 0:
            _write_results(result, str(metric), mode, top, out, page=plotly and not no_report)
            files.write_command(out, files.argv.get(), file)
        processes.barrier("the results are written")  # the checkpoints are needed until then
        if folder is not None:
            _remove_checkpoints(folder, out)


def _options(task: Task, module: ModuleType, written: dict[str, Any]) -> dict[str, Any]:
    """The options: from the command line, else from the file, else the default."""
    defaults = {"steps": 2_000, "seeds": 4, "log_every": None, "chunk": "auto", "metric": "valid_loss", "mode": None}
    options = {name: getattr(module, name, default) for name, default in defaults.items()}
    options |= {name: value for name, value in written.items() if value is not None}
    metric, mode = options["metric"], options["mode"]
    if metric not in task.metrics:
        fail(f"metric={metric!r}: {nearest_name(str(metric), task.metrics)}")
    if mode not in ("min", "max") and not (mode is None and metric.endswith("loss")):
        fail(f"metric={metric!r} and mode={mode!r}: write --mode max or --mode min")
    return options


# --- the training ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ended(processes: Processes, saved: bool) -> Iterator[None]:
    """Disconnects from the other processes at the end, with the reason; ends too if one of them has died."""
    reason = ""
    try:
        yield
    except ProcessDied as error:
        if processes.stopping:
            raise Stopped("stopped, as another process was; the last checkpoint remains", saved=saved) from None
        sys.stdout.flush()
        say(f"jaxsched: {error}")
        os._exit(FINDINGS)  # does not wait for threads that compute
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        processes.close(reason)


def _trained(plan: Plan, processes: Processes, save_command: Callable[[], None]) -> SweepResult:
    """Runs the plan; SIGTERM stops it like Ctrl-C."""
    saved = plan.checkpoint is not None
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with plain_warnings():
            return plan.run(None) if processes.index > 0 else _shown(plan, processes, save_command)
    except Interrupted as stop:
        raise Stopped(str(stop), saved=saved) from None
    except KeyboardInterrupt:
        last = "the last checkpoint remains" if saved else "nothing was saved"
        raise Stopped(f"stopped at once: {last}", saved=saved, at_once=True) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _shown(plan: Plan, processes: Processes, save_command: Callable[[], None]) -> SweepResult:
    """Runs the plan and prints its progress."""
    for line in sweep_lint.lint_settings(plan):
        say(line)
    shared = f", shared by {processes.count} processes" if processes.count > 1 else ""
    what = f"{plan.settings} settings x {len(plan.seeds)} seeds = {plan.pairs} trainings"
    say(f"{what} of {plan.steps:,} steps{shared}")
    with Progress(console(stderr=True), save_command) as progress:
        result = plan.run(progress)
    done = result.run.get("steps_done", plan.pairs * plan.steps)
    spared = result.run.get("steps_saved", 0)
    say(
        f"compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s"
        + (f": {count(progress.speed, 3)} steps/s" if progress.speed else "")
        + (f"; {spared / (done + spared):.0%} of the steps were spared (diverged or pruned)" if spared else "")
    )
    return result


# --- the command file and the checkpoints ----------------------------------------------------------------------------


def _command_folders(folder: Path, out: Path) -> set[Path]:
    """Where `jaxsched resume` finds the command: in the folder of the results, and in that of the checkpoints."""
    return {(out / files.CHECKPOINT).resolve(), folder.resolve()} - {out.resolve()}


def _save_command(file: Path, folder: Path | None, out: Path) -> None:
    """Saves the command for `jaxsched resume`, before the first checkpoint and after all checks."""
    if folder is not None:
        for place in _command_folders(folder, out):
            files.write_command(place, files.argv.get(), file, checkpoint=os.path.relpath(folder))


def _remove_checkpoints(folder: Path, out: Path) -> None:
    """Removes the checkpoints and the command files, and the folders if they are empty then."""
    checkpoint.remove(folder)
    for place in _command_folders(folder, out):
        (place / files.COMMAND).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.rmdir()


# --- the results -----------------------------------------------------------------------------------------------------

_RESULTS = (archive.FILE, "result.json", "result.png", "report.html")


def _write_results(result: SweepResult, metric: str, mode: Any, top: int, out: Path, page: bool) -> None:
    """Prints the ranking and the best setting, and writes the files."""
    command = shlex.join(["jaxsched", *files.argv.get()])
    result.run.update(command=command, metric=metric, mode=result.direction(metric, mode))
    for line in sweep_lint.lint_result(result):
        say(line)
    screen = console()
    screen.print()
    screen.print(ranking.table_of(result, metric, mode, top))
    try:
        best = f"best: {result.best(metric, mode)!r}"
    except ValueError as error:  # every setting diverged
        best = str(error)
    print_text(f"\n{best}\n")
    old = [path for name in _RESULTS if (path := out / name).is_file()]
    for path in old:
        path.unlink()  # not all of them would be overwritten
    if old:
        say(f"note: {out} held the results of a finished sweep: replaced")
    say(f"wrote {result.to_json(out / 'result.json')}")
    try:
        say(f"wrote {result.save(out)}: SweepResult.load({str(out)!r}) reads it")
    except TypeError as error:  # a setting that is not importable by name; result.json has its numbers
        say(f"no result.npz: {error}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of matplotlib, about a character that the font lacks
            result.plot(out / "result.png", metric, mode)
        say(f"wrote {out / 'result.png'}")
    except ImportError as error:
        say(f"no figure: {error}")
    if page:
        say(f"wrote {result.report(out / 'report.html', metric, mode)}")
