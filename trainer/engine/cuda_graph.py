"""A step as one CUDA graph: where a network is small, launching its kernels costs more than they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer.optimizers.param_groups import can_be_captured

if TYPE_CHECKING:
    from trainer.engine.run import Run

WARMUP_STEPS = 3  # eager steps before the capture: cuDNN chooses algorithms, workspaces and optimizer states come to be


class Recorder:
    """What records and replays on a GPU; a test puts another in its place."""

    def record(self, work: Callable[[], Any]) -> Callable[[], None]:
        """Record ``work`` without doing it; return what does it."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # thread_local: threads that bring pictures may call CUDA meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        return graph.replay


class CUDAGraphStep:
    """A step that is recorded once and then replayed, for batches of the one shape that was recorded.

    Recorded are ``gradients`` (forward, backward, sums) and ``update`` (clipping, the optimizer), which reads its rates from the
    device; or ``gradients`` alone where an optimizer computes with numbers that Python has, or a schedule moves the momentum.
    Mixing and averaging stay outside. Batches of another shape (an epoch's last) and the first ``WARM`` steps go the ordinary
    way. Where recording fails, the run goes on the ordinary way and ``note`` says why. The graph writes the gradients anew at
    every replay, always into the same places.
    """

    def __init__(
        self,
        gradients: Callable[[Run, Tensor, Tensor], None],
        update: Callable[[Run], None],
        note: Callable[[str], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.gradients, self.update, self.note, self.recorder = gradients, update, note, recorder or Recorder()
        self.failed = self.partial = False
        self.said: set[str] = set()
        self.seen = 0
        self.replay: Callable[[], None] | None = None

    def __call__(self, run: Run, x: Tensor, y: Tensor) -> None:
        """A step on the batch x (N, C, H, W), y (N, K), replayed where that is possible."""
        if self.replay is not None and self.all_reduced and self.fixed != fixed(run.optimizer):
            self.partial = True  # somebody moves what was recorded as a number
            self.forget()
            self.seen = WARMUP_STEPS
        if self.replay is None and not self.failed:
            self.seen += 1
            if self.seen > WARMUP_STEPS:
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
            parameter.grad = gradient  # an eager step between may have put another there
        # What the graph writes is overwritten at its next replay; whoever keeps a loss keeps a copy.
        loss, run.outputs, run.grad_norm = self.results
        run.loss = None if loss is None else loss.clone()
        if not self.all_reduced:
            self.update(run)

    def forget(self) -> None:
        """Record anew: another part of the network is trained from now on, or the optimizer's state lies elsewhere."""
        self.seen, self.failed, self.replay = 0, False, None

    def _say(self, text: str) -> None:
        """Note it once, though each phase records anew."""
        if text not in self.said:
            self.said.add(text)
            self.note(text)

    def _record(self, run: Run, x: Tensor, y: Tensor) -> None:
        self.x, self.y = torch.empty_like(x).copy_(x), torch.empty_like(y).copy_(y)
        self.all_reduced = not self.partial and can_be_captured(run.optimizer)
        before = run.sums.count, run.loss, run.outputs, run.grad_norm
        if self.all_reduced:
            rates_on_device(run.optimizer, x.device)

        def work() -> None:
            self.gradients(run, self.x, self.y)
            if self.all_reduced:
                self.update(run)

        run.optimizer.zero_grad(set_to_none=True)  # the gradients are made inside, at places that stay
        try:
            self.replay = self.recorder.record(work)
            self.results = run.loss, run.outputs, run.grad_norm
            self.grads = [(p, p.grad) for p in run.model.parameters() if p.grad is not None]
            self.fixed = fixed(run.optimizer)
            self._say(
                "a step is one CUDA graph" if self.all_reduced else "a step is one CUDA graph but for the optimizer"
            )
        except (RuntimeError, NotImplementedError) as error:
            self.failed = True
            self._say(f"no CUDA graph: {str(error).splitlines()[0]}")
            run.optimizer.zero_grad(set_to_none=True)
        run.sums.count, run.loss, run.outputs, run.grad_norm = before


def rates_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let the optimizer read its rates from the device, where each step writes them, and count its steps there."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = True
    # Steps of another shape are not recorded, on purpose: torch would warn of them.
    optimizer._warned_capturable_if_run_uncaptured = True  # pyright: ignore[reportAttributeAccessIssue]


def fixed(optimizer: torch.optim.Optimizer) -> list[Any]:
    """What a recorded update keeps as it was: all numbers of the groups, and where their rates lie."""
    return [
        id(value) if isinstance(value, Tensor) else value
        for group in optimizer.param_groups
        for key, value in group.items()
        if key != "params"
    ]
