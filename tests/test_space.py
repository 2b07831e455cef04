"""Distributions, and settings drawn from them."""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.sweep.space import Draws, Space, choice, field, int_uniform, log_uniform, sample, space, uniform

DISTRIBUTIONS = [choice(3, 5, 9), uniform(-2.0, 3.0), log_uniform(1e-5, 1e-1), int_uniform(-2, 4)]
POINTS = np.linspace(0.0, np.nextafter(1.0, 0.0), 7_001)


@pytest.mark.parametrize("space", DISTRIBUTIONS, ids=repr)
def test_values_rise_with_the_point_and_stay_inside(space):
    values = [space.at(float(u)) for u in POINTS]
    lowest, highest = (space.values[0], space.values[-1]) if hasattr(space, "values") else (space.lo, space.hi)
    assert values == sorted(values)
    assert values[0] == lowest
    assert min(values) >= lowest
    assert max(values) <= highest
    assert values[-1] == pytest.approx(highest)


@pytest.mark.parametrize("space", DISTRIBUTIONS, ids=repr)
def test_the_repr_makes_it_again_and_it_is_frozen(space):
    assert eval(repr(space)) == space
    assert hash(eval(repr(space))) == hash(space)
    with pytest.raises(AttributeError):
        space.lo = 1


def test_every_integer_and_every_choice_is_equally_likely():
    for one, count in ((int_uniform(-2, 4), 7), (choice("a", "b", "c", "d", "e", "f", "g"), 7)):
        _, counts = np.unique([one.at(float(u)) for u in np.arange(7_000) / 7_000], return_counts=True)
        assert counts.tolist() == [1_000] * count


def test_log_uniform_gives_every_decade_the_same_share():
    decades = [int(np.floor(np.log10(log_uniform(1e-4, 1.0).at(float(u))))) for u in (np.arange(400) + 0.5) / 400]
    assert [decades.count(d) for d in (-4, -3, -2, -1)] == [100] * 4


def test_choice_takes_one_list():
    assert choice([1, 2]) == choice(1, 2) == choice(np.array([1, 2])) == choice(range(1, 3))
    assert type(choice(np.array([1, 2])).at(0.0)) is int


@pytest.mark.parametrize("method", ["sobol", "halton", "random"])
@pytest.mark.parametrize("n", [1, 5, 16, 37])
def test_sample_gives_n_settings_of_the_space(method, n):
    settings = sample(
        js.WarmupCosine,
        n,
        method=method,
        seed=3,
        peak_value=log_uniform(1e-4, 1e-1),
        warmup_steps=int_uniform(0, 50),
        total_steps=100,
    )
    assert settings.peak_value.shape == settings.warmup_steps.shape == (n,)
    assert ((settings.peak_value >= 1e-4) & (settings.peak_value <= 1e-1)).all()
    assert settings.warmup_steps.dtype == np.int64
    assert (settings.total_steps == 100).all()
    assert jax.vmap(lambda s: s(jnp.arange(7)))(settings).shape == (n, 7)


@pytest.mark.parametrize("method", ["sobol", "halton", "random"])
def test_the_seed_settles_everything(method):
    def draw(seed):
        return sample(js.Linear, 9, method, seed, init_value=uniform(0, 1), end_value=0.0, steps=4).init_value

    assert draw(0).tolist() == draw(0).tolist()
    assert draw(0).tolist() != draw(1).tolist()


def test_sobol_fills_every_cell_once():
    settings = sample(js.Linear, 64, init_value=uniform(0, 8), end_value=uniform(0, 8), steps=4)
    cells = {(int(a), int(b)) for a, b in zip(settings.init_value, settings.end_value, strict=True)}
    assert len(cells) == 64


def test_an_instance_keeps_its_other_fields():
    settings = sample(js.Linear(1.0, 0.5, steps=7), 4, init_value=uniform(2, 3))
    assert (settings.end_value == 0.5).all()
    assert (settings.steps == 7).all()


def test_refused_combinations_are_drawn_again_and_counted():
    with pytest.warns(UserWarning, match=r"WarmupCosine refused (\d+) of (\d+) drawn settings.*warmup_steps") as caught:
        settings = sample(
            js.WarmupCosine, 32, peak_value=0.1, warmup_steps=int_uniform(0, 200), total_steps=int_uniform(1, 200)
        )
    assert len(caught) == 1
    assert caught[0].filename == __file__
    refused, drawn = (int(word) for word in str(caught[0].message).split() if word.isdigit())
    assert drawn - refused == 32
    assert 10 < refused < 64
    assert (settings.warmup_steps <= settings.total_steps).all()


def test_a_space_that_is_almost_all_refused_is_an_error():
    with pytest.raises(ValueError, match=r"refuses \d+ of 1024 drawn settings.*The last refusal was: WarmupCosine"):
        sample(js.WarmupCosine, 8, peak_value=0.1, warmup_steps=int_uniform(101, 200), total_steps=100)


