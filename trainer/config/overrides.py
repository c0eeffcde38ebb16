"""The words of a command, ``key=value``, as Hydra reads them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trainer.config.options import CONF, options
from trainer.errors import Problem


def parse(overrides: list[str]) -> tuple[list[Any], list[Problem]]:
    """The overrides as Hydra's parser reads them, and a problem for each that it cannot read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed, problems = OverridesParser.create(), [], []
    for text in map(quoted, overrides):
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            if "=" not in text:
                hint = "write key=value, such as optimizer=adam or optimizer.lr=0.1"
                problems.append(Problem("", None, f"{text!r} is no override: {hint}", _as_option(text)))
            else:
                reason = str(error.__cause__ or error).splitlines()[0]
                way = "quote lists, spaces and commas in the shell: 'schedule=[warmup,cosine]'"
                problems.append(Problem("", None, f"{text!r} cannot be read: {reason}", way))
    return parsed, problems


def quoted(override: str) -> str:
    """An override whose value has characters that Hydra's grammar lacks, as names of folders do, with the value in quotes.

    >>> quoted("data.root=my pictures/é"), quoted("optimizer.lr=0.1"), quoted("schedule=[warmup, cosine]")
    ('data.root="my pictures/é"', 'optimizer.lr=0.1', 'schedule=[warmup, cosine]')
    """
    key, sign, value = override.partition("=")
    if key in ("run", "runs", "resume", "checkpoint") and "," in value and '"' not in value:
        return f"{key}={_folders(value)}"
    plain = re.fullmatch(r"[\w\-.:/%+?|@*$~,\\]*", value, re.ASCII)
    if not sign or plain or re.search(r"[\[\]{}()\"'\\]", value) or value != value.strip():
        return override
    return f'{key}="{value}"'


def _folders(value: str) -> str:
    """A folder, or a list of folders in brackets, whose names may hold commas as those of a sweep's jobs do, in quotes: what is
    there decides where a name ends.
    """
    if Path(value).expanduser().exists():
        return f'"{value}"'
    if not (value.startswith("[") and value.endswith("]")):
        return value
    pieces, names = value[1:-1].split(","), []
    while pieces:
        lengths = [n for n in range(1, len(pieces) + 1) if Path(",".join(pieces[:n]).strip()).expanduser().exists()]
        n = lengths[0] if lengths else 1
        names.append(",".join(pieces[:n]).strip())
        pieces = pieces[n:]
    return "[" + ",".join(f'"{name}"' for name in names) + "]"


def _as_option(word: str) -> str:
    """The option a lone word may have meant."""
    known = {option: group for group, files in options([CONF]).items() for option in files}
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {known[close[0]]}={close[0]}?" if close else ""
