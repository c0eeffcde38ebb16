"""TensorBoard's writers, one a sub-run, which all observers of a run share: two in one folder would hide each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.engine.run import Run
    from trainer.observers.tensor_stats import Distribution


def writer(run: Run, split: str) -> Any:
    """The sub-run's writer, made when it is first needed; events after the checkpoint of a resumed run are dropped."""
    if split not in run.writers:
        from torch.utils.tensorboard import SummaryWriter

        purge = run.clock.step + 1 if run.clock.step else None
        assert run.folder is not None
        run.writers[split] = SummaryWriter(str(run.folder / split), purge_step=purge)
    return run.writers[split]


def histogram(writer: Any, tag: str, found: Distribution, step: int) -> None:
    """A distribution that is counted already: ``add_histogram`` would count every value again, and slowly."""
    count = sum(found.bins)
    if count == 0:
        return
    writer.add_histogram_raw(
        tag,
        found.low,
        found.high,
        count,
        found.mean * count,
        found.rms**2 * count,
        found.edges(),
        list(found.bins),
        step,
    )
