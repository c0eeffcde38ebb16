"""The diagnosis: from what was recorded of a run to what it means and what to try. Pure functions of plain values.

``rows`` is the history, ``looks`` what the histograms observer saw of the layers (``layers.jsonl``), ``facts`` what is known
of the data and the run (``facts.json``). Each check returns a finding or None; a check whose input is missing is silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from trainer.statistics import deviation, share_noise

Rows = Sequence[dict[str, Any]]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What was found: the ``evidence`` in numbers, its ``meaning``, overrides to ``attempt``; ``urgent`` cannot wait."""

    name: str
    evidence: str
    meaning: str
    attempt: tuple[str, ...] = ()
    kind: str = "warning"  # urgent | warning | hint | good

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Record:
    """What a diagnosis is made from, with the questions that several checks ask of it."""

    rows: Rows
    looks: Rows
    facts: Facts

    def column(self, name: str) -> list[float]:
        """A column's values of all epochs; empty where an epoch has none or one that is no finite number."""
        values = [row.get(name) for row in self.rows]
        return (
            []
            if any(v is None or not math.isfinite(v) for v in values)
            else [float(v) for v in values if v is not None]
        )

    @property
    def chance(self) -> float | None:
        """The loss of who knows only how frequent the classes are, in nats."""
        return self.facts.get("prior_entropy")

    @property
    def majority(self) -> float:
        """The accuracy of who always says the most frequent class."""
        counts = self.facts.get("class_counts") or [1]
        return max(counts) / max(sum(counts), 1)

    @property
    def lr(self) -> float:
        return float(self.facts.get("lr") or 0.0)

    def learned(self) -> bool:
        """Whether the network knows more than chance, on the cleanest pictures there are."""
        losses = self.column("validation_loss") or self.column("train_loss")
        accuracies = self.column("validation_accuracy") or self.column("train_accuracy")
        n = self.facts.get("validation") or self.facts.get("train") or 1000
        noise = 2 * share_noise(self.majority, n)
        if not losses or not accuracies or self.chance is None:
            return True
        return max(accuracies) > self.majority + noise or min(losses) < 0.95 * self.chance


def diagnose(rows: Rows, looks: Rows, facts: Facts) -> list[Finding]:
    """All findings, the urgent ones first; what a graver finding explains is left out."""
    record = Record(rows, looks, facts)
    found = [finding for check in CHECKS if (finding := check(record)) is not None]
    names = {finding.name for finding in found}
    hidden = {loser for winner, losers in EXPLAINS.items() if winner in names for loser in losers}
    order = ("urgent", "warning", "hint", "good")
    return sorted((f for f in found if f.name not in hidden), key=lambda f: order.index(f.kind))


def urgent(rows: Rows, looks: Rows, facts: Facts) -> list[Finding]:
    """What cannot wait until the end of the run."""
    return [finding for finding in diagnose(rows, looks, facts) if finding.kind == "urgent"]


def not_finite(r: Record) -> Finding | None:
    bad = next((look for look in r.looks if not look["finite"] or look.get("first_nonfinite")), None)
    row = next(
        (row for row in r.rows if not math.isfinite(row.get("train_loss") or 0.0) or row.get("train_loss") is None),
        None,
    )
    if bad is None and row is None:
        return None
    where = (
        f"step {bad['step']} or up to {bad['batches']} steps before"
        if bad
        else f"the epoch that ended at {row['epoch']:g}"
    )  # pyright: ignore
    layer = (
        f"; the first layer whose output is not finite is {bad['first_nonfinite']}"
        if bad and bad.get("first_nonfinite")
        else ""
    )
    return Finding(
        "not a number", f"the loss was not finite at {where}{layer}",
        "The numbers overflowed; nothing learned after that is of use. A rate too high for this network is the usual cause.",
        (f"optimizer.lr={_short(r.lr / 10)}", "optimizer.clip_norm=1", "precision=float32"), "urgent",
    )  # fmt: skip


def exploding(r: Record) -> Finding | None:
    losses, chance = r.column("train_loss"), r.chance
    if not losses or chance is None:
        return None
    limit = 2.5 * max(chance, 0.5)
    if losses[-1] < limit or losses[-1] < 0.8 * max(losses[0], limit):
        return None
    return Finding(
        "exploding loss", f"the training loss is {losses[-1]:.3g}; guessing would cost {chance:.3g}",
        "Each step overshoots, so that the network does worse than one which knows nothing.",
        (f"optimizer.lr={_short(r.lr / 10)}", "optimizer.clip_norm=1", "schedule=[warmup,cosine]"), "urgent",
    )  # fmt: skip


