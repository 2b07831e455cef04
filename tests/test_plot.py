"""The figure of schedules: what its artists hold, against formulas in numpy and steps known by hand."""

from __future__ import annotations

import ast
import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import jaxsched as js
from jaxsched import inspect
from jaxsched.inspect import plot
from jaxsched.inspect.curves import last_step

LAST = 2**31 - 1


def cosine(t, peak, warmup, total):
    t = np.asarray(t, float)
    down = peak * (1 + np.cos(np.pi * (t - warmup) / (total - warmup))) / 2
    return np.where(t < warmup, peak * t / max(warmup, 1), down)


def data(line):
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def spans(ax):
    """The shaded phases as (start, stop), in the units of the axis."""
    found = [patch for patch in ax.patches if patch.get_zorder() == 0]
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in found]


def named(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_step_of_a_short_schedule() -> None:
    ax = plot(js.WarmupCosine(0.3, warmup_steps=20, total_steps=300))
    x, y = data(ax.lines[0])
    np.testing.assert_array_equal(x, np.arange(300))
    np.testing.assert_allclose(y, cosine(x, 0.3, 20, 300), rtol=1e-5, atol=1e-8)
    assert ax.get_xlim() == (0, 300)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "learning rate")
    assert ax.get_title() == "WarmupCosine(peak_value=0.3, warmup_steps=20, total_steps=300)"


def test_a_long_schedule_has_the_extremes_of_every_column() -> None:
    total, period = 200_000, 1_300
    x, y = data(plot(js.CosineWarmRestarts(0.1, period=period), total, phases=False).lines[0])
    assert len(x) < 6_000
    t = np.arange(total)
    exact = 0.1 * (1 + np.cos(np.pi * (t % period) / period)) / 2
    edges = np.linspace(0, total, 513)
    for low, high in itertools.pairwise(edges):
        here, there = exact[(t >= low) & (t < high)], y[(x >= low) & (x < high)]
        assert there.max() >= here.max() - 1e-6
        assert there.min() <= here.min() + 1e-6
    at = x.astype(int)
    off = np.minimum(np.abs(y - exact[at]), np.abs(y - exact[np.maximum(at - 1, 0)]))
    assert off.max() < 1e-6, "a value of its step, or at a jump of the step before"


@pytest.mark.parametrize("total", [3_000_000, LAST])
def test_the_peak_of_a_restart_is_never_missed(total: int) -> None:
    period = total // 10 - 7
    x, y = data(plot(js.CosineWarmRestarts(0.1, period=period), total, phases=False).lines[0])
    for restart in range(period, total, period):
        assert y[x == restart].tolist() == pytest.approx([0.0, 0.1], abs=1e-7), "before and after, upright"
    assert y[0] == np.float32(0.1)
    assert (x[0], x[-1]) == (0, total - 1)
    exact = 0.1 * (1 + np.cos(np.pi * (x % period) / period)) / 2
    off = ~np.isin(x, np.arange(period, total, period))
    np.testing.assert_allclose(y[off], exact[off], atol=1e-6)


def test_a_narrow_spike_in_a_long_horizon() -> None:
    spike = js.PiecewiseConstant([1_234_567_890, 1_234_567_893], [0.1, 0.7, 0.1])
    x, y = data(plot(spike, LAST, phases=False).lines[0])
    top = x[y == np.float32(0.7)]
    assert (top[0], top[-1]) == (1_234_567_890, 1_234_567_893)
    assert y.max() == np.float32(0.7)


def test_a_jump_is_upright() -> None:
    x, y = data(plot(js.StepDecay(1.0, decay_rate=0.5, decay_steps=30), 100).lines[0])
    for k in (1, 2, 3):
        assert y[x == 30 * k].tolist() == [0.5 ** (k - 1), 0.5**k]
    assert len(x) == 100 + 3
    x, _ = data(plot(js.Linear(1.0, 0.0, steps=4), 8).lines[0])
    assert x.tolist() == list(range(8)), "a slope is no jump"


def test_phases_and_their_names() -> None:
    wsd = js.WarmupStableDecay(1.0, warmup_steps=100, total_steps=10_000, decay_steps=2_000)
    ax = plot(wsd)
    assert spans(ax) == [(0, 100), (100, 8_000), (8_000, 10_000)]
    assert named(ax) == ["warmup", "stable", "decay"]
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y0 >= ax.bbox.y1 - 1, "above the frame"
    for several in (plot(wsd, phases=False), plot([js.Linear(1.0, 0.0, 10), js.Linear(0.5, 0.0, 10)])):
        assert not spans(several)
    assert plot(wsd, phases=False).get_legend() is None


