"""The winner as an experiment file: ``train experiment=<run directory>/best``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from trainer.config.load import load_config
from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.files import write_text
from trainer.formats import Json, JsonObject
from trainer.tree import table

NOT_WRITTEN = ("job", "observer", "output", "resume", "checkpoint", "run", "runs", "experiment")


def write_experiment(path: Path, tree: JsonObject, comments: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """Write an experiment file that gives a config, and check that it does.

    Args:
        path: The file.
        tree: The config as plain values.
        comments: Lines at its top.
        config_dirs: Directories with options of the user.

    Raises:
        ValueError: The file gives another config.
    """
    files = OptionFiles(list(config_dirs))
    content = experiment(tree, files)
    head = ["# @package _global_", *(f"# {line}" for line in comments)]
    if config_dirs:
        head.append(f"# needs: {' '.join(f'--config-dir {d}' for d in config_dirs)}")
    write_text(path, "\n".join(head) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    again = load_config([f"experiment={path}"], config_dirs).tree
    different = [key for key in tree if key not in NOT_WRITTEN and tree[key] != again.get(key)]
    if different:
        raise ValueError(f"{path} does not give the winner's {', '.join(different)}")


def experiment(tree: JsonObject, files: OptionFiles) -> JsonObject:
    """Return the content of the experiment file of a config: options and values that differ from the defaults."""
    defaults: list[Json] = []
    content: JsonObject = {}
    for group in (*SINGLE, *LISTS):
        if group in NOT_WRITTEN:
            continue
        values: JsonObject
        node = table(tree.get(group))
        if group in SINGLE:
            option = files.option_name(group, node)
            if [option] != files.defaults[group]:
                defaults.append({f"override /{group}": option})
            values = _changed(node, files.keys(group, [option]))
        else:
            enabled = [name for name, item in node.items() if item is not None]
            if enabled != [
                name for o in files.defaults[group] for name, item in files.keys(group, [o]).items() if item
            ]:
                defaults.append({f"override /{group}": [*enabled]})
            values = {
                name: changed
                for name in enabled
                if (changed := _changed(table(node[name]), table(files.keys(group, [name]).get(name))))
            }
        if values:
            content[group] = values
    scalars = {k: v for k, v in tree.items() if k in files.settings and k not in NOT_WRITTEN}
    content |= {key: value for key, value in scalars.items() if value != files.settings[key]}
    return {"defaults": defaults, **content} if defaults else content


def _changed(node: JsonObject, file: JsonObject) -> JsonObject:
    """The values of an option that differ from those of its file."""
    return {key: value for key, value in node.items() if key != "_target_" and (key not in file or value != file[key])}
