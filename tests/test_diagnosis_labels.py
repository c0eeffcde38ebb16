"""The diagnosis of labels that are wrong."""

from __future__ import annotations

import math

import pytest
from diagnosing import PROBE, names, written

from trainer.analysis.diagnosis import Record, diagnose


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "classes mixed up"),
        ({"errors": 12, "confident_errors": 6}, "classes mixed up"),  # a part of the labels
        ({"confident_errors": 2}, "good fit"),  # similar classes: the confident predictions are right
        ({"errors": 6, "confident_errors": 3}, "good fit"),  # of chance
    ],
)
def test_two_classes_are_called_mixed_up_only_if_confident_predictions_are_as_often_wrong(change, expected):
    mixed = {"classes": [3, 5], "images": 40, "errors": 20, "confident_errors": 9, **change}
    other = {"classes": [1, 8], "images": 40, "errors": 2, "confident_errors": 0}
    confusions = {"images": 200, "correct": 150, "pairs": [mixed, other]}
    assert names(written([2.0, 0.1, 0.1], {"confusions": confusions})) == [expected]
    alike = {**confusions, "pairs": [{**mixed, "errors": 14}, {**other, "errors": 10, "confident_errors": 5}]}
    assert names(written([2.0, 0.1, 0.1], {"confusions": alike})) == ["good fit"], "it is not these two classes"
    rare = {"confusions": confusions, "class_counts": [50] * 9 + [9]}
    assert "classes mixed up" not in names(written([2.0, 0.1, 0.1], rare)), "rare classes are taken for frequent ones"


def test_all_classes_that_are_mixed_up_with_each_other_are_named_and_similar_ones_are_a_hint():
    def found(*pairs: tuple[list[int], int, int], correct: int) -> tuple[str, str, str]:
        listed = [{"classes": c, "images": 40, "errors": n, "confident_errors": m} for c, n, m in pairs]
        record = written([2.0, 0.1, 0.1], {"confusions": {"images": 300, "correct": correct, "pairs": listed}})
        finding = next(f for f in diagnose(*vars(record).values()) if f.name == "classes mixed up")
        return finding.kind, finding.meaning, finding.attempt[0]

    kind, meaning, attempt = found(([3, 5], 20, 9), ([5, 8], 19, 10), ([3, 8], 18, 8), ([0, 1], 2, 0), correct=240)
    assert kind == "warning"
    assert "labels of 3, 5 and 8 are mixed up" in meaning
    assert attempt == "compare images and labels of 3, 5 and 8"
    kind, meaning, _ = found(([3, 5], 12, 0), ([0, 1], 1, 0), correct=286)
    assert kind == "hint"
    assert meaning.startswith("All other classes are told apart")


def test_labels_that_are_wrong_in_one_way_are_label_noise_because_the_errors_are_confident():
    """Of every class, some have the label of the next one: the ranks of their labels are those of similar classes."""

    def found(confident: int, **pair: int) -> list[str]:
        pairs = [
            {"classes": [i, i + 1], "images": 40, "errors": 6, "confident_errors": confident, **pair} for i in range(9)
        ]
        confusions = {"images": 200, "correct": 150, "pairs": pairs}
        return names(written([2.0, 0.1, 0.1], {"confusions": confusions}))

    assert found(3) == ["label noise"]
    assert found(1) == ["good fit"]
    assert found(1, errors=2) == ["good fit"], "they are too few"


def test_a_class_that_is_rarer_by_as_much_as_one_it_is_confused_with_is_more_frequent_has_its_label():
    """Three of four images of class 3 have the label 8; the validation images, too."""
    counts = [360, 350, 370, 90, 360, 365, 355, 360, 630, 360]
    pairs = [{"classes": [3, 8], "images": 80, "errors": 7, "confident_errors": 2}]

    def record(counts: list[int], test: list[float]) -> Record:
        info = {"class_counts": counts, "test_fractions": test,
                "confusions": {"images": 400, "correct": 380, "pairs": pairs}}  # fmt: skip
        return written([0.5, 0.3, 0.2], info)

    for test in ([0.1] * 10, [n / sum(counts) for n in counts], []):  # whose labels are right, wrong too, unknown
        own = record(counts, test)
        findings = diagnose(own.rows, own.snapshots, own.dataset_info)
        assert [f.name for f in findings] == ["classes mixed up"]
        assert "many images of 3 have the label 8" in findings[0].meaning
    counts[8] = 360
    assert "classes mixed up" not in names(record(counts, [0.1] * 10)), "class 3 is only rare"


