"""A function of the bench in a process of its own, on the cores that it is given.

python -m bench.sweeps.child sweeps.pruning:measure '{"settings": 64}'    # one part at another size
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ..timing import Row

_CORES = "JAXSCHED_BENCH_CORES"


def start(module: str, function: str, cores: Sequence[int] | None = None, **arguments: Any) -> subprocess.Popen[str]:
    """Begins `bench.MODULE.FUNCTION(**arguments)` elsewhere."""
    environment = dict(os.environ)
    if cores is not None:
        environment[_CORES] = ",".join(map(str, cores))
    command = [sys.executable, "-m", "bench.sweeps.child", f"{module}:{function}", json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def outcome(process: subprocess.Popen[str]) -> Any:
    """What the function returned, as JSON has it."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args[-2:]} ended with {process.returncode}:\n{out[-2000:]}")
    return json.loads(out.splitlines()[-1])


def call(module: str, function: str, cores: Sequence[int] | None = None, **arguments: Any) -> Any:
    """Runs the function elsewhere to its end."""
    return outcome(start(module, function, cores, **arguments))


def cores() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def main() -> None:
    if kept := os.environ.get(_CORES):
        os.sched_setaffinity(0, map(int, kept.split(",")))  # before JAX looks how many there are
    name, _, function = sys.argv[1].partition(":")
    arguments = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    out = getattr(importlib.import_module(f"bench.{name}"), function)(**arguments)
    print(json.dumps(out, default=lambda x: dataclasses.asdict(x) if isinstance(x, Row) else x.tolist()), flush=True)


if __name__ == "__main__":
    main()
