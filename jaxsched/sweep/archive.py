"""A result as one file: arrays as numpy writes them, and a text that says what they are. Nothing is pickled.

result.npz
  about             the text: JSON, as bytes
  metrics/...       the arrays; the text names each by its key
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import pathlib
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from .._errors import format_value
from ..schedules.base import Schedule

FILE = "result.npz"
FORM = 1
"""Of the file; it changes when a reader of the older form would misread the newer one."""

_WHAT = "jaxsched.SweepResult"
_KINDS = "numbers, text, arrays, schedules, dicts, lists, tuples and named tuples"


def save(directory: str | os.PathLike[str], fields: dict[str, Any]) -> pathlib.Path:
    """See `SweepResult.save`."""
    writer = _Writer()
    about = {"what": _WHAT, "form": FORM, "fields": writer.node(fields, "")}
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about, allow_nan=False).encode(), np.uint8)}
    arrays |= writer.arrays
    folder = pathlib.Path(directory).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    # Written beside it and renamed when it is complete: whoever reads the name finds the old file or the new one.
    half = folder / f".{FILE}.{secrets.token_hex(4)}.tmp"
    try:
        with open(half, "xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
    return path


def load(directory: str | os.PathLike[str], known: Iterable[Any]) -> dict[str, Any]:
    """The fields that were saved; see `SweepResult.load`."""
    path = pathlib.Path(directory).expanduser() / FILE
    if not path.is_file():
        raise FileNotFoundError(f"SweepResult.load: there is no {path}; result.save({str(directory)!r}) writes it.")
    about, arrays = _read(path)
    form = about["form"]
    if form != FORM:
        raise ValueError(
            f"SweepResult.load: {path} has form {format_value(form)}, and this jaxsched reads form {FORM}; load "
            f"it with the "
            "jaxsched that saved it."
        )
    return _Reader(arrays, {x.__qualname__: x for x in known}, path).node(about["fields"])


def _read(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All that is in the file, each array checked against its checksum."""
    try:
        # Opened here: of a broken file numpy would leave it open.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["what"] != _WHAT or "form" not in about:
            raise ValueError(f"it says {format_value(about['what'])}")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"SweepResult.load: {path} is broken, or is no saved result ({error}).") from error
    return about, arrays


# --- what is told in text --------------------------------------------------------------------------------------------
#
# None, True, text and finite numbers are as JSON has them. Anything else is an object with the name of its kind.


