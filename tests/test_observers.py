"""What observers write: TensorBoard's events as they are read back, the console's lines, the report."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from conftest import STATEFUL, history_of, load, result_of, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all observers, whose output was no terminal."""
    folder = tmp_path_factory.mktemp("run")
    process = start(*STATEFUL, "output=run", "observer.tensorboard.every=1", cwd=folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    (folder / "run" / "out.txt").write_text(out)
    return folder / "run"


def test_train_validation_and_averaged_curves_share_their_tags(run):
    rows = history_of(run)
    for part, column in (("train", "train"), ("validation", "validation"), ("averaged", "averaged")):
        found = scalars(run / part)
        for name in ("loss", "accuracy"):
            assert [step for step, _ in found[name]] == [row["step"] for row in rows]
            assert [v for _, v in found[name]] == pytest.approx([row[f"{column}_{name}"] for row in rows], rel=1e-6)


def test_the_rate_of_every_step_is_written(run):
    found = scalars(run / "train")
    steps = history_of(run)[-1]["step"]
    assert [step for step, _ in found["batch/lr"]] == list(range(1, steps + 1))
    from trainer.schedules import Cosine, Product, Warmup

    schedule = Product((Warmup(), Cosine(total=3)))
    expected = [0.05 * schedule(i / (steps / 3)) for i in range(steps)]
    assert [rate for _, rate in found["batch/lr"]] == pytest.approx(expected, rel=1e-5)


def test_the_config_is_a_text_and_the_run_a_line_of_the_hparams_tab(run):
    events = EventAccumulator(str(run / "train"))
    events.Reload()
    assert "config/text_summary" in events.Tags()["tensors"]
    assert b"warmup" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert "_hparams_/session_start_info" in str(events.summary_metadata.keys())
    found, result = scalars(run / "train"), result_of(run)
    assert found["test/accuracy"][-1][1] == pytest.approx(result["test"]["accuracy"], rel=1e-6)


def test_events_after_a_checkpoint_are_not_doubled_on_resume(run, train, tmp_path):
    folder = tmp_path / "run"
    small = [*STATEFUL, f"output={folder}", "epochs=2", "observer=[tensorboard,checkpoint,jsonl]"]
    assert train(*small)[0] == 0
    assert train(f"resume={folder}", "epochs=3")[0] == 0
    # Both files are of the same second here, so that their order is that of their names, not of time.
    steps = sorted(step for step, _ in scalars(folder / "train")["loss"])
    assert steps == [row["step"] for row in history_of(folder)]


def test_lines_are_plain_where_the_output_is_no_terminal(run):
    text = (run / "out.txt").read_text()
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if re.match(r"\s+\d\s", line)]
    assert len(lines) == 3
    for row, line in zip(history_of(run), lines, strict=True):
        assert f"{row['train_loss']:.4f}" in line
        assert f"{100 * row['validation_accuracy']:.2f} %" in line


def test_a_terminal_sees_bars_loss_accuracy_rate_speed_and_time_left(tmp_path):
    master, slave = pty.openpty()
    words = [*STATEFUL, "data.count=3000", "output=run", "epochs=2", "observer=[console]"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *words], cwd=tmp_path, env=environment, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"epoch 2 .*loss \d\.\d{4}  acc 0\.\d{4}  rate \d\.\d\de-\d\d  [\d,]+ images/s", text)
    assert re.search(r"step \d+\s+\d+:\d\d", text)


def test_the_report_tells_the_result_and_shows_the_curves(run):
    text, result = (run / "report.md").read_text(), result_of(run)
    assert f"{result['test']['accuracy']:.4g}" in text
    for picture in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    assert "resume" not in text.splitlines()[0]


def test_files_of_a_run_are_strict_json(run):
    def refuse(word: str) -> None:
        raise AssertionError(word)

    for name in ("result.json", "environment.json"):
        json.loads((run / name).read_text(), parse_constant=refuse)
    for line in (run / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_the_best_checkpoint_holds_the_weights_of_the_best_epoch(run):
    best, rows = load(run, "best"), history_of(run)
    accuracies = [row["validation_accuracy"] for row in rows]
    assert best["row"]["validation_accuracy"] == max(accuracies)
    assert best["row"]["epoch"] == rows[accuracies.index(max(accuracies))]["epoch"] == result_of(run)["best_epoch"]


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_shows_train_and_validation_on_one_chart_and_the_hparams(run, tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from screenshot import chromium, picture, tensorboard
    finally:
        sys.path.pop(0)
    if chromium() is None:
        pytest.skip("no chromium here")
    with tensorboard(run) as address:
        words = ("train", "validation", "averaged", "accuracy", "loss")
        picture(address, "timeseries", tmp_path / "a.png", wait=2, words=words)
        picture(address, "hparams", tmp_path / "b.png", wait=1, words=("architecture.widths", "test/accuracy"))
    assert all(cv2.imread(str(tmp_path / name)).std() > 10 for name in ("a.png", "b.png"))


def test_the_end_says_what_the_observers_took(train, tmp_path):
    """An observer that sleeps: its time is counted, and is no part of the pictures' time alone."""
    (tmp_path / "mine" / "observer").mkdir(parents=True)
    (tmp_path / "mine" / "slow_watcher.py").write_text(
        "import time\nfrom dataclasses import dataclass\nfrom trainer.observers import Watcher\n\n"
        "@dataclass\nclass Slow(Watcher):\n    def on_epoch_end(self, run, row):\n        time.sleep(0.25)\n"
    )
    (tmp_path / "mine" / "observer" / "slow.yaml").write_text("# Sleeps.\nslow:\n  _target_: slow_watcher.Slow\n")
    words = ("data=digits", "epochs=2", "observer=[console,slow]", "output=run")
    code, out, err = train("--config-dir", str(tmp_path / "mine"), *words)
    assert code == 0, err
    result = result_of(tmp_path / "run")
    assert 0.5 <= result["watching_seconds"] < 0.6 + result["seconds"]
    assert f"observers took {result['watching_seconds']:.1f} s, {100 * result['watching_share']:.1f} %" in out
