"""Names of earlier releases, accepted for one release with a notice."""

from __future__ import annotations

# Keys, as typed on the command line.
KEYS: dict[str, str] = {
    "recipe.span": "recipe.lr_ratio",
    "observer.filters.pictures": "observer.filters.images",
    "observer.histograms.pictures": "observer.histograms.images",
}

# Values of a key, after its own renaming.
VALUES: dict[str, dict[str, str]] = {}

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
}
