"""What comes out of a sweep: the order, tables, files, statistics and figures, on results whose numbers are known."""

import dataclasses
import itertools
import json
import sys
import typing
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.sweep import SweepResult
from jaxsched.sweep.frames import family

STEPS, LOG_EVERY = 23, 5


class Halving(js.Schedule):
    """A schedule of a user."""

    init_value: js.fields.Scalar
    every: js.fields.Length

    def value(self, step):
        return self.init_value * 0.5 ** js.schedules.shapes.floor_div(step, self.every)


class Pair(typing.NamedTuple):
    learning_rate: typing.Any
    b1: typing.Any


def rising(step):
    return step * 0.1


GRID = js.grid(js.WarmupCosine, peak_value=[0.1, 0.2, 0.4], warmup_steps=[0, 5], total_steps=STEPS)
MIXED = [
    js.WarmupCosine(0.1, 2, STEPS),
    js.WarmupStableDecay(0.2, 2, STEPS, 5),
    js.WarmupCosine(0.4, 2, STEPS),
    js.Ramp(0.1, 0.0, STEPS, shape="sqrt"),
]


def make(schedules, losses, seeds=None, diverged=(), pruned=None, curves=None, **more):
    """A result with these final losses (settings, seeds); `pruned`: setting -> step."""
    losses = np.asarray(losses, np.float32)
    seeds = tuple(range(losses.shape[1])) if seeds is None else seeds
    marks = {name: np.full(losses.shape, -1, np.int32) for name in ("diverged_at", "pruned_at")}
    windows = STEPS // LOG_EVERY
    valid = losses[..., None] * np.linspace(2, 1, windows, dtype=np.float32) if curves is None else curves
    for setting, seed, step in diverged:
        marks["diverged_at"][setting, seed] = step
        losses[setting, seed] = np.nan
        valid[setting, seed, step // LOG_EVERY :] = np.nan
    for setting, step in (pruned or {}).items():
        marks["pruned_at"][setting] = step
        valid[setting, :, step // LOG_EVERY :] = np.nan
        losses[setting] = valid[setting, :, step // LOG_EVERY - 1]
    metrics = {"train_loss": valid * 2, "valid_loss": valid, "valid_accuracy": 1 - valid}
    final = {"train_loss": losses * 2, "valid_loss": losses, "valid_accuracy": 1 - losses}
    return SweepResult(
        metrics=metrics, final=final, schedules=schedules, seeds=seeds, steps=STEPS, log_every=LOG_EVERY,
        seconds=1.5, compile_seconds=0.25, **marks, **more,
    )  # fmt: skip


LOSSES = [[0.5, 0.6], [0.3, 0.2], [0.9, 0.1], [0.8, 0.8], [0.1, 0.1], [0.7, 0.7]]
FACTS = {"chunk": 16, "devices": ["cpu:0"], "steps_saved": 12, "share": 0.1}


@pytest.fixture(scope="module")
def plain():
    """Setting 4 would win, but diverged with one seed; 0 was pruned at step 5, and 2 and 3 at step 10."""
    return make(GRID, LOSSES, seeds=(3, 8), diverged=[(4, 1, 12)], pruned={0: 5, 2: 10, 3: 10}, run=FACTS)


@pytest.fixture(scope="module")
def mixed():
    return make(MIXED, [[0.3, 0.4], [0.2, 0.1], [0.8, 0.6], [0.5, 0.5]], pruned={2: 10}, run=FACTS)


# --- the order -------------------------------------------------------------------------------------------------------


def test_finished_then_pruned_then_diverged(plain):
    # 1 (0.25) and 5 (0.7) finished; of those that were pruned 2 and 3 came further, and 0.5 < 0.8.
    assert plain.order().tolist() == [1, 5, 2, 3, 0, 4]
    assert plain.order("valid_accuracy", "max").tolist() == [1, 5, 2, 3, 0, 4]
    assert plain.order("valid_accuracy", "min").tolist() == [5, 1, 3, 2, 0, 4]
    rows = plain.ranking()
    assert [row["setting"] for row in rows] == [1, 5, 2, 3, 0, 4]
    assert [row["pruned_at"] for row in rows] == [-1, -1, 10, 10, 5, -1]
    assert [row["diverged"] for row in rows] == [0, 0, 0, 0, 0, 1]
    assert list(rows[0]) == [
        "peak_value", "warmup_steps", "total_steps", "init_value", "end_value",
        "mean", "std", "seeds", "diverged", "pruned_at", "setting",
    ]  # fmt: skip
    assert rows[0]["mean"] == np.float32([0.3, 0.2]).astype(np.float64).mean()
    assert repr(plain.best()) == repr(js.unstack(GRID)[1])
    assert "6 settings x 2 seeds, 23 steps each, 1 diverged, 6 pruned" in repr(plain)


def test_nothing_that_was_pruned_is_best():
    lost = make(GRID, LOSSES, pruned={0: 5}, diverged=[(i, 0, 3) for i in range(1, 6)])
    assert lost.order()[0] == 0
    with pytest.raises(ValueError, match=r"not pruned diverged .* is result.settings\[0\], at step 5"):
        lost.best()
    with pytest.raises(ValueError, match="every setting diverged"):
        make(GRID, LOSSES, diverged=[(i, 0, 3) for i in range(6)]).best()


def test_an_old_call_has_nothing_pruned():
    old = SweepResult({}, {"valid_loss": np.ones((2, 1))}, np.full((2, 1), -1), MIXED[:2], (0,), 5, 5, 0.0, 0.0)
    assert old.pruned_at.tolist() == [[-1], [-1]]
    assert old.pruned_at.dtype == np.int32
    assert old.run == {}
    assert "pruned" not in repr(old)


def test_families_side_by_side(mixed):
    rows = mixed.ranking()
    assert len({tuple(row) for row in rows}) == 1  # one heading for all
    assert [row["family"] for row in rows] == [
        "WarmupStableDecay",
        "WarmupCosine",
        "Ramp(shape='sqrt')",
        "WarmupCosine",
    ]
    assert [row["decay_steps"] for row in rows] == [5, None, None, None]
    assert [row["peak_value"] for row in rows] == [0.2, 0.1, None, 0.4]
    assert [row["setting"] for row in rows] == [1, 0, 3, 2]
    assert mixed.best() is MIXED[1]
    assert mixed.settings == MIXED
    assert not make(GRID, LOSSES).mixed


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (js.Linear(1.0, 0.0, 3).then(js.Constant(1.0), at=3), "Join(Linear, Constant)"),
        (js.Lambda(rising), "Lambda(fn=rising)"),
        ({"a": js.Noam(5, 3), "b": (1.0, js.Constant(2.0))}, "a: Noam, b.0, b.1: Constant"),
        (0.1, "number"),
    ],
)
def test_a_family_is_all_but_the_numbers(setting, says):
    assert family(setting) == says


def test_plain_numbers_beside_schedules():
    settings = [{"learning_rate": js.Constant(0.1), "patience": n} for n in (2, 5)]
    stacked = {"learning_rate": js.stack(*(s["learning_rate"] for s in settings)), "patience": np.array([2, 5])}
    for schedules in (settings, stacked):
        result = make(schedules, [[0.5], [0.4]])
        assert result.best()["patience"] == 5
        assert [row["patience"] for row in result.ranking()] == [5, 2]
        assert result.to_pandas().patience.tolist() == [2, 5]
        assert len(result.plot().axes) == 3  # one schedule, the losses and the ranks


# --- tables ----------------------------------------------------------------------------------------------------------


def test_xarray(plain):
    xarray = pytest.importorskip("xarray")
    data = plain.to_xarray()
    assert isinstance(data, xarray.Dataset)
    assert dict(data.sizes) == {"setting": 6, "seed": 2, "step": 4}
    assert data.step.values.tolist() == [5, 10, 15, 20]
    assert data.seed.values.tolist() == [3, 8]
    for name in plain.metrics:
        assert data[name].dims == ("setting", "seed", "step")
        assert np.array_equal(data[name].values, plain.metrics[name], equal_nan=True)
        assert np.array_equal(data[f"final_{name}"].values, plain.final[name], equal_nan=True)
    # A selection by a hyperparameter finds the setting that has it.
    chosen = data.where((data.peak_value == 0.4) & (data.warmup_steps == 5), drop=True)
    assert chosen.setting.values.tolist() == [5]
    np.testing.assert_allclose(chosen.final_valid_loss.values, [[0.7, 0.7]])
    assert chosen.schedule.item() == repr(js.unstack(GRID)[5])
    assert data.pruned_at.values[:, 0].tolist() == [5, -1, 10, 10, -1, -1]
    assert (data.attrs["steps"], data.attrs["run_chunk"], data.attrs["run_devices"]) == (23, 16, '["cpu:0"]')
    assert "family" not in data.coords


def test_xarray_of_families_and_names_that_clash(mixed):
    pytest.importorskip("xarray")
    data = mixed.to_xarray()
    assert data.family.values.tolist()[3] == "Ramp(shape='sqrt')"
    assert np.array_equal(data.decay_steps.values, [np.nan, 5, np.nan, np.nan], equal_nan=True)
    noisy = js.grid(js.Constant(0.1).noise(0.1), seed=[4, 5])
    tables = [js.PiecewiseConstant([3, 6], [a, 0.25, 0.125]) for a in (0.5, 2.0)]
    small = js.stack(*(js.Constant(jnp.bfloat16(x)) for x in (0.5, 2.0)))
    for settings, name, values in (
        (noisy, "setting.seed", [4, 5]),
        (tables, "values", ["[0.5, 0.25, 0.125]", "[2.0, 0.25, 0.125]"]),
        (small, "constant_value", [0.5, 2.0]),
    ):
        result = make(settings, [[0.5], [0.4]])
        assert result.to_xarray()[name].values.tolist() == values
        assert result.to_pandas()[name].tolist() == values


def test_pandas(plain, mixed):
    pandas = pytest.importorskip("pandas")
    table = plain.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 12
    assert list(table)[:3] == ["setting", "seed", "schedule"]
    row = table[(table.setting == 2) & (table.seed == 8)].iloc[0]
    assert row.valid_loss == plain.final["valid_loss"][2, 1]
    assert (row.peak_value, row.warmup_steps, row.pruned_at, row.diverged_at) == (0.2, 0, 10, -1)
    # The means by pandas, which leaves NaN out, are those of numpy for settings that did not diverge.
    means = table.groupby("setting").valid_loss.mean()
    expected = plain.final["valid_loss"].mean(axis=1)
    np.testing.assert_allclose(means.drop(4), np.delete(expected, 4), rtol=1e-6)

    curves = plain.to_pandas(curves=True)
    assert len(curves) == 6 * 2 * 4
    pivot = curves.pivot_table(index=["setting", "seed"], columns="step", values="valid_loss", dropna=False)
    assert np.array_equal(pivot.to_numpy().reshape(6, 2, 4), plain.metrics["valid_loss"], equal_nan=True)
    one = curves[(curves.setting == 5) & (curves.seed == 3)]
    assert one.step.tolist() == [5, 10, 15, 20]
    assert set(one.peak_value) == {0.4}
    assert mixed.to_pandas().family.tolist()[::2] == [family(s) for s in MIXED]


def test_json(plain, mixed, tmp_path):
    for result in (plain, mixed):
        read = json.loads(result.to_json(tmp_path / "new" / "result.json").read_text())
        assert read == result.to_dict()
        assert read["pruned_at"] == result.pruned_at.tolist()
        assert read["run"] == FACTS
    assert read["settings"][3] == {
        "schedule": repr(MIXED[3]),
        "hyperparameters": {"init_value": 0.1, "end_value": 0.0, "steps": 23},
    }
    lost = plain.to_dict()
    assert (lost["version"], lost["seeds"], lost["steps"], lost["log_every"]) == (2, [3, 8], STEPS, LOG_EVERY)
    assert lost["final"]["valid_loss"][4] == [pytest.approx(0.1), None]
    for name, values in plain.metrics.items():
        np.testing.assert_allclose(np.array(lost["metrics"][name], np.float32), values)


# --- one file --------------------------------------------------------------------------------------------------------


def same(a, b):
    """Equal to the last bit, with the same types; JAX arrays come back as numpy's."""
    if isinstance(a, jax.Array):
        a = np.asarray(a)
    assert type(a) is type(b)
    if isinstance(a, (np.ndarray, np.generic)):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(a, js.Schedule):
        same(a.__getstate__(), b.__getstate__())
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, float):
        assert a.hex() == b.hex()
    else:
        assert a == b


