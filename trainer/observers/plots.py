"""Where the observers of a run put their plots."""

from __future__ import annotations

from trainer.engine.view import RunView
from trainer.observers.event_writer import LazyEventWriter, write_png
from trainer.report.figures import drawing, save_figure
from trainer.report.plots import Plot


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
        image = path.with_suffix(".png")
        if self.later and path.is_file():
            image.unlink(missing_ok=True)  # drawn from what is replaced
        plot.write(path)
        if not self.later:
            with drawing(name):
                save_figure(plot.draw(), image)
                write_png(self.events(), name, image, view.step if step is None else step)
