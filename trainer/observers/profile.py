"""A profile of some steps."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import atomic_path, write_text
from trainer.formats import Result
from trainer.hardware import synchronize
from trainer.observers.context import Context
from trainer.observers.options import Profile


class ProfileObserver(Observer):
    """Records ``steps`` steps after the first ``skip`` with torch's profiler.

    Writes ``profile.json``, a trace for chrome://tracing or ui.perfetto.dev, and ``profile.txt``, the operations by time.
    """

    def __init__(self, option: Profile, context: Context) -> None:
        self.skip, self.steps = option.skip, option.steps
        self.profiler: profile | None = None

    def on_fit_start(self, view: RunView) -> None:
        self.start = view.step + self.skip

    def on_step_end(self, view: RunView) -> None:
        if view.step == self.start and view.folder is not None:
            on_gpu = view.precision.device.type == "cuda"
            activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
            # There is one cycle of events, but torch 2.11 warns of what it would lose of others.
            self.profiler = profile(activities=activities, acc_events=True)
            self.profiler.start()
        elif view.step == self.start + self.steps:
            self._finish(view)

    def on_fit_end(self, view: RunView, result: Result) -> None:
        self._finish(view)

    def _finish(self, view: RunView) -> None:
        if self.profiler is None or view.folder is None:
            return
        synchronize(view.precision.device)
        self.profiler.stop()
        with atomic_path(view.folder / "profile.json") as temporary:
            self.profiler.export_chrome_trace(str(temporary))
        order = "self_device_time_total" if view.precision.device.type == "cuda" else "self_cpu_time_total"
        write_text(view.folder / "profile.txt", self.profiler.key_averages().table(sort_by=order, row_limit=40))
        self.profiler = None
