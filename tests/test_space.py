"""Distributions, and settings drawn from them."""

import builtins
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsched as js
from jaxsched.sweep import choice, int_uniform, log_uniform, sample, uniform

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
    for space, count in ((int_uniform(-2, 4), 7), (choice("a", "b", "c", "d", "e", "f", "g"), 7)):
        _, counts = np.unique([space.at(float(u)) for u in np.arange(7_000) / 7_000], return_counts=True)
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
    table = sample(js.MultiStepDecay, 3, init_value=uniform(0, 1), gamma=0.1, milestones=[2, 4])
    assert table.milestones.shape == (3, 2)
    hold = sample(js.Hold, 3, schedule=js.Linear(1.0, 0.0, 4), every=int_uniform(1, 3))
    assert hold.schedule.init_value.shape == (3,)


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
        (TypeError, "sample: 3 is not a schedule", lambda: sample(3, 2)),
        (ValueError, "no field of Linear is drawn", lambda: sample(js.Linear, 2, init_value=1, end_value=0, steps=4)),
        (ValueError, "sample: n=0; n must be an integer, 1", lambda: sample(js.Linear, 0, init_value=uniform(0, 1))),
        (ValueError, "sample: seed=-1", lambda: sample(js.Linear, 2, seed=-1, init_value=uniform(0, 1))),
        (ValueError, "did you mean 'sobol'", lambda: sample(js.Linear, 2, "sobl", init_value=uniform(0, 1))),  # type: ignore[arg-type]
        (
            ValueError,
            r"init_value=\[1, 2\] is a list; write choice",
            lambda: sample(js.Linear, 2, init_value=[1, 2], end_value=uniform(0, 1), steps=4),
        ),
        (
            ValueError,
            "shape=choice.* shape is structure",
            lambda: sample(js.Ramp, 2, init_value=1, end_value=0, steps=4, shape=choice("linear", "cosine")),
        ),
    ],
)
def test_bad_input_is_refused(error, says, make):
    with pytest.raises(error, match=says):
        make()


def test_a_missing_scipy_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_scipy(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ImportError, match=r'pip install "jaxsched\[sweep\]"'):
        sample(js.Linear, 2, init_value=uniform(0, 1), end_value=0, steps=4)
    with warnings.catch_warnings():
        assert len(sample(js.Linear, 2, "random", init_value=uniform(0, 1), end_value=0, steps=4).steps) == 2
