"""Expressions of schedules, and what becomes of them when they are broken at random."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import random
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import jaxsched as js
from jaxsched.text import ParseError, peers, places

from . import cases
from .peers import harness

_PIECES = (
    "( ) [ ] { } , . + - * / // ** = == : ; ' \" 0 1 1e400 10**9 2**10**9 999999999999999999999 -1 1e-9 None True '2%' "
    "'3ep' lambda x:x import eval __class__ __import__('os').system('true') open('/dev/null') .then( .warmup( .repeat( "
    ".clip( .replace( at= Linear(1,0,9) Constant(0.1) steps= 1j ... \\ # \n f'{1}' b'' @ := % ~ not if else for in _"
).split(" ")
_NUMBERS = "0 -1 1 2147483647 2147483648 999999999999999999999999999999 1e308 1e-308 0.5 '5%' None [] 10**9 2**2**30"
NO_SCHEDULE = {"optax-contrib.reduce_on_plateau"}
"""What `makers` makes that is a transformation."""
NO_TEXT = {
    "keras-LearningRateScheduler",
    "paddle-LambdaDecay",
    "torch-LambdaLR",
    "torch-CyclicLR scale_fn",
    "torch-SequentialLR of rates that are set",
}
"""Those that hold a function without a name."""
_CHARS = [0, 9, 10, 32, 34, 39, 40, 41, 92, 127, 160, 0x2028, 0x1F600]


def makers() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What makes each public schedule, each composite, and what every function of `compat` builds, by name. Nothing is
    built before it is called, as the collection of tests by many processes needs the names alone."""
    rng = np.random.default_rng(0)
    for case in cases.CASES:
        yield case.id, functools.partial(case.cls, **case.draw(rng, 1_000))
    for name, schedule in cases.composites(0.1, 8).items():
        yield name, functools.partial(copy.copy, schedule)
    for peer in harness.PEERS:
        rows = {row["name"]: row["arguments"] for row in harness.record_of(peer)["rows"]}
        for case in harness.cases_of(peer).CASES:
            yield f"{peer}-{case.name}", functools.partial(case.ours, **rows[case.name])


def schedules() -> Iterator[tuple[str, js.Schedule]]:
    for name, make in makers():
        if isinstance(made := make(), js.Schedule):
            yield name, made


def has_text(schedule: js.Schedule) -> bool:
    """A function that a schedule holds may have none."""
    return not re.search("<lambda>|<locals>", repr(schedule))


def calls() -> Iterator[str]:
    """Calls of the functions and classes of `compat`, with the arguments that are recorded."""
    for peer in harness.PEERS:
        rows = {row["name"]: row["arguments"] for row in harness.record_of(peer)["rows"]}
        for case in harness.cases_of(peer).CASES:
            module, name = getattr(case.ours, "__module__", ""), getattr(case.ours, "__name__", "<")
            if module.startswith("jaxsched.compat") and "<" not in name:
                arguments = ", ".join(f"{key}={value!r}" for key, value in rows[case.name].items())
                yield f"{module.removeprefix('jaxsched.')}.{name}({arguments})"


def extremes() -> Iterator[str]:
    """Calls of everything of `compat` that an expression may name, with each argument at a number that nothing can
    count to, or at what is no number."""
    for place in places():
        for name, x in peers(place).items():
            every = [p for p in inspect.signature(x).parameters.values() if p.kind is not p.VAR_KEYWORD]
            needed = [p.name for p in every if p.default is p.empty]
            for value in ("1000000000", "[1000000000, 2000000000]", "'1000000000'"):
                for last in (None, *(p.name for p in every)):
                    given = dict.fromkeys(needed, value if last is None or last not in needed else "0.5")
                    given |= {} if last is None else {last: value}
                    if not name.startswith("_"):
                        yield f"{place}.{name}({', '.join(f'{key}={text}' for key, text in given.items())})"


def expressions() -> list[str]:
    return [*(repr(s) for _, s in schedules() if has_text(s)), *calls()]


def mutated(text: str, others: list[str], rng: random.Random) -> str:
    """`text` after one to four changes: a piece cut out, put in, doubled or taken from another, or a number changed."""
    for _ in range(rng.randint(1, 4)):
        i, kind = rng.randrange(len(text) + 1), rng.randrange(6)
        if kind == 0:
            text = text[:i] + text[i + rng.randint(1, 5) :]
        elif kind == 1:
            text = text[:i] + rng.choice(_PIECES) + text[i:]
        elif kind == 2:
            text = text[:i] + chr(rng.choice([*_CHARS, rng.randrange(32, 127)])) + text[i + 1 :]
        elif kind == 3:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            text = text[:i] + other[start : start + rng.randint(1, 40)] + text[i:]
        elif kind == 4 and (numbers := list(re.finditer(r"(?<![\w.])\d+(\.\d+)?", text))):
            hit = rng.choice(numbers)
            text = text[: hit.start()] + rng.choice(_NUMBERS.split()) + text[hit.end() :]
        elif kind == 5:
            start, stop = sorted((i, rng.randrange(len(text) + 1)))
            text = text[:stop] + text[start:stop][:200] + text[stop:]
    return text


class Hang(BaseException):
    """Nothing that the package catches."""


_watched: list[str] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _watched is not None and event in ("exec", "open", "os.system", "os.exec", "subprocess.Popen", "socket.connect"):
        _watched.append(f"{event} {args}"[:200])


@contextmanager
def nothing_is_run() -> Iterator[None]:
    """Fails if any code is executed, a file opened or a process started meanwhile; an audit hook sees it."""
    global _watched
    if not getattr(sys, "_jaxsched_audited", False):
        sys.addaudithook(_audit)
        sys._jaxsched_audited = True  # type: ignore[attr-defined]  # a hook cannot be taken away
    _watched = []
    try:
        yield
        assert _watched == []
    finally:
        _watched = None


def survive(count: int, seed: int) -> tuple[int, int]:
    """Parses `count` mutated expressions; see `parse_all`."""
    seeds, rng = expressions(), random.Random(seed)
    return parse_all(mutated(rng.choice(seeds), seeds, rng) for _ in range(count))


def parse_all(texts: Iterable[str], seconds: int = 10) -> tuple[int, int]:
    """How many are schedules, and how many the documented error. Any other error is raised; one that takes too long
    (an ordinary one takes a millisecond) is a `Hang`."""

    def stop(*_: Any) -> None:
        raise Hang(text)

    made, count = 0, 0
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numbers beyond float32 overflow, here as in Python
            for text in texts:
                count += 1
                signal.alarm(seconds)
                try:
                    made += isinstance(js.parse(text), js.Schedule)
                except ParseError as error:
                    if not error.reason or not 0 <= (error.column or 0) <= len(text):
                        raise AssertionError(text) from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return made, count - made


def plain(x: Any) -> Any:
    """Through JSON and back."""
    return json.loads(json.dumps(x, allow_nan=False))
