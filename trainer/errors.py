"""Errors that a user can act on: which key, which value, what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a config: the key, what it was, what is allowed, and where that is written."""

    key: str  # dotted, as typed on the command line; empty where no one key is to blame
    value: Any
    allowed: str  # completes "allowed: ..."; a whole sentence where ``key`` is empty
    hint: str = ""  # the nearest name, the way out
    where: str = ""  # the option file that defines the key

    def __str__(self) -> str:
        lines = [f"{self.key} = {self.value!r}: {self.allowed}" if self.key else self.allowed]
        if self.hint:
            lines.append(f"  {self.hint}")
        if self.where:
            lines.append(f"  see {self.where}")
        return "\n".join(lines)


class ConfigError(ValueError):
    """Everything that is wrong with a config, gathered; printed without a traceback, exit code 2.

    Of several processes that train together all find the same wrong, so one tells it; ``of_one_process`` is what one alone met.
    """

    of_one_process = False

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = [p if isinstance(p, Problem) else Problem("", None, p) for p in problems]
        super().__init__("\n".join(map(str, self.problems)))


def check(option: object, **rules: tuple[bool, str]) -> None:
    """Raise one ``ConfigError`` for every rule of an option that does not hold.

    Call it in ``__post_init__``: ``check(self, lr=(self.lr > 0, "must be > 0"))``. ``resolve`` puts the option's
    place in the config before the bare key.

    >>> from types import SimpleNamespace
    >>> check(SimpleNamespace(lr=-1.0), lr=(False, "must be > 0"))
    Traceback (most recent call last):
    trainer.errors.ConfigError: lr = -1.0: must be > 0
    """
    wrong = [Problem(key, getattr(option, key), allowed) for key, (holds, allowed) in rules.items() if not holds]
    if wrong:
        raise ConfigError(*wrong)


def nearest(name: str, names: list[str] | tuple[str, ...]) -> str:
    """The nearest allowed name as a question, or the empty string.

    >>> nearest("optimzer", ["optimizer", "schedule"])
    "did you mean 'optimizer'?"
    >>> nearest("learning_rate", ["lr", "momentum"])
    "did you mean 'lr'?"
    """
    close = get_close_matches(name, names, n=1, cutoff=0.5) or [n for n in names if _initials(name) == n]
    return f"did you mean {close[0]!r}?" if close else ""


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("_") if word)
