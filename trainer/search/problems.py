"""What is wrong with ``job=search`` in a config, without torch and Optuna."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trainer.duration import why_no_duration
from trainer.errors import Problem
from trainer.search.options import stages_up_to
from trainer.search.read_space import read_space

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.search.options import SearchSettings

DATABASES = {"sqlite": "", "postgresql": "psycopg"}  # and the driver that each needs


def problems(option: SearchSettings, config: Config) -> list[Problem]:
    """Return the errors of the option that involve the config or the installation."""
    found = read_space(option.space, config)[1]
    if config.set_keys.get("epochs") == "":  # typed; an experiment is meant for training
        text = "has no effect on a search, whose stages have lengths of their own"
        found.append(Problem("epochs", config.epochs, text, stages_up_to(config.epochs)))
    if option.study == "":
        found.append(Problem("job.study", "", "is empty, as from a shell variable that is not set", "job.study=<name>"))
    if option.budget is not None and (text := why_no_duration(option.budget)):
        found.append(Problem("job.budget", option.budget, text))
    if config.metric != "auto" and not config.metric.startswith(("validation", "averaged")):
        text = "is no metric of the validation images, on which trials are compared"
        found.append(Problem("metric", config.metric, text, "metric=validation_accuracy"))
    if config.data.validation == 0 and not config.data.may_have_validation:
        found.append(Problem("data.validation", 0, "leaves no images to compare trials on", "data.validation=0.1"))
    return [*found, *_installation(option)]


def _installation(option: SearchSettings) -> list[Problem]:
    install = "pip install 'trainer[search]' installs it"
    if importlib.util.find_spec("optuna") is None:
        return [Problem("job", "search", "needs Optuna", install)]
    if option.sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        return [Problem("job.sampler", "cmaes", "needs the package cmaes", install)]
    if option.storage is None or "://" not in option.storage:
        is_directory = option.storage is not None and Path(option.storage).expanduser().is_dir()
        hint = "the path of a file, such as trials.journal; output=<directory> has the results"
        return [Problem("job.storage", option.storage, "is a directory", hint)] if is_directory else []
    scheme = urlsplit(option.storage).scheme.partition("+")[0]
    if scheme not in DATABASES:
        text = f"must begin with {', '.join(f'{name}://' for name in DATABASES)}, or be the path of a journal file"
        return [Problem("job.storage", option.storage, text)]
    driver = DATABASES[scheme]
    if driver and "+" not in option.storage.partition("://")[0] and importlib.util.find_spec(driver) is None:
        return [Problem("job.storage", option.storage, f"needs the package {driver}", install)]
    return []
