"""The report as a file: what it says, what it must never hold, and that no name gets out of its place."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.sweep import SweepResult
from jaxsched.sweep import report_page as pages

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\"' &amp; $data {0} %s \u2028"
STEPS, LOG_EVERY = 100, 10


def make(schedules, losses, *, curves=None, diverged=(), pruned=None, steps=STEPS, log_every=LOG_EVERY, **more):
    """A result with these final losses (settings, seeds), whose curves fall to them in a line."""
    final = np.array(losses, np.float64)
    windows = steps // log_every
    valid = final[..., None] * np.linspace(2, 1, windows) if curves is None else np.array(curves, np.float64)
    marks = {name: np.full(final.shape, -1, np.int32) for name in ("diverged_at", "pruned_at")}
    for setting, seed, step in diverged:
        marks["diverged_at"][setting, seed] = step
        final[setting, seed] = valid[setting, seed, step // log_every :] = np.nan
    for setting, step in (pruned or {}).items():
        marks["pruned_at"][setting] = step
        final[setting] = valid[setting, :, step // log_every - 1]
        valid[setting, :, step // log_every :] = np.nan
    fields = {"metrics": {"train_loss": valid / 2, "valid_loss": valid}, "final": {"train_loss": final / 2}}
    fields["final"]["valid_loss"] = final
    about = {"seconds": 1.0, "compile_seconds": 0.5, "seeds": tuple(range(final.shape[1]))}
    return SweepResult(
        **fields | about | marks | {"schedules": schedules, "steps": steps, "log_every": log_every} | more
    )


GRID = js.grid(js.WarmupCosine, peak_value=[0.001, 0.1, 0.01], warmup_steps=[0, 10], total_steps=STEPS)
LOSSES = [[0.5, 0.6], [0.3, 0.2], [0.9, 0.1], [0.8, 0.8], [0.1, 0.1], [0.7, 0.7]]
LISTED = [
    {"learning_rate": js.Linear(0.1, 0.0, STEPS), "decay": js.Constant(0.01), "b1": 0.9},
    {"learning_rate": js.WarmupCosine(0.2, 5, STEPS), "b1": 0.95},
]


@pytest.fixture(scope="module")
def plain():
    """Setting 4 would win, but diverged with one seed; 0 was pruned at step 20, and 2 and 3 at step 50."""
    run = {"device": "a device", "steps_done": 940, "command": "jaxsched sweep task.py"}
    return make(GRID, LOSSES, diverged=[(4, 1, 33)], pruned={0: 20, 2: 50, 3: 50}, run=run)


class Reader(html.parser.HTMLParser):
    """The elements of a page, the texts in them, and what the scripts are."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.scripts, self.open, self.texts, self.rows = [], [], [], None, [], []
        self.cell = False
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        self.open = None
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open == "script":
            self.scripts[-1] += data
        elif self.open is None:
            self.texts.append(data)
            if self.cell:
                self.rows[-1][-1] += data

    @property
    def data(self):
        return json.loads(self.scripts[0])

    @property
    def ranking(self):
        """The texts of each column of the ranking, the first table."""
        return dict(zip(self.rows[0], zip(*self.rows[1 : self.data["count"] + 1], strict=True), strict=True))


def read(result, tmp_path, **options):
    path = result.report(tmp_path / "report.html", **options)
    return Reader(path.read_text(encoding="utf-8"))


def decoded(text, columns):
    """The curves of a page: float32 in base64."""
    return np.array([x for (x,) in struct.iter_unpack("<f", base64.b64decode(text))]).reshape(-1, columns)


def drawn(panel):
    """The steps and values of each curve of a panel."""
    if "x" in panel:
        return [(np.array(panel["x"]), row) for row in decoded(panel["y"], len(panel["x"]))]
    steps = np.array([x * panel["unit"] for (x,) in struct.iter_unpack("<i", base64.b64decode(panel["steps"]))])
    ends = np.cumsum(panel["sizes"])[:-1]
    return list(zip(np.split(steps, ends), np.split(decoded(panel["y"], 1)[:, 0], ends), strict=True))


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_curves_are_float32():
    assert decoded(pages.encode([0.0, 0.1, -2.0, 3.3e38]), 1)[:, 0].tolist() == [
        0.0,
        np.float32(0.1),
        -2.0,
        np.float32(3.3e38),
    ]
    assert np.isnan(decoded(pages.encode([np.nan, np.inf, -np.inf, 1e300, -1e300]), 1)).all()
    assert pages.encode(np.zeros((0, 3))) == ""


