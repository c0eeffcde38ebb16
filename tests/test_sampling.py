"""Sampling of classes: the proportions of an epoch, as a function of (seed, epoch)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.images import ImageArray
from trainer.data.in_memory import InMemoryLoader
from trainer.data.sampling import class_quotas, sample
from trainer.data.streaming import StreamingLoader

CLASSES = np.repeat(np.arange(3), (50, 8, 2))
counts_strategy = st.lists(st.integers(0, 60), min_size=2, max_size=6).filter(lambda c: sum(c) > 0)


def loader(kind=InMemoryLoader, rank=0, world_size=1, seed=0, **options):
    images = np.arange(60, dtype=np.uint8)[:, None, None, None]
    common = {"mean": [0.0], "std": [1 / 255], "batch_size": 8, "sampling": "balanced", "rank": rank}
    common |= {"world_size": world_size, "seed": seed, "num_classes": 3}
    if kind is StreamingLoader:
        options |= {"shape": (1, 1, 1), "num_workers": 0}
    return kind(ImageArray(images, CLASSES), **common, **options)


def epoch_of(a, epoch=0, start=0):
    """Numbers of the images of an epoch, in order."""
    return torch.cat([x.flatten() for x, _ in a.batches(epoch, start)]).round().int().tolist()


@given(counts_strategy, st.sampled_from(["natural", "balanced", "sqrt"]))
def test_quotas_sum_to_the_number_of_images_and_are_within_one_of_the_exact_proportions(counts, sampling):
    counts = np.array(counts)
    quotas = class_quotas(counts, sampling)
    power = {"natural": 1.0, "sqrt": 0.5, "balanced": 0.0}[sampling]
    shares = np.array([n**power if n else 0 for n in counts])
    assert quotas.sum() == counts.sum()
    assert np.abs(quotas - shares / shares.sum() * counts.sum()).max() < 1 + 1e-9
    assert (quotas[counts == 0] == 0).all()


@given(st.integers(0, 1000))
def test_within_a_class_all_images_occur_equally_often_up_to_one(seed):
    times = np.bincount(sample(CLASSES, "balanced", np.random.default_rng(seed)), minlength=60)
    for label in range(3):
        own = times[label == CLASSES]
        assert own.max() - own.min() <= 1
        assert own.sum() == 20


def test_an_epoch_is_a_function_of_seed_and_epoch():
    assert epoch_of(loader(), 3) == epoch_of(loader(), 3)
    assert epoch_of(loader(), 3) != epoch_of(loader(), 4)
    assert epoch_of(loader(seed=1), 3) != epoch_of(loader(), 3)


def test_an_epoch_that_begins_in_its_middle_has_the_same_images():
    assert epoch_of(loader(), 2, start=3) == epoch_of(loader(), 2)[24:]


def test_streamed_and_in_memory_images_are_the_same():
    assert epoch_of(loader(StreamingLoader)) == epoch_of(loader())


def test_several_processes_share_the_batches_of_one():
    whole = epoch_of(loader())
    parts = [epoch_of(loader(rank=rank, world_size=2)) for rank in (0, 1)]
    joined = [part[i] for i in range(30) for part in parts]
    assert joined == whole


def test_images_without_a_class_keep_their_number():
    classes = np.where(np.arange(60) < 5, -1, CLASSES)
    drawn = sample(classes, "balanced", np.random.default_rng(0))
    assert (drawn < 5).sum() == 5
    assert len(drawn) == 60


def test_the_run_says_the_proportions(train, tmp_path):
    words = ("data=digits", "data.sampling=balanced", "epochs=0.2", "data.limit=100", "data.loading=streaming")
    code, out, _ = train(*words, "architecture.widths=[4]", f"output={tmp_path / 'run'}", "observer=[console]")
    assert code == 0
    assert "sampling balanced: images per epoch 0 10, 1 10" in out


@pytest.mark.parametrize("task", ["task=regression task.target=slant", "task=multilabel task.target=properties"])
def test_sampling_needs_classes(train, task):
    code, _, err = train("data=mnist5k_multitask", *task.split(), "data.sampling=balanced", "epochs=0.1")
    assert code == 2
    assert "data.sampling = 'balanced': needs a task with classes" in err
