"""The command line: flags, errors in words, and exit codes.

0: finished. 1: the job, or a job of a sweep, failed. 2: the command is wrong. 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from trainer import trust
from trainer.config.options import DEFAULTS, option_files
from trainer.environment import configure_libraries, configure_own_process
from trainer.errors import ConfigError, paths_of, print_errors, print_failure
from trainer.exit_codes import FAILED, FINISHED, INTERRUPTED, WRONG_COMMAND
from trainer.flags import parse_flags
from trainer.interrupt import careful_interrupts
from trainer.progress import PROGRESS, activity
from trainer.streams import accept_all_characters, discard, keep_running_unread


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``train [overrides]``; return the exit code."""
    if arguments is None:
        configure_own_process()
        arguments = sys.argv[1:]
    configure_libraries()
    accept_all_characters()
    PROGRESS.enable()
    trust.typed[:] = arguments
    try:
        with careful_interrupts(), paths_of(arguments):
            return _dispatch(arguments)
    except ConfigError as error:
        print_errors(error)
        return WRONG_COMMAND
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)  # the reader has gone, as in `train --help | head`
        return FINISHED
    except Exception as error:
        print_failure(error)  # which raises a bug again
        return FAILED
    finally:
        trust.typed.clear()


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in ("new-option", "docs", "schema", "completion", "complete"):
        from trainer.commands import run_command

        run_command(arguments)
        return FINISHED
    flags = parse_flags(arguments)
    if flags.version:
        from trainer.about import about

        print(about())
        return FINISHED
    files = option_files(flags.config_dir)
    trust.allow_typed(flags.allow)
    if flags.help:
        from trainer.help import help_text

        print(help_text(files, flags.overrides))
        return FINISHED
    with activity("reading the options"):
        from trainer.config.load import load_config, prepare

    defaults = os.environ.get(DEFAULTS, "").split()
    if flags.multirun:
        keep_running_unread()
        from trainer.sweep import run_sweep

        return run_sweep(flags.overrides, files, defaults)
    if flags.cfg == "job":
        from trainer.config_text import config_text

        command = prepare(flags.overrides, files, defaults)
        print(config_text(command.compose(), flags.package, flags.resolve, command.notes))
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
    from trainer.jobs.start import start

    return start(config, flags.overrides)
