"""The site of the docs: built from the same pages as are read in the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def conf() -> dict[str, object]:
    names: dict[str, object] = {"__file__": str(ROOT / "docs" / "conf.py")}
    pytest.importorskip("sphinx")
    exec((ROOT / "docs" / "conf.py").read_text(), names)
    return names


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "site"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages = {str(page.relative_to(tmp_path / "site")) for page in (tmp_path / "site").rglob("*.html")}
    written = {str(p.relative_to(ROOT / "docs").with_suffix(".html")) for p in (ROOT / "docs").rglob("*.md")}
    assert written <= pages
    assert "First commands" in (tmp_path / "site" / "start.html").read_text()
    assert "load_run" in (tmp_path / "site" / "reference.html").read_text()


def test_links_of_the_readme_lead_to_the_same_pages_from_docs():
    from_docs = conf()["from_docs"]
    assert from_docs("[a](docs/job.md#fit) ![b](docs/images/c.png)") == "[a](job.md#fit) ![b](images/c.png)"
    assert from_docs("[a](docs/decisions/), [b](CHANGELOG.md)") == "[a](decisions/index.md), [b](changelog.md)"
