"""The command on a real terminal, that of tmux: what is seen, what a resize does, and Ctrl-C."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")

TASK_FILE = """
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from jaxsched.sweep import Task

x = np.linspace(-1.0, 1.0, 24, dtype=np.float32)


def loss(slope, batch, key):
    return jnp.mean((slope * batch[0] - batch[1]) ** 2), {}


task = Task(lambda key: jnp.zeros(()), loss, (x, 2 * x), (x, 2 * x), 8, lambda schedule: optax.sgd(schedule))
schedules = js.grid(js.Linear, init_value=[0.01, 0.1, 0.3], end_value=0.0, steps=20)
seeds, chunk, log_every = 2, 3, 1_000
"""
LONG = "sweep slope.py --steps 50000000 --every 0"
"""Longer than anyone waits."""

_DEADLINE = 180.0
_sessions = itertools.count()


class Terminal:
    """A shell in tmux."""

    def __init__(self, folder: Path, width: int, **env: str) -> None:
        self.name = f"jaxsched-{os.getpid()}-{next(_sessions)}"
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX", "COLUMNS")}
        self.env = {**clean, "PS1": "$ ", "JAX_PLATFORMS": "cpu", "LC_ALL": "C.UTF-8", **env}
        folder.mkdir(exist_ok=True)
        self.tmux("new-session", "-d", "-x", str(width), "-y", "45", "-c", str(folder), "sh")
        command = f"{sys.executable} -c 'import sys; from jaxsched.cli import main; main(sys.argv[1:])' \"$@\""
        self.type(f"clear; jaxsched() {{ {command}; }}; echo re''ady")
        self.wait("ready")

    def tmux(self, *words: str) -> str:
        line = ["tmux", "-u", "-f", "/dev/null", "-L", self.name, *words]
        return subprocess.run(line, capture_output=True, text=True, check=True, env=self.env).stdout

    def type(self, line: str, *keys: str) -> None:
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", *(keys or ("Enter",)))

    def press(self, key: str) -> None:
        self.tmux("send-keys", key)

    def screen(self, *flags: str) -> str:
        return self.tmux("capture-pane", "-p", *flags)

    def wait(self, pattern: str, *flags: str) -> str:
        """The screen, as soon as it has this on it."""
        end = time.monotonic() + _DEADLINE
        while not re.search(pattern, screen := self.screen(*flags)):
            assert time.monotonic() < end, f"no {pattern!r} on the screen:\n{screen}"
            time.sleep(0.1)
        return screen

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def open_one(width, **env):
        opened.append(Terminal(tmp_path, width, **env))
        return opened[-1]

    (tmp_path / "slope.py").write_text(TASK_FILE)
    yield open_one
    for one in opened:
        one.close()


@pytest.mark.parametrize("width", [80, 40])
def test_show_fits_the_terminal_and_has_colour(terminal, width):
    one = terminal(width)
    one.type("clear; jaxsched show 'Linear(0.1, 0.0, 100)'; echo do''ne")
    screen = one.wait(r"(?m)^done$", "-e", "-J")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen).splitlines()
    drawn = [line for line in plain if "┤" in line or "│" in line or "└" in line]
    assert len(drawn) > 5
    assert all(len(line.rstrip()) <= width for line in drawn)  # -J joins what the terminal had to break
    assert max(len(line.rstrip()) for line in drawn) > 0.8 * width
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", screen), "no colour"


def test_no_color_is_kept_to(terminal):
    one = terminal(80, NO_COLOR="1")
    one.type("clear; jaxsched show 'Linear(0.1, 0.0, 100)' --steps 200; jaxsched show --help; echo do''ne")
    screen = one.wait(r"(?m)^done$", "-e", "-S", "-200")
    assert "\x1b" not in screen
    assert "┤" in screen


def test_a_sweep_is_watched_resized_stopped_and_goes_on(terminal):
    one = terminal(100)
    one.type(f'clear; jaxsched {LONG}; echo "code $?"')
    bar = r"━+.* \d+%.*\d/6 trainings"
    one.wait(bar)
    for width in (50, 120, 40):
        one.tmux("resize-window", "-x", str(width), "-y", "45")
        before = one.wait(r"━+.* \d+%")
        assert sum("%" in line for line in before.splitlines()) <= 6, before
        one.wait(rf"(?m)^━*.*\d+% [^\n]{{1,{width - 20}}}$")
    one.press("C-c")
    screen = one.wait("code 130", "-J", "-S", "-200")
    assert "stopped and saved in " in screen
    assert f"to go on: jaxsched {LONG}\n" in screen.replace(" \n", "\n")
    assert "Traceback" not in screen
    for command in (shlex.join(["resume", "runs/slope"]), LONG):
        one.tmux("resize-window", "-x", "120", "-y", "45")
        one.type(f'clear; jaxsched {command}; echo "code $?"')
        one.wait(r"going on from the last checkpoint: [\d,]+ of [\d,]+ steps were done", "-J")
        one.wait(bar)
        one.press("C-c")
        one.wait("code 130")


def test_a_second_ctrl_c_stops_at_once(terminal):
    one = terminal(100)
    one.type(f'clear; jaxsched {LONG} --no-checkpoint; echo "code $?"')
    one.wait(r"\d/6 trainings")
    one.press("C-c")
    one.press("C-c")
    screen = one.wait("code 130", "-S", "-200")
    assert "to start again: jaxsched sweep slope.py" in screen
