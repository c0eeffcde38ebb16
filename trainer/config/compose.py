"""Composing the config from ``conf/`` and the command line."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.config import experiments
from trainer.config.options import CONF, composed, hydras_errors, options
from trainer.config.overrides import parse
from trainer.config.validation import explain, misread
from trainer.errors import ConfigError
from trainer.run_dir import slug


def compose(overrides: list[str], folders: list[Path] | None = None) -> Any:
    """The composed config, as ``train`` composes it; errors of composition come out as ConfigError.

    >>> compose(["optimizer=adam", "seed=3"]).seed
    3
    """
    folders = folders or [CONF]
    register_resolvers()
    if problems := misread(overrides, folders):
        raise ConfigError(*problems)
    try:
        cfg, choices = composed(overrides, folders)
    except hydras_errors() as error:
        raise ConfigError(*explain(overrides, folders, error)) from None
    fit_experiment(cfg, choices, overrides, folders)
    return cfg


def fit_experiment(cfg: Any, choices: Any, overrides: list[str], folders: list[Path]) -> list[str]:
    """Take out of the config what its experiment says of options that the command did not take; a note on each."""
    from omegaconf.errors import OmegaConfBaseException

    def checked(words: list[str]) -> Any:
        try:
            return composed(words, folders)
        except hydras_errors() as error:  # a key typed for an option that is not taken, which the experiment alone has
            raise ConfigError(*explain(words, folders, error)) from None

    try:
        return experiments.fit(cfg, choices, parse(overrides)[0], options(folders).get("experiment", {}), checked)
    except OmegaConfBaseException:  # ${...} of nothing: resolving the config tells which
        return []


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