def test_long_curves_are_drawn_by_stretches_and_rungs_stay(tmp_path):
    """Of a stretch of windows the mean in training, and the last in validation."""
    windows = 600
    curves = np.random.default_rng(0).uniform(1, 2, (2, 1, windows))
    result = make(GRID_OF_TWO, [[1.0], [1.5]], curves=curves, pruned={1: 235}, steps=windows, log_every=1)
    valid, train = read(result, tmp_path).data["curves"]
    assert valid["x"] == train["x"]
    edges = valid["x"]
    assert 200 <= len(edges) <= 257
    assert 235 in edges
    assert edges[-1] == windows
    stretches = [slice(a, b) for a, b in zip([0, *edges[:-1]], edges, strict=True)]
    assert max(part.stop - part.start for part in stretches) > 2
    for rank in (0, 1):
        kept = [part for part in stretches if rank == 0 or part.stop <= 235]
        for panel, true in (
            (valid, [curves[rank, 0, part][-1] for part in kept]),
            (train, [curves[rank, 0, part].mean() / 2 for part in kept]),
        ):
            values = drawn(panel)[rank][1]
            assert values[: len(kept)] == pytest.approx(true, rel=2.0**-16)
            assert np.isnan(values[len(kept) :]).all()


def test_a_stretch_with_gaps(tmp_path):
    curves = np.ones((2, 1, 600))
    curves[0, 0, 300:302] = np.nan, 7.0
    curves[1, 0, 100:400] = np.nan
    result = make(GRID_OF_TWO, [[1.0], [1.5]], curves=curves, steps=600, log_every=1)
    valid, train = (drawn(panel) for panel in read(result, tmp_path).data["curves"])
    assert np.nanmax(valid[0][1]) == 7.0
    assert np.nanmax(train[0][1]) in (3.5, 2.0)  # alone in its stretch, or beside a 1
    assert np.isfinite(valid[0][1]).all()
    assert 0.4 < np.isnan(valid[1][1]).mean() < 0.6


GRID_OF_TWO = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=STEPS)


def test_axes_have_round_numbers(tmp_path):
    rates, warmups = np.geomspace(2e-5, 0.5, 50), np.linspace(0, 499, 50).round()
    S = js.stack(*(js.WarmupConstant(rate, int(n)) for rate, n in zip(rates, warmups, strict=True)))
    panel = read(make(S, np.linspace(1, 2, 50)[:, None]), tmp_path).data["parallel"]
    powers, even, _ = panel["axes"]
    assert [text for _, text in powers["ticks"]] == ["1e-04", "1e-03", "1e-02", "1e-01"]
    assert [text for _, text in even["ticks"]] == ["0", "100", "200", "300", "400"]
    heights = decoded(panel["y"], 3)
    assert heights[:, 0] == pytest.approx(np.linspace(0, 1, 50), abs=1e-4)
    assert heights[:, 1] == pytest.approx(warmups / 499, abs=1e-4)
    some = [{"rate": js.Constant(0.1), "b": 1.0}, {"rate": js.Constant(0.1)}, {"rate": js.Constant(0.1), "b": 3.0}]
    panel = read(make(some, [[1.0], [2.0], [3.0]]), tmp_path).data["parallel"]
    k = [axis["label"] for axis in panel["axes"]].index("b")
    assert panel["axes"][k]["ticks"] == [[-0.1, "none"], [0.0, "1"], [1.0, "3"]]
    assert decoded(panel["y"], len(panel["axes"]))[:, k] == pytest.approx([0.0, -0.1, 1.0], rel=1e-4)


# --- schedules -------------------------------------------------------------------------------------------------------


