"""Components of the user: the example of docs/own_components.md for each group works, what does not fit is answered in words."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import result_of
from torch import nn

from trainer.augmentation.plain import ImageTransform
from trainer.builder import build
from trainer.config.load import load_config
from trainer.config.options import LISTS, installed_options
from trainer.data.plain import as_uint8
from trainer.errors import ConfigError
from trainer.plain import Plain
from trainer.skeletons import SKELETONS, skeleton

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
    assert installed_options() == [tmp_path / "site/curves/conf"]
    assert load_config(["schedule=[installed]"]).schedule["installed"](3.0) == 0.5


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
