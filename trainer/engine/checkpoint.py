"""The checkpoint format: one file, written atomically and loaded without executing anything from it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trainer.engine.run import Info
from trainer.engine.view import RunView
from trainer.errors import ConfigError, Problem
from trainer.files import atomic_path
from trainer.run_dir import find_checkpoint
from trainer.weight_files import read_weight_file

FORMAT = 1


def contents(run: RunView) -> dict[str, Any]:
    """The content of ``last.pt``: the whole state, and what is needed to use the model without the run directory."""
    return {"format": FORMAT, "info": asdict(run.info), "state": run.state()}


def best_contents(run: RunView) -> dict[str, Any]:
    """The content of ``best.pt``: the weights of the best epoch and its row in the history, no optimizer."""
    assert run.best is not None
    row = dict(run.history[run.best["row"]])
    return {"format": FORMAT, "info": asdict(run.info), "row": row, **{k: run.best[k] for k in ("model", "averaged")}}


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically."""
    write_temporary(content, path)()


def write_temporary(content: dict[str, Any], path: Path) -> Callable[[], None]:
    """Write the content as it is now to a temporary file.

    Returns:
        A function that waits for the disk and renames the file to ``path``; it may be called in another thread.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(path))
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
        except BaseException as error:
            # Interrupted by Ctrl-C, torch's writer raises an error about the incomplete file instead.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        return stack.pop_all().close


def load(path: Path, device: torch.device | str = "cpu", key: str = "checkpoint") -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        ConfigError: The file is truncated, is not a checkpoint, or has another format; ``key`` names the path in the config.
    """
    others = ", ".join(sorted(p.name for p in path.parent.glob("*.pt") if p != path)) or "none"
    content = read_weight_file(path, key, device, hint=f"other files: {others}")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(Problem(key, str(path), "is not a checkpoint of this program, or one of a later version"))
    return content


def load_network(path: str, prefer: str, key: str) -> dict[str, Any]:
    """The content of a checkpoint that must hold a single network; ConfigError at ``key`` if it holds an ensemble."""
    content = load(find_checkpoint(path, prefer, key), key=key)
    if "members" in content:
        raise ConfigError(Problem(key, str(path), "is an ensemble", "name one of its members, such as .../member_0"))
    return content


def info_of(content: dict[str, Any]) -> Info:
    """The ``Info`` of a checkpoint, which stores its tuples as lists."""
    info = dict(content["info"])
    for key in ("classes", "shape", "mean", "std"):
        info[key] = tuple(info[key])
    return Info(**info)


def weights_of(content: dict[str, Any], averaged: bool = False) -> dict[str, Any]:
    """The weights in a checkpoint: the best ones in ``best.pt``, else the last ones; None without averaging."""
    state = content.get("state", content)
    return state["averaged" if averaged else "model"]
