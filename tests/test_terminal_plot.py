"""The plot of a terminal: its size, its colours, its alphabet, and the curve read back from its dots."""

from __future__ import annotations

import concurrent.futures
import io
import re

import numpy as np
import plotext
import pytest

import jaxsched as js
from jaxsched.inspect import terminal_plot

ANSI = re.compile(r"\x1b\[[0-9;]*m")
DECAY = js.Linear(1.0, 0.0, steps=1_000)
BRAILLE = [0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]
"""The bits of the dots of a character, of its left and its right column, from above."""


class Stream(io.StringIO):
    def __init__(self, encoding: str = "utf-8", tty: bool = False):
        super().__init__()
        self._encoding, self.tty = encoding, tty

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self.tty


def canvas(text: str) -> list[str]:
    """What stands inside of the frame."""
    rows = [re.search("[┤│|+](.*)[│|]$", row) for row in text.split("\n")]
    return [row.group(1) for row in rows if row and "-" not in row.group(1)]


def dots(text: str) -> np.ndarray:
    """(4 rows, 2 columns) the dots of a text, True where one is."""
    rows = canvas(text)
    grid = np.zeros((4 * len(rows), 2 * len(rows[0])), bool)
    for r, row in enumerate(rows):
        for c, char in enumerate(row):
            if "\u2800" <= char <= "\u28ff":
                for half, bits in enumerate(BRAILLE):
                    grid[4 * r : 4 * r + 4, 2 * c + half] = [bool((ord(char) - 0x2800) & bit) for bit in bits]
    return grid


def curve(text: str) -> np.ndarray:
    """The middle of the dots of each column, from 0 at the ground to 1 at the top; NaN where there are none."""
    grid = dots(text)
    heights = np.linspace(1, 0, len(grid))
    return np.array([heights[column].mean() if column.any() else np.nan for column in grid.T])


@pytest.mark.parametrize("width", [*range(20, 60, 3), 80, 119, 200])
def test_the_width_is_kept(width: int) -> None:
    text = terminal_plot([DECAY, js.Constant(0.5)], width=width, height=12, color=False)
    rows = text.split("\n")
    assert len(rows) == 12
    assert max(map(len, rows)) <= width
    assert max(map(len, rows[:9])) == width
    assert not any(row.endswith(" ") for row in rows)


@pytest.mark.parametrize("height", [5, 6, 8, 30])
def test_the_height_is_kept(height: int) -> None:
    for schedules in (DECAY, [DECAY] * 9):
        assert len(terminal_plot(schedules, width=40, height=height).split("\n")) == height


def test_the_size_of_the_terminal(monkeypatch) -> None:
    for columns, lines in ((45, 12), (100, 50), (300, 24), (3, 2)):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))
        rows = terminal_plot(DECAY).split("\n")
        assert max(map(len, rows)) == min(max(columns, 10), 120)
        assert len(rows) == min(max(lines - 3, 6), 20)


def test_the_curve_can_be_read_back() -> None:
    read = curve(terminal_plot(DECAY, width=80, height=24))
    np.testing.assert_allclose(read, np.linspace(1, 0, len(read)), atol=0.04)
    warm = curve(terminal_plot(js.WarmupCosine(0.3, 200, 1_000), width=80, height=24))
    t = np.linspace(0, 999, len(warm))
    exact = np.where(t < 200, t / 200, (1 + np.cos(np.pi * (t - 200) / 800)) / 2)
    np.testing.assert_allclose(warm, exact, atol=0.06)
    ascii_rows = canvas(terminal_plot(DECAY, width=60, height=12, file=Stream("ascii")))
    firsts = [row.index("*") for row in ascii_rows]
    assert firsts == sorted(firsts)
    assert (firsts[0], ascii_rows[-1].rstrip()[-1]) == (0, "*")


def test_the_peaks_of_restarts_are_seen() -> None:
    top = dots(terminal_plot(js.CosineWarmRestarts(0.1, period=10_000_000), 100_000_000, width=100, height=20))[:4]
    columns = np.flatnonzero(top.any(axis=0)) / top.shape[1]
    for restart in np.arange(0, 1, 0.1):
        assert np.min(np.abs(columns - restart)) < 0.02


def test_a_jump_is_upright() -> None:
    text = terminal_plot(js.StepDecay(1.0, decay_rate=0.1, decay_steps=30), 60, width=61, height=20)
    full = dots(text).sum(axis=0)
    assert full.max() > 0.8 * len(dots(text))
    assert (full > 2).sum() == 1


