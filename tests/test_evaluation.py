"""Test-time augmentation, against its published formula; the batches of an evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.engine.evaluation import evaluate, logits, views
from trainer.engine.run import Precision
from trainer.loaders import look


@pytest.mark.parametrize("tta", ["none", "mirror", "mirror_shift"])
def test_the_logits_of_the_views_of_an_image_are_averaged_with_weights_that_sum_to_one(tta):
    """airbench's formula: half the weight is on the image and its mirror image, half on those of its two diagonal shifts."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 4))
    x = torch.randn(5, 3, 6, 6)
    mirrored = lambda p: (model(p) + model(p.flip(-1))) / 2  # noqa: E731
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    shifts = (mirrored(padded[:, :, 0:6, 0:6]) + mirrored(padded[:, :, 2:8, 2:8])) / 2
    expected = {"none": model(x), "mirror": mirrored(x), "mirror_shift": (mirrored(x) + shifts) / 2}[tta]
    assert sum(weight for weight, _ in views(x, tta)) == 1
    assert torch.allclose(logits(model, x, Precision(torch.device("cpu")), tta), expected, atol=1e-5)


@pytest.mark.parametrize("overrides", [("batch_size=8",), ("batch_size=400", "micro_batch=16")])
def test_a_checkpoint_is_evaluated_in_the_same_batches_in_a_run_and_after_it(overrides):
    """In bf16 the outputs of an image depend on the size of its batch, and with them the accuracy."""
    config = load_config(["data=digits", "architecture.widths=[4]", "device=cpu", "precision=bf16", *overrides])
    splits = load_splits(config)
    run = build(config, splits=splits)
    after = look(config, run.info, splits, "test", run.model, run.precision, run.task)
    assert run.test is not None
    assert [len(x) for x, _ in run.test.batches(0)] == [len(x) for x, _ in after.batches(0)] == [256, 103]
    assert evaluate(run.model, run.test, run.precision, run.task) == evaluate(run.model, after, run.precision, run.task)