SETTINGS = {
    "grid": GRID,
    "mixed": MIXED,
    "a pytree": {"learning_rate": GRID, "b1": js.stack(*[js.Constant(0.9)] * 6)},
    "numbers": [
        {"learning_rate": js.Constant(0.1), "patience": 5, "factor": np.float32(0.1), "more": [True, None, (1,)]},
        {7: 1},
    ],
    "a named tuple": [Pair(js.Constant(0.1), float("inf")), Pair(2**70, float("nan"))],
    "a user's": [Halving(0.1, 3), Pair(js.Lambda(rising), js.Lambda(jnp.sin))],
    "composites": [js.Linear(1.0, 0.1, 5).warmup(3).repeat(9, cycles=4) * 0.5 + js.Constant(1e-3).noise(0.1)],
    "tables": [js.PiecewiseConstant([3, 6], [0.1, 0.01, 0.001]), js.PiecewiseInterpolate([0, 9], [1.0, 0.0], "pchip")],
    "other types": [js.Constant(jnp.bfloat16(0.1)), js.Constant(np.float64(1) / 3), js.Noam(np.int64(512), 9)],
    "bfloat16": js.stack(*(js.Constant(jnp.bfloat16(x)) for x in (0.1, 0.2))),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_everything_comes_back_to_the_last_bit(name, tmp_path):
    settings = SETTINGS[name]
    count = len(settings) if isinstance(settings, list) else len(jax.tree.leaves(settings)[0])
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(count, 2))
    result = make(settings, losses, seeds=(3, 2**31), diverged=[(0, 1, 12)], run=FACTS | {"nan": float("nan")})
    odd = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001], np.uint32).view(np.float32)  # NaNs with a payload
    result.metrics["valid_loss"][0, 0] = odd
    result.final["x/../y'"] = np.asfortranarray(losses)
    path = result.save(tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "result.npz"
    read = SweepResult.load(tmp_path / "a" / "b")
    for field in dataclasses.fields(SweepResult):
        same(getattr(result, field.name), getattr(read, field.name))
    assert read.order().tolist() == result.order().tolist()
    for a, b in zip(result.settings, read.settings, strict=True):
        for s, t in zip(
            *(jax.tree.leaves(x, is_leaf=lambda x: isinstance(x, js.Schedule)) for x in (a, b)), strict=True
        ):
            if isinstance(s, js.Schedule):
                assert repr(s) == repr(t)
                assert np.array_equal(s.table(30), t.table(30), equal_nan=True)


def test_numpy_reads_it_without_pickle(plain, tmp_path):
    with np.load(plain.save(tmp_path), allow_pickle=False) as file:
        assert np.array_equal(file["final/valid_loss"], plain.final["valid_loss"], equal_nan=True)
        assert json.loads(file["about"].tobytes())["form"] == 1


def test_a_save_takes_the_place_of_the_one_before_or_leaves_it(plain, mixed, tmp_path, monkeypatch):
    plain.save(tmp_path)

    def full(*args, **kwargs):
        args[0].write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            mixed.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]
    assert SweepResult.load(tmp_path).order().tolist() == plain.order().tolist()
    mixed.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]
    assert SweepResult.load(tmp_path).settings[3].shape == "sqrt"