def test_every_restart_is_drawn(tmp_path):
    result = make(
        js.grid(js.CosineWarmRestarts, peak_value=0.1, period=[40, 20]), [[1.0], [2.0]], steps=10_000, log_every=100
    )
    for (steps, values), count in zip(drawn(read(result, tmp_path).data["schedules"][0]), (125, 250), strict=True):
        up = (values[1:] > 0.099) & (values[:-1] < 0.01)
        assert (up & (steps[1:] >= 5_000)).sum() == count
        # Each is upright, at its step.
        assert (np.diff(steps)[up] == 0).all()
        np.testing.assert_array_equal(steps[1:][up], np.arange(1, 10_000 // (5_000 // count)) * (5_000 // count))


def test_a_milestone_stands_at_its_step(tmp_path):
    S = js.grid(js.PiecewiseConstant, boundaries=[[4, 9_970]], values=[[0.1, 0.05, 0.01], [0.2, 0.1, 0.02]])
    result = make(S, [[1.0], [2.0]], steps=10_000, log_every=100)
    for rank, (steps, values) in enumerate(drawn(read(result, tmp_path).data["schedules"][0])):
        assert values[steps < 4] == pytest.approx(0.1 * (rank + 1), rel=1e-4)
        assert values[(steps > 4) & (steps < 9_970)] == pytest.approx(0.05 * (rank + 1), rel=1e-4)
        assert values[steps > 9_970] == pytest.approx(0.01 * (rank + 1), rel=1e-4)
        assert values[steps == 9_970] == pytest.approx([0.05 * (rank + 1), 0.01 * (rank + 1)], rel=1e-4)
        assert (steps[0], steps[-1]) == (0, 9_999)


@pytest.mark.trial
def test_the_lows_and_highs_of_thousands_are_drawn(tmp_path):
    """In every stretch of a hundredth of the training, to its steps."""
    periods = np.arange(2_000) % 37 + 5
    S = js.CosineWarmRestarts(*(np.broadcast_to(x, 2_000) for x in (0.1, periods, 1.0, 0.0, 1.0)))
    result = make(S, np.arange(2_000)[:, None], steps=1_000)
    path = result.report(tmp_path / "report.html")
    assert path.stat().st_size < 15e6
    panel = Reader(path.read_text(encoding="utf-8")).data["schedules"][0]
    assert sum(panel["sizes"]) <= 7e6 / (16 / 3) / 2
    lines = drawn(panel)
    for rank in (0, 1, 36, 1_000, 1_999):
        steps, values = lines[rank]
        true = 0.05 * (1 + np.cos(np.pi * (np.arange(1_000) % periods[rank]) / periods[rank]))
        for part in (slice(at, at + 50) for at in range(0, 1_000, 50)):
            inside = values[(steps >= part.start) & (steps < part.stop)]
            assert inside.max() == pytest.approx(true[part].max(), rel=1e-4)
            assert inside.min() == pytest.approx(true[part].min(), rel=1e-3, abs=2e-3)


def test_the_highest_step_is_said_exactly(tmp_path):
    S = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=5_013, total_steps=10_000)
    page = read(make(S, [[1.0], [2.0]], steps=10_000, log_every=100), tmp_path)
    said = "The best starts at 0, is highest at step 5,013 with 0.1 and ends at "
    assert said in page.data["schedules"][0]["says"]
    long = make(js.grid(js.WarmupCosine, peak_value=[0.1, 0.2], warmup_steps=123_456_789, total_steps=2**31 - 1),
                [[1.0], [2.0]], steps=2**31 - 1, log_every=2**29)  # fmt: skip
    panel = read(long, tmp_path).data["schedules"][0]
    said = re.search(r"is highest at step ([\d,]+) with 0.1", panel["says"])
    assert abs(int(said.group(1).replace(",", "")) - 123_456_789) < 8  # where a float32 first is 0.1
    steps, values = drawn(panel)[0]
    assert steps[-1] == 2**31 - 2
    assert abs(steps[values.argmax()] - 123_456_789) < 8


# --- what the page says -----------------------------------------------------------------------------------------------


def test_everything_is_in_the_order_of_the_ranks(plain, tmp_path):
    page = read(plain, tmp_path)
    data, columns, none = page.data, page.ranking, "\N{EN DASH}"
    assert plain.order().tolist() == [1, 5, 2, 3, 0, 4]
    assert columns["setting"] == ("1", "5", "2", "3", "0", "4")
    assert columns["peak_value"] == ("0.001", "0.01", "0.1", "0.1", "0.001", "0.01")
    assert "total_steps" not in columns  # it does not differ
    assert columns["pruned at"] == (none, none, "50", "50", "20", none)
    assert columns["diverged"] == ("0", "0", "0", "0", "0", "1")
    means = columns["valid loss, mean ± std"]
    assert means[0] == f"0.25 ± {np.std([0.3, 0.2], ddof=1):.2g}"
    assert (means[1], means[5]) == ("0.7 ± 0", none)
    assert data["best"] == 0
    assert data["lost"] == [5]
    assert data["expressions"] == [repr(plain.settings[i]) for i in plain.order()]
    panel = data["schedules"][0]
    for setting, (steps, values) in zip(plain.order(), drawn(panel), strict=True):
        once = np.append(np.diff(steps) > 0, True)  # and not before a jump
        np.testing.assert_array_equal(steps[once], np.arange(100))
        true = np.asarray(plain.settings[setting](jnp.arange(100)), np.float64)
        assert np.abs(values[once] - true).max() <= 2.0**-16 * true.max()
    losses = data["curves"]
    assert [panel["label"] for panel in losses] == ["valid loss", "train loss"]
    assert [panel["other"] for panel in losses] == [1, 0]
    valid = decoded(losses[0]["y"], len(losses[0]["x"]))
    assert losses[0]["x"] == list(range(10, 101, 10))
    assert valid[0] == pytest.approx(0.25 * np.linspace(2, 1, 10), rel=1e-4)
    assert np.isfinite(valid[2]).tolist() == [True] * 5 + [False] * 5


def test_what_the_text_says(plain, tmp_path):
    page = read(plain, tmp_path)
    for words in (
        "6 settings with 2 seeds each, 100 steps a training.",
        "Best valid loss 0.25 at peak_value=0.001, warmup_steps=10; 1 of 6 settings diverged.",
        # 2 trainings spared 80 steps each, and 4 spared 50.
        "Pruning spared 360 of 1,200 steps, 30% of what all would have taken. 940 steps were done.",
        "3 of 6 settings were pruned.",
        "1 of 6 settings diverged with some seed, 1 of 12 trainings in all",
        "jaxsched sweep task.py",
        "a device",
        repr(plain.best()),
        f"jaxsched {js.__version__}",
    ):
        assert words in page.text, words
    # The rungs: at 20 two trainings went, at 50 four more, and one had diverged at 33.
    assert "20 2 160 10" in page.text
    assert "50 4 200 5" in page.text
    labels = [value for tag, name, value in page.attributes if name == "aria-label" and tag == "div"]
    assert len([label for label in labels if "best valid loss 0.25 at peak_value=0.001" in label]) == 1
    assert page.tags.count("caption") == page.tags.count("table") == 3  # the ranking, what diverged, what was pruned
    assert "noscript" in page.tags
    assert ("html", "lang", "en") in page.attributes


def test_a_command_that_is_given_comes_first(plain, tmp_path):
    page = read(plain, tmp_path, command="python mine.py", title="Mine")
    assert "python mine.py" in page.text
    assert "jaxsched sweep task.py" not in page.text
    assert "Mine" in page.text
    assert "No command was given" in read(make(GRID, LOSSES), tmp_path).text


def test_another_metric(plain, tmp_path):
    losses = np.array(LOSSES)
    accuracy = {"valid_accuracy": 1 - losses}
    both = make(GRID, LOSSES, final={"valid_loss": losses} | accuracy)
    page = read(both, tmp_path, metric="valid_accuracy", mode="max")
    assert page.ranking["setting"] == tuple(map(str, both.order("valid_accuracy", "max")))
    assert "highest mean of the final valid accuracy" in page.text


def test_pytrees_and_families(tmp_path):
    page = read(make(LISTED, [[0.2, 0.3], [0.1, 0.3]]), tmp_path)
    data = page.data
    assert [panel["label"] for panel in data["schedules"]] == ["learning rate", "decay"]
    (_, none), (_, decay) = drawn(data["schedules"][1])
    assert none.tolist() == []  # the best has none
    assert decay == pytest.approx(0.01, rel=1e-4)
    columns = page.ranking
    assert columns["b1"] == ("0.95", "0.9")
    assert columns["learning_rate.peak_value"] == ("0.2", "\N{EN DASH}")
    assert columns["family"][0] == "b1, learning_rate: WarmupCosine"
    assert data["parallel"]["axes"][0]["label"] == "family"
    assert 'id="schedules-select"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_diverged_does_not_choose_the_view(tmp_path):
    curves = np.ones((2, 1, 10)) * np.linspace(2, 1, 10)
    curves[1, 0, 3] = 1e30
    result = make(GRID_OF_TWO, [[1.0], [1.0]], curves=curves, diverged=[(1, 0, 45)])
    panel = read(result, tmp_path).data["curves"][0]
    assert 0.9 < panel["low"] < 1
    assert 2 < panel["high"] < 2.2
    finite = read(make(GRID_OF_TWO, [[1.0], [1.0]], curves=curves), tmp_path).data["curves"][0]
    assert (finite["low"], finite["high"]) == (panel["low"], panel["high"])  # exploded, and not marked as diverged
    curves = np.full((3, 1, 10), 0.05)
    curves[2] = np.linspace(15, 3, 10)  # learns slowly, where the others had learned in the first window
    slow = make(js.grid(js.Linear, init_value=[0.1, 0.2, 1e-4], end_value=0.0, steps=100), [[0.05]] * 3, curves=curves)
    assert read(slow, tmp_path).data["curves"][0]["high"] >= 15
    assert slow.plot().axes[1].get_ylim()[1] >= 15
    assert "swatch grey" not in slow.report(tmp_path / "slow.html").read_text().partition("</section>")[0]
    rates = make(js.grid(js.Linear, init_value=[1e-4, 0.1], end_value=0.0, steps=100), [[1.0], [1.0]])
    assert read(rates, tmp_path).data["schedules"][0]["log"]
    assert not panel["log"]


# --- the odd ones ----------------------------------------------------------------------------------------------------

NAN = np.full((2, 1, 10), np.nan)
ODD = {
    "all diverged": (make(GRID, LOSSES, diverged=[(i, 0, 5 * i) for i in range(6)]), "every setting diverged"),
    "all that finished": (
        make(GRID, LOSSES, diverged=[(i, 0, 3) for i in range(1, 6)], pruned={0: 20}),
        "every setting that was not pruned diverged with some seed. The best of the pruned ones is rank 1",
    ),
    "one setting": (make([js.Constant(0.1)], [[0.5, 0.6]]), "No hyperparameter differs"),
    "one seed": (make(GRID_OF_TWO, [[0.5], [0.6]]), "how far valid loss spreads by chance cannot be told"),
    "curves of NaN": (make(GRID_OF_TWO, [[0.5], [0.6]], curves=NAN), "No training diverged."),
    "all NaN": (make(GRID_OF_TWO, [[np.nan], [np.nan]], curves=NAN), "but valid loss did in 2"),
    "nothing logged": (make(GRID_OF_TWO, [[0.5], [0.6]], log_every=1_000), "are fewer than log_every=1,000"),
    "no curves": (make(GRID_OF_TWO, [[0.5], [0.6]], metrics={}), "holds no curves"),
    "numbers": (make(np.array([0.1, 0.2]), [[0.5], [0.6]]), "there is no schedule to draw"),
    "one step": (make(GRID_OF_TWO, [[0.5], [0.6]], steps=1, log_every=1), "1 step a training"),
    "negative": (make(GRID_OF_TWO, [[-0.5], [0.0]]), "Best valid loss -0.5"),
    "tables": (
        make(js.grid(js.PiecewiseConstant, boundaries=[[30], [60]], values=[[0.1, 0.01]]), [[0.5], [0.6]]),
        "at boundaries=[30]",
    ),
    "long": (
        make(js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=2**31 - 1), [[1.0], [2.0]],
             steps=2**31 - 1, log_every=2**29),
        "2,147,483,647 steps",
    ),
    "bfloat16": (make(js.Constant(jnp.array([0.1, 0.2], jnp.bfloat16)), [[1.0], [2.0]]), "none diverged"),
    "no pruning": (make(GRID_OF_TWO, [[0.5], [0.6]]), "Nothing was pruned"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_the_odd_ones_are_said_in_words(name, tmp_path):
    result, words = ODD[name]
    page = read(result, tmp_path)
    assert words in page.text
    assert len(page.ranking["rank"]) == len(result.settings)


# --- one file, which loads nothing -----------------------------------------------------------------------------------


def test_the_page_loads_nothing(plain, tmp_path):
    from plotly.offline import get_plotlyjs

    path = plain.report(tmp_path / "report.html", command=HOSTILE)
    text = path.read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == 1
    own = text.replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|//cdn|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", own)
    page = Reader(own)
    assert not {"img", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "href", "action", "srcset", "data", "poster")]
    assert not [a for a in page.attributes if a[1].startswith("on")]


def test_the_policy_admits_these_scripts_only(plain, tmp_path):
    page = read(plain, tmp_path)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].count("'sha256-") == 2
    assert "unsafe" not in rules["script-src"]
    assert "connect-src" not in rules
    assert len(page.scripts) == 3  # the data, plotly, ours
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]


