"""The checkpoint format: one file, written atomically and loaded without executing anything from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import NotRequired, Required, TypedDict, TypeGuard

import torch

from trainer.architectures.ensemble import Average
from trainer.data.identity import DataIdentity
from trainer.engine.info import Info
from trainer.engine.numerics import numerics
from trainer.engine.state import Best, State, StateDict, Weights, snapshot
from trainer.engine.view import RunView
from trainer.errors import ConfigError, Problem, WriteError
from trainer.files import atomic_path
from trainer.formats import JsonObject, Row
from trainer.run_dir import find_checkpoint
from trainer.tasks.task import Thresholds
from trainer.weight_files import read_weight_file

FORMAT = 1


class SavedInfo(TypedDict):
    """``Info`` as a checkpoint holds it."""

    classes: Sequence[str]
    shape: Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]
    config: JsonObject
    targets: NotRequired[Sequence[JsonObject]]
    data: NotRequired[DataIdentity]


class Member(TypedDict):
    """A member of an ensemble; ``row`` is empty if no row of a history describes its weights."""

    info: SavedInfo
    model: StateDict
    name: str
    seconds: float
    row: Row | dict[str, float]
    thresholds: NotRequired[dict[str, list[float]]]  # of labels by task


class Content(TypedDict, total=False):
    """The content of a checkpoint.

    ``last.pt`` holds ``state``; ``best.pt`` holds ``row``, ``model`` and ``averaged``; that of an ensemble holds the rest.
    """

    format: Required[int]
    info: Required[SavedInfo]
    numerics: dict[str, str]  # what its last bits depend on, see there; checkpoints of earlier releases do not say
    run: str  # the id of the run that wrote it; checkpoints of earlier releases have none
    state: State
    row: Row | dict[str, float]
    model: StateDict
    averaged: StateDict | None
    members: list[Member]
    average: Average
    one_run: bool
    thresholds: Thresholds


def contents(run: RunView) -> Content:
    """The content of ``last.pt``: the whole state, and what is needed to use the model without the run directory."""
    return {
        "format": FORMAT,
        "info": saved_info(run.info),
        "run": run.id,
        "state": run.state(),
        "numerics": numerics(run.precision),
    }


def best_contents(run: RunView) -> Content:
    """The content of ``best.pt``: the weights of the best epoch and its row in the history, no optimizer."""
    best = run.best
    assert best is not None
    return _weights_contents(run, best)


def epoch_contents(run: RunView) -> Content:
    """The content of ``epoch_<number>.pt``: the weights after the last epoch and its row in the history."""
    weights: Best = {
        "row": len(run.history) - 1,
        "model": snapshot(run.model),
        "averaged": snapshot(run.averaged),
    }
    if run.task.thresholds:
        weights["thresholds"] = copy.deepcopy(run.task.thresholds)
    return _weights_contents(run, weights)


def _weights_contents(run: RunView, weights: Best) -> Content:
    content: Content = {
        "format": FORMAT,
        "info": saved_info(run.info),
        "run": run.id,
        "row": run.history[weights["row"]],
        "model": weights["model"],
        "averaged": weights["averaged"],
    }
    if "thresholds" in weights:
        content["thresholds"] = weights["thresholds"]
    return content


def thresholds_of(content: Content) -> Thresholds:
    """The thresholds of labels in a checkpoint: those of its weights."""
    if "state" in content:
        return content["state"].get("task", {}).get("thresholds", {})
    return content.get("thresholds", {})


def saved_info(info: Info) -> SavedInfo:
    """``Info`` as a checkpoint holds it."""
    return SavedInfo(**asdict(info))


def save(content: Content, path: Path) -> None:
    """Write a checkpoint atomically."""
    write_temporary(content, path)()


def write_temporary(content: Content, path: Path, previous: Path | None = None) -> Callable[[], None]:
    """Write the content as it is now to a temporary file.

    Returns:
        A function that waits for the disk and renames the file to ``path``; it may be called in another thread. The file of
        before is kept as ``previous`` if that is given.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(path, previous))
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
        except BaseException as error:
            # Interrupted by Ctrl-C or a full disk, torch's writer raises an error about the incomplete file instead.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            if isinstance(error.__context__, OSError):
                raise WriteError(path, error.__context__) from None
            raise
        return stack.pop_all().close


def load(path: Path, device: torch.device | str = "cpu", key: str = "checkpoint") -> Content:
    """The content of a checkpoint.

    Raises:
        DamagedFile: The file was truncated or changed after it was written; ``key`` names the path in the config.
        ConfigError: It is not a checkpoint, or has the format of a later version.
    """
    others = ", ".join(sorted(p.name for p in path.parent.glob("*.pt") if p != path)) or "none"
    content = read_weight_file(path, key, device, hint=f"other files: {others}")
    if not _is_content(content):
        raise ConfigError(Problem(key, str(path), "is not a checkpoint of this program"))
    if content["format"] > FORMAT:
        text = (
            f"has format {content['format']}, of a later version of the program; this one reads formats up to {FORMAT}"
        )
        raise ConfigError(Problem(key, str(path), text, "install that version"))
    return content


def _is_content(value: object) -> TypeGuard[Content]:
    """Whether a value is a checkpoint of any format, which this version may be able to read or not."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("format"), int)
        and isinstance(value.get("info"), dict)
        and isinstance(value.get("numerics", {}), dict)
    )


def load_network(path: str, prefer: str, key: str) -> Content:
    """The content of a checkpoint that must hold a single network; ConfigError at ``key`` if it holds an ensemble."""
    content = load(find_checkpoint(path, prefer, key), key=key)
    if "members" in content:
        raise ConfigError(Problem(key, str(path), "is an ensemble", "name one of its members, such as .../member_0"))
    return content


def info_of(content: Content | Member) -> Info:
    """The ``Info`` of a checkpoint, which stores its tuples as lists."""
    info = content["info"]
    channels, height, width = info["shape"]
    return Info(
        tuple(info["classes"]),
        (channels, height, width),
        tuple(info["mean"]),
        tuple(info["std"]),
        info["config"],
        tuple(info.get("targets", ())),
        info.get("data", DataIdentity()),
    )


def weights_of(content: Content) -> Weights:
    """The weights in a checkpoint of one network: the best ones in ``best.pt``, else the last ones."""
    if "state" in content:
        return content["state"]
    assert "model" in content
    assert "averaged" in content
    return Weights(model=content["model"], averaged=content["averaged"])
