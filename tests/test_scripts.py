"""The scripts that measure and draw: each runs on something small and says what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def script(name: str, *words: str, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "scripts" / name), *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_profile_step_tells_where_the_time_goes(tmp_path):
    words = ["--steps", "3", "data=fake", "data.size=8", "data.count=200", "architecture.widths=[4]", "averaging=ema"]
    out = script("profile_step.py", *words, cwd=tmp_path)
    for part in ("batch", "rates", "step", "averaging"):
        assert f"\n{part} " in out
    assert "convolution" in out
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"batch", "step"} <= names


def test_bench_optimizers_times_every_optimizer(tmp_path):
    out = script("bench_optimizers.py", "--rounds", "3", cwd=tmp_path)
    from trainer.config.options import CONF, options

    assert all(any(line.startswith(name) for line in out.splitlines()) for name in options([CONF])["optimizer"])


def test_bench_pooling_compares_two_orders_of_the_same_numbers(tmp_path):
    out = script("bench_pooling.py", "--rounds", "2", "--threads", "1", cwd=tmp_path)
    assert "customary" in out
    assert "gradients equal bit for bit: True" in out


@pytest.mark.slow
def test_bench_engine_compares_three_loops(tmp_path):
    out = script("bench_engine.py", "--rounds", "5", "--starts", "1", "--case", "cnn2", "--device", "cpu", cwd=tmp_path)
    rows = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
    assert set(rows) == {"engine", "plain", "best"}
    assert float(rows["best"][4]) == 1.0


@pytest.mark.slow
def test_contact_sheet_draws_a_row_for_each_way(tmp_path):
    out = script("contact_sheet.py", "sheet.png", "--only", "crop,elastic", cwd=tmp_path)
    assert "3 rows" in out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_regularization_table_compares_with_the_plain_run(tmp_path):
    out = script("regularization_table.py", "--seeds", "2", "--epochs", "0.5", "--only", "averaging=ema", cwd=tmp_path)
    lines = out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["cosine", "constant", "averaging=ema"]
    assert all("±" in line for line in lines[2:])


@pytest.mark.slow
def test_bench_engine_times_jpegs_in_processes_of_their_own(tmp_path):
    out = script(
        "bench_engine.py", "--rounds", "5", "--starts", "1", "--case", "linear", "--device", "cpu", cwd=tmp_path
    )
    assert out.startswith("linear, batch 128, 5 rounds")
    sys.path.insert(0, str(ROOT / "scripts"))
    import bench_engine

    found = bench_engine.own_process("best", "jpeg", "cpu")
    assert 0 < found["seconds"] < found["first_step"]


@pytest.mark.slow
def test_bench_peers_times_the_plain_loop_and_its_tuned_form_beside_this_program(tmp_path):
    words = ["--rounds", "1", "--steps", "14", "--case", "linear", "--peer", "plain"]
    out = script("bench_peers.py", *words, cwd=tmp_path)
    rows = {line.split("|")[1].strip(): line.split("|") for line in out.splitlines() if line.startswith("| ")}
    assert set(rows) == {"", "trainer", "plain"}
    assert float(rows["trainer"][3].split()[0]) == 1.0
    assert all(float(rows["plain"][i]) > 0 for i in (2, 4))


@pytest.mark.slow
def test_bench_gpu_says_what_it_could_not_measure_and_runs_on_the_cpu_on_request(tmp_path):
    out = script("bench_gpu.py", "--case", "linear", "--device", "cuda:9", cwd=tmp_path)
    import torch

    if not torch.cuda.is_available():
        assert out.count("not measured: no GPU here") == 11
    words = ["--case", "linear", "--device", "cpu", "--rounds", "1", "--steps", "4"]
    words += ["--manner", "as shipped", "best loop", "best loop, graph"]
    out = script("bench_gpu.py", *words, cwd=tmp_path)
    rows = {line.split("|")[1].strip(): line.split("|") for line in out.splitlines() if line.startswith("| ")}
    assert float(rows["best loop"][4]) == 1.0
    assert float(rows["as shipped"][2]) > 0
    assert "a CUDA graph needs a GPU" in rows["best loop, graph"][6]


def test_bench_decode_compares_decoders_that_agree_on_the_picture(tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "scripts"))
    import bench_decode
    import bench_engine

    monkeypatch.setattr(bench_engine, "JPEGS", 2)
    bench_engine.jpegs(tmp_path / "jpegs")
    out = script("bench_decode.py", "--rounds", "1", "--folder", "jpegs", cwd=tmp_path)
    assert {line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")} >= {"opencv", "pillow"}
    path = next((tmp_path / "jpegs").rglob("*.jpg"))
    expected = bench_decode.opencv(path, False).astype(float)
    for decoder in (bench_decode.pillow, bench_decode.area):
        found = decoder(path, False)
        assert found.shape == (224, 224, 3)
        assert abs(found - expected).mean() < 6


@pytest.mark.slow
def test_bench_watching_tells_the_ratio_and_the_share(tmp_path):
    words = ["--rounds", "1", "--epochs", "1", "data.count=300", "data.size=8", "architecture.depth=8", "batch_size=16"]
    out = script("bench_watching.py", *words, cwd=tmp_path)
    import re

    assert float(re.search(r"unwatched: ([\d.]+) ", out)[1]) > 0
    assert 0 < float(re.search(r"share: ([\d.]+) %", out)[1]) < 100
