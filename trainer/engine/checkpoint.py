"""The checkpoint format: one file, written atomically and loaded without executing anything from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import NotRequired, Required, TypedDict, TypeGuard, cast, get_args

import torch

from trainer.architectures.ensemble import Average
from trainer.data.identity import DataIdentity
from trainer.engine.info import Info
from trainer.engine.numerics import numerics
from trainer.engine.state import Best, State, StateDict, Weights, snapshot
from trainer.engine.view import RunView
from trainer.errors import ConfigError, Problem, WriteError
from trainer.files import atomic_path
from trainer.formats import Json, JsonObject, Row
from trainer.records import fits
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
            # On a full disk, torch's writer raises an error about the incomplete file instead.
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
    if wrong := wrong_form(content):
        raise ConfigError(
            Problem(key, str(path), f"is a checkpoint of another form: {wrong}", f"other files: {others}")
        )
    return content


def _is_content(value: object) -> TypeGuard[Content]:
    """Whether a value is a checkpoint of any format, which this version may be able to read or not."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("format"), int)
        and isinstance(value.get("info"), dict)
        and isinstance(value.get("numerics", {}), dict)
    )


def wrong_form(content: Mapping[str, object]) -> str:
    """Return which value of a checkpoint has not the declared form, by its key; empty where all have, however old it is."""
    members = content.get("members", [])
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        return "members must be a list of tables"
    for place, part in (("", content), *((f"members.{i}.", member) for i, member in enumerate(members))):
        info = part.get("info")
        if not isinstance(info, dict):
            return f"{place}info must be a table"
        for key, (test, text) in INFO_FORMS.items():
            if not test(info.get(key, {"targets": (), "data": {}}.get(key))):
                return f"{place}info.{key} must be {text}"
    state = content.get("state", {"model": {}, "averaged": None})
    weights = [content, state, *members] if isinstance(state, dict) else []
    for part in weights:
        for key in ("model", "averaged"):
            if not isinstance(part.get(key), dict | None):
                return f"{key} must be a table of tensors"
    if "state" in content and not (isinstance(state, dict) and isinstance(state.get("model"), dict)):
        return "state must be a table with the weights of the model"
    alone = not {"state", "members"} & content.keys()
    if alone and not (isinstance(content.get("model"), dict) and "averaged" in content):
        return "it holds no weights"
    if members and content.get("average") not in get_args(Average):
        return f"average must be one of {', '.join(get_args(Average))}"
    return ""


def _all(value: object, kind: type | UnionType, at_least: int = 0) -> bool:
    return isinstance(value, list | tuple) and len(value) >= at_least and all(isinstance(item, kind) for item in value)


def _is_shape(value: object) -> bool:
    return _all(value, int) and len(value) == 3 and all(0 < size < 2**20 for size in value)  # pyright: ignore


def _is_plain(value: object, levels: int = 40) -> bool:
    """Whether a value consists of what JSON has."""
    if isinstance(value, dict):
        names = all(isinstance(key, str | int) for key in value)
        return levels > 0 and names and all(_is_plain(item, levels - 1) for item in value.values())
    if isinstance(value, list | tuple):
        return levels > 0 and all(_is_plain(item, levels - 1) for item in value)
    return value is None or isinstance(value, str | int | float)


INFO_FORMS: dict[str, tuple[Callable[[object], bool], str]] = {
    "classes": (lambda value: _all(value, str), "a list of names"),
    "shape": (_is_shape, "channels, height and width"),
    "mean": (lambda value: _all(value, int | float, 1), "a list of numbers"),
    "std": (lambda value: _all(value, int | float, 1), "a list of numbers"),
    "config": (lambda value: isinstance(value, dict) and _is_plain(value), "a table of plain values"),
    "targets": (lambda value: _all(value, dict) and _is_plain(value), "a list of tables of plain values"),
    "data": (lambda value: _is_plain(value) and fits(cast(Json, value), DataIdentity), "what is known of the data"),
}


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
