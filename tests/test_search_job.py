"""``train job=search``: errors, a whole search, the winner's experiment file, continuation."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from conftest import history_of, result_of, start

from trainer.config.load import load_config
from trainer.config.options import SINGLE, OptionFiles
from trainer.run_dir import read_config
from trainer.search.read_space import read_space

TINY = (
    "data=digits", "data.limit=200", "architecture.widths=[4,8]", "job.epochs=[0.5,2]", "job.trials=[4,3]", "job.seeds=2",
    "job.finalists=1",
)  # fmt: skip

WRONG = {
    "log of zero": ("job.space.optimizer.lr=log(0,1)", "logarithmic scale, which has no place for 0"),
    "log of a negative number": ("job.space.optimizer.lr=log(-1,1)", "has no place for -1"),
    "empty choice": ("job.space.optimizer=choice()", "must name at least one choice"),
    "choice of nothing": ("job.space.optimizer=choice(sgd,)", "must name at least one choice"),
    "the same choice twice": ("job.space.optimizer=choice(sgd,sgd)", "the same choice twice"),
    "unknown key": ("job.space.optimizer.larning_rate=log(1e-3,1)", "unknown key of optimizer=momentum"),
    "unknown setting": ("job.space.batchsize=choice(16,32)", "did you mean 'batch_size'"),
    "min above max": ("job.space.optimizer.lr=log(1,1e-3)", "1 is not below 1e-3"),
    "a group that does not exist": ("job.space.optimzer=choice(sgd,adam)", "did you mean 'optimizer'"),
    "a key of such a group": ("job.space.optimzer.lr=log(1e-3,1)", "did you mean 'optimizer.lr'"),
    "a distribution under space": ("space.optimizer.lr=log(1e-3,1)", "'job.space.optimizer.lr=log(1e-3,1)'"),
    "a directory as storage": ("job.storage=/tmp", "is a directory"),
    "an option that does not exist": ("job.space.optimizer=choice(sgd,adm)", "did you mean 'adam'"),
    "an option that is not enabled": ("job.space.regularizer.dropout.p=uniform(0.1,0.5)", "dropout is not enabled"),
    "no distribution": ("job.space.optimizer.lr=0.1", "must be log(a,b), uniform(a,b)"),
    "a list": ("job.space.optimizer.lr=[1,2]", "must be log(a,b), uniform(a,b)"),
    "an unknown distribution": ("job.space.optimizer.lr=normal(0,1)", "must be log(a,b), uniform(a,b)"),
    "one bound": ("job.space.optimizer.lr=log(1)", "must have two bounds"),
    "a bound that is no number": ("job.space.optimizer.lr=log(a,b)", "must have numbers as bounds"),
    "an integer beyond floating-point numbers": (f"job.space.batch_size=int(1,{10**400})", "must have finite bounds"),
    "infinite": ("job.space.optimizer.lr=uniform(0.1,inf)", "must have finite bounds"),
    "beyond what is allowed": ("job.space.optimizer.momentum=uniform(0.5,1.5)", "> 0 and < 1"),
    "fractions of an integer": ("job.space.batch_size=uniform(16,64.5)", "must be"),
    "a logarithmic scale of an integer": ("job.space.batch_size=log(16,128)", "such as log_int(16,128)"),
    "words for a number": ("job.space.optimizer.lr=choice(high,low)", "must be a number > 0"),
    "a number for an option": ("job.space.optimizer=uniform(0,1)", "is a group: choice(a,b,...)"),
    "two optimizers at once": ("job.space.optimizer=choice([sgd,adam])", "one option at a time"),
    "the job": ("job.space.job=choice(fit,plan)", "names the job"),
    "the length": ("job.space.epochs=int(1,5)", "job.epochs=[1,5,20]"),
    "the seed": ("job.space.seed=int(1,5)", "job.seeds=5"),
    "the images compared on": ("job.space.data.validation=uniform(0.1,0.5)", "compared on"),
    "a file": ("job.space.output=choice(a,b)", "names files"),
    "no default space": ("job.space.optimizer.nesterov=default", "unknown key"),
    "nothing to search by default": ("job.space.optimizer.clip_norm=default", "declares no default space"),
    "stages that shrink": ("job.epochs=[5,1]", "must be increasing"),
    "too few numbers of trials": ("job.trials=[5]", "one number per stage"),
    "a budget in words": ("job.budget=soon", "must be a duration > 0"),
    "a database of another kind": ("job.storage=mysql://a/b", "must begin with sqlite://, postgresql://"),
    "a metric of training": ("metric=train_loss", "no metric of the validation images"),
    "values without a distribution": (
        "job.space.optimizer.lr=1e-4,1e-1",
        "such as log(1e-4,1e-1) or choice(1e-4,1e-1)",
    ),
    "a distribution as a value": ("optimizer.lr=log(1e-4,1)", "'job.space.optimizer.lr=log(1e-4,1)'"),
    "distributions in a table": ("job.space={optimizer.lr:log(1e-4,1)}", "'job.space.<key>=log(1e-4,1)'"),
    "a word of other libraries": ("n_trials=20", "'job.trials=[20]'"),
    "an empty name": ("job.study=", "job.study=<name>"),
    "a number as a name": ("job.study=240", "in quotes: '\"240\"'"),
    "the length as typed": ("epochs=3", "job.epochs=[1,3]"),
}


@pytest.mark.parametrize(("word", "part"), WRONG.values(), ids=WRONG)
def test_a_wrong_search_is_one_clear_error_before_anything_is_written(word, part, train, tmp_path):
    code, out, err = train("job=search", word)
    assert code == 2, out
    assert part in err
    assert "Traceback" not in err
    assert err.count("\n") <= 3, "one error"
    assert not list(tmp_path.iterdir())


def test_a_wrong_space_is_found_without_torch_and_optuna(tmp_path):
    code = (
        "import sys; from trainer.cli import main; main(['job=search', 'job.space.optimizer.lr=log(0,1)']);"
        "print([m for m in ('torch', 'optuna', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "group",
    ["averaging", *(pytest.param(g, marks=pytest.mark.slow) for g in ("optimizer", "regularizer", "architecture"))],
)
def test_every_default_space_contains_values_that_its_option_takes(group):
    files = OptionFiles()
    for option in files.groups[group]:
        if (group, option) in {("architecture", "torchvision"), ("architecture", "timm")}:
            continue
        extra = ["architecture=resnet20"] if option == "stochastic_depth" else []
        value = option if group in SINGLE else f"[{option}]"
        config = load_config(["job=search", f"{group}={value}", *extra])
        space, problems = read_space({}, config)
        assert problems == []
        own = [d for d in space if d.key.startswith(group)]
        assert {"optimizer.lr", "optimizer.weight_decay"} <= {d.key for d in space}
        for dimension in own:  # typed, a space is checked against the declaration
            assert read_space({dimension.key: str(dimension.distribution)}, config)[1] == []


def test_a_search_leaves_a_winner_that_the_experiment_file_reproduces(train, tmp_path):
    code, out, err = train("job=search", *TINY, "output=s")
    assert code == 0, err
    assert "train experiment=s/best" in out
    for name in ("space", "isolation", "parallel", "curves", "narrowing"):
        assert cv2.imread(f"s/search/{name}.png").std() > 5
    html = Path("s/search.html").read_text()
    assert html.count("data:image/png") == len(list(Path("s/search").glob("*.png")))
    assert "the config as typed" in html
    result = result_of("s")
    rows = list(csv.DictReader(Path("s/trials.csv").read_text().splitlines()))
    events = {path.parent.name for path in Path("s/tensorboard").glob("*/events*")}
    assert events == {f"{r['stage']}-{int(r['trial']):03d}" for r in rows}
    assert [r["stage"] for r in rows if r["origin"] == "default"] == ["stage-1", "stage-2", "final", "final"]
    point = result["winner"] or {"optimizer.lr": "", "optimizer.weight_decay": ""}
    searched = next(
        r for r in rows if r["stage"] == "stage-2" and all(r[key] == str(value) for key, value in point.items())
    )
    assert train("experiment=s/best", "observer=[history_file]", "output=again")[0] == 0
    best = max(row["validation_accuracy"] for row in history_of("again"))
    assert best == pytest.approx(float(searched["validation_accuracy"]), abs=1e-12)
    tree = read_config(Path("again"), "output")
    assert tree["epochs"] == 2
    for key, value in result["winner"].items():
        assert tree["optimizer"][key.removeprefix("optimizer.")] == value

    code, out, err = train("job=search", *TINY, "output=s")
    assert code == 0, err
    assert list(csv.DictReader(Path("s/trials.csv").read_text().splitlines())) == rows, "nothing runs again"


def test_the_epochs_of_an_experiment_are_reported_as_not_used(train):
    Path("mine.yaml").write_text("# @package _global_\ndata: {limit: 60}\nepochs: 30\n")
    words = [
        "job=search",
        "data=digits",
        "experiment=mine.yaml",
        *TINY[2:3],
        "job.epochs=[0.1]",
        "job.trials=[2]",
        "job.seeds=0",
    ]
    code, out, err = train(*words, "output=s")
    assert code == 0, err
    assert "epochs=30 of experiment=mine.yaml has no effect: the stages of a search have lengths of their own" in out


BROKEN = {
    "a database that is none": ("job.storage=sqlite:///notes.txt", "file is not a database"),
    "a journal that is none": ("job.storage=notes.txt", "is a file, but not a journal of trials"),
    "images that are missing": ("data=fashion_mnist data.root=nowhere data.download=false", "does not contain"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_search_that_cannot_begin_leaves_no_run_directory(case, train):
    Path("notes.txt").write_text("not trials\n")
    words, text = BROKEN[case]
    code, _, err = train("job=search", *words.split(), "output=s")
    assert code == 2
    assert text in err
    assert not Path("s").exists()
    assert Path("notes.txt").read_text() == "not trials\n"


def test_the_same_error_of_several_searches_is_reported_once(train):
    Path("notes.txt").write_text("not trials\n")
    code, _, err = train("-m", "job=search", "data=fake", "seed=0,1,2", "job.storage=notes.txt", "output=s")
    assert code == 1
    assert err.count("not a journal of trials") == 1
    assert "#1 failed: as #0\n#2 failed: as #0\n" in err


def test_a_search_is_resumed_and_has_no_checkpoint(train):
    words = ["data=digits", "data.limit=200", "job.epochs=[0.1]", "job.trials=[2]", "job.seeds=0"]
    assert train("job=search", *words, "output=s")[0] == 0
    rows = Path("s/trials.csv").read_text()
    code, _, err = train("job=search", "resume=s")
    assert code == 0, err
    assert Path("s/trials.csv").read_text() == rows, "nothing runs again"
    Path("s").rename("renamed")
    code, _, err = train("job=search", *words, "output=renamed")
    assert code == 0, err
    assert Path("renamed/trials.csv").read_text() == rows, "nothing runs again"
    Path("renamed").rename("s")
    code, _, err = train("job=evaluate", "checkpoint=s")
    assert code == 2
    assert "checkpoint = 's': is a search, not a run\n  experiment=s/best trains its winner" in err


def test_a_run_or_another_search_is_not_continued(train):
    assert train("data=fake", "job=plan", "output=run")[0] == 0
    assert "already contains a run" in train("job=search", "data=fake", "output=run")[2]
    words = ["job=search", "data=digits", "data.limit=200", "job.epochs=[0.1]", "job.trials=[2]", "output=s"]
    assert train(*words, "job.seeds=0")[0] == 0
    code, _, err = train(*words, "job.seeds=1", "batch_size=32")
    assert code == 2
    assert "contains another search: batch_size: 64 there, 32 here; job.seeds: 0 there, 1 here" in err


@pytest.mark.slow
def test_a_choice_of_optimizers_searches_each_in_its_own_space(train):
    words = [w for w in TINY if not w.startswith("job.trials")]
    code, _, err = train("job=search", *words, "job.trials=[6,3]", "job.space.optimizer=choice(sgd,adam)", "output=s")
    assert code == 0, err
    rows = list(csv.DictReader(Path("s/trials.csv").read_text().splitlines()))
    assert {r["optimizer"] for r in rows if r["stage"] == "stage-1"} == {"", "sgd", "adam"}
    for r in rows:
        assert bool(r["optimizer.sgd.lr"]) == (r["optimizer"] == "sgd")
        assert bool(r["optimizer.adam.lr"]) == (r["optimizer"] == "adam")
    assert train("experiment=s/best", "job=plan", "output=plan")[0] == 0


def test_a_key_that_an_option_of_the_choice_lacks_is_an_error_before_anything_is_written(train, tmp_path):
    words = ["job=search", "job.space.optimizer=choice(sgd,momentum)", "optimizer.momentum=0.8", "output=s"]
    code, _, err = train(*words)
    assert code == 2
    assert "optimizer.momentum" in err
    assert not Path("s/search.journal").exists()


@pytest.mark.slow
def test_workers_share_a_search_and_ctrl_c_ends_all_of_them(tmp_path):
    words = ["job=search", *TINY, "job.workers=2", "job.trials=[5000,3]", "output=s"]
    process = start(*[w for w in words if w != "job.trials=[4,3]"], cwd=tmp_path)
    assert process.stdout is not None
    second = tmp_path / "s/workers/1.log"  # of a process that may start when many trials are done
    for line in process.stdout:
        if "of 5001 trials" in line and second.is_file():
            break
    process.send_signal(2)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert "the same command with output=s continues" in err
    assert list((tmp_path / "s/.workers").iterdir()) == []
    assert "Traceback" not in second.read_text()
    done = start("job=search", *TINY, "job.workers=2", "output=t", cwd=tmp_path)
    assert done.wait(timeout=120) == 0
    assert result_of(tmp_path / "t")["trials"]["final"]["done"] == 4
    done.communicate()


@pytest.mark.slow
def test_searches_are_jobs_of_a_sweep_that_continue(train):
    words = ["-m", "job=search", *TINY, "job.seeds=0", "optimizer=sgd,adam", "output=s"]
    words = [w for w in words if w != "job.seeds=2"]
    code, out, err = train(*words)
    assert code == 0, out + err
    assert train(*words)[1].count("2 of 2 jobs have finished") == 1


@pytest.mark.slow
def test_a_search_whose_training_is_killed_in_every_stage_ends_with_the_trials_of_an_unbroken_one(train, tmp_path):
    """Killed while a network is trained, behind a trial that was recorded, and one that was not."""
    longer = [*(w for w in TINY if not w.startswith("job.epochs")), "job.epochs=[10,30]"]
    assert train("job=search", *longer, "output=unbroken")[0] == 0
    for stage, trial in (("stage-1", 3), ("stage-2", 2), ("final", 1)):
        process = start("job=search", *longer, "output=killed", cwd=tmp_path)
        assert process.stdout is not None
        assert any(line.startswith(f"{stage}: {trial} of") for line in process.stdout)
        process.kill()
        process.communicate()
    assert not Path("killed/result.json").exists(), "it was not killed in time"
    assert train("job=search", *longer, "output=killed")[0] == 0
    killed, unbroken = (
        list(csv.DictReader(Path(d, "trials.csv").read_text().splitlines())) for d in ("killed", "unbroken")
    )
    for row in killed + unbroken:
        del row["seconds"]
    assert killed == unbroken
    assert result_of("killed")["winner"] == result_of("unbroken")["winner"]
