"""Every code block of the pages is run, and the gallery has every schedule."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import jaxsched as js
from docs.site import docstrings, gallery
from jaxsched import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
README = (ROOT / "README.md").read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_page(text: str) -> int:
    """Runs what pytest's doctests do not: files, and lines of the prompt; the number of lines of the prompt."""
    ran = 0
    for language, code in blocks(text):
        if language == "python" and ">>>" not in code:
            Path("task.py").write_text(code)
        elif language in ("toml", "yaml"):
            data = tomllib.loads(code) if language == "toml" else yaml.safe_load(code)
            if "type" in data:
                assert isinstance(js.from_dict(data), js.Schedule)
            else:
                Path("space.toml").write_text(code)
        elif language == "console":
            for line in code.splitlines():
                ran += 1
                run_line(line)
        else:
            assert language == "python"
    return ran


def run_line(line: str) -> None:
    prompt, command, *args = shlex.split(line, comments=True)
    assert (prompt, command) == ("$", "jaxsched")
    code = 0
    try:
        cli.main(args)
    except SystemExit as stop:
        code = stop.code or 0
    # `lint` has findings where it is shown what it finds.
    assert code in ((0, 1) if args[0] == "lint" else (0,)), line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    if page.stem == "sweeping":  # the task of the page, as a file
        first = next(code for language, code in blocks(text) if "task = Task(" in code)
        (tmp_path / "task.py").write_text(re.sub(r"^(>>>|\.\.\.) ?", "", first, flags=re.MULTILINE))
    ran = run_page(text)
    assert ran == text.count("$ jaxsched")
    if page.stem == "command-line":
        cli.main("sweep task.py --space space.toml --steps 20 --seeds 1 --out runs/space".split())
        assert "best: " in capsys.readouterr().out
        assert (tmp_path / "page.html").stat().st_size > 1e6


def test_the_readme_takes_a_newcomer_to_a_sweep(tmp_path, monkeypatch, capsys):
    """The task file and the lines of the prompt that stand beside it."""
    monkeypatch.chdir(tmp_path)
    part = README.split("## A sweep of your own file")[1].split("\n## ")[0]
    assert run_page(part) >= 3
    assert "best: " in capsys.readouterr().out
    assert (tmp_path / "runs" / "task" / "report.html").exists()


def test_the_lines_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = README.split("## See it, check it, say it")[1].split("\n## ")[0]
    assert run_page(part) >= 4


def test_the_gallery_has_every_schedule():
    public = {name for name, x in vars(js.schedules).items() if isinstance(x, type) and issubclass(x, js.Schedule)}
    shown = [name for schedules in gallery.GALLERY.values() for name in schedules]
    assert sorted(shown) == sorted(public - {"Schedule", "Recipe"})
    for schedules in gallery.GALLERY.values():
        for picture in schedules.values():
            for peer in picture.peers.split():
                module, _, name = peer.rpartition(".")
                assert callable(getattr(importlib.import_module(f"jaxsched.compat.{module}"), name)), peer


def test_a_card_of_the_gallery():
    kind = "Recipes"
    page = gallery.page(kind)
    for name in gallery.GALLERY[kind]:
        assert f"## {name}\n" in page
        assert f"](pictures/{name}.svg)" in page
    card = gallery.card("OneCycle", gallery.GALLERY[kind]["OneCycle"])
    assert "- `pct_start`: " in card
    assert "**Formula:** `" in card
    assert "`torch.OneCycleLR`" in card
    assert "**Source:** " in card
    picture = gallery.svg(gallery.GALLERY[kind]["WarmupCosine"])
    assert picture == gallery.svg(gallery.GALLERY[kind]["WarmupCosine"])
    assert "warmup</text>" in picture
    assert "decay</text>" in picture


def test_docstrings_become_markdown():
    text = docstrings.markdown(inspect.cleandoc(str(js.Linear.__doc__)))
    assert "**Args**\n\n- `init_value`: " in text
    assert "```python\n>>> " in text
    assert "**References:** " in text


def test_every_page_is_in_the_site():
    listed = re.findall(r": ([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text())
    made = [f"gallery/{gallery.file_name(kind)}.md" for kind in gallery.GALLERY]
    assert sorted(listed) == sorted([*(p.relative_to(ROOT / "docs").as_posix() for p in PAGES), *made])
