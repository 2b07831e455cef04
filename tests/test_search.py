"""Searches: Optuna proposes, batches train, values and pruning go back."""

import dataclasses
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import optax
import optuna
import pytest

import jaxsched as js
from jaxsched.sweep import Task, sweep
from jaxsched.sweep.program import Programs
from jaxsched.sweep.search import search
from jaxsched.sweep.space import Distribution, choice, field, int_uniform, log_uniform, space, uniform

pytestmark = pytest.mark.usefixtures("shared_programs")

X = np.linspace(-1.0, 1.0, 24, dtype=np.float32)


def loss(slope, batch, key):
    del key
    error = slope * batch[0] - batch[1]
    return jnp.mean(error**2), {"close": jnp.mean(jnp.abs(error) < 0.1)}


def optimizer(setting):
    if isinstance(setting, dict):
        return optax.sgd(setting["learning_rate"], momentum=setting["momentum"])
    return optax.sgd(setting)


TASK = Task(lambda key: jnp.zeros(()), loss, (X, 2 * X), (X, 2 * X), 8, optimizer)
SMALL = {"steps": 6, "seeds": 2, "log_every": 2, "chunk": 8}
LINEAR = space(js.Linear, init_value=log_uniform(1e-3, 1.0), end_value=uniform(0.0, 0.1), steps=6)
STATE = optuna.trial.TrialState


def memory():
    return optuna.storages.InMemoryStorage()


def states(found):
    return [trial.state for trial in found.study.trials]


@pytest.fixture(scope="module")
def found():
    return search(
        TASK, LINEAR, trials=24, batch=8, sampler=optuna.samplers.TPESampler(seed=3), storage=memory(), **SMALL
    )


# --- proposals -------------------------------------------------------------------------------------------------------


def test_the_proposals_are_those_of_optuna_alone(found):
    """The peer, asked and told by hand: the same sampler, told the same values after each batch, proposes the same."""
    alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=3))
    trials = found.study.trials
    for begin in (0, 8, 16):
        asked = [alone.ask() for _ in range(8)]
        for trial in asked:
            trial.suggest_float("init_value", 1e-3, 1.0, log=True)
            trial.suggest_float("end_value", 0.0, 0.1)
        for trial, mine in zip(asked, trials[begin : begin + 8], strict=True):
            assert trial.params == mine.params
            alone.tell(trial, mine.value)
    assert found.best_value == alone.best_value == min(trial.value for trial in trials)


