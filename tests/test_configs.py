"""The option files: each composes, resolves, explains itself, and says all that its class can be told."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from trainer.config.constraints import check_config
from trainer.config.instantiate import External, locate
from trainer.config.load import load_config
from trainer.config.options import CONF, LISTS, SINGLE, headline, options
from trainer.errors import ConfigError

OPTIONS = [(group, name) for group, files in options([CONF]).items() for name in files if group != "experiment"]
EXPERIMENTS = list(options([CONF])["experiment"])
# What an option cannot do without.
BESIDE = {
    ("data", "folder"): ["data.root=x"],
    ("data", "arrays"): ["data.path=x.npz"],
    ("initialization", "pretrained"): ["initialization.path=x"],
    ("schedule", "one_cycle"): ["optimizer=momentum"],
    ("augmentation", "flip"): ["data=cifar10"],
    ("augmentation", "vertical_flip"): ["data=cifar10"],
}


def file_of(group: str, name: str) -> Path:
    return CONF / group / f"{name}.yaml"


def lines_of(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.strip()]


def test_every_group_of_the_grammar_has_options():
    assert {group for group, _ in OPTIONS} == {*SINGLE, *LISTS}


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_resolves_to_an_object_of_its_class(group, name):
    choice = f"{group}=[{name}]" if group in LISTS else f"{group}={name}"
    try:
        config = load_config([choice, *BESIDE.get((group, name), [])])
    except ConfigError as error:
        pytest.fail(str(error))
    node = config.lists[group] if group in LISTS else {name: config.single[group]}
    for option in node.values():
        assert isinstance(option, External) or dataclasses.is_dataclass(option) or option is None


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_file_gives_every_parameter_with_a_comment(group, name):
    file = file_of(group, name)
    tree = yaml.safe_load(file.read_text())
    nodes = [tree] if "_target_" in tree else [v for v in tree.values() if isinstance(v, dict) and "_target_" in v]
    if "defaults" in tree:
        return  # a preset: what it takes over is commented in the options it is made of
    for node in nodes:
        target = locate(node["_target_"])
        if dataclasses.is_dataclass(target):
            names = {f.name for f in dataclasses.fields(target) if f.init}
        else:
            names = {n for n, p in inspect.signature(target).parameters.items() if p.kind is not p.VAR_KEYWORD}
        given = node.keys() - {"_target_"}
        assert given <= names, "keys the class does not take"
        if dataclasses.is_dataclass(target):
            assert names <= given, "parameters the file does not show"
    for line in lines_of(file):
        if re.match(r"\s*\w+:\s*\S", line) and "_target_" not in line and not line.startswith("defaults"):
            assert re.search(r"\s{2}# \S", line), f"{file.name}: {line!r} has no comment"


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_the_first_line_of_an_option_file_is_a_sentence(group, name):
    text = headline(file_of(group, name))
    assert 15 <= len(text) <= 130
    assert text.endswith(".")


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_the_values_of_an_option_file_are_those_of_its_class(group, name):
    """Where a file's value differs from the class's own, the option is a variant and is named otherwise."""
    tree = yaml.safe_load(file_of(group, name).read_text())
    if "_target_" not in tree:
        return
    target = locate(tree["_target_"])
    if not dataclasses.is_dataclass(target) or target.__name__.lower() != name.replace("_", ""):
        return
    for field in dataclasses.fields(target):
        if field.init and field.default is not dataclasses.MISSING:
            value = tree[field.name]
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            if isinstance(default, float):
                assert value == pytest.approx(default, rel=2e-3), field.name
            elif not (isinstance(value, str) and value.startswith("${")):
                assert value == default, field.name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_carries_its_header_and_resolves(name):
    text = file_of("experiment", name).read_text()
    assert text.startswith("# @package _global_\n")
    for word in ("source", "claim", "expected", "command", "cost"):
        assert f"# {word}: " in text
    assert f"experiment={name}" in text
    yours = [f"{key}=yours" for key in OmegaConf.missing_keys(compose([f"experiment={name}"]))]
    config = load_config([f"experiment={name}", *yours])
    assert not check_config(config)


def test_every_setting_of_train_yaml_is_known_to_the_settings_class():
    tree = yaml.safe_load((CONF / "train.yaml").read_text())
    from trainer.config.schema import Settings

    assert set(tree) - {"defaults", "hydra"} == {f.name for f in dataclasses.fields(Settings)}
