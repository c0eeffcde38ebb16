"""Checks of the size of the updates: learning rate, clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from trainer.analysis.diagnosis.layers import narrow
from trainer.analysis.diagnosis.potential import begins_low
from trainer.analysis.diagnosis.record import BRIEF, Finding, Record, number, short
from trainer.analysis.diagnosis.regularization import far_fewer
from trainer.analysis.diagnosis.schedule import LOWERED, MARGIN, lowered_by_schedule
from trainer.measurements import ProbeScores

FAR = 0.8  # loss, relative to that of guessing, above which even the farthest branch is far from a good learning rate
CLIPPED = (
    30  # ratio of the norm of most gradients to that to which they are clipped, from which hardly anything is left
)
HEAVY = 0.97  # momentum, above which steps are far larger than the learning rate says
LARGE_EPS = 1e-3  # in the denominator of Adam and its like, above which it makes steps smaller
LITTLE, MUCH = (
    0.9,
    0.2,
)  # of the loss of guessing: what is left of it after learning little; by how much more is learned
UNLEARNED = 0.97  # of the loss of guessing, above which a short training has learned nothing
KINDS_AT_LOWER = ("from_start", "lower_start")
STANDING = 0.01  # learning rate of the first layer relative to that of the last, below which it stands still


def exploding_loss(r: Record) -> Finding | None:
    """The training loss ends far above that of guessing."""
    losses, chance = r.column("train_loss"), r.chance_loss
    if not losses or chance is None:
        return None
    limit = 2.5 * max(chance, 0.5)
    first = r.first["batch_loss"] if r.first is not None else None
    lowest = min(losses if first is None else [*losses, float(first)])
    if losses[-1] < limit or losses[-1] < 1.5 * lowest:
        return None
    return Finding(
        "exploding loss",
        f"the training loss is {losses[-1]:.3g}; guessing gives {chance:.3g}",
        "The learning rate is too high: each step overshoots the minimum, and the network is worse than guessing.",
        (r.lower_lr, "optimizer.clip_norm=1", "schedule=[warmup,cosine]"),
        "urgent",
    )


def lr_too_high(r: Record) -> Finding | None:
    """A lower learning rate learns more in fewer steps, or steps are large relative to the weights and the loss stays high."""
    if (by_branch := _better_branch(r, (0.01, 0.1))) is not None:
        return _too_high(r, *by_branch)
    if not begins_low(r) and (slower := _slower_at_first(r) or _slower_for_longer(r)) is not None:
        return slower
    if narrow(r):
        return None  # whose steps are large relative to its few weights
    ratios, losses = _update_ratios(r), r.column("train_loss")
    largest = max([*ratios, *r.first_ratio], default=0.0)
    rises = sum(b > 1.02 * a for a, b in pairwise(losses))
    jumpy = len(losses) >= 4 and rises >= 0.3 * (len(losses) - 1)
    died = _dead(r, -1) >= 0.5 and (largest > 0.3 or _dead(r, 0) < 0.3)
    if r.probe is None:
        branches = {factor: number(b["loss"]) for factor, b in r.branches("from_start").items()}
        lower = min((loss for factor, loss in branches.items() if factor < 1), default=0.0)
        unstable = (
            r.struggles
            and lower < branches.get(1.0, math.inf)
            and (largest > 0.03 and (jumpy or not r.learned or r.stuck))
            and bool(ratios)
        )
    else:
        unstable = r.struggles and ((largest > 0.03 and (died or jumpy)) or (largest > 0.1 and not r.learned))
    if not unstable or 0 < r.steps < BRIEF:
        return None
    dead = f"; {100 * _dead(r, -1):.0f} % of the units of a layer have died" if died else ""
    rose = f"; the training loss rose in {rises} of {len(losses) - 1} epochs" if jumpy else ""
    return _too_high(
        r,
        f"a step changes the weights of the median layer by {100 * largest:.2g} % (about 0.1 % is usual){rose}{dead}",
        r.lower_lr,
    )


def _slower_at_first(r: Record) -> Finding | None:
    """In the same number of steps, the learning rate of the run teaches nothing, and a lower one much."""
    branches, probe = r.branches("from_start"), r.probe
    lower = [branches[f] for f in (0.01, 0.1) if f in branches]
    if probe is None or r.chance_loss is None or not r.struggles or not lower or 1.0 not in branches or r.steps < BRIEF:
        return None
    if "lower_start" in probe:
        return None  # a longer one tells more
    best, own = min(lower, key=lambda b: number(b["loss"])), number(branches[1.0]["loss"])
    if own < LITTLE * r.chance_loss or number(best["loss"]) > min(own, r.chance_loss) - MUCH * r.chance_loss:
        return None
    return _too_high(
        r,
        f"{probe['steps']} steps from the initial weights at lr {short(best['lr'])} reach training loss {best['loss']:.3g}, at "
        f"lr {short(r.lr)} {own:.3g}; guessing gives {r.chance_loss:.3g}",
        f"optimizer.lr={short(best['lr'])}",
    )


def _slower_for_longer(r: Record) -> Finding | None:
    """At a tenth of the learning rate, which even learns faster at first, no more steps than the run had learn more."""
    lower, probe = r.branches("lower_start").get(0.1), r.probe
    if probe is None or lower is None or r.chance_loss is None or not r.struggles:
        return None
    fewer = far_fewer(r)
    own, run = r.branches("longer_start").get(1.0, lower), probe["used"]
    # Where as many steps at the learning rate of the run are as good, something else is why the weights that are used are not.
    if _below(lower, own, 0.0) and _below(lower, run, (0.0 if fewer else MARGIN) * r.chance_loss):
        text = f"to training loss {lower['loss']:.3g}; the run, at {short(r.lr)}, has {run['loss']:.3g}"
    elif _below(lower, own, MUCH * r.chance_loss):
        text = f"to training loss {lower['loss']:.3g}, at lr {short(r.lr)} to {own['loss']:.3g}"
    else:
        return None
    most = "far fewer" if fewer else "no more"
    return _too_high(
        r,
        f"a training of {most} steps than the run's, from the initial weights at lr {short(lower['lr'])}, leads {text}",
        f"optimizer.lr={short(lower['lr'])}",
    )


def _below(lower: ProbeScores, higher: ProbeScores, margin: float) -> bool:
    """Whether the losses on training and, if there are any, validation images are lower by more than a margin."""
    keys = [key for key in ("loss", "validation_loss") if key in lower]
    return all(number(lower.get(key), math.nan) <= number(higher.get(key)) - margin for key in keys)


def _too_high(r: Record, evidence: str, attempt: str) -> Finding:
    tried = [number(b["loss"]) for kind in KINDS_AT_LOWER for factor, b in r.branches(kind).items() if factor < 1]
    if min(tried, default=0.0) > UNLEARNED * (r.chance_loss or math.inf):
        attempt = "optimizer.lr=auto"  # no lower one that was tried has learned anything
    momentum, lower = r.setting("optimizer", "momentum"), (attempt, "schedule=[warmup,cosine]")
    if isinstance(momentum, float) and momentum > HEAVY:
        lower = ("optimizer.momentum=0.9", *lower)
        factor = f"{1 / (1 - momentum):.0f}"
        evidence += f"; with optimizer.momentum={momentum:g}, gradients add up to {factor} times the learning rate"
    return Finding(
        "learning rate too high",
        evidence,
        "Steps of this size jump across the minimum instead of descending into it.",
        lower,
    )


def lr_too_low(r: Record) -> Finding | None:
    """A higher learning rate learns more in fewer steps, or steps are tiny relative to the weights and the loss still falls."""
    if (found := lowered_by_schedule(r) or _first_layers_stand_still(r)) is not None:
        return found
    by_branch = _better_branch(r, (10.0, 100.0))
    if by_branch is not None:
        evidence, attempt = by_branch
    else:
        ratios, losses = _update_ratios(r), r.column("train_loss")
        if not ratios or len(losses) < 3 or not 0 < max(ratios) < 1e-4 or r.chance_loss is None or not r.struggles:
            return None
        if losses[-1] < 0.5 * r.chance_loss and losses[-1] > 0.97 * losses[-2]:
            return None
        if _dead(r, -1) > 0.95:
            return None  # without a gradient, whatever the learning rate
        evidence = (
            f"a step changes the weights of the median layer by {100 * max(ratios):.2g} % (about 0.1 % is usual); the "
            f"training loss went from {losses[0]:.3f} to {losses[-1]:.3f}"
        )
        further = f"optimizer.lr={short(r.lr * 100)}" if max(ratios) > 1e-6 else "optimizer.lr=auto"
        attempt = further if max(ratios) < 1e-5 else r.higher_lr
    eps = r.setting("optimizer", "eps")
    if isinstance(eps, float | int) and eps > LARGE_EPS:
        evidence += (
            f"; with optimizer.eps={eps:g}, steps hardly depend on the scale of the gradients, and are smaller by far"
        )
        attempt = "optimizer.eps=1e-8"
    return Finding(
        "learning rate too low",
        evidence,
        "The steps are too small to reach a minimum in this number of epochs.",
        (attempt, "schedule=[cosine]" if r.mean_lr < LOWERED * r.lr else r.epochs(10)),
    )


def _first_layers_stand_still(r: Record) -> Finding | None:
    """The learning rates of the first layers, which were not trained before, are a tiny part of that of the last one."""
    decay = r.setting("optimizer", "layer_decay")
    layers = max(r.snapshots[1:] or r.snapshots, key=lambda s: s.get("lr", 0.0))["weights"] if r.snapshots else []
    if not isinstance(decay, float) or len(layers) < 2 or not r.weak or r.starts_trained:
        return None
    ratios, part = [number(layer["update_ratio"], 0.0) for layer in layers], decay ** (len(layers) - 1)
    if part > STANDING or ratios[0] > STANDING * ratios[-1]:
        return None
    return Finding(
        "learning rate too low",
        f"optimizer.layer_decay={short(decay)} leaves the first of {len(layers)} layers {short(part)} of the learning rate: a "
        f"step changes its weights by {100 * ratios[0]:.2g} %, those of the last layer by {100 * ratios[-1]:.2g} %",
        "The first layers are random and stay so.",
        ("optimizer.layer_decay=1",),
    )


def clipped_too_strongly(r: Record) -> Finding | None:
    """Nearly all gradients are clipped to a small fraction of their norm, and the network struggles.

    The steps of Adam and its like do not depend on the size of the gradient.
    """
    limit, norms = r.setting("optimizer", "clip_norm"), [n for s in r.snapshots if (n := s["grad_norm"]) is not None]
    adaptive = str(r.setting("optimizer", "_target_")).rpartition(".")[2] not in ("SGD", "Momentum", "Nesterov")
    if not isinstance(limit, float | int) or limit <= 0 or not norms or adaptive or not r.struggles:
        return None
    if sorted(norms)[len(norms) // 4] < CLIPPED * limit or max(_update_ratios(r), default=0.0) > 1e-3:
        return None
    return Finding(
        "clipped too strongly",
        f"the norm of the gradient is {short(median(norms))} in the median, and is clipped to optimizer.clip_norm={short(limit)}",
        f"Steps are {median(norms) / limit:,.0f} times smaller than the learning rate says.",
        (f"optimizer.clip_norm={short(max(norms))}", "optimizer.clip_norm=0"),
    )


def _better_branch(r: Record, factors: Sequence[float]) -> tuple[str, str] | None:
    """What a branch at another learning rate reached from the initial weights, if that is less than the whole run; and the
    override for this learning rate, or for an LR range test if it is the farthest one and hardly better than guessing.
    """
    branches, probe = r.branches("from_start"), r.probe
    if probe is None or r.chance_loss is None or not r.struggles or r.steps < BRIEF:
        return None
    compared = [branches[f] for f in factors if f in branches]
    best = min(compared, key=lambda b: number(b["loss"]), default=None)
    margin, used, own = MARGIN * r.chance_loss, probe["used"], branches.get(1.0)
    if best is None:
        return None
    # At a good learning rate, one of a hundred times as much never learns fastest.
    losses = [number(branches[f]["loss"]) for f in (1.0, 10.0, 100.0) if f in branches]
    rising = best["factor"] == 100 and len(losses) == 3 and losses[0] - margin > losses[1] > losses[2] + margin
    if number(best["loss"]) > number(used["loss"]) - (0.0 if rising else margin):
        return None
    if 1 < best["factor"] < 100 and number(best["loss"]) > UNLEARNED * r.chance_loss:
        return None  # it has learned how frequent the classes are; one that is still higher, nothing else
    if own is not None and number(own["loss"]) < number(best["loss"]):
        return None  # the learning rate of the run is better at first: it is not what keeps the loss high
    if (
        not rising
        and "validation_loss" in used
        and number(best.get("validation_loss")) > number(used.get("validation_loss")) - margin
    ):
        return None
    beyond = best["factor"] == 100.0 and number(best["loss"]) > FAR * r.chance_loss
    attempt = "optimizer.lr=auto" if beyond else f"optimizer.lr={short(best['lr'])}"
    text = f"{probe['steps']} steps from the initial weights at lr {short(best['lr'])} reach training loss {best['loss']:.3g}"
    at = short(r.lr) if r.mean_lr > LOWERED * r.lr else f"{short(r.mean_lr)} on average"
    return f"{text}; the run, at {at}, has {used['loss']:.3g} after {r.steps} steps", attempt


def _dead(r: Record, index: int) -> float:
    """The largest fraction of dead units of a layer in a snapshot."""
    fractions = [layer["dead"] or 0.0 for layer in r.snapshots[index]["activations"]] if r.snapshots else []
    return max(fractions, default=0.0)


def _update_ratios(r: Record) -> list[float]:
    """The median layer's update-to-weight ratio, while the learning rate is highest, as a list of at most one value.

    The first of more than two snapshots does not count, nor does a new head that trains alone: it starts near zero, where
    every step is large; nor do steps of less than half of the highest learning rate, as in a warm-up.
    """
    medians: list[float] = []
    peak = r.peak_lr
    snapshots = [s for s in r.snapshots if s.get("phase") != "head" and s.get("lr", peak) >= peak / 2]
    for snapshot in snapshots[1:] if len(snapshots) > 2 else snapshots:
        ratios = [layer["update_ratio"] for layer in snapshot["weights"] if layer["update_ratio"] is not None]
        if ratios:
            medians.append(median(ratios))
    highest = sorted(medians, reverse=True)[: max(1, len(medians) // 2)]
    return [median(highest)] if highest else []
