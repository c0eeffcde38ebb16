"""The model card of an exported network: ``README.md`` with what it does, how good it is, and how to run it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from trainer.columns import shown
from trainer.formats import Json, JsonObject
from trainer.literal import markdown_literal, printable
from trainer.records import read_overrides, read_result
from trainer.report.html import markdown_table
from trainer.tree import is_list, table, value_at

PIPELINES = {"classification": "image-classification", "multilabel": "image-classification"}
SHOWN_CLASSES = 50


def model_card(
    name: str, run_dir: Path, tree: JsonObject, export: JsonObject, kind: str, choice: tuple[str, str]
) -> str:
    """Return the model card as Markdown.

    Args:
        name: Heading, such as the name of the repository.
        run_dir: The directory of the run or ensemble that the checkpoint is of.
        tree: The config in the checkpoint.
        export: ``result.json`` of the export.
        kind: That of the task: classification, multilabel or regression; that of the main or the first of several.
        choice: Which checkpoint (best or last) and which of its weights (model, averaged or an ensemble) were exported.
    """
    files = [Path(str(table(export[key])["file"])).name for key in ("onnx", "torch") if key in export]
    scores = scores_of(run_dir, *choice)
    header: JsonObject = {"tags": ["trainer", *(["onnx"] if "onnx" in export else [])]}
    if kind in PIPELINES:
        header["pipeline_tag"] = PIPELINES[kind]
    lines = ["---", yaml.safe_dump(header, allow_unicode=True).rstrip(), "---", "", f"# {_text(name)}", ""]
    network, data = (class_name(value_at(tree, group, "_target_")) for group in ("architecture", "data"))
    lines += [f"{network or 'A network'} for {kind} of images{f', trained on {data}' if data else ''} with trainer."]
    lines += ["", "## Scores", "", *score_lines(scores)]
    lines += ["", "## Input and output", "", *interface_lines(export)]
    lines += ["", "## How to run it", "", *usage(files, export), ""]
    command = " ".join(printable(shlex.quote(shortened(text))) for text in read_overrides(run_dir))
    if command:
        lines += ["## How it was trained", "", f"    train {command}", ""]
    lines += [
        "## Limits", "",
        "The scores hold for images like those it was trained on; on others, check them before you rely on the predictions.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def scores_of(run_dir: Path, prefer: str, weights: str) -> dict[str, JsonObject]:
    """Return the metrics of the exported weights by split, as far as the run or ensemble has evaluated them."""
    result = read_result(run_dir)
    tree = (
        result
        if prefer == "best" and weights != "averaged"
        else result.get("averaged" if weights == "averaged" else "last")
    )
    return {split: table(scores) for split in ("test", "validation") if (scores := table(tree).get(split))}


def score_lines(scores: dict[str, JsonObject]) -> list[str]:
    """Return the metrics as a table.

    >>> score_lines({"test": {"accuracy": 0.975}})
    ['| metric | test |', '|---|---|', '| accuracy | 97.50 % |']
    """
    names = list(dict.fromkeys(name for metrics in scores.values() for name in metrics))
    if not names:
        return ["Not evaluated."]
    rows = [[name, *(_score(name, metrics.get(name)) for metrics in scores.values())] for name in names]
    return markdown_table(["metric", *scores], rows)


def interface_lines(export: JsonObject) -> list[str]:
    """Return what goes in and what comes out."""
    lines = [f"- Input: {export['colours']} images, uint8 (N, {_shape(export)}); normalization is part of the network."]
    for task in [table(task) for task in _list(export.get("tasks"))]:
        names = next((_list(value) for key, value in task.items() if is_list(value) and key != "thresholds"), [])
        lines.append(f"- Output `{_text(task['output'])}`, {_text(task['kind'])}: {_names(names)}.")
    if "classes" in export:
        classes = _list(export["classes"])
        lines.append(f"- Output `probabilities` (N, {len(classes)}) of the classes {_names(classes)}.")
    return lines


def usage(files: Sequence[str], export: JsonObject) -> list[str]:
    """Return Python that runs the file."""
    head = ["```python", "import numpy as np", ""]
    images = [f"images = np.zeros((1, {_shape(export)}), np.uint8)  # your images, cropped and resized"]
    if "model.onnx" in files:
        run = ["import onnxruntime", "", *images, 'session = onnxruntime.InferenceSession("model.onnx")']
        return [*head[:2], *run, 'predictions = session.run(None, {"images": images})', "```"]
    run = [
        "import torch",
        "",
        *images,
        'predictions = torch.export.load("model.pt2").module()(torch.from_numpy(images))',
    ]
    return [*head[:2], *run, "```"]


def shortened(override: str) -> str:
    """Return an override without the directories of its path, which nobody else has.

    >>> shortened("data.root=/home/me/photos"), shortened("optimizer.lr=0.1")
    ('data.root=photos', 'optimizer.lr=0.1')
    """
    return re.sub(r"=.*/(?=[^/]+$)", "=", override)


def class_name(target: object) -> str:
    """Return the class that a ``_target_`` names, as text of a page."""
    return _text(str(target).rpartition(".")[2]) if isinstance(target, str) else ""


def _shape(export: JsonObject) -> str:
    return ", ".join(map(str, _list(export["shape"])))


def _names(names: list[Json]) -> str:
    texts = [_text(name) for name in names[:SHOWN_CLASSES]]
    separator = "; " if any("," in text for text in texts) else ", "
    return separator.join(texts) + (f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else "")


def _score(name: str, value: Json) -> str:
    return shown(name, value) if isinstance(value, float) else str(value)


def _list(value: object) -> list[Json]:
    return value if is_list(value) else []


def _text(value: object) -> str:
    return markdown_literal(str(value), within_line=True)
