"""``job=plan``: show what would run, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from trainer.architectures.layers import count_parameters, weight_layers
from trainer.builder import build
from trainer.engine.batch_size import saved_bytes
from trainer.engine.run import Run
from trainer.observers.images import batch_plot, first_batch, schedule_plot
from trainer.report.figures import drawing, save_figure
from trainer.run_dir import check_available, create_run_dir, terminal, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Plan


def plan(option: Plan, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Plan``."""
    check_available(run_dir)
    run = build(config, run_dir)
    summary = summarize(run)
    create_run_dir(run_dir, config.tree, overrides, run.notes[0])
    with drawing("schedule"):
        save_figure(schedule_plot(run).draw(), run_dir / "schedule.png")
    with drawing("batch"):
        save_figure(batch_plot(*first_batch(run, option.images)).draw(), run_dir / "batch.png")
    write_json(run_dir / "result.json", {"status": "finished", "stop_reason": "planned", **summary})
    show(run, summary, run_dir)
    return 0


class PhaseSummary(TypedDict):
    """The length of a phase."""

    name: str
    epochs: float
    steps: int


class PlanSummary(TypedDict):
    """What a run would do, in ``result.json``."""

    phases: list[PhaseSummary]
    steps: int
    batch_size: int
    images: dict[str, int]  # by split
    classes: list[str]
    shape: list[int]
    parameters: int
    multiply_adds_per_image: int
    bytes: dict[str, int]  # of memory


def summarize(run: Run) -> PlanSummary:
    """Return the numbers of steps, images and parameters, multiply-adds per image, and bytes per step."""
    run.model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run.model(torch.zeros((1, *run.info.shape), device=run.precision.device))
    run.model.train()
    parameters = count_parameters(run.model)
    size = min(run.micro_batch or run.train.batch_size, run.train.batch_size)
    buffers = {"momentum": 1, "betas": 2}.get(run.optimizer_option.momentum_key or "", 0)
    loaders = {"train": run.train, "validation": run.validation, "test": run.test}
    return {
        "phases": [{"name": p.name, "epochs": p.epochs, "steps": run.steps_in(p)} for p in run.phases],
        "steps": run.total_steps,
        "batch_size": run.train.batch_size,
        "images": {name: loader.num_images for name, loader in loaders.items() if loader is not None},
        "classes": list(run.info.classes),
        "shape": list(run.info.shape),
        "parameters": parameters,
        "multiply_adds_per_image": counter.get_total_flops() // 2,
        "bytes": {
            "weights, gradients, optimizer": 4 * parameters * (2 + buffers + (run.averaged is not None)),
            "kept for the backward pass": saved_bytes(run, size),
        },
    }


MEMORY = {"kept for the backward pass": "activations kept for the backward pass"}


def show(run: Run, summary: PlanSummary, run_dir: Path) -> None:
    """Print the summary and the table of layers."""
    console = terminal(soft_wrap=True)
    counts = ", ".join(f"{n:,} {name}" for name, n in summary["images"].items())
    lines = [*run.notes]
    lines.append(f"{counts} images of {' x '.join(map(str, summary['shape']))}, {len(summary['classes'])} classes")
    for phase in summary["phases"]:
        steps = f"{phase['steps']:,} steps of {summary['batch_size']} images"
        lines.append(f"phase {phase['name']}: {phase['epochs']:g} epoch{'s' * (phase['epochs'] != 1)}, {steps}")
    flops = f"{summary['multiply_adds_per_image'] / 1e6:,.2f} million multiply-adds per image"
    lines.append(f"{summary['parameters']:,} parameters, {flops}")
    lines += [
        f"memory for {MEMORY.get(name, name)}: {size / 2**20:,.1f} MiB" for name, size in summary["bytes"].items()
    ]
    console.print("\n".join(lines), markup=False)
    console.print(layer_table(run))
    console.print(f"schedule.png and batch.png are in {run_dir}", markup=False)


def layer_table(run: Run) -> Table:
    """Return the layers with the shapes of their weights, learning rate and weight decay."""
    table = Table("layer", "shape", "parameters", "learning rate", "weight decay")
    groups = {id(p): group for group in run.optimizer.param_groups for p in group["params"]}
    for layer in weight_layers(run.model):
        name, weight = layer[0]
        group = groups.get(id(weight))
        lr, decay = (f"{group['lr']:g}", f"{group['weight_decay']:g}") if group else ("frozen", "")
        shape, count = " x ".join(map(str, weight.shape)), sum(p.numel() for _, p in layer)
        table.add_row(name.removesuffix(".weight"), shape, f"{count:,}", lr, decay)
    return table
