"""The run directory: its name, the files that identify and reproduce a run, and reading it back."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from uuid import uuid4

from trainer.errors import ConfigError, Problem
from trainer.files import make_new_directory, write_text
from trainer.formats import Environment, GitCommit, JsonObject
from trainer.literal import printable_lines
from trainer.places import SWEEP, not_a_run, runs_in
from trainer.records import read_table
from trainer.tree import value_at, with_value
from trainer.yaml_files import load_yaml, yaml_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

# Keys that only say where or how fast a run is made would clutter its name.
NOT_IN_NAME = ("output", "resume", "checkpoint", "device", "hydra", "observer", "engine", "run=", "runs=")
PATHS_OF_OPTIONS = (
    "data.root", "data.path", "initialization.path", "architecture.weights", "regularizer.soft_sharing.reference",
)  # fmt: skip
LIBRARIES = ("torch", "torchvision", "numpy", "albumentations", "hydra-core", "omegaconf", "tensorboard", "timm")


def slug(overrides: list[str], max_length: int = 100) -> str:
    """Return overrides in a form that can be part of a file name.

    >>> slug(["optimizer=adam", "schedule=[warmup,cosine]", "optimizer.lr=0.01", "output=/tmp/x"])
    'optimizer=adam,schedule=warmup+cosine,optimizer.lr=0.01'
    """
    named = [o for o in overrides if not o.lstrip("+~").startswith(NOT_IN_NAME)]
    text = ",".join(re.sub(r"[\[\]{}'\"]", "", o.replace(",", "+")) for o in named)
    text = re.sub(r"[^\w.,=+~-]+", "-", text).strip("-")
    return text if len(text) <= max_length else text[: max_length - 1] + "~"


def as_typed(overrides: Iterable[str]) -> list[str]:
    """Return overrides as they are typed: paths are not in quotes, as in Hydra's grammar.

    >>> as_typed(["data.root='my photos'", "optimizer.lr=0.1"])
    ['data.root=my photos', 'optimizer.lr=0.1']
    """
    keys = "|".join(map(re.escape, PATHS_OF_OPTIONS))
    return [re.sub(rf"^({keys})='([^'\\]*)'$", r"\1=\2", text) for text in overrides]


def new_run_dir(overrides: list[str], now: datetime | None = None) -> Path:
    """Create and return ``outputs/<date>/<time>_<overrides>``, with a number where that exists."""
    now = now or datetime.now()
    name = "_".join(filter(None, [now.strftime("%H-%M-%S"), slug(overrides)]))
    first = Path("outputs") / now.strftime("%Y-%m-%d") / name
    try:
        return make_new_directory(first)
    except OSError as error:
        raise ConfigError(cannot_be_written(first, error)) from None


def cannot_be_written(run_dir: Path, error: OSError) -> Problem:
    """The error of a run directory that cannot be written."""
    return Problem(
        "output", str(run_dir), f"cannot be written: {error.strerror or error}", "another output=<directory>"
    )


def check_available(run_dir: Path) -> None:
    """Raise ConfigError if a run cannot be written to ``run_dir``: it contains one, is a file, or is not writable."""
    if (run_dir / "config.yaml").exists():
        can_resume = (run_dir / "checkpoints").is_dir()
        hint = f"another output, or {quote(f'resume={run_dir}')}" if can_resume else "another output"
        raise ConfigError(Problem("output", str(run_dir), "already contains a run", hint))
    if (run_dir / SWEEP).exists():
        raise ConfigError(Problem("output", str(run_dir), "already contains a sweep", "another output=<directory>"))
    existing = next(p for p in (run_dir, *run_dir.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ConfigError(Problem("output", str(run_dir), f"{existing} is a file, not a directory"))
    if not os.access(existing, os.W_OK):
        raise ConfigError(Problem("output", str(run_dir), f"{existing} is not writable"))


def create_run_dir(run_dir: Path, tree: JsonObject, overrides: list[str], device: str) -> str:
    """Create the run directory with the files that reproduce the run: config.yaml, overrides.txt, environment.json.

    Returns:
        The id of the run, which environment.json and all checkpoints of the run hold.
    """
    run_id = uuid4().hex
    try:
        write_text(run_dir / "overrides.txt", "".join(f"{o}\n" for o in overrides))
        write_json(run_dir / "environment.json", {**environment(device), "run": run_id})
        # Last, because a directory with a config.yaml counts as a run.
        write_text(run_dir / "config.yaml", yaml_text(tree))
    except OSError as error:
        raise ConfigError(cannot_be_written(run_dir, error)) from None
    return run_id


def read_run_id(run_dir: Path) -> str:
    """Return the id of the run in a directory; empty if it has none, as those of earlier releases."""
    return str(read_table(run_dir / "environment.json").get("run", ""))


def find_run_dir(key: str, value: str | None) -> Path:
    """Return the run directory that the setting ``key`` names; ConfigError if it is not one."""
    if value is None:
        raise ConfigError(Problem(key, None, f"must be given: {key}=<run directory>"))
    run_dir = Path(value).expanduser()
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(not_a_run(key, run_dir))
    check_links(run_dir, key)
    return run_dir


def find_run_dirs(key: str, value: str | None) -> list[Path]:
    """Return the run directory that the setting ``key`` names, or those of the jobs of a sweep that have begun."""
    if value is None or not (Path(value).expanduser() / SWEEP).is_file():
        return [find_run_dir(key, value)]
    sweep = Path(value).expanduser()
    if names := runs_in(sweep):
        return [find_run_dir(key, str(sweep / name)) for name in names]
    raise ConfigError(not_a_run(key, sweep))


def plots_left(run_dir: Path) -> Path:
    """Return the file that says that plots of a run have been left for later; it does not exist if they are drawn."""
    return run_dir / "report" / "undrawn"


def check_links(run_dir: Path, key: str) -> None:
    """Raise ConfigError if a link in a run directory leads out of it: it would be read or overwritten there."""
    root = run_dir.resolve()
    for path in sorted([*run_dir.iterdir(), *run_dir.glob("*/*")]):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            text = f"its {path.relative_to(run_dir)} is a link out of the run directory"
            hint = "only a run directory as a whole may be a link, as to another disk: replace the link by what it leads to"
            raise ConfigError(Problem(key, str(run_dir), text, hint))


def find_checkpoint(path: str | Path, prefer: str = "best", key: str = "checkpoint") -> Path:
    """Return the checkpoint file in a run directory (``prefer``: best or last), or ``path`` itself if it is a file.

    Raises:
        ConfigError: There is no checkpoint; ``key`` is the key of the config that names the path.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return place
    for name in (f"{prefer}.pt", "last.pt", "best.pt"):
        if (place / "checkpoints" / name).is_file():
            return place / "checkpoints" / name
    raise ConfigError(not_a_run(key, place, "is not a run directory: it has no checkpoints/last.pt or best.pt"))


