"""Names of earlier releases, accepted for one release with a notice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.formats import Json, JsonObject
from trainer.tree import is_list, is_table, table

# Keys, options, and values, each under its dotted path: the option `jsonl` is also the key `observer.jsonl`.
NAMES = {
    "recipe.span": "lr_ratio",
    "observer.jsonl": "history_file",
    "observer.filters.pictures": "images",
    "observer.histograms.pictures": "images",
    "augmentation.translation.share": "fraction",
    "job.pictures": "images",
    "data.way": "loading",
    "data.loading.resident": "in_memory",
    "data.loading.workers": "streaming",
}
# Keys that are ignored, and why.
REMOVED = {
    "observer.histograms.budget": "which steps are looked at no longer depends on the time; observer.histograms.every does"
}
# Classes. Those of most packages were imported from the module that defines them, and now from the package.
CLASSES = {
    "trainer.observers.Jsonl": "trainer.observers.HistoryFile",
    **{f"trainer.engine.options.{name}": f"trainer.engine.recipes.{name}"
       for name in ("Scratch", "Transfer", "Finetune", "Gradual")},
}  # fmt: skip
FROM_MODULE = re.compile(r"trainer\.(observers|augmentation|jobs)\.\w+\.(\w+)")


def arguments(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides with today's names and without keys that are gone, and a notice for each of these.

    >>> arguments(["recipe.span=3", "observer=[jsonl,console]", "seed=1"])[0]
    ['recipe.lr_ratio=3', 'observer=[history_file,console]', 'seed=1']
    """
    result: list[str] = []
    notices: list[str] = []
    for argument in typed:
        prefix, key, rest = re.fullmatch(r"([+~]*)([^=]*)(.*)", argument, re.DOTALL).groups()  # pyright: ignore
        if key in REMOVED:
            notices.append(f"{argument} is ignored: {REMOVED[key]}")
            continue
        key = _key(key)
        new = prefix + key + re.sub(r"\w+", lambda word, key=key: NAMES.get(f"{key}.{word[0]}", word[0]), rest)
        result.append(new)
        if new != argument:
            notices.append(f"{argument} is now {new}; the old name is accepted for one release")
    return result, notices


def tree(config: JsonObject) -> JsonObject:
    """Return a saved config with today's keys, values, options and classes; those of runs before there were tasks classify.

    >>> tree({"observer": {"jsonl": {"_target_": "trainer.observers.jsonl.Jsonl"}}, "task": {}})
    {'task': {}, 'observer': {'history_file': {'_target_': 'trainer.observers.HistoryFile'}}}
    """
    return {"task": {"_target_": "trainer.tasks.Classification"}, **table(_value("", config))}


def _key(key: str) -> str:
    """A dotted key with today's names."""
    new: list[str] = []
    for part in key.split("."):
        new.append(NAMES.get(".".join([*new, part]), part))
    return ".".join(new)


def _value(key: str, value: Json) -> Json:
    """The value of a key with today's names in it."""
    if is_table(value):
        names = {name: NAMES.get(f"{key}.{name}".removeprefix("."), name) for name in value}
        paths = {name: f"{key}.{names[name]}".removeprefix(".") for name in value if f"{key}.{name}" not in REMOVED}
        return {names[name]: _value(path, value[name]) for name, path in paths.items()}
    if is_list(value):
        return [_value(key, item) for item in value]
    if not isinstance(value, str):
        return value
    if key.endswith("._target_"):
        name = FROM_MODULE.sub(r"trainer.\1.\2", value)
        return CLASSES.get(name, name)
    return NAMES.get(f"{key}.{value}", value)
