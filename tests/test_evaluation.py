"""Test-time augmentation, against its published formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.engine.evaluation import logits, views
from trainer.engine.run import Precision


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
