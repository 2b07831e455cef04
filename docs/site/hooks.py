"""What mkdocs runs: the pages of the gallery are made when the site is built, so that no picture can be out of date."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # mkdocs loads this file by its path
gallery = importlib.import_module("docs.site.gallery")


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each kind of schedule, and the picture of each schedule."""
    for kind, schedules in gallery.GALLERY.items():
        files.append(File.generated(config, f"gallery/{gallery.file_name(kind)}.md", content=gallery.page(kind)))
        for name, picture in schedules.items():
            files.append(File.generated(config, f"gallery/pictures/{name}.svg", content=gallery.svg(picture)))
    return files