def local_class():
    class Local(js.Schedule):
        init_value: js.fields.Scalar

        def value(self, step):
            return self.init_value + 0.0 * step

    return Local(1.0)


@jax.tree_util.register_pytree_node_class
class Box:
    def tree_flatten(self):
        return (1.0,), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            js.Lambda(lambda step: step),
            r"schedules/0/fn is .*cannot be found again by its name; write it",
        ),
        (js.Lambda(local_class), None),
        (local_class(), r"schedules/0 is Local\(init_value=1.0\), .*local_class.<locals>.Local"),
        ({"a": Box()}, "schedules/0/a is .*, a Box; a file holds numbers, text, arrays"),
        ({"a": np.array([None])}, "schedules/0/a is an array of objects"),
        ({(1, 2): 1.0}, r"schedules/0 has the key \(1, 2\)"),
        ({"a": jax.random.key(0)}, r"schedules/0/a is a random key; write .*jax.random.key_data\(key\)"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(setting, says, tmp_path):
    result = make([setting], [[1.0]])
    if says is None:
        result.save(tmp_path)
        return
    with pytest.raises(TypeError, match=f"SweepResult.save: {says}"):
        result.save(tmp_path)
    assert not list(tmp_path.iterdir())


def changed(path, old, new):
    """The file again, with other words in its text."""
    with np.load(path) as file:
        arrays = dict(file)
    text = arrays.pop("about").tobytes()
    assert old in text
    np.savez(path, about=np.frombuffer(text.replace(old, new), np.uint8), **arrays)


def test_a_class_that_is_not_there_can_be_handed_over(tmp_path):
    path = make([Halving(0.1, 3)], [[1.0]]).save(tmp_path)
    here = f"{__name__}:Halving".encode()
    changed(path, here, b"a_script_of_mine:Halving")
    with pytest.raises(ImportError, match=r"a Halving of a_script_of_mine, .*load\(directory, known=\[Halving\]\)"):
        SweepResult.load(tmp_path)
    read = SweepResult.load(tmp_path, known=[Halving])
    assert repr(read.settings[0]) == "Halving(init_value=0.1, every=3)"
    changed(path, b"a_script_of_mine:Halving", b"os:system")  # no schedule, and so it is not made one
    with pytest.raises(TypeError, match=r"holds a os:system, which now is"):
        SweepResult.load(tmp_path)
    changed(path, b"os:system", here)
    changed(path, b'["every"', b'["each"')
    with pytest.raises(ValueError, match="fields init_value, each and now has init_value, every"):
        SweepResult.load(tmp_path)


def test_a_file_that_is_not_whole_is_refused(plain, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere.*result.save\('.*nowhere'\) writes it"):
        SweepResult.load(tmp_path / "nowhere")
    path = plain.save(tmp_path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for broken in (whole[:-100], whole[:50], b"", b"nothing of ours", flipped):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="is broken, or is no saved result"):
            SweepResult.load(tmp_path)
    path.write_bytes(whole)
    changed(path, b'"form": 1', b'"form": 9')
    with pytest.raises(ValueError, match="has form 9, and this jaxsched reads form 1"):
        SweepResult.load(tmp_path)
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new", "w") as new:
        for name in old.namelist():
            if "final" not in name:
                new.writestr(name, old.read(name))
    (tmp_path / "new").rename(path)
    with pytest.raises(ValueError, match="the array 'final/train_loss' is missing"):
        SweepResult.load(tmp_path)


# --- the seeds -------------------------------------------------------------------------------------------------------


def test_spread(plain):
    stats = pytest.importorskip("scipy.stats")
    told = plain.spread()
    values = plain.final["valid_loss"].astype(np.float64)
    np.testing.assert_allclose(told["error"], stats.sem(values, axis=1))
    np.testing.assert_allclose(told["std"], np.std(values, axis=1, ddof=1))
    assert np.isnan([x[4] for x in told.values()]).all()  # it diverged with one seed
    assert told["min"][2] == values[2].min()
    assert np.isnan(make(GRID, np.ones((6, 1))).spread()["std"]).all()


def test_the_interval_is_that_of_all_resamples():
    """With three seeds there are 27 resamples, in float64 by hand."""
    pytest.importorskip("scipy")
    a, b = np.float32([0.10, 0.30, 0.20]), np.float32([0.15, 0.32, 0.31])
    answer = make(GRID, [a, b] + [[9.0] * 3] * 4).compare()
    gains = b.astype(np.float64) - a.astype(np.float64)
    means = np.sort([np.mean(drawn) for drawn in itertools.product(gains, repeat=3)])
    assert answer.gain == pytest.approx(gains.mean(), abs=1e-12)
    # The ends at 95 % lie inside of the first and the last of the 27 steps of the distribution.
    assert answer.low == pytest.approx(means[0], abs=1e-12)
    assert answer.high == pytest.approx(means[-1], abs=1e-12)
    middle = make(GRID, [a, b] + [[9.0] * 3] * 4).compare(confidence=0.5)
    steps = np.arange(1, 28) / 27
    assert middle.low == pytest.approx(means[np.searchsorted(steps, 0.25)], abs=1e-12)
    assert middle.high == pytest.approx(means[np.searchsorted(steps, 0.75)], abs=1e-12)
    # All three agree, as chance makes them 1 time in 4.
    flips = [np.mean(gains * signs) for signs in itertools.product([1, -1], repeat=3)]
    assert answer.p_value == np.mean(np.abs(flips) >= gains.mean() - 1e-12) == 0.25
    assert answer.share == 1.0
    assert not answer.better
    assert "3 seeds cannot tell, because chance alone makes all of them agree 1 time in 4" in str(answer)
    assert "seeds=6 or more" in str(answer)


def test_a_comparison_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    losses = np.full((6, 12), 9.0)
    losses[3] = rng.normal(0.5, 0.1, 12)
    losses[1] = losses[3] + rng.normal(0.05, 0.04, 12)
    result = make(GRID, losses)
    answer = result.compare()
    assert answer.settings == (3, 1)
    a, b = (result.final["valid_loss"][i].astype(np.float64) for i in (3, 1))
    # SciPy's own paired form, of the two samples; it draws others, so it agrees to the noise of 9,999 draws.
    peer = stats.bootstrap(
        (a, b), lambda x, y, axis: np.mean(y - x, axis=axis), paired=True, vectorized=True, method="percentile"
    ).confidence_interval
    width = peer.high - peer.low
    assert abs(answer.low - peer.low) < 0.05 * width
    assert abs(answer.high - peer.high) < 0.05 * width
    # And Student's test, which is of another kind, to a few percent of the width.
    student = stats.ttest_rel(b, a)
    assert abs(answer.p_value - student.pvalue) < 0.05
    assert answer.better
    assert student.pvalue < 0.05
    assert str(answer).endswith(": it is.")
    # The other way round, and a metric of which the largest is best.
    back = result.compare(1, 0)
    assert (back.settings, back.better) == ((1, 3), False)
    assert back.gain == pytest.approx(-answer.gain)
    turned = result.compare(metric="valid_accuracy", mode="max")
    assert turned.gain == pytest.approx(answer.gain, rel=1e-5)
    assert result.compare() == answer  # the same draws


def test_pruned_settings_are_compared_where_both_were_trained(plain):
    pytest.importorskip("scipy")
    curves = plain.metrics["valid_loss"].astype(np.float64)
    for ranks, settings, step in (((0, 1), (1, 5), 23), ((0, 2), (1, 2), 10), ((2, 4), (2, 0), 5), ((4, 3), (0, 3), 5)):
        answer = plain.compare(*ranks)
        assert (answer.settings, answer.step) == (settings, step)
        a, b = (plain.values()[i] if step == 23 else curves[i, :, step // LOG_EVERY - 1] for i in settings)
        assert answer.gain == pytest.approx((b - a).mean(), abs=1e-12)
    assert "valid_loss at step 5: setting 0" in str(answer)


def test_settings_that_are_alike_are_not_told_apart():
    pytest.importorskip("scipy")
    rng = np.random.default_rng(2)
    result = make(GRID, rng.normal(1, 0.1, (6, 8)))
    answer = result.compare()
    assert answer.low < 0 < answer.high
    assert str(answer).endswith("the seeds do not tell them apart.")
    equal = make(GRID, np.ones((6, 8))).compare()
    assert (equal.gain, equal.low, equal.high, equal.better) == (0, 0, 0, False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"a": 0, "b": 0}, "a=0 and b=0 are one setting"),
        ({"b": 6}, r"b=6; write a rank, 0 \(the best\) to 5"),
        ({"a": True}, "a=True; write a rank"),
        ({"b": 5}, "b=5 is setting 4, which diverged"),
        ({"confidence": 95}, "confidence=95; write a number from 0.5 to 1"),
        ({"resamples": 3}, "resamples=3; write an integer, 100 or more"),
        ({"metric": "valid_accuracy"}, "write mode='max' or mode='min'"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(plain, arguments, says):
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match=says):
        plain.compare(**arguments)


def test_one_seed_has_no_spread():
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="there is 1 seed, which has no spread; sweep with seeds=6 or more"):
        make(GRID, np.ones((6, 1))).compare()


# --- which hyperparameter mattered -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def optuna():
    pytest.importorskip("sklearn")
    return pytest.importorskip("optuna")


LEVELS = 8
RATES = np.logspace(-5, -1, LEVELS)
SQUARE = js.grid(js.WarmupCosine, peak_value=RATES, warmup_steps=list(range(LEVELS)), total_steps=STEPS, end_value=0.0)


def places(values):
    """The place of each value among the levels, from -1 to 1."""
    return np.unique(values, return_inverse=True)[1] / (LEVELS - 1) * 2 - 1


X, Y = places(SQUARE.peak_value), places(SQUARE.warmup_steps)


def test_the_importance_of_a_sum(optuna):
    """The variance of 3 x + y on a full grid is 9 to 1, and neither does anything with the other."""
    shares = make(SQUARE, 5 + (3 * X + Y)[:, None]).importance()
    assert list(shares) == ["peak_value", "warmup_steps"]  # what does not differ has no share
    assert shares["peak_value"] == pytest.approx(0.9, abs=0.04)
    assert shares["warmup_steps"] == pytest.approx(0.1, abs=0.04)
    assert sum(shares.values()) <= 1


def test_the_importance_of_a_product(optuna):
    """(x + 1)(y + 2) = xy + 2x + y + 2: with v the variance of x and y, the parts are v^2, 4 v and v."""
    v = np.mean(X**2)
    shares = make(SQUARE, ((X + 1) * (Y + 2))[:, None]).importance()
    whole = v**2 + 5 * v
    assert shares["peak_value"] == pytest.approx(4 * v / whole, abs=0.05)
    assert shares["warmup_steps"] == pytest.approx(v / whole, abs=0.05)
    alone = make(SQUARE, (X * Y)[:, None]).importance()
    assert sum(alone.values()) < 0.1  # only what they do together


def test_the_importance_where_settings_diverged(optuna):
    """Above half of the learning rates all diverge: what is left is a step in x, of half the settings."""
    losses = np.where(X > 0, 0.0, 1.0 + 0.01 * Y)
    diverged = [(i, 0, 3) for i in np.flatnonzero(X > 0)]
    steps = np.where(X > 0, 1.01, losses)  # the worst that did not diverge
    mean = steps.reshape(LEVELS, LEVELS).mean(axis=1)
    expected = np.var(mean) / np.var(steps)
    shares = make(SQUARE, losses[:, None], diverged=diverged).importance()
    assert shares["peak_value"] == pytest.approx(expected, abs=0.1)
    best = make(SQUARE, losses[:, None] * -1, diverged=diverged).importance("valid_loss", "max")
    assert set(best) == set(shares)


def test_the_importance_where_settings_were_pruned(optuna):
    """All are judged at the first rung, whatever came after it."""
    curves = np.repeat((5 + 3 * X + Y)[:, None, None], 4, axis=2).astype(np.float32)
    curves[:, :, 1:] = 5 + Y[:, None, None]
    pruned = {int(i): 5 for i in np.argsort(X, kind="stable")[20:]}
    shares = make(SQUARE, curves[:, :, -1], curves=curves, pruned=pruned).importance()
    assert shares["peak_value"] == pytest.approx(0.9, abs=0.04)


def test_the_importance_of_a_family(optuna):
    """Two families, one value each way: the family explains all, and what one of them lacks explains nothing."""
    rates = [0.1 * (i + 1) for i in range(8)]
    settings = [js.WarmupCosine(r, 2, STEPS) for r in rates]
    settings += [js.WarmupStableDecay(r, 2, STEPS, 2 + i) for i, r in enumerate(rates)]
    result = make(settings, np.repeat([1.0, 2.0], 8)[:, None])
    shares = result.importance()
    assert result.importance() == shares  # the same random forest
    assert next(iter(shares)) == "family"
    assert set(shares) == {"family", "peak_value", "decay_steps"}
    assert shares["family"] > 0.9
    tables = [js.PiecewiseConstant([3, 6], [0.1, 0.1 / (i + 2), 0.001]) for i in range(8)]
    assert list(make(tables, np.arange(8.0)[:, None]).importance()) == ["values.1"]


def test_an_importance_says_nothing_on_its_way(optuna, capfd):
    before = optuna.logging.get_verbosity()
    make(SQUARE, X[:, None]).importance()
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "losses", "says"),
    [
        (GRID, LOSSES, "an importance of 6 settings; sweep 8 or more"),
        (SQUARE, np.ones((LEVELS**2, 1)), "valid_loss is 1.0 for every setting"),
        ([js.Constant(0.1)] * 8, np.arange(8.0)[:, None], "no hyperparameter differs"),
    ],
)
def test_an_importance_of_nothing_is_refused(optuna, settings, losses, says):
    with pytest.raises(ValueError, match=says):
        make(settings, losses).importance()


