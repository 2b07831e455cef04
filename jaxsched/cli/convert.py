"""`jaxsched convert`: a schedule for another system or another file, and back to an expression."""

from __future__ import annotations

import importlib
import json as json_module
import pprint
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from ..schedules.base import Schedule
from ..text import from_dict, to_dict
from .console import jsonable
from .errors import fail, refusals
from .reading import UNKNOWN, Horizon

Target = Literal["expression", "torch", "keras", "optax", "numpy", "json", "yaml", "toml", "dict"]
_FILES = (".json", ".yaml", ".yml", ".toml")


def convert(
    expression: Annotated[str, conf.arg(metavar="EXPR|FILE")],
    to: Target = "expression",
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
) -> None:
    """Convert a schedule: to Python code for another system, to a file, or back to an expression.

    The code for torch, Keras and Optax makes the schedule and hands it over, exact at every step; JAX computes it (for
    torch on the host, a table at a time). json, yaml, toml and dict print plain data that a config can hold. A FILE
    with such data (.json, .yaml, .toml) becomes an expression again, or anything else.

    Examples:
      jaxsched convert "WarmupCosine(3e-4, warmup_steps=500, total_steps=10_000)" --to torch
      jaxsched convert "Linear(0.1, 0.0, 100) * 0.5" --to keras --steps 100
      jaxsched convert "compat.torch.StepLR(lr=0.1, step_size=30)" --to optax
      jaxsched convert "WarmupCosine(3e-4, warmup_steps='2%', total_steps=10_000)" --to json
      jaxsched convert "WarmupCosine(3e-4, warmup_steps='2%', total_steps=10_000)"

    Args:
        expression: The schedule, or a file that holds one.
        to: What it becomes.
    """
    schedule = _from_file(Path(expression), horizon) if _is_file(expression) else horizon.read(expression)
    print(_converted(schedule, to, horizon), end="")


def _is_file(text: str) -> bool:
    return text.lower().endswith(_FILES) and "(" not in text


def _from_file(path: Path, horizon: Horizon) -> Schedule:
    if not path.is_file():
        fail(f"there is no file {path}")
    text = path.read_text(encoding="utf-8")
    kind = path.suffix.lower()
    try:
        if kind == ".json":
            data = json_module.loads(text)
        elif kind == ".toml":
            data = tomllib.loads(text)
        else:
            data = _module("yaml").safe_load(text)
    except Exception as error:
        if isinstance(error, ImportError):
            raise
        fail(f"{path} is no {kind[1:]}: {' '.join(str(error).split())}")
    if not isinstance(data, Mapping):
        fail(f"{path} holds no schedule; jaxsched convert EXPR --to {kind[1:].replace('yml', 'yaml')} writes one")
    with refusals():
        return from_dict(data, timeline=horizon.timeline())


def _module(name: Literal["yaml", "tomli_w"]) -> Any:
    package, wanted = {"yaml": ("PyYAML", "pyyaml"), "tomli_w": ("tomli-w", '"jaxsched[cli]"')}[name]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"convert needs {package} for this: pip install {wanted}") from None


def _converted(schedule: Schedule, to: Target, horizon: Horizon) -> str:
    if to == "expression":
        return f"{schedule!r}\n"
    if to in ("json", "yaml", "toml", "dict"):
        with refusals():
            data = jsonable(to_dict(schedule))
        return _dumped(data, to)
    return _code(schedule, to, horizon)


def _dumped(data: dict[str, Any], to: str) -> str:
    if to == "json":
        return json_module.dumps(data, indent=2, allow_nan=False) + "\n"
    if to == "yaml":
        # 1e-06 would be a text to a reader of YAML 1.1; 1.0e-06 is a number to all.
        text = _module("yaml").safe_dump(data, sort_keys=False)
        return re.sub(r"(?<=[ -])(-?\d+)e([-+]\d+)$", r"\1.0e\2", text, flags=re.MULTILINE)
    if to == "toml":
        return _module("tomli_w").dumps(data)
    return pprint.pformat(data, sort_dicts=False, width=100) + "\n"


_USES = {
    "torch": """
scheduler = compat.to_torch(schedule, optimizer)  # sets the rate of your optimizer; a LambdaLR
# scheduler.step() once after every optimizer.step()
""",
    "keras": """
learning_rate = compat.to_keras(schedule{steps})  # keras.optimizers.Adam(learning_rate)
""",
    "optax": """
optimizer = optax.adamw(schedule)  # any function of the step is a schedule there
""",
    "numpy": """
table = compat.to_numpy(schedule, {total})  # the values at steps 0 ... {last}
""",
}


def _code(schedule: Schedule, to: str, horizon: Horizon) -> str:
    """Python source to paste, which imports what it names."""
    expression = repr(schedule)
    face = vars(importlib.import_module(__name__.partition(".")[0]))
    # What is put together of methods is named by what it is made of. Text in quotes names nothing.
    words = re.findall(r"(?<![\w.])([A-Za-z_]\w*)(?=[.(])", re.sub(r"'[^']*'|\"[^\"]*\"", "''", expression))
    names = [name for name in dict.fromkeys(words) if name in face]
    names += ["compat"] * (to != "optax" and "compat" not in names)
    if not names or "<" in expression:
        fail(f"{expression} holds a function without a name; write a Schedule class for it")
    steps, total = "", 0
    if to == "numpy":
        total = horizon.total(schedule) + 1
    if to == "keras" and (timeline := horizon.timeline()) is not None:
        steps = f", steps={timeline.total_steps}"
    use = _USES[to].format(steps=steps, total=total, last=f"{total - 1:,}")
    note = "" if steps or to != "keras" else "# On another backend than JAX, and to save the model: --steps N.\n"
    heads = "import optax\n" if to == "optax" else ""
    return f"{heads}from jaxsched import {', '.join(sorted(names))}\n\nschedule = {expression}\n{note}{use.lstrip()}"
