"""Paths that are given for a run directory and are something else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from trainer.config.load import load_config, prepare
from trainer.config.options import option_files


def make_run(directory: str, *overrides: str) -> Path:
    """A directory with the config of a run and nothing else."""
    path = Path(directory)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(load_config(overrides).tree)))
    (path / "overrides.txt").write_text("".join(f"{text}\n" for text in overrides))
    return path


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A directory of each kind, below the working directory."""
    make_run("runs/one")
    Path("runs/one/checkpoints").mkdir()
    make_run("search", "job=search", "job.seeds=2")
    make_run("search/trials/stage-1-000")
    Path("search/best.yaml").write_text("# @package _global_\noptimizer:\n  lr: 0.1\n")
    make_run("plan", "job=plan", "seed=3")
    make_run("sweep/0_seed=0")
    Path("sweep/sweep.json").write_text(json.dumps({"command": ["seed=0,1", "epochs=2"], "jobs": []}))
    Path("compared").mkdir()
    Path("compared/compare.csv").touch()
    return tmp_path


ANSWERS = {
    "sweep": ("is a sweep, not a run", r"train -m seed=0,1 epochs=2 output=sweep continues it; .*0_seed=0"),
    "search/best": ("is an experiment, not a run", r"experiment=search/best trains it; resume=search continues"),
    "search/best.yaml": ("is an experiment, not a run", r"experiment=search/best trains it; resume=search continues"),
    "search/trials/stage-1-000": ("is a trial of a search", "resume=search continues that"),
    "plan": ("is the output of job=plan, which is not resumed", r"train job=plan seed=3 'output=<directory>' runs it"),
    "compared": ("is the output of job=compare, not a run", "one of the runs compared"),
    "runs/one/checkpoints": ("is not a run directory, but lies in one", r"resume=runs/one\n"),
    "runs/one/config.yaml": ("is not a run directory, but lies in one", r"resume=runs/one\n"),
    "runs": ("is not a run directory", "it contains the runs one"),
    ".": ("is not a run directory", "it contains the runs compared|plan"),
    "nowhere": ("no such directory", ""),
}


@pytest.mark.parametrize("path", ANSWERS)
def test_what_is_not_a_run_to_resume_is_answered_with_what_it_is_and_what_to_type(path, everything, train):
    code, _, err = train(f"resume={path}")
    text, hint = ANSWERS[path]
    assert code == 2
    assert f"resume = '{path}': {text}" in err
    assert re.search(hint, err), err


def test_a_directory_of_directories_of_runs_is_answered_with_the_latest_run(everything, train):
    make_run("outputs/2026-11-24/03-12-07")
    assert "the latest is resume=outputs/2026-11-24/03-12-07" in train("resume=outputs")[2]


def test_the_same_answers_are_given_for_a_checkpoint(everything, train):
    assert "checkpoint = 'sweep': is a sweep, not a run" in train("job=evaluate", "checkpoint=sweep")[2]
    assert "experiment=search/best trains it" in train("job=evaluate", "checkpoint=search/best")[2]
    assert "no such file or directory" in train("job=evaluate", "checkpoint=nowhere")[2]


def test_another_job_cannot_resume_a_run_and_says_which_key_takes_it(everything, train):
    assert "checkpoint=runs/one in place of resume" in train("job=evaluate", "resume=runs/one")[2]
    assert "runs=runs/one in place of resume" in train("job=compare", "resume=runs/one")[2]
    assert "leave it out\n" in train("job=plan", "resume=runs/one")[2]


def test_options_that_a_resumed_run_has_anyway_can_be_typed_again(tmp_path):
    make_run("one", "optimizer=adam", "optimizer.lr=0.3", "schedule=[warmup,cosine]", "schedule.warmup.epochs=3")
    same = prepare(["job=fit", "optimizer=adam", "schedule=[warmup,cosine]", "resume=one"], option_files([]))
    assert same.problems == []
    assert same.tree["optimizer"]["lr"] == 0.3
    assert same.tree["schedule"]["warmup"]["epochs"] == 3
    other = prepare(["optimizer=sgd", "schedule=[cosine]", "resume=one"], option_files([]))
    assert [problem.key for problem in other.problems] == ["optimizer", "schedule"]


@pytest.mark.parametrize("job", ["fit", "search", "plan"])
def test_nothing_is_written_into_the_directory_of_a_sweep(job, everything, train):
    code, _, err = train(f"job={job}", "output=sweep")
    assert code == 2
    assert "output = 'sweep': already contains a sweep" in err
    assert not Path("sweep/config.yaml").exists()


BARE = {  # typed without its key, and what was meant
    "a run, to train on": (["runs/one", "epochs=9"], "train resume=runs/one epochs=9"),
    "a job of a sweep": (["sweep/0_seed=0"], "train resume=sweep/0_seed=0"),
    "a run, to report on": (["job=report", "runs/one"], "train job=report run=runs/one"),
    "a job of a sweep, to report on": (["sweep/0_seed=0", "job=report"], "train run=sweep/0_seed=0 job=report"),
    "a sweep, to report on": (["job=report", "sweep"], "train job=report run=sweep"),
    "runs to compare": (["job=compare", "runs"], "train job=compare runs=runs"),
    "a run to evaluate": (["job=evaluate", "runs/one/"], "train job=evaluate checkpoint=runs/one/"),
    "a checkpoint": (
        ["job=predict", "job.images=x.png", "sweep/0_seed=0/best.pt"],
        "train job=predict job.images=x.png checkpoint=sweep/0_seed=0/best.pt",
    ),
    "images in place of a run": (["job=evaluate", "runs"], "train job=evaluate data=folder data.root=runs"),
    "with a space": (["job=report", "my run"], "train job=report 'run=my run'"),
}


@pytest.mark.parametrize("name", BARE)
def test_a_run_without_its_key_is_answered_with_the_key_of_the_job(name, everything):
    make_run("my run")
    arguments, meant = BARE[name]
    problem = prepare(arguments, option_files([])).problems[0]
    assert problem.hint == f"did you mean: {meant}"


def test_a_key_of_hydra_and_a_value_with_slashes_are_no_runs(everything):
    assert not prepare(["output=runs/two", "hydra.sweep.dir=x/y"], option_files([]), multirun=True).problems
