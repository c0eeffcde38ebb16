"""The command line: help, errors, sweeps, jobs, and the run directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import QUIET, STATEFUL, history_of, load, result_of, start

from trainer.config.load import load_config
from trainer.errors import ConfigError

SMALL = (
    "data=fake", "data.size=8", "data.count=60", "data.num_classes=3", "architecture.widths=[4]", "batch_size=8", "epochs=1",
    QUIET,
)  # fmt: skip

# command, texts that the answer must contain
ERRORS = {
    "mistyped group": (["optimzer=adam"], ["optimzer", "did you mean 'optimizer'"]),
    "mistyped option": (["optimizer=adm"], ["must be one of adadelta, adagrad, adam", "did you mean 'adam'"]),
    "mistyped list option": (["schedule=[warmup,cosin]"], ["schedule = 'cosin'", "did you mean 'cosine'"]),
    "mistyped key": (["optimizer.learning_rate=0.1"], ["optimizer.learning_rate", "did you mean 'lr'"]),
    "key of another option": (
        ["optimizer=sgd", "optimizer.momentum=0.9"],
        ["optimizer.momentum = 0.9: unknown", "a key of optimizer=momentum, muon, nesterov; available: lr"],
    ),
    "key of an option not in use": (["regularizer.mixup.alpha=1"], ["mixup is not enabled", "=[early_stopping,mixup]"]),
    "wrong type": (["optimizer.lr=abc"], ["optimizer.lr = 'abc'", "a number", "conf/optimizer/momentum.yaml"]),
    "wrong type in a list": (["architecture.widths=[8,wide]"], ["architecture.widths", "must be a list [an integer"]),
    "out of range": (["optimizer.lr=-1"], ["optimizer.lr = -1", "> 0"]),
    "several at once": (["optimizer.lr=-1", "optimizer.momentum=3", "epochs=0"], ["3 errors", "lr", "momentum", "epochs"]),
    "no such choice": (["architecture.norm=bach"], ["architecture.norm = 'bach'", "batch, group, layer or none"]),
    "lone word": (["resnet20"], ["'resnet20' is not an override", "did you mean: train architecture=resnet20"]),
    "a key and its value": (["epochs", "5", "data=digits"], ["'epochs 5' is not", "did you mean: train epochs=5 data=digits"]),
    "a value after a key with a colon": (["lr:", "0.1"], ["did you mean: train optimizer.lr=0.1"]),
    "a value after a space": (["epochs=", "5"], ["did you mean: train epochs=5"]),
    "the name of the program": (["train", "seed=1"], ["'train' is not an override", "did you mean: train seed=1"]),
    "a request for help": (["help", "lr"], ["did you mean: train --help lr"]),
    "words that nobody knows": (["foo", "bar"], ["'foo', 'bar' are not overrides", "train --help lists"]),
    "unbalanced bracket": (["schedule=[cosine"], ["'schedule=[cosine' cannot be read", "quote"]),
    "sweep without -m": (["optimizer=sgd,adam"], ["'optimizer=sgd,adam' is a sweep; it needs -m", "train -m"]),
    "no option at all": (["schedule=null"], ["schedule", "schedule=[]"]),
    "epochs zero": (["epochs=0"], ["epochs = 0: must be a number > 0"]),
    "batch size as a word": (["batch_size=hundred"], ["batch_size = 'hundred'", "an integer >= 1 or full"]),
    "micro batch too large": (["micro_batch=65"], ["micro_batch = 65", "at most batch_size, 64"]),
    "infinite learning rate": (["optimizer.lr=inf"], ["optimizer.lr = inf", "finite number"]),
    "a learning rate that is not a number": (["optimizer.lr=nan"], ["optimizer.lr = nan", "finite number"]),
    "negative seed": (["seed=-1"], ["seed = -1: must be an integer in [0, "]),
    "unknown device": (["device=tpu"], ["device = 'tpu'", "auto, cpu, cuda"]),
    "unknown precision": (["precision=fp8"], ["precision = 'fp8'", "auto, bf16, fp16 or float32"]),
    "a metric in short": (["metric=val_acc"], ["metric = 'val_acc'", "did you mean 'validation_accuracy'"]),
    "an option that is switched off as a key": (["early_stopping=false"], ["did you mean 'regularizer=[]'"]),
    "unknown metric": (["metric=accuracy"], ["metric = 'accuracy'", "validation_accuracy"]),
    "too few epochs for the last phase": (["recipe=finetune", "epochs=2"], ["epochs = 2.0: must be > 3 (recipe.head_epochs)"]),
    "momentum schedule without momentum": (["optimizer=sgd", "schedule=one_cycle"], ["one_cycle moves the momentum"]),
    "flip on digits": (["augmentation=flip"], ["flip changes the class", "augmentation.flip.force=true"]),
    "bad depth": (["architecture=resnet20", "architecture.depth=21"], ["6n + 2"]),
    "bad fill": (["augmentation=crop", "augmentation.crop.fill=mirror"], ["augmentation.crop.fill", "must be constant, edge"]),
    "required key left out": (["data=folder"], ["data.root", "must be given"]),
    "unknown experiment": (["experiment=nope"], ["experiment = 'nope'", "mnist5k_augmented"]),
    "no such config folder": (["--config-dir", "nope"], ["--config-dir = 'nope'", "no such directory"]),
    "resume of nothing": (["resume=nope"], ["resume = 'nope'", "no such directory"]),
    "resume of a directory that is not a run": (["resume=."], ["resume = '.'", "is not a run directory"]),
    "graph of a batch in parts": (["engine.graph=on", "micro_batch=8"], ["engine.graph = 'on'", "micro_batch=null"]),
    "mirrored digits": (["job.tta=mirror"], ["job.tta = 'mirror'", "a flip changes the class", "job.tta=none"]),
    "evaluate nothing": (["job=evaluate"], ["checkpoint", "must be given"]),
    "no such checkpoint": (["job=evaluate", "checkpoint=nope.pt"], ["checkpoint = 'nope.pt'", "no such file"]),
    "checkpoint with fit": (["checkpoint=."], ["checkpoint", "job=evaluate", "resume="]),
    "output is a file": (["output=file"], ["output = 'file'", "is a file"]),
    "an added key": (["+momentum=0.9"], ["momentum = 0.9", "unknown key"]),
    "a list for a group of one": (["optimizer=[adam]"], ["optimizer = ['adam']", "takes one option", "optimizer=adam"]),
    "two experiments": (["experiment=[cifar10_fast,finetune]"], ["experiment = ", "takes one option"]),
    "no experiment": (["experiment=null"], ["experiment: must name an option", "leave it out"]),
    "no experiment in a sweep": (["-m", "experiment=null,finetune"], ["experiment: must name an option", "leave it out"]),
    "a list without quotes": (["augmentation=[flip", "crop]"], ["did you mean: train 'augmentation=[flip,crop]'"]),
    "spaces around the sign in one word": (["optimizer = adam"], ["did you mean: train optimizer=adam"]),
    "a key of an enabled option": (["regularizer=dropout", "p=0.5"], ["did you mean 'regularizer.dropout.p'"]),
    "a key behind its option": (["dropout.p=0.5"], ["'regularizer=[early_stopping,dropout]' regularizer.dropout.p=0.5?"]),
    "a file for a directory": (["data=folder", f"data.root={__file__}"], ["is a file", "directory with one directory per class"]),
    "new-option with too many words": (["new-option", "optimizer", "a", "b", "--foo"], ["new-option = 'b --foo': is left over"]),
    "one value for a list": (["task.metrics=f1"], ["task.metrics = 'f1': must be a list [text, ...]", "in brackets: [f1]"]),
    "a metric by another name": (["task.metrics=[f1_macro]"], ["task.metrics = ['f1_macro']", "did you mean 'f1'?"]),
    "a list in a list": (["schedule=[[warmup],cosine]"], ["must be a plain list", "schedule=[warmup,cosine]"]),
    "a number for an option": (["schedule=[3]"], ["schedule = '3'", "must be one of clr"]),
    "nothing for an option": (["schedule=[null]"], ["schedule: ", "must name an option"]),
    "a list group taken out": (["~schedule"], ["schedule: ", "'schedule=[]' has none"]),
    "an interpolation of nothing": (["optimizer.lr=${foo}"], ["optimizer.lr", "'foo' not found", "cannot be resolved"]),
    "an option taken to pieces": (["experiment=cifar10_fast", "schedule.one_cycle=null"], ["schedule.one_cycle: "]),
    "an option of an empty list": (["regularizer=[]", "regularizer.mixup.alpha=1"], ["mixup is not enabled", "=[mixup]"]),
    "a class that is a number": (["optimizer._target_=3"], ["optimizer._target_ = 3", "must be a dotted path"]),
    "a class that is a number elsewhere": (["optimizer._target_=math.pi"], ["'math.pi'", "standard library"]),
    "an interpolation of nothing beside an experiment": (
        ["experiment=mnist5k_augmented", "metric=${nope}"], ["metric", "'nope' not found", "cannot be resolved"],
    ),
    "an interpolation for a checkpoint": (["job=evaluate", "checkpoint=${nope}"], ["checkpoint", "'nope' not found"]),
    "several values with a checkpoint": (["job=evaluate", "checkpoint=.", "seed=1,2"], ["seed=1,2", "is a sweep"]),
    "an option twice": (["schedule=[cosine,cosine]"], ["schedule = ['cosine', 'cosine']", "twice"]),
    "a key of the top without its group": (["lr=0.1"], ["lr = 0.1: unknown key", "did you mean 'optimizer.lr'"]),
    "an option for a key": (["dropout=0.5"], ["did you mean 'regularizer=[early_stopping,dropout]'"]),
    "spaces around the sign": (["optimizer", "=", "adam"], ["'optimizer = adam' is not", "did you mean: train optimizer=adam"]),
    "a key as a flag": (["--epochs=3"], ["did you mean: train epochs=3"]),
    "a key below a group as a flag": (["--lr", "0.1", "schedule=[clr]"], ["train optimizer.lr=0.1 'schedule=[clr]'"]),
    "a key as a short flag": (["-m", "-e", "5", "seed=1,2"], ["did you mean: train -m epochs=5 seed=1,2"]),
    "a mistyped flag": (["--hepl"], ["did you mean: train --help"]),
    "an empty directory": (["data=folder", "data.root="], ["data.root = '': is empty", "data.root=<path>"]),
    "an empty run": (["resume="], ["resume = '': is empty", "not set"]),
    "a directory that is not there": (["data=folder", "data.root=nope"], ["data.root = 'nope': no such directory"]),
    "a file that is not there": (["data=arrays", "data.path=nope.npz"], ["data.path = 'nope.npz': no such file", "x_train"]),
    "weights that are not there": (
        ["architecture=torchvision", "architecture.name=resnet18", "architecture.weights=nope.pth"],
        ["architecture.weights = 'nope.pth': no such file", "IMAGENET1K_V1"],
    ),
    "another run that is not there": (["initialization=pretrained", "initialization.path=nope"], ["no such file or directory"]),
    "help on a key that is mistyped": (["--help", "momntum"], ["did you mean 'momentum'"]),
    "a value to remove that is not there": (["~seed=3"], ["seed = 3: is not the value to remove, 0"]),
    "a setting for another job": (["run=x"], ["run = 'x': is not read by this job", "job=report"]),
    "an empty list of one option": (["activation=[]"], ["activation: must name an option", "one of:"]),
    "a sweep of none": (["-m", "optimizer=glob(zz*)"], ["names no option"]),
    "a sweep that is wrong in all jobs": (["-m", "seed=1,2", "epochs=0"], ["epochs = 0: must be a number > 0"]),
    "an option for sweeps alone": (["hydra.run.dir=x"], ["hydra.run.dir = 'x'", "only with -m"]),
    "help on nonsense": (["--help", "nonsense"], ["groups are activation, "]),
    "help on nothing": (["--help", "optimzer"], ["did you mean 'optimizer'"]),
}  # fmt: skip


ALL_AT_ONCE = {
    "a value beside an unknown key": (["job.ttx=3", "job.tta=foo"], ["job.ttx", "job.tta = 'foo': must be none, "], []),
    "values beside an unknown option": (
        ["optimizer=adm", "optimizer.lr=-3", "epochs=0"], ["'adam'?", "optimizer.lr = -3", "epochs = 0"], [],
    ),
    "a key of the option that was meant": (["architecture=resnt20", "architecture.depth=20"], ["'resnet20'?"], ["depth"]),
    "a wrong value of a key of the option that was meant": (
        ["architecture=resnt20", "architecture.depth=21"], ["'resnet20'?", "architecture.depth = 21: must be 6n + 2"], [],
    ),
    "keys of an option that nobody knows": (["data=qqqqq", "data.root=/tmp"], ["data = 'qqqqq'"], ["data.root"]),
    "a job's values beside a missing checkpoint": (
        ["job=evaluate", "checkpoint=nope", "job.weights=bar", "job.tta=foo"],
        ["checkpoint = 'nope'", "job.weights = 'bar'", "job.tta = 'foo'"], [],
    ),
    "keys of a list with an unknown option": (
        ["schedule=[cosin,warmup]", "schedule.warmup.epochs=-1"], ["'cosine'?", "schedule.warmup.epochs = -1"], [],
    ),
    "wrong types and wrong ranges": (
        ["architecture.widths=[a,b]", "architecture.kernel=2", "batch_size=0", "epochs=inf", "seed=1.5", "device=tpu"],
        ["widths = ['a', 'b']: must be a list", "kernel = 2", "batch_size = 0", "epochs = inf", "seed = 1.5", "device = 'tpu'"],
        [],
    ),
    "keys for options that an experiment has and the command did not take": (
        ["experiment=cifar10_fast", "optimizer=adam", "optimizer.momentum=1", "schedule=clr", "schedule.one_cycle.rise=.2",
         "job=plan", "job.tta=mirror", "seed=-1"],
        ["4 errors", "optimizer.momentum = 1: unknown key", "one_cycle is not enabled", "job.tta", "seed = -1"], [],
    ),
    "a mistyped option beside an experiment": (
        ["experiment=cifar10_fast", "optimizer=adm", "optimizer.lr=-3", "optimizer.momentum=.3"],
        ["'adam'?", "optimizer.lr = -3", "optimizer.momentum = 0.3: unknown key"], [],
    ),
    "options that do not go together, beside others": (
        ["optimizer=sgd", "schedule=one_cycle", "micro_batch=65", "seed=-1", "checkpoint=x"],
        ["4 errors", "seed = -1", "one_cycle moves", "micro_batch = 65", "checkpoint = 'x'"], [],
    ),
    "a constraint on a value that is invalid by itself": (
        ["optimizer=sgd", "schedule=one_cycle", "optimizer.lr=-1", "batch_size=0", "micro_batch=65"],
        ["2 errors", "lr = -1", "batch_size = 0"], ["one_cycle moves", "micro_batch ="],
    ),
    "a wrong key that is swept": (["-m", "job.weigts=a,b"], ["job.weigts = 'a'", "unknown key"], []),
    "several values without -m": (["seed=1,2", "optimizer=adm"], ["'seed=1,2' is a sweep", "'adam'?"], []),
    "an unknown experiment": (["experiment=xyzzy", "data.root=x", "recipe.span=3"], ["experiment = 'xyzzy'"], ["data.root"]),
    "a sweep over an unknown option": (
        ["-m", "optimizer=adm,sgd", "seed=1,2", "epochs=0", "optimizer.momentum=3"], ["'adam'?", "epochs = 0"], ["momentum = "],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALL_AT_ONCE)
def test_all_errors_are_reported_together_and_valid_arguments_are_not(case, train):
    arguments, expected, unexpected = ALL_AT_ONCE[case]
    code, _, err = train(*arguments)
    assert code == 2
    assert all(text in err for text in expected), err
    assert not any(text in err for text in unexpected), err


@pytest.mark.parametrize("words", [
    ["resume=LONG"], ["job=predict", "checkpoint=LONG"], ["data=folder", "data.root=LONG/b"], ["output=LONG"],
    ["--config-dir", "LONG"], ["data=npz", "data.path=LONG"], ["job=compare", "runs=[LONG]"],
    ["output=" + "a/" * 3000],
], ids=lambda words: " ".join(words)[:40])  # fmt: skip
def test_a_path_that_is_too_long_is_answered_with_its_key(words, train):
    code, _, err = train(*(word.replace("LONG", 300 * "x") for word in words))
    assert (code, "is too long" in err, len(err.splitlines())) == (2, True, 1), err
    assert "=" not in words[-1] or err.startswith(words[-1].partition("=")[0])


@pytest.mark.parametrize("word", ["optimizer=sgd,adam", "data=mnist,fake", "regularizer=mixup,dropout", "epochs=1,2"])
def test_a_sweep_without_its_flag_is_a_single_error(word, train):
    code, _, err = train(word)
    assert code == 2
    assert err.startswith(f"'{word}' is a sweep; it needs -m\n  train -m ... runs each value")
    assert len(err.splitlines()) == 2


def test_settings_of_a_sweep_without_its_flag_are_an_error(train):
    code, _, err = train("sweep.resume=missing", "seed=1")
    assert code == 2
    assert err == "sweep.resume = 'missing': has an effect only with -m\n"


@pytest.mark.parametrize("words", [["seed=N"], ["epochs=N"], ["architecture.widths=[N]"], ["-m", "seed=N,1"]])
def test_an_integer_of_thousands_of_digits_is_an_error_in_words(words, train):
    code, _, err = train(*(word.replace("N", 5000 * "9") for word in words))
    assert code == 2
    assert "cannot be read: it holds an integer of thousands of digits" in err
    assert "quote" not in err
    assert len(err) < 500


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer._target_=torch.optim.RAdam", "optimizer.lr=0.1", "optimizer.betas=[0.8,0.9]"],
        [
            "optimizer.lr=0.1",
            "optimizer.betas=[0.8,0.9]",
            "optimizer._target_=torch.optim.RAdam",
            "~optimizer.momentum",
        ],
        ["optimizer={_target_:torch.optim.RAdam,lr:0.1,betas:[0.8,0.9]}"],
    ],
)
def test_a_class_that_is_typed_takes_the_keys_that_are_typed_and_none_of_the_option_before(words):
    node = {"_target_": "torch.optim.RAdam", "lr": 0.1, "betas": [0.8, 0.9]}
    assert load_config(words).tree["optimizer"] == node
    with pytest.raises(ConfigError) as wrong:
        load_config([*words, "optimizer.beta=3"])
    assert [(p.key, p.text, p.where) for p in wrong.value.problems] == [("optimizer.beta", "unknown key", "")]


def test_the_class_that_an_option_has_anyway_leaves_its_values():
    target = load_config(["optimizer=adam"]).tree["optimizer"]["_target_"]
    assert load_config(["optimizer=adam", f"optimizer._target_={target}"]).tree == load_config(["optimizer=adam"]).tree


@pytest.mark.parametrize("word", ["num_classes=10", "data.shuffle=true", "pin_memory=false", "verbose=1"])
def test_a_key_of_another_library_that_is_not_needed_is_answered_with_the_reason(word, train):
    code, _, err = train(word)
    assert code == 2
    assert "leave it out: " in err


@pytest.mark.parametrize("word", ["optimizer=LONG", "LONG=1", "LONG", "job.space.optimizer=choice(LONG)"])
def test_a_name_too_long_for_a_path_is_answered_as_any_other(word, train):
    code, _, err = train("job=search", word.replace("LONG", 300 * "x"))
    assert code == 2
    assert "path" not in err
    assert "Traceback" not in err


def test_a_required_key_that_is_given_is_not_reported_next_to_another_error(train, tmp_path):
    code, _, err = train("data=folder", f"data.root={tmp_path}", "augmentation=nonsense")
    assert code == 2
    assert "augmentation = 'nonsense'" in err
    assert "data.root" not in err


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_names_the_key_the_value_and_what_is_allowed(case, train, tmp_path):
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    arguments, expected = ERRORS[case]
    code, out, err = train(*arguments)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert "Error executing" not in err
    for text in expected:
        assert text in err, err
    assert sorted(tmp_path.iterdir()) == before, "something half-written was left behind"


def test_a_part_of_the_config_is_printed_resolved_and_with_what_was_left_out_of_an_experiment(train):
    assert train("--cfg", "job", "-p", "epochs")[:2] == (0, "15\n")
    assert train("--cfg", "job", "optimizer.lr=${epochs}", "--resolve", "-p", "optimizer.lr")[:2] == (0, "15\n")
    code, _, err = train("--cfg", "job", "optimizer.lr=${foo}", "--resolve")
    assert (code, "optimizer.lr" in err, "cannot be resolved" in err) == (2, True, True)
    _, out, _ = train("--cfg", "job", "experiment=cifar10_fast", "optimizer=adam", "-p", "optimizer.lr")
    assert out.startswith("# experiment=cifar10_fast: optimizer.lr, ")
    assert out.endswith("\n0.001\n")


@pytest.mark.slow
@pytest.mark.parametrize("job", ["plan", "evaluate"])
def test_a_closed_pipe_is_not_a_failure(job, train, tmp_path):
    """As in ``train job=evaluate | head -1``: the output is lost, the files are complete."""
    assert train(*SMALL, f"output={tmp_path / 'run'}")[0] == 0
    given = [*SMALL, "job=plan"] if job == "plan" else ["job=evaluate", f"checkpoint={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "trainer", *given, f"output={tmp_path / job}"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert result_of(tmp_path / job)["status"] == "finished"


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_invalid_commands_are_answered_without_importing_torch(every, tmp_path):
    """Errors that do not depend on data are reported before torch is imported, in less than a second."""
    script = (
        "import sys, json\nfrom trainer.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n    assert main(arguments) == 2, arguments\n"
        "    assert 'torch' not in sys.modules, arguments\n"
    )
    (tmp_path / "file").touch()
    commands = json.dumps([arguments for arguments, _ in ERRORS.values()][::every])
    done = subprocess.run([sys.executable, "-c", script, commands], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# Errors that depend on the data.
DATA_ERRORS = {
    "mixup with nothing to mix": (["regularizer=[mixup]", "batch_size=1", "architecture.norm=group"], ["nothing to mix"]),
    "batch norm with one value per channel": (
        ["data.count=60", "batch_size=10", "data.limit=41", "architecture=mlp", ],
        ["batch of one image", "single value per channel"],
    ),
    "early stopping without validation": (["data.validation=0", "regularizer=early_stopping"], ["validation images"]),
    "in memory where that is impossible": (["data.way=resident", "augmentation=elastic"], ["data.loading", "elastic has no"]),
    "no GPU": (["device=cuda:7"], ["device = 'cuda:7'"]),
    "unknown torchvision model": (["architecture=torchvision", "architecture.name=resnet19"], ["did you mean 'resnet18'"]),
    "unwritable output": (["output=/proc/nope"], ["output = '/proc/nope'", "cannot be written"]),
    "missing directory": (["data=folder", "data.root=nope"], ["data.root = 'nope'", "no such directory"]),
    "empty directory": (["data=folder", "data.root=empty"], ["data.root", "contains none"]),
    "one class": (["data=folder", "data.root=one"], ["contains only 'a'", "at least two"]),
    "a class without images": (["data=folder", "data.root=hollow"], ["class 'b' contains no images"]),
    "a broken image among good ones": (["data=folder", "data.root=broken"], ["broken/b/2.png", "on_error=skip"]),
    "no such array file": (["data=arrays", "data.path=nope.npz"], ["data.path = 'nope.npz'", "x_train"]),
    "cutout larger than the image": (["regularizer=[cutout]", "regularizer.cutout.length=16"], ["images of side 8"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA_ERRORS)
def test_errors_that_depend_on_the_data_are_reported_before_training(case, train, tmp_path):
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "one", ["a"])
    write_images(tmp_path / "hollow", ["a"])
    (tmp_path / "hollow" / "b").mkdir()
    write_images(tmp_path / "broken", ["a", "b"])
    (tmp_path / "broken/b/2.png").write_bytes(b"\x89PNG half an image")
    before = sorted(tmp_path.iterdir())
    arguments, expected = DATA_ERRORS[case]
    small = [o for o in SMALL if not (o.startswith("data.") and "data=" in " ".join(arguments)) or o == "data=fake"]
    if any(a.startswith("data=") for a in arguments):
        small = [o for o in small if not o.startswith("data=")]
    if any(a.startswith("architecture=") for a in arguments):
        small = [o for o in small if not o.startswith("architecture.")]
    code, _, err = train(*small, "regularizer=[]", *arguments)
    assert code == 2, err
    assert "Traceback" not in err
    for text in expected:
        assert text in err, err
    assert sorted(tmp_path.iterdir()) == before


def write_images(folder: Path, classes: list[str], count: int = 8) -> None:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            shade = 40 + 150 * classes.index(name) // max(len(classes) - 1, 1)
            image = np.clip(rng.normal(shade, 20, (20 + i, 24, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{i}.png"), image)


def test_help_lists_every_group_and_option_without_importing_what_takes_long(tmp_path):
    from trainer.config.options import OptionFiles
    from trainer.help import headline

    command = [sys.executable, "-X", "importtime", "-m", "trainer", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "omegaconf" in imported
    assert not imported & {"torch", "torchvision", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "hydra", "rich"}
    for group, files in OptionFiles().groups.items():
        assert f"\n{group} (" in done.stdout
        for option, file in files.items():
            assert f"  {option:<22}" in done.stdout
            assert headline(file), f"{file} has no headline"


def test_help_on_a_group_shows_each_parameter(train):
    code, out, _ = train("--help", "schedule=clr")
    assert code == 0
    assert "step_size: 2.5  # length of half a cycle" in out


def test_a_run_directory_contains_what_reproduces_and_describes_the_run(train, tmp_path):
    observers = "observer=[console,tensorboard,checkpoint,jsonl,report]"
    code, out, err = train(*STATEFUL, observers, "output=run", "seed=3")
    assert (code, err) == (0, "")
    run = tmp_path / "run"
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "overrides.txt", "environment.json", "history.jsonl", "checkpoints", "report.md", "report",
            "result.json"} <= names  # fmt: skip
    assert sum(name.startswith("events.") for name in names) == 1
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"last.pt", "best.pt", "previous.pt"}
    assert "seed=3" in (run / "overrides.txt").read_text().splitlines()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    rows = history_of(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    result = result_of(run)
    best = max(rows, key=lambda row: row["validation_accuracy"])
    assert result["best_epoch"] == best["epoch"]
    assert result["last_epoch"] == 3
    assert result["validation"]["accuracy"] == best["validation_accuracy"]
    assert result["validation"]["loss"] == best["validation_loss"]
    assert 0 <= result["test"]["accuracy"] <= 1
    assert result["stop_reason"] == "finished"
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0
    assert (run / "report/curves.png").read_bytes()[:4] == b"\x89PNG"
    assert len([line for line in out.splitlines() if line.strip()[:1].isdigit()]) >= 3, "one line per epoch"


def test_evaluate_reproduces_the_metrics_of_the_run(train):
    assert train(*STATEFUL, QUIET, "output=run")[0] == 0
    for weights, place in (("model", []), ("averaged", ["averaged"])):
        for split in ("test", "validation"):
            out = f"{weights}-{split}"
            call = ["job=evaluate", "checkpoint=run", f"job.weights={weights}", f"job.split={split}", f"output={out}"]
            assert train(*call)[0] == 0
            expected = result_of("run")
            for key in place:
                expected = expected[key]
            assert result_of(out)[split] | expected[split] == pytest.approx(result_of(out)[split])
    confusion = np.array(result_of("model-test")["confusion"])
    assert confusion.trace() / confusion.sum() == pytest.approx(result_of("run")["test"]["accuracy"])


def test_evaluate_normalizes_other_data_as_the_checkpoint_does(train, tmp_path):
    assert train(*SMALL, "data.channels=3", "output=run", "epochs=4")[0] == 0
    mean = load("run", "best")["info"]["mean"]
    write_images(tmp_path / "own", ["a", "b", "c"])
    call = ["job=evaluate", "checkpoint=run/checkpoints/best.pt", "data=folder", "data.root=own", "data.size=8"]
    assert train(*call, "output=evaluated", "job.split=train")[0] == 0
    assert result_of("evaluated")["train"]["loss"] > 0
    assert len(mean) == 3
    code, _, err = train(*call[:3], "data.root=own", "data.channels=1", "output=other")
    assert code == 2
    assert "has 1 channels, the checkpoint takes 3" in err


def test_a_truncated_checkpoint_is_reported_as_such(train, tmp_path):
    assert train(*SMALL, "output=run")[0] == 0
    whole = (tmp_path / "run/checkpoints/last.pt").read_bytes()
    (tmp_path / "run/checkpoints/last.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "run/checkpoints/previous.pt").unlink()
    code, _, err = train("resume=run", "epochs=2")
    assert code == 2
    assert "cut short or damaged" in err
    assert "best.pt" in err
    code, _, err = train("job=evaluate", "checkpoint=run/checkpoints/last.pt")
    assert code == 2
    assert "cut short or damaged" in err


def test_resume_refuses_changes_that_do_not_fit_the_checkpoint(train):
    assert train(*SMALL, "output=run")[0] == 0
    for arguments, expected in {
        ("optimizer=adam",): ["optimizer = 'adam'", "cannot be replaced"],
        ("output=other", "epochs=2"): ["continues in its own directory"],
        ("optimizer.beta=1", "epochs=2"): ["unknown key"],
        ("architecture.widths=[5]", "epochs=2"): ["does not fit"],
        ("epochs=2,3",): ["one value at a time"],
    }.items():
        code, _, err = train("resume=run", *arguments)
        assert code == 2, arguments
        for text in expected:
            assert text in err, err


def test_a_second_run_does_not_overwrite_the_first(train):
    assert train(*SMALL, "output=run")[0] == 0
    code, _, err = train(*SMALL, "output=run")
    assert code == 2
    assert "already contains a run" in err


def test_a_sweep_runs_every_job_and_reports_failures_also_by_its_exit_code(train, tmp_path):
    code, out, err = train("-m", *SMALL, "optimizer=sgd,momentum", "schedule=one_cycle,constant", "output=sweep")
    assert code == 1
    assert "#0 failed: schedule" in err
    assert "1 of 4 jobs failed" in err
    folders = sorted(p.name for p in (tmp_path / "sweep").iterdir() if p.is_dir())
    assert len(folders) == 4
    assert "optimizer=momentum" in folders[2]
    assert "optimizer=momentum,schedule=one_cycle" in out, "the table names what varies"
    statuses = [result_of(tmp_path / "sweep" / name)["status"] for name in folders]
    assert statuses == ["failed", "finished", "finished", "finished"]
    assert train("-m", *SMALL, "seed=0,1", "output=other")[0] == 0


def test_plan_trains_nothing_and_reports_steps_parameters_and_schedule(train, tmp_path):
    code, out, _ = train("job=plan", *STATEFUL, "output=plan")
    assert code == 0
    found = result_of("plan")
    assert found["steps"] == 3 * -(-found["images"]["train"] // 16)
    assert f"{found['parameters']:,} parameters" in out
    assert not (tmp_path / "plan/checkpoints").exists()
    for name in ("schedule.png", "batch.png"):
        assert cv2.imread(str(tmp_path / "plan" / name)).std() > 1, "an empty picture"


def test_options_of_the_user_come_from_config_dir_and_their_classes_from_target(train, tmp_path):
    (tmp_path / "mine/optimizer").mkdir(parents=True)
    (tmp_path / "mine/architecture").mkdir()
    (tmp_path / "mine/optimizer/rprop.yaml").write_text("# torch's.\n_target_: torch.optim.Rprop\nlr: 0.01\n")
    (tmp_path / "mine/architecture/own.yaml").write_text("# Mine.\n_target_: own_network.Own\nwidth: 5\n")
    (tmp_path / "mine/own_network.py").write_text(
        "from torch import nn\n\nclass Own(nn.Sequential):\n    def __init__(self, shape, num_classes, width):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(shape[0]*shape[1]*shape[2], width), nn.Linear(width, num_classes))\n"
    )
    own = ["--config-dir", "mine", "architecture=own", "optimizer=rprop"]
    small = [o for o in SMALL if "architecture" not in o]
    assert train(*own, *small, "output=run")[0] == 0
    assert load("run")["state"]["model"]["1.weight"].shape == (5, 8 * 8 * 3)
    code, _, err = train(*own, *small, "architecture.wdth=3")
    assert code == 2
    assert "did you mean 'width'" in err
    assert "own" in train("--help", "--config-dir", "mine")[1]


@pytest.mark.parametrize("same_as", [["data.loading=streaming", "data.num_workers=0"], ["observer=[]"], []])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(same_as, train):
    from trainer.builder import build
    from trainer.config.load import load_config
    from trainer.engine.loop import fit
    from trainer.observers.context import Context, build_observers

    overrides = [*STATEFUL, "augmentation=[elastic]"]  # by workers whatever their number
    weights = []
    for extra in (["data.num_workers=2"], ["data.num_workers=2", *same_as]):
        unique = {o.split("=")[0]: o for o in [*overrides, *extra]}
        config = load_config(list(unique.values()))
        run = build(config)
        watched = same_as == ["observer=[]"] and len(extra) == 1
        fit(run, build_observers(config.observer.values(), Context(run)) if watched else ())
        weights.append(run.state())
    for name, value in weights[0]["model"].items():
        assert torch.equal(value, weights[1]["model"][name]), name


def test_columns_of_a_table_may_be_a_name_a_list_or_a_table():
    from trainer.config.overrides import parse

    texts = {
        "a,b": "a,b",
        "[a,b]": ["a", "b"],
        "{a:regression,b:{kind:multilabel}}": {"a": "regression", "b": {"kind": "multilabel"}},
    }
    for text, value in texts.items():
        (item,), problems = parse([f"data.labels={text}"])
        assert item.value == value
        assert problems == []


def test_a_key_that_is_gone_is_ignored_with_the_reason_also_in_a_saved_config(train):
    observers = "observer=[histograms,checkpoint,history_file,console]"
    code, out, err = train(*SMALL, observers, "observer.histograms.budget=0.01", "output=run")
    assert code == 0, err
    assert (
        "observer.histograms.budget=0.01 is ignored: which steps are looked at no longer depends on the time"
        in out + err
    )
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("    every: 200\n", "    every: 200\n    budget: 0.004\n"))
    assert train("resume=run", "epochs=2")[0] == 0
    assert len(history_of("run")) == 2
    assert "budget: 0.004" not in config.read_text()


@pytest.mark.parametrize("arguments", [("--cfg", "job"), ("--help",)])
def test_a_pipe_that_closes_is_no_error(arguments, tmp_path):
    process = start(*arguments, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 120)


def test_paths_may_contain_spaces_and_letters_of_any_language(train, tmp_path):
    assert train(*SMALL, "output=my runs/été")[0] == 0
    assert result_of(tmp_path / "my runs" / "été")["status"] == "finished"
    assert train("resume=my runs/été", "epochs=2")[0] == 0
    assert len(history_of(tmp_path / "my runs" / "été")) == 2
    assert train("job=evaluate", "checkpoint=my runs/été", "output=an evaluation")[0] == 0
    assert train("-m", *SMALL, "seed=0,1", "output=a sweep")[0] == 0
    assert len(list((tmp_path / "a sweep").glob("*/result.json"))) == 2
    rng = np.random.default_rng(0)
    for kind in ("größer", "a b"):
        (tmp_path / "my pictures" / kind).mkdir(parents=True)
        for i in range(8):
            cv2.imwrite(str(tmp_path / "my pictures" / kind / f"{i}.png"), rng.integers(0, 256, (9, 9, 3), np.uint8))
    arguments = [w for w in SMALL if not w.startswith("data")]
    assert train(*arguments, "data=folder", "data.root=my pictures", "data.size=8", "batch_size=4", "output=f")[0] == 0


@pytest.mark.parametrize("text", ["optimizer: {lr: x", "- 1\n- 2\n", ""])
def test_resume_of_a_directory_with_a_broken_config_is_reported(text, train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text)
    code, _, err = train("resume=run")
    assert code == 2
    assert "Traceback" not in err
    assert err.strip()


def test_resume_without_the_last_checkpoint_does_not_overwrite_the_old_run(train, tmp_path):
    assert train(*SMALL, "output=run")[0] == 0
    for name in ("last.pt", "previous.pt"):
        (tmp_path / "run" / "checkpoints" / name).unlink()
    code, _, err = train("resume=run", "epochs=2")
    assert code == 2
    assert "last.pt is missing" in err
    assert len(history_of(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    "text", ["lr: [", "lr: 3\n", "# my.\n_target_: nope.Cls\nlr: 3\n", "# my.\n_target_: torch.optim.Nope\nlr: 3\n"]
)
def test_a_broken_option_of_the_user_is_reported_wherever_the_flag_stands(text, train, tmp_path):
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "x.yaml").write_text(text)
    for arguments in (["--config-dir", "mine", *SMALL, "optimizer=x"], [*SMALL, "--config-dir", "mine", "optimizer=x"]):
        code, _, err = train(*arguments)
        assert code == 2
        assert "Traceback" not in err
        assert "optimizer" in err or "mine" in err, err


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(0, int), "contains no images"),
        (np.arange(9) * 1000, "some of the 8001 classes, such as [1"),
        (None, "not an .npz file"),
    ],
)
def test_invalid_arrays_are_reported(labels, message, train, tmp_path):
    if labels is None:
        (tmp_path / "a.npz").write_text("hello")
    else:
        np.savez(tmp_path / "a.npz", x_train=np.zeros((len(labels), 5, 5), np.uint8), y_train=labels)
    code, _, err = train(*[w for w in SMALL if not w.startswith("data")], "data=arrays", "data.path=a.npz")
    assert code == 2
    assert "Traceback" not in err
    assert message in err


def test_a_run_with_soft_sharing_is_evaluated_without_its_reference(train, tmp_path):
    assert train(*SMALL, "output=first")[0] == 0
    best = tmp_path / "first" / "checkpoints" / "best.pt"
    near = ["regularizer=[soft_sharing]", f"regularizer.soft_sharing.reference={best}"]
    assert train(*SMALL, *near, "output=second")[0] == 0
    best.unlink()
    assert train("job=evaluate", "checkpoint=second", "output=evaluated")[0] == 0
    assert result_of("evaluated")["test"]["accuracy"] == result_of("second")["test"]["accuracy"]


def test_directories_named_after_overrides_can_be_resumed_and_evaluated(train, tmp_path):
    """Like run directories: outputs/<date>/<time>_optimizer=adam,seed=1."""
    folder = "outputs/12-00-00_optimizer=adam,seed=1"
    assert train(*SMALL, "optimizer=adam", f"output={folder}")[0] == 0
    assert train(f"resume={folder}", "epochs=2")[0] == 0
    assert len(history_of(tmp_path / folder)) == 2
    assert train("job=evaluate", f"checkpoint={folder}", "output=evaluated")[0] == 0


def test_test_time_augmentation_is_applied_and_recorded(train, tmp_path):
    arguments = ("data=fake", "data.size=8", "data.count=200", "architecture.widths=[4]", "epochs=1", "output=run")
    assert train(*arguments, "job.tta=mirror")[0] == 0
    result = result_of("run")
    assert result["tta"] == "mirror"
    found = {}
    for tta in ("none", "mirror"):
        assert train("job=evaluate", "checkpoint=run", f"job.tta={tta}", f"output={tta}")[0] == 0
        found[tta] = result_of(tta)
        assert found[tta]["tta"] == tta
    assert {k: found["mirror"]["test"][k] for k in result["test"]} == pytest.approx(result["test"], rel=1e-4)
    assert found["none"]["test"]["loss"] != found["mirror"]["test"]["loss"]


def test_a_range_test_of_a_billion_steps_is_refused(train):
    code, _, err = train("job=range_test", "job.steps=1000000000")
    assert code == 2
    assert "job.steps = 1000000000: must be an integer in [20, 5000]" in err


def test_help_finds_keys_and_options_by_their_names_alone(train):
    code, out, _ = train("--help", "lr")
    assert (code, "optimizer.lr=0.05  # peak learning rate" in out, "recipe.lr=auto" in out) == (0, True, True)
    assert train("--help", "epochs")[1].startswith("epochs: 15 ")
    assert train("--help", "clr")[1].startswith("schedule=clr\n")


def test_a_later_override_of_the_same_key_is_said_to_replace_the_earlier_one(train):
    code, out, _ = train(*SMALL, "job=plan", "regularizer=dropout", "regularizer=mixup", "seed=1", "seed=2")
    assert code == 0
    assert "seed=1 has no effect: seed=2 follows it" in out
    assert "regularizer=dropout has no effect: regularizer=mixup follows it; both: 'regularizer=[dropout,mixup]'" in out


def test_a_batch_is_at_most_all_training_images(train):
    code, out, _ = train(*SMALL, "job=plan", "batch_size=500", "output=plan")
    assert (code, result_of("plan")["batch_size"]) == (0, 43)
    assert "batch_size=500 is more than the 43 training images" in out


def test_a_run_without_observers_still_prints_its_result_and_directory(train):
    code, out, _ = train(*SMALL, "observer=[]", "output=quiet")
    assert code == 0
    assert out.startswith("finished, after ")
    assert out.endswith("run directory: quiet\n")


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["--version", "now"], "--version takes nothing else: 'now'"),
        (["-m", "--cfg", "job", "seed=0,1"], "--multirun and --cfg cannot be combined"),
        (["--resolve", "seed=1"], "--resolve has an effect only with --cfg"),
        (["--info", "--package", "optimizer"], "--package has an effect only with --cfg"),
    ],
)
def test_flags_and_words_that_would_be_ignored_are_errors(typed, text, train):
    code, out, err = train(*typed)
    assert (code, out) == (2, "")
    assert text in err


def test_the_version_names_torch_and_the_device_without_importing_torch(train):
    code, out, _ = train("--version")
    assert code == 0
    assert out.startswith("trainer ")
    assert f"torch {torch.__version__.split('+')[0]}, Python {sys.version.split()[0]}" in out
    assert "device: " in out
