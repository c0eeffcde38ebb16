"""The answers to keys and options that do not exist: what is similar, or where the name belongs."""

from __future__ import annotations

from collections.abc import Sequence

from trainer import suggestions
from trainer.config.options import LISTS, OptionFiles, names
from trainer.config.overrides import Override
from trainer.errors import Problem
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
    elif path:
        owners = [option for option in files.groups.get(group, ()) if part in files.keys(group, [option])]
        hint = suggestions.parameter(part, available) or (f"a key of {group}={', '.join(owners)};" if owners else "")
        elsewhere = suggestions.meant(item.key, value, files.groups) or (part in files.settings and f"{part!r}")
        hint = hint or (f"did you mean {elsewhere}?" if elsewhere else "")
        hint = f"{hint} available: {', '.join(available) or 'none'}".strip()
    else:
        meant = _meant(item.key, value, tree, files)
        available += [group for group in files.groups if group not in available]
        hint = f"did you mean {meant}?" if meant else f"available: {', '.join(available)}"
    return Problem(item.key, value, text, suggestions.needless(part) or hint, item.experiment)


def _meant(key: str, value: object, tree: JsonObject, files: OptionFiles) -> str:
    """What to type for a key that is none: that of another library, one below a group, or an option."""
    if text := suggestions.meant(key, value, files.groups):
        return text
    first, _, name = key.rpartition(".")
    found = suggestions.find_key(name, tree | {group: {} for group in LISTS})
    enabled = {f"{g}.{o}": table(keys) for g in LISTS for o, keys in table(tree.get(g)).items()}
    below = [f"{option}.{name}" for option, keys in enabled.items() if name in keys]
    groups = [group for group, options in files.groups.items() if (first or name) in options]
    if found and found.rpartition(".")[2] == name and not (first and groups):
        return repr(found)
    if groups and not below:
        place = f"{groups[0]}.{first}" if groups[0] in LISTS else groups[0]
        enabling = _enabling(groups[0], first or name, tree, value is not False)
        return f"{enabling} {place}.{name}={value}" if first else enabling
    return repr(below[0]) if below else repr(found) if found else ""


def _enabling(group: str, option: str, tree: JsonObject, wanted: bool = True) -> str:
    """What to type to have an option, or not; of a list group, next to those that it has."""
    enabled = [name for name in table(tree.get(group)) if name not in ("_target_", option)]
    return f"{group}=[{','.join([*enabled, *[option] * wanted])}]" if group in LISTS else f"{group}={option}"


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
