"""What ``train --help`` prints: the grammar, and every group with its options, read from the option files themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.config.options import CONF, LISTS, headline, options
from trainer.errors import ConfigError, Problem, nearest

GRAMMAR = """train [group=option] [key=value] ...     train an image classifier; with no argument: a small CNN on MNIST

  train optimizer=adam schedule=clr seed=3           one word a technique
  train 'schedule=[warmup,cosine]' optimizer.lr=0.2  lists take several; every parameter is a key
  train -m optimizer=sgd,momentum,adam seed=0,1      a sweep: every combination, a table at the end
  train resume=outputs/<date>/<run> epochs=20        go on from a run folder
  train job=range_test                               which rates to train with; or optimizer.lr=auto
  train recipe=finetune initialization=pretrained initialization.path=outputs/<date>/<run>   another task's weights
  train job=evaluate checkpoint=outputs/<date>/<run> the test set, a table per class
  train job=report run=outputs/<date>/<run>          report.md and report.html anew, from the files
  train job=compare runs=outputs/<date>/<sweep>      what differs, intervals over seeds, effect of each key
  train --help schedule                              a group's options with all their parameters
  train --cfg job                                    the composed config, without running it
  train --config-dir mine optimizer=my_own           options of your own, in mine/<group>/<option>.yaml
  tensorboard --logdir outputs                       curves of all runs
"""


def usage(folders: list[Path], words: list[str]) -> str:
    """The whole help, or, for names of groups (``schedule``) and options (``schedule=clr``), what can be set there."""
    found = options(folders)
    if words:
        return "\n".join(_group(found, *word.partition("=")[::2]) for word in words)
    width = shutil.get_terminal_size((120, 24)).columns
    lines = [GRAMMAR, "settings (conf/train.yaml)"]
    lines += [f"  {line}"[:width] for line in _settings()]
    for group, files in found.items():
        kind = f"list: {group}=[a,b]" if group in LISTS else f"one of: {group}=..."
        lines += ["", f"{group} ({kind})"]
        lines += [_clip(f"  {name:<22}{headline(file)}", width) for name, file in files.items()]
    return "\n".join(lines)


def _settings() -> list[str]:
    """The scalars with their comments, from the middle of ``train.yaml``."""
    text = (CONF / "train.yaml").read_text().split("\n\n")[1]
    pairs = [line.partition("#")[::2] for line in text.splitlines()]
    return [f"{left.strip():<30}{right.strip()}" for left, right in pairs]


def _group(found: dict[str, dict[str, Path]], group: str, option: str) -> str:
    if group not in found:
        raise ConfigError(Problem("--help", group, f"groups are {', '.join(found)}", nearest(group, list(found))))
    names = [option] if option else list(found[group])
    wrong = [name for name in names if name not in found[group]]
    if wrong:
        raise ConfigError(
            Problem(group, wrong[0], f"allowed: {', '.join(found[group])}", nearest(wrong[0], list(found[group])))
        )
    return "\n".join(f"{group}={name}\n{_indented(found[group][name])}\n" for name in names)


def _indented(file: Path) -> str:
    kept = [line for line in file.read_text().splitlines() if "_target_" not in line]
    return "\n".join(f"  {line}" for line in kept)


def _clip(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
