"""Batches from the host: what a `Task` may hold instead of arrays, and the thread that fetches them ahead of use."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from .._errors import FieldError, FieldTypeError, format_value

_END = object()
_REMAINDER = "drop the remainder of an epoch in the loader: drop_remainder=True, or drop_last=True"
_MAKE_ITERATOR = "write a function that makes a new iterator: train=lambda: make_iterator()"


class Source:
    """Batches that come one after the other from Python code, pass after pass.

    Fields:
      first: the first batch, as numpy arrays of the dtypes that JAX computes with. It says what every batch is like.
      once: True for an iterator that is used up after one pass.

    Errors: TypeError for what cannot be iterated and for batches that hold anything but arrays; ValueError for a
    source without a batch.

    Example:
      >>> import numpy as np
      >>> from jaxsched.sweep.data import Source
      >>> source = Source(lambda: (np.full(3, i) for i in range(2)))
      >>> source.first.tolist(), source.once
      ([0, 0, 0], False)
    """

    first: Any
    once: bool

    def __init__(self, train: Any) -> None:
        self._train = train
        self._lock = threading.Lock()  # chunks begin their passes from threads of their own
        self._latest: Any = None
        self._spent = False
        self._opening: Any = None  # the batch that the passes of a sweep begin with
        self.once = isinstance(train, Iterator)
        iterator = self._iterator()
        try:
            batch = _next(iterator, 0)
        finally:
            if not self.once:
                _close(iterator)
        if batch is _END:
            raise ValueError(f"Task: train={format_value(train)} gave no batch; it must give at least one.")
        self.first = _arrays(batch, 0)
        self._taken = [self.first] if self.once else []

    def __repr__(self) -> str:
        return format_value(self._train)

    def forget(self) -> None:
        """Says that a sweep begins: its passes need not be those of an earlier one."""
        self._opening = None

    def _refuse_another(self, batch: Any) -> None:
        """Refuses a pass that begins otherwise than the first one of a sweep: chunks would train on different data."""
        with self._lock:
            if self._opening is None:
                self._opening = jax.tree.map(np.copy, batch)
            elif not jax.tree.all(jax.tree.map(np.array_equal, self._opening, batch)):
                note = " gives other batches on each pass, and every chunk of trainings begins a pass"
                instead = "write a function that makes a loader of one order, train=lambda: loader(seed=0)"
                raise FieldError("sweep", "train", self, instead, note=note)

    def begin(self) -> None:
        """Says that a pass is about to begin; an iterator that has had its pass is refused."""
        with self._lock:
            if self.once and self._spent:
                note = " is an iterator, which gives its batches once, and another chunk or sweep needs them again"
                raise FieldError("sweep", "train", self, _MAKE_ITERATOR, note=note)
            self._spent = True

    def batches(self, start: int = 0, closed: Callable[[], bool] = lambda: False) -> Generator[Any, None, None]:
        """The batches from number `start` on, without an end: what has come to its end begins again."""
        number, form = 0, _form(self.first)
        while True:
            before, iterator = number, self._iterator()
            try:
                whole = itertools.chain(self._taken, iterator)
                while not closed() and (batch := _next(whole, number)) is not _END:
                    if number == 0:
                        self._refuse_another(_arrays(batch, 0))
                    if number >= start:
                        batch = _arrays(batch, number)
                        if _form(batch) != form:
                            note = f": batch {number} of train has the form {_text(batch)}, and batch 0 had "
                            instead = f"all must be alike. If it is the last of an epoch, {_REMAINDER}"
                            raise FieldError("sweep", "train", self, instead, note=note + _text(self.first))
                        yield batch
                    number += 1
            finally:
                _close(iterator)
            if closed():
                return
            if self.once:
                note = f" ran dry at step {number}: it gave {number} batches, and every step takes one"
                raise FieldError("sweep", "train", self, _MAKE_ITERATOR, note=note)
            if number == before:
                note = f" ran dry at step {number}: a new pass was empty"
                raise FieldError("sweep", "train", self, "every pass must give at least one batch", note=note)

    def _iterator(self) -> Iterator[Any]:
        """The iterator of a new pass."""
        if isinstance(self._train, Iterable):
            return iter(self._train)
        with self._lock:
            made = self._train()
            if not isinstance(made, Iterable):
                raise FieldTypeError("Task", "train()", made, "train() must return an iterator over batches")
            iterator = iter(made)
            if iterator is self._latest:
                instead = "it must make a new one on each call: train=lambda: make_iterator()"
                raise FieldError("Task", "train()", made, instead, note=" was returned a second time")
            self._latest = iterator
            return iterator


class Feed:
    """The batches of one pass of trainings, fetched by a thread while the steps before them run.

    Args:
      source: the `Source`.
      start: the step that the first batch is for; as many batches are passed over.

    Errors: ValueError at `open` for an iterator that has been used up; whatever goes wrong in the source, at `take`.

    Example:
      >>> import numpy as np
      >>> from jaxsched.sweep.data import Feed, Source
      >>> with Feed.open(Source([np.array([0, 1]), np.array([2, 3])]), start=1) as feed:
      ...     feed.take(3).tolist()
      [[2, 3], [0, 1], [2, 3]]
    """

    def __init__(self, source: Source, start: int = 0) -> None:
        source.begin()
        self._ready: collections.deque[Any] = collections.deque()
        self._ahead = 2  # batches; more as soon as it is known how many are taken at once
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        # A daemon: a loader that never answers does not keep the interpreter from its end.
        self._thread = threading.Thread(target=self._fetch, args=(source, start), name="jaxsched-feed", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, source: Source, start: int = 0) -> Feed:
        """Begins a pass at step `start`."""
        return cls(source, start)

    def take(self, count: int) -> Any:
        """The next `count` batches, stacked on a new first axis."""
        batches: list[Any] = []
        with self._changed:
            self._ahead = max(self._ahead, 2 * count)
            while len(batches) < count:
                if self._ready:
                    batches.append(self._ready.popleft())
                elif self._closed:
                    raise RuntimeError("the feed was closed while batches were awaited")
                elif self._error is not None:
                    raise self._error
                else:
                    self._changed.notify_all()
                    self._changed.wait()
            self._changed.notify_all()
        return jax.tree.map(lambda *xs: np.stack(xs), *batches)

    def close(self) -> None:
        """Ends the thread and closes the iterator; whoever waits in `take` gets a RuntimeError."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)  # not for ever: it may hang in the loader

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, source: Source, start: int) -> None:
        try:
            with contextlib.closing(source.batches(start, lambda: self._closed)) as batches:
                for batch in batches:
                    with self._changed:
                        while len(self._ready) >= self._ahead and not self._closed:
                            self._changed.wait()
                        if self._closed:
                            return
                        self._ready.append(batch)
                        self._changed.notify_all()
        except BaseException as error:  # of any kind: it is raised where the batches are awaited
            with self._changed:
                self._error = error
                self._changed.notify_all()


