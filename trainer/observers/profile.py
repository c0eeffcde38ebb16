"""Where the time of some steps goes, as a trace for a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.observers import Observer

if TYPE_CHECKING:
    from trainer.engine.run import Run


@dataclass
class Profile(Observer):
    """Records ``steps`` steps after the first ``skip`` with torch's profiler: ``profile.json``, to be opened in chrome://tracing
    or ui.perfetto.dev, and ``profile.txt``, the operations by their time. Recorded steps are slower.
    """

    skip: int = 10
    steps: int = 10

    def __post_init__(self) -> None:
        check(self, skip=(self.skip >= 1, "must be >= 1 step"), steps=(self.steps >= 1, "must be >= 1"))

    def on_fit_start(self, run: Run) -> None:
        self.profiler: Any = None
        self.begin = run.clock.step + self.skip

    def on_step_end(self, run: Run) -> None:
        if run.clock.step == self.begin and run.folder is not None:
            from torch.profiler import ProfilerActivity, profile

            kinds = [ProfilerActivity.CPU]
            if run.precision.device.type == "cuda":
                kinds.append(ProfilerActivity.CUDA)
            self.profiler = profile(activities=kinds)
            self.profiler.start()
        elif run.clock.step == self.begin + self.steps:
            self._finish(run)

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        self._finish(run)

    def _finish(self, run: Run) -> None:
        if self.profiler is None or run.folder is None:
            return
        from trainer.engine.loop import synchronise

        synchronise(run)
        self.profiler.stop()
        self.profiler.export_chrome_trace(str(run.folder / "profile.json"))
        by = "self_cuda_time_total" if run.precision.device.type == "cuda" else "self_cpu_time_total"
        (run.folder / "profile.txt").write_text(self.profiler.key_averages().table(sort_by=by, row_limit=40))
        self.profiler = None
