"""The commands on a task file: `jaxsched sweep`, `resume`, `report` and `find`."""

import builtins
import importlib
import io
import json
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import jaxsched as js
from jaxsched import cli, finder
from jaxsched.cli import errors, resume
from jaxsched.cli.progress import Progress
from jaxsched.sweep import SweepResult, Task, sweep
from jaxsched.sweep.engine import Plan
from jaxsched.sweep.prune import successive_halving
from jaxsched.sweep.run import Interrupted, Status

from .commands import FOUND, TASK_FILE, made_up, rows

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slope.py").write_text(TASK_FILE)
    return tmp_path


def interrupted(plan, progress):
    raise Interrupted("sweep: stopped")


@pytest.fixture
def untrained(monkeypatch):
    """The plans of sweeps that are stopped before they are trained."""
    plans = []
    monkeypatch.setattr(Plan, "run", lambda plan, progress: plans.append(plan) or interrupted(plan, progress))
    return plans


def table(out):
    """The cells of the ranking, the heading first."""
    return rows(out, "rank", lambda line: re.split(r"\s{2,}", line.strip()))


# --- sweep -----------------------------------------------------------------------------------------------------------


def test_a_sweep_from_the_file_to_the_winner(folder, run):
    line = "sweep slope.py --steps 20 --seeds 2 --log-every 5 --chunk 3"
    code, out, err = run(line)
    assert code == 0
    assert "3 settings x 2 seeds = 6 trainings of 20 steps\n" in err
    assert err.count("6/6 trainings done, 4 alive, 2 diverged, best valid loss 0.0") == 1
    assert "compiled in " in err
    heading, *ranked = table(out)
    assert heading == ["rank", "init value", "valid loss", "valid accuracy", "diverged"]  # the rest never differs
    assert [row[1] for row in ranked] == ["0.3", "0.01", "1e+30"]
    assert [row[-1] for row in ranked] == ["0 of 2", "0 of 2", "2 of 2"]
    assert "±" in ranked[0][2]
    assert ranked[2][2:4] == ["-", "-"]
    best = next(line for line in out.splitlines() if line.startswith("best: ")).removeprefix("best: ")
    assert repr(eval(best, vars(js))) == best == "Linear(init_value=0.3, end_value=0.0, steps=20)"
    there = folder / "runs" / "slope"
    read = json.loads((there / "result.json").read_text())
    assert read["steps"] == 20
    assert np.shape(read["metrics"]["train_loss"]) == (3, 2, 4)
    loaded = SweepResult.load(there)
    np.testing.assert_allclose(loaded.final["valid_loss"][:2], np.array(read["final"]["valid_loss"][:2]), rtol=1e-6)
    assert (there / "result.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote" not in out  # data and messages apart
    assert (there / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert json.loads((there / "command.json").read_text())["argv"][:2] == ["sweep", "slope.py"]
    assert loaded.run["command"] == f"jaxsched {line}"
    assert (loaded.run["metric"], loaded.run["mode"]) == ("valid_loss", "min")
    for name in ("result.json", "result.npz", "result.png", "report.html"):
        assert f"wrote {Path('runs', 'slope', name)}" in err
    assert not (there / "checkpoint").exists()  # what it held is in the results


@pytest.mark.usefixtures("without_pictures")
def test_the_file_sets_what_the_options_do_not(folder, run):
    said = "steps, seeds, log_every, chunk, metric, mode, prune = 10, 3, 2, 2, 'valid_accuracy', 'max', True"
    (folder / "slope.py").write_text(f"{TASK_FILE}\n{said}\n")
    others = {"notes.txt", "process-1-of-3/notes.txt", "process-me.lock"}  # not ours, and not removed
    for name in others:
        (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / name).write_text("not a checkpoint")
    _, out, err = run("sweep slope.py --seeds 1 --top 2 --out there --checkpoint mine --rungs 4 --keep 0.5")
    assert "3 settings x 1 seeds = 3 trainings of 10 steps" in err
    assert "best 2 of 3 settings by valid_accuracy" in out
    heading, *ranked = table(out)
    assert heading[-1] == "pruned at"
    assert len(ranked) == 2
    assert re.search(r"; \d\d% of the steps were spared", err)
    read = json.loads((folder / "there" / "result.json").read_text())
    assert (read["steps"], read["log_every"]) == (10, 2)
    assert np.count_nonzero(np.array(read["pruned_at"]) == 4) == 1
    left = {path.relative_to(folder / "mine").as_posix() for path in (folder / "mine").rglob("*") if path.is_file()}
    assert left == others


@pytest.mark.parametrize(
    ("said", "options", "pruner"),
    [
        ("", "--prune", successive_halving(metric="valid_loss")),
        ("prune = True", "--keep 0.5 --rungs 5", successive_halving(keep=0.5, rungs=(5,), metric="valid_loss")),
        ("prune = js.sweep.successive_halving(rungs=[10])", "", successive_halving(rungs=[10])),
        ("prune = True", "--no-prune", None),
        ("prune = False", "", None),
    ],
)
def test_pruning_by_option_and_by_file(folder, run, untrained, said, options, pruner):
    (folder / "slope.py").write_text(f"{TASK_FILE}\n{said}\n")
    assert run(f"sweep slope.py --no-checkpoint {options}")[0] == 130
    assert [plan.prune for plan in untrained] == [pruner]


@pytest.mark.trial
def test_a_folder_that_held_another_sweep(folder, run):
    """The older page does not stay beside newer results, and what was not looked at by the optimizer is told."""
    alike = TASK_FILE.replace("optax.sgd(schedule)", "optax.sgd(0.1)").replace("0.01, 0.3, 1e30", "0.01, 0.3")
    (folder / "slope.py").write_text(alike)
    _, _, err = run("sweep slope.py --steps 20 --seeds 1 --log-every 5")
    assert "note: all settings have identical losses: does the task's optimizer use the schedule" in err
    assert "replaced" not in err
    (folder / "slope.py").write_text(TASK_FILE.replace("0.01, 0.3, 1e30", "0.01, 0.3"))
    _, _, err = run("sweep slope.py --steps 3ep --steps-per-epoch 10 --seeds 1 --log-every 5 --no-report")
    assert "note: 2 of 2 settings: at step 20 the value is 0 from here on: the last 10 of 30 steps learn nothing" in err
    assert "identical" not in err
    assert "note: runs/slope held the results of a finished sweep: replaced" in err
    left = {path.name for path in (folder / "runs" / "slope").iterdir()}
    assert left == {"command.json", "result.json", "result.npz", "result.png"}


@pytest.mark.usefixtures("without_pictures")
def test_families_side_by_side(folder, run, monkeypatch):
    mixed = "schedules = [js.Linear(0.3, 0.0, 20), js.Constant(0.1), js.Linear(0.05, 0.0, 20)]"
    (folder / "slope.py").write_text(f"{TASK_FILE}\n{mixed}\n")
    monkeypatch.setattr(Plan, "run", made_up([0.1, 0.2, 0.3]))
    heading, *ranked = table(run("sweep slope.py --no-checkpoint")[1])
    assert heading[:3] == ["rank", "settings", "valid loss"]
    assert [row[1] for row in ranked] == ["Linear init_value=0.3", "Constant", "Linear init_value=0.05"]


def test_a_sweep_in_which_all_diverge_still_reports(folder, run, monkeypatch):
    monkeypatch.setattr(Plan, "run", made_up([np.nan] * 3, diverged_at=5))
    _, out, _ = run("sweep slope.py --no-report")
    assert "every setting diverged" in out
    assert (folder / "runs" / "slope" / "result.png").read_bytes().startswith(b"\x89PNG")


def test_refusals_of_one_line(folder, refusal):
    (folder / "notes.txt").write_text("words")
    files = {
        "random": "schedules = 1",
        "bare": TASK_FILE.replace("schedules = ", "others = "),
        "odd": "task = 3\nschedules = 4",
        "flat": TASK_FILE + "\nschedules = js.Linear(1.0, 0.0, 4)",
        "deaf": TASK_FILE.replace("lambda schedule: optax.sgd(schedule)", "lambda: optax.sgd(0.1)"),
        "mode": TASK_FILE + "\nmode = 'least'",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    for line, said in (
        ("nowhere.py", "there is no file nowhere.py"),
        (".", "there is no file ."),
        ("notes.txt", "notes.txt is not a Python file"),
        ("random.py", "random.py has no `task`: write task = Task("),
        ("bare.py", "bare.py has no `schedules`: write schedules = grid(...)"),
        ("odd.py", "odd.py: task=3 is not a jaxsched.sweep.Task"),
        ("flat.py", "is not stacked; for one setting write [schedule]"),
        ("deaf.py", "deaf.py: optimizer() of the task must take the schedule"),
        ("mode.py", "mode='least': write --mode max or --mode min"),
        ("slope.py --metric valid_acuracy", "did you mean 'valid_accuracy'"),
        ("slope.py --steps 20 --log-every 50", "log_every=50 and steps=20; write log_every=20 or less"),
        ("slope.py --chunk 0", "chunk=0; chunk must be 1 or more"),
        ("slope.py --every=-1", "--every -1.0: write a number of seconds, 0 or more"),
        ("slope.py --keep 1.5", "keep=1.5; keep must be above 0 and below 1"),
        ("slope.py --rungs 7", "a multiple of log_every=5"),
        ("slope.py --no-prune --prune", "--no-prune and --prune"),
        ("slope.py --no-checkpoint --checkpoint x", "--no-checkpoint and --checkpoint"),
        ("slope.py --report --no-report", "write one or the other"),
        ("slope.py --processes 2 --process 0", "--processes and --process without --distributed: write --distributed"),
        ("slope.py --distributed --processes 2", "processes=2, but no coordinator and no process"),
        ("slope.py --seeds 0", "seeds=0; seeds must be 1 or more"),
        ("slope.py --top 0", "--top 0: write 1 or more"),
        ("slope.py --steps soon", "--steps='soon' is not a length; write"),
        ("slope.py --step 3", "sweep has no option --step: did you mean '--steps'?"),
        ("slope.py --log_evry=3", "sweep has no option --log-evry: did you mean '--log-every'?"),
    ):
        assert said in refusal(f"sweep {line}")


def test_an_error_inside_of_the_file_is_shown_with_its_place(folder, run, refusal):
    (folder / "wrong.py").write_text("x = 1\n\nx / 0")
    assert "wrong.py:3: ZeroDivisionError: division by zero; --debug shows" in refusal("sweep wrong.py")
    (folder / "syntax.py").write_text("x = 1\nx = = 2")
    assert "syntax.py:2: SyntaxError: invalid syntax" in refusal("sweep syntax.py")
    (folder / "late.py").write_text(TASK_FILE.replace("optax.sgd(schedule)", "optax.sgdd(schedule)"))
    line = next(i for i, text in enumerate(TASK_FILE.split("\n"), start=1) if "optax.sgd" in text)
    code, _, err = run("sweep late.py --steps 10 --no-checkpoint")
    assert code == 2
    assert f"\njaxsched: late.py:{line}: AttributeError: module 'optax' has no" in err
    _, _, err = run("sweep wrong.py --debug")
    assert "Traceback" in err
    assert "x / 0" in err


@pytest.mark.parametrize("missing", ["tyro", "rich"])
def test_what_is_missing_is_named(missing, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(js, "cli", cli)  # which the import below replaces
    for name in [name for name in sys.modules if name.startswith("jaxsched.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("jaxsched.cli").main(["sweep", "slope.py"])
    assert 'pip install "jaxsched[cli]"' in capsys.readouterr().err


# --- resume, report and find -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pictures")
def test_what_was_stopped_is_resumed_from_anywhere(folder, run, monkeypatch, tmp_path_factory):
    told, count = Progress.__call__, 0

    def tell(self, status):
        nonlocal count
        count += 1
        told(self, status)
        if count == 3:
            signal.raise_signal(signal.SIGINT)

    line = "sweep slope.py --steps 40 --every 0"
    monkeypatch.setattr(Progress, "__call__", tell)
    code, out, err = run(f"{line} --out there")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == f"to go on: jaxsched {line} --out there"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    code, out, err = run(["resume", str(folder / "there" / "checkpoint")])
    assert code == 0
    assert "best: Linear(init_value=0.3" in out
    assert re.search(r"going on from the last checkpoint: \d+ of 120 steps were done", err)
    assert np.isfinite(SweepResult.load(folder / "there").metrics["valid_loss"][:2]).all()
    assert not (folder / "there" / "checkpoint").exists()
    code, _, err = run(["resume", str(folder / "there")])
    assert code == 2
    assert "holds the results of a finished sweep; jaxsched report" in err


def test_the_results_keep_their_own_command(folder, run, refusal, monkeypatch):
    """Another sweep into the same folder, which is stopped, does not touch what is told of the one that is done."""
    monkeypatch.setattr(Plan, "run", made_up([0.3, 0.1, 0.2]))
    assert run("sweep slope.py --key 2 --no-report")[0] == 0
    monkeypatch.setattr(Plan, "run", interrupted)
    assert run("sweep slope.py --metric valid_accuracy --mode max")[0] == 130
    code, out, _ = run("report runs/slope -o page.html")
    assert code == 0
    assert out.startswith("best of 3 by valid_loss: Linear(init_value=0.3")
    page = Path("page.html").read_text()
    assert "jaxsched sweep slope.py --key 2 --no-report" in page
    assert "valid_accuracy" not in page
    Path("runs/slope/result.npz").unlink()
    Path("runs/slope/result.json").unlink()
    said = refusal("report runs/slope")
    assert "was stopped or is still running; jaxsched resume runs/slope continues it" in said


def test_a_sweep_is_known_from_its_start_and_a_refused_one_never(folder, run, untrained):
    at = Path("runs/slope/checkpoint/command.json")
    assert run("sweep slope.py --rungs 2")[0] == 2
    assert not at.parent.exists()
    assert run("sweep slope.py --key 1")[0] == 130
    _, _, err = run("resume runs/slope")
    assert f"in {folder}: jaxsched sweep slope.py --key 1\nnothing was saved: it starts again\n" in err
    assert len(untrained) == 2
    note = at.read_text()
    assert run("sweep slope.py --rungs 2")[0] == 2
    (at.parent / "process-0-of-1").mkdir()  # the checkpoints of another run, which will refuse this one
    assert run("sweep slope.py --key 3")[0] == 130
    assert at.read_text() == note


def test_a_report_of_classes_that_stand_in_the_task_file(folder, run, monkeypatch):
    monkeypatch.setattr(Plan, "run", made_up([0.2, 0.1]))
    flags = "--schedule Half --set peak_value=0.1,0.3 --set total_steps=100%"
    assert run(f"sweep slope.py {flags} --no-report --no-checkpoint")[0] == 0
    assert not Path("runs/slope/report.html").exists()
    monkeypatch.delitem(sys.modules, "jaxsched_task_slope")  # as in another process
    code, out, err = run("report runs/slope -o page.html --title Mine")
    assert (code, err) == (0, "wrote page.html\n")
    assert out == "best of 2 by valid_loss: Half(peak_value=0.3, total_steps=20)\n"
    page = Path("page.html").read_text()
    assert "Mine" in page
    assert "--set peak_value=0.1,0.3" in page


def test_the_folder_of_a_sweep_that_is_none(folder, refusal):
    assert refusal("resume nowhere") == "there is no folder nowhere\n"
    assert ". holds no sweep; write the folder of its results" in refusal("resume .")
    assert refusal("report nowhere") == "there is no folder nowhere\n"
    assert refusal("report . -o page") == "-o page: a page ends with .html; write -o page.html\n"
    Path("command.json").write_text("{")
    assert "command.json is broken, or of another jaxsched" in refusal("resume .")


def test_a_note_is_found_after_its_folder_was_moved(folder, refusal):
    errors.argv.set(["sweep", "slope.py"])
    resume.Command(Path("slope.py"), Path("runs/a/checkpoint"), Path("runs/a")).save()
    (folder / "moved").mkdir()
    (folder / "runs").rename(folder / "moved" / "runs")
    at = Path("moved/runs/a/checkpoint")
    note = resume.read_command(at)
    assert note is not None
    assert note["origin"] == (folder / "moved").resolve()
    ran = Path("moved/slope.py")
    ran.write_text("raise SystemExit('this is not the file that the sweep ran')")
    said = refusal("resume moved/runs/a")
    assert f"was written in {folder}, and its task file is not at {ran.resolve()}, or is another one" in said
    assert said.endswith("type the command where the task file is: jaxsched sweep slope.py\n")
    ran.write_text(TASK_FILE)
    assert resume.working_directory(at, note) == (folder / "moved").resolve()


def test_find_suggests_rates(folder, run, refusal, monkeypatch):
    code, out, err = run("find slope.py --min-lr 1e-3 --max-lr 10 --steps 40 --seeds 2 -o found.png --json")
    read = json.loads(out)
    assert (code, len(read["lrs"]), np.shape(read["losses"])) == (0, 40, (2, 40))
    assert {"valley", "steep", "minimum", "slide"} == set(read["suggestions"])
    assert err.endswith("wrote found.png\n")
    assert "min_lr" in refusal("find slope.py --min-lr 2 --max-lr 1")
    assert "unknown picture format" in refusal("find slope.py -o found.txt")
    assert "invalid choice 'gird'" in run("find slope.py --mode gird")[2]
    asked = []

    def found(task, *args, **named):
        asked.append(args)
        return FOUND

    monkeypatch.setattr(finder, "find_lr", found)
    code, out, _ = run("find slope.py --min-lr 1e-3 --steps 20ep --seeds 1")
    assert code == 0
    assert asked == [(1e-3, 10.0, 60, 1)]  # 24 examples in batches of 8
    assert "A seed stops where its smoothed loss is above 4 x the lowest so far" in out
    assert out.endswith("\nTake valley: 0.1\n")
    none = finder.Suggestion(np.nan, np.nan, np.nan, np.array([np.nan]), "the loss never falls")
    empty = SimpleNamespace(suggestions={"valley": none}, stopped_at=None, compile_seconds=0.0, seconds=0.0)
    monkeypatch.setattr(finder, "find_lr", lambda *args, **named: empty)
    code, out, _ = run("find slope.py")
    assert code == 1
    assert "No rate is suggested: try other --min-lr and --max-lr" in out


# --- processes and signals -------------------------------------------------------------------------------------------

# A run that gets a signal when it has told of its progress so many times: no clock decides when.
DRIVER = """
import os, pathlib, sys, time
from jaxsched import cli
from jaxsched.cli.progress import Progress
numbers, after = [int(x) for x in sys.argv[1].split(",")], int(sys.argv[2])
told, count = Progress.__call__, 0


def tell(self, status):
    global count
    count += 1
    told(self, status)
    if count == after:
        complete = "runs/slope/checkpoint/process-0-*/" + "[0-9]" * 8
        while numbers == [9] and not list(pathlib.Path().glob(complete)):
            time.sleep(0.01)  # from a first checkpoint on it can be killed at any moment
        for number in numbers:
            os.kill(os.getpid(), number)


Progress.__call__ = tell
cli.main(sys.argv[3:])
"""
LINE = "sweep slope.py --steps 120 --seeds 2 --log-every 5 --chunk 3 --every 0"


def driven(folder, line, *numbers, after=30):
    args = [sys.executable, "-c", DRIVER, ",".join(str(int(x)) for x in numbers), str(after), *line.split()]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(args, cwd=folder, env=env, **pipes)


def came(process):
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def curves(path):
    read = json.loads(path.read_text())
    return {name: read[name] for name in ("metrics", "final", "diverged_at")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The curves of the run that nobody stopped, in a process of its own as the others are."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "slope.py").write_text(TASK_FILE)
    code, _, err = came(driven(folder, LINE, 0, after=-1))
    assert code == 0, err
    return curves(folder / "runs" / "slope" / "result.json")


@pytest.mark.trial
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_stopped_goes_on_to_the_same_bits(folder, whole, run, number):
    code, _, err = came(driven(folder, LINE, number))
    again = LINE
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130, err
        assert "stopped and saved in " in err
        command = shlex.split(err.splitlines()[-1].removeprefix("to go on: "))
        assert command[0] == "jaxsched"
        again = shlex.join(command[1:])
    refused, _, err = run(LINE.replace("--seeds 2", "--seeds 3"))
    assert refused == 2
    assert "holds checkpoints of another run: seeds" in err
    code, _, err = came(driven(folder, again, 0, after=-1))
    assert code == 0, err
    assert re.search(r"going on from the last checkpoint: [\d,]+ of 720 steps were done", err)
    assert curves(folder / "runs" / "slope" / "result.json") == whole
    assert not (folder / "runs" / "slope" / "checkpoint").exists()


@pytest.mark.trial
def test_without_checkpoints_nothing_is_saved_and_a_second_signal_waits_for_nothing(folder):
    first = driven(folder, f"{LINE} --no-checkpoint", signal.SIGINT)
    second = driven(folder, f"{LINE} --out there", signal.SIGINT, signal.SIGINT)
    code, _, err = came(first)
    assert code == 130, err
    assert "Nothing was saved" in err
    assert err.splitlines()[-1] == f"to start again: jaxsched {LINE} --no-checkpoint"
    assert not (folder / "runs").exists()
    code, _, err = came(second)
    assert code == 130, err
    assert "stopped at once: the last checkpoint remains" in err
    assert err.splitlines()[-1] == f"to go on: jaxsched {LINE} --out there"


@pytest.mark.trial
def test_two_processes_share_a_sweep_and_go_on_after_a_death(folder, whole):
    def both(number, after):
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"localhost:{free.getsockname()[1]}"
        line = f"{LINE} --distributed --coordinator {address} --processes 2 --timeout 60"
        pair = [driven(folder, f"{line} --process {i}", number, after=after) for i in (0, 1)]
        return [process.pid for process in pair], [came(process) for process in pair]

    (pid, _), ((code, _, _), (other, _, err)) = both(signal.SIGKILL, 12)
    assert (code, other) == (-signal.SIGKILL, 1)
    assert f"jaxsched: process 0 of 2 (pid {pid} on " in err
    assert "died: its connection was closed" in err
    _, ((code, _, err), (other, quiet, wrong)) = both(0, -1)
    assert (code, other) == (0, 0), err + wrong
    assert "6 trainings of 120 steps, shared by 2 processes" in err
    assert "going on from the last checkpoint" in err
    assert [line for line in quiet.splitlines() if "[Gloo]" not in line] == []
    assert curves(folder / "runs" / "slope" / "result.json") == whole


def status(**changes):
    fields = {
        "trainings": 64, "done": 12, "diverged": 3, "pruned": 0, "steps": 1_000, "steps_total": 4_000,
        "steps_per_second": 1_234_567.0, "seconds_left": 34.4, "best": 0.03125, "resumed_from": 0,
    }  # fmt: skip
    return Status(**{**fields, **changes})


@pytest.fixture
def clock(monkeypatch):
    """The time that the progress sees, to be set."""
    now = [0.0]
    monkeypatch.setattr("jaxsched.cli.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_lines_of_progress_are_few(capsys, clock):
    with Progress(Console(file=io.StringIO())) as progress:
        for done in range(12):
            progress(status(done=done, steps=600, resumed_from=500))
        clock[0] = 2.0
        # 400 steps in 2 seconds, and 1.5 million that are left.
        late = {"seconds_left": 1.5e6 / 1_234_567.0, "best": None, "resumed_from": 500}
        progress(status(diverged=4, pruned=20, **late))
    assert progress.speed == 1_234_567.0
    first, last = capsys.readouterr().err.splitlines()
    assert first == "going on from the last checkpoint: 500 of 4,000 steps were done"
    assert last.endswith("s  12/64 trainings done, 40 alive, 4 diverged, 20 pruned, 200 steps/s, 2 h 05 min left")


def test_a_live_line_on_a_terminal(clock):
    screen = io.StringIO()
    with Progress(Console(file=screen, force_terminal=True, width=150)) as progress:
        progress(status(steps=0, steps_per_second=2.0, seconds_left=1e9))  # it waited for a compilation
        assert " left" not in screen.getvalue()
        clock[0] = 1.0
        progress(status(seconds_left=34_400 / 1_234_567.0))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "25%" in text
    assert "12/64 trainings done, 61 alive, 3 diverged, best valid loss 0.03125, 1k steps/s, 34 s left" in text
    assert text.count(" left") == 1


@pytest.mark.trial
def test_the_digits_example(monkeypatch, tmp_path):
    """The file is a task that learns: a fraction of the sweep already reads most digits."""
    monkeypatch.chdir(tmp_path)
    module = runpy.run_path(str(EXAMPLES / "digits.py"))
    assert isinstance(module["task"], Task)
    assert len(module["schedules"].peak_value) == 64
    few = [s for s in js.unstack(module["schedules"]) if s.warmup_steps == 50][8:12]
    result = sweep(module["task"], few, steps=150, seeds=1)
    assert isinstance(result, SweepResult)
    assert result.final["valid_accuracy"].max() > 0.9


@pytest.mark.trial
@pytest.mark.parametrize("name", ["digits", "digits_cnn", "character_model"])
def test_the_examples_are_swept_by_the_command(name, tmp_path, run):
    """A network, a convolutional one (Flax NNX) and a recurrent one over text: all settings, two steps each."""
    file = EXAMPLES / f"{name}.py"
    words = ["sweep", str(file), "--steps", "2", "--seeds", "1", "--no-checkpoint", "--out", str(tmp_path)]
    assert "best: " in run(words)[1]
    result = SweepResult.load(tmp_path)
    assert len(result.settings) == {"digits": 64, "digits_cnn": 24, "character_model": 6}[name]
    assert np.isfinite(result.final["valid_loss"]).all()
    assert (tmp_path / "result.png").is_file()
