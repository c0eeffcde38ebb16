"""Kept checkpoints, and the mean of several networks' weights as one network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import QUIET, history_of, load, result_of, same

from trainer.jobs.soup import mean_of, ranked

DATA = ("data=fake", "data.size=10", "data.count=200", "data.num_classes=3", "data.test=60")
SMALL = (*DATA, "architecture.widths=[4,8]", "batch_size=32", "augmentation=none", QUIET)


def epochs_in(run: str) -> list[str]:
    return sorted(file.stem for file in Path(run, "checkpoints").glob("epoch_*.pt"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, two that were fine-tuned from it, and one from other weights."""
    from trainer.cli import main

    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("OMP_NUM_THREADS", "1")
        keep = ("observer.checkpoint.keep_best=2", "observer.checkpoint.keep_every=3")
        assert main([*SMALL, "epochs=5", "output=base", *keep]) == 0
        tuned = ("initialization=pretrained", "initialization.path=base", "initialization.head=same", "epochs=1")
        for seed in (1, 2):
            assert main([*SMALL, *tuned, f"seed={seed}", f"output=tuned_{seed}"]) == 0
        assert main([*SMALL, "epochs=1", "architecture.widths=[6]", "output=other"]) == 0
    return root


@pytest.fixture
def place(world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for run in world.iterdir():
        if run.is_dir():
            shutil.copytree(run, tmp_path / run.name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("place")
def test_the_best_epochs_and_every_third_are_kept_as_checkpoints_of_their_epoch(train):
    values = [row["validation_accuracy"] for row in history_of("base")]
    best = sorted(range(5), key=lambda i: (-values[i], i))[:2]
    assert epochs_in("base") == [f"epoch_{i + 1:04d}" for i in sorted({*best, 2})]
    first = load("base", f"epoch_{best[0] + 1:04d}")
    assert same(first["model"], load("base", "best")["model"])
    assert first["row"]["epoch"] == best[0] + 1
    assert (
        train("job=evaluate", "checkpoint=base/checkpoints/epoch_0003.pt", "job.split=validation", "output=e")[0] == 0
    )
    assert result_of("e")["validation"]["accuracy"] == pytest.approx(values[2])


def test_a_run_that_is_resumed_keeps_the_same_checkpoints(train):
    keep = ("observer.checkpoint.keep_best=2", "observer.checkpoint.keep_every=2")
    assert train(*SMALL, *keep, "epochs=4", "output=whole")[0] == 0
    assert train(*SMALL, *keep, "epochs=2", "output=parts")[0] == 0
    Path("parts/checkpoints/epoch_0009.pt").write_bytes(b"left over from a later epoch")
    assert train("resume=parts", "epochs=4")[0] == 0
    # with another number of epochs the schedule is another one: the same epochs by their number, not the same weights
    assert {"epoch_0002", "epoch_0004"} <= set(epochs_in("parts"))
    assert "epoch_0009" not in epochs_in("parts")
    shutil.copytree("whole", "again")
    assert train("resume=again")[0] == 0
    assert epochs_in("again") == epochs_in("whole")


def test_without_the_keys_no_further_checkpoint_is_written(train):
    assert train(*SMALL, "epochs=2", "output=run")[0] == 0
    assert epochs_in("run") == []


def test_the_best_epochs_cannot_be_kept_without_validation_images(train):
    code, _, err = train(*SMALL, "data.validation=0", "observer.checkpoint.keep_best=2", "output=run")
    assert code == 2
    assert "observer.checkpoint.keep_best = 2: has no effect" in err


def test_the_mean_of_weights_is_torchs_and_counters_are_those_of_the_first():
    states = [
        {"w": torch.randn(3, 2, generator=torch.Generator().manual_seed(i)), "n": torch.tensor(i)} for i in range(3)
    ]
    mean = mean_of(states)
    assert torch.allclose(mean["w"], sum(s["w"] for s in states) / 3)
    assert mean["n"] == 0
    assert mean["w"].dtype == torch.float32


def test_ingredients_are_ranked_by_the_direction_of_the_metric():
    assert ranked([0.1, 0.3, float("nan"), 0.2], "accuracy") == [1, 3, 0, 2]
    assert ranked([0.1, 0.3, float("nan"), 0.2], "loss") == [0, 3, 1, 2]


@pytest.mark.usefixtures("place")
def test_a_uniform_soup_is_the_mean_of_the_weights_with_batch_norm_statistics_of_the_training_images(train):
    assert train("job=soup", "runs=[tuned_1,tuned_2]", "job.kind=uniform", *DATA, "output=s")[0] == 0
    soup, first, second = (load(run, "best")["model"] for run in ("s", "tuned_1", "tuned_2"))
    for name, value in soup.items():
        if "running" not in name and value.is_floating_point():
            assert torch.allclose(value, (first[name] + second[name]) / 2, atol=1e-7), name
    changed = [name for name in soup if "running_mean" in name]
    assert changed
    assert not any(torch.equal(soup[name], (first[name] + second[name]) / 2) for name in changed)
    assert train("job=evaluate", "checkpoint=s", "output=e")[0] == 0
    assert result_of("e")["test"]["accuracy"] == result_of("s")["test"]["accuracy"]
    names = [row["name"] for row in result_of("s")["ingredients"]]
    assert names == ["tuned_1", "tuned_2"]
    for row in result_of("s")["ingredients"]:
        assert row["accuracy"] == pytest.approx(result_of(row["name"])["test"]["accuracy"])


@pytest.mark.usefixtures("place")
def test_a_greedy_soup_is_on_validation_images_at_least_as_good_as_its_best_ingredient(train):
    code, out, err = train("job=soup", "job.ingredients=epochs", "runs=base", *DATA, "output=s")
    assert code == 0, err
    assert train("job=evaluate", "checkpoint=s", "job.split=validation", "output=e")[0] == 0
    best = max(load("base", name)["row"]["validation_accuracy"] for name in epochs_in("base"))
    assert result_of("e")["validation"]["accuracy"] >= best - 1e-9
    used = [row["used"] for row in result_of("s")["ingredients"]]
    assert any(used)
    assert f"{sum(used)} of {len(used)} networks" in out


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("runs=[tuned_1,other]",), "is another network than"),
        (("runs=tuned_1",), "names only one run"),
        (("runs=tuned_1", "job.ingredients=epochs"), "has 0 kept checkpoints"),
        ((), "runs: must be given"),
        (("runs=[tuned_1,tuned_2]", "data.validation=0"), "chooses on validation images"),
    ],
)
def test_what_cannot_be_averaged_is_refused_with_the_reason(train, overrides, message):
    code, _, err = train("job=soup", *DATA, *overrides, "output=s")
    assert code == 2
    assert message in err
    assert not Path("s").exists()
