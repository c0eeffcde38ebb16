"""Regularizers: equal to their equations computed differently, and to torch where torch has them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from trainer.engine.metrics import RunningMetrics
from trainer.errors import ConfigError
from trainer.history import History
from trainer.regularizers import (
    L1,
    L2,
    Chain,
    Cutmix,
    Cutout,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
    Mixup,
    MixupOrCutmix,
    Regularizer,
    SoftSharing,
)  # fmt: skip
from trainer.regularizers.functional import (
    cutmix_batch,
    cutout_batch,
    draw_beta,
    draw_box,
    draw_centers,
    draw_permutation,
    mixup_batch,
    smooth_labels,
)  # fmt: skip
from trainer.tasks import Classification, losses
from trainer.tasks.build import part_of
from trainer.tasks.spec import PartSpec
from trainer.tasks.task import Task


def batch(n: int = 6, k: int = 4, side: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 2, side, side), torch.eye(k)[torch.randint(0, k, (n,))]


@given(st.floats(0.01, 0.9), st.integers(2, 10))
def test_label_smoothing_gives_torchs_loss(eps, k):
    """Form ``all`` is torch's; form ``others`` equals torch's with eps·k/(k − 1)."""
    logits = torch.randn(8, k, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % k
    y = torch.eye(k)[labels]
    ours = losses.cross_entropy(logits, smooth_labels(y, eps, "all")).mean()
    assert ours.item() == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=eps).item(), rel=1e-5)
    smoothed = smooth_labels(y, eps, "others")
    assert smoothed[torch.arange(8), labels].tolist() == pytest.approx([1 - eps] * 8, abs=1e-5)
    assert smoothed.sum(1).tolist() == pytest.approx([1.0] * 8, abs=1e-5)


def test_mixup_mixes_images_and_targets_with_one_weight():
    x, y = batch()
    order = torch.tensor([3, 4, 5, 0, 1, 2])
    mixed, targets = mixup_batch(x, y, 0.3, order)
    for i in range(len(x)):
        assert torch.allclose(mixed[i], 0.3 * x[i] + 0.7 * x[order[i]])
        assert torch.allclose(targets[i], 0.3 * y[i] + 0.7 * y[order[i]])


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("kind", [Mixup, Cutmix, MixupOrCutmix])
def test_mixed_targets_are_probabilities_for_any_batch_size(kind, n):
    x, y = batch(n)
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, targets = kind().batch(x, y)
        assert mixed.shape == x.shape
        assert torch.allclose(targets.sum(1), torch.ones(n))
        assert bool((targets >= 0).all())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_mixing_weight_follows_the_beta_distribution(alpha):
    torch.manual_seed(0)
    draws = np.array([draw_beta(alpha) for _ in range(4000)])
    reference = torch.distributions.Beta(alpha, alpha)
    assert draws.mean() == pytest.approx(0.5, abs=4 * reference.stddev.item() / 4000**0.5)
    assert draws.var() == pytest.approx(reference.variance.item(), rel=0.1)


def test_cutmix_replaces_a_box_and_mixes_targets_by_its_area():
    x, y = batch(side=8)
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    mixed, targets = cutmix_batch(x, y, (2, 6, 1, 4), order)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 1:4] = True
    for i in range(len(x)):
        assert torch.equal(mixed[i][:, inside], x[order[i]][:, inside])
        assert torch.equal(mixed[i][:, ~inside], x[i][:, ~inside])
        assert torch.allclose(targets[i], y[i] * (52 / 64) + y[order[i]] * (12 / 64))


@pytest.mark.parametrize("kind", [Mixup, Cutmix, MixupOrCutmix])
def test_a_batch_is_mixed_with_the_given_probability(kind):
    x, y = batch(4)
    torch.manual_seed(0)
    untouched = sum(kind(p=0.25).batch(x, y)[0] is x for _ in range(1000))
    assert untouched == pytest.approx(750, abs=4 * (1000 * 0.25 * 0.75) ** 0.5)
    assert kind(p=0.0).batch(x, y)[0] is x


def test_without_a_probability_the_draws_are_those_of_mixing_alone():
    x, y = batch(4)
    torch.manual_seed(0)
    mixed = Mixup().batch(x, y)[0]
    torch.manual_seed(0)
    assert torch.equal(mixed, mixup_batch(x, y, draw_beta(0.2), draw_permutation(x))[0])


def test_one_of_mixup_and_cutmix_is_drawn_for_each_batch():
    x, y = batch(4, side=8)
    torch.manual_seed(0)
    boxes = 0
    for _ in range(400):
        mixed = MixupOrCutmix(cutmix_fraction=0.3, cutmix_alpha=50.0, mixup_alpha=50.0).batch(x, y)[0]
        boxes += bool(torch.isin(mixed.flatten(), x.flatten()).all())  # CutMix moves pixels, mixup computes new ones
    assert boxes == pytest.approx(120, abs=4 * (400 * 0.3 * 0.7) ** 0.5)


@given(st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_a_cutmix_box_lies_within_the_image(weight, height, width):
    top, bottom, left, right = draw_box(weight, height, width)
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width


def test_cutout_masks_out_a_square_clipped_at_the_border():
    x = torch.ones(2, 1, 6, 6)
    centers = torch.tensor([[3, 3], [0, 5]])
    blank = cutout_batch(x, centers, 4, -1.0) == -1.0
    expected = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    expected[0, :, 1:5, 1:5] = True
    expected[1, :, 0:2, 3:6] = True
    assert torch.equal(blank, expected)


def test_the_centers_of_cutout_are_uniformly_distributed_over_the_image():
    torch.manual_seed(0)
    centers = draw_centers(torch.zeros(6000, 1, 4, 3))
    for column, size in enumerate((4, 3)):
        counts = torch.bincount(centers[:, column], minlength=size)
        assert len(counts) == size
        assert bool(((counts - 6000 / size).abs() < 5 * (6000 / size) ** 0.5).all())


@pytest.mark.parametrize("option", [L2(strength=0.01), L1(strength=0.01)])
def test_a_penalty_sums_over_weights_but_not_over_biases_and_norms(option):
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    weights = np.concatenate([model[0].weight.detach().numpy().ravel(), model[3].weight.detach().numpy().ravel()])
    expected = 0.01 * ((weights**2).sum() if isinstance(option, L2) and type(option) is L2 else np.abs(weights).sum())
    assert option.penalty(model, torch.zeros(1)).item() == pytest.approx(expected, rel=1e-5)


def test_l2_equals_twice_the_weight_decay_for_sgd():
    torch.manual_seed(0)
    one, other = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)
    other.load_state_dict(one.state_dict())
    first = torch.optim.SGD(one.parameters(), lr=0.1)
    second = torch.optim.SGD(other.parameters(), lr=0.1, weight_decay=0.06)
    for _ in range(5):
        for model, optimizer in ((one, first), (other, second)):
            loss = model(torch.ones(2, 4)).square().sum()
            if model is one:
                loss = loss + L2(strength=0.03).penalty(model, loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.allclose(one.weight, other.weight, atol=1e-6)


@pytest.mark.parametrize("where", ["head", "all"])
def test_dropout_acts_only_in_training_and_preserves_the_expectation(where):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 5))
    names = list(model.state_dict())
    x = torch.rand(1, 200)
    without = model.eval()(x).detach()
    model = Dropout(p=0.3, where=where).model(model)
    assert list(model.state_dict()) == names
    assert torch.equal(model.eval()(x), without)
    model.train()
    with torch.no_grad():
        draws = torch.stack([model(x)[0] for _ in range(4000)])
    assert draws.std(0).min() > 0
    assert torch.allclose(draws.mean(0), without[0], atol=5 * float(draws.std(0).max()) / 4000**0.5)


def test_dropout_zeroes_the_given_fraction_before_the_head():
    model = nn.Sequential(nn.Flatten(), nn.Linear(1000, 1))
    nn.init.ones_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    model = Dropout(p=0.25).model(model).train()
    torch.manual_seed(0)
    nonzero = model(torch.ones(400, 1000)) * 0.75 / 1000
    assert nonzero.mean().item() == pytest.approx(0.75, abs=0.005)


def test_early_stopping_waits_for_its_patience_and_gives_the_reason():
    option = EarlyStopping(patience=2, metric="validation_accuracy")
    rows = [{"epoch": float(i + 1), "validation_accuracy": a} for i, a in enumerate((0.5, 0.7, 0.7, 0.6))]
    assert [option.stop(History(rows[:n])) is not None for n in range(5)] == [False, False, False, False, True]
    assert "best (70.00 %) at epoch 2, 2 epochs ago" in (option.stop(History(rows)) or "")
    demanding = EarlyStopping(patience=1, metric="validation_accuracy", min_delta=0.3)
    assert "last improved by more than 0.3, to 50.00 %, at epoch 1, 1 epoch ago" in (
        demanding.stop(History(rows[:2])) or ""
    )
    assert EarlyStopping(patience=2, metric="train_loss").stop(
        History([{"epoch": float(i), "train_loss": v} for i, v in enumerate((1.0, float("nan"), float("nan")))])
    )


def test_a_chain_acts_in_the_given_order():
    class Add(Regularizer):
        def batch(self, x, y):
            return x + 1, y

    class Double(Regularizer):
        def batch(self, x, y):
            return x * 2, y

    x, y = torch.ones(1), torch.ones(1)
    assert Chain({"a": Add(), "b": Double()}).batch(x, y)[0].item() == 4
    assert Chain({"b": Double(), "a": Add()}).batch(x, y)[0].item() == 3
    empty = Chain({})
    assert empty.batch(x, y) == (x, y)
    assert empty.penalty(nn.Linear(1, 1), x) is None
    assert empty.stop(History()) is None
    assert not empty.acts_on_batch
    assert not empty.acts_on_loss
    both = Chain({"l1": L1(strength=0.1), "l2": L2(strength=0.1)})
    assert both.acts_on_loss
    assert not both.acts_on_batch
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    assert both.penalty(layer, x).item() == pytest.approx(0.1 * 2 + 0.1 * 4)


def test_running_metrics_are_means_over_all_images_independently_of_the_batches():
    torch.manual_seed(0)
    logits, labels = torch.randn(23, 5), torch.randint(0, 5, (23,))
    y = torch.eye(5)[labels]
    spec = PartSpec("", "label", "classification", tuple("abcde"), 23, (5, 5, 5, 4, 4))
    task = Task([part_of(Classification(), spec)])
    metrics = RunningMetrics(task)
    for part in torch.arange(23).split(7):
        metrics.add(task.loss(logits[part], y[part]), logits[part], y[part])
    assert metrics.means()["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert metrics.means()["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    restored = RunningMetrics(task)
    restored.load_state_dict(metrics.state_dict())
    assert restored.means() == metrics.means()
    metrics.reset()
    assert metrics.means() == {"loss": 0.0, "accuracy": 0.0}


@pytest.mark.parametrize(
    ("kind", "invalid"),
    [
        (Dropout, {"p": 0.0}), (Dropout, {"p": 1.0}), (LabelSmoothing, {"eps": 1.0}), (Mixup, {"alpha": 0.0}),
        (Cutout, {"length": 0}), (L2, {"strength": 0.0}), (EarlyStopping, {"patience": 0}), (EarlyStopping, {"min_delta": -1.0}),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_rejected_with_the_name_of_its_parameter(kind, invalid):
    with pytest.raises(ValueError, match=next(iter(invalid))):
        kind(**invalid)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_batched_functions_equal_a_loop_over_images(dtype):
    torch.manual_seed(0)
    x = (torch.rand(5, 3, 9, 7) * 255).to(dtype)
    y, order = torch.eye(5), torch.tensor([4, 0, 1, 3, 2])
    centers = torch.tensor([[0, 0], [8, 6], [4, 3], [2, 6], [7, 0]])
    mixed, targets = mixup_batch(x, y, 0.3, order)
    pasted, mixed_labels = cutmix_batch(x, y, (2, 5, 1, 6), order)
    blanked = cutout_batch(x, centers, 3, 7.0)
    for i in range(5):
        other = x[order[i]]
        assert torch.allclose(mixed[i], 0.3 * x[i].float() + 0.7 * other.float(), atol=1e-4)
        assert torch.allclose(targets[i], 0.3 * y[i] + 0.7 * y[order[i]])
        for row in range(9):
            for column in range(7):
                inside = 2 <= row < 5 and 1 <= column < 6
                assert torch.equal(pasted[i, :, row, column], (other if inside else x[i])[:, row, column])
                near = abs(row - centers[i, 0]) <= 1 and abs(column - centers[i, 1]) <= 1
                expected = torch.full((3,), 7, dtype=dtype) if near else x[i, :, row, column]
                assert torch.equal(blanked[i, :, row, column], expected)
        assert torch.allclose(mixed_labels[i], y[i] * (48 / 63) + y[order[i]] * (15 / 63))


@pytest.mark.parametrize("option", [L2(strength=0.1), L1(strength=0.1)])
def test_the_gradient_of_a_penalty_equals_that_of_its_equation(option):
    layer = nn.Linear(3, 2)
    option.penalty(layer, torch.zeros(1)).backward()
    weight = layer.weight.detach()
    expected = 0.2 * weight if type(option) is L2 else 0.1 * weight.sign()
    assert torch.allclose(layer.weight.grad, expected)
    assert layer.bias.grad is None


def test_soft_sharing_penalizes_the_squared_distance_to_the_weights_of_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, k)) for k in (2, 5))
    torch.save({"state": {"model": other.state_dict()}}, tmp_path / "a.pt")
    names = list(model.state_dict())
    option = SoftSharing(strength=0.1, reference=str(tmp_path / "a.pt"))
    shared = option.model(model)
    assert list(shared.state_dict()) == names
    expected = 0.1 * (model[0].weight - other[0].weight).square().sum()
    penalty = option.penalty(shared, torch.zeros(1))
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5), (
        "the last layer, whose shape differs, is not penalized"
    )
    penalty.backward()
    assert torch.allclose(model[0].weight.grad, 0.2 * (model[0].weight - other[0].weight))
    assert model[0].bias.grad is None


def test_soft_sharing_penalizes_the_distance_to_the_initial_weights_by_default():
    model = SoftSharing().model(nn.Sequential(nn.Linear(4, 3)))
    assert SoftSharing().penalty(model, torch.zeros(1)).item() == 0
    with torch.no_grad():
        model[0].weight += 1.0
    assert SoftSharing(strength=0.5).penalty(model, torch.zeros(1)).item() == pytest.approx(6.0)


def test_soft_sharing_rejects_a_file_that_cannot_be_read_or_holds_other_weights(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3))
    for name, content in {"empty.pt": b"", "text.pt": b"not a checkpoint", "truncated.pt": b"PK\x03\x04"}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("missing.pt", ".", "empty.pt", "text.pt", "truncated.pt"):
        with pytest.raises(
            ConfigError, match=r"regularizer\.soft_sharing\.reference = .* (cannot be read|is cut short)"
        ):
            SoftSharing(reference=str(tmp_path / name)).model(model)
    torch.save(nn.Linear(9, 9).state_dict(), tmp_path / "other.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    torch.save({"model": 3}, tmp_path / "number.pt")
    for name in ("other.pt", "list.pt", "number.pt"):
        with pytest.raises(ConfigError, match="no weights of this architecture"):
            SoftSharing(reference=str(tmp_path / name)).model(model)


def test_regularizers_report_requirements_that_are_not_met():
    setup = SimpleNamespace(batch_size=1, validation=False, shape=(3, 8, 8))
    assert "data.validation=0.1" in EarlyStopping().needs(setup)[0]
    assert "batch_size must be >= 2" in Mixup().needs(setup)[0]
    assert Cutmix().needs(setup) == Mixup().needs(setup)
    assert "length 16" in Cutout(length=16).needs(setup)[0]
    assert Cutout(length=15).needs(setup) == Dropout().needs(setup) == []
