"""What happens when a training step does not fit into memory: ``engine.on_oom``."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from trainer.architectures.layers import norm_of_single_values
from trainer.engine.distributed import world_size
from trainer.engine.run import Run
from trainer.errors import OutOfMemory, is_out_of_memory, memory_reason

Gradients = Callable[["Run", Tensor, Tensor, float], None]


def within_memory(run: Run, x: Tensor, y: Tensor, weight: float, gradients: Gradients) -> None:
    """Compute the gradients of a batch with ``gradients``, in smaller micro-batches if they do not fit into memory.

    Raises:
        OutOfMemory: They do not fit, and ``engine.on_oom=fail``, or not even the smallest micro-batch does.
    """
    start = run.step_start
    if start is not None and not is_capturing():
        start.save(run.model, run.task, run.sums)
    reason = attempt(run, x, y, weight, gradients)
    if reason is None:
        return
    if start is None:
        raise too_large(run, len(x), reason, largest_that_fits(run, x, y, gradients))
    size, part = len(x), min(run.micro_batch or len(x), len(x))
    while reason is not None:
        start.restore(run.sums)
        part = smaller(run, part)
        if part is None:
            raise too_large(run, size, reason, None)
        run.micro_batch, run.capture = part, None
        reason = attempt(run, x, y, weight, gradients)
    run.shrunk = True
    run.alert(
        f"epoch {run.time:.4g}: a step of {size} images does not fit into memory: from here on micro_batch={part}, whose "
        f"gradients are accumulated over the same batch (engine.on_oom=shrink)"
    )


def attempt(run: Run, x: Tensor, y: Tensor, weight: float, gradients: Gradients) -> str | None:
    """Compute the gradients of a batch; return why they do not fit into memory, with all of theirs freed, or None."""
    try:
        gradients(run, x, y, weight)
    except Exception as error:
        # A graph that cannot be captured for lack of memory is not: its step runs without one.
        if not is_out_of_memory(error) or is_capturing():
            raise
        reason = memory_reason(error)
    else:
        return None
    # Only here, because the error's traceback holds the activations.
    run.loss = run.outputs = None
    run.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if run.precision.device.type == "cuda":
        torch.cuda.empty_cache()
    return reason


def largest_that_fits(run: Run, x: Tensor, y: Tensor, gradients: Gradients) -> int | None:
    """The largest ``micro_batch``, halved again and again, of which two fit; None if none does, or with several ranks.

    They have to fit beside what later steps hold: the next batch and the optimizer's state, of two values per weight. The
    statistics of batch normalization are not those of training afterwards: the run must end.
    """
    if world_size() > 1:
        return None  # the others wait in a step of their own
    configured, part = run.micro_batch, min(run.micro_batch or len(x), len(x))
    held = x.nbytes + 2 * sum(parameter.nbytes for parameter in run.model.parameters())
    try:
        later = torch.empty(held, dtype=torch.uint8, device=x.device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    try:
        while (part := smaller(run, part)) is not None:
            run.micro_batch = part
            if attempt(run, x[: 2 * part], y[: 2 * part], 1.0, gradients) is None:
                return part
        return None
    finally:
        del later
        run.micro_batch = configured


def smaller(run: Run, part: int) -> int | None:
    """The next smaller micro-batch than ``part``: half of it, or less if batch normalization would see a single image."""
    sizes = {run.train.images_in(batch) for batch in (0, len(run.train) - 1)}
    shape = run.info.shape
    while part > 1:
        part = (part + 1) // 2
        if not any(part == 1 or size % part == 1 for size in sizes) or norm_of_single_values(run.model, shape) is None:
            return part
    return None


def too_large(run: Run, size: int, reason: str, fitting: int | None) -> OutOfMemory:
    """The error of a step that does not fit, with what to type."""
    part = min(run.micro_batch or size, size)
    text = f"a training step of {size} images" + (f" in micro-batches of {part}" if part < size else "")
    if fitting is None and world_size() > 1 and part > 1:
        override = f"micro_batch={(part + 1) // 2}"
        return OutOfMemory(text, reason, f"try {override}, which computes the same gradient", override)
    if fitting is None:
        hint = "no micro_batch fits: it needs a smaller data.size, a smaller network, or a device with more memory"
        return OutOfMemory(text, reason, hint)
    hint = (
        f"micro_batch={fitting} fits, with the same gradient, and batch_size={fitting}, with more steps; "
        "engine.on_oom=shrink finds such a micro_batch by itself"
    )
    return OutOfMemory(text, reason, hint, f"micro_batch={fitting}")


def is_capturing() -> bool:
    """Whether the present step is being captured in a CUDA graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