def test_names_cannot_get_out(tmp_path):
    setting = {HOSTILE: js.Linear(0.1, 0.0, STEPS), "b": 0.1}
    other = {HOSTILE: js.Linear(0.2, 0.0, STEPS), "b": 0.1}
    losses, curves = np.array([[0.5], [0.6]]), np.ones((2, 1, 10))
    named = {HOSTILE + "loss": curves}
    result = make([setting, other], losses, metrics=named, final={HOSTILE + "loss": losses}, run={HOSTILE: HOSTILE})
    page = read(result, tmp_path, metric=HOSTILE + "loss", title=HOSTILE, command=HOSTILE)
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    data = page.data
    assert data["expressions"] == [repr(setting), repr(other)]
    assert data["schedules"][0]["label"] == HOSTILE
    shown = " ".join(HOSTILE.split())
    assert page.text.count(shown) > 5


def test_the_same_result_gives_the_same_page(plain, tmp_path):
    first, second = (plain.report(tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second
    assert b"\r" not in first.replace(b"\\r", b"")


def test_the_file_appears_when_it_is_complete(plain, tmp_path, monkeypatch):
    path = tmp_path / "new" / "folder" / "report.html"
    assert plain.report(str(path)) == path
    old = path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]

    def broken(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(pages.os, "replace", broken)
    with pytest.raises(OSError, match="the disk is full"):
        plain.report(path, title="another")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.read_bytes() == old


# --- errors ----------------------------------------------------------------------------------------------------------


def test_bad_arguments(plain, tmp_path):
    with pytest.raises(KeyError, match="metric='valid_los'; did you mean 'valid_loss'"):
        plain.report(tmp_path / "x.html", "valid_los")
    with pytest.raises(ValueError, match="mode='least'; write mode='max' or mode='min'"):
        plain.report(tmp_path / "x.html", mode="least")
    with pytest.raises(ValueError, match=r"is a folder; write a file in it, such as .*report\.html"):
        plain.report(tmp_path)
    with pytest.raises(TypeError, match="path=3; write the name of a file"):
        plain.report(3)
    with pytest.raises(TypeError, match="path=''; write the name of a file"):
        plain.report("")
    with pytest.raises(TypeError, match=r"command=\['jaxsched', 'sweep'\]; write it as one text"):
        plain.report(tmp_path / "x.html", command=["jaxsched", "sweep"])
    with pytest.raises(TypeError, match="title=7; write it as one text"):
        plain.report(tmp_path / "x.html", title=7)
    assert list(tmp_path.iterdir()) == []


def test_without_plotly(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setattr("jaxsched.sweep.report._Report", None)  # it is said before the work
    with pytest.raises(ImportError, match=r'reports need plotly: pip install "jaxsched\[report\]"'):
        plain.report(tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []
