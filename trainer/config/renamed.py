"""Names of earlier releases, accepted for one release with a notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainer.config.options import LISTS
from trainer.config.overrides import Override, override

# Keys, as typed on the command line.
KEYS: dict[str, str] = {
    "recipe.span": "recipe.lr_ratio",
    "observer.filters.pictures": "observer.filters.images",
    "observer.histograms.pictures": "observer.histograms.images",
    "data.way": "data.loading",
    "augmentation.translation.share": "augmentation.translation.fraction",
    "job.pictures": "job.images",
}

# Values of a key, after its own renaming.
VALUES: dict[str, dict[str, str]] = {
    "data.loading": {"resident": "in_memory", "workers": "streaming"},
}

# Options, by group.
OPTIONS: dict[str, dict[str, str]] = {
    "observer": {"jsonl": "history_file"},
}

# Classes, as `_target_` in the configs of earlier runs.
TARGETS: dict[str, str] = {
    "trainer.engine.options.Scratch": "trainer.engine.recipes.Scratch",
    "trainer.engine.options.Transfer": "trainer.engine.recipes.Transfer",
    "trainer.engine.options.Finetune": "trainer.engine.recipes.Finetune",
    "trainer.engine.options.Gradual": "trainer.engine.recipes.Gradual",
    "trainer.observers.checkpoint.Checkpoint": "trainer.observers.Checkpoint",
    "trainer.observers.console.Console": "trainer.observers.Console",
    "trainer.observers.diagnosis.Diagnosis": "trainer.observers.Diagnosis",
    "trainer.observers.images.Filters": "trainer.observers.Filters",
    "trainer.observers.pictures.Filters": "trainer.observers.Filters",
    "trainer.observers.histograms.Histograms": "trainer.observers.Histograms",
    "trainer.observers.jsonl.Jsonl": "trainer.observers.HistoryFile",
    "trainer.observers.history_file.HistoryFile": "trainer.observers.HistoryFile",
    "trainer.observers.predictions.Predictions": "trainer.observers.Predictions",
    "trainer.observers.profile.Profile": "trainer.observers.Profile",
    "trainer.observers.report.Report": "trainer.observers.Report",
    "trainer.observers.tensorboard.TensorBoard": "trainer.observers.TensorBoard",
    "trainer.augmentation.single.Perspective": "trainer.augmentation.Perspective",
    "trainer.augmentation.single.Elastic": "trainer.augmentation.Elastic",
    "trainer.augmentation.single.Blur": "trainer.augmentation.Blur",
    "trainer.augmentation.single.RandomResizedCrop": "trainer.augmentation.RandomResizedCrop",
    "trainer.augmentation.single.TrivialAugment": "trainer.augmentation.TrivialAugment",
    "trainer.augmentation.unbatched.Perspective": "trainer.augmentation.Perspective",
    "trainer.augmentation.unbatched.Elastic": "trainer.augmentation.Elastic",
    "trainer.augmentation.unbatched.Blur": "trainer.augmentation.Blur",
    "trainer.augmentation.unbatched.RandomResizedCrop": "trainer.augmentation.RandomResizedCrop",
    "trainer.augmentation.unbatched.TrivialAugment": "trainer.augmentation.TrivialAugment",
    "trainer.jobs.compare.Compare": "trainer.jobs.Compare",
    "trainer.jobs.doctor.Doctor": "trainer.jobs.Doctor",
    "trainer.jobs.ensemble.Ensemble": "trainer.jobs.Ensemble",
    "trainer.jobs.evaluate.Evaluate": "trainer.jobs.Evaluate",
    "trainer.jobs.export.Export": "trainer.jobs.Export",
    "trainer.jobs.fit.Fit": "trainer.jobs.Fit",
    "trainer.jobs.plan.Plan": "trainer.jobs.Plan",
    "trainer.jobs.predict.Predict": "trainer.jobs.Predict",
    "trainer.jobs.range_test.RangeTest": "trainer.jobs.RangeTest",
    "trainer.jobs.report.Report": "trainer.jobs.Report",
}


def overrides(typed: list[Override]) -> tuple[list[Override], list[str]]:
    """Return the overrides with today's names, and a notice for each earlier name."""
    result, notices = [], []
    for item in typed:
        new = _override(item)
        if new is not item:
            notices.append(f"{item.text} is now {new.text}; the old name is accepted for one release")
        result.append(new)
    return result, notices


def _override(item: Override) -> Override:
    key = KEYS.get(item.key, item.key)
    if not any(item.group == name.partition(".")[0] for name in (*KEYS, *VALUES, *OPTIONS)) and key == item.key:
        return item
    group, _, rest = key.partition(".")
    option, dot, parameter = rest.partition(".")
    if group in LISTS and option in OPTIONS.get(group, {}):
        key = f"{group}.{OPTIONS[group][option]}{dot}{parameter}"
        key = KEYS.get(key, key)
    values = VALUES.get(key, {}) | OPTIONS.get(key, {})
    value = _value(item.value, values)
    if key == item.key and value == item.value:
        return item
    if item.kind == "~":
        return replace(item, key=key, text=f"~{key}")
    if item.sweep:
        text = item.text.partition("=")[2] if value == item.value else ",".join(map(str, value))
        return replace(item, key=key, value=value, text=f"{item.kind}{key}={text}")
    return replace(override(key, value, item.kind), source=item.source)


def _value(value: Any, new: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_value(item, new) for item in value]
    return new.get(value, value) if isinstance(value, str) else value


def tree(config: dict[str, Any]) -> dict[str, Any]:
    """Return a saved config with today's keys, values, options and classes."""
    result: dict[str, Any] = {}
    for group, node in config.items():
        if not isinstance(node, dict):
            result[group] = node
        elif group in LISTS:
            options = {OPTIONS.get(group, {}).get(name, name): value for name, value in node.items()}
            result[group] = {name: _node(f"{group}.{name}", value) for name, value in options.items()}
        else:
            result[group] = _node(group, node)
    result.setdefault("task", {"_target_": "trainer.tasks.Classification"})  # runs of earlier releases have no other
    return result


def _node(place: str, node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    new: dict[str, Any] = {}
    for name, value in node.items():
        key = KEYS.get(f"{place}.{name}", f"{place}.{name}")
        value = TARGETS.get(value, value) if name == "_target_" else _value(value, VALUES.get(key, {}))
        new[key.removeprefix(f"{place}.")] = value
    return new
