"""Several processes: real ones on the loopback, and pairs inside of this process where no death is needed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxsched.sweep import distributed, wire
from jaxsched.sweep.distributed import ProcessDied, Processes, alone, current, initialize

WORKER = """
import hashlib, json, os, signal, sys, time
import numpy as np
from jaxsched.sweep import distributed

kind, index, count, port, timeout = sys.argv[1], *map(int, sys.argv[2:])
if "users" in kind:
    import jax
    jax.distributed.initialize(f"localhost:{port}", count, index)
    processes = distributed.current(timeout)
    assert distributed.current() is processes
elif "cluster" in kind:
    processes = distributed.initialize(timeout=timeout)  # SLURM's variables say the rest
else:
    processes = distributed.initialize(f"localhost:{port}", count, index, timeout)
import jax, jax.numpy as jnp, ml_dtypes


def tell(**facts):
    print(json.dumps({"index": index, "pid": os.getpid(), **facts}), flush=True)


if "gather" in kind:
    tree = {
        "loss": {"valid": np.full((index, 3), index + 0.5, ml_dtypes.bfloat16)},
        "large": np.random.default_rng(index).integers(0, 255, 3_000_000 * (1 + index), np.uint8),
        f"only{index}": np.arange(index, dtype=np.int32),
    }
    everyone = processes.gather(tree)
    processes.barrier("then")
    digests = [hashlib.sha256(x["large"].tobytes()).hexdigest() for x in everyone]
    shapes = [[sorted(x), x["loss"]["valid"].shape, str(x["loss"]["valid"].dtype)] for x in everyone]
    shard = jax.NamedSharding if hasattr(jax, "NamedSharding") else jax.sharding.NamedSharding
    mesh = jax.sharding.Mesh(jax.local_devices(), "d")
    total = float(jnp.sum(jax.device_put(jnp.arange(8.0), shard(mesh, jax.sharding.PartitionSpec("d")))))
    tell(count=processes.count, digests=digests, shapes=shapes, jax=jax.process_count(), total=total)
    processes.close()
elif kind == "leave":
    if index == 1:
        raise ArithmeticError("the batch was empty")
    processes.gather({})
else:
    processes.barrier("all are here")
    tell()
    if kind == "hard":  # the main thread never asks
        jax.jit(lambda x: jax.lax.fori_loop(0, 2**31 - 1, lambda i, x: jnp.sin(x) + i, x))(jnp.ones(500)).sum()
    for _ in range(2_000):
        time.sleep(0.05)
        processes.check()
"""


def free_port(least=0):
    """A free port, of those from `least` on."""
    for port in range(least, least + 4096) if least else [0]:
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return server.getsockname()[1]
        except OSError:
            continue
    raise AssertionError("no port is free")


def start(kind, count, timeout, devices=1):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    port, envs = free_port(), [env] * count
    if "cluster" in kind:
        # What SLURM sets for each task of a job; JAX makes the port of the job's number.
        job = free_port(61440 + os.getpid() % 2048) - 61440
        slurm = {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": count}
        tasks = [{**slurm, "SLURM_PROCID": i, "SLURM_LOCALID": i} for i in range(count)]
        envs = [{**env, **{name: str(value) for name, value in task.items()}} for task in tasks]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    args = [[str(x) for x in (kind, i, count, port, timeout)] for i in range(count)]
    processes = [subprocess.Popen([sys.executable, "-c", WORKER, *args[i]], env=envs[i], **pipes) for i in range(count)]
    STARTED.extend(processes)
    return processes


STARTED = []


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def told(process):
    """The next facts that a process tells; Gloo writes lines of its own."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise AssertionError(process.stderr.read())


def ends(processes):
    """What is left of the outputs, when all have ended."""
    return [process.communicate(timeout=100) for process in processes]


@pytest.mark.parametrize(("kind", "count"), [("gather", 2), ("gather", 4), ("users gather", 2), ("cluster gather", 2)])
def test_what_is_gathered_is_equal_on_all(kind, count):
    processes = start(kind, count, timeout=60, devices=2)
    facts = [told(process) for process in processes]
    for process, (_, err) in zip(processes, ends(processes), strict=True):
        assert process.returncode == 0, err
    assert [fact["index"] for fact in facts] == list(range(count))
    for fact in facts:
        assert fact["count"] == count
        assert fact["digests"] == facts[0]["digests"]
        assert len(set(fact["digests"])) == count
        assert fact["shapes"] == [[["large", "loss", f"only{i}"], [i, 3], "bfloat16"] for i in range(count)]
        assert fact["jax"] == (count if "users" in kind else 1)  # initialize leaves every process its own devices
        assert fact["total"] == 28.0


