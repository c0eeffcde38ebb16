"""Arguments as typed: those that are not overrides, are empty, or are typed twice, and the command that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from shlex import join, quote

from trainer import command_words, suggestions
from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.config.overrides import LITERAL, LITERAL_OR_LISTS, Override
from trainer.errors import Problem, most_similar
from trainer.flags import FLAGS

WORDS = {  # of other programs
    "train": "", "help": "--help", "list": "--help", "options": "--help", "version": "--version",
}  # fmt: skip
EXAMPLE = "write key=value, such as optimizer=adam or optimizer.lr=0.1"


def overrides_of(
    arguments: Sequence[str], files: OptionFiles, multirun: bool = False
) -> tuple[list[str], list[Problem]]:
    """Return the arguments that are overrides, and the error in the others, with the whole command that was meant.

    Args:
        arguments: As typed, without flags.
        files: The option files.
        multirun: Whether the command has the flag ``-m``.
    """
    wrong: list[tuple[str, str | None]] = []  # as typed, and as meant
    overrides: list[str] = []
    command: list[str] = ["-m"] * multirun + [quote(f"--config-dir={directory}") for directory in files.directories[1:]]
    rest = list(arguments)
    while rest:
        if not (run := command_words.run_with_sign(rest[0], arguments)) and command_words.is_override(rest):
            overrides.append(rest.pop(0))
            command.append(quote(overrides[-1]))
            continue
        count, meant = (1, run) if run else _meant(rest, files, command_words.run_key(arguments))
        wrong.append((" ".join(rest[:count]), meant))
        command += [meant] if meant else []
        del rest[:count]
    if not wrong:
        return overrides, []
    names = ", ".join(repr(typed) for typed, _ in wrong)
    text = f"{names} {'is not an override' if len(wrong) == 1 else 'are not overrides'}: {EXAMPLE}"
    if all(meant is not None for _, meant in wrong):
        return overrides, [Problem("", None, text, f"did you mean: {' '.join(['train', *command])}")]
    guesses = [meant for _, meant in wrong if meant]
    topics = ["train --help", *(typed for typed, _ in wrong if typed in files.groups)]
    hint = f"did you mean {' '.join(guesses)}?" if guesses else f"{' '.join(topics)} lists what there is"
    return overrides, [Problem("", None, text, hint)]


def _meant(words: Sequence[str], files: OptionFiles, run: str) -> tuple[int, str | None]:
    """How many words belong together, and the argument that they stand for; None where nobody knows."""
    word, count = command_words.joined(words)
    name, sign, value = map(str.strip, re.sub("^-+", "", word).partition("="))
    if not sign and (match := re.fullmatch(r"([\w.]+):(.*)", name)):  # as YAML writes it
        name, sign, value = match[1], ":", match[2].strip()
    below = {group: files.keys(group, files.defaults[group]) for group in SINGLE}
    key = suggestions.find_key(name, files.settings | {group: {} for group in files.groups} | below)
    if not value and command_words.is_value(words[count:]) and (sign or key or suggestions.target(name)):
        count, value = count + 1, words[count]
    if key and value:
        text = "" if value in files.groups.get(key, [value]) else suggestions.option(key, value, files.groups)[1]
        return count, text or quote(f"{key}={value}")
    if word in WORDS:  # `help` with all that follows
        return (len(words), join([WORDS[word], *words[1:]])) if word == "help" else (1, WORDS[word])
    flag = most_similar(word, FLAGS) if word.startswith("-") else None
    return count, flag or suggestions.guess(word, (name, value), files.groups, run)


def empty(typed: Sequence[Override]) -> list[Problem]:
    """Return the errors of keys that name a path but are empty, which would be the current directory or be taken as unset."""
    keys = (*LITERAL, *LITERAL_OR_LISTS, "runs")
    text = "is empty, as from a shell variable that is not set"
    return [Problem(o.key, "", text, f"{o.key}=<path>") for o in typed if o.key in keys and o.value == ""]


def typed_twice(typed: Sequence[Override]) -> list[str]:
    """Return a notice for each override that a later one replaces.

    >>> from trainer.config.overrides import override
    >>> typed_twice([override("seed", 1), override("seed", 2)])
    ['seed=1 has no effect: seed=2 follows it']
    """
    notices: list[str] = []
    last = {item.key: item for item in typed}
    for item in typed:
        final = last[item.key]
        if item is final or isinstance(item.value, dict) or (item.kind, final.kind) != ("", ""):
            continue
        both = [o.value for o in (item, final) if isinstance(o.value, str)]
        hint = f"; both: '{item.key}=[{','.join(both)}]'" if item.key in LISTS and len({*both}) == 2 else ""
        notices.append(f"{item.text} has no effect: {final.text} follows it{hint}")
    return notices
