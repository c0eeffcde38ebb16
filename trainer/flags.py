"""The flags of the command line, and which of them go together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from trainer.errors import ConfigError, Problem

_VIEWS = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
_DECLARED: dict[tuple[str, ...], dict[str, object]] = {
    ("--help", "-h"): {"action": "store_true"},
    ("--version",): {"action": "store_true"},
    ("--multirun", "-m"): {"action": "store_true"},
    ("--config-dir", "-cd"): {"action": "append", "default": []},
    ("--allow",): {"action": "append", "default": []},
    ("--cfg", "-c"): {"choices": ["job", "hydra", "all"]},
    ("--resolve",): {"action": "store_true"},
    ("--package", "-p"): {},
    ("--info", "-i"): {"nargs": "?", "const": "all", "choices": _VIEWS},
}
FLAGS = tuple(name for names in _DECLARED for name in names)
ALONE = ("version", "multirun", "cfg", "info")  # each is a way to run the program


def parse_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags by name, and under ``overrides`` all other arguments in the order in which they were typed.

    Raises:
        ConfigError: A flag lacks its value, or has no effect next to the others.
    """
    parser = argparse.ArgumentParser("train", add_help=False, allow_abbrev=False)
    for names, settings in _DECLARED.items():
        parser.add_argument(*names, **settings)  # type: ignore[arg-type]
    parser.add_argument("overrides", nargs="*")

    def error(message: str) -> NoReturn:
        raise ConfigError(Problem("", None, message, "train --help lists what there is"))

    parser.error = error  # type: ignore[method-assign]  # one format for all errors
    flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    flags.overrides = [word for word in arguments if word in flags.overrides or word in unknown]
    if not flags.help and (problems := _without_effect(flags)):
        raise ConfigError(*problems)
    return flags


def _without_effect(flags: argparse.Namespace) -> list[Problem]:
    """The errors of flags and words that would be ignored next to another flag."""
    given = [f"--{name}" for name in ALONE if getattr(flags, name)]
    if len(given) > 1:
        return [Problem("", None, f"{' and '.join(given)} cannot be combined", f"leave out {given[0]} or {given[1]}")]
    if flags.version and flags.overrides:
        words = ", ".join(map(repr, flags.overrides))
        return [Problem("", None, f"--version takes nothing else: {words}", "train --version")]
    shown = [f"--{name}" for name in ("resolve", "package") if getattr(flags, name)]
    if shown and not flags.cfg:
        return [
            Problem(
                "",
                None,
                f"{' and '.join(shown)} {'have' if len(shown) > 1 else 'has'} an effect only with --cfg",
                f"--cfg job {shown[0]}",
            )
        ]
    return []
