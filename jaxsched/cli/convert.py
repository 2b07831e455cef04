"""`jaxsched convert`: a schedule as code for another framework or as a config file, and back."""

from __future__ import annotations

import ast
import importlib
import json
import pprint
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro import conf

from ..schedules import Schedule
from ..text import from_dict, to_dict
from .errors import fail, refusals
from .reading import UNKNOWN, Horizon, read_text

Target = Literal["expression", "torch", "keras", "optax", "numpy", "json", "yaml", "toml", "dict"]

# The use of `schedule` in each framework.
_CODE = {
    "torch": "scheduler = compat.to_torch(schedule, optimizer)  # sets the rate of your optimizer; a LambdaLR\n"
    "# scheduler.step() once after every optimizer.step()\n",
    "keras": "learning_rate = compat.to_keras(schedule{steps})  # keras.optimizers.Adam(learning_rate)\n",
    "optax": "optimizer = optax.adamw(schedule)  # optax accepts any function of the step\n",
    "numpy": "table = compat.to_numpy(schedule, {total})  # the values at steps 0 ... {last}\n",
}


def convert(
    expression: Annotated[str, conf.arg(metavar="EXPR|FILE")],
    to: Target = "expression",
    horizon: Horizon = UNKNOWN,
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
    is_file = expression.lower().endswith((".json", ".yaml", ".yml", ".toml")) and "(" not in expression
    schedule = _from_file(Path(expression), horizon) if is_file else horizon.read(expression)
    if to == "expression":
        print(repr(schedule))
    elif to in _CODE:
        print(_code(schedule, to, horizon), end="")
    else:
        with refusals():
            data = to_dict(schedule)
        print(_dumped(data, to).rstrip("\n"))


def _from_file(path: Path, horizon: Horizon) -> Schedule:
    kind = path.suffix.lower()[1:].replace("yml", "yaml")
    text = read_text(path)
    load = {"json": json.loads, "toml": tomllib.loads}.get(kind) or _module("yaml").safe_load
    try:
        data = load(text)
    except Exception as error:  # of any reader
        fail(f"{path} is not valid {kind}: {' '.join(str(error).split())}")
    if not isinstance(data, Mapping):
        fail(f"{path} holds no schedule; jaxsched convert EXPR --to {kind} writes one")
    return from_dict(data, timeline=horizon.known)


def _module(name: Literal["yaml", "tomli_w"]) -> Any:
    package, wanted = {"yaml": ("PyYAML", "pyyaml"), "tomli_w": ("tomli-w", '"jaxsched[cli]"')}[name]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"convert needs {package} for this: pip install {wanted}") from None


def _dumped(data: dict[str, Any], to: str) -> str:
    if to == "json":
        return json.dumps(data, indent=2, allow_nan=False)
    if to == "yaml":
        return _module("yaml").safe_dump(data, sort_keys=False)
    if to == "toml":
        return _module("tomli_w").dumps(data)
    return pprint.pformat(data, sort_dicts=False, width=100)


def _code(schedule: Schedule, to: str, horizon: Horizon) -> str:
    """Python source with its imports."""
    expression = repr(schedule)
    try:
        used = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
    except SyntaxError:
        used = set()
    if not used:
        fail(f"{expression} holds a function without a name; write a Schedule class for it")
    used |= {"compat"} if to != "optax" else set()
    face = set(importlib.import_module(__name__.partition(".")[0]).__all__)
    homes = {"jaxsched": used & face, "jaxsched.schedules": used - face}
    imports = ["import optax\n"] * (to == "optax")
    imports += [f"from {home} import {', '.join(sorted(some))}\n" for home, some in homes.items() if some]
    total = horizon.total(schedule) + 1 if to == "numpy" else 0
    steps = f", steps={horizon.known.total_steps}" if horizon.known else ""
    note = "# On another backend than JAX, and to save the model: --steps N.\n" if to == "keras" and not steps else ""
    use = note + _CODE[to].format(steps=steps, total=total, last=f"{total - 1:,}")
    return f"{''.join(imports)}\nschedule = {expression}\n{use}"