def test_an_importance_where_all_diverged_is_refused(optuna):
    with pytest.raises(ValueError, match="every setting diverged"):
        make(SQUARE, np.ones((LEVELS**2, 1)), diverged=[(i, 0, 3) for i in range(LEVELS**2)]).importance()


# --- the packages that are not there ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("xarray", "tables", lambda r: r.to_xarray()),
        ("pandas", "tables", lambda r: r.to_pandas()),
        ("scipy", "sweep", lambda r: r.compare()),
        ("optuna", "search", lambda r: r.importance()),
        ("matplotlib", "plot", lambda r: r.plot()),
        ("tensorboard", "tensorboard", lambda r: r.to_tensorboard("nowhere")),
        ("mlflow", "mlflow", lambda r: r.to_mlflow("nothing")),
    ],
)
def test_a_package_that_is_missing_is_named(plain, monkeypatch, package, extra, call):
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'need[s]? {package}.*: pip install "jaxsched\[{extra}\]"'):
        call(plain)


# --- other packages' runs --------------------------------------------------------------------------------------------


def test_tensorboard_reads_it(plain, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import api_pb2, metadata

    plain.to_tensorboard(tmp_path / "new" / "runs")
    runs = sorted(str(p.relative_to(tmp_path / "new" / "runs")) for p in tmp_path.glob("new/runs/*/*"))
    assert runs == [f"setting-{i:04d}/seed-{seed}" for i in range(6) for seed in (3, 8)]

    def read(run):
        events = accumulator.EventAccumulator(str(tmp_path / "new" / "runs" / run))
        return events.Reload()

    def info(events, tag, parse):
        return parse(events.SummaryMetadata(tag).plugin_data.content)

    steps = [5, 10, 15, 20, 23]
    for i, j in ((1, 0), (0, 1), (4, 1)):
        events = read(runs[2 * i + j])
        for name in plain.metrics:
            values = np.append(
                plain.metrics[name][i, j], np.nan if plain.pruned_at[i, j] > 0 else plain.final[name][i, j]
            )
            points = [(point.step, point.value) for point in events.Scalars(name)]
            assert points == [(t, x) for t, x in zip(steps, values.tolist(), strict=True) if np.isfinite(x)]
        start = info(events, metadata.SESSION_START_INFO_TAG, metadata.parse_session_start_info_plugin_data)
        assert start.hparams["peak_value"].number_value == GRID.peak_value[i]
        end = info(events, metadata.SESSION_END_INFO_TAG, metadata.parse_session_end_info_plugin_data)
        assert end.status == (api_pb2.STATUS_FAILURE if (i, j) == (4, 1) else api_pb2.STATUS_SUCCESS)
    # The seeds of a setting are one trial, and the experiment tells what was swept.
    groups = [
        info(read(run), metadata.SESSION_START_INFO_TAG, metadata.parse_session_start_info_plugin_data).group_name
        for run in runs[:4]
    ]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    experiment = info(read("."), metadata.EXPERIMENT_TAG, metadata.parse_experiment_plugin_data)
    assert [x.name for x in experiment.hparam_infos][:2] == ["peak_value", "warmup_steps"]
    assert {x.name.tag for x in experiment.metric_infos} == set(plain.metrics)
    with pytest.raises(FileExistsError, match="is not empty; write a new folder"):
        plain.to_tensorboard(tmp_path / "new" / "runs")


def test_tensorboard_has_the_families(mixed, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    mixed.to_tensorboard(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "setting-0003" / "seed-0")).Reload()
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert hparams["family"].string_value == "Ramp(shape='sqrt')"
    assert "decay_steps" not in hparams


# MLflow's own use of SQLAlchemy, pydantic and datetime warns.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_it(plain, mixed, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # to lay out a database takes seconds
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "runs").as_uri()
    before = mlflow.get_tracking_uri()
    client = mlflow.MlflowClient(uri)

    def runs_of(result):
        sweep = client.get_run(result.to_mlflow("digits", uri))
        found = client.search_runs([sweep.info.experiment_id], f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'")
        return sweep, sorted(found, key=lambda run: int(run.data.tags["setting"]))

    sweep, runs = runs_of(plain)
    assert (sweep.data.tags["steps"], sweep.data.tags["run_devices"]) == ("23", '["cpu:0"]')
    assert [run.info.status for run in runs] == ["KILLED", "FINISHED", "KILLED", "KILLED", "FAILED", "FINISHED"]
    for i in (1, 2, 4):
        run = runs[i]
        assert float(run.data.params["peak_value"]) == GRID.peak_value[i]
        assert run.data.tags["schedule"] == repr(js.unstack(GRID)[i])
        told = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "valid_loss")]
        means = plain.metrics["valid_loss"][i].astype(np.float64).mean(axis=0)
        ended = plain.final["valid_loss"][i].astype(np.float64).mean() if i == 1 else np.nan
        expected = zip([5, 10, 15, 20, 23], np.append(means, ended).tolist(), strict=True)
        assert sorted(told) == [(t, pytest.approx(x)) for t, x in expected if np.isfinite(x)]
    values = plain.final["valid_loss"][1].astype(np.float64)
    assert runs[1].data.metrics["final_valid_loss"] == pytest.approx(values.mean())
    assert runs[1].data.metrics["final_valid_loss_std"] == pytest.approx(values.std(ddof=1))
    assert "final_valid_loss" not in runs[4].data.metrics
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None

    again, others = runs_of(mixed)
    assert again.info.experiment_id == sweep.info.experiment_id  # one experiment, two sweeps
    assert [run.data.params["family"] for run in others] == [family(s) for s in MIXED]
    with pytest.raises(ValueError, match="experiment=''; write its name"):
        plain.to_mlflow("", uri)


