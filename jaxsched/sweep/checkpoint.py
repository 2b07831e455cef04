"""Checkpoints of a sweep: saved beside the training, whole or not at all, and refused to any other run.

directory/
  identity.json            what the run is: a run that differs is refused
  process-0.lock           held by the operating system for as long as the process lives
  process-0-of-1/          each process saves on its own, and waits for no other
    00000007/              one Orbax checkpoint, renamed to this name when it is complete
    00000008/
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import socket
import struct
import tempfile
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import FieldError, JaxschedWarning, format_value

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_COMPLETE = re.compile(r"[0-9]{8}")
_CORRUPT = re.compile(r"[0-9]{8}\.corrupt")
_LOCK = re.compile(r"process-[0-9]+\.lock")
_HALF = re.compile(r"[0-9]{8}\.(orbax-checkpoint-tmp.*|deleted)")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where and how often a sweep saves what it needs to go on after it was stopped.

    Fields:
      directory: a folder of this run alone, made if it is not there; `~` is the home folder.
      seconds: a save is due this long after the one before, 0 or more; None: only by `steps`.
      steps: a save is also due after so many steps of training, 1 or more; None: only by `seconds`.
      keep: how many checkpoints stay, 1 or more. With 2, a broken one leaves the one before.

    Errors: TypeError and ValueError that name the field, show its value and say what to write.

    Example:
      >>> from jaxsched.sweep.checkpoint import Checkpoint
      >>> Checkpoint("runs/digits/checkpoint", seconds=60)
      Checkpoint(directory='runs/digits/checkpoint', seconds=60.0, steps=None, keep=2)
    """

    directory: str | os.PathLike[str]
    seconds: float | None = 30.0
    steps: int | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.directory, (str, os.PathLike)) or not isinstance(os.fspath(self.directory), str):
            raise TypeError(f"Checkpoint: directory={format_value(self.directory)}; directory must be a path.")
        directory = os.fspath(self.directory)
        if not directory or "://" in directory:
            raise ValueError(f"Checkpoint: directory={directory!r}; directory must be a folder: a disk or a mount.")
        object.__setattr__(self, "directory", directory)
        if self.seconds is not None:
            if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float, np.number)):
                raise TypeError(f"Checkpoint: seconds={format_value(self.seconds)}; seconds must be a number, or None.")
            if not (math.isfinite(self.seconds) and self.seconds >= 0):
                raise ValueError(
                    f"Checkpoint: seconds={format_value(self.seconds)}; seconds must be 0 or more, or None."
                )
            object.__setattr__(self, "seconds", float(self.seconds))
        for name in ("steps", "keep"):
            value = getattr(self, name)
            if name == "steps" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"Checkpoint: {name}={format_value(value)}; {name} must be an integer, 1 or more.")
            if value < 1:
                raise ValueError(f"Checkpoint: {name}={value}; {name} must be 1 or more.")
            object.__setattr__(self, name, int(value))
        if self.seconds is None and self.steps is None:
            raise ValueError("Checkpoint: seconds=None and steps=None; write one of them, such as seconds=30.")


