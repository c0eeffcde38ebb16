"""Every trial of a search in TensorBoard's HPARAMS, with its learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from trainer.columns import TaskColumns
from trainer.observers.tensorboard import end_hparams, plain, start_hparams, tag
from trainer.search.choice import bare
from trainer.search.stages import Result


def write_trials(directory: Path, stages: Sequence[tuple[str, Sequence[Result]]], metric: str) -> None:
    """Write a sub-run for each trial: its values, the stage, and the metric after each epoch.

    Args:
        directory: Where the sub-runs are.
        stages: The name and the results of each stage.
        metric: Column of the history; its events are called as those of a run.
    """
    curve = tag(bare(metric), "validation", [TaskColumns("", bare(metric), bare(metric))])
    for name, results in stages:
        for r in results:
            writer = SummaryWriter(str(directory / f"{name}-{r.entry.index:03d}"))
            values = {"stage": name, "trial": r.entry.index, "seed": r.entry.seed, **r.point}
            start_hparams(writer, plain(values))
            for step, value in enumerate(r.curve, start=1):
                writer.add_scalar(curve, value, step)
            end_hparams(writer, finished=r.state in ("done", "pruned"))
            writer.close()
