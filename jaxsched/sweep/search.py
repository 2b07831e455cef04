"""Search: Optuna proposes settings in batches, a whole batch trains in one program, and the values go back.

No search algorithm is written here: whatever samples and prunes in Optuna does so here, by its interface to ask and
tell. What this adds is the batch, and that several processes may share a study and be killed at any moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from .._errors import format_value, nearest_name
from ..inspect.format import optional
from ..schedules.base import Schedule
from . import engine
from .program import Programs
from .result import SweepResult
from .run import Interrupted
from .settings import grouped_settings, merged
from .space import Distribution, Draws, Space, accepted, choice, drawn_from, int_uniform, log_uniform, uniform
from .task import Task

if TYPE_CHECKING:
    import optuna

STORAGE = "sqlite:///runs/search.db"
"""Where studies are kept unless another storage is written."""

_SIGN_SECONDS, _SILENT_SECONDS = 10.0, 60.0
"""A process gives a sign so often, and after so much silence it is dead."""

_MOST_REFUSED = 1_024
"""The search gives up a batch after this many rejected proposals."""

_log = logging.getLogger("jaxsched")


def search(
    task: Task,
    space: Any,
    trials: int = 256,
    batch: int = 64,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    storage: str | optuna.storages.BaseStorage | None = None,
    study: str | optuna.Study | None = None,
    metric: str = "valid_loss",
    mode: Literal["min", "max"] | None = None,
    where: Callable[[Any], Any] | None = None,
    steps: int = 2_000,
    seeds: int | Sequence[int] = 4,
    key: int | jax.Array = 0,
    log_every: int | None = None,
    chunk: int | Literal["auto"] = "auto",
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> SearchResult:
    """Looks for the best setting: Optuna proposes a batch, the batch trains in one program, and Optuna is told.

    The value of a trial is the mean over the seeds of the final `metric`. A trial that diverged with any seed is told
    as pruned and not as failed, because samplers learn from a pruned trial that its region is bad, and from a failed
    one nothing. Failed are the trials that were interrupted, and the proposals that a class or `where` refused, of
    which nothing was trained.

    A study is shared by all processes that name it and its storage, on any number of machines. They may begin and end,
    or be killed, at any time: what a killed process was training is proposed again by one that goes on, at once on
    the same machine and within a minute on another. The same call again goes on to the same number of trials.

    Args:
      task: a `Task`.
      space: either of
        - a `space(...)`, or a pytree of spaces, distributions, schedules and numbers. Its fields are suggested under
          their paths (`"learning_rate.peak_value"`); what is alone is called `"value"`;
        - a list of these, the families: one is suggested as `"family"`, and its fields below its name
          (`"WarmupCosine.peak_value"`);
        - a function `space(trial) -> setting` that suggests as Optuna's objectives do.
      trials: how many the study has in the end, those of earlier calls and of other processes counted, and those that
        failed not; several processes may go over it by less than a batch each.
      batch: how many are proposed and trained together. A sampler learns between two batches only.
      sampler: one of Optuna's; None: `TPESampler(constant_liar=True)`, whose proposals for one batch keep apart. With
        a seed (`TPESampler(seed=0)`) a process alone proposes the same again.
      pruner: one of Optuna's, asked at the end of every window of `log_every` steps; None: none. For each trial that
        is a write and a look into the storage, in a file some 10 ms: take a `log_every` of a tenth of `steps` or so.
      storage: a URL as Optuna takes it, or one of its storages; None: the file `runs/search.db`. With
        `optuna.storages.InMemoryStorage()` nothing is kept.
      study: the name of a study, which goes on if it is there; None: a new one with a new name. Or an `optuna.Study`,
        which has its own storage, sampler and pruner.
      metric: a metric of the task, as in `SweepResult.final`.
      mode: `"min"` or `"max"`; None is `"min"` for a loss.
      where: a condition, `where(setting) -> bool`; a proposal that does not meet it is refused, and counted.
      steps, seeds, key, log_every, chunk, devices, progress: as in `sweep`, for each batch.

    Errors: ImportError without Optuna; TypeError and ValueError that name the argument, show its value and say what to
    write; ValueError for a study of another direction, metric, number of steps or seeds.

    Example:
      >>> import jax.numpy as jnp, optax, optuna
      >>> import jaxsched as js
      >>> from jaxsched.sweep import Task, log_uniform, search, space
      >>> x = jnp.linspace(-1.0, 1.0, 40)
      >>> task = Task(
      ...     init=lambda key: jnp.zeros(()),
      ...     loss=lambda slope, batch, key: (jnp.mean((slope * batch[0] - batch[1]) ** 2), {}),
      ...     train=(x, 2 * x), valid=(x, 2 * x), batch_size=8, optimizer=optax.sgd,
      ... )
      >>> linear = space(js.Linear, init_value=log_uniform(1e-3, 1.0), end_value=0.0, steps=20)
      >>> found = search(
      ...     task, linear, trials=16, batch=8, steps=20, seeds=2, storage=optuna.storages.InMemoryStorage()
      ... )
      >>> len(found.study.trials), found.best.init_value > 0.1
      (16, True)

    Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework" (1907.10902).
    """
    optuna = _optuna()
    for name, value in (("trials", trials), ("batch", batch)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"search: {name}={format_value(value)}; {name} must be an integer, 1 or more.")
    if not isinstance(task, Task):
        raise TypeError(f"search: task={format_value(task)}; task must be a Task(init=..., loss=..., ...).")
    if metric not in task.metrics:
        raise ValueError(f"search: metric={metric!r}; {nearest_name(str(metric), task.metrics)}")
    propose = _proposer(space)
    families = [x.name if isinstance(x, Space) else format_value(x) for x in space] if isinstance(space, list) else None
    options = {"steps": steps, "seeds": seeds, "key": key, "log_every": log_every, "chunk": chunk, "devices": devices}
    with _quiet(optuna):
        found, place = _study(optuna, study, storage, sampler, pruner, _direction(metric, mode))
        loop = _Search(found, place, task, propose, families, metric, where, options, progress)
        with _Sign(found) as sign:
            loop.run(int(trials), int(batch), sign)
    if loop.refused:
        warnings.warn(
            f"search: {loop.refused} proposals were refused, and others were asked for. The last refusal was: "
            f"{loop.refusal}",
            stacklevel=2,
        )
    return SearchResult(found, loop.result(), tuple(loop.numbers), place, metric, propose)


@dataclasses.dataclass(frozen=True, eq=False)
class SearchResult:
    """What came out of a search.

    Fields:
      study: the `optuna.Study`, with all its trials, of other processes and earlier calls too.
      result: a `SweepResult` of all that this call trained, or None if there was nothing left to train.
      trials: the numbers of the trials that the settings of `result` have in the study, in order.
      storage: where the study is kept: the URL, or the storage as text.
      metric: what was looked for.
      propose: makes a setting of an Optuna trial.

    Example: see `search`.
    """

    study: optuna.Study
    result: SweepResult | None
    trials: tuple[int, ...]
    storage: str
    metric: str
    propose: Callable[[Any], Any] = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        states = [trial.state.name for trial in self.study.get_trials(deepcopy=False)]
        counts = ", ".join(f"{states.count(name)} {name.lower()}" for name in dict.fromkeys(states))
        best = f"; best {self.metric} {self.best_value:.6g}" if "COMPLETE" in states else ""
        name = self.study.study_name
        return f"<SearchResult: {len(states)} trials ({counts}){best}; study={name!r}, storage={self.storage!r}>"

    @property
    def best(self) -> Any:
        """The setting of the best trial of the study.

        Errors: ValueError if none was completed.
        """
        return self.setting(self._best().number)

    @property
    def best_value(self) -> float:
        """The value of the best trial of the study.

        Errors: ValueError if none was completed.
        """
        return self._best().value

    def setting(self, number: int) -> Any:
        """The setting of a trial of the study."""
        trial = self.study.get_trials(deepcopy=False)[number]
        return self.propose(_optuna().trial.FixedTrial(trial.params, number))

    def _best(self) -> Any:
        complete = _optuna().trial.TrialState.COMPLETE
        if not self.study.get_trials(deepcopy=False, states=(complete,)):
            raise ValueError("SearchResult: no trial was completed: all diverged, were pruned or failed.")
        return self.study.best_trial


# --- proposals -------------------------------------------------------------------------------------------------------


def _proposer(space: Any) -> Callable[[Any], Any]:
    """A function that makes a setting of an Optuna trial."""
    if isinstance(space, Schedule) or (isinstance(space, type) and issubclass(space, Schedule)):
        raise TypeError(f"search: space={format_value(space)}; write what is drawn: space({_name(space)}, ...).")
    if callable(space) and not isinstance(space, (Space, Distribution)):
        return space
    if isinstance(space, list) and not space:
        raise ValueError("search: space=[]; write at least one space.")
    draws = Draws(choice(space) if isinstance(space, list) else space)
    if not draws.drawn:
        raise ValueError(
            f"search: space={format_value(space)}: nothing is drawn; write peak_value=log_uniform(1e-4, 1e-1)."
        )
    return lambda trial: draws.setting(functools.partial(_suggested, trial))


def _name(schedule: Any) -> str:
    return schedule.__name__ if isinstance(schedule, type) else repr(schedule)


def _suggested(trial: Any, path: str, one: Distribution) -> Any:
    """What an Optuna trial suggests of a distribution."""
    if isinstance(one, choice):
        labels = one.labels
        name = path or ("family" if any(map(drawn_from, one.values)) else "value")
        return one.values[labels.index(trial.suggest_categorical(name, labels))]
    name = path or "value"
    if isinstance(one, int_uniform):
        return trial.suggest_int(name, int(one.lo), int(one.hi))
    if isinstance(one, (uniform, log_uniform)):
        return trial.suggest_float(name, float(one.lo), float(one.hi), log=isinstance(one, log_uniform))
    return one.at(trial.suggest_float(name, 0.0, 1.0))  # a distribution of the user's: as the point that it maps


# --- the loop --------------------------------------------------------------------------------------------------------


class _Search:
    """Batches, one after the other.

    Fields:
      open: the trials that were asked for and not yet told of.
      numbers: the numbers of those that were trained.
      refused, refusal: how many proposals were refused, and why the last one was.
    """

    def __init__(
        self,
        study: optuna.Study,
        place: str,
        task: Task,
        propose: Callable[[Any], Any],
        families: list[str] | None,
        metric: str,
        where: Callable[[Any], Any] | None,
        options: dict[str, Any],
        progress: engine.Progress | None,
    ) -> None:
        self.study, self.place, self.task, self.propose, self.metric = study, place, task, propose, metric
        self.where, self.options, self.progress, self.families = where, options, progress, families
        self.state = _optuna().trial.TrialState
        self.programs: Programs | None = None
        self.open: list[optuna.Trial] = []
        self.numbers: list[int] = []
        self.refused, self.refusal = 0, ""
        self.stopped = False
        self._settings: list[Any] = []
        self._results: list[SweepResult] = []

    def run(self, trials: int, batch: int, sign: _Sign) -> None:
        """Batches until the study has so many trials."""
        _alone()
        self._agree()
        while not self.stopped:
            sign.free_the_dead()
            left = trials - len(self._trials(self.state.COMPLETE, self.state.PRUNED, self.state.RUNNING))
            if left <= 0:
                return
            _log.info("search: %d of %d trials left in study %r", left, trials, self.study.study_name)
            try:
                self._batch(min(batch, left), sign)
            except BaseException as error:
                self._give_up(interrupted=isinstance(error, KeyboardInterrupt))
                if isinstance(error, Interrupted):
                    raise Interrupted(
                        f"search: stopped; the trials of this batch are to be proposed again, and a call with "
                        f"study={self.study.study_name!r} and storage={self.place!r} goes on."
                    ) from None
                raise

    def result(self) -> SweepResult | None:
        """All that was trained, as one."""
        if not self._results:
            return None
        parts, last = self._results, self._results[-1]
        done = {name: sum(part.run[name] for part in parts) for name in ("steps_done", "steps_saved")}
        return SweepResult(
            metrics={name: np.concatenate([part.metrics[name] for part in parts]) for name in last.metrics},
            final={name: np.concatenate([part.final[name] for part in parts]) for name in last.final},
            diverged_at=np.concatenate([part.diverged_at for part in parts]),
            pruned_at=np.concatenate([part.pruned_at for part in parts]),
            schedules=merged(grouped_settings(self._settings)),
            seeds=last.seeds,
            steps=last.steps,
            log_every=last.log_every,
            seconds=sum(part.seconds for part in parts),
            compile_seconds=sum(part.compile_seconds for part in parts),
            run={**last.run, **done, "batches": len(parts)},
        )

    def _trials(self, *states: Any) -> list[Any]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _agree(self) -> None:
        """Refuses a study whose values are of other trainings."""
        # Checked by the plan of a sweep, before anything is asked for or written.
        plan = engine.Plan.make(self.task, [0.1], **self.options)
        now = {"metric": self.metric, "steps": plan.steps, "seeds": list(plan.seeds), "families": self.families}
        then = self.study.user_attrs.get("jaxsched")
        if then is None:
            self.study.set_user_attr("jaxsched", now)
        elif then != now:
            differ = [name for name in now if then.get(name) != now[name]]
            had, has = (", ".join(f"{name}={x.get(name)!r}" for name in differ) for x in (then, now))
            raise ValueError(
                f"search: study={self.study.study_name!r} has trials with {had}, and this call has {has}: their values "
                f"cannot be compared; write {had}, or another study."
            )

    def _batch(self, n: int, sign: _Sign) -> None:
        settings = self._ask(n, sign)
        if not settings:
            return
        judge = _Judge(self.metric, self.open) if self._prunes() else None
        plan = engine.Plan.make(self.task, settings, prune=judge, **self.options)
        self.programs = self.programs or Programs(self.task, plan.devices)
        result = plan.run(self.progress, self.programs)
        self.numbers += [trial.number for trial in self.open]
        self._settings += settings
        self._results.append(result)
        self._tell(result)

    def _prunes(self) -> bool:
        return not isinstance(self.study.pruner, _optuna().pruners.NopPruner)

    def _ask(self, n: int, sign: _Sign) -> list[Any]:
        """So many settings, each of a trial in `open`; fewer if the function that proposes prunes some at once."""
        settings: list[Any] = []
        pruned = refused = 0
        while len(settings) + pruned < n:
            trial = self.study.ask()
            self.open.append(trial)
            trial.set_user_attr("process", sign.name)
            try:
                settings.append(_single(accepted(self.propose(trial), self.where)))
                continue
            except _optuna().TrialPruned:
                self.study.tell(trial, state=self.state.PRUNED)
                pruned += 1
            except ValueError as error:
                trial.set_user_attr("refused", str(error))
                self.study.tell(trial, state=self.state.FAIL)
                if "dynamic value space" in str(error):
                    raise ValueError(
                        f"search: study={self.study.study_name!r} has trials with other choices in its space "
                        f"({error}); write the space as it was, or another study."
                    ) from None
                self.refused, self.refusal, refused = self.refused + 1, str(error), refused + 1
            self.open.remove(trial)
            if refused >= _MOST_REFUSED:
                raise ValueError(
                    f"search: {refused} proposals of a batch were refused; write a space in which most are allowed. "
                    f"The last refusal was: {self.refusal}"
                )
        return settings

    def _tell(self, result: SweepResult) -> None:
        """Tells the study of all open trials."""
        values = result.values(self.metric).mean(axis=1)
        for i, trial in enumerate(list(self.open)):
            lost = result.diverged_at[i][result.diverged_at[i] >= 0]
            if len(lost):
                trial.set_user_attr("diverged_at", int(lost.min()))
            worth = not len(lost) and (result.pruned_at[i] < 0).all() and np.isfinite(values[i])
            told: dict[str, Any] = {"values": float(values[i])} if worth else {"state": self.state.PRUNED}
            try:
                # Another process may have taken this one for dead, and the trial for failed.
                self.study.tell(trial, skip_if_finished=True, **told)
            except RuntimeError as error:
                if "Study.stop" not in str(error):
                    raise
                self.stopped = True  # a sampler that has nothing more to propose, such as a grid, can only raise this
            self.open.remove(trial)

    def _give_up(self, interrupted: bool) -> None:
        """Tells that the open trials have failed; if the user stopped them, they are to be proposed again."""
        for trial in self.open:
            with contextlib.suppress(Exception):  # the error that stopped us is what the user has to see
                self.study.tell(trial, state=self.state.FAIL, skip_if_finished=True)
                if interrupted and trial.params:
                    self.study.enqueue_trial(trial.params)
        self.open = []


def _single(setting: Any) -> Any:
    groups = grouped_settings([setting])
    if len(groups) != 1 or len(groups[0].index) != 1:
        raise TypeError(
            f"search: space(trial) returned {format_value(setting)}; return one setting, such as Linear(...)."
        )
    return setting


def _alone() -> None:
    from .distributed import current

    if (count := current().count) > 1:
        raise ValueError(
            f"search: this is one of {count} processes that share a sweep; start each by itself, with one study and "
            "one storage for all."
        )


class _Judge:
    """Lets the pruner of a study judge the trials of a batch on their way; see `prune.Pruner`."""

    def __init__(self, metric: str, trials: Sequence[optuna.Trial]) -> None:
        self.metric, self.trials = metric, list(trials)
        self.going = np.ones(len(self.trials), bool)

    def at(self, steps: int, log_every: int) -> tuple[int, ...]:
        return tuple(range(log_every, steps, log_every))

    def choose(self, step: int, values: np.ndarray) -> np.ndarray:
        # All are told before one is judged, or the first would be compared with nothing. One that has diverged is told
        # of once, as NaN, so that its last sound value is not taken for its result.
        for i in np.flatnonzero(self.going):
            self.trials[i].report(float(values[i]), step)
        self.going &= np.isfinite(values)
        for i in np.flatnonzero(self.going):
            self.going[i] = not self.trials[i].should_prune()
        return self.going.copy()


# --- who is alive ----------------------------------------------------------------------------------------------------


class _Sign:
    """The sign of life of this process in a study, and the trials of those that give none any more.

    Optuna's own heartbeat serves its own loop only, and one kind of storage; this is an attribute of the study.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self.where = _where_pids_are_ours()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="jaxsched-search", daemon=True)

    def __enter__(self) -> _Sign:
        self._give(time.time())
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Exception):
            self._give(0.0)

    def free_the_dead(self) -> None:
        """Tells that the trials of dead processes have failed, and has them proposed again."""
        state = _optuna().trial.TrialState
        signs = self.study.user_attrs
        for trial in self.study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            name = trial.user_attrs.get("process")
            if name is None or name == self.name or not self._is_dead(signs.get(f"process {name}"), name):
                continue
            with contextlib.suppress(ValueError):  # another process was faster
                self.study.tell(trial.number, state=state.FAIL)
                if trial.params:
                    self.study.enqueue_trial(trial.params)

    def _give(self, seconds: float) -> None:
        self.study.set_user_attr(f"process {self.name}", {"seconds": seconds, "where": self.where})

    def _beat(self) -> None:
        while not self._ended.wait(_SIGN_SECONDS):
            with contextlib.suppress(Exception):  # a storage that cannot be reached now is reached the next time
                self._give(time.time())

    def _is_dead(self, sign: dict[str, Any] | None, name: str) -> bool:
        if sign is None or time.time() - sign["seconds"] > _SILENT_SECONDS:
            return True
        return bool(self.where) and sign["where"] == self.where and not _runs(int(name.split(":")[-2]))


