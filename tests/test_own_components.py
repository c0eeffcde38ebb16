"""Components of the user: the example of docs/own_components.md for each group works, what does not fit is answered in words."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import history_of, load, result_of, same
from torch import nn

from trainer.augmentation.plain import ImageTransform
from trainer.builder import build
from trainer.config.load import load_config
from trainer.config.options import LISTS, installed_options
from trainer.data.plain import as_uint8
from trainer.engine.evaluation import evaluate_run
from trainer.errors import ConfigError
from trainer.history import History
from trainer.plain import Plain
from trainer.regularizers import Chain
from trainer.skeletons import SKELETONS, skeleton
from trainer.tasks.predictions import Predictions

PAGE = (Path(__file__).parents[1] / "docs/own_components.md").read_text()
SMALL = (
    "data=fake", "data.size=12", "data.count=60", "data.num_classes=3", "architecture.widths=[4]", "batch_size=16", "epochs=1",
    "observer=[]",
)  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes ``mine/<file>``: modules are forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(file: str, text: str) -> None:
        path = tmp_path / "mine" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write_example(mine, group: str) -> str:
    """Write the example of a group; return what chooses it."""
    name = SKELETONS[group][0]
    code, option = skeleton(group, name)
    mine(f"{name}.py", code)
    mine(f"{group}/{name}.yaml", option)
    return f"{group}=[{name}]" if group in LISTS else f"{group}={name}"


def small(*overrides: str) -> list[str]:
    groups = {o.partition("=")[0] for o in overrides}
    return [o for o in SMALL if o.partition("=")[0].partition(".")[0] not in groups] + list(overrides)


@pytest.mark.parametrize("group", SKELETONS)
def test_the_page_shows_what_new_option_writes_in_at_most_fifteen_lines(group):
    name = SKELETONS[group][0]
    code, option = skeleton(group, name)
    assert f"`mine/{name}.py`:\n\n```python\n{code.rstrip()}\n```" in PAGE
    assert f"`mine/{group}/{name}.yaml`:\n\n```yaml\n{option.rstrip()}\n```" in PAGE
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_the_examples_of_all_groups_train_together(mine, train):
    chosen = [write_example(mine, group) for group in SKELETONS if group != "architecture"]
    arguments = ["--config-dir", "mine", *small(*chosen, "architecture=cnn"), "architecture.widths=[4]", "output=run"]
    code, out, err = train(*arguments)
    assert code == 0, err
    assert re.search(r"epoch 1, step 9: train_loss \d\.\d+", out)
    assert result_of("run")["status"] == "finished"


def test_a_network_of_lazy_layers_gets_its_sizes_from_an_image(mine):
    run = build(load_config(small(write_example(mine, "architecture")), ["mine"]))
    assert [m.in_features for m in run.model.modules() if isinstance(m, nn.Linear)] == [3 * 12 * 12, 64]


def test_new_option_writes_an_option_that_works_and_replaces_nothing(train, mine):
    code, out, _ = train("new-option", "schedule", "my_ramp", "--dir", "mine")
    assert (code, "try it: train --config-dir mine 'schedule=[my_ramp]'" in out) == (0, True)
    schedule = load_config(["schedule=[my_ramp]"], ["mine"]).schedule["my_ramp"].over(4.0)
    assert [schedule(t) for t in (0.0, 2.0, 4.0)] == pytest.approx([0.1, 0.55, 1.0])
    assert "exists already" in train("new-option", "schedule", "my_ramp", "--dir", "mine")[2]
    assert "did you mean 'schedule'" in train("new-option", "shedule", "x")[2]
    assert "needs a group and a name" in train("new-option")[2]


def test_a_regularizer_with_any_of_the_four_methods_needs_no_base_class(mine):
    mine("four.py", "class Penalty:\n    def penalty(self, model, outputs):\n        return outputs.square().mean()\n")
    mine("regularizer/four.yaml", "# p\nfour:\n  _target_: four.Penalty\n")
    regularizer = load_config(["regularizer=[four]"], ["mine"]).regularizer["four"]
    assert float(regularizer.penalty(nn.Identity(), torch.full((2, 2), 3.0))) == 9.0
    assert regularizer.stop([]) is None


def test_transforms_of_torchvision_are_reproducible_in_both_forms(mine):
    mine(
        "augmentation/turned.yaml",
        "# r\nturned:\n  _target_: torchvision.transforms.v2.RandomRotation\n  degrees: 45\n  p: 0.5\n",
    )
    transform = load_config(["augmentation=[turned]"], ["mine"]).augmentation["turned"]
    x = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    before = torch.get_rng_state()
    a, b = (transform.batch(x, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b)
    changed = [not torch.equal(p, q) for p, q in zip(a, x, strict=True)]
    assert any(changed)
    assert not all(changed)
    images = [image.permute(1, 2, 0).numpy() for image in x]
    from trainer.augmentation.per_image import PerImagePipeline

    first, second = (PerImagePipeline([transform], (3, 12, 12))(images, np.random.default_rng(0)) for _ in range(2))
    assert all(np.array_equal(p, q) for p, q in zip(first, second, strict=True))
    assert any(not np.array_equal(p, q) for p, q in zip(first, images, strict=True))


def test_a_transform_that_changes_the_shape_is_refused():
    transform = ImageTransform(plain=Plain(lambda image: image[:, 1:], {}, {}, True))
    with pytest.raises(ConfigError, match="the shape must stay"):
        transform.batch(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), np.random.default_rng(0))


def test_images_of_a_data_set_may_be_fractions_or_bytes_and_nothing_else():
    assert as_uint8(torch.tensor([[[0.0, 1.0]]])).tolist() == [[[0], [255]]]
    assert as_uint8(np.zeros((2, 3, 3), np.uint8)).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="from -1 to 1"):
        as_uint8(torch.tensor([[[-1.0, 1.0]]]))


WRONG = {
    "schedule": ("def f(t, a): return 'x'", "m.f", {"a": 1}, "must be a function of the time in epochs"),
    "observer": ("class O: pass", "m.O", {}, "at least one of the methods on_fit_start"),
    "data": ("class D: pass", "m.D", {}, "__len__ and __getitem__"),
    "recipe": ("class R: pass", "m.R", {}, "is not a subclass of trainer.engine.recipes.Recipe"),
    "initialization": ("class I: pass", "m.I", {}, "is not a subclass of trainer.initialization.Initialization"),
    "regularizer": ("def r(x, y): return x, y", "m.r", {"strength": 1}, "strength"),
}


@pytest.mark.parametrize("group", WRONG)
def test_what_does_not_fit_is_answered_with_the_interface(group, mine):
    code, target, arguments, text = WRONG[group]
    mine("m.py", code)
    node = json.dumps({"_target_": target, **arguments})
    mine(f"{group}/own.yaml", f"# o\nown: {node}\n" if group in LISTS else node)
    with pytest.raises(ConfigError) as error:
        load_config([f"{group}=[own]" if group in LISTS else f"{group}=own"], ["mine"])
    assert text in str(error.value)


def test_installed_packages_add_options_by_an_entry_point(tmp_path, monkeypatch):
    option = tmp_path / "site/curves/conf/schedule/installed.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# c\ninstalled:\n  _target_: curves.half\n  _partial_: true\n")
    (tmp_path / "site/curves/__init__.py").write_text("def half(t):\n    return 0.5\n")
    info = tmp_path / "site/curves-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: curves\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[trainer.options]\ncurves = curves.conf\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    installed_options.cache_clear()
    try:
        assert installed_options() == (tmp_path / "site/curves/conf",)
        assert load_config(["schedule=[installed]"]).schedule["installed"](3.0) == 0.5
    finally:
        installed_options.cache_clear()


METRICS = """
import torch
from torch.nn import functional as F

