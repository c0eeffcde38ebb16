"""Layer statistics: distributions of activations, gradients and weights, update sizes, dead and saturated units."""

from __future__ import annotations

import contextlib
import json
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from trainer.architectures.layers import ACTIVATIONS, find_head
from trainer.engine.evaluation import no_side_effects
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import append_text, write_text
from trainer.formats import ActivationStatistics, Result, Snapshot, WeightStatistics
from trainer.observers.context import Context
from trainer.observers.event_writer import write_histogram
from trainer.observers.options import Histograms
from trainer.observers.task_info import batch_classes
from trainer.observers.tensor_stats import Distribution, distributions, sample
from trainer.records import read_snapshots
from trainer.run_dir import json_safe

# Units that are never above zero get no gradient, or almost none.
DYING = ("ReLU", "ReLU6", "GELU", "SiLU", "Hardswish")
RANGES = {"Tanh": (-0.99, 0.99), "Sigmoid": (0.01, 0.99)}  # outside, a unit is saturated: its slope is below 0.02
QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)

MAX_SNAPSHOTS = 50  # about, at regular distances; four more near the beginning
Activation = tuple[str, str, Tensor]  # name of the layer, its class, its output


class Weight(NamedTuple):
    """A weight with more than one dimension; the tag is the number, class and name of its layer."""

    tag: str
    name: str
    parameter: nn.Parameter


class Samples(NamedTuple):
    """4,096 values of each weight (layers, 4096), by tag."""

    tags: list[str]
    values: Tensor


class HistogramsObserver(Observer):
    """Takes a snapshot of the layers at the first step, every ``every`` steps, some at the beginning, and at the end.

    A snapshot holds, for each layer, the distribution of activations, gradients and weights, the update-to-weight ratio
    ‖Δw‖/‖w‖, and the fraction of dead and saturated units; and the norm of the whole gradient. It is written to
    ``layers.jsonl`` and TensorBoard.

    A tensor is represented by 4,096 of its values, counted on its device. Activations are those of the first ``images``
    images of the batch in a forward pass of their own in evaluation mode, which has no side effects. A unit (a channel)
    is dead if it was not above zero on any of these images. When snapshots are taken depends on the config and the step
    alone, see ``snapshot_due``: the same run has the same findings on every machine.
    """

    provides_statistics: ClassVar[bool] = True

    def __init__(self, option: Histograms, context: Context) -> None:
        self.every, self.images = option.every, option.images
        self.snapshots, self.events = context.layer_statistics.snapshots, context.event_writer
        self.losses: list[Tensor] = []
        self.before: Samples | None = None  # of the weights before the next step, if a snapshot is due after it

    def on_fit_start(self, view: RunView) -> None:
        self.total_steps = view.total_steps
        self._look_ahead(view)
        if view.folder is None:
            return
        file = view.folder / "layers.jsonl"
        if view.step and file.is_file():  # drop what was written after the checkpoint
            self.snapshots[:] = [snapshot for snapshot in read_snapshots(file) if snapshot["step"] <= view.step]
        write_text(file, "".join(map(json_line, self.snapshots)))

    def on_step_end(self, view: RunView) -> None:
        if view.loss is None:
            return
        self.losses.append(view.loss)
        del self.losses[:-1000]
        if snapshot_due(view.step, self.total_steps, self.every):
            self._take_snapshot(view, self.before)
        self._look_ahead(view)

    def _look_ahead(self, view: RunView) -> None:
        due = snapshot_due(view.step + 1, self.total_steps, self.every)
        self.before = weight_samples(view.model) if due else None

    def on_fit_end(self, view: RunView, result: Result) -> None:
        if view.batch is not None and (not self.snapshots or self.snapshots[-1]["step"] < view.step):
            self._take_snapshot(view, None)

    def _take_snapshot(self, view: RunView, before: Samples | None) -> None:
        snapshot, by_kind = layer_snapshot(view, self.images, before, self.losses)
        self.losses.clear()
        self.snapshots.append(snapshot)
        if view.folder is None:
            return
        append_text(
            view.folder / "layers.jsonl", json_line(snapshot), lambda: "".join(map(json_line, self.snapshots[:-1]))
        )
        self._write_events(snapshot, by_kind)

    def _write_events(self, snapshot: Snapshot, by_kind: dict[str, list[Distribution]]) -> None:
        writer, step = self.events(), snapshot["step"]
        for number, kind, rows in (
            (9, "weights", snapshot["weights"]),
            (8, "gradients", snapshot["weights"]),
            (7, "activations", snapshot["activations"]),
        ):
            for row, distribution in zip(rows, by_kind[kind], strict=True):
                write_histogram(writer, f"{number}_{kind}/{row['tag']}", distribution, step)
        writer.add_scalar("4_steps/gradient_norm", snapshot["grad_norm"], step)
        for row in snapshot["weights"]:
            if row["update_ratio"] is not None:
                writer.add_scalar(f"5_update_to_weight/{row['tag']}", row["update_ratio"], step)
        for row in snapshot["activations"]:
            for name in ("dead", "saturated"):
                if row[name] is not None:
                    writer.add_scalar(f"6_{name}/{row['tag']}", row[name], step)


