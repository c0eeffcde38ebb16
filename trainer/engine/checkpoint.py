"""The checkpoint format: one file, replaced whole or not at all, loaded without running anything from it."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trainer.engine.run import Info, Run
from trainer.errors import ConfigError, Problem

FORMAT = 1
# What torch.load raises, according to where a file breaks off or what it is instead.
UNREADABLE = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError, LookupError)


def contents(run: Run) -> dict[str, Any]:
    """What ``last.pt`` holds: the whole state, and what is needed to use the model without the run folder."""
    return {"format": FORMAT, "info": asdict(run.info), "state": run.state()}


def best_contents(run: Run) -> dict[str, Any]:
    """What ``best.pt`` holds: the weights that were best in ``metric``, their row, no optimizer."""
    assert run.best is not None
    row = run.history[run.best["row"]]
    return {"format": FORMAT, "info": asdict(run.info), "row": row, **{k: run.best[k] for k in ("model", "averaged")}}


def save(content: dict[str, Any], path: Path) -> None:
    """Write to a temporary file beside ``path``, sync it, rename it: a reader finds the old file or the new one."""
    commit(write_temporary(content, path), path)


def write_temporary(content: dict[str, Any], path: Path) -> Path:
    """The first half of ``save``: the temporary file, which holds the contents as they are now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch's writer, stopped, complains of what it could not finish
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    return temporary


def commit(temporary: Path, path: Path) -> None:
    """The second half, which waits for the disk: the temporary file becomes ``path`` once it is there whole."""
    try:
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(place: Path) -> None:
    """Wait until a file, or a folder's entries after a rename, have reached the disk."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find(place: str | Path, prefer: str = "best", key: str = "checkpoint") -> Path:
    """The checkpoint file meant by a run folder (its ``best`` or ``last``) or by a file; ConfigError where none is."""
    path = Path(place).expanduser()
    if path.is_file():
        return path
    names = [f"{prefer}.pt", "last.pt", "best.pt"]
    for name in names:
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    if not path.exists():
        raise ConfigError(Problem(key, str(place), "there is no such file or folder"))
    raise ConfigError(Problem(key, str(place), "holds no checkpoints/last.pt or best.pt: not a run folder"))


def load(path: Path, device: torch.device | str = "cpu", key: str = "checkpoint") -> dict[str, Any]:
    """A checkpoint's contents; ConfigError, at ``key``, where the file is cut short, of another program, or of another format."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except UNREADABLE as error:
        words = str(error).splitlines() or [type(error).__name__]
        reason = "is cut short or damaged" if _looks_cut(path) else f"cannot be read: {words[0]}"
        raise ConfigError(Problem(key, str(path), reason, "other files: " + _others(path))) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(Problem(key, str(path), "is no checkpoint of this program (or of a later version)"))
    return content


def _looks_cut(path: Path) -> bool:
    return not zipfile.is_zipfile(path)


def _others(path: Path) -> str:
    return ", ".join(sorted(p.name for p in path.parent.glob("*.pt") if p != path)) or "none"


def load_network(place: str, prefer: str, key: str) -> dict[str, Any]:
    """The contents of a checkpoint that ``key`` names, which is to hold one network; ConfigError where it is an ensemble's."""
    path = find(place, prefer, key)
    content = load(path, key=key)
    if "members" in content:
        raise ConfigError(Problem(key, str(place), "is an ensemble", "name one of its members, such as .../member_0"))
    return content


def info_of(content: dict[str, Any]) -> Info:
    """The checkpoint's ``Info``, lists made tuples again."""
    info = dict(content["info"])
    for key in ("classes", "shape", "mean", "std"):
        info[key] = tuple(info[key])
    return Info(**info)


def weights_of(content: dict[str, Any], averaged: bool = False) -> dict[str, Any]:
    """The weights that a checkpoint is about: the best where it is ``best.pt``, else the last."""
    state = content.get("state", content)
    return state["averaged" if averaged else "model"]
