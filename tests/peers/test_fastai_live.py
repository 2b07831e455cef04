"""`compat.others.fastai` beside a training by fastai itself: at which share each update is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jaxsched.compat.others import fastai as ours

pytest.importorskip("fastai")


def rates(method: str, *arguments: Any, name: str = "lr") -> list[float]:
    import torch
    from fastai.callback.schedule import ParamScheduler  # which gives Learner its methods
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from torch.utils.data import DataLoader, TensorDataset

    assert ParamScheduler
    data = TensorDataset(torch.zeros(32, 1), torch.zeros(32, 1))
    loaders = DataLoaders(DataLoader(data, batch_size=4), DataLoader(data, batch_size=4))
    learner = Learner(loaders, torch.nn.Linear(1, 1), loss_func=torch.nn.MSELoss())
    with learner.no_bar(), learner.no_logging():
        getattr(learner, method)(*arguments)
    return [float(np.ravel(value)[0]) for value in learner.recorder.hps[name]]


@pytest.mark.parametrize(("name", "epochs"), [("lr", 1), ("lr", 3), ("mom", 3)])
def test_one_cycle(name: str, epochs: int) -> None:
    theirs = rates("fit_one_cycle", epochs, 0.1, name=name)
    np.testing.assert_allclose(
        ours.fit_one_cycle(epochs, 0.1, steps_per_epoch=8)[name].table(8 * epochs), theirs, rtol=1e-5
    )


def test_flat_and_cosine() -> None:
    theirs = rates("fit_flat_cos", 2, 0.1)
    np.testing.assert_allclose(ours.fit_flat_cos(2, 0.1, steps_per_epoch=8)["lr"].table(16), theirs, rtol=1e-5)


def test_sgdr_misses_a_restart() -> None:
    theirs = rates("fit_sgdr", 3, 1, 0.1)
    right = ours.fit_sgdr(3, 1, 0.1, steps_per_epoch=8)["lr"].table(56)
    exact = ours.fit_sgdr(3, 1, 0.1, steps_per_epoch=8, peer_exact=True)["lr"].table(56)
    np.testing.assert_allclose(exact, theirs, rtol=1e-4, atol=1e-8)
    assert np.flatnonzero(np.abs(np.asarray(right) - theirs) > 1e-6).tolist() == [24]