def test_tables_and_inner_schedules_can_be_fixed():
    table = sample(js.MultiStepDecay, 3, init_value=uniform(0, 1), decay_rate=0.1, milestones=[2, 4])
    assert table.milestones.shape == (3, 2)
    hold = sample(js.schedules.Hold, 3, schedule=js.Linear(1.0, 0.0, 4), every=int_uniform(1, 3))
    assert hold.schedule.init_value.shape == (3,)


# --- pytrees, families and fields that depend on others ---------------------------------------------------------------

RATE = space(js.Linear, init_value=log_uniform(1e-4, 1e-1), end_value=0.0, steps=4)


def test_a_space_is_printed_as_it_is_written_and_frozen():
    texts = (
        "space(Linear, init_value=log_uniform(lo=0.0001, hi=0.1), end_value=0.0, steps=4)",
        "space(WarmupCosine(peak_value=0.1, warmup_steps=0, total_steps=9), "
        "warmup_steps=int_uniform(lo=0, hi=0.5 * (field('total_steps') - 1)))",
    )
    for text in texts:
        assert repr(eval(text, {**vars(js.schedules), **vars(js.sweep), "space": space, "field": field})) == text
    with pytest.raises(AttributeError):
        RATE.schedule = js.Cosine  # type: ignore[misc]
    with pytest.raises(TypeError):
        RATE.fields["steps"] = 5  # type: ignore[index]


def test_a_space_draws_what_its_fields_draw():
    fields = {"init_value": uniform(0, 8), "end_value": uniform(0, 8), "steps": 4}
    for method in ("sobol", "halton", "random"):
        drawn, written = sample(space(js.Linear, **fields), 9, method, 3), sample(js.Linear, 9, method, 3, **fields)
        assert repr(drawn) == repr(written)


def test_a_pytree_is_drawn_in_one_design():
    settings = sample(
        {"learning_rate": space(RATE.schedule, init_value=uniform(0, 8), end_value=0.0, steps=4), "b": [uniform(0, 8)]},
        64,
    )
    cells = {(int(a), int(b)) for a, b in zip(settings["learning_rate"].init_value, settings["b"][0], strict=True)}
    assert len(cells) == 64


def test_everything_in_a_pytree_becomes_stacked():
    settings = sample({"rate": RATE, "patience": int_uniform(2, 10), "b1": 0.9, "m": js.Constant(0.5)}, 5, "random")
    assert settings["rate"].init_value.shape == settings["m"].constant_value.shape == (5,)
    assert settings["patience"].dtype == np.int64
    assert settings["b1"].tolist() == [0.9] * 5
    assert sample(log_uniform(1e-4, 1e-1), 4).shape == (4,)


def test_spaces_inside_of_spaces_and_tables():
    inner = sample(space(js.schedules.Hold, schedule=RATE, every=int_uniform(1, 3)), 8)
    assert len(set(inner.schedule.init_value.tolist())) == 8
    table = sample(
        js.MultiStepDecay, 8, init_value=0.1, decay_rate=0.1, milestones=[int_uniform(1, 5), int_uniform(6, 9)]
    )
    assert table.milestones.shape == (8, 2)
    assert (table.milestones[:, 0] < table.milestones[:, 1]).all()


def test_families_share_the_settings_evenly_and_fill_their_own_spaces():
    cosine = space(js.WarmupCosine, peak_value=uniform(0, 1), warmup_steps=2, total_steps=9)
    settings = sample([RATE, cosine], 9, seed=2)
    assert [type(s).__name__ for s in settings] == ["Linear"] * 5 + ["WarmupCosine"] * 4
    assert [repr(s) for s in settings[:5]] == [repr(s) for s in js.unstack(sample(RATE, 5, seed=2))]
    assert sorted(int(4 * s.peak_value) for s in settings[5:]) == [0, 1, 2, 3]


def test_structure_is_drawn_by_choice():
    ramp = space(js.Ramp, init_value=uniform(0, 1), end_value=0.0, steps=4, shape=choice("linear", "cosine"))
    settings = sample(ramp, 16)
    assert isinstance(settings, list)
    assert [s.shape for s in settings].count("cosine") == 8
    root = space(js.WarmupInverseSqrt, peak_value=uniform(0, 1), warmup_steps=3, timescale=choice(None, 7))
    assert {s.timescale for s in sample(root, 8)} == {None, 7}


