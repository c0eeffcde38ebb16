"""Names of earlier releases, accepted for one release with a notice."""

from __future__ import annotations

# Keys, as typed on the command line.
KEYS: dict[str, str] = {
    "data.way": "data.loading",
    "augmentation.translation.share": "augmentation.translation.fraction",
}

# Values of a key, after its own renaming.
VALUES: dict[str, dict[str, str]] = {
    "data.loading": {"resident": "in_memory", "workers": "streaming"},
}

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
    "trainer.augmentation.unbatched.Perspective": "trainer.augmentation.Perspective",
    "trainer.augmentation.unbatched.Elastic": "trainer.augmentation.Elastic",
    "trainer.augmentation.unbatched.Blur": "trainer.augmentation.Blur",
    "trainer.augmentation.unbatched.RandomResizedCrop": "trainer.augmentation.RandomResizedCrop",
    "trainer.augmentation.unbatched.TrivialAugment": "trainer.augmentation.TrivialAugment",
}
