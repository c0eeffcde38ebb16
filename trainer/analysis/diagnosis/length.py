"""Checks of the length of a run: too few steps, an end before the loss has converged."""

from __future__ import annotations

import math

from trainer.analysis.diagnosis.fit import good_fit, overfitting
from trainer.analysis.diagnosis.record import BRIEF, Finding, Record, number
from trainer.analysis.diagnosis.schedule import decayed_validation_loss, still_falls
from trainer.duration import OUT_OF_TIME
from trainer.history import better_is

FEW = 5  # steps of an epoch, below which batches are too large
LEAST_GAIN = 0.005  # of a metric, above which ``min_delta`` ends runs that still improve
FAST = 0.85  # of the validation loss, that is left after the epochs that early stopping waited


def still_improving(r: Record) -> Finding | None:
    """The loss still falls at the end."""
    if (found := _still_improving_by_probe(r)) is not None:
        return found
    losses = r.column("validation_loss") or r.column("train_loss")
    if good_fit(r) is not None or len(losses) < 3 or r.dataset_info.get("status") == "interrupted":
        return None
    part = max(1, len(losses) // 5)
    before, last = losses[-1 - part], losses[-1]
    gain = (before - last) / part
    low = r.rows[-1].get("lr") or 0.0
    if r.chance_loss is not None and (last < 0.1 * r.chance_loss or low < 0.1 * r.peak_lr):
        return None  # as low as it gets, or the slope of the end of a schedule
    if last > min(losses) or gain < 0.02 * max(losses[0] - last, 1e-9) or last < 0.01 or before <= last:
        return None
    text = f"the loss fell from {before:.3f} to {last:.3f} over the last {part} of {len(losses)} epochs"
    return _ended_early(r, text, (r.epochs(2),), "hint")


def _still_improving_by_probe(r: Record) -> Finding | None:
    """Some more steps lower the validation loss, although the learning rate had decayed, or that of a network that struggles."""
    if 0 < r.steps < BRIEF:
        return None
    if (gain := decayed_validation_loss(r, 0.2)) is not None:
        return _ended_early(r, gain, (r.epochs(2),), "hint")
    if r.probe is None or not (r.struggles and r.learned and still_falls(r)):
        return None
    losses = r.column("train_loss")
    before = losses[-1 - max(1, len(losses) // 5)] if len(losses) > 1 else math.inf
    best = min(number(b["loss"]) for b in r.branches("from_used").values())
    text = f"the training loss fell from {before:.3g} to {losses[-1]:.3g} in the last fifth of the run"
    if best < losses[-1]:
        text += f", and to {best:.3g} in {r.probe['steps']} more steps"
    start = r.branches("from_start")
    faster = not {1.0, 10.0} <= start.keys() or number(start[10.0]["loss"]) <= number(start[1.0]["loss"])
    return _ended_early(r, text, (r.epochs(3), *((r.higher_lr,) if faster else ())), "warning")


def too_short(r: Record) -> Finding | None:
    """The run has so few steps that nothing else can be said of a loss that is not low."""
    if not 0 < r.steps < BRIEF or not (r.struggles or _train_loss(r) > 0.1 * (r.chance_loss or math.inf)):
        return None
    if not r.struggles and overfitting(r) is not None:
        return None  # the training images are learned already
    few = r.steps < FEW * r.trained and (r.dataset_info.get("batch_size") or 0) > 32
    smaller = ("batch_size=32",) if few else ()
    return _ended_early(
        r, f"the run had {r.steps} step{'s' * (r.steps != 1)} in all", (*smaller, r.epochs(10)), "warning"
    )


def stopped_too_early(r: Record) -> Finding | None:
    """Early stopping ended the run while the validation loss fell fast, because the metric had not become better for a moment,
    or while the metric became better by less than ``min_delta``.
    """
    losses, patience = r.column("validation_loss"), r.setting("regularizer", "early_stopping", "patience")
    if (
        _planned(r) is None
        or _out_of_time(r)
        or r.chance_loss is None
        or not isinstance(patience, int)
        or not 0 < patience < len(losses)
    ):
        return None
    if (ignored := _ignored_gain(r, patience)) is not None:
        return _ended_early(r, ignored, (), "warning")
    before, last = losses[-1 - patience], losses[-1]
    if last > FAST * before or last < 0.05 * r.chance_loss:
        return None
    return _ended_early(
        r, f"in the last {_count(patience)} the validation loss fell from {before:.3f} to {last:.3f}", (), "warning"
    )


def _ignored_gain(r: Record, patience: int) -> str | None:
    """How the metric of a network that is not good became better by less than ``min_delta`` while early stopping waited."""
    stopping = ("regularizer", "early_stopping")
    least, metric = r.setting(*stopping, "min_delta"), str(r.setting(*stopping, "metric"))
    metric = r.dataset_info.get("metric", metric) if metric == "auto" else metric
    values = r.column(metric)
    if not isinstance(least, int | float) or not r.weak or len(values) <= patience:
        return None
    sign = -1 if better_is(metric) == "min" else 1
    before, after = (max(sign * v for v in part) for part in (values[:-patience], values[-patience:]))
    gain = after - before
    if not LEAST_GAIN < gain <= least:
        return None
    return f"in the last {_count(patience)} {metric} improved from {sign * before:.3f} to {sign * after:.3f}"


def _count(epochs: int) -> str:
    return "epoch" if epochs == 1 else f"{epochs} epochs"


def _out_of_time(r: Record) -> bool:
    """Whether ``engine.budget`` ended the run."""
    return r.dataset_info.get("stop_reason", "").startswith(OUT_OF_TIME)


def _planned(r: Record) -> float | None:
    """The epochs that were planned if ``engine.budget`` or early stopping ended the run before them; else None."""
    planned, stopping = r.setting("epochs"), _out_of_time(r) or r.setting("regularizer", "early_stopping")
    if not stopping or r.dataset_info.get("status") != "finished" or not isinstance(planned, int | float):
        return None
    return planned if r.trained <= planned - 0.5 else None  # the last epoch may be a part of one


def _ended_early(r: Record, evidence: str, attempt: tuple[str, ...], kind: str) -> Finding:
    planned, patience = _planned(r), r.setting("regularizer", "early_stopping", "patience")
    if planned is None:
        return Finding("still improving", evidence, "The run ended before the loss had converged.", attempt, kind)
    if _out_of_time(r):
        return Finding(
            "still improving",
            f"{evidence}; engine.budget={r.setting('engine', 'budget')} ended it after {r.trained:.3g} of {planned:g} epochs",
            "The time for the run was over before the loss had converged: more epochs alone change nothing.",
            ("engine.budget=null",),
            kind,
        )
    others = ",".join(name for name in r.regularizers if name != "early_stopping")
    longer = (f"regularizer.early_stopping.patience={max(5, 3 * patience)}",) if isinstance(patience, int) else ()
    least = r.setting("regularizer", "early_stopping", "min_delta")
    if isinstance(least, int | float) and least > LEAST_GAIN:
        longer = ("regularizer.early_stopping.min_delta=0", *longer)
        evidence = f"{evidence}; early stopping counts an epoch only if the metric improves by more than {least:g}"
    return Finding(
        "still improving",
        f"{evidence}; early stopping ended it after {r.trained:g} of {planned:g} epochs",
        "Early stopping ended the run before the loss had converged: more epochs alone change nothing.",
        (*(a for a in attempt if a.startswith("batch_size")), *longer, f"regularizer==[{others}]"),
        kind,
    )


def _train_loss(r: Record) -> float:
    """The loss of the weights that are used on training images; 0 if it was not measured."""
    return 0.0 if r.probe is None else number(r.probe["used"]["loss"])
