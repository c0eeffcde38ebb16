"""What was probably meant by a name that does not exist: similar ones, those of other libraries or groups, and paths."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from shlex import quote

from trainer.errors import Problem, most_similar
from trainer.existing import SUFFIXES, registered, sources_of
from trainer.formats import Json
from trainer.places import holds_runs
from trainer.synonyms import KEYS, NEEDLESS, OPTIONS, PARAMETERS, PATHS
from trainer.tree import is_table, table

LONGEST = 200  # characters of an argument that are shown
Groups = Mapping[str, Collection[str]]  # the options of each group


def plain(name: str) -> str:
    """Return a name without capitals and separators.

    >>> plain("CosineAnnealingLR") == plain("cosine_annealing-lr")
    True
    """
    return re.sub(r"[\W_]", "", name).lower()


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    return {plain(word): target for target, words in table.items() for word in words.split()}


TARGETS, REASONS = _by_name(KEYS), _by_name(NEEDLESS)
NAMES = {group: _by_name(options) for group, options in OPTIONS.items()}


def target(key: str) -> str:
    """Return what to type for a key of another library, ``{}`` in place of its value; empty where it is not known.

    >>> target("max_epochs"), target("trainer.max-epochs"), target("model.depth"), target("xyzzy")
    ('epochs={}', 'epochs={}', 'architecture.depth={}', '')
    """
    first, _, rest = key.partition(".")
    if not rest or plain(key.rpartition(".")[2]) in TARGETS:
        return TARGETS.get(plain(key.rpartition(".")[2]), "")
    return TARGETS.get(plain(first), "").replace("={}", f".{rest}={{}}")


def meant(key: str, value: object, groups: Groups) -> str:
    """Return the overrides that ``key=value`` of another library stands for; empty where that is not known.

    Args:
        key: The key, as typed; of a key with dots the last part counts.
        value: The value; None where none was typed.
        groups: The options of each group.

    >>> meant("lr_scheduler", "CosineAnnealingLR", {"schedule": ["cosine", "step"]}), meant("amp", True, {})
    ('schedule=cosine', 'precision=bf16')
    """
    template = target(key)
    group = template.removesuffix("={}")
    if value is None:
        return "" if "{}" in template else template
    if group not in groups:
        return template.format(_shown(value))
    if not isinstance(value, str) or value in groups[group]:
        return f"{group}={_shown(value)}"
    return option(group, value, groups)[1] or f"{group}=..., of which train --help {group} lists the options"


def needless(key: str) -> str:
    """Return why nothing is to be typed for a key of another library; empty for other keys.

    >>> needless("num_classes"), needless("epochs")
    ('leave it out: the data say how many classes there are', '')
    """
    return REASONS.get(plain(key), "")


def find_key(name: str, tree: Mapping[str, Json]) -> str | None:
    """Return the dotted key or group that a name stands for, such as ``optimizer.lr`` for ``lr`` and ``epochs`` for ``e``.

    Args:
        name: As typed.
        tree: The config, or the default one, as plain values.

    >>> tree = {"optimizer": {"lr": 0.1}, "epochs": 3, "batch_size": 64}
    >>> [find_key(name, tree) for name in ("lr", "e", "batch-size", "optimizer", "max_epochs", "xyzzy")]
    ['optimizer.lr', 'epochs', 'batch_size', 'optimizer', 'epochs', None]
    """
    name = name.replace("-", "_")
    if name in tree or is_table(tree.get(name.partition(".")[0])):
        return name
    starts = [key for key, value in tree.items() if not is_table(value) and key.startswith(name)]
    if len(starts) == 1:
        return starts[0]
    places = {
        key: f"{group}.{key}" for group, keys in reversed([*tree.items()]) for key in table(keys) if key != "name"
    }
    if name not in places and (template := target(name)).endswith("={}") and " " not in template:
        return template.removesuffix("={}")
    match = None if name in places else most_similar(name, tree)
    return match or places.get(most_similar(name, places) or "")


def option(group: str, name: str, groups: Groups) -> tuple[str | None, str]:
    """Return what is meant by an option that a group does not have.

    Returns:
        The option of the same group, None where it is another group's or a key's, and what to type; empty where nobody knows.

    >>> groups = {"optimizer": ["adam", "sgd"], "schedule": ["cosine"], "data": ["folder"]}
    >>> option("optimizer", "Adam", groups), option("optimizer", "cosine", groups)
    (('adam', 'optimizer=adam'), (None, 'schedule=cosine'))
    >>> option("data", "./photos", groups), option("optimizer", "xyzzy", groups)
    ((None, 'data=folder data.root=./photos'), (None, ''))
    """
    same = {plain(known): known for known in groups[group]}
    if name in groups[group]:
        return name, f"{group}={name}"
    if plain(name) in same:
        return same[plain(name)], f"{group}={same[plain(name)]}"
    if renamed := NAMES.get(group, {}).get(plain(name)):
        known = renamed if renamed in groups[group] else None
        return known, f"{group}={renamed}"
    if elsewhere := _path(group, name) or _model(group, name):
        return None, elsewhere
    known = most_similar(name, groups[group])
    return known, f"{group}={known}" if known else _of_another_group(group, name, groups)


def question(group: str, name: str, groups: Groups) -> str:
    """Return what was probably meant by an option that a group does not have, as a question; empty where nobody knows.

    >>> question("optimizer", "adm", {"optimizer": ["adam"]}), question("data", "a.npz", {"data": []})
    ("did you mean 'adam'?", 'did you mean data=arrays data.path=a.npz?')
    """
    known, text = option(group, name, groups)
    return f"did you mean {known!r}?" if known else f"did you mean {text}?" if text else ""


def parameter(name: str, known: Collection[str]) -> str:
    """Return which key of an option was probably meant, as a question; empty where nobody knows.

    >>> parameter("step_size", ["every", "factor"]), parameter("gama", ["gamma"]), parameter("gamma", ["every"])
    ("did you mean 'every'?", "did you mean 'gamma'?", '')
    """
    meant = next(
        (key for key, words in PARAMETERS.items() if key in known and plain(name) in map(plain, words.split())), None
    )
    meant = most_similar(name, known) or meant
    return f"did you mean {meant!r}?" if meant else ""


def word(name: str, groups: Groups, run: str = "resume") -> str | None:
    """Return the option of any group that a word alone stands for, as an override; None where it stands for none.

    Args:
        name: The word.
        groups: The options of all groups.
        run: The key that names a run for the job of the command.

    >>> groups = {"job": ["fit", "evaluate"], "optimizer": ["adam"]}
    >>> word("fit", groups), word("train", groups), word("adm", groups), word("job", groups)
    ('job=fit', 'job=fit', 'optimizer=adam', None)
    """
    options = {option: group for group, names in groups.items() for option in names}
    if name in groups or name in options:
        return f"{options[name]}={name}" if name in options else None
    for group, names in NAMES.items():
        if plain(name) in names:
            return f"{group}={names[plain(name)]}"
    if os.path.exists(name):  # False for what cannot be a path at all
        return quote(f"{run}={name}") if holds_runs(run, Path(name)) else _path("data", name)
    match = most_similar(name, options)
    return _model("architecture", name) or (f"{options[match]}={match}" if match else None)


def guess(text: str, parts: tuple[str, str], groups: Groups, run: str) -> str | None:
    """Return what an argument that is not an override was probably meant to be; None where nobody knows.

    Args:
        text: As typed.
        parts: What stands before and after its sign, if any.
        groups: The options of all groups.
        run: The key that names a run for the job of the command.
    """
    return meant(parts[0], parts[1] or None, groups) or word(text, groups, run)


def topic(name: str, known: Collection[str]) -> str:
    """Return what was probably meant by the name of a group, an option or a key, as a question; empty where nobody knows.

    >>> topic("lr_scheduler", ["schedule"]), topic("SGDM", ["momentum", "sgd"]), topic("adamm", ["gamma", "adam"])
    ("did you mean 'schedule'?", "did you mean 'momentum'?", "did you mean 'adam'?")
    """
    elsewhere = next((names[plain(name)] for names in NAMES.values() if plain(name) in names), "")
    meant = target(name).partition("={}")[0] or elsewhere
    meant = meant if meant in known else most_similar(name, known)
    return f"did you mean {meant!r}?" if meant else ""


def _path(group: str, name: str) -> str:
    """What to type for a path."""
    file = Path(name)
    if file.suffix in (".yaml", ".yml"):
        if file.parent.name == group:
            return f"--config-dir {file.parent.parent} {group}={file.stem}"
        return f"--config-dir <directory> {group}={file.stem} with the file in <directory>/{group}"
    is_path = "/" in name or name.startswith((".", "~")) or file.suffix.lower() in SUFFIXES or os.path.exists(name)
    if is_path or file.suffix:
        for ends, template in PATHS.get(group, {}).items():
            if name.lower().endswith(ends) and (is_path or ends != ("",)):
                return template.format(name)
    return ""


def _of_another_group(group: str, name: str, groups: Groups) -> str:
    """What to type for an option that another group has."""
    others = [g for g in groups if g not in (group, "experiment")]
    found = [f"{other}={known}" for other in others for known in groups[other] if plain(known) == plain(name)]
    if len(found) == 1:  # `none` is one of several groups
        return found[0]
    return "optimizer.weight_decay=0.0005" if group == "regularizer" and plain(name) == "weightdecay" else ""


def _model(group: str, name: str) -> str:
    """What to type for the name of a model of torchvision or timm, whose sources list them."""
    if group != "architecture":
        return ""
    for library in ("torchvision", "timm"):
        models = {plain(model): model for model in registered("\n".join(sources_of(library)))}
        if model := models.get(plain(name)):
            return f"architecture={library} architecture.name={model}"
    return ""


def _shown(value: object) -> str:
    """A value as it is typed."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def unreadable(argument: str, reason: str) -> Problem:
    """Return the error of an argument that Hydra's grammar does not have.

    Args:
        argument: As typed.
        reason: What Hydra says.

    >>> unreadable("seed=1,2,", "mismatched input '<EOF>' expecting {...}").hint
    "remove the comma, or add a value: 'seed=1,2'"
    >>> unreadable("optimizer.lr=log(1e-4,1)", "Unknown function 'log'").hint
    "job=search searches distributions: 'job.space.optimizer.lr=log(1e-4,1)'"
    """
    key, _, value = argument.partition("=")
    argument = argument if len(argument) <= LONGEST else f"{argument[: LONGEST - 1]}…"
    text, hint = reason.splitlines()[0].partition(" expecting ")[0], ""
    if found := re.search(r"\b(log|uniform|log_int|1-log)\(.*?\)", value):
        text = "a distribution is no value"
        override = f"{key.removeprefix('space.')}={value}" if value == found[0] else f"<key>={found[0]}"
        hint = f"job=search searches distributions: 'job.space.{override}'"
    elif value.endswith(","):
        text, hint = "it ends with a comma", f"remove the comma, or add a value: {f'{key}={value.rstrip(chr(44))}'!r}"
    elif "digits) for integer" in reason:  # Python's limit of 4300
        text, hint = "it holds an integer of thousands of digits", f"train --help {key} says what it takes"
    hint = hint or "quote lists, spaces and commas in the shell: 'schedule=[warmup,cosine]'"
    return Problem("", None, f"{argument!r} cannot be read: {text}", hint)
