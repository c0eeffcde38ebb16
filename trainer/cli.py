"""The command line: flags, errors in words, and exit codes.

0: finished. 1: the job, or a job of a sweep, failed. 2: the command is wrong. 130: interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trainer import trust
from trainer.config.options import option_files
from trainer.errors import ConfigError, Problem, is_out_of_memory, memory_text
from trainer.exit_codes import FAILED, FINISHED, INTERRUPTED, WRONG_COMMAND
from trainer.progress import PROGRESS, activity
from trainer.streams import discard, keep_running_unread

if TYPE_CHECKING:
    from trainer.config.schema import Config

SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ESTALE}
GRACE = 2.0  # seconds for rank 0 to print an error: torchrun ends all processes as soon as one has exited


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``train [overrides]``; return the exit code."""
    if arguments is None:
        # The backend of a notebook, inherited by a command started there, may not be installed here.
        os.environ["MPLBACKEND"] = "agg"
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # worker processes import nothing from the working directory
        arguments = sys.argv[1:]
    _prepare_process()
    PROGRESS.enable()
    try:
        return _dispatch(arguments)
    except ConfigError as error:
        report_errors(error)
        return WRONG_COMMAND
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)  # the reader has gone, as in `train --help | head`
        return FINISHED
    except Exception as error:
        text = memory_text(error) if is_out_of_memory(error) else str(error)
        if not is_out_of_memory(error) and not is_of_the_system(error):
            raise
        print(f"error: {text}", *getattr(error, "__notes__", ()), sep="\n  ", file=sys.stderr)
        return FAILED


def is_of_the_system(error: Exception) -> bool:
    """Whether an error is one of a file or a disk, not a bug."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in SYSTEM)


def _prepare_process() -> None:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
    if "OMP_WAIT_POLICY" not in os.environ:
        # OpenMP's threads wait for each other by spinning, by default for milliseconds, which takes time from other
        # programs: an epoch of two simultaneous runs took 12.2 s each, with this 3.5 s; alone, 0.53 s both ways.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if int(os.environ.get("WORLD_SIZE", "0")) > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of what distributed.wrap does on purpose
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's cannot
            stream.reconfigure(errors="replace")  # pyright: ignore  # an ASCII pipe must not end a run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("train", add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    views = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=views)
    parser.add_argument("overrides", nargs="*")

    def error(message: str) -> NoReturn:
        raise ConfigError(Problem("", None, message, "train --help lists what there is"))

    parser.error = error  # type: ignore[method-assign]  # one format for all errors
    return parser


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["new-option"]:
        from trainer.skeletons import new_option

        new_option(arguments[1:])
        return FINISHED
    flags, unknown = _parser().parse_known_intermixed_args(list(arguments))
    flags.overrides = [word for word in arguments if word in flags.overrides or word in unknown]
    if flags.version:
        from trainer import __version__

        print(f"trainer {__version__}")
        return FINISHED
    files = option_files(flags.config_dir)
    try:
        trust.allow(*(name for names in flags.allow for name in names.split(",")))
    except trust.NotTrusted as error:
        raise ConfigError(Problem("--allow", ",".join(flags.allow), str(error), error.hint)) from None
    if flags.help:
        from trainer.config.help import help_text

        print(help_text(files, flags.overrides))
        return FINISHED
    from trainer.config.compose import DEFAULTS
    from trainer.config.load import load_config, prepare

    defaults = os.environ.get(DEFAULTS, "").split()
    if flags.multirun:
        keep_running_unread()
        from trainer.sweep import run_sweep

        return run_sweep(flags.overrides, files, defaults, run)
    if flags.cfg == "job":
        command = prepare(flags.overrides, files, defaults)
        print(_shown(command.compose(), flags.package, flags.resolve, command.notes))
        return FINISHED
    if flags.cfg or flags.info:
        from trainer.sweep import run_hydra

        shown = ["--cfg", flags.cfg] if flags.cfg else ["--info", flags.info]
        shown += ["--resolve"] if flags.resolve else []
        shown += ["--package", flags.package] if flags.package else []
        run_hydra(shown, flags.overrides, files)
        return FINISHED
    with activity("reading the options"):
        config = load_config(flags.overrides, flags.config_dir, defaults, here=True)
    return run(config, flags.overrides)


def _shown(tree: dict[str, Any], package: str | None, resolved: bool, notes: list[str]) -> str:
    """A composed config as YAML, or a part of it; what was left out of an experiment as comments."""
    from omegaconf import OmegaConf

    from trainer.config.compose import resolve
    from trainer.config.overrides import render
    from trainer.config.tree import value_at

    tree, problems = resolve(tree) if resolved else (tree, [])
    part = value_at(tree, package) if package else tree
    if problems or part is None:
        raise ConfigError(*(problems or [Problem("--package", package, "is not a key of the config, or null")]))
    text = OmegaConf.to_yaml(OmegaConf.create(part)) if isinstance(part, dict | list) else render(part)
    return "\n".join([*(f"# {note}" for note in notes), text.rstrip()])


def run(config: Config, overrides: Sequence[str], directory: Path | None = None) -> int:
    """Run the job of a config; return the exit code. The job makes the run directory once everything is known to fit.

    Args:
        config: The config.
        overrides: As typed, for the name of the run directory and ``overrides.txt``.
        directory: The run directory, of a job of a sweep; by default ``config.output`` or a new one.
    """
    from trainer.run_dir import check_available, new_run_dir

    given = config.resume or config.output
    if directory is None and given:
        directory = Path(given).expanduser()
    if directory is not None and not config.resume and not config.job.continues:
        check_available(directory)
    if directory is None:
        directory = new_run_dir(list(overrides)) if os.environ.get("RANK", "0") == "0" else Path()
    if config.job.trains or config.job.continues:
        keep_running_unread()
    key = "resume" if config.resume else "output"
    if config.engine.distributed == "none":
        from trainer.files import remove_empty
        from trainer.lock import one_writer

        try:
            with one_writer(directory, key) if config.job.exclusive else nullcontext():
                return config.job(_with_range_test(config), directory, list(overrides))
        finally:
            remove_empty(directory)
    from trainer.engine import distributed

    distributed.start()
    common: Path = distributed.broadcast(directory)  # that of rank 0: it has created it
    with distributed.one_writer(common, key):
        code = config.job(_with_range_test(config), common, list(overrides))
    distributed.end()
    return code


def _with_range_test(config: Config) -> Config:
    """The config with values for what it leaves to an LR range test (``optimizer.lr=auto``)."""
    if not config.auto_keys or config.job.keeps_auto_keys:
        return config
    from trainer.jobs.range_test import resolve_auto_keys

    return resolve_auto_keys(config)


def report_errors(error: ConfigError) -> None:
    """Print all errors to stderr; of several processes that find the same ones, rank 0 does."""
    if os.environ.get("RANK", "0") != "0" and not error.of_one_process:
        time.sleep(GRACE)
        return
    if len(error.problems) > 1:
        print(f"{len(error.problems)} errors in the command:", file=sys.stderr)
    print("\n".join(str(problem) for problem in error.problems), file=sys.stderr)
