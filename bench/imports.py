"""What `import jaxsched` costs beyond `import jax, optax`, and what it brings along."""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from .timing import MEDIANS, Row, Table, Times

ROUNDS, BAR = 21, 0.10
HEAVY = ("matplotlib", "plotly", "scipy", "rich", "tyro", "optuna", "orbax", "torch", "flax", "sklearn")

# Both times are taken in one process, so that a busy moment between two processes does not count.
PROBE = """
import json, sys, time
start = time.perf_counter()
import jax, optax
middle = time.perf_counter()
known = {name.partition(".")[0] for name in sys.modules}
import jaxsched
end = time.perf_counter()
brought = {name.partition(".")[0] for name in sys.modules} - known - {"jaxsched"}
print(json.dumps([middle - start, end - middle, sorted(brought)]))
"""


def probe(bytecode: str) -> tuple[float, float, list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, "-c", PROBE]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return tuple(json.loads(out.stdout))


def measure() -> Table:
    with tempfile.TemporaryDirectory() as bytecode:
        for _ in range(2):  # the bytecode is written, as an installed package has it, and read into memory
            probe(bytecode)
        base, extra, brought = zip(*(probe(bytecode) for _ in range(ROUNDS)), strict=True)
    ours, peer = Times(np.array(extra)), Times(np.array(base))
    ratio = float(np.median(ours.seconds / peer.seconds))
    modules = sorted(set().union(*brought))
    heavy = [name for name in modules if name in HEAVY]
    rows = [
        Row(
            "`import jaxsched` after `import jax, optax`",
            str(ours),
            str(peer),
            f"{ratio:.3f}x",
            f"<= {BAR:.2f}x",
            ratio <= BAR,
        ),
        Row("heavy packages that it brings along", ", ".join(heavy) or "none", "", "", "none", not heavy),
    ]
    notes = [
        MEDIANS,
        f"{ROUNDS} processes; in each `import jax, optax` (the peer's column) is timed first, then `import jaxsched`; "
        "bytecode is there, as it is for an installed package.",
        f"Heavy are: {', '.join(HEAVY)}. Top-level modules that only `import jaxsched` loads: "
        f"{', '.join(modules) or 'none'}.",
    ]
    return Table("imports", "The cost of the import", notes, rows)
