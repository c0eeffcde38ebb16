"""Where the observers of a run put their plots."""

from __future__ import annotations

from pathlib import Path

from trainer.engine.view import RunView
from trainer.files import write_text
from trainer.observers.event_writer import LazyEventWriter, write_png
from trainer.report import write_report
from trainer.report.figures import drawing, save_figure
from trainer.report.plots import Plot, read_plot
from trainer.run_dir import plots_left


class Plots:
    """The plots of a run, each as ``report/<name>.npz`` and, unless they are drawn later, as PNG there and in TensorBoard.

    Args:
        events: TensorBoard's writer.
        later: Whether ``job=report`` draws them.
    """

    def __init__(self, events: LazyEventWriter, later: bool = False) -> None:
        self.events, self.later = events, later

    def keep(self, view: RunView, name: str, plot: Plot, step: int) -> None:
        """Write a plot of a step, to be shown at the end of the run, also of one that is resumed."""
        assert view.folder is not None
        path = path_of(view.folder, name)
        if self.later:
            self.leave(view.folder)
            if path.is_file():
                path.with_suffix(".png").unlink(missing_ok=True)  # drawn from what is replaced
        plot.step = step
        plot.write(path)

    def show(self, view: RunView, name: str, plot: Plot | None = None) -> None:
        """Draw a plot that has been kept, None from its file, unless plots are drawn later; an error in drawing is reported."""
        assert view.folder is not None
        path = path_of(view.folder, name)
        if not self.later and path.is_file():
            with drawing(name):
                draw(plot or read_plot(path), path, self.events)

    def add(self, view: RunView, name: str, plot: Plot) -> None:
        """Keep and show a plot of the current step."""
        self.keep(view, name, plot, view.step)
        self.show(view, name, plot)

    def leave(self, folder: Path) -> None:
        """Note that plots of a run have been left for later."""
        if not (left := plots_left(folder)).is_file():
            write_text(left, "train job=report run=<this run directory> draws the plots\n")


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a plot of a run."""
    return folder / "report" / f"{name}.npz"


def draw(plot: Plot, path: Path, events: LazyEventWriter | None) -> None:
    """Write a plot as PNG beside its file ``path``, and to TensorBoard."""
    image = path.with_suffix(".png")
    save_figure(plot.draw(), image)
    if events is not None:
        write_png(events(), path.stem, image, plot.step)


def draw_report(run_dir: Path, events: LazyEventWriter | None = None) -> Path:
    """Draw all plots of a run, and write its report; return the path of ``report.md``.

    If they were left for later, they also go to TensorBoard, which else has them; until all has been written, they count as left.

    Args:
        run_dir: The run directory.
        events: TensorBoard's writer, if the run still has one.
    """
    writer, left = events or LazyEventWriter(run_dir), plots_left(run_dir)
    for path in sorted((run_dir / "report").glob("*.npz")):
        with drawing(str(path)):
            draw(read_plot(path), path, writer if left.is_file() else None)
    report = write_report(run_dir)
    writer.flush()
    if events is None:
        writer.close()
    left.unlink(missing_ok=True)
    return report