class Store:
    """The checkpoints of one process of one run: `open`, `restore`, then `save` whenever it is `due`, and `close`.

    A tree is a nested dict with str keys of numpy arrays of any dtype, numbers, strings and None. It comes back bit
    for bit. `save` copies it and returns; a thread writes it. A write that fails is told as a warning by the next
    call, and the run goes on with the checkpoints that there are.

    Fields:
      options: the `Checkpoint`.
      folder: where the checkpoints of this process lie.
      saved, failed: how many were written, and how many could not be.

    Example:
      >>> import tempfile
      >>> import numpy as np
      >>> from jaxsched.sweep.checkpoint import Store
      >>> folder = tempfile.mkdtemp()
      >>> with Store.open(folder, {"task": "a line"}) as store:
      ...     store.restore()
      ...     store.save({"step": 3, "params": {"w": np.float32([1, 2])}})
      >>> with Store.open(folder, {"task": "a line"}) as store:
      ...     store.restore()
      {'step': 3, 'params': {'w': array([1., 2.], dtype=float32)}}
    """

    def __init__(self, options: Checkpoint, folder: Path, lock: _Lock) -> None:
        self.options = options
        self.folder = folder
        self.saved = self.failed = 0
        self._lock = lock
        self._last = max((int(name[:8]) for name in _names(folder, re.compile(r"[0-9]{8}.*"))), default=0)
        # One thread: what it is given is done in turn. It is started by the first task that it gets.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "jaxsched-checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None
        self._closed = False
        self._whole = False  # whether the last save is complete
        self._since: tuple[float, int] | None = None
        self._news: list[str] = []  # warnings that the thread leaves to the caller
        self._kinds: collections.Counter[str] = collections.Counter()

    @classmethod
    def open(
        cls, checkpoint: Checkpoint | str | os.PathLike[str], identity: dict[str, Any], process: int = 0,
        processes: int = 1,
    ) -> Store:  # fmt: skip
        """Takes the folder for this process of this run.

        Args:
          checkpoint: a `Checkpoint`, or a path, which stands for `Checkpoint(path)`.
          identity: what the run is, from `identity.identity`.
          process, processes: which process of how many this is.

        Errors: BlockingIOError if another run has the folder, OSError if it cannot be written, ValueError if its
        checkpoints are of a run that differs, ImportError without Orbax.
        """
        options = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
        _need_orbax()
        directory = Path(options.directory).expanduser().absolute()
        folder = directory / f"process-{process}-of-{processes}"
        with contextlib.ExitStack() as undo:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(b"jaxsched")
                lock = undo.enter_context(contextlib.closing(_Lock(directory, process)))
                _claim(directory, identity | {"processes": processes}, process)
            except BlockingIOError:
                raise
            except OSError as error:
                text = f"Checkpoint: directory={str(directory)!r} cannot be written ({_reason(error)})"
                raise OSError(f"{text}; write a folder that this process may write to.") from error
            for name in _names(folder, _HALF):  # left by a process that was killed while it saved
                shutil.rmtree(folder / name, ignore_errors=True)
            undo.pop_all()
        return cls(options, folder, lock)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def due(self, now: float, steps_done: int) -> bool:
        """Whether a save is due; the first call starts the clock, so it belongs before the first step.

        Never while the save before is still being written: a slow disk makes checkpoints rarer, not the run slower.

        Args:
          now: seconds on any one clock.
          steps_done: the steps of training so far.
        """
        self._tell()
        if self._since is None:
            self._since = (now, steps_done)
            return False
        if self._writing is not None and not self._writing.done():
            return False
        seconds, steps = self.options.seconds, self.options.steps
        late = seconds is not None and now - self._since[0] >= seconds
        late = late or (steps is not None and steps_done - self._since[1] >= steps)
        if late:
            self._since = (now, steps_done)
        return late

    def save(self, tree: dict[str, Any]) -> None:
        """Copies `tree` and has it written; waits only for a save that is still being written.

        Errors: TypeError for what a tree cannot hold, by its path. What goes wrong on the disk is a warning.
        """
        pieces = _pack(tree)
        self.wait()
        self._writing = self._thread.submit(self._write, pieces)

    def wait(self) -> bool:
        """Waits until nothing is being written; whether the last save is complete on the disk."""
        if self._writing is not None:
            self._writing.result()
        self._tell()
        return self._whole

    def restore(self) -> dict[str, Any] | None:
        """The tree of the newest checkpoint that is whole, or None if there is no checkpoint.

        A broken one is set aside (renamed to NAME.corrupt) with a warning that names it and the one that is used.

        Errors: OSError if there are checkpoints and none can be read.
        """
        broken: list[tuple[str, str]] = []
        for name in sorted(_names(self.folder, _COMPLETE), reverse=True):
            try:
                # In the thread of the writes, because Orbax runs an event loop and a notebook has one already.
                tree = self._thread.submit(_read, self.folder / name).result()
            except MemoryError:
                raise
            except Exception as error:  # whatever broken bytes make of a reader
                broken.append((name, _reason(error)))
                continue
            for lost, why in broken:
                os.replace(self.folder / lost, self.folder / f"{lost}.corrupt")
                warnings.warn(
                    f"Checkpoint: {self.folder / lost} is broken ({why}) and is set aside as {lost}.corrupt; the run "
                    f"goes on from the one before, {self.folder / name}.",
                    JaxschedWarning,
                    stacklevel=2,
                )
            return tree
        if broken:
            each = "; ".join(f"{name}: {why}" for name, why in broken)
            raise OSError(
                f"Checkpoint: none of the checkpoints in {self.folder} can be read ({each}). Put a copy of them back "
                f"if you have one, or delete {self.folder.parent} to start from the first step."
            )
        return None

    def close(self) -> None:
        """Waits for the last write and gives the folder back; says how many saves failed, if any did."""
        try:
            self._thread.shutdown()
        finally:
            self._lock.close()
        self._tell()
        if self.failed and not self._closed:
            self._closed = True
            why = ", ".join(f"{count} x {kind}" for kind, count in self._kinds.items())
            total = self.failed + self.saved
            text = f"Checkpoint: {self.failed} of {total} saves failed ({why}); {self._newest()}."
            warnings.warn(text, JaxschedWarning, stacklevel=2)

    def _write(self, pieces: np.ndarray) -> None:
        """In the thread: one checkpoint more, then the oldest are removed. No error leaves it."""
        path = self.folder / f"{self._last + 1:08d}"
        try:
            _orbax().save(path, pieces)
            self._last, self._whole = self._last + 1, True
            self.saved += 1
        except Exception as error:  # the training is worth more than its checkpoint
            self._whole = False
            self.failed += 1
            for name in _names(self.folder, re.compile(re.escape(path.name) + r"\..*tmp.*")):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            kind = _reason(error)
            self._kinds[kind] += 1
            if self._kinds[kind] == 1:
                text = f"Checkpoint: {path} could not be saved ({kind}); the run goes on, and {self._newest()}."
                self._news.append(text)
            return
        for name in sorted(_names(self.folder, _COMPLETE))[: -self.options.keep]:
            # Renamed first: a process that is killed here leaves nothing that looks like a checkpoint.
            with contextlib.suppress(OSError):
                os.replace(self.folder / name, self.folder / f"{name}.deleted")
                shutil.rmtree(self.folder / f"{name}.deleted", ignore_errors=True)

    def _newest(self) -> str:
        names = sorted(_names(self.folder, _COMPLETE))
        return f"the newest checkpoint is {self.folder / names[-1]}" if names else "there is no checkpoint"

    def _tell(self) -> None:
        while self._news:
            warnings.warn(self._news.pop(0), JaxschedWarning, stacklevel=3)


