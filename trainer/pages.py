"""``train docs <group>``: the pages of the documentation in the terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markdown import Markdown

from trainer import suggestions
from trainer.config.options import PACKAGE, OptionFiles
from trainer.errors import ConfigError, Problem

PAGES = next((p for p in (PACKAGE / "docs", PACKAGE.parent / "docs") if (p / "job.md").is_file()), PACKAGE / "docs")
OF_THE_SITE = (
    "index",
    "start",
    "reference",
    "changelog",
    "contributing",
    "files",
)  # made of other files when it is built


def show_page(topics: Sequence[str], files: OptionFiles) -> None:
    """Print the page of a group or topic, or the part of it that an option (``optimizer=adam``, ``adam``) has.

    In a terminal it is formatted, in a pager; elsewhere it is Markdown. Without a topic the pages are listed.
    """
    text = page_text(topics, files)
    if not sys.stdout.isatty():
        print(text)
        return
    os.environ.setdefault("LESS", "-R")  # shows the pager colors instead of their codes
    console = Console(width=min(Console().width, 100))
    with console.pager(styles=True):
        console.print(Markdown(text))


def page_text(topics: Sequence[str], files: OptionFiles) -> str:
    """Return a page as Markdown; see ``show_page``."""
    pages = {path.stem: path for path in sorted(PAGES.glob("*.md")) if path.stem not in OF_THE_SITE}
    if not topics:
        width = max(map(len, pages), default=0)
        lines = [f"train docs {name:<{width}}   {title(path.read_text('utf-8'))}" for name, path in pages.items()]
        return "\n".join(lines)
    topic = " ".join(topics)
    group, _, option = topic.partition("=")
    if not option and group not in pages:
        group, option = next((g for g, options in files.groups.items() if topic in options), group), group
    if group not in pages or (option and option not in files.groups.get(group, {})):
        options = [name for options in files.groups.values() for name in options]
        hint = suggestions.topic(option or topic, [*pages, *options]) or "train docs lists all pages"
        raise ConfigError(Problem("docs", topic, f"is neither a page ({', '.join(pages)}) nor an option", hint))
    text = re.sub(r"<!--.*?-->\n*", "", pages[group].read_text("utf-8"), flags=re.DOTALL)
    return section(text, option) if option else text.rstrip()


def title(text: str) -> str:
    """Return the first heading of a page.

    >>> title("# Optimizers\\n\\nText")
    'Optimizers'
    """
    return next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), "")


def section(text: str, name: str) -> str:
    """Return the part of a page below the heading of an option; the whole page if it has none, as for own options.

    >>> section("# Optimizers\\n\\n## adam\\n\\nSteps.\\n\\n## sgd\\n", "adam")
    '## adam\\n\\nSteps.'
    """
    found = re.search(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return (found[0] if found else text).rstrip()
