"""Images that are decoded or augmented one by one: threads or processes make whole batches ahead of the training."""

from __future__ import annotations

import contextlib
import copy
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.decode import Undecodable, decoding_threads
from trainer.data.images import ImageFiles, Images
from trainer.data.loader import Loader, LoaderArguments
from trainer.data.readable import all_undecodable
from trainer.data.sources import Source
from trainer.hardware import usable_cores

if TYPE_CHECKING:
    from trainer.augmentation.per_image import PerImagePipeline

PREFETCH = 2  # batches that threads make ahead of the training, per worker; scripts/bench_decode.py --ahead compares


class BatchRequest(NamedTuple):
    """The images of a batch, and what seeds its random numbers."""

    indices: list[int]
    key: list[int]


class Broken(NamedTuple):
    """A file that cannot be decoded, and why."""

    path: Source
    reason: str


class BatchMaker(Dataset):
    """Makes one batch at a time, uint8 (N, C, H, W), so that the augmentation is seeded once per batch."""

    def __init__(self, dataset: Images, size: int, pipeline: PerImagePipeline | None) -> None:
        self.dataset, self.size, self.pipeline = dataset, size, pipeline

    def __getitem__(self, request: BatchRequest) -> Tensor | Broken:
        """Return the batch, or the reason why a file cannot be decoded: a worker would wrap an exception in its traceback."""
        try:
            if isinstance(self.dataset, ImageFiles) and not (self.pipeline is not None and self.pipeline.resizes):
                images = [self.dataset.center_crop(i, self.size) for i in request.indices]
            else:
                images = [self.dataset.read(i) for i in request.indices]
            if self.pipeline is not None:
                images = self.pipeline(images, np.random.default_rng(request.key))
        except Undecodable as error:
            return Broken(error.path, error.reason)
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def start_worker(_: int) -> None:
    """Let a worker process compute in one thread and ignore Ctrl-C, to which the main process reacts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class StreamingLoader(Loader):
    """Loads batches in threads or processes and normalizes them on the device. The number of workers does not change the batches.

    Args:
        dataset: See ``Loader``, which also describes the arguments that are not listed here.
        shape: (C, H, W) of the batches.
        pipeline: Augmentation of single images, or None.
        num_workers: Threads or processes; 0 for the calling thread; ``auto`` for one per core, at most 8, to decode files,
            and 0 for images in memory.
        worker_type: ``auto`` takes threads if images are only decoded, which OpenCV does without the GIL, and processes
            if they are augmented.
    """

    def __init__(
        self,
        dataset: Images,
        *,
        shape: tuple[int, int, int],
        pipeline: PerImagePipeline | None = None,
        num_workers: int | Literal["auto"] = "auto",
        worker_type: Literal["auto", "thread", "process"] = "auto",
        **arguments: Unpack[LoaderArguments],
    ) -> None:
        super().__init__(dataset, **arguments)
        if num_workers == "auto":
            num_workers = min(usable_cores(), 8) if isinstance(dataset, ImageFiles) else 0
        self.num_workers, self.batch_maker = num_workers, BatchMaker(dataset, shape[1], pipeline)
        self.threads = worker_type == "thread" or (worker_type == "auto" and pipeline is None)

    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        requests = [BatchRequest(i.tolist(), self.key(epoch, batch)) for batch, i in self.indices(epoch, start)]
        made = self._in_threads(requests) if self.threads and self.num_workers else self._in_processes(requests)
        with contextlib.closing(made):
            for (indices, _), x in zip(requests, made, strict=True):
                if isinstance(x, Broken):
                    assert isinstance(self.dataset, ImageFiles)
                    error = all_undecodable(self.dataset, Undecodable(x.path, x.reason))
                    error.of_one_process = True
                    raise error
                targets = self.targets_of(torch.tensor(indices, device=self.device))
                yield self.normalize(x.to(self.device, non_blocking=True)), targets

    def without_augmentation(self, batch_size: int) -> StreamingLoader:
        loader = copy.copy(self)
        loader.batch_maker = BatchMaker(self.dataset, self.batch_maker.size, None)
        loader.batch_size, loader.threads = batch_size, self.num_workers > 0
        return loader

    def _in_processes(self, requests: list[BatchRequest]) -> Generator[Tensor | Broken, None, None]:
        yield from DataLoader(
            self.batch_maker,
            sampler=requests,  # pyright: ignore[reportArgumentType]
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # else the loader would draw from torch's global generator
            pin_memory=self.device.type == "cuda",
        )

    def _in_threads(self, requests: list[BatchRequest]) -> Generator[Tensor | Broken, None, None]:
        """Make one batch per thread, some ahead of the training, and yield them in order."""
        pending: deque[Future[Tensor | Broken]] = deque()
        with decoding_threads(self.num_workers) as pool:
            for request in requests:
                pending.append(pool.submit(self._make, request))
                if len(pending) > PREFETCH * self.num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _make(self, request: BatchRequest) -> Tensor | Broken:
        batch = self.batch_maker[request]
        return batch.pin_memory() if self.device.type == "cuda" and isinstance(batch, Tensor) else batch
