"""Sweeps: whole groups as a user would try them, and sweeps that are repeated, changed, interrupted or killed."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUIET, result_of, same_run, start

from trainer.config.options import OptionFiles
from trainer.exit_codes import FINISHED, INTERRUPTED
from trainer.run_dir import write_json
from trainer.sweep import run_sweep

SMALL = (
    "data=fake", "data.size=8", "data.count=60", "data.num_classes=3", "architecture.widths=[4]", "batch_size=8", "epochs=1",
    QUIET,
)  # fmt: skip

# Stochastic depth needs a residual network.
BESIDE = {"regularizer": ["architecture=resnet20", "architecture.depth=8"]}
REFUSED = {  # options that digits or a command without further overrides do not allow, and the error
    "augmentation": ({"flip", "vertical_flip", "cifar", "imagenet"}, "a flip changes the class"),
    "initialization": ({"pretrained"}, "initialization.path"),
}
GROUPS = (
    "optimizer", "schedule", "regularizer", "averaging", "activation", "initialization", "architecture", "augmentation",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_sweep_over_a_whole_group_ends_without_a_failure(group, train, tmp_path):
    overrides = [
        "-m",
        f"{group}=glob(*)",
        "epochs=0.05",
        "data.limit=640",
        "observer=[jsonl]",
        "output=all",
        *BESIDE.get(group, []),
    ]
    code, out, err = train(*overrides)
    names = set(OptionFiles().groups[group])
    finished = [f.parent for f in tmp_path.glob("all/*/result.json") if result_of(f.parent)["status"] == "finished"]
    done = {folder.name.split(f"{group}=")[1].split(",")[0] for folder in finished}
    refused, text = REFUSED.get(group, (set(), ""))
    assert done == names - refused, out + err
    assert code == (1 if refused else 0)
    assert (out + err).count(text) >= len(refused)


@pytest.mark.slow
def test_joblib_shares_the_cores_among_runs_and_a_failure_shows_in_the_exit_code(tmp_path):
    overrides = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data=digits", "epochs=1", "output=all"]
    command = [sys.executable, "-m", "trainer", *overrides, "data.test=200,100000"]
    free = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(command, cwd=tmp_path, env=free, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 jobs failed" in done.stderr
    assert "failed: data.test = 100000" in done.stdout  # the closing table says why
    folder = next((tmp_path / "all").glob("0_*"))
    assert result_of(folder)["status"] == "finished"
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert json.loads((folder / "environment.json").read_text())["device"].startswith(f"cpu, {threads} thread")


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(train):
    if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
        pytest.skip("it is installed here")
    code, _, err = train("-m", "hydra/launcher=submitit_slurm", "seed=0,1")
    assert code == 2
    assert "pip install 'trainer[slurm]'" in err


def content(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, except for what every sweep writes again."""
    own = ("sweep.json", "sweep.md", "sweep.csv", ".lock")
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file() and p.name not in own}


def states(directory: Path | str) -> list[str]:
    return [job["state"] for job in json.loads((Path(directory) / "sweep.json").read_text())["jobs"]]


def test_the_same_sweep_again_runs_what_failed_and_leaves_what_finished_untouched(train, tmp_path):
    overrides = ["-m", *SMALL, "data.test=10,500", "output=s"]
    assert train(*overrides)[0] == 1
    assert states("s") == ["finished", "failed"]
    before = {name: data for name, data in content(tmp_path / "s").items() if "/0_" in name}
    assert before
    code, out, err = train(*overrides)
    assert code == 1
    assert "1 of 2 jobs have finished; 1 to run" in out
    assert "#0" not in out
    assert "#1 failed: data.test = 500" in err
    assert {k: v for k, v in content(tmp_path / "s").items() if k in before} == before
    code, out, _ = train(*overrides, "sweep.resume=missing")
    assert "0 to run" in out
    assert code == 1, "the failure counts although its job stays"


IN_ALL_JOBS = {
    "a job's own": (["job=search", "epochs=1", "seed=0,1"], "epochs = 1.0: has no effect on a search"),
    "what a job reads": (["job=compare", "job.confidence=0.9,0.95"], "runs: must be given"),
    "a schedule": (["job=ensemble", "job.kind=snapshots", "seed=0,1"], "has 0 cycles in 15 epochs"),
    "several values together": (["batch_size=auto", "micro_batch=8", "seed=0,1"], "is what one pass takes"),
    "different ones": (["micro_batch=100,200"], "micro_batch = 100: must be at most batch_size, 64\nmicro_batch = 200"),
}