def test_several_pairs_of_classes_that_are_confused_in_one_direction_are_mixed_up():
    """All errors are among the less confident predictions, because the network knows how many labels are wrong."""
    pairs = [
        {"classes": [4, 9], "images": 36, "errors": 8, "confident_errors": 0},
        {"classes": [1, 7], "images": 40, "errors": 8, "confident_errors": 0},
        {"classes": [4, 8], "images": 22, "errors": 1, "confident_errors": 0},
    ]
    confusions = {"images": 200, "correct": 176, "pairs": pairs}
    record = written([1.5, 0.5, 0.3], {"class_counts": [90] * 10, "confusions": confusions})
    assert names(record)[0] == "classes mixed up"
    confusions["pairs"] = [*pairs[:2], {"classes": [3, 5], "images": 40, "errors": 5, "confident_errors": 0}]
    assert "classes mixed up" not in names(record), "other classes are hard to tell apart, too"


def test_two_classes_that_are_confused_by_a_network_that_fits_no_others_either_are_not_called_mixed_up():
    pairs = [{"classes": [3, 5], "images": 40, "errors": 20, "confident_errors": 10}]
    confusions = {"images": 200, "correct": 170, "pairs": pairs}
    for loss, expected in ((0.5, True), (1.0, False)):  # guessing between two of ten classes explains 0.14
        used = {"loss": loss, "accuracy": 0.85, "validation_loss": loss, "validation_accuracy": 0.85}
        record = written([2.0, 1.5, 1.0], {"confusions": confusions, "probe": {**PROBE, "used": used}})
        assert ("classes mixed up" in names(record)) == expected


def test_classes_that_are_mixed_up_in_difficult_data_are_named_where_no_other_pair_is_confused_half_as_often():
    for rest, expected in ((9, True), (14, False)):
        pairs = [{"classes": [0, 8], "images": 46, "errors": 20, "confident_errors": 11},
                 {"classes": [2, 4], "images": 40, "errors": rest, "confident_errors": 3}]  # fmt: skip
        record = written([2.0, 1.0, 0.5], {"confusions": {"images": 240, "correct": 170, "pairs": pairs}})
        assert ("classes mixed up" in names(record)) == expected


def test_a_class_that_has_images_of_all_others_is_label_noise_unless_it_is_as_frequent_in_the_test():
    pairs = [{"classes": [k, 9], "images": 60, "errors": 10, "confident_errors": 4} for k in range(9)]
    info = {"class_counts": [150] * 9 + [800], "confusions": {"images": 240, "correct": 140, "pairs": pairs}}
    equal = [0.1] * 10
    assert "label noise" in names(written([2.0, 1.3, 1.2], {**info, "test_fractions": equal}))
    assert "label noise" not in names(written([2.0, 1.3, 1.2], {**info, "test_fractions": [0.0625] * 9 + [0.37]}))
    honest = [{**pair, "confident_errors": 1} for pair in pairs]
    info["confusions"]["pairs"] = honest
    assert "label noise" not in names(written([2.0, 1.3, 1.2], {**info, "test_fractions": equal}))


def test_confident_errors_count_as_label_noise_in_harder_data_where_the_test_images_are_recognized():
    pairs = [{"classes": [k, k + 1], "images": 40, "errors": 8, "confident_errors": 4} for k in range(8)]
    info = {"confusions": {"images": 240, "correct": 135, "pairs": pairs}, "test": 800, "validation": 240}
    assert (
        names(written([2.0, 1.3, 1.2], {**info, "accuracies": {"validation": 0.56, "test": 0.74}}))[0] == "label noise"
    )
    assert "label noise" not in names(
        written([2.0, 1.3, 1.2], {**info, "accuracies": {"validation": 0.56, "test": 0.56}})
    )


