"""Run one trial: its config from a point, training without files, the metric after each epoch."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.builder import build, load_splits
from trainer.config.constraints import check_config
from trainer.config.load import config_from_tree, load_config
from trainer.config.options import DEFAULTS, LISTS, OptionFiles
from trainer.config.overrides import render
from trainer.engine.evaluation import best_weights, evaluate
from trainer.engine.loop import fit
from trainer.engine.run import Run
from trainer.errors import ConfigError
from trainer.formats import Json, JsonObject
from trainer.hardware import resolve_device
from trainer.history import History, better_is
from trainer.interrupt import Interrupt
from trainer.regularizers import Regularizer
from trainer.search.distribution import number
from trainer.search.records import OutcomeRecord
from trainer.search.space import Space
from trainer.tree import with_value

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.engine.observer import Observer
    from trainer.observers.context import ObserverOption

NOT_OF_A_TRIAL = ("job", "output", "sweep.")  # what the overrides of a search set that its trials do not have

# Trains a run with observers, as job=fit does.
Train = Callable[[Run, "Sequence[ObserverOption | Observer]"], object]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: ``done``, ``pruned``, ``diverged``, ``failed`` or ``interrupted``.
        value: The best value of the metric; None if it has none.
        curve: The metric after each epoch.
        epochs: The time of each value, in epochs.
        loss: The validation loss at that epoch, which orders trials of equal value.
        test: Metrics on the test images with the weights of the best epoch, where asked for.
    """

    state: str
    value: float | None = None
    curve: tuple[float, ...] = ()
    epochs: tuple[float, ...] = ()
    seconds: float = 0.0
    loss: float | None = None
    test: dict[str, float] | None = None
    error: str = ""

    def record(self) -> OutcomeRecord:
        """Return what the ledger records, as JSON values."""
        record: OutcomeRecord = {
            "state": self.state, "curve": list(self.curve), "epochs": list(self.epochs), "seconds": self.seconds,
        }  # fmt: skip
        if self.loss is not None:
            record["loss"] = self.loss
        if self.test is not None:
            record["test"] = self.test
        if self.error:
            record["error"] = self.error
        return record


class Configs:
    """The configs of trials: that of the search with the values of a point.

    One composition for each combination of options; values are set in the composed tree.
    """

    def __init__(self, config: Config, overrides: Sequence[str]) -> None:
        self.base, self.dirs = config, config.config_dirs
        self.overrides = [o for o in overrides if not o.lstrip("+~").startswith(NOT_OF_A_TRIAL)]
        self.defaults = os.environ.get(DEFAULTS, "").split()
        self.groups = OptionFiles(self.dirs).groups
        self.trees: dict[str, JsonObject] = {}

    def tree(self, settings: JsonObject, epochs: float, seed: int) -> JsonObject:
        """Return the config of a trial as plain values.

        Args:
            settings: Values by key; the options of groups included.
            epochs: Length.
            seed: Random seed.
        """
        options = {key: value for key, value in settings.items() if key in self.groups}
        tree = self.composed(options)
        for key, value in settings.items():
            if key not in options:
                tree = with_value(tree, key, value)
        job: JsonObject = {"_target_": "trainer.jobs.Fit"}
        return {**tree, "epochs": epochs, "seed": seed, "job": job, "output": None}

    def composed(self, options: JsonObject) -> JsonObject:
        """Return the composed config with the given options of groups."""
        if not options:
            return self.base.tree
        key = repr(sorted(options.items()))
        if key not in self.trees:
            others = [o for o in self.overrides if o.partition("=")[0].lstrip("+~") not in options]
            chosen = [
                f"{group}={render([value] if group in LISTS and not isinstance(value, list) else value)}"
                for group, value in options.items()
            ]
            self.trees[key] = load_config([*others, *chosen], self.dirs, self.defaults).tree
        return self.trees[key]


def base_configs(config: Config, overrides: Sequence[str], space: Space) -> Configs:
    """Return the configs of trials, every option of the space composed once, so that errors show before anything is written.

    Raises:
        ConfigError: An override does not fit an option of the space.
    """
    configs = Configs(config, overrides)
    for dimension in space:
        if dimension.chooses_option and dimension.key in configs.groups:
            for choice in dimension.distribution.choices:
                configs.composed({dimension.key: choice})
    return configs


