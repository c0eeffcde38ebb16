"""Markdown: its tables, and a page with its images as a single HTML file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.literal import markdown_literal

if TYPE_CHECKING:
    from markdown import Markdown

PHOTOS = ("batch", "filters", "misclassified", "grad_cam", "largest_errors", "suspects")  # not inverted on a dark page
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; display: block; overflow-x: auto; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
table:first-of-type { font-size: 1.05rem; }
img { max-width: 100%; background: #fff; } em { color: #777; font-size: .85rem; }
code, pre { background: #8882; border-radius: 3px; padding: .1em .3em; font-size: .85em; overflow-wrap: anywhere; }
pre { padding: .8rem; white-space: pre-wrap; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; } th, td { padding: .2rem .4rem; }
  p:has(> img.plot) { overflow-x: auto; } img.plot { max-width: 44rem; }
}
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818; } em { color: #999; }
  img.plot { filter: invert(.91) hue-rotate(180deg); }
}
"""


def markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table whose cells show their text as it is.

    >>> markdown_table(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    head, *body = (
        f"| {' | '.join(markdown_literal(cell, within_line=True) for cell in row)} |" for row in [columns, *rows]
    )
    return [head, "|" + "---|" * len(columns), *body]


def self_contained_html(
    text: str, folder: Path, figures: Mapping[str, str] | None = None, style: str = "", script: str = ""
) -> str:
    """Return Markdown as an HTML page in which the PNG files it refers to, within ``folder``, are embedded.

    HTML in the text is shown, links are not followed, and images from anywhere else are left out: names in it are data.

    Args:
        text: Markdown.
        folder: Where its images are.
        figures: HTML to show instead of an image, by the image's path.
        style: CSS of these figures.
        script: JavaScript of these figures.
    """

    title = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), "report")
    title = html.escape(html.unescape(title))

    def embedded(match: re.Match[str]) -> str:
        name = html.unescape(match[1])
        kind = "photo" if Path(name).stem.startswith(PHOTOS) else "plot"
        return f'class="{kind}" loading="lazy" decoding="async" src="{data_url(folder, name)}"'

    body = _converter().convert(text)
    for name, figure in (figures or {}).items():
        body = re.sub(rf'<p><img [^>]*src="{re.escape(name)}"[^>]*></p>', lambda _, figure=figure: figure, body)
    body = re.sub(r'src="([^"]*)"', embedded, body)
    body = re.sub(
        r"<th[^>]*>\w+</th>", lambda cell: cell[0].replace("_", "_<wbr>"), body
    )  # where a wide column may break
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
    head += f"<style>{STYLE}{style}</style>" + (f"<script>{script}</script>" if script else "")
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _converter() -> Markdown:
    """Markdown without what would be live in a page: HTML and links."""
    from markdown import Markdown

    converter = Markdown(extensions=["tables"])
    converter.preprocessors.deregister("html_block")
    for name in (
        "html",
        "link",
        "reference",
        "short_reference",
        "autolink",
        "automail",
        "image_reference",
        "short_image_ref",
    ):
        converter.inlinePatterns.deregister(name)
    return converter


def data_url(folder: Path, name: str) -> str:
    """Return a PNG file in a folder as a ``data:`` URL; an empty one if there is no such file, or it is a link to elsewhere."""
    path = folder / name
    try:
        inside = path.suffix == ".png" and path.resolve().is_relative_to(folder.resolve()) and path.is_file()
        content = path.read_bytes() if inside else b""
    except (OSError, ValueError):
        content = b""
    is_png = content.startswith(b"\x89PNG\r\n\x1a\n")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if is_png else ""
