"""The command line: compose, check, run the job; texts a user can act on, and exit codes.

0: done. 1: a job of a sweep, or the job itself, failed. 2: the command is wrong. 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.config.compose import compose, fit_experiment, register_resolvers
from trainer.config.options import CONF, config_dirs, hydras_errors
from trainer.config.overrides import parse, quoted
from trainer.config.validation import examine, in_hydras_words, misread
from trainer.errors import ConfigError, Problem

WRONG, INTERRUPTED = 2, 130
WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")


def main(arguments: list[str] | None = None) -> int:
    """``train [overrides]``; returns the exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
    if "OMP_WAIT_POLICY" not in os.environ:
        # OpenMP's threads wait for each other by spinning, some milliseconds by default, which is time taken from other
        # programs: an epoch of two runs at once took 12.2 s each, with this 3.5 s; alone, 0.53 s both ways.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if launched_processes() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of what distributed.wrap does on purpose
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has none
            stream.reconfigure(errors="replace")  # pyright: ignore  # a pipe that knows ASCII only ends no run
    if arguments is None:
        # A notebook's own backend, which a command started there inherits, may not be installed here.
        os.environ["MPLBACKEND"] = "agg"
        arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        from trainer.config.help import usage

        folders = config_dirs(arguments)
        try:
            print(usage(folders, [a for a in arguments if not a.startswith("-") and a not in map(str, folders[1:])]))
        except ConfigError as error:
            complain(error)
            return WRONG
        except BrokenPipeError:
            return unread()
        return 0
    if "--version" in arguments:
        from trainer import __version__

        print(f"trainer {__version__}")
        return 0
    try:
        return run(arguments)
    except ConfigError as error:
        complain(error)
        return WRONG
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return unread()


def unread() -> int:
    """Nobody reads any more, as in ``train --help | head``: what Python still holds back goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def run(arguments: list[str]) -> int:
    """Carry out a command: a resumed run and one on a checkpoint go by their saved config, all others by Hydra."""
    folders = config_dirs(arguments)
    for folder in folders[1:]:
        if not folder.is_dir():
            raise ConfigError(Problem("--config-dir", str(folder), "there is no such folder"))
        sys.path.insert(0, str(folder.resolve()))  # so that classes beside the user's options can be named
    overrides = [a for a in arguments if not a.startswith("-") and a not in {str(f) for f in folders[1:]}]
    values = dict(o.split("=", 1) for o in overrides if "=" in o)
    flags = [a for a in arguments if a.startswith("-") and a.split("=")[0] not in ("--config-dir", "-cd")]
    if not flags and values.get("resume", "null") not in ("null", ""):
        from trainer.config.saved import resumed

        tree, folder = resumed(overrides, folders)
        return perform(tree, overrides, folder)
    if not flags and values.get("checkpoint", "null") not in ("null", ""):
        return on_trained(overrides, folders)
    return run_hydra(arguments, overrides, folders)


def on_trained(overrides: list[str], folders: list[Path]) -> int:
    """A job on a checkpoint: only the job is composed; all else is the checkpoint's, and so are the keys that there are."""
    from trainer.config.saved import on_checkpoint

    parsed, problems = parse(overrides)
    if problems := [*problems, *misread(overrides, folders), *several_values(overrides)]:
        raise ConfigError(*problems)
    job = [o.input_line for o in parsed if o.key_or_group.split(".")[0] in ("job", "checkpoint")]
    return perform(on_checkpoint(compose(job, folders), overrides, folders), overrides, None)


def several_values(overrides: list[str]) -> list[Problem]:
    """Overrides that make sense in a sweep only."""
    way = "train -m ... runs each; a list is written '[a,b]'"
    sweeps = [o.input_line for o in parse(overrides)[0] if o.is_sweep_override()]
    return [Problem("", None, f"{words!r} gives several values", way) for words in sweeps]


def flags_first(arguments: list[str]) -> list[str]:
    """Hydra's parser takes no flag between overrides: flags, with their values, go before them.

    >>> flags_first(["seed=1", "--config-dir", "mine", "optimizer=lion", "-m"])
    ['--config-dir', 'mine', '-m', 'seed=1', 'optimizer=lion']
    """
    flags, rest, words = [], [], iter(arguments)
    for word in words:
        (flags if word.startswith("-") else rest).append(word)
        if word in WITH_VALUE:
            flags += [value for value in [next(words, None)] if value is not None]
    return [*flags, *rest]


def run_hydra(arguments: list[str], overrides: list[str], folders: list[Path]) -> int:
    """Let Hydra compose (and sweep, with ``-m``); its errors come out in our words."""
    import hydra

    from trainer import sweep

    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, so that one place can word the errors
    register_resolvers()
    multirun = any(a in ("-m", "--multirun") for a in arguments)
    if multirun and launched_processes() > 1:
        text = "a sweep is made by one process, and torchrun started several"
        raise ConfigError(Problem("", None, text, "torchrun ... -m trainer engine=ddp for each run, without -m"))
    if problems := [*misread(overrides, folders), *([] if multirun else several_values(overrides))]:
        raise ConfigError(*mistakes(problems, overrides, folders))
    sweep.SweepTable.failed = 0
    codes: list[int] = []
    failures: list[BaseException] = []  # Hydra would print words of its own beside an exception from the task

    def job(cfg: Any) -> int:
        return perform_composed(cfg, folders)

    def task(cfg: Any) -> None:
        try:
            code = sweep.guard(cfg, job) if multirun else job(cfg)
        except KeyboardInterrupt:
            raise  # the jobs of a sweep that were to follow do not
        except BaseException as error:
            failures.append(error)
            return
        codes.append(code)
        if multirun and code == INTERRUPTED:
            raise KeyboardInterrupt

    before, sys.argv = sys.argv, ["train", *map(quoted, flags_first(arguments))]
    try:
        hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(task)()
    except hydras_errors() as error:
        raise ConfigError(*mistakes([], overrides, folders, error)) from None
    finally:
        sys.argv = before
    if failures:
        raise failures[0]
    return max([*codes, min(sweep.SweepTable.failed, 1)])