class Trials:
    """Runs trials one after the other; what they have in common is loaded once.

    Attributes:
        interrupt: Requested when the search should stop.
        metric: The column of the history that trials are compared by.
        train: Trains with observers, for trials with a report.
    """

    def __init__(self, configs: Configs, interrupt: Interrupt, train: Train) -> None:
        self.configs, self.interrupt, self.train = configs, interrupt, train
        self.data: dict[str, Splits] = {}
        self.metric = self.main_metric(configs.base)

    def main_metric(self, config: Config) -> str:
        """The column of the history that trials are compared by."""
        if config.metric != "auto":
            return config.metric
        device = resolve_device(config.device, config.engine.kind)
        return config.task.build(self.splits(config), device).main_metric

    def steps_per_epoch(self, batch_size: Json = None) -> int:
        """Steps of an epoch of the config as typed or with another ``batch_size``; of ``auto`` as with the preliminary value."""
        images, size = len(self.splits(self.configs.base).train), batch_size or self.configs.base.batch_size
        return 1 if size == "full" else math.ceil(images / number(size))

    def fewest_steps(self, space: Space) -> int:
        """Steps of an epoch with the largest batch size of the space; those of the config as typed if it is not searched."""
        sizes = [d.distribution for d in space if d.key == "batch_size"]
        values = [value for own in sizes for value in ((own.high,) if own.numeric else own.choices)]
        return min((self.steps_per_epoch(value) for value in values), default=self.steps_per_epoch())

    def splits(self, config: Config) -> Splits:
        """The images of a config; those of the last data are kept."""
        key = repr((config.tree["data"], config.tree["architecture"] if config.data.normalize == "pretrained" else ""))
        if key not in self.data:
            self.data = {key: load_splits(config)}
        return self.data[key]

    def run(
        self,
        tree: JsonObject,
        report: Callable[[int, float], bool],
        test: bool = False,
        run_dir: Path | None = None,
    ) -> Outcome:
        """Train the config of a trial.

        Args:
            tree: From ``Configs.tree``.
            report: Called with the number of epochs and the metric after each; returns whether the trial is hopeless.
            test: Whether to evaluate on the test images.
            run_dir: Where to write the run with its report; None writes nothing.
        """
        started = time.perf_counter()
        observers = tree.get("observer") or {}
        config = config_from_tree({**tree, "observer": observers if run_dir else {}})
        if problems := check_config(config):
            raise ConfigError(*problems)
        run = build(config, run_dir, self.splits(config))
        watch = Watch(self.metric, report)
        run.regularizer.regularizers.append(watch)
        try:
            if run_dir is None:
                fit(run, interrupt=TrialInterrupt(self.interrupt))
            else:
                self.train(run, list(config.observer.values()))
            if run.interrupted:
                return Outcome("interrupted")
            watch.stop(run.history)  # the loop does not ask after the last epoch
            return self.outcome(run, "diverged" if run.diverged else watch.state, started, test)
        finally:
            del run
            if torch.cuda.is_available():
                gc.collect()
                torch.cuda.empty_cache()

    def outcome(self, run: Run, state: str, started: float, test: bool) -> Outcome:
        """The outcome of a run that has ended."""
        rows = [row for row in run.history if row.get(self.metric) is not None]
        best = run.history.best(self.metric)
        value = None if best is None else run.history[best][self.metric]
        loss = None if best is None else run.history[best].get("validation_loss")
        scores = None
        if test and run.test is not None and state == "done":
            with best_weights(run):
                averaged = run.averaged if self.metric.startswith("averaged") else None
                run.task.use_thresholds("model" if averaged is None else "averaged")
                scores = dict(evaluate(averaged or run.model, run.test, run.precision, run.task))
        return Outcome(
            state,
            value if value is not None and math.isfinite(value) else None,
            tuple(row[self.metric] for row in rows),
            tuple(row["epoch"] for row in rows),
            time.perf_counter() - started,
            loss if loss is not None and math.isfinite(loss) else None,
            scores,
        )


class Watch(Regularizer):
    """The stopping rule of a trial: reports the metric of each epoch, and stops what has diverged or is hopeless."""

    def __init__(self, metric: str, report: Callable[[int, float], bool]) -> None:
        self.metric, self.report = metric, report
        self.seen, self.state = 0, "done"

    def stop(self, history: History) -> str | None:
        if len(history) > self.seen:
            self.seen = len(history)
            value, row = history[-1].get(self.metric), history[-1]
            losses = [v for k, v in row.items() if k.endswith("loss") and isinstance(v, float)]
            if value is None or not all(map(math.isfinite, [value, *losses])):
                self.state = "diverged"
            elif self.report(len(history), value):
                self.state = "pruned"
        return None if self.state == "done" else self.state


class SearchInterrupt(Interrupt):
    """Ctrl-C and SIGTERM, and the end of the process that started this one."""

    def __init__(self, parent: int | None) -> None:
        super().__init__()
        self.parent = parent

    @property
    def requested(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._requested or (self.parent is not None and os.getppid() != self.parent)

    @requested.setter
    def requested(self, value: bool) -> None:
        self._requested = value


class TrialInterrupt(Interrupt):
    """The interrupt of a trial: that of the search, which handles the signals."""

    def __init__(self, search: Interrupt) -> None:
        self.search = search

    @property
    def requested(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.search.requested

    def __enter__(self) -> Interrupt:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def maximized(metric: str) -> bool:
    """Whether higher values of a metric are better."""
    return better_is(metric) == "max"
