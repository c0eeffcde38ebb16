"""Checks that train: overfitting a few batches, and the loss at several learning rates."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from trainer.builder import build
from trainer.config.load import config_from_tree
from trainer.data.stratified import stratified_split
from trainer.engine.evaluation import evaluate
from trainer.engine.lr_range_test import lr_range_curve
from trainer.engine.step import train_step
from trainer.engine.variants import dropout_layers
from trainer.formats import Scores
from trainer.jobs.doctor.table import Check
from trainer.observers.duplicates import Fingerprints
from trainer.optimizers.param_groups import set_lr
from trainer.progress import steps

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.engine.run import Run
    from trainer.jobs.options import Doctor

SMALL_WEIGHT_DECAY = 1e-4
LEARNING_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
REDUCED = 0.9  # fraction of its initial value below which a loss counts as reduced


def without_regularization(config: Config, weight_decay: float = 0.0) -> Config:
    """Return the config without regularizers, augmentation, averaging, schedule and phases, and with another weight decay."""
    tree = {**config.tree, "regularizer": {}, "augmentation": {}}
    tree["schedule"] = {"constant": {"_target_": "trainer.schedules.Constant"}}
    tree["averaging"] = {"_target_": "trainer.averaging.Averaging"}
    tree["recipe"] = {"_target_": "trainer.engine.recipes.Scratch"}
    tree["metric"] = "train_loss"
    if "weight_decay" in tree["optimizer"]:
        tree["optimizer"] = {**tree["optimizer"], "weight_decay": weight_decay}
    return config_from_tree(tree)


def overfit_batches(option: Doctor, config: Config, splits: Splits) -> Check:
    """Overfit a few mini-batches, which any network can if model, loss and labels fit together."""
    size = len(splits.train) if config.batch_size == "full" else config.batch_size
    count = min(option.batches * size, len(splits.train))
    subset = splits.train
    if count < len(subset):
        subset = subset.subset(stratified_split(subset.labels, count, 0, "job.batches")[1])
    few = dataclasses.replace(splits, train=subset, validation=None, test=None)
    attempts = []
    configured = build(config, None, few).optimizer_option.lr
    for lr in dict.fromkeys((configured, configured / 10, configured * 3)):
        run = build(config, None, few)
        for dropout in dropout_layers(run.model):  # inside the network
            dropout.p = 0.0
        passes, metrics = train_until_memorized(run, lr, option.passes)
        if run.task.is_memorized(metrics):
            text = f"memorized {count} images in {passes} epochs at learning rate {lr:g}"
            if lr == configured:
                return Check("overfit batches", "ok", text)
            return Check("overfit batches", "warning", text, f"optimizer.lr={lr:g}")
        attempts.append((lr, metrics))
    if contradictory := Fingerprints({"train": subset}).contradictory():
        text = (
            f"{contradictory} of {count} images have a duplicate with a different label, which no network can separate"
        )
        return Check("overfit batches", "fail", text, "check the labels")
    text = "; ".join(f"at learning rate {lr:g} loss {m['loss']:.3g}" for lr, m in attempts)
    if all("accuracy" in metrics for _, metrics in attempts):
        text = "training accuracy " + "; ".join(
            f"{100 * m['accuracy']:.1f} % at learning rate {lr:g} (loss {m['loss']:.3g})" for lr, m in attempts
        )
    hint = "a wider architecture, another initialization, architecture.norm=batch, or more job.passes"
    if not any(math.isfinite(metrics["loss"]) for _, metrics in attempts):
        hint = "initialization=auto, data.normalize=dataset"
    return Check("overfit batches", "fail", text, hint)


def train_until_memorized(run: Run, lr: float, passes: int) -> tuple[int, Scores]:
    """Train at a constant learning rate until all training labels are predicted; return passes and the training metrics."""
    metrics: Scores = {}
    for epoch in steps(f"overfitting a few batches at learning rate {lr:g}: epochs", range(passes), passes):
        run.train_mode()
        set_lr(run.optimizer, lr)
        for x, y in run.train.batches(epoch):
            train_step(run, x, y)
        metrics = evaluate(run.model, run.train, run.precision, run.task)
        if run.task.is_memorized(metrics) or not math.isfinite(metrics["loss"]):
            return epoch + 1, metrics
    return passes, metrics


def learning_rates(option: Doctor, config: Config, splits: Splits, configured: float) -> Check:
    """Check which learning rates reduce the loss within ``job.steps`` steps, and whether the configured one is near."""
    run = build(config, None, splits)
    for dropout in dropout_layers(run.model):
        dropout.p = 0.0
    factors = {lr: loss_factor(run, lr, option.steps) for lr in LEARNING_RATES}
    text = ", ".join(f"{lr:g}: {'diverges' if math.isinf(f) else f'{f:.2f}'}" for lr, f in factors.items())
    text = f"loss after {option.steps} steps, relative to the start, by learning rate: {text}"
    best = min(factors, key=lambda lr: factors[lr])
    if factors[best] > REDUCED:
        if all(map(math.isinf, factors.values())):
            return Check(
                "learning rates", "fail", f"{text}: the loss explodes", "initialization=auto, or a lower optimizer.lr"
            )
        hint = "train job=range_test, initialization=auto, or another batch_size"
        return Check("learning rates", "fail", f"{text}: the loss does not move", hint)
    text = f"{text}; optimizer.lr is {configured:g}"
    if best / 10 <= configured <= best * 10:
        return Check("learning rates", "ok", text)
    return Check("learning rates", "warning", text, f"optimizer.lr={best:g}")


def loss_factor(run: Run, lr: float, count: int) -> float:
    """Return the last over the first loss (means of a tenth of ``count`` steps); infinity if training diverges."""
    losses = lr_range_curve(run, [lr] * count, f"training at learning rate {lr:g}: steps")[1]
    if len(losses) < count:
        return math.inf
    tenth = max(len(losses) // 10, 3)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    return last / first
