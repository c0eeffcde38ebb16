"""Composing the config from ``conf/`` and the command line, and saying in our words what is wrong with a command."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trainer import experiments
from trainer.checks import ConfigError, Problem, nearest
from trainer.output import slug

LISTS = ("schedule", "regularizer", "augmentation", "observer")  # groups that take several options
HERE = Path(__file__).resolve().parent
CONF = next(p for p in (HERE / "conf", HERE.parent / "conf") if (p / "train.yaml").is_file())  # wheel, or checkout


def options(folders: list[Path]) -> dict[str, dict[str, Path]]:
    """Every group with its options and their files; later folders (``--config-dir``) override earlier ones."""
    found: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*/*.yaml")):
            found.setdefault(file.parent.name, {})[file.stem] = file
    return {group: dict(sorted(files.items())) for group, files in sorted(found.items())}


def headline(file: Path) -> str:
    """The first line of an option file, which is its description."""
    for line in file.read_text().splitlines():
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip() if line.startswith("#") else ""
    return ""


def config_dirs(arguments: list[str]) -> list[Path]:
    """The shipped ``conf/`` and what ``--config-dir`` names."""
    folders = [CONF]
    for here, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if here in ("--config-dir", "-cd"):
            folders.append(Path(after))
        elif here.startswith("--config-dir="):
            folders.append(Path(here.partition("=")[2]))
    return folders


def compose(overrides: list[str], folders: list[Path] | None = None) -> Any:
    """The composed config, as ``train`` composes it; errors of composition come out as ConfigError.

    >>> compose(["optimizer=adam", "seed=3"]).seed
    3
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    folders = folders or [CONF]
    register_resolvers()
    try:
        cfg = composed(overrides, folders, with_hydra=True)
        choices = cfg.hydra.runtime.choices
        cfg = OmegaConf.masked_copy(cfg, [k for k in cfg if k != "hydra"])
        fit_experiment(cfg, choices, overrides, folders)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(*explain(overrides, folders, error)) from None
    return cfg


def composed(overrides: list[str], folders: list[Path], with_hydra: bool = False) -> Any:
    """What Hydra composes; its errors are raised as they are."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    extra = [f"hydra.searchpath=[{','.join(f'file://{f.resolve()}' for f in folders[1:])}]"] if folders[1:] else []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        return hydra_compose("train", overrides=[*extra, *overrides], return_hydra_config=with_hydra)


def fit_experiment(cfg: Any, choices: Any, overrides: list[str], folders: list[Path]) -> list[str]:
    """Take out of the config what its experiment says of options that the command did not take; a note on each."""
    from hydra.errors import HydraException

    def without(words: list[str]) -> Any:
        try:
            return composed(words, folders, with_hydra=True)
        except HydraException as error:  # a key typed for an option that is not taken, which the experiment alone has
            raise ConfigError(*explain(words, folders, error)) from None

    return experiments.fit(cfg, choices, parse(overrides)[0], without)


def register_resolvers() -> None:
    """Make the resolvers known which ``conf/train.yaml`` uses for the folders of a sweep."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def sweep_folder(output: str | None) -> str:
    """The folder of a whole sweep (a resolver for ``conf/train.yaml``)."""
    return output or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S_sweep")


