"""The files that a run leaves, read as data of unknown origin: what is damaged or has another form is skipped with a note."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from trainer.formats import Environment, Json, JsonObject, Result, Resume, Row, Snapshot
from trainer.literal import printable
from trainer.measurements import DatasetInfo
from trainer.tree import table

MAX_LINE = 16 * 2**20  # characters of a line of JSON
REQUIRED_OF_ROW = ("phase", "epoch", "step", "lr")
# Keys of a result.json of earlier releases, at any depth.
RENAMED_KEYS = {
    "floor": "min_lr", "fixed": "suggested_lr", "peak": "max_lr", "pictures": "images",
    "multiply_adds_per_picture": "multiply_adds_per_image", "mistakes": "misclassified", "mistaken_for": "confused_with",
    "watching_seconds": "observer_seconds", "watching_share": "observer_fraction",
}  # fmt: skip


def parse_json(text: str) -> Json:
    """Return the value of a JSON text; ValueError where it is none, or nested too deeply.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Json:
    """Return the content of a JSON file; None, with a note if it is damaged, if there is none."""
    try:
        return parse_json(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError) as error:
        note(path, f"is skipped: {error}")
        return None


def read_table(path: Path) -> JsonObject:
    """Return the object in a JSON file; empty, with a note if it is damaged, if there is none."""
    content = read_json(path)
    if content is not None and not isinstance(content, dict):
        note(path, "is skipped: it is not a JSON object")
    return content if isinstance(content, dict) else {}


def read_jsonl(path: Path) -> list[JsonObject]:
    """Return the objects of a file with one per line; the last line of a killed run may be incomplete, others are noted."""
    try:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n") if path.is_file() else []
    except OSError as error:
        note(path, f"is skipped: {error}")
        return []
    rows: list[JsonObject] = []
    skipped: list[int] = []
    complete = not lines or not lines[-1]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line) if len(line) <= MAX_LINE else None
        except ValueError:
            value = None
        if isinstance(value, dict):
            rows.append(value)
        elif complete or number < len(lines):
            skipped.append(number)
    if skipped:
        note(path, f"{len(skipped)} damaged lines are skipped, the first is line {skipped[0]}")
    return rows


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a history that have the columns of each row, without values that are not numbers."""
    found = read_jsonl(path)
    rows = [valid(row, Row, extra=float | None) for row in found]
    if dropped := dict.fromkeys(
        key for row, all_of_it in zip(rows, found, strict=True) for key in all_of_it.keys() - row.keys()
    ):
        note(path, f"values that are not numbers are skipped: {', '.join(map(str, dropped))[:200]}")
    kept = [row for row in rows if all(column in row for column in REQUIRED_OF_ROW)]
    if len(kept) < len(rows):
        note(path, f"{len(rows) - len(kept)} rows without {', '.join(REQUIRED_OF_ROW)} are skipped")
    return cast(list[Row], kept)


def read_snapshots(path: Path) -> list[Snapshot]:
    """Return the snapshots of layers that have the form of one."""
    return cast(list[Snapshot], _of_form(path, Snapshot))


def read_resumes(path: Path) -> list[Resume]:
    """Return what each resume of a run changed, as far as it has the form."""
    return cast(list[Resume], _of_form(path, Resume))


def _of_form(path: Path, kind: type) -> list[JsonObject]:
    rows = read_jsonl(path)
    kept = [row for row in rows if fits(row, kind)]
    if len(kept) < len(rows):
        note(path, f"{len(rows) - len(kept)} lines of another form are skipped")
    return kept


def read_info(path: Path) -> DatasetInfo:
    """Return ``dataset_info.json``, without values of another form; empty if there is none."""
    return cast(DatasetInfo, _noted(path, read_table(path), DatasetInfo))


def read_environment(path: Path) -> Environment | None:
    """Return ``environment.json``; None if it lacks what a report shows."""
    content = _noted(path, read_table(path), Environment)
    return cast(Environment, content) if {"versions", "device", "python"} <= content.keys() else None


def read_result(run_dir: Path) -> Result:
    """Return ``result.json`` with the current names of its keys, without values of another form; empty if the run has none."""
    path = run_dir / "result.json"
    result = _noted(path, table(_with_current_keys(read_table(path))), Result)
    if "findings" in result and not isinstance(result["findings"], list):
        del result["findings"]
    return cast(Result, result)


def read_overrides(run_dir: Path) -> list[str]:
    """Return the overrides of the command that started the run."""
    path = run_dir / "overrides.txt"
    try:
        text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    except OSError as error:
        note(path, f"is skipped: {error}")
        return []
    return [line for line in text.split("\n") if line]


def _with_current_keys(value: Json) -> Json:
    if isinstance(value, dict):
        return {RENAMED_KEYS.get(key, key): _with_current_keys(item) for key, item in value.items()}
    return [_with_current_keys(item) for item in value] if isinstance(value, list) else value


def _noted(path: Path, value: JsonObject, kind: type) -> JsonObject:
    kept = valid(value, kind)
    if dropped := [key for key in value if key not in kept]:
        note(path, f"values of another form are skipped: {', '.join(dropped)[:200]}")
    return kept


def valid(value: Mapping[str, Json], kind: type, extra: object = object) -> JsonObject:
    """Return the items of a table whose values have the declared types.

    Args:
        value: The table.
        kind: A TypedDict.
        extra: The type of the keys that it does not declare.

    >>> valid({"phase": "all", "epoch": "x", "loss": 1.0, "deep": {}}, Row, extra=float | None)
    {'phase': 'all', 'loss': 1.0}
    """
    declared = _hints(kind)
    return {key: item for key, item in value.items() if fits(item, declared.get(key, extra))}


def fits(value: Json, kind: object) -> bool:
    """Return whether a JSON value has a type; null within it may stand for NaN, which JSON does not have.

    >>> fits([1, 2.5], list[float]), fits({"loss": None}, dict[str, float]), fits(True, float), fits(None, float)
    (True, True, False, False)
    """
    for form in (value, _null_as_nan(value)) if isinstance(value, dict | list) else (value,):
        with suppress(ValidationError):
            _adapter(kind).validate_python(form, strict=True)
            return True
    return False


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _null_as_nan(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: math.nan if item is None else _null_as_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [math.nan if item is None else _null_as_nan(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, object]:
    return get_type_hints(kind)


def note(path: Path, text: str) -> None:
    """Print what is skipped, to standard error."""
    print(f"note: {printable(str(path))}: {printable(text)}", file=sys.stderr, flush=True)


__all__ = [
    "parse_json", "read_environment", "read_info", "read_json", "read_jsonl", "read_overrides",
    "read_result", "read_resumes", "read_rows", "read_snapshots", "read_table",
]  # fmt: skip
