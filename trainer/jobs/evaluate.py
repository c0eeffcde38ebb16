"""``job=evaluate``: what a checkpoint is worth on one part of some data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.checks import ConfigError, Problem
from trainer.output import check_free, claim, write_json

if TYPE_CHECKING:
    import numpy as np

    from trainer.config import Config
    from trainer.data import Splits


@dataclass(frozen=True)
class Evaluate:
    """Loss, accuracy and a table per class of ``checkpoint`` on ``split``; the pictures are normalised as in its training.

    ``tta`` averages the logits of each picture and its mirror image (``mirror``), also shifted by a pixel (``mirror_shift``).
    """

    split: Literal["train", "validation", "test", "auto"] = "auto"
    prefer: Literal["best", "last"] = "best"
    weights: Literal["auto", "model", "averaged"] = "auto"
    fuse: bool = False
    tta: Literal["none", "mirror", "mirror_shift"] = "none"

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        if config.checkpoint is None:
            problem = Problem(
                "checkpoint", None, "must be given: checkpoint=<run folder or file>", "job=evaluate reads one"
            )
            raise ConfigError(problem)
        check_free(folder)
        from trainer.build import saved_model
        from trainer.engine import checkpoint

        path = checkpoint.find(config.checkpoint, self.prefer)
        content = checkpoint.load(path)
        info = checkpoint.info_of(content)
        averaged = self._averaged(checkpoint.weights_of(content, averaged=True) is not None, content.get("row") or {})
        splits, split = self._splits(config, info)
        model, precision, loader = saved_model(config, info, splits, split)
        weights = checkpoint.weights_of(content, averaged)
        if averaged:  # torch's AveragedModel counts, and calls the model "module"
            weights = {k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"}
        model.load_state_dict(weights)
        if self.fuse:
            from trainer.architectures.fusion import fuse

            model = fuse(model)
        claim(folder, config.tree, overrides, f"{precision.device}, {precision.name}")
        found, confusion = score(model, loader, precision, len(info.classes), self.tta)
        result = {
            "status": "finished",
            "stop_reason": "evaluated",
            "checkpoint": str(path),
            "weights": "averaged" if averaged else "model",
            "tta": self.tta,
        }
        result |= {
            "split": split,
            split: found,
            "classes": per_class(info.classes, confusion),
            "confusion": confusion.tolist(),
        }
        write_json(folder / "result.json", result | {"seconds": 0.0})
        show(result, split, folder)
        return 0

    def _averaged(self, there: bool, row: dict[str, Any]) -> bool:
        """Whether to take the averaged weights; ``auto`` takes them where they were as good on the validation pictures."""
        if self.weights == "averaged" and not there:
            problem = Problem(
                "job.weights", "averaged", "the checkpoint holds no averaged weights", "job.weights=model"
            )
            raise ConfigError(problem)
        as_good = row.get("averaged_accuracy", 1.0) >= row.get("validation_accuracy", 0.0)
        return there and (self.weights == "averaged" or (self.weights == "auto" and as_good))

    def _splits(self, config: Config, info: Any) -> tuple[Splits, str]:
        """The data, normalised as the checkpoint's was, and the part to look at."""
        data = config.data
        if data.normalize == "pretrained":  # the checkpoint knows the numbers; no need to ask the architecture
            data = dataclasses.replace(data, normalize="none")
        splits = data.load()
        if len(splits.classes) != len(info.classes):
            text = f"has {len(splits.classes)} classes, the checkpoint {len(info.classes)}: {', '.join(info.classes)}"
            raise ConfigError(Problem("data", config.tree["data"]["_target_"], text))
        if splits.shape[0] != info.shape[0]:
            text = f"has {splits.shape[0]} channels, the checkpoint takes {info.shape[0]}"
            raise ConfigError(Problem("data", config.tree["data"]["_target_"], text))
        splits = dataclasses.replace(splits, mean=info.mean, std=info.std)
        there = [name for name in ("test", "validation", "train") if getattr(splits, name)]
        split = there[0] if self.split == "auto" else self.split
        if split not in there:
            raise ConfigError(
                Problem("job.split", split, "the data has no such part", f"allowed here: auto, {', '.join(there)}")
            )
        return splits, split


def score(
    model: Any, loader: Any, precision: Any, num_classes: int, tta: Any = "none"
) -> tuple[dict[str, float], np.ndarray]:
    """Mean loss and accuracy, and the confusion matrix: true classes down, predicted ones across."""
    import torch

    from trainer.engine.evaluation import logits
    from trainer.metrics import Sums, soft_cross_entropy

    sums = Sums(precision.device)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=precision.device)
    model.eval()
    with torch.inference_mode():
        for x, y in loader.batches(0):
            outputs = logits(model, x, precision, tta)
            sums.add(soft_cross_entropy(outputs, y), outputs, y)
            confusion += torch.bincount(y.argmax(1) * num_classes + outputs.argmax(1), minlength=num_classes**2)
    return sums.means(), confusion.view(num_classes, num_classes).cpu().numpy()


def per_class(classes: tuple[str, ...], confusion: np.ndarray) -> list[dict[str, Any]]:
    """Pictures, recall, precision and the class most often taken for it, of each class."""
    rows = []
    for i, name in enumerate(classes):
        wrong = confusion[i].copy()
        wrong[i] = 0
        hit, total, claimed = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
        rows.append({
            "class": name,
            "pictures": total,
            "recall": hit / total if total else None,
            "precision": hit / claimed if claimed else None,
            "mistaken_for": classes[int(wrong.argmax())] if wrong.any() else None,
        })  # fmt: skip
    return rows


def show(result: dict[str, Any], split: str, folder: Path) -> None:
    """The scores and the table per class."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    found = result[split]
    console.print(f"{result['checkpoint']} ({result['weights']}) on {split}: "
                  f"accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}")  # fmt: skip
    table = Table("class", "pictures", "recall", "precision", "mistaken for")
    for row in result["classes"]:
        shares = ["" if row[k] is None else f"{100 * row[k]:.1f} %" for k in ("recall", "precision")]
        table.add_row(row["class"], str(row["pictures"]), *shares, row["mistaken_for"] or "")
    console.print(table)
    console.print(f"written to {folder}")
