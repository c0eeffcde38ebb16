"""Experiments are overrides in front of the user's: keys of an option that the user replaced are left out and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from trainer.config.compose import resolve
from trainer.config.load import load_config, prepare
from trainer.config.options import OptionFiles
from trainer.errors import ConfigError


def compose(*overrides: str, directory: Path | None = None, defaults: tuple[str, ...] = ()) -> Any:
    """The config that would run, its values accessible as attributes."""
    files = OptionFiles([directory] if directory else [])
    return OmegaConf.create(resolve(prepare(overrides, files, defaults).compose())[0])


def notes(*overrides: str, directory: Path | None = None, defaults: tuple[str, ...] = ()) -> list[str]:
    return prepare(overrides, OptionFiles([directory] if directory else []), defaults).notes


def option(group: str, name: str) -> dict[str, Any]:
    """The keys of an option as its file has them."""
    return OptionFiles().keys(group, [name])


def experiments(directory: Path, **files: str) -> Path:
    """A config directory with these experiments."""
    (directory / "experiment").mkdir()
    for name, text in files.items():
        (directory / "experiment" / f"{name}.yaml").write_text("# @package _global_\n# A test.\n" + text)
    return directory


def test_an_experiment_sets_its_options_and_keys_without_a_note():
    config = compose("experiment=cifar10_fast")
    assert notes("experiment=cifar10_fast") == []
    assert config.optimizer == option("optimizer", "nesterov") | {
        "lr": 1.5, "momentum": 0.85, "weight_decay": 0.0013, "bias_lr_mult": 64.0,
    }  # fmt: skip
    assert config.job.tta == "mirror_shift"
    assert list(config.augmentation) == ["crop", "flip"]
    assert (config.epochs, config.batch_size, config.metric) == (15, 1024, "train_accuracy")


def test_an_experiment_composes_to_what_hydra_itself_makes_of_its_file():
    """Hydra merges the file natively; our layers give the same, for every experiment of the package."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from trainer.config.options import CONF

    for name in OptionFiles().groups["experiment"]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            native = OmegaConf.to_container(hydra_compose("train", overrides=[f"experiment={name}"]))
        ours = prepare([f"experiment={name}"], OptionFiles()).compose()
        assert {key: value for key, value in ours.items() if value != {}} == native


def test_another_optimizer_has_its_own_learning_rate_and_not_that_of_the_experiment():
    assert compose("experiment=cifar10_fast", "optimizer=adam").optimizer == option("optimizer", "adam")
    assert notes("experiment=cifar10_fast", "optimizer=adam") == [
        "experiment=cifar10_fast: optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.bias_lr_mult "
        "not used: set for optimizer=nesterov"
    ]


def test_naming_the_option_of_the_experiment_again_changes_nothing():
    assert compose("experiment=cifar10_fast", "optimizer=nesterov") == compose("experiment=cifar10_fast")


def test_overrides_of_the_user_apply_to_the_option_of_the_user():
    words = ("experiment=cifar10_fast", "optimizer=adam", "optimizer.lr=0.02", "~optimizer.weight_decay")
    expected = {k: 0.02 if k == "lr" else v for k, v in option("optimizer", "adam").items() if k != "weight_decay"}
    assert compose(*words).optimizer == expected
    table = compose("experiment=cifar10_fast", "optimizer=adam", "optimizer={lr:0.3}")
    assert table.optimizer == option("optimizer", "adam") | {"lr": 0.3}


def test_a_key_that_only_the_option_of_the_experiment_has_is_left_out_with_it():
    assert compose("experiment=finetune", "recipe=transfer", "data.root=x").recipe == option("recipe", "transfer")
    assert notes("experiment=finetune", "recipe=transfer") == [
        "experiment=finetune: recipe.head_epochs not used: set for recipe=finetune"
    ]


