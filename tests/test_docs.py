"""The documentation: generated parts and option files agree with the declarations; links, figures and terms are right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest

from trainer.parameters import Annotated, Field, PositiveFloat, PositiveInt, option

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [
    *PAGES,
    ROOT / "trainer/help.txt",
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "outputs/README.md")),
]


@pytest.mark.parametrize("script", ["docs.py", "option_files.py"])
def test_generated_files_are_up_to_date(script):
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_figure_and_link_of_a_page_exists(page):
    for name in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert name.startswith("http") or (page.parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_page_has_an_introduction(page):
    text = page.read_text()
    if shown := re.fullmatch(r"<!-- The site shows (\S+) here, see conf.py. -->\n", text):
        text = (ROOT / shown[1]).read_text()
    text = text.split("<!--")[0]
    assert text.startswith("# ")
    assert len(text) > 60


@pytest.mark.slow
def test_the_plotted_paths_of_the_optimizers_descend(tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from optimizer_paths import SURFACES, draw, optimizer_path
    finally:
        sys.path.pop(0)
    from trainer.config.options import OptionFiles

    for surface in SURFACES:
        paths = {name: optimizer_path(name, surface, "constant", 120) for name in OptionFiles().groups["optimizer"]}
        initial = surface.value(*surface.start)
        assert all(surface.value(*points[-1]) < min(initial, 0.2) for points in paths.values())
        assert all(np.isfinite(points).all() for points in paths.values())
    draw(SURFACES[0], paths, tmp_path, gif=False)
    assert (tmp_path / "ravine.png").read_bytes().startswith(b"\x89PNG")


def test_the_plotted_paths_with_weight_decay_end_at_the_minimum_of_loss_and_penalty(tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from optimizer_paths import CURVATURE, MINIMUM, draw_weight_decay
    finally:
        sys.path.pop(0)
    ends = draw_weight_decay(tmp_path, 400)
    h, m = np.array(CURVATURE), np.array(MINIMUM)
    for name in ("sgd 0", "sgd 0.1", "sgd 1", "adam 1"):
        decay = float(name.split()[1])
        assert np.allclose(ends[name], np.linalg.solve(np.diag(h + decay), h * m), atol=0.02), name
    assert not np.allclose(ends["adamw 1"], ends["adam 1"], atol=0.1), "the decay of adamw is not a penalty"
    assert (tmp_path / "weight_decay.png").read_bytes().startswith(b"\x89PNG")


def option_files_module():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import option_files
    finally:
        sys.path.pop(0)
    return option_files


def test_an_option_file_gets_the_missing_parameters_and_keeps_its_values(monkeypatch, tmp_path):
    @option
    class Base:
        lr: Annotated[PositiveFloat, Field(description="peak learning rate")] = 0.1
        decay: float = 0.0

    @option
    class Own(Base):
        widths: Annotated[tuple[PositiveInt, ...], Field(description="channels of each block")] = (3, 4)
        eps: float = 1e-8
        path: str

    module = option_files_module()
    monkeypatch.setattr(module, "locate", lambda target, group: Own)
    file = tmp_path / "own.yaml"
    file.write_text("# Headline.\n# More.\nown:\n  _target_: mine.Own\n  decay: 1e-3  # my words\n  lr: ${x}  # old\n")
    assert module.up_to_date(file).splitlines() == [
        "# Headline.",
        "# More.",
        "own:",
        "  _target_: mine.Own",
        "  widths: [3, 4]  # channels of each block; each >= 1",
        "  eps: 1.0e-08",
        "  path: ???",
        "  lr: ${x}  # peak learning rate; > 0",
        "  decay: 1e-3  # my words",
    ]
    file.write_text("# Headline.\n_target_: mine.Own\ndepth: 3\n")
    with pytest.raises(ValueError, match="no parameter depth"):
        module.up_to_date(file)


NOT_IN_DOCUMENTATION = (
    r"pictures?", r"by heart", r"twins?", r"begin again", r"anew", r"goes on", r"stem to head", r"resident", r"the lecture",
    r"peak rate", r"is no (?!longer|difference|effect|limit|GPU|test)\w+", r"deviation(?<!standard deviation)",
)  # fmt: skip

NOT_IN_SOURCES = (
    r"pictures?", r"by heart", r"twins?", r"begin again", r"anew", r"stem to head", r"resident", r"the lecture",
    r"peak rate", r"unbroken", r"carved", r"mistakes?", r"illness", r"hasten",
)  # fmt: skip


def prose(file: Path) -> str:
    """The comments and docstrings of a module."""
    with file.open("rb") as stream:
        comments = [token.string for token in tokenize.tokenize(stream.readline) if token.type == tokenize.COMMENT]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, documented)]
    return "\n".join([*comments, *(ast.get_docstring(node) or "" for node in nodes)])


@pytest.mark.parametrize("folder", ["trainer", "scripts", "tests"])
def test_comments_and_docstrings_use_the_terms_of_the_field(folder):
    for file in sorted((ROOT / folder).rglob("*.py")):
        match = re.search(rf"\b(?:{'|'.join(NOT_IN_SOURCES)})\b", prose(file))
        assert not match, f"{file}: {match}"


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_uses_the_terms_of_the_field(page):
    text = page.read_text()
    for pattern in NOT_IN_DOCUMENTATION:
        match = re.search(rf"\b(?:{pattern})\b", text)
        assert not match, text[max(0, match.start() - 60) : match.end() + 40]
