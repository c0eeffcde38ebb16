"""Metrics of tasks against scikit-learn, against counts of pairs, and where they are not defined."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.engine.metrics import calibration
from trainer.history import MINIMIZED, better_is
from trainer.tasks.metric_functions import area_under_roc, average_precision
from trainer.tasks.metrics import METRICS, check, columns, compute
from trainer.tasks.predictions import Predictions

NAMES = ("a", "b", "c", "d")
UNDEFINED_IS_ZERO = {"average": "macro", "zero_division": 0}


def random_classes(n: int = 60, k: int = 4, seed: int = 0, present: tuple[int, ...] = ()) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.choice(present or np.arange(k), n)
    scores = rng.normal(size=(n, k)) + np.eye(k)[truth]
    return Predictions("classification", NAMES[:k], scores, truth)


def random_labels(n: int = 60, seed: int = 0, masked: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (n, 4)).astype(np.float64)
    scores = rng.normal(size=(n, 4)) + truth
    mask = rng.random((n, 4)) < 0.7 if masked else None
    return Predictions("multilabel", NAMES, scores, truth, mask, thresholds=np.array([0.3, 0.5, 0.6, 0.7]))


def random_numbers(n: int = 40, masked: bool = False) -> Predictions:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(n, 4)) * [1, 10, 100, 0.1] + 5
    mask = rng.random((n, 4)) < 0.7 if masked else None
    return Predictions("regression", NAMES, truth + rng.normal(size=(n, 4)), truth, mask)


def all_values(predictions: Predictions) -> dict[str, float]:
    k = len(predictions.classes)
    names = [n for n in METRICS[predictions.kind] if n != "top<k>"]
    return compute([*names, *(f"top{i}" for i in range(2, k) if predictions.kind == "classification")], predictions)


def metrics_by_scikit_learn(p: Predictions) -> dict[str, float]:
    y, labels, present = p.truth, np.arange(len(p.classes)), np.unique(p.truth)
    predicted = p.scores.argmax(1)
    probabilities = torch.from_numpy(p.scores).softmax(1).numpy()
    one_hot = np.eye(len(labels))[y]
    recalls = oracle.recall_score(y, predicted, labels=present, average=None)
    return {
        "accuracy": oracle.accuracy_score(y, predicted),
        "balanced_accuracy": np.mean(recalls),
        "recall": oracle.recall_score(y, predicted, labels=present, **UNDEFINED_IS_ZERO),
        "worst_recall": recalls.min(),
        "precision": oracle.precision_score(y, predicted, labels=present, **UNDEFINED_IS_ZERO),
        "f1": oracle.f1_score(y, predicted, labels=present, **UNDEFINED_IS_ZERO),
        "f1_micro": oracle.f1_score(y, predicted, average="micro"),
        "f1_weighted": oracle.f1_score(y, predicted, labels=present, average="weighted", zero_division=0),
        "auroc": np.mean([oracle.roc_auc_score(y == k, probabilities[:, k]) for k in present]),
        "average_precision": np.mean([oracle.average_precision_score(y == k, probabilities[:, k]) for k in present]),
        "kappa": oracle.cohen_kappa_score(y, predicted, labels=labels),
        "kappa_quadratic": oracle.cohen_kappa_score(y, predicted, labels=labels, weights="quadratic"),
        "mcc": oracle.matthews_corrcoef(y, predicted),
        "nll": oracle.log_loss(y, probabilities, labels=labels),
        "brier": ((probabilities - one_hot) ** 2).sum(1).mean(),
        "ece": calibration(torch.from_numpy(p.scores), torch.from_numpy(y))[0],
        **{f"top{k}": oracle.top_k_accuracy_score(y, p.scores, k=k, labels=labels) for k in range(2, len(labels))},
    }


@pytest.mark.parametrize("predictions", [random_classes(), random_classes(k=3, seed=1), random_classes(k=2, seed=2)])
def test_metrics_of_classes_equal_those_of_scikit_learn(predictions: Predictions):
    values = all_values(predictions)
    expected = metrics_by_scikit_learn(predictions)
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    per_class = {"recall": oracle.recall_score, "precision": oracle.precision_score, "f1": oracle.f1_score}
    for name, function in per_class.items():
        expected = function(predictions.truth, predictions.scores.argmax(1), average=None)
        assert [values[f"{name}_{c}"] for c in predictions.classes] == pytest.approx(expected)


def test_absent_classes_do_not_count_in_means():
    predictions = random_classes(present=(0, 3))
    values = all_values(predictions)
    expected = metrics_by_scikit_learn(predictions)
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    absent = ("recall_b", "f1_b", "average_precision_b")
    assert all(np.isnan(values[name]) for name in absent)


def test_a_class_that_is_never_predicted_has_no_precision_but_lowers_the_mean():
    predictions = Predictions("classification", ("a", "b"), np.array([[1.0, 0.0]] * 4), np.array([0, 0, 1, 1]))
    values = compute(["precision", "precision_per_class"], predictions)
    assert values["precision"] == 0.25
    assert values["precision_a"] == 0.5
    assert np.isnan(values["precision_b"])


def test_images_of_one_class_have_no_auroc_kappa_or_mcc_and_the_rest_is_defined():
    predictions = Predictions("classification", ("a", "b", "c"), np.array([[3.0, 1.0, 2.0]] * 2), np.array([0, 0]))
    values = all_values(predictions)
    undefined = {name for name, value in values.items() if np.isnan(value)}
    absent = {f"{m}_{c}" for m in ("recall", "precision", "f1", "average_precision") for c in "bc"}
    assert undefined == {"auroc", "kappa", "kappa_quadratic", "mcc"} | absent
    assert values["accuracy"] == values["average_precision"] == values["balanced_accuracy"] == 1


@pytest.mark.parametrize("predictions", [random_classes(1), random_labels(1), random_numbers(1)])
def test_one_image_has_metrics_without_a_warning(predictions: Predictions):
    values = all_values(predictions)
    main = {"classification": "accuracy", "multilabel": "label_accuracy", "regression": "mae"}[predictions.kind]
    assert not np.isnan(values[main])
    assert np.isnan(values["r2" if predictions.kind == "regression" else "auroc"])


@pytest.mark.parametrize("predictions", [random_classes(0), random_labels(0), random_numbers(0)])
def test_without_images_nothing_is_defined(predictions: Predictions):
    assert np.isnan(list(all_values(predictions).values())).all()


def test_constant_logits_have_a_top_k_accuracy_of_k_of_the_classes():
    predictions = Predictions("classification", NAMES, np.zeros((5, 4)), np.array([0, 1, 2, 3, 0]))
    values = compute(["top2", "top3", "auroc", "average_precision"], predictions)
    assert values["top2"] == 2 / 4
    assert values["top3"] == 3 / 4
    assert values["auroc"] == 0.5
    assert values["average_precision"] == pytest.approx(np.mean([2 / 5, 1 / 5, 1 / 5, 1 / 5]))


def test_two_equal_logits_at_rank_k_count_half():
    predictions = Predictions("classification", ("a", "b", "c"), np.array([[5.0, 1.0, 1.0]] * 2), np.array([1, 0]))
    assert compute(["top2"], predictions)["top2"] == (0.5 + 1) / 2


@pytest.mark.parametrize("predictions", [random_classes(), random_labels(masked=True), random_numbers(masked=True)])
def test_the_order_of_the_images_does_not_matter(predictions: Predictions):
    order = np.random.default_rng(5).permutation(len(predictions.truth))
    mask = None if predictions.mask is None else predictions.mask[order]
    shuffled = Predictions(
        predictions.kind,
        predictions.classes,
        predictions.scores[order],
        predictions.truth[order],
        mask,
        predictions.thresholds,
    )
    assert all_values(shuffled) == pytest.approx(all_values(predictions), rel=1e-12, nan_ok=True)


# Large logits


def test_probabilities_that_are_rounded_to_one_keep_their_order():
    margins = np.array([40.0, 50.0, 60.0, 1e4])  # all have a probability of 1.0 in float64
    scores = np.stack([margins, np.zeros(4), np.full(4, -5.0)], 1)
    predictions = Predictions("classification", ("a", "b", "c"), scores, np.array([1, 1, 0, 0]))
    values = compute(["auroc", "nll", "average_precision_per_class"], predictions)
    assert values["auroc"] == 1
    assert values["average_precision_a"] == 1
    assert values["nll"] == pytest.approx((40 + 50) / 4)
    labels = Predictions("multilabel", ("a",), -scores[:, :1], np.array([[1.0], [1.0], [0.0], [0.0]]))
    assert compute(["auroc", "nll"], labels) == pytest.approx({"auroc": 1.0, "nll": (40 + 50) / 4})


def test_images_with_equal_probabilities_are_ties_whatever_the_order_of_their_logits():
    rows = list(itertools.product((0.0, 0.125, 0.75, -1.5), repeat=4))
    scores = np.array(rows) + np.arange(len(rows))[:, None] % 2  # a shift of all logits changes no probability
    truth = np.random.default_rng(0).integers(0, 4, len(rows))
    values = compute(["auroc"], Predictions("classification", NAMES, scores, truth))
    p = torch.from_numpy(scores).softmax(1).numpy().round(9)
    expected = [pairs(p[truth == k, k], p[truth != k, k]) for k in range(4)]
    assert values["auroc"] == pytest.approx(np.mean(expected), rel=1e-12)


def test_the_ranking_of_many_images_is_that_of_each():
    predictions = random_classes(n=5000)
    alone = random_classes(n=5000)
    alone.scores, alone.truth = predictions.scores[4000:4300], predictions.truth[4000:4300]
    assert np.array_equal(predictions.ranking[4000:4300], alone.ranking)


def test_images_for_which_all_classes_but_one_are_excluded_are_ranked():
    scores = np.array([[0.0, -np.inf, -np.inf], [-np.inf, 0.0, -np.inf], [0.0, 1.0, 2.0]])
    predictions = Predictions("classification", ("a", "b", "c"), scores, np.arange(3))
    values = compute(["auroc", "average_precision_per_class"], predictions)
    assert set(values.values()) == {1.0}


def test_the_calibration_error_equals_that_of_the_engine_at_the_limits_of_the_intervals():
    probabilities = np.array([1.0, 0.95, 0.8, 0.6, 14 / 15, 0.5])
    with np.errstate(divide="ignore"):
        scores = np.log(np.stack([probabilities, 1 - probabilities], 1)).clip(-1e4)
    truth = np.array([1, 0, 1, 0, 0, 1])
    expected = calibration(torch.from_numpy(scores), torch.from_numpy(truth))[0]
    assert compute(["ece"], Predictions("classification", ("a", "b"), scores, truth))["ece"] == pytest.approx(expected)


def test_infinite_and_nan_logits_never_give_a_number_that_looks_valid():
    predictions = random_classes()
    predictions.scores[0, 1] = -np.inf  # a class that the network excludes
    values = all_values(predictions)
    expected = [pairs(p[0], p[1]) for p in one_against_others(predictions)]
    assert values["auroc"] == pytest.approx(np.mean(expected))
    for broken in (random_classes(), random_labels()):
        broken.scores[3, 2] = np.nan
        assert np.isnan(list(all_values(broken).values())).all()
    overflowed = random_classes()
    overflowed.scores[3, 2] = np.inf
    assert np.isnan(list(all_values(overflowed).values())).all()


def one_against_others(p: Predictions) -> list[tuple[np.ndarray, np.ndarray]]:
    probabilities = torch.from_numpy(p.scores).softmax(1).numpy()
    return [(probabilities[p.truth == k, k], probabilities[p.truth != k, k]) for k in range(len(p.classes))]


def pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    """Fraction of the pairs in which the positive has the larger score; ties count half."""
    return float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in positive for b in negative]))


SCORED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
@given(SCORED)
def test_areas_equal_counts_of_pairs_with_ties(images: list[tuple[int, bool]]):
    score, positive = np.array([s for s, _ in images], np.float64), np.array([y for _, y in images])
    if positive.all() or not positive.any():
        assert np.isnan(area_under_roc(score, positive))
    else:
        assert area_under_roc(score, positive) == pytest.approx(pairs(score[positive], score[~positive]))
    if positive.any():
        at_positives = [positive[score >= s].mean() for s in score[positive]]
        assert average_precision(score, positive) == pytest.approx(np.mean(at_positives))
        assert average_precision(score, positive) == pytest.approx(oracle.average_precision_score(positive, score))
    else:
        assert np.isnan(average_precision(score, positive))


# A sigmoid per class, labels, numbers


def test_classes_with_a_sigmoid_each_are_ranked_by_it_and_normalized_for_the_likelihood():
    predictions = random_classes(k=3)
    predictions.link = "sigmoid"
    p = torch.from_numpy(predictions.scores).sigmoid().numpy()
    values, y = all_values(predictions), predictions.truth
    assert values["auroc"] == pytest.approx(np.mean([oracle.roc_auc_score(y == k, p[:, k]) for k in range(3)]))
    assert values["nll"] == pytest.approx(oracle.log_loss(y, p / p.sum(1, keepdims=True)))
    assert values["brier"] == pytest.approx(((p / p.sum(1, keepdims=True) - np.eye(3)[y]) ** 2).sum(1).mean())


@pytest.mark.parametrize("masked", [False, True])
def test_metrics_of_labels_equal_those_of_scikit_learn(masked: bool):
    predictions = random_labels(masked=masked)
    values = all_values(predictions)
    p = torch.from_numpy(predictions.scores).sigmoid().numpy()
    there = predictions.mask if predictions.mask is not None else np.ones_like(p, bool)
    column = [(predictions.truth[m, k], p[m, k], p[m, k] >= predictions.thresholds[k]) for k, m in enumerate(there.T)]
    truth, probability, predicted = (np.concatenate(parts) for parts in zip(*column, strict=True))
    f1 = [oracle.f1_score(y, guess) for y, _, guess in column]
    support = [y.sum() for y, _, _ in column]
    expected = {
        "label_accuracy": oracle.accuracy_score(truth, predicted),
        "f1": np.mean(f1),
        "f1_d": f1[3],
        "f1_micro": oracle.f1_score(truth, predicted),
        "f1_weighted": np.average(f1, weights=support),
        "recall": np.mean([oracle.recall_score(y, guess) for y, _, guess in column]),
        "precision": np.mean([oracle.precision_score(y, guess) for y, _, guess in column]),
        "map": np.mean([oracle.average_precision_score(y, q) for y, q, _ in column]),
        "auroc": np.mean([oracle.roc_auc_score(y, q) for y, q, _ in column]),
        "nll": oracle.log_loss(truth, probability),
        "brier": oracle.brier_score_loss(truth, probability),
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    if not masked:
        exact = oracle.accuracy_score(predictions.truth.astype(int), (p >= predictions.thresholds).astype(int))
        assert values["exact_match"] == exact


@pytest.mark.parametrize("make", [random_labels, random_numbers])
def test_what_is_masked_changes_nothing(make):
    predictions = make(masked=True)
    expected = all_values(predictions)
    other = make(masked=True)
    other.truth[~other.mask] = np.nan
    other.scores[~other.mask] = 1e9
    assert all_values(other) == expected


def test_an_exact_match_needs_only_the_labels_that_are_there():
    truth, mask = (
        np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]),
        np.array([[True, False], [True, True], [False, False]]),
    )
    predictions = Predictions("multilabel", ("a", "b"), np.array([[9.0, 9.0], [9.0, -9.0], [9.0, 9.0]]), truth, mask)
    assert compute(["exact_match", "label_accuracy"], predictions) == {"exact_match": 1 / 2, "label_accuracy": 2 / 3}


def test_a_label_without_positives_does_not_count_in_means():
    truth = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    predictions = Predictions("multilabel", ("a", "b"), np.array([[3.0, 2.0], [1.0, -1.0], [2.0, 0.0]]), truth)
    values = compute(["map", "auroc", "f1", "recall", "f1_per_class"], predictions)
    assert {name: values[name] for name in ("map", "auroc", "f1", "recall")} == {
        "map": 1,
        "auroc": 1,
        "f1": 0.8,
        "recall": 1,
    }
    assert np.isnan(values["f1_b"])


@pytest.mark.parametrize("masked", [False, True])
def test_metrics_of_numbers_equal_those_of_scikit_learn(masked: bool):
    predictions = random_numbers(masked=masked)
    values = all_values(predictions)
    there = predictions.known
    column = [(predictions.truth[m, k], predictions.scores[m, k]) for k, m in enumerate(there.T)]
    truth, guess = predictions.truth[there], predictions.scores[there]
    expected = {
        "mae": oracle.mean_absolute_error(truth, guess),
        "rmse": oracle.root_mean_squared_error(truth, guess),
        "r2": np.mean([oracle.r2_score(*c) for c in column]),
        **{f"mae_{c}": oracle.mean_absolute_error(*v) for c, v in zip(NAMES, column, strict=True)},
        **{f"rmse_{c}": oracle.root_mean_squared_error(*v) for c, v in zip(NAMES, column, strict=True)},
        **{f"r2_{c}": oracle.r2_score(*v) for c, v in zip(NAMES, column, strict=True)},
    }
    assert values == pytest.approx(expected)


def test_constant_numbers_have_no_r2():
    truth = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]])
    values = compute(
        ["r2", "r2_per_target"], Predictions("regression", ("a", "b"), truth + np.array([0.0, 1.0]), truth)
    )
    assert np.isnan(values["r2_a"])
    assert values["r2"] == values["r2_b"] == pytest.approx(-0.5)


# Names


def test_columns_are_what_is_computed():
    for predictions in (random_classes(), random_labels(), random_numbers()):
        names = [name for name in METRICS[predictions.kind] if name != "top<k>"]
        assert list(compute(names, predictions)) == columns(predictions.kind, names, NAMES)


MINIMIZED_METRICS = {"nll", "brier", "ece", "mae", "rmse", "mae_per_target", "rmse_per_target"}


@pytest.mark.parametrize("kind", list(METRICS))
def test_the_best_value_of_each_column_is_that_of_its_metric_whatever_the_class_and_the_task_are_called(kind):
    awkward = (*MINIMIZED, "accuracy", "rose", "loss_rate", "top5")
    for name, metric in METRICS[kind].items():
        expected = "min" if name in MINIMIZED_METRICS else "max"
        assert metric.better == expected
        for column in columns(kind, [name], awkward):
            for prefix in ("", "validation_", "averaged_", "test_digit_", "validation_error_", "loss_", "test."):
                assert better_is(prefix + column) == expected, prefix + column


@pytest.mark.parametrize(
    ("kind", "name", "text", "hint"),
    [
        ("classification", "balanced_acuracy", "is not a metric; of classification these", "'balanced_accuracy'"),
        ("classification", "mae", "is a metric of regression; of classification these", ""),
        ("regression", "top5", "is a metric of classification; of regression these", ""),
        ("multilabel", "accuracy", "is a metric of classification; of multilabel these", "'label_accuracy'"),
        ("classification", "top4", "k must be from 2 to 3; there are 4 classes", ""),
        ("classification", "top0", "k must be from 2 to 3", ""),
        ("classification", "top1", "k must be at least 2", "accuracy"),
        ("classification", "top<k>", "must name a number", "top5"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_reported(kind, name, text, hint):
    [(given_name, given_text, given_hint)] = check(kind, ["nll" if kind != "regression" else "mae", name], NAMES)
    assert given_name == name
    assert given_text.startswith(text)
    assert hint in given_hint


def test_all_metrics_are_allowed_and_two_classes_have_no_top_k():
    for kind in METRICS:
        assert check(kind, [name for name in METRICS[kind] if name != "top<k>"], NAMES) == []
    assert check("classification", ["top2"], ("a", "b")) == [("top2", "needs at least 3 classes; there are 2", "")]
    assert check("classification", ["top50"]) == []  # the classes are not known yet


def test_a_class_whose_column_is_that_of_another_metric_is_reported():
    [(name, text, _)] = check("multilabel", ["f1_per_class", "f1_micro"], ("micro", "macro"))
    assert (name, "'f1_micro'" in text) == ("f1_per_class", True)


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="truth"):
        Predictions("regression", ("a",), np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="mask"):
        Predictions("multilabel", ("a",), np.zeros((3, 1)), np.zeros((3, 1)), np.ones(3, bool))
