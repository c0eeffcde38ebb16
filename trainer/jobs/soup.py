"""Model soups: the mean of the weights of several networks as one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import update_bn

from trainer.builder import compute, load_splits, network, restored_task, to_device
from trainer.config.load import config_from_tree
from trainer.data import Splits
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Content, Member
from trainer.engine.evaluation import has_batch_norm
from trainer.engine.state import StateDict
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import FINISHED
from trainer.files import write_text
from trainer.formats import Scores
from trainer.history import ranked
from trainer.inference import TrainedModel, better, metric_of_run, trained_network
from trainer.jobs.ensemble.members import read_members
from trainer.jobs.ensemble.run import mean_thresholds
from trainer.jobs.evaluate.scores import SPLITS, TEXTS, collect_outputs, scores, shown_value
from trainer.jobs.run_paths import find_runs
from trainer.literal import print_literal
from trainer.loaders import build_loaders
from trainer.run_dir import check_available, create_run_dir, write_json
from trainer.tasks.restrict import main_only

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.combined_options import Soup


def soup(option: Soup, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Soup``."""
    check_available(run_dir)
    splits, precision = load_splits(config), compute(config)
    members = read_members(config, splits, kept_checkpoints(config) if option.ingredients == "epochs" else None)
    check_same_network(members)
    kitchen = Kitchen(config, splits, members[0])
    split = kitchen.split_to_choose_on(option)
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    used = kitchen.greedy(members, split) if option.kind == "greedy" else list(range(len(members)))
    chosen = [members[i] for i in sorted(used)]
    weights = kitchen.mean(chosen) if len(chosen) > 1 else chosen[0]["model"]
    content: Content = {
        "format": checkpoint.FORMAT,
        "info": members[0]["info"],
        "row": {},
        "model": weights,
        "averaged": None,
        "thresholds": {"model": mean_thresholds(chosen)},
    }
    checkpoint.save(content, run_dir / "checkpoints" / "best.pt")
    shown = kitchen.split_to_show()
    rows = [(m["name"], i in used, kitchen.scores(m["model"], [m], shown)) for i, m in enumerate(members)]
    rows.append(("soup", True, kitchen.scores(weights, chosen, shown)))
    text = page(shown, kitchen.metric, rows)
    write_text(run_dir / "soup.md", text)
    result = {
        "status": "finished",
        "stop_reason": "averaged",
        "kind": option.kind,
        "metric": kitchen.metric,
        "ingredients": [{"name": name, "used": use} | dict(values) for name, use, values in rows[:-1]],
        shown: rows[-1][2],
    }
    write_json(run_dir / "result.json", result)
    print_literal(f"{text}\nfor job=evaluate, predict and export: {quote(f'checkpoint={run_dir}')}")
    return FINISHED


def kept_checkpoints(config: Config) -> list[Path]:
    """Return the kept checkpoints of the runs ``runs=...``, in the order of their epochs."""
    runs = find_runs(config.runs, at_least=1)
    paths = [path for run in runs for path in sorted((run / "checkpoints").glob("epoch_*.pt"))]
    if len(paths) < 2:
        text = f"has {len(paths)} kept checkpoints (checkpoints/epoch_*.pt); at least two are needed"
        hint = "train with observer.checkpoint.keep_best=5 or observer.checkpoint.keep_every=2"
        raise ConfigError(Problem("runs", ",".join(map(str, runs)), text, hint))
    return paths


def check_same_network(members: Sequence[Member]) -> None:
    """Raise ConfigError if the networks differ in their layers, or in how images and numbers are scaled."""
    first, info = members[0], checkpoint.info_of(members[0])
    for member in members[1:]:
        own, other = member["model"], first["model"]
        different = sorted(set(own) ^ set(other)) or [k for k in own if own[k].shape != other[k].shape]
        theirs = checkpoint.info_of(member)
        text = f"is another network than {first['name']}: {different[0]} differs" if different else ""
        if (theirs.mean, theirs.std) != (info.mean, info.std):
            text = f"was trained with another normalization than {first['name']}"
        if [t.get("std") for t in theirs.targets] != [t.get("std") for t in info.targets]:
            text = f"predicts numbers in another scale than {first['name']}"
        if text:
            hint = "the weights of different networks have no mean; job=ensemble job.kind=runs averages predictions"
            raise ConfigError(Problem("runs", member["name"], text, hint))


