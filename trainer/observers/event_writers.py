"""TensorBoard's event writers, one per sub-run, shared by all observers of a run: two writers to one folder would conflict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from trainer.observers.event_file import EventWriter
from trainer.observers.tensor_stats import Distribution


class EventWriters:
    """The event writers of a run directory, each created when it is first needed.

    If a file cannot be written, ``alert`` says so once, and the run goes on without it. ``step`` is the step at which the run
    starts or resumes: events of later steps, written before, are dropped.
    """

    def __init__(self, folder: Path | None, step: int = 0, alert: Callable[[str], None] = print) -> None:
        self.folder, self.step, self.alert = folder, step, alert
        self.failed = False
        self.writers: dict[str, SummaryWriter] = {}

    def __call__(self, split: str) -> SummaryWriter:
        """The writer of the sub-run ``train``, ``validation`` or ``averaged``."""
        if split not in self.writers:
            if self.folder is None:
                raise ValueError("a run without a run directory writes no events")
            purge_step = self.step + 1 if self.step else None
            self.writers[split] = EventWriter(self.folder / split, purge_step, self._report)
        return self.writers[split]

    def _report(self, path: Path, error: OSError) -> None:
        if not self.failed:
            self.alert(f"{path} cannot be written: {error.strerror or error}; the run continues without TensorBoard")
        self.failed = True

    def flush(self) -> None:
        """Write all events to their files."""
        for writer in self.writers.values():
            writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self.writers.values():
            writer.close()


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