def cross_entropy(outputs, targets, scale=1.0):
    torch.rand(3)  # does not change the training
    return scale * F.cross_entropy(outputs.double(), targets)

def absolute(outputs, targets):
    return (outputs - targets).abs().mean()

class Wrong:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.reset()

    def reset(self):
        self.wrong, self.count = 0, 0

    def update(self, outputs, targets):
        assert outputs.shape == (len(targets), self.num_classes)
        self.wrong, self.count = self.wrong + int((outputs.argmax(1) != targets).sum()), self.count + len(targets)

    def compute(self):
        return torch.tensor(self.wrong / self.count)

def per_image(outputs, targets):
    return outputs.sum(1)

def fails(outputs, targets):
    raise IndexError("no such column")
"""
OWN = "task.own_metrics={half_nll:{_target_:kit.cross_entropy,scale:0.5},wrong_error:{_target_:kit.Wrong}}"


def test_own_metrics_equal_those_of_the_program_and_select_the_best_epoch(mine, train):
    mine("kit.py", METRICS)
    common = [
        "data=digits",
        "data.limit=400",
        "epochs=3",
        "architecture.widths=[8]",
        "regularizer=[]",
        "task.metrics=[nll]",
    ]
    arguments = ["--config-dir", "mine", *common, OWN, "metric=validation_wrong_error", "averaging=ema"]
    code, out, err = train(*arguments, "observer=[console,checkpoint,history_file,report]", "output=own")
    assert code == 0, err
    assert "val wrong error" in out
    rows, result = history_of("own"), result_of("own")
    for scores, split in [*((row, s) for row in rows for s in ("validation_", "averaged_")), (result["test"], "")]:
        assert scores[f"{split}half_nll"] == pytest.approx(0.5 * scores[f"{split}nll"], rel=1e-5)
        assert scores[f"{split}wrong_error"] == pytest.approx(1 - scores[f"{split}accuracy"])
    errors = [row["validation_wrong_error"] for row in rows]
    assert result["best_epoch"] == 1 + errors.index(min(errors))
    assert "half_nll" in Path("own/report.md").read_text()
    assert (
        train("--config-dir", "mine", *common, "averaging=ema", "observer=[checkpoint,history_file]", "output=plain")[0]
        == 0
    )
    assert same(load("own")["state"]["model"], load("plain")["state"]["model"]), "a metric does not change the training"
    assert train("--config-dir", "mine", "job=evaluate", "checkpoint=own", "output=evaluated")[0] == 0
    assert result_of("evaluated")["test"]["wrong_error"] == result["test"]["wrong_error"]


def test_own_metrics_of_numbers_are_in_original_units_and_each_task_has_its_own(mine):
    mine("kit.py", METRICS)
    ink, digit = "{own_metrics:{gap_error:{_target_:kit.absolute}}}", "{own_metrics:{wrong_error:{_target_:kit.Wrong}}}"
    words = [
        "data=mnist5k_multitask",
        "data.limit=200",
        "task=multitask",
        f"task.tasks={{ink:{ink},digit:{digit}}}",
        "epochs=1",
    ]
    run = build(load_config([*words, "metric=validation_ink_gap_error", "regularizer=[]"], ["mine"]))
    row = evaluate_run(run)
    assert row["validation_ink_gap_error"] == pytest.approx(row["validation_ink_mae"], rel=1e-5)
    assert row["validation_digit_wrong_error"] == pytest.approx(1 - row["validation_digit_accuracy"])


@pytest.mark.parametrize(
    ("table", "key", "text"),
    [
        ("{nll:{_target_:kit.fails}}", "task.own_metrics", "nll: is a metric of the program"),
        ("{Gap:{_target_:kit.fails}}", "task.own_metrics", "Gap: a name consists of lowercase letters"),
        ("{gap:{scale:1}}", "task.own_metrics", "gap: must name the class or function under _target_"),
        ("{gap:{_target_:kit.wrong}}", "task.own_metrics.gap._target_", "did you mean 'Wrong'?"),
        ("{gap:{_target_:kit.Wrong,size:3}}", "task.own_metrics.gap._target_", "unexpected keyword argument 'size'"),
        ("{gap:{_target_:kit.per_image}}", "task.own_metrics.gap._target_", "one number, not Tensor of shape (20,)"),
        ("{gap:{_target_:kit.fails}}", "task.own_metrics.gap._target_", "outputs (20, 10) and targets (20,): no such column"),
        ("{gap:{_target_:torch.sum}}", "task.own_metrics.gap._target_", "metric takes"),
        ("{gap:{_target_:os.system}}", "task.own_metrics.gap._target_", "standard library"),
    ],
)  # fmt: skip
def test_an_own_metric_that_does_not_fit_is_answered_before_training(table, key, text, mine):
    mine("kit.py", METRICS)
    with pytest.raises(ConfigError) as error:
        build(load_config(["data=digits", "data.limit=100", f"task.own_metrics={table}"], ["mine"]))
    assert [problem.key for problem in error.value.problems] == [key]
    assert text in str(error.value)


def test_the_example_of_a_metric_is_the_margin(mine):
    code, option = (
        re.search(f"`mine/{file}`:\n\n```\\w+\n(.*?)```", PAGE, re.S)[1] for file in ("margins.py", "task/margins.yaml")
    )
    mine("margins.py", code)
    mine("task/margins.yaml", option)
    run = build(load_config(small("task=margins", "task.own_metrics.margin.scale=2"), ["mine"]))
    metric = run.task.parts[0].own_metrics["margin"]
    assert (
        metric(Predictions("classification", ("a", "b", "c"), np.array([[3.0, 1, 2], [0, 4, 5]]), np.array([0, 1])))
        == 0.0
    )


def test_an_own_metric_can_stop_training_and_a_wrong_name_of_it_is_answered(mine):
    mine("kit.py", METRICS)
    words = [
        "data=digits",
        "data.limit=200",
        OWN,
        "regularizer=[early_stopping]",
        "regularizer.early_stopping.patience=1",
    ]
    config = load_config([*words, "regularizer.early_stopping.metric=validation_wrong_error"], ["mine"])
    rows: list[Any] = [{"epoch": 1.0 + i, "validation_wrong_error": value} for i, value in enumerate((0.2, 0.1, 0.3))]
    reason = Chain(config.regularizer).stop(History(rows))
    assert reason is not None
    assert "validation_wrong_error was best (0.1000) at epoch 2" in reason
    with pytest.raises(ConfigError, match="did you mean 'validation_wrong_error'"):
        load_config([*words, "metric=validation_wrong_eror"], ["mine"])


FAILING = """
from torch import nn
def broken(width=8):
    raise TypeError("no width\\x1b[2J of " + str(width))
