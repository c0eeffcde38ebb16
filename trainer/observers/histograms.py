"""Layer statistics: distributions of activations, gradients and weights, update sizes, dead and saturated units."""

from __future__ import annotations

import contextlib
import json
import time
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainer.architectures.layers import ACTIVATIONS, find_head
from trainer.engine.evaluation import no_side_effects
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import write_text
from trainer.formats import ActivationStatistics, Result, Snapshot, WeightStatistics
from trainer.observers.context import Context
from trainer.observers.event_writers import write_histogram
from trainer.observers.options import Histograms
from trainer.observers.tensor_stats import Distribution, distributions, sample
from trainer.run_dir import json_safe

DYING = (
    "ReLU",
    "ReLU6",
    "GELU",
    "SiLU",
    "Hardswish",
)  # units that are never above zero get no gradient, or almost none
RANGES = {"Tanh": (-0.99, 0.99), "Sigmoid": (0.01, 0.99)}  # outside, a unit is saturated: its slope is below 0.02
QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)

Activation = tuple[str, str, Tensor]  # name of the layer, its class, its output
Weights = list[tuple[str, nn.Parameter]]


class HistogramsObserver(Observer):
    """Takes a snapshot of the layers at the first step, about every ``every`` steps and at the end.

    A snapshot holds, for each layer, the distribution of activations, gradients and weights, the update-to-weight ratio
    ‖Δw‖/‖w‖, and the fraction of dead and saturated units; and the norm of the whole gradient. It is written to
    ``layers.jsonl`` and TensorBoard.

    A tensor is represented by 4,096 of its values, counted on its device. Activations are those of the first ``images``
    images of the batch in a forward pass of their own in evaluation mode, which has no side effects. A unit (a channel)
    is dead if it was not above zero on any of these images. A snapshot waits until all snapshots, itself included,
    take no more than the fraction ``budget`` of the time.
    """

    provides_statistics: ClassVar[bool] = True

    def __init__(self, option: Histograms, context: Context) -> None:
        self.every, self.images, self.budget = option.every, option.images, option.budget
        self.snapshots, self.writers = context.layer_statistics.snapshots, context.event_writers
        self.losses: list[Tensor] = []
        self.weights_before: Tensor | None = None  # samples from before the next step if a snapshot is due after it
        self.seconds = self.cost = 0.0  # of all snapshots, of the last one

    def on_fit_start(self, view: RunView) -> None:
        self.started, self.last = time.perf_counter(), view.step
        if view.step == 0:
            self.weights_before = weight_samples(view.model)
        if view.folder is None:
            return
        file = view.folder / "layers.jsonl"
        if view.step and file.is_file():  # drop what was written after the checkpoint
            snapshots: list[Snapshot] = [json.loads(line) for line in file.read_text().splitlines()]
            self.snapshots[:] = [snapshot for snapshot in snapshots if snapshot["step"] <= view.step]
        write_text(file, "".join(json.dumps(snapshot) + "\n" for snapshot in self.snapshots))

    def on_step_end(self, view: RunView) -> None:
        if view.loss is None:
            return
        self.losses.append(view.loss)
        del self.losses[:-1000]
        now = time.perf_counter()
        if self.weights_before is not None:
            self._take_snapshot(view, self.weights_before)
            self.weights_before, self.last = None, view.step
            self.cost = time.perf_counter() - now
            if len(self.snapshots) > 1:  # the first one includes warm-up
                self.seconds += self.cost
        elif view.step - self.last >= self.every - 1 and self._fits_into_budget(now):
            self.weights_before = weight_samples(view.model)
            self.seconds += time.perf_counter() - now

    def _fits_into_budget(self, now: float) -> bool:
        return self.seconds + self.cost <= self.budget * (now - self.started)

    def on_fit_end(self, view: RunView, result: Result) -> None:
        if view.batch is not None and (not self.snapshots or self.snapshots[-1]["step"] < view.step):
            self._take_snapshot(view, None)

    def _take_snapshot(self, view: RunView, weights_before: Tensor | None) -> None:
        snapshot, by_kind = layer_snapshot(view, self.images, weights_before, self.losses)
        self.losses.clear()
        self.snapshots.append(snapshot)
        if view.folder is None:
            return
        with (view.folder / "layers.jsonl").open("a") as file:
            file.write(json.dumps(json_safe(snapshot)) + "\n")
        self._write_events(snapshot, by_kind)

    def _write_events(self, snapshot: Snapshot, by_kind: dict[str, list[Distribution]]) -> None:
        writer, step = self.writers("train"), snapshot["step"]
        for kind, rows in (
            ("weights", snapshot["weights"]),
            ("gradients", snapshot["weights"]),
            ("activations", snapshot["activations"]),
        ):
            for row, distribution in zip(rows, by_kind[kind], strict=True):
                write_histogram(writer, f"{kind}/{row['tag']}", distribution, step)
        writer.add_scalar("layers/gradient_norm", snapshot["grad_norm"], step)
        for row in snapshot["weights"]:
            if row["update_ratio"] is not None:
                writer.add_scalar(f"update_to_weight/{row['tag']}", row["update_ratio"], step)
        for row in snapshot["activations"]:
            for name in ("dead", "saturated"):
                if row[name] is not None:
                    writer.add_scalar(f"{name}/{row['tag']}", row[name], step)


