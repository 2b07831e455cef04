"""Checkpoints: bit for bit, through kill -9, full disks and broken bytes."""

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import ml_dtypes
import numpy as np
import pytest

from jaxsched.sweep import checkpoint as module
from jaxsched.sweep.checkpoint import Checkpoint, Store

ME = {"task": "a line", "seeds": [0, 1], "settings": "64 of WarmupCosine"}
NAMES = ["float16", "float32", "float64", "bool", "int8", "int32", "int64", "uint8", "uint32", "uint64", "complex64"]
SMALL = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4"]


def bits(dtype, shape, seed=0):
    """Random bytes as numbers: NaNs with payloads, subnormals and negative zeros among them."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.random.default_rng(seed).integers(0, 2 if dtype.kind == "b" else 256, size, np.uint8)
    return raw.view(dtype).reshape(shape)


def same(a, b):
    """Whether two trees are equal to the last bit, with their types."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        return all(same(a[key], b[key]) for key in a)
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    return repr(a) == repr(b)


def tree_of(n, size=1000):
    return {"n": n, "params": {"0": {"w": np.full(size, n, np.float32)}, "1": np.arange(n)}}


def restored(directory, identity=ME):
    with Store.open(directory, identity) as store:
        return store.restore()


def entries(directory):
    return sorted(os.listdir(directory / "process-0-of-1"))


@pytest.fixture
def two(tmp_path):
    """A folder with the checkpoints 1 and 2."""
    with Store.open(tmp_path / "two", ME) as store:
        for n in (1, 2):
            store.save(tree_of(n))
    return tmp_path / "two"


# --- bit for bit -----------------------------------------------------------------------------------------------------


def test_every_dtype_comes_back_to_the_last_bit(tmp_path):
    dtypes = [np.dtype(name) for name in NAMES] + [np.dtype(getattr(ml_dtypes, name)) for name in SMALL]
    nan = np.array([0x7FC00001, 0xFFA12345, 0x80000000, 1], np.uint32).view(np.float32)
    tree = {
        **{f"{d}": {"some": bits(d, (3, 5)), "one": bits(d, ()), "none": bits(d, (0, 4))} for d in dtypes},
        "0": {"0": {"1": nan}, "": np.zeros(0), "a/b.c'\"\n": np.ones(1), "\ud800": "\ud800 and é"},
        "empty": {},
        "swapped": np.arange(5, dtype=">f4"),
        "text": np.array(["a", "bcd"]),
        "empty_text": np.array(["", ""]),
        "time": np.array(["2020-01-01"], "datetime64[ns]"),
        "columns": np.asfortranarray(bits(np.float32, (4, 6))),
        "every_other": bits(np.float32, (9, 8))[::2, ::-3],
        "scalars": {"float32": np.float32(0.1), "bfloat16": np.dtype("bfloat16").type(3), "float64": np.float64(0.1)},
        "python": {"int": -(2**200), "float": 0.1, "zero": -0.0, "inf": float("-inf"), "nan": float("nan"),
                   "true": True, "none": None, "str": "x" * 3000},
    }  # fmt: skip
    with Store.open(tmp_path, ME) as store:
        store.save(tree)
        assert store.wait()
        assert store.restore()["columns"].flags.writeable
    assert same(tree, restored(tmp_path))


def test_what_is_saved_is_what_it_was_when_it_was_saved(tmp_path, monkeypatch):
    go = threading.Event()
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (go.wait(30), sync(fd))[1])
    tree = tree_of(3)
    with Store.open(tmp_path, ME) as store:
        store.save(tree)
        tree["params"]["0"]["w"][:] = -1  # as a donated buffer is
        go.set()
    assert same(tree_of(3), restored(tmp_path))


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"a": {"b": jax.numpy.ones(2)}}, r"tree\['a'\]\['b'\] is \[1.0, 1.0\], of type ArrayImpl; .*device_get"),
        ({"a": [1, 2]}, r"tree\['a'\] is \[1, 2\], of type list"),
        ({"a": {0: 1}}, r"tree\['a'\] has the key 0; keys must be str"),
        ({"a": np.array([None])}, r"tree\['a'\] is \[None\], of type ndarray"),
        ({"a": np.zeros(2, [("x", "f4")])}, r"tree\['a'\] is .*of type ndarray"),
        (3, "tree=3; a tree is a dict"),
    ],
)
def test_a_tree_that_cannot_be_kept_is_refused(tmp_path, tree, says):
    with Store.open(tmp_path, ME) as store, pytest.raises(TypeError, match=says):
        store.save(tree)


