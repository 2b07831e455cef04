"""What goes over the connection of two processes: messages, and trees of arrays."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import threading
from typing import Any

import numpy as np

from .._errors import format_value

_PIECE = 1 << 20
"""Bytes that are sent or received at once. The clock of a silent connection starts anew with each."""

_HEAD = struct.Struct("!cQ")
HELLO, BEAT, TREE, ALL, DIED, LEFT, STOP = (bytes([code]) for code in b"hbtadls")
"""The kinds of messages: who I am, I am alive, a tree, the trees of all, one has died, one has left, stop."""


class Wire:
    """One connection: messages of a kind, a length and so many bytes. TimeoutError after `silence` s without any."""

    def __init__(self, connection: socket.socket, silence: float) -> None:
        connection.settimeout(silence)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, kind: bytes, payload: bytes) -> None:
        with self._sending:
            self._connection.sendall(_HEAD.pack(kind, len(payload)))
            for start in range(0, len(payload), _PIECE):
                self._connection.sendall(memoryview(payload)[start : start + _PIECE])

    def beat(self) -> None:
        """A sign of life, unless one is just being sent: whatever else is on its way is one too."""
        if self._sending.acquire(blocking=False):
            try:
                self._connection.sendall(_HEAD.pack(BEAT, 0))
            finally:
                self._sending.release()

    def receive(self, most: int | None = None) -> tuple[bytes, bytes]:
        kind, length = _HEAD.unpack(self._read(_HEAD.size))
        if most is not None and length > most:
            raise OSError(f"{length} bytes came, and at most {most} were awaited")
        return kind, bytes(self._read(length))

    def _read(self, length: int) -> bytearray:
        read, view = 0, memoryview(whole := bytearray(length))
        while read < length:
            got = self._connection.recv_into(view[read : read + _PIECE])
            if got == 0:
                raise ConnectionError("its connection was closed")
            read += got
        return whole

    def leave(self) -> None:
        """Nothing more is sent; what was sent still arrives."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._connection.close()


def pack(place: str, tree: dict[str, Any]) -> bytes:
    """A tree as its keys, dtypes and shapes in JSON, and then the bytes of its arrays."""
    heads, parts = [], []

    def walk(path: list[str], value: Any) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"Processes: gather got the key {format_value(key)}; keys must be text.")
                walk([*path, key], child)
            return
        array = np.asarray(value)
        if array.dtype.kind == "O" or array.dtype.names:
            raise TypeError(
                f"Processes: gather got {'.'.join(path)}={format_value(value)}; write numpy arrays of numbers."
            )
        # The names of JAX's own dtypes (bfloat16) say more than their codes; text and the like have only codes.
        heads.append([path, array.dtype.name if array.dtype.kind == "V" else array.dtype.str, array.shape])
        parts.append(array.tobytes())

    if not isinstance(tree, dict):
        raise TypeError(f"Processes: gather got {format_value(tree)}; write a dict of numpy arrays.")
    walk([], tree)
    return join_bytes([json.dumps([place, heads]).encode(), *parts])


def unpack(payload: bytes) -> tuple[str, dict[str, Any]]:
    head, *parts = split_bytes(payload)
    place, heads = json.loads(head)
    tree: dict[str, Any] = {}
    for (path, dtype, shape), part in zip(heads, parts, strict=True):
        inner = tree
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = np.frombuffer(part, np.dtype(dtype)).reshape(shape).copy()
    return place, tree


def join_bytes(parts: list[bytes]) -> bytes:
    lengths = [len(part) for part in parts]
    return b"".join([struct.pack(f"!Q{len(parts)}Q", len(parts), *lengths), *parts])


def split_bytes(whole: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("!Q", whole)
    lengths = struct.unpack_from(f"!{count}Q", whole, 8)
    ends = np.cumsum([8 + 8 * count, *lengths]).tolist()
    return [whole[start:end] for start, end in itertools.pairwise(ends)]