def matrices(model: nn.Module) -> Weights:
    """The trainable weights with more than one dimension, by the name of their layer, from first to last layer."""
    return [(name.removesuffix(".weight"), p) for name, p in model.named_parameters() if p.ndim > 1 and p.requires_grad]


def weight_samples(model: nn.Module) -> Tensor:
    """Samples (layers, 4096) of the values of all weights."""
    return torch.stack([sample(p) for _, p in matrices(model)]).clone()


def layer_kind(model: nn.Module, name: str) -> str:
    """The class of the layer that a weight belongs to."""
    modules = dict(model.named_modules())
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return type(modules[name]).__name__


def layer_snapshot(
    view: RunView, images: int, weights_before: Tensor | None, losses: list[Tensor]
) -> tuple[Snapshot, dict[str, list[Distribution]]]:
    """A snapshot of the layers as a line of ``layers.jsonl``, and its distributions of weights, gradients and activations.

    ``weights_before`` holds samples of the weights before the last step; without them there are no update ratios.
    """
    assert view.batch is not None
    layers = [(name, p) for name, p in matrices(view.model) if p.grad is not None]
    weights, gradients = [p.detach() for _, p in layers], [p.grad for _, p in layers if p.grad is not None]
    with torch.no_grad():
        outputs = activations(view, view.batch[0][:images])
        limits = [None] * (2 * len(layers)) + [RANGES.get(kind) for _, kind, _ in outputs]
        all_distributions = distributions([*weights, *gradients, *(a for _, _, a in outputs)], limits)
        batch_losses = torch.stack(losses or [view.loss])  # pyright: ignore
        ratios: list[float | None] = [None] * len(layers)
        if weights_before is not None:
            before, after = weights_before[: len(weights)], torch.stack([sample(p) for p in weights])
            ratios = ((after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)).tolist()
        scalars = [
            gradient_norm(view), batch_losses.mean(), batch_losses.std(correction=0), batch_losses.float().isfinite().all(),
        ]  # fmt: skip
        grad_norm, loss, loss_std, finite = torch.stack([value.float() for value in scalars]).tolist()
        dead = [dead_fraction(a) if kind in DYING else None for _, kind, a in outputs]
    count = len(layers)
    by_kind = {
        "weights": all_distributions[:count],
        "gradients": all_distributions[count : 2 * count],
        "activations": all_distributions[2 * count :],
    }
    snapshot: Snapshot = {
        "step": view.step, "epoch": view.time, "phase": view.phase.name, "grad_norm": grad_norm, "batch_loss": loss,
        "batch_loss_std": loss_std, "batches": len(batch_losses), "finite": bool(finite),
        "weights": weight_rows(view.model, layers, by_kind, ratios),
        "activations": activation_rows(outputs, by_kind["activations"], dead),
    }  # fmt: skip
    return snapshot, by_kind


def gradient_norm(view: RunView) -> Tensor:
    """The norm of the whole gradient of the last step, before clipping."""
    if view.grad_norm is not None:
        return view.grad_norm
    gradients = [p.grad for p in view.model.parameters() if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm()  # pyright: ignore


def weight_rows(
    model: nn.Module, layers: Weights, by_kind: dict[str, list[Distribution]], ratios: list[float | None]
) -> list[WeightStatistics]:
    """For each weight its distribution, its gradient's, and its update-to-weight ratio."""
    return [
        {
            "tag": tag(i, layer_kind(model, name), name),
            "rms": weight.rms,
            "grad_rms": gradient.rms,
            "update_ratio": ratio,
            "nonfinite": weight.nonfinite,
            "quantiles": weight.quantiles(QUANTILES),
            "grad_quantiles": gradient.quantiles(QUANTILES),
        }
        for i, ((name, _), weight, gradient, ratio) in enumerate(
            zip(layers, by_kind["weights"], by_kind["gradients"], ratios, strict=True)
        )
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
