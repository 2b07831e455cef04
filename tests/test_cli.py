"""The command `jaxsched sweep`."""

import builtins
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import jaxsched as js
from jaxsched import cli
from jaxsched.sweep import SweepResult, Task, sweep

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
    out = capsys.readouterr().out
    assert "3 settings x 2 seeds = 6 trainings of 20 steps, 3 at a time in 2 chunks" in out
    assert "3/6 trainings" in out
    assert "6/6 trainings, 0 s left" in out
    heading, *rows = table(out)
    assert heading == ["rank", "init value", "valid loss", "valid accuracy", "diverged"]  # the rest never differs
    assert [row[1] for row in rows] == ["0.3", "0.01", "1e+30"]
    assert [row[-1] for row in rows] == ["0 of 2", "0 of 2", "2 of 2"]
    assert "±" in rows[0][2]
    assert rows[2][2:4] == ["-", "-"]
    best = next(line for line in out.splitlines() if line.startswith("best: ")).removeprefix("best: ")
    assert repr(eval(best, vars(js))) == best == "Linear(init_value=0.3, end_value=0.0, steps=20)"
    read = json.loads((folder / "runs" / "slope" / "result.json").read_text())
    assert read["steps"] == 20
    assert np.shape(read["metrics"]["train_loss"]) == (3, 2, 4)
    assert (folder / "runs" / "slope" / "result.png").read_bytes().startswith(b"\x89PNG")
    for name in ("result.json", "result.png"):
        assert f"wrote {Path('runs', 'slope', name)}" in out


def test_the_file_sets_what_the_options_do_not(folder, capsys):
    text = TASK_FILE + "\nsteps, seeds, metric, mode = 10, 3, 'valid_accuracy', 'max'\n"
    (folder / "slope.py").write_text(text)
    run("sweep slope.py --seeds 1 --log-every 5 --top 1 --out there")
    out = capsys.readouterr().out
    assert "3 settings x 1 seeds = 3 trainings of 10 steps" in out
    assert "best 1 of 3 settings by valid_accuracy" in out
    assert len(table(out)) == 2
    assert (folder / "there" / "result.json").is_file()


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
    assert "log_every=50 and steps=20; write log_every=20 or less" in refusal(capsys, "slope.py", "--steps", 20)
    assert "seeds=0; seeds must be 1 or more" in refusal(capsys, "slope.py", "--seeds", 0)
    assert "top=0: write 1 or more" in refusal(capsys, "slope.py", "--top", 0)
    (folder / "mode.py").write_text(TASK_FILE + "\nmode = 'least'")
    assert "mode='least': write --mode max or --mode min" in refusal(capsys, "mode.py")


def test_an_error_inside_of_the_file_keeps_its_traceback(folder):
    (folder / "wrong.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        cli.main(["sweep", "wrong.py"])


def test_an_unknown_option_is_refused_and_help_explains(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "slope.py", "--step", "3", "--sed", "1"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "--help"])
    assert stop.value.code == 0
    assert "How many trainings run side by side" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["tyro", "rich"])
def test_what_is_missing_is_named(missing, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert 'pip install "jaxsched[cli]"' in refusal(capsys, "slope.py")


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
