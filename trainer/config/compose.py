"""The one call of Hydra that turns overrides into a config."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trainer.config.options import CONF, OptionFiles
from trainer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Launchers of Hydra, and the extra that installs each.
LAUNCHERS = {"joblib": "parallel", "submitit": "slurm"}


def compose(overrides: list[str], files: OptionFiles, base: str = "train") -> tuple[DictConfig, dict[str, str]]:
    """Return the composed config, and the option of each group.

    Args:
        overrides: In Hydra's grammar, validated.
        files: The option files.
        base: The primary config: ``train``, or ``saved``, which is empty.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
            config = hydra_compose(base, overrides=[*search_path(files), *overrides], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(hydra_problem(error)) from None
    tree = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    choices = {k: v for k, v in config.hydra.runtime.choices.items() if isinstance(v, str)}
    return tree, choices


def search_path(files: OptionFiles) -> list[str]:
    """Return the override that makes Hydra look into the user's directories."""
    own = files.directories[1:]
    return [f"hydra.searchpath=[{','.join(f'file://{d.resolve()}' for d in own)}]"] if own else []


def hydra_problem(error: Exception) -> Problem:
    """Return Hydra's error without its pointers to itself; of a launcher that is missing, with the extra to install."""
    lines = f"{error} {error.__cause__ or ''}".splitlines()
    text = " ".join(" ".join(line for line in lines if "HYDRA_FULL_ERROR" not in line).split())
    extra = next((e for name, e in LAUNCHERS.items() if re.search(rf"hydra/launcher/{name}(_\w+)?'", text)), None)
    return Problem("", None, text, f"pip install 'trainer[{extra}]' installs it" if extra else "")
