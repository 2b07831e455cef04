"""One sweep in several processes: the results of one, what happens when a process dies, and how it goes on."""

import concurrent.futures
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsched.sweep import resume

SCRIPT = """
import sys
from jaxsched.sweep import Checkpoint, run, successive_halving, sweep
from jaxsched.sweep.distributed import initialize
port, count, index, out, folder, prune, slow = sys.argv[1:]
processes = initialize(f"localhost:{port}", int(count), int(index), timeout=20.0) if int(count) > 1 else None
import time
import numpy as np
from tests.test_engine import LIGHT, SETTINGS, SMALL
run._FIRST_STEPS, run._SEGMENT_SECONDS = 2, 0.0
checkpoint = Checkpoint(folder, seconds=0.0) if folder else None
halving = successive_halving(rungs=(5, 15), keep=0.5) if prune else None

def progress(status):
    print(status.steps, flush=True)
    time.sleep(float(slow))

arguments = {**SMALL, "chunk": 2}
r = sweep(LIGHT, SETTINGS, **arguments, checkpoint=checkpoint, prune=halving, progress=progress)
assert r.run["processes"] == int(count)
np.savez(out, diverged_at=r.diverged_at, pruned_at=r.pruned_at,
         **{f"m.{k}": v for k, v in r.metrics.items()}, **{f"f.{k}": v for k, v in r.final.items()})
if processes is not None:
    processes.close()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(count, folder, out, prune="", slow=0.0):
    """One sweep in `count` processes; each writes what it returned."""
    port = free_port()
    each = [(port, count, i, f"{out}-{i}.npz", folder, prune, slow) for i in range(count)]
    return [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in each
    ]


def finish(processes):
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err


def same(one, other):
    one, other = np.load(one), np.load(other)
    assert set(one.files) == set(other.files)
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process returns, without and with pruning."""
    folder = tmp_path_factory.mktemp("alone")
    for prune in ("", "prune"):
        finish(start(1, "", folder / f"whole{prune}", prune))
    return folder


@pytest.mark.parametrize(("count", "prune"), [(2, "prune"), (4, ""), (4, "prune")])
def test_several_processes_return_what_one_does_to_the_last_bit(alone, tmp_path, count, prune):
    finish(start(count, "", tmp_path / "out", prune))
    for i in range(count):
        same(alone / f"whole{prune}-0.npz", tmp_path / f"out-{i}.npz")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others_and_the_run_goes_on(alone, tmp_path, victim):
    processes = start(2, tmp_path / "saved", tmp_path / "out", "prune", slow=0.1)
    for _ in range(6):
        processes[victim].stdout.readline()
    processes[victim].kill()
    begin = time.monotonic()
    _, err = processes[1 - victim].communicate(timeout=60)
    assert processes[1 - victim].returncode not in (0, None)
    assert time.monotonic() - begin < 40
    assert f"process {victim}" in err
    processes[victim].communicate()
    finish(start(2, tmp_path / "saved", tmp_path / "out", "prune"))
    for i in range(2):
        same(alone / "wholeprune-0.npz", tmp_path / f"out-{i}.npz")


# --- what several processes go on from -------------------------------------------------------------------------------


class Together:
    """Processes that are threads."""

    def __init__(self, count):
        self.count, self.told, self.turn = count, [None] * count, threading.Barrier(count)

    def process(self, index):
        def gather(tree):
            self.told[index] = tree
            self.turn.wait(10)
            everyone = list(self.told)
            self.turn.wait(10)
            return everyone

        return SimpleNamespace(processes=SimpleNamespace(index=index, count=self.count, gather=gather))


def agreed(*saved):
    runs = list(map(Together(len(saved)).process, range(len(saved))))
    with concurrent.futures.ThreadPoolExecutor(len(saved)) as threads:
        return list(threads.map(resume._agreed, runs, saved))


def saved(number, layout=None, chunks=None):
    return {"round": number, "layout": layout or {}, "chunks": chunks or {}, "table": {"of": np.array(number)}}


def test_nobody_has_anything():
    assert agreed(None, None) == [None, None]


def test_all_are_in_one_round_and_one_has_laid_it_out():
    mine, theirs = saved(1, {"0": 4}, {"0": "a chunk"}), saved(1)
    first, second = agreed(mine, theirs)
    assert (first["chunks"], second["chunks"]) == ({"0": "a chunk"}, {})
    assert {g: int(rows) for g, rows in second["layout"].items()} == {"0": 4}


def test_one_was_ended_before_it_saved_what_the_others_begin_from():
    first, second, third = agreed(saved(0, {"0": 5}, {"0": "old"}), saved(1), None)
    for late in (first, third):
        assert int(late["round"]) == int(late["table"]["of"]) == 1
        assert late["chunks"] == late["layout"] == {}
    assert second == saved(1)


def test_one_saved_nothing_and_the_others_are_in_the_first_round():
    first, second = agreed(None, saved(0, {"0": 5}, {"0": "a chunk"}))
    assert first["chunks"] == {}
    assert int(first["layout"]["0"]) == 5
    assert second["chunks"] == {"0": "a chunk"}
