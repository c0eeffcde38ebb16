"""What ``train --help`` prints: the grammar, and every group with its options, read from the option files."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.config.options import CONF, LISTS, OptionFiles, headline
from trainer.errors import ConfigError, Problem, nearest

GRAMMAR = """train [group=option] [key=value] ...     train an image classifier; without arguments: a small CNN on MNIST

  train optimizer=adam schedule=clr seed=3           one argument per technique
  train 'schedule=[warmup,cosine]' optimizer.lr=0.2  lists take several options; every parameter is a key
  train -m optimizer=sgd,momentum,adam seed=0,1      a sweep: every combination, a table at the end
  train resume=outputs/<date>/<run> epochs=20        continue a run
  train job=range_test                               learning rates to train with; or optimizer.lr=auto
  train recipe=finetune initialization=pretrained initialization.path=outputs/<date>/<run>   fine-tune another run
  train job=evaluate checkpoint=outputs/<date>/<run> the test set, a table per class
  train job=report run=outputs/<date>/<run>          write report.md and report.html again
  train job=compare runs=outputs/<date>/<sweep>      confidence intervals over seeds, effect of each key
  train --help schedule                              the options of a group with all their parameters
  train --cfg job                                    print the config instead of running it
  train --config-dir mine optimizer=my_own           your own options, in mine/<group>/<option>.yaml
  tensorboard --logdir outputs                       curves of all runs

Overrides in the environment variable TRAINER_OVERRIDES are applied first; those on the command line take precedence.
Flags: --multirun (-m), --config-dir (-cd), --allow MODULE, --cfg job|hydra|all, --resolve, --package,
       --info, --version, --help (-h).
"""


def help_text(files: OptionFiles, topics: list[str]) -> str:
    """Return the whole help, or, for groups (``schedule``) and options (``schedule=clr``), what can be set there."""
    if topics:
        return "\n".join(_group(files, *topic.partition("=")[::2]) for topic in topics)
    width = shutil.get_terminal_size((120, 24)).columns
    lines = [GRAMMAR, "settings (conf/train.yaml)"]
    lines += [_clip(f"  {line}", width) for line in _settings()]
    for group, options in files.groups.items():
        kind = f"list: {group}=[a,b]" if group in LISTS else f"one of: {group}=..."
        lines += ["", f"{group} ({kind})"]
        lines += [_clip(f"  {name:<22}{headline(file)}", width) for name, file in options.items()]
    return "\n".join(lines)


def _settings() -> list[str]:
    """The scalars with their comments, from the middle of ``train.yaml``."""
    text = (CONF / "train.yaml").read_text().split("\n\n")[1]
    pairs = [line.partition("#")[::2] for line in text.splitlines()]
    return [f"{left.strip():<30}{right.strip()}" for left, right in pairs]


def _group(files: OptionFiles, group: str, option: str) -> str:
    if group not in files.groups:
        text = f"groups are {', '.join(files.groups)}"
        raise ConfigError(Problem("--help", group, text, nearest(group, files.groups)))
    options = files.groups[group]
    if option and option not in options:
        raise ConfigError(files.unknown_option(group, option))
    chosen = [option] if option else list(options)
    return "\n".join(f"{group}={name}\n{_indented(options[name])}\n" for name in chosen)


def _indented(file: Path) -> str:
    lines = [line for line in file.read_text().splitlines() if "_target_" not in line]
    return "\n".join(f"  {line}" for line in lines)


def _clip(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
