"""Single functions and classes of a peer's file, run alone: for files whose imports cannot be had. Read from a full
copy of the repository or from one that holds these definitions alone."""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path
from typing import Any

import numpy as np


class Float64:
    """numpy in the place of jax.numpy, in float64 whatever is asked for: the peer's formula without its rounding."""

    float32 = np.float64

    @staticmethod
    def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
        return np.clip(x, a_min, a_max)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def excerpt(path: Path, *names: str, **namespace: Any) -> dict[str, Any]:
    """The definitions of these names (all that are there, if none is given) in the file at `path`, with `namespace` in
    the place of what cannot be imported, and what they use of all that can."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in tree.body if isinstance(node, kinds) and (not names or node.name in names)]
    missing = set(names) - {node.name for node in found}
    if missing:
        raise ImportError(f"{path} has no {', '.join(sorted(missing))}")
    used = {node.id for definition in found for node in ast.walk(definition) if isinstance(node, ast.Name)}
    made: dict[str, Any] = {"__name__": __name__}
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            node.names = [a for a in node.names if (a.asname or a.name) in used - set(namespace)]
            with contextlib.suppress(ImportError):
                if node.names:
                    exec(compile(ast.Module([node], []), str(path), "exec"), made)
    made.update(namespace)
    exec(compile(ast.Module(list(found), []), str(path), "exec"), made)
    return made
