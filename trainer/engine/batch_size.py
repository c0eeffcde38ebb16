"""``batch_size=auto``: the batch size from which on a larger one is not faster, or does not fit into memory."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.engine.loader import Loader
from trainer.engine.out_of_memory import attempt
from trainer.engine.run import Run
from trainer.engine.step import accumulate, update
from trainer.errors import OutOfMemory
from trainer.hardware import available_memory, synchronize
from trainer.progress import activity

SMALLEST = 16
STEPS = 20  # of an epoch, at least
GAIN = 1.1  # factor by which twice the images must be faster
REPEATS = 3  # of each size, of which the fastest counts
HEADROOM = 4  # how much more than what is saved for the backward pass a step on a CPU may need, before it is tried


class BatchSize(NamedTuple):
    """A batch size, and why it is not larger."""

    size: int
    reason: str


@activity("choosing the batch size")
def choose_batch_size(run: Run) -> BatchSize:
    """Return the largest power of two whose training step fits into memory, and is a tenth faster per image than half of it.

    An epoch keeps 20 steps. On a CPU, where memory that is not there ends the process, a size is tried only if its activations
    fit four times. The run trains on the way: its weights and its memory are not those of a new one afterwards.

    Args:
        run: A run that is not used otherwise.

    Raises:
        OutOfMemory: Not even the smallest size fits.
    """
    run.capture = None
    count = len(run.train.dataset)
    largest, best = max(1, count // STEPS), BatchSize(0, "")
    size, speed, saved = min(SMALLEST, largest), 0.0, saved_bytes(run, 1)
    x, y = first_images(run.train, size)
    while True:
        room = available_memory() if run.precision.device.type == "cpu" else None
        if best.size and room is not None and HEADROOM * saved * size > room:
            return BatchSize(
                best.size, f"{size} images per step would need more than the {room / 2**30:.1f} GiB that are free"
            )
        reason = attempt(run, x, y, 1.0, step)
        if reason is not None:
            if not best.size:
                hint = "it needs a smaller data.size, a smaller network, or a device with more memory"
                raise OutOfMemory(f"a training step of {size} images", reason, hint)
            return BatchSize(best.size, f"{size} images per step do not fit into memory")
        previous, speed = speed, size / min(seconds(run, x, y) for _ in range(REPEATS))
        if best.size and speed < GAIN * previous:
            return BatchSize(
                best.size, f"{size} images per step are hardly faster: {speed:,.0f} and {previous:,.0f} images/s"
            )
        best = BatchSize(size, f"more would leave fewer than {STEPS} steps per epoch")
        if 2 * size > largest:
            return best
        size *= 2
        x, y = first_images(run.train, size)


def step(run: Run, x: Tensor, y: Tensor, weight: float) -> None:
    """A training step without the time of loading and augmenting images."""
    if run.regularizer.acts_on_batch:
        x, y = run.regularizer.batch(x, y)
    accumulate(run, x, y, weight)
    update(run)


def seconds(run: Run, x: Tensor, y: Tensor) -> float:
    """The duration of a training step."""
    start = time.perf_counter()
    step(run, x, y, 1.0)
    synchronize(run.precision.device)
    return max(time.perf_counter() - start, 1e-9)


def first_images(loader: Loader, size: int) -> tuple[Tensor, Tensor]:
    """Return a batch of images (N, C, H, W) and targets (N, D), those of an epoch or, if it has fewer, again."""
    xs, ys, found = [], [], 0
    while found < size:
        for x, y in loader.batches(0):
            xs.append(x)
            ys.append(y)
            found += len(x)
            if found >= size:
                break
    return torch.cat(xs)[:size], torch.cat(ys)[:size]


def saved_bytes(run: Run, size: int) -> int:
    """Return the bytes, without weights, that autograd saves of a batch of ``size`` images for the backward pass."""
    weights = {p.data_ptr() for p in run.model.parameters()}
    bytes_by_address: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            bytes_by_address[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = 2  # enough to know what one needs, and as few as a batch norm takes
    state = {k: v.clone() for k, v in run.model.state_dict().items()}
    x = torch.zeros((batch, *run.info.shape), device=run.precision.device)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), run.precision.autocast():
        outputs = run.model(x)
    del outputs
    run.model.load_state_dict(state)  # the pass has changed the statistics of batch norm
    return sum(bytes_by_address.values()) * size // batch
