"""Keys of an experiment are for the options it names: another option on the command line goes by its own file."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from trainer.config.compose import compose, fit_experiment
from trainer.config.options import CONF, composed
from trainer.config.validation import misread
from trainer.errors import ConfigError

FOLDERS = [CONF]


def notes_of(*overrides: str, folders: list[Path] = FOLDERS) -> list[str]:
    cfg, choices = composed(list(overrides), folders)
    return fit_experiment(cfg, choices, list(overrides), folders)


def own(group: str, option: str) -> dict:
    return OmegaConf.to_container(compose([f"{group}={option}"])[group])  # pyright: ignore[reportReturnType]


def test_an_experiment_as_it_is_keeps_every_key_and_says_nothing():
    words = ["experiment=cifar10_fast"]
    plain, _ = composed(words, FOLDERS)
    assert compose(words) == plain
    assert notes_of(*words) == []
    assert compose(words).optimizer.lr == 1.5
    assert compose(words).job.tta == "mirror_shift"


def test_another_optimizer_has_its_own_rate_and_not_the_experiments():
    assert OmegaConf.to_container(compose(["experiment=cifar10_fast", "optimizer=adam"]).optimizer) == own(
        "optimizer", "adam"
    )
    (note,) = notes_of("experiment=cifar10_fast", "optimizer=adam")
    assert note.startswith("experiment=cifar10_fast: optimizer.lr, ")
    assert note.endswith("are for nesterov, not for adam")


def test_the_same_option_named_again_changes_nothing():
    assert compose(["experiment=cifar10_fast", "optimizer=nesterov"]) == compose(["experiment=cifar10_fast"])


def test_what_the_command_says_of_another_option_holds():
    cfg = compose(["experiment=cifar10_fast", "optimizer=adam", "optimizer.lr=0.02", "~optimizer.weight_decay"])
    assert OmegaConf.to_container(cfg.optimizer) == {
        k: 0.02 if k == "lr" else v for k, v in own("optimizer", "adam").items() if k != "weight_decay"
    }


def test_what_the_command_says_of_another_option_in_braces_holds():
    cfg = compose(["experiment=cifar10_fast", "optimizer=adam", "optimizer={lr:0.3}"])
    assert cfg.optimizer == own("optimizer", "adam") | {"lr": 0.3}


def test_a_key_that_only_the_experiments_option_has_is_gone_with_it():
    assert dict(compose(["experiment=finetune", "recipe=transfer"]).recipe) == own("recipe", "transfer")
    assert notes_of("experiment=finetune", "recipe=transfer") == [
        "experiment=finetune: recipe.head_epochs is for finetune, not for transfer"
    ]


def test_keys_of_data_stay_where_the_other_data_set_has_them():
    """They mean the same everywhere: pretrained layers see pictures of 224 whichever these are."""
    cfg = compose(["experiment=finetune", "data=flowers102"])
    assert (cfg.data.size, cfg.data.normalize) == (224, "pretrained")
    assert cfg.data._target_ == own("data", "flowers102")["_target_"]
    assert set(cfg.data) == set(own("data", "flowers102")), "the folder's own keys are gone"
    assert compose(["experiment=finetune", "data=flowers102", "data.size=64"]).data.size == 64


def test_another_job_leaves_what_only_training_has():
    assert dict(compose(["experiment=cifar10_fast", "job=plan"]).job) == own("job", "plan")
    assert compose(["experiment=cifar10_fast", "job=evaluate"]).job.tta == "mirror_shift"


def test_options_of_a_list_that_are_not_taken_leave_no_keys():
    cfg = compose(["experiment=cifar10_fast", "augmentation=[flip]"])
    assert list(cfg.augmentation) == ["flip"]
    assert notes_of("experiment=cifar10_fast", "augmentation=[flip]") == [
        "experiment=cifar10_fast: augmentation.crop is not in use"
    ]
    assert list(compose(["experiment=cifar10_fast", "augmentation=flip"]).augmentation) == ["flip"]


def test_options_of_a_list_that_are_taken_keep_the_experiments_keys():
    assert compose(["experiment=cifar10_fast", "augmentation=[crop,rotation]"]).augmentation.crop.padding == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["experiment=finetune", "recipe=transfer", "recipe.head_epochs=3"],
            "recipe.head_epochs = '3': there is no such key",
        ),
        (
            ["experiment=cifar10_fast", "augmentation=[flip]", "augmentation.crop.padding=3"],
            "augmentation.crop.padding = '3': crop is not in use here",
        ),
    ],
    ids=["an option", "an option of a list"],
)
def test_a_key_typed_for_an_option_that_is_not_taken_is_still_a_mistake(words, told):
    with pytest.raises(ConfigError, match=r"there|use") as caught:
        compose(words)
    assert told in str(caught.value)


def test_a_users_experiment_that_inherits_one_is_understood(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\ndefaults:\n  - finetune\n  - override /optimizer: momentum\n"
        "optimizer:\n  lr: 0.3\nrecipe:\n  span: 5\n"
    )
    folders = [CONF, tmp_path]
    assert compose(["experiment=mine"], folders).optimizer.lr == 0.3
    cfg = compose(["experiment=mine", "optimizer=adam", "recipe=gradual"], folders)
    assert OmegaConf.to_container(cfg.optimizer) == own("optimizer", "adam")
    assert OmegaConf.to_container(cfg.recipe) == own("recipe", "gradual")


def experiments_of(folder: Path, **files: str) -> list[Path]:
    (folder / "experiment").mkdir()
    for name, text in files.items():
        (folder / "experiment" / f"{name}.yaml").write_text("# @package _global_\n# Mine.\n" + text)
    return [CONF, folder]


def test_an_experiment_that_takes_another_option_than_the_one_it_builds_on_leaves_that_ones_keys(tmp_path):
    folders = experiments_of(
        tmp_path,
        mine="defaults:\n  - cifar10_fast\n  - override /optimizer: adam\n  - override /schedule: [clr]\n"
        "optimizer:\n  lr: 0.005\n",
    )
    cfg = compose(["experiment=mine"], folders)
    assert OmegaConf.to_container(cfg.optimizer) == own("optimizer", "adam") | {"lr": 0.005}
    assert list(cfg.schedule) == ["clr"]
    assert notes_of("experiment=mine", folders=folders) == [
        "experiment=cifar10_fast: optimizer.lr, momentum, weight_decay, bias_lr_mult are for nesterov, not for adam",
        "experiment=mine: schedule.one_cycle is not in use",
    ]
    back = compose(["experiment=mine", "optimizer=nesterov"], folders)
    assert back.optimizer == compose(["experiment=cifar10_fast"]).optimizer, "the elder's keys are for this one"
    assert compose(["experiment=mine", "optimizer=adam", "optimizer.lr=0.1"], folders).optimizer.lr == 0.1


def test_a_key_that_is_a_table_is_a_key_and_no_option_left_over(tmp_path):
    folders = experiments_of(tmp_path, mine="optimizer:\n  extra:\n    a: 1\n")
    assert compose(["experiment=mine"], folders).optimizer.extra == {"a": 1}
    assert notes_of("experiment=mine", folders=folders) == []


def test_an_interpolation_on_the_command_line_sees_the_config_that_runs(train):
    words = ["experiment=cifar10_fast", "optimizer=adam", "optimizer.weight_decay=${optimizer.lr}", "data=fake"]
    code, _, err = train(*words, "data.count=2000", "job=plan", "output=plan")
    assert code == 0, err
    assert OmegaConf.load("plan/config.yaml").optimizer.weight_decay == 0.001
    assert "optimizer.weight_decay=${optimizer.lr}" in Path("plan/overrides.txt").read_text()


def test_an_experiment_whose_file_hydra_would_put_elsewhere_is_told(tmp_path):
    (file,) = experiments_of(tmp_path, mine="epochs: 3\n")[1].glob("*/*.yaml")
    assert compose(["experiment=mine"], [CONF, tmp_path]).epochs == 3
    file.write_text("# Mine.\nepochs: 3\n")
    for words in (["experiment=mine"], ["experiment=cifar10_fast,mine"]):
        assert [p.allowed for p in misread(words, [CONF, tmp_path])] == [
            "its file has to begin with the line '# @package _global_'"
        ]
    with pytest.raises(ConfigError, match="'# @package _global_'"):
        compose(["experiment=mine"], [CONF, tmp_path])


def test_a_run_says_which_keys_it_left_out(train):
    words = ["experiment=cifar10_fast", "optimizer=adam", "data=fake", "data.count=2000", "job=plan", "output=plan"]
    code, out, err = train(*words)
    assert code == 0, err
    assert "experiment=cifar10_fast: optimizer.lr" in out