@pytest.mark.parametrize(
    ("kind", "count", "victim", "number", "timeout"),
    [
        ("soft", 4, 2, signal.SIGKILL, 40),
        ("soft", 2, 0, signal.SIGKILL, 40),
        ("hard", 2, 1, signal.SIGKILL, 20),
        ("hard", 2, 0, signal.SIGKILL, 20),
        ("soft", 2, 1, signal.SIGSTOP, 20),
        ("soft users", 2, 1, signal.SIGKILL, 40),  # less than JAX's own runtime would wait for it
    ],
)
def test_a_process_that_dies_ends_the_others_with_its_name(kind, count, victim, number, timeout):
    processes = start(kind, count, timeout)
    facts = [told(process) for process in processes]
    os.kill(facts[victim]["pid"], number)
    others = [process for i, process in enumerate(processes) if i != victim]
    texts = [process.communicate(timeout=timeout + 10)[1] for process in others]
    why = "no sign of life" if number == signal.SIGSTOP else "died: "
    for process, text in zip(others, texts, strict=True):
        assert process.returncode == 1
        last = [line for line in text.splitlines() if "died" in line][-1]
        assert f"process {victim} of {count} (pid {facts[victim]['pid']} on {socket.gethostname()}) died" in last
        assert why in last
        assert "start the same command again" in last
        assert ("ProcessDied" in last) == ("soft" in kind)


def test_an_error_in_one_process_is_told_to_the_others():
    processes = start("leave", 2, timeout=60)
    (_, waiting), (_, failed) = ends(processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert "ArithmeticError: the batch was empty" in failed
    assert "ProcessDied: process 1 of 2 (pid " in waiting
    assert "ended before the others: ArithmeticError: the batch was empty" in waiting


def test_a_process_that_never_comes_is_waited_for_in_vain():
    code = "import sys; from jaxsched.sweep.distributed import initialize; initialize(*eval(sys.argv[1]))"
    address = f"localhost:{free_port()}"
    both = [(address, 2, 0, 3), ()]
    run = [subprocess.Popen([sys.executable, "-c", code, repr(x)], stderr=subprocess.PIPE, text=True) for x in both]
    STARTED.extend(run)
    (_, lonely), (_, nowhere) = ends(run)
    assert [process.returncode for process in run] == [1, 1]
    assert f"jaxsched: not all of the 2 processes came to {address} within 3 s. Start all of them" in lonely
    assert "ValueError: initialize: there is no SLURM, Open MPI, Kubernetes or TPU pod here" in nowhere
    assert 'write coordinator="HOST:PORT", processes=N and process=I' in nowhere


def test_what_cannot_be_is_refused_before_anything_is_started():
    good = {"coordinator": "localhost:1234", "processes": 2, "process": 0}
    for change, text in (
        ({"process": None}, "processes=2, but no process; write all three"),
        ({"coordinator": None, "processes": None}, "process=0, but no coordinator and no processes"),
        ({"process": 2}, "process=2 and processes=2; process must be from 0 to 1"),
        ({"process": -1}, "process=-1; process must be 0 or more"),
        ({"processes": 0}, "processes=0; processes must be 1 or more"),
        ({"coordinator": "localhost"}, "coordinator='localhost'; write the address of process 0"),
        ({"coordinator": "localhost:port"}, "coordinator='localhost:port'"),
        ({"coordinator": 1234}, "coordinator=1234; write the address"),
        ({"timeout": 0.5}, "timeout=0.5; timeout must be a number of seconds, 1 or more"),
        ({"timeout": float("inf")}, "timeout=inf"),
    ):
        with pytest.raises(ValueError, match="initialize: ") as refusal:
            initialize(**{**good, **change})
        assert text in str(refusal.value)
    with pytest.raises(TypeError, match=r"processes=2\.0; processes must be an integer, 1 or more"):
        initialize(**{**good, "processes": 2.0})


def test_an_address_that_leads_nowhere():
    nowhere = f"localhost:{free_port()}"
    with pytest.raises(ConnectionError, match=rf"coordinator='{nowhere}' was not reached within 1 s .*firewall"):
        initialize(nowhere, 2, 1, timeout=1)
    with socket.create_server(("", 0)) as taken, pytest.raises(ConnectionError, match="cannot be had"):
        initialize(f"localhost:{taken.getsockname()[1]}", 2, 0, timeout=1)


def test_initialize_comes_first():
    jnp.zeros(()).block_until_ready()
    with pytest.raises(RuntimeError, match="JAX has computed something already; call initialize first of all"):
        initialize(f"localhost:{free_port()}", 2, 0, timeout=5)


def test_alone():
    assert current().count == 1
    with alone() as processes:
        assert (processes.index, processes.count, processes.stopping) == (0, 1, False)
        tree = {"a": np.arange(3), "b": {"c": np.float32(2)}}
        (same,) = processes.gather(tree)
        assert same["a"].tolist() == [0, 1, 2]
        assert same["b"]["c"].dtype == np.float32
        processes.barrier("here")
        processes.check()
        processes.stop()
        assert processes.stopping
        for bad, text in (({"a": object()}, "gather got a="), ({1: 2}, "keys must be text"), ([1], "write a dict")):
            with pytest.raises(TypeError, match=text):
                processes.gather(bad)


@pytest.fixture
def trio():
    """Three processes' ends of the connections, all in this process, after a stranger knocked."""
    hub = distributed._listening("127.0.0.1")
    card = distributed._Card("here", 1, ("127.0.0.1",), hub.getsockname()[1], "secret")
    cards = [card, *(distributed._Card("here", pid) for pid in (2, 3))]
    all_three = [Processes(i, cards, timeout=20) for i in range(3)]
    strangers = [socket.create_connection(hub.getsockname()[:2]) for _ in range(2)]
    strangers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    strangers[1].sendall(wire._HEAD.pack(b"h", 12) + b'["wrong", 1]')
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: distributed._connected(i, card, 20)})) for i in (1, 2)
    ]
    for thread in threads:
        thread.start()
    all_three[0]._begin(distributed._accepted(hub, cards, 20))
    for i, thread in enumerate(threads, start=1):
        thread.join()
        all_three[i]._begin({0: found[i]})
    yield all_three
    for each in all_three:
        each.close()
    for connection in (hub, *strangers):
        connection.close()


