"""Writing the report of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trainer.analysis.diagnosis import diagnose
from trainer.analysis.filters import in_words
from trainer.files import write_text
from trainer.formats import JsonObject
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
from trainer.report.lr_range import saved_range_figure
from trainer.report.page import page
from trainer.run_dir import read_config
from trainer.tree import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")


@activity("drawing the report")
def write_report(run_dir: Path, draw: bool = True, config: JsonObject | None = None) -> Path:
    """Write ``report.md``, its plots and ``report.html``; return the path of ``report.md``.

    The findings are those of ``result.json``; if it has none, as of a killed run, they come from the other files.

    Args:
        run_dir: The run directory.
        draw: Whether the plots are drawn now; otherwise those of before are removed, and the report says how to draw them.
        config: That of the run; None reads it.
    """
    rows = read_rows(run_dir / "history.jsonl")
    snapshots = read_snapshots(run_dir / "layers.jsonl")
    unit = left_out("config", lambda: loss_unit(saved_config(run_dir) if config is None else config), loss_unit({}))
    # facts.json: its name in earlier releases.
    info = read_info(run_dir / "dataset_info.json") or read_info(run_dir / "facts.json")
    figures: dict[str, Callable[[], Figure | None]] = {
        "curves": lambda: curves_figure(rows, unit) if rows else None,
        "steps": lambda: steps_figure(snapshots),
        "distributions": lambda: distributions_figure(snapshots),
    }
    for file in sorted(run_dir.glob("range_test*.json")):
        figures[file.stem] = partial(saved_range_figure, file)
    put_figures(figures, run_dir / "report", draw)
    result = read_result(run_dir)
    findings = result.get("findings")
    if findings is None:
        findings = left_out("diagnosis", lambda: [f.as_dict() for f in diagnose(rows, snapshots, info)], [])
    earlier = run_dir / "report" / "mistakes.png"  # its name in earlier releases
    if earlier.is_file():
        earlier.rename(earlier.with_name("misclassified.png"))
    overrides, predictions = read_overrides(run_dir), read_table(run_dir / "predictions.json")
    text = partial(
        page,
        rows,
        result=result or {"status": "unfinished", "stop_reason": "killed before its end"},
        commands=(overrides, read_resumes(run_dir / "resumed.jsonl")),
        findings=findings,
        environment=read_environment(run_dir / "environment.json"),
        tasks=info.get("tasks") or (),
        data=left_out("data", lambda: data_section(info, predictions, overrides), []),
        notes={
            **left_out("predictions", lambda: without_evidence(predictions), {}),
            **left_out("filters", lambda: filters_in_words(result), {}),
        },
        undrawn=None if draw else run_dir,
    )
    curves = left_out("interactive curves", lambda: interactive_curves(rows, unit) if rows else "", "")
    return write_pages(run_dir, lambda plots: text(plots=plots), curves)


def write_pages(run_dir: Path, text: Callable[[set[str]], str], curves: str) -> Path:
    """Write ``report.md`` and ``report.html``; return the path of the first.

    Args:
        run_dir: The run directory.
        text: Of the report with some plots.
        curves: What stands for the plot ``curves`` in HTML, also where it has not been drawn; may be empty.
    """
    path, plots = run_dir / "report.md", {path.stem for path in (run_dir / "report").glob("*.png")}
    markdown = text(plots)
    write_text(path, markdown)
    inline = {"report/curves.png": curves} if curves else {}
    script = SCRIPT.read_text("utf-8") if curves else ""
    shown = text(plots | {"curves"}) if curves and "curves" not in plots else markdown
    write_text(run_dir / "report.html", self_contained_html(shown, run_dir, inline, STYLE, script))
    return path


def saved_config(run_dir: Path) -> JsonObject:
    """Return the config of a run; empty if there is none."""
    return read_config(run_dir, "run") if (run_dir / "config.yaml").is_file() else {}


def put_figures(figures: Mapping[str, Callable[[], Figure | None]], folder: Path, draw: bool) -> None:
    """Write figures as PNG by their names; if they are not to be drawn, remove those that an earlier end of the run has left."""
    for name, make in figures.items():
        path = folder / f"{name}.png"
        if not draw:
            path.unlink(missing_ok=True)
            continue
        with drawing(name):
            if (figure := make()) is not None:
                save_figure(figure, path)


def without_evidence(predictions: JsonObject) -> dict[str, str]:
    """Return what to add to the highest-loss errors of networks that Grad-CAM cannot explain, by the name of the plot.

    >>> without_evidence({"grad_cam": "none: the network has no feature maps"})
    {'misclassified': '; no Grad-CAM: the network has no feature maps'}
    """
    tasks = table(predictions.get("tasks")) or {"": predictions}
    texts = {
        f"misclassified_{name}" if name else "misclassified": str(table(task).get("grad_cam", ""))
        for name, task in tasks.items()
    }
    return {plot: f"; no Grad-CAM: {text.removeprefix('none: ')}" for plot, text in texts.items() if text}


def filters_in_words(result: Mapping[str, object]) -> dict[str, str]:
    """Return what to add to the filters of the first layer, by the name of the plot; nothing without their measures.

    >>> filters_in_words({"filters": {"roughness": None, "effective_number": 1.0, "count": 4}})
    {}
    """
    measures = table(result.get("filters"))
    rough, effective, count = (measures.get(name) for name in ("roughness", "effective_number", "count"))
    if not isinstance(rough, float) or not isinstance(effective, float) or not isinstance(count, int):
        return {}
    return {"filters": f"; of the best weights: {in_words(rough, effective, count)}"}


def left_out(name: str, make: Callable[[], T], default: T) -> T:
    """Return a part of the report; the default, with a note, where the files of the run are too damaged for it."""
    try:
        return make()
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        print_literal(f"note: the {name} of the report is left out: {type(error).__name__}: {error}", file=sys.stderr)
        return default
