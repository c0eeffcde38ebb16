"""Saying in our words, and all at once, what is wrong with a command that Hydra cannot compose."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trainer.checks import Problem, nearest
from trainer.conf import LISTS, composed, options
from trainer.overrides import parse


def explain(overrides: list[str], folders: list[Path], error: Exception | None = None) -> list[Problem]:
    """All that is wrong with the overrides, found again one by one, because Hydra stops at the first."""
    return examine(overrides, folders)[0] or [_in_hydras_words(error)]


def examine(overrides: list[str], folders: list[Path]) -> tuple[list[Problem], list[str]]:
    """What is wrong with the overrides, and those that are left, each single value, with the likeliest options in the place of
    unknown ones: keys of ``optimizer=adm`` are looked for in adam.
    """
    parsed, problems = parse(overrides)
    groups = options(folders)
    taken: list[str] = []
    unclear: set[str] = set()  # groups of which nobody knows what they are to be
    for override in (o for o in parsed if o.key_or_group in groups):
        wrong = _unknown_options(override, groups[override.key_or_group])
        problems += wrong
        if override.is_sweep_override():
            unclear |= {override.key_or_group} if wrong else set()
        elif not wrong:
            taken.append(override.input_line)
        elif likely := _likely(wrong, groups):
            taken.append(likely)
        else:
            unclear.add(override.key_or_group)
    keys = [o for o in parsed if o.key_or_group not in groups and o.key_or_group.split(".")[0] not in unclear]
    wrong = _unknown_keys(keys, taken, groups, folders) if keys or not problems else []
    problems += wrong
    denied = {problem.key for problem in wrong}
    right = [o.input_line for o in keys if o.key_or_group not in denied and not o.is_sweep_override()]
    return problems, [*taken, *right]


def _likely(wrong: list[Problem], groups: dict[str, dict[str, Path]]) -> str | None:
    """The choice that may have been meant by one whose option is not there; None where that is not clear."""
    group, name = wrong[0].key, str(wrong[0].value)
    close = get_close_matches(name, list(groups[group]), n=1)
    return f"{group}={close[0]}" if close and group not in LISTS else None


def _in_hydras_words(error: Exception | None) -> Problem:
    """What Hydra says, and where a launcher is missing, the extra that brings it."""
    text = _tidy(f"{error or ''} {getattr(error, '__cause__', None) or ''}")
    extras = {"joblib": "parallel", "submitit": "slurm"}
    extra = next((e for name, e in extras.items() if re.search(rf"hydra/launcher/{name}(_\w+)?'", text)), None)
    return Problem("", None, text, f"pip install 'trainer[{extra}]' brings it" if extra else "")


def _unknown_options(override: Any, files: dict[str, Path]) -> list[Problem]:
    if override.is_delete():
        return []
    value = override.value()
    if override.is_sweep_override():
        value = list(value.list) if hasattr(value, "list") else []
    elif value is None and override.key_or_group != "experiment":
        way = (
            f"{override.key_or_group}=[] has none" if override.key_or_group in LISTS else f"one of: {', '.join(files)}"
        )
        return [Problem(override.key_or_group, None, "must name an option", way)]
    problems = []
    for name in _names(value):
        if name not in files:
            known = ", ".join(files)
            problems.append(Problem(override.key_or_group, name, f"allowed: {known}", nearest(name, list(files))))
    return problems


def _names(value: Any) -> list[str]:
    if value is None or isinstance(value, dict):
        return []
    if isinstance(value, list):
        return [name for part in value for name in _names(part)]
    return [str(getattr(value, "text", value)).strip("'\"")]


def _unknown_keys(keys: list[Any], base: list[str], groups: dict[str, Any], folders: list[Path]) -> list[Problem]:
    """For each value override, where its dotted key leaves the composed config."""
    try:
        tree = composed(base, folders)
    except Exception as error:
        return [Problem("", None, _tidy(str(error)))]
    problems = []
    for override in keys:
        key = override.key_or_group
        if override.is_add() or key.startswith("hydra"):
            continue
        node, path = tree, []
        for part in key.split("."):
            if part.startswith("hydra"):
                break
            if part not in list(getattr(node, "keys", tuple)()):  # `in node` denies a key whose value is ???
                problems.append(_unknown_key(override, part, path, node, groups))
                break
            node, path = node._get_node(part), [*path, part]  # pyright: ignore[reportOptionalMemberAccess]
            if hasattr(node, "_is_none") and node._is_none():
                node = None
    return problems


def _unknown_key(override: Any, part: str, path: list[str], node: Any, groups: dict[str, Any]) -> Problem:
    key, value = override.key_or_group, override.get_value_element_as_str()
    names = [str(k) for k in node if k != "_target_"] if hasattr(node, "keys") else []
    if len(path) == 1 and path[0] in LISTS and part in groups.get(path[0], {}):
        used = ",".join([*names, part])
        return Problem(key, value, f"{part} is not in use here", f"add it: '{path[0]}=[{used}]'")
    there = names + ([g for g in groups if g not in names] if not path else [])
    allowed = f"there is no such {'key or group' if not path else 'key'}"
    hint = nearest(part, there)
    listed = f"there are: {', '.join(there) or 'none'}"
    return Problem(key, value, allowed, f"{hint} {listed}".strip())


def _tidy(text: str) -> str:
    """Hydra's message without its pointers to itself."""
    lines = [line for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return re.sub(r"\s+", " ", " ".join(lines)).strip()
