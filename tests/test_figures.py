"""Plots whose margins are fixed: nothing is cut, whatever the names and numbers."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trainer.config.load import load_config
from trainer.formats import JsonObject, Row, Snapshot
from trainer.parameters import without_collections
from trainer.report.curves import curves_figure
from trainer.report.figures import batch_figure, plot_label, schedule_figure
from trainer.report.layers import distributions_figure, steps_figure
from trainer.report.layout import DPI, canvas, log_ticks, panels, place_titles, write_png
from trainer.report.prediction_figures import confusion_figure, embedding_figure, highest_loss_figure
from trainer.tree import table
from trainer.yaml_files import load_yaml

NAMES = ["Labrador retriever (Canis lupus)", "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "$5_$10", "猫", "a"]
IMAGES = np.zeros((5, 28, 28, 1), np.float32)


def rows(loss: float, lr: float, phases: tuple[str, ...] = ("all", "all")) -> list[Row]:
    common: Row = {
        "phase": "all", "epoch": 1.0, "step": 10, "lr": lr, "momentum": None, "seconds": 1.0, "images_per_second": 1.0,
    }  # fmt: skip
    scores = {"train_accuracy": 0.5, "validation_accuracy": 0.5001, "train_loss": loss, "validation_loss": 0.98 * loss}
    return [{**common, **scores, "phase": phase, "epoch": i + 1.0} for i, phase in enumerate(phases)]  # pyright: ignore


def snapshots(tags: list[str], size: float) -> list[Snapshot]:
    quantiles = [-2 * size, -size, 0.0, size, 2 * size]
    weights = [
        {"tag": tag, "rms": size, "grad_rms": size, "update_ratio": size, "nonfinite": 0.0, "quantiles": quantiles,
         "grad_quantiles": quantiles}
        for tag in tags
    ]  # fmt: skip
    activations = [
        {"tag": tag, "kind": "ReLU", "mean": 0.0, "std": 1.0, "zero": 0.5, "dead": 0.1, "saturated": 0.2, "nonfinite": 0.0,
         "quantiles": quantiles}
        for tag in tags
    ]  # fmt: skip
    one = {
        "epoch": 1.0, "phase": "all", "grad_norm": size, "batch_loss": 1.0, "batch_loss_std": 0.1, "batches": 1, "finite": True,
        "weights": weights, "activations": activations,
    }  # fmt: skip
    return [{**one, "step": 1}, {**one, "step": 123456, "grad_norm": 1.5 * size}]  # pyright: ignore


POINTS = np.array([[0.0, 0.0], [-1234.5, 1.0], [2.0, -1e-3], [3.0, 1e4], [1e4, 5.0]])
TIMES = [0.0, 1.0, 2.0]
LONG_TAGS = [f"{i:02d}_ConvTranspose2d_layer4.block.conv{i}" for i in range(24)]
FIGURES = {
    "curves": lambda: curves_figure(rows(1.2, 0.0257)),
    "curves of large and small numbers": lambda: curves_figure(rows(123456.0, 1.5e-7, ("head", "all"))),
    "curves of one epoch": lambda: curves_figure(rows(0.6931, 0.1)[:1]),
    "steps": lambda: steps_figure(snapshots(LONG_TAGS, 0.00123)),
    "distributions": lambda: distributions_figure(snapshots(LONG_TAGS, 1e5)),
    "distributions of many layers": lambda: distributions_figure(snapshots([f"{i:03d}_Conv2d" for i in range(200)], 1e-6)),
    "confusion": lambda: confusion_figure(np.eye(5, dtype=np.int64), NAMES),
    "confusion of many classes": lambda: confusion_figure(np.eye(101, dtype=np.int64), [f"class {i}" for i in range(101)]),
    "highest losses": lambda: highest_loss_figure(IMAGES, [f"true {n}\npredicted {n}" for n in map(plot_label, NAMES)]),
    "batch": lambda: batch_figure(IMAGES, IMAGES, [name[:40] for name in NAMES]),
    "schedule": lambda: schedule_figure(np.array(TIMES), np.array([0.0, 1.25e-5, 0.0]), np.full(3, np.nan)),
    "embedding of classes": lambda: embedding_figure(POINTS, np.arange(5) - 1, NAMES, ("component 1", "component 2")),
    "embedding of many classes": lambda: embedding_figure(POINTS, np.arange(5), [*NAMES, *"abcdefgh"], ("1", "2")),
    "embedding of numbers": lambda: embedding_figure(1e-5 * POINTS, np.arange(5) * 12345.0, (), ("1", "2")),
    "schedule with momentum": lambda: schedule_figure(
        np.array(TIMES), np.array([0.0, 12345.0, 0.0]), np.array([0.95, 0.8501, 0.95])
    ),
}  # fmt: skip


def drawn(name, *prepare):
    """A figure drawn at the resolution of its file, after functions that prepare it."""
    figure = FIGURES[name]()
    assert figure is not None
    figure.set_dpi(DPI)
    for function in prepare:
        function(figure)
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
def test_nothing_of_a_plot_lies_outside_of_it(name):
    figure = drawn(name)
    (left, bottom), (right, top) = figure.get_tightbbox().get_points()
    width, height = figure.get_size_inches()
    assert min(left, bottom) >= -1e-6
    assert right <= width + 1e-6
    assert top <= height + 1e-6


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
def test_the_labels_of_axes_do_not_cover_the_numbers_at_their_ticks(name):
    figure = drawn(name, place_titles)
    for axis in (
        axis for axes in figure.axes if axes.axison for axis in (axes.xaxis, axes.yaxis) if axis.label.get_text()
    ):
        label = axis.label.get_window_extent()
        ticks = [text for text in axis.get_ticklabels() if text.get_text() and text.get_visible()]
        assert not [text.get_text() for text in ticks if text.get_window_extent().overlaps(label)]
        assert not (axis.axes.get_title() and axis.axes.title.get_window_extent().overlaps(label))


@pytest.mark.parametrize(("low", "high", "numbers"), [
    (9e-6, 0.02, ["1e-05", "0.0001", "0.001", "0.01"]), (1.0, 9.0, ["1", "2", "5"]), (0.7, 30.0, ["1", "2", "5", "10", "20"]),
])  # fmt: skip
def test_a_logarithmic_axis_has_plain_numbers(low, high, numbers):
    figure, [[axes]] = panels((1, 1), (3, 3), (1, 1, 1, 1))
    axes.plot([1, 2], [low, high])
    axes.set(yscale="log", ylim=(low, high))
    log_ticks(axes.yaxis)
    figure.canvas.draw()
    assert [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high] == numbers
    assert not list(axes.yaxis.get_minorticklocs())


def test_a_logarithmic_axis_between_two_numbers_of_that_kind_still_has_several():
    figure, [[axes]] = panels((1, 1), (3, 3), (1, 1, 1, 1))
    axes.set(yscale="log", ylim=(3.1, 4.2))
    log_ticks(axes.yaxis)
    figure.canvas.draw()
    assert sum(3.1 <= value <= 4.2 for value in axes.get_yticks()) >= 2


def test_a_yaml_file_that_has_changed_is_read_again_and_what_was_read_belongs_to_the_caller(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: {b: 1}")
    load_yaml(file)["a"] = 7
    assert load_yaml(file) == {"a": {"b": 1}}
    file.write_text("a: {b: 12}")
    assert load_yaml(file) == {"a": {"b": 12}}


def test_a_config_is_composed_again_when_an_option_file_has_changed_and_belongs_to_the_caller(tmp_path):
    file = tmp_path / "optimizer" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("defaults: [sgd, _self_]\nlr: 0.5\n")

    def composed() -> JsonObject:
        return table(load_config(["optimizer=mine"], [tmp_path]).tree["optimizer"])

    first = composed()
    first["lr"] = 7
    assert composed()["lr"] == 0.5
    file.write_text("defaults: [sgd, _self_]\nlr: 0.25\n")
    assert composed()["lr"] == 0.25


def test_garbage_is_searched_for_again_after_an_import_that_fails():
    during: list[bool] = []
    with pytest.raises(ZeroDivisionError), without_collections(freeze=False):
        during.append(1 / (during.append(gc.isenabled()) or 0) > 0)
    assert during == [False]
    assert gc.isenabled()


def drawn_three_times(figure: Callable[[], Figure], folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A figure as matplotlib draws it alone, and twice as the reports draw it."""
    FigureCanvasAgg(figure()).print_png(folder / "plain.png")
    for name in ("first", "again"):
        write_png(figure(), folder / f"{name}.png")
    plain, first, again = (cv2.imread(str(folder / f"{name}.png")) for name in ("plain", "first", "again"))
    assert plain is not None
    assert first is not None
    assert again is not None
    return plain, first, again


