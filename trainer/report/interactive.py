"""The curves of a run as inline SVG for ``report.html``: readable without its script, which adds values and toggles."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from trainer.columns import is_percentage, shown
from trainer.formats import Row
from trainer.literal import printable
from trainer.report.curves import Panel, panels, phase_starts
from trainer.report.figures import DISTINCT, total_epochs

SCRIPT = Path(__file__).with_suffix(".js")
STYLE = """
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .8rem; }
.panels svg { width: 100%; height: auto; font-size: 10px; fill: currentColor; touch-action: pan-y; }
.panels .title { font-size: 12px; font-weight: 600; } .panels .grid { stroke: currentColor; stroke-opacity: .15; }
.panels .phase { stroke: currentColor; stroke-opacity: .5; stroke-dasharray: 6 3 1 3; }
.panels .curve { fill: none; stroke: var(--c, currentColor); stroke-width: 1.8; }
.panels circle { fill: var(--c, currentColor); } .panels .cursor { stroke: currentColor; stroke-opacity: .5; }
figure.curves { margin: 0; } figure.curves figcaption { display: flex; flex-wrap: wrap; gap: .4rem 1rem; font-size: .85rem; }
.key { font: inherit; color: inherit; background: none; border: 0; padding: 0; }
button.key { cursor: pointer; } button.key[aria-pressed=false] { opacity: .45; text-decoration: line-through; }
.key svg { width: 1.8em; height: .7em; } .off { display: none; }
.train { --c: #0072b2; } .validation { --c: #d55e00; } .averaged { --c: #009e73; }
@media (prefers-color-scheme: dark) { .train { --c: #56b4e9; } .validation { --c: #e69f00; } .averaged { --c: #2fd6a8; } }
"""
DASHES = {"validation": "6 3", "averaged": "2 3"}  # so that curves are distinct without color, too
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 210, 46, 8, 24, 32
MAX_POINTS = 60  # that are drawn as circles


def interactive_curves(rows: Sequence[Row], unit: str) -> str:
    """Return losses, metrics and learning rate by epoch as an HTML figure, one plot per panel of ``curves_figure``.

    Args:
        rows: The history; not empty.
        unit: Of the loss.
    """
    plots = panels(rows[-1], unit)
    epochs = total_epochs(list(rows))
    names = [
        name
        for plot in plots
        for name, column in plot.curves.items()
        if _values(rows, column) and not name.endswith("lr")
    ]
    drawn = "".join(_svg(plot, rows, epochs) for plot in plots)
    keys = "".join(_key(name) for name in dict.fromkeys(names))
    return f'<figure class="curves"><div class="panels">{drawn}</div><figcaption>{keys}</figcaption></figure>'


def _svg(plot: Panel, rows: Sequence[Row], epochs: Sequence[float]) -> str:
    """One plot: grid, phases, and a curve for each split."""
    series = {name: column for name, column in plot.curves.items() if _values(rows, column)}
    values = [v for column in series.values() for v in _values(rows, column) if math.isfinite(v)]
    percent = any(is_percentage(column.partition("_")[2]) for column in series.values())
    y_ticks = ticks(min(values, default=0.0), max(values, default=1.0), 5)
    x_ticks = ticks(min(0.0, *epochs) if len(epochs) == 1 else min(epochs), max(epochs), 7, whole=max(epochs) >= 2)
    low, high = min(y_ticks[0], *values, y_ticks[-1]), max(y_ticks[-1], *values, y_ticks[0])
    first, last = min(*epochs, x_ticks[0]), max(*epochs, x_ticks[-1])

    def x(epoch: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (epoch - first) / ((last - first) or 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / ((high - low) or 1), 1)

    title = f"{plot.title}, {plot.unit}" if plot.unit and not percent else plot.title
    parts = [f'<text class="title" x="{LEFT}" y="13">{_text(title, 44)}</text>']
    for value in y_ticks:
        label = f"{100 * value:.4g} %" if percent else f"{value:.4g}"
        parts.append(f'<path class="grid" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y(value) + 3}" text-anchor="end">{label}</text>')
    for epoch in x_ticks:
        parts.append(f'<text x="{x(epoch)}" y="{HEIGHT - BOTTOM + 12}" text-anchor="middle">{epoch:.4g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">epoch</text>')
    starts = phase_starts(rows, epochs)
    for epoch, name in [(first, rows[0]["phase"]), *starts] if starts else []:
        parts.append(f'<path class="phase" d="M{x(epoch)} {TOP - 4}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x(epoch) + 3}" y="{TOP + 4}">{_text(name, 12)}</text>')
    for i, (name, column) in enumerate(series.items()):
        points = [(e, r[column]) for e, r in zip(epochs, rows, strict=True) if _finite(r.get(column))]
        parts.append(_curve(name, column, [(x(e), y(v), e, v) for e, v in points], i))
    label = html.escape(printable(f"{plot.title} by epoch"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _curve(name: str, column: str, points: list[tuple[float, float, float, float]], index: int) -> str:
    """A curve with its points (x, y, epoch, value), and what the script shows at each."""
    texts = [_shown(column, value) for *_, value in points]
    data = json.dumps([[x, y, f"{epoch:.5g}", text] for (x, y, epoch, _), text in zip(points, texts, strict=True)])
    line = " ".join(f"{x},{y}" for x, y, *_ in points)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2"><title>{_text(name)}, epoch {epoch:.5g}: {html.escape(text)}</title></circle>'
        for (x, y, epoch, _), text in zip(points, texts, strict=True)
        if len(points) <= MAX_POINTS
    )
    own, dash = _look(name)
    style = f' style="--c: {DISTINCT[index % len(DISTINCT)]}"' if column.startswith("weight_") else ""
    attributes = f'class="{own}" data-series="{_attribute(name)}" data-points="{html.escape(data)}"{style}'
    return f'<g {attributes}><polyline class="curve" points="{line}"{dash}/>{dots}</g>'


def _look(name: str) -> tuple[str, str]:
    """The class of a curve, which has its color, and the attribute of its dashes."""
    own = name if name in ("train", "validation", "averaged") else "other"
    return own, f' stroke-dasharray="{DASHES[name]}"' if name in DASHES else ""


def _key(name: str) -> str:
    """The line of the legend of a curve; the script turns it into a button that hides the curve."""
    own, dash = _look(name)
    sample = (
        f'<svg viewBox="0 0 24 8"><path d="M0 4H24" stroke="var(--c, currentColor)" stroke-width="2.5"{dash}/></svg>'
    )
    return f'<span class="key {own}" data-series="{_attribute(name)}">{sample} {_text(name)}</span>'


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """Return at most ``count`` + 1 round numbers from ``low`` to ``high``; only ``whole`` ones, if asked for.

    >>> ticks(0.02, 0.93, 5), ticks(1, 12, 7, whole=True)
    ([0.2, 0.4, 0.6, 0.8], [2.0, 4.0, 6.0, 8.0, 10.0, 12.0])
    >>> ticks(3.0, 3.0, 5), ticks(0.0, 0.5, 7, whole=True)
    ([3.0], [0.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(decade * m for m in (1, 2, 5, 10) if decade * m >= rough * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)] or [low]


def _values(rows: Sequence[Row], column: str) -> list[float]:
    return [value for row in rows if _finite(value := row.get(column))]


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _shown(column: str, value: float) -> str:
    return f"{value:.3g}" if column.endswith("lr") else shown(column.partition("_")[2], value)


def _text(text: str, length: int = 40) -> str:
    text = printable(text)
    return html.escape(text if len(text) <= length else f"{text[: length - 1]}…")


def _attribute(text: str) -> str:
    return html.escape(printable(text))
