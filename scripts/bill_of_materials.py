"""Write the bill of materials of the program: every package it consists of, with version, license, origin and requirements.

The packages are those that pyproject.toml requires, directly or through others, with the given extras, as they are installed
beside this interpreter. The form is CycloneDX 1.6 (https://cyclonedx.org), or with ``--table`` a table in Markdown. A required
package that is not installed, or one without a statement of its license, is an error: exit code 1, and nothing is written.

python scripts/bill_of_materials.py [--extras timm search ...] [--table] [--output bom.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "trainer"
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# Of packages whose metadata says nothing: what their license files say.
STATED = {"cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
MAX_NAME = 60  # characters; a longer text is the license itself, not its name
UNKNOWN = ("", "UNKNOWN", "DFSG approved")
# SPDX identifiers of the names in use; "BSD License" is none, because it does not say which.
SPDX = {
    "MIT": "MIT", "MIT License": "MIT", "BSD-2-Clause": "BSD-2-Clause", "BSD-3-Clause": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause", "BSD 3-Clause License": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause",
    "Apache-2.0": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0", "MPL-2.0": "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "MPL-2.0 AND MIT": "MPL-2.0 AND MIT", "MIT OR Apache-2.0": "MIT OR Apache-2.0",
    "LicenseRef-NVIDIA-Proprietary": "LicenseRef-NVIDIA-Proprietary",
}  # fmt: skip


@dataclass
class Package:
    """An installed package."""

    name: str
    version: str
    license: str  # an SPDX expression, or the name that the package states
    is_expression: bool
    summary: str = ""
    url: str = ""
    requires: set[str] = field(default_factory=set)

    @property
    def purl(self) -> str:
        """What identifies the package everywhere: https://github.com/package-url/purl-spec."""
        return f"pkg:pypi/{self.name}@{self.version}"


class Incomplete(Exception):
    """Packages that are missing, or whose license is not known."""


def license_of(name: str, info: Any) -> tuple[str, bool]:
    """The license that a package states, or its classifiers, and whether it is an SPDX expression; empty if it states none."""
    if expression := info.get("License-Expression"):
        return expression, True
    lines = (info.get("License") or "").strip().splitlines()
    text = STATED.get(name) or (lines[0] if len(lines) == 1 and len(lines[0]) <= MAX_NAME else "")
    if text in UNKNOWN:
        classifiers = (c.split(" :: ")[-1] for c in info.get_all("Classifier", []) if c.startswith("License :: "))
        text = ", ".join(c for c in classifiers if c not in UNKNOWN)
    return SPDX.get(text, text), text in SPDX


def required(requirements: Iterable[str], extra: str = "") -> list[Requirement]:
    """The requirements of a package, or of an extra of it, that apply to this machine and Python.

    >>> [r.name for r in required(["a>=1", "b; extra == 'x'", "c; extra == 'y'", "d; python_version < '3'"], "x")]
    ['a', 'b']
    """
    found = [Requirement(text) for text in requirements]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]


def project() -> dict[str, Any]:
    """The table ``project`` of pyproject.toml."""
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


def requirements_of(distribution: metadata.Distribution, extra: str) -> list[Requirement]:
    """What a package, or an extra of it, requires; of this program pyproject.toml says it, whenever it was installed."""
    if canonicalize_name(distribution.name) != ROOT:
        return required(distribution.requires or [], extra)
    table = project()
    return required(table["optional-dependencies"][extra] if extra else table["dependencies"])


def packages(extras: Iterable[str] = ()) -> dict[str, Package]:
    """This program and all that it requires, by canonical name.

    Raises:
        Incomplete: A required package is not installed, or one does not state its license.
    """
    found: dict[str, Package] = {}
    seen: set[tuple[str, str]] = set()
    problems: set[str] = set()
    queue = [(ROOT, extra) for extra in ("", *extras)]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            problems.add(f"{name} is required, and not installed")
            continue
        package = found.setdefault(name, described(name, distribution))
        if not package.license:
            problems.add(f"{name} {package.version} does not state its license")
        for requirement in requirements_of(distribution, extra):
            other = canonicalize_name(requirement.name)
            if other != name:  # an extra that is made of others requires its own package
                package.requires.add(other)
            queue += [(other, each) for each in ("", *requirement.extras)]
    if problems:
        raise Incomplete("\n".join(sorted(problems)))
    return dict(sorted(found.items()))


def described(name: str, distribution: metadata.Distribution) -> Package:
    """An installed package, before its requirements are known."""
    info = distribution.metadata
    stated, is_expression = license_of(name, info)
    return Package(name, distribution.version, stated, is_expression, info.get("Summary") or "", homepage(info))


def homepage(info: Any) -> str:
    """The address of a package's source or home page; empty if it states none."""
    urls = dict(entry.split(", ", 1) for entry in info.get_all("Project-URL", []) if ", " in entry)
    by_name = {name.lower(): url for name, url in urls.items()}
    names = ("source", "source code", "repository", "github", "homepage", "home")
    return next((by_name[name] for name in names if name in by_name), info.get("Home-page") or "")


def component(package: Package) -> dict[str, Any]:
    """A package as a component of CycloneDX."""
    stated = {"expression": package.license} if package.is_expression else {"license": {"name": package.license}}
    found: dict[str, Any] = {
        "type": "application" if package.name == ROOT else "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "licenses": [stated],
    }
    if package.summary:
        found["description"] = package.summary
    if package.url:
        found["externalReferences"] = [{"type": "website", "url": package.url}]
    return found


def cyclonedx(found: dict[str, Package]) -> dict[str, Any]:
    """The bill of materials in the form of CycloneDX 1.6."""
    others = [package for name, package in found.items() if name != ROOT]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(found[ROOT])},
        "components": [component(package) for package in others],
        "dependencies": [
            {"ref": package.purl, "dependsOn": sorted(found[name].purl for name in package.requires)}
            for package in found.values()
        ],
    }


def table(found: dict[str, Package]) -> str:
    """The bill of materials as a table in Markdown."""
    rows = [
        f"| {package.name} | {package.version} | {package.license.replace('|', '/')} | {package.url} |"
        for package in found.values()
    ]
    return "\n".join(["| package | version | license | address |", "|---|---|---|---|", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="+", default=[], metavar="NAME", help="extras of trainer, such as search")
    parser.add_argument("--table", action="store_true", help="a table in Markdown instead of CycloneDX")
    parser.add_argument("--output", type=Path, help="file; the standard output if it is not given")
    arguments = parser.parse_args()
    known = project()["optional-dependencies"]
    if unknown := sorted(set(arguments.extras) - set(known)):
        parser.error(f"no such extra: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    try:
        found = packages(arguments.extras)
    except Incomplete as error:
        print(error, file=sys.stderr)
        return 1
    text = table(found) if arguments.table else json.dumps(cyclonedx(found), indent=1)
    if arguments.output is None:
        print(text)
    else:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