def test_the_values_are_those_of_a_sweep_over_the_same_settings(found):
    settings = [js.Linear(trial.params["init_value"], trial.params["end_value"], 6) for trial in found.study.trials]
    whole = sweep(TASK, settings, **SMALL)
    values = whole.final["valid_loss"].astype(np.float64).mean(axis=1)
    np.testing.assert_allclose([trial.value for trial in found.study.trials], values, rtol=2e-6, atol=1e-7)
    assert repr(found.best) == repr(settings[int(np.argmin([trial.value for trial in found.study.trials]))])
    # All that was trained is one result.
    assert [repr(s) for s in found.result.settings] == [repr(s) for s in settings]
    assert found.trials == tuple(range(24))
    assert found.result.run["batches"] == 3
    assert found.result.run["steps_done"] == 24 * 2 * 6
    for name in whole.metrics:
        np.testing.assert_allclose(found.result.metrics[name], whole.metrics[name], rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(found.result.final[name], whole.final[name], rtol=2e-6, atol=1e-6)
    assert repr(found.result.best()) == repr(found.best)


def test_batches_share_one_program(monkeypatch):
    for name in ("engine", "search"):  # not the class of `shared_programs`, by which any two calls would share
        monkeypatch.setattr(importlib.import_module(f"jaxsched.sweep.{name}"), "Programs", Programs)
    compiled, real = [], Programs._compile
    monkeypatch.setattr(Programs, "_compile", lambda *args: compiled.append(args) or real(*args))
    search(dataclasses.replace(TASK), LINEAR, trials=12, batch=4, storage=memory(), **SMALL)
    assert len(compiled) == 1


def test_families_are_suggested_first():
    families = [LINEAR, {"learning_rate": LINEAR, "momentum": uniform(0.0, 0.9)}, js.Constant(0.1)]
    mixed = search(
        TASK, families, trials=12, batch=12, sampler=optuna.samplers.RandomSampler(0), storage=memory(), **SMALL
    )
    for number, trial in enumerate(mixed.study.trials):
        family = trial.params["family"]
        inner = {name.removeprefix(f"{family}.") for name in trial.params} - {"family"}
        setting = mixed.setting(number)
        if family == "Linear":
            assert inner == {"init_value", "end_value"}
            assert isinstance(setting, js.Linear)
        elif family == "dict":
            assert inner == {"learning_rate.init_value", "learning_rate.end_value", "momentum"}
            assert setting["momentum"] == trial.params["dict.momentum"]
        else:
            assert repr(setting) == family == "Constant(constant_value=0.1)"
            assert inner == set()
    assert len({trial.params["family"] for trial in mixed.study.trials}) == 3
    assert mixed.result.mixed
    assert mixed.result.final["valid_loss"].shape == (12, 2)


class Squared(Distribution):
    """Of a user: only a map from the points."""

    def at(self, point):
        return point**2


def test_every_distribution_is_suggested_as_what_it_is():
    draws = {
        "learning_rate": space(
            js.WarmupCosine,
            peak_value=log_uniform(1e-3, 1e-1),
            total_steps=choice(5, 6),
            warmup_steps=int_uniform(0, field("total_steps") - 3),
        ),
        "momentum": Squared(),
    }
    out = search(TASK, draws, trials=8, batch=8, storage=memory(), **SMALL)
    for number, trial in enumerate(out.study.trials):
        kinds = {name: type(one).__name__ for name, one in trial.distributions.items()}
        assert kinds == {
            "learning_rate.peak_value": "FloatDistribution",
            "learning_rate.total_steps": "CategoricalDistribution",
            "learning_rate.warmup_steps": "IntDistribution",
            "momentum": "FloatDistribution",
        }
        assert trial.distributions["learning_rate.peak_value"].log
        assert trial.distributions["learning_rate.warmup_steps"].high == trial.params["learning_rate.total_steps"] - 3
        assert out.setting(number)["momentum"] == trial.params["momentum"] ** 2


def test_a_function_proposes_as_an_objective_does():
    def propose(trial):
        if trial.number == 1:
            raise optuna.TrialPruned
        steps = trial.suggest_int("steps", 5, 7)
        warm = trial.suggest_int("warm", 0, 9)
        return js.WarmupCosine(trial.suggest_float("peak", 1e-3, 0.1, log=True), warm, steps)

    sampler = optuna.samplers.RandomSampler(1)
    with pytest.warns(UserWarning, match=r"search: (\d+) proposals were refused.* WarmupCosine: warmup_steps") as told:
        out = search(TASK, propose, trials=9, batch=4, sampler=sampler, storage=memory(), **SMALL)
    assert told[0].filename == __file__
    assert states(out).count(STATE.COMPLETE) == 8
    assert states(out)[1] is STATE.PRUNED
    refused = [trial for trial in out.study.trials if trial.state is STATE.FAIL]
    assert f"search: {len(refused)} proposals" in str(told[0].message)
    assert all(trial.params["warm"] > trial.params["steps"] for trial in refused)
    assert out.trials == tuple(trial.number for trial in out.study.trials if trial.state is STATE.COMPLETE)
    assert repr(out.best) == repr(out.result.settings[int(np.argmin(out.result.values().mean(axis=1)))])


def test_a_condition_is_kept():
    sampler = optuna.samplers.RandomSampler(0)
    with pytest.warns(UserWarning, match="proposals were refused"):
        out = search(TASK, LINEAR, 8, 8, sampler, storage=memory(), where=lambda s: s.init_value < 0.03, **SMALL)
    assert (out.result.schedules.init_value < 0.03).all()
    with pytest.raises(ValueError, match="1024 proposals of a batch were refused"):
        search(TASK, LINEAR, 8, 8, sampler, storage=memory(), where=lambda s: False)


def test_a_sampler_that_has_no_more_to_propose_ends_the_search():
    grid = optuna.samplers.GridSampler({"init_value": [0.01, 0.1, 0.5], "end_value": [0.0, 0.1]}, seed=0)
    out = search(TASK, LINEAR, trials=64, batch=3, sampler=grid, storage=memory(), **SMALL)
    points = {(trial.params["init_value"], trial.params["end_value"]) for trial in out.study.trials}
    assert len(out.study.trials) == len(points) == 6


# --- what is told ----------------------------------------------------------------------------------------------------


class Above(optuna.pruners.BasePruner):
    """Prunes at step 4 whatever is above 0.5, and writes down what it saw."""

    def __init__(self):
        self.saw = []

    def prune(self, study, trial):
        self.saw.append((trial.number, dict(trial.intermediate_values)))
        return trial.last_step == 4 and trial.intermediate_values[4] > 0.5


def test_a_pruner_judges_on_the_way(found):
    pruner = Above()
    out = search(
        TASK, LINEAR, 24, 24, sampler=optuna.samplers.TPESampler(seed=3), pruner=pruner, storage=memory(), **SMALL
    )
    values = found.result.metrics["valid_loss"].astype(np.float64).mean(axis=1)
    for i in range(8):  # which the two searches have in common
        mine, expected = out.study.trials[i], values[i]
        assert mine.params == found.study.trials[i].params
        np.testing.assert_allclose([mine.intermediate_values[t] for t in (2, 4)], expected[:2], rtol=2e-6)
        pruned = expected[1] > 0.5
        assert mine.state is (STATE.PRUNED if pruned else STATE.COMPLETE)
        assert (out.result.pruned_at[i] == (4 if pruned else -1)).all()
        if not pruned:
            np.testing.assert_allclose(mine.value, found.study.trials[i].value, rtol=2e-6, atol=1e-7)
    assert {STATE.PRUNED, STATE.COMPLETE} == set(states(out))
    assert [number for number, _ in pruner.saw[:24]] == list(range(24))
    # All of the batch were told before the first was judged.
    assert out.result.run["steps_saved"] == 2 * 2 * states(out).count(STATE.PRUNED)


def test_a_diverged_trial_is_told_as_pruned_so_that_samplers_learn_from_it():
    wild = space(js.Linear, init_value=choice(0.1, 1e30), end_value=0.0, steps=6)
    sampler = optuna.samplers.RandomSampler(0)
    for pruner in (None, optuna.pruners.MedianPruner(n_startup_trials=100)):
        out = search(TASK, wild, 8, 8, sampler=sampler, pruner=pruner, storage=memory(), **SMALL)
        lost = (out.result.diverged_at >= 0).any(axis=1)
        assert 0 < lost.sum() < 8
        for trial, bad in zip(out.study.trials, lost, strict=True):
            assert trial.state is (STATE.PRUNED if bad else STATE.COMPLETE)
            assert ("diverged_at" in trial.user_attrs) == bad
            assert (trial.value is None) == bad


def test_the_largest_can_be_best():
    out = search(TASK, LINEAR, 8, 8, metric="valid_close", mode="max", storage=memory(), **SMALL)
    assert out.study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert out.best_value == out.result.values("valid_close").mean(axis=1).max()


def test_optuna_is_quiet_and_stays_as_it_was(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    out = search(TASK, LINEAR, 4, 4, storage=memory(), **SMALL)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert repr(out).startswith("<SearchResult: 4 trials (4 complete); best valid_loss ")


# --- one study, many calls -------------------------------------------------------------------------------------------


@pytest.mark.trial
def test_a_study_goes_on_where_it_was(tmp_path):
    url = f"sqlite:///{tmp_path}/new/search.db"
    call = {"storage": url, "study": "line", "batch": 4, **SMALL}
    first = search(TASK, LINEAR, trials=8, **call)
    second = search(TASK, LINEAR, trials=14, **call)
    assert (first.trials, second.trials) == (tuple(range(8)), tuple(range(8, 14)))
    assert second.result.final["valid_loss"].shape == (6, 2)
    third = search(TASK, LINEAR, trials=14, **call)
    assert (third.result, third.trials) == (None, ())
    # Optuna alone reads the same.
    alone = optuna.load_study(study_name="line", storage=optuna.storages.RDBStorage(url))
    assert len(alone.trials) == 14
    assert alone.best_value == third.best_value == second.best_value
    assert repr(third.best) == repr(second.setting(alone.best_trial.number))
    assert "study='line'" in repr(third)
    assert url in repr(third)
    with pytest.raises(ValueError, match=r"'line' has trials with steps=6, and this call has steps=4: .*write steps=6"):
        search(TASK, LINEAR, trials=16, **{**call, "steps": 4})
    with pytest.raises(ValueError, match="'line' is there to minimize, and not to maximize"):
        search(TASK, LINEAR, trials=16, metric="valid_close", mode="max", **call)
    alone._storage._backend.engine.dispose()  # its own connections, that Optuna leaves open


def test_the_default_storage_is_a_file_that_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = search(TASK, LINEAR, 4, 4, **SMALL)
    assert out.storage == "sqlite:///runs/search.db"
    assert pathlib.Path("runs/search.db").is_file()
    again = search(TASK, LINEAR, 8, 4, study=out.study.study_name, **SMALL)
    assert again.trials == (4, 5, 6, 7)


def test_a_study_of_the_user_keeps_its_sampler_and_its_pruner():
    pruner = Above()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), pruner=pruner)
    study.enqueue_trial({"init_value": 0.25, "end_value": 0.05})
    out = search(TASK, LINEAR, 4, 4, study=study, **SMALL)
    assert out.study is study
    assert study.trials[0].params == {"init_value": 0.25, "end_value": 0.05}
    assert pruner.saw


