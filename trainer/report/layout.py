"""Figures whose margins are known before they are drawn.

matplotlib's constrained layout measures every text of a figure twice before it draws it, which takes a quarter of the time.
All sizes are in inches.
"""

from __future__ import annotations

import cmath
import math
import warnings
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.backend_bases import GraphicsContextBase
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

DPI = 110

# matplotlib is imported inside functions: it takes most of a second, which no training step should wait for.


def canvas(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Return a figure that is not registered with pyplot, so that reports can be drawn in any process or thread.

    Args:
        width: Of the figure.
        height: Of the figure.
        layout: None for one whose axes have fixed places.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panels(
    shape: tuple[int, int],
    size: tuple[float, float],
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float] = (0.0, 0.0),
    sharex: Literal["row", "col"] | bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its axes by row and column.

    Args:
        shape: Numbers of rows and columns.
        size: Width and height of each panel, without what stands around it.
        margins: Left, right, bottom and top of the figure.
        gaps: Between columns and between rows.
        sharex: Which panels share their horizontal axis.
    """
    (rows, columns), (width, height) = shape, size
    left, right, bottom, top = margins
    whole = (
        left + columns * width + (columns - 1) * gaps[0] + right,
        bottom + rows * height + (rows - 1) * gaps[1] + top,
    )
    figure = canvas(*whole, layout=None)
    places = {
        "left": left / whole[0], "right": 1 - right / whole[0], "bottom": bottom / whole[1], "top": 1 - top / whole[1],
        "wspace": gaps[0] / width, "hspace": gaps[1] / height,
    }  # fmt: skip
    grid: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False, sharex=sharex, gridspec_kw=places).tolist()
    for axes in figure.axes:
        place_labels(axes, min(left, gaps[0] or left))
    return figure, grid


def place_labels(axes: Axes, left: float) -> None:
    """Place the labels of both axes; otherwise every text at the ticks would be measured for that.

    Args:
        axes: The axes.
        left: Room to the left of them, at whose end the label of the vertical axis stands.
    """
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi_scale_trans
    axes.xaxis.set_label_coords(0.5, 0, axes.transAxes + ScaledTranslation(0, -0.3, scale))
    axes.yaxis.set_label_coords(0, 0.5, axes.transAxes + ScaledTranslation(0.18 - left, 0, scale))


def place_titles(figure: Figure) -> None:
    """Place the titles just above their axes; otherwise all that stands around the axes would be measured for that."""
    for axes in figure.axes:
        axes.set_title(axes.get_title(), y=1.0, fontsize=axes.title.get_fontsize())


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes at a place of a figure."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def text_width(texts: Iterable[str], fontsize: float) -> float:
    """Return the width of the longest line of some texts; 0 without any.

    >>> narrow, wide = text_width(["iii"], 10), text_width(["iii", "WWW\\nW"], 10)
    >>> 0 < narrow < wide < 1, text_width(["WWW"], 20) > 1.9 * wide
    (True, True)
    """
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=fontsize)
    lines = {line for text in texts for line in text.replace(r"\$", "$").split("\n") if line}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names in scripts that the font lacks
        return max((text_size(line, font, False, DPI)[0] / DPI for line in lines), default=0.0)


@lru_cache(maxsize=10_000)
def text_size(text: str, font: FontProperties, ismath: bool, dpi: float) -> tuple[float, float, float]:
    """Return width, height and descent of a line of text in pixels.

    matplotlib remembers them for a figure. Most texts are those of the figures before: of the other plots, and of other runs.
    """
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, dpi).get_text_width_height_descent(text, font, ismath)


def put_pixels(figure: Figure, pixels: np.ndarray) -> None:
    """Draw an image uint8 (H, W, 3) of the size of a figure at ``DPI`` behind its texts, as it is: figimage would resample it."""
    from matplotlib.artist import Artist

    class Pixels(Artist):
        def draw(self, renderer: RendererAgg) -> None:
            opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
            renderer.draw_image(renderer.new_gc(), 0, 0, np.concatenate([pixels, opaque], 2)[::-1])

    figure.add_artist(Pixels())


class TextImage(NamedTuple):
    """A line of text: pixels (H, W, 4) from the lowest row up, and where their lower left corner is, seen from its origin."""

    pixels: np.ndarray
    left: int
    bottom: int


@lru_cache(maxsize=2_000)
def text_image(
    text: str, font: FontProperties, ismath: bool, angle: float, color: tuple[float, float, float, float], dpi: float
) -> TextImage:
    """Return a line of text drawn with its origin at a whole pixel, as it also is on other figures.

    Args:
        text: The line.
        font: Its font.
        ismath: Whether it holds mathtext.
        angle: In degrees.
        color: Red, green, blue and opacity.
        dpi: Pixels per inch.
    """
    from matplotlib.backends.backend_agg import RendererAgg

    width, height, descent = text_size(text, font, ismath, dpi)
    turn = cmath.exp(1j * math.radians(angle))
    corners = [complex(x, y) * turn for x in (0, width) for y in (-descent, height - descent)]
    across, up = [c.real for c in corners], [c.imag for c in corners]
    left, bottom = math.floor(min(across)) - 2, math.floor(min(up)) - 2  # glyphs may extend beyond what is measured
    right, top = math.ceil(max(across)) + 2, math.ceil(max(up)) + 2
    renderer = RendererAgg(right - left, top - bottom, dpi)
    context = renderer.new_gc()
    context.set_foreground(color, isRGBA=True)
    renderer.draw_text(context, -left, top, text, font, angle, ismath)
    return TextImage(np.asarray(renderer.buffer_rgba())[::-1].copy(), left, bottom)


def write_png(figure: Figure, path: Path) -> None:
    """Draw a figure as PNG, its texts by ``text_image``; savefig would draw everything once more for the layout alone.

    matplotlib draws every glyph of every text. Most texts are those of the figures before: of the other plots, and of other runs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    def draw_text(
        renderer: RendererAgg, gc: GraphicsContextBase, x: float, y: float, s: str, prop: FontProperties, angle: float,
        ismath: bool = False, mtext: object = None,
    ) -> None:  # fmt: skip
        image = text_image(s, prop, ismath, angle, gc.get_rgb(), renderer.dpi)
        lower = round(renderer.height - y) + image.bottom
        renderer.draw_image(gc, round(x) + image.left, lower, image.pixels)

    class Canvas(FigureCanvasAgg):
        def get_renderer(self) -> RendererAgg:
            renderer = super().get_renderer()
            renderer.get_text_width_height_descent = partial(text_size, dpi=renderer.dpi)  # type: ignore[method-assign]
            renderer.draw_text = partial(draw_text, renderer)  # type: ignore[method-assign]
            return renderer

    drawn = Canvas(figure)
    drawn.draw()
    pixels = np.asarray(drawn.buffer_rgba())[..., :3]  # opaque
    # 5 % larger than by default, in half the time.
    Image.fromarray(pixels).save(path, "PNG", compress_level=3, dpi=(DPI, DPI))


def short_numbers(axes: Axes) -> None:
    """Label the vertical axis with at most six characters: numbers below 0.01 and from 10,000 on get a common power of ten."""
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))


def log_ticks(axis: XAxis | YAxis) -> None:
    """Label a logarithmic axis with plain numbers, without ticks between them: both are drawn several times as fast.

    Powers of ten are labelled, and 2 and 5 times these where the axis shows less than two decades.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    if axis.get_scale() == "log" and 0 < low < high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
