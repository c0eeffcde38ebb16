"""The jobs of a sweep: every combination of the values typed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from trainer.config.options import OptionFiles
from trainer.config.overrides import Override, values
from trainer.errors import ConfigError, Problem, first_line
from trainer.run_dir import slug
from trainer.sweep.manifest import Job


def jobs(typed: Sequence[Override], files: OptionFiles, subdir: str | None = None) -> list[Job]:
    """Return every combination of the values, the values of the last override changing fastest.

    Args:
        typed: The overrides of the command.
        files: The option files.
        subdir: The name of a job's directory with interpolations such as ``${hydra.job.num}``; None for our own.

    Raises:
        ConfigError: An override stands for values that cannot be enumerated.
    """
    values: dict[str, list[str]] = {}
    for item in typed:
        values.pop(item.kind + item.key, None)  # the last one counts
        values[item.kind + item.key] = texts(item, files)
    varied = tuple(f"{o.kind}{o.key}=" for o in typed if o.sweep)
    return [
        Job(number, subdir_name(subdir, number, overrides) if subdir else name(number, overrides, varied), overrides)
        for number, overrides in enumerate(itertools.product(*values.values()))
    ]


def texts(item: Override, files: OptionFiles) -> list[str]:
    """Return an override once for each value that it stands for."""
    if not item.sweep:
        return [item.text]
    if isinstance(item.value, Glob):  # over the options of a group
        return [f"{item.kind}{item.key}={option.value}" for option in values(item, files)]
    parsed = OverridesParser.create().parse_overrides([item.text])[0]
    if not parsed.is_discrete_sweep():
        text = "has no list of values to try"
        hint = f"job=search searches intervals: 'job.space.{item.key}=uniform(a,b)'"
        raise ConfigError(Problem(item.key, item.shown, text, hint))
    found = [f"{item.kind}{item.key}={value}" for value in parsed.sweep_string_iterator()]
    repeated = next((text for i, text in enumerate(found) if text in found[:i]), None)
    if repeated is not None:
        text, value = "gives several jobs the same config", repeated.partition("=")[2]
        raise ConfigError(Problem(item.key, item.shown, f"{text}: {value} is there twice", "seed=0,1 repeats a config"))
    return found


def name(number: int, overrides: Sequence[str], varied: tuple[str, ...]) -> str:
    """Return the name of a job's directory.

    It holds what varies; the rest is in ``overrides.txt``.

    >>> name(3, ["epochs=1", "seed=2"], ("seed=",)), name(0, ["epochs=1"], ())
    ('3_seed=2', '0_epochs=1')
    """
    return "_".join(filter(None, [str(number), slug([o for o in overrides if o.startswith(varied or "")])]))


def subdir_name(text: str, number: int, overrides: Sequence[str]) -> str:
    """Return the name of a job's directory as ``hydra.sweep.subdir`` describes it.

    >>> subdir_name("job-${hydra.job.num}", 3, ["seed=2"])
    'job-3'
    """
    hydra = {"job": {"num": number, "id": number, "name": "train", "override_dirname": ",".join(overrides)}}
    return resolve("hydra.sweep.subdir", text, {"hydra": hydra})


def resolve(key: str, text: str, context: Mapping[str, object] | None = None) -> str:
    """Return a text of Hydra's configuration with its interpolations resolved, ``${now:%H-%M}`` included."""
    from hydra.core.utils import setup_globals
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    setup_globals()
    try:
        return str(OmegaConf.create({**(context or {}), "text": text}).text)
    except OmegaConfBaseException as error:
        reason = first_line(error)
        raise ConfigError(Problem(key, text, f"cannot be resolved: {reason}", "output=<directory>")) from None
