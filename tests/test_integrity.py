"""Checkpoints that were damaged, lost or swapped are never trained on unnoticed, and those of earlier releases load."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUIET, STATEFUL, load, result_of, same, same_run

from trainer.errors import ConfigError
from trainer.files import atomic_path, write_text
from trainer.weight_files import DamagedFile, read_weight_file

OLD_RUNS = sorted((Path(__file__).parent / "old_runs").iterdir())
SMALL = (*STATEFUL, QUIET, "epochs=2")


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def flip_tensor_data(path: Path) -> None:
    """Change a bit in the largest tensor of a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        record = max((r for r in archive.infolist() if "/data/" in r.filename), key=lambda r: r.file_size)
    header = path.read_bytes()[record.header_offset :][:30]
    name, extra = struct.unpack("<HH", header[26:30])
    flip(path, record.header_offset + 30 + name + extra + record.file_size // 2)


@pytest.fixture
def interrupted(tmp_path, train, monkeypatch) -> Path:
    """A run that ended in its second epoch, with checkpoints of the first one and of its beginning."""
    import trainer.engine.loop as loop

    def step(run: Any, *batch: Any, real=loop.train_step) -> None:
        if run.clock.epoch == 1 and run.clock.batch == 1:
            raise KeyboardInterrupt
        real(run, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        assert train(*SMALL, "output=run")[0] == 130
    assert train(*SMALL, "output=whole")[0] == 0
    return tmp_path / "run"


def test_a_flipped_bit_anywhere_is_refused_or_harmless(tmp_path):
    path = tmp_path / "file.pt"
    content = {"a": torch.arange(6.0), "name": "value", "n": 3, "b": torch.ones(2, 2, dtype=torch.bfloat16)}
    torch.save(content, path)
    whole, refused = path.read_bytes(), 0
    positions = range(0, len(whole), 3)
    for position in positions:
        flip(path, position, position % 8)
        try:
            assert same(read_weight_file(path, "checkpoint"), content), position
        except ConfigError:
            refused += 1
        path.write_bytes(whole)
    assert refused > len(positions) / 2, "the rest is padding"


def test_a_checksum_that_does_not_match_names_the_file_and_the_tensor(tmp_path):
    path = tmp_path / "file.pt"
    torch.save(torch.zeros(10_000), path)
    flip_tensor_data(path)
    with pytest.raises(DamagedFile, match=r"file\.pt': is damaged: the checksum of file/data/0 does not match"):
        read_weight_file(path, "checkpoint")


def test_weights_that_were_saved_without_checksums_are_taken_as_they_are(tmp_path):
    try:
        torch.serialization.set_crc32_options(False)
        torch.save({"w": torch.ones(3)}, tmp_path / "no_crc.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    torch.save({"w": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("no_crc", "old"):
        assert same(read_weight_file(tmp_path / f"{name}.pt", "checkpoint"), {"w": torch.ones(3)})


@pytest.mark.parametrize(
    "damage",
    [
        flip_tensor_data,
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.unlink(),
    ],
    ids=["flipped bit", "cut short", "zeros", "missing"],
)
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_it_and_says_so(damage, interrupted, train):
    damage(interrupted / "checkpoints" / "last.pt")
    code, out, _ = train("resume=run", "observer=[checkpoint,history_file,console]")
    assert code == 0
    assert "resuming from the checkpoint before it, previous.pt" in out
    assert same_run("whole", "run")


def test_without_the_checkpoint_before_it_a_damaged_one_is_refused(interrupted, train):
    flip_tensor_data(interrupted / "checkpoints" / "last.pt")
    (interrupted / "checkpoints" / "previous.pt").unlink()
    code, _, err = train("resume=run")
    assert code == 2
    assert "last.pt': is damaged: the checksum of" in err


def test_two_damaged_checkpoints_are_refused(interrupted, train):
    for name in ("last", "previous"):
        flip_tensor_data(interrupted / "checkpoints" / f"{name}.pt")
    code, _, err = train("resume=run")
    assert code == 2
    assert "previous.pt': is damaged" in err


@pytest.mark.parametrize("left", [["best.pt"], []])
def test_a_run_that_has_lost_its_last_checkpoint_does_not_restart_from_scratch(left, interrupted, train):
    for file in (interrupted / "checkpoints").iterdir():
        if file.name not in left:
            file.unlink()
    (interrupted / "result.json").unlink()
    before = {p.name: p.read_bytes() for p in interrupted.rglob("*") if p.is_file()}
    code, _, err = train("resume=run")
    assert code == 2
    assert "checkpoints/last.pt is missing: there is nothing to resume from" in err
    assert {p.name: p.read_bytes() for p in interrupted.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("end", ["interrupted", "complete"])
def test_a_missing_best_checkpoint_is_written_again(end, interrupted, train):
    run = interrupted if end == "interrupted" else interrupted.with_name("whole")
    before = load(run, "best")
    (run / "checkpoints" / "best.pt").unlink()
    code, _, err = train(f"resume={run}")
    assert code == 0
    assert (run / "checkpoints" / "best.pt").is_file()
    if end == "complete":
        assert "best.pt was missing, and has been written again from last.pt" in err
        assert same(load(run, "best") | {"info": None}, before | {"info": None})


def test_the_checkpoint_of_another_run_is_refused(interrupted, train):
    assert train(*SMALL, "seed=9", "optimizer.lr=0.01", "output=other")[0] == 0
    shutil.copy("other/checkpoints/last.pt", "run/checkpoints/last.pt")
    code, _, err = train("resume=run")
    assert code == 2
    assert "last.pt is that of another run" in err


def test_all_checkpoints_of_a_run_hold_its_id(interrupted):
    ids = {load(run, name)["run"] for run in ("run", "whole") for name in ("last", "best", "previous")}
    assert len(ids) == 2
    assert all(len(run_id) == 32 for run_id in ids)


def test_a_lost_environment_file_does_not_hinder_resuming(interrupted, train):
    (interrupted / "environment.json").write_text("[")
    assert train("resume=run")[0] == 0
    assert same_run("whole", "run")
    assert load("run")["run"] != load("whole")["run"]


def test_a_damaged_best_checkpoint_is_refused_by_the_jobs_that_read_it(interrupted, train):
    flip_tensor_data(interrupted / "checkpoints" / "best.pt")
    code, _, err = train("job=evaluate", "checkpoint=run")
    assert code == 2
    assert "best.pt': is damaged: the checksum of" in err


def test_a_checkpoint_of_a_later_format_is_refused(interrupted, train):
    content = load(interrupted) | {"format": 2}
    torch.save(content, interrupted / "checkpoints" / "last.pt")
    code, _, err = train("resume=run")
    assert code == 2
    assert "has format 2, of a later version of the program; this one reads formats up to 1" in err


@pytest.mark.parametrize("run", OLD_RUNS, ids=lambda run: run.name)
def test_runs_of_earlier_releases_are_evaluated_and_resumed(run, tmp_path, train):
    shutil.copytree(run, tmp_path / "run")
    assert train("job=evaluate", "checkpoint=run", "output=evaluated")[0] == 0
    assert result_of("evaluated")["test"]["loss"] == pytest.approx(result_of(run)["test"]["loss"], rel=0.05)
    assert train("resume=run")[0] == 0
    assert not (tmp_path / "run" / "checkpoints" / "previous.pt").exists(), "it was complete"
    assert train("resume=run", "epochs=3")[0] == 0
    assert result_of("run")["last_epoch"] == 3
    assert load("run")["state"]["history"][:2] == load(run)["state"]["history"]


def test_the_file_before_is_kept_where_there_are_no_hard_links(tmp_path, monkeypatch):
    from trainer import files

    def no_links(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    path, previous = tmp_path / "last", tmp_path / "previous"
    write_text(path, "1")
    for text in ("2", "3"):
        with atomic_path(path, previous) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), previous.read_text()) == ("3", "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "previous"]


def test_the_file_before_survives_a_rename_that_fails(tmp_path, monkeypatch):
    from trainer import files

    path, previous = tmp_path / "last", tmp_path / "previous"

    def write(text: str) -> None:
        with atomic_path(path, previous) as temporary:
            temporary.write_text(text)

    def replace(source: Path, target: Path, real=files.os.replace) -> None:
        if target == path:
            raise OSError(5, "Input/output error")
        real(source, target)

    write("1")
    write("2")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace)
        with pytest.raises(OSError, match="last cannot be written: Input/output error"):
            write("3")
    assert path.read_text() == "2"
    write("4")
    assert (path.read_text(), previous.read_text()) == ("4", "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "previous"]


OTHER_FORMS = {
    "info.shape": [3, 2**40, 2**40], "info.classes": 3, "info.mean": "x", "info.std": None, "info.config": [],
    "info.targets": [3],
    "info.config.seed": torch.zeros(1), "info.config.optimizer": {"_target_": torch.zeros(1)},
    "info.data.train": {"a": 1},
    "info.data": [], "info": [], "state": [], "state.model": 3, "state.averaged": [], "state.clock": {"phase": "x"},
    "state.clock.epoch": -1, "state.history": [{"epoch": "x"}], "state.best": 7, "state.best.row": 99, "state.random": {},
    "state.optimizer": [], "state.sums": 3, "members": [3],
}  # fmt: skip


@pytest.mark.parametrize("key", OTHER_FORMS)
def test_a_checkpoint_of_another_form_is_refused_by_name(key, interrupted, train):
    """The checksums are right: somebody has written it like this."""
    path = Path("run/checkpoints/last.pt")
    content = torch.load(path, weights_only=True)
    *places, name = key.removesuffix(".").split(".")
    table = content
    for place in places:
        table = table[place]
    table[name] = OTHER_FORMS[key]
    torch.save(content, path)
    Path("run/checkpoints/previous.pt").unlink(missing_ok=True)
    for words in (["resume=run"], ["job=evaluate", "checkpoint=run/checkpoints/last.pt", "output=scores"]):
        of_the_run_alone = key.startswith("state.") and name in (
            "clock",
            "epoch",
            "history",
            "best",
            "row",
            "random",
            "optimizer",
            "sums",
        )
        code, _, err = train(*words)
        assert code == (0 if of_the_run_alone and words[0] != "resume=run" else 2), err
        assert "Traceback" not in err