def net(num_classes, width=8):
    return broken(width)
class Module(nn.Module):
    def __init__(self, width=8):
        broken(width)
class Optimizer:
    def __init__(self, params, lr, width=8):
        broken(width)
class Watcher:
    def __init__(self, width=8):
        broken(width)
    def on_epoch_end(self, view, row): pass
class Penalty:
    def __init__(self, width=8):
        broken(width)
    def penalty(self, model): pass
"""


@pytest.mark.parametrize(("group", "name"), [
    ("architecture", "net"), ("architecture", "Module"), ("activation", "Module"), ("observer.mine", "Watcher"),
    ("regularizer.mine", "Penalty"),
])  # fmt: skip
def test_a_class_that_fails_with_its_arguments_is_an_error(group, name, train, tmp_path, monkeypatch):
    """It names the key, the class, the arguments and the line of the class, and is no traceback."""
    (tmp_path / "failing_parts.py").write_text(FAILING)
    place, _, option = group.partition(".")
    (tmp_path / "conf" / place).mkdir(parents=True)
    (tmp_path / "conf" / place / "mine.yaml").write_text(
        f"# Mine.\n{'mine:' if option else ''}\n  _target_: failing_parts.{name}\n  width: wide\n"
        if option
        else f"# Mine.\n_target_: failing_parts.{name}\nwidth: wide\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    chosen = f"{place}=[mine]" if option else f"{place}=mine"
    words = [
        "data=fake",
        "data.count=60",
        "data.size=8",
        "--config-dir",
        str(tmp_path / "conf"),
        "--allow",
        "failing_parts",
    ]
    code, _, err = train(*words, chosen)
    assert code == 2, err
    assert f"{group}._target_ = 'failing_parts.{name}': cannot be built with " in err
    assert "width='wide'" in err
    assert "TypeError: no width\\x1b[2J of wide (failing_parts.py, line 4)" in err
    assert "Traceback" not in err
