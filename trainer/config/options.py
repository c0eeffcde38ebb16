"""The option files, and Hydra's composition of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LISTS = ("schedule", "regularizer", "augmentation", "observer")  # groups that take several options
HERE = Path(__file__).resolve().parents[1]
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
    for i, here in enumerate(arguments):
        after = arguments[i + 1] if i + 1 < len(arguments) else ""
        if here in ("--config-dir", "-cd"):
            folders.append(Path(after))
        elif here.startswith("--config-dir="):
            folders.append(Path(here.partition("=")[2]))
    return folders


def hydras_errors() -> tuple[type[Exception], ...]:
    """What Hydra's composition raises where a command is wrong; the last two escape it where a list holds what is no option.

    A function, because ``except hydras_errors()`` imports Hydra only once there is something to catch.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    return HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError


def composed(overrides: list[str], folders: list[Path]) -> tuple[Any, dict[str, Any]]:
    """What Hydra composes, and which option of each group; its errors are raised as they are."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    extra = [f"hydra.searchpath=[{','.join(f'file://{f.resolve()}' for f in folders[1:])}]"] if folders[1:] else []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        cfg = hydra_compose("train", overrides=[*extra, *overrides], return_hydra_config=True)
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]), dict(cfg.hydra.runtime.choices)
