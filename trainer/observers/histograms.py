"""What the layers do: distributions of activations, gradients and weights, step sizes, dead and saturated units."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.observers import Observer
from trainer.run_dir import json_safe, write

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.engine.run import Run
    from trainer.observers.tensor_stats import Distribution

DYING = ("ReLU", "ReLU6", "GELU", "SiLU", "Hardswish")  # units never above zero have no gradient, or next to none
RANGES = {"Tanh": (-0.99, 0.99), "Sigmoid": (0.01, 0.99)}  # outside, a unit is saturated: its slope is below .02
QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)


@dataclass
class Histograms(Observer):
    """Looks into the network at the first step, about every ``every`` steps and at the end: writes histograms of each layer's
    activations, gradients and weights, its update-to-weight ratio ‖Δw‖/‖w‖, the share of its dead and saturated units and the
    norm of the whole gradient, for TensorBoard and into ``layers.jsonl``.

    A tensor is known by 4,096 of its values, counted where they are; activations are those of ``pictures`` pictures of the
    batch in a pass of its own, in evaluation mode, which leaves no trace. A unit (a channel) is dead where it was not
    above zero on any picture of the look. A look waits until all looks, this one counted, take no more than the share ``budget``
    of the time.
    """

    every: int = 50
    pictures: int = 32
    budget: float = 0.004

    def __post_init__(self) -> None:
        check(
            self,
            every=(self.every >= 2, "must be >= 2 steps"),
            pictures=(self.pictures >= 1, "must be >= 1"),
            budget=(0 < self.budget <= 1, "must be in (0, 1], a share of the time"),
        )

    def on_fit_start(self, run: Run) -> None:
        self.losses: list[Tensor] = []
        self.spent, self.cost, self.began, self.last = 0.0, 0.0, time.perf_counter(), run.clock.step
        self.before = self._weights(run) if run.clock.step == 0 else None
        if run.folder is None:
            return
        file = run.folder / "layers.jsonl"
        if run.clock.step and file.is_file():  # what came after the checkpoint comes again
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            run.snapshots[:] = [row for row in rows if row["step"] <= run.clock.step]
        write(file, "".join(json.dumps(row) + "\n" for row in run.snapshots))

    def on_step_end(self, run: Run) -> None:
        if run.loss is None:
            return
        self.losses.append(run.loss)
        del self.losses[:-1000]
        begun = time.perf_counter()
        if self.before is not None:
            self._look(run, self.before)
            self.before, self.last = None, run.clock.step
            self.cost = time.perf_counter() - begun
            if len(run.snapshots) > 1:  # the first warms up
                self.spent += self.cost
        elif run.clock.step - self.last >= self.every - 1 and self.spent + self.cost <= self.budget * (
            begun - self.began
        ):
            self.before = self._weights(run)  # the next step is looked at
            self.spent += time.perf_counter() - begun

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        if run.batch is not None and (not run.snapshots or run.snapshots[-1]["step"] < run.clock.step):
            self._look(run, None)

    def _weights(self, run: Run) -> Tensor:
        import torch

        from trainer.observers.tensor_stats import sample

        return torch.stack([sample(p) for _, p in matrices(run.model)]).clone()

    def _look(self, run: Run, before: Tensor | None) -> None:
        row, found = look(run, self.pictures, before, self.losses)
        self.losses.clear()
        run.snapshots.append(row)
        if run.folder is None:
            return
        with (run.folder / "layers.jsonl").open("a") as file:
            file.write(json.dumps(json_safe(row)) + "\n")
        self._events(run, row, found)

    def _events(self, run: Run, row: dict[str, Any], found: dict[str, list[Distribution]]) -> None:
        from trainer.observers.event_writer import histogram, writer

        board, step = writer(run, "train"), row["step"]
        for kind, rows in (
            ("weights", row["weights"]),
            ("gradients", row["weights"]),
            ("activations", row["activations"]),
        ):
            for layer, distribution in zip(rows, found[kind], strict=True):
                histogram(board, f"{kind}/{layer['tag']}", distribution, step)
        board.add_scalar("layers/gradient_norm", row["grad_norm"], step)
        for layer in row["weights"]:
            if layer["update_ratio"] is not None:
                board.add_scalar(f"update_to_weight/{layer['tag']}", layer["update_ratio"], step)
        for layer in row["activations"]:
            for name in ("dead", "saturated"):
                if layer[name] is not None:
                    board.add_scalar(f"{name}/{layer['tag']}", layer[name], step)


def matrices(model: nn.Module) -> list[tuple[str, Any]]:
    """The trained weights with more than one dimension, by the name of their layer, from stem to head."""
    return [(name.removesuffix(".weight"), p) for name, p in model.named_parameters() if p.ndim > 1 and p.requires_grad]


def layer_kind(model: nn.Module, name: str) -> str:
    """The class of the layer that a weight belongs to."""
    modules = dict(model.named_modules())
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return type(modules[name]).__name__


def look(
    run: Run, pictures: int, before: Tensor | None, losses: list[Tensor]
) -> tuple[dict[str, Any], dict[str, list[Distribution]]]:
    """One look: the row for ``layers.jsonl`` and the distributions; ``before`` holds samples of the weights a step ago."""
    import torch

    from trainer.observers.tensor_stats import distributions, sample

    assert run.batch is not None
    layers = [(name, p) for name, p in matrices(run.model) if p.grad is not None]
    weights, gradients = [p.detach() for _, p in layers], [p.grad for _, p in layers if p.grad is not None]
    with torch.no_grad():
        seen = activations(run, run.batch[0][:pictures])
        limits = [None] * (2 * len(layers)) + [RANGES.get(kind) for _, kind, _ in seen]
        found = distributions([*weights, *gradients, *(a for _, _, a in seen)], limits)
        norm = run.grad_norm
        if norm is None:
            norm = torch.stack(
                torch._foreach_norm(  # pyright: ignore
                    [p.grad for p in run.model.parameters() if p.grad is not None]
                )
            ).norm()
        batch = torch.stack(losses or [run.loss])  # pyright: ignore
        numbers = [norm, batch.mean(), batch.std(correction=0), batch.float().isfinite().all()]
        ratios: list[float | None] = [None] * len(layers)
        if before is not None:
            after = torch.stack([sample(p) for p in weights])
            ratios = (
                (after - before[: len(after)]).norm(dim=1) / before[: len(after)].norm(dim=1).clamp_min(1e-12)
            ).tolist()
        grad_norm, loss, loss_std, finite = torch.stack([n.float() for n in numbers]).tolist()
        dead = [dead_share(a) if kind in DYING else None for _, kind, a in seen]
    count = len(layers)
    kinds = {"weights": found[:count], "gradients": found[count : 2 * count], "activations": found[2 * count :]}
    row: dict[str, Any] = {
        "step": run.clock.step, "epoch": run.time, "phase": run.phase.name, "grad_norm": grad_norm, "batch_loss": loss,
        "batch_loss_std": loss_std, "batches": len(batch), "finite": bool(finite),
    }  # fmt: skip
    row["weights"] = weight_rows(run.model, layers, kinds, ratios)
    row["activations"] = activation_rows(seen, kinds, dead)
    return row, kinds


def weight_rows(
    model: nn.Module, layers: Any, kinds: dict[str, list[Distribution]], ratios: Any
) -> list[dict[str, Any]]:
    """Of each weight its spread, its gradient's, and how far the step took it."""
    return [
        {
            "tag": tag(i, layer_kind(model, name), name),
            "rms": w.rms,
            "grad_rms": g.rms,
            "update_ratio": ratio,
            "nonfinite": w.nonfinite,
            "quantiles": w.quantiles(QUANTILES),
            "grad_quantiles": g.quantiles(QUANTILES),
        }
        for i, ((name, _), w, g, ratio) in enumerate(
            zip(layers, kinds["weights"], kinds["gradients"], ratios, strict=True)
        )
    ]


