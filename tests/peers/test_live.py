"""The live peers (`make parity`): torch's and Keras's own classes beside ours on new sequences, and the recordings of
both made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plateaus import ROUNDING, TINY, cuts, from_keras, many

from . import record_plateau as plateau
from . import record_torch, record_torch_training

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("peer", "arguments", "run", "number"),
    [
        ("torch", plateau.torch_arguments, plateau.torch_rates, 2_000),
        ("keras", plateau.keras_arguments, plateau.keras_rates, 300),
    ],
)
def test_plateau(peer: str, arguments: Any, run: Any, number: int) -> None:
    drawn, sequences = plateau.draw(arguments, number, seed=20)
    sequences[:, 0] = np.where(np.isfinite(sequences[:, 0]), sequences[:, 0], 1.0)
    theirs = np.array([run(a, m) for a, m in zip(drawn, sequences, strict=True)])
    ours = many(list(map(from_keras, drawn)) if peer == "keras" else drawn, sequences)
    np.testing.assert_allclose(ours, theirs, rtol=ROUNDING, atol=TINY)
    start = [a["lr"] for a in drawn]
    np.testing.assert_array_equal(cuts(ours, start) & (theirs > TINY), cuts(theirs, start) & (theirs > TINY))


def test_the_recording_of_plateaus_is_what_the_peers_do() -> None:
    recorded = np.load(HERE / "plateau.npz")
    for peer, run, stride in (("torch", plateau.torch_rates, 10), ("keras", plateau.keras_rates, 10)):
        arguments = json.loads(str(recorded[f"{peer}_arguments"]))[::stride]
        again = [run(a, m) for a, m in zip(arguments, recorded[f"{peer}_metrics"][::stride], strict=True)]
        np.testing.assert_array_equal(again, recorded[f"{peer}_rates"][::stride])


def close(got: Any, want: Any, path: str = "") -> None:
    """The same structure, and numbers that agree to what another processor may round differently."""
    if isinstance(want, (int, float)) and not isinstance(want, bool):
        assert got == pytest.approx(want, rel=1e-9, abs=1e-12), path
    elif isinstance(want, (list, tuple, dict)):
        assert len(got) == len(want), path
        for key in want if isinstance(want, dict) else range(len(want)):
            close(got[key], want[key], f"{path}/{key}")
    else:
        assert got == want, path


@pytest.mark.parametrize("module", [record_torch, record_torch_training])
def test_the_other_recordings_are_what_torch_does(module: Any) -> None:
    """torch's tables of rates, and its whole trainings under one cycle, parameter by parameter."""
    name = module.__name__.rpartition(".")[2].removeprefix("record_")
    recorded = json.loads((HERE / f"{name}.json").read_text())
    again = json.loads(json.dumps(module.record()))
    assert again.pop("torch").split("+")[0] == recorded.pop("torch").split("+")[0]
    close(again, recorded)


def test_a_torch_loader_feeds_a_sweep() -> None:
    import torch

    from jaxsched.sweep.data import Feed, Source

    data = torch.utils.data.TensorDataset(torch.arange(6.0), torch.arange(6))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    with Feed.open(Source(lambda: map(tuple, loader))) as feed:
        x, y = feed.take(4)
    np.testing.assert_array_equal(x, [[0, 1], [2, 3], [4, 5], [0, 1]])
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
