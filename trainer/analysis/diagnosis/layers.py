"""What the layers and the data say."""

from __future__ import annotations

import math
from statistics import median

from trainer.analysis.diagnosis.record import Finding, Record


def gradients_along_depth(r: Record) -> Finding | None:
    # The first look: what training makes of bad gradients hides them.
    look = next((look for look in r.snapshots if len(look["weights"]) >= 4), None)
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
        (r.lower_rate, "activation=leaky_relu", "initialization=auto", "architecture.norm=batch"),
    )  # fmt: skip


def saturated_units(r: Record) -> Finding | None:
    worst = _worst(r, "saturated")
    if worst is None or worst[0] < 0.5:
        return None
    return Finding(
        "saturated units", f"{100 * worst[0]:.0f} % of the outputs of {worst[1]} lie at the ends of its range (step {worst[2]})",
        "Where a sigmoid or tanh is flat, hardly any gradient passes.",
        ("initialization=xavier_uniform", "activation=relu", "architecture.norm=batch", r.lower_rate),
    )  # fmt: skip


def initial_loss(r: Record) -> Finding | None:
    first = r.snapshots[0] if r.snapshots and r.snapshots[0]["step"] == 1 else None
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
        f"Who always says {names[large]} is right in {100 * r.majority:.0f} % of the cases: read the table per class, not "
        "accuracy alone.",
        ("job=evaluate checkpoint=<run folder>", "augmentation=[crop,rotation]"), "hint",
    )  # fmt: skip


def _worst(r: Record, name: str) -> tuple[float, str, int] | None:
    """The largest share of any layer at the last look, with the layer and the step."""
    if not r.snapshots:
        return None
    look = r.snapshots[-1]
    shares = [(layer[name], layer["tag"]) for layer in look["activations"] if layer.get(name) is not None]
    return (*max(shares), look["step"]) if shares else None