def mistakes(
    problems: list[Problem], overrides: list[str], folders: list[Path], error: Exception | None = None
) -> list[Problem]:
    """What was found wrong, and what else is wrong with the command, so that one answer tells all; where nothing else is found,
    Hydra's ``error``.
    """
    from trainer.config.schema import resolve

    known, words = examine(overrides, folders)  # of these the words hold what was meant, or nothing
    problems = [*problems, *(p for p in known if p not in problems)]
    if error is not None and not problems:
        problems = [in_hydras_words(error)]
    mended = {p.key for p in known}
    while True:
        told = {p.key for p in problems}
        rest = [o.input_line for o in parse(words)[0] if o.key_or_group not in told - mended]
        try:
            resolve(compose(rest, folders))
            return problems
        except ConfigError as more:
            typed = {o.key_or_group for o in parse(rest)[0]}
            new = [replace(p, where="") for p in more.problems if p.key in typed - told]
            if not new:
                return problems
            problems += new


def perform_composed(cfg: Any, folders: list[Path]) -> int:
    """One job as Hydra composed it, alone or of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # as typed: ${...} is resolved later
    choices = {k: v for k, v in hydra.runtime.choices.items() if isinstance(v, str)}
    in_sweep = hydra.mode == RunMode.MULTIRUN
    folder = Path(hydra.runtime.output_dir) if in_sweep else None
    try:
        tree, notes = cfg, fit_experiment(cfg, choices, overrides, folders)
    except ConfigError as error:
        raise ConfigError(*mistakes(error.problems, overrides, folders)) from None
    if cfg.resume is not None:
        raise ConfigError(Problem("resume", cfg.resume, "goes alone: one run at a time, without -m"))
    if cfg.checkpoint is not None:
        from trainer.config.saved import on_checkpoint

        tree = on_checkpoint(cfg, overrides, folders)
    return perform(tree, overrides, folder, choices, notes)


def perform(
    tree: Any,
    overrides: list[str],
    folder: Path | None,
    choices: dict[str, str] | None = None,
    notes: Sequence[str] = (),
) -> int:
    """Resolve the config and run its job; the run folder is made by the job, once everything has been found right."""
    from trainer.config.constraints import check_config
    from trainer.config.schema import resolve
    from trainer.run_dir import run_folder

    config = resolve(tree, choices, notes)
    if problems := [*check_config(config), *processes(config)]:
        raise ConfigError(*problems)
    place = folder or (Path(config.output) if config.output else run_folder(overrides))
    if config.engine.distributed == "none":
        return config.job(settled(config, place), place, overrides)
    from trainer.engine import distributed

    distributed.start()
    place = distributed.broadcast(place)
    code = config.job(settled(config, place), place, overrides)
    distributed.end()
    return code


def settled(config: Any, place: Path) -> Any:
    """The config with numbers for what it leaves to a range test (``optimizer.lr=auto``)."""
    from trainer.jobs.range_test import RangeTest, settle
    from trainer.run_dir import check_available

    if not config.open or isinstance(config.job, RangeTest):
        return config
    check_available(place)
    return settle(config)


def launched_processes() -> int:
    """How many processes torchrun (or what sets its variables) started; 0 where this one was started by hand."""
    return int(os.environ["WORLD_SIZE"]) if "WORLD_SIZE" in os.environ and "RANK" in os.environ else 0


def processes(config: Any) -> list[Problem]:
    """Why the way the program was started and ``engine.distributed`` do not go together."""
    count = launched_processes()
    kind, job = config.engine.distributed, config.tree["job"]["_target_"].rpartition(".")[2].lower()
    if kind == "ddp" and not count:
        text = "needs the processes to be started: torchrun --nproc-per-node 2 -m trainer engine=ddp ..."
        return [Problem("engine.distributed", kind, text)]
    if kind == "none" and count > 1:
        text = f"torchrun started {count} processes, each of which would do the same"
        return [Problem("engine.distributed", kind, text, "engine=ddp lets them train together")]
    if count > 1 and job != "fit":
        return [Problem("job", job, "is done by one process: start it without torchrun and engine=ddp")]
    return []


def complain(error: ConfigError) -> None:
    """All problems, on standard error, without a traceback; of several processes that find the same, the first tells."""
    if os.environ.get("RANK", "0") != "0" and not error.of_one_process:
        return
    count = len(error.problems)
    if count > 1:
        print(f"{count} things are wrong:", file=sys.stderr)
    print("\n".join(str(problem) for problem in error.problems), file=sys.stderr)


__all__ = ["compose", "main"]
