"""`jaxsched sweep`: train every setting of a task file in one program, and rank them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from tyro import conf

from .._errors import nearest_name
from ..inspect.format import count
from ..sweep import Checkpoint, Interrupted, ProcessDied, SweepResult, Task, initialize, successive_halving
from ..sweep.distributed import Processes, alone
from ..sweep.engine import Plan
from ..units import Timeline
from . import results, resume, space
from .console import console
from .errors import FINDINGS, Stopped, argv, fail, refusals, say
from .progress import Progress, plain_warnings
from .reading import UNKNOWN, Horizon, MaybeN, MaybeX, N, Name, TaskFile, X, load

Folder = Annotated[Path | None, conf.arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings, in place of the file's `schedules`.

    Args:
        schedule: A class, or an expression whose other fields stay as they are.
        set: With --schedule: the values of a field, such as peak_value=1e-4,1e-3 (once for each field).
        space: A TOML file with the schedules and the values of their fields.
        settings: Number of settings to draw, if any field is drawn (64); of several families, of each that draws.
    """

    schedule: Annotated[str | None, conf.arg(metavar="CLASS|EXPR")] = None
    set: Annotated[conf.UseAppendAction[tuple[str, ...]], conf.arg(metavar="NAME=VALUES")] = ()
    space: Annotated[Path | None, conf.arg(metavar="FILE")] = None
    settings: MaybeN = None

    def __post_init__(self) -> None:
        if self.schedule is not None and self.space is not None:
            fail("--schedule and --space: write one or the other")
        if self.set and self.schedule is None:
            fail("--set without --schedule: write --schedule WarmupCosine too")
        if self.settings is not None and self.schedule is None and self.space is None:
            fail("--settings without --schedule or --space: the file's schedules have a fixed number of settings")

    def read(self, file: Path, module: ModuleType, timeline: Timeline) -> Any:
        """What is trained: the settings of these options, or the schedules of the task file."""
        reader = space.Reader(timeline, vars(module))
        with plain_warnings():
            if self.space is not None:
                return space.from_toml(reader, self.space, self.settings)
            if self.schedule is not None:
                return space.from_options(reader, self.schedule, self.set, self.settings)
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

    def __post_init__(self) -> None:
        if self.no_prune and self.wanted:
            fail("--no-prune and --prune, --rungs or --keep: write one or the other")

    @property
    def wanted(self) -> bool:
        return self.prune or self.rungs is not None or self.keep is not None

    def pruner(self, module: ModuleType, metric: str, mode: Any) -> Any:
        """The pruner of these options or of the file; it uses the metric of the ranking."""
        in_file = getattr(module, "prune", None)
        if self.no_prune or not (self.wanted or in_file):
            return None
        if not self.wanted and not isinstance(in_file, bool):
            return in_file
        fields = {"rungs": self.rungs, "keep": self.keep, "metric": metric, "mode": mode}
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

    def __post_init__(self) -> None:
        if self.no_checkpoint and self.checkpoint is not None:
            fail("--no-checkpoint and --checkpoint: write one or the other")
        if not 0 <= self.every < float("inf"):
            fail(f"--every {self.every}: write a number of seconds, 0 or more")


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

    def __post_init__(self) -> None:
        flags = {"--coordinator": self.coordinator, "--processes": self.processes, "--process": self.process}
        given = [flag for flag, value in flags.items() if value is not None]
        if given and not self.distributed:
            fail(f"{' and '.join(given)} without --distributed: write --distributed too")

    @contextlib.contextmanager
    def connected(self, saved: bool) -> Iterator[Processes]:
        """The processes of this sweep; disconnects at the end with the reason, and ends if another has died."""
        processes, reason = alone(), ""
        if self.distributed:
            with refusals():
                processes = initialize(self.coordinator, self.processes, self.process, self.timeout)
        try:
            yield processes
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


