"""Saying in our words, and all at once, what is wrong with a command that Hydra cannot compose."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trainer.config import experiments
from trainer.config.options import LISTS, composed, hydras_errors, options
from trainer.config.overrides import parse
from trainer.errors import Problem, nearest


def misread(overrides: list[str], folders: list[Path]) -> list[Problem]:
    """What Hydra would take, and do something else than was meant: several options of a group that has one, an experiment's
    file that Hydra would put elsewhere.
    """
    groups, problems = options(folders), []
    for override in parse(overrides)[0]:
        group = override.key_or_group
        if group not in groups or override.is_delete():
            continue
        value = override.value()
        if value is None or (override.is_sweep_override() and None in getattr(value, "list", ())):
            problems += _unknown_options(override, groups[group])
        elif isinstance(value, list) and group not in LISTS:
            way = f"{group}={(_names(value) or ['...'])[0]}"
            problems.append(Problem(group, value, "is a list, and takes one option", way))
        named = _names(list(getattr(value, "list", ())) if override.is_sweep_override() else value)
        for file in [groups[group][n] for n in named if n in groups[group]] if group == "experiment" else []:
            if not re.match(r"(#.*\n)*# @package _global_\s*\n", file.read_text()):
                text = "its file has to begin with the line '# @package _global_'"
                problems.append(Problem(group, file.stem, text, str(file)))
    return problems


def explain(overrides: list[str], folders: list[Path], error: Exception | None = None) -> list[Problem]:
    """All that is wrong with the overrides, found again one by one, because Hydra stops at the first."""
    return examine(overrides, folders)[0] or [in_hydras_words(error)]


def examine(overrides: list[str], folders: list[Path]) -> tuple[list[Problem], list[str]]:
    """What is wrong with the overrides, and those that are left, each single value, with the likeliest options in the place of
    unknown ones: keys of ``optimizer=adm`` are looked for in adam.
    """
    parsed, problems = parse(overrides)
    odd = misread(overrides, folders)
    problems += odd
    groups = options(folders)
    taken: list[str] = []
    unclear = {problem.key for problem in odd}  # groups of which nobody knows what they are to be
    for override in (o for o in parsed if o.key_or_group in groups and o.key_or_group not in unclear):
        wrong = _unknown_options(override, groups[override.key_or_group])
        problems += wrong
        if override.is_sweep_override():
            unclear |= {override.key_or_group} if wrong else set()
        elif not wrong:
            taken.append(override.input_line)
        elif likely := None if override.is_delete() else _likely(override, groups[override.key_or_group]):
            taken.append(likely)
        else:
            unclear.add(override.key_or_group)
    keys = [o for o in parsed if o.key_or_group not in groups and o.key_or_group.split(".")[0] not in unclear]
    swept = {o.key_or_group for o in parsed if o.is_sweep_override()}
    wrong = _unknown_keys(keys, taken, groups, folders) if keys or not problems else []
    denied = {problem.key for problem in wrong}
    if "experiment" in unclear:  # which keys there are depends on it
        wrong = []
    wrong = [_of_swept(p) if p.key and {p.key.split(".")[0], "experiment"} & swept else p for p in wrong]
    problems += wrong
    right = [o.input_line for o in keys if o.key_or_group not in denied and not o.is_sweep_override()]
    return problems, [*taken, *right]


def _of_swept(problem: Problem) -> Problem:
    """Hydra looks for keys in the option that a group has without the sweep over it; with ``++`` it does not look."""
    hint = f"in a sweep over options that all have it: ++{problem.key}=..."
    return replace(problem, hint=f"{problem.hint}; {hint}".removeprefix("; "))


def _likely(override: Any, files: dict[str, Path]) -> str | None:
    """The choice that may have been meant by one with options that are not there; None where that is not clear."""
    group, several = override.key_or_group, override.key_or_group in LISTS
    found = [
        name if name in files else next(iter(get_close_matches(name, list(files), n=1)), None)
        for name in _names(override.value())
    ]
    names = [name for name in found if name]
    if several:
        return f"{group}=[{','.join(names)}]"
    return f"{group}={names[0]}" if names else None


def in_hydras_words(error: Exception | None) -> Problem:
    """What Hydra says, and where a launcher is missing, the extra that brings it."""
    text = _tidy(f"{error or ''} {getattr(error, '__cause__', None) or ''}")
    extras = {"joblib": "parallel", "submitit": "slurm"}
    extra = next((e for name, e in extras.items() if re.search(rf"hydra/launcher/{name}(_\w+)?'", text)), None)
    return Problem("", None, text, f"pip install 'trainer[{extra}]' brings it" if extra else "")


def _unknown_options(override: Any, files: dict[str, Path]) -> list[Problem]:
    group, several = override.key_or_group, override.key_or_group in LISTS
    none = f"{group}=[] has none" if several else f"one of: {', '.join(files)}"
    if override.is_delete():
        return [Problem(group, None, "cannot be taken out", none)] if several else []
    value = override.value()
    if override.is_sweep_override():
        value = list(value.list) if hasattr(value, "list") else []
    if value is None or (isinstance(value, list) and None in value):
        return [
            Problem(group, None, "must name an option", none if group != "experiment" else "leave it out to have none")
        ]
    if isinstance(value, list) and any(isinstance(name, list) for name in value) and not override.is_sweep_override():
        return [Problem(group, value, "must be a plain list of options", f"{group}=[{','.join(_names(value))}]")]
    return [
        Problem(group, name, f"allowed: {', '.join(files)}", nearest(name, list(files)))
        for name in _names(value)
        if name not in files
    ]


def _names(value: Any) -> list[str]:
    if value is None or isinstance(value, dict):
        return []
    if isinstance(value, list):
        return [name for part in value for name in _names(part)]
    return [str(getattr(value, "text", value)).strip("'\"")]


def _unknown_keys(keys: list[Any], base: list[str], groups: dict[str, Any], folders: list[Path]) -> list[Problem]:
    """For each value override, where its dotted key leaves the composed config."""
    try:
        tree, choices = composed(base, folders)
        experiments.fit(
            tree, choices, parse(base)[0], groups.get("experiment", {}), lambda words: composed(words, folders)
        )
    except hydras_errors() as error:
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
    key, value = override.key_or_group, _typed_value(override)
    names = [str(k) for k in node if k != "_target_"] if hasattr(node, "keys") else []
    if len(path) == 1 and path[0] in LISTS and part in groups.get(path[0], {}):
        used = ",".join([*names, part])
        return Problem(key, value, f"{part} is not in use here", f"add it: '{path[0]}=[{used}]'")
    option = [*key.split("."), ""][1]
    if not path and part in LISTS and option in groups.get(part, {}):  # the group is an empty list
        return Problem(key, value, f"{option} is not in use here", f"add it: '{part}=[{option}]'")
    there = names + ([g for g in groups if g not in names] if not path else [])
    allowed = f"there is no such {'key or group' if not path else 'key'}"
    hint = nearest(part, there)
    listed = f"there are: {', '.join(there) or 'none'}"
    return Problem(key, value, allowed, f"{hint} {listed}".strip())


def _typed_value(override: Any) -> str:
    """What stands behind the equals sign, several values of a sweep included."""
    return (
        override.input_line.partition("=")[2] if override.is_sweep_override() else override.get_value_element_as_str()
    )


def _tidy(text: str) -> str:
    """Hydra's message without its pointers to itself."""
    lines = [line for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    return re.sub(r"\s+", " ", " ".join(lines)).strip()
