"""Evaluation: loss and accuracy of a model on a split, in the same precision as training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from trainer.augmentation.transforms import TTA
from trainer.engine.distributed import gathered, means, sync_buffers
from trainer.engine.loader import Loader
from trainer.engine.metrics import RunningMetrics
from trainer.engine.random_state import restored_generators
from trainer.engine.run import Run
from trainer.engine.state import Weights, snapshot
from trainer.errors import is_out_of_memory
from trainer.formats import Scores
from trainer.hardware import Precision
from trainer.progress import steps
from trainer.tasks.task import Task


def views(x: Tensor, tta: TTA) -> list[tuple[float, Tensor]]:
    """Views of images (N, C, H, W) for test-time augmentation, each with its weight; the weights sum to 1.

    ``mirror``: the image and its mirror image; ``mirror_shift``: half the weight on these, half on the two shifted by one
    pixel up and left and down and right with reflected edges (Jordan 2024, arXiv:2404.00498, section 3.5).

    >>> [(w, v.flatten().tolist()) for w, v in views(torch.tensor([[[[1.0, 2.0]]]]), "mirror")]
    [(0.5, [1.0, 2.0]), (0.5, [2.0, 1.0])]
    """
    if tta == "none":
        return [(1.0, x)]
    images = [(1.0, x)]
    if tta == "mirror_shift":
        h, w = x.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1), "reflect")
        images = [(0.5, x), (0.25, padded[:, :, :h, :w]), (0.25, padded[:, :, 2:, 2:])]
    return [(weight / 2, v) for weight, image in images for v in (image, image.flip(-1))]


def logits(model: nn.Module, x: Tensor, precision: Precision, tta: TTA = "none") -> Tensor:
    """Outputs (N, O) of images (N, C, H, W), averaged over the views of test-time augmentation ``tta``.

    A batch that does not fit into memory is split into halves, whose outputs are the same up to rounding.
    """
    try:
        with precision.autocast():
            if tta == "none":
                return model(x)
            outputs = [weight * model(view).float() for weight, view in views(x, tta)]
        return torch.stack(outputs).sum(0)
    except Exception as error:
        if not is_out_of_memory(error) or len(x) == 1:
            raise
    return torch.cat([logits(model, half, precision, tta) for half in x.chunk(2)])


@torch.inference_mode()
def evaluate(
    model: nn.Module, loader: Loader, precision: Precision, task: Task, tta: TTA = "none", thresholds_of: str = ""
) -> Scores:
    """Mean ``loss`` and the metrics of the task over all images; the model's mode is restored.

    Args:
        model: The model.
        loader: The images.
        precision: In which the model computes.
        task: What the metrics are.
        tta: Test-time augmentation.
        thresholds_of: For validation images: choose the thresholds of labels for ``model`` or ``averaged`` weights.
    """
    was_training = model.training
    model.eval()
    sums, batches, further = RunningMetrics(task), [], task.further_metrics
    for x, y in steps("evaluating batches", loader.batches(0), len(loader)):
        outputs = logits(model, x, precision, tta)
        sums.add(task.loss(outputs, y), outputs, y)
        if further:
            batches.append((outputs.float(), y))
    model.train(was_training)
    if not further:
        return means(sums)
    outputs, targets = gathered(batches)
    if thresholds_of:
        task.fit_thresholds(thresholds_of, outputs, targets)
    return means(sums) | task.evaluate(outputs, targets)


def evaluate_run(run: Run) -> Scores:
    """The validation columns of a history row: of the model, and of the averaged model if there is one."""
    if run.validation is None:
        return {}
    sync_buffers(run.model)
    scores = evaluate(run.model, run.validation, run.precision, run.task, thresholds_of="model")
    row = {f"validation_{name}": value for name, value in scores.items()}
    if run.averaged is not None:
        sync_buffers(run.averaged)
        update_averaged_bn(run)
        scores = evaluate(run.averaged, run.validation, run.precision, run.task, thresholds_of="averaged")
        row |= {f"averaged_{name}": value for name, value in scores.items()}
    return row


def update_averaged_bn(run: Run) -> None:
    """Estimate the averaged model's batch-norm statistics from the training images, if its kind of averaging needs it."""
    if run.averaged is None or not run.averaging.updates_batch_norm or not has_batch_norm(run.averaged):
        return
    device = run.precision.device
    # Dropout draws random numbers in this pass, which is not part of training: the generators are restored.
    with restored_generators(device), run.precision.autocast():
        update_bn((x for x, _ in run.train.batches(0)), run.averaged)
    sync_buffers(run.averaged, average=True)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a model has batch normalization, in whatever number of dimensions."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


@contextlib.contextmanager
def best_weights(run: Run) -> Iterator[None]:
    """Put the weights of the best epoch into the model and the averaged model, and the thresholds of labels that were chosen for
    them into the task; afterwards, the last ones again.

    Before the end of the first epoch there are no best weights, and nothing changes.
    """
    if run.best is None:
        yield
        return
    last = Weights(model=snapshot(run.model), averaged=snapshot(run.averaged))
    thresholds = run.task.thresholds
    try:
        load_weights(run, run.best)
        run.task.thresholds = run.best.get("thresholds", {})
        yield
    finally:
        load_weights(run, last)
        run.task.thresholds = thresholds


def load_weights(run: Run, weights: Weights) -> None:
    """Load the weights into the model and, with averaging, into the averaged model."""
    run.model.load_state_dict(weights["model"])
    if run.averaged is not None:
        assert weights["averaged"] is not None  # saved with averaging as well
        run.averaged.load_state_dict(weights["averaged"])


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode; afterwards, each of its modules is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def no_side_effects(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Evaluation mode without gradients in the run's precision; random number generators are restored, nothing is compiled."""
    device = precision.device
    is_compiled = getattr(model, "_compiled_call_impl", None) is not None  # set by torch's Module.compile
    with (
        eval_mode(model),
        torch.no_grad(),
        restored_generators(device),
        torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext(),
        precision.autocast(),
    ):
        yield