def test_a_choice_of_spaces_draws_in_each():
    flat = space(js.Linear, init_value=uniform(2, 3), end_value=0.0, steps=4)
    either = {"rate": choice(RATE, flat, js.Constant(7.0)), "b1": uniform(0, 1)}
    assert list(Draws(either).drawn) == ["b1", "rate", "rate.Linear.init_value", "rate.Linear 2.init_value"]
    settings = sample(either, 64)
    rates = [s["rate"] for s in settings]
    fixed = [rate for rate in rates if isinstance(rate, js.Constant)]
    low = [rate for rate in rates if isinstance(rate, js.Linear) and rate.init_value <= 0.1]
    high = [rate for rate in rates if isinstance(rate, js.Linear) and 2 <= rate.init_value <= 3]
    assert len(fixed) + len(low) + len(high) == 64
    assert min(map(len, (fixed, low, high))) > 16


def test_bounds_keep_to_other_fields():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is refused
        settings = sample(
            js.WarmupStableDecay,
            64,
            peak_value=log_uniform(1e-3, 1.0),
            end_value=log_uniform(1e-4, field("peak_value")),
            total_steps=choice(10, 100, 1_000),
            warmup_steps=int_uniform(0, 0.29 * field("total_steps")),
            decay_steps=int_uniform(1, field("total_steps") - field("warmup_steps")),
        )
    assert (100 * settings.warmup_steps <= 29 * settings.total_steps).all()
    assert settings.warmup_steps[settings.total_steps == 1_000].max() > 200
    assert (settings.warmup_steps + settings.decay_steps <= settings.total_steps).all()
    assert (settings.end_value <= settings.peak_value).all()
    assert settings.decay_steps.dtype == np.int64


def test_a_bound_is_rounded_inward_and_reaches_what_it_says():
    widest = int_uniform(0, 0.29 * field("n")).resolved(lambda name: 100)
    assert widest == int_uniform(0, 29)
    assert int_uniform(0.1 * field("n"), 9).resolved(lambda name: 25) == int_uniform(3, 9)
    assert int_uniform(field("n"), 9).resolved(lambda name: 9) == 9
    with pytest.raises(ValueError, match="is from 10 to 9, which leaves nothing"):
        int_uniform(field("n"), 9).resolved(lambda name: 10)


