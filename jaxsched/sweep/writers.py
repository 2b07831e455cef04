"""The curves of a sweep for TensorBoard and MLflow, through their own packages."""

# pyright: reportAttributeAccessIssue=false
# The classes of protobuf are made when their modules are imported.

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import format_value
from ..inspect.format import optional
from .frames import columns, ends, family

if TYPE_CHECKING:
    from .result import SweepResult

_MOST_METRICS = 1_000
_MOST_PARAMS = 100
"""Of what MLflow takes in one call."""


def _curves(result: SweepResult) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps and the curves, with the end of the training as a last point if it is in no window."""
    steps, curves = ends(result), result.metrics
    if result.steps % result.log_every:
        # A training that was pruned has no end there.
        final = {name: np.where(result.pruned_at < 0, values, np.nan) for name, values in result.final.items()}
        curves = {name: np.concatenate([values, final[name][..., None]], axis=2) for name, values in curves.items()}
        steps = np.append(steps, result.steps)
    return steps, curves


def _described(result: SweepResult) -> list[dict[str, Any]]:
    """What each setting is, as plain numbers and text."""
    settings = result.settings
    named = columns(settings, {"schedule", "family"})
    rows = []
    for i, setting in enumerate(settings):
        row = {name: _plain(values[i]) for name, values in named.items() if values[i] is not None}
        rows.append(row | ({"family": family(setting)} if result.mixed else {}))
    return rows


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return str(array.tolist()) if array.ndim else array.item()


def _fresh(folder: pathlib.Path) -> pathlib.Path:
    """A folder for the runs of one sweep: TensorBoard would draw two in one as one zigzag."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"SweepResult: {folder} is not empty; write a new folder for the runs of this sweep.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- TensorBoard -----------------------------------------------------------------------------------------------------


def to_tensorboard(result: SweepResult, directory: str | os.PathLike[str]) -> pathlib.Path:
    """See `SweepResult.to_tensorboard`."""
    summary_v2 = optional("tensorboard.plugins.hparams.summary_v2", "SweepResult: to_tensorboard needs", "tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = _fresh(pathlib.Path(directory).expanduser())
    rows = _described(result)
    root = EventFileWriter(str(folder))
    hparams = [summary_v2.HParam(name, _domain([row[name] for row in rows if name in row])) for name in _names(rows)]
    config = summary_v2.hparams_config_pb(hparams, [summary_v2.Metric(name) for name in result.metrics])
    root.add_event(Event(wall_time=time.time(), summary=config))
    root.close()
    steps, curves = _curves(result)
    for i, row in enumerate(rows):
        for j, seed in enumerate(result.seeds):
            name = f"setting-{i:04d}"
            writer = EventFileWriter(str(folder / name / f"seed-{seed}"))
            # The seeds of a setting are the sessions of one trial: the dashboard shows their mean.
            start = summary_v2.hparams_pb(row, trial_id=name)
            writer.add_event(Event(wall_time=time.time(), summary=start))
            for k, step in enumerate(steps.tolist()):
                values = {tag: float(x[i, j, k]) for tag, x in curves.items()}
                points = [Summary.Value(tag=tag, simple_value=x) for tag, x in values.items() if np.isfinite(x)]
                if points:
                    writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
            end = _session_end(bool(result.diverged_at[i, j] >= 0))
            writer.add_event(Event(wall_time=time.time(), summary=end))
            writer.close()
    return folder


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _domain(values: list[Any]) -> Any:
    """What the dashboard offers as a filter: an interval of numbers, and else the values that there are."""
    from tensorboard.plugins.hparams import summary_v2

    if all(isinstance(value, (int, float)) for value in values):
        return summary_v2.RealInterval(float(min(values)), float(max(values)))
    return summary_v2.Discrete(sorted({str(value) for value in values}))


def _session_end(diverged: bool) -> Any:
    """How it ended. TensorBoard's own function for it imports TensorFlow; the message itself does not."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_FAILURE if diverged else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    tag = metadata.SESSION_END_INFO_TAG
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])


# --- MLflow ----------------------------------------------------------------------------------------------------------


def to_mlflow(result: SweepResult, experiment: str, tracking_uri: str | None) -> str:
    """See `SweepResult.to_mlflow`."""
    try:
        from mlflow.entities import RunTag
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise ImportError('SweepResult: to_mlflow needs mlflow-skinny: pip install "jaxsched[mlflow]"') from None
    if not (isinstance(experiment, str) and experiment):
        raise ValueError(f"SweepResult: experiment={format_value(experiment)}; write its name.")
    # A client of our own: the run and the address that the user's code has set stay as they are.
    client = MlflowClient(tracking_uri=tracking_uri)
    found = client.get_experiment_by_name(experiment)
    number = client.create_experiment(experiment) if found is None else found.experiment_id
    settings = len(result.diverged_at)
    sweep = client.create_run(number, run_name=f"sweep of {settings} settings").info.run_id
    facts = {"settings": settings, "seeds": json.dumps(list(result.seeds)), "steps": result.steps}
    facts |= {"log_every": result.log_every}
    facts |= {f"run_{name}": json.dumps(fact, default=str) for name, fact in result.run.items()}
    status = "FAILED"  # for whatever stops this loop
    try:
        client.log_batch(sweep, tags=[RunTag(name, str(value)) for name, value in facts.items()])
        points = _curves(result)
        for i, row in enumerate(_described(result)):
            run = _one_run(client, number, sweep, result, i, row)
            metrics = _metrics(result, i, *points)
            for k in range(0, len(metrics), _MOST_METRICS):
                client.log_batch(run, metrics=metrics[k : k + _MOST_METRICS])
            client.set_terminated(run, _ended(result, i))
        status = "FINISHED"
    finally:
        client.set_terminated(sweep, status)
    return sweep


def _one_run(client: Any, experiment: str, parent: str, result: SweepResult, i: int, row: dict[str, Any]) -> str:
    """A run for one setting, below that of the sweep."""
    from mlflow.entities import Param

    diverged, pruned = int((result.diverged_at[i] >= 0).sum()), int(result.pruned_at[i].max())
    tags = {
        "mlflow.parentRunId": parent,
        "setting": str(i),
        "schedule": repr(result.settings[i])[:5_000],
        "diverged": str(diverged),
        "pruned_at": str(pruned),
    }
    run = client.create_run(experiment, tags=tags, run_name=f"setting {i}").info.run_id
    params = [Param(name, str(value)) for name, value in row.items()]
    for k in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run, params=params[k : k + _MOST_PARAMS])
    return run


def _ended(result: SweepResult, i: int) -> str:
    if (result.diverged_at[i] >= 0).any():
        return "FAILED"
    return "KILLED" if (result.pruned_at[i] >= 0).any() else "FINISHED"


def _metrics(result: SweepResult, i: int, steps: np.ndarray, curves: dict[str, np.ndarray]) -> list[Any]:
    """The curve of each metric over the seeds, and how the seeds spread at the end."""
    from mlflow.entities import Metric

    now = int(time.time() * 1_000)
    points = [
        Metric(name, float(value), now, step)
        for name, x in curves.items()
        for step, value in zip(steps.tolist(), x[i].astype(np.float64).mean(axis=0), strict=True)
    ]
    last = result.steps if result.pruned_at[i].max() < 0 else int(result.pruned_at[i].max())
    for name in result.final:
        seeds = result.values(name)[i]
        points.append(Metric(f"final_{name}", float(seeds.mean()), now, last))
        if len(seeds) > 1:
            points.append(Metric(f"final_{name}_std", float(seeds.std(ddof=1)), now, last))
    return [point for point in points if np.isfinite(point.value)]
