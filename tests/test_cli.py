"""The command `jaxsched sweep`."""

import builtins
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
from jaxsched import cli
from jaxsched.cli.progress import Progress
from jaxsched.sweep import SweepResult, Task, sweep
from jaxsched.sweep.run import Status

EXAMPLES = Path(__file__).parent.parent / "examples"

TASK_FILE = """
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep import Task

x = np.linspace(-1.0, 1.0, 24, dtype=np.float32)


def loss(slope, batch, key):
    error = slope * batch[0] - batch[1]
    return jnp.mean(error**2), {"accuracy": jnp.mean(jnp.abs(error) < 0.1)}


task = Task(lambda key: jnp.zeros(()), loss, (x, 2 * x), (x, 2 * x), 8, lambda schedule: optax.sgd(schedule))
schedules = js.grid(js.Linear, init_value=[0.01, 0.3, 1e30], end_value=0.0, steps=20)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slope.py").write_text(TASK_FILE)
    return tmp_path


def run(line):
    cli.main(line.split())


def table(out):
    """The cells of the ranking, the heading first."""
    lines = out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:1] == ["rank"])
    lines = [lines[first], *lines[first + 2 : lines.index("", first)]]
    return [re.split(r"\s{2,}", line.strip()) for line in lines if line.strip()]


def refusal(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", *map(str, args)])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxsched: ")
    assert err.count("\n") == 1
    return err


def test_a_sweep_from_the_file_to_the_winner(folder, capsys):
    run("sweep slope.py --steps 20 --seeds 2 --log-every 5 --chunk 3")
    out, err = capsys.readouterr()
    assert "3 settings x 2 seeds = 6 trainings of 20 steps\n" in err
    assert err.count("6/6 trainings done, 4 alive, 2 diverged, best valid loss 0.0") == 1
    assert "compiled in " in err
    heading, *rows = table(out)
    assert heading == ["rank", "init value", "valid loss", "valid accuracy", "diverged"]  # the rest never differs
    assert [row[1] for row in rows] == ["0.3", "0.01", "1e+30"]
    assert [row[-1] for row in rows] == ["0 of 2", "0 of 2", "2 of 2"]
    assert "±" in rows[0][2]
    assert rows[2][2:4] == ["-", "-"]
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
    assert loaded.run["command"] == "jaxsched sweep slope.py --steps 20 --seeds 2 --log-every 5 --chunk 3"
    assert (loaded.run["metric"], loaded.run["mode"]) == ("valid_loss", "min")
    for name in ("result.json", "result.npz", "result.png", "report.html"):
        assert f"wrote {Path('runs', 'slope', name)}" in err
    assert not (there / "checkpoint").exists()  # what it held is in the results


def test_the_file_sets_what_the_options_do_not(folder, capsys):
    said = "steps, seeds, log_every, chunk, metric, mode = 10, 3, 2, 2, 'valid_accuracy', 'max'"
    (folder / "slope.py").write_text(f"{TASK_FILE}\n{said}\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("not a checkpoint")
    (folder / "mine" / "process-1-of-3").mkdir()
    (folder / "mine" / "process-1-of-3" / "notes.txt").write_text("nor this")
    (folder / "mine" / "process-me.lock").write_text("nor this")
    run("sweep slope.py --seeds 1 --top 1 --out there --checkpoint mine")
    out, err = capsys.readouterr()
    assert "3 settings x 1 seeds = 3 trainings of 10 steps" in err
    assert "best 1 of 3 settings by valid_accuracy" in out
    assert len(table(out)) == 2
    read = json.loads((folder / "there" / "result.json").read_text())
    assert (read["steps"], read["log_every"]) == (10, 2)
    left = {path.relative_to(folder / "mine").as_posix() for path in (folder / "mine").rglob("*")}
    assert left == {
        "notes.txt",
        "process-1-of-3",
        "process-1-of-3/notes.txt",
        "process-me.lock",
    }  # only ours is removed


NINE = TASK_FILE.replace("[0.01, 0.3, 1e30]", "[0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4]")


@pytest.mark.parametrize(
    ("said", "options", "pruned"),
    [
        ("", "--prune", [27] + [9] * 2 + [3] * 6),
        ("prune = True", "--keep 0.5 --rungs 6", [27] * 5 + [6] * 4),
        ("prune = js.sweep.successive_halving(rungs=[9])", "", [27] * 3 + [9] * 6),
        ("prune = True", "--no-prune", None),
        ("prune = False", "", None),
    ],
)
def test_pruning_by_option_and_by_file(folder, capsys, said, options, pruned):
    (folder / "slope.py").write_text(f"{NINE}\n{said}\n")
    run(f"sweep slope.py --steps 27 --seeds 1 --log-every 3 {options}")
    out, err = capsys.readouterr()
    heading, *rows = table(out)
    assert len(rows) == 9
    assert (heading[-1] == "pruned at") == (pruned is not None)
    if pruned is not None:
        # The last column is empty for what came to its end.
        assert sorted((int(row[-1]) if row[-1].isdigit() else 27 for row in rows), reverse=True) == pruned
        total = 9 * 27
        assert f"{1 - sum(pruned) / total:.0%} of the steps were spared" in err


@pytest.mark.trial
def test_a_folder_that_held_another_sweep(folder, capsys):
    """The older page does not stay beside newer results, and what was not looked at by the optimizer is told."""
    alike = TASK_FILE.replace("optax.sgd(schedule)", "optax.sgd(0.1)").replace("0.01, 0.3, 1e30", "0.01, 0.3")
    (folder / "slope.py").write_text(alike)
    run("sweep slope.py --steps 20 --seeds 1 --log-every 5")
    err = capsys.readouterr().err
    assert "note: all settings have identical losses: does the task's optimizer use the schedule" in err
    assert "replaced" not in err
    (folder / "slope.py").write_text(TASK_FILE.replace("0.01, 0.3, 1e30", "0.01, 0.3"))
    run("sweep slope.py --steps 3ep --steps-per-epoch 10 --seeds 1 --log-every 5 --no-report")
    err = capsys.readouterr().err
    assert "note: 2 of 2 settings: at step 20 the value is 0 from here on: the last 10 of 30 steps learn nothing" in err
    assert "identical" not in err
    assert "note: runs/slope held the results of a finished sweep: replaced" in err
    left = {path.name for path in (folder / "runs" / "slope").iterdir()}
    assert left == {"command.json", "result.json", "result.npz", "result.png"}


def test_families_side_by_side(folder, capsys):
    mixed = "schedules = [js.Linear(0.3, 0.0, 20), js.Constant(0.1), js.Linear(0.05, 0.0, 20)]"
    (folder / "slope.py").write_text(f"{TASK_FILE}\n{mixed}\n")
    run("sweep slope.py --steps 20 --seeds 1 --log-every 5 --no-checkpoint")
    heading, *rows = table(capsys.readouterr().out)
    assert heading[:3] == ["rank", "settings", "valid loss"]
    assert {row[1] for row in rows} == {"Linear init_value=0.3", "Linear init_value=0.05", "Constant"}


def test_a_sweep_in_which_all_diverge_still_reports(folder, capsys):
    (folder / "slope.py").write_text(TASK_FILE.replace("0.01, 0.3, 1e30", "1e29, 1e30"))
    run("sweep slope.py --steps 10 --seeds 1 --log-every 5")
    out = capsys.readouterr().out
    assert "every setting diverged" in out
    assert (folder / "runs" / "slope" / "result.png").is_file()


def test_refusals_of_one_line(folder, capsys):
    assert "there is no file nowhere.py" in refusal(capsys, "nowhere.py")
    assert "there is no file ." in refusal(capsys, ".")
    (folder / "notes.txt").write_text("words")
    assert "notes.txt is not a Python file" in refusal(capsys, "notes.txt")
    (folder / "random.py").write_text("schedules = 1")
    assert "random.py has no `task`: write task = Task(" in refusal(capsys, "random.py")
    (folder / "bare.py").write_text(TASK_FILE.replace("schedules = ", "others = "))
    assert "bare.py has no `schedules`: write schedules = grid(...)" in refusal(capsys, "bare.py")
    (folder / "odd.py").write_text("task = 3\nschedules = 4")
    assert "odd.py: task=3 is not a jaxsched.sweep.Task" in refusal(capsys, "odd.py")
    (folder / "flat.py").write_text(TASK_FILE + "\nschedules = js.Linear(1.0, 0.0, 4)")
    assert "is not stacked; for one setting write [schedule]" in refusal(capsys, "flat.py")
    assert "did you mean 'valid_accuracy'" in refusal(capsys, "slope.py", "--metric", "valid_acuracy")
    long = ("--steps", 20, "--log-every", 50)
    assert "log_every=50 and steps=20; write log_every=20 or less" in refusal(capsys, "slope.py", *long)
    assert "chunk=0; chunk must be 1 or more" in refusal(capsys, "slope.py", "--chunk", 0)
    assert "--every -1.0: write a number of seconds, 0 or more" in refusal(capsys, "slope.py", "--every=-1")
    assert "keep=1.5; keep must be above 0 and below 1" in refusal(capsys, "slope.py", "--keep", 1.5)
    assert "a multiple of log_every=50" in refusal(capsys, "slope.py", "--rungs", 7)
    assert "--no-prune and --prune" in refusal(capsys, "slope.py", "--no-prune", "--prune")
    assert "--no-checkpoint and --checkpoint" in refusal(capsys, "slope.py", "--no-checkpoint", "--checkpoint", "x")
    assert "--processes and --process without --distributed: write --distributed too" in refusal(
        capsys, "slope.py", "--processes", 2, "--process", 0
    )
    assert "processes=2, but no coordinator and no process" in refusal(
        capsys, "slope.py", "--distributed", "--processes", 2
    )
    assert "seeds=0; seeds must be 1 or more" in refusal(capsys, "slope.py", "--seeds", 0)
    assert "--top 0: write 1 or more" in refusal(capsys, "slope.py", "--top", 0)
    bare = TASK_FILE.replace("lambda schedule: optax.sgd(schedule)", "lambda: optax.sgd(0.1)")
    (folder / "deaf.py").write_text(bare)
    assert "deaf.py: optimizer() of the task must take the schedule" in refusal(capsys, "deaf.py")
    (folder / "mode.py").write_text(TASK_FILE + "\nmode = 'least'")
    assert "mode='least': write --mode max or --mode min" in refusal(capsys, "mode.py")


def test_an_error_inside_of_the_file_is_shown_with_its_place(folder, capsys):
    (folder / "wrong.py").write_text("x = 1\n\nx / 0")
    assert "wrong.py:3: ZeroDivisionError: division by zero; --debug shows" in refusal(capsys, "wrong.py")
    (folder / "syntax.py").write_text("x = 1\nx = = 2")
    assert "syntax.py:2: SyntaxError: invalid syntax" in refusal(capsys, "syntax.py")
    (folder / "late.py").write_text(TASK_FILE.replace("optax.sgd(schedule)", "optax.sgdd(schedule)"))
    line = TASK_FILE.split("\n").index(next(x for x in TASK_FILE.split("\n") if "optax.sgd" in x)) + 1
    with pytest.raises(SystemExit, match="2"):
        run("sweep late.py --steps 10 --no-checkpoint")
    assert f"\njaxsched: late.py:{line}: AttributeError: module 'optax' has no" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["sweep", "wrong.py", "--debug"])
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "x / 0" in err


def test_an_unknown_option_is_refused_and_help_explains(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "slope.py", "--step", "3", "--sed", "1"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "Trainings that run side by side" in out
    for option in "--prune --rungs --keep --no-checkpoint --every --distributed --coordinator --timeout".split():
        assert option in out


@pytest.mark.parametrize("missing", ["tyro", "rich"])
def test_what_is_missing_is_named(missing, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert 'pip install "jaxsched[cli]"' in refusal(capsys, "slope.py")


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
def test_what_was_stopped_goes_on_to_the_same_bits(folder, whole, capsys, number):
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
    with pytest.raises(SystemExit, match="2"):
        run(f"{LINE} --seeds 3")
    assert "holds checkpoints of another run: seeds" in capsys.readouterr().err
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
def test_the_examples_are_swept_by_the_command(name, tmp_path, capsys):
    """A network, a convolutional one (Flax NNX) and a recurrent one over text: all settings, two steps each."""
    file = EXAMPLES / f"{name}.py"
    words = ["sweep", str(file), "--steps", "2", "--seeds", "1", "--no-checkpoint", "--out", str(tmp_path)]
    cli.main(words)
    out = capsys.readouterr().out
    assert "best: " in out
    result = SweepResult.load(tmp_path)
    assert len(result.settings) == {"digits": 64, "digits_cnn": 24, "character_model": 6}[name]
    assert np.isfinite(result.final["valid_loss"]).all()
    assert (tmp_path / "result.png").is_file()
