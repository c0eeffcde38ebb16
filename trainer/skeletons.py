"""A first version of an option of one's own for each group: ``train new-option optimizer lion --dir mine``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainer import suggestions
from trainer.errors import ConfigError, Problem
from trainer.files import write_text

# Each is an example of docs/own_components.md: its name there, a Python file and an option file. In a list group, an option
# file holds its keys under the option's own name.
SKELETONS = {
    "activation": ("swish", '''
import torch
from torch import nn


class CLASS(nn.Module):
    def __init__(self, beta=1.0):
        super().__init__()
        self.beta = beta

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)
''', "# x sigmoid(beta x).\n_target_: NAME.CLASS\nbeta: 1.0\n"),
    "architecture": ("two_layers", '''
from torch import nn


class CLASS(nn.Sequential):
    """The arguments num_classes, in_channels and shape (C, H, W) are passed to a network that takes them."""

    def __init__(self, num_classes, width=64):
        super().__init__(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, num_classes))
''', "# A network with one hidden layer.\n_target_: NAME.CLASS\nwidth: 64\n"),
    "augmentation": ("invert", '''
import torch


def NAME(image, probability=0.5):
    """An image is a uint8 tensor (C, H, W); random numbers may come from torch, numpy or random."""
    return 255 - image if torch.rand(()) < probability else image
''', "# Negatives.\nNAME:\n  _target_: NAME.NAME\n  _partial_: true\n  probability: 0.5\n"),
    "data": ("stripes", '''
import numpy as np


class CLASS:
    """Item i is an image (Pillow, numpy or torch) and its class; ``classes``, if there, names the classes."""

    def __init__(self, count=200):
        self.count, self.classes = count, ("rows", "columns")

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        image = np.random.default_rng(i).integers(0, 256, (12, 1), np.uint8).repeat(12, axis=1)
        return (image if i % 2 == 0 else image.T), i % 2
''', "# Images of stripes.\n_target_: NAME.CLASS\ncount: 200\ntest: 0.2\n"),
    "observer": ("printer", '''
class CLASS:
    """Any of on_fit_start(view), on_step_end(view), on_epoch_end(view, row), on_fit_end(view, result)."""

    def __init__(self, column="train_loss"):
        self.column = column

    def on_epoch_end(self, view, row):
        print(f"epoch {row['epoch']:g}, step {view.step}: {self.column} {row[self.column]:.4f}")
''', "# A column of the history, printed.\nNAME:\n  _target_: NAME.CLASS\n  column: train_loss\n"),
    "optimizer": ("lion", '''
import torch


class CLASS(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, beta=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p -= group["lr"] * (m * group["beta"] + p.grad * (1 - group["beta"])).sign()
                m.lerp_(p.grad, 1 - group["beta"])
''', "# By signs (Chen et al. 2023).\n_target_: NAME.CLASS\nlr: 0.001\n"),
    "regularizer": ("noise", '''
import torch


def NAME(x, y, std=0.1):
    """Images (N, C, H, W) and targets (N, D) of a batch; classes are rows of probabilities."""
    return x + std * torch.randn_like(x), y
''', "# Gaussian noise on the images.\nNAME:\n  _target_: NAME.NAME\n  _partial_: true\n  std: 0.1\n"),
    "schedule": ("ramp", '''
def NAME(t, total, start=0.1):
    """The multiplier of the learning rate at time t, in epochs; total is the length of the phase."""
    return start + (1 - start) * t / total
''', "# A linear increase.\nNAME:\n  _target_: NAME.NAME\n  _partial_: true\n  start: 0.1\n"),
}  # fmt: skip


def skeleton(group: str, name: str) -> tuple[str, str]:
    """Return the Python file and the option file of a new option.

    >>> skeleton("schedule", "my_ramp")[1].splitlines()[1:3]
    ['my_ramp:', '  _target_: my_ramp.my_ramp']
    """
    _, code, option = SKELETONS[group]
    camel = "".join(part.capitalize() for part in name.split("_"))
    code, option = (text.lstrip().replace("NAME", name).replace("CLASS", camel) for text in (code, option))
    return code, option


def new_option(arguments: Sequence[str]) -> None:
    """Write ``<dir>/<name>.py`` and ``<dir>/<group>/<name>.yaml``, and print how to use them; ConfigError if either exists."""
    parser = argparse.ArgumentParser("train new-option", exit_on_error=False)
    parser.add_argument("group")
    parser.add_argument("name")
    parser.add_argument("--dir", default="mine", type=Path)
    usage = "train new-option <group> <name> --dir mine"
    if len([a for a in arguments if not a.startswith("-")]) < 2:
        raise ConfigError(
            Problem("", None, f"new-option needs a group and a name: {usage}", f"groups: {', '.join(SKELETONS)}")
        )
    given, rest = parser.parse_known_args(list(arguments))
    if rest:
        raise ConfigError(
            Problem("new-option", " ".join(rest), "is left over", "train new-option <group> <name> --dir mine")
        )
    if given.group not in SKELETONS:
        hint = (
            suggestions.topic(given.group, SKELETONS) or "docs/own_components.md names the base classes of other groups"
        )
        raise ConfigError(Problem("new-option", given.group, f"must be one of {', '.join(SKELETONS)}", hint))
    if not given.name.isidentifier():
        raise ConfigError(Problem("new-option", given.name, "must be a name of letters, digits and _"))
    files = [given.dir / f"{given.name}.py", given.dir / given.group / f"{given.name}.yaml"]
    if existing := [file for file in files if file.exists()]:
        raise ConfigError(Problem("new-option", str(existing[0]), "exists already", "another name, or another --dir"))
    for file, text in zip(files, skeleton(given.group, given.name), strict=True):
        write_text(file, text)
    several = given.group in ("schedule", "regularizer", "augmentation", "observer")
    choice = f"'{given.group}=[{given.name}]'" if several else f"{given.group}={given.name}"
    print(f"written: {files[0]} and {files[1]}\ntry it: train --config-dir {given.dir} {choice}")
