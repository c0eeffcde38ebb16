"""The report of a run, from the files in its folder alone: ``report.md`` with its pictures, and ``report.html`` in one piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.analysis.diagnosis import diagnose
from trainer.report.figures import curves, distributions_figure, steps_figure
from trainer.report.html import one_file
from trainer.report.page import page


def write_report(folder: Path) -> Path:
    """Write ``report.md``, its pictures and ``report.html`` from what a run folder holds; the diagnosis is made anew."""
    rows, snapshots = lines_of(folder / "history.jsonl"), lines_of(folder / "layers.jsonl")
    result = json_of(folder / "result.json") or {"status": "unfinished", "stop_reason": "killed before its end"}
    facts = json_of(folder / "facts.json") or {}
    overrides = (folder / "overrides.txt").read_text().split("\n") if (folder / "overrides.txt").is_file() else []
    (folder / "report").mkdir(exist_ok=True)
    drawn = {
        "curves": curves(rows) if rows else None,
        "steps": steps_figure(snapshots),
        "distributions": distributions_figure(snapshots),
    }
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(folder / "report" / f"{name}.png", dpi=110)
    there = {path.stem for path in (folder / "report").glob("*.png")}
    findings = [finding.as_dict() for finding in diagnose(rows, snapshots, facts)]
    text = page(rows, result, [o for o in overrides if o], findings, there, json_of(folder / "environment.json") or {})
    path = folder / "report.md"
    path.write_text(text)
    (folder / "report.html").write_text(one_file(text, folder))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line; none where there is no file. What a killed run left half written is left out."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def json_of(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