# --- when, and how many ----------------------------------------------------------------------------------------------


def test_a_save_is_due_after_seconds_or_steps(tmp_path):
    with Store.open(Checkpoint(tmp_path, seconds=10, steps=100), ME) as store:
        calls = [(50, 7), (59, 7), (60, 7), (69, 106), (69.5, 107), (79, 206), (79.5, 206), (90, 300)]
        assert [store.due(*call) for call in calls] == [False, False, True, False, True, False, True, True]
    with Store.open(Checkpoint(tmp_path, seconds=None, steps=5), ME) as store:
        assert [store.due(now, steps) for now, steps in ((0, 0), (1e9, 4), (1e9, 5))] == [False, False, True]
    with Store.open(Checkpoint(tmp_path, seconds=0), ME) as store:
        assert [store.due(0, 0) for _ in range(3)] == [False, True, True]


def test_a_slow_disk_makes_saves_rarer_and_not_the_run_slower(tmp_path, monkeypatch):
    go = threading.Event()
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (go.wait(30), sync(fd))[1])
    with Store.open(Checkpoint(tmp_path, seconds=0), ME) as store:
        store.due(0, 0)
        store.save(tree_of(1))  # returns, though nothing can be written yet
        assert not store.due(1e9, 0)
        assert store.saved == 0
        go.set()
        assert store.wait()
        assert store.due(1e9, 0)
        assert store.saved == 1


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_stay(tmp_path, keep):
    for start in (0, 3):  # and the count goes on in a second run
        with Store.open(Checkpoint(tmp_path, keep=keep), ME) as store:
            for n in range(start, start + 3):
                store.save(tree_of(n))
            store.wait()
        assert entries(tmp_path) == [f"{n:08d}" for n in range(start + 4 - keep, start + 4)]
        assert restored(tmp_path)["n"] == start + 2


def test_no_checkpoint_is_no_tree(tmp_path):
    assert restored(tmp_path / "new" / "folder") is None


# --- kill -9 ---------------------------------------------------------------------------------------------------------

SAVE_FOR_EVER = """
import os, shutil, signal, sys
sys.path.insert(0, os.getcwd())
from tests.test_checkpoint import ME, Store, tree_of
moment = sys.argv[2]
saves = 0

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def at(module, name, when):
    call = getattr(module, name)
    setattr(module, name, lambda *a, **k: die() if saves == 4 and when(*a) else call(*a, **k))

if moment == "written":
    at(os, "fsync", lambda fd: os.fstat(fd).st_size > 1_000_000)
elif moment == "half written":
    def half(fd, call=os.fsync):
        if saves == 4:
            os.truncate(fd, 500_000)
            die()
        call(fd)
    os.fsync = half
elif moment == "complete":
    at(os, "replace", lambda a, b: str(b).endswith(".deleted"))
elif moment == "half deleted":
    at(shutil, "rmtree", lambda path, *a, **k: (os.remove(path / "tree"), True)[1])
with Store.open(sys.argv[1], ME) as store:
    tree = store.restore()
    n = tree["n"] if tree else 0
    while True:
        n, saves = n + 1, saves + 1
        store.save(tree_of(n, 400_000))
        store.wait()
        print(n, flush=True)
"""


@contextlib.contextmanager
def running(code, *args):
    """A Python process, which is ended and waited for in any case."""
    command = [sys.executable, "-c", code, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def check_after_kill(directory, least):
    """The newest complete checkpoint is there, whole and no older than what was said to be saved."""
    tree = restored(directory)
    assert tree["n"] >= least
    assert same(tree, tree_of(tree["n"], 400_000))
    assert all(name.isdigit() for name in entries(directory))
    return tree["n"]


@pytest.mark.trial
def test_kill_9_at_any_moment_leaves_the_newest_checkpoint(tmp_path):
    moments = random.Random(4)
    newest = 0
    for _ in range(4):
        with running(SAVE_FOR_EVER, tmp_path, "any") as process:
            said = [int(process.stdout.readline()) for _ in range(3)]
            assert said[0] == newest + 1
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 0.2))
            process.kill()
            said += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        newest = check_after_kill(tmp_path, said[-1])
        assert newest <= said[-1] + 1


