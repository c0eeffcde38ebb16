"""Numbers for keys that are ``auto``: the batch size by trying, learning rates by an LR range test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from trainer.analysis.lr_range import rounded
from trainer.builder import build
from trainer.config.load import config_from_tree
from trainer.config.schema import Config
from trainer.data import Splits
from trainer.engine.batch_size import choose_batch_size
from trainer.errors import ConfigError, Problem
from trainer.jobs.options import RangeTest
from trainer.jobs.range_test import clr_floor, measure
from trainer.schedules import Product
from trainer.tree import with_value


def resolve(config: Config, splits: Splits | None = None) -> Config:
    """Return the config with numbers for its ``auto`` keys; ``job=range_test`` does without those that it suggests itself.

    ``splits`` are used instead of the data of the config.
    """
    if "batch_size" in config.auto_keys:
        config = resolve_batch_size(config, splits)
    return resolve_learning_rates(config, splits) if config.auto_keys and not config.job.keeps_auto_keys else config


def resolve_batch_size(config: Config, splits: Splits | None = None) -> Config:
    """Return the config with a number for ``batch_size=auto``, which is tried here, see ``trainer.engine.batch_size``."""
    size, reason = choose_batch_size(build(config, splits=splits))
    chosen = with_values(config, {"batch_size": size})
    return dataclasses.replace(chosen, notes=(*config.notes, f"batch_size = {size}, by trying: {reason}"))


def resolve_learning_rates(config: Config, splits: Splits | None = None) -> Config:
    """Return the config with numbers for its other ``auto`` keys, from a range test that runs here.

    ``optimizer.lr`` becomes max_lr if the schedule reaches its peak only for a part of the time (warmup, cycles, decay),
    else suggested_lr.
    """
    run = build(config, splits=splits)
    curve = measure(RangeTest(), run)
    suggestion = curve.suggestion
    if suggestion is None:
        raise ConfigError(
            Problem(config.auto_keys[0], "auto", f"the LR range test failed: {curve.reason}", "give a number")
        )
    chosen: dict[str, float] = {}
    schedule = Product(tuple(config.schedule.values())).over(config.epochs)
    brief_peak = min(schedule(0.0), schedule(config.epochs)) < 0.5
    lr: float = run.optimizer_option.lr
    if "optimizer.lr" in config.auto_keys:
        lr = chosen["optimizer.lr"] = rounded(suggestion.max_lr if brief_peak else suggestion.suggested_lr)
    if "schedule.clr.floor" in config.auto_keys:
        if suggestion.min_lr >= lr:
            text = f"the range test's min_lr, {suggestion.min_lr:.3g}, is not below optimizer.lr = {lr:g}"
            raise ConfigError(Problem("schedule.clr.floor", "auto", text, "optimizer.lr=auto"))
        chosen["schedule.clr.floor"] = clr_floor(suggestion, lr)
    measured = {"lr": curve.lrs, "loss": curve.losses}
    return dataclasses.replace(with_values(config, chosen), range_test=chosen, range_curve=measured)


def with_values(config: Config, values: Mapping[str, float]) -> Config:
    """Return a config with other values of some keys."""
    tree = config.tree
    for key, value in values.items():
        tree = with_value(tree, key, value)
    kept = {name: getattr(config, name) for name in ("notes", "config_dirs", "set_keys", "range_test", "range_curve")}
    return dataclasses.replace(config_from_tree(tree), **kept)