def test_restarts_are_marked() -> None:
    ax = plot(js.CosineWarmRestarts(0.1, period=100, period_mult=2), 750)
    marks = ax.collections[0].get_offsets()
    np.testing.assert_allclose(marks, [[100, 0.1], [300, 0.1], [700, 0.1]], rtol=1e-6)
    assert named(ax)[-1] == "3 restarts"
    many = plot(js.CosineWarmRestarts(0.1, period=10), 800)
    assert not len(many.collections[0].get_offsets())
    assert named(many)[-1] == "over 60 restarts"
    assert named(plot(js.OneCycleMomentum(0.85, 0.95, 100))) == ["decay", "rise"], "one turn is no restart"
    assert named(plot(js.CyclicTriangular(0.1, 1.0, 50, 50), 800))[:3] == ["warmup", "decay", "rise"]


def test_units() -> None:
    timeline = js.Timeline(1_000, steps_per_epoch=250, tokens_per_step=4_096)
    s = js.WarmupStableDecay(1.0, warmup_steps=100, total_steps=1_000, decay_steps=500)
    ax = plot(s, unit="epoch", timeline=timeline)
    assert (ax.get_xlim(), ax.get_xlabel()) == ((0, 4), "epoch")
    assert data(ax.lines[0])[0][-1] == 999 / 250
    np.testing.assert_allclose(spans(ax), [(0, 0.4), (0.4, 2), (2, 4)])
    ax = plot(s, unit="token", timeline=timeline)
    assert (ax.get_xlim(), ax.get_xlabel()) == ((0, 4_096_000), "tokens")
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[:3] == ["0", "500k", "1M"]
    assert plot(s, "2ep", timeline=timeline).get_xlim() == (0, 500)


def test_steps() -> None:
    assert plot(js.Linear(1.0, 0.0, 70)).get_xlim() == (0, 70)
    assert plot([js.Linear(1.0, 0.0, 70), js.Linear(1.0, 0.0, 90)]).get_xlim() == (0, 90)
    assert plot(js.CosineWarmRestarts(0.1, 10), timeline=js.Timeline(40)).get_xlim() == (0, 40)
    ax = plot(js.Linear(1.0, 0.0, 100), [40, 20, 60, 20])
    x, y = data(ax.lines[0])
    assert x.tolist() == [20, 40, 60]
    np.testing.assert_allclose(y, [0.8, 0.6, 0.4], rtol=1e-6)
    assert ax.get_xlim() == (20, 60)
    one = plot(js.Linear(1.0, 0.0, 1))
    assert data(one.lines[0])[0].tolist() == [0]
    assert one.lines[0].get_marker() == "o", "a single point would not be seen as a line"


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (js.WarmupCosine(0.1, 5, 50) * 0.5 + 0.1, 50),
        (js.Linear(0.0, 1.0, 10).then(js.Cosine(1.0, 0.0, 30), at=12), 42),
        (js.Constant(1.0).cooldown(at=80, steps=20), 100),
        (js.Linear(1.0, 0.0, 10).shift(5), 15),
        (js.Linear(1.0, 0.0, 10).per_epoch(7), 77),
        (js.Linear(1.0, 0.0, 10).repeat(10, period_mult=2, cycles=3), 70),
        (js.PiecewiseInterpolate([0, 5, 33], [0.0, 1.0, 0.0]), 33),
        (js.TriStage(1.0, 10, 20, 30), 60),
        (js.Linear(1.0, 0.0, 10).repeat(10, cycles=10**9), None),
        (js.Linear(1.0, 0.0, 10).repeat(10, cycles=10**8), 10**9),
        (js.Linear(1.0, 0.0, 10).repeat(10, period_mult=2, cycles=27), 10 * (2**27 - 1)),
        (js.Linear(1.0, 0.0, 10).repeat(10, period_mult=2, cycles=2000), None),
        (js.Cosine(1.0, 0.5, 100).warmup(200), 200),
        (js.Cosine(1.0, 0.0, 100).warmup(200), 100),
        (js.Cosine(1.0, 0.5, 100).warmup(20), 100),
        (js.Linear(1.0, 0.0, 100) + js.StepDecay(1.0, 0.5, 10), None),
        (js.Linear(1.0, 0.0, 100) + js.Linear(1.0, 0.0, 70), 100),
        (js.Linear(1.0, 0.0, 100) * js.StepDecay(1.0, 0.5, 10), 100),
        (js.Linear(1.0, 0.5, 100) * js.StepDecay(1.0, 0.5, 10), None),
        (js.Linear(1.0, 0.5, 100) * js.schedules.UntunedWarmup(0.99), 199),
        (js.PiecewiseConstant([30, 60], [0.1, 0.03, 0.01]), 90),
        (js.MultiStepDecay(0.1, 0.1, [30, 60, 80]), 107),
        (js.Linear(0.0, 1.0, 10).then(1.0, at=10), 10),
        (js.Constant(0.1).warmup(50), 50),
        (js.StepDecay(0.1, 0.5, 10).warmup(50), None),
        (js.CosineWarmRestarts(0.1, 10).warmup(5), None),
        (js.Constant(0.1), None),
        (js.Constant(0.1) * 0.5 + 1.0, None),
    ],
    ids=repr,
)
def test_the_horizon_that_a_schedule_tells(schedule: js.Schedule, end: int | None) -> None:
    assert last_step(schedule) == end


