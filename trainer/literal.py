"""Text that comes from data, such as the names of classes and files, as it is: no markup language interprets it.

Where it goes decides what has to be escaped: ``printable`` for terminals and plots, ``markdown_literal`` for Markdown and what
becomes of it (HTML, TensorBoard's text). rich's markup and matplotlib's mathtext are switched off where text is printed
(``run_dir.terminal``) and drawn (``report.figures``).
"""

from __future__ import annotations

from typing import TextIO

# What Markdown, in the dialects of Python-Markdown, GitHub and TensorBoard, gives a meaning to within a line.
SPECIAL = frozenset("\\`*_{}[]()#+-.!|<>~$&:@^=\"'")


def printable(text: str) -> str:
    """Return text in which control characters and line breaks are visible, as in a string literal.

    >>> printable("a b"), printable("two\\nlines"), printable("\\x1b[2J")
    ('a b', 'two\\\\nlines', '\\\\x1b[2J')
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Return text of several lines in which all other control characters are visible.

    >>> printable_lines("two\\nlines\\x1b[2J")
    'two\\nlines\\\\x1b[2J'
    """
    return "\n".join(map(printable, text.split("\n")))


def print_literal(text: str, file: TextIO | None = None) -> None:
    """Print text of several lines, which may hold names and paths, with its control characters visible."""
    print(printable_lines(text), file=file, flush=True)


def markdown_literal(text: str, within_line: bool = False) -> str:
    """Return text that Markdown, also within a table, shows as it is: special characters are written as entities.

    Args:
        text: The text.
        within_line: Whether something stands before it in the line, where ``-``, ``>`` and ``1.`` have no meaning.

    >>> markdown_literal("0.5 % of a_b-c"), markdown_literal("<b>*x*</b>")
    ('0.5 % of a_b-c', '&#60;b>&#42;x&#42;&#60;/b>')
    """
    text = printable(text)
    parts = []
    for i, c in enumerate(text):
        at_start = not within_line and not text[:i].strip("0123456789 ")
        within_word = 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
        harmless = (c in "-:.=+'()>" and not at_start) or (c in "._" and within_word)
        parts.append(c if harmless or c not in SPECIAL else f"&#{ord(c)};")
    return "".join(parts)


def code_span(text: str) -> str:
    """Return text as inline code in Markdown, whatever back quotes it contains.

    >>> code_span("a_b"), code_span("a`b")
    ('`a_b`', '`` a`b ``')
    """
    text = printable(text)
    longest = max(map(len, "".join(c if c == "`" else " " for c in text).split()), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"