@pytest.mark.parametrize("case", IN_ALL_JOBS)
def test_errors_that_leave_no_job_of_a_sweep_are_reported_once_before_the_first_job(case, train):
    overrides, text = IN_ALL_JOBS[case]
    code, out, err = train("-m", *overrides, "output=s")
    assert code == 2
    assert err.count(text) == 1, err
    assert "#0" not in out
    assert not Path("s").exists()


def test_a_combination_that_does_not_go_together_is_left_to_its_job_while_others_run(train):
    started: list[str] = []

    def run(config, overrides, run_dir):
        started.extend(overrides)
        write_json(run_dir / "result.json", {"status": "finished"})
        return FINISHED

    sweep = ["batch_size=32,64", "micro_batch=64,48", "output=s"]  # of four jobs only the third and the fourth can run
    assert run_sweep(sweep, OptionFiles(), [], run) == 1
    assert started == ["batch_size=64", "micro_batch=64", "batch_size=64", "micro_batch=48"]


def test_the_order_of_the_overrides_does_not_make_another_sweep(train):
    assert train("-m", "data=fake", "job=plan", "seed=0,1", "output=s")[0] == 0
    code, out, _ = train("-m", "seed=0,1", "job=plan", "data=fake", "output=s")
    assert code == 0
    assert "2 of 2 jobs have finished; 0 to run" in out


def test_a_different_sweep_into_the_same_directory_is_refused_with_the_difference(train, tmp_path):
    assert train("-m", "data=fake", "job=plan", "seed=0,1", "output=s")[0] == 0
    before = content(tmp_path / "s")
    code, _, err = train("-m", "data=fake", "job=plan", "seed=0,2", "batch_size=8", "output=s")
    assert code == 2
    assert "contains another sweep: seed=0,1 there, seed=0,2 here; batch_size=8 only here" in err
    assert train("-m", "data=fake", "job=plan", "seed=0,1", "output=s", "sweep.resume=never")[0] == 2
    assert content(tmp_path / "s") == before


def test_a_sweep_is_not_written_among_other_runs(train):
    assert train(*SMALL, "output=s")[0] == 0
    assert "already contains a run" in train("-m", *SMALL, "seed=0,1", "output=s")[2]
    assert train(*SMALL, "output=old/0_seed=0")[0] == 0
    assert "contains runs without a sweep.json, such as 0_seed=0" in train("-m", *SMALL, "seed=0,1", "output=old")[2]


@pytest.mark.parametrize(("overrides", "part"), [
    (["sweep.resume=always"], "sweep.resume = 'always': must be unfinished, missing or never"),
    (["sweep.resum=never"], "did you mean 'resume'"),
    (["optimizer.lr=interval(0,1)"], "optimizer.lr = 'interval(0,1)': has no list of values to try"),
    (["output=a,b"], "must be one directory"),
    (["optimizer.lr=0.1,0.10"], "gives several jobs the same config: 0.1 is there twice"),
    (["optimizer=sgd,"], "remove the comma, or add a value: 'optimizer=sgd'"),
    (["hydra.sweep.subdir=same"], "is the same for several jobs"),
    (["hydra.sweep.subdir=${nothing}"], "cannot be resolved"),
])  # fmt: skip
def test_a_wrong_sweep_is_an_error_before_anything_is_written(overrides, part, train, tmp_path):
    code, _, err = train("-m", "job=plan", "data=fake", "seed=0,1", *overrides)
    assert code == 2
    assert part in err
    assert not list(tmp_path.glob("*/*"))


def test_the_directories_may_be_named_in_hydras_way(train, tmp_path):
    places = ["hydra.sweep.dir=sweeps/${now:%Y}", "hydra.sweep.subdir=job-${hydra.job.num}"]
    assert train("-m", "data=fake", "job=plan", "seed=0,1", *places)[0] == 0
    assert {p.parent.name for p in tmp_path.glob("sweeps/2*/*/result.json")} == {"job-0", "job-1"}


