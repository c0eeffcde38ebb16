"""What ``train --cfg job`` prints."""

from __future__ import annotations

from omegaconf import OmegaConf

from trainer.config.compose import resolve
from trainer.config.overrides import render
from trainer.errors import ConfigError, Problem
from trainer.formats import JsonObject
from trainer.tree import value_at


def config_text(tree: JsonObject, package: str | None, resolved: bool, notes: list[str]) -> str:
    """Return a composed config as YAML, or a part of it; what was left out of an experiment as comments.

    Args:
        tree: The config as plain values.
        package: The dotted key of the part.
        resolved: Whether to resolve interpolations.
        notes: The comments.
    """
    tree, problems = resolve(tree) if resolved else (tree, [])
    part = value_at(tree, *package.split(".")) if package else tree
    if problems or part is None:
        raise ConfigError(*(problems or [Problem("--package", package, "is not a key of the config, or null")]))
    text = OmegaConf.to_yaml(OmegaConf.create(part)) if isinstance(part, dict | list) else render(part)
    return "\n".join([*(f"# {note}" for note in notes), text.rstrip()])