def read_config(run_dir: Path, key: str) -> JsonObject:
    """Return the config of a run directory as plain values; ConfigError, for the setting ``key``, if it is unreadable."""
    try:
        return load_yaml(run_dir / "config.yaml")
    except ValueError as error:
        raise ConfigError(Problem(key, str(run_dir), f"its config.yaml cannot be read: {error}")) from None


def absolute_paths(tree: JsonObject) -> JsonObject:
    """Return the config with absolute paths, as a run directory and its checkpoints hold it: they may be read elsewhere."""
    for key in PATHS_OF_OPTIONS:
        value = value_at(tree, *key.split("."))
        if not isinstance(value, str) or not value or value == "???":
            continue
        path = Path(value).expanduser().absolute()
        if key != "architecture.weights" or path.is_file():  # otherwise the name of published weights
            tree = with_value(tree, key, str(path))
    return tree


def environment(device: str) -> Environment:
    """Return versions, machine, device and git commit, so that a result can be traced."""
    from trainer import __version__

    return {
        "trainer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "versions": versions(LIBRARIES),
        "git": git_commit(),
        "command": sys.argv,
        "begun": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of libraries; those that are not installed are left out."""
    found: dict[str, str] = {}
    for library in libraries:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> GitCommit | None:
    """Return the commit of the working directory and whether it has changes; None outside a repository or without git.

    The repository may be somebody else's: its hooks, monitors, filters and transports, which are commands, do not run.
    """
    options = ["-c", "core.fsmonitor=", "-c", f"core.hooksPath={os.devnull}", "-c", "core.sshCommand=false"]
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}

    def git(*arguments: str) -> str:
        command = ["git", *options, *arguments]
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=True,
            env={**os.environ, **quiet},
        )
        return process.stdout.strip()

    try:
        listed = git("config", "--list", "--name-only", "-z", "--includes")
        filters = {
            key for key in listed.split("\0") if re.fullmatch(r"filter\..*\.(clean|smudge|process)", key, re.DOTALL)
        }
        filters |= {f"{key.rpartition('.')[0]}.required" for key in filters}
        options += [part for key in sorted(filters) for part in ("-c", f"{key}=")]
        changed = git("status", "--porcelain", "-uno", "--ignore-submodules=all")
        return {"commit": git("rev-parse", "--verify", "HEAD"), "changed": bool(changed)}
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def json_safe(value: object) -> object:
    """Return ``value`` with null for NaN and infinity, which JSON does not have.

    >>> json_safe({"loss": [1.0, float("nan")]})
    {'loss': [1.0, None]}
    """
    if isinstance(value, dict):
        return {k: json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path`` as JSON, atomically."""
    write_text(path, json.dumps(json_safe(value), indent=1) + "\n")


def terminal(
    soft_wrap: bool = False,
    width: int | None = None,
    force_terminal: bool | None = None,
    force_jupyter: bool | None = None,
) -> Console:
    """Return rich's console, without markup and emoji codes, in which control characters of the text are visible.

    Like ``print`` it raises BrokenPipeError if the reader is gone.

    By default rich would end the program with code 1, as in ``train job=evaluate | head -1``.
    """
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable_lines(segment.text))

    return Terminal(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=soft_wrap,
        width=width,
        force_terminal=force_terminal,
        force_jupyter=force_jupyter,
    )