def test_keys_of_data_stay_where_another_data_set_has_them():
    """They mean the same everywhere: pretrained layers expect images of 224 pixels whichever these are."""
    config = compose("experiment=finetune", "data=flowers102")
    assert (config.data.size, config.data.normalize) == (224, "pretrained")
    assert config.data._target_ == option("data", "flowers102")["_target_"]
    assert set(config.data) == set(option("data", "flowers102")), "the keys of the folder are gone"
    assert compose("experiment=finetune", "data=flowers102", "data.size=64").data.size == 64


def test_another_job_leaves_out_the_keys_that_only_training_has():
    assert compose("experiment=cifar10_fast", "job=plan").job == option("job", "plan")
    assert compose("experiment=cifar10_fast", "job=evaluate").job.tta == "mirror_shift"


def test_options_of_a_list_that_are_not_enabled_leave_no_keys():
    assert list(compose("experiment=cifar10_fast", "augmentation=[flip]").augmentation) == ["flip"]
    assert list(compose("experiment=cifar10_fast", "augmentation=flip").augmentation) == ["flip"]
    assert notes("experiment=cifar10_fast", "augmentation=[flip]") == [
        "experiment=cifar10_fast: augmentation.crop.padding, augmentation.crop.fill not used: crop is not enabled"
    ]


def test_options_of_a_list_that_are_enabled_keep_the_keys_of_the_experiment():
    assert compose("experiment=cifar10_fast", "augmentation=[crop,rotation]").augmentation.crop.padding == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=finetune", "recipe=transfer", "recipe.head_epochs=3"], "recipe.head_epochs = 3: unknown key"),
        (
            ["experiment=cifar10_fast", "augmentation=[flip]", "augmentation.crop.padding=3"],
            "augmentation.crop.padding = 3: crop is not enabled",
        ),
    ],
    ids=["an option", "an option of a list"],
)
def test_a_key_typed_for_an_option_that_is_not_chosen_is_an_error(overrides, message):
    with pytest.raises(ConfigError) as raised:
        compose(*overrides)
    assert message in str(raised.value)


def test_an_experiment_of_the_user_inherits_from_one_of_the_package(tmp_path):
    text = (
        "defaults:\n  - finetune\n  - override /optimizer: momentum\noptimizer:\n  lr: 0.3\nrecipe:\n  head_epochs: 5\n"
    )
    directory = experiments(tmp_path, mine=text)
    assert compose("experiment=mine", "data.root=x", directory=directory).optimizer.lr == 0.3
    config = compose("experiment=mine", "optimizer=adam", "recipe=gradual", "data.root=x", directory=directory)
    assert config.optimizer == option("optimizer", "adam")
    assert config.recipe == option("recipe", "gradual")


def test_an_experiment_that_replaces_an_option_of_its_parent_leaves_out_the_keys_of_that(tmp_path):
    text = (
        "defaults:\n  - cifar10_fast\n  - override /optimizer: adam\n  - override /schedule: [clr]\n"
        "optimizer:\n  lr: 0.005\n"
    )
    directory = experiments(tmp_path, mine=text)
    config = compose("experiment=mine", directory=directory)
    assert config.optimizer == option("optimizer", "adam") | {"lr": 0.005}
    assert list(config.schedule) == ["clr"]
    first, second = notes("experiment=mine", directory=directory)
    assert first.startswith("experiment=cifar10_fast: optimizer.lr, ")
    assert second.startswith("experiment=cifar10_fast: schedule.one_cycle.rise, ")
    parent = compose("experiment=mine", "optimizer=nesterov", directory=directory)
    assert parent.optimizer == compose("experiment=cifar10_fast").optimizer, "the keys of the parent are for this one"
    assert compose("experiment=mine", "optimizer=adam", "optimizer.lr=0.1", directory=directory).optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer:\n  lrr: 0.1\n", "optimizer.lrr = 0.1: unknown key\n  did you mean 'lr'?"),
        ("optimizer:\n  extra:\n    a: 1\n", "optimizer.extra = {'a': 1}: unknown key"),
        ("defaults:\n  - override /optimizer: adm\n", "optimizer = 'adm': must be one of adadelta"),
        ("defaults:\n  - mine\n", "inherits from itself: mine -> mine"),
        ("epochs: [\n", "cannot be read"),
    ],
)
def test_errors_in_the_file_of_an_experiment_name_the_experiment(text, message, tmp_path):
    directory = experiments(tmp_path, mine=text)
    with pytest.raises(ConfigError) as raised:
        compose("experiment=mine", directory=directory)
    assert message in str(raised.value)
    assert "mine" in str(raised.value)