def test_ctrl_c_leaves_a_sweep_that_the_same_command_continues(capsys):
    ran = []

    def run(config, overrides, run_dir):
        ran.append(config.seed)
        status = "interrupted" if ran == [0, 1] else "finished"
        write_json(run_dir / "result.json", {"status": status, "stop_reason": status})
        return INTERRUPTED if status == "interrupted" else FINISHED

    overrides = ["seed=0,1,2", "output=s"]
    with pytest.raises(KeyboardInterrupt):
        run_sweep(overrides, OptionFiles(), [], run)
    assert "1 of 3 jobs have finished; the same command with output=s continues" in capsys.readouterr().err
    assert states("s") == ["finished", "interrupted", "pending"]
    assert run_sweep(overrides, OptionFiles(), [], run) == 0
    assert ran == [0, 1, 1, 2]
    assert states("s") == ["finished"] * 3


def test_changed_option_files_are_reported_before_a_sweep_continues(train, tmp_path):
    option = tmp_path / "mine/optimizer/own.yaml"
    option.parent.mkdir(parents=True)
    overrides = ["-m", "-cd", "mine", "data=fake", "job=plan", "optimizer=own", "seed=0,1", "output=s"]
    option.write_text("# Mine.\n_target_: trainer.optimizers.SGD\nlr: 0.1\n")
    assert train(*overrides)[0] == 0
    assert "warning" not in train(*overrides)[2]
    option.write_text("# Mine.\n_target_: trainer.optimizers.SGD\nlr: 0.2\n")
    assert "option files have changed since job 0 finished: optimizer.lr: 0.1 then, 0.2 now" in train(*overrides)[2]


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_continued_equals_one_that_was_not(train, tmp_path):
    overrides = [
        "-m",
        *(w for w in SMALL if not w.startswith(("epochs", "data.count"))),
        "epochs=40",
        "data.count=600",
        "seed=0,1",
    ]
    process = start(*overrides, "output=killed", cwd=tmp_path)
    last = "killed/1_*/checkpoints/last.pt"
    while not list(tmp_path.glob(last)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)  # so that it is still running, however long the second one takes to start
    second = start(*overrides, "output=killed", cwd=tmp_path)
    assert "is being written by process" in second.communicate()[1]
    assert second.returncode == 2
    process.kill()
    process.communicate()
    assert not list(tmp_path.glob("killed/1_*/result.json")), "it was not killed in time"
    assert train(*overrides, "output=killed")[0] == 0
    assert train(*overrides, "output=uninterrupted")[0] == 0
    for number in (0, 1):
        (killed,), (uninterrupted,) = (list(tmp_path.glob(f"{d}/{number}_*")) for d in ("killed", "uninterrupted"))
        assert same_run(killed, uninterrupted)


def test_a_sweep_with_a_wrong_value_is_refused_before_its_first_job(train, tmp_path):
    code, out, err = train("-m", *SMALL, "seed=0,x", "optimizer.lr=0.1,-1", "output=s")
    assert (code, out) == (2, "")
    assert "2 errors" in err
    assert "seed = 'x'" in err
    assert "optimizer.lr = -1" in err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("words", "expected"), [
    (["data=folder", "data.root=.,nowhere"], "data.root = 'nowhere': no such directory"),
    (["data=fake", "device=cpu,cuda:7"], "device = 'cuda:7'"),
])  # fmt: skip
def test_what_a_job_names_and_does_not_exist_here_is_reported_before_the_first_job(words, expected, train, tmp_path):
    code, out, err = train("-m", *words)
    assert (code, out) == (2, "")
    assert expected in err
    assert not list(tmp_path.glob("outputs/*/*")), "no empty directory is left"


def test_the_table_of_a_sweep_is_written_and_names_the_best_job_with_its_command(train):
    code, out, _ = train("-m", *SMALL, "optimizer.lr=0.05,1e-6", "output=s")
    assert code == 0
    best = next(line for line in out.splitlines() if line.startswith("best: job 0, validation_accuracy "))
    assert best.endswith("made by: train " + " ".join([*map(shlex.quote, SMALL), "optimizer.lr=0.05"]))
    assert "in s/0_optimizer.lr=0.05, made by" in best
    assert Path("s/sweep.md").read_text().startswith("# Sweep of 2 jobs\n\n| job | overrides |")
    rows = list(csv.DictReader(Path("s/sweep.csv").read_text().splitlines()))
    assert [row["overrides"] for row in rows] == ["optimizer.lr=0.05", "optimizer.lr=1e-06"]
