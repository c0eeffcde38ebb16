"""How Sphinx builds the site: `sphinx-build -W docs outputs/site`."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from trainer import __version__

ROOT = Path(__file__).resolve().parents[1]

project = "trainer"
author = "The trainer developers"
copyright = "2026, the trainer developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"trainer {release}"

myst_enable_extensions = ["deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r".*")]  # annotations name classes that have no page of their own

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"

copybutton_prompt_text = "$ "


PAGES = {  # pages that are files of the repository
    "start": "README.md",
    "files": "outputs/README.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.md",
}


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Insert files of the repository, with their links as seen from docs/, and leave out remarks for those who edit a page."""
    text = source[0]
    if docname in PAGES:
        app.env.note_dependency(str(ROOT / PAGES[docname]))
        text = from_docs((ROOT / PAGES[docname]).read_text())
    source[0] = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)


def from_docs(text: str) -> str:
    """Return Markdown of the top level with the links that lead to the same files from docs/."""
    text = re.sub(r"\]\(docs/decisions/?\)", "](decisions/index.md)", text).replace("](docs/", "](")
    for page, file in PAGES.items():
        text = text.replace(f"]({file})", f"]({page}.md)")
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