def snapshot_due(step: int, total_steps: int, every: int) -> bool:
    """Return whether a snapshot is taken after a step: after the first, an eighth, a quarter and half of ``every``, and then
    at multiples of ``every``, so far apart that a run of ``total_steps`` has about 50 of them.

    >>> [step for step in range(1, 1001) if snapshot_due(step, 1000, 200)]
    [1, 25, 50, 100, 200, 400, 600, 800, 1000]
    >>> [step for step in range(1, 100_001) if snapshot_due(step, 100_000, 200)][:7]
    [1, 25, 50, 100, 2000, 4000, 6000]
    """
    distance = every * max(1, round(total_steps / (MAX_SNAPSHOTS * every)))
    return step % distance == 0 or step in {1, every // 8, every // 4, every // 2}


def matrices(model: nn.Module) -> list[Weight]:
    """The trainable weights with more than one dimension, from first to last layer, numbered with those that are frozen."""
    modules = dict(model.named_modules())

    def kind(layer: str) -> str:
        while layer and layer not in modules:
            layer = layer.rpartition(".")[0]
        return type(modules[layer]).__name__

    named = [(name.removesuffix(".weight"), p) for name, p in model.named_parameters() if p.ndim > 1]
    return [Weight(tag(i, kind(name), name), name, p) for i, (name, p) in enumerate(named) if p.requires_grad]


def weight_samples(model: nn.Module) -> Samples:
    """Samples of the values of all trainable weights."""
    weights = matrices(model)
    return Samples([w.tag for w in weights], torch.stack([sample(w.parameter) for w in weights]).clone())


def update_ratios(weights: list[Weight], before: Samples | None) -> list[float | None]:
    """‖Δw‖/‖w‖ of each weight over the last step, from samples; None without those from before it."""
    known = [w for w in weights if before is not None and w.tag in before.tags]
    if before is None or not known:
        return [None] * len(weights)
    old = before.values[[before.tags.index(w.tag) for w in known]]
    new = torch.stack([sample(w.parameter.detach()) for w in known])
    ratios = ((new - old).norm(dim=1) / old.norm(dim=1).clamp_min(1e-12)).tolist()
    found = dict(zip([w.tag for w in known], ratios, strict=True))
    return [found.get(w.tag) for w in weights]


def layer_snapshot(
    view: RunView, images: int, before: Samples | None, losses: list[Tensor]
) -> tuple[Snapshot, dict[str, list[Distribution]]]:
    """A snapshot of the layers as a line of ``layers.jsonl``, and its distributions of weights, gradients and activations.

    ``before`` holds samples of the weights before the last step; without them there are no update ratios.
    """
    assert view.batch is not None
    layers = [weight for weight in matrices(view.model) if weight.parameter.grad is not None]
    weights = [w.parameter.detach() for w in layers]
    gradients = [w.parameter.grad for w in layers if w.parameter.grad is not None]
    with torch.no_grad():
        outputs = activations(view, view.batch[0][:images])
        limits = [None] * (2 * len(layers)) + [RANGES.get(kind) for _, kind, _ in outputs]
        all_distributions = distributions([*weights, *gradients, *(a for _, _, a in outputs)], limits)
        batch_losses = torch.stack(losses or [view.loss])  # pyright: ignore
        ratios = update_ratios(layers, before)
        x = view.batch[0].float()
        scalars = [
            gradient_norm(view), batch_losses.mean(), batch_losses.std(correction=0), batch_losses.float().isfinite().all(),
            x.mean(), x.std(correction=0),
        ]  # fmt: skip
        grad_norm, loss, loss_std, finite, input_mean, input_std = torch.stack(
            [value.float() for value in scalars]
        ).tolist()
        dead = [dead_fraction(a) if kind in DYING else None for _, kind, a in outputs]
    count = len(layers)
    by_kind = {
        "weights": all_distributions[:count],
        "gradients": all_distributions[count : 2 * count],
        "activations": all_distributions[2 * count :],
    }
    snapshot: Snapshot = {
        "step": view.step, "epoch": view.time, "phase": view.phase.name, "lr": view.lr, "grad_norm": grad_norm,
        "batch_loss": loss, "batch_loss_std": loss_std, "batches": len(batch_losses), "finite": bool(finite),
        "batch_images": len(x), "weights": weight_rows(layers, by_kind, ratios),
        "activations": activation_rows(outputs, by_kind["activations"], dead), "input_mean": input_mean, "input_std": input_std,
        "frozen": sum(p.ndim > 1 and not p.requires_grad for p in view.model.parameters()), "batch_classes": batch_classes(view),
    }  # fmt: skip
    return snapshot, by_kind


def gradient_norm(view: RunView) -> Tensor:
    """The norm of the whole gradient of the last step, before clipping."""
    if view.grad_norm is not None:
        return view.grad_norm
    gradients = [p.grad for p in view.model.parameters() if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm()  # pyright: ignore


def weight_rows(
    layers: list[Weight], by_kind: dict[str, list[Distribution]], ratios: list[float | None]
) -> list[WeightStatistics]:
    """For each weight its distribution, its gradient's, and its update-to-weight ratio."""
    return [
        {
            "tag": layer.tag,
            "rms": weight.rms,
            "grad_rms": gradient.rms,
            "update_ratio": ratio,
            "nonfinite": weight.nonfinite,
            "quantiles": weight.quantiles(QUANTILES),
            "grad_quantiles": gradient.quantiles(QUANTILES),
        }
        for layer, weight, gradient, ratio in zip(layers, by_kind["weights"], by_kind["gradients"], ratios, strict=True)
    ]


def activation_rows(
    outputs: list[Activation], statistics: list[Distribution], dead: list[Tensor | None]
) -> list[ActivationStatistics]:
    """For each activation the distribution of its outputs, and the fraction of dead and saturated units if it can have any."""
    return [
        {
            "tag": tag(i, kind, name),
            "kind": kind,
            "mean": output.mean,
            "std": output.std,
            "zero": output.zero,
            "dead": None if fraction is None else float(fraction),
            "saturated": output.saturated if kind in RANGES else None,
            "nonfinite": output.nonfinite,
            "quantiles": output.quantiles(QUANTILES),
        }
        for i, ((name, kind, _), output, fraction) in enumerate(zip(outputs, statistics, dead, strict=True))
    ]


def tag(index: int, kind: str, name: str) -> str:
    """A layer's number, class and name; the number keeps TensorBoard's tags in order.

    >>> tag(3, "Conv2d", "4.branch.1")
    '03_Conv2d_4.branch.1'
    """
    return f"{index:02}_{kind}_{name}"


def dead_fraction(activation: Tensor) -> Tensor:
    """Fraction of the units, channels of (N, C, ...), that are not above zero on any image, at any position."""
    return (activation.transpose(0, 1).flatten(1).amax(1) <= 0).float().mean()


def activations(view: RunView, x: Tensor) -> list[Activation]:
    """The outputs of all activation functions in the order of the forward pass; of a model without modules for them, the
    outputs of all weight layers but the head. Neither the model nor the random number generators change.
    """
    layers = [(name, module) for name, module in view.model.named_modules() if isinstance(module, ACTIVATIONS)]
    if not layers:
        head = find_head(view.model)[1]
        modules = view.model.named_modules()
        layers = [(n, m) for n, m in modules if isinstance(m, nn.Linear | nn.Conv2d) and m is not head]
    outputs: list[Activation] = []
    with contextlib.ExitStack() as stack:
        for name, module in layers:

            def record(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
                calls = sum(n == name or n.startswith(f"{name}~") for n, _, _ in outputs)
                # A copy, because the next layer may work in place.
                outputs.append((f"{name}~{calls}" if calls else name, type(module).__name__, output.detach().clone()))

            stack.callback(module.register_forward_hook(record).remove)
        stack.enter_context(no_side_effects(view.model, view.precision))
        view.model(x)
    return outputs


def json_line(snapshot: Snapshot) -> str:
    """A snapshot as one line of JSON."""
    return json.dumps(json_safe(snapshot)) + "\n"
