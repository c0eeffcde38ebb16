"""The JSON schema for editors, read by another implementation: the package jsonschema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from trainer.config.load import load_config
from trainer.config.options import CONF, LISTS, SINGLE, option_files
from trainer.editor_schema import editor_schema


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    tree = json.loads(json.dumps(editor_schema(option_files([]))))
    jsonschema.Draft7Validator.check_schema(tree)
    return jsonschema.Draft7Validator(tree)


def errors(schema: jsonschema.Draft7Validator, tree: object) -> list[str]:
    return [f"{list(error.absolute_path)}: {error.message[:200]}" for error in schema.iter_errors(tree)]


def test_every_option_file_and_every_experiment_is_valid(schema):
    files = sorted(CONF.rglob("*.yaml"))
    assert len(files) > 100
    found = {file.name: errors(schema, yaml.safe_load(file.read_text())) for file in files}
    assert {name: messages for name, messages in found.items() if messages} == {}


def test_the_config_of_a_run_is_valid(schema):
    tree = load_config(
        ["schedule=[warmup,clr]", "regularizer=[mixup]", "augmentation=[rotation]", "optimizer=adam"]
    ).tree
    assert errors(schema, json.loads(json.dumps(tree))) == []


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"_target_": "trainer.optimizers.Adam", "lr": -1}, "['lr']"),
        ({"_target_": "trainer.optimizers.Adam", "learning_rate": 0.1}, "learning_rate"),
        ({"_target_": "trainer.optimizers.Adam", "betas": [0.9, 1.5]}, "['betas']"),
        ({"dropout": {"_target_": "trainer.regularizers.Dropout", "p": 2}}, "['dropout', 'p']"),
        ({"epochs": "ten"}, "['epochs']"),
        ({"optimizer": {"_target_": "trainer.optimizers.SGD", "lr": "fast"}}, "['optimizer', 'lr']"),
        (
            {"schedule": {"warmup": {"_target_": "trainer.schedules.Warmup", "epochs": -1}}},
            "['schedule', 'warmup', 'epochs']",
        ),
        ([1, 2], "[]"),
    ],
)
def test_values_out_of_range_and_unknown_keys_are_reported_where_they_are(schema, tree, place):
    found = errors(schema, tree)
    assert len(found) == 1
    assert place in found[0]


@pytest.mark.parametrize(
    "tree",
    [
        {"_target_": "my_module.Lion", "anything": [1, {"a": 2}]},
        {"ramp": {"_target_": "ramp.ramp", "_partial_": True, "start": 0.1}},
        {"_target_": "trainer.optimizers.Adam", "lr": "${seed}"},
        {"_target_": "trainer.data.Folder", "root": "???"},
        {"defaults": [{"override /optimizer": "my_own"}, "_self_"], "optimizer": {"any": 1}},
    ],
)
def test_own_components_and_what_is_filled_in_later_are_valid(schema, tree):
    assert errors(schema, tree) == []


def test_every_parameter_has_its_meaning_and_every_group_its_options(schema):
    adam = schema.schema["definitions"]["trainer.optimizers.Adam"]["properties"]
    assert adam["lr"]["description"].startswith("peak learning rate")
    choices = schema.schema["else"]["properties"]["defaults"]["items"]["anyOf"][1]["properties"]
    assert {f"override /{group}" for group in (*SINGLE, *LISTS)} <= set(choices)


def test_the_command_prints_the_schema_without_loading_torch(train):
    code, out, _ = train("schema")
    assert (code, json.loads(out)["$schema"]) == (0, "http://json-schema.org/draft-07/schema#")
    code, _, err = train("schema", "optimizer")
    assert (code, "takes no arguments" in err) == (2, True)


@pytest.mark.slow
def test_the_schema_needs_no_torch(tmp_path: Path):
    code = "import sys; from trainer.cli import main; main(['schema']); assert 'torch' not in sys.modules"
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
