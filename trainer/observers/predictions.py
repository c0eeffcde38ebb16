"""What the network gets wrong: the confusion matrix and the worst mistakes, of the best weights on pictures not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.observers import Observer
from trainer.run_dir import write_json

if TYPE_CHECKING:
    import numpy as np

    from trainer.engine.run import Run


@dataclass
class Predictions(Observer):
    """At the end goes through the validation pictures, or the test pictures where there are none, with the best weights:
    ``predictions.json`` (class, prediction, probability and loss of the ``worst`` mistakes, and the confusion matrix),
    ``report/confusion.png``, ``report/mistakes.png``, and the same on TensorBoard.
    """

    worst: int = 24

    def __post_init__(self) -> None:
        check(self, worst=(self.worst >= 1, "must be >= 1"))

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        batches = run.validation or run.test
        if run.folder is None or batches is None or result.get("status") == "failed" or run.clock.step == 0:
            return
        from trainer.observers.images import save
        from trainer.report.figures import confusion_figure, highest_loss_figure

        split = "validation" if run.validation is not None else "test"
        confusion, mistakes, pictures = with_best(run, result, lambda: highest_loss_errors(run, batches, self.worst))
        classes = list(run.info.classes)
        for mistake in mistakes:
            mistake["class"], mistake["predicted"] = classes[mistake["class"]], classes[mistake["predicted"]]
        write_json(
            run.folder / "predictions.json",
            {"split": split, "classes": classes, "confusion": confusion.tolist(), "mistakes": mistakes},
        )
        save(run, "confusion", confusion_figure(confusion, classes), run.clock.step)
        if mistakes:
            texts = [f"{m['class']}\nnot {m['predicted']} ({100 * m['probability']:.0f} %)" for m in mistakes]
            save(run, "mistakes", highest_loss_figure(pictures, texts), run.clock.step)


def with_best(run: Run, result: dict[str, Any], work: Any) -> Any:
    """What ``work`` gives with the best snapshot in the model, as long as the run was not interrupted amid an epoch."""
    from trainer.engine.run import snapshot

    if run.best is None or result.get("status") == "interrupted":
        return work()
    kept = snapshot(run.model)
    run.model.load_state_dict(run.best["model"])
    try:
        return work()
    finally:
        assert kept is not None
        run.model.load_state_dict(kept)


def highest_loss_errors(run: Run, batches: Any, worst: int) -> tuple[np.ndarray, list[dict[str, Any]], np.ndarray]:
    """Confusion counts (K, K), the worst mistakes by loss, and their pictures (n, H, W, C) in 0..1."""
    import torch
    from torch.nn import functional as F

    from trainer.engine.evaluation import logits
    from trainer.observers.no_side_effects import eval_mode

    k = len(run.info.classes)
    confusion = torch.zeros(k * k, dtype=torch.int64, device=run.precision.device)
    kept: list[tuple[float, int, int, int, float, Any]] = []
    seen = 0
    with eval_mode(run.model), torch.inference_mode():
        for x, y in batches.batches(0):
            outputs = logits(run.model, x, run.precision).float()
            true, guess = y.argmax(1), outputs.argmax(1)
            confusion += torch.bincount(true * k + guess, minlength=k * k)
            losses = F.cross_entropy(outputs, y, reduction="none") * (true != guess)
            top = losses.topk(min(worst, len(losses)))
            sure = outputs.softmax(1).amax(1)
            for loss, i in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                if loss > 0:
                    kept.append((loss, seen + i, int(true[i]), int(guess[i]), float(sure[i]), x[i].cpu()))
            kept = sorted(kept, key=lambda found: -found[0])[:worst]
            seen += len(x)
    mistakes = [
        {"index": index, "class": true, "predicted": guess, "probability": sure, "loss": loss}
        for loss, index, true, guess, sure, _ in kept
    ]
    return confusion.view(k, k).cpu().numpy(), mistakes, shown(run, [picture for *_, picture in kept])


def shown(run: Run, pictures: list[Any]) -> np.ndarray:
    """Normalised pictures (C, H, W) as they looked, (n, H, W, C) in 0..1."""
    import torch

    if not pictures:
        return torch.zeros(0, 1, 1, 1).numpy()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (run.info.mean, run.info.std))
    return (torch.stack(pictures).float() * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
