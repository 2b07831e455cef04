"""Single files of peers that cannot be installed beside the others: taken out of their archive on the package index, or
out of a copy of their repository, and run alone. Nothing of them is kept in this tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

CACHE = Path(__file__).parent / ".sources"


def archive(requirement: str) -> Path:
    """The folder with what the archive of `"name==version"` holds, fetched once with pip."""
    folder = CACHE / requirement
    if not folder.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            f"{folder}.part",
            requirement,
        ]
        if subprocess.run(command, capture_output=True).returncode:
            raise ImportError(f"pip cannot fetch {requirement}")
        (packed,) = Path(f"{folder}.part").iterdir()
        if packed.suffix == ".whl":
            zipfile.ZipFile(packed).extractall(folder)
        else:
            with tarfile.open(packed) as tar:
                tar.extractall(folder, filter="data")
    return folder


def checkout(name: str) -> Path:
    """The folder of a copy of the repository `name`, in the folder that PEER_SOURCES names."""
    folder = Path(os.environ.get("PEER_SOURCES", CACHE / "checkouts")) / name
    if not folder.exists():
        raise ImportError(f"no copy of {name}: put its files into {folder}, or set PEER_SOURCES")
    return folder


@contextlib.contextmanager
def stubs(*names: str) -> Iterator[None]:
    """Modules that a file imports and does not use for its schedules, as empty shells that answer to anything."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: mock.MagicMock(name=name) for name in names})
    try:
        yield
    finally:  # and nothing else: what a file has imported beside them stays
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def load(path: Path, *shells: str) -> types.ModuleType:
    """The module of one file, while the modules named in `shells` are empty."""
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    with stubs(*shells):
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module
