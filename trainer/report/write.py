"""Writing the report of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trainer.analysis.diagnosis import diagnose
from trainer.files import write_text
from trainer.literal import print_literal
from trainer.progress import activity
from trainer.records import (
    read_environment,
    read_info,
    read_overrides,
    read_result,
    read_resumes,
    read_rows,
    read_snapshots,
    read_table,
)
from trainer.report.curves import curves_figure, loss_unit
from trainer.report.data_section import data_section
from trainer.report.figures import drawing, save_figure
from trainer.report.html import self_contained_html
from trainer.report.interactive import SCRIPT, STYLE, interactive_curves
from trainer.report.layers import distributions_figure, steps_figure
from trainer.report.page import page
from trainer.run_dir import read_config

T = TypeVar("T")


@activity("drawing the report")
def write_report(run_dir: Path) -> Path:
    """Write ``report.md``, its plots and ``report.html``; return the path of ``report.md``.

    The findings are those of ``result.json``; if it has none, as of a killed run, they come from the other files.
    """
    rows = read_rows(run_dir / "history.jsonl")
    snapshots = read_snapshots(run_dir / "layers.jsonl")
    config = run_dir / "config.yaml"
    unit = left_out("config", lambda: loss_unit(read_config(run_dir, "run") if config.is_file() else {}), loss_unit({}))
    # facts.json: its name in earlier releases.
    info = read_info(run_dir / "dataset_info.json") or read_info(run_dir / "facts.json")
    figures = {
        "curves": lambda: curves_figure(rows, unit) if rows else None,
        "steps": lambda: steps_figure(snapshots),
        "distributions": lambda: distributions_figure(snapshots),
    }
    for name, draw in figures.items():
        with drawing(name):
            if (figure := draw()) is not None:
                save_figure(figure, run_dir / "report" / f"{name}.png")
    result = read_result(run_dir)
    findings = result.get("findings")
    if findings is None:
        findings = left_out("diagnosis", lambda: [f.as_dict() for f in diagnose(rows, snapshots, info)], [])
    earlier = run_dir / "report" / "mistakes.png"  # its name in earlier releases
    if earlier.is_file():
        earlier.rename(earlier.with_name("misclassified.png"))
    overrides, predictions = read_overrides(run_dir), read_table(run_dir / "predictions.json")
    text = page(
        rows,
        result=result or {"status": "unfinished", "stop_reason": "killed before its end"},
        commands=(overrides, read_resumes(run_dir / "resumed.jsonl")),
        findings=findings,
        plots={path.stem for path in (run_dir / "report").glob("*.png")},
        environment=read_environment(run_dir / "environment.json"),
        tasks=info.get("tasks") or (),
        data=left_out("data", lambda: data_section(info, predictions, overrides), []),
    )
    path = run_dir / "report.md"
    write_text(path, text)
    curves = left_out("interactive curves", lambda: interactive_curves(rows, unit) if rows else "", "")
    figures = {"report/curves.png": curves} if curves else {}
    script = SCRIPT.read_text("utf-8") if curves else ""
    write_text(run_dir / "report.html", self_contained_html(text, run_dir, figures, STYLE, script))
    return path


def left_out(name: str, make: Callable[[], T], default: T) -> T:
    """Return a part of the report; the default, with a note, where the files of the run are too damaged for it."""
    try:
        return make()
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        print_literal(f"note: the {name} of the report is left out: {type(error).__name__}: {error}", file=sys.stderr)
        return default