class Stop(Exception):
    pass


@pytest.mark.trial
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stop])
def test_a_batch_that_ends_early_leaves_a_study_that_goes_on(kind):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), pruner=optuna.pruners.NopPruner())
    told = []

    def progress(status):
        told.append(status)
        if len(told) > 8:  # in the second batch
            raise kind

    with pytest.raises(kind):
        search(TASK, LINEAR, 12, 4, study=study, progress=progress, **SMALL)
    names = [trial.state.name for trial in study.trials]
    done = names.count("COMPLETE")
    waiting = 4 if kind is KeyboardInterrupt else 0
    assert names == ["COMPLETE"] * done + ["FAIL"] * 4 + ["WAITING"] * waiting
    lost = [trial.params for trial in study.trials if trial.state is STATE.FAIL]
    search(TASK, LINEAR, 12, 4, study=study, **SMALL)
    names = [trial.state.name for trial in study.trials]
    assert (names.count("COMPLETE"), names.count("FAIL")) == (12, 4)
    if waiting:  # proposed again
        assert [trial.params for trial in study.trials[done + 4 : done + 8]] == lost


def test_the_trials_of_silent_processes_are_freed_and_those_of_others_are_not():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), pruner=optuna.pruners.NopPruner())
    for name, seconds in (("far:1:aa", time.time()), ("far:2:bb", time.time() - 100), ("far:3:cc", 0.0)):
        study.set_user_attr(f"process {name}", {"seconds": seconds, "where": "another machine"})
        trial = study.ask()
        trial.set_user_attr("process", name)
        trial.suggest_float("init_value", 1e-3, 1.0, log=True)
        trial.suggest_float("end_value", 0.0, 0.1)
    study.ask()  # of a loop that is not ours
    out = search(TASK, LINEAR, 8, 4, study=study, **SMALL)
    assert [trial.state.name for trial in study.trials[:4]] == ["RUNNING", "FAIL", "FAIL", "RUNNING"]
    assert [trial.params for trial in study.trials[4:6]] == [trial.params for trial in study.trials[1:3]]
    assert states(out).count(STATE.COMPLETE) == 6


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.test_search import LINEAR, SMALL, TASK, search