# --- the figure ------------------------------------------------------------------------------------------------------


def test_the_figure_of_families_and_pruned_curves(mixed, tmp_path):
    pytest.importorskip("matplotlib")
    figure = mixed.plot(tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").stat().st_size > 10_000
    schedules, losses, _ = figure.axes
    steps = jnp.arange(STEPS)
    drawn = {tuple(np.round(line.get_ydata(), 6)) for line in schedules.lines}
    assert drawn == {tuple(np.round(np.asarray(s(steps)), 6)) for s in MIXED}
    assert [text.get_text() for text in schedules.get_legend().get_texts()] == [
        "WarmupCosine",
        "WarmupStableDecay",
        "Ramp(shape='sqrt')",
    ]
    assert len({str(line.get_linestyle()) for line in schedules.lines} | {schedules.lines[0].is_dashed()}) > 1
    dots = losses.collections[0].get_offsets()
    assert np.asarray(dots).tolist() == [[10.0, float(mixed.metrics["valid_loss"].mean(axis=1)[2, 1])]]


def test_the_figure_of_many_settings():
    pytest.importorskip("matplotlib")
    many = js.grid(js.Linear, init_value=np.logspace(-4, 0, 16), end_value=0.0, steps=list(range(1, 17)))
    rng = np.random.default_rng(0)
    result = make(many, rng.lognormal(size=(256, 2)), diverged=[(5, 0, 12)], pruned=dict.fromkeys(range(100, 200), 10))
    result.metrics["valid_loss"][5, 0, 1] = 1e30  # it explodes first
    result.metrics["valid_loss"][7, :, 1] = 1e30  # and stays finite to the end
    schedules, losses, _ = result.plot().axes
    assert len(schedules.lines) == 256
    assert losses.get_ylim()[1] < 1e3
    assert len(losses.collections[0].get_offsets()) == 100


def test_the_figure_of_a_result_without_schedules():
    pytest.importorskip("matplotlib")
    assert len(make([{"patience": 2}, {"patience": 5}], [[0.5], [0.4]]).plot().axes) == 2  # the losses and the ranks


def test_some_settings_of_a_result():
    """Alone they are what they were among the others: numbers, marks and settings, also of several structures."""
    rates = [0.1, 0.2, 0.3]
    losses = [[3.0, 4.0], [1.0, 2.0], [2.0, 2.5]]
    mixed = [js.Linear(0.1, 0.0, 10), js.Cosine(0.2, 0.0, 10), js.Linear(0.3, 0.0, 10)]
    for schedules in (js.grid(js.Linear, init_value=rates, end_value=0.0, steps=10), mixed):
        result = make(schedules, losses, pruned={0: 2 * LOG_EVERY})
        two = result.select([2, 0])
        assert [repr(s) for s in two.settings] == [repr(result.settings[i]) for i in (2, 0)]
        assert np.array_equal(two.final["valid_loss"], result.final["valid_loss"][[2, 0]])
        assert two.pruned_at.tolist() == [[-1, -1], [2 * LOG_EVERY] * 2]
        assert all(np.array_equal(two.metrics[name], x[[2, 0]], equal_nan=True) for name, x in result.metrics.items())
        assert repr(two.best()) == repr(result.settings[2])
        assert two.seeds == result.seeds
    for bad, error, says in (([3], IndexError, "no setting 3"), ([-1], IndexError, "no setting -1")):
        with pytest.raises(error, match=says):
            result.select(bad)
    for bad, error in (([], TypeError), ([0.5], TypeError), ([[0]], ValueError), (0, ValueError)):
        with pytest.raises(error, match="SweepResult: select"):
            result.select(bad)


def test_a_metric_that_is_the_only_one_may_be_left_out(tmp_path):
    final = {"predicted_loss": np.array([[3.0], [1.0], [2.0]])}
    metrics = {"predicted_loss": final["predicted_loss"][..., None]}
    schedules = js.grid(js.Linear, init_value=[0.1, 0.2, 0.3], end_value=0.0, steps=5)
    result = SweepResult(metrics, final, np.full((3, 1), -1), schedules, (0,), 5, 5, 0.0, 0.0)
    assert result.best().init_value == 0.2
    assert [row["mean"] for row in result.ranking()] == [1.0, 2.0, 3.0]
    assert result.order().tolist() == result.order("predicted_loss").tolist()
    assert result.spread()["mean"].tolist() == result.values()[:, 0].tolist()
    assert result.plot().axes[1].get_ylabel() == "predicted loss"
    assert "predicted" in result.report(tmp_path / "report.html").read_text(encoding="utf-8")
    two = dataclasses.replace(result, final=final | {"other_loss": final["predicted_loss"]})
    with pytest.raises(KeyError, match="valid_loss"):
        two.best()
