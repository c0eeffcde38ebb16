"""Pictures that are decoded or changed one by one: whole batches made by workers, the same whatever their number."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.decode import decoders
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.in_memory import BaseLoader
from trainer.errors import ConfigError
from trainer.hardware import usable_cores

Job = tuple[int, list[int], list[int]]  # number, pictures, key of the random numbers
AHEAD = 2  # batches that threads make ahead of the training, for each worker; scripts/bench_decode.py --ahead compares


class Pick(Dataset):
    """Makes one whole batch at a time, so that the augmentation is seeded once a batch."""

    def __init__(self, pictures: ImageArray | ImageFiles, size: int, pipeline: Any) -> None:
        self.pictures, self.size, self.pipeline = pictures, size, pipeline

    def __getitem__(self, job: Job) -> Tensor | str:
        _, indices, key = job
        try:
            if isinstance(self.pictures, ImageFiles) and not getattr(self.pipeline, "resizes", False):
                images = [self.pictures.fitted(i, self.size) for i in indices]
            else:
                images = [self.pictures.read(i) for i in indices]
            if self.pipeline is not None:
                images = self.pipeline(images, np.random.default_rng(key))
        except ConfigError as error:
            return str(error)  # an exception would come out of the worker wrapped in its traceback
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def start_worker(_: int) -> None:
    """One thread each, and no ear for Ctrl-C: the main process decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class StreamingLoader(BaseLoader):
    """Batches made by ``num_workers`` threads or processes (0: by this one; auto: one for each processor but at most 8, 0
    for data in memory); normalised by the batch on the device.

    ``worker_type`` auto takes threads where only decoding is to be done, which OpenCV does without Python's lock, and
    processes where pictures are augmented one by one. The batches are the same whatever makes them.
    """

    def __init__(
        self,
        pictures: Any,
        *,
        shape: tuple[int, int, int],
        num_workers: int | str = "auto",
        worker_type: str = "auto",
        **options: Any,
    ) -> None:
        super().__init__(pictures, **options)
        if num_workers == "auto":
            num_workers = min(usable_cores(), 8) if isinstance(pictures, ImageFiles) else 0
        self.num_workers, self.pick = int(num_workers), Pick(pictures, shape[1], self.pipeline)
        self.threads = worker_type == "thread" or (worker_type == "auto" and self.pipeline is None)

    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Each batch of an epoch, from number ``start`` on: x (N, C, H, W) normalised, y (N, K) probabilities."""
        jobs = [(b, i.tolist(), self.key(epoch, b)) for b, i in self.indices(epoch, start)]
        made = self._by_threads(jobs) if self.threads and self.num_workers else self._by_processes(jobs)
        with contextlib.closing(made):
            for (_, indices, _), x in zip(jobs, made, strict=True):
                if isinstance(x, str):
                    error = ConfigError(x)
                    error.of_one_process = True
                    raise error
                labels = self.labels[torch.tensor(indices, device=self.device)]
                yield self.normalized(x.to(self.device, non_blocking=True)), self.targets[labels]

    def _by_processes(self, jobs: list[Job]) -> Generator[Tensor | str, None, None]:
        yield from DataLoader(
            self.pick,
            sampler=jobs,  # pyright: ignore[reportArgumentType]
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # torch's own would be moved on by the loader
            pin_memory=self.device.type == "cuda",
        )

    def _by_threads(self, jobs: list[Job]) -> Generator[Tensor | str, None, None]:
        """A batch a thread, some ahead of the training, in order."""
        waiting: deque[Future[Tensor | str]] = deque()
        with decoders(self.num_workers) as pool:
            for job in jobs:
                waiting.append(pool.submit(self._made, job))
                if len(waiting) > AHEAD * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _made(self, job: Job) -> Tensor | str:
        found = self.pick[job]
        return found.pin_memory() if self.device.type == "cuda" and isinstance(found, Tensor) else found
