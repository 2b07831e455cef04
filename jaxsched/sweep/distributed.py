"""Several processes, on one machine or on many, that share the trainings of one sweep.

JAX's own runtime finds them: `jax.distributed.initialize` knows SLURM, Open MPI, Kubernetes and TPU pods. They meet
once, and from then on the trainings of one process need nothing of another, so every process is a JAX of its own, with
its own devices. What is left to do together is little: to gather numpy arrays at the end of a round, and to notice that
one of them has died. Both go over one TCP connection from each process to process 0. JAX's collectives do neither: they
want arrays of one shape, and a program that waits for a dead process is ended by an abort that does not name it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import math
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .._errors import format_value
from .wire import ALL, DIED, HELLO, LEFT, STOP, TREE, Wire, join_bytes, pack, split_bytes, unpack

_CARD_BYTES = 1024
"""What a process tells of itself when all meet, filled up with spaces: arrays that are gathered have one size."""


class ProcessDied(RuntimeError):
    """Another process of this run has died or has left; its text says which, where it ran, and how to go on."""


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: float = 60.0,
) -> Processes:
    """Makes this process one of several that run one sweep together; every one of them calls this first of all.

    `jax.distributed.initialize` finds SLURM, Open MPI, Kubernetes and TPU pods by itself; elsewhere write all three of
    `coordinator`, `processes` and `process`. Afterwards every process computes on its own devices only.

    Args:
      coordinator: "HOST:PORT" of process 0, at a free port, the same for all; None on a cluster.
      processes: how many there are, 1 or more; None on a cluster.
      process: which this one is, from 0 to `processes - 1`; None on a cluster.
      timeout: seconds, 1 or more: for all to meet, and for the others to end after one of them has died.

    Errors: TypeError and ValueError for arguments that are wrong or not all given; ConnectionError if process 0 cannot
    be reached or its port is taken; RuntimeError after JAX has computed something, or if called twice.

    Example:
      >>> from jaxsched.sweep.distributed import initialize
      >>> processes = initialize("localhost:12355", processes=1, process=0)
      >>> processes.index, processes.count
      (0, 1)
      >>> processes.close()
    """
    _check(coordinator, processes, process, timeout)
    if _CURRENT is not None or jax.distributed.is_initialized():
        raise RuntimeError("initialize: the processes have met already; jaxsched.sweep.distributed.current() has them.")
    if processes == 1:
        return alone()
    with _end_unless_done(timeout, _nobody(coordinator, processes, process, timeout)):
        if coordinator is not None:
            _probe(coordinator, process, timeout)
        _start(coordinator, processes, process, timeout)
        with _on_cpu():
            index, cards, hub = _meet(coordinator)
            _be_local()
    return _join(index, cards, hub, timeout)


def current(timeout: float = 60.0) -> Processes:
    """The processes that `initialize` brought together, or those of a JAX runtime that the user started, or `alone()`.

    A runtime that the user started with `jax.distributed.initialize` stays: if its coordinator dies, JAX aborts the
    other processes itself, at once and without a name.

    Args:
      timeout: as for `initialize`, where it is the user's own `jax.distributed.initialize` that is found.

    Errors: ConnectionError if process 0 cannot be reached within `timeout`.

    Example:
      >>> from jaxsched.sweep.distributed import current
      >>> current().count
      1
    """
    if _CURRENT is not None:
        return _CURRENT
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return alone()
    return _join(*_meet(None), timeout)


def alone() -> Processes:
    """One process, which is all that most sweeps need.

    Example:
      >>> from jaxsched.sweep.distributed import alone
      >>> alone().gather({"loss": [1.0, 2.0]})
      [{'loss': array([1., 2.])}]
    """
    return Processes(0, [_Card("localhost", os.getpid())])


# --- the processes ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Card:
    """What a process tells the others of itself; process 0 also tells where it listens."""

    host: str
    pid: int
    addresses: tuple[str, ...] = ()
    port: int = 0
    token: str = ""


class Processes:
    """All processes of a run, as one of them sees them; `initialize`, `current` and `alone` make it.

    Fields:
      index: which this process is, from 0.
      count: how many there are, 1 or more.
      stopping: whether some process was asked to stop, by `stop()`.
      death: the `ProcessDied` of the process that died first, or None.

    Example:
      >>> from jaxsched.sweep.distributed import alone
      >>> with alone() as processes:
      ...     processes.check()
      ...     processes.barrier("done")
      ...     (processes.index, processes.count)
      (0, 1)
    """

    def __init__(self, index: int, cards: list[_Card], timeout: float = 60.0) -> None:
        self.index = index
        self.count = len(cards)
        self.stopping = False
        self.death: ProcessDied | None = None
        self._cards = cards
        # Silence is noticed after half of the time, and a main thread that does not come back gets a quarter.
        self._silence, self._grace = timeout / 2, timeout / 4
        self._wires: dict[int, Wire] = {}
        self._news = threading.Condition()
        self._inbox: dict[tuple[int, int], bytes] = {}
        self._left: dict[int, tuple[str, int]] = {}  # why, and after how many gathers
        self._number = 0
        self._told = self._closed = False
        self._fallback: threading.Timer | None = None
        self._asking: threading.Thread | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(repr(error[1]) if error[1] is not None else "")

    def gather(self, tree: dict[str, Any]) -> list[dict[str, Any]]:
        """The trees of all processes in order, equal on all: dicts with text for keys, of dicts or numpy arrays, whose
        keys and shapes may differ from process to process (an empty dict is left out). All call it, in the same order.

        Errors: ProcessDied as soon as a process that is waited for has died or left; RuntimeError if another process
        waits at another place.
        """
        return self._together("gather", tree)

    def barrier(self, name: str) -> None:
        """Waits until every process is here, at the barrier of this `name`. Errors: as `gather`."""
        self._together(f"barrier {name!r}", {})

    def check(self) -> None:
        """Nothing, unless another process has died or left: then ProcessDied. To be called now and then."""
        with self._news:
            # One that was asked to stop may leave: the others were asked too.
            self._raise_if_lost(self._number if not self.stopping else -1)

    def stop(self) -> None:
        """Asks all processes to stop: `stopping` becomes True on each of them, soon. A signal handler may call it."""
        if not self.stopping:
            self.stopping = True
            # A thread of its own: the one that was interrupted may be just about to send.
            self._asking = threading.Thread(target=self._pass_on, args=(self.index, STOP, []))
            self._asking.start()

    def close(self, reason: str = "") -> None:
        """Takes leave of the others, who do not wait for this process any longer; a second call does nothing."""
        global _CURRENT
        with self._news:
            first, self._closed = not self._closed, True
        if self._fallback is not None:
            self._fallback.cancel()
        if self._asking is not None:
            self._asking.join()
        for wire in self._wires.values() if first else ():
            with contextlib.suppress(OSError):
                wire.send(LEFT, json.dumps([self.index, reason, self._number]).encode())
            wire.leave()
        if _CURRENT is self:
            _CURRENT = None

    def __repr__(self) -> str:
        return f"<Processes: {self.index} of {self.count}>"

    # What the main thread does.

    def _together(self, place: str, tree: dict[str, Any]) -> list[dict[str, Any]]:
        payload = pack(place, tree)
        number, self._number = self._number, self._number + 1
        if self.index == 0:
            payloads = [payload, *(self._wait(k, number) for k in range(1, self.count))]
            joined = join_bytes(payloads)
            for k, wire in self._wires.items():
                self._send(k, wire, ALL, joined)
        else:
            self._send(0, self._wires[0], TREE, payload)
            payloads = split_bytes(self._wait(0, number))
        places, trees = zip(*map(unpack, payloads), strict=True)
        for k, other in enumerate(places):
            if other != place:
                raise RuntimeError(
                    f"Processes: process {self.index} is at {place} and process {k} at {other}; "
                    "all processes must run the same program with the same arguments."
                )
        return list(trees)

    def _wait(self, sender: int, number: int) -> bytes:
        key = (sender, number)
        with self._news:
            while key not in self._inbox:
                self._raise_if_lost(number)
                self._news.wait()
            return self._inbox.pop(key)

    def _send(self, receiver: int, wire: Wire, kind: bytes, payload: bytes) -> None:
        try:
            wire.send(kind, payload)
        except OSError as error:
            self._lost(receiver, str(error))
            self.check()

    def _raise_if_lost(self, number: int) -> None:
        """ProcessDied for a death, and for a process that left without a part in gather `number`."""
        if self.death is not None:
            self._told = True
            if self._fallback is not None:
                self._fallback.cancel()
            raise self.death
        for k, (reason, gathers) in self._left.items():
            if gathers <= number:
                raise ProcessDied(self._text(k, f"ended before the others{': ' * bool(reason)}{reason}"))

    # What the threads do.

    def _begin(self, wires: dict[int, Wire]) -> None:
        self._wires = wires
        for k, wire in wires.items():
            threading.Thread(target=self._listen, args=(k, wire), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def _listen(self, sender: int, wire: Wire) -> None:
        """Reads what `sender` sends, until it leaves."""
        try:
            self._read(sender, wire)
        except TimeoutError:
            self._lost(sender, f"no sign of life for {self._silence:g} s")
        except OSError as error:
            self._lost(sender, str(error))
        wire.close()

    def _read(self, sender: int, wire: Wire) -> None:
        number = 0
        while True:
            kind, payload = wire.receive()
            if kind in (TREE, ALL):
                with self._news:
                    self._inbox[sender, number] = payload
                    self._news.notify_all()
                number += 1
            elif kind == DIED:
                self._lost(*json.loads(payload))
            elif kind == STOP:
                self._stopped(sender)
            elif kind == LEFT:
                who, reason, gathers = json.loads(payload)
                self._gone(who, reason, gathers)
                if who == sender:
                    return

    def _beat(self) -> None:
        """Lets the others hear that this process is alive, however long it computes."""
        while not self._closed:
            for k, wire in self._wires.items():
                if k not in self._left:
                    with contextlib.suppress(OSError):  # who listens on this connection notices it too
                        wire.beat()
            time.sleep(min(5.0, self._silence / 5))

    def _lost(self, who: int, why: str) -> None:
        with self._news:
            if self._closed or self.death is not None or who in self._left:
                return
        # The others hear of it first: this process may end as soon as it knows, and must not be taken for the cause.
        self._pass_on(who, DIED, [who, why])
        with self._news:
            self.death = self.death or ProcessDied(self._text(who, f"died: {why}"))
            self._fallback = threading.Timer(self._grace, self._end)
            self._fallback.daemon = True
            self._fallback.start()
            self._news.notify_all()

    def _gone(self, who: int, reason: str, gathers: int) -> None:
        with self._news:
            self._left[who] = reason, gathers
            self._news.notify_all()
        self._pass_on(who, LEFT, [who, reason, gathers])

    def _stopped(self, sender: int) -> None:
        self.stopping = True
        self._pass_on(sender, STOP, [])

    def _pass_on(self, sender: int, kind: bytes, told: list[Any]) -> None:
        """Process 0 tells the others what it hears or does; any other process tells process 0 what it does."""
        for k, wire in self._wires.items():
            if k != sender and k not in self._left and (self.index == 0 or sender == self.index):
                with contextlib.suppress(OSError):
                    wire.send(kind, json.dumps(told).encode())

    def _at_exit(self) -> None:
        error = getattr(sys, "last_value", None)  # the exception that ends this process, if one does
        self.close(f"{type(error).__name__}: {error}"[:300] if error is not None else "")
        if self.death is not None and jax.distributed.is_initialized():
            # A runtime that the user started would wait here for the dead process, and then abort.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    def _end(self) -> None:
        """The hard way out, for a main thread that is deep in a computation of its own."""
        if not self._told and not self._closed:
            _exit(str(self.death))

    def _text(self, who: int, what: str) -> str:
        card = self._cards[who]
        return (
            f"process {who} of {self.count} (pid {card.pid} on {card.host}) {what}. All processes end; "
            "start the same command again on each of them, and it goes on from the last checkpoint."
        )


_CURRENT: Processes | None = None


def _exit(text: str) -> None:
    print(f"jaxsched: {text}", file=sys.stderr, flush=True)
    os._exit(1)


# --- how they meet ---------------------------------------------------------------------------------------------------


def _check(coordinator: Any, processes: Any, process: Any, timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 1 <= timeout < math.inf:
        raise ValueError(
            f"initialize: timeout={format_value(timeout)}; timeout must be a number of seconds, 1 or more."
        )
    flags = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) == 3:
        return
    if missing:
        given = ", ".join(f"{name}={format_value(value)}" for name, value in flags.items() if value is not None)
        raise ValueError(
            f"initialize: {given}, but no {' and no '.join(missing)}; write all three, or none on a cluster."
        )
    for name, value, least in (("processes", processes, 1), ("process", process, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"initialize: {name}={format_value(value)}; {name} must be an integer, {least} or more.")
        if value < least:
            raise ValueError(f"initialize: {name}={format_value(value)}; {name} must be {least} or more.")
    if process >= processes:
        raise ValueError(
            f"initialize: process={process} and processes={processes}; process must be from 0 to {processes - 1}."
        )
    _host_and_port(coordinator)


def _host_and_port(coordinator: Any) -> tuple[str, int]:
    host, colon, port = coordinator.rpartition(":") if isinstance(coordinator, str) else ("", "", "")
    if not (host and colon and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(
            f"initialize: coordinator={format_value(coordinator)}; write the address of process 0, such as "
            f'"10.0.0.1:12355".'
        )
    return host.strip("[]"), int(port)


def _nobody(coordinator: str | None, processes: int | None, process: int | None, timeout: float) -> str:
    if coordinator is None:
        return f"the processes of this cluster did not all meet within {timeout:g} s."
    who = f"not all of the {processes} processes came to {coordinator}"
    if process:
        who = f"process 0 at {coordinator} did not bring all {processes} processes together"
    return f"{who} within {timeout:g} s. Start all of them within that time, or write a longer timeout."


@contextlib.contextmanager
def _end_unless_done(timeout: float, text: str) -> Iterator[None]:
    """JAX's runtime cannot be waited for with an exception: it aborts the process, with a stack trace of C++."""
    timer = threading.Timer(timeout, _exit, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _probe(coordinator: str, process: int | None, timeout: float) -> None:
    """Whether process 0 can be reached, or its port be had, asked where the answer is still an exception."""
    host, port = _host_and_port(coordinator)
    if process == 0:
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise ConnectionError(
                f"initialize: coordinator={coordinator!r}: port {port} of this machine cannot be had ({error}); "
                "write another port, on all processes."
            ) from None
        return
    end, error = time.monotonic() + 0.9 * timeout, None
    while time.monotonic() < end:
        try:
            return socket.create_connection((host, port), timeout=max(0.1, end - time.monotonic())).close()
        except OSError as found:
            error = found
            time.sleep(0.1)  # process 0 may come later
    raise ConnectionError(
        f"initialize: coordinator={coordinator!r} was not reached within {timeout:g} s ({error}); "
        "start process 0 there, and look at the address and at the firewall."
    )


def _start(coordinator: str | None, processes: int | None, process: int | None, timeout: float) -> None:
    # JAX would abort after its own timeout; ours comes first.
    wait = math.ceil(timeout) + 30
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=wait)
    except RuntimeError as error:
        if "must be called before" not in str(error):
            raise
        raise RuntimeError(
            "initialize: JAX has computed something already; call initialize first of all, before any array is made."
        ) from None
    except ValueError as error:
        if coordinator is not None:
            raise
        raise ValueError(
            "initialize: there is no SLURM, Open MPI, Kubernetes or TPU pod here that tells which process this is; "
            'write coordinator="HOST:PORT", processes=N and process=I.'
        ) from error


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    """The processes meet on their CPUs: no accelerator is touched before each process has it for itself."""
    platforms = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_platforms", "cpu")
    try:
        yield
    finally:
        jax.config.update("jax_platforms", platforms)