def not_learning(r: Record) -> Finding | None:
    if len(r.rows) < 2 or r.learned() or r.chance is None:
        return None
    losses = r.column("validation_loss") or r.column("train_loss")
    best = max(r.column("validation_accuracy") or r.column("train_accuracy"))
    return Finding(
        "not learning",
        f"after {r.rows[-1]['epoch']:g} epochs the loss is {losses[-1]:.3f} and the best accuracy {best:.3f}; "
        f"guessing gives {r.chance:.3f} and {r.majority:.3f}",
        "The network has found nothing that tells the classes apart: the rate may be far off, the signal may die on its "
        "way through the layers, or the labels may not belong to the pictures.",
        (f"optimizer.lr={_short(r.lr * 10)}", f"optimizer.lr={_short(r.lr / 10)}", "initialization=auto activation=relu", "job=plan"),
    )  # fmt: skip


def rate_too_high(r: Record) -> Finding | None:
    ratios = _update_ratios(r)
    losses = r.column("train_loss")
    rises = sum(b > 1.02 * a for a, b in pairwise(losses))
    jumpy = len(losses) >= 4 and rises >= 0.3 * (len(losses) - 1)
    large = bool(ratios) and max(ratios) > 0.03
    if not (large and (jumpy or not r.learned() or _stuck(r))):
        return None
    return Finding(
        "rate too high",
        f"a step changes the weights by {100 * max(ratios):.2g} % in its median layer (about 0.1 % is usual); the training loss "
        f"rose in {rises} of {max(len(losses) - 1, 0)} epochs",
        "Steps as large as this jump across the valley instead of going down into it.",
        (f"optimizer.lr={_short(r.lr / 10)}", "schedule=[warmup,cosine]"),
    )  # fmt: skip


def rate_too_low(r: Record) -> Finding | None:
    ratios, losses = _update_ratios(r), r.column("train_loss")
    if not ratios or len(losses) < 3 or max(ratios) > 1e-4 or r.chance is None:
        return None
    if losses[-1] < 0.5 * r.chance and losses[-1] > 0.97 * losses[-2]:
        return None
    return Finding(
        "rate too low",
        f"a step changes the weights by {100 * max(ratios):.2g} % in its median layer (about 0.1 % is usual); the training loss "
        f"went from {losses[0]:.3f} to {losses[-1]:.3f}",
        "The network goes the right way in steps so small that it will not arrive.",
        (f"optimizer.lr={_short(r.lr * 10)}", f"epochs={_short(10 * r.rows[-1]['epoch'])}"),
    )  # fmt: skip


def still_improving(r: Record) -> Finding | None:
    losses = r.column("validation_loss") or r.column("train_loss")
    if len(losses) < 3 or r.facts.get("status") == "interrupted":
        return None
    part = max(1, len(losses) // 5)
    before, last = losses[-1 - part], losses[-1]
    gain = (before - last) / part
    if last > min(losses) or gain < 0.02 * max(losses[0] - last, 1e-9) or last < 0.01 or before <= last:
        return None
    return Finding(
        "still improving", f"the loss fell from {before:.3f} to {last:.3f} over the last {part} of {len(losses)} epochs",
        "The run ended before the network had learned what it could.", (f"epochs={_short(2 * r.rows[-1]['epoch'])}",), "hint",
    )  # fmt: skip


def overfitting(r: Record) -> Finding | None:
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or not r.learned():
        return None
    best = min(range(len(validation)), key=validation.__getitem__)
    gap, turned = validation[-1] - train[-1], validation[-1] > 1.1 * validation[best] and best < len(validation) - 1
    wide = gap > 0.3 * max(r.chance or 1.0, 0.5) and validation[-1] > 2 * train[-1]
    if not (wide or (turned and gap > 0 and train[-1] < train[best])):
        return None
    return Finding(
        "overfitting",
        f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}; it was lowest, {validation[best]:.3f}, "
        f"at epoch {r.rows[best]['epoch']:g}",
        "The network learns the training pictures by heart; more of them, made or real, or a regularizer would help more than "
        "training on.",
        ("augmentation=[crop,rotation]", "regularizer=[early_stopping,dropout,label_smoothing]", "regularizer=[mixup]",
         "optimizer.weight_decay=0.005"),
    )  # fmt: skip


def underfitting(r: Record) -> Finding | None:
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(train) < 3 or r.chance is None or not r.learned() or r.facts.get("mixed"):
        return None
    if train[-1] < 0.4 * r.chance or (validation and validation[-1] < 0.4 * r.chance):
        return None
    beside = f", the validation loss {validation[-1]:.3f}" if validation else ""
    if validation and validation[-1] > 1.5 * train[-1]:
        return None  # that is the other illness
    return Finding(
        "underfitting", f"the training loss is {train[-1]:.3f}{beside}; guessing costs {r.chance:.3f}",
        "Even the training pictures are not learned: the network is too small, too strongly regularized, or trained too briefly.",
        ("architecture=resnet20", "regularizer=[]", f"epochs={_short(2 * r.rows[-1]['epoch'])}"),
    )  # fmt: skip


