"""Names of earlier releases, accepted for one release with a notice."""

from __future__ import annotations

# Keys, as typed on the command line.
KEYS: dict[str, str] = {
    "job.pictures": "job.images",
}

# Values of a key, after its own renaming.
VALUES: dict[str, dict[str, str]] = {}

# Options, by group.
OPTIONS: dict[str, dict[str, str]] = {}

# Classes, as `_target_` in the configs of earlier runs.
TARGETS: dict[str, str] = {
    "trainer.engine.options.Scratch": "trainer.engine.recipes.Scratch",
    "trainer.engine.options.Transfer": "trainer.engine.recipes.Transfer",
    "trainer.engine.options.Finetune": "trainer.engine.recipes.Finetune",
    "trainer.engine.options.Gradual": "trainer.engine.recipes.Gradual",
    "trainer.augmentation.single.Perspective": "trainer.augmentation.Perspective",
    "trainer.augmentation.single.Elastic": "trainer.augmentation.Elastic",
    "trainer.augmentation.single.Blur": "trainer.augmentation.Blur",
    "trainer.augmentation.single.RandomResizedCrop": "trainer.augmentation.RandomResizedCrop",
    "trainer.augmentation.single.TrivialAugment": "trainer.augmentation.TrivialAugment",
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