def together(*calls):
    """Each call in a thread of its own: what came of it, or its exception."""
    came = [None] * len(calls)

    def run(i):
        try:
            came[i] = calls[i]()
        except Exception as error:
            came[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return came


def test_gathers_and_barriers_come_in_order(trio):
    def several(p):
        first = p.gather({"x": np.full(p.index, 7.0, ml_dtypes.bfloat16), "e": {}})
        p.barrier("a")
        return [x["x"].tolist() for x in first], [x["y"].item() for x in p.gather({"y": p.index})]

    assert together(*(lambda p=p: several(p) for p in trio)) == [([[], [7.0], [7.0, 7.0]], [0, 1, 2])] * 3


def test_processes_at_different_places_are_told_so(trio):
    errors = together(lambda: trio[0].barrier("a"), lambda: trio[1].barrier("b"), lambda: trio[2].barrier("a"))
    assert all(type(error) is RuntimeError for error in errors)
    assert "process 0 is at barrier 'a' and process 1 at barrier 'b'" in str(errors[0])


def test_one_that_leaves_is_missed_only_where_it_is_needed(trio):
    for p in together(*(lambda p=p: (p.barrier("end"), p)[1] for p in trio))[1:2]:
        p.close("done early")
    came = together(lambda: trio[0].gather({}), lambda: trio[2].gather({}))
    for error in came:
        assert type(error) is ProcessDied
        assert "process 1 of 3 (pid 2 on here) ended before the others: done early." in str(error)
    with pytest.raises(ProcessDied, match="process 1 of 3"):
        trio[2].check()


def test_all_can_be_asked_to_stop(trio):
    trio[1].stop()
    together(*(lambda p=p: p.barrier("after") for p in trio))  # on the same connections: the news came before
    assert [p.stopping for p in trio] == [True] * 3
