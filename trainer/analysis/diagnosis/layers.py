"""Checks of the initialization and of the layer statistics: activations and gradients by depth, dead and saturated units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from trainer.analysis.diagnosis.potential import flat_start
from trainer.analysis.diagnosis.record import Finding, Record, number, short
from trainer.formats import ActivationStatistics, Snapshot, WeightStatistics

REVIVING = ("initialization=auto", "activation=leaky_relu", "architecture.norm=batch")  # against dead units
# Against activations that vanish or explode.
KEEPING = ("initialization=auto", "architecture.norm=batch", "initialization=lsuv", "architecture=resnet20")
# Root mean square of the gradient of the last layer, and initial loss relative to that of guessing, from which activations have
# exploded; standard deviation of the inputs, up to which these are not why.
EXPLODED, NORMALIZED = 10.0, 3.0
NARROW = 4  # units of a layer, below which it is hardly wide enough for any task
RATIO = 1e-3  # of the gradients of first and last layers, from which they vanish
UNFIT_RATIO = 5e-3  # likewise, if not even one batch can be fitted
GROWTH, GROWTH_OF_LONG = 100.0, 6.0  # likewise, from which they explode; where the norm of all is above LONG_GRADIENT
LONG_GRADIENT = 30.0
MANY = 8  # images of a batch, at least, over which dead units and gradients can be judged
KILLING = 0.1  # update-to-weight ratio of the first step from which it may be what made units dead
MOST = 0.8  # of the units of a layer: if more are dead, hardly anything passes
REVIVED = 0.5  # of the units that are dead at first, below which those at the end are others
RECOGNIZED = 0.06  # accuracy that other initial weights must gain in a short training
MOVED = 0.3  # update-to-weight ratio from which the activations after the first step are no longer those of the initialization


def narrow(r: Record) -> int:
    """The units of the narrowest layer by the config, if they are too few for the classes; else 0."""
    least = min(r.widths, default=NARROW)
    return least if least < min(NARROW, len(r.dataset_info.get("class_counts") or [])) else 0


def initial(r: Record) -> Snapshot | None:
    """The snapshot of the first step, if that has not changed the weights much, nor made values that are not finite."""
    if r.first is None or any(map(broken, r.first["activations"])):
        return None
    return r.first if _first_step(r.first) < MOVED or _zero_layers(r.first) else None


def _first_step(first: Snapshot) -> float:
    """The update-to-weight ratio of the median layer; 0 without weights."""
    ratios = [number(layer["update_ratio"], 0.0) for layer in first["weights"]]
    return median(ratios) if ratios else 0.0


def identical_units(r: Record) -> Finding | None:
    """All weights of a hidden layer are equal at initialization, and the network does not learn."""
    layers = 0 if r.first is None or not r.struggles else _zero_layers(r.first)
    if not layers:
        return None
    return Finding(
        "identical units",
        f"at step 1 the weights of {layers} hidden layers are zero",
        "Units with equal weights get equal gradients and remain equal: the symmetry must be broken by random weights.",
        ("initialization=auto",),
    )


def _zero_layers(snapshot: Snapshot) -> int:
    return sum(number(layer["rms"]) < 1e-8 and not broken(layer) for layer in snapshot["weights"][:-1])


def broken(layer: WeightStatistics | ActivationStatistics) -> bool:
    """Whether values are NaN or Inf; the other statistics are those of the rest, 0 if there is none."""
    return (layer.get("nonfinite") or 0.0) > 0


def gradients_by_depth(r: Record) -> Finding | None:
    """The gradient vanishes or explodes on its way to the first layers, and the network struggles."""
    # The first snapshot, because training hides bad gradients.
    snapshot = next((s for s in r.snapshots if len(s["weights"]) >= 3), None)
    if snapshot is None or not r.struggles or any(map(broken, snapshot["weights"])):
        return None
    fits = [number(b["loss"]) for b in r.branches("one_batch").values()]
    unfit = not r.learned and bool(fits) and min(fits) > 0.5 * (r.chance_loss or 0.0)
    sizes = [layer["grad_rms"] for layer in snapshot["weights"]]
    tiny = (r.dataset_info.get("batch_size") or MANY) < MANY  # whose batch norms make gradients large
    long = number(snapshot["grad_norm"], 0.0) > LONG_GRADIENT and not tiny
    return gradient_ratio(sizes, snapshot["step"], UNFIT_RATIO if unfit else RATIO, GROWTH_OF_LONG if long else GROWTH)


def gradient_ratio(
    sizes: Sequence[float | None], step: int, ratio: float = RATIO, growth: float = GROWTH
) -> Finding | None:
    """The gradient vanishes or explodes: its root mean square in the layers, from last to first, at a step, falls to less than a
    ratio in at least four of them, or grows to more than ``growth`` times as much in at least three.
    """
    finite = [size for size in sizes if size is not None and math.isfinite(size)]
    if len(finite) < len(sizes) or len(sizes) < 3:
        return None
    first, last = median(finite[: len(finite) // 3 or 1]), finite[-1]
    if last == 0 or ratio < first / last < growth or (first < last and len(sizes) < 4):
        return None
    evidence = (
        f"at step {step} the root mean square of the gradient is {last:.1e} in the last layer, {first:.1e} in "
        "the first layers"
    )
    if first < last:
        meaning = "Hardly any gradient reaches the first layers, so they stay close to their initialization."
        attempt = ("activation=relu", "initialization=auto", "architecture.norm=batch", "architecture=resnet20")
        return Finding("vanishing gradients", evidence, meaning, attempt)
    meaning = "The gradient grows on its way back, so the steps of the first layers are far too large."
    attempt = ("initialization=auto", "architecture.norm=batch", "architecture=resnet20", "optimizer.clip_norm=1")
    return Finding("exploding gradients", evidence, meaning, attempt)


def signal_by_depth(r: Record) -> Finding | None:
    """The activations vanish or explode from layer to layer at initialization, and the network learns little or nothing."""
    if (found := _large_before_the_last(r)) is not None:
        return found
    first = initial(r)
    if first is None or len(first["activations"]) < 3 or not r.struggles:
        return None
    sizes = [(number(layer["std"]), layer["tag"]) for layer in first["activations"]]
    (begin, begin_tag), (end, end_tag) = sizes[0], sizes[-1]
    if begin == 0 or not math.isfinite(begin) or 0.02 < end / begin < 300 or end == 0:
        return None  # exactly zero are dead units
    loss = first["batch_loss"]
    if end > begin and loss is not None and loss < 3 * (r.chance_loss or 0.0):
        return None  # the first step has done it: before it, the outputs were not large
    evidence = f"at step 1 the standard deviation of the activations is {begin:.2g} after {begin_tag}, {end:.2g} after {end_tag}"
    if end < begin:
        meaning = "The image hardly reaches the last layers: their outputs are the same for all images, and so is the gradient."
        return Finding("vanishing activations", evidence, meaning, KEEPING)
    return _exploding_activations(evidence)


def _large_before_the_last(r: Record) -> Finding | None:
    """The gradient of the last of several layers proves that the activations before it were large: it is their product with the
    errors of the classes, which are at most 1, whatever the first step has made of the weights.
    """
    layers = [] if r.first is None else r.first["weights"]
    if r.first is None or len(layers) < 4 or not r.struggles or not r.classifies or any(map(broken, layers)):
        return None
    if r.setting("regularizer", "dropout"):
        return None  # which makes those that it leaves larger
    size, loss, scale = number(layers[-1]["grad_rms"], 0.0), r.first["batch_loss"], r.first.get("input_std") or 0.0
    if not 0 < scale < NORMALIZED or size < EXPLODED or loss is None or loss < EXPLODED * (r.chance_loss or math.inf):
        return None
    return _exploding_activations(
        f"at step 1 the loss is {loss:.3g}, and the gradient of the last layer has root mean square {size:.2g}: the activations "
        f"before it are at least as large, while the inputs have standard deviation {scale:.2g}"
    )


def _exploding_activations(evidence: str) -> Finding:
    meaning = "The outputs grow from layer to layer, and with them the gradient of the layers before."
    return Finding("exploding activations", evidence, meaning, KEEPING)


def dead_from_the_start(r: Record) -> Finding | None:
    """Many units of a layer are never above zero at initialization."""
    worst, last = _most_dead(r, initial(r)), r.snapshots[-1] if r.snapshots else None
    if worst is None or worst[0] < 0.5:
        return None
    if worst[0] < MOST and last is not None and _fraction(last, worst[1]) < REVIVED * worst[0]:
        return None  # those that are left have revived the others
    if r.first is not None and _first_step(r.first) > KILLING and not _zero_layers(r.first):
        return None  # the first step may have done it
    since = " They are so from the beginning: biases or weights are initialized badly."
    return _dead(worst, since, (*REVIVING, r.lower_lr))


def dead_units(r: Record) -> Finding | None:
    """Many units of a layer are never above zero in the end."""
    worst = _most_dead(r, r.snapshots[-1] if r.snapshots else None)
    if worst is None or worst[0] < (0.3 if r.probe is None else 0.5) or dead_from_the_start(r) is not None:
        return None
    return _dead(worst, "", (r.lower_lr, *REVIVING[1:], REVIVING[0]))


def _most_dead(r: Record, snapshot: Snapshot | None) -> tuple[float, str, int] | None:
    """The layer with the most dead units of a network that struggles; None where its units, or the images of a batch, are few."""
    few = min(r.widths, default=NARROW) < NARROW or (r.dataset_info.get("batch_size") or MANY) < MANY
    return None if snapshot is None or few or not r.struggles else _worst_layer(snapshot, "dead")


def _fraction(snapshot: Snapshot, tag: str) -> float:
    """The fraction of dead units of a layer; 1 where it is not known."""
    return next((number(layer["dead"], 1.0) for layer in snapshot["activations"] if layer["tag"] == tag), 1.0)


def _dead(worst: tuple[float, str, int], since: str, attempt: tuple[str, ...]) -> Finding:
    fraction, layer, step = worst
    return Finding(
        "dead units",
        f"{100 * fraction:.0f} % of the units after {layer} are never above zero (step {step})",
        f"A unit that is zero for every image has no gradient and does not recover.{since}",
        attempt,
    )


def saturated_units(r: Record) -> Finding | None:
    """Many outputs of a sigmoid or tanh are where its slope is near zero."""
    first = initial(r)
    attempt = ("initialization=auto", "activation=relu", "architecture.norm=batch", r.lower_lr)
    if first is not None and r.weak:
        fractions = [layer["saturated"] for layer in first["activations"] if layer["saturated"] is not None]
        if len(fractions) >= 2 and median(fractions) >= 0.3:
            return Finding(
                "saturated units",
                f"at step 1, {100 * median(fractions):.0f} % of the outputs of the median layer are at the ends of their range",
                "Where a sigmoid or tanh is flat, hardly any gradient passes. The initial weights are too large.",
                attempt,
            )
    worst = _worst_layer(r.snapshots[-1], "saturated") if r.snapshots and r.struggles else None
    if worst is None or worst[0] < 0.5:
        return None
    fraction, layer, step = worst
    before = next((a["saturated"] for a in ([] if first is None else first["activations"]) if a["tag"] == layer), None)
    moved = r.first is not None and _first_step(r.first) >= MOVED and not _zero_layers(r.first)
    later = moved or (before is not None and before < 0.1)
    return Finding(
        "saturated units",
        f"{100 * fraction:.0f} % of the outputs of {layer} are at the ends of its range (step {step})"
        f"{f', {100 * before:.0f} % at step 1' if later and before is not None else ''}",
        "Where a sigmoid or tanh is flat, hardly any gradient passes."
        f"{' The steps have done it: they are too large.' if later else ''}",
        (r.lower_lr, *attempt[1:3]) if later else attempt,
    )


def high_initial_loss(r: Record) -> Finding | None:
    """The loss of the first batch is far above that of guessing."""
    if r.first is None or r.chance_loss is None or r.dataset_info.get("pretrained"):
        return None
    loss = r.first["batch_loss"]
    if (
        loss is None
        or not math.isfinite(loss)
        or loss < 4 * r.chance_loss
        or not r.struggles
        or r.setting("regularizer", "dropout")
    ):
        return None
    return Finding(
        "high initial loss",
        f"the initial loss is {loss:.3g}; guessing gives {r.chance_loss:.3g}",
        "The initial outputs are far too large, as where initial weights are, and activations grow from layer to layer: the "
        "network is overconfident before training and has to unlearn this first.",
        ("initialization=auto", "data.normalize=dataset"),
    )


def poor_initialization(r: Record) -> Finding | None:
    """A short training from weights of ``initialization=auto`` recognizes far more images than one from the initial weights."""
    branches = () if r.probe is None else r.probe.get("auto_start") or ()
    if len(branches) < 2 or not (r.weak or flat_start(r)):
        return None
    own, auto = branches
    before, after = (number(b.get("validation_accuracy", b["accuracy"]), 0.0) for b in (own, auto))
    if after - before < RECOGNIZED or number(auto["loss"]) > number(own["loss"], math.inf):
        return None
    ratio = None if r.probe is None else r.probe.get("unusual")
    size = "too large or too small" if ratio is None else "too large" if ratio > 1 else "too small"
    times = "" if ratio is None else f"; those of a layer are {short(ratio)} times as large"
    return Finding(
        "poor initialization",
        f"a short training from the initial weights recognizes {100 * before:.1f} % of the images, from those of "
        f"initialization=auto {100 * after:.1f} %{times}",
        f"The initial weights or biases are {size} for this network.",
        ("initialization=auto", "architecture.norm=batch"),
        "warning" if r.weak else "hint",
    )


def _worst_layer(snapshot: Snapshot, statistic: Literal["dead", "saturated"]) -> tuple[float, str, int] | None:
    """Return the largest fraction of units in a snapshot, its layer and the step."""
    values = [(layer.get(statistic), layer["tag"]) for layer in snapshot["activations"]]
    fractions = [(fraction, tag) for fraction, tag in values if fraction is not None]
    return (*max(fractions), snapshot["step"]) if fractions else None
