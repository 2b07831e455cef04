"""What came out of a sweep: the numbers, the ranking, what they tell, files and a figure."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax
import numpy as np

from .._errors import format_value, nearest_name
from . import archive, frames, statistics, writers
from .settings import hyperparameters, settings_list

if TYPE_CHECKING:
    import pandas
    import xarray

VERSION = 2
"""Of the form of `to_dict`; it changes when a reader of the older form would misread the newer one."""

Mode: TypeAlias = Literal["min", "max"]
_COLUMNS = ("mean", "std", "seeds", "diverged", "pruned_at", "setting", "family")


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """The numbers of a sweep, as numpy arrays on the host.

    Fields:
      metrics: by name (`train_loss`, `valid_loss`, ...), arrays (settings, seeds, steps // log_every): `train_*` is
        the mean over a window of `log_every` steps, `valid_*` the value at its end. NaN from the window on in which a
        training diverged, and after it was pruned.
      final: the same at the end of the training, arrays (settings, seeds); NaN where it diverged, and the last window
        that was measured where it was pruned.
      diverged_at: int32 (settings, seeds), the first step whose loss was not finite (the last step of a window if
        only the parameters after it are not), and -1 where the training did not diverge.
      schedules: the stacked settings, or the list of them if they are not all of one structure; `result.settings[i]`
        is setting i.
      seeds: the seeds.
      steps, log_every: as given to `sweep`.
      seconds, compile_seconds: the wall time of the trainings and of the compilation.
      pruned_at: int32 (settings, seeds), how many steps a training had done when it was pruned, and -1 where it was
        not; None stands for -1 everywhere.
      run: facts of the run by name, numbers and text: `chunk`, `devices`, `steps_saved` and so on.

    Example: see `jaxsched.sweep`.
    """

    metrics: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    diverged_at: np.ndarray
    schedules: Any
    seeds: tuple[int, ...]
    steps: int
    log_every: int
    seconds: float
    compile_seconds: float
    pruned_at: np.ndarray = None  # type: ignore[assignment]  # made below
    run: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pruned_at is None:
            object.__setattr__(self, "pruned_at", np.full(self.diverged_at.shape, -1, np.int32))

    def __repr__(self) -> str:
        settings, seeds = self.diverged_at.shape
        lost = int((self.diverged_at >= 0).sum())
        pruned = int((self.pruned_at >= 0).sum())
        length = "predicted" if self.run.get("predicted") else f"{self.steps} steps each"
        return (
            f"<SweepResult: {settings} settings x {seeds} seeds, {length}, {lost} diverged, "
            f"{f'{pruned} pruned, ' if pruned else ''}{self.seconds:.1f} s; metrics {', '.join(self.final)}>"
        )

    @functools.cached_property
    def settings(self) -> list[Any]:
        """The settings one by one, in the order of the arrays."""
        return settings_list(self.schedules)

    @property
    def mixed(self) -> bool:
        """Whether the settings are of several structures, such as two classes of schedules."""
        return isinstance(self.schedules, list)

    def direction(self, metric: str, mode: Mode | None = None) -> Mode:
        """Whether the smallest or the largest `metric` is best: the smallest loss, and else as `mode` says."""
        if mode is None and metric.endswith("loss"):
            return "min"
        if mode not in ("min", "max"):
            raise ValueError(f"SweepResult: metric={metric!r} and mode={mode!r}; write mode='max' or mode='min'.")
        return mode

    def values(self, metric: str | None = None) -> np.ndarray:
        """The final `metric`, float64 (settings, seeds).

        Here and below a metric may be left out: it is `valid_loss`, or the only one that there is.

        Errors: KeyError for a metric that there is not.
        """
        metric = self._named(metric)
        if metric not in self.final:
            raise KeyError(f"SweepResult: metric={metric!r}; {nearest_name(str(metric), self.final)}")
        return self.final[metric].astype(np.float64)

    def _named(self, metric: str | None) -> str:
        only = len(self.final) == 1 and "valid_loss" not in self.final
        return metric if metric is not None else next(iter(self.final)) if only else "valid_loss"

    # --- who is best -------------------------------------------------------------------------------------------------

    def order(self, metric: str | None = None, mode: Mode | None = None) -> np.ndarray:
        """The indices of the settings, best first: by the mean of the final `metric` over the seeds.

        Settings that were pruned come after all that finished, those that were pruned later first. A setting that
        diverged with any seed, or whose mean is not finite, comes last. `mode` may be left out for a loss, of which
        the smallest is best; for any other metric write `"max"` or `"min"`.

        Errors: KeyError for a metric that there is not; ValueError for another mode.
        """
        metric = self._named(metric)
        values = self.values(metric)
        means = values.mean(axis=1) if self.direction(metric, mode) == "min" else -values.mean(axis=1)
        bad = ~np.isfinite(means) | (self.diverged_at >= 0).any(axis=1)
        pruned = self.pruned_at.max(axis=1)
        # By the last key first: finished, then pruned, then lost. The lost keep their order.
        kind = np.where(bad, 2, np.where(pruned >= 0, 1, 0))
        return np.lexsort([np.where(bad, 0.0, means), np.where(bad, 0, -pruned), kind])

    def best(self, metric: str | None = None, mode: Mode | None = None) -> Any:
        """The winning setting: a plain schedule, or a pytree of them.

        Errors: KeyError for a metric that there is not; ValueError if every setting that finished diverged.
        """
        first = self.ranking(metric, mode)[0]
        if first["diverged"] or not np.isfinite(first["mean"]):
            if self.run.get("predicted"):
                raise ValueError("SweepResult: no prediction is finite; look at objective(result.settings[0]).")
            raise ValueError("SweepResult: every setting diverged with some seed; sweep lower learning rates.")
        if first["pruned_at"] >= 0:
            raise ValueError(
                "SweepResult: every setting that was not pruned diverged with some seed; the best of the pruned ones "
                f"is result.settings[{first['setting']}], at step {first['pruned_at']}."
            )
        return self.settings[first["setting"]]

    def ranking(self, metric: str | None = None, mode: Mode | None = None) -> list[dict[str, Any]]:
        """One row for each setting, in the order of `order`.

        A row is a dict: the hyperparameters by name (`peak_value`; `learning_rate.peak_value` in a pytree;
        `setting.std` for a field that has the name of another entry), then the
        `mean` and the `std` (of a sample; 0 for one seed) of the final `metric` over the `seeds`, how many of them
        `diverged`, the step at which it was pruned (`pruned_at`, -1 if it was not), and the index of the `setting`.
        The mean and the std are NaN if any diverged. Settings of several structures have their classes first, as
        `family`, and None for the hyperparameters of other families; all rows have the same entries.
        """
        named = frames.columns(self.settings, _COLUMNS)
        values = self.values(metric)
        rows = []
        for i in self.order(metric, mode).tolist():
            kind = {"family": frames.family(self.settings[i])} if self.mixed else {}
            rows.append(
                {
                    **kind,
                    **{name: column[i] for name, column in named.items()},
                    "mean": float(values[i].mean()),
                    "std": float(values[i].std(ddof=1)) if values.shape[1] > 1 else 0.0 * float(values[i, 0]),
                    "seeds": values.shape[1],
                    "diverged": int((self.diverged_at[i] >= 0).sum()),
                    "pruned_at": int(self.pruned_at[i].max()),
                    "setting": i,
                }
            )
        return rows

    def select(self, index: Any) -> SweepResult:
        """The same result with some of its settings only, in the order of `index`.

        Args:
          index: integers from 0 on, the places of settings, such as `result.order("valid_loss")[:64]`.

        Errors: IndexError for a setting that there is not; TypeError and ValueError for what is not a list of integers.

        Example:
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2, 0.3], end_value=0.0, steps=5)
          >>> final = {"valid_loss": np.array([[3.0], [1.0], [2.0]])}
          >>> result = js.SweepResult({}, final, np.full((3, 1), -1), S, (0,), 5, 5, 0.0, 0.0)
          >>> result.select(result.order()[:2]).schedules
          Linear(init_value=[0.2, 0.3], end_value=[0.0, 0.0], steps=[5, 5])
        """
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise TypeError(
                f"SweepResult: select({format_value(index)}); write the places of settings, such as [0, 3]."
            )
        if index.ndim != 1 or not index.size:
            raise ValueError(f"SweepResult: select({format_value(index)}); write a list of one setting or more.")
        count = len(self.diverged_at)
        if (bad := index[(index < 0) | (index >= count)]).size:
            raise IndexError(f"SweepResult: select: there is no setting {bad[0]}; they are 0 to {count - 1}.")
        stacked = self.schedules
        chosen = [stacked[i] for i in index] if self.mixed else jax.tree.map(lambda x: np.asarray(x)[index], stacked)
        arrays = {name: getattr(self, name)[index] for name in ("diverged_at", "pruned_at")}
        metrics = {name: values[index] for name, values in self.metrics.items()}
        final = {name: values[index] for name, values in self.final.items()}
        return dataclasses.replace(self, metrics=metrics, final=final, schedules=chosen, **arrays)

    # --- what the seeds tell -----------------------------------------------------------------------------------------

    def spread(self, metric: str | None = None) -> dict[str, np.ndarray]:
        """How far the seeds spread: `mean`, `std`, `error`, `min` and `max` of the final `metric`, (settings,) each.

        `std` is that of a sample and `error` that of the mean, both NaN for one seed. A setting that diverged with any
        seed has NaN everywhere.

        Example:
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=5)
          >>> final = {"valid_loss": np.array([[1.0, 3.0], [2.0, 2.0]])}
          >>> result = js.SweepResult({}, final, np.full((2, 2), -1), S, (0, 1), 5, 5, 0.0, 0.0)
          >>> {name: x.tolist() for name, x in result.spread().items() if name in ("mean", "error")}
          {'mean': [2.0, 2.0], 'error': [1.0, 0.0]}
        """
        return statistics.spread(self, self._named(metric))

    def compare(
        self,
        a: int = 0,
        b: int = 1,
        metric: str | None = None,
        mode: Mode | None = None,
        confidence: float = 0.95,
        resamples: int = 9_999,
        seed: int = 0,
    ) -> statistics.Comparison:
        """Whether the setting at rank `a` is really better than the one at rank `b`, and not only luckier.

        Settings share their seeds, so they are compared seed by seed: the gain is the mean of the differences, its
        interval is that of a bootstrap over the seeds (percentiles), and a second test swaps the two settings in all
        subsets of the seeds. Few seeds cannot tell: with n of them chance alone makes all agree once in `2**(n - 1)`
        cases, so 95 % needs 6 seeds, and a bootstrap interval of fewer is too narrow. And the winner was chosen by
        these same seeds, among many settings by luck too: for a claim, train the two again with other seeds. If one of
        them was pruned, they are compared at the last step at which both were trained.

        Args:
          a, b: ranks in `order(metric, mode)`, 0 is the best.
          metric, mode: what they are compared by, as in `order`.
          confidence: of the interval, from 0.5 to 1.
          resamples: how many are drawn, 100 or more.
          seed: of the draws.

        Returns: a `Comparison`; `print` it for the answer in words.

        Errors: ValueError for one seed, for ranks that there are not, and for a setting that diverged.

        Example:
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=5)
          >>> losses = np.array([[0.50, 0.52, 0.49, 0.51, 0.53, 0.50], [0.55, 0.56, 0.50, 0.57, 0.55, 0.54]])
          >>> result = js.SweepResult(
          ...     {}, {"valid_loss": losses}, np.full((2, 6), -1), S, tuple(range(6)), 5, 5, 0.0, 0.0
          ... )
          >>> answer = result.compare()
          >>> answer.better, round(answer.gain, 4), answer.p_value
          (True, 0.0367, 0.03125)

        Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, with scipy.stats.bootstrap; Fisher's
        test of paired differences, with scipy.stats.permutation_test.
        """
        return statistics.compare(self, a, b, self._named(metric), mode, confidence, resamples, seed)

    def importance(self, metric: str | None = None, mode: Mode | None = None, seed: int = 0) -> dict[str, float]:
        """Which hyperparameter mattered: the share of the variance of `metric` that each explains alone.

        The shares, largest first, are those of Optuna's fANOVA, a functional analysis of variance on a random forest.
        What their sum lacks of 1 is what hyperparameters do together. Only hyperparameters that differ have one.
        - A setting counts with its mean over the seeds. One that diverged with any seed counts as the worst of all that
          did not, so the edge to divergence matters, and by how much the loss exploded does not.
        - With pruning, all are judged at the first rung: the last step at which all of them were trained.
        - A hyperparameter weighs as it was swept: on a scale of powers of ten if its values are spread so.
        - Families side by side are one more hyperparameter, `family`. One that a family does not have stands there at
          its median, and those of the same name are one.
        - A table counts place by place: `values.0`, `values.1`.
        - Hyperparameters that always change together cannot be told apart, and share what they explain by chance.

        Args:
          metric, mode: what is explained, as in `order`.
          seed: of the forest.

        Errors: ImportError without Optuna; ValueError for fewer than 8 settings, and if nothing differs.

        Example:
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2, 0.4], end_value=[0.0, 0.01, 0.02], steps=5)
          >>> final = {"valid_loss": np.repeat([3.0, 2.0, 1.0], 3)[:, None]}
          >>> result = js.SweepResult({}, final, np.full((9, 1), -1), S, (0,), 5, 5, 0.0, 0.0)
          >>> list(result.importance())
          ['init_value', 'end_value']

        Source: Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
        """
        return statistics.importance(self, self._named(metric), mode, seed)

    # --- tables ------------------------------------------------------------------------------------------------------

    def to_xarray(self) -> xarray.Dataset:
        """The numbers as an `xarray.Dataset` over `setting`, `seed` and `step`.

        - `step` is how many updates were done at the end of each window: `log_every`, `2 * log_every`, ...
        - The metrics are variables over all three; `final_*`, `diverged_at` and `pruned_at` over setting and seed.
        - The hyperparameters are coordinates of `setting`, by the names of `ranking`; so is `schedule`, the setting as
          text, and `family` where there are several. A table of numbers is text. What a family does not have is NaN.
        - The attributes are `steps`, `log_every`, `seconds`, `compile_seconds` and the facts of `run`, as `run_*`.

        Errors: ImportError without xarray.

        Example:
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=10)
          >>> curves, final = {"valid_loss": np.ones((2, 1, 2))}, {"valid_loss": np.ones((2, 1))}
          >>> result = js.SweepResult(curves, final, np.full((2, 1), -1), S, (0,), 10, 5, 0.0, 0.0)
          >>> data = result.to_xarray()
          >>> dict(data.sizes), data.step.values.tolist(), data.init_value.values.tolist()
          ({'setting': 2, 'seed': 1, 'step': 2}, [5, 10], [0.1, 0.2])
        """
        return frames.dataset(self)

    def to_pandas(self, curves: bool = False) -> pandas.DataFrame:
        """The numbers as a tidy `pandas.DataFrame`: a row for each setting and seed, with the final metrics.

        With `curves` it is a row for each setting, seed and step, with the metrics at the end of that window. Columns:
        `setting`, `seed` (and `step`), `schedule` (the setting as text), `family` where there are several, the
        hyperparameters by the names of `ranking`, the metrics, `diverged_at` and `pruned_at`.

        Errors: ImportError without pandas.

        Example:
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=10)
          >>> curves, final = {"valid_loss": np.ones((2, 1, 2))}, {"valid_loss": np.ones((2, 1))}
          >>> result = js.SweepResult(curves, final, np.full((2, 1), -1), S, (0,), 10, 5, 0.0, 0.0)
          >>> result.to_pandas().shape, result.to_pandas(curves=True).step.tolist()
          ((2, 9), [5, 10, 5, 10])
        """
        return frames.frame(self, curves)

    # --- files -------------------------------------------------------------------------------------------------------

    def save(self, directory: str | os.PathLike[str]) -> pathlib.Path:
        """Writes everything to the file `result.npz` in `directory`, which is made if need be, and returns its path.

        `SweepResult.load(directory)` gives it back bit for bit (JAX arrays as those of numpy). The file appears when
        it is complete, and takes the place of an older one then. It holds arrays as numpy writes them and a text that
        says what they are; nothing is pickled. Classes and functions of yours are kept by their name, so they must
        stand at the top of a module.

        Errors: TypeError for what a file cannot hold, by its place.

        Example:
          >>> import tempfile
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=5)
          >>> final = {"valid_loss": np.array([[2.0], [1.0]])}
          >>> result = js.SweepResult({}, final, np.full((2, 1), -1), S, (0,), 5, 5, 0.0, 0.0)
          >>> folder = tempfile.mkdtemp()
          >>> result.save(folder).name
          'result.npz'
          >>> js.SweepResult.load(folder).best()
          Linear(init_value=0.2, end_value=0.0, steps=5)
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return archive.save(directory, fields)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], known: Iterable[Any] = ()) -> SweepResult:
        """The result that was saved in `directory`.

        The modules of the classes and functions that the file names are imported, and nothing else in it is run.

        Args:
          directory: as given to `save`.
          known: classes and functions, by whose names those of the file are found, such as those of a script.

        Errors: FileNotFoundError if there is no result; ValueError for another version or a broken file; ImportError
        for a class or a function that cannot be imported.
        """
        return cls(**archive.load(directory, known))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and text, with the `version` of the form; what is not finite is None."""
        return {
            "version": VERSION,
            "steps": self.steps,
            "log_every": self.log_every,
            "seeds": list(self.seeds),
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "run": plain(self.run),
            "settings": [
                {"schedule": repr(setting), "hyperparameters": plain(hyperparameters(setting))}
                for setting in self.settings
            ],
            "diverged_at": self.diverged_at.tolist(),
            "pruned_at": self.pruned_at.tolist(),
            "final": plain(self.final),
            "metrics": plain(self.metrics),
        }

    def to_json(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes `to_dict` to the file `path`, in a folder that is made if need be, and returns the path."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), allow_nan=False) + "\n", encoding="utf-8")
        return path

    def to_tensorboard(self, directory: str | os.PathLike[str]) -> pathlib.Path:
        """Writes the curves for `tensorboard --logdir directory`, and returns the path of the directory.

        A run is a training, `setting-0003/seed-1`, with each metric at the end of each window. The dashboard HPARAMS
        has a trial for each setting, with its hyperparameters and the mean over its seeds; a diverged training is a
        failed one. Points that are not finite are left out.

        Errors: FileExistsError for a directory that is not empty; ImportError without tensorboard.

        Example:
          >>> import tempfile
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=10)
          >>> curves, final = {"valid_loss": np.ones((2, 1, 2))}, {"valid_loss": np.ones((2, 1))}
          >>> result = js.SweepResult(curves, final, np.full((2, 1), -1), S, (0,), 10, 5, 0.0, 0.0)
          >>> folder = result.to_tensorboard(tempfile.mkdtemp())
          >>> sorted(path.name for path in folder.iterdir() if path.is_dir())
          ['setting-0000', 'setting-0001']
        """
        return writers.to_tensorboard(self, directory)

    def to_mlflow(self, experiment: str, tracking_uri: str | None = None) -> str:
        """Writes a run for the sweep and, below it, a run for each setting; returns the id of the run of the sweep.

        The run of a setting has its hyperparameters as parameters, each metric as a curve (the mean over the seeds),
        and `final_*` with `final_*_std` for the spread over them. Its status is FAILED if it diverged with any seed and
        KILLED if it was pruned; points that are not finite are left out.

        Args:
          experiment: its name; made if there is none.
          tracking_uri: a server or a database, such as `"sqlite:///mlflow.db"`; None: the one that MLflow is set to.

        Errors: ImportError without mlflow (or mlflow-skinny, with SQLAlchemy and alembic for a database).
        """
        return writers.to_mlflow(self, experiment, tracking_uri)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        metric: str | None = None,
        mode: Mode | None = None,
    ) -> Any:
        """The schedules beside their loss curves, coloured by rank, with the winner on top.

        Args:
          path: an image file to write too (its ending says the kind), in a folder that is made if need be.
          metric, mode: what the settings are ranked by.

        Returns: a matplotlib figure. A pytree of schedules has a panel for each; families side by side have a style of
        line each; a curve that was pruned ends in a dot.
        """
        from .figure import draw  # matplotlib is needed here only

        figure = draw(self, self._named(metric), mode)
        if path is not None:
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
        return figure

    def report(
        self,
        path: str | os.PathLike[str],
        metric: str | None = None,
        mode: Mode | None = None,
        *,
        command: str | None = None,
        title: str | None = None,
    ) -> pathlib.Path:
        """Writes one page of HTML about the sweep to the file `path`, and returns the path.

        The page has the best setting as an expression, the ranking as a table that can be sorted, the schedules and the
        curves, which light up together with their rows, the hyperparameters as parallel coordinates, the spread of the
        seeds, what diverged, what pruning spared, the versions, and the command. It is one file that loads nothing from
        anywhere: it can be sent, kept and opened without a network. The same result gives the same page.

        Args:
          path: the file, such as `"report.html"`, in a folder that is made if need be. It appears when it is complete.
          metric, mode: what the settings are ranked by, as in `order`.
          command: what was typed to make the sweep, to be shown; None: the `command` among the facts of `run`, if any.
          title: of the page; None: how many settings there are, and the metric.

        A curve has at most 256 points and a few more, with thousands of settings fewer: the page stays below 15 MB with
        2,000 settings. A curve of training is the mean over each stretch of windows, one of validation its last value.

        Errors: ImportError without plotly; KeyError for a metric that there is not; ValueError for another mode and for
        a `path` that is a folder; TypeError for a command or a title that is no text.

        Example:
          >>> import os, tempfile
          >>> import numpy as np
          >>> import jaxsched as js
          >>> S = js.grid(js.Linear, init_value=[0.1, 0.2], end_value=0.0, steps=10)
          >>> curves, final = {"valid_loss": np.ones((2, 1, 2))}, {"valid_loss": np.array([[2.0], [1.0]])}
          >>> result = js.SweepResult(curves, final, np.full((2, 1), -1), S, (0,), 10, 5, 0.0, 0.0)
          >>> page = result.report(os.path.join(tempfile.mkdtemp(), "report.html"), title="Two lines")
          >>> "<title>Two lines</title>" in page.read_text(encoding="utf-8")
          True
        """
        from .report import report  # plotly is needed here only

        return report(self, path, self._named(metric), mode, command, title)


def plain(x: Any) -> Any:
    """Lists and Python numbers, with None for what JSON cannot say."""
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, (np.ndarray, np.generic, jax.Array)):
        return plain(np.asarray(x).tolist())
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    return None if isinstance(x, float) and not np.isfinite(x) else x
