"""What every run of pytest in this repository shares: compiled programs, and who compiles them."""

import os
from pathlib import Path

import pytest

# Compiled programs are kept from one run to the next. Set before anything imports jax, and inherited by the processes
# that tests start; a folder that is named already is respected.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist would begin with the groups of most tests; ours are ordered below


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` one worker compiles a case's programs for all of its laws; other tests share what their
    module sets up. The largest modules come first and the cases, which are short, last, so that no worker waits long
    for another at the end."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        group = item.nodeid.partition("::")[0]
        if group.endswith("test_laws.py"):
            parameters = getattr(item, "callspec", None)
            case = parameters and (parameters.params.get("case") or parameters.params.get("name"))
            group = f"{group}:{getattr(case, 'id', case)}"
        item.add_marker(pytest.mark.xdist_group(group))
        groups.setdefault(group, []).append(item)
    ordered = sorted(groups, key=lambda group: ("test_laws.py:" in group, -len(groups[group])))
    items[:] = [item for group in ordered for item in groups[group]]
