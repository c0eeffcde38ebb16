"""The diagnosis: from what was recorded of a run to what it means and what to try. Pure functions of plain values.

``rows`` is the history, ``looks`` what the histograms observer saw of the layers (``layers.jsonl``), ``facts`` what is known
of the data and the run (``facts.json``). Each check returns a finding or None; a check whose input is missing is silent.
"""

from __future__ import annotations

from collections.abc import Callable

from trainer.analysis.diagnosis.curves import (
    exploding,
    good_balance,
    noisy,
    not_finite,
    not_learning,
    overfitting,
    rate_too_high,
    rate_too_low,
    still_improving,
    underfitting,
    within_noise,
)
from trainer.analysis.diagnosis.layers import (
    dead_units,
    gradients_along_depth,
    imbalance,
    initial_loss,
    leaking,
    saturated_units,
)
from trainer.analysis.diagnosis.record import Facts, Finding, Record, Rows

CHECKS: tuple[Callable[[Record], Finding | None], ...] = (
    not_finite, exploding, not_learning, rate_too_high, rate_too_low, still_improving, overfitting, underfitting, good_balance,
    noisy, gradients_along_depth, dead_units, saturated_units, initial_loss, leaking, imbalance, within_noise,
)  # fmt: skip
LAYERS = ("dead units", "saturated units", "vanishing gradients", "exploding gradients")
EXPLAINS = {  # what a finding makes of no interest beside it
    "not a number": (
        "exploding loss",
        "not learning",
        "rate too high",
        "bad start",
        "noisy",
        "still improving",
        *LAYERS,
    ),
    "exploding loss": ("not learning", "still improving", "underfitting", "noisy"),
    "not learning": ("underfitting", "still improving", "noisy", "overfitting", "differences within noise"),
    "rate too high": ("not learning", "noisy", "still improving", "underfitting"),
    "rate too low": ("not learning", "still improving", "underfitting"),
    "overfitting": ("good balance", "still improving"),
    "still improving": ("underfitting", "good balance"),
    "noisy": ("differences within noise",),
}


def diagnose(rows: Rows, snapshots: Rows, facts: Facts) -> list[Finding]:
    """All findings, the urgent ones first; what a graver finding explains is left out."""
    record = Record(rows, snapshots, facts)
    found = [finding for check in CHECKS if (finding := check(record)) is not None]
    names = {finding.name for finding in found}
    hidden = {loser for winner, losers in EXPLAINS.items() if winner in names for loser in losers}
    order = ("urgent", "warning", "hint", "good")
    return sorted((f for f in found if f.name not in hidden), key=lambda f: order.index(f.kind))


def urgent(rows: Rows, snapshots: Rows, facts: Facts) -> list[Finding]:
    """What cannot wait until the end of the run."""
    return [finding for finding in diagnose(rows, snapshots, facts) if finding.kind == "urgent"]


__all__ = ["CHECKS", "Finding", "Record", "diagnose", "urgent"]
