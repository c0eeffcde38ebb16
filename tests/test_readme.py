"""The README: every command in it is tried, and its texts are what the program says."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import QUIET, result_of
from torchvision.models import squeezenet1_0

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUN = "outputs/2026-11-24/02-58-41"
# What makes a command short; what it says itself stays.
SHORT = ("data.limit=64", "batch_size=16", QUIET)

LION = """
import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, beta=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p -= group["lr"] * (m * group["beta"] + p.grad * (1 - group["beta"])).sign()
                m.lerp_(p.grad, 1 - group["beta"])
"""


def commands() -> list[str]:
    """The lines of the README's shell blocks, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


TRAIN = [c for c in commands() if c.startswith("train ")]


@pytest.fixture
def world(tmp_path: Path, train) -> Path:
    """What the README's commands speak of: a run, a folder of flowers, an option of one's own."""
    code, _, err = train("epochs=1", f"output={RUN}", *SHORT)
    assert code == 0, err
    assert train("-m", "seed=0,1", "epochs=1", "output=outputs/2026-11-24/03-12-07_sweep", *SHORT)[0] == 0
    rng = np.random.default_rng(0)
    for kind in ("rose", "tulip"):
        (tmp_path / "flowers" / kind).mkdir(parents=True)
        for i in range(20):
            cv2.imwrite(str(tmp_path / "flowers" / kind / f"{i}.png"), rng.integers(0, 256, (20, 24, 3), np.uint8))
    small = ("data=folder", "data.root=flowers", "data.limit=16", "batch_size=8", QUIET)
    assert train(*small, "epochs=1", "output=my_run")[0] == 0
    torch.save(squeezenet1_0().state_dict(), tmp_path / "squeezenet1_0.pth")
    (tmp_path / "mine/optimizer").mkdir(parents=True)
    (tmp_path / "mine/lion.py").write_text(LION)
    (tmp_path / "mine/optimizer/lion.yaml").write_text(
        "# By signs (Chen et al. 2023).\n_target_: lion.Lion\nlr: 0.001\n"
    )
    return tmp_path


@pytest.mark.parametrize("command", TRAIN)
def test_a_command_of_the_readme_does_what_it_says(command, train, world, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = shlex.split(command)[1:]
    if "resume=" in command:
        words = [w.replace("epochs=30", "epochs=2") for w in words]
    elif "job=" not in command:
        words += [w for w in SHORT if w.split("=")[0] not in command]
        if "experiment=finetune" in command:
            words += ["data.size=48", "recipe.head_epochs=0.5", "epochs=1"]
        elif "recipe=" not in command:
            words = [w for w in words if not w.startswith("epochs=")] + ["epochs=1"]
    elif "job=ensemble" in command:
        words = [w.replace("=500", "=64").replace("epochs=5", "epochs=1") for w in words] + [QUIET]
    elif "job=predict" in command:
        words += ["output=predicted"]
    before = {file: file.stat().st_mtime_ns for file in world.rglob("result.json")}
    code, out, err = train(*words)
    assert code == 0, err
    if "job=plan" in words or "job=compare" in words:
        assert ("parameters" if "job=plan" in words else "compare.md") in out
        return
    written = [file for file in world.rglob("result.json") if before.get(file) != file.stat().st_mtime_ns]
    assert len(written) == (6 if "-m" in words else 4 if "job=ensemble" in words else 1)
    assert all(result_of(file.parent)["status"] == "finished" for file in written if "job=" not in command)


def test_the_readme_has_the_commands_a_newcomer_needs():
    text = "\n".join(commands())
    for needed in (
        "scripts/train", "scripts/test", "train optimizer=adam schedule=clr", "train -m", "tensorboard --logdir outputs",
        "train resume=", "data=folder data.root=",
    ):  # fmt: skip
        assert needed in text


def test_the_wrong_command_of_the_readme_is_answered_as_printed(train):
    shown = re.search(r"```\n\$ train (optimizer=adm .*?)\n(.*?)```", README, re.DOTALL)
    assert shown
    code, _, err = train(*shlex.split(shown[1]))
    assert code == 2
    assert err == shown[2]


def test_the_diagnosis_of_the_readme_is_found_and_said_in_its_words(train):
    shown = re.search(r"```\n\$ train (data.limit=50 .*?)\n(.*?)```", README, re.DOTALL)
    assert shown
    code, out, _ = train(*shlex.split(shown[1]), "output=run", "device=cpu")
    assert code == 0
    evidence, *rest = shown[2].splitlines()
    assert out.splitlines()[-len(rest) :] == rest
    assert re.sub(r"[\d.]+", "N", evidence) in re.sub(r"[\d.]+", "N", out)


def test_the_default_is_what_the_readme_shows(train, tmp_path):
    """The head of the table of epochs, and how the run ends."""
    code, out, _ = train("output=run", "device=cpu", "epochs=1", "data.limit=256")
    assert code == 0
    head = re.search(r"^ +epoch +rate.*$", README, re.MULTILINE)
    assert head
    assert head[0] in out
    assert re.search(r"^test: accuracy [\d.]+ %, loss [\d.]+ \(epoch 1, the best\)$", out, re.MULTILINE)


def test_files_the_readme_points_to_exist():
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert name.startswith("http") or (ROOT / name).exists(), name


def test_scripts_of_the_readme_exist_and_say_what_they_do():
    for name in {*re.findall(r"scripts/\w+(?:\.py)?", README)}:
        text = (ROOT / name).read_text()
        assert text.startswith(('"""', "#!")), name
