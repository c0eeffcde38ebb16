"""Evaluation: loss and accuracy of a model over a set, in the same precision and manner as training."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from trainer.engine.distributed import means, sync_buffers
from trainer.engine.metrics import RunningMetrics, soft_cross_entropy
from trainer.engine.run import Loader, Precision, Run

TTA = Literal["none", "mirror", "mirror_shift"]


def views(x: Tensor, tta: TTA) -> list[tuple[float, Tensor]]:
    """The views of pictures (N, C, H, W) whose logits are averaged at the test, each with its weight; the weights sum to 1.

    ``mirror``: the picture and its mirror image; ``mirror_shift``: half the weight on these, half on the two moved by one
    pixel up and left and down and right, the edge reflected (Jordan 2024, arXiv:2404.00498, section 3.5).

    >>> [(w, v.flatten().tolist()) for w, v in views(torch.tensor([[[[1.0, 2.0]]]]), "mirror")]
    [(0.5, [1.0, 2.0]), (0.5, [2.0, 1.0])]
    """
    if tta == "none":
        return [(1.0, x)]
    pictures = [(1.0, x)]
    if tta == "mirror_shift":
        h, w = x.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1), "reflect")
        pictures = [(0.5, x), (0.25, padded[:, :, :h, :w]), (0.25, padded[:, :, 2:, 2:])]
    return [(weight / 2, v) for weight, picture in pictures for v in (picture, picture.flip(-1))]


def logits(model: nn.Module, x: Tensor, precision: Precision, tta: TTA = "none") -> Tensor:
    """Logits (N, K) of pictures (N, C, H, W), averaged over the views that ``tta`` names."""
    with precision.autocast():
        if tta == "none":
            return model(x)
        outputs = [weight * model(view).float() for weight, view in views(x, tta)]
    return torch.stack(outputs).sum(0)


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Loader, precision: Precision, tta: TTA = "none") -> dict[str, float]:
    """Mean ``loss`` (cross-entropy, nats) and ``accuracy`` (share) over all pictures; the model's mode is put back."""
    was_training = model.training
    model.eval()
    sums = RunningMetrics(precision.device)
    for x, y in batches.batches(0):
        outputs = logits(model, x, precision, tta)
        sums.add(soft_cross_entropy(outputs, y), outputs, y)
    model.train(was_training)
    return means(sums)


def evaluate_run(run: Run) -> dict[str, Any]:
    """The validation columns of a history row: the model's, and the averaged model's where there is one."""
    if run.validation is None:
        return {}
    sync_buffers(run.model)

    row = {f"validation_{k}": v for k, v in evaluate(run.model, run.validation, run.precision).items()}
    if run.averaged is not None:
        sync_buffers(run.averaged)
        renew(run)

        row |= {f"averaged_{k}": v for k, v in evaluate(run.averaged, run.validation, run.precision).items()}
    return row


def renew(run: Run) -> None:
    """Estimate the averaged model's batch-norm statistics anew from the training pictures, where its kind needs it."""
    if run.averaged is None or not run.averaging.updates_batch_norm or not has_batch_norm(run.averaged):
        return
    device = run.precision.device
    # Dropout draws in this pass, which is no part of training: the generators are put back.
    with torch.random.fork_rng([device] if device.type == "cuda" else []), run.precision.autocast():
        update_bn((x for x, _ in run.train.batches(0)), run.averaged)
    sync_buffers(run.averaged, average=True)


def has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
