"""The scripts that measure and draw: each runs on a small case and reports what it should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def _scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])


def run_script(name: str, *arguments: str, cwd: Path) -> str:
    """Run a script and return what it prints."""
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert process.returncode == 0, f"{process.stdout}\n{process.stderr}"
    return process.stdout


def table_rows(markdown: str) -> dict[str, list[str]]:
    """The rows of a Markdown table by their first cell."""
    rows = [line.split("|") for line in markdown.splitlines() if line.startswith("| ")]
    return {cells[1].strip(): cells for cells in rows}


def test_every_script_starts_with_a_docstring_or_a_shebang():
    for path in (ROOT / "scripts").iterdir():
        if path.is_file():
            assert path.read_text().startswith(('"""', "#!")), path.name


@pytest.mark.slow
def test_profile_step_reports_the_time_of_each_part_of_a_step(tmp_path):
    overrides = ["data=fake", "data.size=8", "data.count=200", "architecture.widths=[4]", "averaging=ema"]
    out = run_script("profile_step.py", "--steps", "3", *overrides, cwd=tmp_path)
    for part in ("batch", "lr", "step", "averaging"):
        assert f"\n{part} " in out
    assert "convolution" in out
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"batch", "step"} <= names


@pytest.mark.slow
def test_bench_optimizers_times_every_optimizer(tmp_path):
    out = run_script("bench_optimizers.py", "--rounds", "3", cwd=tmp_path)
    from trainer.config.options import OptionFiles

    assert all(any(line.startswith(name) for line in out.splitlines()) for name in OptionFiles().groups["optimizer"])


@pytest.mark.slow
def test_bench_pooling_compares_two_orders_with_the_same_numbers(tmp_path):
    out = run_script("bench_pooling.py", "--rounds", "2", "--threads", "1", cwd=tmp_path)
    assert "activation first" in out
    assert "gradients equal bit for bit: True" in out


@pytest.mark.slow
def test_bench_augmentation_times_both_implementations(tmp_path):
    out = run_script("bench_augmentation.py", "--rounds", "1", cwd=tmp_path)
    for implementation in ("per batch", "per image", "channels-last"):
        assert re.search(rf"^crop \+ flip +{implementation} ", out, re.MULTILINE)


@pytest.mark.slow
def test_bench_engine_compares_three_loops(tmp_path):
    arguments = ["--rounds", "5", "--starts", "1", "--case", "cnn2", "--device", "cpu"]
    out = run_script("bench_engine.py", *arguments, cwd=tmp_path)
    rows = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
    assert set(rows) == {"engine", "plain", "best"}
    assert float(rows["best"][4]) == 1.0


@pytest.mark.slow
def test_contact_sheet_draws_a_row_for_each_implementation(tmp_path):
    out = run_script("contact_sheet.py", "sheet.png", "--only", "crop,elastic", cwd=tmp_path)
    assert "3 rows" in out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_regularization_table_compares_with_the_baseline(tmp_path):
    arguments = ["--seeds", "2", "--epochs", "0.5", "--only", "averaging=ema"]
    out = run_script("regularization_table.py", *arguments, cwd=tmp_path)
    lines = out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["cosine", "constant", "averaging=ema"]
    assert all("±" in line for line in lines[2:])


@pytest.mark.slow
def test_the_ensemble_table_reports_the_gain_of_each_repetition(tmp_path):
    arguments = ["--repetitions", "2", "--models", "2", "--epochs", "0.5", "--", "batch_size=32"]
    out = run_script("ensemble_table.py", *arguments, cwd=tmp_path)
    assert {"0", "1"} <= table_rows(out).keys()
    assert "better than the mean member in" in out


@pytest.mark.slow
@pytest.mark.usefixtures("_scripts_on_path")
def test_bench_engine_times_jpegs_in_processes_of_their_own(tmp_path):
    arguments = ["--rounds", "5", "--starts", "1", "--case", "linear", "--device", "cpu"]
    assert run_script("bench_engine.py", *arguments, cwd=tmp_path).startswith("linear, batch 128, 5 rounds")
    import bench_engine

    measured = bench_engine.measure_process("best", "jpeg", "cpu")
    assert 0 < measured["seconds"] < measured["first_step"]


