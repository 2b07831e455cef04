"""The layers: a module imports only from the lines above it."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest

import jaxsched as js
from jaxsched.schedules.structure import REGISTRY

PACKAGE = Path(js.__file__).parent
ORDER = [
    "version",
    "_errors",
    "fields",
    "schedules.shapes",
    "schedules.structure",
    "schedules.base",
    "schedules.combine",
    "schedules.stacking",
    "schedules.ramps",
    "schedules.decays",
    "schedules.pieces",
    "schedules.cycles",
    "schedules.recipes",
    "schedules.untuned",
    "schedules",
    "units",
    "text",
    "outline",
    "lint",
    "inspect",
    "optim",
    "sweep",
    "finder",
    "predict",
    "compat",
    "cli",
    "",
]


def layer(module: str) -> int:
    """The last line of the list that the module belongs to."""
    known = [name for name in ORDER if module == name or (name and module.startswith(f"{name}."))]
    assert known, f"{module} has no place in the order of the layers"
    return ORDER.index(max(known, key=len))


@functools.cache
def modules() -> dict[str, Path]:
    paths = {p: ".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in PACKAGE.rglob("*.py")}
    return {name.removesuffix("__init__").removesuffix("."): path for path, name in paths.items()}


@functools.cache
def imports_of(name: str, path: Path) -> set[str]:
    """The modules of the package that this one imports, wherever in it."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = name.split(".") if name else []
            here = parts if path.name == "__init__.py" else parts[:-1]
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            base_name = ".".join(part for part in base if part)
            for alias in node.names:
                full = f"{base_name}.{alias.name}".removeprefix(".")
                found.add(full if full in known else base_name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxsched":
            found.add((node.module or "").removeprefix("jaxsched").removeprefix("."))
    return found


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_from_above(name: str) -> None:
    path = modules()[name]
    for imported in imports_of(name, path):
        assert layer(imported) <= layer(name), f"{name} imports {imported}"


def test_no_module_imports_itself_by_a_circle() -> None:
    graph = {name: imports_of(name, path) & set(modules()) for name, path in modules().items() if name}

    def reached(start: str) -> set[str]:
        found, todo = set(), [start]
        while todo:
            todo += (new := graph.get(todo.pop(), set()) - found)
            found |= new
        return found

    circles = {name for name in graph if name in reached(name)}
    inside = ("sweep", "finder", "compat.torch")  # engine and result; the finder's figures; classes and live schedulers
    assert {name for name in circles if not name.startswith(inside)} == set()


def test_the_order_is_read_at_all() -> None:
    assert "schedules.base" in imports_of("schedules.recipes", modules()["schedules.recipes"])
    assert layer("schedules.base") < layer("schedules.recipes") < layer("cli")


def classes() -> list[type[js.Schedule]]:
    for name in modules():
        if name.startswith("compat.") and name != "compat.keras_rate":  # the one that needs its peer
            importlib.import_module(f"jaxsched.{name}")
    found, todo = [], [js.Schedule]
    while todo:
        todo += (subclasses := todo.pop().__subclasses__())
        found += [c for c in subclasses if c.__module__.startswith("jaxsched.")]
    return found


def test_a_class_is_abstract_or_final() -> None:
    abstract = {"Recipe", "Structured", "Method", "Interpolation", "WarmupDecay", "Peer", "LearningRateSchedule"}
    abstract |= {"Staircase", "_Annealer", "_Scheduler", "_Simulated"}  # of one peer each
    for cls in classes():
        assert all(c.__name__ in {"Schedule", "object", *abstract} for c in cls.__mro__[1:]), cls
    assert len(classes()) > 40


@pytest.mark.parametrize(
    "cls", [c for c in classes() if not c.__name__.startswith("_") and c in REGISTRY.values()], ids=lambda c: c.__name__
)
def test_docstrings_say_everything(cls: type[js.Schedule]) -> None:
    doc = cls.__doc__ or ""
    assert ">>> " in doc, "a runnable example"
    if cls.__name__ not in ("Recipe", "Peer"):
        assert "Formula:" in doc
    if cls._fields:
        _, text, *_ = re.split("Args:|Fields:", doc)
        for field in cls._fields:
            assert field.name in text, field.name


def test_public_names() -> None:
    """The names that the design promises."""
    names = (
        "Schedule Recipe Constant Lambda join stack unstack grid sample Linear Cosine Polynomial Exponential Rex "
        "Tanh Ramp "
        "StepDecay MultiStepDecay ExponentialDecay NaturalExpDecay InverseTimeDecay InverseSqrtDecay PowerDecay "
        "PiecewiseConstant PiecewiseInterpolate CyclicTriangular CosineWarmRestarts PolynomialDecay WarmupConstant "
        "WarmupLinear WarmupCosine WarmupPolynomial WarmupExponential WarmupInverseSqrt WarmupStableDecay OneCycle "
        "OneCycleMomentum Noam TriStage Timeline parse to_dict from_dict ScheduleConfig plot lint "
        "reduce_on_plateau observe "
        "current_hyperparams inject_hyperparams guard_spikes adaptive_warmup greedy monitor_gradients by_path "
        "layerwise "
        "weight_decay Task sweep SweepResult find_lr uniform log_uniform int_uniform choice"
    ).split()
    modules = {
        "compat",
        "fields",
        "finder",
        "inspect",
        "optim",
        "predict",
        "schedules",
        "sweep",
        "text",
        "units",
        "version",
    }
    shown = {name for name in dir(js) if not name.startswith("_")} - {
        "annotations",
        "importlib",
        "TYPE_CHECKING",
        "Any",
    }
    assert shown - modules == set(names) - {"sweep"}
    assert all(hasattr(js, name) for name in names)
    for module, more in {
        "schedules": "Join Sum Product Clip Repeat Hold Shift ChebyshevSteps SilverSteps PowerSchedule "
        "InfiniteSchedule",
        "fields": "Scalar Steps Length Unit reject_if",
        "optim": "PlateauState autoclip zclip diagnose named Finding",
        "inspect": "outline terminal_plot Finding",
    }.items():
        assert all(hasattr(getattr(js, module), name) for name in more.split())
    for method in "then clip shift hold per_epoch repeat warmup cooldown noise replace table".split():
        assert callable(getattr(js.Schedule, method))
    assert not (hasattr(js.Schedule, "init") and hasattr(js.Schedule, "update"))  # optax would take it for a state
