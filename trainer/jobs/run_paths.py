"""The run directories that ``runs`` names: directly, by globs, or by directories that contain them."""

from __future__ import annotations

import glob
from pathlib import Path

from trainer.errors import ConfigError, Problem


def problems(runs: tuple[str, ...] | str | None, at_least: int = 2) -> list[Problem]:
    """Return why ``runs`` does not name as many run directories as a job needs."""
    try:
        find_runs(runs, at_least)
    except ConfigError as error:
        return list(error.problems)
    return []


def find_runs(runs: tuple[str, ...] | str | None, at_least: int = 2) -> list[Path]:
    """Return the run directories that ``runs`` names directly, by globs, or by directories that contain them.

    Raises:
        ConfigError: Fewer run directories than ``at_least``.
    """
    if not runs:
        raise ConfigError(Problem("runs", None, "must be given: runs=[a,b,...] or runs=<directory of runs>"))
    paths = {path for value in ([runs] if isinstance(runs, str) else runs) for path in _runs_in(value)}
    if len(paths) < at_least:
        value = runs if isinstance(runs, str) else ",".join(runs)
        raise ConfigError(Problem("runs", value, "names only one run", "at least two are needed"))
    return sorted(paths, key=_sort_key)


def _runs_in(value: str) -> list[Path]:
    """Return the run directories that one value of ``runs`` names."""
    place = Path(value).expanduser()
    if not place.is_dir() and any(c in value for c in "*?["):
        matches = [Path(p) for p in glob.glob(str(place)) if (Path(p) / "config.yaml").is_file()]
        if not matches:
            raise ConfigError(Problem("runs", value, "matches no run directory"))
        return matches
    if not place.is_dir():
        raise ConfigError(Problem("runs", value, "no such directory"))
    paths = [place] if (place / "config.yaml").is_file() else [p.parent for p in place.rglob("config.yaml")]
    if not paths:
        hint = "a run directory contains config.yaml and result.json"
        raise ConfigError(Problem("runs", value, "contains no runs", hint))
    return paths


def _sort_key(path: Path) -> tuple[str, int, str]:
    """Sort the jobs of a sweep by their number."""
    number = path.name.partition("_")[0]
    return str(path.parent), int(number) if number.isdigit() else -1, path.name
