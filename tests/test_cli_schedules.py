"""The commands of `jaxsched` but for the sweep of a task file by itself, which tests/test_cli.py has."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

import jaxsched as js
from jaxsched import cli, finder
from jaxsched.cli import console, errors, resume, space
from jaxsched.sweep.engine import Plan

from .commands import FOUND, TASK_FILE, made_up, rows

WARMUP = "WarmupCosine(0.1, warmup_steps=10, total_steps=100)"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(TASK_FILE)
    return tmp_path


# --- list, show, lint ------------------------------------------------------------------------------------------------


def test_list_tells_every_public_schedule(run):
    code, out, err = run("list --json")
    found = {one["name"]: one for one in json.loads(out)}
    classes = [x for x in vars(js.schedules).values() if isinstance(x, type) and issubclass(x, js.Schedule)]
    assert (code, err) == (0, "")
    assert set(found) == {x.__name__ for x in classes} - {"Schedule", "Recipe"}
    assert all(one["formula"] and one["summary"] for one in found.values())
    for x in classes:
        if x.__name__ in found:
            assert [f["name"] for f in found[x.__name__]["fields"]] == [f.name for f in x._fields]
    one = found["WarmupStableDecay"]
    assert one["formula"].startswith("up over warmup_steps, the peak until step total_steps - decay_steps, down over")
    assert one["fields"][6] == {"name": "warmup_shape", "required": False, "default": "linear"}
    assert one["about"]["decay_steps"].endswith("0 jumps to `end_value` at step `total_steps`.")
    _, out, _ = run("list")
    assert "OneCycle(peak_value, total_steps, pct_start=0.3, div_factor=25.0" in out


def test_list_finds_by_a_part_of_a_name_and_by_a_pattern(run, refusal):
    _, out, _ = run("list WarmupCosine")
    assert "as in" not in out
    assert "total_steps: the horizon, above 0" in out
    _, out, _ = run("list NOAM")
    assert out.startswith("Noam(d_model, warmup_steps, factor=1.0)\n")
    assert "warmup_steps: steps, above 0; the peak is at step `warmup_steps - 1`." in out
    _, out, _ = run(["list", "Warmup*Decay", "--json"])
    assert [one["name"] for one in json.loads(out)] == ["WarmupStableDecay"]
    _, out, _ = run("list StepLR --compat --json")
    names = [one["name"] for one in json.loads(out)]
    assert {"compat.torch.StepLR", "compat.torch.MultiStepLR"} <= set(names)
    assert "did you mean 'OneCycle'?" in refusal("list OneCicle")


def test_show_tells_values_the_plot_and_findings(run):
    code, out, err = run(["show", WARMUP])
    assert (code, err) == (0, "")
    assert out.startswith("WarmupCosine(peak_value=0.1, warmup_steps=10, total_steps=100)\n")
    heading, *body = rows(out, "step")
    assert heading == ["step", "value"]
    steps = [int(step) for step, _ in body]
    assert {0, 10, 100} <= set(steps)
    expected = [0.01 * t if t < 10 else 0.05 * (1 + np.cos(np.pi * (t - 10) / 90)) for t in steps]
    np.testing.assert_allclose([float(value) for _, value in body], expected, rtol=1e-4, atol=1e-8)
    assert "┤" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 120
    _, out, _ = run(["show", "Linear(0.1, 0.0, 100)", "--steps", "200"])
    assert "warning at step 100" in out.splitlines()[-1]


def test_show_at_steps_of_any_unit_and_as_json(run):
    line = "show \"Linear(0.1, 0.0, steps='3ep')\" --at 0 10% 1ep 2000tok --steps 5ep --steps-per-epoch 100 "
    _, out, _ = run(line + "--tokens-per-step 10")
    heading, *body = rows(out, "step")
    assert heading == ["step", "epoch", "tokens", "value"]
    assert [row[:3] for row in body] == [
        ["0", "0", "0"],
        ["50", "0.5", "500"],
        ["100", "1", "1,000"],
        ["200", "2", "2,000"],
    ]
    code, out, _ = run(line + "--tokens-per-step 10 --json")
    read = json.loads(out)
    assert code == 0
    assert (read["expression"], read["total_steps"]) == ("Linear(init_value=0.1, end_value=0.0, steps=300)", 500)
    assert read["steps"] == [0, 50, 100, 200]
    assert read["values"][0] == 0.1  # in as many digits as its type has
    assert (read["outline"]["first"], read["outline"]["last_step"]) == (0.1, 499)
    _, out, _ = run(["show", "Linear(0.1, 0.0, 100)", "--at", "100", "120"])
    assert rows(out, "step")[1:] == [["100", "0"], ["120", "0", "beyond", "the", "end"]]
    assert read["outline"]["phases"][0]["name"] == "decay"
    assert read["findings"][0]["check"]


def test_hard_schedules_are_shown(run, refusal):
    code, out, err = run("show Constant(0.1)")
    assert code == 0
    assert "has no last step: 100 steps are shown (--steps N)" in err
    assert all(value == "0.1" for _, value in rows(out, "step")[1:])
    assert run(["show", "Linear(1.0, 0.0, steps=2147483647)"])[0] == 0
    assert run(["show", "Linear(1.0, -1.0, steps=1)"])[0] == 0
    assert run(["show", "WarmupCosine(0.1, 0, 10)"])[0] == 0
    assert "several settings" in refusal(["show", "Linear([0.1, 0.2], 0.0, 10)"])
    assert "--steps 4000000000: JAX counts to 2147483647" in refusal(["show", "Constant(1)", "--steps", "4000000000"])
    assert refusal(["show", WARMUP, "--steps", "3ep"]) == "--steps='3ep' needs --steps-per-epoch N\n"
    assert "--at='soon' is not a length" in refusal(["show", WARMUP, "--at", "soon"])
    said = refusal(["show", "Linear(1, 0, '3ep')"], lines=3)
    assert said.startswith("Linear: steps='3ep' needs --steps N\n")


def test_the_exit_code_of_lint_tells_whether_something_was_found(run):
    code, out, err = run(["lint", "WarmupCosine(3e-4, warmup_steps=200, total_steps=10_000)"])
    assert (code, err) == (0, "")
    assert out == "no findings in steps 0 ... 10,000\n" or out.startswith("note")
    code, out, _ = run(["lint", "Linear(0.1, 0.0, 100)", "--steps", "200", "--json"])
    assert code == 1
    assert {"step": 100, "severity": "warning"}.items() <= json.loads(out)[0].items()
    code, out, _ = run(["lint", "WarmupCosine(3e-4, 20, 10_000)", "--b2", "0.999"])
    assert code == 1
    assert "b2" in out


# --- compare, plot, convert ------------------------------------------------------------------------------------------


def test_compare_tells_where_schedules_differ(run):
    line = ["compare", "Linear(0.1, 0.0, 100)", "Cosine(0.1, 0.0, 100)"]
    t = np.arange(101)
    apart = np.abs(0.1 * (1 - t / 100) - 0.05 * (1 + np.cos(np.pi * t / 100)))
    code, out, err = run([*line, "--json"])
    read = json.loads(out)
    one = read["differences"][0]
    assert (code, err, read["same"]) == (0, "", False)
    assert apart[one["step"]] == pytest.approx(apart.max(), rel=1e-5)
    assert one["largest"] == pytest.approx(apart.max(), rel=1e-5)
    assert max(len(repr(x)) for x in (one["largest"], *one["values"])) < 14  # as float32 tells it
    assert (one["first_step"], one["steps_apart"]) == (1, int((apart > 1e-7).sum()))
    code, out, _ = run([*line, "--exit-code", "--at", "0", "50%"])
    assert code == 1
    assert rows(out, "step") == [["step", "a", "b"], ["0", "0.1", "0.1"], ["50", "0.05", "0.05"]]
    assert f"the largest difference is {apart.max():.4f}"[:-1] in out


def test_compare_knows_what_is_the_same(run, refusal):
    same = ["Cosine(0.1, 0.0, 90)", "compat.torch.CosineAnnealingLR(0.1, T_max=90)"]
    code, out, _ = run(["compare", *same, "--steps", "90", "--exit-code"])
    assert code == 0
    assert "a and b are identical at every step 0 ... 90" in out
    code, out, _ = run(["compare", "Constant(0.1)", "Constant(0.1) * 1.0000005", "--steps", "10", "--exit-code"])
    assert code == 0
    assert "are equal at every step 0 ... 10 up to rounding" in out
    nearly = ["compare", "Constant(0.1)", "Constant(0.1)", "Constant(0.11)", "--steps", "10", "--exit-code"]
    assert run([*nearly, "--tolerance", "0.2"])[0] == 0
    assert run(nearly)[0] == 1
    assert "from 2 to 26 expressions, and got 1" in refusal(["compare", WARMUP])
    assert "--tolerance -1.0: write 0 or more" in refusal(["compare", *same, "--tolerance=-1"])


def test_plot_writes_pictures_and_pages(run, refusal, folder):
    assert run(["plot", WARMUP, "-o", "there/a.png"]) == (0, "", "wrote there/a.png\n")
    assert (folder / "there" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert run(["plot", "Linear([0.1, 0.2], 0.0, 100)", "-o", "family.svg", "--log"])[0] == 0
    assert "<svg" in (folder / "family.svg").read_text()[:1000]
    line = ["plot", "Linear([0.1, 0.2], 0.0, '3ep')", "--steps", "4ep", "--steps-per-epoch", "10", "--unit", "epoch"]
    assert run([*line, "--momentum", "Constant(0.9)", "-o", "page.html"])[0] == 0
    page = (folder / "page.html").read_text()
    assert not re.search(r"<(script|link)[^>]*(src|href)=", page)  # it loads nothing
    data = page[page.index("Plotly.newPlot(") :]
    assert data.count('"mode":"lines"') == 3
    assert "momentum: Constant(" in data
    assert '"text":"learning rate"' in data
    assert "-o schedule.png" in refusal(["plot", WARMUP])
    assert "unknown picture format; write .png" in (said := refusal(["plot", WARMUP, "-o", "new/a.gif"]))
    assert said.endswith(", .html\n")
    assert not Path("new").exists()
    assert "--unit epoch needs --steps-per-epoch N" in refusal(["plot", WARMUP, "-o", "a.png", "--unit", "epoch"])
    assert "write lists of one length" in refusal(["plot", "Linear([1, 2], [1, 2, 3], 10)", "-o", "a.png"])
    assert "there is nothing to draw" in refusal("plot -o a.png")


def test_convert_to_files_and_back(run, folder):
    text = f"({WARMUP} * 1e-06).clip(lo=1e-09)"
    expression = f"{js.parse(text)!r}\n"
    assert run(["convert", text]) == (0, expression, "")
    readers = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads, "dict": lambda x: eval(x, {})}
    for kind, read in readers.items():
        code, out, _ = run(["convert", text, "--to", kind])
        assert code == 0
        assert repr(js.from_dict(read(out))) == expression.strip()
        (folder / f"schedule.{kind}").write_text(out)
        if kind != "dict":
            assert run(["convert", f"schedule.{kind}"]) == (0, expression, "")
    (folder / "by_hand.toml").write_text('type = "Linear"\ninit_value = 0.1\nend_value = 0.0\nsteps = "50%"\n')
    assert run("convert by_hand.toml --steps 10")[1] == "Linear(init_value=0.1, end_value=0.0, steps=5)\n"


@pytest.mark.parametrize(
    "text", [WARMUP, "ChebyshevSteps(1.0, 0.1, 16)", "compat.torch.StepLR(0.1, step_size=30).warmup(5) + 0.001"]
)
def test_converted_code_runs_and_makes_the_schedule(run, monkeypatch, text):
    made = {}
    monkeypatch.setattr(js.compat, "to_torch", lambda schedule, optimizer: made.update(torch=(schedule, optimizer)))
    monkeypatch.setattr(js.compat, "to_keras", lambda schedule, steps=None: made.update(keras=(schedule, steps)))
    for to in ("torch", "keras", "optax", "numpy"):
        code, out, _ = run(["convert", text, "--to", to, *(["--steps", "100"] if to in ("keras", "numpy") else [])])
        names = {"optimizer": "mine"}
        exec(out, names)
        assert code == 0
        assert repr(names["schedule"]) == repr(js.parse(text))
    np.testing.assert_array_equal(names["table"], js.parse(text).table(101))
    assert made["torch"][1] == "mine"
    assert made["keras"][1] == 100


def test_convert_refuses_what_it_cannot_read(refusal, folder):
    assert refusal("convert nowhere.json") == "there is no file nowhere.json\n"
    (folder / "broken.json").write_text("{")
    assert "broken.json is not valid json: Expecting property name" in refusal("convert broken.json")
    (folder / "list.yaml").write_text("- 1")
    assert "list.yaml holds no schedule; jaxsched convert EXPR --to yaml" in refusal("convert list.yaml")
    (folder / "other.json").write_text('{"type": "Linea"}')
    assert "did you mean 'Linear'?" in refusal("convert other.json")


# --- errors, help ----------------------------------------------------------------------------------------------------


def test_an_error_is_a_sentence_and_debug_shows_the_traceback(refusal, run, monkeypatch):
    said = refusal("show WarmupCosine(peak=3e-4)", lines=3)
    assert said.startswith("WarmupCosine has no field 'peak': did you mean 'peak_value'?\n")
    assert said.splitlines()[-1].index("^") == said.splitlines()[1].index("peak=")
    for text in ("-Constant(0.1)", "-2 * Constant(0.1)", "-(Constant(0.1))", "-js.Constant(0.1)"):
        assert run(["convert", text])[0] == 0
    assert refusal("shwo x") == "there is no command 'shwo': did you mean 'show'?\n"
    for line, text in ((["show"], "EXPR"), (["show", "Constant(1)", "--stepz", "3"], "did you mean '--steps'?")):
        code, out, err = run(line)
        assert (code, out) == (2, "")
        assert text in err
    code, _, err = run(["--debug", "show", "Linear(1, 0, -3)"])
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-3].startswith("jaxsched: Linear: steps=-3")

    def wrong(*args, **named):
        raise KeyError("peek")

    monkeypatch.setattr(js.inspect, "lint", wrong)
    assert refusal(["show", WARMUP], code=70) == "unexpected KeyError: 'peek'; run with --debug for the traceback\n"

    def stopped(*args, **named):
        raise KeyboardInterrupt  # as Ctrl-C; a signal itself is ignored where the tests run in the background

    monkeypatch.setattr(js.inspect, "lint", stopped)
    assert refusal(["show", WARMUP], code=130) == "stopped\n"


def test_what_a_library_makes_at_run_time_is_no_place(folder):
    """As the __init__ of a dataclass, whose file is <string>."""
    errors.user_folders.append(folder)
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", "<string>", "exec"))
    assert errors._place(caught.value) is None


def test_a_pipe_is_as_wide_as_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "77")
    assert console.console().width == 77
    monkeypatch.setenv("COLUMNS", "")
    assert console.console().width == 120


def test_help_ends_with_examples(run):
    code, out, _ = run([])
    assert code == 0
    assert all(f"• {name}" in out for name in cli.COMMANDS)
    assert run("--version") == (0, f"jaxsched {js.__version__}\n", "")
    for name in cli.COMMANDS:
        code, out, err = run([name, "--help"])
        assert (code, err) == (0, "")
        assert out.partition("\nExamples:\n")[2].startswith(f"  jaxsched {name}")


@pytest.mark.usefixtures("without_pictures")
def test_every_example_of_the_help_texts_runs(folder, run, monkeypatch):
    """Each line as it stands, but nothing is trained, and no figure of a sweep is drawn."""
    monkeypatch.setattr(Plan, "run", made_up())
    monkeypatch.setattr(finder, "find_lr", lambda *args, mode, **named: FOUND)
    (folder / "space.toml").write_text('schedule = "Linear(0.1, 0.0, 9)"\n[fields]\ninit_value = [0.1, 0.3]\n')
    assert len(cli.examples()) > 25
    for line in cli.examples():
        if "resume" in line:  # a sweep that is done has nothing to go on with
            errors.argv.set(["sweep", "task.py"])
            resume.Command(Path("task.py"), Path("runs/task/checkpoint"), Path("runs/task")).save()
        code, out, err = run(shlex.split(line)[1:])
        assert code == 0, (line, err)
        assert out or "wrote" in err, line
        if "--json" in line:
            json.loads(out)


# --- sweeps ----------------------------------------------------------------------------------------------------------


def settings(schedules):
    return [repr(s) for s in schedules]


def test_a_space_of_flags():
    reader = space.Reader(js.Timeline(200), {})
    flags = ("peak_value=0.1,0.2", "warmup-steps=0, 5%", "total_steps=200")
    grid = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=[0, 10], total_steps=200)
    assert settings(space.from_options(reader, "WarmupCosine", flags, None)) == settings(js.unstack(grid))
    assert settings(space.from_options(reader, "WarmupCosine(1.0, 0, 200)", flags[:2], None)) == settings(
        js.unstack(grid)
    )
    drawn = space.from_options(reader, "Linear(1.0, 0.0, 50)", ("init_value=log_uniform(1e-3, 1)", "steps=50,100"), 16)
    assert len(drawn) == 16
    assert {int(s.steps) for s in drawn} == {50, 100}
    assert all(1e-3 <= s.init_value <= 1 for s in drawn)
    shapes = space.from_options(reader, "Ramp(0.1, 0.0, 50)", ("shape=linear,1-sqrt", "init_value=0.1,0.2"), None)
    assert [s.shape for s in shapes] == ["linear", "linear", "1-sqrt", "1-sqrt"]
    tables = space.from_options(
        reader, "PiecewiseConstant", ("boundaries=[10, 20]", "values=[1, 2, 3],[3, 2, 1]"), None
    )
    assert [s.values.tolist() for s in tables] == [[1, 2, 3], [3, 2, 1]]


def test_a_space_of_a_file(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("""
        schedule = "WarmupCosine"
        settings = 8
        fields.peak_value = { log_uniform = [1e-4, 1e-1] }
        fields.warmup_steps = { int_uniform = [0, "field('total_steps')"] }
        fields.total_steps = "100%"
        [[families]]
        schedule = "Ramp"
        fields = { init_value = [0.1, 0.2], end_value = 0, steps = 200, shape = "1-sqrt" }
        [[families]]
        schedule = "Half"
        fields = { peak_value = 0.5, total_steps = 20 }
    """)

    class Half(js.Recipe):
        peak_value: js.fields.Scalar
        total_steps: js.fields.Length

        def build(self):
            return js.Linear(self.peak_value, 0.0, self.total_steps)

    found = space.from_toml(space.Reader(js.Timeline(200), {"Half": Half, "other": 3}), path, None)
    assert [type(s).__name__ for s in found] == ["WarmupCosine"] * 8 + ["Ramp"] * 2 + ["Half"]
    assert all(s.warmup_steps <= s.total_steps == 200 for s in found[:8])
    assert {s.shape for s in found[8:10]} == {"1-sqrt"}


def test_spaces_that_cannot_be(folder, refusal):
    for line, said in (
        ("--schedule Linear --set init=1", "Linear has no field 'init': did you mean 'init_value'?"),
        ("--schedule Linear --set init_value", "write NAME=VALUE"),
        ("--schedule Linear --set steps=1 --set steps=2", "--set steps is written twice"),
        ("--schedule Linear(1,0,9) --set steps=3 --settings 3", "settings=3, and only values are listed"),
        ("--schedule Linear(1,0,9) --set steps=3tok", "--set steps: length='3tok' needs --tokens-per-step N\n"),
        ("--schedule Linear --space x.toml", "--schedule and --space: write one or the other"),
        ("--schedule 3", "--schedule 3: this is no schedule"),
        ("--set init_value=1", "--set without --schedule"),
        ("--settings 3", "--settings without --schedule or --space"),
        ("--space x.toml", "there is no file x.toml"),
    ):
        assert said in refusal(f"sweep task.py {line}")
    said = refusal("sweep task.py --schedule Linear(1,0,9) --set steps=log_uniform(1)", lines=3)
    assert said.startswith("--set steps: log_uniform.__init__() missing 1 required positional argument: 'hi'\n")
    linear = 'schedule = "Linear"\n'
    for text, said in (
        ("x", "x.toml is no TOML"),
        ("settings = 1", "x.toml: there is no schedule: write schedule ="),
        ("setings = 1\n[[families]]", "x.toml: 'setings' has no meaning here: did you mean 'settings'?"),
        ("[families]", "x.toml: families must be tables, [[families]]"),
        (f"fields.stepz = 1\n[[families]]\n{linear}", "fields.stepz is a field of no family: did you"),
        (f"[[families]]\n{linear}[[families]]\n{linear}fields.x = 1", "x.toml: family 2: x: Linear has no field 'x'"),
        ('settings = 3\n[[families]]\nschedule = "Linear(0.1, 0, 9)"', "x.toml: settings=3, and only values are"),
        (f"{linear}field = 1", "'field' has no meaning here: did you mean 'fields'?"),
        (f"{linear}fields.steps = {{ normal = [1, 2] }}", "write one of log_uniform, uniform"),
        (f"{linear}fields.steps = {{ uniform = 1 }}", "write its arguments in a list"),
        (f"{linear}fields.steps = {{ uniform = [2, 1] }}", "x.toml: steps: uniform: lo=2 and hi=1; write lo < hi"),
    ):
        (folder / "x.toml").write_text(text)
        assert said in refusal("sweep task.py --space x.toml")


def test_what_stands_above_families_holds_for_each(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("""
        settings = 3
        fields.steps = "1ep"
        fields.end_value = 0
        [[families]]
        schedule = "Linear"
        fields.init_value = { log_uniform = [0.1, 1.0] }
        [[families]]
        schedule = "Cosine"
        settings = 2
        fields.init_value = { log_uniform = [0.1, 1.0] }
        [[families]]
        schedule = "Ramp"
        fields = { init_value = [0.1, 0.2], steps = 7 }
    """)
    reader = space.Reader(js.Timeline(200, steps_per_epoch=20), {})
    found = space.from_toml(reader, path, None)
    assert [type(s).__name__ for s in found] == ["Linear"] * 3 + ["Cosine"] * 2 + ["Ramp"] * 2
    assert [int(s.steps) for s in found] == [20] * 5 + [7] * 2
    assert len(space.from_toml(reader, path, 4)) == 4 + 4 + 2  # of each that draws


# --- as a process ----------------------------------------------------------------------------------------------------


def test_a_closed_pipe_is_silent_and_what_is_quick_imports_nothing_heavy():
    code = """
import atexit, sys
from jaxsched import cli
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
cli.main(["show", "Linear(0.1, 0.0, 100)"])
cli.main(["list", "--compat"])
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "bufsize": 1}
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", code], env=env, **pipes) as running:
        assert running.stdout.readline().startswith("Linear(")
        running.stdout.close()
        (modules,) = running.stderr.read().splitlines()
    assert running.returncode == 141
    heavy = "orbax orbax.checkpoint scipy matplotlib plotly optuna sklearn pandas torch keras"
    assert not set(heavy.split()) & set(modules.split())
    assert "jaxsched.cli.show" in modules.split()
