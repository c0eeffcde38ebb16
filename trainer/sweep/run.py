"""Run a sweep (``-m``): the jobs that have not finished, each on the same path as a single command, then the table."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from trainer.config.compose import hydra_problem, search_path
from trainer.config.constraints import check_config
from trainer.config.load import load_config, prepare
from trainer.config.options import CONF, OptionFiles
from trainer.config.overrides import Override, parse, render
from trainer.environment import launched_processes
from trainer.errors import ConfigError, Problem, WriteError, is_out_of_memory, memory_text
from trainer.exit_codes import FAILED, INTERRUPTED
from trainer.files import make_new_directory, remove_empty
from trainer.instantiate import instantiate
from trainer.interrupt import careful_interrupts
from trainer.jobs.start import start
from trainer.literal import print_literal, printable
from trainer.lock import one_writer
from trainer.progress import activity
from trainer.run_dir import as_typed, check_available, read_config, write_json
from trainer.sweep.jobs import jobs, resolve
from trainer.sweep.manifest import Job, Sweep, state
from trainer.sweep.options import SweepSettings
from trainer.sweep.plots import draw_best, plots_later
from trainer.sweep.table import print_table

if TYPE_CHECKING:
    from trainer.config.schema import Config

LAUNCHERS = {"joblib": "parallel", "submitit": "slurm"}  # of Hydra, and the extra that installs each
Run = Callable[["Config", Sequence[str], Path], int]
SUBDIR = "hydra.sweep.subdir"
PLACES = ("output", "hydra.sweep.dir", SUBDIR)  # where a sweep is, not what it runs


def run_sweep(overrides: Sequence[str], files: OptionFiles, defaults: Sequence[str], run: Run = start) -> int:
    """Run every combination of the values that has not finished; return the worst exit code.

    Args:
        overrides: As typed.
        files: The option files.
        defaults: Overrides that stand in front of the user's.
        run: What runs one job, given its config, overrides and run directory.
    """
    if launched_processes() > 1:
        hint = "torchrun ... -m trainer engine=ddp for each run, without -m"
        raise ConfigError(Problem("", None, "a sweep needs a single process, and torchrun started several", hint))
    settings, own = sweep_settings(overrides)
    command = prepare([text for text in overrides if text not in own], files, defaults, multirun=True)
    if any(o.key == "resume" and o.value is not None for o in command.typed):
        command.problems.append(Problem("resume", None, "cannot be combined with -m: resume one run at a time"))
    if command.problems:
        command.compose()  # raises, with the errors of the values
    for note in command.notes:
        if not note.startswith("experiment="):  # which each job prints for its own options
            print_literal(note)
    sweep = open_sweep(command.typed, files)
    runner = JobRunner(run, files, defaults)
    try:
        with activity("checking the options of all jobs"):
            check_jobs(sweep, runner)
    except ConfigError:
        remove_empty(sweep.directory)
        raise
    if not any(item.sweep for item in command.typed):
        print_literal("no override has several values: the sweep has one job, which train without -m runs, too")
    if sweep.existed and settings.resume == "never":
        text = "contains this sweep already, and sweep.resume=never"
        raise ConfigError(Problem("output", str(sweep.directory), text, "another output=<directory>"))
    left = {"pending", "interrupted", *(["failed"] if settings.resume == "unfinished" else [])}
    remaining = [job for job in sweep.jobs if sweep.states[job.number] in left]
    with one_writer(sweep.directory):
        sweep.update()
        codes = run_jobs(sweep, remaining, command.typed, runner)
        sweep.update()
    failed = print_table(sweep)
    draw_best(sweep)
    return max([*codes, min(failed, FAILED)])


def sweep_settings(overrides: Sequence[str]) -> tuple[SweepSettings, list[str]]:
    """Return the settings of the sweep itself, and the arguments that set them."""
    own = [text for text in overrides if text.startswith("sweep.")]
    items, problems = parse(own, multirun=True)
    values = {o.key.removeprefix("sweep."): o.shown for o in items}
    target = f"{SweepSettings.__module__}.{SweepSettings.__name__}"
    settings, errors = instantiate({"_target_": target, **values}, "sweep")
    if problems or errors:
        raise ConfigError(*problems, *errors)
    return settings, own


def open_sweep(typed: Sequence[Override], files: OptionFiles) -> Sweep:
    """Return the sweep of a command, with the states of its jobs if its directory contains it already."""
    places = {o.key: o for o in typed if o.key in PLACES}
    for item in places.values():
        if item.sweep:
            raise ConfigError(Problem(item.key, item.shown, "must be one directory, that of all jobs"))
    output, sweep_dir, subdir = (str(v) if key in places and (v := places[key].value) else None for key in PLACES)
    directory = output or (sweep_dir and resolve("hydra.sweep.dir", sweep_dir))
    of_jobs = [o for o in typed if o.key not in PLACES and not o.key.startswith("hydra")]
    enumerated = jobs(of_jobs, files, subdir)
    if len({job.directory for job in enumerated}) < len(enumerated):
        raise ConfigError(Problem(SUBDIR, subdir, "is the same for several jobs", "use ${hydra.job.num} in it"))
    new = Path(datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S_sweep"))
    directory = Path(directory).expanduser() if directory else make_new_directory(new)
    return Sweep(directory, [o.text for o in of_jobs], enumerated)


def check_jobs(sweep: Sweep, runner: JobRunner) -> None:
    """Raise ConfigError, before the first job, with the values that are wrong by themselves, or if no job could run.

    Each value is looked at once. Combinations that do not go together are left to their jobs, as long as others run.
    """
    swept = {override.partition("=")[0] for job in sweep.jobs for override in job.overrides}
    seen: set[str] = set()
    wrong: dict[str, Problem] = {}
    hopeless: dict[str, Problem] = {}
    possible = False
    unfinished = [job for job in sweep.jobs if sweep.states[job.number] != "finished"]
    for job in unfinished:
        if seen.issuperset(job.overrides) and (possible or wrong):
            continue
        seen.update(job.overrides)
        command = prepare(job.overrides, runner.files, runner.defaults)
        config, groups, values = command.values()
        values = [p for p in values if p not in command.problems]
        together, everything = (check_config(config, groups, here) for here in (False, True))
        here = [p for p in everything if p not in together]  # a path or a device that does not exist
        wrong |= {f"{p.key}={p.value}": p for p in [*values, *here] if p.key in swept}
        problems = [*command.problems, *values, *everything]
        possible = possible or not problems
        hopeless |= {f"{p.key}={p.value}: {p.text}": p for p in problems}
    if wrong or (hopeless and not possible and len(unfinished) == len(sweep.jobs)):
        raise ConfigError(*(wrong or hopeless).values())


def run_jobs(sweep: Sweep, remaining: Sequence[Job], typed: Sequence[Override], runner: JobRunner) -> list[int]:
    """Run jobs one after the other, or with the launcher of Hydra that the command names; return their exit codes."""
    if sweep.existed:
        print(f"{sweep.count('finished')} of {len(sweep.jobs)} jobs have finished; {len(remaining)} to run", flush=True)
        runner.check_unchanged(sweep)
    codes = []
    hydra = [o for o in typed if o.key.startswith("hydra") and o.key not in PLACES]
    try:
        if not remaining:
            return []
        if hydra:
            launch(sweep, remaining, typed, hydra, runner)
        else:
            for job in remaining:
                codes.append(runner(job, sweep.run_dir(job)))
                sweep.update(job)
                if len(codes) == 1:  # it has loaded what all jobs use, which no later search for garbage need look at
                    gc.collect()
                    gc.freeze()
                if codes[-1] == INTERRUPTED:
                    raise KeyboardInterrupt  # the remaining jobs do not start
    except KeyboardInterrupt:
        sweep.update()
        print_table(sweep)
        done = f"{sweep.count('finished')} of {len(sweep.jobs)} jobs have finished"
        print_literal(f"{done}; the same command with {quote(f'output={sweep.directory}')} continues", file=sys.stderr)
        raise
    return codes


@dataclass(frozen=True)
class JobRunner:
    """Runs one job of a sweep; a failure is reported and recorded, so that the next one can start.

    Attributes:
        reported: The number of the first job that failed with an error, by its text.
    """

    run: Run
    files: OptionFiles
    defaults: Sequence[str]
    reported: dict[str, int] = field(default_factory=dict)

    def __call__(self, job: Job, run_dir: Path) -> int:
        print(f"\n#{job.number} {printable(' '.join(as_typed(job.overrides))) or 'no override'}", flush=True)
        try:
            with careful_interrupts():
                return self.run(plots_later(self.config(job, run_dir)), job.overrides, run_dir)
        except (ConfigError, WriteError) as error:
            reason = str(error)
        except Exception as error:
            if is_out_of_memory(error):
                reason = memory_text(error)
            else:  # a bug, of ours or in a class of the user: the traceback is needed
                reason = f"{type(error).__name__}: {error}"
                traceback.print_exc()
        first = self.reported.setdefault(reason, job.number)
        text = reason if first == job.number else f"as #{first}"
        print_literal(f"#{job.number} failed: {text}", file=sys.stderr)
        if state(run_dir) != "finished":
            write_json(run_dir / "result.json", {"status": "failed", "stop_reason": reason})
        return FAILED

    def config(self, job: Job, run_dir: Path) -> Config:
        """The config of a job; of one that was interrupted and has a checkpoint, the config that resumes it.

        Any other run directory of an unfinished job is emptied, because it cannot be continued.
        """
        known = state(run_dir)
        if known == "interrupted" and (run_dir / "checkpoints" / "last.pt").is_file():
            return load_config([f"resume={render(str(run_dir))}"], self.files.directories[1:])
        config = load_config(job.overrides, self.files.directories[1:], self.defaults, here=True)
        if config.job.continues:
            return config
        if known != "pending":
            with one_writer(run_dir):  # not while another process writes it
                shutil.rmtree(run_dir)
        check_available(run_dir)
        return config

    def check_unchanged(self, sweep: Sweep) -> None:
        """Warn if the command now gives another config than the first finished job was run with."""
        job = next((j for j in sweep.jobs if sweep.states[j.number] == "finished"), None)
        if job is None or not (sweep.run_dir(job) / "config.yaml").is_file():
            return
        from trainer.analysis.comparison import flat_settings

        before = flat_settings(read_config(sweep.run_dir(job), "output"))
        now = flat_settings(load_config(job.overrides, self.files.directories[1:], self.defaults).tree)
        changed = [f"{k}: {before.get(k)} then, {v} now" for k, v in now.items() if v not in (before.get(k), "auto")]
        if changed:
            text = f"option files have changed since job {job.number} finished: {'; '.join(changed)}"
            print_literal(f"warning: {text}", file=sys.stderr)


def launch(
    sweep: Sweep, remaining: Sequence[Job], typed: Sequence[Override], hydra: Sequence[Override], runner: JobRunner
) -> None:
    """Run the jobs with a launcher of Hydra, such as joblib: Hydra starts every job, those that are over do nothing."""
    from omegaconf import OmegaConf

    names = {job.number: job.directory for job in sweep.jobs}
    OmegaConf.register_new_resolver("job_directory", partial(_job_directory, names), replace=True)
    # Hydra only counts the jobs: each has its config composed and checked by `load_config`.
    count = f"++sweep_job={','.join(str(job.number) for job in remaining)}"
    places = [f"hydra.sweep.dir={render(str(sweep.directory))}", f"{SUBDIR}='${{job_directory:}}'"]
    run_hydra(
        ["--multirun"], [*places, *(o.text for o in hydra), count], runner.files, partial(_run_launched, sweep, runner)
    )


def _launched_job() -> int:
    """The number of the job that Hydra runs."""
    from hydra.core.hydra_config import HydraConfig

    return int(next(str(o) for o in HydraConfig.get().overrides.task if "sweep_job=" in o).partition("=")[2])


def _job_directory(names: dict[int, str]) -> str:
    """The directory of a job inside that of the sweep, as a resolver of Hydra's config."""
    return names[_launched_job()]


def _run_launched(sweep: Sweep, runner: JobRunner, _: object) -> None:
    job = next(job for job in sweep.jobs if job.number == _launched_job())
    if runner(job, sweep.run_dir(job)) == INTERRUPTED:
        raise KeyboardInterrupt


def run_hydra(
    flags: Sequence[str], overrides: Sequence[str], files: OptionFiles, task: Callable[[object], None] = lambda _: None
) -> None:
    """Let Hydra do what only Hydra can: launchers, ``--info``, ``--cfg hydra``."""
    from hydra._internal.utils import _run_hydra, get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing
    parser = get_args_parser()
    # hydra.main() reads sys.argv; this is what it calls then.
    arguments = parser.parse_args([*flags, *search_path(files), *overrides])
    try:
        _run_hydra(arguments, parser, task, config_path=str(CONF), config_name="train")
    except (HydraException, OmegaConfBaseException) as error:
        problem = hydra_problem(error)
        missing = re.search(r"hydra/launcher/([a-z]+)(_\w+)?'", problem.text)
        extra = LAUNCHERS.get(missing[1], "") if missing else ""
        hint = f"pip install 'trainer[{extra}]' installs it" if extra else ""
        raise ConfigError(replace(problem, hint=hint)) from None