def job_folder() -> str:
    """The folder of one job of a sweep, inside the sweep's (a resolver for ``conf/train.yaml``)."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    typed = parse([word for word in sys.argv[1:] if "=" in word and not word.startswith("-")])[0]
    varied = tuple(f"{o.key_or_group}=" for o in typed if o.is_sweep_override())
    # What is varied comes first, so that a long name that is cut short still tells the jobs apart.
    words = sorted(hydra.overrides.task, key=lambda word: not word.startswith(varied))
    return "_".join(filter(None, [str(hydra.job.num), slug(words)]))


def explain(overrides: list[str], folders: list[Path], error: Exception | None = None) -> list[Problem]:
    """All that is wrong with the overrides, found again one by one, because Hydra stops at the first."""
    parsed, problems = parse(overrides)
    groups = options(folders)
    choices = []
    for override in parsed:
        key = override.key_or_group
        if key in groups and "." not in key:
            wrong = _unknown_options(override, groups[key])
            problems += wrong
            if not wrong:
                choices.append(override)
    if not problems or any(o not in choices for o in parsed):
        problems += _unknown_keys([o for o in parsed if o.key_or_group not in groups], choices, groups, folders)
    return problems or [_in_hydras_words(error)]


def _in_hydras_words(error: Exception | None) -> Problem:
    """What Hydra says, and where a launcher is missing, the extra that brings it."""
    text = _tidy(f"{error or ''} {getattr(error, '__cause__', None) or ''}")
    extras = {"joblib": "parallel", "submitit": "slurm"}
    extra = next((e for name, e in extras.items() if f"hydra/launcher/{name}" in text), None)
    return Problem("", None, text, f"pip install 'trainer[{extra}]' brings it" if extra else "")


def parse(overrides: list[str]) -> tuple[list[Any], list[Problem]]:
    """The overrides as Hydra's parser reads them, and a problem for each that it cannot read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed, problems = OverridesParser.create(), [], []
    for text in map(quoted, overrides):
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            if "=" not in text:
                hint = "write key=value, such as optimizer=adam or optimizer.lr=0.1"
                problems.append(Problem("", None, f"{text!r} is no override: {hint}", _as_option(text)))
            else:
                reason = str(error.__cause__ or error).splitlines()[0]
                way = "quote lists, spaces and commas in the shell: 'schedule=[warmup,cosine]'"
                problems.append(Problem("", None, f"{text!r} cannot be read: {reason}", way))
    return parsed, problems


def quoted(override: str) -> str:
    """An override whose value has characters that Hydra's grammar lacks, as names of folders do, with the value in quotes.

    >>> quoted("data.root=my pictures/é"), quoted("optimizer.lr=0.1"), quoted("schedule=[warmup, cosine]")
    ('data.root="my pictures/é"', 'optimizer.lr=0.1', 'schedule=[warmup, cosine]')
    """
    key, sign, value = override.partition("=")
    if key in ("run", "runs", "resume", "checkpoint") and "," in value and '"' not in value:
        return f"{key}={_folders(value)}"
    plain = re.fullmatch(r"[\w\-.:/%+?|@*$~,\\]*", value, re.ASCII)
    if not sign or plain or re.search(r"[\[\]{}()\"'\\]", value) or value != value.strip():
        return override
    return f'{key}="{value}"'


def _folders(value: str) -> str:
    """A folder, or a list of folders in brackets, whose names may hold commas as those of a sweep's jobs do, in quotes: what is
    there decides where a name ends.
    """
    if Path(value).expanduser().exists():
        return f'"{value}"'
    if not (value.startswith("[") and value.endswith("]")):
        return value
    pieces, names = value[1:-1].split(","), []
    while pieces:
        lengths = [n for n in range(1, len(pieces) + 1) if Path(",".join(pieces[:n]).strip()).expanduser().exists()]
        n = lengths[0] if lengths else 1
        names.append(",".join(pieces[:n]).strip())
        pieces = pieces[n:]
    return "[" + ",".join(f'"{name}"' for name in names) + "]"


def _as_option(word: str) -> str:
    """The option a lone word may have meant."""
    known = {option: group for group, files in options([CONF]).items() for option in files}
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {known[close[0]]}={close[0]}?" if close else ""


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


def _unknown_keys(keys: list[Any], choices: list[Any], groups: dict[str, Any], folders: list[Path]) -> list[Problem]:
    """For each value override, where its dotted key leaves the composed config."""
    base = [c.input_line for c in choices if not c.is_sweep_override()]
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
