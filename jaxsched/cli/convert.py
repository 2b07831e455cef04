"""`jaxsched convert`: a schedule as code for another framework or as a config file, and back."""

from __future__ import annotations

import importlib
import json
import pprint
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from ..schedules.base import Schedule
from ..text import from_dict, to_dict
from .errors import fail, refusals
from .reading import UNKNOWN, Horizon

Target = Literal["expression", "torch", "keras", "optax", "numpy", "json", "yaml", "toml", "dict"]
_FILES = (".json", ".yaml", ".yml", ".toml")
_CODE = {
    "torch": """\
scheduler = compat.to_torch(schedule, optimizer)  # sets the rate of your optimizer; a LambdaLR
# scheduler.step() once after every optimizer.step()
""",
    "keras": """\
learning_rate = compat.to_keras(schedule{steps})  # keras.optimizers.Adam(learning_rate)
""",
    "optax": """\
optimizer = optax.adamw(schedule)  # optax accepts any function of the step
""",
    "numpy": """\
table = compat.to_numpy(schedule, {total})  # the values at steps 0 ... {last}
""",
}
"""The use of `schedule` in each framework."""


def convert(
    expression: Annotated[str, conf.arg(metavar="EXPR|FILE")],
    to: Target = "expression",
    horizon: conf.OmitArgPrefixes[Horizon] = UNKNOWN,
) -> None:
    """Convert a schedule to Python code for another framework, to a config file, or back to an expression.

    The code for torch, Keras and Optax builds the schedule and passes it on, exact at every step; JAX computes the
    values (for torch on the host, a table at a time). json, yaml, toml and dict print plain data for a config. A FILE
    of such data (.json, .yaml, .toml) can be converted like an expression.

    Examples:
      jaxsched convert "WarmupCosine(3e-4, warmup_steps=500, total_steps=10_000)" --to torch
      jaxsched convert "Linear(0.1, 0.0, 100) * 0.5" --to keras --steps 100
      jaxsched convert "compat.torch.StepLR(lr=0.1, step_size=30)" --to optax
      jaxsched convert "WarmupCosine(3e-4, warmup_steps='2%', total_steps=10_000)" --to json
      jaxsched convert "WarmupCosine(3e-4, warmup_steps='2%', total_steps=10_000)"

    Args:
        expression: The schedule, or a file that holds one.
        to: The output format.
    """
    is_file = expression.lower().endswith(_FILES) and "(" not in expression
    schedule = _from_file(Path(expression), horizon) if is_file else horizon.read(expression)
    if to == "expression":
        print(repr(schedule))
    elif to in _CODE:
        print(_code(schedule, to, horizon), end="")
    else:
        with refusals():
            data = to_dict(schedule)
        print(_dumped(data, to), end="")


def _from_file(path: Path, horizon: Horizon) -> Schedule:
    if not path.is_file():
        fail(f"there is no file {path}")
    text = path.read_text(encoding="utf-8")
    kind = path.suffix.lower()[1:].replace("yml", "yaml")
    load = {"json": json.loads, "toml": tomllib.loads}.get(kind) or _module("yaml").safe_load
    try:
        data = load(text)
    except Exception as error:  # of any reader
        fail(f"{path} is not valid {kind}: {' '.join(str(error).split())}")
    if not isinstance(data, Mapping):
        fail(f"{path} holds no schedule; jaxsched convert EXPR --to {kind} writes one")
    with refusals():
        return from_dict(data, timeline=horizon.timeline())


def _module(name: Literal["yaml", "tomli_w"]) -> Any:
    package, wanted = {"yaml": ("PyYAML", "pyyaml"), "tomli_w": ("tomli-w", '"jaxsched[cli]"')}[name]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"convert needs {package} for this: pip install {wanted}") from None


def _dumped(data: dict[str, Any], to: str) -> str:
    if to == "json":
        return json.dumps(data, indent=2, allow_nan=False) + "\n"
    if to == "yaml":
        # YAML 1.1 reads 1e-06 as text and 1.0e-06 as a number.
        text = _module("yaml").safe_dump(data, sort_keys=False)
        return re.sub(r"(?<=[ -])(-?\d+)e([-+]\d+)$", r"\1.0e\2", text, flags=re.MULTILINE)
    if to == "toml":
        return _module("tomli_w").dumps(data)
    return pprint.pformat(data, sort_dicts=False, width=100) + "\n"


def _code(schedule: Schedule, to: str, horizon: Horizon) -> str:
    """Python source with its imports."""
    expression = repr(schedule)
    face = vars(importlib.import_module(__name__.partition(".")[0]))
    # A name that is called or whose attribute is read, outside of quotes and not an attribute itself.
    words = re.findall(r"(?<![\w.])([A-Za-z_]\w*)(?=[.(])", re.sub(r"'[^']*'|\"[^\"]*\"", "''", expression))
    names = {name for name in words if name in face} | ({"compat"} if to != "optax" else set())
    if not names or "<" in expression:
        fail(f"{expression} holds a function without a name; write a Schedule class for it")
    total = horizon.total(schedule) + 1 if to == "numpy" else 0
    timeline = horizon.timeline() if to == "keras" else None
    steps = "" if timeline is None else f", steps={timeline.total_steps}"
    note = "# On another backend than JAX, and to save the model: --steps N.\n" if to == "keras" and not steps else ""
    use = note + _CODE[to].format(steps=steps, total=total, last=f"{total - 1:,}")
    head = "import optax\n" if to == "optax" else ""
    return f"{head}from jaxsched import {', '.join(sorted(names))}\n\nschedule = {expression}\n{use}"