def activation_rows(seen: Any, kinds: dict[str, list[Distribution]], dead: Any) -> list[dict[str, Any]]:
    """Of each non-linearity its outputs' spread and the shares of dead and saturated units, where its class has such."""
    return [
        {
            "tag": tag(i, kind, name),
            "kind": kind,
            "mean": a.mean,
            "std": a.std,
            "zero": a.zero,
            "dead": None if d is None else float(d),
            "saturated": a.saturated if kind in RANGES else None,
            "nonfinite": a.nonfinite,
            "quantiles": a.quantiles(QUANTILES),
        }
        for i, ((name, kind, _), a, d) in enumerate(zip(seen, kinds["activations"], dead, strict=True))
    ]


def tag(index: int, kind: str, name: str) -> str:
    """A layer's class and name behind its number, so that TensorBoard keeps them in order.

    >>> tag(3, "Conv2d", "4.branch.1")
    '03_Conv2d_4.branch.1'
    """
    return f"{index:02}_{kind}_{name}"


def dead_share(activation: Tensor) -> Tensor:
    """The share of the units, channels of (N, C, ...), that are not above zero on any picture, anywhere."""
    return (activation.transpose(0, 1).flatten(1).amax(1) <= 0).float().mean()


def activations(run: Run, x: Tensor) -> list[tuple[str, str, Tensor]]:
    """(Name, class, output) of every non-linearity in the order of the pass, of every weight layer but the head
    where the network has no modules for them; nothing of the model or of the random numbers is changed.
    """
    from torch import nn

    from trainer.architectures.layers import ACTIVATIONS, find_head
    from trainer.observers.no_side_effects import no_side_effects

    chosen = [(name, m) for name, m in run.model.named_modules() if isinstance(m, ACTIVATIONS)]
    head = find_head(run.model)[1]
    chosen = chosen or [
        (n, m) for n, m in run.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d) and m is not head
    ]
    seen: list[tuple[str, str, Tensor]] = []
    with contextlib.ExitStack() as stack:
        for name, module in chosen:

            def keep(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                again = sum(n == name or n.startswith(f"{name}~") for n, _, _ in seen)
                # A copy, because the next layer may work in place.
                seen.append((f"{name}~{again}" if again else name, type(module).__name__, output.detach().clone()))

            stack.callback(module.register_forward_hook(keep).remove)
        stack.enter_context(no_side_effects(run))
        run.model(x)
    return seen
