"""The pages: what is generated is what the code says, every option has one, every picture is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_the_generated_part_of_every_page_is_fresh():
    command = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_picture_and_link_of_a_page_is_there(page):
    for name in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert name.startswith("http") or (page.parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_page_is_introduced_by_hand(page):
    text = page.read_text().split("<!--")[0]
    assert text.startswith("# ")
    assert len(text) > 60


def test_the_optimizers_paths_go_down(tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from optimizer_paths import SURFACES, draw, path_of
    finally:
        sys.path.pop(0)
    from trainer.config.options import CONF, options

    for surface in SURFACES:
        paths = {name: path_of(name, surface, "constant", 120) for name in options([CONF])["optimizer"]}
        begin = surface.value(*surface.start)
        assert all(surface.value(*points[-1]) < min(begin, 0.2) for points in paths.values())
        assert all(np.isfinite(points).all() for points in paths.values())
    draw(SURFACES[0], paths, tmp_path, gif=False)
    assert (tmp_path / "ravine.png").read_bytes().startswith(b"\x89PNG")


def test_option_files_list_every_parameter_as_declared():
    command = [sys.executable, str(ROOT / "scripts" / "option_files.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