@pytest.mark.trial
def test_kill_9_in_the_worst_moments(tmp_path):
    moments = ["written", "half written", "complete", "half deleted"]

    def run(moment):
        with running(SAVE_FOR_EVER, tmp_path / moment, moment) as process:
            said = process.communicate(timeout=60)[0].split()
        assert process.returncode == -signal.SIGKILL
        return said

    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(moments, pool.map(run, moments), strict=True))
    for moment in moments:
        assert said[moment] == ["1", "2", "3"]
        left = entries(tmp_path / moment)
        assert any(not name.isdigit() for name in left) == (moment != "complete")
        newest = check_after_kill(tmp_path / moment, 3)
        assert newest == (3 if "written" in moment else 4)


# --- a disk that refuses ---------------------------------------------------------------------------------------------


def test_a_file_that_the_disk_cannot_hold_is_a_warning(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.open(tmp_path, ME) as store:
        store.save(tree_of(1))
        assert store.wait()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the kernel refuses in the middle of the file
            store.save(tree_of(2, 100_000))
            with pytest.warns(UserWarning, match="00000002 could not be saved .*File too large.*00000001") as told:
                assert not store.wait()
            assert len(told) == 1
            assert entries(tmp_path) == ["00000001"]
            store.save(tree_of(2, 100_000))
            assert not store.wait()  # the same again is not told again
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        store.save(tree_of(3, 100_000))
        assert store.wait()
        assert (store.saved, store.failed) == (2, 2)
        with pytest.warns(
            UserWarning, match="2 of 4 saves failed .2 x OSError: File too large.; the newest .*00000002"
        ):
            store.close()
    assert same(restored(tmp_path), tree_of(3, 100_000))


def test_each_kind_of_failure_is_told_once(tmp_path, monkeypatch):
    kinds = [errno.ENOSPC, errno.ENOSPC, errno.EIO, errno.ENOSPC, errno.EIO]
    sync = os.fsync

    def fails(fd):
        if kinds:
            code = kinds.pop()
            raise OSError(code, os.strerror(code))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fails)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with Store.open(Checkpoint(tmp_path, seconds=0), ME) as store:
            store.due(0, 0)
            for n in range(6):
                store.save(tree_of(n))
                store.wait()
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 3
    assert "Input/output error); the run goes on, and there is no checkpoint" in texts[0]
    assert "No space left on device" in texts[1]
    assert "5 of 6 saves failed (2 x OSError: Input/output error, 3 x OSError: No space left on device)" in texts[2]
    assert entries(tmp_path) == ["00000001"]
    assert restored(tmp_path)["n"] == 5


def test_a_folder_that_is_gone_does_not_stop_the_run(tmp_path):
    store = Store.open(tmp_path / "a", ME)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("a file now")
    store.save(tree_of(1))
    with pytest.warns(UserWarning, match="00000001 could not be saved .*Not a directory"):
        assert not store.wait()
    with pytest.warns(UserWarning, match="1 of 1 saves failed"):
        store.close()


@pytest.fixture
def not_root():
    """A process that permission bits hold for."""
    import orbax.checkpoint  # noqa: F401  # which another user might not be allowed to read

    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_directory_is_refused_at_once(tmp_path, not_root):
    euid = os.geteuid()
    if euid == 65534:
        os.seteuid(0)
    (tmp_path / "locked").mkdir(mode=0o555)
    (tmp_path / "file").write_text("")
    os.seteuid(euid)
    for name in ("locked", "locked/deeper", "file", "file/deeper"):
        with pytest.raises(OSError, match=rf"directory='.*{name}' cannot be written .*; write a folder that this"):
            Store.open(tmp_path / name, ME)


def test_a_read_only_file_system_is_refused_at_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match=r"cannot be written .*Read-only file system"):
        Store.open(tmp_path, ME)


# --- broken bytes ----------------------------------------------------------------------------------------------------


