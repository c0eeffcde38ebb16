"""TensorBoard: train and validation curves on one chart, what varies by the step, the config, and the HPARAMS tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.checks import check
from trainer.observers import Watcher
from trainer.observers.events import writer

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.engine.run import Run

SPLITS = {"train": "train_", "validation": "validation_", "averaged": "averaged_"}


@dataclass
class TensorBoard(Watcher):
    """Writes events into ``<run>/train``, ``<run>/validation`` and, with averaging, ``<run>/averaged``: sub-runs whose tags
    are the same, so that their curves share a chart. Batch loss and rates are noted at every ``every``-th step and
    written at the end of the epoch, so that no step waits for the device.
    """

    every: int = 10

    def __post_init__(self) -> None:
        check(self, every=(self.every >= 1, "must be >= 1 step"))

    def on_fit_start(self, run: Run) -> None:
        self.losses: list[Tensor] = []
        self.steps: list[tuple[int, float, float | None]] = []
        if run.folder is None:
            return
        from omegaconf import OmegaConf

        writer(run, "train").add_text("config", "    " + OmegaConf.to_yaml(run.info.config).replace("\n", "\n    "))
        writer(run, "train").add_text("notes", "\n\n".join(run.notes))

    def on_step_end(self, run: Run) -> None:
        if run.clock.step % self.every or run.loss is None:
            return
        group = run.optimizer.param_groups[0]
        momentum = group.get("momentum", group.get("betas", (None,))[0])
        self.losses.append(run.loss)
        self.steps.append((run.clock.step, group["lr"] / group["ratio"], momentum))

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        if run.folder is None:
            return
        self._flush_steps(run)
        for split, prefix in SPLITS.items():
            for name in ("loss", "accuracy"):
                if row.get(prefix + name) is not None:
                    writer(run, split).add_scalar(name, row[prefix + name], row["step"])
        writer(run, "train").add_scalar("speed/images_per_second", row["images_per_second"], row["step"])
        for board in run.writers.values():
            board.flush()

    def _flush_steps(self, run: Run) -> None:
        import torch

        if not self.steps:
            return
        board = writer(run, "train")
        for (step, rate, momentum), loss in zip(self.steps, torch.stack(self.losses).tolist(), strict=True):
            board.add_scalar("batch/loss", loss, step)
            board.add_scalar("batch/lr", rate, step)
            if momentum is not None:
                board.add_scalar("batch/momentum", momentum, step)
        self.losses, self.steps = [], []

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        if run.folder is None:
            return
        self._flush_steps(run)
        self._hparams(run, result)

    def _hparams(self, run: Run, result: dict[str, Any]) -> None:
        """The run's line in the HPARAMS tab, in the run itself: ``add_hparams`` would make another run for it."""
        from torch.utils.tensorboard.summary import hparams

        metrics = {
            f"{part}/{name}": scores[name]
            for part in ("validation", "test")
            if (scores := result.get(part))
            for name in ("accuracy", "loss")
            if scores.get(name) is not None
        }
        board = writer(run, "train")
        for summary in hparams(flat(run.info.config), dict.fromkeys(metrics, 0.0)):
            board.file_writer.add_summary(summary)
        for tag, value in metrics.items():
            board.add_scalar(tag, value, run.clock.step)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings as dotted keys with values that TensorBoard takes; a ``_target_`` becomes the option's class.

    >>> flat({"seed": 0, "optimizer": {"_target_": "trainer.optimizers.Adam", "lr": 0.1}, "widths": [1, 2]})
    {'seed': 0, 'optimizer': 'Adam', 'optimizer.lr': 0.1, 'widths': '[1, 2]'}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + str(key)
        if isinstance(value, dict):
            if "_target_" in value:
                found[name] = value["_target_"].rpartition(".")[2]
            found |= flat({k: v for k, v in value.items() if k != "_target_"}, name + ".")
        elif value is not None:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
