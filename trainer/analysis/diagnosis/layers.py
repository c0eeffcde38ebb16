"""Checks of the layer statistics: gradients by depth, dead and saturated units, initial loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from trainer.analysis.diagnosis.record import Finding, Record


def gradients_by_depth(r: Record) -> Finding | None:
    """The gradient vanishes or explodes on its way to the first layers."""
    # The first snapshot, because training hides bad gradients.
    snapshot = next((s for s in r.snapshots if len(s["weights"]) >= 4), None)
    if snapshot is None:
        return None
    return gradient_ratio([layer["grad_rms"] for layer in snapshot["weights"]], snapshot["step"])


def gradient_ratio(sizes: Sequence[float | None], step: int) -> Finding | None:
    """The gradient vanishes or explodes: its root mean square in at least four layers, from first to last, at a step."""
    finite = [size for size in sizes if size is not None and math.isfinite(size)]
    if len(finite) < len(sizes) or len(sizes) < 4:
        return None
    first, last = median(finite[: len(finite) // 3 or 1]), finite[-1]
    if last == 0 or 1e-3 < first / last < 1e3:
        return None
    evidence = (
        f"at step {step} the root mean square of the gradient is {last:.1e} in the last layer, {first:.1e} in "
        "the first layers"
    )
    attempt = ("activation=relu", "initialization=auto", "architecture.norm=batch", "architecture=resnet20")
    if first < last:
        meaning = "Hardly any gradient reaches the first layers, so they stay close to their initialization."
        return Finding("vanishing gradients", evidence, meaning, attempt)
    meaning = "The gradient grows on its way back, so the steps of the first layers are far too large."
    return Finding("exploding gradients", evidence, meaning, attempt)


def signal_by_depth(r: Record) -> Finding | None:
    """The activations vanish or explode from layer to layer at initialization, and the network learns little or nothing."""
    first = r.snapshots[0] if r.snapshots and r.snapshots[0]["step"] == 1 else None
    if first is None or len(first["activations"]) < 3 or not (r.stuck or not r.learned):
        return None
    sizes = [(layer["std"], layer["tag"]) for layer in first["activations"]]
    (begin, begin_tag), (end, end_tag) = sizes[0], sizes[-1]
    if not all(math.isfinite(size) for size, _ in sizes) or begin == 0 or 0.02 < end / begin < 300:
        return None
    evidence = f"at step 1 the standard deviation of the activations is {begin:.2g} after {begin_tag}, {end:.2g} after {end_tag}"
    attempt = ("initialization=auto", "architecture.norm=batch", "initialization=lsuv", "architecture=resnet20")
    if end < begin:
        meaning = "The image hardly reaches the last layers: their outputs are the same for all images, and so is the gradient."
        return Finding("vanishing activations", evidence, meaning, attempt)
    meaning = "The outputs grow from layer to layer, and with them the gradient of the layers before."
    return Finding("exploding activations", evidence, meaning, attempt)


def dead_units(r: Record) -> Finding | None:
    """Many units of a layer are never above zero."""
    worst = _worst_layer(r, "dead")
    if worst is None or worst[0] < 0.3:
        return None
    fraction, layer, step = worst
    return Finding(
        "dead units",
        f"{100 * fraction:.0f} % of the units after {layer} are never above zero (step {step})",
        "A unit that is zero for every image has no gradient and does not recover.",
        (r.lower_lr, "activation=leaky_relu", "initialization=auto", "architecture.norm=batch"),
    )


def saturated_units(r: Record) -> Finding | None:
    """Many outputs of a sigmoid or tanh are where its slope is near zero."""
    worst = _worst_layer(r, "saturated")
    if worst is None or worst[0] < 0.5:
        return None
    fraction, layer, step = worst
    return Finding(
        "saturated units",
        f"{100 * fraction:.0f} % of the outputs of {layer} are at the ends of its range (step {step})",
        "Where a sigmoid or tanh is flat, hardly any gradient passes.",
        ("initialization=xavier_uniform", "activation=relu", "architecture.norm=batch", r.lower_lr),
    )


def high_initial_loss(r: Record) -> Finding | None:
    """The loss of the first batch is far above that of guessing."""
    first = r.snapshots[0] if r.snapshots and r.snapshots[0]["step"] == 1 else None
    if first is None or r.chance_loss is None or r.dataset_info.get("pretrained"):
        return None
    loss = first["batch_loss"]
    if loss is None or not math.isfinite(loss) or loss < 2.5 * r.chance_loss:
        return None
    return Finding(
        "high initial loss",
        f"the initial loss is {loss:.3g}; guessing gives {r.chance_loss:.3g}",
        "The initial outputs are far too large: the network is overconfident before training and has to unlearn this first.",
        ("initialization=auto", "data.normalize=dataset"),
    )


def _worst_layer(r: Record, statistic: Literal["dead", "saturated"]) -> tuple[float, str, int] | None:
    """Return the largest fraction of units in the last snapshot, its layer and the step."""
    if not r.snapshots:
        return None
    last = r.snapshots[-1]
    values = [(layer.get(statistic), layer["tag"]) for layer in last["activations"]]
    fractions = [(fraction, tag) for fraction, tag in values if fraction is not None]
    return (*max(fractions), last["step"]) if fractions else None
