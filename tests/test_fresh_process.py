"""What only another process can show, in one for all: it starts with nothing imported, and with four devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jaxsched as js

from .test_identity import identity_of
from .test_result import LOSSES, make
from .test_sweep import SETTINGS

ROOT = Path(__file__).parent.parent

# Run one after the other, each with names of its own.
PARTS = {
    "imports": """
import sys, jaxsched
assert "jaxsched.schedules.base" in sys.modules
heavy = {"matplotlib", "plotly", "rich", "tyro", "optuna", "orbax", "sklearn", "torch", "flax", "tensorflow"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import jaxsched.cli, jaxsched.sweep, jaxsched.sweep.archive, jaxsched.sweep.search, jaxsched.sweep.statistics
import jaxsched.sweep.writers
heavy |= {"scipy.stats", "pandas", "xarray", "tensorboard", "mlflow"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
""",
    "result": """
import sys, jaxsched
answer = repr(jaxsched.SweepResult.load(sys.argv[1]).best())
""",
    "sharding": """
import jax, jax.numpy as jnp, optax, jaxsched as js
from jax.sharding import AxisType, NamedSharding, PartitionSpec
mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,))
with jax.sharding.use_mesh(mesh) if not hasattr(jax, "set_mesh") else jax.set_mesh(mesh):
    params = jax.device_put(jnp.ones((8, 2)), NamedSharding(mesh, PartitionSpec("x")))
    optimizer = js.monitor_gradients(js.guard_spikes(optax.chain(js.optim.zclip(), js.reduce_on_plateau(0.1))))
    state = jax.jit(optimizer.init)(params)
    for gradient in (params, params * jnp.nan, params):
        updates, state = jax.jit(optimizer.update)(gradient, state, params, value=1.0)
    answer = [state.inner_state.skipped_count.item(), *updates.sharding.spec]
""",
    "identity": """
from tests.test_identity import identity_of
answer = [identity_of(), hash("jaxsched")]
""",
    "loader": """
import time, numpy as np
from jaxsched.sweep.data import Feed, Source
def hangs():
    yield np.zeros(1)
    time.sleep(1000)
Feed.open(Source(hangs)).take(1)
""",
}

RUN = """
import json, sys, traceback
answers = {}
for name, code in json.loads(sys.stdin.read()).items():
    names = {}
    try:
        exec(code, names)
        answers[name] = names.get("answer")
    except BaseException:
        answers[name] = traceback.format_exc()
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: Any) -> dict[str, Any]:
    """What each part has answered; None, or the text of its error."""
    folder = tmp_path_factory.mktemp("result")
    make(SETTINGS, LOSSES).save(folder)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    other_seed = "3" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    environment = os.environ | {"PYTHONHASHSEED": other_seed, "XLA_FLAGS": flags}
    told = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)], input=json.dumps(PARTS), env=environment, cwd=ROOT,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return json.loads(told.stdout)


def test_imports_are_light(answers: dict[str, Any]) -> None:
    """Of the package, and of the modules that use what a user may not have."""
    assert answers["imports"] is None


def test_a_saved_result_is_read(answers: dict[str, Any]) -> None:
    assert answers["result"] == repr(js.unstack(SETTINGS)[4])


def test_a_sweep_has_the_same_identity(answers: dict[str, Any]) -> None:
    """With other hashes and devices, and with nothing traced before, unlike here."""
    found, other_hash = answers["identity"]
    assert found == identity_of()
    assert other_hash != hash("jaxsched")


def test_the_guard_and_the_monitor_on_four_devices_with_explicit_sharding(answers: dict[str, Any]) -> None:
    """The updates are sharded as the gradients, and the one with NaN is skipped."""
    assert answers["sharding"][:2] == [1, "x"]


def test_a_loader_that_hangs_does_not_keep_the_interpreter(answers: dict[str, Any]) -> None:
    assert answers["loader"] is None  # and the process has ended
