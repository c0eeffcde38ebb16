"""``job=evaluate``: what a checkpoint is worth on one part of some data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import ConfigError, Problem, check
from trainer.run_dir import check_available, create_run_dir, terminal, write_json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.inference import TrainedModel

PARTS = ("test", "validation", "train")


@dataclass(frozen=True)
class Evaluate:
    """Loss, accuracy, accuracy among the ``top`` classes, calibration, a table per class, the confusion matrix and the
    ``worst`` mistakes of ``checkpoint`` on ``split``; the pictures are normalised as in its training.

    ``tta`` averages the logits of each picture and its mirror image (``mirror``), also shifted by a pixel (``mirror_shift``).
    ``confusion.png``, ``mistakes.png`` and ``reliability.png`` lie in the run folder.
    """

    split: Literal["train", "validation", "test", "all", "auto"] = "auto"
    prefer: Literal["best", "last"] = "best"
    weights: Literal["auto", "model", "averaged"] = "auto"
    fuse: bool = False
    tta: Literal["none", "mirror", "mirror_shift"] = "none"
    top: int = 5
    worst: int = 24

    def __post_init__(self) -> None:
        check(self, top=(self.top >= 1, "must be >= 1 class"), worst=(self.worst >= 0, "must be >= 0; 0 = none"))

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        from trainer.inference import splits_for_checkpoint, trained

        found = trained(config, self.prefer, self.weights, self.fuse)
        splits = splits_for_checkpoint(config, found.info)
        parts = self._parts(splits)
        if splits.shape != found.info.shape:
            (h, w), (own_h, own_w) = splits.shape[1:], found.info.shape[1:]
            print(f"these pictures are {h} x {w}; the network was trained on {own_h} x {own_w}")
        outputs, labels = collect_outputs(config, found, splits, parts, self.tta)
        create_run_dir(folder, config.tree, overrides, f"{found.precision.device}, {found.precision.name}")
        scores, bins = compute_scores(outputs, labels, self.top)
        confusion = confusion_matrix(outputs, labels)
        split = "all" if self.split == "all" else parts[0]
        result = {
            "status": "finished", "stop_reason": "evaluated", "checkpoint": str(found.path), "weights": found.weights,
            "tta": self.tta, "split": split, split: scores, "classes": per_class(found.info.classes, confusion),
            "confusion": confusion.tolist(), "reliability": bins,
            "mistakes": highest_loss_errors(outputs, labels, found.info.classes, self.worst),
        }  # fmt: skip
        draw(result, splits, parts, found.info.classes, confusion, folder)
        write_json(folder / "result.json", result)
        show(result, split, folder)
        return 0

    def _parts(self, splits: Splits) -> list[str]:
        """The parts of the data to look at."""
        there = [name for name in PARTS if getattr(splits, name)]
        if self.split == "all":
            return there
        split = there[0] if self.split == "auto" else self.split
        if split not in there:
            allowed = f"allowed here: auto, all, {', '.join(there)}"
            raise ConfigError(Problem("job.split", split, "the data has no such part", allowed))
        return [split]


def collect_outputs(
    config: Config, found: TrainedModel, splits: Splits, parts: list[str], tta: Any = "none"
) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and labels (N,) of all pictures of some parts of the data, in their order."""
    import torch

    from trainer.build import look
    from trainer.engine.evaluation import logits

    outputs, labels = [], []
    with torch.inference_mode():
        for part in parts:
            for x, y in look(config, found.info, splits, part, found.model, found.precision).batches(0):
                outputs.append(logits(found.model, x, found.precision, tta).float().cpu())
                labels.append(y.argmax(1).cpu())
    return torch.cat(outputs), torch.cat(labels)


