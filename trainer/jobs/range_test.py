"""``job=range_test``: the LR range test, and the learning rates it suggests; also for ``optimizer.lr=auto``."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

from trainer.analysis.lr_range import MIN_STEPS, NoDescent, Suggestion, lr_sequence, rounded, smooth, suggest_lr
from trainer.builder import build
from trainer.config.schema import Config
from trainer.engine.lr_range_test import lr_range_curve
from trainer.engine.run import Run
from trainer.jobs.options import RangeTest
from trainer.literal import print_literal
from trainer.observers.event_writer import LazyEventWriter
from trainer.report.figures import save_figure
from trainer.report.lr_range import lr_range_figure
from trainer.run_dir import check_available, create_run_dir, write_json


@dataclasses.dataclass(frozen=True)
class Curve:
    """Losses at rising learning rates, and what they suggest or why they suggest nothing."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: Suggestion | None
    reason: str = ""


def range_test(option: RangeTest, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.RangeTest``."""
    check_available(run_dir)
    run = build(config, run_dir)
    create_run_dir(run_dir, config.tree, overrides, run.notes[0])
    curve = measure(option, run)
    save(option, run, curve, run_dir)
    suggestion = curve.suggestion
    result = {"status": "finished", "stop_reason": "tested" if suggestion else curve.reason, "steps": len(curve.losses)}
    result |= {"range_test": dataclasses.asdict(suggestion) if suggestion else None, "refused": curve.reason or None}
    write_json(run_dir / "result.json", result)
    show(curve, run_dir)
    return 0 if suggestion else 1


def measure(option: RangeTest, run: Run) -> Curve:
    """Run the test; afterwards the run is as before."""
    lrs, losses = lr_range_curve(run, lr_sequence(option.start, option.stop, option.steps, option.scale))
    smoothed = smooth(losses, option.smoothing * len(losses)).tolist()
    if len(losses) < MIN_STEPS:
        reason = f"the loss was NaN or Inf, or exploded, after {len(losses)} steps: try a lower job.start"
        return Curve(lrs, losses, smoothed, None, reason)
    try:
        return Curve(lrs, losses, smoothed, suggest_lr(lrs, losses, option.smoothing))
    except NoDescent as error:
        return Curve(lrs, losses, smoothed, None, str(error))


def save(option: RangeTest, run: Run, curve: Curve, run_dir: Path) -> None:
    """Write the curve as numbers, as a plot, and to TensorBoard."""
    values = {"lr": curve.lrs, "loss": curve.losses, "smoothed": curve.smoothed}
    write_json(run_dir / "range_test.json", values)
    if not curve.losses:
        return
    figure = lr_range_figure(curve.lrs, curve.losses, curve.smoothed, curve.suggestion, option.scale)
    save_figure(figure, run_dir / "range_test.png")
    events = LazyEventWriter(run_dir)
    board = events()
    for name, series in values.items():
        for step, value in enumerate(series):
            board.add_scalar(f"range_test/{name}", value, step)
    board.add_figure("range_test", figure, 0)
    events.close()


def suggested_overrides(suggestion: Suggestion) -> list[tuple[str, str, list[str]]]:
    """Return for each kind of schedule its name, the confidence, and the overrides.

    >>> suggested_overrides(Suggestion(0.01, 0.05, 0.1, 1.0))[0]
    ('constant or decaying', 'low', ['optimizer.lr=0.05'])
    """
    max_lr, confidence = rounded(suggestion.max_lr), suggestion.confidence
    of_cycles = confidence("max_lr") if confidence("min_lr") == "high" else confidence("min_lr")
    lr, floor = f"optimizer.lr={max_lr:g}", f"schedule.clr.floor={clr_floor(suggestion, max_lr):g}"
    return [
        ("constant or decaying", confidence("suggested_lr"), [f"optimizer.lr={rounded(suggestion.suggested_lr):g}"]),
        ("cyclical", of_cycles, ["schedule=clr", lr, floor]),
        ("one cycle", confidence("max_lr"), ["schedule=one_cycle", lr]),
    ]


def clr_floor(suggestion: Suggestion, max_lr: float) -> float:
    """Return the lower bound of cyclical learning rates as a multiplier of the upper one."""
    return rounded(min(max(suggestion.min_lr / max_lr, 1e-4), 0.9))


def show(curve: Curve, run_dir: Path) -> None:
    """Print the curve as text, and the overrides."""
    if curve.losses:
        print("\n".join(chart(curve.lrs, curve.smoothed)))
    suggestion = curve.suggestion
    if suggestion is None:
        print(f"no suggestion: {curve.reason}", file=sys.stderr)
    else:
        for schedule, confidence, overrides in suggested_overrides(suggestion):
            print(f"{schedule:<22}{' '.join(overrides)}   (confidence: {confidence})")
        low, high = suggestion.ranges["suggested_lr"]
        print(
            f"suggested_lr is between {low:.2g} and {high:.2g} under resampled noise; the loss fell by {suggestion.drop:.3g}"
        )
        for note in suggestion.notes:
            print(note)
    print_literal(f"range_test.png and range_test.json are in {run_dir}")


def chart(lrs: list[float], losses: list[float], rows: int = 14, width: int = 40) -> list[str]:
    """Return ``rows`` lines of learning rate, smoothed loss, and a bar of its length.

    >>> chart([0.1, 1.0], [2.0, 1.0], width=4)
    ['        lr     loss', '       0.1    2.000 ####', '         1    1.000 ##']
    """
    indices = sorted({round(i * (len(losses) - 1) / max(rows - 1, 1)) for i in range(rows)})
    top = max(losses[i] for i in indices[: max(2, len(indices) // 2)]) or 1.0
    lines = [f"{'lr':>10}{'loss':>9}"]
    for i in indices:
        length = round(width * min(losses[i] / top, 1.25)) if math.isfinite(losses[i]) else 0
        lines.append(f"{lrs[i]:>10.2g}{losses[i]:>9.3f} {'#' * max(length, 0)}")
    return lines