@pytest.mark.slow
def test_bench_peers_times_the_plain_loop_as_shipped_and_tuned(tmp_path):
    arguments = ["--rounds", "1", "--steps", "14", "--case", "linear", "--peer", "plain"]
    rows = table_rows(run_script("bench_peers.py", *arguments, cwd=tmp_path))
    assert set(rows) == {"", "trainer", "plain"}
    assert float(rows["trainer"][3].split()[0]) == 1.0
    assert all(float(rows["plain"][i]) > 0 for i in (2, 4))


@pytest.mark.usefixtures("_scripts_on_path")
def test_bench_gpu_without_a_gpu_reports_every_configuration_as_not_measured(monkeypatch, capsys):
    import bench_gpu
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--case", "linear", "fast"])
    bench_gpu.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if "not measured: no GPU" in line]
    assert [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in rows] == [
        (case, configuration) for case in ("linear", "fast") for configuration in bench_gpu.CONFIGURATIONS
    ]


@pytest.mark.slow
def test_bench_gpu_runs_on_the_cpu_on_request(tmp_path):
    arguments = ["--case", "linear", "--device", "cpu", "--rounds", "1", "--steps", "4"]
    arguments += ["--configuration", "as shipped", "best loop", "best loop, graph"]
    rows = table_rows(run_script("bench_gpu.py", *arguments, cwd=tmp_path))
    assert float(rows["best loop"][4]) == 1.0
    assert float(rows["as shipped"][2]) > 0
    assert "a CUDA graph needs a GPU" in rows["best loop, graph"][6]


@pytest.mark.slow
@pytest.mark.usefixtures("_scripts_on_path")
def test_bench_decode_compares_decoders_that_agree_on_the_image(tmp_path, monkeypatch):
    import bench_decode
    import bench_engine

    monkeypatch.setattr(bench_engine, "JPEGS", 2)
    bench_engine.write_jpegs(tmp_path / "jpegs")
    out = run_script("bench_decode.py", "--rounds", "1", "--folder", "jpegs", cwd=tmp_path)
    assert table_rows(out).keys() >= {"opencv", "pillow"}
    path = next((tmp_path / "jpegs").rglob("*.jpg"))
    expected = bench_decode.opencv(path, False).astype(float)
    for decoder in (bench_decode.pillow, bench_decode.area):
        image = decoder(path, False)
        assert image.shape == (224, 224, 3)
        assert abs(image - expected).mean() < 6


@pytest.mark.slow
def test_bench_observers_reports_the_ratio_and_the_fraction_of_time(tmp_path):
    overrides = ["data.count=300", "data.size=8", "architecture.depth=8", "batch_size=16"]
    out = run_script("bench_observers.py", "--rounds", "1", "--epochs", "1", *overrides, cwd=tmp_path)
    ratio = re.search(r"without observers: ([\d.]+) ", out)
    fraction = re.search(r"time in observers: ([\d.]+) %", out)
    assert ratio
    assert fraction
    assert float(ratio[1]) > 0
    assert 0 < float(fraction[1]) < 100


