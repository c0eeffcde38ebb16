"""README and docs: every command in them runs exactly as written, and their texts are what the program prints.

The work is shrunk by the environment variable TRAINER_OVERRIDES, whose overrides yield to those of a command.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import QUIET, result_of
from faces import accept, write_faces
from torchvision.models import squeezenet1_0

from trainer.cli import main
from trainer.files import write_text
from trainer.skeletons import SKELETONS, skeleton

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUN = "outputs/2026-11-24/02-58-41"
SMALL = (
    "data.limit=64 data.validation=16 data.test=16 data.size=48 batch_size=16 epochs=1 "
    "recipe.head_epochs=0.5 recipe.stage_epochs=0.25 "
    f"job.epochs=[0.5,1] job.trials=[4,3] job.finalists=1 job.seeds=2 job.sizes=3 job.sets=2 {QUIET}"
)
# Commands that need what a test machine lacks: a download, or a GPU. The error says what is missing.
DOWNLOADED = ("cifar10", "cifar100", "fashion_mnist", "flowers102", "imagenet", "mnist", "oxford_pets", "stl10", "svhn")
UNAVAILABLE = {
    "engine=gpu": "GPU",
    "experiment=finetune": "cannot be downloaded",
    "experiment=cifar10_fast": "data",
    "experiment=cifar10_resnet20": "data",
    **{f"data={name}": "data" for name in DOWNLOADED},
}


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks, as written."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


PAGES = sorted((ROOT / "docs").glob("*.md"))
TRAIN = [line for line in commands(ROOT / "README.md") if line.startswith("train ")]
IN_DOCS = [f"{page.stem}: {line}" for page in PAGES for line in commands(page)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands refer to: runs, a sweep, a folder of flowers, weights, and an own option and experiment."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for kind in ("rose", "tulip"):
        (root / "flowers" / kind).mkdir(parents=True)
        for i in range(40):
            cv2.imwrite(str(root / "flowers" / kind / f"{i}.png"), rng.integers(0, 256, (20, 24, 3), np.uint8))
    files = sorted((root / "flowers").glob("*/*.png"))
    rows = [f"{file.relative_to(root)},{file.parent.name}" for file in files]
    (root / "flowers.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    arrays = {"x_train": rng.integers(0, 256, (80, 12, 12), np.uint8), "y_train": np.arange(80) % 2}
    arrays |= {"x_test": arrays["x_train"][:20], "y_test": arrays["y_train"][:20]}
    np.savez(root / "flowers.npz", **arrays)
    several = {"species": np.arange(80) % 3, "weight": rng.normal(20, 4, 80)}
    several["species"][::9], several["weight"][::7] = -1, np.nan
    targets = {f"y_{k}_{split}": v[:n] for k, v in several.items() for split, n in (("train", 80), ("test", 20))}
    np.savez(root / "birds.npz", x_train=arrays["x_train"], x_test=arrays["x_test"], **targets)
    write_birds(root / "birds.csv", [str(file.relative_to(root)) for file in files])
    write_faces(root / "data", 80)
    torch.save(squeezenet1_0().state_dict(), root / "squeezenet1_0.pth")
    (root / "mine/experiment").mkdir(parents=True)
    for group, (name, *_) in SKELETONS.items():
        code, option = skeleton(group, name)
        write_text(root / f"mine/{name}.py", code)
        write_text(root / f"mine/{group}/{name}.yaml", option)
    page = (ROOT / "docs/own_components.md").read_text()
    for name in ("margins.py", "task/margins.yaml"):
        shown = re.search(f"`mine/{name}`:\n\n```\\w+\n(.*?)```", page, re.DOTALL)
        assert shown
        (root / "mine" / name).parent.mkdir(exist_ok=True)
        write_text(root / "mine" / name, shown[1])
    experiment = re.search(
        r"```yaml\n(# @package _global_\n.*?)```", (ROOT / "docs/experiment.md").read_text(), re.DOTALL
    )
    assert experiment
    (root / "mine/experiment/ours.yaml").write_text(experiment[1])
    for arguments in (
        [f"output={RUN}", "epochs=2", "observer.checkpoint.keep_best=2"],
        ["-m", "seed=0,1", "output=outputs/2026-11-24/03-12-07_sweep"],
        ["data=folder", "data.root=flowers", "output=my_run"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRAINER_OVERRIDES", SMALL)
            patch.chdir(root)
            assert main(arguments) == 0
    return root


def write_birds(path: Path, images: list[str]) -> None:
    """Write the table of docs/data.md with more rows and columns; every column of labels has missing cells."""
    shown = re.search(r"```text\n(path,.*?)\n", (ROOT / "docs/data.md").read_text())
    assert shown
    lines = [f"{shown[1]},beak_x,beak_y"]
    for i, image in enumerate(images):
        cells = (("robin", "wren", "")[i % 3], "" if i % 5 == 2 else 9 + i / 7, ("adult;ringed", "adult", "")[i % 3])
        lines.append(",".join(map(str, (image, *cells, ("garden", "wood")[i % 2], i, "" if i == 4 else 80 - i))))
    path.write_text("\n".join(lines) + "\n")


def in_process_of_its_own(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRAINER_OVERRIDES": SMALL, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def execute(line: str, train, directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """A command as typed in ``directory``: exit code, output and errors."""
    words = shlex.split(line, comments=True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TRAINER_OVERRIDES", SMALL)
    monkeypatch.chdir(directory)
    if words[0] == "train":
        return train(*words[1:])
    assert words[0] == "torchrun", line
    done = in_process_of_its_own("-m", "torch.distributed.run", *words[1:], cwd=directory)
    return done.returncode, done.stdout, done.stderr


def fits(line: str, code: int, err: str) -> bool:
    """Whether a command ended as it should on a machine without a GPU and without a network."""
    missing = next((text for words, text in UNAVAILABLE.items() if words in shlex.split(line, comments=True)), None)
    if missing is None:
        return code in ((0, 1) if "job=doctor" in line else (0,))
    return "Traceback" not in err and (code == 0 or (code == 2 and missing in err))


@pytest.mark.parametrize("line", TRAIN)
def test_a_command_of_the_readme_runs_as_written(line, train, world, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in world.rglob("result.json")}
    code, out, err = execute(line, train, world, monkeypatch)
    assert fits(line, code, err), err
    if "job=plan" in line or "job=compare" in line:
        assert ("parameters" if "job=plan" in line else "compare.md") in out
        return
    written = [file for file in world.rglob("result.json") if before.get(file) != file.stat().st_mtime_ns]
    several = {"-m": 6, "job=ensemble": 4, "job=learning_curve": 7, "job=bias_variance": 5}
    assert len(written) == next((count for word, count in several.items() if word in line), 1)
    assert all(result_of(file.parent)["status"] == "finished" for file in written)


@pytest.mark.slow
@pytest.mark.parametrize("line", IN_DOCS)
def test_a_command_of_the_docs_runs_as_written(line, train, world, monkeypatch):
    line = line.partition(": ")[2]
    if "data=celeba" in line:
        monkeypatch.setenv("TRAINER_DATA", str(world / "data"))
        accept(world / "data", monkeypatch)
    code, _, err = execute(line, train, world, monkeypatch)
    assert fits(line, code, err), err


def test_scripts_train_runs_without_arguments(tmp_path):
    """The first command of the README; a fresh clone installs the environment first, which .ci/run does."""
    if not (ROOT / ".venv/.made").exists() and not (ROOT / ".venv/.made-test").exists():
        pytest.skip("scripts/train would install its environment here")
    environment = {**os.environ, "TRAINER_OVERRIDES": SMALL}
    command = ["sh", str(ROOT / "scripts/train")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("outputs/*/*/result.json")
    assert result_of(result.parent)["status"] == "finished"


def test_tensorboard_serves_the_runs(world):
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "outputs", "--port", "0"]
    process = subprocess.Popen(command, cwd=world, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        deadline = time.monotonic() + 60
        while "http://" not in (line := process.stderr.readline()):
            assert time.monotonic() < deadline, line
            assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_the_readme_has_the_commands_a_new_user_needs():
    text = "\n".join(commands(ROOT / "README.md"))
    for needed in (
        "scripts/train", "scripts/test", "train optimizer=adam schedule=clr", "train -m", "tensorboard --logdir outputs",
        "train resume=", "data=folder data.root=",
    ):  # fmt: skip
        assert needed in text


def test_the_errors_of_the_readme_are_those_the_program_prints(train):
    shown = re.search(r"```\n\$ train (optimizer=adm .*?)\n(.*?)```", README, re.DOTALL)
    assert shown
    code, _, err = train(*shlex.split(shown[1]))
    assert code == 2
    assert err == shown[2]


def test_the_diagnosis_of_the_readme_is_the_one_the_program_prints(train):
    shown = re.search(r"```\n\$ train (data.limit=50 .*?)\n(.*?)```", README, re.DOTALL)
    assert shown
    code, out, _ = train(*shlex.split(shown[1]), "output=run", "device=cpu")
    assert code == 0
    evidence, *rest = shown[2].splitlines()
    assert out.splitlines()[-len(rest) :] == rest
    assert re.sub(r"[\d.]+", "N", evidence) in re.sub(r"[\d.]+", "N", out)


def test_the_default_run_prints_what_the_readme_shows(train, tmp_path):
    """The head of the table of epochs, and how the run ends."""
    code, out, _ = train("output=run", "device=cpu", "epochs=1", "data.limit=256")
    assert code == 0
    head = re.search(r"^ +epoch +lr.*$", README, re.MULTILINE)
    assert head
    assert head[0] in out
    assert re.search(r"^test: accuracy [\d.]+ %, loss [\d.]+ \(best epoch 1\)$", out, re.MULTILINE)


def test_files_linked_in_the_readme_exist():
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert name.startswith("http") or (ROOT / name).exists(), name


def test_scripts_of_the_readme_exist_and_document_themselves():
    for name in {*re.findall(r"scripts/\w+(?:\.py)?", README)}:
        text = (ROOT / name).read_text()
        assert text.startswith(('"""', "#!")), name
