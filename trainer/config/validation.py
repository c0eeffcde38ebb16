"""One pass over the overrides against the option files: unknown groups, options, and keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trainer.config.experiments import option_names
from trainer.config.options import LISTS, SINGLE, OptionFiles, names
from trainer.config.overrides import Override, override
from trainer.errors import Problem, most_similar, nearest

NO_OPTION = {"experiment": "leave it out to have none"}


@dataclass
class Schema:
    """The keys that a config has: those of its settings, and below each group those of the options chosen.

    Attributes:
        files: The option files.
        keys: By group or setting; the keys of a group are a table.
        unknown: Groups whose option is not known, so that any key may be right.
    """

    files: OptionFiles
    keys: dict[str, Any]
    unknown: set[str]


def validate(
    overrides: list[Override], files: OptionFiles, saved: dict[str, Any] | None = None
) -> tuple[list[Problem], list[Override]]:
    """Return the errors, and the overrides that are right or can be corrected.

    An unknown option is replaced by the most similar one, in which its keys are looked up: ``optimizer=adm
    optimizer.lr=-1`` is two errors.

    Args:
        overrides: Those of an experiment and of the user.
        files: The option files.
        saved: The config of a run or checkpoint to start from instead of ``conf/train.yaml``.
    """
    schema = Schema(files, dict(files.settings) if saved is None else dict(saved), set())
    options = {group: list(chosen) for group, chosen in files.defaults.items()}
    problems: list[Problem] = []
    usable: list[Override] = []
    chosen_here: set[str] = set()
    for item in overrides:
        if item.key in files.groups and not isinstance(item.value, dict):
            errors, corrected = _check_option(item, files)
            problems += errors
            usable += corrected
            chosen_here.add(item.key)
            options[item.key] = [name for o in corrected for name in option_names(o, files)]
            if not corrected or (errors and item.sweep):
                schema.unknown.add(item.key)
    for group in (*SINGLE, *LISTS):
        if saved is None or group in chosen_here:
            schema.keys[group] = files.keys(group, options[group])
        elif saved.get(group) is None:
            schema.keys[group] = {}
    if "experiment" in schema.unknown:
        schema.unknown |= {*SINGLE, *LISTS}
    for item in overrides:
        if item.key not in files.groups or isinstance(item.value, dict):
            parts = [item]
            if item.key in files.groups:  # optimizer={lr:0.1}
                parts = [
                    replace(override(f"{item.key}.{k}", v, item.kind), source=item.source)
                    for k, v in item.value.items()
                ]
            errors = [error for part in parts if (error := _check_key(part, schema))]
            problems += errors
            usable += [] if errors else [item]
    return problems, usable


def _check_option(item: Override, files: OptionFiles) -> tuple[list[Problem], list[Override]]:
    """Errors in the choice of an option, and the choice with the options that were meant."""
    group, options = item.key, files.groups[item.key]
    none = NO_OPTION.get(group, f"{group}=[] has none" if group in LISTS else f"one of: {', '.join(options)}")
    if item.kind == "~":
        return [Problem(group, None, "cannot be removed", none)], []
    values = item.value if isinstance(item.value, list) else [item.value]
    if item.value is None or None in values:
        return [Problem(group, None, "must name an option", none)], []
    if isinstance(item.value, list) and not item.sweep:
        if group not in LISTS:
            hint = f"{group}={(names(item.value) or ['...'])[0]}"
            return [Problem(group, item.value, "is a list, but the group takes one option", hint)], []
        if any(isinstance(value, list) for value in values):
            hint = f"{group}=[{','.join(names(item.value))}]"
            return [Problem(group, item.value, "must be a plain list of options", hint)], []
    given = option_names(item, files)
    errors = [
        Problem(group, name, f"must be one of {', '.join(options)}", nearest(name, options), _source(item))
        for name in given
        if name not in options
    ]
    if not errors:
        return [], [item]
    likely = [name for name in (name if name in options else most_similar(name, options) for name in given) if name]
    if not likely or item.sweep:
        return errors, []
    return errors, [replace(override(group, likely if group in LISTS else likely[0], item.kind), source=item.source)]


def _check_key(item: Override, schema: Schema) -> Problem | None:
    """The error in a dotted key: where it leaves the keys that the config has."""
    if item.key.startswith("hydra") or (item.kind in ("+", "++") and not item.source):
        return None
    node, path = schema.keys, []
    for part in item.key.split("."):
        if path and path[0] in schema.unknown:
            return None
        if not isinstance(node, dict) or part not in node:
            return _unknown_key(item, part, path, node, schema)
        node, path = node[part], [*path, part]
    return None


def _unknown_key(item: Override, part: str, path: list[str], node: Any, schema: Schema) -> Problem:
    group = path[0] if path else ""
    available = [str(key) for key in node if key != "_target_"] if isinstance(node, dict) else []
    value = None if item.kind == "~" else item.shown
    if len(path) == 1 and group in LISTS and part in schema.files.groups[group]:
        hint = f"enable it with '{group}=[{','.join([*available, part])}]'"
        return Problem(item.key, value, f"{part} is not enabled", hint, _source(item))
    available += [group for group in schema.files.groups if group not in available] if not path else []
    text = "unknown key" if path else "unknown key or group"
    hint = f"{nearest(part, available)} available: {', '.join(available) or 'none'}".strip()
    return Problem(item.key, value, text, hint, _source(item))


def _source(item: Override) -> str:
    return item.source if item.source.startswith("experiment") else ""


def lone_word_hint(word: str, files: OptionFiles) -> str:
    """Return the option that an argument without ``=`` may have meant."""
    groups = {option: group for group, options in files.groups.items() for option in options}
    match = most_similar(word, groups, cutoff=0.6)
    return f"did you mean {groups[match]}={match}?" if match else ""
