"""The answers to keys and options that do not exist: what is similar, or where the name belongs."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.config.options import LISTS, OptionFiles, names
from trainer.config.overrides import Override
from trainer.errors import Problem, most_similar, nearest
from trainer.formats import JsonObject
from trainer.tree import is_list, is_table, table, value_at


def unknown_key(item: Override, path: Sequence[str], part: str, tree: JsonObject, files: OptionFiles) -> Problem:
    """Return the error that a config has no such key.

    Args:
        item: The override of the key.
        path: The part of the key that the config has.
        part: What follows it, and does not exist.
        tree: The config as plain values.
        files: The option files.
    """
    text = "unknown key" if path else "unknown key or group"
    value = None if item.kind == "~" else item.shown
    available = [key for key in table(value_at(tree, *path)) if key != "_target_"]
    group = "" if len(path) != 1 else path[0]
    if group in LISTS and part in files.groups[group]:
        text, hint = f"{part} is not enabled", f"enable it with {_enabling(group, part, tree)}"
    else:
        available += [] if path else [group for group in files.groups if group not in available]
        hint = nearest(part, available) or _elsewhere(part, group, tree, files)
        if path or not hint:
            hint = f"{hint} available: {', '.join(available) or 'none'}".strip()
    return Problem(item.key, value, text, hint, item.experiment)


def _elsewhere(part: str, group: str, tree: JsonObject, files: OptionFiles) -> str:
    """Where a key may belong that is not known in its place: below the group, or at the top without one."""
    options = [option for option in files.groups.get(group, ()) if part in files.keys(group, [option])]
    if options:
        return f"a key of {group}={', '.join(options)};"
    if part in files.settings:
        return f"did you mean {part!r}?"
    if group:
        return ""
    below = {key: value for key, value in tree.items() if is_table(value)}
    for key in (part, most_similar(part, (key for keys in below.values() for key in keys))):
        if places := [f"{group}.{key}" for group, keys in below.items() if key in keys]:
            return f"did you mean {places[0]!r}?"
        if groups := [group for group, options in files.groups.items() if key in options]:
            return f"did you mean {_enabling(groups[0], part, tree)}?"
    return ""


def _enabling(group: str, option: str, tree: JsonObject) -> str:
    """What to type to have an option; of a list group, next to those that it has."""
    enabled = [name for name in table(tree.get(group)) if name != "_target_"]
    return f"{group}=[{','.join([*enabled, option])}]" if group in LISTS else f"{group}={option}"


def choice_problems(item: Override, files: OptionFiles) -> list[Problem]:
    """Return why an override cannot choose the options of its group."""
    group, value, several = item.key, item.value, item.key in LISTS
    elements = (value or ([] if several else [None])) if is_list(value) else [value]
    none = f"{group}=[] has none" if several else f"one of: {', '.join(files.groups[group])}"
    none = "leave it out to have none" if group == "experiment" else none
    if item.kind == "~":
        return [Problem(group, None, "cannot be removed", none)]
    if any(element is None or is_table(element) for element in elements):
        return [Problem(group, None if None in elements else value, "must name an option", none)]
    if is_list(value) and not several:
        return [Problem(group, value, "is a list, but the group takes one option", f"{group}={elements[0]}")]
    if any(is_list(element) for element in elements):
        hint = f"{group}=[{','.join(names(value))}]"
        return [Problem(group, value, "must be a plain list of options", hint)]
    if len(set(names(value))) < len(names(value)):
        return [Problem(group, value, "names an option twice")]
    unknown = [name for name in names(value) if name not in files.groups[group]]
    return [files.unknown_option(group, name, item.experiment) for name in unknown]