def files_of(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at // 8)
        byte = file.read(1)[0]
        file.seek(at // 8)
        file.write(bytes([byte ^ (1 << at % 8)]))


def expect_fallback(directory):
    with pytest.warns(UserWarning, match="00000002 is broken .*corrupt; .*the one before, .*00000001") as told:
        tree = restored(directory)
    assert len(told) == 1
    assert same(tree, tree_of(1))
    assert entries(directory) == ["00000001", "00000002.corrupt"]


def test_a_flipped_bit_falls_back_to_the_one_before(two, tmp_path):
    draw = random.Random(0)
    size = os.path.getsize(two / "process-0-of-1" / "00000002" / "tree") * 8
    for at in [0, 100, 130, 400, 450, size - 1, *(draw.randrange(size) for _ in range(20))]:
        shutil.copytree(two, tmp_path / "copy")
        flip(tmp_path / "copy" / "process-0-of-1" / "00000002" / "tree", at)
        expect_fallback(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")


def test_whatever_breaks_a_checkpoint_is_right_or_one_older(two, tmp_path):
    """In the files of Orbax too, not all of which matter."""
    draw = random.Random(1)
    outcomes = []
    for name in [path.name for path in files_of(two / "process-0-of-1" / "00000002")]:
        for harm in ("flip", "truncate", "empty", "remove"):
            shutil.copytree(two, tmp_path / "copy")
            path = tmp_path / "copy" / "process-0-of-1" / "00000002" / name
            size = path.stat().st_size
            if harm == "remove":
                path.unlink()
            elif harm == "flip" and size:
                flip(path, draw.randrange(size * 8))
            else:
                os.truncate(path, 0 if harm == "empty" else draw.randrange(max(size, 1)))
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                tree = restored(tmp_path / "copy")
            assert same(tree, tree_of(1 if told else 2))
            outcomes.append((name, bool(told)))
            shutil.rmtree(tmp_path / "copy")
    assert [fell for name, fell in outcomes if name == "tree"] == [True] * 4


def test_after_a_fall_back_the_count_goes_on(two):
    flip(two / "process-0-of-1" / "00000002" / "tree", 5000)
    expect_fallback(two)
    with Store.open(two, ME) as store:
        store.save(tree_of(7))
    assert entries(two) == ["00000001", "00000002.corrupt", "00000003"]
    assert restored(two)["n"] == 7


def test_nothing_but_broken_checkpoints_is_an_error(two):
    for name in ("00000001", "00000002"):
        flip(two / "process-0-of-1" / name / "tree", 9000)
    for _ in range(2):  # and stays one: nothing is set aside for which there is no other
        with pytest.raises(OSError, match=r"none of the checkpoints in .*00000002: .*checksum; 00000001: .*delete"):
            restored(two)


# --- whose it is -----------------------------------------------------------------------------------------------------

HOLD = """
import os, sys
sys.path.insert(0, os.getcwd())
from tests.test_checkpoint import ME, Store
store = Store.open(sys.argv[1], ME)
if os.fork() == 0:
    os.close(1)
    sys.stdin.read()  # a worker that outlives its parent
    os._exit(0)
print("open", flush=True)
sys.stdin.read()
"""


def test_two_runs_in_one_directory(tmp_path):
    with running(HOLD, tmp_path) as process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(BlockingIOError, match=f"in use by process {process.pid} on {socket.gethostname()}; wait"):
            Store.open(tmp_path, ME)
        process.kill()
        process.wait()
        Store.open(tmp_path, ME).close()  # no stale lock, though the child lives


def test_two_stores_in_one_process(tmp_path):
    with Store.open(tmp_path, ME), pytest.raises(BlockingIOError, match=f"in use by process {os.getpid()} on"):
        Store.open(tmp_path, ME)
    Store.open(tmp_path, ME).close()


@pytest.mark.parametrize("code", [None, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, code):
    if code is None:
        monkeypatch.setattr(module, "fcntl", None)
    else:

        def refuse(*args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(module.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="no lock can be had in .*see to it that no other run"):
        Store.open(tmp_path, ME).close()


def test_another_run_is_refused_with_the_difference(two):
    other = {**ME, "settings": "32 of WarmupCosine", "seeds": [0], "jax": "0.9"}
    says = (
        r"holds checkpoints of another run: seeds: \[0, 1\] then, \[0\] now; settings: 64 of WarmupCosine then, "
        r"32 of WarmupCosine now; jax: none then, 0.9 now; write another directory, or delete this one"
    )
    with pytest.raises(ValueError, match=says):
        Store.open(two, other)
    with pytest.raises(ValueError, match="processes: 1 then, 2 now"):
        Store.open(two, ME, process=1, processes=2)
    assert same(restored(two), tree_of(2))  # nothing is lost, and the lock is free again
    assert same(restored(two, {**ME, "seeds": (0, 1)}), tree_of(2))


def test_a_run_that_saved_nothing_gives_way(tmp_path):
    assert restored(tmp_path) is None
    with Store.open(tmp_path, {"task": "another"}) as store:
        store.save(tree_of(1))
    with pytest.raises(ValueError, match="task: another then, a line now"):
        restored(tmp_path)


@pytest.mark.parametrize("text", [None, "", "{}", '{"identity', '[["identity"]]'])
def test_checkpoints_of_nobody_are_refused(two, text):
    path = two / "identity.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match=r"identity.json beside them cannot be read"):
        restored(two)


SAVE_ALONE = """
import os, sys
sys.path.insert(0, os.getcwd())
import jax
process = int(sys.argv[2])
jax.distributed.initialize(f"localhost:{sys.argv[3]}", 2, process)
from tests.test_checkpoint import ME, Store, same, tree_of
for _ in range(2):
    with Store.open(sys.argv[1], ME, process, 2) as store:
        tree = store.restore()
        assert tree is None or same(tree, tree_of(10 * process + process)), tree
        for n in range(process, 2 * process + 1):  # one save in the one process, two in the other
            store.save(tree_of(10 * process + n - (n > process)))
            assert store.wait()
print("done", process)
"""


def test_processes_of_one_run_save_without_each_other(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with running(SAVE_ALONE, tmp_path, 0, port) as first, running(SAVE_ALONE, tmp_path, 1, port) as second:
        assert [process.communicate(timeout=90)[0] for process in (first, second)] == ["done 0\n", "done 1\n"]
    with Store.open(tmp_path, ME, 1, 2) as store:
        assert same(store.restore(), tree_of(11))


# --- options ---------------------------------------------------------------------------------------------------------


def test_options(tmp_path):
    assert Checkpoint(tmp_path).directory == str(tmp_path)
    with pytest.raises(AttributeError):
        Checkpoint("a").keep = 3
    with Store.open(str(tmp_path), ME) as store:
        assert store.options == Checkpoint(str(tmp_path), seconds=30.0, steps=None, keep=2)
        assert store.folder == tmp_path / "process-0-of-1"


@pytest.mark.parametrize(
    ("error", "says", "fields"),
    [
        (TypeError, "directory=3; directory must be a path", {"directory": 3}),
        (TypeError, "directory=b'a'; directory must be a path", {"directory": b"a"}),
        (ValueError, "directory=''; directory must be a folder", {"directory": ""}),
        (ValueError, "directory='gs://a/b'; directory must be a folder", {"directory": "gs://a/b"}),
        (ValueError, "seconds=-1; seconds must be 0 or more", {"seconds": -1}),
        (ValueError, "seconds=nan; seconds must be 0 or more", {"seconds": float("nan")}),
        (TypeError, "seconds='30'; seconds must be a number", {"seconds": "30"}),
        (TypeError, "seconds=True; seconds must be a number", {"seconds": True}),
        (ValueError, "steps=0; steps must be 1 or more", {"steps": 0}),
        (TypeError, "steps=1.5; steps must be an integer", {"steps": 1.5}),
        (ValueError, "keep=0; keep must be 1 or more", {"keep": 0}),
        (TypeError, "keep=None; keep must be an integer", {"keep": None}),
        (ValueError, "seconds=None and steps=None; write one of them", {"seconds": None}),
    ],
)
def test_bad_options_are_refused(error, says, fields):
    with pytest.raises(error, match=says):
        Checkpoint(**{"directory": "a"} | fields)


def test_orbax_is_asked_for(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "orbax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "orbax", None)
    with pytest.raises(ImportError, match=r'checkpoints need orbax-checkpoint: pip install "jaxsched\[checkpoint\]"'):
        Store.open(tmp_path, ME)
