"""The wheel: it contains the option files and trains without the checkout; the dependencies are declared and pinned."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from conftest import QUIET, result_of
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return next(directory.glob("*.whl"))


def test_the_wheel_contains_every_option_file(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name.removeprefix("trainer/conf/") for name in names if name.startswith("trainer/conf/")}
    assert packaged == {str(p.relative_to(ROOT / "conf")) for p in (ROOT / "conf").rglob("*.yaml")}


def test_the_wheel_declares_its_types(wheel):
    assert "trainer/py.typed" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.slow
def test_the_installed_wheel_trains_without_the_checkout(wheel, tmp_path):
    """Unpacked into an empty directory, with the checkout not importable."""
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
    overrides = ["data=digits", "epochs=1", "data.limit=100", "output=run", QUIET]
    command = [sys.executable, "-P", "-c", code, str(ROOT), str(tmp_path / "site"), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert result_of(work / "run")["status"] == "finished"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned_versions() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line.split("#")[0].strip().split("==") for line in lines if "==" in line.split("#")[0]]
    return {canonicalize_name(name): version for name, version in pinned}


def test_the_pinned_versions_are_within_the_declared_ranges():
    versions = pinned_versions()
    extras = project()["optional-dependencies"]
    requirements = [*project()["dependencies"], *(r for extra in extras.values() for r in extra)]
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name in versions:
            assert requirement.specifier.contains(versions[name]), requirement
    required = {canonicalize_name(Requirement(r).name) for r in project()["dependencies"]}
    assert required <= versions.keys(), "every dependency is pinned"
    assert {"test", "timm", "export", "parallel", "slurm"} <= extras.keys()
    torch = next(r for r in map(Requirement, requirements) if r.name == "torch")
    assert torch.specifier.contains("2.11.0")


def test_the_pinned_versions_can_be_installed_with_the_first_release_of_the_lowest_python():
    """One that asks for 3.11.5 makes pip look for other versions of everything for half an hour, on Debian 12's 3.11.2."""
    lowest = project()["requires-python"].removeprefix(">=") + ".0"
    installed = {canonicalize_name(d.metadata["Name"]): d for d in metadata.distributions()}
    tested = pinned_versions().keys() & installed.keys()
    allowed = {name: SpecifierSet(installed[name].metadata.get("Requires-Python", "")) for name in tested}
    assert len(tested) > 100
    assert {name: str(range_) for name, range_ in allowed.items() if not range_.contains(lowest)} == {}


# Import names that differ from the name of the distribution.
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "hydra": "hydra-core",
    "mlflow": "mlflow-skinny",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def imported_packages(folder: Path) -> set[str]:
    """The top-level packages that the modules of a folder import anywhere, by the name of their distribution."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in names - sys.stdlib_module_names - {"trainer"}}


def test_the_program_declares_every_package_it_imports():
    names = {canonicalize_name(Requirement(r).name) for r in project()["dependencies"]}
    extras = [r for name, extra in project()["optional-dependencies"].items() if name != "test" for r in extra]
    optional = {canonicalize_name(Requirement(r).name) for r in extras}
    assert imported_packages(ROOT / "trainer") <= names | optional
