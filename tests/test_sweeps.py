"""Every option of a group as one sweep on real digits, as a user would try them all."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from conftest import result_of

# Stochastic depth needs a residual network.
BESIDE = {"regularizer": ["architecture=resnet20", "architecture.depth=8"]}
REFUSED = {  # the options that digits or a bare command do not go with, and what is said of each
    "augmentation": ({"flip", "vertical_flip", "cifar", "imagenet"}, "a flip changes the class"),
    "initialization": ({"pretrained"}, "initialization.path"),
}
GROUPS = (
    "optimizer", "schedule", "regularizer", "averaging", "activation", "initialization", "architecture", "augmentation",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_sweep_over_a_whole_group_ends_without_a_failure(group, train, tmp_path):
    words = [
        "-m",
        f"{group}=glob(*)",
        "epochs=0.05",
        "data.limit=640",
        "observer=[jsonl]",
        "output=all",
        *BESIDE.get(group, []),
    ]
    code, out, err = train(*words)
    from trainer.config.options import OptionFiles

    names = set(OptionFiles().groups[group])
    finished = [f.parent for f in tmp_path.glob("all/*/result.json") if result_of(f.parent)["status"] == "finished"]
    done = {folder.name.split(f"{group}=")[1].split(",")[0] for folder in finished}
    refused, text = REFUSED.get(group, (set(), ""))
    assert done == names - refused, out + err
    assert code == (1 if refused else 0)
    assert (out + err).count(text) >= len(refused)


def test_joblib_shares_the_cores_among_runs_and_a_failure_shows_in_the_exit_code(tmp_path):
    words = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data=digits", "epochs=1", "output=all"]
    command = [sys.executable, "-m", "trainer", *words, "batch_size=16,100000"]
    free = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(command, cwd=tmp_path, env=free, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 jobs failed" in done.stderr
    assert "is more than the" in done.stdout  # the closing table says why
    folder = next((tmp_path / "all").glob("0_*"))
    assert result_of(folder)["status"] == "finished"
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert json.loads((folder / "environment.json").read_text())["device"].startswith(f"cpu, {threads} threads")


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(train):
    if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
        pytest.skip("it is installed here")
    code, _, err = train("-m", "hydra/launcher=submitit_slurm", "seed=0,1")
    assert code == 2
    assert "pip install 'trainer[slurm]'" in err
