"""Markdown: its tables, and a page with its images as a single HTML file."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from trainer.literal import markdown_literal

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; display: block; overflow-x: auto; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; background: #fff; } em { color: #777; font-size: .85rem; }
code, pre { background: #8882; border-radius: 3px; padding: .1em .3em; font-size: .85em; overflow-wrap: anywhere; }
pre { padding: .8rem; overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } }
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


def self_contained_html(text: str, folder: Path) -> str:
    """Return Markdown as an HTML page in which the PNG files it refers to, relative to ``folder``, are embedded."""
    from markdown import markdown

    title = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), "report")
    title = html.escape(html.unescape(title))
    body = re.sub(
        r'src="([^"]+\.png)"',
        lambda match: f'src="{data_url(folder / match[1])}"',
        markdown(text, extensions=["tables"]),
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n'


def data_url(path: Path) -> str:
    """Return a PNG file as a ``data:`` URL."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
