"""Names of other libraries, options of other groups and paths, and what is answered to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import pytest

from trainer import suggestions, synonyms
from trainer.config.load import load_config
from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.errors import ConfigError, edits, most_similar
from trainer.formats import JsonObject
from trainer.tree import table

FILES = OptionFiles()

# What is typed, and what is answered.
ANSWERS = {
    "augmentation=mixup": "did you mean regularizer=mixup?",
    "optimizer=cosine": "did you mean schedule=cosine?",
    "regularizer=[early_stopping,flip]": "did you mean augmentation=flip?",
    "regularizer=weight_decay": "did you mean optimizer.weight_decay=0.0005?",
    "data=./photos": "did you mean data=folder data.root=./photos?",
    "data=photos.npz": "did you mean data=arrays data.path=photos.npz?",
    "data=photos/labels.csv": "did you mean data=table data.path=photos/labels.csv?",
    "initialization=runs/best.pt": "did you mean initialization=pretrained initialization.path=runs/best.pt?",
    "architecture=resnet18.pth": "architecture=torchvision architecture.name=<model> architecture.weights=resnet18.pth",
    "optimizer=mine/optimizer/lion.yaml": "did you mean --config-dir mine optimizer=lion?",
    "config=best.yaml": "did you mean --config-dir <directory> experiment=best with the file in <directory>/experiment?",
    "architecture=resnet18": "did you mean architecture=torchvision architecture.name=resnet18?",
    "model=resnet18": "did you mean architecture=torchvision architecture.name=resnet18?",
    "model=nothing": "architecture=..., of which train --help architecture lists the options",
    "model.name=resnet18": "did you mean architecture.name=resnet18?",
    "dataset=mnist": "did you mean data=mnist?",
    "amp=true": "did you mean precision=bf16?",
    "lr_scheduler=CosineAnnealingLR": "did you mean schedule=cosine?",
    "optimizer=AdamW": "did you mean 'adamw'?",
    "optimizer=sgdm": "did you mean 'momentum'?",
    "loss=ce": "did you mean task.loss=ce?",
    "trainer.max_epochs=5": "did you mean epochs=5?",
    "data.val_split=0.2": "did you mean data.validation=0.2?",
    "schedule=step schedule.step.step_size=3": "did you mean 'every'?",
    "regularizer=dropout regularizer.dropout.rate=0.3": "did you mean 'p'?",
    "data=cifar": "did you mean 'cifar10'?",
    "data=~/photos": "did you mean data=folder data.root=~/photos?",
    "adam.lr=0.1": "did you mean optimizer=adam optimizer.lr=0.1?",
    "optimizer.seed=1": "did you mean 'seed'?",
    "job=train": "did you mean 'fit'?",
    "job=test": "did you mean job=evaluate checkpoint=<run directory>?",
    "initialization=he": "did you mean 'kaiming_normal'?",
    "gpus 2": "did you mean: train device=cuda",
    "--gpus=2": "did you mean: train device=cuda",
    "--fp16": "did you mean: train precision=fp16",
    "lr_scheduler cosine": "did you mean: train schedule=cosine",
    "--data ./photos": "did you mean: train data=folder data.root=./photos",
    "--max-epochs 3": "did you mean: train epochs=3",
    "list": "did you mean: train --help",
    "test": "did you mean: train job=evaluate checkpoint=<run directory>",
    "init": "train --help lists what there is",
}  # fmt: skip


@pytest.mark.parametrize("typed", ANSWERS)
def test_names_of_other_libraries_and_groups_and_paths_are_answered_with_what_was_meant(typed):
    with pytest.raises(ConfigError) as caught:
        load_config(typed.split())
    assert ANSWERS[typed] in str(caught.value)


def flat(keys: JsonObject) -> Iterator[str]:
    for key, value in keys.items():
        yield from (key, *flat(table(value)))


def exists(override: str) -> bool:
    """Whether the option files have the option or the key of an override."""
    key, _, value = override.strip("'").partition("=")
    group, _, rest = key.partition(".")
    if not rest:
        options = value.strip("[]").split(",")
        is_open = value in ("{}", "") or value.startswith("<")
        return key in FILES.settings or (group in FILES.groups and (is_open or {*options} <= {*FILES.groups[group]}))
    options = [rest.partition(".")[0]] if group in LISTS else list(FILES.groups[group])
    keys = {name for option in options for name in flat(FILES.keys(group, [option]))}
    return rest.rpartition(".")[2] in keys


def test_what_is_answered_exists():
    targets = list(synonyms.KEYS)
    targets += [f"{group}={option}" for group, options in synonyms.OPTIONS.items() for option in options]
    targets += [template for templates in synonyms.PATHS.values() for template in templates.values()]
    overrides = chain.from_iterable(re.sub(r"<[^>]*>", "<>", target).split() for target in targets)
    assert [override for override in overrides if override != "-m" and not exists(override)] == []


def test_parameters_with_other_names_exist():
    options = [FILES.keys(group, [option]) for group in (*SINGLE, *LISTS) for option in FILES.groups[group]]
    assert set(synonyms.PARAMETERS) <= {key for keys in options for key in flat(keys)}


def test_no_name_of_another_library_hides_one_of_ours():
    assert {suggestions.plain(name) for name in (*FILES.settings, *SINGLE, *LISTS)} & set(suggestions.TARGETS) == set()
    for group, names in suggestions.NAMES.items():
        assert {suggestions.plain(option) for option in FILES.groups[group]} & set(names) == set()


def test_no_name_stands_for_two_things():
    for targets in (synonyms.KEYS, *synonyms.OPTIONS.values()):
        named = [{suggestions.plain(name) for name in words.split()} for words in targets.values()]
        assert len(set().union(*named)) == sum(map(len, named))


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("list", ["mnist"]),
        ("init", ["mnist"]),
        ("adamm", ["gamma", "grad_cam"]),
        ("logdir", ["loading"]),
        ("x", ["lr"]),
    ],
)
def test_a_name_that_is_only_remotely_similar_is_not_suggested(typed, names):
    assert most_similar(typed, names) is None


def test_the_most_similar_name_has_the_fewest_letters_to_change():
    assert [edits("kitten", "sitting"), edits("ab", "ba"), edits("", "abc"), edits("same", "same")] == [3, 1, 3, 0]
    assert most_similar("optmizer", ["optimizer", "regularizer"]) == "optimizer"