def test_texts_at_whole_pixels_are_drawn_as_matplotlib_draws_them(tmp_path):
    def figure() -> Figure:
        drawn = canvas(4, 3, layout=None)
        style: dict[str, Any] = {"va": "baseline", "ha": "left", "rotation_mode": "anchor"}
        drawn.text(0.1, 0.1, "Plain $x_1$ gjpq", fontsize=13, color=(0.8, 0.1, 0.2, 0.5), **style)
        drawn.text(0.5, 0.25, "bold", fontweight="bold", rotation=90, **style)
        drawn.text(0.5, 0.5, "slanted: ÄÖ", rotation=30, color="tab:blue", **style)
        return drawn

    plain, first, again = drawn_three_times(figure, tmp_path)
    assert (plain < 255).any()
    assert np.abs(plain.astype(int) - first).max() <= 1  # glyphs that overlap are blended twice
    assert np.array_equal(first, again)


def test_other_texts_move_by_at_most_half_a_pixel(tmp_path):
    def figure() -> Figure:
        drawn = canvas(4, 3, layout=None)
        axes = drawn.subplots()
        axes.plot([1, 2, 30], label="$x_1$")
        axes.set_title("A title")
        axes.set_ylabel("rotated\nlines", fontweight="bold")
        axes.legend()
        return drawn

    plain, first, again = drawn_three_times(figure, tmp_path)
    assert np.array_equal(first, again)
    blurred, other = (cv2.GaussianBlur(image, (0, 0), 3.0).astype(int) for image in (plain, first))
    ink = 255 - blurred.min()
    assert np.abs(blurred - other).max() < 0.12 * ink
