"""``job=doctor``: can this config learn at all? The first steps of training by hand, as a table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import check
from trainer.jobs.doctor.images import contradictions, pictures
from trainer.jobs.doctor.network import first_loss, memory, signals, speed
from trainer.jobs.doctor.table import Check, Status, show
from trainer.run_dir import check_available, create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.engine.run import Run

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
FALLEN = 0.9  # of its first value: a loss below that has dropped


@dataclass(frozen=True)
class Doctor:
    """Before training: is the first loss that of guessing, can ``batches`` mini-batches be learned by heart without regularizers
    and augmentation in ``passes`` passes, which rates drop the loss within ``steps`` steps, are activations and gradients of a
    size, do the pictures come fast enough, does a step fit into memory, are pictures or labels wrong.

    Exit code 1 where a check fails. Weights are made for it and thrown away.
    """

    batches: int = 8
    passes: int = 100
    steps: int = 100

    def __post_init__(self) -> None:
        check(
            self,
            batches=(self.batches >= 1, "must be >= 1"),
            passes=(self.passes >= 1, "must be >= 1"),
            steps=(20 <= self.steps <= 10_000, "must be in [20, 10000]"),
        )

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        from trainer.build import build, load_splits

        splits = load_splits(config)
        run = build(config, folder, splits)
        create_run_dir(folder, config.tree, overrides, run.notes[0])
        checks = [*pictures(splits), first_loss(run), *signals(run)]
        plain = bare(config)
        checks.append(self.by_heart(plain, splits))
        checks += [self.rates(plain, splits, run.optimizer_option.lr), speed(run), memory(run)]
        failed = [c for c in checks if c.status == "fail"]
        result = {"status": "finished", "stop_reason": "examined", "healthy": not failed}
        write_json(folder / "result.json", result | {"checks": [asdict(c) for c in checks]})
        show(checks, folder)
        return 1 if failed else 0

    def by_heart(self, config: Config, splits: Splits) -> Check:
        """Overfit a few mini-batches: a network, a loss and labels that work together can."""
        import dataclasses

        from trainer.build import build
        from trainer.data.stratified import stratified_split

        size = len(splits.train) if config.batch_size == "full" else config.batch_size
        count = min(self.batches * size, len(splits.train))
        few = splits.train
        if count < len(few):
            few = few.subset(stratified_split(few.labels, count, 0, "job.batches")[1])
        few_splits = dataclasses.replace(splits, train=few, validation=None, test=None)
        tried = []
        own = build(config, None, few_splits).optimizer_option.lr
        for lr in dict.fromkeys((own, own / 10, own * 3)):
            run = build(config, None, few_splits)
            passes, accuracy, loss = learn(run, lr, self.passes)
            if accuracy == 1.0:
                hint = "" if lr == own else f"optimizer.lr={lr:g}"
                status: Status = "ok" if lr == own else "look"
                return Check("by heart", status, f"{count} pictures in {passes} passes at rate {lr:g}", hint)
            tried.append(f"{100 * accuracy:.1f} % at rate {lr:g} (loss {loss:.3g})")
        clash = contradictions(few)
        if clash:
            text = f"{clash} of {count} pictures have a twin with another label: no network tells them apart"
            return Check("by heart", "fail", text, "look at the labels")
        if all("nan" in text or "inf" in text for text in tried):
            return Check("by heart", "fail", "; ".join(tried), "initialization=auto, data.normalize=dataset")
        why = "a wider architecture, another initialization, architecture.norm=batch, or a longer job.passes"
        return Check("by heart", "fail", "; ".join(tried), why)

    def rates(self, config: Config, splits: Splits, own: float) -> Check:
        """Which rates drop the loss within a hundred steps."""
        from trainer.build import build

        run = build(config, None, splits)
        found = {}
        for lr in RATES:
            losses = losses_at(run, lr, self.steps)
            tenth = max(len(losses) // 10, 3)
            first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
            found[lr] = last / first if len(losses) == self.steps else math.inf
        text = ", ".join(f"{lr:g}: {'explodes' if math.isinf(v) else f'x {v:.2f}'}" for lr, v in found.items())
        best = min(found, key=lambda lr: found[lr])
        if found[best] > FALLEN:
            return Check("rates", "fail", f"the loss after {self.steps} steps is, {text}", "train job=range_test")
        near = best / 10 <= own <= best * 10
        text = f"the loss after {self.steps} steps is, {text}; optimizer.lr is {own:g}"
        return Check("rates", "ok" if near else "look", text, "" if near else f"optimizer.lr={best:g}")


def bare(config: Config) -> Config:
    """The config without regularizers, decay, augmentation, averaging, schedule and phases."""
    from trainer.config.load import config_from_tree

    tree = {**config.tree, "regularizer": {}, "augmentation": {}}
    tree["schedule"] = {"constant": {"_target_": "trainer.schedules.Constant"}}
    tree["averaging"] = {"_target_": "trainer.averaging.Averaging"}
    tree["recipe"] = {"_target_": "trainer.engine.options.Scratch"}
    tree["metric"] = "train_loss"
    if "weight_decay" in tree["optimizer"]:
        tree["optimizer"] = {**tree["optimizer"], "weight_decay": 0.0}
    return config_from_tree(tree)


def learn(run: Run, lr: float, passes: int) -> tuple[int, float, float]:
    """Passes over the data, accuracy and loss in evaluation mode, at a constant rate until everything is known by heart."""
    from trainer.engine.evaluation import evaluate
    from trainer.engine.step import train_step
    from trainer.optimizers.param_groups import set_lr

    scores = {"accuracy": 0.0, "loss": math.nan}
    for epoch in range(passes):
        run.train_mode()
        set_lr(run.optimizer, lr)
        for x, y in run.train.batches(epoch):
            train_step(run, x, y)
        scores = evaluate(run.model, run.train, run.precision)
        if scores["accuracy"] == 1.0 or not math.isfinite(scores["loss"]):
            return epoch + 1, scores["accuracy"], scores["loss"]
    return passes, scores["accuracy"], scores["loss"]


def losses_at(run: Run, lr: float, steps: int) -> list[float]:
    """The losses of so many steps at one rate, fewer where they explode; the run is as before."""
    from trainer.engine.lr_range_test import lr_range_curve

    return lr_range_curve(run, [lr] * steps)[1]