def test_a_logarithmic_axis() -> None:
    ax = plot(js.StepDecay(0.1, decay_rate=0.1, decay_steps=25), 100, scale="log")
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert 3e-5 < low < 1e-4
    assert 0.1 < high < 0.3
    zeros = plot(js.WarmupCosine(1.0, 10, 100_000), scale="log", phases=False)
    assert data(zeros.lines[0])[1][0] == 0.0, "drawn down to the ground, which is not -inf"
    assert 5e-7 < zeros.get_ylim()[0] <= 1e-6
    zeros.figure.draw_without_rendering()
    deep = plot(js.Exponential(1.0, 1e-12, 1_000), scale="log")
    assert 1e-13 < deep.get_ylim()[0] < 5e-12


def test_several_differ_in_colour_and_in_line() -> None:
    rates = {f"power {k}": js.Polynomial(1.0, 0.0, 100, power=k) for k in range(1, 29)}
    ax = plot(rates)
    looks = [(to_hex(line.get_color()), str(line._dash_pattern)) for line in ax.lines]
    assert len(set(looks)) == 28
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(looks))
    assert [line.get_label() for line in ax.lines] == list(rates)
    legend = ax.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == list(rates)
    for k, line in enumerate(ax.lines[:4], 1):
        x, y = data(line)
        np.testing.assert_allclose(y, (1 - x / 100) ** k, atol=1e-6)


def test_names_tell_what_differs() -> None:
    a, b = js.StepDecay(0.1, 0.5, 10), js.StepDecay(0.3, 0.5, 20)
    assert [line.get_label() for line in plot([a, b], 50).lines] == [
        "init_value=0.1, decay_steps=10",
        "init_value=0.3, decay_steps=20",
    ]
    mixed = plot([a, optax.cosine_decay_schedule(0.1, 50), 0.05, lambda t: 0.2], 50)
    assert [line.get_label() for line in mixed.lines] == [
        "StepDecay(init_value=0.1, decay_rate=0.5, decay_steps=10)",
        "cosine_decay_schedule",
        "Constant(constant_value=0.05)",
        "test_names_tell_what_differs",
    ]
    np.testing.assert_allclose(
        data(mixed.lines[1])[1], [optax.cosine_decay_schedule(0.1, 50)(t) for t in range(50)], rtol=1e-5
    )
    assert set(data(mixed.lines[3])[1]) == {np.float64(np.float32(0.2))}
    named = plot(a, 50, labels="mine")
    assert (named.lines[0].get_label(), named.get_title()) == ("mine", "mine")


