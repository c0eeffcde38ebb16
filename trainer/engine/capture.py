"""One step's forward and backward as one CUDA graph: where a network is small, launching its kernels costs more than they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trainer.engine.run import Run

Step = Callable[..., tuple[Tensor, Tensor]]
WARM = 3  # eager steps before the capture: cuDNN chooses algorithms, workspaces and optimizer states come to be


class Recorder:
    """What records and replays on a GPU; a test puts another in its place."""

    def record(self, work: Callable[[], Any]) -> Callable[[], None]:
        """Record ``work`` without doing it; return what does it."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            work()
        return graph.replay


class Captured:
    """``forward_backward`` that is recorded once and then replayed, for batches of the one shape that was recorded.

    The optimizer, the rates, mixing and clipping stay outside, so that every one of them goes with it; they cost few
    launches. Batches of another shape (an epoch's last) and the first ``WARM`` steps go the ordinary way. Where recording
    fails, the run goes on the ordinary way and ``note`` says why. The graph writes the gradients anew at every replay, always
    into the same places.
    """

    def __init__(self, eager: Step, note: Callable[[str], None], recorder: Recorder | None = None) -> None:
        self.eager, self.note, self.recorder = eager, note, recorder or Recorder()
        self.seen, self.failed = 0, False
        self.x = self.y = self.loss = self.outputs = torch.empty(0)
        self.replay: Callable[[], None] | None = None

    def __call__(self, run: Run, x: Tensor, y: Tensor, weight: float, first: bool) -> tuple[Tensor, Tensor]:
        if self.replay is None and not self.failed and weight == 1 and first:
            self.seen += 1
            if self.seen > WARM:
                self._record(run, x, y)
        if self.replay is None or weight != 1 or not first or not self._fits(x, y):
            return self.eager(run, x, y, weight, first)
        self.x.copy_(x)
        self.y.copy_(y)
        self.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient  # an eager step between may have put another there
        # What the graph writes is overwritten at its next replay; whoever keeps a loss keeps a copy.
        return self.loss.clone(), self.outputs

    def forget(self) -> None:
        """Record anew: another part of the network is trained from now on."""
        self.seen, self.failed, self.replay = 0, False, None

    def _fits(self, x: Tensor, y: Tensor) -> bool:
        return x.shape == self.x.shape and y.shape == self.y.shape

    def _record(self, run: Run, x: Tensor, y: Tensor) -> None:
        parameters = [p for p in run.model.parameters() if p.requires_grad]
        self.x, self.y = torch.empty_like(x).copy_(x), torch.empty_like(y).copy_(y)

        def work() -> None:
            for parameter in parameters:
                parameter.grad = None  # the gradients are made inside, at places that stay
            self.loss, self.outputs = self.eager(run, self.x, self.y, 1.0, True)

        try:
            self.replay = self.recorder.record(work)
            self.gradients = [(p, p.grad) for p in parameters if p.grad is not None]
            self.note("a step is one CUDA graph")
        except (RuntimeError, NotImplementedError) as error:
            self.failed = True
            self.note(f"no CUDA graph: {str(error).splitlines()[0]}")
            for parameter in parameters:
                parameter.grad = None
