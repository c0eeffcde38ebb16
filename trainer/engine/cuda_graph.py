"""Capture of the training step in a CUDA graph: for a small network, launching kernels takes longer than running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.errors import first_line
from trainer.optimizers.param_groups import can_be_captured, move_lrs

if TYPE_CHECKING:
    from trainer.engine.run import Run

WARMUP_STEPS = 3  # eager steps before the capture, which choose cuDNN algorithms and create the optimizer's state


class Recorder:
    """Captures and replays CUDA graphs. Tests substitute a recorder of operations on the CPU."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture ``work`` without running it; return the function that replays it."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # thread_local: data loading threads may call CUDA in the meantime.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        return graph.replay


class CUDAGraphStep:
    """A training step that is captured once and then replayed for batches of the captured shape.

    Captured are ``gradients`` (forward and backward pass, running metrics) and ``update`` (clipping, optimizer), which
    reads the learning rates from the device; or ``gradients`` only, if the optimizer computes with Python numbers or a
    schedule changes the momentum. Mixing and averaging are not captured. Batches of another shape (the last of an epoch)
    and the first ``WARMUP_STEPS`` steps run eagerly. If the capture fails, all steps run eagerly and ``note`` gets the
    reason. Every replay writes the gradients to the same memory.
    """

    def __init__(
        self,
        gradients: Callable[[Run, Tensor, Tensor], None],
        update: Callable[[Run], None],
        note: Callable[[str], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.gradients, self.update, self.note, self.recorder = gradients, update, note, recorder or Recorder()
        self.failed = self.update_is_eager = False
        self.noted: set[str] = set()
        self.steps = 0
        self.replay: Callable[[], None] | None = None

    def __call__(self, run: Run, x: Tensor, y: Tensor) -> None:
        """Train on images x (N, C, H, W) and targets y (N, D), by a replay if possible."""
        if self.replay is not None and self.includes_update and self.constants != constants(run.optimizer):
            self.update_is_eager = True  # a captured number has changed, such as the momentum
            self.reset()
            self.steps = WARMUP_STEPS
        if self.replay is None and not self.failed:
            self.steps += 1
            if self.steps > WARMUP_STEPS:
                self._record(run, x, y)
        if self.replay is None or x.shape != self.x.shape or y.shape != self.y.shape:
            self.gradients(run, x, y)
            self.update(run)
            return
        self.x.copy_(x)
        self.y.copy_(y)
        self.replay()
        run.sums.count += len(x)
        for parameter, gradient in self.grads:
            parameter.grad = gradient  # an eager step in between may have replaced it
        # The next replay overwrites the loss, which observers may keep: they get a copy.
        loss, run.outputs, run.grad_norm = self.results
        run.loss = None if loss is None else loss.clone()
        if not self.includes_update:
            self.update(run)

    def reset(self) -> None:
        """Capture again after the next warmup: other parameters are trained, or the optimizer's state is in other memory."""
        self.steps, self.failed, self.replay = 0, False, None

    def _note(self, text: str) -> None:
        """Note a text once, although each phase captures again."""
        if text not in self.noted:
            self.noted.add(text)
            self.note(text)

    def _record(self, run: Run, x: Tensor, y: Tensor) -> None:
        self.x, self.y = torch.empty_like(x).copy_(x), torch.empty_like(y).copy_(y)
        self.includes_update = not self.update_is_eager and can_be_captured(run.optimizer)
        before = run.sums.count, run.loss, run.outputs, run.grad_norm
        if self.includes_update:
            move_lrs(run.optimizer, x.device)

        def work() -> None:
            self.gradients(run, self.x, self.y)
            if self.includes_update:
                self.update(run)

        run.optimizer.zero_grad(set_to_none=True)  # the graph allocates the gradients
        try:
            self.replay = self.recorder.record(work)
            self.results = run.loss, run.outputs, run.grad_norm
            self.grads = [(p, p.grad) for p in run.model.parameters() if p.grad is not None]
            self.constants = constants(run.optimizer)
            self._note(
                "training step captured in a CUDA graph" + ("" if self.includes_update else ", without the optimizer")
            )
        except (RuntimeError, NotImplementedError) as error:
            self.failed = True
            self._note(f"no CUDA graph: {first_line(error)}")
            run.optimizer.zero_grad(set_to_none=True)
        run.sums.count, run.loss, run.outputs, run.grad_norm = before


def constants(optimizer: torch.optim.Optimizer) -> list[object]:
    """What a captured update cannot change: the numbers of the parameter groups, and the memory of their learning rates."""
    return [
        id(value) if isinstance(value, Tensor) else value
        for group in optimizer.param_groups
        for key, value in group.items()
        if key != "params"
    ]