def test_a_family_has_a_colour_bar() -> None:
    peaks, warmups = [1e-4, 3e-4, 1e-3], [0, 50]
    ax = plot(js.grid(js.WarmupCosine, peak_value=peaks, warmup_steps=warmups, total_steps=1_000))
    assert len(ax.lines) == 6
    for line, (peak, warmup) in zip(ax.lines, [(p, w) for p in peaks for w in warmups], strict=True):
        x, y = data(line)
        np.testing.assert_allclose(y, cosine(x, peak, warmup, 1_000), rtol=1e-4, atol=1e-9)
    colours = [to_hex(line.get_color()) for line in ax.lines]
    assert colours[0] == colours[1] != colours[2]
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "peak_value"
    assert bar.get_ylim() == (1e-4, 1e-3)
    assert [t.get_text() for t in bar.get_yticklabels()] == ["1e-04", "3e-04", "1e-03"]
    assert named(ax) == ["0", "50"]
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()


def test_the_scale_of_the_colours() -> None:
    wide = plot(js.grid(js.Linear, init_value=np.geomspace(1e-5, 1e-1, 9).tolist(), end_value=0.0, steps=50))
    assert wide.figure.axes[1].get_yscale() == "log"
    assert wide.figure.axes[1].get_ylim() == pytest.approx((1e-5, 1e-1))
    narrow = plot(js.grid(js.Linear, init_value=[0.1, 0.2, 0.3], end_value=0.0, steps=50))
    assert narrow.figure.axes[1].get_yscale() == "linear"
    S = js.stack(*(js.WarmupCosine(0.1 + 0.001 * i, i % 7, 50, end_value=0.001 * (i % 5)) for i in range(60)))
    ax = plot(S)
    assert ax.get_title() == "60 x WarmupCosine (warmup_steps, end_value differ too)"
    assert plot(S, labels="end_value").figure.axes[1].get_ylabel() == "end_value"
    viridis = [to_hex(c) for c in mpl.colormaps["viridis"]([0.0, 0.88])]
    assert [to_hex(narrow.lines[i].get_color()) for i in (0, 2)] == viridis


def test_momentum_stands_beside_the_rate() -> None:
    rate, momentum = js.OneCycle(0.1, 200), js.OneCycleMomentum(0.85, 0.95, 200)
    ax = plot(rate, momentum=momentum)
    assert ax is ax.figure.axes[0]
    below = ax.figure.axes[1]
    assert below.get_ylabel() == "momentum"
    assert below.get_shared_x_axes().joined(ax, below)
    assert ax.get_xlabel() == ""
    assert below.get_xlabel() == "step"
    _, y = data(below.lines[0])
    assert y[0] == pytest.approx(0.95)
    assert np.argmin(y) == 59, "lowest where the rate is highest, at step 0.3 * 200 - 1"
    assert np.argmax(data(ax.lines[0])[1]) == 59
    several = plot([rate, js.OneCycle(0.2, 200)], momentum=[momentum, 0.9])
    pairs = zip(several.lines, several.figure.axes[1].lines, strict=True)
    assert all(a.get_color() == b.get_color() for a, b in pairs)
    assert len(plot([rate, 0.2], momentum=0.9).figure.axes[1].lines) == 1


def test_on_axes_of_the_caller() -> None:
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    assert plot(js.Linear(1.0, 0.0, 10), ax=left, title="") is left
    assert left.get_title() == ""
    assert plot(js.OneCycle(0.1, 100), momentum=0.9, ax=right) is right
    assert len(figure.axes) == 3
    figure.draw_without_rendering()
    below = figure.axes[2]
    assert below.get_position().y1 < right.get_position().y0
    bare = Figure()
    ax = bare.add_axes((0.1, 0.1, 0.8, 0.8))
    plot(js.OneCycle(0.1, 100), momentum=0.9, ax=ax)
    assert bare.axes[1].get_position().y1 < ax.get_position().y0


MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}


@pytest.mark.parametrize("kind", MAGIC)
def test_files(kind: str, tmp_path: Path) -> None:
    path, again = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    s = js.WarmupCosine(0.1, 5, 50)
    plot(s, path=path)
    plot(s, path=str(again))
    assert path.read_bytes().startswith(MAGIC[kind])
    assert path.read_bytes() == again.read_bytes(), "the same picture is the same file"


def test_what_is_not_finite() -> None:
    ax = plot(lambda t: jnp.log(t - 5.0), 50, phases=False)
    x, y = data(ax.lines[0])
    assert np.isnan(y[x <= 5]).all()
    np.testing.assert_allclose(y[x > 5], np.log(x[x > 5] - 5), atol=1e-6)
    assert all(np.isfinite(ax.get_ylim()))
    ax.figure.draw_without_rendering()
    plot(lambda t: t * jnp.nan, 50).figure.draw_without_rendering()