# --- the folder ------------------------------------------------------------------------------------------------------


class _Lock:
    """The right of one process to write to the folder, which ends with the process, however it ends.

    It is flock's, and so it dies with its process: nothing is left behind by kill -9, and a file that merely lies
    there locks nothing. NFS of Linux keeps such locks between hosts too. Where there are none (Windows, some network
    file systems), a warning says so and the run goes on: two runs in one folder are then the user's to avoid.
    """

    def __init__(self, directory: Path, process: int) -> None:
        self._file = open(directory / f"process-{process}.lock", "a+")  # noqa: SIM115  # open for as long as the lock
        try:
            self._take(directory)
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()
        except BaseException:
            self._file.close()
            raise
        _LOCKS.add(self)

    def _take(self, directory: Path) -> None:
        try:
            if fcntl is None:
                raise OSError(errno.ENOLCK, "this system has no flock")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read() or "another process"
            raise BlockingIOError(
                f"Checkpoint: directory={str(directory)!r} is in use by {owner}; wait until it has ended, or write "
                "another directory."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            warnings.warn(
                f"Checkpoint: no lock can be had in {directory} ({_reason(error)}); see to it that no other run writes "
                "there.",
                JaxschedWarning,
                stacklevel=4,
            )

    def close(self) -> None:
        self._file.close()


_LOCKS: weakref.WeakSet[_Lock] = weakref.WeakSet()


def _forget_locks() -> None:
    # A forked child (a data worker) shares the lock, and would hold it after its parent was killed.
    for lock in list(_LOCKS):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _claim(directory: Path, identity: dict[str, Any], process: int) -> None:
    """Writes the identity, or compares it with that of the checkpoints that are there."""
    path = directory / "identity.json"
    identity = json.loads(json.dumps(identity))  # tuples are lists, as they will be when they are read
    used = any(_names(folder, _COMPLETE) for folder in directory.glob("process-*-of-*"))
    if used:
        try:
            then = json.loads(path.read_text(encoding="utf-8"))["identity"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            note = f" holds checkpoints of an unknown run: {path.name} beside them cannot be read ({_reason(error)})"
            raise FieldError("Checkpoint", "directory", str(directory), "write another one", note=note) from error
        if then != identity:
            from .identity import difference  # here, because it brings asyncio along, through jax.extend

            note = f" holds checkpoints of another run: {difference(then, identity)}"
            instead = "write another directory, or delete this one to start again"
            raise FieldError("Checkpoint", "directory", str(directory), instead, note=note)
        return
    # A run that saved nothing leaves nothing to protect: its identity gives way.
    half = directory / f"identity.json.{process}.tmp"
    half.write_text(json.dumps({"format": 1, "identity": identity}, indent=1) + "\n", encoding="utf-8")
    os.replace(half, path)


def remove(directory: str | os.PathLike[str]) -> None:
    """Removes the checkpoints of a finished run, and the folders if they are empty then; other files remain.

    Several processes may do so at once.
    """
    parts = [path for path in Path(directory).glob("process-*-of-*") if path.is_dir()]
    for part in parts:
        for name in [name for pattern in (_COMPLETE, _HALF, _CORRUPT) for name in _names(part, pattern)]:
            shutil.rmtree(part / name, ignore_errors=True)
    locks = [path for path in Path(directory).glob("process-*.lock") if _LOCK.fullmatch(path.name)]
    for path in (*locks, Path(directory) / "identity.json"):
        path.unlink(missing_ok=True)
    for path in (*parts, Path(directory)):
        with contextlib.suppress(OSError):
            path.rmdir()


def _names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(folder) if pattern.fullmatch(name)]
    return []


def _reason(error: BaseException) -> str:
    """An error in a few words, and in the same words for each of its kind."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{type(error).__name__}: {os.strerror(error.errno)}"
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0][:200]}" if first else type(error).__name__


# --- the bytes -------------------------------------------------------------------------------------------------------

# One file: MAGIC, the SHA-256 of all that follows, the length of the index, the index (JSON), the arrays. A sweep has
# many small arrays, and one file for all is faster than one each; and every bit is under one checksum.
_MAGIC = b"jaxsched-tree-1\n"
_HEAD = len(_MAGIC) + 32
_ALIGN = 64


def _pack(tree: dict[str, Any]) -> np.ndarray:
    """The tree as bytes, a copy, with room for the checksum."""
    if not isinstance(tree, dict):
        raise TypeError(f"Store.save: tree={format_value(tree)}; a tree is a dict.")
    arrays: list[tuple[int, np.ndarray]] = []
    size = 0

    def index_of(x: Any, path: str) -> Any:
        nonlocal size
        if isinstance(x, dict):
            for key in x:
                if not isinstance(key, str):
                    raise TypeError(f"Store.save: tree{path} has the key {key!r}; keys must be str.")
            return {key: index_of(value, f"{path}[{key!r}]") for key, value in x.items()}
        if isinstance(x, (np.ndarray, np.generic)):
            array = np.asarray(x)
            dtype = _dtype_name(array.dtype)
            if dtype is not None:
                place = size
                arrays.append((place, array))
                size += -(-array.nbytes // _ALIGN) * _ALIGN
                return ["array" if isinstance(x, np.ndarray) else "scalar", dtype, list(array.shape), place]
        elif isinstance(x, float):  # JSON has no infinity, and only one NaN
            return ["float", struct.pack("<d", x).hex()]
        elif x is None or isinstance(x, (bool, int, str)):
            return ["plain", x]
        raise TypeError(
            f"Store.save: tree{path} is {format_value(x)}, of type {type(x).__name__}; a tree holds numpy arrays "
            f"of numbers "
            "or text, numbers, str, None and dicts (jax.device_get makes numpy arrays)."
        )

    index = json.dumps(index_of(tree, "")).encode()
    start = -(-(_HEAD + 8 + len(index)) // _ALIGN) * _ALIGN
    packed = np.zeros(start + size, np.uint8)
    packed[: len(_MAGIC)] = np.frombuffer(_MAGIC, np.uint8)
    packed[_HEAD : _HEAD + 8 + len(index)] = np.frombuffer(struct.pack("<Q", len(index)) + index, np.uint8)
    for place, array in arrays:
        if array.nbytes:
            room = packed[start + place : start + place + array.nbytes]
            room.view(array.dtype).reshape(array.shape)[...] = array
    return packed


def _unpack(packed: np.ndarray) -> dict[str, Any]:
    """The tree of the bytes; ValueError if they are not what was written."""
    if packed[: len(_MAGIC)].tobytes() != _MAGIC:
        raise ValueError("it does not begin as a checkpoint")
    if hashlib.sha256(packed[_HEAD:].data).digest() != packed[len(_MAGIC) : _HEAD].tobytes():
        raise ValueError("its bytes do not match their checksum")
    (length,) = struct.unpack("<Q", packed[_HEAD : _HEAD + 8].tobytes())
    start = -(-(_HEAD + 8 + length) // _ALIGN) * _ALIGN

    def value_of(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: value_of(value) for key, value in x.items()}
        kind, *rest = x
        if kind == "plain":
            return rest[0]
        if kind == "float":
            return struct.unpack("<d", bytes.fromhex(rest[0]))[0]
        name, shape, place = rest
        array = np.empty(shape, np.dtype(name))
        if array.nbytes:
            room = packed[start + place : start + place + array.nbytes]
            array[...] = room.view(array.dtype).reshape(shape)
        return array if kind == "array" else array[()]

    return value_of(json.loads(packed[_HEAD + 8 : _HEAD + 8 + length].tobytes()))


def _dtype_name(dtype: np.dtype[Any]) -> str | None:
    """What `numpy.dtype` makes the dtype of again; None for objects, records and raw bytes."""
    for name in (dtype.str, dtype.name):  # the first keeps the byte order, the second knows bfloat16
        with contextlib.suppress(TypeError):
            if not dtype.hasobject and dtype.names is None and np.dtype(name) == dtype and dtype.type is not np.void:
                return name
    return None


# --- Orbax -----------------------------------------------------------------------------------------------------------


def _need_orbax() -> None:
    """An error at once if Orbax is missing. It is imported with the first save, in the thread of the writes."""
    try:
        found = importlib.util.find_spec("orbax.checkpoint")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ImportError('checkpoints need orbax-checkpoint: pip install "jaxsched[checkpoint]"')


@dataclasses.dataclass(frozen=True)
class _Orbax:
    save: Callable[[Path, np.ndarray], None]
    read: Callable[[Path], np.ndarray]


@functools.cache
def _orbax() -> _Orbax:
    """Orbax, told to save what this process has as this process alone.

    Its handler for numpy arrays will not do: it writes in process 0 only, and leaves the folders of the others empty
    without a word (0.11, 0.12). So the bytes have a handler of their own, and Orbax does what it is here for: a folder
    that is renamed to its name when it is complete, and metadata that its tools read.
    """
    import jax
    import orbax.checkpoint as ocp

    class Handler(ocp.CheckpointHandler):
        def save(self, directory: Any, args: Any) -> None:
            packed = args.packed
            packed[len(_MAGIC) : _HEAD] = np.frombuffer(hashlib.sha256(packed[_HEAD:].data).digest(), np.uint8)
            with open(directory / "tree", "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())  # on the disk before the folder gets its name, should the power fail

        def restore(self, directory: Any, args: Any) -> np.ndarray:
            del args
            return np.fromfile(directory / "tree", np.uint8)

    @ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)
    @dataclasses.dataclass
    class Args(ocp.args.CheckpointArgs):
        packed: np.ndarray | None = None

    # The only active process: then Orbax waits at no barrier, and each may save as often as it likes.
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    orbax = ocp.Checkpointer(Handler(), multiprocessing_options=alone)
    return _Orbax(
        save=lambda path, packed: orbax.save(path, args=Args(packed)),
        read=lambda path: orbax.restore(path, args=Args()),
    )


def _read(path: Path) -> dict[str, Any]:
    return _unpack(_orbax().read(path))
