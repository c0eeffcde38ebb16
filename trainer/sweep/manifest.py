"""The manifest of a sweep, ``sweep.json``: its command and the state of each job, which are read from the jobs' directories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from trainer.errors import ConfigError, Problem
from trainer.places import SWEEP as MANIFEST
from trainer.records import read_json, read_result
from trainer.run_dir import check_available, write_json
from trainer.tree import entries, table

State = Literal["pending", "interrupted", "failed", "diverged", "finished"]


@dataclass(frozen=True)
class Job:
    """One combination of the values: its number, the name of its run directory, its overrides."""

    number: int
    directory: str
    overrides: tuple[str, ...]

    @property
    def identity(self) -> frozenset[str]:
        """What makes it this job, whatever the order in which its overrides were typed."""
        return frozenset(self.overrides)


def state(run_dir: Path) -> State:
    """Return the state of a job according to its run directory. A run without a result was killed.

    >>> state(Path("no/such/directory"))
    'pending'
    """
    result = read_result(run_dir)
    status = result.get("status")
    if status == "finished" and not result.get("complete", True):
        return "interrupted"  # before its report was written
    if status in ("finished", "diverged", "failed", "interrupted"):
        return status
    return "interrupted" if (run_dir / "config.yaml").is_file() else "pending"


class Sweep:
    """A directory of jobs.

    Attributes:
        directory: Where the jobs' run directories are.
        command: The overrides as typed.
        jobs: In the order of their numbers.
        states: By number, as last seen.
        existed: Whether the directory contained this sweep already.
    """

    def __init__(self, directory: Path, command: Sequence[str], jobs: Sequence[Job]) -> None:
        self.directory, self.command, self.jobs = directory, list(command), list(jobs)
        recorded = read_manifest(directory)
        self.existed = recorded is not None
        if recorded is None:
            _check_empty(directory)
        else:
            command_there, jobs_there = recorded
            if {job.identity for job in jobs_there} != {job.identity for job in jobs}:
                text = f"contains another sweep: {difference(command_there, self.command)}"
                raise ConfigError(Problem("output", str(directory), text, "another output=<directory>"))
            self.jobs = jobs_there  # their numbers and names, if the order of the overrides is another one
        self.states: dict[int, State] = {job.number: state(self.run_dir(job)) for job in self.jobs}

    def run_dir(self, job: Job) -> Path:
        return self.directory / job.directory

    def count(self, *states: State) -> int:
        return sum(self.states[job.number] in states for job in self.jobs)

    def update(self, *jobs: Job) -> None:
        """Read the states of jobs, of all where none is given, and write the manifest."""
        for job in jobs or self.jobs:
            self.states[job.number] = state(self.run_dir(job))
        rows = [asdict(job) | {"state": self.states[job.number]} for job in self.jobs]
        write_json(self.directory / MANIFEST, {"command": self.command, "jobs": rows})


def read_manifest(directory: Path) -> tuple[list[str], list[Job]] | None:
    """Return the command and the jobs of the sweep in a directory; None if it contains none."""
    if not (directory / MANIFEST).is_file():
        return None
    try:
        content = table(read_json(directory / MANIFEST))
        rows = [table(row) for row in entries(content["jobs"])]
        jobs = [
            Job(int(str(row["number"])), str(row["directory"]), tuple(map(str, entries(row["overrides"]))))
            for row in rows
        ]
        command = [str(text) for text in entries(content["command"])]
    except (KeyError, TypeError, ValueError):
        text = f"its {MANIFEST} is damaged"
        raise ConfigError(Problem("output", str(directory), text, "another output=<directory>")) from None
    for job in jobs:
        if Path(job.directory).is_absolute() or ".." in Path(job.directory).parts:
            text = f"its {MANIFEST} names the directory {job.directory!r} outside"
            raise ConfigError(Problem("output", str(directory), text, "another output=<directory>"))
    return command, jobs


def _check_empty(directory: Path) -> None:
    """Raise ConfigError if a new sweep cannot be written to the directory."""
    check_available(directory)
    runs = [p.parent.name for name in ("config.yaml", "result.json") for p in directory.glob(f"*/{name}")]
    if runs:
        text = f"contains runs without a {MANIFEST}, such as {min(runs)}"
        raise ConfigError(Problem("output", str(directory), text, "another output=<directory>"))


def difference(there: Sequence[str], here: Sequence[str]) -> str:
    """Return how two commands differ, in words: by what is given here or, where that is the same, by what is given there.

    >>> difference(["seed=0,1", "epochs=3"], ["seed=0,1,2", "optimizer=adam"])
    'seed=0,1 there, seed=0,1,2 here; optimizer=adam only here'
    >>> difference(["seed=0,1", "epochs=3"], ["seed=0,1"])
    'epochs=3 only there'
    """
    old, new = ({text.partition("=")[0]: text for text in command} for command in (there, here))
    parts = [f"{old[key]} there, {new[key]} here" for key in old if key in new and old[key] != new[key]]
    parts += [f"{new[key]} only here" for key in new if key not in old]
    parts = parts or [f"{old[key]} only there" for key in old if key not in new]
    return "; ".join(parts) or "the same overrides gave other jobs there"
