"""The wheel: it carries the options, and trains where the checkout is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import QUIET, result_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_option_file(wheel):
    inside = {
        n.removeprefix("trainer/conf/") for n in zipfile.ZipFile(wheel).namelist() if n.startswith("trainer/conf/")
    }
    assert inside == {str(p.relative_to(ROOT / "conf")) for p in (ROOT / "conf").rglob("*.yaml")}


def test_the_installed_wheel_trains_elsewhere(wheel, tmp_path):
    """Unpacked into an empty folder, with the checkout out of reach."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir()
    code = (
        "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]; sys.path.insert(0, sys.argv[2]);"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in type(f).__module__ + repr(f)];"
        "import trainer; assert trainer.__file__.startswith(sys.argv[2]), trainer.__file__;"
        "from trainer.config.options import CONF; assert str(CONF).startswith(sys.argv[2]), CONF;"
        "from trainer.cli import main; sys.exit(main(sys.argv[3:]))"
    )
    words = ["data=digits", "epochs=1", "data.limit=100", "output=run", QUIET]
    command = [sys.executable, "-P", "-c", code, str(ROOT), str(tmp_path / "site"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result_of(work / "run")["status"] == "finished"


def test_the_ranges_cover_what_is_pinned():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line.split("#")[0].strip().split("==") for line in lines if "==" in line.split("#")[0]]
    versions = {canonicalize_name(name): version for name, version in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name in versions:
            assert requirement.specifier.contains(versions[name]), requirement
    needed = {canonicalize_name(Requirement(r).name) for r in project["dependencies"]}
    assert needed <= versions.keys(), "every dependency is pinned"
    assert {"test", "timm", "search", "export"} <= project["optional-dependencies"].keys()
    torch = next(r for r in map(Requirement, wanted) if r.name == "torch")
    assert torch.specifier.contains("2.11.0")
