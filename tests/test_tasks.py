"""Tasks: losses, class weights, targets with missing labels, several tasks at once, compared with independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from trainer.data.images import ImageArray
from trainer.data.splits import Splits
from trainer.data.targets import Target
from trainer.errors import ConfigError
from trainer.regularizers.functional import mixup_batch
from trainer.tasks import Classification, Multilabel, Multitask, Regression, losses
from trainer.tasks.build import build_multitask, part_of
from trainer.tasks.class_weights import balanced, effective_number
from trainer.tasks.multilabel import best_threshold
from trainer.tasks.spec import PartSpec, from_dict
from trainer.tasks.task import Task
from trainer.tasks.weighting import gradnorm_step

K = 4
LOSSES = (
    {"loss": "cross_entropy"},
    {"loss": "bce"},
    {"loss": "focal", "gamma": 1.5},
    {"loss": "poly1", "epsilon": 2.0},
)


def class_task(counts=(5, 5, 5, 5), masked=False, labelled=1.0, **option):
    spec = PartSpec("", "label", "classification", tuple("abcdefgh"[: len(counts)]), sum(counts), tuple(counts))
    spec.masked, spec.labelled = masked, labelled
    return Task([part_of(Classification(**option), spec)])


def sample(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, K, generator=generator), torch.randint(0, K, (n,), generator=generator)


def splits_of(**columns):
    """Splits whose images have the given targets: (kind, classes, values)."""
    n = len(next(iter(columns.values()))[2])
    targets = tuple(Target(name, kind, classes) for name, (kind, classes, _) in columns.items())
    values = {name: array for name, (_, _, array) in columns.items()}
    labels = next((a for _, (k, _, a) in columns.items() if k == "classification"), np.zeros(n, np.int64))
    images = ImageArray(np.zeros((n, 4, 4, 1), np.uint8), labels, values)
    return Splits(images, None, None, (), images.shape, (0.0,), (1.0,), targets=targets)


# Losses


def test_cross_entropy_and_bce_equal_torchs():
    z, labels = sample()
    y = torch.eye(K)[labels]
    assert class_task().loss(z, y).objective == F.cross_entropy(z, labels)
    torch.testing.assert_close(class_task(loss="bce").loss(z, y).objective, F.binary_cross_entropy_with_logits(z, y))


def test_focal_and_poly1_equal_their_formulas_in_numpy():
    z, labels = sample()
    p = torch.softmax(z.double(), 1)[torch.arange(len(z)), labels].numpy()
    y = torch.eye(K)[labels]
    focal = class_task(loss="focal", gamma=1.5).loss(z, y).objective
    assert float(focal) == pytest.approx(float(np.mean(-((1 - p) ** 1.5) * np.log(p))), rel=1e-5)
    poly1 = class_task(loss="poly1", epsilon=2.0).loss(z, y).objective
    assert float(poly1) == pytest.approx(float(np.mean(-np.log(p) + 2 * (1 - p))), rel=1e-5)


def test_without_their_parameter_focal_poly1_and_the_asymmetric_loss_are_the_plain_ones():
    z, labels = sample()
    y = torch.eye(K)[labels]
    plain = class_task().loss(z, y).objective
    torch.testing.assert_close(class_task(loss="focal", gamma=0.0).loss(z, y).objective, plain)
    torch.testing.assert_close(class_task(loss="poly1", epsilon=0.0).loss(z, y).objective, plain)
    torch.testing.assert_close(losses.asymmetric(z, y, 0.0, 0.0, 0.0), losses.multilabel_bce(z, y))


def test_the_asymmetric_loss_equals_its_formula_in_numpy():
    z, labels = sample()
    y = torch.eye(K)[labels]
    p, t = torch.sigmoid(z.double()).numpy(), y.numpy()
    q = np.maximum(p - 0.05, 0)
    expected = -(t * (1 - p) * np.log(p) + (1 - t) * q**4 * np.log(1 - q))
    np.testing.assert_allclose(losses.asymmetric(z, y, 1.0, 4.0, 0.05).numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["loss"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_their_gradients_are_finite_for_large_logits(loss, dtype):
    z = torch.tensor([[1e4, -1e4, 0.0, 5.0], [-1e4, 1e4, 1e4, -1e4]], dtype=dtype, requires_grad=True)
    value = class_task(**loss).loss(z, torch.eye(K)[[1, 0]]).objective
    value.backward()
    assert z.grad is not None
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(z.grad).all())


# Class weights, mixing, smoothing


def test_balanced_weights_are_scikit_learns_and_have_mean_one_over_images():
    from sklearn.utils.class_weight import compute_class_weight

    counts = [7, 2, 30]
    labels = np.repeat(np.arange(3), counts)
    np.testing.assert_allclose(balanced(counts), compute_class_weight("balanced", classes=np.arange(3), y=labels))
    for weights in (balanced(counts), effective_number(counts, 0.99)):
        assert sum(w * n for w, n in zip(weights, counts, strict=True)) / sum(counts) == pytest.approx(1)


def test_effective_numbers_are_in_the_proportions_of_the_paper():
    counts, beta = [500, 5], 0.999
    a, b = effective_number(counts, beta)
    assert a / b == pytest.approx(((1 - beta) / (1 - beta**500)) / ((1 - beta) / (1 - beta**5)))


def test_weighted_cross_entropy_equals_torchs_with_weights_divided_by_the_number_of_images():
    z, labels = sample()
    counts = (8, 2, 1, 1)
    task = class_task(counts, class_weights="balanced")
    y = task.parts[0].encode(labels.numpy(), train=True)
    expected = F.cross_entropy(z, labels, weight=torch.tensor(balanced(counts)), reduction="sum") / len(z)
    torch.testing.assert_close(task.loss(z, y).objective, expected)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["loss"])
@given(weight=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_mixed_weighted_target_costs_the_mixture_of_the_weighted_losses(loss, weight, seed):
    z, labels = sample(2, seed)
    task = class_task((9, 3, 2, 1), class_weights="balanced", **loss)
    y = task.parts[0].encode(labels.numpy(), train=True)
    _, mixed = mixup_batch(torch.zeros(2, 1, 1, 1), y, weight, torch.tensor([1, 0]))
    single = [[float(task.loss(z[i : i + 1], y[j : j + 1]).objective) for j in (0, 1)] for i in (0, 1)]
    expected = [weight * single[i][i] + (1 - weight) * single[i][1 - i] for i in (0, 1)]
    assert float(task.loss(z, mixed).objective) == pytest.approx(sum(expected) / 2, rel=1e-4, abs=1e-6)


def test_weights_multiply_the_smoothed_loss_of_an_image():
    z, labels = sample(1)
    task = class_task((9, 3, 2, 1), class_weights="balanced")
    smoothed = task.smooth(task.parts[0].encode(labels.numpy(), train=True), 0.1, "all")
    expected = balanced((9, 3, 2, 1))[int(labels)] * F.cross_entropy(z, labels, label_smoothing=0.1)
    torch.testing.assert_close(task.loss(z, smoothed).objective, expected)


def test_validation_targets_are_not_weighted():
    task = class_task((9, 3, 2, 1), class_weights="balanced")
    assert torch.equal(task.parts[0].encode(np.arange(K), train=False), torch.eye(K))


def test_weights_by_name_or_in_a_list_are_checked_against_the_classes():
    by_name = class_task((5, 5), class_weights={"b": 3.0})
    assert by_name.parts[0].weights == pytest.approx([0.5, 1.5])
    assert class_task((5, 5), class_weights=(1.0, 3.0)).parts[0].weights == pytest.approx([0.5, 1.5])
    with pytest.raises(ConfigError, match="did you mean"):
        class_task((5, 5, 5, 5), class_weights={"B": 3.0})
    with pytest.raises(ConfigError, match="must hold 2 weights"):
        class_task((5, 5), class_weights=(1.0,))


def test_permuting_the_classes_permutes_the_weights():
    assert balanced([3, 9, 1]) == [balanced([9, 1, 3])[i] for i in (2, 0, 1)]


def test_the_initial_bias_makes_the_untrained_loss_that_of_guessing():
    counts = (8, 2, 1, 1)
    for option in ({}, {"class_weights": "balanced"}, {"loss": "bce"}, {"loss": "focal"}):
        task = class_task(counts, **option)
        labels = np.repeat(np.arange(4), counts)
        y = task.parts[0].encode(labels, train=True)
        untrained = task.loss(torch.tensor([task.parts[0].output_bias()]).expand(len(y), -1), y).objective
        assert float(untrained) == pytest.approx(task.parts[0].guessing_loss(), rel=1e-5), option
        if option.get("loss") is None:
            worse = task.loss(torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(len(y), -1), y).objective
            assert untrained < worse


# Labels and numbers


def test_positive_weights_are_the_ratio_of_negatives_to_positives():
    spec = PartSpec("", "tags", "multilabel", ("a", "b"), 100, (20, 1))
    part = part_of(Multilabel(class_weights="balanced"), spec)
    z, y = sample()[0][:, :2], torch.ones(12, 2)
    expected = F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor([4.0, 20.0]))
    torch.testing.assert_close(part.loss(z, y), expected)


@pytest.mark.slow
def test_the_best_threshold_maximizes_f1_among_all_thresholds():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.random(30).round(1)
        positive = rng.random(30) < p
        threshold = best_threshold(p, positive)
        found = f1_score(positive, p >= threshold, zero_division=0)
        best = max(f1_score(positive, p >= t, zero_division=0) for t in np.linspace(0, 1, 101))
        assert found == pytest.approx(best)


def test_numbers_are_standardized_and_come_back_in_original_units():
    values = np.array([[10.0, 0.0], [14.0, 1.0], [12.0, 5.0]])
    splits = splits_of(size=("regression", ("w", "h"), values))
    task = Regression(metrics=("rmse", "r2_per_target")).build(splits)
    part = task.parts[0]
    encoded = part.encode(values, train=True)
    torch.testing.assert_close(encoded.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(encoded.std(0, correction=0), torch.ones(2))
    np.testing.assert_allclose(part.predict(encoded).numpy(), values, rtol=1e-6)
    outputs = encoded / part.output_scale
    assert task.evaluate(outputs, encoded) == pytest.approx({"rmse": 0.0, "r2_w": 1.0, "r2_h": 1.0}, abs=1e-5)


def test_scaling_the_numbers_scales_the_metric_but_not_the_loss():
    values = np.random.default_rng(0).normal(size=(50, 1))
    a, b = (Regression().build(splits_of(x=("regression", ("x",), v))) for v in (values, 1000 * values + 7))
    outputs = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    loss, metric = {}, {}
    for name, task, v in (("a", a, values), ("b", b, 1000 * values + 7)):
        y = task.parts[0].encode(v, train=True)
        loss[name] = float(task.loss(outputs, y).objective)
        metric[name] = float(task.parts[0].running_sum(task.parts[0].own(outputs), y, None))
    assert loss["b"] == pytest.approx(loss["a"], rel=1e-4)
    assert metric["b"] == pytest.approx(1000 * metric["a"], rel=1e-4)


def test_a_constant_number_and_an_unknown_target_are_errors():
    splits = splits_of(x=("regression", ("x",), np.ones((4, 1))))
    with pytest.raises(ConfigError, match="the same value for all"):
        Regression().build(splits)
    with pytest.raises(ConfigError, match="the data has no such target; it has x"):
        Regression(target="y").build(splits)
    with pytest.raises(ConfigError, match="for regression, not classification"):
        Classification().build(splits)


# Missing labels


def multi(missing=True, **option):
    """Six images with a class, two labels and a number each, some of them missing."""
    nan = np.nan if missing else 0.5
    splits = splits_of(
        kind=("classification", ("a", "b", "c"), np.array([0, 1, 2, -1 if missing else 0, 1, 2])),
        tags=("multilabel", ("x", "y"), np.array([[1, 0], [0, nan], [1, 1], [nan, nan], [0, 0], [1, 0]], np.float32)),
        size=("regression", ("s",), np.array([[1.0], [2.0], [nan], [4.0], [5.0], [3.0]])),
    )
    return build_multitask(Multitask(**option), splits), splits.train


def test_a_missing_label_changes_nothing_whatever_its_value_is():
    task, images = multi()
    table, rows = task.encode(images, train=True)
    y = table[rows]
    z = torch.randn(6, task.num_outputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    task.loss(z, y).objective.backward()
    other = y.clone()
    for part in task.parts:
        values, mask = other[:, part.values], other[:, part.mask]
        values[(mask == 0).expand_as(values)] = 123.0
    again = z.detach().clone().requires_grad_()
    task.loss(again, other).objective.backward()
    assert z.grad is not None
    assert again.grad is not None
    assert torch.equal(z.grad, again.grad)
    assert bool(torch.isfinite(z.grad).all())


def test_the_loss_with_missing_labels_is_the_mean_over_those_that_are_there():
    task, images = multi()
    table, rows = task.encode(images, train=True)
    z = torch.randn(6, task.num_outputs, generator=torch.Generator().manual_seed(0))
    found = task.loss(z, table[rows]).parts
    kind = torch.tensor([0, 1, 2, 1, 2])
    torch.testing.assert_close(found[0], F.cross_entropy(z[[0, 1, 2, 4, 5], :3], kind))
    tags = torch.from_numpy(images.target("tags"))
    there = ~tags.isnan()
    torch.testing.assert_close(found[1], F.binary_cross_entropy_with_logits(z[:, 3:5][there], tags[there]))


def test_a_batch_without_any_label_of_a_task_keeps_its_head_in_the_graph():
    task, images = multi()
    table, rows = task.encode(images, train=True)
    z = torch.randn(1, task.num_outputs, requires_grad=True)
    value = task.loss(z, table[rows][3:4]).objective  # neither class nor labels, only the number
    value.backward()
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())
    assert z.grad[0, :5].abs().max() == 0
    assert z.grad[0, 5] != 0


def test_the_mean_over_parts_of_a_batch_is_that_over_the_whole_batch():
    task, images = multi()
    table, rows = task.encode(images, train=True)
    y, z = table[rows], torch.randn(6, task.num_outputs)
    whole = task.loss(z, y).objective
    parts = sum(task.loss(z[i : i + 2], y[i : i + 2]).objective / 3 for i in (0, 2, 4))
    torch.testing.assert_close(whole, parts)


def test_an_image_mixed_with_one_without_a_label_does_not_count():
    task, images = multi()
    table, rows = task.encode(images, train=True)
    _, y = mixup_batch(torch.zeros(6, 1, 1, 1), table[rows], 0.7, torch.tensor([3, 1, 2, 0, 4, 5]))
    kind = task.parts[0]
    _, _, mask = kind.select(torch.zeros(6, task.num_outputs), y)
    assert mask is not None
    assert mask[:, 0].tolist() == [False, True, True, False, True, True]


def test_running_metrics_with_missing_labels_equal_those_over_the_labels_that_are_there():
    task, images = multi()
    table, rows = task.encode(images, train=False)
    y, z = table[rows], torch.randn(6, task.num_outputs, generator=torch.Generator().manual_seed(1))
    totals = torch.zeros(task.sums[-1].stop, dtype=torch.float64)
    for i in (0, 4):
        task.add(totals, task.loss(z[i : i + 4], y[i : i + 4]), z[i : i + 4], y[i : i + 4])
    means = task.means(totals.tolist(), 6)
    hits = (z[:, :3].argmax(1) == torch.tensor([0, 1, 2, 9, 1, 2]))[[0, 1, 2, 4, 5]]
    assert means["kind_accuracy"] == pytest.approx(float(hits.float().mean()))
    assert means["loss"] == pytest.approx(sum(means[f"{name}_loss"] for name in ("kind", "tags", "size")))


# Several tasks


def test_the_order_of_outputs_and_targets_is_that_of_the_tasks():
    task, _ = multi(missing=False)
    assert task.num_outputs == 6
    assert [(p.name, p.outputs, p.values) for p in task.parts] == [
        ("kind", slice(0, 3), slice(0, 3)), ("tags", slice(3, 5), slice(3, 5)), ("size", slice(5, 6), slice(5, 6)),
    ]  # fmt: skip
    assert task.main_metric == "validation_loss"
    assert multi(missing=False, main="size")[0].main_metric == "validation_size_mae"


def test_fixed_weights_multiply_the_losses_and_the_config_says_so():
    tasks = {"kind": {"weight": 2.0}, "size": {"weight": 0.5, "loss": "l1"}}
    task, images = multi(missing=False, tasks=tasks)
    table, rows = task.encode(images, train=True)
    found = task.loss(torch.randn(6, task.num_outputs), table[rows])
    torch.testing.assert_close(found.objective, 2 * found.parts[0] + 0.5 * found.parts[1])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"tasks": {"kind": {"loss": "mse"}, "size": {}}}, "tasks.kind.loss"),
        ({"tasks": {"kind": {"gama": 1}, "size": {}}}, "did you mean 'gamma'"),
        ({"tasks": {"knd": {}, "size": {}}}, "did you mean 'kind'"),
        ({"tasks": {"kind": {"weight": -1}, "size": {}}}, "must be a number >= 0"),
        ({"main": "knd"}, "must be one of kind, tags, size"),
    ],
)
def test_wrong_tasks_are_answered_with_what_is_allowed(option, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        multi(missing=False, **option)


def test_a_task_is_restored_from_what_a_checkpoint_holds():
    task, images = multi(tasks={"kind": {"class_weights": "balanced"}, "tags": {}, "size": {"weight": 3.0}})
    saved = [from_dict(values).as_dict() for values in task.as_tuple()]
    assert task.option is not None
    again = task.option.restore(saved)
    a, b = (t.encode(images, train=True)[0] for t in (task, again))
    assert torch.equal(a, b)
    assert [p.spec for p in again.parts] == [p.spec for p in task.parts]


# Weights of the losses


def weighting(kind, **option):
    task, _ = multi(missing=False, weighting=kind, tasks={"kind": {}, "size": {}}, **option)
    assert task.weighting is not None
    return task.weighting


def test_log_variances_reach_the_optimum_of_a_constant_loss():
    """Of c·L·e⁻ˢ + ½s it is eˢ = 2·c·L, with c = 1 for classes and ½ for numbers."""
    found = weighting("uncertainty", weighting_lr=0.1)
    for _ in range(500):
        found.measure(torch.tensor([0.7, 0.2]), None)
        found.step()
    torch.testing.assert_close(found.log_variance.exp(), torch.tensor([1.4, 0.2]), rtol=1e-3, atol=0)


def test_the_gradient_of_a_log_variance_is_that_of_the_objective_of_kendall():
    found = weighting("uncertainty", weighting_lr=0.01)
    loss, s = torch.tensor([0.7, 0.2]), torch.zeros(2, requires_grad=True)
    (found.factors * loss * (-s).exp() + s / 2).sum().backward()
    found.measure(loss, None)
    found.step()
    assert s.grad is not None
    torch.testing.assert_close(found.log_variance, -0.01 * s.grad)


def test_uncertainty_weights_follow_the_inverse_noise_variance_of_two_tasks():
    """Two numbers that a linear model predicts but for noise of known variance: e⁻ˢ approaches 1/variance."""
    torch.manual_seed(0)
    x = torch.randn(4000, 3)
    truth = x @ torch.randn(3, 2)
    noise = torch.tensor([0.5, 2.0])
    y = truth + noise * torch.randn(4000, 2)
    values = {
        "a": ("regression", ("a",), y[:, :1].double().numpy()),
        "b": ("regression", ("b",), y[:, 1:].double().numpy()),
    }
    splits = splits_of(**values)
    task = build_multitask(Multitask(weighting="uncertainty", weighting_lr=0.05), splits)
    targets = task.encode(splits.train, train=True)[0]
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        found = task.loss(model(x), targets)
        task.measure(found, model)
        found.objective.backward()
        optimizer.step()
        task.step()
    assert task.weighting is not None
    variance = task.weighting.log_variance.exp() * torch.tensor([p.spec.std[0] for p in task.parts]).float() ** 2
    torch.testing.assert_close(variance, noise**2, rtol=0.1, atol=0)


def test_dwa_gives_more_weight_to_the_task_whose_loss_falls_more_slowly():
    found = weighting("dwa", temperature=2.0)
    found.end_epoch([1.0, 1.0])
    assert found.weights.tolist() == [1, 1]
    found.end_epoch([0.9, 0.3])
    expected = 2 * torch.softmax(torch.tensor([0.9, 0.3]) / 2, 0)
    torch.testing.assert_close(found.weights, expected)


def test_gradnorms_step_is_the_derivative_of_its_loss():
    torch.manual_seed(0)
    w = torch.tensor([1.2, 0.8], requires_grad=True)
    norms, progress, alpha = torch.tensor([3.0, 0.4]), torch.tensor([0.5, 0.9]), 1.5
    goal = (w * norms).mean().detach() * (progress / progress.mean()) ** alpha
    (w * norms - goal).abs().sum().backward()
    assert w.grad is not None
    moved = w.detach() - 0.01 * w.grad
    torch.testing.assert_close(gradnorm_step(w.detach(), norms, progress, alpha, 0.01), 2 * moved / moved.sum())


def test_gradnorm_measures_the_gradients_of_the_last_shared_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 4))
    task, images = multi(missing=False, weighting="gradnorm", tasks={"kind": {}, "size": {}})
    table, rows = task.encode(images, train=True)
    found = task.loss(model(torch.randn(6, 1, 4, 4)), table[rows])
    task.measure(found, model)
    assert task.weighting is not None
    expected = [torch.autograd.grad(loss, model[1].weight, retain_graph=True)[0].norm() for loss in found.parts]
    torch.testing.assert_close(task.weighting.norms, torch.stack(expected))
    assert model[1].weight.grad is None


def test_weights_of_losses_come_back_from_their_state():
    for kind in ("uncertainty", "dwa", "gradnorm"):
        a, b = weighting(kind), weighting(kind)
        a.weights.copy_(torch.tensor([1.5, 0.5]))
        b.load_state_dict(a.state_dict())
        torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0, equal_nan=True)


def test_missing_labels_of_a_batch_do_not_move_the_log_variance():
    found = weighting("uncertainty")
    found.measure(torch.tensor([0.0, 0.5]), None)
    found.step()
    assert found.log_variance[0] == 0
    assert math.isclose(float(found.log_variance[1]), -0.025 * (0.5 - 0.5 * 0.5), rel_tol=1e-6)
