"""What happens when a loss or a weight becomes NaN or Inf: ``engine.on_nan``."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from trainer.engine.distributed import any_rank
from trainer.engine.guard import all_finite
from trainer.engine.run import Run

CHECK = 50  # steps between two checks of the loss within an epoch
MAX_REWINDS = 8  # of a run, each with half the learning rate of before


class LossCheck:
    """Whether the sum of the losses of the epoch has become NaN or Inf, as far as it is known, without waiting for the device.

    Every ``CHECK`` steps the answer is copied from the device, and read ``CHECK`` steps later if it has arrived by then. The
    end of the epoch, which waits for the device, does not rely on it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.reset()

    def reset(self) -> None:
        """Forget the answers of before."""
        self.failed = False
        self.pending: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(self) -> bool:
        if self.run.clock.step % CHECK == 0 and not self.failed:
            finite = self.run.sums.totals.isfinite().all()
            self.failed = self._later(finite) if finite.is_cuda else not bool(finite)
        return self.failed

    def _later(self, finite: Tensor) -> bool:
        """The answer that was asked for ``CHECK`` steps ago; False if the device is not there yet."""
        if self.pending is not None and not self.pending[1].query():
            return False
        previous, answer, event = self.pending, torch.empty((), dtype=torch.bool, pin_memory=True), torch.cuda.Event()
        answer.copy_(finite, non_blocking=True)
        event.record()
        self.pending = (answer, event)
        return previous is not None and not bool(previous[0])


def nonfinite(run: Run) -> str | None:
    """What has become NaN or Inf in the current epoch, the training loss or the weights; None if both are finite.

    It waits for the device, and all ranks must call it together.
    """
    weights = run.model if run.averaged is None else nn.ModuleList([run.model, run.averaged])
    flags = torch.stack([all_finite([run.sums.totals]), all_finite(weights.state_dict().values())])
    loss, state = any_rank(~flags).tolist()
    if run.guard is not None and run.clock.batch and run.guard.skipped_all(run.clock.batch):
        return "the gradient of every step of the epoch is NaN or Inf"
    return "the training loss is NaN or Inf" if loss else "weights are NaN or Inf" if state else None


def remember(run: Run) -> None:
    """Keep the state at the beginning of an epoch, to which ``engine.on_nan=rewind`` returns."""
    if run.on_nan == "rewind" and run.clock.batch == 0:
        state = run.state()
        best, state["best"] = state["best"], None  # is never changed in place
        run.sane = copy.deepcopy(state)
        run.sane["best"] = best


def can_rewind(run: Run) -> bool:
    """Whether the run may return to the beginning of the epoch."""
    return run.on_nan == "rewind" and run.sane is not None and run.rewinds < MAX_REWINDS


def rewind(run: Run) -> bool:
    """Return a diverged run to the beginning of the epoch with half the learning rate; return whether it may."""
    if not can_rewind(run):
        return False
    assert run.sane is not None
    sane, rewinds, at, reason = run.sane, run.rewinds + 1, run.time, run.diverged
    run.load(copy.deepcopy(sane))  # an optimizer trains on the tensors that it is given
    run.sane, run.rewinds, run.interrupted, run.diverged = sane, rewinds, False, None
    run.alert(
        f"epoch {at:.4g}: {reason}; the epoch starts again with {0.5**rewinds:g} times the learning rate "
        f"(engine.on_nan=rewind, {rewinds} of at most {MAX_REWINDS} times)"
    )
    return True