def test_fields_are_found_beside_and_further_out():
    rate = space(js.WarmupCosine(0.1, 0, 40), warmup_steps=field("total_steps") // 4, peak_value=field("scale") / 2)
    drawn = sample({"rate": rate, "scale": uniform(1, 2), "patience": field("rate.total_steps") - 1}, 4)
    assert drawn["rate"].warmup_steps.tolist() == [10] * 4
    assert (drawn["rate"].peak_value == drawn["scale"] / 2).all()
    assert drawn["patience"].tolist() == [39] * 4


def test_a_condition_is_kept_and_counted():
    with pytest.warns(
        UserWarning, match=r"Linear \(or where\) refused (\d+) of \d+ drawn.*where.* is not True for Lin"
    ):
        settings = sample(RATE, 32, where=lambda s: s.init_value < 0.003)
    assert (settings.init_value < 0.003).all()
    with pytest.raises(ValueError, match=r"the space \(or where\) refuses 1024 of 1024"):
        sample({"rate": RATE}, 8, where=lambda s: False)


def test_bounds_that_leave_nothing_are_counted():
    with pytest.warns(UserWarning, match=r"WarmupCosine refused .* which leaves nothing"):
        settings = sample(
            js.WarmupCosine,
            16,
            peak_value=0.1,
            total_steps=int_uniform(1, 99),
            warmup_steps=int_uniform(50, field("total_steps")),
        )
    assert (settings.total_steps >= 50).all()


@pytest.mark.parametrize(
    ("error", "says", "make"),
    [
        (ValueError, "choice: no values", lambda: choice()),
        (ValueError, "choice: no values", lambda: choice([])),
        (ValueError, "uniform: lo=2 and hi=1; write lo < hi", lambda: uniform(2, 1)),
        (ValueError, "uniform: lo=1 and hi=1", lambda: uniform(1, 1)),
        (ValueError, "uniform: hi=inf; hi must be a finite", lambda: uniform(0, float("inf"))),
        (TypeError, "uniform: lo='a'; lo must be a number", lambda: uniform("a", 1)),
        (ValueError, "log_uniform: lo=0; lo must be above 0", lambda: log_uniform(0, 1)),
        (TypeError, "int_uniform: hi=1.5; hi must be an integer", lambda: int_uniform(0, 1.5)),
        (TypeError, "has no field 'peak': did you mean 'peak_value'", lambda: sample(js.WarmupCosine, 2, peak=1)),
        (ValueError, "sample: nothing in 3 is drawn", lambda: sample(3, 2)),
        (ValueError, "sample: no field of Linear is drawn", lambda: sample([js.Linear(1.0, 0.0, 4)], 2)),
        (TypeError, "space: 3 is not a schedule", lambda: space(3)),
        (TypeError, "space: .*Space.* is not a schedule", lambda: space(Space)),
        (ValueError, "n=1 for 2 spaces", lambda: sample([RATE, RATE], 1)),
        (ValueError, "n=3 for 0 spaces", lambda: sample([], 3)),
        (TypeError, "sample: steps beside space.*; write the fields in its space", lambda: sample(RATE, 2, steps=4)),
        (ValueError, "no field of Linear is drawn", lambda: sample(js.Linear, 2, init_value=1, end_value=0, steps=4)),
        (ValueError, "sample: n=0; n must be an integer, 1", lambda: sample(js.Linear, 0, init_value=uniform(0, 1))),
        (ValueError, "sample: seed=-1", lambda: sample(js.Linear, 2, seed=-1, init_value=uniform(0, 1))),
        (ValueError, "did you mean 'sobol'", lambda: sample(js.Linear, 2, "sobl", init_value=uniform(0, 1))),  # type: ignore[arg-type]
        (
            ValueError,
            r"init_value=\[1, 2\] is a list; write choice",
            lambda: sample(js.Linear, 2, init_value=[1, 2], end_value=uniform(0, 1), steps=4),
        ),
        (ValueError, r"shape=uniform.*; shape is structure: write choice", lambda: space(js.Ramp, shape=uniform(0, 1))),
        (TypeError, "int_uniform: lo=0.5; lo must be an integer", lambda: int_uniform(0.5, field("steps"))),
        (TypeError, "field: field.'a'. [+] 'b'; write numbers", lambda: field("a") + "b"),
        (TypeError, "has no value by itself", lambda: uniform(0, field("a")).at(0.5)),
        (
            ValueError,
            r"warmup_steps=.*has no field 'total' beside it: did you mean 'total_steps'",
            lambda: sample(js.WarmupCosine, 2, warmup_steps=int_uniform(0, field("total")), total_steps=9),
        ),
        (
            ValueError,
            "has no field 'steps' beside it",
            lambda: sample(js.Linear, 2, init_value=uniform(0, field("steps")), end_value=0.0),
        ),
        (
            ValueError,
            "space: init_value -> end_value -> init_value: a field depends on itself",
            lambda: sample(js.Linear, 2, init_value=uniform(0, field("end_value")), end_value=field("init_value")),
        ),
        (
            TypeError,
            r"field\('shape'\) is 'linear', and must be a number",
            lambda: sample(js.Ramp, 2, init_value=uniform(0, field("shape")), end_value=0.0, steps=4),
        ),
    ],
)
def test_bad_input_is_refused(error, says, make):
    with pytest.raises(error, match=says):
        make()


def test_a_missing_scipy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats.qmc", None)
    with pytest.raises(ImportError, match=r'pip install "jaxsched\[sweep\]"'):
        sample(js.Linear, 2, init_value=uniform(0, 1), end_value=0, steps=4)
    with warnings.catch_warnings():
        assert len(sample(js.Linear, 2, "random", init_value=uniform(0, 1), end_value=0, steps=4).steps) == 2


TOGETHER = {
    "dependent": space(
        js.WarmupStableDecay,
        peak_value=log_uniform(0.01, 3.0),
        warmup_steps=int_uniform(0, 125),
        total_steps=500,
        decay_steps=int_uniform(0, field("total_steps") - field("warmup_steps")),
    ),
    "pytree": {
        "rate": space(js.WarmupCosine(0.1, 10, 500), peak_value=uniform(0.1, 1.0)),
        "b1": choice(0.8, 0.9),
        "b2": 1,
    },
    "arrays of JAX": {
        "rate": space(js.Linear, init_value=uniform(0.0, 1.0), end_value=jnp.float32(0.5), steps=10),
        "table": jnp.arange(3),
    },
    "tables": space(js.PiecewiseConstant([10, 20], [1.0, 0.5, 0.1]), boundaries=choice([1, 2], [3, 4])),
    "integers and floats": space(js.Linear, init_value=choice(1, 2.5), end_value=uniform(0.0, 1.0), steps=choice(5, 7)),
    "refused": space(js.WarmupCosine, peak_value=0.1, warmup_steps=int_uniform(0, 150), total_steps=100),
}


@pytest.mark.filterwarnings("ignore:sample. WarmupCosine refused")
@pytest.mark.parametrize("kind", TOGETHER)
def test_settings_made_together_are_those_made_one_by_one(kind, monkeypatch):
    together = [sample(x, 50) for x in (TOGETHER[kind], [TOGETHER[kind], TOGETHER["dependent"]])]
    monkeypatch.setattr(Draws, "together", lambda *args: None)
    one_by_one = [sample(x, 50) for x in (TOGETHER[kind], [TOGETHER[kind], TOGETHER["dependent"]])]
    assert repr(together) == repr(one_by_one)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True):
        assert type(a) is type(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.array_equal(a, b)