class _Writer:
    """Values to JSON, with the arrays put aside."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def node(self, x: Any, path: str) -> Any:
        if x is None or type(x) in (bool, int, str) or (type(x) is float and math.isfinite(x)):
            return x
        if type(x) is float:
            return {"float": repr(x)}
        if isinstance(x, (np.ndarray, np.generic, jax.Array)):
            return self.array(x, path)
        if isinstance(x, Schedule):
            return {"schedule": _name(x, type(x), path), "fields": self.items(_fields_of(x).items(), path)}
        if type(x) is dict:
            for key in x:
                if type(key) not in (str, int):
                    raise TypeError(
                        f"SweepResult.save: {path} has the key {format_value(key)}; write text or integers."
                    )
            return {"dict": self.items(x.items(), path)}
        if isinstance(x, tuple) and (names := getattr(x, "_fields", None)) is not None:
            return {"namedtuple": _name(x, type(x), path), "fields": self.items(zip(names, x, strict=True), path)}
        if type(x) is list or type(x) is tuple:
            return {type(x).__name__: [self.node(value, _below(path, i)) for i, value in enumerate(x)]}
        if callable(x) and hasattr(x, "__qualname__"):
            return {"function": _name(x, x, path)}
        raise TypeError(f"SweepResult.save: {path} is {format_value(x)}, a {type(x).__name__}; a file holds {_KINDS}.")

    def items(self, items: Iterable[tuple[Any, Any]], path: str) -> list[list[Any]]:
        # Pairs and not an object: its keys may be integers.
        return [[key, self.node(value, _below(path, key))] for key, value in items]

    def array(self, x: Any, path: str) -> dict[str, Any]:
        if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            raise TypeError(f"SweepResult.save: {path} is a random key; write its numbers: jax.random.key_data(key).")
        array = np.asarray(x)
        if array.dtype.hasobject:
            raise TypeError(f"SweepResult.save: {path} is an array of objects; a file holds {_KINDS}.")
        key = path
        while key in self.arrays:  # {1: ..., "1": ...}
            key += "'"
        node = {"array": key, "scalar": isinstance(x, np.generic)}
        if array.dtype.isbuiltin == 2:  # bfloat16 and the like, of which a file of numpy tells only the size
            node["dtype"] = array.dtype.name
            array = array.view(f"u{array.dtype.itemsize}")
        self.arrays[key] = array
        return node


class _Reader:
    """The values again. Modules that the text names are imported; nothing else that it says is run."""

    def __init__(self, arrays: dict[str, np.ndarray], known: dict[str, Any], path: pathlib.Path) -> None:
        self.arrays, self.known, self.path = arrays, known, path

    def node(self, node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        content: Any
        kind, content = next(iter(node.items()), ("", None))
        if kind == "float":
            return float(content)
        if kind == "array":
            return self.array(node)
        if kind == "dict":
            return self.items(content)
        if kind in ("list", "tuple"):
            return (list if kind == "list" else tuple)(map(self.node, content))
        if kind == "schedule":
            return self.schedule(content, self.items(node["fields"]))
        if kind == "namedtuple":
            # In order, and not by name: a class may give its fields other names today, and then says so.
            cls = self.find(content, lambda x: isinstance(x, type) and issubclass(x, tuple) and hasattr(x, "_fields"))
            fields = self.items(node["fields"])
            self.agree(content, list(fields), list(cls._fields))
            return cls._make(fields.values())
        if kind == "function":
            return self.find(content, callable)
        raise ValueError(f"SweepResult.load: {self.path} is broken: it holds a {kind!r}.")

    def items(self, pairs: list[list[Any]]) -> dict[Any, Any]:
        return {key: self.node(value) for key, value in pairs}

    def array(self, node: dict[str, Any]) -> Any:
        if node["array"] not in self.arrays:
            raise ValueError(f"SweepResult.load: {self.path} is broken: the array {node['array']!r} is missing.")
        array = self.arrays[node["array"]]
        if "dtype" in node:
            array = array.view(jax.numpy.dtype(node["dtype"]))
        return array[()] if node["scalar"] else array

    def schedule(self, name: str, fields: dict[str, Any]) -> Schedule:
        cls = self.find(name, lambda x: isinstance(x, type) and issubclass(x, Schedule))
        self.agree(name, list(fields), [field.name for field in cls._fields])
        # As JAX rebuilds it: nothing is checked or converted again, so that every bit stays.
        schedule = object.__new__(cls)
        schedule.__dict__.update(fields)
        return schedule

    def agree(self, name: str, saved: list[str], now: list[str]) -> None:
        if saved != now:
            raise ValueError(
                f"SweepResult.load: {name} was saved with the fields {', '.join(saved)} and now has {', '.join(now)}; "
                f"load {self.path} with the code that saved it."
            )

    def find(self, name: str, fits: Callable[[Any], bool]) -> Any:
        module, _, qualname = name.partition(":")
        try:
            found = self.known[qualname] if qualname in self.known else _found(module, qualname)
        except (ImportError, AttributeError) as error:
            raise ImportError(
                f"SweepResult.load: {self.path} holds a {qualname} of {module}, which cannot be imported ({error}); "
                f"hand it over: SweepResult.load(directory, known=[{qualname}])."
            ) from error
        if not fits(found):
            raise TypeError(f"SweepResult.load: {self.path} holds a {name}, which now is {format_value(found)}.")
        return found


def _below(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def _fields_of(schedule: Schedule) -> dict[str, Any]:
    """The fields of a schedule by name."""
    return {field.name: getattr(schedule, field.name) for field in schedule._fields}


def _name(x: Any, thing: Any, path: str) -> str:
    """Where a class or a function is found again: `jaxsched:WarmupCosine`, by its public name if it has one."""
    face = __name__.partition(".")[0]
    for module in (face, getattr(thing, "__module__", None)):
        with contextlib.suppress(ImportError, AttributeError, TypeError, ValueError):
            if _found(str(module), thing.__qualname__) is thing:
                return f"{module}:{thing.__qualname__}"
    raise TypeError(
        f"SweepResult.save: {path} is {format_value(x)}, and {thing.__qualname__} of {thing.__module__} cannot "
        f"be found "
        "again by its name; write it at the top of a module, not inside of a function."
    )


def _found(module: str, qualname: str) -> Any:
    found = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