def _meet(coordinator: str | None) -> tuple[int, list[_Card], socket.socket | None]:
    """Returns the index of this process, the card of each process, and the listening socket of process 0."""
    from jax.experimental import multihost_utils

    index, hub, mine = jax.process_index(), None, _Card(socket.gethostname(), os.getpid())
    if index == 0:
        host = _host_and_port(coordinator)[0] if coordinator is not None else None
        hub = _listening("127.0.0.1" if host in ("localhost", "127.0.0.1") else "")
        addresses = dict.fromkeys(filter(None, (host, _outward_address(), mine.host)))
        mine = dataclasses.replace(
            mine, addresses=tuple(addresses), port=hub.getsockname()[1], token=secrets.token_hex(16)
        )
    text = json.dumps(dataclasses.asdict(mine)).encode().ljust(_CARD_BYTES)
    rows = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
    return index, [_Card(**json.loads(np.asarray(row).tobytes())) for row in rows.reshape(-1, _CARD_BYTES)], hub


def _listening(host: str) -> socket.socket:
    if host == "" and socket.has_dualstack_ipv6():
        return socket.create_server((host, 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, 0))


def _outward_address() -> str | None:
    """The address that others see; nothing is sent. The name of a machine often leads only to itself."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    return None


def _be_local() -> None:
    """Ends JAX's runtime, so that this process has its own devices only and is not aborted for another's death."""
    from jax.extend.backend import clear_backends

    clear_backends()
    jax.distributed.shutdown()
    # JAX still takes itself for one of many, and Orbax would wait for the others; a runtime of one sets that right.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0, cluster_detection_method="deactivate")
    jax.distributed.shutdown()
    if threading.current_thread() is threading.main_thread():
        # The runtime took SIGTERM for notices of its own.
        handler = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


def _join(index: int, cards: list[_Card], hub: socket.socket | None, timeout: float) -> Processes:
    """Connects every process with process 0, and starts the threads that listen and beat."""
    global _CURRENT
    processes = Processes(index, cards, timeout)
    if len(cards) > 1:
        wires = {0: _connected(index, cards[0], timeout)} if hub is None else _accepted(hub, cards, timeout)
        processes._begin(wires)
        # One that ends without a word would be taken for dead.
        atexit.register(processes._at_exit)
        _CURRENT = processes
    if hub is not None:
        hub.close()
    return processes


def _accepted(hub: socket.socket, cards: list[_Card], timeout: float) -> dict[int, Wire]:
    """The connections of all other processes, on process 0."""
    wires: dict[int, Wire] = {}
    end = time.monotonic() + timeout
    while len(wires) < len(cards) - 1:
        hub.settimeout(max(0.01, end - time.monotonic()))
        try:
            wire = Wire(hub.accept()[0], timeout / 2)
        except TimeoutError:
            away = [f"{k} (pid {card.pid} on {card.host})" for k, card in enumerate(cards) if k and k not in wires]
            raise ConnectionError(
                f"initialize: process {', '.join(away)} did not come within {timeout:g} s to port {cards[0].port} of "
                f"{' or '.join(cards[0].addresses)}; look at the firewall between these machines."
            ) from None
        # Whoever does not know what the processes told one another through JAX's runtime is sent away.
        with contextlib.suppress(OSError, ValueError):
            kind, payload = wire.receive(most=_CARD_BYTES)
            token, k = json.loads(payload) if kind == HELLO else ("", 0)
            if secrets.compare_digest(str(token), cards[0].token):
                wire.send(HELLO, b"")
                wires[int(k)] = wire
                continue
        wire.close()
    return wires


def _connected(index: int, hub: _Card, timeout: float) -> Wire:
    """The connection with process 0, by the first of its addresses that leads there."""
    end, errors = time.monotonic() + timeout, {}
    while time.monotonic() < end:
        for address in hub.addresses:
            try:
                wire = Wire(socket.create_connection((address, hub.port), timeout=timeout / 4), timeout / 2)
                wire.send(HELLO, json.dumps([hub.token, index]).encode())
                if wire.receive(most=_CARD_BYTES)[0] == HELLO:
                    return wire
            except OSError as error:
                errors[address] = error
        time.sleep(0.1)
    tried = ", ".join(f"{address}:{hub.port} ({error})" for address, error in errors.items())
    raise ConnectionError(
        f"initialize: process 0 (pid {hub.pid} on {hub.host}) was not reached within {timeout:g} s at {tried}; "
        "look at the firewall between these machines."
    )
