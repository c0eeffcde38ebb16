"""Look up known vulnerabilities of the versions in constraints.txt, with pip-audit, in an environment of its own.

What cannot be looked up, because pip-audit cannot be installed or its data cannot be reached, is counted and said: pip-audit
itself reports "no known vulnerabilities" of packages that it has not found. The exit code is 1 if a vulnerability is known that
``--ignore`` does not name, else 0, also if nothing could be looked up.

python scripts/audit.py [--ignore ID ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
INSTALL, LOOK_UP = 300, 300  # seconds


def pip_audit(folder: Path, constraints: Path) -> dict[str, Any] | str:
    """What pip-audit reports as JSON; why there is no report as a text."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pip-audit"]
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL)
        if done.returncode:
            return f"pip-audit cannot be installed: {last_line(done.stderr)}"
        command = [python, "-m", "pip_audit", *options, "--requirement", constraints]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_UP)
    except subprocess.TimeoutExpired as error:
        return f"no answer within {error.timeout:g} s"
    try:
        return json.loads(done.stdout)
    except ValueError:
        return f"pip-audit has no report: {last_line(done.stderr)}"


def last_line(text: str) -> str:
    """The last line of a text that is not empty.

    >>> last_line("a\\nb\\n\\n")
    'b'
    """
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def verdict(report: dict[str, Any], ignored: set[str]) -> tuple[int, list[str]]:
    """The exit code of a report of pip-audit, and its lines.

    >>> verdict({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, set())
    (0, ['0 of 1 packages audited, 1 could not be looked up: a'])
    >>> vulnerable = {"name": "b", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": [], "fix_versions": ["2"]}]}
    >>> verdict({"dependencies": [vulnerable]}, set())
    (1, ['b 1: PYSEC-1, fixed in 2', '1 of 1 packages audited, 1 known vulnerability'])
    >>> verdict({"dependencies": [vulnerable]}, {"PYSEC-1"})
    (0, ['1 of 1 packages audited, no known vulnerability'])
    """
    found = report["dependencies"]
    skipped = [each["name"] for each in found if "vulns" not in each]
    lines = [
        f"{each['name']} {each['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'no version'}"
        for each in found
        for known in each.get("vulns", [])
        if not ignored & {known["id"], *known.get("aliases", [])}
    ]
    summary = f"{len(found) - len(skipped)} of {len(found)} packages audited"
    if len(skipped) < len(found):
        number = len(lines) or "no"
        summary += f", {number} known vulnerabilit{'y' if len(lines) < 2 else 'ies'}"
    if skipped:
        named = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        summary += f", {len(skipped)} could not be looked up: {named}"
    return int(bool(lines)), [*lines, summary]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ignore", nargs="+", default=[], metavar="ID", help="vulnerabilities that do not concern us")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        report = pip_audit(Path(folder), CONSTRAINTS)
    if isinstance(report, str):
        print(f"dependencies not audited: {report}")
        return 0
    code, lines = verdict(report, set(arguments.ignore))
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