def progress(status):
    if {killed} and status.steps == status.steps_total:
        os.kill(os.getpid(), signal.SIGKILL)

out = search(TASK, LINEAR, trials={trials}, batch=4, storage={url!r}, study="shared", progress=progress, **SMALL)
print(*out.trials)
"""


def start(url, trials, killed=False):
    root = str(pathlib.Path(__file__).parents[1])
    code = SCRIPT.format(root=root, url=url, trials=trials, killed=killed)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, cwd=root)


@pytest.mark.trial
def test_two_processes_share_a_study(tmp_path):
    url = f"sqlite:///{tmp_path}/search.db"
    both = [start(url, 24) for _ in range(2)]
    trained = []
    try:
        for process in both:
            out, error = process.communicate(timeout=180)
            assert process.returncode == 0, error
            trained += map(int, out.split())
    finally:
        for process in both:
            process.kill()
            process.wait()
    whole = search(TASK, LINEAR, trials=24, batch=4, storage=url, study="shared", **SMALL)
    assert whole.result is None
    assert sorted(trained) == list(range(len(whole.study.trials)))
    assert 24 <= len(trained) <= 28
    assert set(states(whole)) == {STATE.COMPLETE}
    assert len({str(trial.params) for trial in whole.study.trials}) == len(trained)


@pytest.mark.trial
@pytest.mark.skipif(not os.path.exists("/proc/self/ns/pid"), reason="elsewhere a dead process is found by its silence")
def test_what_a_killed_process_trained_is_proposed_again(tmp_path):
    url = f"sqlite:///{tmp_path}/search.db"
    process = start(url, 8, killed=True)
    process.communicate(timeout=180)
    assert process.returncode == -signal.SIGKILL
    out = search(TASK, LINEAR, trials=8, batch=4, storage=url, study="shared", **SMALL)
    assert [state.name for state in states(out)] == ["FAIL"] * 4 + ["COMPLETE"] * 8
    assert [trial.params for trial in out.study.trials[4:8]] == [trial.params for trial in out.study.trials[:4]]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says", "arguments"),
    [
        (TypeError, "search: task=3; task must be a Task", {"task": 3}),
        (TypeError, r"search: space=.*Linear.*write what is drawn: space\(Linear", {"space": js.Linear}),
        (TypeError, r"write what is drawn: space\(Linear", {"space": js.Linear(1.0, 0.0, 4)}),
        (ValueError, r"search: space=\[\]; write at least one space", {"space": []}),
        (ValueError, "space=.*: nothing is drawn", {"space": space(js.Linear(1.0, 0.0, 4))}),
        (ValueError, "space=3: nothing is drawn", {"space": 3}),
        (ValueError, "trials=0; trials must be an integer, 1 or more", {"trials": 0}),
        (ValueError, "batch=1.5; batch must be an integer", {"batch": 1.5}),
        (ValueError, "metric='valid_los'; did you mean 'valid_loss'", {"metric": "valid_los"}),
        (ValueError, "metric='valid_close' and mode=None; write mode='max'", {"metric": "valid_close"}),
        (ValueError, "storage='search.db'; write a URL, such as 'sqlite:///search.db'", {"storage": "search.db"}),
        (ValueError, "write storage=optuna.storages.InMemoryStorage", {"storage": "sqlite:///:memory:"}),
        (TypeError, "storage=3; storage must be a URL or one of", {"storage": 3}),
        (TypeError, "study=3; study must be a name or an optuna.Study", {"study": 3}),
        (ValueError, "sampler=.* beside a study", {"study": "a study", "sampler": optuna.samplers.RandomSampler()}),
        (ValueError, "'.*' is there to maximize, and not to minimize", {"study": "a study to maximize"}),
        (TypeError, r"space\(trial\) returned Linear.*; return one setting", {"space": lambda trial: PAIR}),
        (TypeError, "neither a schedule nor a number", {"space": lambda trial: "a"}),
        (ValueError, "steps=0; steps must be 1 or more", {"steps": 0}),
    ],
)
def test_bad_input_is_refused(error, says, arguments):
    call = {"task": TASK, "space": LINEAR, "trials": 4, "batch": 4, "storage": memory(), **SMALL} | arguments
    if isinstance(call.get("study"), str):
        call["study"] = optuna.create_study(direction="maximize" if "max" in call["study"] else "minimize")
        call["storage"] = None
    with pytest.raises(error, match=says):
        search(**call)


PAIR = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=4)


def test_a_file_that_cannot_be_a_storage_is_refused(tmp_path):
    (tmp_path / "search.db").write_text("not a database, but long enough to be read as the header of one" * 20)
    with pytest.raises(ValueError, match=r"storage='sqlite:.*' cannot be opened .*not a database.*write another file"):
        search(TASK, LINEAR, 4, 4, storage=f"sqlite:///{tmp_path}/search.db", **SMALL)


def test_nothing_completed_has_no_best():
    lost = dataclasses.replace(TASK, init=lambda key: jnp.full((), jnp.nan))
    out = search(lost, LINEAR, 4, 4, storage=memory(), **SMALL)
    assert set(states(out)) == {STATE.PRUNED}
    with pytest.raises(ValueError, match="no trial was completed"):
        out.best  # noqa: B018
    assert "best" not in repr(out)


def test_a_missing_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "jaxsched\[search\]"'):
        search(TASK, LINEAR)
