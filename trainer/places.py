"""What a path is that was given for a run directory, in words, and what to type instead."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from shlex import quote

from trainer.errors import ConfigError, Problem
from trainer.records import read_overrides, read_table
from trainer.tree import entries, table
from trainer.yaml_files import load_yaml

SWEEP = "sweep.json"  # the manifest of a sweep
RUN_KEYS = {  # the key that names the runs that a job reads
    "report": "run",
    **dict.fromkeys(("compare", "ensemble", "soup"), "runs"),
    **dict.fromkeys(("evaluate", "predict", "export", "push"), "checkpoint"),
}


def not_a_run(key: str, path: Path, text: str = "is not a run directory") -> Problem:
    """Return the error of a path that is not a run directory, for the setting ``key``.

    Args:
        key: The setting, such as ``resume``.
        path: The path as given.
        text: What is wrong if nothing more is known about the path.
    """
    value, experiment = str(path), path.parent / f"{path.name.removesuffix('.yaml')}.yaml"
    if path.is_dir() and (path / SWEEP).is_file():
        command = [str(word) for word in entries(read_table(path / SWEEP).get("command"))]
        hint = f"{key}=<one of its jobs>: {', '.join(runs_in(path)) or 'none has begun'}"
        if key == "resume":
            hint = f"{shlex.join(['train', '-m', *command, f'output={path}'])} continues it; {hint}"
        return Problem(key, value, "is a sweep, not a run", hint)
    if experiment.is_file() and not path.is_dir() and experiment.read_bytes().startswith(b"# @package _global_"):
        search = experiment.parent
        continues = f"; {quote(f'{key}={search}')} continues the search" if (search / "config.yaml").is_file() else ""
        train = f"experiment={experiment.parent / experiment.stem}"
        hint = f"{quote(train)} trains it{continues if key == 'resume' else ''}"
        return Problem(key, value, "is an experiment, not a run", hint)
    if not path.exists():
        return Problem(key, value, "no such file or directory" if key == "checkpoint" else "no such directory")
    if key != "resume" and _is_search(path):
        winner = f"{quote(f'experiment={path}/best')} trains its winner"
        return Problem(key, value, "is a search, not a run", winner if (path / "best.yaml").is_file() else "")
    if (path / "compare.csv").is_file():
        return Problem(key, value, "is the output of job=compare, not a run", f"{key}=<one of the runs compared>")
    around = next((parent for parent in list(path.absolute().parents)[:2] if (parent / "config.yaml").is_file()), None)
    if around is not None:
        run_dir = next((parent for parent in path.parents if parent.absolute() == around), around)
        return Problem(key, value, f"{text}, but lies in one", quote(f"{key}={run_dir}"))
    return Problem(key, value, text, _runs_below(key, path))


def runs_in(path: Path) -> list[str]:
    """Return the names of the run directories that a directory contains."""
    return sorted(file.parent.name for file in path.glob("*/config.yaml"))


def _runs_below(key: str, path: Path) -> str:
    """What to type in place of a directory that is none of a run: one of those in it."""
    if runs := runs_in(path):
        return f"it contains the runs {', '.join(runs)}"
    if below := [*path.glob("*/*/config.yaml"), *path.glob("*/*/*/config.yaml")]:
        latest = max(below, key=lambda file: file.stat().st_mtime).parent
        return f"it contains runs, of which the latest is {quote(f'{key}={latest}')}"
    return "a run directory contains config.yaml and checkpoints/"


def check_resumable(run_dir: Path, job: str, resumable: bool) -> None:
    """Raise ConfigError if what a run directory contains cannot be resumed.

    Args:
        run_dir: The run directory.
        job: The name of its job.
        resumable: Whether that job trains, or continues in its directory.
    """
    search = run_dir.parent.parent
    if run_dir.absolute().parent.name == "trials" and _is_search(search):
        hint = f"{quote(f'resume={search}')} continues that"
        raise ConfigError(Problem("resume", str(run_dir), "is a trial of a search", hint))
    if resumable:
        return
    command = [word for word in read_overrides(run_dir) if not word.startswith("output=")]
    hint = f"{shlex.join(['train', *command, 'output=<directory>'])} runs it again"
    raise ConfigError(Problem("resume", str(run_dir), f"is the output of job={job}, which is not resumed", hint))


def holds_runs(key: str, path: Path) -> bool:
    """Return whether a path may be the value of a key that names runs."""
    several = (key == "runs" and path.is_dir()) or (key == "run" and (path / SWEEP).is_file())
    return several or (path / "config.yaml").is_file() or (key == "checkpoint" and path.suffix in (".pt", ".pth"))


def not_replaced(run_dir: str, job: str) -> Problem:
    """Return the error of resuming a run with another job."""
    instead = f", or {quote(f'{RUN_KEYS[job]}={run_dir}')} in place of resume" if job in RUN_KEYS else ""
    return Problem("job", job, "is not the job of the run that resume=... continues", f"leave it out{instead}")


def _is_search(run_dir: Path) -> bool:
    with suppress(ValueError):
        return str(table(load_yaml(run_dir / "config.yaml").get("job")).get("_target_")).endswith(".Search")
    return False
