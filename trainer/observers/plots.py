"""Where the observers of a run put their plots."""

from __future__ import annotations

from pathlib import Path

from trainer.engine.view import RunView
from trainer.observers.event_writer import LazyEventWriter, write_png
from trainer.report import write_report
from trainer.report.figures import drawing, save_figure
from trainer.report.plots import Plot, read_plot
from trainer.run_dir import undrawn_plots


class Plots:
    """The plots of a run, each as ``report/<name>.npz`` and, unless they are drawn later, as PNG there and in TensorBoard.

    Args:
        events: TensorBoard's writer.
        later: Whether ``job=report`` draws them.
    """

    def __init__(self, events: LazyEventWriter, later: bool = False) -> None:
        self.events, self.later = events, later

    def add(self, view: RunView, name: str, plot: Plot, step: int | None = None) -> None:
        """Add a plot at ``step``, by default the current one; an error in drawing it is reported."""
        assert view.folder is not None
        path = view.folder / "report" / f"{name}.npz"
        if self.later and path.is_file():
            path.with_suffix(".png").unlink(missing_ok=True)  # drawn from what is replaced
        plot.step = view.step if step is None else step
        plot.write(path)
        if not self.later:
            with drawing(name):
                draw(plot, path, self.events)


def draw(plot: Plot, path: Path, events: LazyEventWriter | None) -> None:
    """Write a plot as PNG beside its file ``path``, and to TensorBoard."""
    image = path.with_suffix(".png")
    save_figure(plot.draw(), image)
    if events is not None:
        write_png(events(), path.stem, image, plot.step)


def draw_report(run_dir: Path) -> Path:
    """Draw all plots of a run, and write its report; return the path of ``report.md``.

    Those that were left for later also go to TensorBoard, which has the others.
    """
    events, new = LazyEventWriter(run_dir), undrawn_plots(run_dir)
    for path in sorted((run_dir / "report").glob("*.npz")):
        with drawing(path.stem):
            draw(read_plot(path), path, events if path in new else None)
    events.close()
    return write_report(run_dir)
