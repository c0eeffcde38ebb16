"""The ensemble: its members, its checkpoint, and a table of gain and cost."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import TYPE_CHECKING

from trainer.architectures.ensemble import Average
from trainer.builder import compute, load_splits, restored_task
from trainer.config.load import config_from_tree
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Content, Member
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import FINISHED
from trainer.files import write_text
from trainer.history import ranked
from trainer.inference import metric_of_run
from trainer.jobs.ensemble.members import read_members, train_folds, train_seeds, train_snapshots
from trainer.jobs.ensemble.problems import cycle_ends
from trainer.jobs.ensemble.scores import gain, page, score_rows, shown_metric
from trainer.jobs.several import already_complete, check_directory, stopped
from trainer.literal import print_literal
from trainer.progress import activity
from trainer.run_dir import create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.combined_options import Ensemble


def ensemble(option: Ensemble, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Ensemble``."""
    new = check_directory(config, run_dir, "ensemble")
    if already_complete(config, run_dir, "the ensemble is complete"):
        return FINISHED
    splits = load_splits(config)
    precision = compute(config)
    # Wrong runs are errors before the run directory exists.
    members = read_members(config, splits) if option.kind == "runs" else None
    if new:
        create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    if option.kind == "seeds":
        members = train_seeds(option, config, splits, run_dir)
    elif option.kind == "folds":
        members = train_folds(option, config, splits, run_dir)
    elif option.kind == "snapshots":
        members = train_snapshots(option, config, splits, run_dir, cycle_ends(config))
    if members is None:
        return stopped(run_dir, "ensemble")
    info = checkpoint.info_of(members[0])
    task = restored_task(config_from_tree(info.config), info, precision.device)
    members = select_best(members, option.top, metric_of_run(info, task))
    one_run = option.kind == "snapshots"
    content = joined(members, option.average, one_run)
    with activity("writing the checkpoint of the ensemble"):
        checkpoint.save(content, run_dir / "checkpoints" / "best.pt")
    split, rows = score_rows(config, splits, task, content)
    metric = shown_metric(info, task)
    result = {
        "status": "finished",
        "stop_reason": "joined",
        "kind": option.kind,
        "average": option.average,
        "members": rows[:-1],
        **({} if metric == "accuracy" else {"metric": metric}),
        "gain": gain(rows, metric),
        split: {name: value for name, value in rows[-1].items() if name not in ("name", "seconds")},
        "seconds": rows[-1]["seconds"],
    }
    text = page(split, rows, one_run, metric)
    write_text(run_dir / "ensemble.md", text)
    write_json(run_dir / "result.json", result)  # last: from here on the ensemble is complete
    print_literal(f"{text}\nfor job=evaluate, predict and export: {quote(f'checkpoint={run_dir}')}")
    return FINISHED


def select_best(members: list[Member], top: int | None, metric: str) -> list[Member]:
    """Return the ``top`` members by a column of the history, in their order; all of them if None."""
    if top is None or top >= len(members):
        return members
    values = [value for member in members if (value := member["row"].get(metric)) is not None]
    if len(values) < len(members):
        text = f"needs {metric} of every member to choose by"
        raise ConfigError(Problem("job.top", top, text, "job.top=null"))
    return [members[i] for i in sorted(ranked(values, metric)[:top])]


def joined(members: list[Member], average: Average, one_run: bool) -> Content:
    """Return the checkpoint of an ensemble: the members, the first one's description of the data, and mean thresholds."""
    content: Content = {
        "format": checkpoint.FORMAT,
        "info": members[0]["info"],
        "average": average,
        "members": members,
        "row": {},
        "one_run": one_run,
    }
    if thresholds := mean_thresholds(members):
        content["thresholds"] = {"model": thresholds}
    return content


def mean_thresholds(members: list[Member]) -> dict[str, list[float]]:
    """Return the mean threshold of each label of each task.

    Each member has chosen its thresholds on images that it was not trained on; what is made of them may have none of that kind.
    """
    thresholds = [member.get("thresholds", {}) for member in members]
    return {
        name: [fmean(values) for values in zip(*(each[name] for each in thresholds), strict=True)]
        for name in thresholds[0]
    }