def test_a_constant_and_negative_values() -> None:
    low, high = plot(0.1, 20).get_ylim()
    assert low <= 0
    assert high > 0.1
    low, high = plot(js.Linear(-2.0, -1.0, 20)).get_ylim()
    assert low < -2
    assert -1.01 < high < 0


GRID = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=9)

ERRORS = [
    (lambda: plot(js.Constant(0.1)), "write steps="),
    (lambda: plot(js.WarmupConstant), r"a class; write a schedule of it: WarmupConstant\(peak_value, warmup_steps"),
    (lambda: plot([]), "schedules=\\[\\] is empty"),
    (lambda: plot("Linear(1, 0, 5)"), "schedules='Linear.*is text"),
    (lambda: plot([js.Constant(1.0), None], 5), r"schedules\[1\]=None is a NoneType"),
    (lambda: plot(0.1, 0), "steps=0; write 1 or more"),
    (lambda: plot(0.1, -5), "steps=-5"),
    (lambda: plot(0.1, 2.5), "steps=2.5; write a whole number"),
    (lambda: plot(0.1, LAST + 1), "jax_enable_x64"),
    (lambda: plot(0.1, "3ep"), "steps='3ep' has a unit; write timeline=Timeline"),
    (lambda: plot(0.1, "3ep", timeline=js.Timeline(9)), "steps_per_epoch"),
    (lambda: plot(0.1, 5, timeline=100), "timeline=100; write Timeline"),
    (lambda: plot(0.1, 5, unit="epochs"), "unit='epochs'; did you mean 'epoch'"),
    (lambda: plot(0.1, 5, unit="epoch"), "unit='epoch' needs the steps per epoch; write timeline="),
    (lambda: plot(0.1, 5, unit="token", timeline=js.Timeline(9)), "tokens per step"),
    (lambda: plot(0.1, 5, scale="logs"), "scale='logs'; did you mean 'log'"),
    (lambda: plot(js.Linear(1.0, -1.0, 9), scale="log"), "scale='log', and a value is -0.7"),
    (lambda: plot(0.0, 5, scale="log"), "no value is above 0"),
    (lambda: plot([0.1, 0.2], 5, phases=True), "phases=True; draw one schedule alone"),
    (lambda: plot([0.1, 0.2], 5, labels=["a"]), r"labels=\['a'\]; write one for each of the 2"),
    (lambda: plot({"a": 0.1}, 5, labels=["a"]), "a dict, which has names"),
    (lambda: plot(GRID, labels="init_valu"), "did you mean 'init_value'"),
    (lambda: plot(GRID * 0.5, 5), "stacked in part only"),
    (lambda: plot([0.1, 0.2, 0.3], 5, momentum=[0.9, 0.8]), "has 2 schedules, and there are 3"),
    (lambda: plot(0.1, 5, path="a.doc"), "path='a.doc'; end it with .png"),
    (lambda: plot(0.1, 5, ax=3), "ax=3; write the Axes"),
    (lambda: plot(lambda t: 0.1 if t < 3 else 0.01, 5), "jnp.where for an if"),
    (lambda: plot(lambda t: jnp.zeros(3), 5), r"gives values of the shape \(3,\)"),
    (lambda: jax.jit(lambda x: plot(js.Linear(x, 0.0, 5)))(1.0), "outside of jit"),
]


@pytest.mark.parametrize(("call", "says"), ERRORS, ids=[says for _, says in ERRORS])
def test_errors(call, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        call()
    assert str(caught.value).startswith("plot: ") or "Timeline: " in str(caught.value)


def test_without_pyplot_and_without_matplotlib(monkeypatch) -> None:
    for path in Path(inspect.__file__).parent.glob("*.py"):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not any("matplotlib" in ast.unparse(node) or "plotext" in ast.unparse(node) for node in imports), path
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    plot(js.Linear(1.0, 0.0, 5))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(ImportError, match=r'plots need matplotlib: pip install "jaxsched\[plot\]"'):
        plot(js.Linear(1.0, 0.0, 5))
    with pytest.raises(ImportError, match=r'plots in a terminal need plotext: pip install "jaxsched\[cli\]"'):
        inspect.terminal_plot(js.Linear(1.0, 0.0, 5))
