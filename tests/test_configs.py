"""The option files: each composes and instantiates, documents itself, and lists every parameter of its class."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from trainer.config.load import load_config, prepare
from trainer.config.options import CONF, LISTS, SINGLE, OptionFiles
from trainer.construct import locate
from trainer.errors import ConfigError
from trainer.help import headline
from trainer.instantiate import External
from trainer.parameters import parameters
from trainer.settings import Settings

FILES = OptionFiles()
OPTIONS = [(group, name) for group, files in FILES.groups.items() for name in files if group != "experiment"]
EXPERIMENTS = list(FILES.groups["experiment"])
# Overrides that an option requires.
REQUIRED = {
    ("data", "folder"): ["data.root=x"],
    ("data", "arrays"): ["data.path=x.npz"],
    ("data", "table"): ["data.path=x.csv"],
    ("job", "predict"): ["job.images=-"],
    ("initialization", "pretrained"): ["initialization.path=x"],
    ("schedule", "one_cycle"): ["optimizer=momentum"],
    ("augmentation", "flip"): ["data=cifar10"],
    ("augmentation", "vertical_flip"): ["data=cifar10"],
    ("augmentation", "cifar"): ["data=cifar10"],
    ("augmentation", "imagenet"): ["data=cifar10"],
}


def option_file(group: str, name: str) -> Path:
    return CONF / group / f"{name}.yaml"


def content_lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.strip()]


def test_every_group_of_the_grammar_has_options():
    assert {group for group, _ in OPTIONS} == {*SINGLE, *LISTS}


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_becomes_an_object_of_its_class(group, name, monkeypatch):
    if name == "ddp":
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "0")
    choice = f"{group}=[{name}]" if group in LISTS else f"{group}={name}"
    try:
        config = load_config([choice, *REQUIRED.get((group, name), [])])
    except ConfigError as error:
        missing = [problem.key for problem in error.problems]
        if missing not in (["checkpoint"], ["run"], ["runs"]):
            pytest.fail(str(error))
        job = locate(FILES.keys(group, [name])["_target_"], group)
        if not (job.needs_checkpoint if missing == ["checkpoint"] else missing[0] in job.reads):
            pytest.fail(f"a job that reads no {missing[0]} asks for it")
        return
    value = getattr(config, group)
    node = value if group in LISTS else {name: value}
    for option in node.values():
        assert isinstance(option, External) or dataclasses.is_dataclass(option) or option is None


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_option_file_gives_every_parameter_with_a_comment(group, name):
    file = option_file(group, name)
    tree = yaml.safe_load(file.read_text())
    nodes = [tree] if "_target_" in tree else [v for v in tree.values() if isinstance(v, dict) and "_target_" in v]
    if "defaults" in tree:
        return  # a preset: its parameters are commented in the options it consists of
    for node in nodes:
        target = locate(node["_target_"], group)
        if dataclasses.is_dataclass(target):
            names = {f.name for f in dataclasses.fields(target) if f.init}
        else:
            names = {n for n, p in inspect.signature(target).parameters.items() if p.kind is not p.VAR_KEYWORD}
        given = node.keys() - {"_target_"}
        assert given <= names, "keys the class does not take"
        if dataclasses.is_dataclass(target):
            assert names <= given, "parameters the file does not show"
    for line in content_lines(file):
        if re.match(r"\s*\w+:\s*\S", line) and "_target_" not in line and not line.startswith("defaults"):
            assert re.search(r"\s{2}# \S", line), f"{file.name}: {line!r} has no comment"


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_the_first_line_of_an_option_file_is_a_sentence(group, name):
    text = headline(option_file(group, name))
    assert 15 <= len(text) <= 130
    assert text.endswith(".")


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_the_values_of_an_option_file_are_those_of_its_class(group, name):
    """Where a file's value differs from the class's own, the option is a variant and is named otherwise."""
    tree = yaml.safe_load(option_file(group, name).read_text())
    if "_target_" not in tree:
        return
    target = locate(tree["_target_"], group)
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
def test_an_experiment_has_its_header_and_loads(name):
    text = option_file("experiment", name).read_text()
    assert text.startswith("# @package _global_\n")
    for word in ("source", "claim", "expected", "command", "cost"):
        assert f"# {word}: " in text
    assert f"experiment={name}" in text
    tree = OmegaConf.create(prepare([f"experiment={name}"], FILES).compose())
    load_config([f"experiment={name}", *(f"{key}=given" for key in OmegaConf.missing_keys(tree))])


def test_every_setting_of_train_yaml_is_a_parameter_of_settings():
    assert list(FILES.settings) == [parameter.name for parameter in parameters(Settings)]
    assert FILES.settings == {p.name: p.default for p in parameters(Settings)}
