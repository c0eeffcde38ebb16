"""Evaluation: loss and accuracy of a model over a set, in the same precision and manner as training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from trainer.engine.distributed import means, same_buffers
from trainer.engine.run import Batches, Precision, Run
from trainer.metrics import Sums, soft_cross_entropy


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches, precision: Precision) -> dict[str, float]:
    """Mean ``loss`` (cross-entropy, nats) and ``accuracy`` (share) over all pictures; the model's mode is put back."""
    was_training = model.training
    model.eval()
    sums = Sums(precision.device)
    for x, y in batches.batches(0):
        with precision.autocast():
            outputs = model(x)
        sums.add(soft_cross_entropy(outputs, y), outputs, y)
    model.train(was_training)
    return means(sums)


def evaluate_run(run: Run) -> dict[str, Any]:
    """The validation columns of a history row: the model's, and the averaged model's where there is one."""
    if run.validation is None:
        return {}
    same_buffers(run.model)

    row = {f"validation_{k}": v for k, v in evaluate(run.model, run.validation, run.precision).items()}
    if run.averaged is not None:
        same_buffers(run.averaged)
        renew(run)

        row |= {f"averaged_{k}": v for k, v in evaluate(run.averaged, run.validation, run.precision).items()}
    return row


def renew(run: Run) -> None:
    """Estimate the averaged model's batch-norm statistics anew from the training pictures, where its kind needs it."""
    if run.averaged is None or not run.averaging.renew or not has_batch_norm(run.averaged):
        return
    device = run.precision.device
    # Dropout draws in this pass, which is no part of training: the generators are put back.
    with torch.random.fork_rng([device] if device.type == "cuda" else []), run.precision.autocast():
        update_bn((x for x, _ in run.train.batches(0)), run.averaged)
    same_buffers(run.averaged, average=True)


def has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