def test_colours(monkeypatch) -> None:
    both = [DECAY, js.Constant(0.5)]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    plain = terminal_plot(both, width=60, height=14, file=Stream())
    assert "\x1b" not in plain
    coloured = terminal_plot(both, width=60, height=14, file=Stream(tty=True))
    assert len(set(ANSI.findall(coloured)) - {"\x1b[0m"}) >= 2
    assert [row.rstrip() for row in ANSI.sub("", coloured).split("\n")] == plain.split("\n")
    for row in coloured.split("\n"):
        assert "\x1b" not in row or row.endswith("\x1b[0m"), "no colour runs out of its line"
        assert ANSI.sub("", row) == ANSI.sub("", row).rstrip()
    assert "\x1b" in terminal_plot(both, width=60, color=True, file=Stream())
    assert "\x1b" not in terminal_plot(both, width=60, color=False, file=Stream(tty=True))
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in terminal_plot(both, width=60, file=Stream(tty=True))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in terminal_plot(both, width=60, file=Stream(tty=True))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "no-such-encoding"])
def test_without_braille(encoding: str) -> None:
    text = terminal_plot({"wärm": DECAY, "flat ⠿": js.Constant(0.5)}, width=50, height=14, file=Stream(encoding))
    if encoding == "no-such-encoding":
        encoding = "ascii"
    text.encode(encoding)
    assert not re.search("[\u2500-\u28ff]", text)
    inside = "".join(canvas(text))
    assert set(inside) == {"a", "b", " "}
    assert text.split("\n")[-1] == "b flat ?"


def test_names_and_letters() -> None:
    text = terminal_plot({"down": DECAY, "up": js.Linear(0.0, 1.0, 1_000)}, width=70, height=16)
    rows = text.split("\n")
    assert rows[-2:] == ["a down", "b up"]
    for letter in "ab":
        assert "".join(canvas(text)).count(letter) == 3
    assert terminal_plot(DECAY, width=70, labels="mine").split("\n")[0] == "mine"
    assert terminal_plot(DECAY, width=24).split("\n")[0] == "Linear(init_value=1.0..."
    stacked = js.grid(js.Linear, init_value=[0.1, 0.2, 0.4], end_value=0.0, steps=[100])
    text = terminal_plot(stacked, width=70, height=30)
    assert text.split("\n")[0] == "3 x Linear, init_value 0.1 to 0.4"
    starts = dots(text)[:, 0]
    assert np.count_nonzero(np.diff(starts.astype(int)) == 1) + starts[0] == 3, "three curves"


def test_numbers_at_the_axes() -> None:
    text = terminal_plot(js.WarmupCosine(3e-4, 2_000, 100_000), width=80, height=20)
    assert [row.split("┤")[0].strip() for row in text.split("\n") if "┤" in row] == ["3e-04", "2e-04", "1e-04", "0"]
    assert text.split("\n")[-1].split() == ["0", "20k", "40k", "60k", "80k", "100k"]
    text = terminal_plot(js.StepDecay(0.1, 0.1, 25), 100, scale="log", width=60, height=20)
    assert [row.split("┤")[0].strip() for row in text.split("\n") if "┤" in row] == ["1e-01", "1e-02", "1e-03", "1e-04"]
    rows = [np.flatnonzero(column)[0] for column in dots(text).T if column.sum() == 1]
    assert len(set(rows)) == 4
    assert np.ptp(np.diff(sorted(set(rows)))) <= 1, "powers of ten lie at even distances"
    assert terminal_plot(DECAY, 2**31 - 1, width=60).split("\n")[-1].split()[-1] == "2B"


def test_hard_cases() -> None:
    for schedule, steps in ((0.1, 1), (0.0, 5), (-0.5, 5), (js.Linear(1.0, 1.0, 3), None), (DECAY, [5, 10, 500])):
        assert dots(terminal_plot(schedule, steps, width=40, height=10)).any()
    for schedule in (lambda t: t * np.nan, lambda t: 1.0 / (t - 5.0)):
        assert "┌" in terminal_plot(schedule, 10, width=40, height=10)
    assert "┤" not in terminal_plot(DECAY, width=10, height=8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: terminal_plot(0.1, 5, width=9), "width=9; write a whole number, 10 or more"),
        (lambda: terminal_plot(0.1, 5, height=2.5), "height=2.5; write a whole number, 5 or more"),
        (lambda: terminal_plot(0.1), "write steps="),
        (lambda: terminal_plot(0.1, "3ep"), "steps='3ep'"),
        (lambda: terminal_plot(-0.1, 5, scale="log"), "scale='log', and a value is -0.1"),
        (lambda: terminal_plot("Linear", 5), "is text"),
        (lambda: terminal_plot([0.1, 0.2], 5, labels="a"), r"labels=\['a'\]; write one for each of the 2"),
    ],
)
def test_errors(call, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        call()
    assert str(caught.value).startswith("terminal_plot: ")


def test_what_the_user_draws_with_plotext_stays() -> None:
    figure = plotext.figure
    figure.clear()
    figure.plot_size(40, 10)
    figure.draw(figure.signal([0, 1, 2], [5, 6, 5]))
    figure.title("mine")
    before = figure.build().string(colorless=True)
    one = terminal_plot(DECAY, width=60, height=12)
    assert figure.build().string(colorless=True) == before
    assert terminal_plot(DECAY, width=60, height=12) == one
    figure.clear()


def test_threads() -> None:
    alone = [terminal_plot(DECAY, width=width, height=10) for width in range(30, 38)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda width: terminal_plot(DECAY, width=width, height=10), range(30, 38))
        assert list(together) == alone
