"""Makes `docs/parity.md` and the table in the README of what was seen: `python -m tests.peers.report`.

The counts and the worst differences are those that `test_compat_live.py` saw, and stay in `parity.json`; the peers' own
values are in the records; ours are computed here."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ..cases import op_by_op
from . import harness

ROOT = Path(__file__).parents[2]
DOCS, README, TABLE = ROOT / "docs" / "parity.md", ROOT / "README.md", harness.HERE / "parity.json"
BEGIN, END = "<!-- parity: made by `make parity` -->\n", "<!-- end of parity -->\n"

HEAD = """# How closely `jaxsched.compat` follows its peers

`make parity` makes this page. It runs every function beside the live peer: hypothesis draws the arguments, and all the
steps of the horizon and of what is beyond it are compared, in float32 and under x64, with the peer in float64. The bars
are a relative difference of 1e-6 and of 1e-12. Since the peers that go on from rate to rate lose digits on their way, a
value below a twentieth of the largest one counts as that twentieth under x64 (as 5e-8 of it in float32). Peers that are
not on the package index are run from a copy of their repository, where there is one; `make test` holds all of them by
their recorded values.
"""
FAULTS = """
## Where a peer is wrong

Ours is the right value; `peer_exact=True` gives theirs. `tests/test_compat.py` checks both columns of every row.
"""


def arguments_text(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def ours(peer: str, row: dict[str, Any], **exact: bool) -> float:
    """Our value in the place of a recorded fault; a program for one value would cost more than its operations."""
    make = next(case.ours for case in harness.cases_of(peer).CASES if case.name == row["name"])
    return float(op_by_op(make(**row["arguments"], **exact), row["step"]))


@functools.cache
def differences() -> list[str]:
    """The rows of the table of faults."""
    rows = ["| function | step | theirs | ours | |", "| --- | --- | --- | --- | --- |"]
    for peer in harness.PEERS:
        recorded = harness.record_of(peer)
        for row in recorded["differences"]:
            call = f"{row['name']}({arguments_text(row['arguments'])})"
            values = f"{row['value']:.3g} | {ours(peer, row):.3g}"
            rows.append(f"| {recorded['peer']} `{call}` | {row['step']:,} | {values} | {row['why']} |")
    return rows


def totals(functions: dict[str, Any]) -> str:
    settings, values = (sum(f[key] for f in functions.values()) for key in ("settings", "values"))
    worst = [max(f[key] for f in functions.values()) for key in ("worst_32", "worst_64")]
    names = {name.partition(" ")[0].rstrip(",") for name in functions}
    return f"{len(names)} ({len(functions)}) | {settings:,} | {values:,} | {worst[0]:.1e} | {worst[1]:.1e}"


def summary(table: dict[str, Any]) -> list[str]:
    """A row for each peer, and their sum."""
    head = "| peer | functions (with variants) | settings | values | worst, float32 | worst, x64 |"
    rows = [head, "| --- |" + " --- |" * 5]
    for row in table.values():
        rows.append(f"| {row['peer']} {row['version']} | {totals(row['functions'])} |")
    every = {f"{peer}/{name}": f for peer, row in table.items() for name, f in row["functions"].items()}
    return [*rows, f"| all | {totals(every)} |"]


def each(table: dict[str, Any]) -> list[str]:
    rows = ["", "## Every function", "", "| peer | function | settings | values | worst, float32 | worst, x64 |"]
    rows.append("| --- |" + " --- |" * 5)
    for row in table.values():
        for name, f in row["functions"].items():
            worst = f"{f['worst_32']:.1e} | {f['worst_64']:.1e}"
            rows.append(f"| {row['peer']} | `{name}` | {f['settings']:,} | {f['values']:,} | {worst} |")
    return rows


def read() -> dict[str, Any]:
    return json.loads(TABLE.read_text())


def merge() -> None:
    """What the last run saw, into the table; of a peer that it did not run, the table keeps what it has."""
    table = read() if TABLE.exists() else {}
    for peer in harness.PEERS:
        cases = {case.name for case in harness.cases_of(peer).CASES}
        row = table.setdefault(peer, {"functions": {}})
        for path in sorted(harness.FIGURES.glob(f"{peer}.*.json")):
            figures = json.loads(path.read_text())
            row |= {"peer": figures.pop("peer"), "version": figures.pop("version")}
            row["functions"][path.name.removeprefix(f"{peer}.").removesuffix(".json")] = figures
        row["functions"] = {name: f for name, f in sorted(row["functions"].items()) if name in cases}
    table = {peer: table[peer] for peer in harness.PEERS if table[peer]["functions"]}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


def page() -> str:
    table = read()
    return "\n".join([HEAD, *summary(table), FAULTS, *differences(), *each(table)]) + "\n"


def readme(text: str) -> str:
    """The README with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join(summary(read())) + "\n" + END + after


def main() -> None:
    merge()
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(page())
    README.write_text(readme(README.read_text()))
    print("\n".join(summary(read())))


if __name__ == "__main__":
    main()