def good_balance(r: Record) -> Finding | None:
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or r.chance is None:
        return None
    gap = validation[-1] - train[-1]
    if validation[-1] > 0.35 * r.chance or gap > 0.15 * r.chance or validation[-1] > 1.1 * min(validation):
        return None
    return Finding(
        "good balance", f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}",
        "The network learned the task and does as well on pictures it has not seen.", kind="good",
    )  # fmt: skip


def noisy(r: Record) -> Finding | None:
    losses = r.column("validation_loss") or r.column("train_loss")
    looks = [look for look in r.looks if look["batches"] >= 8 and look["finite"]]
    if len(losses) < 6 or not looks or not r.learned():
        return None
    bends = [abs(a - 2 * b + c) / 2 for a, b, c in zip(losses[1:], losses[2:], losses[3:], strict=False)]
    wobble, late = median(bends), losses[len(losses) // 2 :]
    if wobble < 0.08 * median(late) or max(late) < 0.05:
        return None
    measured = median(look["batch_loss_std"] for look in looks[-3:])
    size = r.facts.get("batch_size") or 1
    predicted = median(look["picture_loss_std"] for look in looks[-3:]) / math.sqrt(size)
    same = measured < 3 * predicted
    meaning = (
        "The curve jumps because each batch is small: its loss is as uncertain as its size predicts."
        if same
        else "The curve jumps more than the batches' size explains: the steps are too long."
    )
    tries = (f"batch_size={min(4 * size, 1024)}", f"optimizer.lr={_short(r.lr / 4)}", "averaging=ema")
    return Finding(
        "noisy",
        f"from epoch to epoch the loss leaves its trend by {wobble:.3f}, of {median(late):.3f}; batch losses vary by {measured:.3f}, "
        f"{predicted:.3f} of it because batches hold {size} pictures",
        meaning, tries if same else (tries[1], tries[2], tries[0]),
    )  # fmt: skip


def gradients_along_depth(r: Record) -> Finding | None:
    # The first look: what training makes of bad gradients hides them.
    look = next((look for look in r.looks if len(look["weights"]) >= 4), None)
    if look is None:
        return None
    sizes = [layer["grad_rms"] for layer in look["weights"]]
    if any(s is None or not math.isfinite(s) for s in sizes):
        return None
    first, last = median(sizes[: len(sizes) // 3 or 1]), sizes[-1]
    if last == 0 or 1e-3 < first / last < 1e3:
        return None
    vanish = first < last
    return Finding(
        "vanishing gradients" if vanish else "exploding gradients",
        f"at step {look['step']} the gradient's root mean square is {last:.1e} in the last layer, {first:.1e} in the first ones",
        "The layers far from the loss hardly hear of it, so they stay as they were made."
        if vanish else "The signal grows on its way back; the first layers are thrown about.",
        ("activation=relu", "initialization=auto", "architecture.norm=batch", "architecture=resnet20"),
    )  # fmt: skip


def dead_units(r: Record) -> Finding | None:
    worst = _worst(r, "dead")
    if worst is None or worst[0] < 0.3:
        return None
    return Finding(
        "dead units", f"{100 * worst[0]:.0f} % of the units after {worst[1]} are never above zero (step {worst[2]})",
        "A unit that gives zero for every picture has no gradient and does not come back.",
        (f"optimizer.lr={_short(r.lr / 10)}", "activation=leaky_relu", "initialization=auto", "architecture.norm=batch"),
    )  # fmt: skip


def saturated_units(r: Record) -> Finding | None:
    worst = _worst(r, "saturated")
    if worst is None or worst[0] < 0.5:
        return None
    return Finding(
        "saturated units", f"{100 * worst[0]:.0f} % of the outputs of {worst[1]} lie at the ends of its range (step {worst[2]})",
        "Where a sigmoid or tanh is flat, hardly any gradient passes.",
        ("initialization=xavier_uniform", "activation=relu", "architecture.norm=batch", f"optimizer.lr={_short(r.lr / 10)}"),
    )  # fmt: skip


def initial_loss(r: Record) -> Finding | None:
    first = r.looks[0] if r.looks and r.looks[0]["step"] == 1 else None
    if (
        first is None
        or r.chance is None
        or r.facts.get("pretrained")
        or not math.isfinite(first["batch_loss"] or math.nan)
    ):
        return None
    if first["batch_loss"] < 2.5 * r.chance:
        return None
    return Finding(
        "bad start", f"the first loss is {first['batch_loss']:.3g}; a network that knows nothing yet should cost {r.chance:.3g}",
        "The first outputs are far too large: the network is sure before it has seen anything, and has to unlearn that first.",
        ("initialization=auto", "data.normalize=dataset"),
    )  # fmt: skip


def leaking(r: Record) -> Finding | None:
    doubles = {pair: n for pair, n in (r.facts.get("duplicates") or {}).items() if n}
    if not doubles:
        return None
    text = ", ".join(
        f"{n} of {pair.split('/')[1]}'s pictures are in {pair.split('/')[0]} too" for pair, n in doubles.items()
    )
    return Finding(
        "leaking splits", text,
        "The same pictures, byte for byte, are learned from and judged by: the scores are better than the truth.",
        ("take the doubles out of the data",),
    )  # fmt: skip


def imbalance(r: Record) -> Finding | None:
    counts = r.facts.get("class_counts") or []
    if len(counts) < 2 or min(counts) * 5 >= max(counts):
        return None
    names = r.facts.get("classes") or [str(i) for i in range(len(counts))]
    small, large = counts.index(min(counts)), counts.index(max(counts))
    return Finding(
        "unequal classes", f"{names[small]} has {min(counts)} training pictures, {names[large]} {max(counts)}",
        f"Who always says {names[large]} is right in {100 * r.majority:.0f} % of the cases: read the table per class, not accuracy alone.",
        ("job=evaluate checkpoint=<run folder>", "augmentation=[crop,rotation]"), "hint",
    )  # fmt: skip


def within_noise(r: Record) -> Finding | None:
    values, n = r.column("validation_accuracy"), r.facts.get("validation") or 0
    late = values[len(values) // 2 :]
    if len(late) < 4 or n == 0:
        return None
    noise = share_noise(max(late), n)
    if (
        noise < 0.01
        or max(late) - min(late) > noise
        or deviation(late) == 0
        or values.index(max(values)) == len(values) - 1
    ):
        return None
    return Finding(
        "differences within noise",
        f"over the last {len(late)} epochs the validation accuracy stays between {min(late):.4f} and {max(late):.4f}; on {n} pictures "
        f"chance alone moves it by ±{noise:.4f}",
        "Which of these epochs is the best, the pictures decide, not the network; runs that differ by less are not different.",
        (f"data.validation={min(4 * n, 5000)}", "-m seed=0,1,2,3,4"), "hint",
    )  # fmt: skip


CHECKS: tuple[Callable[[Record], Finding | None], ...] = (
    not_finite, exploding, not_learning, rate_too_high, rate_too_low, still_improving, overfitting, underfitting, good_balance,
    noisy, gradients_along_depth, dead_units, saturated_units, initial_loss, leaking, imbalance, within_noise,
)  # fmt: skip
EXPLAINS = {
    "not a number": ("exploding loss", "not learning", "rate too high", "bad start", "noisy", "still improving"),
    "exploding loss": ("not learning", "still improving", "underfitting", "noisy"),
    "not learning": ("underfitting", "still improving", "noisy", "overfitting", "differences within noise"),
    "rate too high": ("noisy", "still improving", "underfitting"),
    "rate too low": ("still improving", "underfitting"),
    "overfitting": ("good balance", "still improving"),
    "still improving": ("underfitting",),
}


def _update_ratios(r: Record) -> list[float]:
    """The median layer's update-to-weight ratio at each look after the first, while the rate is at its highest."""
    found = []
    for look in r.looks[1:] if len(r.looks) > 2 else r.looks:
        mine = [x["update_ratio"] for x in look["weights"] if x["update_ratio"] is not None]
        if mine:
            found.append(median(mine))
    half = sorted(found, reverse=True)[: max(1, len(found) // 2)]
    return [median(half)] if half else []


def _stuck(r: Record) -> bool:
    losses = r.column("train_loss")
    return bool(losses) and r.chance is not None and losses[-1] > 0.5 * r.chance


def _worst(r: Record, name: str) -> tuple[float, str, int] | None:
    """The largest share of any layer at the last look, with the layer and the step."""
    if not r.looks:
        return None
    look = r.looks[-1]
    shares = [(layer[name], layer["tag"]) for layer in look["activations"] if layer.get(name) is not None]
    return (*max(shares), look["step"]) if shares else None


def _short(value: float) -> str:
    """A number as one types it.

    >>> _short(0.005), _short(30.0), _short(1 / 3)
    ('0.005', '30', '0.33')
    """
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