def _where_pids_are_ours() -> str:
    """What all processes share that see each other's ids, and no others; empty where that is not known."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there, and another user's
        return True
    return True


# --- Optuna ----------------------------------------------------------------------------------------------------------


def _optuna() -> Any:
    return optional("optuna", "search needs", "search")


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna tells of every study that is made; who wants that says so."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _direction(metric: str, mode: Any) -> str:
    if mode is None and metric.endswith("loss"):
        return "minimize"
    if mode not in ("min", "max"):
        raise ValueError(f"search: metric={metric!r} and mode={mode!r}; write mode='max' or mode='min'.")
    return f"{mode}imize"


def _study(
    optuna: Any, study: Any, storage: Any, sampler: Any, pruner: Any, direction: str
) -> tuple[optuna.Study, str]:
    """The study, new or as it was, and where it is kept."""
    if isinstance(study, optuna.Study):
        for name, value in (("storage", storage), ("sampler", sampler), ("pruner", pruner)):
            if value is not None:
                raise ValueError(
                    f"search: {name}={format_value(value)} beside a study, which has its own; write one of them."
                )
        made, place = study, "that of the study"
    elif study is not None and not isinstance(study, str):
        raise TypeError(f"search: study={format_value(study)}; study must be a name or an optuna.Study.")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar, in older ones
            sampler = sampler if sampler is not None else optuna.samplers.TPESampler(constant_liar=True)
        kept = _storage(optuna, storage)
        made = optuna.create_study(
            storage=kept,
            study_name=study,
            direction=direction,
            load_if_exists=study is not None,
            sampler=sampler,
            pruner=pruner if pruner is not None else optuna.pruners.NopPruner(),
        )
        place = storage if isinstance(storage, str) else STORAGE if storage is None else type(kept).__name__
    directions = [one.name.lower() for one in made.directions]
    if directions != [direction]:
        raise ValueError(
            f"search: study={made.study_name!r} is there to {' and '.join(directions)}, and not to {direction}; "
            "write another mode, or another study."
        )
    return made, place


def _storage(optuna: Any, storage: Any) -> Any:
    """The storage of Optuna that was written."""
    if storage is None:
        storage = STORAGE
    if isinstance(storage, optuna.storages.BaseStorage):
        return storage
    if not isinstance(storage, str):
        raise TypeError(f"search: storage={format_value(storage)}; storage must be a URL or one of optuna.storages.")
    if "://" not in storage:
        raise ValueError(f"search: storage={storage!r}; write a URL, such as 'sqlite:///{storage or 'search.db'}'.")
    if not storage.startswith("sqlite"):
        return optuna.storages.get_storage(storage)
    file = storage.partition("://")[2].removeprefix("/").partition("?")[0]
    if file in ("", ":memory:"):
        raise ValueError(f"search: storage={storage!r}; write storage=optuna.storages.InMemoryStorage().")
    if not file.startswith("file:"):
        pathlib.Path(file).parent.mkdir(parents=True, exist_ok=True)
    return _sqlite(optuna, storage)


def _sqlite(optuna: Any, url: str) -> Any:
    """A file that several processes and threads write: each waits for the others, and holds no connection open."""
    import sqlalchemy.exc
    import sqlalchemy.pool

    options = {"connect_args": {"timeout": 60.0}, "poolclass": sqlalchemy.pool.NullPool}
    for left in reversed(range(10)):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except sqlalchemy.exc.SQLAlchemyError as error:
            # Of two processes that make the tables at once, one finds them there.
            if not left or "unable to open" in str(error) or "not a database" in str(error):
                why = getattr(error, "orig", error)
                raise ValueError(f"search: storage={url!r} cannot be opened ({why}); write another file.") from error
            time.sleep(0.1 + 0.2 * secrets.randbelow(100) / 100)
    raise AssertionError("the last round returns or raises")