def walked(names: list[str]) -> set[tuple[str, str]]:
    """The oracle: each package that is required, with each one that it requires, found by recursion over pyproject.toml."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    edges: set[tuple[str, str]] = set()

    def walk(name: str, extra: str) -> None:
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            other = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            new = {(name, other), *((other, f"[{each}]") for each in requirement.extras)} - edges
            edges.update(new)
            for pair in new:
                walk(other, pair[1].strip("[]") if pair[1].startswith("[") else "")

    for text in names:
        requirement = Requirement(text)
        edges.add(("trainer", canonicalize_name(requirement.name)))
        for extra in ("", *requirement.extras):
            walk(canonicalize_name(requirement.name), extra)
    return {(a, b) for a, b in edges if not b.startswith("[") and a != b}


@pytest.mark.usefixtures("_scripts_on_path")
def test_the_bill_of_materials_is_complete_and_names_a_license_of_each_package(tmp_path):
    run_script("bill_of_materials.py", "--output", "bom.json", cwd=tmp_path)
    bom = json.loads((tmp_path / "bom.json").read_text())
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {entry["purl"]: entry["name"] for entry in [bom["metadata"]["component"], *bom["components"]]}
    edges = {(names[entry["ref"]], names[ref]) for entry in bom["dependencies"] for ref in entry["dependsOn"]}
    assert edges == walked(declared)
    assert {entry["name"] for entry in bom["components"]} == {b for _, b in edges}
    for entry in bom["components"]:
        assert entry["version"] == metadata.version(entry["name"])
        (stated,) = entry["licenses"]
        assert stated.get("expression") or stated["license"]["name"]


@pytest.mark.usefixtures("_scripts_on_path")
def test_a_bill_of_materials_that_would_not_be_complete_is_not_written(monkeypatch, capsys):
    import bill_of_materials

    declared = {"dependencies": ["numpy", "no-such-package-here>=1"], "optional-dependencies": {}}
    monkeypatch.setattr(bill_of_materials, "project", lambda: declared)
    monkeypatch.setattr(sys, "argv", ["bill_of_materials.py"])
    assert bill_of_materials.main() == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "no-such-package-here is required, and not installed\n")


@pytest.mark.usefixtures("_scripts_on_path")
def test_an_audit_without_data_does_not_pass_for_one_that_has_found_nothing(monkeypatch, capsys):
    import audit

    monkeypatch.setattr(sys, "argv", ["audit.py"])
    monkeypatch.setattr(audit, "pip_audit", lambda *_: "pip-audit cannot be installed: no network")
    assert audit.main() == 0
    assert capsys.readouterr().out == "dependencies not audited: pip-audit cannot be installed: no network\n"
    vulnerable = {"name": "b", "version": "1", "vulns": [{"id": "A-1", "aliases": ["CVE-1"], "fix_versions": []}]}
    monkeypatch.setattr(
        audit, "pip_audit", lambda *_: {"dependencies": [{"name": "a", "skip_reason": "x"}, vulnerable]}
    )
    assert audit.main() == 1
    assert "1 of 2 packages audited, 1 known vulnerability, 1 could not be looked up: a" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["audit.py", "--ignore", "CVE-1"])
    assert audit.main() == 0


@pytest.mark.slow
def test_the_diagnosis_benchmark_judges_a_run_with_its_control_and_continues_where_it_was(tmp_path):
    arguments = ["--output", "runs", "--seeds", "1", "--only", "digits-mlp-momentum__lr-too-low", "--list"]
    out = run_script("diagnosis_benchmark.py", *arguments, "--workers", "2", cwd=tmp_path)
    assert out.startswith("1 of 2: digits, mlp, momentum: lr too low, seed 0")
    assert "| lr too low | update | 1 of 1 | 1 of 1 | 1 of 1 | learning rate too low 1 |" in out
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(files) == 2
    (tmp_path / "page.md").write_text("old tables\n## Runs that its authors had not seen\nwritten by hand\n")
    run_script("diagnosis_benchmark.py", *arguments, "--cached", "--markdown", "page.md", cwd=tmp_path)
    assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    page = (tmp_path / "page.md").read_text()
    assert "| update | 1.00 (0.21-1.00), 1 of 1 |" in page
    assert "old tables" not in page
    assert page.endswith("\n## Runs that its authors had not seen\nwritten by hand\n")


@pytest.mark.slow
def test_the_diagnosis_benchmark_follows_its_advice_and_keeps_what_the_page_says_of_the_findings(tmp_path):
    arguments = [
        "--advice",
        "--output",
        "runs",
        "--seeds",
        "2",
        "--only",
        "digits-mlp-momentum__lr-far-too-high",
        "--list",
    ]
    out = run_script("diagnosis_benchmark.py", *arguments, cwd=tmp_path)
    assert "| advice | 1.00 (0.21-1.00), 1 of 1 |" in out
    measured = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.gz")}
    (tmp_path / "page.md").write_text("# Findings\n")
    for _ in range(2):
        run_script("diagnosis_benchmark.py", *arguments, "--minutes", "0", "--markdown", "page.md", cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.gz")} == measured
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Findings\n")
    assert page.count("## Advice that is followed") == 1
    assert "| lr far too high | `optimizer.lr=" in page


@pytest.mark.slow
def test_a_tenth_of_the_benchmark_over_all_settings_and_conditions_is_diagnosed_rightly(tmp_path):
    out = run_script("diagnosis_benchmark.py", "--output", "runs", "--seeds", "1", "--part", "1/10", cwd=tmp_path)
    for half in out.split("## Settings: ")[1:]:
        recall, first, precision = (float(cell.split()[0]) for cell in table_rows(half)["all"][2:5])
        assert recall >= 0.85
        assert first >= 0.85
        assert precision >= 0.85
        healthy = half.partition("Healthy runs with a false alarm: ")[2].split()
        assert float(healthy[0]) <= 0.1


@pytest.mark.usefixtures("_scripts_on_path")
def test_a_suggestion_replaces_the_parameters_of_the_option_that_it_replaces():
    from diagnosis.advice import is_override, significant
    from diagnosis.measure import Case, typed
    from diagnosis.settings import SETTINGS

    case = Case(SETTINGS[0], "case", 0, ("schedule=clr", "schedule.clr.step_size=5"))
    assert "architecture.widths=[64, 64]" in typed(case)
    words = typed(replace(case, extra=("architecture=resnet20", "schedule=[cosine]")))
    assert not any(word.startswith(("architecture.", "schedule.clr")) for word in words)
    assert words[-2:] == ["architecture=resnet20", "schedule=[cosine]"]
    assert "schedule.clr.step_size=5" in typed(replace(case, extra=("schedule=[warmup,clr]",)))
    resnet = next(setting for setting in SETTINGS if "architecture.depth=8" in setting.overrides)
    assert "architecture.depth=8" not in typed(Case(resnet, "case", 0, resnet.deep)), (
        "a condition may change the network"
    )
    assert "optimizer.lr=0.05" in typed(replace(case, extra=("optimizer.clip_norm=1",)))
    assert is_override("optimizer.lr=0.1")
    assert not any(is_override(text) for text in ("-m seed=0,1", "job=doctor", "correct the labels"))
    assert significant([0.1, 0.12, 0.11])
    assert not significant([0.3, -0.2, 0.1])


@pytest.mark.slow
def test_nothing_is_lost_where_runs_are_broken_on_purpose(tmp_path):
    counts = {"kill": 4, "signal": 4, "disk": 4, "damage": 4, "sweep": 1, "ddp": 1, "fuzz": 200, "hostile": 10}
    words = [word for name, count in counts.items() for word in (f"--{name}", str(count))]
    # In two parts, of which the second continues the first.
    run_script("torture.py", *words[:8], "--only", *list(counts)[:4], "--output", "counts.json", cwd=tmp_path)
    rows = table_rows(run_script("torture.py", *words, "--output", "counts.json", cwd=tmp_path))
    tried = Counter[str]()
    for name, cells in rows.items():
        tried[name.partition(":")[0]] += int(cells[2].replace(",", "")) if name.partition(":")[0] in counts else 0
    assert {name: tried[name] for name in counts} == counts
    assert rows["**sum**"][4] == " 0 "


@pytest.mark.slow
def test_the_table_of_filters_shows_that_those_of_a_healthy_run_look_like_noise(tmp_path):
    rows = table_rows(run_script("filters_table.py", "--seeds", "1", cwd=tmp_path))
    accuracy, rough = (float(cell) for cell in rows["healthy"][2:4])
    assert accuracy > 0.9
    assert rough > 0.8
    assert float(rows["weight decay 0.05"][3]) < 0.8


@pytest.mark.usefixtures("_scripts_on_path")
def test_the_search_random_search_and_tpe_of_the_table_draw_from_the_same_space():
    import argparse

    import optuna
    import search_table

    from trainer.search.sample import suggested

    space, trials = search_table.read(argparse.Namespace(data="mnist5k"), repetition=3)
    assert {d.key for d in space} >= {"optimizer.lr", "batch_size", "schedule", "regularizer", "augmentation"}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        point = suggested(study.ask(), space)
        assert space.contains(point)
        tree = trials.configs.tree(space.settings(point), 1, 3)
        assert (tree["batch_size"], tree["data"]["split_seed"]) == (point["batch_size"], 3)
        assert [*tree["regularizer"]] == point["regularizer"]


def test_the_parts_of_the_search_table_belong_to_one_table():
    for settings_file in (ROOT / "scripts" / "search_table").glob("*/settings.json"):
        settings = json.loads(settings_file.read_text())
        for file in settings_file.parent.glob("*-*.json"):
            part = json.loads(file.read_text())
            assert len(part["tests"]) == settings["seeds"]
            assert part["test"] == pytest.approx(sum(part["tests"]) / settings["seeds"])
            assert settings["core_seconds"] <= 1.01 * part["budget"] * settings["workers"]
