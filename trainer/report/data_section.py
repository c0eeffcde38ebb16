"""The section of the report about the data: what was looked for in the images and labels, what was found, and what was not."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from trainer.formats import JsonObject
from trainer.literal import code_span, markdown_literal
from trainer.measurements import DatasetInfo
from trainer.tree import entries, number_at, table

SHOWN = 10  # probably wrong labels


def data_section(info: DatasetInfo, predictions: JsonObject, overrides: Sequence[str]) -> list[str]:
    """Return the lines of the section; none for a run that has not examined its data.

    Args:
        info: What the diagnosis knows about the data.
        predictions: The content of ``predictions.json``; {} without.
        overrides: Those of the run, for the command that looks for the rest.
    """
    compared = info.get("compared")
    if not compared:
        return []
    doctor = code_span(shlex.join(["train", "job=doctor", *(o for o in overrides if o.startswith("data"))]))
    lines = ["", "## Data", "", *_duplicates(info, compared, doctor)]
    for task, content in (table(predictions.get("tasks")) or {"": predictions}).items():
        if "label_errors" in table(content):
            errors = table(content)["label_errors"]
            name = f" of {markdown_literal(task, within_line=True)}" if task else ""
            rows = None if errors is None else [table(error) for error in entries(errors)]
            lines += _label_errors(rows, f"{predictions.get('split')} labels{name}", doctor)
    return lines


def _duplicates(info: DatasetInfo, compared: Mapping[str, int], doctor: str) -> list[str]:
    total, exact, near = (compared.get(name, 0) for name in ("images", "exact", "near"))
    across, contradictory = sum((info.get("duplicates") or {}).values()), info.get("contradictory", 0)
    found = "none in two splits" if not across else f"{across:,} in two splits"
    found += ", none with two labels" if not contradictory else f", {contradictory:,} for training with two labels"
    left = (
        ""
        if exact == total
        else f"; {total - exact:,} not compared (files over 2 MiB, and those beyond 20,000 in a split)"
    )
    lines = [f"- Equal images, byte for byte, among {exact:,} of {total:,}: {found}{left}."]
    if "near_duplicates" not in info:
        text = (
            f"not looked for among {total:,}, to save time"
            if "status" in info
            else "not looked for, the run did not end"
        )
        return [*lines, f"- Nearly equal images: {text}; {doctor} compares up to 10,000."]
    pairs = info["near_duplicates"]
    found = ", ".join(
        f"{pairs.get(where) or 'none'} {word} {where}" for word, where in (("in", "two splits"), ("with", "two labels"))
    )
    listed = " suspects.csv lists them." if across or contradictory or any(pairs.values()) else ""
    return [*lines, f"- Nearly equal images, such as resized copies, among {near:,}: {found}.{listed}"]


def _label_errors(errors: Sequence[JsonObject] | None, what: str, doctor: str) -> list[str]:
    rest = f"The labels of the training images were not judged: {doctor} does so by out-of-fold predictions."
    if errors is None:
        return [
            f"- Wrong labels: the {what} were not judged, because the predictions are too inaccurate or too many. {rest}"
        ]
    lines = [
        f"- Wrong labels: {len(errors) or 'none'} of the {what}, judged by the network, which has not seen them. {rest}"
    ]
    if errors:
        lines += ["", "| image | label | rather | probability of the label |", "|---|---|---|---|"]
    for error in errors[:SHOWN]:
        names = (markdown_literal(str(error.get(key, "")), within_line=True) for key in ("label", "suggested"))
        probability = number_at(error, "probability")
        lines.append(
            f"| {error.get('index', '')} | {' | '.join(names)} | {'' if probability is None else f'{probability:.4f}'} |"
        )
    if len(errors) > SHOWN:
        lines += ["", f"predictions.json lists the other {len(errors) - SHOWN}."]
    return lines