def mean_of(states: Sequence[StateDict]) -> StateDict:
    """Return the mean of weights; of counters, such as those of batch norm, the first one.

    >>> mean_of([{"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}])
    {'w': tensor([2.])}
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


class Kitchen:
    """Averages and evaluates weights.

    Args:
        config: Of the job.
        splits: The data.
        first: The first ingredient, whose description of data and config holds for all.
    """

    def __init__(self, config: Config, splits: Splits, first: Member) -> None:
        self.config, self.info, self.precision = config, checkpoint.info_of(first), compute(config)
        self.own_config = config_from_tree(self.info.config)
        self.task = restored_task(self.own_config, self.info, self.precision.device)
        self.splits = dataclasses.replace(splits, mean=self.info.mean, std=self.info.std)
        self.metric = metric_of_run(self.info, self.task).removeprefix("validation_")

    def split_to_choose_on(self, option: Soup) -> str:
        """Return the split on which ingredients are compared."""
        if self.splits.validation is not None:
            return "validation"
        if option.kind == "uniform":
            return self.split_to_show()
        text = "chooses on validation images, and the data has none"
        raise ConfigError(Problem("job.kind", "greedy", text, "data.validation=0.1, or job.kind=uniform"))

    def split_to_show(self) -> str:
        """Return the split of the table: the test images if there are any."""
        return next(name for name in SPLITS if name in self.splits.by_name)

    def mean(self, members: Sequence[Member]) -> StateDict:
        """Return the mean of the weights of members, with batch-norm statistics of the training images."""
        model = network(self.own_config, self.info)
        model.load_state_dict(mean_of([member["model"] for member in members]))
        if has_batch_norm(model):
            model = to_device(model, self.precision)
            loader = build_loaders(self.own_config, self.splits, self.task, self.precision, [])["train"]
            assert loader is not None
            with torch.random.fork_rng(enabled=True), torch.no_grad(), self.precision.autocast():
                update_bn((x for x, _ in loader.batches(0)), model)
            loader.close()
        return {name: value.detach().cpu() for name, value in model.state_dict().items()}

    def scores(self, weights: StateDict, members: Sequence[Member], split: str) -> Scores:
        """Return the scores of weights on a split, with the mean of the thresholds of members."""
        model = to_device(trained_network(self.own_config, self.info, self.task, weights).eval(), self.precision)
        self.task.thresholds = {"model": mean_thresholds(list(members))}
        self.task.use_thresholds("model")
        trained = TrainedModel(model, self.precision, self.info, Path(), "model", main_only(self.task))
        task, outputs, targets = collect_outputs(self.config, trained, self.splits, [split])
        return scores(task, outputs, targets, 1)

    def greedy(self, members: Sequence[Member], split: str) -> list[int]:
        """Return the indices of the ingredients of a greedy soup, where soups are compared on a split."""
        alone = [self.scores(member["model"], [member], split)[self.metric] for member in members]
        order = ranked(alone, self.metric)
        used, value = [order[0]], alone[order[0]]
        for i in order[1:]:
            candidate = [members[k] for k in (*used, i)]
            new = self.scores(self.mean(candidate), candidate, split)[self.metric]
            if not better(value, new, self.metric) and new == new:
                used, value = [*used, i], new
        return used


def page(split: str, metric: str, rows: Sequence[tuple[str, bool, Scores]]) -> str:
    """Return the scores as Markdown: name, whether it is in the soup, and scores of each ingredient and, last, of the soup."""
    *ingredients, (_, _, whole) = rows
    columns = list(dict.fromkeys([metric, "loss", *whole]))
    lines = [f"| {split} | in the soup | {' | '.join(TEXTS.get(name, name) for name in columns)} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name, used, values in rows:
        texts = " | ".join(shown_value(column, values[column]) for column in columns)
        lines.append(f"| {name} | {'yes' if used else 'no'} | {texts} |")
    best = ranked([values[metric] for _, _, values in ingredients], metric)[0]
    name, _, values = ingredients[best]
    count = sum(used for _, used, _ in ingredients)
    comparison = (
        f"{shown_value(metric, whole[metric])} {metric} against {shown_value(metric, values[metric])} of {name}"
    )
    lines += [
        "",
        f"The soup of {count} of {len(ingredients)} networks has {comparison}, the best of them on these images.",
    ]
    if better(values[metric], whole[metric], metric):
        lines.append(
            "It is worse: the weights of networks that do not come from the same weights cannot be averaged; "
            "job=ensemble job.kind=runs averages their predictions."
        )
    return "\n".join(lines) + "\n"
