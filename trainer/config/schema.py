"""The typed config: settings, one option of each single-choice group, named options of each list group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.augmentation.transforms import TTA
from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.formats import JsonObject
from trainer.settings import Settings
from trainer.tree import table

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import Architecture
    from trainer.averaging import Averaging
    from trainer.data import Dataset
    from trainer.engine.options import Engine
    from trainer.engine.recipes import Recipe
    from trainer.errors import Problem
    from trainer.initialization import Initialization, Pretrained
    from trainer.instantiate import External
    from trainer.optimizers import Optimizer
    from trainer.regularizers import Regularizer
    from trainer.schedules import Schedule
    from trainer.tasks import Classification, Multilabel, Multitask, Regression


class Job:
    """Base class of all jobs.

    Attributes:
        trains: Whether the job may run in several processes that train together (torchrun).
        needs_checkpoint: Whether the job reads ``checkpoint=``; its ``prefer`` says which one of a run directory.
        reads: Which of the other settings for some jobs, ``run`` and ``runs``, the job reads.
        keeps_auto_keys: Whether the job does without the range test that replaces ``optimizer.lr=auto``.
        continues: Whether the job continues in a run directory that contains it already.
        exclusive: Whether the job is the only one that may write its run directory at a time.
        reads_data: Whether the job reads the data of the config.
        tta: The test-time augmentation; a parameter of the jobs that have it.
    """

    trains: ClassVar[bool] = False
    needs_checkpoint: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    keeps_auto_keys: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    exclusive: ClassVar[bool] = True
    reads_data: ClassVar[bool] = True
    tta: ClassVar[TTA] = "none"

    def __call__(self, config: Config, run_dir: Path, overrides: list[str]) -> int:
        """Run the job and return the exit code."""
        raise NotImplementedError

    def own_problems(self) -> list[Problem]:
        """Return what is wrong with the job whatever the rest of the config is, beyond the range of each parameter."""
        return []

    def problems(self, config: Config) -> list[Problem]:
        """Return what is wrong with the job in this config, as far as it shows without torch."""
        return []


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """What ``load_config`` returns: the settings, and every option constructed and checked.

    An option is one of ours, or a third-party class as ``External``.
    """

    job: Job
    task: Classification | Multilabel | Regression | Multitask
    architecture: Architecture | External
    activation: Activation
    initialization: Initialization | Pretrained
    optimizer: Optimizer | External
    averaging: Averaging
    data: Dataset
    engine: Engine
    recipe: Recipe
    schedule: dict[str, Schedule]
    regularizer: dict[str, Regularizer]
    augmentation: dict[str, Any]  # transforms: ours, or third-party classes
    observer: dict[str, Any]  # options with `build`, or observers
    tree: JsonObject  # the config as plain values, as written to the run directory
    config_dirs: tuple[Path, ...] = ()
    # The keys and groups that the command and its experiment set, with their source: empty, or experiment=<name>.
    set_keys: dict[str, str] = field(default_factory=dict[str, str])
    auto_keys: tuple[str, ...] = ()  # keys whose value an LR range test finds
    range_test: dict[str, float] = field(default_factory=dict[str, float])  # the values found by it
    range_curve: dict[str, list[float]] = field(default_factory=dict[str, list[float]])  # its learning rates and losses
    notes: tuple[str, ...] = ()  # what was decided for the user

    def name(self, group: str) -> str:
        """Return the name of the option of a single-choice group; of one that has no option file, the name of its class."""
        return OptionFiles(self.config_dirs).option_name(group, table(self.tree[group]))

    def options(self) -> Iterator[tuple[str, Any]]:
        """Yield each option with its dotted place in the config."""
        for group in SINGLE:
            yield group, getattr(self, group)
        for group in LISTS:
            yield from ((f"{group}.{name}", option) for name, option in getattr(self, group).items())