def test_a_file_that_does_not_begin_as_an_experiment_is_an_error(tmp_path):
    directory = experiments(tmp_path, mine="epochs: 3\n")
    assert compose("experiment=mine", directory=directory).epochs == 3
    (directory / "experiment/mine.yaml").write_text("# A test.\nepochs: 3\n")
    with pytest.raises(ConfigError, match="'# @package _global_'"):
        compose("experiment=mine", directory=directory)


def test_interpolations_of_an_experiment_see_the_config_that_runs(tmp_path):
    directory = experiments(tmp_path, mine="optimizer:\n  weight_decay: ${optimizer.lr}\n")
    assert compose("experiment=mine", "optimizer.lr=0.25", directory=directory).optimizer.weight_decay == 0.25


def test_an_interpolation_on_the_command_line_sees_the_config_that_runs(train):
    words = ["experiment=cifar10_fast", "optimizer=adam", "optimizer.weight_decay=${optimizer.lr}", "data=fake"]
    code, _, err = train(*words, "data.count=2000", "job=plan", "output=plan")
    assert code == 0, err
    assert OmegaConf.load("plan/config.yaml").optimizer.weight_decay == 0.001
    assert "optimizer.weight_decay=${optimizer.lr}" in Path("plan/overrides.txt").read_text()


def test_a_run_reports_which_keys_of_its_experiment_are_not_used(train):
    words = ["experiment=cifar10_fast", "optimizer=adam", "data=fake", "data.count=2000", "job=plan", "output=plan"]
    code, out, err = train(*words)
    assert code == 0, err
    assert "experiment=cifar10_fast: optimizer.lr" in out


def test_cfg_job_prints_the_config_that_runs(train):
    words = ["experiment=cifar10_fast", "optimizer=adam", "data=fake", "data.count=2000"]
    code, printed, err = train("--cfg", "job", *words)
    assert (code, err) == (0, "")
    assert train(*words, "job=plan", "output=plan")[0] == 0
    ran = OmegaConf.to_container(OmegaConf.load("plan/config.yaml"))
    shown = OmegaConf.to_container(OmegaConf.create(printed), resolve=True)
    differing = {key for key in {*ran, *shown} if ran.get(key) != shown.get(key)}
    assert differing <= {"job", "output", "experiment"}


def test_default_overrides_are_stronger_than_an_experiment_and_weaker_than_the_command(monkeypatch, train):
    defaults = ("epochs=2", "data.limit=64", "observer=[checkpoint]")
    assert compose("experiment=mnist5k_augmented", defaults=defaults).epochs == 2
    config = compose("experiment=mnist5k_augmented", "epochs=3", defaults=defaults)
    assert (config.epochs, config.data.limit, list(config.observer)) == (3, 64, ["checkpoint"])
    assert config.batch_size == compose("experiment=mnist5k_augmented").batch_size
    monkeypatch.setenv("TRAINER_OVERRIDES", "epochs=4 data=fake")
    assert "epochs: 4" in train("--cfg", "job")[1]


def test_default_overrides_that_do_not_apply_are_left_out():
    config = load_config(["optimizer=adam"], defaults=["optimizer.momentum=0.5", "optimizer.nonsense=3"])
    assert config.optimizer.lr == 0.001