def compute_scores(outputs: Tensor, labels: Tensor, top: int) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Mean loss (nats), accuracy, top-k accuracy where there are more than k classes, calibration error; its intervals."""
    from torch.nn import functional as F

    from trainer.engine.metrics import calibration, top_accuracy

    error, bins = calibration(outputs, labels)
    scores = {"loss": F.cross_entropy(outputs.double(), labels).item(), "accuracy": top_accuracy(outputs, labels, 1)}
    if 1 < top < outputs.shape[1]:
        scores[f"top{top}"] = top_accuracy(outputs, labels, top)
    return scores | {"ece": error}, bins


def confusion_matrix(outputs: Tensor, labels: Tensor) -> np.ndarray:
    """Counts (K, K): true classes down, predicted ones across."""
    import torch

    k = outputs.shape[1]
    return torch.bincount(labels * k + outputs.argmax(1), minlength=k * k).view(k, k).numpy()


def highest_loss_errors(outputs: Tensor, labels: Tensor, classes: tuple[str, ...], worst: int) -> list[dict[str, Any]]:
    """The wrong answers with the largest loss."""
    from torch.nn import functional as F

    guess = outputs.argmax(1)
    losses = F.cross_entropy(outputs, labels, reduction="none") * (guess != labels)
    order = losses.argsort(descending=True)[: min(worst, int((guess != labels).sum()))].tolist()
    sure = outputs.softmax(1)
    return [
        {
            "index": i, "class": classes[int(labels[i])], "predicted": classes[int(guess[i])],
            "probability": float(sure[i, guess[i]]), "loss": float(losses[i]),
        }
        for i in order
    ]  # fmt: skip


def draw(
    result: dict[str, Any],
    splits: Splits,
    parts: list[str],
    classes: tuple[str, ...],
    confusion: np.ndarray,
    folder: Path,
) -> None:
    """Confusion, calibration and the worst mistakes as pictures; each mistake gets the name of its file, where it has one."""
    import numpy as np

    from trainer.report.figures import confusion_figure, highest_loss_figure
    from trainer.report.lr_range import reliability_figure

    confusion_figure(confusion, list(classes)).savefig(folder / "confusion.png", dpi=110)
    error = result[result["split"]]["ece"]
    reliability_figure(result["reliability"], error).savefig(folder / "reliability.png", dpi=110)
    images, texts = [], []
    for mistake in result["mistakes"]:
        index, part = mistake["index"], iter(parts)
        pictures = getattr(splits, next(part))
        while index >= len(pictures):
            index, pictures = index - len(pictures), getattr(splits, next(part))
        if hasattr(pictures, "paths"):
            mistake["file"] = str(pictures.paths[index])
        images.append(pictures.center_crop(index, splits.shape[1]) / 255)
        texts.append(f"{mistake['class']}\nnot {mistake['predicted']} ({100 * mistake['probability']:.0f} %)")
    if images:
        highest_loss_figure(np.stack(images), texts).savefig(folder / "mistakes.png", dpi=110)


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
    from rich.table import Table

    console = terminal(soft_wrap=True)
    found = result[split]
    console.print(f"{result['checkpoint']} ({result['weights']}) on {split}: "
                  f"accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}, "
                  + "".join(f"{k} {100 * v:.2f} %, " for k, v in found.items() if k.startswith("top"))
                  + f"calibration error {100 * found['ece']:.2f} %")  # fmt: skip
    table = Table("class", "pictures", "recall", "precision", "mistaken for")
    for row in result["classes"]:
        shares = ["" if row[k] is None else f"{100 * row[k]:.1f} %" for k in ("recall", "precision")]
        table.add_row(row["class"], str(row["pictures"]), *shares, row["mistaken_for"] or "")
    console.print(table)
    for mistake in [m for m in result["mistakes"] if "file" in m][:5]:
        text = f"{mistake['file']}: {mistake['class']}, taken for {mistake['predicted']}"
        console.print(f"{text} ({100 * mistake['probability']:.0f} %)", markup=False)
    console.print(f"written to {folder}", markup=False)
