"""Pictures that are decoded or changed one by one: whole batches made by workers, the same whatever their number."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.checks import ConfigError
from trainer.data import Files, Pictures
from trainer.data.resident import Loader


class Pick(Dataset):
    """Makes one whole batch at a time, so that the augmentation is seeded once a batch."""

    def __init__(self, pictures: Pictures | Files, size: int, pipeline: Any) -> None:
        self.pictures, self.size, self.pipeline = pictures, size, pipeline

    def __getitem__(self, job: tuple[int, list[int], list[int]]) -> Tensor | str:
        _, indices, key = job
        try:
            images = [self.pictures.read(i) for i in indices]
            resizes = getattr(self.pipeline, "resizes", False)
            if isinstance(self.pictures, Files) and not resizes:
                from trainer.data.decode import fit

                images = [fit(image, self.size) for image in images]
            if self.pipeline is not None:
                images = self.pipeline(images, np.random.default_rng(key))
        except ConfigError as error:
            return str(error)  # an exception would come out of the worker wrapped in its traceback
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def start_worker(_: int) -> None:
    """One thread each, and no ear for Ctrl-C: the main process decides."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class WorkerBatches(Loader):
    """Batches made by ``num_workers`` processes (0: in this one; auto: one for each processor but at most 8, 0 for data
    in memory); normalised by the batch on the device.
    """

    def __init__(
        self, pictures: Any, *, shape: tuple[int, int, int], num_workers: int | str = "auto", **options: Any
    ) -> None:
        super().__init__(pictures, **options)
        if num_workers == "auto":
            num_workers = min(os.cpu_count() or 1, 8) if isinstance(pictures, Files) else 0
        self.num_workers, self.pick = int(num_workers), Pick(pictures, shape[1], self.pipeline)

    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Each batch of an epoch, from number ``start`` on: x (N, C, H, W) normalised, y (N, K) probabilities."""
        jobs = [(b, i.tolist(), [self.seed, epoch, b, 1]) for b, i in self.indices(epoch, start)]
        loader = DataLoader(
            self.pick,
            sampler=jobs,  # pyright: ignore[reportArgumentType]
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # torch's own would be moved on by the loader
            pin_memory=self.device.type == "cuda",
        )
        for (_, indices, _), x in zip(jobs, loader, strict=True):
            if isinstance(x, str):
                raise ConfigError(x)
            labels = self.labels[torch.tensor(indices, device=self.device)]
            yield self.normalised(x.to(self.device, non_blocking=True)), self.targets[labels]
