"""Systems with a module each, loaded when it is first asked for: `from jaxsched.compat.others import paddle`."""

from __future__ import annotations

import importlib
from typing import Any

from ..._errors import nearest_name

MODULES = (
    "big_vision",
    "composer",
    "deepspeed",
    "fairseq",
    "fastai",
    "ignite",
    "levanter",
    "megatron",
    "mmengine",
    "olmo_core",
    "paddle",
    "pytorch_warmup",
    "rex",
    "scenic",
    "t5x",
)


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {nearest_name(name, MODULES)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