def test_short_trainings_with_tiny_batches_do_not_show_that_labels_are_unrelated():
    """A branch of 20 steps has seen 40 images."""
    branches = [{"factor": 1.0, "lr": 0.05, "loss": 2.4, "accuracy": 0.1, "validation_loss": 2.4}]
    used = {"loss": 2.3, "accuracy": 0.1, "validation_loss": 2.3, "validation_accuracy": 0.1}
    probe = {
        **PROBE,
        "used": used,
        "from_start": branches,
        "one_batch": [{"factor": 1.0, "lr": 0.05, "loss": 0.01, "accuracy": 1.0}],
    }
    for size, expected in ((2, "not learning"), (32, "labels unrelated to the images")):
        record = written([2.31, 2.3, 2.3], {"batch_size": size, "probe": probe})
        rows = [{**row, "validation_accuracy": 0.1, "train_accuracy": 0.1} for row in record.rows]
        assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == expected
        if size == 2:  # in a single epoch of 300 steps, too
            assert [f.name for f in diagnose(rows[-1:], record.snapshots, record.dataset_info)] == [expected]


def test_how_wrong_labels_are_told_depends_on_whether_test_images_are_recognized_better():
    """Of 500 images the errors have their label in the less probable half of the classes less often than at random."""
    ranks = [330, 50, 30, 20, 15, 15, 12, 10, 10, 8]  # .58 of what is expected at random
    probe = {**PROBE, "ranks": ranks}
    for test, expected in ((0.85, True), (0.66, False)):
        accuracies = {"validation": 0.66, "test": test}
        info = {"probe": probe, "accuracies": accuracies, "validation": 500, "test": 1000}
        assert ("label noise" in names(written([1.7, 1.6, 1.5], info))) == expected
    for tail, expected in (
        (119, False),
        (130, True),
    ):  # .70 and .76 of what is expected at random, where few are recognized
        few = {**PROBE, "ranks": [194, 306 - tail, 0, 0, 0, tail, 0, 0, 0, 0]}
        assert ("label noise" in names(written([2.2, 2.1, 2.1], {"probe": few}))) == expected


def test_images_that_are_memorized_but_tell_nothing_of_others_have_unrelated_labels():
    """By their accuracy: the loss is still near that of guessing."""
    used = {"loss": 2.12, "accuracy": 0.34, "validation_loss": 2.34, "validation_accuracy": 0.13}
    start = [{"factor": 1.0, "lr": 0.05, "loss": 2.3, "accuracy": 0.1, "validation_loss": 2.31}]
    record = written([2.3, 2.2, 2.1], {"probe": {**PROBE, "used": used, "from_start": start}, "batch_size": 32})
    rows = [{**row, "validation_loss": 2.33, "validation_accuracy": 0.1} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "labels unrelated to the images"
    assert "the accuracy on training images 34 %" in finding.evidence


def test_labels_are_not_unrelated_where_a_short_training_recognizes_more_validation_images_than_chance():
    used = {"loss": 1.84, "accuracy": 0.16, "validation_loss": 1.83, "validation_accuracy": 0.17}
    start = [
        {"factor": f, "lr": 0.3 * f, "loss": x, "accuracy": a, "validation_loss": x - 0.01, "validation_accuracy": a}
        for f, x, a in ((0.1, 1.72, 0.29), (1.0, 1.82, 0.17))
    ]
    one = [{"factor": 1.0, "lr": 0.3, "loss": 0.1, "accuracy": 0.96}]
    info = {"prior_entropy": math.log(6), "class_counts": [80] * 6, "batch_size": 32, "lr": 0.3}
    record = written(
        [1.81, 1.8, 1.79], {**info, "probe": {**PROBE, "used": used, "from_start": start, "one_batch": one}}
    )
    rows = [{**row, "validation_loss": 1.8, "validation_accuracy": 0.17} for row in record.rows]
    assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == "learning rate too high"
    start[0]["validation_accuracy"] = 0.17
    assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == "labels unrelated to the images"
