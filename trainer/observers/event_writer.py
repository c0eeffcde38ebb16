"""TensorBoard's event writer, shared by all observers of a run: two writers to one directory would conflict."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard import SummaryWriter

from trainer.observers.event_file import EventWriter
from trainer.observers.tensor_stats import Distribution


class LazyEventWriter:
    """The event writer of a run directory, created when it is first needed: a run without events has no file of them.

    If the file cannot be written, ``alert`` says so once, and the run continues without it. ``step`` is the step at which the run
    starts or resumes: events of later steps, written before, are dropped.
    """

    def __init__(self, folder: Path | None, step: int = 0, alert: Callable[[str], None] = print) -> None:
        self.folder, self.step, self.alert = folder, step, alert
        self.writer: SummaryWriter | None = None

    def __call__(self) -> SummaryWriter:
        """The event writer."""
        if self.writer is None:
            if self.folder is None:
                raise ValueError("a run without a run directory writes no events")
            self.writer = EventWriter(self.folder, self.step + 1 if self.step else None, self._report)
        return self.writer

    def _report(self, path: Path, error: OSError) -> None:
        self.alert(f"{path} cannot be written: {error.strerror or error}; the run continues without TensorBoard")

    def flush(self) -> None:
        """Write all events to the file."""
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()


def write_histogram(writer: SummaryWriter, tag: str, distribution: Distribution, step: int) -> None:
    """Write a histogram from its counts; ``add_histogram`` would count every value again, which is slow."""
    count = sum(distribution.bins)
    if count == 0:
        return
    writer.add_histogram_raw(
        tag,
        distribution.low,
        distribution.high,
        count,
        distribution.mean * count,
        distribution.rms**2 * count,
        distribution.edges(),
        list(distribution.bins),
        step,
    )


def write_png(writer: SummaryWriter, tag: str, path: Path, step: int) -> None:
    """Write an image from its PNG file; ``add_image`` would encode its pixels once more, which is slow."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the header, which is the first chunk of every PNG file
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
