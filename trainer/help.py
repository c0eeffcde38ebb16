"""What ``train --help`` prints: the grammar, and every group with its options, read from the option files."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer import suggestions
from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.errors import ConfigError, Problem
from trainer.parameters import parameters
from trainer.settings import Settings

GRAMMAR = Path(__file__).with_suffix(".txt")


def help_text(files: OptionFiles, topics: list[str]) -> str:
    """Return the whole help, or, for groups (``schedule``) and options (``schedule=clr``), what can be set there."""
    if topics:
        return "\n".join(_topic(files, topic) for topic in topics)
    width = shutil.get_terminal_size((120, 24)).columns
    lines = [GRAMMAR.read_text(), "settings (conf/train.yaml)"]
    lines += [_clip(f"  {line}", width) for line in _settings(files).values()]
    for group, options in files.groups.items():
        kind = f"list: {group}=[a,b]" if group in LISTS else f"one of: {group}=..."
        lines += ["", f"{group} ({kind})"]
        lines += [_clip(f"  {name:<22}{headline(file)}", width) for name, file in options.items()]
    return "\n".join(lines)


def _settings(files: OptionFiles) -> dict[str, str]:
    """The settings, each with its line: value and meaning."""
    values = {key: "null" if value is None else value for key, value in files.settings.items()}
    return {p.name: f"{f'{p.name}: {values[p.name]}':<30}{p.comment}" for p in parameters(Settings)}


def _topic(files: OptionFiles, topic: str) -> str:
    """What can be set in a group, an option (``schedule=clr``, ``clr``), or under a key (``optimizer.lr``, ``lr``)."""
    group, _, option = topic.partition("=")
    if group in files.groups:
        if option and option not in files.groups[group]:
            raise ConfigError(files.unknown_option(group, option))
        chosen = [option] if option else list(files.groups[group])
        return "\n".join(f"{group}={name}\n{_indented(files.groups[group][name])}\n" for name in chosen)
    found = [line for name, line in _settings(files).items() if name == topic]
    found += [_topic(files, f"{group}={topic}") for group, options in files.groups.items() if topic in options]
    keys = _keys(files)
    found += [
        f"{key}={value}  ({', '.join(options)})"
        for key, value in keys
        if key == topic or key.endswith(f".{topic}")
        for options in [keys[key, value]]
    ]
    if not found:
        names = [*files.groups, *files.settings, *(option for options in files.groups.values() for option in options)]
        names += [key.rpartition(".")[2] for key, _ in keys]
        text = f"groups are {', '.join(files.groups)}"
        raise ConfigError(Problem("--help", topic, text, suggestions.topic(topic, names)))
    return "\n".join(found)


def _keys(files: OptionFiles) -> dict[tuple[str, str], list[str]]:
    """Each key below a group, with its value and meaning as the option files state them, and the options that have it."""
    keys: dict[tuple[str, str], list[str]] = {}
    for group in (*SINGLE, *LISTS):
        for option, file in files.groups.get(group, {}).items():
            for line in file.read_text().splitlines():
                name, _, value = line.strip().partition(": ")
                if name.isidentifier() and name not in ("_target_", "defaults", option):
                    key = f"{group}.{option}.{name}" if group in LISTS else f"{group}.{name}"
                    keys.setdefault((key, value), []).append(f"{group}={option}")
    return keys


def _indented(file: Path) -> str:
    lines = [line for line in file.read_text().splitlines() if "_target_" not in line]
    return "\n".join(f"  {line}" for line in lines)


def _clip(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def headline(file: Path) -> str:
    """Return the first line of an option file, which is its description."""
    for line in file.read_text().splitlines():
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip() if line.startswith("#") else ""
    return ""
