"""``job=plan``: what would run, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.run_dir import check_available, create_run_dir, terminal, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.engine.run import Run


@dataclass(frozen=True)
class Plan:
    """Build everything, train nothing: steps, the layers and their parameters, arithmetic, memory, the schedule as a
    picture, and the first ``pictures`` pictures before and after augmentation.
    """

    pictures: int = 8

    def __post_init__(self) -> None:
        check(self, pictures=(self.pictures >= 1, "must be >= 1"))

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        from trainer.build import build
        from trainer.observers.images import first_batch, schedule_curve
        from trainer.report.figures import batch_figure, schedule_figure

        run = build(config, folder)
        facts = dataset_info(run)
        create_run_dir(folder, config.tree, overrides, run.notes[0])
        before, after, labels = first_batch(run, self.pictures)
        schedule_figure(schedule_curve(run)).savefig(folder / "schedule.png", dpi=110)
        batch_figure(before, after, [run.info.classes[i] for i in labels]).savefig(folder / "batch.png", dpi=110)
        write_json(folder / "result.json", {"status": "finished", "stop_reason": "planned", **facts})
        show(run, facts, folder)
        return 0


def dataset_info(run: Run) -> dict[str, Any]:
    """Steps, parameters, multiply-adds of a picture, bytes of a step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from trainer.architectures.layers import count_parameters

    shape = (1, *run.info.shape)
    run.model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run.model(torch.zeros(shape, device=run.precision.device))
    run.model.train()
    parameters = count_parameters(run.model)
    size = min(run.micro_batch or run.train.batch_size, run.train.batch_size)
    moments = {"momentum": 1, "betas": 2}.get(run.optimizer_option.momentum_key or "", 0)
    return {
        "phases": [{"name": p.name, "epochs": p.epochs, "steps": run.steps_in(p)} for p in run.phases],
        "steps": run.total_steps,
        "batch_size": run.train.batch_size,
        "pictures": {n: b.num_images for n in ("train", "validation", "test") if (b := getattr(run, n)) is not None},
        "classes": list(run.info.classes),
        "shape": list(run.info.shape),
        "parameters": parameters,
        "multiply_adds_per_picture": counter.get_total_flops() // 2,
        "bytes": {
            "weights, gradients, optimizer": 4 * parameters * (2 + moments + (run.averaged is not None)),
            "kept for the backward pass": kept_bytes(run, size),
        },
    }


def kept_bytes(run: Run, size: int) -> int:
    """Bytes of what autograd keeps of a batch of ``size`` pictures until the backward pass, weights left out."""
    import torch

    weights = {p.data_ptr() for p in run.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    few = min(size, 2)  # a batch of two shows the share of one picture
    buffers = {k: v.clone() for k, v in run.model.state_dict().items()}
    x = torch.zeros((few, *run.info.shape), device=run.precision.device)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), run.precision.autocast():
        outputs = run.model(x)
    del outputs
    run.model.load_state_dict(buffers)  # batch norm counted the pass
    return sum(kept.values()) * size // few


def show(run: Run, facts: dict[str, Any], folder: Path) -> None:
    """The facts in words, and the layers."""
    from rich.table import Table

    from trainer.architectures.layers import weight_layers

    console = terminal(soft_wrap=True)
    for note in run.notes:
        console.print(note, markup=False)
    counts = ", ".join(f"{n:,} {name}" for name, n in facts["pictures"].items())
    console.print(f"{counts} pictures of {' x '.join(map(str, facts['shape']))}, {len(facts['classes'])} classes")
    for phase in facts["phases"]:
        console.print(
            f"phase {phase['name']}: {phase['epochs']:g} epochs, {phase['steps']:,} steps of {facts['batch_size']} pictures"
        )
    console.print(
        f"{facts['parameters']:,} parameters, {facts['multiply_adds_per_picture'] / 1e6:,.2f} million multiply-adds a picture"
    )
    for name, size in facts["bytes"].items():
        console.print(f"memory for {name}: {size / 2**20:,.1f} MiB")
    table = Table("layer", "shape", "parameters", "rate", "decay")
    groups = {id(p): g for g in run.optimizer.param_groups for p in g["params"]}
    for layer in weight_layers(run.model):
        name, first = layer[0]
        group = groups.get(id(first))
        rate, decay = (f"{group['lr']:g}", f"{group['weight_decay']:g}") if group else ("frozen", "")
        table.add_row(
            name.removesuffix(".weight"),
            " x ".join(map(str, first.shape)),
            f"{sum(p.numel() for _, p in layer):,}",
            rate,
            decay,
        )
    console.print(table)
    console.print(f"schedule.png and batch.png are in {folder}")