def is_source(train: Any, valid: Any) -> bool:
    """Whether `train` gives batches, and is not a pytree of arrays itself: a list of batches like `valid` does."""
    if isinstance(train, list):
        return bool(train) and jax.tree.structure(train[0]) == jax.tree.structure(valid) != jax.tree.structure(train)
    if isinstance(train, (str, bytes, np.ndarray, jax.Array)):
        return False
    if isinstance(train, Iterator) or callable(train):  # before JAX sees an iterator, which it refuses
        return True
    return isinstance(train, Iterable) and jax.tree.structure(train) == jax.tree.structure(0)


def _next(iterator: Iterator[Any], number: int) -> Any:
    try:
        return next(iterator, _END)
    except Exception as error:
        error.add_note(f"Task: this came from train, when it was asked for batch {number}.")
        raise


def _close(iterator: Any) -> None:
    close = getattr(iterator, "close", None)
    if callable(close):
        close()


def _arrays(batch: Any, number: int) -> Any:
    """The batch as numpy arrays of its own: a loader may write the next batch where this one was."""

    def array(leaf: Any) -> np.ndarray:
        if not hasattr(leaf, "__array__"):
            raise TypeError(
                f"Task: batch {number} of train holds {format_value(leaf)}; a batch must be a pytree of arrays, "
                f"like valid "
                "(numpy.asarray makes one of a list)."
            )
        values = np.asarray(leaf)
        return np.array(values, jax.dtypes.canonicalize_dtype(values.dtype))

    return jax.tree.map(array, batch)


def _form(batch: Any) -> Any:
    return jax.tree.structure(batch), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch)]


def _text(batch: Any) -> str:
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", batch)).replace("'", "")
