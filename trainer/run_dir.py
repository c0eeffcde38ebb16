"""Where a run is written: readable folder names, and the files which say how to repeat it."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from rich.console import Console

# What only says where or how fast a run is made would clutter its name.
UNNAMED = ("output", "resume", "checkpoint", "device", "hydra", "observer", "engine", "run=", "runs=")
LIBRARIES = ("torch", "torchvision", "numpy", "albumentations", "hydra-core", "omegaconf", "tensorboard", "timm")


def slug(overrides: list[str], longest: int = 100) -> str:
    """The overrides as part of a file name.

    >>> slug(["optimizer=adam", "schedule=[warmup,cosine]", "optimizer.lr=0.01", "output=/tmp/x"])
    'optimizer=adam,schedule=warmup+cosine,optimizer.lr=0.01'
    """
    kept = [o for o in overrides if not o.lstrip("+~").startswith(UNNAMED)]
    text = ",".join(re.sub(r"[\[\]{}'\"]", "", o.replace(",", "+")) for o in kept)
    text = re.sub(r"[^\w.,=+~-]+", "-", text).strip("-")
    return text if len(text) <= longest else text[: longest - 1] + "~"


def new_run_dir(overrides: list[str], now: datetime | None = None) -> Path:
    """A new folder's path, ``outputs/<date>/<time>_<overrides>``; a number is added where it exists already."""
    now = now or datetime.now()
    name = "_".join(filter(None, [now.strftime("%H-%M-%S"), slug(overrides)]))
    folder = Path("outputs") / now.strftime("%Y-%m-%d") / name
    taken, number = folder, 1
    while taken.exists():
        number += 1
        taken = folder.with_name(f"{folder.name}_{number}")
    return taken


def check_available(folder: Path) -> None:
    """ConfigError where a run cannot be written to ``folder``: it holds one, is a file, or may not be written."""
    if (folder / "config.yaml").exists():
        hint = f"another output, or resume={folder}"
        raise ConfigError(Problem("output", str(folder), "holds a run already", hint))
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise ConfigError(Problem("output", str(folder), f"{existing} is a file, not a folder"))
    if not os.access(existing, os.W_OK):
        raise ConfigError(Problem("output", str(folder), f"{existing} may not be written to"))


def create_run_dir(folder: Path, tree: dict[str, Any], overrides: list[str], device: str) -> None:
    """Make the run folder and write what repeats the run: config.yaml, overrides.txt, environment.json."""
    from omegaconf import OmegaConf

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "overrides.txt").write_text("".join(f"{o}\n" for o in overrides))
        write_json(folder / "environment.json", environment(device))
        write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(tree)))
    except OSError as error:
        text = f"cannot be written: {error.strerror or error}"
        raise ConfigError(Problem("output", str(folder), text, "another output=<folder>")) from None


def environment(device: str) -> dict[str, Any]:
    """Versions, machine, device and git commit, so that a result can be traced."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    from trainer import __version__

    return {
        "trainer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "versions": versions,
        "git": git_commit(),
        "command": sys.argv,
        "begun": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def git_commit() -> dict[str, Any] | None:
    """The commit of the working folder and whether it has changes; None outside a repository or without git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def json_safe(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null in their place.

    >>> strict({"loss": [1.0, float("nan")]})
    {'loss': [1.0, None]}
    """
    if isinstance(value, dict):
        return {k: json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(json_safe(value), indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def terminal(**options: Any) -> Console:
    """rich's console, for which a reader that went away (``train job=evaluate | head -1``) is what it is for ``print``: rich
    would end the program with code 1.
    """
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Terminal(highlight=False, **options)