def sweep(
    file: TaskFile,
    horizon: Horizon = UNKNOWN,
    seeds: MaybeN = None,
    key: N = 0,
    log_every: MaybeN = None,
    chunk: Annotated[int | Literal["auto"] | None, conf.arg(metavar="N|auto")] = None,
    metric: Name = None,
    mode: Annotated[Literal["min", "max"] | None, conf.arg(metavar="min|max")] = None,
    out: Folder = None,
    top: N = 10,
    report: bool = False,
    no_report: bool = False,
    settings: Settings = Settings(),
    pruning: Pruning = Pruning(),
    saving: Saving = Saving(),
    distribution: Distribution = Distribution(),
) -> None:
    """Train every setting of a task file with every seed in one program, and rank them.

    The file is Python with a `task` (a jaxsched.sweep.Task) and `schedules` (from jaxsched.grid, for example). It may
    also define `steps` (2000), `seeds`, `log_every`, `chunk`, `metric`, `mode` and `prune` (True, or a pruner such as
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
    plotly = importlib.util.find_spec("plotly") is not None
    if top < 1:
        fail(f"--top {top}: write 1 or more")
    if report and no_report:
        fail("--report and --no-report: write one or the other")
    if report and not plotly:
        fail('--report needs plotly: pip install "jaxsched[report]"')
    if not saving.no_checkpoint and importlib.util.find_spec("orbax") is None:
        fail('checkpoints need orbax-checkpoint: pip install "jaxsched[checkpoint]", or write --no-checkpoint')
    written = {"steps": horizon.steps, "seeds": seeds, "log_every": log_every, "chunk": chunk}
    # Connects before the file is loaded, which may compute something.
    with distribution.connected(saved=not saving.no_checkpoint) as processes:
        module, task = load(file)
        options = _options(task, module, {**written, "metric": metric, "mode": mode})
        metric, mode = str(options.pop("metric")), options.pop("mode")
        timeline = horizon.timeline(options.pop("steps"), task)
        schedules = settings.read(file, module, timeline)
        out = out if out is not None else Path("runs") / file.stem
        folder = None if saving.no_checkpoint else saving.checkpoint or out / resume.CHECKPOINT
        checkpoint = None if folder is None else Checkpoint(folder, seconds=saving.every)
        with refusals():
            prune = pruning.pruner(module, metric, mode)
            steps = timeline.total_steps
            plan = Plan.make(task, schedules, steps, key=key, prune=prune, checkpoint=checkpoint, **options)
        command = resume.Command(file, folder, out)
        result = _trained(plan, processes, command)
        if processes.index == 0:
            typed = shlex.join(["jaxsched", *argv.get()])
            result.run.update(command=typed, metric=metric, mode=result.direction(metric, mode))
            results.write_results(result, metric, mode, top, out, page=plotly and not no_report)
            command.write(out)
        processes.barrier("the results are written")  # the checkpoints are needed until then
        command.remove_checkpoints()


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


def _trained(plan: Plan, processes: Processes, command: resume.Command) -> SweepResult:
    """Runs the plan; SIGTERM stops it like Ctrl-C. The first process prints the progress."""
    saved = plan.checkpoint is not None
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with plain_warnings():
            return plan.run(None) if processes.index > 0 else _shown(plan, processes, command)
    except Interrupted as stop:
        raise Stopped(str(stop), saved=saved) from None
    except KeyboardInterrupt:
        last = "the last checkpoint remains" if saved else "nothing was saved"
        raise Stopped(f"stopped at once: {last}", saved=saved, at_once=True) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _shown(plan: Plan, processes: Processes, command: resume.Command) -> SweepResult:
    for line in results.lint_settings(plan):
        say(line)
    shared = f", shared by {processes.count} processes" if processes.count > 1 else ""
    what = f"{plan.settings} settings x {len(plan.seeds)} seeds = {plan.pairs} trainings"
    say(f"{what} of {plan.steps:,} steps{shared}")
    if not command.has_checkpoints():  # those of another command refuse this one before the first steps are done
        command.save()
    with Progress(console(stderr=True), command.save) as progress:
        result = plan.run(progress)
    done = result.run.get("steps_done", plan.pairs * plan.steps)
    spared = result.run.get("steps_saved", 0)
    say(
        f"compiled in {result.compile_seconds:.1f} s, trained in {result.seconds:.1f} s"
        + (f": {count(progress.speed, 3)} steps/s" if progress.speed else "")
        + (f"; {spared / (done + spared):.0%} of the steps were spared (diverged or pruned)" if spared else "")
    )
    return result
