"""The words of a command: which of them belong together, which are overrides, and which is a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from trainer.places import RUN_KEYS, holds_runs


def joined(words: Sequence[str]) -> tuple[str, int]:
    """Return the first arguments as one without spaces around ``=`` and within brackets, and how many they are.

    >>> joined(["lr", "=", "0.1", "seed=1"]), joined(["schedule=[warmup,", "cosine]"]), joined(["schedule=[warmup", "seed=1"])
    (('lr=0.1', 3), ('schedule=[warmup,cosine]', 2), ('schedule=[warmup', 1))
    """
    text, count = words[0], 1
    while count < len(words) and (words[count].startswith("=") or (text.endswith("=") and is_value(words[count:]))):
        text, count = text + words[count], count + 1
    for end in range(count + 1, len(words) + 1):
        whole = re.sub(r"[\s,]+", ",", " ".join([text, *words[count:end]]))
        if text.count("[") > text.count("]") and whole.count("[") == whole.count("]") and whole.count("=") == 1:
            return whole, end
    return text, count


def is_override(words: Sequence[str]) -> bool:
    """Return whether the first of these arguments is an override by itself.

    >>> is_override(["seed=1"]), is_override(["seed=", "1"]), is_override(["seed"])
    (True, False, False)
    """
    return bool(re.match(r"[^-=\s][^=\s]*=|~", words[0])) and joined(words)[1] == 1


def is_value(words: Sequence[str]) -> bool:
    """Return whether the first of these arguments may be the value of one before them."""
    return bool(words) and "=" not in words[0] and not re.match(r"-\D|~", words[0])


def run_key(arguments: Sequence[str]) -> str:
    """Return the key that names a run for the job of a command.

    >>> run_key(["job=report", "outputs/a"]), run_key(["outputs/a"])
    ('run', 'resume')
    """
    job = next((text.partition("=")[2] for text in reversed(arguments) if text.startswith("job=")), "fit")
    return RUN_KEYS.get(job, "resume")


def run_with_sign(text: str, arguments: Sequence[str]) -> str | None:
    """Return a run directory whose name looks like an override, such as ``outputs/sweep/0_seed=1``, as the value of its key."""
    before, sign, _ = text.partition("=")
    key = run_key(arguments)
    return quote(f"{key}={text}") if sign and "/" in before and holds_runs(key, Path(text)) else None
